package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing/synctest"
	"time"

	"hydrant/buffer"
	"hydrant/buffer/forgetfs"
	"hydrant/delivery"
	"hydrant/record"
)

// life is the driver of a world: it does what a schedule drawn from the seed says, brings processes back
// after they died, and ends with everything healed and delivered.
type life struct {
	w      *world
	r      *rand.Rand
	actors sync.WaitGroup // what steers streams beside the driver
	places int
}

// live runs a whole life inside a bubble and returns what was violated, "" for nothing.
func (w *world) live() string {
	l := &life{w: w, r: rand.New(rand.NewPCG(w.seed, 0x11fe))}
	for i, name := range w.names() {
		place := fmt.Sprintf("b%d", i)
		if i > 0 && !w.shape.floods && l.r.IntN(4) == 0 {
			place = "b0"
		}
		w.declare(name, l.draw(name, place))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	l.revive(false)
	for i, name := range w.names() {
		for j := range 1 + l.r.IntN(2) {
			clients.Go(func() { w.client(ctx, w.seed, name, 10*i+j) })
		}
	}
	if w.shape.floods {
		w.store.setWeather(w.store.place("b0"), silent)
	}
	schedule, over := context.WithCancel(ctx)
	defer over()
	if w.reloads() {
		l.act(func() { w.operate(schedule) })
	}
	for range w.shape.steps {
		if w.failed() {
			break
		}
		l.rest(time.Duration(l.r.ExpFloat64() * float64(w.shape.pace)))
		if p := w.running(); p != nil {
			w.checkStatus(p)
		}
		l.step()
	}
	over()
	if !w.failed() {
		l.heal()
		clients.Wait()
		l.actors.Wait()
		l.finish()
	}
	cancel()
	l.stop(0)
	clients.Wait()
	l.actors.Wait()
	w.store.late.Wait()
	return w.report()
}

// draw makes a new revision for a stream.
func (l *life) draw(stream, place string) *spec {
	l.w.mu.Lock()
	l.w.revs++
	rev := l.w.revs
	l.w.mu.Unlock()
	s := l.w.shape.draw(l.r, rev, place)
	s.stream = stream
	return s
}

// declare sets what the configuration says of a stream; nil takes it away.
func (w *world) declare(name string, s *spec) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s == nil {
		delete(w.declared, name)
		delete(w.paused, name) // one that is deleted drains
		w.gen[name]++
		return
	}
	w.declared[name] = s
}

// rest lets time pass. When the process dies it is brought back, and the rest is over.
func (l *life) rest(d time.Duration) {
	p := l.w.running()
	if p == nil {
		l.revive(true)
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.killed:
		l.revive(true)
	}
}

// stop ends the process in order, with some time for what waits.
func (l *life) stop(drain time.Duration) {
	p := l.w.last
	if p == nil {
		return
	}
	l.w.last = nil
	l.w.turmoil.Add(1)
	if drain > 0 && !p.dead() {
		ctx, cancel := context.WithTimeout(context.Background(), drain)
		p.m.Drain(ctx)
		cancel()
	}
	began := l.w.since()
	l.w.trace.note("stop", "", int64(p.number), int64(drain))
	if err := p.end(); err != nil && !p.dead() {
		l.w.mayFail(p.disk, "stop", began, err)
	}
	synctest.Wait()
	if !p.dead() {
		l.w.mu.Lock()
		l.w.crashed = l.w.since()
		l.w.mu.Unlock()
	}
}

// revive brings a process up, whatever it takes. The disk may be that of a dead one.
func (l *life) revive(after bool) {
	w := l.w
	l.stop(0)
	for try := 0; ; try++ {
		w.mu.Lock()
		d := w.disk
		w.mu.Unlock()
		if d.fs.Dead() {
			d = l.image(d)
		} else if after && try == 0 && l.r.IntN(2) == 0 {
			d = d.anew(d.fs, l.r.Uint64())
		}
		w.mu.Lock()
		w.disk = d
		w.mu.Unlock()
		if after {
			l.downtime()
		}
		if try > 2 && d.isMoody() && l.r.IntN(2) == 0 || try > 6 {
			d.setMood(well)
		}
		if try < 3 && after && l.r.IntN(4) == 0 {
			d.crashIn(1 + l.r.Int64N(50))
		}
		if w.start(l.r.Uint64()) {
			if l.r.IntN(3) > 0 {
				d.crashIn(1 << 60) // else the crash that was set for the start comes later, if it has not come
			}
			return
		}
		if w.failed() {
			return
		}
		if try > 12 {
			w.violated("no process comes up")
			return
		}
	}
}

