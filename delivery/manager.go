package delivery

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hydrant/buffer"
	"hydrant/record"
	"hydrant/transform/hook"
)

// hookShare is the part of limits.memory for all functions together: batches, requests and answers.
const hookShare = 16

// DefaultMemory stands in where Options.Memory is 0.
const DefaultMemory = 512 << 20

// ErrPaused says that a stream is paused: nothing of it is uploaded until it is resumed.
var ErrPaused = errors.New("stream is paused")

// ErrDeleting says that a stream is on its way out and cannot be steered any more.
var ErrDeleting = errors.New("stream is being deleted")

// Manager runs all streams of a buffer. Safe for concurrent use.
type Manager struct {
	store   store
	open    Open
	ours    func(s buffer.Stream) bool // that Apply declares
	log     *slog.Logger
	workers *workers
	up      *uploader
	metrics *metrics
	// openBackup and backupMetrics are what open and metrics are, for the consumers of backups.
	openBackup    Open
	backupMetrics *metrics

	hooks   *hook.Budget // of all functions together
	shares  *shares      // of routed streams
	closers sync.WaitGroup
	begin   chan struct{} // Run has a loop to start
	stopped chan struct{} // closed when Run has returned

	directory Directory
	ending    chan struct{}  // closed when Run is to return
	orders    sync.WaitGroup // diversions under way; added to under mu

	defining gate // held over each change of a stream, which takes a while; before mu

	mu       sync.RWMutex // guards what follows
	streams  map[string]*stream
	backups  map[string]*stream // of those that have one, or had one that has not ended
	loops    []*loop            // to be started
	stopping bool
	dry      bool // nothing is read any more
}

// New takes over the streams that the buffer holds and opens their pipelines. A stream whose pipeline
// cannot be opened stays, with its backlog, in state failed; the others run. Nothing is done before Run.
func New(o Options) (*Manager, error) {
	if o.Buffer == nil || o.Open == nil {
		return nil, errors.New("delivery needs a buffer and a way to open streams")
	}
	return newManager(o, bufferStore{o.Buffer})
}

