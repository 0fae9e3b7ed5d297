package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer"
	"hydrant/sinks"
)

// untilAttempt fails the first n attempts at each key.
func untilAttempt(n int, f fault) func(sinks.Object, int) *fault {
	return func(_ sinks.Object, attempt int) *fault {
		if attempt <= n {
			return &f
		}
		return nil
	}
}

// Each fault of a destination comes in two kinds: the object was not stored, or it was and the answer was
// lost. Both end with the object there once, under the key it had from the start.
func TestFaultsOfDestination(t *testing.T) {
	unclassified := errors.New("connection reset")
	for _, c := range []struct {
		name    string
		err     error
		outcome string
		longest time.Duration // until the fourth attempt
	}{
		{"unknown", refusal(sinks.Unknown, "InternalError"), "unknown", 3 * time.Second},
		{"unclassified", unclassified, "unknown", 3 * time.Second},
		{"not stored", refusal(sinks.NotStored, "SlowDown"), "not_stored", 3 * time.Second},
		{"after", &sinks.Error{Class: sinks.NotStored, After: 20 * time.Second, Err: unclassified}, "not_stored", 61 * time.Second},
		{"destination", refusal(sinks.RefusedDestination, "NoSuchBucket"), "refused_destination", 36 * time.Second},
	} {
		for _, stored := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stored %v", c.name, stored), func(t *testing.T) {
				inWorld(t, map[string]spec{"s": {}}, func(t *testing.T, w *world) {
					w.shop().set(untilAttempt(3, fault{err: c.err, stored: stored}))
					w.put("s", "a", "bad b")
					began := time.Now()
					w.flush("s")
					if d := time.Since(began); d > c.longest*2 || d < c.longest/8 {
						t.Errorf("four attempts at two objects took %v, want about %v", d, c.longest)
					}
					w.balanced("s", 2)
					data, failed := w.shop().rows()
					equal(t, "rows", data, map[string]int{"a": 1})
					equal(t, "failed rows", failed, map[string]int{"bad b": 1})
					got := gather(t, w.m, "s")
					if n := got["delivery_attempts_total{outcome="+c.outcome+",sink=s3}"]; n != 6 {
						t.Errorf("%v attempts with outcome %s, want 6", n, c.outcome)
					}
					if n := got["delivery_attempts_total{outcome=stored,sink=s3}"]; n != 2 {
						t.Errorf("%v attempts stored, want 2", n)
					}
					st := w.status("s")
					if st.Delivered != 1 || st.Failed != 1 || len(st.Deliveries) != 2 || len(st.Failures) != 6 {
						t.Errorf("status %+v", st)
					}
					if e := st.Failures[0].Error; !strings.Contains(e, c.err.Error()) {
						t.Errorf("failure is described by %q", e)
					}
				})
			})
		}
	}
}

