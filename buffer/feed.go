package buffer

import (
	"context"
	"time"
)

// The front's side of lanes: rows that are not journaled, and those who wait for room for them.

// feed is rows of a lane that were appended together and that no frame has made final. A claim takes all of them or
// none, since nobody knows a position in between.
type feed struct {
	next     uint64 // behind the last of them
	lane     *laneState
	position []byte // behind the last of them
	rows     uint32
}

func (k *feed) first() uint64 { return k.next - uint64(k.rows) }

// feeder waits for room for rows of a lane. front.mu guards what changes.
type feeder struct {
	stream     *frontStream
	lane       *laneState
	size       int64 // encoded bytes
	disk       int64 // that the rows hold for all consumers
	small, big int64 // of the front, once granted
	granted    bool
	err        error
	done       chan struct{} // closed when granted or err is set
}

// freshFor is how often who waits asks the file system how much is free.
const freshFor = time.Second

// setFed makes a stream one whose rows come from lanes, or ends that: slabs have rows of one kind.
func (f *front) setFed(incarnation uint32, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.streams[incarnation]
	if s == nil {
		return
	}
	s.fed, s.tail = on, nil
	s.meta = s.meta || on
	if !on {
		f.endFeeders(func(w *feeder) bool { return w.stream == s }, ErrClosed)
	}
}

// await reserves room for rows of a lane as soon as there is some. Its error is that of ctx, or why the lane or the
// stream is not fed any more.
func (b *Buffer) await(ctx context.Context, w *feeder) error {
	b.space.freshen()
	f := b.front
	f.mu.Lock()
	switch {
	case f.closed || f.streams[w.stream.incarnation] != w.stream || !w.stream.fed:
		f.mu.Unlock()
		return ErrClosed
	case w.stream.waiting == 0 && f.grant(w):
		f.mu.Unlock()
		return nil
	}
	w.done = make(chan struct{})
	f.feeders = append(f.feeders, w)
	w.stream.waiting++
	for _, c := range w.stream.consumers {
		f.judgeOne(c)
	}
	f.mu.Unlock()
	again := time.NewTicker(freshFor)
	defer again.Stop()
	for {
		select {
		case <-w.done:
			return w.err
		case <-again.C: // others may have made room on the disk: who waits longest looks for all
			f.mu.Lock()
			first := len(f.feeders) > 0 && f.feeders[0] == w
			f.mu.Unlock()
			if first {
				b.space.freshen()
				f.mu.Lock()
				f.grantAll()
				f.mu.Unlock()
			}
		case <-ctx.Done():
			f.mu.Lock()
			f.endFeeders(func(other *feeder) bool { return other == w }, ctx.Err())
			granted := w.granted
			f.mu.Unlock()
			if granted {
				b.space.release(w.hold())
			}
			return ctx.Err()
		}
	}
}

// hold is what was reserved.
func (w *feeder) hold() hold {
	return hold{incarnation: w.stream.incarnation, disk: w.disk, small: w.small, big: w.big, fed: w.small + w.big}
}

// grant reserves room where there is some: in memory for as long as the stream then holds no more than is still free, so
// that a source cannot take the room of calls and of other streams, and on the disk as for calls. An empty front takes
// anything. The caller holds mu.
func (f *front) grant(w *feeder) bool {
	s := w.stream
	need, room := w.size, int64(0)
	own := w.size >= adoptFrom
	if own && f.bufs != nil {
		need += need / 4 // recycled buffers come in steps of a quarter
	}
	if !own {
		if s.tail != nil {
			room = int64(len(s.tail.mem) - s.tail.used)
		}
		if s.promised+w.size <= room+s.spare {
			need = 0
		} else {
			need = max(slabSize(s), w.size)
		}
	}
	free := f.budget - f.capacity - f.reserved - need
	if f.capacity+f.reserved > 0 && (free < 0 || s.held+s.feeding > 0 && s.held+s.feeding+need > free) {
		return false
	}
	if !f.space.take(s.incarnation, w.disk) {
		return false
	}
	f.reserved += need
	if own {
		w.big = need
	} else {
		w.small = w.size
		s.promised += w.size
		s.spare += need
	}
	s.feeding += w.small + w.big
	w.granted = true
	return true
}

// unfeed takes back what grant has counted for rows that are in the front now, or will never be.
func (f *front) unfeed(incarnation uint32, n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.streams[incarnation]; s != nil {
		s.feeding -= n
	}
}

// grantAll lets those go on for whom there is room, each stream's in the order in which they came. The caller holds mu.
func (f *front) grantAll() {
	if len(f.feeders) == 0 {
		return
	}
	f.round++
	left := f.feeders[:0]
	for _, w := range f.feeders {
		if w.stream.passed != f.round && f.grant(w) {
			w.stream.waiting--
			close(w.done)
			continue
		}
		w.stream.passed = f.round
		left = append(left, w)
	}
	clear(f.feeders[len(left):])
	f.feeders = left
}

