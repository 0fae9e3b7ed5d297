package buffer

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"

	"hydrant/buffer/fsys"
)

// packStore knows the pack files of a data directory. Safe for concurrent use.
type packStore struct {
	o packOptions

	mu      sync.Mutex
	files   map[PackID]*packFile // by frames
	making  map[PackID]bool      // in the making, or sealed and not named yet
	buffers [][]byte             // free write buffers, at most one per pack that was open at a time
	sealed  [][]byte             // free ones for what is sealed of them, at most one per pack that was writing at a time
	closed  bool

	doubtful []*Pack // that frames name which could not be stored

	blocks *sync.Pool // of readers of sealed packs
}

// packFile is a pack that a frame names.
type packFile struct {
	id          PackID
	incarnation uint32
	counted     int64    // bytes in the disk ledger
	lent        bool     // it stands on the ballast's space
	length      int64    // of the file
	key         *dataKey // nil: it is in clear
	file        fsys.File
	readers     int
	doomed      bool // to be removed with its last reader
}

// packOptions of a packStore.
type packOptions struct {
	FS        fsys.FS
	Dir       string // of the packs; exists, durably
	Directory [16]byte
	Rand      io.Reader
	Seal      *sealer // nil: packs are written in clear
	Space     *space
	Log       *slog.Logger // nil: discarded
}

func newPackStore(o packOptions) *packStore {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &packStore{o: o, files: make(map[PackID]*packFile), making: make(map[PackID]bool), blocks: newBlockPool()}
}

const packSuffix = ".pack"

// path of a pack file.
func (s *packStore) path(id PackID) string {
	return s.o.Dir + "/" + hex.EncodeToString(id[:]) + packSuffix
}

// parsePackName is the inverse of path, for one name in the directory.
func parsePackName(name string) (id PackID, ok bool) {
	digits, found := strings.CutSuffix(name, packSuffix)
	if !found || len(digits) != 2*len(id) || strings.ToLower(digits) != digits {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(digits))
	return id, err == nil
}

// create starts a pack file. Errors may be ErrNoSpace.
func (s *packStore) create() (*Pack, error) {
	p := &Pack{store: s, crypt: s.o.Seal}
	if _, err := io.ReadFull(s.o.Rand, p.id[:]); err != nil {
		return nil, fmt.Errorf("draw a pack id: %w", err)
	}
	s.o.Space.restock()
	s.mu.Lock()
	closed := s.closed
	s.making[p.id] = true
	s.mu.Unlock()
	var err error
	if closed {
		err = ErrClosed
	} else if p.file, err = s.o.FS.OpenFile(s.path(p.id), fsys.Create); isFull(err) {
		err = fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	if err != nil {
		s.mu.Lock()
		delete(s.making, p.id)
		s.mu.Unlock()
		return nil, fmt.Errorf("create pack: %w", err)
	}
	p.sha, p.crc = newHashes()
	if p.buf = s.getBuffer(); p.crypt != nil {
		p.off = packHeaderSize // the header goes out with the first block
	} else {
		p.buf = append(p.buf, packHeader(s.o.Directory, p.id, wrappedKey{})...)
	}
	return p, nil
}

// getSealed returns a buffer for the header and all blocks of one write buffer, sealed.
func (s *packStore) getSealed() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.sealed); n > 0 {
		b := s.sealed[n-1]
		s.sealed = s.sealed[:n-1]
		return b
	}
	return make([]byte, 0, packHeaderSize+packBuffer/sealBlock*(sealBlock+sealOverhead))
}

func (s *packStore) putSealed(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sealed) < 8 && !s.closed {
		s.sealed = append(s.sealed, b[:0])
	}
}

func (s *packStore) getBuffer() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.buffers); n > 0 {
		b := s.buffers[n-1]
		s.buffers = s.buffers[:n-1]
		return b
	}
	return make([]byte, 0, packBuffer)
}

func (s *packStore) putBuffer(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buffers) < 8 {
		s.buffers = append(s.buffers, b[:0])
	}
}

// discard removes the file of a pack that no frame names.
func (s *packStore) discard(p *Pack) {
	err := s.o.FS.Remove(s.path(p.id))
	s.mu.Lock()
	delete(s.making, p.id)
	s.mu.Unlock()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// its bytes stay in the ledger, for they stay on the disk until the next start
		s.o.Log.Warn("cannot remove an unfinished pack", "pack", s.path(p.id), "err", err)
		return
	}
	s.o.Space.packShrinks(p.counted)
	p.counted = 0
	if p.lent > 0 {
		s.o.Space.unlend()
	}
}

// keep is called before the frame that names the packs is queued: from now on Abort leaves the files.
func (s *packStore) keep(packs []*Pack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range packs {
		p.kept = true
	}
}

// unkeep takes keep back, where the frame has certainly not been written.
func (s *packStore) unkeep(packs []*Pack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range packs {
		p.kept = false
	}
}

// doubt ends keep for a frame that could not be stored: after a failed sync the next start may find it all the
// same, and then the files must be there.
func (s *packStore) doubt(packs []*Pack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range packs {
		p.kept, p.doubtful = false, true
		s.doubtful = append(s.doubtful, p)
	}
}

