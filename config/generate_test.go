package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

//go:generate go test -run TestGenerated -update .

var update = flag.Bool("update", false, "write the files that are made from this package's structs")

// comments are the doc comments of the fields in the files of the structs, by "Type.Field".
func comments(t *testing.T) map[string]string {
	t.Helper()
	var decls []ast.Decl
	for _, name := range []string{"config.go", "transform.go", "http.go", "partition.go", "kinesis.go", "kafka.go", "redshift.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		decls = append(decls, file.Decls...)
	}
	out := map[string]string{}
	for _, decl := range decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.TYPE {
			continue
		}
		for _, spec := range gen.Specs {
			ts := spec.(*ast.TypeSpec)
			st, ok := ts.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range st.Fields.List {
				for _, name := range f.Names {
					out[ts.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
				}
			}
		}
	}
	return out
}

// generator makes the JSON Schema and the reference from the tags and the comments.
type generator struct {
	comments map[string]string
	later    []string // paths of keys that are refused by name
	out      strings.Builder
}

func (g *generator) comment(t reflect.Type, f *field) string {
	c := g.comments[t.Name()+"."+f.goName]
	if f.restart {
		c += " A change needs a restart."
	}
	return c
}

// expression is the part of the schema for a scalar that the environment fills in.
var expression = object{{"$ref", "#/$defs/expression"}}

func orExpression(schema object) object { return object{{"anyOf", []any{schema, expression}}} }

func texts(words []string) []any {
	out := make([]any, len(words))
	for i, w := range words {
		out[i] = w
	}
	return out
}

