package buffer

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

// BenchmarkInlet measures rows of lanes from Append until they are cut: batches of 64 rows of 1 KiB, of one, 32 and 512
// lanes, each with a reader. B/lane is what a lane takes in memory when all its rows are cut.
func BenchmarkInlet(b *testing.B) {
	for _, lanes := range []int{1, 32, 512} {
		b.Run(fmt.Sprintf("lanes=%d", lanes), func(b *testing.B) { benchInlet(b, lanes) })
	}
}

func benchInlet(b *testing.B, lanes int) {
	x, err := Open(Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	s, err := x.Define(Stream{Name: "clicks"})
	if err != nil {
		b.Fatal(err)
	}
	in, err := x.Inlet(s.Incarnation)
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	stop := make(chan struct{})
	var cutter sync.WaitGroup
	cutter.Go(func() { benchCut(b, x, s, stop) })
	defer cutter.Wait()
	defer close(stop)
	const records, size = 64, 1024
	var data, meta [][]byte
	for range records {
		data = append(data, make([]byte, size))
		meta = append(meta, make([]byte, 40))
	}
	names := make([]string, lanes)
	for i := range names {
		names[i] = "clicks-" + strconv.Itoa(i)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	work := make(chan struct{})
	var readers sync.WaitGroup
	for _, name := range names {
		readers.Go(func() {
			n := 0
			for range work {
				n += records
				if err := in.Append(context.Background(), LaneRows{Lane: name, Arrived: time.Now(), Data: data, Meta: meta, Next: strconv.AppendInt(nil, int64(n), 10)}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	b.SetBytes(records * size)
	b.ReportAllocs()
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	readers.Wait()
	b.StopTimer()
	c := x.Consumer(s.Incarnation, Main)
	if k := c.Take(0, 1<<40); k != nil {
		first, next := k.Range()
		h := ManifestHead{ID: x.NewManifestID(), Version: s.Version, Epoch: c.NewEpoch(), First: first, Next: next, Counts: Counts{Dropped: int64(next - first)}}
		if _, err := x.Cut(k, nil, h); err != nil {
			b.Log(err) // the cutter may have been first
		}
	}
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "rows/s")
	if lanes > 1 {
		x.front.trim()
		x.front.trim()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(max(float64(after.HeapAlloc)-float64(before.HeapAlloc), 0)/float64(lanes), "B/lane")
	}
}
