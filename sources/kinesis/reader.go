package kinesis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hydrant/sources"
)

// Defaults of Options.
const (
	DefaultInterval       = time.Second
	DefaultReadsPerSecond = 4
	DefaultListInterval   = time.Minute
	DefaultBackoff        = time.Second
	DefaultMemory         = 64 << 20
	// MinMemory is one whole answer and what is decoded of it.
	MinMemory = 48 << 20
	// settleTimeout is how long a Reader that is to hand a lane over waits for the delivery of what it has read of it,
	// stopTimeout one that stops.
	settleTimeout = 20 * time.Second
	stopTimeout   = 10 * time.Second
)

// Options of a Reader.
type Options struct {
	// Stream is the name or the ARN of a data stream.
	Stream   string
	Region   string // "": that of the ARN, or else of the environment or the profile
	Endpoint string // "": AWS's

	// RoleARN, where not "", is assumed with the credentials of AWS's chain, at STSEndpoint ("": AWS's).
	RoleARN     string
	STSEndpoint string

	// Start is where reading begins where nothing is known of a stream: Latest, TrimHorizon, or AtTimestamp with its Time.
	Start Checkpoint
	// FanOut is the name of a consumer that reads by enhanced fan-out; it is registered where it is not there. "": GetRecords.
	FanOut string
	// KeepAggregates hands aggregates of the Kinesis Producer Library on as they came.
	KeepAggregates bool
	// Own makes the Owner of the shards for one run. nil: this process owns all, and the Inlet keeps the positions.
	Own func() (Owner, error)

	// Memory is how many bytes answers may take, of all shards together, until they are handed over. 0: DefaultMemory.
	Memory int64
	// Interval is the time between two reads of a shard that has nothing more; 0: DefaultInterval. Where there is more a shard
	// is read up to ReadsPerSecond times a second, of five that all its readers have, and BytesPerSecond; 0: the defaults, below 0
	// any number of bytes.
	Interval       time.Duration
	ReadsPerSecond int
	BytesPerSecond int
	// ListInterval is the time between two looks at the list of shards; 0: DefaultListInterval.
	ListInterval time.Duration
	// Backoff is the time after the first fault that may pass; 0: DefaultBackoff. Resubscribe is how long after a subscription
	// the next one to the same shard comes; 0: five seconds, which the service asks for.
	Backoff     time.Duration
	Resubscribe time.Duration

	Metrics *sources.StreamReading // nil: nothing is counted
	Log     *slog.Logger           // nil: nothing is logged
}

// Reader reads a stream. It is a sources.Reader; one Run at a time.
type Reader struct {
	o      Options
	log    *slog.Logger
	credit *credit

	consumer string    // ARN, of a run
	asked    time.Time // when the first Run began: what "latest" means, however long the service could not be asked
	rows     sync.Pool

	told sync.Mutex
	last time.Time // a line of the log about records, guarded by told
}

var _ sources.Reader = (*Reader)(nil)

var (
	arnForm  = regexp.MustCompile(`^arn:aws[a-z-]*:kinesis:([a-z0-9-]+):\d{12}:stream/([a-zA-Z0-9_.-]{1,128})$`)
	nameForm = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)
)

func isARN(stream string) bool { return strings.HasPrefix(stream, "arn:") }

// New checks the options. Nothing is sent.
func New(o Options) (*Reader, error) {
	if m := arnForm.FindStringSubmatch(o.Stream); m != nil {
		if o.Region == "" {
			o.Region = m[1]
		}
	} else if !nameForm.MatchString(o.Stream) {
		return nil, fmt.Errorf("stream: %q is neither the name nor the ARN of a Kinesis data stream", o.Stream)
	}
	for _, e := range []struct{ name, value string }{{"endpoint", o.Endpoint}, {"sts endpoint", o.STSEndpoint}} {
		if u, err := url.Parse(e.value); e.value != "" && (err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https") {
			return nil, fmt.Errorf("%s: it is not a URL that begins with http:// or https://", e.name)
		}
	}
	switch o.Start.Sequence {
	case "":
		o.Start.Sequence = Latest
	case Latest, TrimHorizon, AtTimestamp:
	default:
		return nil, fmt.Errorf("start: %s is neither %s, %s nor a time", o.Start, Latest, TrimHorizon)
	}
	if o.FanOut != "" && !nameForm.MatchString(o.FanOut) {
		return nil, fmt.Errorf("consumer: %q is no name of a consumer: letters, digits, _, . and -, at most 128", o.FanOut)
	}
	set(&o.Interval, DefaultInterval)
	set(&o.ReadsPerSecond, DefaultReadsPerSecond)
	set(&o.BytesPerSecond, bytesPerSecond)
	set(&o.ListInterval, DefaultListInterval)
	set(&o.Backoff, DefaultBackoff)
	set(&o.Resubscribe, resubscribe)
	set(&o.Memory, DefaultMemory)
	o.Memory = max(o.Memory, MinMemory)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Reader{o: o, log: o.Log, credit: newCredit(o.Memory), rows: sync.Pool{New: func() any { return &rows{} }}}, nil
}

