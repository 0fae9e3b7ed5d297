package buffer

import (
	"encoding/binary"
	"iter"

	"hydrant/record"
)

// Consumer is one reader of a stream's rows: main or backup. Safe for concurrent use.
type Consumer struct {
	b       *Buffer // for what the ledger knows: epochs and totals
	front   *front
	stream  *frontStream
	id      uint8
	changed chan struct{}

	// Guarded by front.mu. The queue runs head ≤ take ≤ pub ≤ end; sequences position ≤ taken ≤ durable.
	head cursor // the oldest chunk that is not covered whole
	take cursor // the oldest chunk with a row that no claim has
	pub  cursor // the oldest chunk that is not published
	end  cursor // where the next chunk goes
	seek cursor // where Chunks stopped last, at the chunk that holds seekSeq; b nil: nowhere

	seekSeq  uint64
	position uint64 // everything below is covered
	taken    uint64 // everything below is covered or claimed
	durable  uint64 // everything below is published

	rows      int64 // published and not covered
	unread    int64 // Data of them
	unclaimed int64 // rows of them that no claim has
	waiting   int64 // Data of the unclaimed

	pendRows, pendData int64 // pushed and not published
	pendEnd            uint64

	claims  []*Claim // oldest first
	ring    bool     // the journal needs the slot of its oldest rows
	pressed Pressure // what the reader was told last
}

// Consumer returns the reader of a stream that exists, the same one each time; nil where there is none.
func (b *Buffer) Consumer(incarnation uint32, consumer uint8) *Consumer {
	return b.front.consumer(incarnation, consumer)
}

// Chunk is a run of rows that arrived together (one call, a part of it, or neighbours with one stamp).
type Chunk struct {
	First   uint64 // sequence of its first row
	Count   int
	Bytes   int64 // of Data
	Arrived int64 // µs since the Unix epoch
}

// Waiting sums up the durable rows that no claim has taken.
type Waiting struct {
	First, Next uint64 // sequences [First, Next)
	Bytes       int64
	Oldest      int64 // arrival of the first row in µs; 0 when nothing waits
	Front       int64 // bytes of Data in memory, claimed or not: what Spill could move
}

// Waiting sums up what Take could claim now.
func (c *Consumer) Waiting() Waiting {
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	w := Waiting{First: c.taken, Next: c.durable, Bytes: c.waiting, Front: c.unread}
	if c.unclaimed == 0 {
		w.Next = c.taken
		return w
	}
	at := c.take
	k := at.chunk()
	for k.slab == nil { // a hole ahead, with a gap before it
		at.step()
		k = at.chunk()
	}
	w.Oldest = k.arrived
	return w
}

// Chunks iterates over the durable chunks at and after sequence from that no claim has taken. Rows that
// are claimed or become durable meanwhile may be missing. Going on where the last call ended is cheap.
func (c *Consumer) Chunks(from uint64) iter.Seq[Chunk] {
	return func(yield func(Chunk) bool) {
		var found [64]Chunk
		for {
			n := c.chunks(from, found[:])
			for _, k := range found[:n] {
				if !yield(k) {
					return
				}
			}
			if n < len(found) {
				return
			}
			from = found[n-1].First + uint64(found[n-1].Count)
		}
	}
}

// chunks fills found and returns how many there are.
func (c *Consumer) chunks(from uint64, found []Chunk) (n int) {
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	from = max(from, c.taken)
	at := c.take
	if c.seek.b != nil && c.seekSeq >= c.taken && c.seekSeq <= from {
		at = c.seek
	}
	for at != c.pub && n < len(found) {
		k := at.chunk()
		if k.slab != nil && k.end() > from {
			first := max(k.seq, from)
			found[n] = Chunk{First: first, Count: int(k.end() - first), Bytes: k.dataBetween(first, k.end()), Arrived: k.arrived}
			n++
		}
		c.seek, c.seekSeq = at, k.seq
		at.step()
	}
	return n
}

