// Package buffer keeps acknowledged records until delivery has taken them over, and keeps what delivery
// has decided until every destination has it.
//
// In flow calls (batches of records of a stream), packs of finished object bytes, and the decisions
// about them: cut, progress, commit, replace. Out flow rows in order, and the manifests that have not
// ended. All of it is one journal of frames in preallocated segments, plus the pack files that its
// manifests name.
//
// After a crash: every record whose Append had returned is either waiting again, under the same
// sequence, or belongs to a durable manifest whose objects have the same keys and bytes as before. What
// was not acknowledged may be there too, once. DESIGN.md beside this file has the invariants (I1-I10),
// the byte layouts and the trade-offs.
package buffer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"hydrant/buffer/fsys"
	"hydrant/record"
)

// DamagePolicy says what to do about damage in bytes that had been acknowledged.
type DamagePolicy uint8

const (
	Quarantine DamagePolicy = iota // copy the bytes aside, record a hole, count it, go on
	Stop                           // refuse to start, with a report
)

// Defaults and limits of Options.
const (
	DefaultDisk   = 20 << 30
	MinDisk       = 128 << 20
	DefaultMemory = 512 << 20
)

// Options of a Buffer. Checked once by Open, never changed afterwards.
type Options struct {
	Dir      string           // data directory; created where it is missing
	FS       fsys.FS          // nil: the operating system's
	Now      func() time.Time // arrival stamps only; nil: time.Now
	Rand     io.Reader        // ids; nil: crypto/rand
	Log      *slog.Logger     // nil: discarded
	Disk     int64            // bytes for ring, runs and packs together (limits.disk); 0: DefaultDisk; at least MinDisk
	Memory   int64            // limits.memory, of which the buffer uses its shares; 0: DefaultMemory
	OnDamage DamagePolicy
	// Key encrypts what is written from now on (seal.go has how); nil: it is in clear. PreviousKeys are for
	// reading what was written under others. Rand is drawn for data keys too.
	Key          *Key
	PreviousKeys []*Key
	Buffers      *record.Pool // gets the buffers of calls that Append has adopted, once nothing needs them; nil: nowhere

	// SlotSize (bytes, a multiple of 64 KiB) and Slots (the most there may be) give the journal another shape
	// than Disk does, and Disk may then be smaller than MinDisk: a test goes through several laps of a small
	// ring in no time. 0: by Disk.
	SlotSize int64
	Slots    int

	geometry geometry // of the ring, for tests; zero: by Disk
}

// Buffer is an open data directory. Safe for concurrent use.
type Buffer struct {
	fs     fsys.FS
	dir    string
	log    *slog.Logger
	memory int64
	rand   io.Reader
	clock  clock
	lock   io.Closer

	keys      *keyring
	journal   *journal
	ledger    *ledger
	front     *front
	space     *space
	packs     *packStore
	runs      *runStore
	goneRuns  map[RunID]bool // named by frames, and missing or damaged since before the start; immutable
	calls     *calls
	secrets   *Secrets
	committer *committer
	opener    *opener
	metrics   *metrics

	shares map[string]int64 // LimitDisk's; guarded by ledger.mu

	requests   sync.Pool
	sealed     record.Pool // buffers of sealed frames
	background sync.WaitGroup
	closing    sync.Once
	closeErr   error
}

// Open locks the directory, recovers it and makes it ready for Append. It waits for no destination.
// Its errors: ErrLocked, *NewerVersionError, *DamageError, or the file system's.
func Open(o Options) (*Buffer, error) {
	if o.FS == nil {
		o.FS = fsys.OS()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Disk == 0 {
		o.Disk = DefaultDisk
	}
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.Dir == "" {
		return nil, errors.New("open buffer: no data directory given")
	}
	if o.SlotSize != 0 {
		if o.SlotSize < minSlotSize || o.SlotSize > maxSlotSize || o.SlotSize%minSlotSize != 0 || o.Slots < 4 {
			return nil, fmt.Errorf("open buffer: a journal of %d slots of %d bytes: at least 4 are needed, of a multiple of %d up to %d bytes", o.Slots, o.SlotSize, minSlotSize, maxSlotSize)
		}
		o.geometry = geometry{slot: o.SlotSize, limit: o.Slots, first: 4}
	}
	if o.Disk < MinDisk && o.geometry.slot == 0 {
		return nil, fmt.Errorf("open buffer: %d bytes of disk are fewer than %d", o.Disk, int64(MinDisk))
	}
	b := &Buffer{
		fs: o.FS, dir: path.Clean(filepath.ToSlash(o.Dir)), log: o.Log, memory: o.Memory,
		rand: &lockedReader{r: o.Rand}, clock: clock{now: o.Now, log: o.Log},
	}
	b.requests.New = func() any { return &request{done: make(chan struct{}, 1)} }
	if err := b.open(o); err != nil {
		b.abort()
		return nil, fmt.Errorf("open data directory %q: %w", b.dir, err)
	}
	return b, nil
}

// lockedReader lets several goroutines draw from one source.
type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
}

