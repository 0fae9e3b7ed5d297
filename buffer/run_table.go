package buffer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The footer of a run is a table and a head of 192 bytes (run_footer.go). The table says where the rows of each key
// are; it is cut into pages of 16 KiB, the last one shorter, each of which is read and checked by itself: who looks for keys in a
// hundred runs holds a page of each, not their footers.
//
//	page    0  CRC32C of the run's id, the page's number u64, and what follows the checksum
//	        4  bytes of entries u32
//	        8  entries, then zeros
//
//	entry   key (length and bytes) · offset of its first block · rows · rows with which their record counts ·
//	        bytes of Data · blocks: count, and for each its length, its rows, and those that count
//	raw     the same with an empty key and one block, then: first sequence · sequences from it to the end of the
//	        block · chunks: count, and for each the sequences left out before it, its rows, bytes of Data, and the
//	        arrival of its first row as a signed difference from the chunk before, in µs
//
// Numbers are varints in their shortest form. Entries ascend by key. A key with more blocks than an entry may have,
// or with blocks in several parts of the file, has several entries, in the order of its rows. The blocks of an entry
// lie back to back.
const (
	runPage       = 16 << 10
	runPageHeader = 8

	maxEntryBlocks = 64
	maxEntryChunks = 256
	maxRunEntry    = 2*binary.MaxVarintLen32 + maxRunKey + 10*binary.MaxVarintLen64 + maxEntryBlocks*3*binary.MaxVarintLen32 + maxEntryChunks*4*binary.MaxVarintLen64
)

// maxRunEntry must fit a page.
const _ = uint(runPage - runPageHeader - maxRunEntry)

// blockInfo is what a table says of one block.
type blockInfo struct{ Length, Rows, Records int64 }

// runEntry is an entry of a table.
type runEntry struct {
	Key     []byte
	Offset  int64
	Rows    int64
	Records int64
	Bytes   int64
	Blocks  int

	blocks []byte // encoded
	whole  []byte // the entry as it is encoded

	// Of raw runs.
	First, Next uint64
	chunks      []byte // encoded, with their count
}

// info takes the next block off the entry.
func (e *runEntry) info() blockInfo {
	r := footerReader{b: e.blocks}
	b := blockInfo{int64(r.number(1<<63 - 1)), int64(r.number(1<<63 - 1)), int64(r.number(1<<63 - 1))}
	e.blocks = r.b
	e.Blocks--
	return b
}

// each iterates over the chunks of a raw entry.
func (e *runEntry) each(yield func(Chunk) bool) {
	r := footerReader{b: e.chunks}
	n := r.number(maxEntryChunks)
	seq, arrived := e.First, int64(0)
	for range n {
		c := Chunk{First: seq + r.number(1<<64-1), Count: int(r.number(1<<31 - 1)), Bytes: int64(r.number(1<<63 - 1))}
		arrived += r.signed()
		c.Arrived = arrived
		seq = c.First + uint64(c.Count)
		if !yield(c) {
			return
		}
	}
}

// appendEntry encodes an entry of a routed run.
func appendEntry(dst []byte, key []byte, offset, rows, records, data int64, blocks []blockInfo) []byte {
	dst = appendText(dst, key)
	for _, n := range []int64{offset, rows, records, data, int64(len(blocks))} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	for _, b := range blocks {
		dst = binary.AppendUvarint(dst, uint64(b.Length))
		dst = binary.AppendUvarint(dst, uint64(b.Rows))
		dst = binary.AppendUvarint(dst, uint64(b.Records))
	}
	return dst
}

