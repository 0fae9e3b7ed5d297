package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"hydrant/buffer"
	"hydrant/format"
	"hydrant/record"
	"hydrant/transform"
)

// checkRows is the number of rows between two looks at the context.
const checkRows = 4096

// cutting is the encoding of one job. Not safe for concurrent use.
type cutting struct {
	j      *job
	enc    format.Encoder
	errors errorOutput

	pack    pack   // nil before the first object
	open    bool   // an object takes rows
	route   int    // of the object, or of the refusal
	refusal string // why rows of this route have no object, "" where they may have one
	input   int64  // bytes of Data in the object
	object  tallied
	ok      int64 // records in ended objects
	rows    int64 // rows in ended objects
	dropped int64 // records that the configuration dropped

	prefix string // of a row that has been routed, but for its random strings
	number int    // of its key
	share  int64  // bytes of Data at which an object of its key is full, 0: none

	within *directory // of the key, where that gets a marker

	emit    func(transform.Result) error
	passed  int  // route of the record that is being transformed
	counted bool // a part of it is in an object, and it counts there
}

// encode writes the job's rows into packs, unsealed. On error nothing is left of them.
func (w *worker) encode(ctx context.Context, j *job) {
	c := &cutting{j: j, enc: w.encoder(j.pipe), errors: errorOutput{j: j, line: w.line}}
	c.emit = c.result
	run := c.byKey
	j.codes, j.input, j.output, j.draft = append(j.codes[:0], j.routeCodes...), 0, 0, nil
	if j.kind == cutRange {
		run, j.raw = c.run, 0
	}
	err := run(ctx)
	if err == nil && c.pack != nil && c.rows == 0 {
		// Not one row fitted: there is nothing to deliver.
		c.pack.Abort()
		c.pack = nil
	}
	if cap(c.errors.line) <= maxKeptErrorBuf {
		w.line = c.errors.line
	}
	if _, broke := errors.AsType[*encoderPanic](err); broke {
		w.forget(j.pipe) // not even a Reset: outside of append and close a panic ends the process
	} else {
		c.enc.Reset(io.Discard) // until its next Reset an encoder may hold on to the pack
	}
	if err != nil {
		j.err = err
		if c.pack != nil {
			c.pack.Abort()
		}
		c.errors.abort()
		return
	}
	j.err = nil
	j.packs = j.packs[:0]
	for _, p := range []pack{c.pack, c.errors.pack} {
		if p != nil {
			j.packs = append(j.packs, p)
		}
	}
	j.head.Watermark = j.runHead.Watermark
	j.head.Counts = buffer.Counts{OK: c.ok, Dropped: c.dropped + j.runHead.Counts.Dropped, Failed: c.errors.total}
}

func (c *cutting) run(ctx context.Context) error {
	passes := 1
	if c.j.scattered {
		passes = c.j.routes
	}
	for pass := range passes {
		if err := c.pass(ctx, pass); err != nil {
			return err
		}
		if err := c.end(); err != nil {
			return err
		}
		if pass == passes-1 {
			c.j.reach = c.j.next
		}
		// Each walk has error objects of its own: in an object rows are in the order of their sequences.
		if err := c.errors.end(); err != nil {
			return err
		}
	}
	return nil
}

