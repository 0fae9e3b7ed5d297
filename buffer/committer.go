package buffer

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"hydrant/record"
)

const (
	markDelay    = 100 * time.Millisecond // idle time after which the last group is made provable
	confirmDelay = 100 * time.Millisecond // most that a confirmation waits for a group
	retrySlot    = 5 * time.Second        // between attempts to go on in a new slot
	stallAfter   = 2 * time.Second        // a sync that takes longer makes callers go away
	gatherShare  = 4                      // the committer waits for callers at most 1/4 of a sync
	maxGather    = 10 * time.Millisecond
)

// request is one call on its way into the journal. Its caller owns it before it is queued and after done.
type request struct {
	stream string
	call   *record.Call
	head   frameHead // of the frame, but for what the committer gives it
	frame  []byte    // room for the header and the payload as it is stored: the batch's buffer, or sealed
	sealed []byte    // a buffer of the Buffer's own where the payload is sealed: the front keeps the rows in clear
	size   int64     // of the frame
	hold   hold
	flight *flight // nil: the call is not known by an id

	arrived int64  // stamp of its group
	segment uint64 // that its frame went to

	done    chan struct{} // gets a token when the fate of the call is decided; of capacity 1
	receipt record.Receipt
	adopted bool
	err     error
}

// op is a change of the ledger on its way into the journal.
type op struct {
	// keys are what it depends on: two ops with one key never share a group, so what prepare sees is final.
	keys [2]any
	// prepare checks the op against the ledger and returns its frames. It holds no lock.
	prepare func() ([]*ledgerFrame, error)
	// applied runs after the frames were applied, under ledger.mu; nil: nothing.
	applied func()
	// lasting: once its group could not be stored it is repeated until one is. A crash may find the frames
	// all the same, and nothing may be done meanwhile that contradicts them. doubt says when that begins.
	lasting bool
	doubt   func()
	failed  func() // of one that is not lasting: its group could not be stored, and a crash may find it; nil: nothing
	alone   bool   // no calls share its group
	frames  []*ledgerFrame
	err     error
	done    chan struct{}
}

// committer is the one goroutine that writes the active segment.
type committer struct {
	b   *Buffer
	j   *journal
	l   *ledger
	log *slog.Logger

	mu       sync.Mutex
	queue    []*request
	ops      []*op
	doubtful []*op // lasting ones that wait for a slot that can be written
	queued   int64 // bytes of the queue
	want     int   // callers to wait for
	due      bool  // confirmations have waited long enough
	armed    bool  // the timer for them runs
	stopping bool
	refuse   *record.Refusal // what queued calls get at once; nil: they are taken
	wake     chan struct{}

	stopped chan struct{}

	// of the goroutine alone
	spareQ   []*request
	callers  int           // of the last group
	recent   time.Duration // of the last syncs
	idle     *time.Timer   // runs until a MARK is due
	retry    *time.Timer   // runs until another slot is tried
	ticket   uint64        // of the opener's pass that puts wait for, 0: none
	scratch  []byte
	groups   atomic.Int64
	unmarked atomic.Bool  // groups were written since the last MARK of its own
	syncing  atomic.Int64 // when the sync in progress began, ns since started; 0: none
	started  time.Time
	observed func(time.Duration) // of each sync
}

func newCommitter(b *Buffer) *committer {
	c := &committer{
		b: b, j: b.journal, l: b.ledger, log: b.log, started: time.Now(),
		wake: make(chan struct{}, 1), stopped: make(chan struct{}),
		scratch: make([]byte, 0, min(scratchSize, b.journal.geo.maxGroup()+2*blockSize)),
	}
	c.idle = time.NewTimer(time.Hour)
	c.idle.Stop()
	c.retry = time.NewTimer(time.Hour)
	c.retry.Stop()
	return c
}

// poke wakes the goroutine.
func (c *committer) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// enqueue queues a call. Its error is why it cannot be.
func (c *committer) enqueue(r *request) error {
	c.mu.Lock()
	if c.stopping {
		c.mu.Unlock()
		return &record.Refusal{Reason: "stopping", Message: "the service is stopping"}
	}
	if c.refuse != nil {
		err := *c.refuse
		c.mu.Unlock()
		return &err
	}
	if c.queued > 0 && c.queued+r.size > c.queueLimit() {
		c.mu.Unlock()
		return &record.Refusal{Reason: "journal", Message: "the disk is slower than the callers; try again"}
	}
	c.queue = append(c.queue, r)
	c.queued += r.size
	n := len(c.queue)
	wake := n == 1 || n == c.want
	c.mu.Unlock()
	if wake {
		c.poke()
	}
	return nil
}

