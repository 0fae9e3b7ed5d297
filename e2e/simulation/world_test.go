package simulation

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hydrant/buffer"
	"hydrant/buffer/forgetfs"
	"hydrant/delivery"
)

const dataDir = "/data"

// world is everything that outlives a process: the disk, the store, the clients, what they were told, and
// the model that judges all that. Its lock is never held while anything waits, since a bubble's clock
// stands while anybody waits for a mutex.
type world struct {
	seed  uint64
	shape shape
	trace *trace
	store *store
	logs  io.Writer // nil: logs are discarded

	offset    atomic.Int64 // of the wall clock from the bubble's, ns
	healed    atomic.Bool
	lastFault atomic.Int64 // since trace.began, ns
	turmoil   atomic.Int64 // goes up with everything that may hold a delivery up

	steering chan struct{} // held while streams are steered or configured

	mu         sync.Mutex
	disk       *disk
	proc       *process // that takes calls; nil: none does
	last       *process // that was started and not stopped; the driver's own
	number     int      // of processes that came up
	crashed    time.Duration
	violations []string
	jumps      []time.Duration // when the clock was set
	declared   map[string]*spec
	gen        map[string]int           // goes up when a stream is taken away
	trying     map[string]int           // attempts under way, by stream
	paused     map[string]time.Duration // streams that were paused for certain
	specs      map[specKey]*spec        // by what was opened
	revs       int
	versions   map[string]versionSeen // highest seen, by stream
	log        *ledger
	armed      trigger
	armedFor   time.Duration
}

type specKey struct {
	incarnation uint32
	version     uint64
}

type versionSeen struct {
	incarnation uint32
	version     uint64
}

// trigger is a moment at which the power goes.
type trigger uint8

const (
	never           trigger = iota
	afterLostAnswer         // an object is stored and the answer is lost
	afterAnswer             // an object is stored and the process knows
	afterAck                // a client has its answer
)

// process is one start of the daemon's core.
type process struct {
	w      *world
	number int
	began  int64 // since trace.began, ns
	disk   *disk
	b      *buffer.Buffer
	m      *delivery.Manager
	cancel context.CancelFunc
	over   chan struct{}   // closed when Run has returned
	killed chan struct{}   // closed when the power has gone
	left   map[string]bool // keys that the journal had left to send
}

// dead tells whether the process does nothing any more that anybody can see.
func (p *process) dead() bool {
	select {
	case <-p.killed:
		return true
	default:
		return false
	}
}

func newWorld(seed uint64, all bool) *world {
	r := rand.New(rand.NewPCG(seed, 0x5eed))
	w := &world{
		seed:     seed,
		shape:    newShape(r),
		trace:    newTrace(all),
		steering: make(chan struct{}, 1),
		declared: map[string]*spec{},
		gen:      map[string]int{},
		trying:   map[string]int{},
		paused:   map[string]time.Duration{},
		specs:    map[specKey]*spec{},
		versions: map[string]versionSeen{},
		log:      newLedger(),
	}
	// Not of r: lives that once showed a fault stay what they are, but for this.
	w.shape.hooks = rand.New(rand.NewPCG(seed, hooksSalt)).Float64() < 0.4 && !w.shape.floods
	w.shape.timed = rand.New(rand.NewPCG(seed, timesSalt)).Float64() < 0.3 && !w.shape.floods
	w.shape.copies = rand.New(rand.NewPCG(seed, copiesSalt)).Float64() < 0.3 && !w.shape.floods
	if w.reloads() {
		w.shape.forReloads(seed)
	}
	w.offset.Store(int64(time.Until(w.shape.wall)))
	w.store = newStore(w)
	fs := forgetfs.New()
	fs.SetCapacity(w.shape.capacity)
	w.disk = newDisk(w, fs, seed)
	return w
}

// violated notes a broken promise.
func (w *world) violated(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	w.trace.note("VIOLATED", what, 0, 0)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.violations) < 20 {
		w.violations = append(w.violations, what)
	}
}

func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.violations) > 0
}

// now is the wall clock of the machine.
func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) }

// since is the time since the beginning by a clock that nobody sets.
func (w *world) since() time.Duration { return time.Since(w.trace.began) }

// running is the process that takes calls, or nil.
func (w *world) running() *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.proc
}

// byteReader draws ids.
type byteReader struct{ r *rand.Rand }

func (b byteReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b.r.Uint32())
	}
	return len(p), nil
}

func (w *world) bufferOptions(fs *forgetfs.FS, seed uint64) buffer.Options {
	// A third of all starts each in clear and under one of two keys: every start may change it.
	keys := []*buffer.Key{nil, simulationKey('a'), simulationKey('b')}
	return buffer.Options{
		Key: keys[seed%3], PreviousKeys: keys[1:],
		Dir: dataDir, FS: fs, Now: w.now, Rand: byteReader{rand.New(rand.NewPCG(seed, 0x1d5))}, Log: w.logger(),
		Disk: w.shape.disk, Memory: w.shape.memory, OnDamage: buffer.Stop,
		SlotSize: w.shape.slot, Slots: w.shape.slots,
	}
}

