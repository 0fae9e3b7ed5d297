package delivery

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"sync"
	"time"

	"hydrant/record"
	"hydrant/transform"
	"hydrant/transform/hook"
)

// Hook is a function that transforms rows, and the processors after it.
type Hook struct {
	hook.Options // Directory, Incarnation and Observe are delivery's to fill in

	Size     int           // bytes of data of a batch
	Interval time.Duration // that rows wait for a batch at most
	Then     *transform.Chain
	Close    func() // ends the carrier's connections; nil: nothing to end
}

// flow runs rows through processors and functions, by turns: processors, a function, processors, and so on. Rows reach
// the ending in order, but for those that fail on the way, which may overtake what a function has. Each part ends once.
//
// One goroutine calls run. The rest happens on goroutines of the Batchers, and ends with run.
type flow struct {
	first  *transform.Chain // nil: none
	hooks  []Hook
	rows   func() iter.Seq[record.Row] // each call iterates anew
	ending ending
	// invokers are one for each hook. budget is theirs and those of other flows; nil: none.
	invokers []*hook.Invoker
	budget   *hook.Budget

	stages  []*flowStage
	reading sync.Mutex // held while rows are read: a claim is for one goroutine at a time
	mu      sync.Mutex // guards what follows, and is held over each call of the ending
	parts   parts
	// results are what functions decided, by outcome.
	results [3]int64
}

// ending takes what becomes of rows. It is called for one after another; what it is given is valid until it returns. counts
// tells whether the record counts with this part.
type ending interface {
	deliver(row record.Row, metadata map[string]string, counts bool) error
	fail(f *failedPart, counts bool) error
}

// failedPart is a part of a record that goes to the error output.
type failedPart struct {
	record.Row // Data is what can be put again
	transform.Failure
	// Of a failure of a function: how often the part was sent, when the last attempt ended, and the function's name. Attempts
	// is 1 and Ended now where a processor failed.
	Attempts int
	Ended    time.Time
	Function string
}

// flowStage is a function at work for one flow.
type flowStage struct {
	f       *flow
	number  int // of the hook
	batcher *hook.Batcher

	origins fifo  // of the rows that have been added and not emitted; f.mu guards it
	last    ident // of the results of the processors after the function

	// The rows as they came, for those that fail: read in step with what the function emits, as far as it is asked for.
	next func() (record.Row, bool)
	stop func()
	row  record.Row
	ok   bool
}

// origin is where a row came from that a function has.
type origin struct {
	sub      uint32 // of the result of the first processors
	part     []byte // a part that processors behind a function have split off: it is what can be put again; nil: none
	metadata map[string]string
}

// ident numbers the parts of a record where they are not numbered already.
type ident struct {
	seq  uint64
	next uint32
}

func (i *ident) number(seq uint64) uint32 {
	if i.seq != seq {
		*i = ident{seq: seq}
	}
	i.next++
	return i.next - 1
}

// run has all rows transformed. Its error is ctx's, the ending's or an invocation's that was cut short: rows that have not
// ended by then are as if nobody had looked at them.
func (f *flow) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i := range f.hooks {
		s := &flowStage{f: f, number: i}
		s.batcher, err = hook.NewBatcher(ctx, hook.BatcherOptions{
			Invoker: f.invokers[i], Size: f.hooks[i].Size, Interval: f.hooks[i].Interval, Emit: func(o *hook.Outcome) error { return s.emit(ctx, o) },
			Budget: f.budget, Later: i > 0,
		})
		if err != nil {
			return fmt.Errorf("hook %d: %w", i, err)
		}
		defer s.batcher.Close()
		f.stages = append(f.stages, s)
	}
	defer func() {
		cancel()
		for _, s := range f.stages {
			s.batcher.Close() // nobody emits any more
		}
		for _, s := range f.stages {
			if s.stop != nil {
				s.stop()
			}
		}
	}()
	rows := 0
	for row := range f.read() {
		if rows++; rows%checkRows == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f.mu.Lock()
		f.parts.begin(row.Seq)
		f.mu.Unlock()
		err := f.start(ctx, row)
		f.mu.Lock()
		f.parts.leave()
		f.mu.Unlock()
		if err != nil {
			return err
		}
	}
	for _, s := range f.stages { // what one emits is added to the next
		if err := s.batcher.Flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// read iterates over the rows. Several iterations may be under way, on goroutines of their own.
func (f *flow) read() iter.Seq[record.Row] {
	if len(f.hooks) == 0 {
		return f.rows()
	}
	return func(yield func(record.Row) bool) {
		f.reading.Lock()
		defer f.reading.Unlock()
		f.rows()(func(row record.Row) bool {
			f.reading.Unlock()
			ok := yield(row)
			f.reading.Lock()
			return ok
		})
	}
}

// start runs a row through the first processors.
func (f *flow) start(ctx context.Context, row record.Row) error {
	if f.first == nil {
		return f.pass(ctx, 0, row, origin{})
	}
	_, err := f.first.Apply(row, func(r transform.Result) error {
		switch r.Outcome {
		case transform.Ok:
			return f.pass(ctx, 0, r.Row, origin{sub: r.Row.Sub})
		case transform.Failed:
			return f.failed(&failedPart{Row: r.Row, Failure: *r.Failure, Attempts: 1, Ended: time.Now()})
		}
		return nil
	})
	return err
}

// pass gives a row to the function with that number, or to the ending after the last one.
func (f *flow) pass(ctx context.Context, to int, row record.Row, from origin) error {
	f.mu.Lock()
	if to == len(f.stages) {
		defer f.mu.Unlock()
		return f.ending.deliver(row, from.metadata, f.parts.count(row.Seq))
	}
	s := f.stages[to]
	f.parts.add(row.Seq)
	s.origins.push(from)
	f.mu.Unlock()
	return s.batcher.Add(ctx, row)
}

// failed ends a part.
func (f *flow) failed(p *failedPart) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ending.fail(p, f.parts.count(p.Seq))
}

