package buffer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
)

// ledger is what the frames of the journal add up to: the streams, what each consumer has covered, and the
// manifests that have not ended. It changes only by apply, one event after another, and recovery applies
// the very same events: state and journal cannot drift apart.
//
// The committer alone applies events, each after its frame is durable. Others read, and note confirmed
// objects, under mu.
type ledger struct {
	mu        sync.RWMutex
	streams   map[uint32]*streamState // by incarnation; none that is gone
	names     map[string]*streamState
	manifests map[ManifestID]*manifestState
	packs     map[PackID]int // manifests that have not ended, by the packs they name

	nextIncarnation uint32
	ordinal         uint64 // of the last counted frame that was applied
	order           uint64 // numbers manifests in the order of their frames

	weight      int64                   // of manifests, runs and lanes in a checkpoint, bytes
	runWeight   int64                   // of that, of runs
	laneWeight  int64                   // of that, of lanes
	lanes       int                     // of all streams
	touched     []*streamState          // of which more may have ended, since apply looked
	dirty       map[ManifestID]struct{} // with confirmations that no frame says
	retired     []PackID                // packs whose last manifest has ended, since the committer looked
	retiredRuns []RunID                 // runs that are dead, likewise
	shared      map[RunID]int           // raw runs that so many more than one consumers have
}

// streamState is a stream and its accounts.
type streamState struct {
	cur       Stream
	versions  map[uint64]Stream // older ones, from the oldest that a manifest names on
	users     map[uint64]int    // manifests and epochs that have not ended, by the version that they name
	weight    int64             // of its manifests in a checkpoint, bytes
	runWeight int64             // of its runs
	consumers []*consumerState  // ascending by id
	next      uint64            // behind the last durable sequence
	draw      uint64            // next sequence to give out; the committer's own
	floor     uint64            // below it no sequence is given out again, though nobody knows of rows there
	accepted  int64             // records
	open      map[uint64]int    // manifests that have not ended, by the first sequence that they take

	lanes      map[string]*laneState
	laneWeight int64
	steps      []laneStep     // ascending; what is final and not delivered
	repeats    []LanePosition // of the last frame that had some: the next one says them again, should it be damaged
	unplaced   int64          // rows of lanes since, whose positions a damaged frame has hidden; of a start

	// Of the process.
	provisional int64  // records of lanes that no frame has made final: accepted as well
	inlet       *Inlet // brings rows of lanes; nil: the stream takes puts
}

// consumerState is how far one consumer has come.
type consumerState struct {
	id       uint8
	first    uint64 // where it began
	before   int64  // records that had been accepted by then; once it has an end: minus those that it got
	end      uint64 // it gets nothing at or above, and leaves when all below is decided and sent; 0: it has no end
	base     uint64 // everything below is decided: in a manifest, a routed run or a hole
	position uint64 // everything below is covered: decided or in a raw run, so the journal need not keep it
	counts   Counts
	lost     int64
	mark     int64         // watermark of event time, after everything that is decided; 0: none
	newest   uint64        // the greatest epoch number in a manifest or run
	drawn    uint64        // last epoch number given out, kept in memory only
	early    uint64        // only where a sabotage lets slots go before their rows are in a run
	holes    []span        // lost ranges at and above position, ascending, apart from each other
	raw      []rawRun      // ascending; together they have what of [base, position) is not in a hole
	epochs   []*epochState // by the order of their first runs
}

// span is sequences [first, next).
type span struct{ first, next uint64 }

// manifestState is a manifest that has not ended.
type manifestState struct {
	event     *manifestEvent
	order     uint64
	confirmed objectSet // durably
	replaced  objectSet
	noted     objectSet // confirmed, and no frame says so yet
	flying    objectSet // noted and in the group that is being written
	doubtful  objectSet // of a REPLACE that may be durable or not
	weight    int64
	public    *Manifest // what Outstanding returns; nil in recovery until the footers are read
}

func newLedger() *ledger {
	return &ledger{
		streams:         make(map[uint32]*streamState),
		names:           make(map[string]*streamState),
		manifests:       make(map[ManifestID]*manifestState),
		packs:           make(map[PackID]int),
		dirty:           make(map[ManifestID]struct{}),
		shared:          make(map[RunID]int),
		nextIncarnation: 1,
	}
}

