// Package faultproxy puts a bad network, or a bad server, before a real HTTP server.
//
// Requests flow in and are passed on unchanged (host, path and headers are what the client signed) until a
// rule matches; then its fault happens: before the server has seen the request, or after it has done what
// was asked and the answer is on its way. That is the difference which a client cannot see and has to be
// right about. Nothing is kept but the list of what was asked.
package faultproxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is what happens to one request.
type Fault struct {
	name string
	do   func(p *Proxy, w http.ResponseWriter, r *http.Request)
}

func (f Fault) String() string { return f.name }

// DropBefore resets the connection; the server sees nothing.
func DropBefore() Fault {
	return Fault{"drop before", func(p *Proxy, w http.ResponseWriter, r *http.Request) { drop(w) }}
}

// DropAfter lets the server do its work and resets the connection instead of passing the answer on.
func DropAfter() Fault {
	return Fault{"drop after", func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		_, _ = p.ask(r, r.Body, r.ContentLength)
		drop(w)
	}}
}

// DropAfterDoing is DropAfter with something that happens between the two: the server has done its work, and
// its client learns nothing before do has returned.
func DropAfterDoing(what string, do func()) Fault {
	return Fault{"drop after " + what, func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		_, _ = p.ask(r, r.Body, r.ContentLength)
		do()
		drop(w)
	}}
}

// PassAfterDoing passes the request on after something has happened.
func PassAfterDoing(what string, do func(*http.Request)) Fault {
	return Fault{"pass after " + what, func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		do(r)
		p.pass(w, r)
	}}
}

// TruncateRequest gives the server the first half of the body and resets both connections.
func TruncateRequest() Fault {
	return Fault{"truncate request", func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		half := &halfBody{r: io.LimitReader(r.Body, r.ContentLength/2)}
		_, _ = p.ask(r, half, r.ContentLength)
		drop(w)
	}}
}

// halfBody ends with an error.
type halfBody struct{ r io.Reader }

func (h *halfBody) Read(b []byte) (int, error) {
	n, err := h.r.Read(b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// TruncateAnswer lets the server do its work and cuts its answer short: the headers and half of the body, or
// half of the headers where there is no body.
func TruncateAnswer() Fault {
	return Fault{"truncate answer", func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		a, err := p.ask(r, r.Body, r.ContentLength)
		if err != nil {
			drop(w)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic("bug: " + err.Error())
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", a.status, http.StatusText(a.status))
		a.header.Set("Content-Length", strconv.Itoa(len(a.body)))
		_ = a.header.Write(&b)
		if len(a.body) == 0 {
			b.Truncate(b.Len() / 2)
		} else {
			b.WriteString("\r\n")
			b.Write(a.body[:len(a.body)/2])
		}
		_, _ = rw.Write(b.Bytes())
		_ = rw.Flush()
		_ = c.Close()
	}}
}

// Answer answers in the server's stead, which sees nothing. Code is an error code of S3, or "" for a body
// that is not XML, as a load balancer gives it.
func Answer(status int, code string) Fault {
	return Fault{fmt.Sprintf("answer %d %s", status, code), func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		answerError(w, r, status, code)
	}}
}

// AnswerAfter lets the server do its work and answers otherwise than it did.
func AnswerAfter(status int, code string) Fault {
	return Fault{fmt.Sprintf("answer %d %s after", status, code), func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		_, _ = p.ask(r, r.Body, r.ContentLength)
		answerError(w, r, status, code)
	}}
}

// Duplicate sends the request to the server twice, and passes on the answer to the second or to the first.
func Duplicate(second bool) Fault {
	return Fault{fmt.Sprintf("duplicate (second=%t)", second), func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			drop(w)
			return
		}
		var answers [2]answer
		for i := range answers {
			if answers[i], err = p.ask(r, bytes.NewReader(body), r.ContentLength); err != nil {
				drop(w)
				return
			}
		}
		if second {
			answers[1].write(w)
		} else {
			answers[0].write(w)
		}
	}}
}

// Delay waits before the server sees the request, or until the client goes away.
func Delay(d time.Duration) Fault {
	return Fault{"delay " + d.String(), func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			p.pass(w, r)
		case <-r.Context().Done():
		case <-p.closed:
		}
	}}
}

// Hang takes the request and never answers, until the client goes away. The server sees nothing.
func Hang() Fault {
	return Fault{"hang", func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-p.closed:
		}
	}}
}

// RemoveHeader takes headers away from the request: a server that has never heard of them ignores them just so.
func RemoveHeader(names ...string) Fault {
	return Fault{"remove header " + strings.Join(names, ","), func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		for _, n := range names {
			r.Header.Del(n)
		}
		p.pass(w, r)
	}}
}

