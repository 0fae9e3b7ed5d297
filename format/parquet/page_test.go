package parquet

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math"
	"math/big"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	pqgo "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/rle"
	pq "github.com/parquet-go/parquet-go/format"

	"hydrant/format"
	"hydrant/record"
	"hydrant/sample"
)

var update = flag.Bool("update", false, "write the golden files anew")

// open opens a file with parquet-go, which also checks the page index against the rest.
func open(t testing.TB, file []byte) *pqgo.File {
	t.Helper()
	f, err := pqgo.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// shapes are runs of values that try every way of the hybrid encoding.
func shapes(limit int) [][]uint32 {
	run := func(v uint32, n int) []uint32 { return slices.Repeat([]uint32{v % uint32(limit)}, n) }
	mixed := func(n int) []uint32 {
		var out []uint32
		for i := range n {
			out = append(out, uint32(i*7919)%uint32(limit))
		}
		return out
	}
	var out [][]uint32
	for _, n := range []int{0, 1, 7, 8, 9, 15, 16, 17, 63 * 8, 64*8 + 1, 70 * 8, 1000} {
		out = append(out, run(1, n), mixed(n), slices.Concat(run(1, n), mixed(n)), slices.Concat(mixed(n), run(1, n)),
			slices.Concat(mixed(5), run(1, n), mixed(9), run(1, 8), mixed(8), run(1, 40), mixed(3)))
	}
	return out
}

func TestHybrid(t *testing.T) {
	for width := 0; width <= 20; width++ {
		for i, want := range shapes(1 << width) {
			got, err := (&rle.Encoding{BitWidth: width}).DecodeInt32(nil, appendIndexes(nil, want, uint(width)))
			if err != nil || len(got) < len(want) {
				t.Fatalf("width %d, shape %d: %d values, want %d: %v", width, i, len(got), len(want), err)
			}
			for j, v := range want {
				if uint32(got[j]) != v {
					t.Fatalf("width %d, shape %d: value %d is %d, want %d", width, i, j, got[j], v)
				}
			}
		}
	}
	for limit := 1; limit <= 255; limit = limit*2 + 1 {
		for i, shape := range shapes(limit + 1) {
			for _, tail := range []int{0, 1, 8, 100} {
				var levels, want []uint8
				for _, v := range shape {
					levels = append(levels, uint8(v))
				}
				want = append(levels[:len(levels):len(levels)], bytes.Repeat([]byte{uint8(limit)}, tail)...)
				want = append(want, make([]byte, tail/2)...)
				enc := appendLevelRuns([]byte("x"), levels, uint8(limit), tail, tail/2, uint8(limit))
				got, err := (&rle.Encoding{BitWidth: bits.Len(uint(limit))}).DecodeLevels(nil, enc[1:])
				if err != nil || len(got) < len(want) || !bytes.Equal(got[:len(want)], want) {
					t.Fatalf("limit %d, shape %d, tail %d: %d levels, want %d: %v", limit, i, tail, len(got), len(want), err)
				}
			}
		}
	}
}

// TestHybridSize checks that levels which change at random take about a bit each, though some of them are
// alike by chance.
func TestHybridSize(t *testing.T) {
	levels := make([]uint8, 80_000)
	state := uint32(1)
	for i := range levels {
		state = state*1664525 + 1013904223
		if state>>24 > 50 {
			levels[i] = 1
		}
	}
	if n := len(appendLevelRuns(nil, levels, 1, 0, 0, 1)); n > 80_000/8*21/20 {
		t.Errorf("%d levels take %d bytes", len(levels), n)
	}
	if n := len(appendLevelRuns(nil, levels[:64], 1, 20_000, 20_000, 1)); n > 64/8+10 {
		t.Errorf("64 levels and two runs take %d bytes", n)
	}
	clear(levels)
	if n := len(appendLevelRuns(nil, levels, 1, 100_000, 100_000, 1)); n > 12 {
		t.Errorf("three runs take %d bytes", n)
	}
}

func TestAppendBits(t *testing.T) {
	for n := range 40 {
		v := make([]byte, n)
		for i := range v {
			v[i] = byte(i * i % 3 % 2)
		}
		got := appendBits(nil, v)
		if len(got) != (n+7)/8 {
			t.Fatalf("%d bits are %d bytes", n, len(got))
		}
		for i, x := range v {
			if got[i/8]>>(i%8)&1 != x {
				t.Fatalf("%d bits: bit %d is not %d", n, i, x)
			}
		}
	}
}

func TestDecimalWidth(t *testing.T) {
	for p := 1; p <= format.MaxPrecision; p++ {
		limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(p)), nil)
		limit.Sub(limit, big.NewInt(1))
		want := limit.BitLen()/8 + 1 // one bit for the sign
		if got := decimalWidth(p); got != want {
			t.Errorf("decimalWidth(%d) = %d, want %d", p, got, want)
		}
	}
}

