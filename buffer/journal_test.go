package buffer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer/forgetfs"
	"hydrant/record"
)

// pad makes rows of a size that fills slots quickly.
func pad(s string, n int) string { return s + strings.Repeat(".", n-len(s)) }

// Slots are used again and again while rows are cut; a stream that is never cut keeps its few rows all the
// same, because they are copied ahead of the slots that are reused.
func TestLaps(t *testing.T) { synctest.Test(t, testLaps) }

func testLaps(t *testing.T) {
	x := openBench(t, Options{FS: forgetfs.New()})
	slow, quick := x.define("slow"), x.define("quick")
	x.append("slow", "s1", "s2")
	var last *Manifest
	seq := uint64(1)
	for lap := range 60 {
		for range 8 {
			r := x.append("quick", pad(fmt.Sprint(seq), 5000))
			if r.First != seq {
				t.Fatalf("sequence %d, want %d", r.First, seq)
			}
			seq++
		}
		if lap%10 == 5 {
			x.append("slow", fmt.Sprintf("later%d", lap))
		}
		last = x.cut(quick)
		x.Confirm(last.ID, 0)
		if lap%20 == 19 {
			x.crash(uint64(lap))
			for _, m := range x.Outstanding() { // whose confirmation no frame had said
				x.Confirm(m.ID, x.Pending(m.ID)...)
			}
		}
		want := "1:s1 2:s2"
		for i, n := 5, 3; i <= lap; i, n = i+10, n+1 {
			want += fmt.Sprintf(" %d:later%d", n, i)
		}
		if got := x.waiting(slow); got != want {
			t.Fatalf("lap %d: %q waits, want %q", lap, got, want)
		}
		x.balanced(slow)
		x.balanced(quick)
	}
	if n := x.journal.active().number; n < 15 {
		t.Fatalf("only %d segments were used: the test is too small", n)
	}
	until(t, "all manifests end", func() bool { return len(x.Outstanding()) == 0 })
	if got := x.journal.slots; got > tiny.limit {
		t.Errorf("%d slots, at most %d are allowed", got, tiny.limit)
	}
	if x.logs.String() != "" {
		t.Errorf("log: %s", x.logs)
	}
}

// A slot whose rows main has covered stays until the backup has, too.
func TestBackupBehind(t *testing.T) { synctest.Test(t, testBackupBehind) }