// answerError writes an error as S3 does. A HEAD has no body.
func answerError(w http.ResponseWriter, r *http.Request, status int, code string) {
	w.Header().Set("X-Amz-Request-Id", "PROXY0000000")
	if r.Method == http.MethodHead {
		w.WriteHeader(status)
		return
	}
	if code == "" {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<html><body>from a load balancer</body></html>")
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>made by a test</Message><RequestId>PROXY0000000</RequestId></Error>`, code)
}

// drop ends the connection with a reset.
func drop(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic("bug: " + err.Error())
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// Rule says which requests get a fault.
type Rule struct {
	Match func(*http.Request) bool // nil: every request
	Skip  int                      // so many matching requests pass first
	Times int                      // so many get the fault; 0: one, below 0: all
	Fault Fault
}

type rule struct {
	Rule
	used int
}

// Proxy is a server on loopback that stands before another one. Safe for concurrent use.
type Proxy struct {
	URL string // of the proxy

	target *url.URL
	client *http.Client
	closed chan struct{}

	mu    sync.Mutex
	rules []*rule  // guarded by mu
	asked []string // guarded by mu
	hit   int      // guarded by mu
}

// New starts a proxy before the server at a base URL. It ends with the test.
func New(t testing.TB, target string) *Proxy { return start(t, target, false) }

// NewTLS is New for clients that speak TLS. The certificate is self-signed; a client with
// InsecureSkipVerify takes it.
func NewTLS(t testing.TB, target string) *Proxy { return start(t, target, true) }

func start(t testing.TB, target string, tls bool) *Proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true, ExpectContinueTimeout: time.Second, ResponseHeaderTimeout: time.Minute}
	p := &Proxy{
		target: u, closed: make(chan struct{}),
		client: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	server := httptest.NewUnstartedServer(p) // on loopback, and it waits for its handlers
	if tls {
		server.StartTLS()
	} else {
		server.Start()
	}
	p.URL = server.URL
	t.Cleanup(func() {
		close(p.closed)
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// Inject adds a rule. Rules are tried in the order in which they came; the first that matches is used.
func (p *Proxy) Inject(r Rule) {
	if r.Times == 0 {
		r.Times = 1
	}
	p.mu.Lock()
	p.rules = append(p.rules, &rule{Rule: r})
	p.mu.Unlock()
}

// Clear removes all rules, and forgets what was asked.
func (p *Proxy) Clear() {
	p.mu.Lock()
	p.rules, p.asked, p.hit = nil, nil, 0
	p.mu.Unlock()
}

// Hits is the number of requests that got a fault since the last Clear.
func (p *Proxy) Hits() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hit
}

// Asked lists the requests since the last Clear: the names of S3 operations, or method and path.
func (p *Proxy) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.asked...)
}

func (p *Proxy) choose(r *http.Request) (Fault, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := Operation(r)
	if name == "" {
		name = r.Method + " " + r.URL.Path
	}
	p.asked = append(p.asked, name)
	for _, rule := range p.rules {
		if rule.Match != nil && !rule.Match(r) {
			continue
		}
		if rule.Skip > 0 {
			rule.Skip--
			continue
		}
		if rule.Times >= 0 && rule.used >= rule.Times {
			continue
		}
		rule.used++
		p.hit++
		return rule.Fault, true
	}
	return Fault{}, false
}

// ServeHTTP passes a request on, or does what a rule says.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f, ok := p.choose(r); ok {
		f.do(p, w, r)
		return
	}
	p.pass(w, r)
}

func (p *Proxy) pass(w http.ResponseWriter, r *http.Request) {
	a, err := p.ask(r, r.Body, r.ContentLength)
	if err != nil {
		drop(w)
		return
	}
	a.write(w)
}

// answer is what the server said. Answers are small but for objects, which tests read elsewhere.
type answer struct {
	status int
	header http.Header
	body   []byte
	length string // Content-Length of the answer to a HEAD
}

func (a answer) write(w http.ResponseWriter) {
	for k, v := range a.header {
		w.Header()[k] = v
	}
	if a.length != "" {
		w.Header().Set("Content-Length", a.length)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// ask sends a request with this body to the server.
func (p *Proxy) ask(r *http.Request, body io.Reader, length int64) (answer, error) {
	// Not the client's context: a server finishes what it has begun when its client goes away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), time.Minute)
	defer cancel()
	u := *r.URL
	u.Scheme, u.Host = p.target.Scheme, p.target.Host
	out := &http.Request{Method: r.Method, URL: &u, Host: r.Host, Header: r.Header.Clone(), ContentLength: length}
	out = out.WithContext(ctx)
	for _, hop := range []string{"Connection", "Expect", "Keep-Alive", "Te", "Transfer-Encoding", "Upgrade"} {
		out.Header.Del(hop)
	}
	if out.Header.Get("User-Agent") == "" {
		out.Header["User-Agent"] = nil // none, and not Go's
	}
	if length != 0 && body != nil {
		out.Body = io.NopCloser(body)
	}
	res, err := p.client.Do(out)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: res.StatusCode, header: res.Header, body: b}
	a.header.Del("Connection")
	a.header.Del("Transfer-Encoding")
	if r.Method == http.MethodHead {
		a.length = res.Header.Get("Content-Length")
	}
	return a, nil
}