// Changed yields a token when rows became durable or Pressure changed. Tokens merge. One reader.
func (c *Consumer) Changed() <-chan struct{} { return c.changed }

// notify leaves a token for the reader.
func (c *Consumer) notify() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Pressure is what a reader is asked to relieve, a set of bits. 0: nothing.
type Pressure uint8

const (
	PressureMemory Pressure = 1 << iota // the front is short of memory, of which this stream has more than its share: Spill helps
	PressureRing                        // the journal needs the slot of its oldest rows: Spill helps
	PressureDisk                        // the disk is short, of which this stream has more than its share: closing epochs helps
)

// Pressure tells what is short because of what this reader leaves waiting.
func (c *Consumer) Pressure() Pressure {
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	return c.front.pressure(c)
}

// append adds a chunk behind the others. Neighbours of one slab and one arrival that nobody has seen yet
// become one.
func (c *Consumer) append(k chunk) {
	c.pendData += k.dataBetween(c.position, k.end())
	if k.slab != nil {
		c.pendRows += int64(k.end() - max(k.seq, c.position))
	}
	c.pendEnd = k.end()
	if k.slab != nil && c.end != c.pub && c.end.i > 0 {
		l := &c.end.b.chunks[c.end.i-1]
		if l.slab == k.slab && l.arrived == k.arrived && l.off+l.size == k.off && l.end() == k.seq {
			l.size += k.size
			l.count += k.count
			l.data += k.data
			return
		}
	}
	if k.slab != nil {
		k.slab.refs++
	}
	if c.end.i == len(c.end.b.chunks) {
		c.end.b.next = &block{}
		c.end.level()
		c.head.level()
		c.take.level()
		c.pub.level()
	}
	c.end.b.chunks[c.end.i] = k
	c.end.i++
}

// drop gives a chunk's memory back.
func (c *Consumer) drop(k *chunk) {
	if k.slab != nil {
		c.front.unref(k.slab, 1)
	}
}

// stepHoles moves taken and position over holes that they stand at, as the ledger does.
func (c *Consumer) stepHoles() {
	for c.take != c.pub {
		k := c.take.chunk()
		if k.slab != nil || k.seq > c.taken {
			break
		}
		c.taken = max(c.taken, k.end())
		c.take.step()
	}
	for c.head != c.pub {
		k := c.head.chunk()
		if k.slab != nil || k.seq > c.position {
			break
		}
		c.position = max(c.position, k.end())
		c.head.step()
	}
}

// Claim is a contiguous range of rows that its holder alone may cut. It pins the memory of its rows.
// Not safe for concurrent use.
type Claim struct {
	c           *Consumer
	first, next uint64
	start       cursor // the chunk of the first row
	rows, data  int64
	ended       bool
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
	if c.taken >= limit || c.unclaimed == 0 {
		return nil
	}
	k := &Claim{c: c, first: c.taken, next: limit, start: c.take}
	var at cursor
	k.next, at = c.measure(k, c.take, c.taken, limit, max)
	if k.rows == 0 {
		return nil
	}
	c.taken, c.take = k.next, at
	c.unclaimed -= k.rows
	c.waiting -= k.data
	c.claims = append(c.claims, k)
	c.stepHoles()
	c.front.judgeOne(c)
	return k
}

