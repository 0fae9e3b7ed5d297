package transform

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"unicode/utf16"
	"unicode/utf8"

	asmutf8 "github.com/segmentio/asm/utf8"
)

// The parser takes what format/parquet takes as JSON: RFC 8259 in valid UTF-8, nested at most maxDepth deep. Beyond
// that it refuses an object that has a member twice, since whichever of the two a processor took, the other would be
// lost in silence.
//
// It reads 8 bytes at a time from a copy of the record that goes on with zeros, which are allowed nowhere in JSON, so
// that every loop stops at the end by itself.

const (
	pad      = 16
	maxDepth = 10_000
	ones     = 0x0101010101010101
	highs    = 0x8080808080808080
)

// SyntaxError says why data is not the JSON that is wanted.
type SyntaxError struct {
	Offset  int // in the data
	Message string
}

func (e *SyntaxError) Error() string { return e.Message }

// Root parses the record, if that was not done yet, as one JSON value with white space around it.
func (d *Document) Root() (Ref, error) {
	if d.parsed {
		return d.root, nil
	}
	root, around, err := d.parseOne(d.data)
	if err != nil {
		return 0, err
	}
	d.root, d.head, d.tail = root, around[0], around[1]
	d.parsed, d.changed = true, false
	return root, nil
}

// Object is Root for a processor that needs an object. Its failure is the processor's.
func (d *Document) Object(processor string) (Ref, *Failure) {
	root, err := d.Root()
	if err != nil {
		return 0, Failf(processor, "The record is not a JSON object: %v.", err)
	}
	if k := d.nodes[root].kind; k != Object {
		return 0, Failf(processor, "The record is %s, a JSON object is needed.", k)
	}
	return root, nil
}

// Values parses the record as JSON values one after another, with or without white space between them, and calls each
// for every one. It stops with the error that each returns.
func (d *Document) Values(each func(v Ref) error) error {
	p, err := d.open(d.data)
	if err != nil {
		return err
	}
	for i := p.space(p.base); i < p.end; i = p.space(i) {
		var v Ref
		if v, i, err = p.value(i); err != nil {
			return err
		}
		d.root = v
		if err := each(v); err != nil {
			return err
		}
	}
	d.head, d.tail = span{}, span{}
	d.parsed, d.changed = true, false
	return nil
}

// parseOne adds the one value in data to the tree.
func (d *Document) parseOne(data []byte) (root Ref, around [2]span, err error) {
	p, err := d.open(data)
	if err != nil {
		return 0, around, err
	}
	i := p.space(p.base)
	if i >= p.end {
		return 0, around, &SyntaxError{0, "it is empty"}
	}
	around[0] = span{uint32(p.base), uint32(i)}
	root, i, err = p.value(i)
	if err != nil {
		return 0, around, err
	}
	around[1] = span{uint32(i), uint32(p.end)}
	if i = p.space(i); i < p.end {
		if c := p.b[i]; c == '{' || c == '[' {
			return 0, around, &SyntaxError{i - p.base, fmt.Sprintf("a second JSON value begins at byte %d; `deaggregate: json` takes such records apart", i-p.base)}
		}
		return 0, around, p.malformed(i, "the end")
	}
	return root, around, nil
}

// parser reads one text, which lies in d.text[base:end].
type parser struct {
	d         *Document
	b         []byte // d.text; an index below its length-8 is good for load8
	base, end int
}

func (d *Document) open(data []byte) (parser, error) {
	if len(data) > MaxData {
		return parser{}, &SyntaxError{0, fmt.Sprintf("it has %d bytes, at most %d are parsed", len(data), MaxData)}
	}
	if !asmutf8.Valid(data) {
		i := 0
		for i < len(data) {
			r, w := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && w == 1 {
				break
			}
			i += w
		}
		return parser{}, &SyntaxError{i, fmt.Sprintf("byte 0x%02x at %d is not valid UTF-8", data[i], i)}
	}
	base := len(d.text)
	d.text = slices.Grow(d.text, len(data)+pad)[:base+len(data)+pad]
	copy(d.text[base:], data)
	clear(d.text[base+len(data):])
	return parser{d: d, b: d.text, base: base, end: base + len(data)}, nil
}

func load8(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i : i+8]) }

// plainEnd is the index of the first quote, backslash or control character at or after i.
func plainEnd(b []byte, i int) int {
	for {
		w := load8(b, i)
		q := w ^ ones*'"'
		e := w ^ ones*'\\'
		if m := ((q-ones)&^q | (e-ones)&^e | (w-ones*0x20)&^w) & highs; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		i += 8
	}
}

func (p *parser) space(i int) int {
	b := p.b
	for b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r' {
		i++
	}
	return i
}

