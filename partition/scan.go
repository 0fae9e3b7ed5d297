package partition

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"

	asmutf8 "github.com/segmentio/asm/utf8"

	"hydrant/transform"
)

// branch is the names that are looked for in one object.
type branch struct{ leaves []leaf }

// leaf is one name: a value that is wanted (slot), or an object in which more names are, or both.
type leaf struct {
	name  string
	slot  int // -1: none
	below *branch
	count int // slots here and below
}

// add makes room for a path; next is the slot that it gets where it has none yet.
func (b *branch) add(path []string, next int) int {
	i := slices.IndexFunc(b.leaves, func(l leaf) bool { return l.name == path[0] })
	if i < 0 {
		i = len(b.leaves)
		b.leaves = append(b.leaves, leaf{name: path[0], slot: -1})
	}
	l := &b.leaves[i]
	slot := next
	if len(path) == 1 {
		if l.slot >= 0 {
			return l.slot
		}
		l.slot = next
	} else {
		if l.below == nil {
			l.below = &branch{}
		}
		slot = l.below.add(path[1:], next)
	}
	if slot == next {
		l.count++
	}
	return slot
}

// view is a scalar of the scanned text, or the kind of what is none. The zero view is null, also for what is missing.
type view struct {
	kind       transform.Kind
	escaped    bool // a string with escapes
	start, end int  // of a number's text, or of a string's between its quotes
}

// scanner finds values in a record without making anything of the others. Its two ways, scan and skim, return false
// where they meet what they do not know, or what is wrong; then a full parse decides. Not safe for concurrent use.
type scanner struct {
	tree  *branch
	root  leaf // the record, as scan looks at it
	views []view
	text  []byte // the record, and zeros, which are allowed nowhere in JSON, so that loops end there
	names nameSet
	stack [maxOpen]open

	shapes shapes
}

const (
	pad       = 16
	maxOpen   = 64 // arrays and objects in each other
	ones      = 0x0101010101010101
	highs     = 0x8080808080808080
	keptBytes = 1 << 20 // of the text buffer
)

// load makes data the text.
func (s *scanner) load(data []byte) {
	if cap(s.text) > keptBytes && len(data) < keptBytes {
		s.text = nil
	}
	s.text = slices.Grow(s.text[:0], len(data)+pad)[:len(data)+pad]
	copy(s.text, data)
	clear(s.text[len(data):])
	clear(s.views)
}

func load8(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i : i+8]) }

// plainEnd is the index of the first quote, backslash or control character at or after i.
func plainEnd(b []byte, i int) int {
	for {
		w := load8(b, i)
		q := w ^ ones*'"'
		e := w ^ ones*'\\'
		// Neither quote nor backslash has a high bit, so that all three have the same bytes without one. Borrows go to
		// bytes behind the first that is found.
		if m := ((q - ones) | (e - ones) | (w - ones*0x20)) &^ w & highs; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		i += 8
	}
}

func space(b []byte, i int) int {
	for b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r' {
		i++
	}
	return i
}

// stringEnd is the index of the closing quote of the string whose first byte is at i.
func stringEnd(b []byte, i int) (end int, escaped, ok bool) {
	for {
		i = plainEnd(b, i)
		switch b[i] {
		case '"':
			return i, escaped, true
		case '\\':
			escaped = true
			switch b[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				for j := i + 2; j < i+6; j++ {
					if c := b[j]; c-'0' > 9 && (c|0x20)-'a' > 5 {
						return 0, false, false
					}
				}
				i += 6
			default:
				return 0, false, false
			}
		default:
			return 0, false, false
		}
	}
}

// numberEnd is the index after the number at i.
func numberEnd(b []byte, i int) (end int, ok bool) {
	if b[i] == '-' {
		i++
	}
	switch c := b[i]; {
	case c == '0':
		i++
	case c-'1' < 9:
		i = digits(b, i+1)
	default:
		return 0, false
	}
	if b[i] == '.' {
		i++
		if b[i]-'0' > 9 {
			return 0, false
		}
		i = digits(b, i+1)
	}
	if b[i]|0x20 == 'e' {
		i++
		if b[i] == '+' || b[i] == '-' {
			i++
		}
		if b[i]-'0' > 9 {
			return 0, false
		}
		i = digits(b, i+1)
	}
	return i, true
}

