// Package delivery is the life of a stream's rows from the buffer to the destination.
//
// Rows flow in from the buffer in order; finished objects flow out to a sink, and what cannot be
// delivered flows, with its reason, to the error output. A cut is decided once: rows are encoded into a
// pack, the pack is sealed, its manifest is made durable, and only then does the first byte leave.
//
// After a crash the manifests that the buffer has kept go through the very same uploader as in steady
// state: the same bytes under the same keys. Rows that no manifest had taken are cut again, perhaps with
// other boundaries.
package delivery

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hydrant/buffer"
	"hydrant/format"
	"hydrant/prefix"
	"hydrant/record"
	"hydrant/sinks"
)

// Pipeline is one version of a stream, ready to work. It is made by Open from what a STREAM frame holds
// and is immutable.
type Pipeline struct {
	Format        format.Format
	Prefix        *prefix.Template
	ErrorPrefix   *prefix.Template
	TimeZone      *time.Location // of prefixes and object names; nil: UTC
	FileExtension string         // replaces the format's extension where not empty
	Size          int64          // bytes of Data that close an object (buffer.size)
	FileSize      int64          // estimated written bytes that close an object, 0: off
	Interval      time.Duration  // from the oldest waiting record (buffer.interval)
	Destination   Destination
	RetryDuration time.Duration // 0: for ever
	// Catalog is the dataCatalogTable of format-conversion-failed objects, or nil.
	Catalog map[string]string
}

// Destination is a sink with the name under which manifests know it.
type Destination struct {
	ID   string // stream, role and kind, e.g. "clicks/data/s3"; never bucket or endpoint
	Kind string // s3, file: the sink label of metrics
	Sink sinks.Sink
}

// Open makes a pipeline from a version of a stream. It does no I/O. It is passed in by the command, so
// that this package names no format and no sink.
type Open func(s buffer.Stream) (*Pipeline, error)

// Options of a Manager.
type Options struct {
	Buffer  *buffer.Buffer
	Open    Open
	Workers int   // encoders at work at once, all streams together; 0: number of cores
	Memory  int64 // limits.memory, of which delivery uses its shares
	Log     *slog.Logger
}

// Manager runs all streams of a buffer. Safe for concurrent use.
type Manager struct{ _ int }

// New takes over the streams that the buffer holds and opens their pipelines. A stream whose pipeline
// cannot be opened stays, with its backlog, in state failed; the others run.
func New(o Options) (*Manager, error) { panic("bug: not built yet") }

// Declared is a stream as the configuration has it.
type Declared struct {
	Name string
	Tags map[string]string
	Spec []byte
}

// Apply makes the streams that take puts be exactly these: new ones are created, changed ones get a new
// version and close their epoch, those that are gone take no more puts and drain under their last
// version. Durable on return.
func (m *Manager) Apply(streams []Declared) error { panic("bug: not built yet") }

// Run delivers until ctx ends. Then it stops loops and uploads, leaving the rest on disk, and returns.
func (m *Manager) Run(ctx context.Context) error { panic("bug: not built yet") }

// Append stores the records of a call (the contract of directput.Appender).
func (m *Manager) Append(ctx context.Context, stream string, c record.Call) (r record.Receipt, adopted bool, err error) {
	panic("bug: not built yet")
}

// Status of a stream, as the admin API prints it.
type Status struct {
	Name           string            `json:"name"`
	State          string            `json:"state"` // active | paused | deleting | failed
	Version        uint64            `json:"version"`
	Created        time.Time         `json:"created"`
	Tags           map[string]string `json:"tags,omitempty"`
	Accepted       int64             `json:"accepted_records"`
	Delivered      int64             `json:"delivered_records"`
	Failed         int64             `json:"failed_records"`
	Dropped        int64             `json:"dropped_records"`
	Unaccounted    int64             `json:"unaccounted_records"`
	BacklogRecords int64             `json:"backlog_records"` // waiting or under a manifest that has not ended
	BacklogBytes   int64             `json:"backlog_bytes"`
	Oldest         *time.Time        `json:"oldest_undelivered,omitempty"`
	Batches        []Batch           `json:"outstanding_batches"` // manifests that have not ended, at most 100
	Deliveries     []DeliveryEvent   `json:"last_deliveries"`     // newest first, at most 20
	Failures       []DeliveryEvent   `json:"last_failures"`       // newest first, at most 20
	Error          string            `json:"error,omitempty"`     // why the stream is failed
}

// Batch is a manifest that has not ended.
type Batch struct {
	Manifest string `json:"manifest_id"`
	Records  int64  `json:"records"`
	Objects  int    `json:"objects"`
	Pending  int    `json:"pending_objects"`
	Attempts int    `json:"attempts"`
	Error    string `json:"last_error,omitempty"`
}

// DeliveryEvent is one object delivered, or one attempt that failed.
type DeliveryEvent struct {
	Time    time.Time `json:"time"`
	Key     string    `json:"key"`
	Records int64     `json:"records"`
	Bytes   int64     `json:"bytes"`
	Reason  string    `json:"cut_reason,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// Streams returns the status of all streams, by name.
func (m *Manager) Streams() []Status { panic("bug: not built yet") }

// Stream returns the status of one.
func (m *Manager) Stream(name string) (Status, bool) { panic("bug: not built yet") }

// Remaining is what a Flush that ran out of time left behind.
type Remaining struct {
	Records int64  `json:"remaining_records"`
	Bytes   int64  `json:"remaining_bytes"`
	Error   string `json:"last_error,omitempty"`
}

// Flush closes the stream's epochs and returns when all that was accepted before the call is delivered or
// in the error output. When ctx ends first it returns what remains with ctx's error. Other errors:
// *record.NotFound, ErrPaused.
func (m *Manager) Flush(ctx context.Context, stream string) (Remaining, error) {
	panic("bug: not built yet")
}

// Pause stops uploads of a stream, durably; puts go on. Resume starts them again. Both are idempotent.
func (m *Manager) Pause(stream string) error  { panic("bug: not built yet") }
func (m *Manager) Resume(stream string) error { panic("bug: not built yet") }

// Drain closes all epochs and returns when nothing is left, or with ctx's error.
func (m *Manager) Drain(ctx context.Context) (Remaining, error) { panic("bug: not built yet") }

// Collectors of this package's metrics.
func (m *Manager) Collectors() []prometheus.Collector { panic("bug: not built yet") }