func (g *generator) schema(t reflect.Type, f *field) object {
	switch t {
	case reflect.TypeFor[Bytes]():
		return orExpression(object{{"type", []any{"string", "integer"}}, {"pattern", "^[0-9]+ ?(KiB|MiB|GiB)$"}, {"maximum", json.Number("0")}})
	case reflect.TypeFor[Count]():
		return orExpression(object{{"type", "integer"}})
	case reflect.TypeFor[Duration]():
		return orExpression(object{{"type", []any{"string", "integer"}}, {"pattern", "^([0-9.]+(ms|s|m|h))+$"}, {"maximum", json.Number("0")}})
	case reflect.TypeFor[RetryDuration]():
		return orExpression(object{{"const", forever}})
	case reflect.TypeFor[RetryTime]():
		return orExpression(object{{"anyOf", []any{object{{"const", forever}}, object{{"type", []any{"string", "integer"}}, {"pattern", "^([0-9.]+(ms|s|m|h))+$"}, {"maximum", json.Number("0")}}}}})
	case reflect.TypeFor[Headers]():
		return object{{"type", "object"}, {"additionalProperties", object{{"type", []any{"string", "number", "boolean"}}}}}
	case reflect.TypeFor[Listen]():
		return object{{"anyOf", []any{object{{"type", "string"}}, object{{"type", "array"}, {"items", object{{"type", "string"}}}, {"minItems", json.Number("1")}}}}}
	case reflect.TypeFor[Schema]():
		return object{{"anyOf", []any{object{{"type", "string"}, {"minLength", json.Number("1")}}, object{{"type", "array"}, {"items", object{{"type", "string"}}}, {"minItems", json.Number("1")}},
			oneKey("file", object{{"type", "string"}, {"minLength", json.Number("1")}}), oneKey("glue", g.structSchema(reflect.TypeFor[Glue]()))}}}
	case reflect.TypeFor[Secret]():
		return object{{"type", "string"}}
	case reflect.TypeFor[RedshiftDSN]():
		return object{{"anyOf", []any{object{{"type", "string"}, {"minLength", json.Number("1")}}, g.structSchema(reflect.TypeFor[RedshiftAddress]())}}}
	case reflect.TypeFor[Decompress]():
		extract := object{{"type", []any{"object", "null"}}, {"properties", object{{"extract", object{{"const", "messages"}}}}}, {"additionalProperties", false}}
		return object{{"anyOf", []any{object{{"enum", texts([]string{string(DecompressGzip), string(DecompressLogs)})}}, expression, oneKey("cloudwatch_logs", extract)}}}
	case reflect.TypeFor[Deaggregate]():
		return object{{"anyOf", []any{object{{"enum", []any{"json"}}}, expression, oneKey("delimited", object{{"type", "string"}, {"minLength", json.Number("1")}})}}}
	case reflect.TypeFor[Pairs]():
		return object{{"type", "object"}, {"additionalProperties", object{{"type", []any{"string", "number", "boolean", "null"}}}}, {"minProperties", json.Number("1")}}
	case reflect.TypeFor[Wants]():
		text := object{{"type", []any{"string", "number", "boolean"}}}
		one := object{{"anyOf", []any{object{{"enum", texts([]string{WantOk, WantDropped, WantFailed})}}, expression, oneKey(WantOk, text), oneKey(WantText, text), oneKey(WantFailed, text)}}}
		return object{{"anyOf", []any{one, object{{"type", "array"}, {"items", one}, {"minItems", json.Number("1")}}}}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.schema(t.Elem(), f)
	case reflect.Bool:
		return orExpression(object{{"type", "boolean"}})
	case reflect.Slice:
		return object{{"type", "array"}, {"items", g.schema(t.Elem(), &field{})}}
	case reflect.Map:
		return object{{"type", "object"}, {"additionalProperties", object{{"type", "string"}}}}
	case reflect.Struct:
		return g.structSchema(t)
	}
	switch {
	case slices.Equal(f.enum, []string{"auto", "true", "false"}):
		return orExpression(object{{"enum", []any{"auto", true, false}}})
	case len(f.enum) > 0:
		return orExpression(object{{"enum", texts(f.enum)}})
	case f.pattern != nil:
		return orExpression(object{{"type", "string"}, {"pattern", f.pattern.String()}})
	}
	return object{{"type", "string"}}
}

// oneKey is a mapping with exactly this key.
func oneKey(key string, value object) object {
	return object{{"type", "object"}, {"properties", object{{key, value}}}, {"required", []any{key}}, {"additionalProperties", false}}
}

func (g *generator) structSchema(t reflect.Type) object {
	s := shapeOf(t)
	properties, required := object{}, []any{}
	for _, f := range s.fields {
		p := g.schema(f.typ, f)
		p = append(object{{"description", g.describe(t, f)}}, p...)
		if f.hasDefault {
			p = append(p, member{"default", f.def})
		}
		properties = append(properties, member{f.name, p})
		if f.typ == reflect.TypeFor[Secret]() {
			properties = append(properties, member{f.name + "_file", object{{"description", "Name of a file that holds " + f.name + "; read again at each use."}, {"type", "string"}}})
		}
		if f.required {
			required = append(required, f.name)
		}
	}
	out := object{{"type", "object"}}
	if len(required) == 0 { // a key with nothing after it
		out = object{{"type", []any{"object", "null"}}}
	}
	out = append(out, member{"properties", properties}, member{"additionalProperties", false})
	if len(required) > 0 {
		out = append(out, member{"required", required})
	}
	if s.union || s.word != nil {
		out = append(out, member{"minProperties", json.Number("1")})
		if !s.several {
			out = append(out, member{"maxProperties", json.Number("1")})
		}
	}
	if s.word != nil {
		return object{{"anyOf", []any{object{{"enum", texts(s.word.enum)}}, expression, out}}}
	}
	return out
}

// describe is the field's comment and its limits.
func (g *generator) describe(t reflect.Type, f *field) string {
	out := g.comment(t, f)
	if allowed := f.allowed(); allowed != "" && f.enum == nil {
		out += " Allowed: " + allowed + "."
	}
	return out
}

// allowed tells the limits in words.
func (f *field) allowed() string {
	switch {
	case f.min != "" && f.zero != "":
		return f.min + " to " + f.max + ", or 0 (" + f.zero + ")"
	case f.min != "":
		return f.min + " to " + f.max
	case len(f.enum) > 0:
		return strings.Join(f.enum, ", ")
	case f.url:
		return "an http or https URL"
	case f.zone:
		return "an IANA time zone"
	}
	return f.expect
}

func (g *generator) document() []byte {
	root := g.structSchema(reflect.TypeFor[Config]())
	root = append(object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"title", "Hydrant configuration"},
		{"$defs", object{{"expression", object{{"description", "A value that the environment fills in: ${NAME} or ${NAME:-default}."}, {"type", "string"}, {"pattern", `\$\{`}}}}},
	}, root...)
	var compact, out bytes.Buffer
	writeJSON(&compact, root)
	if err := json.Indent(&out, compact.Bytes(), "", "  "); err != nil {
		panic(err)
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// reference writes a section for the struct at path and then for those in it.
func (g *generator) reference(t reflect.Type, path, intro string) {
	s := shapeOf(t)
	title := "The file"
	if path != "" {
		title = "`" + path + "`"
	}
	fmt.Fprintf(&g.out, "\n### %s\n", title)
	if intro != "" {
		fmt.Fprintf(&g.out, "\n%s\n", intro)
	}
	switch {
	case s.union && s.unionDefault != "":
		fmt.Fprintf(&g.out, "\nExactly one of these; `%s` where none is given.\n", s.unionDefault)
	case s.union:
		fmt.Fprint(&g.out, "\nExactly one of these.\n")
	}
	for _, key := range s.later {
		g.later = append(g.later, child(path, key))
	}
	if len(s.fields) == 0 {
		return
	}
	g.out.WriteString("\n| key | default | allowed | meaning |\n| --- | --- | --- | --- |\n")
	cell := func(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
	for _, f := range s.fields {
		key := "`" + f.name + "`"
		if f.typ == reflect.TypeFor[Secret]() {
			key += ", `" + f.name + "_file`"
		}
		def := ""
		switch {
		case f.required:
			def = "required"
		case f.hasDefault && f.def == "":
			def = "empty"
		case f.hasDefault:
			def = "`" + f.def + "`"
		}
		fmt.Fprintf(&g.out, "| %s | %s | %s | %s |\n", key, cell(def), cell(f.allowed()), cell(g.comment(t, f)))
	}
	for _, f := range s.fields {
		inner, p := f.typ, child(path, f.name)
		if inner.Kind() == reflect.Slice && inner.Elem().Kind() == reflect.Struct {
			inner, p = inner.Elem(), p+"[]"
		}
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner == reflect.TypeFor[Schema]() {
			g.reference(reflect.TypeFor[Glue](), child(p, "glue"), "A table of a Glue catalog.")
		}
		if inner == reflect.TypeFor[RedshiftDSN]() {
			inner = reflect.TypeFor[RedshiftAddress]()
		}
		if inner.Kind() != reflect.Struct || inner == reflect.TypeFor[Secret]() || inner == reflect.TypeFor[Schema]() || inner == reflect.TypeFor[Header]() || shapeOf(inner).word != nil && !shapeOf(inner).several || inner.NumField() == 0 {
			continue
		}
		g.reference(inner, p, g.comment(t, f))
	}
}

const (
	beginMark = "<!-- generated from config/config.go: go generate ./config -->"
	endMark   = "<!-- end of what is generated -->"
)

// TestGenerated compares the files that are made from the structs with what they would be made into now.
func TestGenerated(t *testing.T) {
	g := &generator{comments: comments(t)}
	document := g.document()
	same(t, "hydrant.schema.json", document)
	same(t, filepath.Join("..", "docs", "hydrant.schema.json"), document)

	g.reference(reflect.TypeFor[Config](), "", "")
	g.later = append(g.later, "streams[].destination.s3.retry_duration: a finite time")
	slices.Sort(g.later)
	g.out.WriteString("\n### Not supported yet\n\nThese keys have a meaning and are refused by name until they work:\n")
	for _, key := range g.later {
		fmt.Fprintf(&g.out, "`%s`%s", key, map[bool]string{true: ".\n", false: ", "}[key == g.later[len(g.later)-1]])
	}
	name := filepath.Join("..", "docs", "configuration.md")
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(page), beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok1 || !ok2 {
		t.Fatalf("%s has not both marks, %s and %s", name, beginMark, endMark)
	}
	same(t, name, []byte(before+beginMark+"\n"+g.out.String()+"\n"+endMark+after))
}

func same(t *testing.T, name string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what the structs make it (%v): go generate ./config", name, err)
	}
}

// Every key has a comment, and no comment repeats a default or a limit that the tags have.
func TestEveryKeyIsDescribed(t *testing.T) {
	all := comments(t)
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ == reflect.TypeFor[Schema]() {
			typ = reflect.TypeFor[Glue]()
		}
		if typ == reflect.TypeFor[RedshiftDSN]() {
			typ = reflect.TypeFor[RedshiftAddress]()
		}
		if typ.Kind() != reflect.Struct || seen[typ] || typ == reflect.TypeFor[Secret]() || typ == reflect.TypeFor[Schema]() || typ == reflect.TypeFor[Header]() {
			return
		}
		seen[typ] = true
		for _, f := range shapeOf(typ).fields {
			c := all[typ.Name()+"."+f.goName]
			if len(c) < 15 || !strings.HasSuffix(c, ".") {
				t.Errorf("%s.%s has no sentence that says what it means: %q", typ.Name(), f.goName, c)
			}
			if regexp.MustCompile(`(?i)\bdefaults? (is|to)\b`).MatchString(c) && f.hasDefault {
				t.Errorf("%s.%s: the comment repeats the default of the tag: %q", typ.Name(), f.goName, c)
			}
			walk(f.typ)
		}
	}
	walk(reflect.TypeFor[Config]())
	size := all["Buffer.Size"]
	if !strings.Contains(size, DefaultSize.String()) || !strings.Contains(size, DefaultSizeParquet.String()) {
		t.Errorf("the comment of buffer.size does not tell both defaults, %s and %s: %q", DefaultSize, DefaultSizeParquet, size)
	}
}

