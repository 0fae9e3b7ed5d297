package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// What the ledger knows of lanes: the ordered parts of a stream source, whose rows are not journaled. The frame that makes
// rows of a lane durable, a RUN or MANIFEST, says where reading of the lane goes on behind them; a frame LANES says so
// without rows.

const (
	// MaxLane and MaxPosition are the most bytes of a lane's name and of a position.
	MaxLane     = 255
	MaxPosition = 256

	// maxLanes is the most lanes of all streams; where slots are small the room of a checkpoint sets in before.
	maxLanes = 10_000
	// maxSteps is the most steps that a stream's lanes are remembered by, stepShare how many positions these may have for
	// each lane, beside stepBase for all.
	maxSteps  = 64
	stepShare = 4
	stepBase  = 16
)

// LanePosition is where reading of a lane goes on.
type LanePosition struct {
	Lane     string
	Position []byte
}

// laneMarks is what a frame makes final of lanes: rows that were in memory only, and positions behind them. What the frame
// before it said is in it too, should that be damaged. It stands in RUN and MANIFEST payloads as
//
//	lanes u16; where there are some: rows i64 · lanes × {name str, position str}, ascending by name
type laneMarks struct {
	Rows int64
	At   []LanePosition
}

var errLanes = errors.New("its lanes are not in order, or without rows or positions")

func (m *laneMarks) encode(w *writer) {
	w.u16(uint16(len(m.At)))
	if len(m.At) == 0 {
		return
	}
	w.i64(m.Rows)
	putPositions(w, m.At)
}

func readLaneMarks(r *reader) (m laneMarks) {
	n := int(r.u16())
	if n == 0 {
		return m
	}
	if m.Rows = r.i64(); m.Rows <= 0 {
		r.fail(errLanes)
	}
	m.At = readPositions(r, n)
	return m
}

func putPositions(w *writer, list []LanePosition) {
	for _, p := range list {
		w.str(p.Lane)
		w.str(string(p.Position))
	}
}

func readPositions(r *reader, n int) (list []LanePosition) {
	for range r.list(n, 4) {
		p := LanePosition{r.str(), r.key()}
		if p.Lane == "" || len(p.Position) == 0 || len(list) > 0 && list[len(list)-1].Lane >= p.Lane {
			r.fail(errLanes)
		}
		list = append(list, p)
	}
	return list
}

// lanesEvent: positions without rows, and lanes that are forgotten.
//
//	lanes u16 × {name str, position str} · forgotten u16 × name str, both ascending by name
//
// The frame's extent begins at the sequence below which all rows of these lanes are, and is empty.
type lanesEvent struct {
	Incarnation uint32
	At          uint64
	Set         []LanePosition
	Gone        []string
}

func (e *lanesEvent) kind() frameType { return frameLanes }

func (e *lanesEvent) encode(w *writer) {
	w.u16(uint16(len(e.Set)))
	putPositions(w, e.Set)
	w.u16(uint16(len(e.Gone)))
	for _, name := range e.Gone {
		w.str(name)
	}
}

func readLanesEvent(r *reader, h *frameHead) *lanesEvent {
	e := &lanesEvent{Incarnation: h.Incarnation, At: h.First}
	e.Set = readPositions(r, int(r.u16()))
	for i := range r.list(int(r.u16()), 2) {
		name := r.str()
		if name == "" || i > 0 && e.Gone[i-1] >= name {
			r.fail(errLanes)
		}
		e.Gone = append(e.Gone, name)
	}
	return e
}

// laneState is what is known of a lane. ledger.mu guards it.
type laneState struct {
	name        string
	final       []byte // where durable rows or notes end; nil: there are none
	delivered   []byte // everything before it has ended; nil: nothing has
	deliveredAt uint64 // sequence of the step that said so; of this process
	weight      int64  // in a checkpoint, bytes

	// Of the process.
	read     []byte // behind the rows that were appended last; nil: they are final
	last     uint64 // the sequence behind them; 0: none were
	releases int
}

// position is where reading goes on.
func (l *laneState) position() []byte {
	if l.read != nil {
		return l.read
	}
	return l.final
}

// laneStep is what may be said to be delivered once everything below a sequence has ended.
type laneStep struct {
	seq uint64
	at  []LanePosition // ascending by name
}

// lane returns a lane, made where it is missing.
func (l *ledger) lane(s *streamState, name string) *laneState {
	lane := s.lanes[name]
	if lane == nil {
		lane = &laneState{name: name}
		if s.lanes == nil {
			s.lanes = make(map[string]*laneState)
		}
		s.lanes[name] = lane
		l.lanes++
		l.weighLane(s, lane, nil)
	}
	return lane
}

