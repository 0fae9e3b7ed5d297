package buffer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"hydrant/buffer/fsys"
)

// ManifestID names a manifest for ever.
type ManifestID [16]byte

// PackID names a pack file.
type PackID [16]byte

// Role of an object in its manifest.
type Role uint8

const (
	Data  Role = iota // goes to the destination
	Error             // goes to the error output
)

// ObjectHead is what delivery decides about an object before its bytes are written.
type ObjectHead struct {
	Key             string
	Role            Role
	Destination     string // id of the place: stream, role and kind; never bucket or endpoint
	ContentType     string
	ContentEncoding string
	SchemaVersion   string
	RequestID       string // HTTP destinations; else ""
	Refusal         Refusal
}

// Refusal is why an object stands in the place of another, which its destination had but would not take for good. The
// zero Refusal says nothing.
type Refusal struct {
	Code, Message string // printable ASCII, as delivery bounds it
	Attempts      int64  // that were refused
}

// ObjectInfo is an object of a sealed pack.
type ObjectInfo struct {
	ObjectHead
	Pack      PackID
	Offset    int64
	Size      int64
	SHA256    [32]byte
	CRC64NVME uint64
	Records   int64  // source records in it
	FirstSeq  uint64 // smallest sequence in it
	Oldest    int64  // arrival of its oldest record, µs
}

// Counts of a range, by what became of its rows.
type Counts struct{ OK, Dropped, Failed int64 }

// ManifestHead is what a MANIFEST frame and the footers of its packs both say.
type ManifestHead struct {
	ID          ManifestID
	Incarnation uint32
	Consumer    uint8
	Version     uint64 // config version that sealed it
	Epoch       uint64
	First, Next uint64     // range of sequences it takes, or of the runs that it takes rows of
	Source      Source     // where its rows were
	Lost        int64      // rows of a range that damage has taken, Claim.Lost: of no object, and not in Counts
	Replaces    ManifestID // zero, or the manifest whose objects these replace
	Replaced    []int      // with Replaces: the numbers of those objects, ascending; Seal and Replace want the same
	Counts      Counts
	Watermark   int64 // of the stream after a range, as in RunHead; no pack has it
}

// NewManifestID draws an id.
func (b *Buffer) NewManifestID() ManifestID {
	var id ManifestID
	if _, err := io.ReadFull(b.rand, id[:]); err != nil {
		panic("bug: the source of random numbers failed: " + err.Error())
	}
	return id
}

// Manifest is a durable decision whose objects have not all ended. Immutable but for what Pending reports.
type Manifest struct {
	ManifestHead
	Objects []ObjectInfo // index in this slice is the object's number
}

// ErrCrowded says that the stream's manifests that have not ended fill its share of the room that checkpoints
// have for them: what it has may not exceed what is still free, so that streams whose destinations are dead
// leave room to the others. Rows go on waiting; as soon as destinations take objects again there is room.
var ErrCrowded = errors.New("too many manifests have not ended")

// manifestRoom is how many bytes of a checkpoint, which has a quarter of a slot, are for manifests.
func manifestRoom(geo geometry) int64 { return geo.slot / 16 * 3 }

// Crowded tells whether the manifests that have not ended take more than a third of the room that the journal
// has for them, of which one stream may have half. From then on cuts should be made under Pressure only, and as
// large as they come.
func (b *Buffer) Crowded() bool {
	b.ledger.mu.RLock()
	defer b.ledger.mu.RUnlock()
	return b.ledger.weight-b.ledger.laneWeight > manifestRoom(b.journal.geo)/3
}