// consumer returns one of the stream's consumers, or nil.
func (s *streamState) consumer(id uint8) *consumerState {
	for _, c := range s.consumers {
		if c.id == id {
			return c
		}
	}
	return nil
}

// covered is the sequence below which every consumer has covered everything.
func (s *streamState) covered() uint64 {
	if sabotageFreeWhenMainCovered && len(s.consumers) > 0 {
		return s.consumers[0].position
	}
	least := s.next
	for _, c := range s.consumers {
		least = min(least, max(c.position, c.early))
	}
	return least
}

// accepted is how many of the stream's records the consumer got.
func (c *consumerState) accepted(s *streamState) int64 {
	if c.end != 0 {
		return -c.before
	}
	return s.accepted + s.provisional - c.before
}

// step moves the position over holes that it stands at, and base over those that the position has passed: where no
// raw run is, nothing waits.
func (c *consumerState) step() {
	for len(c.holes) > 0 && c.holes[0].first <= c.position {
		c.position = max(c.position, c.holes[0].next)
		c.holes = c.holes[1:]
	}
	if c.end != 0 && c.position >= c.end {
		c.position = math.MaxUint64 // the journal keeps nothing for it any more
	}
	if len(c.raw) == 0 {
		c.base = c.position
	} else {
		c.base = max(c.base, c.raw[0].first)
	}
}

// uncovered returns what of [first, next) the consumer has neither covered nor lost.
func (c *consumerState) uncovered(first, next uint64) (left []span) {
	first = max(first, c.position)
	if c.end != 0 {
		next = min(next, c.end)
	}
	for _, h := range c.holes {
		if h.first >= next {
			break
		}
		if first < h.first {
			left = append(left, span{first, h.first})
		}
		first = max(first, h.next)
	}
	if first < next {
		left = append(left, span{first, next})
	}
	return left
}

// addHole takes [first, next) off what waits and returns how many sequences that are.
func (c *consumerState) addHole(first, next uint64) (lost int64) {
	for _, s := range c.uncovered(first, next) {
		lost += int64(s.next - s.first)
		at, _ := slices.BinarySearchFunc(c.holes, s.first, func(h span, v uint64) int {
			if h.first < v {
				return -1
			}
			return 1
		})
		c.holes = slices.Insert(c.holes, at, s)
	}
	joined := c.holes[:0]
	for _, h := range c.holes {
		if n := len(joined); n > 0 && joined[n-1].next >= h.first {
			joined[n-1].next = max(joined[n-1].next, h.next)
			continue
		}
		joined = append(joined, h)
	}
	c.holes = joined
	c.lost += lost
	c.step()
	return lost
}

// pending are the objects that still have to be sent.
func (m *manifestState) pending() (numbers []int) {
	for i := range m.event.Objects {
		if !m.confirmed.has(i) && !m.replaced.has(i) && !m.noted.has(i) && !m.flying.has(i) && !m.doubtful.has(i) {
			numbers = append(numbers, i)
		}
	}
	return numbers
}

// complete tells whether every object that was not replaced is confirmed, noted ones included.
func (m *manifestState) complete() bool {
	return m.confirmed.n+m.replaced.n+m.noted.n+m.flying.n == m.event.Objects
}

// data takes note of a DATA frame that is durable. The caller holds mu.
func (l *ledger) data(s *streamState, first uint64, count uint32) {
	s.next = max(s.next, first+uint64(count))
	s.draw = max(s.draw, s.next)
	s.accepted += int64(count)
}

// errOrder says that an event does not follow from those before it.
var errOrder = errors.New("the ledger does not continue")

// apply adds what a durable frame says. The caller holds mu. An error means that frames are missing or out
// of order; the ledger is then as it was.
func (l *ledger) apply(e event) error {
	err := l.applyOne(e)
	l.advance()
	return err
}

func (l *ledger) applyOne(e event) error {
	switch e := e.(type) {
	case *streamEvent:
		return l.applyStream(e)
	case *runEvent:
		return l.applyRun(e)
	case *manifestEvent:
		return l.applyManifest(e)
	case *progressEvent:
		if m := l.manifests[e.Manifest]; m != nil {
			if e.Objects.max() >= m.event.Objects {
				return fmt.Errorf("%w: manifest %x has %d objects, PROGRESS speaks of object %d", errOrder, e.Manifest, m.event.Objects, e.Objects.max())
			}
			m.confirmed.merge(&e.Objects)
		}
	case *commitEvent:
		if m := l.manifests[e.Manifest]; m != nil {
			l.end(m)
		}
	case *replaceEvent:
		return l.applyReplace(e)
	case *holeEvent:
		s := l.streams[e.Incarnation]
		if s == nil {
			return nil
		}
		s.next = max(s.next, e.Next)
		s.draw = max(s.draw, s.next)
		for _, c := range s.consumers {
			c.addHole(e.First, e.Next)
		}
		l.touch(s)
	case *lanesEvent:
		return l.applyLanes(e)
	default:
		return fmt.Errorf("%w: %v is not an event", errOrder, e.kind())
	}
	return nil
}

