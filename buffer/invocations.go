package buffer

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hydrant/buffer/fsys"
	"hydrant/record"
)

const (
	callsKept = 5 * time.Minute // how long a call is known by its id
	callsMost = 256 << 10       // how many are
)

// invocation is what makes two requests the same call, but for the attempt. Stream is its incarnation. Of a keyed
// one (record.Call has what that is) the body does not count.
type invocation struct {
	ID       [16]byte
	KeyHash  [8]byte
	BodyHash [16]byte
	Stream   uint32
	Keyed    bool
}

// keyedAttempt stands in the place of an attempt where a call is keyed. Other calls stop counting before it.
const keyedAttempt = 255

func attemptOf(c *record.Call) uint8 {
	if c.Keyed {
		return keyedAttempt
	}
	return min(c.Attempt, keyedAttempt-1)
}

func (v *invocation) zero() bool { return v.ID == [16]byte{} }

// calls knows the calls of the last minutes, so that a client's automatic retry gets the answer of the
// first attempt instead of storing its records again. Safe for concurrent use.
type calls struct {
	fs        fsys.FS
	dir       string // of the journal
	directory [16]byte
	log       *slog.Logger
	started   time.Time

	mu       sync.Mutex
	known    map[callKey]knownCall
	flights  map[callKey]*flight
	order    []dated // ring of the known ones, oldest first
	head, n  int
	segments map[uint64]int      // known calls by the segment that has their frame
	files    map[uint64]struct{} // segments that have a side file
}

// callKey stands for an invocation in the table: a quarter of a million of them are to fit into the memory
// that the buffer has for such things.
type callKey [16]byte

func (v *invocation) digest() callKey {
	var b [16 + 8 + 16 + 4]byte
	copy(b[:], v.ID[:])
	copy(b[16:], v.KeyHash[:])
	if v.Keyed {
		copy(b[24:], "idempotency key:") // so that keys and the ids of SDKs are never the same
	} else {
		copy(b[24:], v.BodyHash[:])
	}
	binary.LittleEndian.PutUint32(b[40:], v.Stream)
	sum := sha256.Sum256(b[:])
	return callKey(sum[:16])
}

// knownCall is a call that is durable.
type knownCall struct {
	first   uint64 // sequence of its first record
	segment uint64 // that holds its DATA frame
	mark    callMark
}

// callMark is what else is to be known of a call, in the form of the side file: bits 0 to 7 the attempt, 8 to 31
// the number of records that were stored (0: all), 32 to 63 the first bytes of the body's hash where it is keyed.
type callMark uint64

func (v *invocation) mark(attempt uint8, count int) callMark {
	m := callMark(attempt) | callMark(count)<<8 // fewer than 1<<24: a call has maxData bytes, and records have a length
	if v.Keyed {
		m |= callMark(binary.LittleEndian.Uint32(v.BodyHash[:])) << 32
	}
	return m
}

func (m callMark) attempt() uint8 { return uint8(m) }
func (m callMark) count() int     { return int(m >> 8 & (1<<24 - 1)) }
func (m callMark) body() uint32   { return uint32(m >> 32) }

// dated is when the table forgets an entry. Time is the process's own, so that a clock that jumps does not
// make retries unknown.
type dated struct {
	key  callKey
	ends time.Duration // since started
}

// flight is a call that is on its way.
type flight struct {
	key  callKey
	mark callMark
	done chan struct{} // closed when it has landed, durable or not
}

func newCalls(f fsys.FS, dir string, directory [16]byte, log *slog.Logger) *calls {
	return &calls{
		fs: f, dir: dir, directory: directory, log: log, started: time.Now(),
		known: make(map[callKey]knownCall), flights: make(map[callKey]*flight),
		segments: make(map[uint64]int), files: make(map[uint64]struct{}),
	}
}

