package redshift

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"hydrant/sinks"
)

// tries is how often the ledger may change between the look at it and the lock.
const tries = 5

var idPattern = regexp.MustCompile(`^[A-Za-z0-9/_.:-]{1,128}$`)

// checkParts finds parts that cannot be named in SQL or in a manifest.
func (s *Sink) checkParts(parts []sinks.Part) error {
	seen := make(map[string]bool, len(parts))
	for _, p := range parts {
		switch {
		case !idPattern.MatchString(p.ID):
			return fmt.Errorf("the part's id %q is not made of 1 to %d letters, digits and / _ . : -", p.ID, maxID)
		case seen[p.ID]:
			return fmt.Errorf("the part %q is there twice", p.ID)
		}
		if err := s.loadable(p.Key); err != nil {
			return fmt.Errorf("the part %q: %w", p.ID, err)
		}
		seen[p.ID] = true
	}
	return nil
}

// Finish loads the parts that are not loaded yet. See sinks.Finisher.
func (s *Sink) Finish(ctx context.Context, parts []sinks.Part) []error {
	errs := make([]error, len(parts))
	s.finish(ctx, parts, errs, false)
	return errs
}

func (s *Sink) finish(ctx context.Context, parts []sinks.Part, errs []error, again bool) {
	all := func(err error) {
		for i := range errs {
			errs[i] = err
		}
	}
	if len(parts) == 0 {
		return
	}
	if err := s.checkParts(parts); err != nil {
		all(&sinks.Error{Class: sinks.RefusedObject, Err: err})
		return
	}
	e, err := s.open(ctx)
	if err != nil {
		all(err)
		return
	}
	defer func() { e.close() }()
	l := &loading{session: e, parts: parts, errs: errs, again: again}
	size := maxParts
	if len(s.merge) > 0 && len(s.order) == 0 {
		size = 1 // the last part wins, so they are taken one after another
	}
	for from := 0; from < len(parts); from += size {
		var set []int
		for i := from; i < min(from+size, len(parts)); i++ {
			set = append(set, i)
		}
		l.load(ctx, set)
	}
	if ctx.Err() == nil {
		return
	}
	for i, err := range errs { // a server that was told to stop has an error of its own for that
		if e, ok := errors.AsType[*sinks.Error](err); ok && e.Class != sinks.RefusedObject {
			errs[i] = &sinks.Error{Class: sinks.Unknown, Code: e.Code, Err: err}
		}
	}
}

// loading is one call of Finish.
type loading struct {
	*session
	parts []sinks.Part
	errs  []error // of the parts
	again bool    // skipped parts are taken
}

func (l *loading) fill(set []int, err error) {
	for _, i := range set {
		l.errs[i] = err
	}
}

// load takes a set of parts, dividing it where some spoil it.
func (l *loading) load(ctx context.Context, set []int) {
	if err := ctx.Err(); err != nil {
		l.fill(set, &sinks.Error{Class: sinks.Unknown, Err: err})
		return
	}
	if err := l.renew(ctx); err != nil {
		l.fill(set, err)
		return
	}
	left, bad, err := l.attempt(ctx, set)
	switch {
	case err == nil:
		return
	case bad == nil || len(left) < 2:
		l.fill(left, err)
		if bad != nil {
			l.s.log.Warn("an object cannot be loaded", "table", l.s.table, "key", l.parts[left[0]].Key, "id", l.parts[left[0]].ID, "err", err)
		}
		return
	}
	var named, rest []int
	for _, i := range left {
		if bad[l.s.url(l.parts[i].Key)] {
			named = append(named, i)
		} else {
			rest = append(rest, i)
		}
	}
	l.s.log.Warn("some of several objects cannot be loaded; they are tried without each other", "table", l.s.table, "objects", len(left), "named", len(named), "err", err)
	if len(named) == 0 || len(rest) == 0 {
		l.load(ctx, left[:len(left)/2])
		l.load(ctx, left[len(left)/2:])
		return
	}
	l.load(ctx, rest)
	for _, i := range named {
		l.load(ctx, []int{i})
	}
}

// attempt is one transaction for those of the set that are not in the ledger, which are left. bad is not nil where the
// error is about data, and then holds the URLs of the objects that the warehouse named.
func (l *loading) attempt(ctx context.Context, set []int) (left []int, bad map[string]bool, err error) {
	ids := make([]string, len(set))
	for k, i := range set {
		ids[k] = l.parts[i].ID
	}
	states, err := l.look(ctx, ids)
	if err != nil {
		return set, nil, err
	}
	for range tries {
		left = l.sort(set, states)
		if len(left) == 0 {
			return nil, nil, nil
		}
		parts := make([]sinks.Part, len(left))
		for k, i := range left {
			parts[k] = l.parts[i]
		}
		manifest, err := l.s.stage(ctx, parts)
		if err != nil {
			return left, nil, err
		}
		if l.s.o.Keys != nil {
			if l.keys, err = l.s.o.Keys(ctx); err != nil {
				return left, nil, &sinks.Error{Class: sinks.NotStored, Code: "Redshift.AccessDenied", Err: fmt.Errorf("get the credentials of COPY: %w", err)}
			}
		}
		if err := l.begin(ctx); err != nil {
			l.rollback(ctx)
			return left, nil, err
		}
		now, err := l.states(ctx, ids)
		if err != nil {
			err = l.fail("read the ledger "+l.s.ledger, err)
			l.rollback(ctx)
			return left, nil, err
		}
		if !l.same(set, states, now) {
			l.rollback(ctx)
			states = now
			continue
		}
		began := time.Now()
		rows, bad, err := l.copyParts(ctx, parts, manifest)
		if err == nil {
			if l.again {
				err = l.renote(ctx, parts)
			} else {
				err = l.note(ctx, parts, stateLoaded)
			}
		}
		if err != nil {
			l.rollback(ctx)
			return left, bad, err
		}
		if err := l.commit(ctx); err != nil {
			if sinks.ClassOf(err) != sinks.Unknown {
				l.rollback(ctx)
				return left, nil, err
			}
			settled, lookErr := l.afterLoss(ctx, ids)
			if lookErr != nil {
				return left, nil, &sinks.Error{Class: sinks.Unknown, Code: "Redshift.ConnectionFailed", Err: fmt.Errorf("%w; whether it took effect is not known: %w", err, lookErr)}
			}
			if left = l.sort(set, settled); len(left) > 0 {
				return left, nil, &sinks.Error{Class: sinks.NotStored, Code: "Redshift.ConnectionFailed", Err: fmt.Errorf("%w; it did not take effect", err)}
			}
		}
		l.s.log.Info("loaded", "table", l.s.table, "objects", len(parts), "rows", rows, "manifest", manifest, "seconds", time.Since(began).Seconds())
		return nil, nil, nil
	}
	return left, nil, &sinks.Error{Class: sinks.NotStored, Err: fmt.Errorf("the ledger %s changes faster than parts can be loaded", l.s.ledger)}
}