// emit takes what a function says of a row, in the order in which rows were added.
func (s *flowStage) emit(ctx context.Context, o *hook.Outcome) error {
	f := s.f
	f.mu.Lock()
	from := s.origins.pop()
	f.results[o.Outcome]++
	f.mu.Unlock()
	var err error
	switch o.Outcome {
	case transform.Failed:
		row := o.Row
		if row.Data, err = s.original(o.Row, from); err == nil {
			err = f.failed(&failedPart{Row: row, Failure: *o.Failure, Attempts: o.Attempts, Ended: o.Ended, Function: f.hooks[s.number].Carrier.Function()})
		}
	case transform.Ok:
		from.metadata = merged(from.metadata, o.Partitions)
		err = s.after(ctx, o.Row, from)
	}
	f.mu.Lock()
	f.parts.end(o.Row.Seq)
	f.mu.Unlock()
	return err
}

// after runs what a function made of a row through the processors behind it.
func (s *flowStage) after(ctx context.Context, row record.Row, from origin) error {
	f := s.f
	then := f.hooks[s.number].Then
	if then == nil {
		return f.pass(ctx, s.number+1, row, from)
	}
	_, err := then.Apply(row, func(r transform.Result) error {
		// The parts of a record are numbered anew: two of them may have come out of one here.
		r.Row.Sub = s.last.number(r.Row.Seq)
		switch r.Outcome {
		case transform.Ok:
			next := from
			if !r.Whole && s.number+1 < len(f.stages) {
				next.part = bytes.Clone(r.Raw)
			}
			return f.pass(ctx, s.number+1, r.Row, next)
		case transform.Failed:
			if r.Whole { // what was put can be put again, not what the function made of it
				var err error
				if r.Row.Data, err = s.original(row, from); err != nil {
					return err
				}
			}
			return f.failed(&failedPart{Row: r.Row, Failure: *r.Failure, Attempts: 1, Ended: time.Now()})
		}
		return nil
	})
	return err
}

// original is what can be put again in place of a row that a function got: the record as it was put, or the part of it
// as the first processors split it off.
func (s *flowStage) original(row record.Row, from origin) ([]byte, error) {
	if from.part != nil {
		return from.part, nil
	}
	if s.next == nil {
		s.next, s.stop = iter.Pull(s.f.read())
		s.row, s.ok = s.next()
	}
	for s.ok && s.row.Seq < row.Seq {
		s.row, s.ok = s.next()
	}
	if !s.ok || s.row.Seq != row.Seq {
		// Damage has taken it since the first walk.
		return row.Data, nil
	}
	if s.f.first == nil {
		return s.row.Data, nil
	}
	found := row.Data // where the processors decide otherwise by now, as a jq expression with a clock may
	_, err := s.f.first.Apply(s.row, func(r transform.Result) error {
		if r.Row.Sub == from.sub {
			found = bytes.Clone(r.Raw)
		}
		return nil
	})
	return found, err
}

// merged is the partition keys of two functions; the later one's count.
func merged(before, now map[string]string) map[string]string {
	switch {
	case len(before) == 0:
		return now
	case len(now) == 0:
		return before
	}
	both := maps.Clone(before)
	maps.Copy(both, now)
	return both
}

// fifo is a queue of origins.
type fifo struct {
	items []origin
	head  int
}

func (q *fifo) push(o origin) {
	if q.head > 1024 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, o)
}

func (q *fifo) pop() origin {
	o := q.items[q.head]
	q.items[q.head] = origin{}
	q.head++
	return o
}

// invokers makes those of a version's hooks.
func (s *stream) invokers(p *Pipeline) ([]*hook.Invoker, error) {
	var list []*hook.Invoker
	for i, h := range p.Hooks {
		o := h.Options
		o.Directory, o.Incarnation = s.store.Directory(), s.incarnation
		o.Observe = func(a hook.Attempt) { s.metrics.invocation(s.name, a) }
		v, err := hook.New(o)
		if err != nil {
			return nil, fmt.Errorf("hook %d of stream %q: %w", i, s.name, err)
		}
		list = append(list, v)
	}
	if len(list) > 0 {
		s.metrics.hooked(s.name)
	}
	return list, nil
}
