// Package plainhttp takes records over plain HTTP: POST /v1/streams/{name}/records with lines (NDJSON) or a JSON
// array, for clients that have no SDK of AWS.
//
// Requests flow in. The records of each become one record.Call that goes to an Appender, and the answer says which
// of them are durable. This package keeps nothing itself: after a crash there is nothing to recover here, and a
// client that got no answer sends the same request again, which the Appender recognises by its Idempotency-Key.
package plainhttp

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"hydrant/access"
	"hydrant/record"
	"hydrant/sources"
)

// Limits of a request.
const (
	MaxBody        = 5 << 20   // bytes of a body, decoded
	MaxRecordBytes = 1_024_000 // of one record, as Firehose has it
	MaxRecords     = 10_000    // of one request
	MaxKeyBytes    = 255       // of an Idempotency-Key
)

// Prefix of the paths that a Handler serves.
const Prefix = "/v1/"

// Appender stores the records of a call in a stream and returns when they are durable: all of them or none, or the
// first of them where the call's Limiter keeps others back (then the batch has only those, and a retry's receipt
// says how many they were). The batch's buffer belongs to it until Append returns, and for ever where adopted is
// true. Its errors: *record.NotFound, *record.KeyReused, *record.Refusal (nothing kept, may be sent again), ctx's
// (the records may be stored all the same); others count as failures of the daemon. It must be safe for concurrent
// use.
type Appender interface {
	Append(ctx context.Context, stream string, c record.Call) (r record.Receipt, adopted bool, err error)
}

// Options of a Handler. Checked once by New, never changed afterwards.
type Options struct {
	Appender Appender               // required
	Known    func(name string) bool // required: whether there is such a stream; from memory
	Admitter sources.BodyAdmitter   // nil: every body is read
	Limits   sources.Limits         // nil: no stream has any
	Access   *access.Guard          // who may call; nil: everybody

	Metrics     *sources.Metrics // required: where puts are counted
	Buffers     *record.Pool     // of bodies and batches, shared with the Appender; nil: one of its own
	BodyTimeout time.Duration    // the most that sources.PaceBody allows a body; 0: sources.DefaultBodyTimeout
	Log         *slog.Logger     // nil: discarded
}

// Handler serves the plain API. Safe for concurrent use.
type Handler struct {
	o        Options
	bufs     *record.Pool
	decoders *decoders
}

var _ http.Handler = (*Handler)(nil)

// New returns a Handler.
func New(o Options) (*Handler, error) {
	if o.Appender == nil || o.Known == nil || o.Metrics == nil {
		return nil, errors.New("plainhttp: an Appender, Known and Metrics are needed")
	}
	if o.Buffers == nil {
		o.Buffers = new(record.Pool)
	}
	if o.BodyTimeout == 0 {
		o.BodyTimeout = sources.DefaultBodyTimeout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d, err := newDecoders()
	if err != nil {
		return nil, err
	}
	return &Handler{o: o, bufs: o.Buffers, decoders: d}, nil
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := h.put(w, r)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	writeAnswer(w, http.StatusOK, answer)
}

// put takes the records of a request and returns what becomes of them.
func (h *Handler) put(w http.ResponseWriter, r *http.Request) (answer []byte, err error) {
	began := time.Now()
	stream, err := streamOf(r)
	if err != nil {
		return nil, err
	}
	var who *access.Caller
	if h.o.Access != nil {
		if who, err = h.o.Access.Begin(r); err != nil {
			return nil, errAccess(err)
		}
	}
	form, coding, err := contentOf(r.Header)
	if err != nil {
		return nil, err
	}
	key, err := keyOf(r.Header)
	if err != nil {
		return nil, err
	}
	body, err := h.readBody(w, r, coding)
	if err != nil {
		return nil, err
	}
	defer func() { body.free() }()
	if who != nil {
		var sum [sha256.Size]byte
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") { // a signature may be over the body
			sum = sha256.Sum256(body.bytes)
		}
		if err := who.Confirm(sum); err != nil {
			return nil, errAccess(err)
		}
		if err := who.Authorize(sources.PutRecordBatch, stream); err != nil {
			return nil, errAccess(err)
		}
	}
	if coding != identity {
		decoded, err := h.decode(r.RemoteAddr, body.bytes, coding)
		if err != nil {
			return nil, err
		}
		body.free()
		body = decoded
	}
	batch := record.NewBatch(h.bufs.Get(bound(len(body.bytes))))
	adopted := false
	defer func() {
		if !adopted {
			h.bufs.Put(batch.Buffer())
		}
	}()
	in := records{batch: batch}
	if err := in.read(form, body.bytes); err != nil {
		return nil, err
	}
	call := record.Call{Batch: batch}
	if key != "" {
		identify(&call, who, key, form, body.bytes)
	}
	if h.o.Limits != nil {
		call.Limiter = h.o.Limits.Limiter(stream)
	}
	body.free() // while others may need the memory, the call waits for the disk

	var receipt record.Receipt
	count := batch.Count()
	receipt, adopted, err = h.o.Appender.Append(r.Context(), stream, call)
	if err != nil {
		if _, refused := errors.AsType[*record.Refusal](err); refused && h.o.Known(stream) {
			h.o.Metrics.Stream(stream).Throttled(count)
		}
		return nil, errAppend(r.Context(), stream, err)
	}
	if receipt.Repeated {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	h.o.Metrics.Stream(stream).Accepted(sources.PlainHTTP, receipt, batch.Payload(), count-receipt.Count, time.Since(began))
	return in.answer(receipt.Count), nil
}

// identify fills in the identity of a call with an Idempotency-Key. The same records in another form, or compressed
// in another way, are not told apart by how they came but by what they are.
func identify(c *record.Call, who *access.Caller, key string, form form, body []byte) {
	sum := sha256.Sum256([]byte(key))
	copy(c.Invocation[:], sum[:])
	c.Keyed = true
	if who != nil {
		tag := who.Tag()
		copy(c.KeyHash[:], tag[:])
	}
	hash := sha256.New()
	hash.Write([]byte{byte(form)})
	hash.Write(body)
	copy(c.BodyHash[:], hash.Sum(sum[:0]))
}

// streamOf reads from the path which stream the request is about.
func streamOf(r *http.Request) (string, error) {
	name, ok := strings.CutPrefix(r.URL.Path, Prefix+"streams/")
	if ok {
		name, ok = strings.CutSuffix(name, "/records")
	}
	if !ok || name == "" || strings.Contains(name, "/") {
		return "", &apiError{status: http.StatusNotFound, code: "UnknownOperationException",
			message: "There is nothing under this path. Records go to POST /v1/streams/{name}/records.", reason: "unknown_operation"}
	}
	if r.Method != http.MethodPost {
		return "", &apiError{status: http.StatusMethodNotAllowed, code: "UnknownOperationException",
			message: "Records are sent with POST.", reason: "unknown_operation"}
	}
	return name, nil
}
