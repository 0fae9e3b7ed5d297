// Package request writes the bodies of HTTP requests that deliver records. Rows flow in; out flows an object that is the
// body of one request, finished and compressed, followed by a table of its records (table.go), which is not sent. From
// the two every row can be told again, so that a request which nobody takes can be halved, or its records be written
// elsewhere with all that is known of them. The id and the time that a body shows are fixed when it is encoded: whoever
// sends it again, also after a crash, sends the same bytes.
package request

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/segmentio/asm/base64"

	"hydrant/format"
	"hydrant/record"
)

// Body is the form of a request's body.
type Body string

// The forms.
const (
	// Firehose is the document of Amazon Data Firehose's HTTP endpoint delivery, version 1.0:
	//
	//	{"requestId":"...","timestamp":1578090901599,"records":[{"data":"aGVsbG8="},{"data":""}]}
	Firehose Body = "firehose"
	// NDJSON is the records one after another, each with a newline unless it ends with one.
	NDJSON Body = "ndjson"
	// JSONArray is one JSON array of the records, which have to be JSON.
	JSONArray Body = "json_array"
)

const (
	// MaxBody is the most bytes of a body before compression, Firehose's limit.
	MaxBody = 64 << 20
	// MaxRecords is the most records of a request, Firehose's limit.
	MaxRecords = 10_000
	// MaxRecord is the most bytes of a record in a Firehose body: what base64 makes 1,365,336 characters of. In other
	// bodies only MaxBody bounds it.
	MaxRecord = 1_024_002
)

// Codes of rows that no request can have, under http-endpoint-failed in the error output.
const (
	CodeTooLarge = "Hydrant.RecordTooLarge"
	CodeNotJSON  = "Hydrant.RecordNotJSON"
)

// ErrorType is the type of the error output for records that an endpoint does not get.
const ErrorType = "http-endpoint-failed"

// gzipLevel is the fastest that still halves typical bodies: what is sent is thrown away at the other end.
const gzipLevel = 1

// blockSize is how much is gathered before it is written.
const blockSize = 64 << 10

// Options of a Format.
type Options struct {
	Body Body // "": Firehose
	Gzip bool
	// MaxBody and MaxRecords lower the limits; 0: those of this package.
	MaxBody, MaxRecords int64
}

// Format writes requests. It is immutable and safe for concurrent use.
type Format struct{ o Options }

var (
	_ format.Requests       = (*Format)(nil)
	_ format.RequestEncoder = (*encoder)(nil)
)

// New checks the options.
func New(o Options) (*Format, error) {
	switch o.Body {
	case "":
		o.Body = Firehose
	case Firehose, NDJSON, JSONArray:
	default:
		return nil, fmt.Errorf("body %q is not one of firehose, ndjson, json_array", o.Body)
	}
	for _, l := range []struct {
		name  string
		is    *int64
		limit int64
	}{{"largest body", &o.MaxBody, MaxBody}, {"most records", &o.MaxRecords, MaxRecords}} {
		if *l.is == 0 {
			*l.is = l.limit
		}
		if *l.is < 1 || *l.is > l.limit {
			return nil, fmt.Errorf("%s %d is not from 1 to %d", l.name, *l.is, l.limit)
		}
	}
	return &Format{o}, nil
}

// Extension is always "": requests have no names that anybody sees.
func (f *Format) Extension() string { return "" }

// ContentEncoding of bodies: "gzip" or "".
func (f *Format) ContentEncoding() string {
	if f.o.Gzip {
		return "gzip"
	}
	return ""
}

// ContentType of bodies.
func (f *Format) ContentType() string {
	if f.o.Body == NDJSON {
		return "application/x-ndjson"
	}
	return "application/json"
}

// SchemaVersion is always "".
func (f *Format) SchemaVersion() string { return "" }

// NewEncoder returns an encoder: 64 KiB, and about 400 KiB more with gzip.
func (f *Format) NewEncoder() format.Encoder {
	e := &encoder{o: f.o, block: make([]byte, 0, blockSize)}
	if f.o.Gzip {
		w, err := gzip.NewWriterLevel(io.Discard, gzipLevel)
		if err != nil {
			panic(fmt.Sprintf("bug: gzip level %d: %v", gzipLevel, err))
		}
		e.zip = w
	}
	return e
}

// encoder gathers a body in block, which goes through gzip, if any, and is hashed on its way to the object's writer.
type encoder struct {
	o     Options
	id    string
	at    time.Time
	block []byte // gathered and not yet handed on
	zip   *gzip.Writer
	out   summed
	err   error // what ended the object, until Reset
	body  int64 // bytes of the body before compression, with what stands behind the last record
	given int64 // of them, handed on
	table table
}

// Request says what the body of the object that Reset starts shows.
func (e *encoder) Request(id string, at time.Time) { e.id, e.at = id, at }

// Reset drops what was not finished and starts an object on w.
func (e *encoder) Reset(w io.Writer) {
	e.err = nil
	e.out.reset(w)
	e.table.reset()
	e.given = 0
	if e.zip != nil {
		e.zip.Reset(&e.out)
	}
	e.block = appendHead(e.block[:0], e.o.Body, e.id, e.at)
	e.body = int64(len(e.block) + len(tail(e.o.Body)))
}

// appendHead adds what stands before the first record.
func appendHead(b []byte, body Body, id string, at time.Time) []byte {
	switch body {
	case Firehose:
		b = append(b, `{"requestId":"`...)
		b = append(b, id...)
		b = append(b, `","timestamp":`...)
		b = fmt.Appendf(b, "%d", at.UnixMilli())
		return append(b, `,"records":[`...)
	case JSONArray:
		return append(b, '[')
	}
	return b
}