// image is the disk after the power came back, or after the process was killed and the machine was not.
func (l *life) image(d *disk) *disk {
	seed := l.r.Uint64()
	var fs *forgetfs.FS
	kind := l.r.IntN(6)
	switch kind {
	case 0, 1:
		fs = d.fs.Fork()
	case 2:
		fs = d.fs.Image(forgetfs.None)
	case 3:
		fs = d.fs.Image(forgetfs.All)
	default:
		fs = d.fs.Image(forgetfs.Random(seed))
	}
	l.w.trace.note("image", "", int64(kind), 0)
	n := d.anew(fs, seed)
	if l.r.IntN(2) == 0 {
		n.setMood(well)
	}
	return n
}

// downtime is the time until somebody starts the process again, in which clocks may be set.
func (l *life) downtime() {
	time.Sleep(time.Duration(l.r.Int64N(int64(5 * time.Second))))
	if l.w.shape.clocks && l.r.IntN(4) == 0 {
		l.setClock()
	}
}

// setClock sets the wall clock by minutes to hours, to either side.
func (l *life) setClock() {
	by := time.Duration(l.r.Int64N(int64(6*time.Hour))) - 3*time.Hour
	switch l.r.IntN(4) {
	case 0:
		by /= 1000
	case 1:
		by = by / time.Hour * time.Hour
	}
	l.w.offset.Add(int64(by))
	l.w.mu.Lock()
	l.w.jumps = append(l.w.jumps, l.w.since())
	l.w.mu.Unlock()
	l.w.trace.note("clock", by.String(), 0, 0)
}

// act does something beside the driver that may take as long as the disk does.
func (l *life) act(f func()) { l.actors.Go(f) }

// step does one thing of the schedule.
func (l *life) step() {
	w, r, s := l.w, l.r, &l.w.shape
	p := w.running()
	if p == nil {
		return
	}
	names := w.names()
	name := names[r.IntN(len(names))]
	kind := r.IntN(20)
	if s.floods {
		// One destination is silent for good, and many objects wait for it. All that happens is that others ask
		// for their own.
		kind, name = 11, names[1]
	}
	w.trace.note("step", name, int64(kind), 0)
	if p.disk.isMoody() && r.IntN(2) == 0 {
		p.disk.setMood(well)
	}
	switch kind {
	case 0, 1:
		p.disk.kill()
	case 2, 3, 4:
		p.disk.crashIn(1 + r.Int64N(80))
	case 5, 6, 7:
		t := []trigger{afterLostAnswer, afterAnswer, afterAck}[r.IntN(3)]
		wait := time.Duration(0)
		if r.IntN(2) == 0 {
			wait = time.Duration(r.Int64N(int64(150 * time.Millisecond)))
		}
		w.mu.Lock()
		w.armed, w.armedFor = t, wait
		w.mu.Unlock()
	case 8:
		l.stop([]time.Duration{0, 0, 3 * time.Second, 25 * time.Second}[r.IntN(4)])
		l.revive(true)
	case 9, 10:
		l.act(func() { w.steer(p, name, kind == 9) })
	case 11, 12, 13:
		l.act(func() { w.flush(p, name) })
	case 14, 15:
		l.weather()
	case 16:
		if s.sickness {
			p.disk.setMood([]mood{well, sick, full, stalled}[r.IntN(4)])
		}
	case 17:
		if s.clocks {
			l.setClock()
		}
	case 18, 19:
		l.change(p, name)
	}
}

