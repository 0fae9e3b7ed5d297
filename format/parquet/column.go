package parquet

import (
	"encoding/binary"
	"slices"

	pq "github.com/parquet-go/parquet-go/format"
)

// A column builds the open page of one leaf of the schema, and remembers the pages of the row group that
// are finished.
//
// Levels are lazy. A column without repetition does nothing for a value that is there, and nothing at all
// for a row that leaves it out: rows says how far it has come, and the row number that comes with the next
// value or null tells what it missed. defs has the levels of the first rows only; those between the end of
// defs and rows are all there, those from rows on are all absent. A column with repetition writes both
// levels of each entry, and is lazy only about rows that it was not given.
//
// Because a row's values come last in every slice, a row that turns out to be bad is cut off from the end,
// without any note of where it began.
type column struct {
	path     []string
	physical pq.Type
	width    int // bytes of a value of FIXED_LEN_BYTE_ARRAY and INT96
	maxDef   uint8
	maxRep   uint8
	modern   bool

	// Levels of the open page. Rows are numbered in the row group.
	first      int
	rows       int
	defs, reps []uint8

	// Values of the open page: in dictionary indexes where one is in use, else in the slice of its type.
	idx   []uint32
	bools []byte
	i32   []int32 // INT32, FLOAT as bits
	i64   []int64 // INT64, DOUBLE as bits
	bytes []byte  // others: as PLAIN has them, or without lengths when modern
	lens  []int32 // lengths of BYTE_ARRAY values

	dictionary
	chunk chunk
	skip  int   // pages that are not even tried to compress, see squeeze
	began int64 // bytes of records when the open page began
	// What the column's pages in this file took, after and before compression.
	packed, unpacked int64
}

func (c *column) init(o *Options) {
	c.modern = o.Encodings == Modern
	if c.physical != pq.Boolean {
		c.dictionary.init(c, o.Page)
	}
}

// present records that row has a value next, which the caller adds.
func (c *column) present(row int, rep uint8) {
	if c.maxRep == 0 && c.rows == row {
		c.rows = row + 1
		return
	}
	c.presentLate(row, rep)
}

func (c *column) presentLate(row int, rep uint8) {
	if c.maxRep != 0 {
		c.level(row, rep, c.maxDef)
		return
	}
	c.catchUp(row)
	c.rows = row + 1
}

// null records in a column without repetition that row has no value, at this level.
func (c *column) null(row int, def uint8) {
	if c.rows != row {
		c.catchUp(row)
	}
	c.defs = appendLevels(c.defs, c.maxDef, row-c.first)
	c.defs = append(c.defs, def)
	c.rows = row + 1
}

// level records an entry of a column with repetition.
func (c *column) level(row int, rep, def uint8) {
	if rep == 0 {
		if c.rows != row {
			c.catchUp(row)
		}
		c.rows = row + 1
	}
	c.reps = append(c.reps, rep)
	c.defs = append(c.defs, def)
}

// catchUp records as absent the rows up to row that the column was not given.
func (c *column) catchUp(row int) {
	if c.maxRep == 0 {
		c.defs = appendLevels(c.defs, c.maxDef, c.rows-c.first)
		c.defs = appendLevels(c.defs, 0, row-c.first)
	} else {
		c.reps = appendLevels(c.reps, 0, len(c.reps)+row-c.rows)
		c.defs = appendLevels(c.defs, 0, len(c.defs)+row-c.rows)
	}
	c.rows = row
}

// appendLevels lengthens levels to n entries.
func appendLevels(levels []uint8, level uint8, n int) []uint8 {
	k := len(levels)
	if n <= k {
		return levels
	}
	levels = slices.Grow(levels, n-k)[:n]
	if level == 0 {
		clear(levels[k:])
		return levels
	}
	for i := k; i < n; i++ {
		levels[i] = level
	}
	return levels
}

// values is the number of values in the open page.
func (c *column) values() int {
	switch {
	case c.trying:
		return len(c.idx)
	case c.physical == pq.Int32 || c.physical == pq.Float:
		return len(c.i32)
	case c.physical == pq.Int64 || c.physical == pq.Double:
		return len(c.i64)
	case c.physical == pq.ByteArray:
		return len(c.lens)
	case c.physical == pq.Boolean:
		return len(c.bools)
	}
	return len(c.bytes) / c.width
}

func (c *column) addBool(v bool) {
	b := byte(0)
	if v {
		b = 1
	}
	c.bools = append(c.bools, b)
}

func (c *column) add32(v int32) {
	if c.trying {
		c.idx = append(c.idx, c.number(uint64(uint32(v)), len(c.idx)))
		return
	}
	c.i32 = append(c.i32, v)
}

func (c *column) add64(v int64) {
	if c.trying {
		c.idx = append(c.idx, c.number(uint64(v), len(c.idx)))
		return
	}
	c.i64 = append(c.i64, v)
}

// addText adds a value of BYTE_ARRAY.
func (c *column) addText(v []byte) {
	if c.trying {
		c.idx = append(c.idx, c.word(v, len(c.idx)))
		return
	}
	c.plainText(v)
}

func (c *column) plainText(v []byte) {
	if !c.modern {
		c.bytes = binary.LittleEndian.AppendUint32(c.bytes, uint32(len(v)))
	}
	c.bytes = append(c.bytes, v...)
	c.lens = append(c.lens, int32(len(v)))
}

