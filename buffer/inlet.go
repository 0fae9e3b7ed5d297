package buffer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"hydrant/record"
)

// MaxFeed is the most bytes of records and metadata that Inlet.Append takes at once, and of one record.
const MaxFeed = 32 << 20

// ErrReleased says that a lane was let go while rows of it were appended, or waited for.
var ErrReleased = errors.New("the lane was released")

// errNoInlet says that the stream takes no rows of lanes through this inlet.
var errNoInlet = fmt.Errorf("the inlet is closed: %w", ErrClosed)

// LaneRows are consecutive records of a lane.
type LaneRows struct {
	Lane    string    // printable ASCII without spaces and slashes
	Arrived time.Time // of all of them
	Data    [][]byte
	Meta    [][]byte // as record.AppendMeta makes it, one for each of Data; or none at all
	Next    []byte   // where reading goes on behind them
}

// Inlet brings the rows of a stream's lanes to the front. They are not journaled: their sequences are provisional until
// a RUN or MANIFEST takes them, which has the position of their lane. After a crash the lane goes on there, under the
// sequences that follow the durable ones. Safe for concurrent use, but for one call of Append for a lane at a time.
type Inlet struct {
	b           *Buffer
	incarnation uint32
	changed     chan struct{}

	mu    sync.Mutex
	moves chan struct{} // closed and made anew when more is delivered, or a lane was let go
}

// Inlet makes a stream one that takes rows of lanes and refuses calls, until its Close. There is one at a time. Errors: *record.NotFound, ErrFailing, ErrClosed, or what is against it.
func (b *Buffer) Inlet(incarnation uint32) (*Inlet, error) {
	in := &Inlet{b: b, incarnation: incarnation, changed: make(chan struct{}, 1), moves: make(chan struct{})}
	// The committer has no group in the making while it prepares an op that is alone: no call's rows are on their way to
	// the front, behind which those of lanes would be published too early.
	o := &op{keys: [2]any{defineKey{}}, alone: true}
	o.prepare = func() ([]*ledgerFrame, error) {
		b.ledger.mu.Lock()
		defer b.ledger.mu.Unlock()
		s := b.ledger.streams[incarnation]
		switch {
		case s == nil:
			return nil, &record.NotFound{Stream: fmt.Sprintf("of incarnation %d", incarnation)}
		case s.inlet != nil:
			return nil, errors.New("it has one already")
		}
		s.inlet = in
		b.front.setFed(incarnation, true)
		return nil, nil
	}
	if err := b.committer.do(o); err != nil {
		return nil, fmt.Errorf("open the inlet of stream incarnation %d: %w", incarnation, err)
	}
	return in, nil
}

// Close ends the inlet: Appends that wait end with ErrClosed, the stream takes calls again. Its rows stay. Again it does
// nothing.
func (in *Inlet) Close() {
	l := in.b.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.streams[in.incarnation]; s != nil && s.inlet == in {
		s.inlet = nil
		in.b.front.setFed(in.incarnation, false)
	}
	in.stir()
}

// stream of the inlet, nil where it is closed. The caller holds ledger.mu.
func (in *Inlet) stream() *streamState {
	if s := in.b.ledger.streams[in.incarnation]; s != nil && s.inlet == in {
		return s
	}
	return nil
}

// moved tells that more is delivered.
func (in *Inlet) moved() {
	select {
	case in.changed <- struct{}{}:
	default:
	}
	in.stir()
}

// stir wakes those who wait for lanes to be delivered.
func (in *Inlet) stir() {
	in.mu.Lock()
	defer in.mu.Unlock()
	close(in.moves)
	in.moves = make(chan struct{})
}

// Changed yields a token when Delivered may have changed. Tokens merge. One reader.
func (in *Inlet) Changed() <-chan struct{} { return in.changed }

// Position is where reading of a lane goes on; nil: nothing is known of it.
func (in *Inlet) Position(lane string) []byte {
	in.b.ledger.mu.RLock()
	defer in.b.ledger.mu.RUnlock()
	if s := in.stream(); s != nil && s.lanes[lane] != nil {
		return slices.Clone(s.lanes[lane].position())
	}
	return nil
}

