package parquet

import (
	"bytes"
	"math/bits"
	"strings"
)

// A keyTable finds the field of a key. Records of a stream have mostly the same members in the same order,
// so the first thing tried is the key that followed last time, as it was spelled then: one or two compares
// of 8-byte words, closing quote included, whether the key has a field or not. Only a miss looks at what
// the key means, through a perfect hash over its length and its first and last 8 bytes.
//
// What is remembered changes how fast a key is found and never what is found, so it outlives objects.
type keyTable struct {
	fold  bool             // keys are compared in lower case
	dots  bool             // dots count as underscores
	names []string         // normalised, by field; "" where a field is read from no key
	index map[string]int32 // by normalised name; what the hash is checked against, and the way of odd keys

	// Perfect hash: cells hold field+1, 0 for none; nil where no multiplier separates the names.
	cells []int32
	mult  uint64
	shift uint8

	start   *slot   // stands before the first member
	nothing *slot   // matches no key
	byField []*slot // the spelling last met of each field's key
	unknown []*slot // keys without a field, by hash of the spelling
	count   int     // of unknown keys that were remembered
}

// slot is one spelling of a key that was met.
type slot struct {
	w0, w1, m0, m1 uint64 // its first 16 bytes, closing quote included, and which bits of them count
	next, alt      *slot  // the slots that followed it last, and before that; never nil
	n              int    // bytes of text
	field          int32  // or noField
	text           []byte // all of it, closing quote included
}

const (
	maxSlots       = 1024 // spellings of unknown keys remembered for one struct
	maxSlotText    = 256  // longer keys are not remembered
	unknownBuckets = 256
	noField        = -1
)

// build fills the table with the JSON keys of the fields. When two fields would read the same key it
// returns their indexes.
func (t *keyTable) build(keys []string, fold, dots bool) (clash [2]int) {
	t.fold, t.dots = fold, dots
	t.index = make(map[string]int32, len(keys))
	t.names = make([]string, len(keys))
	t.byField = make([]*slot, len(keys))
	t.nothing = &slot{w0: 1} // with no bit that counts
	t.nothing.next, t.nothing.alt = t.nothing, t.nothing
	t.start = &slot{w0: 1, next: t.nothing, alt: t.nothing}
	for i, k := range keys {
		if k == "" {
			continue
		}
		k = t.normal(k)
		if j, ok := t.index[k]; ok {
			return [2]int{int(j), i}
		}
		t.names[i], t.index[k] = k, int32(i)
	}
	t.perfect()
	return clash
}

func (t *keyTable) normal(k string) string {
	if t.dots {
		k = strings.ReplaceAll(k, ".", "_")
	}
	if t.fold {
		k = strings.ToLower(k)
	}
	return k
}

// perfect looks for a multiplier under which no two names share a cell.
func (t *keyTable) perfect() {
	type sum struct {
		h     uint64
		field int32
	}
	sums := make([]sum, 0, len(t.names))
	for i, name := range t.names {
		if name == "" {
			continue
		}
		padded := append([]byte(name), make([]byte, 16)...)
		w0, w1 := ends(padded, 0, len(name))
		sums = append(sums, sum{mixKey(w0, w1, len(name)), int32(i)})
	}
	for log := bits.Len(uint(2 * len(sums))); log <= bits.Len(uint(16*len(sums))); log++ {
		cells := make([]int32, 1<<log)
		mult := uint64(0x9E3779B97F4A7C15)
	next:
		for range 64 {
			clear(cells)
			mult = mult*6364136223846793005 + 1442695040888963407
			for _, s := range sums {
				cell := &cells[(s.h*(mult|1))>>(64-log)]
				if *cell != 0 {
					continue next
				}
				*cell = s.field + 1
			}
			t.cells, t.mult, t.shift = cells, mult|1, uint8(64-log)
			return
		}
	}
	t.cells = nil // names alike at both ends, or very many
}

// ends returns the first and the last 8 bytes of the n bytes at i, zeros where there are fewer. 8 bytes
// must be readable after the first.
func ends(b []byte, i, n int) (first, last uint64) {
	first = load8(b, i)
	if n < 8 {
		first &= 1<<(8*n) - 1
		return first, first
	}
	return first, load8(b, i+n-8)
}

