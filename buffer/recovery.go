package buffer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
)

// Recovery turns what a data directory holds into a running Buffer:
//
//  1. survey: lock, IDENT, the headers of all slots; the newest one and the chain of segments before it;
//  2. replay (replay.go): the newest checkpoint, the ledger frames since, the extent of every segment;
//  3. judge (damage.go): what damage means, and whether the policy lets the start go on;
//  4. reopen: a fresh segment with a checkpoint of all that, and copies of the rows that only the page cache
//     may have; from here on nothing older is appended to;
//  5. refill: rows that nobody has covered go back to the front.
//
// Until the headers of the fresh segment are written nothing has changed, so a crash in between repeats it.

// recovery is the state of a start.
type recovery struct {
	b      *Buffer
	policy DamagePolicy
	j      *journal

	slots     []*foundSlot
	leftovers []string      // files that crashes left unfinished: they go as soon as anything may be changed
	sides     []uint64      // segments that have a side file
	chain     []*oldSegment // oldest first
	base      uint64        // no frame anywhere has an LSN at or above it

	l         *ledger
	c         uint64        // frames from here on are replayed
	copies    []copiedFrame // DATA among opening frames
	damage    []Damage      // of acknowledged bytes
	lost      []lostRange   // rows that damage may have taken
	holes     []lostRange   // that are lost for good
	missing   []lostObjects
	unknown   []frameHead // REPLACE frames that cannot be read and have no pack
	forgiving bool        // ledger frames that only end things were damaged
	broken    map[*oldSegment]bool
	mended    map[*slot]map[int64]frameHead // headers of which one bit had changed
	covered   map[uint32]uint64             // by stream, what every consumer had covered by proven frames
	proven    uint64                        // everything below had been acknowledged, in the newest segment
	footers   map[PackID]*knownPack
	runs      map[RunID]*knownRun
}

// foundSlot is a slot file.
type foundSlot struct {
	slot  *slot
	size  int64
	head  slotHead
	valid bool // has a header
	blank bool // both its header blocks are zeros
	used  bool // by the chain
}

// oldSegment is a segment from before the start.
type oldSegment struct {
	*segment
	head slotHead
	last bool  // the newest one: its end is where its frames end
	size int64 // of the file
	tail int64 // of the newest one: where its sound frames end, proven or not
}

// open makes a Buffer of a data directory.
func (b *Buffer) open(o Options) error {
	r := &recovery{b: b, policy: o.OnDamage, broken: make(map[*oldSegment]bool), mended: make(map[*slot]map[int64]frameHead), footers: make(map[PackID]*knownPack), runs: make(map[RunID]*knownRun)}
	done := false
	defer func() {
		if !done {
			r.closeSlots()
		}
	}()
	if err := r.directory(o); err != nil {
		return err
	}
	if err := r.survey(); err != nil {
		return err
	}
	if err := r.replay(); err != nil {
		return err
	}
	if err := r.judge(); err != nil {
		return err
	}
	if err := r.secrets(); err != nil {
		return err
	}
	if err := r.wire(o); err != nil {
		return err
	}
	if err := r.reopen(); err != nil {
		return err
	}
	if err := r.settle(); err != nil {
		return err
	}
	if err := r.refill(); err != nil {
		return err
	}
	done = true
	CrashPoint("recovered")
	b.start()
	r.tidy()
	return nil
}

// closeSlots closes what a start that has failed opened. Those that the journal has by then are closed twice,
// which does no harm.
func (r *recovery) closeSlots() {
	for _, s := range r.slots {
		s.slot.file.Close()
	}
}

// wire makes the parts that rows and packs go to, around the recovered ledger.
func (r *recovery) wire(o Options) error {
	b, j := r.b, r.j
	b.ledger = r.l
	b.front = newFront(frontShare(b.memory))
	b.front.bufs = o.Buffers
	total := o.Disk
	if s, err := b.fs.Statfs(b.dir); err == nil {
		total = min(total, s.Total)
	}
	b.space = newSpace(spaceOptions{
		FS: b.fs, Dir: b.dir, Disk: total, Ring: int64(j.geo.limit) * j.geo.slot,
		Grown:  func() int64 { _, n := j.bytes(); return n },
		Memory: b.memory, Front: b.front, Sealed: j.seal != nil, Log: b.log,
	})
	b.packs = newPackStore(fileOptions{FS: b.fs, Dir: path.Join(b.dir, packsDir), Directory: j.id.Directory, Rand: b.rand, Seal: j.seal, Space: b.space, Log: b.log})
	b.runs = newRunStore(fileOptions{FS: b.fs, Dir: path.Join(b.dir, runsDir), Directory: j.id.Directory, Rand: b.rand, Seal: j.seal, Space: b.space, Log: b.log})
	b.committer = newCommitter(b)
	b.opener = newOpener(b)
	b.metrics = newMetrics(b)
	b.committer.observed = b.metrics.sync
	for _, m := range b.ledger.manifests {
		for _, p := range m.event.Packs {
			b.packs.register(m.event.Head.Incarnation, p, r.pack(p.ID).key)
		}
	}
	r.registerRuns()
	return nil
}

