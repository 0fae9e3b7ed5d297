package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// A checkpoint is the ledger's state at one LSN: all that the frames below it add up to. It is one zstd
// frame, cut into parts of which each is the payload of a CHECKPOINT frame:
//
//	ordinal u64 · c u64 · part u32, from 0 · parts u32 · raw length u32 · bytes
//
// ordinal is that of the last counted frame below c. The raw bytes are
//
//	layout u16 · next incarnation u32 · streams u32 × stream · manifests u32 × manifest
//	stream: incarnation u32 · next u64 · floor u64 · accepted i64 · STREAM payload blob · older versions u16 × STREAM
//	  payload blob · consumers u8 × {id u8 · position u64 · ok, dropped, failed, lost i64 · epoch u64 ·
//	  accepted before it began i64 · watermark i64 · holes u32 × {first u64, next u64} · epochs u16 × epoch ·
//	  zero u16 · from layout 2 on: base u64 · raw runs u32 × {run, first u64, next u64, rows i64, bytes i64}} ·
//	  in layout 3: lanes (lanes.go)
//	epoch: number u64 · version u64 · closed at u32 · bound str · records left i64 · runs u32 × {run,
//	  first u64, next u64, rows, records, bytes, oldest i64} · key cuts u16 × {key hash 16, run u32}, ascending
//	run: id 16 · length u64 · SHA-256 of the footer 32
//	manifest, oldest first: incarnation u32 · consumer u8 · first u64 · next u64 · replaces 16 · MANIFEST
//	  payload blob · confirmed set · replaced set
//
// Layout 2 is written where there are runs, layout 3 where there are lanes, so that a data directory without them is as it
// was before there were any.
const (
	checkpointLayout = 1
	checkpointRuns   = 2       // layout with runs
	checkpointLanes  = 3       // layout with runs and lanes
	checkpointWindow = 1 << 20 // of its compression
	checkpointPart   = 1 << 20 // most bytes of one part
	// maxCheckpoint caps what a checkpoint may unpack to.
	maxCheckpoint = 256 << 20
)

// checkpointHead is what each part says about the whole.
type checkpointHead struct {
	Ordinal     uint64
	C           uint64
	Part, Parts uint32
	Raw         uint32
}

const checkpointHeadSize = 8 + 8 + 4 + 4 + 4

func (h *checkpointHead) encode(w *writer) {
	w.u64(h.Ordinal)
	w.u64(h.C)
	w.u32(h.Part)
	w.u32(h.Parts)
	w.u32(h.Raw)
}

var errCheckpoint = errors.New("parts of the checkpoint do not belong together")

// parseCheckpointPart splits the payload of a CHECKPOINT frame.
func parseCheckpointPart(payload []byte) (h checkpointHead, body []byte, err error) {
	r := reader{b: payload}
	h = checkpointHead{Ordinal: r.u64(), C: r.u64(), Part: r.u32(), Parts: r.u32(), Raw: r.u32()}
	if r.err == nil && (h.Parts == 0 || h.Part >= h.Parts || h.Raw > maxCheckpoint) {
		r.fail(errCheckpoint)
	}
	if r.err != nil {
		return h, nil, fmt.Errorf("CHECKPOINT: %w", r.err)
	}
	return h, r.b, nil
}

// packCheckpoint compresses raw and cuts it into payloads of at most part bytes, ready for their frames.
func packCheckpoint(raw []byte, ordinal, c uint64, part int) ([][]byte, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(true), zstd.WithWindowSize(checkpointWindow))
	if err != nil {
		return nil, fmt.Errorf("compress checkpoint: %w", err)
	}
	defer enc.Close()
	packed := enc.EncodeAll(raw, nil)
	if len(raw) > maxCheckpoint {
		return nil, fmt.Errorf("checkpoint of %d bytes is larger than %d", len(raw), maxCheckpoint)
	}
	part -= checkpointHeadSize
	h := checkpointHead{Ordinal: ordinal, C: c, Parts: uint32(max(1, (len(packed)+part-1)/part)), Raw: uint32(len(raw))}
	var payloads [][]byte
	for ; h.Part < h.Parts; h.Part++ {
		n := min(part, len(packed))
		w := writer{b: make([]byte, 0, checkpointHeadSize+n)}
		h.encode(&w)
		w.raw(packed[:n])
		packed = packed[n:]
		payloads = append(payloads, w.b)
	}
	return payloads, nil
}

