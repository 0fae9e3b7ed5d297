// Package decompress expands records that producers sent compressed. Records flow in and out; nothing is kept.
package decompress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"

	"hydrant/transform"
)

const name = "Decompress"

// Code of records that cannot be expanded, Firehose's.
const Code = "Decompression failed."

// Formats.
const (
	Gzip           = "gzip"            // one or more gzip members
	CloudWatchLogs = "cloudwatch_logs" // gzip of a document as CloudWatch Logs subscriptions send it
)

// Options of a Decompress.
type Options struct {
	Format string // Gzip or CloudWatchLogs
	// Extract the messages of a CloudWatch Logs document: each with a line feed after it, one record for the document.
	// Control messages are dropped.
	Extract bool
}

// Decompress is the processor decompress.
type Decompress struct {
	o       Options
	readers sync.Pool // of *reader
}

type reader struct {
	src bytes.Reader
	z   *gzip.Reader // nil before the first record
}

var _ transform.Processor = (*Decompress)(nil)

// New returns the processor.
func New(o Options) (*Decompress, error) {
	switch o.Format {
	case Gzip:
		if o.Extract {
			return nil, errors.New("messages are extracted from cloudwatch_logs only")
		}
	case CloudWatchLogs:
	default:
		return nil, fmt.Errorf("format %q: %s or %s is wanted", o.Format, Gzip, CloudWatchLogs)
	}
	p := &Decompress{o: o}
	p.readers.New = func() any { return &reader{} }
	return p, nil
}

// Process expands the record, at most to transform.MaxData.
func (p *Decompress) Process(d *transform.Document) (transform.Verdict, *transform.Failure) {
	b, err := p.expand(d.Scratch(), d.Data())
	if err != nil {
		return 0, &transform.Failure{Type: transform.DecompressionFailed, Code: Code, Message: fmt.Sprintf("The record cannot be expanded as gzip: %v.", err)}
	}
	d.SetOwned(b)
	if p.o.Format == Gzip {
		return transform.Keep, nil
	}
	return p.logs(d)
}

// expand appends to dst what the gzip text src holds.
func (p *Decompress) expand(dst, src []byte) ([]byte, error) {
	r := p.readers.Get().(*reader)
	defer p.readers.Put(r)
	r.src.Reset(src)
	defer r.src.Reset(nil)
	var err error
	if r.z == nil {
		r.z, err = gzip.NewReader(&r.src)
	} else {
		err = r.z.Reset(&r.src)
	}
	if err != nil {
		if err == io.EOF {
			err = errors.New("it is empty")
		}
		return nil, err
	}
	for {
		if len(dst) > transform.MaxData {
			return nil, fmt.Errorf("it holds more than %d bytes", transform.MaxData)
		}
		dst = slices.Grow(dst, max(512, 2*len(src)))
		n, err := r.z.Read(dst[len(dst):min(cap(dst), transform.MaxData+1)])
		dst = dst[:len(dst)+n]
		if err == io.EOF {
			if len(dst) > transform.MaxData {
				continue
			}
			return dst, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// logs looks at a document of CloudWatch Logs and takes its messages out.
func (p *Decompress) logs(d *transform.Document) (transform.Verdict, *transform.Failure) {
	root, failure := d.Object(name)
	if failure != nil {
		return 0, failure
	}
	messageType := d.Member(root, "messageType")
	if messageType == 0 || d.Kind(messageType) != transform.String {
		return 0, transform.Failf(name, "The record is no document of CloudWatch Logs: messageType is missing or no string.")
	}
	switch kind := string(d.StringValue(messageType)); {
	case kind != "DATA_MESSAGE" && kind != "CONTROL_MESSAGE":
		return 0, transform.Failf(name, "The record is no document of CloudWatch Logs: messageType is %.64q.", kind)
	case !p.o.Extract:
		return transform.Keep, nil
	case kind == "CONTROL_MESSAGE":
		return transform.Drop, nil
	}
	events := d.Member(root, "logEvents")
	if events == 0 || d.Kind(events) != transform.Array {
		return 0, transform.Failf(name, "The record is no document of CloudWatch Logs: logEvents is missing or no array.")
	}
	out := d.Scratch()
	for i, e := 0, d.First(events); e != 0; i, e = i+1, d.Next(e) {
		message := transform.Ref(0)
		if d.Kind(e) == transform.Object {
			message = d.Member(e, "message")
		}
		if message == 0 || d.Kind(message) != transform.String {
			return 0, transform.Failf(name, "The record is no document of CloudWatch Logs: logEvents[%d].message is missing or no string.", i)
		}
		out = append(append(out, d.StringValue(message)...), '\n')
	}
	d.SetOwned(out)
	return transform.Keep, nil
}
