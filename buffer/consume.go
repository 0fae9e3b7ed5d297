package buffer

import (
	"iter"
	"sync"
)

// Consumer is one reader of a stream's rows: main or backup. Safe for concurrent use.
type Consumer struct {
	b       *Buffer // for what the ledger knows: epochs and totals
	front   *front
	stream  *frontStream
	id      uint8
	changed chan struct{}

	spilling sync.Mutex // held by Spill

	// Guarded by front.mu. The queue runs head ≤ take ≤ pub ≤ end; sequences base ≤ position ≤ durable and
	// base ≤ taken ≤ durable. Rows of [base, position) are in raw runs, the others in the queue.
	head cursor // the oldest chunk that is not covered whole
	take cursor // the oldest chunk with a row that no claim has
	pub  cursor // the oldest chunk that is not published
	end  cursor // where the next chunk goes
	seek cursor // where Chunks stopped last, at the chunk that holds seekSeq; b nil: nowhere

	seekSeq  uint64
	base     uint64 // everything below is decided
	position uint64 // everything below is covered: the queue does not have it
	last     uint64 // it gets nothing at or above; 0: it has no end
	taken    uint64 // everything below is decided or claimed
	durable  uint64 // everything below is published

	rows      sum // in the queue, published
	unclaimed sum // of them, those that no claim has

	raw          []*rawRows // ascending
	rawRows      sum        // in raw runs, not decided
	rawUnclaimed sum        // of them, those that no claim has
	openRuns     int64      // bytes of the routed runs of epochs that are not closed

	pend    sum // pushed and not published
	pendEnd uint64

	claims  []*Claim // oldest first
	spill   *Claim   // rows that are being spilled, claimed or not; nil: none
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
	w := Waiting{First: c.taken, Next: c.durable, Bytes: c.unclaimed.data + c.rawUnclaimed.data, Front: c.rows.data}
	switch {
	case c.rawUnclaimed.rows > 0:
		w.Oldest = c.rawOldest(c.taken)
	case c.unclaimed.rows > 0:
		at := c.take
		k := at.chunk()
		for k.slab == nil { // a hole ahead, with a gap before it
			at.step()
			k = at.chunk()
		}
		w.Oldest = k.arrived
	default:
		w.Next = c.taken
	}
	return w
}

// Chunks iterates over the durable chunks at and after sequence from that no claim has taken. Rows that
// are claimed or become durable meanwhile may be missing. Those in raw runs are known to the second. Going on where
// the last call ended is cheap.
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
	if from < c.position {
		if n = c.rawChunks(from, found); n == len(found) {
			return n
		}
		from = c.position
	}
	at := c.take
	if c.seek.b != nil && c.seekSeq >= max(c.taken, c.position) && c.seekSeq <= from {
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
	if k.slab != nil {
		c.pend.add(sum{int64(k.end() - max(k.seq, c.position)), k.dataBetween(c.position, k.end())})
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

// stepHoles moves taken and position over holes that they stand at, lets go raw runs that are decided, and moves base
// and taken over what lies between runs, as the ledger does. The caller holds front.mu and recounts afterwards where
// there are raw runs.
func (c *Consumer) stepHoles() {
	for c.take != c.pub && c.taken >= c.position {
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
	for len(c.raw) > 0 && c.raw[0].next <= c.base {
		c.raw = c.raw[1:]
	}
	if len(c.raw) == 0 {
		c.base = c.position
	} else {
		c.base = max(c.base, c.raw[0].first)
	}
	if c.taken = max(c.taken, c.base); c.taken < c.position {
		to := c.position
		for _, r := range c.raw {
			if c.taken < r.next {
				to = max(c.taken, r.first)
				break
			}
		}
		c.taken = to
	}
	if c.taken <= c.position {
		c.take = c.head
	}
}

// undecided is how many rows no manifest and no routed run has taken, claimed or not.
func (c *Consumer) undecided() int64 {
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	return c.rows.rows + c.rawRows.rows
}

// Totals of one consumer since the stream was created. accepted = OK + Dropped + Failed + Lost + waiting
// + claimed; what is left over is unaccounted.
type Totals struct {
	Accepted int64 // records that Append stored, kept over restarts
	OK       int64 // rows in data objects of durable manifests
	Dropped  int64
	Failed   int64 // rows in error objects
	Lost     int64 // rows in holes: damage that was recorded
	Waiting  int64 // not yet under a manifest, claimed or not: in the front, in raw and in routed runs
}

// Totals counts what became of the stream's records.
func (c *Consumer) Totals() Totals { return c.b.totals(c.stream.incarnation, c.id, c.undecided) }

// Watermark is what the last routed run, or manifest over a range, says of event time; 0 where none has said anything.
func (c *Consumer) Watermark() int64 {
	l := c.b.ledger
	l.mu.RLock()
	defer l.mu.RUnlock()
	if s := l.streams[c.stream.incarnation]; s != nil {
		if k := s.consumer(c.id); k != nil {
			return k.mark
		}
	}
	return 0
}

// NewEpoch returns the number of the epoch that a consumer's next cut closes.
func (c *Consumer) NewEpoch() uint64 { return c.b.newEpoch(c.stream.incarnation, c.id) }
