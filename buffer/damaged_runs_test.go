package buffer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hydrant/buffer/forgetfs"
)

// damagedRuns is a stopped Buffer whose disk is about to be spoiled. Of the rows 1:b0 2:a0 3:d0 4:c0 5:a1 6:b1 7:a2
// 8:c1 the first four are in run 1 of an epoch and the next three in run 2; a0 is under a manifest that is
// outstanding, b0 under one that has ended; the last row is in a raw run.
type damagedRuns struct {
	*bench
	disk  *forgetfs.FS
	s     Stream
	epoch uint64
	runs  []RunInfo
	raw   string // name of the raw run
}

func newDamagedRuns(t *testing.T) *damagedRuns {
	disk := forgetfs.New()
	x := &damagedRuns{bench: openBench(t, Options{FS: disk}), disk: disk}
	x.s = x.define("s")
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []string{"b0", "a0", "d0", "c0", "a1", "b1", "a2", "c1"} {
		x.append("s", row)
	}
	c := x.Consumer(x.s.Incarnation, Main)
	x.epoch = c.NewEpoch()
	x.spill(x.s, 10, 5)
	must(nil, x.route(x.s, x.epoch, 1, 8))
	must(x.keys(x.s, x.epoch, Source{Kind: SourceKey, Run: 1}, "a"))
	b, err := x.keys(x.s, x.epoch, Source{Kind: SourceKey, Run: 1}, "b")
	must(b, err)
	x.Confirm(b.ID, 0)
	until(t, "the manifest ends", func() bool { return len(x.Outstanding()) == 1 })
	must(nil, x.route(x.s, x.epoch, 2, 6))
	x.spill(x.s, 100, 1)
	x.runs = c.Epochs()[0].Runs
	for _, f := range disk.Files("/data/runs") {
		if !slices.ContainsFunc(x.runs, func(r RunInfo) bool { return strings.Contains(f, fmt.Sprintf("%x", r.ID[:])) }) {
			x.raw = f
		}
	}
	x.proven()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x.Buffer = nil
	return x
}

func (x *damagedRuns) path(n int) string { return fmt.Sprintf("/data/runs/%x.run", x.runs[n-1].ID[:]) }

// flip changes a byte of a file, from its end where off is negative.
func (x *damagedRuns) flip(file string, off int64) {
	x.t.Helper()
	b, err := x.disk.ReadFile(file)
	if err != nil {
		x.t.Fatal(err)
	}
	if off < 0 {
		off += int64(len(b))
	}
	if err := x.disk.Flip(file, off, 0x10); err != nil {
		x.t.Fatal(err)
	}
}

// Damage to frames of runs, and of manifests over their rows, is put right from what they name or stops the start;
// of damaged runs exactly what cannot be read is lost, and counted when it would have been decided.
func TestDamagedRuns(t *testing.T) {
	const all = "2:a0 | 5:a1 7:a2 | 6:b1 | 4:c0 8:c1"
	f := func(name string, spoil func(x *damagedRuns), want string, lost int64, kept int) {
		bubble(t, name, func(t *testing.T) {
			x := newDamagedRuns(t)
			spoil(x)
			b, err := Open(x.o)
			if want == "" {
				if _, ok := errors.AsType[*DamageError](err); !ok {
					t.Fatalf("open: %v, want a *DamageError", err)
				}
				return
			}
			if err != nil {
				t.Fatalf("open: %v", err)
			}
			x.Buffer = b
			x.balanced(x.s)
			x.restart()
			x.balanced(x.s)
			if err := x.route(x.s, x.epoch, 3, 100); err != nil {
				t.Fatal(err)
			}
			if _, err := x.keys(x.s, x.epoch, Source{Kind: SourceSweep, Run: 3, All: true}, ""); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				x.balanced(x.s)
				if got := x.objects(); got != want {
					t.Errorf("objects %q, want %q", got, want)
				}
				if got := x.Consumer(x.s.Incarnation, Main).Totals(); got.Lost != lost || got.OK != 7-lost || got.Dropped != 1 || got.Waiting != 0 {
					t.Errorf("totals %+v, want %d lost", got, lost)
				}
				if n := len(x.disk.Files("/data/quarantine")); n != kept {
					t.Errorf("%d files in quarantine, want %d", n, kept)
				}
				x.checkRuns(0)
				x.restart()
			}
		})
	}
	frame := func(kind string, n int, header bool) func(*damagedRuns) {
		return func(x *damagedRuns) { spoil(x.t.(*testing.T), x.disk, pick(x.t.(*testing.T), x.disk, kind, n), header) }
	}
	remove := func(file func(*damagedRuns) string) func(*damagedRuns) {
		return func(x *damagedRuns) {
			if err := x.disk.Remove(file(x)); err != nil {
				x.t.Fatal(err)
			}
		}
	}
	f("nothing", func(*damagedRuns) {}, all, 0, 0)
	f("RUN routed", frame("RUN", 1, false), all, 0, 1)
	f("RUN raw", frame("RUN", 3, false), all, 0, 1)
	f("RUN raw of a run that is dead", frame("RUN", 0, false), all, 0, 1)
	f("RUN raw that is missing", func(x *damagedRuns) {
		frame("RUN", 3, false)(x)
		remove(func(x *damagedRuns) string { return x.raw })(x)
	}, "2:a0 | 5:a1 7:a2 | 6:b1 | 4:c0", 1, 1)
	f("RUN routed that is missing", func(x *damagedRuns) {
		frame("RUN", 1, false)(x)
		remove(func(x *damagedRuns) string { return x.path(1) })(x)
	}, "", 0, 0)

	f("header of a RUN", frame("RUN", 1, true), "", 0, 0)
	f("MANIFEST of a key", frame("MANIFEST", 0, false), all, 0, 1)
	f("MANIFEST of a key that has ended", frame("MANIFEST", 1, false), "", 0, 0)
	raw := func(x *damagedRuns) string { return x.raw }
	f("run 1 is missing", remove(func(x *damagedRuns) string { return x.path(1) }), "2:a0 | 5:a1 7:a2 | 6:b1 | 8:c1", 1, 0)
	f("run 2 is missing", remove(func(x *damagedRuns) string { return x.path(2) }), "2:a0 | 4:c0 8:c1", 3, 0)
	f("raw run is missing", remove(raw), "2:a0 | 5:a1 7:a2 | 6:b1 | 4:c0", 1, 0)
	f("footer of run 1", func(x *damagedRuns) { x.flip(x.path(1), -100) }, "2:a0 | 5:a1 7:a2 | 6:b1 | 8:c1", 1, 1)
	f("footer of the raw run", func(x *damagedRuns) { x.flip(x.raw, -100) }, "2:a0 | 5:a1 7:a2 | 6:b1 | 4:c0", 1, 1)
	f("block of the raw run", func(x *damagedRuns) { x.flip(x.raw, packHeaderSize+20) }, "2:a0 | 5:a1 7:a2 | 6:b1 | 4:c0", 1, 1)
	bubble(t, "stop", func(t *testing.T) {
		x := newDamagedRuns(t)
		remove(raw)(x)
		x.o.OnDamage = Stop
		_, err := Open(x.o)
		if d, ok := errors.AsType[*DamageError](err); !ok || len(d.Items) != 1 || d.Items[0].File != x.raw || d.Items[0].First != 8 || d.Items[0].Next != 9 {
			t.Errorf("open: %v", err)
		}
	})
}

