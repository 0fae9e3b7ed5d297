package buffer

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer/forgetfs"
)

// script is a short life of a Buffer. It stops at the first error that is a violation; others are part of
// a life in which the power goes or the disk fails.
type script struct {
	name string
	// faults makes the disk fail; nil: only the power does.
	faults func(w *world) func(op forgetfs.Op) *forgetfs.Fault
	run    func(w *world) error
}

// steps runs functions until one of them reports a violation.
func steps(fns ...func() error) error {
	for _, fn := range fns {
		if err := fn(); isBug(err) {
			return err
		}
	}
	return nil
}

// deliver confirms all objects of a manifest.
func (w *world) deliver(m *modelManifest) {
	if m == nil {
		return
	}
	for i := range m.objects {
		if !m.gone[i] {
			w.confirm(m, i)
		}
	}
}

var scripts = []script{
	{name: "basics", run: func(w *world) error {
		var m *modelManifest
		return steps(
			func() error { return w.define("a", "v1", Active) },
			func() error { return w.put("a", 100, 3) },
			func() error { return w.put("a", 100, 1, 2, 1) },
			func() (err error) { m, err = w.cut("a", 400, 2); return err },
			func() error { return w.put("a", 3500, 2) },
			func() error {
				if m != nil {
					w.confirm(m, 0)
				}
				w.rest(300 * time.Millisecond)
				w.deliver(m)
				w.rest(300 * time.Millisecond)
				return nil
			},
			func() (err error) { m, err = w.cut("a", 1<<30, 1); return err },
			func() error { return w.put("a", 100, 1) },
			func() error { w.deliver(m); w.rest(300 * time.Millisecond); return nil },
		)
	}},
	{name: "two streams", run: func(w *world) error {
		var ma, mb *modelManifest
		return steps(
			func() error { return w.define("a", "v1", Active) },
			func() error { return w.define("b", "v1", Active) },
			func() error { return w.put("a", 50, 2, 2) },
			func() error { return w.put("b", 50, 2) },
			func() (err error) { ma, err = w.cut("a", 1<<30, 1); return err },
			func() error { return w.define("a", "v2", Active) },
			func() error { return w.put("a", 50, 1) },
			func() (err error) { mb, err = w.cut("b", 1<<30, 2); return err },
			func() error { w.deliver(ma); return w.put("b", 50, 1) },
			func() error { return w.define("b", "v1", Paused) },
			func() error { w.rest(300 * time.Millisecond); w.deliver(mb); return nil },
			func() (err error) { ma, err = w.cut("a", 1<<30, 1); return err },
			func() error { w.rest(300 * time.Millisecond); return nil },
		)
	}},
	{name: "replace", run: func(w *world) error {
		var m, e *modelManifest
		return steps(
			func() error { return w.define("a", "v1", Active) },
			func() error { return w.put("a", 50, 6) },
			func() (err error) { m, err = w.cut("a", 1<<30, 3); return err },
			func() error { return w.put("a", 50, 1) },
			func() error {
				if m != nil {
					w.confirm(m, 0)
				}
				return nil
			},
			func() (err error) {
				if m != nil {
					e, err = w.replace("a", m, 1)
				}
				return err
			},
			func() error { w.rest(300 * time.Millisecond); return nil },
			func() (err error) {
				if e != nil {
					w.deliver(e)
					_, err = w.replace("a", m, 2)
				}
				return err
			},
			func() error { w.rest(300 * time.Millisecond); return nil },
		)
	}},
	{name: "opening with residue", run: func(w *world) error {
		return laps(w, 3, func() error { return nil })
	}},
	{name: "progress over a checkpoint", run: func(w *world) error {
		var m *modelManifest
		return steps(
			func() error { return w.define("a", "v1", Active) },
			func() error { return w.put("a", 50, 6) },
			func() (err error) { m, err = w.cut("a", 1<<30, 3); return err },
			func() error {
				if m != nil {
					w.confirm(m, 1)
				}
				w.rest(300 * time.Millisecond)
				return nil
			},
			func() error { return laps(w, 2, func() error { return nil }) },
			func() error { w.deliver(m); w.rest(300 * time.Millisecond); return nil },
		)
	}},
	{name: "set aside", run: func(w *world) error {
		var m *modelManifest
		return steps(
			func() error { return w.define("a", "v1", Active) },
			func() error { return w.put("a", 50, 6) },
			func() (err error) { m, err = w.cut("a", 1<<30, 3); return err },
			func() error {
				if m != nil {
					return w.setAside(m, 1)
				}
				return nil
			},
			func() error {
				if m != nil {
					w.confirm(m, 0)
				}
				return w.put("a", 50, 1)
			},
			func() error { w.rest(300 * time.Millisecond); return nil },
			func() error {
				if m != nil {
					return w.setAside(m, 2)
				}
				return nil
			},
			func() error { w.rest(300 * time.Millisecond); return nil },
		)
	}},
	{name: "discard", run: func(w *world) error {
		var m *modelManifest
		return steps(
			func() error { return w.define("a", "v1", Active) },
			func() error { return w.put("a", 50, 6) },
			func() (err error) { m, err = w.cut("a", 1<<30, 3); return err },
			func() error {
				if m != nil {
					return w.discard(m, 1)
				}
				return nil
			},
			func() error {
				if m != nil {
					w.confirm(m, 0)
				}
				return w.put("a", 50, 1)
			},
			func() error { w.rest(300 * time.Millisecond); return nil },
			func() error {
				if m != nil {
					return w.discard(m, 2)
				}
				return nil
			},
			func() error { w.rest(300 * time.Millisecond); return nil },
		)
	}},
	{name: "a stream ends", run: func(w *world) error {
		return steps(
			func() error { return w.define("a", "v1", Active) },
			func() error { return w.put("a", 50, 3) },
			func() error { return w.define("a", "v1", Deleting) },
			func() error {
				if w.m.stream("a").state == Deleting {
					if err := w.put("a", 50, 1); err == nil {
						return bug("a stream that is deleted took a record")
					}
					w.errs = nil
				}
				return nil
			},
			func() error {
				m, err := w.cut("a", 1<<30, 1)
				if err == nil {
					w.deliver(m)
				}
				return err
			},
			func() error { w.rest(300 * time.Millisecond); return nil },
			func() error {
				if w.m.stream("a").state != Deleting || w.disk.Dead() {
					return nil
				}
				return w.define("a", "v1", Gone)
			},
			func() error { return w.define("b", "v1", Active) },
			func() error {
				if w.m.streams["a"] != nil || w.disk.Dead() {
					return nil
				}
				return w.define("a", "v9", Active)
			},
			func() error { return w.put("a", 50, 2) },
			func() error {
				_, err := w.cut("a", 1<<30, 1)
				return err
			},
		)
	}},
	{name: "the disk is full", faults: noFaults, run: func(w *world) error {
		w.disk.SetCapacity(64 << 20)
		fill := func(left int64) func() error {
			return func() error {
				w.disk.SetOther(64<<20 - w.disk.Used() - left)
				w.rest(300 * time.Millisecond)
				return nil
			}
		}
		var m *modelManifest
		cut := func() error {
			n, err := w.cut("a", 3000, 1)
			if n != nil {
				m = n
			}
			return err
		}
		return steps(
			func() error { return w.define("a", "v1", Active) },
			func() error { return w.put("a", 1000, 3, 3) },
			fill(0),
			func() error { return w.put("a", 1000, 1) },
			cut, cut,
			func() error { w.deliver(m); w.rest(300 * time.Millisecond); return nil },
			cut,
			fill(5000),
			cut,
			func() error { w.deliver(m); w.rest(300 * time.Millisecond); return nil },
			fill(32<<20),
			func() error { return w.put("a", 1000, 2) },
			cut,
			func() error { w.deliver(m); w.rest(300 * time.Millisecond); return nil },
		)
	}},
	replaceFails,
	{name: "backup behind main", run: func(w *world) error {
		w.m.stream("slow").consumers = []uint8{Main, Backup}
		w.m.stream("fast").consumers = []uint8{Main, Backup}
		i := 0
		return laps(w, 2, func() error {
			if i++; i%7 != 0 {
				return nil
			}
			m, err := w.cutFor("fast", Backup, 1<<30, 1)
			if err == nil {
				w.deliver(m)
			}
			return err
		})
	}},
	{name: "a sync fails", faults: func(w *world) func(forgetfs.Op) *forgetfs.Fault {
		n := 0
		return func(op forgetfs.Op) *forgetfs.Fault {
			if op.Kind == forgetfs.OpDatasync && strings.Contains(op.Path, "/j-") {
				if n++; n == 12 {
					return &forgetfs.Fault{Err: syscall.EIO}
				}
			}
			return nil
		}
	}, run: failing},
	{name: "a write is short, then syncs fail", faults: func(w *world) func(forgetfs.Op) *forgetfs.Fault {
		n := 0
		return func(op forgetfs.Op) *forgetfs.Fault {
			if !strings.Contains(op.Path, "/j-") {
				return nil
			}
			switch op.Kind {
			case forgetfs.OpWrite:
				if n++; n == 20 {
					return &forgetfs.Fault{Err: syscall.EIO, Done: true, Short: 2048}
				}
			case forgetfs.OpDatasync:
				if n >= 20 && n < 24 {
					n++
					return &forgetfs.Fault{Err: syscall.EIO, Done: n%2 == 0}
				}
			}
			return nil
		}
	}, run: failing},
}

