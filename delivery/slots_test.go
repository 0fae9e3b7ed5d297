package delivery

import (
	"testing"
	"time"

	"hydrant/buffer"
)

// However many destinations there are, no more objects are on their way than slots; and with all slots taken
// nothing that becomes due wakes the dispatcher, which could only spin until an attempt ends.
func TestSlotsAreAllThereIs(t *testing.T) {
	u := newUploader(DefaultMemory)
	b := &batch{manifest: &buffer.Manifest{Objects: make([]buffer.ObjectInfo, 1)}}
	now := time.Now()
	for range 2 * maxInFlight {
		l := u.newLane()
		u.submit(l, []*task{{batch: b}, {batch: b, next: now}})
	}
	l := u.newLane()
	l.later = taskHeap{{batch: b, next: now.Add(-time.Second)}}
	starts, wake := u.pick(now)
	if len(starts) != maxInFlight || !wake.IsZero() {
		t.Errorf("%d objects started, next look at %v; want %d and none", len(starts), wake, maxInFlight)
	}
	if starts, wake = u.pick(now); len(starts) != 0 || !wake.IsZero() {
		t.Errorf("%d more objects started, next look at %v; want none", len(starts), wake)
	}
}
