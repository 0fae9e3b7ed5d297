package kinesis_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hydrant/sources"
	"hydrant/sources/kinesis"
	"hydrant/sources/kinesis/aggregate"
	"hydrant/sources/kinesis/kinesistest"
)

// Of the stream that is read in benchmarks: JSON records of recordBytes, in answers of at most a mebibyte, as shards give them.
const (
	benchShards   = 4
	benchRecords  = 200_000
	recordBytes   = 500
	packedRecords = 100 // in one
)

// serveBenchRecords is a service in a process of its own, whose time is not measured.
func serveBenchRecords(kind string) {
	serve(kinesistest.Options{MaxReply: 1 << 20}, func(s *kinesistest.Server) {
		s.CreateStream("s", benchShards)
		line := fmt.Appendf(nil, `{"event_id":"%032d","pad":"%s"}`, 7, strings.Repeat("x", recordBytes))[:recordBytes]
		for _, id := range s.Open("s") {
			data, n := line, benchRecords/benchShards
			if kind == "packed" {
				var list []aggregate.Record
				for i := range packedRecords {
					list = append(list, aggregate.Record{PartitionKey: []byte("k" + strconv.Itoa(i%10)), Data: line})
				}
				data, n = aggregate.Append(nil, list), n/packedRecords
			}
			s.PutTo("s", id, "key", slices.Repeat([][]byte{data}, n)...)
		}
	})
}

// discard is an Inlet that takes everything and keeps nothing.
type discard struct {
	left atomic.Int64
	done chan struct{}
}

func (d *discard) Append(_ context.Context, r sources.Rows) error {
	if d.left.Add(-int64(len(r.Data))) == 0 {
		close(d.done)
	}
	return nil
}
func (d *discard) Position(string) sources.Position                     { return nil }
func (d *discard) Lanes() []string                                      { return nil }
func (d *discard) Note(context.Context, string, sources.Position) error { return nil }
func (d *discard) Delivered(string) sources.Position                    { return nil }
func (d *discard) Changed() <-chan struct{}                             { return nil }
func (d *discard) Settle(context.Context, ...string) error              { return nil }
func (d *discard) Release(string)                                       {}
func (d *discard) Forget(string)                                        {}

// BenchmarkRead reads four shards, from the first answer to rows that are handed over, and says what that takes of a core.
func BenchmarkRead(b *testing.B) {
	for _, kind := range []string{"plain", "packed"} {
		for _, way := range []string{"polling", "fan-out"} {
			b.Run(kind+"/"+way, func(b *testing.B) {
				credentials(b)
				s := &fake{Server: &kinesistest.Server{URL: served(b, kind)}}
				o := options(s, "s")
				o.ReadsPerSecond = 100_000
				if way == "fan-out" {
					o = fanOut(s, "s")
				}
				b.SetBytes(benchRecords * recordBytes)
				b.ReportAllocs()
				before := cpu()
				for i := 0; b.Loop(); i++ {
					if way == "fan-out" {
						o.FanOut = fmt.Sprint("reader-", i) // one may not be subscribed again at once
					}
					readAll(b, o)
				}
				used := (cpu() - before).Seconds()
				if used == 0 {
					return // not known here
				}
				b.ReportMetric(float64(b.N)*benchRecords/used, "records/s/core")
				b.ReportMetric(float64(b.N)*benchRecords*recordBytes/1e6/used, "MB/s/core")
			})
		}
	}
}

func readAll(b *testing.B, o kinesis.Options) {
	r, err := kinesis.New(o)
	if err != nil {
		b.Fatal(err)
	}
	d := &discard{done: make(chan struct{})}
	d.left.Store(benchRecords)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, d) }()
	select {
	case <-d.done:
	case <-time.After(time.Minute):
		b.Error("not within a minute")
	}
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}
