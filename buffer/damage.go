package buffer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"hydrant/buffer/fsys"
)

// lostRange is rows that damage may have taken: there may be a copy of them, or somebody has covered them.
type lostRange struct {
	incarnation uint32
	first, next uint64
	segment     *oldSegment
	cause       string
}

// lostObjects is a manifest whose pack is gone or damaged.
type lostObjects struct {
	manifest *manifestState
	cause    string
	file     string // in quarantine/, "" where there is nothing to keep
}

// knownPack is a pack file that was read during recovery.
type knownPack struct {
	footer *packFooter
	ref    packRef
	key    *dataKey
	err    error
}

// pack reads the footer of a pack, once.
func (r *recovery) pack(id PackID) *knownPack {
	if k := r.footers[id]; k != nil {
		return k
	}
	k := &knownPack{}
	if c, err := openPack(r.b.fs, r.packPath(id), r.b.keys); err != nil {
		k.err = err
	} else {
		k.footer, k.ref, k.key = c.foot, c.ref, c.key
	}
	r.footers[id] = k
	return k
}

func (r *recovery) packPath(id PackID) string {
	return path.Join(r.b.dir, packsDir, hex.EncodeToString(id[:])+packSuffix)
}

// allPacks reads the footers of all pack files.
func (r *recovery) allPacks() (list []*knownPack, err error) {
	entries, err := r.b.fs.ReadDir(path.Join(r.b.dir, packsDir))
	if err != nil {
		return nil, fmt.Errorf("list packs: %w", err)
	}
	for _, e := range entries {
		if id, ok := packKind.parse(e.Name); ok {
			k := r.pack(id)
			if key, ok := errors.AsType[*KeyError](k.err); ok {
				return nil, key // it may be the one that is looked for
			}
			if k.err == nil {
				list = append(list, k)
			}
		}
	}
	return list, nil
}

// rebuildManifest finds what a damaged MANIFEST said in the footers of the packs that were sealed for its
// range. Where there is no such pack the manifest has ended since: it had been committed.
func (r *recovery) rebuildManifest(p *replayer, s *oldSegment, h *frameHead) error {
	e, err := r.rebuild(h, false)
	if err != nil {
		return err
	}
	st := p.l.streams[h.Incarnation]
	if st == nil || st.consumer(h.Consumer) == nil {
		return r.fatal()
	}
	if c := st.consumer(h.Consumer); e == nil && h.First < c.base {
		// It took keys of an epoch, nobody knows which: that matters only if the epoch has not ended in the end.
		for _, open := range c.epochs {
			if open.first() == h.First {
				open.unknown = true
			}
		}
		return nil
	}
	if e == nil {
		e = &manifestEvent{Head: ManifestHead{
			ID: ManifestID{1}, Incarnation: h.Incarnation, Consumer: h.Consumer, First: h.First, Next: h.next(),
			Epoch: st.consumer(h.Consumer).newest + 1, Version: st.cur.Version, Counts: Counts{OK: int64(h.Count)},
		}}
	}
	n := e.Head.Counts
	p.brought(st, h, n.OK+n.Dropped+n.Failed+e.Head.Lost)
	p.taken(e.Head.Incarnation, e.Head.Next)
	if err := p.l.apply(e); err != nil {
		return p.stop(s, int64(h.LSN-s.base), h, err.Error())
	}
	return nil
}

// rebuildReplace does the same for a damaged REPLACE. Without a pack it is not known which objects must not
// be sent again; that matters only if the old manifest has not ended in the end.
func (r *recovery) rebuildReplace(p *replayer, s *oldSegment, h *frameHead) error {
	e, err := r.rebuild(h, true)
	if err != nil {
		return err
	}
	if e == nil {
		r.unknown = append(r.unknown, *h)
		return nil
	}
	re := &replaceEvent{Manifest: e.Head.Replaces, New: e, Reason: "rebuilt from its pack"}
	for _, i := range e.Head.Replaced {
		re.Objects.add(i)
	}
	if m := p.l.manifests[re.Manifest]; m != nil {
		if e.Head.Replaced[len(e.Head.Replaced)-1] >= m.event.Objects {
			return p.stop(s, int64(h.LSN-s.base), h, "its pack speaks of objects that its manifest does not have")
		}
		public, err := r.readManifest(m)
		if err != nil {
			// Its packs are gone because it has ended since, or they are damaged too. What the new manifest
			// counts had been counted for the old one: as good, since errors are hardly ever replaced.
			n := e.Head.Counts
			re.Minus.OK = n.OK + n.Dropped + n.Failed
		} else {
			for _, i := range e.Head.Replaced {
				re.Minus.take(&public.Objects[i])
			}
		}
	}
	if err := p.l.apply(re); err != nil {
		return p.stop(s, int64(h.LSN-s.base), h, err.Error())
	}
	return nil
}

