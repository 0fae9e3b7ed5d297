package buffer

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer/forgetfs"
	"hydrant/buffer/fsys"
	"hydrant/record"
)

// TestEveryNewDirectoryIsSynced: of a data directory that is made with directories above it, none is lost in a power
// cut once it has been opened, also where an earlier start had made them and was killed at once.
func TestEveryNewDirectoryIsSynced(t *testing.T) {
	for _, made := range []string{"", "/srv", "/srv/a/b", "/srv/a/b/data"} {
		disk := forgetfs.New()
		if made != "" {
			if err := disk.Mkdir(made); err != nil {
				t.Fatal(err)
			}
		}
		x := openBench(t, Options{FS: disk, Dir: "/srv/a/b/data"})
		s := x.define("clicks")
		x.append("clicks", "a")
		id := x.Directory()
		image := disk.Image(forgetfs.None)
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		x.o.FS = image
		x.start()
		if x.Directory() != id || x.waiting(s) != "1:a" {
			t.Errorf("with %q there before: directory %x and rows %q after a power cut", made, x.Directory(), x.waiting(s))
		}
	}
}

// TestUnreadableDirectoryAbove: a directory above that cannot be synced, and in which nothing was made, is nobody's
// fault; one in which a name was made is.
func TestUnreadableDirectoryAbove(t *testing.T) {
	for _, above := range []string{"/srv", "/srv/a"} {
		disk := forgetfs.New()
		if err := errors.Join(disk.Mkdir("/srv/a"), disk.SyncDir("/"), disk.SyncDir("/srv")); err != nil {
			t.Fatal(err)
		}
		disk.SetHook(func(op forgetfs.Op) *forgetfs.Fault {
			if op.Kind == forgetfs.OpSyncDir && op.Path == above {
				return &forgetfs.Fault{Err: syscall.EACCES}
			}
			return nil
		})
		b, err := Open(Options{FS: disk, Dir: "/srv/a/b/data", geometry: tiny})
		if err == nil {
			b.Close()
		}
		if made := above == "/srv/a"; (err != nil) != made {
			t.Errorf("%s cannot be synced: %v", above, err)
		}
	}
}

// slowBallast is a disk on which everything about the ballast waits for a token.
type slowBallast struct {
	*forgetfs.FS
	asked, tokens chan struct{}
}

func (s *slowBallast) wait(name string) {
	if path.Base(name) == ballastName {
		s.asked <- struct{}{}
		<-s.tokens
	}
}

func (s *slowBallast) OpenFile(name string, flag fsys.Flag) (fsys.File, error) {
	if flag == fsys.Create {
		s.wait(name)
	}
	return s.FS.OpenFile(name, flag)
}

func (s *slowBallast) Remove(name string) error {
	s.wait(name)
	return s.FS.Remove(name)
}

// TestBallastHoldsNobodyUp: while the ballast is removed or made, calls are admitted, packs grow, and nobody else
// touches it.
func TestBallastHoldsNobodyUp(t *testing.T) {
	disk := &slowBallast{FS: forgetfs.New(), asked: make(chan struct{}), tokens: make(chan struct{})}
	front := newFront(8 << 20)
	made := make(chan *space)
	go func() {
		made <- newSpace(spaceOptions{FS: disk, Dir: "/", Disk: 64 << 20, Memory: 16 << 20, Front: front})
	}()
	<-disk.asked
	disk.tokens <- struct{}{}
	s := <-made
	front.add(nil, 1, Main, 1)
	s.addStream(1, 0)
	busy := func(what string) {
		t.Helper()
		<-disk.asked
		if _, err := s.reservePut(1, 1, 100, batch("x").Encoded(), false); err != nil {
			t.Errorf("while the ballast is %s: %v", what, err)
		}
		if err := s.packGrows(1000); err != nil {
			t.Errorf("while the ballast is %s: %v", what, err)
		}
		if n := s.lend(); n != 0 {
			t.Errorf("while the ballast is %s it is lent to another one", what)
		}
		s.restock()
		disk.tokens <- struct{}{}
	}
	lent := make(chan int64)
	go func() { lent <- s.lend() }()
	busy("freed")
	if n := <-lent; n != 1<<20 {
		t.Errorf("lent %d bytes", n)
	}
	done := make(chan struct{})
	go func() { s.unlend(); close(done) }()
	busy("made")
	<-done
	if st := s.stats(); st.Ballast != 1<<20 || st.Making != 2000 {
		t.Errorf("stats %+v", st)
	}
}

// sealOne seals a pack for what waits.
func (x *bench) sealOne(s Stream) (*Claim, *Pack, ManifestHead) {
	x.t.Helper()
	c := x.Consumer(s.Incarnation, Main)
	k := c.Take(0, 1<<40)
	first, next := k.Range()
	h := ManifestHead{
		ID: x.NewManifestID(), Incarnation: s.Incarnation, Version: s.Version, Epoch: c.NewEpoch(), First: first, Next: next,
		Counts: Counts{OK: int64(next - first)},
	}
	p, err := x.NewPack()
	if err != nil {
		x.t.Fatal(err)
	}
	if _, err := p.Begin(ObjectHead{Key: "k"}); err != nil {
		x.t.Fatal(err)
	}
	if err := errors.Join(p.End(h.Counts.OK, first, 1), p.Seal(h)); err != nil {
		x.t.Fatal(err)
	}
	return k, p, h
}

