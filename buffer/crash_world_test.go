package buffer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"hydrant/buffer/forgetfs"
	"hydrant/record"
)

// The crash tests run a Buffer on a disk that forgets, cut the power at some operation, and start another
// Buffer on what may be left. A model keeps what was promised; after each start everything must be there,
// once, with the same bytes.
//
// Everything runs in a synctest bubble: between two steps of a script all goroutines have come to rest, so
// the order of operations on the disk depends on the script alone.

const crashDir = "/data"

// world is one machine: a disk, perhaps a Buffer that runs on it, and what was promised.
type world struct {
	disk *forgetfs.FS
	b    *Buffer
	m    *model
	rand *rand.Rand

	broken     map[string]bool // files whose sync or write has failed: nothing of them may be synced again (I8)
	faults     []string        // rules of the disk that were broken
	errs       []error         // that callers got
	ended      bool            // the Buffer was closed
	waits      bool            // for scripts: a replace may wait
	spillUnder int64           // bytes that are spilled while a cut has its claim
	broke      atomic.Bool     // for scripts: the disk fails from now on
	faulty     bool            // the disk fails: files may stay that could not be removed
	mode       int             // of encryption, below cryptModes
	nonces     *nonceWatch
	seal       atomic.Pointer[sealer] // of b
	inlets     map[string]*Inlet      // of b
	journaled  bool                   // no stream is fed
}

// model is what callers were told.
type model struct {
	directory [16]byte // zero: not known yet
	streams   map[string]*modelStream
	calls     int               // numbers the contents of rows
	used      map[uint32]bool   // incarnations of streams that are gone
	stored    map[string]string // what destinations have: "stream consumer sequence" → object
}

// modelStream is one stream. A call, cut or definition is certain when the caller got an answer, and maybe
// when it got an error or none.
type modelStream struct {
	incarnation uint32 // 0: maybe
	spec        string // that is certain
	version     uint64
	state       State
	maybeSpecs  []modelSpec
	rows        map[uint64]string // certain rows by sequence
	maybe       []maybeCall       // calls that are there whole or not at all
	manifests   map[ManifestID]*modelManifest
	consumers   []uint8
	calls       []modelCall // certain ones with an id, oldest first
	runs        []*modelRun // by their frames
	drawn       int         // how many consumers it has, where that is random; 0: not yet
	fed         bool        // rows come from lanes: those that claims have shown
	lanes       map[string]*modelLane
}

// modelCall is a call that a retry must find again.
type modelCall struct {
	call  record.Call
	first uint64
	at    time.Time
}

type maybeCall struct {
	rows []string
	call record.Call
}

type modelSpec struct {
	spec  string
	state State
}

// modelManifest is one manifest.
type modelManifest struct {
	head    ManifestHead
	objects []ObjectInfo
	bodies  [][]byte
	seqs    [][]uint64 // of the rows in each object
	certain bool
	sent    map[int]bool      // confirmed by the caller
	stays   map[int]bool      // and a frame says so
	gone    map[int]bool      // replaced or set aside
	lost    map[int]bool      // set aside
	dropped map[int]bool      // discarded, or perhaps where it is in maybe
	maybe   map[int]bool      // perhaps set aside
	ended   bool              // and a frame says so
	claimed bool              // takes a range, that is, neither keys nor the place of others
	keys    []string          // of the objects, where it takes keys
	texts   map[uint64]string // of the rows of lanes that it takes of a claim
}

func newModel() *model {
	return &model{streams: map[string]*modelStream{}, used: map[uint32]bool{}, stored: map[string]string{}}
}

func (m *model) clone() *model {
	c := *m
	c.used, c.stored = maps.Clone(m.used), maps.Clone(m.stored)
	c.streams = map[string]*modelStream{}
	for name, s := range m.streams {
		t := *s
		t.maybeSpecs = slices.Clone(s.maybeSpecs)
		t.rows = maps.Clone(s.rows)
		t.maybe = slices.Clone(s.maybe)
		t.calls = slices.Clone(s.calls)
		t.manifests = map[ManifestID]*modelManifest{}
		for id, mm := range s.manifests {
			n := *mm
			n.sent, n.stays, n.gone = maps.Clone(mm.sent), maps.Clone(mm.stays), maps.Clone(mm.gone)
			n.lost, n.dropped, n.maybe = maps.Clone(mm.lost), maps.Clone(mm.dropped), maps.Clone(mm.maybe)
			t.manifests[id] = &n
		}
		t.runs, t.lanes = cloneRuns(s.runs), cloneLanes(s.lanes)
		c.streams[name] = &t
	}
	return &c
}