func (l *ledger) applyStream(e *streamEvent) error {
	s := l.streams[e.Stream.Incarnation]
	if e.Stream.State == Gone {
		if s != nil {
			delete(l.streams, e.Stream.Incarnation)
			delete(l.names, s.cur.Name)
			for _, lane := range s.lanes {
				l.dropLane(s, lane)
			}
			s.steps = nil
		}
		return nil
	}
	if s == nil {
		if other := l.names[e.Stream.Name]; other != nil {
			return fmt.Errorf("%w: stream %q of incarnation %d begins while %d is there", errOrder, e.Stream.Name, e.Stream.Incarnation, other.cur.Incarnation)
		}
		s = &streamState{next: 1, draw: 1, versions: make(map[uint64]Stream), users: make(map[uint64]int), open: make(map[uint64]int)}
		l.streams[e.Stream.Incarnation] = s
		l.names[e.Stream.Name] = s
		l.nextIncarnation = max(l.nextIncarnation, e.Stream.Incarnation+1)
	}
	old := s.cur
	s.cur = e.Stream
	if old.Version != 0 && old.Version != e.Stream.Version {
		s.versions[old.Version] = old
	}
	for i, id := range e.Stream.Consumers {
		if s.consumer(id) == nil {
			s.consumers = append(s.consumers, &consumerState{id: id, first: e.Firsts[i], base: e.Firsts[i], position: e.Firsts[i], before: s.accepted})
		}
	}
	slices.SortFunc(s.consumers, func(a, b *consumerState) int { return int(a.id) - int(b.id) })
	s.consumers = slices.DeleteFunc(s.consumers, func(c *consumerState) bool {
		if slices.Contains(e.Stream.Consumers, c.id) {
			return false
		}
		for _, ended := range e.Ends {
			if ended.id == c.id {
				if c.end == 0 {
					// Sequences that were skipped above the last row hold nothing, and nobody would ever come to their end.
					c.before, c.end = c.before-s.accepted, min(ended.at, max(s.next, c.position))
					c.step()
				}
				return false
			}
		}
		return true
	})
	l.prune(s)
	return nil
}

// lastWith is the newest version of the stream that has a consumer; 0: none is known.
func (s *streamState) lastWith(consumer uint8) (last uint64) {
	if slices.Contains(s.cur.Consumers, consumer) {
		return s.cur.Version
	}
	for n, v := range s.versions {
		if n > last && slices.Contains(v.Consumers, consumer) {
			last = n
		}
	}
	return last
}

func (l *ledger) applyManifest(e *manifestEvent) error {
	s := l.streams[e.Head.Incarnation]
	if s == nil {
		return fmt.Errorf("%w: manifest %x of stream incarnation %d, which is not there", errOrder, e.Head.ID, e.Head.Incarnation)
	}
	c := s.consumer(e.Head.Consumer)
	if c == nil {
		return fmt.Errorf("%w: manifest %x of consumer %d of stream %q, which it does not have", errOrder, e.Head.ID, e.Head.Consumer, s.cur.Name)
	}
	if l.manifests[e.Head.ID] != nil {
		return fmt.Errorf("%w: manifest %x twice", errOrder, e.Head.ID)
	}
	if e.Head.Source.Kind != SourceRange {
		if err := c.checkKeys(&e.Head); err != nil {
			return fmt.Errorf("%w: manifest %x of stream %q: %w", errOrder, e.Head.ID, s.cur.Name, err)
		}
	} else if e.Head.First != c.base || e.Head.Next < e.Head.First {
		return fmt.Errorf("%w: manifest %x takes [%d, %d) of stream %q, its consumer %d stands at %d",
			errOrder, e.Head.ID, e.Head.First, e.Head.Next, s.cur.Name, e.Head.Consumer, c.base)
	}
	s.next = max(s.next, e.Head.Next)
	s.draw = max(s.draw, s.next)
	c.used(e.Head.Epoch)
	c.add(e.Head.Counts, 1)
	l.finalRows(s, e.Head.Next, &e.Lanes)
	l.begin(e) // before an epoch ends with it, which may be the last that names its version
	if e.Head.Source.Kind == SourceRange {
		c.lost += e.Head.Lost
		c.reach(e.Head.Watermark)
		l.decide(s, c, e.Head.Next)
	} else {
		l.applyKeys(s, c, &e.Head)
	}
	return nil
}

