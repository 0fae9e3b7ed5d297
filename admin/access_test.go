package admin

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"hydrant/access"
)

// keyed is a handler over f that asks for tokens.
func keyed(t *testing.T, f *fake, log *bytes.Buffer, open bool) *Handler {
	t.Helper()
	token := func(name string, actions ...access.Action) access.Token {
		return access.Token{Name: name, Value: func() (string, error) { return "token-" + name, nil }, Grant: access.Grant{Streams: []string{"*"}, Actions: actions}}
	}
	c := access.Credentials{Tokens: []access.Token{token("reader", access.Read), token("admin", access.Read, access.Admin)}}
	if open {
		c = access.Credentials{Open: true}
	}
	g, err := access.New(access.Options{Credentials: c})
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Options{Streams: func() Streams { return f }, NotReady: func() string { return "" }, Metrics: prometheus.NewRegistry(), Access: g,
		Audit: access.Audit{Log: slog.New(slog.NewTextHandler(log, nil))}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestTokens(t *testing.T) {
	var log bytes.Buffer
	f := &fake{}
	h := keyed(t, f, &log, false)
	for _, c := range []struct {
		method, path, authorization string
		want                        int
	}{
		{"GET", "/healthz", "", 200}, {"GET", "/readyz", "", 200}, {"GET", "/metrics", "", 200},
		{"GET", "/", "", 401}, {"GET", "/v1/streams", "", 401}, {"GET", "/v1/streams/s", "", 401}, {"POST", "/v1/streams/s/flush", "", 401}, {"GET", "/none", "", 401}, {"GET", "/v1/streams/s/flush", "", 401},
		{"GET", "/", "Bearer token-reader", 200}, {"GET", "/v1/streams", "bearer token-reader", 200}, {"GET", "/v1/streams/s", "Bearer token-reader", 200},
		{"GET", "/", "Bearer token-other", 401}, {"GET", "/", "Bearer ", 401}, {"GET", "/", "token-reader", 401},
		{"POST", "/v1/streams/s/flush", "Bearer token-reader", 403}, {"POST", "/v1/streams/s/pause", "Bearer token-reader", 403}, {"POST", "/v1/streams/s/resume", "Bearer token-reader", 403},
		{"POST", "/v1/streams/s/flush", "Bearer token-admin", 200}, {"POST", "/v1/streams/s/pause", "Bearer token-admin", 200}, {"POST", "/v1/streams/s/resume", "Bearer token-admin", 200},
		{"POST", "/v1/streams/x/resume", "Bearer token-admin", 404}, {"GET", "/none", "Bearer token-admin", 404},
	} {
		r := httptest.NewRequest(c.method, "http://hydrant.example:4574"+c.path, nil)
		if c.authorization != "" {
			r.Header.Set("Authorization", c.authorization)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s %s as %q: %d %s, want %d", c.method, c.path, c.authorization, w.Code, w.Body, c.want)
		}
		if asks := strings.Join(w.Header()["Www-Authenticate"], "; "); (asks == `Basic realm="hydrant", charset="UTF-8"; Bearer realm="hydrant"`) != (c.want == 401) {
			t.Errorf("%s %s: WWW-Authenticate %q", c.method, c.path, asks)
		}
	}
	if got := strings.Join(f.calls, ", "); got != "flush s, pause s, resume s, resume x" {
		t.Errorf("orders that were carried out: %s", got)
	}
	for password, want := range map[string]int{"token-reader": 200, "token-readex": 401, "": 401} {
		r := httptest.NewRequest("GET", "http://h/", nil)
		r.SetBasicAuth("anybody", password)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("password %q: %d", password, w.Code)
		}
	}
	for _, want := range []string{
		"key=reader action=FlushStream stream=s outcome=403 request_id=", "key=admin action=PauseStream stream=s outcome=ok request_id=", "key=admin action=ResumeStream stream=x outcome=404 request_id=",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no line with %s in\n%s", want, log.String())
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 7 || strings.Contains(log.String(), "token-") {
		t.Errorf("%d audit lines:\n%s", n, log.String())
	}
	// Pages of other sites are kept away although the browser knows the password.
	r := httptest.NewRequest("POST", "http://h/v1/streams/s/pause", nil)
	r.SetBasicAuth("anybody", "token-admin")
	r.Header.Set("Origin", "https://evil.example")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("from another site: %d", w.Code)
	}
}

// Without tokens the host must be a loopback one on a loopback listener, and may be any elsewhere.
func TestOpenGuard(t *testing.T) {
	var log bytes.Buffer
	h := keyed(t, &fake{}, &log, true)
	for _, c := range []struct {
		host     string
		loopback bool
		want     int
	}{{"evil.example", true, 403}, {"127.0.0.1:4574", true, 200}, {"hydrant.example", false, 200}} {
		r := httptest.NewRequest("POST", "http://"+c.host+"/v1/streams/s/pause", nil)
		if c.loopback {
			r = r.WithContext(access.LoopbackOnly(r.Context()))
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want || len(w.Header()["Www-Authenticate"]) > 0 {
			t.Errorf("%+v: %d %s", c, w.Code, w.Body)
		}
	}
	if n := strings.Count(log.String(), "key=anonymous action=PauseStream stream=s outcome=ok"); n != 2 {
		t.Errorf("audit:\n%s", log.String())
	}
}
