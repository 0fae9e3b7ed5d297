package delivery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer"
	"hydrant/format/request"
	"hydrant/prefix"
	"hydrant/sinks"
)

// endpoint is a destination of requests that outlives processes. It takes NDJSON.
type endpoint struct {
	t testing.TB

	mu       sync.Mutex // guards what follows
	fault    func(id string, rows []string, attempt int) error
	lost     bool // what is refused has been taken all the same
	attempts map[string]int
	times    map[string][]time.Time
	bodies   map[string]string // what was sent under an id
	taken    []string          // rows, in the order in which their requests were first taken
	ids      []string          // of requests taken
}

func newEndpoint(t testing.TB) *endpoint {
	return &endpoint{t: t, attempts: map[string]int{}, times: map[string][]time.Time{}, bodies: map[string]string{}}
}

func (e *endpoint) Put(ctx context.Context, o sinks.Object) error {
	body, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size))
	if err != nil {
		return err
	}
	time.Sleep(time.Millisecond)
	e.mu.Lock()
	defer e.mu.Unlock()
	id := o.RequestID
	if before, ok := e.bodies[id]; ok && before != string(body) {
		e.t.Errorf("request %s has another body than before", id)
	}
	if id == "" || !strings.Contains(o.Key, id) || o.ContentType != "application/x-ndjson" {
		e.t.Errorf("request %q has id %q and content type %q", o.Key, id, o.ContentType)
	}
	e.bodies[id] = string(body)
	e.attempts[id]++
	e.times[id] = append(e.times[id], time.Now())
	rows := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	if e.fault != nil {
		err = e.fault(id, rows, e.attempts[id])
	}
	if (err == nil || e.lost) && !slices.Contains(e.ids, id) {
		e.ids = append(e.ids, id)
		e.taken = append(e.taken, rows...)
	}
	return err
}

func (e *endpoint) Verify(context.Context, sinks.Object) error {
	e.t.Error("an endpoint is asked what it has")
	return errors.New("nobody knows")
}

func (e *endpoint) ValidateKey(string) error { return nil }
func (e *endpoint) Close() error             { return nil }

// set changes what the endpoint does.
func (e *endpoint) set(fault func(id string, rows []string, attempt int) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fault = fault
}

// tried is the number of requests that have come, forget begins to count anew.
func (e *endpoint) tried() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.attempts)
}

func (e *endpoint) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.attempts = map[string]int{}
}

func (e *endpoint) rows() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.taken)
}

// atEndpoint runs a test with a stream s whose data goes to an endpoint and whose errors go to the shop.
func atEndpoint(t *testing.T, pace Pace, f func(t *testing.T, w *world, e *endpoint)) {
	t.Helper()
	requests, err := request.New(request.Options{Body: request.NDJSON})
	if err != nil {
		t.Fatal(err)
	}
	if pace.Base == 0 {
		pace.Base, pace.Cap = time.Second, 2*time.Minute
	}
	for _, b := range backends[:2] {
		t.Run(b.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, b)
				e := newEndpoint(t)
				w.adapt = func(p *Pipeline, s buffer.Stream) {
					p.Format, p.Prefix = requests, &prefix.Template{}
					p.Errors = Destination{ID: s.Name + "/backup/file", Kind: "file", Place: "backup", Sink: w.shop()}
					p.Destination = Destination{ID: s.Name + "/data/http", Kind: "http", Place: "url", Sink: e, AtLeastOnce: true, Pace: pace}
				}
				w.start()
				w.apply(map[string]spec{"s": {Interval: -1, Kind: "http"}})
				w.run()
				defer w.close()
				f(t, w, e)
			})
		})
	}
}

func down(string, []string, int) error { return refusal(sinks.Unknown, "HttpEndpoint.RequestTimeout") }

