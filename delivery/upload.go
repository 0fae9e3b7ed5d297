package delivery

import (
	"container/heap"
	"context"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"hydrant/buffer"
	"hydrant/sinks"
)

const (
	// maxInFlight is the number of objects that may be on their way at a time, all destinations together.
	maxInFlight = 64
	// uploadShare is the part of limits.memory for objects in flight.
	uploadShare = 16
	// maxCharge is the most that one object counts for in flight: a larger one is streamed in parts.
	maxCharge = 16 << 20
)

// uploader sends the objects of manifests that have not ended, whatever stream they belong to and whether
// this process made them or an earlier one. Nothing of it is durable: the buffer is told what is done, and
// says after a restart what is left. Safe for concurrent use.
type uploader struct {
	budget int64         // bytes in flight
	kick   chan struct{} // the dispatcher has something new to look at

	mu       sync.Mutex // guards what follows, and the fields of lanes and tasks
	lanes    []*lane
	turn     int // index of the lane that is asked first
	inFlight int
	charged  int64
}

// lane is the queue of one stream's destination.
type lane struct {
	paused bool
	pace   Pace
	ready  []*task  // due, in the order in which they became so
	later  taskHeap // not due yet

	inFlight int
	window   int       // how many it may have in flight: 1 after a failure, doubled by each success
	open     int       // paced: tasks that have begun and not ended
	failing  time.Time // where streak > 0: when the first of these attempts began
	streak   int       // failures in a row that speak against the destination, not the object
	failed   time.Time // when the last of them began to be counted
	retryAt  time.Time // of the destination
	stored   time.Time // last time that it took something
	loads    loads
}

// task is one object to send.
type task struct {
	batch    *batch
	lane     *lane // set when it is submitted
	object   int
	attempts int
	next     time.Time // not before
	failed   time.Time // when the last attempt failed
	due      time.Time // when it was submitted
	tried    time.Time // when its first attempt began
	open     bool      // it has begun, in a paced lane
	denied   time.Time // since when it alone is refused while others are stored; zero: not so
	moved    bool      // the place that it was made for has been noted, as the stream has another one
	left     bool      // an earlier process may have sent it
	places   []place   // that may have it, as an answer was lost: looked at before it goes anywhere else
	gone     bool      // it has ended
	staged   bool      // of a Finisher: it is stored, and is to be loaded
	stagedAt time.Time // since when
	suspect  bool      // its load failed when it was the only one, in a way that says nothing about objects
	loading  bool
	// seized is closed when the task is somebody's who is not the uploader; nil: nobody wants it.
	seized chan struct{}

	// Of whoever works on it. stagedIn is the sink that it was stored by, refused when a load was first refused for it, and
	// finished says that some load may have taken it. refusal is what the last load said that refused it.
	stagedIn sinks.Sink
	refused  time.Time
	refusal  buffer.Refusal
	finished bool

	ended  bool // its object has; guarded by the stream's mutex, as is the next
	wanted bool // somebody waits for the attempt to end
}

func (t *task) info() *buffer.ObjectInfo { return &t.batch.manifest.Objects[t.object] }

func (t *task) charge() int64 { return min(t.info().Size, maxCharge) }

// outcome is what an attempt means for its lane and task.
type outcome uint8

const (
	done     outcome = iota // the task has ended: stored, replaced or set aside
	givenUp                 // the task has ended, as the destination does not take it in time
	again                   // try again; the destination is well, this object is refused
	unwell                  // try again; this speaks against the destination
	local                   // try again; the destination was not asked
	staged                  // it is stored, and is to be loaded
	shutdown                // the process ends: nothing was learned
)

func newUploader(memory int64) *uploader {
	return &uploader{budget: max(memory/uploadShare, 1), kick: make(chan struct{}, 1)}
}

// newLane returns the lane of a stream.
func (u *uploader) newLane() *lane {
	l := &lane{window: maxInFlight}
	u.mu.Lock()
	u.lanes = append(u.lanes, l)
	u.mu.Unlock()
	return l
}

// dropLane forgets a lane that has nothing left.
func (u *uploader) dropLane(l *lane) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.lanes {
		if u.lanes[i] == l {
			u.lanes = append(u.lanes[:i], u.lanes[i+1:]...)
			return
		}
	}
}

