package http

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hydrant/transform/hook"
	"hydrant/transform/hook/hooktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, url string) *Carrier {
	t.Helper()
	c, err := New(Options{URL: url, Concurrency: 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestFunctions(t *testing.T) {
	hooktest.Run(t, func(t testing.TB, server string) hook.Carrier { return open(t, server+hooktest.Path) })
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		o        Options
		function string // or the error
	}{
		{Options{URL: "http://127.0.0.1:9001/2015-03-31/functions/f/invocations"}, "http://127.0.0.1:9001/2015-03-31/functions/f/invocations"},
		{Options{URL: "https://me:hush@h.example/a%2Fb?token=hush#hush"}, "https://h.example/a%2Fb"},
		{Options{URL: "https://h", Headers: map[string]string{"x-api-key": "hush", "host": "other", "user-agent": "me"}}, "https://h"},
		{Options{URL: "ftp://me:hush@h/x?hush"}, `url: "ftp://h/x" does not begin with http:// or https://`},
		{Options{URL: "http:///x?hush"}, `url: "http:///x" has no host`},
		{Options{URL: ""}, `url: "" does not begin with http:// or https://`},
		{Options{URL: "http://me:hush@h\x7f/"}, `url: cannot be parsed: net/url: invalid control character in URL`},
		{Options{URL: "http://h", Headers: map[string]string{"a b": "hush"}}, `headers: "a b" is not the name of a header`},
		{Options{URL: "http://h", Headers: map[string]string{"": "hush"}}, `headers: "" is not the name of a header`},
		{Options{URL: "http://h", Headers: map[string]string{"a": "hush\r\nb: c"}}, `headers: the value of "a" has a control character`},
		{Options{URL: "http://h", Headers: map[string]string{"content-length": "1"}}, `headers: "content-length" is set by the connection; leave it out`},
	} {
		carrier, err := New(c.o)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = carrier.Function()
		}
		if got != c.function {
			t.Errorf("%s: %s, not %s", c.o.URL, got, c.function)
		}
	}
}

// TestRequests: what a server sees of a request, over one connection for all.
func TestRequests(t *testing.T) {
	var connections atomic.Int32
	requests := make(chan *http.Request, 10)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- r
		fmt.Fprintf(w, "%s back", body)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c, err := New(Options{URL: strings.Replace(s.URL, "://", "://me:pa%20ss@", 1) + "/a%2Fb?x=1", Headers: map[string]string{"x-api-key": "k", "host": "other.example", "user-agent": "me"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for range 5 {
		answer, err := c.Invoke(context.Background(), []byte("there and"), []byte("dst: "))
		if err != nil || string(answer) != "dst: there and back" {
			t.Fatalf("%q, %v", answer, err)
		}
		r := <-requests
		user, password, _ := r.BasicAuth()
		got := fmt.Sprintf("%s %s %s %s:%s key=%s agent=%s type=%s length=%d encoding=%s", r.Method, r.RequestURI, r.Host, user, password,
			r.Header.Get("X-Api-Key"), r.UserAgent(), r.Header.Get("Content-Type"), r.ContentLength, r.Header.Get("Accept-Encoding"))
		if want := "POST /a%2Fb?x=1 other.example me:pa ss key=k agent=me type=application/json length=9 encoding="; got != want {
			t.Errorf("request %s, not %s", got, want)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for 5 requests", n)
	}
}

func TestTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(s.Close)
	if _, err := open(t, s.URL).Invoke(context.Background(), []byte("x"), nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an authority that nobody trusts: %v", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	c, err := New(Options{URL: s.URL, TLS: &tls.Config{RootCAs: pool}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if answer, err := c.Invoke(context.Background(), []byte("x"), nil); err != nil || string(answer) != "x" {
		t.Errorf("%q, %v", answer, err)
	}
}

// TestSecrets: neither errors nor logs nor names have what is secret in a URL or a header.
func TestSecrets(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(s.Close)
	for _, url := range []string{s.URL, "http://127.0.0.1:1", "http://no.such.host.invalid"} {
		c, err := New(Options{URL: strings.Replace(url, "://", "://me:hush@", 1) + "/x?token=hush", Headers: map[string]string{"X-Key": "hush"}})
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		zero := 0
		v, err := hook.New(hook.Options{Carrier: c, Retries: &zero, Timeout: 10 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		o := hooktest.Invoke(t, v, hooktest.Rows("x"))[0]
		_, err = c.Invoke(context.Background(), []byte("x"), nil)
		if e, ok := errors.AsType[*hook.Error](err); !ok || e.Code != o.Failure.Code {
			t.Errorf("%v", err)
		}
		if all := log.String() + err.Error() + fmt.Sprintf("%+v", *o.Failure) + c.Function(); strings.Contains(all, "hush") || !strings.Contains(all, "/x") {
			t.Error(all)
		}
		c.Close()
	}
}

// TestBodyIsNotReadAfterwards: once a call is over its request may be changed, even if the server did not wait for all of it.
func TestBodyIsNotReadAfterwards(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }))
	t.Cleanup(s.Close)
	c := open(t, s.URL)
	request := make([]byte, 4<<20)
	for i := range 50 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%5)*time.Millisecond)
		if _, err := c.Invoke(ctx, request, nil); err == nil {
			t.Error("a call without an error")
		}
		cancel()
		for k := range request { // the race detector would see somebody read
			request[k]++
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{"": 0, "0": 0, "7": 7 * time.Second, "-1": 0, "x": 0, "99999999999": 0, "Mon, 02 Jan 2006 15:04:05 GMT": 0} {
		if got := retryAfter(value); got != want {
			t.Errorf("%q: %v, not %v", value, got, want)
		}
	}
	if got := retryAfter(time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)); got < 58*time.Second || got > time.Minute {
		t.Errorf("a date a minute ahead: %v", got)
	}
}

