package kinesis

import (
	"io"
	"net/http"
)

// PlainBodies hides the WriteTo of requests' bodies. The SDK closes a body as soon as an answer begins, and its WriteTo says
// io.EOF then: net/http would take that for a request that could not be sent, and end the connection before the answer is read.
func PlainBodies(next http.RoundTripper) http.RoundTripper { return plainBodies{next} }

type plainBodies struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (p plainBodies) RoundTrip(q *http.Request) (*http.Response, error) {
	if q.Body != nil && q.Body != http.NoBody {
		plain := *q
		plain.Body = struct{ io.ReadCloser }{q.Body}
		q = &plain
	}
	return p.next.RoundTrip(q)
}
