package buffer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"syscall"

	"github.com/minio/crc64nvme"

	"hydrant/buffer/fsys"
)

// ErrNoSpace says that neither limits.disk nor the file system has room for more pack bytes now.
var ErrNoSpace = errors.New("no space left for packs")

// packBuffer is how much of a pack is gathered before it is written.
const packBuffer = 1 << 20

// Pack is a file of finished object bytes in the making. One goroutine writes it.
type Pack struct {
	store *packStore
	id    PackID
	file  fsys.File // nil once sealed or aborted
	crypt *sealer   // nil: it is written in clear
	state packState
	fault error // what ended writing; only Drop (of ErrNoSpace) and Abort help

	buf    []byte // not written yet
	off    int64  // of buf[0] in the pack's clear bytes
	high   int64  // the file is this long: a dropped object may have reached further than what follows
	hashed int    // so much of buf is in the hashes, or belongs to no object

	objects []ObjectInfo
	begun   bool // the last object has not ended
	sha     hash.Hash
	crc     hash.Hash64
	foot    *packFooter
	sum     packRef

	counted  int64 // bytes that stand in the disk ledger
	lent     int64 // of the ballast, that this pack may take instead
	borrowed int64 // of it, that it has taken

	// Guarded by store.mu.
	kept     bool // a frame that is being written names the file
	doubtful bool // a frame that could not be stored names it, and a crash may find that frame
	orphan   bool // it was aborted meanwhile
}

type packState uint8

const (
	packOpen packState = iota
	packSealed
	packAborted
)

// NewPack starts a pack file. It is an orphan, removed at the next start, until a Cut or Replace names it.
func (b *Buffer) NewPack() (*Pack, error) { return b.packs.create() }

// ID of the pack.
func (p *Pack) ID() PackID { return p.id }

// Begin starts an object; the one before must have ended. Errors of the writer and of Begin may be
// ErrNoSpace: then Abort, or Drop the object begun last and Seal what is before it.
func (p *Pack) Begin(h ObjectHead) (io.Writer, error) {
	switch {
	case p.state != packOpen:
		return nil, errors.New("begin an object in a pack that is sealed or aborted")
	case p.begun:
		return nil, errors.New("begin an object before the last one has ended")
	case p.fault != nil:
		return nil, p.fault
	}
	if err := checkHead(h); err != nil {
		return nil, err
	}
	if len(p.objects) == maxPackObjects {
		return nil, fmt.Errorf("pack holds %d objects already", maxPackObjects)
	}
	p.objects = append(p.objects, ObjectInfo{ObjectHead: h, Pack: p.id, Offset: p.Size()})
	p.begun, p.hashed = true, len(p.buf)
	p.sha.Reset()
	p.crc.Reset()
	return &objectWriter{p: p, n: len(p.objects)}, nil
}

// objectWriter writes the n-th object of a pack.
type objectWriter struct {
	p *Pack
	n int
}

func (w *objectWriter) Write(b []byte) (int, error) {
	p := w.p
	if p.state != packOpen || !p.begun || w.n != len(p.objects) {
		return 0, errors.New("write to an object that has ended")
	}
	return p.write(b)
}

// write appends to the file. It may succeed for less than all of b, with an error.
func (p *Pack) write(b []byte) (n int, err error) {
	if p.fault != nil {
		return 0, p.fault
	}
	for len(b) > 0 {
		if len(p.buf) == cap(p.buf) {
			if err := p.flush(); err != nil {
				return n, err
			}
		}
		w := min(len(b), cap(p.buf)-len(p.buf))
		p.buf = append(p.buf, b[:w]...)
		b = b[w:]
		n += w
	}
	return n, nil
}

// digest brings the hashes of the object begun last up to date.
func (p *Pack) digest() {
	if p.begun {
		p.sha.Write(p.buf[p.hashed:])
		p.crc.Write(p.buf[p.hashed:])
	}
	p.hashed = len(p.buf)
}

// flush writes what was gathered.
func (p *Pack) flush() error {
	p.digest()
	if len(p.buf) == 0 {
		return nil
	}
	end := p.place(p.Size())
	if err := p.charge(end); err != nil {
		p.fault = err
		return err
	}
	out, at := p.buf, p.off
	if p.crypt != nil {
		sealed := p.store.getSealed()
		defer p.store.putSealed(sealed)
		if at = p.place(p.off); p.off == packHeaderSize {
			sealed, at = append(sealed, packHeader(p.store.o.Directory, p.id, p.crypt.header())...), 0
		}
		out = p.crypt.sealBlocks(sealed, p.buf, p.id, p.off)
	}
	_, err := p.file.WriteAt(out, at)
	if isFull(err) && p.borrow() {
		_, err = p.file.WriteAt(out, at)
	}
	p.high = max(p.high, end)
	if isFull(err) {
		p.fault = fmt.Errorf("write pack %q: %w: %w", p.store.path(p.id), ErrNoSpace, err)
		return p.fault
	}
	if err != nil {
		p.fault = fmt.Errorf("write pack %q: %w", p.store.path(p.id), err)
		return p.fault
	}
	p.off, p.buf, p.hashed = p.Size(), p.buf[:0], 0
	return nil
}

