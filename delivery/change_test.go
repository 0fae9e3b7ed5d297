package delivery

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer"
	"hydrant/sinks"
)

// change makes a stream by hand, as the control plane does.
func (w *world) change(name string, f func(now *buffer.Stream) (buffer.Stream, error)) buffer.Stream {
	w.t.Helper()
	out, err := w.m.Change(name, f)
	if err != nil {
		w.t.Fatalf("Change %q: %v", name, err)
	}
	return out
}

func (w *world) create(name string, s spec) buffer.Stream {
	w.t.Helper()
	return w.change(name, func(now *buffer.Stream) (buffer.Stream, error) {
		if now != nil {
			w.t.Errorf("stream %q is there: %+v", name, now)
		}
		return buffer.Stream{Spec: s.bytes()}, nil
	})
}

func (w *world) enter(name string, state buffer.State) buffer.Stream {
	w.t.Helper()
	return w.change(name, func(now *buffer.Stream) (buffer.Stream, error) {
		if now == nil {
			return buffer.Stream{}, errors.New("it is not there")
		}
		next := *now
		next.State = state
		return next, nil
	})
}

// A stream of another owner is neither ended by what is declared nor taken over while it takes records.
func TestOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, backends[0])
		w.declares = func(s buffer.Stream) bool { return s.Name != "theirs" }
		w.start()
		w.run()
		defer w.close()
		w.apply(map[string]spec{"mine": {}})
		if s := w.create("theirs", spec{Interval: time.Hour}); s.Version != 1 || s.State != buffer.Active {
			t.Errorf("created %+v", s)
		}
		w.put("theirs", "a")
		w.apply(map[string]spec{})
		synctest.Wait()
		if s, ok := w.m.Definition("theirs"); !ok || s.State != buffer.Active {
			t.Fatalf("after the declared streams were taken away: %+v, %v", s, ok)
		}
		if _, ok := w.m.Definition("mine"); ok {
			t.Error("what is not declared any more is still there")
		}
		err := w.m.Apply([]Declared{{Name: "theirs", Spec: spec{}.bytes()}, {Name: "mine", Spec: spec{}.bytes()}})
		owned, ok := errors.AsType[*OwnedError](err)
		if !ok || owned.Stream != "theirs" {
			t.Errorf("Apply says %v", err)
		}
		if s, _ := w.m.Definition("theirs"); s.Version != 1 {
			t.Errorf("the declaration has changed it: %+v", s)
		}
		names := []string{}
		for _, s := range w.m.Definitions() {
			names = append(names, s.Name)
		}
		equal(t, "streams", names, []string{"mine", "theirs"})

		// On its way out it can be taken over, with what it holds.
		w.shop().set(always(refusal(sinks.Unknown, "")))
		w.enter("theirs", buffer.Deleting)
		w.apply(map[string]spec{"mine": {}, "theirs": {Prefix: "new/"}})
		w.shop().set(nil)
		w.flush("theirs")
		w.balanced("theirs", 1)
		if s, _ := w.m.Definition("theirs"); s.Version != 2 || s.State != buffer.Active {
			t.Errorf("taken over: %+v", s)
		}
	})
}

// An error of the function changes nothing.
func TestChangeRefused(t *testing.T) {
	inWorld(t, map[string]spec{"s": {}}, func(t *testing.T, w *world) {
		no := errors.New("no")
		if _, err := w.m.Change("s", func(now *buffer.Stream) (buffer.Stream, error) { return *now, no }); err != no {
			t.Errorf("Change: %v", err)
		}
		if _, err := w.m.Change("other", func(now *buffer.Stream) (buffer.Stream, error) { return buffer.Stream{}, no }); err != no {
			t.Errorf("Change: %v", err)
		}
		if names := len(w.m.Definitions()); names != 1 {
			t.Errorf("%d streams", names)
		}
	})
}

