package delivery

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"hydrant/buffer"
	"hydrant/sinks"
)

const (
	// loadTime bounds one load, however many objects it has and however often it has to be divided. A Finisher has shorter
	// limits of its own for a database that does not answer.
	loadTime = 6 * time.Hour
	// skipTime bounds the question about one object that is to be given up.
	skipTime = 15 * time.Minute
	// discardTime is the same where the stream is deleted by force.
	discardTime = 30 * time.Second
	// forgetTime bounds the removal of notes.
	forgetTime = time.Minute
	// maxForget is the number of notes that wait for their removal. What is beyond it stays in the database for good, which
	// harms nobody.
	maxForget = 10_000
)

// loadFailed is the type of the error output for objects that a database did not take; in their place stand manifests that
// name them.
const loadFailed = "load-failed"

// codeLoadFailed is the code of records that were given up where the database has none.
const codeLoadFailed = "Hydrant.LoadFailed"

// finishes tells whether the object is only staged when it is stored.
func (t *task) finishes() bool {
	p := t.batch.use.pipe
	return p != nil && t.info().Role == buffer.Data && t.info().Destination == p.Destination.ID && p.Destination.finisher() != nil
}

// part is the object as a part of a load. Its ID is never another object's, and this object has no other one.
func (t *task) part(rows int64) sinks.Part {
	id, info := t.batch.manifest.ID, t.info()
	return sinks.Part{ID: hex.EncodeToString(id[:]) + "/" + strconv.Itoa(t.object), Key: info.Key, Size: info.Size, Records: rows}
}

// placeOfLoadLocked is where an object is loaded from, and by what: the sink of the version in force where that remembers
// the same parts and its objects look alike, so that what was corrected counts; else that of its own version, whose place
// it takes over.
func (s *stream) placeOfLoadLocked(d *Destination, own place) place {
	own.forgets = true // the sink alone tells what it has taken
	if s.cur == own.v || s.cur.pipe == nil {
		return own
	}
	now := &s.cur.pipe.Destination
	if now.ID != d.ID || now.finisher() == nil || d.Place == "" || now.Place != d.Place || now.Layout != d.Layout {
		return own
	}
	s.unuseLocked(own.v)
	s.useLocked(s.cur)
	return place{name: now.Place, sink: now.Sink, forgets: true, v: s.cur}
}

// load takes staged objects of one lane into their database, all together where they go through one sink, and tells what
// became of each. It is called by the uploader.
func (m *Manager) load(ctx context.Context, tasks []*task) []loaded {
	s := tasks[0].batch.stream
	results := make([]loaded, len(tasks))
	if s.state() == buffer.Discarding {
		for i, t := range tasks {
			results[i].outcome, results[i].after = s.discardObject(ctx, t)
		}
		return results
	}
	type group struct {
		to   place
		kind string
		at   []int // of tasks
	}
	var groups []*group
	for i, t := range tasks {
		to, _, kind, err := s.placesFor(t)
		if err != nil {
			s.attemptFailed(t, kind, &localError{err})
			s.alarm("local", "object cannot be loaded", "key", t.info().Key, "err", err)
			results[i] = loaded{outcome: local, after: backoff(t.attempts, slowBase, slowCap)}
			continue
		}
		defer s.release(to.v)
		if t.stagedIn != to.sink {
			results[i] = loaded{outcome: local, restage: true}
			continue
		}
		g := slices.IndexFunc(groups, func(g *group) bool { return g.to.sink == to.sink })
		if g < 0 {
			g = len(groups)
			groups = append(groups, &group{to: to, kind: kind})
		}
		groups[g].at = append(groups[g].at, i)
	}
	for _, g := range groups {
		some := make([]*task, len(g.at))
		for k, i := range g.at {
			some[k] = tasks[i]
		}
		for k, r := range s.loadTogether(ctx, g.to, g.kind, some) {
			results[g.at[k]] = r
		}
	}
	return results
}

