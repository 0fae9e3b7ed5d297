package hook

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// NewTransport makes connections for calls of functions, which it keeps for the next calls: as many as there are calls at
// once. config may be nil. Whether an answer comes in time is the context's business.
func NewTransport(concurrency int, config *tls.Config) *http.Transport {
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true) // calls at a time want connections of their own
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConns:        2 * concurrency,
		MaxIdleConnsPerHost: concurrency,
		IdleConnTimeout:     90 * time.Second,
		WriteBufferSize:     64 << 10,
		ReadBufferSize:      64 << 10,
		DisableCompression:  true,
		Protocols:           &protocols,
	}
}

// Bounded is a transport for Carriers. Once the body of an answer is closed, or there is no answer, nothing reads the
// request's body any more, which net/http alone does not promise; and an answer of more than MaxAnswer bytes is an *Error.
type Bounded struct{ Next http.RoundTripper }

func (t Bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	var lease lease
	if r.Body != nil && r.Body != http.NoBody {
		get := r.GetBody
		r = r.Clone(r.Context())
		r.Body = &leased{&lease, r.Body}
		if get != nil {
			r.GetBody = func() (io.ReadCloser, error) {
				body, err := get()
				return &leased{&lease, body}, err
			}
		}
	}
	answer, err := t.Next.RoundTrip(r)
	if err != nil {
		lease.end()
		return nil, err
	}
	if answer.ContentLength > MaxAnswer {
		answer.Body.Close()
		lease.end()
		return nil, answerTooLarge(fmt.Sprintf("%d", answer.ContentLength))
	}
	answer.Body = &bounded{answer.Body, &lease, MaxAnswer}
	return answer, nil
}

func answerTooLarge(size string) *Error {
	return &Error{Code: CodeFunctionError, TooLarge: true, Err: fmt.Errorf("the answer has %s bytes, at most %d are read", size, MaxAnswer)}
}

// lease is how long the bodies of one request may be read.
type lease struct {
	mu   sync.Mutex
	over bool
}

func (l *lease) end() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
}

type leased struct {
	lease *lease
	io.ReadCloser
}

func (b *leased) Read(p []byte) (int, error) {
	b.lease.mu.Lock()
	defer b.lease.mu.Unlock()
	if b.lease.over {
		return 0, io.ErrClosedPipe
	}
	return b.ReadCloser.Read(p)
}

type bounded struct {
	io.ReadCloser
	lease *lease
	left  int // bytes that may still come
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, answerTooLarge("more")
	}
	return n, err
}

func (b *bounded) Close() error {
	b.lease.end()
	return b.ReadCloser.Close()
}