// Cut makes one MANIFEST over a claim, whose range must begin where the last cut of its consumer ended,
// and over the sealed packs with what became of its rows (h.First and h.Next are the claim's). On return
// it is durable, the claim is consumed and its rows are dead (I4). On error the claim is as before.
// packs may be empty where everything was dropped: then the manifest has ended already. Errors: ErrCrowded,
// ErrFailing, ErrClosed, or what does not fit together.
func (b *Buffer) Cut(claim *Claim, packs []*Pack, h ManifestHead) (*Manifest, error) {
	first, next := claim.Range()
	c := claim.c
	h.Incarnation, h.Consumer, h.Lost = c.stream.incarnation, c.id, claim.Lost()
	m, e, err := b.assemble(packs, h)
	if err == nil {
		err = claim.fault
	}
	if err == nil && h.Source.Kind != SourceRange {
		err = errors.New("it takes keys, not a range")
	}
	if err == nil && (h.First != first || h.Next != next || next-first > 1<<32-1) {
		err = fmt.Errorf("the manifest takes [%d, %d), the claim has [%d, %d)", h.First, h.Next, first, next)
	}
	if err == nil && h.Replaces != (ManifestID{}) {
		err = errors.New("a cut replaces nothing")
	}
	if err != nil {
		return nil, fmt.Errorf("cut manifest %x: %w", h.ID, err)
	}
	CrashPoint("pack-sealed")
	o := &op{keys: [2]any{consumerKey{h.Incarnation, h.Consumer}, h.ID}}
	o.prepare = func() ([]*ledgerFrame, error) {
		if !claim.isOldest() {
			return nil, errors.New("the claim does not begin where the last cut ended")
		}
		b.ledger.mu.RLock()
		defer b.ledger.mu.RUnlock()
		s := b.ledger.streams[h.Incarnation]
		if s == nil {
			return nil, errors.New("the stream is gone")
		}
		b.sameBase(s, claim)
		if b.ledger.manifests[h.ID] != nil {
			return nil, errors.New("there is such a manifest")
		}
		if s.weight > manifestRoom(b.journal.geo)-b.ledger.weight {
			return nil, ErrCrowded
		}
		e.Lanes = b.laneMarks(s, h.Incarnation, next)
		return []*ledgerFrame{newLedgerFrame(e, h.Incarnation, h.Consumer, first, next)}, nil
	}
	o.applied = func() {
		claim.consumed()
		b.front.final(h.Incarnation, next)
		b.named(m, packs)
	}
	if err := b.write(o, packs); err != nil {
		return nil, fmt.Errorf("cut manifest %x: %w", h.ID, err)
	}
	CrashPoint("manifest-durable")
	return m, nil
}

// named takes the packs of a manifest whose frame is durable over from whoever sealed them. The caller
// holds ledger.mu.
func (b *Buffer) named(m *Manifest, packs []*Pack) {
	b.packs.named(packs, m.Incarnation)
	if state := b.ledger.manifests[m.ID]; state != nil {
		state.public = m
		return
	}
	for _, p := range packs { // it has no objects and has ended
		b.ledger.retired = append(b.ledger.retired, p.ref().ID)
	}
}

// write makes an op durable whose frame names packs. Their files stay from now on, unless it is certain
// that no frame with them reached the disk.
func (b *Buffer) write(o *op, packs []*Pack) error {
	b.packs.keep(packs)
	err, built := b.do(o, func() { b.packs.doubt(packs) })
	if err != nil && !built {
		b.packs.unkeep(packs)
	}
	return err
}

// do runs an op, with failed for when its group could not be stored, and tells whether it got into a group.
func (b *Buffer) do(o *op, failed func()) (err error, built bool) {
	prepare := o.prepare
	o.prepare = func() ([]*ledgerFrame, error) {
		frames, err := prepare()
		built = err == nil
		return frames, err
	}
	o.failed = failed
	err = b.committer.do(o)
	return err, built
}

// assemble puts the objects of sealed packs together, in the order of the packs' ids: that is the order in
// which they can be put together again from the files alone.
func (b *Buffer) assemble(packs []*Pack, h ManifestHead) (*Manifest, *manifestEvent, error) {
	if h.ID == (ManifestID{}) {
		return nil, nil, errors.New("the manifest has no id")
	}
	if len(packs) > maxPacks {
		return nil, nil, fmt.Errorf("%d packs are more than %d", len(packs), maxPacks)
	}
	sorted := slices.Clone(packs)
	slices.SortFunc(sorted, func(p, q *Pack) int { x, y := p.ID(), q.ID(); return bytes.Compare(x[:], y[:]) })
	var footers []*packFooter
	var refs []packRef
	for i, p := range sorted {
		if !p.sealed() {
			return nil, nil, fmt.Errorf("pack %x is not sealed", p.ID())
		}
		if i > 0 && p == sorted[i-1] {
			return nil, nil, fmt.Errorf("pack %x is there twice", p.ID())
		}
		footers = append(footers, p.footer())
		refs = append(refs, p.ref())
	}
	m, err := joinFooters(h, footers)
	if err != nil {
		return nil, nil, err
	}
	return m, &manifestEvent{Head: m.ManifestHead, Objects: len(m.Objects), Destinations: destinations(m.Objects), Packs: refs}, nil
}

