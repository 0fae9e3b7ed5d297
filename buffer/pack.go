package buffer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/minio/crc64nvme"
)

// Pack is a file of finished object bytes in the making. One goroutine writes it.
type Pack struct {
	draft
	state packState

	objects []ObjectInfo
	begun   bool // the last object has not ended
	sha     hash.Hash
	crc     hash.Hash64
	foot    *packFooter
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
func (p *Pack) ID() PackID { return p.draft.id }

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
	p.begun = true
	p.digest(p.sha, p.crc)
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

// End ends the object begun last and fixes its counts. Every object is ended once.
func (p *Pack) End(records int64, firstSeq uint64, oldest int64) error {
	if p.state != packOpen || !p.begun {
		return errors.New("end an object that was not begun")
	}
	if p.fault != nil {
		return p.fault
	}
	p.digested()
	o := &p.objects[len(p.objects)-1]
	o.Size = p.Size() - o.Offset
	p.sha.Sum(o.SHA256[:0])
	o.CRC64NVME = p.crc.Sum64()
	o.Records, o.FirstSeq, o.Oldest = records, firstSeq, oldest
	p.begun = false
	p.digest()
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
	p.digest()
	p.fault = p.rewind(start)
	return p.fault
}

// Size is the bytes written so far.
func (p *Pack) Size() int64 { return p.size() }

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
	p.done()
	return nil
}

func (p *Pack) seal(foot *packFooter) error {
	encoded := foot.encode()
	if len(encoded) > maxPackFooter {
		return fmt.Errorf("footer of pack %q has %d bytes, more than %d", p.path(), len(encoded), maxPackFooter)
	}
	begin := p.Size()
	if _, err := p.write(encoded); err != nil {
		return err
	}
	return p.finish(begin, sha256.Sum256(encoded))
}

// checkManifestHead refuses what could not be found again in a footer.
func checkManifestHead(m ManifestHead) error {
	if m.ID == (ManifestID{}) {
		return errors.New("manifest without an id")
	}
	if (m.Replaces == ManifestID{}) != (len(m.Replaced) == 0) {
		return errors.New("a manifest that replaces objects must say of which manifest, and which")
	}
	if err := m.Source.check(); err != nil {
		return err
	}
	if m.Lost < 0 || m.Lost > 0 && m.Source.Kind != SourceRange {
		return fmt.Errorf("manifest that has lost %d rows: only a range can", m.Lost)
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
	for _, s := range []string{h.Destination, h.ContentType, h.ContentEncoding, h.SchemaVersion, h.RequestID, h.Refusal.Code, h.Refusal.Message} {
		if len(s) > maxPackText {
			return fmt.Errorf("attribute %.40q... of object %q has %d bytes: %d are stored", s, h.Key, len(s), maxPackText)
		}
	}
	if h.Refusal.Attempts < 0 {
		return fmt.Errorf("object %q stands for one that was refused %d times", h.Key, h.Refusal.Attempts)
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
	finished := p.state == packSealed
	p.state = packAborted
	p.abort(finished)
}

// ref of a sealed pack: how a frame names it.
func (p *Pack) ref() packRef { return packRef{ID: p.id, Length: p.length, Footer: p.draft.footer} }

// footer of a sealed pack. Not to be changed.
func (p *Pack) footer() *packFooter { return p.foot }

// sealed tells whether the pack was sealed and not aborted, that is, may stand in a frame.
func (p *Pack) sealed() bool { return p.state == packSealed }

// newHashes makes the two sums that every object has.
func newHashes() (hash.Hash, hash.Hash64) { return sha256.New(), crc64nvme.New() }
