package buffer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer/forgetfs"
	"hydrant/record"
)

// faulty is a disk whose slots fail when told to, and that notices when a file is synced again after its
// sync has failed (I8).
type faulty struct {
	*forgetfs.FS
	t  *testing.T
	mu sync.Mutex
	// fault decides about an operation on a slot; nil: it succeeds.
	fault  func(forgetfs.Op) *forgetfs.Fault
	failed map[string]bool
}

func newFaulty(t *testing.T) *faulty {
	f := &faulty{FS: forgetfs.New(), t: t, failed: make(map[string]bool)}
	f.SetHook(func(op forgetfs.Op) *forgetfs.Fault {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !strings.HasPrefix(op.Path, "/data/journal/j-") {
			return nil
		}
		if op.Kind == forgetfs.OpDatasync && f.failed[op.Path] {
			t.Errorf("%s is synced again after a failure", op.Path)
		}
		if f.fault == nil {
			return nil
		}
		fault := f.fault(op)
		if fault != nil && op.Kind == forgetfs.OpDatasync && fault.Err != nil {
			f.failed[op.Path] = true
		}
		return fault
	})
	return f
}

func (f *faulty) set(fault func(forgetfs.Op) *forgetfs.Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// once fails the next operation of a kind.
func (f *faulty) once(kind forgetfs.Kind, fault forgetfs.Fault) {
	done := false
	f.set(func(op forgetfs.Op) *forgetfs.Fault {
		if done || op.Kind != kind {
			return nil
		}
		done = true
		return &fault
	})
}

// A group whose write or sync fails once is written again in another slot: callers notice nothing, the file
// is never synced again, and its bytes behind the last good sync never count.
func TestOneFailure(t *testing.T) {
	f := func(name string, kind forgetfs.Kind, fault forgetfs.Fault) {
		bubble(t, name, func(t *testing.T) {
			disk := newFaulty(t)
			x := openBench(t, Options{FS: disk.FS})
			s := x.define("clicks")
			x.append("clicks", "a")
			disk.once(kind, fault)
			if r := x.append("clicks", "b"); r.First != 2 {
				t.Errorf("receipt %+v", r)
			}
			m := x.cut(s)
			disk.once(kind, fault)
			if r := x.append("clicks", "c", "d"); r.First != 3 {
				t.Errorf("receipt %+v", r)
			}
			if ok, reason := x.Accepting(); !ok {
				t.Errorf("not accepting: %s", reason)
			}
			disk.once(kind, fault)
			x.Confirm(m.ID, 0)
			until(t, "the manifest ends", func() bool { return len(x.Outstanding()) == 0 })
			if !strings.Contains(x.logs.String(), "abandoned") {
				t.Errorf("no alarm: %s", x.logs)
			}
			for seed := range uint64(4) {
				if got := x.waiting(s); got != "3:c 4:d" {
					t.Fatalf("%q waits", got)
				}
				x.balanced(s)
				disk.set(nil)
				x.crash(seed)
			}
		})
	}
	f("write", forgetfs.OpWrite, forgetfs.Fault{Err: syscall.EIO})
	f("short write", forgetfs.OpWrite, forgetfs.Fault{Err: syscall.ENOSPC, Done: true, Short: 512})
	f("write that took place", forgetfs.OpWrite, forgetfs.Fault{Err: syscall.EIO, Done: true, Short: 1 << 20})
	f("sync", forgetfs.OpDatasync, forgetfs.Fault{Err: syscall.EIO})
	f("sync that took place", forgetfs.OpDatasync, forgetfs.Fault{Err: syscall.EIO, Done: true})
}

// While no slot can be written nothing is accepted and nothing acknowledged is touched; every 5 s another
// slot is tried, and then all goes on.
func TestDiskFails(t *testing.T) { synctest.Test(t, testDiskFails) }

func testDiskFails(t *testing.T) {
	disk := newFaulty(t)
	x := openBench(t, Options{FS: disk.FS})
	s := x.define("clicks")
	x.append("clicks", "a", "b")
	m := x.cut(s)
	x.append("clicks", "c")
	broken := func(op forgetfs.Op) *forgetfs.Fault {
		if op.Kind == forgetfs.OpWrite || op.Kind == forgetfs.OpDatasync {
			return &forgetfs.Fault{Err: syscall.EIO}
		}
		return nil
	}
	disk.set(broken)
	refused := func() {
		t.Helper()
		_, adopted, err := x.Append(context.Background(), "clicks", record.Call{Batch: batch("lost")})
		if r, ok := errors.AsType[*record.Refusal](err); !ok || r.Reason != "failing" || adopted {
			t.Fatalf("append: %v, adopted %v", err, adopted)
		}
	}
	refused()
	refused()
	if ok, reason := x.Accepting(); ok || reason != "failing" {
		t.Errorf("accepting %v %q", ok, reason)
	}
	if got := x.waiting(s); got != "3:c" {
		t.Errorf("%q waits", got)
	}
	if _, err := x.tryCut(s); !errors.Is(err, ErrFailing) {
		t.Errorf("cut: %v", err)
	}
	if _, err := x.Define(Stream{Name: "views"}); !errors.Is(err, ErrFailing) {
		t.Errorf("define: %v", err)
	}
	if got := x.waiting(s); got != "3:c" {
		t.Errorf("after the cut that failed %q waits", got)
	}
	x.Confirm(m.ID, 0)
	x.content(m, 0)
	time.Sleep(12 * time.Second)
	refused()
	disk.set(nil)
	time.Sleep(retrySlot)
	synctest.Wait()
	if ok, reason := x.Accepting(); !ok {
		t.Fatalf("still not accepting: %s", reason)
	}
	x.append("clicks", "d")
	until(t, "the manifest ends", func() bool { return len(x.Outstanding()) == 0 })
	for seed := range uint64(4) {
		got := ""
		for i, row := range strings.Fields(x.waiting(s)) {
			_, data, _ := strings.Cut(row, ":")
			if i > 0 {
				got += " "
			}
			got += data
		}
		if got != "c d" {
			t.Fatalf("%q waits", got)
		}
		x.balanced(s)
		x.crash(seed)
	}
	x.cut(s)
	x.balanced(s)
}

// A pack stays until its COMMIT is durable.
func TestCommitFails(t *testing.T) { synctest.Test(t, testCommitFails) }

func testCommitFails(t *testing.T) {
	disk := newFaulty(t)
	x := openBench(t, Options{FS: disk.FS})
	s := x.define("clicks")
	m := x.cutInto(s, "a", "b")
	time.Sleep(2 * markDelay) // it is the COMMIT that fails, not a MARK
	disk.set(func(op forgetfs.Op) *forgetfs.Fault {
		if op.Kind == forgetfs.OpDatasync {
			return &forgetfs.Fault{Err: syscall.EIO}
		}
		return nil
	})
	x.Confirm(m.ID, 0, 1)
	time.Sleep(2 * confirmDelay)
	if ok, _ := x.Accepting(); ok {
		t.Error("accepting")
	}
	if got := x.content(m, 0) + x.content(m, 1); got != "ab" {
		t.Errorf("content %q", got)
	}
	if n := len(x.Pending(m.ID)); n != 0 {
		t.Errorf("%d objects are pending", n)
	}
	disk.set(nil)
	time.Sleep(2 * retrySlot)
	if n := len(x.Outstanding()); n != 0 {
		t.Errorf("%d manifests are outstanding", n)
	}
	if _, err := x.OpenObject(m, 0); err == nil {
		t.Error("the pack is still there")
	}
}

// Manifests that have not ended, and streams, are bounded by what a checkpoint has room for.
func TestLedgerIsBounded(t *testing.T) { synctest.Test(t, testLedgerIsBounded) }

func testLedgerIsBounded(t *testing.T) {
	x := openBench(t, Options{FS: forgetfs.New()})
	s := x.define("clicks")
	var list []*Manifest
	crowdedAt := 0
	for {
		x.append("clicks", "a")
		m, err := x.tryCut(s)
		if errors.Is(err, ErrCrowded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
		if x.Crowded() && crowdedAt == 0 {
			crowdedAt = len(list)
		}
	}
	if crowdedAt < 20 || len(list) <= crowdedAt || len(list) > 50 {
		t.Errorf("crowded at %d, full at %d", crowdedAt, len(list))
	}
	x.crash(1)
	if n := len(x.Outstanding()); n != len(list) {
		t.Errorf("%d manifests are outstanding, want %d", n, len(list))
	}
	if got := x.waiting(s); got != fmt.Sprintf("%d:a", len(list)+1) {
		t.Errorf("%q waits", got)
	}
	for _, m := range list {
		x.Confirm(m.ID, 0)
	}
	time.Sleep(time.Second)
	if n := len(x.Outstanding()); n != 0 || x.Crowded() {
		t.Errorf("%d manifests are outstanding", n)
	}
	x.cut(s)
	x.balanced(s)

	source := rand.NewChaCha8([32]byte{1})
	n := 0
	for ; n < 100; n++ {
		spec := make([]byte, 3000) // that nothing compresses
		source.Read(spec)
		if _, err := x.Define(Stream{Name: fmt.Sprint(n), Spec: spec}); errors.Is(err, ErrTooManyStreams) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n < 4 || n > 12 {
		t.Errorf("%d streams of 3 kB fit into a checkpoint of %d", n, tiny.slot/4)
	}
	x.lap(40)
	x.crash(2)
	if got := len(x.Streams()); got != n+1 {
		t.Errorf("%d streams, want %d", got, n+1)
	}
}

// What takes the room may be tags as well. A stream for which there is just no room can be ended all the same,
// and that makes room.
func TestStreamsAreBounded(t *testing.T) { synctest.Test(t, testStreamsAreBounded) }

func testStreamsAreBounded(t *testing.T) {
	x := openBench(t, Options{FS: forgetfs.New()})
	source := rand.NewChaCha8([32]byte{1})
	tags := func(n int) map[string]string {
		out := map[string]string{}
		for i := range n {
			value := make([]byte, 256) // that nothing compresses
			source.Read(value)
			out[fmt.Sprint(i)] = string(value)
		}
		return out
	}
	var made []Stream
	for n := range 100 {
		s, err := x.Define(Stream{Name: fmt.Sprint(n), Tags: tags(12)})
		if errors.Is(err, ErrTooManyStreams) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		made = append(made, s)
	}
	if n := len(made); n < 4 || n > 12 {
		t.Fatalf("%d streams with 3 kB of tags fit into a checkpoint of %d", n, tiny.slot/4)
	}
	grown := made[0]
	grown.Tags = tags(50)
	if _, err := x.Define(grown); !errors.Is(err, ErrTooManyStreams) {
		t.Errorf("more tags: %v", err)
	}
	x.lap(20)
	last := made[len(made)-1]
	for _, state := range []State{Paused, Discarding, Gone} {
		last.State = state
		if _, err := x.Define(last); err != nil {
			t.Fatalf("state %d without room: %v", state, err)
		}
	}
	if _, err := x.Define(Stream{Name: "again", Tags: tags(12)}); err != nil {
		t.Errorf("with room again: %v", err)
	}
	x.lap(20)
	x.crash(1)
	if got := len(x.Streams()); got != len(made) {
		t.Errorf("%d streams, want %d", got, len(made))
	}
}

// While a sync hangs, calls beyond one group are refused at once instead of piling up.
func TestStall(t *testing.T) { synctest.Test(t, testStall) }

func testStall(t *testing.T) {
	disk := newFaulty(t)
	x := openBench(t, Options{FS: disk.FS, Memory: 4 << 20})
	x.define("clicks")
	disk.FS.SetHook(func(op forgetfs.Op) *forgetfs.Fault {
		if op.Kind == forgetfs.OpDatasync && strings.HasPrefix(op.Path, "/data/journal/j-") {
			time.Sleep(30 * time.Second)
		}
		return nil
	})
	var mu sync.Mutex
	var stored, refused int
	var wg sync.WaitGroup
	call := func() {
		wg.Go(func() {
			began := time.Now()
			_, _, err := x.Append(context.Background(), "clicks", record.Call{Batch: batch(pad("x", 8000))})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				stored++
				return
			}
			if r, ok := errors.AsType[*record.Refusal](err); !ok || r.Reason != "journal" || time.Since(began) > 0 {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
			refused++
		})
		synctest.Wait()
	}
	call()
	time.Sleep(stallAfter + time.Millisecond)
	for range 20 {
		call()
	}
	mu.Lock()
	most := 1 + int(x.journal.geo.maxGroup()/8000) + 1
	if refused < 20-most || refused == 20 {
		t.Errorf("%d of 20 calls were refused at once, with room for %d", refused, most)
	}
	mu.Unlock()
	wg.Wait()
	if stored+refused != 21 {
		t.Errorf("%d stored, %d refused", stored, refused)
	}
	disk.FS.SetHook(nil)
}

// A disk without room for another slot refuses calls when the ring is full, and goes on when rows are cut.
func TestNoRoomForSlots(t *testing.T) { synctest.Test(t, testNoRoomForSlots) }

func testNoRoomForSlots(t *testing.T) {
	disk := forgetfs.New()
	x := openBench(t, Options{FS: disk})
	s := x.define("clicks")
	disk.SetOther(1 << 40)
	disk.SetCapacity(disk.Used() + 1<<40 + 64<<10)
	stored := 0
	for {
		_, _, err := x.Append(context.Background(), "clicks", record.Call{Batch: batch(pad(fmt.Sprint(stored), 8000))})
		if r, ok := errors.AsType[*record.Refusal](err); ok && (r.Reason == "journal" || r.Reason == "disk") {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		stored++
	}
	x.crash(3)
	if got := len(strings.Fields(x.waiting(s))); got != stored {
		t.Fatalf("%d rows wait, %d were stored", got, stored)
	}
	x.o.FS.(*forgetfs.FS).SetCapacity(0)
	x.cut(s)
	until(t, "calls are taken again", func() bool {
		_, _, err := x.Append(context.Background(), "clicks", record.Call{Batch: batch("again")})
		return err == nil
	})
	x.balanced(s)
}

// A caller that goes away early leaves its buffer behind, and its rows are stored all the same.
func TestCallerGoesAway(t *testing.T) { synctest.Test(t, testCallerGoesAway) }

func testCallerGoesAway(t *testing.T) {
	disk := newFaulty(t)
	x := openBench(t, Options{FS: disk.FS})
	s := x.define("clicks")
	disk.FS.SetHook(func(op forgetfs.Op) *forgetfs.Fault {
		if op.Kind == forgetfs.OpDatasync {
			time.Sleep(time.Second)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, adopted, err := x.Append(ctx, "clicks", record.Call{Batch: batch("a")})
	if !errors.Is(err, context.DeadlineExceeded) || !adopted {
		t.Errorf("append: %v, adopted %v", err, adopted)
	}
	disk.FS.SetHook(nil)
	x.append("clicks", "b")
	if got := x.waiting(s); got != "1:a 2:b" {
		t.Errorf("%q waits", got)
	}
	x.balanced(s)
}

// What cannot be is refused before anything is stored.
func TestAppendRefuses(t *testing.T) {
	x := openBench(t, Options{FS: forgetfs.New()})
	s := x.define("clicks")
	f := func(name, stream string, b *record.Batch, want func(error) bool) {
		t.Helper()
		if _, adopted, err := x.Append(context.Background(), stream, record.Call{Batch: b}); !want(err) || adopted {
			t.Errorf("%s: %v", name, err)
		}
	}
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	f("too large for a slot", "clicks", batch(pad("x", int(x.journal.geo.maxFrame()))), is(ErrTooLarge))
	f("empty", "clicks", record.NewBatch(nil), func(err error) bool { return err != nil })
	f("no stream", "nothing", batch("a"), func(err error) bool {
		e, ok := errors.AsType[*record.NotFound](err)
		return ok && !e.Inactive && e.Stream == "nothing"
	})
	x.append("clicks", pad("x", int(x.journal.geo.maxFrame())-frameHeader-dataPrefix-16))
	x.Close()
	f("closed", "clicks", batch("a"), func(err error) bool {
		e, ok := errors.AsType[*record.Refusal](err)
		return ok && e.Reason == "stopping"
	})
	if _, err := x.Define(Stream{Name: "views"}); !errors.Is(err, ErrClosed) {
		t.Errorf("define: %v", err)
	}
	if err := x.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	x.start()
	if got := len(x.waiting(s)); got < 20000 {
		t.Errorf("%d bytes wait", got)
	}
}

// A manifest whose last object was replaced, and whose others are there, has ended but for its COMMIT. Nobody
// calls for that after a crash.
func TestCommitIsDueAtStart(t *testing.T) { synctest.Test(t, testCommitIsDueAtStart) }

func testCommitIsDueAtStart(t *testing.T) {
	x := openBench(t, Options{FS: forgetfs.New()})
	s := x.define("clicks")
	m := x.cutInto(s, "a", "b")
	x.Confirm(m.ID, 0)
	time.Sleep(time.Second)
	n := x.replace(m, 1)
	x.crash(1)
	if out := x.Outstanding(); len(out) != 2 || len(x.Pending(m.ID)) != 0 {
		t.Fatalf("%d manifests are outstanding, pending %v: the COMMIT was not to be written yet", len(out), x.Pending(m.ID))
	}
	time.Sleep(time.Second)
	if out := x.Outstanding(); len(out) != 1 || out[0].ID != n.ID {
		t.Errorf("%d manifests are outstanding, want the new one alone", len(out))
	}
}

// While it is not known whether a REPLACE is durable its objects are not pending, whatever becomes of others of
// the same manifest.
func TestReplaceInDoubt(t *testing.T) { synctest.Test(t, testReplaceInDoubt) }

func testReplaceInDoubt(t *testing.T) {
	disk := newFaulty(t)
	x := openBench(t, Options{FS: disk.FS})
	s := x.define("clicks")
	m := x.cutInto(s, "a", "b", "c")
	time.Sleep(2 * markDelay)
	disk.set(func(op forgetfs.Op) *forgetfs.Fault {
		if op.Kind == forgetfs.OpDatasync {
			return &forgetfs.Fault{Err: syscall.EIO}
		}
		return nil
	})
	replace := func(object int) error {
		h := m.ManifestHead
		h.ID, h.Replaces, h.Replaced, h.Counts = x.NewManifestID(), m.ID, []int{object}, Counts{Failed: 1}
		p, err := x.NewPack()
		if err != nil {
			return err
		}
		x.object(p, "error", Error, m.First)
		if err := p.Seal(h); err != nil {
			return err
		}
		_, err = x.Replace(m.ID, []int{object}, []*Pack{p}, h, "refused")
		return err
	}
	first := make(chan error, 1)
	go func() { first <- replace(0) }()
	synctest.Wait()
	if err := replace(1); !errors.Is(err, ErrFailing) {
		t.Errorf("second replace: %v", err)
	}
	if got := fmt.Sprint(x.Pending(m.ID)); got != "[1 2]" {
		t.Errorf("pending %s while the first REPLACE is in doubt, want [1 2]", got)
	}
	disk.set(nil)
	time.Sleep(2 * retrySlot)
	if err := <-first; err != nil {
		t.Errorf("first replace: %v", err)
	}
	if got := fmt.Sprint(x.Pending(m.ID)); got != "[1 2]" {
		t.Errorf("pending %s, want [1 2]", got)
	}
}
