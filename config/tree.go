package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// A node is a value of a file, YAML or JSON: its text as it was written and where it stands. What a
// scalar means is decided by the field that takes it, so an account id of digits stays a text and `no`
// is no boolean.
type node struct {
	kind    nodeKind
	pos     pos
	text    string  // scalar
	items   []*node // list
	entries []entry // mapping
}

type nodeKind uint8

const (
	null nodeKind = iota
	scalar
	list
	mapping
)

func (k nodeKind) String() string {
	return [...]string{"nothing", "a scalar", "a list", "a mapping"}[k]
}

type entry struct {
	key   string
	pos   pos
	value *node
}

type pos struct{ line, col int }

// Bounds of a file: more than any real one needs, small enough that no input makes the decoder slow.
const (
	maxFile  = 1 << 20
	maxNodes = 200_000
	maxDepth = 64
)

// reader turns a document into nodes, expanding ${NAME} in scalars.
type reader struct {
	env     func(string) (string, bool)
	anchors map[string]ast.Node
	open    map[string]bool // aliases being followed
	nodes   int
	faults  []Fault
	quiet   int // inside an anchored value that was read before: its faults are known
}

func (r *reader) fault(p pos, path, value, problem, remedy string) {
	if r.quiet == 0 {
		r.faults = append(r.faults, Fault{p.line, p.col, path, value, problem, remedy})
	}
}

// errTooMuch ends the reading of a file that is beyond the bounds.
var errTooMuch = errors.New("too large")

// parseYAML returns the root of the one document in data, or nil together with faults.
func parseYAML(data []byte, env func(string) (string, bool)) (root *node, faults []Fault) {
	whole := func(problem, remedy string) []Fault { return []Fault{{Problem: problem, Remedy: remedy}} }
	if len(data) > maxFile {
		return nil, whole(fmt.Sprintf("is larger than %d KiB", maxFile>>10), "")
	}
	if p, problem := tooDeep(data); problem != "" {
		return nil, []Fault{{Line: p.line, Column: p.col, Problem: problem}}
	}
	file, fault := parse(data)
	if fault != nil {
		return nil, []Fault{*fault}
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			return nil, []Fault{{Line: position(doc.Body).line, Column: position(doc.Body).col, Problem: "a second document begins here", Remedy: "write everything in one"}}
		}
		body = doc.Body
	}
	if body == nil {
		return nil, whole("is empty", "the smallest useful file has `streams` with a name and a destination")
	}
	r := &reader{env: env, anchors: map[string]ast.Node{}, open: map[string]bool{}}
	root, err := r.read(body, position(body), "", 0)
	if err != nil {
		return nil, whole(fmt.Sprintf("has more than %d values, or more than %d levels", maxNodes, maxDepth), "")
	}
	return root, r.faults
}

// parse calls the parser. It was written for input that one trusts, so what it panics on is a fault of
// the file and not of the process.
func parse(data []byte) (file *ast.File, fault *Fault) {
	defer func() {
		if e := recover(); e != nil {
			file, fault = nil, &Fault{Problem: fmt.Sprintf("is not YAML: the parser gave up (%v)", e)}
		}
	}()
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err == nil {
		return file, nil
	}
	fault = &Fault{Problem: "is not YAML: " + err.Error()}
	var ye yaml.Error
	if errors.As(err, &ye) {
		fault.Problem = "is not YAML: " + ye.GetMessage()
		if t := ye.GetToken(); t != nil && t.Position != nil {
			fault.Line, fault.Column = t.Position.Line, max(t.Position.Column, 1)
		}
		if strings.Contains(lineOf(data, fault.Line), "${") {
			fault.Remedy = "inside { } or [ ] a ${NAME} must stand in quotes"
		}
	}
	return nil, fault
}

func lineOf(data []byte, line int) string {
	for i := 1; i < line; i++ {
		_, rest, ok := bytes.Cut(data, []byte("\n"))
		if !ok {
			return ""
		}
		data = rest
	}
	first, _, _ := bytes.Cut(data, []byte("\n"))
	return string(first)
}

// maxIndicators bounds the nesting that one line can make without a bracket: "- - - x", "? ? x", "&a &b x", "!a !b x".
const maxIndicators = 1000

