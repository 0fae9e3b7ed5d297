package delivery

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"hydrant/buffer"
	"hydrant/transform/hook"
)

const (
	// maxShrinks is how often a claim is halved when the disk has no room for its packs, before its rows
	// are given back to wait for better days.
	maxShrinks = 8
	// maxPoison is the number of rows of one claim that may break the encoder; each costs encoding the
	// claim again.
	maxPoison = 64
	cutBase   = time.Second
	cutCap    = 30 * time.Second
)

// loop turns one stream's rows into manifests. All its fields belong to its goroutine.
type loop struct {
	s       *stream
	workers *workers
	depth   int          // claims, or ranges of keys, that may be encoded at a time
	budget  *hook.Budget // of functions; nil: none
	shares  *shares      // of what routed streams take together
	retire  func() bool  // tries to end the stream; true when it is gone

	ver      *version
	tally    *tally // nil: to be counted from the oldest waiting row
	all      bool   // it counts everything into one cut
	marks    marks
	seen     bool    // marks know what waited at the start
	configTo uint64  // rows below waited when the version changed
	jobs     []*job  // oldest first; their manifests are made in this order
	ratio    float64 // written bytes for each byte of Data, so far
	gain     float64 // bytes after transform for each byte of Data, so far
	failures int     // cuts in a row that failed
	retryAt  time.Time
	spread   float64 // partitions for each byte of Data, so far; < 0: not known
	guide    guide
	routes   routes
	spills   spills
	points   points
	marking  marking
	wg       sync.WaitGroup
}

func newLoop(s *stream, m *Manager, retire func() bool) *loop {
	return &loop{
		s: s, workers: m.workers, depth: m.workers.n + 1, budget: m.hooks, shares: m.shares, retire: retire, ratio: 1, gain: 1, spread: -1,
		spills: spills{done: make(chan error, 1)},
	}
}

// run works until ctx ends or the stream is gone. Claims without a manifest are given back: their rows are
// still in the buffer.
func (l *loop) run(ctx context.Context) {
	defer l.abandon()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		if !l.finish(ctx) {
			return // ctx has ended
		}
		if l.s.isGone() {
			return
		}
		wake := l.advance(ctx, time.Now())
		if l.retire() {
			return
		}
		if wake.IsZero() {
			wake = time.Now().Add(time.Hour)
		}
		timer.Reset(time.Until(wake))
		select {
		case <-ctx.Done():
		case <-l.s.consumer.Changed():
		case <-l.s.poke: // by jobs that are done, too
		case <-timer.C:
		}
	}
}

// advance closes what is due and says when to look again if nothing happens.
func (l *loop) advance(ctx context.Context, now time.Time) (wake time.Time) {
	l.adopt()
	if l.s.state() == buffer.Discarding {
		return l.discard(now)
	}
	wake = l.spill(ctx, now)
	for _, more := range []func(context.Context, time.Time) time.Time{l.sweep, l.claims, l.mark} {
		if at := more(ctx, now); !at.IsZero() && (wake.IsZero() || at.Before(wake)) {
			wake = at
		}
	}
	return wake
}

// claims takes what waits where that is due.
func (l *loop) claims(ctx context.Context, now time.Time) (wake time.Time) {
	if l.ver.pipe != nil && l.ver.pipe.Routed() {
		return l.route(ctx, now)
	}
	for {
		if l.s.state() == buffer.Discarding {
			l.s.wake()
			return time.Time{}
		}
		if l.adopt() {
			return l.claims(ctx, now)
		}
		w := l.s.consumer.Waiting()
		sit := l.situation(w, now)
		if l.ver.pipe == nil || len(l.jobs) >= l.depth {
			return time.Time{} // a new version, or the oldest job, wakes the loop
		}
		if now.Before(l.retryAt) {
			return l.retryAt
		}
		l.count(w, sit.crowded)
		v := decide(l.tally, sit)
		if v.close == "" {
			return v.wake
		}
		if !l.claim(ctx, v) {
			return time.Time{}
		}
	}
}

// adopt goes over to the stream's version where that has changed, and tells whether it has. What has no frame yet is
// raw: it is cut under the new version, in an epoch of its own, as a frame may name only a version that the buffer
// keeps, and it keeps none for the sake of a cut that may come. What is in routed runs finishes under theirs.
func (l *loop) adopt() bool {
	l.s.mu.Lock()
	ver := l.s.cur
	l.s.mu.Unlock()
	if ver == l.ver {
		return false
	}
	l.giveBack(l.jobs, "")
	l.jobs, l.tally = nil, nil
	if l.ver == nil {
		l.remember(ver)
		l.points.add(l.s.consumer.Waiting().First, l.s.consumer.Watermark())
	} else if w := l.s.consumer.Waiting(); w.First != w.Next {
		l.configTo = w.Next // the change closes the epoch
	}
	l.routes.change(ver)
	l.ver = ver
	return true
}

