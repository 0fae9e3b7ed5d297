package simulation

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// trace remembers what happened and hashes it: two runs of one seed with the same hash were the same run, but
// for the order of what happened at one instant.
// Safe for concurrent use; the zero value is not ready.
type trace struct {
	began time.Time

	mu    sync.Mutex
	hash  uint64
	count int
	ring  []event // the last ones, once it is full from count % len on
	all   bool    // keep every event
}

// event is one line of a trace. Its text is only put together when somebody reads it.
type event struct {
	at     time.Duration
	what   string
	detail string
	a, b   int64
}

func (e event) String() string {
	return fmt.Sprintf("%14.6fs %-12s %s %d %d", e.at.Seconds(), e.what, e.detail, e.a, e.b)
}

// keptEvents is how many events a failure shows.
const keptEvents = 120

// newTrace starts at the present time of the bubble.
func newTrace(all bool) *trace {
	return &trace{began: time.Now(), all: all}
}

const (
	fnvBasis = 14695981039346656037
	fnvPrime = 1099511628211
)

func fnv(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return h
}

func fnvInt(h uint64, v int64) uint64 {
	for range 8 {
		h = (h ^ uint64(v&0xff)) * fnvPrime
		v >>= 8
	}
	return h
}

// note adds an event.
func (t *trace) note(what, detail string, a, b int64) {
	e := event{at: time.Since(t.began), what: what, detail: detail, a: a, b: b}
	t.mu.Lock()
	defer t.mu.Unlock()
	// A sum, since what happens at one instant happens in any order.
	t.hash += fnvInt(fnvInt(fnvInt(fnv(fnv(fnvBasis, what), detail), a), b), int64(e.at))
	switch {
	case t.all || len(t.ring) < keptEvents:
		t.ring = append(t.ring, e)
	default:
		t.ring[t.count%keptEvents] = e
	}
	t.count++
}

// sum is the hash so far and the number of events.
func (t *trace) sum() (hash uint64, events int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.hash, t.count
}

// String is the events that were kept, oldest first.
func (t *trace) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	from := 0
	if !t.all && t.count > keptEvents {
		from = t.count % keptEvents
		fmt.Fprintf(&b, "(%d events before these)\n", t.count-keptEvents)
	}
	for i := range t.ring {
		fmt.Fprintln(&b, t.ring[(from+i)%len(t.ring)])
	}
	return b.String()
}
