package parquet

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pqgo "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	pq "github.com/parquet-go/parquet-go/format"

	"hydrant/format"
)

// everyType has each type once, and each nesting.
const everyType = "a boolean, b tinyint, c smallint, d int, e bigint, f float, g double, h decimal(9,2), i decimal(38,38), j string, m binary, " +
	"n date, o timestamp, p array<string>, q map<string,array<int>>, r struct<x:int,y:struct<z:array<struct<`k l`:date>>>>, S string"

// The schema of a file that we wrote is the one that it was written with.
func TestReadSchemaOfOurFiles(t *testing.T) {
	schema, err := format.ParseDDL(everyType)
	if err != nil {
		t.Fatal(err)
	}
	for _, unit := range []TimestampUnit{Micros, Millis, Int96} {
		f, err := New(Options{Schema: schema, Timestamps: unit})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		e := f.NewEncoder()
		e.Reset(&b)
		if _, err := e.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := ReadSchema(bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err != nil {
			t.Errorf("%s: %v", unit, err)
		} else if got.String() != everyType {
			t.Errorf("%s: %s, want %s", unit, got, everyType)
		}
	}
}

// Files of parquet-go have types that we do not write.
func TestReadSchemaOfOthers(t *testing.T) {
	f := func(n pqgo.Node, want string) {
		t.Helper()
		var b bytes.Buffer
		w := pqgo.NewGenericWriter[any](&b, pqgo.NewSchema("m", pqgo.Group{"c": n}))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := ReadSchema(bytes.NewReader(b.Bytes()), int64(b.Len()))
		text := ""
		if err != nil {
			text = err.Error()
		} else {
			text = got.String()
		}
		if text != want {
			t.Errorf("%s, want %s", text, want)
		}
	}
	const hint = "; declare the columns in the configuration without it, or write the file without it"
	f(pqgo.Uint(8), "c smallint")
	f(pqgo.Uint(16), "c int")
	f(pqgo.Uint(32), "c bigint")
	f(pqgo.Uint(64), "c decimal(20,0)")
	f(pqgo.UUID(), "c string")
	f(pqgo.Enum(), "c string")
	f(pqgo.JSON(), "c string")
	f(pqgo.BSON(), "c binary")
	f(pqgo.Leaf(pqgo.FixedLenByteArrayType(5)), "c binary")
	f(pqgo.Timestamp(pqgo.Nanosecond), "c timestamp")
	f(pqgo.Repeated(pqgo.String()), "c array<string>")
	f(pqgo.Repeated(pqgo.Group{"x": pqgo.Int(64)}), "c array<struct<x:bigint>>")
	f(pqgo.List(pqgo.Optional(pqgo.Int(16))), "c array<smallint>")
	f(pqgo.Map(pqgo.String(), pqgo.Decimal(2, 9, pqgo.Int32Type)), "c map<string,decimal(9,2)>")
	f(pqgo.Time(pqgo.Millisecond), "column c: is a TIME, which has no Hive type"+hint)
	f(pqgo.Group{"t": pqgo.Time(pqgo.Microsecond)}, "column c.t: is a TIME, which has no Hive type"+hint)
}

// Schemas of older writers, by their elements.
func TestSchemaOfElements(t *testing.T) {
	group := func(name string, children int32, more ...func(*pq.SchemaElement)) pq.SchemaElement {
		e := pq.SchemaElement{Name: name, NumChildren: thrift.New(children), RepetitionType: thrift.New(pq.Optional)}
		for _, f := range more {
			f(&e)
		}
		return e
	}
	leaf := func(name string, t pq.Type, more ...func(*pq.SchemaElement)) pq.SchemaElement {
		e := pq.SchemaElement{Name: name, Type: thrift.New(t), RepetitionType: thrift.New(pq.Optional)}
		for _, f := range more {
			f(&e)
		}
		return e
	}
	converted := func(c deprecated.ConvertedType) func(*pq.SchemaElement) {
		return func(e *pq.SchemaElement) { e.ConvertedType = thrift.New(c) }
	}
	repeated := func(e *pq.SchemaElement) { e.RepetitionType = thrift.New(pq.Repeated) }
	digits := func(e *pq.SchemaElement) { e.Precision, e.Scale = thrift.New(int32(39)), thrift.New(int32(0)) }
	f := func(want string, elements ...pq.SchemaElement) {
		t.Helper()
		s, err := schemaOf(append([]pq.SchemaElement{group("root", 1)}, elements...))
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = s.String()
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	f("c array<int>", group("c", 1, converted(deprecated.List)), leaf("array", pq.Int32, repeated))
	f("c array<struct<x:int>>", group("c", 1, converted(deprecated.List)), group("array", 1, repeated), leaf("x", pq.Int32))
	f("c array<struct<x:int>>", group("c", 1, converted(deprecated.List)), group("c_tuple", 1, repeated), leaf("x", pq.Int32))
	f("c array<struct<x:int,y:tinyint>>", group("c", 1, converted(deprecated.List)), group("bag", 2, repeated), leaf("x", pq.Int32), leaf("y", pq.Int32, converted(deprecated.Int8)))
	f("c array<int>", group("c", 1, converted(deprecated.List)), group("bag", 1, repeated), leaf("array_element", pq.Int32))
	f("c map<string,int>", group("c", 1, converted(deprecated.MapKeyValue)), group("map", 2, repeated), leaf("key", pq.ByteArray, converted(deprecated.UTF8)), leaf("value", pq.Int32))
	f("c timestamp", leaf("c", pq.Int96))
	f("c date", leaf("c", pq.Int32, converted(deprecated.Date)))
	f("column c: is a DECIMAL(39,0)", leaf("c", pq.FixedLenByteArray, converted(deprecated.Decimal), digits))
	f("column c: is an INTERVAL", leaf("c", pq.FixedLenByteArray, converted(deprecated.Interval)))
	f("column c: is a LIST without", group("c", 1, converted(deprecated.List)), leaf("x", pq.Int32))
	f("column c: is a MAP without", group("c", 1, converted(deprecated.Map)), leaf("x", pq.Int32))
	f("column c: is a group without members", group("c", 0))
	f("the file's schema is not a tree", group("c", 2), leaf("x", pq.Int32))
	f("the file's schema is not a tree", leaf("c", pq.Int32), leaf("d", pq.Int32))
	var deep []pq.SchemaElement
	for range maxElementDepth + 1 {
		deep = append(deep, group("g", 1))
	}
	f("the file's schema is not a tree, or a very deep one", append(deep, leaf("x", pq.Int32))...)
	deep = deep[:format.MaxSchemaDepth]
	f("column g.g.", append(deep, leaf("x", pq.Int32))...)
	f("g struct<g:", append(deep[1:], leaf("x", pq.Int32))...)
	if _, err := schemaOf([]pq.SchemaElement{group("root", 2), leaf("a", pq.Int32), leaf("A", pq.Int32)}); err == nil || !strings.Contains(err.Error(), "column A: there is another column of this name") {
		t.Errorf("names that differ in case: %v", err)
	}
}

func TestReadSchemaErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "a file of 0 bytes is no Parquet file"},
		{"PAR1........", `no Parquet file, or one that is cut off: it ends in "...." where "PAR1" is expected`},
		{"PAR1\xff\xff\xff\x00PAR1", "damaged Parquet file: a footer of 16777215 bytes in a file of 12"},
	} {
		if _, err := ReadSchema(strings.NewReader(c.in), int64(len(c.in))); err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %s", c.in, err, c.want)
		}
	}
}

// FuzzReadSchema: no footer makes it panic, and what it takes is a schema that its own text means again.
func FuzzReadSchema(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.parquet")
	for _, name := range files {
		if b, err := os.ReadFile(name); err == nil && len(b) < 1<<16 {
			f.Add(b)
		}
	}
	schema, err := format.ParseDDL(everyType)
	if err != nil {
		f.Fatal(err)
	}
	p, err := New(Options{Schema: schema})
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	e := p.NewEncoder()
	e.Reset(&b)
	if _, err := e.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := ReadSchema(bytes.NewReader(in), int64(len(in)))
		if err != nil {
			return
		}
		if again, err := format.ParseDDL(s.String()); err != nil || again.String() != s.String() {
			t.Fatalf("%q is read as %v, %v", s, again, err)
		}
	})
}
