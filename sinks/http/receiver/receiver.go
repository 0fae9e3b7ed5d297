// Package receiver is an endpoint of Amazon Data Firehose's HTTP delivery protocol, version 1.0, for tests: it takes
// nothing at all on trust. Requests flow in; out flow the records that it was sent, in the order in which it took them, and
// every rule that a request broke. What it has outlives whoever sends to it.
package receiver

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Rules are what a receiver expects beyond the protocol.
type Rules struct {
	AccessKey  string            // "": none may be sent
	ARN        string            // "": any ARN of a stream
	Attributes map[string]string // the common attributes
	Gzip       bool              // bodies are compressed
	// AnyBody: bodies are not looked at, and ids may be any text.
	AnyBody bool
	// Plain: the body is no Firehose document, and the id comes as Idempotency-Key. Bodies are kept as they are.
	Plain bool
	// MaxBody is the most bytes of a body before compression that are taken; a larger one is answered with 413. 0: 64 MiB.
	MaxBody int
	// Header are further headers that requests must have.
	Header map[string]string
}

// Fault is what happens to a request instead of its usual answer.
type Fault struct {
	Store bool // the records are taken before it happens
	// Answer writes what is answered; nil: the connection is cut.
	Answer func(w http.ResponseWriter, requestID string)
}

// Request is one that was taken.
type Request struct {
	ID      string
	Sum     [32]byte // of the body as it was sent
	Sent    []byte   // with AnyBody and Plain: the body, expanded
	Records [][]byte
	Times   int // that it was taken
	Header  http.Header
}

// Receiver is the endpoint. Safe for concurrent use.
type Receiver struct {
	*httptest.Server
	rules Rules

	mu       sync.Mutex // guards what follows
	fault    func(attempt int, requestID string) *Fault
	attempts int
	requests []*Request // in the order in which they were first taken
	byID     map[string]*Request
	seen     map[string][32]byte // what was ever sent under an id, taken or not
	arrivals []time.Time
	broken   []string
}

// New starts a receiver that ends with the test.
func New(t testing.TB, rules Rules) *Receiver {
	r := NewUnstarted(rules)
	r.Start()
	t.Cleanup(r.Server.Close)
	return r
}

// NewUnstarted makes a receiver whose server is to be configured and started.
func NewUnstarted(rules Rules) *Receiver {
	if rules.MaxBody == 0 {
		rules.MaxBody = 64 << 20
	}
	r := &Receiver{rules: rules, byID: map[string]*Request{}, seen: map[string][32]byte{}}
	r.Server = httptest.NewUnstartedServer(r)
	return r
}

// Inject makes f decide what happens to each request from now on: nil for the usual. attempt counts from 1.
func (r *Receiver) Inject(f func(attempt int, requestID string) *Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault, r.attempts = f, 0
}

// Requests that were taken, in their order.
func (r *Receiver) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Request, len(r.requests))
	for i, q := range r.requests {
		out[i] = *q
	}
	return out
}

// Records that were taken, each request's once.
func (r *Receiver) Records() (all [][]byte) {
	for _, q := range r.Requests() {
		all = append(all, q.Records...)
	}
	return all
}

// Arrivals are the times at which requests arrived.
func (r *Receiver) Arrivals() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.arrivals)
}

// Broken are the rules that requests broke.
func (r *Receiver) Broken() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.broken)
}

// Forget drops what was taken.
func (r *Receiver) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests, r.byID, r.seen, r.arrivals, r.broken = nil, map[string]*Request{}, map[string][32]byte{}, nil, nil
}

var (
	uuidText = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	arnText  = regexp.MustCompile(`^arn:aws:firehose:[a-z0-9-]+:[0-9]{12}:deliverystream/[a-zA-Z0-9_.-]{1,64}$`)
)

// document is the body of a request. Its members stand in this order.
type document struct {
	RequestID string   `json:"requestId"`
	Timestamp int64    `json:"timestamp"`
	Records   []record `json:"records"`
}

type record struct {
	Data *string `json:"data"`
}

// ServeHTTP takes one request.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	now := time.Now()
	sent, err := io.ReadAll(q.Body)
	if err != nil {
		return // the sender has gone: nothing was taken
	}
	id := q.Header.Get("X-Amz-Firehose-Request-Id")
	if r.rules.Plain {
		id = q.Header.Get("Idempotency-Key")
	}
	var faults []string
	broke := func(format string, args ...any) {
		faults = append(faults, fmt.Sprintf("request %s: ", id)+fmt.Sprintf(format, args...))
	}
	body := r.check(q, sent, broke)
	var records [][]byte
	switch {
	case body == nil:
	case r.rules.AnyBody:
	case r.rules.Plain:
		records = [][]byte{body}
	default:
		records = r.document(body, id, broke)
	}
	sum := sha256.Sum256(sent)

	r.mu.Lock()
	r.arrivals = append(r.arrivals, now)
	r.attempts++
	if before, ok := r.seen[id]; ok && before != sum {
		broke("came with other bytes before")
	}
	r.seen[id] = sum
	r.broken = append(r.broken, faults...)
	var fault *Fault
	if r.fault != nil {
		fault = r.fault(r.attempts, id)
	}
	tooLarge := len(body) > r.rules.MaxBody
	if (fault == nil && !tooLarge && len(faults) == 0) || fault != nil && fault.Store {
		taken := r.byID[id]
		if taken == nil {
			taken = &Request{ID: id, Sum: sum, Records: records, Header: q.Header.Clone()}
			if r.rules.AnyBody || r.rules.Plain {
				taken.Sent = body
			}
			r.byID[id] = taken
			r.requests = append(r.requests, taken)
		}
		taken.Times++
	}
	r.mu.Unlock()

	switch {
	case fault != nil && fault.Answer == nil:
		if h, ok := w.(http.Hijacker); ok {
			if conn, _, err := h.Hijack(); err == nil {
				conn.Close()
				return
			}
		}
		panic(http.ErrAbortHandler)
	case fault != nil:
		fault.Answer(w, id)
	case tooLarge:
		Status(http.StatusRequestEntityTooLarge)(w, id)
	case len(faults) > 0:
		Status(http.StatusBadRequest)(w, id)
	default:
		OK(w, id)
	}
}

