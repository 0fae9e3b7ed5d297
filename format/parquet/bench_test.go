package parquet_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hydrant/e2e/parts"
	"hydrant/format"
	"hydrant/format/parquet"
	"hydrant/record"
	"hydrant/sample"
	"hydrant/sample/sets"
)

// benchBytes is how much of a set a benchmark converts, so that it stays out of the processor's caches and
// pages and dictionaries get to their usual sizes.
const benchBytes = 48 << 20

// cpuClock is the CPU time of this process, where the system tells it.
var cpuClock func() time.Duration

// BenchmarkConvert turns records in memory into a file that is thrown away. MB/s counts bytes of JSON;
// cpu-MB/s counts the time in which the process ran, and is the one to compare on a busy machine.
func BenchmarkConvert(b *testing.B) {
	for _, set := range []struct {
		name, schema string
		records      func(testing.TB) [][]byte
	}{
		{"clicks", sample.ClicksSchema, benchClicks},
		{"github", sample.WebhooksSchema, benchWebhooks},
		{"flights", sample.FlightsSchema, benchFlights},
	} {
		for _, c := range []parquet.Compression{parquet.Zstd, parquet.Snappy, parquet.None} {
			for _, encodings := range []parquet.Encodings{parquet.Compatible, parquet.Modern} {
				b.Run(fmt.Sprintf("%s/%s/%s", set.name, c, encodings), func(b *testing.B) {
					benchmarkConvert(b, parquet.Options{Schema: schemaOf(b, set.schema), Compression: c, Encodings: encodings}, set.records(b))
				})
			}
		}
	}
}

// BenchmarkRead is the part of a conversion that reads: a schema of which the records have no member.
func BenchmarkRead(b *testing.B) {
	for name, records := range map[string]func(testing.TB) [][]byte{"clicks": benchClicks, "github": benchWebhooks, "flights": benchFlights} {
		b.Run(name, func(b *testing.B) {
			benchmarkConvert(b, parquet.Options{Schema: schemaOf(b, "no_such_member int"), Compression: parquet.None}, records(b))
		})
	}
}

func benchmarkConvert(b *testing.B, o parquet.Options, records [][]byte) {
	f, err := parquet.New(o)
	if err != nil {
		b.Fatal(err)
	}
	size := int64(0)
	for _, r := range records {
		size += int64(len(r))
	}
	e := f.NewEncoder()
	b.SetBytes(size)
	b.ReportAllocs()
	var stats format.Stats
	var used time.Duration
	if cpuClock != nil {
		used = -cpuClock()
	}
	for b.Loop() {
		e.Reset(io.Discard)
		for _, r := range records {
			if err := e.Append(record.Row{Data: r}); err != nil {
				b.Fatal(err)
			}
		}
		if stats, err = e.Close(); err != nil {
			b.Fatal(err)
		}
	}
	if cpuClock != nil {
		used += cpuClock()
		b.ReportMetric(float64(size)*float64(b.N)/1e6/used.Seconds(), "cpu-MB/s")
	}
	b.ReportMetric(float64(stats.Bytes)/float64(len(records)), "B/record")
}

func benchClicks(testing.TB) [][]byte {
	return split(sample.Clicks(sample.DefaultSeed, 0, benchBytes/868))
}

func split(data []byte) [][]byte {
	return bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
}

// benchFlights are of the large set, or as many as the repository holds.
func benchFlights(tb testing.TB) [][]byte {
	if records := large(tb, "flights"); records != nil {
		return records
	}
	return extract(tb, "flights-20k.ndjson.gz")
}

// benchWebhooks are of the large set, or the real ones that it is made from, over and over.
func benchWebhooks(tb testing.TB) [][]byte {
	if records := large(tb, "octokit"); records != nil {
		return records
	}
	once := extract(tb, "github-webhooks.ndjson.gz")
	var records [][]byte
	for n := 0; n < benchBytes; {
		for _, r := range once {
			_, r, ok := bytes.Cut(r, []byte(`,"payload":`))
			if !ok {
				tb.Fatal("a webhook without its payload")
			}
			records = append(records, r[:len(r)-1])
			n += len(r)
		}
	}
	return records
}

// large is the start of a large set, or nil when what it is made from is not installed.
func large(tb testing.TB, name string) [][]byte {
	set, err := sets.Named(name)
	if err != nil {
		tb.Fatal(err)
	}
	path, err := set.File(filepath.Join(parts.Cache(tb), "data"), filepath.Join(parts.Cache(tb), "node", "node_modules"))
	if err != nil {
		tb.Logf("%s: %v", name, err)
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, benchBytes)
	n, err := io.ReadFull(f, data)
	if err != nil {
		tb.Fatal(err)
	}
	return split(data[:bytes.LastIndexByte(data[:n], '\n')])
}

func extract(tb testing.TB, name string) [][]byte {
	f, err := os.Open(filepath.Join(parts.Root(tb), "e2e", "testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		tb.Fatal(err)
	}
	return split(data)
}
