package buffer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/crc64"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"hydrant/buffer/forgetfs"
	"hydrant/buffer/fsys"
)

// counting is a reader of predictable ids.
type counting struct{ n byte }

func (c *counting) Read(b []byte) (int, error) {
	c.n++
	for i := range b {
		b[i] = c.n
	}
	return len(b), nil
}

// packEnv is a pack store on a disk that forgets.
type packEnv struct {
	*testing.T
	disk  *forgetfs.FS
	space *space
	store *packStore
	keys  *keyring
}

// newPackEnv has packs in clear.
func newPackEnv(t *testing.T, disk int64) *packEnv { return newSealedEnv(t, disk, nil) }

// bothWays runs a test with packs in clear and with sealed ones.
func bothWays(t *testing.T, test func(t *testing.T, env func(t *testing.T, disk int64) *packEnv)) {
	t.Run("clear", func(t *testing.T) { test(t, newPackEnv) })
	t.Run("sealed", func(t *testing.T) {
		test(t, func(t *testing.T, disk int64) *packEnv { return newSealedEnv(t, disk, testKey(1)) })
	})
}

func newSealedEnv(t *testing.T, disk int64, key *Key) *packEnv {
	t.Helper()
	d := forgetfs.New()
	for _, err := range []error{d.Mkdir("/data/packs"), d.SyncDir("/"), d.SyncDir("/data")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	keys, err := newKeyring([16]byte{9, 9}, key, nil, &counting{})
	if err != nil {
		t.Fatal(err)
	}
	e := &packEnv{T: t, disk: d, keys: keys}
	e.space = newSpace(spaceOptions{FS: d, Dir: "/data", Disk: disk, Memory: 64 << 20, Front: newFront(1 << 20)})
	e.store = newPackStore(fileOptions{FS: d, Dir: "/data/packs", Directory: [16]byte{9, 9}, Rand: &counting{}, Seal: keys.seal, Space: e.space})
	return e
}

// noBallast takes it away, or it would be lent.
func (e *packEnv) noBallast() {
	e.Helper()
	e.ok(e.space.ballast.free())
	e.space.ballast = ballast{}
}

func (e *packEnv) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

func (e *packEnv) create() *Pack {
	e.Helper()
	p, err := e.store.create()
	e.ok(err)
	return p
}

// object writes an object of n bytes.
func (e *packEnv) object(p *Pack, key string, n int) error {
	e.Helper()
	w, err := p.Begin(ObjectHead{Key: key, Destination: "clicks/data/file"})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, strings.Repeat(key[:1], n)); err != nil {
		return err
	}
	return p.End(int64(n), 7, 1234)
}

func testHead() ManifestHead {
	return ManifestHead{
		ID: ManifestID{1, 2, 3}, Incarnation: 4, Consumer: Main, Version: 5, Epoch: 6, First: 7, Next: 10,
		Counts: Counts{OK: 2, Dropped: 0, Failed: 1},
	}
}

func TestPackRoundTrip(t *testing.T) { bothWays(t, testPackRoundTrip) }

