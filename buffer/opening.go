package buffer

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"hydrant/record"
)

// opener keeps a slot ready for the committer to go on in. It is a goroutine of its own, because preparing
// means syncs that no call should wait for.
type opener struct {
	b *Buffer
	c *committer
	j *journal
	l *ledger

	mu       sync.Mutex
	asked    uint64 // passes asked for
	done     uint64 // passes that began after so many had been asked for and have ended
	stopping bool
	wake     chan struct{}
	stopped  chan struct{}

	eager   atomic.Bool          // what a cut frees is wanted at once
	pressed map[consumerKey]bool // who was asked to close its epoch for the ring's sake; of the goroutine
	noGrow  bool                 // the last attempt to add a slot failed; of the goroutine
}

type consumerKey struct {
	incarnation uint32
	consumer    uint8
}

func newOpener(b *Buffer) *opener {
	return &opener{
		b: b, c: b.committer, j: b.journal, l: b.ledger, pressed: make(map[consumerKey]bool),
		wake: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
}

// kick asks for a pass.
func (o *opener) kick() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// request asks for a pass that begins after now; passed tells whether it has ended.
func (o *opener) request() (ticket uint64) {
	o.mu.Lock()
	o.asked++
	ticket = o.asked
	o.mu.Unlock()
	o.kick()
	return ticket
}

func (o *opener) passed(ticket uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.done >= ticket
}

func (o *opener) stop() {
	o.mu.Lock()
	o.stopping = true
	o.mu.Unlock()
	o.kick()
	<-o.stopped
}

func (o *opener) run() {
	defer close(o.stopped)
	for range o.wake {
		o.mu.Lock()
		asked, stopping := o.asked, o.stopping
		o.mu.Unlock()
		if stopping {
			return
		}
		o.pass(asked > o.done)
		o.mu.Lock()
		o.done = max(o.done, asked)
		o.mu.Unlock()
		o.c.update()
		o.c.poke()
	}
}

// pass reclaims what is dead, adds a slot where the ring runs short, and prepares the next one. wanted:
// puts wait for it.
func (o *opener) pass(wanted bool) {
	o.j.prepare.Lock()
	defer o.j.prepare.Unlock()
	o.j.mu.Lock()
	failing := o.j.failing
	a := o.j.active()
	near := a.end >= o.j.geo.prepareAt() || wanted || o.j.full
	o.j.mu.Unlock()
	if failing {
		return
	}
	if err := o.reclaim(); err != nil {
		o.c.log.Error("a dead slot of the journal cannot be reused", "err", err)
	}
	if near {
		if o.j.idle() == 0 {
			o.grow()
		}
		if err := o.prepareOne(); err != nil {
			o.c.log.Error("the next slot of the journal could not be prepared", "err", err)
		}
		for o.j.outlook(o.l) < 2 && o.grow() {
		}
	}
	o.press(near)
}

// reclaim frees the oldest segments that nothing needs any more (I6), oldest first.
func (o *opener) reclaim() error {
	for {
		s := o.dead()
		if s == nil {
			return nil
		}
		if !sabotageSlotBeforeIDs {
			if err := o.b.calls.save(s.number); err != nil {
				return fmt.Errorf("keep the invocation ids of segment %d: %w", s.number, err)
			}
		}
		CrashPoint("ids-saved")
		o.j.mu.Lock()
		o.j.segments = append([]*segment(nil), o.j.segments[1:]...)
		if o.j.copied == s {
			o.j.copied = nil
		}
		bad := s.slot.bad
		if !bad {
			o.j.free = append(o.j.free, s.slot)
		}
		o.j.mu.Unlock()
		if bad {
			o.j.discard(s.slot)
		}
	}
}

// dead returns the oldest segment if nobody needs it: its rows are covered by every consumer or copied, and
// the checkpoint in force does not replay from it.
func (o *opener) dead() *segment {
	o.l.mu.RLock()
	defer o.l.mu.RUnlock()
	o.j.mu.Lock()
	defer o.j.mu.Unlock()
	if len(o.j.segments) < 2 {
		return nil
	}
	s := o.j.segments[0]
	if s.lsn(s.end) > o.j.active().c {
		return nil
	}
	if s == o.j.copied || sabotageReuseSlotEarly || o.l.covers(s) {
		return s
	}
	return nil
}

// idle is how many slots are free or prepared.
func (j *journal) idle() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.spare()
}

