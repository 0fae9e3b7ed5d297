package parquet

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"unsafe"
)

// Which JSON values a column takes. OpenX is the default deserializer; what differs with Hive's is in
// brackets. null is taken everywhere.
//
//	tinyint, smallint, int, bigint   numbers without a fraction, also as 1.0 or 1e3, in the type's range;
//	                                 strings that hold such a number [no]
//	float, double                    numbers in the type's range, rounded to the nearest; strings that hold
//	                                 a number, NaN, Infinity or -Infinity [no]
//	decimal(p,s)                     numbers, exactly as written; more than s digits after the point are
//	                                 rounded, half away from zero, as Hive does; more than p-s before it are
//	                                 refused; strings that hold a number [no]
//	boolean                          true, false; the strings "true" and "false" in any case [no]
//	string                           strings; numbers, true and false as they are written; objects and arrays
//	                                 as they are written [no]
//	char(n), varchar(n)              the same, cut at n characters (code points)
//	binary                           strings, as their UTF-8 bytes
//	timestamp, date                  see time.go
//	array                            arrays
//	map                              objects; keys are read like strings of the key's type
//	struct                           objects
//
// Strings that hold a number may have white space around it, a plus sign, leading zeros, and no digits on
// one side of the point.

// value reads the value at i into n.
func (s *shredder) value(n *node, i int, rep uint8, depth int) int {
	switch n.kind {
	case kindString:
		return s.str(n, i, rep, depth)
	case kindInt, kindBigInt:
		return s.integer(n, i, rep)
	case kindDouble:
		return s.double(n, i, rep)
	case kindTimestamp:
		return s.timestamp(n, i, rep)
	case kindBoolean:
		return s.boolean(n, i, rep)
	case kindStruct:
		if s.b[i] == '{' {
			return s.object(n, i+1, rep, depth+1)
		}
	case kindList:
		if s.b[i] == '[' {
			return s.list(n, i+1, rep, depth+1)
		}
	case kindMap:
		if s.b[i] == '{' {
			return s.mapping(n, i+1, rep, depth+1)
		}
	case kindFloat:
		return s.float(n, i, rep)
	case kindDecimal:
		return s.decimal(n, i, rep)
	case kindChars, kindBinary:
		return s.str(n, i, rep, depth)
	case kindDate:
		return s.date(n, i, rep)
	}
	return s.other(n, i, rep)
}

// other deals with a value that is not what n is made for: null, a string that may hold one, or a mistake.
func (s *shredder) other(n *node, i int, rep uint8) int {
	switch c := s.b[i]; {
	case c == 'n' && isNull(s.b, i):
		s.null(n, rep)
		return i + 4
	case c == '"' && n.kind < kindStruct && !s.strict:
		end, escaped := s.stringEnd(i + 1)
		if end < 0 {
			return end
		}
		text := s.b[i+1 : end]
		if escaped {
			s.unescape(i+1, end)
			text = s.tmp
		}
		if why := s.fromText(n, text, rep); why != "" {
			return s.mismatch(n, i, why)
		}
		return end + 1
	}
	return s.mismatch(n, i, "")
}

// fromText writes what text, a string's content, stands for in a column of n's kind. It returns why it
// cannot, or "".
func (s *shredder) fromText(n *node, text []byte, rep uint8) (why string) {
	c := n.col
	switch n.kind {
	case kindString, kindBinary:
		c.present(s.row, rep)
		c.addText(text)
		return ""
	case kindChars:
		c.present(s.row, rep)
		c.addText(cutChars(text, n.limit))
		return ""
	case kindBoolean:
		v, ok := booleanText(text)
		if !ok {
			return "it is neither true nor false"
		}
		c.present(s.row, rep)
		c.addBool(v)
		return ""
	case kindTimestamp:
		t, why := s.instantText(text)
		if why == "" {
			why = s.addInstant(n, t, rep)
		}
		return why
	case kindDate:
		days, ok := dateText(text)
		if !ok {
			return notDate
		}
		c.present(s.row, rep)
		c.add32(int32(days))
		return ""
	}
	text = bytes.TrimSpace(text)
	if n.kind == kindFloat || n.kind == kindDouble {
		switch string(text) {
		case "NaN":
			return s.addFloat(n, math.NaN(), float32(math.NaN()), rep)
		case "Infinity", "+Infinity":
			return s.addFloat(n, math.Inf(1), float32(math.Inf(1)), rep)
		case "-Infinity":
			return s.addFloat(n, math.Inf(-1), float32(math.Inf(-1)), rep)
		}
	}
	d, ok := parseNumber(text)
	if !ok {
		return "it holds no number"
	}
	switch n.kind {
	case kindFloat, kindDouble:
		return s.addParsed(n, text, rep)
	case kindDecimal:
		return s.addDecimal(n, &d, rep)
	}
	v, why := d.integer()
	if why == "" {
		why = s.addInteger(n, v, rep)
	}
	return why
}

