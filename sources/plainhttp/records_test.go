package plainhttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"hydrant/record"
)

// split reads a body and returns its records.
func split(f form, body string) (*records, []string, error) {
	r := &records{batch: record.NewBatch(nil)}
	err := r.read(f, []byte(body))
	var out []string
	for data := range record.Records(r.batch.Encoded()) {
		out = append(out, string(data))
	}
	return r, out, err
}

func message(err error) string {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e.message
	}
	return ""
}

func TestLines(t *testing.T) {
	f := func(body string, want ...string) {
		t.Helper()
		r, got, err := split(lines, body)
		if err != nil || !slices.Equal(got, want) || r.count != len(want) {
			t.Errorf("%q: %q, %v, want %q", body, got, err, want)
		}
	}
	f("a", "a")
	f("a\n", "a")
	f("a\nb", "a", "b")
	f("a\r\nb\r\n", "a", "b")
	f("a\r\nb\r", "a", "b")
	f("a\rb", "a\rb")
	f("a\r\r\n", "a\r")
	f("\n\n \t\n\r\na\n\n\nb\n \n", "a", "b")
	f("  {\"a\": 1}  \n{ }", "  {\"a\": 1}  ", "{ }")           // as they came
	f("no json\n\xff\xfe\n\x00", "no json", "\xff\xfe", "\x00") // as PutRecord takes them
	f("\ufeffa\n", "\ufeffa")
	for _, body := range []string{"", "\n", " ", "\r\n\t\n"} {
		if _, _, err := split(lines, body); message(err) != "The body has no records." {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestElements(t *testing.T) {
	f := func(body string, want ...string) {
		t.Helper()
		r, got, err := split(array, body)
		if err != nil || !slices.Equal(got, want) || r.count != len(want) {
			t.Errorf("%q: %q, %v, want %q", body, got, err, want)
		}
	}
	f("[1]", "1")
	f(" [ 1 , \"a\\u00e9\\\"\" ,null,true,false ]\n", "1", `"a\u00e9\""`, "null", "true", "false")
	f(`[{"a": 1,"a":2 } ,{}, [ ],[[[]],{"b":{"c":[1,{}]}}]]`, `{"a": 1,"a":2 }`, "{}", "[ ]", `[[[]],{"b":{"c":[1,{}]}}]`)
	f("[-0,0.10e+5,1E-2,12345678901234567890123]", "-0", "0.10e+5", "1E-2", "12345678901234567890123")
	f("[{\n\t\"a\" :\r 1}]", "{\n\t\"a\" :\r 1}")
	f(`["`+strings.Repeat("é", 100)+`\n", "\ud800"]`, `"`+strings.Repeat("é", 100)+`\n"`, `"\ud800"`)
	deep := strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1)
	f("["+deep+"]", deep)

	bad := func(body, want string) {
		t.Helper()
		if _, _, err := split(array, body); message(err) != want {
			t.Errorf("%q:\n got %v\nwant %s", body, err, want)
		}
	}
	at := func(body, found, expected string) {
		t.Helper()
		bad(body, "The body is not valid JSON: at byte "+found+", expected "+expected+".")
	}
	const anArray = "an array of records, [...]; a record a line is sent with the Content-Type application/x-ndjson"
	at("", "0 the body ends", anArray)
	at(`{"a":1}`, "0 there is '{'", anArray)
	at("\ufeff[1]", "0 there is '\\ufeff'", anArray)
	at("[", "1 the body ends", "a value")
	at("[1", "2 the body ends", "a comma or ]")
	at("[1,]", "3 there is ']'", "a value")
	at("[,1]", "1 there is ','", "a value")
	at("[1 2]", "3 there is '2'", "a comma or ]")
	at("[1]]", "3 there is ']'", "the end of the body")
	at("[1][2]", "3 there is '['", "the end of the body")
	at("[01]", "2 there is '1'", "a comma or ]")
	at("[1.]", "3 there is ']'", "a digit")
	at("[-]", "2 there is ']'", "a digit")
	at("[+1]", "1 there is '+'", "a value")
	at("[1e]", "3 there is ']'", "a digit")
	at("[nul]", "4 there is ']'", "null")
	at("[NaN]", "1 there is 'N'", "a value")
	at("['a']", "1 there is '\\''", "a value")
	at(`["a]`, "4 the body ends", "the end of a string")
	at("[\"\t\"]", "2 there is '\\t'", "an escape instead of a control character")
	at(`["\x"]`, "3 there is 'x'", `an escape: one of " \ / b f n r t u`)
	at(`["\u12G4"]`, "6 there is 'G'", "four hexadecimal digits")
	at(`[{a:1}]`, "2 there is 'a'", "the name of a member")
	at(`[{"a"}]`, "5 there is '}'", "a colon")
	at(`[{"a":}]`, "6 there is '}'", "a value")
	at(`[{"a":1,}]`, "8 there is '}'", "the name of a member")
	at(`[{"a":1]`, "7 there is ']'", "a comma or }")
	at(`[[1}]`, "3 there is '}'", "a comma or ]")
	at("[1]\x00", "3 there is '\\x00'", "the end of the body")
	bad("[\"a\xff\"]", "The body is not valid UTF-8 at byte 3.")
	bad("[\"\xed\xa0\x80\"]", "The body is not valid UTF-8 at byte 2.")
	bad("["+"["+deep+"]"+"]", "The body nests deeper than 1000 at byte 1000.")
	bad("[]", "The body has no records.")
	bad(" [ ] ", "The body has no records.")
}

// TestRecordLimits: both sides of what one record, and one request, may have.
func TestRecordLimits(t *testing.T) {
	long, longer := strings.Repeat("x", MaxRecordBytes), strings.Repeat("y", MaxRecordBytes+1)
	r, got, err := split(lines, "a\n"+longer+"\n"+long+"\n"+longer+"\nb")
	if err != nil || !slices.Equal(got, []string{"a", long, "b"}) {
		t.Fatalf("%d records, %v", len(got), err)
	}
	const one = `{"index":1,"code":"RecordTooLargeException","message":"The record has 1024001 bytes, at most 1024000 are taken."}`
	three := strings.Replace(one, `"index":1`, `"index":3`, 1)
	const slow4 = `{"index":4,"code":"ServiceUnavailableException","message":"Slow down."}`
	slow2 := strings.Replace(slow4, `"index":4`, `"index":2`, 1)
	for n, want := range map[int]string{
		3: `{"accepted":3,"failed":[` + one + "," + three + `]}`,
		2: `{"accepted":2,"failed":[` + one + "," + three + "," + slow4 + `]}`,
		1: `{"accepted":1,"failed":[` + one + "," + slow2 + "," + three + "," + slow4 + `]}`,
	} {
		if got := string(r.answer(n)); got != want {
			t.Errorf("%d stored:\n got %s\nwant %s", n, got, want)
		}
	}
	if _, got, err := split(array, `["`+long[:MaxRecordBytes-2]+`",1]`); err != nil || len(got) != 2 {
		t.Errorf("an element of the most bytes: %d, %v", len(got), err)
	}
	if r, got, err := split(array, `["`+long[:MaxRecordBytes-1]+`",1]`); err != nil || len(got) != 1 || len(r.long) != 1 || r.long[0].Index != 0 {
		t.Errorf("an element of one more: %d, %v", len(got), err)
	}
	if _, _, err := split(lines, longer); message(err) != "Each record of the body is longer than 1024000 bytes." {
		t.Error(err)
	}

	many := strings.Repeat("a\n", MaxRecords)
	if _, got, err := split(lines, many+"\n\n"); err != nil || len(got) != MaxRecords {
		t.Errorf("%d records, %v", len(got), err)
	}
	const tooMany = "The body has more than 10000 records. Send them in several requests."
	if _, _, err := split(lines, many+"b"); message(err) != tooMany {
		t.Error(err)
	}
	many = "[" + strings.Repeat("1,", MaxRecords-1) + "1"
	if _, got, err := split(array, many+"]"); err != nil || len(got) != MaxRecords {
		t.Errorf("%d elements, %v", len(got), err)
	}
	if _, _, err := split(array, many+",1]"); message(err) != tooMany {
		t.Error(err)
	}
}

var bodies = []string{"", "[]", " [ 1 , {\"a\":[true,null,\"\\u00e9\\n\"]} ]\n", "a\r\n\n b \n", "[1,]", `["\ud800\"",-1.5e+3]`, "[[[[]]]]", `[{"a":{"b":{}}},[[],[{}]]]`,
	"[\"12345678\\\"1234567890123456\"]", "[\"\x7f\u0080\"]", "[\"\xff\"]", "[01]", "[{}", "[\"abcdefg\x1f\"]", "{}", "[tru]", "[1]x"}

// FuzzElements compares the scanner with encoding/json, which reads the same grammar but for invalid UTF-8 and depth.
func FuzzElements(f *testing.F) {
	for _, b := range bodies {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got []string
		var first error
		err := elements(body, func(data []byte) error {
			got = append(got, string(data))
			return nil
		})
		if bytes.Count(body, []byte("["))+bytes.Count(body, []byte("{")) >= maxDepth {
			return
		}
		var want []json.RawMessage
		if first = json.Unmarshal(body, &want); first == nil && (want == nil || !utf8.Valid(body)) {
			first = errors.New("not an array of UTF-8")
		}
		if (err == nil) != (first == nil) {
			t.Fatalf("%q: %v, want %v", body, err, first)
		}
		if err != nil {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%q: %q, want %q", body, got, want)
		}
		for i := range want {
			if got[i] != string(want[i]) {
				t.Fatalf("%q: element %d is %q, want %q", body, i, got[i], want[i])
			}
		}
	})
}

// FuzzLines: what is split can be put together again, but for line ends and blank lines.
func FuzzLines(f *testing.F) {
	for _, b := range bodies {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, got, err := split(lines, string(body))
		var want []string
		for _, line := range strings.Split(string(body), "\n") {
			if line = strings.TrimSuffix(line, "\r"); strings.Trim(line, " \t\r") != "" {
				want = append(want, line)
			}
		}
		if len(want) == 0 || len(want) > MaxRecords {
			if err == nil {
				t.Fatalf("%q: %q", body, got)
			}
			return
		}
		want = slices.DeleteFunc(want, func(line string) bool { return len(line) > MaxRecordBytes })
		if err == nil && (!slices.Equal(got, want) || r.count != len(got)+len(r.long)) || err != nil && len(want) > 0 {
			t.Fatalf("%q: %q, %v, want %q", body, got, err, want)
		}
	})
}

func BenchmarkRecords(b *testing.B) {
	const one = `{"event_id":"8f14e45f-ceea-467f-ab8d-8d2d1b1c7a11","ts":"2026-03-05T10:11:12.345Z","user":{"id":12345,"tags":["a","b"]},"url":"https://shop.example/p/12345?ref=mail","price":19.99}`
	for _, c := range []struct {
		name string
		form form
		body string
	}{
		{"lines", lines, strings.Repeat(one+"\n", 5000)},
		{"array", array, "[" + strings.Repeat(one+",", 4999) + one + "]"},
	} {
		b.Run(c.name, func(b *testing.B) {
			body, buf := []byte(c.body), make([]byte, 0, bound(len(c.body)))
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				r := records{batch: record.NewBatch(buf)}
				if err := r.read(c.form, body); err != nil || r.count != 5000 {
					b.Fatal(err)
				}
			}
		})
	}
}
