package delivery

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"hydrant/buffer"
	"hydrant/format"
	"hydrant/record"
	"hydrant/sinks"
	"hydrant/transform"
)

// endpointFailed is the type of the error output for records that an HTTP endpoint did not take, as error lines.
const endpointFailed = "http-endpoint-failed"

// requests is the stream's format where its data objects are requests, or nil.
func (p *Pipeline) requests() format.Requests {
	r, _ := p.Format.(format.Requests)
	return r
}

// dataHead is what the pack keeps of a data object. The id of a request is that of its name.
func (p *Pipeline) dataHead(key string) buffer.ObjectHead {
	h := buffer.ObjectHead{
		Key:             key,
		Role:            buffer.Data,
		Destination:     p.Destination.ID,
		ContentType:     contentType,
		ContentEncoding: p.Format.ContentEncoding(),
		SchemaVersion:   p.Format.SchemaVersion(),
	}
	if r := p.requests(); r != nil {
		h.ContentType, h.RequestID = r.ContentType(), idOf(key)
	}
	return h
}

// idOf is the UUID in key's object name.
func idOf(key string) string {
	start := strings.LastIndexByte(key, '/') + 1
	for i := len(key) - uuidLength; i >= start; i-- {
		if id, err := uuid.Parse(key[i : i+uuidLength]); err == nil {
			return id.String()
		}
	}
	return ""
}

// announce tells an encoder of requests which one it writes next.
func announce(e format.Encoder, h buffer.ObjectHead) {
	if r, ok := e.(format.RequestEncoder); ok {
		r.Request(h.RequestID, time.Now())
	}
}

// requestObject is what a sink gets of a request: the body.
func (s *stream) requestObject(t *task, o sinks.Object, requests format.Requests) (sinks.Object, error) {
	length, sum, err := requests.Body(o.ReaderAt, o.Size)
	if errors.Is(err, format.ErrDamaged) {
		return o, &sinks.Error{Class: sinks.Damaged, Code: "Damaged", Err: err}
	}
	if err != nil {
		return o, &localError{fmt.Errorf("read request %q: %w", t.info().Key, err)}
	}
	o.RequestID, o.Size, o.SHA256, o.CRC64NVME = t.info().RequestID, length, sum, 0
	return o, nil
}

// errorHead is what the pack keeps of an object of the error output.
func (p *Pipeline) errorHead(key string) buffer.ObjectHead {
	h := buffer.ObjectHead{Key: key, Role: buffer.Error, Destination: p.errors().ID, ContentType: contentType}
	if p.ErrorFormat != nil {
		h.ContentEncoding = p.ErrorFormat.ContentEncoding()
	}
	return h
}

// errorExtension of objects of the error output.
func (p *Pipeline) errorExtension() string {
	if p.ErrorFormat == nil {
		return ""
	}
	return p.ErrorFormat.Extension()
}

// lineFormat writes lines of the error output in the pipeline's format for them, one object after the other.
type lineFormat struct {
	enc  format.Encoder // of the object that is open, nil where lines stand as they are
	kept format.Encoder
}

// start begins an object on w and returns what its lines are written to, each with one Write.
func (l *lineFormat) start(p *Pipeline, w io.Writer) io.Writer {
	if p.ErrorFormat == nil {
		l.enc = nil
		return w
	}
	if l.kept == nil {
		l.kept = p.ErrorFormat.NewEncoder()
	}
	l.enc = l.kept
	l.enc.Reset(w)
	return l
}

func (l *lineFormat) Write(line []byte) (int, error) {
	if err := l.enc.Append(record.Row{Data: line}); err != nil {
		return 0, err
	}
	return len(line), nil
}

// finish ends the object.
func (l *lineFormat) finish() error {
	if l.enc == nil {
		return nil
	}
	_, err := l.enc.Close()
	l.enc = nil
	return err
}

// appendEndpointFailed adds the line of a row that an endpoint did not take: Firehose's members in Firehose's order.
func appendEndpointFailed(b []byte, row record.Row, attempts int, code, message string, ended time.Time) []byte {
	b = append(b, `{"attemptsMade":`...)
	b = strconv.AppendInt(b, int64(attempts), 10)
	b = append(b, `,"arrivalTimestamp":`...)
	b = strconv.AppendInt(b, row.Arrived/1000, 10)
	b = append(b, `,"errorCode":`...)
	b = transform.AppendString(b, code)
	b = append(b, `,"errorMessage":`...)
	b = transform.AppendString(b, message)
	b = append(b, `,"attemptEndingTimestamp":`...)
	b = strconv.AppendInt(b, ended.UnixMilli(), 10)
	b = append(b, `,"rawData":"`...)
	b = base64.StdEncoding.AppendEncode(b, row.Data)
	b = append(b, `","subsequenceNumber":`...)
	b = strconv.AppendUint(b, uint64(row.Sub), 10)
	b = append(b, `,"dataId":"`...)
	b = strconv.AppendUint(b, row.Seq, 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(row.Sub), 10)
	return append(b, "\"}\n"...)
}
