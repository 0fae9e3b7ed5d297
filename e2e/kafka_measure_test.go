//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"hydrant/sample"
)

// TestMeasureKafka lets the daemon read clicks, which lie in Kafka in zstd, into Parquet with zstd, and prints what that takes of
// its processor time and memory, for a few partitions and for many.
func TestMeasureKafka(t *testing.T) {
	measuring(t)
	const count = 400_000
	for _, partitions := range []int{1, 32, 512} {
		k := newKafka(t, map[string]int32{"clicks": int32(partitions)})
		cl, err := kgo.NewClient(kgo.SeedBrokers(k.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.ZstdCompression()),
			kgo.ProducerLinger(50*time.Millisecond), kgo.MaxBufferedRecords(100_000))
		if err != nil {
			t.Fatal(err)
		}
		sent, n := int64(0), 0
		for _, r := range (sample.Clickstream{Seed: sample.DefaultSeed}).All(0, count) {
			sent += int64(len(r))
			cl.Produce(t.Context(), &kgo.Record{Topic: "clicks", Partition: int32(n / 200 % partitions), Key: fmt.Appendf(nil, "user-%d", n%5000), Value: bytes.Clone(r)}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
			n++
		}
		if err := cl.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		cl.Close()
		d := configure(t, fmt.Sprintf(`limits: { memory: 512MiB, disk: 8GiB }
streams:
  - name: clicks
    source: { kafka: { brokers: %s, topics: [clicks], group: lake } }
    format: { parquet: { schema: %q, compression: zstd } }
    buffer: { size: 128MiB, interval: 5s }
    destination: { file: { path: ./lake, prefix: "in/" } }
`, k.brokers(), sample.ClicksSchema)).start()
		watched := d.watch()
		before, began := processorTime(t, d.cmd.Process.Pid), time.Now()
		eventually(t, "all is delivered", func() bool { return d.status("clicks").Delivered == count && k.left("lake") == 0 })
		took, used := time.Since(began), processorTime(t, d.cmd.Process.Pid)-before
		t.Logf("%d partitions: %d records, %d MB: %.0f records/s and %.0f MB/s per core (%v of processor time in %v), at most %d MiB",
			partitions, count, sent/1e6, count/used.Seconds(), float64(sent)/1e6/used.Seconds(), used, took.Round(time.Millisecond), watched().memory>>20)
		d.kill()
	}
}
