package set

import (
	"testing"

	"hydrant/transform/transformtest"
)

func TestSet(t *testing.T) {
	p, err := New(Options{Pairs: []Pair{{"source", "web"}, {"n", "5"}, {"s", `"5"`}, {"o.p", `{"q": [1]}`}, {"t", "true story"}}})
	if err != nil {
		t.Fatal(err)
	}
	transformtest.Run(t, p, [][]string{
		{`{}`, `{"source":"web","n":5,"s":"5","o":{"p":{"q": [1]}},"t":"true story"}`},
		{`{"s" :0, "source" : "app","z":1}`, `{"s":"5","source":"web","z":1,"n":5,"o":{"p":{"q": [1]}},"t":"true story"}`},
		{`{ "source":"web","n":5,"s":"5","o":{"p":{"q": [1]}},"t" :"true story"}`, `{ "source":"web","n":5,"s":"5","o":{"p":{"q": [1]}},"t" :"true story"}`},
		{`{"o":7}`, "Hydrant.Set: o.p cannot be set: o is a number."},
		{`7`, "Hydrant.Set: The record is a number, a JSON object is needed."},
	})
	for _, bad := range [][]Pair{nil, {{"a[]", "b"}}, {{"", "a"}}, {{"a", "1"}, {"a.b", "2"}}, {{"a.b", "1"}, {"a", "2"}}} {
		if _, err := New(Options{Pairs: bad}); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}