// abort gives back what a failed Open has taken.
func (b *Buffer) abort() {
	if b.front != nil {
		b.front.close()
	}
	if b.packs != nil {
		b.packs.close()
		b.runs.close()
	}
	if b.journal != nil {
		b.journal.closeFiles()
	}
	if b.lock != nil {
		b.lock.Close()
	}
}

// start begins steady state.
func (b *Buffer) start() {
	go b.committer.run()
	go b.opener.run()
	b.ledger.mu.RLock()
	due := len(b.ledger.dirty) > 0 // manifests whose COMMIT a crash has kept from being written
	b.ledger.mu.RUnlock()
	if due {
		b.committer.confirmLater()
	}
}

// Close refuses further calls, ends the group in the making, syncs and closes. What waits stays on disk.
// Claims and objects that are open stay readable. Again it does nothing.
func (b *Buffer) Close() error {
	b.closing.Do(func() {
		b.committer.stop()
		b.opener.stop()
		b.background.Wait()
		b.packs.close()
		b.runs.close()
		b.front.close()
		b.closeErr = errors.Join(b.journal.closeFiles(), b.lock.Close())
	})
	return b.closeErr
}

// Directory is the uuid of the data directory.
func (b *Buffer) Directory() [16]byte { return b.journal.id.Directory }

// Accepting tells whether calls are taken at present; where not, reason is that of the *record.Refusal.
func (b *Buffer) Accepting() (ok bool, reason string) {
	b.committer.mu.Lock()
	defer b.committer.mu.Unlock()
	switch {
	case b.committer.stopping:
		return false, "stopping"
	case b.committer.refuse != nil:
		return false, b.committer.refuse.Reason
	}
	return true, ""
}

// clock stamps arrivals, in µs since the Unix epoch.
type clock struct {
	now func() time.Time
	log *slog.Logger

	mu   sync.Mutex
	last int64
}

// backStep is how far the clock may step back without being believed.
const backStep = 5 * time.Second

// stamp never goes back by less than 5 s: clocks that are being adjusted do. A larger step is taken for the
// truth.
func (c *clock) stamp() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now().UnixMicro()
	if back := c.last - now; back > 0 {
		if back < backStep.Microseconds() {
			return c.last
		}
		c.log.Warn("the clock was set back; records that arrive now are stamped before earlier ones", "by", time.Duration(back)*time.Microsecond)
	}
	c.last = now
	return now
}

func (b *Buffer) stamp() int64 { return b.clock.stamp() }

// State of a stream.
type State uint8

const (
	Active State = iota
	Paused
	Deleting // takes no records, what waits is delivered
	Gone     // nothing of it is left

	// Discarding takes no records, and what waits is dropped. It stands behind Gone because data directories
	// hold these numbers.
	Discarding
)

// Stream is one version of a delivery stream as STREAM frames hold it.
type Stream struct {
	Incarnation uint32 // drawn at creation, never reused; a stream created again under its name gets another
	Name        string
	State       State
	Version     uint64 // goes up by one with each effective change of Spec
	Tags        map[string]string
	Consumers   []uint8   // Main, and Backup where there is one
	Spec        []byte    // what delivery needs to work this version off; opaque here, holds no secrets; ≤ 60 KiB
	Created     time.Time // of the stream
	Changed     time.Time // of this version
}

// Consumers of a stream.
const (
	Main   uint8 = 0
	Backup uint8 = 1
)

// Streams returns the current version of every stream that is not gone, by name.
func (b *Buffer) Streams() []Stream {
	b.ledger.mu.RLock()
	defer b.ledger.mu.RUnlock()
	list := make([]Stream, 0, len(b.ledger.names))
	for _, name := range slices.Sorted(maps.Keys(b.ledger.names)) {
		list = append(list, b.ledger.names[name].cur.clone())
	}
	return list
}