// outlook is how many slots are left to go on in, with those that opening the prepared one frees. Two are
// enough: one for what comes, one that puts never get.
func (j *journal) outlook(l *ledger) int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	n := j.spare()
	if j.prepared == nil {
		return n
	}
	for _, s := range j.segments[:len(j.segments)-1] {
		if s.lsn(s.end) > j.prepared.c || s != j.prepared.copied && !l.covers(s) {
			break
		}
		n++
	}
	return n
}

// covers tells whether every consumer has covered all rows of a segment. The caller holds mu.
func (l *ledger) covers(s *segment) bool {
	for incarnation, r := range s.data {
		if st := l.streams[incarnation]; st != nil && st.covered() < r.next {
			return false
		}
	}
	return true
}

// grow adds a slot, unless the ring has all that it may have.
func (o *opener) grow() bool {
	o.j.mu.Lock()
	most := o.j.slots >= o.j.geo.limit
	o.j.mu.Unlock()
	if most {
		return false
	}
	s, err := o.j.createSlot()
	if err != nil {
		if !o.noGrow {
			o.c.log.Warn("the journal cannot be given another slot", "err", err)
		}
		o.noGrow = true
		return false
	}
	o.noGrow = false
	o.j.mu.Lock()
	o.j.free = append(o.j.free, s)
	o.j.mu.Unlock()
	return true
}

// prepareOne prepares a free slot, unless one is prepared.
func (o *opener) prepareOne() error {
	o.j.mu.Lock()
	if o.j.prepared != nil || len(o.j.free) == 0 {
		o.j.mu.Unlock()
		return nil
	}
	s := o.j.free[0]
	o.j.free = o.j.free[1:]
	var oldest *segment
	if len(o.j.segments) > 1 {
		oldest = o.j.segments[0]
	}
	o.j.mu.Unlock()
	p, err := o.j.prepareSlot(o.l, s, oldest)
	if err != nil {
		o.j.discard(s)
		return err
	}
	CrashPoint("slot-prepared")
	o.j.mu.Lock()
	o.j.prepared = p
	o.j.mu.Unlock()
	return nil
}

// prepareSlot erases a slot and writes its opening frames: the ledger's state, and of one old segment the
// rows that nobody has covered, where they are few. The caller holds prepare.
func (j *journal) prepareSlot(l *ledger, s *slot, old *segment) (*prepared, error) {
	if err := j.eraseHeaders(s); err != nil {
		return nil, err
	}
	p := j.newPrepared(s)
	l.mu.RLock()
	raw, ordinal := l.encodeState(), l.ordinal
	j.mu.Lock()
	c := j.durable // of the same moment: the committer changes both under l.mu
	j.mu.Unlock()
	l.mu.RUnlock()
	w := j.newOpeningWriter(p, c)
	if err := w.checkpoint(raw, ordinal, c); err != nil {
		return nil, err
	}
	if old != nil {
		copied, err := w.residue(l, old, j.geo.slot/4)
		if err != nil {
			return nil, err
		}
		if copied {
			p.copied = old
		}
	}
	if err := w.finish(); err != nil {
		return nil, err
	}
	return p, nil
}