// TestLimits checks that pages and row groups end where they should, on either side.
func TestLimits(t *testing.T) {
	const value = 100 - 4 // with its length 100 bytes in a page
	record := func(i int) string { return fmt.Sprintf(`{"s":"%0*d"}`, value, i) }
	for _, c := range []struct {
		page, group int64
		records     int
		groups      []int64
	}{
		{10_000, 1 << 30, 1000, []int64{1000}},
		{10_000, 50_000, 1200, []int64{500, 500, 200}},
		{1 << 20, 50_000, 499, []int64{499}},
		{MinPage, MinRowGroup, 100, []int64{41, 41, 18}},
	} {
		var in []string
		for i := range c.records {
			in = append(in, record(i))
		}
		w := convert(t, Options{Schema: mustSchema(t, "s string"), Compression: None, Page: c.page, RowGroup: c.group}, in...)
		f := open(t, w.file)
		var groups []int64
		for gi, g := range f.Metadata().RowGroups {
			groups = append(groups, g.NumRows)
			if size := g.TotalCompressedSize; gi < len(f.Metadata().RowGroups)-1 && (size < c.group*95/100 || size > c.group*115/100+200) {
				t.Errorf("row group of %d bytes, want about %d", size, c.group)
			}
			pages := f.OffsetIndexes()[gi].PageLocations
			for i, p := range pages[:len(pages)-1] {
				if n := int64(p.CompressedPageSize); n < c.page || n > c.page+200 {
					t.Errorf("page %d of %d bytes, want %d and at most a row more", i, n, c.page)
				}
			}
		}
		if len(groups) != len(c.groups) {
			t.Errorf("page %d, group %d: row groups of %v rows, want about %v", c.page, c.group, groups, c.groups)
			continue
		}
		for i := range groups {
			if d := groups[i] - c.groups[i]; i < len(groups)-1 && (d < -groups[i]/20-2 || d > groups[i]/20+2) {
				t.Errorf("page %d, group %d: row groups of %v rows, want about %v", c.page, c.group, groups, c.groups)
			}
		}
	}
}

