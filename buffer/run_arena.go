package buffer

import (
	"encoding/binary"
	"iter"
	"slices"
	"strings"
	"sync"

	"hydrant/record"
)

// arena gathers rows by key. They lie in slabs as they come, each with a link to the next row of its key, so that the
// garbage collector sees a few pointers for each slab and key and none for a row.
//
//	row    0  place of the next row u64   16  arrival i64             28  bytes of Data u32, and the
//	       8  sequence u64                24  sub u32                     top bit where it counts
//	      32  Data
type arena struct {
	pool  *sync.Pool
	slabs [][]byte
	used  int64 // capacity of slabs, and what keys take

	keys  []arenaKey
	index map[string]int32
	last  int32 // the key of the row before
	order []int32
}

// arenaKey is a key with the places of its rows: slab number + 1 in the upper half, offset in the lower one.
type arenaKey struct {
	name        string
	first, last uint64
}

const (
	arenaSlab   = 128 << 10
	arenaHeader = 32
	arenaPerKey = 112 // bytes of memory beside the key itself: name, places, a slot in the map
	arenaCounts = 1 << 31
)

// newSlabPool recycles slabs.
func newSlabPool() *sync.Pool {
	return &sync.Pool{New: func() any {
		b := make([]byte, 0, arenaSlab)
		return &b
	}}
}

// room tells whether the newest slab has n more bytes.
func (a *arena) room(n int) bool {
	if len(a.slabs) == 0 {
		return false
	}
	s := a.slabs[len(a.slabs)-1]
	return cap(s)-len(s) >= n
}

// full tells whether a row does not fit under the limit. One always fits.
func (a *arena) full(key, data int, limit int64) bool {
	after := a.used + int64(key) + arenaPerKey
	if !a.room(arenaHeader + data) {
		after += int64(max(arenaSlab, arenaHeader+data))
	}
	return len(a.keys) > 0 && after > limit
}

func (a *arena) add(key []byte, row *RunRow) {
	if len(a.keys) == 0 || a.keys[a.last].name != string(key) {
		i, known := a.index[string(key)]
		if !known {
			i = int32(len(a.keys))
			name := string(key)
			a.keys = append(a.keys, arenaKey{name: name})
			if a.index == nil {
				a.index = make(map[string]int32)
			}
			a.index[name] = i
			a.used += int64(len(key)) + arenaPerKey
		}
		a.last = i
	}
	need := arenaHeader + len(row.Data)
	if !a.room(need) {
		var s []byte
		if need <= arenaSlab {
			s = (*a.pool.Get().(*[]byte))[:0]
		} else {
			s = make([]byte, 0, need)
		}
		a.slabs = append(a.slabs, s)
		a.used += int64(cap(s))
	}
	n := len(a.slabs) - 1
	s := a.slabs[n]
	place := uint64(n+1)<<32 | uint64(len(s))
	le := binary.LittleEndian
	size := uint32(len(row.Data))
	if row.Counts {
		size |= arenaCounts
	}
	s = le.AppendUint64(s, 0)
	s = le.AppendUint64(s, row.Seq)
	s = le.AppendUint64(s, uint64(row.Arrived))
	s = le.AppendUint32(s, row.Sub)
	s = le.AppendUint32(s, size)
	a.slabs[n] = append(s, row.Data...)
	k := &a.keys[a.last]
	if k.first == 0 {
		k.first = place
	} else {
		le.PutUint64(a.slabs[k.last>>32-1][uint32(k.last):], place)
	}
	k.last = place
}

// sorted is the numbers of the keys in ascending order of their names.
func (a *arena) sorted() []int32 {
	a.order = a.order[:0]
	for i := range a.keys {
		a.order = append(a.order, int32(i))
	}
	slices.SortFunc(a.order, func(i, j int32) int { return strings.Compare(a.keys[i].name, a.keys[j].name) })
	return a.order
}

// rows iterates over the rows of a key. Data is a view.
func (a *arena) rows(k *arenaKey) iter.Seq[RunRow] {
	return func(yield func(RunRow) bool) {
		le := binary.LittleEndian
		for at := k.first; at != 0; {
			b := a.slabs[at>>32-1][uint32(at):]
			size := le.Uint32(b[28:])
			n := int(size &^ arenaCounts)
			row := RunRow{
				Row: record.Row{
					Seq: le.Uint64(b[8:]), Arrived: int64(le.Uint64(b[16:])), Sub: le.Uint32(b[24:]),
					Data: b[arenaHeader : arenaHeader+n : arenaHeader+n],
				},
				Counts: size&arenaCounts != 0,
			}
			if !yield(row) {
				return
			}
			at = le.Uint64(b)
		}
	}
}

// reset empties the arena for the next part.
func (a *arena) reset() {
	for i, s := range a.slabs {
		if cap(s) == arenaSlab {
			s = s[:0]
			a.pool.Put(&s)
		}
		a.slabs[i] = nil
	}
	clear(a.keys)
	clear(a.index)
	a.slabs, a.keys, a.used, a.last = a.slabs[:0], a.keys[:0], 0, 0
}
