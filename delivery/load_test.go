package delivery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer"
	"hydrant/sinks"
)

// Objects are staged, loaded together where several wait, once each, and forgotten with the next load.
func TestLoad(t *testing.T) {
	atWarehouse(t, time.Hour, func(t *testing.T, w *world, h *warehouse) {
		h.took = 10 * time.Second
		w.put("s", "a", "b", "bad c")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		list, err := w.m.Batches("s")
		if err != nil || len(list) != 1 || list[0].Pending != 1 || list[0].Left[0].State != stateLoading {
			t.Fatalf("while it is loaded: %+v, %v", list, err)
		}
		if st := w.status("s"); st.Delivered != 0 || st.Failed != 1 || st.BacklogRecords != 2 {
			t.Errorf("while it is loaded: %+v", st)
		}
		for i := range 3 {
			w.put("s", fmt.Sprint("next", i))
			time.Sleep(2 * time.Second)
		}
		synctest.Wait()
		if list, _ = w.m.Batches("s"); len(list) != 4 || list[3].Left[0].State != stateStaged {
			t.Errorf("behind a load: %+v", list)
		}
		if n := gather(t, w.m, "s")["staged_objects"]; n != 4 {
			t.Errorf("%v objects are staged, want 4", n)
		}
		w.flush("s")
		w.balanced("s", 6)
		equal(t, "table", h.rows(), map[string]int{"a": 1, "b": 1, "next0": 1, "next1": 1, "next2": 1})
		if len(h.loads) != 2 || len(h.loads[1]) != 3 || h.top != 1 {
			t.Errorf("loads %q, %d at a time", h.loads, h.top)
		}
		time.Sleep(time.Second)
		w.put("s", "last")
		w.flush("s")
		synctest.Wait()
		if n := h.noted("loaded"); n != 1 {
			t.Errorf("the ledger remembers %d parts after the next load, want its own", n)
		}
		got := gather(t, w.m, "s")
		if got["load_objects_total{outcome=loaded}"] != 5 || got["load_seconds"] != 3 || got["loaded_rows_total"] != 6 || got["staged_objects"] != 0 || got["delivery_attempts_total{outcome=stored,sink=redshift}"] != 5 {
			t.Errorf("metrics %v", got)
		}
	})
}

// Every operation can fail before it has an effect, after it, or have it when the next one waits already. However it
// goes, in this process or over a restart, rows are there once.
func TestFaultsOfLoads(t *testing.T) {
	for _, when := range []string{"before", "after", "late"} {
		for _, class := range []sinks.Class{sinks.Unknown, sinks.NotStored, sinks.RefusedDestination, sinks.Foreign} {
			if when != "before" && class != sinks.Unknown {
				continue // a definite answer has no effect behind it
			}
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v %s, restart %v", class, when, restart), func(t *testing.T) {
					atWarehouse(t, time.Hour, func(t *testing.T, w *world, h *warehouse) {
						tries := 0
						h.set(func(string, []sinks.Part) loadFault {
							if tries++; tries <= 3 {
								return loadFault{refusal(class, "Redshift.X"), when}
							}
							return loadFault{}
						})
						w.put("s", "a", "b")
						time.Sleep(1500 * time.Millisecond)
						if restart {
							w.restart()
						}
						w.flush("s")
						w.balanced("s", 2)
						equal(t, "table", h.rows(), map[string]int{"a": 1, "b": 1})
						if st := w.status("s"); st.Delivered != 2 {
							t.Errorf("status %+v", st)
						}
					})
				})
			}
		}
	}
}