// addFixed adds a value of width bytes.
func (c *column) addFixed(v []byte) {
	if c.trying {
		c.idx = append(c.idx, c.word(v, len(c.idx)))
		return
	}
	c.bytes = append(c.bytes, v...)
}

// lastNumbers appends the last n values, of a type that is numbers or as dictionary indexes: what is equal
// as a value is equal as a number.
func (c *column) lastNumbers(to []uint64, n int) []uint64 {
	switch {
	case c.trying:
		for _, v := range c.idx[len(c.idx)-n:] {
			to = append(to, uint64(v))
		}
	case c.physical == pq.Boolean:
		for _, v := range c.bools[len(c.bools)-n:] {
			to = append(to, uint64(v))
		}
	case c.physical == pq.Int32 || c.physical == pq.Float:
		for _, v := range c.i32[len(c.i32)-n:] {
			to = append(to, uint64(uint32(v)))
		}
	default:
		for _, v := range c.i64[len(c.i64)-n:] {
			to = append(to, uint64(v))
		}
	}
	return to
}

// lastTexts appends the last n values, of a type that is bytes and without a dictionary. They are valid
// until the next is added.
func (c *column) lastTexts(to [][]byte, n int) [][]byte {
	end := len(c.bytes)
	for i := range n {
		if c.width > 0 {
			to = append(to, c.bytes[end-c.width:end])
			end -= c.width
			continue
		}
		size := int(c.lens[len(c.lens)-1-i])
		to = append(to, c.bytes[end-size:end])
		end -= size
		if !c.modern {
			end -= 4
		}
	}
	return to
}

// cut takes back everything from row on.
func (c *column) cut(row int) {
	if c.rows <= row {
		return
	}
	n := 0 // values to take back
	if c.maxRep == 0 {
		if keep := row - c.first; len(c.defs) > keep {
			for _, d := range c.defs[keep:] {
				if d == c.maxDef {
					n++
				}
			}
			n += c.rows - c.first - len(c.defs)
			c.defs = c.defs[:keep]
		} else {
			n = c.rows - row
		}
		c.rows = row
	} else {
		i := len(c.reps)
		for c.rows > row {
			i--
			if c.defs[i] == c.maxDef {
				n++
			}
			if c.reps[i] == 0 {
				c.rows--
			}
		}
		c.reps, c.defs = c.reps[:i], c.defs[:i]
	}
	if n > 0 {
		c.cutValues(n)
	}
}

func (c *column) cutValues(n int) {
	switch {
	case c.trying:
		c.idx = c.idx[:len(c.idx)-n]
		c.forget(len(c.idx))
	case c.physical == pq.Int32 || c.physical == pq.Float:
		c.i32 = c.i32[:len(c.i32)-n]
	case c.physical == pq.Int64 || c.physical == pq.Double:
		c.i64 = c.i64[:len(c.i64)-n]
	case c.physical == pq.ByteArray:
		bytes := 0
		for _, l := range c.lens[len(c.lens)-n:] {
			bytes += int(l)
			if !c.modern {
				bytes += 4
			}
		}
		c.bytes = c.bytes[:len(c.bytes)-bytes]
		c.lens = c.lens[:len(c.lens)-n]
	case c.physical == pq.Boolean:
		c.bools = c.bools[:len(c.bools)-n]
	default:
		c.bytes = c.bytes[:len(c.bytes)-n*c.width]
	}
}

// size estimates the encoded bytes of the open page, without compression.
func (c *column) size() int {
	n := (len(c.defs) + len(c.reps)) / 4
	if c.trying {
		return n + len(c.idx)*c.indexWidth()/8
	}
	return n + len(c.bools)/8 + 4*len(c.i32) + 8*len(c.i64) + len(c.bytes)
}

// needs is the memory that the open page and the dictionary need, whatever they have taken.
func (c *column) needs() int64 {
	n := len(c.defs) + len(c.reps) + 4*len(c.idx) + len(c.bools) + 4*len(c.i32) + 8*len(c.i64) + len(c.bytes) + 4*len(c.lens)
	return int64(n + len(c.page) + 80*c.count())
}

// held is the memory that the open page has taken.
func (c *column) held() int64 {
	return int64(cap(c.defs) + cap(c.reps) + 4*cap(c.idx) + cap(c.bools) + 4*cap(c.i32) + 8*cap(c.i64) + cap(c.bytes) + 4*cap(c.lens))
}

// nextPage empties the open page; row is the first of the next.
func (c *column) nextPage(row int) {
	c.first, c.rows = row, row
	c.defs, c.reps, c.idx, c.bools = c.defs[:0], c.reps[:0], c.idx[:0], c.bools[:0]
	c.i32, c.i64, c.bytes, c.lens = c.i32[:0], c.i64[:0], c.bytes[:0], c.lens[:0]
}

// shrink gives up memory that is not in use.
func (c *column) shrink() {
	c.defs, c.reps, c.idx, c.bools = shrunk(c.defs), shrunk(c.reps), shrunk(c.idx), shrunk(c.bools)
	c.i32, c.i64, c.bytes, c.lens = shrunk(c.i32), shrunk(c.i64), shrunk(c.bytes), shrunk(c.lens)
	if c.count() == 0 {
		c.dictionary.release()
	}
}

func shrunk[T any](v []T) []T { return append([]T(nil), v...) }
