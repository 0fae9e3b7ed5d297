package jq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/itchyny/gojq"
)

// One expression must not stop a stream, whatever records it meets. Four bounds hold for each record:
//
//   - steps of the interpreter, which asks its context at each: the context counts;
//   - time, for what takes long within a step;
//   - memory: each expression that can make a value larger than those it is made of is wrapped in a call that measures
//     what came out and adds it up, and the few builtins that make much out of a number look at the number first;
//   - depth, since values are walked recursively.
const (
	maxSteps   = 1_000_000
	maxTime    = 5 * time.Second
	maxCreated = 64 << 20
	maxDepth   = 10_000
	maxIndex   = 1 << 20   // elements that an index can make an array have
	maxText    = 256 << 10 // bytes of a text in which all matches of a regular expression are looked for
	maxBits    = 1 << 16   // of a product of integers
	nodeBytes  = 16        // what a value counts beside its text
)

var (
	errSteps   = fmt.Errorf("it took more than %d steps", maxSteps)
	errTime    = fmt.Errorf("it took more than %s", maxTime)
	errCreated = fmt.Errorf("it made values of more than %d bytes", maxCreated)
	errDeep    = fmt.Errorf("it made a value nested deeper than %d levels", maxDepth)
)

// budget is what an expression may use up for one record. It is the context of the run.
type budget struct {
	context.Context
	steps   int
	began   time.Time
	created int
	err     error // of a bound that was reached
}

var ended = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (b *budget) reset() { *b = budget{Context: context.Background(), began: time.Now()} }

// Done is asked at each step.
func (b *budget) Done() <-chan struct{} {
	b.steps++
	switch {
	case b.err != nil:
		return ended
	case b.steps > maxSteps:
		b.err = errSteps
		return ended
	case b.steps&63 == 0 && time.Since(b.began) > maxTime:
		b.err = errTime
		return ended
	}
	return nil
}

func (b *budget) Err() error { return b.err }

// spend counts n bytes.
func (b *budget) spend(n int) error {
	if b.err == nil {
		if b.created += n; b.created > maxCreated {
			b.err = errCreated
		}
	}
	return b.err
}

