package buffer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path"
	"strings"
	"testing"
	"testing/synctest"

	"hydrant/buffer/forgetfs"
	"hydrant/buffer/fsys"
	"hydrant/record"
)

// found lists the frames on a disk, oldest segment first.
func found(t *testing.T, disk *forgetfs.FS) (list []FrameInfo) {
	t.Helper()
	err := InspectJournal(disk, "/data/journal", func(SlotInfo) {}, func(f FrameInfo) bool { list = append(list, f); return true })
	if err != nil {
		t.Fatalf("inspect: %v", err)
	}
	return list
}

// pick returns the n-th frame (from 0; -1: the last) of a type that was not written while a slot was
// prepared.
func pick(t *testing.T, disk *forgetfs.FS, kind string, n int) FrameInfo {
	t.Helper()
	var list []FrameInfo
	for _, f := range found(t, disk) {
		if f.Type == kind && !f.Opening {
			list = append(list, f)
		}
	}
	if n < 0 {
		n += len(list)
	}
	if n < 0 || n >= len(list) {
		t.Fatalf("there are %d %s frames", len(list), kind)
	}
	return list[n]
}

// spoil flips a bit of a frame's payload, or so many bits of its header that it cannot be put right.
func spoil(t *testing.T, disk *forgetfs.FS, f FrameInfo, header bool) {
	t.Helper()
	off, mask := f.Offset+frameHeader+1, byte(0x10)
	if header {
		off, mask = f.Offset+20, 0x5a
	}
	if err := disk.Flip(f.File, off, mask); err != nil {
		t.Fatal(err)
	}
}

// damaged is a stopped Buffer whose disk is about to be spoiled: two streams; of clicks the rows 1-2 are
// under a manifest that was delivered, 3-4 under one that is outstanding, and 5-8 wait.
type damaged struct {
	*bench
	disk         *forgetfs.FS
	clicks, view Stream
	out          *Manifest
}

func newDamaged(t *testing.T) *damaged {
	disk := forgetfs.New()
	x := &damaged{bench: openBench(t, Options{FS: disk}), disk: disk}
	x.clicks, x.view = x.define("clicks"), x.define("views")
	x.append("clicks", "a", "b")
	m := x.cut(x.clicks)
	x.Confirm(m.ID, 0)
	until(t, "the manifest ends", func() bool { return len(x.Outstanding()) == 0 })
	x.append("clicks", "c", "d")
	x.out = x.cut(x.clicks)
	x.append("clicks", "e", "f")
	x.append("views", "v1")
	x.append("clicks", "g")
	x.append("views", "v2")
	x.append("clicks", "h")
	x.proven()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x.Buffer = nil
	return x
}

// proven waits until a MARK proves all groups so far.
func (x *bench) proven() {
	x.t.Helper()
	until(x.t, "a MARK is written", func() bool { return x.committer.marked() })
}

// Damage to rows takes exactly these rows, is counted, and is not counted again.
func TestDamagedRows(t *testing.T) {
	f := func(name string, n int, header bool, clicks, views string, lost int64) {
		bubble(t, name, func(t *testing.T) {
			x := newDamaged(t)
			spoil(t, x.disk, pick(t, x.disk, "DATA", n), header)
			for start := range 3 {
				x.start()
				if got := x.waiting(x.clicks); got != clicks {
					t.Errorf("start %d: %q waits, want %q", start, got, clicks)
				}
				if got := x.waiting(x.view); got != views {
					t.Errorf("start %d: %q waits, want %q", start, got, views)
				}
				x.balanced(x.clicks)
				x.balanced(x.view)
				got := x.Consumer(x.clicks.Incarnation, Main).Totals().Lost + x.Consumer(x.view.Incarnation, Main).Totals().Lost
				if got != lost {
					t.Errorf("start %d: %d records lost, want %d", start, got, lost)
				}
				if n := len(x.disk.Files("/data/quarantine")); n != 1 {
					t.Errorf("start %d: %d files in quarantine", start, n)
				}
				x.Close()
			}
			x.start()
			x.append("clicks", "i")
			x.append("views", "v3")
			x.cut(x.clicks)
			x.cut(x.view)
			x.balanced(x.clicks)
			x.balanced(x.view)
		})
	}
	f("covered", 0, false, "5:e 6:f 7:g 8:h", "1:v1 2:v2", 0)
	f("covered, header", 0, true, "5:e 6:f 7:g 8:h", "1:v1 2:v2", 0)
	f("under a manifest", 1, false, "5:e 6:f 7:g 8:h", "1:v1 2:v2", 0)
	f("first that waits", 2, false, "7:g 8:h", "1:v1 2:v2", 2)
	f("first that waits, header", 2, true, "7:g 8:h", "1:v1 2:v2", 2)
	f("in the middle", 4, false, "5:e 6:f 8:h", "1:v1 2:v2", 1)
	f("in the middle, header", 4, true, "5:e 6:f 8:h", "1:v1 2:v2", 1)
	f("other stream", 3, true, "5:e 6:f 7:g 8:h", "2:v2", 1)
	f("last", 6, false, "5:e 6:f 7:g", "1:v1 2:v2", 1)
}