// Nothing is given up while the database does not answer, however long that is, and the bucket goes on taking objects.
func TestDatabaseIsDown(t *testing.T) {
	atWarehouse(t, 0, func(t *testing.T, w *world, h *warehouse) {
		tries := 0
		h.set(func(string, []sinks.Part) loadFault {
			tries++
			return loadFault{refusal(sinks.NotStored, "Redshift.ConnectionFailed"), "before"}
		})
		for i := range 20 {
			w.put("s", fmt.Sprint(i))
			time.Sleep(2 * time.Second)
		}
		time.Sleep(48 * time.Hour)
		if st := w.status("s"); st.Failed != 0 || st.BacklogRecords != 20 || len(w.shop().keys()) != 20 {
			t.Errorf("status %+v, %d objects staged", st, len(w.shop().keys()))
		}
		if tries > 48*60*2+200 {
			t.Errorf("%d attempts in two days", tries)
		}
		if got := gather(t, w.m, "s"); got["destination_failing{sink=redshift}"] != 1 || got["staged_objects"] != 20 {
			t.Errorf("metrics %v", got)
		}
		h.set(nil)
		time.Sleep(10 * time.Minute)
		w.balanced("s", 20)
		if n := len(h.rows()); n != 20 || len(h.loads) != 1 {
			t.Errorf("%d rows are there, by %d loads; want one for the whole backlog", n, len(h.loads))
		}
	})
}

// An object for which the database fails in a way that says nothing about objects holds up nothing for long: it is found by
// loading less and less, and waits by itself. It is not given up.
func TestOneObjectBreaksTheDatabase(t *testing.T) {
	for _, class := range []sinks.Class{sinks.NotStored, sinks.Unknown} {
		t.Run(class.String(), func(t *testing.T) {
			atWarehouse(t, 0, func(t *testing.T, w *world, h *warehouse) {
				first := ""
				h.set(func(op string, parts []sinks.Part) loadFault {
					for _, p := range parts {
						if first == "" {
							first = p.ID
						}
						if p.ID == first {
							return loadFault{refusal(class, "Redshift.InternalError"), "before"}
						}
					}
					return loadFault{}
				})
				for i := range 20 {
					w.put("s", fmt.Sprint(i))
					time.Sleep(2 * time.Second)
				}
				time.Sleep(30 * time.Minute)
				if rows := h.rows(); len(rows) != 19 {
					t.Errorf("%d rows are there, want all but that of the first object", len(rows))
				}
				w.put("s", "later")
				time.Sleep(5 * time.Minute)
				if st, rows := w.status("s"), h.rows(); rows["later"] != 1 || st.Failed != 0 || st.BacklogRecords != 1 {
					t.Errorf("%d rows are there, %d records failed, %d wait", len(rows), st.Failed, st.BacklogRecords)
				}
				h.set(nil)
				w.flush("s")
				w.balanced("s", 21)
			})
		})
	}
}

// An object that cannot be loaded holds up nothing. It is given up when its time is over, not before, and a manifest
// names it.
func TestGivenUpLoad(t *testing.T) {
	for _, c := range []struct {
		name    string
		after   time.Duration
		until   time.Duration // still there
		gone    time.Duration // not any more
		forever bool
	}{
		{"at once", 0, 0, 10 * time.Second, false},
		{"after an hour", time.Hour, 59 * time.Minute, 61 * time.Minute, false},
		{"never", -1, 300 * time.Hour, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			atWarehouse(t, c.after, func(t *testing.T, w *world, h *warehouse) {
				w.put("s", "poison", "b")
				time.Sleep(2 * time.Second)
				w.put("s", "c")
				time.Sleep(c.until)
				if st := w.status("s"); c.until > 0 && (st.Failed != 0 || st.BacklogRecords != 2 || st.Delivered != 1) {
					t.Fatalf("before its time: %+v", st)
				}
				if c.forever {
					return
				}
				time.Sleep(c.gone - c.until)
				w.balanced("s", 3)
				if st := w.status("s"); st.Failed != 2 || st.Delivered != 1 {
					t.Errorf("status %+v", st)
				}
				equal(t, "table", h.rows(), map[string]int{"c": 1})
				keys := w.shops["errors"].keys()
				if len(keys) != 1 || !strings.HasPrefix(keys[0], "manifests/s-2000-") {
					t.Fatalf("the error output has %q", keys)
				}
				if body := string(w.shops["errors"].objects[keys[0]].body); !slices.Contains(w.shop().keys(), strings.TrimSpace(body)) {
					t.Errorf("the manifest is %q", body)
				}
				meta := w.shops["errors"].objects[keys[0]].meta
				if meta["error-code"] != "Redshift.DataLoadFailed" || !strings.HasSuffix(meta["error-message"], "a row cannot be loaded") {
					t.Errorf("the manifest's metadata is %v", meta)
				}
				if n, err := strconv.Atoi(meta["attempts"]); err != nil || (n == 1) != (c.after == 0) || n < 1 || n > 40 {
					t.Errorf("it was tried %q times", meta["attempts"])
				}
				got := gather(t, w.m, "s")
				if got["load_objects_total{outcome=skipped}"] != 1 || got["failed_records_total{code=Redshift.DataLoadFailed,stage=load-failed}"] != 2 {
					t.Errorf("metrics %v", got)
				}
				if h.noted("skipped") != 1 {
					t.Error("the ledger does not know of it")
				}
			})
		})
	}
}