// digits is the index of the first byte at or after i that is no digit.
func digits(b []byte, i int) int {
	for {
		// A byte of w is at most 9 where there is a digit. Carries go to bytes behind the first that is none.
		w := load8(b, i) ^ ones*'0'
		if m := ((w + ones*(0x80-10)) | w) & highs; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		i += 8
	}
}

// open is an array or object that is not closed yet.
type open struct {
	object uint32 // number of the object, 0 for an array
	branch *branch
}

// scan reads all of a record. Where it is ok the record is one JSON object as transform.Document takes it, and the
// views are its values.
func (s *scanner) scan(data []byte) bool {
	if len(data) > transform.MaxData || !asmutf8.Valid(data) {
		return false
	}
	s.load(data)
	s.shapes.begin()
	b := s.text
	i := space(b, 0)
	if b[i] != '{' {
		return false
	}
	depth, objects := 0, uint32(0)
	if s.root.below == nil {
		s.root = leaf{slot: -1, below: s.tree}
	}
	l := &s.root // what is wanted of the value at i, or nil
	top := open{}
	// The names so far are s.shapes.path[:passed], and all of them as long as the record has not strayed. Then they are
	// in s.names too, and spot is where the next one may be learnt from, as long as learning.
	spot, passed, strayed, learning := uint16(0), 0, s.shapes.resting, false
	if strayed {
		s.names.begin()
	}

value:
	switch c := b[i]; {
	case c == '"':
		start := i + 1
		escaped := false
		if i = plainEnd(b, start); b[i] != '"' {
			var ok bool
			if i, escaped, ok = stringEnd(b, i); !ok {
				return false
			}
		}
		if l != nil && !s.scalar(l, view{transform.String, escaped, start, i}) {
			return false
		}
		i++
	case c == '{' || c == '[':
		if depth == maxOpen {
			return false
		}
		s.stack[depth] = top
		depth++
		top = open{}
		if c == '{' {
			objects++
			top.object = objects
		}
		if l != nil {
			if l.slot >= 0 {
				s.views[l.slot].kind = transform.Array
				if c == '{' {
					s.views[l.slot].kind = transform.Object
				}
			}
			if l.below != nil {
				if c == '[' {
					return false
				}
				top.branch = l.below
			}
		}
		if i++; b[i] <= ' ' {
			i = space(b, i)
		}
		l = nil
		if c == '{' {
			if b[i] == '}' {
				goto closed
			}
			goto member
		}
		if b[i] == ']' {
			goto closed
		}
		goto value
	case c == '-' || c-'0' <= 9:
		start := i
		var ok bool
		if i, ok = numberEnd(b, i); !ok || l != nil && !s.scalar(l, view{transform.Number, false, start, i}) {
			return false
		}
	case c == 'n' && string(b[i:i+4]) == "null":
		i += 4 // the views say null already
	case c == 't' && string(b[i:i+4]) == "true":
		if l != nil && !s.scalar(l, view{kind: transform.True}) {
			return false
		}
		i += 4
	case c == 'f' && string(b[i:i+5]) == "false":
		if l != nil && !s.scalar(l, view{kind: transform.False}) {
			return false
		}
		i += 5
	default:
		return false
	}

after:
	if b[i] <= ' ' {
		i = space(b, i)
	}
	if b[i] == ',' {
		if i++; b[i] <= ' ' {
			i = space(b, i)
		}
		if top.object != 0 {
			goto member
		}
		l = nil
		goto value
	}
	if top.object != 0 && b[i] != '}' || top.object == 0 && b[i] != ']' {
		return false
	}

closed:
	i++
	depth--
	top = s.stack[depth]
	if depth > 0 {
		goto after
	}
	return space(b, i) == len(data)

member:
	{
		if b[i] != '"' {
			return false
		}
		start := i + 1
		if !strayed {
			n := s.shapes.spots[spot].steps[0]
			p := &s.shapes.spots[n]
			if len(p.text) > 16 || !p.here(b, i) || p.open != top { // most are where they were before
				if n = s.shapes.follow(spot, b, i, top); n > 0 {
					p = &s.shapes.spots[n]
				}
			}
			if n > 0 {
				s.shapes.path[passed] = step{uint32(start), n}
				passed++
				spot, l = n, p.leaf
				if i += len(p.text); b[i] <= ' ' {
					i = space(b, i)
				}
				goto value
			}
			strayed, learning = true, true
			if !s.stray(passed) {
				return false
			}
		}
		if i = plainEnd(b, start); b[i] != '"' {
			return false // an escape, or wrong
		}
		name := b[start:i]
		if !s.names.add(b, start, i, top.object) {
			return false
		}
		l = nil
		if top.branch != nil {
			l = top.branch.find(name)
		}
		if i++; b[i] == ':' {
			if learning {
				spot = s.shapes.learn(spot, b[start-1:i+1], top, l)
				learning = spot > 0
			}
		} else {
			learning = false
			if i = space(b, i); b[i] != ':' {
				return false
			}
		}
		if i++; b[i] <= ' ' {
			i = space(b, i)
		}
		goto value
	}
}

