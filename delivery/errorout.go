package delivery

import (
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"time"

	"hydrant/prefix"
	"hydrant/record"
	"hydrant/transform"
)

// Codes of reasons that are Hydrant's own or that it gives in Firehose's stead.
const (
	codeObjectKey   = "Hydrant.ObjectKey"                               // no key can be made that the store takes
	codeEncoderBug  = "DataFormatConversion.ConversionFailureException" // the encoder broke on this row
	maxKeptErrorBuf = 1 << 20                                           // of the line buffer that a worker keeps
)

// errorObjectBytes is where an object of the error output is full: many readers load one whole. Where
// buffer.size is smaller, that counts.
const errorObjectBytes = 64 << 20

// errorOutput writes the rows of one claim that cannot be delivered, with their reasons, as lines of
// objects in a pack of their own, which exists from the first such row on. Not safe for concurrent use.
type errorOutput struct {
	j    *job
	line []byte // reused

	pack      pack
	w         io.Writer
	lines     lineFormat
	errorType string // of the object that is open, "" for none
	route     string
	from      int64 // arrivals in [from, until), µs, have this route
	until     int64
	object    tallied
	bytes     int64 // written to the open object
	total     int64 // records of all objects

	apart map[routedType]*heldLines // of other types and routes than the open object's
	order []routedType              // of apart, as they came
	held  int                       // bytes of their lines
}

// tallied is what a pack wants to know of an object's records.
type tallied struct {
	records  int64 // that count here: one that was taken apart counts once
	rows     int64
	firstSeq uint64
	oldest   int64 // arrival of the first record, which is the oldest one
}

func (t *tallied) add(row record.Row, counts bool) {
	if t.rows == 0 || row.Seq < t.firstSeq {
		t.firstSeq, t.oldest = row.Seq, row.Arrived // what failed before a function may have overtaken what it had
	}
	t.rows++
	if counts {
		t.records++
	}
}

// add writes one row; counts is whether its record counts here. Its errors end the cut.
func (e *errorOutput) add(errorType string, row record.Row, code, message string, counts bool) error {
	route, err := e.turn(errorType, row)
	if err != nil {
		return err
	}
	now := time.Now()
	switch errorType {
	case endpointFailed:
		e.line = appendEndpointFailed(e.line[:0], row, 1, code, message, now)
	case formatConversionFailed:
		e.line = appendConversionFailed(e.line[:0], row, code, message, now, e.j.pipe.Catalog)
	default:
		e.line = appendFailed(e.line[:0], row, code, message, now)
	}
	e.j.codes.add(errorType, code)
	if route != e.route || errorType != e.errorType {
		return e.hold(routedType{errorType, route}, row, counts)
	}
	return e.write(row, e.line, counts)
}

// turn returns the route of a row, and sees to it that an object is open. Where that is one of another type or route, the row
// has to wait: a pack takes one object at a time, and one for each turn would be as many as rows where two faults alternate.
func (e *errorOutput) turn(errorType string, row record.Row) (route string, err error) {
	if e.errorType != "" && (e.errorType != errorType || row.Arrived < e.from || row.Arrived >= e.until) {
		p := e.j.pipe
		route = p.ErrorPrefix.Route(prefix.Values{Time: p.errorAt(row.Arrived), ErrorOutputType: errorType})
		if e.errorType != errorType || e.route != route {
			return route, nil
		}
	}
	err = e.open(errorType, row)
	return e.route, err
}

// open sees to it that an object is open which may hold a row of this type and arrival.
func (e *errorOutput) open(errorType string, row record.Row) error {
	p := e.j.pipe
	full := e.full()
	if e.errorType == errorType && row.Arrived >= e.from && row.Arrived < e.until && !full {
		return nil
	}
	v := prefix.Values{Time: p.errorAt(row.Arrived), ErrorOutputType: errorType}
	route := p.ErrorPrefix.Route(v)
	same := e.errorType == errorType && e.route == route && !full
	from, until := p.ErrorPrefix.SameRoute(v)
	e.route, e.from, e.until = route, from.UnixMicro(), until.UnixMicro()
	if same {
		return nil
	}
	return e.begin(errorType, route, row)
}

// full tells whether the open object is.
func (e *errorOutput) full() bool {
	return e.bytes >= min(errorObjectBytes, max(e.j.pipe.Size, 1))
}

