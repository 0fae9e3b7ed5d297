package directput

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"hydrant/record"
)

// counted is the value of the series of a metric whose label values are these, in the order of the labels'
// names; -1 where there is none.
func counted(t *testing.T, h *Handler, name string, labels ...string) float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(h.Collectors()...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if !slices.Equal(values, labels) {
				continue
			}
			if m.GetHistogram() != nil {
				return float64(m.GetHistogram().GetSampleCount())
			}
			return m.GetCounter().GetValue()
		}
	}
	return -1
}

func TestMetrics(t *testing.T) {
	s := newStore(t, "s", "quiet")
	h := newHandler(t, s)
	f := func(want float64, name string, labels ...string) {
		t.Helper()
		if got := counted(t, h, name, labels...); got != want {
			t.Errorf("%s%q: got %v, want %v", name, labels, got, want)
		}
	}
	// Labels begin at zero.
	for _, stream := range []string{"s", "quiet"} {
		f(0, "hydrant_incoming_records_total", stream)
		f(0, "hydrant_incoming_bytes_total", stream)
		f(0, "hydrant_throttled_records_total", stream)
		f(0, "hydrant_repeated_puts_total", stream)
		f(0, "hydrant_put_request_seconds", "PutRecord", stream)
	}
	f(0, "hydrant_put_refused_total", "PutRecordBatch", "memory")

	retry := []string{"amz-sdk-invocation-id", "x", "amz-sdk-request", "attempt=1"}
	post(t, h, "PutRecordBatch", batchOf("ab", "cde", ""), retry...)
	retry[3] = "attempt=2"
	post(t, h, "PutRecordBatch", batchOf("ab", "cde", ""), retry...)
	post(t, h, "PutRecord", `{"DeliveryStreamName":"s","Record":{"Data":"YQ==","X":1},"Y":2}`)
	f(4, "hydrant_incoming_records_total", "s")
	f(6, "hydrant_incoming_bytes_total", "s")
	f(1, "hydrant_repeated_puts_total", "s")
	f(2, "hydrant_put_request_seconds", "PutRecordBatch", "s")
	f(1, "hydrant_put_request_seconds", "PutRecord", "s")
	f(2, "hydrant_unknown_members_total", "PutRecord")

	s.refuse = &record.Refusal{Reason: "disk"}
	post(t, h, "PutRecordBatch", batchOf("ab", "cde", ""))
	f(3, "hydrant_throttled_records_total", "s")
	f(1, "hydrant_put_refused_total", "PutRecordBatch", "disk")
	s.refuse = nil
	s.before = func(context.Context) error { return &record.Refusal{Reason: "stopping"} }
	post(t, h, "PutRecord", `{"DeliveryStreamName":"made-up-0","Record":{"Data":""}}`)
	f(1, "hydrant_put_refused_total", "PutRecord", "stopping")
	s.before = nil

	// Names that clients make up are no labels.
	for _, name := range []string{"made-up-1", "made-up-2"} {
		post(t, h, "PutRecord", `{"DeliveryStreamName":"`+name+`","Record":{"Data":""}}`)
		post(t, h, name, "{}")
	}
	f(2, "hydrant_put_refused_total", "PutRecord", "not_found")
	f(2, "hydrant_put_refused_total", "unknown", "unknown_operation")
	reg := prometheus.NewRegistry()
	reg.MustRegister(h.Collectors()...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if strings.Contains(family.String(), "made-up") {
			t.Errorf("%s has a label that a client made up", family.GetName())
		}
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// What was counted for a stream that is gone is not shown for ever.
func TestMetricsOfAStreamThatIsGone(t *testing.T) {
	s := newStore(t, "stays", "goes")
	h := newHandler(t, s)
	for _, stream := range []string{"stays", "goes"} {
		if w := post(t, h, "PutRecord", `{"DeliveryStreamName":"`+stream+`","Record":{"Data":"YQ=="}}`); w.Code != 200 {
			t.Fatal(w.Body)
		}
		if got := counted(t, h, "hydrant_incoming_records_total", stream); got != 1 {
			t.Errorf("%s: %v records", stream, got)
		}
	}
	delete(s.streams, "goes")
	for stream, want := range map[string]float64{"stays": 1, "goes": -1} {
		for _, name := range []string{"hydrant_incoming_records_total", "hydrant_incoming_bytes_total", "hydrant_throttled_records_total", "hydrant_repeated_puts_total"} {
			if got := counted(t, h, name, stream); got != want && (want < 0 || name == "hydrant_incoming_records_total") {
				t.Errorf("%s of %s: %v, want %v", name, stream, got, want)
			}
		}
	}
	s.streams["goes"] = Description{Name: "goes"}
	if got := counted(t, h, "hydrant_incoming_records_total", "goes"); got != 0 {
		t.Errorf("created again: %v", got)
	}
}
