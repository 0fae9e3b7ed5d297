package remove

import (
	"strings"
	"testing"

	"hydrant/transform/transformtest"
)

func TestRemove(t *testing.T) {
	p, err := New(Options{Paths: []string{"debug", "headers.cookie", "items[].secret", "tags[]"}})
	if err != nil {
		t.Fatal(err)
	}
	transformtest.Run(t, p, [][]string{
		{`{ "a" : 1 }`, `{ "a" : 1 }`},
		{`{"debug":{"x":1},"a":1}`, `{"a":1}`},
		{`{"headers":{"cookie":"c","host":"h"}}`, `{"headers":{"host":"h"}}`},
		{`{"headers":"cookie"}`, `{"headers":"cookie"}`},
		{`{"items":[{"secret":1,"b":2},3,{"secret":{}}]}`, `{"items":[{"b":2},3,{}]}`},
		{`{"tags":[1,[2],3]}`, `{"tags":[]}`},
		{`null`, "Hydrant.Remove: The record is null, a JSON object is needed."},
		{`{"tags":[` + strings.Repeat("1,", 200_000) + `1]}`, `{"tags":[]}`},
	})
	for _, bad := range [][]string{nil, {""}, {"a b"}} {
		if _, err := New(Options{Paths: bad}); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}
