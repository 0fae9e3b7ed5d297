package buffer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hydrant/buffer/forgetfs"
)

// route takes what waits, up to most bytes, into run n of an epoch: rows by the first letter of their Data; those that
// begin with d are dropped.
func (x *bench) route(s Stream, epoch uint64, n uint32, most int64) error {
	x.t.Helper()
	c := x.Consumer(s.Incarnation, Main)
	k := c.Take(0, most)
	if k == nil {
		x.t.Fatal("nothing waits")
	}
	run, err := x.NewRun(RunRouted, 0)
	if err != nil {
		x.t.Fatal(err)
	}
	first, next := k.Range()
	h := RunHead{Incarnation: s.Incarnation, Kind: RunRouted, Version: s.Version, Epoch: epoch, N: n, First: first, Next: next}
	for row := range k.Rows() {
		if row.Data[0] == 'd' {
			h.Counts.Dropped++
			continue
		}
		h.Counts.OK++
		if err := run.Append(row.Data[:1], RunRow{Row: row, Counts: true}); err != nil {
			x.t.Fatal(err)
		}
	}
	h.Lost = k.Lost()
	if err = run.Seal(h); err == nil {
		err = x.Route(k, run, h)
	}
	if err != nil {
		k.Release()
		run.Abort()
	}
	return err
}

// keys makes a manifest of the rows of an epoch: of one key, or of all above the last bound up to bound.
func (x *bench) keys(s Stream, epoch uint64, source Source, key string) (*Manifest, error) {
	x.t.Helper()
	c := x.Consumer(s.Incarnation, Main)
	var e Epoch
	for _, other := range c.Epochs() {
		if other.Number == epoch {
			e = other
		}
	}
	if source.Kind == SourceKey {
		source.Key = KeyHash([]byte(key))
	}
	h := ManifestHead{ID: x.NewManifestID(), Incarnation: s.Incarnation, Version: e.Version, Epoch: epoch, First: e.First, Next: e.Runs[source.Run-1].Next, Source: source}
	r, err := x.OpenEpoch(c, epoch, source.Run)
	if err != nil {
		x.t.Fatal(err)
	}
	defer r.Close()
	p, err := x.NewPack()
	if err != nil {
		x.t.Fatal(err)
	}
	for k, err := range r.Keys(e.Bound) {
		if err != nil {
			x.t.Fatal(err)
		}
		name := string(k.Key)
		if source.Kind == SourceKey && name != key || source.Kind == SourceSweep && !source.All && name > string(source.Bound) {
			continue
		}
		var body strings.Builder
		records := int64(0)
		for row, err := range r.Rows([]byte(name)) {
			if err != nil {
				x.t.Fatal(err)
			}
			fmt.Fprintf(&body, "%d:%s ", row.Seq, row.Data)
			records++
		}
		w, err := p.Begin(ObjectHead{Key: name, Destination: "d"})
		if err != nil {
			x.t.Fatal(err)
		}
		fmt.Fprint(w, body.String())
		if err := p.End(records, 1, 1); err != nil {
			x.t.Fatal(err)
		}
		h.Counts.OK += records
	}
	var packs []*Pack
	if len(p.Objects()) > 0 {
		packs = []*Pack{p}
		if err := p.Seal(h); err != nil {
			x.t.Fatal(err)
		}
	}
	m, err := x.CutKeys(c, packs, h)
	if err != nil {
		p.Abort()
	}
	return m, err
}

// objects are the bytes of all objects that wait to be sent.
func (x *bench) objects() string {
	x.t.Helper()
	var list []string
	for _, m := range x.Outstanding() {
		for i := range m.Objects {
			o, err := x.OpenObject(m, i)
			if err != nil {
				x.t.Fatal(err)
			}
			b := make([]byte, m.Objects[i].Size)
			if _, err := o.ReadAt(b, 0); err != nil {
				x.t.Fatal(err)
			}
			o.Close()
			list = append(list, strings.TrimSpace(string(b)))
		}
	}
	return strings.Join(list, " | ")
}

// rows are those of a claim.
func rows(k *Claim) string {
	var list []string
	for r := range k.Rows() {
		list = append(list, fmt.Sprintf("%d:%s", r.Seq, r.Data))
	}
	return strings.Join(list, " ")
}