// Delivered is the position before which all rows of a lane have ended; nil: none are known to.
func (in *Inlet) Delivered(lane string) []byte {
	in.b.ledger.mu.RLock()
	defer in.b.ledger.mu.RUnlock()
	if s := in.stream(); s != nil && s.lanes[lane] != nil {
		return slices.Clone(s.lanes[lane].delivered)
	}
	return nil
}

// Lanes are the names of those of which a position is known, ascending.
func (in *Inlet) Lanes() (names []string) {
	in.b.ledger.mu.RLock()
	defer in.b.ledger.mu.RUnlock()
	s := in.stream()
	if s == nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(s.lanes)) {
		if s.lanes[name].position() != nil {
			names = append(names, name)
		}
	}
	return names
}

// checkLane finds what no name of a lane can be.
func checkLane(name string) error {
	if name == "" || len(name) > MaxLane {
		return fmt.Errorf("a lane's name has 1 to %d bytes, not %d", MaxLane, len(name))
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }); i >= 0 {
		return fmt.Errorf("the name of lane %q has something else at byte %d than printable ASCII without spaces and slashes", name, i)
	}
	return nil
}

func checkPosition(lane string, p []byte) error {
	if len(p) == 0 || len(p) > MaxPosition {
		return fmt.Errorf("a position of lane %q has 1 to %d bytes, not %d", lane, MaxPosition, len(p))
	}
	return nil
}

// open returns a lane, made where it is missing. Its error is ErrClosed, or that there are too many.
func (in *Inlet) open(name string) (*laneState, int, error) {
	l := in.b.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	s := in.stream()
	if s == nil {
		return nil, 0, errNoInlet
	}
	if lane := s.lanes[name]; lane != nil {
		return lane, lane.releases, nil
	}
	room := laneRoom(in.b.journal.geo)
	if l.lanes >= maxLanes || l.laneWeight >= room {
		return nil, 0, fmt.Errorf("lane %q is one too many: the journal remembers %d, in %d of %d bytes; let lanes be fewer, or the journal larger (limits.disk)", name, l.lanes, l.laneWeight, room)
	}
	lane := l.lane(s, name)
	return lane, 0, nil
}

// tidy forgets a lane of which nothing became known.
func (in *Inlet) tidy(lane *laneState) {
	l := in.b.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := in.stream(); s != nil && lane.position() == nil {
		l.dropLane(s, lane)
	}
}

// Append brings rows to the front, in order; data is copied. It waits while there is no room for them. Then they wait like
// others, but in memory only. Errors: that of ctx, ErrReleased, ErrClosed, or what is wrong with the rows; none was taken
// then.
func (in *Inlet) Append(ctx context.Context, rows LaneRows) error {
	size, data, err := rows.measure()
	if err != nil {
		return fmt.Errorf("append to stream incarnation %d: %w", in.incarnation, err)
	}
	lane, releases, err := in.open(rows.Lane)
	if err != nil {
		return fmt.Errorf("append to stream incarnation %d: %w", in.incarnation, err)
	}
	b := in.b
	w := &feeder{lane: lane, size: size}
	b.front.mu.Lock()
	w.stream = b.front.streams[in.incarnation]
	if w.stream != nil {
		w.disk = holdOf(int64(len(rows.Data)), data) * int64(len(w.stream.consumers))
	}
	b.front.mu.Unlock()
	if w.stream == nil {
		return errNoInlet
	}
	if err := b.await(ctx, w); err != nil {
		in.tidy(lane)
		return err
	}
	defer b.space.release(w.hold()) // by then the rows count themselves
	var buf []byte
	keep := w.big > 0
	if keep {
		buf = b.front.bufs.Get(int(size))
	} else {
		buf = make([]byte, 0, size)
	}
	for i, d := range rows.Data {
		var meta []byte
		if len(rows.Meta) > 0 {
			meta = rows.Meta[i]
		}
		buf = appendMetaRow(buf, meta, d)
	}
	b.ledger.mu.Lock()
	defer b.ledger.mu.Unlock()
	s := in.stream()
	if s == nil {
		return errNoInlet
	}
	if lane.releases != releases {
		return ErrReleased
	}
	k := feed{lane: lane, position: slices.Clone(rows.Next), rows: uint32(len(rows.Data))}
	s.draw += uint64(k.rows)
	k.next = s.draw
	s.provisional += int64(k.rows)
	if sabotageProvisionalDraws {
		s.next, s.accepted = s.draw, s.accepted+int64(k.rows)
	}
	lane.read, lane.last = k.position, k.next
	b.front.mu.Lock()
	defer b.front.mu.Unlock()
	b.front.feed(w.stream, k, data, rows.Arrived.UnixMicro(), buf, keep)
	return nil
}