func set[T comparable](to *T, value T) {
	var zero T
	if *to == zero {
		*to = value
	}
}

// worthTelling says, at most once a minute, that a fault of records may go to the log.
func (r *Reader) worthTelling() bool {
	r.told.Lock()
	defer r.told.Unlock()
	if time.Since(r.last) < time.Minute {
		return false
	}
	r.last = time.Now()
	return true
}

// Run implements sources.Reader.
func (r *Reader) Run(ctx context.Context, in sources.Inlet) error {
	if r.asked.IsZero() {
		r.asked = time.Now()
	}
	client, closeIdle, err := r.connect(ctx)
	if err != nil {
		return quiet(ctx, err)
	}
	defer closeIdle()
	src, retention, now, err := r.describe(ctx, client)
	if err != nil {
		return quiet(ctx, err)
	}
	r.o.Metrics.Retention(retention)
	var owner Owner = newLocal(in, r.log, r.o.Metrics, forgetLists*r.o.ListInterval)
	if r.o.Own != nil {
		if owner, err = r.o.Own(); err != nil {
			return quiet(ctx, err)
		}
	}
	first := r.o.Start
	if first.Sequence == Latest {
		first = Checkpoint{Sequence: AtTimestamp, Time: now.UTC().Add(-time.Since(r.asked)).Truncate(time.Millisecond)}
	}
	start, err := owner.Begin(ctx, src.stream, first)
	if err != nil {
		return quiet(ctx, err)
	}
	if r.o.FanOut != "" {
		if r.consumer, err = r.register(ctx, src); err != nil {
			return quiet(ctx, err)
		}
	}
	r.log.Info("reading a Kinesis stream", "arn", src.stream.ARN, "start", start.String())
	x := &run{
		r: r, in: in, src: src, owner: owner, identity: identity(src.stream), since: start.Time, retention: retention,
		lanes: map[Lane]*lane{}, list: make(chan struct{}, 1), absent: map[string]time.Time{},
	}
	return quiet(ctx, x.run(ctx))
}

// quiet is nil at the end of ctx, whatever ended with it.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// run is one run of a Reader.
type run struct {
	r         *Reader
	in        sources.Inlet
	src       *source
	owner     Owner
	identity  string
	since     time.Time // shards that were closed before it are of no interest
	retention time.Duration
	list      chan struct{} // asks for the list of shards

	mu     sync.Mutex // guards what follows
	lanes  map[Lane]*lane
	closed bool // no lane begins any longer

	// of the goroutine of listing
	alarm     time.Time            // the last line of the log about the retention
	uncovered int                  // how many lists in a row had holes
	absent    map[string]time.Time // since when a lane that the Inlet knows is not listed
}

// Why a lane stops being read, as causes.
var (
	errLost   = errors.New("the lane was lost")
	errWanted = errors.New("the lane is wanted by somebody else")
)

func (x *run) run(ctx context.Context) error {
	// The Owner outlives the lanes, so that they can be settled and given up in peace.
	owning, disown := context.WithCancel(context.WithoutCancel(ctx))
	defer disown()
	g, reading := errgroup.WithContext(ctx)
	ended := make(chan error, 1)
	var background sync.WaitGroup
	background.Go(func() { ended <- x.owner.Run(owning) })
	background.Go(func() {
		for c := range x.owner.Changes() {
			x.change(reading, owning, g, c)
		}
	})
	g.Go(func() error { return x.listing(reading) })
	g.Go(func() error { return x.committing(reading, owning) })
	g.Go(func() error { // ends last of all: until then lanes may begin
		var err error
		select {
		case err = <-ended:
			if err == nil && reading.Err() == nil {
				err = errors.New("the owner of the shards ended by itself")
			}
		case <-reading.Done():
		}
		x.mu.Lock()
		x.closed = true
		x.mu.Unlock()
		return err
	})
	err := g.Wait()
	x.stop(owning)
	disown()
	background.Wait()
	return err
}

