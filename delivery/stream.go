package delivery

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"hydrant/buffer"
	"hydrant/partition"
	"hydrant/transform/hook"
)

// stream is what one consumer makes of a delivery stream, the main one or its backup: what is known about it apart from
// its rows. Its loop turns rows into
// manifests, the uploader ends them, and both tell it what they did. Safe for concurrent use.
type stream struct {
	name        string
	incarnation uint32
	reader      uint8  // buffer.Main or buffer.Backup
	directoryID string // of the data directory, in hexadecimal digits
	store       store
	openVersion Open
	consumer    consumer
	up          *uploader
	metrics     *metrics
	log         *slog.Logger
	closers     *sync.WaitGroup // of sinks that are being closed
	directory   Directory       // nil: none can be diverted to
	poke        chan struct{}   // the loop has something new to look at
	intake      *intake
	book        *book // of what markers say; nil: of a backup

	// cutting is held over each cut and each change of the version, so that no manifest names a version that
	// the change has made the buffer forget. Before mu.
	cutting gate

	mu       sync.Mutex // guards what follows
	def      buffer.Stream
	cur      *version // of def.Version
	versions map[uint64]*version
	lanes    map[string]*lane     // by place
	diverts  map[string]*diverted // by path
	inWork   []*job               // claims without a manifest, oldest first
	batches  map[buffer.ManifestID]*batch
	// former are the versions between the oldest that a manifest of an earlier process names and the one in force
	// when this process began, of those that have one place the newest. While left > 0, which is how many objects an
	// earlier process may have sent to their places, they are in use.
	former   []*version
	left     int
	sends    map[*task]context.CancelFunc // attempts under way
	count    uint64                       // of batches ever
	flushTo  uint64                       // close what is below
	flushWhy string
	notes    []note        // of objects that a database has and need not remember
	changed  chan struct{} // closed and made anew when a cut, a manifest or the state has changed
	gone     bool
	ending   bool // a backup that was turned off: what came before is delivered, under the last version that had it

	// Records in objects that have ended, since the stream was created: together with the buffer's totals
	// they make the rest, so that the sum is right at every instant.
	delivered, failed int64
	deliveredBytes    int64 // of data objects, by this process

	epochs     []buffer.Epoch // whose runs have rows under no manifest
	keys       int            // open partitions of the epoch
	scheme     Scheme         // of the last rows that were routed by one; nil: none were
	mark       partition.Mark // after them
	deliveries ring
	failures   ring
	cutErr     string // why the last cut failed, "" when it did not
	sendErr    string // the same for attempts

	quietMu sync.Mutex
	quiet   map[string]time.Time // until when a kind of message is not repeated
}

// version is one version of the stream and what it takes to deliver under it.
type version struct {
	number uint64
	pipe   *Pipeline // nil where it could not be opened
	// invokers are those of the pipeline's hooks.
	invokers []*hook.Invoker
	err      error
	data     outlet // of data objects
	errors   outlet // of the error output: the same as data where both go to one destination
	users    int    // jobs and batches
}

// batch is a manifest that has not ended.
type batch struct {
	stream   *stream
	manifest *buffer.Manifest
	use      *version
	number   uint64  // in order of making
	reason   string  // of the cut; "" after a restart
	pending  int     // objects
	records  int64   // in pending data and error objects
	bytes    int64   // of pending objects
	tasks    []*task // of all objects that were pending when it was noted
	oldest   int64   // arrival of the oldest record, µs
	attempts int
	err      string
}

// ring keeps the last events, newest first.
type ring struct{ events []DeliveryEvent }

const keptEvents = 20

func (r *ring) add(e DeliveryEvent) {
	if len(r.events) < keptEvents {
		r.events = append(r.events, DeliveryEvent{})
	}
	copy(r.events[1:], r.events)
	r.events[0] = e
}

