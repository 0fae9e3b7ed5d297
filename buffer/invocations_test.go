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

// A retry gets the answer of the first attempt, whatever happened in between; anything else is a new call.
func TestRetries(t *testing.T) {
	now := time.Now
	between := map[string]func(x *bench){
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
	for name, pass := range between {
		bubble(t, name, func(t *testing.T) {
			x := openBench(t, Options{FS: forgetfs.New()})
			s := x.define("clicks")
			x.define("views")
			x.append("clicks", "first")
			r1, _, err := x.Append(context.Background(), "clicks", callOf(1, 1, 1, 1, "a", "b"))
			if err != nil || r1.Repeated || r1.First != 2 {
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
		c.add(key(i).digest(), knownCall{first: uint64(i), attempt: 1})
	}
	if len(c.known) != callsMost {
		t.Errorf("%d calls are known", len(c.known))
	}
	for i, want := range map[int]bool{0: false, 99: false, 100: true, callsMost + 99: true} {
		if _, repeated, _, own := c.begin(key(i), 2); repeated != want {
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
