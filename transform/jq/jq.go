// Package jq edits and filters JSON records with jq expressions, as gojq understands them.
//
// Records flow in and out; nothing is kept. An expression is compiled once. The commonest shapes (a path, a comparison, an
// assignment of a literal, del) are done on the document itself and agree with gojq to the byte; everything else gets the
// record as Go values, and what comes back is merged into the document, so that what did not change keeps its text.
//
// What the source of a stream knows of a record beside its data is in variables: $key, $headers and others (meta.go).
//
// An expression cannot stop a stream: steps, time, memory and depth are bounded for each record.
package jq

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/itchyny/gojq"

	"hydrant/transform"
)

// MaxExpression bounds an expression's text in bytes.
const MaxExpression = 32 << 10

// expression is a compiled expression. Safe for concurrent use.
type expression struct {
	text  string
	fast  *fast     // nil where the shape has none
	asks  bool      // it may use variables
	runs  sync.Pool // of *run
	build func() (*run, error)
}

// run is a program with the budget that its calls charge. Not safe for concurrent use.
type run struct {
	code   *gojq.Code
	budget *budget
}

func compile(text string, filter bool) (*expression, error) {
	if len(text) > MaxExpression {
		return nil, fmt.Errorf("the expression has %d bytes, at most %d are taken", len(text), MaxExpression)
	}
	q, err := gojq.Parse(text)
	if err != nil {
		return nil, describe(text, err)
	}
	e := &expression{text: text, asks: asks(text)}
	if filter {
		e.fast = fastFilter(q)
	} else {
		e.fast = fastEdit(q)
	}
	if err := guard(q); err != nil {
		return nil, err
	}
	e.build = func() (*run, error) {
		b := &budget{}
		options := b.options()
		if e.asks {
			options = append(options, gojq.WithVariables(variables))
		}
		code, err := gojq.Compile(q, options...)
		if err != nil {
			return nil, err
		}
		return &run{code: code, budget: b}, nil
	}
	first, err := e.build()
	if err != nil {
		return nil, err
	}
	e.runs.Put(first)
	return e, nil
}

// describe tells where an expression is wrong.
func describe(text string, err error) error {
	var at *gojq.ParseError
	if errors.As(err, &at) {
		if at.Token == "" {
			return fmt.Errorf("the expression ends too early")
		}
		return fmt.Errorf("%w, at character %d", err, len([]rune(text[:min(at.Offset, len(text))]))-len([]rune(at.Token))+1)
	}
	return err
}

// start begins a run on a value. The caller gives it back with done.
func (e *expression) start() (*run, error) {
	r, ok := e.runs.Get().(*run)
	if !ok {
		var err error
		if r, err = e.build(); err != nil {
			return nil, err
		}
	}
	r.budget.reset()
	return r, nil
}

func (e *expression) done(r *run) { e.runs.Put(r) }

// results of a run on a value, which came with this metadata.
func (e *expression) results(r *run, v any, meta []byte) gojq.Iter {
	if !e.asks {
		return r.code.RunWithContext(r.budget, v)
	}
	return r.code.RunWithContext(r.budget, v, valuesOf(meta)...)
}

// JQ is the processor jq.
type JQ struct{ e *expression }

// Filter is the processor filter.
type Filter struct{ e *expression }

var (
	_ transform.Processor = (*JQ)(nil)
	_ transform.Processor = (*Filter)(nil)
)

// Options of a JQ or a Filter.
type Options struct {
	Expression string // required
}

// New compiles an expression that makes the record anew. With one result the record is that, with none (empty) it is
// dropped, and with several each is a record of its own.
func New(o Options) (*JQ, error) {
	e, err := compile(o.Expression, false)
	if err != nil {
		return nil, err
	}
	return &JQ{e}, nil
}

// NewFilter compiles a condition. A record stays, byte for byte, when it has at least one result and that is neither null
// nor false; it is dropped otherwise.
func NewFilter(o Options) (*Filter, error) {
	e, err := compile(o.Expression, true)
	if err != nil {
		return nil, err
	}
	return &Filter{e}, nil
}

