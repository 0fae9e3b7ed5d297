package buffer

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"sync"

	"hydrant/buffer/fsys"
)

// Secrets is the file of a data directory that holds what a stream's specification may not: STREAM frames are
// copied from segment to segment and shown by tools, and a password may be neither. A specification names an entry
// by its id, which is random and says nothing.
//
// An entry is durable when Put returns, and goes only when Keep is told so. So whoever makes the entry first, then
// the definition that names it, and afterwards forgets what no version of any stream names (Buffer.Versions), finds
// after a crash at any instant every entry that a definition names. Entries are never changed.
//
// The file is small and written whole: to a temporary name, synced, renamed, and the directory synced. What a
// process writes is sealed when it has a Key, as everything else is.
type Secrets struct {
	fs   fsys.FS
	dir  string
	id   [16]byte // of the data directory
	seal *sealer
	rand io.Reader
	log  *slog.Logger

	writing gate // held over each change of the file

	mu      sync.RWMutex // guards what follows
	entries map[secretID][]byte
}

// The file, little endian:
//
//	 0  magic u64                  40  wrapped data key 72; zero: what follows is in clear
//	 8  version u32               112  CRC32C of what follows the header u32
//	12  zero u32                  116  CRC32C of bytes 0-115 u32
//	16  directory uuid            120  the entries, or these sealed as one piece (seal.go)
//	32  length of what follows u64
//
// The entries are a count u32 and, by ascending id, each: id 16 · length u32 · bytes.
const (
	secretsName    = "secrets"
	secretsMagic   = 0x3152434553445948 // "HYDSECR1"
	secretsVersion = 1
	secretsHead    = 120

	// MaxSecret is the longest entry, in bytes.
	MaxSecret = 32 << 10
	// maxSecrets is the longest file: every change writes all of it.
	maxSecrets = 8 << 20
)

type secretID [16]byte

func (id secretID) String() string { return hex.EncodeToString(id[:]) }

func parseSecretID(text string) (id secretID, ok bool) {
	if len(text) != hex.EncodedLen(len(id)) {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(text))
	return id, err == nil && id.String() == text
}

// ErrNoSecret says that there is no entry of an id.
var ErrNoSecret = errors.New("the file of secrets has no such entry")

// ErrSecretsFull says that the file of secrets would become too large.
var ErrSecretsFull = fmt.Errorf("the file of secrets would have more than %d MiB", maxSecrets>>20)

// Put keeps a secret, durably, and returns its id. Errors: ErrSecretsFull, or the file system's; then nothing has
// changed.
func (s *Secrets) Put(secret []byte) (id string, err error) {
	if len(secret) > MaxSecret {
		return "", fmt.Errorf("a secret has %d bytes, at most %d can be kept", len(secret), MaxSecret)
	}
	var key secretID
	if _, err := io.ReadFull(s.rand, key[:]); err != nil {
		return "", fmt.Errorf("draw the id of a secret: %w", err)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	next := s.copied()
	next[key] = bytes.Clone(secret)
	if err := s.write(next); err != nil {
		return "", err
	}
	return key.String(), nil
}

// Get returns the secret of an id. Error: ErrNoSecret.
func (s *Secrets) Get(id string) ([]byte, error) {
	key, ok := parseSecretID(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	secret, found := s.entries[key]
	if !ok || !found {
		return nil, ErrNoSecret
	}
	return bytes.Clone(secret), nil
}

// Keep forgets every entry that is not used, durably. Where it fails they stay, and nothing is lost.
func (s *Secrets) Keep(used func(id string) bool) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	next := s.copied()
	maps.DeleteFunc(next, func(id secretID, _ []byte) bool { return !used(id.String()) })
	if len(next) == s.len() {
		return nil
	}
	return s.write(next)
}

func (s *Secrets) copied() map[secretID][]byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.entries)
}

func (s *Secrets) len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.entries)
}

