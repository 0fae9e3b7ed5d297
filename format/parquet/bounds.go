package parquet

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"unicode/utf8"

	pq "github.com/parquet-go/parquet-go/format"
)

// bound is a lower or upper bound of the values of a page or chunk: the value itself or, for long text, a
// shorter one that is less or greater.
type bound struct {
	ok bool
	n  int64  // BOOLEAN, INT32, INT64; FLOAT and DOUBLE as the bits of a double
	b  []byte // others
}

// maxBound is how many bytes of text a bound holds at most. Cutting a bound is what the format allows for;
// readers use bounds to pass over pages, not as values.
const maxBound = 64

// compare orders two bounds of a column as the format orders its type.
func (c *column) compare(x, y bound) int {
	switch c.physical {
	case pq.Boolean, pq.Int32, pq.Int64:
		return cmp.Compare(x.n, y.n)
	case pq.Float, pq.Double:
		return cmp.Compare(math.Float64frombits(uint64(x.n)), math.Float64frombits(uint64(y.n)))
	case pq.FixedLenByteArray:
		return compareSigned(x.b, y.b)
	}
	return bytes.Compare(x.b, y.b)
}

// compareSigned orders big-endian two's complement numbers of equal length.
func compareSigned(x, y []byte) int {
	if d := cmp.Compare(int8(x[0]), int8(y[0])); d != 0 {
		return d
	}
	return bytes.Compare(x[1:], y[1:])
}

// lower makes b the lesser of itself and x.
func (b *bound) lower(c *column, x bound) {
	if !b.ok || c.compare(x, *b) < 0 {
		*b = x
	}
}

// raise makes b the greater of itself and x.
func (b *bound) raise(c *column, x bound) {
	if !b.ok || c.compare(x, *b) > 0 {
		*b = x
	}
}

// encode is the bound as statistics have it, as PLAIN without a length.
func (b bound) encode(c *column) []byte {
	switch c.physical {
	case pq.Boolean:
		return []byte{byte(b.n)}
	case pq.Int32:
		return binary.LittleEndian.AppendUint32(nil, uint32(b.n))
	case pq.Float:
		return binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(math.Float64frombits(uint64(b.n)))))
	case pq.Int64, pq.Double:
		return binary.LittleEndian.AppendUint64(nil, uint64(b.n))
	}
	return b.b
}

// bounds returns the bounds of the open page, which has values. They are not ok when the page has none: all
// its values are NaN, or the type has no order.
func (p *pager) bounds(c *column) (low, high bound) {
	switch c.physical {
	case pq.Boolean:
		some, all := bytes.IndexByte(c.bools, 1) >= 0, bytes.IndexByte(c.bools, 0) < 0
		low.ok, high.ok = true, true
		if all {
			low.n = 1
		}
		if some {
			high.n = 1
		}
	case pq.Int32:
		return integerBounds(p, c, c.i32, func(v []byte) int32 { return int32(binary.LittleEndian.Uint32(v)) })
	case pq.Int64:
		return integerBounds(p, c, c.i64, func(v []byte) int64 { return int64(binary.LittleEndian.Uint64(v)) })
	case pq.Float:
		f := floatBounds{min: math.Inf(1), max: math.Inf(-1)}
		if c.trying {
			for id, ok := range p.markUsed(c) {
				if ok {
					f.add(float64(math.Float32frombits(binary.LittleEndian.Uint32(c.page[4*id:]))))
				}
			}
		}
		for _, v := range c.i32 {
			f.add(float64(math.Float32frombits(uint32(v))))
		}
		return f.bounds()
	case pq.Double:
		f := floatBounds{min: math.Inf(1), max: math.Inf(-1)}
		if c.trying {
			for id, ok := range p.markUsed(c) {
				if ok {
					f.add(math.Float64frombits(binary.LittleEndian.Uint64(c.page[8*id:])))
				}
			}
		}
		for _, v := range c.i64 {
			f.add(math.Float64frombits(uint64(v)))
		}
		return f.bounds()
	case pq.ByteArray:
		return p.textBounds(c)
	case pq.FixedLenByteArray:
		var min, max []byte
		add := func(v []byte) {
			if min == nil || compareSigned(v, min) < 0 {
				min = v
			}
			if max == nil || compareSigned(v, max) > 0 {
				max = v
			}
		}
		if c.trying {
			for id, ok := range p.markUsed(c) {
				if ok {
					add(c.value(uint32(id)))
				}
			}
		}
		for i := 0; i < len(c.bytes); i += c.width {
			add(c.bytes[i : i+c.width])
		}
		return bound{ok: true, b: bytes.Clone(min)}, bound{ok: true, b: bytes.Clone(max)}
	}
	return low, high
}

