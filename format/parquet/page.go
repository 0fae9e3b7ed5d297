package parquet

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/parquet-go/parquet-go/encoding/delta"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	pq "github.com/parquet-go/parquet-go/format"
)

// chunk is what a column has of the row group so far: finished pages, compressed, in the arena.
type chunk struct {
	pages        []page
	dict         page // of the dictionary; its size is 0 where there is none
	entries      int64
	nulls        int64
	uncompressed int64 // bytes of all pages with their headers
	compressed   int64
	low, high    bound // over all pages
	encodings    [3]encodingCount
	unbounded    bool // some page with values has no bounds
}

// encodingCount is how many data pages have an encoding.
type encodingCount struct {
	encoding pq.Encoding
	pages    int32
}

// page is a finished page.
type page struct {
	at       []extent
	size     int // header and body, compressed
	firstRow int
	nulls    int64
	empty    bool // nothing but nulls
	low      bound
	high     bound
}

// pager encodes, compresses and stores pages. It has the buffers of one encoder.
type pager struct {
	o     *Options
	comp  compressor
	arena arena
	raw   []byte // levels and values of the page at hand
	out   []byte // compressed
	tmp   []byte // levels
	head  headBuffer
	thr   *thrift.Encoder
	delta delta.BinaryPackedEncoding
	used  []bool // dictionary entries that the page at hand has
	hdr   pq.PageHeader
}

// headBuffer collects what the thrift encoder writes.
type headBuffer struct{ b []byte }

func (h *headBuffer) Write(p []byte) (int, error) {
	h.b = append(h.b, p...)
	return len(p), nil
}

func newPager(o *Options) *pager {
	p := &pager{o: o, comp: newCompressor(o.Compression)}
	p.thr = thrift.NewEncoder(new(thrift.CompactProtocol).NewWriter(&p.head))
	return p
}

// held is the memory of the buffers, in bytes.
func (p *pager) held() int64 {
	return int64(cap(p.raw) + cap(p.out) + cap(p.tmp) + cap(p.head.b) + cap(p.used))
}

// release gives up buffers between two pages.
func (p *pager) release() { p.raw, p.out, p.tmp, p.head.b, p.used = nil, nil, nil, nil, nil }

// finish ends the open page of c, which has the rows up to row, and stores it. It does nothing for a page
// without rows.
func (p *pager) finish(c *column, row int) {
	if row == c.first {
		return
	}
	values := c.values()
	if c.trying && c.before == 0 && int64(c.count())*3 > int64(values)*2 {
		c.giveUp()
	}
	entries := row - c.first
	if c.maxRep > 0 {
		entries = len(c.reps) + row - c.rows
	}
	pg := page{firstRow: c.first, nulls: int64(entries - values), empty: values == 0}
	if values > 0 {
		pg.low, pg.high = p.bounds(c)
	}

	rep, def := p.levels(c, row)
	raw := p.raw[:0]
	if c.modern {
		raw = append(append(raw, p.tmp[:rep]...), p.tmp[rep:rep+def]...)
	} else {
		if c.maxRep > 0 {
			raw = binary.LittleEndian.AppendUint32(raw, uint32(rep))
			raw = append(raw, p.tmp[:rep]...)
		}
		if c.maxDef > 0 {
			raw = binary.LittleEndian.AppendUint32(raw, uint32(def))
			raw = append(raw, p.tmp[rep:rep+def]...)
		}
	}
	levels := len(raw)
	raw, encoding := p.encode(raw, c)
	p.raw = raw

	if len(raw) > math.MaxInt32/2 {
		panic("bug: a page of more than 1 GiB, from rows that are limited")
	}
	h := &p.hdr
	*h = pq.PageHeader{UncompressedPageSize: int32(len(raw))}
	var body []byte
	if c.modern {
		h.Type = pq.DataPageV2
		d := pq.DataPageHeaderV2{
			NumValues: int32(entries), NumNulls: int32(pg.nulls), NumRows: int32(row - c.first), Encoding: encoding,
			RepetitionLevelsByteLength: int32(rep), DefinitionLevelsByteLength: int32(def),
		}
		var squeezed bool
		body, squeezed = p.squeeze(c, raw, levels)
		d.IsCompressed.Set(squeezed)
		h.DataPageHeaderV2.Set(d)
	} else {
		h.Type = pq.DataPage
		h.DataPageHeader.Set(pq.DataPageHeader{NumValues: int32(entries), Encoding: encoding, DefinitionLevelEncoding: pq.RLE, RepetitionLevelEncoding: pq.RLE})
		body = raw
		if p.o.Compression != None {
			p.out = p.comp.compress(p.out[:0], raw)
			body = p.out
		}
	}
	pg.at, pg.size = p.store(h, body, &c.chunk)

	k := &c.chunk
	k.entries += int64(entries)
	k.nulls += pg.nulls
	k.count(encoding)
	if values > 0 {
		if pg.low.ok && pg.high.ok {
			k.low.lower(c, pg.low)
			k.high.raise(c, pg.high)
		} else {
			k.unbounded = true
		}
	}
	k.pages = append(k.pages, pg)
	if c.trying {
		c.used = true
		c.before += int64(values)
	}
	c.nextPage(row)
}

