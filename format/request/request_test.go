package request

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"hydrant/format"
	"hydrant/record"
)

const testID = "ed4acda5-034f-9f42-bba1-f29aea6d7d8f"

var testTime = time.UnixMilli(1578090901599)

func rowsOf(data ...string) []record.Row {
	rows := make([]record.Row, len(data))
	for i, d := range data {
		rows[i] = record.Row{Seq: 100 + uint64(i/2)*3, Sub: uint32(i % 2), Arrived: 1_700_000_000_000_000 - int64(i)*7, Data: []byte(d)}
	}
	return rows
}

func newFormat(t testing.TB, o Options) *Format {
	t.Helper()
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// encode makes an object of rows, all of which have to fit.
func encode(t testing.TB, f *Format, rows []record.Row) []byte {
	t.Helper()
	var out bytes.Buffer
	e := f.NewEncoder().(format.RequestEncoder)
	e.Request(testID, testTime)
	e.Reset(&out)
	for _, r := range rows {
		if err := e.Append(r); err != nil {
			t.Fatalf("append %d bytes: %v", len(r.Data), err)
		}
	}
	stats, err := e.Close()
	if err != nil || stats.Rows != int64(len(rows)) || stats.Bytes != int64(out.Len()) {
		t.Fatalf("close: %v, %+v for %d bytes", err, stats, out.Len())
	}
	return out.Bytes()
}

// bodyOf is what would be sent, expanded.
func bodyOf(t testing.TB, f *Format, object []byte) []byte {
	t.Helper()
	n, sum, err := f.Body(bytes.NewReader(object), int64(len(object)))
	if err != nil {
		t.Fatal(err)
	}
	body := object[:n]
	if sha256.Sum256(body) != sum {
		t.Errorf("body has another checksum")
	}
	if f.ContentEncoding() == "" {
		return body
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func collect(f *Format, object []byte) (rows []record.Row, err error) {
	err = f.Rows(bytes.NewReader(object), int64(len(object)), func(r record.Row) error {
		r.Data = slices.Clone(r.Data)
		rows = append(rows, r)
		return nil
	})
	return rows, err
}

func equal(a, b []record.Row) bool {
	return slices.EqualFunc(a, b, func(a, b record.Row) bool {
		return a.Seq == b.Seq && a.Sub == b.Sub && a.Arrived == b.Arrived && bytes.Equal(a.Data, b.Data)
	})
}

func TestBodies(t *testing.T) {
	for _, c := range []struct {
		body Body
		rows []string
		want string
	}{
		{Firehose, []string{"hello", "", "\x00\xff"}, `{"requestId":"` + testID + `","timestamp":1578090901599,"records":[{"data":"aGVsbG8="},{"data":""},{"data":"AP8="}]}`},
		{Firehose, nil, `{"requestId":"` + testID + `","timestamp":1578090901599,"records":[]}`},
		{NDJSON, []string{`{"a":1}`, "{\"b\":\n2}\n", "", "\n", "plain"}, "{\"a\":1}\n{\"b\":\n2}\n\n\nplain\n"},
		{JSONArray, []string{`{"a":1}`, " [2]\n", `"x"`}, `[{"a":1}, [2]` + "\n" + `,"x"]`},
		{JSONArray, nil, `[]`},
	} {
		for _, zip := range []bool{false, true} {
			f := newFormat(t, Options{Body: c.body, Gzip: zip})
			rows := rowsOf(c.rows...)
			object := encode(t, f, rows)
			if got := string(bodyOf(t, f, object)); got != c.want {
				t.Errorf("%s, gzip %v:\n got %s\nwant %s", c.body, zip, got, c.want)
			}
			got, err := collect(f, object)
			if err != nil || !equal(got, rows) {
				t.Errorf("%s, gzip %v: rows %v, %v; want %v", c.body, zip, got, err, rows)
			}
			if n, err := f.Count(bytes.NewReader(object), int64(len(object))); err != nil || n != int64(len(rows)) {
				t.Errorf("%s: count %d, %v; want %d", c.body, n, err, len(rows))
			}
		}
	}
}

func TestDescription(t *testing.T) {
	for _, c := range []struct {
		o             Options
		kind, coding  string
		wantErr, name string
	}{
		{Options{}, "application/json", "", "", ""},
		{Options{Gzip: true}, "application/json", "gzip", "", ""},
		{Options{Body: NDJSON}, "application/x-ndjson", "", "", ""},
		{Options{Body: JSONArray}, "application/json", "", "", ""},
		{Options{MaxRecords: 10_000, MaxBody: 64 << 20}, "application/json", "", "", ""},
		{o: Options{Body: "xml"}, wantErr: `body "xml" is not one of firehose, ndjson, json_array`},
		{o: Options{MaxRecords: 10_001}, wantErr: "most records 10001 is not from 1 to 10000"},
		{o: Options{MaxBody: 64<<20 + 1}, wantErr: "largest body 67108865 is not from 1 to 67108864"},
		{o: Options{MaxBody: -1}, wantErr: "largest body -1 is not from 1 to 67108864"},
	} {
		f, err := New(c.o)
		if c.wantErr != "" {
			if err == nil || err.Error() != c.wantErr {
				t.Errorf("%+v: %v, want %s", c.o, err, c.wantErr)
			}
			continue
		}
		if err != nil || f.ContentType() != c.kind || f.ContentEncoding() != c.coding || f.Extension() != "" || f.SchemaVersion() != "" {
			t.Errorf("%+v: %v, %q, %q", c.o, err, f.ContentType(), f.ContentEncoding())
		}
	}
}

// Each limit, on both sides.
func TestLimits(t *testing.T) {
	head := len(`{"requestId":"` + testID + `","timestamp":1578090901599,"records":[`)
	firehose := int64(head + len(`{"data":"YWJj"},{"data":"YWJj"}]}`))
	for _, c := range []struct {
		name string
		o    Options
		rows []string
		full bool // the last row does not fit
	}{
		{"firehose body", Options{MaxBody: firehose}, []string{"abc", "abc"}, false},
		{"firehose body, a byte less", Options{MaxBody: firehose - 1}, []string{"abc", "abc"}, true},
		{"ndjson body", Options{Body: NDJSON, MaxBody: 8}, []string{"abc", "abc\n"}, false},
		{"ndjson body, a byte less", Options{Body: NDJSON, MaxBody: 7}, []string{"abc", "abc\n"}, true},
		{"array body", Options{Body: JSONArray, MaxBody: 5}, []string{"1", "2"}, false},
		{"array body, a byte less", Options{Body: JSONArray, MaxBody: 4}, []string{"1", "2"}, true},
		{"records", Options{MaxRecords: 2}, []string{"a", "b"}, false},
		{"one record more", Options{MaxRecords: 2}, []string{"a", "b", "c"}, true},
	} {
		f := newFormat(t, c.o)
		e := f.NewEncoder().(format.RequestEncoder)
		var out bytes.Buffer
		e.Request(testID, testTime)
		e.Reset(&out)
		rows := rowsOf(c.rows...)
		for i, r := range rows {
			err := e.Append(r)
			if last := i == len(rows)-1; (last && c.full) != errors.Is(err, format.ErrFull) {
				t.Errorf("%s: row %d: %v", c.name, i, err)
			}
		}
		if _, err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if c.full {
			rows = rows[:len(rows)-1]
		}
		if got, err := collect(f, out.Bytes()); err != nil || !equal(got, rows) {
			t.Errorf("%s: rows %v, %v", c.name, got, err)
		}
		if got := int64(len(bodyOf(t, f, out.Bytes()))); got > f.o.MaxBody {
			t.Errorf("%s: a body of %d bytes", c.name, got)
		}
	}
}

func TestRecordsThatNoRequestCanHave(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		data string
		code string // "": it fits
	}{
		{"longest record", Options{}, strings.Repeat("x", MaxRecord), ""},
		{"a byte more", Options{}, strings.Repeat("x", MaxRecord+1), CodeTooLarge},
		{"larger than a body", Options{Body: NDJSON, MaxBody: 4}, "abcd", CodeTooLarge},
		{"as large as a body", Options{Body: NDJSON, MaxBody: 4}, "abc", ""},
		{"JSON", Options{Body: JSONArray}, `{"a":1}`, ""},
		{"no JSON", Options{Body: JSONArray}, `{"a":1`, CodeNotJSON},
		{"two documents", Options{Body: JSONArray}, `{} {}`, CodeNotJSON},
		{"nothing", Options{Body: JSONArray}, "", CodeNotJSON},
	} {
		f := newFormat(t, c.o)
		e := f.NewEncoder().(format.RequestEncoder)
		e.Request(testID, testTime)
		e.Reset(io.Discard)
		err := e.Append(record.Row{Seq: 1, Data: []byte(c.data)})
		misfit, is := errors.AsType[*format.RowError](err)
		if c.code == "" && err != nil || c.code != "" && (!is || misfit.Code != c.code || misfit.Type != ErrorType) {
			t.Errorf("%s: %v, want %q", c.name, err, c.code)
		}
	}
	if got := base64.StdEncoding.EncodedLen(MaxRecord); got != 1_365_336 {
		t.Errorf("the longest record has %d characters of base64", got)
	}
}

// Whatever sizes rows have, the body is what other libraries make of it, and the rows come back. An encoder that was used
// before gives the same bytes.
func TestRandomRows(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, body := range []Body{Firehose, NDJSON, JSONArray} {
		f := newFormat(t, Options{Body: body, Gzip: true})
		e := f.NewEncoder().(format.RequestEncoder)
		for range 30 {
			var rows []record.Row
			for i := range r.IntN(40) {
				data := make([]byte, r.IntN([]int{4, 1000, 3 * blockSize}[r.IntN(3)]))
				for k := range data {
					data[k] = byte(r.Uint32())
				}
				if body == JSONArray {
					data, _ = json.Marshal(data)
				}
				rows = append(rows, record.Row{Seq: uint64(i*i) + 1, Sub: r.Uint32N(3), Arrived: r.Int64() - r.Int64(), Data: data})
			}
			var out bytes.Buffer
			e.Request(testID, testTime)
			e.Reset(&out)
			for _, row := range rows {
				if err := e.Append(row); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := e.Close(); err != nil {
				t.Fatal(err)
			}
			if fresh := encode(t, f, rows); !bytes.Equal(fresh, out.Bytes()) {
				t.Fatal("a new encoder writes other bytes than a used one")
			}
			got, err := collect(f, out.Bytes())
			if err != nil || !equal(got, rows) {
				t.Fatalf("%s: rows do not come back: %v", body, err)
			}
			text := bodyOf(t, f, out.Bytes())
			switch body {
			case Firehose:
				var doc struct {
					RequestID string `json:"requestId"`
					Timestamp int64
					Records   []struct{ Data []byte }
				}
				if err := json.Unmarshal(text, &doc); err != nil || doc.RequestID != testID || doc.Timestamp != testTime.UnixMilli() || len(doc.Records) != len(rows) {
					t.Fatalf("%v, %s, %d records of %d", err, doc.RequestID, len(doc.Records), len(rows))
				}
				for i := range rows {
					if !bytes.Equal(doc.Records[i].Data, rows[i].Data) {
						t.Fatalf("record %d differs", i)
					}
				}
			case JSONArray:
				var doc []json.RawMessage
				if err := json.Unmarshal(text, &doc); err != nil || len(doc) != len(rows) {
					t.Fatalf("%v, %d records of %d", err, len(doc), len(rows))
				}
			}
		}
	}
}

// No damage to an object goes unseen.
func TestDamage(t *testing.T) {
	for _, zip := range []bool{false, true} {
		f := newFormat(t, Options{Gzip: zip})
		object := encode(t, f, rowsOf("hello", "", "world"))
		for i := range object {
			broken := slices.Clone(object)
			broken[i] ^= 1
			if _, err := collect(f, broken); err == nil {
				t.Errorf("gzip %v: a bit of byte %d of %d may change", zip, i, len(object))
			}
		}
		for n := range object {
			if _, err := collect(f, object[:n]); !errors.Is(err, format.ErrDamaged) {
				t.Errorf("gzip %v: %d of %d bytes: %v", zip, n, len(object), err)
			}
		}
	}
	f := newFormat(t, Options{})
	cause := errors.New("sick disk")
	if err := f.Rows(sick{cause}, 1000, func(record.Row) error { return nil }); !errors.Is(err, cause) {
		t.Errorf("a disk's error is hidden: %v", err)
	}
}

type sick struct{ err error }

func (s sick) ReadAt([]byte, int64) (int, error) { return 0, s.err }

// The estimate is near what comes out.
func TestBuffered(t *testing.T) {
	for _, zip := range []bool{false, true} {
		f := newFormat(t, Options{Gzip: zip})
		e := f.NewEncoder().(format.RequestEncoder)
		var out bytes.Buffer
		e.Request(testID, testTime)
		e.Reset(&out)
		for i := range 5000 {
			if err := e.Append(record.Row{Seq: uint64(i) + 1, Data: fmt.Appendf(nil, `{"event":%d,"page":"/products/%d","agent":"Mozilla/5.0"}`, i*7919, i%97)}); err != nil {
				t.Fatal(err)
			}
		}
		estimate := e.Buffered()
		if _, err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if got := int64(out.Len()); estimate < got*7/10 || estimate > got*13/10 {
			t.Errorf("gzip %v: estimated %d, is %d", zip, estimate, got)
		}
	}
}

type failingWriter struct{ left int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

func TestWriterErrors(t *testing.T) {
	f := newFormat(t, Options{})
	e := f.NewEncoder().(format.RequestEncoder)
	e.Request(testID, testTime)
	for _, room := range []int{0, 100, 3 * blockSize} {
		e.Reset(&failingWriter{room})
		var err error
		for i := 0; i < 10 && err == nil; i++ {
			err = e.Append(record.Row{Seq: uint64(i) + 1, Data: make([]byte, blockSize)})
		}
		if err == nil {
			_, err = e.Close()
		}
		if !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("room %d: %v", room, err)
		}
	}
	e.Reset(io.Discard)
	if _, err := e.Close(); err != nil {
		t.Errorf("after an error: %v", err)
	}
	if err := e.Append(record.Row{}); err == nil {
		t.Error("a closed object takes a row")
	}
}

func FuzzRows(f *testing.F) {
	for _, body := range []Body{Firehose, NDJSON, JSONArray} {
		for _, zip := range []bool{false, true} {
			f.Add(encode(f, newFormat(f, Options{Body: body, Gzip: zip}), rowsOf(`{"a":1}`, `"b"`, "3")))
		}
	}
	f.Add([]byte("HREQ"))
	any := newFormat(f, Options{})
	f.Fuzz(func(t *testing.T, object []byte) {
		// Checksums would keep most inputs from getting anywhere: those of the trailer are made right.
		if len(object) >= trailerSize {
			if tr, ok := repaired(object); ok {
				object = tr
			}
		}
		rows, err := collect(any, object)
		if err != nil {
			return
		}
		n, err := any.Count(bytes.NewReader(object), int64(len(object)))
		if err != nil || n != int64(len(rows)) {
			t.Errorf("%d rows, count %d, %v", len(rows), n, err)
		}
	})
}

// repaired is an object with the checksums that its bytes have.
func repaired(object []byte) ([]byte, bool) {
	b := slices.Clone(object)
	end := b[len(b)-trailerSize:]
	length := binary.LittleEndian.Uint64(end[8:])
	size := binary.LittleEndian.Uint32(end[16:])
	if length > uint64(len(b)-trailerSize) || uint64(size) != uint64(len(b)-trailerSize)-length {
		return nil, false
	}
	sum := sha256.Sum256(b[:length])
	copy(end[24:], sum[:])
	binary.LittleEndian.PutUint32(end[56:], crc32.Checksum(b[length:length+uint64(size)], castagnoli))
	binary.LittleEndian.PutUint32(end[60:], crc32.Checksum(end[:60], castagnoli))
	return b, true
}

func BenchmarkEncode(b *testing.B) {
	for _, c := range []struct {
		name string
		o    Options
	}{
		{"firehose", Options{}}, {"firehose/gzip", Options{Gzip: true}},
		{"ndjson", Options{Body: NDJSON}}, {"ndjson/gzip", Options{Body: NDJSON, Gzip: true}},
		{"json_array", Options{Body: JSONArray}}, {"json_array/gzip", Options{Body: JSONArray, Gzip: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := rand.New(rand.NewPCG(3, 4))
			var rows []record.Row
			var bytes int64
			for i := range 5000 {
				data := fmt.Appendf(nil, `{"event_id":"%016x","ts":"2026-11-24T10:%02d:%02dZ","customer_id":%d,"page":"/products/%d","referrer":"https://example.com/search?q=%x","agent":"Mozilla/5.0 (X11; Linux x86_64)","duration_ms":%d,"price":%.2f}`,
					r.Uint64(), i%60, i%59, r.IntN(100000), r.IntN(5000), r.Uint32(), r.IntN(9000), r.Float64()*100)
				rows = append(rows, record.Row{Seq: uint64(i) + 1, Arrived: int64(i) * 11, Data: data})
				bytes += int64(len(data))
			}
			e := newFormat(b, c.o).NewEncoder().(format.RequestEncoder)
			e.Request(testID, testTime)
			b.SetBytes(bytes)
			b.ReportAllocs()
			var stats format.Stats
			for b.Loop() {
				e.Reset(io.Discard)
				for _, row := range rows {
					if err := e.Append(row); err != nil {
						b.Fatal(err)
					}
				}
				var err error
				if stats, err = e.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(stats.Bytes)/float64(bytes), "written/byte")
		})
	}
}
