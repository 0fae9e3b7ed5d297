package delivery

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"hydrant/sinks"
)

const (
	// gatherTime is how long a staged object waits for others that are on their way to be loaded with it.
	gatherTime = time.Second
	// maxTogether is the number of objects of one load.
	maxTogether = 1000
	// loadBase and loadCap bound the wait for a database that does not take anything.
	loadBase = retryBase
	loadCap  = time.Minute
	// refusedCap bounds the wait before an object is loaded again that cannot be loaded. The first wait is slowBase.
	refusedCap = 5 * time.Minute
)

// loads is the second half of a lane whose destination is a sinks.Finisher: the objects that it has stored, which wait to
// be taken into the database, and one load at a time. They hold no slot and no memory of the uploader meanwhile. The
// uploader's mutex guards it.
type loads struct {
	ready    []*task  // due
	later    taskHeap // not due yet
	running  bool
	most     int  // objects of the next load; 0: maxTogether
	apart    bool // the last load was of objects that are not loaded with others
	streak   int  // loads in a row that speak against the database
	retryAt  time.Time
	together int // objects of the load under way
}

// batchOfLoads are the tasks of one load.
type batchOfLoads struct {
	lane  *lane
	tasks []*task
}

// loaded is what a load means for one of its tasks; after is the least time to wait.
type loaded struct {
	outcome outcome
	after   time.Duration
	// restage: the object is to be stored again first.
	restage bool
	// fewer: the load may have been too large.
	fewer bool
}

// stage queues a stored object for its load. The caller holds u.mu.
func (u *uploader) stage(l *lane, t *task) {
	t.staged, t.stagedAt = true, time.Now()
	if !t.hand() {
		l.loads.ready = append(l.loads.ready, t)
	}
}

// pickLoads gives out the loads that can begin, and says when to ask again if nothing happens.
func (u *uploader) pickLoads(now time.Time) (out []batchOfLoads, wake time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	sooner := func(t time.Time) {
		if wake.IsZero() || t.Before(wake) {
			wake = t
		}
	}
	for _, l := range u.lanes {
		g := &l.loads
		for len(g.later) > 0 && !now.Before(g.later[0].next) {
			g.ready = append(g.ready, heap.Pop(&g.later).(*task))
		}
		if l.paused || g.running {
			continue
		}
		if len(g.later) > 0 {
			sooner(g.later[0].next)
		}
		if len(g.ready) == 0 {
			continue
		}
		if g.streak > 0 && now.Before(g.retryAt) {
			sooner(g.retryAt)
			continue
		}
		if until := g.gathered(); now.Before(until) && (l.inFlight > 0 || len(l.ready) > 0 && l.streak == 0) {
			sooner(until) // the end of what is on its way wakes as well
			continue
		}
		out = append(out, batchOfLoads{l, g.take()})
	}
	return out, wake
}

// gathered is until when the objects that are ready wait for others.
func (g *loads) gathered() time.Time {
	first := g.ready[0].stagedAt
	for _, t := range g.ready {
		if t.stagedAt.Before(first) {
			first = t.stagedAt
		}
	}
	return first.Add(gatherTime)
}

// take removes what is loaded together: in the order of records, as the last of two rows may be the one that counts.
// What was refused goes by itself, so that it costs the others nothing, and in turn with them; a suspect goes alone.
func (g *loads) take() []*task {
	if g.most == 0 {
		g.most = maxTogether
	}
	apart := slices.ContainsFunc(g.ready, (*task).apart)
	fresh := slices.ContainsFunc(g.ready, func(t *task) bool { return !t.apart() })
	g.apart = apart && (!fresh || !g.apart)
	slices.SortStableFunc(g.ready, func(a, b *task) int { return cmp.Compare(a.info().FirstSeq, b.info().FirstSeq) })
	var taken, left []*task
	for _, t := range g.ready {
		if t.apart() == g.apart && len(taken) < g.most && (len(taken) == 0 || !t.suspect && !taken[0].suspect) {
			t.loading = true
			taken = append(taken, t)
		} else {
			left = append(left, t)
		}
	}
	g.ready, g.running, g.together = left, true, len(taken)
	return taken
}

// apart tells whether the task is not loaded with those that nothing is known against.
func (t *task) apart() bool { return t.suspect || !t.refused.IsZero() }