// simulationKey is a key that depends on c alone.
func simulationKey(c byte) *buffer.Key {
	k, err := buffer.ParseKey([]byte(strings.Repeat(string(c), 63) + "1"))
	if err != nil {
		panic("bug: " + err.Error())
	}
	return k
}

func (w *world) logger() *slog.Logger {
	if w.logs == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// startWithin is how long a start may take on a disk that is well: it waits for no destination.
const startWithin = 10 * time.Second

// start brings a process up on the disk. It returns false where that failed, which only a disk that fails
// or dies may cause.
func (w *world) start(seed uint64) bool {
	w.mu.Lock()
	d := w.disk
	w.number++
	p := &process{w: w, number: w.number, began: int64(w.since()), disk: d, over: make(chan struct{}), killed: make(chan struct{}), left: map[string]bool{}}
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	d.begin(func() {
		w.mu.Lock()
		w.crashed = w.since()
		w.proc = nil
		w.mu.Unlock()
		w.turmoil.Add(1)
		if d.isMoody() {
			w.lastFault.Store(int64(w.since()))
		}
		w.trace.note("death", "", int64(p.number), 0)
		close(p.killed)
		cancel()
	})
	began := time.Now()
	w.trace.note("start", "", int64(p.number), 0)
	err := p.bringUp(seed)
	if err != nil {
		w.trace.note("no start", err.Error(), int64(p.number), 0)
		close(p.over)
		p.end()
		w.mayFail(d, fmt.Sprintf("start of process %d", p.number), time.Duration(p.began), err)
		return false
	}
	if took := time.Since(began); took > startWithin && w.lastFault.Load() < int64(w.since()-took) && !d.isMoody() {
		w.violated("a start took %v on a disk that is well", took)
	}
	w.last = p
	go func() {
		defer close(p.over)
		if err := p.m.Run(ctx); err != nil {
			w.violated("Run of process %d: %v", p.number, err)
		}
	}()
	w.mu.Lock()
	if !p.dead() {
		w.proc = p
	}
	w.mu.Unlock()
	w.turmoil.Add(1)
	return true
}

// isMoody tells whether the disk is anything but well.
func (d *disk) isMoody() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mood != well
}

// failingTime is how long the journal goes on failing at most after the disk is well: until it tries the next
// slot.
const failingTime = 6 * time.Second

// mayFail judges an error, of something that began at since, that only a bad disk explains.
func (w *world) mayFail(d *disk, what string, since time.Duration, err error) {
	var damage *buffer.DamageError
	switch {
	case errors.As(err, &damage):
		w.violated("I9: %s: %v", what, err)
	case d.fs.Dead() || d.isMoody() || time.Duration(w.lastFault.Load()) >= since-failingTime && w.lastFault.Load() > 0:
	default:
		w.violated("%s failed on a disk that is well: %v", what, err)
	}
}

// bringUp opens buffer and delivery.
func (p *process) bringUp(seed uint64) (err error) {
	w := p.w
	if p.b, err = buffer.Open(w.bufferOptions(p.disk.fs, seed)); err != nil {
		return err
	}
	w.checkOpened(p)
	if p.m, err = delivery.New(delivery.Options{Buffer: p.b, Open: p.open, OpenBackup: p.openBackup, Workers: 1 + int(seed%4/3), Memory: w.shape.memory, Log: w.logger()}); err != nil {
		return err
	}
	w.mu.Lock()
	declared := w.declaredLocked()
	w.mu.Unlock()
	return p.m.Apply(declared)
}

func (w *world) declaredLocked() (list []delivery.Declared) {
	for _, name := range w.names() {
		if s := w.declared[name]; s != nil {
			list = append(list, delivery.Declared{Name: name, Spec: s.encode(), Backup: s.Copies})
		}
	}
	return list
}

// names of all streams that there ever are.
func (w *world) names() []string {
	names := make([]string, w.shape.streams)
	for i := range names {
		names[i] = fmt.Sprintf("s%d", i)
	}
	return names
}

// checkOpened looks at what a process has found.
func (w *world) checkOpened(p *process) {
	for _, m := range p.b.Outstanding() {
		for _, i := range p.b.Pending(m.ID) {
			p.left[m.Objects[i].Key] = true
		}
	}
	w.mu.Lock()
	crashed := w.crashed
	w.mu.Unlock()
	w.store.restarted(p, crashed, time.Duration(w.lastFault.Load()))
	for _, s := range p.b.Streams() {
		c := p.b.Consumer(s.Incarnation, buffer.Main)
		t := c.Totals()
		if t.Lost != 0 || t.Accepted != t.OK+t.Dropped+t.Failed+t.Lost+t.Waiting {
			w.violated("P1: stream %q does not balance after a start: %+v", s.Name, t)
		}
		w.sawVersion(s.Name, s.Incarnation, s.Version)
		if acked, sent := w.log.count(s.Incarnation, s.Name); t.Accepted < acked || t.Accepted > sent {
			w.violated("P1: stream %q has accepted %d records; %d were acknowledged and %d sent", s.Name, t.Accepted, acked, sent)
		}
	}
}