// stray notes the names that a record has passed, since one comes that was not remembered.
func (s *scanner) stray(passed int) bool {
	s.names.begin()
	s.shapes.strayed++
	for _, p := range s.shapes.path[:passed] {
		at := &s.shapes.spots[p.spot]
		if !s.names.add(s.text, int(p.start), int(p.start)+len(at.text)-len(`"":`), at.object) {
			return false
		}
	}
	return true
}

// scalar notes a value that is no array and no object, nor null; not ok where more names were looked for in it.
func (s *scanner) scalar(l *leaf, v view) bool {
	if l.below != nil {
		return false
	}
	s.views[l.slot] = v
	return true
}

func (b *branch) find(name []byte) *leaf {
	for i := range b.leaves {
		if l := &b.leaves[i]; len(l.name) == len(name) && l.name == string(name) {
			return l
		}
	}
	return nil
}

// nameSet finds members of one object that have the same name.
type nameSet struct {
	stamp uint32 // of the record
	count int
	slots []nameSlot
}

type nameSlot struct {
	stamp  uint32
	object uint32
	start  uint32
	end    uint32
}

const (
	nameBits = 12
	maxNames = 1 << nameBits / 2 // in one record
	// maxProbes bounds what names cost that were chosen so that they meet in the table.
	maxProbes = 32
)

func (n *nameSet) begin() {
	n.count = 0
	if n.stamp++; n.stamp == 0 || n.slots == nil {
		n.slots = make([]nameSlot, 1<<nameBits)
		n.stamp = 1
	}
}

// add notes the name b[start:end] of an object; not ok where the object has it already, or where it cannot be told.
func (n *nameSet) add(b []byte, start, end int, object uint32) bool {
	if n.count++; n.count > maxNames {
		return false
	}
	size := uint(end - start)
	w := load8(b, start)
	if size < 8 {
		w &= 1<<(8*size) - 1
	} else {
		w ^= load8(b, end-8) * 0x2545f4914f6cdd1d
	}
	h := (w ^ uint64(size)<<56 ^ uint64(object)*0xd1342543de82ef95) * 0x9e3779b97f4a7c15 >> (64 - nameBits)
	for range maxProbes {
		slot := &n.slots[h&(1<<nameBits-1)]
		if slot.stamp != n.stamp {
			*slot = nameSlot{n.stamp, object, uint32(start), uint32(end)}
			return true
		}
		if slot.object == object && uint(slot.end-slot.start) == size && bytes.Equal(b[slot.start:slot.end], b[start:end]) {
			return false
		}
		h++
	}
	return false
}

// skim reads a record until every value is found. Where it is ok and the record is one that scan or a full parse takes,
// the views are its values.
func (s *scanner) skim(data []byte) bool {
	if len(data) > transform.MaxData {
		return false
	}
	s.load(data)
	left := 0
	for _, l := range s.tree.leaves {
		left += l.count
	}
	i := space(s.text, 0)
	if s.text[i] != '{' {
		return false
	}
	_, ok := s.skimObject(i, s.tree, left, true)
	return ok
}

