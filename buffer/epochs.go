package buffer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
)

// SourceKind says where a manifest takes its rows from.
type SourceKind uint8

const (
	SourceRange SourceKind = iota // a range of sequences, from the journal and raw runs
	SourceKey                     // the rows of one key in the runs of an epoch up to one of them
	SourceSweep                   // the rows of a range of keys in all runs of an epoch
)

// Source of a manifest. The zero value is a range.
type Source struct {
	Kind  SourceKind
	Key   [16]byte // KeyHash of the key; SourceKey
	Run   uint32   // the last run that it takes rows of: n of a size cut, N of a sweep, which closes the epoch there
	Bound []byte   // SourceSweep: the keys that no earlier sweep took, up to and with this one
	All   bool     // SourceSweep: and all above it; the epoch ends
}

var errSourceParts = errors.New("source of a manifest with parts that do not belong together")

// check finds what no source can be, so that each has one encoding.
func (s *Source) check() error {
	ok := false
	switch s.Kind {
	case SourceRange:
		ok = s.equal(Source{})
	case SourceKey:
		ok = s.Run > 0 && !s.All && len(s.Bound) == 0
	case SourceSweep:
		ok = s.Run > 0 && s.Key == [16]byte{} && s.All == (len(s.Bound) == 0) && len(s.Bound) <= maxRunKey
	}
	if !ok {
		return errSourceParts
	}
	return nil
}

func (s *Source) equal(t Source) bool {
	return s.Kind == t.Kind && s.Key == t.Key && s.Run == t.Run && s.All == t.All && bytes.Equal(s.Bound, t.Bound)
}

// KeyHash is how a size cut names its key.
func KeyHash(key []byte) [16]byte {
	sum := sha256.Sum256(key)
	return [16]byte(sum[:16])
}

// Epoch is an epoch of a consumer that has routed runs and has not ended.
type Epoch struct {
	Number   uint64
	Version  uint64 // of the stream, of all its rows
	First    uint64 // its runs took the sequences [First, Next)
	Next     uint64
	Runs     []RunInfo // by N, from 1
	Closed   bool      // a sweep has begun
	ClosedAt uint32    // N of it
	Bound    []byte    // keys up to and with it are swept; nil: none
	Oldest   int64     // arrival of its oldest row in µs
	Records  int64     // that no manifest has taken
	Bytes    int64     // of Data, about as many as these records have
}

// RunInfo is a routed run.
type RunInfo struct {
	N           uint32
	ID          RunID
	First, Next uint64
	Bytes       int64 // of the file
	Rows        int64
}

// ErrEpochFull says that an epoch can take no more: 4,096 of its keys have been cut alone, or its sequences span
// 2³². It is to be closed.
var ErrEpochFull = errors.New("the epoch can take no more: close it")

// Epochs returns the epochs that have runs and have not ended, oldest first.
func (c *Consumer) Epochs() (list []Epoch) {
	l := c.b.ledger
	l.mu.RLock()
	defer l.mu.RUnlock()
	s := l.streams[c.stream.incarnation]
	if s == nil || s.consumer(c.id) == nil {
		return nil
	}
	for _, e := range s.consumer(c.id).epochs {
		total := e.sum()
		x := Epoch{
			Number: e.number, Version: e.version, First: e.first(), Next: e.end(uint32(len(e.runs))),
			Closed: e.closedAt != 0, ClosedAt: e.closedAt, Bound: bytes.Clone(e.bound), Oldest: total.Oldest, Records: e.left,
		}
		if total.Records > 0 {
			x.Bytes = int64(float64(total.Bytes) * float64(e.left) / float64(total.Records))
		}
		for i := range e.runs {
			r := &e.runs[i]
			x.Runs = append(x.Runs, RunInfo{N: uint32(i + 1), ID: r.ref.ID, First: r.first, Next: r.next, Bytes: r.ref.Length, Rows: r.sum.Rows})
		}
		list = append(list, x)
	}
	return list
}

