package directput

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"github.com/aws/smithy-go"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"hydrant/access"
)

// keyed is a handler that asks for keys: each may do one thing with streams that begin with clicks.
func keyed(t *testing.T, s *store, change ...func(*Options)) (*Handler, *access.Rejections) {
	t.Helper()
	var c access.Credentials
	for _, a := range access.Actions() {
		c.AccessKeys = append(c.AccessKeys, access.AccessKey{ID: "KEY-" + string(a), Secret: func() (string, error) { return "secret-" + string(a), nil },
			Grant: access.Grant{Streams: []string{"clicks*"}, Actions: []access.Action{a}}})
		c.Tokens = append(c.Tokens, access.Token{Name: string(a), Value: func() (string, error) { return "token-" + string(a), nil },
			Grant: access.Grant{Streams: []string{"clicks*"}, Actions: []access.Action{a}}})
	}
	rejected := access.NewRejections(slog.New(slog.DiscardHandler))
	g, err := access.New(access.Options{Credentials: c, Rejected: rejected, Identity: func() (string, string) { return "123456789012", "eu-west-1" }})
	if err != nil {
		t.Fatal(err)
	}
	return newHandler(t, s, append(change, func(o *Options) { o.Access = g })...), rejected
}

// as is the SDK's client with a key.
func as(srv *httptest.Server, action, secret string) *firehose.Client {
	return firehose.New(firehose.Options{BaseEndpoint: aws.String(srv.URL), Region: "eu-west-1", HTTPClient: srv.Client(), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("KEY-"+action, secret, "")})
}

func TestSDKWithKeys(t *testing.T) {
	s := newStore(t, "clicks", "clicks-eu", "views")
	p := &plane{answer: `{}`}
	h, _ := keyed(t, s, func(o *Options) { o.Control = p })
	srv := server(t, h)
	put := func(action, secret, stream string) error {
		_, err := as(srv, action, secret).PutRecord(t.Context(), &firehose.PutRecordInput{DeliveryStreamName: &stream, Record: &types.Record{Data: []byte("a")}})
		return err
	}
	denied := func(operation, stream string) string {
		return " is not authorized to perform: firehose:" + operation + " on resource: arn:aws:firehose:eu-west-1:123456789012:deliverystream/" + stream
	}
	for _, c := range []struct {
		name, action, secret, stream, code, message string
	}{
		{"right", "put", "secret-put", "clicks", "", ""},
		{"another stream of the glob", "put", "secret-put", "clicks-eu", "", ""},
		{"wrong secret", "put", "secret-pux", "clicks", "InvalidSignatureException", "The request signature we calculated does not match"},
		{"wrong stream", "put", "secret-put", "views", "AccessDeniedException", denied("PutRecord", "views")},
		{"a stream that is not there", "put", "secret-put", "nowhere", "AccessDeniedException", denied("PutRecord", "nowhere")},
		{"a stream that is not there, of the glob", "put", "secret-put", "clicks-us", "ResourceNotFoundException", "clicks-us"},
		{"wrong action", "read", "secret-read", "clicks", "AccessDeniedException", denied("PutRecord", "clicks")},
		{"unknown key", "none", "secret", "clicks", "UnrecognizedClientException", "The security token included in the request is invalid."},
	} {
		err := put(c.action, c.secret, c.stream)
		e, ok := errors.AsType[smithy.APIError](err)
		if c.code == "" && err != nil || c.code != "" && (!ok || e.ErrorCode() != c.code || !strings.Contains(e.ErrorMessage(), c.message)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if n := len(s.calls); n != 2 {
		t.Errorf("%d calls were stored, want 2", n)
	}
	if sum := sha256.Sum256([]byte("KEY-put")); !bytes.HasPrefix(sum[:], s.calls[0].call.KeyHash[:]) {
		t.Error("calls are not told apart by the key that was proven")
	}
	// Lists show what may be read.
	list, err := as(srv, "read", "secret-read").ListDeliveryStreams(t.Context(), &firehose.ListDeliveryStreamsInput{})
	if err != nil || strings.Join(list.DeliveryStreamNames, " ") != "clicks clicks-eu" || *list.HasMoreDeliveryStreams {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := as(srv, "read", "secret-read").DescribeDeliveryStream(t.Context(), &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: aws.String("clicks")}); err != nil {
		t.Error(err)
	}
	for _, f := range []func() error{
		func() error {
			_, err := as(srv, "put", "secret-put").ListDeliveryStreams(t.Context(), &firehose.ListDeliveryStreamsInput{})
			return err
		},
		func() error {
			_, err := as(srv, "read", "secret-read").DescribeDeliveryStream(t.Context(), &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: aws.String("views")})
			return err
		},
	} {
		if e, ok := errors.AsType[smithy.APIError](f()); !ok || e.ErrorCode() != "AccessDeniedException" {
			t.Errorf("%v", e)
		}
	}
	if _, err := as(srv, "admin", "secret-admin").DeleteDeliveryStream(t.Context(), &firehose.DeleteDeliveryStreamInput{DeliveryStreamName: aws.String("clicks")}); err != nil || p.operation != "DeleteDeliveryStream" {
		t.Errorf("%v, %q", err, p.operation)
	}
}

// unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body of a stranger was read into memory")
	return 0, io.EOF
}