// weather changes at one place.
func (l *life) weather() {
	w, r := l.w, l.r
	n := r.IntN(w.shape.streams)
	p := w.store.place(fmt.Sprintf("b%d", n))
	if w.shape.denials && r.IntN(2) == 0 {
		w.store.mu.Lock()
		p.denied, p.blind = true, r.IntN(2) == 0
		w.store.mu.Unlock()
		w.turmoil.Add(1)
		if r.IntN(2) == 0 {
			l.rest(time.Duration(r.Int64N(int64(40 * time.Minute))))
		}
		return
	}
	w.store.setWeather(p, []weather{fair, fair, rough, rough, down, refusing, silent}[r.IntN(7)])
	w.turmoil.Add(1)
}

// change gives a stream another configuration, takes it away, or brings it back.
func (l *life) change(p *process, name string) {
	w, r, s := l.w, l.r, &l.w.shape
	w.mu.Lock()
	old := w.declared[name]
	w.mu.Unlock()
	switch {
	case old == nil:
		w.declare(name, l.draw(name, fmt.Sprintf("b%d", r.IntN(s.streams))))
	case s.removals && r.IntN(2) == 0:
		w.declare(name, nil)
	case s.changes:
		place := old.Place
		if s.moves && r.IntN(2) == 0 {
			l.places++
			place = fmt.Sprintf("m%d", l.places)
			if r.IntN(2) == 0 {
				place = fmt.Sprintf("b%d", r.IntN(s.streams))
			}
		}
		w.declare(name, l.draw(name, place))
	default:
		return
	}
	l.act(func() { w.apply(p) })
}

// apply brings the configuration to a process.
func (w *world) apply(p *process) {
	w.lock()
	defer w.unlock()
	w.turmoil.Add(1)
	w.mu.Lock()
	declared := w.declaredLocked()
	w.mu.Unlock()
	began := w.since()
	err := p.m.Apply(declared)
	w.turmoil.Add(1)
	w.trace.note("applied", fmt.Sprint(err), int64(len(declared)), int64(p.number))
	switch {
	case err == nil:
		specs := map[string][]byte{}
		for _, d := range declared {
			specs[d.Name] = d.Spec
		}
		w.checkApplied(p, specs)
	case w.running() == p && !errors.Is(err, buffer.ErrClosed) && !errors.Is(err, buffer.ErrFailing):
		w.mayFail(p.disk, "Apply", began, err)
	}
}

// steer pauses or resumes a stream.
func (w *world) steer(p *process, name string, pause bool) {
	w.lock()
	defer w.unlock()
	w.turmoil.Add(1)
	defer w.turmoil.Add(1)
	began := w.since()
	var err error
	if pause {
		w.mu.Lock()
		gen := w.gen[name]
		w.mu.Unlock()
		if err = p.m.Pause(name); err == nil && !p.dead() {
			w.mu.Lock()
			if w.gen[name] == gen && w.declared[name] != nil { // else it may be taken away this moment, and then it drains
				w.paused[name] = w.since()
			}
			w.mu.Unlock()
		}
	} else {
		w.mu.Lock()
		delete(w.paused, name)
		w.mu.Unlock()
		err = p.m.Resume(name)
	}
	w.trace.note("steered", name+" "+fmt.Sprint(err), int64(p.number), 0)
	w.steered(p, "Pause or Resume", began, err)
}

// steered judges the error of something that an operator began to do at began.
func (w *world) steered(p *process, what string, began time.Duration, err error) {
	var missing *record.NotFound
	switch {
	case err == nil, errors.As(err, &missing), errors.Is(err, delivery.ErrDeleting), errors.Is(err, delivery.ErrPaused):
	case w.running() == p && !errors.Is(err, buffer.ErrClosed) && !errors.Is(err, buffer.ErrFailing) && !errors.Is(err, context.DeadlineExceeded):
		w.mayFail(p.disk, what, began, err)
	}
}

// flushWithin is how long a flush may take where nothing stands in its way.
const flushWithin = 5 * time.Minute

