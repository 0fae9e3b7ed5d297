package buffer

import (
	"fmt"
	"testing"
)

// BenchmarkStartWithRuns is a start of a data directory with 1,000 runs: 500 routed ones of 1,000 keys, 500 raw ones.
func BenchmarkStartWithRuns(b *testing.B) {
	x := openBench(b, Options{geometry: geometry{slot: 16 << 20, limit: 4, first: 4}, Disk: 4 << 30})
	s := x.define("s")
	c := x.Consumer(s.Incarnation, Main)
	rows := make([]string, 1000)
	for i := range rows {
		rows[i] = fmt.Sprintf(`{"key":%d,"text":"some words that are in every row"}`, i)
	}
	epoch := c.NewEpoch()
	for n := range uint32(500) {
		x.append("s", rows...)
		k := c.Take(0, 1<<30)
		run, err := x.NewRun(RunRouted, 0)
		if err != nil {
			b.Fatal(err)
		}
		first, next := k.Range()
		h := RunHead{Incarnation: s.Incarnation, Kind: RunRouted, Version: 1, Epoch: epoch, N: n + 1, First: first, Next: next, Counts: Counts{OK: 1000}}
		for row := range k.Rows() {
			if err := run.Append(fmt.Appendf(nil, "data/key=%04d/dt=2026-01-01/", row.Seq%1000), RunRow{Row: row, Counts: true}); err != nil {
				b.Fatal(err)
			}
		}
		if err = run.Seal(h); err == nil {
			err = x.Route(k, run, h)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	for range 500 {
		x.append("s", rows...)
		if _, err := c.Spill(b.Context(), 1<<30); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		x.restart()
	}
	if got := x.Consumer(s.Incarnation, Main).Totals().Waiting; got != 1000*1000 {
		b.Errorf("%d records wait", got)
	}
}