// newWorld is a machine with an empty disk.
func newWorld(seed uint64) *world {
	return onDisk(forgetfs.New(), newModel(), seed)
}

// onDisk is a machine with this disk.
func onDisk(disk *forgetfs.FS, m *model, seed uint64) *world {
	w := &world{disk: disk, m: m, rand: rand.New(rand.NewPCG(seed, 7)), broken: map[string]bool{}, mode: int(seed % cryptModes), nonces: newNonceWatch()}
	w.watch(nil)
	return w
}

// watch looks at every operation for broken rules, and then asks fn about it.
func (w *world) watch(fn func(forgetfs.Op) *forgetfs.Fault) {
	var mu sync.Mutex // the committer and the opener write at the same time
	w.disk.SetHook(func(op forgetfs.Op) *forgetfs.Fault {
		mu.Lock()
		w.look(op)
		mu.Unlock()
		if fn == nil {
			return nil
		}
		f := fn(op)
		// a slot is given up after a failed write too; a pack may write the same bytes again on a full disk
		if f != nil && f.Err != nil && (op.Kind == forgetfs.OpDatasync || op.Kind == forgetfs.OpWrite && isSlot(op.Path)) {
			mu.Lock()
			w.broken[op.Path] = true
			mu.Unlock()
		}
		return f
	})
}

// look checks an operation before it takes place.
func (w *world) look(op forgetfs.Op) {
	switch op.Kind {
	case forgetfs.OpDatasync:
		if w.broken[op.Path] {
			w.faults = append(w.faults, fmt.Sprintf("I8: %s is synced again after a failure (%v)", op.Path, op))
		}
	case forgetfs.OpWrite:
		w.checkNamed(op)
		w.nonces.write(op)
		w.faults = append(w.faults, w.nonces.faults...)
		w.nonces.faults = nil
	case forgetfs.OpRemove, forgetfs.OpCreate:
		delete(w.broken, op.Path)
	}
}

func isSlot(name string) bool { return strings.Contains(name, "/"+journalDir+"/j-") }

// checkNamed finds the ledger frames in a write to the journal and checks that the packs which they name
// are durable already (I7).
func (w *world) checkNamed(op forgetfs.Op) {
	if !isSlot(op.Path) {
		return
	}
	data := bytes.Join(op.Data, nil)
	for off := 0; off+frameHeader <= len(data); off += frameAlign {
		if binary.LittleEndian.Uint32(data[off:]) != frameMagic {
			continue
		}
		h := frameHead{Length: binary.LittleEndian.Uint32(data[off+8:]), Type: frameType(data[off+56])}
		h.First, h.Incarnation = binary.LittleEndian.Uint64(data[off+32:]), binary.LittleEndian.Uint32(data[off+40:])
		if h.Type != frameManifest && h.Type != frameReplace && h.Type != frameRun || off+frameHeader+int(h.Length) > len(data) {
			continue
		}
		payload := data[off+frameHeader : off+frameHeader+int(h.Length)]
		if h.Flags = data[off+57]; h.Flags&flagSealed != 0 {
			h.Consumer, h.Count = data[off+58], binary.LittleEndian.Uint32(data[off+44:])
			var err error
			if payload, err = w.seal.Load().key().reveal(&h, nil, payload); err != nil {
				continue // of a start, where nothing new is named
			}
		}
		_, e, err := decodeEvent(&h, payload)
		if err != nil {
			continue
		}
		var packs []packRef
		switch e := e.(type) {
		case *runEvent:
			if err := w.disk.Durable(path.Join(crashDir, runsDir, fmt.Sprintf("%x%s", e.Ref.ID[:], runSuffix))); err != nil {
				w.faults = append(w.faults, fmt.Sprintf("I7: a frame names a run that is not durable (%v): %v", op, err))
			}
		case *manifestEvent:
			packs = e.Packs
		case *replaceEvent:
			if e.New != nil {
				packs = e.New.Packs
			}
		}
		for _, p := range packs {
			if err := w.disk.Durable(path.Join(crashDir, packsDir, fmt.Sprintf("%x%s", p.ID[:], packSuffix))); err != nil {
				w.faults = append(w.faults, fmt.Sprintf("I7: a frame names a pack that is not durable (%v): %v", op, err))
			}
		}
	}
}

