package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer/forgetfs"
)

// inlet opens the inlet of a stream.
func (x *bench) inlet(s Stream) *Inlet {
	x.t.Helper()
	in, err := x.Inlet(s.Incarnation)
	if err != nil {
		x.t.Fatal(err)
	}
	return in
}

// feed appends rows to a lane, of which the position behind them is next.
func (x *bench) feed(in *Inlet, lane, next string, rows ...string) {
	x.t.Helper()
	r := LaneRows{Lane: lane, Arrived: time.UnixMicro(int64(len(rows)) * 1e6), Next: []byte(next)}
	for _, row := range rows {
		r.Data = append(r.Data, []byte(row))
		r.Meta = append(r.Meta, []byte("meta of "+row))
	}
	if err := in.Append(context.Background(), r); err != nil {
		x.t.Fatalf("append to lane %s: %v", lane, err)
	}
}

// places says where lanes stand: what is read, and what is delivered.
func places(in *Inlet, lanes ...string) string {
	var b strings.Builder
	for _, lane := range lanes {
		fmt.Fprintf(&b, "%s %s/%s ", lane, in.Position(lane), in.Delivered(lane))
	}
	return strings.TrimSpace(b.String())
}

func (x *bench) wantPlaces(in *Inlet, want string, lanes ...string) {
	x.t.Helper()
	if got := places(in, lanes...); got != want {
		x.t.Errorf("lanes stand at %q, want %q", got, want)
	}
}

// wantTotals checks that the counts of a stream add up.
func (x *bench) wantTotals(s Stream, accepted, waiting int64) {
	x.t.Helper()
	got := x.Consumer(s.Incarnation, Main).Totals()
	if got.Accepted != accepted || got.Waiting != waiting || got.Accepted != got.OK+got.Dropped+got.Failed+got.Lost+got.Waiting {
		x.t.Errorf("totals %+v: want %d accepted and %d waiting", got, accepted, waiting)
	}
}

// manifest makes one of a claim, with one object.
func (x *bench) manifest(s Stream, k *Claim) *Manifest {
	x.t.Helper()
	first, next := k.Range()
	h := ManifestHead{ID: x.NewManifestID(), Incarnation: s.Incarnation, Version: s.Version, Epoch: k.c.NewEpoch(), First: first, Next: next}
	p, err := x.NewPack()
	if err != nil {
		x.t.Fatal(err)
	}
	w, err := p.Begin(ObjectHead{Key: fmt.Sprintf("%s/%d", s.Name, first), Destination: s.Name + "/data/file"})
	if err != nil {
		x.t.Fatal(err)
	}
	for r := range k.Rows() {
		fmt.Fprintf(w, "%s\n", r.Data)
		h.Counts.OK++
	}
	if err := errors.Join(p.End(h.Counts.OK, first, 1), p.Seal(h)); err != nil {
		x.t.Fatal(err)
	}
	m, err := x.Cut(k, []*Pack{p}, h)
	if err != nil {
		x.t.Fatal(err)
	}
	return m
}

// cutRows makes a manifest of the rows up to a sequence, 0: all.
func (x *bench) cutRows(s Stream, next uint64) *Manifest {
	x.t.Helper()
	k := x.Consumer(s.Incarnation, Main).Take(next, 1<<40)
	if k == nil {
		x.t.Fatal("nothing waits")
	}
	return x.manifest(s, k)
}

