package buffer

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"hydrant/record"
)

const (
	minSlab = 16 << 10 // a stream's first slab, so that a thousand quiet streams do not fill the front
	maxSlab = 1 << 20
	// adoptFrom is the size from which a call's buffer is kept as it is. Below it a copy costs less than
	// a buffer that is mostly headroom.
	adoptFrom = 64 << 10
	// slabIdle is how long a free slab that nobody needed is kept.
	slabIdle = 10 * time.Second
)

// slabClasses are the sizes of recycled slabs: minSlab << (2*class).
const slabClasses = 4

// front is the memory in which durable rows wait for delivery. Rows lie in slabs, as the journal laid
// them out; what is kept per call is a chunk of 40 bytes, so the garbage collector sees a few pointers
// per stream instead of one per record. Each consumer of a stream has a queue of chunks of its own; a
// slab is free when no queue names it any more.
//
// The committer alone calls push, hole, publish and drop, and not for streams that are fed. Otherwise safe for concurrent use. A claim reads
// chunks and slabs without the lock: both are immutable once published.
type front struct {
	budget int64
	bufs   *record.Pool // where adopted buffers go when they are free; nil: nowhere

	mu       sync.Mutex
	space    *space // nil in tests of the front alone
	capacity int64  // bytes of the slabs in use, adopted buffers included
	reserved int64  // promised to calls that are not pushed yet
	streams  map[uint32]*frontStream
	dirty    []*frontStream // with rows that are not published
	mean     int64          // of Data that waits per consumer that has any, when last judged
	short    bool           // a call was refused for memory and the front has not fallen below ¾ since
	pressed  int            // consumers whose last known pressure is on
	feeders  []*feeder      // that wait for room, as they came
	round    int            // of grantAll

	free      [slabClasses][]*slab
	spareLow  [slabClasses]int // the fewest free slabs since the timer was set: nobody needed those
	freeBytes int64
	timer     *time.Timer // runs trim while there are free slabs
	closed    bool
}

// frontStream is the part of a stream that its consumers share. Guarded by front.mu.
type frontStream struct {
	incarnation uint32
	consumers   []*Consumer
	tail        *slab // where small calls are copied to; nil: none
	held        int64 // bytes of its slabs
	promised    int64 // encoded bytes of small calls that are admitted and not settled
	spare       int64 // slab bytes reserved for them beyond the tail's room
	dirty       bool

	fed     bool   // its rows come from lanes
	meta    bool   // or have come, in this process: raw runs of it have metadata
	feeds   []feed // rows of lanes that no frame has made final, ascending
	feeding int64  // bytes of the front reserved for rows of lanes that are not pushed yet
	waiting int    // feeders of it
	passed  int    // the round in which one of them found no room
	moving  bool   // rows are being moved to runs for a consumer that wants them (joint.go)
	stuck   bool   // the last attempt has failed
}

// slab is a piece of memory with rows of one stream.
type slab struct {
	mem    []byte
	whole  []byte // the adopted buffer that mem is a part of; nil: it is not recycled
	size   int64  // that it counts with: of an adopted buffer, what stays allocated
	used   int
	refs   int  // chunks in queues that name it
	class  int8 // of the free list, -1: not recycled
	fed    bool // of rows of lanes: with metadata, and a chunk is claimed whole
	stream *frontStream
}

// chunk is rows of one stream that arrived together. 40 bytes, on purpose. A chunk without a slab is a
// hole: [seq, arrived) is lost.
type chunk struct {
	slab    *slab
	seq     uint64
	arrived int64
	off     uint32
	size    uint32 // encoded bytes
	count   uint32
	data    uint32 // bytes of Data
}

// end is the sequence behind the chunk.
func (k *chunk) end() uint64 {
	if k.slab == nil {
		return uint64(k.arrived)
	}
	return k.seq + uint64(k.count)
}

// encoded rows, as record.Batch lays them out.
func (k *chunk) encoded() []byte { return k.slab.mem[k.off : k.off+k.size : k.off+k.size] }

// from returns the rows of the chunk at and after sequence seq.
func (k *chunk) from(seq uint64) []byte {
	enc := k.encoded()
	for s := k.seq; s < seq && len(enc) > 0; s++ {
		n, w := binary.Uvarint(enc)
		enc = enc[w+int(n):]
	}
	return enc
}

