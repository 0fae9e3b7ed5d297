// Package transformtest runs processors in tests. A record flows in, its results flow out as text; nothing is kept.
package transformtest

import (
	"slices"
	"testing"

	"hydrant/record"
	"hydrant/transform"
)

// Run checks cases: a record and then its results, each the data of an Ok, "Dropped", or "code: message" of a failure. All
// go twice through one chain, since what is left of a record must not show in the next.
func Run(t *testing.T, p transform.Processor, cases [][]string) {
	t.Helper()
	c := Chain(t, p)
	for range 2 {
		for _, x := range cases {
			if got, want := Apply(t, c, x[0]), x[1:]; !slices.Equal(got, want) {
				t.Errorf("%.300q\n got %.500q\nwant %.500q", x[0], got, want)
			}
		}
	}
}

// Chain of these processors.
func Chain(t testing.TB, ps ...transform.Processor) *transform.Chain {
	t.Helper()
	var o transform.Options
	for _, p := range ps {
		o.Stages = append(o.Stages, transform.Stage{Name: "p", Processor: p})
	}
	c, err := transform.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Apply runs one record.
func Apply(t testing.TB, c *transform.Chain, in string) []string {
	t.Helper()
	out := []string{}
	_, err := c.Apply(record.Row{Seq: 1, Data: []byte(in)}, func(r transform.Result) error {
		switch r.Outcome {
		case transform.Ok:
			out = append(out, string(r.Row.Data))
		case transform.Dropped:
			out = append(out, "Dropped")
		default:
			out = append(out, r.Failure.Error())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
