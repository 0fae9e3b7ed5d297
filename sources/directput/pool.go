package directput

import (
	"math/bits"
	"sync"
)

// pool recycles buffers of request bodies and batches by size, four sizes to an octave: a buffer that the
// Appender keeps holds little more than it needs. The zero pool is ready to use.
type pool struct {
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

// get returns a buffer with room for n bytes and whatever content.
func (p *pool) get(n int) []byte {
	i, size := class(n)
	if i >= len(p.classes) {
		return make([]byte, n)
	}
	if b, ok := p.classes[i].Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, size)
}

// put takes a buffer back. One of another size than a class's is left to the garbage collector.
func (p *pool) put(b []byte) {
	i, size := class(cap(b))
	if i >= len(p.classes) || size != cap(b) {
		return
	}
	p.classes[i].Put(&b)
}
