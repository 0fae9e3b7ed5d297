package delivery

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer"
	"hydrant/record"
	"hydrant/sinks"
)

func within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// A flush returns when everything accepted before it has ended, and does not wait for what comes later.
func TestFlush(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Interval: time.Hour}, "empty": {}}, func(t *testing.T, w *world) {
		began := time.Now()
		w.flush("empty")
		w.put("s", "a")
		w.flush("s")
		if d := time.Since(began); d > time.Second {
			t.Errorf("flushes of nothing and of one record took %v", d)
		}
		w.balanced("s", 1)

		gate := make(chan struct{})
		w.shop().mu.Lock()
		w.shop().gate = gate
		w.shop().mu.Unlock()
		w.put("s", "b", "bad c")
		over := make(chan struct{})
		go func() {
			defer close(over)
			w.flush("s")
		}()
		synctest.Wait()
		w.put("s", "later")
		select {
		case <-over:
			t.Fatal("flush returned before its objects were stored")
		default:
		}
		close(gate)
		synctest.Wait()
		select {
		case <-over:
		default:
			t.Fatal("flush waits for a record that came after it")
		}
		if st := w.status("s"); st.Delivered != 2 || st.Failed != 1 || st.BacklogRecords != 1 {
			t.Errorf("status %+v", st)
		}
	})
}

func TestFlushSaysWhatRemains(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Interval: time.Hour, Size: 100}}, func(t *testing.T, w *world) {
		w.shop().set(always(refusal(sinks.NotStored, "SlowDown")))
		w.put("s", ten(0, 25)...)
		began := time.Now()
		left, err := w.m.Flush(within(30*time.Second), "s")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 30*time.Second {
			t.Fatalf("Flush: %v after %v", err, time.Since(began))
		}
		if left.Records != 25 || left.Bytes != 275 || !strings.Contains(left.Error, "SlowDown") {
			t.Errorf("remaining %+v, want 25 records in objects of 275 bytes", left)
		}
		if _, err := w.m.Flush(within(time.Second), "nobody"); !isNotFound(err, false) {
			t.Errorf("Flush of an unknown stream: %v", err)
		}
		// A flush tries at once, whatever the wait.
		w.shop().set(nil)
		began = time.Now()
		w.flush("s")
		if d := time.Since(began); d > time.Second {
			t.Errorf("flush of a destination that is back took %v", d)
		}
	})
}

func isNotFound(err error, inactive bool) bool {
	e, ok := errors.AsType[*record.NotFound](err)
	return ok && e.Inactive == inactive
}

