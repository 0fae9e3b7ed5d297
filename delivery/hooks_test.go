package delivery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer"
	"hydrant/partition"
	"hydrant/prefix"
	"hydrant/record"
	"hydrant/sinks"
	"hydrant/transform"
	"hydrant/transform/hook"
)

// function is a carrier with a scripted function behind it: it outlives processes, as a function does.
type function struct {
	name   string
	decide func(data string) (result, out string)    // of each record; nil: Ok, in upper case
	before func(ctx context.Context, call int) error // of each call; nil: nothing
	answer func(ids []string, answer []byte) []byte  // spoils an answer; nil: does not
	keys   func(data string) map[string]string       // partition keys; nil: none

	mu    sync.Mutex
	calls int
	seen  map[string]int    // how often a record was sent
	now   int               // calls under way
	said  map[string]string // the result that each record got last, by its data
}

func (f *function) Function() string { return "https://functions.test/" + f.name }

func (f *function) Invoke(ctx context.Context, request, dst []byte) ([]byte, error) {
	var in struct {
		Records []struct {
			RecordID string `json:"recordId"`
			Data     []byte `json:"data"`
		} `json:"records"`
	}
	if err := json.Unmarshal(request, &in); err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.calls++
	f.now++
	call := f.calls
	if f.seen == nil {
		f.seen, f.said = map[string]int{}, map[string]string{}
	}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.now--
		f.mu.Unlock()
	}()
	if f.before != nil {
		if err := f.before(ctx, call); err != nil {
			return nil, err
		}
	}
	type outRecord struct {
		RecordID string `json:"recordId"`
		Result   string `json:"result"`
		Data     []byte `json:"data"`
		Metadata struct {
			Keys map[string]string `json:"partitionKeys"`
		} `json:"metadata"`
	}
	var out struct {
		Records []outRecord `json:"records"`
	}
	var ids []string
	for _, r := range in.Records {
		result, data := "Ok", strings.ToUpper(string(r.Data))
		if f.decide != nil {
			result, data = f.decide(string(r.Data))
		}
		f.mu.Lock()
		f.seen[string(r.Data)]++
		f.said[string(r.Data)] = result + " " + data
		f.mu.Unlock()
		o := outRecord{RecordID: r.RecordID, Result: result, Data: []byte(data)}
		if f.keys != nil {
			o.Metadata.Keys = f.keys(string(r.Data))
		}
		out.Records = append(out.Records, o)
		ids = append(ids, r.RecordID)
	}
	answer, err := json.Marshal(out)
	if f.answer != nil {
		answer = f.answer(ids, answer)
	}
	return append(dst, answer...), err
}

func (f *function) sent(data string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[data]
}

func (f *function) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// scatter routes rows by their first letter, and by the partition key k where there is one. Rows that begin with "lost" have
// no route.
type scatter struct{ p *Pipeline }

func (s scatter) NewRouter(partition.Mark) Router                     { return s }
func (s scatter) Watermark(partition.Mark, int64) (at int64, ok bool) { return 0, false }
func (s scatter) Resume(int64, int64) partition.Mark                  { return partition.Mark{} }
func (s scatter) Mark() partition.Mark                                { return partition.Mark{} }
func (s scatter) Rewind(partition.Mark)                               {}

func (s scatter) Route(row record.Row, metadata map[string]string) (partition.Placed, *transform.Failure) {
	route, failure := s.route(row, metadata)
	return partition.Placed{Key: partition.Key{Prefix: route, Hash: buffer.KeyHash([]byte(route))}}, failure
}

func (s scatter) route(row record.Row, metadata map[string]string) (string, *transform.Failure) {
	if strings.HasPrefix(string(row.Data), "lost") {
		return "", &transform.Failure{Type: metadataExtractionFailed, Code: "Test.Lost", Message: "no route"}
	}
	letter := "none"
	if bytes.HasPrefix(row.Data, []byte("k")) {
		return s.p.Prefix.Route(prefix.Values{Time: s.p.at(row.Arrived)}) + "p=" + string(row.Data) + "/", nil
	}
	if len(row.Data) > 0 {
		letter = strings.ToLower(string(row.Data[:1]))
	}
	if k := metadata["k"]; k != "" {
		letter = "k=" + k
	}
	return s.p.Prefix.Route(prefix.Values{Time: s.p.at(row.Arrived)}) + "p=" + letter + "/", nil
}

// byPrefix: words decide for themselves what becomes of them.
func byPrefix(data string) (result, out string) {
	switch {
	case strings.HasPrefix(data, "hdrop"):
		return "Dropped", ""
	case strings.HasPrefix(data, "hfail"):
		return "ProcessingFailed", data
	}
	return "Ok", data
}

