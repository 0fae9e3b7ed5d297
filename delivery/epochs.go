package delivery

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
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
		most = min(most, max(int64(jobKeys/l.spread), 1<<20))
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
		kind: routeRows, store: s.store, name: s.name, use: l.ver, pipe: l.ver.pipe, version: l.ver.number, reason: r.closing,
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

// sweep gets epochs on that have runs: keys that are full, and all keys of those that are closed.
func (l *loop) sweep(ctx context.Context, now time.Time) (wake time.Time) {
	for _, e := range l.routes.epochs {
		at := e.retryAt
		if !now.Before(at) {
			if !l.ready(e, now) {
				at = e.retryAt
			} else if e.open {
				at = l.cutFull(ctx, e, now)
			} else {
				at = l.sweepEpoch(ctx, e, now)
			}
		}
		if !at.IsZero() && (wake.IsZero() || at.Before(wake)) {
			wake = at
		}
	}
	return wake
}

// ready tells whether the version of an epoch can be used.
func (l *loop) ready(e *epoch, now time.Time) bool {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if e.use.pipe == nil {
		l.s.reopenLocked(e.use)
	}
	if e.use.pipe == nil {
		e.retryAt = now.Add(cutCap)
	}
	return e.use.pipe != nil
}

// cutFull cuts keys of an open epoch that have enough for an object.
func (l *loop) cutFull(ctx context.Context, e *epoch, now time.Time) (wake time.Time) {
	if len(e.full) == 0 || len(e.jobs) > 0 || l.routes.closing != "" {
		return time.Time{}
	}
	if next := e.cutAt.Add(cutEvery); now.Before(next) {
		return next
	}
	l.s.mu.Lock()
	held := l.s.def.State == buffer.Paused || len(l.s.batches) >= crowdedOutstanding && l.s.store.Crowded()
	l.s.mu.Unlock()
	if held {
		return time.Time{}
	}
	e.cutAt = now
	why := reasonSize
	if e.use.pipe.FileSize > 0 {
		why = reasonFileSize
	}
	for _, key := range slices.Sorted(maps.Keys(e.full)) {
		if len(e.jobs) == l.depth {
			return e.cutAt.Add(cutEvery)
		}
		delete(e.full, key)
		k := []byte(key)
		l.launchKeys(ctx, e, cutKey, []keyBytes{{k, e.sizes[key]}}, buffer.Source{Kind: buffer.SourceKey, Key: buffer.KeyHash(k), Run: e.n}, why)
	}
	return time.Time{}
}

// launchKeys starts a job on keys of an epoch.
func (l *loop) launchKeys(ctx context.Context, e *epoch, kind jobKind, keys []keyBytes, source buffer.Source, why string) {
	j := l.keyJob(e, kind, keys, source, why)
	l.s.mu.Lock()
	l.s.useLocked(e.use)
	l.s.mu.Unlock()
	e.jobs = append(e.jobs, j)
	l.launch(ctx, j)
}

func (l *loop) keyJob(e *epoch, kind jobKind, keys []keyBytes, source buffer.Source, why string) *job {
	j := &job{
		kind: kind, store: l.s.store, name: l.s.name, use: e.use, pipe: e.use.pipe, version: e.use.number, consumer: l.s.consumer,
		epoch: e, keys: keys, reason: why, first: e.first, next: e.ends[source.Run-1], head: l.head(e.use, e.number),
	}
	if j.pipe != nil && j.pipe.FileSize <= 0 {
		j.limit = max(j.pipe.Size, 1)
	}
	j.head.Source, j.head.First, j.head.Next = source, j.first, j.next
	return j
}

// sweepEpoch cuts the keys of a closed epoch, some ranges of keys at a time.
func (l *loop) sweepEpoch(ctx context.Context, e *epoch, now time.Time) (wake time.Time) {
	if len(e.jobs) > 0 && e.jobs[0].kind == cutKey {
		return time.Time{} // no size cut is in the making when the first sweep's frame is written
	}
	for !e.planned && len(e.jobs) < l.depth {
		keys, all, err := l.plan(e)
		if err != nil {
			l.troubled(e, now, err)
			return e.retryAt
		}
		source := buffer.Source{Kind: buffer.SourceSweep, Run: e.n, All: all}
		if e.planned = all; !all {
			source.Bound = keys[len(keys)-1].key
		}
		l.launchKeys(ctx, e, sweepKeys, keys, source, e.why)
	}
	return time.Time{}
}

// keyWalk goes through the keys of an epoch, one ahead.
type keyWalk struct {
	reader epochReader
	next   func() (buffer.EpochKey, error, bool)
	stop   func()
	ahead  keyBytes
	more   bool
}

func (w *keyWalk) step() error {
	k, err, ok := w.next()
	for ok && err == nil && k.Rows == 0 {
		k, err, ok = w.next()
	}
	if w.more = ok && err == nil; w.more {
		w.ahead = keyBytes{slices.Clone(k.Key), k.Bytes}
	}
	return err
}

func (w *keyWalk) close() {
	if w != nil {
		w.stop()
		w.reader.Close()
	}
}

