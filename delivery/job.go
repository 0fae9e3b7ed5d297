package delivery

import (
	"context"
	"fmt"

	"hydrant/buffer"
	"hydrant/record"
)

// job is one claim on its way under a manifest. The stream's loop makes it, an encode worker fills packs
// from it, a goroutine of its own seals them, and then it is the loop's again: ready says when.
type job struct {
	store   store
	name    string // of the stream
	use     *version
	claim   claim
	first   uint64 // the claim's range
	next    uint64
	oldest  int64 // arrival of its first row, µs
	bytes   int64 // of Data
	pipe    *Pipeline
	version uint64
	head    buffer.ManifestHead
	reason  string
	// discards: all rows are dropped, which holds only as long as the stream is to be discarded.
	discards bool

	segs      []segment
	routes    int
	scattered bool
	limit     int64             // bytes of Data that fill an object, 0: none
	poison    map[uint64]string // rows that broke the encoder, and how
	shrinks   int               // how often the claim was trimmed for want of space
	// refused is told of each row that goes to the error output; nil: nobody asks.
	refused func(errorType string, row record.Row, code, message string)

	cancel context.CancelFunc // of encoding
	ready  chan struct{}      // closed when what follows is final
	packs  []pack             // sealed
	codes  failedCodes        // of rows in error objects
	err    error
	reach  uint64 // sequence at which err happened, next when it was after the last row
	raw    int64  // bytes of Data that came in
	input  int64  // bytes of Data in data objects, after transform
	output int64  // bytes of these objects
}

// packError is a failure to write a pack: no space, or a sick disk.
type packError struct{ err error }

func (e *packError) Error() string { return e.err.Error() }
func (e *packError) Unwrap() error { return e.err }

// encoderPanic says that the encoder broke. Seq is the row at which it did, or 0.
type encoderPanic struct {
	seq   uint64
	value any
	stack []byte
}

func (e *encoderPanic) Error() string { return fmt.Sprintf("the encoder broke: %v", e.value) }

// failedCode counts rows that went to the error output for one reason.
type failedCode struct {
	stage, code string
	n           int64
}

// failedCodes is a short list: encoders have few codes.
type failedCodes []failedCode

func (f *failedCodes) add(stage, code string) {
	for i := range *f {
		if c := &(*f)[i]; c.stage == stage && c.code == code {
			c.n++
			return
		}
	}
	*f = append(*f, failedCode{stage: stage, code: code, n: 1})
}

// launch encodes and seals in the background.
func (l *loop) launch(ctx context.Context, j *job) {
	ctx, cancel := context.WithCancel(ctx)
	ready := make(chan struct{})
	j.ready, j.cancel = ready, cancel
	l.wg.Go(func() {
		defer close(ready)
		if !l.workers.do(ctx, func(w *worker) { w.encode(ctx, j) }) {
			j.err = ctx.Err()
		}
		if j.err == nil {
			// Not on the worker: it would wait for the disk with its core idle.
			j.seal()
		}
	})
}

// seal makes the packs durable.
func (j *job) seal() {
	j.head.First, j.head.Next = j.first, j.next
	for _, p := range j.packs {
		if err := p.Seal(j.head); err != nil {
			j.err = &packError{fmt.Errorf("seal a pack: %w", err)}
			j.abort()
			return
		}
	}
}

// abort removes the packs.
func (j *job) abort() {
	for _, p := range j.packs {
		p.Abort()
	}
	j.packs = nil
}
