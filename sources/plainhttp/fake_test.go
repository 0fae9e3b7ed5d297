package plainhttp

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"hydrant/record"
	"hydrant/sources"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is an Appender and a BodyAdmitter in memory. It checks that batches are laid out as they should be, and
// spoils the buffers that it has adopted, so that somebody who uses them still is found out.
type store struct {
	t      *testing.T
	refuse error               // what Append answers, if anything
	admit  func(n int64) error // what AdmitBody answers

	mu       sync.Mutex
	records  []string
	admitted int64 // bytes that are not released
	peak     int64
	kept     [][]byte // adopted buffers, all spoiled
}

// spoiled fills buffers that were adopted.
const spoiled = 0xEE

func (s *store) Append(_ context.Context, stream string, c record.Call) (r record.Receipt, adopted bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stream == "read" {
		return r, false, &record.Sourced{Stream: stream, Source: "kafka"}
	}
	if stream != "s" {
		return r, false, &record.NotFound{Stream: stream, Inactive: stream == "leaving"}
	}
	if s.refuse != nil {
		return r, false, s.refuse
	}
	if n, err := record.Check(c.Batch.Encoded()); err != nil || n != c.Batch.Count() {
		s.t.Errorf("batch of %d records: %d, %v", c.Batch.Count(), n, err)
	}
	if c.Limiter != nil {
		n := c.Limiter.Take(c.Batch)
		if n == 0 {
			return r, false, &record.Refusal{Reason: "rate", Message: "Too fast."}
		}
		c.Batch.Keep(n)
	}
	r.First, r.Count = uint64(len(s.records)+1), c.Batch.Count()
	for data := range record.Records(c.Batch.Encoded()) {
		s.records = append(s.records, string(data))
	}
	if r.First%2 == 0 {
		return r, false, nil
	}
	buf := c.Batch.Buffer()
	buf = buf[:cap(buf)]
	for i := range buf {
		buf[i] = spoiled
	}
	s.kept = append(s.kept, buf)
	return r, true, nil
}

func (s *store) AdmitBody(remote string, n int64) (release func(), err error) {
	if _, err := netip.ParseAddrPort(remote); err != nil {
		s.t.Errorf("a body of %q: %v", remote, err)
	}
	if s.admit != nil {
		if err := s.admit(n); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admitted += n
	s.peak = max(s.peak, s.admitted)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.admitted -= n
	}, nil
}

// settled checks that everything that was admitted has been given back, and that nobody has written to what was
// adopted.
func (s *store) settled() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.admitted != 0 {
		s.t.Errorf("%d admitted bytes were not released", s.admitted)
	}
	for i, buf := range s.kept {
		if n := bytes.Count(buf, []byte{spoiled}); n != len(buf) {
			s.t.Errorf("adopted buffer %d was written to: %d of %d bytes", i, len(buf)-n, len(buf))
		}
	}
}

// taken returns the records that were stored since it was asked last.
func (s *store) taken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.records
	s.records = nil
	return out
}

func newHandler(t *testing.T, s *store, change ...func(*Options)) *Handler {
	t.Helper()
	o := Options{Appender: s, Admitter: s, Known: func(name string) bool { return name == "s" }, Metrics: sources.NewMetrics(func() []string { return []string{"s"} })}
	for _, f := range change {
		f(&o)
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if s != nil {
		t.Cleanup(s.settled)
	}
	return h
}

// post makes one request to stream s without a network.
func post(t *testing.T, h http.Handler, media, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/v1/streams/s/records", strings.NewReader(body))
	if media != "" {
		r.Header.Set("Content-Type", media)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return serve(t, h, r)
}

func serve(t *testing.T, h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if got := w.Header().Get("Content-Type"); got != mediaJSON {
		t.Errorf("Content-Type %q", got)
	}
	return w
}

// counted is the value of a counter, or the number of observations of a histogram; -1 where there is no such series.
func counted(t *testing.T, h *Handler, name string, labels map[string]string) float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(h.o.Metrics)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	series:
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if labels[l.GetName()] != l.GetValue() {
					continue series
				}
			}
			if m.GetHistogram() != nil {
				return float64(m.GetHistogram().GetSampleCount())
			}
			return m.GetCounter().GetValue()
		}
	}
	return -1
}

func gzipOf(t testing.TB, parts ...string) string {
	t.Helper()
	var b bytes.Buffer
	for _, p := range parts {
		z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := z.Write([]byte(p)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// zstdOf compresses each part into a frame that says its length, zstdStream into one that does not.
func zstdOf(t testing.TB, parts ...string) string {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for _, p := range parts {
		out = z.EncodeAll([]byte(p), out)
	}
	return string(out)
}

func zstdStream(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for half := range 2 {
		if _, err := z.Write([]byte(text[half*(len(text)/2) : (half+1)*(len(text)/2)+half*(len(text)%2)])); err != nil {
			t.Fatal(err)
		}
		if err := z.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
