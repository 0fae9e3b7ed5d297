package buffer

import (
	"testing"

	"hydrant/buffer/forgetfs"
)

// The watermark is that of the last routed run, or cut of a range, whatever ends the process; one that says none leaves it
// as it was.
func TestWatermark(t *testing.T) {
	bubble(t, "start", func(t *testing.T) {
		x := openBench(t, Options{FS: forgetfs.New()})
		s := x.define("s")
		want := func(n int64) {
			t.Helper()
			if got := x.Consumer(s.Incarnation, Main).Watermark(); got != n {
				t.Errorf("watermark %d, want %d", got, n)
			}
		}
		next := func(run bool, watermark int64) {
			t.Helper()
			x.append("s", "a")
			c := x.Consumer(s.Incarnation, Main)
			k := c.Take(0, 1<<20)
			first, next := k.Range()
			var err error
			if run {
				h := RunHead{Incarnation: s.Incarnation, Kind: RunRouted, Version: s.Version, Epoch: c.NewEpoch(), N: 1, First: first, Next: next, Counts: Counts{OK: 1}, Watermark: watermark}
				var r *Run
				if r, err = x.NewRun(RunRouted, 0); err != nil {
					t.Fatal(err)
				}
				for row := range k.Rows() {
					if err = r.Append([]byte("a"), RunRow{Row: row, Counts: true}); err != nil {
						t.Fatal(err)
					}
				}
				if err = r.Seal(h); err == nil {
					err = x.Route(k, r, h)
				}
			} else {
				_, err = x.Cut(k, nil, ManifestHead{ID: x.NewManifestID(), Version: s.Version, Epoch: c.NewEpoch(), First: first, Next: next, Counts: Counts{Dropped: 1}, Watermark: watermark})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		want(0)
		next(true, 7)
		want(7)
		x.crash(1)
		want(7)
		next(false, 0)
		want(7)
		next(false, 9)
		want(9)
		x.crash(2)
		want(9)
		next(true, -3) // before 1970
		x.restart()    // and from a checkpoint
		want(-3)
		x.restart()
		want(-3)
	})
}
