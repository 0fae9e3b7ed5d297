package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	pq "github.com/parquet-go/parquet-go/format"

	"hydrant/format"
	"hydrant/record"
)

// createdBy is in every file. It is fixed, so that files do not differ by the version that wrote them; the
// form is the one that readers parse.
const createdBy = "hydrant version 1.0.0 (build 1)"

const magic = "PAR1"

// maxPageRows ends pages of columns whose values take little room, so that a reader can pass over parts of
// them too.
const maxPageRows = 32 << 10

// columnMemory is what every column may have, whatever the memory limit.
const columnMemory = 16 << 10

// encoder writes one file after another. What decides where pages and row groups end depends on the rows
// of the file alone, never on what an earlier file left behind.
type encoder struct {
	o       *Options
	plan    *plan
	sh      *shredder
	pager   *pager
	limit   int64 // of memory
	usual   int64
	pageMax int
	rowsMax int // rows of a page

	w       io.Writer
	err     error // sticky: of the writer, or that the file is closed
	written int64
	rows    int64 // in ended row groups

	groups  []pq.RowGroup
	columns []byte // column indexes, encoded
	offsets []byte // offset indexes
	lengths [][2]int32

	// When to look at sizes next. Looking at every column after every row would cost more than it tells.
	credit   int // bytes of records
	nextRows int
	input    int64 // bytes of records since the row group began
	open     int64 // what open pages and dictionaries will take in the file, as of the last look
	since    int64 // bytes of records since then
}

var errNoFile = errors.New("parquet: the encoder has no open file")

func newEncoder(f *Format) *encoder {
	p, err := compile(&f.o)
	if err != nil {
		panic("bug: a schema that New let pass: " + err.Error())
	}
	e := &encoder{o: &f.o, plan: p, sh: newShredder(&f.o, p), pager: newPager(&f.o), err: errNoFile}
	e.limit = max(f.o.MemoryLimit, int64(len(p.columns))*columnMemory)
	e.sh.fills = int(e.limit / fillShare)
	e.usual = f.o.Compression.usual()
	e.pageMax = int(f.o.Page)
	e.rowsMax = max(1, min(maxPageRows, e.sh.fills/len(p.columns)))
	// The seed keeps anyone from choosing values that meet in the table; it shows nowhere in the file.
	seed := rand.Uint64()
	for _, c := range p.columns {
		c.seed = seed
	}
	return e
}

var _ format.Encoder = (*encoder)(nil)

func (e *encoder) Reset(w io.Writer) {
	e.w, e.err = w, nil
	e.written, e.rows = 0, 0
	e.groups, e.columns, e.offsets, e.lengths = nil, e.columns[:0], e.offsets[:0], e.lengths[:0]
	for _, c := range e.plan.columns {
		c.given = false
		c.skip = 0
		c.packed, c.unpacked = 0, 0
	}
	e.nextGroup()
}

// nextGroup begins a row group.
func (e *encoder) nextGroup() {
	e.sh.row = 0
	e.pager.arena.reset(e.limit / 4)
	for _, c := range e.plan.columns {
		c.nextPage(0)
		c.began = 0
		c.dictionary.empty()
		c.used = false
		c.trying = !c.given && c.physical != pq.Boolean
		c.chunk.reset()
	}
	e.input, e.open, e.since = 0, 0, 0
	e.credit, e.nextRows = e.pageMax/16, e.rowsMax
}

func (e *encoder) Append(row record.Row) error {
	if e.err != nil {
		return e.err
	}
	first := e.sh.row
	n, ok := e.sh.record(row)
	if !ok {
		for _, c := range e.plan.columns {
			c.cut(first)
		}
		e.sh.row = first
	}
	size := len(row.Data) + e.sh.filled
	e.credit -= size
	e.input += int64(size)
	e.since += int64(size)
	if e.credit <= 0 || e.sh.row >= e.nextRows {
		if err := e.look(); err != nil {
			e.err = err
			if ok {
				return err
			}
		}
	}
	if !ok {
		return &format.RowError{Code: e.sh.fault.code, Message: e.sh.fault.text}
	}
	e.rows += int64(n)
	return nil
}

// look ends what has grown large enough, and decides when to look again.
func (e *encoder) look() error {
	row := e.sh.row
	room := math.MaxInt // bytes of records that are sure to fit, as things go
	e.nextRows = row + e.rowsMax
	var open, memory, taken int64
	for _, c := range e.plan.columns {
		if c.trying && c.hopeless(len(c.idx)) {
			c.giveUp()
		}
		size := c.size()
		if size >= e.pageMax || row-c.first >= e.rowsMax {
			e.finish(c, row)
			size = 0
		} else if size > 0 {
			room = min(room, int(float64(e.pageMax-size)/float64(size)*float64(e.input-c.began)))
		}
		if n := len(c.page); n > 0 {
			open += int64(n) * e.usual / 256
			if c.trying {
				room = min(room, int(float64(c.most-n)/float64(n)*float64(e.input)))
			}
		}
		open += e.squeezed(c, int64(size))
		memory += c.needs()
		taken += c.held() + c.dictionary.memory()
		e.nextRows = min(e.nextRows, c.first+e.rowsMax)
	}
	e.open, e.since = open, 0
	if taken += e.sh.held() + e.pager.held(); taken > e.limit/2 {
		e.giveBack()
	}
	memory += e.pager.arena.used
	group := e.pager.arena.used + open
	// Row groups are numbered with 15 bits: a file that would have very many gets larger ones.
	target := e.o.RowGroup << min(len(e.groups)>>12, 20)
	if group >= target || memory >= e.limit {
		return e.endGroup()
	}
	if group > 0 {
		room = min(room, int(float64(target-group)/float64(group)*float64(e.input)))
	}
	if memory > 0 {
		room = min(room, int(float64(e.limit-memory)/float64(memory)*float64(e.input)))
	}
	// Half of the way, should the data change; and never so far that a change could do much.
	e.credit = min(max(1, room/2), e.pageMax/8)
	return nil
}