// write makes next what the file holds, and then what is in force. The caller holds writing. A write whose outcome
// is not known does no harm: the file has the entries of before, or those of next, and either are all that anything
// durable names.
func (s *Secrets) write(next map[secretID][]byte) error {
	b := encodeSecrets(next, s.id, s.seal)
	if len(b) > maxSecrets {
		return ErrSecretsFull
	}
	if err := writeFile(s.fs, path.Join(s.dir, secretsName), b); err != nil {
		return fmt.Errorf("keep secrets: %w", err)
	}
	CrashPoint("secrets-written")
	s.mu.Lock()
	s.entries = next
	s.mu.Unlock()
	return nil
}

// encodeSecrets is the whole file.
func encodeSecrets(entries map[secretID][]byte, directory [16]byte, seal *sealer) []byte {
	le := binary.LittleEndian
	clear := le.AppendUint32(nil, uint32(len(entries)))
	for _, id := range slices.SortedFunc(maps.Keys(entries), func(a, b secretID) int { return bytes.Compare(a[:], b[:]) }) {
		clear = append(clear, id[:]...)
		clear = le.AppendUint32(clear, uint32(len(entries[id])))
		clear = append(clear, entries[id]...)
	}
	b := make([]byte, secretsHead, secretsHead+len(clear)+seal.overhead())
	le.PutUint64(b, secretsMagic)
	le.PutUint32(b[8:], secretsVersion)
	copy(b[16:], directory[:])
	if seal == nil {
		b = append(b, clear...)
	} else {
		copy(b[40:], seal.wrapped[:])
		b = seal.seal(b, clear, b[:32]) // its own length is not known yet, and GCM covers that
	}
	le.PutUint64(b[32:], uint64(len(b)-secretsHead))
	le.PutUint32(b[112:], crc32.Checksum(b[secretsHead:], castagnoli))
	le.PutUint32(b[116:], crc32.Checksum(b[:116], castagnoli))
	return b
}

// parseSecrets reads the whole file; wrapped is the key that it is sealed under. Errors: *NewerVersionError,
// *KeyError, or what is damaged.
func parseSecrets(b []byte, name string, keys *keyring) (entries map[secretID][]byte, wrapped wrappedKey, err error) {
	le := binary.LittleEndian
	switch {
	case len(b) < secretsHead:
		return nil, wrapped, fmt.Errorf("it has %d bytes, fewer than its header", len(b))
	case le.Uint64(b) != secretsMagic:
		return nil, wrapped, errors.New("it is not a file of secrets of this program")
	case le.Uint32(b[116:]) != crc32.Checksum(b[:116], castagnoli):
		return nil, wrapped, errors.New("its header does not match its checksum")
	case le.Uint32(b[8:]) > secretsVersion:
		return nil, wrapped, &NewerVersionError{Path: name, What: "file of secrets", Version: le.Uint32(b[8:]), Known: secretsVersion}
	case le.Uint32(b[8:]) != secretsVersion || le.Uint32(b[12:]) != 0:
		return nil, wrapped, errors.New("its header has values out of range")
	case [16]byte(b[16:32]) != keys.directory:
		return nil, wrapped, errors.New("it belongs to another data directory")
	case le.Uint64(b[32:]) != uint64(len(b)-secretsHead):
		return nil, wrapped, fmt.Errorf("it has %d bytes behind its header, which says %d", len(b)-secretsHead, le.Uint64(b[32:]))
	case le.Uint32(b[112:]) != crc32.Checksum(b[secretsHead:], castagnoli):
		return nil, wrapped, errors.New("its content does not match its checksum")
	}
	copy(wrapped[:], b[40:])
	clear := b[secretsHead:]
	key, err := keys.open(wrapped, name)
	if err != nil {
		return nil, wrapped, err
	}
	if key != nil {
		if clear, err = key.open(nil, clear, b[:32]); err != nil {
			return nil, wrapped, err
		}
	}
	entries, err = parseEntries(clear)
	return entries, wrapped, err
}

