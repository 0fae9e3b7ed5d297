package sources

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestReading(t *testing.T) {
	names := []string{"a", "b"}
	m := NewReading(func() []string { return names })
	want := func(text string, metrics ...string) {
		t.Helper()
		if err := testutil.CollectAndCompare(m, strings.NewReader(text), metrics...); err != nil {
			t.Error(err)
		}
	}
	const lag = "# HELP hydrant_source_lag_seconds How far behind the newest record of the source reading is, in the lane that is the furthest behind.\n# TYPE hydrant_source_lag_seconds gauge\n"
	a, now := m.Stream("a"), time.Now()
	a.Behind("1", 3*time.Second, -1, now)
	a.Behind("2", 2*time.Second, -1, now)
	want(lag+"hydrant_source_lag_seconds{stream=\"a\"} 3\n", "hydrant_source_lag_seconds", "hydrant_source_lag_records")
	a.Left("1")
	want(lag+"hydrant_source_lag_seconds{stream=\"a\"} 2\n", "hydrant_source_lag_seconds")
	const records = "# HELP hydrant_source_lag_records Records of the source that were not read yet, of all lanes.\n# TYPE hydrant_source_lag_records gauge\n"
	b := m.Stream("b")
	b.Behind("1", 0, 5, now)
	b.Behind("2", 0, 6, now)
	want(records+"hydrant_source_lag_records{stream=\"b\"} 11\n", "hydrant_source_lag_records")
	a.Add(ReadRecords, 2)
	a.Add(ReadRecords, 3)
	const count = "# HELP hydrant_source_records_total Records that were fetched of the source, as producers sent them.\n# TYPE hydrant_source_records_total counter\n"
	want(count+"hydrant_source_records_total{stream=\"a\"} 5\nhydrant_source_records_total{stream=\"b\"} 0\n", "hydrant_source_records_total")
	names = []string{"b"}
	want(count+"hydrant_source_records_total{stream=\"b\"} 0\n", "hydrant_source_records_total")

	var none *StreamReading // of a reader without metrics
	none.Add(ReadGaps, 1)
	none.Behind("1", 0, 0, now)
	none.Left("1")
	none.Lanes(1, 0)
	none.Retention(time.Hour)
}

// A lane that cannot be read is further behind with every second.
func TestLagGrowsWhereNothingIsRead(t *testing.T) {
	m := NewReading(func() []string { return []string{"a"} })
	m.Stream("a").Behind("1", 0, -1, time.Now().Add(-time.Minute))
	if got := gaugeOf(t, m, "hydrant_source_lag_seconds"); got < 60 || got > 90 {
		t.Errorf("lag is %v s, a minute after the last read", got)
	}
}

func registry(t *testing.T, c prometheus.Collector) *prometheus.Registry {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	return r
}

func gaugeOf(t *testing.T, c prometheus.Collector, name string) float64 {
	t.Helper()
	families, err := registry(t, c).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no %s", name)
	return 0
}