func testPackRoundTrip(t *testing.T, env func(t *testing.T, disk int64) *packEnv) {
	e := env(t, 1<<30)
	p := e.create()
	var want []ObjectInfo
	var bodies [][]byte
	r := rand.New(rand.NewPCG(1, 2))
	for i, size := range []int{0, 1, 4096, packBuffer, 3*packBuffer + 17} {
		h := ObjectHead{
			Key: fmt.Sprintf("a/b=%d/x", i), Role: Role(i % 2), Destination: "clicks/data/s3", ContentType: "application/octet-stream",
			ContentEncoding: "gzip", SchemaVersion: "v1", RequestID: strings.Repeat("r", i),
		}
		switch i {
		case 1:
			h.Refusal = Refusal{Code: "c", Message: strings.Repeat("m", maxPackText), Attempts: 300}
		case 3:
			h.Refusal.Attempts = 1<<63 - 1
		}
		w, err := p.Begin(h)
		e.ok(err)
		body := make([]byte, size)
		for j := range body {
			body[j] = byte(r.Uint32())
		}
		for rest := body; len(rest) > 0; {
			n := min(1+r.IntN(200000), len(rest))
			m, err := w.Write(rest[:n])
			e.ok(err)
			if m != n {
				t.Fatalf("wrote %d of %d", m, n)
			}
			rest = rest[n:]
		}
		e.ok(p.End(int64(i), uint64(10+i), -int64(i)))
		if _, err := w.Write([]byte("late")); err == nil {
			t.Fatal("an object that has ended was written to")
		}
		want = append(want, ObjectInfo{
			ObjectHead: h, Pack: p.ID(), Size: int64(size), SHA256: sha256.Sum256(body),
			CRC64NVME: crc64.Checksum(body, crc64.MakeTable(0x9a6c9329ac4bc9b5)), Records: int64(i), FirstSeq: uint64(10 + i), Oldest: -int64(i),
		})
		bodies = append(bodies, body)
	}
	off := int64(packHeaderSize)
	for i := range want {
		want[i].Offset = off
		off += want[i].Size
	}
	e.ok(p.Seal(testHead()))
	path := e.store.path(p.ID())
	e.ok(e.disk.Durable(path)) // I7
	c, err := openPack(e.disk, path, e.keys)
	e.ok(err)
	foot, ref := c.foot, c.ref
	if ref != p.ref() || ref.ID != p.ID() {
		t.Errorf("ref %+v, want %+v", ref, p.ref())
	}
	if !reflect.DeepEqual(foot.Objects, want) || !reflect.DeepEqual(p.footer(), foot) || !reflect.DeepEqual(p.Objects(), want) {
		t.Errorf("got  %+v\nwant %+v", foot.Objects, want)
	}
	if m := foot.Manifests; len(m) != 1 || !reflect.DeepEqual(m[0], packManifest{ManifestHead: testHead(), FirstObject: 0, Count: 5}) {
		t.Errorf("manifests %+v", m)
	}
	e.store.keep([]*Pack{p})
	e.store.named([]*Pack{p}, 4)
	for i, body := range bodies {
		o, err := e.store.open(want[i])
		e.ok(err)
		got := make([]byte, len(body)+1)
		if n, err := o.ReadAt(got, 0); n != len(body) || err != io.EOF || !bytes.Equal(got[:n], body) {
			t.Errorf("object %d: %d bytes, %v", i, n, err)
		}
		e.ok(o.Close())
	}
	report, err := InspectPack(e.disk, path, true, testKey(1))
	e.ok(err)
	if report.Directory != ([16]byte{9, 9}) || len(report.Damaged) != 0 || report.Length != ref.Length || len(report.Manifests[0].Objects) != 5 {
		t.Errorf("report %+v", report)
	}
	e.ok(e.disk.Flip(path, want[2].Offset+5, 0x10))
	damaged := "[a/b=2/x]"
	if e.keys.seal != nil {
		damaged = "[a/b=1/x a/b=2/x a/b=3/x]" // all that have bytes in its block
	}
	if report, err = InspectPack(e.disk, path, true, testKey(1)); err != nil || fmt.Sprint(report.Damaged) != damaged {
		t.Errorf("after a flip: %v, %v", report, err)
	}
}

// The bytes on disk are a contract with later versions.
func TestPackGolden(t *testing.T) {
	e := newPackEnv(t, 1<<30)
	p := e.create()
	e.ok(e.object(p, "key", 3))
	w, err := p.Begin(ObjectHead{Key: "errors/x", Role: Error, Destination: "clicks/error/s3", ContentType: "text/plain", ContentEncoding: "gzip", SchemaVersion: "s1", RequestID: "r"})
	e.ok(err)
	_, err = w.Write([]byte("{}\n"))
	e.ok(err)
	e.ok(p.End(1, 9, -5))
	h := testHead()
	h.Replaces, h.Replaced = ManifestID{8}, []int{0, 3, 4}
	e.ok(p.Seal(h))
	got, err := e.disk.ReadFile(e.store.path(p.ID()))
	e.ok(err)
	golden := filepath.Join("testdata", "pack-v1.hex")
	if os.Getenv("HYDRANT_UPDATE") != "" {
		e.ok(os.MkdirAll("testdata", 0o755))
		e.ok(os.WriteFile(golden, []byte(hex.Dump(got)), 0o644))
	}
	want, err := os.ReadFile(golden)
	e.ok(err)
	if hex.Dump(got) != string(want) {
		t.Errorf("the format has changed; got\n%s", hex.Dump(got))
	}
}