// queueLimit is how many bytes may wait: as much as the memory for calls allows, or one group while the
// disk has stalled.
func (c *committer) queueLimit() int64 {
	if c.stalled() {
		return c.j.geo.maxGroup()
	}
	return max(bodyShare(c.b.memory), c.j.geo.maxGroup())
}

// stalled tells whether a sync has been going on for too long.
func (c *committer) stalled() bool {
	since := c.syncing.Load()
	return since != 0 && time.Since(c.started)-time.Duration(since) > stallAfter
}

// do runs an op and waits for it. The op happened if and only if the error is nil.
func (c *committer) do(o *op) error {
	o.done = make(chan struct{})
	c.mu.Lock()
	if c.stopping {
		c.mu.Unlock()
		return ErrClosed
	}
	c.ops = append(c.ops, o)
	c.mu.Unlock()
	c.poke()
	<-o.done
	return o.err
}

// confirmLater makes the confirmations that the ledger has noted part of the next group, or of one of their
// own after a while.
func (c *committer) confirmLater() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.armed || c.stopping {
		return
	}
	c.armed = true
	time.AfterFunc(confirmDelay, func() {
		c.mu.Lock()
		c.armed, c.due = false, true
		c.mu.Unlock()
		c.poke()
	})
}

// stop ends the goroutine after what is queued was written, and waits for it.
func (c *committer) stop() {
	c.mu.Lock()
	c.stopping = true
	c.mu.Unlock()
	c.poke()
	<-c.stopped
}

// setDue makes confirmations part of the next group that can be written: those that were taken into one
// have come back.
func (c *committer) setDue() {
	c.mu.Lock()
	c.due = true
	c.mu.Unlock()
}

// work is what there is to do.
type work struct {
	queued, ops   int
	due, stopping bool
}

func (c *committer) look() work {
	c.mu.Lock()
	defer c.mu.Unlock()
	return work{len(c.queue), len(c.ops), c.due, c.stopping}
}

// run is the goroutine.
func (c *committer) run() {
	defer close(c.stopped)
	defer c.idle.Stop()
	defer c.retry.Stop()
	for {
		w := c.look()
		puts := w.queued > 0 && c.putsPossible()
		if puts {
			c.ticket = 0 // what a later shortage waits for is a later pass
		}
		if w.queued > 0 && !puts && !c.failing() {
			puts = c.makeRoom(w.stopping)
		}
		switch {
		case c.failing():
			c.failQueue()
			if w.stopping {
				c.failDoubtful()
				return
			}
			c.wait()
		case puts || w.ops > 0 || w.due || w.stopping:
			if !w.stopping && w.ops == 0 && !w.due {
				c.gather()
			}
			g := c.build()
			if g == nil {
				if w := c.look(); w.stopping && w.queued == 0 && w.ops == 0 && !w.due {
					if !c.marked() {
						c.mark()
					}
					return
				}
				continue
			}
			c.commit(g)
			c.after()
		default:
			c.wait()
		}
	}
}

// wait sleeps until there may be something to do.
func (c *committer) wait() {
	select {
	case <-c.wake:
	case <-c.idle.C:
		c.mark()
	case <-c.retry.C:
		c.reopen()
	}
}

// mark writes a group of its own that proves the ones before.
func (c *committer) mark() {
	if c.failing() {
		return
	}
	g := c.newGroup()
	g.mark = true
	c.finish(g)
	if c.j.active().end+g.size <= c.j.geo.ledgerEnd() {
		c.commit(g)
		c.after()
	}
}

// gather waits for as many callers as the last group had, at most a quarter of the recent sync time: they
// were woken together and are about to call again. Without it a fast disk is asked once per call.
func (c *committer) gather() {
	patience := min(c.recent/gatherShare, maxGather)
	if patience <= 0 || c.callers < 2 {
		return
	}
	c.mu.Lock()
	n := len(c.queue)
	if n >= c.callers || len(c.ops) > 0 || c.stopping {
		c.mu.Unlock()
		return
	}
	c.want = c.callers
	c.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case <-c.wake:
		case <-timer.C:
			c.mu.Lock()
			c.want = 0
			c.mu.Unlock()
			return
		}
		c.mu.Lock()
		if len(c.queue) >= c.want || len(c.ops) > 0 || c.stopping {
			c.want = 0
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
	}
}

// marked tells whether a later group proves all that callers got an answer for.
func (c *committer) marked() bool { return !c.unmarked.Load() }

func (c *committer) failing() bool {
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	return c.j.failing
}

// putsPossible tells whether the active segment may take the call that is queued first. One slot is always
// left free of puts, so that the ledger can go on and with it everything that waits.
func (c *committer) putsPossible() bool {
	c.mu.Lock()
	if len(c.queue) == 0 {
		c.mu.Unlock()
		return true
	}
	size := c.queue[0].size
	c.mu.Unlock()
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	return c.j.takesPuts(size)
}