func (p *parser) malformed(i int, want string) error {
	at := i - p.base
	if i >= p.end {
		return &SyntaxError{at, fmt.Sprintf("it ends at byte %d where %s is expected", p.end-p.base, want)}
	}
	r, _ := utf8.DecodeRune(p.b[i:p.end])
	return &SyntaxError{at, fmt.Sprintf("found %q at byte %d where %s is expected", r, at, want)}
}

// str returns the index of the closing quote of the string whose first byte is at i, and whether it has escapes.
func (p *parser) str(i int) (end int, escaped bool, err error) {
	b := p.b
	for {
		i = plainEnd(b, i)
		switch b[i] {
		case '"':
			return i, escaped, nil
		case '\\':
			escaped = true
			switch b[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				for j := i + 2; j < i+6; j++ {
					if !isHex(b[j]) {
						return 0, false, p.malformed(j, "a hexadecimal digit")
					}
				}
				i += 6
			default:
				return 0, false, p.malformed(i+1, "an escape character")
			}
		default:
			if i >= p.end {
				return 0, false, p.malformed(i, "the end of the string")
			}
			return 0, false, &SyntaxError{i - p.base, fmt.Sprintf("found the control character 0x%02x at byte %d inside a string", b[i], i-p.base)}
		}
	}
}

func isHex(c byte) bool { return c-'0' < 10 || (c|0x20)-'a' < 6 }

func (p *parser) number(i int) (int, error) {
	b := p.b
	if b[i] == '-' {
		i++
	}
	switch c := b[i]; {
	case c == '0':
		i++
	case c-'1' < 9:
		i = digits(b, i+1)
	default:
		return 0, p.malformed(i, "a digit")
	}
	if b[i] == '.' {
		i++
		if b[i]-'0' > 9 {
			return 0, p.malformed(i, "a digit")
		}
		i = digits(b, i+1)
	}
	if b[i]|0x20 == 'e' {
		i++
		if b[i] == '+' || b[i] == '-' {
			i++
		}
		if b[i]-'0' > 9 {
			return 0, p.malformed(i, "a digit")
		}
		i = digits(b, i+1)
	}
	return i, nil
}

func digits(b []byte, i int) int {
	for b[i]-'0' <= 9 {
		i++
	}
	return i
}

// value adds the value at i to the tree and returns the index after it. It does not recurse.
func (p *parser) value(i int) (root Ref, next int, err error) {
	d, b := p.d, p.b
	root = Ref(len(d.nodes))
	var up Ref
	depth := 0
	var key, keyEnd int
	var keyEsc bool

value:
	{
		n := node{up: up, key: uint32(key), keyEnd: uint32(keyEnd), keyEsc: keyEsc, start: uint32(i)}
		me := Ref(len(d.nodes))
		if up != 0 {
			u := &d.nodes[up]
			if u.last == 0 {
				u.first = me
			} else {
				d.nodes[u.last].next = me
				n.prev = u.last
			}
			u.last = me
		}
		switch c := b[i]; {
		case c == '"':
			n.kind = String
			if i = plainEnd(b, i+1); b[i] != '"' {
				if i, n.valEsc, err = p.str(i); err != nil {
					return 0, 0, err
				}
			}
			i++
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return 0, 0, &SyntaxError{i - p.base, fmt.Sprintf("it is nested deeper than %d levels at byte %d", maxDepth, i-p.base)}
			}
			n.kind = Array
			if c == '{' {
				n.kind = Object
			}
			d.nodes = append(d.nodes, n)
			up = me
			if i++; b[i] <= ' ' {
				i = p.space(i)
			}
			if c == '{' {
				if b[i] == '}' {
					goto closed
				}
				goto member
			}
			if b[i] == ']' {
				goto closed
			}
			key, keyEnd, keyEsc = 0, 0, false
			goto value
		case c == '-' || c-'0' <= 9:
			n.kind = Number
			if i, err = p.number(i); err != nil {
				return 0, 0, err
			}
		case c == 'n' && string(b[i:i+4]) == "null":
			n.kind = Null
			i += 4
		case c == 't' && string(b[i:i+4]) == "true":
			n.kind = True
			i += 4
		case c == 'f' && string(b[i:i+5]) == "false":
			n.kind = False
			i += 5
		default:
			return 0, 0, p.malformed(i, "a value")
		}
		n.end = uint32(i)
		d.nodes = append(d.nodes, n)
	}