func TestPackOrder(t *testing.T) {
	e := newPackEnv(t, 1<<30)
	p := e.create()
	fails := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	fails("end nothing", p.End(1, 1, 1))
	fails("drop nothing", p.Drop())
	fails("seal nothing", p.Seal(testHead()))
	_, err := p.Begin(ObjectHead{})
	fails("no key", err)
	_, err = p.Begin(ObjectHead{Key: strings.Repeat("k", maxPackKey+1)})
	fails("long key", err)
	_, err = p.Begin(ObjectHead{Key: "k", ContentType: strings.Repeat("k", maxPackText+1)})
	fails("long content type", err)
	_, err = p.Begin(ObjectHead{Key: "k", Refusal: Refusal{Message: strings.Repeat("k", maxPackText+1)}})
	fails("long refusal", err)
	_, err = p.Begin(ObjectHead{Key: "k", Refusal: Refusal{Code: strings.Repeat("k", maxPackText+1)}})
	fails("long code", err)
	_, err = p.Begin(ObjectHead{Key: "k", Refusal: Refusal{Attempts: -1}})
	fails("attempts below zero", err)
	_, err = p.Begin(ObjectHead{Key: "a"})
	e.ok(err)
	_, err = p.Begin(ObjectHead{Key: "b"})
	fails("begin twice", err)
	fails("seal an open object", p.Seal(testHead()))
	e.ok(p.End(1, 1, 1))
	fails("end twice", p.End(1, 1, 1))
	for what, change := range map[string]func(h *ManifestHead){
		"no id":              func(h *ManifestHead) { h.ID = ManifestID{} },
		"replaces what":      func(h *ManifestHead) { h.Replaces = ManifestID{1} },
		"replaces of what":   func(h *ManifestHead) { h.Replaced = []int{1} },
		"replaced order":     func(h *ManifestHead) { h.Replaces, h.Replaced = ManifestID{1}, []int{1, 1} },
		"range that is none": func(h *ManifestHead) { h.Next = 1 },
	} {
		h := testHead()
		change(&h)
		fails(what, p.Seal(h))
	}
	e.ok(p.Seal(testHead()))
	fails("seal twice", p.Seal(testHead()))
	_, err = p.Begin(ObjectHead{Key: "b"})
	fails("begin in a sealed pack", err)
	p.Abort()
	p.Abort()
	if got := e.disk.Files("/data/packs"); len(got) != 0 || p.sealed() {
		t.Errorf("left %v", got)
	}
}

func TestPackDrop(t *testing.T) { bothWays(t, testPackDrop) }

func testPackDrop(t *testing.T, env func(t *testing.T, disk int64) *packEnv) {
	for _, size := range []int{10, packBuffer + 10, 3 * packBuffer} {
		for _, ended := range []bool{false, true} {
			e := env(t, 1<<30)
			p := e.create()
			e.ok(e.object(p, "a", 1000))
			w, err := p.Begin(ObjectHead{Key: "gone"})
			e.ok(err)
			_, err = w.Write(make([]byte, size))
			e.ok(err)
			if ended {
				e.ok(p.End(1, 1, 1))
			}
			e.ok(p.Drop())
			e.ok(e.object(p, "b", 500))
			e.ok(p.Seal(testHead()))
			report, err := InspectPack(e.disk, e.store.path(p.ID()), true, testKey(1))
			if err != nil || len(report.Damaged) > 0 || len(report.Manifests[0].Objects) != 2 || report.Manifests[0].Objects[1].Key != "b" {
				t.Fatalf("size %d: %+v, %v", size, report, err)
			}
			if s := e.space.stats(); s.Making != p.ref().Length || report.Length != p.ref().Length {
				t.Errorf("size %d: %d bytes in the ledger, %d in the file", size, s.Making, p.ref().Length)
			}
			p.Abort()
			if s := e.space.stats(); s.Making != 0 {
				t.Errorf("size %d: %d bytes in the ledger after Abort", size, s.Making)
			}
		}
	}
}

