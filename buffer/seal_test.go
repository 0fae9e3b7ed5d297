package buffer

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"hydrant/buffer/forgetfs"
	"hydrant/buffer/fsys"
	"hydrant/record"
)

func TestParseKey(t *testing.T) {
	raw := make([]byte, keySize)
	for i := range raw {
		raw[i] = byte(200 + i)
	}
	digits := hex.EncodeToString(raw)
	text := base64.StdEncoding.EncodeToString(raw)
	for name, content := range map[string]string{
		"raw": string(raw), "hex": digits, "upper case": strings.ToUpper(digits), "a line": digits + "\n", "CRLF": digits + "\r\n",
		"base64": text, "base64 line": text + "\n", "without padding": strings.TrimRight(text, "="),
		"of URLs": base64.URLEncoding.EncodeToString(raw),
	} {
		k, err := ParseKey([]byte(content))
		if err != nil || k.secret != [keySize]byte(raw) {
			t.Errorf("%s: %v, %v", name, k, err)
		}
	}
	for name, content := range map[string]string{
		"empty": "", "31 bytes": string(raw[:31]), "33 bytes": string(raw) + "\xff", "31 hex": digits[:62], "33 hex": digits + "00",
		"no hex": "g" + digits[1:], "16 in base64": base64.StdEncoding.EncodeToString(raw[:16]), "33 in base64": base64.StdEncoding.EncodeToString(append(raw[:32:32], 1)),
		"zeros": string(make([]byte, 32)), "zeros in hex": strings.Repeat("0", 64), "a password": "correct horse battery staple 1234", "32 characters": strings.Repeat("ab12", 8),
		"PEM": "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n",
	} {
		k, err := ParseKey([]byte(content))
		if err == nil {
			t.Errorf("%s: taken as %v", name, k)
		} else if content != "" && strings.Contains(err.Error(), strings.TrimSpace(content)) {
			t.Errorf("%s: the error quotes it: %v", name, err)
		}
	}
}

// TestKeyIsNotPrinted: whatever prints a key prints its id.
func TestKeyIsNotPrinted(t *testing.T) {
	k := testKey(7)
	const id = "664477e39f25d35b"
	if k.ID() != id {
		t.Errorf("id %s", k.ID())
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", k, "value", *k, "in a struct", struct{ Key *Key }{k})
	for _, s := range []string{fmt.Sprint(k), fmt.Sprint(*k), fmt.Sprintf("%+v %#v %x %d %q", k, *k, k, *k, k), fmt.Sprintf("%+v", Options{Key: k}), log.String()} {
		for _, form := range []string{hex.EncodeToString(k.secret[:]), fmt.Sprint(k.secret), base64.StdEncoding.EncodeToString(k.secret[:]), string(k.secret[:])} {
			if strings.Contains(s, form) || strings.Contains(s, form[1:len(form)/2]) {
				t.Errorf("printed: %s", s)
			}
		}
	}
	if !strings.Contains(log.String(), id) {
		t.Errorf("log %s", log.String())
	}
}

func TestReadKeyFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "key")
	write := func(content string, mode os.FileMode) {
		t.Helper()
		os.Remove(name)
		if err := os.WriteFile(name, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		os.Chmod(name, mode)
	}
	good := hex.EncodeToString(testKey(1).secret[:])
	for mode, exposed := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o644: true} {
		write(good, mode)
		k, got, err := ReadKeyFile(name)
		if err != nil || *k != *testKey(1) || got != (exposed && runtime.GOOS != "windows") {
			t.Errorf("mode %o: %v, exposed %v, %v", mode, k, got, err)
		}
	}
	write("too short", 0o600)
	if _, _, err := ReadKeyFile(name); err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "too short") {
		t.Errorf("short: %v", err)
	}
	write(strings.Repeat(" ", maxKeyFile-len(good))+good, 0o600)
	if _, _, err := ReadKeyFile(name); err != nil {
		t.Errorf("as large as may be: %v", err)
	}
	write(strings.Repeat(" ", maxKeyFile-len(good)+1)+good, 0o600)
	if _, _, err := ReadKeyFile(name); err == nil {
		t.Error("too large: no error")
	}
	if _, _, err := ReadKeyFile(name + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"))
	f.Add([]byte("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="))
	f.Add(testKey(3).secret[:])
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKey(b)
		if err != nil {
			return
		}
		again, err := ParseKey([]byte(hex.EncodeToString(k.secret[:])))
		if err != nil || *again != *k {
			t.Fatalf("%v, %v", again, err)
		}
	})
}

