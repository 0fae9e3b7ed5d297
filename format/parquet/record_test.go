package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"hydrant/format"
	"hydrant/record"
)

func mustSchema(tb testing.TB, ddl string) *format.Schema {
	tb.Helper()
	s, err := format.ParseDDL(ddl)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// TestRecords checks what is a record, with the exact answer to what is none.
func TestRecords(t *testing.T) {
	const malformed = "Encountered malformed JSON. "
	for _, c := range []struct {
		in   string
		rows string // joined by blanks
		err  string // after the code and "Encountered malformed JSON. "
	}{
		{`{"a":1}`, `{"a":1}`, ""},
		{" \t\r\n{ \"a\" : 1 }\n", `{"a":1}`, ""},
		{`{}`, `{"a":null}`, ""},
		{`{ }`, `{"a":null}`, ""},
		{`{"a":1}{"a":2}`, `{"a":1} {"a":2}`, ""},
		{"{\"a\":1}\n{}\n\n{\"a\":3}\n", `{"a":1} {"a":null} {"a":3}`, ""},
		{`{"b":{"c":[1,{"d":null},"\u00e9",true,false,-0.5e-3]},"a":1}`, `{"a":1}`, ""},
		{`{"a":1,"b":2,"b":3}`, `{"a":1}`, ""},
		{`{"b":"\ud800","a":1}`, `{"a":1}`, ""},

		{``, "", "The record is empty, a JSON object is expected"},
		{" \n", "", "The record is empty, a JSON object is expected"},
		{`[{"a":1}]`, "", "Found an array at byte 0 where a JSON object is expected; a record is one or more objects"},
		{`{"a":1}[]`, "", "Found an array at byte 7 where a JSON object is expected; a record is one or more objects"},
		{`{"a":1},{"a":2}`, "", "Found ',' at byte 7 where a JSON object is expected"},
		{`{"a":1}}`, "", "Found '}' at byte 7 where a JSON object is expected"},
		{`hello`, "", "Found 'h' at byte 0 where a JSON object is expected"},
		{`1`, "", "Found '1' at byte 0 where a JSON object is expected"},
		{`null`, "", "Found 'n' at byte 0 where a JSON object is expected"},
		{"\ufeff{}", "", "Found '\\ufeff' at byte 0 where a JSON object is expected"},
		{`{"a":1`, "", "It ends at byte 6 where a comma or a closing brace is expected"},
		{`{"a":`, "", "It ends at byte 5 where a value is expected"},
		{`{"a"`, "", "It ends at byte 4 where a colon is expected"},
		{`{"a`, "", "It ends at byte 3 where the end of the string is expected"},
		{`{`, "", "It ends at byte 1 where a member's name is expected"},
		{`{"a":1,}`, "", "Found '}' at byte 7 where a member's name is expected"},
		{`{"a":1 "b":2}`, "", `Found '"' at byte 7 where a comma or a closing brace is expected`},
		{`{a:1}`, "", "Found 'a' at byte 1 where a member's name is expected"},
		{`{"a":01}`, "", "Found '1' at byte 6 where a comma or a closing brace is expected"},
		{`{"a":-}`, "", "Found '}' at byte 6 where a digit is expected"},
		{`{"a":1.}`, "", "Found '}' at byte 7 where a digit is expected"},
		{`{"a":.5}`, "", "Found '.' at byte 5 where a value is expected"},
		{`{"a":+1}`, "", "Found '+' at byte 5 where a value is expected"},
		{`{"a":1e}`, "", "Found '}' at byte 7 where a digit is expected"},
		{`{"a":nul}`, "", "Found 'n' at byte 5 where a value is expected"},
		{`{"b":[1,]}`, "", "Found ']' at byte 8 where a value is expected"},
		{`{"b":[1 2]}`, "", "Found '2' at byte 8 where a comma or a closing bracket is expected"},
		{`{"b":{"c":01}}`, "", "Found '1' at byte 11 where a comma or a closing brace is expected"},
		{`{"b":{"c"}}`, "", "Found '}' at byte 9 where a colon is expected"},
		{`{"b":{,}}`, "", "Found ',' at byte 6 where a member's name is expected"},
		{`{"b":"\x"}`, "", "Found 'x' at byte 7 where an escape character is expected"},
		{`{"b":"\u12g4"}`, "", "Found 'g' at byte 10 where a hexadecimal digit is expected"},
		{"{\"b\":\"\x01\"}", "", "Found the control character 0x01 at byte 6 inside a string"},
		{"{\"b\":\"\x00\"}", "", "Found the control character 0x00 at byte 6 inside a string"},
		{"{\"b\":1}\x00", "", "Found '\\x00' at byte 7 where a JSON object is expected"},
		{"{\"b\":\"\xff\"}", "", "Byte 0xff at 6 is not valid UTF-8"},
		{"{\"b\":\"\xc3\"}", "", "Byte 0xc3 at 6 is not valid UTF-8"},
		{"{\"\xed\xa0\x80\":1}", "", "Byte 0xed at 2 is not valid UTF-8"},
		// What is not JSON is refused for that, even where a column is wrong before it.
		{`{"a":"x"`, "", "It ends at byte 8 where a comma or a closing brace is expected"},
		{`{"a":"x"}{`, "", "It ends at byte 10 where a member's name is expected"},
	} {
		w := convert(t, Options{Schema: mustSchema(t, "a int")}, c.in)
		if got := strings.Join(w.rows, " "); got != c.rows {
			t.Errorf("%q: rows %s, want %s", c.in, got, c.rows)
		}
		switch f := w.fails[0]; {
		case c.err == "" && f != nil:
			t.Errorf("%q refused: %v", c.in, f)
		case c.err != "" && f == nil:
			t.Errorf("%q was taken", c.in)
		case f != nil && (f.Code != codeParse || f.Message != malformed+c.err):
			t.Errorf("%q: got %s: %s\nwant %s", c.in, f.Code, f.Message, malformed+c.err)
		}
	}
}

func TestDepth(t *testing.T) {
	nest := func(open, shut string, n int) string {
		return `{"b":` + strings.Repeat(open, n) + strings.Repeat(shut, n) + `,"a":1}`
	}
	for _, c := range []struct {
		in  string
		err string
	}{
		{nest("[", "]", 9_999), ""},
		{nest("[", "]", 10_000), "Encountered malformed JSON. It is nested deeper than 10000 levels at byte 10004"},
		{nest("[", "]", 1_000_000), "Encountered malformed JSON. It is nested deeper than 10000 levels at byte 10004"},
		{strings.Replace(nest(`{"":`, "}", 9_998), ":}", ":{}}", 1), ""},
		{strings.Replace(nest(`{"":`, "}", 9_999), ":}", ":{}}", 1), "Encountered malformed JSON. It is nested deeper than 10000 levels at byte 40001"},
	} {
		w := convert(t, Options{Schema: mustSchema(t, "a int")}, c.in)
		if f := w.fails[0]; (f == nil) != (c.err == "") || f != nil && f.Message != c.err {
			t.Errorf("%d bytes: %v, want %q", len(c.in), f, c.err)
		}
	}
}

// TestRefusedIsNotWritten puts bad records between good ones: the rows are those of the good ones and
// nothing that only bad records held is in the file, in any column or dictionary.
func TestRefusedIsNotWritten(t *testing.T) {
	schema := mustSchema(t, `s string, n bigint, d double, f float, i int, dec decimal(20,2), tags array<string>,
		m map<string,array<struct<x:string,y:bigint>>>, st struct<a:string,b:struct<c:timestamp,d:boolean>>, last int`)
	good := func(i int) string {
		return fmt.Sprintf(`{"s":"good %d","n":%d,"d":%d.5,"f":0.5,"i":%d,"dec":"%d.25","tags":["t%d",null,"good tag"],`+
			`"m":{"k%d":[{"x":"good x","y":%d},{}]},"st":{"a":"good a","b":{"d":true}},"last":1}`, i%7, i, i, i%3, i%5, i%4, i%3, i)
	}
	bad := func(i int) string {
		return fmt.Sprintf(`{"s":"SECRET %d","n":%d,"d":%d.5,"f":0.25,"i":%d,"dec":"%d.75","tags":["SECRET %d","SECRET b"],`+
			`"m":{"SECRET%d":[{"x":"SECRET x","y":5},{"x":"SECRET y"}]},"st":{"a":"SECRET a","b":{"c":5,"d":true}},`, i, 1000+i, 1000+i, 1000+i, 1000+i, i, i)
	}
	for _, o := range []Options{{Encodings: Compatible}, {Encodings: Modern}, {Page: MinPage}, {UnknownFields: UnknownFields{Policy: CaptureUnknown, Column: "rest"}}} {
		o.Schema, o.Compression = schema, None
		var clean, mixed []string
		refused := 0
		add := func(s string) { mixed = append(mixed, s); refused++ }
		for i := range 600 {
			switch i % 5 {
			case 0:
				add(bad(i) + `"last":"no number"}`)
			case 1:
				add(bad(i)) // it ends in the middle
			case 2:
				add(good(i) + good(i+1) + bad(i) + `"SECRET":"unknown","last":[]}`) // two good rows go with the bad
			case 3:
				add(strings.Replace(bad(i), "SECRET b", "SECRET \xff", 1) + `"last":1}`)
			case 4:
				add(bad(i) + `"last":1,"last":1}`)
			}
			clean = append(clean, good(i))
			mixed = append(mixed, good(i))
		}
		a, b := convert(t, o, clean...), convert(t, o, mixed...)
		if len(b.fails) != refused {
			t.Errorf("%d records refused, want %d", len(b.fails), refused)
		}
		b.want(t, a.rows...)
		if i := bytes.Index(b.file, []byte("SECRET")); i >= 0 {
			t.Errorf("%s: refused data is in the file: %q", o.Encodings, b.file[i:i+10])
		}
		// Pages end where they do by all bytes that came in, so only files of one page are compared as bytes.
		if o.Page == 0 && !bytes.Equal(a.file, b.file) {
			t.Errorf("%s: refused records change the file: %d bytes, %d without them", o.Encodings, len(b.file), len(a.file))
		}
	}
}

// TestRefusedAfterPage refuses a record when the dictionary has entries of earlier pages, which must stay.
func TestRefusedAfterPage(t *testing.T) {
	var in, want []string
	for i := range 9000 {
		row := fmt.Sprintf(`{"s":"value %d","n":%d,"last":1}`, i%20, i%30)
		in, want = append(in, row), append(want, row)
		if i%10 == 5 {
			in = append(in, fmt.Sprintf(`{"s":"bad %d","n":%d,"last":"x"}`, i, -i))
		}
	}
	w := convert(t, Options{Schema: mustSchema(t, "s string, n bigint, last int"), Page: MinPage}, in...)
	w.want(t, want...)
	if n := len(open(t, w.file).OffsetIndexes()[0].PageLocations); n < 3 || len(w.fails) != 900 {
		t.Errorf("%d pages, %d records refused", n, len(w.fails))
	}
}

// TestLevels writes every way in which nested values can be absent, in every order of two.
func TestLevels(t *testing.T) {
	for _, c := range []struct {
		schema string
		values []string
	}{
		{"a array<array<int>>", []string{`null`, `[]`, `[null]`, `[[]]`, `[[null]]`, `[[1]]`, `[[1,2],null,[],[null,3]]`}},
		{"a struct<b:struct<c:int,d:string>,e:int>", []string{`null`, `{"b":null,"e":null}`, `{"b":{"c":null,"d":null},"e":1}`, `{"b":{"c":1,"d":null},"e":null}`, `{"b":{"c":1,"d":"x"},"e":2}`}},
		{"a struct<b:array<int>,c:map<string,int>>", []string{`null`, `{"b":null,"c":null}`, `{"b":[],"c":{}}`, `{"b":[null],"c":{"x":null}}`, `{"b":[1,2],"c":{"x":1,"y":2}}`}},
		{"a array<struct<b:int,c:array<struct<d:string>>>>", []string{
			`null`, `[]`, `[null]`, `[{"b":null,"c":null}]`, `[{"b":1,"c":[]}]`, `[{"b":1,"c":[null]}]`, `[{"b":1,"c":[{"d":null}]}]`,
			`[{"b":1,"c":[{"d":"x"},null,{"d":"y"}]},null,{"b":2,"c":null},{"b":null,"c":[{"d":"z"}]}]`,
		}},
		{"a map<string,map<string,array<int>>>", []string{`null`, `{}`, `{"x":null}`, `{"x":{}}`, `{"x":{"y":null}}`, `{"x":{"y":[]}}`, `{"x":{"y":[null,1],"z":[2]},"w":null,"v":{"u":[3]}}`}},
	} {
		for _, x := range c.values {
			for _, y := range c.values {
				var in, want []string
				// Absent rows before, between and after; the last of them are never told to the columns.
				for _, v := range []string{"", x, "", "", y, x, ""} {
					if v == "" {
						in, want = append(in, `{}`), append(want, `{"a":null}`)
					} else {
						in, want = append(in, `{"a":`+v+`}`), append(want, `{"a":`+v+`}`)
					}
				}
				for _, enc := range []Encodings{Compatible, Modern} {
					w := convert(t, Options{Schema: mustSchema(t, c.schema), Encodings: enc}, in...)
					w.want(t, want...)
				}
			}
		}
	}
}

// TestAbsentMembers leaves members of nested structs out instead of writing null.
func TestAbsentMembers(t *testing.T) {
	w := convert(t, Options{Schema: mustSchema(t, "a struct<b:struct<c:int,d:array<int>>,e:int>, l array<struct<x:int,y:struct<z:int>,w:array<int>>>")},
		`{"a":{}}`, `{"a":{"e":1}}`, `{"a":{"b":{}}}`, `{"a":{"b":{"d":[1]}}}`, `{"l":[{},{"x":1},{"y":{}},{"w":[2,3]}]}`, `{}`)
	w.want(t,
		`{"a":{"b":null,"e":null},"l":null}`,
		`{"a":{"b":null,"e":1},"l":null}`,
		`{"a":{"b":{"c":null,"d":null},"e":null},"l":null}`,
		`{"a":{"b":{"c":null,"d":[1]},"e":null},"l":null}`,
		`{"a":null,"l":[{"x":null,"y":null,"w":null},{"x":1,"y":null,"w":null},{"x":null,"y":{"z":null},"w":null},{"x":null,"y":null,"w":[2,3]}]}`,
		`{"a":null,"l":null}`)
}

func TestKeys(t *testing.T) {
	schema := "eventId string, user struct<id:int,`full name`:string>, ts bigint, größe int"
	w := convert(t, Options{Schema: mustSchema(t, "eine_sehr_lange_größe_in_millimeter int")}, `{"EINE_SEHR_LANGE_GRÖßE_IN_MILLIMETER":1,"eine_sehr_lange_gröbe_in_millimeter":2}`)
	w.want(t, `{"eine_sehr_lange_größe_in_millimeter":1}`)
	for _, c := range []struct {
		name   string
		openx  OpenX
		in     []string
		want   []string
		hiveOK bool
	}{
		{"any case", OpenX{}, []string{`{"EVENTID":"x","User":{"ID":1,"Full Name":"y"},"GRÖSSE":1,"GRöße":2}`, `{"event\u0049d":"z","TS":5}`},
			[]string{`{"eventId":"x","user":{"id":1,"full name":"y"},"ts":null,"größe":2}`, `{"eventId":"z","user":null,"ts":5,"größe":null}`}, true},
		{"as spelled", OpenX{CaseSensitive: true}, []string{`{"EVENTID":"x","eventId":"y","eventid":"z","user":{"ID":1,"id":2}}`},
			[]string{`{"eventId":"y","user":{"id":2,"full name":null},"ts":null,"größe":null}`}, false},
		{"mapped", OpenX{ColumnToJSONKey: map[string]string{"ts": "TimeStamp", "user.id": "key"}}, []string{`{"timestamp":7,"ts":8,"user":{"id":1,"key":2}}`},
			[]string{`{"eventId":null,"user":{"id":2,"full name":null},"ts":7,"größe":null}`}, false},
		{"dots", OpenX{DotsToUnderscores: true, ColumnToJSONKey: map[string]string{"ts": "a_b"}}, []string{`{"a.b":7}`, `{"a_b":8}`, `{"A.B":9}`},
			[]string{`{"eventId":null,"user":null,"ts":7,"größe":null}`, `{"eventId":null,"user":null,"ts":8,"größe":null}`, `{"eventId":null,"user":null,"ts":9,"größe":null}`}, false},
	} {
		w := convert(t, Options{Schema: mustSchema(t, schema), OpenX: &c.openx}, c.in...)
		w.want(t, c.want...)
		if len(w.fails) > 0 {
			t.Errorf("%s: refused: %v", c.name, w.fails)
		}
		if c.hiveOK {
			w := convert(t, Options{Schema: mustSchema(t, schema), Hive: &Hive{}}, c.in...)
			w.want(t, c.want...)
		}
	}
}

// TestKeyOrder changes the order, spelling and presence of members from row to row, so that every guess at
// the next key is wrong in some way.
func TestKeyOrder(t *testing.T) {
	names := []string{"a", "bb", "eight888", "nine_nine", "sixteen_bytes_16", "seventeen_bytes17", "prefix_long_name_one_x", "prefix_long_name_two_x"}
	var cols []string
	for _, n := range names {
		cols = append(cols, n+" int")
	}
	var in, want []string
	state := uint64(1)
	next := func(n int) int {
		state = state*6364136223846793005 + 1442695040888963407
		return int(state >> 33 % uint64(n))
	}
	for row := range 3000 {
		value := map[string]int{}
		var members []string
		for k := range next(12) {
			n := names[next(len(names))]
			if _, ok := value[n]; ok || next(3) == 0 {
				members = append(members, fmt.Sprintf(`"unknown %d":{"a":%d}`, next(2000), k))
				continue
			}
			value[n] = row + k
			spelling := n
			if next(4) == 0 {
				spelling = strings.ToUpper(n)
			}
			if next(9) == 0 {
				spelling = strings.Replace(spelling, "b", `\u0062`, 1)
			}
			members = append(members, fmt.Sprintf(`"%s":%d`, spelling, row+k))
		}
		in = append(in, "{"+strings.Join(members, ",")+"}")
		out := make([]string, len(names))
		for i, n := range names {
			out[i] = fmt.Sprintf(`"%s":null`, n)
			if v, ok := value[n]; ok {
				out[i] = fmt.Sprintf(`"%s":%d`, n, v)
			}
		}
		want = append(want, "{"+strings.Join(out, ",")+"}")
	}
	w := convert(t, Options{Schema: mustSchema(t, strings.Join(cols, ","))}, in...)
	w.want(t, want...)
}

func TestUnknownFields(t *testing.T) {
	schema := "a int, s struct<b:int,t:struct<c:int>>, l array<struct<d:int>>, m map<string,struct<e:int>>"
	records := []string{
		`{"a":1}`,
		`{"x":{"y": [1]},"a":1,"Z":"\u00e9"}`,
		`{"s":{"b":1,"u":2,"t":{"v":3}},"a":1,"w":4}`,
		`{"l":[{"d":1},{"q":2,"d":3},{},{"r":4}],"m":{"k":{"e":1},"\u006a":{"f":5}}}`,
		`{"x":1,"x":2}`,
		`{"_rest":7}`,
	}
	w := convert(t, Options{Schema: mustSchema(t, "a int, _rest string"), UnknownFields: UnknownFields{Policy: CaptureUnknown, Column: "_rest"}}, records[:2]...)
	w.want(t, `{"a":1,"_rest":null}`, `{"a":1,"_rest":"{\"x\":{\"y\": [1]},\"Z\":\"\\u00e9\"}"}`)

	w = convert(t, Options{Schema: mustSchema(t, schema), UnknownFields: UnknownFields{Policy: CaptureUnknown, Column: "_rest"}}, records...)
	for i, want := range []string{
		`null`,
		`"{\"x\":{\"y\": [1]},\"Z\":\"\\u00e9\"}"`,
		`"{\"s\":{\"u\":2,\"t\":{\"v\":3}},\"w\":4}"`,
		`"{\"l\":{\"1\":{\"q\":2},\"3\":{\"r\":4}},\"m\":{\"\\u006a\":{\"f\":5}}}"`,
		`"{\"x\":1,\"x\":2}"`,
		`"{\"_rest\":7}"`,
	} {
		if !strings.HasSuffix(w.rows[i], `,"_rest":`+want+`}`) {
			t.Errorf("record %d: %s\nwant _rest %s", i, w.rows[i], want)
		}
	}

	w = convert(t, Options{Schema: mustSchema(t, schema), UnknownFields: UnknownFields{Policy: FailUnknown}}, records...)
	for i, want := range []string{
		"",
		`The record has the member "x", for which there is no column`,
		`Column s has the member "u", for which there is no column`,
		`Column l[] has the member "q", for which there is no column`,
		`The record has the member "x", for which there is no column`,
		`The record has the member "_rest", for which there is no column`,
	} {
		switch f := w.fails[i]; {
		case want == "" && f != nil:
			t.Errorf("record %d: %v", i, f)
		case want != "" && (f == nil || f.Code != codeMalformed || f.Message != "Data does not match the schema. "+want):
			t.Errorf("record %d: %v\nwant %s", i, f, want)
		}
	}
}

func TestLongValuesAreCutInMessages(t *testing.T) {
	w := convert(t, Options{Schema: mustSchema(t, "a int")}, `{"a":"`+strings.Repeat("é", 1000)+`"}`)
	want := `Data does not match the schema. Column a of type int cannot take "` + strings.Repeat("é", 49) + `...: it holds no number`
	if f := w.fails[0]; f == nil || f.Message != want {
		t.Errorf("%v\nwant %s", f, want)
	}
}

func TestOptions(t *testing.T) {
	ok := mustSchema(t, "a int, b struct<c:int>")
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, "a schema is required"},
		{Options{Schema: ok, Compression: "lzo"}, `compression "lzo" is none of snappy, zstd, gzip, none`},
		{Options{Schema: ok, Encodings: "v3"}, `encodings "v3" is neither compatible nor modern`},
		{Options{Schema: ok, Timestamps: "nanos"}, `timestamps "nanos" is none of micros, millis, int96`},
		{Options{Schema: ok, Page: 1}, "page is 1 bytes, must be 1024 to 268435456"},
		{Options{Schema: ok, RowGroup: -1}, "row group is -1 bytes, must be 4096 to"},
		{Options{Schema: ok, MemoryLimit: 5}, "memory limit is 5 bytes"},
		{Options{Schema: ok, OpenX: &OpenX{}, Hive: &Hive{}}, "both deserializers are given"},
		{Options{Schema: ok, Hive: &Hive{TimestampFormats: []string{"yyyy-QQ"}}}, `timestamp format "yyyy-QQ": the letter Q is not known`},
		{Options{Schema: ok, OpenX: &OpenX{ColumnToJSONKey: map[string]string{"zz": "x"}}}, `a JSON key is given for column "zz", which the schema does not have`},
		{Options{Schema: ok, OpenX: &OpenX{ColumnToJSONKey: map[string]string{"a": "B"}}}, `columns "a" and "b" read the same JSON key`},
		{Options{Schema: ok, OpenX: &OpenX{ColumnToJSONKey: map[string]string{"a": strings.Repeat("x", 1025)}}}, `column "a" is mapped to a JSON key of 1025 bytes`},
		{Options{Schema: ok, UnknownFields: UnknownFields{Policy: "keep"}}, `unknown fields: "keep" is none of drop, fail, column`},
		{Options{Schema: ok, UnknownFields: UnknownFields{Policy: CaptureUnknown}}, "needs the name of the column"},
		{Options{Schema: ok, UnknownFields: UnknownFields{Policy: CaptureUnknown, Column: "A"}}, `column "a" is to take unknown fields but is declared int`},
		{Options{Schema: ok, UnknownFields: UnknownFields{Column: "a"}}, "goes only with the policy column"},
	} {
		if _, err := New(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New: %v\nwant %s", err, c.want)
		}
	}
	_, err := New(Options{Schema: ok, Compression: "x", Encodings: "y", Timestamps: "z"})
	if n := strings.Count(err.Error(), "\n"); n != 2 {
		t.Errorf("New reports %d faults of 3: %v", n+1, err)
	}
}

