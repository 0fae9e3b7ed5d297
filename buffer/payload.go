package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"
)

// Payloads of ledger frames. Each begins with its ordinal u64, which the committer fills in; what a frame's
// header says already (stream, consumer, range) is not said again.

// event is what a ledger frame says. encode appends its payload without the ordinal.
type event interface {
	kind() frameType
	encode(w *writer)
}

const ordinalSize = 8

// encodeEvent returns a payload with room for the ordinal.
func encodeEvent(e event) []byte {
	w := writer{b: make([]byte, ordinalSize, 256)}
	e.encode(&w)
	return w.b
}

func setOrdinal(payload []byte, ordinal uint64) { binary.LittleEndian.PutUint64(payload, ordinal) }

// decodeEvent reads the payload of a ledger frame under its header. MARK, NEXT and CHECKPOINT are read
// elsewhere.
func decodeEvent(h *frameHead, payload []byte) (ordinal uint64, e event, err error) {
	r := reader{b: payload}
	ordinal = r.u64()
	switch h.Type {
	case frameStream:
		e = readStreamEvent(&r, h)
	case frameRun:
		e = readRunEvent(&r, h)
	case frameManifest:
		e = readManifestEvent(&r, h)
	case frameProgress:
		e = &progressEvent{Manifest: r.id(), Objects: readObjectSet(&r, maxObjects)}
	case frameCommit:
		e = &commitEvent{Manifest: r.id()}
	case frameReplace:
		e = readReplaceEvent(&r, h)
	case frameLanes:
		e = readLanesEvent(&r, h)
	case frameHole:
		e = &holeEvent{Incarnation: h.Incarnation, First: h.First, Next: h.next(), Cause: r.str(), File: r.str()}
	default:
		return ordinal, nil, fmt.Errorf("%v is not a frame of the ledger that this version knows", h.Type)
	}
	return ordinal, e, r.done(h.Type.String())
}

// streamEvent is a version of a stream, with the first sequence of each of its consumers, and the sequence at which each
// ends that it has no more: those have bit 7 of their id set, and stand behind the others.
//
//	name str · state u8 · version u64 · created i64 µs · changed i64 µs · consumers u8 × {id u8, first or end u64} ·
//	tags u16 × {key str, value str}, keys ascending · spec u32 + bytes
type streamEvent struct {
	Stream Stream
	Firsts []uint64 // of Stream.Consumers
	Ends   []consumerEnd
}

// consumerEnd says that a consumer gets nothing at or above a sequence.
type consumerEnd struct {
	id uint8
	at uint64
}

// endMark is the bit of a consumer's id that says it ends.
const endMark = 0x80

func (e *streamEvent) kind() frameType { return frameStream }