// stored is the body of each object.
func (s *shop) stored() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]string{}
	for key, o := range s.objects {
		out[key] = string(o.body)
	}
	return out
}

func hookWorld(t *testing.T, streams map[string]spec, functions map[string]*function, f func(t *testing.T, w *world)) {
	t.Helper()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			if b.name == "files" && testing.Short() {
				t.Skip("the real disk takes its time")
			}
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, b)
				w.functions = map[string]*function{}
				for name, f := range functions {
					w.functions[name] = &function{name: name, decide: f.decide, before: f.before, answer: f.answer, keys: f.keys}
				}
				w.start()
				w.apply(streams)
				w.run()
				defer w.close()
				f(t, w)
			})
		})
	}
}

// What a function says takes effect, once, and each record is counted once.
func TestHook(t *testing.T) {
	hookWorld(t, map[string]spec{"s": {Hook: "f", Words: true}}, map[string]*function{"f": {decide: byPrefix}}, func(t *testing.T, w *world) {
		w.put("s", "a b", "hdrop", "hfail c", "drop hdrop", "hfail2", "fail hdrop", "whole x", "d bad", "")
		w.flush("s")
		data, failed := w.shop().rows()
		equal(t, "data", data, map[string]int{"a": 1, "b": 1, "c": 1, "d": 1})
		equal(t, "failed", failed, map[string]int{"hfail": 1, "hfail2": 1, "fail": 1, "whole x": 1, "bad": 1})
		w.balanced("s", 9)
		if st := w.status("s"); st.Delivered != 2 || st.Dropped != 3 || st.Failed != 4 {
			t.Errorf("delivered %d, dropped %d, failed %d", st.Delivered, st.Dropped, st.Failed)
		}
		if n := w.functions["f"].count(); n != 1 {
			t.Errorf("%d calls for one batch", n)
		}
	})
}

// The lines of functions in the error output are Firehose's. rawData is the record as it was put, or the part as it was split
// off, whatever processors had made of it.
func TestHookErrorLines(t *testing.T) {
	hookWorld(t, map[string]spec{"s": {Hook: "f", Words: true}}, map[string]*function{"f": {decide: func(data string) (string, string) {
		if strings.HasPrefix(data, "tenfaten") {
			return "ProcessingFailed", data
		}
		return byPrefix(data)
	}}}, func(t *testing.T, w *world) {
		at := time.Now().UnixMilli()
		w.put("s", "tenfa", " hfail", "x tenfa")
		w.flush("s")
		var lines []string
		for _, key := range w.shop().keys() {
			if strings.HasPrefix(key, "errors/processing-failed/") {
				lines = append(lines, slices.Collect(strings.Lines(w.shop().stored()[key]))...)
			}
		}
		line := func(raw string) string {
			return fmt.Sprintf(`{"rawData":%q,"errorCode":"Lambda.ProcessingFailedStatus","errorMessage":"ProcessingFailed status set for record","attemptsMade":1,"arrivalTimestamp":%d,"attemptEndingTimestamp":%d,"lambdaARN":"https://functions.test/f"}`+"\n",
				encoded(raw), at, at)
		}
		// " hfail" is one word, and so the record as it was put; of "x tenfa" the second part was.
		equal(t, "lines", lines, []string{line("tenfa"), line(" hfail"), line("tenfa")})
	})
}