// A stranger is refused before memory is asked for.
func TestStrangersCostNothing(t *testing.T) {
	s := newStore(t, "clicks")
	s.admit = func(int64) error { t.Error("memory was admitted for a stranger"); return nil }
	h, rejected := keyed(t, s)
	for _, authorization := range []string{"", "Bearer wrong", "AWS4-HMAC-SHA256 Credential=x"} {
		r := httptest.NewRequest(http.MethodPost, "/", unread{t})
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("X-Amz-Target", targetPrefix+opPutRecord)
		r.Header.Set("Expect", "100-continue")
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest {
			t.Errorf("%q: %d %s", authorization, w.Code, w.Body)
		}
	}
	for reason, want := range map[string]float64{"missing": 1, "token": 1, "incomplete": 1, "denied": 0} {
		if n := testutil.ToFloat64(rejected.WithLabelValues(reason)); n != want {
			t.Errorf("%v rejections for %s, want %v", n, reason, want)
		}
	}
	if n := counted(t, h, "hydrant_put_refused_total", opPutRecord, "access"); n != 3 {
		t.Errorf("%v refusals, want 3", n)
	}
}

func TestTokensAndPresignedRequests(t *testing.T) {
	s := newStore(t, "clicks")
	h, _ := keyed(t, s)
	const body = `{"DeliveryStreamName":"clicks","Record":{"Data":"YQ=="}}`
	if w := post(t, h, opPutRecord, body, "Authorization", "Bearer token-put"); w.Code != http.StatusOK {
		t.Errorf("bearer: %d %s", w.Code, w.Body)
	}
	if w := post(t, h, opPutRecord, body, "Authorization", "Bearer token-read"); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "user/read is not authorized") {
		t.Errorf("bearer: %d %s", w.Code, w.Body)
	}
	r := httptest.NewRequest(http.MethodPost, "http://h/?X-Amz-Expires=60&X-Amz-Target="+targetPrefix+opPutRecord, strings.NewReader(body))
	r.RequestURI = ""
	sum := sha256.Sum256([]byte(body))
	url, _, err := v4.NewSigner().PresignHTTP(context.Background(), aws.Credentials{AccessKeyID: "KEY-put", SecretAccessKey: "secret-put"}, r, hex.EncodeToString(sum[:]), "firehose", "eu-west-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{body: http.StatusOK, strings.Replace(body, "YQ", "YR", 1): http.StatusBadRequest} {
		r := httptest.NewRequest(http.MethodPost, url, strings.NewReader(text))
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("presigned, %s: %d %s", text, w.Code, w.Body)
		}
	}
}

// Calls that change streams are written down, whatever came of them, and others are not.
func TestAuditLines(t *testing.T) {
	var log bytes.Buffer
	p := &plane{answer: `{}`}
	h, _ := keyed(t, newStore(t, "clicks"), func(o *Options) {
		o.Control = asking{p}
		o.Audit = access.Audit{Log: slog.New(slog.NewTextHandler(&log, nil))}
	})
	line := func(op, token string) string {
		t.Helper()
		log.Reset()
		w := post(t, h, op, `{"DeliveryStreamName":"clicks"}`, "Authorization", "Bearer token-"+token)
		_, text, _ := strings.Cut(log.String(), "msg=")
		if strings.Count(log.String(), "\n") > 1 || text != "" && !strings.Contains(text, "request_id="+w.Header().Get("x-amzn-RequestId")) || strings.Contains(text, "token-") {
			t.Errorf("log: %s", log.String())
		}
		text, _, _ = strings.Cut(text, " request_id")
		return text
	}
	f := func(op, token, want string) {
		t.Helper()
		if got := line(op, token); got != want {
			t.Errorf("%s as %s:\n got %s\nwant %s", op, token, got, want)
		}
	}
	f("DeleteDeliveryStream", "admin", `"administrative call" key=admin action=DeleteDeliveryStream stream=clicks outcome=ok`)
	f("DeleteDeliveryStream", "put", `"administrative call" key=put action=DeleteDeliveryStream stream=clicks outcome=AccessDeniedException`)
	if p.sees("clicks") {
		t.Error("a key that may not read sees a stream")
	}
	f("ListTagsForDeliveryStream", "read", "")
	if !p.sees("clicks") || p.sees("views") {
		t.Errorf("a key that may read clicks sees it: %v, and another stream: %v", p.sees("clicks"), p.sees("views"))
	}
	f(opDescribe, "read", "")
	p.err = &ControlError{Status: 400, Code: "ResourceInUseException", Message: "x"}
	f("CreateDeliveryStream", "admin", `"administrative call" key=admin action=CreateDeliveryStream stream=clicks outcome=ResourceInUseException`)
	p.err = errors.New("broken")
	f("CreateDeliveryStream", "admin", `"administrative call" key=admin action=CreateDeliveryStream stream=clicks outcome=InternalFailure`)
}

// asking asks whether the caller may, as a plane does.
type asking struct{ *plane }

func (a asking) Control(ctx context.Context, operation string, body []byte, allow func(string) error, sees func(string) bool) ([]byte, int, error) {
	if err := allow("clicks"); err != nil {
		return nil, 0, err
	}
	return a.plane.Control(ctx, operation, body, allow, sees)
}