// rebuild finds the manifest that was sealed for the extent of a damaged frame, has its mark, and that no other frame
// names; nil where there is none. Several are a damage that nobody can resolve.
func (r *recovery) rebuild(h *frameHead, replaces bool) (*manifestEvent, error) {
	packs, err := r.allPacks()
	if err != nil {
		return nil, err
	}
	named, err := r.namedManifests()
	if err != nil {
		return nil, err
	}
	found := make(map[ManifestID][]*knownPack)
	var head ManifestHead
	for _, k := range packs {
		for i := range k.footer.Manifests {
			m := &k.footer.Manifests[i].ManifestHead
			if m.Incarnation == h.Incarnation && m.Consumer == h.Consumer && m.First == h.First && m.Next == h.next() &&
				(m.Replaces != ManifestID{}) == replaces && !named[m.ID] && (h.Arrived == 0 || h.Arrived == mark(m.ID)) {
				found[m.ID] = append(found[m.ID], k)
				head = *m
			}
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	if len(found) > 1 {
		return nil, r.fatal()
	}
	list := found[head.ID]
	slices.SortFunc(list, func(a, b *knownPack) int { return bytes.Compare(a.ref.ID[:], b.ref.ID[:]) })
	e := &manifestEvent{Head: head}
	var footers []*packFooter
	for _, k := range list {
		footers = append(footers, k.footer)
		e.Packs = append(e.Packs, k.ref)
	}
	m, err := joinFooters(head, footers)
	if err != nil {
		return nil, r.fatal()
	}
	e.Objects, e.Destinations = len(m.Objects), destinations(m.Objects)
	return e, nil
}

// namedManifests are the ids in all sound frames, and in the checkpoint.
func (r *recovery) namedManifests() (map[ManifestID]bool, error) {
	named := make(map[ManifestID]bool)
	for id := range r.l.manifests {
		named[id] = true
	}
	err := r.eachSound(func(_ *oldSegment, _ int64, h *frameHead, payload []byte) error {
		if h.Type != frameManifest && h.Type != frameReplace {
			return nil
		}
		_, e, err := decodeEvent(h, payload)
		if err != nil {
			return nil // replay stops at it
		}
		switch e := e.(type) {
		case *manifestEvent:
			named[e.Head.ID] = true
		case *replaceEvent:
			if e.New != nil {
				named[e.New.Head.ID] = true
			}
		}
		return nil
	})
	return named, err
}

// eachSound calls fn for every sound frame of the chain, stepping over damage.
func (r *recovery) eachSound(fn func(s *oldSegment, off int64, h *frameHead, payload []byte) error) error {
	for _, s := range r.chain {
		limit := s.end
		if s.last && s.tail > 0 {
			limit = s.tail
		}
		scan := r.scan(s.slot, s.base, limit)
		var h frameHead // one for all: fn gets its address
		for {
			off := scan.off
			var payload []byte
			var err error
			h, payload, err = scan.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if badFrame(err) {
				if err := scan.pass(h, err); err != nil {
					return err
				}
				continue
			}
			if err != nil {
				return err
			}
			if err := fn(s, off, &h, payload); err != nil {
				return err
			}
		}
	}
	return nil
}

// finishRebuild stops the start where a damaged REPLACE has left it open which objects may be sent.
func (r *recovery) finishRebuild() error {
	for _, h := range r.unknown {
		for _, m := range r.l.manifests {
			was := &m.event.Head
			if was.Incarnation == h.Incarnation && was.Consumer == h.Consumer && was.First == h.First && was.Next == h.next() {
				return r.fatal()
			}
		}
	}
	return nil
}

// readManifest collects the objects of a manifest from its packs and checks them against the frame.
func (r *recovery) readManifest(m *manifestState) (*Manifest, error) {
	var footers []*packFooter
	for _, ref := range m.event.Packs {
		k := r.pack(ref.ID)
		if k.err != nil {
			return nil, k.err
		}
		if k.ref != ref {
			return nil, &packDamage{Path: r.packPath(ref.ID), What: "it is not the pack that the manifest names"}
		}
		footers = append(footers, k.footer)
	}
	public, err := joinFooters(m.event.Head, footers)
	if err == nil && len(public.Objects) != m.event.Objects {
		err = fmt.Errorf("it has %d objects, its manifest %d", len(public.Objects), m.event.Objects)
	}
	if err != nil {
		return nil, &packDamage{Path: r.packPath(m.event.Packs[0].ID), What: err.Error()}
	}
	return public, nil
}

// judge reads the packs of all manifests that have not ended, and decides whether the start goes on.
// Nothing is changed on disk before it has.
func (r *recovery) judge() error {
	for _, m := range r.l.outstanding() {
		public, err := r.readManifest(m)
		if err == nil {
			m.public = public
			continue
		}
		if _, newer := errors.AsType[*NewerVersionError](err); newer {
			return err
		}
		if key, ok := errors.AsType[*KeyError](err); ok {
			return key
		}
		_, damaged := errors.AsType[*packDamage](err)
		missing := errors.Is(err, fs.ErrNotExist)
		if !damaged && !missing {
			return fmt.Errorf("read packs of manifest %x: %w", m.event.Head.ID, err)
		}
		if missing && r.forgiving {
			r.l.end(m) // its COMMIT was among the damaged frames
			continue
		}
		h := &m.event.Head
		r.damage = append(r.damage, Damage{
			File: r.packPath(m.event.Packs[0].ID), What: fmt.Sprintf("manifest %x: %v", h.ID, err),
			Incarnation: h.Incarnation, First: h.First, Next: h.Next,
		})
		r.missing = append(r.missing, lostObjects{manifest: m, cause: err.Error()})
		m.public = &Manifest{ManifestHead: *h, Objects: make([]ObjectInfo, m.event.Objects)}
	}
	r.l.retired = nil // their files are orphans and go with the others
	r.l.retiredRuns = nil
	if err := r.judgeRuns(); err != nil {
		return err
	}
	if err := r.findHoles(); err != nil {
		return err
	}
	if len(r.damage) == 0 {
		return nil
	}
	if r.policy == Stop {
		return r.fatal()
	}
	for _, d := range r.damage {
		r.b.log.Error("acknowledged bytes are damaged", "file", d.File, "offset", d.Offset, "bytes", d.Length, "what", d.What,
			"incarnation", d.Incarnation, "first", d.First, "next", d.Next)
	}
	return r.quarantine()
}

// quarantine copies every damaged file aside, whole: what cannot be read is never deleted.
func (r *recovery) quarantine() error {
	for s := range r.broken {
		name := r.quarantined(s)
		if err := r.keep(s.slot.file, s.size, name); err != nil {
			return err
		}
	}
	for i := range r.missing {
		m := &r.missing[i]
		for _, ref := range m.manifest.event.Packs {
			file, err := r.b.fs.OpenFile(r.packPath(ref.ID), fsys.ReadOnly)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("open damaged pack: %w", err)
			}
			size, err := file.Size()
			if err == nil {
				m.file = path.Join(quarantineDir, hex.EncodeToString(ref.ID[:])+packSuffix)
				err = r.keep(file, size, m.file)
			}
			file.Close()
			if err != nil {
				return err
			}
		}
	}
	return r.quarantineRuns()
}

// quarantined is the name under which a slot with damage is kept.
func (r *recovery) quarantined(s *oldSegment) string {
	return path.Join(quarantineDir, fmt.Sprintf("%s-segment-%d", path.Base(s.slot.name), s.number))
}

// keep copies a file under the data directory, unless an earlier start has.
func (r *recovery) keep(file fsys.File, size int64, name string) error {
	name = path.Join(r.b.dir, name)
	if f, err := r.b.fs.OpenFile(name, fsys.ReadOnly); err == nil {
		return f.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("copy damaged file: %w", err)
	}
	return makeFile(r.b.fs, name, func(f fsys.File) error {
		_, err := copyBytes(f, 0, file, size)
		return err
	})
}

// verdicts are the ledger frames that say what damage has taken: a HOLE for rows of which no copy is left
// and that somebody has not covered, a REPLACE for objects whose pack is gone.
func (r *recovery) verdicts() (ops []*op) {
	for _, h := range r.holes {
		for first := h.first; first < h.next; {
			next := min(h.next, first+1<<31)
			f := newLedgerFrame(&holeEvent{Incarnation: h.incarnation, First: first, Next: next, Cause: h.cause, File: r.quarantined(h.segment)},
				h.incarnation, 0, first, next)
			ops = append(ops, &op{prepare: func() ([]*ledgerFrame, error) { return []*ledgerFrame{f}, nil }})
			r.b.log.Error("rows are lost", "incarnation", h.incarnation, "first", first, "next", next, "cause", h.cause, "file", r.quarantined(h.segment))
			first = next
		}
	}
	for _, m := range r.missing {
		h := &m.manifest.event.Head
		e := &replaceEvent{Manifest: h.ID, Reason: cut(m.cause, 128), File: m.file}
		for i := range m.manifest.event.Objects {
			if !m.manifest.confirmed.has(i) && !m.manifest.replaced.has(i) {
				e.Objects.add(i)
			}
		}
		// How many records the missing objects held only the footer knew. Where some objects are known to
		// be delivered this counts too many as lost; too few it never counts.
		e.Minus = Counts{OK: h.Counts.OK, Failed: h.Counts.Failed}
		e.Lost = h.Counts.OK + h.Counts.Failed
		f := newLedgerFrame(e, h.Incarnation, h.Consumer, h.First, h.Next)
		ops = append(ops, &op{prepare: func() ([]*ledgerFrame, error) { return []*ledgerFrame{f}, nil }})
		r.b.log.Error("objects are lost", "manifest", hex.EncodeToString(h.ID[:]), "objects", e.Objects.n, "cause", m.cause)
	}
	return ops
}

// findHoles works out which of the lost ranges are lost for good: those that some consumer has not covered
// and of which no sound frame is left.
func (r *recovery) findHoles() error {
	if len(r.lost) == 0 {
		return nil
	}
	type rangeOf struct {
		lostRange
		left []span
	}
	var open []*rangeOf
	for _, x := range r.lost {
		st := r.l.streams[x.incarnation]
		if st == nil {
			continue
		}
		var left []span
		for _, c := range st.consumers {
			left = append(left, c.uncovered(x.first, x.next)...)
		}
		open = append(open, &rangeOf{x, union(left)})
	}
	err := r.eachSound(func(_ *oldSegment, _ int64, h *frameHead, _ []byte) error {
		if h.Type == frameData {
			for _, x := range open {
				if x.incarnation == h.Incarnation {
					x.left = subtract(x.left, span{h.First, h.next()})
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, x := range open {
		for _, s := range x.left {
			r.holes = append(r.holes, lostRange{x.incarnation, s.first, s.next, x.segment, x.cause})
		}
	}
	return nil
}

// union sorts spans and joins those that touch.
func union(spans []span) (joined []span) {
	slices.SortFunc(spans, func(a, b span) int {
		switch {
		case a.first < b.first:
			return -1
		case a.first > b.first:
			return 1
		}
		return 0
	})
	for _, s := range spans {
		if n := len(joined); n > 0 && joined[n-1].next >= s.first {
			joined[n-1].next = max(joined[n-1].next, s.next)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// subtract takes x out of spans.
func subtract(spans []span, x span) (left []span) {
	for _, s := range spans {
		if x.next <= s.first || s.next <= x.first {
			left = append(left, s)
			continue
		}
		if s.first < x.first {
			left = append(left, span{s.first, x.first})
		}
		if x.next < s.next {
			left = append(left, span{x.next, s.next})
		}
	}
	return left
}