// dataBetween is the bytes of Data of the chunk's rows in [first, next).
func (k *chunk) dataBetween(first, next uint64) int64 {
	first, next = max(first, k.seq), min(next, k.end())
	if first >= next {
		return 0
	}
	if first == k.seq && next == k.end() {
		return int64(k.data)
	}
	var sum int64
	enc := k.from(first)
	for ; first < next; first++ {
		n, w := binary.Uvarint(enc)
		sum += int64(n)
		enc = enc[w+int(n):]
	}
	return sum
}

// block is a piece of a queue. Its chunks never move, so that claims walk it without the lock.
type block struct {
	chunks [64]chunk
	next   *block
}

// cursor is a place in a queue: a chunk, or the place of the next one.
type cursor struct {
	b *block
	i int
}

// chunk at the cursor, which must exist.
func (p *cursor) chunk() *chunk {
	if p.i == len(p.b.chunks) {
		p.b, p.i = p.b.next, 0
	}
	return &p.b.chunks[p.i]
}

// step goes to the next place, under front.mu. Cursors at the same place are equal: at the end of a block
// they stand in the next one as soon as it exists.
func (p *cursor) step() {
	p.i++
	p.level()
}

func (p *cursor) level() {
	if p.i == len(p.b.chunks) && p.b.next != nil {
		p.b, p.i = p.b.next, 0
	}
}

// frontShare is the part of limits.memory that the front's slabs may take.
func frontShare(memory int64) int64 { return memory / 16 * 6 }

// newFront makes a front with a budget of slab bytes. The budget is enforced by space.reservePut; push
// always succeeds.
func newFront(budget int64) *front {
	return &front{budget: budget, streams: make(map[uint32]*frontStream)}
}

// add declares a consumer of a stream whose rows below next it has covered, and returns its reader.
func (f *front) add(b *Buffer, incarnation uint32, consumer uint8, next uint64) *Consumer {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.streams[incarnation]
	if s == nil {
		s = &frontStream{incarnation: incarnation}
		f.streams[incarnation] = s
	}
	end := &block{}
	at := cursor{b: end}
	c := &Consumer{
		b: b, front: f, stream: s, id: consumer, changed: make(chan struct{}, 1),
		head: at, take: at, pub: at, end: at, base: next, position: next, taken: next, durable: next,
	}
	s.consumers = append(s.consumers, c)
	return c
}

// remove forgets a stream that is gone; nothing of it waits.
func (f *front) remove(incarnation uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.streams[incarnation]
	if s == nil {
		return
	}
	delete(f.streams, incarnation)
	f.endFeeders(func(w *feeder) bool { return w.stream == s }, ErrClosed)
	f.reserved -= s.spare // of calls that are admitted and will find the stream gone
	for _, c := range s.consumers {
		for c.head != c.end {
			c.drop(c.head.chunk())
			c.head.step()
		}
		if f.space != nil {
			f.space.rowsGone(s.incarnation, c.rows.rows, c.rows.data)
		}
		if c.pressed != 0 {
			f.pressed--
		}
	}
}

// consumer returns what add returned, or nil.
func (f *front) consumer(incarnation uint32, consumer uint8) *Consumer {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.streams[incarnation]; s != nil {
		for _, c := range s.consumers {
			if c.id == consumer {
				return c
			}
		}
	}
	return nil
}

// consumers lists the consumers of a stream.
func (f *front) consumers(incarnation uint32) (ids []uint8) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.streams[incarnation]; s != nil {
		for _, c := range s.consumers {
			ids = append(ids, c.id)
		}
	}
	return ids
}

