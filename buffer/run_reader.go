package buffer

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"

	"hydrant/buffer/fsys"
)

// aheadReader reads a file in clear some way ahead: blocks of small keys lie one behind the other and are asked for
// in that order. It has the buffer of a clearReader, which does the same for sealed files.
type aheadReader struct {
	f   io.ReaderAt
	buf []byte
	off int64
	n   int
}

// ReadAt implements io.ReaderAt.
func (a *aheadReader) ReadAt(p []byte, off int64) (int, error) {
	if len(p) > len(a.buf)/4 {
		return a.f.ReadAt(p, off)
	}
	if off < a.off || off+int64(len(p)) > a.off+int64(a.n) {
		n, err := a.f.ReadAt(a.buf, off)
		if n < len(p) {
			a.n = 0
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return copy(p, a.buf[:n]), err
		}
		a.off, a.n = off, n
	}
	return copy(p, a.buf[off-a.off:]), nil
}

// pageReader reads pages of tables of a sealed file: it keeps no block between two pages, since each of its users
// keeps a page.
type pageReader struct{ *clearReader }

// ReadAt implements io.ReaderAt.
func (r pageReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.clearReader.ReadAt(p, off)
	r.forget()
	return n, err
}

// runReader reads a sealed run. Not safe for concurrent use; a run may have many.
type runReader struct {
	runContent
	path   string
	store  *runStore
	file   *storedFile
	blocks io.ReaderAt // of clear bytes
	tables io.ReaderAt
	offset int64 // of the footer
	length int64 // of its table
	held   []io.Closer
	buf    *[]byte // of an aheadReader
	closed bool
}

