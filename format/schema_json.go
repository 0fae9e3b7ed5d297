package format

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ImportError says why a schema in a form that is not Hive's cannot be taken, and where.
type ImportError struct {
	At      string // "line 3, character 5", a JSON pointer such as #/properties/a, or a column
	Problem string
	Hint    string // what to do about it, or ""
}

func (e *ImportError) Error() string {
	out := e.At + ": " + e.Problem
	if e.Hint != "" {
		out += "; " + e.Hint
	}
	return out
}

// ParseJSONSchema reads the columns from a JSON Schema (draft 2020-12, and what older drafts have in common
// with it) whose root is an object. Its properties become columns, in their order:
//
//	object with properties            struct
//	object with additionalProperties  map<string,...>
//	array with items                  array<...>
//	string                            string; timestamp with format date-time, date with format date
//	integer                           bigint; int with format int32
//	number                            double; float with format float
//	boolean                           boolean
//
// Every column may be null, so required, null in a list of types and an alternative of anyOf or oneOf that is
// null say nothing. Keywords that bound values and those that describe are passed over; $ref is followed within
// the document. Whatever else decides about types is refused by its JSON pointer. The error joins one
// *ImportError for each such place.
func ParseJSONSchema(text []byte) (*Schema, error) {
	root, err := parseOrdered(text)
	if err != nil {
		return nil, err
	}
	r := &jsonSchema{root: root}
	root, pointer := r.follow(root, "#")
	if root == nil {
		return nil, errors.Join(r.errs...)
	}
	if t, ok := r.kind(root, pointer); ok && (t != "object" || root.get("properties") == nil) {
		r.fail(pointer, "the root is not an object with properties", `give it "type": "object" and "properties"`)
	}
	s := &Schema{}
	if len(r.errs) == 0 {
		s.Fields = r.properties(root.get("properties"), pointer+"/properties", 1)
	}
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	return s, nil
}

// jsonSchema walks the nodes of a document. Its depth is bounded by MaxSchemaDepth and its work by MaxLeaves,
// since every way through references ends in a leaf.
type jsonSchema struct {
	root   *ordered
	errs   []error
	leaves int
	open   []string // pointers of the references that are being followed
}

// maxImportErrors bounds what is said about one document.
const maxImportErrors = 20

func (r *jsonSchema) fail(pointer, problem, hint string) {
	if len(r.errs) < maxImportErrors {
		r.errs = append(r.errs, &ImportError{pointer, problem, hint})
	}
}

// passed are keywords that change no type: they bound values, or describe.
var passed = []string{
	"$schema", "$id", "$comment", "$defs", "definitions", "$anchor", "$vocabulary", "title", "description", "default", "deprecated", "readOnly", "writeOnly",
	"examples", "example", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength", "minLength", "pattern",
	"maxItems", "minItems", "uniqueItems", "contains", "maxContains", "minContains", "maxProperties", "minProperties", "required", "dependentRequired",
	"propertyNames", "unevaluatedProperties", "unevaluatedItems", "contentEncoding", "contentMediaType", "contentSchema", "format", "nullable",
}

// used are the keywords that decide about types and are understood.
var used = []string{"type", "properties", "additionalProperties", "items", "anyOf", "oneOf", "allOf", "$ref"}

const asString = `write { "type": "string" } to keep its JSON text in a string column`

// follow goes through what only wraps another schema: $ref within the document, allOf of one, and anyOf or oneOf
// whose other alternatives are null. It returns nil after a failure.
func (r *jsonSchema) follow(n *ordered, pointer string) (*ordered, string) {
	for range MaxSchemaDepth {
		if n.kind != '{' {
			r.fail(pointer, "is not a schema", "write an object that gives a type")
			return nil, ""
		}
		for _, m := range n.members {
			if !slices.Contains(passed, m.key) && !slices.Contains(used, m.key) && !strings.HasPrefix(m.key, "x-") {
				r.fail(pointer+"/"+escape(m.key), "the keyword is not supported", "take it out, or "+asString)
				return nil, ""
			}
		}
		var wraps []string
		for _, key := range []string{"$ref", "allOf", "anyOf", "oneOf"} {
			if n.get(key) != nil {
				wraps = append(wraps, key)
			}
		}
		if len(wraps) == 0 {
			return n, pointer
		}
		key := wraps[0]
		at := pointer + "/" + key
		if len(wraps) > 1 || n.get("properties") != nil || n.get("items") != nil || n.get("additionalProperties") != nil {
			r.fail(at, "stands beside another keyword that decides about the type", "write one of them")
			return nil, ""
		}
		inner := n.get(key)
		if key == "$ref" {
			if n, pointer = r.reference(inner, at); n == nil {
				return nil, ""
			}
			continue
		}
		if inner.kind != '[' {
			r.fail(at, "is not a list of schemas", "")
			return nil, ""
		}
		chosen := -1
		for i, e := range inner.items {
			if t := e.get("type"); key != "allOf" && t != nil && t.kind == '"' && t.text == "null" {
				continue
			}
			if chosen >= 0 {
				r.fail(at, "has more than one alternative that is not null: a column has one type", asString)
				return nil, ""
			}
			chosen = i
		}
		if chosen < 0 {
			r.fail(at, "has no alternative that is not null", asString)
			return nil, ""
		}
		n, pointer = inner.items[chosen], fmt.Sprintf("%s/%d", at, chosen)
	}
	r.fail(pointer, "refers to itself", asString)
	return nil, ""
}

