package buffer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"hydrant/buffer/forgetfs"
)

// secretive opens a data directory on a disk, with a key or without.
func secretive(disk *forgetfs.FS, key *Key, previous ...*Key) (*Buffer, error) {
	return Open(Options{Dir: "/data", FS: disk, Disk: 64 << 20, SlotSize: minSlotSize, Slots: 6, Key: key, PreviousKeys: previous})
}

func mustOpenSecretive(t *testing.T, disk *forgetfs.FS, key *Key, previous ...*Key) *Buffer {
	t.Helper()
	b, err := secretive(disk, key, previous...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustPut(t *testing.T, s *Secrets, secret string) (id string) {
	t.Helper()
	id, err := s.Put([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func holds(t *testing.T, s *Secrets, id, want string) {
	t.Helper()
	if got, err := s.Get(id); err != nil || string(got) != want {
		t.Errorf("secret %s is %q, %v; want %q", id, got, err, want)
	}
}

// What is kept is there at the next start, whatever key that has, as long as it knows the one before.
func TestSecretsAreKept(t *testing.T) {
	disk := forgetfs.New()
	const text = "top secret of the first stream"
	var ids []string
	want := map[string]string{}
	for i, keys := range [][]*Key{{nil}, {nil}, {testKey(1)}, {testKey(1)}, {testKey(2), testKey(1)}, {testKey(2)}, {nil, testKey(2)}, {nil}} {
		b := mustOpenSecretive(t, disk, keys[0], keys[1:]...)
		for id, secret := range want {
			holds(t, b.Secrets(), id, secret)
		}
		content, err := disk.ReadFile("/data/" + secretsName)
		if err == nil && bytes.Contains(content, []byte(text)) != (keys[0] == nil) {
			t.Errorf("start %d with key %v: the secret stands in clear, or does not: wrong", i, keys[0])
		}
		id := mustPut(t, b.Secrets(), fmt.Sprintf("%s %d", text, i))
		ids, want[id] = append(ids, id), fmt.Sprintf("%s %d", text, i)
		if i == 3 {
			delete(want, ids[0])
			if err := b.Secrets().Keep(func(id string) bool { return id != ids[0] }); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Secrets().Get(ids[0]); i >= 3 != errors.Is(err, ErrNoSecret) {
			t.Errorf("start %d: an entry that may be forgotten after the third start: %v", i, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != 8 {
		t.Errorf("ids %q", ids)
	}
	for _, id := range []string{"", "00", strings.ToUpper(ids[1]), ids[1] + "00", strings.Repeat("z", 32)} {
		if _, err := (&Secrets{}).Get(id); !errors.Is(err, ErrNoSecret) {
			t.Errorf("id %q: %v", id, err)
		}
	}
}

// A key that is not known stops the start with its name, and changes nothing.
func TestSecretsNeedTheirKey(t *testing.T) {
	keys, err := newKeyring([16]byte{1}, testKey(1), nil, bytes.NewReader(bytes.Repeat([]byte{7}, 100)))
	if err != nil {
		t.Fatal(err)
	}
	file := encodeSecrets(map[secretID][]byte{{1}: []byte("s")}, [16]byte{1}, keys.seal)
	other, err := newKeyring([16]byte{1}, testKey(2), nil, bytes.NewReader(bytes.Repeat([]byte{8}, 100)))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = parseSecrets(file, "/data/secrets", other)
	e, ok := errors.AsType[*KeyError](err)
	if !ok || e.KeyID != testKey(1).ID() || e.File != "/data/secrets" || !slices.Equal(e.Given, []string{testKey(2).ID()}) {
		t.Errorf("error %v", err)
	}
	disk := forgetfs.New()
	b := mustOpenSecretive(t, disk, testKey(1))
	mustPut(t, b.Secrets(), "s")
	b.Close()
	before, _ := disk.ReadFile("/data/secrets")
	if _, err := secretive(disk, testKey(2)); err == nil || !strings.Contains(err.Error(), testKey(1).ID()) {
		t.Errorf("a start without the key: %v", err)
	}
	if after, _ := disk.ReadFile("/data/secrets"); !bytes.Equal(before, after) {
		t.Error("the file has changed")
	}
}

// No bit of the file can change unseen; a damaged file stops the start or is set aside, as the policy says.
func TestSecretsDamaged(t *testing.T) {
	for _, key := range []*Key{nil, testKey(1)} {
		disk := forgetfs.New()
		b := mustOpenSecretive(t, disk, key)
		id := mustPut(t, b.Secrets(), "one")
		mustPut(t, b.Secrets(), "two")
		keys := b.keys
		b.Close()
		good, err := disk.ReadFile("/data/secrets")
		if err != nil {
			t.Fatal(err)
		}
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << (i % 8)
			if _, _, err := parseSecrets(bad, "secrets", keys); err == nil {
				t.Errorf("byte %d of %d changed unseen", i, len(good))
			}
			if _, _, err := parseSecrets(good[:i], "secrets", keys); err == nil {
				t.Errorf("%d bytes of %d are taken for the whole", i, len(good))
			}
		}
		for _, policy := range []DamagePolicy{Stop, Quarantine} {
			disk := disk.Fork()
			if err := disk.Flip("/data/secrets", int64(len(good)-1), 1); err != nil {
				t.Fatal(err)
			}
			bad, _ := disk.ReadFile("/data/secrets")
			b, err := Open(Options{Dir: "/data", FS: disk, Disk: 64 << 20, SlotSize: minSlotSize, Slots: 6, Key: key, OnDamage: policy})
			if policy == Stop {
				if e, ok := errors.AsType[*DamageError](err); !ok || e.Items[0].File != "/data/secrets" || !strings.Contains(err.Error(), "UpdateDestination") || strings.Contains(err.Error(), "two") {
					t.Errorf("policy stop: %v", err)
				}
				if still, _ := disk.ReadFile("/data/secrets"); !bytes.Equal(still, bad) {
					t.Error("policy stop: the file has changed")
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Secrets().Get(id); !errors.Is(err, ErrNoSecret) {
				t.Errorf("policy quarantine: %v", err)
			}
			files := disk.Files("/data/quarantine")
			if len(files) != 1 {
				t.Fatalf("set aside: %q", files)
			}
			if aside, err := disk.ReadFile(files[0]); err != nil || !bytes.Equal(aside, bad) {
				t.Errorf("set aside are other bytes: %v", err)
			}
			holds(t, b.Secrets(), mustPut(t, b.Secrets(), "three"), "three")
			b.Close()
		}
	}
}

// A file of a later version is no damage.
func TestSecretsOfALaterVersion(t *testing.T) {
	keys, _ := newKeyring([16]byte{1}, nil, nil, nil)
	b := encodeSecrets(nil, [16]byte{1}, nil)
	b[8]++
	checksummed(b)
	if _, _, err := parseSecrets(b, "secrets", keys); err == nil || !strings.Contains(err.Error(), "format version 2, this program reads up to 1") {
		t.Errorf("error %v", err)
	}
	b[8] = 0
	checksummed(b)
	if _, _, err := parseSecrets(b, "secrets", keys); err == nil {
		t.Error("version 0 is read")
	}
	if _, _, err := parseSecrets(encodeSecrets(nil, [16]byte{2}, nil), "secrets", keys); err == nil || !strings.Contains(err.Error(), "another data directory") {
		t.Errorf("error %v", err)
	}
}

// checksummed makes the checksums of a file of secrets, and the length that it says, what they should be.
func checksummed(b []byte) {
	le := binary.LittleEndian
	le.PutUint64(b[32:], uint64(len(b)-secretsHead))
	le.PutUint32(b[112:], crc32.Checksum(b[secretsHead:], castagnoli))
	le.PutUint32(b[116:], crc32.Checksum(b[:116], castagnoli))
}

func TestSecretsLimits(t *testing.T) {
	disk := forgetfs.New()
	b := mustOpenSecretive(t, disk, nil)
	defer func() { b.Close() }()
	s := b.Secrets()
	id := mustPut(t, s, strings.Repeat("x", MaxSecret))
	if _, err := s.Put(make([]byte, MaxSecret+1)); err == nil {
		t.Error("a secret that is too long is kept")
	}
	holds(t, s, mustPut(t, s, ""), "")
	// As many as fit, exactly.
	room := maxSecrets - secretsHead - 4 - (20 + MaxSecret) - 20
	next := s.copied()
	for i := 0; room >= 20+MaxSecret; i++ {
		next[secretID{9, byte(i), byte(i >> 8)}] = make([]byte, MaxSecret)
		room -= 20 + MaxSecret
	}
	s.entries = next
	if _, err := s.Put(make([]byte, room-20+1)); !errors.Is(err, ErrSecretsFull) {
		t.Errorf("one byte too many: %v", err)
	}
	if len(s.entries) != len(next) {
		t.Error("an entry that was refused is there")
	}
	last := mustPut(t, s, strings.Repeat("y", room-20))
	b.Close()
	b = mustOpenSecretive(t, disk, nil)
	holds(t, b.Secrets(), id, strings.Repeat("x", MaxSecret))
	holds(t, b.Secrets(), last, strings.Repeat("y", room-20))
}

// Others than the owner cannot read the file.
func TestSecretsMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("has no such modes")
	}
	dir := filepath.Join(t.TempDir(), "data")
	b, err := Open(Options{Dir: dir, Disk: 64 << 20, SlotSize: minSlotSize, Slots: 6})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	mustPut(t, b.Secrets(), "s")
	if info, err := os.Stat(filepath.Join(dir, secretsName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// keeper makes definitions that name secrets, as the control plane does. told is what it was told to be durable.
type keeper struct {
	b     *Buffer
	told  string // specification that Define has answered for
	gone  bool   // the end was answered
	tried map[string]string
}

// become makes the stream's secret another one.
func (k *keeper) become(secret string) error {
	id, err := k.b.Secrets().Put([]byte(secret))
	if err != nil {
		return err
	}
	k.tried[id] = secret
	if _, err := k.b.Define(Stream{Name: "s", Spec: []byte(id)}); err != nil {
		return err
	}
	k.told = id
	return k.forget()
}

func (k *keeper) forget() error {
	named := map[string]bool{}
	for _, v := range k.b.Versions() {
		named[string(v.Spec)] = true
	}
	return k.b.Secrets().Keep(func(id string) bool { return named[id] })
}

// Whenever the power goes, the definition that is found names a secret that is there: that of before, or the new
// one. And when a start has forgotten what nothing names, nothing else is there.
func TestSecretsSurviveAnyCrash(t *testing.T) {
	images := map[string]func(int, forgetfs.Unit) forgetfs.Fate{"all": forgetfs.All, "none": forgetfs.None, "some": forgetfs.Random(1), "others": forgetfs.Random(2)}
	script := func(k *keeper) error {
		for i := range 3 {
			if err := k.become(fmt.Sprint("secret ", i)); err != nil {
				return err
			}
		}
		for _, state := range []State{Deleting, Gone} {
			if _, err := k.b.Define(Stream{Name: "s", Spec: []byte(k.told), State: state}); err != nil {
				return err
			}
		}
		k.gone = true
		return k.forget()
	}
	crashes := 0
	for _, key := range []*Key{nil, testKey(1)} {
		base := forgetfs.New()
		mustOpenSecretive(t, base, key).Close()
		for at := int64(1); ; at++ {
			disk := base.Fork()
			k := &keeper{b: mustOpenSecretive(t, disk, key), tried: map[string]string{}}
			disk.CrashAt(disk.Ops() + at)
			err := script(k)
			ended := !disk.Dead()
			k.b.Close()
			if ended && err != nil {
				t.Fatal(err)
			}
			for name, fate := range images {
				crashes++
				left := disk.Image(fate)
				b, err := secretive(left, key)
				if err != nil {
					t.Fatalf("operation %d, %s: %v", at, name, err)
				}
				checkNamed(t, fmt.Sprintf("operation %d, %s", at, name), b, k)
				b.Close()
			}
			if ended {
				break
			}
		}
	}
	if crashes < 100 {
		t.Errorf("only %d crashes", crashes)
	}
}

func checkNamed(t *testing.T, where string, b *Buffer, k *keeper) {
	t.Helper()
	streams := b.Streams()
	switch {
	case len(streams) == 0 && k.told != "" && !k.gone && k.told != lastOf(k):
		t.Errorf("%s: the stream is gone", where)
	case len(streams) == 1 && k.gone:
		t.Errorf("%s: the stream, whose end was answered, is there", where)
	}
	for _, s := range streams {
		id := string(s.Spec)
		if got, err := b.Secrets().Get(id); err != nil || string(got) != k.tried[id] {
			t.Errorf("%s: the definition names %s: %q, %v", where, id, got, err)
		}
	}
	k = &keeper{b: b}
	if err := k.forget(); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	if n := b.Secrets().len(); n != len(streams) {
		t.Errorf("%s: %d entries for %d streams", where, n, len(streams))
	}
}

// lastOf is the specification with which the script ends the stream: then it may be gone without an answer.
func lastOf(k *keeper) string {
	if len(k.tried) < 3 {
		return ""
	}
	return k.told
}

// A write that fails changes nothing, and the next one works.
func TestSecretsWriteFails(t *testing.T) {
	disk := forgetfs.New()
	b := mustOpenSecretive(t, disk, nil)
	defer b.Close()
	id := mustPut(t, b.Secrets(), "before")
	for _, kind := range []forgetfs.Kind{forgetfs.OpCreate, forgetfs.OpWrite, forgetfs.OpDatasync, forgetfs.OpRename, forgetfs.OpSyncDir} {
		hit := false
		disk.SetHook(func(op forgetfs.Op) *forgetfs.Fault {
			if op.Kind != kind || !strings.HasPrefix(op.Path, "/data/"+secretsName) && op.Kind != forgetfs.OpSyncDir {
				return nil
			}
			hit = true
			return &forgetfs.Fault{Err: errors.New("the disk burns")}
		})
		_, err := b.Secrets().Put([]byte("lost"))
		disk.SetHook(nil)
		if !hit || err == nil || strings.Contains(err.Error(), "lost") {
			t.Errorf("%v: %v", kind, err)
		}
		if b.Secrets().len() != 1 {
			t.Errorf("%v: an entry that was not kept is there", kind)
		}
		holds(t, b.Secrets(), id, "before")
	}
	holds(t, b.Secrets(), mustPut(t, b.Secrets(), "after"), "after")
}

// FuzzSecrets: any file is read or refused, and what is read is what was written.
func FuzzSecrets(f *testing.F) {
	keys, _ := newKeyring([16]byte{1}, nil, nil, nil)
	f.Add([]byte{})
	f.Add(encodeSecrets(nil, [16]byte{1}, nil))
	f.Add(encodeSecrets(map[secretID][]byte{{1}: []byte("one"), {2}: nil, {0, 9}: []byte("two")}, [16]byte{1}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= secretsHead { // get past the checksums
			b = bytes.Clone(b)
			checksummed(b)
		}
		entries, wrapped, err := parseSecrets(b, "secrets", keys)
		if err != nil {
			return
		}
		if !wrapped.none() {
			t.Error("a sealed file was read without a key")
		}
		again, _, err := parseSecrets(encodeSecrets(entries, keys.directory, nil), "secrets", keys)
		if err != nil || !maps.EqualFunc(again, entries, func(a, b []byte) bool { return bytes.Equal(a, b) }) {
			t.Errorf("%d entries became %d, %v", len(entries), len(again), err)
		}
	})
}