// While a destination fails, one probe at a time goes there, less and less often, and another stream is
// not disturbed. When it comes back, everything is delivered soon.
func TestDeadDestination(t *testing.T) {
	inWorld(t, map[string]spec{"dead": {Shop: "", Interval: -1}, "well": {Shop: "well", Kind: "file", Interval: -1}}, func(t *testing.T, w *world) {
		w.shop().slow = 50 * time.Millisecond
		w.shop().set(always(refusal(sinks.Unknown, "")))
		for i := range 200 {
			w.put("dead", ten(i, 1)...)
			w.put("well", ten(i, 1)...)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		w.balanced("well", 200)
		if n := w.shop().puts; n > 40 {
			t.Errorf("%d puts to a dead destination in 200s", n)
		}
		if n := w.shop().most; n > 1 {
			t.Errorf("%d puts at a time to a dead destination, want single probes", n)
		}
		st := w.status("dead")
		if st.BacklogRecords != 200 || st.Delivered != 0 || st.Oldest == nil || !st.Oldest.Equal(epoch2000) {
			t.Errorf("status of the dead %+v", st)
		}
		if len(st.Batches) != maxBatches || st.Batches[0].Error == "" || st.Batches[0].Attempts == 0 || st.Batches[0].Records != 1 || st.Batches[0].Pending != 1 {
			t.Errorf("%d batches, the first %+v", len(st.Batches), st.Batches[0])
		}
		w.shop().set(nil)
		time.Sleep(retryCap + time.Second)
		synctest.Wait()
		w.balanced("dead", 200)
		if n := w.shop().most; n < 8 {
			t.Errorf("at most %d puts at a time after the outage: the window does not open", n)
		}
	})
}

// The first success after an outage makes everything due that failed during it.
func TestEndOfOutage(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Size: 10, Interval: time.Hour}}, func(t *testing.T, w *world) {
		w.shop().set(always(refusal(sinks.Unknown, "")))
		w.put("s", ten(0, 4)...)
		time.Sleep(10 * time.Minute)
		w.shop().set(nil)
		time.Sleep(retryCap + time.Second)
		synctest.Wait()
		times := w.shop().times
		if len(times) != 4 || times[3].Sub(times[0]) > time.Second {
			t.Errorf("objects are stored at %v, want four at about the same time", times)
		}
	})
}

// Slots: 64 for all, half of the free ones for one destination, and as many bytes as the memory allows.
func TestUploadSlots(t *testing.T) {
	for _, c := range []struct {
		name   string
		row    int
		memory int64
		want   []int // in flight to each of three destinations, which come one after the other
	}{
		{"number", 10, 512 << 20, []int{32, 16, 8}},
		// 1 MiB of budget and objects of 100 KiB and a newline: ten at a time, whoever has them.
		{"bytes", 100 << 10, 16 << 20, []int{10, 0, 0}},
		// Not even one fits: one at a time.
		{"one", 100 << 10, 1 << 20, []int{1, 0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, backends[0])
				w.memory = c.memory
				streams := map[string]spec{}
				for i := range c.want {
					name := fmt.Sprintf("s%d", i)
					w.shops[name] = w.newShop()
					w.shops[name].gate = make(chan struct{})
					streams[name] = spec{Shop: name, Size: 1}
				}
				w.start()
				w.apply(streams)
				w.run()
				defer w.close()
				for i, want := range c.want {
					name := fmt.Sprintf("s%d", i)
					for j := range 50 {
						w.put(name, fmt.Sprintf("%d-%s", j, strings.Repeat("x", c.row)))
					}
					synctest.Wait()
					if n := w.shops[name].now; n != want {
						t.Errorf("%d objects in flight to destination %d, want %d", n, i, want)
					}
				}
				for _, s := range w.shops {
					if s.gate != nil {
						close(s.gate)
					}
				}
				for name := range streams {
					w.flush(name)
					w.balanced(name, 50)
				}
			})
		})
	}
}

// An object that the store will never take goes, byte for byte, under the error output.
func TestRefusedObject(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Ext: ".gz"}}, func(t *testing.T, w *world) {
		w.shop().set(func(o sinks.Object, _ int) *fault {
			if strings.HasPrefix(o.Key, "2000/") {
				return &fault{err: refusal(sinks.RefusedObject, "KeyTooLong")}
			}
			return nil
		})
		w.put("s", "a", "b")
		w.flush("s")
		keys := w.shop().keys()
		if len(keys) != 1 || !strings.HasPrefix(keys[0], "errors/delivery-failed/s-1-2000-01-01-00-00-00-") || !strings.HasSuffix(keys[0], ".gz") {
			t.Fatalf("keys %q", keys)
		}
		equal(t, "object", w.shop().bodies("errors/"), []string{body("a", "b")})
		w.balanced("s", 2)
		if st := w.status("s"); st.Failed != 2 || st.Delivered != 0 {
			t.Errorf("status %+v, want 2 failed", st)
		}
		w.restart()
		w.balanced("s", 2)
		if st := w.status("s"); st.Failed != 2 || st.Delivered != 0 {
			t.Errorf("status after a restart %+v, want 2 failed", st)
		}
	})
}