func parseEntries(b []byte) (map[secretID][]byte, error) {
	le := binary.LittleEndian
	if len(b) < 4 {
		return nil, errors.New("it has no entries, and not the number 0 either")
	}
	count := le.Uint32(b)
	b = b[4:]
	entries := map[secretID][]byte{}
	var last secretID
	for i := range count {
		if len(b) < len(last)+4 {
			return nil, fmt.Errorf("it ends in entry %d of %d", i+1, count)
		}
		id, n := secretID(b), le.Uint32(b[len(last):])
		b = b[len(last)+4:]
		switch {
		case i > 0 && bytes.Compare(id[:], last[:]) <= 0:
			return nil, fmt.Errorf("entry %d is not in its place", i+1)
		case n > MaxSecret || int(n) > len(b):
			return nil, fmt.Errorf("entry %d has %d bytes, at most %d are possible", i+1, n, min(MaxSecret, len(b)))
		}
		entries[id] = bytes.Clone(b[:n])
		b, last = b[n:], id
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%d bytes follow its last entry", len(b))
	}
	return entries, nil
}

// secrets reads the file of secrets. One that is damaged is set aside, or stops the start where the policy is to
// stop: streams whose secrets were in it wait until they are given again.
func (r *recovery) secrets() error {
	b := r.b
	b.secrets = &Secrets{fs: b.fs, dir: b.dir, id: b.keys.directory, seal: b.keys.seal, rand: b.rand, log: b.log, writing: newGate(), entries: map[secretID][]byte{}}
	name := path.Join(b.dir, secretsName)
	// What a crash has left of a file that was never in force. It may hold what has been forgotten since.
	if err := b.fs.Remove(name + tmpSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %q, left by a crash: %w", name+tmpSuffix, err)
	}
	content, err := readFile(b.fs, name, maxSecrets)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	entries, wrapped, err := parseSecrets(content, name, b.keys)
	if err == nil {
		b.secrets.entries = entries
		b.secrets.renew(wrapped)
		return nil
	}
	if _, newer := errors.AsType[*NewerVersionError](err); newer {
		return err
	}
	if _, key := errors.AsType[*KeyError](err); key {
		return err
	}
	return b.secrets.setAside(int64(len(content)), err, r.policy)
}

// renew writes the file anew where it is not sealed as this process seals. It is no reason not to start.
func (s *Secrets) renew(wrapped wrappedKey) {
	if s.seal == nil && wrapped.none() || s.seal != nil && wrapped.keyID() == s.seal.wrapped.keyID() && !wrapped.none() {
		return
	}
	if err := s.write(s.entries); err != nil {
		s.log.Warn("the file of secrets stays under the key that it had; the next stream that is created or changed writes it anew", "file", path.Join(s.dir, secretsName), "err", err)
	}
}

// setAside puts a damaged file into quarantine/.
func (s *Secrets) setAside(size int64, why error, policy DamagePolicy) error {
	name := path.Join(s.dir, secretsName)
	const remedy = "restore it from a backup; without it, passwords and access keys of streams that were made over the API have to be given again with UpdateDestination"
	if policy == Stop {
		return &DamageError{Items: []Damage{{File: name, Length: size, What: why.Error() + ": " + remedy + " (move it away to start so)"}}}
	}
	var mark [8]byte
	if _, err := io.ReadFull(s.rand, mark[:]); err != nil {
		return fmt.Errorf("draw a name: %w", err)
	}
	aside := path.Join(s.dir, quarantineDir, secretsName+"-"+hex.EncodeToString(mark[:]))
	if err := s.fs.Rename(name, aside); err != nil {
		return fmt.Errorf("set %q aside, which is damaged (%w): %w", name, why, err)
	}
	for _, d := range []string{path.Dir(aside), s.dir} {
		if err := s.fs.SyncDir(d); err != nil {
			return fmt.Errorf("sync directory %q: %w", d, err)
		}
	}
	s.log.Error("the file of secrets is damaged and was set aside: "+remedy, "file", name, "set_aside", aside, "err", why)
	return nil
}

// Secrets are what definitions refer to by id.
func (b *Buffer) Secrets() *Secrets { return b.secrets }

// Versions returns all versions of streams that are in force or that something outstanding needs.
func (b *Buffer) Versions() []Stream {
	b.ledger.mu.RLock()
	defer b.ledger.mu.RUnlock()
	var out []Stream
	for _, s := range b.ledger.streams {
		out = append(out, s.cur.clone())
		for _, v := range s.versions {
			out = append(out, v.clone())
		}
	}
	return out
}
