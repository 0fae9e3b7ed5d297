package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"syscall"

	"hydrant/buffer/fsys"
)

// ErrNoSpace says that neither limits.disk nor the file system has room for more bytes of packs and runs now.
var ErrNoSpace = errors.New("no space left for packs and runs")

// fileKind is a kind of file that is written once, sealed by a footer and a trailer, and named by a frame.
type fileKind struct {
	what           string // for people
	suffix         string // of the name
	magic, trailer uint32
}

var (
	packKind = fileKind{"pack", packSuffix, packMagic, packTrailerMagic}
	runKind  = fileKind{"run", runSuffix, runMagic, runTrailerMagic}
)

const (
	packSuffix = ".pack"
	runSuffix  = ".run"
)

// draft is such a file in the making. One goroutine writes it: clear bytes, one behind the other, of which those
// written last may be taken back.
type draft struct {
	files *fileStore
	id    [16]byte
	about byte      // a byte of the header for the kind of file to use
	file  fsys.File // nil once sealed or aborted
	crypt *sealer   // nil: it is written in clear
	fault error     // what ended writing; only rewinding (of ErrNoSpace) and removing the file help

	buf    []byte // not written yet
	off    int64  // of buf[0] in the file's clear bytes
	high   int64  // the file is this long: what was taken back may have reached further than what follows
	hashed int    // so much of buf is in the hashes, or belongs to none
	hashes []hash.Hash

	again *clearReader // of what was sealed; nil: not needed yet

	length int64 // of the finished file
	footer [32]byte

	counted  int64 // bytes that stand in the disk ledger
	lent     int64 // of the ballast, that this file may take instead
	borrowed int64 // of it, that it has taken

	// Guarded by files.mu.
	kept     bool // a frame that is being written names the file
	doubtful bool // a frame that could not be stored names it, and a crash may find that frame
	orphan   bool // it was aborted meanwhile
}

// made lets a store find the draft in what embeds it.
func (d *draft) made() *draft { return d }

func (d *draft) name() fileName { return fileName{d.files.kind.magic, d.id} }

func (d *draft) path() string { return d.files.path(d.id) }

// size is the clear bytes written so far.
func (d *draft) size() int64 { return d.off + int64(len(d.buf)) }

// write appends to the file. It may succeed for less than all of b, with an error.
func (d *draft) write(b []byte) (n int, err error) {
	if d.fault != nil {
		return 0, d.fault
	}
	for len(b) > 0 {
		if len(d.buf) == cap(d.buf) {
			if err := d.flush(); err != nil {
				return n, err
			}
		}
		w := min(len(b), cap(d.buf)-len(d.buf))
		d.buf = append(d.buf, b[:w]...)
		b = b[w:]
		n += w
	}
	return n, nil
}

// digest has the hashes see what is written from now on.
func (d *draft) digest(hashes ...hash.Hash) {
	d.hashed, d.hashes = len(d.buf), hashes
	for _, h := range hashes {
		h.Reset()
	}
}

// digested brings the hashes up to date.
func (d *draft) digested() {
	for _, h := range d.hashes {
		h.Write(d.buf[d.hashed:])
	}
	d.hashed = len(d.buf)
}

// flush writes what was gathered.
func (d *draft) flush() error {
	d.digested()
	if len(d.buf) == 0 {
		return nil
	}
	end := d.place(d.size())
	if err := d.charge(end); err != nil {
		d.fault = err
		return err
	}
	out, at := d.buf, d.off
	if d.crypt != nil {
		sealed := d.files.buffers.getSealed()
		defer d.files.buffers.putSealed(sealed)
		if at = d.place(d.off); d.off == packHeaderSize {
			sealed, at = append(sealed, d.header(d.crypt.header())...), 0
		}
		out = d.crypt.sealBlocks(sealed, d.buf, d.name(), d.off)
	}
	_, err := d.file.WriteAt(out, at)
	if isFull(err) && d.borrow() {
		_, err = d.file.WriteAt(out, at)
	}
	d.high = max(d.high, end)
	if isFull(err) {
		d.fault = fmt.Errorf("write %s %q: %w: %w", d.files.kind.what, d.path(), ErrNoSpace, err)
		return d.fault
	}
	if err != nil {
		d.fault = fmt.Errorf("write %s %q: %w", d.files.kind.what, d.path(), err)
		return d.fault
	}
	d.off, d.buf, d.hashed = d.size(), d.buf[:0], 0
	return nil
}

// header is the first bytes of the file.
func (d *draft) header(key wrappedKey) []byte {
	return fileHeader(d.files.kind.magic, d.files.o.Directory, d.id, key, d.about)
}

// fileHeader is the first 256 bytes of a pack or a run.
func fileHeader(magic uint32, directory, id [16]byte, key wrappedKey, about byte) []byte {
	b := make([]byte, packHeaderSize)
	le := binary.LittleEndian
	le.PutUint32(b, magic)
	le.PutUint32(b[4:], packFormat(key))
	copy(b[8:], directory[:])
	copy(b[24:], id[:])
	copy(b[40:], key[:])
	b[112] = about
	le.PutUint32(b[252:], crc32.Checksum(b[:252], castagnoli))
	return b
}