// A paused stream takes records, uploads nothing and closes nothing, also after a restart. Resuming starts
// everything at once.
func TestPauseAndResume(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Size: 100, Interval: time.Minute}}, func(t *testing.T, w *world) {
		w.shop().set(always(refusal(sinks.Unknown, "")))
		w.put("s", ten(0, 10)...) // an object that waits for its destination
		synctest.Wait()
		flushed := make(chan error)
		go func() {
			_, err := w.m.Flush(within(time.Hour), "s")
			flushed <- err
		}()
		synctest.Wait()
		for range 2 {
			if err := w.m.Pause("s"); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-flushed; !errors.Is(err, ErrPaused) {
			t.Errorf("a flush under way says %v", err)
		}
		if left, err := w.m.Flush(within(time.Hour), "s"); !errors.Is(err, ErrPaused) || left.Records != 10 {
			t.Errorf("Flush of a paused stream: %+v, %v", left, err)
		}
		synctest.Wait()
		w.shop().set(nil)
		puts := w.shop().puts
		w.put("s", ten(10, 25)...)
		time.Sleep(time.Hour)
		w.restart()
		time.Sleep(time.Hour)
		w.apply(map[string]spec{"s": {Size: 100, Interval: time.Minute}}) // the configuration does not resume it
		time.Sleep(time.Hour)
		if w.shop().puts != puts || cuts(w, "s") != 0 {
			t.Errorf("%d puts and %d cuts while paused", w.shop().puts-puts, cuts(w, "s"))
		}
		if st := w.status("s"); st.State != "paused" || st.BacklogRecords != 35 {
			t.Errorf("status %+v", st)
		}
		for range 2 {
			if err := w.m.Resume("s"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		w.balanced("s", 35)
		if st := w.status("s"); st.State != "active" {
			t.Errorf("status %+v", st)
		}
		if err := w.m.Pause("nobody"); !isNotFound(err, false) {
			t.Errorf("Pause of an unknown stream: %v", err)
		}
	})
}

func TestDrain(t *testing.T) {
	inWorld(t, map[string]spec{"a": {}, "b": {}, "paused": {}, "empty": {}}, func(t *testing.T, w *world) {
		w.put("a", "a")
		w.put("b", "b", "bad b")
		w.put("paused", "p")
		if err := w.m.Pause("paused"); err != nil {
			t.Fatal(err)
		}
		if err := w.m.Pause("empty"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		left, err := w.m.Drain(within(time.Hour))
		if !errors.Is(err, ErrPaused) || !strings.Contains(err.Error(), "paused") || left.Records != 1 || time.Since(began) > time.Second {
			t.Errorf("Drain: %+v, %v after %v: want the one record of the paused stream", left, err, time.Since(began))
		}
		if strings.Contains(err.Error(), "empty") {
			t.Errorf("Drain complains about a paused stream without backlog: %v", err)
		}
		w.balanced("a", 1)
		w.balanced("b", 2)
		if n := gather(t, w.m, "a")["batches_cut_total{reason=stop}"]; n != 1 {
			t.Errorf("%v cuts by the stop", n)
		}
		if err := w.m.Resume("paused"); err != nil {
			t.Fatal(err)
		}
		if left, err := w.m.Drain(within(time.Hour)); err != nil || left != (Remaining{}) {
			t.Errorf("Drain: %+v, %v", left, err)
		}
		w.shop().set(always(refusal(sinks.Unknown, "")))
		w.put("a", "c")
		if left, err := w.m.Drain(within(time.Minute)); !errors.Is(err, context.DeadlineExceeded) || left.Records != 1 || left.Error == "" {
			t.Errorf("Drain of a dead destination: %+v, %v", left, err)
		}
	})
}

// After the end nothing is taken and nobody waits for ever; the backlog is there at the next start.
func TestStop(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Size: 100}}, func(t *testing.T, w *world) {
		gate := make(chan struct{}) // never opened: the put hangs until its context ends
		w.shop().mu.Lock()
		w.shop().gate = gate
		w.shop().mu.Unlock()
		w.put("s", ten(0, 25)...)
		flushed := make(chan error)
		go func() {
			_, err := w.m.Flush(within(time.Hour), "s")
			flushed <- err
		}()
		synctest.Wait()
		began := time.Now()
		w.stop()
		if d := time.Since(began); d > time.Second {
			t.Errorf("stop took %v", d)
		}
		if err := <-flushed; !errors.Is(err, errStopped) {
			t.Errorf("a flush under way says %v", err)
		}
		if _, err := w.tryPut("s", "x"); err == nil {
			t.Error("Append after the end")
		} else if r, ok := errors.AsType[*record.Refusal](err); !ok || r.Reason != "stopping" {
			t.Errorf("Append after the end: %v", err)
		}
		if w.shop().closed != 1 {
			t.Errorf("sink closed %d times", w.shop().closed)
		}
		if w.model() != nil && w.model().opened != 0 {
			t.Errorf("%d objects are still open", w.model().opened)
		}
		w.shop().gate = nil
		w.restart()
		w.flush("s")
		w.balanced("s", 25)
	})
}