// begin ends the open object and starts one for a type and a route, whose first record row is.
func (e *errorOutput) begin(errorType, route string, row record.Row) error {
	if err := e.close(); err != nil {
		return err
	}
	p := e.j.pipe
	key, err := p.errorKey(errorType, e.j.name, e.j.version, row.Arrived, p.errorExtension())
	if err != nil {
		return fmt.Errorf("make a key for the error output: %w", err)
	}
	if e.pack == nil {
		if e.pack, err = e.j.store.NewPack(); err != nil {
			return &packError{fmt.Errorf("start a pack for error records: %w", err)}
		}
	}
	w, err := e.pack.Begin(p.errorHead(key))
	if err != nil {
		return &packError{fmt.Errorf("begin %q: %w", key, err)}
	}
	e.w = e.lines.start(p, w)
	e.errorType, e.route, e.bytes, e.object = errorType, route, 0, tallied{}
	return nil
}

// end closes the open object and writes those of all lines that wait.
func (e *errorOutput) end() error {
	for len(e.order) > 0 {
		if err := e.pour(e.order[0]); err != nil {
			return err
		}
	}
	return e.close()
}

// close ends the open object. Every object has at least one row, or the cut has failed.
func (e *errorOutput) close() error {
	if e.errorType == "" {
		return nil
	}
	e.errorType = ""
	if err := e.lines.finish(); err != nil {
		return &packError{fmt.Errorf("finish an object of error records: %w", err)}
	}
	if err := e.pack.End(e.object.records, e.object.firstSeq, e.object.oldest); err != nil {
		return &packError{fmt.Errorf("end an object of error records: %w", err)}
	}
	return nil
}

// abort removes what was written.
func (e *errorOutput) abort() {
	if e.pack != nil {
		e.pack.Abort()
		e.pack = nil
	}
}

// appendConversionFailed adds the line of a row that does not fit the format: Firehose's members in
// Firehose's order.
func appendConversionFailed(b []byte, row record.Row, code, message string, now time.Time, catalog map[string]string) []byte {
	b = append(b, `{"attemptsMade":1,"arrivalTimestamp":`...)
	b = strconv.AppendInt(b, row.Arrived/1000, 10)
	b = append(b, `,"lastErrorCode":`...)
	b = transform.AppendString(b, code)
	b = append(b, `,"lastErrorMessage":`...)
	b = transform.AppendString(b, message)
	b = append(b, `,"attemptEndingTimestamp":`...)
	b = strconv.AppendInt(b, now.UnixMilli(), 10)
	b = append(b, `,"rawData":"`...)
	b = base64.StdEncoding.AppendEncode(b, row.Data)
	b = append(b, `","sequenceNumber":"`...)
	b = strconv.AppendUint(b, row.Seq, 10)
	b = append(b, `","subSequenceNumber":`...)
	b = strconv.AppendUint(b, uint64(row.Sub), 10)
	b = append(b, `,"dataCatalogTable":`...)
	if catalog == nil {
		return append(b, "null}\n"...)
	}
	for i, member := range [...]string{"catalogId", "databaseName", "tableName", "region", "versionId", "catalogArn"} {
		if i == 0 {
			b = append(b, '{')
		} else {
			b = append(b, ',')
		}
		b = transform.AppendString(b, member)
		b = append(b, ':')
		if value, ok := catalog[member]; ok {
			b = transform.AppendString(b, value)
		} else {
			b = append(b, "null"...)
		}
	}
	return append(b, "}}\n"...)
}

// appendFailed adds the line of a row that failed before it came to a format: the members that Firehose's
// other stages have in common, in their order.
func appendFailed(b []byte, row record.Row, code, message string, now time.Time) []byte {
	b = append(b, `{"rawData":"`...)
	b = base64.StdEncoding.AppendEncode(b, row.Data)
	b = append(b, `","errorCode":`...)
	b = transform.AppendString(b, code)
	b = append(b, `,"errorMessage":`...)
	b = transform.AppendString(b, message)
	b = append(b, `,"attemptsMade":1,"arrivalTimestamp":`...)
	b = strconv.AppendInt(b, row.Arrived/1000, 10)
	b = append(b, `,"attemptEndingTimestamp":`...)
	b = strconv.AppendInt(b, now.UnixMilli(), 10)
	return append(b, "}\n"...)
}