// takesPuts: the caller holds mu.
func (j *journal) takesPuts(size int64) bool {
	a := j.active()
	return !j.failing && j.spare() >= 1 && a.end+size+2*blockSize <= j.geo.dataEnd()
}

// makeRoom goes on in the next slot for the sake of puts, or refuses them where there is none. It returns
// whether they can be taken now.
func (c *committer) makeRoom(stopping bool) bool {
	if c.nextForPuts() {
		c.ticket = 0
		c.openNext()
		return !c.failing() && c.putsPossible()
	}
	if c.ticket == 0 {
		c.ticket = c.b.opener.request()
		return false
	}
	if !c.b.opener.passed(c.ticket) && !stopping {
		return false
	}
	// The opener has done what can be done. It may have done it since the look above.
	c.ticket = 0
	if c.putsPossible() || c.nextForPuts() {
		return c.putsPossible()
	}
	c.j.mu.Lock()
	c.j.full = true
	c.j.mu.Unlock()
	c.update()
	c.failQueued()
	c.b.opener.kick() // to ask for cuts, should it not have
	return false
}

// nextForPuts tells whether a slot is prepared that puts may have.
func (c *committer) nextForPuts() bool {
	c.j.mu.Lock()
	ready := c.j.prepared != nil
	c.j.mu.Unlock()
	return ready && c.j.outlook(c.l) >= 2
}