// reset empties the chunk; its slice of pages keeps its memory.
func (k *chunk) reset() {
	clear(k.pages)
	*k = chunk{pages: k.pages[:0]}
}

func (k *chunk) count(e pq.Encoding) {
	for i := range k.encodings {
		if n := &k.encodings[i]; n.pages == 0 || n.encoding == e {
			n.encoding = e
			n.pages++
			return
		}
	}
	panic(fmt.Sprintf("bug: a chunk with more than %d encodings", len(k.encodings)))
}

// levels puts the encoded repetition and then definition levels into tmp and returns their lengths.
func (p *pager) levels(c *column, row int) (rep, def int) {
	p.tmp = p.tmp[:0]
	if c.maxRep > 0 {
		p.tmp = appendLevelRuns(p.tmp, c.reps, 0, 0, row-c.rows, c.maxRep)
		rep = len(p.tmp)
		p.tmp = appendLevelRuns(p.tmp, c.defs, 0, 0, row-c.rows, c.maxDef)
		return rep, len(p.tmp) - rep
	}
	if c.maxDef > 0 {
		p.tmp = appendLevelRuns(p.tmp, c.defs, c.maxDef, c.rows-c.first-len(c.defs), row-c.rows, c.maxDef)
	}
	return 0, len(p.tmp)
}

// encode appends the values of the open page.
func (p *pager) encode(dst []byte, c *column) ([]byte, pq.Encoding) {
	if c.trying {
		width := c.indexWidth()
		dst = append(dst, byte(width))
		return appendIndexes(dst, c.idx, uint(width)), pq.RLEDictionary
	}
	switch c.physical {
	case pq.Boolean:
		return appendBits(dst, c.bools), pq.Plain
	case pq.Int32:
		if c.modern {
			return p.delta32(dst, c.i32), pq.DeltaBinaryPacked
		}
		return appendInt32(dst, c.i32), pq.Plain
	case pq.Float:
		return appendInt32(dst, c.i32), pq.Plain
	case pq.Int64:
		if c.modern {
			return p.delta64(dst, c.i64), pq.DeltaBinaryPacked
		}
		return appendInt64(dst, c.i64), pq.Plain
	case pq.Double:
		return appendInt64(dst, c.i64), pq.Plain
	case pq.ByteArray:
		if c.modern {
			dst = p.delta32(dst, c.lens)
			return append(dst, c.bytes...), pq.DeltaLengthByteArray
		}
	}
	return append(dst, c.bytes...), pq.Plain
}

func (p *pager) delta32(dst []byte, v []int32) []byte {
	out, err := p.delta.EncodeInt32(p.out[:0], v)
	if err != nil {
		panic("bug: delta encoding of 32-bit integers: " + err.Error())
	}
	p.out = out
	return append(dst, out...)
}

