package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"hydrant/sources"
	"hydrant/sources/kinesis"
)

// The fail-over time: how long the counter of a lease stands still until others take its owner for dead. It has to be that of
// the other workers of the table, or about it. An owner writes three times in it.
const (
	DefaultFailover = 10 * time.Second // the KCL's
	MinFailover     = time.Second
	MaxFailover     = 5 * time.Minute
)

// workerPrefix begins the names of owners that hand a lease over when they are asked. The names of KCL workers end in a UUID
// and begin with a host's name or an address, where they are not chosen.
const workerPrefix = "hydrant:"

// maxWrites is how many leases are written to at a time.
const maxWrites = 8

// cleanEvery is how often leases of ended shards are looked at.
const cleanEvery = time.Minute

// Options of an Owner.
type Options struct {
	API API // its own retries are best turned off
	// Table is the name of the table, which is created where there is none.
	Table string
	// Worker names this process among all that use the table. One that has the same name after a restart takes its own
	// leases back at once. "": a name of this life alone.
	Worker string
	// Failover is the fail-over time; 0: DefaultFailover.
	Failover time.Duration
	Metrics  *sources.StreamReading // nil: nothing is counted
	Log      *slog.Logger           // nil: nothing is logged
	Close    func()                 // called at the end of Run, when nothing is sent any longer; nil: nothing is
}

// Owner is a kinesis.Owner that shares the shards by a table. It is made for one run.
type Owner struct {
	table    table
	me       string
	failover time.Duration
	log      *slog.Logger
	metrics  *sources.StreamReading
	close    func()
	changes  chan kinesis.Change
	kick     chan struct{} // a pass is wanted now; 1

	mu        sync.Mutex // guards what follows; never held over a call
	stream    kinesis.Stream
	first     kinesis.Checkpoint
	naming    naming
	notBefore time.Time
	list      []kinesis.Shard
	listed    bool
	seen      map[string]*sighting // by key
	held      map[string]*held     // by shard: owned, or lost and not yet let go of
	tokens    uint64               // of the last lane
	queue     []kinesis.Change     // not yet sent
	queued    chan struct{}        // 1
	told      map[string]bool      // faults that were logged
	cleaned   time.Time
	waiting   int // leases that are not to be read yet
}

var _ kinesis.Owner = (*Owner)(nil)

// states of a held lease.
type state int

const (
	owned state = iota
	lost        // the Reader was told, or hears it next
	leaving
)

// held is one acquisition of a lease.
type held struct {
	lane       kinesis.Lane
	key, token string

	turn chan struct{} // holds one token; who has it may write to the item, and guards the next three
	// counter is that of the last write, as far as it is known.
	counter int64
	at      kinesis.Checkpoint
	handing bool // another owner waits: this one is checkpointOwner

	// Guarded by Owner.mu.
	state   state
	renewed time.Time // when the last write that succeeded was begun
	due     bool      // to be renewed at once
}

