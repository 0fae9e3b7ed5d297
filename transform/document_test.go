package transform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"hydrant/format"
	"hydrant/format/parquet"
	"hydrant/record"
)

// parsed is a Document of this text, parsed.
func parsed(t testing.TB, text string) (*Document, Ref) {
	t.Helper()
	d := &Document{}
	d.Reset([]byte(text))
	root, err := d.Root()
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d, root
}

// path is a parsed Path.
func path(t testing.TB, text string) Path {
	t.Helper()
	p, err := ParsePath(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEdits(t *testing.T) {
	const text = " {\"a\" : 1.50 , \"b\":{\"c\":[1, 2 ,3],\"d\":\"x\\u0041\"},\"e\":null}\n"
	for _, c := range []struct {
		name string
		edit func(d *Document, root Ref)
		want string
	}{
		{"nothing", func(d *Document, root Ref) {}, text},
		{"remove first", func(d *Document, root Ref) { d.Remove(d.Member(root, "a")) }, " {\"b\":{\"c\":[1, 2 ,3],\"d\":\"x\\u0041\"},\"e\":null}\n"},
		{"remove middle", func(d *Document, root Ref) { d.Remove(d.Member(root, "b")) }, " {\"a\" : 1.50,\"e\":null}\n"},
		{"remove last", func(d *Document, root Ref) { d.Remove(d.Member(root, "e")) }, " {\"a\" : 1.50,\"b\":{\"c\":[1, 2 ,3],\"d\":\"x\\u0041\"}}\n"},
		{"remove all", func(d *Document, root Ref) {
			for d.First(root) != 0 {
				d.Remove(d.First(root))
			}
		}, " {}\n"},
		{"remove deep", func(d *Document, root Ref) { d.Remove(d.Find(root, path(t, "b.d"))) }, " {\"a\" : 1.50,\"b\":{\"c\":[1, 2 ,3]},\"e\":null}\n"},
		{"remove an element", func(d *Document, root Ref) { d.Remove(d.First(d.Find(root, path(t, "b.c")))) }, " {\"a\" : 1.50,\"b\":{\"c\":[2,3],\"d\":\"x\\u0041\"},\"e\":null}\n"},
		{"rename", func(d *Document, root Ref) { d.Rename(d.Member(root, "a"), "x\"y") }, " {\"x\\\"y\":1.50,\"b\":{\"c\":[1, 2 ,3],\"d\":\"x\\u0041\"},\"e\":null}\n"},
		{"rename an object that changes", func(d *Document, root Ref) {
			b := d.Member(root, "b")
			d.Rename(b, "bb")
			d.Remove(d.Member(b, "c"))
		}, " {\"a\" : 1.50,\"bb\":{\"d\":\"x\\u0041\"},\"e\":null}\n"},
		{"replace", func(d *Document, root Ref) { d.Replace(d.Member(root, "e"), d.NewString("é\n")) }, " {\"a\" : 1.50,\"b\":{\"c\":[1, 2 ,3],\"d\":\"x\\u0041\"},\"e\":\"é\\n\"}\n"},
		{"append", func(d *Document, root Ref) { d.Append(root, "z", d.NewScalar(True, "true")) }, " {\"a\" : 1.50,\"b\":{\"c\":[1, 2 ,3],\"d\":\"x\\u0041\"},\"e\":null,\"z\":true}\n"},
		{"insert before the first", func(d *Document, root Ref) { d.InsertBefore(d.First(root), "z", d.NewScalar(Number, "7")) }, " {\"z\":7,\"a\" : 1.50,\"b\":{\"c\":[1, 2 ,3],\"d\":\"x\\u0041\"},\"e\":null}\n"},
		{"insert before the last", func(d *Document, root Ref) { d.InsertBefore(d.Member(root, "e"), "z", d.NewScalar(Number, "7")) }, " {\"a\" : 1.50,\"b\":{\"c\":[1, 2 ,3],\"d\":\"x\\u0041\"},\"z\":7,\"e\":null}\n"},
		{"another root", func(d *Document, root Ref) { d.SetRoot(d.Find(root, path(t, "b.c"))) }, " [1, 2 ,3]\n"},
		{"push", func(d *Document, root Ref) { d.Push(d.Find(root, path(t, "b.c")), d.NewScalar(Null, "null")) }, " {\"a\" : 1.50,\"b\":{\"c\":[1,2,3,null],\"d\":\"x\\u0041\"},\"e\":null}\n"},
		{"into an empty object", func(d *Document, root Ref) {
			o := d.NewContainer(Object)
			d.Append(root, "o", o)
			d.Append(o, "p", d.Copy(d.Find(root, path(t, "b.c"))))
		}, " {\"a\" : 1.50,\"b\":{\"c\":[1, 2 ,3],\"d\":\"x\\u0041\"},\"e\":null,\"o\":{\"p\":[1, 2 ,3]}}\n"},
		{"place", func(d *Document, root Ref) {
			o, name, _ := d.Place(root, path(t, "e.f.g"))
			d.Append(o, name, d.NewScalar(Number, "1"))
		}, " {\"a\" : 1.50,\"b\":{\"c\":[1, 2 ,3],\"d\":\"x\\u0041\"},\"e\":{\"f\":{\"g\":1}}}\n"},
	} {
		d, root := parsed(t, text)
		c.edit(d, root)
		if got := string(d.Data()); got != c.want {
			t.Errorf("%s\n got %q\nwant %q", c.name, got, c.want)
		}
		// What was written can be edited on.
		d.SetRoot(d.NewScalar(Null, "null"))
		if got := string(d.Data()); got != " null\n" {
			t.Errorf("%s: then null: %q", c.name, got)
		}
	}
}

func TestNamesAndStrings(t *testing.T) {
	d, root := parsed(t, `{"\u0061\ud83d\ude00":"\"\\\/\b\f\n\r\t\ud800x","plain":"é"}`)
	if v := d.Member(root, "a😀"); v == 0 || string(d.StringValue(v)) != "\"\\/\b\f\n\r\t\ufffdx" {
		t.Errorf("%d %q", v, d.StringValue(v))
	}
	if v := d.Member(root, "plain"); string(d.StringValue(v)) != "é" || string(d.Name(v)) != "plain" {
		t.Errorf("%q: %q", d.Name(v), d.StringValue(v))
	}
	if v := d.Member(root, "none"); v != 0 {
		t.Errorf("found %d", v)
	}
}

func TestSyntax(t *testing.T) {
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"member%d":%d,`, i, i)
		}
		return b.String()
	}
	for _, c := range []struct{ in, want string }{
		{"", "it is empty"},
		{" \n", "it is empty"},
		{"{", "it ends at byte 1 where a member's name is expected"},
		{"[1,]", "found ']' at byte 3 where a value is expected"},
		{"[1 2]", "found '2' at byte 3 where a comma or a closing bracket is expected"},
		{`{"a":1 "b":2}`, `found '"' at byte 7 where a comma or a closing brace is expected`},
		{`{"a" 1}`, `found '1' at byte 5 where a colon is expected`},
		{`{a:1}`, `found 'a' at byte 1 where a member's name is expected`},
		{`"a`, "it ends at byte 2 where the end of the string is expected"},
		{"\"a\nb\"", "found the control character 0x0a at byte 2 inside a string"},
		{`"\x"`, `found 'x' at byte 2 where an escape character is expected`},
		{`"\u12g4"`, `found 'g' at byte 5 where a hexadecimal digit is expected`},
		{"01", "found '1' at byte 1 where the end is expected"},
		{"-", "it ends at byte 1 where a digit is expected"},
		{"1.", "it ends at byte 2 where a digit is expected"},
		{"1e+", "it ends at byte 3 where a digit is expected"},
		{"nul", "found 'n' at byte 0 where a value is expected"},
		{"\"\xff\"", "byte 0xff at 1 is not valid UTF-8"},
		{`{}{}`, "a second JSON value begins at byte 2; `deaggregate: json` takes such records apart"},
		{`{"a":1,"b":2,"a":3}`, `the member "a" at byte 13 is there twice`},
		{`{"x":{"a":1,"\u0061":3}}`, `the member "\u0061" at byte 12 is there twice`},
		{`{` + many(500) + `"member499":0}`, `the member "member499" at byte 7781 is there twice`},
		{`{` + many(100) + `"member0":0}`, `the member "member0" at byte 1381 is there twice`},
		{strings.Repeat("[", maxDepth+1), "it is nested deeper than 10000 levels at byte 10000"},
		{strings.Repeat(" ", MaxData+1), "it has 16777217 bytes, at most 16777216 are parsed"},
	} {
		d := &Document{}
		d.Reset([]byte(c.in))
		_, err := d.Root()
		if err == nil || err.Error() != c.want {
			t.Errorf("%.80q: %v\nwant %s", c.in, err, c.want)
		}
	}
	for _, in := range []string{
		strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth),
		`{` + many(500) + `"a":{` + many(128) + `"z":1}}`,
		`{"":1," ":2}`, " [ ] ", "{ }", "-0.0e-0",
		strings.Repeat(" ", MaxData-1) + "1",
	} {
		parsed(t, in)
	}
}