// measure counts the rows of [first, limit) from a cursor on, up to most bytes of Data, into k. It returns
// the sequence behind the last one and the cursor of the chunk that holds it.
func (c *Consumer) measure(k *Claim, at cursor, first, limit uint64, most int64) (uint64, cursor) {
	k.rows, k.data = 0, 0
	for at != c.pub {
		q := at.chunk()
		if q.seq >= limit {
			break
		}
		if q.slab == nil {
			if k.rows > 0 {
				return q.seq, at // a hole ends the claim
			}
			at.step() // sequences were skipped before it: the claim begins there and takes the hole along
			continue
		}
		from, to := max(q.seq, first), min(q.end(), limit)
		if d := q.dataBetween(from, to); d <= most-k.data {
			k.rows += int64(to - from)
			k.data += d
		} else {
			enc := q.from(from)
			for ; from < to; from++ {
				n, w := binary.Uvarint(enc)
				if k.rows > 0 && int64(n) > most-k.data {
					return from, at
				}
				enc = enc[w+int(n):]
				k.rows++
				k.data += int64(n)
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

// Bytes of Data in the claim.
func (k *Claim) Bytes() int64 { return k.data }

// Rows iterates in order. A Row is valid until Release, Trim before it, or the Cut that consumes the claim.
func (k *Claim) Rows() iter.Seq[record.Row] {
	return func(yield func(record.Row) bool) {
		at := k.start
		for left := k.rows; left > 0; at.i++ {
			if k.ended {
				panic("bug: rows of a claim that has ended")
			}
			q := at.chunk()
			if q.slab == nil {
				continue
			}
			row := record.Row{Seq: max(q.seq, k.first), Arrived: q.arrived}
			for enc := q.from(row.Seq); len(enc) > 0 && left > 0; row.Seq++ {
				n, w := binary.Uvarint(enc)
				row.Data = enc[w : w+int(n) : w+int(n)]
				enc = enc[w+int(n):]
				left--
				if !yield(row) {
					return
				}
			}
		}
	}
}

// Trim gives [next, end) back; they are taken again by the next Take. Only the newest claim of a
// consumer may be trimmed or released, so that what waits stays contiguous: otherwise it panics.
func (k *Claim) Trim(next uint64) {
	if next >= k.next {
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
	rows, data := k.rows, k.data
	k.next = next
	// a gap may lie before next: what waits begins there all the same
	k.start.level()
	_, c.take = c.measure(k, k.start, k.first, next, 1<<62)
	c.taken = next
	c.unclaimed += rows - k.rows
	c.waiting += data - k.data
	c.seek = cursor{}
	c.front.judgeOne(c)
}

// Release gives all rows back.
func (k *Claim) Release() {
	c := k.c
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	k.mustBeNewest()
	k.ended = true
	c.claims = c.claims[:len(c.claims)-1]
	c.take, c.taken = k.start, k.first
	c.take.level() // a new block may stand behind it since
	c.unclaimed += k.rows
	c.waiting += k.data
	c.seek = cursor{}
	c.notify()
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
	return !k.ended && len(k.c.claims) > 0 && k.c.claims[0] == k && k.first == k.c.position
}

// consumed ends the claim: a durable MANIFEST has taken its rows. It frees their memory and their hold on
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
	c.position = k.next
	for c.head != c.pub {
		q := c.head.chunk()
		if q.end() > c.position {
			break
		}
		c.drop(q)
		*q = chunk{} // nobody walks here any more, and a block lives as long as its last chunk
		c.head.step()
	}
	k.start = cursor{} // pins no blocks
	c.rows -= k.rows
	c.unread -= k.data
	if f.space != nil {
		f.space.rowsGone(c.stream.incarnation, k.rows, k.data)
	}
	c.stepHoles()
	f.judge()
}

// uncovered is how many rows of the consumer no cut has taken, claimed or not.
func (c *Consumer) uncovered() int64 {
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	return c.rows
}

// Totals of one consumer since the stream was created. accepted = OK + Dropped + Failed + Lost + waiting
// + claimed; what is left over is unaccounted.
type Totals struct {
	Accepted int64 // records that Append stored, kept over restarts
	OK       int64 // rows in data objects of durable manifests
	Dropped  int64
	Failed   int64 // rows in error objects
	Lost     int64 // rows in holes: damage that was recorded
	Waiting  int64 // not yet under a manifest, claimed or not
}

// Totals counts what became of the stream's records.
func (c *Consumer) Totals() Totals { return c.b.totals(c.stream.incarnation, c.id, c.uncovered) }

// NewEpoch returns the number of the epoch that a consumer's next cut closes.
func (c *Consumer) NewEpoch() uint64 { return c.b.newEpoch(c.stream.incarnation, c.id) }
