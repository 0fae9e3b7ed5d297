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
	"io"
	"log/slog"
	"time"

	"hydrant/buffer"
	"hydrant/format"
	"hydrant/prefix"
	"hydrant/sinks"
	"hydrant/sources"
	"hydrant/transform"
)

// Pipeline is one version of a stream, ready to work. It is made by Open from what a STREAM frame holds
// and is immutable.
type Pipeline struct {
	// Reader brings the rows, from what Source names (kafka, kinesis); nil: they are put. One stops before the next version
	// of the stream is in force. It is run, perhaps more than once, but never twice at a time.
	Reader sources.Reader
	Source string
	// Transform is what happens to rows first; nil: nothing. What it decides takes effect with a manifest, or with a
	// routed run, and is decided again where there was none.
	Transform *transform.Chain
	// Hooks are the functions that rows go through after that. With one, or with a Scheme, rows pass through routed runs.
	Hooks []Hook
	// Scheme says which partition a row belongs to, nil: that of its arrival.
	Scheme Scheme
	// MaxActive is the number of partitions with rows that wait above which everything that waits is delivered early, or,
	// where it is Hard, rows that would open another one go to the error output. 0: any number.
	MaxActive int
	Hard      bool
	// Markers: each directory of data objects gets a marker when the watermark has passed its time. With a Scheme that has
	// event times, and a Prefix that prints time, has no random string and ends with a slash.
	Markers       bool
	Format        format.Format
	Prefix        *prefix.Template
	ErrorPrefix   *prefix.Template
	TimeZone      *time.Location // of prefixes and object names; nil: UTC
	FileExtension string         // replaces the format's extension where not empty
	Size          int64          // bytes of Data, after Transform, that close an object (buffer.size)
	FileSize      int64          // estimated written bytes that close an object, 0: off
	Interval      time.Duration  // from the oldest waiting record (buffer.interval)
	Destination   Destination
	// Errors is where the error output goes, with an ID of its own; without a Sink: to Destination, under ErrorPrefix.
	Errors Destination
	// ErrorZone is the zone of the error output's names; nil: TimeZone.
	ErrorZone *time.Location
	// ErrorFormat writes the objects of the error output, whose rows are lines with their newlines; nil: as they are.
	ErrorFormat   format.Format
	RetryDuration time.Duration // 0: for ever
	// Catalog is the dataCatalogTable of format-conversion-failed objects, or nil.
	Catalog map[string]string
}

// Destination is a sink with the name under which manifests know it.
type Destination struct {
	ID   string // stream, role and kind, e.g. "clicks/data/s3"; never bucket or endpoint
	Kind string // s3, file: the sink label of metrics
	// Place tells one bucket or root from another: opaque, and equal only where an object that is at one
	// is at the other too (endpoint and bucket, say). An object that was made for the same ID at another
	// place is looked for there before it goes to the new one. "" where that is not known: then it goes to
	// the place of its own version.
	Place string
	Sink  sinks.Sink
	// AtLeastOnce: the sink's Verify never tells. What may be there is sent again, with the same bytes and the same
	// request id, and goes to the stream's present place, wherever it was sent before.
	AtLeastOnce bool
	Pace        Pace
	// Of a sinks.Finisher. Its Place is what remembers which parts were taken, so where that is the same nobody looks
	// elsewhere. Layout says what objects look like: only a version with the same Layout finishes those of another one.
	Layout string
	// Skipped makes the object that tells of a part that is given up: its key, from the arrival of the part's oldest record
	// and an id, and its bytes.
	Skipped func(part sinks.Part, stream string, oldest time.Time, id string) (key string, body []byte)
	// GiveUp: parts that are refused for GiveUpAfter are given up; else they are tried for ever.
	GiveUp      bool
	GiveUpAfter time.Duration
	// Rows tells the number of rows of an object; nil, or below 0: not known.
	Rows func(r io.ReaderAt, size int64) (int64, error)
}

// Pace is how a destination is to be sent objects. The zero value is delivery's own.
type Pace struct {
	// InFlight is the number of objects that may be on their way, or wait for their next attempt, at a time; 0: no bound
	// but the uploader's. With 1 they go in the order of their records, each when the one before has ended.
	InFlight int
	// Base and Cap bound the wait before an object is sent again where InFlight is not 0: Base after its first attempt,
	// doubled with each further one, up to Cap, give or take 15 %.
	Base, Cap time.Duration
	// GivesUp: an object of records that has not been taken for Retry is taken apart, and its records go to the error
	// output. The time counts from its first attempt by this process; what was waiting behind others while the destination
	// failed has used that time too. With a Retry of 0 there is one attempt.
	GivesUp bool
	Retry   time.Duration
}

// Open makes a pipeline from a version of a stream, or, as Options.OpenBackup, that of its backup. It does no I/O. It is passed in by the command, so
// that this package names no format and no sink.
type Open func(s buffer.Stream) (*Pipeline, error)

// Directory makes the sink of files under an absolute path, for objects that are diverted there. It does no I/O.
type Directory func(path string) (sinks.Sink, error)

// Options of a Manager.
type Options struct {
	Buffer *buffer.Buffer
	Open   Open
	// OpenBackup makes what the backup of a version does with all source records: without Transform, Hooks and Scheme; nil and
	// no error where the version keeps none. Where OpenBackup is nil no stream can have one.
	OpenBackup Open
	// Declares tells whether a stream is one that Apply makes and ends; nil: all are. The others live beside
	// it, by Change.
	Declares func(s buffer.Stream) bool
	// Directory makes the sinks of directories that batches are diverted to; nil: they cannot be.
	Directory Directory
	Workers   int   // encoders at work at once, all streams together; 0: number of cores
	Memory    int64 // limits.memory, of which delivery uses its shares
	Log       *slog.Logger
}
