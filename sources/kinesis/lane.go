package kinesis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"hydrant/sources"
	"hydrant/sources/kinesis/aggregate"
)

// noteEvery is how often a position that moved on without rows is made durable.
const noteEvery = time.Minute

// lane reads one shard for as long as it is owned. Its fields belong to the goroutine of read, but where said otherwise.
type lane struct {
	r         *Reader
	in        sources.Inlet
	src       *source
	owner     Owner
	own       Lane
	identity  string    // of the stream, in positions
	notBefore time.Time // records that arrived before it are passed over
	log       *slog.Logger
	listNow   func() // asks for the list of shards, soon

	at        Checkpoint // behind what was handed over, or has no rows
	inside    bool       // where it began is inside an aggregate: the Inlet knows, a table of others does not
	moved     time.Time  // when rows were handed over, or a note was made, last
	noted     Checkpoint
	rows      *rows // while an answer is unpacked
	aggregate aggregate.Aggregate
	offset    []byte
	memory    claim
	children  []Shard // of a shard that has ended, as far as its last answer told

	stop context.CancelCauseFunc // of reading; any goroutine
	err  error                   // what read returned

	committing  sync.Mutex // guards what follows
	committed   Checkpoint
	undelivered []sent // of lanes that are shared: what was handed over and is not delivered, the oldest first
}

// sent is that rows up to a place were handed over, of which the first arrived then.
type sent struct {
	to      Checkpoint
	arrived time.Time
}

// maxSent is how many of them a lane remembers; beyond, neighbours are merged.
const maxSent = 64

// batch is one answer.
type batch struct {
	records  []types.Record
	behind   time.Duration // behind the newest record of the shard
	next     string        // number to go on after, where the answer says it; "": that of the last record
	end      bool          // of a closed shard
	children []Shard
}

// fetcher reads a shard by one of the two ways.
type fetcher interface {
	// next waits as the way's pace asks and returns what comes after at, maybe no records. Faults that pass are
	// retried in it.
	next(ctx context.Context, at Checkpoint) (batch, error)
	close()
}

func (l *lane) position(c Checkpoint) sources.Position { return position(l.identity, c) }

// read reads until the shard ends, or ctx does. nil: it has ended, and its Owner knows.
func (l *lane) read(ctx context.Context) error {
	l.memory = claim{of: l.r.credit, expected: minExpected}
	defer l.memory.keep(0)
	if l.at.Sequence == ShardEnd {
		return l.finish(ctx, nil)
	}
	var f fetcher = &poller{l: l}
	if l.r.o.FanOut != "" {
		f = &subscriber{l: l}
	}
	defer f.close()
	defer l.r.o.Metrics.Left(l.own.Shard)
	for {
		b, err := f.next(ctx, l.at)
		if err == nil {
			l.r.o.Metrics.Behind(l.own.Shard, b.behind, -1, time.Now())
			err = l.take(ctx, b.records)
		}
		switch {
		case errors.Is(err, errShardGone):
			l.r.o.Metrics.Add(sources.ReadGaps, 1)
			l.log.Error("shard is gone before it was read to its end: what it still had is lost", "at", l.at.String())
			return l.finish(ctx, nil)
		case err != nil:
			return err
		}
		l.memory.keep(0)
		l.advance(Checkpoint{Sequence: b.next, Whole: true})
		if b.end {
			return l.finish(ctx, b.children)
		}
		if l.at.Compare(l.noted) > 0 && l.at.IsNumber() && time.Since(l.moved) >= noteEvery {
			if err := l.in.Note(ctx, l.own.Shard, l.position(l.at)); err != nil {
				return err
			}
			l.noted, l.moved = l.at, time.Now()
		}
	}
}

// finish ends a shard: all of it is durable, and delivered where others may read its children, before those begin.
func (l *lane) finish(ctx context.Context, children []Shard) error {
	name := l.own.Shard
	l.children = children
	if l.at.Sequence != ShardEnd {
		l.at = Checkpoint{Sequence: ShardEnd}
		if err := l.in.Note(ctx, name, l.position(l.at)); err != nil {
			return err
		}
	}
	if l.owner.Shared() {
		if err := l.in.Settle(ctx, name); err != nil {
			return err
		}
	}
	wait := backoff{base: l.r.o.Backoff}
	for {
		err := l.owner.End(ctx, l.own, children)
		switch {
		case err == nil:
			l.log.Info("shard is read to its end", "children", names(children))
			if l.owner.Shared() {
				l.in.Forget(name) // the table knows
			}
			l.listNow()
			return nil
		case errors.Is(err, ErrFenced) || ctx.Err() != nil:
			return err
		}
		l.listNow() // it may tell of the children
		l.log.Warn("end of a shard could not be noted", "err", err)
		if err := wait.sleep(ctx); err != nil {
			return err
		}
	}
}

func names(shards []Shard) []string {
	ids := make([]string, len(shards))
	for i, s := range shards {
		ids[i] = s.ID
	}
	return ids
}

// appended remembers what was handed over, until it is delivered.
func (l *lane) appended(to Checkpoint, arrived time.Time) {
	if !l.owner.Shared() {
		return
	}
	l.committing.Lock()
	defer l.committing.Unlock()
	if n := len(l.undelivered); n >= maxSent {
		for i := range n / 2 { // two become one: as old as the older, done when the newer is
			l.undelivered[i] = sent{l.undelivered[2*i+1].to, l.undelivered[2*i].arrived}
		}
		l.undelivered = l.undelivered[:n/2]
	}
	l.undelivered = append(l.undelivered, sent{to, arrived})
}

// oldest is when the oldest record arrived that was handed over and is not delivered; zero: all are.
func (l *lane) oldest() time.Time {
	l.committing.Lock()
	defer l.committing.Unlock()
	if len(l.undelivered) == 0 {
		return time.Time{}
	}
	return l.undelivered[0].arrived
}

// commit tells the Owner what is delivered, where that is more than it was told. Safe for concurrent use.
func (l *lane) commit(ctx context.Context) error {
	l.committing.Lock()
	defer l.committing.Unlock()
	at, ok := parsePosition(l.identity, l.in.Delivered(l.own.Shard))
	if !ok {
		return nil
	}
	for len(l.undelivered) > 0 && l.undelivered[0].to.Compare(at) <= 0 {
		l.undelivered = l.undelivered[1:]
	}
	if !at.IsNumber() || at.Compare(l.committed) <= 0 {
		return nil
	}
	if err := l.owner.Commit(ctx, l.own, at); err != nil {
		if errors.Is(err, ErrFenced) {
			l.r.o.Metrics.Add(sources.ReadFenced, 1)
		}
		return fmt.Errorf("commit %s of shard %s: %w", at, l.own.Shard, err)
	}
	l.r.o.Metrics.Add(sources.ReadCommits, 1)
	l.committed = at
	return nil
}
