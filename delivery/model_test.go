package delivery

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hydrant/buffer"
	"hydrant/record"
)

// modelDisk is what a buffer keeps over a crash, in a few maps. modelStore is one process on it; it checks
// that delivery uses it as the contract says.
type modelDisk struct {
	t testing.TB

	mu        sync.Mutex
	streams   map[uint32]*modelStream
	order     []buffer.ManifestID
	manifests map[buffer.ManifestID]*modelManifest
	next      uint32
	ids       uint64
	notes     map[string][]byte
}

type modelStream struct {
	def       buffer.Stream
	versions  map[uint64]buffer.Stream
	rows      []modelRow // waiting and claimed: all at and above position
	raw       uint64     // rows below are in raw runs
	position  uint64
	next      uint64
	epoch     uint64
	totals    buffer.Totals
	epochs    []*modelEpoch // that have not ended
	watermark int64
}

type modelRow struct {
	seq     uint64
	arrived int64
	data    []byte
	call    uint64 // first sequence of its call
}

type modelManifest struct {
	buffer.Manifest
	bytes [][]byte
	ended []bool // durable
	reply []bool // confirmed, maybe not durable
}

func newModelDisk(t testing.TB) *modelDisk {
	return &modelDisk{t: t, streams: map[uint32]*modelStream{}, manifests: map[buffer.ManifestID]*modelManifest{}, notes: map[string][]byte{}}
}

// modelStore is an open disk.
type modelStore struct {
	disk      *modelDisk
	t         testing.TB
	dead      bool
	consumers map[uint32]*modelConsumer
	space     int64 // bytes for packs that are being written; < 0: no end
	used      int64
	cutErr    error // what Cut says next
	crowded   atomic.Bool
	opened    int
}

var errDead = errors.New("the process is gone")

func (d *modelDisk) open() *modelStore {
	s := &modelStore{disk: d, t: d.t, consumers: map[uint32]*modelConsumer{}, space: -1}
	d.mu.Lock()
	defer d.mu.Unlock()
	for inc := range d.streams {
		s.consumerLocked(inc)
	}
	return s
}

// crash ends the process. Of what was confirmed lately, some is known to the next one.
func (s *modelStore) crash(r *rand.Rand) *modelStore {
	s.disk.mu.Lock()
	s.dead = true
	for _, m := range s.disk.manifests {
		for i := range m.reply {
			if m.reply[i] && !m.ended[i] {
				m.ended[i] = r.IntN(2) == 0
				m.reply[i] = m.ended[i]
			}
		}
	}
	s.disk.mu.Unlock()
	return s.disk.open()
}

func (s *modelStore) bug(format string, args ...any) {
	s.t.Helper()
	s.t.Errorf("contract: "+format, args...)
}

func (s *modelStore) Streams() []buffer.Stream {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	var out []buffer.Stream
	for _, st := range s.disk.streams {
		if st.def.State != buffer.Gone {
			out = append(out, st.def)
		}
	}
	slices.SortFunc(out, func(a, b buffer.Stream) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return out
}

func (s *modelStore) StreamVersion(incarnation uint32, version uint64) (buffer.Stream, bool) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	st := s.disk.streams[incarnation]
	if st == nil {
		return buffer.Stream{}, false
	}
	def, ok := st.versions[version]
	return def, ok
}

