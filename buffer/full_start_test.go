package buffer

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer/forgetfs"
)

// A disk without a free byte must be able to start, again and again, for only a process that runs can empty
// it. What cannot be written at such a start is not forgotten for it: retries are recognised afterwards.
func TestStartOnAFullDisk(t *testing.T) { synctest.Test(t, testStartOnAFullDisk) }

func testStartOnAFullDisk(t *testing.T) {
	disk := forgetfs.New()
	x := openBench(t, Options{FS: disk})
	s := x.define("clicks")
	stored := 0
	put := func(id, attempt byte) (repeated bool) {
		t.Helper()
		r, _, err := x.Append(context.Background(), "clicks", callOf(id, attempt, 1, 1, fmt.Sprintf("row-%d", id)))
		if err != nil {
			t.Fatal(err)
		}
		if !r.Repeated {
			stored++
		}
		return r.Repeated
	}
	for id := range byte(20) {
		put(id+1, 1)
	}
	fill := func() {
		d := x.o.FS.(*forgetfs.FS)
		d.SetOther(1 << 40)
		d.SetCapacity(1<<40 + d.Used())
	}
	for life := range uint64(8) {
		fill()
		x.crash(life)
		for id := range byte(20) {
			if !put(id+1, byte(life)+2) {
				t.Fatalf("life %d: the retry of call %d is not recognised", life, id+1)
			}
		}
	}
	x.o.FS.(*forgetfs.FS).SetCapacity(0)
	time.Sleep(statfsEvery) // of the bubble: the old figure is not asked again sooner
	x.cut(s)
	x.lap(60)
	for id := range byte(20) {
		if !put(id+1, 99) {
			t.Errorf("after a lap with space: the retry of call %d is not recognised", id+1)
		}
	}
	x.balanced(s)
	if stored != 20 {
		t.Errorf("%d calls were stored, want 20", stored)
	}
}