// acquit is called when a suspect was loaded after all: the database was at fault, and the others wait no longer.
func (g *loads) acquit() {
	for _, t := range slices.Concat(g.ready, g.later) {
		if t.suspect {
			t.suspect, t.next = false, time.Time{}
		}
	}
	heap.Init(&g.later)
}

// finishLoad takes the tasks of a load back.
func (u *uploader) finishLoad(b batchOfLoads, results []loaded) {
	u.mu.Lock()
	defer u.mu.Unlock()
	defer u.wake()
	g, now := &b.lane.loads, time.Now()
	g.running, g.together = false, 0
	answered, unwellFor, fewer := false, time.Duration(-1), false
	for _, r := range results {
		switch r.outcome {
		case done, again:
			answered = true
		case unwell:
			unwellFor = max(unwellFor, r.after)
			fewer = fewer || r.fewer
		}
	}
	switch {
	case answered:
		if g.streak > 0 {
			g.hurry()
		}
		g.streak, g.retryAt = 0, time.Time{}
		g.most = min(g.most*2, maxTogether)
	case unwellFor >= 0:
		g.streak++
		g.retryAt = now.Add(max(backoff(g.streak, loadBase, loadCap), unwellFor))
		switch t := b.tasks[0]; {
		case !fewer || t.suspect:
		case g.most == 1: // it failed by itself, and would go on failing before all others
			t.suspect = true
		default:
			g.most = max(min(g.most, len(b.tasks))/2, 1)
		}
	}
	for i, t := range b.tasks {
		r := results[i]
		t.loading = false
		if r.outcome == done {
			t.gone = true
			if t.suspect {
				g.acquit()
			}
			t.hand()
			continue
		}
		if r.restage {
			t.staged = false
		}
		switch {
		case t.hand():
		case r.restage:
			b.lane.ready = append(b.lane.ready, t)
		case r.outcome == again, r.outcome == unwell && (answered || t.suspect):
			// The database is well, or this one makes it unwell, so it waits alone.
			t.next = now.Add(max(backoff(t.attempts, loadBase, loadCap), r.after))
			heap.Push(&g.later, t)
		case r.after > 0 && r.outcome == local:
			t.next = now.Add(r.after)
			heap.Push(&g.later, t)
		default: // with the others, when the database is asked again
			g.ready = append(g.ready, t)
		}
	}
}

func (g *loads) hurry() {
	for _, t := range g.later {
		if !t.apart() {
			t.next = time.Time{}
		}
	}
	heap.Init(&g.later)
}

// hurryAll makes everything due.
func (g *loads) hurryAll() {
	g.retryAt = time.Time{}
	for _, t := range g.later {
		t.next = time.Time{}
	}
	heap.Init(&g.later)
}

// remove takes a task that waits out of the queues, and says false where it does not wait.
func (g *loads) remove(t *task) bool {
	if i := slices.Index(g.ready, t); i >= 0 {
		g.ready = slices.Delete(g.ready, i, i+1)
		return true
	}
	if i := slices.Index(g.later, t); i >= 0 {
		heap.Remove(&g.later, i)
		return true
	}
	return false
}

// nextOf is when a task that waits for its load is due; zero: it does not, or is due.
func (g *loads) nextOf(t *task) time.Time {
	switch {
	case slices.Contains(g.later, t):
		return t.next
	case g.streak > 0 && slices.Contains(g.ready, t):
		return g.retryAt
	}
	return time.Time{}
}

// States of an object on its way into a database, as users see them.
const (
	stateStaged  = "staged"
	stateLoading = "loading"
)

// stateOf tells how far an object of a Finisher has come, "" as long as it is not stored.
func (u *uploader) stateOf(t *task) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case t.gone:
		return ""
	case t.loading:
		return stateLoading
	case t.staged:
		return stateStaged
	}
	return ""
}

// stagedIn counts a lane's objects that are stored and not in the database yet.
func (u *uploader) stagedIn(l *lane) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(l.loads.ready) + len(l.loads.later) + l.loads.together
}

// finisher is the destination as one whose objects are only staged by Put, or nil.
func (d *Destination) finisher() sinks.Finisher {
	f, _ := d.Sink.(sinks.Finisher)
	return f
}