// endFeeders ends the waiting of some with an error. The caller holds mu.
func (f *front) endFeeders(which func(*feeder) bool, err error) {
	left := f.feeders[:0]
	for _, w := range f.feeders {
		if !which(w) {
			left = append(left, w)
			continue
		}
		w.err = err
		w.stream.waiting--
		close(w.done)
	}
	clear(f.feeders[len(left):])
	f.feeders = left
}

// feed brings rows of a lane to the front, where they can be taken at once: first is their sequence, data their bytes of
// Data, encoded is as appendMetaRow lays them out. Where it is kept, which the caller says, nobody may write to it any
// more. The caller holds ledger.mu and mu.
func (f *front) feed(s *frontStream, k feed, data, arrived int64, encoded []byte, keep bool) {
	c := chunk{seq: k.first(), arrived: arrived, size: uint32(len(encoded)), count: k.rows, data: uint32(data)}
	if keep {
		c.slab = f.newSlab(s, &slab{mem: encoded[:len(encoded):len(encoded)], whole: encoded, used: len(encoded), class: -1}, int64(cap(encoded)))
	} else {
		c.slab = f.room(s, len(encoded))
		c.off = uint32(c.slab.used)
		copy(c.slab.mem[c.off:], encoded)
		c.slab.used += len(encoded)
	}
	s.feeds = append(s.feeds, k)
	for _, reader := range s.consumers {
		if reader.wants(c.seq, k.next) {
			reader.append(c)
			f.publishOne(reader)
		}
	}
	f.judge()
}

// fedBelow tells whether rows of lanes below a sequence are in memory alone.
func (f *front) fedBelow(incarnation uint32, next uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.streams[incarnation]
	return s != nil && len(s.feeds) > 0 && s.feeds[0].first() < next
}

// laneMarks collects what a frame that takes all rows below next makes final. The caller holds ledger.mu.
func (f *front) laneMarks(incarnation uint32, next uint64) (m laneMarks) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.streams[incarnation]
	if s == nil || len(s.feeds) == 0 {
		return m
	}
	last := make(map[*laneState][]byte)
	for i := range s.feeds {
		k := &s.feeds[i]
		if k.next > next {
			if len(last) == 0 || !sabotageLanesAhead {
				break
			}
		} else {
			m.Rows += int64(k.rows)
		}
		last[k.lane] = k.position
	}
	m.At = sortedPositions(last)
	return m
}

// laneMarks is what a frame says of lanes that takes all rows of a stream below next. The caller holds ledger.mu.
func (b *Buffer) laneMarks(s *streamState, incarnation uint32, next uint64) laneMarks {
	m := b.front.laneMarks(incarnation, next)
	s.again(&m)
	return m
}

// final forgets what laneMarks has collected: a durable frame has it.
func (f *front) final(incarnation uint32, next uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.streams[incarnation]
	if s == nil {
		return
	}
	n := 0
	for n < len(s.feeds) && s.feeds[n].next <= next {
		if lane := s.feeds[n].lane; lane.last == s.feeds[n].next {
			lane.read = nil
		}
		s.feeds[n] = feed{}
		n++
	}
	if s.feeds = s.feeds[n:]; len(s.feeds) == 0 {
		s.feeds = nil // what was taken from its front is garbage
	}
}

// void forgets the rows of a lane that nobody has claimed and that are not on their way into a run, and returns how many
// they were. What waits for room for more of them ends with err. The caller holds ledger.mu.
func (f *front) void(incarnation uint32, lane *laneState, err error) (rows int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endFeeders(func(w *feeder) bool { return w.lane == lane }, err)
	s := f.streams[incarnation]
	if s == nil {
		return 0
	}
	kept := uint64(0)
	for _, c := range s.consumers {
		kept = max(kept, c.taken, c.position)
		if c.spill != nil {
			kept = max(kept, c.spill.next)
		}
	}
	lane.read, lane.last = nil, 0
	gone := make(map[uint64]bool)
	left := s.feeds[:0]
	for _, k := range s.feeds {
		if k.lane != lane || k.first() < kept {
			if k.lane == lane {
				lane.read, lane.last = k.position, k.next
			}
			left = append(left, k)
			continue
		}
		rows += int64(k.rows)
		gone[k.first()] = true
	}
	clear(s.feeds[len(left):])
	s.feeds = left
	if len(gone) == 0 || sabotageVoidKept {
		return rows
	}
	for _, c := range s.consumers {
		for at := c.head; at != c.pub; at.step() {
			q := at.chunk()
			if q.slab == nil || !gone[q.seq] {
				continue
			}
			n := sum{int64(q.count), int64(q.data)}
			c.rows.sub(n)
			c.unclaimed.sub(n)
			f.space.rowsGone(incarnation, n.rows, n.data)
			c.drop(q)
			*q = chunk{seq: q.seq, arrived: int64(q.seq)} // an empty hole
		}
		c.seek = cursor{}
		c.stepHoles()
		c.recount()
	}
	f.judge()
	return rows
}