const (
	nameJQ     = "Jq"
	nameFilter = "Filter"
	notJSON    = "The record is not one JSON value: %v."
	noResult   = "The expression failed on this record: %v."
)

// Process runs the expression on the record.
func (p *JQ) Process(d *transform.Document) (transform.Verdict, *transform.Failure) {
	root, err := d.Root()
	if err != nil {
		return 0, transform.Failf(nameJQ, notJSON, err)
	}
	if p.e.fast != nil {
		if verdict, ok := p.e.fast.edit(d, root); ok {
			return verdict, nil
		}
	}
	verdict, err := p.slow(d, root)
	if err != nil {
		return 0, transform.Failf(nameJQ, noResult, clip(err))
	}
	return verdict, nil
}

func (p *JQ) slow(d *transform.Document, root transform.Ref) (transform.Verdict, error) {
	r, err := p.e.start()
	if err != nil {
		return 0, err
	}
	defer p.e.done(r)
	results := p.e.results(r, d.Value(root), d.Meta())
	first, ok := results.Next()
	if !ok {
		return transform.Drop, nil
	}
	if err, failed := first.(error); failed {
		return 0, halted(err)
	}
	second, more := results.Next()
	if !more {
		m := merger{d: d}
		v, err := m.merge(root, first, 1)
		if err != nil {
			return 0, err
		}
		d.SetRoot(v)
		return transform.Keep, nil
	}
	return p.several(d, results, first, second)
}

// several writes each result and makes it a part. All are found before the first is passed on.
func (p *JQ) several(d *transform.Document, results gojq.Iter, next ...any) (transform.Verdict, error) {
	m := merger{d: d}
	out := d.Scratch()
	var ends []int
	for {
		var v any
		if len(next) > 0 {
			v, next = next[0], next[1:]
		} else {
			var ok bool
			if v, ok = results.Next(); !ok {
				break
			}
		}
		if err, failed := v.(error); failed {
			return 0, halted(err)
		}
		made, err := m.build(v, 1)
		if err != nil {
			return 0, err
		}
		if len(ends) == MaxResults {
			return 0, fmt.Errorf("it has more than %d results", MaxResults)
		}
		out = d.JSON(out, made)
		ends = append(ends, len(out))
	}
	d.SetOwned(out)
	at := 0
	for _, end := range ends {
		d.AddPartData(out[at:end:end])
		at = end
	}
	return transform.Split, nil
}

// MaxResults is how many records an expression may make of one.
const MaxResults = 10_000

// halted makes halt and halt_error, which end the program jq, failures like others.
func halted(err error) error {
	var h *gojq.HaltError
	if errors.As(err, &h) {
		return fmt.Errorf("it halted with %v", h.Value())
	}
	return err
}

// maxMessage bounds what an expression can put into the reason of a failure, in bytes.
const maxMessage = 1000

// clip is the error's text, which error(…) can make as large as the record.
func clip(err error) string {
	text := err.Error()
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "..."
	}
	return text
}

// Process decides about the record.
func (p *Filter) Process(d *transform.Document) (transform.Verdict, *transform.Failure) {
	root, err := d.Root()
	if err != nil {
		return 0, transform.Failf(nameFilter, notJSON, err)
	}
	verdict := func(keep bool) transform.Verdict {
		if keep {
			return transform.Keep
		}
		return transform.Drop
	}
	if p.e.fast != nil {
		if keep, ok := p.e.fast.test(d, root); ok {
			return verdict(keep), nil
		}
	}
	keep, err := p.slow(d, root)
	if err != nil {
		return 0, transform.Failf(nameFilter, noResult, clip(err))
	}
	return verdict(keep), nil
}

func (p *Filter) slow(d *transform.Document, root transform.Ref) (keep bool, err error) {
	r, err := p.e.start()
	if err != nil {
		return false, err
	}
	defer p.e.done(r)
	results := p.e.results(r, d.Value(root), d.Meta())
	for {
		v, ok := results.Next()
		if !ok {
			return false, nil
		}
		if err, failed := v.(error); failed {
			return false, halted(err)
		}
		if v != nil && v != false {
			return true, nil
		}
	}
}