func newManager(o Options, st store) (*Manager, error) {
	if o.Workers < 0 || o.Memory < 0 {
		return nil, fmt.Errorf("delivery with %d workers in %d bytes of memory", o.Workers, o.Memory)
	}
	if o.Workers == 0 {
		o.Workers = runtime.NumCPU()
	}
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.Declares == nil {
		o.Declares = func(buffer.Stream) bool { return true }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	m := &Manager{
		store:     st,
		open:      o.Open,
		ours:      o.Declares,
		log:       o.Log,
		workers:   newWorkers(o.Workers),
		up:        newUploader(o.Memory),
		metrics:   newMetrics("hydrant_"),
		begin:     make(chan struct{}, 1),
		defining:  newGate(),
		stopped:   make(chan struct{}),
		ending:    make(chan struct{}),
		directory: o.Directory,
		streams:   map[string]*stream{},
		backups:   map[string]*stream{},

		openBackup:    backupOpener(o.OpenBackup),
		backupMetrics: newMetrics("hydrant_backup_"),
	}
	m.metrics.collect = m.snapshots
	m.backupMetrics.collect = m.backupSnapshots
	m.backupMetrics.read.keys, m.backupMetrics.read.watermark, m.backupMetrics.read.unmarked, m.backupMetrics.loads.staged = nil, nil, nil, nil // they know nothing of that
	m.shares = &shares{memory: o.Memory, count: m.routed}
	var err error
	if m.hooks, err = hook.NewBudget(max(o.Memory/hookShare, 1)); err != nil {
		return nil, err
	}
	outstanding := map[consumerKey][]*buffer.Manifest{}
	for _, man := range st.Outstanding() {
		of := consumerKey{man.Incarnation, man.Consumer}
		outstanding[of] = append(outstanding[of], man)
	}
	var there []uint32
	for _, def := range st.Streams() {
		there = append(there, def.Incarnation)
	}
	if err := st.Notes().Keep(there); err != nil {
		m.log.Warn("notes of streams that are gone stay", "err", err)
	}
	for _, def := range st.Streams() {
		m.add(newStream(m, def, buffer.Main, outstanding[consumerKey{def.Incarnation, buffer.Main}]))
		m.addBackup(def, outstanding[consumerKey{def.Incarnation, buffer.Backup}])
	}
	if sabotageWaitForStore {
		m.waitForStores()
	}
	return m, nil
}

// add makes a stream known and hands its loop to Run.
func (m *Manager) add(s *stream) {
	m.mu.Lock()
	m.streams[s.name] = s
	if m.dry {
		s.intake.holds++ // nobody else has it yet
	}
	m.loops = append(m.loops, newLoop(s, m, func() bool { return m.retire(s) }))
	m.mu.Unlock()
	select {
	case m.begin <- struct{}{}:
	default:
	}
}

// routed is how many streams pass their rows through routed runs.
func (m *Manager) routed() (n int) {
	for _, s := range m.all() {
		s.mu.Lock()
		if p := s.cur.pipe; p != nil && p.Routed() {
			n++
		}
		s.mu.Unlock()
	}
	return n
}

func (m *Manager) lookup(name string) *stream {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.streams[name]
}

// all streams, by name.
func (m *Manager) all() []*stream {
	m.mu.RLock()
	defer m.mu.RUnlock()
	names := slices.Sorted(maps.Keys(m.streams))
	out := make([]*stream, len(names))
	for i, name := range names {
		out[i] = m.streams[name]
	}
	return out
}

// OwnedError says that a declared stream has the name of one that lives beside those that are declared.
type OwnedError struct{ Stream string }

func (e *OwnedError) Error() string {
	return fmt.Sprintf("stream %q is there already and was created over the API: delete it there first, or declare another name", e.Stream)
}

// Declared is a stream as the configuration has it.
type Declared struct {
	Name   string
	Tags   map[string]string
	Spec   []byte
	Backup bool // its source records go to a backup as well
}

// Apply makes the streams that take puts be exactly these: new ones are created, changed ones get a new
// version and close their epoch, those that are gone take no more puts and drain under their last
// version. A paused stream stays paused. Streams that Options.Declares does not count are left alone, and a
// declaration of their name fails with *OwnedError, unless they are on their way out: then it takes them over.
// Durable on return. Where it fails for some streams, it has done its work for the others.
func (m *Manager) Apply(streams []Declared) error {
	m.defining.Lock()
	defer m.defining.Unlock()
	var errs []error
	declared := map[string]bool{}
	for _, d := range streams {
		if declared[d.Name] {
			errs = append(errs, fmt.Errorf("stream %q is declared twice", d.Name))
			continue
		}
		declared[d.Name] = true
		state := buffer.Active
		s := m.lookup(d.Name)
		if s != nil {
			def := s.definition()
			if def.State < buffer.Deleting && !m.ours(def) {
				errs = append(errs, &OwnedError{Stream: d.Name})
				continue
			}
			if def.State == buffer.Paused {
				state = buffer.Paused
			}
		}
		if _, err := m.define(s, buffer.Stream{Name: d.Name, State: state, Tags: d.Tags, Consumers: Consumers(d.Backup), Spec: d.Spec}); err != nil {
			errs = append(errs, err)
		}
	}
	for _, s := range m.all() {
		def := s.definition()
		if declared[s.name] {
			continue
		}
		if def.State >= buffer.Deleting {
			s.adopt(def) // what could not be opened may be by now
			if k := m.backupOf(s.name); k != nil {
				k.adopt(k.definition())
			}
			continue
		}
		if !m.ours(def) {
			continue
		}
		def.State = buffer.Deleting
		if _, err := m.define(s, def); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// define makes def what is in force for s, or a new stream where s is nil. The caller holds m.defining.
func (m *Manager) define(s *stream, def buffer.Stream) (buffer.Stream, error) {
	now, ended, err := m.defineOnce(s, def)
	if ended && err == nil && (slices.Contains(def.Consumers, buffer.Backup) || m.promises(now)) {
		def.Consumers = Consumers(true)
		now, _, err = m.defineOnce(s, def) // the next backup begins now
	}
	return now, err
}

// defineOnce is define but for what can only happen after a former backup has ended, which it tells.
func (m *Manager) defineOnce(s *stream, def buffer.Stream) (now buffer.Stream, ended bool, err error) {
	var copies *stream
	if s != nil {
		if was := s.definition(); def.State >= buffer.Deleting || !bytes.Equal(was.Spec, def.Spec) || !slices.Equal(was.Consumers, def.Consumers) {
			s.intake.hold() // a Reader is of one version
			defer s.intake.release()
		}
		s.cutting.Lock()
		defer s.cutting.Unlock()
		if copies = m.backupOf(s.name); copies != nil {
			copies.cutting.Lock()
			defer copies.cutting.Unlock()
			def.Consumers = copies.mayKeep(def.Consumers)
		}
	}
	if now, err = m.store.Define(def); err != nil {
		return buffer.Stream{}, false, fmt.Errorf("define stream %q: %w", def.Name, err)
	}
	if copies != nil {
		ended = m.follow(copies, now)
	} else {
		m.addBackup(now, nil)
	}
	if s == nil {
		m.add(newStream(m, now, buffer.Main, nil))
		m.log.Info("stream created", "stream", now.Name, "version", now.Version)
		return now, false, nil
	}
	if old := s.definition(); old.Version != now.Version || old.State != now.State {
		s.log.Info("stream changed", "version", now.Version, "state", stateName(now.State))
	}
	s.adopt(now)
	if now.State == buffer.Discarding {
		s.hurry() // what waits for its destination need not
		if copies != nil {
			copies.hurry()
		}
	}
	return now, ended, nil
}

// retire ends a stream that was deleted when nothing of it is left. It is called by the stream's loop.
func (m *Manager) retire(s *stream) bool {
	if !s.empty() {
		return false
	}
	m.defining.Lock()
	defer m.defining.Unlock()
	if !s.empty() { // a new declaration may have brought it back
		return false
	}
	copies := m.backupOf(s.name)
	if copies != nil && !copies.empty() {
		return false // its loop wakes this one
	}
	for _, man := range m.store.Outstanding() {
		if man.Incarnation == s.incarnation {
			// Its end is not durable yet. Nothing tells when it is, so look again soon.
			time.AfterFunc(minInterval, s.wake)
			return false
		}
	}
	def := s.definition()
	discarded := def.State == buffer.Discarding
	dropped := s.consumer.Totals().Dropped
	def.State = buffer.Gone
	if _, err := m.store.Define(def); err != nil {
		s.alarm("cut", "deleted stream cannot be ended now", "err", err)
		time.AfterFunc(cutBase, s.wake)
		return false
	}
	m.mu.Lock()
	delete(m.streams, s.name)
	delete(m.backups, s.name)
	m.mu.Unlock()
	s.end()
	s.forgetAtEnd()
	s.book.close()
	if copies != nil {
		copies.end()
		copies.wake() // its loop ends
	}
	if discarded {
		m.metrics.departed(s.name, dropped)
		s.log.Warn("stream is gone; what waited was discarded, as it was deleted by force", "dropped_records", dropped)
	} else {
		s.log.Info("stream is gone")
	}
	return true
}

// Run delivers until ctx ends. Then it stops loops and uploads, leaving the rest on disk, and returns nil.
// It is called once.
func (m *Manager) Run(ctx context.Context) error {
	defer close(m.stopped)
	var wg sync.WaitGroup
	wg.Go(func() { m.workers.run(ctx) })
	wg.Go(func() { m.up.run(ctx, m.attempt, m.load) })
	m.beginPromised()
	for ctx.Err() == nil {
		m.mu.Lock()
		loops := m.loops
		m.loops = nil
		m.mu.Unlock()
		for _, l := range loops {
			wg.Go(func() { l.run(ctx) })
			wg.Go(func() { l.s.intake.run(ctx) })
		}
		select {
		case <-m.begin:
		case <-ctx.Done():
		}
	}
	m.mu.Lock()
	m.stopping = true
	m.mu.Unlock()
	m.endOrders()
	wg.Wait()
	for _, s := range m.both() {
		s.closeSinks()
	}
	m.closers.Wait()
	return nil
}

// Append stores the records of a call (the contract of directput.Appender). Errors: *record.NotFound,
// *record.Refusal, or the buffer's.
func (m *Manager) Append(ctx context.Context, stream string, c record.Call) (r record.Receipt, adopted bool, err error) {
	m.mu.RLock()
	s, stopping := m.streams[stream], m.stopping
	m.mu.RUnlock()
	switch {
	case s == nil:
		return r, false, &record.NotFound{Stream: stream}
	case stopping:
		return r, false, &record.Refusal{Reason: "stopping", Message: "the service is stopping"}
	case s.state() >= buffer.Deleting:
		return r, false, &record.NotFound{Stream: stream, Inactive: true}
	}
	if source := s.source(); source != "" {
		return r, false, &record.Sourced{Stream: stream, Source: source}
	}
	return m.store.Append(ctx, stream, c)
}

// Pause stops uploads of a stream, durably; puts go on, and rows are cut only where space demands it. It is
// idempotent. Errors: *record.NotFound, ErrDeleting, or the buffer's.
func (m *Manager) Pause(stream string) error { return m.steer(stream, buffer.Active, buffer.Paused) }

// Resume starts uploads of a paused stream again, durably and at once. It is idempotent, with Pause's errors.
func (m *Manager) Resume(stream string) error { return m.steer(stream, buffer.Paused, buffer.Active) }

func (m *Manager) steer(name string, from, to buffer.State) error {
	m.defining.Lock()
	defer m.defining.Unlock()
	s := m.lookup(name)
	if s == nil {
		return &record.NotFound{Stream: name}
	}
	def := s.definition()
	switch def.State {
	case to:
		return nil
	case from:
	default:
		return fmt.Errorf("stream %q: %w", name, ErrDeleting)
	}
	def.State = to
	if _, err := m.define(s, def); err != nil {
		return err
	}
	if to == buffer.Active {
		s.hurry()
		if k := m.backupOf(name); k != nil {
			k.hurry()
		}
	}
	return nil
}

// Collectors of this package's metrics.
func (m *Manager) Collectors() []prometheus.Collector {
	return append(append(m.metrics.collectors(), m.backupMetrics.ofBackups()...), newIntakeMetrics(m.all))
}

// StopReading ends the Readers of all streams, for good, and waits for their ends. What they brought is delivered as ever.
func (m *Manager) StopReading() {
	m.mu.Lock()
	done := m.dry
	m.dry = true
	m.mu.Unlock()
	if done {
		return
	}
	var wg sync.WaitGroup
	for _, s := range m.all() {
		wg.Go(s.intake.hold)
	}
	wg.Wait()
}

// source is what the version in force reads from; "": it takes puts.
func (s *stream) source() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur.pipe == nil || s.cur.pipe.Reader == nil {
		return ""
	}
	return cmp.Or(s.cur.pipe.Source, "source")
}

// state and definition of the stream in force.
func (s *stream) state() buffer.State { return s.definition().State }

func (s *stream) definition() buffer.Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.def
}

// empty tells whether a deleted stream has nothing left.
func (s *stream) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.def.State < buffer.Deleting && !s.ending || len(s.inWork) > 0 || len(s.epochs) > 0 || len(s.batches) > 0 {
		return false
	}
	if s.def.State == buffer.Deleting && s.book != nil && s.book.has() {
		return false // the last markers
	}
	w := s.consumer.Waiting()
	return w.First == w.Next
}

// end takes away what a stream that is gone has left.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	close(s.intake.gone)
	for _, v := range s.versions {
		s.closeSink(v)
	}
	for _, l := range s.lanes {
		s.up.dropLane(l)
	}
	s.closeDivertedLocked()
	s.metrics.vanish(s.name)
	s.signalLocked()
}

// closeSinks ends the connections of a stream whose deliveries have stopped.
func (s *stream) closeSinks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeDivertedLocked()
	for _, v := range s.versions {
		s.closeSink(v)
	}
}