// change follows one change of what is owned.
func (x *run) change(reading, owning context.Context, g *errgroup.Group, c Change) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.lanes[c.Lane]
	switch {
	case c.Lost && l != nil:
		l.stop(errLost)
	case c.Wanted && l != nil:
		l.stop(errWanted)
	case c.Lost || c.Wanted || l != nil:
	case x.closed:
		x.owner.Release(owning, c.Lane) // it came while we stop
	default:
		x.start(reading, owning, g, c)
	}
}

// start begins to read a lane. mu is held.
func (x *run) start(reading, owning context.Context, g *errgroup.Group, c Change) {
	ctx, stop := context.WithCancelCause(reading)
	l := &lane{
		r: x.r, in: x.in, src: x.src, owner: x.owner, own: c.Lane, identity: x.identity, notBefore: c.NotBefore,
		log: x.r.log.With("shard", c.Lane.Shard), listNow: x.listNow, at: c.From, committed: c.From, stop: stop, moved: time.Now(),
	}
	if kept, ok := parsePosition(x.identity, x.in.Position(c.Lane.Shard)); ok && kept.Compare(l.at) > 0 {
		l.at, l.inside = kept, kept.IsNumber() && !kept.Whole
	}
	l.noted = l.at
	x.lanes[c.Lane] = l
	l.log.Debug("shard is read", "at", l.at.String())
	g.Go(func() error {
		l.err = l.read(ctx)
		return x.over(ctx, reading, owning, l)
	})
}

// over does what follows the end of reading a lane. Its error ends the run.
func (x *run) over(ctx, reading, owning context.Context, l *lane) error {
	defer l.stop(nil)
	err, cause := l.err, context.Cause(ctx)
	switch {
	case err == nil: // it has ended
		x.drop(l)
		return nil
	case reading.Err() != nil:
		return nil // stop settles all of them
	case errors.Is(err, ErrFenced), errors.Is(err, sources.ErrReleased), errors.Is(cause, errLost):
		x.lose(owning, l)
		return nil
	case errors.Is(cause, errWanted):
		within, cancel := context.WithTimeout(owning, settleTimeout)
		defer cancel()
		if err := x.in.Settle(within, l.own.Shard); err != nil {
			l.log.Warn("shard is handed over before all that was read of it is delivered", "err", err)
		}
		x.hand(within, l)
		return nil
	}
	return err
}

// lose lets go of a lane that is somebody else's.
func (x *run) lose(owning context.Context, l *lane) {
	l.log.Info("shard is read by somebody else now")
	x.r.o.Metrics.Add(sources.ReadLanesLost, 1)
	x.let(owning, l)
}

func (x *run) let(owning context.Context, l *lane) {
	x.in.Release(l.own.Shard)
	x.owner.Release(owning, l.own)
	x.drop(l)
}

func (x *run) drop(l *lane) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.lanes, l.own)
}

func (x *run) owned() []*lane {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := make([]*lane, 0, len(x.lanes))
	for _, l := range x.lanes {
		all = append(all, l)
	}
	return all
}

// hand gives up a lane that is settled as far as it can be.
func (x *run) hand(ctx context.Context, l *lane) {
	var err error
	if l.at.Sequence == ShardEnd {
		if err = l.finish(ctx, l.children); err == nil {
			x.drop(l)
			return
		}
	} else {
		err = l.commit(ctx)
	}
	if err != nil {
		l.log.Warn("what is delivered of a shard could not be committed: it will be read again", "err", err)
	}
	x.let(ctx, l)
}

// stop settles what was read and gives the lanes up. Nothing reads any longer.
func (x *run) stop(owning context.Context) {
	all := x.owned()
	if len(all) == 0 || !x.owner.Shared() {
		return
	}
	within, cancel := context.WithTimeout(owning, stopTimeout)
	defer cancel()
	names := make([]string, len(all))
	for i, l := range all {
		names[i] = l.own.Shard
	}
	if err := x.in.Settle(within, names...); err != nil {
		x.r.log.Warn("what was read last is not delivered, and will be read again by whoever is next", "err", err)
	}
	var g errgroup.Group
	g.SetLimit(commitsAtATime)
	for _, l := range all {
		g.Go(func() error { x.hand(within, l); return nil })
	}
	_ = g.Wait()
}

