package buffer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
)

// replay reads the whole chain once. Afterwards r.l is the ledger at the end of what is sound, each segment
// knows its rows, and r.proven is where proof ends.
func (r *recovery) replay() error {
	slices.Sort(r.sides)
	for _, n := range r.sides {
		if err := r.b.calls.load(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(r.chain) == 0 {
		r.l = newLedger()
		return nil
	}
	if err := r.loadCheckpoint(); err != nil {
		return err
	}
	p := &replayer{r: r, l: r.l, seen: make(map[uint32]*streamSeen), start: make(map[consumerKey]uint64)}
	for incarnation, s := range r.l.streams {
		for _, c := range s.consumers {
			p.start[consumerKey{incarnation, c.id}] = c.position
		}
	}
	for _, s := range r.chain {
		if err := p.segment(s); err != nil {
			return err
		}
	}
	if err := p.finish(); err != nil {
		return err
	}
	if sabotageReuseSequence {
		for _, s := range r.l.streams {
			s.draw = s.consumers[0].position
		}
	}
	return nil
}

// loadCheckpoint finds the newest checkpoint that can be read. An older one does as well, as long as all
// frames since are there. They are not where a start lies in between: what it found above the proven end of
// the segment before went into its checkpoint and nowhere else.
func (r *recovery) loadCheckpoint() error {
	for i := len(r.chain) - 1; i >= 0; i-- {
		s := r.chain[i]
		l, head, off, err := r.readCheckpoint(s)
		if err == nil {
			ok := head.C >= s.head.PrevEnd // nothing older is replayed
			for _, older := range r.chain[:i] {
				ok = ok || head.C >= older.base && head.C <= older.lsn(older.end)
			}
			if !ok {
				err = fmt.Errorf("its frames since LSN %d are not there any more", head.C)
			}
		}
		if err == nil {
			r.l, r.c = l, head.C
			r.l.ordinal = head.Ordinal
			if sabotageReplayFromStart {
				r.c = r.chain[0].base
			}
			return nil
		}
		r.hurt(s, off, blockSize, "CHECKPOINT: "+err.Error(), nil)
		if i > 0 && r.chain[i-1].head.Start != s.head.Start {
			break
		}
	}
	return r.fatal()
}

// readCheckpoint reads the parts among the opening frames of a segment. There may be two copies; the second
// is read where the first cannot be. On error off is the place of the first fault.
func (r *recovery) readCheckpoint(s *oldSegment) (l *ledger, head checkpointHead, off int64, err error) {
	scan := r.scan(s.slot, s.base, s.head.Opened)
	fault := func(at int64, e error) {
		if err == nil {
			off, err = at, e
		}
	}
	var parts []checkpointHead
	var packed []byte
	for {
		at := scan.off
		h, payload, e := scan.next()
		if errors.Is(e, io.EOF) {
			fault(at, errors.New("it is not there"))
			return nil, head, off, err
		}
		if e != nil && !badFrame(e) {
			return nil, head, at, e
		}
		if e != nil {
			fault(at, e)
			parts, packed = nil, nil
			if e := scan.pass(h, e); e != nil {
				return nil, head, at, e
			}
			continue
		}
		if h.Type != frameCheckpoint {
			continue
		}
		part, body, e := parseCheckpointPart(payload)
		if e == nil && int(part.Part) != len(parts) {
			e = errCheckpoint
			if part.Part == 0 {
				parts, packed = nil, nil
				e = nil
			}
		}
		if e == nil && part.Part > 0 && (part.Parts != parts[0].Parts || part.C != parts[0].C || part.Raw != parts[0].Raw || part.Ordinal != parts[0].Ordinal) {
			e = errCheckpoint
		}
		if e != nil {
			fault(at, e)
			parts, packed = nil, nil
			continue
		}
		parts, packed = append(parts, part), append(packed, body...)
		if len(parts) < int(part.Parts) {
			continue
		}
		raw, e := unpackCheckpoint(packed, part.Raw)
		if e == nil {
			if l, e = decodeState(raw); e == nil {
				return l, part, 0, nil
			}
		}
		fault(at, e)
		parts, packed = nil, nil
	}
}

// hurt takes note of damage to acknowledged bytes.
func (r *recovery) hurt(s *oldSegment, off, n int64, what string, h *frameHead) {
	d := Damage{File: s.slot.name, Offset: off, Length: n, What: what}
	if h != nil {
		d.Incarnation, d.First, d.Next = h.Incarnation, h.First, h.next()
	}
	r.damage = append(r.damage, d)
	r.broken[s] = true
}

// fatal stops the start with all that was found.
func (r *recovery) fatal() error { return &DamageError{Items: r.damage} }

// replayer goes through the frames in the order of their LSNs.
type replayer struct {
	r *recovery
	l *ledger

	seen   map[uint32]*streamSeen
	holes  int    // places whose headers were lost so far
	unsure bool   // a lost header may have been that of a ledger frame
	hidden uint64 // bytes that lost headers cover, of frames that are replayed

	start map[consumerKey]uint64 // positions at c
	moves []move                 // of positions since
}

// move is a frame that changed a consumer's position.
type move struct {
	key      consumerKey
	lsn      uint64
	position uint64
}

// streamSeen is what the frames so far say of one stream.
type streamSeen struct {
	next  uint64 // behind its last DATA frame, 0: none yet
	holes int    // replayer.holes at that frame
}

// segment replays one segment.
func (p *replayer) segment(s *oldSegment) error {
	r := p.r
	scan := r.scan(s.slot, s.base, s.end)
	opened := s.head.Opened
	if s.last {
		r.proven = s.lsn(opened)
	}
	var h frameHead // one for all: its address is passed on
	for {
		off := scan.off
		var payload []byte
		var err error
		h, payload, err = scan.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !badFrame(err) {
			return err
		}
		if err == nil {
			if s.last && h.Durable > r.proven {
				r.proven = min(h.Durable, s.lsn(s.end))
			}
			if err := p.frame(s, off, &h, payload); err != nil {
				return err
			}
			continue
		}
		if s.last && s.lsn(off) >= r.proven {
			// Behind everything that is proven so far. Only a later frame can say that it was acknowledged.
			from := off + frameAlign
			if errors.Is(err, errPayload) {
				from = off + h.size()
			}
			most, err := scan.proven(from, s.lsn(off))
			if err != nil {
				return err
			}
			if most == 0 {
				s.end = off // the torn end: nobody got an answer for it
				break
			}
			r.proven = max(r.proven, most)
		}
		if !errors.Is(err, errPayload) && scan.mended[off] == (frameHead{}) {
			mended, ok, err := scan.mend()
			if err != nil {
				return err
			}
			if ok {
				r.hurt(s, off, mended.size(), fmt.Sprintf("%v frame: one bit of its header had changed, nothing is lost", mended.Type), nil)
				scan.mended = r.mend(s.slot, off, mended)
				continue
			}
		}
		if err := p.damaged(s, scan, h, err); err != nil {
			return err
		}
	}
	if s.last {
		s.tail = s.end
	}
	return nil
}

// mend remembers a header that was put right: the disk stays as it is.
func (r *recovery) mend(s *slot, off int64, h frameHead) map[int64]frameHead {
	if r.mended[s] == nil {
		r.mended[s] = make(map[int64]frameHead)
	}
	r.mended[s][off] = h
	return r.mended[s]
}

// pass steps over a bad frame: by its length where its header is sound, else to the next sound header.
func (s *frameScan) pass(h frameHead, err error) error {
	if errors.Is(err, errPayload) {
		s.off += h.size()
		return nil
	}
	next, err := s.resync(s.off)
	s.off = next
	return err
}

// frame replays a sound frame.
func (p *replayer) frame(s *oldSegment, off int64, h *frameHead, payload []byte) error {
	r, l := p.r, p.l
	lsn := s.lsn(off)
	if h.Flags&^(flagOpening|flagSealed) != 0 || h.Type > lastFrame || h.Type == 0 {
		return &NewerVersionError{Path: s.slot.name, What: fmt.Sprintf("%v frame at byte %d of slot", h.Type, off), Version: formatVersion + 1, Known: formatVersion}
	}
	if h.Type == frameData {
		id, attempt, _, err := parseData(payload, h.Count)
		if err != nil {
			return p.stop(s, off, h, err.Error())
		}
		id.Stream = h.Incarnation
		if !id.zero() {
			r.b.calls.restore(id.digest(), knownCall{first: h.First, segment: s.number, mark: id.mark(attempt, int(h.Count))})
		}
		st := l.streams[h.Incarnation]
		if st == nil {
			if h.Incarnation >= l.nextIncarnation && lsn >= r.c {
				return p.stop(s, off, h, "rows of a stream that nothing has declared")
			}
			return nil // of a stream that is gone
		}
		s.extend(h.Incarnation, h.First, h.next(), h.size())
		if h.opening() && !sabotageResidueTwice {
			return nil
		}
		p.rows(s, h, lsn)
		return nil
	}
	if !h.Type.ledger() || h.opening() || lsn < r.c {
		return nil
	}
	return p.ledgerFrame(s, off, h, payload)
}

// rows takes note of a DATA frame, damaged or not, whose header is sound.
func (p *replayer) rows(s *oldSegment, h *frameHead, lsn uint64) {
	seen := p.seen[h.Incarnation]
	if seen == nil {
		seen = &streamSeen{}
		p.seen[h.Incarnation] = seen
	}
	if seen.holes < p.holes {
		p.gap(s, h.Incarnation, seen.next, h.First, lsn)
		seen.holes = p.holes
	}
	seen.next = max(seen.next, h.next())
	if st := p.l.streams[h.Incarnation]; st != nil && lsn >= p.r.c {
		p.l.data(st, h.First, h.Count)
	}
}

// gap: between two frames of a stream headers were lost, so what is missing between them is what they hid.
// from 0 means that no earlier frame of the stream was seen.
func (p *replayer) gap(s *oldSegment, incarnation uint32, from, to, lsn uint64) {
	st := p.l.streams[incarnation]
	if st == nil || from >= to {
		return
	}
	if lsn >= p.r.c && to > st.next { // what is below was counted by the checkpoint
		st.accepted += int64(to - st.next)
		st.next = to
		st.draw = max(st.draw, to)
	}
	p.r.lost = append(p.r.lost, lostRange{incarnation, from, to, s, "headers of DATA frames are damaged"})
}

// ledgerFrame replays a sound ledger frame at or above c.
func (p *replayer) ledgerFrame(s *oldSegment, off int64, h *frameHead, payload []byte) error {
	l := p.l
	var ordinal uint64
	var e event
	var err error
	switch h.Type {
	case frameMark:
		ordinal, err = parseMark(payload)
	case frameNext:
		ordinal, _, _, err = parseNext(payload)
		if err == nil && s.last {
			return p.stop(s, off, h, "the segment that follows has lost both headers")
		}
	case frameCheckpoint:
		return p.stop(s, off, h, "CHECKPOINT outside the opening frames")
	default:
		ordinal, e, err = decodeEvent(h, payload)
	}
	if err != nil {
		return p.stop(s, off, h, err.Error())
	}
	want := l.ordinal
	if h.Type.counted() {
		want++
	}
	if ordinal != want && !sabotageLedgerDamage {
		return p.stop(s, off, h, fmt.Sprintf("ledger frames before it are missing: it has ordinal %d, %d was expected", ordinal, want))
	}
	p.unsure = false
	if e == nil {
		return nil
	}
	switch e := e.(type) {
	case *manifestEvent:
		if len(e.Lanes.At) == 0 { // else it says how many rows it has brought
			p.taken(e.Head.Incarnation, e.Head.Next)
		}
	case *runEvent:
		if len(e.Lanes.At) == 0 {
			p.taken(e.Head.Incarnation, e.Head.Next)
		}
	}
	l.ordinal = ordinal
	if err := l.apply(e); err != nil && !sabotageLedgerDamage && !sabotageReplayFromStart {
		return p.stop(s, off, h, err.Error())
	}
	l.retired, l.retiredRuns = nil, nil
	if h.Type == frameManifest || h.Type == frameRun {
		if st := l.streams[h.Incarnation]; st != nil {
			for _, c := range st.consumers {
				if h.Consumer == c.id || h.Consumer == allConsumers {
					p.moves = append(p.moves, move{consumerKey{h.Incarnation, c.id}, s.lsn(off), c.position})
				}
			}
		}
	}
	return nil
}

// taken: a manifest or a run proves that its rows were accepted, also those whose frames were hidden.
func (p *replayer) taken(incarnation uint32, next uint64) {
	if st := p.l.streams[incarnation]; st != nil && p.holes > 0 && next > st.next {
		st.accepted += int64(next - st.next)
		st.next = next
	}
}

// brought: a damaged frame of a manifest or run, which takes these rows, has brought those that nothing before it spoke of:
// they came from lanes. How far that brings the lanes the next frame of the stream repeats; where there is none, they are
// read again.
func (p *replayer) brought(st *streamState, h *frameHead, rows int64) {
	if st == nil || p.holes > 0 || h.next() <= st.next {
		return
	}
	if h.First < st.next {
		rows = int64(h.next() - st.next)
	}
	st.accepted += rows
	st.unplaced += rows
}

// stop ends the start: what the ledger says from here on is not known.
func (p *replayer) stop(s *oldSegment, off int64, h *frameHead, what string) error {
	p.r.hurt(s, off, h.size(), fmt.Sprintf("%v: %s", h.Type, what), h)
	return p.r.fatal()
}

// damaged deals with a frame that was acknowledged and cannot be read.
func (p *replayer) damaged(s *oldSegment, scan *frameScan, h frameHead, fault error) error {
	r := p.r
	off := scan.off
	if err := scan.pass(h, fault); err != nil {
		return err
	}
	lsn := s.lsn(off)
	if !errors.Is(fault, errPayload) {
		// The header is lost, and with it what the frame was. The frames around it tell: ledger frames by
		// their ordinals, rows by their sequences.
		r.hurt(s, off, scan.off-off, fault.Error(), nil)
		p.holes++
		// Among the opening frames it can only have been a copy of rows, or a part of a checkpoint: one that
		// is needed has been read.
		if scan.off > s.head.Opened && s.lsn(scan.off) > r.c {
			p.unsure = true
			p.hidden += uint64(scan.off - off)
		}
		if off < s.head.Opened {
			// The rows of which copies may be gone can be older or newer than what was seen of their stream.
			for _, seen := range p.seen {
				seen.next = 0
			}
		}
		return nil
	}
	r.hurt(s, off, h.size(), fmt.Sprintf("%v frame: %v", h.Type, fault), &h)
	switch {
	case h.Type == frameData:
		if p.l.streams[h.Incarnation] == nil {
			return nil
		}
		s.extend(h.Incarnation, h.First, h.next(), 0)
		r.lost = append(r.lost, lostRange{h.Incarnation, h.First, h.next(), s, "a DATA frame is damaged"})
		if !h.opening() {
			p.rows(s, &h, lsn)
		}
		return nil
	case h.opening() || lsn < r.c || !h.Type.counted() || sabotageLedgerDamage:
		return nil
	}
	p.l.ordinal++
	switch h.Type {
	case frameProgress, frameCommit:
		// Objects are put again, which finds them there; or their pack is gone, which says the same.
		r.forgiving = true
		return nil
	case frameHole:
		return p.l.apply(&holeEvent{Incarnation: h.Incarnation, First: h.First, Next: h.next()})
	case frameRun:
		return r.rebuildRun(p, s, &h)
	case frameManifest:
		return r.rebuildManifest(p, s, &h)
	case frameReplace:
		return r.rebuildReplace(p, s, &h)
	}
	return r.fatal()
}

// finish checks what can only be known at the end.
func (p *replayer) finish() error {
	r := p.r
	for _, st := range r.l.streams {
		if st.unplaced > 0 {
			r.b.log.Error("a damaged frame has hidden how far lanes had been read: records of its source are read and delivered again", "stream", st.cur.Name, "records", st.unplaced)
		}
	}
	if p.unsure && !sabotageLedgerDamage {
		// No ledger frame came after the lost headers, so nothing proves that they hid none.
		return r.fatal()
	}
	for _, m := range p.moves {
		if _, known := p.start[m.key]; known && m.lsn < r.proven {
			p.start[m.key] = m.position
		}
	}
	r.covered = make(map[uint32]uint64)
	for k, position := range p.start {
		if at, known := r.covered[k.incarnation]; !known || position < at {
			r.covered[k.incarnation] = position
		}
	}
	for _, st := range r.l.streams {
		if seen := p.seen[st.cur.Incarnation]; p.holes > 0 && (seen == nil || seen.holes < p.holes) {
			// The last rows of this stream may be among what is hidden, so their sequences are not given
			// out again: a record takes at least a byte.
			from := uint64(0)
			if seen != nil {
				from = seen.next
			}
			if from < st.next {
				r.lost = append(r.lost, lostRange{st.cur.Incarnation, from, st.next, r.chain[len(r.chain)-1], "headers of DATA frames are damaged"})
			}
			// The checkpoint keeps the floor: the start after this one may not see the damage any more.
			st.floor = max(st.floor, st.next+p.hidden)
			st.draw = max(st.draw, st.floor)
		}
	}
	return r.finishRebuild()
}
