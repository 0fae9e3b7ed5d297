package hook

import (
	"context"
	"fmt"
	"sync"

	"github.com/segmentio/asm/base64"
)

// Budget bounds the memory that several Batchers take together. Batches wait for room in the order in which they ask; one
// that is larger than the whole budget is let in when nothing else is there. Safe for concurrent use.
type Budget struct {
	limit int64

	mu      sync.Mutex // guards what follows
	used    int64
	waiters []*waiter // first come first
}

type waiter struct {
	n     int64
	ready chan struct{} // closed when the room is the waiter's
}

// NewBudget returns a budget of so many bytes.
func NewBudget(limit int64) (*Budget, error) {
	if limit <= 0 {
		return nil, fmt.Errorf("a budget of %d bytes holds nothing", limit)
	}
	return &Budget{limit: limit}, nil
}

// Charge is what a batch of size bytes of data counts for while it is gathered, sent and answered, its answer being taken
// for as large as its request. An answer that is larger is over the budget until it is read, by MaxAnswer at most.
func Charge(size int) int64 {
	request := base64.StdEncoding.EncodedLen(size)
	return int64(size+size/4+4096) + 2*int64(request+request/4)
}

// Used is how many bytes are taken.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// acquire waits for room for n bytes, until ctx or done ends.
func (b *Budget) acquire(ctx context.Context, done <-chan struct{}, n int64) error {
	b.mu.Lock()
	if len(b.waiters) == 0 && b.fits(n) {
		b.used += n
		b.mu.Unlock()
		return nil
	}
	w := &waiter{n: n, ready: make(chan struct{})}
	b.waiters = append(b.waiters, w)
	b.mu.Unlock()
	var err error
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-done:
		err = context.Canceled
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.waiters {
		if b.waiters[i] == w {
			b.waiters = append(b.waiters[:i], b.waiters[i+1:]...)
			b.admit() // it may have stood before smaller ones
			return err
		}
	}
	b.used -= n // it was let in at the same moment
	b.admit()
	return err
}

func (b *Budget) fits(n int64) bool { return b.used == 0 || b.used+n <= b.limit }

// add counts n more bytes, or fewer, without waiting.
func (b *Budget) add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used += n; b.used < 0 {
		panic("bug: more of a budget is given back than was taken")
	}
	b.admit()
}

// admit lets in those that there is room for. b.mu is held.
func (b *Budget) admit() {
	for len(b.waiters) > 0 && b.fits(b.waiters[0].n) {
		w := b.waiters[0]
		b.waiters = b.waiters[1:]
		b.used += w.n
		close(w.ready)
	}
}
