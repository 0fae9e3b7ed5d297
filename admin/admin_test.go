package admin

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// fake is a stream "s" whose Flush ends with ctx when stuck, and two that refuse.
type fake struct {
	stuck bool
	calls []string
}

func (f *fake) List() []Status {
	s, _ := f.Get("s")
	return []Status{s}
}

func (f *fake) Get(name string) (Status, bool) {
	if name != "s" {
		return Status{}, false
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return Status{Name: "s", State: "active", Version: 3, Created: at, Accepted: 10, Delivered: 7, Failed: 1, BacklogRecords: 2, BacklogBytes: 2048, Oldest: &at,
		Batches: []Batch{}, Deliveries: []Event{{Time: at, Key: "in/a", Records: 7, Bytes: 700, Reason: "size"}},
		Failures: []Event{{Time: at, Key: "in/<b>", Error: "no <script>alert(1)</script>"}}}, true
}

func (f *fake) do(verb, name string) error {
	f.calls = append(f.calls, verb+" "+name)
	switch name {
	case "s":
		return nil
	case "broken":
		return errors.New("disk on fire")
	case "paused":
		if verb == "flush" {
			return ErrPaused
		}
		return nil
	}
	return ErrNotFound
}

func (f *fake) Flush(ctx context.Context, name string) (Remaining, error) {
	if err := f.do("flush", name); err != nil {
		return Remaining{}, err
	}
	if f.stuck {
		<-ctx.Done()
		return Remaining{Records: 2, Bytes: 2048, Error: "connection refused"}, ctx.Err()
	}
	return Remaining{}, nil
}

func (f *fake) Pause(name string) error  { return f.do("pause", name) }
func (f *fake) Resume(name string) error { return f.do("resume", name) }

func (f *fake) Batches(name string) ([]Waiting, error) {
	if err := f.do("batches", name); err != nil {
		return nil, err
	}
	return []Waiting{{Manifest: "m1", Records: 2, Objects: 1, Pending: 1, Left: []PendingObject{{Key: "k", Role: "data", Place: "s3 b", Records: 2}}}}, nil
}

func (f *fake) batch(verb, name, id string) error {
	if err := f.do(verb, name); err != nil {
		return err
	}
	if id != "m1" {
		return ErrNoBatch
	}
	return nil
}

func (f *fake) RetryBatch(name, id string) error {
	if name == "paused" {
		return ErrPaused
	}
	return f.batch("retry", name, id)
}

func (f *fake) DivertBatch(_ context.Context, name, id string, to DivertTo) (Diverted, error) {
	if err := f.batch("divert", name, id); err != nil {
		return Diverted{}, err
	}
	if f.stuck && !to.Force {
		return Diverted{Objects: 1, Doubtful: []string{"k"}}, nil
	}
	return Diverted{Objects: 2, Records: 9}, nil
}

func handler(t *testing.T, s Streams, notReady string) *Handler {
	t.Helper()
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "hydrant_test_total", Help: "A metric."})
	reg.MustRegister(c)
	h, err := New(Options{Streams: func() Streams { return s }, NotReady: func() string { return notReady }, Metrics: reg, Version: "v0<"})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func request(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host = "127.0.0.1:4574"
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestAnswers(t *testing.T) {
	one := `{"name":"s","state":"active","version":3,"created":"2026-01-02T03:04:05Z","accepted_records":10,"delivered_records":7,"failed_records":1,"dropped_records":0,` +
		`"unaccounted_records":0,"backlog_records":2,"backlog_bytes":2048,"oldest_undelivered":"2026-01-02T03:04:05Z","outstanding_batches":[],` +
		`"last_deliveries":[{"time":"2026-01-02T03:04:05Z","key":"in/a","records":7,"bytes":700,"cut_reason":"size"}],` +
		`"last_failures":[{"time":"2026-01-02T03:04:05Z","key":"in/\u003cb\u003e","records":0,"bytes":0,"error":"no \u003cscript\u003ealert(1)\u003c/script\u003e"}]}`
	for _, c := range []struct {
		method, target string
		code           int
		body           string
	}{
		{"GET", "/healthz", 200, "ok\n"},
		{"GET", "/readyz", 200, "ready\n"},
		{"GET", "/v1/streams", 200, `{"streams":[` + one + `]}`},
		{"GET", "/v1/streams/s", 200, one},
		{"GET", "/v1/streams/x", 404, `{"error":"no stream \"x\""}`},
		{"POST", "/v1/streams/s/flush", 200, `{"remaining_records":0,"remaining_bytes":0}`},
		{"POST", "/v1/streams/x/flush", 404, `{"error":"no stream \"x\""}`},
		{"POST", "/v1/streams/paused/flush", 409, `{"error":"stream \"paused\" is paused: resume it first"}`},
		{"POST", "/v1/streams/broken/flush", 500, `{"error":"flush \"broken\": disk on fire"}`},
		{"POST", "/v1/streams/s/flush?timeout=1h", 200, `{"remaining_records":0,"remaining_bytes":0}`},
		{"POST", "/v1/streams/s/flush?timeout=3601s", 400, `{"error":"timeout=\"3601s\" is not a duration above 0 and up to 1h0m0s, like 30s"}`},
		{"POST", "/v1/streams/s/flush?timeout=0s", 400, `{"error":"timeout=\"0s\" is not a duration above 0 and up to 1h0m0s, like 30s"}`},
		{"POST", "/v1/streams/s/flush?timeout=soon", 400, `{"error":"timeout=\"soon\" is not a duration above 0 and up to 1h0m0s, like 30s"}`},
		{"POST", "/v1/streams/s/pause", 200, `{"name":"s","state":"active"}`},
		{"POST", "/v1/streams/s/resume", 200, `{"name":"s","state":"active"}`},
		{"POST", "/v1/streams/x/pause", 404, `{"error":"no stream \"x\""}`},
		{"POST", "/v1/streams/broken/resume", 500, `{"error":"resume \"broken\": disk on fire"}`},
		{"GET", "/v1/streams/s/flush", 405, `{"error":"GET is not allowed here, but POST"}`},
		{"DELETE", "/v1/streams/s", 405, `{"error":"DELETE is not allowed here, but GET, HEAD"}`},
		{"GET", "/favicon.ico", 404, `{"error":"nothing is here; the admin API is under /v1/streams"}`},
		{"GET", "/v1/streams/s/x", 404, `{"error":"nothing is here; the admin API is under /v1/streams"}`},
	} {
		w := request(handler(t, &fake{}, ""), c.method, c.target)
		body := w.Body.String()
		if strings.HasPrefix(c.body, "{") {
			body = compact(body)
			if got := w.Header().Get("Content-Type"); got != "application/json" {
				t.Errorf("%s %s: content type %q", c.method, c.target, got)
			}
		}
		if w.Code != c.code || body != c.body {
			t.Errorf("%s %s:\n got %d %s\nwant %d %s", c.method, c.target, w.Code, body, c.code, c.body)
		}
	}
}

// compact drops the indentation; none of the texts has two blanks or a blank after a quoted colon.
func compact(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(strings.Replace(strings.TrimSpace(line), `": `, `":`, 1))
	}
	return b.String()
}

func TestFlushTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		w := request(handler(t, &fake{stuck: true}, ""), "POST", "/v1/streams/s/flush?timeout=7s")
		want := `{"error":"not all of stream \"s\" was delivered within 7s; delivery goes on","remaining_records":2,"remaining_bytes":2048,"last_error":"connection refused"}`
		if body := compact(w.Body.String()); w.Code != 504 || body != want {
			t.Errorf("got %d %s\nwant 504 %s", w.Code, body, want)
		}
		if took := time.Since(start); took != 7*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestNotReady(t *testing.T) {
	h := handler(t, nil, "recovering")
	for target, want := range map[string]int{"/healthz": 200, "/metrics": 200, "/readyz": 503, "/v1/streams": 503, "/v1/streams/s": 503, "/": 200} {
		if w := request(h, "GET", target); w.Code != want {
			t.Errorf("GET %s while recovering: %d %s, want %d", target, w.Code, w.Body, want)
		}
	}
	for _, verb := range []string{"flush", "pause", "resume"} {
		if w := request(h, "POST", "/v1/streams/s/"+verb); w.Code != 503 || !strings.Contains(w.Body.String(), "recovering") {
			t.Errorf("%s while recovering: %d %s", verb, w.Code, w.Body)
		}
	}
	if w := request(h, "GET", "/readyz"); w.Body.String() != "not ready: recovering\n" {
		t.Errorf("readyz says %q", w.Body)
	}
}