// reopen begins a fresh segment. Its checkpoint is all that replay has found; frames that are valid but not
// proven to be on stable storage are in it or copied behind it, and the old segment ends where the proof
// does.
func (r *recovery) reopen() error {
	j := r.j
	for _, name := range r.leftovers {
		if err := r.b.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a file that was not finished: %w", err)
		}
	}
	j.nextNumber, j.nextBase = 1, max(r.base, uint64(j.geo.slot))
	var prev, prevEnd uint64
	if n := len(r.chain); n > 0 {
		last := r.chain[n-1]
		j.nextNumber = last.number + 1
		last.end = int64(r.proven - last.base)
		if sabotageAppendOldTail {
			return r.continueOld(last)
		}
		if err := r.secure(last); err != nil {
			return err
		}
	}
	for _, s := range r.slots {
		if !s.used {
			r.release(s.slot)
		}
	}
	for len(r.chain) > 1 && r.dead(r.chain[0]) {
		if err := r.b.calls.save(r.chain[0].number); isFull(err) {
			break // it stays: a full disk must be able to start, or it would never be emptied
		} else if err != nil {
			return err
		}
		r.release(r.chain[0].slot)
		r.chain = r.chain[1:]
	}
	s, err := r.slotForReopen()
	if err != nil {
		return err
	}
	p := j.newPrepared(s)
	w := j.newOpeningWriter(p, r.proven)
	if err := w.checkpoint(r.l.encodeState(), r.l.ordinal, p.base); err != nil {
		return err
	}
	kept, dropped, err := r.copyRows(w)
	if err != nil {
		return err
	}
	// There is no older checkpoint that could stand in for this one, so there are two of it.
	if n := w.end(); n < j.geo.slot/2 {
		if err := w.checkpoint(r.l.encodeState(), r.l.ordinal, p.base); err != nil && !errors.Is(err, errOpeningFull) {
			return err
		}
	}
	if err := w.finish(); err != nil {
		return err
	}
	CrashPoint("recovery-copied")
	// The segments that are left out lose their slots: their calls go to side files first (I6). Where the disk
	// has no room for one, its segment stays, and with it what is older: their rows are there twice then.
	for i := len(dropped) - 1; i >= 0; i-- {
		if err := r.b.calls.save(dropped[i].number); isFull(err) {
			kept, dropped = append(kept, dropped[:i+1]...), dropped[i+1:]
			break
		} else if err != nil {
			return err
		}
	}
	if n := len(kept); n > 0 {
		prev, prevEnd = kept[n-1].number, kept[n-1].lsn(kept[n-1].end)
	}
	if err := j.writeHeaders(p, prev, prevEnd); err != nil {
		return err
	}
	CrashPoint("recovery-opened")
	for _, s := range kept {
		j.segments = append(j.segments, s.segment)
	}
	for _, s := range dropped {
		r.release(s.slot)
	}
	j.install(p)
	r.chain = append(kept, &oldSegment{segment: j.active()})
	for len(kept) == 0 && j.slots < j.geo.first {
		s, err := j.createSlot()
		if err != nil {
			r.b.log.Warn("the journal begins with fewer slots", "slots", j.slots, "err", err)
			break
		}
		j.free = append(j.free, s)
	}
	return nil
}

// release makes a slot free.
func (r *recovery) release(s *slot) {
	if s.bad {
		r.j.discard(s)
		return
	}
	r.j.free = append(r.j.free, s)
}

// secure sees to it that the newest segment is the newest one after the next crash too. Its headers may stand in
// the page cache only: the process that opened it was killed before it had synced them. The slots that it made
// free may be the only ones that a power cut leaves a header in, and they are about to be erased. The headers
// are written anew, since after a failed sync another one would prove nothing (I8); what was in the slot before
// them was durable before they were written.
func (r *recovery) secure(last *oldSegment) error {
	b := last.head.encode()
	places := []int64{0, r.j.geo.framesEnd()}
	if last.slot.bad {
		places = places[:1] // the file is too short: it would only grow
	}
	for _, off := range places {
		if _, err := last.slot.file.WriteAt(b, off); err != nil {
			return fmt.Errorf("write header of slot %q again: %w", last.slot.name, err)
		}
	}
	if err := last.slot.file.Datasync(); err != nil {
		return fmt.Errorf("sync slot %q: %w", last.slot.name, err)
	}
	return nil
}

// dead tells whether a segment was needed by nobody before the crash. What frames say that are not proven
// to be durable does not count: they may be gone after the next one (I6).
func (r *recovery) dead(s *oldSegment) bool {
	if s.lsn(s.end) > r.c {
		return false
	}
	for incarnation, reach := range s.data {
		if at, known := r.covered[incarnation]; known && at < reach.next {
			return false
		}
	}
	return true
}

