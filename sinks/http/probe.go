package http

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"hydrant/sinks"
)

var _ sinks.Prober = (*Sink)(nil)

// Probe sends an OPTIONS request with the stream's headers: it reaches the endpoint and delivers nothing. Any answer
// shows that the way and TLS are right; what it says of the rest depends on the endpoint.
func (s *Sink) Probe(ctx context.Context, _ string) (out []sinks.Finding) {
	add := func(check string, level sinks.Level, key, remedy, format string, args ...any) {
		out = append(out, sinks.Finding{Check: check, Level: level, Found: fmt.Sprintf(format, args...), Key: key, Remedy: remedy})
	}
	var secrets Secrets
	if s.o.Secrets != nil {
		var err error
		if secrets, err = s.o.Secrets(); err != nil {
			add("secrets", sinks.Failed, "access_key", "give secrets that can be read", "%v", err)
			return out
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	a := &attempt{sink: s, secrets: secrets, body: newBody(sinks.Object{ReaderAt: strings.NewReader("")})}
	req, err := s.request(ctx, sinks.Object{RequestID: "00000000-0000-0000-0000-000000000000"}, a)
	if err != nil {
		add("reach", sinks.Failed, "headers", "", "%v", err)
		return out
	}
	req.Method = http.MethodOptions
	answer, err := s.connections().RoundTrip(req)
	if err != nil {
		add("reach", sinks.Failed, "url", "correct url, let the network pass, or name the authority to trust in tls.ca_file", "%s: %v", s.where, err)
		return out
	}
	io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer))
	answer.Body.Close()
	way := "without TLS"
	if answer.TLS != nil {
		way = "with TLS whose certificate is trusted"
	} else if secrets.AccessKey != "" {
		add("secrecy", sinks.Warning, "url", "use https", "the access key goes over plain HTTP")
	}
	switch code := answer.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		add("reach", sinks.Warning, "access_key", "correct the access key, if the endpoint refuses deliveries too", "%s answers OPTIONS with %s, %s", s.where, answer.Status, way)
	case code == http.StatusNotFound || code == http.StatusGone || code >= 500 && code != http.StatusNotImplemented:
		add("reach", sinks.Warning, "url", "correct the path, if the endpoint refuses deliveries too", "%s answers OPTIONS with %s, %s", s.where, answer.Status, way)
	case code >= 300 && code < 400:
		add("reach", sinks.Failed, "url", "write the URL that it redirects to: redirects are not followed", "%s answers OPTIONS with %s", s.where, answer.Status)
	default:
		add("reach", sinks.OK, "", "", "%s answers OPTIONS with %s, %s", s.where, answer.Status, way)
	}
	return out
}