// confirm ends a manifest and waits for its frame.
func (x *bench) confirm(m *Manifest) {
	x.t.Helper()
	for i := range m.Objects {
		x.Confirm(m.ID, i)
	}
	deadline := time.Now().Add(10 * time.Second)
	for slices.ContainsFunc(x.Outstanding(), func(o *Manifest) bool { return o.ID == m.ID }) {
		if time.Now().After(deadline) {
			x.t.Fatal("a manifest does not end")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := openBench(t, Options{FS: forgetfs.New()})
		s := x.define("fed")
		in := x.inlet(s)
		x.feed(in, "a-0", "2", "one", "two")
		x.feed(in, "a-1", "11", "three")
		x.feed(in, "a-0", "3", "four")
		x.wantPlaces(in, "a-0 3/ a-1 11/", "a-0", "a-1")
		x.wantTotals(s, 4, 4)
		k := x.Consumer(s.Incarnation, Main).Take(0, 4)
		var got []string
		for row := range k.Rows() {
			got = append(got, fmt.Sprintf("%d %d %s %s", row.Seq, row.Arrived, row.Data, row.Meta))
		}
		if want := []string{"1 2000000 one meta of one", "2 2000000 two meta of two"}; !slices.Equal(got, want) {
			t.Errorf("rows %q, want %q: a claim takes rows that were appended together or none of them", got, want)
		}
		first := x.manifest(s, k)
		x.wantPlaces(in, "a-0 3/ a-1 11/", "a-0", "a-1")
		second := x.cutRows(s, 4)
		x.wantTotals(s, 4, 1)
		x.confirm(second)
		x.wantPlaces(in, "a-0 3/ a-1 11/", "a-0", "a-1")
		x.confirm(first)
		x.wantPlaces(in, "a-0 3/2 a-1 11/11", "a-0", "a-1")
		select {
		case <-in.Changed():
		default:
			t.Error("nobody is told that more is delivered")
		}

		x.crash(1)
		in = x.inlet(s)
		x.wantPlaces(in, "a-0 2/2 a-1 11/11", "a-0", "a-1")
		x.wantTotals(s, 3, 0)
		x.feed(in, "a-0", "3", "four")
		k = x.Consumer(s.Incarnation, Main).Take(0, 1<<40)
		if first, next := k.Range(); first != 4 || next != 5 {
			t.Errorf("rows after a crash have sequences [%d, %d), want [4, 5)", first, next)
		}
		k.Release()
		if n, err := x.Consumer(s.Incarnation, Main).Spill(context.Background(), 1<<40); n != 1 || err != nil {
			t.Fatalf("spill: %d, %v", n, err)
		}
		x.crash(2)
		in = x.inlet(s)
		x.wantPlaces(in, "a-0 3/2 a-1 11/11", "a-0", "a-1")
		x.wantTotals(s, 4, 1)
		k = x.Consumer(s.Incarnation, Main).Take(0, 1<<40)
		for row := range k.Rows() {
			if string(row.Data) != "four" || string(row.Meta) != "meta of four" {
				t.Errorf("row of a raw run: %q with %q", row.Data, row.Meta)
			}
		}
		x.confirm(x.manifest(s, k))
		x.wantPlaces(in, "a-0 3/3 a-1 11/11", "a-0", "a-1")
		if err := in.Forget("a-0"); err != nil {
			t.Error(err)
		}
		x.restart()
		in = x.inlet(s)
		if got := in.Lanes(); !slices.Equal(got, []string{"a-1"}) {
			t.Errorf("lanes %q after one was forgotten", got)
		}
	})
}

func TestLaneRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := openBench(t, Options{FS: forgetfs.New()})
		s := x.define("fed")
		in := x.inlet(s)
		x.feed(in, "a-0", "1", "one")
		x.feed(in, "a-1", "1", "two")
		x.feed(in, "a-0", "2", "three")
		c := x.Consumer(s.Incarnation, Main)
		k := c.Take(2, 1<<40)
		in.Release("a-0")
		x.wantPlaces(in, "a-0 1/ a-1 1/", "a-0", "a-1")
		x.wantTotals(s, 2, 2)
		x.cutClaim(s, k)
		in.Release("a-1")
		x.wantPlaces(in, "a-0 1/1 a-1 /", "a-0", "a-1")
		x.wantTotals(s, 1, 0)
		if w := c.Waiting(); w.First != w.Next || w.Bytes != 0 || w.Front != 0 {
			t.Errorf("%+v waits after everything was let go", w)
		}
		if k := c.Take(0, 1<<40); k != nil {
			t.Error("a claim of rows that were let go")
		}
		x.feed(in, "a-1", "1", "two")
		x.feed(in, "a-0", "2", "three")
		if got := rows(c.Take(0, 1<<40)); !strings.Contains(got, "two") || !strings.Contains(got, "three") {
			t.Errorf("rows %q", got)
		}
		x.wantTotals(s, 3, 2)
		for _, st := range []frontStats{x.front.stats()} {
			if st.Reserved != 0 {
				t.Errorf("%d bytes stay reserved", st.Reserved)
			}
		}
	})
}