// loadTogether is one call of Finish.
func (s *stream) loadTogether(ctx context.Context, to place, kind string, tasks []*task) []loaded {
	results := make([]loaded, len(tasks))
	f := to.sink.(sinks.Finisher)
	parts := make([]sinks.Part, len(tasks))
	for i, t := range tasks {
		parts[i] = t.part(s.rowsOf(t))
		t.finished = true
	}
	bounded, end := s.loading(ctx, tasks)
	defer end()
	buffer.CrashPoint("object-finishing")
	began := time.Now()
	errs := f.Finish(bounded, parts)
	buffer.CrashPoint("object-finished")
	s.metrics.loads.seconds.WithLabelValues(s.name).Observe(time.Since(began).Seconds())
	for i, t := range tasks {
		t.attempts++
		switch err := errs[i]; {
		case err == nil:
			s.loaded(t, kind)
			s.rememberToForget(t, to)
			s.metrics.loads.rows.WithLabelValues(s.name).Add(float64(max(parts[i].Records, 0)))
			results[i].outcome = done
		case ctx.Err() != nil:
			results[i].outcome = shutdown
		case s.state() == buffer.Discarding:
			results[i].outcome, results[i].after = s.discardObject(ctx, t)
		case bounded.Err() != nil && sinks.ClassOf(err) == sinks.Unknown:
			results[i].outcome = local // somebody has asked for one of them
		default:
			err = fmt.Errorf("load %q: %w", t.info().Key, err)
			s.attemptFailed(t, kind, err)
			results[i] = s.afterLoad(ctx, t, to, kind, err)
		}
	}
	if ctx.Err() == nil {
		s.forgetLoaded(ctx, f, to)
	}
	return results
}

// loading bounds the time that a load may take. It ends at once when somebody wants one of its objects.
func (s *stream) loading(ctx context.Context, tasks []*task) (bounded context.Context, end func()) {
	bounded, cancel := context.WithTimeout(ctx, loadTime)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tasks {
		if s.def.State == buffer.Discarding || t.wanted {
			cancel()
		}
		s.sends[t] = cancel
	}
	return bounded, func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, t := range tasks {
			delete(s.sends, t)
		}
	}
}

// rowsOf is the number of rows of an object, where it is known: the database's count has to be the same then. Records are
// not rows: one may have been taken apart.
func (s *stream) rowsOf(t *task) int64 {
	p := t.batch.use.pipe
	if p == nil || p.Destination.Rows == nil {
		return -1
	}
	r, err := s.store.OpenObject(t.batch.manifest, t.object)
	if err != nil {
		return -1
	}
	defer r.Close()
	n, err := p.Destination.Rows(r, t.info().Size)
	if err != nil {
		return -1 // it was stored, so it is as it should be; nothing depends on this count alone
	}
	return n
}

// loaded notes that an object is in its database.
func (s *stream) loaded(t *task, kind string) { s.stored(t, kind, 0) }

// afterLoad decides, by the class of the error, what becomes of an object that was not loaded.
func (s *stream) afterLoad(ctx context.Context, t *task, to place, kind string, err error) loaded {
	info, slow := t.info(), backoff(t.attempts, slowBase, slowCap)
	var after time.Duration
	code := ""
	if e, ok := errors.AsType[*sinks.Error](err); ok {
		after, code = e.After, e.Code
	}
	if code == sinks.CodeMissing {
		s.alarm("destination", "staged object is gone before it was loaded; it is stored again", "key", info.Key, "err", err)
		return loaded{outcome: unwell, after: max(slow, after), restage: true}
	}
	switch class := sinks.ClassOf(err); class {
	case sinks.NotStored, sinks.Unknown:
		s.notice("attempts", "load failed", "key", info.Key, "attempts", t.attempts, "err", err)
		return loaded{outcome: unwell, after: after, fewer: class == sinks.Unknown || code != sinks.CodeUnreachable}
	case sinks.RefusedObject:
		return s.afterRefusedLoad(ctx, t, to, kind, code, err)
	default:
		s.alarm("destination", "database refuses to load; nothing is lost, it is asked again until it takes the backlog", "key", info.Key, "err", err)
		return loaded{outcome: unwell, after: max(slow, after)}
	}
}

