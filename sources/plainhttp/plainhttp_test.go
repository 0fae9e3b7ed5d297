package plainhttp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"hydrant/access"
	"hydrant/buffer"
	"hydrant/record"
	"hydrant/sources"
)

const (
	accepted2 = `{"accepted":2,"failed":[]}`
	notFound  = `{"code":"UnknownOperationException","message":"There is nothing under this path. Records go to POST /v1/streams/{name}/records."}`
	refused   = `{"code":"ServiceUnavailableException","message":"Slow down."}`
)

func TestPut(t *testing.T) {
	s := &store{t: t}
	h := newHandler(t, s)
	f := func(media, body string, want []string, headers ...string) {
		t.Helper()
		w := post(t, h, media, body, headers...)
		if got := s.taken(); w.Code != 200 || w.Body.String() != accepted2 || !slices.Equal(got, want) {
			t.Errorf("%s %q: %d %s, stored %q, want %q", media, body, w.Code, w.Body, got, want)
		}
	}
	ab := []string{`{"a": 1}`, `{"b":2}`}
	const text, list = "{\"a\": 1}\r\n\n{\"b\":2}\n", "[\n {\"a\": 1} , {\"b\":2} ]"
	for _, media := range []string{"application/x-ndjson", "application/ndjson", "application/jsonl", "Application/X-NDJSON; Charset=UTF-8"} {
		f(media, text, ab)
	}
	f("application/json", list, ab)
	f("application/json; charset=utf-8", list, ab, "Content-Encoding", "identity")
	f("application/x-ndjson", gzipOf(t, text), ab, "Content-Encoding", "gzip")
	f("application/x-ndjson", gzipOf(t, text[:9], text[9:]), ab, "Content-Encoding", "X-Gzip")
	f("application/json", gzipOf(t, list), ab, "Content-Encoding", "gzip")
	f("application/x-ndjson", zstdOf(t, text), ab, "Content-Encoding", "zstd")
	f("application/x-ndjson", zstdOf(t, text[:9], text[9:]), ab, "Content-Encoding", "ZSTD")
	f("application/json", zstdStream(t, list), ab, "Content-Encoding", "zstd")
	for name, want := range map[string]float64{"hydrant_incoming_records_total": 24, "hydrant_incoming_bytes_total": 12 * 15, "hydrant_put_request_seconds": 12, "hydrant_throttled_records_total": 0} {
		if got := counted(t, h, name, map[string]string{"stream": "s", "operation": "plain_http"}); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	s := &store{t: t}
	h := newHandler(t, s)
	f := func(status int, reason, want string, w *httptest.ResponseRecorder, headers ...string) {
		t.Helper()
		if w.Code != status || w.Body.String() != want || len(s.taken()) > 0 {
			t.Errorf("%d %s\nwant %d %s", w.Code, w.Body, status, want)
		}
		for i := 0; i < len(headers); i += 2 {
			if got := w.Header().Get(headers[i]); got != headers[i+1] {
				t.Errorf("%s: %q, want %q", headers[i], got, headers[i+1])
			}
		}
		if got := counted(t, h, "hydrant_put_refused_total", map[string]string{"operation": "plain_http", "reason": reason}); got < 1 {
			t.Errorf("refusals for %s: %v", reason, got)
		}
	}
	request := func(method, path, body string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", mediaNDJSON)
		return serve(t, h, r)
	}
	for _, path := range []string{"/v1/", "/v1/streams/s", "/v1/streams//records", "/v1/streams/s/records/", "/v1/streams/a/b/records", "/v1/records"} {
		f(404, "unknown_operation", notFound, request("POST", path, "a"))
	}
	for _, method := range []string{"GET", "PUT", "DELETE", "OPTIONS"} {
		f(405, "unknown_operation", `{"code":"UnknownOperationException","message":"Records are sent with POST."}`, request(method, "/v1/streams/s/records", ""), "Allow", "POST")
	}
	f(404, "not_found", `{"code":"ResourceNotFoundException","message":"There is no stream \"nowhere\"."}`, request("POST", "/v1/streams/nowhere/records", "a"))
	f(404, "not_found", `{"code":"ResourceNotFoundException","message":"There is no stream \"\\\"\\n\"."}`, request("POST", "/v1/streams/%22%0a/records", "a"))
	f(404, "inactive", `{"code":"ResourceNotFoundException","message":"Stream leaving takes no records any more: it was deleted or taken out of the configuration, and only what it holds is still delivered."}`,
		request("POST", "/v1/streams/leaving/records", "a"))
	f(400, "invalid_argument", `{"code":"InvalidArgumentException","message":"Stream read takes its records from kafka: write them there, or put them to a stream without a source."}`,
		request("POST", "/v1/streams/read/records", "a"))

	for _, media := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "application/x-amz-json-1.1", "application/json;;", "application/json, application/json"} {
		shown := strings.ReplaceAll(media, `"`, `\"`)
		f(415, "content_type", `{"code":"UnsupportedMediaTypeException","message":"The Content-Type \"`+shown+`\" is not supported. Send application/x-ndjson with a record a line, or application/json with an array."}`,
			post(t, h, media, "a"), "Accept", "application/x-ndjson, application/json", "Accept-Encoding", "gzip, zstd, identity")
	}
	for _, c := range []string{"br", "gzip, gzip", "deflate", "gzip,zstd"} {
		f(415, "content_type", `{"code":"UnsupportedMediaTypeException","message":"The Content-Encoding \"`+c+`\" is not supported. Use gzip, zstd or none."}`,
			post(t, h, mediaNDJSON, "a", "Content-Encoding", c))
	}
	f(415, "content_type", `{"code":"UnsupportedMediaTypeException","message":"The Content-Encoding \"gzip, gzip\" is not supported. Use gzip, zstd or none."}`,
		post(t, h, mediaNDJSON, "a", "Content-Encoding", "gzip", "Content-Encoding", "gzip"))
	f(400, "invalid_argument", `{"code":"InvalidArgumentException","message":"The body has no records."}`, post(t, h, mediaNDJSON, ""))
	f(400, "serialization", `{"code":"SerializationException","message":"The body is not valid JSON: at byte 3 there is ']', expected a value."}`, post(t, h, mediaJSON, "[1,]"))
	f(413, "too_large", `{"code":"RecordTooLargeException","message":"Each record of the body is longer than 1024000 bytes."}`, post(t, h, mediaNDJSON, strings.Repeat("x", MaxRecordBytes+1)))
	f(413, "too_large", `{"code":"RequestEntityTooLargeException","message":"The body has more than 10000 records. Send them in several requests."}`, post(t, h, mediaNDJSON, strings.Repeat("x\n", MaxRecords+1)))

	for _, key := range []string{"", strings.Repeat("k", MaxKeyBytes+1)} {
		if w := post(t, h, mediaNDJSON, "a", "Idempotency-Key", key); w.Code != 400 || !strings.Contains(w.Body.String(), "Idempotency-Key") || len(s.taken()) > 0 {
			t.Errorf("a key of %d bytes: %d %s", len(key), w.Code, w.Body)
		}
	}
	f(400, "invalid_argument", `{"code":"InvalidArgumentException","message":"The header Idempotency-Key is there 2 times. Send one."}`,
		post(t, h, mediaNDJSON, "a", "Idempotency-Key", "x", "Idempotency-Key", "x"))
	if w := post(t, h, mediaNDJSON, "a", "Idempotency-Key", strings.Repeat("k", MaxKeyBytes)); w.Code != 200 || len(s.taken()) != 1 {
		t.Errorf("the longest key: %d %s", w.Code, w.Body)
	}

	for _, reason := range []string{"memory", "disk", "journal", "stopping", "failing"} {
		s.refuse = &record.Refusal{Reason: reason, Message: "The disk is full."}
		f(503, reason, `{"code":"ServiceUnavailableException","message":"Slow down. The disk is full."}`, post(t, h, mediaNDJSON, "a\nb"), "Retry-After", "1")
	}
	s.refuse = errors.New("a secret fault")
	f(500, "internal", `{"code":"InternalFailure","message":"The request failed. Its records may or may not have been stored."}`, post(t, h, mediaNDJSON, "a"))
	s.refuse = context.Canceled
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequest("POST", "/v1/streams/s/records", strings.NewReader("a")).WithContext(gone)
	r.Header.Set("Content-Type", mediaNDJSON)
	f(500, "canceled", `{"code":"InternalFailure","message":"The request failed. Its records may or may not have been stored."}`, serve(t, h, r))
	s.refuse = nil
	s.admit = func(int64) error { return &record.Refusal{Reason: "memory", Message: "No memory."} }
	f(503, "memory", `{"code":"ServiceUnavailableException","message":"Slow down. No memory."}`, post(t, h, mediaNDJSON, "a"), "Retry-After", "1")
	if got := counted(t, h, "hydrant_throttled_records_total", map[string]string{"stream": "s"}); got != 10 {
		t.Errorf("%v records were throttled, want 10", got)
	}
	if got := counted(t, h, "hydrant_incoming_records_total", map[string]string{"stream": "s"}); got != 1 {
		t.Errorf("%v records came in, want 1", got)
	}
}