func TestLaneNote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := openBench(t, Options{FS: forgetfs.New()})
		s := x.define("fed")
		in := x.inlet(s)
		ctx := context.Background()
		if err := in.Note(ctx, "@start", []byte("at 7")); err != nil {
			t.Fatal(err)
		}
		x.feed(in, "a-0", "1", "one")
		if err := in.Note(ctx, "a-0", []byte("9")); err != nil {
			t.Fatal(err)
		}
		x.wantPlaces(in, "a-0 9/ @start at 7/at 7", "a-0", "@start")
		x.crash(3)
		in = x.inlet(s)
		x.wantPlaces(in, "a-0 9/ @start at 7/at 7", "a-0", "@start")
		x.wantTotals(s, 1, 1)
		settled := make(chan error)
		asked := make(chan uint64, 1)
		go func() {
			settled <- in.Settle(ctx, []string{"a-0", "@start", "unknown"}, func(to uint64) { asked <- to })
		}()
		if to := <-asked; to != 2 {
			t.Errorf("asked to flush up to %d, want 2", to)
		}
		x.confirm(x.cutRows(s, 0))
		if err := <-settled; err != nil {
			t.Error(err)
		}
		x.wantPlaces(in, "a-0 9/9", "a-0")
	})
}

func TestLaneRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := openBench(t, Options{FS: forgetfs.New()})
		s := x.define("fed")
		in := x.inlet(s)
		ctx := context.Background()
		one := [][]byte{[]byte("one")}
		good := func() LaneRows { return LaneRows{Lane: "a-0", Data: one, Next: []byte("1")} }
		for _, c := range []struct {
			name   string
			change func(*LaneRows)
			want   string // of the error; "": none
		}{
			{"longest name", func(r *LaneRows) { r.Lane = strings.Repeat("a", MaxLane) }, ""},
			{"name too long", func(r *LaneRows) { r.Lane = strings.Repeat("a", MaxLane+1) }, "1 to 255 bytes, not 256"},
			{"no name", func(r *LaneRows) { r.Lane = "" }, "1 to 255 bytes, not 0"},
			{"slash", func(r *LaneRows) { r.Lane = "a/0" }, "at byte 1"},
			{"space", func(r *LaneRows) { r.Lane = "a 0" }, "at byte 1"},
			{"note with rows", func(r *LaneRows) { r.Lane = "@a" }, "is a note"},
			{"longest position", func(r *LaneRows) { r.Next = make([]byte, MaxPosition) }, ""},
			{"position too long", func(r *LaneRows) { r.Next = make([]byte, MaxPosition+1) }, "1 to 256 bytes, not 257"},
			{"no position", func(r *LaneRows) { r.Next = nil }, "1 to 256 bytes, not 0"},
			{"no rows", func(r *LaneRows) { r.Data = nil }, "0 records"},
			{"metadata of other rows", func(r *LaneRows) { r.Meta = [][]byte{nil, nil} }, "1 records with metadata of 2"},
			{"most bytes", func(r *LaneRows) { r.Data = [][]byte{make([]byte, MaxFeed-5)} }, ""},
			{"too many bytes", func(r *LaneRows) { r.Data = [][]byte{make([]byte, MaxFeed-4)} }, "at most 33554432"},
		} {
			r := good()
			c.change(&r)
			err := in.Append(ctx, r)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.name, err, c.want)
			}
			if c.want == "" {
				in.Release(r.Lane)
			}
		}
		if _, err := x.Inlet(s.Incarnation); err == nil {
			t.Error("a second inlet of a stream")
		}
		in.Close()
		if err := in.Append(ctx, good()); !errors.Is(err, ErrClosed) {
			t.Errorf("append to a closed inlet: %v", err)
		}
		x.append("fed", "a call again")
	})
}