// newStream takes over a consumer of a stream that the buffer holds, with its manifests that have not ended.
func newStream(m *Manager, def buffer.Stream, reader uint8, outstanding []*buffer.Manifest) *stream {
	open, metrics, log := m.open, m.metrics, m.log.With("stream", def.Name)
	if reader == buffer.Backup {
		open, metrics, log = m.openBackup, m.backupMetrics, log.With("consumer", "backup")
	}
	s := &stream{
		name:        def.Name,
		incarnation: def.Incarnation,
		reader:      reader,
		directoryID: directoryID(m.store),
		store:       m.store,
		openVersion: open,
		consumer:    m.store.Consumer(def.Incarnation, reader),
		up:          m.up,
		metrics:     metrics,
		log:         log,
		closers:     &m.closers,
		directory:   m.directory,
		poke:        make(chan struct{}, 1),
		cutting:     newGate(),
		def:         def,
		versions:    map[uint64]*version{},
		lanes:       map[string]*lane{},
		diverts:     map[string]*diverted{},
		batches:     map[buffer.ManifestID]*batch{},
		sends:       map[*task]context.CancelFunc{},
		changed:     make(chan struct{}),
		quiet:       map[string]time.Time{},
	}
	s.intake = newIntake(s, func() []*stream { return m.consumersOf(s) })
	s.metrics.appear(s.name)
	totals := s.consumer.Totals()
	s.delivered, s.failed = totals.OK, totals.Failed
	s.epochs = s.consumer.Epochs()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cur = s.versionLocked(def.Version)
	s.formerLocked(outstanding)
	if reader == buffer.Main {
		s.book = openBook(s, outstanding)
	}
	var left []*task
	for _, man := range outstanding {
		pending := s.store.Pending(man.ID)
		for _, i := range pending {
			if o := &man.Objects[i]; o.Role == buffer.Error {
				s.failed -= o.Records
			} else {
				s.delivered -= o.Records
			}
		}
		if b, tasks := s.addBatchLocked(man, s.versionLocked(man.Version), pending, ""); b != nil {
			for _, t := range tasks {
				t.left = true // nobody knows what the process before has sent
			}
			s.left += len(tasks)
			left = append(left, tasks...)
		}
	}
	// What took the place of an object stands where that stood: with its records, in the stream's order.
	slices.SortStableFunc(left, func(a, b *task) int { return cmp.Compare(a.info().FirstSeq, b.info().FirstSeq) })
	s.submitLocked(left, false)
	if s.left == 0 {
		s.forgetFormerLocked()
	}
	return s
}

// formerLocked takes note of the versions under which an earlier process may have sent what is outstanding.
func (s *stream) formerLocked(outstanding []*buffer.Manifest) {
	oldest := s.def.Version
	for _, man := range outstanding {
		oldest = min(oldest, man.Version)
	}
	places := map[string]bool{}
	for n := s.def.Version; n > oldest; n-- {
		if _, known := s.store.StreamVersion(s.incarnation, n); !known {
			continue // a data directory of before these were kept
		}
		v := s.versionLocked(n)
		s.useLocked(v)
		if places[v.places()] {
			s.unuseLocked(v)
			continue
		}
		places[v.places()] = true
		s.former = append(s.former, v)
	}
}

// explainLocked notes that what an earlier process may have done with an object is known by now.
func (s *stream) explainLocked() {
	if s.left--; s.left == 0 {
		s.forgetFormerLocked()
	}
}

// forgetFormerLocked gives the former versions up.
func (s *stream) forgetFormerLocked() {
	for _, v := range s.former {
		s.unuseLocked(v)
	}
	s.former = nil
}

// versionLocked returns a version of the stream, opened if that can be done.
func (s *stream) versionLocked(number uint64) *version {
	if v := s.versions[number]; v != nil {
		return v
	}
	v := &version{number: number}
	s.versions[number] = v
	s.reopenLocked(v)
	s.lanesLocked(v)
	return v
}

// reopenLocked tries to make the version's pipeline.
func (s *stream) reopenLocked(v *version) {
	spec, ok := s.def, true
	if v.number != s.def.Version {
		spec, ok = s.store.StreamVersion(s.incarnation, v.number)
	}
	if !ok {
		v.err = fmt.Errorf("version %d of stream %q is not known any more", v.number, s.name)
		return
	}
	if v.pipe, v.err = s.openVersion(spec); v.err != nil {
		v.pipe, v.err = nil, fmt.Errorf("open version %d of stream %q: %w", v.number, s.name, v.err)
		// Every object that is due tries again.
		if s.loud("open "+strconv.FormatUint(v.number, 10), alarmEvery) {
			s.log.Error("stream cannot be delivered; its records wait", "version", v.number, "err", v.err)
		}
		return
	}
	v.pipe.each(func(d *Destination) { s.metrics.destination(s.name, d.Kind) })
	if v.pipe.Destination.finisher() != nil {
		s.metrics.loads.appear(s.name)
	}
	if v.invokers, v.err = s.invokers(v.pipe); v.err != nil {
		v.pipe = nil
		return
	}
	if v.data.lane != nil { // it could not be opened before
		s.up.pace(v.data.lane, v.pipe.Destination.Pace)
	}
}