// joinFooters collects the objects of one manifest from the footers of its packs, in their order.
func joinFooters(h ManifestHead, footers []*packFooter) (*Manifest, error) {
	m := &Manifest{ManifestHead: h}
	for _, f := range footers {
		found := false
		for i := range f.Manifests {
			p := &f.Manifests[i]
			if p.ID != h.ID {
				continue
			}
			found = true
			if p.Incarnation != h.Incarnation || p.Consumer != h.Consumer || p.First != h.First || p.Next != h.Next ||
				p.Replaces != h.Replaces || p.Version != h.Version || p.Epoch != h.Epoch || p.Counts != h.Counts || !p.Source.equal(h.Source) {
				return nil, fmt.Errorf("pack %x was sealed for another manifest head: %+v, not %+v", f.ID, p.ManifestHead, h)
			}
			if len(h.Replaced) == 0 {
				m.Replaced = p.Replaced
			} else if !slices.Equal(h.Replaced, p.Replaced) {
				return nil, fmt.Errorf("pack %x was sealed for objects %v, not %v", f.ID, p.Replaced, h.Replaced)
			}
			m.Objects = append(m.Objects, f.Objects[p.FirstObject:p.FirstObject+p.Count]...)
		}
		if !found {
			return nil, fmt.Errorf("pack %x was not sealed for this manifest", f.ID)
		}
	}
	if len(m.Objects) > maxObjects {
		return nil, fmt.Errorf("%d objects are more than %d", len(m.Objects), maxObjects)
	}
	return m, nil
}

// destinations are the places that objects go to, each once, as many as a frame lists.
func destinations(objects []ObjectInfo) (list []string) {
	for i := range objects {
		if d := cut(objects[i].Destination, 1024); !slices.Contains(list, d) && len(list) < maxDestinations {
			list = append(list, d)
		}
	}
	return list
}

// Pending returns the numbers of the objects of m that are neither confirmed nor replaced.
func (b *Buffer) Pending(m ManifestID) []int {
	b.ledger.mu.RLock()
	defer b.ledger.mu.RUnlock()
	if state := b.ledger.manifests[m]; state != nil {
		return state.pending()
	}
	return nil
}

// Confirm notes that these objects are in their destination. It goes into a PROGRESS frame with the next
// group, at most 100 ms later; when it was the last, COMMIT follows and the packs are removed after it is
// durable. It does not wait.
func (b *Buffer) Confirm(m ManifestID, objects ...int) {
	if b.ledger.note(m, objects) > 0 {
		b.committer.confirmLater()
	}
}

// Replace changes the mind about some objects of m, once and for ever: they are never sent again; the
// objects of packs, a manifest like any other under h (whose Replaces is m), take their place. Durable
// on return. Where the journal fails while it writes the REPLACE, Replace waits until it can be written again:
// a crash may find it or not, so until then neither the old objects nor the new ones may be sent, and the
// old ones are not Pending. h has the range, stream and consumer of m. Errors: ErrUnknownManifest, ErrFailing, ErrClosed,
// or what does not fit together.
func (b *Buffer) Replace(m ManifestID, objects []int, packs []*Pack, h ManifestHead, reason string) (*Manifest, error) {
	numbers, err := b.distinct(objects)
	if err == nil && len(packs) == 0 {
		err = errors.New("nothing is to take their place")
	}
	var made *Manifest
	var e *manifestEvent
	if err == nil {
		h.Replaces, h.Replaced = m, numbers
		made, e, err = b.assemble(packs, h)
	}
	if err != nil {
		return nil, fmt.Errorf("replace objects of manifest %x: %w", m, err)
	}
	CrashPoint("replacement-sealed")
	o := &op{keys: [2]any{m, h.ID}}
	o.prepare = func() ([]*ledgerFrame, error) {
		b.ledger.mu.RLock()
		defer b.ledger.mu.RUnlock()
		old, minus, err := b.replaceable(m, numbers)
		if err != nil {
			return nil, err
		}
		was := &old.event.Head
		if h.Incarnation != was.Incarnation || h.Consumer != was.Consumer || h.First != was.First || h.Next != was.Next {
			return nil, fmt.Errorf("the new manifest speaks of other rows: %+v, not %+v", h, *was)
		}
		if b.ledger.manifests[h.ID] != nil {
			return nil, errors.New("there is such a manifest")
		}
		r := &replaceEvent{Manifest: m, Minus: minus, Reason: cut(reason, 128), New: e}
		for _, i := range numbers {
			r.Objects.add(i)
		}
		return []*ledgerFrame{newLedgerFrame(r, was.Incarnation, was.Consumer, was.First, was.Next)}, nil
	}
	o.applied = func() { b.named(made, packs) }
	o.lasting = true
	o.doubt = func() { b.doubt(m, numbers, true) }
	err = b.write(o, packs)
	if !errors.Is(err, ErrClosed) {
		b.doubt(m, numbers, false)
	}
	if err != nil {
		return nil, fmt.Errorf("replace objects of manifest %x: %w", m, err)
	}
	CrashPoint("replace-durable")
	return made, nil
}

