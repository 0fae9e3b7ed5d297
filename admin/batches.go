package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"time"
)

// Batches are what is decided and not delivered whole, and the orders that end them. Safe for concurrent use.
type Batches interface {
	// Batches lists those of a stream, oldest first. ErrNotFound.
	Batches(name string) ([]Waiting, error)
	// RetryBatch makes everything that is left of one due now. ErrNotFound, ErrNoBatch, ErrPaused.
	RetryBatch(name, id string) error
	// DivertBatch gives one up for its destination. Durable on return. With an error the result says what was
	// diverted all the same. ErrNotFound, ErrNoBatch, or an error that says what cannot be done.
	DivertBatch(ctx context.Context, name, id string, to DivertTo) (Diverted, error)
}

// ErrNoBatch says that a stream has no such batch.
var ErrNoBatch = errors.New("no such batch is waiting")

// Waiting is a batch.
type Waiting struct {
	Manifest string          `json:"manifest_id"`
	Version  uint64          `json:"version"`
	Records  int64           `json:"records"`
	Bytes    int64           `json:"bytes"`
	Objects  int             `json:"objects"`
	Pending  int             `json:"pending_objects"`
	Oldest   *time.Time      `json:"oldest_record,omitempty"`
	Attempts int             `json:"attempts"`
	Error    string          `json:"last_error,omitempty"`
	Next     *time.Time      `json:"next_attempt,omitempty"`
	Left     []PendingObject `json:"pending"`
}

// PendingObject is an object that is neither stored nor replaced.
type PendingObject struct {
	Key     string `json:"key"`
	Role    string `json:"role"`
	Place   string `json:"place"`
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes"`
	State   string `json:"state,omitempty"` // staged or loading, on its way into a database
}

// DivertTo is a directory of the daemon's machine, or "" for the error output.
type DivertTo struct {
	Directory string
	Force     bool
}

// Diverted is what became of a batch.
type Diverted struct {
	Objects  int      `json:"diverted_objects"`
	Records  int64    `json:"diverted_records"`
	Found    int      `json:"found_delivered"`
	SetAside int      `json:"set_aside"`
	Doubtful []string `json:"doubtful,omitempty"`
}

// MaxDivert bounds how long the destination is asked what it has before a diversion answers.
const MaxDivert = 10 * time.Minute

func (h *Handler) batches(w http.ResponseWriter, r *http.Request) {
	s, ok := h.streams(w)
	if !ok {
		return
	}
	list, err := s.Batches(r.PathValue("name"))
	if err != nil {
		h.batchFailed(w, r, "list", err)
		return
	}
	if list == nil {
		list = []Waiting{}
	}
	answer(w, http.StatusOK, map[string]any{"batches": list})
}

func (h *Handler) retryBatch(w http.ResponseWriter, r *http.Request) {
	s, ok := h.streams(w)
	if !ok {
		return
	}
	name, id := r.PathValue("name"), r.PathValue("id")
	if err := s.RetryBatch(name, id); err != nil {
		h.batchFailed(w, r, "retry", err)
		return
	}
	h.o.Log.Info("batch is tried again by order", "stream", name, "manifest", id)
	answer(w, http.StatusOK, map[string]string{"name": name, "manifest_id": id})
}

func (h *Handler) divertBatch(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	to := DivertTo{Directory: q.Get("directory")}
	if to.Directory != "" && !filepath.IsAbs(to.Directory) {
		fail(w, http.StatusBadRequest, fmt.Sprintf("directory=%q is not an absolute path of the daemon's machine", to.Directory))
		return
	}
	if text := q.Get("force"); text != "" {
		var err error
		if to.Force, err = strconv.ParseBool(text); err != nil {
			fail(w, http.StatusBadRequest, fmt.Sprintf("force=%q is not true or false", text))
			return
		}
	}
	s, ok := h.streams(w)
	if !ok {
		return
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(MaxDivert + 10*time.Second)) // not supported by a recorder, which has none
	ctx, cancel := context.WithTimeout(r.Context(), MaxDivert)
	defer cancel()
	name, id := r.PathValue("name"), r.PathValue("id")
	out, err := s.DivertBatch(ctx, name, id, to)
	if out.Objects > 0 {
		h.o.Log.Warn("batch is diverted by order", "stream", name, "manifest", id, "objects", out.Objects, "records", out.Records, "directory", to.Directory, "force", to.Force)
	}
	switch {
	case err == nil && len(out.Doubtful) == 0:
		answer(w, http.StatusOK, out)
	case err == nil:
		answer(w, http.StatusConflict, struct {
			Message string `json:"error"`
			Diverted
		}{"the destination may have some objects, as an answer was lost, and does not say so now: try again when it answers, or force it, which may leave their records in both places", out})
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrNoBatch):
		h.batchFailed(w, r, "divert", err)
	default:
		answer(w, http.StatusConflict, struct {
			Message string `json:"error"`
			Diverted
		}{err.Error(), out})
	}
}

func (h *Handler) batchFailed(w http.ResponseWriter, r *http.Request, verb string, err error) {
	name := r.PathValue("name")
	switch {
	case errors.Is(err, ErrNotFound):
		notFound(w, r)
	case errors.Is(err, ErrNoBatch):
		fail(w, http.StatusNotFound, fmt.Sprintf("stream %q: %v", name, err))
	case errors.Is(err, ErrPaused):
		fail(w, http.StatusConflict, fmt.Sprintf("stream %q is paused: resume it first", name))
	default:
		h.o.Log.Error("order failed", "order", verb, "stream", name, "err", err)
		fail(w, http.StatusInternalServerError, fmt.Sprintf("%s a batch of %q: %v", verb, name, err))
	}
}