// push adds the records of one call, in sequence order for each stream (gaps are allowed, they hold
// nothing): count records with data bytes of Data, laid out as record.Batch.Encoded. whole is
// the buffer that encoded is a part of; where the call is large the front keeps it and returns true: nobody may
// write to it any more. Otherwise, and where whole is nil, encoded is copied. Each consumer of the stream gets what is at or above its
// position. The rows cannot be taken before publish.
func (f *front) push(incarnation uint32, firstSeq uint64, count int, data, arrived int64, encoded, whole []byte) (adopted bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.streams[incarnation]
	if s == nil || count == 0 {
		return false
	}
	end := firstSeq + uint64(count)
	wanted := false
	for _, c := range s.consumers {
		wanted = wanted || c.wants(firstSeq, end)
	}
	if !wanted {
		return false
	}
	k := chunk{seq: firstSeq, arrived: arrived, size: uint32(len(encoded)), count: uint32(count), data: uint32(data)}
	if whole != nil && worthAdopting(encoded) {
		k.slab = f.newSlab(s, &slab{mem: encoded[:len(encoded):len(encoded)], whole: whole, used: len(encoded), class: -1}, int64(cap(encoded)))
		adopted = true
	} else {
		k.slab = f.room(s, len(encoded))
		k.off = uint32(k.slab.used)
		copy(k.slab.mem[k.off:], encoded)
		k.slab.used += len(encoded)
	}
	for _, c := range s.consumers {
		if c.wants(firstSeq, end) {
			c.append(k)
		}
	}
	f.mark(s)
	if sabotagePublishEarly {
		f.publishLocked()
	}
	return adopted
}

// wants tells whether the consumer gets what of [first, next) it has not covered. No call reaches over its end.
func (c *Consumer) wants(first, next uint64) bool {
	return c.position < next && (c.last == 0 || first < c.last)
}

// finish says at which sequence a consumer ends. No row at or above it has been pushed.
func (f *front) finish(c *Consumer, at uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.last == 0 {
		c.last = at
		c.notify()
	}
}

// leave forgets a consumer that has ended: nothing waits for it.
func (f *front) leave(incarnation uint32, consumer uint8) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.streams[incarnation]
	if s == nil {
		return
	}
	s.consumers = slices.DeleteFunc(s.consumers, func(c *Consumer) bool {
		if c.id == consumer && c.pressed != 0 {
			f.pressed--
		}
		return c.id == consumer
	})
}

// worthAdopting tells whether a buffer is large enough and full enough to be kept instead of copied.
func worthAdopting(encoded []byte) bool {
	return len(encoded) >= adoptFrom && len(encoded) >= cap(encoded)/2
}

// mark notes that a stream has rows to publish.
func (f *front) mark(s *frontStream) {
	if !s.dirty {
		s.dirty = true
		f.dirty = append(f.dirty, s)
	}
}

// publish makes everything pushed so far takeable: the group is durable.
func (f *front) publish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.publishLocked()
}

func (f *front) publishLocked() {
	for _, s := range f.dirty {
		s.dirty = false
		for _, c := range s.consumers {
			f.publishOne(c)
		}
	}
	f.dirty = f.dirty[:0]
	f.judge()
}

// publishOne makes everything pushed for a consumer takeable.
func (f *front) publishOne(c *Consumer) {
	if c.pub == c.end {
		return
	}
	c.pub = c.end
	c.durable = max(c.durable, c.pendEnd)
	c.rows.add(c.pend)
	c.unclaimed.add(c.pend)
	if f.space != nil {
		f.space.rowsIn(c.stream.incarnation, c.pend.rows, c.pend.data)
	}
	c.pend = sum{}
	c.stepHoles()
	c.notify()
}

// drop forgets everything pushed since the last publish: the group could not be stored.
func (f *front) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if sabotageDropNothing {
		f.publishLocked()
		return
	}
	for _, s := range f.dirty {
		s.dirty = false
		for _, c := range s.consumers {
			for at := c.pub; at != c.end; at.step() {
				k := at.chunk()
				if k.slab != nil {
					k.slab.whole = nil // its caller has it again
				}
				c.drop(k)
				*k = chunk{}
			}
			c.end = c.pub
			c.end.b.next = nil
			c.pend = sum{}
		}
	}
	f.dirty = f.dirty[:0]
	f.judge()
}

// hole tells one consumer that [first, next) is lost, in sequence order with push. A claim ends before it, and
// the position steps over it.
func (f *front) hole(incarnation uint32, consumer uint8, first, next uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.streams[incarnation]
	if s == nil {
		return
	}
	for _, c := range s.consumers {
		if c.id == consumer && c.wants(first, next) {
			c.append(chunk{seq: first, arrived: int64(next)})
			f.mark(s)
		}
	}
}

