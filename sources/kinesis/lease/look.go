package lease

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"hydrant/sources/kinesis"
)

// looking reads the table again and again, and takes what is to be taken, until ctx ends. An error is for the operator.
func (o *Owner) looking(ctx context.Context) error {
	next := time.Duration(0)
	for {
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-o.kick:
			timer.Stop()
		}
		var err error
		next, err = o.pass(ctx)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case !transient(err):
			return err
		default:
			o.log.Warn("the table of leases cannot be read", "err", err)
			next = jittered(o.scanEvery())
		}
	}
}

// pass looks at all leases once: makes those that are missing, takes some, and removes those that nothing needs. It returns
// when to look again.
func (o *Owner) pass(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	items, faults, err := o.table.scan(ctx)
	if err != nil {
		return 0, err
	}
	o.mu.Lock()
	known := o.mine(items)
	o.notBefore = begunAt(known, o.first)
	o.report(faults)
	o.look(known, began)
	list, listed, first, notBefore, names := o.list, o.listed, o.first, o.notBefore, o.naming
	o.mu.Unlock()
	if listed {
		for _, it := range absent(list, known, names, first, notBefore) {
			switch err := o.table.create(ctx, it); {
			case err == nil:
				known[it.shard] = &it
			case errors.Is(err, errConflict): // somebody was faster: it is seen the next time
			default:
				return 0, err
			}
		}
	}
	o.mu.Lock()
	o.look(known, began)
	moves, next := o.weigh(known, began)
	clean := listed && began.Sub(o.cleaned) >= cleanEvery
	if clean {
		o.cleaned = began
	}
	o.mu.Unlock()
	var takes errgroup.Group
	takes.SetLimit(maxWrites)
	for _, m := range moves {
		takes.Go(func() error { return o.take(ctx, m) })
	}
	if err := takes.Wait(); err != nil {
		return 0, err
	}
	if clean {
		return next, o.clean(ctx, list, known)
	}
	return next, nil
}

// report logs faults of items, each once. o.mu is held.
func (o *Owner) report(faults []error) {
	for _, err := range faults {
		if text := err.Error(); !o.told[text] && len(o.told) < 1000 {
			o.told[text] = true
			o.log.Error("a lease cannot be read, so its shard is left alone", "err", err)
		}
	}
}

// look notes what was seen of the leases at a time: whose counter has moved, and which leases of this process are somebody
// else's by now, or asked for. o.mu is held.
func (o *Owner) look(known leases, now time.Time) {
	for key, s := range o.seen {
		if it := known[s.shard]; it == nil || it.key != key {
			delete(o.seen, key)
		}
	}
	for _, it := range known {
		s := o.seen[it.key]
		if s == nil {
			s = &sighting{item: *it, first: now, since: now}
			o.seen[it.key] = s
		}
		if s.counter != it.counter {
			s.since = now
		}
		switch {
		case it.checkpointOwner == "":
			s.asked = time.Time{}
		case s.asked.IsZero() || s.checkpointOwner != it.checkpointOwner || s.owner != it.owner:
			s.asked = now
		}
		s.item = *it
		h := o.held[it.shard]
		if h == nil || h.state != owned || h.renewed.After(now) || it.bad {
			continue
		}
		if it.token != h.token || it.holder() != o.me || it.checkpointOwner == o.me {
			h.due = true // to renew it tells which
		}
	}
}

// whole says that no parent of a lease can have been missed: the pages of a list are not of one moment, and others make leases at
// the same time. Parents are made before their children, so that what is missing when the child was there before has been removed.
// o.mu is held.
func (o *Owner) whole(it *item, known leases, began time.Time) bool {
	return o.seen[it.key].first.Before(began) || !slices.ContainsFunc(it.parents, func(p string) bool { return known[p] == nil })
}

// weigh chooses what to take, and when to look again; began is when the pass began. o.mu is held.
func (o *Owner) weigh(known leases, began time.Time) (moves []move, next time.Duration) {
	now := time.Now()
	owns := func(s state) func(string) bool {
		keys := map[string]bool{}
		for _, h := range o.held {
			if (h.state == owned) == (s == owned) {
				keys[h.key] = true
			}
		}
		return func(key string) bool { return keys[key] }
	}
	p := position{
		me: o.me, now: now, failover: o.failover, mine: owns(owned), busy: owns(lost),
		hands: func(owner string) bool { return strings.HasPrefix(owner, workerPrefix) },
	}
	next, o.waiting = o.scanEvery(), 0
	for _, it := range known {
		if it.bad || !readable(it, known) {
			if !it.bad && !it.ended() {
				o.waiting++
			}
			continue
		}
		if !o.whole(it, known, began) {
			next = min(next, o.failover/20)
			continue
		}
		s := o.seen[it.key]
		p.leases = append(p.leases, s)
		if s.owner == o.me && s.checkpointOwner != "" { // it comes soon
			next = min(next, o.failover/10)
		}
		if !p.mine(it.key) { // somebody who is dead is found dead in time
			if left := s.since.Add(o.failover).Sub(now); left >= 0 {
				next = min(next, left+10*time.Millisecond)
			}
		}
	}
	o.count()
	return balance(p), next
}

