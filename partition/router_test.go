package partition

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"hydrant/prefix"
	"hydrant/record"
)

func template(t testing.TB, text string) *prefix.Template {
	t.Helper()
	p, err := prefix.Parse(text, prefix.PartitionedPrefix)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func scheme(t testing.TB, o Options) *Scheme {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var arrival = time.Date(2026, 7, 13, 14, 5, 9, 0, time.UTC)

func row(data string) record.Row {
	return record.Row{Seq: 1, Arrived: arrival.UnixMicro(), Data: []byte(data)}
}

// query is a scheme of one key.
func query(t testing.TB, expression string, trusting bool) *Router {
	return scheme(t, Options{Prefix: template(t, "k=!{partitionKeyFromQuery:k}/"), Keys: map[string]string{"k": expression}, Trusting: trusting}).NewRouter(Mark{})
}

func TestKeysFromQuery(t *testing.T) {
	const extraction, objectKey = "DynamicPartitioning.MetadataExtractionFailed", "Hydrant.ObjectKey"
	f := func(expression, data, want string) { // want: the value as printed, or ! and code: message
		t.Helper()
		for _, trusting := range []bool{false, true} {
			got := ""
			placed, failure := query(t, expression, trusting).Route(row(data), nil)
			if failure != nil {
				got = "!" + failure.Error()
				if failure.Type != "metadata-extraction-failed" {
					t.Errorf("type %q", failure.Type)
				}
			} else {
				got = strings.TrimSuffix(strings.TrimPrefix(placed.Prefix, "k="), "/")
				if placed.Time != arrival.UnixMicro() || placed.Late {
					t.Errorf("placed %+v", placed)
				}
			}
			if got != want {
				t.Errorf("%s of %s (trusting %v):\n got %q\nwant %q", expression, data, trusting, got, want)
			}
		}
	}
	f(".k", `{"k":"acme"}`, "acme")
	f(".k", ` { "a" : [ 1 , { "k" : "no" } , "\"k\":" ] , "k" : "acme" } `, "acme")
	f(".a.b", `{"b":"no","a":{"c":1,"b":"yes"}}`, "yes")
	f("(.a | .b)", `{"a":{"b":"yes"}}`, "yes")
	f(`."a b"."c"`, `{"a b":{"c":"yes"}}`, "yes")
	f(".k", `{"\u006b":"acme"}`, "acme")
	f(".k", `{"k":"a\u0041\n\ud83d\ude00\/"}`, "aA%0A😀%2F")
	f(".k", `{"k":"\ud83d"}`, "\ufffd")
	// Scalars.
	f(".k", `{"k":5}`, "5")
	f(".k", `{"k":-0}`, "0")
	f(".k", `{"k":1.50}`, "1.5")
	f(".k", `{"k":1e3}`, "1000")
	f(".k", `{"k":12345678901234567890123}`, "12345678901234567890123")
	f(".k + 0", `{"k":1.50}`, "1.5")
	f(".k + 1", `{"k":1}`, "2")
	f(".k", `{"k":true}`, "true")
	f(".k", `{"k":false}`, "false")
	f(".k | not", `{"k":false}`, "true")
	f(".k | tostring", `{"k":{"a":1}}`, `{"a":1}`)
	f(`.ts[0:10] | split("-") | join("/")`, `{"ts":"2026-07-13T14:00:00Z"}`, "2026/07/13")
	f(`if .k then .k else "none" end`, `{}`, "none")
	f(".", `"acme"`, "acme")
	// What has no value.
	const empty = "!" + extraction + `: partitionKeys values must not be null or empty: key "k"`
	f(".k", `{"k":null}`, empty)
	f(".k", `{"k":""}`, empty)
	f(".k", `{}`, empty)
	f(".k", `{"K":1}`, empty)
	f(".k", `null`, empty)
	f(".a.b", `{"a":null}`, empty)
	f(".k // null", `{}`, empty)
	f("nan", `{}`, empty)
	f(".k", `{"k":{"a":1}}`, "!"+extraction+`: partitionKeys values must be strings, numbers or booleans: key "k" is an object`)
	f(".k", `{"k":[]}`, "!"+extraction+`: partitionKeys values must be strings, numbers or booleans: key "k" is an array`)
	f("[.k]", `{"k":1}`, "!"+extraction+`: partitionKeys values must be strings, numbers or booleans: key "k" is an array`)
	f(".k", `[1]`, "!"+extraction+`: The expression of key "k" failed on this record: expected an object but got: array ([1])`)
	f(".a.b", `{"a":"x"}`, "!"+extraction+`: The expression of key "k" failed on this record: expected an object but got: string ("x")`)
	f("empty", `{}`, "!"+extraction+`: The expression of key "k" failed on this record: it has no result`)
	f(".a[]", `{"a":[1,2]}`, "!"+extraction+`: The expression of key "k" failed on this record: it has more than one result`)
	f(`error("no")`, `{}`, "!"+extraction+`: The expression of key "k" failed on this record: error: no`)
	// What is no JSON, in front of the value.
	const notJSON = "!" + extraction + ": Non JSON record provided: "
	f(".k", ``, notJSON+"it is empty")
	f(".k", `hello`, notJSON+`found 'h' at byte 0 where a value is expected`)
	f(".k", `{"a":01,"k":1}`[:7], notJSON+`found '1' at byte 6 where a comma or a closing brace is expected`)
	f(".k", `{"k":"a`, notJSON+`it ends at byte 7 where the end of the string is expected`)
	f(".k", `{"a":"a",`, notJSON+`it ends at byte 9 where a member's name is expected`)
	// Lengths.
	long := strings.Repeat("x", 509)
	f(".k", `{"k":"`+long+`"}`, long)
	f(".k", `{"k":"`+long+`x"}`, "!"+objectKey+`: No object can lie under the prefix of this record, "k=`+long[:95]+`...": Length of evaluated prefix cannot be greater than 512 (at byte 0).`)
	f(".k", `{"k":"`+strings.Repeat("x", 1537)+`"}`, "!"+objectKey+`: The value of key "k" has 1537 bytes, and an evaluated prefix may have 512 characters: "`+long[:97]+`...".`)
}

// TestStrict: what is wrong behind the value, which a trusting scheme does not look at.
func TestStrict(t *testing.T) {
	for _, data := range []string{`{"k":"a","k":"b"}`, `{"k":"a","\u006b":"b"}`, `{"k":"a"`, `{"k":"a"} {"k":"b"}`, `{"k":"a","x":{"y":1,"y":2}}`, `{"k":"a","x":[01]}`, `{"k":"a","x":"` + "\xff" + `"}`,
		`{"k":"a",}`, `{"k":"a","x":[1,]}`, `{"k":"a","x":tru}`, `{"k":"a","x":"` + "\t" + `"}`, `{"k":"a","x":"\x"}`, `{"k":"a","x":]}`, "{\"k\":\"a\"}\x00",
		`{"k":"a","x":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`} {
		if _, failure := query(t, ".k", false).Route(row(data), nil); failure == nil || failure.Code != codeExtraction || !strings.HasPrefix(failure.Message, "Non JSON record provided: ") {
			t.Errorf("%.40q: got %v", data, failure)
		}
	}
	deep := `{"k":"a","x":` + strings.Repeat("[", 9_999) + strings.Repeat("]", 9_999) + `}`
	if _, failure := query(t, ".k", false).Route(row(deep), nil); failure != nil {
		t.Error(failure)
	}
}

func TestKeysFromHooks(t *testing.T) {
	r := scheme(t, Options{Prefix: template(t, "!{partitionKeyFromLambda:a}/!{partitionKeyFromQuery:a}/!{timestamp:HH}/"), Keys: map[string]string{"a": ".a"}, Hooks: true}).NewRouter(Mark{})
	placed, failure := r.Route(row(`{"a":"q"}`), map[string]string{"a": "../x", "other": "y"})
	if failure != nil || placed.Prefix != "%2E%2E/x/q/14/" {
		t.Errorf("got %+v, %v", placed, failure)
	}
	for _, keys := range []map[string]string{nil, {"b": "x"}, {"a": ""}} {
		_, failure = r.Route(row(`{"a":"q"}`), keys)
		if failure == nil || failure.Error() != `DynamicPartitioning.MetadataExtractionFailed: partitionKeys values must not be null or empty: key "a"` {
			t.Errorf("%v: got %v", keys, failure)
		}
	}
	// Keys of hooks alone do not need JSON.
	r = scheme(t, Options{Prefix: template(t, "!{partitionKeyFromLambda:a}/"), Hooks: true}).NewRouter(Mark{})
	if placed, failure := r.Route(row("\xff no JSON"), map[string]string{"a": "x"}); failure != nil || placed.Prefix != "x/" {
		t.Errorf("got %+v, %v", placed, failure)
	}
}

// TestKeysAreEqualWhenValuesAre: one hash for one partition however its row is written, in every router; another where
// values differ, also where the prefix does not show it.
func TestKeysAreEqualWhenValuesAre(t *testing.T) {
	s := scheme(t, Options{Prefix: template(t, "!{partitionKeyFromQuery:a}/!{partitionKeyFromQuery:b}/!{timestamp:yyyy}"), Keys: map[string]string{"a": ".a", "b": ".b"}})
	key := func(r *Router, data string) Key {
		t.Helper()
		placed, failure := r.Route(row(data), nil)
		if failure != nil {
			t.Fatal(failure)
		}
		return placed.Key
	}
	one, two := s.NewRouter(Mark{}), s.NewRouter(Mark{})
	want := key(one, `{"a":"x","b":"1"}`)
	for _, same := range []string{`{"b":1.0,"a":"\u0078"}`, `{"b":10e-1,"\u0061":"x"}`, `{"a":"x","b":"1","c":[]}`} {
		if got := key(two, same); got != want {
			t.Errorf("%s: %+v, want %+v", same, got, want)
		}
	}
	a, b := key(one, `{"a":"x/y","b":"z"}`), key(one, `{"a":"x","b":"y/z"}`)
	if a == b || a.Hash == b.Hash || a.Prefix != b.Prefix {
		t.Errorf("%+v and %+v", a, b)
	}
	// Manifests hold it.
	if got := fmt.Sprintf("%x", want.Hash); got != "6da7bc3e0b8b261660cb7385b9116080" {
		t.Errorf("hash %s", got)
	}
}

func TestCheck(t *testing.T) {
	s := scheme(t, Options{Prefix: template(t, "!{firehose:random-string}/!{partitionKeyFromQuery:a}/"), Keys: map[string]string{"a": ".a"}, Check: func(p string) error {
		if p == "00000000000/bad/" {
			return errors.New("it is bad")
		}
		return nil
	}})
	r := s.NewRouter(Mark{})
	if p, failure := r.Route(row(`{"a":"good"}`), nil); failure != nil || p.Prefix != "!{firehose:random-string}/good/" {
		t.Errorf("got %+v, %v", p, failure)
	}
	_, failure := r.Route(row(`{"a":"bad"}`), nil)
	if want := `Hydrant.ObjectKey: No object can lie under the prefix of this record, "!{firehose:random-string}/bad/": it is bad.`; failure == nil || failure.Error() != want {
		t.Errorf("got %v", failure)
	}
}

// TestCache: it is bounded, and what was forgotten is found anew and equal.
func TestCache(t *testing.T) {
	s := scheme(t, Options{Prefix: template(t, "!{partitionKeyFromQuery:a}/!{timestamp:HH:mm:ss}"), Keys: map[string]string{"a": ".a"}, CacheBytes: 20_000})
	r := s.NewRouter(Mark{})
	rng := rand.New(rand.NewPCG(1, 1))
	keys := map[string]Key{}
	for range 20_000 {
		n, second := rng.IntN(50), rng.IntN(10)
		row := record.Row{Arrived: arrival.Add(time.Duration(second) * time.Second).UnixMicro(), Data: fmt.Appendf(nil, `{"a":%d}`, n)}
		p, failure := r.Route(row, nil)
		if failure != nil {
			t.Fatal(failure)
		}
		if want := fmt.Sprintf("%d/14:05:%02d", n, 9+second); p.Prefix != want {
			t.Fatalf("got %q, want %q", p.Prefix, want)
		}
		if was, ok := keys[p.Prefix]; ok && was != p.Key {
			t.Fatalf("%+v, earlier %+v", p.Key, was)
		}
		keys[p.Prefix] = p.Key
		if r.size > 10_000 {
			t.Fatalf("%d bytes in one generation", r.size)
		}
	}
	if len(keys) != 500 {
		t.Errorf("%d keys", len(keys))
	}
	known := row(`{"a":"x"}`)
	allocated := testing.AllocsPerRun(100, func() {
		if _, failure := r.Route(known, nil); failure != nil {
			t.Fatal(failure)
		}
	})
	if allocated > 0 {
		t.Errorf("%v allocations for a known partition", allocated)
	}
}

func TestFaults(t *testing.T) {
	f := func(o Options, want ...string) {
		t.Helper()
		_, err := New(o)
		var got []string
		faults, _ := errors.AsType[Faults](err)
		for _, x := range faults {
			got = append(got, x.Field+" "+x.Value+" "+x.Problem)
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if len(want) > 0 && !strings.Contains(err.Error(), strings.SplitN(want[0], " ", 2)[0]) {
			t.Errorf("%v", err)
		}
	}
	const q, l = "!{partitionKeyFromQuery:", "!{partitionKeyFromLambda:"
	f(Options{Prefix: template(t, "a/")}, "  says nothing")
	f(Options{Prefix: template(t, q+"a}"), Keys: map[string]string{"A": ".a"}}, "prefix "+q+"a} is a key that partition.keys does not have", "keys.A .a is not in the prefix")
	f(Options{Prefix: template(t, l+"a}"), Keys: map[string]string{"a": ".a"}}, "prefix "+l+"a} is a key that nothing gives", "keys.a .a is not in the prefix")
	f(Options{Prefix: template(t, q+"a}"), Keys: map[string]string{"a": ".a |"}}, "keys.a .a | is not a jq expression: the expression ends too early")
	f(Options{Prefix: template(t, q+"a}"), Keys: map[string]string{"a": "$x"}}, "keys.a $x is not a jq expression: variable not defined: $x")
	f(Options{Prefix: template(t, "a/"), EventTime: &EventTime{Field: "a[]"}}, "event_time.field a[] can name several values", "event_time.formats  is empty")
	f(Options{Prefix: template(t, "a/"), EventTime: &EventTime{Field: "", Formats: []string{"rfc3339", "unix", "unix_ms", "unix_s", "HH", "rfc3339"}, AllowedLateness: -1}},
		`event_time.field  is not a path: path "": a name is expected; names of other characters than letters, digits, _ and - stand in double quotes`,
		"event_time.allowed_lateness -1ns is negative",
		`event_time.formats[1] unix is no format of times: pattern "unix", byte 2: 'i' is not a pattern letter; text stands in single quotes`,
		"event_time.formats[3] unix_s is never reached, since unix_ms takes every number",
		`event_time.formats[4] HH is no format of times: pattern "HH": it has no year (y)`,
		"event_time.formats[5] rfc3339 is there twice")
	f(Options{Prefix: template(t, "a/"), EventTime: &EventTime{Field: "a.b", Formats: []string{"unix_s"}}})
	f(Options{Prefix: template(t, l+"a}"), Hooks: true})
}
