package buffer

import (
	"fmt"
	"io"
	"sync"
)

// packStore knows the pack files of a data directory. Safe for concurrent use.
type packStore struct{ fileStore }

func newPackStore(o fileOptions) *packStore {
	s := &packStore{}
	s.init(packKind, o)
	return s
}

// create starts a pack file. Errors may be ErrNoSpace.
func (s *packStore) create() (*Pack, error) {
	p := &Pack{}
	if err := s.draw(&p.draft); err != nil {
		return nil, err
	}
	if err := s.fileStore.create(&p.draft); err != nil {
		return nil, err
	}
	p.sha, p.crc = newHashes()
	return p, nil
}

// keep, unkeep, doubt and named are those of fileStore.
func (s *packStore) keep(packs []*Pack)   { s.fileStore.keep(drafts(packs)) }
func (s *packStore) unkeep(packs []*Pack) { s.fileStore.unkeep(drafts(packs)) }
func (s *packStore) doubt(packs []*Pack)  { s.fileStore.doubt(drafts(packs)) }

func (s *packStore) named(packs []*Pack, incarnation uint32) {
	s.fileStore.named(drafts(packs), incarnation)
}

// register is fileStore.register.
func (s *packStore) register(incarnation uint32, ref packRef, key *dataKey) {
	s.fileStore.register(incarnation, ref.ID, ref.Length, key)
}

// open reads an object's bytes; the file stays until Close.
func (s *packStore) open(o ObjectInfo) (interface {
	io.ReaderAt
	io.Closer
}, error) {
	f, err := s.openFile(o.Pack)
	if err != nil {
		return nil, fmt.Errorf("open object %q: %w", o.Key, err)
	}
	r := &objectReader{store: s, pack: f}
	if f.key == nil {
		r.SectionReader = io.NewSectionReader(f.file, o.Offset, o.Size)
		return r, nil
	}
	r.clear = s.clear(f)
	r.SectionReader = io.NewSectionReader(&brokenEnds{r.clear, func() {
		s.o.Log.Error("sealed bytes of an object are damaged", "pack", s.path(f.id), "key", o.Key)
	}}, o.Offset, o.Size)
	return r, nil
}

// objectReader is one open object.
type objectReader struct {
	*io.SectionReader
	clear *clearReader // nil: the pack is in clear
	store *packStore
	pack  *storedFile
	once  sync.Once
}

// Close gives the file free; after the last Close a pack that has ended goes. Again it does nothing.
func (r *objectReader) Close() (err error) {
	r.once.Do(func() {
		if r.clear != nil {
			r.clear.Close()
		}
		err = r.store.closeReader(r.pack)
	})
	return err
}