// parseEntry takes an entry off b; what it holds are views. end is where blocks end.
func parseEntry(b []byte, kind RunKind, end int64, e *runEntry) (rest []byte, err error) {
	r := footerReader{b: b}
	e.Key = r.bytes()
	if len(e.Key) > maxRunKey || kind == RunRaw && len(e.Key) > 0 {
		r.fail(fmt.Sprintf("key of %d bytes", len(e.Key)))
	}
	e.Offset = int64(r.number(1<<62 - 1))
	e.Rows, e.Records, e.Bytes = int64(r.number(1<<62-1)), int64(r.number(1<<62-1)), int64(r.number(1<<62-1))
	e.Blocks = int(r.number(maxEntryBlocks))
	if e.Offset < packHeaderSize || e.Blocks == 0 {
		r.fail("entry without a block")
	}
	e.blocks = r.b
	at, rows, records := e.Offset, int64(0), int64(0)
	for range e.Blocks {
		n := int64(r.number(runBlockHeader + maxRunBlock))
		if n < runBlockHeader || at > end-n {
			r.fail("block outside of the file")
		}
		at += n
		rows += int64(r.number(1<<32 - 1))
		records += int64(r.number(1<<32 - 1))
	}
	if rows != e.Rows || records != e.Records || records > rows {
		r.fail("rows are not those of the blocks")
	}
	if r.err == nil {
		e.blocks = e.blocks[:len(e.blocks)-len(r.b)]
	}
	if kind == RunRaw && r.err == nil {
		parseChunks(&r, e)
	}
	e.whole = b[:len(b)-len(r.b)]
	return r.b, r.err
}

// parseChunks reads what entries of raw runs have more.
func parseChunks(r *footerReader, e *runEntry) {
	e.First = r.number(1<<64 - 1)
	span := r.number(1<<64 - 1)
	e.Next = e.First + span
	if e.Next < e.First || e.Blocks != 1 {
		r.fail("sequences run past the end")
	}
	e.chunks = r.b
	n := r.number(maxEntryChunks)
	var rows, data int64
	seq := e.First
	for i := range n {
		gap := r.number(1<<64 - 1)
		count := r.number(1<<31 - 1)
		left := e.Next - seq
		if i == 0 && gap > 0 || count == 0 || gap > left || count > left-gap {
			r.fail("chunk outside of its block")
			return
		}
		seq += gap + count
		rows += int64(count)
		data += int64(r.number(1<<62 - 1))
		r.signed()
		if r.err != nil {
			return
		}
	}
	if rows != e.Rows || data != e.Bytes || seq != e.Next {
		r.fail("chunks are not those of the block")
		return
	}
	e.chunks = e.chunks[:len(e.chunks)-len(r.b)]
}

// tableWriter cuts entries into pages.
type tableWriter struct {
	id    RunID
	page  []byte // with its header; nil: none is begun
	pages int64
	emit  func(page []byte) error
}

func (w *tableWriter) add(entry []byte) error {
	if w.page != nil && len(w.page)+len(entry) > runPage {
		if err := w.flush(runPage); err != nil {
			return err
		}
	}
	if w.page == nil {
		w.page = make([]byte, runPageHeader, runPage)
	}
	if len(w.page) == 0 {
		w.page = w.page[:runPageHeader]
	}
	w.page = append(w.page, entry...)
	return nil
}

// flush ends the page, padded to size bytes.
func (w *tableWriter) flush(size int) error {
	n := len(w.page)
	p := w.page[:max(n, size)]
	clear(p[n:])
	le := binary.LittleEndian
	le.PutUint32(p[4:], uint32(n-runPageHeader))
	le.PutUint32(p, placedCRC(w.id, w.pages, p[4:]))
	w.pages++
	w.page = w.page[:0]
	return w.emit(p)
}

// end flushes the last page.
func (w *tableWriter) end() error {
	if len(w.page) == 0 {
		return nil
	}
	return w.flush(0)
}

// errPage says that a page of a table is damaged.
var errPage = errors.New("a page of the footer does not match its checksum")

// tableCursor goes through the entries of a table. It holds one page.
type tableCursor struct {
	r      io.ReaderAt
	off    int64 // of the table
	length int64
	id     RunID
	kind   RunKind
	end    int64            // where blocks end
	order  int              // of equal keys in a merge
	skip   func(page int64) // is told of a damaged page, which is passed over; nil: it ends the reading

	page int64 // number of the page that buf holds, -1: none
	buf  []byte
	rest []byte // of buf, entries that were not read
	cur  runEntry
	some bool // cur is an entry
	past bool // the cursor stands behind the last entry
}

func (c *tableCursor) pages() int64 { return (c.length + runPage - 1) / runPage }

// load reads a page.
func (c *tableCursor) load(page int64) error {
	if c.buf == nil {
		c.buf = make([]byte, runPage)
	}
	c.page, c.rest, c.some = -1, nil, false
	b := c.buf[:min(runPage, c.length-page*runPage)]
	if err := readFull(c.r, b, c.off+page*runPage); err != nil {
		return err
	}
	if len(b) <= runPageHeader || binary.LittleEndian.Uint32(b) != placedCRC(c.id, page, b[4:]) {
		return errPage
	}
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	if n == 0 || n > int64(len(b)-runPageHeader) || !allZero(b[runPageHeader+n:]) {
		return errPage
	}
	c.page, c.rest = page, b[runPageHeader:][:n]
	return nil
}