// plan returns the keys of the next sweep, and whether they are the last ones.
func (l *loop) plan(e *epoch) (keys []keyBytes, all bool, err error) {
	if e.walk == nil {
		after := e.bound
		if n := len(e.jobs); n > 0 {
			after = e.jobs[n-1].head.Source.Bound
		}
		r, err := l.s.store.OpenEpoch(l.s.consumer, e.number, e.n)
		if err != nil {
			return nil, false, fmt.Errorf("open the runs of epoch %d: %w", e.number, err)
		}
		e.walk = &keyWalk{reader: r}
		e.walk.next, e.walk.stop = iter.Pull2(r.Keys(after))
		if err := e.walk.step(); err != nil {
			return nil, false, fmt.Errorf("read the keys of epoch %d: %w", e.number, err)
		}
	}
	bytes := int64(0)
	for w := e.walk; w.more && (len(keys) == 0 || bytes+w.ahead.bytes <= e.bytes && len(keys) < e.keys); {
		keys = append(keys, w.ahead)
		bytes += w.ahead.bytes
		if err := w.step(); err != nil {
			return nil, false, fmt.Errorf("read the keys of epoch %d: %w", e.number, err)
		}
	}
	if all = !e.walk.more; all {
		e.walk.close()
		e.walk = nil
	}
	return keys, all, nil
}

// finishEpochs makes the manifests of keys that are ready. It returns false when ctx has ended.
func (l *loop) finishEpochs(ctx context.Context) bool {
	for _, e := range slices.Clone(l.routes.epochs) {
		for len(e.jobs) > 0 && e.jobs[0].isReady() {
			if ctx.Err() != nil {
				return false
			}
			j := e.jobs[0]
			m, err := l.cutKeys(j)
			if err != nil {
				if j.cancel(); !l.poisoned(ctx, j, err) {
					l.troubled(e, time.Now(), err)
				}
				break
			}
			j.cancel()
			e.jobs, e.failures = e.jobs[1:], 0
			l.learn(j)
			l.keysCut(e, j)
			l.s.committed(j, m)
		}
	}
	return true
}

// cutKeys makes the manifest of a job on keys.
func (l *loop) cutKeys(j *job) (*buffer.Manifest, error) {
	if j.err != nil {
		return nil, j.err
	}
	l.s.cutting.Lock()
	defer l.s.cutting.Unlock()
	m, err := l.s.store.CutKeys(l.s.consumer, j.packs, j.head)
	if err != nil {
		return nil, fmt.Errorf("make a manifest of keys: %w", err)
	}
	return m, nil
}

// keysCut notes that keys of an epoch are under a manifest.
func (l *loop) keysCut(e *epoch, j *job) {
	switch src := j.head.Source; {
	case src.Kind == buffer.SourceKey:
		e.cuts++
		if key := string(j.keys[0].key); e.open {
			e.shrink(key, j.keys[0].bytes)
		}
	case src.All:
		l.routes.epochs = slices.DeleteFunc(l.routes.epochs, func(k *epoch) bool { return k == e })
		l.s.mu.Lock()
		l.s.unuseLocked(e.use)
		l.s.mu.Unlock()
	default:
		e.bound = src.Bound
	}
}

// shrink notes that rows of a key are under a manifest.
func (e *epoch) shrink(key string, bytes int64) {
	left := e.sizes[key] - bytes
	if e.sizes[key] = left; left <= 0 {
		delete(e.sizes, key)
		if key[0] != roleError {
			e.active--
		}
	}
	if left+bytes < e.most {
		return
	}
	e.most = 0
	for _, n := range e.sizes {
		e.most = max(e.most, n)
	}
}

// troubled notes that keys of an epoch cannot be cut now. Their rows stay in its runs.
func (l *loop) troubled(e *epoch, now time.Time, err error) {
	if _, ok := errors.AsType[*packError](err); ok { // what is smaller may fit
		e.bytes, e.keys = max(e.bytes/2, 1), max(e.keys/2, 1)
	}
	if e.open {
		if errors.Is(err, buffer.ErrEpochFull) {
			l.routes.close(reasonPressure)
		} else if rerr := l.recount(e); rerr != nil { // what was cut out of the list of full keys
			l.routes.close(reasonPressure)
		}
	}
	e.drop(l.s)
	e.failures++
	e.retryAt = now.Add(backoff(e.failures, cutBase, cutCap))
	l.s.alarm("cut", "keys of an epoch cannot be cut now; their records stay in its runs", "epoch", e.number, "err", err)
	l.s.mu.Lock()
	l.s.cutErr = err.Error()
	l.s.signalLocked()
	l.s.mu.Unlock()
}

// drop forgets the jobs of an epoch, and what was planned.
func (e *epoch) drop(s *stream) {
	for _, j := range e.jobs {
		j.cancel()
	}
	for _, j := range e.jobs {
		<-j.ready
		j.abort()
		s.release(j.use)
	}
	e.jobs, e.planned = nil, false
	e.walk.close()
	e.walk = nil
}

// abandon forgets what is under way; the runs are on disk.
func (r *routes) abandon() {
	for _, e := range r.epochs {
		e.drop(r.s)
	}
}

// discard drops what is left of the epochs of a stream that was deleted by force.
func (l *loop) discardEpochs() error {
	s, r := l.s, &l.routes
	r.close(reasonDelete)
	left := map[uint64]int64{}
	for _, k := range s.consumer.Epochs() {
		left[k.Number] = k.Records
	}
	for _, e := range slices.Clone(r.epochs) {
		e.drop(s)
		j := l.keyJob(e, sweepKeys, nil, buffer.Source{Kind: buffer.SourceSweep, Run: e.n, All: true}, reasonDelete)
		j.head.Counts.Dropped = left[e.number]
		s.mu.Lock()
		s.useLocked(e.use)
		s.mu.Unlock()
		m, err := l.cutKeys(j)
		if err != nil {
			s.release(e.use)
			return err
		}
		l.keysCut(e, j)
		s.committed(j, m)
	}
	return nil
}