func (c *consumerState) add(n Counts, sign int64) {
	c.counts.OK += sign * n.OK
	c.counts.Dropped += sign * n.Dropped
	c.counts.Failed += sign * n.Failed
}

// begin makes a manifest one of those that have not ended.
func (l *ledger) begin(e *manifestEvent) *manifestState {
	l.order++
	m := &manifestState{event: e, order: l.order, weight: int64(220 + 60*len(e.Packs) + len(e.Head.Source.Bound))}
	if e.Objects == 0 {
		return m // nothing to send: it has ended
	}
	l.manifests[e.Head.ID] = m
	l.weight += m.weight
	if s := l.streams[e.Head.Incarnation]; s != nil {
		s.weight += m.weight
		s.users[e.Head.Version]++
		s.open[e.Head.First]++
	}
	for _, p := range e.Packs {
		l.packs[p.ID]++
	}
	return m
}

// end takes a manifest off the list; packs that no other names are retired.
func (l *ledger) end(m *manifestState) {
	delete(l.manifests, m.event.Head.ID)
	delete(l.dirty, m.event.Head.ID)
	l.weight -= m.weight
	for _, p := range m.event.Packs {
		if l.packs[p.ID]--; l.packs[p.ID] <= 0 {
			delete(l.packs, p.ID)
			l.retired = append(l.retired, p.ID)
		}
	}
	if s := l.streams[m.event.Head.Incarnation]; s != nil {
		s.weight -= m.weight
		l.unuse(s, m.event.Head.Version)
		first := m.event.Head.First
		if s.open[first]--; s.open[first] == 0 {
			delete(s.open, first)
		}
		l.touch(s)
	}
}

func (l *ledger) applyReplace(e *replaceEvent) error {
	m := l.manifests[e.Manifest]
	if m != nil {
		if e.Objects.max() >= m.event.Objects {
			return fmt.Errorf("%w: manifest %x has %d objects, REPLACE speaks of object %d", errOrder, e.Manifest, m.event.Objects, e.Objects.max())
		}
		for i := range e.Objects.all() {
			if m.replaced.has(i) {
				return fmt.Errorf("%w: object %d of manifest %x is replaced twice", errOrder, i, e.Manifest)
			}
		}
		if e.New != nil && l.manifests[e.New.Head.ID] != nil {
			return fmt.Errorf("%w: manifest %x twice", errOrder, e.New.Head.ID)
		}
		if s := l.streams[m.event.Head.Incarnation]; s != nil {
			if c := s.consumer(m.event.Head.Consumer); c != nil {
				c.add(e.Minus, -1)
				c.lost += e.Lost
				c.counts.Dropped += e.Dropped
				if e.New != nil {
					c.add(e.New.Head.Counts, 1)
				}
			}
		}
		m.replaced.merge(&e.Objects)
	}
	if e.New != nil {
		l.begin(e.New)
	}
	if m != nil && m.replaced.n == m.event.Objects {
		l.end(m)
	} else if m != nil && m.complete() && m.noted.n+m.flying.n == 0 {
		l.dirty[e.Manifest] = struct{}{} // what is left is confirmed: a COMMIT is due
	}
	return nil
}

// prune forgets versions that are older than every one that is named. Those in between are kept although nothing
// names them: an object may have been sent to where one of them delivered.
func (l *ledger) prune(s *streamState) {
	oldest := s.cur.Version
	for v := range s.users {
		oldest = min(oldest, v)
	}
	for _, c := range s.consumers {
		if c.end != 0 { // what waits for it is cut under that version
			oldest = min(oldest, s.lastWith(c.id))
		}
	}
	maps.DeleteFunc(s.versions, func(v uint64, _ Stream) bool { return v < oldest || v == s.cur.Version })
}