func BenchmarkInvoke(b *testing.B) {
	servers := map[string]func(b *testing.B) string{
		"function": func(b *testing.B) string { return hooktest.Serve(b, hooktest.Function, nil) + hooktest.Path },
		"canned":   canned,
	}
	for _, server := range []string{"function", "canned"} {
		for _, calls := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/calls=%d", server, calls), func(b *testing.B) {
				data := make([]string, 2500)
				size := 0
				for i := range data {
					data[i] = fmt.Sprintf(`{"text":"%s","customer":"c%d"}`, strings.Repeat("lorem ipsum ", 30), i/100)
					size += len(data[i])
				}
				rows := hooktest.Rows(data...)
				v, err := hook.New(hook.Options{Carrier: open(b, servers[server](b)), Concurrency: calls, PartitionKeys: []string{"customer"}})
				if err != nil {
					b.Fatal(err)
				}
				hooktest.Invoke(b, v, rows)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				n := 0
				var failed atomic.Int64
				var wg sync.WaitGroup
				slots := make(chan struct{}, calls)
				for b.Loop() {
					n++
					slots <- struct{}{}
					wg.Go(func() {
						defer func() { <-slots }()
						err := v.Invoke(context.Background(), rows, func(o *hook.Outcome) error {
							if o.Failure != nil {
								failed.Add(1)
							}
							return nil
						})
						if err != nil {
							failed.Add(1)
						}
					})
				}
				wg.Wait()
				if failed.Load() != 0 {
					b.Fatalf("%d failures", failed.Load())
				}
				b.ReportMetric(float64(n*len(rows))/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// canned is a server that gives the records of a request back at next to no cost of its own: what is measured is the client.
func canned(b *testing.B) string {
	var answer atomic.Pointer[[]byte]
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer.Load() != nil {
			io.Copy(io.Discard, r.Body)
			w.Write(*answer.Load())
			return
		}
		var e struct {
			Records []map[string]any `json:"records"`
		}
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			b.Error(err)
		}
		for _, r := range e.Records {
			r["result"] = "Ok"
			r["metadata"] = map[string]any{"partitionKeys": map[string]string{"customer": "c"}}
		}
		text, err := json.Marshal(e)
		if err != nil {
			b.Error(err)
		}
		answer.Store(&text)
		w.Write(text)
	}))
	b.Cleanup(s.Close)
	return s.URL
}