func mixKey(first, last uint64, n int) uint64 {
	h := first*0xff51afd7ed558ccd ^ bits.RotateLeft64(last*0xc4ceb9fe1a85ec53, 29) ^ uint64(n)
	return h ^ h>>32
}

// lower puts the ASCII capitals of a word in lower case; no byte of it may have its high bit set.
func lower(w uint64) uint64 {
	upper := (w + ones*(0x80-'A')) &^ (w + ones*(0x80-'Z'-1)) & highs
	return w | upper>>2
}

// find resolves the key whose raw bytes are b[i:end] without escapes, by its meaning.
func (t *keyTable) find(b []byte, i, end int) int32 {
	n := end - i
	if t.cells != nil && n > 0 && (!t.dots || bytes.IndexByte(b[i:end], '.') < 0) {
		first, last := ends(b, i, n)
		if (first|last)&highs == 0 {
			if t.fold {
				first, last = lower(first), lower(last)
			}
			f := t.cells[(mixKey(first, last, n)*t.mult)>>t.shift] - 1
			if f < 0 {
				if n <= 16 || !t.fold {
					return noField
				}
			} else if name := t.names[f]; len(name) == n && t.same(name, b[i:end]) {
				return f
			} else if n <= 16 || !t.fold {
				return noField
			}
			// A long key whose middle is not ASCII can have another length in lower case.
			if isASCII(b[i:end]) {
				return noField
			}
		}
	}
	return t.findText(b[i:end])
}

// same compares a key with a name of the same length, as ASCII.
func (t *keyTable) same(name string, key []byte) bool {
	if !t.fold {
		return name == string(key)
	}
	for i, c := range key {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// findText resolves a key given as text, whatever it holds.
func (t *keyTable) findText(key []byte) int32 {
	if t.dots || t.fold && !isLower(key) {
		if f, ok := t.index[t.normal(string(key))]; ok {
			return f
		}
		return noField
	}
	if f, ok := t.index[string(key)]; ok {
		return f
	}
	return noField
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

func isLower(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

// matches reports whether the key at i, quote included, is this spelling.
func (s *slot) matches(b []byte, i int) bool {
	if load8(b, i)&s.m0 != s.w0 || load8(b, i+8)&s.m1 != s.w1 {
		return false
	}
	return s.n <= 16 || string(s.text[16:]) == string(b[i+16:min(i+s.n, len(b))])
}

// learn remembers that the spelling b[i:end] (closing quote at end) has this field and came after slot
// prev, and returns its slot, or the start if it is not remembered.
func (t *keyTable) learn(b []byte, i, end int, field int32, prev *slot) *slot {
	if end-i > maxSlotText {
		return t.start
	}
	text := b[i : end+1]
	var s *slot
	if field >= 0 {
		if s = t.byField[field]; s == nil {
			s = t.newSlot(field)
			t.byField[field] = s
		}
	} else {
		if t.unknown == nil {
			t.unknown = make([]*slot, unknownBuckets)
		}
		first, last := ends(b, i, end-i)
		bucket := &t.unknown[mixKey(first, last, end-i)*hashMul>>56]
		s = *bucket
		if s == nil || string(s.text) != string(text) {
			if t.count == maxSlots {
				return t.start
			}
			t.count++
			s = t.newSlot(noField)
			*bucket = s
		}
	}
	if string(s.text) != string(text) {
		s.spell(b, i, text)
	}
	if prev.next != s {
		prev.alt, prev.next = prev.next, s
	}
	return s
}

func (t *keyTable) newSlot(field int32) *slot {
	return &slot{field: field, next: t.nothing, alt: t.nothing}
}

// spell makes text, which is at b[i], the slot's spelling.
func (s *slot) spell(b []byte, i int, text []byte) {
	s.text, s.n = append(s.text[:0], text...), len(text)
	s.w0, s.m0 = load8(b, i), ^uint64(0)
	s.w1, s.m1 = load8(b, i+8), ^uint64(0)
	if s.n < 8 {
		s.m0, s.m1 = 1<<(8*s.n)-1, 0
	} else if s.n < 16 {
		s.m1 = 1<<(8*(s.n-8)) - 1
	}
	s.w0, s.w1 = s.w0&s.m0, s.w1&s.m1
}