func (s *modelStore) Define(def buffer.Stream) (buffer.Stream, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.dead {
		return def, errDead
	}
	for _, st := range s.disk.streams {
		if st.def.State == buffer.Gone || st.def.Name != def.Name {
			continue
		}
		old := st.def
		def.Incarnation, def.Version, def.Created, def.Changed = old.Incarnation, old.Version, old.Created, old.Changed
		if !bytes.Equal(old.Spec, def.Spec) {
			def.Version++
			def.Changed = time.Now()
		}
		if def.State == buffer.Gone {
			if len(st.rows) > 0 {
				s.bug("stream %q ends with %d rows", def.Name, len(st.rows))
			}
			if len(st.epochs) > 0 {
				s.bug("stream %q ends with %d epochs", def.Name, len(st.epochs))
			}
			for _, m := range s.disk.manifests {
				if m.Incarnation == def.Incarnation && slices.Contains(m.ended, false) {
					s.bug("stream %q ends before manifest %x", def.Name, m.ID)
				}
			}
		}
		st.def = def
		oldest := def.Version
		for _, m := range s.disk.manifests {
			if m.Incarnation == def.Incarnation && slices.Contains(m.ended, false) {
				oldest = min(oldest, m.Version)
			}
		}
		for _, e := range st.epochs {
			oldest = min(oldest, e.version)
		}
		maps.DeleteFunc(st.versions, func(v uint64, _ buffer.Stream) bool { return v < oldest })
		st.versions[def.Version] = def
		return def, nil
	}
	s.disk.next++
	def.Incarnation, def.Version, def.Created, def.Changed = s.disk.next, 1, time.Now(), time.Now()
	s.disk.streams[def.Incarnation] = &modelStream{def: def, versions: map[uint64]buffer.Stream{1: def}, position: 1, next: 1}
	s.consumerLocked(def.Incarnation)
	return def, nil
}

func (s *modelStore) Append(_ context.Context, name string, c record.Call) (r record.Receipt, adopted bool, err error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.dead {
		return r, false, errDead
	}
	for inc, st := range s.disk.streams {
		if st.def.Name != name || st.def.State == buffer.Gone {
			continue
		}
		if st.def.State >= buffer.Deleting {
			return r, false, &record.NotFound{Stream: name, Inactive: true}
		}
		r.Incarnation, r.First = inc, st.next
		for data := range record.Records(c.Batch.Encoded()) {
			st.rows = append(st.rows, modelRow{seq: st.next, arrived: time.Now().UnixMicro(), data: bytes.Clone(data), call: r.First})
			st.next++
			st.totals.Accepted++
		}
		s.consumers[inc].notify()
		return r, false, nil
	}
	return r, false, &record.NotFound{Stream: name}
}

func (s *modelStore) consumerLocked(inc uint32) *modelConsumer {
	c := s.consumers[inc]
	if c == nil {
		c = &modelConsumer{s: s, st: s.disk.streams[inc], taken: s.disk.streams[inc].position, changed: make(chan struct{}, 1)}
		s.consumers[inc] = c
	}
	return c
}

func (s *modelStore) Ending(uint32, uint8) (uint64, bool) { return 0, false }