// A function between processors, and two of them: parts of parts are numbered anew, and each record counts once.
func TestTwoHooks(t *testing.T) {
	f := func(data string) (string, string) {
		if strings.HasPrefix(data, "two") {
			return "Ok", data + "x " + data + "y hdrop"
		}
		return byPrefix(data)
	}
	var ids sync.Map
	g := &function{decide: byPrefix, answer: func(all []string, answer []byte) []byte {
		for _, id := range all {
			if _, again := ids.LoadOrStore(id, true); again {
				panic("two records have the id " + id)
			}
		}
		return answer
	}}
	hookWorld(t, map[string]spec{"s": {Hook: "f", Then: true, Hook2: "g"}}, map[string]*function{"f": {decide: f}, "g": g}, func(t *testing.T, w *world) {
		ids.Clear()
		w.put("s", "two1", "hfail2", "fail3", "two4 hfail5", "drop6", "hdrop7")
		w.flush("s")
		data, failed := w.shop().rows()
		equal(t, "data", data, map[string]int{"two1x": 1, "two1y": 1, "two4": 2})
		equal(t, "failed", failed, map[string]int{"hfail2": 1, "fail3": 1, "hfail5x": 1, "hfail5y": 1})
		w.balanced("s", 6)
		if st := w.status("s"); st.Delivered != 2 || st.Failed != 2 || st.Dropped != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// After ten seconds rows are in a run, with the decision of the function: it is not asked again, not after a restart
// either.
func TestHookDecidesOnce(t *testing.T) {
	hookWorld(t, map[string]spec{"s": {Hook: "f", Interval: time.Minute}}, map[string]*function{"f": {decide: byPrefix}}, func(t *testing.T, w *world) {
		f := w.functions["f"]
		w.put("s", "a", "hdrop1", "hfail1")
		time.Sleep(routeEvery + time.Second)
		if n := f.sent("a"); n != 1 {
			t.Fatalf("sent %d times", n)
		}
		if st := w.status("s"); st.BacklogRecords != 2 || st.Dropped != 1 || st.BacklogBytes == 0 || st.Oldest == nil {
			t.Errorf("%+v", st)
		}
		w.put("s", "b")
		time.Sleep(routeEvery + time.Second)
		w.restart()
		w.put("s", "c")
		if keys := w.shop().keys(); len(keys) != 0 {
			t.Errorf("stored %q", keys)
		}
		time.Sleep(time.Minute) // the interval runs from the oldest record
		data, failed := w.shop().rows()
		equal(t, "data", data, map[string]int{"a": 1, "b": 1, "c": 1})
		equal(t, "failed", failed, map[string]int{"hfail1": 1})
		for _, row := range []string{"a", "b", "c", "hdrop1", "hfail1"} {
			if n := f.sent(row); n != 1 {
				t.Errorf("%s was sent %d times", row, n)
			}
		}
		w.balanced("s", 5)
		if n := cuts(w, "s"); n > 2 { // the restart begins to count anew
			t.Errorf("%d cuts", n)
		}
	})
}

// A function that does not answer holds up neither another stream nor the memory and the ring.
func TestDeadHook(t *testing.T) {
	dead := &function{before: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }}
	hookWorld(t, map[string]spec{"dead": {Hook: "f", Interval: time.Second}, "well": {Interval: time.Second}}, map[string]*function{"f": dead}, func(t *testing.T, w *world) {
		w.put("dead", "a", "b")
		time.Sleep(2 * time.Second)
		w.put("well", "c")
		w.flush("well")
		w.balanced("well", 1)
		if m := w.model(); m != nil {
			c := w.m.lookup("dead").consumer.(*modelConsumer)
			w.put("dead", "d")
			c.press(buffer.PressureRing | buffer.PressureMemory)
			time.Sleep(2 * pressureAge)
			unlock := c.lock()
			spilled := c.spilled
			unlock()
			if spilled != 3 {
				t.Errorf("%d rows were spilled under pressure, want 3: also those that the function has", spilled)
			}
			c.press(0)
		}
		// After the retries the records of the batch have failed.
		time.Sleep(5 * time.Minute)
		_, failed := w.shop().rows()
		if failed["a"] != 1 || failed["b"] != 1 {
			t.Errorf("failed %v", failed)
		}
	})
}

// A key that has enough for an object is cut alone; the rest of the epoch stays.
func TestKeysAreCutBySize(t *testing.T) {
	hookWorld(t, map[string]spec{"s": {Scatter: true, Size: 100, Interval: time.Hour}}, nil, func(t *testing.T, w *world) {
		w.put("s", "b1", "b2")
		for i := range 12 {
			w.put("s", fmt.Sprintf("a%09d", i), fmt.Sprintf("c%d", i))
			time.Sleep(2 * time.Second)
		}
		time.Sleep(routeEvery)
		data, _ := w.shop().rows()
		n := 0
		for row := range data {
			if row[0] != 'a' {
				t.Errorf("%s was delivered before its time", row)
			}
			n++
		}
		if n < 10 {
			t.Errorf("%d rows of the large key were delivered", n)
		}
		w.restart()
		w.flush("s")
		w.balanced("s", 26)
		for _, key := range w.shop().keys() {
			letter := key[strings.Index(key, "p=")+2]
			for line := range strings.Lines(w.shop().stored()[key]) {
				if line[0] != letter {
					t.Errorf("%q is under %s", line, key)
				}
			}
		}
	})
}

// Many keys are swept in several manifests, in the order of keys; a restart in between goes on.
func TestSweep(t *testing.T) {
	hookWorld(t, map[string]spec{"s": {Scatter: true, Interval: time.Hour, Prefix: "x/"}}, nil, func(t *testing.T, w *world) {
		var rows []string
		for i := range 300 {
			rows = append(rows, fmt.Sprintf("%c%03d", 'a'+i%26, i), "bad", "lost")
		}
		w.put("s", rows...)
		time.Sleep(routeEvery + time.Second)
		w.put("s", rows[:30]...)
		time.Sleep(routeEvery + time.Second)
		w.m.lookup("s").mu.Lock()
		for _, e := range w.m.lookup("s").epochs {
			if len(e.Runs) != 2 || e.Records != 930 {
				t.Errorf("epoch %+v", e)
			}
		}
		w.m.lookup("s").mu.Unlock()
		w.restart()
		w.flush("s")
		w.balanced("s", 930)
		if st := w.status("s"); st.Delivered != 310 || st.Failed != 620 {
			t.Errorf("%+v", st)
		}
		data, failed := w.shop().rows()
		if len(data) != 300 || failed["bad"] != 310 || failed["lost"] != 310 {
			t.Errorf("%d rows, %d and %d failed", len(data), failed["bad"], failed["lost"])
		}
		if n := len(w.shop().keys()); n != 26-1+12+2 { // each row that begins with k has a key of its own
			t.Errorf("%d objects", n)
		}
	})
}

// More keys than one manifest of a sweep takes.
func TestSweepInSeveralManifests(t *testing.T) {
	hookWorld(t, map[string]spec{"s": {Scatter: true, Interval: time.Hour, Prefix: "x/"}}, nil, func(t *testing.T, w *world) {
		const n = 2*sweepKeysMost + 100
		var rows []string
		for i := range n {
			rows = append(rows, fmt.Sprintf("k%05d", i))
		}
		w.put("s", rows...)
		time.Sleep(routeEvery + time.Second)
		w.flush("s")
		w.balanced("s", n)
		if k := len(w.shop().keys()); k != n {
			t.Errorf("%d objects for %d keys", k, n)
		}
		if c := cuts(w, "s"); c != 1 {
			t.Errorf("%d cuts were counted", c)
		}
		if m := w.model(); m != nil {
			if k := len(m.disk.order); k != 3 {
				t.Errorf("%d manifests", k)
			}
		}
	})
}

// An epoch with too many routes is closed early.
func TestMaxActive(t *testing.T) {
	hookWorld(t, map[string]spec{"s": {Scatter: true, Interval: time.Hour, Most: 3}}, nil, func(t *testing.T, w *world) {
		w.put("s", "a", "b", "c")
		time.Sleep(routeEvery + time.Second)
		if n := len(w.shop().keys()); n != 0 {
			t.Fatalf("%d objects at the limit", n)
		}
		w.put("s", "d")
		time.Sleep(routeEvery + time.Second)
		if n := len(w.shop().keys()); n != 4 {
			t.Errorf("%d objects", n)
		}
		w.balanced("s", 4)
	})
}

// A new version closes the epoch: what is in runs finishes under the old one, what is raw under the new one.
func TestVersionsDoNotMix(t *testing.T) {
	hookWorld(t, map[string]spec{"s": {Hook: "f", Interval: time.Hour, Ext: ".old"}}, map[string]*function{"f": {}, "g": {decide: byPrefix}}, func(t *testing.T, w *world) {
		w.put("s", "a")
		time.Sleep(routeEvery + time.Second)
		w.put("s", "b")
		w.apply(map[string]spec{"s": {Hook: "g", Interval: time.Hour, Ext: ".new"}})
		time.Sleep(time.Second)
		w.put("s", "c")
		time.Sleep(time.Second)
		// To a stream without functions, while an epoch is open.
		time.Sleep(routeEvery + time.Second)
		w.put("s", "d")
		w.apply(map[string]spec{"s": {Interval: time.Hour, Ext: ".none"}})
		time.Sleep(time.Second)
		got := map[string]string{}
		for key, body := range w.shop().stored() {
			got[strings.TrimSpace(body)] = extensionOf(key)
		}
		equal(t, "objects", got, map[string]string{"A": ".old", "b": ".new", "c": ".new", "d": ".none"})
		w.balanced("s", 4)
	})
}

// What was made of an epoch of an older version is delivered under that after a restart, though the epoch has ended.
func TestManifestOutlivesItsEpoch(t *testing.T) {
	hookWorld(t, map[string]spec{"s": {Hook: "f", Interval: time.Hour, Ext: ".old"}}, map[string]*function{"f": {}}, func(t *testing.T, w *world) {
		w.put("s", "a")
		time.Sleep(routeEvery + time.Second)
		w.shop().set(always(refusal(sinks.NotStored, "SlowDown")))
		w.apply(map[string]spec{"s": {Interval: time.Hour, Ext: ".new"}})
		time.Sleep(time.Second)
		if st := w.status("s"); len(st.Batches) != 1 {
			t.Fatalf("%+v", st)
		}
		w.restart()
		w.shop().set(nil)
		time.Sleep(time.Minute)
		w.balanced("s", 1)
		for _, key := range w.shop().keys() {
			if extensionOf(key) != ".old" {
				t.Errorf("key %q", key)
			}
		}
	})
}

// A stream that is deleted drains its runs; by force it drops them.
func TestDeleteWithRuns(t *testing.T) {
	for _, force := range []bool{false, true} {
		t.Run(fmt.Sprint(force), func(t *testing.T) {
			hookWorld(t, map[string]spec{"s": {Hook: "f", Interval: time.Hour}}, map[string]*function{"f": {}}, func(t *testing.T, w *world) {
				w.put("s", "a", "b")
				time.Sleep(routeEvery + time.Second)
				w.put("s", "c")
				_, err := w.m.Change("s", func(now *buffer.Stream) (buffer.Stream, error) {
					next := *now
					if next.State = buffer.Deleting; force {
						next.State = buffer.Discarding
					}
					return next, nil
				})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if _, there := w.m.Stream("s"); there {
					t.Error("the stream is still there")
				}
				want := 3
				if force {
					want = 0
				}
				if data, _ := w.shop().rows(); len(data) != want {
					t.Errorf("delivered %v", data)
				}
			})
		})
	}
}

// Through crashes at random moments, with a function that answers differently each time and dies now and then, each record has
// one outcome.
func TestHookSurvivesCrashes(t *testing.T) {
	for _, b := range backends {
		if b.name == "files" {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			n := uint64(25)
			if b.name != "model" {
				n = 12
			}
			for seed := range n {
				synctest.Test(t, func(t *testing.T) { hookLife(t, b, seed) })
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

func hookLife(t *testing.T, b backend, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	fr := rand.New(rand.NewPCG(seed, 8))
	var mu sync.Mutex
	draw := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return fr.IntN(n)
	}
	w := newWorld(t, b)
	defer w.close()
	w.functions = map[string]*function{"f": {
		before: func(ctx context.Context, _ int) error {
			select {
			case <-time.After(time.Duration(draw(3000)) * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
			switch draw(6) {
			case 0:
				return errors.New("the function died")
			case 1:
				return &hook.Error{Code: hook.CodeLimitExceeded}
			}
			return nil
		},
		decide: func(data string) (string, string) {
			switch draw(4) {
			case 0:
				return "Dropped", ""
			case 1:
				return "ProcessingFailed", data
			}
			return "Ok", data
		},
	}}
	c := spec{Hook: "f", Size: 400, Interval: 30 * time.Second, Scatter: seed%2 == 1}
	w.start()
	w.apply(map[string]spec{"s": c})
	w.run()
	const calls = 40
	var put []string
	for i := range calls {
		var rows []string
		for k := range 1 + r.IntN(5) {
			rows = append(rows, fmt.Sprintf("%c%d.%d", 'a'+r.IntN(4), i, k))
		}
		w.put("s", rows...)
		put = append(put, rows...)
		switch n := r.IntN(20); {
		case n < 8:
			time.Sleep(time.Duration(r.IntN(8000)) * time.Millisecond)
		case n < 9:
			w.restart()
		case n < 11:
			time.Sleep(time.Duration(r.IntN(5000)) * time.Millisecond)
			(&life{world: w, r: r}).kill()
			w.store = w.backing.store()
			w.start()
			w.run()
		case n < 12:
			c.Size = int64(200 + r.IntN(400))
			w.apply(map[string]spec{"s": c})
		case n < 13:
			_, _ = w.m.Flush(within(time.Duration(r.IntN(4000))*time.Millisecond), "s")
		}
		w.status("s")
	}
	w.flush("s")
	w.balanced("s", int64(len(put)))
	data, failed := w.shop().rows()
	var lost int64
	for _, row := range put {
		switch n := data[row] + failed[row]; {
		case n > 1:
			t.Errorf("%s has %d outcomes: %d data, %d failed", row, n, data[row], failed[row])
		case n == 0:
			lost++
		}
	}
	if st := w.status("s"); st.Dropped != lost || st.Delivered != int64(len(data)) || st.Failed != int64(len(failed)) {
		t.Errorf("seed %d: %d records are nowhere; %d dropped, %d of %d delivered, %d of %d failed", seed, lost, st.Dropped, len(data), st.Delivered, len(failed), st.Failed)
	}
}