// doubt takes objects off those that may be sent while nobody knows whether their REPLACE is durable, or puts
// them back.
func (b *Buffer) doubt(m ManifestID, numbers []int, on bool) {
	b.ledger.mu.Lock()
	defer b.ledger.mu.Unlock()
	state := b.ledger.manifests[m]
	if state == nil {
		return
	}
	if on {
		for _, i := range numbers {
			state.doubtful.add(i)
		}
		return
	}
	var left objectSet // of other calls, whose REPLACE is in doubt too
	for i := range state.doubtful.all() {
		if !slices.Contains(numbers, i) {
			left.add(i)
		}
	}
	state.doubtful = left
}

// distinct returns object numbers in order, each once.
func (b *Buffer) distinct(objects []int) ([]int, error) {
	numbers := slices.Clone(objects)
	slices.Sort(numbers)
	if len(numbers) == 0 || numbers[0] < 0 || len(slices.Compact(slices.Clone(numbers))) != len(numbers) {
		return nil, fmt.Errorf("objects %v: none, or one twice", objects)
	}
	return numbers, nil
}

// replaceable checks that objects of a manifest may still be given up, and returns what it had counted for
// them. The caller holds ledger.mu.
func (b *Buffer) replaceable(id ManifestID, numbers []int) (m *manifestState, minus Counts, err error) {
	m = b.ledger.manifests[id]
	if m == nil {
		return nil, minus, ErrUnknownManifest
	}
	for _, i := range numbers {
		switch {
		case i >= m.event.Objects:
			return nil, minus, fmt.Errorf("there is no object %d", i)
		case m.replaced.has(i):
			return nil, minus, fmt.Errorf("object %d has been replaced", i)
		case m.confirmed.has(i) || m.noted.has(i) || m.flying.has(i):
			return nil, minus, fmt.Errorf("object %d has been delivered", i)
		}
		minus.take(&m.public.Objects[i])
	}
	return m, minus, nil
}

// take adds an object's records.
func (n *Counts) take(o *ObjectInfo) {
	if o.Role == Error {
		n.Failed += o.Records
	} else {
		n.OK += o.Records
	}
}

// SetAside ends objects whose bytes no longer match their hash: what can be read goes to quarantine/ (of
// encrypted packs all, as it is), their records are counted as lost, and the REPLACE frame names the file. Durable on return. Errors as
// those of Replace, and the file system's.
func (b *Buffer) SetAside(m ManifestID, objects []int, reason string) (file string, err error) {
	numbers, err := b.distinct(objects)
	var public *Manifest
	if err == nil {
		b.ledger.mu.RLock()
		var state *manifestState
		if state, _, err = b.replaceable(m, numbers); err == nil {
			public = state.public
		}
		b.ledger.mu.RUnlock()
	}
	if err != nil {
		return "", fmt.Errorf("set objects of manifest %x aside: %w", m, err)
	}
	if b.packs.encrypted(public.Objects[numbers[0]].Pack) {
		file, err = b.copyPacks(public, numbers)
	} else {
		file = path.Join(quarantineDir, fmt.Sprintf("%s-%d.objects", hex.EncodeToString(m[:]), numbers[0]))
		err = b.copyObjects(file, public, numbers)
	}
	if err != nil {
		return "", fmt.Errorf("set objects of manifest %x aside: %w", m, err)
	}
	err = b.endUnsent(m, numbers, func(minus Counts) *replaceEvent {
		return &replaceEvent{Reason: cut(reason, 128), File: file, Lost: minus.OK + minus.Failed}
	})
	if err != nil {
		return "", fmt.Errorf("set objects of manifest %x aside: %w", m, err)
	}
	b.log.Error("objects that are damaged on disk were set aside; their records are lost", "manifest", hex.EncodeToString(m[:]), "objects", len(numbers), "file", file, "reason", reason)
	return file, nil
}