// slotForReopen finds a slot for the fresh segment: a free one, or one more, if need be beyond the limit
// and in the place of the ballast.
func (r *recovery) slotForReopen() (*slot, error) {
	j := r.j
	if len(j.free) > 0 {
		s := j.free[0]
		j.free = j.free[1:]
		return s, j.eraseHeaders(s)
	}
	s, err := j.createSlot()
	if isFull(err) && r.b.space.giveUpBallast() {
		s, err = j.createSlot()
	}
	return s, err
}

// continueOld goes on in the segment from before the crash, which is what must never be done.
func (r *recovery) continueOld(last *oldSegment) error {
	j := r.j
	for _, s := range r.slots {
		if !s.used {
			j.free = append(j.free, s.slot)
		}
	}
	for _, s := range r.chain {
		j.segments = append(j.segments, s.segment)
	}
	j.current = last.segment
	last.end = (last.end + blockSize - 1) &^ (blockSize - 1)
	j.active().c = r.c
	j.durable = last.lsn(last.end)
	return nil
}

// copyRows copies rows into the fresh segment: those of frames that are not proven to be durable; and all
// uncovered rows of the newest segments as long as these are few, so that a process that is started again
// and again does not use up the ring. The segments that are thereby left out are returned.
func (r *recovery) copyRows(w *openingWriter) (kept, dropped []*oldSegment, err error) {
	kept = r.chain
	if len(kept) == 0 {
		return nil, nil, nil
	}
	budget := r.j.geo.slot / 4
	if w.end() > r.j.geo.slot/4 {
		budget = 0 // a large checkpoint: what has to be copied must still fit
	}
	growing := false // frames take more room than they had: they were in clear and will be sealed
	for _, s := range kept {
		growing = growing || r.j.seal != nil && s.slot.key == nil
	}
	if growing {
		budget /= 2 // the smallest frame of rows grows by less than a quarter
	}
	for len(kept) > 0 {
		s := kept[len(kept)-1]
		n := r.uncoveredBytes(s.segment)
		if growing {
			n += n / 4
		}
		if n > budget || r.broken[s] {
			break
		}
		budget -= n
		kept = kept[:len(kept)-1]
		dropped = append(dropped, s)
	}
	slices.Reverse(dropped)
	kept = slices.Clone(kept)
	for _, s := range r.chain {
		from := s.end // of a segment that stays, only what is not proven
		if slices.Contains(dropped, s) {
			from = blockSize
		} else if !s.last {
			continue
		}
		if err := r.copySegment(w, s, from); err != nil {
			return nil, nil, err
		}
	}
	return kept, dropped, nil
}

// uncoveredBytes is at most what the uncovered rows of a segment take.
func (r *recovery) uncoveredBytes(s *segment) (n int64) {
	for incarnation, reach := range s.data {
		if st := r.l.streams[incarnation]; st != nil && st.covered() < reach.next {
			n += reach.bytes
		}
	}
	return n
}

// copySegment copies the uncovered DATA frames of a segment from an offset on, and all that are not proven:
// these also for the sake of the ids of their calls.
func (r *recovery) copySegment(w *openingWriter, s *oldSegment, from int64) error {
	proven := s.end
	limit := s.end
	if s.last {
		limit = s.tail
	}
	scan := r.scan(s.slot, s.base, limit)
	scan.off = from
	for {
		h, payload, err := scan.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if badFrame(err) {
			if s.last && scan.off >= proven {
				return nil
			}
			if err := scan.pass(h, err); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if h.Type != frameData {
			continue
		}
		st := r.l.streams[h.Incarnation]
		if st == nil || st.covered() >= h.next() && scan.off <= proven {
			continue
		}
		if err := w.data(h, payload); err != nil {
			return err
		}
		if scan.off > proven {
			r.b.calls.moved(h, payload, w.p.number)
		}
	}
}

// settle makes durable what the damage means: holes, and objects whose packs are lost.
func (r *recovery) settle() error {
	ops := r.verdicts()
	if len(ops) == 0 {
		return nil
	}
	c := r.b.committer
	for _, o := range ops {
		o.done = make(chan struct{})
	}
	c.ops = append(c.ops, ops...)
	for len(c.ops) > 0 {
		if g := c.build(); g != nil {
			c.commit(g)
		}
		if c.failing() {
			return fmt.Errorf("write down what damage has taken: %w", ErrFailing)
		}
	}
	for _, o := range ops {
		if o.err != nil {
			return fmt.Errorf("write down what damage has taken: %w", o.err)
		}
	}
	return nil
}

// tidy removes in the background what no frame names.
func (r *recovery) tidy() {
	b := r.b
	if len(r.damage) > 0 {
		return // what is damaged might have named them
	}
	b.background.Go(func() {
		if err := b.packs.sweep(); err != nil {
			b.log.Warn("files of packs that nothing needs could not be removed", "err", err)
		}
		if err := b.runs.sweep(); err != nil {
			b.log.Warn("files of runs that nothing needs could not be removed", "err", err)
		}
	})
}