// useLocked and unuseLocked count jobs and batches of a version; one without any, which is not in force,
// is closed.
func (s *stream) useLocked(v *version) { v.users++ }

func (s *stream) unuseLocked(v *version) {
	v.users--
	s.retireLocked(v)
}

// adopt makes def what is in force.
func (s *stream) adopt(def buffer.Stream) {
	s.mu.Lock()
	s.def = def
	if old := s.cur; old == nil || old.number != def.Version {
		s.cur = s.versionLocked(def.Version)
		if old != nil {
			s.retireLocked(old)
		}
	} else if old.err != nil {
		s.reopenLocked(old)
	}
	for _, l := range s.lanes {
		s.up.pause(l, def.State == buffer.Paused)
	}
	if def.State == buffer.Discarding {
		for _, cancel := range s.sends { // nobody wants them stored any more
			cancel()
		}
	}
	s.signalLocked()
	s.mu.Unlock()
	s.wake()
	s.intake.wake()
}

// hurry makes all that failed due now.
func (s *stream) hurry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes {
		s.up.hurry(l)
	}
	for _, v := range s.diverts {
		s.up.hurry(v.lane)
	}
}

// wake makes the loop look.
func (s *stream) wake() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// signalLocked wakes those who wait for the stream to get somewhere.
func (s *stream) signalLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// addBatchLocked notes a manifest that has not ended and returns the tasks for its objects. It returns nil
// where there is nothing to send.
func (s *stream) addBatchLocked(m *buffer.Manifest, v *version, pending []int, reason string) (*batch, []*task) {
	if len(pending) == 0 {
		return nil, nil
	}
	s.count++
	b := &batch{stream: s, manifest: m, use: v, number: s.count, reason: reason, pending: len(pending)}
	tasks := make([]*task, len(pending))
	for i, n := range pending {
		b.records += m.Objects[n].Records
		b.bytes += m.Objects[n].Size
		if o := m.Objects[n].Oldest; b.oldest == 0 || o < b.oldest {
			b.oldest = o
		}
		tasks[i] = &task{batch: b, object: n}
	}
	b.tasks = tasks
	s.batches[m.ID] = b
	s.useLocked(v)
	return b, tasks
}

// submitLocked queues tasks, each for its destination. first: before what waits there, in place of an object.
func (s *stream) submitLocked(tasks []*task, first bool) {
	for len(tasks) > 0 {
		l := s.laneLocked(tasks[0])
		n := 1
		for n < len(tasks) && s.laneLocked(tasks[n]) == l {
			n++
		}
		if first {
			s.up.submitFirst(l, tasks[:n])
		} else {
			s.up.submit(l, tasks[:n])
		}
		tasks = tasks[n:]
	}
}

// endObjectLocked notes that one object of a batch has ended.
func (s *stream) endObjectLocked(t *task) {
	b, info := t.batch, t.info()
	t.ended = true
	for _, p := range t.places {
		s.unuseLocked(p.v)
	}
	t.places = nil
	if t.left {
		t.left = false
		s.explainLocked()
	}
	b.pending--
	b.records -= info.Records
	b.bytes -= info.Size
	if b.pending == 0 {
		delete(s.batches, b.manifest.ID)
		s.unuseLocked(b.use)
	}
	s.signalLocked()
}

// took notes a claim that was made, before anybody can see that its rows wait no more.
func (s *stream) took(j *job) {
	s.inWork = append(s.inWork, j)
	s.useLocked(j.use)
}

