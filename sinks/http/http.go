// Package http is a sink whose objects are requests: each Put posts one to an endpoint, in the protocol of Amazon Data
// Firehose's HTTP endpoint delivery, or with a body and headers of any other kind. The bytes and the id of a request are
// the object's, so that whoever puts it again, in this process or the next, repeats himself to the letter; but nobody can
// ask an endpoint what it has, so that an object whose answer was lost arrives once more, under the id that it had.
package http

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf16"

	"hydrant/sinks"
)

// Headers of the protocol.
const (
	headerProtocol   = "X-Amz-Firehose-Protocol-Version"
	headerRequestID  = "X-Amz-Firehose-Request-Id"
	headerSourceARN  = "X-Amz-Firehose-Source-Arn"
	headerAccessKey  = "X-Amz-Firehose-Access-Key"
	headerAttributes = "X-Amz-Firehose-Common-Attributes"
	// headerIdempotency carries the request's id where the protocol is not spoken.
	headerIdempotency = "Idempotency-Key"

	protocolVersion = "1.0"
)

const (
	// DefaultTimeout of one request with its answer.
	DefaultTimeout = 3 * time.Minute
	// maxAnswer is the most bytes of an answer, and of its headers.
	maxAnswer = 1 << 20
	// maxReason is the most characters of the reason phrase that Firehose takes.
	maxReason = 64
	// idleTime is how long a connection is kept that nothing is sent over.
	idleTime = time.Minute
)

// Secrets go with a request and nowhere else.
type Secrets struct {
	AccessKey string      // "": none
	Headers   [][2]string // name and value, of the stream's own headers
}

// Options of a Sink.
type Options struct {
	URL string // http or https, without user and fragment
	// Plain: any 2xx is success, and the protocol's headers are left out; the request's id goes as Idempotency-Key.
	Plain bool
	// SourceARN is the stream's ARN at this time; nil: none is sent.
	SourceARN func() string
	// Secrets are read for each request, so that ones that were replaced take effect; nil: none.
	Secrets          func() (Secrets, error)
	CommonAttributes map[string]string
	Timeout          time.Duration // 0: DefaultTimeout
	// CAFile, CertFile and KeyFile are PEM files of the authorities to trust instead of the system's, and of the
	// certificate to show. They are read again when they have changed.
	CAFile, CertFile, KeyFile string
	MaxInFlight               int // requests at a time that connections are kept for; 0: 1
	Log                       *slog.Logger
}

// Sink posts requests. Safe for concurrent use.
type Sink struct {
	o          Options
	where      string // the URL as messages have it: without its query
	attributes string // value of the header
	log        *slog.Logger

	mu        sync.Mutex // guards what follows
	transport *http.Transport
	files     string // what the files of the transport looked like
}

var _ sinks.Sink = (*Sink)(nil)

// New checks the options and reads the files of certificates. It sends nothing.
func New(o Options) (*Sink, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("the url is not an http or https URL")
	}
	if u.User != nil || u.Fragment != "" {
		return nil, errors.New("the url has a user or a fragment in it")
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, errors.New("a certificate needs its key, and a key its certificate")
	}
	if o.Timeout < 0 || o.MaxInFlight < 0 {
		return nil, fmt.Errorf("a timeout of %s, %d requests in flight", o.Timeout, o.MaxInFlight)
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	where := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	s := &Sink{o: o, where: where.String(), attributes: attributesHeader(o.CommonAttributes), log: o.Log}
	if s.transport, err = s.newTransport(); err != nil {
		return nil, err
	}
	s.files = s.fileState()
	return s, nil
}

// attributesHeader is the value of the header with the common attributes: JSON in ASCII, its names in order.
func attributesHeader(attributes map[string]string) string {
	b := []byte(`{"commonAttributes":{`)
	for i, k := range slices.Sorted(maps.Keys(attributes)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendASCII(b, k)
		b = append(b, ':')
		b = appendASCII(b, attributes[k])
	}
	return string(append(b, "}}"...))
}

// appendASCII adds s as a JSON string without any byte that a header cannot have.
func appendASCII(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r >= ' ' && r < 0x7f:
			b = append(b, byte(r))
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, hi, lo)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return append(b, '"')
}

// newTransport makes the connections' settings from the files as they are now.
func (s *Sink) newTransport() (*http.Transport, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if err := trust(conf, s.o.CAFile); err != nil {
		return nil, err
	}
	if s.o.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(s.o.CertFile, s.o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate %q with key %q: %w", s.o.CertFile, s.o.KeyFile, err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	t := http.DefaultTransport.(*http.Transport).Clone() // its dialer and proxy
	t.TLSClientConfig = conf
	t.ForceAttemptHTTP2 = true
	t.DisableCompression = true // an answer is to have no Content-Encoding, and none is asked for
	t.MaxResponseHeaderBytes = maxAnswer
	t.MaxIdleConnsPerHost = max(s.o.MaxInFlight, 1)
	t.IdleConnTimeout = idleTime
	return t, nil
}

// trust makes the authorities in a file those that are trusted.
func trust(conf *tls.Config, file string) error {
	if file == "" {
		return nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the authorities to trust: %w", err)
	}
	conf.RootCAs = x509.NewCertPool()
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("the file of authorities to trust, %q, holds no certificate in PEM", file)
	}
	return nil
}