// TestGivesMemoryBack sends one very large record and then small ones.
func TestGivesMemoryBack(t *testing.T) {
	f, err := New(Options{Schema: mustSchema(t, "s string, l array<bigint>"), MemoryLimit: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	e := f.NewEncoder().(*encoder)
	e.Reset(io.Discard)
	memory := func() int64 {
		n := e.sh.held() + e.pager.held() + int64(len(e.pager.arena.blocks)*blockBytes)
		for _, c := range e.plan.columns {
			n += c.held() + c.dictionary.memory()
		}
		return n
	}
	large := `{"s":"` + strings.Repeat("x", 20<<20) + `","l":[` + strings.Repeat("1,2,3,", 1<<20) + `4]}`
	if err := e.Append(record.Row{Data: []byte(large)}); err != nil {
		t.Fatal(err)
	}
	for i := range 10_000 {
		if err := e.Append(record.Row{Data: fmt.Appendf(nil, `{"s":"%0300d","l":[%d]}`, i, i)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := memory(); n > 16<<20 {
		t.Errorf("%d bytes are held after a record of %d, the limit is 8 MiB", n, len(large))
	}
	huge := bytes.Repeat([]byte(" "), MaxRecord+1)
	copy(huge, "{}")
	var row *format.RowError
	if err := e.Append(record.Row{Data: huge}); !errors.As(err, &row) || !strings.Contains(row.Message, "The record has 67108865 bytes, at most 67108864 are taken") {
		t.Errorf("a record of %d bytes: %v", len(huge), err)
	}
	if err := e.Append(record.Row{Data: huge[:MaxRecord]}); err != nil {
		t.Errorf("a record of %d bytes: %v", MaxRecord, err)
	}
}

// failing writes so many bytes and then fails.
type failing struct{ left int }

var errFull = errors.New("no space")

func (f *failing) Write(b []byte) (int, error) {
	if len(b) > f.left {
		n := f.left
		f.left = 0
		return n, errFull
	}
	f.left -= len(b)
	return len(b), nil
}

func TestWriterFails(t *testing.T) {
	f, err := New(Options{Schema: mustSchema(t, "a int"), RowGroup: MinRowGroup, Page: MinPage, Compression: None})
	if err != nil {
		t.Fatal(err)
	}
	e := f.NewEncoder()
	if err := e.Append(record.Row{Data: []byte(`{}`)}); err == nil {
		t.Error("Append before Reset is taken")
	}
	for _, room := range []int{0, 2, 1000, 20_000} {
		e.Reset(&failing{left: room})
		var got error
		for i := 0; i < 20_000 && got == nil; i++ {
			got = e.Append(record.Row{Data: []byte(fmt.Sprintf(`{"a":%d}`, i*1000))})
		}
		if got == nil {
			_, got = e.Close()
		}
		var row *format.RowError
		if !errors.Is(got, errFull) || errors.As(got, &row) {
			t.Errorf("room %d: %v, want %v", room, got, errFull)
		}
		if err := e.Append(record.Row{Data: []byte(`{"a":1}`)}); !errors.Is(err, errFull) {
			t.Errorf("room %d: Append after the failure: %v", room, err)
		}
		if _, err := e.Close(); !errors.Is(err, errFull) {
			t.Errorf("room %d: Close after the failure: %v", room, err)
		}
	}
	encode(t, e, `{"a":1}`) // the next file is not harmed
	if _, err := e.Close(); err == nil {
		t.Error("Close twice is taken")
	}
	e.Reset(io.Discard)
	if s, err := e.Close(); err != nil || s.Rows != 0 {
		t.Errorf("an empty file: %+v, %v", s, err)
	}
}
