package kinesis

import (
	"context"
	"errors"
	"time"
)

// ErrFenced says that a shard is somebody else's by now: what was read of it is to be let go, and nothing more is to be
// committed. It is final for the Lane it was said of.
var ErrFenced = errors.New("the shard is read by somebody else")

// Stream is the stream that is read, as its service described it.
type Stream struct {
	Name    string
	ARN     string
	Created time.Time // a stream that was made anew under the same name has another one; whole seconds
}

// Shard is one node of a stream's tree of shards. What a split or a merge leaves behind is closed, and holds its records
// until they are too old.
type Shard struct {
	ID      string
	Parents []string // none, one, or two after a merge, the main one first. They may be gone from the list.
	Closed  bool     // false where the answer did not say
	// The hash keys that it has, both inclusive: decimal numbers below 2^128. "" where the answer did not say.
	StartingHashKey, EndingHashKey string
}

// Lane is one shard for as long as this process owns it without a break. A shard that was lost and acquired again is
// another Lane: commits of the earlier one are refused.
type Lane struct {
	Shard string
	Token uint64 // differs for each acquisition in this process; only its Owner makes them
}

// Change says that a lane was acquired (neither Lost nor Wanted), that it was lost, or that somebody else is to have it.
type Change struct {
	Lane Lane
	Lost bool
	// Wanted: the lane is still owned, and asked for, to spread the shards over those who read them. The Reader stops reading
	// it, settles what it has of it, commits that and calls Release; then nothing is read twice. A Reader that takes
	// longer than half a minute hears that it was lost, as it also may before.
	Wanted bool
	// From is where reading begins, for a lane that was acquired: what was committed last, or TrimHorizon or a time where
	// nothing was. Where the Inlet is further already, reading goes on there.
	From Checkpoint
	// NotBefore: records that arrived before it are passed over. Zero: none.
	NotBefore time.Time
}

// Owner decides which shards this process reads, and keeps how far each was read. It is made for one run of a Reader, which
// calls Begin, then Run in a goroutine of its own, and the rest from any goroutine while Run runs.
//
// Parents come before children: a lane is acquired, as far as the Reader hears of it, only once every parent that is known
// has ended (Ready tells). An Owner may hold the right to a shard before.
type Owner interface {
	// Begin says where reading of the stream begins: first, which the configuration says (TrimHorizon, or a time: "latest" is
	// resolved before it comes here), or what was noted durably when the stream was begun. Errors are for the operator.
	Begin(ctx context.Context, stream Stream, first Checkpoint) (Checkpoint, error)
	// Run owns shards until ctx ends, and gives up then what is still owned. It closes Changes before it returns. It retries
	// what may pass; an error is one that only an operator can mend.
	Run(ctx context.Context) error
	// Shards is told the whole list of shards whenever it was read: at first, at least once a minute, and soon after the end
	// of a shard. Not from two goroutines at once.
	Shards(ctx context.Context, all []Shard) error
	// Changes are read by one goroutine until it is closed, whatever else happens.
	Changes() <-chan Change
	// Commit says that all records of the lane up to at, inclusive, are delivered. at never goes back for one Lane and is a
	// sequence number. nil: it is durable; ErrFenced: the lane is over. Other errors have been retried for a while; the next
	// Commit may succeed and stands for this one too.
	Commit(ctx context.Context, lane Lane, at Checkpoint) error
	// End says that all records of a closed shard are delivered (with Shared) or durable here (without): the children are
	// made known first, where they are not yet, to be read from TrimHorizon, and then the shard is marked as ended. What the
	// closing answer said of the children is in children; it may be empty, and then the list of shards tells. A parent of theirs
	// that the list does not have may be newer than the list, and still to be read. Errors as of
	// Commit; it is repeated until it succeeds or says ErrFenced. A lane that has ended needs no Release.
	End(ctx context.Context, lane Lane, children []Shard) error
	// Release says that the Reader has stopped with a lane: after it was lost, or at the end. Where the lane is still owned,
	// it is given up, so that somebody else can begin at once.
	Release(ctx context.Context, lane Lane)
	// Shared says that others may own shards of the same stream: then Commit and End follow delivery, and what was read of a
	// lane is let go when it is lost. Without it what the Inlet keeps is the only truth.
	Shared() bool
}
