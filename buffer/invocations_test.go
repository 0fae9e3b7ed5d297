package buffer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer/forgetfs"
	"hydrant/record"
)

// callOf is a call with an identity. Each of id, key and body is one byte of the real thing.
func callOf(id, attempt, key, body byte, rows ...string) record.Call {
	c := record.Call{Batch: batch(rows...), Attempt: attempt}
	c.Invocation[0], c.Invocation[15], c.KeyHash[3], c.BodyHash[5] = id, id, key, body
	return c
}

// between is what may happen between a call and its retry.
func between() map[string]func(x *bench) {
	now := time.Now
	return map[string]func(x *bench){
		"nothing": func(x *bench) {},
		"restart": func(x *bench) { x.restart() },
		"crash":   func(x *bench) { x.crash(7) },
		"laps":    func(x *bench) { x.lap(40); x.crash(9); x.lap(40); x.crash(10) },
		"4m59s":   func(x *bench) { time.Sleep(4*time.Minute + 59*time.Second); x.crash(11) },
		"cut":     func(x *bench) { x.cut(x.Streams()[0]); x.crash(3); x.lap(20); x.crash(4) },
		"crashes": func(x *bench) {
			for i := range uint64(5) {
				x.crash(i)
			}
		},
		"newclock": func(x *bench) { x.o.Now = func() time.Time { return now().Add(-time.Hour) }; x.restart() },
	}
}

// A retry gets the answer of the first attempt, whatever happened in between; anything else is a new call.
func TestRetries(t *testing.T) {
	for name, pass := range between() {
		bubble(t, name, func(t *testing.T) {
			x := openBench(t, Options{FS: forgetfs.New()})
			s := x.define("clicks")
			x.define("views")
			x.append("clicks", "first")
			r1, _, err := x.Append(context.Background(), "clicks", callOf(1, 1, 1, 1, "a", "b"))
			if err != nil || r1.Repeated || r1.First != 2 || r1.Count != 2 {
				t.Fatalf("%+v, %v", r1, err)
			}
			pass(x)
			want := x.Consumer(s.Incarnation, Main).Totals().Accepted
			r2, adopted, err := x.Append(context.Background(), "clicks", callOf(1, 2, 1, 1, "a", "b"))
			r1.Repeated = true
			if err != nil || adopted || r2 != r1 {
				t.Fatalf("retry: %+v, %v, want %+v", r2, err, r1)
			}
			if got := x.Consumer(s.Incarnation, Main).Totals().Accepted; got != want {
				t.Errorf("%d records accepted, want %d", got, want)
			}
			for what, c := range map[string]record.Call{
				"same attempt": callOf(1, 1, 1, 1, "a", "b"), "other id": callOf(2, 2, 1, 1, "a", "b"),
				"other key": callOf(1, 2, 2, 1, "a", "b"), "other body": callOf(1, 2, 1, 2, "a", "c"),
			} {
				if r, _, err := x.Append(context.Background(), "clicks", c); err != nil || r.Repeated {
					t.Errorf("%s: %+v, %v", what, r, err)
				}
			}
			if r, _, err := x.Append(context.Background(), "views", callOf(1, 2, 1, 1, "a", "b")); err != nil || r.Repeated {
				t.Errorf("other stream: %+v, %v", r, err)
			}
			x.balanced(s)
		})
	}
}

// turnstile is a Limiter that lets a number of records pass, and notes what it was asked.
type turnstile struct {
	mu      sync.Mutex
	pass    int
	asked   int
	records int
	payload int64
}

func (g *turnstile) Take(b *record.Batch) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked++
	n := min(g.pass, b.Count())
	g.records += n
	i := 0
	for data := range record.Records(b.Encoded()) {
		if i++; i <= n {
			g.payload += int64(len(data))
		}
	}
	return n
}

func (g *turnstile) Return(records int, payload int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.records -= records
	g.payload -= payload
}