// A stream that is not declared any more drains under its last version and is gone; declared again it is
// another one.
func TestRemovedStream(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Interval: time.Hour}, "t": {}}, func(t *testing.T, w *world) {
		w.put("s", "a", "b")
		w.shop().set(always(refusal(sinks.Unknown, "")))
		w.apply(map[string]spec{"t": {}})
		time.Sleep(time.Minute)
		if st := w.status("s"); st.State != "deleting" || st.BacklogRecords != 2 || len(st.Batches) != 1 {
			t.Errorf("status %+v", st)
		}
		if _, err := w.tryPut("s", "c"); !isNotFound(err, true) {
			t.Errorf("Append to a stream that is being deleted: %v", err)
		}
		for _, f := range []func(string) error{w.m.Pause, w.m.Resume} {
			if err := f("s"); !errors.Is(err, ErrDeleting) {
				t.Errorf("steering a stream that is being deleted: %v", err)
			}
		}
		w.restart()
		if st := w.status("s"); st.State != "deleting" || st.BacklogRecords != 2 {
			t.Errorf("status after a restart %+v", st)
		}
		w.shop().set(nil)
		time.Sleep(time.Minute)
		if _, ok := w.m.Stream("s"); ok {
			t.Error("the stream is still there though everything is delivered")
		}
		if _, err := w.tryPut("s", "c"); !isNotFound(err, false) {
			t.Errorf("Append to a stream that is gone: %v", err)
		}
		if n := len(w.m.Streams()); n != 1 {
			t.Errorf("%d streams", n)
		}
		w.apply(map[string]spec{"s": {}, "t": {}})
		if r := w.put("s", "c"); r.First != 1 || r.Incarnation == 1 {
			t.Errorf("the new stream goes on where the old one ended: %+v", r)
		}
		w.flush("s")
		if st := w.status("s"); st.Version != 1 || st.Accepted != 1 {
			t.Errorf("status %+v", st)
		}
		equal(t, "objects", w.shop().bodies(""), []string{body("a", "b"), body("c")})
	})
}

// A stream that comes back before it is gone goes on.
func TestRemovedStreamComesBack(t *testing.T) {
	inWorld(t, map[string]spec{"s": {}}, func(t *testing.T, w *world) {
		w.shop().set(always(refusal(sinks.Unknown, "")))
		w.put("s", "a")
		w.apply(nil)
		time.Sleep(time.Minute)
		w.apply(map[string]spec{"s": {Size: 50}})
		w.put("s", "b")
		w.shop().set(nil)
		w.flush("s")
		w.balanced("s", 2)
		if st := w.status("s"); st.State != "active" || st.Version != 2 {
			t.Errorf("status %+v", st)
		}
	})
}

// A change closes the epoch; objects carry the version that sealed them, old and new.
func TestChangedStream(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Prefix: "one/", Interval: time.Hour, Size: 100}}, func(t *testing.T, w *world) {
		w.shop().set(always(refusal(sinks.Unknown, "")))
		w.put("s", ten(0, 10)...) // sealed by version 1, not sent
		w.put("s", "raw")
		synctest.Wait()
		w.apply(map[string]spec{"s": {Prefix: "two/", Interval: time.Hour, Size: 100}})
		synctest.Wait()
		if n := gather(t, w.m, "s")["batches_cut_total{reason=config}"]; n != 1 {
			t.Errorf("%v cuts by the change, want 1", n)
		}
		w.restart() // the old version is found again
		w.shop().set(nil)
		w.flush("s")
		w.balanced("s", 11)
		equal(t, "version 1", w.shop().bodies("one/2000/01/01/00/s-1-"), []string{body(ten(0, 10)...)})
		equal(t, "version 2", w.shop().bodies("two/2000/01/01/00/s-2-"), []string{body("raw")})
		w.apply(map[string]spec{"s": {Prefix: "two/", Interval: time.Hour, Size: 100}})
		if st := w.status("s"); st.Version != 2 {
			t.Errorf("version %d after applying the same again", st.Version)
		}
		synctest.Wait()
		s := w.m.lookup("s")
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.versions) != 1 || len(s.lanes) != 1 {
			t.Errorf("%d versions and %d lanes are kept, want 1", len(s.versions), len(s.lanes))
		}
	})
}

