package jq

import (
	"bytes"
	"math"
	"strconv"

	"github.com/itchyny/gojq"

	"hydrant/transform"
)

// fast is an expression of a common shape, done on the document. Where a record is not as the shape expects it (a path
// leads through a text, a number has 20 digits), it does nothing, and gojq has its say, errors included.
type fast struct {
	conditions []condition // select(…) at the front, or the filter
	edits      []edit
	path       []string // the result, where it is a value of the record
	hasPath    bool
}

// edit is one assignment or deletion.
type edit struct {
	path   []string
	remove bool
	text   bool      // |= tostring
	value  *constant // = literal
}

// constant is a scalar that an expression spells out.
type constant struct {
	kind transform.Kind
	text string  // of a string; otherwise its JSON
	utf8 []byte  // text again, to compare with
	num  float64 // of a number
}

// condition is a node of a condition. Its value is true, false or unknown.
type condition struct {
	op          gojq.Operator // And, Or, a comparison; 0: the truth of left
	not         bool          // | not
	a, b        *condition    // of And and Or
	left, right operand
}

// operand is a path or a literal.
type operand struct {
	path []string
	lit  *constant
}

// fastFilter is the fast form of a condition, or nil.
func fastFilter(q *gojq.Query) *fast {
	c, ok := conditionOf(q)
	if !ok {
		return nil
	}
	return &fast{conditions: []condition{c}}
}

// fastEdit is the fast form of an expression, or nil: any number of selects, then either a path or edits of places that
// have nothing to do with each other.
func fastEdit(q *gojq.Query) *fast {
	f := &fast{}
	for _, part := range pipeline(q, nil) {
		if arg := argument(part, "select"); arg != nil && len(f.edits) == 0 && !f.hasPath {
			c, ok := conditionOf(arg)
			if !ok {
				return nil
			}
			f.conditions = append(f.conditions, c)
			continue
		}
		if path, ok := pathOf(part); ok && len(f.edits) == 0 {
			if len(path) > 0 {
				f.path, f.hasPath = append(f.path, path...), true
			}
			continue
		}
		if f.hasPath || !f.addEdits(part) {
			return nil
		}
	}
	for i, a := range f.edits {
		for _, b := range f.edits[:i] {
			if within(a.path, b.path) || within(b.path, a.path) {
				return nil
			}
		}
	}
	return f
}

// pipeline takes a | b | c apart.
func pipeline(q *gojq.Query, parts []*gojq.Query) []*gojq.Query {
	if q.Op == gojq.OpPipe && len(q.Patterns) == 0 && len(q.FuncDefs) == 0 && q.Term == nil {
		return pipeline(q.Right, pipeline(q.Left, parts))
	}
	if inner := parens(q); inner != nil {
		return pipeline(inner, parts)
	}
	return append(parts, q)
}

// parens is the inside of (…), or nil.
func parens(q *gojq.Query) *gojq.Query {
	if q.Term != nil && q.Term.Type == gojq.TermTypeQuery && len(q.Term.SuffixList) == 0 && len(q.FuncDefs) == 0 {
		return q.Term.Query
	}
	return nil
}

// within tells whether path is outer or inside of it.
func within(path, outer []string) bool {
	if len(path) < len(outer) {
		return false
	}
	for i, s := range outer {
		if path[i] != s {
			return false
		}
	}
	return true
}

func (f *fast) addEdits(q *gojq.Query) bool {
	if q.Term == nil && len(q.FuncDefs) == 0 && q.Left != nil {
		path, ok := pathOf(q.Left)
		if !ok || len(path) == 0 {
			return false
		}
		switch q.Op {
		case gojq.OpAssign:
			value, ok := literalOf(q.Right)
			if !ok || value.kind == transform.Number && !plainInt([]byte(value.text)) { // jq writes other numbers its own way
				return false
			}
			f.edits = append(f.edits, edit{path: path, value: value})
			return true
		case gojq.OpModify:
			if !isCall(q.Right, "tostring") {
				return false
			}
			f.edits = append(f.edits, edit{path: path, text: true})
			return true
		}
		return false
	}
	arg := argument(q, "del")
	if arg == nil {
		return false
	}
	for {
		last := arg
		if arg.Op == gojq.OpComma && arg.Term == nil && len(arg.FuncDefs) == 0 {
			last, arg = arg.Right, arg.Left
		} else {
			arg = nil
		}
		path, ok := pathOf(last)
		if !ok || len(path) == 0 {
			return false
		}
		f.edits = append(f.edits, edit{path: path, remove: true})
		if arg == nil {
			return true
		}
	}
}