// reference finds what a $ref means.
func (r *jsonSchema) reference(ref *ordered, at string) (*ordered, string) {
	rest, ok := strings.CutPrefix(ref.text, "#")
	if ref.kind != '"' || !ok || rest != "" && rest[0] != '/' {
		r.fail(at, fmt.Sprintf("the reference %q leaves the document", ref.text), "only references such as #/$defs/name are followed")
		return nil, ""
	}
	if slices.Contains(r.open, ref.text) {
		r.fail(at, fmt.Sprintf("%q contains itself: such a column has no end", ref.text), asString)
		return nil, ""
	}
	r.open = append(r.open, ref.text)
	n := r.root
	for _, part := range strings.Split(rest, "/")[1:] {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		if n = n.get(part); n == nil {
			r.fail(at, fmt.Sprintf("there is no %q in the document", ref.text), "")
			return nil, ""
		}
	}
	return n, ref.text
}

// kind is the type of a schema, null aside. It is not ok after a failure.
func (r *jsonSchema) kind(n *ordered, pointer string) (name string, ok bool) {
	t := n.get("type")
	if t == nil {
		switch {
		case n.get("properties") != nil:
			return "object", true
		case n.get("items") != nil:
			return "array", true
		}
		if e := n.get("enum"); e != nil && e.kind == '[' && len(e.items) > 0 && !slices.ContainsFunc(e.items, func(v *ordered) bool { return v.kind != '"' && v.kind != 'n' }) {
			return "string", true
		}
		r.fail(pointer, "gives no type", `add "type"`)
		return "", false
	}
	types := []*ordered{t}
	if t.kind == '[' {
		types = t.items
	}
	for _, e := range types {
		switch {
		case e.kind != '"' || !slices.Contains([]string{"object", "array", "string", "integer", "number", "boolean", "null"}, e.text):
			r.fail(pointer+"/type", "is not a type of JSON Schema", "write object, array, string, integer, number, boolean or null")
			return "", false
		case e.text == "null":
		case name == "integer" && e.text == "number", name == "number" && e.text == "integer":
			name = "number"
		case name != "":
			r.fail(pointer+"/type", fmt.Sprintf("is both %s and %s: a column has one type", name, e.text), asString)
			return "", false
		default:
			name = e.text
		}
	}
	if name == "" {
		r.fail(pointer+"/type", "is null alone", asString)
		return "", false
	}
	return name, true
}

// typ is the type of a schema that stands depth types deep; the zero Type after a failure.
func (r *jsonSchema) typ(n *ordered, pointer string, depth int) (out Type) {
	before := len(r.open)
	defer func() { r.open = r.open[:before] }()
	if depth > MaxSchemaDepth {
		r.fail(pointer, fmt.Sprintf("types are nested more than %d deep", MaxSchemaDepth), asString)
		return Type{}
	}
	if n, pointer = r.follow(n, pointer); n == nil {
		return Type{}
	}
	name, ok := r.kind(n, pointer)
	if !ok {
		return Type{}
	}
	format := ""
	if f := n.get("format"); f != nil {
		format = f.text
	}
	switch name {
	case "object":
		properties, more := n.get("properties"), n.get("additionalProperties")
		switch {
		case properties != nil:
			if more != nil && more.kind == '{' {
				r.fail(pointer+"/additionalProperties", "a struct has no other members than those it names", "take it out, or take out properties to make a map")
				return Type{}
			}
			return Type{Kind: Struct, Fields: r.properties(properties, pointer+"/properties", depth+1)}
		case more != nil && more.kind == '{':
			r.leaf(pointer) // of the keys
			elem := r.typ(more, pointer+"/additionalProperties", depth+1)
			return Type{Kind: Map, Key: &Type{Kind: String}, Elem: &elem}
		}
		r.fail(pointer, "an object needs properties, or additionalProperties with a schema", asString)
		return Type{}
	case "array":
		items := n.get("items")
		if items == nil || items.kind != '{' {
			r.fail(pointer+map[bool]string{true: "/items"}[items != nil], "an array needs items that are one schema", asString)
			return Type{}
		}
		elem := r.typ(items, pointer+"/items", depth+1)
		return Type{Kind: Array, Elem: &elem}
	}
	r.leaf(pointer)
	switch {
	case name == "string" && format == "date-time":
		return Type{Kind: Timestamp}
	case name == "string" && format == "date":
		return Type{Kind: Date}
	case name == "string":
		return Type{Kind: String}
	case name == "integer" && format == "int32":
		return Type{Kind: Int}
	case name == "integer":
		return Type{Kind: BigInt}
	case name == "number" && format == "float":
		return Type{Kind: Float}
	case name == "number":
		return Type{Kind: Double}
	}
	return Type{Kind: Boolean}
}