// begin announces a call of count records. Exactly one of four: the receipt of an earlier attempt (repeated); a
// flight to wait for, after which begin is called again; *record.KeyReused; or none of them: the call is new. Then
// own, where not nil, is its flight, which ends with land.
func (t *calls) begin(id *invocation, attempt uint8, count int) (r record.Receipt, repeated bool, other, own *flight, err error) {
	key, mark := id.digest(), id.mark(attempt, count)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire()
	again := func(of callMark) bool { return id.Keyed || attempt == 0 || of.attempt() != attempt }
	if k, ok := t.known[key]; ok && again(k.mark) {
		if k.mark.body() != mark.body() {
			return r, false, nil, nil, &record.KeyReused{}
		}
		r = record.Receipt{Directory: t.directory, Incarnation: id.Stream, First: k.first, Count: cmp.Or(k.mark.count(), count), Repeated: true}
		return r, true, nil, nil, nil
	}
	if f := t.flights[key]; f != nil {
		switch {
		case f.mark.body() != mark.body():
			return r, false, nil, nil, &record.KeyReused{}
		case again(f.mark):
			return r, false, f, nil, nil
		}
		return r, false, nil, nil, nil // the same attempt twice is not a retry
	}
	own = &flight{key: key, mark: mark, done: make(chan struct{})}
	t.flights[key] = own
	return r, false, nil, own, nil
}

// land ends a flight; q is the call where it was stored.
func (t *calls) land(f *flight, q *request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.flights, f.key)
	close(f.done)
	if q != nil && q.err == nil {
		const counts = callMark(1<<24-1) << 8
		t.add(f.key, knownCall{first: q.receipt.First, segment: q.segment, mark: f.mark&^counts | callMark(q.receipt.Count)<<8})
	}
}

// add puts a call in that is to be known for a while from now on. Oldest first.
func (t *calls) add(key callKey, k knownCall) {
	if t.n == callsMost {
		t.forget()
	}
	if t.n == len(t.order) {
		grown := make([]dated, max(64, min(2*t.n, callsMost)))
		for i := range t.n {
			grown[i] = t.order[(t.head+i)%len(t.order)]
		}
		t.order, t.head = grown, 0
	}
	t.order[(t.head+t.n)%len(t.order)] = dated{key, time.Since(t.started) + callsKept}
	t.n++
	t.know(key, k)
}

// know sets what is known of a call.
func (t *calls) know(key callKey, k knownCall) {
	t.unknow(key)
	t.known[key] = k
	t.segments[k.segment]++
}

// unknow is the opposite, where there is anything.
func (t *calls) unknow(key callKey) {
	k, ok := t.known[key]
	if !ok {
		return
	}
	delete(t.known, key)
	if t.segments[k.segment]--; t.segments[k.segment] == 0 {
		delete(t.segments, k.segment)
	}
}

// expire forgets what is too old.
func (t *calls) expire() {
	now := time.Since(t.started)
	for t.n > 0 && t.order[t.head].ends <= now {
		t.forget()
	}
}

// forget drops the oldest entry.
func (t *calls) forget() {
	d := t.order[t.head]
	t.order[t.head] = dated{}
	t.head = (t.head + 1) % len(t.order)
	t.n--
	t.unknow(d.key)
}

// restore puts a call in that recovery has found, at most once. It is known for the whole time from now on,
// since nothing tells how long ago it was: the clock may have been set meanwhile, and a retry that is not
// recognised is stored twice, while one that is recognised after too long a time was a retry all the same.
func (t *calls) restore(key callKey, k knownCall) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.known[key]; ok {
		return
	}
	t.add(key, k)
}

// A side file journal/ids-<segment> keeps the calls of a segment whose slot is reused. Little endian.
//
//	 0  magic u64 · 8 version u32 · 12 entries u32 · 16 directory uuid · 32 segment u64 · 40 zero u64
//	48  entries of 32 bytes: key 16 (SHA-256 of id, key hash, body hash and incarnation, cut) · first
//	    sequence u64 · mark u64 (callMark)
//	    CRC32C u32 of all before it
const (
	idsMagic  = 0x3153444944594849 // "IHYDIDS1"
	idsHeader = 48
	idsEntry  = 32
)

func (t *calls) path(segment uint64) string {
	return path.Join(t.dir, "ids-"+strconv.FormatUint(segment, 10))
}

// parseIDsName is the inverse of path's last element.
func parseIDsName(name string) (segment uint64, ok bool) {
	digits, ok := strings.CutPrefix(name, "ids-")
	if !ok {
		return 0, false
	}
	segment, err := strconv.ParseUint(digits, 10, 64)
	return segment, err == nil && strconv.FormatUint(segment, 10) == digits
}

