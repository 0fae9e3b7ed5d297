package parquet

import (
	"encoding/binary"
	"math/bits"
	"slices"

	pq "github.com/parquet-go/parquet-go/format"
)

// When a column's dictionary is given up: at once when most of its first values differ, after the first
// page when it has turned out not to be worth it, and when it is large. The column stays without one for the
// rest of the file.
const (
	dictEarly    = 2048    // distinct values that are looked at early:
	dictEarlyOf  = 2730    // given up when they came within so many values
	dictMaxBytes = 1 << 20 // of the dictionary page; less where pages are to be smaller
)

// A dictionary numbers the distinct values of a column in the order in which they first came. It is an
// open-addressing table with values of up to 16 bytes inside the cells, so that a probe costs one cache
// line; longer ones are in page, which is the dictionary page as PLAIN has it.
//
// Values that a refused record brought are taken out again: they are the last that came, so taking them out
// backwards leaves the table as it was.
type dictionary struct {
	trying bool // values go into idx
	used   bool // a finished page of this row group needs the dictionary
	given  bool // up, for the rest of this file

	seed    uint64
	cells   []cell
	shift   uint8
	page    []byte
	starts  []uint32 // of each value of variable length in page, after its length
	firsts  []int64  // number of the value, in the row group, that brought each entry
	before  int64    // values in finished pages of this row group
	fixed   int      // bytes of a value, or 0 where values have their length before them
	numeric bool     // cells hold numbers
	most    int      // bytes of page at which the dictionary is given up
}

// cell of the table: 32 bytes, two of them in a cache line.
type cell struct {
	a, b uint64 // the value; for text of more than 16 bytes its hash and 0
	n    uint32 // bytes of text, plus 1; 1 with numbers; 0: the cell is free
	id   uint32 // number of the value
	_    uint64
}

const (
	minCells  = 16
	hashMul   = 0x9E3779B97F4A7C15
	hashText  = 0xa0761d6478bd642f
	hashText2 = 0xe7037ed1a0b428db
)

// inlineMask has ones for the bytes of a text of up to 16 bytes, in two words.
var inlineMask = func() (t [17][2]uint64) {
	for n := range t {
		if n >= 8 {
			t[n] = [2]uint64{^uint64(0), 1<<(8*(n-8)) - 1}
		} else {
			t[n] = [2]uint64{1<<(8*n) - 1, 0}
		}
	}
	return t
}()

func (d *dictionary) init(c *column, page int64) {
	d.trying = true
	d.most = int(min(dictMaxBytes, page))
	d.setCells(1)
	switch c.physical {
	case pq.Int32, pq.Float:
		d.fixed, d.numeric = 4, true
	case pq.Int64, pq.Double:
		d.fixed, d.numeric = 8, true
	case pq.ByteArray:
	default:
		d.fixed = c.width
	}
}

// count is the number of distinct values.
func (d *dictionary) count() int { return len(d.firsts) }

// indexWidth is the bits of an index.
func (d *dictionary) indexWidth() int { return bits.Len(uint(max(d.count(), 1) - 1)) }

// number returns the index of a number that is the at-th value of the open page.
func (d *dictionary) number(v uint64, at int) uint32 {
	mask := uint64(len(d.cells) - 1)
	for i := (v ^ d.seed) * hashMul >> d.shift; ; i = (i + 1) & mask {
		c := &d.cells[i]
		if c.a == v && c.n == 1 {
			return c.id
		}
		if c.n == 0 {
			return d.newNumber(v, at)
		}
	}
}

func (d *dictionary) newNumber(v uint64, at int) uint32 {
	if d.fixed == 4 {
		d.page = binary.LittleEndian.AppendUint32(d.page, uint32(v))
	} else {
		d.page = binary.LittleEndian.AppendUint64(d.page, v)
	}
	return d.insert(at, cell{a: v, n: 1})
}

