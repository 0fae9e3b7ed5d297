package buffer

import (
	"bytes"
	"crypto/sha256"
	"errors"
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

func (s Source) equal(t Source) bool {
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
func (c *Consumer) Epochs() []Epoch { return nil }

// CutKeys makes one MANIFEST over rows of routed runs: h.Source says which, h.Epoch whose, h.Version is that of the
// epoch, and [h.First, h.Next) the extent of its runs from the first to number h.Source.Run. The first sweep closes
// the epoch at that run, which must be its last; those of an epoch have ascending bounds; the one of all keys ends it,
// and its runs go. packs may be empty where everything was dropped, as the counts say then. On return it is durable;
// on error nothing has happened. Errors: ErrCrowded, ErrEpochFull, ErrFailing, ErrClosed, or what does not fit
// together.
func (b *Buffer) CutKeys(c *Consumer, packs []*Pack, h ManifestHead) (*Manifest, error) {
	return nil, errors.New("keys cannot be cut yet")
}
