package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hydrant/buffer/forgetfs"
)

// envEverywhere makes TestEveryOperation try every operation of every recovery, instead of one of each.
const envEverywhere = "HYDRANT_SIM_EVERYWHERE"

// moment is a short life of two streams in which the power goes at an operation of the disk, and again at one
// of the recovery from that. Its text is what a worker is given, and replays it.
type moment struct {
	workload uint64
	at       int64  // operation since the beginning; 0: never
	fate     uint64 // of what was not synced: none of it is kept, all of it, or what the number draws
	again    int64  // operation of the start after that; 0: never
	fate2    uint64
}

func (m moment) String() string {
	return fmt.Sprintf("%d/%d/%d/%d/%d", m.workload, m.at, m.fate, m.again, m.fate2)
}

func parseMoment(s string) (m moment, err error) {
	_, err = fmt.Sscanf(s, "%d/%d/%d/%d/%d", &m.workload, &m.at, &m.fate, &m.again, &m.fate2)
	return m, err
}

// Fates that are not drawn.
const (
	nothingKept uint64 = iota
	allKept
)

func keep(fate uint64) func(int, forgetfs.Unit) forgetfs.Fate {
	switch fate {
	case nothingKept:
		return forgetfs.None
	case allKept:
		return forgetfs.All
	}
	return forgetfs.Random(fate)
}

// workloads are the streams of the short lives: together they have every format, cuts by size and by interval,
// objects of several records and of one.
var workloads = [][2]spec{
	{{Format: "lines", Size: 400, Interval: time.Second}, {Format: "parquet", Size: 1 << 20, Interval: 700 * time.Millisecond}},
	{{Format: "gzip", Size: 1000, Interval: 130 * time.Millisecond}, {Format: "joined", Size: 1, Interval: 5 * time.Second}},
}

// simple makes a new world one of few and small things in which nothing but the power fails.
func (w *world) simple() {
	w.shape = shape{
		slot: 64 << 10, slots: 4, disk: 16 << 20, capacity: 24 << 20, memory: 2 << 20,
		streams: 2, steps: 4, calls: 4, pace: 300 * time.Millisecond,
	}
	fs := forgetfs.New()
	fs.SetCapacity(w.shape.capacity)
	w.disk = newDisk(w, fs, w.seed)
}

// momentLength is how long the clients and the first deliveries of a short life take at most.
const momentLength = 8 * time.Second

// live runs the short life. It returns the disk's operations up to the drain, and those of the start that
// followed the first death.
func (m moment) live(w *world) (ops, recovery int64, fault string) {
	l := &life{w: w, r: rand.New(rand.NewPCG(m.workload, 0x11fe))}
	for i, name := range w.names() {
		s := workloads[m.workload%uint64(len(workloads))][i]
		s.Rev, s.Zone, s.Place, s.stream = i+1, "UTC", fmt.Sprintf("b%d", i), name
		w.declare(name, &s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for i, name := range w.names() {
		clients.Go(func() { w.client(ctx, w.seed, name, i) })
	}
	deaths := []struct {
		at   int64
		fate uint64
	}{{m.at, m.fate}, {m.again, m.fate2}, {}}
	for i, death := range deaths {
		if death.at > 0 {
			w.disk.crashIn(death.at)
		}
		before := w.disk.fs.Ops()
		up := w.start(l.r.Uint64())
		if i == 1 {
			recovery = w.disk.fs.Ops() - before
		}
		if up {
			select {
			case <-w.last.killed:
			case <-time.After(momentLength):
				ops = w.disk.fs.Ops()
			}
		}
		if ops > 0 || w.failed() {
			break
		}
		l.stop(0)
		d := newDisk(w, w.disk.fs.Image(keep(death.fate)), l.r.Uint64())
		w.mu.Lock()
		w.disk = d
		w.mu.Unlock()
	}
	if !w.failed() {
		w.healed.Store(true)
		w.disk.crashIn(1 << 60)
		clients.Wait()
		l.finish()
	}
	cancel()
	l.stop(0)
	clients.Wait()
	w.store.late.Wait()
	return ops, recovery, w.report()
}

// TestEveryOperation lets the power go at every operation of short lives of whole streams, from the first start
// on an empty disk to the confirmation of the last object, with three fates of what was not synced, and again
// during the recovery.
func TestEveryOperation(t *testing.T) {
	if os.Getenv(envWorker) != "" {
		t.Skip("this process is a worker")
	}
	full := os.Getenv(envEverywhere) != ""
	var lives int
	for n := range workloads {
		workload := uint64(n)
		total := momentOps(t, moments(t, []moment{{workload: workload}}))[moment{workload: workload}]
		if total.ops < 50 {
			t.Fatalf("workload %d: %d operations: too few for a life", workload, total.ops)
		}
		var once []moment
		for at := int64(1); at <= total.ops; at++ {
			for _, fate := range []uint64{nothingKept, allKept, uint64(at)<<8 + 2} {
				once = append(once, moment{workload: workload, at: at, fate: fate})
			}
		}
		found := momentOps(t, moments(t, once))
		var twice []moment
		r := rand.New(rand.NewPCG(workload, 2))
		for _, m := range once {
			k := found[m].recovery
			switch {
			case k == 0:
			case full:
				for again := int64(1); again <= k; again++ {
					for _, fate := range []uint64{nothingKept, uint64(again)<<8 + 3} {
						m.again, m.fate2 = again, fate
						twice = append(twice, m)
					}
				}
			case m.fate != allKept:
				m.again, m.fate2 = 1+r.Int64N(k), []uint64{nothingKept, allKept, r.Uint64()}[r.IntN(3)]
				twice = append(twice, m)
			}
		}
		moments(t, twice)
		lives += len(once) + len(twice)
		t.Logf("workload %d: %d operations, %d lives with one death, %d with two", workload, total.ops, len(once), len(twice))
	}
	t.Logf("%d lives", lives)
}

// momentResult is what a short life took.
type momentResult struct{ ops, recovery int64 }

func momentOps(t *testing.T, sums map[string][]string) map[moment]momentResult {
	t.Helper()
	found := map[moment]momentResult{}
	for text, s := range sums {
		m, err := parseMoment(text)
		var r momentResult
		if err == nil {
			_, err = fmt.Sscanf(s[0], "%d/%d", &r.ops, &r.recovery)
		}
		if err != nil {
			t.Fatalf("a worker said %q of %q: %v", s, text, err)
		}
		found[m] = r
	}
	return found
}

// moments runs short lives on all cores.
func moments(t *testing.T, list []moment) map[string][]string {
	t.Helper()
	var given atomic.Int64
	results := make([]result, min(runtime.NumCPU(), len(list)))
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			results[i] = work(func(int) (string, bool) {
				n := int(given.Add(1) - 1)
				if n >= len(list) {
					return "", false
				}
				return list[n].String(), true
			})
			if results[i].seed != "" {
				given.Store(int64(len(list)))
			}
		})
	}
	wg.Wait()
	sums := map[string][]string{}
	for _, r := range results {
		r.check(t)
		for text, s := range r.sums {
			sums[text] = s
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return sums
}

// isMoment tells a short life from a seed.
func isMoment(text string) bool { return strings.Contains(text, "/") }