func (s Stream) clone() Stream {
	s.Tags = maps.Clone(s.Tags)
	s.Consumers = slices.Clone(s.Consumers)
	s.Spec = slices.Clone(s.Spec)
	return s
}

// StreamVersion returns the current version, or an older one that is not older than all that manifests name.
func (b *Buffer) StreamVersion(incarnation uint32, version uint64) (Stream, bool) {
	b.ledger.mu.RLock()
	defer b.ledger.mu.RUnlock()
	s := b.ledger.streams[incarnation]
	if s == nil {
		return Stream{}, false
	}
	if s.cur.Version == version {
		return s.cur.clone(), true
	}
	old, ok := s.versions[version]
	return old.clone(), ok
}

// ErrTooManyStreams says that another stream, or a larger one, would make checkpoints too large for a slot
// of the journal.
var ErrTooManyStreams = errors.New("the journal has no room for another stream of this size")

// Define creates the stream s.Name, or changes it where it exists. Version goes up where Spec or
// Consumers differ; State and Tags change without a new version. It returns what is in force, durable. A consumer that is
// left out, which Main never is, gets nothing from then on, and ends: what came before stays for it, with the newest
// version that had it (Ending), and it is gone with the first Define after all of that has been cut and has ended. It can
// only be listed again after that.
// Incarnation, Version, Created and Changed of s are ignored. State Gone ends a stream of which nothing
// waits and no manifest is outstanding. Errors: ErrTooManyStreams, ErrFailing, ErrClosed, or what is wrong
// with s.
func (b *Buffer) Define(s Stream) (Stream, error) {
	s = s.clone()
	if len(s.Consumers) == 0 {
		s.Consumers = []uint8{Main}
	}
	slices.Sort(s.Consumers)
	if s.Name == "" || len(s.Name) > 255 {
		return Stream{}, fmt.Errorf("define stream: name of %d bytes", len(s.Name))
	}
	if s.State > Discarding || len(slices.Compact(slices.Clone(s.Consumers))) != len(s.Consumers) {
		return Stream{}, fmt.Errorf("define stream %q: no such state, or a consumer twice", s.Name)
	}
	var in Stream
	o := &op{keys: [2]any{defineKey{}}, alone: true}
	o.prepare = func() ([]*ledgerFrame, error) {
		e, err := b.next(&s)
		if err != nil || e == nil {
			in = s
			return nil, err
		}
		in = e.Stream
		f := newLedgerFrame(e, e.Stream.Incarnation, 0, 0, 0)
		if len(f.payload) > maxStream || frameSize(len(f.payload)) > b.journal.geo.maxFrame() {
			return nil, fmt.Errorf("specification and tags take %d bytes, at most %d are kept", len(f.payload), maxStream)
		}
		return []*ledgerFrame{f}, nil
	}
	o.applied = func() { b.declare(in.Incarnation) }
	err := b.settleLanes(&s)
	if err == nil {
		err = b.committer.do(o)
	}
	if err != nil {
		return Stream{}, fmt.Errorf("define stream %q: %w", s.Name, err)
	}
	return in.clone(), nil
}

// defineKey keeps definitions in groups of their own: each sees what the one before has made.
type defineKey struct{}

// next is the version that a definition makes; nil, and *s what is in force, where it changes nothing.
func (b *Buffer) next(s *Stream) (*streamEvent, error) {
	l := b.ledger
	l.mu.RLock()
	defer l.mu.RUnlock()
	now := b.clock.now().UTC().Truncate(time.Microsecond)
	old := l.names[s.Name]
	if old == nil {
		if s.State == Gone {
			return nil, &record.NotFound{Stream: s.Name}
		}
		s.Incarnation, s.Version, s.Created, s.Changed = l.nextIncarnation, 1, now, now
		e := &streamEvent{Stream: *s}
		for range s.Consumers {
			e.Firsts = append(e.Firsts, 1)
		}
		return e, b.roomFor(e)
	}
	s.Incarnation, s.Version, s.Created, s.Changed = old.cur.Incarnation, old.cur.Version, old.cur.Created, old.cur.Changed
	if s.State == Gone {
		if old.cur.State < Deleting {
			return nil, errors.New("a stream that still takes records cannot end: it must be Deleting or Discarding before")
		}
		for _, m := range l.manifests {
			if m.event.Head.Incarnation == s.Incarnation {
				return nil, fmt.Errorf("manifest %x has not ended", m.event.Head.ID)
			}
		}
		for _, c := range old.consumers {
			if b.Consumer(s.Incarnation, c.id).undecided() > 0 || len(c.raw) > 0 || len(c.epochs) > 0 {
				return nil, errors.New("rows are still waiting")
			}
		}
	}
	ends, left, err := b.ends(old, s)
	if err != nil {
		return nil, err
	}
	if old.provisional > 0 && !slices.Equal(s.Consumers, old.cur.Consumers) {
		return nil, errRowsWait
	}
	if !slices.Equal(s.Consumers, old.cur.Consumers) || !slices.Equal(s.Spec, old.cur.Spec) {
		s.Version++
		s.Changed = now
	} else if s.State == old.cur.State && maps.Equal(s.Tags, old.cur.Tags) && !left {
		return nil, nil
	}
	e := &streamEvent{Stream: *s, Ends: ends}
	for _, id := range s.Consumers {
		first := old.draw
		if c := old.consumer(id); c != nil {
			first = c.first
		}
		e.Firsts = append(e.Firsts, first)
	}
	if s.Version == old.cur.Version && len(encodeEvent(e)) <= len(encodeStream(old, &old.cur)) {
		return e, nil // it takes no more room than before: a stream can always end
	}
	return e, b.roomFor(e)
}