// Defaults and limits of the tags are values that the fields can have.
func TestTags(t *testing.T) {
	decode(t, everything)
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ == reflect.TypeFor[Schema]() {
			typ = reflect.TypeFor[Glue]()
		}
		if typ == reflect.TypeFor[RedshiftDSN]() {
			typ = reflect.TypeFor[RedshiftAddress]()
		}
		if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[Secret]() || typ == reflect.TypeFor[Schema]() || typ == reflect.TypeFor[Header]() {
			return
		}
		s := shapeOf(typ)
		if s.unionDefault != "" && !slices.Contains(s.names(), s.unionDefault) {
			t.Errorf("%s: no member %q", typ, s.unionDefault)
		}
		for _, f := range s.fields {
			bytesOr(map[bool]string{true: f.min}[f.typ == reflect.TypeFor[Bytes]()], 0)
			bytesOr(map[bool]string{true: f.max}[f.typ == reflect.TypeFor[Bytes]()], 0)
			countOr(map[bool]string{true: f.min}[f.typ == reflect.TypeFor[Count]()], 0)
			countOr(map[bool]string{true: f.max}[f.typ == reflect.TypeFor[Count]()], 0)
			durationOr(map[bool]string{true: f.min}[f.typ == reflect.TypeFor[Duration]()], 0)
			durationOr(map[bool]string{true: f.max}[f.typ == reflect.TypeFor[Duration]()], 0)
			if f.hasDefault {
				d := &decoder{}
				d.decode(reflect.New(f.typ).Elem(), &node{kind: scalar, text: f.def}, f.name, f)
				if len(d.faults) > 0 {
					t.Errorf("%s.%s: default %v", typ, f.goName, d.faults)
				}
			}
			walk(f.typ)
		}
	}
	walk(reflect.TypeFor[Config]())
}
