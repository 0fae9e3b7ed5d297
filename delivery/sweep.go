package delivery

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"hydrant/buffer"
)

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
		kind: kind, store: l.s.store, book: l.s.book, name: l.s.name, use: e.use, pipe: e.use.pipe, version: e.use.number, consumer: l.s.consumer,
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
			if l.premature(e, j) {
				continue
			}
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

// premature forgets a size cut whose object would be much smaller than file_size, since nobody knew how small rows become: its
// rows stay in their runs until there are enough. What it has taught holds for all keys, so this happens about once.
func (l *loop) premature(e *epoch, j *job) bool {
	f := j.pipe.FileSize
	if j.kind != cutKey || !e.open || j.err != nil || f <= 0 || j.output >= f*3/4 || j.output == 0 || j.keys[0].key[0] == roleError ||
		l.routes.closing != "" || float64(j.output) > 0.9*l.ratio*float64(j.input) {
		return false
	}
	l.ratio = float64(j.output) / float64(j.input)
	j.cancel()
	j.abort()
	e.jobs = e.jobs[1:]
	l.s.release(j.use)
	for key := range e.full {
		if e.sizes[key] < l.fullAt(j.pipe, key) {
			delete(e.full, key)
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
	j.tried = true
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
			if e.sizes[key] < l.fullAt(e.use.pipe, key) { // it had more than enough while the cut was made
				delete(e.full, key)
			}
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
