package jq

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/itchyny/gojq"

	"hydrant/transform"
	"hydrant/transform/transformtest"
)

func must(t testing.TB, text string) *JQ {
	t.Helper()
	p, err := New(Options{Expression: text})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

func mustFilter(t testing.TB, text string) *Filter {
	t.Helper()
	p, err := NewFilter(Options{Expression: text})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

func TestJQ(t *testing.T) {
	const in = `{"z":1.50,"b":{"y":12345678901234567890,"a":[1, 2]},"u":7}`
	for _, c := range []struct {
		expression string
		want       []string
	}{
		{".", []string{in}},
		{". + {}", []string{in}},
		{`.u |= tostring`, []string{`{"z":1.50,"b":{"y":12345678901234567890,"a":[1, 2]},"u":"7"}`}},
		{`.b.y += 0`, []string{in}},
		{`.b.y += 1`, []string{`{"z":1.50,"b":{"y":12345678901234567891,"a":[1, 2]},"u":7}`}},
		{`.u = .u / 2`, []string{`{"z":1.50,"b":{"y":12345678901234567890,"a":[1, 2]},"u":3.5}`}},
		{`.z, .b`, []string{"1.50", `{"y":12345678901234567890,"a":[1,2]}`}},
		{`{n: .b, u}`, []string{`{"u":7,"n":{"y":12345678901234567890,"a":[1,2]}}`}},
		{`.b`, []string{`{"y":12345678901234567890,"a":[1, 2]}`}},
		{`.b.a`, []string{`[1, 2]`}},
		{`.none.deeper`, []string{`null`}},
		{`empty`, []string{"Dropped"}},
		{`select(.u == 8)`, []string{"Dropped"}},
		{`select(.u == 7)`, []string{in}},
		{`del(.b.a[0])`, []string{`{"z":1.50,"b":{"y":12345678901234567890,"a":[2]},"u":7}`}},
		{`.b.a += [3]`, []string{`{"z":1.50,"b":{"y":12345678901234567890,"a":[1,2,3]},"u":7}`}},
		{`.d = 1 | .c = 2`, []string{`{"z":1.50,"b":{"y":12345678901234567890,"a":[1, 2]},"u":7,"c":2,"d":1}`}},
		{`del(.z, .b)`, []string{`{"u":7}`}},
		{`.b.a[]`, []string{"1", "2"}},
		{`error("no")`, []string{"Hydrant.Jq: The expression failed on this record: error: no."}},
		{`.z.q`, []string{"Hydrant.Jq: The expression failed on this record: expected an object but got: number (1.50)."}},
		{`.u, error("late")`, []string{"Hydrant.Jq: The expression failed on this record: error: late."}},
		{`halt`, []string{"Hydrant.Jq: The expression failed on this record: it halted with <nil>."}},
		{`1e1000`, []string{"1.7976931348623157e+308"}},
		{`nan`, []string{"null"}},
		{`[nan]`, []string{"[null]"}},
		{`$ENV`, []string{`{}`}},
		{`"é\n"`, []string{`"é\n"`}},
	} {
		c1 := transformtest.Chain(t, must(t, c.expression))
		for range 2 {
			if got := transformtest.Apply(t, c1, in); !slices.Equal(got, c.want) {
				t.Errorf("%s\n got %q\nwant %q", c.expression, got, c.want)
			}
		}
	}
	// White space around the record stays, and so does the text of what is not touched.
	transformtest.Run(t, must(t, ".a = 1"), [][]string{
		{" {\"a\" : 1.0}\n", " {\"a\" : 1.0}\n"},
		{" {\"a\" : 2, \"b\" : \"\\u0041\"}\n", " {\"a\":1,\"b\" : \"\\u0041\"}\n"},
		{"{} {}", "Hydrant.Jq: The record is not one JSON value: a second JSON value begins at byte 3; `deaggregate: json` takes such records apart."},
		{"no", "Hydrant.Jq: The record is not one JSON value: found 'n' at byte 0 where a value is expected."},
	})
	transformtest.Run(t, must(t, ".[]"), [][]string{{" [ {\"b\": 1,\"a\":2}, 3 ]\n", `{"b":1,"a":2}`, "3"}})
	transformtest.Run(t, must(t, "map(select(.k > 1))"), [][]string{{`[{"k":1,"a":1},{"z":1,"k":2,"a":1},{"k":3}]`, `[{"z":1,"k":2,"a":1},{"k":3}]`}})
	transformtest.Run(t, must(t, ".a | .b"), [][]string{{`{"a":{"b":1}}`, "1"}, {`{"a":[]}`, "Hydrant.Jq: The expression failed on this record: expected an object but got: array ([])."}})
}

func TestFilter(t *testing.T) {
	for _, c := range []struct {
		expression string
		keep, drop []string
	}{
		{`.type != "heartbeat"`, []string{`{"type" : "click"}`, `{}`, "null\n", `{"type":1}`}, []string{`{"type":"heartbeat"}`, `{"type":"\u0068eartbeat"}`}},
		{`.n >= 10 and .n < 20.5`, []string{`{"n":10}`, `{"n":20.4}`, `{"n":1.5e1}`}, []string{`{"n":9.99}`, `{"n":20.5}`, `{"n":"15"}`, `{}`}},
		{`.a`, []string{`{"a":0}`, `{"a":[]}`, `{"a":""}`}, []string{`{"a":null}`, `{"a":false}`, `{}`}},
		{`(.a | not) or .b.c == null`, []string{`{}`, `{"a":1}`, `{"a":1,"b":{}}`}, []string{`{"a":1,"b":{"c":1}}`}},
		{`.a == .b`, []string{`{}`, `{"a":1,"b":1.0}`, `{"a":[1,{"x":2}],"b":[1.0,{"x":2}]}`}, []string{`{"a":1}`, `{"a":12345678901234567890,"b":12345678901234567891}`}},
		{`.url | test("^https:")`, []string{`{"url":"https://x"}`}, []string{`{"url":"http://x"}`}},
		{`.tags | index("x")`, []string{`{"tags":["x"]}`}, []string{`{"tags":[]}`}},
		{`empty`, nil, []string{`{}`}},
		{`.a[]`, []string{`{"a":[false,1]}`}, []string{`{"a":[false]}`, `{"a":[]}`}},
		{`.n > -5`, []string{`{"n":-4}`, `{"n":"x"}`}, []string{`{"n":-5}`, `{"n":null}`}},
	} {
		p := transformtest.Chain(t, mustFilter(t, c.expression))
		for _, in := range c.keep {
			if got := transformtest.Apply(t, p, in); !slices.Equal(got, []string{in}) {
				t.Errorf("%s on %s: %q, want it kept", c.expression, in, got)
			}
		}
		for _, in := range c.drop {
			if got := transformtest.Apply(t, p, in); !slices.Equal(got, []string{"Dropped"}) {
				t.Errorf("%s on %s: %q, want it dropped", c.expression, in, got)
			}
		}
	}
	transformtest.Run(t, mustFilter(t, `.a.b == 1`), [][]string{
		{`{"a":"x"}`, `Hydrant.Filter: The expression failed on this record: expected an object but got: string ("x").`},
		{``, `Hydrant.Filter: The record is not one JSON value: it is empty.`},
	})
}

func TestExpressionsThatAreRefused(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", `missing query (try ".")`},
		{".a |", "the expression ends too early"},
		{".a ]", `unexpected token "]", at character 4`},
		{"nosuch", "function not defined: nosuch/0"},
		{"$x", "variable not defined: $x"},
		{`import "a" as a; .`, `cannot load module: "a"`},
		{"input", "input(s)/0 is not allowed"},
		{"_hydrant_bound", "the name _hydrant_bound is Hydrant's own"},
		{"1 as $_hydrant_y | .", "the name $_hydrant_y is Hydrant's own"},
		{"def _hydrant_index: .; .", "the name _hydrant_index is Hydrant's own"},
		{"." + strings.Repeat(" ", MaxExpression), "the expression has 32769 bytes, at most 32768 are taken"},
	} {
		for _, err := range []error{func() error { _, err := New(Options{Expression: c.in}); return err }(), func() error { _, err := NewFilter(Options{Expression: c.in}); return err }()} {
			if err == nil || err.Error() != c.want {
				t.Errorf("%.40q: %v\nwant %s", c.in, err, c.want)
			}
		}
	}
}

// Whatever an expression does, it ends, and the next record is processed.
func TestBounds(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	steps, created, deep := errSteps.Error(), errCreated.Error(), errDeep.Error()
	large := errLarge.Error()
	for _, c := range []struct{ expression, in, want string }{
		{`def f: f; f`, "1", steps},
		{`def f: . + 1 | f; f`, "1", steps},
		{`[range(1e9)]`, "1", steps},
		{`repeat(.) | empty`, "1", steps},
		{`last(range(.))`, "1000000000", steps},
		{`reduce range(64) as $i ("x"; . + .)`, "1", created},
		{`reduce range(64) as $i ([1]; . + .)`, "1", created},
		{`reduce range(64) as $i (1; [., .])`, "1", created},
		{`reduce range(64) as $i (1; {a: ., b: .}) | . == .`, "1", created},
		{`reduce range(64) as $i ("\""; tojson)`, "1", created},
		{`reduce range(64) as $i ("x"; "\(.)\(.)")`, "1", created},
		{`reduce range(64) as $i ("x"; @json "\(.)\(.)")`, "1", created},
		{`reduce range(64) as $i ("'"; @sh)`, "1", created},
		{`reduce range(64) as $i ("x"; gsub("x"; "xx"))`, "1", steps},
		{`reduce range(64) as $i ({a: "x"}; .a += .a)`, "1", created},
		{`reduce range(64) as $i ({a: [1]}; .a |= . + .)`, "1", created},
		{`reduce range(64) as $i (10; . * .)`, "1", "a product would have more than 65536 bits"},
		{`[range(1000) | "x" * 100000]`, "1", created},
		{`"x" * .`, "1000000000", created},
		{`. * "xyz"`, "1000000000", created},
		{`.s *= .n`, `{"s":"x","n":1000000000}`, created},
		{`reduce range(20000) as $i (1; [.])`, "1", created},
		{`setpath([range(20000) | "a"]; 1)`, "{}", deep},
		{`try (reduce range(64) as $i ("x"; . + .)) catch 1`, "1", created},
		{`[(reduce range(64) as $i ("x"; . + .))?]`, "1", created},
		{`.[100000000] = 1`, "[]", "an index is above 1048576"},
		{`.[.n] = 1`, `{"n":100000000}`, ""},
		{`.n as $n | .a[$n] = 1`, `{"n":100000000}`, "an index is above 1048576"},
		{`setpath(["a", 100000000]; 1)`, "{}", "an index is above 1048576"},
		{`transpose`, "[[" + strings.Repeat("1,", 2000) + "1]" + strings.Repeat(",[]", 2000) + "]", "transpose would make more than 1048576 values"},
		{`gsub("";"x")`, `"` + strings.Repeat("x", maxText+1) + `"`, "a text of more than 262144 bytes is too long to look for every match in it"},
		{`[., ., ., ., ., ., ., ., ., ., ., ., ., ., ., ., .]`, `"` + strings.Repeat("x", 1_000_000) + `"`, large},
		{`range(20000)`, "1", "it has more than 10000 results"},
	} {
		p := transformtest.Chain(t, must(t, c.expression))
		began := time.Now()
		got := transformtest.Apply(t, p, c.in)
		if len(got) != 1 || !strings.HasPrefix(got[0], "Hydrant.Jq: ") || !strings.Contains(got[0], c.want) {
			t.Errorf("%s: %.300q, want %q", c.expression, got, c.want)
		}
		if took := time.Since(began); took > 2*maxTime {
			t.Errorf("%s took %s", c.expression, took)
		}
	}
	// At the bounds themselves it works.
	for _, c := range []struct{ expression, in, want string }{
		{`.[1048576] = 1 | length`, "[]", "1048577"},
		{`"x" * 1000000 | length`, "1", "1000000"},
		{`[range(10000)] | length`, "1", "10000"},
		{`[range(10000)][]`, "1", ""},
		{`setpath([range(9000) | "a"]; 1) | tojson | length`, "{}", "54001"},
		{`2 * 3, 2.5 * 2, (9007199254740993 * 3), ("ab" * 2), ({"a":{"b":1}} * {"a":{"c":2}})`, "1", ""},
	} {
		got := transformtest.Apply(t, transformtest.Chain(t, must(t, c.expression)), c.in)
		if c.want != "" && !slices.Equal(got, []string{c.want}) || len(got) == 1 && strings.HasPrefix(got[0], "Hydrant.") {
			t.Errorf("%s: %.300q, want %s", c.expression, got, c.want)
		}
	}
}

func TestMessagesAreBounded(t *testing.T) {
	for n, want := range map[int]int{990: 998, 993: 1001, 994: 1004, 100_000: 1004} { // "error: ", a full stop, and perhaps "..."
		got := transformtest.Apply(t, transformtest.Chain(t, must(t, `error(.)`)), `"`+strings.Repeat("x", n)+`"`)
		if message := strings.TrimPrefix(got[0], "Hydrant.Jq: The expression failed on this record: "); len(message) != want {
			t.Errorf("%d bytes give a message of %d, want %d", n, len(message), want)
		}
	}
}

func TestTheStepBudgetStartsAnewForEachRecord(t *testing.T) {
	p := transformtest.Chain(t, must(t, `last(range(40000))`))
	for range 20 {
		if got := transformtest.Apply(t, p, "1"); got[0] != "39999" {
			t.Fatal(got)
		}
	}
}

// expressions whose fast form must agree with gojq.
var fastEdits = []string{
	".", ".a", ".a.b", `."a"`, `.a | .b`, `select(.a)`, `select(.a == 1)`, `select(.a.b == "x" and (.b | not)) | .a`, `del(.a)`, `del(.a, .b)`, `del(.a.b)`,
	`del(.a.b, .c)`, `.a = 1`, `.a = "x"`, `.a.b = null`, `.a = true | .b = false`, `.c = -3 | .a = 0`, `.a |= tostring`, `.a.b |= tostring`, `select(.a != .b) | .c = 1 | del(.a)`,
	`.z = 1 | .y = 2 | .x = 3`, `(.a = 1) | (del(.b))`,
}

var fastFilters = []string{
	`.a`, `.a == 1`, `.a != "x"`, `.a < .b`, `.a >= 1.5`, `.a <= -1`, `.a > null`, `.a == true`, `.a.b == "b"`, `.a and .b`, `.a or .b.c`, `.a | not`, `(.a == 1 | not) and (.b or .c)`,
	`. == 1`, `1 < 2`, `"a" == .a`, `.a == false`, `.a.b.c`,
}

// FuzzFastPaths compares the fast forms with gojq on any record.
func FuzzFastPaths(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"a":1}`, `{"a":1.0,"b":1}`, `{"a":"x","b":false}`, `{"a":{"b":"x"},"c":3}`, `{"b":{"c":1},"a":[1,2]}`, `null`, `1`, `"s"`, `[]`, `{"a":12345678901234567890}`, `{"a":9007199254740993}`,
		`{"a":-0}`, `{"a":1e400,"b":1e401}`, `{"a":null,"b":null}`, `{"a":{"b":{"c":true}}}`, `{"\u0061":2}`, `{"x":0,"a":true}`, ` {"a" : "\ud800"} `, `{"a":1e2}`, `{"a":100000000000000000}`, `{"a":-1}`,
	} {
		f.Add(s)
	}
	var edits []*JQ
	for _, e := range fastEdits {
		p := must(f, e)
		if p.e.fast == nil {
			f.Errorf("%s has no fast form", e)
		}
		edits = append(edits, p)
	}
	var filters []*Filter
	for _, e := range fastFilters {
		p := mustFilter(f, e)
		if p.e.fast == nil {
			f.Errorf("%s has no fast form", e)
		}
		filters = append(filters, p)
	}
	f.Fuzz(func(t *testing.T, in string) {
		var d transform.Document
		d.Reset([]byte(in))
		if _, err := d.Root(); err != nil {
			return
		}
		for i, p := range edits {
			d.Reset([]byte(in))
			root, _ := d.Root()
			verdict, ok := p.e.fast.edit(&d, root)
			if !ok {
				if got := d.Data(); string(got) != in {
					t.Fatalf("%s on %q gave up and left %q", fastEdits[i], in, got)
				}
				continue
			}
			got := string(d.Data())
			d.Reset([]byte(in))
			root, _ = d.Root()
			want, err := p.slow(&d, root)
			if err != nil || want != verdict || want == transform.Keep && got != string(d.Data()) && !(p.e.fast.hasPath && equalJSON(got, string(d.Data()))) {
				t.Fatalf("%s on %q: %v %q, gojq: %v %v %q", fastEdits[i], in, verdict, got, want, err, d.Data())
			}
		}
		for i, p := range filters {
			d.Reset([]byte(in))
			root, _ := d.Root()
			got, ok := p.e.fast.test(&d, root)
			if !ok {
				continue
			}
			want, err := p.slow(&d, root)
			if err != nil || got != want {
				t.Fatalf("%s on %q: %v, gojq: %v %v", fastFilters[i], in, got, want, err)
			}
		}
	})
}

// FuzzExpression runs any expression on any record: it ends without a panic, and its results are those that gojq gives
// without the bounds.
func FuzzExpression(f *testing.F) {
	for _, s := range []string{
		".", ".a.b", ".a += 1", ".a *= 2", `.a * .b`, `{a, "b": .c, (.d): 1, $__loc__}`, `[.[] | .a?]`, `"x\(.a)y"`, `@base64 "a\(.)"`, `def f(x): x * 2; f(.a)`, `reduce .[] as [$a, {b: $c}] (0; . + $a)`,
		`foreach .[] as $x (0; . + $x; [., $x])`, `if .a then 1 elif .b then 2 else 3 end`, `try error("x") catch .`, `label $f | 1, break $f`, `.[1:2] = [3]`, `.["a"]`, `-(.a)`, `..`, `.a // "x"`, `limit(3; repeat(1))`,
		`to_entries | map(.value |= tostring) | from_entries`, `.a |= (. + 1 | . * 3)`, `setpath(["a"]; 1)`, `[[1,2],[3]] | transpose`, `"abc" | gsub("b"; "x")`, `. as {a: $x} ?// [$x] | $x`, `.[] as $x | [$x]`, `del(.. | .a?)`,
	} {
		f.Add(s, `{"a":1,"b":[1,2,{"c":"x"}],"d":"e"}`)
		f.Add(s, `[1,"a",[2],{"a":null}]`)
	}
	f.Fuzz(func(t *testing.T, text, in string) {
		if len(text) > 200 || strings.Contains(text, "now") || strings.Contains(text, "local") || strings.Contains(text, "error") || strings.Contains(text, "catch") || strings.Contains(text, "builtins") || strings.Contains(text, "debug") || strings.Contains(text, "stderr") {
			return
		}
		p, err := New(Options{Expression: text})
		if err != nil {
			return
		}
		var d transform.Document
		d.Reset([]byte(in))
		if _, err := d.Root(); err != nil {
			return
		}
		q, err := gojq.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, data := range transformtest.Apply(t, transformtest.Chain(t, p), in) {
			if strings.HasPrefix(data, "Hydrant.") {
				return
			}
			if data == "Dropped" {
				continue
			}
			var v any
			dec := json.NewDecoder(strings.NewReader(data))
			dec.UseNumber()
			if err := dec.Decode(&v); err != nil {
				t.Fatalf("%q on %q gives %q: %v", text, in, data, err)
			}
			b, _ := gojq.Marshal(v)
			got = append(got, string(b))
		}
		var v any
		dec := json.NewDecoder(strings.NewReader(in))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			t.Fatal(err)
		}
		code, err := gojq.Compile(q)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		b := &budget{}
		b.reset()
		b.steps = -maxSteps
		for it := code.RunWithContext(b, v); ; {
			x, ok := it.Next()
			if !ok {
				break
			}
			if err, failed := x.(error); failed {
				t.Fatalf("%q on %q: gojq fails with %v, with bounds it gives %q", text, in, err, got)
			}
			text, _ := gojq.Marshal(x)
			var back any
			dec := json.NewDecoder(bytes.NewReader(text))
			dec.UseNumber()
			if err := dec.Decode(&back); err != nil {
				t.Fatal(err)
			}
			text, _ = gojq.Marshal(back)
			want = append(want, string(text))
		}
		same := len(got) == len(want)
		for i := 0; same && i < len(got); i++ {
			if got[i] != want[i] {
				same = equalJSON(got[i], want[i])
			}
		}
		if !same {
			t.Fatalf("%q on %q: %q, gojq without bounds: %q", text, in, got, want)
		}
	})
}

// equalJSON compares values: a number that is equal keeps the text that it came with.
func equalJSON(a, b string) bool {
	var x, y any
	for s, v := range map[string]*any{a: &x, b: &y} {
		dec := json.NewDecoder(strings.NewReader(s))
		dec.UseNumber()
		if dec.Decode(v) != nil {
			return false
		}
	}
	return gojq.Compare(x, y) == 0
}

func TestConcurrently(t *testing.T) {
	p := transformtest.Chain(t, must(t, `.n as $n | .r = (reduce range($n) as $i (0; . + $i))`))
	done := make(chan string)
	for g := range 4 {
		go func() {
			for i := range 100 {
				n := g*100 + i
				want := fmt.Sprintf(`{"n":%d,"r":%d}`, n, n*(n-1)/2)
				if got := transformtest.Apply(t, p, fmt.Sprintf(`{"n":%d}`, n)); got[0] != want {
					done <- fmt.Sprintf("got %q, want %s", got, want)
					return
				}
			}
			done <- ""
		}()
	}
	for range 4 {
		if failure := <-done; failure != "" {
			t.Error(failure)
		}
	}
}
