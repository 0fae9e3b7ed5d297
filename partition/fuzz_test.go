package partition

import (
	"bytes"
	"math/big"
	"strings"
	"testing"

	"hydrant/record"
	"hydrant/transform"
	"hydrant/transform/jq"
)

// paths are looked for together, so that they meet in one tree.
var paths = []string{".a", ".a.b", ".a.b.c", ".b", ".c", `."a b"`, `."\u00e9".x`, ".d.e"}

// full is the answer of the full parse: what each path gives, or that the record is none.
func full(t *testing.T, queries []*jq.Query, data []byte) (values []string, valid, ok bool) {
	t.Helper()
	var d transform.Document
	d.Reset(data)
	root, err := d.Root()
	if err != nil {
		return nil, false, false
	}
	record := d.Value(root)
	for _, q := range queries {
		v, err := q.Value(record, nil)
		if err != nil {
			return nil, true, false
		}
		text, problem := valueOf(v)
		values = append(values, text+"|"+problem)
	}
	return values, true, true
}

func viewed(s *scanner) (values []string) {
	for _, v := range s.views {
		text, problem := s.value(v)
		values = append(values, text+"|"+problem)
	}
	return values
}

// FuzzScan holds the two quick ways against the full parse. What scan takes, the full parse takes, with the same values;
// skim has the same values for what the full parse takes.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		`{"a":{"b":{"c":1}},"b":"x","c":null,"a b":true,"é":{"x":"\u00e9"},"d":{"e":[1,{"a":2}]}}`,
		`{"a":{"b":1},"a":2}`, `{"a":{"b":1,"b":2}}`, `{"\u0061":1,"a":2}`, `{"a":null}`, `{"a":[{"b":1}],"b":{"a":{"b":3}}}`, `{"x":{"a":1},"y":["a",{"b":2}],"a":{"c":{"d":"}"}}}`,
		` { "b" : "\"}" , "x" : "{[" , "c" : -0.5e+10 } `, `{"b":01}`, `{"b":1,}`, `{"b":"\ud800"}`, `{}`, `[]`, `null`, `"a"`, ``, `{"a":{}}`, `{"a":{"b":{}},"b":1}`, `{"d":{"e":1},"d":1}`,
		"{\"b\":\"\xff\"}", "{\"b\":\"\x01\"}", `{"b":1}x`, `{"b":tru}`, `{"b":nulll}`, `{"b":{"x":[}}`, `{"b":1 2}`, `{"b":1e400,"c":1e99999999999999999999}`,
		strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 70),
	} {
		f.Add([]byte(seed))
	}
	var queries []*jq.Query
	tree := &branch{}
	for i, p := range paths {
		q, err := jq.NewQuery(jq.Options{Expression: p})
		if err != nil {
			f.Fatal(err)
		}
		names, ok := q.Path()
		if !ok {
			f.Fatalf("%s is no path", p)
		}
		if slot := tree.add(names, i); slot != i {
			f.Fatalf("%s has slot %d", p, slot)
		}
		queries = append(queries, q)
	}
	s := scanner{tree: tree, views: make([]view, len(paths))}
	f.Fuzz(func(t *testing.T, data []byte) {
		values, valid, ok := full(t, queries, data)
		if s.scan(data) {
			if !ok {
				t.Fatalf("scan takes %q", data)
			}
			if got := viewed(&s); strings.Join(got, "\n") != strings.Join(values, "\n") {
				t.Fatalf("%q: scan %q, full %q", data, got, values)
			}
		}
		if s.skim(data) && valid {
			if !ok {
				t.Fatalf("skim takes %q", data)
			}
			if got := viewed(&s); strings.Join(got, "\n") != strings.Join(values, "\n") {
				t.Fatalf("%q: skim %q, full %q", data, got, values)
			}
		}
	})
}

// FuzzRoute: a whole scheme answers as one does that knows the full parse only, failures included.
func FuzzRoute(f *testing.F) {
	for _, seed := range []string{`{"a":"x","t":1700000000000}`, `{"a":1.0,"t":"2026-07-13T00:00:00Z"}`, `{"a":"..","t":{}}`, `{"a":"","t":1}`, `{"t":1,"a":"\u0000"}`, `{"a":"x","t":"no"}`, `{"a":[],"t":1`, `{"a":"x","t":1e300}`} {
		f.Add([]byte(seed))
	}
	o := Options{Prefix: template(f, "k=!{partitionKeyFromQuery:a}/!{timestamp:yyyy/MM/dd/HH}/"), Keys: map[string]string{"a": ".a"},
		EventTime: &EventTime{Field: "t", Formats: []string{"rfc3339", "unix_ms"}}}
	quick := scheme(f, o)
	slow := scheme(f, o)
	slow.plain = false
	o.Trusting = true
	trusting := scheme(f, o)
	f.Fuzz(func(t *testing.T, data []byte) {
		row := record.Row{Arrived: arrival.UnixMicro(), Data: data}
		want, wantFailure := slow.NewRouter(Mark{}).Route(row, nil)
		got, failure := quick.NewRouter(Mark{}).Route(row, nil)
		if got != want || (failure == nil) != (wantFailure == nil) || failure != nil && *failure != *wantFailure {
			t.Fatalf("%q: got %+v, %v, want %+v, %v", data, got, failure, want, wantFailure)
		}
		got, failure = trusting.NewRouter(Mark{}).Route(row, nil)
		if wantFailure != nil && strings.HasPrefix(wantFailure.Message, messageNotJSON) {
			return
		}
		if got != want || (failure == nil) != (wantFailure == nil) || failure != nil && *failure != *wantFailure {
			t.Fatalf("%q, trusting: got %+v, %v, want %+v, %v", data, got, failure, want, wantFailure)
		}
	})
}

// FuzzNumber: what is printed of a number has its value, and is what is printed of everything of its value.
func FuzzNumber(f *testing.F) {
	for _, n := range []string{"0", "-0", "-0.00e5", "1", "1.0", "1.50", "10e-1", "100", "1e39", "1e40", "0.1e-38", "-1.25E+3", "123456789012345678901234567890123456789012", "0.000001", "1e-400"} {
		f.Add(n, n)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		value := func(text string) *big.Rat {
			end, ok := numberEnd(append([]byte(text), make([]byte, pad)...), 0)
			if !ok || end != len(text) || len(text) > 200 {
				return nil
			}
			if i := strings.IndexAny(text, "eE"); i >= 0 && len(text)-i > 5 {
				return nil
			}
			r, _ := new(big.Rat).SetString(text)
			return r
		}
		x, y := value(a), value(b)
		if x == nil || y == nil {
			return
		}
		p, q := appendNumber(nil, []byte(a)), appendNumber(nil, []byte(b))
		if back := value(string(p)); back == nil || back.Cmp(x) != 0 {
			t.Errorf("%s is printed as %s", a, p)
		}
		if again := appendNumber(nil, p); !bytes.Equal(again, p) {
			t.Errorf("%s is printed as %s", p, again)
		}
		if bytes.Equal(p, q) != (x.Cmp(y) == 0) {
			t.Errorf("%s and %s are printed as %s and %s", a, b, p, q)
		}
	})
}