// place is where in the file a clear byte stands that begins a block, or the end of them all.
func (d *draft) place(n int64) int64 {
	if d.crypt == nil {
		return n
	}
	return sealedLength(n)
}

// ReadAt reads clear bytes that were written or gathered, behind the header.
func (d *draft) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		at := off + int64(n)
		if at >= d.size() {
			return n, io.EOF
		}
		if at >= d.off {
			n += copy(p[n:], d.buf[at-d.off:])
			continue
		}
		part := p[n:min(int64(len(p)), int64(n)+d.off-at)]
		if d.crypt == nil {
			err = readFull(d.file, part, at)
		} else {
			// what was flushed is whole blocks, since the write buffer holds a number of them
			if d.again == nil {
				d.again = &clearReader{f: d.file, key: &d.crypt.dataKey, name: d.name(), pool: d.files.blocks}
			}
			d.again.size = d.off
			err = readFull(d.again, part, at)
		}
		if err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// rewind makes clear byte pos, which was written or gathered, the next one.
func (d *draft) rewind(pos int64) error {
	switch {
	case pos >= d.off:
		d.buf = d.buf[:pos-d.off]
	case d.crypt == nil:
		d.buf, d.off = d.buf[:0], pos
	default:
		// What stays of the block that pos is in will be sealed again, with what follows, under another nonce.
		block := (pos - packHeaderSize) / sealBlock
		stored := d.files.buffers.getSealed()
		defer d.files.buffers.putSealed(stored)
		clear, err := d.crypt.openBlock(d.file, d.name(), block, d.off, stored[:sealBlock+sealOverhead])
		if err != nil {
			return fmt.Errorf("read %s %q again: %w", d.files.kind.what, d.path(), err)
		}
		d.off = packHeaderSize + block*sealBlock
		d.buf = append(d.buf[:0], clear[:pos-d.off]...)
	}
	d.hashed = len(d.buf)
	return nil
}

// isFull tells the errors of a full disk from others.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// charge puts the file's growth up to end into the disk ledger, or takes it from the ballast.
func (d *draft) charge(end int64) error {
	n := end - d.counted - d.borrowed
	if n <= 0 {
		return nil
	}
	err := d.files.o.Space.packGrows(n)
	if err == nil {
		d.counted += n
		return nil
	}
	if d.lent == 0 {
		d.borrow()
	}
	fromBallast := min(n, d.lent-d.borrowed)
	if rest := n - fromBallast; rest > 0 {
		if err := d.files.o.Space.packGrows(rest); err != nil {
			return err
		}
		d.counted += rest
	}
	d.borrowed += fromBallast
	return nil
}

// borrow asks for the ballast, once.
func (d *draft) borrow() bool {
	if d.lent > 0 {
		return false
	}
	d.lent = d.files.o.Space.lend()
	return d.lent > 0
}

// finish writes the trailer behind a footer that began at clear byte begin, and syncs file and directory (I7).
func (d *draft) finish(begin int64, footer [32]byte) error {
	trailer := packTrailer{Magic: d.files.kind.trailer, Version: packFormat(d.crypt.header()), Offset: begin, Length: d.size() - begin, Footer: footer}
	if _, err := d.write(trailer.encode()); err != nil {
		return err
	}
	if err := d.flush(); err != nil {
		return err
	}
	what, length := d.files.kind.what, d.place(d.off)
	if d.high > length {
		if err := d.file.Truncate(length); err != nil {
			d.fault = fmt.Errorf("cut %s %q: %w", what, d.path(), err)
			return d.fault
		}
		d.high = length
	}
	if !sabotagePackNoSync {
		if err := d.file.Datasync(); err != nil {
			d.fault = fmt.Errorf("sync %s %q: %w", what, d.path(), err)
			return d.fault
		}
	}
	if sabotageKeyLater && d.crypt != nil {
		d.file.WriteAt(d.header(d.crypt.wrapped), 0)
	}
	if d.files.kind.what == packKind.what {
		CrashPoint("pack-synced")
	} else {
		CrashPoint("run-synced")
	}
	err := d.file.Close()
	d.file = nil
	if err == nil && !sabotagePackNoDirSync {
		err = d.files.o.FS.SyncDir(d.files.o.Dir)
	}
	if err != nil {
		d.fault = fmt.Errorf("sync %s %q: %w", what, d.path(), err)
		return d.fault
	}
	if over := d.counted + d.borrowed - length; over > 0 { // something was taken back
		back := min(over, d.borrowed)
		d.borrowed -= back
		d.files.o.Space.packShrinks(over - back)
		d.counted -= over - back
	}
	d.length, d.footer = length, footer
	return nil
}