// A change while claims are being encoded: they become manifests of the new version, as the buffer keeps the
// old one for nobody.
func TestChangedWhileEncoding(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Interval: time.Hour, Size: 100}}, func(t *testing.T, w *world) {
		gate := make(chan struct{})
		w.gate = func() { <-gate }
		w.apply(map[string]spec{"s": {Prefix: "one/", Interval: time.Hour, Size: 100}})
		w.put("s", "wait"+strings.Repeat("x", 96))
		w.put("s", ten(0, 10)...) // ready before the claim ahead of it
		synctest.Wait()
		if n := len(w.m.lookup("s").inWork); n != 2 {
			t.Fatalf("%d claims in work, want 2", n)
		}
		if st := w.status("s"); st.BacklogRecords != 11 || st.BacklogBytes != 200 || st.Oldest == nil {
			t.Errorf("status %+v, want 11 records of 200 bytes in the backlog", st)
		}
		w.apply(map[string]spec{"s": {Prefix: "two/", Interval: time.Hour, Size: 100}})
		close(gate)
		synctest.Wait()
		if keys := w.shop().keys(); len(keys) != 2 || !strings.HasPrefix(keys[0], "two/2000/01/01/00/s-3-") || !strings.HasPrefix(keys[1], "two/2000/01/01/00/s-3-") {
			t.Errorf("keys %q, want two of version 3", keys)
		}
		w.restart()
		w.flush("s")
		w.balanced("s", 11)
	})
}

// Between the look at the stream and the claim its version may change. A claim under the old one would keep
// nothing of it alive: its queue and its sink may be gone.
func TestNoClaimUnderRetiredVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, backends[0])
		w.start()
		w.apply(map[string]spec{"s": {}})
		w.put("s", "a")
		l := w.m.loops[0]
		l.adopt()
		l.count(l.s.consumer.Waiting(), false)
		w.apply(map[string]spec{"s": {Prefix: "other/"}})
		if !l.claim(t.Context(), verdict{close: reasonFlush, next: 2, max: 100}) || len(l.jobs) != 0 {
			t.Fatalf("%d jobs under a version that is retired", len(l.jobs))
		}
		w.run()
		defer w.close()
		w.flush("s")
		w.balanced("s", 1)
	})
}

// Resuming does not sit out a wait from before the pause, and neither does a restart count what waits.
func TestResumeHurries(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Interval: -1}}, func(t *testing.T, w *world) {
		w.shop().set(always(refusal(sinks.RefusedDestination, "AccessDenied")))
		w.put("s", "a", "bad")
		time.Sleep(time.Hour)
		if err := w.m.Pause("s"); err != nil {
			t.Fatal(err)
		}
		w.restart()
		if st := w.status("s"); st.Delivered != 0 || st.Failed != 0 || st.BacklogRecords != 2 {
			t.Errorf("status after a restart with everything under a manifest: %+v", st)
		}
		if err := w.m.Resume("s"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // failures in this process too
		if err := w.m.Pause("s"); err != nil {
			t.Fatal(err)
		}
		w.shop().set(nil)
		if err := w.m.Resume("s"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if st := w.status("s"); st.Delivered != 1 || st.Failed != 1 {
			t.Errorf("status right after resuming: %+v", st)
		}
	})
}

