package request

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/segmentio/asm/base64"

	"hydrant/format"
	"hydrant/record"
)

// An object is a body, a table and a trailer of 64 bytes.
//
//	table    for each row: sequence · sub-number · arrival · length and newline. The sequence is the step from the row
//	         before, or from 0, and so is the arrival, which is signed; the last is twice the length of the row's Data,
//	         plus 1 where the body has a newline after it that is not part of it. All are varints.
//
//	trailer    0  magic "HREQ"
//	           4  version u16: 1
//	           6  body u8: 1 firehose, 2 ndjson, 3 json_array
//	           7  gzip u8: 0 or 1
//	           8  length of the body u64
//	          16  length of the table u32
//	          20  rows u32
//	          24  SHA-256 of the body
//	          56  CRC32C of the table
//	          60  CRC32C of the trailer before it
const (
	trailerMagic   = 0x51455248 // "HREQ"
	trailerVersion = 1
	trailerSize    = 64

	// maxTable bounds what is read of a table: MaxRecords rows of 10, 5, 10 and 5 bytes.
	maxTable = MaxRecords * 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var bodies = []Body{1: Firehose, 2: NDJSON, 3: JSONArray}

// table is what is written of an object's rows.
type table struct {
	b       []byte
	rows    int64
	seq     uint64
	arrived int64
}

func (t *table) reset() { *t = table{b: t.b[:0]} }

func (t *table) add(row record.Row, newline bool) {
	t.b = binary.AppendUvarint(t.b, row.Seq-t.seq)
	t.b = binary.AppendUvarint(t.b, uint64(row.Sub))
	t.b = binary.AppendVarint(t.b, row.Arrived-t.arrived)
	length := uint64(len(row.Data)) << 1
	if newline {
		length |= 1
	}
	t.b = binary.AppendUvarint(t.b, length)
	t.seq, t.arrived = row.Seq, row.Arrived
	t.rows++
}

// next reads a row, without its Data, from the front of the table.
func (t *table) next() (row record.Row, length int64, newline bool, err error) {
	var steps [3]uint64
	for i := range steps {
		if steps[i], err = t.uvarint(); err != nil {
			return row, 0, false, err
		}
	}
	n, err := t.uvarint()
	if err != nil {
		return row, 0, false, err
	}
	if steps[1] > 1<<32-1 || n>>1 > MaxBody {
		return row, 0, false, damaged("a row that cannot be")
	}
	t.seq += steps[0]
	t.arrived += int64(steps[2]>>1) ^ -int64(steps[2]&1)
	return record.Row{Seq: t.seq, Sub: uint32(steps[1]), Arrived: t.arrived}, int64(n >> 1), n&1 == 1, nil
}

func (t *table) uvarint() (uint64, error) {
	n, w := binary.Uvarint(t.b)
	if w <= 0 {
		return 0, damaged("a number is cut off")
	}
	t.b = t.b[w:]
	return n, nil
}

// trailer is the end of an object.
type trailer struct {
	Body   Body
	Gzip   bool
	Length int64
	Table  int64
	Rows   int64
	Sum    [32]byte
}

func (t *trailer) size() int64 { return t.Length + t.Table + trailerSize }

// append adds the trailer to the table that stands before it.
func (t *trailer) append(table []byte) []byte {
	sum := crc32.Checksum(table, castagnoli)
	b := binary.LittleEndian.AppendUint32(table, trailerMagic)
	b = binary.LittleEndian.AppendUint16(b, trailerVersion)
	for i, body := range bodies {
		if body == t.Body {
			b = append(b, byte(i))
		}
	}
	b = append(b, 0)
	if t.Gzip {
		b[len(b)-1] = 1
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(t.Length))
	b = binary.LittleEndian.AppendUint32(b, uint32(t.Table))
	b = binary.LittleEndian.AppendUint32(b, uint32(t.Rows))
	b = append(b, t.Sum[:]...)
	b = binary.LittleEndian.AppendUint32(b, sum)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[len(b)-60:], castagnoli))
}

func damaged(what string) error { return fmt.Errorf("%w: %s", format.ErrDamaged, what) }

// readTrailer reads and checks the end of an object of size bytes.
func readTrailer(r io.ReaderAt, size int64) (t trailer, table []byte, err error) {
	if size < trailerSize {
		return t, nil, damaged("it is too short")
	}
	b := make([]byte, trailerSize)
	if err := readFull(r, b, size-trailerSize); err != nil {
		return t, nil, err
	}
	le := binary.LittleEndian
	switch {
	case le.Uint32(b) != trailerMagic, le.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli):
		return t, nil, damaged("it does not end as a request does")
	case le.Uint16(b[4:]) != trailerVersion:
		return t, nil, fmt.Errorf("the request was written in version %d of its form, and this program knows %d", le.Uint16(b[4:]), trailerVersion)
	case b[6] == 0 || int(b[6]) >= len(bodies), b[7] > 1:
		return t, nil, damaged("a body of no known form")
	}
	t = trailer{Body: bodies[b[6]], Gzip: b[7] == 1, Length: int64(le.Uint64(b[8:])), Table: int64(le.Uint32(b[16:])), Rows: int64(le.Uint32(b[20:])), Sum: [32]byte(b[24:56])}
	if t.Length < 0 || t.Table > maxTable || t.Rows > MaxRecords || t.Length > size-trailerSize-t.Table || t.size() != size {
		return t, nil, damaged("its lengths do not fit")
	}
	table = make([]byte, t.Table)
	if err := readFull(r, table, t.Length); err != nil {
		return t, nil, err
	}
	if crc32.Checksum(table, castagnoli) != le.Uint32(b[56:]) {
		return t, nil, damaged("the table of its records")
	}
	return t, table, nil
}

