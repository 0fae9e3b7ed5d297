package buffer

import (
	"errors"
	"io"
	"log/slog"

	"hydrant/buffer/fsys"
)

// ErrNoSpace says that neither limits.disk nor the file system has room for more pack bytes now.
var ErrNoSpace = errors.New("no space left for packs")

// Pack is a file of finished object bytes in the making. One goroutine writes it.
type Pack struct{ store *packStore }

// NewPack starts a pack file. It is an orphan, removed at the next start, until a Cut or Replace names it.
func (b *Buffer) NewPack() (*Pack, error) { return b.packs.create() }

// Begin starts an object and ends the one before. Write errors may be ErrNoSpace: then Abort, or Drop the
// object begun last and Seal what is before it.
func (p *Pack) Begin(h ObjectHead) (io.Writer, error) { panic("bug: not built yet") }

// End fixes the counts of the object begun last. Every object is ended once.
func (p *Pack) End(records int64, firstSeq uint64, oldest int64) error { panic("bug: not built yet") }

// Drop forgets the object begun last.
func (p *Pack) Drop() error { panic("bug: not built yet") }

// Size is the bytes written so far.
func (p *Pack) Size() int64 { panic("bug: not built yet") }

// Seal writes the footer for the manifest it will stand in and fsyncs file and directory (I5, I7). A
// sealed pack is immutable.
func (p *Pack) Seal(m ManifestHead) error { panic("bug: not built yet") }

// Abort removes the file. After Seal it does so only while no frame names the pack.
func (p *Pack) Abort() { panic("bug: not built yet") }

// packRef is how a frame names a pack.
type packRef struct {
	ID     PackID
	Length int64
	Footer [32]byte // SHA-256 of the footer
}

// ref of a sealed pack.
func (p *Pack) ref() packRef { panic("bug: not built yet") }

// footer of a sealed pack. Not to be changed.
func (p *Pack) footer() *packFooter { panic("bug: not built yet") }

// sealed tells whether the pack was sealed and not aborted, that is, may stand in a frame.
func (p *Pack) sealed() bool { panic("bug: not built yet") }

// packFooter is the table at the end of a pack.
type packFooter struct {
	ID        PackID
	Manifests []packManifest
	Objects   []ObjectInfo
}

// packManifest is one manifest's part of a pack: Objects[First : First+Count].
type packManifest struct {
	ManifestHead
	First, Count int
}

// openPack reads and checks the footer of a pack file. Errors: *NewerVersionError, *packDamage, or the
// file system's (fs.ErrNotExist where it is missing).
func openPack(fs fsys.FS, path string) (*packFooter, packRef, error) { panic("bug: not built yet") }

// packStore knows the pack files of a data directory. Safe for concurrent use.
type packStore struct{ o packOptions }

// packOptions of a packStore.
type packOptions struct {
	FS        fsys.FS
	Dir       string // of the packs; exists, durably
	Directory [16]byte
	Rand      io.Reader
	Space     *space
	Log       *slog.Logger
}

func newPackStore(o packOptions) *packStore { return &packStore{o: o} }

// path of a pack file.
func (s *packStore) path(id PackID) string { panic("bug: not built yet") }

func (s *packStore) create() (*Pack, error) { panic("bug: not built yet") }

// keep is called before the frame that names the packs is queued: from now on Abort leaves the files.
func (s *packStore) keep(packs []*Pack) { panic("bug: not built yet") }

// unkeep takes keep back. Only where it is certain that no frame with these packs reached the disk: after
// a failed sync the frame may be found at the next start, and then the files must be there.
func (s *packStore) unkeep(packs []*Pack) { panic("bug: not built yet") }

// named is called when the frame is durable: the packs' bytes are charged to the stream.
func (s *packStore) named(packs []*Pack, incarnation uint32) { panic("bug: not built yet") }

// register is named for recovery: an unfinished manifest names this pack.
func (s *packStore) register(incarnation uint32, ref packRef) { panic("bug: not built yet") }

// open reads an object's bytes; the file stays until Close.
func (s *packStore) open(o ObjectInfo) (interface {
	io.ReaderAt
	io.Closer
}, error) {
	panic("bug: not built yet")
}

// remove unlinks a pack all of whose manifests have ended durably, as soon as no reader has it open.
func (s *packStore) remove(id PackID) { panic("bug: not built yet") }

// sweep removes the files in the directory that were never registered: orphans of cuts that no frame
// names, and packs whose end was durable.
func (s *packStore) sweep() error { panic("bug: not built yet") }

// close forgets the files that are kept open.
func (s *packStore) close() {}