// argument is x of a call name(x), or nil.
func argument(q *gojq.Query, name string) *gojq.Query {
	t := q.Term
	if t == nil || t.Type != gojq.TermTypeFunc || len(t.SuffixList) > 0 || len(q.FuncDefs) > 0 || t.Func.Name != name || len(t.Func.Args) != 1 {
		return nil
	}
	return t.Func.Args[0]
}

func isCall(q *gojq.Query, name string) bool {
	t := q.Term
	return t != nil && t.Type == gojq.TermTypeFunc && len(t.SuffixList) == 0 && len(q.FuncDefs) == 0 && t.Func.Name == name && len(t.Func.Args) == 0
}

// pathOf takes `.`, `.a`, `.a.b`, `."a"`.
func pathOf(q *gojq.Query) (path []string, ok bool) {
	t := q.Term
	if t == nil || len(q.FuncDefs) > 0 {
		return nil, false
	}
	name := func(i *gojq.Index) bool {
		switch {
		case i == nil || i.IsSlice || i.End != nil || i.Start != nil:
			return false
		case i.Str != nil:
			if i.Str.Queries != nil {
				return false
			}
			path = append(path, i.Str.Str)
		default:
			path = append(path, i.Name)
		}
		return true
	}
	switch t.Type {
	case gojq.TermTypeIdentity:
	case gojq.TermTypeIndex:
		if !name(t.Index) {
			return nil, false
		}
	default:
		return nil, false
	}
	for _, s := range t.SuffixList {
		if s.Iter || s.Optional || !name(s.Index) {
			return nil, false
		}
	}
	return path, true
}

func literalOf(q *gojq.Query) (*constant, bool) {
	t := q.Term
	if t == nil || len(t.SuffixList) > 0 || len(q.FuncDefs) > 0 {
		return nil, false
	}
	number := func(sign, text string) (*constant, bool) {
		n, ok := exact([]byte(sign + text))
		if !ok {
			return nil, false
		}
		return &constant{kind: transform.Number, text: sign + text, num: n}, true
	}
	switch t.Type {
	case gojq.TermTypeNull:
		return &constant{kind: transform.Null, text: "null"}, true
	case gojq.TermTypeTrue:
		return &constant{kind: transform.True, text: "true"}, true
	case gojq.TermTypeFalse:
		return &constant{kind: transform.False, text: "false"}, true
	case gojq.TermTypeString:
		if t.Str.Queries == nil {
			return &constant{kind: transform.String, text: t.Str.Str, utf8: []byte(t.Str.Str)}, true
		}
	case gojq.TermTypeNumber:
		return number("", t.Number)
	case gojq.TermTypeUnary:
		if u := t.Unary; u.Op == gojq.OpSub && u.Term.Type == gojq.TermTypeNumber && len(u.Term.SuffixList) == 0 && u.Term.Number != "0" {
			return number("-", u.Term.Number)
		}
	}
	return nil, false
}

// plainInt tells whether a number is an integer of at most 15 digits as everybody writes it.
func plainInt(text []byte) bool {
	digits := bytes.TrimPrefix(text, []byte("-"))
	if len(digits) == 0 || len(digits) > 15 || digits[0] == '0' && len(text) > 1 {
		return false
	}
	for _, c := range digits {
		if c-'0' > 9 {
			return false
		}
	}
	return true
}

