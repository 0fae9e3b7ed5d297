package buffer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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

// An epoch takes so many size cuts, and spans so many sequences; then it says that it is full.
func TestEpochIsFull(t *testing.T) {
	e := &epochState{number: 4, version: 1, runs: []routedRun{{first: 1, next: 11}}, cuts: map[[16]byte]uint32{}, left: 10}
	c := &consumerState{base: 11, position: 11, newest: 4, epochs: []*epochState{e}}
	cut := func(key string) error {
		return c.checkKeys(&ManifestHead{Version: 1, Epoch: 4, First: 1, Next: 11, Source: Source{Kind: SourceKey, Key: KeyHash([]byte(key)), Run: 1}})
	}
	for i := range maxKeyCuts {
		if err := cut(fmt.Sprint(i)); err != nil {
			t.Fatalf("cut %d: %v", i, err)
		}
		e.cuts[KeyHash([]byte(fmt.Sprint(i)))] = 1
	}
	if err := cut("one more"); !errors.Is(err, ErrEpochFull) {
		t.Errorf("one more: %v", err)
	}
	e.runs = append(e.runs, routedRun{first: 11, next: 12})
	c.base, c.position = 12, 12
	again := &ManifestHead{Version: 1, Epoch: 4, First: 1, Next: 12, Source: Source{Kind: SourceKey, Key: KeyHash([]byte("7")), Run: 2}}
	if err := c.checkKeys(again); err != nil {
		t.Errorf("a key that was cut before: %v", err)
	}
	run := func(next uint64) error {
		return c.checkRun(&runEvent{Head: RunHead{Kind: RunRouted, Version: 1, Epoch: 4, N: 3, First: 12, Next: next}})
	}
	if err := run(1 + maxExtent); err != nil {
		t.Errorf("up to %d: %v", uint64(1+maxExtent), err)
	}
	if err := run(2 + maxExtent); !errors.Is(err, ErrEpochFull) {
		t.Errorf("up to %d: %v", uint64(2+maxExtent), err)
	}
}

// Runs take room in checkpoints: a stream is refused another when it has half of it, but not the cut that ends
// them; and others have room left.
func TestCrowdedByRuns(t *testing.T) {
	bubble(t, "runs", func(t *testing.T) {
		x := openBench(t, Options{FS: forgetfs.New()})
		s, other := x.define("s"), x.define("other")
		c := x.Consumer(s.Incarnation, Main)
		room := manifestRoom(x.journal.geo)
		crowded := 0
		var err error
		for n := 0; err == nil; n++ {
			if x.Crowded() && crowded == 0 {
				crowded = n
			}
			x.append("s", "r")
			_, err = c.Spill(t.Context(), 1)
		}
		x.ledger.mu.RLock()
		weight := x.ledger.runWeight
		x.ledger.mu.RUnlock()
		if !errors.Is(err, ErrCrowded) || weight <= room/2-rawRunWeight || weight > room/2+rawRunWeight {
			t.Errorf("%v at %d bytes of runs, of %d", err, weight, room)
		}
		if crowded == 0 || int64(crowded) > room/3/rawRunWeight+1 {
			t.Errorf("crowded from %d runs on", crowded)
		}
		x.append("other", "o")
		if err := x.route(other, x.Consumer(other.Incarnation, Main).NewEpoch(), 1, 1); err != nil {
			t.Errorf("another stream's run: %v", err)
		}
		if _, err := x.keys(other, x.Consumer(other.Incarnation, Main).Epochs()[0].Number, Source{Kind: SourceSweep, Run: 1, All: true}, ""); err != nil {
			t.Errorf("another stream's sweep: %v", err)
		}
		x.restart()
		c = x.Consumer(s.Incarnation, Main)
		k := c.Take(0, 1<<20)
		x.cutClaim(s, k)
		x.ledger.mu.RLock()
		if x.ledger.runWeight != 0 {
			t.Errorf("when all is decided runs weigh %d", x.ledger.runWeight)
		}
		x.ledger.mu.RUnlock()
		x.checkRuns(0)
		x.append("s", "r")
		x.spill(s, 1, 1)
	})
}

// Rows that are spilled hold what their file has, and no longer what they might need; when they are decided nothing.
func TestSpillAccounts(t *testing.T) {
	bubble(t, "disk", func(t *testing.T) {
		x := openBench(t, Options{FS: forgetfs.New()})
		s := x.define("s")
		x.append("s", strings.Repeat("a", 10000), strings.Repeat("b", 10000))
		if st := x.space.stats(); st.Rows != holdOf(2, 20000) || st.Packs != 0 {
			t.Errorf("before: %+v", st)
		}
		x.spill(s, 10000, 1)
		size := func() (n int64) {
			for _, f := range x.o.FS.(*forgetfs.FS).Files("/data/runs") {
				b, err := x.o.FS.(*forgetfs.FS).ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				n += int64(len(b))
			}
			return n
		}
		if st := x.space.stats(); st.Rows != holdOf(1, 10000) || st.Packs != size() || st.Making != 0 {
			t.Errorf("after: %+v, %d bytes of runs", st, size())
		}
		x.restart()
		if st := x.space.stats(); st.Rows != holdOf(1, 10000) || st.Packs != size() || st.Making != 0 {
			t.Errorf("after a restart: %+v, %d bytes of runs", st, size())
		}
		epoch := x.Consumer(s.Incarnation, Main).NewEpoch()
		if err := x.route(s, epoch, 1, 1<<20); err != nil {
			t.Fatal(err)
		}
		x.checkRuns(1)
		if st := x.space.stats(); st.Rows != 0 || st.Packs != size() || st.Making != 0 {
			t.Errorf("routed: %+v, %d bytes of runs", st, size())
		}
		if _, err := x.CutKeys(x.Consumer(s.Incarnation, Main), nil, ManifestHead{ID: x.NewManifestID(), Version: 1, Epoch: epoch, First: 1, Next: 3,
			Source: Source{Kind: SourceSweep, Run: 1, All: true}, Counts: Counts{Dropped: 2}}); err != nil {
			t.Fatal(err)
		}
		if st := x.space.stats(); st.Rows != 0 || st.Packs != 0 || st.Making != 0 {
			t.Errorf("at the end: %+v", st)
		}
		x.balanced(s)
	})
}

