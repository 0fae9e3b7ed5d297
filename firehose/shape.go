package firehose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"hydrant/config"
)

// kind of a shape, with what stands for its values in a tree.
type kind uint8

const (
	structure kind = iota // tree
	list                  // []any; an element that is null is nil
	mapping               // tree of texts
	text                  // string
	secret                // hiddenText
	integer               // int64, of 32 bits
	number                // float64
	boolean               // bool
	opaque                // an empty tree: what is in the object is not looked at
)

// shape is one of the API's model: what a value may be.
type shape struct {
	kind    kind
	members []member // of a structure, in the model's order
	elem    *shape   // of a list or a mapping
	keys    *shape   // of a mapping

	// Bounds of the value of an integer or number, and of the length of a text (in characters) or list.
	min, max *int64
	pattern  *pattern
	enum     []string

	nullable bool // a list's elements may be null as far as shapes go
}

type member struct {
	name     string
	shape    *shape
	required bool
}

func (s *shape) member(name string) *shape {
	for i := range s.members {
		if s.members[i].name == name {
			return s.members[i].shape
		}
	}
	return nil
}

// tree is a structure's members by name, those that are there.
type tree map[string]any

func (t tree) text(name string) string   { s, _ := t[name].(string); return s }
func (t tree) integer(name string) int64 { n, _ := t[name].(int64); return n }
func (t tree) boolean(name string) bool  { b, _ := t[name].(bool); return b }
func (t tree) list(name string) []any    { l, _ := t[name].([]any); return l }
func (t tree) has(name string) bool      { _, ok := t[name]; return ok }
func (t tree) sub(name string) tree      { s, _ := t[name].(tree); return s }

// fill sets a member that is absent.
func (t tree) fill(name string, v any) {
	if !t.has(name) {
		t[name] = v
	}
}

// into is the structure of that name, made where it is absent.
func (t tree) into(name string) tree {
	t.fill(name, tree{})
	return t.sub(name)
}

// hiddenText is a secret in a tree. It is a function because fmt cannot ask a value in an unexported field how
// it wants to be printed, and prints what a secret is made of.
type hiddenText func() config.Secret

// clone is a deep copy.
func clone[T any](v T) T {
	var of func(any) any
	of = func(v any) any {
		switch v := v.(type) {
		case tree:
			out := make(tree, len(v))
			for k, e := range v {
				out[k] = of(e)
			}
			return out
		case []any:
			out := make([]any, len(v))
			for i, e := range v {
				out[i] = of(e)
			}
			return out
		}
		return v
	}
	return of(v).(T)
}

// reader reads a body by its shape.
type reader struct {
	body    []byte
	dec     *json.Decoder
	unknown int // members that no shape has
}

// read reads a whole body. Errors are SerializationExceptions; faults of constraints are left to check.
func read(s *shape, body []byte) (t tree, unknown int, err error) {
	if !utf8.Valid(body) {
		return nil, 0, unreadable("The request body is not valid UTF-8.")
	}
	r := &reader{body: body, dec: json.NewDecoder(bytes.NewReader(body))}
	r.dec.UseNumber()
	tok, err := r.dec.Token()
	switch {
	case err != nil:
		return nil, 0, r.malformed(err)
	case tok != json.Delim('{'):
		return nil, 0, unreadable("The request body is not a JSON object.")
	}
	if t, err = r.structure(s, ""); err != nil {
		return nil, 0, err
	}
	if _, err := r.dec.Token(); err != io.EOF {
		return nil, 0, unreadable("The request body is not JSON: something follows its object, at byte %d.", r.dec.InputOffset())
	}
	return t, r.unknown, nil
}

func unreadable(format string, args ...any) *Error {
	return &Error{Code: CodeSerialization, Message: fmt.Sprintf(format, args...)}
}

func (r *reader) malformed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return unreadable("The request body is not JSON: it ends too early, after byte %d.", r.dec.InputOffset())
	}
	return unreadable("The request body is not JSON: near byte %d: %s.", r.dec.InputOffset(), strings.TrimPrefix(err.Error(), "json: "))
}

// next is the byte at which the next token begins, or the body ends.
func (r *reader) next() int64 {
	at := r.dec.InputOffset()
	return at + int64(len(r.body[at:])-len(bytes.TrimLeft(r.body[at:], " \t\r\n:,")))
}

// structure reads the members behind an opening brace.
func (r *reader) structure(s *shape, path string) (tree, error) {
	t, seen := tree{}, map[string]bool{}
	for r.dec.More() {
		start := r.next()
		tok, err := r.dec.Token()
		if err != nil {
			return nil, r.malformed(err)
		}
		name := tok.(string)
		shape := s.member(name)
		if shape == nil {
			var passed json.RawMessage
			if err := r.dec.Decode(&passed); err != nil {
				return nil, r.malformed(err)
			}
			r.unknown++
			continue
		}
		at := join(path, lowerFirst(name))
		if seen[name] {
			return nil, unreadable("%s is given a second time at byte %d.", at, start)
		}
		seen[name] = true
		v, err := r.value(shape, at)
		if err != nil {
			return nil, err
		}
		if v != nil {
			t[name] = v
		}
	}
	return t, r.close()
}

// close reads the token that ends an object or array, which More has seen or will miss.
func (r *reader) close() error {
	if _, err := r.dec.Token(); err != nil {
		return r.malformed(err)
	}
	return nil
}