// residue copies the rows of a segment that some consumer has not covered, if they take at most budget
// bytes. Where they take more, or cannot be read, it copies nothing and returns false: the segment is then
// needed until they are covered.
func (w *openingWriter) residue(l *ledger, old *segment, budget int64) (bool, error) {
	covered := make(map[uint32]uint64, len(old.data))
	var estimate int64
	l.mu.RLock()
	for incarnation, r := range old.data {
		if s := l.streams[incarnation]; s != nil && s.covered() < r.next {
			covered[incarnation] = s.covered()
			if at := s.covered(); at <= r.first {
				estimate += r.bytes
			} else {
				estimate += r.bytes / int64(r.next-r.first) * int64(r.next-at)
			}
		}
	}
	l.mu.RUnlock()
	if len(covered) == 0 {
		return true, nil
	}
	if estimate > 2*budget {
		return false, nil
	}
	type copied struct {
		head    frameHead
		payload []byte
	}
	var found []copied
	var size int64
	scan := &frameScan{file: old.slot.file, name: old.slot.name, base: old.base, salt: w.j.id.Salt, key: old.slot.key, off: blockSize, limit: old.end}
	for {
		h, payload, err := scan.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			w.j.log.Error("a closed segment of the journal cannot be read; its slot stays in use until its rows are cut", "file", old.slot.name, "offset", scan.off, "err", err)
			return false, nil
		}
		at, wanted := covered[h.Incarnation]
		if h.Type != frameData || !wanted || h.next() <= at {
			continue
		}
		if size += frameSize(len(payload) + w.j.seal.overhead()); size > budget || w.end()+size+3*blockSize > w.limit {
			return false, nil
		}
		found = append(found, copied{h, append([]byte(nil), payload...)})
	}
	for _, f := range found {
		if err := w.data(f.head, f.payload); err != nil {
			return false, err
		}
	}
	return true, nil
}

// data writes a copy of a DATA frame.
func (w *openingWriter) data(h frameHead, payload []byte) error {
	head := frameHead{Type: frameData, First: h.First, Count: h.Count, Incarnation: h.Incarnation, Arrived: h.Arrived, Consumer: h.Consumer}
	if err := w.frame(head, payload); err != nil {
		return err
	}
	if w.p.data == nil {
		w.p.data = make(map[uint32]*reach)
	}
	seg := segment{data: w.p.data}
	seg.extend(h.Incarnation, h.First, h.next(), h.size())
	return nil
}

// press asks the consumers that hold the oldest rows to cut them, while the ring is short of slots and
// cannot grow.
func (o *opener) press(near bool) {
	outlook := o.j.outlook(o.l)
	o.l.mu.RLock()
	o.j.mu.Lock()
	short := (near || len(o.pressed) > 0) && outlook < 2 // and it cannot grow, or it would have
	want := make(map[consumerKey]bool)
	if short || o.j.full {
		for _, s := range o.j.segments {
			for incarnation, r := range s.data {
				st := o.l.streams[incarnation]
				if st == nil {
					continue
				}
				for _, c := range st.consumers {
					if c.position < r.next {
						want[consumerKey{incarnation, c.id}] = true
					}
				}
			}
			if len(want) > 0 {
				break
			}
		}
	}
	o.j.mu.Unlock()
	o.l.mu.RUnlock()
	o.eager.Store(short || len(want) > 0)
	for _, k := range sortedKeys(o.pressed) {
		if !want[k] {
			o.b.front.press(k.incarnation, k.consumer, false)
		}
	}
	for _, k := range sortedKeys(want) {
		if !o.pressed[k] {
			o.b.front.press(k.incarnation, k.consumer, true)
		}
	}
	o.pressed = want
}

// sortedKeys are in the same order each time, so that a test's run can be repeated.
func sortedKeys(m map[consumerKey]bool) []consumerKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b consumerKey) int {
		return cmp.Or(cmp.Compare(a.incarnation, b.incarnation), cmp.Compare(a.consumer, b.consumer))
	})
}