// skimObject reads the object at i until left values of br are found. It returns the index after the object, or 0 where
// it did not come to its end. last: nothing is wanted behind this object.
func (s *scanner) skimObject(i int, br *branch, left int, last bool) (next int, ok bool) {
	b := s.text
	if i = space(b, i+1); b[i] == '}' {
		return i + 1, true
	}
	var seen [8]bool // leaves, of which a second one is left to the full parse
	for {
		if b[i] != '"' {
			return 0, false
		}
		start := i + 1
		if i = plainEnd(b, start); b[i] != '"' {
			return 0, false // an escape, or wrong
		}
		name := b[start:i]
		if i++; b[i] != ':' {
			if i = space(b, i); b[i] != ':' {
				return 0, false
			}
		}
		if i++; b[i] <= ' ' {
			i = space(b, i)
		}
		var l *leaf
		for j := range br.leaves {
			if o := &br.leaves[j]; len(o.name) == len(name) && o.name == string(name) {
				if l = o; j < len(seen) {
					if seen[j] {
						return 0, false
					}
					seen[j] = true
				}
				break
			}
		}
		if l == nil {
			if i, ok = skip(b, i); !ok {
				return 0, false
			}
		} else {
			left -= l.count
			if i, ok = s.skimValue(i, l, last && left == 0); !ok {
				return 0, false
			}
			if left == 0 {
				return 0, true
			}
		}
		if b[i] <= ' ' {
			i = space(b, i)
		}
		switch b[i] {
		case ',':
			if i++; b[i] <= ' ' {
				i = space(b, i)
			}
		case '}':
			return i + 1, true
		default:
			return 0, false
		}
	}
}

// skimValue reads the wanted value at i and returns the index after it, or anything where it is the last one.
func (s *scanner) skimValue(i int, l *leaf, last bool) (next int, ok bool) {
	b := s.text
	switch c := b[i]; {
	case c == '"':
		start := i + 1
		end, escaped, ok := stringEnd(b, start)
		return end + 1, ok && s.scalar(l, view{transform.String, escaped, start, end})
	case c == '{' || c == '[':
		if l.slot >= 0 {
			s.views[l.slot].kind = transform.Array
			if c == '{' {
				s.views[l.slot].kind = transform.Object
			}
		}
		if l.below != nil {
			if c == '[' {
				return 0, false
			}
			below := l.count
			if l.slot >= 0 {
				below--
			}
			if next, ok = s.skimObject(i, l.below, below, last); !ok {
				return 0, false
			}
		}
		if next > 0 || last {
			return next, true
		}
		return skip(b, i)
	case c == '-' || c-'0' <= 9:
		end, ok := numberEnd(b, i)
		return end, ok && s.scalar(l, view{transform.Number, false, i, end})
	case c == 'n' && string(b[i:i+4]) == "null":
		return i + 4, true
	case c == 't' && string(b[i:i+4]) == "true":
		return i + 4, s.scalar(l, view{kind: transform.True})
	case c == 'f' && string(b[i:i+5]) == "false":
		return i + 5, s.scalar(l, view{kind: transform.False})
	}
	return 0, false
}

// skip returns the index after the value at i, of which it looks at no more than where it ends.
func skip(b []byte, i int) (next int, ok bool) {
	switch b[i] {
	case '"':
		if i = plainEnd(b, i+1); b[i] != '"' {
			if i, _, ok = stringEnd(b, i); !ok {
				return 0, false
			}
		}
		return i + 1, true
	case '{', '[':
	default:
		// A scalar ends before , ] } or white space.
		for ; ; i++ {
			switch c := b[i]; {
			case c == ',' || c == '}' || c == ']' || c <= ' ':
				return i, c != 0
			}
		}
	}
	depth := 0
	for {
		// The next quote, bracket or brace, or zero, which is the end. | 0x20 makes braces of brackets.
		w := load8(b, i)
		q := w ^ ones*'"'
		f := w | ones*0x20
		o := f ^ ones*'{'
		c := f ^ ones*'}'
		m := ((q-ones)&^q | (o-ones)&^o | (c-ones)&^c | (w-ones)&^w) & highs
		if m == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(m) >> 3
		switch b[i] {
		case '"':
			if i = plainEnd(b, i+1); b[i] != '"' {
				if i, _, ok = stringEnd(b, i); !ok {
					return 0, false
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1, true
			}
		default:
			if i >= len(b)-pad {
				return 0, false
			}
		}
		i++
	}
}
