// Package hook has a function outside of the daemon transform records, by the contract that Firehose has with Lambda
// functions: a request carries a batch of records in base64, the answer says of each of them Ok with new data, Dropped or
// ProcessingFailed.
//
// Rows flow in, in batches; one Outcome for each flows out, in the order of the rows. How a request gets to the function is
// a Carrier's business: http and lambda are those there are. An Invoker makes requests, reads answers, retries and splits; a
// Batcher gathers rows by size and time and keeps several invocations under way.
//
// Nothing here is durable and nothing here survives a crash. An outcome takes effect only when the caller has made it so, and
// a row whose outcome was lost goes to the function again, which may then decide otherwise. Record ids are the same each time.
package hook

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"hydrant/record"
	"hydrant/transform"
)

// Bounds of the contract. Sizes are Lambda's, and hold for every carrier: a function is written against them.
const (
	MaxRequest = 6 << 20     // bytes of one request
	MaxAnswer  = 6<<20 + 100 // bytes of one answer, as Lambda counts
	maxRows    = 10_000      // of one request, which bounds the memory for tiny rows
	MaxRetries = 300         // NumberOfRetries
	MaxTimeout = 15 * time.Minute

	DefaultRetries     = 3
	DefaultTimeout     = time.Minute
	DefaultConcurrency = 4
	MaxConcurrency     = 256
)

// Carrier takes requests to one function. It is safe for concurrent use and makes one attempt a call; nothing is retried
// under it.
type Carrier interface {
	// Invoke sends request, which is JSON, and returns the answer, in dst's capacity where it fits. request is not read any
	// more, and dst not written, once Invoke has returned. A failure is an *Error; any other error is taken for one with the
	// code InvocationFailure.
	Invoke(ctx context.Context, request, dst []byte) (answer []byte, err error)

	// Function names the function in error records and logs: an ARN, or a URL without user and query.
	Function() string
}

// Options of an Invoker.
type Options struct {
	Carrier Carrier

	DeliveryStreamARN string // goes into each request
	Region            string // likewise

	// Directory and Incarnation are those of the stream's records, whose ids are made of them.
	Directory   [16]byte
	Incarnation uint32

	// Timeout of one attempt; 0: DefaultTimeout.
	Timeout time.Duration
	// Retries after the first attempt; nil: DefaultRetries. 0 means one attempt.
	Retries *int
	// Concurrency is how many attempts are under way at most, over all calls of Invoke; 0: DefaultConcurrency.
	Concurrency int

	// PartitionKeys are those that the stream's prefix takes from the function (partitionKeyFromLambda). A record that comes
	// back Ok without one of them fails. Without any, what the function says in metadata is not looked at.
	PartitionKeys []string

	// Observe is told of each attempt, if not nil. It is called concurrently.
	Observe func(Attempt)
	Logger  *slog.Logger // nil: none
}

// Attempt is one call of the function, for metrics.
type Attempt struct {
	Records  int
	Request  int // bytes
	Answer   int // bytes, 0 for none
	Duration time.Duration
	Code     string // of the failure of the whole batch, "" where each record has an outcome of its own
	Retried  bool   // another attempt follows, whole or in halves
}

// Outcome is what became of one row.
type Outcome struct {
	// Result has the Seq, Sub, Arrived and Meta of the row that went in. With Ok, Data is the function's and Partitions has a value
	// for each of Options.PartitionKeys; several outcomes may share one map. With Failed, Data is that of the row.
	transform.Result

	Attempts int       // how often the row was sent
	Ended    time.Time // when the last attempt ended
}

// AppendID appends the id that a row has in requests: that of the record (as its put returned it), followed by a point and
// the number for sub-records from 1 on. It is the same in each attempt and after each restart.
func AppendID(dst []byte, directory [16]byte, incarnation uint32, row record.Row) []byte {
	dst = record.ID{Directory: directory, Incarnation: incarnation, Seq: row.Seq}.Append(dst)
	if row.Sub > 0 {
		dst = fmt.Appendf(dst, ".%d", row.Sub)
	}
	return dst
}