// certain ends all doubt: no start will find a frame that could not be stored. Packs that were aborted meanwhile
// go, and with them what they hold of the disk.
func (s *packStore) certain() {
	s.mu.Lock()
	var gone []*Pack
	for _, p := range s.doubtful {
		p.doubtful = false
		if p.orphan && !p.kept {
			gone = append(gone, p)
		}
	}
	s.doubtful = nil
	s.mu.Unlock()
	for _, p := range gone {
		s.discard(p)
	}
}

// wanted tells whether a frame may name a pack that is aborted. Then certain removes it.
func (s *packStore) wanted(p *Pack) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.orphan = true
	return p.kept || p.doubtful
}

// named is called when the frame is durable: the packs' bytes are charged to the stream.
func (s *packStore) named(packs []*Pack, incarnation uint32) {
	for _, p := range packs {
		s.mu.Lock()
		delete(s.making, p.id)
		s.files[p.id] = &packFile{id: p.id, incarnation: incarnation, counted: p.counted, lent: p.lent > 0, length: p.sum.Length, key: p.crypt.key()}
		s.mu.Unlock()
		s.o.Space.packNamed(incarnation, p.counted, true)
	}
}

// register is named for recovery: an unfinished manifest names this pack. Again it changes nothing.
func (s *packStore) register(incarnation uint32, ref packRef, key *dataKey) {
	s.mu.Lock()
	_, known := s.files[ref.ID]
	if !known {
		s.files[ref.ID] = &packFile{id: ref.ID, incarnation: incarnation, counted: ref.Length, length: ref.Length, key: key}
	}
	s.mu.Unlock()
	if !known {
		s.o.Space.packNamed(incarnation, ref.Length, false)
	}
}

// encrypted tells whether a pack that a frame names is sealed.
func (s *packStore) encrypted(id PackID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[id]
	return f != nil && f.key != nil
}

// open reads an object's bytes; the file stays until Close.
func (s *packStore) open(o ObjectInfo) (interface {
	io.ReaderAt
	io.Closer
}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[o.Pack]
	if f == nil || f.doomed {
		return nil, fmt.Errorf("open object %q: pack %q: %w", o.Key, s.path(o.Pack), fs.ErrNotExist)
	}
	if f.file == nil {
		file, err := s.o.FS.OpenFile(s.path(o.Pack), fsys.ReadOnly)
		if err != nil {
			return nil, fmt.Errorf("open object %q: %w", o.Key, err)
		}
		f.file = file
	}
	f.readers++
	r := &objectReader{store: s, pack: f}
	if f.key == nil {
		r.SectionReader = io.NewSectionReader(f.file, o.Offset, o.Size)
		return r, nil
	}
	size, _ := clearLength(f.length) // it was checked when the pack was sealed, or read by recovery
	r.clear = &clearReader{f: f.file, key: f.key, id: f.id, size: size, pool: s.blocks}
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
	pack  *packFile
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

func (s *packStore) closeReader(f *packFile) error {
	s.mu.Lock()
	f.readers--
	if f.readers > 0 {
		s.mu.Unlock()
		return nil
	}
	file := f.file
	f.file = nil
	doomed := f.doomed
	s.mu.Unlock()
	err := file.Close()
	if doomed && !sabotageRemoveReadPack {
		s.unlink(f)
	}
	return err
}

// remove unlinks a pack all of whose manifests have ended durably, as soon as no reader has it open (I6).
func (s *packStore) remove(id PackID) {
	s.mu.Lock()
	f := s.files[id]
	if f == nil || f.doomed {
		s.mu.Unlock()
		return
	}
	f.doomed = true
	busy := f.readers > 0
	s.mu.Unlock()
	if !busy || sabotageRemoveReadPack {
		s.unlink(f)
	}
}

// unlink removes a doomed file. Its directory need not be synced: where the name comes back after a crash
// no frame names it, and the next start removes it again.
func (s *packStore) unlink(f *packFile) {
	if err := s.o.FS.Remove(s.path(f.id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.o.Log.Warn("cannot remove a pack that has ended; the next start will", "pack", s.path(f.id), "err", err)
		return
	}
	CrashPoint("pack-unlinked")
	s.mu.Lock()
	delete(s.files, f.id)
	s.mu.Unlock()
	s.o.Space.packGone(f.incarnation, f.counted)
	if f.lent {
		s.o.Space.unlend()
	} else {
		s.o.Space.restock()
	}
}

// sweep removes the pack files that no frame names: orphans of cuts that never became durable, and packs
// whose end was durable. Files with other names are not ours and stay.
func (s *packStore) sweep() error {
	entries, err := s.o.FS.ReadDir(s.o.Dir)
	if err != nil {
		return fmt.Errorf("list packs: %w", err)
	}
	var errs []error
	for _, e := range entries {
		id, ok := parsePackName(e.Name)
		s.mu.Lock()
		orphan := ok && s.files[id] == nil && !s.making[id]
		s.mu.Unlock()
		if !orphan {
			continue
		}
		if err := s.o.FS.Remove(s.o.Dir + "/" + e.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove orphan: %w", err))
		}
	}
	return errors.Join(errs...)
}

// close refuses further packs and readers. Readers that are open go on until they are closed.
func (s *packStore) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.buffers = nil
}