// What a page of another site can make the operator's browser send is refused, and nothing is carried out.
func TestOtherSitesAreRefused(t *testing.T) {
	for _, c := range []struct {
		name, method, target string
		header               []string
		code                 int
	}{
		{"curl", "POST", "/v1/streams/s/pause", nil, 200},
		{"by name", "POST", "/v1/streams/s/pause", []string{"Host", "localhost:4574"}, 200},
		{"over IPv6", "POST", "/v1/streams/s/pause", []string{"Host", "[::1]:4574"}, 200},
		{"mapped IPv4", "GET", "/v1/streams", []string{"Host", "[::ffff:127.0.0.1]"}, 200},
		{"the own page", "POST", "/v1/streams/s/pause", []string{"Origin", "http://127.0.0.1:4574", "Sec-Fetch-Site", "same-origin"}, 200},
		{"a form elsewhere", "POST", "/v1/streams/s/pause", []string{"Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"}, 403},
		{"a form elsewhere, old browser", "POST", "/v1/streams/s/pause", []string{"Origin", "http://evil.example"}, 403},
		{"another port of this machine", "POST", "/v1/streams/s/pause", []string{"Origin", "http://127.0.0.1:8080", "Sec-Fetch-Site", "same-site"}, 403},
		{"an opaque origin", "POST", "/v1/streams/s/pause", []string{"Origin", "null"}, 403},
		{"rebound name", "POST", "/v1/streams/s/pause", []string{"Host", "evil.example:4574"}, 403},
		{"rebound name, reading", "GET", "/v1/streams", []string{"Host", "evil.example:4574"}, 403},
		{"rebound name, page", "GET", "/", []string{"Host", "evil.example"}, 403},
		{"a name that begins well", "GET", "/v1/streams", []string{"Host", "127.0.0.1.evil.example"}, 403},
		{"no host", "GET", "/v1/streams", []string{"Host", ""}, 403},
		{"a probe by another name", "GET", "/readyz", []string{"Host", "pod-7"}, 200},
		{"a scraper by another name", "GET", "/metrics", []string{"Host", "pod-7:4574"}, 200},
	} {
		f := &fake{}
		w := request(handler(t, f, ""), c.method, c.target, c.header...)
		if w.Code != c.code {
			t.Errorf("%s: %d %s, want %d", c.name, w.Code, w.Body, c.code)
		}
		if c.code == 403 && len(f.calls) > 0 {
			t.Errorf("%s: carried out %v", c.name, f.calls)
		}
	}
}

func TestPage(t *testing.T) {
	w := request(handler(t, &fake{}, "stopping <now>"), "GET", "/")
	body := w.Body.String()
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		t.Fatalf("%d %s", w.Code, w.Header())
	}
	for _, want := range []string{"<td class=\"n\">7</td>", "2.0 KiB", "in/a", "version 3", "no &lt;script&gt;alert(1)&lt;/script&gt;", "in/&lt;b&gt;", "Not ready: stopping &lt;now&gt;", "Hydrant v0&lt;"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in the page:\n%s", want, body)
		}
	}
	for _, never := range []string{"<script", "http://", "https://", "src="} {
		if strings.Contains(body, never) {
			t.Errorf("%q in the page", never)
		}
	}
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("policy %q", policy)
	}
	style := body[strings.Index(body, "<style>")+len("<style>") : strings.Index(body, "</style>")]
	if style != pageStyle {
		t.Error("the style sheet in the page is not the one whose hash the policy has")
	}
}

func TestMetrics(t *testing.T) {
	if w := request(handler(t, &fake{}, ""), "GET", "/metrics"); w.Code != 200 || !strings.Contains(w.Body.String(), "hydrant_test_total 0") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestTexts(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Second: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m 1s", 25*time.Hour + time.Minute: "25h 1m", 72 * time.Hour: "3d"} {
		if got := ageText(d); got != want {
			t.Errorf("ageText(%s) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 30: "1.0 GiB", 1<<62 + 1: "4096.0 PiB"} {
		if got := sizeText(n); got != want {
			t.Errorf("sizeText(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1\u202f000", -1234567: "-1\u202f234\u202f567"} {
		if got := countText(n); got != want {
			t.Errorf("countText(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestNewChecksOptions(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("accepted")
	}
}

// Every route stands in the documentation.
func TestRoutesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/admin-api.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"GET /v1/streams`", "GET /v1/streams/{name}`", "POST /v1/streams/{name}/flush", "POST /v1/streams/{name}/pause", "POST /v1/streams/{name}/resume", "GET /healthz", "GET /readyz", "GET /metrics", "GET /`",
		"accepted_records", "outstanding_batches", "remaining_records", "last_deliveries", "oldest_undelivered"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/admin-api.md does not have %q", want)
		}
	}
}
