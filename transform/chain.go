package transform

import (
	"fmt"
	"runtime/debug"
	"sync"

	"hydrant/record"
)

// Stage is a processor with its name in the configuration.
type Stage struct {
	Name      string // decompress, jq, ...
	Processor Processor
}

// Options of a Chain.
type Options struct {
	Stages []Stage // in order; none passes every row on as it is
}

// Chain runs rows through processors in order. It is immutable and safe for concurrent use; each call of Apply works
// with buffers of its own, which are bounded and pooled.
type Chain struct {
	stages []Stage
	pool   sync.Pool // of *run
}

// New returns a chain. It refuses a stage without a processor.
func New(o Options) (*Chain, error) {
	for i, s := range o.Stages {
		if s.Processor == nil {
			return nil, fmt.Errorf("transform[%d]: stage %q has no processor", i, s.Name)
		}
	}
	c := &Chain{stages: o.Stages}
	c.pool.New = func() any { return &run{chain: c} }
	return c, nil
}

// First returns a chain of s and then the processors of c, which may be nil.
func First(s Stage, c *Chain) (*Chain, error) {
	o := Options{Stages: []Stage{s}}
	if c != nil {
		o.Stages = append(o.Stages, c.stages...)
	}
	return New(o)
}

// Len is the number of processors.
func (c *Chain) Len() int { return len(c.stages) }

// Apply transforms one row and calls emit for each result, in order: once for a row that nobody takes apart, once for
// each part otherwise; a row of which nothing is left gives one Dropped. An error of emit ends it and is returned.
// Apply returns no error of its own.
func (c *Chain) Apply(row record.Row, emit func(Result) error) (Summary, error) {
	r := c.pool.Get().(*run)
	r.row, r.emit, r.raw, r.whole, r.sub, r.sum = row, emit, row.Data, true, 0, Summary{}
	r.doc.Reset(row.Data)
	r.doc.SetMeta(row.Meta)
	err := r.from(0)
	sum := r.sum
	r.row, r.emit, r.raw = record.Row{}, nil, nil
	r.parts = emptied(r.parts)
	r.doc.release()
	c.pool.Put(r)
	return sum, err
}

// emptied is parts without what they hold on to, or nil where many records' worth would be kept.
func emptied(parts []part) []part {
	if cap(parts) > 1024 {
		return nil
	}
	clear(parts[:cap(parts)])
	return parts[:0]
}

// run is one call of Apply.
type run struct {
	chain *Chain
	doc   Document
	parts []part // of all splits that are under way

	row   record.Row
	emit  func(Result) error
	raw   []byte // the data that a failure gives back
	whole bool   // it is the row's
	sub   uint32 // of the next result
	sum   Summary
}

// from runs the document through the stages from number i on.
func (r *run) from(i int) error {
	for ; i < len(r.chain.stages); i++ {
		verdict, failure := r.step(i)
		if failure == nil && verdict == Keep && r.doc.tooLarge() {
			failure = Failf("Transform", "After %s the record has more than %d bytes.", r.chain.stages[i].Name, MaxData)
		}
		switch {
		case failure != nil:
			f := *failure
			if f.Type == "" {
				f.Type = ProcessingFailed
			}
			return r.end(Result{Outcome: Failed, Failure: &f}, r.raw)
		case verdict == Drop:
			return r.end(Result{Outcome: Dropped}, nil)
		case verdict == Split:
			return r.split(i + 1)
		}
	}
	return r.end(Result{}, r.doc.Data())
}

func (r *run) end(result Result, data []byte) error {
	result.Row = record.Row{Seq: r.row.Seq, Sub: r.sub, Arrived: r.row.Arrived, Data: data, Meta: r.row.Meta}
	result.Raw, result.Whole = r.raw, r.whole
	r.sub++
	switch result.Outcome {
	case Ok:
		r.sum.Ok++
	case Dropped:
		r.sum.Dropped++
	case Failed:
		r.sum.Failed++
	}
	return r.emit(result)
}

// step calls one processor. One that breaks must not take down every stream: the record fails instead.
func (r *run) step(i int) (verdict Verdict, failure *Failure) {
	defer func() {
		if broken := recover(); broken != nil {
			failure = Failf("Panic", "The processor %s broke on this record: %v. %s", r.chain.stages[i].Name, broken, firstLines(debug.Stack()))
		}
	}()
	return r.chain.stages[i].Processor.Process(&r.doc)
}

// firstLines bounds a stack that goes into an error record.
func firstLines(stack []byte) []byte { return stack[:min(len(stack), 2048)] }

// split runs each part that the last processor left through the stages from number i on.
func (r *run) split(i int) error {
	d, first := &r.doc, len(r.parts)
	r.parts = append(r.parts, d.parts...)
	d.parts = d.parts[:0]
	n := len(r.parts)
	if n == first {
		return r.end(Result{Outcome: Dropped}, nil)
	}
	raw, whole := r.raw, r.whole
	keep := d.pin()
	var err error
	for k := first; k < n && err == nil; k++ {
		d.take(r.parts[k])
		if n > first+1 {
			r.raw, r.whole = d.Data(), false
		}
		err = r.from(i)
		d.unwind(keep)
	}
	d.unpin(keep)
	r.raw, r.whole = raw, whole
	r.parts = r.parts[:first]
	return err
}
