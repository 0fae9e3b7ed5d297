package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"hydrant/record"
)

// Claim is a contiguous range of rows that its holder alone may cut or route. It pins the memory of those that were
// in the front when it was made. Not safe for concurrent use.
type Claim struct {
	c           *Consumer
	first, next uint64
	mid         uint64     // rows below were in raw runs when they were claimed, the others in the front
	raw         []*rawRows // that have rows of it
	start       cursor     // the chunk of the first row at or above mid
	whole       sum        // all its rows
	below       sum        // of them, those below mid
	ended       bool
	meta        bool // of a spill: what it writes has metadata
	joint       bool // of a spill: other consumers take the run too

	kept []*chunk // chunks of it that the queue has let go: their slabs have a reference more. Guarded by front.mu

	lost  map[lossPlace]int64 // rows in damaged blocks that were met
	fault error               // a raw run could not be read
}

// lossPlace is a damaged block.
type lossPlace struct {
	id  RunID
	off int64
}

// Take claims the oldest rows that no claim has, up to sequence next (exclusive, 0 = all that is durable)
// and up to max bytes of Data (at least one row). It returns nil when nothing waits.
func (c *Consumer) Take(next uint64, max int64) *Claim {
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	limit := c.durable
	if next > 0 && next < limit {
		limit = next
	}
	wanted := limit
	limit = min(limit, c.direct())
	if c.taken >= limit && c.taken < wanted && c.unclaimed.rows > 0 {
		c.move(wanted)
		return nil
	}
	if c.taken >= limit || c.unclaimed.rows+c.rawUnclaimed.rows == 0 {
		return nil
	}
	k := &Claim{c: c, first: c.taken, next: c.taken, mid: c.taken, start: c.take}
	at := c.take
	if c.taken < c.position {
		k.next, k.raw = c.measureRaw(&k.whole, c.taken, limit, max)
		k.mid, k.below = k.next, k.whole
	}
	var front sum
	if k.next >= c.position && k.next < limit {
		k.next, at = c.measure(&k.whole, c.take, k.next, limit, max)
		front = sum{k.whole.rows - k.below.rows, k.whole.data - k.below.data}
	}
	if limit < wanted && k.next >= limit && c.unclaimed.rows > front.rows {
		if c.move(wanted); !c.stream.stuck {
			return nil // what can be taken after that is more
		}
	}
	if k.whole.rows == 0 {
		return nil
	}
	c.taken, c.take = k.next, at
	c.unclaimed.sub(front)
	c.claims = append(c.claims, k)
	c.stepHoles()
	c.recount()
	c.front.judgeOne(c)
	return k
}

func (s *sum) add(t sum) { s.rows += t.rows; s.data += t.data }
func (s *sum) sub(t sum) { s.rows -= t.rows; s.data -= t.data }

// measure adds the rows of [first, limit) from a cursor on, up to most bytes of Data in all, to s. It returns
// the sequence behind the last one and the cursor of the chunk that holds it.
func (c *Consumer) measure(s *sum, at cursor, first, limit uint64, most int64) (uint64, cursor) {
	for at != c.pub {
		q := at.chunk()
		if q.seq >= limit {
			break
		}
		if q.slab == nil {
			if s.rows > 0 && q.end() > q.seq {
				return q.seq, at // a hole ends the claim
			}
			at.step() // sequences were skipped before it: the claim begins there and takes the hole along
			continue
		}
		from, to := max(q.seq, first), min(q.end(), limit)
		if q.slab.fed && !sabotageSplitLaneRows {
			to = q.end()
			d := q.dataBetween(from, to)
			if s.rows > 0 && (to > limit || d > most-s.data) {
				return from, at // nobody knows a position inside
			}
			s.rows += int64(to - from)
			s.data += d
			if at.step(); to >= limit {
				return to, at
			}
			continue
		}
		if d := q.dataBetween(from, to); d <= most-s.data {
			s.rows += int64(to - from)
			s.data += d
		} else {
			enc := q.from(from)
			for ; from < to; from++ {
				n, w := binary.Uvarint(enc)
				if s.rows > 0 && int64(n) > most-s.data {
					return from, at
				}
				enc = enc[w+int(n):]
				s.rows++
				s.data += int64(n)
			}
		}
		if to < q.end() {
			return to, at
		}
		at.step()
	}
	return limit, at
}

// Range is [first, next).
func (k *Claim) Range() (first, next uint64) { return k.first, k.next }

// Bytes of Data in the claim; of rows in raw runs about as many.
func (k *Claim) Bytes() int64 { return k.whole.data }

// Lost is how many rows of the claim were met in damaged blocks of raw runs: the iteration has left them out. They
// are counted as lost with the manifest or run that takes the claim.
func (k *Claim) Lost() (n int64) {
	for _, rows := range k.lost {
		n += rows
	}
	return n
}