// pass writes the rows in one walk over the claim: all of them, or those of one route where the rows of
// routes lie scattered and an object for each piece would be too many.
func (c *cutting) pass(ctx context.Context, pass int) error {
	j := c.j
	segs, at := j.segs, 0
	rows := 0
	for row := range j.claim.Rows() {
		for at+1 < len(segs) && segs[at+1].first <= row.Seq {
			at++
		}
		route := segs[at].route
		if j.scattered && route != pass {
			continue
		}
		j.reach = row.Seq
		if rows++; rows%checkRows == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		j.raw += int64(len(row.Data))
		c.counted = false
		message, poisoned := "", false
		if j.poison != nil {
			message, poisoned = j.poison[row.Seq]
		}
		var err error
		switch {
		case j.pipe.Transform == nil || poisoned: // nothing of a record that broke the encoder is delivered
			err = c.put(row, route, poisoned, message)
		default:
			c.passed = route
			var sum transform.Summary
			sum, err = j.pipe.Transform.Apply(row, c.emit)
			if sum.Ok+sum.Failed == 0 {
				c.dropped++
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// result takes what the transform made of a record, or of a part of it.
func (c *cutting) result(r transform.Result) error {
	switch r.Outcome {
	case transform.Ok:
		return c.put(r.Row, c.passed, false, "")
	case transform.Failed:
		return c.refuse(r.Failure.Type, r.Row, r.Failure.Code, r.Failure.Message)
	}
	return nil
}

// put writes a row into the object of its route, or to the error output where it does not fit. A record that was taken
// apart counts once, where the first of its rows is.
func (c *cutting) put(row record.Row, route int, poisoned bool, message string) error {
	if (!c.open && c.refusal == "") || route != c.route || c.full(row) {
		if err := c.begin(row, route); err != nil {
			return err
		}
	}
	switch {
	case c.refusal != "":
		return c.refuse(metadataExtractionFailed, row, codeObjectKey, c.refusal)
	case poisoned:
		return c.refuse(formatConversionFailed, row, codeEncoderBug, message)
	}
	err := c.append(row)
	if errors.Is(err, format.ErrFull) {
		if err := c.begin(row, route); err != nil {
			return err
		}
		err = c.append(row)
	}
	if err == nil {
		c.input += int64(len(row.Data))
		c.object.add(row, !c.counted)
		c.counted = true
		return nil
	}
	if misfit, ok := errors.AsType[*format.RowError](err); ok {
		return c.refuse(cmp.Or(misfit.Type, formatConversionFailed), row, misfit.Code, misfit.Message)
	}
	return err
}

// refuse writes a row to the error output.
func (c *cutting) refuse(errorType string, row record.Row, code, message string) error {
	err := c.errors.add(errorType, row, code, message, !c.counted)
	if c.within != nil && !c.counted {
		c.within.Failed++
	}
	c.counted = true
	if c.j.refused != nil {
		c.j.refused(errorType, row, code, message)
	}
	return err
}

// append gives one row to the encoder. A panic in there must not take down every other stream: it becomes
// an error that names the row.
func (c *cutting) append(row record.Row) (err error) {
	defer func() {
		if broken := recover(); broken != nil {
			err = &encoderPanic{seq: row.Seq, value: broken, stack: debug.Stack()}
		}
	}()
	if err = c.enc.Append(row); err != nil {
		if _, ok := errors.AsType[*format.RowError](err); !ok && !errors.Is(err, format.ErrFull) {
			err = &packError{fmt.Errorf("encode: %w", err)}
		}
	}
	return err
}

// full tells whether the open object has no room for the row. The loop has claimed what one object of a
// route may hold, so this matters only where the estimate of written bytes was far too low.
func (c *cutting) full(row record.Row) bool {
	if !c.open || c.object.rows == 0 {
		return false
	}
	if c.share > 0 {
		return c.input >= c.share
	}
	if c.j.limit > 0 {
		return c.input+int64(len(row.Data)) > c.j.limit
	}
	// A quarter more is better than a small object after it. The estimate is not asked for each row.
	f := c.j.pipe.FileSize
	return f > 0 && c.object.rows%64 == 0 && c.enc.Buffered() >= f+f/4
}

// begin ends the open object and starts one for the route of row, whose first record row is.
func (c *cutting) begin(row record.Row, route int) error {
	if err := c.end(); err != nil {
		return err
	}
	j := c.j
	c.route, c.refusal = route, ""
	var key string
	var err error
	if j.kind == cutRange {
		key, err = j.pipe.dataKey(j.name, j.version, row.Arrived)
	} else {
		key, err = j.pipe.routedKey(c.prefix, j.name, j.version, row.Arrived)
	}
	if err != nil {
		c.refusal = err.Error()
		return nil
	}
	if c.pack == nil {
		if c.pack, err = j.store.NewPack(); err != nil {
			return &packError{fmt.Errorf("start a pack: %w", err)}
		}
	}
	head := j.pipe.dataHead(key)
	w, err := c.pack.Begin(head)
	if err != nil {
		return &packError{fmt.Errorf("begin %q: %w", key, err)}
	}
	announce(c.enc, head)
	c.enc.Reset(w)
	c.open, c.input, c.object = true, 0, tallied{}
	return nil
}

// end closes the open object; one that no row fitted into is forgotten.
func (c *cutting) end() error {
	if !c.open {
		return nil
	}
	c.open = false
	if c.object.rows == 0 {
		if err := c.pack.Drop(); err != nil {
			return &packError{fmt.Errorf("drop an empty object: %w", err)}
		}
		return nil
	}
	stats, err := c.close()
	if err != nil {
		return err
	}
	if err := c.pack.End(c.object.records, c.object.firstSeq, c.object.oldest); err != nil {
		return &packError{fmt.Errorf("end an object: %w", err)}
	}
	c.ok += c.object.records
	c.rows += c.object.rows
	c.j.input += c.input
	c.j.output += stats.Bytes
	return nil
}

func (c *cutting) close() (stats format.Stats, err error) {
	defer func() {
		if broken := recover(); broken != nil {
			err = &encoderPanic{value: broken, stack: debug.Stack()}
		}
	}()
	if stats, err = c.enc.Close(); err != nil {
		err = &packError{fmt.Errorf("finish an object: %w", err)}
	}
	return stats, err
}