// measure checks rows, and returns what they take encoded and their bytes of Data.
func (r *LaneRows) measure() (size, data int64, err error) {
	if err := checkLane(r.Lane); err != nil {
		return 0, 0, err
	}
	if err := checkPosition(r.Lane, r.Next); err != nil {
		return 0, 0, err
	}
	if strings.HasPrefix(r.Lane, "@") {
		return 0, 0, fmt.Errorf("lane %q is a note, which has no rows", r.Lane)
	}
	if len(r.Data) == 0 || len(r.Meta) != 0 && len(r.Meta) != len(r.Data) {
		return 0, 0, fmt.Errorf("%d records with metadata of %d for lane %q", len(r.Data), len(r.Meta), r.Lane)
	}
	for i, d := range r.Data {
		var meta []byte
		if len(r.Meta) > 0 {
			meta = r.Meta[i]
		}
		size += int64(metaRowSize(meta, d))
		data += int64(len(d))
	}
	if size > MaxFeed {
		return 0, 0, fmt.Errorf("%d bytes for lane %q at once: at most %d are taken", size, r.Lane, MaxFeed)
	}
	return size, data, nil
}

// Release forgets the rows of a lane that no claim has and that are not on their way into a run, as if they had not been
// appended; what a claim has keeps its way. An Append that waits ends with ErrReleased.
func (in *Inlet) Release(name string) {
	l := in.b.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	s := in.stream()
	if s == nil || s.lanes[name] == nil {
		return
	}
	lane := s.lanes[name]
	lane.releases++
	s.provisional -= in.b.front.void(in.incarnation, lane, ErrReleased)
	if lane.position() == nil {
		l.dropLane(s, lane)
	}
	in.stir()
}

// pauseNote is how long Note waits before it tries again to make rows durable.
const pauseNote = time.Second

