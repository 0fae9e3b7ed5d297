package parquet

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"hydrant/format"
	"hydrant/record"
)

// written is what an encoder made of some records.
type written struct {
	file  []byte
	rows  []string                 // read back by parquet-go, as JSON
	fails map[int]*format.RowError // by number of the record
	stats format.Stats
}

// convert writes records into a file and reads it back.
func convert(t testing.TB, o Options, records ...string) written {
	t.Helper()
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return encode(t, f.NewEncoder(), records...)
}

func encode(t testing.TB, e format.Encoder, records ...string) written {
	t.Helper()
	var out bytes.Buffer
	e.Reset(&out)
	w := written{fails: map[int]*format.RowError{}}
	for i, r := range records {
		if err := e.Append(record.Row{Data: []byte(r)}); err != nil {
			var row *format.RowError
			if !errors.As(err, &row) {
				t.Fatalf("record %d: %v", i, err)
			}
			w.fails[i] = row
		}
	}
	stats, err := e.Close()
	if err != nil {
		t.Fatal(err)
	}
	w.stats, w.file = stats, out.Bytes()
	if stats.Bytes != int64(len(w.file)) {
		t.Fatalf("Stats.Bytes = %d, the writer got %d", stats.Bytes, len(w.file))
	}
	rows, err := ReadRows(bytes.NewReader(w.file), int64(len(w.file)), -1)
	if err != nil {
		t.Fatalf("the file cannot be read: %v", err)
	}
	for _, r := range rows {
		w.rows = append(w.rows, string(r))
	}
	if stats.Rows != int64(len(rows)) {
		t.Fatalf("Stats.Rows = %d, the file has %d", stats.Rows, len(rows))
	}
	return w
}

// want checks the rows, one a line.
func (w *written) want(t testing.TB, rows ...string) {
	t.Helper()
	if got, want := strings.Join(w.rows, "\n"), strings.Join(rows, "\n"); got != want {
		t.Errorf("rows:\n%s\nwant:\n%s", got, want)
	}
}

var (
	openx = func(*Options) {}
	hive  = func(o *Options) { o.Hive = &Hive{} }
)

