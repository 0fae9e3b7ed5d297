package buffer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"hydrant/buffer/forgetfs"
	"hydrant/record"
)

// Streams that nobody reads fill the share that there is for them, fairly, and no more: the ring goes on for the
// others, lap after lap, and nothing that was acknowledged is lost over a start.
func TestStand(t *testing.T) { synctest.Test(t, testStand) }

func testStand(t *testing.T) {
	x := openBench(t, Options{FS: forgetfs.New()})
	busy, one, two := x.define("busy"), x.define("one"), x.define("two")
	stand := func(on bool) {
		for _, s := range []Stream{one, two} {
			x.Consumer(s.Incarnation, Main).Stand(on)
		}
	}
	stand(true)
	put := func(name string, size int) error {
		_, _, err := x.Append(context.Background(), name, record.Call{Batch: batch(strings.Repeat("x", size))})
		if e, ok := errors.AsType[*record.Refusal](err); err != nil && (!ok || e.Reason != "disk" || !strings.Contains(e.Message, "cannot be delivered at present")) {
			t.Fatalf("put to %s: %v", name, err)
		}
		return err
	}
	share := standShare(x.journal.geo.slot)
	fill := func(name string) (held int64) {
		for put(name, 0) == nil {
			held += rowOverhead
		}
		return held
	}
	first := fill("one")
	if first < share/2-rowOverhead || first > share/2+rowOverhead {
		t.Errorf("the first holds %d of %d", first, share)
	}
	if second := fill("two"); second < share/4-rowOverhead || second > share/4+rowOverhead {
		t.Errorf("the second holds %d of %d", second, share)
	}
	laps := func() {
		t.Helper()
		for range 4 * x.journal.geo.limit * int(x.journal.geo.slot) / 8000 {
			x.append("busy", strings.Repeat("x", 8000))
			x.Confirm(x.cut(busy).ID, 0)
			synctest.Wait()
		}
	}
	laps()
	rows := func(s Stream) Waiting { return x.Consumer(s.Incarnation, Main).Waiting() }
	before := []Waiting{rows(one), rows(two)}
	x.restart()
	if after := []Waiting{rows(one), rows(two)}; after[0] != before[0] || after[1] != before[1] {
		t.Errorf("waiting %+v, %+v before", after, before)
	}
	stand(true)
	if put("one", 0) == nil {
		t.Error("after a start the share is not full")
	}
	laps()
	// A stream that can be read again is like any other.
	stand(false)
	for _, name := range []string{"one", "two"} {
		if err := put(name, 4000); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := x.space.stood; n != 0 {
		t.Errorf("%d bytes are counted as standing", n)
	}
	// A stream that holds nothing may take the whole share with one call.
	x.cut(one)
	x.cut(two)
	stand(true)
	if put("one", int(share)-rowOverhead+1) == nil {
		t.Error("a call above the share is taken")
	}
	if err := put("one", int(share)-rowOverhead); err != nil {
		t.Error(err)
	}
	x.balanced(one)
	x.balanced(two)
}
