package parquet

import (
	"fmt"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// The scanner reads JSON 8 bytes at a time. A record is copied into a buffer that goes on with zero bytes:
// zero is allowed nowhere in JSON, so every loop stops at the end by itself.

// pad is the number of zero bytes after a record. The slice that is indexed ends 8 bytes before its memory
// does, so that an index that is in range is also good for reading a word.
const pad = 64

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// maxDepth is how deep a record may nest, as in encoding/json.
const maxDepth = 10_000

// load8 reads the 8 bytes at i, the first in the low bits.
func load8(b []byte, i int) uint64 {
	return *(*uint64)(unsafe.Pointer(&b[i]))
}

// marks returns a word whose lowest set high bit is at the first byte of w that ends the plain part of a
// string: a quote, a backslash or a control character. Higher bits may be wrong.
func marks(w uint64) uint64 {
	q := w ^ ones*'"'
	e := w ^ ones*'\\'
	return ((q-ones)&^q | (e-ones)&^e | (w-ones*0x20)&^w) & highs
}

// fault is why a record was refused, before it has words.
type fault struct {
	code string
	text string
}

// fail notes why the record is refused and returns -1, the position that says so.
func (s *shredder) fail(code, format string, a ...any) int {
	if s.fault.code == "" {
		s.fault = fault{code, fmt.Sprintf(format, a...)}
	}
	return -1
}

// malformed notes that the text at i is not JSON.
func (s *shredder) malformed(i int, want string) int {
	if i >= s.n {
		return s.fail(codeParse, "Encountered malformed JSON. It ends at byte %d where %s is expected", s.n, want)
	}
	r, _ := utf8.DecodeRune(s.b[i:s.n])
	return s.fail(codeParse, "Encountered malformed JSON. Found %q at byte %d where %s is expected", r, i, want)
}

func (s *shredder) tooDeep(i int) int {
	return s.fail(codeParse, "Encountered malformed JSON. It is nested deeper than %d levels at byte %d", maxDepth, i)
}

// space skips white space from i.
func space(b []byte, i int) int {
	for b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r' {
		i++
	}
	return i
}

// plainEnd returns the index of the first quote, backslash or control character at or after i.
func plainEnd(b []byte, i int) int {
	for {
		if m := marks(load8(b, i)); m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		i += 8
	}
}

// stringEnd returns the index of the closing quote of the string whose first byte is at i, and whether it
// holds escapes. It returns -1 when the string is not valid.
func (s *shredder) stringEnd(i int) (end int, escaped bool) {
	b := s.b
	for {
		i = plainEnd(b, i)
		switch b[i] {
		case '"':
			return i, escaped
		case '\\':
			escaped = true
			switch b[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				for j := i + 2; j < i+6; j++ {
					if hexValue[b[j]] == notHex {
						return s.malformed(j, "a hexadecimal digit"), false
					}
				}
				i += 6
			default:
				return s.malformed(i+1, "an escape character"), false
			}
		default:
			if i >= s.n {
				return s.malformed(i, "the end of the string"), false
			}
			return s.fail(codeParse, "Encountered malformed JSON. Found the control character 0x%02x at byte %d inside a string", b[i], i), false
		}
	}
}

const notHex = 0xff

var hexValue = func() (t [256]byte) {
	for i := range t {
		t[i] = notHex
	}
	for i := range 10 {
		t['0'+i] = byte(i)
	}
	for i := range 6 {
		t['a'+i], t['A'+i] = byte(10+i), byte(10+i)
	}
	return t
}()

// unescape appends to dst what the valid string text b[i:end] stands for.
func unescape(dst, b []byte, i, end int) []byte {
	for i < end {
		j := min(plainEnd(b, i), end)
		dst = append(dst, b[i:j]...)
		if i = j; i == end {
			break
		}
		switch c := b[i+1]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := hexRune(b, i+2)
			i += 6
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if i+6 <= end && b[i] == '\\' && b[i+1] == 'u' {
					pair = utf16.DecodeRune(r, hexRune(b, i+2))
				}
				if pair != utf8.RuneError {
					i += 6
				}
				r = pair
			}
			dst = utf8.AppendRune(dst, r)
			continue
		default: // quote, backslash, slash
			dst = append(dst, c)
		}
		i += 2
	}
	return dst
}

func hexRune(b []byte, i int) rune {
	return rune(hexValue[b[i]])<<12 | rune(hexValue[b[i+1]])<<8 | rune(hexValue[b[i+2]])<<4 | rune(hexValue[b[i+3]])
}