// Rows wait for memory without taking that of calls, and go on as it is given back.
func TestFeedersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := openBench(t, Options{FS: forgetfs.New(), Memory: 16 << 20}) // 6 MiB of front
		s, other := x.define("fed"), x.define("put")
		in := x.inlet(s)
		ctx, cancel := context.WithCancel(context.Background())
		big := LaneRows{Lane: "a-0", Data: [][]byte{bytes.Repeat([]byte("x"), 1<<20-1<<10)}, Next: []byte("1")}
		done := make(chan int, 100)
		go func() {
			for i := 0; ; i++ {
				if in.Append(ctx, big) != nil {
					return
				}
				done <- i
			}
		}()
		synctest.Wait()
		if n := len(done); n != 3 {
			t.Errorf("%d MiB of 6 were taken, want the half", n)
		}
		x.append(other.Name, strings.Repeat("y", 10<<10))
		c := x.Consumer(s.Incarnation, Main)
		if c.Pressure()&PressureMemory == 0 {
			t.Error("no pressure although the source waits")
		}
		if n, err := c.Spill(ctx, 1<<40); n != 3 || err != nil {
			t.Fatalf("spill: %d, %v", n, err)
		}
		synctest.Wait()
		if n := len(done); n < 5 {
			t.Errorf("%d MiB were taken after three were moved to a run", n)
		}
		waits := make(chan error)
		go func() {
			waits <- in.Append(context.Background(), LaneRows{Lane: "a-1", Data: big.Data, Next: []byte("1")})
		}()
		synctest.Wait()
		in.Release("a-1")
		if err := <-waits; !errors.Is(err, ErrReleased) {
			t.Errorf("an Append that waited for a lane that was let go: %v", err)
		}
		cancel()
		synctest.Wait()
		n := len(done)
		x.wantTotals(s, int64(n), int64(n))
		if st := x.front.stats(); st.Reserved != 0 {
			t.Errorf("%d bytes stay reserved", st.Reserved)
		}
	})
}

// A frame says again what the one before it said of lanes, so that of damaged frames only the last one hides something.
func TestDamagedLanes(t *testing.T) {
	for _, c := range []struct {
		kind  string
		n     int
		want  string // places
		total int64  // accepted
	}{
		{"MANIFEST", 0, "a-0 1/1 a-1 2/2 a-2 5/5", 4},
		{"MANIFEST", 1, "a-0 1/1 a-1 2/2 a-2 5/5", 4},
		{"RUN", 0, "a-0 1/1 a-1 2/2 a-2 /", 4},
	} {
		bubble(t, fmt.Sprint(c.kind, c.n), func(t *testing.T) {
			disk := forgetfs.New()
			x := openBench(t, Options{FS: disk})
			s := x.define("fed")
			in := x.inlet(s)
			x.feed(in, "a-0", "1", "one")
			first := x.cutRows(s, 0)
			x.feed(in, "a-1", "2", "two", "three")
			second := x.cutRows(s, 0)
			x.feed(in, "a-2", "5", "four")
			x.spill(s, 1<<40, 1)
			x.proven()
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			x.Buffer = nil
			spoil(t, disk, pick(t, disk, c.kind, c.n), false)
			x.start()
			x.confirm(first)
			x.confirm(second)
			x.wantTotals(s, c.total, 1)
			x.confirm(x.cutRows(s, 0))
			in = x.inlet(s)
			x.wantPlaces(in, c.want, "a-0", "a-1", "a-2")
			x.wantTotals(s, c.total, 0)
			if lost := strings.Contains(x.logs.String(), "records of its source are read"); lost != (c.kind == "RUN") {
				t.Errorf("log says that records are read again: %t\n%s", lost, x.logs)
			}
			x.restart()
			in = x.inlet(s)
			x.wantPlaces(in, c.want, "a-0", "a-1", "a-2")
			x.wantTotals(s, c.total, 0)
		})
	}
}

