package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"sync"

	"hydrant/buffer/fsys"
)

const (
	minSlotSize = 64 << 10 // so small only in tests
	maxSlotSize = 64 << 20

	journalDir    = "journal"
	packsDir      = "packs"
	runsDir       = "runs"
	quarantineDir = "quarantine"
)

// geometry is the shape of the ring.
type geometry struct {
	slot  int64 // bytes of a slot, kept in IDENT
	limit int   // most slots
	first int   // slots made at the first start
}

// ringGeometry is what a data directory gets whose disk has this many bytes: a twentieth of it for the
// ring, in 16 slots where that makes them large enough.
func ringGeometry(disk, free int64) geometry {
	ring := min(max(disk/20, 64<<20), 1<<30)
	g := geometry{slot: min(max(ring/16, 16<<20), maxSlotSize) &^ (blockSize - 1)}
	g.limit = int(ring / g.slot)
	g.first = min(4, g.limit)
	if free-int64(g.first)*g.slot < free/4 {
		g.first--
	}
	return g
}

// dataEnd is where in a slot DATA frames end: the last eighth is for ledger frames, so that what waits can
// be cut when no slot is free.
func (g geometry) dataEnd() int64 { return (g.slot / 8 * 7) &^ (blockSize - 1) }

// ledgerEnd is where all frames end but NEXT, which has the block before the last header.
func (g geometry) ledgerEnd() int64 { return g.slot - 2*blockSize }

// framesEnd is where the last header begins.
func (g geometry) framesEnd() int64 { return g.slot - blockSize }

// prepareAt is how full a segment is when the next one is prepared.
func (g geometry) prepareAt() int64 { return g.slot / 4 * 3 }

// maxFrame is the room of the largest frame. With half a slot of opening frames before it, it still fits.
func (g geometry) maxFrame() int64 {
	return min(frameSize(maxPayload), g.dataEnd()-g.slot/2-4*blockSize)
}

// maxGroup is the most bytes of one write.
func (g geometry) maxGroup() int64 { return min(8<<20, g.dataEnd()-g.slot/2-blockSize) }

// slot is a file of the ring. It keeps its name for life.
type slot struct {
	index int
	name  string // path
	file  fsys.File
	bad   bool     // a write or a sync failed: closed for good, removed when its segment is dead
	key   *dataKey // of the segment in it; nil: that is in clear
}

func slotName(dir string, index int) string {
	return path.Join(dir, journalDir, fmt.Sprintf("j-%04d", index))
}

// parseSlotName is the inverse of slotName's last element.
func parseSlotName(name string) (index int, ok bool) {
	if n, err := fmt.Sscanf(name, "j-%d", &index); n != 1 || err != nil || name != path.Base(slotName("", index)) {
		return 0, false
	}
	return index, true
}

// reach is what a segment holds of one stream: sequences within [first, next), and about how many bytes.
type reach struct {
	first, next uint64
	bytes       int64
}

// segment is a stretch of the journal, in a slot.
type segment struct {
	slot   *slot
	number uint64
	base   uint64 // LSN of the slot's first byte
	end    int64  // offset behind its last frame
	c      uint64 // LSN from which its checkpoint replays
	data   map[uint32]*reach
}

func (s *segment) lsn(off int64) uint64 { return s.base + uint64(off) }

// extend takes note of rows in the segment.
func (s *segment) extend(incarnation uint32, first, next uint64, bytes int64) {
	r := s.data[incarnation]
	if r == nil {
		if s.data == nil {
			s.data = make(map[uint32]*reach)
		}
		s.data[incarnation] = &reach{first, next, bytes}
		return
	}
	r.first, r.next, r.bytes = min(r.first, first), max(r.next, next), r.bytes+bytes
}

// gate is a mutex that may be held while its holder waits for the disk. Those who wait for it wait on a
// channel, as for any other event, so the clock of a testing/synctest bubble does not stand still meanwhile.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

// Lock waits for the gate and takes it.
func (g gate) Lock() { g <- struct{}{} }

// Unlock gives it back.
func (g gate) Unlock() { <-g }

// journal is the ring of slots. The committer alone writes to the active segment and opens the next; the
// opener alone prepares, reclaims and adds slots, under prepare.
type journal struct {
	fs   fsys.FS
	dir  string
	log  *slog.Logger
	id   ident
	geo  geometry
	born uint64  // start number of this process
	seal *sealer // nil: what is written is in clear

	prepare gate // held while a slot is prepared, reclaimed or made, which takes syncs; taken before mu

	mu         sync.Mutex
	segments   []*segment // in use, oldest first
	current    *segment   // the last of them
	free       []*slot
	prepared   *prepared
	copied     *segment // whose rows are copied into the active segment: it waits for nobody any more
	slots      int      // files that there are
	nextIndex  int
	nextNumber uint64
	nextBase   uint64
	durable    uint64 // everything below is on stable storage
	full       bool   // no room for puts, and the opener could not make any
	failing    bool   // the last write failed and no new slot could be opened
	group      uint32
}

