package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer/forgetfs"
	"hydrant/record"
)

// budgets is a space with its front on a disk that has no end.
type budgets struct {
	*testing.T
	disk  *forgetfs.FS
	front *front
	space *space
	seq   map[uint32]uint64
}

func newBudgets(t *testing.T, front, rows int64, streams ...uint32) *budgets {
	t.Helper()
	d := forgetfs.New()
	b := &budgets{T: t, disk: d, front: newFront(front), seq: map[uint32]uint64{}}
	b.space = newSpace(spaceOptions{FS: d, Dir: "/", Memory: 16 << 20, Front: b.front})
	b.space.limit = rows
	for _, s := range streams {
		b.front.add(nil, s, Main, 1)
		b.space.addStream(s, 0)
		b.seq[s] = 1
	}
	t.Cleanup(b.front.close)
	return b
}

// put admits and stores a call of one record, as Append and the committer do it.
func (b *budgets) put(stream uint32, size int) error {
	call := batch(strings.Repeat("x", size))
	h, err := b.space.reservePut(stream, 1, int64(size), call.Encoded(), true)
	if err != nil {
		return err
	}
	b.front.push(stream, b.seq[stream], 1, int64(size), 0, call.Encoded(), call.Buffer())
	b.seq[stream]++
	b.front.publish()
	b.space.settle(h)
	return nil
}

// fill puts until a call is refused and returns how many went in.
func (b *budgets) fill(stream uint32, size int) (n int, reason string) {
	b.Helper()
	for {
		err := b.put(stream, size)
		if err == nil {
			n++
			continue
		}
		r, ok := errors.AsType[*record.Refusal](err)
		if !ok {
			b.Fatal(err)
		}
		return n, r.Reason
	}
}

func (b *budgets) consumer(stream uint32) *Consumer { return b.front.consumer(stream, Main) }

