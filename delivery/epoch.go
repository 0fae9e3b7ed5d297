package delivery

import (
	"math"
	"time"

	"hydrant/buffer"
	"hydrant/prefix"
)

// Reasons why an epoch is closed: the reason label of hydrant_batches_cut_total.
const (
	reasonSize     = "size"      // one key reached buffer.size
	reasonFileSize = "file_size" // the same for the estimated written bytes
	reasonInterval = "interval"  // the oldest record waited for buffer.interval
	reasonFlush    = "flush"     // somebody asked for it
	reasonConfig   = "config"    // the stream got a new version
	reasonPressure = "pressure"  // memory, journal or disk is short
	reasonStop     = "stop"      // the daemon drains before it ends
	reasonDelete   = "delete"    // the stream is on its way out

	reasonMaxActive = "max_active" // the rows go to too many keys
)

// cutReasons is all of them, so that every label starts at zero.
var cutReasons = []string{reasonSize, reasonFileSize, reasonInterval, reasonFlush, reasonConfig, reasonPressure, reasonStop, reasonDelete, reasonMaxActive}

const (
	// minInterval is the shortest time that records are gathered. buffer.interval 0 means "at once", but an
	// object for each call would cost more requests than anybody wants.
	minInterval = 100 * time.Millisecond
	// pressureBytes and pressureAge keep pressure that lasts (a disk that stays over half its share while a
	// destination is down) from turning every call into an object: less than that does not relieve it.
	pressureBytes = 1 << 20
	pressureAge   = time.Second
	// maxOutstanding is the number of manifests of one stream that may be waiting for their destination
	// before the interval stops closing epochs. From then on only size and pressure do: a long outage with
	// a short interval fills the ledger with few large manifests instead of many small ones.
	maxOutstanding = 1024
	// crowdedOutstanding is the same for size while the buffer is crowded with manifests of all streams: whoever
	// has so many then cuts under pressure only, and all that waits. Those whose destinations take objects stay
	// below it and go on as ever.
	crowdedOutstanding = 64
	// marksPerInterval bounds the memory for the times at which waiting records were first seen.
	marksPerInterval = 64
)

// segment says which route the rows from sequence first on have, up to the next segment.
type segment struct {
	first uint64
	route int
}

// tally adds up the waiting rows by route, chunk by chunk, until one route has enough for an object. It
// looks at arrivals only: an arrival-time prefix needs no row. Not safe for concurrent use.
type tally struct {
	pipe  *Pipeline
	limit int64 // bytes of one route that fill an object

	next   uint64 // rows below are counted
	bytes  int64
	segs   []segment
	routes []int64 // bytes by number of the route
	full   bool    // a route reached limit with the last chunk
	max    int64   // where full: the bytes of all routes at which it did

	numbers     map[string]int // of routes
	route       int            // of arrivals in [from, until), µs
	from, until int64
}

// newTally counts from sequence first on.
func newTally(p *Pipeline, limit int64, first uint64) *tally {
	return &tally{pipe: p, limit: max(limit, 1), next: first, numbers: map[string]int{}}
}

// add counts one chunk and tells whether there is room for more.
func (t *tally) add(c buffer.Chunk) (more bool) {
	if len(t.routes) == 0 || c.Arrived < t.from || c.Arrived >= t.until {
		t.look(c.Arrived)
	}
	if n := len(t.segs); n == 0 || t.segs[n-1].route != t.route {
		t.segs = append(t.segs, segment{first: c.First, route: t.route})
	}
	if room := t.limit - t.routes[t.route]; c.Bytes >= room {
		t.full, t.max = true, t.bytes+room
	}
	t.routes[t.route] += c.Bytes
	t.bytes += c.Bytes
	t.next = c.First + uint64(c.Count)
	return !t.full
}

