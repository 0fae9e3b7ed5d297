package delivery

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"

	"hydrant/buffer"
)

// modelEpoch is the runs of an epoch.
type modelEpoch struct {
	number, version uint64
	first, next     uint64
	runs            []*modelRun
	cuts            map[[16]byte]uint32 // size cuts: the last run that each key was taken of
	closedAt        uint32              // 0: open
	bound           []byte
	known           map[string]int64 // records of rows that no manifest has taken, by key
}

func (e *modelEpoch) records() (n int64) {
	for _, k := range e.known {
		n += k
	}
	return n
}

// modelRun is a run in the making, or one that is sealed.
type modelRun struct {
	s      *modelStore
	rows   []modelRunRow
	bytes  int64
	memory int64
	head   *buffer.RunHead
	named  bool
	gone   bool
}

type modelRunRow struct {
	key []byte
	buffer.RunRow
}

func (s *modelStore) Directory() [16]byte { return [16]byte{1, 2, 3} }

func (s *modelStore) NewRun(kind buffer.RunKind, memory int64) (run, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.dead {
		return nil, errDead
	}
	if kind != buffer.RunRouted || memory <= 0 {
		s.bug("new run of kind %d with %d bytes", kind, memory)
	}
	return &modelRun{s: s, memory: max(memory, 1<<20)}, nil
}

func (r *modelRun) lock() func() { r.s.disk.mu.Lock(); return r.s.disk.mu.Unlock }

func (r *modelRun) Append(key []byte, row buffer.RunRow) error {
	defer r.lock()()
	if r.head != nil || r.gone || len(key) == 0 || len(key) > 1100 {
		r.s.bug("row %d of key %q is appended to a run, sealed %v, gone %v", row.Seq, key, r.head != nil, r.gone)
	}
	if r.s.dead {
		return errDead
	}
	if r.s.space >= 0 && r.s.used+int64(len(row.Data)) > r.s.space {
		return errNoSpace
	}
	r.s.used += int64(len(row.Data))
	r.bytes += int64(len(row.Data))
	row.Data = bytes.Clone(row.Data)
	r.rows = append(r.rows, modelRunRow{bytes.Clone(key), row})
	return nil
}

func (r *modelRun) InMemory() bool { defer r.lock()(); return r.head == nil && r.bytes <= r.memory }
func (r *modelRun) Rows() int64    { defer r.lock()(); return int64(len(r.rows)) }

func (r *modelRun) sort() {
	slices.SortStableFunc(r.rows, func(a, b modelRunRow) int { return bytes.Compare(a.key, b.key) })
}

func (r *modelRun) Sorted() iter.Seq2[[]byte, buffer.RunRow] {
	return func(yield func([]byte, buffer.RunRow) bool) {
		unlock := r.lock()
		if r.head != nil || r.gone {
			r.s.bug("rows of a run that is sealed or gone are asked for")
		}
		r.sort()
		rows := slices.Clone(r.rows)
		unlock()
		for _, row := range rows {
			if !yieldCopy(yield, row) {
				return
			}
		}
	}
}

// yieldCopy gives out a row that is destroyed afterwards: nobody keeps one.
func yieldCopy(yield func([]byte, buffer.RunRow) bool, row modelRunRow) bool {
	key := bytes.Clone(row.key)
	row.Data = bytes.Clone(row.Data)
	ok := yield(key, row.RunRow)
	clear(key)
	clear(row.Data)
	return ok
}

func (r *modelRun) Seal(h buffer.RunHead) error {
	defer r.lock()()
	if r.head != nil || r.gone {
		r.s.bug("a run is sealed twice, or after it is gone")
	}
	if r.s.dead {
		return errDead
	}
	r.sort()
	var counted int64
	for _, row := range r.rows {
		if row.Counts {
			counted++
		}
	}
	if counted != h.Counts.OK+h.Counts.Failed {
		r.s.bug("run of %d records says %+v", counted, h.Counts)
	}
	r.head = &h
	return nil
}

func (r *modelRun) Abort() {
	defer r.lock()()
	if r.named || r.gone {
		return
	}
	r.gone = true
	r.s.used -= r.bytes
}

