package sources

import "hydrant/record"

// BodyAdmitter reserves memory for n bytes of the body of a request before they are read, or says *record.Refusal. remote
// is the request's RemoteAddr. It must be safe for concurrent use.
type BodyAdmitter interface {
	AdmitBody(remote string, n int64) (release func(), err error)
}

// Limits knows the rates that streams are limited to. It must be safe for concurrent use.
type Limits interface {
	// Limiter of a stream, or nil where it has no limits.
	Limiter(stream string) record.Limiter
}