// failedLines are the lines of the error output.
func failedLines(t *testing.T, w *world) (lines []map[string]any) {
	t.Helper()
	w.shop().mu.Lock()
	defer w.shop().mu.Unlock()
	for key, o := range w.shop().objects {
		if !strings.HasPrefix(key, "errors/http-endpoint-failed/") {
			t.Errorf("object %q in the backup", key)
		}
		for d := json.NewDecoder(bytes.NewReader(o.body)); d.More(); {
			var line map[string]any
			if err := d.Decode(&line); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// batches puts rows one by one, each of which becomes a request of its own.
func batches(w *world, n int) (rows []string) {
	for i := range n {
		rows = append(rows, fmt.Sprintf("row %03d", i))
		w.put("s", rows[i])
		time.Sleep(200 * time.Millisecond)
	}
	return rows
}

// Attempts are 1, 2, 4 ... 120 seconds apart, give or take 15 %, under one id, and after them the request is taken.
func TestEndpointBackoff(t *testing.T) {
	atEndpoint(t, Pace{InFlight: 1}, func(t *testing.T, w *world, e *endpoint) {
		e.set(func(_ string, _ []string, attempt int) error {
			if attempt <= 9 {
				return refusal(sinks.NotStored, "Busy")
			}
			return nil
		})
		w.put("s", "a")
		w.flush("s")
		if len(e.ids) != 1 {
			t.Fatalf("%d requests", len(e.ids))
		}
		at := e.times[e.ids[0]]
		for i := 1; i < len(at); i++ {
			want := min(time.Second<<(i-1), 2*time.Minute)
			if d := at[i].Sub(at[i-1]); d < want*84/100 || d > want*116/100 {
				t.Errorf("wait %d is %v, want about %v", i, d, want)
			}
		}
		if len(at) != 10 {
			t.Errorf("%d attempts", len(at))
		}
		w.balanced("s", 1)
	})
}

// An endpoint that asks for time gets it.
func TestEndpointRetryAfter(t *testing.T) {
	atEndpoint(t, Pace{InFlight: 1}, func(t *testing.T, w *world, e *endpoint) {
		e.set(func(_ string, _ []string, attempt int) error {
			if attempt == 1 {
				return &sinks.Error{Class: sinks.NotStored, After: 50 * time.Second, Err: errors.New("busy")}
			}
			return nil
		})
		w.put("s", "a")
		w.flush("s")
		if at := e.times[e.ids[0]]; len(at) != 2 || at[1].Sub(at[0]) < 50*time.Second || at[1].Sub(at[0]) > 52*time.Second {
			t.Errorf("attempts at %v", at)
		}
	})
}

// When its time is over a request's records go to the error output, each with what is known of it, and the request is never
// sent again. Without any time there is one attempt.
func TestEndpointGivesUp(t *testing.T) {
	for _, retry := range []time.Duration{0, 300 * time.Second} {
		t.Run(retry.String(), func(t *testing.T) {
			atEndpoint(t, Pace{InFlight: 1, GivesUp: true, Retry: retry}, func(t *testing.T, w *world, e *endpoint) {
				e.set(down)
				arrived := time.Now()
				w.put("s", "a", "b", "c")
				began := time.Now()
				w.flush("s")
				if d := time.Since(began); d < retry || d > retry+2*time.Second {
					t.Errorf("given up after %v, want %v", d, retry)
				}
				attempts := 0
				for _, n := range e.attempts {
					attempts += n
				}
				lines := failedLines(t, w)
				if len(lines) != 3 || len(e.ids) != 0 {
					t.Fatalf("%d lines, %d requests taken", len(lines), len(e.ids))
				}
				for i, l := range lines {
					if l["rawData"] != encoded(string(rune('a'+i))) || l["errorCode"] != "HttpEndpoint.RequestTimeout" || l["dataId"] != fmt.Sprintf("%d.0", i+1) ||
						l["subsequenceNumber"] != 0.0 || l["attemptsMade"] != float64(attempts) || l["arrivalTimestamp"] != float64(arrived.UnixMilli()) ||
						!strings.Contains(l["errorMessage"].(string), "store says unknown") || l["attemptEndingTimestamp"].(float64) < float64(began.Add(retry).UnixMilli()) {
						t.Errorf("line %v", l)
					}
				}
				if retry == 0 && attempts != 1 {
					t.Errorf("%d attempts", attempts)
				}
				w.balanced("s", 3)
				if st := w.status("s"); st.Failed != 3 || st.Delivered != 0 {
					t.Errorf("status %+v", st)
				}
				if got := gather(t, w.m, "s"); got["failed_records_total{code=HttpEndpoint.RequestTimeout,stage=http-endpoint-failed}"] != 3 {
					t.Errorf("metrics %v", got)
				}
				e.set(nil)
				time.Sleep(time.Hour)
				if len(e.ids) != 0 {
					t.Error("a request was sent after it was given up")
				}
			})
		})
	}
}

// In an outage each request waits for its own time, not for that of all before it.
func TestEndpointOutage(t *testing.T) {
	for _, inFlight := range []int{1, 4} {
		t.Run(fmt.Sprint(inFlight), func(t *testing.T) {
			atEndpoint(t, Pace{InFlight: inFlight, GivesUp: true, Retry: 300 * time.Second}, func(t *testing.T, w *world, e *endpoint) {
				e.set(down)
				began := time.Now()
				batches(w, 20)
				w.flush("s")
				if d := time.Since(began); d > 330*time.Second {
					t.Errorf("20 requests were given up after %v", d)
				}
				if lines := failedLines(t, w); len(lines) != 20 {
					t.Errorf("%d lines", len(lines))
				}
				w.balanced("s", 20)
			})
		})
	}
}

// One at a time, requests arrive in the order of their records, whatever fails, is halved or waits.
func TestEndpointOrder(t *testing.T) {
	atEndpoint(t, Pace{InFlight: 1}, func(t *testing.T, w *world, e *endpoint) {
		r := rand.New(rand.NewPCG(1, 2))
		e.set(func(_ string, rows []string, _ int) error {
			switch {
			case r.IntN(3) == 0:
				return refusal([]sinks.Class{sinks.Unknown, sinks.NotStored, sinks.RefusedDestination}[r.IntN(3)], "fault")
			case len(rows) > 3:
				return refusal(sinks.TooLarge, "413")
			}
			return nil
		})
		var want []string
		for i := range 30 {
			var rows []string
			for k := range i%9 + 1 {
				rows = append(rows, fmt.Sprintf("row %03d %d", i, k))
			}
			w.put("s", rows...)
			want = append(want, rows...)
			time.Sleep(200 * time.Millisecond)
		}
		w.flush("s")
		if got := e.rows(); !slices.Equal(got, want) {
			t.Errorf("got %q\nwant %q", got, want)
		}
		w.balanced("s", int64(len(want)))
		if st := w.status("s"); st.Failed != 0 {
			t.Errorf("%d failed", st.Failed)
		}
	})
}

// No more requests are under way, or wait for another attempt, than are allowed.
func TestEndpointInFlight(t *testing.T) {
	atEndpoint(t, Pace{InFlight: 3}, func(t *testing.T, w *world, e *endpoint) {
		e.set(down)
		rows := batches(w, 10)
		time.Sleep(10 * time.Minute)
		if n := e.tried(); n != 3 {
			t.Errorf("%d requests were tried, want 3", n)
		}
		e.set(nil)
		w.flush("s")
		got := e.rows()
		slices.Sort(got)
		if !slices.Equal(got, rows) {
			t.Errorf("got %q", got)
		}
	})
}

// A request that is too large goes in halves; a record that is too large alone goes to the error output.
func TestEndpointHalves(t *testing.T) {
	atEndpoint(t, Pace{InFlight: 1, GivesUp: true, Retry: time.Hour}, func(t *testing.T, w *world, e *endpoint) {
		e.set(func(_ string, rows []string, _ int) error {
			if len(rows) > 2 || slices.Contains(rows, "large") {
				return refusal(sinks.TooLarge, "413")
			}
			return nil
		})
		w.put("s", "a", "b", "c", "large", "d", "e", "f")
		w.flush("s")
		if got := strings.Join(e.rows(), " "); got != "a b c d e f" {
			t.Errorf("got %s", got)
		}
		for id, n := range e.attempts {
			if n != 1 {
				t.Errorf("request %s was sent %d times", id, n)
			}
		}
		if lines := failedLines(t, w); len(lines) != 1 || lines[0]["rawData"] != encoded("large") || lines[0]["dataId"] != "4.0" {
			t.Errorf("lines %v", lines)
		}
		w.balanced("s", 7)
		if st := w.status("s"); st.Failed != 1 || st.Delivered != 6 {
			t.Errorf("status %+v", st)
		}
	})
}

// Crashes at any time, with answers that are lost, leave every record at the endpoint, twice only under the same id, and in
// order.
func TestEndpointCrashes(t *testing.T) {
	atEndpoint(t, Pace{InFlight: 1}, func(t *testing.T, w *world, e *endpoint) {
		r, luck := rand.New(rand.NewPCG(3, 4)), rand.New(rand.NewPCG(5, 6)) // luck is the endpoint's
		e.set(func(_ string, rows []string, _ int) error {
			e.lost = false
			switch {
			case len(rows) > 4:
				return refusal(sinks.TooLarge, "413")
			case luck.IntN(4) == 0:
				e.lost = luck.IntN(2) == 0
				return refusal(sinks.Unknown, "reset")
			}
			return nil
		})
		var want []string
		for round := range 12 {
			for i := range 8 {
				rows := []string{}
				for k := range r.IntN(8) + 1 {
					rows = append(rows, fmt.Sprintf("row %02d %d %d", round, i, k))
				}
				w.put("s", rows...)
				want = append(want, rows...)
				time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond)
			}
			w.stop()
			w.backing.crash(r)
			w.store = w.backing.store()
			w.start()
			w.run()
		}
		w.flush("s")
		if got := e.rows(); !slices.Equal(got, want) {
			t.Errorf("got %d rows, want %d; the first that differs: %v", len(got), len(want), firstDifference(got, want))
		}
		w.balanced("s", int64(len(want)))
	})
}

func firstDifference(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("%d: %q, want %q", i, a[i], b[i])
		}
	}
	return "the length"
}