// sort gives those of the set that are to be loaded, and the others what the ledger says of them.
func (l *loading) sort(set []int, states map[string]string) (left []int) {
	for _, i := range set {
		switch state := states[l.parts[i].ID]; {
		case state == "" && !l.again, state == stateSkipped && l.again:
			left = append(left, i)
		case state == stateSkipped:
			l.errs[i] = &sinks.Error{Class: sinks.RefusedObject, Code: sinks.CodeSkipped, Err: fmt.Errorf("the part %q was skipped before", l.parts[i].ID)}
		case state == "":
			l.errs[i] = &sinks.Error{Class: sinks.RefusedObject, Err: fmt.Errorf("the part %q was not skipped", l.parts[i].ID)}
		default:
			l.errs[i] = nil
		}
	}
	return left
}

// same tells whether the ledger says the same of all parts.
func (l *loading) same(set []int, a, b map[string]string) bool {
	for _, i := range set {
		if id := l.parts[i].ID; a[id] != b[id] {
			return false
		}
	}
	return true
}

// copyParts loads the parts inside the transaction.
func (l *loading) copyParts(ctx context.Context, parts []sinks.Part, manifest string) (rows int64, bad map[string]bool, err error) {
	into := l.s.table
	var m *merge
	if len(l.s.merge) > 0 {
		m = l.s.newMerge(manifest)
		into = m.stage
		if _, err := l.exec(ctx, m.create()); err != nil {
			return 0, nil, l.fail("create a staging table like "+l.s.table, err)
		}
	}
	sql, err := l.s.copy.copy(into, manifest, l.keys)
	if err != nil {
		return 0, nil, &sinks.Error{Class: sinks.RefusedDestination, Code: "Redshift.AccessDenied", Err: err}
	}
	l.copied = -1
	if _, err := l.exec(ctx, sql); err != nil {
		v := judge(err, true)
		failure := l.fail("copy "+manifest+" into "+l.s.table, err)
		if !v.data {
			return 0, nil, failure
		}
		l.rollback(ctx)
		bad := l.details(ctx, parts, failure)
		return 0, bad, failure
	}
	if rows, err = l.count(ctx, parts, manifest); err != nil {
		// What the views know of skipped rows stays when the transaction goes.
		var failure *sinks.Error
		if errors.As(err, &failure) && failure.Class == sinks.RefusedObject {
			l.rollback(ctx)
			return rows, l.details(ctx, parts, failure), failure
		}
		return rows, nil, err
	}
	if m != nil {
		bad, err := l.merge(ctx, m)
		return rows, bad, err
	}
	return rows, nil, nil
}

// count asks how many rows the COPY loaded, on its connection and before the transaction ends, and compares.
func (l *loading) count(ctx context.Context, parts []sinks.Part, manifest string) (int64, error) {
	rows, err := l.number(ctx, "SELECT pg_last_copy_count()")
	if err != nil {
		return 0, l.fail("ask for the number of rows that were copied", err)
	}
	want := int64(0)
	for _, p := range parts {
		if p.Records < 0 {
			return rows, nil
		}
		want += p.Records
	}
	// Either source may have the last word: both are the server's, and a load that it reports in full is in full.
	if !l.s.copy.exact || rows == want || l.copied == want {
		return rows, nil
	}
	err = fmt.Errorf("copy %s into %s: it loaded %d of %d rows, and was rolled back", manifest, l.s.table, rows, want)
	return rows, &sinks.Error{Class: sinks.RefusedObject, Code: "Redshift.DataLoadFailed", Message: err.Error(), Err: err}
}

// renote marks skipped parts as loaded after all.
func (l *loading) renote(ctx context.Context, parts []sinks.Part) error {
	ids := make([]string, len(parts))
	for i, p := range parts {
		ids[i] = p.ID
	}
	if _, err := l.exec(ctx, "UPDATE "+l.s.ledger+" SET state = "+literal(stateBackfilled)+", changed_at = SYSDATE WHERE id IN ("+list(ids)+")"); err != nil {
		return l.fail("write the ledger "+l.s.ledger, err)
	}
	return nil
}