// cutClaim makes one manifest of a claim, all of whose objects are delivered.
func (x *bench) cutClaim(s Stream, k *Claim) {
	x.t.Helper()
	first, next := k.Range()
	h := ManifestHead{ID: x.NewManifestID(), Version: s.Version, Epoch: k.c.NewEpoch(), First: first, Next: next}
	for range k.Rows() {
		h.Counts.OK++
	}
	if _, err := x.Cut(k, nil, h); err != nil {
		x.t.Fatal(err)
	}
}

// checkRuns counts the run files.
func (x *bench) checkRuns(want int) {
	x.t.Helper()
	if got := x.o.FS.(*forgetfs.FS).Files("/data/runs"); len(got) != want {
		x.t.Errorf("run files %v, want %d", got, want)
	}
}

func (x *bench) spill(s Stream, most, want int64) {
	x.t.Helper()
	if n, err := x.Consumer(s.Incarnation, Main).Spill(context.Background(), most); err != nil || n != want {
		x.t.Fatalf("spilled %d rows, %v; want %d", n, err, want)
	}
}

// Rows wait in raw runs as they do in the front: in order, each once, over a restart, and so they are taken.
func TestSpill(t *testing.T) {
	x := openBench(t, Options{FS: forgetfs.New()})
	s := x.define("s")
	c := func() *Consumer { return x.Consumer(s.Incarnation, Main) }
	x.spill(s, 100, 0)
	for i := range 10 {
		x.append("s", fmt.Sprintf("r%d", i))
	}
	x.spill(s, 8, 4)
	x.spill(s, 1, 1)
	if w := c().Waiting(); w.First != 1 || w.Next != 11 || w.Bytes != 20 || w.Front != 10 || w.Oldest == 0 {
		t.Errorf("waiting %+v", w)
	}
	all := "1:r0 2:r1 3:r2 4:r3 5:r4 6:r5 7:r6 8:r7 9:r8 10:r9"
	if got := x.waiting(s); got != all {
		t.Errorf("rows %q", got)
	}
	x.restart()
	if got := x.waiting(s); got != all {
		t.Errorf("rows after a restart %q", got)
	}
	var chunks []uint64
	for k := range c().Chunks(3) {
		for i := range k.Count {
			chunks = append(chunks, k.First+uint64(i))
		}
	}
	if !slices.Equal(chunks, []uint64{3, 4, 5, 6, 7, 8, 9, 10}) {
		t.Errorf("chunks from 3 on: %v", chunks)
	}
	// a claim over the middle of one run, another, and memory
	k := c().Take(0, 6)
	k.Trim(3)
	x.cutClaim(s, k)
	k = c().Take(8, 1<<20)
	if got := rows(k); got != "3:r2 4:r3 5:r4 6:r5 7:r6" {
		t.Errorf("claim %q", got)
	}
	if got := x.waiting(s); got != "8:r7 9:r8 10:r9" {
		t.Errorf("rest %q", got)
	}
	// what the claim has in memory is spilled under it
	x.spill(s, 3, 1)
	x.spill(s, 4, 2)
	if got := rows(k); got != "3:r2 4:r3 5:r4 6:r5 7:r6" {
		t.Errorf("claim after the spill %q", got)
	}
	k.Trim(7)
	if got := rows(k); got != "3:r2 4:r3 5:r4 6:r5" {
		t.Errorf("claim after a trim %q", got)
	}
	if got := x.waiting(s); got != "7:r6 8:r7 9:r8 10:r9" {
		t.Errorf("rest after a trim %q", got)
	}
	k.Release()
	if got := x.waiting(s); got != strings.TrimPrefix(all, "1:r0 2:r1 ") {
		t.Errorf("rows after a release %q", got)
	}
	x.spill(s, 100, 2)
	x.spill(s, 100, 0)
	if got := x.waiting(s); got != strings.TrimPrefix(all, "1:r0 2:r1 ") {
		t.Errorf("all rows in runs: %q", got)
	}
	if f := x.front.stats(); f.Used != 0 {
		t.Errorf("the front has %+v", f)
	}
	x.restart()
	k = c().Take(0, 1<<20)
	if got := rows(k); got != strings.TrimPrefix(all, "1:r0 2:r1 ") {
		t.Errorf("rows after another restart %q", got)
	}
	x.cutClaim(s, k)
	if got := c().Totals(); got.Accepted != 10 || got.Waiting != 0 || got.OK != 10 {
		t.Errorf("totals %+v", got)
	}
	x.checkRuns(0)
}