// roomFor refuses a stream that would make a checkpoint larger than a quarter of a slot. Half of that is
// for manifests. The caller holds ledger.mu.
func (b *Buffer) roomFor(e *streamEvent) error {
	limit := b.journal.geo.slot / 8
	size := int64(len(encodeEvent(e)))
	for _, s := range b.ledger.streams {
		size += s.cur.room() + 160 // with its consumers
		for _, v := range s.versions {
			size += v.room()
		}
	}
	if size <= limit {
		return nil
	}
	payloads, err := packCheckpoint(append(b.ledger.encodeState(), encodeEvent(e)...), 0, 0, checkpointPart)
	if err != nil {
		return err
	}
	var packed int64
	for _, p := range payloads {
		packed += int64(len(p))
	}
	if packed+max(0, limit-b.ledger.weight) > 2*limit {
		return ErrTooManyStreams
	}
	return nil
}

// room is the most that a version takes in a checkpoint, bytes.
func (s *Stream) room() int64 {
	n := 100 + len(s.Name) + len(s.Spec)
	for k, v := range s.Tags {
		n += 8 + len(k) + len(v)
	}
	return int64(n)
}

// declare brings front and budgets in line with what the ledger says of a stream. The caller holds
// ledger.mu, or nobody else runs yet.
func (b *Buffer) declare(incarnation uint32) {
	s := b.ledger.streams[incarnation]
	if s == nil {
		b.front.remove(incarnation)
		b.space.removeStream(incarnation)
		return
	}
	b.space.addStream(incarnation, b.shares[s.cur.Name])
	for _, c := range s.consumers {
		reader := b.front.consumer(incarnation, c.id)
		if reader == nil {
			reader = b.front.add(b, incarnation, c.id, c.position)
		}
		if c.end != 0 {
			b.front.finish(reader, c.end)
		}
	}
	for _, id := range b.front.consumers(incarnation) {
		if s.consumer(id) == nil {
			b.front.leave(incarnation, id)
		}
	}
}

// LimitDisk sets how many bytes of the disk each stream may hold at most (limits.disk of a stream), by name, in
// place of what was set before; a stream that is not named, or with 0, has no limit but the fair share. It holds for
// streams that are defined later, and costs nothing that is stored: a stream that holds more is refused until it
// holds less.
func (b *Buffer) LimitDisk(limits map[string]int64) {
	b.ledger.mu.Lock()
	defer b.ledger.mu.Unlock()
	b.shares = maps.Clone(limits)
	for name, s := range b.ledger.names {
		b.space.addStream(s.cur.Incarnation, limits[name])
	}
}

// AdmitBody reserves memory for a request body of n bytes before it is read, or says *record.Refusal.
func (b *Buffer) AdmitBody(n int64) (release func(), err error) { return b.space.admitBody(n) }

// BodyBudget is how many bytes of bodies AdmitBody has reserved at a time at most.
func (b *Buffer) BodyBudget() int64 {
	if b.space.o.Sealed {
		return b.space.bodies / 2
	}
	return b.space.bodies
}

