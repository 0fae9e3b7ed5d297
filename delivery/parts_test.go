package delivery

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"hydrant/buffer"
	"hydrant/record"
	"hydrant/transform/hook"
)

// Records whose parts end at once, later, by turns, or not at all.
func TestParts(t *testing.T) {
	var p parts
	check := func(what string, dropped int64, open int) {
		t.Helper()
		if p.dropped != dropped || len(p.open) != open {
			t.Errorf("%s: %d dropped, %d open, want %d and %d", what, p.dropped, len(p.open), dropped, open)
		}
	}
	p.begin(1) // one part, delivered at once
	if !p.count(1) {
		t.Error("record 1 does not count with its part")
	}
	p.leave()
	check("delivered", 0, 0)
	p.begin(2) // nothing is left of it
	p.leave()
	check("dropped", 1, 0)
	p.begin(3) // two parts are with a function, one of which ends before the record is left
	p.add(3)
	p.add(3)
	p.end(3)
	p.leave()
	check("one of two parts", 1, 1)
	p.begin(4) // one part has failed while another is with the function
	p.add(4)
	if !p.count(4) || p.count(4) {
		t.Error("record 4 counts with another part than the first that ends")
	}
	p.leave()
	check("two records are open", 1, 2)
	if p.count(4) {
		t.Error("record 4 counts twice")
	}
	p.end(4)
	check("record 4 has ended", 1, 1)
	p.add(3) // what the function made of it is taken apart
	p.end(3)
	if !p.count(3) {
		t.Error("record 3 does not count")
	}
	p.end(3)
	check("all", 1, 0)
}

// However parts of records come and end, each record counts once: with a part, or as dropped.
func TestPartsCountOnce(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var p parts
		var flying []uint64
		counted := map[uint64]int{}
		kept := map[uint64]bool{}
		land := func() {
			i := r.IntN(len(flying))
			seq := flying[i]
			flying = append(flying[:i], flying[i+1:]...)
			switch r.IntN(4) {
			case 0: // taken apart again
				p.add(seq)
				flying = append(flying, seq)
			case 1: // dropped
			default:
				kept[seq] = true
				if p.count(seq) {
					counted[seq]++
				}
			}
			p.end(seq)
		}
		const n = 50
		for seq := uint64(1); seq <= n; seq++ {
			p.begin(seq)
			for range r.IntN(4) {
				switch r.IntN(3) {
				case 0:
					kept[seq] = true
					if p.count(seq) {
						counted[seq]++
					}
				case 1:
					p.add(seq)
					flying = append(flying, seq)
				}
				if len(flying) > 0 && r.IntN(2) == 0 {
					land()
				}
			}
			p.leave()
		}
		for len(flying) > 0 {
			land()
		}
		for seq := range kept {
			if counted[seq] != 1 {
				t.Errorf("seed %d: record %d counts %d times", seed, seq, counted[seq])
			}
		}
		if p.dropped != int64(n-len(kept)) || len(p.open) != 0 {
			t.Errorf("seed %d: %d dropped, want %d; %d open", seed, p.dropped, n-len(kept), len(p.open))
		}
	}
}

func TestEvenly(t *testing.T) {
	for _, c := range []struct{ size, limit, want int64 }{
		{100, 0, 0}, {0, 100, 1}, {100, 100, 100}, {125, 100, 125}, {126, 100, 63}, {250, 100, 125}, {251, 100, 84}, {1000, 100, 125},
	} {
		if got := evenly(c.size, c.limit); got != c.want {
			t.Errorf("evenly(%d, %d) = %d, want %d", c.size, c.limit, got, c.want)
		}
	}
}

// Keys of runs can be read back, and what nobody wrote is an error.
func TestRunKeys(t *testing.T) {
	for _, c := range []struct{ key, want string }{
		{string(appendDataKey(nil, "dt=1/")), "1  dt=1/"},
		{string(appendErrorKey(nil, "processing-failed", "errors/x/")), "2 processing-failed errors/x/"},
		{string(appendDataKey(nil, "")), "1  "},
		{"", "error"}, {"\x03x", "error"}, {"\x02no end", "error"},
	} {
		role, kind, route, err := parseKey([]byte(c.key))
		got := fmt.Sprintf("%d %s %s", role, kind, route)
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("%q is %q, want %q", c.key, got, c.want)
		}
	}
}

