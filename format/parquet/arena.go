package parquet

// An arena keeps finished pages until their row group is written, in blocks that serve one row group after
// another: no page is copied twice and nothing is left for the garbage collector.
type arena struct {
	blocks [][]byte
	last   int // the block being filled
	used   int64
}

const blockBytes = 256 << 10

// extent is a part of a block.
type extent struct {
	block, from, to int32
}

// add stores b and appends to at where.
func (a *arena) add(at []extent, b []byte) []extent {
	a.used += int64(len(b))
	for len(b) > 0 {
		if a.last == len(a.blocks) {
			a.blocks = append(a.blocks, make([]byte, 0, blockBytes))
		}
		block := a.blocks[a.last]
		room := cap(block) - len(block)
		if room == 0 {
			a.last++
			continue
		}
		n := min(room, len(b))
		from := len(block)
		a.blocks[a.last] = append(block, b[:n]...)
		if k := len(at) - 1; k >= 0 && at[k].block == int32(a.last) && at[k].to == int32(from) {
			at[k].to += int32(n)
		} else {
			at = append(at, extent{int32(a.last), int32(from), int32(from + n)})
		}
		b = b[n:]
	}
	return at
}

// bytes of an extent, until reset.
func (a *arena) bytes(e extent) []byte { return a.blocks[e.block][e.from:e.to] }

// reset forgets what is stored and keeps up to keep bytes of memory.
func (a *arena) reset(keep int64) {
	if n := int(keep / blockBytes); n < len(a.blocks) {
		clear(a.blocks[n:])
		a.blocks = a.blocks[:n]
	}
	for i := range a.blocks {
		a.blocks[i] = a.blocks[i][:0]
	}
	a.last, a.used = 0, 0
}
