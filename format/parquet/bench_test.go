package parquet

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"hydrant/format"
	"hydrant/record"
	"hydrant/sample"
)

// lines splits NDJSON into records.
func lines(data []byte) [][]byte {
	return bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
}

func mustSchema(tb testing.TB, ddl string) *format.Schema {
	tb.Helper()
	s, err := format.ParseDDL(ddl)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func BenchmarkConvert(b *testing.B) {
	sets := []struct {
		name, schema string
		data         func(testing.TB) []byte
	}{
		{"clicks", sample.ClicksSchema, func(testing.TB) []byte { return sample.Clicks(42, 0, 40_000) }},
	}
	for _, set := range sets {
		for _, enc := range []Encodings{Compatible, Modern} {
			for _, c := range []Compression{Zstd, Snappy, None} {
				b.Run(fmt.Sprintf("%s/%s/%s", set.name, c, enc), func(b *testing.B) {
					data := set.data(b)
					records := lines(data)
					f, err := New(Options{Schema: mustSchema(b, set.schema), Compression: c, Encodings: enc})
					if err != nil {
						b.Fatal(err)
					}
					e := f.NewEncoder()
					b.SetBytes(int64(len(data)))
					b.ReportAllocs()
					var stats format.Stats
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
					b.ReportMetric(float64(stats.Bytes)/float64(len(records)), "B/record")
				})
			}
		}
	}
}
