package partition

import "slices"

// shapes remembers in which order records have their names. Most records have the names of those before them in the same
// places: then one comparison of text tells a name's end, what is wanted of its value, and that the object has it once.
//
// The names stand in one line, each once for an object, and a step from one to the next only ever goes forward in it. So
// what a record passes are different names, whichever steps it takes. Names where no step leads are read as if nothing
// was remembered, and make new steps where there is room. Nothing that a record is taken for depends on what was
// remembered, only the time that it takes. Not safe for concurrent use.
type shapes struct {
	spots []spot // spots[0] is where records begin
	path  [maxSpots]step

	records, strayed int  // from the last review on
	until            int  // records from one review to the next
	budget           int  // names that may still be learnt until then
	learnt           bool // what came up to the last review, so that those who stray since then count
	resting          bool // until the next review nothing is looked for here
	rest             int  // records of the last rest
}

// spot is a name of an object, in the line.
type spot struct {
	text       string // with its quotes and the colon
	head, mask uint64 // its first eight bytes, and which of them count
	tail, rest uint64 // its last eight, likewise
	last       int    // where these begin in it
	open              // in which object
	leaf       *leaf  // what is wanted of the value
	steps      [8]uint16
	next       uint16 // in the line
}

// step is a name that was passed.
type step struct {
	start uint32 // of the name
	spot  uint16
}

const (
	maxSpots = 512
	maxSpot  = 64 // bytes of text
	review   = 256
	maxRest  = 1 << 14
)

// begin is called for each record. Where most of them stray, looking here costs more than it saves: it rests for a while,
// and after each try that was in vain for longer.
func (s *shapes) begin() {
	if s.records++; s.records > s.until {
		s.review()
	}
}

func (s *shapes) review() {
	switch {
	case s.resting || s.spots == nil:
		s.spots = append(s.spots[:0], spot{})
		s.resting, s.learnt, s.until = false, false, review
	case s.learnt && s.strayed*2 > s.until:
		s.rest = min(max(2*s.rest, review), maxRest)
		s.resting, s.until = true, s.rest
	default:
		if s.learnt {
			s.rest = 0
		}
		s.learnt = true
	}
	s.records, s.strayed, s.budget = 1, 0, 2*maxSpots
}

// follow returns the spot of the name whose quote is at i, or 0 where no step leads to it.
func (s *shapes) follow(at uint16, b []byte, i int, top open) uint16 {
	w := load8(b, i)
	for _, n := range &s.spots[at].steps {
		if n == 0 {
			break
		}
		p := &s.spots[n]
		if (w^p.head)&p.mask != 0 || p.open != top || i+p.last+8 > len(b) || (load8(b, i+p.last)^p.tail)&p.rest != 0 {
			continue
		}
		if p.last > 8 && string(b[i+8:i+p.last]) != p.text[8:p.last] {
			continue
		}
		return n
	}
	return 0
}

// here tells whether the name at i is this one, for names whose text has up to 16 bytes.
func (p *spot) here(b []byte, i int) bool {
	return (load8(b, i)^p.head)&p.mask|(load8(b, i+p.last)^p.tail)&p.rest == 0
}

// learn makes a step to the name of which text is what follow compares, and returns its spot, or 0 where there is none.
func (s *shapes) learn(at uint16, text []byte, top open, l *leaf) uint16 {
	room := slices.Index(s.spots[at].steps[:], 0)
	if room < 0 || s.budget == 0 || len(text) > maxSpot {
		return 0
	}
	s.budget--
	ahead := false
	n := uint16(0)
	for i := uint16(0); ; {
		if p := &s.spots[i]; p.open == top && p.text == string(text) {
			n = i
			break
		}
		ahead = ahead || i == at
		if i = s.spots[i].next; i == 0 {
			break
		}
	}
	switch {
	case n > 0 && !ahead:
		return 0 // a step back
	case n == 0:
		if len(s.spots) == maxSpots {
			return 0
		}
		n = uint16(len(s.spots))
		p := spot{text: string(text), open: top, leaf: l, next: s.spots[at].next, last: max(0, len(text)-8)}
		p.mask = 1<<(8*min(len(text), 8)) - 1
		p.rest = p.mask
		var padded [8]byte
		copy(padded[:], text)
		p.head = load8(padded[:], 0)
		copy(padded[:], text[p.last:])
		p.tail = load8(padded[:], 0)
		s.spots = append(s.spots, p)
		s.spots[at].next = n
	}
	s.spots[at].steps[room] = n
	return n
}
