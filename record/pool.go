package record

import (
	"math/bits"
	"sync"
)

// Pool recycles the buffers of batches, and of the bodies that they come in, by size, four sizes to an octave:
// a buffer that is kept for long holds little more than it needs. The zero Pool is ready to use; a nil one
// recycles nothing. Safe for concurrent use.
type Pool struct {
	classes [4 * 16]sync.Pool // of *[]byte
}

// smallest is the size of the first class.
const smallest = 4 << 10

// class is the index of the smallest class whose buffers hold n bytes, with its size.
func class(n int) (index, size int) {
	if n <= smallest {
		return 0, smallest
	}
	// The octave begins at 1<<top; quarter is how much of it n takes, rounded up.
	top := bits.Len(uint(n-1)) - 1
	quarter := (n - 1 - 1<<top) >> (top - 2)
	return 4*(top-bits.Len(smallest)+1) + quarter + 1, 1<<top + (quarter+1)<<(top-2)
}

// Get returns an empty buffer with room for n bytes, with whatever content.
func (p *Pool) Get(n int) []byte {
	i, size := class(n)
	if p == nil || i >= len(p.classes) {
		return make([]byte, 0, n)
	}
	if b, ok := p.classes[i].Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, size)
}

// Put takes a buffer back that nobody reads or writes any more. One of another size than a class's is left to
// the garbage collector.
func (p *Pool) Put(b []byte) {
	i, size := class(cap(b))
	if p == nil || i >= len(p.classes) || size != cap(b) {
		return
	}
	p.classes[i].Put(&b)
}
