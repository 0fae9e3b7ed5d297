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

// fileStore knows the files of one kind in a data directory: who makes, names and reads them, and when they go.
// Safe for concurrent use.
type fileStore struct {
	o    fileOptions
	kind fileKind

	mu     sync.Mutex
	files  map[[16]byte]*storedFile // by frames
	making map[[16]byte]bool        // in the making, or sealed and not named yet
	closed bool

	doubtful []*draft // that frames name which could not be stored

	buffers *writeBuffers
	blocks  *sync.Pool // of readers of sealed files
}

// storedFile is a file that a frame names.
type storedFile struct {
	id          [16]byte
	incarnation uint32
	counted     int64    // bytes in the disk ledger
	lent        bool     // it stands on the ballast's space
	length      int64    // of the file
	key         *dataKey // nil: it is in clear
	file        fsys.File
	readers     int
	doomed      bool // to be removed with its last reader
}

// fileOptions of a fileStore.
type fileOptions struct {
	FS        fsys.FS
	Dir       string // of the files; exists, durably
	Directory [16]byte
	Rand      io.Reader
	Seal      *sealer // nil: files are written in clear
	Space     *space
	Log       *slog.Logger // nil: discarded
}

func (s *fileStore) init(kind fileKind, o fileOptions) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s.o, s.kind = o, kind
	s.files, s.making = make(map[[16]byte]*storedFile), make(map[[16]byte]bool)
	s.buffers, s.blocks = &writeBuffers{}, newBlockPool()
}

// path of a file.
func (s *fileStore) path(id [16]byte) string {
	return s.o.Dir + "/" + hex.EncodeToString(id[:]) + s.kind.suffix
}

// parse is the inverse of path, for one name in the directory.
func (k fileKind) parse(name string) (id [16]byte, ok bool) {
	digits, found := strings.CutSuffix(name, k.suffix)
	if !found || len(digits) != 2*len(id) || strings.ToLower(digits) != digits {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(digits))
	return id, err == nil
}

// draw gives a draft its id.
func (s *fileStore) draw(d *draft) error {
	d.files, d.crypt = s, s.o.Seal
	if _, err := io.ReadFull(s.o.Rand, d.id[:]); err != nil {
		return fmt.Errorf("draw a %s id: %w", s.kind.what, err)
	}
	return nil
}

// create makes the file of a draft. Errors may be ErrNoSpace.
func (s *fileStore) create(d *draft) error {
	s.o.Space.restock()
	s.mu.Lock()
	closed := s.closed
	s.making[d.id] = true
	s.mu.Unlock()
	var err error
	if closed {
		err = ErrClosed
	} else if d.file, err = s.o.FS.OpenFile(s.path(d.id), fsys.Create); isFull(err) {
		err = fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	if err != nil {
		d.file = nil
		s.mu.Lock()
		delete(s.making, d.id)
		s.mu.Unlock()
		return fmt.Errorf("create %s: %w", s.kind.what, err)
	}
	if d.buf = s.buffers.get(); d.crypt != nil {
		d.off = packHeaderSize // the header goes out with the first block
	} else {
		d.buf = append(d.buf, d.header(wrappedKey{})...)
	}
	return nil
}

// packBuffer is how much of a file is gathered before it is written.
const packBuffer = 1 << 20

// writeBuffers keeps free buffers of files in the making. Safe for concurrent use.
type writeBuffers struct {
	mu     sync.Mutex
	clear  [][]byte // at most one per file that was open at a time
	sealed [][]byte // for what is sealed of them, at most one per file that was writing at a time
}

// getSealed returns a buffer for the header and all blocks of one write buffer, sealed.
func (w *writeBuffers) getSealed() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.sealed); n > 0 {
		b := w.sealed[n-1]
		w.sealed = w.sealed[:n-1]
		return b
	}
	return make([]byte, 0, packHeaderSize+packBuffer/sealBlock*(sealBlock+sealOverhead))
}

func (w *writeBuffers) putSealed(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sealed) < 8 {
		w.sealed = append(w.sealed, b[:0])
	}
}

func (w *writeBuffers) get() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.clear); n > 0 {
		b := w.clear[n-1]
		w.clear = w.clear[:n-1]
		return b
	}
	return make([]byte, 0, packBuffer)
}

func (w *writeBuffers) put(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.clear) < 8 {
		w.clear = append(w.clear, b[:0])
	}
}

// drop forgets the free buffers.
func (w *writeBuffers) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clear, w.sealed = nil, nil
}

// discard removes a file that no frame names.
func (s *fileStore) discard(d *draft) {
	err := s.o.FS.Remove(s.path(d.id))
	s.mu.Lock()
	delete(s.making, d.id)
	s.mu.Unlock()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// its bytes stay in the ledger, for they stay on the disk until the next start
		s.o.Log.Warn("cannot remove an unfinished "+s.kind.what, s.kind.what, s.path(d.id), "err", err)
		return
	}
	s.o.Space.packShrinks(d.counted)
	d.counted = 0
	if d.lent > 0 {
		s.o.Space.unlend()
	}
}