// save writes the side file of a segment, durably, and removes those that nobody needs any more. It must
// have returned before the segment's slot is written again (I6).
func (t *calls) save(segment uint64) error {
	t.mu.Lock()
	t.expire()
	var entries []savedCall
	for key, k := range t.known {
		if k.segment == segment {
			entries = append(entries, savedCall{key, k})
		}
	}
	var old []uint64
	for s := range t.files {
		if t.segments[s] == 0 {
			old = append(old, s)
			delete(t.files, s)
		}
	}
	t.mu.Unlock()
	slices.Sort(old)
	slices.SortFunc(entries, func(x, y savedCall) int {
		return cmp.Or(cmp.Compare(x.call.first, y.call.first), bytes.Compare(x.key[:], y.key[:]))
	})
	for _, s := range old {
		if err := t.fs.Remove(t.path(s)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.log.Warn("an old side file of the journal could not be removed", "file", t.path(s), "err", err)
		}
	}
	if len(entries) == 0 {
		return nil
	}
	if err := writeFile(t.fs, t.path(segment), encodeIDs(t.directory, segment, entries)); err != nil {
		return err
	}
	t.mu.Lock()
	t.files[segment] = struct{}{}
	t.mu.Unlock()
	return nil
}

type savedCall struct {
	key  callKey
	call knownCall
}

func encodeIDs(directory [16]byte, segment uint64, entries []savedCall) []byte {
	w := writer{b: make([]byte, 0, idsHeader+len(entries)*idsEntry+4)}
	w.u64(idsMagic)
	w.u32(formatVersion)
	w.u32(uint32(len(entries)))
	w.raw(directory[:])
	w.u64(segment)
	w.u64(0)
	for _, e := range entries {
		w.raw(e.key[:])
		w.u64(e.call.first)
		w.u64(uint64(e.call.mark))
	}
	w.u32(crc32.Checksum(w.b, castagnoli))
	return w.b
}

var errIDs = errors.New("not a side file of this journal")

// decodeIDs reads a side file. Errors: errIDs, *NewerVersionError.
func decodeIDs(b []byte) (directory [16]byte, segment uint64, entries []savedCall, err error) {
	if len(b) < idsHeader+4 || binary.LittleEndian.Uint64(b) != idsMagic ||
		crc32.Checksum(b[:len(b)-4], castagnoli) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return directory, 0, nil, errIDs
	}
	r := reader{b: b[8 : len(b)-4]}
	if v := r.u32(); v > formatVersion {
		return directory, 0, nil, &NewerVersionError{What: "side file", Version: v, Known: formatVersion}
	} else if v < formatVersionMin {
		return directory, 0, nil, errIDs
	}
	n := int(r.u32())
	directory, segment = r.id(), r.u64()
	if r.u64() != 0 || n*idsEntry != len(r.b) {
		return directory, 0, nil, errIDs
	}
	for range n {
		entries = append(entries, savedCall{key: r.id(), call: knownCall{first: r.u64(), segment: segment, mark: callMark(r.u64())}})
	}
	return directory, segment, entries, r.done("side file")
}

// load reads a side file into the table. What cannot be read is left alone: at worst a retry from before
// the crash is stored again.
func (t *calls) load(segment uint64) error {
	name := t.path(segment)
	b, err := readFile(t.fs, name, idsHeader+callsMost*idsEntry+4)
	if err != nil {
		return err
	}
	directory, s, entries, err := decodeIDs(b)
	if n, ok := errors.AsType[*NewerVersionError](err); ok {
		n.Path = name
		return n
	}
	if err != nil || directory != t.directory || s != segment {
		t.log.Error("a side file of the journal is damaged: retries of calls from before the last crash may be stored twice", "file", name, "err", fmt.Errorf("%w (%v)", errIDs, err))
		return nil
	}
	for _, e := range entries {
		t.restore(e.key, e.call)
	}
	t.mu.Lock()
	t.files[segment] = struct{}{}
	t.mu.Unlock()
	return nil
}

// moved takes note that a call's frame was copied to another segment, and that it counts there.
func (t *calls) moved(h frameHead, payload []byte, segment uint64) {
	id, _, _, err := parseData(payload, h.Count)
	if err != nil {
		return
	}
	id.Stream = h.Incarnation
	key := id.digest()
	t.mu.Lock()
	defer t.mu.Unlock()
	if k, ok := t.known[key]; ok && k.first == h.First {
		k.segment = segment
		t.know(key, k)
	}
}
