package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer"
	"hydrant/sinks"
)

// Environment of the crash simulation: how many seeds, and one seed to be replayed.
const (
	seedsEnv = "HYDRANT_CRASH_SEEDS"
	seedEnv  = "HYDRANT_CRASH_SEED"
)

// TestCrashes lets a process with some streams live a random life of puts, faults, restarts and kills, and
// counts in the end: every record that was acknowledged is in exactly one object, and none that was not is
// there twice.
func TestCrashes(t *testing.T) {
	for _, b := range backends {
		if b.name == "files" {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			first, n := uint64(1), uint64(150)
			if b.name != "model" {
				n = 40
			}
			if s := os.Getenv(seedsEnv); s != "" {
				v, err := strconv.ParseUint(s, 10, 64)
				if err != nil {
					t.Fatalf("%s=%q: %v", seedsEnv, s, err)
				}
				n = v
			}
			if s := os.Getenv(seedEnv); s != "" {
				v, err := strconv.ParseUint(s, 10, 64)
				if err != nil {
					t.Fatalf("%s=%q: %v", seedEnv, s, err)
				}
				first, n = v, 1
			}
			for seed := first; seed < first+n && !t.Failed(); seed++ {
				synctest.Test(t, func(t *testing.T) { live(t, b, seed) })
				if t.Failed() {
					t.Logf("replay: %s=%d go test -run 'TestCrashes/%s' ./delivery", seedEnv, seed, b.name)
				}
			}
		})
	}
}

// life is one run of the simulation.
type life struct {
	*world
	r       *rand.Rand
	streams map[string]spec
	words   bool // rows go through the transform of words, and hold several
	next    int

	counts func() (data, failed map[string]int) // of rows, at the end

	mu    sync.Mutex
	acked map[string]bool
	maybe map[string]bool // sent, no answer

	changes  int             // of streams and processes, begun and ended
	kept     map[string]bool // rows that were acknowledged while their stream kept a backup
	unkept   map[string]bool // rows that were put while it did not
	whenever map[string]bool // all rows that were sent
}

func live(t *testing.T, b backend, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	l := &life{world: newWorld(t, b), r: r, acked: map[string]bool{}, maybe: map[string]bool{}}
	defer l.close() // also where a check ends the test
	l.counts = func() (data, failed map[string]int) { return l.shop().rows() }
	l.words = seed%2 == 1
	l.streams = map[string]spec{
		"a": {Size: 60, Interval: 2 * time.Second, Words: l.words},
		"b": {Size: 1000, Prefix: "m=!{timestamp:mm}/", Interval: 20 * time.Second, Words: l.words},
	}
	if _, real := l.backing.(*bufferBacking); real {
		l.shops["backup"] = l.newShop()
		l.shops["backup"].set(l.faults(rand.New(rand.NewPCG(seed, 3))))
		for name, c := range l.streams {
			c.Backup = &spec{Size: 150, Interval: 3 * time.Second, Prefix: name + "/", Shop: "backup"}
			l.streams[name] = c
		}
	}
	l.shop().set(l.faults(rand.New(rand.NewPCG(seed, 2))))
	l.shop().slow = time.Duration(r.IntN(3)) * 20 * time.Millisecond
	l.lead()
}

// lead is the life itself, from the start of the process to the count.
func (l *life) lead() {
	t, r := l.t, l.r
	l.start()
	l.apply(l.streams)
	l.run()
	var puts sync.WaitGroup
	for range 60 {
		switch n := r.IntN(20); {
		case n < 10:
			l.call(&puts)
		case n < 14:
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
		case n < 15:
			_, err := l.m.Flush(within(time.Duration(r.IntN(2000))*time.Millisecond), l.name())
			if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrPaused) {
				t.Errorf("Flush: %v", err)
			}
		case n < 16:
			f := l.m.Pause
			if r.IntN(3) > 0 {
				f = l.m.Resume
			}
			if err := f(l.name()); err != nil {
				t.Errorf("steer: %v", err)
			}
		case n < 17:
			name := l.name()
			c := l.streams[name]
			c.Size = int64(30 + r.IntN(300))
			if l.shops["backup"] != nil {
				if c.Backup == nil {
					c.Backup = &spec{Size: 200, Interval: 3 * time.Second, Prefix: name + "/", Shop: "backup"}
				} else if r.IntN(2) == 0 {
					c.Backup = nil
				}
			}
			l.streams[name] = c
			l.change(func() { l.apply(l.streams) })
		case n < 18:
			puts.Wait()
			l.change(l.restart)
		default:
			time.Sleep(time.Duration(r.IntN(200_000)) * time.Microsecond)
			l.call(&puts)
			l.change(func() {
				l.kill()
				puts.Wait()
				l.store = l.backing.store()
				l.start()
				l.apply(l.streams)
				l.run()
			})
		}
		l.status("a")
		l.status("b")
	}
	puts.Wait()
	l.shop().set(nil)
	if s := l.shops["backup"]; s != nil {
		s.set(nil)
	}
	for name := range l.streams {
		if err := l.m.Resume(name); err != nil {
			t.Errorf("Resume: %v", err)
		}
		l.flush(name)
		if st := l.status(name); st.BacklogRecords != 0 || st.Unaccounted != 0 || len(st.Batches) != 0 {
			t.Errorf("stream %q after the end: %+v", name, st)
		} else if b := st.Backup; b != nil && (b.BacklogRecords != 0 || b.Unaccounted != 0 || len(b.Batches) != 0 || b.Dropped != 0) {
			t.Errorf("backup of %q after the end: %+v", name, *b)
		}
	}
	l.judge()
}

