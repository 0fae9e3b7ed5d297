package delivery

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Rows of two faults that alternate make two objects, each in the order of its rows, or few where their lines are many bytes.
func TestFaultsThatAlternate(t *testing.T) {
	streams := map[string]spec{"s": {Words: true, Errors: "errors/!{firehose:error-output-type}/", Size: 1 << 30, Interval: time.Hour}}
	for _, c := range []struct{ rows, bytes, least, most int }{{400, 0, 2, 2}, {400, 10_000, 3, 12}} {
		t.Run(fmt.Sprint(c.bytes), func(t *testing.T) {
			inWorld(t, streams, func(t *testing.T, w *world) {
				want := map[string]int{}
				for i := range c.rows {
					row := fmt.Sprintf("%s-%06d-%s", []string{"bad", "fail"}[i%2], i, strings.Repeat("x", c.bytes))
					want[row] = 1
					w.put("s", row)
				}
				w.flush("s")
				_, failed := w.shop().rows()
				equal(t, "failed rows", failed, want)
				var keys int
				for _, kind := range []string{"format-conversion-failed", "processing-failed"} {
					for _, text := range w.shop().bodies("errors/" + kind + "/") {
						keys++
						var rows []string
						for line := range strings.Lines(text) {
							var l struct {
								Raw string `json:"rawData"`
							}
							if err := json.Unmarshal([]byte(line), &l); err != nil {
								t.Fatal(err)
							}
							raw, err := base64.StdEncoding.DecodeString(l.Raw)
							if err != nil {
								t.Fatal(err)
							}
							_, number, _ := strings.Cut(string(raw), "-")
							rows = append(rows, number)
						}
						if !slices.IsSorted(rows) {
							t.Errorf("an object of %s has its rows in the order %.40q", kind, rows)
						}
					}
				}
				if keys < c.least || keys > c.most || keys != len(w.shop().keys()) {
					t.Errorf("%d rows of two faults are in %d of %d objects, want %d to %d", c.rows, keys, len(w.shop().keys()), c.least, c.most)
				}
				w.balanced("s", int64(c.rows))
				if st := w.status("s"); st.Failed != int64(c.rows) {
					t.Errorf("status %+v", st)
				}
			})
		})
	}
}