// turnstile is Limits and a Limiter that lets a number of records pass.
type turnstile struct{ pass int }

func (l *turnstile) Limiter(string) record.Limiter { return l }
func (l *turnstile) Take(b *record.Batch) int {
	n := min(l.pass, b.Count())
	l.pass -= n
	return n
}
func (l *turnstile) Return(records int, _ int64) { l.pass += records }

// TestRateLimits: what a stream's limits keep back is among the failed, and a request of which nothing passes is
// refused as a whole.
func TestRateLimits(t *testing.T) {
	s, l := &store{t: t}, &turnstile{pass: 3}
	h := newHandler(t, s, func(o *Options) { o.Limits = l })
	f := func(body string, status int, want string, stored ...string) {
		t.Helper()
		w := post(t, h, mediaNDJSON, body)
		if got := s.taken(); w.Code != status || w.Body.String() != want || !slices.Equal(got, stored) {
			t.Errorf("%d %s, stored %q", w.Code, w.Body, got)
		}
		if (w.Header().Get("Retry-After") == "1") != (status == 503) {
			t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
		}
	}
	f("a\nb", 200, accepted2, "a", "b")
	f("c\nd\ne", 200, `{"accepted":1,"failed":[{"index":1,"code":"ServiceUnavailableException","message":"Slow down."},{"index":2,"code":"ServiceUnavailableException","message":"Slow down."}]}`, "c")
	f("d\ne", 503, refused)
	for name, want := range map[string]float64{"hydrant_incoming_records_total": 3, "hydrant_throttled_records_total": 4} {
		if got := counted(t, h, name, map[string]string{"stream": "s"}); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if got := counted(t, h, "hydrant_put_refused_total", map[string]string{"operation": "plain_http", "reason": "rate"}); got != 1 {
		t.Errorf("%v requests were refused for their rate", got)
	}
}

// TestIdempotencyKey, over a real journal.
func TestIdempotencyKey(t *testing.T) {
	dir := t.TempDir()
	l := &turnstile{pass: 100}
	open := func() (*buffer.Buffer, *Handler, uint32) {
		x, err := buffer.Open(buffer.Options{Dir: dir, SlotSize: 1 << 20, Slots: 4})
		if err != nil {
			t.Fatal(err)
		}
		in, err := x.Define(buffer.Stream{Name: "s"})
		if err != nil {
			t.Fatal(err)
		}
		return x, newHandler(t, nil, func(o *Options) { o.Appender, o.Admitter, o.Limits = x, sources.NewShares(x), l }), in.Incarnation
	}
	x, h, incarnation := open()
	defer func() { x.Close() }()
	f := func(media, body string, status int, want string, stored int64, headers ...string) {
		t.Helper()
		before := x.Consumer(incarnation, buffer.Main).Totals().Accepted
		w := post(t, h, media, body, headers...)
		if w.Code != status || w.Body.String() != want {
			t.Errorf("%d %s\nwant %d %s", w.Code, w.Body, status, want)
		}
		if got := x.Consumer(incarnation, buffer.Main).Totals().Accepted - before; got != stored {
			t.Errorf("%d records were stored, want %d", got, stored)
		}
		if got, want := w.Header().Get("Idempotent-Replayed") != "", status == 200 && stored == 0; got != want {
			t.Errorf("replayed: %v, want %v", got, want)
		}
	}
	const another = `{"code":"IdempotentParameterMismatchException","message":"This Idempotency-Key was sent with another body less than 5 minutes ago. Draw a new key for each new request."}`
	const some = `{"accepted":1,"failed":[{"index":1,"code":"ServiceUnavailableException","message":"Slow down."}]}`
	key, limited := []string{"Idempotency-Key", "one"}, []string{"Idempotency-Key", "two"}
	compressed := []string{"Idempotency-Key", "one", "Content-Encoding", "gzip"}
	f(mediaNDJSON, "a\nb", 200, accepted2, 2, key...)
	l.pass = 1
	f(mediaNDJSON, "a\nb", 200, some, 1, limited...)
	for _, pass := range []int{0, 100} { // in the second round after a restart
		l.pass = pass
		f(mediaNDJSON, "a\nb", 200, accepted2, 0, key...)
		f(mediaNDJSON, gzipOf(t, "a\nb"), 200, accepted2, 0, compressed...) // the same records
		f(mediaNDJSON, "a\nc", 422, another, 0, key...)
		f(mediaJSON, "[1,2]", 422, another, 0, key...)
		f(mediaNDJSON, "a\nb", 200, some, 0, limited...)
		if pass == 0 {
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			x, h, incarnation = open()
		}
	}
	f(mediaNDJSON, "a\nb", 200, accepted2, 2, "Idempotency-Key", "three")
	f(mediaJSON, "[1,2]", 200, accepted2, 2, "Idempotency-Key", "form")
	f(mediaNDJSON, "[1,2]", 422, another, 0, "Idempotency-Key", "form") // the same bytes, and other records
	f(mediaNDJSON, "a\nb", 200, accepted2, 2)
	f(mediaNDJSON, "a\nb", 200, accepted2, 2) // without a key nothing is recognised
	l.pass = 0
	f(mediaNDJSON, "a\nb", 503, refused, 0, "Idempotency-Key", "four")
	l.pass = 2
	f(mediaNDJSON, "a\nc", 200, accepted2, 2, "Idempotency-Key", "four") // of a refused request nothing is kept
}

// TestAccess: a token that may put to a stream, and everything else.
func TestAccess(t *testing.T) {
	token := func(name, value, glob string, actions ...access.Action) access.Token {
		return access.Token{Name: name, Value: func() (string, error) { return value, nil }, Grant: access.Grant{Streams: []string{glob}, Actions: actions}}
	}
	guard, err := access.New(access.Options{Credentials: access.Credentials{Tokens: []access.Token{
		token("puts", "token-of-one-that-puts", "s*", access.Put), token("reads", "token-of-one-that-reads", "*", access.Read), token("others", "token-for-other-streams", "x*", access.Put),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	s := &store{t: t}
	h := newHandler(t, s, func(o *Options) { o.Access = guard })
	f := func(status int, code string, headers ...string) {
		t.Helper()
		w := post(t, h, mediaNDJSON, "a\nb", headers...)
		if w.Code != status || !strings.Contains(w.Body.String(), code) || (status == 200) != (len(s.taken()) == 2) {
			t.Errorf("%q: %d %s", headers, w.Code, w.Body)
		}
		if (w.Header().Get("WWW-Authenticate") != "") != (status == 401) {
			t.Errorf("WWW-Authenticate %q", w.Header().Get("WWW-Authenticate"))
		}
	}
	f(200, "", "Authorization", "Bearer token-of-one-that-puts")
	f(401, "MissingAuthenticationToken")
	f(401, "", "Authorization", "Bearer token-of-one-that-put")
	f(403, "AccessDenied", "Authorization", "Bearer token-of-one-that-reads")
	f(403, "AccessDenied", "Authorization", "Bearer token-for-other-streams")
	// A stranger's body is not read.
	r := httptest.NewRequest(http.MethodPost, "/v1/streams/s/records", unread{t})
	r.Header.Set("Content-Type", mediaNDJSON)
	r.Header.Set("Expect", "100-continue")
	if w := serve(t, h, r); w.Code != 401 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestSignedRequests: what curl --aws-sigv4 and presigned URLs do. The signature is over the body as it comes.
func TestSignedRequests(t *testing.T) {
	guard, err := access.New(access.Options{Credentials: access.Credentials{AccessKeys: []access.AccessKey{
		{ID: "AKIDPUTS", Secret: func() (string, error) { return "secret of one that puts", nil }, Grant: access.Grant{Streams: []string{"s"}, Actions: []access.Action{access.Put}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	s := &store{t: t}
	h := newHandler(t, s, func(o *Options) { o.Access = guard })
	body := gzipOf(t, "a\nb\n")
	request := func(body string) *http.Request {
		r := httptest.NewRequest(http.MethodPost, "/v1/streams/s/records", strings.NewReader(body))
		r.Header.Set("Content-Type", mediaNDJSON)
		r.Header.Set("Content-Encoding", "gzip")
		return r
	}
	sum := sha256.Sum256([]byte(body))
	key := aws.Credentials{AccessKeyID: "AKIDPUTS", SecretAccessKey: "secret of one that puts"}
	for name, sign := range map[string]func(r *http.Request) error{
		"header": func(r *http.Request) error {
			return v4.NewSigner().SignHTTP(t.Context(), key, r, hex.EncodeToString(sum[:]), "firehose", "us-east-1", time.Now())
		},
		"presigned": func(r *http.Request) error {
			r.URL.RawQuery = "X-Amz-Expires=60"
			signed, _, err := v4.NewSigner().PresignHTTP(t.Context(), key, r, hex.EncodeToString(sum[:]), "firehose", "us-east-1", time.Now())
			if err != nil {
				return err
			}
			r.URL, err = url.Parse(signed)
			return err
		},
	} {
		for sent, want := range map[string]int{body: 200, gzipOf(t, "a\nc\n"): 401} {
			r := request(sent)
			if err := sign(r); err != nil {
				t.Fatal(err)
			}
			r.ContentLength = int64(len(sent))
			if w := serve(t, h, r); w.Code != want || len(s.taken()) != map[int]int{200: 2}[want] {
				t.Errorf("%s: %d %s, want %d", name, w.Code, w.Body, want)
			}
		}
	}
}

// unread is a body that nobody should read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body is read")
	return 0, errors.New("read")
}

func TestOptions(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("a handler without an Appender")
	}
}