// The bucket was wrong and is corrected: what is certainly not at the old place goes to the new one, what is
// there stays, and while the old place does not answer nothing moves.
func TestMovedDestination(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Place: "old", Shop: ""}}, func(t *testing.T, w *world) {
		old := w.shop()
		w.shops["new"] = w.newShop()
		old.set(func(o sinks.Object, _ int) *fault {
			return &fault{err: refusal(sinks.Unknown, ""), stored: o.Meta["first-seq"] == "1"}
		})
		old.verify = func(sinks.Object) error { return refusal(sinks.Unknown, "timeout") }
		w.put("s", "stored, answer lost")
		_, _ = w.m.Flush(within(time.Second), "s")
		w.put("s", "not stored")
		_, _ = w.m.Flush(within(time.Second), "s")
		w.apply(map[string]spec{"s": {Place: "new", Shop: "new"}})
		w.put("s", "made for the new place")
		_, _ = w.m.Flush(within(time.Hour), "s")
		equal(t, "new place while the old is silent", w.shops["new"].bodies(""), []string{body("made for the new place")})
		old.mu.Lock()
		old.verify = nil
		old.mu.Unlock()
		w.flush("s")
		equal(t, "old place", old.bodies(""), []string{body("stored, answer lost")})
		equal(t, "new place", w.shops["new"].bodies(""), []string{body("made for the new place"), body("not stored")})
		w.balanced("s", 3)
	})
}

// An object that an earlier process may have stored at a place that the stream had in between, and has no more, is
// looked for there too.
func TestMovedTwice(t *testing.T) {
	for _, c := range []struct {
		name    string
		restart []bool // before the last change, and after it
	}{{"in one process", []bool{false, false}}, {"restart, then moved", []bool{true, false}}, {"moved, then restart", []bool{false, true}}, {"two restarts", []bool{true, true}}} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, map[string]spec{"s": {Place: "a"}}, func(t *testing.T, w *world) {
				w.shops["b"], w.shops["c"] = w.newShop(), w.newShop()
				w.shop().set(always(refusal(sinks.NotStored, "")))
				w.shops["b"].set(func(sinks.Object, int) *fault { return &fault{err: refusal(sinks.Unknown, ""), stored: true} })
				w.put("s", "x")
				_, _ = w.m.Flush(within(time.Minute), "s")
				w.apply(map[string]spec{"s": {Place: "b", Shop: "b"}})
				_, _ = w.m.Flush(within(time.Hour), "s") // which waits until a certainly does not have it
				equal(t, "place in between", w.shops["b"].bodies(""), []string{body("x")})
				w.shops["b"].mu.Lock()
				w.shops["b"].verify = func(sinks.Object) error { return refusal(sinks.Unknown, "timeout") }
				w.shops["b"].mu.Unlock()
				if c.restart[0] {
					w.restart()
				}
				w.apply(map[string]spec{"s": {Place: "c", Shop: "c"}})
				w.apply(map[string]spec{"s": {Place: "c", Shop: "c", Prefix: "other/"}})
				if c.restart[1] {
					w.restart()
				}
				_, _ = w.m.Flush(within(time.Hour), "s")
				equal(t, "last place while the one in between is silent", w.shops["c"].bodies(""), []string{})
				w.shops["b"].mu.Lock()
				w.shops["b"].verify = nil
				w.shops["b"].mu.Unlock()
				w.flush("s")
				equal(t, "last place", w.shops["c"].bodies(""), []string{})
				w.balanced("s", 1)
			})
		})
	}
}

// A version in between that cannot be opened has sent nothing anywhere, and holds nothing up.
func TestMovedTwiceUnopened(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Place: "a"}}, func(t *testing.T, w *world) {
		w.shops["c"] = w.newShop()
		w.shop().set(always(refusal(sinks.NotStored, "")))
		w.put("s", "x")
		_, _ = w.m.Flush(within(time.Minute), "s")
		w.apply(map[string]spec{"s": {Fail: "no such key"}})
		w.apply(map[string]spec{"s": {Place: "c", Shop: "c"}})
		w.restart()
		w.flush("s")
		equal(t, "new place", w.shops["c"].bodies(""), []string{body("x")})
		w.balanced("s", 1)
	})
}