// exact is the value by which gojq compares a number, where a float64 holds it.
func exact(text []byte) (float64, bool) {
	if plainInt(text) {
		n, err := strconv.ParseInt(string(text), 10, 64)
		return float64(n), err == nil
	}
	if !bytes.ContainsAny(text, ".eE") {
		return 0, false
	}
	n, err := strconv.ParseFloat(string(text), 64)
	return n, err == nil && !math.IsInf(n, 0)
}

func operandOf(q *gojq.Query) (operand, bool) {
	if path, ok := pathOf(q); ok {
		return operand{path: path}, true
	}
	if lit, ok := literalOf(q); ok {
		return operand{lit: lit}, true
	}
	return operand{}, false
}

func conditionOf(q *gojq.Query) (condition, bool) {
	if inner := parens(q); inner != nil {
		return conditionOf(inner)
	}
	if q.Term != nil {
		o, ok := operandOf(q)
		return condition{left: o}, ok
	}
	if len(q.FuncDefs) > 0 {
		return condition{}, false
	}
	switch q.Op {
	case gojq.OpPipe:
		if len(q.Patterns) > 0 || !isCall(q.Right, "not") {
			return condition{}, false
		}
		c, ok := conditionOf(q.Left)
		c.not = !c.not
		return c, ok
	case gojq.OpAnd, gojq.OpOr:
		a, ok := conditionOf(q.Left)
		if !ok {
			return condition{}, false
		}
		b, ok := conditionOf(q.Right)
		return condition{op: q.Op, a: &a, b: &b}, ok
	case gojq.OpEq, gojq.OpNe, gojq.OpLt, gojq.OpLe, gojq.OpGt, gojq.OpGe:
		left, ok := operandOf(q.Left)
		if !ok {
			return condition{}, false
		}
		right, ok := operandOf(q.Right)
		return condition{op: q.Op, left: left, right: right}, ok
	}
	return condition{}, false
}

// find follows a path as jq does: through objects, with null for what is missing. It is not ok where jq would fail.
func find(d *transform.Document, v transform.Ref, path []string) (found transform.Ref, ok bool) {
	for _, name := range path {
		switch d.Kind(v) {
		case transform.Object:
			v = d.Member(v, name) // Kind of none is Null
		case transform.Null:
			return 0, true
		default:
			return 0, false
		}
	}
	return v, true
}

// test tells whether the record meets all conditions.
func (f *fast) test(d *transform.Document, root transform.Ref) (keep, ok bool) {
	for i := range f.conditions {
		if keep, ok = f.conditions[i].eval(d, root); !ok || !keep {
			return keep, ok
		}
	}
	return true, true
}

func (c *condition) eval(d *transform.Document, root transform.Ref) (value, ok bool) {
	switch c.op {
	case gojq.OpAnd, gojq.OpOr:
		if value, ok = c.a.eval(d, root); ok && value == (c.op == gojq.OpAnd) {
			value, ok = c.b.eval(d, root)
		}
	case 0:
		var x scalarView
		if x, ok = c.left.view(d, root); ok {
			value = x.kind > transform.False
		}
	default:
		// jq evaluates the right side first, which only its errors show.
		var x, y scalarView
		if y, ok = c.right.view(d, root); !ok {
			return false, false
		}
		if x, ok = c.left.view(d, root); !ok {
			return false, false
		}
		var order int
		if order, ok = compare(x, y); !ok {
			return false, false
		}
		switch c.op {
		case gojq.OpEq:
			value = order == 0
		case gojq.OpNe:
			value = order != 0
		case gojq.OpLt:
			value = order < 0
		case gojq.OpLe:
			value = order <= 0
		case gojq.OpGt:
			value = order > 0
		case gojq.OpGe:
			value = order >= 0
		}
	}
	return value != c.not, ok
}

// scalarView is a value that is compared.
type scalarView struct {
	kind transform.Kind
	text []byte
	num  float64
	big  bool // num does not hold it
}

func (o *operand) view(d *transform.Document, root transform.Ref) (scalarView, bool) {
	if o.lit != nil {
		return scalarView{kind: o.lit.kind, text: o.lit.utf8, num: o.lit.num}, true
	}
	v, ok := find(d, root, o.path)
	if !ok {
		return scalarView{}, false
	}
	x := scalarView{kind: d.Kind(v)}
	switch x.kind {
	case transform.String:
		x.text = d.StringValue(v)
	case transform.Number:
		var ok bool
		x.num, ok = exact(d.Text(v))
		x.big = !ok
	}
	return x, true
}