// afterRefusedLoad gives the object up when its time is over.
func (s *stream) afterRefusedLoad(ctx context.Context, t *task, to place, kind, code string, err error) loaded {
	info, now := t.info(), time.Now()
	if t.refused.IsZero() {
		t.refused = now
	}
	if code != sinks.CodeSkipped { // that it was skipped before says nothing about why
		t.refusal = refusalOf(err, t.refusal.Attempts+1)
	}
	d := &to.v.pipe.Destination
	left := d.GiveUpAfter - now.Sub(t.refused)
	if code != sinks.CodeSkipped && (!d.GiveUp || left > 0) {
		s.alarm("refused", "object cannot be loaded; the others are, and it is tried again", "key", info.Key, "attempts", t.attempts, "err", err)
		wait := backoff(t.attempts, slowBase, refusedCap)
		if d.GiveUp {
			wait = min(wait, left) // that attempt is its last
		}
		return loaded{outcome: again, after: wait}
	}
	taken, skipErr := s.skipAt(ctx, t, to)
	switch {
	case ctx.Err() != nil:
		return loaded{outcome: shutdown}
	case skipErr != nil:
		s.alarm("refused", "object cannot be loaded, and the database does not say whether it may be given up; it is kept and tried again", "key", info.Key, "refusal", err, "err", skipErr)
		return loaded{outcome: unwell, after: backoff(t.attempts, slowBase, slowCap)}
	case taken:
		s.loaded(t, kind)
		s.rememberToForget(t, to)
		return loaded{outcome: done}
	}
	s.alarm("given up", "object cannot be loaded and is given up; a manifest in the error output names it", "key", info.Key, "attempts", t.attempts, "records", info.Records, "err", err)
	o, after := s.setLoadAside(ctx, t, d, err)
	return loaded{outcome: o, after: after}
}

// setLoadAside puts the manifest of an object that stays where it is staged into its place.
func (s *stream) setLoadAside(ctx context.Context, t *task, d *Destination, cause error) (outcome, time.Duration) {
	info := t.info()
	if t.refusal == (buffer.Refusal{}) { // an earlier process noted it as skipped, and came no further
		t.refusal = refusalOf(cause, 0)
	}
	head := s.replacement(t, buffer.Error)
	p, key, err := s.skippedObject(t, d, head)
	if err != nil {
		return s.notReplaced(ctx, t, err)
	}
	o, wait := s.exchange(ctx, t, head, p, key, "given up: "+cause.Error())
	if o != done {
		return o, wait
	}
	s.metrics.failures.WithLabelValues(s.name, loadFailed, t.refusal.Code).Add(float64(info.Records))
	s.metrics.loads.objects.WithLabelValues(s.name, outcomeSkipped).Inc()
	return done, 0
}

// skippedObject seals the object that tells of one that was given up. Why it was is fixed with it.
func (s *stream) skippedObject(t *task, d *Destination, head buffer.ManifestHead) (p pack, key string, err error) {
	info := t.info()
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, "", fmt.Errorf("draw a UUID: %w", err)
	}
	key, body := d.Skipped(t.part(info.Records), s.name, time.UnixMicro(info.Oldest), id.String())
	if p, err = s.store.NewPack(); err != nil {
		return nil, "", fmt.Errorf("start a pack: %w", err)
	}
	made := p // the returns below set p
	defer func() {
		if err != nil {
			made.Abort()
		}
	}()
	w, err := p.Begin(buffer.ObjectHead{
		Key: key, Role: buffer.Error, Destination: t.batch.use.pipe.errors().ID, ContentType: "application/json", Refusal: t.refusal,
	})
	if err != nil {
		return nil, "", fmt.Errorf("begin %q: %w", key, err)
	}
	if _, err = w.Write(body); err != nil {
		return nil, "", fmt.Errorf("write %q: %w", key, err)
	}
	if err = p.End(info.Records, info.FirstSeq, info.Oldest); err != nil {
		return nil, "", fmt.Errorf("end %q: %w", key, err)
	}
	if err = p.Seal(head); err != nil {
		return nil, "", fmt.Errorf("seal the pack of %q: %w", key, err)
	}
	return p, key, nil
}