// reader of ids that depends on the seed alone.
type randReader struct{ r *rand.Rand }

func (r randReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.r.Uint32())
	}
	return len(b), nil
}

// open starts a Buffer. Its error is the Buffer's.
func (w *world) open() error {
	key, previous := w.keys()
	ids := randReader{rand.New(rand.NewPCG(w.rand.Uint64(), 0))} // the Buffer draws at its own times
	b, err := Open(Options{
		Key: key, PreviousKeys: previous,
		Log: slog.New(&noDamage{w: w}),
		Dir: crashDir, FS: w.disk, Rand: ids, Disk: 256 << 20, Memory: 64 << 20,
		geometry: geometry{slot: minSlotSize, limit: 6, first: 4},
	})
	if err != nil {
		return err
	}
	w.b, w.inlets = b, nil
	w.seal.Store(b.keys.seal)
	synctest.Wait()
	return nil
}

// noDamage is a log in which no damage is reported: a power cut damages nothing that was acknowledged.
type noDamage struct {
	slog.Handler
	w *world
}

func (h *noDamage) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }

func (h *noDamage) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "acknowledged bytes are damaged" {
		r.Attrs(func(a slog.Attr) bool {
			r.Message += fmt.Sprintf(" %v", a)
			return true
		})
		h.w.faults = append(h.w.faults, r.Message) // by the start, before others run
	}
	return nil
}

// stop ends the process. What it says does not matter: the disk may be dead.
func (w *world) stop() {
	if w.b != nil {
		w.b.Close()
	}
}

// stream of the model, made where it is missing.
func (m *model) stream(name string) *modelStream {
	s := m.streams[name]
	if s == nil {
		s = &modelStream{rows: map[uint64]string{}, manifests: map[ManifestID]*modelManifest{}, consumers: []uint8{Main}}
		m.streams[name] = s
	}
	return s
}

// define creates or changes a stream.
func (w *world) define(name, spec string, state State) error {
	s := w.m.stream(name)
	s.maybeSpecs = append(s.maybeSpecs, modelSpec{spec, state})
	got, err := w.b.Define(Stream{Name: name, State: state, Consumers: s.consumers, Spec: []byte(spec)})
	synctest.Wait()
	if err != nil {
		w.errs = append(w.errs, err)
		return err
	}
	s.maybeSpecs = s.maybeSpecs[:len(s.maybeSpecs)-1]
	if w.m.used[got.Incarnation] {
		return bug("stream %q got incarnation %d, which one that is gone had", name, got.Incarnation)
	}
	if state == Gone {
		w.m.used[s.incarnation] = true
		delete(w.m.streams, name)
		return nil
	}
	if s.incarnation != 0 && (s.incarnation != got.Incarnation || got.Version < s.version) {
		return bug("stream %q had incarnation %d version %d, now %d and %d", name, s.incarnation, s.version, got.Incarnation, got.Version)
	}
	s.incarnation, s.version, s.spec, s.state = got.Incarnation, got.Version, spec, state
	return nil
}

// violation is a broken promise, as opposed to an error that a caller may get.
type violation struct{ what string }

func (v *violation) Error() string { return v.what }

func bug(format string, args ...any) error { return &violation{fmt.Sprintf(format, args...)} }

func isBug(err error) bool { _, ok := errors.AsType[*violation](err); return ok }

