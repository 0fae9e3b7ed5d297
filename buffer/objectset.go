package buffer

import (
	"errors"
	"iter"
	"math/bits"
)

// maxObjects is the most objects that one manifest may have.
const maxObjects = 1 << 24

// objectSet is a set of object numbers of one manifest. The zero set is empty.
type objectSet struct {
	words []uint64
	n     int
}

func (s *objectSet) has(i int) bool {
	return i>>6 < len(s.words) && s.words[i>>6]&(1<<(i&63)) != 0
}

// add puts i in and tells whether it was new.
func (s *objectSet) add(i int) bool {
	for i>>6 >= len(s.words) {
		s.words = append(s.words, 0)
	}
	if s.words[i>>6]&(1<<(i&63)) != 0 {
		return false
	}
	s.words[i>>6] |= 1 << (i & 63)
	s.n++
	return true
}

// merge puts all of o in.
func (s *objectSet) merge(o *objectSet) {
	for i := range o.all() {
		s.add(i)
	}
}

func (s *objectSet) clone() objectSet {
	return objectSet{words: append([]uint64(nil), s.words...), n: s.n}
}

// all iterates in ascending order.
func (s *objectSet) all() iter.Seq[int] {
	return func(yield func(int) bool) {
		for w, word := range s.words {
			for word != 0 {
				if !yield(w<<6 + bits.TrailingZeros64(word)) {
					return
				}
				word &= word - 1
			}
		}
	}
}

// max is the largest number in the set, -1 where it is empty.
func (s *objectSet) max() int {
	for w := len(s.words) - 1; w >= 0; w-- {
		if s.words[w] != 0 {
			return w<<6 + 63 - bits.LeadingZeros64(s.words[w])
		}
	}
	return -1
}

// spans iterates over the maximal runs [first, next).
func (s *objectSet) spans() iter.Seq2[int, int] {
	return func(yield func(int, int) bool) {
		first, next := -1, -1
		for i := range s.all() {
			if i != next {
				if first >= 0 && !yield(first, next) {
					return
				}
				first = i
			}
			next = i + 1
		}
		if first >= 0 {
			yield(first, next)
		}
	}
}

// Forms of a set in a payload; the shorter one is written, ranges where both are as long.
const (
	setRanges = 0 // u8 form · u32 runs · u32 first, u32 length each
	setBitmap = 1 // u8 form · u32 bytes · bits, the last byte not zero
)

var errSet = errors.New("set of objects is not in its shortest form")

func (s *objectSet) put(w *writer) {
	runs := 0
	for range s.spans() {
		runs++
	}
	size := (s.max() + 8) / 8
	if runs*8 <= size {
		w.u8(setRanges)
		w.u32(uint32(runs))
		for first, next := range s.spans() {
			w.u32(uint32(first))
			w.u32(uint32(next - first))
		}
		return
	}
	w.u8(setBitmap)
	w.u32(uint32(size))
	for i := range size {
		w.u8(uint8(s.words[i>>3] >> (i & 7 * 8)))
	}
}

// readObjectSet reads a set of numbers below limit.
func readObjectSet(r *reader, limit int) (s objectSet) {
	switch form := r.u8(); form {
	case setRanges:
		at := -1
		for range r.list(int(r.u32()), 8) {
			first, n := int(r.u32()), int(r.u32())
			if first <= at || n == 0 || first+n > limit {
				r.fail(errSet)
				return objectSet{}
			}
			at = first + n
			for i := first; i < at; i++ {
				s.add(i)
			}
		}
		if size := (s.max() + 8) / 8; s.runs()*8 > size {
			r.fail(errSet)
		}
	case setBitmap:
		b := r.take(int(r.u32()))
		if len(b) > maxObjects/8 || len(b) == 0 || b[len(b)-1] == 0 {
			r.fail(errSet)
			return objectSet{}
		}
		for i, c := range b {
			for ; c != 0; c &= c - 1 {
				s.add(i<<3 + bits.TrailingZeros8(c))
			}
		}
		if s.max() >= limit {
			r.fail(errSet)
		}
		if s.runs()*8 <= len(b) {
			r.fail(errSet)
		}
	default:
		r.fail(errSet)
	}
	return s
}

func (s *objectSet) runs() (n int) {
	for range s.spans() {
		n++
	}
	return n
}