// A call of which the limiter has let some records pass is that for all of its retries: they get the same answer,
// store nothing and do not count again.
func TestRetriesOfLimitedCalls(t *testing.T) {
	for name, pass := range between() {
		bubble(t, name, func(t *testing.T) {
			x := openBench(t, Options{FS: forgetfs.New()})
			s := x.define("clicks")
			g := &turnstile{pass: 2}
			call := func(id, attempt byte) (record.Receipt, error) {
				c := callOf(id, attempt, 1, 1, "a", "bb", "ccc")
				c.Limiter = g
				r, _, err := x.Append(context.Background(), "clicks", c)
				return r, err
			}
			r1, err := call(1, 1)
			if err != nil || r1.First != 1 || r1.Count != 2 || g.records != 2 || g.payload != 3 {
				t.Fatalf("%+v, %v, counted %+v", r1, err, g)
			}
			if got := x.Consumer(s.Incarnation, Main).Totals().Accepted; got != 2 {
				t.Errorf("%d records accepted", got)
			}
			g.pass = 0
			pass(x)
			for attempt := range byte(3) {
				r2, err := call(1, attempt+2)
				r1.Repeated = true
				if err != nil || r2 != r1 || g.asked != 1 {
					t.Fatalf("retry: %+v, %v, want %+v; asked %d times", r2, err, r1, g.asked)
				}
			}
			// One of which nothing passes is not stored, and a retry of it is a new call.
			_, err = call(2, 1)
			if e, ok := errors.AsType[*record.Refusal](err); !ok || e.Reason != "rate" {
				t.Errorf("nothing passes: %v", err)
			}
			g.pass = 3
			if r, err := call(2, 2); err != nil || r.Repeated || r.Count != 3 || g.records != 5 || g.payload != 9 {
				t.Errorf("%+v, %v, counted %+v", r, err, g)
			}
			x.balanced(s)
		})
	}
}

// What is counted for a call that is refused afterwards is given back.
func TestLimiterGetsBack(t *testing.T) { synctest.Test(t, testLimiterGetsBack) }

func testLimiterGetsBack(t *testing.T) {
	disk := newFaulty(t)
	x := openBench(t, Options{FS: disk.FS})
	s := x.define("clicks")
	g := &turnstile{pass: 2}
	call := func(want string) {
		t.Helper()
		c := callOf(1, 1, 1, 1, "a", "bb", "ccc")
		c.Limiter = g
		_, _, err := x.Append(context.Background(), "clicks", c)
		if e, ok := errors.AsType[*record.Refusal](err); !ok || e.Reason != want {
			t.Errorf("got %v, want a refusal for %s", err, want)
		}
		if g.records != 0 || g.payload != 0 {
			t.Errorf("refused for %s: %d records and %d bytes are still counted", want, g.records, g.payload)
		}
	}
	x.LimitDisk(map[string]int64{"clicks": 1})
	call("disk")
	x.LimitDisk(nil)
	disk.FS.SetHook(func(op forgetfs.Op) *forgetfs.Fault {
		if op.Kind == forgetfs.OpDatasync {
			return &forgetfs.Fault{Err: errors.New("broken")}
		}
		return nil
	})
	call("failing") // by the committer
	call("failing") // before it is queued
	disk.FS.SetHook(nil)
	time.Sleep(2 * retrySlot)
	if r := x.append("clicks", "d"); r.Count != 1 {
		t.Errorf("%+v", r)
	}
	x.balanced(s)
}