// A stream that is discarded drops what waits, as rows and as objects, whether its destination answers or not,
// counts each record once, and is gone. Its name is free again.
func TestDiscard(t *testing.T) {
	for _, c := range []struct {
		name    string
		restart bool // after the order
	}{{"at once", false}, {"over a restart", true}} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, map[string]spec{"keep": {}}, func(t *testing.T, w *world) {
				w.create("s", spec{Interval: time.Hour, Size: 100})
				w.shop().set(always(refusal(sinks.Unknown, "")))
				w.put("s", ten(0, 10)...) // an object that cannot be sent
				w.put("s", "bad a", "bad b")
				_, _ = w.m.Flush(within(time.Minute), "s") // and one of the error output
				w.put("s", ten(10, 3)...)                  // rows
				synctest.Wait()
				puts := w.shop().puts
				if st := w.status("s"); st.BacklogRecords != 15 || len(st.Batches) == 0 {
					t.Fatalf("status before %+v", st)
				}
				w.enter("s", buffer.Discarding)
				// It may be gone already.
				if _, err := w.tryPut("s", "late"); !isNotFound(err, true) && !isNotFound(err, false) {
					t.Errorf("Append to a stream that is discarded: %v", err)
				}
				dropped := gather(t, w.m, "s")
				if c.restart {
					w.restart()
				}
				time.Sleep(time.Second)
				if _, ok := w.m.Definition("s"); ok {
					t.Fatalf("the stream is still there: %+v", w.status("s"))
				}
				if w.shop().puts != puts {
					t.Errorf("%d puts after the order", w.shop().puts-puts)
				}
				if !c.restart {
					if n := gather(t, w.m, "s")["dropped_records_total"]; n != 15 {
						t.Errorf("dropped_records_total %v, want 15 (before: %v)", n, dropped)
					}
				}
				w.shop().set(nil)
				if s := w.create("s", spec{}); s.Version != 1 {
					t.Errorf("created again: %+v", s)
				}
				w.put("s", "new")
				w.flush("s")
				w.balanced("s", 1)
				equal(t, "what was delivered", w.shop().bodies(""), []string{body("new")})
			})
		})
	}
}

// A destination that swallows requests without an answer holds a forced deletion up no longer than one that
// answers.
func TestDiscardDoesNotWaitForAnswers(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Interval: time.Hour, Size: 100}}, func(t *testing.T, w *world) {
		w.shop().mu.Lock()
		w.shop().gate = make(chan struct{}) // never opened: a put hangs until its context ends
		w.shop().mu.Unlock()
		w.put("s", ten(0, 35)...)
		synctest.Wait()
		began := time.Now()
		w.enter("s", buffer.Discarding)
		time.Sleep(time.Second)
		if _, ok := w.m.Stream("s"); ok {
			t.Errorf("still there after %v: %+v", time.Since(began), w.status("s"))
		}
		if n := gather(t, w.m, "s")["dropped_records_total"]; n != 35 {
			t.Errorf("dropped_records_total %v, want 35", n)
		}
	})
}

// The totals that the buffer keeps stay in balance while a stream is discarded.
func TestDiscardBalances(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Interval: time.Hour, Size: 100}}, func(t *testing.T, w *world) {
		w.shop().set(func(o sinks.Object, n int) *fault {
			if o.Meta["first-seq"] == "1" {
				return nil
			}
			return &fault{err: refusal(sinks.Unknown, "")}
		})
		w.put("s", ten(0, 10)...)
		w.put("s", ten(10, 10)...)
		w.put("s", ten(20, 5)...)
		time.Sleep(time.Second)
		if st := w.status("s"); st.Delivered != 10 || st.BacklogRecords != 15 {
			t.Fatalf("status before %+v", st)
		}
		// Holes in the store's answers keep the stream there for a while.
		if m := w.model(); m != nil {
			m.disk.mu.Lock()
			m.cutErr = errors.New("the journal fails")
			m.disk.mu.Unlock()
		}
		w.enter("s", buffer.Discarding)
		var seen []int64
		for range 40 {
			st, ok := w.m.Stream("s")
			if !ok {
				break
			}
			if st.Accepted != 25 || st.Delivered+st.Dropped+st.BacklogRecords != 25 || st.Unaccounted != 0 || st.State != "deleting" {
				t.Fatalf("status %+v", st)
			}
			seen = append(seen, st.Dropped)
			if m := w.model(); m != nil && len(seen) == 3 {
				if st.Dropped != 10 || st.BacklogRecords != 5 {
					t.Errorf("with a journal that fails: %+v", st)
				}
				m.disk.mu.Lock()
				m.cutErr = nil
				m.disk.mu.Unlock()
			}
			time.Sleep(200 * time.Millisecond)
		}
		if _, ok := w.m.Stream("s"); ok || !slices.IsSorted(seen) {
			t.Errorf("still there: %v; dropped over time %v", ok, seen)
		}
		if n := gather(t, w.m, "s")["dropped_records_total"]; n != 15 {
			t.Errorf("dropped_records_total %v, want 15", n)
		}
	})
}

// A stream that cannot be opened cannot be drained, but it can be discarded.
func TestDiscardFailedStream(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Fail: "no such schema"}}, func(t *testing.T, w *world) {
		w.put("s", "a")
		w.enter("s", buffer.Deleting)
		time.Sleep(time.Hour)
		if st := w.status("s"); st.BacklogRecords != 1 {
			t.Fatalf("status %+v", st)
		}
		w.enter("s", buffer.Discarding)
		time.Sleep(time.Minute)
		if _, ok := w.m.Stream("s"); ok {
			t.Errorf("still there: %+v", w.status("s"))
		}
	})
}

