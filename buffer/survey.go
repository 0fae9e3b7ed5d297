package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"hydrant/buffer/fsys"
)

// directory makes the data directory and its folders, locks it, and reads or writes IDENT.
func (r *recovery) directory(o Options) error {
	b := r.b
	above := b.above()
	for _, d := range []string{b.dir, path.Join(b.dir, journalDir), path.Join(b.dir, packsDir), path.Join(b.dir, runsDir), path.Join(b.dir, quarantineDir)} {
		if err := b.fs.Mkdir(d); err != nil {
			return fmt.Errorf("create directory: %w", err)
		}
	}
	lock, err := b.fs.Lock(path.Join(b.dir, "LOCK"))
	if errors.Is(err, fsys.ErrLocked) {
		return ErrLocked
	}
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	b.lock = lock
	for _, d := range append(above, ancestor{path.Dir(b.dir), true}, ancestor{b.dir, true}) {
		if err := b.fs.SyncDir(d.dir); err != nil && d.ours {
			return fmt.Errorf("sync directory %q: %w", d.dir, err)
		}
	}
	space, err := b.fs.Statfs(b.dir)
	if err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	geo := o.geometry
	if geo.slot == 0 {
		geo = ringGeometry(min(o.Disk, space.Total), space.Free)
	}
	id, err := readIdent(b.fs, b.dir)
	if errors.Is(err, fs.ErrNotExist) {
		id, err = r.newIdent(geo)
	}
	if err != nil {
		return err
	}
	if id.Slot != geo.slot { // made under other limits: the slots keep their size
		ring := int64(geo.limit) * geo.slot
		geo.limit = max(4, int(ring/id.Slot))
		geo.first = min(geo.first, geo.limit)
		geo.slot = id.Slot
	}
	if b.keys, err = newKeyring(id.Directory, o.Key, o.PreviousKeys, b.rand); err != nil {
		return err
	}
	b.journal = &journal{fs: b.fs, dir: b.dir, log: b.log, id: id, geo: geo, seal: b.keys.seal, prepare: newGate()}
	r.j = b.journal
	b.calls = newCalls(b.fs, path.Join(b.dir, journalDir), id.Directory, b.log)
	return nil
}

// ancestor is a directory above the data directory's parent.
type ancestor struct {
	dir  string
	ours bool // a name in it is made by this start
}

// above are the directories in which a first start creates names beside the data directory's own, outermost first:
// nothing would be found again if one of these were lost. An earlier start may have created them that did not get
// as far as IDENT, so until that is there all are synced, as far as they can be.
func (b *Buffer) above() (list []ancestor) {
	if _, err := readIdent(b.fs, b.dir); !errors.Is(err, fs.ErrNotExist) {
		return nil // whatever is wrong with it, it was there
	}
	for d := path.Dir(b.dir); d != path.Dir(d); d = path.Dir(d) {
		_, err := b.fs.ReadDir(d)
		list = append(list, ancestor{path.Dir(d), errors.Is(err, fs.ErrNotExist)})
	}
	slices.Reverse(list)
	return list
}

// newIdent draws what a data directory keeps for life. There must be no journal yet.
func (r *recovery) newIdent(geo geometry) (ident, error) {
	b := r.b
	entries, err := b.fs.ReadDir(path.Join(b.dir, journalDir))
	if err != nil {
		return ident{}, fmt.Errorf("list journal: %w", err)
	}
	for _, e := range entries {
		if _, ok := parseSlotName(e.Name); ok {
			return ident{}, &DamageError{Items: []Damage{{File: path.Join(b.dir, identName), What: "it is missing, but there is a journal"}}}
		}
	}
	id := ident{Slot: geo.slot}
	var salt [4]byte
	_, err = io.ReadFull(b.rand, id.Directory[:])
	if err == nil {
		_, err = io.ReadFull(b.rand, salt[:])
	}
	if err != nil {
		return ident{}, fmt.Errorf("draw an id: %w", err)
	}
	id.Salt = binary.LittleEndian.Uint32(salt[:])
	if err := writeFile(b.fs, path.Join(b.dir, identName), id.encode()); err != nil {
		return ident{}, err
	}
	return id, nil
}