// Refused under the error output too: kept, listed, tried again for ever.
func TestRefusedInErrorOutputToo(t *testing.T) {
	inWorld(t, map[string]spec{"s": {}}, func(t *testing.T, w *world) {
		w.shop().set(always(refusal(sinks.RefusedObject, "EntityTooLarge")))
		w.put("s", "a")
		time.Sleep(24 * time.Hour)
		st := w.status("s")
		if st.BacklogRecords != 1 || len(st.Batches) != 1 || !strings.Contains(st.Batches[0].Error, "EntityTooLarge") {
			t.Fatalf("status %+v", st)
		}
		if n := gather(t, w.m, "s")["objects_replaced_total"]; n != 1 {
			t.Errorf("%v objects replaced, want 1", n)
		}
		w.shop().set(nil)
		w.flush("s")
		w.balanced("s", 1)
	})
}

// A prefix that the credentials do not cover looks like a destination that refuses everything. When others
// are stored meanwhile, its objects go to the error output after a while.
func TestDeniedPrefix(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Prefix: "m=!{timestamp:mm}/", Interval: -1}}, func(t *testing.T, w *world) {
		denied := func(o sinks.Object, _ int) *fault {
			if strings.HasPrefix(o.Key, "m=00/") {
				return &fault{err: refusal(sinks.RefusedDestination, "AccessDenied")}
			}
			return nil
		}
		w.shop().set(denied)
		w.put("s", "a", "b")
		for i := range 14 {
			time.Sleep(time.Minute)
			w.put("s", ten(i, 1)...)
		}
		time.Sleep(30 * time.Second)
		if st := w.status("s"); st.BacklogRecords != 2 || st.Failed != 0 {
			t.Fatalf("status after 14 minutes %+v, want 2 in the backlog", st)
		}
		for i := range 4 {
			time.Sleep(time.Minute)
			w.put("s", ten(14+i, 1)...)
		}
		w.flush("s")
		equal(t, "error output", w.shop().bodies("errors/delivery-failed/"), []string{body("a", "b")})
		if st := w.status("s"); st.Failed != 2 || st.Delivered != 18 {
			t.Errorf("status %+v, want 2 failed and 18 delivered", st)
		}
	})
}

// A store that is full takes small objects for a while, and one whose refusals are answered by time-outs in
// between does not refuse an object for a quarter of an hour: in neither case is it given up.
func TestRefusedAloneGivesNothingUp(t *testing.T) {
	for name, refuse := range map[string]func(attempt int) error{
		"full": func(int) error {
			return &sinks.Error{Class: sinks.RefusedDestination, Code: "QuotaExceeded", Full: true, Err: errors.New("no room")}
		},
		"now and then": func(attempt int) error {
			if attempt%3 == 0 {
				return refusal(sinks.NotStored, "SlowDown")
			}
			return refusal(sinks.RefusedDestination, "AccessDenied")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, map[string]spec{"s": {Prefix: "m=!{timestamp:mm}/", Interval: -1}}, func(t *testing.T, w *world) {
				w.shop().set(func(o sinks.Object, attempt int) *fault {
					if strings.HasPrefix(o.Key, "m=00/") {
						return &fault{err: refuse(attempt)}
					}
					return nil
				})
				w.put("s", "a", "b")
				for i := range 40 {
					time.Sleep(time.Minute)
					w.put("s", ten(i, 1)...)
				}
				time.Sleep(30 * time.Second)
				if st := w.status("s"); st.Failed != 0 || st.Delivered < 39 || w.shop().bodies("errors/") != nil {
					t.Fatalf("after 40 minutes %d are delivered and %d failed, want no failure", st.Delivered, st.Failed)
				}
				w.shop().set(nil)
				w.flush("s")
				w.balanced("s", 42)
				if got := w.shop().bodies("errors/"); got != nil {
					t.Errorf("error output %q", got)
				}
			})
		})
	}
}