// flush asks for everything that was accepted, and checks that it is there when the answer is yes.
func (w *world) flush(p *process, name string) {
	before := w.log.acknowledged(name)
	turmoil, healthy := w.turmoil.Load(), w.healthy(p, name)
	ctx, cancel := context.WithTimeout(context.Background(), flushWithin)
	defer cancel()
	began := w.since()
	left, err := p.m.Flush(ctx, name)
	w.trace.note("flushed", name+" "+fmt.Sprint(err), int64(p.number), left.Records)
	switch {
	case err == nil:
		w.log.mu.Lock()
		for _, rec := range before {
			if rec.found == "" && !w.decided(rec, "Dropped") || w.shape.copies && rec.copy == "" {
				w.violated("a flush of %q is done, but record %d (call at %v) is not there", name, rec.seq(), rec.call.begun)
				break
			}
		}
		w.log.mu.Unlock()
	case errors.Is(err, context.DeadlineExceeded):
		if healthy && w.turmoil.Load() == turmoil && w.healthy(p, name) {
			w.violated("a flush of %q took more than %v with nothing in its way: %+v", name, flushWithin, left)
		}
	default:
		w.steered(p, "Flush", began, err)
	}
}

// heal makes everything well for good.
func (l *life) heal() {
	w := l.w
	w.trace.note("heal", "", 0, 0)
	w.healed.Store(true)
	w.mu.Lock()
	w.armed = never
	w.mu.Unlock()
	w.store.heal()
	time.Sleep(200 * time.Millisecond) // a crash that was triggered before may be on its way
	for w.running() == nil && !w.failed() {
		l.revive(false)
	}
	w.disk.crashIn(1 << 60)
	w.disk.setMood(well)
	w.turmoil.Add(1)
}

// drainWithin is how long it takes at most to deliver everything once all is well: twice the longest wait
// before an object that is refused alone is given up, and the longest interval between attempts.
const drainWithin = 45 * time.Minute

// finish has everything delivered and judges it.
func (l *life) finish() {
	w := l.w
	p := l.w.last
	if p == nil || p.dead() {
		if !w.failed() {
			w.violated("bug of the simulation: nothing runs after all was healed")
		}
		return
	}
	time.Sleep(6 * time.Second) // a failing journal tries another slot every five seconds
	w.apply(p)
	for _, name := range w.names() {
		w.steer(p, name, false)
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainWithin)
	left, err := p.m.Drain(ctx)
	cancel()
	if err != nil {
		w.violated("everything is well, and after %v it is not delivered: %v (%+v)", drainWithin, err, left)
		return
	}
	time.Sleep(time.Second)
	l.empty(p, "after the drain")
	l.stop(0)
	if !w.start(l.r.Uint64()) {
		return
	}
	time.Sleep(time.Second)
	l.empty(w.last, "after a start that followed the drain")
	w.verdict()
}

// empty checks that nothing is left.
func (l *life) empty(p *process, when string) {
	w := l.w
	if n := len(p.b.Outstanding()); n > 0 {
		w.violated("%d manifests have not ended %s", n, when)
	}
	// A file that a bad disk did not let go is left for the next start.
	if packs := p.disk.fs.Files(dataDir + "/packs"); len(packs) > 0 && w.lastFault.Load() < p.began {
		w.violated("packs are left %s: %v", when, packs)
	}
	if runs := p.disk.fs.Files(dataDir + "/runs"); len(runs) > 0 && w.lastFault.Load() < p.began {
		w.violated("runs are left %s: %v", when, runs)
	}
	w.checkStatus(p)
	for _, s := range p.m.Streams() {
		if s.BacklogRecords != 0 || s.Accepted != s.Delivered+s.Failed+s.Dropped {
			w.violated("stream %q has a backlog %s: %+v", s.Name, when, s)
		}
		if b := s.Backup; (b != nil) != w.shape.copies || b != nil && b.BacklogRecords != 0 {
			w.violated("backup of stream %q %s: %+v", s.Name, when, b)
		}
		if s.State == "deleting" {
			w.violated("stream %q is empty and not gone %s", s.Name, when)
		}
	}
}
