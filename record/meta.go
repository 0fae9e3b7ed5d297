package record

import (
	"encoding/binary"
	"errors"
)

// Meta is what a stream source knows of a record besides its Data. Its slices are views.
type Meta struct {
	Topic     string // Kafka topic, or Kinesis stream
	Lane      string // Kafka partition number, or Kinesis shard
	Offset    string // Kafka offset, or Kinesis sequence number with ".<sub>" for a part of an aggregate
	Timestamp int64  // milliseconds since 1970 as the source gives it
	Key       []byte // Kafka key, or Kinesis partition key; nil: none
	Headers   []Header
	// Fault is why the source can make nothing of the record, whose Data is as it came: it goes to the error output. "": none.
	Fault string
}

// Header is a header of a Kafka record.
type Header struct {
	Key   string
	Value []byte
}

var errMeta = errors.New("metadata of a record ends early or is too long")

// AppendMeta appends m in the form that ParseMeta reads: every text as its length, an unsigned varint, and its bytes; a key
// as its length plus one, 0 where there is none. A Fault stands at the end, and nothing where there is none.
func AppendMeta(dst []byte, m *Meta) []byte {
	dst = appendText(dst, m.Topic)
	dst = appendText(dst, m.Lane)
	dst = appendText(dst, m.Offset)
	dst = binary.AppendVarint(dst, m.Timestamp)
	if m.Key == nil {
		dst = append(dst, 0)
	} else {
		dst = binary.AppendUvarint(dst, uint64(len(m.Key))+1)
		dst = append(dst, m.Key...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.Headers)))
	for _, h := range m.Headers {
		dst = appendText(dst, h.Key)
		if h.Value == nil {
			dst = append(dst, 0)
			continue
		}
		dst = binary.AppendUvarint(dst, uint64(len(h.Value))+1)
		dst = append(dst, h.Value...)
	}
	if m.Fault != "" {
		dst = appendText(dst, m.Fault)
	}
	return dst
}

// ParseMeta reads what AppendMeta wrote, all of it. Keys and values are views of b.
func ParseMeta(b []byte) (Meta, error) {
	var m Meta
	r := metaReader{b: b}
	m.Topic, m.Lane, m.Offset = string(r.text()), string(r.text()), string(r.text())
	t, n := binary.Varint(r.b)
	if n <= 0 {
		return Meta{}, errMeta
	}
	r.b, m.Timestamp = r.b[n:], t
	m.Key = r.optional()
	count := r.number()
	if count > uint64(len(r.b)) { // a header takes two bytes at least
		return Meta{}, errMeta
	}
	if count > 0 {
		m.Headers = make([]Header, 0, count)
	}
	for range count {
		key := string(r.text())
		m.Headers = append(m.Headers, Header{Key: key, Value: r.optional()})
	}
	if len(r.b) > 0 {
		if m.Fault = string(r.text()); m.Fault == "" {
			return Meta{}, errMeta
		}
	}
	if r.bad || len(r.b) != 0 {
		return Meta{}, errMeta
	}
	return m, nil
}

// MetaFault is the Fault of what AppendMeta wrote, without looking at the rest closely. "": none.
func MetaFault(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	r := metaReader{b: b}
	r.text()
	r.text()
	r.text()
	if _, n := binary.Varint(r.b); n > 0 {
		r.b = r.b[n:]
	}
	r.optional()
	for count := r.number(); count > 0 && !r.bad; count-- {
		r.text()
		r.optional()
	}
	if r.bad || len(r.b) == 0 {
		return ""
	}
	return string(r.text())
}

func appendText[T string | []byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

type metaReader struct {
	b   []byte
	bad bool
}

func (r *metaReader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || r.bad {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *metaReader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *metaReader) text() []byte { return r.take(r.number()) }

func (r *metaReader) optional() []byte {
	n := r.number()
	if n == 0 || r.bad {
		return nil
	}
	if b := r.take(n - 1); b != nil {
		return b
	}
	return []byte{}
}
