package http

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hydrant/sinks"
)

func TestProbe(t *testing.T) {
	for _, c := range []struct {
		status int
		want   sinks.Level
		key    string
	}{
		{200, sinks.OK, ""}, {204, sinks.OK, ""}, {400, sinks.OK, ""}, {405, sinks.OK, ""}, {501, sinks.OK, ""},
		{301, sinks.Failed, "url"}, {401, sinks.Warning, "access_key"}, {403, sinks.Warning, "access_key"},
		{404, sinks.Warning, "url"}, {500, sinks.Warning, "url"},
	} {
		t.Run(fmt.Sprint(c.status), func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodOptions || r.ContentLength > 0 || r.Header.Get(headerAccessKey) != "hush" {
					t.Errorf("%s with %d bytes and headers %v", r.Method, r.ContentLength, r.Header)
				}
				w.WriteHeader(c.status)
			}))
			defer server.Close()
			s, err := New(Options{URL: server.URL, Secrets: func() (Secrets, error) { return Secrets{AccessKey: "hush"}, nil }})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			out := s.Probe(t.Context(), "")
			if len(out) != 2 || out[0].Check != "secrecy" || out[0].Level != sinks.Warning || out[1].Level != c.want || out[1].Key != c.key {
				t.Errorf("findings %+v, want %s of %q", out, c.want, c.key)
			}
			if strings.Contains(fmt.Sprint(out), "hush") {
				t.Errorf("findings tell the secret: %+v", out)
			}
		})
	}
	s, err := New(Options{URL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if out := s.Probe(t.Context(), ""); len(out) != 1 || out[0].Level != sinks.Failed || out[0].Key != "url" {
		t.Errorf("nobody listens: %+v", out)
	}
}
