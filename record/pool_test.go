package record

import (
	"math/rand/v2"
	"testing"
)

func TestPoolClasses(t *testing.T) {
	const maxBody = 6 << 20
	var p Pool
	rng := rand.New(rand.NewPCG(1, 2))
	sizes := []int{0, 1, smallest, smallest + 1, 5 << 10, 5<<10 + 1, maxBody, maxBody + 1, 1 << 30}
	for range 2000 {
		sizes = append(sizes, rng.IntN(maxBody))
	}
	for _, n := range sizes {
		i, size := class(n)
		if size < n || n > smallest && size > n+n/4+1 {
			t.Fatalf("class of %d has %d bytes", n, size)
		}
		if again, _ := class(size); again != i {
			t.Fatalf("%d is in class %d, its size %d in %d", n, i, size, again)
		}
		if next, _ := class(size + 1); next != i+1 {
			t.Fatalf("%d is in class %d, %d in %d", size, i, size+1, next)
		}
		if n <= maxBody {
			b := p.Get(n)
			if len(b) != 0 || cap(b) < n {
				t.Fatalf("Get(%d): %d of %d", n, len(b), cap(b))
			}
			p.Put(b)
		}
	}
	p.Put(make([]byte, 0, 12345)) // of no class
	p.Put(nil)
	if b := p.Get(12345); cap(b) != 14<<10 {
		t.Errorf("get(12345) has %d bytes", cap(b))
	}
}

// TestBuffersDoNotMix: many calls at once, with buffers that go back to the pool and ones that do not.