// Whatever is called, the file system fails at any point: no pack that was sealed is wrong, and an aborted
// one leaves nothing behind, on the disk or in the ledger.
func TestPackFaults(t *testing.T) { bothWays(t, testPackFaults) }

func testPackFaults(t *testing.T, env func(t *testing.T, disk int64) *packEnv) {
	for _, code := range []error{syscall.EIO, syscall.ENOSPC} {
		for fail := int64(1); ; fail++ {
			e := env(t, 1<<30)
			e.noBallast()
			start := e.disk.Ops()
			reached := false
			e.disk.SetHook(func(op forgetfs.Op) *forgetfs.Fault {
				if op.N == start+fail && op.Kind != forgetfs.OpRead && op.Kind != forgetfs.OpRemove {
					reached = true
					return &forgetfs.Fault{Err: code, Done: op.Kind == forgetfs.OpWrite, Short: 100}
				}
				return nil
			})
			err := func() error {
				p, err := e.store.create()
				if err != nil {
					return err
				}
				defer func() {
					if !p.sealed() {
						p.Abort()
					}
				}()
				if err := e.object(p, "a", packBuffer+5); err != nil {
					return err
				}
				if err := e.object(p, "b", 5); err != nil {
					return err
				}
				return p.Seal(testHead())
			}()
			e.disk.SetHook(nil)
			files := e.disk.Files("/data/packs")
			if err == nil {
				if reached || len(files) != 1 {
					t.Fatalf("%v at operation %d was not noticed; files %v", code, fail, files)
				}
				break
			}
			if !errors.Is(err, code) {
				t.Errorf("%v at operation %d: got %v", code, fail, err)
			}
			if len(files) != 0 || e.space.stats().Making != 0 {
				t.Errorf("%v at operation %d left %v and %d bytes in the ledger", code, fail, files, e.space.stats().Making)
			}
		}
	}
}

// A full disk in the middle of an object: it is dropped and what is before it sealed.
func TestPackNoSpace(t *testing.T) { bothWays(t, testPackNoSpace) }

func testPackNoSpace(t *testing.T, env func(t *testing.T, disk int64) *packEnv) {
	for name, limit := range map[string]func(e *packEnv){
		"ledger": func(e *packEnv) { e.space.limit = 2*packBuffer + 5000 },
		"disk":   func(e *packEnv) { e.disk.SetCapacity(e.disk.Used() + 2*packBuffer + 5000) },
	} {
		t.Run(name, func(t *testing.T) {
			e := env(t, 1<<30)
			e.noBallast()
			limit(e)
			p := e.create()
			e.ok(e.object(p, "a", packBuffer))
			err := e.object(p, "b", 2*packBuffer+300)
			if !errors.Is(err, ErrNoSpace) {
				t.Fatalf("got %v", err)
			}
			if err := e.object(p, "c", 1); err == nil {
				t.Fatal("went on after the fault")
			}
			e.ok(p.Drop())
			e.ok(p.Seal(testHead()))
			report, err := InspectPack(e.disk, e.store.path(p.ID()), true, testKey(1))
			if err != nil || len(report.Damaged) > 0 || len(report.Manifests[0].Objects) != 1 {
				t.Fatalf("%+v, %v", report, err)
			}
		})
	}
}

// The ballast goes to one pack at a time and comes back when that pack is gone.
func TestBallast(t *testing.T) { bothWays(t, testBallast) }

func testBallast(t *testing.T, env func(t *testing.T, disk int64) *packEnv) {
	for _, how := range []string{"ledger", "disk"} {
		t.Run(how, func(t *testing.T) {
			const disk = 512 << 20 // ballast 8 MiB
			e := env(t, disk)
			if got := e.disk.Files("/data"); fmt.Sprint(got) != "[/data/ballast]" {
				t.Fatalf("files %v", got)
			}
			if how == "ledger" {
				e.space.limit = 0
			} else {
				e.disk.SetCapacity(e.disk.Used())
			}
			p := e.create()
			e.ok(e.object(p, "a", 3<<20))
			e.ok(p.Seal(testHead()))
			if got := e.disk.Files("/data"); len(got) != 1 || strings.HasSuffix(got[0], "ballast") {
				t.Fatalf("files %v", got)
			}
			other := e.create()
			if err := e.object(other, "b", 6<<20); !errors.Is(err, ErrNoSpace) {
				t.Fatalf("a second pack: %v", err)
			}
			other.Abort()
			e.store.keep([]*Pack{p})
			e.store.named([]*Pack{p}, 1)
			e.store.remove(p.ID())
			if got := e.disk.Files("/data"); fmt.Sprint(got) != "[/data/ballast]" || !e.space.ballast.present {
				t.Fatalf("after the end: %v", got)
			}
			if s := e.space.stats(); s.Making != 0 || s.Packs != 0 {
				t.Errorf("the ledger has %+v", s)
			}
		})
	}
}