// Append stores the records of a call in a stream and returns when they are durable (I1). All or none
// are stored, or the first Receipt.Count where the call's Limiter says so; it is asked after earlier attempts have
// been looked for. The batch and its buffer belong to the Buffer until Append returns, and the buffer for ever where
// adopted is true; it goes to Options.Buffers in the end. Errors: *record.NotFound, *record.KeyReused,
// *record.Refusal (nothing kept, may be sent again; Reason rate where the Limiter lets no record pass), ErrTooLarge.
// When ctx ends early the records may be stored all the same.
func (b *Buffer) Append(ctx context.Context, stream string, c record.Call) (r record.Receipt, adopted bool, err error) {
	batch := c.Batch
	encoded := batch.Encoded()
	size := frameSize(dataPrefix + len(encoded) + b.journal.seal.overhead())
	if batch.Count() == 0 {
		return r, false, errors.New("append: the call has no records")
	}
	if batch.Payload() > maxData || size > b.journal.geo.maxFrame() {
		return r, false, ErrTooLarge
	}
	incarnation, err := b.find(stream)
	if err != nil {
		return r, false, err
	}
	key := invocation{ID: c.Invocation, KeyHash: c.KeyHash, BodyHash: c.BodyHash, Stream: incarnation, Keyed: c.Keyed}
	var own *flight
	for !key.zero() {
		earlier, repeated, other, mine, err := b.calls.begin(&key, attemptOf(&c), batch.Count())
		if repeated || err != nil {
			return earlier, false, err
		}
		own = mine
		if other == nil {
			break
		}
		select {
		case <-other.done:
		case <-ctx.Done():
			return r, false, ctx.Err()
		}
	}
	if c.Limiter != nil {
		n := c.Limiter.Take(batch)
		if n == 0 {
			if own != nil {
				b.calls.land(own, nil)
			}
			return r, false, &record.Refusal{Reason: "rate", Message: "The stream takes no more records at present. Send the call again."}
		}
		if n < batch.Count() {
			batch.Keep(n)
			encoded = batch.Encoded()
			size = frameSize(dataPrefix + len(encoded) + b.journal.seal.overhead())
		}
	}
	count, payload := batch.Count(), batch.Payload()
	q := b.requests.Get().(*request)
	q.stream, q.call, q.size, q.flight = stream, &c, size, own
	q.hold, err = b.space.reservePut(incarnation, count, payload, encoded, true)
	if err == nil {
		b.frame(q, incarnation)
		if err = b.committer.enqueue(q); err != nil {
			b.space.release(q.hold)
			b.sealed.Put(q.sealed)
		}
	}
	if err != nil {
		if own != nil {
			b.calls.land(own, nil)
		}
		b.recycle(q)
		if c.Limiter != nil {
			c.Limiter.Return(count, payload)
		}
		return r, false, err
	}
	select {
	case <-q.done:
	case <-ctx.Done():
		// The committer has the request and its buffer; it is not taken back.
		select {
		case <-q.done:
		default:
			return r, true, ctx.Err()
		}
	}
	r, adopted, err = q.receipt, q.adopted, q.err
	b.recycle(q)
	if err != nil && c.Limiter != nil {
		c.Limiter.Return(count, payload)
	}
	return r, adopted, err
}

// frame makes the frame of a call, in the buffer that has its rows or, sealed, in another one.
func (b *Buffer) frame(q *request, incarnation uint32) {
	buf := q.call.Batch.Buffer()
	payload := buf[record.Headroom-dataPrefix:]
	putDataPrefix(payload, q.call)
	q.head = frameHead{Type: frameData, Count: uint32(q.call.Batch.Count()), Incarnation: incarnation}
	q.frame = buf[dataStart:]
	if seal := b.journal.seal; seal != nil {
		q.sealed = b.sealed.Get(frameHeader + len(payload) + sealOverhead)
		stored := seal.store(&q.head, q.sealed[:frameHeader], payload)
		q.frame = q.sealed[:frameHeader+len(stored)]
		return
	}
	b.journal.seal.store(&q.head, nil, payload)
}

// Encrypted tells whether what is stored from now on is encrypted on disk.
func (b *Buffer) Encrypted() bool { return b.keys.seal != nil }

// recycle keeps a request that nobody else has for the next call.
func (b *Buffer) recycle(q *request) {
	*q = request{done: q.done}
	b.requests.Put(q)
}

// find returns the incarnation of a stream that takes calls.
func (b *Buffer) find(stream string) (uint32, error) {
	b.ledger.mu.RLock()
	defer b.ledger.mu.RUnlock()
	s := b.ledger.names[stream]
	if s == nil || s.cur.State >= Deleting {
		return 0, &record.NotFound{Stream: stream, Inactive: s != nil}
	}
	return s.cur.Incarnation, nil
}
