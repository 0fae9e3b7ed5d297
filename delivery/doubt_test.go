package delivery

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hydrant/sinks"
)

// An object whose answer was lost is refused for good when it is sent again. Only where it is certain that the
// first attempt did not store it does it go to the error output.
func TestRefusedAfterALostAnswer(t *testing.T) {
	unknown := refusal(sinks.Unknown, "")
	for _, c := range []struct {
		name    string
		stored  bool // by the first attempt
		restart bool // between the two
		silent  bool // the destination does not say at first whether it has the object
	}{
		{name: "stored", stored: true},
		{name: "not stored"},
		{name: "stored, restart", stored: true, restart: true},
		{name: "not stored, restart", restart: true},
		{name: "stored, nothing said", stored: true, silent: true},
		{name: "not stored, nothing said", silent: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, map[string]spec{"s": {}}, func(t *testing.T, w *world) {
				var refuses atomic.Bool
				fault := func(o sinks.Object, _ int) *fault {
					switch {
					case strings.HasPrefix(o.Key, "errors/"):
						return nil
					case refuses.Load():
						return &fault{err: refusal(sinks.RefusedObject, "KeyTooLong")}
					}
					return &fault{err: unknown, stored: c.stored}
				}
				w.shop().set(fault)
				w.put("s", "a", "b")
				_, _ = w.m.Flush(within(time.Second), "s") // sends it once
				silence := func(verify func(sinks.Object) error) {
					w.shop().mu.Lock()
					defer w.shop().mu.Unlock()
					w.shop().verify = verify
				}
				if c.silent {
					silence(func(sinks.Object) error { return refusal(sinks.Unknown, "timeout") })
				}
				if c.restart {
					w.restart()
				}
				refuses.Store(true)
				time.Sleep(time.Hour)
				if c.silent {
					if st := w.status("s"); st.BacklogRecords != 2 {
						t.Fatalf("the destination does not say where the object is: %+v", st)
					}
					silence(nil)
					time.Sleep(time.Hour)
				}
				want := []string{"errors/delivery-failed/"}
				failed := int64(2)
				if c.stored {
					want, failed = []string{"2000/"}, 0
				}
				keys := w.shop().keys()
				if len(keys) != 1 || !strings.HasPrefix(keys[0], want[0]) {
					t.Errorf("keys %q, want one under %s", keys, want[0])
				}
				w.balanced("s", 2)
				if st := w.status("s"); st.Failed != failed || st.BacklogRecords != 0 {
					t.Errorf("status %+v, want %d failed", st, failed)
				}
			})
		})
	}
}

// The bytes of an object rot after an attempt whose answer was lost. Where that attempt stored it, nothing is lost.
func TestDamagedAfterALostAnswer(t *testing.T) {
	for name, stored := range map[string]bool{"stored": true, "not stored": false} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, map[string]spec{"s": {}}, func(t *testing.T, w *world) {
				if w.model() == nil {
					t.Skip("only the model's packs can be damaged here")
				}
				w.shop().set(func(sinks.Object, int) *fault {
					return &fault{err: refusal(sinks.Unknown, ""), stored: stored}
				})
				w.put("s", "a", "b")
				for w.status("s").Error == "" && len(w.status("s").Failures) == 0 {
					time.Sleep(time.Minute)
				}
				d := w.model().disk
				d.mu.Lock()
				d.manifests[d.order[len(d.order)-1]].bytes[0][0]++
				d.mu.Unlock()
				w.shop().set(nil)
				w.flush("s")
				st := w.status("s")
				if lost := map[bool]int64{true: 0, false: 2}[stored]; st.Unaccounted != lost || st.Delivered != 2-lost || st.BacklogRecords != 0 {
					t.Errorf("delivered %d, unaccounted %d, backlog %d: want %d lost", st.Delivered, st.Unaccounted, st.BacklogRecords, lost)
				}
			})
		})
	}
}

// A request that was cut off arrives late: it was on its way when its process died, or its connection was gone.
// Until none can any more, an object that is not there is not given up for it.
func TestRefusedBeforeALateArrival(t *testing.T) {
	for name, late := range map[string]time.Duration{"at once": 0, "after seconds": 10 * time.Second, "just before it is too late": 25 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, map[string]spec{"s": {}}, func(t *testing.T, w *world) {
				var cutOff atomic.Int64 // UnixNano
				w.shop().set(func(o sinks.Object, try int) *fault {
					switch {
					case strings.HasPrefix(o.Key, "errors/"):
						return nil
					case try == 1:
						cutOff.Store(time.Now().UnixNano())
						return &fault{err: refusal(sinks.Unknown, "")}
					}
					return &fault{err: refusal(sinks.RefusedObject, "KeyTooLong")}
				})
				w.shop().mu.Lock()
				w.shop().verify = func(o sinks.Object) error {
					if !strings.HasPrefix(o.Key, "errors/") && time.Since(time.Unix(0, cutOff.Load())) >= late {
						return nil
					}
					return refusal(sinks.NotStored, "NoSuchKey")
				}
				w.shop().mu.Unlock()
				w.put("s", "a", "b")
				time.Sleep(2 * time.Hour)
				if keys := w.shop().keys(); len(keys) != 0 {
					t.Errorf("the store has %q besides the object that arrived late", keys)
				}
				if st := w.status("s"); st.Failed != 0 || st.Delivered != 2 || st.BacklogRecords != 0 {
					t.Errorf("status %+v, want 2 delivered", st)
				}
			})
		})
	}
}
