package buffer

import (
	"context"
	"fmt"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hydrant/buffer/fsys"
	"hydrant/record"
)

// benchCut takes all rows of a stream and drops them, as fast as they come.
func benchCut(b *testing.B, x *Buffer, s Stream, stop <-chan struct{}) {
	c := x.Consumer(s.Incarnation, Main)
	for {
		select {
		case <-stop:
			return
		case <-c.Changed():
		}
		if w := c.Waiting(); w.Bytes < 32<<20 && c.Pressure() == 0 {
			continue
		}
		k := c.Take(0, 1<<40)
		if k == nil {
			continue
		}
		first, next := k.Range()
		h := ManifestHead{ID: x.NewManifestID(), Version: s.Version, Epoch: c.NewEpoch(), First: first, Next: next, Counts: Counts{Dropped: int64(next - first)}}
		if _, err := x.Cut(k, nil, h); err != nil {
			b.Error(err)
			return
		}
	}
}

// BenchmarkAppend measures durable calls on real files: batches of 500 records of 1 KiB, and single
// records. Beside each it measures what the disk does with the same number of bytes per write and sync, in
// slots that were written before; of_probe is the ratio of the two.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("batch/writers=%d", writers), func(b *testing.B) { benchAppend(b, writers, 500) })
	}
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("single/writers=%d", writers), func(b *testing.B) { benchAppend(b, writers, 1) })
	}
}

func benchAppend(b *testing.B, writers, records int) {
	pool := new(record.Pool)
	x, err := Open(Options{Dir: b.TempDir(), Buffers: pool})
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	s, err := x.Define(Stream{Name: "clicks"})
	if err != nil {
		b.Fatal(err)
	}
	stop := make(chan struct{})
	var cutter sync.WaitGroup
	cutter.Go(func() { benchCut(b, x, s, stop) })
	defer cutter.Wait()
	defer close(stop)

	row := make([]byte, 1024)
	for i := range row {
		row[i] = byte(i * 7)
	}
	bufs := make([]*record.Batch, writers)
	call := func(w int) error {
		if bufs[w] == nil {
			bufs[w] = record.NewBatch(pool.Get(record.Headroom + records*(len(row)+2)))
			for range records {
				bufs[w].Append(row)
			}
		}
		_, adopted, err := x.Append(context.Background(), "clicks", record.Call{Batch: bufs[w]})
		if adopted {
			bufs[w] = nil
		}
		return err
	}
	// a lap first, so that slots have been written before
	for n := int64(0); n < int64(x.journal.geo.slot)*int64(x.journal.geo.first+2) && records > 1; n += int64(records * len(row)) {
		if err := call(0); err != nil {
			time.Sleep(time.Millisecond)
		}
	}
	payload := int64(records * len(row))
	disk := newProbe(b, x.journal.geo.slot)
	b.SetBytes(payload)
	b.ReportAllocs()
	start := x.committer.groups.Load()
	var refused atomic.Int64
	work := make(chan struct{})
	var wg, busy sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for range work {
				for call(w) != nil {
					refused.Add(1)
					time.Sleep(100 * time.Microsecond)
				}
				busy.Done()
			}
		})
	}
	// The disk's own speed changes from one second to the next, so both are measured in turn.
	const turn = 100 * time.Millisecond
	var mine, theirs time.Duration
	var calls, syncs int64
	began := time.Now()
	for b.Loop() {
		busy.Add(1)
		work <- struct{}{}
		calls++
		if time.Since(began) < turn {
			continue
		}
		busy.Wait()
		b.StopTimer()
		mine += time.Since(began)
		groups := x.committer.groups.Load() - start
		size := (calls*payload/groups + blockSize - 1) &^ (blockSize - 1)
		n, took := disk.run(size, turn)
		syncs += n
		theirs += took
		b.StartTimer()
		began = time.Now()
	}
	busy.Wait()
	mine += time.Since(began)
	b.StopTimer()
	close(work)
	wg.Wait()
	groups := x.committer.groups.Load() - start
	b.ReportMetric(float64(calls)/float64(groups)*float64(records), "records/sync")
	b.ReportMetric(float64(refused.Load())/float64(calls), "refused/op")
	if syncs > 0 {
		probe := float64(syncs) / theirs.Seconds()
		b.ReportMetric(1e6/probe, "probe-us/sync")
		b.ReportMetric(float64(groups)/mine.Seconds()/probe, "of_probe")
	}
}

// probe is what a program could do that does nothing but write and sync, over a file that was written
// before.
type probe struct {
	b         *testing.B
	f         fsys.File
	size, off int64
	buf       []byte
}

func newProbe(b *testing.B, slot int64) *probe {
	f, err := fsys.OS().OpenFile(path.Join(b.TempDir(), "probe"), fsys.Create)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	p := &probe{b: b, f: f, size: slot, buf: make([]byte, 8<<20)}
	for off := int64(0); off < slot; off += int64(len(p.buf)) {
		if _, err := f.WriteAt(p.buf, off); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Datasync(); err != nil {
		b.Fatal(err)
	}
	return p
}

// run writes and syncs n bytes at a time for a while.
func (p *probe) run(n int64, long time.Duration) (syncs int64, took time.Duration) {
	n = min(n, int64(len(p.buf)))
	began := time.Now()
	for took < long {
		if p.off+n > p.size {
			p.off = 0
		}
		if _, err := p.f.WriteAt(p.buf[:n], p.off); err != nil {
			p.b.Fatal(err)
		}
		if err := p.f.Datasync(); err != nil {
			p.b.Fatal(err)
		}
		p.off += n
		syncs++
		took = time.Since(began)
	}
	return syncs, took
}

// BenchmarkRecovery opens a data directory whose ring is full of rows that nobody has cut.
func BenchmarkRecovery(b *testing.B) {
	for _, records := range []int{1, 500} {
		b.Run(fmt.Sprintf("records=%d", records), func(b *testing.B) {
			o := Options{Dir: b.TempDir(), Disk: 5 << 30, Memory: 1 << 30, geometry: geometry{slot: 16 << 20, limit: 12, first: 4}}
			x, err := Open(o)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := x.Define(Stream{Name: "clicks"}); err != nil {
				b.Fatal(err)
			}
			row := make([]byte, 1000)
			var stored atomic.Int64
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					for {
						batch := record.NewBatch(nil)
						for range records {
							batch.Append(row)
						}
						if _, _, err := x.Append(context.Background(), "clicks", record.Call{Batch: batch}); err != nil {
							return // the ring is full
						}
						stored.Add(int64(records))
					}
				})
			}
			wg.Wait()
			used, _ := x.journal.bytes()
			if err := x.Close(); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(used)
			b.ReportAllocs()
			for b.Loop() {
				x, err := Open(o)
				if err != nil {
					b.Fatal(err)
				}
				if got := x.Consumer(1, Main).Totals().Waiting; got != stored.Load() {
					b.Fatalf("%d rows wait, %d were stored", got, stored.Load())
				}
				if err := x.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
