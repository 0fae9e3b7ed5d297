// Package admin is the listener for operators: metrics, health, a status page and the admin API.
//
// Requests flow in over HTTP, from people, scrapers and probes; what flows out is the state of the streams
// and the metrics, and orders flow to the streams: flush, pause, resume, and
// for a single batch retry and divert. Nothing is kept here, so
// nothing is lost in a crash: whether a stream is paused is durable where the order is carried out.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"hydrant/access"
)

// Streams is what the admin API shows and steers. Safe for concurrent use.
type Streams interface {
	// List returns the status of all streams, by name.
	List() []Status
	// Get returns the status of one.
	Get(name string) (Status, bool)
	// Flush returns when all that the stream had accepted before the call is delivered or in the error
	// output. When ctx ends first it returns what remains, with ctx's error. Other errors are ErrNotFound,
	// ErrPaused, or mean that it could not be done.
	Flush(ctx context.Context, name string) (Remaining, error)
	// Pause and Resume are durable on return. Both are idempotent. ErrNotFound, or it could not be done.
	Pause(name string) error
	Resume(name string) error
	Batches
}

// Errors of Streams that have an answer of their own.
var (
	ErrNotFound = errors.New("no such stream")
	ErrPaused   = errors.New("the stream is paused: resume it first")
)

// Status of a stream.
type Status struct {
	Name           string            `json:"name"`
	State          string            `json:"state"` // active | paused | deleting | failed; of a backup also ending
	Version        uint64            `json:"version"`
	Created        time.Time         `json:"created"`
	Tags           map[string]string `json:"tags,omitempty"`
	Accepted       int64             `json:"accepted_records"`
	Delivered      int64             `json:"delivered_records"`
	Failed         int64             `json:"failed_records"`
	Dropped        int64             `json:"dropped_records"`
	Unaccounted    int64             `json:"unaccounted_records"`
	BacklogRecords int64             `json:"backlog_records"`
	BacklogBytes   int64             `json:"backlog_bytes"`
	Oldest         *time.Time        `json:"oldest_undelivered,omitempty"`
	Batches        []Batch           `json:"outstanding_batches"`
	Deliveries     []Event           `json:"last_deliveries"`
	Failures       []Event           `json:"last_failures"`
	Error          string            `json:"error,omitempty"`
	Source         string            `json:"source,omitempty"`       // kind of what it reads its records from: kafka | kinesis
	Lanes          int               `json:"lanes,omitempty"`        // partitions or shards of it that are known here
	SourceError    string            `json:"source_error,omitempty"` // why it is not read
	Backup         *Status           `json:"backup,omitempty"`       // the same of its backup of source records, where it keeps one
}

// Batch is a set of objects that was decided on and is not delivered whole.
type Batch struct {
	Manifest string `json:"manifest_id"`
	Records  int64  `json:"records"`
	Objects  int    `json:"objects"`
	Pending  int    `json:"pending_objects"`
	Attempts int    `json:"attempts"`
	Error    string `json:"last_error,omitempty"`
}