func (p *pager) delta64(dst []byte, v []int64) []byte {
	out, err := p.delta.EncodeInt64(p.out[:0], v)
	if err != nil {
		panic("bug: delta encoding of 64-bit integers: " + err.Error())
	}
	p.out = out
	return append(dst, out...)
}

func appendInt32(dst []byte, v []int32) []byte {
	n := len(dst)
	dst = grow(dst, 4*len(v))
	to := dst[n:]
	for i, x := range v {
		binary.LittleEndian.PutUint32(to[4*i:], uint32(x))
	}
	return dst
}

func appendInt64(dst []byte, v []int64) []byte {
	n := len(dst)
	dst = grow(dst, 8*len(v))
	to := dst[n:]
	for i, x := range v {
		binary.LittleEndian.PutUint64(to[8*i:], uint64(x))
	}
	return dst
}

// grow lengthens b by n bytes of any content.
func grow(b []byte, n int) []byte {
	if need := len(b) + n; need > cap(b) {
		b = append(make([]byte, 0, need+need/4), b...)
	}
	return b[:len(b)+n]
}

// appendBits appends one bit for each byte, which is 0 or 1, from the lowest up.
func appendBits(dst, v []byte) []byte {
	for len(v) >= 8 {
		// The multiplication brings the lowest bit of each byte into the highest byte.
		dst = append(dst, byte(binary.LittleEndian.Uint64(v)*0x0102040810204080>>56))
		v = v[8:]
	}
	if len(v) > 0 {
		var b byte
		for i, x := range v {
			b |= x << i
		}
		dst = append(dst, b)
	}
	return dst
}

// A page that compression makes hardly smaller is stored as it is, and the next few of its column too,
// before compression is tried again.
const (
	worthIt   = 16 // it must save one part in so many
	skipPages = 8
)

// squeeze compresses the values of a version 2 page, which begin at levels, where that is worth it.
func (p *pager) squeeze(c *column, raw []byte, levels int) (body []byte, squeezed bool) {
	values := raw[levels:]
	if p.o.Compression == None || len(values) == 0 {
		return raw, false
	}
	if c.skip > 0 {
		c.skip--
		return raw, false
	}
	out := append(p.out[:0], raw[:levels]...)
	out = p.comp.compress(out, values)
	p.out = out
	if len(out)-levels > len(values)-len(values)/worthIt {
		c.skip = skipPages - 1
		return raw, false
	}
	return out, true
}

// finishDictionary stores the dictionary page of c, where pages need one.
func (p *pager) finishDictionary(c *column) {
	if !c.used {
		return
	}
	h := &p.hdr
	*h = pq.PageHeader{Type: pq.DictionaryPage, UncompressedPageSize: int32(len(c.page))}
	h.DictionaryPageHeader.Set(pq.DictionaryPageHeader{NumValues: int32(c.dictionary.count()), Encoding: pq.Plain})
	body := c.page
	if p.o.Compression != None {
		p.out = p.comp.compress(p.out[:0], c.page)
		body = p.out
	}
	c.chunk.dict.at, c.chunk.dict.size = p.store(h, body, &c.chunk)
}

// store puts a page into the arena.
func (p *pager) store(h *pq.PageHeader, body []byte, k *chunk) ([]extent, int) {
	h.CompressedPageSize = int32(len(body))
	h.CRC = int32(crc32.ChecksumIEEE(body))
	p.head.b = p.head.b[:0]
	if err := p.thr.Encode(h); err != nil {
		panic("bug: encoding a page header: " + err.Error())
	}
	k.uncompressed += int64(len(p.head.b)) + int64(h.UncompressedPageSize)
	k.compressed += int64(len(p.head.b) + len(body))
	at := p.arena.add(nil, p.head.b)
	return p.arena.add(at, body), len(p.head.b) + len(body)
}

// markUsed notes which entries of the dictionary the open page has.
func (p *pager) markUsed(c *column) []bool {
	n := c.dictionary.count()
	if cap(p.used) < n {
		p.used = make([]bool, n+n/2)
	}
	p.used = p.used[:n]
	clear(p.used)
	for _, id := range c.idx {
		p.used[id] = true
	}
	return p.used
}