// readFull reads all of p; an object that ends before is damaged.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return damaged(fmt.Sprintf("it ends at byte %d", off+int64(n)))
	}
	return fmt.Errorf("read the request at byte %d: %w", off, err)
}

// Body tells what of an object is sent.
func (f *Format) Body(r io.ReaderAt, size int64) (int64, [32]byte, error) {
	t, _, err := readTrailer(r, size)
	return t.Length, t.Sum, err
}

// Count is the number of rows of an object.
func (f *Format) Count(r io.ReaderAt, size int64) (int64, error) {
	t, _, err := readTrailer(r, size)
	return t.Rows, err
}

// Rows takes an object apart. What it was written with is said by the object, not by f.
func (f *Format) Rows(r io.ReaderAt, size int64, each func(record.Row) error) error {
	t, list, err := readTrailer(r, size)
	if err != nil {
		return err
	}
	// What is told of an object must be right before the first row leaves.
	sum := sha256.New()
	section := io.NewSectionReader(r, 0, t.Length)
	if n, err := io.Copy(sum, section); err != nil {
		return fmt.Errorf("read the request: %w", err)
	} else if n < t.Length {
		return damaged("its body ends early")
	}
	if [32]byte(sum.Sum(nil)) != t.Sum {
		return damaged("its body")
	}
	if _, err := section.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	var in io.Reader = section
	if t.Gzip {
		z, err := gzip.NewReader(section)
		if err != nil {
			return damaged("its compression: " + err.Error())
		}
		defer z.Close()
		in = io.LimitReader(z, MaxBody)
	}
	b := &bodyReader{r: in}
	if err := b.head(t.Body); err != nil {
		return err
	}
	rows := table{b: list}
	for i := range t.Rows {
		row, length, newline, err := rows.next()
		if err != nil {
			return err
		}
		if row.Data, err = b.row(t.Body, i > 0, length, newline); err != nil {
			return err
		}
		if err := each(row); err != nil {
			return err
		}
	}
	if len(rows.b) > 0 {
		return damaged("more records in the table than it says")
	}
	return nil
}

// bodyReader reads a body of which it is known where its records are.
type bodyReader struct {
	r    io.Reader
	buf  []byte
	data []byte
}

// take reads n bytes, valid until the next call.
func (b *bodyReader) take(n int64) ([]byte, error) {
	if int64(cap(b.buf)) < n {
		b.buf = make([]byte, n, n+n/4)
	}
	b.buf = b.buf[:n]
	if _, err := io.ReadFull(b.r, b.buf); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) {
			return nil, damaged("its body ends early")
		}
		return nil, fmt.Errorf("read the request: %w", err)
	}
	return b.buf, nil
}

func (b *bodyReader) literal(want string) error {
	got, err := b.take(int64(len(want)))
	if err != nil {
		return err
	}
	if string(got) != want {
		return damaged(fmt.Sprintf("%q stands where %q should", got, want))
	}
	return nil
}

// maxHead bounds what stands before the records of a Firehose body: its id has at most 1 KiB.
const maxHead = 2 << 10

func (b *bodyReader) head(body Body) error {
	switch body {
	case JSONArray:
		return b.literal("[")
	case NDJSON:
		return nil
	}
	var head []byte
	for !bytes.HasSuffix(head, []byte(`,"records":[`)) {
		c, err := b.take(1)
		if err != nil {
			return err
		}
		if head = append(head, c...); len(head) > maxHead {
			return damaged("no records in it")
		}
	}
	return nil
}

// row reads the Data of a row of this length, valid until the next call.
func (b *bodyReader) row(body Body, comma bool, length int64, newline bool) ([]byte, error) {
	if comma && body != NDJSON {
		if err := b.literal(","); err != nil {
			return nil, err
		}
	}
	if body != Firehose {
		data, err := b.take(length)
		if err != nil || !newline {
			return data, err
		}
		b.data = append(b.data[:0], data...)
		return b.data, b.literal("\n")
	}
	if err := b.literal(dataBefore); err != nil {
		return nil, err
	}
	coded, err := b.take((length + 2) / 3 * 4)
	if err != nil {
		return nil, err
	}
	if int64(cap(b.data)) < length+2 {
		b.data = make([]byte, length+2, length+length/4+16)
	}
	b.data = b.data[:cap(b.data)]
	n, err := base64.StdEncoding.Decode(b.data, coded)
	if err != nil || int64(n) != length {
		return nil, damaged("a record that is not base64")
	}
	b.data = b.data[:n]
	return b.data, b.literal(dataAfter)
}

// summed passes an object's body on to its writer, hashes and counts it.
type summed struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (s *summed) reset(w io.Writer) {
	s.w, s.n = w, 0
	if s.h == nil {
		s.h = sha256.New()
	}
	s.h.Reset()
}

func (s *summed) sum() (out [32]byte) {
	s.h.Sum(out[:0])
	return out
}

func (s *summed) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.h.Write(p[:n])
	s.n += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}
