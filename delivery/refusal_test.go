package delivery

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"hydrant/buffer"
	"hydrant/sinks"
)

func TestHeaderText(t *testing.T) {
	long := strings.Repeat("a", 30) + strings.Repeat("z", 30)
	for _, c := range []struct {
		in   string
		most int
		want string
	}{
		{"", 9, ""},
		{"plain ~", 9, "plain ~"},
		{" a\n\tb  c \r\n", 9, "a b c"},
		{"a\x00b\x7f", 9, "a?b?"},
		{"é😀\xff", 99, `\u{e9}\u{1f600}\u{fffd}`},
		{"123456789", 9, "123456789"},
		{long, 60, long},
		{long, 59, strings.Repeat("a", 18) + " ... " + strings.Repeat("a", 6) + strings.Repeat("z", 30)},
		{long, 20, "aaaaa ... zzzzzzzzzz"},
		{"aaaa " + long, 20, "aaaa ... zzzzzzzzzz"},
	} {
		got := headerText(c.in, c.most)
		if got != c.want || len(got) > c.most {
			t.Errorf("%q in %d bytes is %q, want %q", c.in, c.most, got, c.want)
		}
	}
}

func TestRefusalOf(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for _, c := range []struct {
		err  error
		want buffer.Refusal
	}{
		{errors.New("cause"), buffer.Refusal{Code: "Hydrant.LoadFailed", Message: "cause", Attempts: 2}},
		{fmt.Errorf("load: %w", &sinks.Error{Err: errors.New("cause")}), buffer.Refusal{Code: "Hydrant.LoadFailed", Message: "load: cause", Attempts: 2}},
		{fmt.Errorf("load: %w", &sinks.Error{Code: "C", Message: "said", Err: errors.New("cause")}), buffer.Refusal{Code: "C", Message: "said", Attempts: 2}},
	} {
		if got := refusalOf(c.err, 2); got != c.want {
			t.Errorf("%v is %+v, want %+v", c.err, got, c.want)
		}
	}
	if r := refusalOf(&sinks.Error{Code: long, Err: errors.New(long)}, 1); len(r.Code) != 128 || len(r.Message) != 1024 {
		t.Errorf("%d bytes of code and %d of message are kept", len(r.Code), len(r.Message))
	}
}

// Why an object was given up is fixed with the manifest that names it: it is sent with the same metadata by the next process.
func TestRefusalIsKept(t *testing.T) {
	atWarehouse(t, 0, func(t *testing.T, w *world, h *warehouse) {
		errs := w.shops["errors"]
		sent := map[string]map[string]string{}
		down := true
		errs.set(func(o sinks.Object, _ int) *fault {
			if old, ok := sent[o.Key]; ok && !maps.Equal(old, o.Meta) {
				t.Errorf("metadata of %q is %v and was %v", o.Key, o.Meta, old)
			}
			sent[o.Key] = maps.Clone(o.Meta)
			if down {
				return &fault{err: refusal(sinks.NotStored, "SlowDown")}
			}
			return nil
		})
		w.put("s", "poison")
		time.Sleep(10 * time.Second)
		if len(sent) != 1 || h.noted("skipped") != 1 {
			t.Fatalf("the error output was sent %v", sent)
		}
		w.restart()
		down = false
		w.flush("s")
		w.balanced("s", 1)
		if len(sent) != 1 || len(errs.keys()) != 1 {
			t.Fatalf("sent %v, kept %q", sent, errs.keys())
		}
		meta := errs.objects[errs.keys()[0]].meta
		for key, want := range map[string]string{"error-code": "Redshift.DataLoadFailed", "error-message": "a row cannot be loaded", "attempts": "1", "role": "error"} {
			if !strings.HasSuffix(meta[key], want) || meta[key] == "" {
				t.Errorf("%s is %q, want %q", key, meta[key], want)
			}
		}
		for key, o := range w.shop().objects {
			if o.meta["error-code"]+o.meta["error-message"]+o.meta["attempts"] != "" {
				t.Errorf("the staged object %q has %v", key, o.meta)
			}
		}
	})
}

// A load that was skipped before says so where nothing better is known, and else what the load said that was refused.
func TestRefusalOfSkipped(t *testing.T) {
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprintf("known %v", known), func(t *testing.T) {
			atWarehouse(t, -1, func(t *testing.T, w *world, h *warehouse) {
				class := sinks.Unknown
				if known {
					class = sinks.RefusedObject
				}
				h.set(func(string, []sinks.Part) loadFault {
					return loadFault{refusal(class, "Redshift.DataLoadFailed"), "before"}
				})
				w.put("s", "a")
				time.Sleep(2 * time.Second)
				h.mu.Lock()
				for id := range h.known {
					h.ledger[id] = "skipped"
				}
				h.mu.Unlock()
				h.set(nil)
				w.flush("s")
				w.balanced("s", 1)
				want := sinks.CodeSkipped
				if known {
					want = "Redshift.DataLoadFailed"
				}
				keys := w.shops["errors"].keys()
				if len(keys) != 1 {
					t.Fatalf("the error output has %q", keys)
				}
				if got := w.shops["errors"].objects[keys[0]].meta; got["error-code"] != want || (got["attempts"] == "0") == known {
					t.Errorf("metadata %v, want code %s", got, want)
				}
			})
		})
	}
}
