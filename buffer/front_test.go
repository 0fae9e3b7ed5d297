package buffer

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"hydrant/record"
)

// batch lays out records as a call has them.
func batch(records ...string) *record.Batch {
	b := record.NewBatch(nil)
	for _, r := range records {
		b.Append([]byte(r))
	}
	return b
}

// pushRows pushes one call of records "1", "2", ... named after their sequences.
func pushRows(f *front, first uint64, n int, arrived int64) {
	var rows []string
	for i := range n {
		rows = append(rows, fmt.Sprint(first+uint64(i)))
	}
	b := batch(rows...)
	f.push(1, first, n, b.Payload(), arrived, b.Encoded(), nil)
}

// rowsOf prints a claim's rows.
func rowsOf(k *Claim) string {
	if k == nil {
		return "nil"
	}
	first, next := k.Range()
	var s []string
	for r := range k.Rows() {
		if string(r.Data) != fmt.Sprint(r.Seq) {
			return fmt.Sprintf("row %d holds %q", r.Seq, r.Data)
		}
		s = append(s, fmt.Sprintf("%d@%d", r.Seq, r.Arrived))
	}
	return fmt.Sprintf("[%d,%d) %s", first, next, strings.Join(s, " "))
}

func newTestFront(budget int64, consumers ...uint8) (*front, []*Consumer) {
	f := newFront(budget)
	var list []*Consumer
	for _, id := range consumers {
		list = append(list, f.add(nil, 1, id, 1))
	}
	return f, list
}

func TestChunkSize(t *testing.T) {
	if got := unsafe.Sizeof(chunk{}); got != 40 {
		t.Errorf("a chunk has %d bytes, want 40", got)
	}
}

func TestTakeOnlyWhatIsPublished(t *testing.T) {
	f, c := newTestFront(1<<20, Main)
	pushRows(f, 1, 3, 10)
	if k := c[0].Take(0, 1<<20); k != nil {
		t.Fatalf("took %s before it was published", rowsOf(k))
	}
	if w := c[0].Waiting(); w != (Waiting{First: 1, Next: 1}) {
		t.Fatalf("waiting %+v", w)
	}
	f.publish()
	select {
	case <-c[0].Changed():
	default:
		t.Error("no token")
	}
	if w := c[0].Waiting(); w != (Waiting{First: 1, Next: 4, Bytes: 3, Oldest: 10, Front: 3}) {
		t.Fatalf("waiting %+v", w)
	}
	pushRows(f, 4, 2, 20)
	f.drop()
	pushRows(f, 7, 2, 30) // 4 to 6 are skipped
	f.publish()
	k := c[0].Take(0, 1<<20)
	if got, want := rowsOf(k), "[1,9) 1@10 2@10 3@10 7@30 8@30"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if k.whole.rows != 5 {
		t.Errorf("claim has %d rows", k.whole.rows)
	}
	if c[0].undecided() != 5 {
		t.Errorf("%d rows uncovered", c[0].undecided())
	}
	k.consumed()
	if c[0].undecided() != 0 || f.capacity != 0 {
		t.Errorf("%d rows and %d bytes are left", c[0].undecided(), f.capacity)
	}
}

func TestTakeLimits(t *testing.T) {
	f, c := newTestFront(1<<20, Main)
	pushRows(f, 8, 5, 10) // "8" "9" "10" "11" "12"
	pushRows(f, 13, 2, 20)
	f.publish()
	for _, test := range []struct {
		next uint64
		max  int64
		want string
	}{
		{0, 1 << 20, "[1,15) 8@10 9@10 10@10 11@10 12@10 13@20 14@20"},
		{13, 1 << 20, "[1,13) 8@10 9@10 10@10 11@10 12@10"},
		{99, 4, "[1,11) 8@10 9@10 10@10"},
		{0, 3, "[1,10) 8@10 9@10"},
		{0, 0, "[1,9) 8@10"},
		{10, 1, "[1,9) 8@10"},
		{5, 1, "nil"}, // a gap only
		{0, 11, "[1,14) 8@10 9@10 10@10 11@10 12@10 13@20"},
	} {
		k := c[0].Take(test.next, test.max)
		if got := rowsOf(k); got != test.want {
			t.Errorf("take(%d, %d): got %s, want %s", test.next, test.max, got, test.want)
		}
		if k != nil {
			k.Release()
		}
	}
}

