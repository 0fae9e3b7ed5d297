package directput

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/segmentio/asm/base64"
	asmutf8 "github.com/segmentio/asm/utf8"

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
	d := decoder{s: &scanner{data: body}, e: &e, b: b, single: single}
	err = d.body()
	// Bytes beyond ASCII are right in the strings that the scanner marks and nowhere else, so nearly always
	// there is nothing to validate: in base64 they are an error, as between tokens.
	if (err != nil || d.s.wide) && !asmutf8.Valid(body) {
		err = errNotUTF8()
	}
	return e, err
}

// body reads all of the body.
func (d *decoder) body() error {
	s, e := d.s, d.e
	if s.peek() != '{' {
		return s.malformed("an object")
	}
	var seen members
	err := s.object(func(key []byte) error {
		switch string(key) {
		case "DeliveryStreamName":
			if err := seen.once(0, "deliveryStreamName", s); err != nil || s.null() {
				return err
			}
			name, err := s.text("deliveryStreamName")
			e.stream = &name
			return err
		case "Record", "Records":
			if d.single != (len(key) == len("Record")) {
				break
			}
			if err := seen.once(1, lowerFirst(string(key)), s); err != nil || s.null() {
				return err
			}
			e.present = true
			if d.single {
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
		return err
	}
	return s.end()
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
	if d.usual() {
		return nil
	}
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

// usual reads a record at the current byte that is written as encoders write it, {"Data":"..."} or
// {"Data": "..."}, without escapes. It has read nothing where it says false.
func (d *decoder) usual() bool {
	const head, spaced = `{"Data":"`, `{"Data": "`
	text := d.s.data[d.s.pos:]
	begin := 0
	switch {
	case len(text) < len(spaced):
		return false
	case string(text[:len(head)]) == head:
		begin = len(head)
	case string(text[:len(spaced)]) == spaced:
		begin = len(spaced)
	default:
		return false
	}
	n := bytes.IndexByte(text[begin:], '"')
	end := begin + n + 1 // of the string
	if n < 0 || end == len(text) || text[end] != '}' || !d.append(text[begin:end-1]) {
		return false
	}
	d.s.pos += end + 1
	return true
}

// data reads the string of base64 at the current byte and appends what it stands for.
func (d *decoder) data() error {
	s, at := d.s, d.s.pos
	// Nearly always nothing is escaped, and then decoding checks every character by itself.
	if n := bytes.IndexByte(s.data[at+1:], '"'); n >= 0 && d.append(s.data[at+1:at+1+n]) {
		s.pos += n + 2
		return nil
	}
	text, err := s.string()
	if err == nil && !d.append(text) {
		err = errSerialization("%s at byte %d is not base64.", d.path(true), at)
	}
	return err
}

// append adds the record that text stands for to the batch, or nothing where text is not base64.
func (d *decoder) append(text []byte) bool {
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
	// Line breaks, which the library passes over, leave it with less than n bytes.
	if got, err := base64.StdEncoding.Decode(d.b.Extend(n), text); err != nil || got != n {
		d.b.Retract(n)
		return false
	}
	if n > MaxRecordBytes {
		d.fault(true, atMost("length", MaxRecordBytes))
	}
	return true
}
