//go:build unix

package kafka

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"hydrant/sample"
	"hydrant/sources"
)

// sink is an Inlet that delivers everything at once and keeps nothing.
type sink struct {
	rows atomic.Int64
	last chan struct{}
	stop int64 // rows after which last is closed
}

func (s *sink) Position(string) sources.Position { return nil }
func (s *sink) Lanes() []string                  { return nil }
func (s *sink) Append(_ context.Context, r sources.Rows) error {
	if n := s.rows.Add(int64(len(r.Data))); n >= s.stop && n-int64(len(r.Data)) < s.stop {
		close(s.last)
	}
	return nil
}
func (s *sink) Note(context.Context, string, sources.Position) error { return nil }
func (s *sink) Delivered(string) sources.Position                    { return nil }
func (s *sink) Changed() <-chan struct{}                             { return nil }
func (s *sink) Settle(context.Context, ...string) error              { return nil }
func (s *sink) Release(string)                                       {}
func (s *sink) Forget(string)                                        {}

// fill produces count click records to all partitions of a topic, and returns the bytes of their values.
func (c *cluster) fill(partitions, count int, opts ...kgo.Opt) (bytes int64) {
	c.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(10 * time.Millisecond), kgo.MaxBufferedRecords(100_000)}, opts...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	defer cl.Close()
	n := 0
	for _, data := range (sample.Clickstream{Seed: sample.DefaultSeed}).All(0, uint64(count)) {
		bytes += int64(len(data))
		cl.Produce(c.t.Context(), &kgo.Record{Topic: "t", Partition: int32(n / 500 % partitions), Key: fmt.Appendf(nil, "%d", n%1000), Value: append([]byte(nil), data...)}, func(_ *kgo.Record, err error) {
			if err != nil {
				c.t.Error(err)
			}
		})
		n++
	}
	if err := cl.Flush(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	return bytes
}

// cpu is the processor time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRead reads click records, which came in zstd, from brokers in this process to rows that are handed over. Bytes
// are those of their values; records by processor time count what the brokers do for it too.
func BenchmarkRead(b *testing.B) {
	const count = 200_000
	for _, partitions := range []int{1, 32} {
		b.Run(fmt.Sprintf("partitions=%d", partitions), func(b *testing.B) {
			c := newCluster(b, kfake.NumBrokers(3), kfake.SeedTopics(int32(partitions), "t"))
			b.SetBytes(c.fill(partitions, count, kgo.ProducerBatchCompression(kgo.ZstdCompression())))
			b.ReportAllocs()
			round := 0
			began := cpu()
			for b.Loop() {
				o := c.options()
				o.Group = fmt.Sprintf("g%d", round) // from the beginning
				o.Memory, o.StopTime = DefaultMemory, -1
				round++
				r, err := New(o)
				if err != nil {
					b.Fatal(err)
				}
				in := &sink{last: make(chan struct{}), stop: count}
				ctx, cancel := context.WithCancel(b.Context())
				done := make(chan error, 1)
				go func() { done <- r.Run(ctx, in) }()
				<-in.last
				cancel()
				<-done
			}
			b.ReportMetric(float64(b.N)*count/(cpu()-began).Seconds(), "records/cpu-s")
		})
	}
}

// BenchmarkLanes is what a reader takes of the heap for each partition that it has and that brings nothing at the moment, with
// its clients, and with what brokers in this process keep for it.
func BenchmarkLanes(b *testing.B) {
	for _, partitions := range []int{1, 32, 512} {
		b.Run(fmt.Sprintf("lanes=%d", partitions), func(b *testing.B) {
			c := newCluster(b, kfake.NumBrokers(3), kfake.SeedTopics(int32(partitions), "t"))
			c.fill(partitions, 500*partitions)
			heap := func() uint64 {
				for range 4 { // pools are emptied by the second
					runtime.GC()
				}
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return m.HeapAlloc + m.StackInuse
			}
			var taken float64
			round := 0
			for b.Loop() {
				before := heap()
				o := c.options()
				o.Group = fmt.Sprintf("g%d", round)
				o.StopTime = -1
				round++
				r, err := New(o)
				if err != nil {
					b.Fatal(err)
				}
				in := &sink{last: make(chan struct{}), stop: int64(500 * partitions)}
				ctx, cancel := context.WithCancel(b.Context())
				done := make(chan error, 1)
				go func() { done <- r.Run(ctx, in) }()
				<-in.last
				time.Sleep(500 * time.Millisecond) // what was fetched is let go of
				taken += float64(heap()) - float64(before)
				cancel()
				<-done
			}
			b.ReportMetric(taken/float64(b.N)/float64(partitions), "B/lane")
			b.ReportMetric(taken/float64(b.N), "B/reader")
		})
	}
}