// situation looks at the stream.
func (l *loop) situation(w buffer.Waiting, now time.Time) situation {
	s := l.s
	s.mu.Lock()
	state, ending := s.def.State, s.ending
	sit := situation{now: now, waiting: w, flushTo: s.flushTo, why: s.flushWhy, paused: state == buffer.Paused, backlog: len(s.batches)}
	s.mu.Unlock()
	if l.ver.pipe != nil {
		sit.interval = max(l.ver.pipe.Interval, minInterval)
		sit.fileSize = l.ver.pipe.FileSize > 0
	}
	var age time.Duration
	if !l.seen && w.First != w.Next {
		// These rows were there before this process. How long they waited is told by the wall clock, which
		// may have been set meanwhile: no sooner than now, no later than a whole interval.
		age = min(max(now.Sub(time.UnixMicro(w.Oldest)), 0), sit.interval)
	}
	l.seen = true
	l.marks.observe(w, now, age, sit.interval)
	sit.since = l.marks.since(w.First, now)
	sit.pressure = l.spills.pressed(s.consumer.Pressure())
	sit.crowded = sit.backlog >= crowdedOutstanding && s.store.Crowded()
	switch {
	case state == buffer.Deleting || ending:
		if sit.flushTo, sit.why = w.Next, reasonDelete; state != buffer.Deleting {
			sit.why = reasonConfig
		}
	case sit.flushTo <= w.First && l.configTo > w.First:
		sit.flushTo, sit.why = l.configTo, reasonConfig
	}
	return sit
}

// count brings the tally up to what waits; all is whether one cut is to take everything, however many objects
// that makes.
func (l *loop) count(w buffer.Waiting, all bool) {
	if l.tally == nil || l.all != all {
		limit := l.objectBytes()
		if all {
			limit = math.MaxInt64
		}
		l.tally, l.all = newTally(l.ver.pipe, limit, w.First), all
	}
	if l.tally.full {
		return
	}
	for c := range l.s.consumer.Chunks(l.tally.next) {
		if !l.tally.add(c) {
			break
		}
	}
	l.s.mu.Lock()
	l.s.keys = len(l.tally.routes)
	l.s.mu.Unlock()
}

// objectBytes is how many bytes of Data fill an object.
func (l *loop) objectBytes() int64 {
	p := l.ver.pipe
	switch {
	case p.FileSize > 0:
		return max(int64(float64(p.FileSize)/l.ratio), 1)
	case p.Transform != nil:
		return max(int64(float64(p.Size)/min(max(l.gain, minGain), maxGain)), 1)
	}
	return p.Size
}

// Bounds of what a transform is taken to make of a byte: one that drops nearly everything must not let rows pile up without
// end before an object of its usual size is there.
const (
	minGain = 1.0 / 16
	maxGain = 64
)

// claim takes the rows of a verdict and starts a job on them. It returns false where nothing was there.
func (l *loop) claim(ctx context.Context, v verdict) bool {
	s, t := l.s, l.tally
	l.tally = nil
	j := &job{
		store:     s.store,
		name:      s.name,
		use:       l.ver,
		pipe:      l.ver.pipe,
		version:   l.ver.number,
		reason:    v.close,
		segs:      t.segs,
		routes:    len(t.routes),
		scattered: t.scattered(),
	}
	if sabotageMixVersions && j.version > 1 {
		j.version--
	}
	if l.ver.pipe.FileSize <= 0 {
		j.limit = max(l.ver.pipe.Size, 1)
		if l.ver.pipe.Transform != nil {
			j.limit += j.limit / 4 // the gain is an estimate, and a quarter more is better than a small object after it
		}
	}
	s.mu.Lock() // nobody may see these rows neither waiting nor in work
	if s.cur != l.ver {
		// A version without jobs and batches is closed the moment another is in force.
		s.mu.Unlock()
		return true
	}
	taken := s.consumer.Take(v.next, v.max)
	if taken == nil {
		s.mu.Unlock()
		return false
	}
	j.claim = taken
	j.first, j.next = taken.Range()
	j.bytes = taken.Bytes()
	for row := range taken.Rows() {
		j.oldest = row.Arrived
		break
	}
	s.took(j)
	s.keys = 0
	s.mu.Unlock()
	j.head = l.head(l.ver, s.consumer.NewEpoch())
	l.jobs = append(l.jobs, j)
	l.launch(ctx, j)
	return true
}

// head of a manifest that is going to be made.
func (l *loop) head(v *version, epoch uint64) buffer.ManifestHead {
	return buffer.ManifestHead{ID: l.s.store.NewManifestID(), Incarnation: l.s.incarnation, Consumer: l.s.reader, Version: v.number, Epoch: epoch}
}

// finish makes the frames of the jobs that are ready, in order. It returns false when ctx has ended.
func (l *loop) finish(ctx context.Context) bool {
	for len(l.jobs) > 0 && l.jobs[0].isReady() {
		j := l.jobs[0]
		if ctx.Err() != nil {
			return false
		}
		m, err, current := l.cut(j)
		if !current {
			break // advance goes over to the new version
		}
		if err != nil {
			l.failed(ctx, j, err)
			continue
		}
		j.cancel()
		l.jobs = l.jobs[1:]
		l.failures = 0
		l.learn(j)
		l.marks.prune(j.next)
		if j.kind == routeRows {
			l.routed(j)
		}
		l.s.committed(j, m)
	}
	return l.finishEpochs(ctx)
}