// numberEnd returns the index after the number that starts at i, or -1.
func (s *shredder) numberEnd(i int) int {
	b := s.b
	if b[i] == '-' {
		i++
	}
	switch c := b[i]; {
	case c == '0':
		i++
	case c-'1' < 9:
		i = digits(b, i+1)
	default:
		return s.malformed(i, "a digit")
	}
	if b[i] == '.' {
		i++
		if b[i]-'0' > 9 {
			return s.malformed(i, "a digit")
		}
		i = digits(b, i+1)
	}
	if b[i]|0x20 == 'e' {
		i++
		if b[i] == '+' || b[i] == '-' {
			i++
		}
		if b[i]-'0' > 9 {
			return s.malformed(i, "a digit")
		}
		i = digits(b, i+1)
	}
	return i
}

// digits skips decimal digits from i.
func digits(b []byte, i int) int {
	for b[i]-'0' <= 9 {
		i++
	}
	return i
}

// Words of JSON, and how far a literal reaches.
const (
	wordNull = uint32('n') | 'u'<<8 | 'l'<<16 | 'l'<<24
	wordTrue = uint32('t') | 'r'<<8 | 'u'<<16 | 'e'<<24
	wordAlse = uint32('a') | 'l'<<8 | 's'<<16 | 'e'<<24
)

func isNull(b []byte, i int) bool  { return uint32(load8(b, i)) == wordNull }
func isTrue(b []byte, i int) bool  { return uint32(load8(b, i)) == wordTrue }
func isFalse(b []byte, i int) bool { return b[i] == 'f' && uint32(load8(b, i+1)) == wordAlse }

// skip checks the value at i, at nesting depth depth, and returns the index after it, or -1. It does not
// recurse: where it is inside is one bit a level.
func (s *shredder) skip(i, depth int) int {
	b := s.b
	if c := b[i]; c != '{' && c != '[' {
		return s.skipScalar(i)
	}
	level := 0 // of nesting inside this value
	object := b[i] == '{'
open:
	// b[i] opens an object or an array.
	level++
	if depth+level > maxDepth {
		return s.tooDeep(i)
	}
	s.setInside(level, object)
	i++
	if b[i] <= ' ' {
		i = space(b, i)
	}
	if object {
		if b[i] == '}' {
			goto closed
		}
		goto key
	}
	if b[i] == ']' {
		goto closed
	}
	goto value

key:
	if b[i] != '"' {
		return s.malformed(i, "a member's name")
	}
	i = plainEnd(b, i+1)
	if b[i] != '"' {
		if i, _ = s.stringEnd(i); i < 0 {
			return i
		}
	}
	i++
	if b[i] != ':' {
		if i = space(b, i); b[i] != ':' {
			return s.malformed(i, "a colon")
		}
	}
	i++
	if b[i] <= ' ' {
		i = space(b, i)
	}

value:
	switch c := b[i]; {
	case c == '"':
		i = plainEnd(b, i+1)
		if b[i] != '"' {
			if i, _ = s.stringEnd(i); i < 0 {
				return i
			}
		}
		i++
	case c == '{' || c == '[':
		object = c == '{'
		goto open
	default:
		if i = s.skipScalar(i); i < 0 {
			return i
		}
	}

after:
	if b[i] <= ' ' {
		i = space(b, i)
	}
	if b[i] == ',' {
		i++
		if b[i] <= ' ' {
			i = space(b, i)
		}
		if object {
			goto key
		}
		goto value
	}
	if object {
		if b[i] != '}' {
			return s.malformed(i, "a comma or a closing brace")
		}
	} else if b[i] != ']' {
		return s.malformed(i, "a comma or a closing bracket")
	}

closed:
	i++
	level--
	if level == 0 {
		return i
	}
	object = s.inside(level)
	goto after
}

// setInside and inside keep for each level of skip whether it is an object.
func (s *shredder) setInside(level int, object bool) {
	word, bit := level>>6, uint64(1)<<(level&63)
	if object {
		s.nest[word] |= bit
	} else {
		s.nest[word] &^= bit
	}
}

func (s *shredder) inside(level int) bool { return s.nest[level>>6]>>(level&63)&1 != 0 }

// skipScalar checks the string, number or literal at i.
func (s *shredder) skipScalar(i int) int {
	b := s.b
	switch c := b[i]; {
	case c == '"':
		end, _ := s.stringEnd(i + 1)
		if end < 0 {
			return end
		}
		return end + 1
	case c == '-' || c-'0' <= 9:
		return s.numberEnd(i)
	case c == 'n' && isNull(b, i), c == 't' && isTrue(b, i):
		return i + 4
	case c == 'f' && isFalse(b, i):
		return i + 5
	}
	return s.malformed(i, "a value")
}