// ringOf draws a data key under testKey(n).
func ringOf(t testing.TB, n byte, random io.Reader) *keyring {
	t.Helper()
	r, err := newKeyring(id16(1), testKey(n), nil, random)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWrappedKey(t *testing.T) {
	r := ringOf(t, 1, &counting{})
	w := r.seal.wrapped
	golden(t, "wrapped-key", w[:])
	piece := r.seal.seal(nil, []byte("rows"), []byte("about"))
	golden(t, "sealed-piece", piece)
	open := func(w wrappedKey, keys ...*Key) (string, error) {
		other, err := newKeyring(id16(1), nil, keys, nil)
		if err != nil {
			t.Fatal(err)
		}
		k, err := other.open(w, "a file")
		if err != nil {
			return "", err
		}
		clear, err := k.open(nil, piece, []byte("about"))
		return string(clear), err
	}
	if got, err := open(w, testKey(2), testKey(1)); err != nil || got != "rows" {
		t.Errorf("%q, %v", got, err)
	}
	for _, keys := range [][]*Key{nil, {testKey(2)}} {
		_, err := open(w, keys...)
		e, ok := errors.AsType[*KeyError](err)
		if !ok || e.KeyID != testKey(1).ID() || e.File != "a file" || len(e.Given) != len(keys) {
			t.Fatalf("given %v: %v", keys, err)
		}
		for _, want := range []string{testKey(1).ID(), "a file", "encryption.key_file", "encryption.previous_key_files"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %s", err, want)
			}
		}
	}
	for i := range w {
		bad := w
		bad[i] ^= 4
		if got, err := open(bad, testKey(1)); err == nil {
			t.Errorf("byte %d changed: opened as %q", i, got)
		}
	}
	other, _ := newKeyring(id16(2), nil, []*Key{testKey(1)}, nil)
	if _, err := other.open(w, ""); !errors.Is(err, errWrapped) {
		t.Errorf("in another directory: %v", err)
	}
	for i := range piece {
		bad := bytes.Clone(piece)
		bad[i] ^= 1
		if _, err := r.seal.open(nil, bad, []byte("about")); !errors.Is(err, errUnsealed) {
			t.Errorf("byte %d of a piece changed: %v", i, err)
		}
	}
	for n := range piece {
		if _, err := r.seal.open(nil, piece[:n], []byte("about")); err == nil {
			t.Errorf("a piece cut to %d bytes was opened", n)
		}
	}
	if _, err := r.seal.open(nil, piece, []byte("other")); err == nil {
		t.Error("opened with other additional data")
	}
}