// submit queues tasks.
func (u *uploader) submit(l *lane, tasks []*task) {
	u.queue(l, tasks, func() { l.ready = append(l.ready, tasks...) })
}

// submitFirst queues tasks before all others.
func (u *uploader) submitFirst(l *lane, tasks []*task) {
	u.queue(l, tasks, func() { l.ready = slices.Concat(tasks, l.ready) })
}

func (u *uploader) queue(l *lane, tasks []*task, add func()) {
	u.mu.Lock()
	now := time.Now()
	for _, t := range tasks {
		t.lane, t.due = l, now
	}
	add()
	u.mu.Unlock()
	u.wake()
}

// pause stops a lane; what is in flight ends. Or it starts it again.
func (u *uploader) pause(l *lane, paused bool) {
	u.mu.Lock()
	l.paused = paused
	u.mu.Unlock()
	u.wake()
}

// hurry makes everything in a lane due now: somebody has reason to believe that it will work.
func (u *uploader) hurry(l *lane) {
	u.mu.Lock()
	l.retryAt = time.Time{}
	l.hurry()
	l.loads.hurryAll()
	u.mu.Unlock()
	u.wake()
}

func (u *uploader) wake() {
	select {
	case u.kick <- struct{}{}:
	default:
	}
}

// failing tells whether the last attempts of a lane speak against its destination.
func (u *uploader) failing(l *lane) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return l.streak > 0 || l.loads.streak > 0
}

