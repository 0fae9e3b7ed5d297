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

	"hydrant/record"
	"hydrant/sinks"
)

// toShop makes every directory that shop.
func (w *world) toShop(name string) {
	w.shops[name] = w.newShop()
	w.directory = func(path string) (sinks.Sink, error) {
		if path != "/exit" {
			w.t.Errorf("directory %q is opened", path)
		}
		return w.shops[name], nil
	}
}

// stuck starts again with a directory, and returns the only batch, whose destination answers so.
func (w *world) stuck(err error, stored bool) BatchDetail {
	w.t.Helper()
	w.toShop("exit")
	w.restart()
	w.shop().set(func(o sinks.Object, _ int) *fault { return &fault{err: err, stored: stored} })
	w.put("s", "a", "b")
	_, _ = w.m.Flush(within(time.Second), "s")
	list, e := w.m.Batches("s")
	if e != nil || len(list) != 1 {
		w.t.Fatalf("batches %+v, %v", list, e)
	}
	return list[0]
}

// What is diverted goes where it was ordered to, once, and to the destination never again.
func TestDivert(t *testing.T) {
	refused, unknown := refusal(sinks.NotStored, "SlowDown"), refusal(sinks.Unknown, "")
	silent := func(sinks.Object) error { return refusal(sinks.Unknown, "timeout") }
	for _, c := range []struct {
		name   string
		err    error
		stored bool // by the first attempt
		verify func(sinks.Object) error
		to     DivertTo
		want   Diverted
		shop   string // prefix of the only key there, "": none
		exit   bool   // the directory has it
	}{
		{name: "to a directory", err: refused, to: DivertTo{Directory: "/exit"}, want: Diverted{Objects: 1, Records: 2}, exit: true},
		{name: "to the error output", err: refused, want: Diverted{Objects: 1, Records: 2}, shop: "errors/delivery-failed/"},
		{name: "answer lost, stored", err: unknown, stored: true, to: DivertTo{Directory: "/exit"}, want: Diverted{Found: 1}, shop: "2000/"},
		{name: "answer lost, not stored", err: unknown, to: DivertTo{Directory: "/exit"}, want: Diverted{Objects: 1, Records: 2}, exit: true},
		{name: "nothing said", err: unknown, verify: silent, to: DivertTo{Directory: "/exit"}, want: Diverted{Doubtful: []string{"key"}}},
		{name: "nothing said, forced", err: unknown, verify: silent, to: DivertTo{Directory: "/exit", Force: true}, want: Diverted{Objects: 1, Records: 2}, exit: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, map[string]spec{"s": {}}, func(t *testing.T, w *world) {
				b := w.stuck(c.err, c.stored)
				if b.Records != 2 || b.Objects != 1 || b.Pending != 1 || b.Attempts == 0 || b.Error == "" || b.Oldest == nil || !b.Oldest.Equal(epoch2000) ||
					len(b.Left) != 1 || b.Left[0].Role != "data" || b.Left[0].Place != "s3" || b.Left[0].Records != 2 {
					t.Errorf("batch %+v", b)
				}
				w.shop().mu.Lock()
				w.shop().verify = c.verify
				w.shop().mu.Unlock()
				got, err := w.m.Divert(t.Context(), "s", b.Manifest, c.to)
				if len(c.want.Doubtful) > 0 {
					c.want.Doubtful = []string{b.Left[0].Key}
				}
				if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
					t.Errorf("Divert: %+v, %v, want %+v", got, err, c.want)
				}
				w.shop().set(nil)
				w.restart()
				if len(c.want.Doubtful) > 0 {
					w.shop().mu.Lock()
					w.shop().verify = nil
					w.shop().mu.Unlock()
					c.shop = "2000/"
				}
				w.flush("s")
				w.balanced("s", 2)
				keys := w.shop().keys()
				if c.shop == "" && len(keys) != 0 || c.shop != "" && (len(keys) != 1 || !strings.HasPrefix(keys[0], c.shop)) {
					t.Errorf("the destination has %q, want one under %q", keys, c.shop)
				}
				out := w.shops["exit"].keys()
				if c.exit != (len(out) == 1 && out[0] == b.Left[0].Key) || !c.exit && len(out) != 0 {
					t.Errorf("the directory has %q", out)
				}
				st := w.status("s")
				if want := int64(2 * c.want.Objects); st.Failed != want || st.Delivered != 2-want {
					t.Errorf("status %+v", st)
				}
			})
		})
	}
}

