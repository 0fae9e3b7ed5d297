package throttle

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/record"
)

// batch has records of these many bytes.
func batch(sizes ...int) *record.Batch {
	b := record.NewBatch(nil)
	for _, n := range sizes {
		b.Append([]byte(strings.Repeat("x", n)))
	}
	return b
}

// step is a call, or what is given back, some time after the step before.
type step struct {
	after time.Duration
	sizes []int
	want  int
	back  int // records of one byte each that are given back before
}

func TestTake(t *testing.T) {
	ones := func(n int) []int { return slices.Repeat([]int{1}, n) }
	for _, c := range []struct {
		name   string
		limits Limits
		steps  []step
	}{
		{"no limits", Limits{}, []step{{0, ones(500), 500, 0}, {0, ones(500), 500, 0}}},
		{"records: a second at once, then as they come", Limits{Records: 10}, []step{
			{0, ones(9), 9, 0}, {0, ones(1), 1, 0}, {0, ones(1), 0, 0},
			{99 * time.Millisecond, ones(5), 0, 0}, {time.Millisecond, ones(5), 1, 0},
			{time.Second, ones(11), 10, 0}, {time.Hour, ones(500), 10, 0},
		}},
		{"one record a second", Limits{Records: 1}, []step{{0, ones(2), 1, 0}, {999*time.Millisecond - 10*time.Millisecond, ones(1), 0, 0}, {11 * time.Millisecond, ones(1), 1, 0}}},
		{"bytes, on both sides", Limits{Bytes: 1000}, []step{
			{0, []int{600, 400}, 2, 0}, {0, []int{1}, 0, 0}, {100 * time.Millisecond, []int{101}, 0, 0}, {0, []int{100}, 1, 0},
			{time.Second, []int{999, 2, 1}, 1, 0}, // the last would fit, and comes after one that does not
		}},
		{"a record of more than a second", Limits{Bytes: 1000}, []step{
			{0, []int{5000}, 1, 0}, {4 * time.Second, []int{1}, 0, 0}, {999 * time.Millisecond, []int{1000}, 0, 0},
			{time.Millisecond, []int{5000, 1}, 1, 0}, {4 * time.Second, []int{5000}, 0, 0}, {time.Second, []int{5000}, 1, 0},
		}},
		{"empty records have no bytes", Limits{Bytes: 10}, []step{{0, []int{10, 0, 0}, 3, 0}, {0, []int{0, 1}, 1, 0}}},
		{"both", Limits{Records: 3, Bytes: 100}, []step{{0, []int{10, 10, 10, 10}, 3, 0}, {time.Second, []int{60, 60, 1}, 1, 0}, {0, []int{10}, 1, 0}, {0, []int{10}, 1, 0}, {0, []int{0}, 0, 0}}},
		{"given back", Limits{Records: 10, Bytes: 10}, []step{{0, ones(10), 10, 0}, {0, ones(5), 4, 4}, {0, ones(11), 10, 400}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := New(c.limits)
				for i, s := range c.steps {
					time.Sleep(s.after)
					l.Return(s.back, int64(s.back))
					if got := l.Take(batch(s.sizes...)); got != s.want {
						t.Errorf("step %d: %d records pass, want %d", i, got, s.want)
					}
				}
			})
		})
	}
}

// TestLongTime: whatever calls come, what passes in a long time is the limit and one second more at most, and not
// much less while more than the limit comes.
func TestLongTime(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 1))
				limits := Limits{Records: 50 + rng.Int64N(50), Bytes: 5000 + rng.Int64N(5000)}
				l, begin := New(limits), time.Now()
				var records, bytes int64
				for time.Since(begin) < 1000*time.Second {
					var sizes []int
					for range 1 + rng.IntN(60) {
						sizes = append(sizes, rng.IntN(200))
					}
					n := l.Take(batch(sizes...))
					for _, size := range sizes[:n] {
						records, bytes = records+1, bytes+int64(size)
					}
					time.Sleep(time.Duration(rng.IntN(int(200 * time.Millisecond))))
				}
				if records > 1002*limits.Records || bytes > 1002*limits.Bytes {
					t.Errorf("%d records and %d bytes passed %+v", records, bytes, limits)
				}
				if records < 950*limits.Records && bytes < 950*limits.Bytes {
					t.Errorf("only %d records and %d bytes passed %+v", records, bytes, limits)
				}
			})
		})
	}
}

func TestSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Streams
		if l := s.Limiter("a"); l != nil {
			t.Fatalf("no limits were set: %v", l)
		}
		s.Set(map[string]Limits{"a": {Records: 10}, "none": {}})
		if s.Limiter("b") != nil || s.Limiter("none") != nil {
			t.Fatal("streams without limits have some")
		}
		f := func(want int, sizes ...int) {
			t.Helper()
			if got := s.Limiter("a").Take(batch(sizes...)); got != want {
				t.Errorf("%d records pass, want %d", got, want)
			}
		}
		f(7, 1, 1, 1, 1, 1, 1, 1)
		s.Set(map[string]Limits{"a": {Records: 10}}) // nothing is given away
		f(3, 1, 1, 1, 1)
		s.Set(map[string]Limits{"a": {Records: 100, Bytes: 2}}) // bytes begin full
		f(0, 1)
		time.Sleep(20 * time.Millisecond)
		f(2, 1, 1, 1)
		time.Sleep(time.Second)
		s.Set(map[string]Limits{"a": {Records: 1}}) // no more than a second of what holds now
		f(1, 100, 1)
		held := s.Limiter("a")
		s.Set(nil)
		if s.Limiter("a") != nil {
			t.Error("the limits stayed")
		}
		held.Return(1, 100) // of a call that was on its way
		s.Set(map[string]Limits{"a": {Records: 2}})
		f(2, 1, 1, 1)
	})
}

func BenchmarkTake(b *testing.B) {
	l := New(Limits{Records: 1 << 40, Bytes: 1 << 50})
	call := batch(slices.Repeat([]int{500}, 500)...)
	b.SetBytes(call.Payload())
	b.ReportAllocs()
	for b.Loop() {
		if l.Take(call) != 500 {
			b.Fatal("too few")
		}
	}
}