// What functions do is counted: calls by outcome, failures by code, results once they are durable.
func TestHookMetrics(t *testing.T) {
	f := &function{decide: byPrefix, before: nil}
	hookWorld(t, map[string]spec{"s": {Hook: "f"}}, map[string]*function{"f": f}, func(t *testing.T, w *world) {
		first := true
		w.functions["f"].answer = func(_ []string, answer []byte) []byte {
			if first {
				first = false
				return []byte("nonsense") // final: the records of the batch have failed
			}
			return answer
		}
		w.put("s", "a", "b")
		w.flush("s")
		w.put("s", "c", "hdrop", "hfail")
		w.flush("s")
		h := w.m.metrics.hooks
		for _, c := range []struct {
			name string
			got  float64
			want float64
		}{
			{"answered", testutil.ToFloat64(h.invocations.WithLabelValues("s", hookAnswered)), 1},
			{"failed", testutil.ToFloat64(h.invocations.WithLabelValues("s", hookFailed)), 1},
			{"code", testutil.ToFloat64(h.failures.WithLabelValues("s", hook.CodeJSONProcessing)), 1},
			{"Ok", testutil.ToFloat64(h.records.WithLabelValues("s", "Ok")), 1},
			{"Dropped", testutil.ToFloat64(h.records.WithLabelValues("s", "Dropped")), 1},
			{"ProcessingFailed", testutil.ToFloat64(h.records.WithLabelValues("s", "ProcessingFailed")), 3},
		} {
			if c.got != c.want {
				t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
			}
		}
		if testutil.ToFloat64(h.requests.WithLabelValues("s")) == 0 || testutil.ToFloat64(h.answers.WithLabelValues("s")) == 0 {
			t.Error("bytes are not counted")
		}
	})
}

// A plan shows what functions make of records, in the objects that they would go to.
func TestPlanWithFunctions(t *testing.T) {
	w := &world{t: t, shops: map[string]*shop{"": newShop(t)}, functions: map[string]*function{"f": {decide: byPrefix}}}
	pipe, err := w.open(buffer.Stream{Name: "s", Spec: spec{Hook: "f", Scatter: true, Prefix: "x/!{timestamp:yyyy}/"}.bytes()})
	if err != nil {
		t.Fatal(err)
	}
	var rows []record.Row
	for i, data := range []string{"a1", "hdrop", "b2", "hfail", "a3", "bad", "lost"} {
		rows = append(rows, record.Row{Seq: uint64(i + 1), Arrived: time.Date(2026, 11, 25, 14, 30, 0, 0, time.UTC).UnixMicro(), Data: []byte(data)})
	}
	plan, err := MakePlan(t.Context(), "s", 3, pipe, rows)
	if err != nil {
		t.Fatal(err)
	}
	var objects []string
	for _, o := range plan.Objects {
		objects = append(objects, fmt.Sprintf("%s… %v %d", o.Key[:len(o.Key)-36], o.Error, o.Records))
	}
	slices.Sort(objects)
	equal(t, "objects", objects, []string{
		"errors/format-conversion-failed/s-3-2026-11-25-14-30-00-… true 1",
		"errors/metadata-extraction-failed/s-3-2026-11-25-14-30-00-… true 1",
		"errors/processing-failed/s-3-2026-11-25-14-30-00-… true 1",
		"x/2026/p=a/s-3-2026-11-25-14-30-00-… false 2",
		"x/2026/p=b/s-3-2026-11-25-14-30-00-… false 1",
	})
	if plan.Delivered != 3 || plan.Dropped != 1 || plan.Failed != 3 || len(plan.Refused) != 3 {
		t.Errorf("%+v", plan)
	}
}