// Whoever gives up believes the database: a part that is in the table is delivered, and without an answer nothing is
// decided.
func TestSkipIsBelieved(t *testing.T) {
	t.Run("taken", func(t *testing.T) {
		atWarehouse(t, 0, func(t *testing.T, w *world, h *warehouse) {
			first := true
			h.set(func(op string, _ []sinks.Part) loadFault {
				if op == "finish" && first {
					first = false
					return loadFault{refusal(sinks.RefusedObject, "Redshift.DataLoadFailed"), "after"}
				}
				return loadFault{}
			})
			w.put("s", "a")
			w.flush("s")
			w.balanced("s", 1)
			if st := w.status("s"); st.Delivered != 1 || st.Failed != 0 {
				t.Errorf("status %+v", st)
			}
		})
	})
	t.Run("no answer", func(t *testing.T) {
		atWarehouse(t, 0, func(t *testing.T, w *world, h *warehouse) {
			h.set(func(op string, _ []sinks.Part) loadFault {
				if op == "skip" {
					return loadFault{refusal(sinks.Unknown, ""), "before"}
				}
				return loadFault{}
			})
			w.put("s", "poison")
			time.Sleep(10 * time.Hour)
			if st := w.status("s"); st.Failed != 0 || st.BacklogRecords != 1 {
				t.Errorf("status %+v", st)
			}
			h.set(nil)
			time.Sleep(10 * time.Minute)
			w.balanced("s", 1)
		})
	})
	t.Run("skipped and killed", func(t *testing.T) {
		atWarehouse(t, -1, func(t *testing.T, w *world, h *warehouse) {
			h.set(func(op string, parts []sinks.Part) loadFault { return loadFault{refusal(sinks.Unknown, ""), "before"} })
			w.put("s", "a")
			time.Sleep(2 * time.Second)
			h.mu.Lock()
			for id := range h.known {
				h.ledger[id] = "skipped" // by a process that came no further
			}
			h.mu.Unlock()
			h.set(nil)
			w.restart()
			w.flush("s")
			w.balanced("s", 1)
			if st := w.status("s"); st.Failed != 1 {
				t.Errorf("status %+v", st)
			}
		})
	})
}

// Staged objects that somebody has removed are stored again.
func TestStagedObjectIsGone(t *testing.T) {
	atWarehouse(t, time.Hour, func(t *testing.T, w *world, h *warehouse) {
		first := true
		h.set(func(string, []sinks.Part) loadFault {
			if first {
				first = false
				w.shop().mu.Lock()
				clear(w.shop().objects)
				w.shop().mu.Unlock()
			}
			return loadFault{}
		})
		w.put("s", "a")
		w.flush("s")
		w.balanced("s", 1)
		equal(t, "table", h.rows(), map[string]int{"a": 1})
	})
}