// after a group: the next slot is prepared in good time.
func (c *committer) after() {
	c.j.mu.Lock()
	kick := c.j.active().end >= c.j.geo.prepareAt() && c.j.prepared == nil
	c.j.mu.Unlock()
	if kick {
		c.b.opener.kick()
	}
}

// update tells callers whether they are taken.
func (c *committer) update() {
	outlook := c.j.outlook(c.l)
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	if c.j.full && (c.j.takesPuts(c.j.geo.maxFrame()) || c.j.prepared != nil && outlook >= 2) {
		c.j.full = false
	}
	var r *record.Refusal
	switch {
	case c.j.failing:
		r = &record.Refusal{Reason: "failing", Message: "the disk does not take writes at present; try again"}
	case c.j.full:
		r = &record.Refusal{Reason: "journal", Message: "the journal is full until what waits has been written out; try again"}
	}
	c.mu.Lock()
	c.refuse = r
	c.mu.Unlock()
}

// abandon closes the active segment for good: what it holds above its end is never read again, because the
// next segment says where it ended (I8).
func (c *committer) abandon() {
	c.j.mu.Lock()
	c.j.active().slot.bad = true
	c.j.mu.Unlock()
}

// fail stops accepting until another slot works.
func (c *committer) fail() {
	c.j.mu.Lock()
	c.j.failing = true
	c.j.mu.Unlock()
	c.update()
	c.retry.Reset(retrySlot)
}

// reopen tries to go on in another slot.
func (c *committer) reopen() {
	if !c.failing() {
		return
	}
	c.openNext()
	if !c.failing() {
		c.certain()
		c.log.Info("the journal can be written again")
	}
}

// openNext goes on in the next slot: the prepared one, or one that is prepared here and now. The active
// segment ends where it is. On failure the journal is failing.
func (c *committer) openNext() {
	j := c.j
	j.prepare.Lock()
	defer j.prepare.Unlock()
	old := j.active()
	for range 2 {
		j.mu.Lock()
		p := j.prepared
		j.prepared = nil
		j.mu.Unlock()
		if p == nil {
			var err error
			if p, err = c.prepareNow(); err != nil {
				c.log.Error("no slot of the journal can be opened", "err", err)
				break
			}
		}
		if err := j.writeHeaders(p, old.number, old.lsn(old.end)); err != nil {
			// A crash may find these headers, and they say that the old segment ends here. So nothing is
			// appended to it any more, whatever happens next.
			c.log.Error("a slot of the journal failed when it was opened", "err", err)
			j.discard(p.slot)
			continue
		}
		CrashPoint("slot-opened")
		if !old.slot.bad {
			if err := j.nextFrame(old, p, c.l.ordinal); err != nil {
				c.log.Warn("the end of a segment could not be marked; its slot is abandoned", "err", err)
				c.abandon()
			}
		}
		j.install(p)
		c.update()
		c.b.opener.kick() // the segment before may be dead, and the next slot is to be found
		return
	}
	c.fail()
}

// prepareNow prepares a slot while the committer waits: after a failure, or where nothing but ledger frames
// may go on. It may take the last free slot or add one beyond the limit.
func (c *committer) prepareNow() (*prepared, error) {
	c.j.mu.Lock()
	var s *slot
	if n := len(c.j.free); n > 0 {
		s, c.j.free = c.j.free[0], c.j.free[1:]
	}
	c.j.mu.Unlock()
	if s == nil {
		var err error
		if s, err = c.j.createSlot(); err != nil {
			return nil, err
		}
	}
	p, err := c.j.prepareSlot(c.l, s, nil)
	if err != nil {
		c.j.discard(s)
		return nil, err
	}
	return p, nil
}

// install makes an opened slot the active segment.
func (j *journal) install(p *prepared) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := &segment{slot: p.slot, number: p.number, base: p.base, end: p.end, c: p.c, data: p.data}
	j.segments, j.current = append(j.segments, s), s
	j.copied = p.copied
	j.durable = s.lsn(s.end)
	j.failing = false
}
