package buffer

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"hydrant/buffer/forgetfs"
)

func notesSay(t *testing.T, n *Notes, incarnation uint32, want map[string]string) {
	t.Helper()
	names, err := n.List(incarnation)
	if err != nil || len(names) != len(want) {
		t.Errorf("stream %d has notes %q, %v; want %q", incarnation, names, err, want)
	}
	for _, name := range names {
		if got, err := n.Read(incarnation, name); err != nil || string(got) != want[name] {
			t.Errorf("note %q says %q, %v; want %q", name, got, err, want[name])
		}
	}
}

// A note says what was written last, whatever key a start has, as long as it knows the one before; and nothing of it is in clear
// on a disk that is encrypted.
func TestNotes(t *testing.T) {
	disk := forgetfs.New()
	const text = "k=secret customer/2026-07-13/"
	for i, keys := range [][]*Key{{nil}, {testKey(1)}, {testKey(2), testKey(1)}, {nil, testKey(2)}} {
		b := mustOpenSecretive(t, disk, keys[0], keys[1:]...)
		n := b.Notes()
		if i > 0 {
			notesSay(t, n, 7, map[string]string{"a-1": text, "b": ""})
		}
		for _, err := range []error{n.Write(7, "a-1", []byte("older")), n.Write(7, "a-1", []byte(text)), n.Write(7, "b", nil), n.Write(70, "c", []byte("x")), n.Remove(7, "none")} {
			if err != nil {
				t.Fatal(err)
			}
		}
		notesSay(t, n, 7, map[string]string{"a-1": text, "b": ""})
		notesSay(t, n, 70, map[string]string{"c": "x"})
		clear := false
		for _, name := range disk.Files("/data/notes") {
			if !strings.Contains(name, "a-1") {
				continue
			}
			content, err := disk.ReadFile("/data/notes/" + name[strings.LastIndexByte(name, '/')+1:])
			if err != nil {
				t.Fatal(err)
			}
			clear = clear || bytes.Contains(content, []byte("secret customer"))
		}
		if clear != (keys[0] == nil) {
			t.Errorf("start %d: the note is in clear: %v", i, clear)
		}
		if i == 3 {
			if err := n.Keep([]uint32{70}); err != nil {
				t.Fatal(err)
			}
			notesSay(t, n, 7, nil)
			notesSay(t, n, 70, map[string]string{"c": "x"})
			if _, err := n.Read(7, "b"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a note that was removed: %v", err)
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A note that is damaged anywhere, or stands under the name of another, is an error and never other words.
func TestNotesAreDamaged(t *testing.T) {
	for _, key := range []*Key{nil, testKey(1)} {
		disk := forgetfs.New()
		b := mustOpenSecretive(t, disk, key)
		n := b.Notes()
		if err := n.Write(1, "a", []byte("what it says")); err != nil {
			t.Fatal(err)
		}
		size, err := disk.ReadFile("/data/notes/00000001-a")
		if err != nil {
			t.Fatal(err)
		}
		for off := range len(size) {
			if err := disk.Flip("/data/notes/00000001-a", int64(off), 4); err != nil {
				t.Fatal(err)
			}
			if got, err := n.Read(1, "a"); err == nil {
				t.Errorf("with byte %d damaged it says %q", off, got)
			}
			if err := disk.Flip("/data/notes/00000001-a", int64(off), 4); err != nil {
				t.Fatal(err)
			}
		}
		if err := disk.Rename("/data/notes/00000001-a", "/data/notes/00000002-a"); err != nil {
			t.Fatal(err)
		}
		if got, err := n.Read(2, "a"); err == nil {
			t.Errorf("under another stream's name it says %q", got)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever operation is the last before the power is cut, a note says what it said or what it was to say, and what had returned
// holds.
func TestNotesSurvivePowerCuts(t *testing.T) {
	for n := int64(1); ; n++ {
		disk := forgetfs.New()
		b := mustOpenSecretive(t, disk, testKey(1))
		disk.CrashAt(disk.Ops() + n)
		notes := b.Notes()
		var done []bool
		for _, f := range []func() error{
			func() error { return notes.Write(1, "a", []byte("one")) },
			func() error { return notes.Write(1, "a", []byte("two")) },
			func() error { return notes.Write(1, "b", []byte("three")) },
			func() error { return notes.Remove(1, "a", "b") },
		} {
			done = append(done, f() == nil)
		}
		died := disk.Dead()
		disk.Kill()
		_ = b.Close()
		for seed := range uint64(4) {
			after := disk.Crash(seed)
			b := mustOpenSecretive(t, after, testKey(1))
			notes := b.Notes()
			if err := notes.Keep([]uint32{1}); err != nil {
				t.Fatal(err)
			}
			say := func(name string) string {
				content, err := notes.Read(1, name)
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("death at %d, seed %d: note %q: %v", n, seed, name, err)
				}
				return string(content)
			}
			possible := func(name string, after int, states ...string) { // states[i] after i calls
				for i := after; i < len(states); i++ {
					if say(name) == states[i] {
						return
					}
					if i > after {
						break
					}
				}
				t.Errorf("death at %d, seed %d, after %v: note %q says %q", n, seed, done, name, say(name))
			}
			returned := slices.Index(append(slices.Clone(done), false), false)
			possible("a", returned, "", "one", "two", "two", "")
			possible("b", returned, "", "", "", "three", "")
			_ = b.Close()
		}
		if !died {
			break
		}
	}
}

func FuzzNote(f *testing.F) {
	keys := &keyring{directory: [16]byte{1}}
	n := &Notes{keys: keys}
	f.Add(n.encode("00000001-a", []byte("what it says")), "00000001-a")
	f.Add(n.encode("00000001-b", nil), "00000001-b")
	f.Add([]byte("HYD"), "")
	f.Fuzz(func(t *testing.T, b []byte, file string) {
		content, err := parseNote(bytes.Clone(b), file, keys)
		if err == nil && !bytes.Equal(n.encode(file, content), b) {
			t.Errorf("%x is read as %q", b, content)
		}
	})
}