func TestTrim(t *testing.T) {
	f, c := newTestFront(1<<20, Main)
	pushRows(f, 1, 5, 10)
	pushRows(f, 6, 4, 20)
	f.publish()
	k := c[0].Take(0, 1<<20)
	k.Trim(4)
	if got, want := rowsOf(k), "[1,4) 1@10 2@10 3@10"; got != want || k.Bytes() != 3 {
		t.Fatalf("got %s, %d bytes", got, k.Bytes())
	}
	if w := c[0].Waiting(); w != (Waiting{First: 4, Next: 10, Bytes: 6, Oldest: 10, Front: 9}) {
		t.Fatalf("waiting %+v", w)
	}
	k2 := c[0].Take(7, 1<<20)
	if got, want := rowsOf(k2), "[4,7) 4@10 5@10 6@20"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	if !k.isOldest() || k2.isOldest() {
		t.Error("which claim is the oldest?")
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("an older claim was given back")
			}
		}()
		k.Release()
	}()
	k.consumed()
	if !k2.isOldest() || f.base(1, Main) != 4 {
		t.Errorf("position %d", f.base(1, Main))
	}
	k2.Trim(6)
	k2.Trim(4) // everything
	k3 := c[0].Take(0, 1<<20)
	if got, want := rowsOf(k3), "[4,10) 4@10 5@10 6@20 7@20 8@20 9@20"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}

func TestChunks(t *testing.T) {
	f, c := newTestFront(1<<20, Main)
	for i := range uint64(200) {
		pushRows(f, 1000+2*i, 2, int64(i))
	}
	f.publish()
	list := func(from uint64) []Chunk { return slices.Collect(c[0].Chunks(from)) }
	got := list(0)
	if len(got) != 200 || got[0] != (Chunk{First: 1000, Count: 2, Bytes: 8, Arrived: 0}) || got[199].First != 1398 {
		t.Fatalf("%d chunks, %+v ... ", len(got), got[0])
	}
	if got := list(1397); len(got) != 2 || got[0] != (Chunk{First: 1397, Count: 1, Bytes: 4, Arrived: 198}) {
		t.Fatalf("from the middle of a chunk: %+v", got)
	}
	if got := list(1001); len(got) != 200 || got[0] != (Chunk{First: 1001, Count: 1, Bytes: 4, Arrived: 0}) {
		t.Fatalf("back again: %d chunks", len(got))
	}
	k := c[0].Take(1003, 1<<20)
	if got := list(0); len(got) != 199 || got[0] != (Chunk{First: 1003, Count: 1, Bytes: 4, Arrived: 1}) {
		t.Fatalf("behind a claim: %d chunks, %+v", len(got), got[0])
	}
	k.Release()
	if got := list(0); len(got) != 200 {
		t.Fatalf("after the release: %d chunks", len(got))
	}
	n := 0
	for range c[0].Chunks(0) {
		if n++; n == 3 {
			break
		}
	}
	pushRows(f, 1400, 1, 500)
	if got := list(1399); len(got) != 1 {
		t.Fatalf("what is not published: %+v", got)
	}
}