// weighLane brings up to date what a lane weighs with this position.
func (l *ledger) weighLane(s *streamState, lane *laneState, position []byte) {
	n := int64(64 + len(lane.name) + (2+stepShare)*max(16, len(position)))
	if n <= lane.weight {
		return
	}
	l.laneWeight += n - lane.weight
	l.weight += n - lane.weight
	s.laneWeight += n - lane.weight
	lane.weight = n
}

// dropLane forgets a lane of which no rows are under way.
func (l *ledger) dropLane(s *streamState, lane *laneState) {
	if s.lanes[lane.name] != lane {
		return
	}
	delete(s.lanes, lane.name)
	l.lanes--
	l.laneWeight -= lane.weight
	l.weight -= lane.weight
	s.laneWeight -= lane.weight
}

// laneRoom is how many bytes of a checkpoint are for lanes.
func laneRoom(geo geometry) int64 { return geo.slot / 16 }

// reachLanes takes over positions which a durable frame says that rows below seq, or notes, have come to.
func (l *ledger) reachLanes(s *streamState, seq uint64, at []LanePosition) {
	if len(at) == 0 {
		return
	}
	for _, p := range at {
		lane := l.lane(s, p.Lane)
		lane.final = p.Position
		l.weighLane(s, lane, p.Position)
	}
	if n := len(s.steps); n > 0 && s.steps[n-1].seq >= seq {
		s.steps[n-1].at = mergePositions(s.steps[n-1].at, at)
	} else {
		s.steps = append(s.steps, laneStep{seq, at})
	}
	s.mergeSteps()
	l.touch(s)
	if s.inlet != nil {
		s.inlet.stir()
	}
}

// finalRows counts rows that a durable frame has made final.
func (l *ledger) finalRows(s *streamState, seq uint64, m *laneMarks) {
	if len(m.At) == 0 {
		return
	}
	s.accepted += m.Rows
	s.provisional = max(s.provisional-m.Rows, 0) // recovery knows of none
	fresh := slices.DeleteFunc(slices.Clone(m.At), func(p LanePosition) bool {
		lane := s.lanes[p.Lane]
		return lane != nil && bytes.Equal(lane.final, p.Position) // said again
	})
	s.repeats, s.unplaced = fresh, 0
	l.reachLanes(s, seq, fresh)
}

// again adds to what a frame is going to say of lanes what the one before it has said.
func (s *streamState) again(m *laneMarks) {
	if len(m.At) == 0 {
		return
	}
	var list []LanePosition
	for _, p := range s.repeats {
		if lane := s.lanes[p.Lane]; lane != nil && bytes.Equal(lane.final, p.Position) {
			list = append(list, p)
		}
	}
	m.At = mergePositions(list, m.At)
}

// mergePositions joins two lists of which the second is newer.
func mergePositions(old, new []LanePosition) []LanePosition {
	out := make([]LanePosition, 0, len(old)+len(new))
	for len(old) > 0 || len(new) > 0 {
		switch {
		case len(new) == 0 || len(old) > 0 && old[0].Lane < new[0].Lane:
			out, old = append(out, old[0]), old[1:]
		default:
			if len(old) > 0 && old[0].Lane == new[0].Lane {
				old = old[1:]
			}
			out, new = append(out, new[0]), new[1:]
		}
	}
	return out
}

// mergeSteps keeps the steps few: neighbours become one, which says what the later one says. Those go first that are
// nearest to each other.
func (s *streamState) mergeSteps() {
	for len(s.steps) > 1 {
		entries := 0
		for i := range s.steps {
			entries += len(s.steps[i].at)
		}
		if len(s.steps) <= maxSteps && entries <= stepBase+stepShare*len(s.lanes) {
			return
		}
		best, least, before := 0, uint64(math.MaxUint64), uint64(0)
		for i := range len(s.steps) - 1 {
			if span := s.steps[i+1].seq - before; span < least {
				best, least = i, span
			}
			before = s.steps[i].seq
		}
		s.steps[best].seq, s.steps[best].at = s.steps[best+1].seq, mergePositions(s.steps[best].at, s.steps[best+1].at)
		s.steps = slices.Delete(s.steps, best+1, best+2)
	}
}

