package delivery

import (
	"container/heap"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"time"
)

// pace makes a lane follow a pace.
func (u *uploader) pace(l *lane, p Pace) {
	u.mu.Lock()
	l.pace = p
	if l.paced() {
		l.window, l.retryAt = l.most(), time.Time{}
	}
	u.mu.Unlock()
	u.wake()
}

// paced tells whether the lane has a pace of its own: then each task waits for itself after a failure, in the place that
// it has among those that have begun, and nothing is sent past it.
func (l *lane) paced() bool { return l.pace.InFlight > 0 }

// most is the number of objects that a lane may ever have in flight.
func (l *lane) most() int {
	if l.paced() {
		return min(l.pace.InFlight, maxInFlight)
	}
	return maxInFlight
}

// hasTurn tells whether a task that is due may go: in a paced lane only so many have begun and not ended.
func (l *lane) hasTurn(t *task) bool { return !l.paced() || t.open || l.open < l.most() }

// begin notes that a task goes.
func (l *lane) begin(t *task) {
	if l.paced() && !t.open {
		t.open = true
		l.open++
	}
	if t.tried.IsZero() {
		t.tried = time.Now()
	}
}

// end notes that a task has ended.
func (l *lane) end(t *task) {
	if t.open {
		t.open = false
		l.open--
	}
}

// promoteFirst moves tasks of a paced lane that are due before those that have not begun.
func (l *lane) promoteFirst(now time.Time) {
	var due []*task
	for len(l.later) > 0 && !now.Before(l.later[0].next) {
		due = append(due, heap.Pop(&l.later).(*task))
	}
	if len(due) > 0 {
		l.ready = slices.Concat(due, l.ready)
	}
}

// nextAttempt is when a task that has failed is tried again. after is the least time to wait, which no destination can
// make longer than what is left until the task is given up: that attempt is its last.
func (l *lane) nextAttempt(t *task, now time.Time, after time.Duration) time.Time {
	if !l.paced() {
		return now.Add(max(backoff(t.attempts, retryBase, retryCap), after))
	}
	next := now.Add(max(pacedBackoff(t.attempts, l.pace.Base, l.pace.Cap), after))
	if end := l.givesUpAt(t); l.pace.GivesUp && now.Before(end) && end.Before(next) {
		return end
	}
	return next
}

// givesUpAt is when the time for a task is over.
func (l *lane) givesUpAt(t *task) time.Time {
	from := t.tried
	if l.streak > 0 && l.failing.Before(from) {
		from = l.failing
		if t.due.After(from) {
			from = t.due
		}
	}
	return from.Add(l.pace.Retry)
}

// overdue tells whether a task that has just failed is to be given up.
func (u *uploader) overdue(t *task, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return t.lane.pace.GivesUp && !now.Before(t.lane.givesUpAt(t))
}

// pacedBackoff is the wait after the n-th failure of a task: base, doubled each time up to limit, times 0.85 to 1.15.
func pacedBackoff(n int, base, limit time.Duration) time.Duration {
	d := limit
	if n = max(n, 1); n <= 30 && base<<(n-1) < limit {
		d = base << (n - 1)
	}
	var raw [8]byte
	rand.Read(raw[:]) // never fails
	spread := d * 3 / 10
	return d - spread/2 + time.Duration(binary.LittleEndian.Uint64(raw[:])%uint64(spread+1))
}