func (s *modelStore) Consumer(inc uint32, id uint8) consumer {
	if id != buffer.Main {
		return nil // backups are tested on the real buffer
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	return s.consumerLocked(inc)
}

type modelConsumer struct {
	s        *modelStore
	st       *modelStream
	taken    uint64
	claims   []*modelClaim
	changed  chan struct{}
	pressure buffer.Pressure
	spilled  int64 // rows that Spill has moved: they have no other effect here
	spillErr error
}

func (c *modelConsumer) notify() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// press sets the pressure.
func (c *modelConsumer) press(p buffer.Pressure) {
	c.s.disk.mu.Lock()
	c.pressure = p
	c.s.disk.mu.Unlock()
	c.notify()
}

func (c *modelConsumer) lock() func() {
	c.s.disk.mu.Lock()
	return c.s.disk.mu.Unlock
}

// unclaimed rows, oldest first.
func (c *modelConsumer) unclaimed() []modelRow {
	for i, r := range c.st.rows {
		if r.seq >= c.taken {
			return c.st.rows[i:]
		}
	}
	return nil
}

func (c *modelConsumer) Waiting() (w buffer.Waiting) {
	defer c.lock()()
	w.First, w.Next = c.taken, c.taken
	for i, r := range c.unclaimed() {
		if i == 0 {
			w.Oldest = r.arrived
		}
		w.Next = r.seq + 1
		w.Bytes += int64(len(r.data))
	}
	for _, r := range c.st.rows {
		if r.seq >= c.st.raw {
			w.Front += int64(len(r.data))
		}
	}
	return w
}

func (c *modelConsumer) Chunks(from uint64) iter.Seq[buffer.Chunk] {
	return func(yield func(buffer.Chunk) bool) {
		unlock := c.lock()
		var chunks []buffer.Chunk
		call := uint64(0)
		for _, r := range c.unclaimed() {
			if r.seq < from {
				continue
			}
			if n := len(chunks); n == 0 || call != r.call {
				chunks = append(chunks, buffer.Chunk{First: r.seq, Arrived: r.arrived})
				call = r.call
			}
			k := &chunks[len(chunks)-1]
			k.Count++
			k.Bytes += int64(len(r.data))
		}
		unlock()
		for _, k := range chunks {
			if !yield(k) {
				return
			}
		}
	}
}

func (c *modelConsumer) Changed() <-chan struct{} { return c.changed }

func (c *modelConsumer) Pressure() buffer.Pressure {
	defer c.lock()()
	return c.pressure
}

func (c *modelConsumer) Take(next uint64, most int64) claim {
	defer c.lock()()
	var rows []modelRow
	var size int64
	for _, r := range c.unclaimed() {
		if next > 0 && r.seq >= next || len(rows) > 0 && size+int64(len(r.data)) > most {
			break
		}
		rows = append(rows, r)
		size += int64(len(r.data))
	}
	if len(rows) == 0 {
		return nil
	}
	k := &modelClaim{c: c, rows: rows}
	c.claims = append(c.claims, k)
	c.taken = rows[len(rows)-1].seq + 1
	return k
}

func (c *modelConsumer) Totals() buffer.Totals {
	defer c.lock()()
	t := c.st.totals
	t.Waiting = int64(len(c.st.rows))
	for _, e := range c.st.epochs {
		t.Waiting += e.records()
	}
	return t
}

func (c *modelConsumer) Watermark() int64 { defer c.lock()(); return c.st.watermark }

func (c *modelConsumer) NewEpoch() uint64 {
	defer c.lock()()
	c.st.epoch++
	return c.st.epoch
}

type modelClaim struct {
	c    *modelConsumer
	rows []modelRow
	over bool
}

func (k *modelClaim) Range() (first, next uint64) {
	defer k.c.lock()()
	return k.rows[0].seq, k.rows[len(k.rows)-1].seq + 1
}

func (k *modelClaim) Bytes() (n int64) {
	defer k.c.lock()()
	for _, r := range k.rows {
		n += int64(len(r.data))
	}
	return n
}

func (k *modelClaim) Rows() iter.Seq[record.Row] {
	return func(yield func(record.Row) bool) {
		unlock := k.c.lock()
		rows, over := k.rows, k.over
		unlock()
		if over {
			k.c.s.bug("rows of a claim that has ended")
		}
		for _, r := range rows {
			// a copy that is destroyed afterwards: nobody keeps a row
			data := bytes.Clone(r.data)
			if !yield(record.Row{Seq: r.seq, Arrived: r.arrived, Data: data}) {
				return
			}
			clear(data)
		}
	}
}

func (k *modelClaim) Lost() int64 { return 0 }

func (k *modelClaim) mustBeNewest() {
	if n := len(k.c.claims); k.over || n == 0 || k.c.claims[n-1] != k {
		k.c.s.bug("a claim that is not the newest is given back")
	}
}

func (k *modelClaim) Trim(next uint64) {
	defer k.c.lock()()
	k.mustBeNewest()
	for i, r := range k.rows {
		if r.seq >= next {
			k.rows = k.rows[:i]
			break
		}
	}
	if len(k.rows) == 0 {
		k.c.s.bug("claim is trimmed to nothing")
	}
	k.c.taken = k.rows[len(k.rows)-1].seq + 1
}

func (k *modelClaim) Release() {
	defer k.c.lock()()
	k.mustBeNewest()
	k.over = true
	k.c.claims = k.c.claims[:len(k.c.claims)-1]
	k.c.taken = k.rows[0].seq
	k.c.notify()
}

// modelPack is a pack in the making.
type modelPack struct {
	s       *modelStore
	id      buffer.PackID
	objects []buffer.ObjectInfo
	bytes   [][]byte
	open    bool
	head    *buffer.ManifestHead
	named   bool
	gone    bool
}

var errNoSpace = fmt.Errorf("model: %w", buffer.ErrNoSpace)

// Inlet is not there: lanes are tested on the real buffer.
func (s *modelStore) Inlet(uint32) (laneInlet, error) {
	return nil, errors.New("model: streams have no inlets")
}

func (s *modelStore) NewPack() (pack, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.dead {
		return nil, errDead
	}
	s.disk.ids++
	p := &modelPack{s: s}
	binary.BigEndian.PutUint64(p.id[:], s.disk.ids)
	return p, nil
}

func (p *modelPack) Begin(h buffer.ObjectHead) (io.Writer, error) {
	p.s.disk.mu.Lock()
	defer p.s.disk.mu.Unlock()
	if p.open || p.head != nil || p.gone {
		p.s.bug("Begin of %q while an object is open, or after Seal or Abort", h.Key)
	}
	if p.s.dead {
		return nil, errDead
	}
	p.open = true
	p.objects = append(p.objects, buffer.ObjectInfo{ObjectHead: h, Pack: p.id})
	p.bytes = append(p.bytes, nil)
	return p, nil
}

func (p *modelPack) Write(b []byte) (int, error) {
	p.s.disk.mu.Lock()
	defer p.s.disk.mu.Unlock()
	if !p.open {
		p.s.bug("write to an object that is not open")
		return 0, errDead
	}
	if p.s.dead {
		return 0, errDead
	}
	if p.s.space >= 0 && p.s.used+int64(len(b)) > p.s.space {
		return 0, errNoSpace
	}
	p.s.used += int64(len(b))
	p.bytes[len(p.bytes)-1] = append(p.bytes[len(p.bytes)-1], b...)
	return len(b), nil
}

func (p *modelPack) End(records int64, firstSeq uint64, oldest int64) error {
	p.s.disk.mu.Lock()
	defer p.s.disk.mu.Unlock()
	if !p.open || records < 0 || firstSeq == 0 || oldest == 0 {
		p.s.bug("End(%d, %d, %d), open %v", records, firstSeq, oldest, p.open)
	}
	p.open = false
	o := &p.objects[len(p.objects)-1]
	o.Records, o.FirstSeq, o.Oldest = records, firstSeq, oldest
	o.Size, o.SHA256 = int64(len(p.bytes[len(p.bytes)-1])), sha256.Sum256(p.bytes[len(p.bytes)-1])
	return nil
}

func (p *modelPack) Drop() error {
	p.s.disk.mu.Lock()
	defer p.s.disk.mu.Unlock()
	if !p.open {
		p.s.bug("Drop without an open object")
	}
	p.open = false
	p.s.used -= int64(len(p.bytes[len(p.bytes)-1]))
	p.objects, p.bytes = p.objects[:len(p.objects)-1], p.bytes[:len(p.bytes)-1]
	return nil
}

func (p *modelPack) Seal(h buffer.ManifestHead) error {
	p.s.disk.mu.Lock()
	defer p.s.disk.mu.Unlock()
	if p.open || p.head != nil || p.gone || len(p.objects) == 0 {
		p.s.bug("Seal of a pack with %d objects, open %v, sealed %v, gone %v", len(p.objects), p.open, p.head != nil, p.gone)
	}
	if p.s.dead {
		return errDead
	}
	p.head = &h
	return nil
}

func (p *modelPack) Abort() {
	p.s.disk.mu.Lock()
	defer p.s.disk.mu.Unlock()
	if p.named || p.gone {
		return
	}
	p.gone = true
	for _, b := range p.bytes {
		p.s.used -= int64(len(b))
	}
}

func (s *modelStore) NewManifestID() (id buffer.ManifestID) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	s.disk.ids++
	binary.BigEndian.PutUint64(id[8:], s.disk.ids)
	id[0] = 0xab
	return id
}

