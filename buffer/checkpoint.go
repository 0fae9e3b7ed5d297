package buffer

import (
	"errors"
	"fmt"
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
//	  accepted before it began i64 · watermark i64, 0 · holes u32 × {first u64, next u64} · epochs u16, lanes u16: 0}
//	manifest, oldest first: incarnation u32 · consumer u8 · first u64 · next u64 · replaces 16 · MANIFEST
//	  payload blob · confirmed set · replaced set
const (
	checkpointLayout = 1
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
	w.u16(checkpointLayout)
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
			c.encode(&w)
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

func encodeStream(s *streamState, v *Stream) []byte {
	e := streamEvent{Stream: *v}
	for _, id := range v.Consumers {
		first := uint64(0)
		if c := s.consumer(id); c != nil {
			first = c.first
		}
		e.Firsts = append(e.Firsts, first)
	}
	return encodeEvent(&e)
}

func (c *consumerState) encode(w *writer) {
	w.u8(c.id)
	w.u64(c.position)
	w.i64(c.counts.OK)
	w.i64(c.counts.Dropped)
	w.i64(c.counts.Failed)
	w.i64(c.lost)
	w.u64(c.epoch)
	w.i64(c.before)
	w.i64(0)
	w.u32(uint32(len(c.holes)))
	for _, h := range c.holes {
		w.u64(h.first)
		w.u64(h.next)
	}
	w.u16(0)
	w.u16(0)
}

var (
	errLayout  = errors.New("checkpoint has a layout that this version does not know")
	errHoles   = errors.New("holes are not in order")
	errRepeats = errors.New("something is in the checkpoint twice")
)

// decodeState reads what encodeState wrote.
func decodeState(raw []byte) (*ledger, error) {
	l := newLedger()
	r := &reader{b: raw}
	if r.u16() != checkpointLayout {
		r.fail(errLayout)
	}
	l.nextIncarnation = r.u32()
	for range r.list(int(r.u32()), 40) {
		l.readStream(r)
	}
	for range r.list(int(r.u32()), 80) {
		l.readManifest(r)
	}
	if err := r.done("checkpoint"); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *ledger) readStream(r *reader) {
	id := r.u32()
	s := &streamState{next: r.u64(), floor: r.u64(), accepted: r.i64(), versions: make(map[uint64]Stream), users: make(map[uint64]int)}
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
		c.epoch = r.u64()
		c.drawn = c.epoch
		c.before = r.i64()
		if r.i64() != 0 {
			r.fail(errLayout)
		}
		at := c.position
		for range r.list(int(r.u32()), 16) {
			h := span{r.u64(), r.u64()}
			if h.first <= at || h.next <= h.first {
				r.fail(errHoles)
			}
			at = h.next
			c.holes = append(c.holes, h)
		}
		if r.u32() != 0 { // lane positions and their number: none yet
			r.fail(errLayout)
		}
		if n := len(s.consumers); n > 0 && s.consumers[n-1].id >= c.id {
			r.fail(errConsumers)
		}
		for i, other := range cur.Stream.Consumers {
			if other == c.id {
				c.first = cur.Firsts[i]
			}
		}
		s.consumers = append(s.consumers, c)
	}
	if l.streams[id] != nil || l.names[s.cur.Name] != nil || id >= l.nextIncarnation {
		r.fail(errRepeats)
	}
	l.streams[id], l.names[s.cur.Name] = s, s
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