// survey opens all slots and finds the chain of segments.
func (r *recovery) survey() error {
	b, j := r.b, r.j
	dir := path.Join(b.dir, journalDir)
	entries, err := b.fs.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list journal: %w", err)
	}
	slices.SortFunc(entries, func(x, y fsys.Entry) int {
		if x.Name < y.Name {
			return -1
		}
		return 1
	})
	for _, e := range entries {
		if n, ok := parseIDsName(e.Name); ok {
			r.sides = append(r.sides, n)
			continue
		}
		index, ok := parseSlotName(e.Name)
		if !ok {
			if path.Ext(e.Name) == tmpSuffix {
				r.leftovers = append(r.leftovers, path.Join(dir, e.Name))
			}
			continue
		}
		s, err := r.readSlot(index)
		if err != nil {
			return err
		}
		j.nextIndex = max(j.nextIndex, index)
		if s != nil {
			r.slots = append(r.slots, s)
			j.slots++
		}
	}
	var top *foundSlot
	for _, s := range r.slots {
		j.born = max(j.born, s.head.Start)
		if s.valid {
			r.base = max(r.base, s.head.Base+uint64(j.geo.slot))
			if top == nil || s.head.Segment > top.head.Segment {
				top = s
			}
		}
	}
	j.born++
	for _, s := range r.slots {
		if !s.valid {
			if err := r.inspectFree(s, top); err != nil {
				return err
			}
		}
	}
	if top == nil {
		return nil
	}
	if err := r.follow(top); err != nil {
		return err
	}
	return r.unlock()
}

// unlock finds the data keys of the segments.
func (r *recovery) unlock() error {
	for _, s := range r.chain {
		key, err := r.b.keys.open(s.head.Key, s.slot.name)
		if errors.Is(err, errWrapped) {
			return &DamageError{Items: []Damage{{File: s.slot.name, Length: blockSize, What: err.Error()}}}
		}
		if err != nil {
			return err
		}
		s.slot.key = key
	}
	return nil
}

// readSlot opens a slot and reads its headers; nil where a crash left an unfinished file, which is removed
// later.
func (r *recovery) readSlot(index int) (*foundSlot, error) {
	b, j := r.b, r.j
	name := slotName(b.dir, index)
	f, err := b.fs.OpenFile(name, fsys.ReadWrite)
	if err != nil {
		return nil, fmt.Errorf("open slot: %w", err)
	}
	s := &foundSlot{slot: &slot{index: index, name: name, file: f}, blank: true}
	if s.size, err = f.Size(); err != nil {
		f.Close()
		return nil, fmt.Errorf("size of slot %q: %w", name, err)
	}
	for _, off := range []int64{0, j.geo.framesEnd()} {
		block := make([]byte, blockSize)
		if n, err := f.ReadAt(block, off); n < len(block) && err != nil && !errors.Is(err, io.EOF) {
			f.Close()
			return nil, fmt.Errorf("read header of slot %q: %w", name, err)
		}
		h, err := parseSlotHead(block)
		if newer, ok := errors.AsType[*NewerVersionError](err); ok {
			f.Close()
			newer.Path = name
			return nil, newer
		}
		if err != nil {
			s.blank = s.blank && allZero(block)
			continue
		}
		if h.Directory != j.id.Directory || h.Size != j.geo.slot || h.Salt != j.id.Salt {
			f.Close()
			return nil, &DamageError{Items: []Damage{{File: name, Length: blockSize, What: "the slot belongs to another data directory"}}}
		}
		s.blank = false
		if !s.valid || h.Segment > s.head.Segment {
			s.valid, s.head = true, h
		}
	}
	if !s.valid && s.size != j.geo.slot {
		f.Close()
		r.leftovers = append(r.leftovers, name)
		return nil, nil
	}
	s.slot.bad = s.size != j.geo.slot
	return s, nil
}