// unpackCheckpoint puts the parts' bodies together again.
func unpackCheckpoint(packed []byte, raw uint32) ([]byte, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(max(uint64(raw), checkpointWindow)), zstd.WithDecoderMaxWindow(checkpointWindow))
	if err != nil {
		return nil, fmt.Errorf("unpack checkpoint: %w", err)
	}
	defer dec.Close()
	b, err := dec.DecodeAll(packed, make([]byte, 0, min(int(raw), 64*len(packed)+4096)))
	if err != nil {
		return nil, fmt.Errorf("unpack checkpoint: %w", err)
	}
	if len(b) != int(raw) {
		return nil, fmt.Errorf("checkpoint unpacks to %d bytes, its head says %d", len(b), raw)
	}
	return b, nil
}

// encodeState writes the whole ledger. The caller holds mu.
func (l *ledger) encodeState() []byte {
	var w writer
	layout := l.layout()
	w.u16(layout)
	w.u32(l.nextIncarnation)
	ids := make([]uint32, 0, len(l.streams))
	for id := range l.streams {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	w.u32(uint32(len(ids)))
	for _, id := range ids {
		s := l.streams[id]
		w.u32(id)
		w.u64(s.next)
		w.u64(s.floor)
		w.i64(s.accepted)
		w.blob(encodeStream(s, &s.cur))
		old := make([]uint64, 0, len(s.versions))
		for v := range s.versions {
			old = append(old, v)
		}
		slices.Sort(old)
		w.u16(uint16(len(old)))
		for _, v := range old {
			version := s.versions[v]
			w.blob(encodeStream(s, &version))
		}
		w.u8(uint8(len(s.consumers)))
		for _, c := range s.consumers {
			c.encode(&w, layout >= checkpointRuns)
		}
		if layout == checkpointLanes {
			s.encodeLanes(&w)
		}
	}
	list := l.outstanding()
	w.u32(uint32(len(list)))
	for _, m := range list {
		h := &m.event.Head
		w.u32(h.Incarnation)
		w.u8(h.Consumer)
		w.u64(h.First)
		w.u64(h.Next)
		w.raw(h.Replaces[:])
		w.blob(encodeEvent(m.event))
		if sabotageProgressLost {
			(&objectSet{}).put(&w)
		} else {
			m.confirmed.put(&w)
		}
		m.replaced.put(&w)
	}
	return w.b
}

// layout is the first that has room for all that is known.
func (l *ledger) layout() uint16 {
	for _, s := range l.streams {
		for _, lane := range s.lanes {
			if lane.final != nil && !sabotageLanesLost {
				return checkpointLanes
			}
		}
	}
	layout := uint16(checkpointLayout)
	l.eachRun(func(uint32, *consumerState, runRef) { layout = checkpointRuns })
	return layout
}

func encodeStream(s *streamState, v *Stream) []byte {
	e := streamEvent{Stream: *v}
	for _, id := range v.Consumers {
		first := uint64(0)
		if c := s.consumer(id); c != nil {
			first = c.first
		}
		e.Firsts = append(e.Firsts, first)
	}
	if v.Version == s.cur.Version {
		for _, c := range s.consumers {
			if c.end != 0 {
				e.Ends = append(e.Ends, consumerEnd{c.id, c.end})
			}
		}
	}
	return encodeEvent(&e)
}

func (c *consumerState) encode(w *writer, runs bool) {
	w.u8(c.id)
	w.u64(c.position)
	w.i64(c.counts.OK)
	w.i64(c.counts.Dropped)
	w.i64(c.counts.Failed)
	w.i64(c.lost)
	w.u64(c.newest)
	w.i64(c.before)
	w.i64(c.mark)
	w.u32(uint32(len(c.holes)))
	for _, h := range c.holes {
		w.u64(h.first)
		w.u64(h.next)
	}
	w.u16(uint16(len(c.epochs)))
	for _, e := range c.epochs {
		e.encode(w)
	}
	w.u16(0)
	if !runs {
		return
	}
	w.u64(c.base)
	w.u32(uint32(len(c.raw)))
	for i := range c.raw {
		r := &c.raw[i]
		r.ref.put(w)
		w.u64(r.first)
		w.u64(r.next)
		w.i64(r.rows)
		w.i64(r.bytes)
	}
}

func (e *epochState) encode(w *writer) {
	w.u64(e.number)
	w.u64(e.version)
	w.u32(e.closedAt)
	if sabotageSweepFromStart {
		w.str("")
	} else {
		w.str(string(e.bound))
	}
	w.i64(e.left)
	w.u32(uint32(len(e.runs)))
	for i := range e.runs {
		r := &e.runs[i]
		r.ref.put(w)
		w.u64(r.first)
		w.u64(r.next)
		r.sum.put(w)
	}
	if sabotageCutsLost {
		w.u16(0)
		return
	}
	w.u16(uint16(len(e.cuts)))
	for _, key := range slices.SortedFunc(maps.Keys(e.cuts), func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) }) {
		w.raw(key[:])
		w.u32(e.cuts[key])
	}
}