// A new version's pace and place hold for what an older one has cut, also in the process after.
func TestEndpointFollowsTheNewestVersion(t *testing.T) {
	pace := Pace{InFlight: 1}
	atEndpoint(t, pace, func(t *testing.T, w *world, e *endpoint) {
		moved := newEndpoint(t)
		first := w.adapt
		w.adapt = func(p *Pipeline, s buffer.Stream) {
			first(p, s)
			if s.Version > 1 {
				p.Destination.Sink, p.Destination.Place, p.Destination.Pace.InFlight = moved, "elsewhere", 4
			}
		}
		e.set(down)
		moved.set(down)
		rows := batches(w, 6)
		time.Sleep(time.Minute)
		w.apply(map[string]spec{"s": {Interval: -2, Kind: "http"}})
		time.Sleep(10 * time.Minute)
		if n := moved.tried(); n != 4 {
			t.Errorf("%d requests are tried at the new place, want 4", n)
		}
		moved.forget()
		w.restart()
		time.Sleep(10 * time.Minute)
		if n := moved.tried(); n != 4 {
			t.Errorf("after a restart %d requests are tried at the new place, want 4", n)
		}
		moved.set(nil)
		w.flush("s")
		got := moved.rows()
		slices.Sort(got)
		if !slices.Equal(got, rows) || len(e.rows()) != 0 {
			t.Errorf("got %q, and %q at the old place", got, e.rows())
		}
		w.balanced("s", 6)
	})
}
