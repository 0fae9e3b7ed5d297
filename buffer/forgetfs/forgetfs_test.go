package forgetfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer/forgetfs"
	"hydrant/buffer/fsys"
	"hydrant/buffer/fsys/fsystest"
)

func TestSuite(t *testing.T) {
	fsystest.Run(t, func(t *testing.T) (fsys.FS, string) {
		f := forgetfs.New()
		if err := f.Mkdir("/d"); err != nil {
			t.Fatal(err)
		}
		return f, "/d"
	})
}

// disk is a file system with one durable file "a" of two blocks of 'o'.
func disk(t *testing.T) (*forgetfs.FS, fsys.File) {
	t.Helper()
	f := forgetfs.New()
	h := create(t, f, "/a", strings.Repeat("o", 2*forgetfs.Block))
	must(t, h.Datasync())
	must(t, f.SyncDir("/"))
	must(t, f.Durable("/a"))
	return f, h
}

func create(t *testing.T, f *forgetfs.FS, path, content string) fsys.File {
	t.Helper()
	h, err := f.OpenFile(path, fsys.Create)
	must(t, err)
	write(t, h, 0, content)
	return h
}

func write(t *testing.T, h fsys.File, off int64, s string) {
	t.Helper()
	_, err := h.WriteAt([]byte(s), off)
	must(t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sum prints a file as the first byte of each sector.
func sum(t *testing.T, f *forgetfs.FS, path string) string {
	t.Helper()
	b, err := f.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "-"
	}
	must(t, err)
	var s []byte
	for i := 0; i < len(b); i += forgetfs.Sector {
		s = append(s, b[i])
	}
	return string(bytes.ReplaceAll(s, []byte{0}, []byte{'.'}))
}

func TestBlocksSurviveOneByOne(t *testing.T) {
	f, h := disk(t)
	write(t, h, 0, strings.Repeat("n", 2*forgetfs.Block))
	if n := len(f.Units()); n != 2 {
		t.Fatalf("%d units, want 2: %v", n, f.Units())
	}
	const o, n = "oooooooo", "nnnnnnnn"
	for mask, want := range []string{o + o, n + o, o + n, n + n} {
		if got := sum(t, f.Image(forgetfs.Subset(uint64(mask))), "/a"); got != want {
			t.Errorf("subset %b: got %s, want %s", mask, got, want)
		}
	}
	torn := f.Image(func(i int, _ forgetfs.Unit) forgetfs.Fate { return forgetfs.Fate{Kept: i == 0, Torn: 0b10000001} })
	if got, want := sum(t, torn, "/a"), "onnnnnno"+o; got != want {
		t.Errorf("torn: got %s, want %s", got, want)
	}
	must(t, h.Datasync())
	if got := sum(t, f.Image(forgetfs.None), "/a"); got != n+n {
		t.Errorf("after sync: got %s", got)
	}
}

func TestOlderVersionsSurvive(t *testing.T) {
	f, h := disk(t)
	write(t, h, 0, strings.Repeat("1", forgetfs.Block))
	write(t, h, 0, strings.Repeat("2", forgetfs.Block))
	for v, want := range []string{"22222222", "11111111", "11111111"} {
		img := f.Image(func(int, forgetfs.Unit) forgetfs.Fate { return forgetfs.Fate{Kept: true, Version: v} })
		if got := sum(t, img, "/a")[:8]; got != want {
			t.Errorf("version %d: got %s, want %s", v, got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	f, h := disk(t)
	must(t, h.Allocate(0, 4*forgetfs.Block))
	write(t, h, 3*forgetfs.Block, strings.Repeat("n", forgetfs.Block))
	const old = "oooooooooooooooo"
	for mask, want := range []string{old, old + "................", old, old + "........nnnnnnnn"} {
		if got := sum(t, f.Image(forgetfs.Subset(uint64(mask))), "/a"); got != want {
			t.Errorf("growing, subset %b: got %s, want %s", mask, got, want)
		}
	}
	must(t, h.Datasync())
	must(t, h.Truncate(forgetfs.Block))
	if got := sum(t, f.Image(forgetfs.None), "/a"); got != old+"........nnnnnnnn" {
		t.Errorf("cut, lost: got %s", got)
	}
	if got := sum(t, f.Image(forgetfs.All), "/a"); got != old[:8] {
		t.Errorf("cut, kept: got %s", got)
	}
}

func TestNames(t *testing.T) {
	f, _ := disk(t)
	h := create(t, f, "/tmp", "t")
	must(t, h.Datasync())
	must(t, f.Rename("/tmp", "/b"))
	must(t, f.Remove("/a"))
	// units: create, rename, remove
	for mask, want := range map[uint64]string{
		0: "a", 1: "a tmp", 2: "a b", 3: "a b", 4: "", 5: "tmp", 7: "b",
	} {
		var got []string
		for _, p := range f.Image(forgetfs.Subset(mask)).Files("/") {
			got = append(got, strings.TrimPrefix(p, "/"))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("subset %b: got %v, want %s", mask, got, want)
		}
	}
	must(t, f.SyncDir("/"))
	if got := fmt.Sprint(f.Image(forgetfs.None).Files("/")); got != "[/b]" {
		t.Errorf("after syncing the directory: %s", got)
	}
}

func TestDirectoryThatIsNotDurable(t *testing.T) {
	f := forgetfs.New()
	must(t, f.Mkdir("/d"))
	must(t, create(t, f, "/d/x", "1").Datasync())
	must(t, f.SyncDir("/d"))
	if err := f.Durable("/d/x"); err == nil {
		t.Error("a file in a directory that may vanish is called durable")
	}
	if got := f.Image(forgetfs.None).Files("/"); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	must(t, f.SyncDir("/"))
	must(t, f.Durable("/d/x"))
	if got := sum(t, f.Image(forgetfs.None), "/d/x"); got != "1" {
		t.Errorf("got %v", got)
	}
}

// A failed sync leaves the pages readable and clean: syncing again succeeds and writes nothing.
func TestFailedSync(t *testing.T) {
	f, h := disk(t)
	write(t, h, 0, strings.Repeat("n", forgetfs.Block))
	f.SetHook(func(op forgetfs.Op) *forgetfs.Fault {
		if op.Kind == forgetfs.OpDatasync {
			return &forgetfs.Fault{Err: syscall.EIO}
		}
		return nil
	})
	if err := h.Datasync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v, want EIO", err)
	}
	f.SetHook(nil)
	must(t, h.Datasync())
	if got := sum(t, f, "/a")[:8]; got != "nnnnnnnn" {
		t.Errorf("reading back: %s", got)
	}
	if got := sum(t, f.Image(forgetfs.None), "/a")[:8]; got != "oooooooo" {
		t.Errorf("the second sync wrote what the first had lost: %s", got)
	}
	if got := sum(t, f.Image(forgetfs.All), "/a")[:8]; got != "nnnnnnnn" {
		t.Errorf("what the failed sync may have written: %s", got)
	}
	if f.Durable("/a") == nil {
		t.Error("durable after a failed sync")
	}
}

func TestFaults(t *testing.T) {
	f, h := disk(t)
	f.SetHook(func(op forgetfs.Op) *forgetfs.Fault {
		return &forgetfs.Fault{Err: syscall.EIO, Done: true, Short: 512}
	})
	n, err := h.WriteAt([]byte(strings.Repeat("n", 1024)), 0)
	if n != 512 || !errors.Is(err, syscall.EIO) {
		t.Errorf("short write: %d, %v", n, err)
	}
	if err := f.Remove("/a"); !errors.Is(err, syscall.EIO) {
		t.Errorf("remove whose answer is lost: %v", err)
	}
	f.SetHook(nil)
	if got := f.Files("/"); len(got) != 0 {
		t.Errorf("it was done all the same; got %v", got)
	}
}

func TestFull(t *testing.T) {
	f, h := disk(t)
	f.SetCapacity(5 * forgetfs.Block)
	f.SetOther(forgetfs.Block)
	n, err := h.WriteAt(make([]byte, 5*forgetfs.Block), 0)
	if n != 4*forgetfs.Block || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %d, %v", n, err)
	}
	if err := h.Allocate(0, 5*forgetfs.Block); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("allocate: %v", err)
	}
	must(t, h.Truncate(forgetfs.Block))
	if s, _ := f.Statfs("/"); s.Free != 3*forgetfs.Block || s.Total != 5*forgetfs.Block {
		t.Fatalf("got %+v", s)
	}
	must(t, f.Remove("/a"))
	if f.Used() != forgetfs.Block {
		t.Fatalf("an open file has %d bytes", f.Used())
	}
	must(t, h.Close())
	if f.Used() != 0 {
		t.Fatalf("%d bytes are taken by nothing", f.Used())
	}
}

func TestCrashAt(t *testing.T) {
	f, h := disk(t)
	l, err := f.Lock("/LOCK")
	must(t, err)
	f.CrashAt(f.Ops() + 2)
	write(t, h, 0, strings.Repeat("n", forgetfs.Block))
	if err := h.Datasync(); !errors.Is(err, forgetfs.ErrCrashed) {
		t.Fatalf("got %v", err)
	}
	if _, err := h.ReadAt(make([]byte, 1), 0); !errors.Is(err, forgetfs.ErrCrashed) {
		t.Fatalf("read after the crash: %v", err)
	}
	img := f.Image(forgetfs.None)
	if got := sum(t, img, "/a")[:8]; got != "oooooooo" {
		t.Errorf("got %s", got)
	}
	l2, err := img.Lock("/LOCK")
	must(t, err)
	must(t, l2.Close())
	must(t, l.Close())
}

func TestSameSeedSameImage(t *testing.T) {
	f, h := disk(t)
	write(t, h, 0, strings.Repeat("n", 2*forgetfs.Block))
	differ := false
	for seed := range uint64(20) {
		a, b := sum(t, f.Image(forgetfs.Random(seed)), "/a"), sum(t, f.Image(forgetfs.Random(seed)), "/a")
		if a != b {
			t.Fatalf("seed %d: %s and %s", seed, a, b)
		}
		differ = differ || a != sum(t, f.Image(forgetfs.Random(seed+1)), "/a")
	}
	if !differ {
		t.Error("all seeds give one image")
	}
}

func TestForkIsApart(t *testing.T) {
	f, h := disk(t)
	write(t, h, 0, "n")
	c := f.Fork()
	write(t, h, 0, "m")
	g, err := c.OpenFile("/a", fsys.ReadWrite)
	must(t, err)
	write(t, g, forgetfs.Block, "c")
	must(t, g.Datasync())
	if a, b := sum(t, f, "/a"), sum(t, c, "/a"); a[0] != 'm' || a[8] != 'o' || b[0] != 'n' || b[8] != 'c' {
		t.Errorf("got %s and %s", a, b)
	}
	if got := sum(t, f.Image(forgetfs.None), "/a"); got != "oooooooooooooooo" {
		t.Errorf("the first disk was synced through its copy: %s", got)
	}
}

func TestFlip(t *testing.T) {
	f, _ := disk(t)
	must(t, f.Flip("/a", 512, 1))
	if got := sum(t, f.Image(forgetfs.None), "/a")[:3]; got != "ono" {
		t.Errorf("got %s", got)
	}
}

// A stalling disk must not hold a lock: in a bubble time goes on only when everything waits.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := forgetfs.New()
		f.SetHook(func(op forgetfs.Op) *forgetfs.Fault {
			if op.Kind == forgetfs.OpDatasync {
				time.Sleep(time.Hour)
			}
			return nil
		})
		h := create(t, f, "/a", "x")
		start := time.Now()
		done := make(chan error)
		go func() { done <- h.Datasync() }()
		synctest.Wait()
		create(t, f, "/b", "y") // others go on
		must(t, <-done)
		if d := time.Since(start); d != time.Hour {
			t.Errorf("took %v", d)
		}
	})
}