// name makes the packs a manifest's.
func (s *modelStore) name(packs []pack, h buffer.ManifestHead) *modelManifest {
	m := &modelManifest{Manifest: buffer.Manifest{ManifestHead: h}}
	var ok, failed int64
	for _, p := range packs {
		p := p.(*modelPack)
		if p.head == nil || p.gone || p.named {
			s.bug("manifest names a pack that is not sealed, gone, or named already")
			continue
		}
		if p.head.ID != h.ID || p.head.First != h.First || p.head.Next != h.Next || p.head.Counts != h.Counts || p.head.Replaces != h.Replaces {
			s.bug("pack was sealed for %+v and stands in %+v", *p.head, h)
		}
		p.named = true
		for i, o := range p.objects {
			m.Objects = append(m.Objects, o)
			m.bytes = append(m.bytes, p.bytes[i])
			s.used -= o.Size
			if o.Role == buffer.Error {
				failed += o.Records
			} else {
				ok += o.Records
			}
		}
	}
	if ok != h.Counts.OK || failed != h.Counts.Failed {
		s.bug("manifest counts %+v, its objects hold %d and %d", h.Counts, ok, failed)
	}
	m.ended, m.reply = make([]bool, len(m.Objects)), make([]bool, len(m.Objects))
	s.disk.order = append(s.disk.order, h.ID)
	s.disk.manifests[h.ID] = m
	return m
}