// One bit of a header that has changed changes nothing else, wherever it is.
func TestMendedHeaders(t *testing.T) {
	for _, f := range []struct {
		kind string
		n    int
	}{{"DATA", 0}, {"DATA", 4}, {"DATA", 6}, {"STREAM", 0}, {"MANIFEST", 1}, {"COMMIT", 0}, {"MARK", 2}, {"PAD", 1}} {
		bubble(t, fmt.Sprintf("%s %d", f.kind, f.n), func(t *testing.T) {
			x := newDamaged(t)
			whole := x.disk
			frame := pick(t, whole, f.kind, f.n)
			for bit := 0; bit < 8*frameHeader; bit += 41 {
				x.disk = whole.Fork()
				x.o.FS = x.disk
				if err := x.disk.Flip(frame.File, frame.Offset+int64(bit/8), 1<<(bit%8)); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					x.start()
					if got := x.waiting(x.clicks) + " " + x.waiting(x.view); got != "5:e 6:f 7:g 8:h 1:v1 2:v2" {
						t.Fatalf("bit %d: %q waits", bit, got)
					}
					want := Totals{Accepted: 8, OK: 4, Waiting: 4}
					if got := x.Consumer(x.clicks.Incarnation, Main).Totals(); got != want {
						t.Fatalf("bit %d: totals %+v", bit, got)
					}
					if out := x.Outstanding(); len(out) != 1 || out[0].ID != x.out.ID {
						t.Fatalf("bit %d: outstanding %+v", bit, out)
					}
					if !strings.Contains(x.logs.String(), "nothing is lost") {
						t.Fatalf("bit %d: no report: %s", bit, x.logs)
					}
					x.Close()
				}
			}
			x.Buffer = nil
		})
	}
}

// Rows that no later row of their stream bounds: their sequences are not given out again.
func TestDamagedLastHeader(t *testing.T) { synctest.Test(t, testDamagedLastHeader) }

func testDamagedLastHeader(t *testing.T) {
	x := newDamaged(t)
	last := pick(t, x.disk, "DATA", 6)
	spoil(t, x.disk, last, true)
	x.start()
	if got := x.waiting(x.clicks); got != "5:e 6:f 7:g" {
		t.Errorf("%q waits", got)
	}
	if r := x.append("clicks", "i"); r.First <= last.First {
		t.Errorf("sequence %d is given out again", r.First)
	}
	x.restart()
	x.balanced(x.clicks)
}

// The policy to stop reports the place and changes nothing.
func TestDamageStops(t *testing.T) { synctest.Test(t, testDamageStops) }

func testDamageStops(t *testing.T) {
	x := newDamaged(t)
	f := pick(t, x.disk, "DATA", 4)
	spoil(t, x.disk, f, false)
	before := x.disk.Used()
	x.o.OnDamage = Stop
	for range 2 {
		_, err := Open(x.o)
		d, ok := errors.AsType[*DamageError](err)
		if !ok {
			t.Fatalf("open: %v", err)
		}
		want := Damage{File: f.File, Offset: f.Offset, Length: f.Size, What: "DATA frame: payload does not match its checksum", Incarnation: x.clicks.Incarnation, First: 7, Next: 8}
		if len(d.Items) != 1 || d.Items[0] != want {
			t.Fatalf("report %+v, want %+v", d.Items, want)
		}
	}
	if got := x.disk.Used(); got != before {
		t.Errorf("the disk has %d bytes, it had %d", got, before)
	}
}