// Calls of one stamp that lie next to each other are one chunk.
func TestNeighboursMerge(t *testing.T) {
	f, c := newTestFront(1<<20, Main)
	pushRows(f, 1, 2, 10)
	f.publish()
	pushRows(f, 3, 2, 10) // the one before is published: readers may hold it
	pushRows(f, 5, 2, 10)
	pushRows(f, 7, 2, 11)
	pushRows(f, 10, 1, 11) // a gap
	f.publish()
	var got []string
	for k := range c[0].Chunks(0) {
		got = append(got, fmt.Sprintf("%d+%d", k.First, k.Count))
	}
	if s := strings.Join(got, " "); s != "1+2 3+4 7+2 10+1" {
		t.Errorf("got %s", s)
	}
	if got, want := rowsOf(c[0].Take(0, 1<<20)), "[1,11) 1@10 2@10 3@10 4@10 5@10 6@10 7@11 8@11 10@11"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestHoles(t *testing.T) {
	f, c := newTestFront(1<<20, Main)
	f.hole(1, Main, 1, 3)
	pushRows(f, 3, 2, 10)
	f.hole(1, Main, 5, 8)
	pushRows(f, 8, 1, 20)
	f.hole(1, Main, 11, 12) // 9 and 10 were skipped
	pushRows(f, 12, 1, 30)
	f.publish()
	if w := c[0].Waiting(); w != (Waiting{First: 3, Next: 13, Bytes: 5, Oldest: 10, Front: 5}) {
		t.Fatalf("waiting %+v", w)
	}
	for _, want := range []string{"[3,5) 3@10 4@10", "[8,11) 8@20", "[12,13) 12@30"} {
		k := c[0].Take(0, 1<<20)
		if got := rowsOf(k); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
		if !k.isOldest() {
			t.Fatalf("%s does not begin at position %d", want, f.base(1, Main))
		}
		k.consumed()
	}
	f.hole(1, Main, 15, 20) // 13 and 14 were skipped
	pushRows(f, 20, 1, 40)
	f.publish()
	k := c[0].Take(0, 1<<20)
	if got, want := rowsOf(k), "[13,21) 20@40"; got != want || !k.isOldest() {
		t.Fatalf("got %s, want %s", got, want)
	}
}

// A consumer that begins in the middle of a call gets the rest of it; a slab is free when both are done.
func TestTwoConsumers(t *testing.T) {
	f := newFront(1 << 20)
	main := f.add(nil, 1, Main, 3)
	backup := f.add(nil, 1, Backup, 1)
	if f.consumer(1, Backup) != backup || f.consumer(1, 7) != nil || f.consumer(2, Main) != nil {
		t.Error("the wrong reader")
	}
	pushRows(f, 1, 4, 10)
	f.publish()
	m, b := main.Take(0, 1<<20), backup.Take(0, 1<<20)
	if got, want := rowsOf(m), "[3,5) 3@10 4@10"; got != want || m.Bytes() != 2 {
		t.Errorf("main: got %s, want %s", got, want)
	}
	if got, want := rowsOf(b), "[1,5) 1@10 2@10 3@10 4@10"; got != want || b.Bytes() != 4 {
		t.Errorf("backup: got %s, want %s", got, want)
	}
	m.consumed()
	if f.capacity == 0 {
		t.Error("the slab went while backup has a claim on it")
	}
	if got := rowsOf(b); !strings.HasSuffix(got, "4@10") {
		t.Errorf("backup reads %s", got)
	}
	b.consumed()
	if f.capacity != 0 {
		t.Errorf("%d bytes in use", f.capacity)
	}
	if f.push(1, 1, 1, 1, 0, batch("1").Encoded(), nil); f.capacity != 0 {
		t.Error("rows that all have covered were kept")
	}
}

func TestAdopt(t *testing.T) {
	f, c := newTestFront(8<<20, Main)
	big := batch(strings.Repeat("x", adoptFrom))
	if !f.push(1, 1, 1, big.Payload(), 0, big.Encoded(), big.Buffer()) {
		t.Error("a large call was copied")
	}
	if f.push(1, 2, 1, big.Payload(), 0, big.Encoded(), nil) {
		t.Error("kept without leave")
	}
	small := batch(strings.Repeat("x", 100))
	if f.push(1, 3, 1, small.Payload(), 0, small.Encoded(), small.Buffer()) {
		t.Error("a small call was kept")
	}
	hollow := record.NewBatch(make([]byte, 0, 4*adoptFrom))
	hollow.Append([]byte(strings.Repeat("x", adoptFrom)))
	if f.push(1, 4, 1, hollow.Payload(), 0, hollow.Encoded(), hollow.Buffer()) {
		t.Error("a buffer that is mostly empty was kept")
	}
	f.publish()
	k := c[0].Take(0, 1<<30)
	i := 0
	for r := range k.Rows() {
		if i == 0 && &r.Data[0] != &big.Encoded()[3] {
			t.Error("the adopted row is a copy")
		}
		i++
	}
	if i != 4 {
		t.Errorf("%d rows", i)
	}
	k.consumed()
	if f.capacity != 0 {
		t.Errorf("%d bytes in use", f.capacity)
	}
}

// An adopted buffer goes back to where calls get theirs from, but not while a consumer may read it.
func TestAdoptedBuffersComeBack(t *testing.T) {
	f, c := newTestFront(8<<20, Main, Backup)
	f.bufs = new(record.Pool)
	size := record.Headroom + adoptFrom + 10
	for seq := uint64(1); ; seq++ {
		if seq == 100 {
			t.Fatal("no buffer came back") // with the race detector a pool forgets some
		}
		b := record.NewBatch(f.bufs.Get(size))
		b.Append([]byte(strings.Repeat("x", adoptFrom)))
		if !f.push(1, seq, 1, b.Payload(), 0, b.Encoded(), b.Buffer()) {
			t.Fatal("a large call was copied")
		}
		f.publish()
		c[0].Take(0, 1<<30).consumed()
		if again := f.bufs.Get(size); &again[:1][0] == &b.Buffer()[0] {
			t.Fatal("a buffer came back that the other consumer has not read")
		}
		c[1].Take(0, 1<<30).consumed()
		if again := f.bufs.Get(size); &again[:1][0] == &b.Buffer()[0] {
			return
		}
	}
}

// A thousand streams with a row each must not take a slab of a megabyte each; a busy one gets there.
func TestSlabSizes(t *testing.T) {
	f := newFront(64 << 20)
	one := batch("x")
	for i := range uint32(1000) {
		f.add(nil, i, Main, 1)
		f.push(i, 1, 1, 1, 0, one.Encoded(), nil)
	}
	f.publish()
	if f.capacity != 1000*minSlab {
		t.Errorf("1000 rows take %d bytes", f.capacity)
	}
	row := batch(strings.Repeat("x", 1000))
	sizes := map[int64]bool{}
	for i := range uint64(3000) {
		f.push(0, 2+i, 1, 1000, 0, row.Encoded(), nil)
		sizes[f.streams[0].tail.size] = true
	}
	f.publish()
	if !sizes[minSlab] || !sizes[maxSlab] || len(sizes) != slabClasses {
		t.Errorf("sizes %v", sizes)
	}
	if waste := f.streams[0].held - 3000*1002; waste > 2<<20 {
		t.Errorf("%d bytes of slabs for 3 MB", f.streams[0].held)
	}
}

func TestIdleSlabsAreReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := newTestFront(1<<20, Main)
		defer f.close()
		fill := func(first uint64, n int) {
			for i := range n {
				b := batch(strings.Repeat("x", 16000))
				f.push(1, first+uint64(i), 1, 16000, 0, b.Encoded(), nil)
			}
			f.publish()
			c[0].Take(0, 1<<30).consumed()
		}
		fill(1, 10)
		if s := f.stats(); s.Free == 0 || s.Used != 0 {
			t.Fatalf("%d bytes free, %d in use", s.Free, s.Used)
		}
		time.Sleep(slabIdle + time.Second) // they came after the timer was set: not idle for long enough
		synctest.Wait()
		if f.stats().Free == 0 {
			t.Fatal("slabs went that were in use a moment ago")
		}
		fill(11, 1) // needs one
		time.Sleep(slabIdle)
		synctest.Wait()
		if free := f.stats().Free; free != minSlab {
			t.Errorf("%d bytes free, want the slab that was needed, %d", free, minSlab)
		}
		time.Sleep(slabIdle)
		synctest.Wait()
		if free := f.stats().Free; free != 0 {
			t.Errorf("%d bytes free", free)
		}
	})
}