func (s *modelStore) Cut(c claim, packs []pack, h buffer.ManifestHead) (*buffer.Manifest, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.dead {
		return nil, errDead
	}
	if s.cutErr != nil {
		return nil, s.cutErr
	}
	k := c.(*modelClaim)
	if len(k.c.claims) == 0 || k.c.claims[0] != k || k.rows[0].seq != k.c.st.position {
		s.bug("cut of a claim that is not the oldest")
	}
	if h.First != k.rows[0].seq || h.Next != k.rows[len(k.rows)-1].seq+1 || h.Incarnation != k.c.st.def.Incarnation {
		s.bug("cut of [%d, %d), the claim has [%d, %d)", h.First, h.Next, k.rows[0].seq, k.rows[len(k.rows)-1].seq+1)
	}
	if h.Counts.OK+h.Counts.Dropped+h.Counts.Failed != int64(len(k.rows)) {
		s.bug("cut of %d rows counts %+v", len(k.rows), h.Counts)
	}
	if h.Source.Kind != buffer.SourceRange {
		s.bug("cut of a claim has source %+v", h.Source)
	}
	for _, e := range k.c.st.epochs {
		if e.number == h.Epoch {
			s.bug("epoch %d has runs and is cut as a range", h.Epoch)
		}
	}
	if _, ok := k.c.st.versions[h.Version]; !ok {
		s.bug("cut under version %d, which is not known", h.Version)
	}
	m := s.name(packs, h)
	k.over = true
	k.c.claims = k.c.claims[1:]
	k.c.st.position = h.Next
	k.c.st.rows = slices.Clone(k.c.st.rows[len(k.rows):])
	if h.Watermark != 0 {
		k.c.st.watermark = h.Watermark
	}
	t := &k.c.st.totals
	t.OK += h.Counts.OK
	t.Failed += h.Counts.Failed
	t.Dropped += h.Counts.Dropped
	return &m.Manifest, nil
}

func (s *modelStore) Crowded() bool { return s.crowded.Load() }

func (s *modelStore) Pending(id buffer.ManifestID) (out []int) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	for i, ended := range s.disk.manifests[id].ended {
		if !ended && !s.disk.manifests[id].reply[i] {
			out = append(out, i)
		}
	}
	return out
}