// Damage to the ledger: what can be known from packs or does not matter is repaired, the rest stops the
// start whatever the policy is.
func TestDamagedLedger(t *testing.T) {
	f := func(name, kind string, n int, header bool, outstanding int, stops bool) {
		bubble(t, name, func(t *testing.T) {
			x := newDamaged(t)
			spoil(t, x.disk, pick(t, x.disk, kind, n), header)
			b, err := Open(x.o)
			if stops {
				if _, ok := errors.AsType[*DamageError](err); !ok {
					t.Fatalf("open: %v, want a *DamageError", err)
				}
				return
			}
			if err != nil {
				t.Fatalf("open: %v", err)
			}
			x.Buffer = b
			for range 2 {
				if got := x.waiting(x.clicks); got != "5:e 6:f 7:g 8:h" {
					t.Errorf("%q waits", got)
				}
				out := x.Outstanding()
				if len(out) != outstanding {
					t.Fatalf("%d manifests are outstanding, want %d", len(out), outstanding)
				}
				for _, m := range out {
					if m.ID != x.out.ID {
						continue
					}
					if got := x.content(m, 0); got != "3 c\n4 d\n" {
						t.Errorf("object %q", got)
					}
				}
				x.balanced(x.clicks)
				x.restart()
			}
		})
	}
	f("outstanding MANIFEST", "MANIFEST", 1, false, 1, false)
	f("ended MANIFEST", "MANIFEST", 0, false, 1, false)
	f("COMMIT", "COMMIT", 0, false, 1, false) // its pack is gone, so it had ended
	f("STREAM", "STREAM", 0, false, 0, true)
	f("header of a MANIFEST", "MANIFEST", 0, true, 0, true)
	f("header of a COMMIT", "COMMIT", 0, true, 0, true)
	f("MARK", "MARK", 2, false, 1, false)
	f("header of a MARK", "MARK", 2, true, 1, false)
	f("PAD", "PAD", 2, false, 1, false)
	f("header of a PAD", "PAD", 2, true, 1, false)
}

// A PROGRESS that cannot be read means that objects are put again.
func TestDamagedProgress(t *testing.T) { synctest.Test(t, testDamagedProgress) }

func testDamagedProgress(t *testing.T) {
	disk := forgetfs.New()
	x := openBench(t, Options{FS: disk})
	s := x.define("clicks")
	m := x.cutInto(s, "a", "b", "c")
	x.Confirm(m.ID, 1)
	until(t, "PROGRESS is written", func() bool {
		x.ledger.mu.RLock()
		defer x.ledger.mu.RUnlock()
		return x.ledger.manifests[m.ID].confirmed.n == 1
	})
	x.proven()
	x.Close()
	x.Buffer = nil
	spoil(t, disk, pick(t, disk, "PROGRESS", 0), false)
	x.start()
	if got := fmt.Sprint(x.Pending(m.ID)); got != "[0 1 2]" {
		t.Errorf("pending %s", got)
	}
	x.balanced(s)
}

// cutInto appends rows and cuts them into an object each.
func (x *bench) cutInto(s Stream, rows ...string) *Manifest {
	x.t.Helper()
	x.append(s.Name, rows...)
	c := x.Consumer(s.Incarnation, Main)
	k := c.Take(0, 1<<40)
	first, next := k.Range()
	h := ManifestHead{ID: x.NewManifestID(), Incarnation: s.Incarnation, Version: s.Version, Epoch: c.NewEpoch(), First: first, Next: next, Counts: Counts{OK: int64(len(rows))}}
	p := x.pack(h, k)
	m, err := x.Cut(k, []*Pack{p}, h)
	if err != nil {
		x.t.Fatalf("cut: %v", err)
	}
	return m
}

// pack seals a pack with an object for each row of a claim.
func (x *bench) pack(h ManifestHead, k *Claim) *Pack {
	x.t.Helper()
	p, err := x.NewPack()
	if err != nil {
		x.t.Fatal(err)
	}
	for r := range k.Rows() {
		x.object(p, string(r.Data), Data, r.Seq)
	}
	if err := p.Seal(h); err != nil {
		x.t.Fatal(err)
	}
	return p
}

func (x *bench) object(p *Pack, content string, role Role, seq uint64) {
	x.t.Helper()
	w, err := p.Begin(ObjectHead{Key: content, Role: role, Destination: "d"})
	if err == nil {
		_, err = w.Write([]byte(content))
	}
	if err == nil {
		err = p.End(1, seq, 1)
	}
	if err != nil {
		x.t.Fatal(err)
	}
}