// replaceFails is a life in which the journal cannot be written when objects are replaced: whether the REPLACE
// will be found after a crash nobody knows, so the old objects may not be sent meanwhile.
var replaceFails = script{name: "a replace fails", faults: func(w *world) func(forgetfs.Op) *forgetfs.Fault {
	return func(op forgetfs.Op) *forgetfs.Fault {
		if isSlot(op.Path) && (op.Kind == forgetfs.OpDatasync || op.Kind == forgetfs.OpCreate) && w.broke.Load() {
			return &forgetfs.Fault{Err: syscall.EIO}
		}
		return nil
	}
}, run: func(w *world) error {
	var m *modelManifest
	return steps(
		func() error { return w.define("a", "v1", Active) },
		func() error { return w.put("a", 50, 4) },
		func() (err error) { m, err = w.cut("a", 1<<30, 2); return err },
		func() error {
			if m == nil {
				return nil
			}
			w.waits = true
			w.broke.Store(true)
			done := make(chan error, 1)
			go func() {
				_, err := w.replace("a", m, 1)
				done <- err
			}()
			w.rest(7 * time.Second)
			w.deliver(m)
			w.rest(300 * time.Millisecond)
			w.broke.Store(false)
			w.rest(7 * time.Second)
			if w.disk.Dead() {
				w.stop()
			}
			return <-done
		},
		func() error { w.deliver(m); w.rest(300 * time.Millisecond); return nil },
	)
}}