var (
	errLayout  = errors.New("checkpoint has a layout that this version does not know")
	errHoles   = errors.New("holes are not in order")
	errRepeats = errors.New("something is in the checkpoint twice")
	errRuns    = errors.New("runs do not follow each other")
)

// decodeState reads what encodeState wrote.
func decodeState(raw []byte) (*ledger, error) {
	l := newLedger()
	r := &reader{b: raw}
	layout := r.u16()
	if layout < checkpointLayout || layout > checkpointLanes {
		r.fail(errLayout)
	}
	l.nextIncarnation = r.u32()
	for range r.list(int(r.u32()), 40) {
		l.readStream(r, layout)
	}
	if l.layout() != layout {
		r.fail(errLayout)
	}
	for range r.list(int(r.u32()), 80) {
		l.readManifest(r)
	}
	if err := r.done("checkpoint"); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *ledger) readStream(r *reader, layout uint16) {
	id := r.u32()
	s := &streamState{next: r.u64(), floor: r.u64(), accepted: r.i64(), versions: make(map[uint64]Stream), users: make(map[uint64]int), open: make(map[uint64]int)}
	s.draw = max(s.next, s.floor)
	cur := readStreamBlob(r, id)
	if cur == nil {
		return
	}
	s.cur = cur.Stream
	for range r.list(int(r.u16()), 4) {
		if old := readStreamBlob(r, id); old != nil {
			s.versions[old.Stream.Version] = old.Stream
		}
	}
	for range r.list(int(r.u8()), 73) {
		c := &consumerState{id: r.u8(), position: r.u64()}
		c.counts = Counts{OK: r.i64(), Dropped: r.i64(), Failed: r.i64()}
		c.lost = r.i64()
		c.used(r.u64())
		c.before = r.i64()
		c.mark = r.i64()
		at := c.position
		for range r.list(int(r.u32()), 16) {
			h := span{r.u64(), r.u64()}
			if h.first <= at || h.next <= h.first {
				r.fail(errHoles)
			}
			at = h.next
			c.holes = append(c.holes, h)
		}
		for range r.list(int(r.u16()), 140) {
			l.readEpoch(r, s, c)
		}
		if r.u16() != 0 {
			r.fail(errLayout)
		}
		if c.base = c.position; layout >= checkpointRuns {
			c.base = r.u64()
			for range r.list(int(r.u32()), 88) {
				l.readRaw(r, s, c)
			}
			c.checkRaw(r)
		}
		if n := len(s.consumers); n > 0 && s.consumers[n-1].id >= c.id {
			r.fail(errConsumers)
		}
		for i, other := range cur.Stream.Consumers {
			if other == c.id {
				c.first = cur.Firsts[i]
			}
		}
		for _, ended := range cur.Ends {
			if ended.id == c.id {
				c.end = ended.at
			}
		}
		s.consumers = append(s.consumers, c)
	}
	if layout == checkpointLanes {
		l.readLanes(r, s)
	}
	if l.streams[id] != nil || l.names[s.cur.Name] != nil || id >= l.nextIncarnation {
		r.fail(errRepeats)
	}
	l.streams[id], l.names[s.cur.Name] = s, s
}