// replace puts an error object in the place of some objects of m.
func (x *bench) replace(m *Manifest, objects ...int) *Manifest {
	x.t.Helper()
	h := m.ManifestHead
	h.ID, h.Replaces, h.Replaced, h.Counts = x.NewManifestID(), m.ID, objects, Counts{Failed: int64(len(objects))}
	p, err := x.NewPack()
	if err != nil {
		x.t.Fatal(err)
	}
	x.object(p, "error", Error, m.First)
	if err := p.Seal(h); err != nil {
		x.t.Fatal(err)
	}
	n, err := x.Replace(m.ID, objects, []*Pack{p}, h, "refused")
	if err != nil {
		x.t.Fatalf("replace: %v", err)
	}
	return n
}

// A REPLACE that cannot be read is found in the footer of its pack.
func TestDamagedReplace(t *testing.T) {
	f := func(name string, committed, ended, stops bool) {
		bubble(t, name, func(t *testing.T) {
			disk := forgetfs.New()
			x := openBench(t, Options{FS: disk})
			s := x.define("clicks")
			m := x.cutInto(s, "a", "b", "c")
			n := x.replace(m, 1)
			if committed {
				x.Confirm(n.ID, 0)
				until(t, "the new manifest ends", func() bool { return len(x.Outstanding()) == 1 })
			}
			if ended {
				x.Confirm(m.ID, 0, 2)
				until(t, "all end", func() bool { return len(x.Outstanding()) == 0 })
			}
			x.proven()
			want := x.Consumer(s.Incarnation, Main).Totals()
			x.Close()
			x.Buffer = nil
			spoil(t, disk, pick(t, disk, "REPLACE", 0), false)
			b, err := Open(x.o)
			if stops {
				if _, ok := errors.AsType[*DamageError](err); !ok {
					t.Fatalf("open: %v, want a *DamageError", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			x.Buffer = b
			if !ended {
				if got := fmt.Sprint(x.Pending(m.ID)); got != "[0 2]" {
					t.Errorf("pending %s", got)
				}
				if got := x.Consumer(s.Incarnation, Main).Totals(); got != want {
					t.Errorf("totals %+v, want %+v", got, want)
				}
			}
			x.balanced(s)
		})
	}
	f("both outstanding", false, false, false)
	f("new one delivered", true, false, true)
	f("both delivered", true, true, false)
}

// The newest checkpoint that cannot be read is replaced by the one before and the frames since.
func TestDamagedCheckpoint(t *testing.T) { synctest.Test(t, testDamagedCheckpoint) }

func testDamagedCheckpoint(t *testing.T) {
	disk := forgetfs.New()
	x := openBench(t, Options{FS: disk})
	s := x.define("clicks")
	for i := range 14 { // into a second segment, the first one is still there
		x.append("clicks", pad(fmt.Sprint(i), 8000))
		if i == 6 {
			x.cut(s)
		}
	}
	want := x.waiting(s)
	if n := len(x.journal.segments); n != 2 {
		t.Fatalf("%d segments", n)
	}
	x.proven()
	x.Close()
	x.Buffer = nil
	var all []FrameInfo
	for _, f := range found(t, disk) {
		if f.Type == "CHECKPOINT" {
			all = append(all, f)
		}
	}
	spoil(t, disk, all[len(all)-1], false)
	x.start()
	if got := x.waiting(s); got != want {
		t.Errorf("waiting %.100q..., want %.100q...", got, want)
	}
	x.balanced(s)
	if n := len(x.Outstanding()); n != 1 {
		t.Errorf("%d manifests are outstanding", n)
	}
}

// A start writes its checkpoint twice, since nothing older has all of it.
func TestDamagedFirstCheckpoint(t *testing.T) {
	f := func(name string, stops bool, copies ...int) {
		bubble(t, name, func(t *testing.T) {
			x := newDamaged(t)
			x.start()
			x.Close()
			var all []FrameInfo
			for _, f := range found(t, x.disk) {
				if f.Type == "CHECKPOINT" {
					all = append(all, f)
				}
			}
			all = all[len(all)-2:]
			for _, i := range copies {
				spoil(t, x.disk, all[i], false)
			}
			b, err := Open(x.o)
			if _, ok := errors.AsType[*DamageError](err); ok != stops || !ok && err != nil {
				t.Fatalf("open: %v", err)
			}
			if b != nil {
				x.Buffer = b
				if got := x.waiting(x.clicks); got != "5:e 6:f 7:g 8:h" {
					t.Errorf("%q waits", got)
				}
				x.balanced(x.clicks)
			}
		})
	}
	f("first", false, 0)
	f("second", false, 1)
	f("both", true, 0, 1)
}

// Of a pack that is gone or spoiled the records are lost, once.
func TestDamagedPack(t *testing.T) {
	f := func(name string, spoil func(x *damaged, file string)) {
		bubble(t, name, func(t *testing.T) {
			x := newDamaged(t)
			id := x.out.Objects[0].Pack
			spoil(x, fmt.Sprintf("/data/packs/%x.pack", id[:]))
			for range 3 {
				x.start()
				if n := len(x.Outstanding()); n != 0 {
					t.Errorf("%d manifests are outstanding", n)
				}
				want := Totals{Accepted: 8, OK: 2, Lost: 2, Waiting: 4}
				if got := x.Consumer(x.clicks.Incarnation, Main).Totals(); got != want {
					t.Errorf("totals %+v, want %+v", got, want)
				}
				x.Close()
			}
		})
	}
	f("gone", func(x *damaged, file string) {
		if err := errors.Join(x.disk.Remove(file), x.disk.SyncDir(path.Dir(file))); err != nil {
			t.Fatal(err)
		}
	})
	f("spoiled", func(x *damaged, file string) {
		b, err := x.disk.ReadFile(file)
		if err == nil {
			err = x.disk.Flip(file, int64(len(b))-100, 1)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}

// One header of a slot may be lost, and both where the slot was never opened. Otherwise the start stops.
func TestDamagedHeaders(t *testing.T) {
	end := tiny.framesEnd()
	f := func(name string, stops bool, offsets ...int64) {
		bubble(t, name, func(t *testing.T) {
			x := newDamaged(t)
			for _, off := range offsets {
				if err := x.disk.Flip("/data/journal/j-0001", off, 1); err != nil {
					t.Fatal(err)
				}
			}
			b, err := Open(x.o)
			if _, ok := errors.AsType[*DamageError](err); ok != stops || !ok && err != nil {
				t.Fatalf("open: %v", err)
			}
			if b != nil {
				x.Buffer = b
				if got := x.waiting(x.clicks); got != "5:e 6:f 7:g 8:h" {
					t.Errorf("%q waits", got)
				}
			}
		})
	}
	f("first", false, 40)
	f("last", false, end+40)
	f("both", true, 40, end+40)
}

func TestIdent(t *testing.T) { synctest.Test(t, testIdent) }

func testIdent(t *testing.T) {
	x := newDamaged(t)
	newer := x.disk.Fork()
	f, err := newer.OpenFile("/data/IDENT", fsys.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	id := x.ident()
	b := id.encode()
	b[8] = 2
	crcAgain(b)
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	o := x.o
	o.FS = newer
	_, err = Open(o)
	if v, ok := errors.AsType[*NewerVersionError](err); !ok || v.Version != 2 || v.Known != 1 || v.Path != "/data/IDENT" {
		t.Errorf("open: %v", err)
	}
	for _, spoiled := range []func(*forgetfs.FS) error{
		func(d *forgetfs.FS) error { return d.Flip("/data/IDENT", 20, 1) },
		func(d *forgetfs.FS) error { return d.Remove("/data/IDENT") },
	} {
		o.FS = x.disk.Fork()
		if err := spoiled(o.FS.(*forgetfs.FS)); err != nil {
			t.Fatal(err)
		}
		_, err = Open(o)
		if _, ok := errors.AsType[*DamageError](err); !ok {
			t.Errorf("open: %v", err)
		}
	}
}

// crcAgain makes an IDENT's checksum right.
func crcAgain(b []byte) {
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
}

// ident is what the data directory of a stopped Buffer has.
func (x *damaged) ident() ident {
	id, err := readIdent(x.disk, "/data")
	if err != nil {
		x.t.Fatal(err)
	}
	return id
}

func TestTwoProcesses(t *testing.T) {
	for _, o := range []Options{{FS: forgetfs.New(), Dir: "/data"}, {}} {
		x := openBench(t, o)
		if _, err := Open(x.o); !errors.Is(err, ErrLocked) {
			t.Errorf("open: %v", err)
		}
		x.restart()
	}
}

// Totals, versions and states survive every start.
func TestStreams(t *testing.T) { synctest.Test(t, testStreams) }

func testStreams(t *testing.T) {
	x := openBench(t, Options{FS: forgetfs.New()})
	a, err := x.Define(Stream{Name: "clicks", Spec: []byte("1"), Tags: map[string]string{"team": "web"}})
	if err != nil || a.Version != 1 || a.Incarnation != 1 || a.State != Active || len(a.Consumers) != 1 {
		t.Fatalf("%+v, %v", a, err)
	}
	x.append("clicks", "a")
	m := x.cut(a)
	change := func(s Stream, version uint64) Stream {
		t.Helper()
		got, err := x.Define(s)
		if err != nil || got.Version != version || got.Created != a.Created || got.Incarnation != a.Incarnation {
			t.Fatalf("%+v, %v", got, err)
		}
		x.restart()
		list := x.Streams()
		if len(list) != 1 || fmt.Sprint(list[0]) != fmt.Sprint(got) {
			t.Fatalf("streams %+v, want %+v", list, got)
		}
		return got
	}
	s := a
	s.State = Paused
	s = change(s, 1)
	x.append("clicks", "b") // a paused stream takes calls
	s.Tags = nil
	s = change(s, 1)
	s.Spec = []byte("2")
	s = change(s, 2)
	s.Spec = []byte("3")
	s = change(s, 3)
	s.Spec = []byte("4")
	s = change(s, 4)
	s = change(s, 4)
	for n := range uint64(4) { // those in between as well
		if v, ok := x.StreamVersion(1, n+1); !ok || string(v.Spec) != fmt.Sprint(n+1) {
			t.Errorf("version %d: %+v, %v", n+1, v, ok)
		}
	}
	if v, ok := x.StreamVersion(1, 5); ok {
		t.Errorf("version 5: %+v", v)
	}
	later := x.cut(s)
	x.Confirm(m.ID, 0)
	until(t, "nothing names version 1", func() bool { _, ok := x.StreamVersion(1, 1); return !ok })
	for n := range uint64(2) {
		if v, ok := x.StreamVersion(1, n+2); ok {
			t.Errorf("version %d is older than all that are named: %+v", n+2, v)
		}
	}
	x.Confirm(later.ID, 0)
	x.append("clicks", "c")
	s.State = Gone
	if _, err := x.Define(s); err == nil {
		t.Error("an active stream ended")
	}
	s.State = Deleting
	s = change(s, 4)
	_, _, err = x.Append(context.Background(), "clicks", record.Call{Batch: batch("c")})
	if e, ok := errors.AsType[*record.NotFound](err); !ok || !e.Inactive {
		t.Errorf("append: %v", err)
	}
	s.State = Gone
	if _, err := x.Define(s); err == nil || !strings.Contains(err.Error(), "waiting") {
		t.Errorf("a stream with rows ended: %v", err)
	}
	m = x.cut(s)
	if _, err := x.Define(s); err == nil || !strings.Contains(err.Error(), "not ended") {
		t.Errorf("a stream with a manifest ended: %v", err)
	}
	s.State = Discarding
	s = change(s, 4)
	_, _, err = x.Append(context.Background(), "clicks", record.Call{Batch: batch("c")})
	if e, ok := errors.AsType[*record.NotFound](err); !ok || !e.Inactive {
		t.Errorf("append: %v", err)
	}
	before := x.Consumer(s.Incarnation, Main).Totals()
	if err := x.Discard(m.ID, []int{0}, "deleted"); err != nil {
		t.Fatal(err)
	}
	after := x.Consumer(s.Incarnation, Main).Totals()
	if after.Dropped != before.Dropped+1 || after.OK != before.OK-1 {
		t.Errorf("totals %+v after a discard, %+v before", after, before)
	}
	if err := x.Discard(m.ID, []int{0}, "deleted"); !errors.Is(err, ErrUnknownManifest) {
		t.Errorf("discard of what has ended: %v", err)
	}
	s.State = Gone
	until(t, "all end", func() bool { return len(x.Outstanding()) == 0 })
	if _, err := x.Define(s); err != nil {
		t.Fatal(err)
	}
	x.restart()
	if n := len(x.Streams()); n != 0 {
		t.Fatalf("%d streams", n)
	}
	_, _, err = x.Append(context.Background(), "clicks", record.Call{Batch: batch("c")})
	if e, ok := errors.AsType[*record.NotFound](err); !ok || e.Inactive {
		t.Errorf("append: %v", err)
	}
	if b := x.define("clicks"); b.Incarnation != 2 || b.Version != 1 {
		t.Errorf("created again: %+v", b)
	}
	if r := x.append("clicks", "new"); r.First != 1 {
		t.Errorf("receipt %+v", r)
	}
}
