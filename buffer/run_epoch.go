package buffer

import (
	"errors"
	"iter"
)

// EpochKey sums up the rows of one key of an epoch that no size cut has taken.
type EpochKey struct {
	Key     []byte // valid until the next step
	Rows    int64
	Records int64 // rows with Counts
	Bytes   int64 // of Data
}

// EpochReader reads the routed runs of an epoch as one: a merge by key. Not safe for concurrent use; several may be
// open at a time.
type EpochReader struct{}

// OpenEpoch opens the runs of an epoch up to ordinal upTo. They stay until Close.
func (b *Buffer) OpenEpoch(c *Consumer, number uint64, upTo uint32) (*EpochReader, error) {
	return nil, errors.New("epochs cannot be read yet")
}

// Keys iterates over the keys above after (nil: all), ascending, without rows that size cuts took.
func (e *EpochReader) Keys(after []byte) iter.Seq2[EpochKey, error] {
	return func(func(EpochKey, error) bool) {}
}

// Rows iterates over the rows of a key in the order of runs, which is that of sequences. What damaged blocks held is
// logged and left out, and their run is copied to quarantine/. Asking for keys in ascending order is cheap. A row is
// valid until the next step.
func (e *EpochReader) Rows(key []byte) iter.Seq2[RunRow, error] {
	return func(func(RunRow, error) bool) {}
}

// Close gives the runs free.
func (e *EpochReader) Close() {}