// put stores calls of these many records each, at once, every record size bytes long.
func (w *world) put(name string, size int, counts ...int) error {
	s := w.m.stream(name)
	type outcome struct {
		maybeCall
		r   record.Receipt
		err error
	}
	outcomes := make([]outcome, len(counts))
	for i, n := range counts {
		o := &outcomes[i]
		batch := record.NewBatch(nil)
		for j := range n {
			w.m.calls++
			row := fmt.Sprintf("%s/%d/%d:", name, w.m.calls, j)
			row += strings.Repeat("x", max(size-len(row), 0))
			o.rows = append(o.rows, row)
			batch.Append([]byte(row))
		}
		o.call = record.Call{Batch: batch, Attempt: 1}
		if w.m.calls%2 == 0 {
			randReader{w.rand}.Read(o.call.Invocation[:])
			o.call.BodyHash[0] = byte(w.m.calls)
		}
		go func() {
			o.r, _, o.err = w.b.Append(context.Background(), name, o.call)
		}()
	}
	synctest.Wait()
	// calls may wait for a timer (gathering, a slow disk): let time pass until all have an answer
	for range 200 {
		pending := false
		for _, o := range outcomes {
			pending = pending || o.err == nil && o.r.First == 0
		}
		if !pending {
			break
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
	}
	var errs []error
	for _, o := range outcomes {
		switch {
		case o.err != nil:
			s.maybe = append(s.maybe, o.maybeCall)
			errs = append(errs, o.err)
		case o.r.First == 0:
			return bug("a call to %q got no answer", name)
		default:
			if o.r.Incarnation != s.incarnation {
				return bug("a call to %q was stored in incarnation %d, not %d", name, o.r.Incarnation, s.incarnation)
			}
			for j, row := range o.rows {
				seq := o.r.First + uint64(j)
				if old, ok := s.rows[seq]; ok {
					return bug("I3: sequence %d of %q names %.20q and %.20q", seq, name, old, row)
				}
				s.rows[seq] = row
			}
			s.known(o.call, o.r.First)
		}
	}
	w.errs = append(w.errs, errs...)
	return errors.Join(errs...)
}

// known notes a call that a retry must find again.
func (s *modelStream) known(c record.Call, first uint64) {
	if c.Invocation != ([16]byte{}) {
		s.calls = append(s.calls, modelCall{c, first, time.Now()})
	}
}

// retry sends some calls again, as a client does that had no answer: nothing may be stored twice.
func (w *world) retry(name string, s *modelStream) error {
	for i, k := range s.calls {
		if time.Since(k.at) > callsKept-time.Second || i > 2 && i < len(s.calls)-3 {
			continue
		}
		again := k.call
		again.Attempt++
		again.Batch = record.NewBatch(nil)
		for row := range record.Records(k.call.Batch.Encoded()) {
			again.Batch.Append(row)
		}
		r, _, err := w.b.Append(context.Background(), name, again)
		if err != nil || !r.Repeated || r.First != k.first || r.Incarnation != s.incarnation {
			return bug("P5: a retry of the call at %d of %q got %+v, %v", k.first, name, r, err)
		}
	}
	return nil
}

func (w *world) consumer(name string, id uint8) *Consumer {
	return w.b.Consumer(w.m.stream(name).incarnation, id)
}

// encode writes rows as objects of a pack, n of them each, and returns the bodies.
func encodeRows(p *Pack, name string, rows []record.Row, objects int, role Role) ([][]byte, error) {
	var bodies [][]byte
	per := (len(rows) + objects - 1) / objects
	for i := 0; len(rows) > 0; i++ {
		part := rows[:min(per, len(rows))]
		rows = rows[len(part):]
		out, err := p.Begin(ObjectHead{Key: fmt.Sprintf("%s/%d-%d", name, part[0].Seq, i), Role: role, Destination: name + "/data/test"})
		if err != nil {
			return nil, err
		}
		var body []byte
		for _, r := range part {
			body = fmt.Appendf(body, "%d %s\n", r.Seq, r.Data)
		}
		if _, err := out.Write(body); err != nil {
			return nil, err
		}
		if err := p.End(int64(len(part)), part[0].Seq, part[0].Arrived); err != nil {
			return nil, err
		}
		bodies = append(bodies, body)
	}
	return bodies, nil
}

// cut takes up to most bytes of what waits and makes a manifest of it with so many objects.
func (w *world) cut(name string, most int64, objects int) (*modelManifest, error) {
	return w.cutFor(name, Main, most, objects)
}

func (w *world) cutFor(name string, id uint8, most int64, objects int) (*modelManifest, error) {
	s := w.m.stream(name)
	if s.incarnation == 0 {
		return nil, nil // its definition failed
	}
	claim := w.take(name, s, id, most)
	if claim == nil {
		return nil, nil
	}
	var rows []record.Row
	shown := map[uint64]bool{}
	for r := range claim.Rows() {
		shown[r.Seq] = true
		if !s.shows(r.Seq, r.Data) {
			claim.Release()
			return nil, bug("row %d of %q is %.30q, want %.30q", r.Seq, name, r.Data, s.rows[r.Seq])
		}
		r.Data = bytes.Clone(r.Data)
		rows = append(rows, r)
	}
	first, next := claim.Range()
	texts := s.hides(first, next, shown)
	if w.spillUnder > 0 {
		w.spill(name, id, w.spillUnder)
		i := 0
		for r := range claim.Rows() {
			if i >= len(rows) || r.Seq != rows[i].Seq || !bytes.Equal(r.Data, rows[i].Data) {
				claim.Release()
				return nil, bug("row %d of %q is another one since rows were spilled", r.Seq, name)
			}
			i++
		}
	}
	m, err := w.makeCut(name, s, claim, rows, objects, texts)
	if err != nil {
		claim.Release()
		w.errs = append(w.errs, err)
	}
	synctest.Wait()
	return m, err
}

// take claims rows; where two consumers share those of lanes they are moved to a run first.
func (w *world) take(name string, s *modelStream, id uint8, most int64) *Claim {
	claim := w.consumer(name, id).Take(0, most)
	if claim == nil && s.fed {
		synctest.Wait()
		claim = w.consumer(name, id).Take(0, most)
	}
	return claim
}

func (w *world) makeCut(name string, s *modelStream, claim *Claim, rows []record.Row, objects int, texts map[uint64]string) (*modelManifest, error) {
	p, err := w.b.NewPack()
	if err != nil {
		return nil, err
	}
	bodies, err := encodeRows(p, name, rows, objects, Data)
	if err != nil {
		p.Abort()
		return nil, err
	}
	first, next := claim.Range()
	h := ManifestHead{
		ID: w.b.NewManifestID(), Incarnation: s.incarnation, Consumer: claim.c.id, Version: s.version, Epoch: claim.c.NewEpoch(),
		First: first, Next: next, Counts: Counts{OK: int64(len(rows))},
	}
	if err := p.Seal(h); err != nil {
		p.Abort()
		return nil, err
	}
	m := newManifest(h, p.Objects(), bodies)
	m.claimed, m.texts = true, texts
	for _, o := range m.objects {
		var seqs []uint64
		for _, r := range rows[:o.Records] {
			seqs = append(seqs, r.Seq)
		}
		rows = rows[o.Records:]
		m.seqs = append(m.seqs, seqs)
	}
	s.manifests[h.ID] = m
	if _, err := w.b.Cut(claim, []*Pack{p}, h); err != nil {
		if errors.Is(err, ErrCrowded) {
			delete(s.manifests, h.ID) // it cannot be in the journal either
		}
		p.Abort()
		return nil, err
	}
	m.certain = true
	return m, nil
}

func newManifest(h ManifestHead, objects []ObjectInfo, bodies [][]byte) *modelManifest {
	return &modelManifest{
		head: h, objects: objects, bodies: bodies,
		sent: map[int]bool{}, stays: map[int]bool{}, gone: map[int]bool{}, lost: map[int]bool{}, dropped: map[int]bool{}, maybe: map[int]bool{},
	}
}

// setAside gives objects up as damaged.
func (w *world) setAside(m *modelManifest, objects ...int) error {
	for _, i := range objects {
		m.maybe[i] = true
	}
	_, err := w.b.SetAside(m.head.ID, objects, "damaged")
	synctest.Wait()
	if err != nil {
		w.errs = append(w.errs, err)
		return err
	}
	for _, i := range objects {
		delete(m.maybe, i)
		m.gone[i], m.lost[i] = true, true
	}
	return nil
}

// discard gives objects up for nothing.
func (w *world) discard(m *modelManifest, objects ...int) error {
	for _, i := range objects {
		m.maybe[i], m.dropped[i] = true, true
	}
	err := w.b.Discard(m.head.ID, objects, "deleted")
	synctest.Wait()
	if err != nil {
		w.errs = append(w.errs, err)
		return err
	}
	for _, i := range objects {
		delete(m.maybe, i)
		m.gone[i] = true
	}
	return nil
}

// stored tells whether the destination has an object: then it is not refused any more, and not replaced.
func (w *world) stored(m *modelManifest, i int) bool {
	row := fmt.Sprintf("%d %d %d", m.head.Incarnation, m.head.Consumer, m.seqs[i][0])
	return w.m.stored[row] == fmt.Sprintf("%x %d", m.head.ID, i)
}

// confirm puts objects into their destination and says so. Only an object that is pending may be sent. The
// same object twice is one object; a row in two objects is there twice (P2).
func (w *world) confirm(m *modelManifest, objects ...int) {
	for _, i := range objects {
		if !slices.Contains(w.b.Pending(m.head.ID), i) {
			continue
		}
		for _, seq := range m.seqs[i] {
			row := fmt.Sprintf("%d %d %d", m.head.Incarnation, m.head.Consumer, seq)
			object := fmt.Sprintf("%x %d", m.head.ID, i)
			if other := w.m.stored[row]; other != "" && other != object {
				w.faults = append(w.faults, fmt.Sprintf("P2: row %s is in objects %s and %s", row, other, object))
			}
			w.m.stored[row] = object
		}
		m.sent[i] = true
		w.b.Confirm(m.head.ID, i)
	}
	synctest.Wait()
}

// rest lets time pass, so that timers run, and notes which confirmations a frame says.
func (w *world) rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
	if w.disk.Dead() {
		return // the ledger may have gone on in memory
	}
	for name, s := range w.m.streams {
		if in := w.inlets[name]; in != nil {
			if err := w.checkDelivered(name, s, in); err != nil {
				w.faults = append(w.faults, err.Error())
			}
		}
	}
	w.b.ledger.mu.RLock()
	defer w.b.ledger.mu.RUnlock()
	for _, s := range w.m.streams {
		for id, m := range s.manifests {
			state := w.b.ledger.manifests[id]
			if m.certain && state == nil {
				m.ended = true
			}
			for i := range m.sent {
				if m.certain && (state == nil || state.confirmed.has(i)) {
					m.stays[i] = true
				}
			}
		}
	}
}