// ended is the sequence below which all rows have been delivered, dropped, lost, or put into an error output.
func (s *streamState) ended() uint64 {
	least := uint64(math.MaxUint64)
	for _, c := range s.consumers {
		least = min(least, c.base)
		for _, e := range c.epochs {
			least = min(least, e.first())
		}
	}
	if sabotageDeliveredEarly {
		return least
	}
	for first := range s.open {
		least = min(least, first)
	}
	return least
}

// touch notes that more of a stream may have ended.
func (l *ledger) touch(s *streamState) {
	if len(s.steps) > 0 {
		l.touched = append(l.touched, s)
	}
}

// advance moves on what is delivered of the lanes of streams that events have touched.
func (l *ledger) advance() {
	for _, s := range l.touched {
		to, n := s.ended(), 0
		for ; n < len(s.steps) && s.steps[n].seq <= to; n++ {
			for _, p := range s.steps[n].at {
				lane := s.lanes[p.Lane]
				lane.delivered, lane.deliveredAt = p.Position, s.steps[n].seq
			}
		}
		if n > 0 {
			s.steps = slices.Delete(s.steps, 0, n)
			if s.inlet != nil {
				s.inlet.moved()
			}
		}
	}
	l.touched = l.touched[:0]
}

// applyLanes takes note of positions without rows and of lanes that are not read again.
func (l *ledger) applyLanes(e *lanesEvent) error {
	s := l.streams[e.Incarnation]
	if s == nil {
		return fmt.Errorf("%w: lanes of stream incarnation %d, which is not there", errOrder, e.Incarnation)
	}
	l.reachLanes(s, e.At, e.Set)
	for _, name := range e.Gone {
		if lane := s.lanes[name]; lane != nil && !s.stepsHave(name) {
			l.dropLane(s, lane)
		}
	}
	return nil
}

// stepsHave tells whether something of a lane is final and not delivered.
func (s *streamState) stepsHave(name string) bool {
	return slices.ContainsFunc(s.steps, func(k laneStep) bool { return k.has(name) })
}

func (k *laneStep) has(name string) bool {
	_, ok := slices.BinarySearchFunc(k.at, name, func(p LanePosition, name string) int { return strings.Compare(p.Lane, name) })
	return ok
}

// lasting are the lanes of which a frame has spoken, by name.
func (s *streamState) lasting() (list []*laneState) {
	for _, name := range slices.Sorted(maps.Keys(s.lanes)) {
		if lane := s.lanes[name]; lane.final != nil {
			list = append(list, lane)
		}
	}
	return list
}

// encodeLanes writes what a checkpoint has of lanes:
//
//	lanes u32 × {name str, position str, delivered str, empty: nothing}, ascending ·
//	steps u16 × {sequence u64, lanes u32 × {index u32, position str}}
func (s *streamState) encodeLanes(w *writer) {
	list := s.lasting()
	if sabotageLanesLost {
		w.u32(0)
		w.u16(0)
		return
	}
	index := make(map[string]uint32, len(list))
	w.u32(uint32(len(list)))
	for i, lane := range list {
		index[lane.name] = uint32(i)
		w.str(lane.name)
		w.str(string(lane.final))
		w.str(string(lane.delivered))
	}
	w.u16(uint16(len(s.steps)))
	for _, k := range s.steps {
		w.u64(k.seq)
		w.u32(uint32(len(k.at)))
		for _, p := range k.at {
			w.u32(index[p.Lane])
			w.str(string(p.Position))
		}
	}
}

// readLanes reads what encodeLanes wrote.
func (l *ledger) readLanes(r *reader, s *streamState) {
	var names []string
	for range r.list(int(r.u32()), 6) {
		name, final, delivered := r.str(), r.key(), r.key()
		if name == "" || len(final) == 0 || len(names) > 0 && names[len(names)-1] >= name {
			r.fail(errLanes)
			return
		}
		names = append(names, name)
		lane := l.lane(s, name)
		lane.final, lane.delivered = final, delivered
		l.weighLane(s, lane, final)
	}
	for i := range r.list(int(r.u16()), 12) {
		k := laneStep{seq: r.u64()}
		last := -1
		for range r.list(int(r.u32()), 6) {
			at, position := int(r.u32()), r.key()
			if at <= last || at >= len(names) || len(position) == 0 {
				r.fail(errLanes)
				return
			}
			last = at
			k.at = append(k.at, LanePosition{names[at], position})
		}
		if len(k.at) == 0 || i > 0 && s.steps[i-1].seq >= k.seq {
			r.fail(errLanes)
			return
		}
		s.steps = append(s.steps, k)
	}
}
