package format

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func ref(t Type) *Type { return &t }

func TestParseType(t *testing.T) {
	f := func(in string, want Type) {
		t.Helper()
		got, err := ParseType(in)
		if err != nil {
			t.Errorf("ParseType(%q): %v", in, err)
			return
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("ParseType(%q) = %+v, want %+v", in, got, want)
		}
	}
	for k := Boolean; k <= Timestamp; k++ {
		if k != Decimal && k != Char && k != VarChar {
			f(k.String(), Type{Kind: k})
			f(strings.ToUpper(k.String()), Type{Kind: k})
		}
	}
	f("INTEGER", Type{Kind: Int})
	f("double  precision", Type{Kind: Double})
	f("decimal", Type{Kind: Decimal, Precision: 10})
	f("decimal(38)", Type{Kind: Decimal, Precision: 38})
	f("numeric( 12 , 12 )", Type{Kind: Decimal, Precision: 12, Scale: 12})
	f("char(255)", Type{Kind: Char, Length: 255})
	f("varchar(65535)", Type{Kind: VarChar, Length: 65535})
	f("array<int>", Type{Kind: Array, Elem: ref(Type{Kind: Int})})
	f("map<date,array<string>>", Type{Kind: Map, Key: ref(Type{Kind: Date}), Elem: ref(Type{Kind: Array, Elem: ref(Type{Kind: String})})})
	f("struct<a:int, B string comment 'it''s', `c``,d` : struct<array:array<bigint>>>", Type{Kind: Struct, Fields: []Field{
		{"a", Type{Kind: Int}}, {"B", Type{Kind: String}},
		{"c`,d", Type{Kind: Struct, Fields: []Field{{"array", Type{Kind: Array, Elem: ref(Type{Kind: BigInt})}}}}},
	}})
}

func TestParseDDL(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		s, err := ParseDDL(in)
		if err != nil {
			t.Errorf("ParseDDL(%q): %v", in, err)
			return
		}
		if got := s.String(); got != want {
			t.Errorf("ParseDDL(%q) = %s, want %s", in, got, want)
		}
	}
	f("a string", "a string")
	f("a string, b int;", "a string, b int")
	f("a:string,b:int", "a string, b int")
	f("create string, table int", "create string, table int")
	f("detail-type string, 1st int, `größe` double, schlüssel int", "`detail-type` string, `1st` int, `größe` double, `schlüssel` int")
	f("-- the key\nid bigint, /* two\nlines */ `two words` decimal COMMENT \"a \\\" b\"", "id bigint, `two words` decimal(10,0)")
	f("CREATE EXTERNAL TABLE IF NOT EXISTS `db`.`t` (\n  ts timestamp COMMENT 'when',\n  user struct<id:bigint COMMENT 'x',tags:array<string>>\n)\nPARTITIONED BY (dt string)\nSTORED AS PARQUET;",
		"ts timestamp, user struct<id:bigint,tags:array<string>>")
	f("create table a.b.c (timestamp timestamp, date date)", "timestamp timestamp, date date")
	f("create temporary table t(a map<string,int>) comment 'c'", "a map<string,int>")
}

