package buffer

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"hydrant/record"
)

// RunID names a run file for ever.
type RunID [16]byte

// RunKind says what the rows of a run are.
type RunKind uint8

const (
	RunRaw    RunKind = iota // rows as they arrived, in the order of their sequences
	RunRouted                // rows as they will be delivered, by key
)

// RunRow is one row of a run.
type RunRow struct {
	record.Row
	Counts bool // the record counts with this row: the first part of it that was not dropped
}

// RunHead is what a RUN frame and the footer of its run both say. Epoch, N and Counts are of routed runs only.
type RunHead struct {
	Incarnation uint32
	Consumer    uint8
	Kind        RunKind
	Version     uint64 // of the stream's configuration that made the rows
	Epoch       uint64
	N           uint32 // ordinal of the run in its epoch, from 1
	First, Next uint64 // range of sequences it takes
	Counts      Counts // of the records in the range
	Lost        int64  // records of the range that damage has taken
	Watermark   int64
}

// runTotals sums up the rows of a run.
type runTotals struct {
	Keys    int64
	Rows    int64
	Records int64 // rows with Counts
	Bytes   int64 // of Data
	Oldest  int64 // arrival of the oldest row in µs, 0 where there is none
}

// runRef is how a frame names a run.
type runRef struct {
	ID     RunID
	Length int64    // of the file
	Footer [32]byte // SHA-256 of the footer
}

// minRunMemory is the least that a run gathers before it writes.
const minRunMemory = 1 << 20

// maxRunKey is the longest key of a row, bytes.
const maxRunKey = 1100

// Run is a file of compressed rows in the making. One goroutine writes it.
type Run struct {
	store  *runStore
	id     RunID
	kind   RunKind
	memory int64
	sealed bool
	sum    runTotals
	ref    runRef
	h      RunHead

	rows map[string][]RunRow
}

// NewRun starts a run. memory is how many bytes Append may gather before a sorted part is written; the least is
// 1 MiB. The file is an orphan, removed at the next start, until a RUN frame names it.
func (b *Buffer) NewRun(kind RunKind, memory int64) (*Run, error) {
	if kind > RunRouted {
		return nil, fmt.Errorf("new run: no kind %d", kind)
	}
	return &Run{kind: kind, memory: max(memory, minRunMemory), rows: map[string][]RunRow{}}, nil
}

// Append adds a row; key and Data are copied. In a routed run keys come in any order, and the rows of a key keep
// theirs; in a raw one the key is empty and sequences ascend. Errors may be ErrNoSpace: then only Abort helps.
func (r *Run) Append(key []byte, row RunRow) error {
	if len(key) > maxRunKey {
		return fmt.Errorf("key of %d bytes: at most %d are stored", len(key), maxRunKey)
	}
	row.Data = slices.Clone(row.Data)
	r.rows[string(key)] = append(r.rows[string(key)], row)
	r.sum.Rows++
	r.sum.Bytes += int64(len(row.Data))
	return nil
}

// InMemory tells whether nothing was written yet.
func (r *Run) InMemory() bool { return !r.sealed }

// Sorted iterates over the rows by key, ascending, those of a key in the order in which they were appended. Only
// while InMemory. Key and row are valid until the next step.
func (r *Run) Sorted() iter.Seq2[[]byte, RunRow] {
	return func(yield func([]byte, RunRow) bool) {
		keys := make([]string, 0, len(r.rows))
		for k := range r.rows {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			for _, row := range r.rows[k] {
				if !yield([]byte(k), row) {
					return
				}
			}
		}
	}
}

// ID of the run.
func (r *Run) ID() RunID { return r.id }

// Size is the bytes of Data appended.
func (r *Run) Size() int64 { return r.sum.Bytes }

// Rows appended.
func (r *Run) Rows() int64 { return r.sum.Rows }

// Seal writes what is left and the footer, and fsyncs file and directory (I7). A sealed run is immutable. After an
// error, which may be ErrNoSpace, only Abort helps.
func (r *Run) Seal(h RunHead) error { return errors.New("runs cannot be sealed yet") }

// Abort removes the file, as Pack.Abort does.
func (r *Run) Abort() {}