// Rows iterates in order. A Row is valid until the next step. Rows in damaged blocks are left out (Lost). Where a raw
// run cannot be read for another reason, or what is damaged cannot be set aside, the iteration ends early, and Cut and Route refuse the claim with that error.
func (k *Claim) Rows() iter.Seq[record.Row] {
	return func(yield func(record.Row) bool) {
		for _, r := range k.raw {
			if !k.rawRows(r, yield) {
				return
			}
		}
		at := k.start
		for left := k.whole.rows - k.below.rows; left > 0; at.i++ {
			if k.ended {
				panic("bug: rows of a claim that has ended")
			}
			q := at.chunk()
			if q.slab == nil {
				continue
			}
			row, fed := record.Row{Seq: max(q.seq, k.mid), Arrived: q.arrived}, q.slab.fed
			for enc := q.from(row.Seq); len(enc) > 0 && left > 0; row.Seq++ {
				n, w := binary.Uvarint(enc)
				row.Data = enc[w : w+int(n) : w+int(n)]
				if fed {
					row.Meta, row.Data, _ = splitMetaRow(row.Data)
				}
				enc = enc[w+int(n):]
				left--
				if !yield(row) {
					return
				}
			}
		}
	}
}

// rawRows yields the claim's rows of one raw run. It returns false where the iteration is over.
func (k *Claim) rawRows(r *rawRows, yield func(record.Row) bool) bool {
	if k.ended {
		panic("bug: rows of a claim that has ended")
	}
	first, next := max(k.first, r.first), min(k.mid, r.next)
	if first >= next {
		return true
	}
	if r.gone {
		k.lose(r, &runLoss{ID: r.id, First: r.first, Next: r.next, What: "the file is missing or damaged"})
		return k.fault == nil
	}
	file, err := k.c.b.runs.open(r.id)
	if err != nil {
		k.fault = fmt.Errorf("read the rows of a claim: %w", err)
		return false
	}
	defer file.Close()
	for row, err := range file.rawRows(first) {
		if loss, ok := errors.AsType[*runLoss](err); ok {
			if k.lose(r, loss); k.fault != nil {
				return false
			}
			continue
		}
		if err != nil {
			k.fault = fmt.Errorf("read the rows of a claim: %w", err)
			return false
		}
		if row.Seq >= next {
			return true
		}
		if !yield(row.Row) {
			return false
		}
	}
	return true
}

// lose takes note of a damaged block.
func (k *Claim) lose(r *rawRows, loss *runLoss) {
	lost := r.between(max(k.first, loss.First), min(k.mid, loss.Next))
	place := lossPlace{loss.ID, loss.Offset}
	if _, known := k.lost[place]; known || lost.rows == 0 {
		return
	}
	// A block that cannot be read is kept before a frame says that its rows are lost.
	file := ""
	if !r.gone {
		var err error
		if file, err = k.c.b.setRunAside(loss.ID); err != nil {
			k.fault = fmt.Errorf("read the rows of a claim: %w", err)
			return
		}
	}
	if k.lost == nil {
		k.lost = make(map[lossPlace]int64)
	}
	k.lost[place] = lost.rows
	k.c.b.log.Error("rows in a run are damaged", "run", k.c.b.runs.path(loss.ID), "offset", loss.Offset, "incarnation", k.c.stream.incarnation,
		"first", loss.First, "next", loss.Next, "rows", lost.rows, "what", loss.What, "file", file)
}

// Trim gives [next, end) back, and rows before them that were appended to a lane together with the first; they are taken
// again by the next Take. Only the newest claim of a
// consumer may be trimmed or released, so that what waits stays contiguous: otherwise it panics.
func (k *Claim) Trim(next uint64) {
	if next = k.align(next); next >= k.next {
		return
	}
	if next <= k.first {
		k.Release()
		return
	}
	c := k.c
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	k.mustBeNewest()
	end := k.next
	k.next = next
	k.start.level()
	k.whole = sum{}
	if k.mid >= next {
		k.mid = next
		for i, r := range k.raw {
			if r.first >= next {
				k.raw = k.raw[:i]
				break
			}
			k.whole.add(r.between(max(k.first, r.first), next))
		}
		k.below = k.whole
	} else {
		k.whole = k.below
		var front sum
		c.measure(&front, k.start, k.mid, next, 1<<62)
		k.whole.add(front)
	}
	c.giveBack(k, next, end)
	k.unkeep(next)
}

// align returns a sequence at or before next, behind it where there is none in the claim, at which rows of lanes may be
// parted.
func (k *Claim) align(next uint64) uint64 {
	k.c.front.mu.Lock()
	defer k.c.front.mu.Unlock()
	left := k.whole.rows - k.below.rows
	for at := k.start; left > 0 && next > k.mid; at.i++ {
		q := at.chunk()
		if q.slab == nil {
			continue
		}
		if next <= q.seq {
			break
		}
		left -= int64(q.end() - max(q.seq, k.mid))
		if q.slab.fed && next < q.end() && !sabotageSplitLaneRows {
			if q.seq > k.first {
				return q.seq
			}
			return q.end()
		}
	}
	return next
}