// A key stands for one body, whatever happened since: the same body gets the first answer, and another one is an
// error and no new call.
func TestKeyedCalls(t *testing.T) {
	for name, pass := range between() {
		bubble(t, name, func(t *testing.T) {
			x := openBench(t, Options{FS: forgetfs.New()})
			s := x.define("clicks")
			call := func(attempt, caller, body byte, keyed bool) (record.Receipt, error) {
				c := callOf(1, attempt, caller, 0, "a", "b")
				c.BodyHash[0], c.Keyed = body, keyed
				r, _, err := x.Append(context.Background(), "clicks", c)
				return r, err
			}
			r1, err := call(0, 1, 1, true)
			if err != nil || r1.Repeated {
				t.Fatalf("%+v, %v", r1, err)
			}
			pass(x)
			r1.Repeated = true
			for range 2 {
				if r, err := call(0, 1, 1, true); err != nil || r != r1 {
					t.Errorf("again: %+v, %v, want %+v", r, err, r1)
				}
				if _, err := call(0, 1, 2, true); err == nil {
					t.Error("the key was taken for another body")
				} else if _, ok := errors.AsType[*record.KeyReused](err); !ok {
					t.Error(err)
				}
			}
			if r, err := call(0, 2, 2, true); err != nil || r.Repeated {
				t.Errorf("another caller: %+v, %v", r, err)
			}
			// The id of an SDK that is the same is another one, also one that counts its attempts very far.
			for _, attempt := range []byte{1, 255} {
				if r, err := call(attempt, 3, 1, false); err != nil || r.Repeated != (attempt == 255) {
					t.Errorf("attempt %d of an SDK: %+v, %v", attempt, r, err)
				}
			}
			if r, err := call(0, 3, 1, true); err != nil || r.Repeated {
				t.Errorf("the key of that: %+v, %v", r, err)
			}
			x.balanced(s)
		})
	}
}

// A key that comes while its call is being written waits for it; with another body it does not.
func TestKeyInFlight(t *testing.T) { synctest.Test(t, testKeyInFlight) }

func testKeyInFlight(t *testing.T) {
	disk := newFaulty(t)
	x := openBench(t, Options{FS: disk.FS})
	x.define("clicks")
	disk.FS.SetHook(func(op forgetfs.Op) *forgetfs.Fault {
		if op.Kind == forgetfs.OpDatasync {
			time.Sleep(time.Second)
		}
		return nil
	})
	call := func(body byte) (record.Receipt, error) {
		c := callOf(1, 0, 1, 0, "a")
		c.BodyHash[0], c.Keyed = body, true
		r, _, err := x.Append(context.Background(), "clicks", c)
		return r, err
	}
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			if r, err := call(1); err != nil || r.First != 1 || r.Repeated != (i == 1) {
				t.Errorf("call %d: %+v, %v", i, r, err)
			}
		})
		synctest.Wait()
	}
	began := time.Now()
	if _, err := call(2); err == nil || time.Since(began) > 0 {
		t.Errorf("another body: %v after %s", err, time.Since(began))
	}
	wg.Wait()
}

// lap sends calls through the ring and cuts them.
func (x *bench) lap(n int) {
	x.t.Helper()
	s := x.Streams()[0]
	for i := range n {
		x.append(s.Name, pad(fmt.Sprint(i), 9000))
		if i%4 == 3 {
			m := x.cut(s)
			x.Confirm(m.ID, 0)
		}
	}
}

// After five minutes a call is forgotten, and with it the file that kept its id.
func TestRetryTooLate(t *testing.T) { synctest.Test(t, testRetryTooLate) }