// endUnsent makes a REPLACE durable with which nothing takes the place of objects of m. event says what becomes of
// their records, of which the manifest had counted minus.
func (b *Buffer) endUnsent(m ManifestID, numbers []int, event func(minus Counts) *replaceEvent) error {
	o := &op{keys: [2]any{m, nil}}
	o.prepare = func() ([]*ledgerFrame, error) {
		b.ledger.mu.RLock()
		defer b.ledger.mu.RUnlock()
		old, minus, err := b.replaceable(m, numbers)
		if err != nil {
			return nil, err
		}
		r := event(minus)
		r.Manifest, r.Minus = m, minus
		for _, i := range numbers {
			r.Objects.add(i)
		}
		was := &old.event.Head
		return []*ledgerFrame{newLedgerFrame(r, was.Incarnation, was.Consumer, was.First, was.Next)}, nil
	}
	return b.committer.do(o)
}

// copyPacks copies the packs that hold objects as they are, since what was encrypted is not to lie about in
// clear, and returns the name of the first.
func (b *Buffer) copyPacks(m *Manifest, numbers []int) (first string, err error) {
	var last PackID
	for _, i := range numbers {
		id := m.Objects[i].Pack
		if id == last {
			continue // objects of a pack are neighbours
		}
		last = id
		name := path.Join(quarantineDir, hex.EncodeToString(id[:])+packSuffix)
		if first == "" {
			first = name
		}
		err := makeFile(b.fs, path.Join(b.dir, name), func(f fsys.File) error {
			pack, err := b.fs.OpenFile(b.packs.path(id), fsys.ReadOnly)
			if err != nil {
				b.log.Error("nothing can be read of a pack that is set aside", "pack", name, "err", err)
				return nil
			}
			defer pack.Close()
			size, err := pack.Size()
			if err != nil {
				return err
			}
			n, err := copyBytes(f, 0, pack, size)
			if err == nil && n < size {
				b.log.Error("a pack that is set aside can be read in part only", "pack", name, "bytes", n, "of", size)
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return first, nil
}

// copyObjects writes the bytes of objects, as far as they can be read, one after another into a file under
// the data directory.
func (b *Buffer) copyObjects(file string, m *Manifest, numbers []int) error {
	return makeFile(b.fs, path.Join(b.dir, file), func(f fsys.File) error {
		var off int64
		for _, i := range numbers {
			o := &m.Objects[i]
			r, err := b.packs.open(*o)
			if err != nil {
				b.log.Error("nothing can be read of an object that is set aside", "key", o.Key, "err", err)
				continue
			}
			n, err := copyBytes(f, off, r, o.Size)
			r.Close()
			if err != nil {
				return err
			}
			if n < o.Size {
				b.log.Error("an object that is set aside can be read in part only", "key", o.Key, "bytes", n, "of", o.Size)
			}
			off += n
		}
		return nil
	})
}

// Outstanding returns the manifests that have not ended, oldest first: at start what recovery found, in
// steady state the same list.
func (b *Buffer) Outstanding() []*Manifest {
	b.ledger.mu.RLock()
	defer b.ledger.mu.RUnlock()
	var list []*Manifest
	for _, m := range b.ledger.outstanding() {
		list = append(list, m.public)
	}
	return list
}

// OpenObject reads an object's bytes. Close it; the pack file stays until then.
func (b *Buffer) OpenObject(m *Manifest, object int) (interface {
	io.ReaderAt
	io.Closer
}, error) {
	if object < 0 || object >= len(m.Objects) {
		return nil, fmt.Errorf("manifest %x has no object %d", m.ID, object)
	}
	return b.packs.open(m.Objects[object])
}

// totals counts what became of a consumer's records; waiting is what the front and raw runs have of them.
func (b *Buffer) totals(incarnation uint32, consumer uint8, waiting func() int64) (t Totals) {
	b.ledger.mu.RLock()
	defer b.ledger.mu.RUnlock()
	s := b.ledger.streams[incarnation]
	if s == nil {
		return t
	}
	c := s.consumer(consumer)
	if c == nil {
		return t // it had an end
	}
	return Totals{
		Accepted: c.accepted(s), OK: c.counts.OK, Dropped: c.counts.Dropped, Failed: c.counts.Failed, Lost: c.lost,
		Waiting: waiting() + c.routed(),
	}
}

// newEpoch draws the number of the epoch that a consumer's next cut closes.
func (b *Buffer) newEpoch(incarnation uint32, consumer uint8) uint64 {
	b.ledger.mu.Lock()
	defer b.ledger.mu.Unlock()
	s := b.ledger.streams[incarnation]
	if s == nil {
		return 0
	}
	c := s.consumer(consumer)
	if c == nil {
		return 0
	}
	c.drawn++
	return c.drawn
}