// A spill that is overtaken by a cut, or asked to stop, leaves nothing.
func TestSpillOvertaken(t *testing.T) {
	bubble(t, "cut", func(t *testing.T) {
		x := openBench(t, Options{FS: forgetfs.New()})
		s := x.define("s")
		c := x.Consumer(s.Incarnation, Main)
		x.append("s", "a", "b", "c")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if n, err := c.Spill(ctx, 100); n != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("%d rows, %v", n, err)
		}
		// the cut comes while the run is written
		pin := c.pinOldest(100)
		run, err := x.NewRun(RunRaw, 0)
		if err != nil {
			t.Fatal(err)
		}
		table, err := pin.write(t.Context(), run)
		if err != nil {
			t.Fatal(err)
		}
		x.cutClaim(s, c.Take(0, 1))
		if err := x.Buffer.spill(pin, run, table); !errors.Is(err, errOvertaken) {
			t.Errorf("spill after the cut: %v", err)
		}
		run.Abort()
		if got := rows(pin); got != "1:a 2:b 3:c" { // it keeps the memory
			t.Errorf("rows %q", got)
		}
		pin.unpin()
		x.checkRuns(0)
		if got := x.waiting(s); got != "2:b 3:c" {
			t.Errorf("rows %q", got)
		}
		x.cut(s)
		if f := x.front.stats(); f.Used != 0 {
			t.Errorf("the front has %+v", f)
		}
		x.balanced(s)
	})
}

// While one goroutine spills, another takes claims, gives some back in part or whole, and cuts or routes the others:
// each row is decided once, in order.
func TestSpillConcurrently(t *testing.T) {
	x := openBench(t, Options{geometry: geometry{slot: 1 << 20, limit: 6, first: 4}})
	s := x.define("s")
	c := x.Consumer(s.Incarnation, Main)
	const calls, each = 300, 5
	spilled := int64(0)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range calls {
			var rows []string
			for j := range each {
				rows = append(rows, fmt.Sprintf("%d.%s", i*each+j, strings.Repeat("x", (i*37+j*11)%200)))
			}
			x.append("s", rows...)
		}
	})
	wg.Go(func() {
		for r := rand.New(rand.NewPCG(1, 2)); ctx.Err() == nil; {
			n, err := c.Spill(ctx, int64(r.IntN(5000)))
			if err != nil && ctx.Err() == nil {
				t.Errorf("spill: %v", err)
				return
			}
			spilled += n
			if n == 0 {
				select {
				case <-ctx.Done():
				case <-time.After(time.Millisecond):
				}
			}
		}
	})
	next, cuts := 0, 0
	for r := rand.New(rand.NewPCG(3, 4)); next < calls*each && !t.Failed(); {
		k := c.Take(0, int64(r.IntN(8000)))
		if k == nil {
			<-c.Changed()
			continue
		}
		if second := c.Take(0, int64(r.IntN(3000))); second != nil {
			if r.IntN(2) == 0 {
				first, _ := second.Range()
				second.Trim(first + uint64(r.IntN(4)))
			}
			if n := len(c.claims); n > 0 && c.claims[n-1] == second {
				second.Release()
			}
		}
		first, end := k.Range()
		if r.IntN(3) == 0 && end > first+1 {
			end = first + 1 + r.Uint64N(end-first-1)
			k.Trim(end)
		}
		at := next
		for row := range k.Rows() {
			if !strings.HasPrefix(string(row.Data), fmt.Sprintf("%d.", at)) || row.Seq != uint64(at+1) {
				t.Errorf("row %d is %.20q, want row %d", row.Seq, row.Data, at)
				break
			}
			at++
		}
		if at != int(end)-1 {
			t.Errorf("claim [%d, %d) ends at row %d", first, end, at)
		}
		switch r.IntN(4) {
		case 0:
			k.Release()
			continue
		case 1:
			run, err := x.NewRun(RunRouted, 0)
			if err != nil {
				t.Fatal(err)
			}
			h := RunHead{Incarnation: s.Incarnation, Kind: RunRouted, Version: 1, Epoch: c.NewEpoch(), N: 1, First: first, Next: end, Counts: Counts{Dropped: int64(end - first)}}
			if err := run.Seal(h); err != nil {
				t.Fatal(err)
			}
			if err := x.Route(k, run, h); err != nil {
				t.Fatal(err)
			}
		default:
			x.cutClaim(s, k)
		}
		next = at
		cuts++
	}
	stop()
	wg.Wait()
	got := c.Totals()
	if got.Accepted != calls*each || got.OK+got.Dropped != calls*each || got.Waiting != 0 {
		t.Errorf("totals %+v", got)
	}
	if f := x.front.stats(); f.Used != 0 || f.Reserved != 0 {
		t.Errorf("the front has %+v", f)
	}
	if st := x.space.stats(); st.Rows != 0 {
		t.Errorf("the disk has %+v", st)
	}
	t.Logf("%d cuts, %d rows spilled", cuts, spilled)
}