// fileState is a text that is another one when a file has changed.
func (s *Sink) fileState() string {
	var b strings.Builder
	for _, name := range []string{s.o.CAFile, s.o.CertFile, s.o.KeyFile} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			fmt.Fprintf(&b, "%d %d\n", info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}

// connections returns the transport to use now.
func (s *Sink) connections() *http.Transport {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.fileState()
	if now == s.files {
		return s.transport
	}
	s.files = now
	next, err := s.newTransport()
	if err != nil {
		s.log.Error("endpoint keeps the certificates that it had", "url", s.where, "err", err)
		return s.transport
	}
	s.transport.CloseIdleConnections()
	s.transport = next
	return next
}

// Put posts the object's bytes once.
func (s *Sink) Put(ctx context.Context, o sinks.Object) error {
	if err := ctx.Err(); err != nil {
		return &sinks.Error{Class: sinks.Unknown, Err: fmt.Errorf("post to %s: %w", s.where, err)}
	}
	var secrets Secrets
	if s.o.Secrets != nil {
		var err error
		if secrets, err = s.o.Secrets(); err != nil {
			return &sinks.Error{Class: sinks.RefusedDestination, Code: codeSecret, Err: fmt.Errorf("post to %s: %w", s.where, err)}
		}
	}
	a := &attempt{sink: s, secrets: secrets, id: o.RequestID, body: newBody(o)}
	defer func() { a.body.stop() }()
	bounded, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	req, err := s.request(bounded, o, a)
	if err != nil {
		return err
	}
	answer, err := s.connections().RoundTrip(req)
	if err != nil {
		return a.failed(ctx, bounded, err)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	answer.Body.Close()
	if err != nil {
		return a.failed(ctx, bounded, fmt.Errorf("read the answer, which has status %d: %w", answer.StatusCode, err))
	}
	return a.judge(answer, text)
}

// request makes the request of an attempt.
func (s *Sink) request(ctx context.Context, o sinks.Object, a *attempt) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.o.URL, nil)
	if err != nil {
		return nil, &sinks.Error{Class: sinks.RefusedDestination, Code: "HttpEndpoint.MakeRequestFailure.IllegalUriException", Err: fmt.Errorf("post to %s: the url cannot be requested", s.where)}
	}
	if req.ContentLength = o.Size; o.Size > 0 {
		req.Body = a.body
		// A connection that the endpoint has closed before anything was sent is no attempt.
		req.GetBody = func() (io.ReadCloser, error) {
			a.body = newBody(o)
			return a.body, nil
		}
	} else {
		req.Body = http.NoBody
	}
	set := func(name, value string) { req.Header[name] = []string{value} }
	set("User-Agent", "hydrant")
	if o.ContentType != "" {
		set("Content-Type", o.ContentType)
	}
	if s.o.Plain {
		set(headerIdempotency, o.RequestID)
	} else {
		set(headerProtocol, protocolVersion)
		set(headerRequestID, o.RequestID)
		if s.o.SourceARN != nil {
			set(headerSourceARN, s.o.SourceARN())
		}
		if a.secrets.AccessKey != "" {
			set(headerAccessKey, a.secrets.AccessKey)
		}
		set(headerAttributes, s.attributes)
	}
	for _, h := range a.secrets.Headers {
		req.Header.Set(h[0], h[1])
	}
	if o.ContentEncoding != "" {
		set("Content-Encoding", o.ContentEncoding)
	}
	for name, values := range req.Header {
		if strings.ContainsFunc(values[0], func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return nil, &sinks.Error{Class: sinks.RefusedDestination, Code: "HttpEndpoint.MakeRequestFailure.IllegalCharacterInHeaderValue",
				Err: fmt.Errorf("post to %s: the value of header %s has a character that no header can have; write it without control characters", s.where, name)}
		}
	}
	return req, nil
}

// Verify always fails with Unknown: an endpoint cannot be asked.
func (s *Sink) Verify(ctx context.Context, o sinks.Object) error {
	err := ctx.Err()
	if err == nil {
		err = errCannotTell
	}
	return &sinks.Error{Class: sinks.Unknown, Err: fmt.Errorf("ask %s for request %q: %w", s.where, o.RequestID, err)}
}

var errCannotTell = errors.New("an HTTP endpoint cannot be asked what it has")

// ValidateKey takes every key: none leaves this machine.
func (s *Sink) ValidateKey(string) error { return nil }

// Close ends idle connections.
func (s *Sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transport.CloseIdleConnections()
	return nil
}

// retryAfter is the wait that an answer asks for: seconds or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if text == "" {
		return 0
	}
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// maxRetryAfter bounds what an endpoint can ask for.
const maxRetryAfter = time.Hour
