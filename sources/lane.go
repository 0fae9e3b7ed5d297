package sources

import (
	"context"
	"errors"
	"time"
)

// MaxPosition is the most bytes of a Position, MaxLane of a lane's name, MaxRows of the records and metadata of one Append.
const (
	MaxPosition = 256
	MaxLane     = 255
	MaxRows     = 32 << 20
)

// ErrReleased says that a lane was given up, or let go, while rows of it were handed over.
var ErrReleased = errors.New("the lane was released")

// Position is where reading goes on in a lane. Only the reader of the source knows how to read and compare it; nil is
// "nothing is known". It is at most MaxPosition bytes.
type Position []byte

// Rows are consecutive records of a lane. They stay together until they are durable, as nobody knows a position between
// them: an object or run that is cut has all of them or none. Some hundred KiB to a few MiB are good; what is more makes
// objects less even and waits for more room at once.
type Rows struct {
	// Lane names a shard or partition for ever: "clicks-7", "shardId-000000000012". At most MaxLane bytes of printable
	// ASCII without slashes and spaces. Names that begin with "@" are notes of the reader's own, which have no rows.
	Lane string
	// Arrived is when the stream took the first of them, by its own account. Rows that lie more than a second apart are
	// handed over one call after another, since they may belong under different prefixes.
	Arrived time.Time
	// Data is one record each, in the lane's order; at least one. It is copied.
	Data [][]byte
	// Meta is what the source knows of each record besides, encoded by record.AppendMeta, in the order of Data; empty
	// where it knows nothing. It is copied.
	Meta [][]byte
	// Next is where reading goes on after the last of them; not empty.
	Next Position
}

// Inlet takes the records of one stream from the Reader of its source. Rows are not journaled: until a run or a manifest
// holds them they are only in memory, and after a crash the reader begins again at the lane's position, which is part of the
// frame that made its rows durable. Safe for concurrent use; calls for one lane must not overlap.
type Inlet interface {
	// Position is where reading of the lane goes on: after the last rows that were appended, or, in a new process, after the
	// last rows that a run or manifest of this data directory holds. nil: nothing is known of the lane here.
	Position(lane string) Position
	// Lanes are the names of all lanes, and notes, of which something is known.
	Lanes() []string
	// Append takes rows over, in order. It waits while there is no room for them, until ctx ends; then none was taken, and
	// its error is that of ctx. A stream may hold as much of memory and disk as is still free of them, and lanes wait in the
	// order in which they came. Other errors: ErrReleased, or what is wrong with the rows: also that there are more lanes than
	// the data directory has room for.
	Append(ctx context.Context, rows Rows) error
	// Note makes a position durable by itself, on return: for a lane that moved on without rows (everything there was a
	// marker or had been trimmed), for a start that was resolved once ("@start"), for the end of a shard. Rows of the lane
	// that wait are made durable before it.
	Note(ctx context.Context, lane string, next Position) error
	// Delivered is the position before which everything of the lane is delivered, in the error output or dropped as
	// configured: what the source may be told. nil: nothing of it yet.
	Delivered(lane string) Position
	// Changed yields a token when Delivered may have changed. Tokens merge; one reader.
	Changed() <-chan struct{}
	// Settle delivers what was appended of these lanes before the call and returns when Delivered says so, or with the error
	// of ctx, or ErrReleased. All that waits of the stream may be cut for it. While the stream is paused it waits.
	Settle(ctx context.Context, lanes ...string) error
	// Release lets go of a lane that somebody else reads from now on: its rows that no run or manifest holds are forgotten,
	// as if they had not been read, and an Append that waits ends with ErrReleased. What a run or manifest holds, or is being
	// written into one at this moment, is still delivered: Position is the place behind that again.
	Release(lane string)
	// Forget removes what is known of a lane whose end was delivered and that will not be read again, durably some time
	// later. Where rows of it have not been delivered it does nothing.
	Forget(lane string)
}

// Reader brings the records of a source to an Inlet until ctx ends, and then returns nil; it closes what it opened. It is run
// again in the same process after an error, when the stream has changed, and so on, each time with an Inlet that knows all
// that was appended before: those rows stay. Who may not get a lane back releases it before it returns. An error
// is one that only somebody else can mend: a topic that is not there, a denied login, a position that is out of range with
// the policy to stop. The caller logs it, says so in the stream's status and tries again, slowly. Faults that pass are
// retried by the Reader itself.
type Reader interface {
	Run(ctx context.Context, in Inlet) error
}