func (x *run) listNow() {
	select {
	case x.list <- struct{}{}:
	default:
	}
}

// listing looks at the list of shards, now and then, and after the end of each shard.
func (x *run) listing(ctx context.Context) error {
	tick := time.NewTicker(x.r.o.ListInterval)
	defer tick.Stop()
	for {
		all, err := x.r.list(ctx, x.src, x.since)
		if err != nil {
			return err
		}
		x.covered(all)
		if err := x.owner.Shards(ctx, all); err != nil {
			return err
		}
		x.forget(all)
		x.atStake()
		// Ends of shards come in crowds; the list is not read for each of them.
		if err := sleep(ctx, min(x.r.o.Interval, time.Second)); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-x.list:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// holesWorth is how many lists in a row with holes are worth an error: while shards are split the list may lag behind.
const holesWorth = 3

// covered looks for hash keys that no open shard has.
func (x *run) covered(all []Shard) {
	var open []Shard
	for _, s := range all {
		if !s.Closed {
			open = append(open, s)
		}
	}
	holes := Holes(open)
	if len(holes) == 0 {
		x.uncovered = 0
		return
	}
	if x.uncovered++; x.uncovered == holesWorth {
		x.r.log.Error("no open shard has some hash keys: records with such keys would not be read", "from", holes[0][0], "to", holes[0][1])
	}
}

// forget lets the Inlet forget lanes of shards that are gone, where others may have read them to their end: each process keeps
// a position of every shard that it ever had, and there is room for so many.
func (x *run) forget(all []Shard) {
	if !x.owner.Shared() { // without others the Owner does
		return
	}
	here := make(map[string]bool, len(all))
	for _, s := range all {
		here[s.ID] = true
	}
	for _, l := range x.owned() {
		here[l.own.Shard] = true
	}
	for _, name := range x.in.Lanes() {
		since, known := x.absent[name]
		switch {
		case here[name], strings.HasPrefix(name, "@"):
			delete(x.absent, name)
		case !known:
			x.absent[name] = time.Now()
		case time.Since(since) > forgetLists*x.r.o.ListInterval:
			delete(x.absent, name)
			x.in.Forget(name)
		}
	}
}

// The part of the retention at which records that are not read, or not delivered, are worth a line in the log.
const (
	warnAt  = .25
	errorAt = .5
)

// atStake tells when records come near the end of the retention.
func (x *run) atStake() {
	now := time.Now()
	age := x.r.o.Metrics.Lag(now)
	for _, l := range x.owned() {
		if t := l.oldest(); !t.IsZero() {
			age = max(age, now.Sub(t))
		}
	}
	part := float64(age) / float64(max(x.retention, time.Hour))
	if part < warnAt || time.Since(x.alarm) < 10*time.Minute {
		return
	}
	x.alarm = now
	level := slog.LevelWarn
	if part >= errorAt {
		level = slog.LevelError
	}
	x.r.log.Log(context.Background(), level, "records wait in the stream for long: they are lost when they are older than its retention", "age", age.Round(time.Second), "retention", x.retention)
}

// commitsAtATime bounds the calls of an Owner; commitEvery is the time between two commits of a lane.
const (
	commitsAtATime = 16
	commitEvery    = time.Second
)

// committing tells the Owner what is delivered.
func (x *run) committing(ctx, owning context.Context) error {
	if !x.owner.Shared() {
		return nil
	}
	retry := time.NewTicker(10 * commitEvery)
	defer retry.Stop()
	for {
		select {
		case <-x.in.Changed():
		case <-retry.C: // what failed
		case <-ctx.Done():
			return ctx.Err()
		}
		var g errgroup.Group
		g.SetLimit(commitsAtATime)
		for _, l := range x.owned() {
			g.Go(func() error {
				if err := l.commit(owning); errors.Is(err, ErrFenced) {
					l.stop(errLost)
				} else if err != nil {
					l.log.Warn("commit failed and is made again", "err", err)
				}
				return nil
			})
		}
		_ = g.Wait()
		if err := sleep(ctx, commitEvery); err != nil {
			return err
		}
	}
}