// skip has the database note that it will not take the object, and tells whether it had taken it before.
func (s *stream) skip(ctx context.Context, t *task) (taken bool, kind string, err error) {
	to, _, kind, err := s.placesFor(t)
	if err != nil {
		return false, kind, err
	}
	defer s.release(to.v)
	taken, err = s.skipAt(ctx, t, to)
	if taken {
		s.rememberToForget(t, to)
	}
	return taken, kind, err
}

func (s *stream) skipAt(ctx context.Context, t *task, to place) (taken bool, err error) {
	if sabotageGiveUpUnasked {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, skipTime)
	defer cancel()
	answer, err := to.sink.(sinks.Finisher).Skip(ctx, []sinks.Part{t.part(s.rowsOf(t))})
	if err != nil {
		return false, fmt.Errorf("have %q skipped: %w", t.info().Key, err)
	}
	return answer[0], nil
}

// discardLoad tells whether an object of a stream that is deleted by force is in its database, and else sees to it that it
// does not get there later. A database that does not answer is not waited for.
func (s *stream) discardLoad(ctx context.Context, t *task) (taken bool, kind string) {
	if !t.finishes() || !t.doubtful() {
		return false, ""
	}
	ctx, cancel := context.WithTimeout(ctx, discardTime)
	defer cancel()
	taken, kind, err := s.skip(ctx, t)
	if err != nil {
		s.notice("discard", "object of a deleted stream is discarded without the database's answer: it may be there", "key", t.info().Key, "err", err)
	}
	return taken, kind
}

// note is what a database remembers of an object that it has taken.
type note struct {
	manifest buffer.ManifestID
	part     string
	place    string
}

// rememberToForget notes that the database need not remember the object once its end is durable.
func (s *stream) rememberToForget(t *task, to place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.notes) < maxForget {
		s.notes = append(s.notes, note{t.batch.manifest.ID, t.part(0).ID, to.name})
	}
}

// forgetLoaded has a database forget the objects whose end is durable: nobody will finish them again. It happens after a
// load, when the database is awake anyway. What fails or is cut off by a crash stays there for good, and harms nobody.
func (s *stream) forgetLoaded(ctx context.Context, f sinks.Finisher, to place) {
	s.mu.Lock()
	notes := slices.Clone(s.notes)
	s.mu.Unlock()
	if len(notes) == 0 {
		return
	}
	open := map[buffer.ManifestID]bool{}
	for _, m := range s.store.Outstanding() {
		open[m.ID] = true
	}
	var ids []string
	gone := map[string]bool{}
	for _, n := range notes {
		if !open[n.manifest] && n.place == to.name {
			ids = append(ids, n.part)
			gone[n.part] = true
		}
	}
	if len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, forgetTime)
	defer cancel()
	if err := f.Forget(ctx, ids); err != nil {
		s.notice("forget", "database keeps notes about objects that it has; they are removed later", "objects", len(ids), "err", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = slices.DeleteFunc(s.notes, func(n note) bool { return gone[n.part] })
}

// forgetAtEnd does the same for a stream that is gone, and does not wait.
func (s *stream) forgetAtEnd() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.notes) == 0 || s.cur.pipe == nil || s.cur.pipe.Destination.finisher() == nil {
		return
	}
	d := s.cur.pipe.Destination
	s.closers.Go(func() {
		s.forgetLoaded(context.Background(), d.finisher(), place{name: d.Place})
	})
}
