package sources

import "hydrant/record"

// BodyAdmitter reserves memory for n bytes of a request body before they are read, or says *record.Refusal.
// It must be safe for concurrent use.
type BodyAdmitter interface {
	AdmitBody(n int64) (release func(), err error)
}

// Limits knows the rates that streams are limited to. It must be safe for concurrent use.
type Limits interface {
	// Limiter of a stream, or nil where it has no limits.
	Limiter(stream string) record.Limiter
}