func (r *jsonSchema) leaf(pointer string) {
	if r.leaves++; r.leaves == MaxLeaves+1 {
		r.errs = append(r.errs, &ImportError{pointer, fmt.Sprintf("the schema has more than %d columns, nested ones included", MaxLeaves), asString})
	}
}

// properties are the columns of the root, or the members of a struct.
func (r *jsonSchema) properties(n *ordered, pointer string, depth int) (fields []Field) {
	if n.kind != '{' || len(n.members) == 0 {
		r.fail(pointer, "has no property", asString)
		return nil
	}
	seen := map[string]string{}
	for _, m := range n.members {
		if r.leaves > MaxLeaves || len(r.errs) == maxImportErrors {
			return nil
		}
		at := pointer + "/" + escape(m.key)
		if problem := nameProblem(m.key, seen); problem != "" {
			r.fail(at, problem, "rename it")
			continue
		}
		fields = append(fields, Field{Name: m.key, Type: r.typ(m.value, at, depth)})
	}
	return fields
}

// nameProblem says what is wrong with the name of a column or of a struct's member, and notes it as seen.
func nameProblem(name string, seen map[string]string) string {
	key := strings.ToLower(name)
	first, dup := seen[key]
	seen[key] = name
	switch {
	case name == "" || strings.ContainsFunc(name, unicode.IsControl):
		return "the name is empty or has control characters"
	case dup:
		return fmt.Sprintf("the name was already given to %q (case does not count)", first)
	}
	return ""
}

// escape makes a key a part of a JSON pointer.
func escape(key string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(key) }

// ordered is a value of a JSON document whose objects keep their order.
type ordered struct {
	kind    byte   // '{', '[', '"', or 'n' for null, numbers and booleans
	text    string // of a string
	items   []*ordered
	members []orderedMember
}

type orderedMember struct {
	key   string
	value *ordered
}

// get returns a member of an object, or nil. The last of several of one name counts, as everywhere.
func (n *ordered) get(key string) *ordered {
	for _, m := range slices.Backward(n.members) {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// maxDocumentDepth bounds the levels of a document: a level of types takes two or three.
const maxDocumentDepth = 4*MaxSchemaDepth + 16

// parseOrdered reads one JSON document. The error is an *ImportError with line and character.
func parseOrdered(text []byte) (*ordered, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	at := func(problem string) error {
		offset := min(int(d.InputOffset()), len(text))
		before := text[:offset]
		start := bytes.LastIndexByte(before, '\n') + 1
		return &ImportError{At: fmt.Sprintf("line %d, character %d", bytes.Count(before, []byte{'\n'})+1, utf8.RuneCount(before[start:])+1), Problem: problem}
	}
	if !utf8.Valid(text) {
		return nil, &ImportError{At: "line 1, character 1", Problem: "the document is not valid UTF-8"}
	}
	var value func(depth int) (*ordered, error)
	value = func(depth int) (*ordered, error) {
		if depth > maxDocumentDepth {
			return nil, at(fmt.Sprintf("the document is nested more than %d deep", maxDocumentDepth))
		}
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case string:
			return &ordered{kind: '"', text: t}, nil
		case json.Delim:
			n := &ordered{kind: byte(t)}
			for d.More() {
				var m orderedMember
				if n.kind == '{' {
					k, err := d.Token()
					if err != nil {
						return nil, err
					}
					m.key = k.(string) // the decoder lets nothing else stand here
				}
				if m.value, err = value(depth + 1); err != nil {
					return nil, err
				}
				if n.kind == '{' {
					n.members = append(n.members, m)
				} else {
					n.items = append(n.items, m.value)
				}
			}
			_, err := d.Token()
			return n, err
		}
		return &ordered{kind: 'n'}, nil
	}
	n, err := value(0)
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return n, nil
		}
		return nil, at("text after the end of the document")
	}
	if e, ok := errors.AsType[*ImportError](err); ok {
		return nil, e
	}
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, at("the document ends too early")
	}
	return nil, at("is not JSON: " + err.Error())
}
