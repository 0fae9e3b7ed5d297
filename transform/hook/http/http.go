// Package http calls a function at a URL: a server of one's own, AWS's Runtime Interface Emulator
// (/2015-03-31/functions/function/invocations), or the function URL of a Lambda function.
//
// A request flows in and is posted; what flows out is the body of an answer with a status of 2xx, or an error with Firehose's
// code. One attempt is one POST: nothing is retried and no redirect is followed. Nothing is kept, so nothing can be lost.
package http

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"hydrant/transform/hook"
)

// Options of a Carrier.
type Options struct {
	// URL is http or https. User and password in it are sent as basic authentication. They and the query are secrets: they
	// are never shown.
	URL string
	// Headers are sent with each request, in place of our own of the same name. Their values are never shown.
	Headers map[string]string
	// Secrets are headers whose values may change meanwhile: they are asked for with each request, in place of all others of
	// the same name. nil: none. What it returns must be valid headers; an error fails the attempt.
	Secrets func() ([][2]string, error)
	// Concurrency is how many connections are kept; 0: hook.DefaultConcurrency.
	Concurrency int
	TLS         *tls.Config // nil: TLS 1.2 or later, the system's authorities
}

// Carrier is a hook.Carrier. It is safe for concurrent use.
type Carrier struct {
	url      *url.URL
	function string
	host     string
	header   http.Header
	secrets  func() ([][2]string, error)
	client   *http.Client
}

var _ hook.Carrier = (*Carrier)(nil)

// refused are headers that are about the connection, and so not the configuration's to set.
var refused = []string{"Connection", "Content-Length", "Expect", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// New checks the options. Nothing is sent.
func New(o Options) (*Carrier, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		// url.Error has the URL in it.
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, fmt.Errorf("url: cannot be parsed: %w", err)
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("url: %q does not begin with http:// or https://", shown.String())
	case u.Hostname() == "":
		return nil, fmt.Errorf("url: %q has no host", shown.String())
	}
	u.Fragment, u.RawFragment = "", ""
	c := &Carrier{url: u, function: shown.String(), secrets: o.Secrets, header: http.Header{
		"Content-Type": {"application/json"},
		"User-Agent":   {"hydrant"},
	}}
	for _, name := range slices.Sorted(maps.Keys(o.Headers)) {
		if err := set(c.header, &c.host, name, o.Headers[name]); err != nil {
			return nil, fmt.Errorf("headers: %w", err)
		}
	}
	concurrency := o.Concurrency
	if concurrency == 0 {
		concurrency = hook.DefaultConcurrency
	}
	c.client = &http.Client{
		Transport:     hook.Bounded{Next: hook.NewTransport(concurrency, o.TLS)},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// set sets a header of the configuration.
func set(header http.Header, host *string, name, value string) error {
	key := http.CanonicalHeaderKey(name)
	switch {
	case !isToken(name):
		return fmt.Errorf("%q is not the name of a header", name)
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return fmt.Errorf("the value of %q has a control character", name)
	case slices.Contains(refused, key):
		return fmt.Errorf("%q is set by the connection; leave it out", name)
	case key == "Host":
		*host = value
	default:
		header.Set(key, value)
	}
	return nil
}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
	})
}

// Function is the URL without user, query and fragment.
func (c *Carrier) Function() string { return c.function }

// Close closes the connections that no call uses.
func (c *Carrier) Close() {
	c.client.Transport.(hook.Bounded).Next.(*http.Transport).CloseIdleConnections()
}

// Invoke posts the request once.
func (c *Carrier) Invoke(ctx context.Context, request, dst []byte) ([]byte, error) {
	header, host := c.header.Clone(), c.host
	if c.secrets != nil {
		secrets, err := c.secrets()
		for _, s := range secrets {
			if err == nil {
				err = set(header, &host, s[0], s[1])
			}
		}
		if err != nil {
			return nil, &hook.Error{Code: hook.CodeInvocationFailure, Err: fmt.Errorf("headers: %w", err)}
		}
	}
	r := (&http.Request{
		Method: http.MethodPost, URL: c.url, Host: host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(request)),
		Body:          io.NopCloser(bytes.NewReader(request)),
		GetBody:       func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(request)), nil },
	}).WithContext(ctx)
	answer, err := c.client.Do(r)
	if err != nil {
		return nil, hook.TransportError(err)
	}
	defer answer.Body.Close()
	body, err := read(answer, dst)
	if err != nil {
		return nil, hook.TransportError(err)
	}
	if e := failure(answer, body); e != nil {
		return nil, e
	}
	return body, nil
}

// read appends the body of an answer to dst.
func read(answer *http.Response, dst []byte) ([]byte, error) {
	const spare = 512 // for the read that finds the end, and for whoever parses it
	if n := answer.ContentLength; n > 0 {
		dst = slices.Grow(dst, int(n)+2*spare) // the transport has checked it
	}
	for {
		if cap(dst)-len(dst) < spare {
			dst = slices.Grow(dst, 64<<10)
		}
		n, err := answer.Body.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// codes of statuses that are not 2xx. What is not here is an InvocationFailure.
var codes = map[int]string{
	http.StatusUnauthorized:          hook.CodeAccessDenied,
	http.StatusForbidden:             hook.CodeAccessDenied,
	http.StatusNotFound:              hook.CodeNotFound,
	http.StatusRequestTimeout:        hook.CodeRequestTimedOut,
	http.StatusRequestEntityTooLarge: hook.CodeInvocationFailure,
	http.StatusTooManyRequests:       hook.CodeLimitExceeded,
	http.StatusInternalServerError:   hook.CodeInternal,
	http.StatusBadGateway:            hook.CodeFunctionError, // a function URL's answer to one that failed
	http.StatusServiceUnavailable:    hook.CodeUnavailable,
	http.StatusGatewayTimeout:        hook.CodeRequestTimedOut,
}

// failure is what is wrong with an answer, or nil.
func failure(answer *http.Response, body []byte) *hook.Error {
	switch {
	case answer.Header.Get("X-Amz-Function-Error") != "":
		return hook.FunctionError(body)
	case hook.SaysError(body): // the emulator leaves the header out, and the status is 200
		return hook.FunctionError(body)
	case answer.StatusCode/100 == 2 && len(body) == 0: // the emulator's answer when the function's process has ended
		return &hook.Error{Code: hook.CodeFunctionError, Err: fmt.Errorf("HTTP status %d with nothing in it", answer.StatusCode)}
	case answer.StatusCode/100 == 2:
		return nil
	}
	code, ok := codes[answer.StatusCode]
	if !ok {
		code = hook.CodeInvocationFailure
	}
	return &hook.Error{
		Code:     code,
		Err:      fmt.Errorf("HTTP status %d", answer.StatusCode),
		After:    retryAfter(answer.Header.Get("Retry-After")),
		TooLarge: answer.StatusCode == http.StatusRequestEntityTooLarge,
	}
}

// retryAfter is what a Retry-After header asks for; 0 for none.
func retryAfter(value string) time.Duration {
	if s, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}