// TestPageRows ends pages of a column that takes little room, and of one that takes none.
func TestPageRows(t *testing.T) {
	var in []string
	for range 10 {
		in = append(in, strings.Repeat(`{"a":true}`, 10_000))
	}
	w := convert(t, Options{Schema: mustSchema(t, "a boolean, b string")}, in...)
	for i, x := range open(t, w.file).OffsetIndexes() {
		if len(x.PageLocations) != 3 {
			t.Errorf("column %d has %d pages, want 3 of 40,000, 40,000 and 20,000 rows", i, len(x.PageLocations))
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	schema := mustSchema(t, "s string, n bigint")
	f, err := New(Options{Schema: schema, Compression: None, MemoryLimit: 4 << 20, RowGroup: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	e := f.NewEncoder().(*encoder)
	var out bytes.Buffer
	e.Reset(&out)
	most := int64(0)
	for i := range 60_000 {
		if err := e.Append(record.Row{Data: []byte(fmt.Sprintf(`{"s":"%0500d","n":%d}`, i, i))}); err != nil {
			t.Fatal(err)
		}
		memory := e.sh.held() + e.pager.held() + int64(len(e.pager.arena.blocks)*blockBytes)
		for _, c := range e.plan.columns {
			memory += c.held() + c.dictionary.memory()
		}
		most = max(most, memory)
	}
	stats, err := e.Close()
	if err != nil {
		t.Fatal(err)
	}
	if groups := len(open(t, out.Bytes()).Metadata().RowGroups); groups < 7 || groups > 12 {
		t.Errorf("%d bytes in %d row groups, want about 8 with a limit of 4 MiB", stats.Bytes, groups)
	}
	if most > 10<<20 {
		t.Errorf("%d bytes of memory, the limit is 4 MiB and growing slices may double", most)
	}
}

// TestRowThatLeavesOutTooMuch sends rows whose JSON is short and whose levels are not.
func TestRowThatLeavesOutTooMuch(t *testing.T) {
	var cols []string
	for i := range 1000 {
		cols = append(cols, fmt.Sprintf("c%d:int", i))
	}
	o := Options{Schema: mustSchema(t, "l array<struct<"+strings.Join(cols, ",")+">>, s struct<"+strings.Join(cols, ",")+">"), MemoryLimit: MinMemoryLimit}
	limit := 2000 * columnMemory / fillShare
	w := convert(t, o,
		`{"l":[`+strings.Repeat("{},", 5000)+`{}]}`,
		strings.Repeat(`{"s":{}}`, 3000),
		strings.Repeat(`{}`, 3000),
		`{"l":[{"c1":1}]}`)
	for i, want := range []string{
		fmt.Sprintf("In column l[] the record leaves out more than %d values", limit),
		"Data does not match the schema. The record holds more than 2048 rows",
		"Data does not match the schema. The record holds more than 2048 rows",
		"",
	} {
		if f := w.fails[i]; (f == nil) != (want == "") || f != nil && !strings.Contains(f.Message, want) {
			t.Errorf("record %d: %v, want %s", i, f, want)
		}
	}
	if w.stats.Rows != 1 {
		t.Errorf("%d rows, want 1", w.stats.Rows)
	}
}

func TestMostColumns(t *testing.T) {
	if testing.Short() {
		t.Skip("10,000 columns")
	}
	var cols []string
	for i := range MaxColumns {
		cols = append(cols, fmt.Sprintf("c%d string", i))
	}
	schema := mustSchema(t, strings.Join(cols, ","))
	f, err := New(Options{Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	w := encode(t, f.NewEncoder(), `{"c0":"first","c9999":"last"}`, `{}`, `{"c5000":"x"}`)
	if got := w.rows[0]; !strings.HasPrefix(got, `{"c0":"first","c1":null,`) || !strings.HasSuffix(got, `"c9999":"last"}`) {
		t.Errorf("row 0 is %.60s...", got)
	}
	schema.Fields = append(schema.Fields, format.Field{Name: "more", Type: format.Type{Kind: format.Int}})
	if _, err := New(Options{Schema: schema}); err == nil || !strings.Contains(err.Error(), "has 10001 columns that hold values, at most 10000") {
		t.Errorf("New with one column more: %v", err)
	}
}

// TestSameRowsSameBytes writes the same rows with an encoder that is new, with one that has written other
// things, and with one that broke off.
func TestSameRowsSameBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	rows := lines(sample.Clicks(7, 0, 3000))
	other := lines(sample.Clicks(8, 5000, 6000))
	for _, o := range []Options{
		{Compression: Snappy}, {Compression: Zstd, Encodings: Modern}, {Compression: Gzip, Timestamps: Int96},
		{Compression: None, Page: 20_000, RowGroup: 500_000}, {Compression: Zstd, RowGroup: 200_000}, {Compression: Zstd, Encodings: Modern, Page: 5_000, MemoryLimit: MinMemoryLimit},
	} {
		o.Schema = mustSchema(t, sample.ClicksSchema)
		f, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		write := func(e format.Encoder, rows [][]byte) []byte {
			var out bytes.Buffer
			e.Reset(&out)
			for _, r := range rows {
				if err := e.Append(record.Row{Data: r}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := e.Close(); err != nil {
				t.Fatal(err)
			}
			return out.Bytes()
		}
		want := write(f.NewEncoder(), rows)
		e := f.NewEncoder()
		write(e, other)
		if got := write(e, rows); !bytes.Equal(got, want) {
			t.Errorf("%+v: an encoder that was used before writes another file", o)
		}
		e.Reset(io.Discard)
		for _, r := range other {
			if err := e.Append(record.Row{Data: r}); err != nil {
				t.Fatal(err)
			}
		}
		_ = e.Append(record.Row{Data: []byte(`{"event_id":"never","tags":["`)})
		if got := write(e, rows); !bytes.Equal(got, want) {
			t.Errorf("%+v: an encoder that was broken off writes another file", o)
		}
	}
}

// TestDictionaries checks when a column has one, and that a change in the middle of a row group is read
// back right.
func TestDictionaries(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	few := func(i int) string { return fmt.Sprintf("value %d", i%50) }
	many := func(i int) string { return fmt.Sprintf("value %d", i) }
	later := func(i int) string { // few at first, many once the dictionary is in use
		if i < 40_000 {
			return few(i)
		}
		return fmt.Sprintf("a longer and different value %d", i)
	}
	for _, c := range []struct {
		name  string
		n     int
		value func(int) string
		want  map[Encodings]string
	}{
		{"few", 1000, few, map[Encodings]string{Compatible: "RLE PLAIN RLE_DICTIONARY", Modern: "RLE PLAIN RLE_DICTIONARY"}},
		{"many", 1000, many, map[Encodings]string{Compatible: "RLE PLAIN", Modern: "RLE DELTA_LENGTH_BYTE_ARRAY"}},
		{"many more", 20_000, many, map[Encodings]string{Compatible: "RLE PLAIN", Modern: "RLE DELTA_LENGTH_BYTE_ARRAY"}},
		{"later", 120_000, later, map[Encodings]string{Compatible: "RLE PLAIN RLE_DICTIONARY", Modern: "RLE PLAIN RLE_DICTIONARY DELTA_LENGTH_BYTE_ARRAY"}},
	} {
		var in, want []string
		for i := range c.n {
			in = append(in, `{"s":"`+c.value(i)+`"}`)
		}
		want = in
		for enc, encodings := range c.want {
			w := convert(t, Options{Schema: mustSchema(t, "s string"), Encodings: enc}, in...)
			if !slices.Equal(w.rows, want) {
				t.Errorf("%s, %s: rows differ", c.name, enc)
			}
			m := open(t, w.file).Metadata().RowGroups[0].Columns[0].MetaData
			var got []string
			for _, e := range m.Encoding {
				got = append(got, e.String())
			}
			if strings.Join(got, " ") != encodings {
				t.Errorf("%s, %s: encodings %v, want %s", c.name, enc, got, encodings)
			}
			pages := int32(0)
			for _, s := range m.EncodingStats {
				if s.PageType != pq.DictionaryPage {
					pages += s.Count
				}
			}
			if x := open(t, w.file).OffsetIndexes()[0]; int(pages) != len(x.PageLocations) {
				t.Errorf("%s, %s: %d pages by encoding, %d in the index", c.name, enc, pages, len(x.PageLocations))
			}
		}
	}
}

// TestTwiceWithoutDictionary looks for a key that is there twice once the keys' dictionary is given up.
func TestTwiceWithoutDictionary(t *testing.T) {
	for _, typ := range []string{"string", "bigint", "int", "decimal(20,1)", "timestamp", "double"} {
		for _, enc := range []Encodings{Compatible, Modern} {
			var keys []string
			for i := range 9000 {
				keys = append(keys, fmt.Sprintf(`"%d":true`, i+1))
			}
			in := []string{"{\"m\":{" + strings.Join(keys, ",") + "}}", `{"m":{"10001":true,"10002":true}}`, `{"m":{"10001":true,"10003":true,"10001":false}}`, `{}`}
			o := Options{Schema: mustSchema(t, "m map<"+typ+",boolean>"), Encodings: enc, Page: MinPage, Timestamps: Int96}
			w := convert(t, o, in...)
			if len(w.fails) != 1 || w.fails[2] == nil || !strings.HasSuffix(w.fails[2].Message, "it has a key twice") {
				t.Errorf("%s, %s: %v", typ, enc, w.fails)
			}
		}
	}
}

// TestStatistics checks bounds and nulls of chunks, and pages' bounds against the values of the pages.
func TestStatistics(t *testing.T) {
	long := strings.Repeat("é", 100)
	for _, c := range []struct {
		typ       string
		values    []string
		low, high string // as JSON; both empty: none
		nulls     int64
	}{
		{"int", []string{"5", "null", "-3", "7"}, "-3", "7", 1},
		{"tinyint", []string{"-128", "127"}, "-128", "127", 0},
		{"bigint", []string{"9223372036854775807", "-9223372036854775808"}, "-9223372036854775808", "9223372036854775807", 0},
		{"double", []string{"1.5", "-2.5", `"NaN"`}, "-2.5", "1.5", 0},
		{"double", []string{`0`, `0.0`}, "-0", "0", 0},
		{"double", []string{`-0.0`, `-0.0`}, "-0", "0", 0},
		{"double", []string{`"NaN"`}, "", "", 0},
		{"float", []string{"0.5", "-0.5", "null", "null"}, "-0.5", "0.5", 2},
		{"boolean", []string{"true", "true"}, "true", "true", 0},
		{"boolean", []string{"true", "false"}, "false", "true", 0},
		{"boolean", []string{"null"}, "", "", 1},
		{"decimal(10,2)", []string{"-0.01", "0.01", "-5", "5"}, "-5.00", "5.00", 0},
		{"date", []string{`"2024-01-02"`, `"1950-01-01"`}, `"1950-01-01"`, `"2024-01-02"`, 0},
		{"timestamp", []string{"5", "-5"}, `"1969-12-31T23:59:55Z"`, `"1970-01-01T00:00:05Z"`, 0},
		{"string", []string{`"b"`, `"a"`, `"ab"`, `"é"`}, `"a"`, `"é"`, 0},
		{"string", []string{`"12345678b"`, `"12345678a"`, `"12345678"`}, `"12345678"`, `"12345678b"`, 0},
		{"string", []string{`"` + long + `"`}, `"` + long[:64] + `"`, `"` + long[:62] + "ê" + `"`, 0},
		{"string", []string{`"x` + long + `"`}, `"x` + long[:62] + `"`, `"x` + long[:60] + "ê" + `"`, 0},
		{"string", []string{`"` + strings.Repeat("\U0010ffff", 17) + `"`}, "", "", 0},
		{"string", []string{`"a` + strings.Repeat("\U0010ffff", 17) + `"`}, `"a` + strings.Repeat("\U0010ffff", 15) + `"`, `"b"`, 0},
		{"string", []string{`"` + strings.Repeat("\ud7ff", 30) + `"`}, `"` + strings.Repeat("\ud7ff", 21) + `"`, `"` + strings.Repeat("\ud7ff", 20) + "\ue000" + `"`, 0},
		{"array<int>", []string{"[]", "[1,null,5]", "null"}, "1", "5", 3},
	} {
		for _, enc := range []Encodings{Compatible, Modern} {
			for _, times := range []int{1, 9} { // without a dictionary, or with one
				var in []string
				for range times {
					for _, v := range c.values {
						in = append(in, `{"a":`+v+`}`)
					}
				}
				w := convert(t, Options{Schema: mustSchema(t, "a "+c.typ), Encodings: enc}, in...)
				if len(w.fails) > 0 {
					t.Fatalf("%s: %v", c.typ, w.fails)
				}
				f := open(t, w.file)
				s := f.Metadata().RowGroups[0].Columns[0].MetaData.Statistics
				if s.NullCount != c.nulls*int64(times) {
					t.Errorf("%s of %v: %d nulls, want %d", c.typ, c.values, s.NullCount, c.nulls*int64(times))
				}
				v, err := newView(f.Metadata().Schema)
				if err != nil {
					t.Fatal(err)
				}
				text := func(b []byte) string {
					x, ok := decode(v.leaves[0].e, b)
					if !ok || b == nil {
						return ""
					}
					return string(appendValue(nil, v.leaves[0].e, x))
				}
				if low, high := text(s.MinValue), text(s.MaxValue); low != c.low || high != c.high {
					t.Errorf("%s of %v: bounds %s, %s, want %s, %s", c.typ, c.values, low, high, c.low, c.high)
				}
			}
		}
	}
}

// TestPageIndex compares the index of a file of many pages with what the pages hold.
func TestPageIndex(t *testing.T) {
	var in []string
	for i := range 5000 {
		s := fmt.Sprintf(`{"up":%d,"down":"%06d","few":"v%d","x":%d`, i, 9999-i, i/1000, i*7919%1000)
		if i/1000 == 2 {
			s += `,"gap":1`
		}
		in = append(in, s+`}`)
	}
	for _, enc := range []Encodings{Compatible, Modern} {
		w := convert(t, Options{Schema: mustSchema(t, "up bigint, down string, few string, x int, gap int, ts timestamp"), Encodings: enc, Page: MinPage}, in...)
		f := open(t, w.file)
		for i, c := range f.RowGroups()[0].ColumnChunks() {
			index, err := c.ColumnIndex()
			if err != nil {
				t.Fatal(err)
			}
			wantOrder := []string{"up", "down", "up", "none", "up", "up"}[i]
			if up, down := index.IsAscending(), index.IsDescending(); up != (wantOrder == "up") || down != (wantOrder == "down") {
				t.Errorf("%s, column %d: ascending %v, descending %v, want %s", enc, i, up, down, wantOrder)
			}
			pages := c.Pages()
			n := 0
			for ; ; n++ {
				p, err := pages.ReadPage()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if p.NumNulls() != index.NullCount(n) || (p.NumNulls() == p.NumValues()) != index.NullPage(n) {
					t.Errorf("%s, column %d, page %d: %d nulls of %d, the index has %d", enc, i, n, p.NumNulls(), p.NumValues(), index.NullCount(n))
				}
				if low, high, ok := p.Bounds(); ok {
					typ := c.Type()
					if typ.Compare(low, index.MinValue(n)) != 0 || typ.Compare(high, index.MaxValue(n)) != 0 {
						t.Errorf("%s, column %d, page %d: bounds %v, %v, the index has %v, %v", enc, i, n, low, high, index.MinValue(n), index.MaxValue(n))
					}
				}
				pqgo.Release(p)
			}
			pages.Close()
			if n != index.NumPages() || i < 2 && n < 4 {
				t.Errorf("%s, column %d: %d pages, the index has %d", enc, i, n, index.NumPages())
			}
		}
	}
}

// TestNoAllocationPerRow converts rows over and over into a file that has reached its usual size.
func TestNoAllocationPerRow(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	rows := lines(sample.Clicks(1, 0, 2000))
	for _, enc := range []Encodings{Compatible, Modern} {
		f, err := New(Options{Schema: mustSchema(t, sample.ClicksSchema), Compression: Zstd, Encodings: enc})
		if err != nil {
			t.Fatal(err)
		}
		e := f.NewEncoder()
		pass := func() {
			for _, r := range rows {
				if err := e.Append(record.Row{Data: r}); err != nil {
					t.Fatal(err)
				}
			}
		}
		e.Reset(io.Discard)
		for range 30 {
			pass()
		}
		if n := testing.AllocsPerRun(20, pass) / float64(len(rows)); n > 0.02 {
			t.Errorf("%s: %.3f allocations a row, want next to none", enc, n)
		}
	}
}

// TestBuffered compares the estimate on the way with what the file has in the end.
func TestBuffered(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	rows := lines(sample.Clicks(1, 0, 20_000))
	for _, c := range []Compression{None, Zstd} {
		f, err := New(Options{Schema: mustSchema(t, sample.ClicksSchema), Compression: c})
		if err != nil {
			t.Fatal(err)
		}
		e := f.NewEncoder()
		e.Reset(io.Discard)
		for i, n := range []int{500, 2000, 10_000, 20_000} {
			e.Reset(io.Discard)
			for _, r := range rows[:n] {
				if err := e.Append(record.Row{Data: r}); err != nil {
					t.Fatal(err)
				}
			}
			got := e.Buffered()
			stats, err := e.Close()
			if err != nil {
				t.Fatal(err)
			}
			if ratio := float64(got) / float64(stats.Bytes); ratio < 0.8 || ratio > 1.25 {
				t.Errorf("%s, step %d: %d rows: Buffered %d, the file has %d bytes", c, i, n, got, stats.Bytes)
			}
		}
	}
}

// TestGolden fixes the bytes of files: a change is either wanted, and -update writes it down, or it breaks
// the promise that files depend on their rows alone.
func TestGolden(t *testing.T) {
	in := []string{
		`{"s":"a","n":1,"d":0.5,"t":"2025-03-01T00:00:03.25Z","l":[{"x":1,"y":["p",null]},null],"m":{"k":1.25},"b":true,"day":"2024-02-29"}`,
		`{"s":"b","n":-1,"l":[],"m":{},"zz":1}`,
		`{"s":"a","n":9007199254740993,"d":-0.0,"t":1740787203,"l":[{}],"m":{"k":null,"j":-99.99},"b":false}`,
		`{}{"s":"` + strings.Repeat("long ", 30) + `"}`,
	}
	schema := mustSchema(t, "s string, n bigint, d double, t timestamp, l array<struct<x:int,y:array<varchar(5)>>>, m map<string,decimal(4,2)>, b boolean, day date")
	for name, o := range map[string]Options{
		"compatible": {},
		"modern":     {Encodings: Modern},
		"int96":      {Timestamps: Int96},
	} {
		// Compressors write other bytes on other processors and in other versions; they are not ours to fix.
		o.Schema, o.Compression = schema, None
		w := convert(t, o, in...)
		path := filepath.Join("testdata", "golden", name+".parquet")
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, w.file, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(w.file, want) {
			t.Errorf("%s: the file has changed: %d bytes, %d in %s", name, len(w.file), len(want), path)
		}
	}
}

func TestInspect(t *testing.T) {
	w := convert(t, Options{Schema: mustSchema(t, "s string, n bigint, t timestamp"), Compression: Zstd}, `{"s":"b","n":1}`, `{"s":"a","n":null,"t":5}`)
	info, err := Inspect(bytes.NewReader(w.file), int64(len(w.file)))
	if err != nil {
		t.Fatal(err)
	}
	if info.Rows != 2 || info.Size != int64(len(w.file)) || info.CreatedBy != createdBy || len(info.Groups) != 1 || !strings.Contains(info.Schema, "optional binary s (STRING)") {
		t.Errorf("%+v", info)
	}
	var got []string
	for _, c := range info.Groups[0].Columns {
		got = append(got, fmt.Sprintf("%s|%s|%s|%v|%d|%d|%d|%s|%s", c.Path, c.Type, c.Codec, c.Encodings, c.Values, c.Nulls, c.Pages, c.Min, c.Max))
	}
	want := []string{
		`s|BYTE_ARRAY STRING|ZSTD|[RLE PLAIN]|2|0|1|"a"|"b"`,
		`n|INT64|ZSTD|[RLE PLAIN]|2|1|1|1|1`,
		`t|INT64 TIMESTAMP(isAdjustedToUTC=true,unit=MICROS)|ZSTD|[RLE PLAIN]|2|1|1|"1970-01-01T00:00:05Z"|"1970-01-01T00:00:05Z"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("columns:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for cut := range len(w.file) {
		// Every part of a file is an error and never a panic.
		if _, err := Inspect(bytes.NewReader(w.file[:cut]), int64(cut)); err == nil {
			t.Errorf("the first %d bytes are taken for a file", cut)
		}
	}
	file := bytes.Clone(w.file)
	file[len(file)-5] = 0xff // the highest byte of the footer's length
	if _, err := Inspect(bytes.NewReader(file), int64(len(file))); err == nil || !strings.Contains(err.Error(), "damaged Parquet file: a footer of 42") {
		t.Errorf("a footer of 4 GB: %v", err)
	}
	if rows, err := ReadRows(bytes.NewReader(w.file), int64(len(w.file)), 1); err != nil || len(rows) != 1 {
		t.Errorf("ReadRows of one row: %q, %v", rows, err)
	}
}

// TestDamagedFiles changes each byte of a file: reading it may fail or find something else, but it ends.
func TestDamagedFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	for _, c := range []Compression{None, Snappy} {
		w := convert(t, Options{Schema: mustSchema(t, "s string, l array<struct<a:int>>, t timestamp"), Compression: c}, `{"s":"x","l":[{"a":1},null],"t":5}`, `{"s":"x"}`)
		failed := 0
		for at := range w.file {
			for _, x := range []byte{1, 0x10, 0x80, 0xff} {
				file := bytes.Clone(w.file)
				file[at] ^= x
				_, err1 := Inspect(bytes.NewReader(file), int64(len(file)))
				_, err2 := ReadRows(bytes.NewReader(file), int64(len(file)), 10)
				if err1 != nil || err2 != nil {
					failed++
				}
			}
		}
		if failed < len(w.file) {
			t.Errorf("only %d changes of %d were noticed", failed, 4*len(w.file))
		}
	}
}

// TestReadRowsOfOthers reads types that this package does not write.
func TestReadRowsOfOthers(t *testing.T) {
	type row struct {
		A uint32   `parquet:"a"`
		B []string `parquet:"b"`
		C []byte   `parquet:"c"`
		D int64    `parquet:"d,decimal(3:10)"`
		E *float64 `parquet:"e,optional"`
	}
	nan := math.NaN()
	var out bytes.Buffer
	if err := pqgo.Write(&out, []row{{A: math.MaxUint32, B: []string{"x", "y"}, C: []byte{0xff, 0}, D: -1500, E: &nan}, {D: 2}}); err != nil {
		t.Fatal(err)
	}
	rows, err := ReadRows(bytes.NewReader(out.Bytes()), int64(out.Len()), -1)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"a":4294967295,"b":["x","y"],"c":{"base64":"/wA="},"d":-1.500,"e":"NaN"}` + "\n" + `{"a":0,"b":[],"c":"","d":0.002,"e":null}`
	if got := string(bytes.Join(rows, []byte("\n"))); got != want {
		t.Errorf("rows:\n%s\nwant:\n%s", got, want)
	}
}

// TestBoundBytes checks how bounds are written, against the format's definition.
func TestBoundBytes(t *testing.T) {
	c := &column{physical: pq.Int64}
	if got := (bound{n: -2}).encode(c); binary.LittleEndian.Uint64(got) != math.MaxUint64-1 {
		t.Errorf("bound -2 is % x", got)
	}
}

func lines(data []byte) [][]byte {
	return bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
}