// sawVersion checks that versions never go back.
func (w *world) sawVersion(name string, incarnation uint32, version uint64) {
	w.mu.Lock()
	old := w.versions[name]
	w.versions[name] = versionSeen{incarnation, version}
	w.mu.Unlock()
	if incarnation < old.incarnation || incarnation == old.incarnation && version < old.version {
		w.violated("stream %q had incarnation %d version %d, now %d and %d", name, old.incarnation, old.version, incarnation, version)
	}
}

// opened notes what a version of a stream is, which is the same for ever.
func (w *world) opened(v buffer.Stream, s *spec) {
	w.mu.Lock()
	key := specKey{v.Incarnation, v.Version}
	old := w.specs[key]
	w.specs[key] = s
	w.mu.Unlock()
	if old != nil && *old != *s {
		w.violated("version %d of stream %q was %+v, now %+v", v.Version, v.Name, *old, *s)
	}
}

// lookForManifest starts a Buffer on what would be left if the power went now and nothing survived that is
// not synced, and looks for the manifest of an object that is being sent (I2, I5).
func (w *world) lookForManifest(p *process, key string, sha [32]byte, manifest string) {
	img := p.disk.fs.Image(forgetfs.None)
	if p.dead() {
		return
	}
	img.SetOther(0)
	o := w.bufferOptions(img, w.seed)
	o.Log = slog.New(slog.DiscardHandler)
	b, err := buffer.Open(o)
	if err != nil {
		w.violated("a crash while %q is sent leaves a directory that cannot be opened: %v", key, err)
		return
	}
	defer b.Close()
	for _, m := range b.Outstanding() {
		for _, o := range m.Objects {
			if o.Key != key {
				continue
			}
			if o.SHA256 != sha || hex.EncodeToString(m.ID[:]) != manifest {
				w.violated("I5: %q is sent with other bytes or another manifest than the journal has", key)
			}
			w.store.mu.Lock()
			w.store.looked[key] = true
			w.store.mu.Unlock()
			return
		}
	}
	w.violated("I2: %q is sent and its manifest is not durable", key)
}

// end waits until nothing of a process runs any more. Its disk may be dead.
func (p *process) end() error {
	p.w.mu.Lock()
	if p.w.proc == p {
		p.w.proc = nil
	}
	p.w.mu.Unlock()
	p.cancel()
	<-p.over
	if p.b == nil {
		return nil
	}
	return p.b.Close()
}

// checkPaused notes an object that is sent while its stream is paused.
func (w *world) checkPaused(stream, key string) {
	w.mu.Lock()
	since, paused := w.paused[stream]
	w.mu.Unlock()
	if paused && w.since()-since > 200*time.Millisecond {
		w.violated("%q is sent although stream %q was paused %v ago", key, stream, w.since()-since)
	}
}

// trigger ends the power where the driver wants it at this moment.
func (w *world) trigger(t trigger, p *process) {
	w.mu.Lock()
	hit := w.armed == t && w.proc == p
	wait := w.armedFor
	if hit {
		w.armed = never
	}
	w.mu.Unlock()
	if !hit {
		return
	}
	w.trace.note("trigger", "", int64(t), int64(wait))
	if wait == 0 {
		p.disk.kill()
		return
	}
	time.AfterFunc(wait, p.disk.kill)
}

// checkStatus looks at the accounts of a process that runs.
func (w *world) checkStatus(p *process) {
	for _, s := range p.m.Streams() {
		if s.Unaccounted != 0 || s.Accepted != s.Delivered+s.Failed+s.Dropped+s.BacklogRecords || s.BacklogRecords < 0 || s.Dropped != 0 && !w.shape.hooks {
			w.violated("the accounts of stream %q do not balance: %+v", s.Name, s)
		}
		if b := s.Backup; b != nil && (b.Unaccounted != 0 || b.Accepted != b.Delivered+b.Failed+b.BacklogRecords || b.BacklogRecords < 0 || b.Dropped != 0) {
			w.violated("the accounts of the backup of stream %q do not balance: %+v", s.Name, *b)
		}
	}
	if used, most := p.disk.fs.Used(), w.shape.disk+4*w.shape.slot; used > most {
		w.violated("P6: files take %d bytes, more than %d", used, most)
	}
}

// healthy tells whether nothing stands in the way of a stream's delivery.
func (w *world) healthy(p *process, stream string) bool {
	w.mu.Lock()
	_, paused := w.paused[stream]
	s := w.declared[stream]
	places := map[string]bool{}
	for _, old := range w.specs {
		if old.stream == stream {
			places[old.Place] = true
		}
	}
	w.mu.Unlock()
	if s == nil || s.Broken || paused || p.dead() || p.disk.isMoody() {
		return false
	}
	for name := range places {
		if !w.store.isFair(name) {
			return false
		}
	}
	return true
}

// lock takes the right to steer streams.
func (w *world) lock() { w.steering <- struct{}{} }

func (w *world) unlock() { <-w.steering }

// report of what went wrong.
func (w *world) report() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.violations) == 0 {
		return ""
	}
	return strings.Join(slices.Compact(w.violations), "\n")
}
