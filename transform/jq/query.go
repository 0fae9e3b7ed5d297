package jq

import (
	"errors"
	"fmt"

	"github.com/itchyny/gojq"
)

// Query is an expression of which each record gives one value, as partition keys are. Safe for concurrent use.
type Query struct {
	e     *expression
	path  []string
	plain bool
}

// NewQuery compiles an expression.
func NewQuery(o Options) (*Query, error) {
	e, err := compile(o.Expression, false)
	if err != nil {
		return nil, err
	}
	q := &Query{e: e}
	parsed, err := gojq.Parse(o.Expression)
	if err != nil {
		return nil, describe(o.Expression, err)
	}
	for inner := parsed; inner != nil; inner = parens(inner) {
		parsed = inner
	}
	q.path, q.plain = pathOf(parsed)
	return q, nil
}

// Path is the names of members that the expression follows, where it does nothing else: .a.b is a, b. Values on the way
// are objects or null; null or nothing gives null, and anything else is an error.
func (q *Query) Path() (names []string, ok bool) { return q.path, q.plain }

// String is the expression.
func (q *Query) String() string { return q.e.text }

var (
	errNoResult = errors.New("it has no result")
	errSeveral  = errors.New("it has more than one result")
)

// Value runs the expression on a record as Document.Value makes it, with its metadata (record.Row.Meta) if it has some, and
// returns its one result.
func (q *Query) Value(record any, meta []byte) (any, error) {
	r, err := q.e.start()
	if err != nil {
		return nil, err
	}
	defer q.e.done(r)
	results := q.e.results(r, record, meta)
	v, ok := results.Next()
	if !ok {
		return nil, errNoResult
	}
	if err, failed := v.(error); failed {
		return nil, fmt.Errorf("%s", clip(halted(err)))
	}
	if more, ok := results.Next(); ok {
		if err, failed := more.(error); failed {
			return nil, fmt.Errorf("%s", clip(halted(err)))
		}
		return nil, errSeveral
	}
	return v, nil
}
