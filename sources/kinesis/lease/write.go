package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"hydrant/sources/kinesis"
)

// lock takes the turn to write to a lease.
func (h *held) lock(ctx context.Context) error {
	select {
	case <-h.turn:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h *held) unlock() { h.turn <- struct{}{} }

// saw notes what the table has of the lease. A checkpoint of ours may be there whose answer was lost, and only a renewal
// finds it: what comes next must not take it back.
func (h *held) saw(it item) {
	h.counter = it.counter
	if it.checkpoint.Compare(h.at) > 0 {
		h.at = it.checkpoint
	}
}

// write makes one conditional write to an owned lease, whose turn the caller has. Where the condition did not hold, the item is
// read to see why: an earlier write whose answer was lost may have raised the counter, or somebody asks for the lease; then
// it is ours as before, and again is true: the caller sees whether what he wants is there already and else writes anew. Or it
// is somebody else's: ErrFenced, and the Reader is told.
func (o *Owner) write(ctx context.Context, h *held, make func() write) (it item, again bool, err error) {
	began := time.Now()
	it, err = o.table.update(ctx, h.key, make())
	switch {
	case err == nil:
		h.saw(it)
		o.mu.Lock()
		h.renewed, h.due = began, false
		o.mu.Unlock()
		return it, false, nil
	case !errors.Is(err, errConflict):
		return item{}, false, err
	}
	it, there, err := o.table.get(ctx, h.key)
	switch {
	case err != nil:
		return item{}, false, err
	case !there:
		o.lose(h, "its lease is gone")
		return item{}, false, kinesis.ErrFenced
	case it.token != h.token || it.holder() != o.me:
		o.lose(h, fmt.Sprintf("%q has it", it.holder()))
		return item{}, false, kinesis.ErrFenced
	}
	h.saw(it)
	wanted := it.checkpointOwner == o.me && !h.handing
	h.handing = it.checkpointOwner == o.me // false again where who asked has withdrawn
	if wanted {
		o.mu.Lock()
		if h.state == owned {
			o.post(kinesis.Change{Lane: h.lane, Wanted: true})
			o.log.Info("a shard is asked for", "shard", h.lane.Shard, "by", it.owner)
		}
		o.mu.Unlock()
	}
	return it, true, nil
}

// conflicts is how often in a row a write may find the lease changed by its own owner. It takes one lost answer and one
// hand-over to have two.
const conflicts = 8

// renewing renews leases until ctx ends. An error is for the operator.
func (o *Owner) renewing(ctx context.Context) error {
	every := o.renewEvery()
	for sleep(ctx, every/4) {
		now := time.Now()
		var due []*held
		o.mu.Lock()
		for _, h := range o.held {
			if h.state == owned && (h.due || now.Sub(h.renewed) >= every-every/8) {
				due = append(due, h)
			}
		}
		o.mu.Unlock()
		failed := make([]error, len(due))
		var writes errgroup.Group
		writes.SetLimit(maxWrites)
		for i, h := range due {
			writes.Go(func() error {
				if failed[i] = o.renew(ctx, h); failed[i] != nil && !transient(failed[i]) {
					return failed[i]
				}
				return nil
			})
		}
		if err := writes.Wait(); err != nil {
			return err
		}
		if failed = slices.DeleteFunc(failed, func(err error) bool { return err == nil }); len(failed) > 0 {
			o.log.Warn("leases could not be renewed", "leases", len(failed), "err", failed[0])
		}
	}
	return nil
}

// renew renews one lease. One that could not be renewed in the fail-over time is lost, since others take its owner for dead by
// now, but only after another attempt: a process that was stopped for a while may find that nobody took it.
func (o *Owner) renew(ctx context.Context, h *held) error {
	if err := h.lock(ctx); err != nil {
		return nil
	}
	defer h.unlock()
	for range conflicts {
		began := time.Now()
		_, again, err := o.write(ctx, h, func() write { return renewal(o.me, h.counter, h.handing) })
		if again && err == nil {
			continue
		}
		switch {
		case err == nil, errors.Is(err, kinesis.ErrFenced), ctx.Err() != nil:
			return nil
		case !transient(err):
			return err
		}
		o.mu.Lock()
		since := began.Sub(h.renewed)
		o.mu.Unlock()
		if since > o.failover {
			o.lose(h, fmt.Sprintf("it could not be renewed for %v", since.Round(time.Millisecond)))
		}
		return err
	}
	return nil
}

// insist repeats a write until it succeeds, or is known to have succeeded, which done tells of the item; or the lease is lost; or
// for about the fail-over time, after which it would be lost. needed is asked first, in the caller's turn to write.
func (o *Owner) insist(ctx context.Context, h *held, needed func() bool, make func() write, done func(item) bool) error {
	if err := h.lock(ctx); err != nil {
		return err
	}
	defer h.unlock()
	if !needed() {
		return nil
	}
	until := time.Now().Add(o.failover)
	wait := 50 * time.Millisecond
	for n := 0; ; {
		it, again, err := o.write(ctx, h, make)
		switch {
		case err == nil && (!again || done(it)):
			return nil
		case err == nil:
			if n++; n < conflicts {
				continue
			}
			err = fmt.Errorf("%s lease %q: %w, %d times", make().what, h.key, errConflict, n)
		}
		if errors.Is(err, kinesis.ErrFenced) || !transient(err) || ctx.Err() != nil || time.Now().Add(wait).After(until) {
			return err
		}
		if !sleep(ctx, jittered(wait)) {
			return err
		}
		wait = min(2*wait, o.failover/4)
	}
}

// Commit implements kinesis.Owner.
func (o *Owner) Commit(ctx context.Context, lane kinesis.Lane, at kinesis.Checkpoint) error {
	if !at.IsNumber() {
		return fmt.Errorf("bug: commit of %q, which is no sequence number", at.Sequence)
	}
	return o.commit(ctx, lane, kinesis.Checkpoint{Sequence: at.Sequence, Sub: at.Sub}, nil)
}

// commit writes a checkpoint. What the table has is never taken back.
func (o *Owner) commit(ctx context.Context, lane kinesis.Lane, at kinesis.Checkpoint, children []string) error {
	h := o.find(lane)
	if h == nil {
		return kinesis.ErrFenced
	}
	ahead := func() bool { return at.Compare(h.at) > 0 }
	reached := func(it item) bool { return it.checkpoint.Compare(at) >= 0 }
	return o.insist(ctx, h, ahead, func() write { return committing(o.me, h.counter, at, children) }, reached)
}

// errChildren says that a shard has ended and nobody knows into what.
var errChildren = errors.New("the shard has ended, and its children are not known yet")

// End implements kinesis.Owner. The order is such that a crash leaves no hole: at first the children have leases, then the
// parent names them and is marked as ended, in one write.
func (o *Owner) End(ctx context.Context, lane kinesis.Lane, children []kinesis.Shard) error {
	h := o.find(lane)
	if h == nil {
		return kinesis.ErrFenced
	}
	o.mu.Lock()
	known := map[string]kinesis.Shard{}
	listed := !o.listed
	for _, s := range o.list {
		listed = listed || s.ID == lane.Shard
		if slices.Contains(s.Parents, lane.Shard) {
			known[s.ID] = s
		}
	}
	n, notBefore := o.naming, o.notBefore
	o.mu.Unlock()
	for _, s := range children {
		if _, there := known[s.ID]; !there || len(s.Parents) > len(known[s.ID].Parents) {
			known[s.ID] = s
		}
	}
	if len(known) == 0 && listed { // one that is gone from the stream may have none that are left
		return fmt.Errorf("end of %s: %w", lane.Shard, errChildren)
	}
	var names []string
	for id, s := range known {
		names = append(names, id)
		if !slices.Contains(s.Parents, lane.Shard) {
			s.Parents = append(slices.Clone(s.Parents), lane.Shard)
		}
		child := newItem(s, n, kinesis.Checkpoint{Sequence: kinesis.TrimHorizon}, notBefore)
		if err := o.table.create(ctx, child); err != nil && !errors.Is(err, errConflict) {
			return err
		}
	}
	slices.Sort(names)
	if err := o.commit(ctx, lane, kinesis.Checkpoint{Sequence: kinesis.ShardEnd}, names); err != nil {
		return err
	}
	o.mu.Lock()
	h.state = leaving
	o.drop(h)
	o.mu.Unlock()
	o.wake() // the children may be read now
	return nil
}

// Release implements kinesis.Owner. It goes on for a while after the end of ctx, which at a stop is often its reason.
func (o *Owner) Release(ctx context.Context, lane kinesis.Lane) {
	o.mu.Lock()
	h := o.held[lane.Shard]
	if h == nil || h.lane != lane || h.state == leaving {
		o.mu.Unlock()
		return
	}
	before := h.state
	h.state = leaving
	o.count()
	o.mu.Unlock()
	if before == owned {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.patience())
		defer cancel()
		free := func(it item) bool { return it.holder() != o.me }
		always := func() bool { return true }
		err := o.insist(ctx, h, always, func() write { return givingUp(o.me, h.counter, h.handing) }, free)
		switch {
		case err == nil:
			o.log.Debug("gave up a shard", "shard", lane.Shard)
		case !errors.Is(err, kinesis.ErrFenced):
			o.log.Warn("a lease could not be given up; others take it when it has expired", "shard", lane.Shard, "err", err)
		}
	}
	o.mu.Lock()
	o.drop(h)
	o.mu.Unlock()
	o.wake()
}