// giveBack frees buffers that are much larger than what is in them, as a large record leaves behind. It has no
// say in what is written: that depends on what buffers need, not on what they have taken.
func (e *encoder) giveBack() {
	for _, c := range e.plan.columns {
		if c.held() > 4*c.needs()+columnMemory {
			c.shrink()
		}
	}
	if e.sh.held() > e.limit/16 {
		e.sh.release()
	}
	if e.pager.held() > e.limit/8 {
		e.pager.release()
	}
}

// finish ends the open page of a column.
func (e *encoder) finish(c *column, row int) {
	packed, unpacked := c.chunk.compressed, c.chunk.uncompressed
	e.pager.finish(c, row)
	c.packed += c.chunk.compressed - packed
	c.unpacked += c.chunk.uncompressed - unpacked
	c.began = e.input
}

// squeezed estimates what n bytes of the open page of c will take: in the proportion of its earlier pages, or
// the usual one.
func (e *encoder) squeezed(c *column, n int64) int64 {
	switch {
	case c.unpacked > 0:
		return int64(float64(n) * float64(c.packed) / float64(c.unpacked))
	case c.trying:
		return n // indexes have few repeats left
	}
	return n * e.usual / 256
}

// usual is what compression usually leaves of 256 bytes.
func (c Compression) usual() int64 {
	switch c {
	case None:
		return 256
	case Snappy:
		return 150
	}
	return 110
}

func (e *encoder) Buffered() int64 {
	if e.err != nil {
		return e.written
	}
	open := e.open
	if e.since > 0 && e.input > e.since {
		// Pages have grown since the last look as they had before it.
		open += int64(float64(e.open) * float64(e.since) / float64(e.input-e.since))
	} else if e.since > 0 {
		open += e.since / 2
	}
	footer := int64(len(e.columns)+len(e.offsets)) + int64(len(e.plan.elements))*16
	footer += int64(len(e.groups)+1) * int64(len(e.plan.columns)) * 96
	return e.written + e.pager.arena.used + open + footer
}

func (e *encoder) write(b []byte) error {
	n, err := e.w.Write(b)
	e.written += int64(n)
	if err != nil {
		return fmt.Errorf("write %d bytes of a Parquet file: %w", len(b), err)
	}
	return nil
}

// begin writes the start of the file.
func (e *encoder) begin() error {
	if e.written > 0 {
		return nil
	}
	return e.write([]byte(magic))
}

// endGroup writes the row group and begins the next. It does nothing when there are no rows.
func (e *encoder) endGroup() error {
	rows := e.sh.row
	if rows == 0 {
		return nil
	}
	if err := e.begin(); err != nil {
		return err
	}
	g := pq.RowGroup{NumRows: int64(rows), FileOffset: e.written, Ordinal: int16(len(e.groups))}
	g.Columns = make([]pq.ColumnChunk, len(e.plan.columns))
	for _, c := range e.plan.columns {
		e.finish(c, rows)
		e.pager.finishDictionary(c)
	}
	for i, c := range e.plan.columns {
		if err := e.writeChunk(&g.Columns[i], c); err != nil {
			return err
		}
		g.TotalByteSize += c.chunk.uncompressed
		g.TotalCompressedSize += c.chunk.compressed
	}
	e.groups = append(e.groups, g)
	e.nextGroup()
	return nil
}