// inspectFree looks into a slot without a header. It is free, unless it holds frames that only an opened
// slot can have, which is damage that nothing can be done about.
func (r *recovery) inspectFree(s *foundSlot, top *foundSlot) error {
	scan := r.scan(s.slot, 0, r.j.geo.slot)
	for off := int64(blockSize); off < r.j.geo.framesEnd(); off += blockSize {
		b, err := scan.window(off, frameHeader)
		if err != nil {
			return err
		}
		h, err := parseFrameHead(b, r.j.id.Salt)
		if err != nil || h.LSN < uint64(off) {
			continue
		}
		base := h.LSN - uint64(off)
		r.base = max(r.base, base+uint64(r.j.geo.slot))
		newer := top == nil || base > top.head.Base
		if newer && !h.opening() {
			return &DamageError{Items: []Damage{{File: s.slot.name, Length: blockSize, What: "both headers are gone from the newest slot of the journal"}}}
		}
	}
	return nil
}

// follow walks from the newest segment to the oldest that is still there.
func (r *recovery) follow(top *foundSlot) error {
	j := r.j
	byNumber := make(map[uint64]*foundSlot)
	for _, s := range r.slots {
		if s.valid {
			byNumber[s.head.Segment] = s
		}
	}
	end := j.geo.framesEnd()
	for at := top; at != nil; {
		at.used = true
		r.chain = append(r.chain, &oldSegment{
			segment: &segment{slot: at.slot, number: at.head.Segment, base: at.head.Base, end: end},
			head:    at.head, last: at == top, size: at.size,
		})
		if at.head.Prev == 0 {
			break
		}
		prev := byNumber[at.head.Prev]
		if prev == nil {
			if err := r.lostHeaders(at); err != nil {
				return err
			}
			break
		}
		if at.head.PrevEnd < prev.head.Base+blockSize || at.head.PrevEnd > prev.head.Base+uint64(j.geo.framesEnd()) {
			return &DamageError{Items: []Damage{{File: at.slot.name, Length: blockSize, What: fmt.Sprintf(
				"segment %d says that segment %d ends at %d, which is not in it", at.head.Segment, prev.head.Segment, at.head.PrevEnd)}}}
		}
		end = int64(at.head.PrevEnd - prev.head.Base)
		at = prev
	}
	slices.Reverse(r.chain)
	return nil
}

// lostHeaders tells a segment whose slot was freed from one that has lost both headers: freeing leaves
// zeros.
func (r *recovery) lostHeaders(next *foundSlot) error {
	for _, s := range r.slots {
		if s.valid || s.blank {
			continue
		}
		scan := r.scan(s.slot, 0, r.j.geo.slot)
		for off := int64(blockSize); off < r.j.geo.framesEnd(); off += blockSize {
			b, err := scan.window(off, frameHeader)
			if err != nil {
				return err
			}
			h, err := parseFrameHead(b, r.j.id.Salt)
			if err != nil || h.LSN < uint64(off) || h.opening() {
				continue
			}
			if base := h.LSN - uint64(off); base < next.head.PrevEnd && next.head.PrevEnd <= base+uint64(r.j.geo.slot) {
				return &DamageError{Items: []Damage{{File: s.slot.name, Length: blockSize, What: fmt.Sprintf("both headers of segment %d are damaged", next.head.Prev)}}}
			}
		}
	}
	return nil
}

// scan reads frames of a slot.
func (r *recovery) scan(s *slot, base uint64, limit int64) *frameScan {
	return &frameScan{file: s.file, name: s.name, base: base, salt: r.j.id.Salt, key: s.key, off: blockSize, limit: limit, mended: r.mended[s]}
}