// check looks at the headers and returns the body, expanded.
func (r *Receiver) check(q *http.Request, sent []byte, broke func(string, ...any)) []byte {
	if q.Method != http.MethodPost {
		broke("method is %s", q.Method)
	}
	if q.ContentLength != int64(len(sent)) {
		broke("Content-Length is %d, and %d bytes came", q.ContentLength, len(sent))
	}
	header := func(name string) string {
		if v := q.Header.Values(name); len(v) > 1 {
			broke("%s comes %d times", name, len(v))
		}
		return q.Header.Get(name)
	}
	want := func(name, value string) {
		if got := header(name); got != value {
			broke("%s is %q, want %q", name, got, value)
		}
	}
	for name, value := range r.rules.Header {
		want(name, value)
	}
	if !r.rules.AnyBody {
		if r.rules.Gzip {
			want("Content-Encoding", "gzip")
		} else if _, there := q.Header["Content-Encoding"]; there {
			broke("Content-Encoding is %q, want none", header("Content-Encoding"))
		}
	}
	if !r.rules.Plain {
		r.protocol(q, header, want, broke)
	} else if id := header("Idempotency-Key"); !uuidText.MatchString(id) {
		broke("Idempotency-Key is %q, no UUID", id)
	}
	if r.rules.AnyBody || header("Content-Encoding") != "gzip" {
		return sent
	}
	z, err := gzip.NewReader(bytes.NewReader(sent))
	if err != nil {
		broke("body is not gzip: %v", err)
		return nil
	}
	body, err := io.ReadAll(z)
	if err != nil {
		broke("body is not gzip: %v", err)
		return nil
	}
	return body
}

// protocol looks at the headers of the protocol.
func (r *Receiver) protocol(q *http.Request, header func(string) string, want func(string, string), broke func(string, ...any)) {
	want("X-Amz-Firehose-Protocol-Version", "1.0")
	if !r.rules.AnyBody {
		want("Content-Type", "application/json")
		if id := header("X-Amz-Firehose-Request-Id"); !uuidText.MatchString(id) {
			broke("X-Amz-Firehose-Request-Id is %q, no UUID", id)
		}
	}
	if arn := header("X-Amz-Firehose-Source-Arn"); r.rules.ARN != "" && arn != r.rules.ARN || !arnText.MatchString(arn) {
		broke("X-Amz-Firehose-Source-Arn is %q, want %q", arn, r.rules.ARN)
	}
	if _, there := q.Header["X-Amz-Firehose-Access-Key"]; there != (r.rules.AccessKey != "") || header("X-Amz-Firehose-Access-Key") != r.rules.AccessKey {
		broke("X-Amz-Firehose-Access-Key is another one")
	}
	var attributes map[string]map[string]string
	text := header("X-Amz-Firehose-Common-Attributes")
	if err := json.Unmarshal([]byte(text), &attributes); err != nil || len(attributes) != 1 || attributes["commonAttributes"] == nil {
		broke("X-Amz-Firehose-Common-Attributes is %q: %v", text, err)
		return
	}
	got := attributes["commonAttributes"]
	same := len(got) == len(r.rules.Attributes)
	for k, v := range r.rules.Attributes {
		same = same && got[k] == v
	}
	if !same {
		broke("common attributes are %v, want %v", got, r.rules.Attributes)
	}
	if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' }) {
		broke("X-Amz-Firehose-Common-Attributes is not ASCII")
	}
}

// document looks at the body and returns its records.
func (r *Receiver) document(body []byte, id string, broke func(string, ...any)) [][]byte {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	var doc document
	if err := d.Decode(&doc); err != nil {
		broke("body is not the document of the protocol: %v", err)
		return nil
	}
	if rest, _ := io.ReadAll(d.Buffered()); len(rest) > 0 {
		broke("%d bytes stand after the document", len(rest))
	}
	if doc.RequestID != id {
		broke("requestId is %q", doc.RequestID)
	}
	if age := time.Since(time.UnixMilli(doc.Timestamp)); age < -time.Minute || age > 24*time.Hour {
		broke("timestamp is %d", doc.Timestamp)
	}
	if n := len(doc.Records); n < 1 || n > 10_000 {
		broke("has %d records", n)
	}
	if len(body) > 64<<20 {
		broke("has a body of %d bytes", len(body))
	}
	var records [][]byte
	for i, rec := range doc.Records {
		if rec.Data == nil || len(*rec.Data) > 1_365_336 {
			broke("record %d has no data, or too much", i)
			continue
		}
		data, err := base64.StdEncoding.Strict().DecodeString(*rec.Data)
		if err != nil {
			broke("record %d: %v", i, err)
		}
		records = append(records, data)
	}
	return records
}

// OK is the answer that says that a request was taken.
func OK(w http.ResponseWriter, id string) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"requestId":%q,"timestamp":%d}`, id, time.Now().UnixMilli())
}

// Status answers with a status and an error message.
func Status(code int) func(http.ResponseWriter, string) {
	return func(w http.ResponseWriter, id string) {
		body := fmt.Sprintf(`{"requestId":%q,"timestamp":%d,"errorMessage":"status %d of a test"}`, id, time.Now().UnixMilli(), code)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(code)
		io.WriteString(w, body)
	}
}
