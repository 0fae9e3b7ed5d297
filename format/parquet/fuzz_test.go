package parquet

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"hydrant/format"
	"hydrant/record"
)

// documents is how encoding/json and utf8.Valid see a record: the number of objects back to back, or false
// when it is anything else.
func documents(data []byte) (n int, ok bool) {
	if !utf8.Valid(data) {
		return 0, false
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	for {
		var doc json.RawMessage
		err := dec.Decode(&doc)
		if err == io.EOF {
			return n, n > 0
		}
		if err != nil || len(doc) == 0 || doc[0] != '{' || !json.Valid(doc) {
			return n, false
		}
		n++
	}
}

var jsonSeeds = []string{
	`{"a":1,"b":2.5e-3,"s":"x\u00e9\n","t":"2025-03-01T00:00:03.25Z","d":12.345,"l":["p",null,{"q":[]}],"m":{"k":1,"k2":null},"o":{"x":-0,"y":{"z":true}},"c":false}`,
	`{"A":"17","b":"NaN","zz":{"deep":[[[{"x":[1,2,{}]}]]]},"s":{"raw": [1, 2]},"t":1740787203.25}`,
	"{}{\"a\":null}\n{\"a\":-9223372036854775808,\"b\":1e400}",
	`{"s":"\ud83d\ude00\ud83d","s2":"\"\\\/\b\f\n\r\t","l":[],"m":{}}`,
	`{"a":01}`, `{"a":1.}`, `{"a":.1}`, `{"a":1e}`, `{"a":+1}`, `{"a":tru}`, `{"s":"\x"}`, `{"s":"\u12g4"}`,
	`[1]`, ``, ` `, `null`, `{"a":1}}`, `{"a":1,}`, `{"a" 1}`, "{\"s\":\"\xff\"}", "{\"s\":\"\x01\"}", `{"a":1}x`, `{"l":[1,]}`, `{"l":[1 2]}`,
	"{\"s\":\"0123456\xf0\x9f\x98\x80 89\"}", `{"a":1,"a":2}`, `{"m":{"k":1,"k":2}}`,
}

// FuzzStrict compares what is taken for JSON with encoding/json and utf8.Valid.
func FuzzStrict(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s))
	}
	schema, err := format.ParseDDL("a bigint, b double, s string, t timestamp, d decimal(20,3), l array<string>, m map<string,int>, o struct<x:int,y:struct<z:boolean>>, c boolean, f float, day date, v varchar(3)")
	if err != nil {
		f.Fatal(err)
	}
	var encoders []format.Encoder
	for _, o := range []Options{{}, {Hive: &Hive{TimestampFormats: []string{"millis"}}}, {UnknownFields: UnknownFields{Policy: CaptureUnknown, Column: "rest"}}} {
		o.Schema = schema
		p, err := New(o)
		if err != nil {
			f.Fatal(err)
		}
		encoders = append(encoders, p.NewEncoder())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, ok := documents(data)
		for i, e := range encoders {
			e.Reset(io.Discard)
			err := e.Append(record.Row{Data: data})
			var row *format.RowError
			if err != nil && !errors.As(err, &row) {
				t.Fatal(err)
			}
			if row != nil && row.Message == "" {
				t.Error("a refusal without a message")
			}
			if parsed := row == nil || row.Code == codeMalformed; parsed != ok {
				t.Fatalf("encoder %d: taken for JSON: %v (%v), encoding/json: %v", i, parsed, err, ok)
			}
			stats, err := e.Close()
			if err != nil {
				t.Fatal(err)
			}
			if row == nil && stats.Rows != int64(n) {
				t.Errorf("encoder %d: %d rows of %d documents", i, stats.Rows, n)
			}
		}
	})
}

// chooser makes choices from bytes.
type chooser struct{ b []byte }

func (c *chooser) below(n int) int {
	if len(c.b) == 0 {
		return 0
	}
	v := int(c.b[0]) % n
	c.b = c.b[1:]
	return v
}