// An attempt that is under way is cut off and waited for: whoever diverts does not race with it.
func TestDivertInFlight(t *testing.T) {
	inWorld(t, map[string]spec{"s": {}}, func(t *testing.T, w *world) {
		w.toShop("exit")
		w.restart()
		w.shop().gate = make(chan struct{}) // never opened
		w.put("s", "a")
		_, _ = w.m.Flush(within(time.Second), "s")
		list, err := w.m.Batches("s")
		if err != nil || len(list) != 1 {
			t.Fatalf("batches %+v, %v", list, err)
		}
		if err := w.m.Pause("s"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		got, err := w.m.Divert(t.Context(), "s", list[0].Manifest, DivertTo{Directory: "/exit"})
		if err != nil || got.Objects != 1 {
			t.Errorf("Divert: %+v, %v", got, err)
		}
		if d := time.Since(began); d < lingering || d > lingering+time.Second {
			t.Errorf("diverted after %v, when a request may still arrive within %v", d, lingering)
		}
		synctest.Wait()
		for w.status("s").BacklogRecords > 0 { // paused is the destination, not the exit
			time.Sleep(time.Second)
		}
		equal(t, "objects in the directory", len(w.shops["exit"].keys()), 1)
		equal(t, "objects in the destination", len(w.shop().keys()), 0)
		if _, err := w.m.Divert(t.Context(), "s", list[0].Manifest, DivertTo{}); !errors.Is(err, ErrNoBatch) {
			t.Errorf("diverted again: %v", err)
		}
	})
}

// An order that cannot be carried out changes nothing.
func TestOrdersRefused(t *testing.T) {
	inWorld(t, map[string]spec{"s": {}}, func(t *testing.T, w *world) {
		b := w.stuck(refusal(sinks.NotStored, "SlowDown"), false)
		ctx := t.Context()
		var missing *record.NotFound
		if _, err := w.m.Divert(ctx, "x", b.Manifest, DivertTo{}); !errors.As(err, &missing) {
			t.Errorf("no stream: %v", err)
		}
		for _, id := range []string{"", "x", b.Manifest[:30], b.Manifest + "00", strings.Repeat("0", 32)} {
			if _, err := w.m.Divert(ctx, "s", id, DivertTo{}); !errors.Is(err, ErrNoBatch) {
				t.Errorf("batch %q: %v", id, err)
			}
			if err := w.m.RetryBatch("s", id); !errors.Is(err, ErrNoBatch) {
				t.Errorf("batch %q is retried: %v", id, err)
			}
		}
		if _, err := w.m.Divert(ctx, "s", b.Manifest, DivertTo{Directory: "/" + strings.Repeat("x", maxDirectory)}); err == nil {
			t.Error("a path that is too long is taken")
		}
		// Into the error output, which the destination does not take either; from there only to a directory.
		if _, err := w.m.Divert(ctx, "s", b.Manifest, DivertTo{}); err != nil {
			t.Fatal(err)
		}
		list, _ := w.m.Batches("s")
		if len(list) != 1 || list[0].Left[0].Role != "error" {
			t.Fatalf("batches %+v", list)
		}
		if got, err := w.m.Divert(ctx, "s", list[0].Manifest, DivertTo{}); !errors.Is(err, ErrErrorObject) || got.Objects != 0 {
			t.Errorf("diverted from the error output into it: %+v, %v", got, err)
		}
		if got, err := w.m.Divert(ctx, "s", list[0].Manifest, DivertTo{Directory: "/exit"}); err != nil || got.Objects != 1 {
			t.Errorf("Divert: %+v, %v", got, err)
		}
		w.flush("s")
		w.balanced("s", 2)
		equal(t, "objects in the directory", len(w.shops["exit"].keys()), 1)
	})
}

// A retry makes what waits for its time due now.
func TestRetryBatch(t *testing.T) {
	inWorld(t, map[string]spec{"s": {}}, func(t *testing.T, w *world) {
		b := w.stuck(&sinks.Error{Class: sinks.NotStored, After: 20 * time.Minute, Err: errors.New("busy")}, false)
		w.shop().set(nil)
		began := time.Now()
		if err := w.m.Pause("s"); err != nil {
			t.Fatal(err)
		}
		if err := w.m.RetryBatch("s", b.Manifest); !errors.Is(err, ErrPaused) {
			t.Errorf("retried while paused: %v", err)
		}
		if err := w.m.Resume("s"); err != nil {
			t.Fatal(err)
		}
		if err := w.m.RetryBatch("s", b.Manifest); err != nil {
			t.Fatal(err)
		}
		for w.status("s").BacklogRecords > 0 {
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(began); d > time.Minute {
			t.Errorf("stored %v after the order", d)
		}
	})
}

// The power goes at any operation of a diversion's decision: afterwards the records are in the destination or in the
// directory, and where the order was answered, in the directory.
func TestDivertCrashes(t *testing.T) {
	answered, kept := 0, 0
	for at := int64(1); at < 40; at++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, backends[1])
			w.start()
			w.apply(map[string]spec{"s": {}})
			w.run()
			defer w.close()
			b := w.stuck(refusal(sinks.NotStored, "SlowDown"), false)
			disk := w.backing.(*bufferBacking)
			disk.fs.CrashAt(disk.fs.Ops() + at)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			order := make(chan bool, 1)
			m := w.m
			go func() {
				got, err := m.Divert(ctx, "s", b.Manifest, DivertTo{Directory: "/exit"})
				order <- err == nil && got.Objects == 1
			}()
			time.Sleep(time.Second)
			disk.fs.Kill()
			w.stop()
			ok := <-order
			w.backing.crash(rand.New(rand.NewPCG(uint64(at), 7)))
			w.store = w.backing.store()
			w.start()
			w.run()
			w.shop().set(nil)
			w.flush("s")
			w.balanced("s", 2)
			there, out := len(w.shop().keys()), len(w.shops["exit"].keys())
			if there+out != 1 || ok && out != 1 {
				t.Errorf("power lost at operation %d, order answered %v: %d objects in the destination, %d in the directory", at, ok, there, out)
			}
			if ok {
				answered++
			}
			kept += there
		})
		if t.Failed() {
			return
		}
	}
	if answered == 0 || kept == 0 {
		t.Errorf("%d orders answered, %d objects kept by the destination: the power goes at the wrong time", answered, kept)
	}
}