// Rows that are routed wait by key until size cuts and sweeps take them, over restarts, and the runs go at the end.
func TestRoute(t *testing.T) {
	x := openBench(t, Options{FS: forgetfs.New()})
	s := x.define("s")
	c := func() *Consumer { return x.Consumer(s.Incarnation, Main) }
	totals := func(want Totals) {
		t.Helper()
		if got := c().Totals(); got != want {
			t.Errorf("totals %+v, want %+v", got, want)
		}
		if want.OK+want.Dropped+want.Failed+want.Lost+want.Waiting != want.Accepted {
			t.Errorf("want %+v does not add up", want)
		}
	}
	for _, row := range []string{"b0", "a0", "d0", "c0", "a1", "b1", "a2", "c1"} {
		x.append("s", row)
	}
	epoch := c().NewEpoch()
	x.spill(s, 10, 5)
	if err := x.route(s, epoch, 1, 8); err != nil { // 4 of 5 rows of the raw run
		t.Fatal(err)
	}
	x.checkRuns(2)
	totals(Totals{Accepted: 8, Dropped: 1, Waiting: 7})
	if err := x.route(s, epoch, 3, 6); err == nil {
		t.Error("run 3 follows run 1")
	}
	if err := x.route(s, epoch, 2, 6); err != nil { // the last one, and two from memory
		t.Fatal(err)
	}
	x.checkRuns(2)
	x.restart()
	if got := x.waiting(s); got != "8:c1" {
		t.Errorf("rows %q", got)
	}
	if _, err := x.keys(s, epoch, Source{Kind: SourceKey, Run: 1}, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := x.keys(s, epoch, Source{Kind: SourceKey, Run: 1}, "a"); err == nil {
		t.Error("key a of run 1 is cut twice")
	}
	if _, err := x.keys(s, epoch, Source{Kind: SourceKey, Run: 2}, "b"); err != nil {
		t.Fatal(err)
	}
	totals(Totals{Accepted: 8, OK: 3, Dropped: 1, Waiting: 4})
	x.restart()
	totals(Totals{Accepted: 8, OK: 3, Dropped: 1, Waiting: 4})
	if err := x.route(s, epoch, 3, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := x.keys(s, epoch, Source{Kind: SourceSweep, Run: 2, Bound: []byte("b")}, ""); err == nil {
		t.Error("a sweep leaves run 3 out")
	}
	if _, err := x.keys(s, epoch, Source{Kind: SourceSweep, Run: 3, Bound: []byte("b")}, ""); err != nil {
		t.Fatal(err)
	}
	x.append("s", "a9")
	if err := x.route(s, epoch, 4, 100); err == nil {
		t.Error("run 4 of an epoch that is closed at 3")
	}
	e := c().Epochs()
	if len(e) != 1 || !e[0].Closed || e[0].ClosedAt != 3 || string(e[0].Bound) != "b" || e[0].Records != 2 || e[0].First != 1 || e[0].Next != 9 || len(e[0].Runs) != 3 {
		t.Errorf("epochs %+v", e)
	}
	next := c().NewEpoch()
	if err := x.route(s, next, 1, 100); err != nil {
		t.Fatal(err)
	}
	x.restart()
	again := c().Epochs()
	if len(again) != 2 || fmt.Sprint(again[0]) != fmt.Sprint(e[0]) || again[1].Number != next {
		t.Errorf("epochs after a restart %+v, before %+v", again, e)
	}
	if _, err := x.keys(s, epoch, Source{Kind: SourceSweep, Run: 3, All: true}, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := x.keys(s, next, Source{Kind: SourceSweep, Run: 1, All: true}, ""); err != nil {
		t.Fatal(err)
	}
	totals(Totals{Accepted: 9, OK: 8, Dropped: 1})
	x.checkRuns(0)
	want := "2:a0 | 1:b0 6:b1 | 5:a1 7:a2 | 4:c0 8:c1 | 9:a9"
	if got := x.objects(); got != want {
		t.Errorf("objects %q, want %q", got, want)
	}
	x.restart()
	if got := x.objects(); got != want {
		t.Errorf("objects after a restart %q, want %q", got, want)
	}
}
