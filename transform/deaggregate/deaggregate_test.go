package deaggregate

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"hydrant/record"
	"hydrant/transform"
	"hydrant/transform/transformtest"
)

func must(t testing.TB, o Options) *Deaggregate {
	t.Helper()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func want(in string, each string, n int) []string {
	return append([]string{in}, slices.Repeat([]string{each}, n)...)
}

const tooMany = CodeLimit + ": The record holds more than 500 sub-records."

func TestJSON(t *testing.T) {
	transformtest.Run(t, must(t, Options{}), [][]string{
		{`{"a" : 1}`, `{"a" : 1}`},
		{" {\"a\":1}\n{}\r\n\t{\"b\":{\"c\":[]}}{\"d\":1}\n", `{"a":1}`, `{}`, `{"b":{"c":[]}}`, `{"d":1}`},
		{"", "Dropped"},
		{" \n", "Dropped"},
		want(strings.Repeat("{}", 500), "{}", 500),
		{strings.Repeat("{} ", 501), tooMany},
		{`[{}]`, "Hydrant.Deaggregate: The record is not JSON objects one after another: value 1 is an array."},
		{`{} 1`, "Hydrant.Deaggregate: The record is not JSON objects one after another: value 2 is a number."},
		{`{},{}`, "Hydrant.Deaggregate: The record is not JSON objects one after another: found ',' at byte 2 where a value is expected."},
		{`{}{`, "Hydrant.Deaggregate: The record is not JSON objects one after another: it ends at byte 3 where a member's name is expected."},
	})
}

func TestDelimited(t *testing.T) {
	transformtest.Run(t, must(t, Options{Delimiter: "IyMjIw=="}), [][]string{
		{"one", "one"},
		{"one####two#", "one", "two#"},
		{"####one########two####", "one", "two"},
		{"", "Dropped"},
		{"####", "Dropped"},
		want(strings.Repeat("x####", 500), "x", 500),
		want(strings.Repeat("x########", 500), "x", 500),
		{strings.Repeat("x####", 501), tooMany},
	})
	for _, bad := range []string{"####", "Cg", "Cg==\n ", "C"} {
		if _, err := New(Options{Delimiter: bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// The error output gets the whole record when it cannot be taken apart.
func TestFailureGivesBackTheWhole(t *testing.T) {
	in := strings.Repeat(`{"a":1}`, 501)
	_, err := transformtest.Chain(t, must(t, Options{})).Apply(record.Row{Data: []byte(in)}, func(r transform.Result) error {
		if r.Outcome != transform.Failed || string(r.Row.Data) != in {
			t.Errorf("%+v", r)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Objects are found as encoding/json's decoder finds them.
func FuzzDeaggregate(f *testing.F) {
	for _, s := range []string{`{"a":1}{"b":2}`, " {} {}\n", `{"a":[1,{"b":"}{"}]} {}`, "[]", "{", ""} {
		f.Add([]byte(s))
	}
	c := transformtest.Chain(f, must(f, Options{}))
	f.Fuzz(func(t *testing.T, in []byte) {
		got := transformtest.Apply(t, c, string(in))
		if len(got) == 1 && (got[0] == "Dropped" || !strings.HasPrefix(got[0], "{")) {
			return
		}
		dec := json.NewDecoder(bytes.NewReader(in))
		for i, g := range got {
			var raw json.RawMessage
			if err := dec.Decode(&raw); err != nil || string(raw) != g {
				t.Fatalf("%q: sub-record %d is %q, want %q (%v)", in, i, g, raw, err)
			}
		}
		if dec.More() {
			t.Fatalf("%q: %q, and there are more", in, got)
		}
	})
}