// press sets or clears the ring's wish that this consumer closes its epoch: its rows keep a slot in use
// that the journal needs.
func (f *front) press(incarnation uint32, consumer uint8, on bool) {
	c := f.consumer(incarnation, consumer)
	if c == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c.ring = on
	f.judgeOne(c)
}

// close stops what the front has started. Rows that are claimed stay readable.
func (f *front) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.endFeeders(func(*feeder) bool { return true }, ErrClosed)
	if f.timer != nil {
		f.timer.Stop()
	}
}

// frontStats is what metrics say about the front, in bytes.
type frontStats struct{ Budget, Used, Reserved, Free int64 }

func (f *front) stats() frontStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return frontStats{Budget: f.budget, Used: f.capacity, Reserved: f.reserved, Free: f.freeBytes}
}

// Slabs.

// slabSize is the size of a stream's next slab: about what the stream holds already, so that what a slab
// wastes stays in proportion.
func slabSize(s *frontStream) int64 {
	size := int64(minSlab)
	for size < maxSlab && size < s.held {
		size <<= 2
	}
	return size
}

// room returns a slab of s with n free bytes behind used.
func (f *front) room(s *frontStream, n int) *slab {
	if t := s.tail; t != nil && len(t.mem)-t.used >= n {
		return t
	}
	size, class := max(slabSize(s), int64(n)), int8(-1) // a call larger than any slab has one for itself
	for i := range slabClasses {
		if c := int64(minSlab) << (2 * i); c >= size {
			size, class = c, int8(i)
			break
		}
	}
	var k *slab
	if class >= 0 && len(f.free[class]) > 0 {
		list := f.free[class]
		k = list[len(list)-1]
		f.free[class] = list[:len(list)-1]
		f.spareLow[class] = min(f.spareLow[class], len(list)-1)
		f.freeBytes -= size
	} else {
		k = &slab{mem: make([]byte, size), class: class}
	}
	took := min(s.spare, size)
	s.spare -= took
	f.reserved -= took
	s.tail = f.newSlab(s, k, size)
	return k
}

// newSlab puts a slab of size bytes into a stream's account.
func (f *front) newSlab(s *frontStream, k *slab, size int64) *slab {
	k.stream, k.size, k.fed = s, size, s.fed
	s.held += size
	f.capacity += size
	f.shrinkTo(f.budget - f.capacity)
	return k
}

// unref gives n references back and frees the slab with the last one.
func (f *front) unref(k *slab, n int) {
	k.refs -= n
	if k.refs > 0 {
		return
	}
	s := k.stream
	if s == nil {
		return
	}
	size := k.size
	if s.tail == k {
		s.tail = nil
	}
	k.stream, k.used = nil, 0
	s.held -= size
	f.capacity -= size
	if k.whole != nil {
		f.bufs.Put(k.whole)
		k.mem, k.whole = nil, nil
	}
	if k.class < 0 || f.closed {
		return
	}
	f.free[k.class] = append(f.free[k.class], k)
	f.freeBytes += size
	f.shrinkTo(f.budget - f.capacity)
	f.arm()
}

// shrinkTo lets free slabs go until at most n bytes of them are left.
func (f *front) shrinkTo(n int64) {
	for class := slabClasses - 1; class >= 0; class-- {
		for f.freeBytes > max(n, 0) && len(f.free[class]) > 0 {
			f.letGo(class)
		}
	}
}

// letGo leaves a free slab to the garbage collector.
func (f *front) letGo(class int) {
	list := f.free[class]
	f.freeBytes -= int64(len(list[len(list)-1].mem))
	list[len(list)-1] = nil
	f.free[class] = list[:len(list)-1]
	f.spareLow[class] = min(f.spareLow[class], len(list)-1)
}

// arm sets the timer that returns idle slabs.
func (f *front) arm() {
	if f.timer != nil || f.freeBytes == 0 || f.closed {
		return
	}
	for class := range slabClasses {
		f.spareLow[class] = len(f.free[class])
	}
	f.timer = time.AfterFunc(slabIdle, f.trim)
}

// trim returns the slabs that nobody has needed for a while.
func (f *front) trim() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.timer = nil
	for class := range slabClasses {
		for range f.spareLow[class] {
			f.letGo(class)
		}
	}
	f.arm()
}