// noFaults marks a script in which callers may get errors although the disk does as it is told.
func noFaults(*world) func(forgetfs.Op) *forgetfs.Fault { return nil }

// failing is a life during which the disk fails.
func failing(w *world) error {
	var m *modelManifest
	fns := []func() error{
		func() error { return w.define("a", "v1", Active) },
		func() error { return w.put("a", 100, 3) },
		func() (err error) { m, err = w.cut("a", 1<<30, 2); return err },
	}
	for range 4 {
		fns = append(fns,
			func() error { return w.put("a", 100, 1, 2) },
			func() error {
				n, err := w.cut("a", 150, 1)
				if n != nil {
					m = n
				}
				return err
			},
			func() error { w.deliver(m); w.rest(300 * time.Millisecond); return nil },
		)
	}
	fns = append(fns,
		func() error { w.rest(2 * retrySlot); return nil },
		func() error { return w.put("a", 100, 2) },
		func() (err error) { m, err = w.cut("a", 1<<30, 2); return err },
		func() error { w.deliver(m); w.rest(300 * time.Millisecond); return nil },
	)
	return steps(fns...)
}

// laps fills the ring so many times round, cutting most rows and leaving some of each segment for the
// residue.
func laps(w *world, n int, between func() error) error {
	if err := w.define("slow", "v1", Active); isBug(err) {
		return err
	}
	if err := w.define("fast", "v1", Active); isBug(err) {
		return err
	}
	for i := range n * 4 * 5 {
		err := steps(
			func() error { return w.put("fast", 3500, 2) },
			func() error {
				if i%6 == 0 {
					return w.put("slow", 300, 1)
				}
				return nil
			},
			func() error {
				m, err := w.cut("fast", 1<<30, 1)
				if err == nil {
					w.deliver(m)
				}
				return err
			},
			func() error {
				if i%20 != 19 {
					return nil
				}
				m, err := w.cut("slow", 500, 1)
				if err == nil {
					w.deliver(m)
				}
				return err
			},
			between,
		)
		if err != nil {
			return err
		}
		if w.disk.Dead() {
			return nil
		}
	}
	return nil
}