// run sends, and has loaded what is stored, until ctx ends and the attempts under way have returned.
func (u *uploader) run(ctx context.Context, attempt func(context.Context, *task) (outcome, time.Duration), load func(context.Context, []*task) []loaded) {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		starts, wake := u.pick(now)
		for _, s := range starts {
			wg.Go(func() {
				began := time.Now()
				result, after := attempt(ctx, s.task)
				u.finish(s, result, began, after)
			})
		}
		batches, soon := u.pickLoads(now)
		for _, b := range batches {
			wg.Go(func() { u.finishLoad(b, load(ctx, b.tasks)) })
		}
		if wake.IsZero() || !soon.IsZero() && soon.Before(wake) {
			wake = soon
		}
		if wake.IsZero() {
			wake = now.Add(time.Hour)
		}
		timer.Reset(time.Until(wake))
		select {
		case <-u.kick:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// start is a task that has got a slot.
type start struct {
	lane *lane
	task *task
}

// pick gives out the free slots, one for each lane in turn, and says when to ask again if nothing happens.
func (u *uploader) pick(now time.Time) (starts []start, wake time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	sooner := func(t time.Time) {
		if wake.IsZero() || t.Before(wake) {
			wake = t
		}
	}
	for given := true; given && u.inFlight < maxInFlight; {
		given = false
		for i := range u.lanes {
			if u.inFlight >= maxInFlight {
				break
			}
			l := u.lanes[(u.turn+i)%len(u.lanes)]
			l.promote(now)
			if l.paused || len(l.ready) == 0 || !u.mayStart(l) {
				continue
			}
			if l.streak > 0 && now.Before(l.retryAt) {
				sooner(l.retryAt)
				continue
			}
			t := l.ready[0]
			if !l.hasTurn(t) {
				continue
			}
			if u.inFlight > 0 && u.charged+t.charge() > u.budget {
				// Wait for bytes, and let nobody pass: a large object would starve behind small ones.
				u.turn = (u.turn + i) % len(u.lanes)
				return starts, wake
			}
			l.ready[0] = nil
			if l.ready = l.ready[1:]; len(l.ready) == 0 {
				l.ready = nil
			}
			l.begin(t)
			l.inFlight++
			u.inFlight++
			u.charged += t.charge()
			starts = append(starts, start{lane: l, task: t})
			given = true
		}
	}
	if len(u.lanes) > 0 {
		u.turn = (u.turn + 1) % len(u.lanes)
	}
	if u.inFlight >= maxInFlight {
		return starts, time.Time{} // whatever is due, it is the end of an attempt that makes room for it
	}
	for _, l := range u.lanes {
		if !l.paused && len(l.later) > 0 {
			sooner(l.later[0].next)
		}
	}
	return starts, wake
}

// mayStart tells whether a lane's share has room: half of what the others leave, and no more than its
// window, which is a single probe while its destination fails.
func (u *uploader) mayStart(l *lane) bool {
	if sabotageAllSlots {
		return true
	}
	others := u.inFlight - l.inFlight
	return l.inFlight < min(l.window, max((maxInFlight-others)/2, 1))
}

// finish takes back a slot. after is the least time to wait before the next attempt.
func (u *uploader) finish(s start, result outcome, began time.Time, after time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	defer u.wake()
	l, t, now := s.lane, s.task, time.Now()
	l.inFlight--
	u.inFlight--
	u.charged -= t.charge()
	switch result {
	case shutdown:
		if !t.hand() {
			l.ready = append(l.ready, t) // for nobody: the dispatcher has stopped
		}
		return
	case unwell:
		// Those that were under way when the first one failed tell nothing new.
		if began.After(l.failed) || l.streak == 0 {
			if l.streak++; l.streak == 1 {
				l.failing = began
			}
			l.failed = now
			if !l.paced() {
				l.retryAt = now.Add(max(backoff(l.streak, retryBase, retryCap), after))
			}
		}
		if !l.paced() {
			l.window = 1
		}
		t.denied = time.Time{} // it was not refused alone all the time
	case done, again, staged:
		l.answered(now, result != again)
	case local, givenUp:
	}
	if result == staged {
		l.end(t)
		u.stage(l, t)
		return
	}
	if result == done || result == givenUp {
		l.end(t)
		t.gone = true
		t.hand()
		return
	}
	t.failed = now
	if t.hand() {
		return
	}
	t.next = l.nextAttempt(t, now, after)
	heap.Push(&l.later, t)
}

// deniedFor tells what a refusal that speaks for the whole destination is worth. alone: it is about this one
// object, as others were stored since it was last refused. known: that was so before, so that it says
// nothing about the destination now. d is for how long.
func (u *uploader) deniedFor(l *lane, t *task, now time.Time) (d time.Duration, alone, known bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	alone = !t.failed.IsZero() && l.stored.After(t.failed)
	if alone && t.denied.IsZero() {
		t.denied = now
	}
	if t.denied.IsZero() {
		return 0, false, false
	}
	return now.Sub(t.denied), alone, true
}

// answered notes that the destination is there.
func (l *lane) answered(now time.Time, stored bool) {
	if stored {
		l.stored = now
	}
	// After a real outage everything that failed meanwhile is due. Not after a single failure: an object
	// that is refused alone would be tried again after each success of another.
	if l.streak >= 3 {
		l.hurry()
	}
	l.streak, l.retryAt = 0, time.Time{}
	l.window = min(l.window*2, l.most())
}

func (l *lane) hurry() {
	for _, t := range l.later {
		t.next = time.Time{}
	}
	heap.Init(&l.later)
}

// promote moves tasks that are due.
func (l *lane) promote(now time.Time) {
	if l.paced() {
		l.promoteFirst(now)
		return
	}
	for len(l.later) > 0 && !now.Before(l.later[0].next) {
		l.ready = append(l.ready, heap.Pop(&l.later).(*task))
	}
}

const (
	retryBase = 200 * time.Millisecond
	retryCap  = 30 * time.Second
)

// backoff is the time to wait after the n-th failure in a row: base doubled each time up to limit, and
// somewhere in the upper half of that, so that many do not come back together.
func backoff(n int, base, limit time.Duration) time.Duration {
	d := limit
	if n < 1 {
		n = 1
	}
	if n <= 30 && base<<(n-1) < limit {
		d = base << (n - 1)
	}
	// Like every other random choice of this package, from the one source that a test can make predictable.
	var raw [8]byte
	rand.Read(raw[:]) // never fails
	return d/2 + time.Duration(binary.LittleEndian.Uint64(raw[:])%uint64(d/2+1))
}

// taskHeap orders by next.
type taskHeap []*task

func (h taskHeap) Len() int           { return len(h) }
func (h taskHeap) Less(i, j int) bool { return h[i].next.Before(h[j].next) }
func (h taskHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *taskHeap) Push(x any)        { *h = append(*h, x.(*task)) }
func (h *taskHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return t
}