func (e *streamEvent) encode(w *writer) {
	s := &e.Stream
	w.str(s.Name)
	w.u8(uint8(s.State))
	w.u64(s.Version)
	w.i64(s.Created.UnixMicro())
	w.i64(s.Changed.UnixMicro())
	w.u8(uint8(len(s.Consumers) + len(e.Ends)))
	for i, c := range s.Consumers {
		w.u8(c)
		w.u64(e.Firsts[i])
	}
	for _, c := range e.Ends {
		w.u8(c.id | endMark)
		w.u64(c.at)
	}
	keys := make([]string, 0, len(s.Tags))
	for k := range s.Tags {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	w.u16(uint16(len(keys)))
	for _, k := range keys {
		w.str(k)
		w.str(s.Tags[k])
	}
	w.blob(s.Spec)
}

var (
	errTags      = errors.New("tags are not in order")
	errConsumers = errors.New("consumers are not in order")
	errState     = errors.New("state of a stream that does not exist")
)

func readStreamEvent(r *reader, h *frameHead) *streamEvent {
	e := &streamEvent{Stream: Stream{Incarnation: h.Incarnation, Name: r.str(), State: State(r.u8()), Version: r.u64()}}
	s := &e.Stream
	s.Created = time.UnixMicro(r.i64()).UTC()
	s.Changed = time.UnixMicro(r.i64()).UTC()
	if s.State > Discarding {
		r.fail(errState)
	}
	for range r.list(int(r.u8()), 9) {
		id := r.u8()
		if n := len(e.Ends); n > 0 && e.Ends[n-1].id|endMark >= id || id&endMark != 0 && slices.Contains(s.Consumers, id&^endMark) {
			r.fail(errConsumers)
		}
		if id&endMark != 0 {
			e.Ends = append(e.Ends, consumerEnd{id &^ endMark, r.u64()})
			continue
		}
		if n := len(s.Consumers); n > 0 && s.Consumers[n-1] >= id {
			r.fail(errConsumers)
		}
		s.Consumers = append(s.Consumers, id)
		e.Firsts = append(e.Firsts, r.u64())
	}
	last := ""
	for i := range r.list(int(r.u16()), 4) {
		k, v := r.str(), r.str()
		if i > 0 && k <= last {
			r.fail(errTags)
		}
		last = k
		if s.Tags == nil {
			s.Tags = make(map[string]string)
		}
		s.Tags[k] = v
	}
	s.Spec = r.blob()
	return e
}

// Sources of a manifest, as payloads and footers have them.
const (
	sourceRange = 0 // a range of sequences, in the journal and raw runs
	sourceKey   = 1 // rows of one key in routed runs
	sourceSweep = 2 // rows of a range of keys in routed runs
	sourceLossy = 3 // a range of which damage has taken some rows
)

const (
	maxPacks        = 4096 // of one manifest
	maxDestinations = 64
)

// runEvent: rows moved to a run. Its range is the frame's extent.
//
//	run id 16 · length u64 · SHA-256 of the footer 32 · kind u8 · version u64 · epoch u64 · n u32 · ok, dropped,
//	failed, lost i64 · watermark i64 · rows, records, bytes, oldest i64 · lanes
type runEvent struct {
	Head  RunHead
	Ref   runRef
	Sum   runSum
	Lanes laneMarks
}

// manifestEvent is a cut. Its range is the frame's extent.
//
//	id 16 · epoch u64 · version u64 · source · ok, dropped, failed i64 · watermark i64 · objects u32 ·
//	destinations u8 × str · packs u16 × {id 16, length u64, SHA-256 of the footer 32} · lanes
//	source: u8 0, range · u8 1, key hash 16, run u32 · u8 2, run u32, all u8, bound str · u8 3, range, lost i64
type manifestEvent struct {
	Head         ManifestHead
	Objects      int
	Destinations []string
	Packs        []packRef
	Lanes        laneMarks // of a range
}

func (e *manifestEvent) kind() frameType { return frameManifest }

func (e *manifestEvent) encode(w *writer) {
	w.raw(e.Head.ID[:])
	w.u64(e.Head.Epoch)
	w.u64(e.Head.Version)
	e.Head.putSource(w)
	w.i64(e.Head.Counts.OK)
	w.i64(e.Head.Counts.Dropped)
	w.i64(e.Head.Counts.Failed)
	w.i64(e.Head.Watermark)
	w.u32(uint32(e.Objects))
	w.u8(uint8(len(e.Destinations)))
	for _, d := range e.Destinations {
		w.str(d)
	}
	w.u16(uint16(len(e.Packs)))
	for _, p := range e.Packs {
		w.raw(p.ID[:])
		w.i64(p.Length)
		w.raw(p.Footer[:])
	}
	e.Lanes.encode(w)
}

// putSource appends where the rows of a manifest were.
func (h *ManifestHead) putSource(w *writer) {
	switch s := &h.Source; {
	case s.Kind == SourceKey:
		w.u8(sourceKey)
		w.raw(s.Key[:])
		w.u32(s.Run)
	case s.Kind == SourceSweep:
		w.u8(sourceSweep)
		w.u32(s.Run)
		w.flag(s.All)
		w.str(string(s.Bound))
	case h.Lost > 0:
		w.u8(sourceLossy)
		w.i64(h.Lost)
	default:
		w.u8(sourceRange)
	}
}

func readSource(r *reader, h *ManifestHead) {
	switch r.u8() {
	case sourceRange:
	case sourceKey:
		h.Source = Source{Kind: SourceKey, Key: r.id(), Run: r.u32()}
	case sourceSweep:
		h.Source = Source{Kind: SourceSweep, Run: r.u32(), All: r.flag()}
		h.Source.Bound = r.key()
	case sourceLossy:
		if h.Lost = r.i64(); h.Lost <= 0 {
			r.fail(errSource)
		}
	default:
		r.fail(errSource)
	}
	if err := h.Source.check(); err != nil {
		r.fail(err)
	}
}

func (e *runEvent) kind() frameType { return frameRun }

func (e *runEvent) encode(w *writer) {
	e.Ref.put(w)
	h := &e.Head
	w.u8(uint8(h.Kind))
	w.u64(h.Version)
	w.u64(h.Epoch)
	w.u32(h.N)
	w.i64(h.Counts.OK)
	w.i64(h.Counts.Dropped)
	w.i64(h.Counts.Failed)
	w.i64(h.Lost)
	w.i64(h.Watermark)
	e.Sum.put(w)
	e.Lanes.encode(w)
}

var errRun = errors.New("RUN of a kind that this version does not know")

func readRunEvent(r *reader, h *frameHead) *runEvent {
	e := &runEvent{Ref: readRunRef(r)}
	e.Head = RunHead{
		Incarnation: h.Incarnation, Consumer: h.Consumer, First: h.First, Next: h.next(),
		Kind: RunKind(r.u8()), Version: r.u64(), Epoch: r.u64(), N: r.u32(),
	}
	e.Head.Counts = Counts{OK: r.i64(), Dropped: r.i64(), Failed: r.i64()}
	e.Head.Lost, e.Head.Watermark = r.i64(), r.i64()
	e.Sum = readRunSum(r)
	e.Lanes = readLaneMarks(r)
	if e.Head.Kind > RunRouted {
		r.fail(errRun)
	}
	return e
}

func (f *runRef) put(w *writer) {
	w.raw(f.ID[:])
	w.i64(f.Length)
	w.raw(f.Footer[:])
}

func readRunRef(r *reader) runRef {
	f := runRef{ID: r.id(), Length: r.i64()}
	copy(f.Footer[:], r.take(32))
	return f
}

// runSum is what the ledger keeps of the rows of a run.
type runSum struct {
	Rows    int64
	Records int64 // that count with one of the rows
	Bytes   int64 // of Data
	Oldest  int64 // arrival, µs
}

// ledger is what the ledger keeps of the sums over a run.
func (t *runTotals) ledger() runSum {
	return runSum{Rows: t.Rows, Records: t.Records, Bytes: t.Bytes, Oldest: t.Oldest}
}

func (s *runSum) put(w *writer) {
	w.i64(s.Rows)
	w.i64(s.Records)
	w.i64(s.Bytes)
	w.i64(s.Oldest)
}

func readRunSum(r *reader) runSum {
	return runSum{Rows: r.i64(), Records: r.i64(), Bytes: r.i64(), Oldest: r.i64()}
}

var (
	errSource = errors.New("manifest has a source that this version does not know")
	errMany   = errors.New("more objects than a manifest can have")
)

func readManifestEvent(r *reader, h *frameHead) *manifestEvent {
	e := &manifestEvent{Head: ManifestHead{
		ID: r.id(), Incarnation: h.Incarnation, Consumer: h.Consumer, Epoch: r.u64(), Version: r.u64(),
		First: h.First, Next: h.next(),
	}}
	readSource(r, &e.Head)
	e.Head.Counts = Counts{OK: r.i64(), Dropped: r.i64(), Failed: r.i64()}
	e.Head.Watermark = r.i64()
	if e.Objects = int(r.u32()); e.Objects > maxObjects {
		r.fail(errMany)
	}
	for range r.list(int(r.u8()), 2) {
		e.Destinations = append(e.Destinations, r.str())
	}
	for range r.list(int(r.u16()), 56) {
		p := packRef{ID: r.id(), Length: r.i64()}
		copy(p.Footer[:], r.take(32))
		e.Packs = append(e.Packs, p)
	}
	e.Lanes = readLaneMarks(r)
	if e.Objects > len(e.Packs)*maxPackObjects {
		r.fail(errMany)
	}
	return e
}

// progressEvent: these objects are in their destination.
//
//	manifest id 16 · set
type progressEvent struct {
	Manifest ManifestID
	Objects  objectSet
}

func (e *progressEvent) kind() frameType { return frameProgress }
func (e *progressEvent) encode(w *writer) {
	w.raw(e.Manifest[:])
	e.Objects.put(w)
}

// commitEvent: every object of the manifest that was not replaced is confirmed.
//
//	manifest id 16
type commitEvent struct{ Manifest ManifestID }

func (e *commitEvent) kind() frameType  { return frameCommit }
func (e *commitEvent) encode(w *writer) { w.raw(e.Manifest[:]) }

const (
	replacedByManifest = 1
	replacedByFile     = 2
	replacedByNothing  = 3
)

// replaceEvent: these objects are never sent again. By a new manifest; or by a file in quarantine/ and then
// their records are lost; or by nothing at all, and then their records are dropped. The extent is the old
// manifest's.
//
//	old id 16 · set · taken back: ok i64, failed i64 · reason str · u8 1 + manifest payload, or u8 2 + file
//	str + lost i64, or u8 3 + dropped i64
type replaceEvent struct {
	Manifest ManifestID
	Objects  objectSet
	Minus    Counts // what the old manifest had counted for these objects
	Reason   string
	New      *manifestEvent // nil: set aside or discarded
	File     string
	Lost     int64
	Discard  bool // nothing takes their place
	Dropped  int64
}

func (e *replaceEvent) kind() frameType { return frameReplace }

func (e *replaceEvent) encode(w *writer) {
	w.raw(e.Manifest[:])
	e.Objects.put(w)
	w.i64(e.Minus.OK)
	w.i64(e.Minus.Failed)
	w.str(e.Reason)
	if e.New != nil {
		w.u8(replacedByManifest)
		e.New.encode(w)
		return
	}
	if e.Discard {
		w.u8(replacedByNothing)
		w.i64(e.Dropped)
		return
	}
	w.u8(replacedByFile)
	w.str(e.File)
	w.i64(e.Lost)
}

var errReplace = errors.New("REPLACE by something that this version does not know")

func readReplaceEvent(r *reader, h *frameHead) *replaceEvent {
	e := &replaceEvent{Manifest: r.id(), Objects: readObjectSet(r, maxObjects)}
	e.Minus = Counts{OK: r.i64(), Failed: r.i64()}
	e.Reason = r.str()
	switch r.u8() {
	case replacedByManifest:
		e.New = readManifestEvent(r, h)
		e.New.Head.Replaces = e.Manifest
		e.New.Head.Replaced = slices.Collect(e.Objects.all())
	case replacedByFile:
		e.File = r.str()
		e.Lost = r.i64()
	case replacedByNothing:
		e.Discard = true
		e.Dropped = r.i64()
	default:
		r.fail(errReplace)
	}
	return e
}

// holeEvent: the frame's extent is lost for every consumer that has not covered it.
//
//	cause str · quarantine file str
type holeEvent struct {
	Incarnation uint32
	First, Next uint64
	Cause, File string
}

func (e *holeEvent) kind() frameType { return frameHole }
func (e *holeEvent) encode(w *writer) {
	w.str(e.Cause)
	w.str(e.File)
}

// nextPayload names the segment that follows and its slot.
//
//	ordinal u64 · segment u64 · slot u32 · zero u32
func nextPayload(ordinal, segment uint64, slot int) []byte {
	w := writer{b: make([]byte, 0, 24)}
	w.u64(ordinal)
	w.u64(segment)
	w.u32(uint32(slot))
	w.u32(0)
	return w.b
}

func parseNext(payload []byte) (ordinal, segment uint64, slot int, err error) {
	r := reader{b: payload}
	ordinal, segment, slot = r.u64(), r.u64(), int(r.u32())
	if r.u32() != 0 {
		r.fail(errors.New("reserved field is set"))
	}
	return ordinal, segment, slot, r.done("NEXT")
}

func parseMark(payload []byte) (ordinal uint64, err error) {
	r := reader{b: payload}
	ordinal = r.u64()
	return ordinal, r.done("MARK")
}

// cut shortens text that goes into a frame.
func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