func (c *chooser) typ(depth int) string {
	leaves := []string{"int", "string", "bigint", "double", "boolean", "tinyint", "smallint", "float", "decimal(9,2)", "decimal(38,10)", "char(2)", "varchar(5)", "binary", "date", "timestamp"}
	n := len(leaves) + 3
	if depth == 0 {
		n = len(leaves)
	}
	k := c.below(n)
	switch k - len(leaves) {
	case 0:
		return "array<" + c.typ(depth-1) + ">"
	case 1:
		return "map<" + leaves[c.below(len(leaves))] + "," + c.typ(depth-1) + ">"
	case 2:
		return "struct<a:" + c.typ(depth-1) + ",b:" + c.typ(depth-1) + ">"
	}
	return leaves[k]
}

// FuzzConvert makes a schema and options from the first bytes and converts the others, a record a line: it
// never panics, the file can be read by parquet-go and has as many rows as there are good documents, the
// same records give the same bytes, and what was read converts to itself.
func FuzzConvert(f *testing.F) {
	for i, s := range jsonSeeds {
		f.Add([]byte{byte(i), 15, 1, 17, 2, 3, 4, 16, 1, 0}, []byte(s))
	}
	f.Add([]byte{0, 15, 15, 17, 1, 0}, []byte(`{"a":[[{"a":"x","b":1},null],[]]}`+"\n"+`{"a":[[{"b":2}]]}`+"\nx\n"+`{"a":null}`))
	f.Add([]byte{5, 16, 0, 15, 9}, []byte(`{"a":{"1":[1.25,null],"2":[]},"zz":1}`+"\n"+`{"A":{}}`))
	f.Add([]byte{255, 14, 7, 13}, []byte(`{"a":1740787203250,"b":3.4e38,"c":"2024-02-29"}`))
	f.Fuzz(func(t *testing.T, choices, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		c := &chooser{choices}
		o := Options{
			Encodings:   []Encodings{Compatible, Modern}[c.below(2)],
			Compression: []Compression{Snappy, Zstd, None, Gzip}[c.below(4)],
			Timestamps:  []TimestampUnit{Micros, Millis, Int96}[c.below(3)],
			Page:        []int64{0, MinPage}[c.below(2)],
			RowGroup:    []int64{0, MinRowGroup}[c.below(2)],
		}
		if c.below(4) == 3 {
			o.UnknownFields = UnknownFields{Policy: CaptureUnknown, Column: "rest"}
		}
		var cols []string
		for i := range 1 + c.below(4) {
			cols = append(cols, fmt.Sprintf("%c %s", 'a'+i, c.typ(3)))
		}
		schema, err := format.ParseDDL(strings.Join(cols, ","))
		if err != nil {
			t.Fatal(err)
		}
		o.Schema = schema
		p, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		e := p.NewEncoder()
		var records []string
		for _, line := range bytes.Split(data, []byte("\n")) {
			records = append(records, string(line))
		}
		w := encode(t, e, records...)
		rows := 0
		for i, r := range records {
			if w.fails[i] == nil {
				n, ok := documents([]byte(r))
				if !ok {
					t.Fatalf("record %d is taken and is no JSON: %q", i, r)
				}
				rows += n
			}
		}
		if rows != len(w.rows) {
			t.Fatalf("%d rows of %d documents", len(w.rows), rows)
		}
		if again := encode(t, e, records...); !bytes.Equal(again.file, w.file) {
			t.Fatal("the same records give another file")
		}
		again := encode(t, e, w.rows...)
		for i, fail := range again.fails {
			// A year of five digits is a timestamp that only a number can say.
			if !strings.Contains(fail.Message, "timestamp") {
				t.Fatalf("%s: row %s does not convert to itself: %v", schema, w.rows[i], fail)
			}
		}
		if o.UnknownFields.Policy == CaptureUnknown {
			return // the column for the rest is read from no key
		}
		if len(again.fails) == 0 && strings.Join(again.rows, "\n") != strings.Join(w.rows, "\n") {
			t.Fatalf("%s: rows do not convert to themselves:\n%s\nwant:\n%s", schema, again.rows, w.rows)
		}
	})
}