// A destination that refuses everything is asked for ever: nothing is given up.
func TestDeniedDestinationGivesNothingUp(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Interval: time.Hour}}, func(t *testing.T, w *world) {
		w.put("s", "before")
		w.flush("s")
		w.shop().set(always(refusal(sinks.RefusedDestination, "InvalidAccessKeyId")))
		for i := range 48 {
			w.put("s", ten(i, 1)...)
			time.Sleep(time.Hour)
		}
		if st := w.status("s"); st.BacklogRecords != 48 || st.Failed != 0 {
			t.Fatalf("status after two days %+v", st)
		}
		w.shop().set(nil)
		time.Sleep(slowCap + time.Second)
		synctest.Wait()
		if st := w.status("s"); st.Delivered < 48 || st.Failed != 0 || len(w.shop().bodies("errors/")) != 0 {
			t.Fatalf("status after it came back %+v", st)
		}
	})
}

// Somebody else's object under the key: ours gets another name, data and error objects alike.
func TestForeignObject(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Ext: ".txt"}}, func(t *testing.T, w *world) {
		w.shop().set(func(o sinks.Object, attempt int) *fault {
			w.shop().mu.Lock()
			defer w.shop().mu.Unlock()
			if len(w.shop().objects) < 2 { // whoever comes first
				w.shop().objects[o.Key] = shopped{body: []byte("{}\n"), meta: map[string]string{sinks.MetaManifestID: "theirs"}}
			}
			return nil
		})
		w.put("s", "a", "bad b")
		w.flush("s")
		keys := w.shop().keys()
		if len(keys) != 4 {
			t.Fatalf("keys %q, want two of theirs and two of ours", keys)
		}
		theirs := 0
		for _, k := range keys {
			if w.shop().objects[k].meta[sinks.MetaManifestID] == "theirs" {
				theirs++
			}
			if !strings.HasPrefix(k, "2000/01/01/00/s-1-2000-01-01-00-00-00-") && !strings.HasPrefix(k, "errors/format-conversion-failed/s-1-2000-01-01-00-00-00-") {
				t.Errorf("key %q", k)
			}
		}
		if theirs != 2 {
			t.Errorf("%d objects are theirs, want 2: nothing is overwritten", theirs)
		}
		if st := w.status("s"); st.Delivered != 1 || st.Failed != 1 {
			t.Errorf("status %+v", st)
		}
		w.balanced("s", 2)
	})
}

// Bytes that rot in the pack are set aside and counted; the sink's word alone is not enough for that.
func TestDamagedObject(t *testing.T) {
	inWorld(t, map[string]spec{"s": {}}, func(t *testing.T, w *world) {
		w.shop().set(untilAttempt(2, fault{err: refusal(sinks.Damaged, "")}))
		w.put("s", "intact")
		w.flush("s")
		if st := w.status("s"); st.Delivered != 1 || st.Unaccounted != 0 {
			t.Fatalf("status %+v: a sink that cried wolf cost records", st)
		}
		if w.model() == nil {
			t.Skip("only the model's packs can be damaged here")
		}
		gate := make(chan struct{})
		w.shop().gate = gate
		w.put("s", "rotten", "too")
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := w.m.Flush(ctx, "s"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Flush: %v", err)
		}
		d := w.model().disk
		d.mu.Lock()
		d.manifests[d.order[len(d.order)-1]].bytes[0][0]++
		d.mu.Unlock()
		w.shop().mu.Lock()
		w.shop().gate = nil
		w.shop().fault = always(refusal(sinks.Unknown, "")) // the read before the rot
		w.shop().mu.Unlock()
		close(gate)
		time.Sleep(time.Minute)
		w.flush("s")
		st := w.status("s")
		if st.Delivered != 1 || st.Unaccounted != 2 || st.BacklogRecords != 0 {
			t.Errorf("status %+v, want 2 unaccounted", st)
		}
		if n := gather(t, w.m, "s")["delivery_alarms_total{kind=set aside}"]; n != 1 {
			t.Errorf("%v alarms", n)
		}
	})
}