// look finds the route of an arrival and the span in which it is the same.
func (t *tally) look(arrived int64) {
	v := prefix.Values{Time: t.pipe.at(arrived)}
	text := t.pipe.Prefix.Route(v)
	number, ok := t.numbers[text]
	if !ok {
		number = len(t.routes)
		t.numbers[text] = number
		t.routes = append(t.routes, 0)
	}
	from, until := t.pipe.Prefix.SameRoute(v)
	t.route, t.from, t.until = number, from.UnixMicro(), until.UnixMicro()
}

// scattered tells whether some route has rows in several places: a clock was set back.
func (t *tally) scattered() bool { return len(t.segs) > len(t.routes) }

// marks remember when waiting records were first seen, on the monotonic clock, so that the interval of
// what is left after a cut runs from its own oldest record. Not safe for concurrent use.
type marks struct {
	seen uint64
	list []mark
}

type mark struct {
	first uint64
	at    time.Time
}

// observe notes that everything below w.Next is there by now. age is how long the oldest of it had been
// waiting before this process could see it.
func (m *marks) observe(w buffer.Waiting, now time.Time, age, interval time.Duration) {
	if w.First == w.Next || w.Next <= m.seen {
		return
	}
	at := now.Add(-age)
	if n := len(m.list); n == 0 || at.Sub(m.list[n-1].at) >= interval/marksPerInterval {
		m.list = append(m.list, mark{first: max(m.seen, w.First), at: at})
	}
	m.seen = w.Next
}

// since is when the record with this sequence was first seen, or somewhat earlier.
func (m *marks) since(seq uint64, now time.Time) time.Time {
	for i := len(m.list) - 1; i >= 0; i-- {
		if m.list[i].first <= seq {
			return m.list[i].at
		}
	}
	if len(m.list) > 0 {
		return m.list[0].at
	}
	return now
}

// prune forgets what is only about records below seq.
func (m *marks) prune(seq uint64) {
	drop := 0
	for drop+1 < len(m.list) && m.list[drop+1].first <= seq {
		drop++
	}
	if drop > 0 {
		m.list = append(m.list[:0], m.list[drop:]...)
	}
}

// situation is what the decision to close depends on, apart from the tally.
type situation struct {
	now      time.Time
	waiting  buffer.Waiting
	since    time.Time     // when the oldest waiting record was first seen
	interval time.Duration // at least minInterval
	fileSize bool          // the tally's limit stands for written bytes
	flushTo  uint64        // close what is below
	why      string        // reason of flushTo
	pressure bool
	paused   bool // nothing but pressure closes
	backlog  int  // manifests that have not ended
	crowded  bool // there are too many of them, and this stream has its share
}

// verdict is the answer: either close is not empty, or wake may say when to ask again.
type verdict struct {
	close string // reason, or "" to wait
	next  uint64 // close rows below
	max   int64  // and at most so many bytes
	wake  time.Time
}

// decide tells whether the epoch is to be closed now and what it takes. t has counted everything that
// waits, or up to the chunk that filled it.
func decide(t *tally, s situation) verdict {
	if s.waiting.First == s.waiting.Next {
		return verdict{}
	}
	v := verdict{next: t.next, max: math.MaxInt64}
	if t.full {
		v.max = t.max
	}
	if s.pressure {
		if t.full || s.waiting.Bytes >= pressureBytes || s.now.Sub(s.since) >= pressureAge {
			v.close = reasonPressure
			return v
		}
		v.wake = s.since.Add(pressureAge)
	}
	if s.paused {
		return verdict{wake: v.wake}
	}
	deadline := s.since.Add(s.interval)
	switch {
	case s.crowded && s.flushTo <= s.waiting.First:
		// as below for maxOutstanding
	case t.full && s.fileSize:
		v.close = reasonFileSize
	case t.full:
		v.close = reasonSize
	case s.flushTo > s.waiting.First:
		v.close = s.why
	case s.backlog >= maxOutstanding:
		// neither now nor later: the end of a manifest asks again
	case !s.now.Before(deadline):
		v.close = reasonInterval
	case v.wake.IsZero() || deadline.Before(v.wake):
		v.wake = deadline
	}
	return v
}
