package partition

import "time"

// MaxSkew is how far a clock of a producer may be ahead of ours; its event times then count as the time of arrival.
// Later ones are those of clocks that are wrong: they are delivered, and the watermark does not look at them.
const MaxSkew = 5 * time.Minute

// IdleAfter is how long no row must have arrived before the watermark goes on without any.
const IdleAfter = time.Minute

// Mark is how far a stream has come. The zero Mark has seen nothing. Everything is in µs since the Unix epoch.
//
// The watermark is the latest event time that was seen, less the allowed lateness. Where no row that is in time arrives
// for IdleAfter, it goes on as the clock does from then on, so that what was between event time and arrival stays between
// them: a stream that replays last year stays in last year. It never goes back, and it is never ahead of the clock less
// the allowed lateness. So a row is never late that arrives within the allowed lateness, whatever other rows say and
// whatever our own clock has been in the meantime.
type Mark struct {
	Event int64 // latest event time that counts, or what idling has made of it
	Seen  int64 // latest arrival of a row that was in time; 0: none
}

// observe counts a row of this event time that arrived at arrived and is not late.
func (m *Mark) observe(event, arrived int64) {
	if event > arrived+MaxSkew.Microseconds() {
		return
	}
	event = min(event, arrived)
	if m.Seen == 0 {
		*m = Mark{event, arrived}
		return
	}
	*m = Mark{max(m.Event, m.At(arrived), event), max(m.Seen, arrived)}
}

// At is Event as it is at a time of the clock; 0 where nothing was seen.
func (m Mark) At(now int64) int64 {
	if m.Seen == 0 {
		return 0
	}
	return min(m.Event+max(0, now-m.Seen-IdleAfter.Microseconds()), now)
}

// Watermark at a time of the clock, in µs since the Unix epoch: no row that is older is expected any more. Not ok where
// there is none, since nothing was seen or rows have no event time.
func (s *Scheme) Watermark(m Mark, now int64) (at int64, ok bool) {
	if s.time == nil || m.Seen == 0 {
		return 0, false
	}
	return m.At(now) - s.time.lateness, true
}

// Resume is a Mark whose watermark is this, for a process that knows no more of an earlier one. As long as that one was
// gone nothing could arrive, which is no idling: the clock counts from now on.
func (s *Scheme) Resume(watermark, now int64) Mark {
	if s.time == nil {
		return Mark{}
	}
	return Mark{Event: watermark + s.time.lateness, Seen: now}
}