// inBubble runs fn in a bubble of its own and returns its error, also that of a panic.
func inBubble(t *testing.T, fn func() error) (err error) {
	t.Helper()
	// on one processor goroutines take turns in the same order each time, or nearly so
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, func(t *testing.T) { err = fn() })
	return err
}

// live runs a script from the first start on, with the power going at operation n (0: it does not).
func (s *script) live(seed uint64, n int64) (*world, error) {
	w := newWorld(seed)
	w.mode = int(n % cryptModes)
	if s.faults != nil {
		w.watch(s.faults(w))
	}
	w.disk.CrashAt(n)
	err := w.open()
	if err == nil {
		err = s.run(w)
	}
	w.disk.Kill()
	w.stop()
	if len(w.faults) > 0 {
		err = bug("%s", strings.Join(w.faults, "; "))
	}
	if err == nil && n == 0 && s.faults == nil && len(w.errs) > 0 {
		err = bug("without a crash: %v", w.errs)
	}
	return w, err
}

// restart starts on an image and checks it. With crash > 0 the power goes again at that operation of the
// recovery, and the third start is checked.
func restart(w *world, fate func(int, forgetfs.Unit) forgetfs.Fate, crash int64, again func(int, forgetfs.Unit) forgetfs.Fate) (ops int64, err error) {
	r := onDisk(w.disk.Image(fate), w.m.clone(), 99)
	r.mode = int(int64(w.mode)+1+crash) % cryptModes
	if crash > 0 {
		r.disk.CrashAt(crash)
		r.open() // most likely an error
		died := r.disk.Dead()
		r.disk.Kill()
		r.stop()
		if len(r.faults) > 0 {
			return 0, bug("during recovery: %s", strings.Join(r.faults, "; "))
		}
		if !died {
			return -1, nil
		}
		mode := (r.mode + 1) % cryptModes
		r = onDisk(r.disk.Image(again), r.m, 100)
		r.mode = mode
	}
	if err := r.open(); err != nil {
		return 0, bug("start after the crash: %v", err)
	}
	defer r.stop()
	ops = r.disk.Ops()
	if err := r.check(); err != nil {
		return ops, err
	}
	return ops, r.drain()
}

// masks are the subsets of n uncertain units that are tried: all where they are few, otherwise none, all,
// each alone, each missing, and some at random.
func masks(n int, most int, r *rand.Rand) []uint64 {
	n = min(n, 60)
	var list []uint64
	if n <= 8 && 1<<n <= most {
		for m := range uint64(1) << n {
			list = append(list, m)
		}
		return list
	}
	all := uint64(1)<<n - 1
	list = append(list, 0, all)
	for _, i := range r.Perm(n) {
		list = append(list, 1<<i, all&^(1<<i))
	}
	for range 8 {
		list = append(list, r.Uint64()&all)
	}
	if len(list) > most {
		list = append(list[:2], list[len(list)-(most-2):]...)
	}
	return list
}

// subset keeps the units of a mask; beyond 60 units the newest bit decides.
func subset(mask uint64) func(int, forgetfs.Unit) forgetfs.Fate {
	return func(i int, _ forgetfs.Unit) forgetfs.Fate {
		return forgetfs.Fate{Kept: mask&(1<<min(i, 59)) != 0}
	}
}

// crashSeeds is how much is to be tried: the number of random lives. From 10,000 on everything else is tried
// in full too; otherwise a part of it that is sized for every run of the tests.
func crashSeeds(t *testing.T) uint64 {
	v := os.Getenv("HYDRANT_CRASH_SEEDS")
	if v == "" {
		return 1000 / slowdown
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("HYDRANT_CRASH_SEEDS: %v", err)
	}
	return n
}