// committed notes that a job has become a manifest.
func (s *stream) committed(j *job, m *buffer.Manifest) {
	var tasks []*task
	s.mu.Lock()
	s.inWork = slices.DeleteFunc(s.inWork, func(k *job) bool { return k == j })
	if m != nil {
		pending := make([]int, len(m.Objects))
		for i := range pending {
			pending[i] = i
		}
		_, tasks = s.addBatchLocked(m, j.use, pending, j.reason)
		s.book.expect(m, j.draft)
	}
	if j.kind != cutRange {
		s.epochs = s.consumer.Epochs()
	}
	s.unuseLocked(j.use)
	s.cutErr = ""
	s.signalLocked()
	s.mu.Unlock()
	s.metrics.cut(s.name, j, m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.submitLocked(tasks, false)
}

// givenBack notes that the claims of jobs were released. why is "" when the process ends.
func (s *stream) givenBack(jobs []*job, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inWork = slices.DeleteFunc(s.inWork, func(k *job) bool { return slices.Contains(jobs, k) })
	for _, j := range jobs {
		s.unuseLocked(j.use)
	}
	if why != "" {
		s.cutErr = why
	}
	s.signalLocked()
}

// stored notes that an object is in its destination.
func (s *stream) stored(t *task, kind string, took time.Duration) {
	b, info := t.batch, t.info()
	s.book.kept(t)
	s.store.Confirm(b.manifest.ID, t.object)
	s.mu.Lock()
	if info.Role == buffer.Error {
		s.failed += info.Records
	} else {
		s.delivered += info.Records
		s.deliveredBytes += info.Size
	}
	b.attempts = max(b.attempts, t.attempts)
	s.sendErr = ""
	s.deliveries.add(DeliveryEvent{Time: time.Now(), Key: info.Key, Records: info.Records, Bytes: info.Size, Reason: b.reason})
	if t.finishes() { // before a flush can see the end
		s.metrics.loads.objects.WithLabelValues(s.name, outcomeLoaded).Inc()
	} else {
		s.metrics.attempt(s.name, kind, outcomeStored, took)
	}
	s.endObjectLocked(t)
	s.mu.Unlock()
	s.wake() // the loop may have been holding back, or the stream is empty now
}

// attemptFailed notes an attempt that did not store the object.
func (s *stream) attemptFailed(t *task, kind string, err error) {
	b, info := t.batch, t.info()
	s.mu.Lock()
	defer s.mu.Unlock()
	b.attempts, b.err = max(b.attempts, t.attempts), err.Error()
	s.sendErr = err.Error()
	s.failures.add(DeliveryEvent{Time: time.Now(), Key: info.Key, Records: info.Records, Bytes: info.Size, Reason: b.reason, Error: err.Error()})
	if t.staged {
		s.metrics.loads.objects.WithLabelValues(s.name, outcomeOf(err)).Inc()
	} else {
		s.metrics.attempt(s.name, kind, outcomeOf(err), 0)
	}
}

// replaced notes that m, under another key, took the place of an object.
func (s *stream) replaced(t *task, m *buffer.Manifest, key string) {
	b := t.batch
	s.mu.Lock()
	var tasks []*task
	if m != nil {
		pending := make([]int, len(m.Objects))
		for i := range pending {
			pending[i] = i
		}
		_, tasks = s.addBatchLocked(m, b.use, pending, b.reason)
	}
	s.endObjectLocked(t)
	s.submitLocked(tasks, true)
	s.mu.Unlock()
	s.metrics.replacements.WithLabelValues(s.name).Inc()
	s.log.Warn("object replaced", "key", t.info().Key, "by", key, "records", t.info().Records)
}

// setAside notes that an object was lost.
func (s *stream) setAside(t *task, file string) {
	info := t.info()
	s.mu.Lock()
	s.endObjectLocked(t)
	s.mu.Unlock()
	s.metrics.alarm(s.name, "set aside")
	s.log.Error("bytes of an object are damaged; it is set aside and its records are lost", "key", info.Key, "records", info.Records, "file", file)
	s.wake()
}

const (
	alarmEvery  = 5 * time.Minute
	noticeEvery = time.Minute
)

// alarm logs at error level something that a person has to act on, and counts it. A kind is logged again
// only after a while.
func (s *stream) alarm(kind, message string, args ...any) {
	s.metrics.alarm(s.name, kind)
	if s.loud(kind, alarmEvery) {
		s.log.Error(message, args...)
	}
}

// notice logs at warning level something that is expected to go away.
func (s *stream) notice(kind, message string, args ...any) {
	if s.loud(kind, noticeEvery) {
		s.log.Warn(message, args...)
	}
}

func (s *stream) loud(kind string, every time.Duration) bool {
	s.quietMu.Lock()
	defer s.quietMu.Unlock()
	now := time.Now()
	if now.Before(s.quiet[kind]) {
		return false
	}
	s.quiet[kind] = now.Add(every)
	return true
}
