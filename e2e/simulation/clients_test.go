package simulation

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"hydrant/record"
)

// ledger is the clients' own log: what they sent and what they were told. Safe for concurrent use.
type ledger struct {
	mu      sync.Mutex
	records map[string]*sentRecord
	bySeq   map[uint32]map[uint64]*sentRecord // acknowledged ones, by incarnation
	acked   map[uint32]int64
	sent    map[string]int64 // by stream
}

// call is the records of one PutRecordBatch with all its attempts.
type call struct {
	stream  string
	records []*sentRecord
	begun   time.Duration
	wall    time.Time // at the first attempt

	// under ledger.mu
	acked       bool
	at          time.Duration
	ackWall     time.Time
	incarnation uint32
	first       uint64
}

// sentRecord is one record. Its id is in its data.
type sentRecord struct {
	call  *call
	index int
	data  []byte
	bad   bool      // does not fit columns, and says no time
	event time.Time // that it says, in lives with event times

	found string    // key of the object that has it; under ledger.mu
	copy  string    // key of the backup's object that has it; under ledger.mu
	said  []opinion // of a function, in order; under ledger.mu
}

// opinion is what a function said of a record.
type opinion struct {
	outcome string
	at      time.Duration
}

// seq of an acknowledged record.
func (r *sentRecord) seq() uint64 { return r.call.first + uint64(r.index) }

func newLedger() *ledger {
	return &ledger{records: map[string]*sentRecord{}, bySeq: map[uint32]map[uint64]*sentRecord{}, acked: map[uint32]int64{}, sent: map[string]int64{}}
}

// count is how many records of an incarnation were acknowledged, and how many were ever sent to a stream.
func (l *ledger) count(incarnation uint32, stream string) (acked, sent int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked[incarnation], l.sent[stream]
}

// acknowledged is the records of a stream that have been acknowledged.
func (l *ledger) acknowledged(stream string) (list []*sentRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records {
		if r.call.stream == stream && r.call.acked {
			list = append(list, r)
		}
	}
	return list
}

// newCall draws the records of a call.
func (w *world) newCall(r *rand.Rand, stream, name string) *call {
	c := &call{stream: stream, begun: w.since(), wall: w.now()}
	n := 1 + r.IntN(4)
	if w.shape.large {
		n = 1 + r.IntN(12)
	}
	if w.shape.floods {
		n = 8 + r.IntN(8)
	}
	most := 200
	if r.IntN(10) == 0 {
		most = 500
	}
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	for i := range n {
		id := fmt.Sprintf("%s.%d", name, i)
		rec := &sentRecord{call: c, index: i, bad: r.IntN(12) == 0}
		number := fmt.Sprint(r.IntN(1e6))
		if w.shape.timed {
			rec.event = w.drawEvent(id, c.wall)
			number = fmt.Sprint(rec.event.UnixMilli())
		}
		if rec.bad {
			number = `"none"`
		}
		rec.data = fmt.Appendf(nil, `{"id":%q,"n":%s,"pad":%q}`, id, number, strings.Repeat("x", r.IntN(most)))
		c.records = append(c.records, rec)
		w.log.records[id] = rec
	}
	w.log.sent[stream] += int64(n)
	return c
}

// retryFor is how long a client tries one call. Within five minutes a retry is recognised.
const retryFor = 4 * time.Minute

// client puts calls into a stream, one after another, and retries as SDKs do.
func (w *world) client(ctx context.Context, seed uint64, stream string, number int) {
	r := rand.New(rand.NewPCG(seed, uint64(number)))
	for i := range w.shape.calls {
		gap := time.Duration(r.ExpFloat64() * float64(w.shape.pace) * float64(w.shape.steps) / float64(w.shape.calls))
		if !sleep(ctx, gap) {
			return
		}
		w.send(ctx, r, stream, fmt.Sprintf("%s.%d.%d", stream, number, i))
	}
}

// sleep waits, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// send tries one call until it has an answer or gives up.
func (w *world) send(ctx context.Context, r *rand.Rand, stream, name string) {
	c := w.newCall(r, stream, name)
	var invocation, body [16]byte
	binary.LittleEndian.PutUint64(invocation[:], r.Uint64())
	binary.LittleEndian.PutUint64(body[:], r.Uint64())
	w.mu.Lock()
	gen := w.gen[stream]
	w.mu.Unlock()
	for attempt := uint8(1); ; attempt++ {
		w.mu.Lock()
		p, changed := w.proc, w.gen[stream] != gen
		w.mu.Unlock()
		// A stream that is created again is another one, and it does not know the calls of the old one.
		if w.since()-c.begun > retryFor || changed || attempt == 0 {
			return
		}
		if p != nil {
			timeout := 30 * time.Second
			if r.IntN(8) == 0 {
				timeout = time.Duration(r.Int64N(int64(8 * time.Millisecond)))
			}
			receipt, err := w.try(ctx, p, c, invocation, body, attempt, timeout)
			var missing *record.NotFound
			switch {
			case err == nil:
				if !w.heard(c, receipt, r) {
					break // the answer got lost: the client knows nothing
				}
				w.trigger(afterAck, p)
				return
			case errors.As(err, &missing):
				if !missing.Inactive || r.IntN(2) == 0 {
					return
				}
			}
		}
		if !sleep(ctx, time.Duration(r.Int64N(int64(min(50*time.Millisecond<<min(attempt, 9), 8*time.Second))))) {
			return
		}
	}
}

// try is one attempt.
func (w *world) try(ctx context.Context, p *process, c *call, invocation, body [16]byte, attempt uint8, timeout time.Duration) (record.Receipt, error) {
	w.attempts(c.stream, 1)
	defer w.attempts(c.stream, -1)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	batch := record.NewBatch(nil)
	for _, rec := range c.records {
		batch.Append(rec.data)
	}
	receipt, _, err := p.m.Append(ctx, c.stream, record.Call{Batch: batch, Invocation: invocation, BodyHash: body, Attempt: attempt})
	what := c.stream
	if err != nil {
		what += " " + err.Error()
	}
	w.trace.note("append", what, int64(receipt.First), int64(attempt))
	return receipt, err
}

// attempts counts those under way.
func (w *world) attempts(stream string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trying[stream] += n
}

// heard takes an answer down. It returns false where the client does not get it.
func (w *world) heard(c *call, receipt record.Receipt, r *rand.Rand) bool {
	l := w.log
	l.mu.Lock()
	defer l.mu.Unlock()
	// Even where it gets lost, the answer was given, and what it promised is held against the daemon.
	if c.acked {
		if c.incarnation != receipt.Incarnation || c.first != receipt.First || !receipt.Repeated {
			w.violated("P5: a retry of a call in %q was answered with %+v, before with incarnation %d sequence %d", c.stream, receipt, c.incarnation, c.first)
		}
	} else {
		c.acked, c.at, c.ackWall, c.incarnation, c.first = true, w.since(), w.now(), receipt.Incarnation, receipt.First
		known := l.bySeq[c.incarnation]
		if known == nil {
			known = map[uint64]*sentRecord{}
			l.bySeq[c.incarnation] = known
		}
		for _, rec := range c.records {
			if other := known[rec.seq()]; other != nil {
				w.violated("I3: sequence %d of %q names a record of call at %v and of call at %v", rec.seq(), c.stream, other.call.begun, c.begun)
			}
			known[rec.seq()] = rec
		}
		l.acked[c.incarnation] += int64(len(c.records))
	}
	return r.IntN(12) > 0
}
