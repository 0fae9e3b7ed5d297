package parquet_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"hydrant/e2e/parts"
	"hydrant/format"
	"hydrant/format/parquet"
	"hydrant/record"
	"hydrant/sample"
)

// The oracle: what this package makes of JSON is read by DuckDB and compared with what DuckDB makes of the
// same JSON under the same schema, row by row and in order. DuckDB shares no line with this package, neither
// the JSON parser nor the Parquet reader.

// duckType is DuckDB's type for a declared one.
func duckType(t format.Type) string {
	switch t.Kind {
	case format.Decimal:
		return fmt.Sprintf("DECIMAL(%d,%d)", t.Precision, t.Scale)
	case format.String, format.Char, format.VarChar:
		return "VARCHAR"
	case format.Binary:
		return "BLOB"
	case format.Int:
		return "INTEGER"
	case format.Array:
		return duckType(*t.Elem) + "[]"
	case format.Map:
		return "MAP(" + duckType(*t.Key) + ", " + duckType(*t.Elem) + ")"
	case format.Struct:
		members := make([]string, len(t.Fields))
		for i, f := range t.Fields {
			members[i] = duckName(f.Name) + " " + duckType(f.Type)
		}
		return "STRUCT(" + strings.Join(members, ", ") + ")"
	}
	return strings.ToUpper(t.Kind.String())
}

func duckName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// jsonTable is DuckDB's own conversion of a file of newline-delimited JSON.
func jsonTable(s *format.Schema, path string) string {
	columns := make([]string, len(s.Fields))
	for i, f := range s.Fields {
		columns[i] = parts.SQL(f.Name) + ": " + parts.SQL(duckType(f.Type))
	}
	return fmt.Sprintf("(select * from read_json(%s, format='newline_delimited', columns={%s}))", parts.SQL(path), strings.Join(columns, ", "))
}

// parquetTable is a Parquet file with its columns as declared: timestamps come out of it with a time zone.
func parquetTable(s *format.Schema, path string) string {
	columns := make([]string, len(s.Fields))
	for i, f := range s.Fields {
		columns[i] = fmt.Sprintf("%s::%s as %s", duckName(f.Name), duckType(f.Type), duckName(f.Name))
	}
	return fmt.Sprintf("(select %s from read_parquet(%s))", strings.Join(columns, ", "), parts.SQL(path))
}

// rowText is a row as text that two rows share only when they are equal. A hash of the row itself would not
// do: DuckDB's is the same for a null struct and one of nulls, and for a null list and an empty one. JSON
// alone would not do either, since large decimals lose digits in it.
const rowText = "concat(row_number() over (), ' ', to_json(t)::varchar, ' ', t::varchar)"

// digest counts the rows of a table and hashes each with its number.
func digest(duck *parts.Duck, table string) map[string]any {
	return duck.Query(fmt.Sprintf(
		"select count(*) as rows, bit_xor(h) as bits, sum(h::hugeint) as total from (select hash(%s) as h from %s t)", rowText, table))[0]
}

// sameRows fails the test unless two tables have the same rows in the same order.
func sameRows(t testing.TB, duck *parts.Duck, got, want string) {
	t.Helper()
	g, w := digest(duck, got), digest(duck, want)
	if reflect.DeepEqual(g, w) {
		return
	}
	diff := duck.Query(fmt.Sprintf(`with g as (select row_number() over () as n, %[1]s as row from %[2]s t), w as (select row_number() over () as n, %[1]s as row from %[3]s t)
		select n, g.row as got, w.row as want from g full join w using (n) where g.row is distinct from w.row order by n limit 3`, rowText, got, want))
	t.Errorf("%v rows, want %v; the first that differ:", g["rows"], w["rows"])
	for _, d := range diff {
		t.Errorf("row %v:\n got %.2000v\nwant %.2000v", d["n"], d["got"], d["want"])
	}
}

// oneThread makes DuckDB number rows in the order of the file.
func oneThread(t testing.TB) *parts.Duck {
	duck := parts.DuckDB(t)
	duck.Query("set threads = 1")
	return duck
}

