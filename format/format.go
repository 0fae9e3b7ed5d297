// Package format is the contract between delivery and the encoders that turn rows into the bytes of
// objects. Rows flow in, one at a time and in order; finished object bytes flow out to a writer. An
// encoder holds nothing that must survive a crash: what it has not finished is encoded again from the
// rows, which stay where they are until a manifest is durable.
package format

import (
	"errors"
	"io"
	"time"

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
	//
	// ErrFull says that the object has no room for this row, and nothing else is wrong: it belongs into the next one.
	// An object without rows has room for every row that fits the format.
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
	Type    string // of the error output; "": format-conversion-failed
	Code    string
	Message string
}

func (e *RowError) Error() string { return e.Code + ": " + e.Message }

// ErrFull is what Append returns for a row that the object has no room for.
var ErrFull = errors.New("the object is full")

// Requests is a Format whose objects are requests: the body of one, and after it what is known of each of its
// records, so that the object can be taken apart again. Its encoders are RequestEncoders.
type Requests interface {
	Format
	// ContentType of the body.
	ContentType() string
	// Body tells how much of an object, from its first byte on, is to be sent, and the checksum of that. Like those of Rows,
	// its errors are ErrDamaged or what r says.
	Body(r io.ReaderAt, size int64) (length int64, sum [32]byte, err error)
	// Rows calls each for the rows of an object of size bytes, in their order, until it returns an error, which Rows
	// returns. The Data of a row is valid during the call.
	Rows(r io.ReaderAt, size int64, each func(record.Row) error) error
	// Count is the number of rows of an object.
	Count(r io.ReaderAt, size int64) (int64, error)
}

// RequestEncoder is the encoder of a Requests.
type RequestEncoder interface {
	Encoder
	// Request says under which id the object that is started next is sent, and when it was made, where its body tells
	// that. To be called before each Reset whose object gets rows.
	Request(id string, at time.Time)
}

// ErrDamaged says that an object's bytes are not those that were written.
var ErrDamaged = errors.New("the bytes of the object are damaged")