func TestPackEnds(t *testing.T) { bothWays(t, testPackEnds) }

func testPackEnds(t *testing.T, env func(t *testing.T, disk int64) *packEnv) {
	e := env(t, 1<<30)
	seal := func() *Pack {
		p := e.create()
		e.ok(e.object(p, "a", 100))
		e.ok(p.Seal(testHead()))
		return p
	}
	exists := func(p *Pack) bool { return e.disk.Durable(e.store.path(p.ID())) == nil }

	kept := seal()
	e.store.keep([]*Pack{kept})
	kept.Abort()
	if !exists(kept) {
		t.Error("a pack that a frame may name is gone")
	}

	unkept := seal()
	e.store.keep([]*Pack{unkept})
	e.store.unkeep([]*Pack{unkept})
	unkept.Abort()
	if exists(unkept) {
		t.Error("a pack that no frame names is still there")
	}

	p := seal()
	e.store.keep([]*Pack{p})
	e.store.named([]*Pack{p}, 3)
	o := p.Objects()[0]
	r1, err := e.store.open(o)
	e.ok(err)
	r2, err := e.store.open(o)
	e.ok(err)
	e.store.remove(p.ID())
	e.store.remove(p.ID())
	if _, err := e.store.open(o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open a pack that has ended: %v", err)
	}
	e.ok(r1.Close())
	e.ok(r1.Close())
	if b := make([]byte, 100); !exists(p) {
		t.Error("the pack went while it was read")
	} else if _, err := r2.ReadAt(b, 0); err != nil || string(b) != strings.Repeat("a", 100) {
		t.Errorf("read %q, %v", b, err)
	}
	e.ok(r2.Close())
	if exists(p) || e.space.stats().Packs != 0 {
		t.Error("the pack stays after its last reader")
	}
}