// writeChunk writes the pages of a column and describes them.
func (e *encoder) writeChunk(out *pq.ColumnChunk, c *column) error {
	k := &c.chunk
	out.FileOffset = e.written
	m := &out.MetaData
	m.Type = c.physical
	m.PathInSchema = c.path
	m.Codec = e.o.Compression.codec()
	m.NumValues = k.entries
	m.TotalUncompressedSize = k.uncompressed
	m.TotalCompressedSize = k.compressed
	m.Statistics.NullCount = k.nulls
	if k.low.ok && k.high.ok && !k.unbounded {
		m.Statistics.MinValue = k.low.encode(c)
		m.Statistics.MaxValue = k.high.encode(c)
	}
	m.Encoding = []pq.Encoding{pq.RLE} // of levels
	if k.dict.size > 0 {
		m.Encoding = append(m.Encoding, pq.Plain)
		m.EncodingStats = append(m.EncodingStats, pq.PageEncodingStats{PageType: pq.DictionaryPage, Encoding: pq.Plain, Count: 1})
		m.DictionaryPageOffset = e.written
		if err := e.writePage(k.dict.at); err != nil {
			return err
		}
	}
	m.DataPageOffset = e.written
	kind := pq.DataPage
	if c.modern {
		kind = pq.DataPageV2
	}
	for _, n := range k.encodings {
		if n.pages == 0 {
			continue
		}
		if n.encoding != pq.Plain || k.dict.size == 0 {
			m.Encoding = append(m.Encoding, n.encoding)
		}
		m.EncodingStats = append(m.EncodingStats, pq.PageEncodingStats{PageType: kind, Encoding: n.encoding, Count: n.pages})
	}
	var offsets pq.OffsetIndex
	for i := range k.pages {
		p := &k.pages[i]
		offsets.PageLocations = append(offsets.PageLocations, pq.PageLocation{Offset: e.written, CompressedPageSize: int32(p.size), FirstRowIndex: int64(p.firstRow)})
		if err := e.writePage(p.at); err != nil {
			return err
		}
	}
	before := [2]int{len(e.columns), len(e.offsets)}
	if !k.unbounded {
		e.columns = appendThrift(e.columns, c.columnIndex())
	}
	e.offsets = appendThrift(e.offsets, &offsets)
	e.lengths = append(e.lengths, [2]int32{int32(len(e.columns) - before[0]), int32(len(e.offsets) - before[1])})
	return nil
}

func (e *encoder) writePage(at []extent) error {
	for _, x := range at {
		if err := e.write(e.pager.arena.bytes(x)); err != nil {
			return err
		}
	}
	return nil
}

// columnIndex describes the pages of the chunk by their bounds.
func (c *column) columnIndex() *pq.ColumnIndex {
	x := &pq.ColumnIndex{BoundaryOrder: c.boundaryOrder()}
	for i := range c.chunk.pages {
		p := &c.chunk.pages[i]
		x.NullPages = append(x.NullPages, p.empty)
		x.NullCounts = append(x.NullCounts, p.nulls)
		if p.empty {
			x.MinValues = append(x.MinValues, []byte{})
			x.MaxValues = append(x.MaxValues, []byte{})
			continue
		}
		x.MinValues = append(x.MinValues, p.low.encode(c))
		x.MaxValues = append(x.MaxValues, p.high.encode(c))
	}
	return x
}

func (c *column) boundaryOrder() pq.BoundaryOrder {
	up, down := true, true
	var last *page
	for i := range c.chunk.pages {
		p := &c.chunk.pages[i]
		if p.empty {
			continue
		}
		if last != nil {
			low, high := c.compare(last.low, p.low), c.compare(last.high, p.high)
			up = up && low <= 0 && high <= 0
			down = down && low >= 0 && high >= 0
		}
		last = p
	}
	switch {
	case up:
		return pq.Ascending
	case down:
		return pq.Descending
	}
	return pq.Unordered
}

func (e *encoder) Close() (format.Stats, error) {
	if e.err != nil {
		return format.Stats{}, e.err
	}
	if err := e.close(); err != nil {
		e.err = err
		return format.Stats{}, err
	}
	e.err = errNoFile
	e.w = nil
	return format.Stats{Rows: e.rows, Bytes: e.written}, nil
}

func (e *encoder) close() error {
	if err := e.begin(); err != nil {
		return err
	}
	if err := e.endGroup(); err != nil {
		return err
	}
	at := [2]int64{e.written, e.written + int64(len(e.columns))}
	for i := range e.lengths {
		out := &e.groups[i/len(e.plan.columns)].Columns[i%len(e.plan.columns)]
		n := e.lengths[i]
		if n[0] > 0 {
			out.ColumnIndexOffset, out.ColumnIndexLength = at[0], n[0]
		}
		out.OffsetIndexOffset, out.OffsetIndexLength = at[1], n[1]
		at[0], at[1] = at[0]+int64(n[0]), at[1]+int64(n[1])
	}
	if err := e.write(e.columns); err != nil {
		return err
	}
	if err := e.write(e.offsets); err != nil {
		return err
	}
	m := pq.FileMetaData{Version: 1, Schema: e.plan.elements, NumRows: e.rows, RowGroups: e.groups, CreatedBy: createdBy}
	if e.o.Encodings == Modern {
		m.Version = 2
	}
	m.ColumnOrders = make([]pq.ColumnOrder, len(e.plan.columns))
	for i := range m.ColumnOrders {
		m.ColumnOrders[i].Value = &pq.TypeDefinedOrder{}
	}
	footer := appendThrift(nil, &m)
	footer = binary.LittleEndian.AppendUint32(footer, uint32(len(footer)))
	return e.write(append(footer, magic...))
}

// appendThrift appends a structure in thrift's compact protocol.
func appendThrift(dst []byte, v any) []byte {
	b, err := thrift.Marshal(new(thrift.CompactProtocol), v)
	if err != nil {
		panic(fmt.Sprintf("bug: encoding %T: %v", v, err))
	}
	return append(dst, b...)
}
