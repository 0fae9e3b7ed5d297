package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"hydrant/buffer/fsys"
)

// Notes are small files that a reader of a stream keeps beside the journal: what it has to know of manifests after they have
// ended. Each is written whole and has a name; a note is there with all its bytes or not at all, whatever happens while it is
// written, and what Write, and Remove, have returned without error from holds after a crash. The buffer knows nothing of what is
// in them, and no frame names one, so whoever writes notes says himself which of them a decision has made true.
//
// A note is sealed where the buffer has a Key, as everything else is. A damaged one is an error of Read: nothing is guessed.
// Safe for concurrent use; of one note by one goroutine at a time.
type Notes struct {
	fs   fsys.FS
	dir  string
	keys *keyring

	mu   sync.Mutex
	made bool // the directory is there, durably
}

// A note has the header of the file of secrets, with a magic and an additional data of its own: name and stream are sealed
// with what it says, so that notes cannot change places.
const (
	notesDir     = "notes"
	notesMagic   = 0x31455442_4e445948 // "HYDNBTE1"
	notesVersion = 1
	notesHead    = 120
	// MaxNote is the most bytes that a note can have.
	MaxNote = 256 << 20
)

// noteName is the name of a note's file.
func noteName(incarnation uint32, name string) string {
	return fmt.Sprintf("%08x-%s", incarnation, name)
}

// Notes returns the notes of this buffer.
func (b *Buffer) Notes() *Notes {
	return &Notes{fs: b.fs, dir: path.Join(b.dir, notesDir), keys: b.keys}
}

// names are the files that are there, without those that a crash has left half made, which go.
func (n *Notes) names() ([]string, error) {
	list, err := n.fs.ReadDir(n.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the notes in %q: %w", n.dir, err)
	}
	var out []string
	for _, e := range list {
		if !strings.HasSuffix(e.Name, tmpSuffix) {
			out = append(out, e.Name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// List returns the names of a stream's notes, ascending.
func (n *Notes) List(incarnation uint32) ([]string, error) {
	files, err := n.names()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, file := range files {
		if name, ok := strings.CutPrefix(file, noteName(incarnation, "")); ok {
			out = append(out, name)
		}
	}
	return out, nil
}

// Keep removes the notes of all streams but these, and what crashes have left of notes that were never there.
func (n *Notes) Keep(incarnations []uint32) error {
	list, err := n.fs.ReadDir(n.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the notes in %q: %w", n.dir, err)
	}
	for _, e := range list {
		kept := slices.ContainsFunc(incarnations, func(i uint32) bool { return strings.HasPrefix(e.Name, noteName(i, "")) })
		if kept && !strings.HasSuffix(e.Name, tmpSuffix) {
			continue
		}
		if err := n.fs.Remove(path.Join(n.dir, e.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a note: %w", err)
		}
	}
	return nil
}

// Write makes a note say this, durably. With an error it says what it said before, or this.
func (n *Notes) Write(incarnation uint32, name string, content []byte) error {
	if len(content) > MaxNote {
		return fmt.Errorf("a note has %d bytes, at most %d can be kept", len(content), MaxNote)
	}
	if err := n.make(); err != nil {
		return err
	}
	file := noteName(incarnation, name)
	if err := writeFile(n.fs, path.Join(n.dir, file), n.encode(file, content)); err != nil {
		return fmt.Errorf("keep a note: %w", err)
	}
	CrashPoint("note-written")
	return nil
}

// make makes the directory of notes.
func (n *Notes) make() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.made {
		return nil
	}
	if err := n.fs.Mkdir(n.dir); err != nil {
		return fmt.Errorf("create %q: %w", n.dir, err)
	}
	if err := n.fs.SyncDir(path.Dir(n.dir)); err != nil {
		return fmt.Errorf("sync directory %q: %w", path.Dir(n.dir), err)
	}
	n.made = true
	return nil
}

// Remove takes notes away, durably. One that is not there is none.
func (n *Notes) Remove(incarnation uint32, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		file := path.Join(n.dir, noteName(incarnation, name))
		if err := n.fs.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the note %q: %w", file, err)
		}
	}
	if err := n.fs.SyncDir(n.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sync directory %q: %w", n.dir, err)
	}
	CrashPoint("notes-removed")
	return nil
}

// Read returns what a note says. Errors: fs.ErrNotExist, *NewerVersionError, *KeyError, or what is damaged.
func (n *Notes) Read(incarnation uint32, name string) ([]byte, error) {
	file := noteName(incarnation, name)
	b, err := readFile(n.fs, path.Join(n.dir, file), MaxNote+notesHead+sealOverhead)
	if err != nil {
		return nil, err
	}
	if b, err = parseNote(b, file, n.keys); err != nil {
		return nil, fmt.Errorf("note %q: %w", path.Join(n.dir, file), err)
	}
	return b, nil
}

// noteSeal is the additional data of a sealed note.
func noteSeal(head []byte, file string) []byte { return append(slices.Clip(head[:32]), file...) }

func (n *Notes) encode(file string, content []byte) []byte {
	le, seal := binary.LittleEndian, n.keys.seal
	b := make([]byte, notesHead, notesHead+len(content)+seal.overhead())
	le.PutUint64(b, notesMagic)
	le.PutUint32(b[8:], notesVersion)
	copy(b[16:], n.keys.directory[:])
	if seal == nil {
		b = append(b, content...)
	} else {
		copy(b[40:], seal.wrapped[:])
		b = seal.seal(b, content, noteSeal(b, file))
	}
	le.PutUint64(b[32:], uint64(len(b)-notesHead))
	le.PutUint32(b[112:], crc32.Update(crc32.Checksum([]byte(file), castagnoli), castagnoli, b[notesHead:]))
	le.PutUint32(b[116:], crc32.Checksum(b[:116], castagnoli))
	return b
}

// parseNote reads the whole file.
func parseNote(b []byte, file string, keys *keyring) ([]byte, error) {
	le := binary.LittleEndian
	switch {
	case len(b) < notesHead:
		return nil, fmt.Errorf("it has %d bytes, fewer than its header", len(b))
	case le.Uint64(b) != notesMagic:
		return nil, errors.New("it is not a note of this program")
	case le.Uint32(b[116:]) != crc32.Checksum(b[:116], castagnoli):
		return nil, errors.New("its header does not match its checksum")
	case le.Uint32(b[8:]) > notesVersion:
		return nil, &NewerVersionError{Path: file, What: "note", Version: le.Uint32(b[8:]), Known: notesVersion}
	case le.Uint32(b[8:]) != notesVersion || le.Uint32(b[12:]) != 0:
		return nil, errors.New("its header has values out of range")
	case [16]byte(b[16:32]) != keys.directory:
		return nil, errors.New("it belongs to another data directory")
	case le.Uint64(b[32:]) != uint64(len(b)-notesHead):
		return nil, fmt.Errorf("it has %d bytes behind its header, which says %d", len(b)-notesHead, le.Uint64(b[32:]))
	case le.Uint32(b[112:]) != crc32.Update(crc32.Checksum([]byte(file), castagnoli), castagnoli, b[notesHead:]):
		return nil, errors.New("its content does not match its checksum, or its name")
	}
	var wrapped wrappedKey
	copy(wrapped[:], b[40:])
	key, err := keys.open(wrapped, file)
	if err != nil {
		return nil, err
	}
	if key == nil {
		return b[notesHead:], nil
	}
	return key.open(nil, b[notesHead:], noteSeal(b, file))
}