// measure counts a value.
func (b *budget) measure(v any, depth int) error {
	if depth > maxDepth {
		b.err = errDeep
	}
	switch v := v.(type) {
	case string:
		return b.spend(nodeBytes + len(v))
	case json.Number:
		return b.spend(nodeBytes + len(v))
	case *big.Int:
		return b.spend(nodeBytes + v.BitLen()/8)
	case []any:
		if err := b.spend(nodeBytes); err != nil {
			return err
		}
		for _, e := range v {
			if err := b.measure(e, depth+1); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		if err := b.spend(nodeBytes); err != nil {
			return err
		}
		for k, e := range v {
			if err := b.spend(len(k)); err != nil {
				return err
			}
			if err := b.measure(e, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return b.spend(nodeBytes)
}

// Names of the calls that guard puts into expressions. No expression may use them itself.
const (
	reserved  = "_hydrant_"
	callBound = reserved + "bound"
	callIndex = reserved + "index"
	callPath  = reserved + "path"
	callTimes = reserved + "times"
	callSides = reserved + "sides"
	callText  = reserved + "text"
	reservedY = "$" + reserved + "y"
)

// options are these calls, with b as what they charge.
func (b *budget) options() []gojq.CompilerOption {
	return []gojq.CompilerOption{
		gojq.WithFunction(callBound, 0, 0, func(v any, _ []any) any {
			switch v.(type) { // cannot have grown
			case nil, bool, int, float64:
				return v
			}
			if err := b.measure(v, 0); err != nil {
				return err
			}
			return v
		}),
		gojq.WithFunction(callIndex, 0, 0, func(v any, _ []any) any {
			if err := checkIndex(v); err != nil {
				return err
			}
			return v
		}),
		gojq.WithFunction(callPath, 0, 0, func(v any, _ []any) any {
			if path, ok := v.([]any); ok {
				for _, p := range path {
					if err := checkIndex(p); err != nil {
						return err
					}
				}
			}
			return v
		}),
		gojq.WithFunction(callTimes, 2, 2, func(_ any, a []any) any { return b.times(a[0], a[1]) }),
		gojq.WithFunction(callText, 0, 0, func(v any, _ []any) any {
			if s, ok := v.(string); ok && len(s) > maxText {
				return fmt.Errorf("a text of more than %d bytes is too long to look for every match in it", maxText)
			}
			return v
		}),
		gojq.WithFunction(callSides, 0, 0, func(v any, _ []any) any {
			if rows, ok := v.([]any); ok {
				longest := 0
				for _, r := range rows {
					if row, ok := r.([]any); ok {
						longest = max(longest, len(row))
					}
				}
				if longest*len(rows) > maxIndex {
					return fmt.Errorf("transpose would make more than %d values", maxIndex)
				}
			}
			return v
		}),
	}
}

func checkIndex(v any) error {
	switch v.(type) {
	case int, float64, *big.Int, json.Number:
		if i, ok := gojq.ToInt(v); ok && i > maxIndex {
			return fmt.Errorf("an index is above %d", maxIndex)
		}
	}
	return nil
}

// multiply is jq's own multiplication, for what times does not do itself.
var multiply = func() *gojq.Code {
	q, err := gojq.Parse("$l * $r")
	if err != nil {
		panic("bug: " + err.Error())
	}
	code, err := gojq.Compile(q, gojq.WithVariables([]string{"$l", "$r"}))
	if err != nil {
		panic("bug: " + err.Error())
	}
	return code
}()

// times is l * r; a text that is repeated is measured before it is made.
func (b *budget) times(l, r any) any {
	if x, ok := smallInt(l); ok {
		if y, ok := smallInt(r); ok {
			return x * y
		}
	}
	for _, pair := range [2][2]any{{l, r}, {r, l}} {
		if s, ok := pair[0].(string); ok {
			if n, ok := gojq.ToFloat64(pair[1]); ok && n > 0 && float64(len(s))*math.Max(n, 1) > maxCreated {
				b.err = errCreated
				return b.err
			}
		}
	}
	if integerBits(l)+integerBits(r) > maxBits {
		return fmt.Errorf("a product would have more than %d bits", maxBits)
	}
	v, ok := multiply.Run(nil, l, r).Next()
	if !ok {
		return errors.New("a product has no value")
	}
	if _, failed := v.(error); !failed {
		if err := b.measure(v, 0); err != nil {
			return err
		}
	}
	return v
}

// integerBits is how many bits an integer has, about; 0 for what is none.
func integerBits(v any) int {
	switch v := v.(type) {
	case *big.Int:
		return v.BitLen()
	case json.Number:
		return len(v) * 4
	}
	return 0
}

// smallInt takes integers whose products fit.
func smallInt(v any) (int, bool) {
	const most = 1 << 31
	switch v := v.(type) {
	case int:
		return v, v > -most && v < most
	case json.Number:
		if n, err := strconv.ParseInt(string(v), 10, 32); err == nil {
			return int(n), true
		}
	}
	return 0, false
}

// guard rewrites an expression so that it is bounded. It returns an error for names that are not free.
func guard(q *gojq.Query) (err error) {
	defer func() {
		if r := recover(); r != nil {
			name, ok := r.(reservedName)
			if !ok {
				panic(r)
			}
			err = fmt.Errorf("the name %s is Hydrant's own", string(name))
		}
	}()
	guardQuery(q)
	return nil
}

type reservedName string

func checkName(name string) {
	if strings.HasPrefix(strings.TrimPrefix(name, "$"), reserved) {
		panic(reservedName(name))
	}
}

func call(name string, args ...*gojq.Query) *gojq.Query {
	return &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeFunc, Func: &gojq.Func{Name: name, Args: args}}}
}

// through is q | name.
func through(q *gojq.Query, name string) *gojq.Query {
	return &gojq.Query{Left: q, Op: gojq.OpPipe, Right: call(name)}
}

func inParens(q *gojq.Query) *gojq.Query {
	return &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeQuery, Query: q}}
}

// grows are builtins that make more than they are given.
var grows = map[string]bool{
	"add": true, "ascii": true, "captures": true, "combinations": true, "explode": true, "flatten": true, "format": true, "from_entries": true,
	"gsub": true, "implode": true, "join": true, "map": true, "setpath": true, "split": true, "sub": true, "to_entries": true, "tojson": true,
	"tostring": true, "tostream": true, "transpose": true, "walk": true, "with_entries": true, "fromstream": true,
}

// matches are builtins that make a value for each match of a regular expression.
var matches = map[string]bool{"capture": true, "gsub": true, "match": true, "scan": true, "split": true, "splits": true, "sub": true}

// after is (name | t), with the suffixes of t.
func after(name string, t *gojq.Term) gojq.Term {
	inner := *t
	inner.SuffixList = nil
	return gojq.Term{Type: gojq.TermTypeQuery, SuffixList: t.SuffixList, Query: &gojq.Query{Left: call(name), Op: gojq.OpPipe, Right: &gojq.Query{Term: &inner}}}
}