func (s *modelStore) Route(c claim, rn run, h buffer.RunHead) error {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.dead {
		return errDead
	}
	if s.cutErr != nil {
		return s.cutErr
	}
	k, r := c.(*modelClaim), rn.(*modelRun)
	st := k.c.st
	first, next := k.rows[0].seq, k.rows[len(k.rows)-1].seq+1
	if len(k.c.claims) == 0 || k.c.claims[0] != k || first != st.position || h.First != first || h.Next != next || h.Incarnation != st.def.Incarnation {
		s.bug("run of [%d, %d) over a claim of [%d, %d) at %d", h.First, h.Next, first, next, st.position)
	}
	if h.Counts.OK+h.Counts.Dropped+h.Counts.Failed != int64(len(k.rows)) {
		s.bug("run of %d rows counts %+v", len(k.rows), h.Counts)
	}
	if _, ok := st.versions[h.Version]; !ok {
		s.bug("run under version %d, which is not known", h.Version)
	}
	if r.head == nil || *r.head != h || r.named || r.gone {
		s.bug("a run is named that was sealed otherwise, named or gone")
	}
	e := st.epochOf(h.Epoch)
	if e == nil {
		if h.Epoch > st.epoch {
			s.bug("epoch %d has not been given out", h.Epoch)
		}
		e = &modelEpoch{number: h.Epoch, version: h.Version, first: h.First, cuts: map[[16]byte]uint32{}, known: map[string]int64{}}
		st.epochs = append(st.epochs, e)
	}
	if e.closedAt != 0 || int(h.N) != len(e.runs)+1 || e.version != h.Version || len(e.runs) > 0 && e.next != h.First {
		s.bug("run %d of version %d from %d on goes into epoch %d, which has %d of version %d up to %d, closed at %d", h.N, h.Version, h.First, e.number, len(e.runs), e.version, e.next, e.closedAt)
	}
	r.named = true
	s.used -= r.bytes
	e.runs, e.next = append(e.runs, r), h.Next
	for _, row := range r.rows {
		if row.Counts {
			e.known[string(row.key)]++
		}
	}
	s.take(k, h.Next)
	if h.Watermark != 0 {
		st.watermark = h.Watermark
	}
	st.totals.Dropped += h.Counts.Dropped
	return nil
}

// take ends the oldest claim.
func (s *modelStore) take(k *modelClaim, next uint64) {
	k.over = true
	k.c.claims = k.c.claims[1:]
	k.c.st.position = next
	k.c.st.rows = slices.Clone(k.c.st.rows[len(k.rows):])
}

func (st *modelStream) epochOf(number uint64) *modelEpoch {
	for _, e := range st.epochs {
		if e.number == number {
			return e
		}
	}
	return nil
}

func (c *modelConsumer) Epochs() (out []buffer.Epoch) {
	defer c.lock()()
	for _, e := range c.st.epochs {
		k := buffer.Epoch{Number: e.number, Version: e.version, First: e.first, Next: e.next, Closed: e.closedAt > 0, ClosedAt: e.closedAt, Bound: e.bound, Records: e.records()}
		for i, r := range e.runs {
			k.Runs = append(k.Runs, buffer.RunInfo{N: uint32(i + 1), First: r.head.First, Next: r.head.Next, Bytes: r.bytes, Rows: int64(len(r.rows))})
			for _, row := range r.rows {
				if k.Oldest == 0 || row.Arrived < k.Oldest {
					k.Oldest = row.Arrived
				}
			}
			if k.Records > 0 {
				k.Bytes += r.bytes
			}
		}
		out = append(out, k)
	}
	return out
}

// left tells whether rows of a key in run n wait for a manifest.
func (e *modelEpoch) left(key []byte, n int) bool {
	if e.closedAt > 0 && e.bound != nil && bytes.Compare(key, e.bound) <= 0 {
		return false
	}
	return uint32(n) > e.cuts[buffer.KeyHash(key)]
}