// Event is one object delivered, or one attempt that failed.
type Event struct {
	Time    time.Time `json:"time"`
	Key     string    `json:"key"`
	Records int64     `json:"records"`
	Bytes   int64     `json:"bytes"`
	Reason  string    `json:"cut_reason,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// Remaining is what a flush left behind.
type Remaining struct {
	Records int64  `json:"remaining_records"`
	Bytes   int64  `json:"remaining_bytes"`
	Error   string `json:"last_error,omitempty"`
	// Of the backup of source records, where the stream keeps one.
	BackupRecords int64 `json:"remaining_backup_records,omitempty"`
	BackupBytes   int64 `json:"remaining_backup_bytes,omitempty"`
}

// Flush waits so long where the caller does not say, and at most so long.
const (
	DefaultFlushTimeout = time.Minute
	MaxFlushTimeout     = time.Hour
)

// Options of a Handler. Checked once, never changed afterwards.
type Options struct {
	// Streams is asked at each request; it returns nil while there are none to show, before recovery is done.
	Streams func() Streams
	// NotReady is why the process is not ready, or "".
	NotReady func() string
	Metrics  prometheus.Gatherer
	Version  string // of the program, for the status page
	// Access tells who may see the page and call the admin API; nil: everybody who asks for a loopback host.
	Access *access.Guard
	Audit  access.Audit // gets a line for each order
	Log    *slog.Logger // nil: discarded
}

// Handler serves the listener. Safe for concurrent use.
type Handler struct {
	o   Options
	mux http.Handler
}

// New returns the handler.
func New(o Options) (*Handler, error) {
	if o.Streams == nil || o.NotReady == nil || o.Metrics == nil {
		return nil, errors.New("admin: Streams, NotReady and Metrics are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{o: o}
	open := http.NewServeMux() // what probes and scrapers ask for, under whatever name they know us
	open.HandleFunc("GET /healthz", h.healthz)
	open.HandleFunc("GET /readyz", h.readyz)
	open.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{ErrorLog: metricsLog{o.Log}, ErrorHandling: promhttp.ContinueOnError}))

	own := http.NewServeMux()
	own.HandleFunc("GET /{$}", allowed("ShowStatus", h.page))
	own.HandleFunc("GET /v1/streams", allowed("ShowStatus", h.list))
	own.HandleFunc("GET /v1/streams/{name}", allowed("ShowStatus", h.get))
	own.HandleFunc("POST /v1/streams/{name}/flush", h.audited("FlushStream", h.flush))
	own.HandleFunc("POST /v1/streams/{name}/pause", h.audited("PauseStream", h.order("pause", Streams.Pause)))
	own.HandleFunc("POST /v1/streams/{name}/resume", h.audited("ResumeStream", h.order("resume", Streams.Resume)))
	own.HandleFunc("GET /v1/streams/{name}/batches", allowed("ShowStatus", h.batches))
	own.HandleFunc("POST /v1/streams/{name}/batches/{id}/retry", h.audited("RetryBatch", h.retryBatch))
	own.HandleFunc("POST /v1/streams/{name}/batches/{id}/divert", h.audited("DivertBatch", h.divertBatch))
	for path, methods := range map[string]string{"/v1/streams/{name}/batches": "GET, HEAD", "/v1/streams/{name}/batches/{id}/retry": "POST", "/v1/streams/{name}/batches/{id}/divert": "POST", "/v1/streams": "GET, HEAD", "/v1/streams/{name}": "GET, HEAD", "/v1/streams/{name}/flush": "POST", "/v1/streams/{name}/pause": "POST", "/v1/streams/{name}/resume": "POST"} {
		own.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", methods)
			fail(w, http.StatusMethodNotAllowed, r.Method+" is not allowed here, but "+methods)
		})
	}
	own.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "nothing is here; the admin API is under /v1/streams")
	})
	open.Handle("/", h.guard(own))
	h.mux = headers(open)
	return h, nil
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// headers that hold for every answer: nothing is cached, framed, sniffed, or loaded from anywhere.
func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hd := w.Header()
		hd.Set("Cache-Control", "no-store")
		hd.Set("Content-Security-Policy", contentPolicy)
		hd.Set("X-Content-Type-Options", "nosniff")
		hd.Set("X-Frame-Options", "DENY")
		hd.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}

func (h *Handler) healthz(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

func (h *Handler) readyz(w http.ResponseWriter, _ *http.Request) {
	if why := h.o.NotReady(); why != "" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "not ready: "+why)
		return
	}
	fmt.Fprintln(w, "ready")
}

// streams returns what there is to steer, or answers that there is nothing yet.
func (h *Handler) streams(w http.ResponseWriter) (Streams, bool) {
	if s := h.o.Streams(); s != nil {
		return s, true
	}
	w.Header().Set("Retry-After", "1")
	fail(w, http.StatusServiceUnavailable, "not ready: "+h.o.NotReady())
	return nil, false
}

func (h *Handler) list(w http.ResponseWriter, _ *http.Request) {
	if s, ok := h.streams(w); ok {
		list := s.List()
		if list == nil {
			list = []Status{}
		}
		answer(w, http.StatusOK, map[string]any{"streams": list})
	}
}

func (h *Handler) get(w http.ResponseWriter, r *http.Request) {
	s, ok := h.streams(w)
	if !ok {
		return
	}
	status, ok := s.Get(r.PathValue("name"))
	if !ok {
		notFound(w, r)
		return
	}
	answer(w, http.StatusOK, status)
}

func (h *Handler) flush(w http.ResponseWriter, r *http.Request) {
	timeout := DefaultFlushTimeout
	if text := r.URL.Query().Get("timeout"); text != "" {
		var err error
		if timeout, err = time.ParseDuration(text); err != nil || timeout <= 0 || timeout > MaxFlushTimeout {
			fail(w, http.StatusBadRequest, fmt.Sprintf("timeout=%q is not a duration above 0 and up to %s, like 30s", text, MaxFlushTimeout))
			return
		}
	}
	s, ok := h.streams(w)
	if !ok {
		return
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(timeout + 10*time.Second)) // not supported by a recorder, which has none
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	name := r.PathValue("name")
	remaining, err := s.Flush(ctx, name)
	switch {
	case err == nil:
		answer(w, http.StatusOK, remaining)
	case errors.Is(err, ErrNotFound):
		notFound(w, r)
	case errors.Is(err, ErrPaused):
		fail(w, http.StatusConflict, fmt.Sprintf("stream %q is paused: resume it first", name))
	case ctx.Err() != nil:
		answer(w, http.StatusGatewayTimeout, struct {
			Message string `json:"error"`
			Remaining
		}{fmt.Sprintf("not all of stream %q was delivered within %s; delivery goes on", name, timeout), remaining})
	default:
		h.o.Log.Error("flush failed", "stream", name, "err", err)
		fail(w, http.StatusInternalServerError, fmt.Sprintf("flush %q: %v", name, err))
	}
}

// order returns the handler of pause or resume, which answers with the status that the stream has then.
func (h *Handler) order(verb string, do func(Streams, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, ok := h.streams(w)
		if !ok {
			return
		}
		name := r.PathValue("name")
		switch err := do(s, name); {
		case errors.Is(err, ErrNotFound):
			notFound(w, r)
		case err != nil:
			h.o.Log.Error("order failed", "order", verb, "stream", name, "err", err)
			fail(w, http.StatusInternalServerError, fmt.Sprintf("%s %q: %v", verb, name, err))
		default:
			h.o.Log.Info("order carried out", "order", verb, "stream", name)
			status, _ := s.Get(name)
			answer(w, http.StatusOK, map[string]string{"name": name, "state": status.State})
		}
	}
}

func notFound(w http.ResponseWriter, r *http.Request) {
	fail(w, http.StatusNotFound, fmt.Sprintf("no stream %q", r.PathValue("name")))
}

func fail(w http.ResponseWriter, code int, message string) {
	answer(w, code, map[string]string{"error": message})
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.Encode(v) // the client has gone, or it has the answer
}

// metricsLog passes complaints of the metrics handler on.
type metricsLog struct{ log *slog.Logger }

func (m metricsLog) Println(v ...any) {
	m.log.Error("metrics are incomplete", "err", strings.TrimSpace(fmt.Sprintln(v...)))
}