func TestPath(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"a", "[{a false}]"},
		{".a.b-c_1", "[{a false} {b-c_1 false}]"},
		{`a."b.\u0063"[].é`, "[{a false} {b.c false} { true} {é false}]"},
		{`""`, "[{ false}]"},
	} {
		if p := path(t, c.in); fmt.Sprint(p.steps) != c.want {
			t.Errorf("%s: %v", c.in, p.steps)
		}
	}
	for _, c := range []struct{ in, want string }{
		{"", `path "": a name is expected; names of other characters than letters, digits, _ and - stand in double quotes`},
		{".", `path ".": a name is expected; names of other characters than letters, digits, _ and - stand in double quotes`},
		{"[]", `path "[]": a name is expected; names of other characters than letters, digits, _ and - stand in double quotes`},
		{"a..b", `path "a..b": a name is expected; names of other characters than letters, digits, _ and - stand in double quotes`},
		{"a b", `path "a b": a dot or [] is expected before " b"`},
		{"\xbc", `path "\xbc": it is not valid UTF-8`},
		{"a[0]", `path "a[0]": a dot or [] is expected before "[0]"`},
		{`"a`, `path "\"a": it ends at byte 2 where the end of the string is expected`},
		{"a" + strings.Repeat(".a", 64), "path \"a" + strings.Repeat(".a", 64) + `": it has more than 64 steps`},
		{"a" + strings.Repeat("[]", 64), "path \"a" + strings.Repeat("[]", 64) + `": it has more than 64 steps`},
	} {
		if _, err := ParsePath(c.in); err == nil || err.Error() != c.want {
			t.Errorf("%q: %v\nwant %s", c.in, err, c.want)
		}
	}
	path(t, "a"+strings.Repeat(".a", 63))
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"a", ".a.b", `"x\"y".z[]`, "a[]", "a[][]", ".", `"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePath(text)
		if err != nil {
			return
		}
		var b strings.Builder
		for i, s := range p.steps {
			switch {
			case s.each:
				b.WriteString("[]")
				continue
			case i > 0:
				b.WriteByte('.')
			}
			b.Write(AppendString(nil, s.name))
		}
		q, err := ParsePath(b.String())
		if err != nil || fmt.Sprint(q.steps) != fmt.Sprint(p.steps) {
			t.Fatalf("%q reads as %v, and written out as %s as %v (%v)", text, p.steps, b.String(), q.steps, err)
		}
	})
}

// dirtyAll makes every container be written anew.
func dirtyAll(d *Document) {
	for i := range d.nodes {
		if k := d.nodes[i].kind; k >= Array {
			d.nodes[i].dirty = true
		}
	}
	d.changed = true
}

// twice tells whether an object in valid JSON has a member twice, by encoding/json's tokens.
func twice(text []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	type level struct {
		seen  map[string]bool // nil in an array
		value bool            // a value is next
	}
	var stack []level
	for {
		tok, err := dec.Token()
		if err != nil {
			return false
		}
		if n := len(stack); n > 0 && stack[n-1].seen != nil && !stack[n-1].value {
			if key, ok := tok.(string); ok {
				if stack[n-1].seen[key] {
					return true
				}
				stack[n-1].seen[key] = true
				stack[n-1].value = true
				continue
			}
		}
		switch tok {
		case json.Delim('{'):
			stack = append(stack, level{seen: map[string]bool{}})
			continue
		case json.Delim('['):
			stack = append(stack, level{})
			continue
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:len(stack)-1]
		}
		if n := len(stack); n > 0 {
			stack[n-1].value = false
		}
	}
}

// What the parser takes is what encoding/json takes, in valid UTF-8 and without members that are there twice; a tree that is
// written anew is the text without white space; and Parquet takes the same objects.
func FuzzDocument(f *testing.F) {
	for _, s := range []string{
		`{"a":1,"b":[true,false,null,"x"],"c":{"d":-1.5e+3}}`, ` [ 1 , 2 ] `, `"\u00e9\ud83d\ude00\ud800"`, `{"a":1,"a":2}`, `{"a":1}{"b":2}`,
		`{"\u0061":1,"a":2}`, "\"\x7f\"", "1e999", "-0", "\xff", "", `{"":{"":{}}}`, `{"12345678":1,"12345679":2,"123456789":3}`, "\u2028", "\"\\u2028\"",
	} {
		f.Add([]byte(s))
	}
	schema, err := format.ParseDDL("nobodys_column string")
	if err != nil {
		f.Fatal(err)
	}
	fm, err := parquet.New(parquet.Options{Schema: schema})
	if err != nil {
		f.Fatal(err)
	}
	enc := fm.NewEncoder()
	f.Fuzz(func(t *testing.T, text []byte) {
		var d Document
		d.Reset(text)
		root, err := d.Root()
		want := json.Valid(text) && utf8.Valid(text) && !twice(text)
		if (err == nil) != want {
			t.Fatalf("%q: %v, want %v", text, err, want)
		}
		if err != nil {
			return
		}
		if got := d.Data(); !bytes.Equal(got, text) {
			t.Fatalf("%q is written as %q", text, got)
		}
		if d.Kind(root) == Object {
			enc.Reset(new(bytes.Buffer))
			if err := enc.Append(record.Row{Data: text}); err != nil && !strings.Contains(err.Error(), "obodys_column") {
				t.Fatalf("%q: Parquet refuses it: %v", text, err)
			}
		}
		dirtyAll(&d)
		var compact bytes.Buffer
		if err := json.Compact(&compact, text); err != nil {
			t.Fatal(err)
		}
		if got := bytes.Trim(d.Data(), " \n\t\r"); !bytes.Equal(stripColons(got), stripColons(compact.Bytes())) {
			t.Fatalf("%q\n is written as %q\nand compact is %q", text, got, compact.Bytes())
		}
		for _, v := range []Ref{root} {
			if d.Kind(v) == String {
				var s string
				if err := json.Unmarshal(text, &s); err != nil || string(d.StringValue(v)) != s {
					t.Fatalf("%q stands for %q, want %q", text, d.StringValue(v), s)
				}
			}
		}
	})
}

// stripColons takes out white space, which a member that was not changed keeps around its colon.
func stripColons(b []byte) []byte {
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return b
	}
	return out.Bytes()
}