func TestParseColumns(t *testing.T) {
	s, err := ParseColumns([]string{"event_id string", "ts timestamp", "price DECIMAL(10,2) comment 'net'", "user struct<id:bigint,tags:array<string>>"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"event_id string", "ts timestamp", "price decimal(10,2)", "user struct<id:bigint,tags:array<string>>"}
	if got := s.Columns(); !reflect.DeepEqual(got, want) {
		t.Errorf("Columns() = %q, want %q", got, want)
	}
	if got := s.Leaves(); got != 5 {
		t.Errorf("Leaves() = %d, want 5", got)
	}
	again, err := ParseDDL(s.String())
	if err != nil || !reflect.DeepEqual(again, s) {
		t.Errorf("ParseDDL(String()) = %v, %v, want the same schema", again, err)
	}
}

// Version is metadata of stored objects: it must not change from one build to the next.
func TestSchemaVersion(t *testing.T) {
	f := func(ddl, want string) {
		t.Helper()
		s, err := ParseDDL(ddl)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Version(); got != want {
			t.Errorf("version of %q = %s, want %s", ddl, got, want)
		}
	}
	f("a string, b decimal", "7a24cd1aa557")
	f("create table t (`a` STRING comment 'x', b numeric(10))", "7a24cd1aa557")
	f("A string, b decimal", "01e9da10c2ba")
}

func TestSchemaFaults(t *testing.T) {
	parse := map[string]func(string) error{
		"ddl":   func(s string) error { _, err := ParseDDL(s); return err },
		"entry": func(s string) error { _, err := ParseColumns([]string{s}); return err },
		"type":  func(s string) error { _, err := ParseType(s); return err },
	}
	f := func(how, in, want string) {
		t.Helper()
		err := parse[how](in)
		if err == nil {
			t.Errorf("%s %q: accepted, want %q", how, in, want)
			return
		}
		if err.Error() != want {
			t.Errorf("%s %q:\n got %s\nwant %s", how, in, err, want)
		}
		if se, ok := errors.AsType[*SchemaError](err); !ok || se.Line < 1 || se.Char < 1 || se.Problem == "" {
			t.Errorf("%s %q: error %#v is no complete *SchemaError", how, in, err)
		}
	}
	const types = "the types are boolean, tinyint, smallint, int, bigint, float, double, decimal, string, char, varchar, binary, date, timestamp, array, map, struct; a name with blanks or punctuation goes in backquotes"
	f("ddl", " ", `a schema needs at least one column (at the end of the text, character 2); give columns as "name type, name type"`)
	f("ddl", "a string,\n  b strng", `column "b": unknown type "strng" (at "strng", line 2, character 5); `+types)
	f("ddl", "a string,", `expected the name of a column (at the end of the text, character 10); write it as name and type; names with other than letters, digits and _ go in backquotes`)
	f("ddl", "a string b int", `expected a comma or the end after the column (at "b", character 10)`)
	f("ddl", "a string, A int", `column "A": the name was already given to "a" (case does not count) (at "A", character 11); rename one of the two`)
	f("ddl", "ü struct<x:int,X:int>", `column "ü.X": the name was already given to "x" (case does not count) (at "X", character 16); rename one of the two`)
	f("ddl", "a uniontype<int,string>", `column "a": unknown type "uniontype" (at "uniontype", character 3); unions have no Parquet form: declare the column as string, or as a struct with a member for each alternative`)
	f("ddl", "a struct<b:set<int>>", `column "a.b": unknown type "set" (at "set", character 12); use array<type>: sets are not supported`)
	f("ddl", "create table t (a int", `expected ")" or a comma after the column (at the end of the text, character 22)`)
	f("ddl", "create table (a int)", `expected the name of the table (at "(", character 14)`)
	f("ddl", "create table if t (a int)", `expected NOT (at "t", character 17)`)
	f("ddl", "create table t (a int) select 1", `unexpected text after the columns of the table (at "select", character 24); remove it`)
	f("ddl", "a int not null", `column "a": constraints are not supported: every column may be null (at "not", character 7); remove NOT`)
	f("ddl", "`a int", "a quote is opened and never closed (at \"`a int\", character 1); close it with `")
	f("ddl", "a int /* b", `column "a": a comment is opened and never closed (at "/* b", character 7); close it with */`)
	f("ddl", "`` int", "the name of a column is empty or has control characters (at \"``\", character 1); give it another name")
	f("ddl", "a int comment b", `column "a": expected the text of the comment in quotes (at "b", character 15); write COMMENT 'text'`)
	f("ddl", "a int, \xff int", `the schema is not valid UTF-8 (at "\xff", character 8)`)
	f("entry", "a", `column "a": expected a type (at the end of the text, character 2)`)
	f("entry", "", `column number 1: expected the name of a column (at the end of the text, character 1); write it as name and type; names with other than letters, digits and _ go in backquotes`)
	f("entry", "a int, b int", `column number 1: unexpected text after the column (at ",", character 6); give one column in each entry of the list`)
	f("entry", "user name string", `column "user": unknown type "name" (at "name", character 6); `+types)
	f("type", "decimal(39)", `the precision is not a number from 1 to 38 (at "39", character 9); write decimal(p,s) with 1 <= p <= 38 and 0 <= s <= p`)
	f("type", "decimal(5,6)", `the scale is not a number from 0 to 5 (at "6", character 11); write decimal(p,s) with 1 <= p <= 38 and 0 <= s <= p`)
	f("type", "decimal(-1)", `the precision is not a number from 1 to 38 (at "-1", character 9); write decimal(p,s) with 1 <= p <= 38 and 0 <= s <= p`)
	f("type", "decimal(5 2)", `expected ")" after the precision and scale (at "2", character 11); write decimal(p,s) with 1 <= p <= 38 and 0 <= s <= p`)
	f("type", "varchar", `expected "(" and a length after varchar (at the end of the text, character 8); write varchar(n) with 1 <= n <= 65535, or string`)
	f("type", "char(256)", `the length is not a number from 1 to 255 (at "256", character 6); write char(n) with 1 <= n <= 255, or string`)
	f("type", "string(10)", `string takes no parameters (at "(", character 7); remove them`)
	f("type", "timestamp with time zone", `a timestamp is always an instant: time zones are not part of the type (at "with", character 11); write timestamp alone`)
	f("type", "array", `expected "<" after array (at the end of the text, character 6); write array<type>`)
	f("type", "array<int", `expected ">" after the type of the array's elements (at the end of the text, character 10)`)
	f("type", "map<array<int>,int>", `a map's key cannot be nested (at "array", character 5); use string for the key`)
	f("type", "map<int>", `expected "," after the type of the map's keys (at ">", character 8); write map<key type,value type>`)
	f("type", "struct<>", `a struct needs at least one member (at ">", character 8); write struct<name:type,name:type>`)
	f("type", "struct<a:int,>", `expected the name of a struct's member (at ">", character 14); write it as name and type; names with other than letters, digits and _ go in backquotes`)
	f("type", "int>", `unexpected text after the type (at ">", character 4); remove it`)
	f("type", "long", `unknown type "long" (at "long", character 1); use bigint`)
	f("type", strings.Repeat("array<", 100)+"int"+strings.Repeat(">", 100), `types are nested more than 100 deep (at "int", character 601); declare the inner part as string`)
	f("ddl", strings.Repeat("c int, ", 3)+"d int", `column "c": the name was already given to "c" (case does not count) (at "c", character 8); rename one of the two`)
}

func TestSchemaLimits(t *testing.T) {
	if _, err := ParseType(strings.Repeat("array<", MaxSchemaDepth-1) + "int" + strings.Repeat(">", MaxSchemaDepth-1)); err != nil {
		t.Errorf("a type %d deep: %v", MaxSchemaDepth, err)
	}
	if _, err := ParseColumns(nil); err == nil {
		t.Error("a schema without columns was accepted")
	}
	cols := make([]string, MaxLeaves+2)
	for i := range cols {
		cols[i] = fmt.Sprintf("c%d int", i)
	}
	if _, err := ParseColumns(cols[:MaxLeaves]); err != nil {
		t.Errorf("%d columns: %v", MaxLeaves, err)
	}
	_, err := ParseColumns(cols)
	if err == nil || strings.Count(err.Error(), "more than 10000 columns") != 1 {
		t.Errorf("%d columns: error %v, want one that names the limit once", len(cols), err)
	}
}

// All faults of a list are told at once, each with its entry.
func TestParseColumnsTellsEveryFault(t *testing.T) {
	_, err := ParseColumns([]string{"a int", "b nit", "c int", "A string", "d char"})
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("error %v does not join several", err)
	}
	var got []int
	for _, e := range joined.Unwrap() {
		se, ok := errors.AsType[*SchemaError](e)
		if !ok {
			t.Fatalf("%v is no *SchemaError", e)
		}
		got = append(got, se.Entry)
	}
	if want := []int{1, 3, 4}; !reflect.DeepEqual(got, want) {
		t.Errorf("faulty entries %v, want %v", got, want)
	}
}

func FuzzParseDDL(f *testing.F) {
	for _, s := range []string{
		"a string, b decimal(10,2)", "create table `t` (a struct<b:array<map<string,int>> comment 'x'>) stored as parquet",
		"`a``b` char(3);", "-- c\na int /* x */", "a struct<", "a map<int,", "\xff", "a decimal(99999999999999999999)", "A int, a int", "create create",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s, err := ParseDDL(in)
		if err != nil {
			if _, ok := errors.AsType[*SchemaError](err); !ok || err.Error() == "" {
				t.Fatalf("ParseDDL(%q): error %#v is no *SchemaError", in, err)
			}
			return
		}
		canonical := s.String()
		again, err := ParseDDL(canonical)
		if err != nil || !reflect.DeepEqual(again, s) || again.String() != canonical {
			t.Fatalf("ParseDDL(%q) prints %q, which reads back as %v, %v", in, canonical, again, err)
		}
		cols, err := ParseColumns(s.Columns())
		if err != nil || !reflect.DeepEqual(cols, s) {
			t.Fatalf("ParseColumns(%q) = %v, %v", s.Columns(), cols, err)
		}
	})
}
