package jq

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestQuery(t *testing.T) {
	record := map[string]any{"a": map[string]any{"b": json.Number("1.50")}, "s": "x"}
	f := func(expression, want string, path ...string) { // want: the value, or ! and the error
		t.Helper()
		q, err := NewQuery(Options{Expression: expression})
		if err != nil {
			t.Error(err)
			return
		}
		if names, ok := q.Path(); ok != (path != nil) || !slices.Equal(names, path) {
			t.Errorf("%s: path %q, %v, want %q", expression, names, ok, path)
		}
		v, err := q.Value(record, nil)
		got := fmt.Sprint(v)
		if err != nil {
			got = "!" + err.Error()
		}
		if got != want || q.String() != expression {
			t.Errorf("%s: got %s, want %s", q, got, want)
		}
	}
	f(".a.b", "1.50", "a", "b")
	f("((.a.b))", "1.50", "a", "b")
	f(`."s"`, "x", "s")
	f(".none.of", "<nil>", "none", "of")
	f(".s.of", `!expected an object but got: string ("x")`, "s", "of")
	f(".a?", "map[b:1.50]")
	f(".s | length", "1")
	f("empty", "!it has no result")
	f(".s, .s", "!it has more than one result")
	f(`.s, error("x")`, "!error: x")
	f("repeat(.)", "!it has more than one result")
	f("last(repeat(.))", "!it took more than 1000000 steps")
	for _, bad := range []string{".a |", "$x", strings.Repeat(" ", MaxExpression) + "."} {
		if _, err := NewQuery(Options{Expression: bad}); err == nil {
			t.Errorf("%.20q is taken", bad)
		}
	}
}