// Release gives all rows back.
func (k *Claim) Release() {
	c := k.c
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	k.mustBeNewest()
	k.ended = true
	c.claims = c.claims[:len(c.claims)-1]
	k.start.level() // a new block may stand behind it since
	c.giveBack(k, k.first, k.next)
	k.unkeep(0)
	c.notify()
}

// giveBack makes the rows [first, next) of k, which is the newest claim or was, unclaimed again: in raw runs where
// they have been spilled since. The caller holds front.mu.
func (c *Consumer) giveBack(k *Claim, first, next uint64) {
	at, from := k.start, k.mid
	if from < c.position { // of the first rows the queue knows nothing any more
		at, from = c.head, c.position
	}
	if first > from {
		var skip sum
		_, at = c.measure(&skip, at, from, first, 1<<62)
		from = first
	}
	var front sum
	if from < next {
		c.measure(&front, at, from, next, 1<<62)
	}
	c.taken, c.take = first, at
	if first <= c.position {
		c.take = c.head
	}
	c.unclaimed.add(front)
	c.recount()
	c.seek = cursor{}
	c.front.judgeOne(c)
}

func (k *Claim) mustBeNewest() {
	if n := len(k.c.claims); k.ended || n == 0 || k.c.claims[n-1] != k {
		panic("bug: only the newest claim of a consumer can be given back")
	}
}

// isOldest tells whether the claim begins where the last cut of its consumer ended: only then may Cut take it.
func (k *Claim) isOldest() bool {
	k.c.front.mu.Lock()
	defer k.c.front.mu.Unlock()
	return !k.ended && len(k.c.claims) > 0 && k.c.claims[0] == k && k.first == k.c.base
}

// consumed ends the claim: a durable MANIFEST or RUN has taken its rows. It frees their memory and their hold on
// the disk, and moves the consumer's position. The oldest claim of its consumer only.
func (k *Claim) consumed() {
	c, f := k.c, k.c.front
	f.mu.Lock()
	defer f.mu.Unlock()
	if k.ended || len(c.claims) == 0 || c.claims[0] != k {
		panic("bug: only the oldest claim of a consumer can be consumed")
	}
	k.ended = true
	c.claims[0] = nil
	c.claims = c.claims[1:]
	c.base = k.next
	if c.position < k.next {
		gone := sum{k.whole.rows - k.below.rows, k.whole.data - k.below.data}
		if c.position != k.mid { // some of them have been spilled
			gone = sum{}
			c.measure(&gone, c.head, c.position, k.next, 1<<62)
		}
		c.leave(gone, k.next)
	}
	k.unkeep(0)
	k.start, k.raw = cursor{}, nil // pins no blocks
	c.stepHoles()
	c.recount()
	f.judge()
}

// holds tells whether a claim that lives may walk over a chunk of the queue.
func (k *Claim) holds(q *chunk) bool { return k.mid < k.next && q.seq < k.next && q.end() > k.mid }

// held calls fn for every claim that may walk over q, and for the rows that are just spilled. The caller holds
// front.mu.
func (c *Consumer) held(q *chunk, fn func(*Claim)) {
	for _, k := range c.claims {
		if k.holds(q) {
			fn(k)
		}
	}
	if c.spill != nil && c.spill.holds(q) {
		fn(c.spill)
	}
}

// leave moves the position to next: the queue lets go what is below, of which gone are rows. Claims that live keep
// the memory of their rows. The caller holds front.mu.
func (c *Consumer) leave(gone sum, next uint64) {
	c.position = next
	c.rows.sub(gone)
	if c.front.space != nil {
		c.front.space.rowsGone(c.stream.incarnation, gone.rows, gone.data)
	}
	for c.head != c.pub {
		q := c.head.chunk()
		if q.end() > c.position {
			break
		}
		held := false
		if q.slab != nil {
			c.held(q, func(k *Claim) {
				held = true
				q.slab.refs++
				k.kept = append(k.kept, q)
			})
		}
		c.drop(q)
		if !held && q.slab != nil {
			*q = chunk{} // nobody walks here any more, and a block lives as long as its last chunk
		}
		c.head.step()
	}
	if c.taken <= c.position {
		c.take = c.head
	}
	c.seek = cursor{}
}

// unkeep lets go what the claim has kept at and above a sequence. The caller holds front.mu.
func (k *Claim) unkeep(from uint64) {
	kept := k.kept[:0]
	for _, q := range k.kept {
		if q.seq < from {
			kept = append(kept, q)
			continue
		}
		k.c.front.unref(q.slab, 1)
		held := false
		k.c.held(q, func(other *Claim) { held = held || other != k })
		if !held {
			*q = chunk{}
		}
	}
	k.kept = kept
}