// A paused stream begins no load and lets one that is under way end; a stop leaves it to the next process; a batch can be
// diverted while it is loaded, and is then in one place.
func TestSteerLoads(t *testing.T) {
	t.Run("deleted", func(t *testing.T) {
		atWarehouse(t, time.Hour, func(t *testing.T, w *world, h *warehouse) {
			w.put("s", "a")
			w.apply(nil)
			time.Sleep(10 * time.Second)
			equal(t, "table", h.rows(), map[string]int{"a": 1})
			if n := h.noted("loaded"); n != 0 || w.m.lookup("s") != nil {
				t.Errorf("the stream is gone and the ledger remembers %d parts", n)
			}
		})
	})
	t.Run("pause", func(t *testing.T) {
		atWarehouse(t, time.Hour, func(t *testing.T, w *world, h *warehouse) {
			h.took = 5 * time.Second
			w.put("s", "a")
			time.Sleep(3 * time.Second)
			w.put("s", "b")
			time.Sleep(2 * time.Second)
			if err := w.m.Pause("s"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			equal(t, "table", h.rows(), map[string]int{"a": 1})
			if err := w.m.Resume("s"); err != nil {
				t.Fatal(err)
			}
			w.flush("s")
			equal(t, "table", h.rows(), map[string]int{"a": 1, "b": 1})
			w.balanced("s", 2)
		})
	})
	for _, force := range []bool{false, true} {
		t.Run(fmt.Sprint("divert ", force), func(t *testing.T) {
			atWarehouse(t, time.Hour, func(t *testing.T, w *world, h *warehouse) {
				h.set(func(string, []sinks.Part) loadFault {
					return loadFault{refusal(sinks.NotStored, "Redshift.ConnectionFailed"), "before"}
				})
				w.put("s", "a", "b")
				time.Sleep(10 * time.Second)
				list, _ := w.m.Batches("s")
				got, err := w.m.Divert(t.Context(), "s", list[0].Manifest, DivertTo{Force: force})
				if err != nil {
					t.Fatal(err)
				}
				if !force {
					if len(got.Doubtful) != 1 {
						t.Fatalf("without an answer: %+v", got)
					}
					h.set(nil)
					if got, err = w.m.Divert(t.Context(), "s", list[0].Manifest, DivertTo{}); err != nil {
						t.Fatal(err)
					}
				}
				if got.Objects+got.Found != 1 {
					t.Errorf("diverted %+v", got)
				}
				h.set(nil)
				w.flush("s")
				w.balanced("s", 2)
				data, _ := w.shops["errors"].rows()
				if rows := h.rows(); rows["a"]+data["a"] != 1 || rows["b"]+data["b"] != 1 {
					t.Errorf("table %v, error output %v", rows, data)
				}
			})
		})
	}
	t.Run("divert while it is loaded", func(t *testing.T) {
		atWarehouse(t, time.Hour, func(t *testing.T, w *world, h *warehouse) {
			h.took = 5 * time.Second
			w.put("s", "a")
			time.Sleep(2 * time.Second)
			list, _ := w.m.Batches("s")
			got, err := w.m.Divert(t.Context(), "s", list[0].Manifest, DivertTo{})
			if err != nil || got.Found != 1 {
				t.Errorf("diverted %+v, %v", got, err)
			}
			w.flush("s")
			w.balanced("s", 1)
			equal(t, "table", h.rows(), map[string]int{"a": 1})
			if keys := w.shops["errors"].keys(); len(keys) != 0 {
				t.Errorf("the error output has %q", keys)
			}
		})
	})
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprint("deleted by force, silent ", silent), func(t *testing.T) {
			atWarehouse(t, time.Hour, func(t *testing.T, w *world, h *warehouse) {
				w.put("s", "a")
				h.set(func(op string, _ []sinks.Part) loadFault {
					if op == "finish" {
						return loadFault{refusal(sinks.Unknown, ""), "late"}
					}
					if silent {
						return loadFault{refusal(sinks.Unknown, ""), "before"}
					}
					return loadFault{}
				})
				time.Sleep(1200 * time.Millisecond)
				s := w.m.lookup("s")
				if _, err := w.m.Change("s", func(now *buffer.Stream) (buffer.Stream, error) {
					def := *now
					def.State = buffer.Discarding
					return def, nil
				}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if w.m.lookup("s") != nil {
					t.Errorf("the stream is still there: %+v", s.status())
				}
				delivered := int64(1)
				if silent {
					delivered = 0
				}
				if s.delivered != delivered {
					t.Errorf("%d delivered, want %d", s.delivered, delivered)
				}
			})
		})
	}
}

