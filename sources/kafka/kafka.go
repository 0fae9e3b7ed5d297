// Package kafka reads topics of Apache Kafka, as a member of a consumer group, into the Inlet of a stream.
//
// Fetched records flow in, by partition, and out to the Inlet as the rows of a lane, named "topic-partition". Positions are
// the offset of the next record with the id of the topic and the epoch of its leader. The group is told an offset only when
// everything before it is delivered.
//
// After a crash reading goes on at the position that the data directory holds with its rows, or at the group's offset where
// that is further: another replica had the partition meanwhile. So the same replica, or one that gets its disk, delivers
// each record once to destinations that do so, and a partition that moves to another replica at least once: twice what the
// one before it had made durable and not delivered.
//
// See DESIGN.md for who may do what when a partition changes hands.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"regexp"
	"sync"
	"time"

	"hydrant/sources"
)

// Policies for an offset that is out of range.
const (
	Stop     = "stop"
	Earliest = "earliest"
	Latest   = "latest"
)

// Defaults, and what memory may be.
const (
	DefaultMemory           = 64 << 20
	MinMemory               = 4 << 20
	DefaultSessionTimeout   = 45 * time.Second
	DefaultRebalanceTimeout = 60 * time.Second
	DefaultStopTime         = 10 * time.Second
)

// Options of a Reader.
type Options struct {
	// Brokers are the addresses of some, host:port.
	Brokers []string
	// Topics are names; Patterns are regular expressions of names. At least one of both.
	Topics, Patterns []string
	Group            string
	// InstanceID makes the member a static one; "": every Run joins as a new member.
	InstanceID string
	// Start is where reading begins in partitions that nothing is known of: Earliest, Latest, or "" with StartTime.
	Start     string
	StartTime time.Time
	// OutOfRange is the policy where an offset is gone, or the topic was made anew: Stop, Earliest or Latest. "" is Stop.
	OutOfRange string
	// Uncommitted reads records of transactions that are open or were aborted too.
	Uncommitted bool
	// MarkTombstones hands records without a value on as {"_deleted":true}, in place of dropping them.
	MarkTombstones bool
	// ArriveOnRead takes the time of reading for that of arrival, in place of a record's timestamp.
	ArriveOnRead bool
	// Value says how values are written.
	Value Value
	// SessionTimeout is how long the group waits for a sign of life, RebalanceTimeout for partitions that are given up. 0:
	// the defaults.
	SessionTimeout, RebalanceTimeout time.Duration
	// StopTime is how long a Run that ends goes on delivering what it read, so that the next one begins after it. 0:
	// DefaultStopTime; below 0: not at all.
	StopTime time.Duration
	// TLS, nil for none.
	TLS *TLS
	// SASL, nil for none.
	SASL *SASL
	// Memory is about how many bytes may be held of records that were fetched and not handed over. 0: DefaultMemory.
	Memory int64
	// MetadataAge is how late new topics and partitions may be found; 0 is 30 s.
	MetadataAge time.Duration
	// CommitEvery is the least time between commits; 0 is a second.
	CommitEvery time.Duration
	// WatchEvery is the time between looks at topics and at how far behind reading is; 0 is 15 s.
	WatchEvery time.Duration
	Reading    *sources.StreamReading // nil: not measured
	Log        *slog.Logger
}

// Reader reads one group's topics. Run may be called again after it returned, and not at the same time.
type Reader struct {
	o        Options
	group    uint64
	patterns []*regexp.Regexp
	values   *values
	batches  sync.Pool                                                         // of *batch
	held     held                                                              // what logs say once in a while
	dial     func(ctx context.Context, network, addr string) (net.Conn, error) // in tests; nil is the system's
}

var _ sources.Reader = (*Reader)(nil)

// New checks the options. It connects to nobody.
func New(o Options) (*Reader, error) {
	if len(o.Brokers) == 0 {
		return nil, errors.New("brokers: name one at least")
	}
	if len(o.Topics)+len(o.Patterns) == 0 {
		return nil, errors.New("topics: name one at least")
	}
	if o.Group == "" {
		return nil, errors.New("group: give it a name")
	}
	if o.OutOfRange == "" {
		o.OutOfRange = Stop
	}
	switch {
	case o.OutOfRange != Stop && o.OutOfRange != Earliest && o.OutOfRange != Latest:
		return nil, fmt.Errorf("out_of_range: %q is none of stop, earliest and latest", o.OutOfRange)
	case o.Start == "" && o.StartTime.IsZero(), o.Start != "" && o.Start != Earliest && o.Start != Latest:
		return nil, fmt.Errorf("start: %q is neither earliest nor latest, and no time", o.Start)
	case o.Memory != 0 && o.Memory < MinMemory:
		return nil, fmt.Errorf("memory: %d bytes are less than %d", o.Memory, MinMemory)
	}
	for _, d := range []struct {
		value *time.Duration
		is    time.Duration
	}{{&o.SessionTimeout, DefaultSessionTimeout}, {&o.RebalanceTimeout, DefaultRebalanceTimeout}, {&o.StopTime, DefaultStopTime}, {&o.CommitEvery, time.Second}, {&o.WatchEvery, 15 * time.Second}, {&o.MetadataAge, 30 * time.Second}} {
		if *d.value == 0 {
			*d.value = d.is
		}
	}
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Log = o.Log.With("source", "kafka", "group", o.Group)
	r := &Reader{o: o, group: groupHash(o.Group)}
	r.batches.New = func() any { return new(batch) }
	for _, p := range o.Patterns {
		re, err := regexp.Compile(p)
		if err != nil {
			return nil, fmt.Errorf("topics: %q is not a regular expression: %w", p, err)
		}
		r.patterns = append(r.patterns, re)
	}
	if o.SASL != nil {
		if err := o.SASL.check(); err != nil {
			return nil, fmt.Errorf("sasl: %w", err)
		}
		if o.SASL.Mechanism == MSKIAM && o.TLS == nil {
			r.o.TLS = &TLS{} // there is no plain listener for it
		}
	}
	var err error
	if r.values, err = newValues(o.Value, o.MarkTombstones); err != nil {
		return nil, fmt.Errorf("value: %w", err)
	}
	return r, nil
}

// stuckError is an error that only somebody else can mend.
type stuckError struct{ err error }

func (e *stuckError) Error() string { return e.err.Error() }
func (e *stuckError) Unwrap() error { return e.err }

func stuck(format string, args ...any) error { return &stuckError{fmt.Errorf(format, args...)} }

// Pauses between attempts that failed for a reason that passes.
const (
	firstPause = time.Second
	mostPause  = 30 * time.Second
)

// Run implements sources.Reader.
func (r *Reader) Run(ctx context.Context, in sources.Inlet) error {
	defer r.values.close()
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		began := time.Now()
		err := r.session(ctx, in)
		if ctx.Err() != nil {
			return nil
		}
		if s := (*stuckError)(nil); errors.As(err, &s) {
			return s.err
		}
		if time.Since(began) > mostPause {
			pause = firstPause
		}
		r.o.Reading.Add(sources.ReadFaults, 1)
		r.o.Log.Warn("reading begins again", "err", err, "in", pause)
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-ctx.Done():
			return nil
		}
	}
}