// change does what a put must not overlap to be known to have been before or after.
func (l *life) change(f func()) {
	count := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.changes++
	}
	count()
	f()
	count()
}

// keeps tells whether a stream keeps a backup now, and how many changes there were.
func (l *life) keeps(name string) (keeps bool, changes int) {
	l.mu.Lock()
	changes = l.changes
	l.mu.Unlock()
	def, _ := l.m.Definition(name)
	return slices.Contains(def.Consumers, buffer.Backup), changes
}

func (l *life) name() string { return []string{"a", "b"}[l.r.IntN(2)] }

// call puts a few rows; the answer may come later.
func (l *life) call(wg *sync.WaitGroup) {
	var rows, words []string
	for range 1 + l.r.IntN(12) {
		var row []string
		for range 1 + l.r.IntN(3) {
			l.next++
			kind := "row"
			switch l.r.IntN(30) {
			case 0, 1:
				kind = "bad"
			case 2:
				kind = "panic"
			case 3, 4:
				if l.words {
					kind = "fail"
				}
			case 5, 6, 7:
				if l.words {
					kind = "drop"
				}
			}
			word := fmt.Sprintf("%s-%05d", kind, l.next)
			if kind == "panic" { // the whole row goes to the error output
				row = row[:0]
			}
			row = append(row, word)
			if !l.words || kind == "panic" {
				break
			}
		}
		rows = append(rows, strings.Join(row, " "))
		for _, word := range row {
			if !strings.HasPrefix(word, "drop") {
				words = append(words, word)
			}
		}
	}
	l.mu.Lock()
	for _, word := range words {
		l.maybe[word] = true
	}
	if l.whenever == nil {
		l.kept, l.unkept, l.whenever = map[string]bool{}, map[string]bool{}, map[string]bool{}
	}
	for _, row := range rows {
		l.whenever[row] = true
	}
	l.mu.Unlock()
	name := l.name()
	kept, before := l.keeps(name)
	wg.Go(func() {
		_, err := l.tryPut(name, rows...)
		still, after := l.keeps(name)
		l.mu.Lock()
		defer l.mu.Unlock()
		if before%2 == 0 && before == after && kept == still {
			for _, row := range rows {
				if kept && err == nil {
					l.kept[row] = true
				} else if !kept {
					l.unkept[row] = true
				}
			}
		}
		if err != nil {
			return
		}
		for _, word := range words {
			l.acked[word] = true
		}
	})
}

// kill ends the process where it stands. What it has sent may still arrive.
func (l *life) kill() {
	r := l.r
	switch b := l.backing.(type) {
	case *modelBacking:
		b.s.disk.mu.Lock()
		b.s.dead = true
		b.s.disk.mu.Unlock()
	case *bufferBacking:
		b.fs.Kill()
	}
	l.stop()
	l.backing.crash(r)
}

// faults of a bad day. Definite refusals are never of an object that is stored.
func (l *life) faults(r *rand.Rand) func(sinks.Object, int) *fault {
	var mu sync.Mutex
	return func(o sinks.Object, attempt int) *fault {
		mu.Lock()
		defer mu.Unlock()
		if o.SHA256[0] < 8 && !strings.HasPrefix(o.Key, "errors/") {
			return &fault{err: refusal(sinks.RefusedObject, "KeyTooLong")}
		}
		switch n := r.IntN(20); {
		case n < 2:
			return &fault{err: refusal(sinks.Unknown, "")}
		case n < 4:
			return &fault{err: refusal(sinks.Unknown, ""), stored: true}
		case n < 5:
			return &fault{err: refusal(sinks.NotStored, "SlowDown")}
		case n < 6:
			return &fault{err: refusal(sinks.RefusedDestination, "AccessDenied")}
		case n < 7 && attempt == 1:
			l.shop().mu.Lock()
			defer l.shop().mu.Unlock()
			if _, ok := l.shop().objects[o.Key]; !ok {
				l.shop().objects[o.Key] = shopped{meta: map[string]string{sinks.MetaManifestID: "theirs"}}
			}
		}
		return nil
	}
}

// judge counts.
func (l *life) judge() {
	l.t.Helper()
	data, failed := l.counts()
	for row := range l.acked {
		if n := data[row] + failed[row]; n != 1 {
			l.t.Errorf("acknowledged row %q is there %d times", row, n)
		}
		if bad := !strings.HasPrefix(row, "row"); bad && failed[row] != 1 {
			l.t.Errorf("row %q is not in the error output", row)
		}
	}
	for _, rows := range []map[string]int{data, failed} {
		for row, n := range rows {
			if !l.maybe[row] || n != 1 {
				l.t.Errorf("row %q is there %d times, sent: %v", row, n, l.maybe[row])
			}
		}
	}
	if len(l.acked) == 0 {
		l.t.Error("nothing was acknowledged")
	}
	if s := l.shops["backup"]; s != nil {
		copies, errs := s.rows()
		for row, n := range copies {
			if n != 1 || !l.whenever[row] || l.unkept[row] {
				l.t.Errorf("record %q is in the backup %d times; sent: %v, while there was none: %v", row, n, l.whenever[row], l.unkept[row])
			}
		}
		for row := range l.kept {
			if copies[row] != 1 {
				l.t.Errorf("acknowledged record %q is in the backup %d times", row, copies[row])
			}
		}
		if len(errs) > 0 {
			l.t.Errorf("the backup has error records: %v", errs)
		}
	}
}
