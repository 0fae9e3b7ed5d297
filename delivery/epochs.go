package delivery

import (
	"context"
	"sync"
	"time"

	"hydrant/buffer"
)

const (
	// routeEvery is how long rows of a routed stream wait for a run, unless its functions want longer batches.
	routeEvery = 10 * time.Second
	// routeBytes of Data make a run, hookBytes where a function has them for a while: they stay claimed meanwhile.
	routeBytes = 64 << 20
	hookBytes  = 24 << 20
	// cutEvery is how often keys are cut that have enough for an object.
	cutEvery = time.Second
	// sweepBytes and sweepKeysMost bound one manifest of a sweep.
	sweepBytes    = 64 << 20
	sweepKeysMost = 1000
	// jobKeys is about how many partitions one route job finds at most, and firstBytes is what it takes before anybody
	// knows how many that are.
	jobKeys    = 1 << 16
	firstBytes = 4 << 20
	// maxCuts is the number of size cuts after which an epoch is closed.
	maxCuts = 4000
)

// shares are what routed streams may take of limits.memory.
type shares struct {
	memory int64
	count  func() int // of routed streams, which takes the lock of each

	mu      sync.Mutex // guards what follows; before those of streams
	counted time.Time
	n       int
}

// streams is how many share. It was counted in the last second, as every loop asks whenever it looks around.
func (s *shares) streams() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.counted.IsZero() || now.Sub(s.counted) >= time.Second {
		s.counted, s.n = now, s.count()
	}
	return int64(max(s.n, 1))
}

// claim is the bytes of Data that a route job takes: all streams together a quarter of the front, which has six parts of
// sixteen.
func (s *shares) claim(hooks bool) int64 {
	most := int64(routeBytes)
	if hooks {
		most = hookBytes
	}
	return min(max(s.memory*6/16/4/s.streams(), 1<<20), most)
}

// run is the bytes that a run may gather before they are written: all streams together three eighths of what
// encoders have, which is four parts of sixteen.
func (s *shares) run() int64 {
	return min(max(s.memory*4/16*3/8/s.streams(), 1<<20), routeBytes)
}

// sweepKeys is the keys of one manifest of a sweep: each is an object, of which the manifest knows about as much as a page has
// bytes while it is sent.
func (s *shares) sweepKeys() int { return int(min(max(s.memory>>19, 2), sweepKeysMost)) }

// routes is what the loop knows of the epochs that have runs.
type routes struct {
	s      *stream
	epochs []*epoch // oldest first; only the last one may be open

	closing string // why the open epoch closes once what is below closeTo has been routed; "": it does not
	closeTo uint64
}

// epoch has routed runs.
type epoch struct {
	number uint64
	use    *version
	n      uint32   // runs
	first  uint64   // of their rows
	ends   []uint64 // after the rows of each run
	since  time.Time
	open   bool   // it takes runs; no sweep has been planned
	why    string // it was closed

	sizes  map[string]int64 // while open: bytes of Data by key, without those of size cuts
	active int              // of them, keys that are not of the error output
	most   int64            // bytes of the key that has most, or had
	full   map[string]bool  // keys with enough for an object
	cuts   int
	cutAt  time.Time

	jobs     []*job // size cuts, then sweeps; their frames are made in this order
	bound    []byte // keys up to it are swept
	walk     *keyWalk
	planned  bool  // a job has the last keys
	bytes    int64 // of a sweep at most
	keys     int
	failures int
	retryAt  time.Time
}

// remember takes over the epochs that an earlier process has left. One that was open, and is of the version in force,
// goes on.
func (l *loop) remember(ver *version) {
	s, r := l.s, &l.routes
	r.s = s
	list := s.consumer.Epochs()
	for i, k := range list {
		s.mu.Lock()
		e := &epoch{number: k.Number, use: s.versionLocked(k.Version), n: uint32(len(k.Runs)), first: k.First, bound: k.Bound, bytes: sweepBytes, keys: l.shares.sweepKeys()}
		s.useLocked(e.use)
		s.mu.Unlock()
		for _, run := range k.Runs {
			e.ends = append(e.ends, run.Next)
		}
		if e.open = !k.Closed && i == len(list)-1 && e.use == ver && ver.pipe != nil && ver.pipe.Routed(); e.open {
			interval := max(ver.pipe.Interval, minInterval)
			now := time.Now()
			e.since = now.Add(-min(max(now.Sub(time.UnixMicro(k.Oldest)), 0), interval))
			if err := l.recount(e); err != nil {
				s.alarm("cut", "runs of an epoch cannot be read; it is closed", "epoch", e.number, "err", err)
				e.open = false
			}
		}
		r.epochs = append(r.epochs, e)
	}
}

