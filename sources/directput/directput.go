// Package directput is the Firehose API on HTTP: PutRecord and PutRecordBatch, with DescribeDeliveryStream
// and ListDeliveryStreams beside them. Calls that change streams are passed on to a ControlPlane.
//
// Requests of AWS JSON 1.1 flow in. Each put becomes one record.Call whose records are laid out as the
// journal stores them, and goes to an Appender; a put is answered with success only after the Appender has
// said that its records are durable. This package keeps nothing itself: after a crash there is nothing to
// recover here, and a client that got no answer sends the same call again, which the Appender recognises by
// the identity that goes with it.
package directput

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"hydrant/access"
	"hydrant/record"
	"hydrant/sources"
)

// Limits of the Firehose API.
const (
	MaxRecordBytes  = 1_024_000 // of one record's Data, decoded
	MaxBatchRecords = 500
	MaxBatchBytes   = 4 << 20 // of one batch's Data together, decoded
)

// MaxBody is the longest request body of a put that is read: MaxBatchBytes in base64 with ample room for the JSON
// around it.
const MaxBody = 8 << 20

// MaxDocument is the longest body of the other calls: several times what a stream's configuration and tags may
// take. What is made of their JSON takes up to a hundred times as much memory, which nobody admits.
const MaxDocument = 256 << 10

// What an http.Server in front of a Handler is advised to have. The Handler itself limits the time that
// reading a body takes, so the server needs no ReadTimeout.
const (
	// ReadHeaderTimeout ends connections that send their headers a byte at a time.
	ReadHeaderTimeout = 10 * time.Second
	// IdleTimeout is longer than clients keep idle connections, so that no client sends a call into a
	// connection that is being closed.
	IdleTimeout = 5 * time.Minute
	// MaxHeaderBytes is ample: signed requests have 1 to 2 KiB, session tokens included.
	MaxHeaderBytes = 32 << 10
)

// Appender stores the records of a call in a stream and returns when they are durable: all of them or none, or the
// first of them where the call's Limiter keeps others back (then the batch has only those, and a retry's receipt
// says how many they were). The batch's buffer belongs to it until Append returns, and for ever where adopted is
// true. Its errors: *record.NotFound, *record.Refusal (nothing kept, may be sent again), ctx's (the records may be stored all
// the same); others count as failures of the daemon. It must be safe for concurrent use.
type Appender interface {
	Append(ctx context.Context, stream string, c record.Call) (r record.Receipt, adopted bool, err error)
}

// Directory knows the streams. It must be safe for concurrent use and answer from memory.
type Directory interface {
	// Names returns the names of all streams, ascending.
	Names() []string
	// Describe returns the description of one, or false where there is none.
	Describe(name string) (Description, bool)
}

// Options of a Handler. Checked once by New, never changed afterwards.
type Options struct {
	Appender  Appender             // required
	Directory Directory            // required
	Control   ControlPlane         // nil: streams cannot be changed over the API
	Admitter  sources.BodyAdmitter // nil: every body is read
	Limits    sources.Limits       // nil: no stream has any

	Access *access.Guard // who may call; nil: everybody
	Audit  access.Audit  // gets a line for each call that changes streams

	AccountID string // 12 digits, in ARNs and messages; "": 000000000000
	Region    string // in ARNs; "": us-east-1
	// Identity returns account and region as they are by now, in place of AccountID and Region; nil: those stay.
	Identity func() (account, region string)

	// Encrypted tells that records are encrypted on disk. Answers to puts say so, and descriptions of streams that no
	// ControlPlane made.
	Encrypted bool

	// Metrics of puts, which other handlers may count in as well; nil: one of its own, which is among Collectors.
	Metrics     *sources.Metrics
	Buffers     *record.Pool  // of bodies and batches, shared with the Appender; nil: one of its own
	BodyTimeout time.Duration // the most that sources.PaceBody allows a body; 0: sources.DefaultBodyTimeout
	Log         *slog.Logger  // nil: discarded
}

// Handler serves the API. Safe for concurrent use.
type Handler struct {
	o          Options
	metrics    *metrics
	collectors []prometheus.Collector
	bufs       *record.Pool
}

var _ http.Handler = (*Handler)(nil)

// New returns a Handler.
func New(o Options) (*Handler, error) {
	if o.Appender == nil || o.Directory == nil {
		return nil, errors.New("directput: an Appender and a Directory are needed")
	}
	if o.AccountID == "" {
		o.AccountID = "000000000000"
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.Identity == nil {
		o.Identity = func() (account, region string) { return o.AccountID, o.Region }
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
	h := &Handler{o: o, bufs: o.Buffers}
	if o.Metrics == nil {
		o.Metrics = sources.NewMetrics(o.Directory.Names)
		h.collectors = append(h.collectors, o.Metrics)
	}
	h.metrics = newMetrics(o.Metrics)
	h.collectors = append(h.collectors, h.metrics.unknown)
	return h, nil
}

// account is the account that messages name.
func (h *Handler) account() string {
	account, _ := h.o.Identity()
	return account
}

// Collectors of this package's metrics.
func (h *Handler) Collectors() []prometheus.Collector { return h.collectors }

// contentType of requests and answers.
const contentType = "application/x-amz-json-1.1"

// targetPrefix comes before the operation in X-Amz-Target.
const targetPrefix = "Firehose_20150804."

// ServeHTTP answers one call.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amzn-Requestid", uuid.NewString()) // as package http writes it: names have no case
	op, err := operationOf(r)
	var c call
	if err == nil {
		c, err = h.begin(r, op)
	}
	var answer []byte
	if err == nil {
		switch op {
		case opPutRecord, opPutRecordBatch:
			answer, err = h.put(w, r, c)
		case opDescribe, opList:
			answer, err = h.read(w, r, c)
		default:
			answer, err = h.control(w, r, c)
		}
	}
	if err != nil {
		h.fail(w, r, op, err)
		return
	}
	writeAnswer(w, http.StatusOK, answer)
	if op == opPutRecord || op == opPutRecordBatch {
		h.bufs.Put(answer)
	}
}

// Operations of the API, as X-Amz-Target names them.
const (
	opPutRecord      = sources.PutRecord
	opPutRecordBatch = sources.PutRecordBatch
	opDescribe       = "DescribeDeliveryStream"
	opList           = "ListDeliveryStreams"
)

// controlOperations are those that change streams, and ListTags, which goes with them.
var controlOperations = [...]string{
	"CreateDeliveryStream", "DeleteDeliveryStream", "ListTagsForDeliveryStream", "StartDeliveryStreamEncryption",
	"StopDeliveryStreamEncryption", "TagDeliveryStream", "UntagDeliveryStream", "UpdateDestination",
}