// keep is called before the frame that names the files is queued: from now on Abort leaves them.
func (s *fileStore) keep(drafts []*draft) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range drafts {
		d.kept = true
	}
}

// unkeep takes keep back, where the frame has certainly not been written.
func (s *fileStore) unkeep(drafts []*draft) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range drafts {
		d.kept = false
	}
}

// doubt ends keep for a frame that could not be stored: after a failed sync the next start may find it all the
// same, and then the files must be there.
func (s *fileStore) doubt(drafts []*draft) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range drafts {
		d.kept, d.doubtful = false, true
		s.doubtful = append(s.doubtful, d)
	}
}

// certain ends all doubt: no start will find a frame that could not be stored. Files that were aborted meanwhile
// go, and with them what they hold of the disk.
func (s *fileStore) certain() {
	s.mu.Lock()
	var gone []*draft
	for _, d := range s.doubtful {
		d.doubtful = false
		if d.orphan && !d.kept {
			gone = append(gone, d)
		}
	}
	s.doubtful = nil
	s.mu.Unlock()
	for _, d := range gone {
		s.discard(d)
	}
}

// wanted tells whether a frame may name a file that is aborted. Then certain removes it.
func (s *fileStore) wanted(d *draft) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.orphan = true
	return d.kept || d.doubtful
}

// named is called when the frame is durable: the files' bytes are charged to the stream.
func (s *fileStore) named(drafts []*draft, incarnation uint32) {
	for _, d := range drafts {
		s.mu.Lock()
		delete(s.making, d.id)
		s.files[d.id] = &storedFile{id: d.id, incarnation: incarnation, counted: d.counted, lent: d.lent > 0, length: d.length, key: d.crypt.key()}
		s.mu.Unlock()
		s.o.Space.packNamed(incarnation, d.counted, true)
	}
}

// register is named for recovery: a frame that is in force names this file. Again it changes nothing.
func (s *fileStore) register(incarnation uint32, id [16]byte, length int64, key *dataKey) {
	s.mu.Lock()
	_, known := s.files[id]
	if !known {
		s.files[id] = &storedFile{id: id, incarnation: incarnation, counted: length, length: length, key: key}
	}
	s.mu.Unlock()
	if !known {
		s.o.Space.packNamed(incarnation, length, false)
	}
}

// encrypted tells whether a file that a frame names is sealed.
func (s *fileStore) encrypted(id [16]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[id]
	return f != nil && f.key != nil
}

// openFile opens a file that a frame names for one more reader; closeReader ends that. Error: fs.ErrNotExist where
// it is gone, or the file system's.
func (s *fileStore) openFile(id [16]byte) (*storedFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[id]
	if f == nil || f.doomed {
		return nil, fmt.Errorf("%s %q: %w", s.kind.what, s.path(id), fs.ErrNotExist)
	}
	if f.file == nil {
		file, err := s.o.FS.OpenFile(s.path(id), fsys.ReadOnly)
		if err != nil {
			return nil, err
		}
		f.file = file
	}
	f.readers++
	return f, nil
}

// clear reads the clear bytes of a sealed file that is open.
func (s *fileStore) clear(f *storedFile) *clearReader {
	size, _ := clearLength(f.length) // it was checked when the file was sealed, or read by recovery
	return &clearReader{f: f.file, key: f.key, name: fileName{s.kind.magic, f.id}, size: size, pool: s.blocks}
}

func (s *fileStore) closeReader(f *storedFile) error {
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

// remove unlinks a file that nothing needs any more, durably, as soon as no reader has it open (I6).
func (s *fileStore) remove(id [16]byte) {
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
func (s *fileStore) unlink(f *storedFile) {
	what := s.kind.what
	if err := s.o.FS.Remove(s.path(f.id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.o.Log.Warn("cannot remove a "+what+" that has ended; the next start will", what, s.path(f.id), "err", err)
		return
	}
	if what == packKind.what {
		CrashPoint("pack-unlinked")
	} else {
		CrashPoint("run-unlinked")
	}
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

// sweep removes the files that no frame names: orphans that never got one, and those whose end was durable. Files
// with other names are not ours and stay.
func (s *fileStore) sweep() error {
	entries, err := s.o.FS.ReadDir(s.o.Dir)
	if err != nil {
		return fmt.Errorf("list %ss: %w", s.kind.what, err)
	}
	var errs []error
	for _, e := range entries {
		id, ok := s.kind.parse(e.Name)
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

// close refuses further files and lets go of free buffers. Readers that are open go on until they are closed.
func (s *fileStore) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.buffers.drop()
}

// drafts of packs or runs.
func drafts[F interface{ made() *draft }](files []F) []*draft {
	list := make([]*draft, len(files))
	for i, f := range files {
		list[i] = f.made()
	}
	return list
}
