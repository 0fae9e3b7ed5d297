package redact

import (
	"strings"
	"testing"

	"hydrant/transform/transformtest"
)

func TestRedact(t *testing.T) {
	for _, c := range []struct {
		with  string
		cases [][]string
	}{
		{SHA256, [][]string{
			{`{"email":"ann@example.com","x":1}`, `{"email":"71d4f55f72fa128dfb468a1a3901507c804b74316488744d769d7f4b16696476","x":1}`},
			{`{"email":"\u0061nn@example.com"}`, `{"email":"71d4f55f72fa128dfb468a1a3901507c804b74316488744d769d7f4b16696476"}`},
			{`{"email":42}`, `{"email":"73475cb40a568e8da8a045ced110137e159f890ac4da883b6b17dc651b3a8049"}`},
			{`{"email" : null}`, `{"email" : null}`},
			{`{"none" : 1}`, `{"none" : 1}`},
			{`"x"`, "Hydrant.Redact: The record is a string, a JSON object is needed."},
		}},
		{Mask, [][]string{
			{`{"email":"a","to":[{"name":"b"},{"name":{"c":1}},{"name":null}]}`, `{"email":"***","to":[{"name":"***"},{"name":"***"},{"name":null}]}`},
		}},
		{Remove, [][]string{
			{`{"email":null,"to":[{"name":"b","x":1}]}`, `{"to":[{"x":1}]}`},
		}},
	} {
		p, err := New(Options{Fields: []string{"email", "to[].name"}, With: c.with})
		if err != nil {
			t.Fatal(err)
		}
		transformtest.Run(t, p, c.cases)
	}
	for _, bad := range []Options{{Fields: []string{"a"}}, {With: Mask}, {Fields: []string{"."}, With: Mask}, {Fields: []string{"a"}, With: "md5"}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

// Hiding each of many elements costs the same for each.
func TestRedactMany(t *testing.T) {
	p, err := New(Options{Fields: []string{"a[]"}, With: Mask})
	if err != nil {
		t.Fatal(err)
	}
	const n = 200_000
	transformtest.Run(t, p, [][]string{{`{"a":[` + strings.Repeat("1,", n) + `1]}`, `{"a":[` + strings.Repeat(`"***",`, n) + `"***"]}`}})
}