// A claim that has met damage is cut and routed only by what says so, and its rows are lost once.
func TestLostRows(t *testing.T) {
	bubble(t, "cut", func(t *testing.T) {
		x := newDamagedRuns(t)
		x.flip(x.raw, packHeaderSize+20)
		x.start()
		x.append("s", "z9")
		c := x.Consumer(x.s.Incarnation, Main)
		k := c.Take(0, 100)
		for range 2 { // met twice, lost once
			if got := rows(k); got != "9:z9" || k.Lost() != 1 {
				t.Fatalf("rows %q, %d lost", got, k.Lost())
			}
		}
		run, err := x.NewRun(RunRouted, 0)
		if err != nil {
			t.Fatal(err)
		}
		h := RunHead{Incarnation: x.s.Incarnation, Kind: RunRouted, Version: 1, Epoch: x.epoch, N: 3, First: 8, Next: 10, Counts: Counts{Dropped: 2}}
		if err := run.Seal(h); err != nil {
			t.Fatal(err)
		}
		if err := x.Route(k, run, h); err == nil || !strings.Contains(err.Error(), "counts 0 rows as lost") {
			t.Errorf("route: %v", err)
		}
		run.Abort()
		x.cutClaim(x.s, k)
		for range 2 {
			if got := c.Totals(); got.Lost != 1 || got.OK != 3 || got.Waiting != 4 {
				t.Errorf("totals %+v", got)
			}
			x.balanced(x.s)
			x.restart()
			c = x.Consumer(x.s.Incarnation, Main)
		}
	})
}

// What a RUN or a manifest of keys may not say is refused, and nothing has happened.
func TestRunsThatDoNotFit(t *testing.T) {
	bubble(t, "refused", func(t *testing.T) {
		x := newDamagedRuns(t)
		x.start()
		c := x.Consumer(x.s.Incarnation, Main)
		before := fmt.Sprint(c.Epochs(), c.Totals())
		f := func(want string, h ManifestHead) {
			t.Helper()
			h.ID = x.NewManifestID()
			_, err := x.CutKeys(c, nil, h)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v, want %q", h.Source, err, want)
			}
			if got := fmt.Sprint(c.Epochs(), c.Totals()); got != before {
				t.Errorf("%+v has changed %s to %s", h.Source, before, got)
			}
		}
		head := func(first, next uint64, source Source) ManifestHead {
			return ManifestHead{Version: 1, Epoch: x.epoch, First: first, Next: next, Source: source}
		}
		a := KeyHash([]byte("a"))
		f("takes a range", head(1, 8, Source{}))
		f("do not belong together", head(1, 8, Source{Kind: SourceKey, Key: a}))
		f("do not belong together", head(1, 8, Source{Kind: SourceSweep, Run: 2}))
		f("do not belong together", head(1, 8, Source{Kind: SourceSweep, Run: 2, All: true, Bound: []byte("k")}))
		f("has 2 runs, not 3", head(1, 8, Source{Kind: SourceKey, Key: a, Run: 3}))
		f("took [1, 8), not [1, 5)", head(1, 5, Source{Kind: SourceKey, Key: a, Run: 2}))
		f("was taken up to run 1", head(1, 5, Source{Kind: SourceKey, Key: a, Run: 1}))
		f("a sweep takes them all", head(1, 5, Source{Kind: SourceSweep, Run: 1, All: true}))
		other := head(1, 8, Source{Kind: SourceSweep, Run: 2, All: true})
		other.Epoch++
		f("has no runs, or has ended", other)
		other = head(1, 8, Source{Kind: SourceSweep, Run: 2, All: true})
		other.Version = 2
		f("has version 1, not 2", other)
		other.Version, other.Counts.OK = 1, 5
		f("has 4 records left, the manifest takes 5", other)
		other.Counts.OK, other.Lost = 0, 1
		f("what is lost", other)
	})
}
