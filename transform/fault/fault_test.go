package fault

import (
	"testing"

	"hydrant/record"
	"hydrant/transform"
)

func TestFault(t *testing.T) {
	chain, err := transform.New(transform.Options{Stages: []transform.Stage{{Name: "source", Processor: Fault{}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		meta []byte
		want string // of the failure; "": none
	}{
		{nil, ""},
		{record.AppendMeta(nil, &record.Meta{Topic: "t", Key: []byte("k"), Headers: []record.Header{{Key: "h"}}}), ""},
		{record.AppendMeta(nil, &record.Meta{Topic: "t", Key: []byte("k"), Headers: []record.Header{{Key: "h"}}, Fault: "Schema 7 is not known."}), "Hydrant.Source: Schema 7 is not known."},
	} {
		n := 0
		_, err := chain.Apply(record.Row{Seq: 1, Data: []byte("\x00raw"), Meta: c.meta}, func(r transform.Result) error {
			n++
			got := ""
			if r.Outcome == transform.Failed {
				got = r.Failure.Error()
			}
			if got != c.want || string(r.Row.Data) != "\x00raw" {
				t.Errorf("%x: %q of %q, want %q", c.meta, got, r.Row.Data, c.want)
			}
			return nil
		})
		if err != nil || n != 1 {
			t.Errorf("%d results, %v", n, err)
		}
	}
}