// str reads a value into a column of text: string, char, varchar, binary.
func (s *shredder) str(n *node, i int, rep uint8, depth int) int {
	b := s.b
	if b[i] == '"' {
		i++
		end := plainEnd(b, i)
		text := b[i:end]
		if b[end] != '"' {
			if end, _ = s.stringEnd(end); end < 0 {
				return end
			}
			s.unescape(i, end)
			text = s.tmp
		}
		if n.kind == kindChars {
			text = cutChars(text, n.limit)
		}
		c := n.col
		c.present(s.row, rep)
		if c.trying {
			c.idx = append(c.idx, c.word(text, len(c.idx)))
		} else {
			c.plainText(text)
		}
		return end + 1
	}
	if n.kind == kindBinary {
		return s.other(n, i, rep)
	}
	switch b[i] {
	case 'n':
		return s.other(n, i, rep)
	case '{', '[':
		if s.strict {
			return s.mismatch(n, i, "")
		}
	}
	end := s.skip(i, depth)
	if end < 0 {
		return end
	}
	text := b[i:end]
	if n.kind == kindChars {
		text = cutChars(text, n.limit)
	}
	n.col.present(s.row, rep)
	n.col.addText(text)
	return end
}

// cutChars is the first n characters of text.
func cutChars(text []byte, n int) []byte {
	if len(text) <= n {
		return text
	}
	for i, b := range text {
		if b&0xc0 != 0x80 { // a character begins
			if n == 0 {
				return text[:i]
			}
			n--
		}
	}
	return text
}

func (s *shredder) boolean(n *node, i int, rep uint8) int {
	c := n.col
	switch {
	case isTrue(s.b, i):
		c.present(s.row, rep)
		c.addBool(true)
		return i + 4
	case isFalse(s.b, i):
		c.present(s.row, rep)
		c.addBool(false)
		return i + 5
	}
	return s.other(n, i, rep)
}

func booleanText(text []byte) (v, ok bool) {
	switch {
	case bytes.EqualFold(text, []byte("true")):
		return true, true
	case bytes.EqualFold(text, []byte("false")):
		return false, true
	}
	return false, false
}

// integer reads a number into an integer column.
func (s *shredder) integer(n *node, i int, rep uint8) int {
	b := s.b
	j := i
	neg := b[j] == '-'
	if neg {
		j++
	}
	v := uint64(b[j] - '0')
	if v > 9 {
		if neg {
			return s.malformed(j, "a digit")
		}
		return s.other(n, i, rep)
	}
	first := j
	j++
	if v > 0 {
		for {
			d := b[j] - '0'
			if d > 9 {
				break
			}
			v = v*10 + uint64(d)
			j++
		}
	}
	if e := b[j]; e == '.' || e|0x20 == 'e' || j-first > 18 {
		return s.oddInteger(n, i, rep)
	}
	x := int64(v)
	if neg {
		x = -x
	}
	c := n.col
	if n.kind == kindBigInt {
		c.present(s.row, rep)
		c.add64(x)
		return j
	}
	if x < n.min || x > n.max {
		return s.mismatch(n, i, s.outOfRange(n))
	}
	c.present(s.row, rep)
	c.add32(int32(x))
	return j
}

// oddInteger reads a number that is long, or has a point or an exponent.
func (s *shredder) oddInteger(n *node, i int, rep uint8) int {
	end := s.numberEnd(i)
	if end < 0 {
		return end
	}
	d, _ := parseNumber(s.b[i:end])
	v, why := d.integer()
	if why == "" {
		why = s.addInteger(n, v, rep)
	} else if why == tooLarge {
		why = s.outOfRange(n)
	}
	if why != "" {
		return s.mismatch(n, i, why)
	}
	return end
}

