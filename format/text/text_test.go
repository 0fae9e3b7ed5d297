package text

import (
	"archive/zip"
	"bytes"
	stdgzip "compress/gzip"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"hydrant/e2e/parts"
	"hydrant/format"
	"hydrant/record"
	"hydrant/sample"
)

var update = flag.Bool("update", false, "write the golden files anew")

func encoderOf(t testing.TB, o Options) format.Encoder {
	t.Helper()
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f.NewEncoder()
}

// encode writes an object and checks what the encoder says of it.
func encode(t testing.TB, e format.Encoder, rows []string) []byte {
	t.Helper()
	var b bytes.Buffer
	e.Reset(&b)
	for i, r := range rows {
		if err := e.Append(record.Row{Seq: uint64(i + 1), Data: []byte(r)}); err != nil {
			t.Fatal(err)
		}
	}
	stats, err := e.Close()
	if err != nil {
		t.Fatal(err)
	}
	if want := (format.Stats{Rows: int64(len(rows)), Bytes: int64(b.Len())}); stats != want {
		t.Errorf("stats %+v, want %+v", stats, want)
	}
	return b.Bytes()
}

func rowOf(seq uint64, data string) record.Row { return record.Row{Seq: seq, Data: []byte(data)} }

// all are the compressions.
var all = []Compression{CompressionNone, CompressionGzip, CompressionZip, CompressionSnappy, CompressionHadoopSnappy, CompressionZstd}