// value reads a value; nil is null, which is as good as absent.
func (r *reader) value(s *shape, path string) (any, error) {
	start := r.next()
	wrongType := func(want string) error {
		return unreadable("%s at byte %d must be %s.", path, start, want)
	}
	if s.kind == opaque {
		var raw json.RawMessage
		if err := r.dec.Decode(&raw); err != nil {
			return nil, r.malformed(err)
		}
		switch raw[0] {
		case 'n':
			return nil, nil
		case '{':
			return tree{}, nil
		}
		return nil, wrongType("an object")
	}
	tok, err := r.dec.Token()
	if err != nil {
		return nil, r.malformed(err)
	}
	if tok == nil {
		return nil, nil
	}
	switch s.kind {
	case structure:
		if tok != json.Delim('{') {
			return nil, wrongType("an object")
		}
		return r.structure(s, path)
	case mapping:
		if tok != json.Delim('{') {
			return nil, wrongType("an object")
		}
		return r.mapping(s, path)
	case list:
		if tok != json.Delim('[') {
			return nil, wrongType("an array")
		}
		out := []any{}
		for r.dec.More() {
			if len(out) > most(s) { // it is refused for its length, so what else follows need not be kept
				var passed json.RawMessage
				if err := r.dec.Decode(&passed); err != nil {
					return nil, r.malformed(err)
				}
				continue
			}
			v, err := r.value(s.elem, element(path, len(out)))
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, r.close()
	case text, secret:
		v, ok := tok.(string)
		if !ok {
			return nil, wrongType("a string")
		}
		if s.kind == secret {
			return hiddenText(func() config.Secret { return config.NewSecret(v) }), nil
		}
		return v, nil
	case integer:
		n, ok := tok.(json.Number)
		v, err := strconv.ParseInt(n.String(), 10, 32)
		if !ok || err != nil {
			return nil, wrongType("a whole number of 32 bits")
		}
		return v, nil
	case number:
		n, ok := tok.(json.Number)
		v, err := n.Float64()
		if !ok || err != nil {
			return nil, wrongType("a number")
		}
		return v, nil
	case boolean:
		v, ok := tok.(bool)
		if !ok {
			return nil, wrongType("true or false")
		}
		return v, nil
	}
	panic(fmt.Sprintf("bug: a shape of kind %d", s.kind))
}

// most is how many elements a list may have.
func most(s *shape) int {
	if s.max == nil {
		return math.MaxInt
	}
	return int(*s.max)
}

func (r *reader) mapping(s *shape, path string) (any, error) {
	out := tree{}
	for r.dec.More() {
		tok, err := r.dec.Token()
		if err != nil {
			return nil, r.malformed(err)
		}
		key := tok.(string)
		if out.has(key) {
			return nil, unreadable("%s has a key a second time before byte %d.", path, r.dec.InputOffset())
		}
		v, err := r.value(s.elem, join(path, "value"))
		if err != nil {
			return nil, err
		}
		out[key] = v // nil where it is null, which check finds
	}
	return out, r.close()
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// element is the path of a list's member number i, from 0.
func element(path string, i int) string { return path + "." + strconv.Itoa(i+1) + ".member" }

// check finds what breaks the shape's constraints in a value that read has read.
func (s *shape) check(v any, path string, f *Faults) {
	switch s.kind {
	case structure:
		t := v.(tree)
		for _, m := range s.members {
			at := join(path, lowerFirst(m.name))
			if v, ok := t[m.name]; ok {
				m.shape.check(v, at, f)
			} else if m.required {
				f.Add(at, NotNull)
			}
		}
	case list:
		l := v.([]any)
		s.bounds(int64(len(l)), "length", path, f)
		for i, e := range l {
			if e != nil {
				s.elem.check(e, element(path, i), f)
			} else if !s.nullable {
				f.Add(element(path, i), NotNull)
			}
		}
	case mapping:
		t := v.(tree)
		for _, k := range slices.Sorted(maps.Keys(t)) {
			s.part("Map keys", s.keys, k, path, f)
			s.part("Map value", s.elem, t[k], path, f)
		}
	case text:
		s.checkText(v.(string), path, f)
	case secret:
		value, err := v.(hiddenText)().Value()
		if err != nil {
			panic("bug: a secret of a request stands in no file: " + err.Error())
		}
		s.checkText(value, path, f)
	case integer:
		s.bounds(v.(int64), "value", path, f)
	case number:
		switch n := v.(float64); {
		case s.min != nil && n < float64(*s.min):
			f.Add(path, AtLeast("value", *s.min))
		case s.max != nil && n > float64(*s.max):
			f.Add(path, AtMost("value", *s.max))
		}
	}
}

// part checks a key or value of a mapping: its faults are told of the mapping.
func (s *shape) part(what string, of *shape, v any, path string, f *Faults) {
	var own Faults
	if v == nil {
		own.Add("", NotNull)
	} else {
		of.check(v, "", &own)
	}
	if len(own) == 0 {
		return
	}
	for i := range own {
		_, own[i], _ = strings.Cut(own[i], "constraint: ")
	}
	f.Add(path, what+" must satisfy constraint: ["+strings.Join(own, ", ")+"]")
}

func (s *shape) checkText(v, path string, f *Faults) {
	if s.enum != nil {
		if !slices.Contains(s.enum, v) {
			f.Add(path, "Member must satisfy enum value set: ["+strings.Join(s.enum, ", ")+"]")
		}
		return
	}
	if s.pattern != nil && !s.pattern.matches(v) {
		f.Add(path, "Member must satisfy regular expression pattern: "+s.pattern.text)
	}
	s.bounds(int64(utf8.RuneCountInString(v)), "length", path, f)
}

func (s *shape) bounds(n int64, what, path string, f *Faults) {
	switch {
	case s.min != nil && n < *s.min:
		f.Add(path, AtLeast(what, *s.min))
	case s.max != nil && n > *s.max:
		f.Add(path, AtMost(what, *s.max))
	}
}
