package delivery

import (
	"context"
	"fmt"
	"time"

	"hydrant/buffer"
	"hydrant/partition"
	"hydrant/record"
)

// jobKind is what a job makes of what.
type jobKind uint8

const (
	cutRange  jobKind = iota // a claim becomes objects
	routeRows                // a claim becomes a routed run, or objects where that closes an epoch without runs
	cutKey                   // a key of an epoch's runs becomes objects, as it has enough for them
	sweepKeys                // a range of keys of a closed epoch becomes objects
)

// job is one claim, or some keys of an epoch, on the way under a manifest or into a run. The stream's loop makes it, an
// encode worker fills packs from it, a goroutine of its own seals them, and then it is the loop's again: ready says when.
type job struct {
	kind    jobKind
	store   store
	book    *book
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
	// Of routeRows.
	epoch      *epoch          // that the run belongs to, nil: to a new one; also of cutKey and sweepKeys
	since      time.Time       // when its first row was first seen
	tail       bool            // the epoch closes with it
	spilled    bool            // the run is to be written, though it could stay in memory
	memory     int64           // that its rows may take before they are written
	objects    bool            // it is to be objects, and no run
	run        run             // nil until the rows have been routed
	runHead    buffer.RunHead  // of the run
	sizes      keySizes        // of the run
	router     Router          // of the version's scheme, nil: none
	mark       partition.Mark  // that it starts from
	reached    partition.Mark  // that it comes to
	known      map[string]bool // partitions of the epoch, where the pipeline's bound is hard
	late       int64           // rows
	routed     int64           // bytes of Data in it, but for error lines
	results    [3]int64        // what functions decided, by outcome
	routeCodes failedCodes     // of rows that did not get as far as a format
	// Of directories that get markers; nil: there are none.
	draft   *draft
	drafted bool // its note has been begun
	tried   bool // its frame has been begun
	// Of cutKey and sweepKeys.
	consumer consumer
	keys     []keyBytes

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

// launch has a job done in the background.
func (l *loop) launch(ctx context.Context, j *job) {
	ctx, cancel := context.WithCancel(ctx)
	ready := make(chan struct{})
	j.ready, j.cancel, j.err = ready, cancel, nil
	l.wg.Go(func() {
		defer l.s.wake()
		defer close(ready)
		l.work(ctx, j)
	})
}

// work is what is to be done for a job before its frame.
func (l *loop) work(ctx context.Context, j *job) {
	if j.kind == routeRows {
		switch {
		case j.run != nil: // only the encoder broke
		case len(j.pipe.Hooks) > 0:
			j.route(ctx, l.budget) // not on a worker, which would wait for the function
		default:
			if !l.workers.do(ctx, func(*worker) { j.route(ctx, nil) }) {
				j.err = ctx.Err()
			}
		}
		if j.objects = j.err == nil && j.direct(); j.err == nil && !j.objects {
			j.sealRun()
			return
		}
	}
	if j.err == nil && !l.workers.do(ctx, func(w *worker) { w.encode(ctx, j) }) {
		j.err = ctx.Err()
	}
	if j.err == nil {
		// Not on the worker: it would wait for the disk with its core idle.
		j.seal()
	}
}

// isReady tells whether the work is done.
func (j *job) isReady() bool {
	select {
	case <-j.ready:
		return true
	default:
		return false
	}
}

// seal makes the packs durable.
func (j *job) seal() {
	j.head.First, j.head.Next = j.first, j.next
	for _, p := range j.packs {
		if err := p.Seal(j.head); err != nil {
			j.err = &packError{fmt.Errorf("seal a pack: %w", err)}
			j.abortPacks()
			return
		}
	}
	if j.draft != nil {
		j.draft.Next, j.draft.Destination, j.drafted = j.next, j.pipe.Destination.ID, true
		if err := j.book.write(j.head.ID, j.draft); err != nil {
			j.err = &packError{err}
			j.abortPacks()
		}
	}
}

// abortPacks removes the packs.
func (j *job) abortPacks() {
	if j.drafted && !j.tried {
		j.book.forget(j.head.ID) // where a frame was tried it may be found at the next start
		j.drafted = false
	}
	for _, p := range j.packs {
		p.Abort()
	}
	j.packs = nil
}

// abort removes everything that was made.
func (j *job) abort() {
	j.abortPacks()
	if j.run != nil {
		j.run.Abort()
		j.run = nil
	}
}