// tail is what stands behind the last record.
func tail(body Body) string {
	switch body {
	case Firehose:
		return "]}"
	case JSONArray:
		return "]"
	}
	return ""
}

// What stands around a record's base64 in a Firehose body.
const (
	dataBefore = `{"data":"`
	dataAfter  = `"}`
)

// Append adds a row. Its errors are *format.RowError for a row that no request can have, format.ErrFull, or the writer's.
func (e *encoder) Append(row record.Row) error {
	if e.err != nil {
		return e.err
	}
	n, newline, err := e.measure(row.Data)
	if err != nil {
		return err
	}
	if e.table.rows > 0 && e.o.Body != NDJSON {
		n++ // the comma
	}
	if e.body+n > e.o.MaxBody || e.table.rows == e.o.MaxRecords {
		if e.table.rows == 0 {
			return tooLarge(len(row.Data), e.o)
		}
		return format.ErrFull
	}
	e.body += n
	if e.table.rows > 0 && e.o.Body != NDJSON {
		e.text(",")
	}
	if e.o.Body == Firehose {
		e.text(dataBefore)
		e.base64(row.Data)
		e.text(dataAfter)
	} else {
		e.bytes(row.Data)
		if newline {
			e.text("\n")
		}
	}
	e.table.add(row, newline)
	return e.err
}

// measure is how many bytes a row takes, and whether a newline is one of them that it has not itself.
func (e *encoder) measure(data []byte) (n int64, newline bool, err error) {
	n = int64(len(data))
	switch e.o.Body {
	case Firehose:
		if len(data) > MaxRecord {
			return 0, false, tooLarge(len(data), e.o)
		}
		return int64(len(dataBefore)+base64.StdEncoding.EncodedLen(len(data))) + int64(len(dataAfter)), false, nil
	case NDJSON:
		if newline = len(data) == 0 || data[len(data)-1] != '\n'; newline {
			n++
		}
		return n, newline, nil
	}
	if !json.Valid(data) {
		return 0, false, &format.RowError{Type: ErrorType, Code: CodeNotJSON, Message: "the record is not JSON, and would break the array that it is sent in"}
	}
	return n, false, nil
}

func tooLarge(n int, o Options) error {
	most := fmt.Sprintf("a request has at most %d bytes", o.MaxBody)
	if o.Body == Firehose && n > MaxRecord {
		most = fmt.Sprintf("the protocol takes at most %d", MaxRecord)
	}
	return &format.RowError{Type: ErrorType, Code: CodeTooLarge, Message: fmt.Sprintf("the record has %d bytes, and %s", n, most)}
}

// text and bytes gather what the body gets next.
func (e *encoder) text(s string) {
	if len(s) > blockSize-len(e.block) {
		e.flush()
	}
	e.block = append(e.block, s...) // what this package writes itself is short
}

func (e *encoder) bytes(p []byte) {
	if len(p) > blockSize-len(e.block) {
		e.flush()
		if len(p) > blockSize {
			e.hand(p)
			return
		}
	}
	e.block = append(e.block, p...)
}

// base64Piece is what is coded at a time: whole groups of three, whose code fits the block.
const base64Piece = blockSize / 4 * 3

func (e *encoder) base64(p []byte) {
	for len(p) > 0 {
		n := min(len(p), base64Piece)
		coded := base64.StdEncoding.EncodedLen(n)
		if coded > blockSize-len(e.block) {
			e.flush()
		}
		at := len(e.block)
		e.block = e.block[:at+coded]
		base64.StdEncoding.Encode(e.block[at:], p[:n])
		p = p[n:]
	}
}

func (e *encoder) flush() {
	e.hand(e.block)
	e.block = e.block[:0]
}

// hand gives a part of the body to gzip or, without it, to the writer.
func (e *encoder) hand(p []byte) {
	if e.err != nil || len(p) == 0 {
		return
	}
	e.given += int64(len(p))
	if e.zip != nil {
		_, e.err = e.zip.Write(p)
		return
	}
	_, e.err = e.out.Write(p)
}

// Buffered estimates the object: what has come out, and for the rest what the same share of it would become.
func (e *encoder) Buffered() int64 {
	rest := e.body - e.given
	if e.zip != nil {
		if ready := e.out.n; ready > 0 {
			// gzip holds back less than a block of what it has been given.
			rest = max(rest*ready/max(e.given, 1), 0)
		} else {
			rest = e.body / 3
		}
	}
	return e.out.n + rest + int64(len(e.table.b)) + trailerSize
}

// Close finishes the body and writes the table behind it.
func (e *encoder) Close() (format.Stats, error) {
	e.text(tail(e.o.Body))
	e.flush()
	if e.zip != nil && e.err == nil {
		e.err = e.zip.Close()
	}
	if e.err != nil {
		return format.Stats{}, e.err
	}
	t := trailer{Body: e.o.Body, Gzip: e.zip != nil, Length: e.out.n, Table: int64(len(e.table.b)), Rows: e.table.rows, Sum: e.out.sum()}
	if _, err := e.out.w.Write(t.append(e.table.b)); err != nil {
		e.err = err
		return format.Stats{}, err
	}
	e.err = errClosed
	return format.Stats{Rows: e.table.rows, Bytes: t.size()}, nil
}

// errClosed meets a caller who goes on with an object that is finished.
var errClosed = fmt.Errorf("the object is closed: %w", io.ErrClosedPipe)