func integerBounds[T int32 | int64](p *pager, c *column, plain []T, decode func([]byte) T) (low, high bound) {
	var min, max T
	if c.trying {
		first := true
		for id, ok := range p.markUsed(c) {
			if !ok {
				continue
			}
			v := decode(c.page[id*c.fixed:])
			if first {
				min, max, first = v, v, false
			}
			if v < min {
				min = v
			}
			if v > max {
				max = v
			}
		}
	} else {
		min, max = plain[0], plain[0]
		for _, v := range plain {
			if v < min {
				min = v
			}
			if v > max {
				max = v
			}
		}
	}
	return bound{ok: true, n: int64(min)}, bound{ok: true, n: int64(max)}
}

// floatBounds leaves NaN out.
type floatBounds struct {
	min, max float64
	any      bool
}

func (f *floatBounds) add(v float64) {
	if v != v {
		return
	}
	f.any = true
	if v < f.min {
		f.min = v
	}
	if v > f.max {
		f.max = v
	}
}

// bounds widens a zero to both zeros, which compare equal but are different values.
func (f *floatBounds) bounds() (low, high bound) {
	if !f.any {
		return low, high
	}
	if f.min == 0 {
		f.min = math.Copysign(0, -1)
	}
	if f.max == 0 {
		f.max = 0
	}
	return bound{ok: true, n: int64(math.Float64bits(f.min))}, bound{ok: true, n: int64(math.Float64bits(f.max))}
}

// textBounds looks at the first 8 bytes of each value first; few need more.
func (p *pager) textBounds(c *column) (low, high bound) {
	var min, max []byte
	var minWord, maxWord uint64
	first := true
	add := func(v []byte) {
		w := headWord(v)
		if first {
			min, max, minWord, maxWord, first = v, v, w, w, false
			return
		}
		if w < minWord || w == minWord && bytes.Compare(v, min) < 0 {
			min, minWord = v, w
		}
		if w > maxWord || w == maxWord && bytes.Compare(v, max) > 0 {
			max, maxWord = v, w
		}
	}
	if c.trying {
		for id, ok := range p.markUsed(c) {
			if ok {
				add(c.value(uint32(id)))
			}
		}
	} else {
		at := 0
		for _, n := range c.lens {
			if !c.modern {
				at += 4
			}
			v := c.bytes[at : at+int(n)]
			at += int(n)
			w := headWord(v)
			if first || w <= minWord || w >= maxWord {
				add(v)
			}
		}
	}
	low = bound{ok: true, b: bytes.Clone(cutText(min))}
	if len(max) <= maxBound {
		high = bound{ok: true, b: bytes.Clone(max)}
	} else {
		high.b, high.ok = above(cutText(max))
	}
	return low, high
}

// headWord is the first 8 bytes of v, zeros where there are fewer, so that words order as the texts do
// except where they are equal.
func headWord(v []byte) uint64 {
	if len(v) >= 8 {
		return binary.BigEndian.Uint64(v)
	}
	if cap(v) >= 8 {
		return binary.BigEndian.Uint64(v[:8]) >> (64 - 8*len(v)) << (64 - 8*len(v))
	}
	var w uint64
	for i, x := range v {
		w |= uint64(x) << (56 - 8*i)
	}
	return w
}

// cutText is v or the longest part of its start that fits into a bound and ends between characters.
func cutText(v []byte) []byte {
	if len(v) <= maxBound {
		return v
	}
	n := maxBound
	for n > maxBound-utf8.UTFMax && !utf8.RuneStart(v[n]) {
		n--
	}
	return v[:n]
}

// above returns the shortest change of the UTF-8 text v that is greater than every text that starts with v.
func above(v []byte) ([]byte, bool) {
	for len(v) > 0 {
		r, n := utf8.DecodeLastRune(v)
		v = v[:len(v)-n]
		if r++; r == 0xd800 { // the surrogates are no characters
			r = 0xe000
		}
		if r <= utf8.MaxRune {
			return utf8.AppendRune(bytes.Clone(v), r), true
		}
	}
	return nil, false
}