// stored is the page that the cursor stands in, as the file has it.
func (c *tableCursor) stored() []byte { return c.buf[:min(runPage, c.length-c.page*runPage)] }

// next goes to the next entry; some says whether there is one.
func (c *tableCursor) next() error {
	for {
		for len(c.rest) == 0 {
			if c.page+1 >= c.pages() {
				c.some, c.past = false, true
				return nil
			}
			if err := c.enter(c.page + 1); err != nil {
				return err
			}
		}
		err := c.parse()
		if err == nil || c.skip == nil {
			return err
		}
		c.skip(c.page)
		c.rest = nil
	}
}

// enter loads a page, of which nothing is left where it is skipped.
func (c *tableCursor) enter(page int64) error {
	err := c.load(page)
	if err == nil || c.skip == nil || !damagedTable(err) {
		return err
	}
	c.page = page
	c.skip(page)
	return nil
}

func (c *tableCursor) parse() (err error) {
	c.rest, err = parseEntry(c.rest, c.kind, c.end, &c.cur)
	c.some = err == nil
	if err != nil {
		return &entryError{err}
	}
	return nil
}

// entryError says that an entry of a table is malformed.
type entryError struct{ error }

// damagedTable tells damage to a table from other reasons why it cannot be read.
func damagedTable(err error) bool {
	_, entry := errors.AsType[*entryError](err)
	return entry || errors.Is(err, errPage) || errors.Is(err, errUnsealed)
}

// reset forgets where the cursor stands.
func (c *tableCursor) reset() { c.page, c.rest, c.some, c.past = -1, nil, false, false }

// seek goes to the first entry whose key is key or above it. Since the last reset keys were asked for in ascending
// order; what is near is cheap.
func (c *tableCursor) seek(key []byte) error {
	low := int64(0)
	if c.past {
		return nil
	}
	if c.some {
		for start := c.page; c.page < start+2; {
			if bytes.Compare(c.cur.Key, key) >= 0 {
				return nil
			}
			if err := c.next(); err != nil || !c.some {
				return err
			}
		}
		low = c.page
	}
	// the last page that begins below key, or the first one; pages that cannot be read are no help
	for high := c.pages(); low+1 < high; {
		mid := low + (high-low)/2
		err := c.load(mid)
		if err == nil {
			err = c.parse()
		}
		switch {
		case err != nil && (c.skip == nil || !damagedTable(err)):
			return err
		case err == nil && bytes.Compare(c.cur.Key, key) < 0:
			low = mid
		default:
			high = mid
		}
	}
	c.page, c.rest = low-1, nil
	for {
		if err := c.next(); err != nil || !c.some || bytes.Compare(c.cur.Key, key) >= 0 {
			return err
		}
	}
}

// tableMerge goes through several tables as one: by key, and where keys are equal by order.
type tableMerge []*tableCursor

func (m tableMerge) less(a, b *tableCursor) bool {
	if n := bytes.Compare(a.cur.Key, b.cur.Key); n != 0 {
		return n < 0
	}
	return a.order < b.order
}

// newTableMerge takes cursors that stand at their first entry, or at none.
func newTableMerge(cursors []*tableCursor) tableMerge {
	var m tableMerge
	for _, c := range cursors {
		if c.some {
			m = append(m, c)
		}
	}
	for i := len(m)/2 - 1; i >= 0; i-- {
		m.down(i)
	}
	return m
}

func (m tableMerge) down(i int) {
	for {
		least := i
		for _, j := range []int{2*i + 1, 2*i + 2} {
			if j < len(m) && m.less(m[j], m[least]) {
				least = j
			}
		}
		if least == i {
			return
		}
		m[i], m[least] = m[least], m[i]
		i = least
	}
}

// next goes to the entry behind that of m[0].
func (m *tableMerge) next() error {
	c := (*m)[0]
	if err := c.next(); err != nil {
		return err
	}
	if !c.some {
		last := len(*m) - 1
		(*m)[0] = (*m)[last]
		*m = (*m)[:last]
	}
	m.down(0)
	return nil
}