// recount finds the keys of an epoch in its runs.
func (l *loop) recount(e *epoch) error {
	r, err := l.s.store.OpenEpoch(l.s.consumer, e.number, e.n)
	if err != nil {
		return err
	}
	defer r.Close()
	e.sizes, e.full, e.active, e.most = map[string]int64{}, map[string]bool{}, 0, 0
	for k, err := range r.Keys(nil) {
		if err != nil {
			return err
		}
		l.grow(e, string(k.Key), k.Bytes)
	}
	return nil
}

// grow notes more rows of a key.
func (l *loop) grow(e *epoch, key string, bytes int64) {
	before, known := e.sizes[key]
	if !known && key[0] != roleError {
		e.active++
	}
	e.sizes[key] = before + bytes
	e.most = max(e.most, before+bytes)
	if before+bytes >= l.fullAt(e.use.pipe, key) {
		e.full[key] = true
	}
}

// fullAt is how many bytes of Data, as they stand in runs, fill an object.
func (l *loop) fullAt(p *Pipeline, key string) int64 {
	if key[0] == roleError {
		return min(errorObjectBytes, max(p.Size, 1))
	}
	if p.FileSize > 0 {
		return max(int64(float64(p.FileSize)/l.ratio), 1)
	}
	return max(p.Size, 1)
}

// last is the open epoch, or nil.
func (r *routes) last() *epoch {
	if n := len(r.epochs); n > 0 && r.epochs[n-1].open {
		return r.epochs[n-1]
	}
	return nil
}

// close closes the open epoch at its last run.
func (r *routes) close(why string) {
	r.closing = ""
	if e := r.last(); e != nil {
		e.open, e.why = false, why
		e.sizes, e.full = nil, nil
	}
}

// change closes the open epoch where it is of another version than the new one.
func (r *routes) change(ver *version) {
	r.closing = ""
	if e := r.last(); e != nil && e.use != ver && !sabotageMixEpochs {
		r.close(reasonConfig)
	}
}

// begins is the first sequence of what closes together, whether it is in runs, on its way, or waits; and when it was first
// seen.
func (l *loop) begins(w buffer.Waiting, now time.Time) (first uint64, since time.Time, some bool) {
	if e := l.routes.last(); e != nil {
		return e.first, e.since, true
	}
	if len(l.jobs) > 0 {
		return l.jobs[0].first, l.jobs[0].since, true
	}
	return w.First, l.marks.since(w.First, now), w.First != w.Next
}

// route gets the rows of a routed stream on: into runs, and to the end of their epoch where that is due.
func (l *loop) route(ctx context.Context, now time.Time) (wake time.Time) {
	r, p := &l.routes, l.ver.pipe
	sooner := func(t time.Time) {
		if wake.IsZero() || t.Before(wake) {
			wake = t
		}
	}
	for {
		w := l.s.consumer.Waiting()
		sit := l.situation(w, now)
		first, since, some := l.begins(w, now)
		if !some {
			return wake
		}
		e := r.last()
		l.s.mu.Lock()
		l.s.keys = 0
		if e != nil {
			l.s.keys = e.active
		}
		l.s.mu.Unlock()
		if r.closing == "" {
			r.closeTo = w.Next
			deadline := since.Add(sit.interval)
			switch {
			case sit.pressure && (w.Bytes >= pressureBytes || e != nil || now.Sub(since) >= pressureAge):
				r.closing = reasonPressure
			case sit.paused:
			case sit.flushTo > first:
				r.closing, r.closeTo = sit.why, min(sit.flushTo, w.Next)
			case sit.crowded || sit.backlog >= maxOutstanding: // neither now nor later: the end of a manifest asks again
			case e != nil && e.cuts >= maxCuts:
				r.closing = reasonPressure
			case e != nil && p.MaxActive > 0 && e.active > p.MaxActive && !p.Hard:
				r.closing = reasonMaxActive
			case !now.Before(deadline):
				r.closing = reasonInterval
			default:
				sooner(deadline)
			}
			if r.closing == "" && sit.pressure {
				sooner(since.Add(pressureAge))
			}
		}
		if len(l.jobs) > 0 {
			return wake // its end wakes the loop
		}
		if now.Before(l.retryAt) {
			sooner(l.retryAt)
			return wake
		}
		if r.closing != "" && (w.First >= r.closeTo || w.First == w.Next) {
			r.close(r.closing)
			if at := l.sweep(ctx, now); !at.IsZero() {
				sooner(at)
			}
			continue
		}
		to := w.Next
		if r.closing == "" {
			seen := l.marks.since(w.First, now)
			if sit.paused || w.First == w.Next {
				return wake
			}
			if due := seen.Add(l.routeEvery()); now.Before(due) && w.Bytes < l.routeBytes() && !l.mayFill(w, now) {
				sooner(due)
				if e != nil && now.Before(e.cutAt.Add(cutEvery)) {
					sooner(e.cutAt.Add(cutEvery)) // a key may be full by then
				}
				return wake
			}
		} else {
			to = r.closeTo
		}
		if !l.claimRoute(ctx, to, now) {
			return wake
		}
	}
}

