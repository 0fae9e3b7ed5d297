package access

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// rejectionPause is the time between two log lines of one reason.
const rejectionPause = time.Minute

// Rejections counts refused requests and writes of each reason at most one line a minute. One serves all
// listeners. It is a collector of its metric and safe for concurrent use.
type Rejections struct {
	*prometheus.CounterVec
	log *slog.Logger

	mu   sync.Mutex
	said map[string]*rejection // by reason
}

type rejection struct {
	at      time.Time // of the last line
	skipped int       // since then
}

// NewRejections returns one that has counted nothing.
func NewRejections(log *slog.Logger) *Rejections {
	r := &Rejections{log: log, said: map[string]*rejection{}, CounterVec: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hydrant_rejected_requests_total", Help: "Requests that were refused because of who sent them.",
	}, []string{"reason"})}
	for _, reason := range reasons() {
		r.WithLabelValues(reason)
	}
	return r
}

// note counts an error and returns it.
func (r *Rejections) note(remote string, e *Error) error {
	r.WithLabelValues(e.Reason).Inc()
	now := time.Now()
	r.mu.Lock()
	last := r.said[e.Reason]
	if last == nil {
		last = &rejection{}
		r.said[e.Reason] = last
	}
	if !last.at.IsZero() && now.Sub(last.at) < rejectionPause {
		last.skipped++
		r.mu.Unlock()
		return e
	}
	skipped := last.skipped
	last.at, last.skipped = now, 0
	r.mu.Unlock()
	r.log.Warn("a request was refused because of who sent it", "reason", e.Reason, "code", e.Code, "said", e.Message,
		"key", printable(e.Claimed), "remote", remote, "more_since_last_line", skipped)
	return e
}

// Event is one administrative call.
type Event struct {
	Caller    string // access key id, token name or anonymous
	Operation string
	Stream    string // "" where the request does not say it
	Outcome   string // "ok" or the code of the error
	RequestID string
	Remote    string
}

// Audit writes one line for each administrative call. The zero one writes nothing.
type Audit struct{ Log *slog.Logger }

// Record writes the line of a call that has ended.
func (a Audit) Record(ctx context.Context, e Event) {
	if a.Log == nil {
		return
	}
	a.Log.InfoContext(ctx, "administrative call", "key", e.Caller, "action", e.Operation, "stream", e.Stream,
		"outcome", e.Outcome, "request_id", e.RequestID, "remote", e.Remote)
}

// IsAdministrative tells whether calls of an operation are written down.
func IsAdministrative(operation string) bool { return operations[operation] == Admin }