// replace gives objects of a manifest up for one error object.
func (w *world) replace(name string, m *modelManifest, objects ...int) (*modelManifest, error) {
	s := w.m.stream(name)
	p, err := w.b.NewPack()
	if err != nil {
		return nil, err
	}
	var rows []record.Row
	var minus int64
	for _, i := range objects {
		rows = append(rows, record.Row{Seq: m.objects[i].FirstSeq, Data: m.bodies[i]})
		minus += m.objects[i].Records
	}
	bodies, err := encodeRows(p, name+"/errors", rows, 1, Error)
	if err != nil {
		p.Abort()
		return nil, err
	}
	h := m.head
	h.ID, h.Replaces, h.Replaced, h.Counts = w.b.NewManifestID(), m.head.ID, objects, Counts{Failed: minus}
	if err := p.Seal(h); err != nil {
		p.Abort()
		return nil, err
	}
	n := newManifest(h, p.Objects(), bodies)
	n.seqs = make([][]uint64, 1)
	for _, i := range objects {
		n.seqs[0] = append(n.seqs[0], m.seqs[i]...)
	}
	s.manifests[h.ID] = n
	done := make(chan error, 1)
	go func() {
		_, err := w.b.Replace(m.head.ID, objects, []*Pack{p}, h, "refused")
		done <- err
	}()
	synctest.Wait()
	for range 20 { // it waits for a journal that fails, but a script does not for ever
		if len(done) > 0 || w.waits {
			break
		}
		time.Sleep(retrySlot)
		synctest.Wait()
	}
	if len(done) == 0 && !w.waits {
		w.stop()
		w.ended = true
	}
	err = <-done
	if err != nil {
		p.Abort()
		w.errs = append(w.errs, err)
		return nil, err
	}
	n.certain = true
	for _, i := range objects {
		m.gone[i] = true
	}
	return n, nil
}