func schemaOf(t testing.TB, ddl string) *format.Schema {
	t.Helper()
	s, err := format.ParseDDL(ddl)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// convert makes a Parquet file of lines, and returns its path and the indexes of the lines that were refused.
func convert(t testing.TB, o parquet.Options, lines [][]byte) (path string, refused []int) {
	t.Helper()
	f, err := parquet.New(o)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "out.parquet")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := bufio.NewWriterSize(out, 1<<20)
	enc := f.NewEncoder()
	enc.Reset(w)
	for i, line := range lines {
		err := enc.Append(record.Row{Seq: uint64(i + 1), Data: line})
		if _, ok := errors.AsType[*format.RowError](err); ok {
			refused = append(refused, i)
		} else if err != nil {
			t.Fatal(err)
		}
	}
	stats, err := enc.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	info, err := out.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if want := (format.Stats{Rows: int64(len(lines) - len(refused)), Bytes: info.Size()}); stats != want {
		t.Errorf("stats %+v, want %+v", stats, want)
	}
	return path, refused
}

// jsonFile writes lines to a file for DuckDB.
func jsonFile(t testing.TB, lines [][]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in.ndjson")
	if err := os.WriteFile(path, append(bytes.Join(lines, []byte("\n")), '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// splitLines cuts text into at most n lines.
func splitLines(text []byte, n int) [][]byte {
	lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	return lines[:min(n, len(lines))]
}

func clicks(n uint64) [][]byte { return splitLines(sample.Clicks(sample.DefaultSeed, 0, n), int(n)) }

// firstLines reads the first n lines of a file, which may be gzipped.
func firstLines(t testing.TB, path string, n int) [][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	var lines [][]byte
	s := bufio.NewScanner(r)
	s.Buffer(nil, 16<<20)
	for len(lines) < n && s.Scan() {
		lines = append(lines, bytes.Clone(s.Bytes()))
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// input is lines of JSON with the schema they are read by.
type input struct {
	name   string
	schema string
	lines  func(t testing.TB) [][]byte
}

// inputs are the data sets, or as much of each as a test has time for.
func inputs() []input {
	testdata := func(name string) func(testing.TB) [][]byte {
		return func(t testing.TB) [][]byte {
			return firstLines(t, filepath.Join(parts.Root(t), "e2e", "testdata", name), 1<<30)
		}
	}
	variant := func(change func(i uint64, r []byte) []byte) func(testing.TB) [][]byte {
		return func(testing.TB) [][]byte {
			lines := clicks(2000)
			for i := range lines {
				lines[i] = change(uint64(i), lines[i])
			}
			return lines
		}
	}
	data := func(name string, n int) func(testing.TB) [][]byte {
		return func(t testing.TB) [][]byte { return firstLines(t, parts.Data(t, name), n) }
	}
	return []input{
		{"clicks", sample.ClicksSchema, func(testing.TB) [][]byte { return clicks(20_000) }},
		{"clicks in random order", sample.ClicksSchema, variant(func(i uint64, r []byte) []byte { return sample.Shuffled(7, i, r) })},
		{"clicks with blanks", sample.ClicksSchema, variant(func(_ uint64, r []byte) []byte { return sample.Spaced(r) })},
		{"real flights", sample.FlightsSchema, testdata("flights-20k.ndjson.gz")},
		{"real webhooks", "event string, payload struct<" + members(sample.WebhooksSchema) + ">", testdata("github-webhooks.ndjson.gz")},
		{"octokit", sample.WebhooksSchema, data("octokit", 1000)},
		{"flights", sample.FlightsSchema, data("flights", 50_000)},
	}
}

// members writes columns as the members of a struct.
func members(ddl string) string {
	s, err := format.ParseDDL(ddl)
	if err != nil {
		panic(err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(format.Type{Kind: format.Struct, Fields: s.Fields}.String(), "struct<"), ">")
}

func TestOracleSets(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	duck := oneThread(t)
	for _, in := range inputs() {
		t.Run(in.name, func(t *testing.T) {
			schema := schemaOf(t, in.schema)
			lines := in.lines(t)
			want := jsonTable(schema, jsonFile(t, lines))
			duck.Query("create or replace temp table want as select * from " + want)
			for _, o := range []parquet.Options{
				{Compression: parquet.Snappy, Encodings: parquet.Compatible},
				{Compression: parquet.Zstd, Encodings: parquet.Modern},
				{Compression: parquet.Zstd, Encodings: parquet.Compatible, RowGroup: 1 << 20, Page: 64 << 10},
			} {
				o.Schema = schema
				path, refused := convert(t, o, lines)
				if len(refused) > 0 {
					t.Errorf("%d lines were refused, the first: %s", len(refused), lines[refused[0]])
				}
				sameRows(t, duck, parquetTable(schema, path), "want")
			}
		})
	}
}

// Every combination of what the file can be made of, on rows that have all that a click can have.
func TestOracleOptions(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	duck := oneThread(t)
	schema := schemaOf(t, sample.ClicksSchema)
	lines := clicks(1000)
	duck.Query("create temp table want as select * from " + jsonTable(schema, jsonFile(t, lines)))
	// Milliseconds are what is left of the microseconds.
	duck.Query("create temp table want_millis as select * replace (date_trunc('millisecond', event_time) as event_time, date_trunc('millisecond', received_at) as received_at) from want")
	for _, compression := range []parquet.Compression{parquet.None, parquet.Snappy, parquet.Zstd, parquet.Gzip} {
		for _, encodings := range []parquet.Encodings{parquet.Compatible, parquet.Modern} {
			for _, timestamps := range []parquet.TimestampUnit{parquet.Micros, parquet.Millis, parquet.Int96} {
				for _, small := range []bool{false, true} {
					o := parquet.Options{Schema: schema, Compression: compression, Encodings: encodings, Timestamps: timestamps}
					if small { // several row groups of several pages each
						o.RowGroup, o.Page = 8<<10, parquet.MinPage
					}
					t.Run(fmt.Sprintf("%s %s %s small=%v", compression, encodings, timestamps, small), func(t *testing.T) {
						path, refused := convert(t, o, lines)
						if len(refused) > 0 {
							t.Errorf("lines %v were refused", refused)
						}
						want := "want"
						if timestamps == parquet.Millis {
							want = "want_millis"
						}
						sameRows(t, duck, parquetTable(schema, path), want)
						layout(t, duck, path, o)
					})
				}
			}
		}
	}
}

// layout checks what the file's own description says of it.
func layout(t *testing.T, duck *parts.Duck, path string, o parquet.Options) {
	t.Helper()
	file := parts.SQL(path)
	one := func(sql string, want any) {
		t.Helper()
		if got := duck.Query(sql)[0]["v"]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", sql, got, want)
		}
	}
	codec := map[parquet.Compression]string{parquet.None: "UNCOMPRESSED", parquet.Snappy: "SNAPPY", parquet.Zstd: "ZSTD", parquet.Gzip: "GZIP"}[o.Compression]
	one("select list(distinct compression) as v from parquet_metadata("+file+")", []any{codec})
	one("select num_rows as v from parquet_file_metadata("+file+")", int64(1000))
	one("select sum(row_group_num_rows)::bigint as v from (select distinct row_group_id, row_group_num_rows from parquet_metadata("+file+"))", int64(1000))
	one("select count(distinct path_in_schema) as v from parquet_metadata("+file+")", int64(len(clickLeaves)))
	groups := duck.Query("select num_row_groups as v from parquet_file_metadata(" + file + ")")[0]["v"].(int64)
	if small := o.RowGroup != 0; small != (groups > 3) {
		t.Errorf("%d row groups with a limit of %d bytes", groups, o.RowGroup)
	}
	encodings := duck.Query("select string_agg(distinct encodings, ', ') as v from parquet_metadata(" + file + ")")[0]["v"].(string)
	if modern := strings.Contains(encodings, "DELTA_LENGTH_BYTE_ARRAY"); modern != (o.Encodings == parquet.Modern) {
		t.Errorf("encodings %s of the profile %s", encodings, o.Encodings)
	}
	one("select list(type order by column_id) as v from parquet_schema("+file+") where name in ('event_time', 'received_at')",
		map[bool][]any{true: {"INT96", "INT96"}, false: {"INT64", "INT64"}}[o.Timestamps == parquet.Int96])
	// Statistics that a reader skips row groups by must hold every value.
	for _, c := range []struct{ column, path, kind string }{{"status", "status", "int"}, {"bytes_sent", "bytes_sent", "bigint"}, {"latency_ms", "latency_ms", "double"}, {"event_id", "event_id", "varchar"}} {
		rows := duck.Query(fmt.Sprintf("select min(stats_min_value::%[1]s) as low, max(stats_max_value::%[1]s) as high, sum(stats_null_count)::bigint as nulls from parquet_metadata(%[2]s) where path_in_schema = %[3]s",
			c.kind, file, parts.SQL(c.path)))
		truth := duck.Query(fmt.Sprintf("select min(%[1]s) as low, max(%[1]s) as high, count(*) filter (where %[1]s is null) as nulls from want", c.column))
		if c.kind != "varchar" {
			if !reflect.DeepEqual(rows, truth) {
				t.Errorf("statistics of %s are %v, want %v", c.column, rows[0], truth[0])
			}
			continue
		}
		// Bounds of text may be cut short, to the outside.
		if fmt.Sprint(rows[0]["low"]) > fmt.Sprint(truth[0]["low"]) || fmt.Sprint(rows[0]["high"]) < fmt.Sprint(truth[0]["high"]) {
			t.Errorf("statistics of %s are %v, which does not hold %v", c.column, rows[0], truth[0])
		}
	}
	// What is asked for through them is found, and nothing else.
	for _, where := range []string{"status = 404", "bytes_sent < 20000", "latency_ms > 600", "revenue is null", "event_id > 'f'", "user_agent like '%Firefox%'"} {
		one(fmt.Sprintf("select count(*) as v from read_parquet(%s) where %s", file, where), duck.Query("select count(*) as v from want where " + where)[0]["v"])
	}
}

// clickLeaves are the columns that hold values, as the file names them.
var clickLeaves = []string{
	"event_id", "event_type", "event_time", "received_at", "user_id", "session_id", "is_bot", "ip", "user_agent", "url", "referrer", "title",
	"status", "latency_ms", "bytes_sent", "revenue", "device, type", "device, os", "device, os_version", "device, screen, w", "device, screen, h",
	"device, dpr", "geo, country", "geo, city", "geo, lat", "geo, lon", "tags, bag, array_element", "items, bag, array_element, sku",
	"items, bag, array_element, qty", "items, bag, array_element, price",
}

// A file looks to other programs as the one that Firehose writes: the same names, types and nesting.
func TestOracleSchemaOfTheFile(t *testing.T) {
	duck := oneThread(t)
	schema := schemaOf(t, sample.ClicksSchema+", price decimal(20,3), small decimal(4), day date, m map<string,int>, t tinyint, s smallint, c char(3), b binary, f float")
	path, _ := convert(t, parquet.Options{Schema: schema}, clicks(10))
	var got []string
	for _, r := range duck.Query("select * from parquet_metadata(" + parts.SQL(path) + ") order by column_id") {
		got = append(got, r["path_in_schema"].(string))
	}
	want := append(append([]string(nil), clickLeaves...), "price", "small", "day", "m, map, key", "m, map, value", "t", "s", "c", "b", "f")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("columns\n%q, want\n%q", got, want)
	}
	got = nil
	for _, r := range duck.Query("select name, type, type_length, repetition_type, num_children, converted_type, precision, scale from parquet_schema(" + parts.SQL(path) + ")") {
		s := fmt.Sprintf("%v %v", r["repetition_type"], r["name"])
		for _, k := range []string{"type", "type_length", "num_children", "converted_type", "precision", "scale"} {
			if r[k] != nil {
				s += fmt.Sprintf(" %s=%v", k, r[k])
			}
		}
		got = append(got, s)
	}
	for _, want := range []string{
		"OPTIONAL event_id type=BYTE_ARRAY converted_type=UTF8",
		"OPTIONAL event_time type=INT64 converted_type=TIMESTAMP_MICROS",
		"OPTIONAL is_bot type=BOOLEAN",
		"OPTIONAL status type=INT32",
		"OPTIONAL latency_ms type=DOUBLE",
		"OPTIONAL bytes_sent type=INT64",
		"OPTIONAL screen num_children=2",
		"OPTIONAL tags num_children=1 converted_type=LIST",
		"REPEATED bag num_children=1",
		"OPTIONAL array_element type=BYTE_ARRAY converted_type=UTF8",
		"OPTIONAL array_element num_children=3",
		"OPTIONAL price type=FIXED_LEN_BYTE_ARRAY type_length=9 converted_type=DECIMAL precision=20 scale=3",
		"OPTIONAL small type=FIXED_LEN_BYTE_ARRAY type_length=2 converted_type=DECIMAL precision=4 scale=0",
		"OPTIONAL day type=INT32 converted_type=DATE",
		"OPTIONAL m num_children=1 converted_type=MAP",
		"REPEATED map num_children=2 converted_type=MAP_KEY_VALUE",
		"REQUIRED key type=BYTE_ARRAY converted_type=UTF8",
		"OPTIONAL value type=INT32",
		"OPTIONAL t type=INT32 converted_type=INT_8",
		"OPTIONAL s type=INT32 converted_type=INT_16",
		"OPTIONAL c type=BYTE_ARRAY converted_type=UTF8",
		"OPTIONAL b type=BYTE_ARRAY",
		"OPTIONAL f type=FLOAT",
	} {
		if !contains(got, want) {
			t.Errorf("no element %q in the file's schema:\n%s", want, strings.Join(got, "\n"))
		}
	}
}

func contains(all []string, one string) bool {
	for _, s := range all {
		if s == one || strings.HasPrefix(s, one+" type_length=") {
			return true
		}
	}
	return false
}

// Broken records are refused, whole; the rows around them are as if they had never been there.
func TestOracleBrokenRecords(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	duck := oneThread(t)
	schema := schemaOf(t, sample.ClicksSchema)
	lines := clicks(14_000)
	var sound [][]byte
	var want []int
	for i := range lines {
		if sample.FaultOf(uint64(i)) == sample.Sound {
			sound = append(sound, lines[i])
		} else {
			lines[i] = sample.Broken(uint64(i), lines[i])
			want = append(want, i)
		}
	}
	duck.Query("create temp table want as select * from " + jsonTable(schema, jsonFile(t, sound)))
	for _, o := range []parquet.Options{
		{Encodings: parquet.Compatible, Compression: parquet.None},
		{Encodings: parquet.Modern, Compression: parquet.Zstd, RowGroup: 256 << 10, Page: 16 << 10},
	} {
		o.Schema = schema
		path, refused := convert(t, o, lines)
		if !reflect.DeepEqual(refused, want) {
			t.Errorf("refused lines %v, want %v", refused, want)
		}
		sameRows(t, duck, parquetTable(schema, path), "want")
		// What was refused leaves nothing behind, not even an entry of a dictionary.
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if o.Compression == parquet.None && bytes.Contains(raw, []byte("fine")) {
			t.Error("text of a refused record is in the file")
		}
	}
}

// The oracle itself: it tells apart what it is there to tell apart.
func TestOracleSeesDifferences(t *testing.T) {
	duck := oneThread(t)
	f := func(a, b string) {
		t.Helper()
		ta, tb := "(select "+a+" as x)", "(select "+b+" as x)"
		if reflect.DeepEqual(digest(duck, ta), digest(duck, tb)) {
			t.Errorf("%s and %s look the same", a, b)
		}
	}
	f("null::struct(a int)", "{'a': null::int}")
	f("null::int[]", "[]::int[]")
	f("[null]::int[]", "[]::int[]")
	f("null::map(varchar, int)", "map {}::map(varchar, int)")
	f("null::varchar", "''")
	f("null::varchar", "'NULL'")
	f("0.0::double", "-0.0::double")
	f("12345678901234567890123456789012345678::decimal(38,0)", "12345678901234567890123456789012345679::decimal(38,0)")
	f("timestamp '2025-03-01 00:00:00.000001'", "timestamp '2025-03-01 00:00:00.000002'")
	f("'\\x00'::blob", "'\\x01'::blob")
	if g, w := digest(duck, "(select unnest([1, 2]) as x)"), digest(duck, "(select unnest([2, 1]) as x)"); reflect.DeepEqual(g, w) {
		t.Error("rows in another order look the same")
	}
}