func (s *modelStore) Confirm(id buffer.ManifestID, objects ...int) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.dead {
		return
	}
	m := s.disk.manifests[id]
	for _, i := range objects {
		if m == nil || m.reply[i] || m.ended[i] {
			s.bug("object %d of %x is confirmed without a manifest, or twice, or after it was replaced", i, id)
			continue
		}
		m.reply[i] = true
	}
	time.AfterFunc(100*time.Millisecond, func() {
		s.disk.mu.Lock()
		defer s.disk.mu.Unlock()
		if !s.dead {
			for _, i := range objects {
				m.ended[i] = true
			}
		}
	})
}

func (s *modelStore) Replace(id buffer.ManifestID, objects []int, packs []pack, h buffer.ManifestHead, _ string) (*buffer.Manifest, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.dead {
		return nil, errDead
	}
	m, st := s.disk.manifests[id], s.disk.streams[h.Incarnation]
	if h.Replaces != id || !slices.Equal(h.Replaced, objects) || h.First != m.First || h.Next != m.Next {
		s.bug("replacement of %v of %x has head %+v", objects, id, h)
	}
	for _, i := range objects {
		if m.reply[i] || m.ended[i] {
			s.bug("object %d of %x is replaced after it has ended", i, id)
		}
		m.reply[i], m.ended[i] = true, true
		if m.Objects[i].Role == buffer.Error {
			st.totals.Failed -= m.Objects[i].Records
		} else {
			st.totals.OK -= m.Objects[i].Records
		}
	}
	st.totals.OK += h.Counts.OK
	st.totals.Failed += h.Counts.Failed
	return &s.name(packs, h).Manifest, nil
}

func (s *modelStore) SetAside(id buffer.ManifestID, objects []int, _ string) (string, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.dead {
		return "", errDead
	}
	m := s.disk.manifests[id]
	st := s.disk.streams[m.Incarnation]
	for _, i := range objects {
		if m.reply[i] || m.ended[i] {
			s.bug("object %d of %x is set aside after it has ended", i, id)
		}
		m.reply[i], m.ended[i] = true, true
		st.totals.OK -= m.Objects[i].Records
		st.totals.Lost += m.Objects[i].Records
	}
	return "quarantine/1", nil
}

func (s *modelStore) Discard(id buffer.ManifestID, objects []int, _ string) error {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.dead {
		return errDead
	}
	m := s.disk.manifests[id]
	st := s.disk.streams[m.Incarnation]
	if st.def.State != buffer.Discarding {
		s.bug("objects of %x are discarded in state %d", id, st.def.State)
	}
	for _, i := range objects {
		if m.reply[i] || m.ended[i] {
			s.bug("object %d of %x is discarded after it has ended", i, id)
		}
		m.reply[i], m.ended[i] = true, true
		if m.Objects[i].Role == buffer.Error {
			st.totals.Failed -= m.Objects[i].Records
		} else {
			st.totals.OK -= m.Objects[i].Records
		}
		st.totals.Dropped += m.Objects[i].Records
	}
	return nil
}

func (s *modelStore) Outstanding() (out []*buffer.Manifest) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	for _, id := range s.disk.order {
		if m := s.disk.manifests[id]; slices.Contains(m.ended, false) {
			out = append(out, &m.Manifest)
		}
	}
	return out
}

// modelObject is an object opened for reading.
type modelObject struct {
	*bytes.Reader
	s *modelStore
}

func (s *modelStore) OpenObject(m *buffer.Manifest, object int) (objectReader, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.dead {
		return nil, errDead
	}
	man := s.disk.manifests[m.ID]
	if man == nil || man.reply[object] || man.ended[object] {
		s.bug("object %d of %x is opened without a manifest, or after it has ended", object, m.ID)
	}
	s.opened++
	return &modelObject{Reader: bytes.NewReader(man.bytes[object]), s: s}, nil
}

func (o *modelObject) Close() error {
	o.s.disk.mu.Lock()
	defer o.s.disk.mu.Unlock()
	o.s.opened--
	return nil
}

// durable tells whether a manifest is on the disk.
func (d *modelDisk) durable(id buffer.ManifestID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.manifests[id] != nil
}
