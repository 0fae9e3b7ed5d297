package simulation

import (
	hashes "hash/fnv"
	"math/rand/v2"
	"time"

	"hydrant/partition"
	"hydrant/prefix"
)

// timesSalt draws which lives have records that say when they happened: none of those that once showed a fault.
const timesSalt = 0x71ee

// lateness is what a stream with event times allows. A client goes on trying for less, so that a record which is new when it is
// sent is never late.
const lateness = 10 * time.Minute

// drawEvent draws when a record of a call happened: most are new, in no order; one in six is older than what is allowed. It depends on
// the seed and the record's id alone, so that lives without event times stay what they are.
func (w *world) drawEvent(id string, now time.Time) time.Time {
	h := hashes.New64a()
	h.Write([]byte(id))
	r := rand.New(rand.NewPCG(w.seed^timesSalt, h.Sum64()))
	age := time.Duration(r.Int64N(int64(lateness / 2)))
	if r.IntN(6) == 0 {
		age = lateness + time.Hour + time.Duration(r.Int64N(int64(2*time.Hour)))
	}
	return now.Add(-age).Truncate(time.Millisecond)
}

// eventTime is that of records in n, as partition.Options has it.
func (p *spec) eventTime() *partition.EventTime {
	if !p.Timed {
		return nil
	}
	return &partition.EventTime{Field: "n", Formats: []string{"unix_ms"}, AllowedLateness: lateness, Quarantine: p.Quarantine}
}

// checkEvent checks that a record of a stream with event times lies under its own, whatever the clocks said when it came, and that one in the
// output of late ones can be late. The caller holds w.log.mu.
func (w *world) checkEvent(n named, s *spec, rec *sentRecord) {
	zone, err := time.LoadLocation(s.Zone)
	if err != nil {
		panic("bug: " + err.Error())
	}
	switch c := rec.call; n.errorType {
	case "":
		data, _, err := s.templates(n.stream)
		if err != nil {
			panic("bug: " + err.Error())
		}
		var keys []string
		if s.Scatter {
			keys = []string{scattered(rec.data)}
		}
		if want := data.Route(prefix.Values{Time: rec.event.In(zone), Keys: keys}); len(n.key) < len(want) || n.key[:len(want)] != want {
			w.violated("a record of %v is in %q, not under %q", rec.event.In(zone), n.key, want)
		}
	case partition.Late:
		if c.acked && !w.jumped(c) && !rec.event.Before(c.ackWall.Add(-lateness)) {
			w.violated("a record of %v, which had arrived by %v, is in %q", rec.event.In(zone), c.ackWall.In(zone), n.key)
		}
	}
}

// jumped tells whether the clock was set around a call.
func (w *world) jumped(c *call) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, jump := range w.jumps {
		if jump >= c.begun-10*time.Second && jump <= c.at {
			return true
		}
	}
	return false
}

// watermark is what the judge knows of how far a stream had come, in the order of its sequences.
type watermark struct {
	latest time.Time // event time that a stream with event times has delivered
	key    string    // where
}

// pass holds a record that was found against the ones before it: where those had brought the stream further than what is allowed, and
// late ones do not count as delivered, it had to go to their output, however often the process died in between. The caller holds
// w.log.mu.
func (m *watermark) pass(w *world, n named, rec *sentRecord) {
	s := w.specOf(n)
	if s == nil || !s.Timed || rec.bad || n.errorType != "" {
		return
	}
	if s.Quarantine && !m.latest.IsZero() && rec.event.Before(m.latest.Add(-lateness)) && len(w.jumps) == 0 {
		w.violated("a record of %v is in %q, after one of %v was delivered to %q", rec.event.UTC(), n.key, m.latest.UTC(), m.key)
	}
	if rec.event.After(m.latest) {
		m.latest, m.key = rec.event, n.key
	}
}