// TestNoncesNeverRepeat: whoever seals at once, each piece has a counter of its own; and each process a data key.
func TestNoncesNeverRepeat(t *testing.T) {
	random := &counting{}
	r := ringOf(t, 1, random)
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	const each = 500
	for range 16 {
		wg.Go(func() {
			for range each {
				piece := r.seal.seal(nil, []byte("the same"), nil)
				mu.Lock()
				seen[string(piece[:sealCounter])] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != 16*each {
		t.Errorf("%d nonces of %d pieces", len(seen), 16*each)
	}
	if next := ringOf(t, 1, random); next.seal.wrapped == r.seal.wrapped {
		t.Error("two processes have the same data key")
	}
}

// TestSealedFrames: the payload of each frame comes back, and whatever of what is sealed or covered changes makes
// it damage.
func TestSealedFrames(t *testing.T) {
	r := ringOf(t, 1, &counting{})
	head := frameHead{Type: frameManifest, Incarnation: 7, Consumer: 1, First: 100, Count: 3}
	payload := []byte("a decision")
	stored := r.seal.store(&head, nil, payload)
	if head.Length != uint32(len(payload)+sealOverhead) || head.Flags != flagSealed || head.PayloadCRC != payloadCRC(stored) || bytes.Contains(stored, payload) {
		t.Errorf("header %+v", head)
	}
	golden(t, "frame-sealed", layOut(head, stored))
	if got, err := r.seal.reveal(&head, nil, stored); err != nil || string(got) != "a decision" {
		t.Errorf("%q, %v", got, err)
	}
	for name, change := range map[string]func(h *frameHead){
		"type": func(h *frameHead) { h.Type = frameReplace }, "consumer": func(h *frameHead) { h.Consumer = 0 },
		"stream": func(h *frameHead) { h.Incarnation = 8 }, "first": func(h *frameHead) { h.First++ }, "count": func(h *frameHead) { h.Count++ },
		"in clear": func(h *frameHead) { h.Flags = 0 },
	} {
		h := head
		change(&h)
		if got, err := r.seal.reveal(&h, nil, stored); !errors.Is(err, errPayload) {
			t.Errorf("%s changed: %q, %v", name, got, err)
		}
	}
	if _, err := (*dataKey)(nil).reveal(&head, nil, stored); !errors.Is(err, errPayload) {
		t.Errorf("sealed in a segment in clear: %v", err)
	}
	for _, typ := range []frameType{frameMark, frameNext, framePad} {
		h := frameHead{Type: typ}
		if got := r.seal.store(&h, nil, payload); string(got) != string(payload) || h.Flags != 0 {
			t.Errorf("%v is sealed", typ)
		}
		if got, err := r.seal.reveal(&h, nil, payload); err != nil || string(got) != string(payload) {
			t.Errorf("%v: %q, %v", typ, got, err)
		}
		h.Flags = flagSealed
		if _, err := r.seal.reveal(&h, nil, stored); err == nil {
			t.Errorf("%v is taken sealed", typ)
		}
	}
	rows := frameHead{Type: frameData, Incarnation: 7, Count: 3}
	stored = r.seal.store(&rows, nil, payload)
	rows.First, rows.LSN, rows.Arrived, rows.Flags = 77, 4096, 5, rows.Flags|flagOpening // what the committer gives it
	if _, err := r.seal.reveal(&rows, nil, stored); err != nil {
		t.Errorf("rows that got their place: %v", err)
	}
	slot := sampleSlotHead()
	slot.Key = r.seal.wrapped
	golden(t, "slot-header-sealed", slot.encode())
	if got, err := parseSlotHead(slot.encode()); err != nil || got != slot {
		t.Errorf("%+v, %v", got, err)
	}
	golden(t, "pack-header-sealed", packHeader(id16(1), id16(2), r.seal.wrapped))
}

func TestSealedLengths(t *testing.T) {
	for n := int64(packHeaderSize); n < packHeaderSize+3*sealBlock; n += 61 {
		if got, ok := clearLength(sealedLength(n)); got != n || !ok {
			t.Fatalf("%d bytes are %d sealed, and back %d", n, sealedLength(n), got)
		}
	}
	const block = sealBlock + sealOverhead
	for size, want := range map[int64]int64{
		packHeaderSize: packHeaderSize, packHeaderSize + sealOverhead + 1: packHeaderSize + 1, packHeaderSize + block: packHeaderSize + sealBlock,
		packHeaderSize + block + sealOverhead + 1: packHeaderSize + sealBlock + 1,
	} {
		if got, ok := clearLength(size); got != want || !ok {
			t.Errorf("%d: %d, %v", size, got, ok)
		}
	}
	for _, size := range []int64{0, packHeaderSize - 1, packHeaderSize + 1, packHeaderSize + sealOverhead, packHeaderSize + block + 1, packHeaderSize + block + sealOverhead} {
		if got, ok := clearLength(size); ok {
			t.Errorf("%d is taken as %d", size, got)
		}
	}
}

// canary is in every text that a caller gives in TestNothingInClear.
const canary = "canary-5417"

// keep gives a stream a manifest that is not confirmed, and rows that wait.
func (x *bench) fill(s Stream) {
	x.t.Helper()
	x.append(s.Name, canary+" cut 1", canary+" cut 2")
	x.cutOne(s, canary+"/key")
	x.append(s.Name, canary+" waits", strings.Repeat(canary, 2000))
}

// cutOne cuts what waits into one object under a key.
func (x *bench) cutOne(s Stream, key string) *Manifest {
	x.t.Helper()
	c := x.Consumer(s.Incarnation, Main)
	k := c.Take(0, 1<<40)
	first, next := k.Range()
	h := ManifestHead{ID: x.NewManifestID(), Incarnation: s.Incarnation, Version: s.Version, Epoch: c.NewEpoch(), First: first, Next: next}
	p, err := x.NewPack()
	if err != nil {
		x.t.Fatal(err)
	}
	w, err := p.Begin(ObjectHead{Key: key, Destination: canary})
	if err != nil {
		x.t.Fatal(err)
	}
	for r := range k.Rows() {
		fmt.Fprintf(w, "%s\n", r.Data)
		h.Counts.OK++
	}
	if err := p.End(h.Counts.OK, first, 1); err != nil {
		x.t.Fatal(err)
	}
	if err := p.Seal(h); err != nil {
		x.t.Fatal(err)
	}
	m, err := x.Cut(k, []*Pack{p}, h)
	if err != nil {
		x.t.Fatal(err)
	}
	return m
}

// waiting are the rows that nobody has cut.
func (x *bench) waitingRows(s Stream) (rows []string) {
	x.t.Helper()
	k := x.Consumer(s.Incarnation, Main).Take(0, 1<<40)
	if k == nil {
		return nil
	}
	for r := range k.Rows() {
		rows = append(rows, string(r.Data))
	}
	k.Release()
	return rows
}

// body of the first object of a manifest.
func (x *bench) body(m *Manifest) string {
	x.t.Helper()
	r, err := x.OpenObject(m, 0)
	if err != nil {
		x.t.Fatal(err)
	}
	defer r.Close()
	b := make([]byte, m.Objects[0].Size)
	if _, err := r.ReadAt(b, 0); err != nil && err != io.EOF {
		x.t.Fatal(err)
	}
	return string(b)
}

// TestNothingInClear: no text that a caller gave is found in any file of an encrypted data directory, also after
// starts, laps and damage that is set aside; and all of it is found where nothing is encrypted.
func TestNothingInClear(t *testing.T) {
	for _, key := range []*Key{nil, testKey(1)} {
		disk := forgetfs.New()
		x := openBench(t, Options{FS: disk, Key: key})
		s, err := x.Define(Stream{Name: canary, Spec: []byte(canary), Tags: map[string]string{canary: canary}})
		if err != nil {
			t.Fatal(err)
		}
		x.fill(s)
		broken := x.cutOne(s, canary+"/broken")
		x.append(s.Name, canary+" waits")
		if _, err := x.SetAside(broken.ID, []int{0}, "damaged"); err != nil {
			t.Fatal(err)
		}
		x.restart()
		x.append(s.Name, canary+" waits too")
		x.restart()
		if got := x.waitingRows(s); len(got) != 2 || got[1] != canary+" waits too" {
			t.Errorf("rows %.60q", got)
		}
		if x.Encrypted() != (key != nil) {
			t.Errorf("Encrypted() is %v", x.Encrypted())
		}
		var all []string
		for _, dir := range []string{"/data", "/data/" + journalDir, "/data/" + packsDir, "/data/" + quarantineDir} {
			all = append(all, disk.Files(dir)...)
		}
		found := 0
		for _, name := range all {
			b, err := disk.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(b, []byte("canary")) {
				found++
				if key != nil {
					t.Errorf("%s holds what was put in clear", name)
				}
			}
		}
		if key == nil && found < 3 {
			t.Errorf("the test finds nothing in clear either: %v", all)
		}
	}
}

// TestEncryptionChanges turns encryption on over a plain data directory, changes the key, and turns it off again.
// What older settings wrote is read as it is; new files follow the new one.
func TestEncryptionChanges(t *testing.T) {
	disk := forgetfs.New()
	x := openBench(t, Options{FS: disk})
	s := x.define("clicks")
	x.fill(s)
	keyOf := func(file string) string {
		t.Helper()
		id := "none"
		err := InspectJournal(disk, file, func(i SlotInfo) {
			if id = i.KeyID; i.Free {
				id = "free"
			}
		}, func(FrameInfo) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	for i, step := range []struct {
		key      *Key
		previous []*Key
		want     string
	}{
		{testKey(1), nil, testKey(1).ID()},
		{testKey(2), []*Key{testKey(1)}, testKey(2).ID()},
		{testKey(2), []*Key{testKey(1), testKey(2)}, testKey(2).ID()},
		{nil, []*Key{testKey(2), testKey(1)}, ""},
		{testKey(1), []*Key{testKey(2)}, testKey(1).ID()},
	} {
		x.o.Key, x.o.PreviousKeys = step.key, step.previous
		x.restart()
		if got := keyOf(x.journal.active().slot.name); got != step.want {
			t.Errorf("step %d: the active segment is under key %q, want %q", i, got, step.want)
		}
		if got := len(x.waitingRows(s)); got != 2+i {
			t.Errorf("step %d: %d rows wait", i, got)
		}
		for _, m := range x.Outstanding() {
			if got := x.body(m); !strings.HasPrefix(got, canary) {
				t.Errorf("step %d: object %q is %.40q", i, m.Objects[0].Key, got)
			}
		}
		x.append("clicks", "one more")
	}
	x.cutOne(s, "last")
	if got := len(x.Outstanding()); got != 2 {
		t.Errorf("%d manifests", got)
	}
}

// TestKeyIsMissing: a start without the key, or with another one, is refused and touches nothing. When nothing is
// left of an old key it is not asked for.
func TestKeyIsMissing(t *testing.T) {
	disk := forgetfs.New()
	x := openBench(t, Options{FS: disk, Key: testKey(1)})
	s := x.define("clicks")
	x.fill(s)
	leftover := path.Join("/data", journalDir, "ids-9"+tmpSuffix)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := disk.OpenFile(leftover, fsys.Create)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, o := range []Options{{}, {Key: testKey(2)}, {Key: testKey(2), PreviousKeys: []*Key{testKey(3)}}} {
		before := disk.Used()
		ops := disk.Trace()
		o.Dir, o.FS, o.geometry = "/data", disk, tiny
		_, err := Open(o)
		e, ok := errors.AsType[*KeyError](err)
		if !ok || e.KeyID != testKey(1).ID() || !strings.Contains(err.Error(), "encryption.key_file") {
			t.Fatalf("got %v", err)
		}
		for line := range strings.Lines(strings.TrimPrefix(disk.Trace(), ops)) {
			for _, kind := range []string{"write", "truncate", "remove", "rename", "create", "allocate"} {
				if strings.Contains(line, " "+kind+" ") {
					t.Errorf("a refused start has touched the directory: %s", line)
				}
			}
		}
		if disk.Used() != before {
			t.Errorf("%d bytes are used, %d before", disk.Used(), before)
		}
	}
	x.o.Key, x.o.PreviousKeys = testKey(2), []*Key{testKey(1)}
	x.start()
	if _, err := disk.ReadFile(leftover); err == nil {
		t.Error("what a crash left is still there after a start")
	}
	for _, m := range x.Outstanding() {
		x.Confirm(m.ID, 0)
	}
	x.cutOne(s, "rest")
	for _, m := range x.Outstanding() {
		x.Confirm(m.ID, 0)
	}
	until(t, "all is confirmed", func() bool { return len(x.Outstanding()) == 0 })
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x.o.PreviousKeys = nil
	x.start() // nothing of the old key is needed: the copies went into a segment under the new one
	x.append("clicks", "on")
}

// TestSealedDamage: a changed byte of rows under a checksum that is right is damage all the same, and a missing
// pack key stops the start.
func TestSealedDamage(t *testing.T) {
	disk := forgetfs.New()
	x := openBench(t, Options{FS: disk, Key: testKey(1)})
	s := x.define("clicks")
	r := x.append("clicks", "first")
	x.append("clicks", "second")
	x.Append(context.Background(), "clicks", record.Call{Batch: batch("third")})
	slot := x.journal.active().slot.name
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	var at FrameInfo
	err := InspectJournal(disk, slot, func(SlotInfo) {}, func(f FrameInfo) bool {
		if f.Type == "DATA" && f.First == r.First {
			at = f
		}
		return true
	}, testKey(1))
	if err != nil || at.Size == 0 || !at.Encrypted {
		t.Fatalf("no frame: %+v, %v", at, err)
	}
	b, err := disk.ReadFile(slot)
	if err != nil {
		t.Fatal(err)
	}
	frame := bytes.Clone(b[at.Offset : at.Offset+at.Size])
	h, err := parseFrameHead(frame, x.journal.id.Salt)
	if err != nil {
		t.Fatal(err)
	}
	frame[frameHeader+sealCounter+3] ^= 1
	h.PayloadCRC = payloadCRC(frame[frameHeader : frameHeader+h.Length]) // by somebody who knows the format, not the key
	h.put(frame, x.journal.id.Salt)
	f, err := disk.OpenFile(slot, fsys.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(frame, at.Offset); err != nil {
		t.Fatal(err)
	}
	f.Datasync()
	f.Close()
	x.start()
	if got := fmt.Sprint(x.waitingRows(s)); got != "[second third]" {
		t.Errorf("rows %s", got)
	}
	if got := x.Consumer(s.Incarnation, Main).Totals(); got.Lost != 1 {
		t.Errorf("totals %+v", got)
	}
}

// TestInspectSealed: with the key everything is shown, without it what headers say, and that is no damage.
func TestInspectSealed(t *testing.T) {
	disk := forgetfs.New()
	x := openBench(t, Options{FS: disk, Key: testKey(1)})
	s := x.define("clicks")
	x.fill(s)
	m := x.Outstanding()[0]
	slot, pack := x.journal.active().slot.name, x.packs.path(m.Objects[0].Pack)
	details := func(keys ...*Key) (all string) {
		err := InspectJournal(disk, slot, func(SlotInfo) {}, func(f FrameInfo) bool {
			if f.Fault != "" {
				t.Errorf("fault %q", f.Fault)
			}
			all += f.Type + " " + f.Detail + "\n"
			return true
		}, keys...)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got := details(testKey(2), testKey(1)); !strings.Contains(got, `STREAM "clicks" version 1 active`) || !strings.Contains(got, "MANIFEST manifest ") {
		t.Errorf("with the key:\n%s", got)
	}
	for _, keys := range [][]*Key{nil, {testKey(2)}} {
		if got := details(keys...); !strings.Contains(got, "STREAM encrypted") || strings.Contains(got, "clicks") {
			t.Errorf("without the key:\n%s", got)
		}
		if _, err := InspectPack(disk, pack, true, keys...); err == nil || !strings.Contains(err.Error(), testKey(1).ID()) {
			t.Errorf("pack without the key: %v", err)
		}
	}
	r, err := InspectPack(disk, pack, true, testKey(1))
	if err != nil || len(r.Damaged) > 0 || r.KeyID != testKey(1).ID() || r.Manifests[0].Objects[0].Key != canary+"/key" {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestBodiesWithSealedCopies: with encryption a body counts twice, for the sealed copy of its frame; one body is
// always read.
func TestBodiesWithSealedCopies(t *testing.T) {
	for _, key := range []*Key{nil, testKey(1)} {
		x := openBench(t, Options{FS: forgetfs.New(), Key: key, Memory: 64 << 20})
		budget := bodyShare(64 << 20)
		if key != nil {
			budget /= 2
		}
		if n := x.BodyBudget(); n != budget {
			t.Errorf("a budget of %d, want %d", n, budget)
		}
		first, err := x.AdmitBody(budget - 100)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.AdmitBody(101); err == nil {
			t.Errorf("encrypted %v: a byte too many is read", key != nil)
		}
		second, err := x.AdmitBody(100)
		if err != nil {
			t.Errorf("encrypted %v: %v", key != nil, err)
		}
		first()
		second()
		all, err := x.AdmitBody(1 << 30)
		if err != nil {
			t.Errorf("encrypted %v: a body alone: %v", key != nil, err)
		}
		all()
		if s := x.space.stats(); s.Bodies != 0 {
			t.Errorf("%d bytes are not given back", s.Bodies)
		}
	}
}
