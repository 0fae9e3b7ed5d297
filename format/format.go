// Package format is the contract between delivery and the encoders that turn rows into the bytes of
// objects. Rows flow in, one at a time and in order; finished object bytes flow out to a writer. An
// encoder holds nothing that must survive a crash: what it has not finished is encoded again from the
// rows, which stay where they are until a manifest is durable.
package format

import (
	"io"

	"hydrant/record"
)

// Format is a configured way to write objects. It is immutable and safe for concurrent use.
type Format interface {
	// NewEncoder returns an encoder for one worker. It is expensive (tens of KiB to MiB) and reused by Reset.
	NewEncoder() Encoder
	// Extension of object names, with its dot, or "".
	Extension() string
	// ContentEncoding is the value of the object's Content-Encoding header, or "".
	ContentEncoding() string
	// SchemaVersion is the object's schema-version metadata, or "" where there is no schema.
	SchemaVersion() string
}

// Encoder writes objects, one after another. Not safe for concurrent use.
type Encoder interface {
	// Reset drops what was not finished and starts an object on w.
	Reset(w io.Writer)
	// Append adds a row. It keeps no reference to row.Data. A *RowError says that this row does not fit
	// the format: nothing of it is in the object, and the encoder goes on with the next row. Any other
	// error comes from the writer and ends the object.
	Append(row record.Row) error
	// Buffered estimates the bytes that the object has now and would still get if it were closed here.
	Buffered() int64
	// Close finishes the object. An object without rows is still well formed; callers do not send it.
	Close() (Stats, error)
}

// Stats of a finished object.
type Stats struct {
	Rows  int64 // rows written; a record that holds several documents makes several
	Bytes int64 // bytes written to the writer
}

// RowError is the reason why one row cannot be written. Code and Message are Firehose's where it has
// them (DataFormatConversion.MalformedData, ...).
type RowError struct {
	Code    string
	Message string
}

func (e *RowError) Error() string { return e.Code + ": " + e.Message }