// prepared is a slot with opening frames, synced, whose headers are still to be written.
type prepared struct {
	slot   *slot
	number uint64
	base   uint64
	end    int64
	c      uint64
	copied *segment // whose uncovered rows are among the opening frames; nil: none
	data   map[uint32]*reach
}

// active is the segment that is written. The committer, which alone changes it, needs no lock to ask.
func (j *journal) active() *segment { return j.current }

// spare is how many slots there are to go on in. The caller holds mu.
func (j *journal) spare() int {
	n := len(j.free)
	if j.prepared != nil {
		n++
	}
	return n
}

// createSlot makes a slot file, all of it allocated, durable with its name.
func (j *journal) createSlot() (*slot, error) {
	j.mu.Lock()
	j.nextIndex++
	s := &slot{index: j.nextIndex, name: slotName(j.dir, j.nextIndex)}
	j.mu.Unlock()
	f, err := j.fs.OpenFile(s.name, fsys.Create)
	if err != nil {
		return nil, fmt.Errorf("create slot %q: %w", s.name, err)
	}
	s.file = f
	err = fsys.Reserve(f, 0, j.geo.slot)
	if err == nil {
		err = f.Datasync()
	}
	CrashPoint("slot-allocated")
	if err == nil && !sabotageSkipDirSync {
		err = j.fs.SyncDir(path.Dir(s.name))
	}
	if err != nil {
		f.Close()
		j.fs.Remove(s.name)
		return nil, fmt.Errorf("allocate slot %q of %d bytes: %w", s.name, j.geo.slot, err)
	}
	j.mu.Lock()
	j.slots++
	j.mu.Unlock()
	return s, nil
}

// discard removes a slot's file. Its content must be dead, or never have been durable.
func (j *journal) discard(s *slot) {
	s.file.Close()
	if err := j.fs.Remove(s.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		j.log.Warn("a slot file of the journal could not be removed", "file", s.name, "err", err)
	}
	j.mu.Lock()
	j.slots--
	j.mu.Unlock()
}

// eraseHeaders makes a slot belong to no segment, durably: a crash while it is prepared finds it free.
func (j *journal) eraseHeaders(s *slot) error {
	zero := zeroBlock[:blockSize]
	for _, off := range []int64{0, j.geo.framesEnd()} {
		if _, err := s.file.WriteAt(zero, off); err != nil {
			return fmt.Errorf("erase header of slot %q: %w", s.name, err)
		}
	}
	if err := s.file.Datasync(); err != nil {
		return fmt.Errorf("sync slot %q: %w", s.name, err)
	}
	return nil
}

// writeHeaders makes a prepared slot the segment that follows prev, which ends at prevEnd (an LSN).
// From the moment it is called nothing may be appended to prev: a crash may find the headers even where an
// error is returned.
func (j *journal) writeHeaders(p *prepared, prev, prevEnd uint64) error {
	h := slotHead{
		Salt: j.id.Salt, Directory: j.id.Directory, Start: j.born, Segment: p.number, Base: p.base,
		Prev: prev, PrevEnd: prevEnd, Size: j.geo.slot, Opened: p.end, Key: j.seal.header(),
	}
	b := h.encode()
	for _, off := range []int64{0, j.geo.framesEnd()} {
		if _, err := p.slot.file.WriteAt(b, off); err != nil {
			return fmt.Errorf("write header of slot %q: %w", p.slot.name, err)
		}
		CrashPoint("slot-header")
	}
	if err := p.slot.file.Datasync(); err != nil {
		return fmt.Errorf("sync slot %q: %w", p.slot.name, err)
	}
	if sabotageKeyLater && j.seal != nil {
		h.Key = j.seal.wrapped
		b := h.encode()
		p.slot.file.WriteAt(b, 0)
		p.slot.file.WriteAt(b, j.geo.framesEnd())
	}
	return nil
}

// openingWriter writes opening frames into a slot.
type openingWriter struct {
	j       *journal
	p       *prepared
	durable uint64
	buf     []byte
	sealed  []byte // where payloads are sealed
	at      int64  // offset of buf[0]
	limit   int64
}

var errOpeningFull = errors.New("opening frames do not fit into the slot")

func (j *journal) newOpeningWriter(p *prepared, durable uint64) *openingWriter {
	return &openingWriter{j: j, p: p, durable: durable, at: blockSize, limit: j.geo.dataEnd()}
}

