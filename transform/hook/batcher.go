package hook

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"hydrant/record"
)

// Bounds of what a Batcher gathers, Firehose's.
const (
	MinSize     = 2 << 20 / 10 // bytes of data
	MaxSize     = 3 << 20
	DefaultSize = 1 << 20
	MaxInterval = 900 * time.Second
)

// BatcherOptions are those of a Batcher.
type BatcherOptions struct {
	Invoker *Invoker
	// Size in bytes of data at which a batch is sent; 0: DefaultSize. A row that is larger is a batch of its own.
	Size int
	// Interval after a batch's first row at which it is sent, whatever its size. 0: at once, if there is a free slot; rows
	// gather while there is none.
	Interval time.Duration
	// Emit takes each row's outcome. It is called for one after another, in the order in which rows were added, from
	// goroutines of the Batcher. Data is valid until it returns. An error ends everything.
	Emit func(*Outcome) error
	// Budget is what this and other Batchers take together, if not nil. Where Later is set, batches count and do not wait: whoever
	// adds rows while it emits those of another Batcher must not wait for the room that the other one has.
	Budget *Budget
	Later  bool
}

// Batcher gathers rows into batches and has several of them under way, as many as the Invoker's Concurrency. Outcomes come in
// the order of the rows, so that a slow batch holds up those after it: they keep their slots until their turn.
//
// One goroutine uses it: Add, Flush, and Close at last. Rows are copied. The memory is at most that of Memory, and that of a
// Budget in the sum.
type Batcher struct {
	o      BatcherOptions
	invoke func(rows []record.Row, emit func(*Outcome) error) error
	cancel context.CancelCauseFunc
	done   <-chan struct{} // of the context that ends every invocation
	slots  chan struct{}   // one for each batch that has been sent and not emitted whole
	pool   record.Pool
	flying sync.WaitGroup

	mu    sync.Mutex
	next  *gathering    // being filled; nil: none
	due   bool          // next is to be sent as soon as there is a slot
	timer *time.Timer   // sets due
	turn  chan struct{} // closed when the last batch that was sent has been emitted
	err   error         // the first one
}

// gathering is a batch on its way.
type gathering struct {
	data    []byte
	rows    []record.Row
	request int // bytes that it takes
	charge  int64
}

// perRow is what rows, ids and what the answer says of them take for each row, bytes.
const perRow = 200

// Memory is the most bytes that a Batcher takes with rows of up to row bytes: data, requests and answers.
func Memory(size, concurrency, row int) int {
	size = max(size, row)
	gather := size + size/4 + 4096 + maxRows*perRow
	request := min(MaxRequest, size/3*4+maxRows*envelope)
	return (concurrency+1)*gather + concurrency*(request+request/4+MaxAnswer+MaxAnswer/4) // buffers come in steps of a quarter
}

// NewBatcher checks the options. Every invocation ends when ctx does.
func NewBatcher(ctx context.Context, o BatcherOptions) (*Batcher, error) {
	if o.Size == 0 {
		o.Size = DefaultSize
	}
	switch {
	case o.Invoker == nil || o.Emit == nil:
		return nil, fmt.Errorf("a batcher needs an invoker and something that takes outcomes")
	case o.Size < MinSize || o.Size > MaxSize:
		return nil, fmt.Errorf("buffer.size: %d bytes are not between %d and %d (0.2 and 3 MiB)", o.Size, MinSize, MaxSize)
	case o.Interval < 0 || o.Interval > MaxInterval:
		return nil, fmt.Errorf("buffer.interval: %v is not between 0s and %v", o.Interval, MaxInterval)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	b := &Batcher{o: o, cancel: cancel, done: ctx.Done(), slots: make(chan struct{}, o.Invoker.o.Concurrency)}
	b.invoke = func(rows []record.Row, emit func(*Outcome) error) error { return o.Invoker.Invoke(ctx, rows, emit) }
	b.turn = make(chan struct{})
	close(b.turn)
	return b, nil
}

// Add takes one more row. It waits while every slot is taken and the row has no room in the batch that is gathering. After
// an error, which is ctx's or the first one of Emit or of the invocations, the Batcher is of no more use.
func (b *Batcher) Add(ctx context.Context, row record.Row) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil && !b.fits(row) {
		if err := b.sendNext(ctx); err != nil {
			return err
		}
	}
	if b.err != nil {
		return b.err
	}
	if b.next == nil {
		size := max(b.o.Size, len(row.Data))
		charge, err := b.acquire(ctx, size)
		if err != nil {
			return err
		}
		b.next = &gathering{data: b.pool.Get(size), request: len(b.o.Invoker.head) + len("]}"), charge: charge}
		b.due = false
		if b.o.Interval > 0 {
			g := b.next
			b.timer = time.AfterFunc(b.o.Interval, func() { b.overdue(g) })
		}
	}
	g := b.next
	start := len(g.data)
	g.data = append(g.data, row.Data...)
	row.Data = g.data[start:len(g.data):len(g.data)]
	row.Meta = bytes.Clone(row.Meta)
	g.rows = append(g.rows, row)
	g.request += rowBytes(&row)
	if b.o.Interval == 0 || len(g.data) >= b.o.Size {
		b.due = true
	}
	b.trySend()
	return nil
}