// readEpoch reads an epoch of c.
func (l *ledger) readEpoch(r *reader, s *streamState, c *consumerState) {
	e := &epochState{number: r.u64(), version: r.u64(), closedAt: r.u32(), bound: r.key(), left: r.i64(), cuts: make(map[[16]byte]uint32)}
	for range r.list(int(r.u32()), 104) {
		run := routedRun{ref: readRunRef(r), first: r.u64(), next: r.u64(), sum: readRunSum(r)}
		if run.next <= run.first || len(e.runs) > 0 && run.first < e.runs[len(e.runs)-1].next {
			r.fail(errRuns)
		}
		e.runs = append(e.runs, run)
	}
	if n := len(c.epochs); len(e.runs) == 0 || e.number > c.newest || n > 0 && c.epochs[n-1].number >= e.number || int(e.closedAt) > len(e.runs) ||
		e.closedAt == 0 && len(e.bound) > 0 || e.left < 0 || len(e.bound) > maxRunKey {
		r.fail(errRuns)
	}
	var last [16]byte
	for i := range r.list(int(r.u16()), 20) {
		key, n := [16]byte(r.id()), r.u32()
		if i > 0 && bytes.Compare(last[:], key[:]) >= 0 || n == 0 || int(n) > len(e.runs) {
			r.fail(errRuns)
		}
		last = key
		e.cuts[key] = n
	}
	if r.err != nil {
		return
	}
	c.epochs = append(c.epochs, e)
	s.users[e.version]++
	l.weighRuns(s, e.weight())
}

// readRaw reads a raw run of c.
func (l *ledger) readRaw(r *reader, s *streamState, c *consumerState) {
	run := rawRun{ref: readRunRef(r), first: r.u64(), next: r.u64(), rows: r.i64(), bytes: r.i64()}
	if run.next <= run.first || run.next > c.position || len(c.raw) > 0 && run.first < c.raw[len(c.raw)-1].next {
		r.fail(errRuns)
	}
	c.raw = append(c.raw, run)
	l.weighRuns(s, rawRunWeight)
	for _, other := range s.consumers { // those before it
		if other != c && slices.ContainsFunc(other.raw, func(r rawRun) bool { return r.ref == run.ref }) {
			l.shared[run.ref.ID]++
		}
	}
}

// checkRaw checks that base is where the raw runs begin to be needed.
func (c *consumerState) checkRaw(r *reader) {
	if len(c.raw) == 0 && c.base != c.position || len(c.raw) > 0 && (c.base < c.raw[0].first || c.base >= c.raw[0].next) {
		r.fail(errRuns)
	}
}

func readStreamBlob(r *reader, incarnation uint32) *streamEvent {
	b := r.take(int(r.u32()))
	if r.err != nil {
		return nil
	}
	_, e, err := decodeEvent(&frameHead{Type: frameStream, Incarnation: incarnation}, b)
	if err != nil {
		r.fail(err)
		return nil
	}
	return e.(*streamEvent)
}

func (l *ledger) readManifest(r *reader) {
	h := frameHead{Type: frameManifest, Incarnation: r.u32(), Consumer: r.u8(), First: r.u64()}
	next := r.u64()
	replaces := ManifestID(r.id())
	b := r.take(int(r.u32()))
	if r.err != nil {
		return
	}
	_, e, err := decodeEvent(&h, b)
	if err != nil {
		r.fail(err)
		return
	}
	m := e.(*manifestEvent)
	m.Head.Next, m.Head.Replaces = next, replaces
	confirmed, replaced := readObjectSet(r, m.Objects), readObjectSet(r, m.Objects)
	if r.err != nil {
		return
	}
	if m.Objects == 0 || l.manifests[m.Head.ID] != nil {
		r.fail(errRepeats)
		return
	}
	state := l.begin(m)
	state.confirmed, state.replaced = confirmed, replaced
	if state.complete() {
		l.dirty[m.Head.ID] = struct{}{}
	}
}
