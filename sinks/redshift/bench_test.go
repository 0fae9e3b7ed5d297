package redshift

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"hydrant/sinks/redshift/redshifttest"
)

// BenchmarkLoad takes the same rows into the same table: by COPY of a staged Parquet object through the front, and by
// PostgreSQL's own COPY FROM STDIN, which is what the front's ends in.
func BenchmarkLoad(b *testing.B) {
	const rows = 50_000
	w := newWorld(b, memoryStore(b), redshifttest.Options{}, clicks)
	records := make([]string, rows)
	var text strings.Builder
	for i := range records {
		records[i] = fmt.Sprintf(`{"id":%d,"name":"visitor %d of the day"}`, i, i%1000)
		fmt.Fprintf(&text, "%d\tvisitor %d of the day\n", i, i%1000)
	}
	file := encode(b, "id bigint, name string", records...)
	report := func(b *testing.B) { b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s") }
	n := 0
	for _, f := range []struct {
		name, body string
		change     func(*Options)
	}{
		{"parquet", file, func(o *Options) { o.Format = Parquet }},
		{"json-gzip", zipped(strings.Join(records, "\n")), func(o *Options) { o.Compression = "gzip" }},
	} {
		b.Run(f.name, func(b *testing.B) {
			s := w.open(f.change)
			b.SetBytes(int64(text.Len()))
			b.ReportAllocs()
			for b.Loop() {
				n++
				w.finish(s, w.put(s, fmt.Sprintf("m%d/0", n), fmt.Sprintf("clicks/%d", n), f.body, rows))
			}
			report(b)
		})
	}
	b.Run("stdin", func(b *testing.B) {
		c, err := pgx.Connect(b.Context(), database(b).URL(w.front.Database))
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close(context.Background())
		b.SetBytes(int64(text.Len()))
		b.ReportAllocs()
		for b.Loop() {
			tag, err := c.PgConn().CopyFrom(b.Context(), strings.NewReader(text.String()), "COPY clicks (id, name) FROM STDIN")
			if err != nil || tag.RowsAffected() != rows {
				b.Fatal(tag, err)
			}
		}
		report(b)
	})
}