// acquire waits for a batch's room in the budget. b.mu is held, but not while it waits.
func (b *Batcher) acquire(ctx context.Context, size int) (charge int64, err error) {
	if b.o.Budget == nil {
		return 0, nil
	}
	charge = Charge(size)
	if b.o.Later {
		b.o.Budget.add(charge)
		return charge, nil
	}
	b.mu.Unlock()
	err = b.o.Budget.acquire(ctx, b.done, charge)
	b.mu.Lock()
	switch {
	case err != nil && b.err == nil:
		b.fail(err)
	case err == nil && b.err != nil: // an invocation has failed meanwhile
		b.o.Budget.add(-charge)
	}
	return charge, b.err
}

// release gives a batch's room back.
func (b *Batcher) release(g *gathering) {
	if b.o.Budget != nil {
		b.o.Budget.add(-g.charge)
	}
}

// fits tells whether the batch that is gathering has room for a row.
func (b *Batcher) fits(row record.Row) bool {
	g := b.next
	return len(g.rows) < maxRows && len(g.data)+len(row.Data) <= b.o.Size && g.request+rowBytes(&row) <= MaxRequest
}

// overdue has a batch sent whose time has come.
func (b *Batcher) overdue(g *gathering) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == g {
		b.due = true
		b.trySend()
	}
}

// trySend sends the batch that is gathering if it is due and a slot is free. b.mu is held.
func (b *Batcher) trySend() {
	if b.next == nil || !b.due || b.err != nil {
		return
	}
	select {
	case b.slots <- struct{}{}:
		b.start()
	default: // whoever frees a slot tries again
	}
}

// sendNext sends the batch that is gathering, and waits for a slot. b.mu is held, but not while it waits.
func (b *Batcher) sendNext(ctx context.Context) error {
	g := b.next
	b.due = true
	b.trySend()
	for b.next == g && b.err == nil {
		b.mu.Unlock()
		var err error
		taken := false
		select {
		case b.slots <- struct{}{}:
			taken = true
		case <-b.done:
			err = fmt.Errorf("the hook is closed: %w", context.Canceled)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		b.mu.Lock()
		switch {
		case taken && b.next == g && b.err == nil:
			b.start()
		case taken: // somebody else has sent it meanwhile
			<-b.slots
		case b.err == nil:
			b.fail(err)
		}
	}
	return b.err
}

// start sends the batch that is gathering, which has a slot. b.mu is held.
func (b *Batcher) start() {
	g, turn, end := b.next, b.turn, make(chan struct{})
	if b.o.Budget != nil { // many small rows take more than their data
		more := int64(len(g.rows) * perRow)
		g.charge += more
		b.o.Budget.add(more)
	}
	if b.timer != nil {
		b.timer.Stop()
	}
	b.next, b.due, b.turn = nil, false, end
	b.flying.Go(func() {
		err := b.invoke(g.rows, func(o *Outcome) error {
			select {
			case <-turn:
			case <-b.done:
				return context.Canceled
			}
			return b.o.Emit(o)
		})
		if err == nil {
			<-turn // it has emitted something, so this has come
		}
		b.pool.Put(g.data)
		b.release(g)
		b.mu.Lock()
		defer b.mu.Unlock()
		<-b.slots
		if err != nil {
			b.fail(err) // and end stays open: what comes after must not be emitted
			return
		}
		close(end)
		b.trySend()
	})
}

// fail keeps the first error and ends everything. b.mu is held.
func (b *Batcher) fail(err error) {
	if b.err == nil {
		b.err = err
	}
	b.cancel(err)
}

// Flush sends what has been gathered and waits until the outcome of every row has been emitted.
func (b *Batcher) Flush(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		if err := b.sendNext(ctx); err != nil {
			return err
		}
	}
	turn := b.turn
	b.mu.Unlock()
	var err error
	select {
	case <-turn:
	case <-b.done:
		err = context.Canceled
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	b.mu.Lock()
	if b.err == nil && err != nil {
		b.fail(err)
	}
	return b.err
}

// Close ends what is under way, waits for it and forgets what has been gathered: rows whose outcomes were not emitted have
// none.
func (b *Batcher) Close() {
	b.mu.Lock()
	b.fail(fmt.Errorf("the batcher is closed: %w", context.Canceled))
	if b.timer != nil {
		b.timer.Stop()
	}
	if b.next != nil {
		b.release(b.next)
		b.next = nil
	}
	b.mu.Unlock()
	b.flying.Wait()
}
