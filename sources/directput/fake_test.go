package directput

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hydrant/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stored is a call that a store has kept.
type stored struct {
	stream  string
	call    record.Call // without its batch
	records []string
	first   uint64
}

// store is an Appender, Directory and BodyAdmitter in memory. It checks that batches are laid out as they
// should be, and spoils the buffers that it has adopted, so that somebody who uses them still is found out.
type store struct {
	t       *testing.T
	streams map[string]Description
	adopt   func(call int) bool             // whether the buffer of this call is kept; nil: never
	refuse  error                           // what Append answers, if anything
	admit   func(n int64) error             // what AdmitBody answers
	before  func(ctx context.Context) error // called by Append before anything else

	mu       sync.Mutex
	calls    []stored
	admitted int64 // bytes that are not released
	peak     int64
	next     map[string]uint64
	kept     [][]byte // adopted buffers, all spoiled
}

// spoiled fills buffers that were adopted.
const spoiled = 0xEE

var storeDirectory = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

func newStore(t *testing.T, streams ...string) *store {
	s := &store{t: t, streams: map[string]Description{}, next: map[string]uint64{}}
	for _, name := range streams {
		s.streams[name] = Description{Name: name, Version: 1, Destination: Destination{File: &FileDestination{Path: "/lake"}}}
		s.next[name] = 1
	}
	return s
}

func (s *store) Append(ctx context.Context, stream string, c record.Call) (r record.Receipt, adopted bool, err error) {
	if s.before != nil {
		if err := s.before(ctx); err != nil {
			return r, false, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.streams[stream]; !ok {
		return r, false, &record.NotFound{Stream: stream}
	}
	if s.refuse != nil {
		return r, false, s.refuse
	}
	n, err := record.Check(c.Batch.Encoded())
	if err != nil || n != c.Batch.Count() {
		s.t.Errorf("batch of %d records: %d, %v", c.Batch.Count(), n, err)
	}
	call := stored{stream: stream, call: c}
	call.call.Batch = nil
	r = record.Receipt{Directory: storeDirectory, Incarnation: 7}
	for _, old := range s.calls {
		if old.stream == stream && old.call.Invocation == c.Invocation && c.Invocation != [16]byte{} && old.call.Attempt != c.Attempt &&
			old.call.KeyHash == c.KeyHash && old.call.BodyHash == c.BodyHash {
			r.First, r.Count, r.Repeated = old.first, len(old.records), true
			return r, false, nil
		}
	}
	if c.Limiter != nil {
		if n = c.Limiter.Take(c.Batch); n == 0 {
			return r, false, &record.Refusal{Reason: "rate", Message: "Too fast."}
		}
		c.Batch.Keep(n)
	}
	for data := range record.Records(c.Batch.Encoded()) {
		call.records = append(call.records, string(data))
	}
	r.Count = n
	r.First, call.first = s.next[stream], s.next[stream]
	s.next[stream] += uint64(n)
	s.calls = append(s.calls, call)
	if s.adopt == nil || !s.adopt(len(s.calls)) {
		return r, false, nil
	}
	buf := c.Batch.Buffer()
	buf = buf[:cap(buf)]
	for i := range buf {
		buf[i] = spoiled
	}
	s.kept = append(s.kept, buf)
	return r, true, nil
}

func (s *store) Names() []string {
	var names []string
	for name := range s.streams {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s *store) Describe(name string) (Description, bool) {
	d, ok := s.streams[name]
	return d, ok
}

func (s *store) AdmitBody(remote string, n int64) (release func(), err error) {
	if _, err := netip.ParseAddrPort(remote); err != nil {
		s.t.Errorf("a body of %q: %v", remote, err)
	}
	if s.admit != nil {
		if err := s.admit(n); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admitted += n
	s.peak = max(s.peak, s.admitted)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.admitted -= n
	}, nil
}

// settled checks that everything that was admitted has been given back, and that nobody has written to
// what was adopted.
func (s *store) settled() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.admitted != 0 {
		s.t.Errorf("%d admitted bytes were not released", s.admitted)
	}
	for i, buf := range s.kept {
		if n := bytes.Count(buf, []byte{spoiled}); n != len(buf) {
			s.t.Errorf("adopted buffer %d was written to: %d of %d bytes", i, len(buf)-n, len(buf))
		}
	}
}

func newHandler(t *testing.T, s *store, change ...func(*Options)) *Handler {
	t.Helper()
	o := Options{Appender: s, Directory: s, Admitter: s, AccountID: "123456789012", Region: "eu-west-1"}
	for _, f := range change {
		f(&o)
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.settled)
	return h
}

// server serves h on loopback.
func server(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv
}

// post makes one call without a network.
func post(t *testing.T, h http.Handler, op, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("X-Amz-Target", targetPrefix+op)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if got := w.Header().Get("Content-Type"); got != contentType {
		t.Errorf("%s: Content-Type %q", op, got)
	}
	if got := w.Header().Get("x-amzn-RequestId"); len(got) != 36 {
		t.Errorf("%s: x-amzn-RequestId %q", op, got)
	}
	return w
}

// errorBody is the body of an answer that is not success.
func errorBody(code, message string) string {
	b, err := json.Marshal(map[string]string{"__type": code, "message": message})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// eventually polls for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// loseFirst serves with h, but the first answer does not arrive.
type loseFirst struct {
	h    http.Handler
	lost *atomic.Bool
}

func (l loseFirst) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if l.lost.CompareAndSwap(false, true) {
		l.h.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	l.h.ServeHTTP(w, r)
}