// compare orders as jq does: null, false, true, numbers, strings, arrays, objects. It is not ok where more than a look is
// needed.
func compare(x, y scalarView) (int, bool) {
	switch {
	case x.kind != y.kind:
		if x.kind < y.kind {
			return -1, true
		}
		return 1, true
	case x.kind == transform.String:
		return bytes.Compare(x.text, y.text), true
	case x.kind == transform.Number:
		switch {
		case x.big || y.big:
			return 0, false
		case x.num < y.num:
			return -1, true
		case x.num > y.num:
			return 1, true
		}
		return 0, true
	case x.kind >= transform.Array:
		return 0, false
	}
	return 0, true
}

// edit does the whole expression, or nothing and returns false.
func (f *fast) edit(d *transform.Document, root transform.Ref) (transform.Verdict, bool) {
	keep, ok := f.test(d, root)
	switch {
	case !ok:
		return 0, false
	case !keep:
		return transform.Drop, true
	case f.hasPath:
		v, ok := find(d, root, f.path)
		if !ok {
			return 0, false
		}
		if v == 0 {
			v = d.NewScalar(transform.Null, "null")
		}
		d.SetRoot(v)
		return transform.Keep, true
	}
	for i := range f.edits {
		if !f.edits[i].ready(d, root) {
			return 0, false
		}
	}
	for i := range f.edits {
		f.edits[i].apply(d, root)
	}
	return transform.Keep, true
}

// ready tells whether apply does what jq would.
func (e *edit) ready(d *transform.Document, root transform.Ref) bool {
	if d.Kind(root) != transform.Object {
		return false
	}
	v := root
	for i, name := range e.path {
		switch d.Kind(v) {
		case transform.Object:
			v = d.Member(v, name)
		case transform.Null:
			// New objects are left to jq, but for the last name.
			return e.remove
		default:
			return false
		}
		if v == 0 && i < len(e.path)-1 {
			return e.remove
		}
	}
	if e.value != nil && v != 0 && d.Kind(v) == transform.Number && e.value.kind == transform.Number {
		_, ok := exact(d.Text(v))
		return ok
	}
	if e.text && v != 0 {
		switch d.Kind(v) {
		case transform.Number:
			return plainInt(d.Text(v))
		case transform.Array, transform.Object:
			return false
		}
	}
	return true
}

func (e *edit) apply(d *transform.Document, root transform.Ref) {
	object := root
	last := len(e.path) - 1
	for _, name := range e.path[:last] {
		if d.Kind(object) != transform.Object {
			return
		}
		object = d.Member(object, name)
	}
	if object == 0 || d.Kind(object) != transform.Object {
		return
	}
	old := d.Member(object, e.path[last])
	var v transform.Ref
	switch {
	case e.remove:
		if old != 0 {
			d.Remove(old)
		}
		return
	case e.text:
		switch {
		case old == 0:
			v = d.NewString("null")
		case d.Kind(old) == transform.String:
			return
		default:
			v = d.NewString(string(d.Text(old)))
		}
	default:
		if old != 0 && e.value.same(d, old) {
			return
		}
		if e.value.kind == transform.String {
			v = d.NewString(e.value.text)
		} else {
			v = d.NewScalar(e.value.kind, e.value.text)
		}
	}
	if old != 0 {
		d.Replace(old, v)
		return
	}
	// jq sorts the members that are new.
	d.AppendSorted(object, e.path[last], v)
}

// same tells whether v is the literal already.
func (l *constant) same(d *transform.Document, v transform.Ref) bool {
	if d.Kind(v) != l.kind {
		return false
	}
	switch l.kind {
	case transform.String:
		return string(d.StringValue(v)) == l.text
	case transform.Number:
		n, ok := exact(d.Text(v))
		return ok && n == l.num
	}
	return true
}