// tooDeep looks for nesting beyond any real file before the parser, which takes time that grows with its
// square and stack for each level, sees it. Brackets in quotes and comments count too; 64 open ones have
// no place there either.
func tooDeep(data []byte) (p pos, problem string) {
	depth, indicators, line, col := 0, 0, 1, 0
	for i, c := range data {
		col++
		switch c {
		case '[', '{':
			if depth++; depth > maxDepth {
				return pos{line, col}, fmt.Sprintf("brackets are nested more than %d deep", maxDepth)
			}
		case ']', '}':
			depth = max(depth-1, 0)
		case '-', '?', ':', '&', '*', '!':
			if i+1 == len(data) || c == '&' || c == '*' || c == '!' || data[i+1] == ' ' || data[i+1] == '\t' || data[i+1] == '\n' {
				if indicators++; indicators > maxIndicators {
					return pos{line, col}, fmt.Sprintf("more than %d keys, dashes and tags stand in one line", maxIndicators)
				}
			}
		case '\n':
			line, col, indicators = line+1, 0, 0
		}
	}
	return pos{}, ""
}

// position of a node's first character.
func position(n ast.Node) pos {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return position(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return position(n.Key)
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return pos{t.Position.Line, max(t.Position.Column, 1)}
	}
	return pos{1, 1}
}

// read converts a value. Containers are placed at the key that holds them, which is where a person looks
// for what is missing in them.
func (r *reader) read(n ast.Node, at pos, path string, depth int) (*node, error) {
	if r.nodes++; r.nodes > maxNodes || depth > maxDepth {
		return nil, errTooMuch
	}
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return &node{kind: null, pos: at}, nil
	case *ast.MappingNode:
		return r.mapping(n.Values, at, path, depth)
	case *ast.MappingValueNode:
		return r.mapping([]*ast.MappingValueNode{n}, at, path, depth)
	case *ast.SequenceNode:
		out := &node{kind: list, pos: at}
		for i, v := range n.Values {
			item, err := r.read(v, position(v), index(path, i), depth+1)
			if err != nil {
				return nil, err
			}
			out.items = append(out.items, item)
		}
		return out, nil
	case *ast.AnchorNode:
		if name := n.Name.GetToken().Value; !r.open[name] {
			r.anchors[name] = n.Value
			r.open[name] = true
			defer delete(r.open, name)
		}
		return r.read(n.Value, at, path, depth)
	case *ast.AliasNode:
		return r.alias(n, path, func(v ast.Node) (*node, error) { return r.read(v, at, path, depth+1) })
	case *ast.TagNode:
		r.fault(position(n), path, n.GetToken().Value, "YAML tags are not used here", "put a text that begins with ! in quotes")
		return &node{kind: null, pos: at}, nil
	case *ast.StringNode:
		return r.scalar(n.Value, position(n), path), nil
	case *ast.LiteralNode:
		return r.scalar(n.Value.Value, position(n), path), nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return r.scalar(n.GetToken().Value, position(n), path), nil
	}
	r.fault(position(n), path, n.GetToken().Value, "is not a value that can stand here", "")
	return &node{kind: null, pos: at}, nil
}

func (r *reader) alias(n *ast.AliasNode, path string, use func(ast.Node) (*node, error)) (*node, error) {
	name := n.Value.GetToken().Value
	target, ok := r.anchors[name]
	switch {
	case r.open[name]:
		r.fault(position(n), path, "*"+name, "the anchor contains itself", "")
	case !ok:
		r.fault(position(n), path, "*"+name, "no anchor of this name stands above", "")
	default:
		r.open[name] = true
		defer delete(r.open, name)
		r.quiet++
		defer func() { r.quiet-- }()
		return use(target)
	}
	return &node{kind: null, pos: position(n)}, nil
}