// take tries what balance chose. A call that was begun is ended even if ctx ends, so that what was taken is known and can be
// given up.
func (o *Owner) take(ctx context.Context, m move) error {
	if ctx.Err() != nil {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if m.ask {
		it, err := o.table.update(ctx, m.key, asking(o.me, m.item))
		if err == nil {
			o.mu.Lock()
			if s := o.seen[m.key]; s != nil {
				s.item, s.asked = it, time.Now()
			}
			o.mu.Unlock()
			o.log.Info("asked for a shard", "shard", m.shard, "owner", m.owner)
		}
		return o.untaken(m, err)
	}
	began, token := time.Now(), uuid.NewString()
	notBefore := time.Time{}
	if m.checkpoint.Sequence == kinesis.Latest && m.notBefore.IsZero() {
		// Its owner was to read from the end of the shard and left nothing. From now on it is this moment, whatever happens.
		notBefore = began
	}
	it, err := o.table.update(ctx, m.key, taking(o.me, token, m.item, notBefore))
	if errors.Is(err, errConflict) { // of somebody else's write, or of ours whose answer was lost
		var there bool
		if it, there, err = o.table.get(ctx, m.key); err == nil && (!there || it.token != token || it.holder() != o.me) {
			return nil
		}
	}
	if err != nil {
		return o.untaken(m, err)
	}
	o.acquired(it, token, began)
	o.log.Info("took a shard", "shard", it.shard, "from", m.holder(), "checkpoint", it.checkpoint.String())
	return nil
}

// untaken handles the error of a take: what passes is left to the next pass.
func (o *Owner) untaken(m move, err error) error {
	switch {
	case err == nil, errors.Is(err, errConflict):
		return nil
	case transient(err):
		o.log.Warn("a shard could not be taken", "shard", m.shard, "err", err)
		return nil
	}
	return err
}

// acquired notes a lease that was taken and tells the Reader.
func (o *Owner) acquired(it item, token string, began time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tokens++
	h := &held{
		lane: kinesis.Lane{Shard: it.shard, Token: o.tokens}, key: it.key, token: token,
		turn: make(chan struct{}, 1), counter: it.counter, at: it.checkpoint, renewed: began,
		handing: it.checkpointOwner == o.me,
	}
	h.unlock()
	o.held[it.shard] = h
	if s := o.seen[it.key]; s != nil {
		s.item, s.since, s.asked = it, began, time.Time{}
	}
	o.count()
	o.post(kinesis.Change{Lane: h.lane, From: o.from(it), NotBefore: it.notBefore})
}

// from is where reading of a lease begins. o.mu is held.
func (o *Owner) from(it item) kinesis.Checkpoint {
	switch it.checkpoint.Sequence {
	case kinesis.Latest, kinesis.AtTimestamp:
		at := it.notBefore
		if at.IsZero() { // made by a KCL, which has the time in its configuration
			at = o.first.Time
		}
		if at.IsZero() {
			o.log.Warn("a lease begins at a time that only its maker knows; the shard is read from its beginning. Give the source the same start to read less", "shard", it.shard)
			return kinesis.Checkpoint{Sequence: kinesis.TrimHorizon}
		}
		return kinesis.Checkpoint{Sequence: kinesis.AtTimestamp, Time: at}
	}
	return it.checkpoint
}

// clean removes leases of ended shards that nothing needs. One that somebody still renews is left to him.
func (o *Owner) clean(ctx context.Context, list []kinesis.Shard, known leases) error {
	for _, it := range removable(list, known) {
		o.mu.Lock()
		s := o.seen[it.key]
		quiet := s != nil && time.Since(s.since) > o.failover && o.held[it.shard] == nil
		o.mu.Unlock()
		if !quiet {
			continue
		}
		switch err := o.table.delete(ctx, *it); {
		case err == nil:
			o.log.Info("removed the lease of a shard that has ended", "shard", it.shard)
		case errors.Is(err, errConflict):
		default:
			return err
		}
	}
	return nil
}