// What was corrected counts for what waits already, as long as objects look the same; else they finish as they were made.
func TestCorrectedDatabase(t *testing.T) {
	for _, c := range []struct {
		name   string
		change spec
		by     string
	}{
		{"same layout", spec{Interval: 2 * time.Second}, "new"},
		{"other layout", spec{Interval: time.Second, FileExt: ".x"}, "old"},
		{"other ledger", spec{Interval: time.Second, Place: "elsewhere"}, "old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, backends[0])
				h := w.warehouse(time.Hour)
				inner := w.adapt
				var mu sync.Mutex
				var by []string
				w.adapt = func(p *Pipeline, s buffer.Stream) {
					inner(p, s)
					name := "old"
					if s.Version > 1 {
						name = "new"
					}
					p.Destination.Sink = &tellingSink{loadedSink{h}, func() { mu.Lock(); by = append(by, name); mu.Unlock() }}
				}
				w.start()
				w.apply(map[string]spec{"s": {Interval: time.Second}})
				w.run()
				defer w.close()
				h.set(func(string, []sinks.Part) loadFault {
					return loadFault{refusal(sinks.RefusedDestination, "Redshift.TableNotFound"), "before"}
				})
				w.put("s", "a")
				time.Sleep(3 * time.Second)
				w.apply(map[string]spec{"s": c.change})
				time.Sleep(time.Second)
				mu.Lock()
				by = nil
				mu.Unlock()
				h.set(nil)
				w.flush("s")
				w.balanced("s", 1)
				equal(t, "loaded by", by[len(by)-1], c.by)
				equal(t, "table", h.rows(), map[string]int{"a": 1})
			})
		})
	}
}

type tellingSink struct {
	loadedSink
	tell func()
}

func (s *tellingSink) Finish(ctx context.Context, parts []sinks.Part) []error {
	s.tell()
	return s.loadedSink.Finish(ctx, parts)
}

// A stream that is loaded into a database lives a random life: every acknowledged record is in the table once, or in the
// error output, or named by a manifest there.
func TestCrashesOfLoads(t *testing.T) {
	for _, b := range backends[:2] {
		t.Run(b.name, func(t *testing.T) {
			n := uint64(80)
			if b.name != "model" {
				n = 25
			}
			for seed := uint64(1); seed <= n && !t.Failed(); seed++ {
				synctest.Test(t, func(t *testing.T) { liveLoads(t, b, seed) })
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}
		})
	}
}

func liveLoads(t *testing.T, b backend, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 11))
	l := &life{world: newWorld(t, b), r: r, acked: map[string]bool{}, maybe: map[string]bool{}}
	defer l.close()
	h := l.warehouse(10 * time.Second)
	h.took = time.Duration(r.IntN(3)) * 300 * time.Millisecond
	l.streams = map[string]spec{
		"a": {Size: 60, Interval: 2 * time.Second},
		"b": {Size: 1000, Interval: 20 * time.Second},
	}
	l.counts = func() (data, failed map[string]int) {
		data = h.rows()
		other, failed := l.shops["errors"].rows()
		for row, n := range other {
			o, named := l.shop().objects[row]
			if !named {
				data[row] += n // an object as it was, diverted
				continue
			}
			for line := range strings.Lines(string(o.body)) { // named by a manifest
				data[strings.TrimSuffix(line, "\n")] += n
			}
		}
		return data, failed
	}
	dice := rand.New(rand.NewPCG(seed, 12))
	faulty := l.faults(rand.New(rand.NewPCG(seed, 13)))
	l.shop().set(faulty)
	var mu sync.Mutex
	h.set(func(op string, parts []sinks.Part) loadFault {
		mu.Lock()
		defer mu.Unlock()
		l.shop().mu.Lock()
		calm := l.shop().fault == nil
		l.shop().mu.Unlock()
		if calm {
			return loadFault{}
		}
		switch n := dice.IntN(20); {
		case n < 3:
			return loadFault{refusal(sinks.Unknown, ""), "before"}
		case n < 6:
			return loadFault{refusal(sinks.Unknown, ""), "after"}
		case n < 8:
			return loadFault{refusal(sinks.Unknown, ""), "late"}
		case n < 9:
			return loadFault{refusal(sinks.NotStored, "Redshift.InternalError"), "before"}
		case n < 10:
			return loadFault{refusal(sinks.RefusedDestination, "Redshift.TableNotFound"), "before"}
		}
		return loadFault{}
	})
	l.lead()
	if h.top > 2 { // one of each stream
		t.Errorf("%d loads at a time", h.top)
	}
}