// FuzzNumber compares numbers with what strconv makes of them.
func FuzzNumber(f *testing.F) {
	for _, s := range []string{"0", "-0", "1.5", "123456789012345678901234567890", "9223372036854775807", "-9223372036854775809", "1e-5", "0.1e+3", "00.", ".5", "+1", "9007199254740993", "1.7976931348623157e308", "5e-324", "1e22", "1e23"} {
		f.Add(s)
	}
	schema, err := format.ParseDDL("a bigint, b double, c float")
	if err != nil {
		f.Fatal(err)
	}
	p, err := New(Options{Schema: schema})
	if err != nil {
		f.Fatal(err)
	}
	e := p.NewEncoder().(*encoder)
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := parseNumber([]byte(s))
		want, err := strconv.ParseFloat(s, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			if ok {
				t.Fatalf("%q is taken for a number", s)
			}
			return
		}
		if !ok {
			if !strings.ContainsAny(s, "xXpP_iInN") { // hexadecimal, underscores, Inf, NaN
				t.Fatalf("%q is not taken for a number, strconv has %v", s, want)
			}
			return
		}
		if v, why := n.integer(); why == "" && err == nil {
			if math.Abs(float64(v)-want) > math.Abs(want)*1e-15 {
				t.Errorf("%q is the integer %d, strconv has %v", s, v, want)
			}
			if i, err := strconv.ParseInt(s, 10, 64); err == nil && i != v {
				t.Errorf("%q is the integer %d, strconv has %d", s, v, i)
			}
		} else if _, err := strconv.ParseInt(s, 10, 64); err == nil {
			t.Errorf("%q is no integer: %s", s, why)
		}
		if !json.Valid([]byte(s)) || err != nil {
			return
		}
		e.Reset(io.Discard)
		if err := e.Append(record.Row{Data: []byte(`{"b":` + s + `}`)}); err != nil {
			t.Fatal(err)
		}
		c := e.plan.columns[1]
		if got := c.value(c.idx[0]); math.Float64bits(want) != binary.LittleEndian.Uint64(got) {
			t.Errorf("%q is % x, strconv has %v", s, got, want)
		}
	})
}

// FuzzTimestamp compares RFC 3339 with package time, and looks that no pattern of Joda panics.
func FuzzTimestamp(f *testing.F) {
	for _, s := range []string{"2025-03-01T00:00:03.25Z", "2024-02-29T23:59:59+05:30", "1900-02-29T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999-18:00", "2025-3-1 1:2:3", "1740787203250", "2024-02-29T3:59:59+05:30"} {
		f.Add("yyyy-MM-dd'T'HH:mm:ss.SSSZ", s)
	}
	f.Add("EEE, dd MMM yyyy hh:mm a z", "Sat, 01 Mar 2025 12:30 AM PST")
	f.Add("yyyyDDDHHmmss", "2025060123456")
	f.Add("''yy''M/d K", "'25'3/1 11")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if j, err := compileJoda(pattern); err == nil {
			j.parse([]byte(s))
		}
		got, ok := isoText([]byte(s), true)
		want, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return // we take more forms
		}
		if !ok {
			// Package time takes an hour of one digit, a comma, more digits of fraction, and greater offsets.
			if s[12] != ':' && !strings.Contains(s, ",") && len(s) <= 35 && !strings.ContainsAny(s[19:], "+-") && len(s) <= 30 {
				t.Fatalf("%q is not taken, package time has %v", s, want)
			}
			return
		}
		if got.sec != want.Unix() || int(got.nanos) != want.Nanosecond() {
			t.Fatalf("%q is %+v, package time has %v", s, got, want)
		}
	})
}