// epochRuns returns the runs of an epoch up to ordinal upTo, and by the hash of each key that was cut alone the last run
// that its cuts took rows of.
func (b *Buffer) epochRuns(c *Consumer, number uint64, upTo uint32) (runs []runRef, cuts map[[16]byte]uint32, err error) {
	l := b.ledger
	l.mu.RLock()
	defer l.mu.RUnlock()
	var e *epochState
	if s := l.streams[c.stream.incarnation]; s != nil {
		e = s.consumer(c.id).epoch(number)
	}
	if e == nil {
		return nil, nil, fmt.Errorf("epoch %d has no runs, or has ended", number)
	}
	if upTo == 0 || int(upTo) > len(e.runs) {
		return nil, nil, fmt.Errorf("epoch %d has %d runs, not %d", number, len(e.runs), upTo)
	}
	for i := range e.runs[:upTo] {
		if !b.goneRuns[e.runs[i].ref.ID] { // what it had is left when the epoch ends, and then lost
			runs = append(runs, e.runs[i].ref)
		}
	}
	return runs, maps.Clone(e.cuts), nil
}

// CutKeys makes one MANIFEST over rows of routed runs: h.Source says which, h.Epoch whose, h.Version is that of the
// epoch, and [h.First, h.Next) the extent of its runs from the first to number h.Source.Run. The first sweep closes
// the epoch at that run, which must be its last; those of an epoch have ascending bounds; the one of all keys ends it,
// and its runs go. packs may be empty where everything was dropped, as the counts say then. On return it is durable;
// on error nothing has happened. Errors: ErrCrowded, ErrEpochFull, ErrFailing, ErrClosed, or what does not fit
// together.
func (b *Buffer) CutKeys(c *Consumer, packs []*Pack, h ManifestHead) (*Manifest, error) {
	h.Incarnation, h.Consumer = c.stream.incarnation, c.id
	m, e, err := b.assemble(packs, h)
	switch {
	case err != nil:
	case h.Source.Kind == SourceRange:
		err = errors.New("it takes a range, not keys")
	case h.Lost != 0:
		err = errors.New("what is lost of keys is what an epoch has left when it ends")
	}
	if err == nil {
		err = h.Source.check()
	}
	if err == nil && h.Replaces != (ManifestID{}) {
		err = errors.New("a cut replaces nothing")
	}
	if err != nil {
		return nil, fmt.Errorf("cut keys into manifest %x: %w", h.ID, err)
	}
	CrashPoint("pack-sealed")
	var left int64 // records of the epoch that nobody has taken at its end
	o := &op{keys: [2]any{consumerKey{h.Incarnation, h.Consumer}, h.ID}}
	o.prepare = func() ([]*ledgerFrame, error) {
		b.ledger.mu.RLock()
		defer b.ledger.mu.RUnlock()
		s := b.ledger.streams[h.Incarnation]
		if s == nil {
			return nil, errors.New("the stream is gone")
		}
		state := s.consumer(h.Consumer)
		if err := state.checkKeys(&h); err != nil {
			return nil, err
		}
		if b.ledger.manifests[h.ID] != nil {
			return nil, errors.New("there is such a manifest")
		}
		if s.weight > manifestRoom(b.journal.geo)-b.ledger.weight {
			return nil, ErrCrowded
		}
		if left = 0; h.Source.All {
			left = state.epoch(h.Epoch).left - (h.Counts.OK + h.Counts.Dropped + h.Counts.Failed)
		}
		return []*ledgerFrame{newLedgerFrame(e, h.Incarnation, h.Consumer, h.First, h.Next)}, nil
	}
	o.applied = func() {
		b.named(m, packs)
		b.openRuns(c)
	}
	if err := b.write(o, packs); err != nil {
		return nil, fmt.Errorf("cut keys into manifest %x: %w", h.ID, err)
	}
	CrashPoint("manifest-durable")
	if left > 0 {
		b.log.Error("records in damaged blocks of runs are lost", "incarnation", h.Incarnation, "consumer", h.Consumer, "epoch", h.Epoch, "records", left)
	}
	return m, nil
}