// word returns the index of text that is the at-th value of the open page. It is quick when 16 bytes of v's
// memory can be read.
func (d *dictionary) word(v []byte, at int) uint32 {
	n := len(v)
	mask := uint64(len(d.cells) - 1)
	if n > 16 {
		h := hashLong(v, d.seed)
		for i := h >> d.shift; ; i = (i + 1) & mask {
			c := &d.cells[i]
			if c.a == h && c.n == uint32(n)+1 && string(d.value(c.id)) == string(v) {
				return c.id
			}
			if c.n == 0 {
				return d.newWord(v, at, cell{a: h, n: uint32(n) + 1})
			}
		}
	}
	if cap(v) < 16 {
		v = append(make([]byte, 0, 16), v...)
	}
	w := v[:16]
	m := &inlineMask[n]
	a, b := load8(w, 0)&m[0], load8(w, 8)&m[1]
	for i := hashShort(a, b, d.seed) >> d.shift; ; i = (i + 1) & mask {
		c := &d.cells[i]
		if c.a == a && c.b == b && c.n == uint32(n)+1 {
			return c.id
		}
		if c.n == 0 {
			return d.newWord(v, at, cell{a: a, b: b, n: uint32(n) + 1})
		}
	}
}

func (d *dictionary) newWord(v []byte, at int, k cell) uint32 {
	if d.fixed == 0 {
		d.page = binary.LittleEndian.AppendUint32(d.page, uint32(len(v)))
		d.starts = append(d.starts, uint32(len(d.page)))
	}
	d.page = append(d.page, v...)
	return d.insert(at, k)
}

// hashShort is for text of up to 16 bytes, which is a and b. Texts that differ in length only, by zero bytes
// at their end, meet.
func hashShort(a, b, seed uint64) uint64 {
	// Both factors hide behind the seed: a factor of zero would make all products alike.
	hi, lo := bits.Mul64(a^seed, b^bits.RotateLeft64(seed, 32)^hashText)
	return hi ^ lo
}

// hashLong is for text of more than 16 bytes.
func hashLong(v []byte, seed uint64) uint64 {
	n := len(v)
	x, y := seed^uint64(n), seed^hashText2
	k := bits.RotateLeft64(seed, 32) ^ hashText // hides the other factor too
	i := 0
	for ; i+32 < n; i += 32 {
		hi, lo := bits.Mul64(load8(v, i)^k, load8(v, i+8)^x)
		x = hi ^ lo
		hi, lo = bits.Mul64(load8(v, i+16)^k, load8(v, i+24)^y)
		y = hi ^ lo
	}
	if i+16 < n {
		hi, lo := bits.Mul64(load8(v, i)^k, load8(v, i+8)^x)
		x = hi ^ lo
	}
	hi, lo := bits.Mul64(load8(v, n-16)^k, load8(v, n-8)^y)
	return (hi ^ lo ^ x) * hashMul
}

// value is the bytes of an entry.
func (d *dictionary) value(id uint32) []byte {
	if d.fixed > 0 {
		return d.page[int(id)*d.fixed : int(id+1)*d.fixed]
	}
	end := uint32(len(d.page))
	if int(id)+1 < len(d.starts) {
		end = d.starts[id+1] - 4
	}
	return d.page[d.starts[id]:end]
}

func (d *dictionary) hash(k *cell) uint64 {
	switch {
	case d.numeric:
		return (k.a ^ d.seed) * hashMul
	case k.n > 17:
		return k.a
	}
	return hashShort(k.a, k.b, d.seed)
}

// insert gives the value whose bytes were just put into page the next number.
func (d *dictionary) insert(at int, k cell) uint32 {
	if 2*d.count()+2 > len(d.cells) {
		d.grow()
	}
	k.id = uint32(d.count())
	d.firsts = append(d.firsts, d.before+int64(at))
	d.place(&k)
	return k.id
}

func (d *dictionary) place(k *cell) {
	mask := uint64(len(d.cells) - 1)
	i := d.hash(k) >> d.shift
	for d.cells[i].n != 0 {
		i = (i + 1) & mask
	}
	d.cells[i] = *k
}