func TestMemoryIsBounded(t *testing.T) {
	for _, size := range []int{100, 5000, 63 << 10, 100 << 10, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			b := newBudgets(t, 8<<20, 1<<40, 1, 2)
			n, reason := b.fill(1, size)
			if reason != "memory" {
				t.Fatalf("refused for %s", reason)
			}
			if s := b.front.stats(); s.Used > s.Budget || s.Reserved != 0 {
				t.Errorf("%+v", s)
			}
			if held := n * size; held < 6<<20 {
				t.Errorf("%d bytes fill a front of 8 MiB", held)
			}
			c := b.consumer(1)
			if c.Pressure() == 0 || b.consumer(2).Pressure() != 0 {
				t.Error("who is asked to close?")
			}
			k := c.Take(0, 1<<40)
			if c.Pressure() != 0 {
				t.Error("asked to close what is taken already")
			}
			k.consumed()
			if s := b.front.stats(); s.Used != 0 {
				t.Errorf("%d bytes in use", s.Used)
			}
			if err := b.put(1, size); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is admitted and not yet stored counts: calls that are in the making cannot outgrow the front.
func TestPromisesCount(t *testing.T) {
	for _, size := range []int{1000, 100 << 10} {
		b := newBudgets(t, 4<<20, 1<<40, 1)
		call := batch(strings.Repeat("x", size))
		var holds []hold
		for {
			h, err := b.space.reservePut(1, 1, int64(size), call.Encoded(), true)
			if err != nil {
				break
			}
			holds = append(holds, h)
		}
		if total := len(holds) * size; total > 4<<20 || total < 3<<20 {
			t.Errorf("%d bytes were promised of 4 MiB", total)
		}
		for i, h := range holds {
			if i%2 == 0 {
				b.space.release(h)
				continue
			}
			b.front.push(1, uint64(i), 1, int64(size), 0, call.Encoded(), call.Buffer())
			b.front.publish()
			b.space.settle(h)
		}
		if s := b.front.stats(); s.Used > s.Budget || s.Reserved != 0 {
			t.Errorf("%+v", s)
		}
		if s := b.space.stats(); s.Rows != int64(len(holds)/2*(size+rowOverhead)) {
			t.Errorf("rows hold %d bytes", s.Rows)
		}
	}
}

// A call that is larger than the whole front must get in when nothing else is there.
func TestOneCallAlwaysFits(t *testing.T) {
	b := newBudgets(t, 1<<20, 1<<40, 1)
	if err := b.put(1, 3<<20); err != nil {
		t.Fatal(err)
	}
	if err := b.put(1, 1); err == nil {
		t.Error("a second one got in")
	}
}

// Streams of one size are all below what is free until the front is all but full; from a refusal on those
// with the mean or more are asked, the small ones never.
func TestManyStreamsShareTheFront(t *testing.T) {
	var streams []uint32
	for i := range uint32(40) {
		streams = append(streams, i)
	}
	b := newBudgets(t, 8<<20, 1<<40, streams...)
	refused := false
	for !refused {
		for _, s := range streams[1:] {
			if b.put(s, 4000) != nil {
				refused = true
			}
		}
	}
	if err := b.put(0, 10); err == nil {
		t.Log("a small call still fits")
	}
	asked := 0
	for _, s := range streams {
		if b.consumer(s).Pressure() != 0 {
			asked++
		}
	}
	if asked == 0 || b.consumer(0).Pressure() != 0 {
		t.Errorf("%d streams are asked, the empty one: %v", asked, b.consumer(0).Pressure())
	}
	for _, s := range streams {
		if c := b.consumer(s); c.Pressure() != 0 {
			select {
			case <-c.Changed():
			default:
				t.Errorf("stream %d was not told", s)
			}
			c.Take(0, 1<<30).consumed()
		}
	}
	if b.front.capacity >= b.front.budget/4*3 {
		t.Errorf("those that were asked held too little: %d left of %d", b.front.capacity, b.front.budget)
	}
	if b.front.short {
		t.Error("still called short")
	}
}

// One stream gets a half, two a third each, and so on: n full ones leave 1/(n+1) to the others.
func TestFairShare(t *testing.T) {
	const rows, size = 1 << 20, 1000
	b := newBudgets(t, 1<<30, rows, 1, 2, 3)
	share := func(stream uint32) float64 { return float64(b.space.streams[stream].rows) / rows }
	near := func(got, want float64) bool { return got > want-0.01 && got < want+0.01 }
	_, reason := b.fill(1, size)
	if reason != "disk" || !near(share(1), 1.0/2) {
		t.Fatalf("refused for %s at %.2f", reason, share(1))
	}
	b.fill(2, size)
	if !near(share(2), 1.0/4) {
		t.Fatalf("the second stops at %.2f", share(2))
	}
	// when they fill together they get the same
	for _, s := range []uint32{1, 2} {
		b.consumer(s).Take(0, 1<<40).consumed()
	}
	full := map[uint32]bool{}
	for len(full) < 2 {
		for _, s := range []uint32{1, 2} {
			if b.put(s, size) != nil {
				full[s] = true
			}
		}
	}
	if !near(share(1), 1.0/3) || !near(share(2), 1.0/3) {
		t.Fatalf("two stop at %.2f and %.2f", share(1), share(2))
	}
	b.fill(3, size)
	if share(3) < 1.0/6-0.01 {
		t.Errorf("the third gets %.2f", share(3))
	}
	if s := b.space.stats(); s.Rows > s.Limit {
		t.Errorf("%+v", s)
	}
}

func TestStreamLimit(t *testing.T) {
	b := newBudgets(t, 1<<30, 1<<30, 1)
	b.space.addStream(1, 10*(1000+rowOverhead))
	if n, reason := b.fill(1, 1000); n != 10 || reason != "disk" {
		t.Errorf("%d calls, %s", n, reason)
	}
}

// A stream with a limit of its own is asked to close over half of that, however much is free; others are not, and
// what changes its limit or ends it is seen at once.
func TestStreamLimitPresses(t *testing.T) {
	b := newBudgets(t, 1<<30, 1<<30, 1, 2)
	limit := int64(10 * (1000 + rowOverhead))
	b.space.addStream(1, limit)
	c, other := b.consumer(1), b.consumer(2)
	b.put(2, 100_000)
	for i := range 10 {
		b.put(1, 1000)
		if got, want := c.Pressure() != 0, i >= 5; got != want {
			t.Errorf("%d of 10 rows: asked %v, want %v", i+1, got, want)
		}
		if other.Pressure() != 0 {
			t.Error("another stream is asked")
		}
	}
	if err := b.put(1, 1000); err == nil {
		t.Error("the eleventh row was taken")
	}
	b.space.addStream(1, limit*2+1) // half of it is what the rows hold
	if c.Pressure() != 0 || b.space.tight() {
		t.Error("asked at half of the new limit")
	}
	if err := b.put(1, 1000); err != nil || c.Pressure() == 0 {
		t.Errorf("over half of it: %v, asked %v", err, c.Pressure())
	}
	b.space.addStream(1, 0)
	if c.Pressure() != 0 || b.space.tight() {
		t.Error("asked without a limit")
	}
	b.space.addStream(1, 1)
	b.space.removeStream(1)
	if b.space.tight() {
		t.Error("a stream that is gone counts")
	}
}

// Rows hold their bytes and 64 more until a pack has taken them; then the pack does.
func TestReservationFollowsTheRows(t *testing.T) {
	b := newBudgets(t, 1<<30, 1<<30, 1)
	for range 10 {
		b.put(1, 1000)
	}
	stats := func() string {
		s := b.space.stats()
		return fmt.Sprintf("rows %d packs %d making %d used %d", s.Rows, s.Packs, s.Making, s.Limit-s.Free)
	}
	step := func(want string) {
		t.Helper()
		if got := stats(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	step("rows 10640 packs 0 making 0 used 10640")
	k := b.consumer(1).Take(0, 1<<40)
	if err := b.space.packGrows(3000); err != nil {
		t.Fatal(err)
	}
	step("rows 10640 packs 0 making 3000 used 10640") // out of what the rows hold
	b.space.packNamed(1, 3000, true)
	k.consumed()
	step("rows 0 packs 3000 making 0 used 3000")
	b.space.packGone(1, 3000)
	step("rows 0 packs 0 making 0 used 0")
}

// A stream with a dead destination is asked to close while that saves something, and not for every row.
func TestDiskPressure(t *testing.T) {
	b := newBudgets(t, 1<<30, 1<<20, 1, 2)
	c := b.consumer(1)
	for b.space.streams[1].rows < 300<<10 {
		b.put(1, 1000)
	}
	if c.Pressure() != 0 {
		t.Error("asked below half its share")
	}
	for b.space.streams[1].rows < 400<<10 {
		b.put(1, 1000)
	}
	if c.Pressure() == 0 || c.pressed == 0 {
		t.Error("not asked over half its share")
	}
	rows := b.space.streams[1].rows
	if err := b.space.packGrows(rows); err != nil {
		t.Fatal(err)
	}
	b.space.packNamed(1, rows, true)
	c.Take(0, 1<<40).consumed()
	b.put(1, 1000)
	if c.Pressure() != 0 {
		t.Error("asked to cut a crumb")
	}
	for err := error(nil); err == nil; {
		err = b.put(1, 1000)
	}
	if c.Pressure() != 0 && b.space.streams[1].rows < rows/8 {
		t.Error("asked to cut crumbs")
	}
	b.space.packGone(1, rows)
	if c.Pressure() != 0 || c.pressed != 0 {
		t.Error("still asked when the disk is free")
	}
}

// Somebody else fills the file system: calls are refused, and accepted again when space returns.
func TestOthersFillTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudgets(t, 1<<30, 1<<30, 1)
		defer b.front.close()
		b.disk.SetCapacity(1 << 30)
		time.Sleep(statfsEvery)
		if err := b.put(1, 1000); err != nil {
			t.Fatal(err)
		}
		b.disk.SetOther(1<<30 - 1000)
		if err := b.put(1, 1000); err != nil {
			t.Errorf("the figure of a moment ago: %v", err)
		}
		time.Sleep(statfsEvery)
		if err := b.put(1, 1000); err == nil {
			t.Error("accepted on a full disk")
		}
		b.disk.SetOther(0)
		time.Sleep(statfsEvery)
		if err := b.put(1, 1000); err != nil {
			t.Error(err)
		}
	})
}

func TestAdmitBody(t *testing.T) {
	b := newBudgets(t, 1<<20, 1<<20) // bodies get 2 MiB
	var gives []func()
	for {
		give, err := b.space.admitBody(300 << 10)
		if err != nil {
			if r, ok := errors.AsType[*record.Refusal](err); !ok || r.Reason != "memory" {
				t.Fatal(err)
			}
			break
		}
		gives = append(gives, give)
	}
	if len(gives) != 6 {
		t.Errorf("%d bodies of 300 KiB in 2 MiB", len(gives))
	}
	for _, give := range gives {
		give()
		give()
	}
	if s := b.space.stats(); s.Bodies != 0 {
		t.Errorf("%d bytes are not given back", s.Bodies)
	}
	give, err := b.space.admitBody(5 << 20)
	if err != nil {
		t.Fatalf("a body larger than the share, alone: %v", err)
	}
	if _, err := b.space.admitBody(1); err == nil {
		t.Error("another one beside it")
	}
	give()
}

// The ballast is found again, remade after a crash in its making, and missing on a full disk.
func TestBallastFile(t *testing.T) {
	d := forgetfs.New()
	open := func(disk int64) *space {
		return newSpace(spaceOptions{FS: d, Dir: "/", Disk: disk, Memory: 16 << 20, Front: newFront(1 << 20)})
	}
	size := func() int64 {
		b, err := d.ReadFile("/ballast")
		if errors.Is(err, fs.ErrNotExist) {
			return -1
		}
		return int64(len(b))
	}
	open(64 << 20)
	if size() != 1<<20 || d.Durable("/ballast") != nil {
		t.Fatalf("%d bytes, %v", size(), d.Durable("/ballast"))
	}
	ops := d.Ops()
	open(64 << 20)
	if d.Ops() != ops {
		t.Error("made again")
	}
	open(128 << 20)
	if size() != 2<<20 {
		t.Errorf("%d bytes after the limit was raised", size())
	}
	if err := d.Remove("/ballast"); err != nil {
		t.Fatal(err)
	}
	d.SetCapacity(1 << 20)
	s := open(128 << 20)
	if size() != -1 || s.ballast.present || s.lend() != 0 {
		t.Errorf("%d bytes on a full disk", size())
	}
	d.SetCapacity(0)
	s.restock()
	if size() != 2<<20 || s.lend() != 2<<20 || size() != -1 || s.lend() != 0 {
		t.Error("it does not come back when space does")
	}
	s.unlend()
	if size() != 2<<20 {
		t.Error("it does not come back from the pack that had it")
	}
}

// A call that was admitted finds its stream gone: what it gives back is not taken off twice.
func TestStreamGoesUnderACall(t *testing.T) {
	for _, size := range []int{100, 100 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			b := newBudgets(t, 8<<20, 1<<30, 1, 2)
			call := batch(strings.Repeat("x", size))
			h, err := b.space.reservePut(1, 1, int64(size), call.Encoded(), true)
			if err != nil {
				t.Fatal(err)
			}
			b.front.remove(1)
			b.space.removeStream(1)
			b.space.release(h)
			if f, s := b.front.stats(), b.space.stats(); f.Reserved != 0 || f.Used != 0 || s.Rows != 0 || len(b.space.streams) != 1 {
				t.Errorf("front %+v, space %+v, %d streams: want nothing held, and stream 2 alone", f, s, len(b.space.streams))
			}
		})
	}
}