// learn takes from a job how many bytes its rows became.
func (l *loop) learn(j *job) {
	from := j.input
	switch {
	case j.kind == routeRows:
		if j.raw > 0 {
			l.gain = l.gain*3/4 + float64(j.routed)/float64(j.raw)/4
		}
	case j.kind == cutRange && j.pipe.Transform != nil:
		from = j.raw
		if j.raw > 0 {
			l.gain = l.gain*3/4 + float64(j.input)/float64(j.raw)/4
		}
	}
	if from > 0 && j.output > 0 {
		w := 0.25
		if f := j.pipe.FileSize; f > 0 && (j.kind == cutKey || j.kind == sweepKeys) {
			// Small objects are worse compressed, and say little about those that file_size is for.
			w *= min(float64(j.output)/float64(len(j.keys))/float64(f), 1)
		}
		l.ratio = l.ratio*(1-w) + float64(j.output)/float64(from)*w
	}
}

// cut makes a job's frame, unless its version, or the order to discard that it carries out, is not in force any more.
func (l *loop) cut(j *job) (m *buffer.Manifest, err error, current bool) {
	l.s.cutting.Lock()
	defer l.s.cutting.Unlock()
	l.s.mu.Lock()
	current = l.s.cur == j.use && (!j.discards || l.s.def.State == buffer.Discarding)
	l.s.mu.Unlock()
	if !current || j.err != nil {
		return nil, j.err, current
	}
	if j.kind == routeRows && !j.objects {
		if err = l.s.store.Route(j.claim, j.run, j.runHead); err != nil {
			return nil, fmt.Errorf("name a run: %w", err), true
		}
		return nil, nil, true
	}
	j.tried = true
	if m, err = l.s.store.Cut(j.claim, j.packs, j.head); err != nil {
		return nil, fmt.Errorf("make a manifest: %w", err), true
	}
	return m, nil, true
}

// poisoned tries a job again whose encoder broke on a row, without that row.
func (l *loop) poisoned(ctx context.Context, j *job, err error) bool {
	broke, ok := errors.AsType[*encoderPanic](err)
	if !ok || broke.seq == 0 || len(j.poison) >= maxPoison {
		return false
	}
	l.s.alarm("encoder", "encoder broke on a record, which goes to the error output", "seq", broke.seq, "panic", broke.value, "stack", string(broke.stack))
	if j.poison == nil {
		j.poison = map[uint64]string{}
	}
	j.poison[broke.seq] = "the encoder broke: " + fmt.Sprint(broke.value)
	l.launch(ctx, j)
	return true
}

// failed decides what becomes of the oldest job of a claim, which has not become a frame.
func (l *loop) failed(ctx context.Context, j *job, err error) {
	j.cancel()
	j.abortPacks()
	if l.poisoned(ctx, j, err) {
		return
	}
	_, noRoom := errors.AsType[*packError](err)
	if noRoom && j.kind == routeRows && j.run != nil && j.objects {
		j.spilled = true // a run is smaller than objects may be
		l.launch(ctx, j)
		return
	}
	j.abort()
	if errors.Is(err, buffer.ErrEpochFull) {
		l.routes.close(reasonPressure)
	}
	l.giveBack(l.jobs[1:], "")
	l.jobs = l.jobs[:1]
	l.failures++
	l.retryAt = time.Now().Add(backoff(l.failures, cutBase, cutCap))
	l.s.alarm("cut", "records cannot be cut now; they stay where they are", "err", err)
	if noRoom && j.shrinks < maxShrinks {
		// Seal what fits: half of what had been written when the space ended.
		if half := j.first + (j.reach-j.first)/2; half > j.first {
			j.shrinks++
			l.s.mu.Lock()
			j.claim.Trim(half)
			_, j.next = j.claim.Range()
			j.bytes = j.claim.Bytes()
			l.s.cutErr = err.Error()
			l.s.mu.Unlock()
			l.tally, j.tail = nil, false
			l.launch(ctx, j)
			return
		}
	}
	l.giveBack(l.jobs, err.Error())
	l.jobs = nil
}

// giveBack ends jobs without a manifest: newest first, so that what waits stays contiguous.
func (l *loop) giveBack(jobs []*job, why string) {
	for _, j := range jobs {
		j.cancel()
	}
	for i := len(jobs) - 1; i >= 0; i-- {
		j := jobs[i]
		<-j.ready
		j.abort()
		l.s.mu.Lock()
		j.claim.Release()
		l.s.mu.Unlock()
	}
	l.tally = nil
	if len(jobs) > 0 {
		l.s.givenBack(jobs, why)
	}
}

// abandon gives everything back at the end.
func (l *loop) abandon() {
	l.giveBack(l.jobs, "")
	l.jobs = nil
	l.routes.abandon()
	l.wg.Wait()
}