// A bucket that never was counts as a certain answer.
func TestMovedFromMissingBucket(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Place: "typo"}}, func(t *testing.T, w *world) {
		w.shops["new"] = w.newShop()
		gone := refusal(sinks.RefusedDestination, "NoSuchBucket")
		w.shop().set(always(gone))
		w.shop().verify = func(sinks.Object) error { return gone }
		w.put("s", "a")
		_, _ = w.m.Flush(within(time.Minute), "s")
		w.restart()
		w.apply(map[string]spec{"s": {Place: "right", Shop: "new"}})
		w.flush("s")
		equal(t, "new place", w.shops["new"].bodies(""), []string{body("a")})
		w.balanced("s", 1)
	})
}

// Versions without a named place finish where they were made for, and so does another kind of destination.
func TestOldVersionFinishesAtItsPlace(t *testing.T) {
	for name, after := range map[string]spec{"no place": {Shop: "new"}, "other kind": {Shop: "new", Kind: "file", Place: "p"}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, map[string]spec{"s": {}}, func(t *testing.T, w *world) {
				w.shops["new"] = w.newShop()
				w.shop().set(always(refusal(sinks.Unknown, "")))
				w.put("s", "a")
				_, _ = w.m.Flush(within(time.Second), "s")
				w.apply(map[string]spec{"s": after})
				w.put("s", "b")
				w.shop().set(nil)
				w.flush("s")
				equal(t, "old place", w.shop().bodies(""), []string{body("a")})
				equal(t, "new place", w.shops["new"].bodies(""), []string{body("b")})
				synctest.Wait()
				if w.shop().closed != 1 {
					t.Errorf("the old sink was closed %d times, want once", w.shop().closed)
				}
			})
		})
	}
}

// A stream that cannot be opened takes records and keeps them; the others do not notice. With a version
// that can be opened it goes on.
func TestFailedStream(t *testing.T) {
	inWorld(t, map[string]spec{"s": {}, "t": {}}, func(t *testing.T, w *world) {
		w.shop().set(always(refusal(sinks.Unknown, "")))
		w.put("s", "sealed")
		_, _ = w.m.Flush(within(time.Second), "s")
		w.apply(map[string]spec{"s": {Fail: "no such schema"}, "t": {}})
		w.restart()
		w.shop().set(nil)
		w.put("s", "a")
		w.put("t", "b")
		w.flush("t")
		w.balanced("t", 1)
		left, err := w.m.Flush(within(time.Minute), "s")
		if !errors.Is(err, context.DeadlineExceeded) || left.Records != 1 || !strings.Contains(left.Error, "no such schema") {
			t.Errorf("Flush: %+v, %v: the sealed object goes out, the rest waits", left, err)
		}
		began := time.Now()
		if left, err := w.m.Drain(within(time.Hour)); err == nil || left.Records != 1 || time.Since(began) > time.Second {
			t.Errorf("Drain: %+v, %v after %v", left, err, time.Since(began))
		}
		if st := w.status("s"); st.State != "failed" || !strings.Contains(st.Error, "no such schema") || st.BacklogRecords != 1 {
			t.Errorf("status %+v", st)
		}
		w.apply(map[string]spec{"s": {}, "t": {}})
		w.flush("s")
		w.balanced("s", 2)
	})
}

func TestApplyRefusesTwins(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		d := Declared{Name: "s", Spec: spec{}.bytes(), Tags: map[string]string{"team": "web"}}
		if err := w.m.Apply([]Declared{d, d}); err == nil || !strings.Contains(err.Error(), "declared twice") {
			t.Errorf("Apply: %v", err)
		}
		if st := w.status("s"); st.State != "active" || st.Tags["team"] != "web" || st.Version != 1 || !st.Created.Equal(time.Now()) {
			t.Errorf("status %+v", st)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	open := func(buffer.Stream) (*Pipeline, error) { return nil, nil }
	for name, o := range map[string]Options{"nothing": {}, "no buffer": {Open: open}, "no open": {Buffer: &buffer.Buffer{}}} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := newManager(Options{Open: open, Workers: -1}, newModelDisk(t).open()); err == nil {
		t.Error("a negative number of workers is taken")
	}
}