// Invoker has a function transform batches of rows. It is safe for concurrent use.
type Invoker struct {
	o       Options
	retries int
	head    []byte        // of each request, up to the records
	slots   chan struct{} // one for each attempt under way
	batches sync.Pool     // of *batch, without buffers
	pool    record.Pool   // of requests
	answers record.Pool
	log     *slog.Logger
}

// New checks the options. Nothing is sent.
func New(o Options) (*Invoker, error) {
	v := &Invoker{o: o, retries: DefaultRetries, log: o.Logger}
	if o.Retries != nil {
		v.retries = *o.Retries
	}
	if v.o.Timeout == 0 {
		v.o.Timeout = DefaultTimeout
	}
	if v.o.Concurrency == 0 {
		v.o.Concurrency = DefaultConcurrency
	}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Carrier == nil:
		return nil, fmt.Errorf("a hook needs a carrier")
	case v.retries < 0 || v.retries > MaxRetries:
		return nil, fmt.Errorf("retries: %d is not between 0 and %d", v.retries, MaxRetries)
	case v.o.Timeout < 0 || v.o.Timeout > MaxTimeout:
		return nil, fmt.Errorf("timeout: %v is not between 0s and %v", v.o.Timeout, MaxTimeout)
	case v.o.Concurrency < 0 || v.o.Concurrency > MaxConcurrency:
		return nil, fmt.Errorf("concurrency: %d is not between 1 and %d", v.o.Concurrency, MaxConcurrency)
	}
	for i, k := range o.PartitionKeys {
		if k == "" {
			return nil, fmt.Errorf("partition keys: number %d is empty", i)
		}
	}
	v.head = appendHead(nil, o.DeliveryStreamARN, o.Region)
	if len(v.head) > 4096 {
		return nil, fmt.Errorf("delivery stream ARN and region have %d bytes in a request, at most 4096 are sent", len(v.head))
	}
	v.slots = make(chan struct{}, v.o.Concurrency)
	v.log = v.log.With("function", o.Carrier.Function())
	return v, nil
}

// Function is the carrier's.
func (v *Invoker) Function() string { return v.o.Carrier.Function() }

// batch is what one call of Invoke works with. Its buffers are reused from one request to the next.
type batch struct {
	v        *Invoker
	emit     func(*Outcome) error
	ids      []byte // of the rows of the request, one after another
	idEnds   []int
	request  []byte
	answer   []byte
	entries  []entry        // of the rows of the request
	byID     map[string]int // likewise; nil until an answer is out of order
	expected int            // the row that comes next in an answer in order
	keys     partitionKeys
}