// routeEvery is how long rows are gathered for a run.
func (l *loop) routeEvery() time.Duration {
	every := routeEvery
	for _, h := range l.ver.pipe.Hooks {
		every = max(every, h.Interval)
	}
	return every
}

// routeBytes is how many bytes of Data a route job takes: fewer where they would lie in very many partitions, since the
// loop knows each of them.
func (l *loop) routeBytes() int64 {
	p := l.ver.pipe
	most := l.shares.claim(len(p.Hooks) > 0)
	switch {
	case p.Scheme == nil:
	case l.spread < 0:
		most = min(most, firstBytes)
	case l.spread > 0:
		keys := jobKeys
		if e := l.routes.last(); p.MaxActive > 0 && !p.Hard { // so that the epoch closes soon after that many are active
			room := p.MaxActive
			if e != nil {
				room -= e.active
			}
			keys = min(keys, max(room, p.MaxActive/16))
		}
		most = min(most, max(int64(float64(keys)/l.spread), 1<<20))
	}
	return most
}

// mayFill tells whether the rows that wait may fill an object, together with those in runs, if they are all of the key
// that has most.
func (l *loop) mayFill(w buffer.Waiting, now time.Time) bool {
	p := l.ver.pipe
	limit, most := l.fullAt(p, string(rune(roleData))), int64(0)
	if e := l.routes.last(); e != nil {
		if now.Before(e.cutAt.Add(cutEvery)) {
			return false
		}
		most = e.most
	}
	if now.Before(l.marks.since(w.First, now).Add(cutEvery)) && float64(w.Bytes)*l.gain < float64(limit) {
		return false // a run for each call would be too many
	}
	return float64(most)+float64(w.Bytes)*min(max(l.gain, minGain), maxGain) >= float64(limit)
}

// claimRoute takes rows below a sequence and has them routed. It returns false where nothing was there.
func (l *loop) claimRoute(ctx context.Context, to uint64, now time.Time) bool {
	s, r := l.s, &l.routes
	j := &job{
		kind: routeRows, store: s.store, book: s.book, name: s.name, use: l.ver, pipe: l.ver.pipe, version: l.ver.number, reason: r.closing,
		epoch: r.last(), memory: l.shares.run(),
	}
	if sabotageMixVersions && j.version > 1 {
		j.version--
	}
	if j.pipe.FileSize <= 0 {
		j.limit = max(j.pipe.Size, 1)
	}
	if j.router = l.routerOf(l.ver); j.router != nil {
		j.mark = l.guide.mark
		if j.pipe.Hard && j.pipe.MaxActive > 0 {
			j.known = map[string]bool{}
			if j.epoch != nil {
				for key := range j.epoch.sizes {
					if key[0] != roleError {
						j.known[key] = true
					}
				}
			}
		}
	}
	most := l.routeBytes()
	s.mu.Lock() // nobody may see these rows neither waiting nor in work
	if s.cur != l.ver {
		s.mu.Unlock()
		s.wake()
		return false
	}
	taken := s.consumer.Take(to, most)
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
	s.mu.Unlock()
	j.since = l.marks.since(j.first, now)
	j.tail = r.closing != "" && j.next >= r.closeTo
	number := uint64(0)
	if j.epoch != nil {
		number = j.epoch.number
	} else {
		number = s.consumer.NewEpoch()
	}
	j.head = l.head(l.ver, number)
	l.jobs = append(l.jobs, j)
	l.launch(ctx, j)
	return true
}

// routed notes that the rows of a claim are in a run, or under a manifest that closed their epoch.
func (l *loop) routed(j *job) {
	r := &l.routes
	if j.router != nil {
		l.guide.mark = j.reached
		l.points.add(j.next, j.runHead.Watermark)
		l.s.mu.Lock()
		l.s.scheme, l.s.mark = j.pipe.Scheme, j.reached
		l.s.mu.Unlock()
	}
	if j.bytes > 0 {
		l.spread = max(l.spread/2, float64(j.sizes.active)/float64(j.bytes))
	}
	if j.objects {
		j.run.Abort() // it has never been a file
		r.closing = ""
		return
	}
	e := j.epoch
	if e == nil {
		e = &epoch{
			number: j.head.Epoch, use: j.use, first: j.first, since: j.since, open: true, sizes: map[string]int64{}, full: map[string]bool{},
			bytes: sweepBytes, keys: l.shares.sweepKeys(),
		}
		l.s.mu.Lock()
		l.s.useLocked(e.use)
		l.s.mu.Unlock()
		r.epochs = append(r.epochs, e)
	}
	e.n++
	e.ends = append(e.ends, j.next)
	for key, n := range j.sizes.all {
		l.grow(e, key, n)
	}
	if j.tail && r.closing != "" {
		r.close(r.closing)
	}
}
