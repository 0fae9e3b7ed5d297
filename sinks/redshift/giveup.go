package redshift

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"hydrant/sinks"
)

// Skip notes that parts are given up. It is the transaction of a load without its COPY, so that it and a load that is
// still on its way exclude each other; without the warehouse's answer nothing is given up.
func (s *Sink) Skip(ctx context.Context, parts []sinks.Part) ([]bool, error) {
	if err := s.checkParts(parts); err != nil {
		return nil, &sinks.Error{Class: sinks.RefusedObject, Err: err}
	}
	if len(parts) == 0 {
		return nil, nil
	}
	e, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { e.close() }()
	taken := make([]bool, 0, len(parts))
	for chunk := range slices.Chunk(parts, maxParts) {
		states, err := e.skip(ctx, chunk)
		if err != nil {
			return nil, err
		}
		for _, p := range chunk {
			taken = append(taken, states[p.ID] != stateSkipped)
		}
	}
	return taken, nil
}

// skip gives the states of all parts as they are for ever.
func (e *session) skip(ctx context.Context, parts []sinks.Part) (map[string]string, error) {
	ids := make([]string, len(parts))
	for i, p := range parts {
		ids[i] = p.ID
	}
	if _, err := e.look(ctx, ids); err != nil { // it makes the ledger
		return nil, err
	}
	if err := e.begin(ctx); err != nil {
		e.rollback(ctx)
		return nil, err
	}
	states, err := e.states(ctx, ids)
	if err != nil {
		err = e.fail("read the ledger "+e.s.ledger, err)
		e.rollback(ctx)
		return nil, err
	}
	var absent []sinks.Part
	for _, p := range parts {
		if states[p.ID] == "" {
			absent = append(absent, p)
			states[p.ID] = stateSkipped
		}
	}
	if len(absent) == 0 {
		e.rollback(ctx)
		return states, nil
	}
	if err := e.note(ctx, absent, stateSkipped); err != nil {
		e.rollback(ctx)
		return nil, err
	}
	if err := e.commit(ctx); err != nil {
		if sinks.ClassOf(err) != sinks.Unknown {
			e.rollback(ctx)
			return nil, err
		}
		settled, lookErr := e.afterLoss(ctx, ids)
		if lookErr != nil {
			return nil, fmt.Errorf("%w; whether it took effect is not known: %w", err, lookErr)
		}
		for _, id := range ids {
			if settled[id] == "" {
				return nil, fmt.Errorf("%w; it did not take effect", err)
			}
		}
		return settled, nil
	}
	e.s.log.Warn("objects are given up and stay in the staging bucket", "table", e.s.table, "objects", len(absent))
	return states, nil
}

// Forget removes the rows of loaded parts from the ledger. What was skipped stays there, so that a backfill happens once.
func (s *Sink) Forget(ctx context.Context, ids []string) error {
	for _, id := range ids {
		if !idPattern.MatchString(id) {
			return &sinks.Error{Class: sinks.RefusedObject, Err: fmt.Errorf("%q is not the id of a part", id)}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	e, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer func() { e.close() }()
	for chunk := range slices.Chunk(ids, maxParts) {
		if _, err := e.exec(ctx, "DELETE FROM "+s.ledger+" WHERE state = "+literal(stateLoaded)+" AND id IN ("+list(chunk)+")"); err != nil {
			return e.fail("prune the ledger "+s.ledger, err)
		}
	}
	return nil
}

// Backfill loads, once, the objects of a manifest that were skipped; rows tells how many objects that were. Objects that
// were loaded before, by an earlier backfill for one, are left alone; one that the ledger does not know is an error.
func (s *Sink) Backfill(ctx context.Context, manifest []byte) (objects int, err error) {
	parts, err := parseManifest(s.o.Bucket, manifest)
	if err != nil {
		return 0, err
	}
	e, err := s.open(ctx)
	if err != nil {
		return 0, err
	}
	skipped, err := e.skipped(ctx, parts)
	e.close()
	if err != nil || len(skipped) == 0 {
		return 0, err
	}
	errs := make([]error, len(skipped))
	s.finish(ctx, skipped, errs, true)
	var first error
	for _, err := range errs {
		if err == nil {
			objects++
		} else if first == nil {
			first = err
		}
	}
	if first != nil {
		return objects, fmt.Errorf("%d of %d objects were loaded: %w", objects, len(errs), first)
	}
	return objects, nil
}

// skipped finds the parts in the ledger by their keys.
func (e *session) skipped(ctx context.Context, parts []sinks.Part) ([]sinks.Part, error) {
	keys := make([]string, len(parts))
	at := map[string]int{}
	for i, p := range parts {
		keys[i], at[p.Key] = p.Key, i
	}
	var out []sinks.Part
	for chunk := range slices.Chunk(keys, maxParts) {
		rows, err := e.conn.Query(ctx, "SELECT id, object_key, row_count, state FROM "+e.s.ledger+" WHERE object_key IN ("+list(chunk)+")")
		if err != nil {
			return nil, e.fail("read the ledger "+e.s.ledger, err)
		}
		var id, key, state string
		var count int64
		if _, err := pgx.ForEachRow(rows, []any{&id, &key, &count, &state}, func() error {
			i, ok := at[key]
			if !ok {
				return nil
			}
			if state == stateSkipped {
				out = append(out, sinks.Part{ID: id, Key: key, Size: parts[i].Size, Records: count})
			}
			parts[i].ID = id
			return nil
		}); err != nil {
			return nil, e.fail("read the ledger "+e.s.ledger, err)
		}
	}
	for _, p := range parts {
		if p.ID == "" {
			return nil, fmt.Errorf("the ledger %s does not know the object %q, so nobody can tell whether it is loaded", e.s.ledger, p.Key)
		}
	}
	return out, nil
}