// open makes a reader of a run that a frame names; the file stays until Close. Errors: fs.ErrNotExist where the run
// is gone, *runDamage, or the file system's.
func (s *runStore) open(id RunID) (*runReader, error) {
	f, err := s.openFile(id)
	if err != nil {
		return nil, fmt.Errorf("open run: %w", err)
	}
	r := &runReader{store: s, file: f, path: s.path(id)}
	if err := r.begin(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// begin reads the head of the footer. What the hash of the footer guards besides was checked when the run was
// written, or by recovery; pages and blocks have checksums of their own.
func (r *runReader) begin() error {
	f, at := r.file, r.path
	damage := func(format string, args ...any) error {
		return &runDamage{Path: at, What: fmt.Sprintf(format, args...)}
	}
	r.tables = f.file
	size := f.length
	if f.key != nil {
		pages, blocks := r.store.clear(f), r.store.clear(f)
		r.held = append(r.held, pages, blocks)
		r.tables, r.blocks, size = pageReader{pages}, blocks, pages.size
	} else {
		r.buf = r.store.blocks.Get().(*[]byte)
		r.blocks = &aheadReader{f: f.file, buf: *r.buf}
	}
	if size < packHeaderSize+runHeadSize+packTrailerSize {
		return damage("%d bytes are too few", size)
	}
	var tail [runHeadSize + packTrailerSize]byte
	if err := readPart(r.tables, tail[:], size-int64(len(tail)), "footer", runKind, at, damage); err != nil {
		return err
	}
	t, err := parseTrailer(tail[runHeadSize:], runTrailerMagic)
	if err != nil {
		return damage("%v", err)
	}
	foot, err := parseRunFooter(tail[:runHeadSize])
	if err != nil {
		return damage("%v", err)
	}
	if foot.ID != f.id || t.Offset < packHeaderSize || t.Length < runHeadSize || t.Offset+t.Length+packTrailerSize != size {
		return damage("footer of another run, or at [%d, +%d) of %d bytes", t.Offset, t.Length, size)
	}
	r.head, r.sum, r.key = foot.RunHead, foot.runTotals, f.key
	r.ref = runRef{ID: foot.ID, Length: f.length, Footer: t.Footer}
	r.offset, r.length = t.Offset, t.Length-runHeadSize
	return nil
}

// Close gives the file free; after the last Close a run that is dead goes. Again it does nothing.
func (r *runReader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	for _, c := range r.held {
		c.Close()
	}
	if r.buf != nil {
		r.store.blocks.Put(r.buf)
	}
	return r.store.closeReader(r.file)
}

// cursor of the table, before its first entry.
func (r *runReader) cursor() *tableCursor {
	return &tableCursor{r: r.tables, off: r.offset, length: r.length, id: r.ref.ID, kind: r.head.Kind, end: r.offset, page: -1}
}

// tableErr says which run's table cannot be read, and that it is damage where it is.
func (r *runReader) tableErr(err error) error {
	if damagedTable(err) {
		return &runDamage{Path: r.path, What: err.Error()}
	}
	return fmt.Errorf("read footer of run %q: %w", r.path, err)
}

// runLoss is the error for a damaged block, or a damaged page of the footer: its rows cannot be read, those behind it
// can.
type runLoss struct {
	ID            RunID
	Path          string
	Offset        int64  // of the block or page, in clear bytes
	Length        int64  // of it
	First, Next   uint64 // range of its rows in a raw run; 0: routed
	Rows, Records int64  // 0 where a page is damaged
	What          string
}

func (e *runLoss) Error() string {
	return fmt.Sprintf("%d bytes at %d of run %q, %d rows of %d records: %s", e.Length, e.Offset, e.Path, e.Rows, e.Records, e.What)
}

// runScratch is what reading blocks needs, for one reader at a time.
type runScratch struct{ stored, clear []byte }

// block reads the rows of a block. Errors: *runLoss, or the file system's.
func (r *runReader) block(s *runScratch, off int64, info blockInfo) (rowDecoder, error) {
	loss := func(err error) (rowDecoder, error) {
		return rowDecoder{}, &runLoss{ID: r.ref.ID, Path: r.path, Offset: off, Length: info.Length, Rows: info.Rows, Records: info.Records, What: err.Error()}
	}
	if int64(cap(s.stored)) < info.Length {
		s.stored = make([]byte, max(info.Length, runBlock/4))
	}
	stored := s.stored[:info.Length]
	err := readFull(r.blocks, stored, off)
	if errors.Is(err, errUnsealed) || errors.Is(err, io.ErrUnexpectedEOF) {
		return loss(err)
	}
	if err != nil {
		return rowDecoder{}, fmt.Errorf("read run %q: %w", r.path, err)
	}
	rows, err := openRunBlock(s.clear, stored, r.ref.ID, off, info.Rows)
	if err != nil {
		return loss(err)
	}
	if cap(rows) > cap(s.clear) && cap(rows) != cap(stored[runBlockHeader:]) {
		s.clear = rows
	}
	return rowDecoder{b: rows, meta: r.head.Meta}, nil
}

// rows iterates over the rows of an entry. A *runLoss is a damaged block, behind which it goes on; any other error is
// the last. A row is valid until the next step.
func (r *runReader) rows(s *runScratch, e runEntry) iter.Seq2[RunRow, error] {
	return func(yield func(RunRow, error) bool) {
		for off := e.Offset; e.Blocks > 0; {
			info := e.info()
			d, err := r.block(s, off, info)
			at := off
			off += info.Length
			if err == nil {
				for left := info.Rows; ; left-- {
					var row RunRow
					if err = d.next(&row); err != nil {
						if err == io.EOF && left == 0 {
							err = nil
						} else { // its checksum is right: it was written so
							err = &runLoss{ID: r.ref.ID, Path: r.path, Offset: at, Length: info.Length, Rows: left, Records: min(left, info.Records), What: "has other rows than it should"}
						}
						break
					}
					if !yield(row, nil) {
						return
					}
				}
			}
			if err == nil {
				continue
			}
			if !yield(RunRow{}, err) {
				return
			}
			if _, lost := errors.AsType[*runLoss](err); !lost {
				return
			}
		}
	}
}

// rawRows iterates over the rows at and above sequence from. A *runLoss is a damaged block, or a damaged page of the
// footer with what it says of blocks, behind which it goes on; it speaks of sequences at and above from only, and of
// the rows among them where that is known. Any other error is the last. A row is valid until the next step. Raw runs.
func (r *runReader) rawRows(from uint64) iter.Seq2[RunRow, error] {
	return func(yield func(RunRow, error) bool) {
		var s runScratch
		t := r.cursor()
		skipped := int64(-1)
		t.skip = func(page int64) {
			if skipped < 0 {
				skipped = page
			}
		}
		for seq := max(r.head.First, from); ; {
			if err := t.next(); err != nil {
				yield(RunRow{}, r.tableErr(err))
				return
			}
			if skipped >= 0 {
				loss := &runLoss{
					ID: r.ref.ID, Path: r.path, Offset: r.offset + skipped*runPage, Length: runPage,
					First: seq, Next: r.head.Next, What: errPage.Error(),
				}
				if t.some {
					loss.Next = t.cur.First
				}
				if skipped = -1; loss.First < loss.Next && !yield(RunRow{}, loss) {
					return
				}
			}
			if !t.some {
				return
			}
			if t.cur.Next <= from {
				continue
			}
			seq = t.cur.Next
			for row, err := range r.rows(&s, t.cur) {
				if loss, lost := errors.AsType[*runLoss](err); lost {
					loss.First, loss.Next = max(t.cur.First, from), t.cur.Next
					loss.Rows = 0
					for c := range t.cur.each {
						if end := c.First + uint64(c.Count); end > from {
							loss.Rows += int64(end - max(c.First, from))
						}
					}
					loss.Records = loss.Rows
				} else if err == nil && row.Seq < from {
					continue
				}
				if !yield(row, err) {
					return
				}
			}
		}
	}
}

// setRunAside copies a run with damage to quarantine/, once in a process, and returns the name of the copy under the
// data directory. What cannot be read of it is zeros or missing.
func (b *Buffer) setRunAside(id RunID) (name string, err error) {
	s := b.runs
	s.asideMu.Lock()
	defer s.asideMu.Unlock()
	name = path.Join(quarantineDir, hex.EncodeToString(id[:])+runSuffix)
	if s.aside[id] {
		return name, nil
	}
	err = makeFile(b.fs, path.Join(b.dir, name), func(f fsys.File) error {
		run, err := b.fs.OpenFile(s.path(id), fsys.ReadOnly)
		if err != nil {
			return err
		}
		defer run.Close()
		size, err := run.Size()
		if err != nil {
			return err
		}
		n, err := copyBytes(f, 0, run, size)
		if err == nil && n < size {
			b.log.Error("a run that is set aside can be read in part only", "run", name, "bytes", n, "of", size)
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("set run aside: %w", err)
	}
	s.aside[id] = true
	return name, nil
}