// Note makes a position durable that has no rows before it but those of the lane that were appended: these are moved into
// a run first. It waits where the disk has no room for one. Errors: that of ctx, ErrClosed, ErrFailing, or what is wrong
// with lane and position.
func (in *Inlet) Note(ctx context.Context, name string, next []byte) error {
	err := checkLane(name)
	if err == nil {
		err = checkPosition(name, next)
	}
	if err != nil {
		return fmt.Errorf("note of stream incarnation %d: %w", in.incarnation, err)
	}
	lane, _, err := in.open(name)
	if err != nil {
		return fmt.Errorf("note of stream incarnation %d: %w", in.incarnation, err)
	}
	defer func() { in.tidy(lane) }() // where nothing became known of it
	for {
		if err := in.settleRows(ctx, lane); err != nil {
			return fmt.Errorf("note of lane %q: %w", name, err)
		}
		err := in.write(func(s *streamState) (*lanesEvent, error) {
			if s.lanes[name] != lane || lane.read != nil {
				return nil, errRowsWait
			}
			return &lanesEvent{Set: []LanePosition{{name, slices.Clone(next)}}}, nil
		})
		if errors.Is(err, errRowsWait) {
			var again *laneState
			if again, _, err = in.open(name); err == nil {
				lane = again
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("note of lane %q: %w", name, err)
		}
		return nil
	}
}

var errRowsWait = errors.New("rows of the lane are not durable")

// settleRows moves rows of the front into runs until none of the lane is in memory alone.
func (in *Inlet) settleRows(ctx context.Context, lane *laneState) error {
	c := in.b.Consumer(in.incarnation, Main)
	for {
		in.b.ledger.mu.RLock()
		wait := in.stream() != nil && lane.read != nil
		in.b.ledger.mu.RUnlock()
		if !wait {
			return nil
		}
		_, err := c.Spill(ctx, math.MaxInt64)
		if errors.Is(err, ErrNoSpace) || errors.Is(err, ErrCrowded) {
			select {
			case <-time.After(pauseNote):
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			return err
		}
	}
}

// write makes an event of lanes durable. event may return nil, nil where there is nothing to say; the caller of it holds
// ledger.mu.
func (in *Inlet) write(event func(*streamState) (*lanesEvent, error)) error {
	b := in.b
	o := &op{keys: [2]any{consumerKey{in.incarnation, Main}}}
	o.prepare = func() ([]*ledgerFrame, error) {
		b.ledger.mu.RLock()
		defer b.ledger.mu.RUnlock()
		s := in.stream()
		if s == nil {
			return nil, errNoInlet
		}
		e, err := event(s)
		if err != nil || e == nil {
			return nil, err
		}
		e.Incarnation = in.incarnation
		e.At = s.consumer(Main).position
		return []*ledgerFrame{newLedgerFrame(e, in.incarnation, 0, e.At, e.At)}, nil
	}
	return b.committer.do(o)
}

// Forget removes what is known of a lane, unless rows of it have not been delivered. Errors: ErrClosed, ErrFailing.
func (in *Inlet) Forget(name string) error {
	err := in.write(func(s *streamState) (*lanesEvent, error) {
		lane := s.lanes[name]
		if lane == nil || lane.final == nil || lane.read != nil || s.stepsHave(name) {
			return nil, nil
		}
		return &lanesEvent{Gone: []string{name}}, nil
	})
	if err != nil {
		return fmt.Errorf("forget lane %q: %w", name, err)
	}
	return nil
}

// Settle waits until all that was appended of some lanes before the call has been delivered. flush is asked to have
// everything below a sequence delivered, perhaps more than once. Errors: that of ctx, ErrReleased, ErrClosed.
func (in *Inlet) Settle(ctx context.Context, lanes []string, flush func(to uint64)) error {
	type goal struct {
		lane     *laneState
		releases int
		seq      uint64
	}
	var goals []goal
	l := in.b.ledger
	l.mu.RLock()
	if s := in.stream(); s != nil {
		for _, name := range lanes {
			lane := s.lanes[name]
			if lane == nil {
				continue
			}
			g := goal{lane, lane.releases, 0}
			for _, k := range s.steps {
				if k.has(name) {
					g.seq = k.seq
				}
			}
			if lane.read != nil {
				g.seq = lane.last
			}
			if g.seq > 0 {
				goals = append(goals, g)
			}
		}
	}
	l.mu.RUnlock()
	asked := uint64(0)
	for {
		in.mu.Lock()
		moves := in.moves
		in.mu.Unlock()
		l.mu.RLock()
		s, to := in.stream(), uint64(0)
		var err error
		for i := 0; i < len(goals) && s != nil; i++ {
			g := &goals[i]
			if g.lane.deliveredAt >= g.seq {
				continue
			}
			if g.lane.releases != g.releases && g.lane.last < g.seq && !s.stepsHave(g.lane.name) {
				err = ErrReleased
				break
			}
			to = max(to, g.seq)
			for _, k := range s.steps {
				if k.seq >= g.seq && k.has(g.lane.name) {
					to = max(to, k.seq) // with other rows behind them
					break
				}
			}
		}
		l.mu.RUnlock()
		switch {
		case s == nil && len(goals) > 0:
			return errNoInlet
		case err != nil || to == 0:
			return err
		case to > asked:
			asked = to
			flush(to)
		}
		select {
		case <-moves:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sortedPositions lists positions by lane.
func sortedPositions(last map[*laneState][]byte) (list []LanePosition) {
	for lane, position := range last {
		list = append(list, LanePosition{lane.name, position})
	}
	slices.SortFunc(list, func(a, b LanePosition) int { return strings.Compare(a.Lane, b.Lane) })
	return list
}