func testRetryTooLate(t *testing.T) {
	disk := forgetfs.New()
	x := openBench(t, Options{FS: disk})
	x.define("clicks")
	call := func(attempt byte) record.Receipt {
		t.Helper()
		r, _, err := x.Append(context.Background(), "clicks", callOf(1, attempt, 1, 1, "a"))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	sides := func() (n int) {
		for _, f := range disk.Files("/data/journal") {
			if strings.Contains(f, "ids-") {
				n++
			}
		}
		return n
	}
	call(1)
	x.lap(60)
	if sides() == 0 {
		t.Error("no side file was written")
	}
	time.Sleep(callsKept + time.Second)
	if r := call(2); r.Repeated {
		t.Error("recognised after five minutes")
	}
	if r := call(3); !r.Repeated {
		t.Error("the second one is not recognised")
	}
	time.Sleep(2 * callsKept)
	x.lap(60)
	if n := sides(); n != 0 {
		t.Errorf("%d side files are left", n)
	}
	if n := len(x.calls.known); n != 0 {
		t.Errorf("%d calls are known", n)
	}
}

// A retry that comes while the first attempt is being written waits for it; where that one fails it is a
// call of its own. Without attempts every repetition counts as a retry.
func TestRetryInFlight(t *testing.T) { synctest.Test(t, testRetryInFlight) }

func testRetryInFlight(t *testing.T) {
	disk := newFaulty(t)
	x := openBench(t, Options{FS: disk.FS})
	s := x.define("clicks")
	var slow atomic.Bool
	slow.Store(true)
	disk.FS.SetHook(func(op forgetfs.Op) *forgetfs.Fault {
		if op.Kind == forgetfs.OpDatasync && slow.Load() {
			time.Sleep(time.Second)
		}
		return nil
	})
	var wg sync.WaitGroup
	var mu sync.Mutex
	first := make(map[bool][]uint64)
	for attempt := range 3 {
		wg.Go(func() {
			r, _, err := x.Append(context.Background(), "clicks", callOf(1, byte(attempt+1), 1, 1, "a"))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			first[r.Repeated] = append(first[r.Repeated], r.First)
			mu.Unlock()
		})
		synctest.Wait()
	}
	wg.Wait()
	if len(first[false]) != 1 || len(first[true]) != 2 || first[true][0] != first[false][0] || first[true][1] != first[false][0] {
		t.Errorf("receipts %v", first)
	}
	for i := range 3 {
		r, _, err := x.Append(context.Background(), "clicks", callOf(2, 0, 1, 1, "b"))
		if err != nil || r.Repeated != (i > 0) || r.First != 2 {
			t.Errorf("without attempts: %+v, %v", r, err)
		}
	}
	// the first attempt fails after the second has come
	disk.FS.SetHook(func(op forgetfs.Op) *forgetfs.Fault {
		if op.Kind == forgetfs.OpDatasync && slow.Load() {
			time.Sleep(time.Second)
			return &forgetfs.Fault{Err: errors.New("broken")}
		}
		return nil
	})
	for attempt := range 2 {
		wg.Go(func() {
			_, _, err := x.Append(context.Background(), "clicks", callOf(3, byte(attempt+1), 1, 1, "c"))
			if _, ok := errors.AsType[*record.Refusal](err); !ok {
				t.Errorf("attempt %d: %v", attempt+1, err)
			}
		})
		synctest.Wait()
	}
	wg.Wait()
	slow.Store(false)
	time.Sleep(2 * retrySlot)
	if r, _, err := x.Append(context.Background(), "clicks", callOf(3, 3, 1, 1, "c")); err != nil || r.Repeated {
		t.Errorf("third attempt: %+v, %v", r, err)
	}
	x.balanced(s)
}

// The table forgets the oldest call when it is full.
func TestCallsAreBounded(t *testing.T) {
	c := newCalls(forgetfs.New(), "/", [16]byte{}, nil)
	key := func(i int) *invocation { return &invocation{ID: [16]byte{1, byte(i), byte(i >> 8), byte(i >> 16)}} }
	for i := range callsMost + 100 {
		c.add(key(i).digest(), knownCall{first: uint64(i), mark: 1})
	}
	if len(c.known) != callsMost {
		t.Errorf("%d calls are known", len(c.known))
	}
	for i, want := range map[int]bool{0: false, 99: false, 100: true, callsMost + 99: true} {
		if _, repeated, _, own, _ := c.begin(key(i), 2, 1); repeated != want {
			t.Errorf("call %d: known %v", i, repeated)
		} else if own != nil {
			c.land(own, nil)
		}
	}
}

// Arrivals follow the clock, but for small steps back.
func TestArrivals(t *testing.T) {
	at := time.UnixMicro(1_700_000_000_000_000)
	var logs logBuffer
	c := clock{now: func() time.Time { return at }, log: testLog(&logs)}
	f := func(step time.Duration, want int64, warned bool) {
		t.Helper()
		at = at.Add(step)
		logs.Reset()
		if got := c.stamp() - 1_700_000_000_000_000; got != want || (logs.String() != "") != warned {
			t.Errorf("stamp %d, want %d; log %q", got, want, logs.String())
		}
	}
	f(0, 0, false)
	f(time.Second, 1e6, false)
	f(-4*time.Second, 1e6, false)
	f(4500*time.Millisecond, 1.5e6, false)
	f(-time.Hour, -3600e6+1.5e6, true)
	f(time.Second, -3600e6+2.5e6, false)
}