func (s *modelStore) CutKeys(c consumer, packs []pack, h buffer.ManifestHead) (*buffer.Manifest, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.dead {
		return nil, errDead
	}
	if s.cutErr != nil {
		return nil, s.cutErr
	}
	st := c.(*modelConsumer).st
	e, src := st.epochOf(h.Epoch), h.Source
	if e == nil || h.Version != e.version || src.Run == 0 || int(src.Run) > len(e.runs) || h.First != e.first || h.Next != e.runs[src.Run-1].head.Next {
		s.bug("cut of keys %+v", h)
		return nil, fmt.Errorf("no such epoch")
	}
	var taken func(key []byte) bool
	switch {
	case src.Kind == buffer.SourceKey && e.closedAt == 0:
		taken = func(key []byte) bool { return buffer.KeyHash(key) == src.Key }
	case src.Kind == buffer.SourceSweep && int(src.Run) == len(e.runs) && (src.All || bytes.Compare(src.Bound, e.bound) > 0):
		taken = func(key []byte) bool { return src.All || bytes.Compare(key, src.Bound) <= 0 }
	default:
		s.bug("cut of keys %+v of an epoch of %d runs, closed at %d, swept to %q", src, len(e.runs), e.closedAt, e.bound)
		return nil, fmt.Errorf("no such source")
	}
	var records int64
	for n, r := range e.runs[:src.Run] {
		for _, row := range r.rows {
			if row.Counts && taken(row.key) && e.left(row.key, n+1) {
				records++
				e.known[string(row.key)]--
			}
		}
	}
	if sum := h.Counts.OK + h.Counts.Dropped + h.Counts.Failed; sum != records {
		s.bug("cut of %d records of keys counts %+v", records, h.Counts)
	}
	m := s.name(packs, h)
	st.totals.OK += h.Counts.OK
	st.totals.Failed += h.Counts.Failed
	st.totals.Dropped += h.Counts.Dropped
	switch {
	case src.Kind == buffer.SourceKey:
		e.cuts[src.Key] = src.Run
	case src.All:
		if n := e.records(); n != 0 {
			s.bug("epoch %d ends with %d records left", e.number, n)
		}
		st.epochs = slices.DeleteFunc(st.epochs, func(k *modelEpoch) bool { return k == e })
	default:
		e.closedAt, e.bound = src.Run, bytes.Clone(src.Bound)
	}
	return &m.Manifest, nil
}

// modelReader reads an epoch.
type modelReader struct {
	s    *modelStore
	rows []modelRunRow // by key
	open bool
}

func (s *modelStore) OpenEpoch(c consumer, number uint64, upTo uint32) (epochReader, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.dead {
		return nil, errDead
	}
	e := c.(*modelConsumer).st.epochOf(number)
	if e == nil || int(upTo) > len(e.runs) {
		s.bug("epoch %d is opened up to run %d", number, upTo)
		return nil, fmt.Errorf("no such epoch")
	}
	r := &modelReader{s: s, open: true}
	for n, run := range e.runs[:upTo] {
		for _, row := range run.rows {
			if e.left(row.key, n+1) {
				r.rows = append(r.rows, row)
			}
		}
	}
	slices.SortStableFunc(r.rows, func(a, b modelRunRow) int { return bytes.Compare(a.key, b.key) })
	s.opened++
	return r, nil
}

func (r *modelReader) Keys(after []byte) iter.Seq2[buffer.EpochKey, error] {
	return func(yield func(buffer.EpochKey, error) bool) {
		for i := 0; i < len(r.rows); {
			k := buffer.EpochKey{Key: bytes.Clone(r.rows[i].key)}
			for ; i < len(r.rows) && bytes.Equal(r.rows[i].key, k.Key); i++ {
				k.Rows++
				k.Bytes += int64(len(r.rows[i].Data))
				if r.rows[i].Counts {
					k.Records++
				}
			}
			if after != nil && bytes.Compare(k.Key, after) <= 0 {
				continue
			}
			if r.s.isDead() {
				yield(k, errDead)
				return
			}
			ok := yield(k, nil)
			clear(k.Key)
			if !ok {
				return
			}
		}
	}
}

func (s *modelStore) isDead() bool {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	return s.dead
}

func (r *modelReader) Rows(key []byte) iter.Seq2[buffer.RunRow, error] {
	return func(yield func(buffer.RunRow, error) bool) {
		i, _ := slices.BinarySearchFunc(r.rows, key, func(row modelRunRow, key []byte) int {
			return bytes.Compare(row.key, key)
		})
		for ; i < len(r.rows) && bytes.Equal(r.rows[i].key, key); i++ {
			if !r.open || r.s.isDead() {
				yield(buffer.RunRow{}, errDead)
				return
			}
			if !yieldCopy(func(_ []byte, row buffer.RunRow) bool { return yield(row, nil) }, r.rows[i]) {
				return
			}
		}
	}
}

func (r *modelReader) Close() {
	r.s.disk.mu.Lock()
	defer r.s.disk.mu.Unlock()
	if !r.open {
		r.s.bug("an epoch is closed twice")
	}
	r.open = false
	r.s.opened--
}

func (c *modelConsumer) Spill(_ context.Context, most int64) (n int64, err error) {
	defer c.lock()()
	if c.s.dead {
		return 0, errDead
	}
	if c.spillErr != nil {
		return 0, c.spillErr
	}
	var size int64
	for _, r := range c.st.rows {
		if r.seq < c.st.raw {
			continue
		}
		if n > 0 && size+int64(len(r.data)) > most {
			break
		}
		size += int64(len(r.data))
		c.st.raw = r.seq + 1
		n++
	}
	c.spilled += n
	return n, nil
}