// What is remembered of undelivered positions is bounded; neighbours become one, which says what the later says.
func TestLaneSteps(t *testing.T) {
	l := newLedger()
	apply := func(e event) {
		t.Helper()
		if err := l.apply(e); err != nil {
			t.Fatal(err)
		}
	}
	apply(&streamEvent{Stream: Stream{Incarnation: 7, Name: "s", Version: 1, Consumers: []uint8{Main}}, Firsts: []uint64{1}})
	s := l.streams[7]
	const n = 1000
	for i := range uint64(n) {
		e := &manifestEvent{Head: ManifestHead{ID: ManifestID{byte(i), byte(i >> 8), 1}, Incarnation: 7, Version: 1, First: i + 1, Next: i + 2, Counts: Counts{OK: 1}}, Objects: 1, Packs: []packRef{{ID: PackID{byte(i), byte(i >> 8), 2}}}}
		e.Lanes = laneMarks{Rows: 1, At: []LanePosition{{fmt.Sprint("lane-", i%20), fmt.Append(nil, i)}}}
		apply(e)
		entries := 0
		for _, k := range s.steps {
			entries += len(k.at)
		}
		if len(s.steps) > maxSteps || entries > stepBase+stepShare*20 {
			t.Fatalf("%d steps with %d positions after %d frames", len(s.steps), entries, i+1)
		}
	}
	for i := range uint64(n) {
		apply(&commitEvent{Manifest: ManifestID{byte(i), byte(i >> 8), 1}})
		for k := range uint64(20) {
			if d := s.lanes[fmt.Sprint("lane-", k)].delivered; d != nil {
				var at uint64
				fmt.Sscan(string(d), &at)
				if at > i {
					t.Fatalf("lane %d is delivered up to %d when rows up to %d are", k, at, i)
				}
			}
		}
	}
	if len(s.steps) != 0 {
		t.Errorf("%d steps are left", len(s.steps))
	}
}

// There are as many lanes as a checkpoint has room for.
func TestTooManyLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := openBench(t, Options{FS: forgetfs.New()}) // slots of 128 KiB
		s := x.define("fed")
		in := x.inlet(s)
		var err error
		n := 0
		for ; err == nil && n < 1000; n++ {
			err = in.Append(context.Background(), LaneRows{Lane: fmt.Sprint("lane-", n), Data: [][]byte{[]byte("row")}, Next: []byte("1")})
		}
		if n < 40 || n > 80 || err == nil || !strings.Contains(err.Error(), "is one too many") {
			t.Errorf("%d lanes, then %v", n, err)
		}
		x.cutClaim(s, x.Consumer(s.Incarnation, Main).Take(0, 1<<40))
		if err := in.Forget("lane-0"); err != nil {
			t.Error(err)
		}
		if err := in.Append(context.Background(), LaneRows{Lane: "another", Data: [][]byte{[]byte("row")}, Next: []byte("1")}); err != nil {
			t.Errorf("after one was forgotten: %v", err)
		}
	})
}

// A disk that others have filled holds rows back, and they go on when it is free again, though nobody tells.
func TestFeedersWaitForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := forgetfs.New()
		disk.SetCapacity(64 << 20)
		x := openBench(t, Options{FS: disk})
		in := x.inlet(x.define("fed"))
		disk.SetOther(64<<20 - disk.Used())
		time.Sleep(statfsEvery)
		rows := LaneRows{Lane: "a-0", Data: [][]byte{make([]byte, 100)}, Next: []byte("1")}
		short, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := in.Append(short, rows); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("append to a full disk: %v", err)
		}
		if got := in.Lanes(); len(got) != 0 {
			t.Errorf("lanes %q of which nothing is known", got)
		}
		done := make(chan error, 1)
		go func() { done <- in.Append(context.Background(), rows) }()
		time.Sleep(10 * time.Second)
		if len(done) != 0 {
			t.Errorf("append to a full disk: %v", <-done)
		}
		disk.SetOther(0)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if len(done) != 1 {
			t.Fatal("append still waits although the disk is free")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if st := x.space.stats(); st.Rows != holdOf(1, 100) {
			t.Errorf("%d bytes are held for one row of 100", st.Rows)
		}
	})
}