// New checks the options. Nothing is sent.
func New(o Options) (*Owner, error) {
	if o.Failover == 0 {
		o.Failover = DefaultFailover
	}
	switch {
	case o.API == nil:
		return nil, errors.New("lease: API is nil")
	case o.Table == "":
		return nil, errors.New("lease: Table is empty")
	case o.Failover < MinFailover || o.Failover > MaxFailover:
		return nil, fmt.Errorf("lease: Failover is %v, not between %v and %v", o.Failover, MinFailover, MaxFailover)
	}
	if o.Worker == "" {
		o.Worker = uuid.NewString()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Close == nil {
		o.Close = func() {}
	}
	return &Owner{
		close: o.Close, table: table{api: o.API, name: o.Table, timeout: max(o.Failover/3, 500*time.Millisecond)},
		me: workerPrefix + o.Worker, failover: o.Failover, log: o.Log.With("table", o.Table), metrics: o.Metrics,
		changes: make(chan kinesis.Change), kick: make(chan struct{}, 1), queued: make(chan struct{}, 1),
		seen: map[string]*sighting{}, held: map[string]*held{}, told: map[string]bool{},
	}, nil
}

// renewEvery is how often a lease is renewed, as the KCL does; scanEvery how often all are looked at: more often than the KCL,
// so that a dead owner is seen to be dead soon after the fail-over time.
func (o *Owner) renewEvery() time.Duration { return o.failover/3 - 25*time.Millisecond }
func (o *Owner) scanEvery() time.Duration  { return o.failover / 3 }

// patience is how long to try to give up a lease: at a stop somebody waits for it, and the fail-over time does it too.
func (o *Owner) patience() time.Duration { return min(o.failover, 5*time.Second) }

// Shared implements kinesis.Owner.
func (o *Owner) Shared() bool { return true }

// Changes implements kinesis.Owner.
func (o *Owner) Changes() <-chan kinesis.Change { return o.changes }

// Begin implements kinesis.Owner. It creates the table where there is none.
func (o *Owner) Begin(ctx context.Context, stream kinesis.Stream, first kinesis.Checkpoint) (kinesis.Checkpoint, error) {
	for wait := time.Second; ; wait = min(2*wait, o.failover) {
		items, _, err := o.table.scan(ctx)
		if missing(err) {
			var created bool
			if created, err = o.table.make(ctx); err == nil {
				if created {
					o.log.Info("created the table of leases")
				}
				items, _, err = o.table.scan(ctx)
			}
		}
		switch {
		case err == nil:
			return o.begin(items, stream, first)
		case ctx.Err() != nil:
			return kinesis.Checkpoint{}, context.Cause(ctx)
		case !transient(err):
			return kinesis.Checkpoint{}, err
		}
		o.log.Warn("the table of leases cannot be read", "err", err)
		if !sleep(ctx, jittered(wait)) {
			return kinesis.Checkpoint{}, context.Cause(ctx)
		}
	}
}

func (o *Owner) begin(items []item, stream kinesis.Stream, first kinesis.Checkpoint) (kinesis.Checkpoint, error) {
	for _, it := range items {
		if it.key == "" {
			return kinesis.Checkpoint{}, fmt.Errorf("DynamoDB's table %q is no table of leases of the Kinesis Client Library: an item has no %s. Name another table, or one that does not exist", o.table.name, attrKey)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stream, o.first = stream, first
	o.naming = nameLeases(items, stream)
	o.table.of = serialised(stream)
	known := o.mine(items)
	for _, it := range known {
		// Shards have the same names in every stream. Positions and ends of others would pass over records of this one.
		if it.of != "" && it.of != o.table.of {
			return kinesis.Checkpoint{}, fmt.Errorf("DynamoDB's table %q has leases of the stream %s, and %s is to be read: another one, or one that was made anew under its name. Name another table, or delete this one", o.table.name, it.of, o.table.of)
		}
	}
	if o.notBefore = begunAt(known, first); !o.notBefore.IsZero() {
		return kinesis.Checkpoint{Sequence: kinesis.AtTimestamp, Time: o.notBefore}, nil
	}
	if len(known) == 0 {
		return first, nil
	}
	return kinesis.Checkpoint{Sequence: kinesis.TrimHorizon}, nil
}

// begunAt is the time before which nothing of the stream is read; zero: none. It is that of the leases where there are any.
func begunAt(known leases, first kinesis.Checkpoint) (at time.Time) {
	if len(known) == 0 && first.Sequence == kinesis.AtTimestamp {
		return first.Time
	}
	for _, it := range known {
		if !it.notBefore.IsZero() && (at.IsZero() || it.notBefore.Before(at)) {
			at = it.notBefore
		}
	}
	return at
}

// serialised is a stream as the KCL names it in a table of several.
func serialised(stream kinesis.Stream) string {
	return accountOf(stream) + ":" + stream.Name + ":" + strconv.FormatInt(stream.Created.Unix(), 10)
}

// accountOf is the account that has a stream; "": its ARN does not say.
func accountOf(stream kinesis.Stream) string {
	if part := strings.SplitN(stream.ARN, ":", 6); len(part) == 6 {
		return part[4]
	}
	return ""
}

// nameLeases finds out how keys are made: as those that the table has of this stream; or else as those of other streams, where
// it has only such; or else plainly, by the shard.
func nameLeases(items []item, stream kinesis.Stream) naming {
	account := accountOf(stream)
	plain, others := false, false
	for _, it := range items {
		if it.stream == "" {
			plain = true
			continue
		}
		others = true
		part := strings.Split(it.stream, ":")
		if len(part) >= 3 && (account == "" || part[0] == account) && part[1] == stream.Name && part[2] == strconv.FormatInt(stream.Created.Unix(), 10) {
			return naming{it.stream}
		}
	}
	if others && !plain {
		return naming{serialised(stream)}
	}
	return naming{}
}

// mine are the items of this stream.
func (o *Owner) mine(items []item) leases {
	known := leases{}
	for i := range items {
		if it := &items[i]; it.key != "" && it.stream == o.naming.stream {
			known[it.shard] = it
		}
	}
	return known
}

// Shards implements kinesis.Owner.
func (o *Owner) Shards(_ context.Context, all []kinesis.Shard) error {
	o.mu.Lock()
	o.list, o.listed = slices.Clone(all), true
	o.mu.Unlock()
	o.wake()
	return nil
}

// wake asks for a pass.
func (o *Owner) wake() {
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

// post tells the Reader of a change. o.mu is held.
func (o *Owner) post(c kinesis.Change) {
	o.queue = append(o.queue, c)
	select {
	case o.queued <- struct{}{}:
	default:
	}
}

// Run implements kinesis.Owner.
func (o *Owner) Run(ctx context.Context) error {
	defer o.close()
	defer close(o.changes)
	loops, running := errgroup.WithContext(ctx)
	loops.Go(func() error { return o.renewing(running) })
	loops.Go(func() error { return o.looking(running) })
	loops.Go(func() error { o.sending(running); return nil })
	err := loops.Wait()
	o.giveUpAll(context.WithoutCancel(ctx))
	if err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// sending hands changes over, in order, as fast as they are taken.
func (o *Owner) sending(ctx context.Context) {
	for {
		o.mu.Lock()
		queue := o.queue
		o.queue = nil
		o.mu.Unlock()
		for _, c := range queue {
			select {
			case o.changes <- c:
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-o.queued:
		case <-ctx.Done():
			return
		}
	}
}

// giveUpAll lets go of all that is owned, so that others need not wait. What cannot be given up in time is taken for dead later.
func (o *Owner) giveUpAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, o.patience())
	defer cancel()
	o.mu.Lock()
	var all []*held
	for _, h := range o.held {
		all = append(all, h)
	}
	var asked []string
	for key, s := range o.seen {
		if s.owner == o.me && o.held[s.shard] == nil {
			asked = append(asked, key)
		}
	}
	o.mu.Unlock()
	var writes errgroup.Group
	writes.SetLimit(maxWrites)
	for _, h := range all {
		writes.Go(func() error { o.Release(ctx, h.lane); return nil })
	}
	for _, key := range asked {
		writes.Go(func() error { o.withdraw(ctx, key); return nil })
	}
	_ = writes.Wait() // there are no errors
}

// withdraw sees to it that a lease that was asked for, and not yet taken, does not wait for this process.
func (o *Owner) withdraw(ctx context.Context, key string) {
	for range 2 { // it may be handed over meanwhile
		it, there, err := o.table.get(ctx, key)
		if err != nil || !there || it.owner != o.me || it.ended() {
			return
		}
		w := withdrawing(o.me, it)
		if it.checkpointOwner == "" {
			w = givingUp(o.me, it.counter, false)
		}
		if _, err := o.table.update(ctx, key, w); !errors.Is(err, errConflict) {
			return
		}
	}
}

// find returns the acquisition that a lane stands for, if it is still owned.
func (o *Owner) find(lane kinesis.Lane) *held {
	o.mu.Lock()
	defer o.mu.Unlock()
	if h := o.held[lane.Shard]; h != nil && h.lane == lane && h.state == owned {
		return h
	}
	return nil
}

// lose marks a lease as lost, unless it is known already, and tells the Reader.
func (o *Owner) lose(h *held, why string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if h.state != owned {
		return
	}
	h.state = lost
	o.count()
	o.post(kinesis.Change{Lane: h.lane, Lost: true})
	o.log.Info("lost a shard", "shard", h.lane.Shard, "why", why)
}

// drop forgets an acquisition; the shard may be acquired anew. o.mu is held.
func (o *Owner) drop(h *held) {
	if o.held[h.lane.Shard] == h {
		delete(o.held, h.lane.Shard)
	}
	o.count()
}

// count sets the gauges of lanes. o.mu is held.
func (o *Owner) count() {
	n := 0
	for _, h := range o.held {
		if h.state == owned {
			n++
		}
	}
	o.metrics.Lanes(n, o.waiting)
}