// Free slabs never push the front over its budget.
func TestFreeSlabsGiveWay(t *testing.T) {
	f, c := newTestFront(256<<10, Main)
	defer f.close()
	b := batch(strings.Repeat("x", 16000))
	for i := range uint64(10) {
		f.push(1, 1+i, 1, 16000, 0, b.Encoded(), nil)
	}
	f.publish()
	c[0].Take(0, 1<<30).consumed()
	big := batch(strings.Repeat("x", 200<<10))
	f.push(1, 11, 1, big.Payload(), 0, big.Encoded(), big.Buffer())
	f.publish()
	if f.capacity+f.freeBytes > f.budget {
		t.Errorf("%d in use and %d free of %d", f.capacity, f.freeBytes, f.budget)
	}
}

func TestRemove(t *testing.T) {
	f, _ := newTestFront(1<<20, Main)
	defer f.close()
	for i := range uint64(200) {
		pushRows(f, 1+i, 1, int64(i))
	}
	f.publish()
	f.remove(1)
	if f.capacity != 0 || f.consumer(1, Main) != nil {
		t.Errorf("%d bytes in use", f.capacity)
	}
	pushRows(f, 300, 1, 0)
	f.publish()
}

// Everything at random against the plainest model: a list of rows.
func TestFrontModel(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		f, cs := newTestFront(1<<20, Main, Backup)
		pool := new(record.Pool)
		f.bufs = pool
		type row struct {
			seq  uint64
			at   int64
			data string
		}
		type model struct {
			rows    []row // published, not covered
			claimed int   // of them
			claims  []*Claim
			sizes   []int
		}
		var m [2]model
		var pend []row
		var lent [][]byte // adopted since the last publish
		seq, at := uint64(1), int64(0)
		for range 400 {
			switch op := r.IntN(10); {
			case op < 4:
				n := 1 + r.IntN(5)
				if r.IntN(8) == 0 {
					seq += uint64(r.IntN(3))
				}
				at += int64(r.IntN(2))
				buf := pool.Get([]int{100, 2 * adoptFrom}[r.IntN(2)])
				clear(buf[:cap(buf)]) // whoever still reads it finds other rows
				b := record.NewBatch(buf)
				for i := range n {
					size := r.IntN(30)
					if i == 0 && r.IntN(10) == 0 {
						size = adoptFrom
					}
					if r.IntN(20) == 0 {
						size = r.IntN(20000)
					}
					data := strings.Repeat(string(rune('a'+r.IntN(26))), size)
					b.Append([]byte(data))
					pend = append(pend, row{seq + uint64(i), at, data})
				}
				if f.push(1, seq, n, b.Payload(), at, b.Encoded(), [][]byte{nil, b.Buffer()}[r.IntN(2)]) {
					lent = append(lent, b.Buffer())
				} else {
					pool.Put(b.Buffer())
				}
				seq += uint64(n)
			case op < 6:
				if r.IntN(4) == 0 {
					f.drop()
					for _, b := range lent {
						pool.Put(b)
					}
				} else {
					f.publish()
					for i := range m {
						m[i].rows = append(m[i].rows, pend...)
					}
				}
				pend, lent = nil, nil
			default:
				i := r.IntN(2)
				c, mc := cs[i], &m[i]
				switch {
				case op < 8:
					most := int64(r.IntN(300))
					k := c.Take(0, most)
					free := mc.rows[mc.claimed:]
					if (k == nil) != (len(free) == 0) {
						t.Fatalf("seed %d: took %v, %d rows wait", seed, k, len(free))
					}
					if k == nil {
						break
					}
					n, sum := 0, int64(0)
					for _, w := range free {
						if n > 0 && sum+int64(len(w.data)) > most {
							break
						}
						sum += int64(len(w.data))
						n++
					}
					if k.whole.rows != int64(n) || k.Bytes() != sum {
						t.Fatalf("seed %d: claim of %d rows, %d bytes; want %d, %d", seed, k.whole.rows, k.Bytes(), n, sum)
					}
					mc.claims, mc.sizes = append(mc.claims, k), append(mc.sizes, n)
					mc.claimed += n
				case op == 8 && len(mc.claims) > 0: // give back
					last := len(mc.claims) - 1
					k, n := mc.claims[last], mc.sizes[last]
					keep := r.IntN(n + 1)
					start := mc.claimed - n
					if keep == 0 {
						k.Release()
						mc.claims, mc.sizes = mc.claims[:last], mc.sizes[:last]
					} else if keep < n {
						k.Trim(mc.rows[start+keep].seq)
						mc.sizes[last] = keep
					}
					mc.claimed = start + keep
				case len(mc.claims) > 0:
					k, n := mc.claims[0], mc.sizes[0]
					if !k.isOldest() {
						t.Fatalf("seed %d: the oldest claim begins at %d, position %d", seed, k.first, f.base(1, c.id))
					}
					k.consumed()
					mc.rows, mc.claimed = mc.rows[n:], mc.claimed-n
					mc.claims, mc.sizes = mc.claims[1:], mc.sizes[1:]
				}
			}
			for i, c := range cs {
				off := 0
				for j, k := range m[i].claims {
					for got := range k.Rows() {
						want := m[i].rows[off]
						if got.Seq != want.seq || got.Arrived != want.at || string(got.Data) != want.data {
							t.Fatalf("seed %d: consumer %d claim %d: row %d@%d %q, want %d@%d %q", seed, i, j, got.Seq, got.Arrived, got.Data, want.seq, want.at, want.data)
						}
						off++
					}
				}
				if off != m[i].claimed || c.undecided() != int64(len(m[i].rows)) {
					t.Fatalf("seed %d: consumer %d: %d claimed, %d uncovered; want %d, %d", seed, i, off, c.undecided(), m[i].claimed, len(m[i].rows))
				}
				n, sum, want := 0, int64(0), int64(0)
				for k := range c.Chunks(0) {
					n += k.Count
					sum += k.Bytes
				}
				for _, w := range m[i].rows[m[i].claimed:] {
					want += int64(len(w.data))
				}
				if n != len(m[i].rows)-m[i].claimed || sum != want || c.Waiting().Bytes != want {
					t.Fatalf("seed %d: consumer %d: chunks of %d rows, %d bytes, waiting %d; want %d, %d", seed, i, n, sum, c.Waiting().Bytes, len(m[i].rows)-m[i].claimed, want)
				}
			}
		}
		f.publish()
		for i, c := range cs {
			for _, k := range m[i].claims {
				k.consumed()
			}
			if k := c.Take(0, 1<<40); k != nil {
				k.consumed()
			}
		}
		if f.capacity != 0 || f.streams[1].held != 0 || f.streams[1].tail != nil {
			t.Fatalf("seed %d: %d bytes in use when all is covered", seed, f.capacity)
		}
		f.close()
	}
}

func BenchmarkFront(b *testing.B) {
	for _, size := range []int{1 << 10, 512 << 10} {
		b.Run(fmt.Sprintf("call=%d", size), func(b *testing.B) {
			f, c := newTestFront(256<<20, Main)
			defer f.close()
			rows := bytes.Repeat([]byte("x"), 870)
			call := record.NewBatch(nil)
			for int(call.Payload()) < size {
				call.Append(rows)
			}
			seq, at := uint64(1), int64(0)
			b.SetBytes(call.Payload())
			b.ReportAllocs()
			for b.Loop() {
				at++
				f.push(1, seq, call.Count(), call.Payload(), at, call.Encoded(), call.Buffer())
				f.publish()
				seq += uint64(call.Count())
				if c[0].Waiting().Bytes > 32<<20 {
					k := c[0].Take(0, 1<<40)
					for range k.Rows() {
					}
					k.consumed()
				}
			}
		})
	}
}