// TestDoubtfulPack: a pack whose frame could not be stored stays while a crash may find the frame, and goes, with
// what it holds of the disk, as soon as the journal has gone on elsewhere.
func TestDoubtfulPack(t *testing.T) {
	f := func(name string, try func(x *bench, cut func() error, p *Pack)) {
		bubble(t, name, func(t *testing.T) {
			disk := newFaulty(t)
			x := openBench(t, Options{FS: disk.FS})
			s := x.define("clicks")
			x.append("clicks", "a")
			k, p, h := x.sealOne(s)
			disk.set(func(op forgetfs.Op) *forgetfs.Fault {
				if op.Kind == forgetfs.OpDatasync || op.Kind == forgetfs.OpCreate {
					return &forgetfs.Fault{Err: syscall.EIO, Done: true}
				}
				return nil
			})
			try(x, func() error { _, err := x.Cut(k, []*Pack{p}, h); return err }, p)
			if n := len(disk.Files("/data/packs")); n != 1 || x.space.stats().Making == 0 {
				t.Errorf("%d packs, %d bytes, while a crash may find the frame", n, x.space.stats().Making)
			}
			k.Release()
			disk.set(nil)
			until(t, "the journal works again", func() bool { ok, _ := x.Accepting(); return ok })
			until(t, "the pack is gone", func() bool {
				return len(disk.Files("/data/packs")) == 0 && x.space.stats().Making == 0
			})
			if got := fmt.Sprint(x.waiting(s)); !strings.Contains(got, "1:a") {
				t.Errorf("%s waits", got)
			}
			x.cut(s)
			x.balanced(s)
		})
	}
	f("aborted", func(x *bench, cut func() error, p *Pack) {
		if err := cut(); !errors.Is(err, ErrFailing) {
			x.t.Errorf("cut: %v", err)
		}
		p.Abort()
	})
	// The second attempt is refused before a frame is written; that of the first may still be found.
	f("refused again, then aborted", func(x *bench, cut func() error, p *Pack) {
		for range 2 {
			if err := cut(); !errors.Is(err, ErrFailing) {
				x.t.Errorf("cut: %v", err)
			}
		}
		p.Abort()
	})
	// A pack that is kept for another attempt stays and can be cut.
	bubble(t, "cut again", func(t *testing.T) {
		disk := newFaulty(t)
		x := openBench(t, Options{FS: disk.FS})
		s := x.define("clicks")
		x.append("clicks", "a")
		k, p, h := x.sealOne(s)
		disk.set(func(op forgetfs.Op) *forgetfs.Fault {
			if op.Kind == forgetfs.OpDatasync || op.Kind == forgetfs.OpCreate {
				return &forgetfs.Fault{Err: syscall.EIO}
			}
			return nil
		})
		if _, err := x.Cut(k, []*Pack{p}, h); !errors.Is(err, ErrFailing) {
			t.Errorf("cut: %v", err)
		}
		disk.set(nil)
		until(t, "the journal works again", func() bool { ok, _ := x.Accepting(); return ok })
		time.Sleep(time.Second)
		if _, err := x.Cut(k, []*Pack{p}, h); err != nil {
			t.Fatalf("cut again: %v", err)
		}
		if st := x.space.stats(); st.Making != 0 || st.Packs != p.ref().Length {
			t.Errorf("%+v", st)
		}
		x.Confirm(h.ID, 0)
		until(t, "the manifest ends", func() bool { return len(x.Outstanding()) == 0 })
		if left := disk.Files("/data/packs"); len(left) != 0 {
			t.Errorf("left %v", left)
		}
	})
}

// A stream's own share is what its rows and packs may hold, whatever was there when it was set; what is taken to its
// destination makes room again. Other streams do not notice.
func TestLimitDisk(t *testing.T) { synctest.Test(t, testLimitDisk) }

func testLimitDisk(t *testing.T) {
	x := openBench(t, Options{FS: forgetfs.New()})
	x.LimitDisk(map[string]int64{"clicks": 3 * (1000 + rowOverhead)}) // before there is such a stream
	s := x.define("clicks")
	x.define("views")
	put := func(want string) {
		t.Helper()
		_, _, err := x.Append(context.Background(), "clicks", record.Call{Batch: batch(strings.Repeat("x", 1000))})
		got := ""
		if e, ok := errors.AsType[*record.Refusal](err); ok {
			got = e.Message
		} else if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	const full = "The stream's share of the disk is full. Send the call again."
	for range 3 {
		put("")
	}
	put(full)
	x.append("views", strings.Repeat("x", 9000))
	x.restart()
	x.LimitDisk(map[string]int64{"clicks": 3 * (1000 + rowOverhead)}) // a limit is not kept in the data directory
	put(full)
	m := x.cut(s) // its pack holds as much as the rows, about
	put(full)
	x.Confirm(m.ID, 0)
	until(t, "the pack is gone", func() bool { return x.space.stats().Packs == 0 })
	for range 3 {
		put("")
	}
	put(full)
	x.LimitDisk(nil)
	put("")
	x.LimitDisk(map[string]int64{"clicks": 1})
	put(full)
	x.balanced(s)
}