func guardQuery(q *gojq.Query) {
	if q == nil {
		return
	}
	for _, f := range q.FuncDefs {
		checkName(f.Name)
		for _, a := range f.Args {
			checkName(a)
		}
		guardQuery(f.Body)
	}
	for _, p := range q.Patterns {
		guardPattern(p)
	}
	guardQuery(q.Left)
	guardQuery(q.Right)
	if q.Term != nil {
		guardTerm(q.Term)
		return
	}
	defs := q.FuncDefs
	switch q.Op {
	case gojq.OpAdd:
		*q = *through(inParens(&gojq.Query{Left: q.Left, Op: q.Op, Right: q.Right}), callBound)
	case gojq.OpMul:
		*q = *call(callTimes, q.Left, q.Right)
	case gojq.OpUpdateMul:
		product := call(callTimes, &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeIdentity}}, call(reservedY))
		*q = *through(inParens(&gojq.Query{Left: q.Right, Op: gojq.OpPipe, Patterns: []*gojq.Pattern{{Name: reservedY}},
			Right: &gojq.Query{Left: q.Left, Op: gojq.OpModify, Right: product}}), callBound)
	case gojq.OpAssign, gojq.OpModify, gojq.OpUpdateAdd, gojq.OpUpdateSub, gojq.OpUpdateDiv, gojq.OpUpdateMod, gojq.OpUpdateAlt:
		*q = *through(inParens(&gojq.Query{Left: q.Left, Op: q.Op, Right: q.Right}), callBound)
	default:
		return
	}
	q.FuncDefs = defs
}

func guardPattern(p *gojq.Pattern) {
	if p == nil {
		return
	}
	checkName(p.Name)
	for _, a := range p.Array {
		guardPattern(a)
	}
	for _, o := range p.Object {
		checkName(o.Key)
		guardString(o.KeyString)
		guardQuery(o.KeyQuery)
		guardPattern(o.Val)
	}
}

func guardString(s *gojq.String) {
	if s == nil {
		return
	}
	for _, q := range s.Queries {
		guardQuery(q)
	}
}

func guardIndex(i *gojq.Index) {
	if i == nil {
		return
	}
	guardString(i.Str)
	for _, at := range []**gojq.Query{&i.Start, &i.End} {
		if *at != nil {
			guardQuery(*at)
			if !literal(*at) {
				*at = through(inParens(*at), callIndex)
			}
		}
	}
}

// literal tells whether q is a number small enough for an index, or a text.
func literal(q *gojq.Query) bool {
	t := q.Term
	if t == nil || len(t.SuffixList) > 0 || len(q.FuncDefs) > 0 {
		return false
	}
	switch t.Type {
	case gojq.TermTypeNumber:
		n, err := strconv.Atoi(t.Number)
		return err == nil && n <= maxIndex
	case gojq.TermTypeString:
		return t.Str != nil && t.Str.Queries == nil
	}
	return false
}

func guardTerm(t *gojq.Term) {
	guardIndex(t.Index)
	for _, s := range t.SuffixList {
		guardIndex(s.Index)
	}
	bound := false
	switch t.Type {
	case gojq.TermTypeFunc:
		f := t.Func
		checkName(f.Name)
		for _, a := range f.Args {
			guardQuery(a)
		}
		switch {
		case f.Name == "setpath" && len(f.Args) == 2:
			f.Args[0] = through(inParens(f.Args[0]), callPath)
		case f.Name == "transpose" && len(f.Args) == 0:
			*t = after(callSides, t)
		case matches[f.Name] && len(f.Args) > 0:
			*t = after(callText, t)
		}
		bound = grows[f.Name]
	case gojq.TermTypeObject:
		for _, kv := range t.Object.KeyVals {
			checkName(kv.Key)
			guardString(kv.KeyString)
			guardQuery(kv.KeyQuery)
			guardQuery(kv.Val)
		}
		bound = true
	case gojq.TermTypeArray:
		guardQuery(t.Array.Query)
		bound = t.Array.Query != nil
	case gojq.TermTypeUnary:
		guardTerm(t.Unary.Term)
	case gojq.TermTypeFormat:
		guardString(t.Str)
		bound = true
	case gojq.TermTypeString:
		guardString(t.Str)
		bound = t.Str.Queries != nil
	case gojq.TermTypeIf:
		guardQuery(t.If.Cond)
		guardQuery(t.If.Then)
		guardQuery(t.If.Else)
		for _, e := range t.If.Elif {
			guardQuery(e.Cond)
			guardQuery(e.Then)
		}
	case gojq.TermTypeTry:
		guardQuery(t.Try.Body)
		guardQuery(t.Try.Catch)
	case gojq.TermTypeReduce:
		guardQuery(t.Reduce.Query)
		for _, p := range t.Reduce.Patterns {
			guardPattern(p)
		}
		guardQuery(t.Reduce.Start)
		guardQuery(t.Reduce.Update)
	case gojq.TermTypeForeach:
		guardQuery(t.Foreach.Query)
		for _, p := range t.Foreach.Patterns {
			guardPattern(p)
		}
		guardQuery(t.Foreach.Start)
		guardQuery(t.Foreach.Update)
		guardQuery(t.Foreach.Extract)
	case gojq.TermTypeLabel:
		guardQuery(t.Label.Body)
	case gojq.TermTypeQuery:
		guardQuery(t.Query)
	}
	if bound {
		inner := *t
		inner.SuffixList = nil
		*t = gojq.Term{Type: gojq.TermTypeQuery, SuffixList: t.SuffixList, Query: through(&gojq.Query{Term: &inner}, callBound)}
	}
}