// only narrows a run down to what a failure printed: name/operation/mask/crash/mask.
func only() []string {
	if v := os.Getenv("HYDRANT_CRASH_ONLY"); v != "" {
		return strings.Split(v, "/")
	}
	return nil
}

// TestCrashEverywhere cuts the power at every operation of every script, with every subset of what was not
// synced (bounded), and again at operations of the recovery.
func TestCrashEverywhere(t *testing.T) {
	for _, s := range slices.Concat(scripts, runsScripts, lanesScripts) {
		t.Run(s.name, func(t *testing.T) {
			if o := only(); o != nil && o[0] != strings.ReplaceAll(s.name, " ", "_") {
				t.Skip("HYDRANT_CRASH_ONLY names another script")
			}
			s.everywhere(t)
		})
	}
}

func (s *script) everywhere(t *testing.T) {
	var total int64
	err := inBubble(t, func() error {
		w, err := s.live(1, 0)
		total = w.disk.Ops()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	most, step := 24, max(total*slowdown/80, 1)
	full := crashSeeds(t) >= 10000
	if full {
		most, step = 256, 1
	}
	report := func(n int64, mask uint64, crash int64, again uint64, err error) {
		t.Helper()
		t.Errorf("%v\nreplay: HYDRANT_CRASH_ONLY=%s/%d/%d/%d/%d go test ./buffer -run TestCrashEverywhere", err,
			strings.ReplaceAll(s.name, " ", "_"), n, mask, crash, again)
	}
	if o := only(); len(o) == 5 {
		s.replay(t, o)
		return
	}
	images := 0
	for n := int64(1); n <= total+1 && !t.Failed(); n += step {
		err := inBubble(t, func() error {
			w, err := s.live(1, n)
			if isBug(err) {
				report(n, 0, 0, 0, err)
				return nil
			}
			r := rand.New(rand.NewPCG(uint64(n), 3))
			for i, mask := range masks(len(w.disk.Units()), most, r) {
				ops, err := restart(w, subset(mask), 0, nil)
				images++
				if err != nil {
					report(n, mask, 0, 0, err)
					return nil
				}
				every := i == 0 && full
				for k := int64(1); k <= ops; k++ {
					if !every && r.IntN(int(ops)*4) != 0 {
						continue
					}
					for _, again := range []uint64{0, 1<<60 - 1, r.Uint64()} {
						if _, err := restart(w, subset(mask), k, subset(again)); err != nil {
							report(n, mask, k, again, err)
							return nil
						}
						images++
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d operations, %d images", total, images)
}

// replay runs one case and prints what the disk saw.
func (s *script) replay(t *testing.T, o []string) {
	var v [4]uint64
	for i := range v {
		n, err := strconv.ParseUint(o[i+1], 10, 64)
		if err != nil {
			t.Fatalf("HYDRANT_CRASH_ONLY: %v", err)
		}
		v[i] = n
	}
	err := inBubble(t, func() error {
		w, err := s.live(1, int64(v[0]))
		t.Logf("operations:\n%s", w.disk.Trace())
		for _, err := range w.errs {
			t.Logf("a caller got: %v", err)
		}
		for i, u := range w.disk.Units() {
			t.Logf("not certain: %d %v kept %v", i, u, subset(v[1])(i, u).Kept)
		}
		if isBug(err) {
			return err
		}
		_, err = restart(w, subset(v[1]), int64(v[2]), subset(v[3]))
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// seedRange is which random lives a test goes through: the first, and the one behind the last. They begin at 0, or
// with HYDRANT_CRASH_FROM at that one, or anywhere where that is "any".
func seedRange(t *testing.T) (first, next uint64) {
	read := func(name string) (uint64, bool) {
		v := os.Getenv(name)
		if v == "" {
			return 0, false
		}
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n, true
	}
	if n, ok := read("HYDRANT_CRASH_SEED"); ok {
		return n, n + 1
	}
	if os.Getenv("HYDRANT_CRASH_FROM") == "any" {
		first = uint64(rand.Uint32())
		t.Logf("random lives from %d on", first)
	} else {
		first, _ = read("HYDRANT_CRASH_FROM")
	}
	return first, first + crashSeeds(t)
}

// TestCrashRandom lives through random scripts on disks that fail at random, with several crashes each.
// HYDRANT_CRASH_SEEDS is how many, HYDRANT_CRASH_FROM which is the first, HYDRANT_CRASH_SEED one of them alone.
func TestCrashRandom(t *testing.T) {
	first, next := seedRange(t)
	shards := uint64(runtime.GOMAXPROCS(0))
	for shard := range shards {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			for seed := first + shard; seed < next && !t.Failed(); seed += shards {
				var trace string
				err := inBubble(t, func() (err error) {
					trace, err = randomLife(seed)
					return err
				})
				if err != nil {
					if next == first+1 {
						t.Log(trace)
					}
					t.Errorf("seed %d: %v\nreplay: HYDRANT_CRASH_SEED=%d go test ./buffer -run TestCrashRandom -v", seed, err, seed)
				}
			}
		})
	}
}

// randomLife is several generations of a Buffer on one disk. The trace tells what happened.
func randomLife(seed uint64) (string, error) {
	r := rand.New(rand.NewPCG(seed, 11))
	w := newWorld(seed)
	if r.IntN(4) == 0 {
		w.disk.SetCapacity(64 << 20)
	}
	var log strings.Builder
	for generation := range 2 + r.IntN(4) {
		fmt.Fprintf(&log, "generation %d\n", generation)
		w.faulty = r.IntN(3) == 0
		if w.faulty {
			w.watch(randomFaults(rand.New(rand.NewPCG(r.Uint64(), 13))))
		}
		crash := 1 + int64(r.IntN(300))
		if r.IntN(8) == 0 {
			crash = 1 + int64(r.IntN(30)) // while it starts
		}
		w.disk.CrashAt(crash)
		w.disk.SetOther(0)
		err := w.open()
		if err != nil && !w.faulty && !w.disk.Dead() {
			err = bug("start: %v", err)
		}
		if err == nil {
			if err = w.check(); w.disk.Dead() {
				err = nil // it may have seen half of everything
			}
		}
		if err == nil {
			err = randomSteps(w, r, &log)
		}
		w.disk.Kill()
		w.stop()
		if len(w.faults) > 0 {
			err = bug("%s", strings.Join(w.faults, "; "))
		}
		log.WriteString(w.disk.Trace())
		if isBug(err) {
			return log.String(), err
		}
		fate, name := forgetfs.Random(r.Uint64()), "the power goes"
		if r.IntN(4) == 0 {
			fate, name = forgetfs.All, "the process is killed"
		}
		fmt.Fprintln(&log, name)
		w = onDisk(w.disk.Image(fate), w.m, r.Uint64())
	}
	w.disk.SetOther(0)
	err := w.open()
	if err != nil {
		return log.String(), bug("last start: %v", err)
	}
	defer w.stop()
	if err = w.check(); err == nil {
		err = w.drain()
	}
	log.WriteString(w.disk.Trace())
	return log.String(), err
}

// randomFaults makes the disk fail now and then.
func randomFaults(r *rand.Rand) func(forgetfs.Op) *forgetfs.Fault {
	code := []error{syscall.EIO, syscall.ENOSPC, syscall.EROFS}[r.IntN(3)]
	rate := []int{20, 60, 200}[r.IntN(3)]
	from, length := r.IntN(200), 1+r.IntN(30)
	var mu sync.Mutex
	n := 0
	return func(op forgetfs.Op) *forgetfs.Fault {
		if op.Kind == forgetfs.OpRead {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		n++
		broken := n >= from && n < from+length && code != syscall.ENOSPC
		if r.IntN(rate) != 0 && !broken {
			return nil
		}
		return &forgetfs.Fault{Err: code, Done: r.IntN(3) == 0, Short: int64(r.IntN(4)) * 1024}
	}
}

// randomSteps does random things until the power goes or it has done enough.
func randomSteps(w *world, r *rand.Rand, log *strings.Builder) error {
	names := []string{"a", "b", "c"}[:1+r.IntN(3)]
	sizes := []int{10, 300, 2000, 7000}
	for range 10 + r.IntN(80) {
		if w.disk.Dead() || w.ended {
			return nil
		}
		name := names[r.IntN(len(names))]
		s := w.m.stream(name)
		if s.incarnation == 0 {
			fmt.Fprintf(log, "define %s\n", name)
			if s.consumers = []uint8{Main}; name == "b" {
				s.consumers = []uint8{Main, Backup}
			}
			s.fed = s.fed || !w.journaled && (name == "c" || name == "a" && r.IntN(3) == 0)
			if s.drawn == 0 && !w.journaled { // once: a definition that nobody was told of may be there
				s.drawn = 1 + r.IntN(2)
			}
			if name == "c" && s.drawn == 2 {
				s.consumers = []uint8{Main, Backup}
			}
			if err := w.define(name, "v1", Active); isBug(err) {
				return err
			}
			continue
		}
		var err error
		switch op := r.IntN(26); {
		case op < 9:
			counts := make([]int, 1+r.IntN(3))
			for i := range counts {
				counts[i] = 1 + r.IntN(3)
			}
			size := sizes[r.IntN(len(sizes))]
			if s.fed {
				err = w.randomFeed(r, log, name, size)
				break
			}
			fmt.Fprintf(log, "put %s %d x %v\n", name, size, counts)
			err = w.put(name, size, counts...)
		case op < 13:
			id := s.consumers[r.IntN(len(s.consumers))]
			if r.IntN(3) == 0 {
				w.spillUnder = int64(r.IntN(20000))
			}
			fmt.Fprintf(log, "cut %s for %d, spilling %d\n", name, id, w.spillUnder)
			_, err = w.cutFor(name, id, int64(r.IntN(30000)), 1+r.IntN(3))
			w.spillUnder = 0
		case op >= 20:
			err = w.randomRuns(r, log, name, s.consumers[r.IntN(len(s.consumers))])
		case op < 17:
			if m := w.anyManifest(r, s); m != nil {
				i := r.IntN(len(m.objects))
				if !m.gone[i] && !m.maybe[i] {
					fmt.Fprintf(log, "confirm %s %x %d\n", name, m.head.ID[:4], i)
					w.confirm(m, i)
				}
			}
		case op < 18:
			fmt.Fprintln(log, "rest")
			w.rest([]time.Duration{150 * time.Millisecond, time.Second, 6 * time.Second}[r.IntN(3)])
		case op < 19:
			if r.IntN(4) == 0 {
				fmt.Fprintln(log, "somebody fills the disk, or frees it")
				w.disk.SetOther([]int64{0, 60 << 20, 64<<20 - w.disk.Used()}[r.IntN(3)])
				w.rest(time.Second)
			}
			if m := w.anyManifest(r, s); m != nil {
				i := r.IntN(len(m.objects))
				switch {
				case m.gone[i] || m.maybe[i] || w.stored(m, i):
				case r.IntN(4) == 0:
					fmt.Fprintf(log, "set aside %s %x %d\n", name, m.head.ID[:4], i)
					err = w.setAside(m, i)
				case r.IntN(4) == 0:
					fmt.Fprintf(log, "discard %s %x %d\n", name, m.head.ID[:4], i)
					err = w.discard(m, i)
				default:
					fmt.Fprintf(log, "replace %s %x %d\n", name, m.head.ID[:4], i)
					_, err = w.replace(name, m, i)
				}
			}
		default:
			spec := fmt.Sprintf("v%d", r.IntN(100))
			state := []State{Active, Paused}[r.IntN(2)]
			fmt.Fprintf(log, "define %s %s %d\n", name, spec, state)
			err = w.define(name, spec, state)
		}
		if isBug(err) {
			return err
		}
		if err != nil {
			fmt.Fprintf(log, "  %v\n", err)
		}
	}
	return nil
}

// anyManifest picks a manifest that has not ended.
func (w *world) anyManifest(r *rand.Rand, s *modelStream) *modelManifest {
	var ids []ManifestID
	for id, m := range s.manifests {
		if m.certain && !m.ended {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.SortFunc(ids, func(a, b ManifestID) int { return slices.Compare(a[:], b[:]) })
	return s.manifests[ids[r.IntN(len(ids))]]
}