// expand undoes a compression.
func expand(t testing.TB, c Compression, b []byte) []byte {
	t.Helper()
	switch c {
	case CompressionGzip:
		return gunzip(t, b)
	case CompressionZip:
		return unzip(t, b)
	case CompressionSnappy:
		return unframe(t, b, true)
	case CompressionHadoopSnappy:
		return unframe(t, b, false)
	case CompressionZstd:
		r, err := zstd.NewReader(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		out, err := r.DecodeAll(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	return b
}

// unzip reads the one entry of an archive.
func unzip(t testing.TB, b []byte) []byte {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.File) != 1 {
		t.Fatalf("%d entries", len(r.File))
	}
	if name := r.File[0].Name; uuid.Validate(name) != nil || len(name) != entryName || r.File[0].Method != zip.Deflate {
		t.Errorf("entry %q of method %d", name, r.File[0].Method)
	}
	f, err := r.File[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// unframe reads snappy in either framing, strictly.
func unframe(t testing.TB, b []byte, xerial bool) []byte {
	t.Helper()
	if xerial {
		if !bytes.HasPrefix(b, []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01")) {
			t.Fatalf("header % x", b[:min(16, len(b))])
		}
		b = b[16:]
	}
	next := func() int {
		if len(b) < 4 {
			t.Fatalf("%d bytes where a length is", len(b))
		}
		n := binary.BigEndian.Uint32(b)
		b = b[4:]
		return int(n)
	}
	out := []byte{}
	for len(b) > 0 {
		plain := -1
		if !xerial {
			plain = next()
		}
		n := next()
		if n > len(b) {
			t.Fatalf("a block of %d bytes, and %d are left", n, len(b))
		}
		block, err := s2.Decode(nil, b[:n])
		if err != nil {
			t.Fatal(err)
		}
		if plain >= 0 && len(block) != plain || xerial && len(block) > xerialBlock || len(block) > hadoopBlock {
			t.Fatalf("a block of %d bytes, said to be %d", len(block), plain)
		}
		out = append(out, block...)
		b = b[n:]
	}
	return out
}

// gunzip reads exactly one gzip member.
func gunzip(t testing.TB, b []byte) []byte {
	t.Helper()
	in := bytes.NewReader(b)
	r, err := stdgzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	r.Multistream(false)
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if in.Len() != 0 {
		t.Fatalf("%d bytes follow the first gzip member", in.Len())
	}
	return out
}

func TestBytesAreTheRecords(t *testing.T) {
	big := strings.Repeat("x", blockSize)
	f := func(d Delimiter, want string, rows ...string) {
		t.Helper()
		for _, c := range append([]Compression{""}, all...) {
			got := expand(t, c, encode(t, encoderOf(t, Options{Delimiter: d, Compression: c}), rows))
			if string(got) != want {
				t.Errorf("%q with %s: got %.80q (%d bytes), want %.80q (%d)", d, c, got, len(got), want, len(want))
			}
		}
	}
	f("", "abcabcabc", "abc", "abc", "abc")
	f(DelimiterNone, "abcabcabc", "abc", "abc", "abc")
	f(DelimiterBetween, "abc\nabc\nabc", "abc", "abc", "abc")
	f(DelimiterAfter, "abc\nabc\nabc\n", "abc", "abc", "abc")
	f(DelimiterNone, "")
	f(DelimiterBetween, "")
	f(DelimiterAfter, "")
	f(DelimiterBetween, "\n", "", "")
	f(DelimiterAfter, "\n", "")
	f(DelimiterBetween, "a\n\nb\n", "a\n", "b\n")
	f(DelimiterAfter, "a\n\n", "a\n")
	f(DelimiterNone, "\x00\xff\r\n\x1f\x8b", "\x00\xff\r\n", "\x1f\x8b")
	// Around the size of a block.
	for _, n := range []int{blockSize - 1, blockSize, blockSize + 1, 3*blockSize + 5} {
		r := strings.Repeat("x", n)
		f(DelimiterAfter, "a\n"+r+"\n"+r+"\nb\n", "a", r, r, "b")
		f(DelimiterBetween, r+"\n"+r+"\n"+big, r, r, big)
	}
}

// The bytes of stored objects, to the last one: recovery after an upgrade meets what an older build wrote.
func TestGolden(t *testing.T) {
	rows := []string{`{"a":1}`, "", "zwölf\n", strings.Repeat(`{"b":"`, 50)}
	for _, d := range []Delimiter{DelimiterNone, DelimiterBetween, DelimiterAfter} {
		for _, c := range all {
			f, err := New(Options{Delimiter: d, Compression: c})
			if err != nil {
				t.Fatal(err)
			}
			name := string(d) + ".txt" + f.Extension()
			if c == CompressionHadoopSnappy {
				name = string(d) + ".hadoop" + f.Extension()
			}
			path := filepath.Join("testdata", name)
			got := encode(t, f.NewEncoder(), rows)
			if *update {
				if err := os.WriteFile(path, got, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", path, got, want)
			}
		}
	}
}

func TestNamesAsFirehose(t *testing.T) {
	f := func(c Compression, extension, encoding string) {
		t.Helper()
		x, err := New(Options{Compression: c})
		if err != nil {
			t.Fatal(err)
		}
		if x.Extension() != extension || x.ContentEncoding() != encoding || x.SchemaVersion() != "" {
			t.Errorf("%q: extension %q, content encoding %q, schema version %q", c, x.Extension(), x.ContentEncoding(), x.SchemaVersion())
		}
	}
	f("", "", "")
	f(CompressionNone, "", "")
	f(CompressionGzip, ".gz", "gzip")
	f(CompressionZip, ".zip", "zip")
	f(CompressionSnappy, ".snappy", "snappy-java")
	f(CompressionHadoopSnappy, ".snappy", "hadoop-snappy")
	f(CompressionZstd, ".zst", "zstd") // not one of Firehose's
}

func TestBadOptionsAreNamed(t *testing.T) {
	f := func(o Options, want string) {
		t.Helper()
		if _, err := New(o); err == nil || err.Error() != want {
			t.Errorf("New(%+v): error %v, want %s", o, err, want)
		}
	}
	f(Options{Delimiter: "before"}, `delimiter "before" is not one of none, between, after`)
	f(Options{Compression: "lz4"}, `compression "lz4" is not one of none, gzip, zip, snappy, hadoop_snappy, zstd`)
}

// An encoder that wrote, failed or was left in the middle writes the next object as a new one would.
func TestResetForgetsEverything(t *testing.T) {
	rows := strings.SplitAfter(string(sample.Clicks(1, 0, 300)), "\n")
	for _, c := range all {
		want := encode(t, encoderOf(t, Options{Delimiter: DelimiterBetween, Compression: c}), rows)
		used := encoderOf(t, Options{Delimiter: DelimiterBetween, Compression: c})
		encode(t, used, rows[:7])
		for _, limit := range []int{0, 5, 100} {
			used.Reset(&failing{left: limit})
			for _, r := range rows {
				used.Append(record.Row{Data: []byte(r)})
			}
		}
		if got := encode(t, used, rows); !bytes.Equal(got, want) {
			t.Errorf("%s: a used encoder writes %d other bytes than a new one's %d", c, len(got), len(want))
		}
	}
}

var errFull = errors.New("full")

// failing takes so many bytes.
type failing struct{ left int }

func (f *failing) Write(p []byte) (int, error) {
	if len(p) > f.left {
		n := f.left
		f.left = 0
		return n, errFull
	}
	f.left -= len(p)
	return len(p), nil
}

// Whatever the writer refuses, the object ends with the writer's error and no later call takes it back.
func TestWriterErrorEndsTheObject(t *testing.T) {
	rows := strings.SplitAfter(string(sample.Clicks(1, 0, 2000)), "\n")
	for _, c := range all {
		whole := len(encode(t, encoderOf(t, Options{Compression: c}), rows))
		for _, limit := range []int{0, 1, 11, whole / 2, whole - 1} {
			e := encoderOf(t, Options{Compression: c})
			e.Reset(&failing{left: limit})
			var first error
			for _, r := range rows {
				err := e.Append(record.Row{Data: []byte(r)})
				if first != nil && err == nil {
					t.Errorf("%s, %d bytes: a row was taken after the error", c, limit)
				}
				first = err
			}
			if _, err := e.Close(); !errors.Is(err, errFull) {
				t.Errorf("%s, %d of %d bytes: Close returns %v, want the writer's error", c, limit, whole, err)
			}
			if err := e.Append(record.Row{Data: []byte("x")}); !errors.Is(err, errFull) {
				t.Errorf("%s, %d bytes: Append after the error returns %v", c, limit, err)
			}
		}
		e := encoderOf(t, Options{Compression: c})
		encode(t, e, rows[:1])
		if err := e.Append(record.Row{Data: []byte("x")}); err == nil {
			t.Errorf("%s: a row was taken after Close", c)
		}
	}
}

// Objects are cut on the estimate, so at any moment it must be near what closing would give.
func TestBufferedIsNearTheTruth(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	clicks := strings.SplitAfter(string(sample.Clicks(1, 0, 5000)), "\n")
	noise := make([]string, 1000)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		b := make([]byte, 1000)
		for k := range b {
			b[k] = byte(random.Uint32())
		}
		noise[i] = string(b)
	}
	for name, rows := range map[string][]string{"clicks": clicks, "noise": noise} {
		for _, c := range all {
			e := encoderOf(t, Options{Delimiter: DelimiterAfter, Compression: c})
			var w bytes.Buffer
			e.Reset(&w)
			last := int64(0)
			for i, r := range rows {
				if err := e.Append(record.Row{Data: []byte(r)}); err != nil {
					t.Fatal(err)
				}
				got := e.Buffered()
				if got < last*8/10 {
					t.Errorf("%s, %s: the estimate falls from %d to %d at row %d", name, c, last, got, i)
				}
				last = got
				if i != 500 && i != len(rows)/2 && i != len(rows)-1 {
					continue
				}
				truth := int64(len(encode(t, encoderOf(t, Options{Delimiter: DelimiterAfter, Compression: c}), rows[:i+1])))
				if c == CompressionNone && got != truth || got < truth*85/100 || got > truth*115/100 {
					t.Errorf("%s, %s: %d bytes estimated after %d rows, closing gives %d", name, c, got, i+1, truth)
				}
			}
		}
	}
}

// An independent reader finds the records.
func TestDuckDBReadsIt(t *testing.T) {
	duck := parts.DuckDB(t)
	rows := strings.SplitAfter(strings.TrimSuffix(string(sample.Clicks(sample.DefaultSeed, 0, 1000)), "\n"), "\n")
	for i := range rows {
		rows[i] = strings.TrimSuffix(rows[i], "\n")
	}
	for _, o := range []Options{
		{DelimiterBetween, CompressionNone}, {DelimiterAfter, CompressionNone}, {DelimiterBetween, CompressionGzip}, {DelimiterAfter, CompressionGzip},
		{DelimiterBetween, CompressionZstd}, {DelimiterAfter, CompressionZstd},
	} {
		f, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "object.ndjson"+f.Extension())
		if err := os.WriteFile(path, encode(t, f.NewEncoder(), rows), 0o600); err != nil {
			t.Fatal(err)
		}
		// Each line as it stands, in order.
		got := duck.Query(fmt.Sprintf("select json::varchar as line from read_ndjson_objects(%s)", parts.SQL(path)))
		if len(got) != len(rows) {
			t.Fatalf("%+v: %d lines, want %d", o, len(got), len(rows))
		}
		for i, r := range got {
			if r["line"] != rows[i] {
				t.Fatalf("%+v: line %d is %v, want %s", o, i, r["line"], rows[i])
			}
		}
	}
}

// Any bytes come back, cut into records in any way.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("abc|def||\x00\xff"), uint8(0), uint8(1))
	f.Add([]byte("\n|\n"), uint8(1), uint8(0))
	for i := range all {
		f.Add(bytes.Repeat([]byte("0123456789|"), 20_000), uint8(2), uint8(i))
	}
	f.Fuzz(func(t *testing.T, in []byte, delimiter, compression uint8) {
		o := Options{
			Delimiter:   []Delimiter{DelimiterNone, DelimiterBetween, DelimiterAfter}[delimiter%3],
			Compression: all[int(compression)%len(all)],
		}
		rows := strings.Split(string(in), "|")
		var want string
		switch o.Delimiter {
		case DelimiterNone:
			want = strings.Join(rows, "")
		case DelimiterBetween:
			want = strings.Join(rows, "\n")
		case DelimiterAfter:
			want = strings.Join(rows, "\n") + "\n"
		}
		got := expand(t, o.Compression, encode(t, encoderOf(t, o), rows))
		if string(got) != want {
			t.Fatalf("%+v: %d bytes came back of %d", o, len(got), len(want))
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	rows := strings.SplitAfter(string(sample.Clicks(sample.DefaultSeed, 0, 10_000)), "\n")
	size := 0
	for _, r := range rows {
		size += len(r)
	}
	for _, c := range all {
		b.Run(string(c), func(b *testing.B) {
			e := encoderOf(b, Options{Compression: c})
			data := make([]record.Row, len(rows))
			for i, r := range rows {
				data[i].Data = []byte(r)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				e.Reset(io.Discard)
				for _, r := range data {
					if err := e.Append(r); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := e.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