after:
	if up == 0 {
		return root, i, nil
	}
	if b[i] <= ' ' {
		i = p.space(i)
	}
	if b[i] == ',' {
		if i++; b[i] <= ' ' {
			i = p.space(i)
		}
		if d.nodes[up].kind == Object {
			goto member
		}
		key, keyEnd, keyEsc = 0, 0, false
		goto value
	}
	if d.nodes[up].kind == Object {
		if b[i] != '}' {
			return 0, 0, p.malformed(i, "a comma or a closing brace")
		}
		if twice := d.keys.twice(d, up); twice != 0 {
			n := &d.nodes[twice]
			return 0, 0, &SyntaxError{int(n.key) - 1 - p.base, fmt.Sprintf("the member %s at byte %d is there twice", clip(b[n.key-1:n.keyEnd+1]), int(n.key)-1-p.base)}
		}
	} else if b[i] != ']' {
		return 0, 0, p.malformed(i, "a comma or a closing bracket")
	}

closed:
	i++
	depth--
	{
		n := &d.nodes[up]
		n.end = uint32(i)
		up = n.up
	}
	goto after

member:
	if b[i] != '"' {
		return 0, 0, p.malformed(i, "a member's name")
	}
	i++
	key, keyEsc = i, false
	if i = plainEnd(b, i); b[i] != '"' {
		if i, keyEsc, err = p.str(i); err != nil {
			return 0, 0, err
		}
	}
	keyEnd = i
	i++
	if b[i] != ':' {
		if i = p.space(i); b[i] != ':' {
			return 0, 0, p.malformed(i, "a colon")
		}
	}
	if i++; b[i] <= ' ' {
		i = p.space(i)
	}
	goto value
}

// clip bounds a piece of a record in a message.
func clip(b []byte) []byte {
	if len(b) <= 64 {
		return b
	}
	n := 60
	for n > 0 && !utf8.RuneStart(b[n]) {
		n--
	}
	return append(slices.Clone(b[:n]), "..."...)
}

// keySet finds members of one object that have the same name.
type keySet struct {
	stamp uint32
	slots [256]keySlot
}

type keySlot struct {
	stamp uint32 // of the object that set it
	ref   Ref
}

// maxHashed is the number of members up to which the table is used; it is never more than half full.
const maxHashed = 128

// twice returns the second of two members of the same name, or 0.
func (k *keySet) twice(d *Document, object Ref) Ref {
	first := d.nodes[object].first
	if first == 0 || d.nodes[first].next == 0 {
		return 0
	}
	if k.stamp++; k.stamp == 0 {
		*k = keySet{stamp: 1}
	}
	count := 0
	for c := first; c != 0; {
		n := &d.nodes[c]
		if count++; n.keyEsc || count > maxHashed {
			return twiceOfMany(d, first)
		}
		size := uint(n.keyEnd - n.key)
		w := load8(d.text, int(n.key))
		if size < 8 {
			w &= 1<<(8*size) - 1
		}
		h := (w ^ uint64(size)<<56) * 0x9e3779b97f4a7c15 >> 56
		for {
			s := &k.slots[h&255]
			if s.stamp != k.stamp {
				s.stamp, s.ref = k.stamp, c
				break
			}
			o := &d.nodes[s.ref]
			if uint(o.keyEnd-o.key) == size && bytes.Equal(d.text[o.key:o.keyEnd], d.text[n.key:n.keyEnd]) {
				return c
			}
			h++
		}
		c = n.next
	}
	return 0
}

func twiceOfMany(d *Document, first Ref) Ref {
	seen := map[string]bool{}
	for c := first; c != 0; c = d.nodes[c].next {
		name := d.Name(c)
		if seen[string(name)] {
			return c
		}
		seen[string(name)] = true
	}
	return 0
}

// unescape appends what the valid string text b stands for. A surrogate without its other half becomes U+FFFD.
func unescape(dst, b []byte) []byte {
	for i := 0; i < len(b); {
		j := bytes.IndexByte(b[i:], '\\')
		if j < 0 {
			return append(dst, b[i:]...)
		}
		dst = append(dst, b[i:i+j]...)
		i += j
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
			r := hexRune(b[i+2:])
			i += 6
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if i+6 <= len(b) && b[i] == '\\' && b[i+1] == 'u' {
					pair = utf16.DecodeRune(r, hexRune(b[i+2:]))
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

// AppendUnescaped appends to dst what a string of a valid JSON text, without its quotes, stands for.
func AppendUnescaped(dst, b []byte) []byte { return unescape(dst, b) }

func hexRune(b []byte) (r rune) {
	for _, c := range b[:4] {
		v := c - '0'
		if v > 9 {
			v = (c | 0x20) - 'a' + 10
		}
		r = r<<4 | rune(v)
	}
	return r
}

// AppendString appends s to b as a JSON string with as few escapes as JSON allows. What is not UTF-8 in it becomes
// U+FFFD. It allocates nothing but the room that b lacks.
func AppendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	done := 0 // s[:done] is in b
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(append(b, s[done:i]...), "\ufffd"...)
				done = i + 1
			}
			i += n
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[done:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		done = i
	}
	return append(append(b, s[done:]...), '"')
}