// failQueued refuses the calls that are queued.
func (c *committer) failQueued() {
	c.mu.Lock()
	q := c.queue
	c.queue, c.queued = nil, 0
	r := c.refuse
	if r == nil { // room was made between the decision and now
		c.queue, c.queued = q, queuedBytes(q)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	if len(q) == 0 {
		return
	}
	g := &group{done: make(chan struct{}), requests: q}
	for _, q := range g.requests {
		err := *r
		q.err = &err
	}
	c.answer(g)
}

func queuedBytes(q []*request) (n int64) {
	for _, r := range q {
		n += r.size
	}
	return n
}

// certain queues the ops again that were in doubt: a new slot says that the group which could not be stored
// is void. Packs and runs that it named may go.
func (c *committer) certain() {
	c.mu.Lock()
	c.ops = append(c.doubtful, c.ops...)
	c.doubtful = nil
	c.mu.Unlock()
	c.b.packs.certain()
	c.b.runs.certain()
}

// failDoubtful ends the process's part in ops that are in doubt: the next start finds out.
func (c *committer) failDoubtful() {
	c.mu.Lock()
	ops := c.doubtful
	c.doubtful = nil
	c.mu.Unlock()
	for _, o := range ops {
		o.err = ErrClosed
		close(o.done)
	}
}

// failQueue refuses calls and ops while nothing can be written.
func (c *committer) failQueue() {
	c.failQueued()
	c.mu.Lock()
	ops := c.ops
	c.ops = nil
	c.mu.Unlock()
	for _, o := range ops {
		o.err = ErrFailing
		close(o.done)
	}
}

// seal fills the headers in, for a group that will stand at offset off of a segment.
func (c *committer) seal(g *group, s *segment, off int64) {
	c.j.mu.Lock()
	durable := c.j.durable
	c.j.group++
	number := c.j.group
	c.j.mu.Unlock()
	for i := range g.frames {
		f := &g.frames[i]
		f.head.LSN = s.lsn(off + f.off)
		f.head.Durable = durable
		f.head.Group = number
		f.head.put(f.at, c.j.id.Salt)
	}
}

// write writes and syncs a group at the end of the active segment.
func (c *committer) write(g *group) error {
	s := c.j.active()
	off := s.end
	c.seal(g, s, off)
	if sabotageAckBeforeSync {
		c.settle(g)
	}
	began := time.Now()
	c.syncing.Store(max(1, int64(began.Sub(c.started))))
	defer c.syncing.Store(0)
	n, err := s.slot.file.WritevAt(g.bufs, off)
	if err == nil && n != g.size {
		err = fmt.Errorf("bug: wrote %d of %d bytes", n, g.size)
	}
	if err != nil {
		return fmt.Errorf("write %d bytes at %d of slot %q: %w", g.size, off, s.slot.name, err)
	}
	CrashPoint("group-written")
	synced := time.Now()
	if err := s.slot.file.Datasync(); err != nil {
		if sabotageRetrySync && s.slot.file.Datasync() == nil {
			return nil
		}
		return fmt.Errorf("sync slot %q: %w", s.slot.name, err)
	}
	now := time.Now()
	if took := now.Sub(began); c.recent == 0 {
		c.recent = took
	} else {
		c.recent += (took - c.recent) / 8
	}
	if c.observed != nil {
		c.observed(now.Sub(synced))
	}
	return nil
}

// commit makes a group durable and tells everybody. A write that fails closes the segment for good; the
// group is then written once more, in a new slot.
func (c *committer) commit(g *group) {
	err := c.write(g)
	if err != nil {
		c.log.Error("a write to the journal failed; its slot is abandoned", "err", err)
		c.abandon()
		if c.openNext(); !c.failing() {
			if err = c.write(g); err != nil {
				c.log.Error("the journal failed in a new slot too; nothing is accepted until one works", "err", err)
				c.abandon()
				c.fail()
			}
		}
	}
	if err != nil {
		c.undo(g)
		return
	}
	CrashPoint("group-synced")
	c.settle(g)
	c.groups.Add(1)
	c.unmarked.Store(!g.mark)
	if g.mark {
		c.idle.Stop()
	} else {
		c.idle.Reset(markDelay)
	}
}

// settle: the group is durable. The order matters to those who count: the ledger's accounts and the front's
// rows change together.
func (c *committer) settle(g *group) {
	select {
	case <-g.done:
		return // only where a sabotage has answered before
	default:
	}
	s := c.j.active()
	c.l.mu.Lock()
	c.j.mu.Lock()
	s.end += g.size
	c.j.durable = s.lsn(s.end)
	for _, r := range g.requests {
		r.segment = s.number
		s.extend(r.receipt.Incarnation, r.receipt.First, r.receipt.First+uint64(r.call.Batch.Count()), r.size)
	}
	c.j.mu.Unlock()
	c.l.ordinal = g.ordinal
	// In the order of the frames, as recovery will see them.
	for _, o := range g.ops {
		for _, f := range o.frames {
			if err := c.l.apply(f.event); err != nil {
				panic("bug: a frame that was checked before does not apply: " + err.Error())
			}
		}
		if o.applied != nil {
			o.applied()
		}
	}
	for _, f := range g.noted {
		if err := c.l.apply(f.event); err != nil {
			panic("bug: a confirmation does not apply: " + err.Error())
		}
		c.l.landed(f.event)
	}
	for _, r := range g.requests {
		if s := c.l.streams[r.receipt.Incarnation]; s != nil {
			c.l.data(s, r.receipt.First, uint32(r.call.Batch.Count()))
		}
	}
	c.b.front.publish()
	if len(c.l.dirty) > 0 {
		defer c.confirmLater()
	}
	retired, runs := c.l.retired, c.l.retiredRuns
	c.l.retired, c.l.retiredRuns = nil, nil
	c.l.mu.Unlock()
	if len(g.ops) > 0 && c.b.opener.eager.Load() {
		c.b.opener.kick()
	}

	if len(retired) > 0 {
		CrashPoint("commit-durable")
	}
	for _, id := range retired {
		c.b.packs.remove(id)
	}
	for _, id := range runs {
		c.b.runs.remove(id)
	}
	for _, o := range g.ops {
		close(o.done)
	}
	for _, r := range g.requests {
		c.b.space.settle(r.hold)
		r.hold = hold{}
	}
	c.answer(g)
}

// undo: the group could not be stored.
func (c *committer) undo(g *group) {
	if sabotageAckBeforeSync {
		return
	}
	c.b.front.drop()
	for _, f := range g.noted {
		c.l.dropNoted(f.event)
		c.setDue()
	}
	for _, o := range g.ops {
		if o.lasting && !sabotageForgetDoubt {
			o.doubt()
			c.mu.Lock()
			c.doubtful = append(c.doubtful, o)
			c.mu.Unlock()
			continue
		}
		if o.failed != nil {
			o.failed()
		}
		o.err = ErrFailing
		close(o.done)
	}
	for _, r := range g.requests {
		r.adopted = false
		r.err = &record.Refusal{Reason: "failing", Message: "the disk does not take writes at present; try again"}
	}
	c.answer(g)
}

// answer wakes the callers of a group whose fate is decided.
func (c *committer) answer(g *group) {
	for _, r := range g.requests {
		if r.err != nil {
			c.b.space.release(r.hold)
			r.hold = hold{}
		}
		if r.flight != nil {
			c.b.calls.land(r.flight, r)
		}
		if r.sealed != nil && !sabotageAckBeforeSync {
			c.b.sealed.Put(r.sealed)
		}
		r.frame, r.sealed = nil, nil
	}
	close(g.done)
	for _, r := range g.requests {
		r.done <- struct{}{}
	}
	clear(g.requests)
	c.spareQ = g.requests[:0]
}