func TestObjectMetadata(t *testing.T) {
	inWorld(t, map[string]spec{"s": {}}, func(t *testing.T, w *world) {
		w.put("s", "first")
		w.flush("s")
		w.put("s", "a", "b", "c")
		w.flush("s")
		for key, o := range w.shop().objects {
			want := map[string]string{"stream": "s", "schema-version": "s1", "first-seq": "1", "count": "1"}
			if strings.HasPrefix(string(o.body), "a") {
				want["first-seq"], want["count"] = "2", "3"
			}
			for name, v := range want {
				if o.meta[name] != v {
					t.Errorf("%s of %q is %q, want %q", name, key, o.meta[name], v)
				}
			}
			if len(o.meta["sha256"]) != 64 || len(o.meta["manifest-id"]) != 32 {
				t.Errorf("metadata %v", o.meta)
			}
		}
	})
}

func TestBackoff(t *testing.T) {
	for n, want := range map[int]time.Duration{-1: 200, 0: 200, 1: 200, 2: 400, 3: 800, 8: 25600, 9: 30000, 31: 30000, 1 << 40: 30000} {
		want *= time.Millisecond
		for range 100 {
			if d := backoff(n, retryBase, retryCap); d < want/2 || d > want {
				t.Fatalf("backoff after %d failures is %v, want %v to %v", n, d, want/2, want)
			}
		}
	}
}

// No task is lost or given out twice, whatever order things happen in, and the limits hold.
func TestUploaderPick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, 7))
		u := newUploader(512 << 20)
		lanes := []*lane{u.newLane(), u.newLane(), u.newLane()}
		var running []start
		out, ended, made := map[*task]bool{}, map[*task]bool{}, 0
		for range 20000 {
			switch r.IntN(5) {
			case 0:
				tk := &task{batch: testBatch(int64(r.IntN(1 << 20)))}
				made++
				u.submit(lanes[r.IntN(3)], []*task{tk})
			case 1:
				time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
			case 2:
				u.pause(lanes[r.IntN(3)], r.IntN(2) == 0)
			default:
				if len(running) == 0 {
					continue
				}
				i := r.IntN(len(running))
				s := running[i]
				running = append(running[:i], running[i+1:]...)
				delete(out, s.task)
				result := []outcome{done, done, again, unwell, local}[r.IntN(5)]
				s.task.attempts++
				if result == done {
					ended[s.task] = true
				}
				u.finish(s, result, time.Now(), 0)
			}
			starts, _ := u.pick(time.Now())
			for _, s := range starts {
				if out[s.task] || ended[s.task] {
					t.Fatal("a task is given out twice")
				}
				out[s.task] = true
				running = append(running, s)
				if s.lane.paused || s.lane.inFlight > s.lane.window && s.lane.streak == 0 {
					t.Fatalf("lane %+v got a slot", s.lane)
				}
			}
			if len(running) > maxInFlight || u.inFlight != len(running) {
				t.Fatalf("%d in flight, %d counted", len(running), u.inFlight)
			}
		}
		for _, l := range lanes {
			u.pause(l, false)
		}
		for range made * 10 {
			starts, _ := u.pick(time.Now())
			for _, s := range append(starts, running...) {
				ended[s.task] = true
				u.finish(s, done, time.Now(), 0)
			}
			running = nil
			if len(ended) == made {
				break
			}
			time.Sleep(retryCap)
		}
		if len(ended) != made || u.inFlight != 0 || u.charged != 0 {
			t.Fatalf("%d of %d tasks ended, %d in flight, %d bytes charged", len(ended), made, u.inFlight, u.charged)
		}
	})
}

func testBatch(size int64) *batch {
	return &batch{manifest: &buffer.Manifest{Objects: []buffer.ObjectInfo{{Size: size}}}}
}
