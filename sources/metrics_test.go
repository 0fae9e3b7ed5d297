package sources

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"hydrant/record"
)

// TestMetrics: all ways of putting count in the same series, which begin at zero and end with their stream.
func TestMetrics(t *testing.T) {
	names := []string{"goes", "s"}
	m := NewMetrics(func() []string { return names })
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(m)
	expect := func(want string) {
		t.Helper()
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "hydrant_incoming_records_total", "hydrant_incoming_bytes_total",
			"hydrant_throttled_records_total", "hydrant_repeated_puts_total"); err != nil {
			t.Error(err)
		}
	}
	page := func(goes bool, records, bytes, throttled, repeated string) string {
		var b strings.Builder
		for _, f := range []struct{ name, help, value string }{
			{"hydrant_incoming_records_total", "Records that were put and acknowledged.", records},
			{"hydrant_incoming_bytes_total", "Bytes of Data that were put and acknowledged.", bytes},
			{"hydrant_throttled_records_total", "Records of puts that were refused and may be sent again.", throttled},
			{"hydrant_repeated_puts_total", "Puts that were retries of one that had been stored; nothing was stored again.", repeated},
		} {
			b.WriteString("# HELP " + f.name + " " + f.help + "\n# TYPE " + f.name + " counter\n")
			if goes {
				b.WriteString(f.name + `{stream="goes"} 0` + "\n")
			}
			b.WriteString(f.name + `{stream="s"} ` + f.value + "\n")
		}
		return b.String()
	}
	expect(page(true, "0", "0", "0", "0"))
	s := m.Stream("s")
	s.Accepted(PutRecordBatch, record.Receipt{Count: 3}, 30, 2, time.Millisecond)
	s.Accepted(PlainHTTP, record.Receipt{Count: 4}, 40, 0, time.Millisecond)
	s.Accepted(PlainHTTP, record.Receipt{Count: 4, Repeated: true}, 40, 1, time.Millisecond)
	s.Throttled(5)
	expect(page(true, "7", "70", "7", "1"))
	names = names[1:]
	expect(page(false, "7", "70", "7", "1"))
	m.Refused("", "x")
	m.Refused(PlainHTTP, "memory")
	if got := testutil.ToFloat64(m.refused.WithLabelValues("unknown", "x")) + testutil.ToFloat64(m.refused.WithLabelValues(PlainHTTP, "memory")); got != 2 {
		t.Errorf("refused %v", got)
	}
}

// TestMetricsOfNewStream: a stream that is made, and takes records, while the metrics are read keeps its counts.
func TestMetricsOfNewStream(t *testing.T) {
	var m *Metrics
	made := false
	m = NewMetrics(func() []string {
		if made {
			return []string{"new"}
		}
		made = true
		defer m.Stream("new").Accepted(PutRecord, record.Receipt{Count: 1}, 10, 0, time.Millisecond)
		return nil // as it was a moment ago
	})
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(m)
	for range 2 {
		if _, err := reg.Gather(); err != nil {
			t.Fatal(err)
		}
	}
	if got := testutil.ToFloat64(m.records.WithLabelValues("new")); got != 1 {
		t.Errorf("%v records, want 1", got)
	}
}