func (w *openingWriter) end() int64 { return w.at + int64(len(w.buf)) }

// frame appends one frame, whose header says what it is; the rest of the header is filled in here.
func (w *openingWriter) frame(h frameHead, payload []byte) error {
	h.Flags |= flagOpening
	payload = w.j.seal.store(&h, w.sealed[:0], payload)
	if h.Flags&flagSealed != 0 {
		w.sealed = payload
	}
	size := frameSize(len(payload))
	if w.end()+size+2*blockSize > w.limit {
		return errOpeningFull
	}
	h.LSN = w.p.base + uint64(w.end())
	h.Durable = w.durable
	var head [frameHeader]byte
	h.put(head[:], w.j.id.Salt)
	w.buf = append(w.buf, head[:]...)
	w.buf = append(w.buf, payload...)
	w.buf = append(w.buf, zeroBlock[:size-frameHeader-int64(len(payload))]...)
	if len(w.buf) >= 1<<20 {
		return w.flush()
	}
	return nil
}

func (w *openingWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	if _, err := w.p.slot.file.WriteAt(w.buf, w.at); err != nil {
		return fmt.Errorf("write opening frames of slot %q: %w", w.p.slot.name, err)
	}
	w.at += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// finish pads to a block, writes and syncs.
func (w *openingWriter) finish() error {
	if n := padSize(w.end()); n > 0 {
		if err := w.frame(frameHead{Type: framePad}, zeroBlock[:n-frameHeader]); err != nil {
			return err
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.p.slot.file.Datasync(); err != nil {
		return fmt.Errorf("sync slot %q: %w", w.p.slot.name, err)
	}
	w.p.end = w.at
	return nil
}

// checkpoint writes the ledger's state as CHECKPOINT frames.
func (w *openingWriter) checkpoint(raw []byte, ordinal, c uint64) error {
	part := min(checkpointPart, int(w.j.geo.maxFrame())-frameHeader-w.j.seal.overhead())
	payloads, err := packCheckpoint(raw, ordinal, c, part)
	if err != nil {
		return err
	}
	for _, payload := range payloads {
		if err := w.frame(frameHead{Type: frameCheckpoint}, payload); err != nil {
			return fmt.Errorf("checkpoint of %d parts: %w", len(payloads), err)
		}
	}
	w.p.c = c
	return nil
}

// newPrepared reserves a number and a base for a slot. LSNs are never given out twice (I3).
func (j *journal) newPrepared(s *slot) *prepared {
	j.mu.Lock()
	defer j.mu.Unlock()
	s.key = j.seal.key()
	p := &prepared{slot: s, number: j.nextNumber, base: j.nextBase}
	j.nextNumber++
	j.nextBase += uint64(j.geo.slot)
	return p
}

// nextFrame writes NEXT behind the end of a segment that another one has followed. It is a help for the
// case that both headers of the new slot are lost, so nothing depends on it.
func (j *journal) nextFrame(old *segment, p *prepared, ordinal uint64) error {
	payload := nextPayload(ordinal, p.number, p.slot.index)
	var block [blockSize]byte
	h := frameHead{Type: frameNext, Length: uint32(len(payload)), PayloadCRC: payloadCRC(payload), LSN: old.lsn(old.end), Durable: old.lsn(old.end)}
	h.put(block[:], j.id.Salt)
	copy(block[frameHeader:], payload)
	at := h.size()
	pad := zeroBlock[:blockSize-at-frameHeader]
	ph := frameHead{Type: framePad, Length: uint32(len(pad)), PayloadCRC: payloadCRC(pad), LSN: h.LSN + uint64(at), Durable: h.Durable}
	ph.put(block[at:], j.id.Salt)
	if _, err := old.slot.file.WriteAt(block[:], old.end); err != nil {
		return fmt.Errorf("write NEXT into slot %q: %w", old.slot.name, err)
	}
	if err := old.slot.file.Datasync(); err != nil {
		return fmt.Errorf("sync slot %q: %w", old.slot.name, err)
	}
	return nil
}

// bytes in use, from the oldest frame that is needed to the end.
func (j *journal) bytes() (used, allocated int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.segments {
		used += s.end
	}
	return used, int64(j.slots) * j.geo.slot
}

// closeFiles closes all slots.
func (j *journal) closeFiles() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var errs []error
	for _, s := range j.segments {
		errs = append(errs, s.slot.file.Close())
	}
	for _, s := range j.free {
		errs = append(errs, s.file.Close())
	}
	if j.prepared != nil {
		errs = append(errs, j.prepared.slot.file.Close())
	}
	return errors.Join(errs...)
}