func (r *reader) mapping(values []*ast.MappingValueNode, at pos, path string, depth int) (*node, error) {
	out := &node{kind: mapping, pos: at}
	seen := map[string]pos{}
	var merges []*node
	for _, v := range values {
		p := position(v.Key)
		if _, ok := v.Key.(*ast.MergeKeyNode); ok {
			merged, err := r.read(v.Value, p, path, depth+1)
			if err != nil {
				return nil, err
			}
			sources := []*node{merged}
			if merged.kind == list {
				sources = merged.items
			}
			for _, s := range sources {
				if s.kind == mapping {
					merges = append(merges, s)
				} else if s.kind != null {
					r.fault(p, path, "<<", "only a mapping can be merged", "")
				}
			}
			continue
		}
		key, ok := keyText(v.Key)
		if !ok {
			r.fault(p, path, v.Key.GetToken().Value, "is not a key", "keys are plain words")
			continue
		}
		at := child(path, key)
		if first, dup := seen[key]; dup {
			r.fault(p, at, "", fmt.Sprintf("is given twice; the first is at %d:%d", first.line, first.col), "")
			continue
		}
		seen[key] = p
		value, err := r.read(v.Value, p, at, depth+1)
		if err != nil {
			return nil, err
		}
		out.entries = append(out.entries, entry{key, p, value})
	}
	for _, m := range merges {
		for _, e := range m.entries {
			if _, own := seen[e.key]; !own {
				seen[e.key] = e.pos
				out.entries = append(out.entries, e)
			}
		}
	}
	return out, nil
}

func keyText(k ast.Node) (string, bool) {
	switch k := k.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		return k.GetToken().Value, true
	}
	return "", false
}

func (r *reader) scalar(text string, p pos, path string) *node {
	out, problem, remedy := expand(text, r.env)
	if problem != "" {
		r.fault(p, path, "", problem, remedy)
	}
	return &node{kind: scalar, pos: p, text: out}
}

// expand replaces ${NAME} and ${NAME:-default} by what env has, and $${ by ${. As in a shell, the default
// also stands in for a name that is set to nothing.
func expand(text string, env func(string) (string, bool)) (out, problem, remedy string) {
	if !strings.Contains(text, "${") {
		return text, "", ""
	}
	var b strings.Builder
	for {
		i := strings.Index(text, "${")
		if i < 0 {
			b.WriteString(text)
			return b.String(), problem, remedy
		}
		if i > 0 && text[i-1] == '$' {
			b.WriteString(text[:i-1] + "${")
			text = text[i+2:]
			continue
		}
		b.WriteString(text[:i])
		inner, rest, ok := strings.Cut(text[i+2:], "}")
		name, def, hasDefault := strings.Cut(inner, ":-")
		switch {
		case !ok:
			return "", "${ without its }", "write $${ for a literal ${"
		case !isName(name):
			problem, remedy = fmt.Sprintf("${%s} is not the name of an environment variable", shorten(inner)), "write ${NAME} or ${NAME:-default}, and $${ for a literal ${"
		default:
			value, set := env(name)
			if !set && !hasDefault {
				problem, remedy = fmt.Sprintf("environment variable %s is not set", name), fmt.Sprintf("set it, or write ${%s:-default}", name)
			} else if value == "" && hasDefault {
				value = def
			}
			b.WriteString(value)
		}
		text = rest
	}
}

func isName(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// parseJSON reads what Spec wrote into the same nodes.
func parseJSON(data []byte) (*node, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	n, err := jsonValue(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("text after the end of the document")
	}
	return n, nil
}

func jsonValue(dec *json.Decoder, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, errTooMuch
	}
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		out := &node{kind: list}
		if t == '{' {
			out.kind = mapping
		}
		for dec.More() {
			var key string
			if out.kind == mapping {
				k, err := dec.Token()
				if err != nil {
					return nil, err
				}
				key = k.(string) // the decoder takes nothing else for a key
			}
			v, err := jsonValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			if out.kind == mapping {
				out.entries = append(out.entries, entry{key: key, value: v})
			} else {
				out.items = append(out.items, v)
			}
		}
		_, err := dec.Token()
		return out, err
	case string:
		return &node{kind: scalar, text: t}, nil
	case json.Number:
		return &node{kind: scalar, text: t.String()}, nil
	case bool:
		return &node{kind: scalar, text: strconv.FormatBool(t)}, nil
	}
	return &node{kind: null}, nil
}

// child and index build the paths that faults and Position use.
func child(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
