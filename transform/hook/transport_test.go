package hook

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestLease: a transport that goes on reading the request after it has answered, or failed, gets nothing any more.
func TestLease(t *testing.T) {
	for name, answer := range map[string]*http.Response{"answer": {Body: io.NopCloser(strings.NewReader("x"))}, "too large": {ContentLength: MaxAnswer + 1, Body: http.NoBody}, "failure": nil} {
		var first, again io.ReadCloser
		b := Bounded{Next: roundTrip(func(r *http.Request) (*http.Response, error) {
			first = r.Body
			again, _ = r.GetBody()
			if got, err := io.ReadAll(again); string(got) != "abc" || err != nil {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			again, _ = r.GetBody()
			if answer == nil {
				return nil, io.ErrUnexpectedEOF
			}
			return answer, nil
		})}
		request, err := http.NewRequest("POST", "http://h", bytes.NewReader([]byte("abc")))
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.RoundTrip(request)
		if name == "answer" {
			if n, err := first.Read(make([]byte, 1)); n != 1 || err != nil {
				t.Errorf("while the answer is open: %d, %v", n, err)
			}
			got.Body.Close()
		} else if err == nil {
			t.Errorf("%s: no error", name)
		}
		for _, body := range []io.ReadCloser{first, again} {
			if n, err := body.Read(make([]byte, 1)); n != 0 || err != io.ErrClosedPipe {
				t.Errorf("%s: afterwards %d, %v", name, n, err)
			}
		}
	}
}

// TestBound: an answer of the largest size is read whole, and one byte more is an error that says so.
func TestBound(t *testing.T) {
	for _, size := range []int{MaxAnswer, MaxAnswer + 1} {
		b := Bounded{Next: roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{ContentLength: -1, Body: io.NopCloser(strings.NewReader(strings.Repeat("x", size)))}, nil
		})}
		request, err := http.NewRequest("POST", "http://h", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := b.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(answer.Body)
		e, tooLarge := errors.AsType[*Error](err)
		if size == MaxAnswer && (len(got) != size || err != nil) || size > MaxAnswer && (!tooLarge || !e.TooLarge || len(got) > MaxAnswer) {
			t.Errorf("%d bytes: %d read, %v", size, len(got), err)
		}
	}
}