// place is where in the file a clear byte stands that begins a block, or the end of them all.
func (p *Pack) place(n int64) int64 {
	if p.crypt == nil {
		return n
	}
	return sealedLength(n)
}

// rewind makes clear byte pos, which was written or gathered, the next one.
func (p *Pack) rewind(pos int64) error {
	switch {
	case pos >= p.off:
		p.buf = p.buf[:pos-p.off]
	case p.crypt == nil:
		p.buf, p.off = p.buf[:0], pos
	default:
		// What stays of the block that pos is in will be sealed again, with what follows, under another nonce.
		block := (pos - packHeaderSize) / sealBlock
		stored := p.store.getSealed()
		defer p.store.putSealed(stored)
		clear, err := p.crypt.openBlock(p.file, p.id, block, p.off, stored[:sealBlock+sealOverhead])
		if err != nil {
			return fmt.Errorf("read pack %q again: %w", p.store.path(p.id), err)
		}
		p.off = packHeaderSize + block*sealBlock
		p.buf = append(p.buf[:0], clear[:pos-p.off]...)
	}
	p.hashed = len(p.buf)
	return nil
}

// isFull tells the errors of a full disk from others.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// charge puts the file's growth up to end into the disk ledger, or takes it from the ballast.
func (p *Pack) charge(end int64) error {
	n := end - p.counted - p.borrowed
	if n <= 0 {
		return nil
	}
	err := p.store.o.Space.packGrows(n)
	if err == nil {
		p.counted += n
		return nil
	}
	if p.lent == 0 {
		p.borrow()
	}
	fromBallast := min(n, p.lent-p.borrowed)
	if rest := n - fromBallast; rest > 0 {
		if err := p.store.o.Space.packGrows(rest); err != nil {
			return err
		}
		p.counted += rest
	}
	p.borrowed += fromBallast
	return nil
}

// borrow asks for the ballast, once.
func (p *Pack) borrow() bool {
	if p.lent > 0 {
		return false
	}
	p.lent = p.store.o.Space.lend()
	return p.lent > 0
}

// End ends the object begun last and fixes its counts. Every object is ended once.
func (p *Pack) End(records int64, firstSeq uint64, oldest int64) error {
	if p.state != packOpen || !p.begun {
		return errors.New("end an object that was not begun")
	}
	if p.fault != nil {
		return p.fault
	}
	p.digest()
	o := &p.objects[len(p.objects)-1]
	o.Size = p.Size() - o.Offset
	p.sha.Sum(o.SHA256[:0])
	o.CRC64NVME = p.crc.Sum64()
	o.Records, o.FirstSeq, o.Oldest = records, firstSeq, oldest
	p.begun = false
	return nil
}

// Drop forgets the object begun last, ended or not, and the fault that it met if that was ErrNoSpace.
func (p *Pack) Drop() error {
	if p.state != packOpen || len(p.objects) == 0 {
		return errors.New("drop an object of a pack that has none")
	}
	if p.fault != nil && !errors.Is(p.fault, ErrNoSpace) {
		return p.fault
	}
	p.fault = nil
	start := p.objects[len(p.objects)-1].Offset
	p.objects = p.objects[:len(p.objects)-1]
	p.begun = false
	p.fault = p.rewind(start)
	return p.fault
}

// Size is the bytes written so far.
func (p *Pack) Size() int64 { return p.off + int64(len(p.buf)) }

// Objects of the pack so far; those of a sealed pack are complete.
func (p *Pack) Objects() []ObjectInfo { return slices.Clone(p.objects) }

// Seal writes the footer for the manifest it will stand in and fsyncs file and directory (I5, I7). A
// sealed pack is immutable. After an error only Drop (of ErrNoSpace) and Abort help.
func (p *Pack) Seal(m ManifestHead) error {
	switch {
	case p.state != packOpen:
		return errors.New("seal a pack that is sealed or aborted")
	case p.begun:
		return errors.New("seal a pack whose last object has not ended")
	case len(p.objects) == 0:
		return errors.New("seal a pack without objects")
	case p.fault != nil:
		return p.fault
	}
	if err := checkManifestHead(m); err != nil {
		return err
	}
	m.Replaced = slices.Clone(m.Replaced)
	foot := &packFooter{
		ID:        p.id,
		Manifests: []packManifest{{ManifestHead: m, FirstObject: 0, Count: len(p.objects)}},
		Objects:   slices.Clone(p.objects),
	}
	body := p.Size()
	if err := p.seal(foot); err != nil {
		if p.fault != nil && !errors.Is(p.fault, ErrNoSpace) {
			return err
		}
		// back to where the footer began: without its last object the pack may still be sealed
		if again := p.rewind(body); again != nil {
			p.fault = again
			return again
		}
		return err
	}
	p.foot = foot
	p.state = packSealed
	p.store.putBuffer(p.buf)
	p.buf = nil
	return nil
}

