// Package text writes records as they came, one after the other. Records flow in; out flows an object that
// holds their bytes in order, unchanged, with nothing added but the newlines that were asked for, as a whole
// compressed or not. An encoder keeps at most a block of what it was given; it holds nothing that a crash
// could lose, since the records stay where they are until a manifest is durable. The same records give the
// same bytes, whatever the encoder wrote before.
package text

import (
	"fmt"
	"io"
	"strings"

	"hydrant/format"
	"hydrant/record"
)

// Delimiter is where a newline is put. One that a record ends with already counts as part of the record.
type Delimiter string

// The delimiters. Firehose puts none unless AppendDelimiterToRecord is asked for, which is DelimiterBetween.
const (
	DelimiterNone    Delimiter = "none"
	DelimiterBetween Delimiter = "between" // between records, and not after the last
	DelimiterAfter   Delimiter = "after"   // after every record
)

// blockSize is how much is gathered before it is written: records are small and writes are system calls.
const blockSize = 64 << 10

// Options of a Format. The zero value is text as Firehose writes it.
type Options struct {
	Delimiter   Delimiter   // "": DelimiterNone
	Compression Compression // "": CompressionNone
}

// Format writes text. It is immutable and safe for concurrent use.
type Format struct {
	delimiter           Delimiter
	compression         Compression
	extension, encoding string
	overhead            int64
}

var _ format.Format = (*Format)(nil)

// New checks the options.
func New(o Options) (*Format, error) {
	f := &Format{delimiter: o.Delimiter}
	switch o.Delimiter {
	case "":
		f.delimiter = DelimiterNone
	case DelimiterNone, DelimiterBetween, DelimiterAfter:
	default:
		return nil, fmt.Errorf("delimiter %q is not one of none, between, after", o.Delimiter)
	}
	if o.Compression == "" {
		o.Compression = CompressionNone
	}
	var names []string
	for _, c := range compressions {
		if c.name == o.Compression {
			f.compression, f.extension, f.encoding, f.overhead = c.name, c.extension, c.encoding, c.overhead
			return f, nil
		}
		names = append(names, string(c.name))
	}
	return nil, fmt.Errorf("compression %q is not one of %s", o.Compression, strings.Join(names, ", "))
}

// Extension of object names: ".gz" and the like, or "" without compression.
func (f *Format) Extension() string { return f.extension }

// ContentEncoding of objects, as Firehose names it: "gzip" and the like, or "" without compression.
func (f *Format) ContentEncoding() string { return f.encoding }

// SchemaVersion is always "": text has no schema.
func (f *Format) SchemaVersion() string { return "" }

// NewEncoder returns an encoder. Without compression it takes 64 KiB, with snappy about 200 KiB, with gzip and
// zip about 1 MiB and with zstd about 4 MiB.
func (f *Format) NewEncoder() format.Encoder {
	return &encoder{delimiter: f.delimiter, compression: f.compression, overhead: f.overhead, block: make([]byte, 0, blockSize)}
}

// encoder gathers records in block, which goes through the compressor, if any, to the writer.
type encoder struct {
	delimiter   Delimiter
	compression Compression
	overhead    int64

	block []byte     // gathered and not yet handed on; never longer than blockSize
	zip   compressor // made at the first object, kept for the next ones; nil without compression
	out   counter    // what the object's writer has got
	err   error      // what ended the object, until Reset
	rows  int64
	first firstRow
	given int64 // bytes handed to zip

	// The compressor holds back what it has not finished a block of. What that will become is estimated by
	// what came out for what had gone in when something last came out.
	ratioIn, ratioOut int64
}

var _ format.Encoder = (*encoder)(nil)

// counter passes on to an object's writer and counts.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// Reset drops what was not finished and starts an object on w.
func (e *encoder) Reset(w io.Writer) {
	e.block = e.block[:0]
	e.out = counter{w: w}
	e.err = nil
	e.first = firstRow{}
	e.rows, e.given, e.ratioIn, e.ratioOut = 0, 0, 0, 0
	if e.zip == nil {
		e.zip = newCompressor(e.compression, &e.first)
	}
	if e.zip != nil {
		e.zip.Reset(&e.out)
	}
}

// Append adds the row's bytes. Every row fits: the only errors are the writer's.
func (e *encoder) Append(row record.Row) error {
	if e.err != nil {
		return e.err
	}
	if e.delimiter == DelimiterBetween && e.rows > 0 {
		e.add('\n')
	}
	if e.rows == 0 {
		e.first = firstRow{row.Seq, row.Arrived}
	}
	e.rows++
	if len(row.Data) > blockSize-len(e.block) {
		e.flush()
	}
	if len(row.Data) > blockSize {
		e.hand(row.Data)
	} else {
		e.block = append(e.block, row.Data...)
	}
	if e.delimiter == DelimiterAfter {
		e.add('\n')
	}
	return e.err
}

func (e *encoder) add(c byte) {
	if len(e.block) == blockSize {
		e.flush()
	}
	e.block = append(e.block, c)
}

// flush hands the block on.
func (e *encoder) flush() {
	e.hand(e.block)
	e.block = e.block[:0]
}

// hand gives bytes to the compressor or, without one, to the writer.
func (e *encoder) hand(p []byte) {
	if e.zip == nil {
		if e.err == nil && len(p) > 0 {
			_, e.err = e.out.Write(p)
		}
		return
	}
	for len(p) > 0 && e.err == nil {
		n := min(len(p), blockSize)
		before := e.out.n
		_, e.err = e.zip.Write(p[:n])
		// What came out of deflate or zstd is a block of its own, which is no longer than two of ours and ends
		// about where this one starts. Snappy holds back what it says.
		in := e.given
		e.given += int64(n)
		if s, ok := e.zip.(*snappy); ok {
			in = e.given - int64(len(s.held))
		}
		if e.out.n > before && in > 0 {
			e.ratioIn, e.ratioOut = in, e.out.n
		}
		p = p[n:]
	}
}

// Buffered is the object's bytes so far with, for what is still gathered, its own size, or with compression an
// estimate from what the object's earlier bytes were compressed to.
func (e *encoder) Buffered() int64 {
	if e.zip == nil {
		return e.out.n + int64(len(e.block))
	}
	pending := e.given - e.ratioIn + int64(len(e.block))
	if e.ratioIn > 0 {
		return e.ratioOut + pending*e.ratioOut/e.ratioIn + e.overhead
	}
	// Nothing has come out: JSON usually becomes a quarter.
	return pending/4 + e.overhead
}

// Close finishes the object. Without rows it is empty, or what the compression makes of nothing.
func (e *encoder) Close() (format.Stats, error) {
	e.flush()
	if e.zip != nil && e.err == nil {
		e.err = e.zip.Close()
	}
	if e.err != nil {
		return format.Stats{}, e.err
	}
	e.err = errClosed
	return format.Stats{Rows: e.rows, Bytes: e.out.n}, nil
}

// errClosed meets a caller who goes on with an object that is finished.
var errClosed = fmt.Errorf("the object is closed: %w", io.ErrClosedPipe)
