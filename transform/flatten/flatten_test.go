package flatten

import (
	"strconv"
	"strings"
	"testing"

	"hydrant/transform/transformtest"
)

func TestFlatten(t *testing.T) {
	p, err := New(Options{Separator: "_"})
	if err != nil {
		t.Fatal(err)
	}
	nested := strings.Repeat(`{"a":`, 3000) + "1" + strings.Repeat("}", 3000)
	transformtest.Run(t, p, [][]string{
		{`{ "a" : 1 , "e":{}, "l":[{"x":1}]}`, `{ "a" : 1 , "e":{}, "l":[{"x":1}]}`},
		{`{"a":{"b":1.0,"c":{"d":"x"}},"z":{"\u0079":[1, 2]}}`, `{"a_b":1.0,"a_c_d":"x","z_y":[1, 2]}`},
		{`{"a":{"b":{"c":{}}}}`, `{"a_b_c":{}}`},
		{`{"a":{"b":1},"a_b":2}`, `Hydrant.Flatten: Two members come to the name "a_b".`},
		{`[{}]`, "Hydrant.Flatten: The record is an array, a JSON object is needed."},
		{nested, "Hydrant.Flatten: A member would have a name of more than 4096 bytes."},
		{`{"` + strings.Repeat("n", 4000) + `":{` + strings.Repeat(" ", 10) + members(5000) + `}}`, "Hydrant.Flatten: The names would have more than 16777216 bytes."},
	})
	if _, err := New(Options{}); err == nil {
		t.Error("an empty separator was taken")
	}
}

func members(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + strings.Repeat("m", i%7) + string(rune('0'+i%10)) + strconv.Itoa(i) + `x":1`)
	}
	return b.String()
}