func (p *Pack) seal(foot *packFooter) error {
	encoded := foot.encode()
	if len(encoded) > maxPackFooter {
		return fmt.Errorf("footer of pack %q has %d bytes, more than %d", p.store.path(p.id), len(encoded), maxPackFooter)
	}
	ref := packRef{ID: p.id, Footer: sha256.Sum256(encoded)}
	trailer := packTrailer{Version: packFormat(p.crypt.header()), Offset: p.Size(), Length: int64(len(encoded)), Footer: ref.Footer}
	if _, err := p.write(encoded); err != nil {
		return err
	}
	if _, err := p.write(trailer.encode()); err != nil {
		return err
	}
	if err := p.flush(); err != nil {
		return err
	}
	ref.Length = p.place(p.off)
	path := p.store.path(p.id)
	if p.high > ref.Length {
		if err := p.file.Truncate(ref.Length); err != nil {
			p.fault = fmt.Errorf("cut pack %q: %w", path, err)
			return p.fault
		}
		p.high = ref.Length
	}
	if !sabotagePackNoSync {
		if err := p.file.Datasync(); err != nil {
			p.fault = fmt.Errorf("sync pack %q: %w", path, err)
			return p.fault
		}
	}
	if sabotageKeyLater && p.crypt != nil {
		p.file.WriteAt(packHeader(p.store.o.Directory, p.id, p.crypt.wrapped), 0)
	}
	CrashPoint("pack-synced")
	err := p.file.Close()
	p.file = nil
	if err == nil && !sabotagePackNoDirSync {
		err = p.store.o.FS.SyncDir(p.store.o.Dir)
	}
	if err != nil {
		p.fault = fmt.Errorf("sync pack %q: %w", path, err)
		return p.fault
	}
	if over := p.counted + p.borrowed - ref.Length; over > 0 { // an object was dropped
		back := min(over, p.borrowed)
		p.borrowed -= back
		p.store.o.Space.packShrinks(over - back)
		p.counted -= over - back
	}
	p.sum = ref
	return nil
}

// checkManifestHead refuses what could not be found again in a footer.
func checkManifestHead(m ManifestHead) error {
	if m.ID == (ManifestID{}) {
		return errors.New("manifest without an id")
	}
	if (m.Replaces == ManifestID{}) != (len(m.Replaced) == 0) {
		return errors.New("a manifest that replaces objects must say of which manifest, and which")
	}
	if m.Next < m.First {
		return fmt.Errorf("manifest takes the range [%d, %d)", m.First, m.Next)
	}
	last := -1
	for _, n := range m.Replaced {
		if n <= last {
			return fmt.Errorf("replaced objects %v are not in ascending order", m.Replaced)
		}
		last = n
	}
	return nil
}

// checkHead caps what a footer stores of an object.
func checkHead(h ObjectHead) error {
	if h.Key == "" || len(h.Key) > maxPackKey {
		return fmt.Errorf("object key of %d bytes: 1 to %d are stored", len(h.Key), maxPackKey)
	}
	for _, s := range []string{h.Destination, h.ContentType, h.ContentEncoding, h.SchemaVersion, h.RequestID} {
		if len(s) > maxPackText {
			return fmt.Errorf("attribute %.40q... of object %q has %d bytes: %d are stored", s, h.Key, len(s), maxPackText)
		}
	}
	return nil
}

// Abort removes the file. After Seal it does so only while no frame names the pack: one that a frame may
// name stays until its manifest has ended, or until it is certain that no frame does: the journal has gone on in
// another slot, or the next start has not found one.
func (p *Pack) Abort() {
	if p.state == packAborted {
		return
	}
	if p.file != nil {
		p.file.Close() // the file goes; what closing says does not matter
		p.file = nil
	}
	if p.buf != nil {
		p.store.putBuffer(p.buf)
		p.buf = nil
	}
	sealed := p.state == packSealed
	p.state = packAborted
	if sealed && p.store.wanted(p) && !sabotageAbortKept {
		return
	}
	p.store.discard(p)
}

// ref of a sealed pack: how a frame names it.
func (p *Pack) ref() packRef { return p.sum }

// footer of a sealed pack. Not to be changed.
func (p *Pack) footer() *packFooter { return p.foot }

// sealed tells whether the pack was sealed and not aborted, that is, may stand in a frame.
func (p *Pack) sealed() bool { return p.state == packSealed }

// newHashes makes the two sums that every object has.
func newHashes() (hash.Hash, hash.Hash64) { return sha256.New(), crc64nvme.New() }
