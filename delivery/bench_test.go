package delivery

import (
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"testing"
	"time"

	"hydrant/buffer"
	"hydrant/prefix"
	"hydrant/record"
	"hydrant/sinks"
)

// slabClaim is rows as the front holds them: one buffer in the layout of a batch.
type slabClaim struct {
	encoded []byte
	rows    int
	arrived int64
}

func newSlabClaim(rows, size int) *slabClaim {
	b := record.NewBatch(nil)
	for i := range rows {
		b.Append(fmt.Appendf(nil, "%0*d", size, i))
	}
	return &slabClaim{encoded: b.Encoded(), rows: rows, arrived: epoch2000.UnixMicro()}
}

func (c *slabClaim) Range() (uint64, uint64) { return 1, uint64(c.rows) + 1 }
func (c *slabClaim) Bytes() int64            { return int64(len(c.encoded)) }
func (c *slabClaim) Trim(uint64)             {}
func (c *slabClaim) Release()                {}
func (c *slabClaim) Lost() int64             { return 0 }
func (c *slabClaim) Rows() iter.Seq[record.Row] {
	return func(yield func(record.Row) bool) {
		row := record.Row{Arrived: c.arrived}
		for data := range record.Records(c.encoded) {
			row.Seq++
			row.Data = data
			if !yield(row) {
				return
			}
		}
	}
}

// nullPack takes everything and keeps nothing.
type nullPack struct{}

func (nullPack) Begin(buffer.ObjectHead) (io.Writer, error) { return io.Discard, nil }
func (nullPack) End(int64, uint64, int64) error             { return nil }
func (nullPack) Drop() error                                { return nil }
func (nullPack) Seal(buffer.ManifestHead) error             { return nil }
func (nullPack) Abort()                                     {}

// packsOnly is a store that knows packs.
type packsOnly struct{ store }

func (packsOnly) NewPack() (pack, error) { return nullPack{}, nil }

// nullSink stores nothing.
type nullSink struct{}

func (nullSink) Put(context.Context, sinks.Object) error    { return nil }
func (nullSink) Verify(context.Context, sinks.Object) error { return nil }
func (nullSink) ValidateKey(string) error                   { return nil }
func (nullSink) Close() error                               { return nil }

func nullPipeline(t testing.TB) *Pipeline {
	p := &Pipeline{Format: lines{}, Size: 1 << 30, Interval: time.Hour, Destination: Destination{ID: "s/data/null", Kind: "null", Sink: nullSink{}}}
	var err error
	if p.Prefix, err = prefix.Parse("dt=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/", prefix.Prefix); err != nil {
		t.Fatal(err)
	}
	if p.ErrorPrefix, err = prefix.Parse("errors/!{firehose:error-output-type}/", prefix.ErrorOutputPrefix); err != nil {
		t.Fatal(err)
	}
	return p
}

func slabJob(p *Pipeline, c *slabClaim) *job {
	y := newTally(p, p.Size, 1)
	y.add(buffer.Chunk{First: 1, Count: c.rows, Bytes: c.Bytes(), Arrived: c.arrived})
	first, next := c.Range()
	return &job{store: packsOnly{}, name: "s", claim: c, first: first, next: next, pipe: p, version: 1, segs: y.segs, routes: len(y.routes), limit: p.Size}
}

// A claim costs some allocations, a row none.
func TestNoAllocationPerRow(t *testing.T) {
	p, w := nullPipeline(t), &worker{}
	allocs := func(rows int) float64 {
		c := newSlabClaim(rows, 100)
		return testing.AllocsPerRun(5, func() {
			j := slabJob(p, c)
			if w.encode(t.Context(), j); j.err != nil || j.head.Counts.OK != int64(rows) {
				t.Fatalf("encoded %+v: %v", j.head.Counts, j.err)
			}
		})
	}
	if few, many := allocs(100), allocs(20000); many > few+5 {
		t.Errorf("100 rows cost %v allocations, 20000 rows %v", few, many)
	}
}

// BenchmarkCut is one claim of 16 MiB through the encode path into a pack that keeps nothing: what delivery
// itself adds to a format.
func BenchmarkCut(b *testing.B) {
	for _, size := range []int{100, 1000} {
		b.Run(fmt.Sprintf("row=%d", size), func(b *testing.B) {
			p, w := nullPipeline(b), &worker{}
			c := newSlabClaim(16<<20/size, size)
			b.SetBytes(c.Bytes())
			b.ReportAllocs()
			for b.Loop() {
				j := slabJob(p, c)
				if w.encode(b.Context(), j); j.err != nil {
					b.Fatal(j.err)
				}
			}
		})
	}
}

// BenchmarkDeliver is the way from Append to an object that is stored, with a real buffer on a real disk
// and a destination that costs nothing: calls of 500 rows, objects of 5 MiB.
func BenchmarkDeliver(b *testing.B) {
	for _, size := range []int{100, 1000} {
		b.Run(fmt.Sprintf("row=%d", size), func(b *testing.B) {
			p := nullPipeline(b)
			p.Size = 5 << 20
			buf, err := buffer.Open(buffer.Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			m, err := New(Options{Buffer: buf, Open: func(buffer.Stream) (*Pipeline, error) { return p, nil }, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			if err := m.Apply([]Declared{{Name: "s", Spec: []byte("{}")}}); err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			over := make(chan error)
			go func() { over <- m.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-over; err != nil {
					b.Error(err)
				}
				if err := buf.Close(); err != nil {
					b.Error(err)
				}
			}()
			row := make([]byte, size)
			b.SetBytes(int64(500 * size))
			b.ReportAllocs()
			for b.Loop() {
				batch := record.NewBatch(nil)
				for range 500 {
					batch.Append(row)
				}
				for {
					_, _, err := m.Append(b.Context(), "s", record.Call{Batch: batch})
					if _, full := err.(*record.Refusal); full {
						// The buffer is full: wait for delivery, as callers do.
						if _, err := m.Flush(b.Context(), "s"); err != nil {
							b.Fatal(err)
						}
						continue
					}
					if err != nil {
						b.Fatal(err)
					}
					break
				}
			}
			if _, err := m.Flush(b.Context(), "s"); err != nil {
				b.Fatal(err)
			}
		})
	}
}