// outstanding returns the manifests that have not ended, oldest first. The caller holds mu.
func (l *ledger) outstanding() []*manifestState {
	list := make([]*manifestState, 0, len(l.manifests))
	for _, m := range l.manifests {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b *manifestState) int {
		if a.order < b.order {
			return -1
		}
		return 1
	})
	return list
}

// note marks objects as confirmed until a frame says so. It returns how many were new.
func (l *ledger) note(id ManifestID, objects []int) (fresh int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.manifests[id]
	if m == nil {
		return 0
	}
	for _, i := range objects {
		if i < 0 || i >= m.event.Objects || m.confirmed.has(i) || m.replaced.has(i) || m.flying.has(i) {
			continue
		}
		if m.noted.add(i) {
			fresh++
		}
	}
	if fresh > 0 {
		l.dirty[id] = struct{}{}
	}
	return fresh
}

// maxConfirmed is the most manifests whose confirmations go into one group.
const maxConfirmed = 1024

// takeNoted returns the frames for what was confirmed since the last group, but for manifests that skip
// names, oldest first. Each ends in exactly one of apply and dropNoted.
func (l *ledger) takeNoted(skip func(ManifestID) bool) (frames []*ledgerFrame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var due []*manifestState
	for id := range l.dirty {
		switch m := l.manifests[id]; {
		case m == nil:
			delete(l.dirty, id)
		case !skip(id):
			due = append(due, m)
		}
	}
	slices.SortFunc(due, func(a, b *manifestState) int { return cmp.Compare(a.order, b.order) })
	for _, m := range due {
		id := m.event.Head.ID
		delete(l.dirty, id)
		var e event
		if m.complete() {
			e = &commitEvent{Manifest: id}
		} else if m.noted.n > 0 {
			e = &progressEvent{Manifest: id, Objects: m.noted.clone()}
		} else {
			continue
		}
		m.flying, m.noted = m.noted, objectSet{}
		h := &m.event.Head
		frames = append(frames, newLedgerFrame(e, h.Incarnation, h.Consumer, h.First, h.Next))
		if len(frames) == maxConfirmed {
			break
		}
	}
	return frames
}

// landed ends takeNoted for frames that were applied. The caller holds mu.
func (l *ledger) landed(e event) {
	p, ok := e.(*progressEvent)
	if !ok {
		return
	}
	if m := l.manifests[p.Manifest]; m != nil {
		m.flying = objectSet{}
		if m.noted.n > 0 || m.complete() {
			l.dirty[p.Manifest] = struct{}{}
		}
	}
}

// dropNoted takes takeNoted back for a frame that could not be written.
func (l *ledger) dropNoted(e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var id ManifestID
	switch e := e.(type) {
	case *progressEvent:
		id = e.Manifest
	case *commitEvent:
		id = e.Manifest
	default:
		return
	}
	if m := l.manifests[id]; m != nil {
		m.noted.merge(&m.flying)
		m.flying = objectSet{}
		l.dirty[id] = struct{}{}
	}
}

// ledgerFrame is an event on its way into the journal.
type ledgerFrame struct {
	head    frameHead // type, stream, consumer, range
	payload []byte    // ordinal not filled in
	event   event
}

func newLedgerFrame(e event, incarnation uint32, consumer uint8, first, next uint64) *ledgerFrame {
	f := &ledgerFrame{payload: encodeEvent(e), event: e}
	f.head = frameHead{
		Type: e.kind(), Incarnation: incarnation, Consumer: consumer,
		First: first, Count: uint32(next - first), Length: uint32(len(f.payload)), Arrived: markOf(e),
	}
	return f
}

// markOf is the mark of an event's frame.
func markOf(e event) int64 {
	switch e := e.(type) {
	case *manifestEvent:
		return mark(e.Head.ID)
	case *runEvent:
		return runMark(e.Ref.ID, e.Head.Kind)
	case *replaceEvent:
		if e.New != nil {
			return mark(e.New.Head.ID)
		}
	}
	return 0
}

// runMark is the mark of a run, which says of which kind it is; never 0.
func runMark(id RunID, kind RunKind) int64 {
	return cmp.Or(mark(id)&^1|int64(kind), 2)
}

// mark of a manifest; never 0.
func mark(id [16]byte) int64 {
	return cmp.Or(int64(binary.LittleEndian.Uint64(id[:])), 1)
}