func TestPackSweep(t *testing.T) {
	e := newPackEnv(t, 1<<30)
	seal := func() *Pack {
		p := e.create()
		e.ok(e.object(p, "a", 100))
		e.ok(p.Seal(testHead()))
		return p
	}
	making, named, kept, orphan := e.create(), seal(), seal(), seal()
	e.store.named([]*Pack{named}, 1)
	e.store.keep([]*Pack{kept})
	delete(e.store.making, orphan.ID()) // of an earlier process
	for _, name := range []string{"notes.txt", "00.pack", strings.Repeat("A", 32) + ".pack"} {
		f, err := e.disk.OpenFile("/data/packs/"+name, fsys.Create)
		e.ok(err)
		e.ok(f.Close())
	}
	e.ok(e.store.sweep())
	if n := len(e.disk.Files("/data/packs")); n != 6 {
		t.Errorf("left %v", e.disk.Files("/data/packs"))
	}
	for _, p := range []*Pack{making, named, kept} {
		if _, err := e.disk.ReadFile(e.store.path(p.ID())); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenPackDamage(t *testing.T) { bothWays(t, testOpenPackDamage) }

func testOpenPackDamage(t *testing.T, env func(t *testing.T, disk int64) *packEnv) {
	e := env(t, 1<<30)
	p := e.create()
	e.ok(e.object(p, "a", 100))
	e.ok(p.Seal(testHead()))
	path := e.store.path(p.ID())
	good, err := e.disk.ReadFile(path)
	e.ok(err)
	open := func(b []byte) error {
		f := forgetfs.New()
		h, err := f.OpenFile("/p", fsys.Create)
		e.ok(err)
		_, err = h.WriteAt(b, 0)
		e.ok(err)
		_, err = openPack(f, "/p", e.keys)
		return err
	}
	e.ok(open(good))
	for i := range good {
		inObject := e.keys.seal == nil && i >= packHeaderSize && i < packHeaderSize+100
		b := bytes.Clone(good)
		b[i] ^= 0x40
		if err := open(b); (err == nil) != inObject {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for n := range good {
		if open(good[:n]) == nil {
			t.Fatalf("cut to %d bytes: no error", n)
		}
	}
	if err := open(append(bytes.Clone(good), 0)); err == nil {
		t.Error("a byte more: no error")
	}
	newer := packTrailer{}
	b := append(packHeader([16]byte{}, PackID{}, wrappedKey{}), newer.encode()...)
	b[4], b[packHeaderSize+4] = 3, 3
	fix := func(part []byte) {
		n := len(part) - 4
		crc := crc32.Checksum(part[:n], castagnoli)
		part[n], part[n+1], part[n+2], part[n+3] = byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24)
	}
	fix(b[:packHeaderSize])
	fix(b[packHeaderSize:])
	if _, ok := errors.AsType[*NewerVersionError](open(b)); !ok {
		t.Errorf("version 3: %v", open(b))
	}
	if _, err := openPack(e.disk, "/none", e.keys); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func FuzzPackFooter(f *testing.F) {
	foot := &packFooter{
		ID:        PackID{1},
		Manifests: []packManifest{{ManifestHead: testHead(), Count: 2}},
		Objects: []ObjectInfo{
			{ObjectHead: ObjectHead{Key: "k", ContentType: "t"}, Pack: PackID{1}, Offset: packHeaderSize, Size: 10, Records: 1, Oldest: -1},
			{ObjectHead: ObjectHead{Key: "l", Role: Error}, Pack: PackID{1}, Offset: packHeaderSize + 10, Size: 0, FirstSeq: 1 << 40},
		},
	}
	f.Add(foot.encode(), int64(packHeaderSize+10))
	foot.Manifests[0].Replaces, foot.Manifests[0].Replaced = ManifestID{7}, []int{0, 2, 9}
	f.Add(foot.encode(), int64(packHeaderSize+10))
	for _, source := range []Source{
		{Kind: SourceKey, Key: [16]byte{1}, Run: 300}, {Kind: SourceSweep, Run: 7, Bound: []byte("k")}, {Kind: SourceSweep, Run: 7, All: true},
	} {
		foot.Manifests[0].Source = source
		f.Add(foot.encode(), int64(packHeaderSize+10))
	}
	foot.Manifests[0].Source, foot.Manifests[0].Lost = Source{}, 5
	f.Add(foot.encode(), int64(packHeaderSize+10))
	foot.Objects[1].Refusal = Refusal{Code: "Redshift.DataLoadFailed", Message: "line 1", Attempts: 3}
	f.Add(foot.encode(), int64(packHeaderSize+10))
	f.Fuzz(func(t *testing.T, b []byte, end int64) {
		got, err := parsePackFooter(b, end)
		if err != nil {
			return
		}
		if again := got.encode(); !bytes.Equal(again, b) {
			t.Fatalf("accepted %x, which is written %x", b, again)
		}
	})
}

// BenchmarkPack writes packs of one object on the real file system.
func BenchmarkPack(b *testing.B) {
	for _, size := range []int{64 << 10, 16 << 20} {
		b.Run(fmt.Sprintf("object=%d", size), func(b *testing.B) {
			dir := b.TempDir()
			s := newSpace(spaceOptions{FS: fsys.OS(), Dir: dir, Disk: 1 << 20, Memory: 64 << 20, Front: newFront(1 << 20)})
			s.limit = 1 << 40
			store := newPackStore(fileOptions{FS: fsys.OS(), Dir: dir, Rand: &counting{}, Space: s})
			body := bytes.Repeat([]byte("0123456789abcdef"), 4096)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				p, err := store.create()
				if err != nil {
					b.Fatal(err)
				}
				w, err := p.Begin(ObjectHead{Key: "k"})
				for n := 0; n < size && err == nil; n += len(body) {
					_, err = w.Write(body)
				}
				if err == nil {
					err = p.End(1, 1, 1)
				}
				if err == nil {
					err = p.Seal(testHead())
				}
				if err != nil {
					b.Fatal(err)
				}
				p.Abort()
			}
		})
	}
}
