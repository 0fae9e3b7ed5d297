// Package throttle limits how many records, and how many bytes of them, a stream takes in a second.
//
// Calls flow in before they are stored; out flows how many of their records may be, from the first on. What is
// over a limit is told to the caller as Firehose tells it, by whoever asked. Nothing is kept on disk: a process
// that starts begins with a full second of each limit.
package throttle

import (
	"sync"
	"time"

	"hydrant/record"
)

// Limits of one stream; 0 is none.
type Limits struct {
	Records int64 // a second
	Bytes   int64 // of Data, a second
}

// Streams are the limits of all streams. The zero Streams limits nothing. Safe for concurrent use.
type Streams struct {
	mu       sync.RWMutex
	limiters map[string]*Limiter
}

// Set puts these limits, by the names of streams, in place of all that were there. A stream whose limits stay, or
// change, goes on with what it has taken of its second.
func (s *Streams) Set(limits map[string]Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[string]*Limiter, len(limits))
	for name, l := range limits {
		if l == (Limits{}) {
			continue
		}
		if next[name] = s.limiters[name]; next[name] == nil {
			next[name] = New(l)
		} else {
			next[name].Set(l)
		}
	}
	s.limiters = next
}

// Limiter of a stream, or nil where it has no limits.
func (s *Streams) Limiter(stream string) record.Limiter {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if l := s.limiters[stream]; l != nil {
		return l
	}
	return nil
}

// Limiter limits one stream. Safe for concurrent use.
type Limiter struct {
	mu      sync.Mutex
	limits  Limits
	records bucket
	bytes   bucket
	at      time.Time // when the buckets were filled last
}

var _ record.Limiter = (*Limiter)(nil)

// New returns a Limiter with a full second of each limit.
func New(l Limits) *Limiter {
	return &Limiter{limits: l, records: newBucket(l.Records), bytes: newBucket(l.Bytes), at: time.Now()}
}

// Set changes the limits.
func (l *Limiter) Set(limits Limits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if limits == l.limits {
		return
	}
	l.fill()
	l.records.set(limits.Records)
	l.bytes.set(limits.Bytes)
	l.limits = limits
}

// Take is record.Limiter's. A record passes while there is room for one more record and for its bytes, or for a
// whole second's bytes where it has more than that. Such a record leaves a debt, so that what passes in a long time
// is what the limit says. Behind one that does not pass, none does: the order of a call is kept.
func (l *Limiter) Take(b *record.Batch) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fill()
	if l.records.room(float64(b.Count())) && l.bytes.room(float64(b.Payload())) { // almost always
		l.records.level -= float64(b.Count())
		l.bytes.level -= float64(b.Payload())
		return b.Count()
	}
	for data := range record.Records(b.Encoded()) {
		if !l.records.passes(1) || !l.bytes.passes(float64(len(data))) {
			break
		}
		l.records.level--
		l.bytes.level -= float64(len(data))
		n++
	}
	return n
}

// Return is record.Limiter's.
func (l *Limiter) Return(records int, payload int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fill()
	l.records.add(float64(records))
	l.bytes.add(float64(payload))
}

// fill brings both buckets up to the present.
func (l *Limiter) fill() {
	now := time.Now()
	elapsed := now.Sub(l.at).Seconds()
	l.at = now
	l.records.add(elapsed * l.records.rate)
	l.bytes.add(elapsed * l.bytes.rate)
}

// bucket holds what may pass at this moment, at most what comes in a second. A rate of 0 lets everything pass.
type bucket struct {
	rate  float64 // units a second
	level float64 // units; below zero after something larger than the bucket
}

func newBucket(rate int64) bucket { return bucket{rate: float64(rate), level: float64(rate)} }

// rounding is more than sums of fractions of a second are off by, in units.
const rounding = 1e-3

func (b *bucket) room(n float64) bool   { return b.rate == 0 || b.level+rounding >= n }
func (b *bucket) passes(n float64) bool { return b.room(min(n, b.rate)) }

func (b *bucket) add(n float64) { b.level = min(b.level+n, b.rate) }

// set changes the rate; a bucket that had none begins full.
func (b *bucket) set(rate int64) {
	if b.rate == 0 {
		*b = newBucket(rate)
		return
	}
	b.rate = float64(rate)
	b.level = min(b.level, b.rate)
}