// A stream that is discarded while the process dies again and again is dropped to the end: each record is
// counted once at every moment, and none is delivered that had not been sent before the order.
func TestDiscardCrashes(t *testing.T) {
	for _, b := range backends {
		if b.name == "files" {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			between := 0
			// As many as it takes for one to die in the middle: that is luck, since nobody waits for what goes on.
			for seed := uint64(0); seed < 60 || between == 0 && b.name == "buffer" && seed < 600; seed++ {
				synctest.Test(t, func(t *testing.T) { between += discardAndDie(t, b, seed) })
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
			if between == 0 && b.name == "buffer" {
				t.Error("no process died in the middle")
			}
		})
	}
}

// discardAndDie returns how often a part of the stream was found dropped after a death, and not all.
func discardAndDie(t *testing.T, b backend, seed uint64) (between int) {
	r := rand.New(rand.NewPCG(seed, 7))
	w := newWorld(t, b)
	w.start()
	w.run()
	defer w.close()
	w.create("s", spec{Interval: 2 * time.Second, Size: 100})
	var mu sync.Mutex // of luck
	luck := rand.New(rand.NewPCG(seed, 8))
	w.shop().set(func(o sinks.Object, _ int) *fault {
		mu.Lock()
		defer mu.Unlock()
		if luck.IntN(2) == 0 {
			return nil
		}
		return &fault{err: refusal(sinks.Unknown, ""), stored: luck.IntN(3) == 0}
	})
	accepted := int64(0)
	for range 5 + r.IntN(20) {
		n := 1 + r.IntN(12)
		w.put("s", ten(int(accepted), n)...)
		accepted += int64(n)
		time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond)
	}
	synctest.Wait()
	w.shop().set(always(refusal(sinks.Unknown, "")))
	w.enter("s", buffer.Discarding)
	deaths := 0
	for range 200 {
		st, ok := w.m.Stream("s")
		if !ok {
			break
		}
		if st.Accepted != accepted || st.Unaccounted != 0 || st.Delivered+st.Failed+st.Dropped+st.BacklogRecords != accepted {
			t.Fatalf("after %d deaths: %+v, %d records were accepted", deaths, st, accepted)
		}
		if deaths > 0 && st.Dropped > 0 && st.BacklogRecords > 0 {
			between++
		}
		// In the middle of it, as nobody waits here for what goes on; or when all that could be done is done.
		if die := r.IntN(4); die > 0 && deaths < 20 {
			for range r.IntN(800) {
				runtime.Gosched()
			}
			(&life{world: w, r: r}).kill()
			w.store = w.backing.store()
			w.start()
			w.run()
			deaths++
			continue
		}
		time.Sleep(time.Second)
	}
	if st, ok := w.m.Stream("s"); ok {
		t.Fatalf("still there after %d deaths: %+v", deaths, st)
	}
	w.shop().set(nil)
	w.create("s", spec{})
	w.put("s", "new")
	w.flush("s")
	w.balanced("s", 1)
	return between
}

// tellingStore tells when a manifest's id is drawn: rows are claimed and their fate is not decided.
type tellingStore struct {
	store
	drawn func()
}

func (s *tellingStore) NewManifestID() buffer.ManifestID {
	if s.drawn != nil {
		s.drawn()
	}
	return s.store.NewManifestID()
}

// A stream that is declared again while it is being discarded keeps what it takes from then on, although nothing
// of it but its state has changed. What is not dropped yet by then stays too.
func TestDiscardEndsWithDeclaration(t *testing.T) {
	for _, b := range backends[:2] {
		t.Run(b.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, b)
				told := &tellingStore{store: w.store}
				w.store = told
				w.start()
				w.apply(map[string]spec{"s": {Interval: time.Hour}})
				w.run()
				defer w.close()
				w.put("s", "old")
				synctest.Wait()
				told.drawn = func() {
					told.drawn = nil
					w.apply(map[string]spec{"s": {Interval: time.Hour}})
					w.put("s", "new")
				}
				w.enter("s", buffer.Discarding)
				synctest.Wait()
				if told.drawn != nil {
					t.Fatal("nothing was claimed to be dropped")
				}
				if st := w.status("s"); st.State != "active" || st.Version != 1 || st.Dropped != 0 {
					t.Errorf("status %+v", st)
				}
				w.flush("s")
				equal(t, "what was delivered", w.shop().bodies(""), []string{body("old", "new")})
			})
		})
	}
}
