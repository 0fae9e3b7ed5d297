//go:build unix

package buffer

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hydrant/record"
)

// sealedLoad is a Buffer under load, in turns.
type sealedLoad struct {
	x       *Buffer
	pool    *record.Pool
	records int
	bufs    []*record.Batch
	calls   int64
	took    time.Duration
	cpu     time.Duration // that the process used meanwhile
	groups  int64
}

// cpuTime is what the process has used so far, in user mode and for it in the kernel.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var benchRow = func() []byte {
	row := make([]byte, 1024)
	for i := range row {
		row[i] = byte(i * 7)
	}
	return row
}()

func (l *sealedLoad) call(w int) error {
	if l.bufs[w] == nil {
		l.bufs[w] = record.NewBatch(l.pool.Get(record.Headroom + l.records*(len(benchRow)+2)))
		for range l.records {
			l.bufs[w].Append(benchRow)
		}
	}
	_, adopted, err := l.x.Append(context.Background(), "clicks", record.Call{Batch: l.bufs[w]})
	if adopted {
		l.bufs[w] = nil
	}
	return err
}

// turn lets all writers call for a while.
func (l *sealedLoad) turn(long time.Duration) {
	var wg sync.WaitGroup
	var calls atomic.Int64
	cpu, groups, began := cpuTime(), l.x.committer.groups.Load(), time.Now()
	for w := range l.bufs {
		wg.Go(func() {
			for time.Since(began) < long {
				if l.call(w) != nil {
					time.Sleep(100 * time.Microsecond)
					continue
				}
				calls.Add(1)
			}
		})
	}
	wg.Wait()
	l.took += time.Since(began)
	l.cpu += cpuTime() - cpu
	l.calls += calls.Load()
	l.groups += l.x.committer.groups.Load() - groups
}

// BenchmarkAppendEncrypted measures durable calls into an encrypted Buffer and into one in clear, in turns on the
// same disk, since that is never the same two seconds running. The result is that of the encrypted one; of_clear is the
// ratio of the two, cpu_of_clear that of the processor time per call, which other programs disturb less.
func BenchmarkAppendEncrypted(b *testing.B) {
	for _, records := range []int{500, 1} {
		for _, writers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("records=%d/writers=%d", records, writers), func(b *testing.B) { benchEncrypted(b, writers, records) })
		}
	}
}

func benchEncrypted(b *testing.B, writers, records int) {
	var loads []*sealedLoad
	var cutters sync.WaitGroup
	stop := make(chan struct{})
	for _, key := range []*Key{nil, testKey(1)} {
		l := &sealedLoad{pool: new(record.Pool), records: records, bufs: make([]*record.Batch, writers)}
		var err error
		if l.x, err = Open(Options{Dir: b.TempDir(), Buffers: l.pool, Key: key}); err != nil {
			b.Fatal(err)
		}
		defer l.x.Close()
		s, err := l.x.Define(Stream{Name: "clicks"})
		if err != nil {
			b.Fatal(err)
		}
		cutters.Go(func() { benchCut(b, l.x, s, stop) })
		// a lap first, so that slots have been written before
		geo := l.x.journal.geo
		for n := int64(0); n < geo.slot*int64(geo.first+2) && records > 1; n += int64(records * len(benchRow)) {
			if err := l.call(0); err != nil {
				time.Sleep(time.Millisecond)
			}
		}
		loads = append(loads, l)
	}
	defer cutters.Wait()
	defer close(stop)
	clear, sealed := loads[0], loads[1]
	b.SetBytes(int64(records * len(benchRow)))
	b.ReportAllocs()
	b.ResetTimer()
	for sealed.calls < int64(b.N) {
		sealed.turn(100 * time.Millisecond)
		b.StopTimer()
		clear.turn(100 * time.Millisecond)
		b.StartTimer()
	}
	b.StopTimer()
	rate := func(l *sealedLoad) float64 { return float64(l.calls) / l.took.Seconds() }
	b.ReportMetric(sealed.took.Seconds()*1e9/float64(sealed.calls), "ns/op")
	b.ReportMetric(rate(sealed)*float64(records*len(benchRow))/1e6, "MB/s")
	b.ReportMetric(rate(clear)*float64(records*len(benchRow))/1e6, "clear-MB/s")
	b.ReportMetric(rate(sealed)/rate(clear), "of_clear")
	b.ReportMetric(sealed.cpu.Seconds()/float64(sealed.calls)/(clear.cpu.Seconds()/float64(clear.calls)), "cpu_of_clear")
	b.ReportMetric(float64(sealed.calls)/float64(max(sealed.groups, 1))*float64(records), "records/sync")
}

// BenchmarkSeal is what sealing alone costs: the frame of a call, with its checksum.
func BenchmarkSeal(b *testing.B) {
	for _, n := range []int{1 << 10, 64 << 10, 1 << 20} {
		for name, key := range map[string]*Key{"clear": nil, "sealed": testKey(1)} {
			b.Run(fmt.Sprintf("%s/bytes=%d", name, n), func(b *testing.B) {
				r, err := newKeyring(id16(1), key, nil, &counting{})
				if err != nil {
					b.Fatal(err)
				}
				payload, dst := make([]byte, n), make([]byte, 0, n+sealOverhead)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					h := frameHead{Type: frameData, Count: 1, Incarnation: 1}
					r.seal.store(&h, dst, payload)
				}
			})
		}
	}
}