// Invoke sends rows to the function and calls emit for each of them, in their order. Data of an outcome is valid until emit
// returns. Whatever the function does wrong becomes an outcome; the errors that are returned are ctx's and emit's, and after
// one the rows not emitted have no outcome.
//
// A batch whose request is too large is sent in several, and one whose answer is too large in halves, each with all its
// retries. Memory: one request and one answer, whatever the number of rows.
func (v *Invoker) Invoke(ctx context.Context, rows []record.Row, emit func(*Outcome) error) error {
	b, ok := v.batches.Get().(*batch)
	if !ok {
		b = &batch{v: v}
	}
	b.emit = emit
	defer b.release()
	for len(rows) > 0 {
		n := fit(len(v.head), rows)
		if n == 0 {
			if err := b.fail(rows[:1], tooLargeToSend(), 0, time.Now()); err != nil {
				return err
			}
			n = 1
		} else if err := b.send(ctx, rows[:n], 0); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func (b *batch) release() {
	b.v.pool.Put(b.request)
	b.v.answers.Put(b.answer)
	clear(b.entries)
	b.request, b.answer, b.emit, b.byID, b.keys = nil, nil, nil, nil, partitionKeys{}
	b.v.batches.Put(b)
}

// send makes the attempts for one request. made were made before it was split off.
func (b *batch) send(ctx context.Context, rows []record.Row, made int) error {
	v := b.v
	b.build(rows)
	for attempt := 0; ; attempt++ {
		stamp(b.request)
		took, err := b.attempt(ctx)
		made++
		observed := Attempt{Records: len(rows), Request: len(b.request), Duration: took}
		if err == nil {
			observed.Answer = len(b.answer)
			if err = b.parse(len(rows)); err == nil {
				v.observe(observed)
				return b.outcomes(rows, made)
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e := asError(err)
		ended := time.Now()
		split := e.TooLarge && len(rows) > 1
		again := !e.final && (split || attempt < v.retries)
		observed.Code, observed.Retried = e.Code, again
		v.observe(observed)
		v.report(ctx, e, attempt, len(rows), again)
		switch {
		case split:
			half := len(rows) / 2
			if err := b.send(ctx, rows[:half], made); err != nil {
				return err
			}
			return b.send(ctx, rows[half:], made)
		case !again:
			return b.fail(rows, e, made, ended)
		}
		if err := pause(ctx, attempt, e.After); err != nil {
			return err
		}
	}
}

// attempt calls the function once, when there is a slot.
func (b *batch) attempt(ctx context.Context) (time.Duration, error) {
	v := b.v
	select {
	case v.slots <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-v.slots }()
	if b.answer == nil {
		b.answer = v.answers.Get(len(b.request) + len(b.request)/4 + padding)
	}
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, v.o.Timeout)
	defer cancel()
	answer, err := v.o.Carrier.Invoke(limited, b.request, b.answer[:0])
	took := time.Since(began)
	if err != nil {
		if limited.Err() != nil && ctx.Err() == nil {
			err = &Error{Code: CodeRequestTimedOut, Err: fmt.Errorf("no answer within %v", v.o.Timeout)}
		}
		return took, err
	}
	b.answer = answer
	if len(answer) > MaxAnswer {
		return took, &Error{Code: CodeFunctionError, TooLarge: true, Err: fmt.Errorf("the answer has %d bytes, at most %d are read", len(answer), MaxAnswer)}
	}
	return took, nil
}

// outcomes emits what an answer says.
func (b *batch) outcomes(rows []record.Row, made int) error {
	o := Outcome{Attempts: made, Ended: time.Now()}
	for i, row := range rows {
		e := &b.entries[i]
		o.Result = transform.Result{Row: row}
		switch e.state {
		case stateOk:
			o.Row.Data, o.Partitions = e.data, e.keys
		case stateDropped:
			o.Outcome, o.Row.Data = transform.Dropped, nil
		default:
			o.Outcome, o.Failure = transform.Failed, failures[e.state]
		}
		if err := b.emit(&o); err != nil {
			return err
		}
	}
	return nil
}

// fail emits one failure for all rows.
func (b *batch) fail(rows []record.Row, e *Error, made int, ended time.Time) error {
	o := Outcome{Attempts: made, Ended: ended}
	failure := e.failure()
	for _, row := range rows {
		o.Result = transform.Result{Outcome: transform.Failed, Row: row, Failure: failure}
		if err := b.emit(&o); err != nil {
			return err
		}
	}
	return nil
}

func (v *Invoker) observe(a Attempt) {
	if v.o.Observe != nil {
		v.o.Observe(a)
	}
}

// report logs the first failure of a batch and its last one; those in between would say the same.
func (v *Invoker) report(ctx context.Context, e *Error, attempt, records int, again bool) {
	level := slog.LevelWarn
	if again && attempt > 0 {
		level = slog.LevelDebug
	}
	v.log.Log(ctx, level, "A function did not transform a batch.", "code", e.Code, "err", e.Err, "records", records, "attempt", attempt+1, "again", again)
}

// same tells whether id is that of row i of the request.
func (b *batch) same(i int, id []byte) bool {
	from := 0
	if i > 0 {
		from = b.idEnds[i-1]
	}
	return bytes.Equal(b.ids[from:b.idEnds[i]], id)
}
