package directput

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/segmentio/asm/base64"

	"hydrant/record"
)

// envelope is what a put's body says beside its records.
type envelope struct {
	stream  *string // DeliveryStreamName, nil when absent
	present bool    // Record or Records is there
	count   int     // records that the body has, whether right or wrong
	unknown int     // members that nobody knows
	faults  faults  // of the records, at most those of the first MaxBatchRecords
}

// decodeBatch reads the body of a PutRecord (single) or PutRecordBatch, appends the Data of its records to
// b and returns what else it says. It has read all of the body, and b has all records, where there is no
// error; records without Data are in the faults and not in b. Errors are SerializationExceptions.
//
// Base64 is of the standard alphabet, with its padding; the bits that the last character has too many of
// are ignored. A member that is given twice is an error: which one counts is not for us to choose.
func decodeBatch(body []byte, single bool, b *record.Batch) (e envelope, err error) {
	s, err := scan(body)
	if err != nil {
		return e, err
	}
	d := decoder{s: s, e: &e, b: b, single: single}
	if s.peek() != '{' {
		return e, s.malformed("an object")
	}
	var seen members
	err = s.object(func(key []byte) error {
		switch string(key) {
		case "DeliveryStreamName":
			if err := seen.once(0, "deliveryStreamName", s); err != nil || s.null() {
				return err
			}
			name, err := s.text("deliveryStreamName")
			e.stream = &name
			return err
		case "Record", "Records":
			if single != (len(key) == len("Record")) {
				break
			}
			if err := seen.once(1, lowerFirst(string(key)), s); err != nil || s.null() {
				return err
			}
			e.present = true
			if single {
				e.count = 1
				return d.record()
			}
			if s.peek() != '[' {
				return s.wrongType("records", "an array")
			}
			return s.array(func() error {
				e.count++
				return d.record()
			})
		}
		e.unknown++
		return s.skip(1)
	})
	if err != nil {
		return e, err
	}
	return e, s.end()
}

// bound is the most bytes that the records of a body take in a batch, with the headroom: base64 shrinks by
// a quarter, and the length that a record gets is shorter than the JSON around its Data.
func bound(body int) int { return record.Headroom + body/4*3 + record.MaxVarint }

// members remembers which known members of an object were there.
type members uint8

// once refuses the member with this number when it comes for the second time.
func (m *members) once(number int, path string, s *scanner) error {
	if *m&(1<<number) != 0 {
		return errSerialization("%s is given a second time at byte %d.", path, s.pos)
	}
	*m |= 1 << number
	return nil
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// decoder reads the records of one body.
type decoder struct {
	s      *scanner
	e      *envelope
	b      *record.Batch
	single bool
}

// path of the current record, or of its Data.
func (d *decoder) path(data bool) string {
	path := "record"
	if !d.single {
		path = fmt.Sprintf("records.%d.member", d.e.count)
	}
	if data {
		path += ".data"
	}
	return path
}

// fault notes that the current record breaks a constraint.
func (d *decoder) fault(data bool, constraint string) {
	if d.e.count <= MaxBatchRecords {
		d.e.faults.add(d.path(data), constraint)
	}
}

// record reads {"Data": "..."}.
func (d *decoder) record() error {
	s := d.s
	if s.null() {
		d.fault(false, notNull)
		return nil
	}
	if s.peek() != '{' {
		return s.wrongType(d.path(false), "an object")
	}
	var seen members
	there := false
	err := s.object(func(key []byte) error {
		if string(key) != "Data" {
			d.e.unknown++
			return s.skip(3)
		}
		if seen&1 != 0 {
			return seen.once(0, d.path(true), s)
		}
		seen |= 1
		if s.null() {
			return nil
		}
		if s.peek() != '"' {
			return s.wrongType(d.path(true), "a string of base64")
		}
		there = true
		return d.data()
	})
	if err == nil && !there {
		d.fault(true, notNull)
	}
	return err
}

// data reads the string of base64 at the current byte and appends what it stands for.
func (d *decoder) data() error {
	s, at := d.s, d.s.pos
	text, plain := []byte(nil), false
	// Nearly always nothing is escaped, and then decoding checks every character by itself.
	if end := bytes.IndexByte(s.data[at+1:], '"'); end >= 0 {
		text = s.data[at+1 : at+1+end]
		plain = bytes.IndexByte(text, '\\') < 0
	}
	before := d.b.Payload()
	if plain && appendBase64(d.b, text) {
		s.pos += len(text) + 2
	} else {
		text, err := s.string()
		if err != nil {
			return err
		}
		if plain || !appendBase64(d.b, text) {
			return errSerialization("%s at byte %d is not base64.", d.path(true), at)
		}
	}
	if d.b.Payload()-before > MaxRecordBytes {
		d.fault(true, atMost("length", MaxRecordBytes))
	}
	return nil
}

// appendBase64 adds the record that text stands for; where text is not base64, false, and the batch is of
// no use any more.
func appendBase64(b *record.Batch, text []byte) bool {
	if len(text)%4 != 0 {
		return false
	}
	n := len(text) / 4 * 3
	if n > 0 {
		if text[len(text)-1] == '=' {
			n--
		}
		if text[len(text)-2] == '=' {
			n--
		}
	}
	// Line breaks, which the decoder passes over, leave it with less than n bytes.
	got, err := base64.StdEncoding.Decode(b.Extend(n), text)
	return err == nil && got == n
}