// done gives the write buffer back. The file is finished.
func (d *draft) done() {
	if d.again != nil {
		d.again.Close()
	}
	d.files.buffers.put(d.buf)
	d.buf = nil
}

// abort removes the file. Where it is finished it does so only while no frame names it.
func (d *draft) abort(finished bool) {
	if d.file != nil {
		d.file.Close() // the file goes; what closing says does not matter
		d.file = nil
	}
	if d.buf != nil {
		d.done()
	}
	if finished && d.files.wanted(d) && !sabotageAbortKept {
		return
	}
	d.files.discard(d)
}

// envelope is what a finished file says of itself: header and trailer.
type envelope struct {
	directory [16]byte
	id        [16]byte
	about     byte
	length    int64       // of the file
	key       *dataKey    // nil: it is in clear
	clear     io.ReaderAt // bytes at offsets as footer and trailer have them
	offset    int64       // of the footer
	footLen   int64
	footer    [32]byte // SHA-256 that the footer should have
}

// readEnvelope reads header and trailer of a file. damage makes the error for a file that is not what was sealed.
// Other errors: *NewerVersionError, *KeyError, or the file system's.
func readEnvelope(f fsys.File, kind fileKind, path string, keys *keyring, damage func(format string, args ...any) error) (*envelope, error) {
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", kind.what, err)
	}
	if size < packHeaderSize+packTrailerSize {
		return nil, damage("%d bytes are too few", size)
	}
	var head [packHeaderSize]byte
	if err := readFull(f, head[:], 0); err != nil {
		return nil, fmt.Errorf("read header of %s %q: %w", kind.what, path, err)
	}
	le := binary.LittleEndian
	if le.Uint32(head[:]) != kind.magic || le.Uint32(head[252:]) != crc32.Checksum(head[:252], castagnoli) {
		return nil, damage("no valid header")
	}
	c := &envelope{clear: f, length: size, about: head[112]}
	version, wrapped := le.Uint32(head[4:]), wrappedKey(head[40:])
	if version > sealedVersion {
		return nil, &NewerVersionError{Path: path, What: kind.what, Version: version, Known: sealedVersion}
	}
	if version != packFormat(wrapped) {
		return nil, damage("format version %d", version)
	}
	copy(c.directory[:], head[8:])
	copy(c.id[:], head[24:])
	c.key, err = keys.of(c.directory).open(wrapped, path)
	if errors.Is(err, errWrapped) {
		return nil, damage("%v", err)
	}
	if err != nil {
		return nil, err
	}
	if c.key != nil {
		whole := size
		var ok bool
		if size, ok = clearLength(whole); !ok || size < packHeaderSize+packTrailerSize {
			return nil, damage("%d bytes are no whole number of sealed blocks", whole)
		}
		c.clear = &clearReader{f: f, key: c.key, name: fileName{kind.magic, c.id}, size: size, pool: newBlockPool()}
	}
	var tail [packTrailerSize]byte
	if err := readPart(c.clear, tail[:], size-packTrailerSize, "trailer", kind, path, damage); err != nil {
		return nil, err
	}
	t, err := parseTrailer(tail[:], kind.trailer)
	if err != nil {
		return nil, damage("%v", err)
	}
	if t.Version > sealedVersion {
		return nil, &NewerVersionError{Path: path, What: kind.what, Version: t.Version, Known: sealedVersion}
	} else if t.Version != version {
		return nil, damage("header and trailer have format versions %d and %d", version, t.Version)
	}
	off, n := uint64(t.Offset), uint64(t.Length)
	if off < packHeaderSize || off > uint64(size) || n > uint64(size) || off+n+packTrailerSize != uint64(size) {
		return nil, damage("footer at [%d, +%d) of %d bytes", off, n, size)
	}
	c.offset, c.footLen, c.footer = t.Offset, t.Length, t.Footer
	return c, nil
}

// parseTrailer reads the last bytes of a file.
func parseTrailer(tail []byte, magic uint32) (packTrailer, error) {
	le := binary.LittleEndian
	if le.Uint32(tail) != magic || le.Uint32(tail[60:]) != crc32.Checksum(tail[:60], castagnoli) {
		return packTrailer{}, errors.New("no valid trailer")
	}
	return packTrailer{Magic: magic, Version: le.Uint32(tail[4:]), Offset: int64(le.Uint64(tail[8:])), Length: int64(le.Uint64(tail[16:])), Footer: [32]byte(tail[24:])}, nil
}

// readPart reads all of b; a broken seal is damage.
func readPart(r io.ReaderAt, b []byte, off int64, what string, kind fileKind, path string, damage func(format string, args ...any) error) error {
	err := readFull(r, b, off)
	if errors.Is(err, errUnsealed) {
		return damage("%s: %v", what, err)
	}
	if err != nil {
		return fmt.Errorf("read %s of %s %q: %w", what, kind.what, path, err)
	}
	return nil
}
