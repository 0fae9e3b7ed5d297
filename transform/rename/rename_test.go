package rename

import (
	"testing"

	"hydrant/transform/transformtest"
)

func TestRename(t *testing.T) {
	p, err := New(Options{Pairs: []Pair{{"user.id", "user_id"}, {"a", "b"}, {"c", "x.y"}, {`"d.e"`, "d.e"}}})
	if err != nil {
		t.Fatal(err)
	}
	transformtest.Run(t, p, [][]string{
		{`{"z" : 1}`, `{"z" : 1}`},
		{`{"user":{"id":12345678901234567890,"n":1},"z":2}`, `{"user":{"n":1},"z":2,"user_id":12345678901234567890}`},
		{`{"a":1.0,"z":2}`, `{"b":1.0,"z":2}`},
		{`{"a":1,"b":2}`, "Hydrant.Rename: a cannot be renamed to b: the record has that too."},
		{`{"c":1,"x":{}}`, `{"x":{"y":1}}`},
		{`{"c":1,"x":null}`, `{"x":{"y":1}}`},
		{`{"c":1}`, `{"x":{"y":1}}`},
		{`{"c":1,"x":[]}`, "Hydrant.Rename: c cannot be renamed to x.y: x is an array."},
		{`{"d.e":1}`, `{"d":{"e":1}}`},
		{`[]`, "Hydrant.Rename: The record is an array, a JSON object is needed."},
	})
	for _, bad := range [][]Pair{nil, {{"a", "a"}}, {{"a", "a.b"}}, {{"a[]", "b"}}, {{"a", "b[]"}}, {{"", "a"}}, {{"a", ""}}} {
		if _, err := New(Options{Pairs: bad}); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	if _, err := New(Options{Pairs: []Pair{{"a.b", "a"}}}); err != nil {
		t.Error(err)
	}
}
