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
	dictMaxBytes = 1 << 20 // of the dictionary page
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
}

// cell of the table: 32 bytes, two of them in a cache line.
type cell struct {
	a, b uint64 // the value; for text of more than 16 bytes its hash and 0
	n    uint32 // bytes of text
	id   uint32 // number of the value, plus 1; 0: the cell is free
	_    uint64
}

const minCells = 16

func (d *dictionary) init(c *column) {
	d.trying = true
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
	if len(d.cells) > 0 {
		mask := uint64(len(d.cells) - 1)
		for i := (v ^ d.seed) * 0x9E3779B97F4A7C15 >> d.shift; ; i = (i + 1) & mask {
			c := &d.cells[i]
			if c.id == 0 {
				break
			}
			if c.a == v {
				return c.id - 1
			}
		}
	}
	return d.newNumber(v, at)
}

func (d *dictionary) newNumber(v uint64, at int) uint32 {
	if d.fixed == 4 {
		d.page = binary.LittleEndian.AppendUint32(d.page, uint32(v))
	} else {
		d.page = binary.LittleEndian.AppendUint64(d.page, v)
	}
	return d.insert(at, cell{a: v})
}

// word returns the index of text that is the at-th value of the open page. 16 bytes of v's memory must be
// readable.
func (d *dictionary) word(v []byte, at int) uint32 {
	k, h := d.key(v)
	if len(d.cells) > 0 {
		mask := uint64(len(d.cells) - 1)
		for i := h >> d.shift; ; i = (i + 1) & mask {
			c := &d.cells[i]
			if c.id == 0 {
				break
			}
			if c.a == k.a && c.b == k.b && c.n == k.n && (len(v) <= 16 || string(d.value(c.id-1)) == string(v)) {
				return c.id - 1
			}
		}
	}
	return d.newWord(v, at, k)
}

func (d *dictionary) newWord(v []byte, at int, k cell) uint32 {
	if d.fixed == 0 {
		d.page = binary.LittleEndian.AppendUint32(d.page, uint32(len(v)))
		d.starts = append(d.starts, uint32(len(d.page)))
	}
	d.page = append(d.page, v...)
	return d.insert(at, k)
}

// key is what a cell holds of text, and the text's hash.
func (d *dictionary) key(v []byte) (cell, uint64) {
	n := len(v)
	if n <= 16 {
		w := v[:16]
		a, b := load8(w, 0), load8(w[8:], 0)
		if n < 8 {
			a, b = a&(1<<(8*n)-1), 0
		} else if n < 16 {
			b &= 1<<(8*(n-8)) - 1
		}
		k := cell{a: a, b: b, n: uint32(n)}
		return k, d.hash(k)
	}
	h := d.seed ^ uint64(n)
	for i := 0; i+16 < n; i += 16 {
		hi, lo := bits.Mul64(load8(v, i)^0xa0761d6478bd642f, load8(v, i+8)^h)
		h = hi ^ lo
	}
	hi, lo := bits.Mul64(load8(v, n-16)^0xe7037ed1a0b428db, load8(v, n-8)^h)
	h = (hi ^ lo) * 0x9E3779B97F4A7C15
	return cell{a: h, n: uint32(n)}, h
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

func (d *dictionary) hash(k cell) uint64 {
	if d.numeric {
		return (k.a ^ d.seed) * 0x9E3779B97F4A7C15
	}
	if k.n > 16 {
		return k.a
	}
	hi, lo := bits.Mul64(k.a^d.seed, k.b^0xa0761d6478bd642f^uint64(k.n)<<56)
	return (hi ^ lo) * 0x9E3779B97F4A7C15
}

// insert gives the value whose bytes were just put into page the next number.
func (d *dictionary) insert(at int, k cell) uint32 {
	if len(d.cells) == 0 || d.count()*2 >= len(d.cells) {
		d.grow()
	}
	d.firsts = append(d.firsts, d.before+int64(at))
	k.id = uint32(d.count())
	d.place(k)
	return k.id - 1
}

func (d *dictionary) place(k cell) {
	mask := uint64(len(d.cells) - 1)
	i := d.hash(k) >> d.shift
	for d.cells[i].id != 0 {
		i = (i + 1) & mask
	}
	d.cells[i] = k
}

// grow doubles the table. Entries are put in again in the order of their numbers, which forget relies on.
func (d *dictionary) grow() {
	old := d.cells
	byID := make([]cell, d.count())
	for _, k := range old {
		if k.id != 0 {
			byID[k.id-1] = k
		}
	}
	n := max(minCells, 4*len(old))
	d.cells = make([]cell, n)
	d.shift = uint8(64 - bits.Len(uint(n)) + 1)
	for _, k := range byID {
		d.place(k)
	}
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
	v := d.value(id)
	var h uint64
	if d.numeric {
		h = d.hash(cell{a: d.numberOf(v)})
	} else {
		_, h = d.key(append(make([]byte, 0, max(16, len(v))), v...))
	}
	mask := uint64(len(d.cells) - 1)
	i := h >> d.shift
	for d.cells[i].id != id+1 {
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

func (d *dictionary) numberOf(v []byte) uint64 {
	if d.fixed == 4 {
		return uint64(binary.LittleEndian.Uint32(v))
	}
	return binary.LittleEndian.Uint64(v)
}

// hopeless reports whether the dictionary has shown that it is not worth it; values is how many the open
// page has.
func (d *dictionary) hopeless(values int) bool {
	total := d.before + int64(values)
	return len(d.page) > dictMaxBytes ||
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

// memory of the dictionary, in bytes.
func (d *dictionary) memory() int64 {
	return int64(32*len(d.cells) + cap(d.page) + 4*cap(d.starts) + 8*cap(d.firsts))
}
