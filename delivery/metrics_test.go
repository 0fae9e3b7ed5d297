package delivery

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"hydrant/sinks"
)

// gather reads all metrics: name{label="value",...} without the stream, for one stream.
func gather(t testing.TB, m *Manager, stream string) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	for _, c := range m.Collectors() {
		if err := r.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, metric := range f.Metric {
			var labels []string
			ours := false
			for _, l := range metric.Label {
				if l.GetName() == "stream" {
					ours = l.GetValue() == stream
				} else {
					labels = append(labels, l.GetName()+"="+l.GetValue())
				}
			}
			if !ours {
				continue
			}
			slices.Sort(labels)
			name := strings.TrimPrefix(f.GetName(), "hydrant_")
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			out[name] = value(metric)
		}
	}
	return out
}

func value(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	default:
		return float64(m.Histogram.GetSampleCount())
	}
}

// cuts is the number of manifests that were cut.
func cuts(w *world, stream string) (n int) {
	w.t.Helper()
	for name, v := range gather(w.t, w.m, stream) {
		if strings.HasPrefix(name, "batches_cut_total") {
			n += int(v)
		}
	}
	return n
}

// always makes every attempt fail.
func always(err error) func(sinks.Object, int) *fault {
	return func(sinks.Object, int) *fault { return &fault{err: err} }
}

func TestMetrics(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Size: 100, Interval: time.Minute}}, func(t *testing.T, w *world) {
		start := gather(t, w.m, "s")
		for name, v := range start {
			if v != 0 {
				t.Errorf("%s starts at %v", name, v)
			}
		}
		for _, name := range []string{
			"delivered_records_total", "delivered_bytes_total", "dropped_records_total", "unaccounted_records",
			"data_freshness_seconds", "backlog_records", "backlog_bytes", "active_partitions", "outstanding_batches",
			"destination_failing{sink=s3}", "object_bytes", "delivery_seconds{sink=s3}", "objects_replaced_total",
			"delivery_attempts_total{outcome=stored,sink=s3}", "delivery_attempts_total{outcome=unknown,sink=s3}",
			"delivery_attempts_total{outcome=damaged,sink=s3}", "batches_cut_total{reason=size}", "batches_cut_total{reason=interval}",
			"delivery_alarms_total{kind=destination}",
		} {
			if _, ok := start[name]; !ok {
				t.Errorf("%s is not there from the start", name)
			}
		}
		w.shop().set(always(refusal(sinks.RefusedDestination, "AccessDenied")))
		w.put("s", ten(0, 15)...)
		w.put("s", "bad")
		time.Sleep(61 * time.Second)
		want := func(want map[string]float64) {
			t.Helper()
			synctest.Wait()
			got := gather(t, w.m, "s")
			for name, v := range want {
				if got[name] != v {
					t.Errorf("%s is %v, want %v", name, got[name], v)
				}
			}
		}
		want(map[string]float64{
			"delivered_records_total": 0, "backlog_records": 16, "backlog_bytes": 110 + 55 + float64(len(w.errorLine())), "outstanding_batches": 2,
			"data_freshness_seconds": 61, "destination_failing{sink=s3}": 1, "object_bytes": 3, "batches_cut_total{reason=size}": 1,
			"batches_cut_total{reason=interval}": 1, "failed_records_total{code=DataFormatConversion.MalformedData,stage=format-conversion-failed}": 1,
			"unaccounted_records": 0, "active_partitions": 0,
		})
		w.shop().set(nil)
		time.Sleep(5 * time.Minute)
		want(map[string]float64{
			"delivered_records_total": 15, "delivered_bytes_total": 165, "backlog_records": 0, "backlog_bytes": 0, "outstanding_batches": 0,
			"data_freshness_seconds": 0, "destination_failing{sink=s3}": 0, "delivery_attempts_total{outcome=stored,sink=s3}": 3,
			"delivery_seconds{sink=s3}": 3, "unaccounted_records": 0,
		})
		// Counters of records outlive the process.
		w.restart()
		want(map[string]float64{"delivered_records_total": 15, "backlog_records": 0, "unaccounted_records": 0})
		w.apply(nil)
		time.Sleep(time.Second)
		if got := gather(t, w.m, "s"); len(got) != 0 {
			t.Errorf("the stream is gone and leaves %v", got)
		}
	})
}

// errorLine is the only error object's body, wherever it is.
func (w *world) errorLine() string {
	for _, m := range w.store.Outstanding() {
		for i, o := range m.Objects {
			if o.Role == 1 {
				r, err := w.store.OpenObject(m, i)
				if err != nil {
					w.t.Fatal(err)
				}
				defer r.Close()
				b := make([]byte, o.Size)
				if _, err := r.ReadAt(b, 0); err != nil {
					w.t.Fatal(err)
				}
				return string(b)
			}
		}
	}
	w.t.Fatal("no error object")
	return ""
}
