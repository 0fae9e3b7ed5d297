package parquet

import (
	"encoding/binary"
	"math/bits"
)

// The hybrid of run-length encoding and bit packing, in which levels and dictionary indexes are written:
// a header whose low bit says which, then either one value and its count or groups of 8 values packed
// from the lowest bit up.

// A hybrid encoder is given values in order and appends them to dst.
type hybrid struct {
	dst    []byte
	width  uint
	header int // where the header of the open run of groups is, or -1
	groups int // in that run
	part   [8]uint32
	n      int // values in part
	value  uint32
	count  int // times that value waits to be written
}

// maxGroups keeps the header of a run of groups in one byte, so that its place can be kept free.
const maxGroups = 63

func newHybrid(dst []byte, width uint) hybrid { return hybrid{dst: dst, width: width, header: -1} }

// put adds value count times.
func (h *hybrid) put(value uint32, count int) {
	if value == h.value {
		h.count += count
		return
	}
	h.settle()
	h.value, h.count = value, count
}

// settle writes the values that wait: as a run when there are enough of them at a boundary of groups.
func (h *hybrid) settle() {
	for h.count > 0 && (h.n > 0 || h.count < 8) {
		h.part[h.n] = h.value
		h.n++
		h.count--
		if h.n == 8 {
			h.group(&h.part)
			h.n = 0
		}
	}
	if h.count == 0 {
		return
	}
	// A run of a few bits is cheaper packed with its neighbours than as a run with two headers.
	if h.header >= 0 && h.count&7 == 0 && h.count/8*int(h.width) <= 3 {
		v := [8]uint32{h.value, h.value, h.value, h.value, h.value, h.value, h.value, h.value}
		for ; h.count > 0; h.count -= 8 {
			h.group(&v)
		}
		return
	}
	h.run(h.value, h.count)
	h.count = 0
}

// group writes 8 values.
func (h *hybrid) group(v *[8]uint32) {
	h.countGroup()
	h.dst = pack8(h.dst, v, h.width)
}

func (h *hybrid) countGroup() {
	if h.header < 0 || h.groups == maxGroups {
		h.header, h.groups = len(h.dst), 0
		h.dst = append(h.dst, 0)
	}
	h.groups++
	h.dst[h.header] = byte(h.groups<<1 | 1)
}

// levels writes 8 levels, one a byte.
func (h *hybrid) levels(w uint64) {
	h.countGroup()
	if h.width == 1 {
		// The multiplication brings the lowest bit of each byte into the highest byte.
		h.dst = append(h.dst, byte(w*0x0102040810204080>>56))
		return
	}
	var p uint64
	for i := uint(0); i < 64; i += 8 {
		p |= w >> i & 0xff << (i / 8 * h.width)
	}
	n := len(h.dst)
	h.dst = binary.LittleEndian.AppendUint64(h.dst, p)[:n+int(h.width)]
}

// run writes one value and its count.
func (h *hybrid) run(value uint32, count int) {
	h.header = -1
	h.dst = binary.AppendUvarint(h.dst, uint64(count)<<1)
	for w := uint(0); w < h.width; w += 8 {
		h.dst = append(h.dst, byte(value>>w))
	}
}

// finish writes what is left, the last group filled up with zeros, and returns all.
func (h *hybrid) finish() []byte {
	h.settle()
	if h.n > 0 {
		clear(h.part[h.n:])
		h.group(&h.part)
		h.n = 0
	}
	return h.dst
}

// pack8 appends 8 values of width bits each.
func pack8(dst []byte, v *[8]uint32, width uint) []byte {
	if width <= 8 {
		w := uint64(v[0]) | uint64(v[1])<<width | uint64(v[2])<<(2*width) | uint64(v[3])<<(3*width) |
			uint64(v[4])<<(4*width) | uint64(v[5])<<(5*width) | uint64(v[6])<<(6*width) | uint64(v[7])<<(7*width)
		n := len(dst)
		dst = binary.LittleEndian.AppendUint64(dst, w)
		return dst[:n+int(width)]
	}
	var acc uint64
	var have uint
	for _, x := range v {
		acc |= uint64(x) << have
		have += width
		if have >= 32 {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(acc))
			acc >>= 32
			have -= 32
		}
	}
	for ; have > 0; have -= 8 { // 8 values are whole bytes
		dst = append(dst, byte(acc))
		acc >>= 8
	}
	return dst
}

// appendIndexes appends dictionary indexes of width bits.
func appendIndexes(dst []byte, idx []uint32, width uint) []byte {
	h := newHybrid(dst, width)
	if width == 0 {
		h.put(0, len(idx))
		return h.finish()
	}
	i := 0
	for ; i+8 <= len(idx); i += 8 {
		v := (*[8]uint32)(idx[i:])
		x := v[0]
		if (v[1]^x)|(v[2]^x)|(v[3]^x)|(v[4]^x)|(v[5]^x)|(v[6]^x)|(v[7]^x) == 0 {
			h.put(x, 8)
			continue
		}
		h.settle() // whole groups only, so that no part of one is left
		h.group(v)
	}
	for ; i < len(idx); i++ {
		h.put(idx[i], 1)
	}
	return h.finish()
}

// appendLevelRuns appends levels, then tail more of the level last, then nulls more of level 0.
func appendLevelRuns(dst []byte, levels []uint8, last uint8, tail, nulls int, max uint8) []byte {
	h := newHybrid(dst, uint(bits.Len8(max)))
	i := 0
	for ; i+8 <= len(levels); i += 8 {
		w := binary.LittleEndian.Uint64(levels[i:])
		if w == uint64(levels[i])*ones {
			h.put(uint32(levels[i]), 8)
			continue
		}
		h.settle() // whole groups only, so that no part of one is left
		h.levels(w)
	}
	for ; i < len(levels); i++ {
		h.put(uint32(levels[i]), 1)
	}
	h.put(uint32(last), tail)
	h.put(0, nulls)
	return h.finish()
}