// grow makes the table four times as large. Entries are put in again in the order of their numbers, which
// forget relies on.
func (d *dictionary) grow() {
	byID := make([]cell, d.count())
	for _, k := range d.cells {
		if k.n != 0 {
			byID[k.id] = k
		}
	}
	d.setCells(max(minCells, 4*len(d.cells)))
	for i := range byID {
		d.place(&byID[i])
	}
}

func (d *dictionary) setCells(n int) {
	d.cells = make([]cell, n)
	d.shift = uint8(64 - bits.Len(uint(n)-1))
}

// forget takes out the entries that no value before the at-th of the open page brought.
func (d *dictionary) forget(at int) {
	limit := d.before + int64(at)
	for n := d.count(); n > 0 && d.firsts[n-1] >= limit; n-- {
		d.remove(uint32(n - 1))
	}
}

// remove takes out the last entry.
func (d *dictionary) remove(id uint32) {
	mask := uint64(len(d.cells) - 1)
	i := d.hashOf(d.value(id)) >> d.shift
	for d.cells[i].id != id || d.cells[i].n == 0 {
		i = (i + 1) & mask
	}
	d.cells[i] = cell{}
	if d.fixed > 0 {
		d.page = d.page[:int(id)*d.fixed]
	} else {
		d.page = d.page[:d.starts[id]-4]
		d.starts = d.starts[:id]
	}
	d.firsts = d.firsts[:id]
}

// hashOf is the hash of an entry from its bytes in page.
func (d *dictionary) hashOf(v []byte) uint64 {
	n := len(v)
	switch {
	case d.fixed == 4 && d.numeric:
		return (uint64(binary.LittleEndian.Uint32(v)) ^ d.seed) * hashMul
	case d.numeric:
		return (binary.LittleEndian.Uint64(v) ^ d.seed) * hashMul
	case n > 16:
		return hashLong(v, d.seed)
	}
	var w [16]byte
	copy(w[:], v)
	return hashShort(binary.LittleEndian.Uint64(w[:]), binary.LittleEndian.Uint64(w[8:]), d.seed)
}

// hopeless reports whether the dictionary has shown that it is not worth it; values is how many the open
// page has.
func (d *dictionary) hopeless(values int) bool {
	total := d.before + int64(values)
	return len(d.page) > d.most ||
		d.count() >= dictEarly && int64(d.count())*dictEarlyOf > total*dictEarly ||
		d.before == 0 && values >= dictFirstPage && int64(d.count())*3 > total*2
}

// dictFirstPage is how many values are enough to judge the first page before it is full.
const dictFirstPage = 4096

// giveUp writes the values of the open page out and goes on without a dictionary.
func (c *column) giveUp() {
	c.given, c.trying = true, false
	switch c.physical {
	case pq.Int32, pq.Float:
		c.i32 = slices.Grow(c.i32, len(c.idx))
		for _, id := range c.idx {
			c.i32 = append(c.i32, int32(binary.LittleEndian.Uint32(c.page[4*id:])))
		}
	case pq.Int64, pq.Double:
		c.i64 = slices.Grow(c.i64, len(c.idx))
		for _, id := range c.idx {
			c.i64 = append(c.i64, int64(binary.LittleEndian.Uint64(c.page[8*id:])))
		}
	case pq.ByteArray:
		for _, id := range c.idx {
			c.plainText(c.value(id))
		}
	default:
		for _, id := range c.idx {
			c.bytes = append(c.bytes, c.value(id)...)
		}
	}
	c.idx = c.idx[:0]
	if !c.used {
		c.dictionary.empty()
	}
}

// empty takes out all entries; the table keeps its memory.
func (d *dictionary) empty() {
	if d.count() > 0 {
		clear(d.cells)
	}
	d.page, d.starts, d.firsts = d.page[:0], d.starts[:0], d.firsts[:0]
	d.before = 0
}

// release gives up the memory of an empty dictionary.
func (d *dictionary) release() {
	d.setCells(1)
	d.page, d.starts, d.firsts = nil, nil, nil
}

// memory of the dictionary, in bytes.
func (d *dictionary) memory() int64 {
	return int64(32*len(d.cells) + cap(d.page) + 4*cap(d.starts) + 8*cap(d.firsts))
}
