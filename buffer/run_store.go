package buffer

import (
	"errors"
	"iter"
)

// runStore knows the run files of a data directory. Safe for concurrent use.
type runStore struct{}

func (s *runStore) path(id RunID) string { return "" }

// keep, unkeep, doubt, certain: as for packs, around the frame that names the runs.
func (s *runStore) keep(runs []*Run)   {}
func (s *runStore) unkeep(runs []*Run) {}
func (s *runStore) doubt(runs []*Run)  {}
func (s *runStore) certain()           {}

// named is called when the frame is durable: the runs' bytes are charged to the stream.
func (s *runStore) named(runs []*Run, incarnation uint32) {}

// register is named for recovery.
func (s *runStore) register(incarnation uint32, ref runRef, key *dataKey) {}

// remove unlinks a run that is dead durably, as soon as no reader has it open (I6).
func (s *runStore) remove(id RunID) {}

// sweep removes the run files that no frame names.
func (s *runStore) sweep() error { return nil }

func (s *runStore) close() {}

// runContent is everything of a run but its rows.
type runContent struct {
	head      RunHead
	sum       runTotals
	ref       runRef
	directory [16]byte
	key       *dataKey // nil: it is in clear
}

// open makes a reader of a run that a frame names; the file stays until Close.
func (s *runStore) open(id RunID) (*runReader, error) {
	return nil, errors.New("runs cannot be read yet")
}

// runReader reads a sealed run. Not safe for concurrent use; a run may have many.
type runReader struct{ runContent }

// runLoss is the error for a damaged block: its rows cannot be read, the iteration goes on behind it.
type runLoss struct {
	ID            RunID
	Offset        int64  // of the block
	First, Next   uint64 // raw: sequences of its rows; routed: 0
	Rows, Records int64
	What          string
}

func (e *runLoss) Error() string { return "a block of a run is damaged: " + e.What }

// chunks iterates over stretches of rows without gaps that arrived within the same second. Raw runs.
func (r *runReader) chunks() iter.Seq2[Chunk, error] { return func(func(Chunk, error) bool) {} }

// rawRows iterates over the rows at and above sequence from. A *runLoss is a damaged block, behind which it goes on;
// any other error is the last. A row is valid until the next step. Raw runs.
func (r *runReader) rawRows(from uint64) iter.Seq2[RunRow, error] {
	return func(func(RunRow, error) bool) {}
}

func (r *runReader) Close() error { return nil }
