package kinesis

import (
	"bytes"
	"io"
	"net/http"
	"testing"
)

type writerBody struct{ *bytes.Reader } // has WriteTo

func (writerBody) Close() error { return nil }

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(q *http.Request) (*http.Response, error) { return f(q) }

// A body goes out by Read alone, so that an answer which comes early does not end its connection.
func TestPlainBodies(t *testing.T) {
	var sent io.ReadCloser
	rt := PlainBodies(roundTrip(func(q *http.Request) (*http.Response, error) {
		sent = q.Body
		return &http.Response{}, nil
	}))
	q, err := http.NewRequest("POST", "http://127.0.0.1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rt.RoundTrip(q); err != nil || sent != nil {
		t.Errorf("a request without a body was sent with %v, %v", sent, err)
	}
	body := writerBody{bytes.NewReader([]byte("body"))}
	q.Body = body
	if _, err := rt.RoundTrip(q); err != nil {
		t.Fatal(err)
	}
	if _, ok := sent.(io.WriterTo); ok {
		t.Error("the body was sent with its WriteTo")
	}
	if b, err := io.ReadAll(sent); string(b) != "body" || err != nil {
		t.Errorf("sent %q, %v", b, err)
	}
	if q.Body != body {
		t.Error("the caller's request was changed")
	}
}