func testBackupBehind(t *testing.T) {
	x := openBench(t, Options{FS: forgetfs.New()})
	s, err := x.Define(Stream{Name: "clicks", Consumers: []uint8{Main, Backup}})
	if err != nil {
		t.Fatal(err)
	}
	want := ""
	behind := func() string {
		c := x.Consumer(s.Incarnation, Backup)
		k := c.Take(0, 1<<40)
		if k == nil {
			return ""
		}
		defer k.Release()
		got := ""
		for r := range k.Rows() {
			got += fmt.Sprintf("%d ", r.Seq)
		}
		return got
	}
	n := 0
	for {
		_, _, err := x.Append(context.Background(), "clicks", record.Call{Batch: batch(pad(fmt.Sprint(n), 8000))})
		if r, ok := errors.AsType[*record.Refusal](err); ok && r.Reason == "journal" {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
		want += fmt.Sprintf("%d ", n)
		if n%5 == 0 {
			x.Confirm(x.cut(s).ID, 0)
		}
		if n%20 == 0 {
			x.crash(uint64(n))
			for _, m := range x.Outstanding() {
				x.Confirm(m.ID, x.Pending(m.ID)...)
			}
		}
		if got := behind(); got != want {
			t.Fatalf("after %d calls the backup has %s", n, got)
		}
		if n > 1000 {
			t.Fatal("the ring never ran full")
		}
	}
	c := x.Consumer(s.Incarnation, Backup)
	synctest.Wait()
	if c.Pressure() == 0 {
		t.Error("no pressure")
	}
	k := c.Take(0, 1<<40)
	first, next := k.Range()
	if _, err := x.Cut(k, nil, ManifestHead{ID: x.NewManifestID(), Version: 1, Epoch: c.NewEpoch(), First: first, Next: next, Counts: Counts{Dropped: int64(n)}}); err != nil {
		t.Fatal(err)
	}
	until(t, "calls are taken again", func() bool { ok, _ := x.Accepting(); return ok })
	x.append("clicks", "again")
	x.balanced(s)
	if got, want := c.Totals(), (Totals{Accepted: int64(n) + 1, Dropped: int64(n), Waiting: 1}); got != want {
		t.Errorf("totals of the backup %+v, want %+v", got, want)
	}
}

// What is confirmed stays so when the frame that said it has been overwritten.
func TestProgressOverLaps(t *testing.T) { synctest.Test(t, testProgressOverLaps) }

func testProgressOverLaps(t *testing.T) {
	x := openBench(t, Options{FS: forgetfs.New()})
	s := x.define("clicks")
	m := x.cutInto(s, "a", "b", "c", "d")
	n := x.replace(m, 3)
	x.Confirm(m.ID, 1)
	time.Sleep(2 * confirmDelay)
	for range 3 {
		x.lap(60)
		x.crash(5)
		if got := fmt.Sprint(x.Pending(m.ID), x.Pending(n.ID)); got != "[0 2] [0]" {
			t.Fatalf("pending %s", got)
		}
		if got := x.content(m, 0) + x.content(n, 0); got != "aerror" {
			t.Fatalf("content %q", got)
		}
		x.balanced(s)
	}
	x.Confirm(n.ID, 0)
	x.Confirm(m.ID, 0, 2)
	time.Sleep(2 * confirmDelay)
	x.crash(6)
	for _, m := range x.Outstanding() {
		if m.ID == n.ID || m.Replaces == n.ID {
			t.Errorf("manifest %x is outstanding", m.ID)
		}
	}
}

// A ring that is full of rows that nobody cuts refuses calls, asks for cuts, and takes calls again.
func TestRingFull(t *testing.T) { synctest.Test(t, testRingFull) }

func testRingFull(t *testing.T) {
	x := openBench(t, Options{FS: forgetfs.New()})
	s := x.define("clicks")
	var refusal *record.Refusal
	n := 0
	for ; n < 1000; n++ {
		_, _, err := x.Append(context.Background(), "clicks", record.Call{Batch: batch(pad(fmt.Sprint(n), 8000))})
		if err != nil {
			if !errors.As(err, &refusal) {
				t.Fatalf("append: %v", err)
			}
			break
		}
	}
	if refusal == nil || refusal.Reason != "journal" {
		t.Fatalf("after %d calls: %+v, want a refusal for the journal", n, refusal)
	}
	if ok, reason := x.Accepting(); ok || reason != "journal" {
		t.Errorf("accepting %v %q", ok, reason)
	}
	if x.Consumer(s.Incarnation, Main).Pressure() == 0 {
		t.Error("no pressure")
	}
	x.crash(1)
	if got := len(strings.Fields(x.waiting(s))); got != n {
		t.Fatalf("%d rows wait after a crash, want %d", got, n)
	}
	x.cut(s)
	until(t, "calls are taken again", func() bool {
		_, _, err := x.Append(context.Background(), "clicks", record.Call{Batch: batch("again")})
		return err == nil
	})
	until(t, "the pressure ends", func() bool { return x.Consumer(s.Incarnation, Main).Pressure() == 0 })
	for i := range 200 {
		x.append("clicks", pad(fmt.Sprint(i), 8000))
		if i%10 == 0 {
			x.cut(s)
		}
	}
	x.balanced(s)
}

// A process that is killed again and again soon after its start does not use up the ring.
func TestCrashLoop(t *testing.T) { synctest.Test(t, testCrashLoop) }

func testCrashLoop(t *testing.T) {
	x := openBench(t, Options{FS: forgetfs.New()})
	s := x.define("clicks")
	want := ""
	for i := range 40 {
		x.append("clicks", fmt.Sprint(i))
		want = strings.TrimSpace(fmt.Sprintf("%s %d:%d", want, i+1, i))
		x.crash(uint64(i))
		if got := x.waiting(s); got != want {
			t.Fatalf("start %d: %q waits, want %q", i, got, want)
		}
		x.balanced(s)
	}
	if x.journal.slots > tiny.first {
		t.Errorf("%d slots", x.journal.slots)
	}
}

// Callers that wait together share syncs.
func TestGroupCommit(t *testing.T) {
	x := openBench(t, Options{})
	x.define("clicks")
	const callers, calls = 64, 20
	before := x.committer.groups.Load()
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := make(map[uint64]bool)
	for c := range callers {
		wg.Go(func() {
			for i := range calls {
				r, _, err := x.Append(context.Background(), "clicks", record.Call{Batch: batch(fmt.Sprintf("%d/%d", c, i))})
				if err != nil {
					t.Errorf("append: %v", err)
					return
				}
				mu.Lock()
				if seen[r.First] {
					t.Errorf("sequence %d was given out twice", r.First)
				}
				seen[r.First] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != callers*calls {
		t.Fatalf("%d sequences", len(seen))
	}
	groups := x.committer.groups.Load() - before
	if perSync := float64(callers*calls) / float64(groups); perSync < 4 {
		t.Errorf("%.1f calls share a sync", perSync)
	}
}
