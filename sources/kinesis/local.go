package kinesis

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"hydrant/sources"
)

// startNote is the note of where reading of the stream began: a position, and the stream's ARN.
const startNote = "@start"

// forgetLists is for how many intervals of the list a shard must be gone from it before it is forgotten: were it listed
// again, it would be read again.
const forgetLists = 10

// local is the Owner of a process that reads all shards alone. What is known of them is the Inlet's.
type local struct {
	in      sources.Inlet
	log     *slog.Logger
	metrics *sources.StreamReading
	changes chan Change
	wake    chan struct{} // a token when there is something in queue
	// forgetAfter is how long a shard must be gone from the list before it is forgotten.
	forgetAfter time.Duration

	identity string     // set by Begin
	start    Checkpoint // set by Begin

	mu     sync.Mutex // guards what follows
	shards map[string]Shard
	owned  map[string]bool
	ended  map[string]bool
	absent map[string]time.Time // since when a shard that is known is not listed
	queue  []Change
	token  uint64
}

var _ Owner = (*local)(nil)

func newLocal(in sources.Inlet, log *slog.Logger, metrics *sources.StreamReading, forgetAfter time.Duration) *local {
	return &local{
		in: in, log: log, metrics: metrics, forgetAfter: forgetAfter, changes: make(chan Change), wake: make(chan struct{}, 1),
		shards: map[string]Shard{}, owned: map[string]bool{}, ended: map[string]bool{}, absent: map[string]time.Time{},
	}
}

// Begin implements Owner.
func (o *local) Begin(ctx context.Context, stream Stream, first Checkpoint) (Checkpoint, error) {
	o.identity, o.start = identity(stream), first
	noted := o.in.Position(startNote)
	if noted != nil {
		text, arn, _ := strings.Cut(strings.Replace(string(noted), " ", "\x00", 1), "\t")
		text = strings.Replace(text, "\x00", " ", 1)
		if c, ok := parsePosition(o.identity, sources.Position(text)); ok {
			o.start = c
			return c, nil
		}
		if arn == shortARN(stream.ARN) {
			o.metrics.Add(sources.ReadGaps, 1)
			o.log.Error("the stream was made anew under its name: what of the earlier one was not read is lost, and this one is read from its beginning", "arn", stream.ARN, "created", stream.Created)
			o.start = Checkpoint{Sequence: TrimHorizon}
		} else {
			o.log.Warn("another stream than before is read, from where the configuration says", "arn", stream.ARN)
		}
	}
	note := append(position(o.identity, o.start), '\t')
	if err := o.in.Note(ctx, startNote, append(note, shortARN(stream.ARN)...)); err != nil {
		return Checkpoint{}, fmt.Errorf("note where reading of stream %s begins: %w", stream.Name, err)
	}
	return o.start, nil
}

// shortARN is as much of the end of an ARN as a note has room for: names are at most 128 bytes.
func shortARN(arn string) string { return arn[max(0, len(arn)-180):] }

// Run implements Owner.
func (o *local) Run(ctx context.Context) error {
	defer close(o.changes)
	for {
		select {
		case <-o.wake:
		case <-ctx.Done():
			return nil
		}
		o.mu.Lock()
		queue := o.queue
		o.queue = nil
		o.mu.Unlock()
		for _, c := range queue {
			select {
			case o.changes <- c:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// Changes implements Owner.
func (o *local) Changes() <-chan Change { return o.changes }

// Shared implements Owner.
func (o *local) Shared() bool { return false }

// Commit implements Owner: what is delivered is the Inlet's own account.
func (o *local) Commit(context.Context, Lane, Checkpoint) error { return nil }

// Shards implements Owner.
func (o *local) Shards(ctx context.Context, all []Shard) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range all {
		o.shards[s.ID] = s
	}
	listed := func(id string) bool { return slices.ContainsFunc(all, func(s Shard) bool { return s.ID == id }) }
	if len(all) > 64 {
		in := make(map[string]bool, len(all))
		for _, s := range all {
			in[s.ID] = true
		}
		listed = func(id string) bool { return in[id] }
	}
	for id := range o.shards {
		if listed(id) {
			delete(o.absent, id)
		} else if o.absent[id].IsZero() {
			o.absent[id] = time.Now()
		} else if time.Since(o.absent[id]) > o.forgetAfter && !o.owned[id] {
			delete(o.shards, id) // it keeps no child from beginning
			delete(o.absent, id)
		}
	}
	if err := o.lanes(ctx, listed); err != nil {
		return err
	}
	o.decide()
	return nil
}

// lanes looks at what the Inlet knows of: what has ended, and what is not in the list any longer.
func (o *local) lanes(ctx context.Context, listed func(string) bool) error {
	for _, name := range o.in.Lanes() {
		if strings.HasPrefix(name, "@") || o.owned[name] {
			continue
		}
		at, ours := parsePosition(o.identity, o.in.Position(name))
		if ours && at.Sequence == ShardEnd {
			o.ended[name] = true
		}
		if listed(name) {
			continue
		}
		if o.absent[name].IsZero() {
			o.absent[name] = time.Now()
		}
		if time.Since(o.absent[name]) <= o.forgetAfter {
			continue
		}
		if ours && at.Sequence != ShardEnd { // else it is of a stream that had the name before
			o.metrics.Add(sources.ReadGaps, 1)
			o.log.Error("shard is gone before it was read to its end: what it still had is lost", "shard", name, "at", at.String())
			if err := o.in.Note(ctx, name, position(o.identity, Checkpoint{Sequence: ShardEnd})); err != nil {
				return err
			}
			o.ended[name] = true
		}
		o.in.Forget(name)
	}
	return nil
}

// decide acquires what may be read by now. mu is held.
func (o *local) decide() {
	known := func(id string) bool { _, ok := o.shards[id]; return ok }
	over := func(id string) bool { return o.ended[id] }
	waiting := 0
	for _, s := range sortedShards(o.shards) {
		switch {
		case o.ended[s.ID], o.owned[s.ID]:
		case Ready(s, known, over):
			o.token++
			o.owned[s.ID] = true
			o.queue = append(o.queue, Change{Lane: Lane{Shard: s.ID, Token: o.token}, From: o.from(s, known), NotBefore: o.start.Time})
		default:
			waiting++
		}
	}
	o.metrics.Lanes(len(o.owned), waiting)
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// from is where reading of a shard begins that the Inlet does not know.
func (o *local) from(s Shard, known func(string) bool) Checkpoint {
	if Descends(s, known) || Descends(s, func(id string) bool { return o.ended[id] }) {
		return Checkpoint{Sequence: TrimHorizon}
	}
	return o.start
}

// sortedShards are shards as they were made, for which their names are numbered.
func sortedShards(m map[string]Shard) []Shard {
	all := make([]Shard, 0, len(m))
	for _, s := range m {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Shard) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// End implements Owner.
func (o *local) End(_ context.Context, lane Lane, children []Shard) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.owned, lane.Shard)
	o.ended[lane.Shard] = true
	for _, c := range children {
		// A parent that is not in the list may be newer than the list, and not yet read. Then the next list tells.
		known := !slices.ContainsFunc(c.Parents, func(p string) bool { _, ok := o.shards[p]; return !ok })
		if _, ok := o.shards[c.ID]; !ok && known {
			o.shards[c.ID] = c
		}
	}
	o.decide()
	return nil
}

// Release implements Owner.
func (o *local) Release(_ context.Context, lane Lane) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.owned, lane.Shard)
}