func (s *shredder) addInteger(n *node, v int64, rep uint8) (why string) {
	if n.kind == kindInt && (v < n.min || v > n.max) {
		return s.outOfRange(n)
	}
	n.col.present(s.row, rep)
	if n.kind == kindBigInt {
		n.col.add64(v)
	} else {
		n.col.add32(int32(v))
	}
	return ""
}

func (s *shredder) outOfRange(n *node) string {
	low, high := n.min, n.max
	if n.kind == kindBigInt {
		low, high = math.MinInt64, math.MaxInt64
	}
	return "it is not within " + strconv.FormatInt(low, 10) + " to " + strconv.FormatInt(high, 10)
}

// powers of ten that a double holds exactly.
var powers = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// double reads a number into a double column. A number of at most 2^53 divided by a power of ten that is
// exact is rounded once, hence correctly; all others go the long way.
func (s *shredder) double(n *node, i int, rep uint8) int {
	b := s.b
	j := i
	neg := b[j] == '-'
	if neg {
		j++
	}
	m := uint64(b[j] - '0')
	if m > 9 {
		if neg {
			return s.malformed(j, "a digit")
		}
		return s.other(n, i, rep)
	}
	first := j
	j++
	if m > 0 {
		for {
			d := b[j] - '0'
			if d > 9 {
				break
			}
			m = m*10 + uint64(d)
			j++
		}
	}
	point := 0
	if b[j] == '.' {
		j++
		at := j
		for {
			d := b[j] - '0'
			if d > 9 {
				break
			}
			m = m*10 + uint64(d)
			j++
		}
		point = j - at
		if point == 0 {
			return s.malformed(j, "a digit")
		}
	}
	if b[j]|0x20 == 'e' || j-first > 19 || m > 1<<53 || point >= len(powers) {
		end := s.numberEnd(i)
		if end < 0 {
			return end
		}
		if why := s.addParsed(n, b[i:end], rep); why != "" {
			return s.mismatch(n, i, why)
		}
		return end
	}
	f := float64(m)
	if point > 0 {
		f /= powers[point]
	}
	if neg {
		f = -f
	}
	c := n.col
	c.present(s.row, rep)
	c.add64(int64(math.Float64bits(f)))
	return j
}

func (s *shredder) float(n *node, i int, rep uint8) int {
	if c := s.b[i]; c != '-' && c-'0' > 9 {
		return s.other(n, i, rep)
	}
	end := s.numberEnd(i)
	if end < 0 {
		return end
	}
	if why := s.addParsed(n, s.b[i:end], rep); why != "" {
		return s.mismatch(n, i, why)
	}
	return end
}

// addParsed writes the number that text holds into a float or double column.
func (s *shredder) addParsed(n *node, text []byte, rep uint8) (why string) {
	bitSize := 64
	if n.kind == kindFloat {
		bitSize = 32
	}
	f, err := strconv.ParseFloat(unsafe.String(&text[0], len(text)), bitSize)
	if err != nil {
		// Its form was checked before, so it is too large.
		return "it is beyond the range of the type"
	}
	return s.addFloat(n, f, float32(f), rep)
}

func (s *shredder) addFloat(n *node, f float64, f32 float32, rep uint8) (why string) {
	n.col.present(s.row, rep)
	if n.kind == kindFloat {
		n.col.add32(int32(math.Float32bits(f32)))
	} else {
		n.col.add64(int64(math.Float64bits(f)))
	}
	return ""
}

func (s *shredder) decimal(n *node, i int, rep uint8) int {
	if c := s.b[i]; c != '-' && c-'0' > 9 {
		return s.other(n, i, rep)
	}
	end := s.numberEnd(i)
	if end < 0 {
		return end
	}
	d, _ := parseNumber(s.b[i:end])
	if why := s.addDecimal(n, &d, rep); why != "" {
		return s.mismatch(n, i, why)
	}
	return end
}

func (s *shredder) addDecimal(n *node, d *number, rep uint8) (why string) {
	hi, lo, ok := d.scaled(n.typ.Scale, n.typ.Precision)
	if !ok {
		return "it has more than " + strconv.Itoa(n.typ.Precision-n.typ.Scale) + " digits before the point"
	}
	if d.neg {
		lo = -lo
		hi = ^hi
		if lo == 0 {
			hi++
		}
	}
	var v [32]byte
	binary.BigEndian.PutUint64(v[0:], hi)
	binary.BigEndian.PutUint64(v[8:], lo)
	n.col.present(s.row, rep)
	n.col.addFixed(v[16-n.col.width : 16])
	return ""
}