// TestValues puts one value into a column of one type and reads it back. An expectation that does not look
// like JSON is a part of the message with which the record is refused.
func TestValues(t *testing.T) {
	joda := func(formats ...string) func(*Options) {
		return func(o *Options) { o.Hive = &Hive{TimestampFormats: formats} }
	}
	unit := func(u TimestampUnit) func(*Options) { return func(o *Options) { o.Timestamps = u } }
	const d38 = "99999999999999999999999999999999999999"
	for _, c := range []struct {
		typ    string
		option func(*Options)
		in     string
		want   string
	}{
		{"boolean", openx, `true`, `true`},
		{"boolean", openx, `false`, `false`},
		{"boolean", openx, `null`, `null`},
		{"boolean", openx, `"TRUE"`, `true`},
		{"boolean", openx, `"false"`, `false`},
		{"boolean", openx, `"yes"`, `!Column a of type boolean cannot take "yes": it is neither true nor false`},
		{"boolean", openx, `1`, `!Column a of type boolean cannot take 1`},
		{"boolean", hive, `"true"`, `!cannot take "true"`},

		{"tinyint", openx, `127`, `127`},
		{"tinyint", openx, `-128`, `-128`},
		{"tinyint", openx, `128`, `!Column a of type tinyint cannot take 128: it is not within -128 to 127`},
		{"tinyint", openx, `-129`, `!cannot take -129`},
		{"smallint", openx, `-32768`, `-32768`},
		{"smallint", openx, `32767`, `32767`},
		{"smallint", openx, `32768`, `!it is not within -32768 to 32767`},
		{"int", openx, `2147483647`, `2147483647`},
		{"int", openx, `-2147483648`, `-2147483648`},
		{"int", openx, `2147483648`, `!it is not within -2147483648 to 2147483647`},
		{"int", openx, `99999999999999999999999`, `!it is not within -2147483648 to 2147483647`},
		{"int", openx, `1.0`, `1`},
		{"int", openx, `1e3`, `1000`},
		{"int", openx, `-12.5e1`, `-125`},
		{"int", openx, `0e99999`, `0`},
		{"int", openx, `1.5`, `!cannot take 1.5: it has a fraction`},
		{"int", openx, `1e-1`, `!it has a fraction`},
		{"int", openx, `1e999999999999`, `!it is not within`},
		{"int", openx, `-0`, `0`},
		{"int", openx, `"17"`, `17`},
		{"int", openx, `" +017 "`, `17`},
		{"int", openx, `"-8.0"`, `-8`},
		{"int", openx, `"17x"`, `!cannot take "17x": it holds no number`},
		{"int", openx, `""`, `!cannot take "": it holds no number`},
		{"int", openx, `"0x10"`, `!it holds no number`},
		{"int", openx, `true`, `!Column a of type int cannot take true`},
		{"int", openx, `{"b":1}`, `!Column a of type int cannot take {"b":1}`},
		{"int", openx, `[1]`, `!cannot take [1]`},
		{"int", openx, `null`, `null`},
		{"int", hive, `"17"`, `!cannot take "17"`},
		{"int", hive, `17`, `17`},
		{"bigint", openx, `9223372036854775807`, `9223372036854775807`},
		{"bigint", openx, `-9223372036854775808`, `-9223372036854775808`},
		{"bigint", openx, `9223372036854775808`, `!it is not within -9223372036854775808 to 9223372036854775807`},
		{"bigint", openx, `-9223372036854775809`, `!it is not within`},
		{"bigint", openx, `999999999999999999`, `999999999999999999`},
		{"bigint", openx, `1000000000000000000`, `1000000000000000000`},
		{"bigint", openx, `9.223372036854775807e18`, `9223372036854775807`},
		{"bigint", openx, `100000000000000000000000000000000000000000e-40`, `10`},
		{"bigint", openx, `1.00000000000000000000000000000000000000000001`, `!it has a fraction`},
		{"bigint", openx, `"9223372036854775808"`, `!it is too large`},

		{"double", openx, `0.1`, `0.1`},
		{"double", openx, `-0.0`, `-0`},
		{"double", openx, `9007199254740993`, `9007199254740992`},
		{"double", openx, `0.1234567890123456789`, `0.12345678901234568`},
		{"double", openx, `123456789012345678901234567890`, `1.2345678901234568e+29`},
		{"double", openx, `1.7976931348623157e308`, `1.7976931348623157e+308`},
		{"double", openx, `5e-324`, `5e-324`},
		{"double", openx, `1e-400`, `0`},
		{"double", openx, `1e400`, `!cannot take 1e400: it is beyond the range of the type`},
		{"double", openx, `0.000000000000000000000001`, `1e-24`},
		{"double", openx, `2.5E+3`, `2500`},
		{"double", openx, `18446744073709551617`, `18446744073709552000`}, // 2^64+1
		{"double", openx, `1844674407370955161.7`, `1844674407370955300`},
		{"double", openx, `"2.5"`, `2.5`},
		{"double", openx, `".5"`, `0.5`},
		{"double", openx, `"5."`, `5`},
		{"double", openx, `"NaN"`, `"NaN"`},
		{"double", openx, `"-Infinity"`, `"-Infinity"`},
		{"double", openx, `"nan"`, `!it holds no number`},
		{"double", openx, `"1_0"`, `!it holds no number`},
		{"double", hive, `"2.5"`, `!cannot take "2.5"`},
		{"float", openx, `0.1`, `0.1`},
		{"float", openx, `16777217`, `16777216`},
		// Through a double this would be rounded twice and come out one unit lower.
		{"float", openx, `1.00000017881393432617187499`, `1.0000001`},
		{"float", openx, `3.4028235e38`, `3.4028235e+38`},
		{"float", openx, `3.5e38`, `!it is beyond the range`},
		{"float", openx, `"Infinity"`, `"Infinity"`},

		{"decimal(10,2)", openx, `12345678.90`, `12345678.90`},
		{"decimal(10,2)", openx, `-0.01`, `-0.01`},
		{"decimal(10,2)", openx, `0.005`, `0.01`},
		{"decimal(10,2)", openx, `-0.005`, `-0.01`},
		{"decimal(10,2)", openx, `0.00499999999999999999999999999999999999999999999`, `0.00`},
		{"decimal(10,2)", openx, `1e-50`, `0.00`},
		{"decimal(10,2)", openx, `1.5e3`, `1500.00`},
		{"decimal(10,2)", openx, `99999999.99`, `99999999.99`},
		{"decimal(10,2)", openx, `99999999.995`, `!Column a of type decimal(10,2) cannot take 99999999.995: it has more than 8 digits before the point`},
		{"decimal(10,2)", openx, `1e9`, `!more than 8 digits before the point`},
		{"decimal(10,2)", openx, `1e99999999999`, `!more than 8 digits`},
		{"decimal(10,2)", openx, `"-7.125"`, `-7.13`},
		{"decimal(10,2)", openx, `"a"`, `!it holds no number`},
		{"decimal(10,2)", openx, `true`, `!cannot take true`},
		{"decimal(10,2)", hive, `"1"`, `!cannot take "1"`},
		{"decimal(38,0)", openx, d38, d38},
		{"decimal(38,0)", openx, `-` + d38, `-` + d38},
		{"decimal(38,0)", openx, d38 + `.4`, d38},
		{"decimal(38,0)", openx, d38 + `.5`, `!more than 38 digits`},
		{"decimal(38,0)", openx, d38 + `0`, `!more than 38 digits`},
		{"decimal(38,38)", openx, `0.` + d38, `0.` + d38},
		{"decimal(38,38)", openx, `1`, `!more than 0 digits`},
		{"decimal(9,0)", openx, `-999999999`, `-999999999`},
		{"decimal(18,9)", openx, `999999999.999999999`, `999999999.999999999`},
		{"decimal(1,0)", openx, `9`, `9`},

		{"string", openx, `"häß\u00e9\n"`, `"häßé\n"`},
		{"string", openx, `""`, `""`},
		{"string", openx, `"\ud83d\ude00"`, `"😀"`},
		{"string", openx, `"\ud83dx"`, `"�x"`},
		{"string", openx, `"\ude00\ud83d"`, `"��"`},
		{"string", openx, `"\ud83d\u0041"`, `"�A"`},
		{"string", openx, `"\u0000"`, `"\u0000"`},
		{"string", openx, `"\b\f\n\r\t\/\\\""`, `"\b\f\n\r\t/\\\""`},
		{"string", openx, `17.50`, `"17.50"`},
		{"string", openx, `true`, `"true"`},
		{"string", openx, `{"b": [1, 2]}`, `"{\"b\": [1, 2]}"`},
		{"string", openx, `[ ]`, `"[ ]"`},
		{"string", openx, `null`, `null`},
		{"string", hive, `17`, `"17"`},
		{"string", hive, `false`, `"false"`},
		{"string", hive, `{"b":1}`, `!Column a of type string cannot take {"b":1}`},
		{"string", hive, `[]`, `!cannot take []`},
		{"char(3)", openx, `"abcd"`, `"abc"`},
		{"char(3)", openx, `"ab"`, `"ab"`},
		{"varchar(3)", openx, `"日本語文"`, `"日本語"`},
		{"varchar(3)", openx, `"ab\u00e9\u00e9"`, `"abé"`},
		{"varchar(3)", openx, `12345`, `"123"`},
		{"varchar(5)", openx, `false`, `"false"`},
		{"binary", openx, `"aGk="`, `"aGk="`},
		{"binary", openx, `"\u00ff"`, `"ÿ"`},
		{"binary", openx, `1`, `!Column a of type binary cannot take 1`},

		{"date", openx, `"2024-02-29"`, `"2024-02-29"`},
		{"date", openx, `"1969-12-31"`, `"1969-12-31"`},
		{"date", openx, `"0001-01-01"`, `"0001-01-01"`},
		{"date", openx, `"9999-12-31"`, `"9999-12-31"`},
		{"date", openx, `"2024-2-9"`, `"2024-02-09"`},
		{"date", openx, `"2023-02-29"`, `!cannot take "2023-02-29": it is no date of the form yyyy-MM-dd`},
		{"date", openx, `"2023-13-01"`, `!it is no date`},
		{"date", openx, `"2023-00-01"`, `!it is no date`},
		{"date", openx, `"2023-01-00"`, `!it is no date`},
		{"date", openx, `"2023-01-01T00:00:00Z"`, `!it is no date`},
		{"date", openx, `19782`, `!Column a of type date cannot take 19782`},
		{"date", hive, `"2024-02-29"`, `"2024-02-29"`},
		{"timestamp", openx, `"2025-03-01T00:00:03Z"`, `"2025-03-01T00:00:03Z"`},
		{"timestamp", openx, `"2025-03-01T23:59:59.1Z"`, `"2025-03-01T23:59:59.1Z"`},
		{"timestamp", openx, `"2025-03-01T00:00:03.123456789Z"`, `"2025-03-01T00:00:03.123456Z"`},
		{"timestamp", openx, `"2025-03-01T00:00:03.1234567891Z"`, `!it is no timestamp in a known form`},
		{"timestamp", openx, `"2025-03-01T00:00:03.Z"`, `!it is no timestamp`},
		{"timestamp", openx, `"2025-03-01 00:00:03.5"`, `"2025-03-01T00:00:03.5Z"`},
		{"timestamp", openx, `"2025-3-1 00:00:03"`, `"2025-03-01T00:00:03Z"`},
		{"timestamp", openx, `"2025-03-01T00:00:03"`, `"2025-03-01T00:00:03Z"`},
		{"timestamp", openx, `"2025-03-01T00:00:03+02:00"`, `"2025-02-28T22:00:03Z"`},
		{"timestamp", openx, `"2025-03-01T00:00:03.5-0330"`, `"2025-03-01T03:30:03.5Z"`},
		{"timestamp", openx, `"2025-03-01T00:00:03+01"`, `"2025-02-28T23:00:03Z"`},
		{"timestamp", openx, `"2025-03-01T00:00:03+1"`, `!it is no timestamp`},
		{"timestamp", openx, `"2025-03-01T24:00:00Z"`, `!it is no timestamp`},
		{"timestamp", openx, `"2025-03-01T23:60:00Z"`, `!it is no timestamp`},
		{"timestamp", openx, `"2025-03-01T23:59:60Z"`, `!it is no timestamp`},
		{"timestamp", openx, `"2025-02-29T00:00:00Z"`, `!it is no timestamp`},
		{"timestamp", openx, `"2025-03-01"`, `!it is no timestamp`},
		{"timestamp", openx, `"2025\u002d03-01T00:00:03Z"`, `"2025-03-01T00:00:03Z"`},
		{"timestamp", openx, `"1969-12-31T23:59:59.5Z"`, `"1969-12-31T23:59:59.5Z"`},
		{"timestamp", openx, `1740787203`, `"2025-03-01T00:00:03Z"`},
		{"timestamp", openx, `999999999999`, `"33658-09-27T01:46:39Z"`},
		{"timestamp", openx, `1000000000000`, `"2001-09-09T01:46:40Z"`},
		{"timestamp", openx, `-1000000000000`, `"1938-04-24T22:13:20Z"`},
		{"timestamp", openx, `1740787203250`, `"2025-03-01T00:00:03.25Z"`},
		{"timestamp", openx, `1740787203.25`, `"2025-03-01T00:00:03.25Z"`},
		{"timestamp", openx, `1.74078720325e9`, `"2025-03-01T00:00:03.25Z"`},
		{"timestamp", openx, `1740787203250.125`, `"2025-03-01T00:00:03.250125Z"`},
		{"timestamp", openx, `1740787203.123456789`, `"2025-03-01T00:00:03.123456Z"`},
		{"timestamp", openx, `-0.5`, `"1969-12-31T23:59:59.5Z"`},
		{"timestamp", openx, `-0.0000001`, `"1969-12-31T23:59:59.999999Z"`},
		{"timestamp", openx, `-1e-30`, `"1969-12-31T23:59:59.999999Z"`},
		{"timestamp", openx, `1e-30`, `"1970-01-01T00:00:00Z"`},
		{"timestamp", openx, `"1740787203250"`, `"2025-03-01T00:00:03.25Z"`},
		{"timestamp", openx, `"1740787203.25"`, `"2025-03-01T00:00:03.25Z"`},
		{"timestamp", openx, `1e17`, `!it is beyond the range of timestamps`},
		{"timestamp", openx, `1e400`, `!it is beyond the range of timestamps`},
		{"timestamp", openx, `true`, `!cannot take true`},
		{"timestamp", unit(Millis), `"2025-03-01T00:00:03.123456Z"`, `"2025-03-01T00:00:03.123Z"`},
		{"timestamp", unit(Millis), `-0.0001`, `"1969-12-31T23:59:59.999Z"`},
		{"timestamp", unit(Int96), `"2025-03-01T00:00:03.123456789Z"`, `"2025-03-01T00:00:03.123456789Z"`},
		{"timestamp", unit(Int96), `-0.000000001`, `"1969-12-31T23:59:59.999999999Z"`},
		{"timestamp", unit(Int96), `"0001-01-01T00:00:00Z"`, `"0001-01-01T00:00:00Z"`},
		{"timestamp", hive, `"2025-03-01 00:00:03.123"`, `"2025-03-01T00:00:03.123Z"`},
		{"timestamp", hive, `"2025-03-01T00:00:03Z"`, `!it is no timestamp in a known form`},
		{"timestamp", hive, `1740787203250`, `!it is no timestamp in a known form`},
		{"timestamp", joda("millis"), `1740787203250`, `"2025-03-01T00:00:03.25Z"`},
		{"timestamp", joda("millis"), `"1740787203250"`, `"2025-03-01T00:00:03.25Z"`},
		{"timestamp", joda("millis"), `5`, `"1970-01-01T00:00:00.005Z"`},
		{"timestamp", joda("yyyy-MM-dd'T'HH:mm:ss", "millis"), `"2025-03-01T00:00:03"`, `"2025-03-01T00:00:03Z"`},
		{"timestamp", joda("yyyy-MM-dd'T'HH:mm:ss", "millis"), `7`, `"1970-01-01T00:00:00.007Z"`},
		{"timestamp", joda("yyyy-MM-dd'T'HH:mm:ss", "millis"), `"2025-03-01 00:00:03"`, `"2025-03-01T00:00:03Z"`},

		{"array<int>", openx, `[]`, `[]`},
		{"array<int>", openx, `[ 1 , null , "3" ]`, `[1,null,3]`},
		{"array<int>", openx, `null`, `null`},
		{"array<int>", openx, `{"b":1}`, `!Column a of type array<int> cannot take {"b":1}`},
		{"array<int>", openx, `"x"`, `!cannot take "x"`},
		{"array<int>", openx, `[1,"x"]`, `!Column a[] of type int cannot take "x"`},
		{"map<string,int>", openx, `{}`, `{}`},
		{"map<string,int>", openx, `{"A.b":1,"":null,"\u0041":2}`, `{"A.b":1,"":null,"A":2}`},
		{"map<string,int>", openx, `{"a":1,"\u0061":2}`, `!Column a of type map<string,int> cannot take {"a":1,"\u0061":2}: it has a key twice`},
		{"map<int,int>", openx, `{"1":1,"01":2}`, `!it has a key twice`},
		{"map<char(1),int>", openx, `{"ab":1,"ac":2}`, `!it has a key twice`},
		{"map<decimal(4,1),int>", openx, `{"1.04":1,"0":2,"1":3}`, `!it has a key twice`},
		{"map<boolean,int>", openx, `{"true":1,"True":3}`, `!it has a key twice`},
		{"map<double,int>", openx, `{"1e0":1,"1.0":3}`, `!it has a key twice`},
		{"map<string,int>", openx, `{"a":1,"b":"x"}`, `!Column a{} of type int cannot take "x"`},
		{"map<string,int>", openx, `[]`, `!cannot take []`},
		{"map<int,string>", openx, `{"1":"x","-2":"y"}`, `{"1":"x","-2":"y"}`},
		{"map<int,string>", openx, `{"one":"x"}`, `!Column a key of type int cannot take "one": it holds no number`},
		{"map<int,string>", hive, `{"1":"x"}`, `{"1":"x"}`},
		{"map<date,boolean>", openx, `{"2024-02-29":true}`, `{"2024-02-29":true}`},
		{"struct<b:int,c:string>", openx, `{}`, `{"b":null,"c":null}`},
		{"struct<b:int,c:string>", openx, `{"c":"x","B":2,"d":[{}]}`, `{"b":2,"c":"x"}`},
		{"struct<b:int,c:string>", openx, `null`, `null`},
		{"struct<b:int,c:string>", openx, `{"b":1,"B":2}`, `!Column a.b is there twice`},
		{"struct<b:int,c:string>", openx, `[]`, `!Column a of type struct<b:int,c:string> cannot take []`},
	} {
		o := Options{Schema: mustSchema(t, "a "+c.typ)}
		c.option(&o)
		for _, enc := range []Encodings{Compatible, Modern} {
			o.Encodings = enc
			w := convert(t, o, `{"a":`+c.in+`}`)
			if msg, refused := strings.CutPrefix(c.want, "!"); refused {
				if f := w.fails[0]; f == nil {
					t.Errorf("%s of %s gave %s, want a refusal", c.typ, c.in, w.rows)
				} else if !strings.Contains(f.Message, msg) || f.Code != codeMalformed || !strings.HasPrefix(f.Message, "Data does not match the schema. ") {
					t.Errorf("%s of %s: got %s: %s\nwant %s", c.typ, c.in, f.Code, f.Message, msg)
				}
				continue
			}
			if f := w.fails[0]; f != nil {
				t.Errorf("%s of %s refused: %s", c.typ, c.in, f.Message)
				continue
			}
			if got := w.rows[0]; got != `{"a":`+c.want+`}` {
				t.Errorf("%s of %s = %s, want %s", c.typ, c.in, got, c.want)
			}
		}
	}
}
