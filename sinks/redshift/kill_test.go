package redshift

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"hydrant/sinks"
	"hydrant/sinks/redshift/redshifttest"
)

// script is a fault for one statement: the number-th that begins so.
type script struct {
	mu     sync.Mutex
	prefix string
	number int
	action redshifttest.Action
	seen   int
	hit    bool
	all    []string // of the statements so far, their first words
}

func (s *script) on(q redshifttest.Statement) redshifttest.Action {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := firstWords(q.SQL)
	s.all = append(s.all, first)
	if s.action == redshifttest.Pass || s.hit || first != s.prefix {
		return redshifttest.Pass
	}
	if s.seen++; s.seen < s.number {
		return redshifttest.Pass
	}
	s.hit = true
	return s.action
}

func (s *script) arm(prefix string, number int, a redshifttest.Action) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prefix, s.number, s.action, s.seen, s.hit, s.all = prefix, number, a, 0, false, nil
}

func (s *script) take() (hit bool, all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	hit, all, s.action = s.hit, s.all, redshifttest.Pass
	return hit, all
}

// stageName is another with each load.
var stageName = regexp.MustCompile(`hydrant_stage_[0-9a-f]+`)

func firstWords(sql string) string {
	f := strings.Fields(stageName.ReplaceAllString(sql, "hydrant_stage"))
	return strings.Join(f[:min(2, len(f))], " ")
}

// The connection is lost at each statement of a load, before it was carried out, after it, and so that it is carried out
// when the next attempt is already waiting for the lock. However it goes, the next attempt, or one of another process,
// finds the truth, and each row is there once.
func TestLostAtEachStatement(t *testing.T) {
	for _, mode := range []struct {
		name   string
		change func(*Options)
	}{
		{"copy", nil},
		{"merge", func(o *Options) { o.MergeOn = []string{"id"}; o.MergeOrder = []string{"name"} }},
	} {
		t.Run(mode.name, func(t *testing.T) {
			var faults script
			w := newWorld(t, memoryStore(t), redshifttest.Options{On: faults.on, Lateness: 30 * time.Millisecond}, clicks)
			s := w.open(mode.change)
			n := 0
			one := func() sinks.Part {
				n++
				id := fmt.Sprintf("m%d/0", n)
				return w.put(s, id, fmt.Sprintf("clicks/%d.json", n), fmt.Sprintf(`{"id":%d,"name":"a"}{"id":-%d,"name":"b"}`, n, n), 2)
			}
			w.finish(s, one()) // it makes the ledger
			faults.arm("", 0, redshifttest.Pass)
			w.finish(s, one())
			_, statements := faults.take()
			if len(statements) < 9 {
				t.Fatalf("a load has the statements %q", statements)
			}
			count := map[string]int{}
			for _, at := range statements {
				count[at]++
				actions := []redshifttest.Action{redshifttest.Before, redshifttest.After, redshifttest.Late}
				if mode.change != nil && at != "COMMIT" { // the rest is as in the other mode
					actions = actions[2:]
				}
				for _, action := range actions {
					p := one()
					faults.arm(at, count[at], action)
					errs := s.Finish(t.Context(), []sinks.Part{p})
					hit, _ := faults.take()
					if !hit {
						t.Fatalf("%s %d was not reached", at, count[at])
					}
					if at == "COMMIT" && action == redshifttest.After && errs[0] != nil {
						t.Errorf("a COMMIT whose answer was lost is not found out: %v", errs[0])
					}
					if c := sinks.ClassOf(errs[0]); errs[0] != nil && c != sinks.Unknown && c != sinks.NotStored {
						t.Errorf("%s, %d: class %v: %v", at, action, c, errs[0])
					}
					w.finish(s, p)
					w.finish(w.open(mode.change), p) // the next process
				}
			}
			w.exactly(n)
		})
	}
}

// exactly checks that the rows of objects 1 to n are there once each, and that the ledger says so.
func (w *world) exactly(n int) {
	w.t.Helper()
	want := fmt.Sprintf("%d %d", 2*n, 2*n)
	if got := w.ask(fmt.Sprintf("SELECT count(*), count(DISTINCT id) FILTER (WHERE id <> 0 AND abs(id) <= %d) FROM clicks", n)); got != want {
		w.t.Errorf("rows and different ids: %s, want %s", got, want)
	}
	if got := w.ask("SELECT count(*), count(DISTINCT id) FROM hydrant_ledger WHERE state = 'loaded'"); got != fmt.Sprintf("%d %d", n, n) {
		w.t.Errorf("rows of the ledger and different ids: %s, want %d of each", got, n)
	}
}

// Several processes finish the same parts at the same time, in different groups, while connections are lost at random.
func TestRace(t *testing.T) {
	const objects, workers = 40, 4
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(1, 2))
	calm := false
	on := func(redshifttest.Statement) redshifttest.Action {
		mu.Lock()
		defer mu.Unlock()
		if calm || dice.IntN(25) > 0 {
			return redshifttest.Pass
		}
		return []redshifttest.Action{redshifttest.Before, redshifttest.After, redshifttest.Late}[dice.IntN(3)]
	}
	w := newWorld(t, memoryStore(t), redshifttest.Options{On: on, Lateness: 5 * time.Millisecond}, clicks)
	s := w.open(nil)
	var list []sinks.Part
	for i := range objects {
		list = append(list, w.put(s, fmt.Sprintf("m/%d", i), fmt.Sprintf("clicks/%d.json", i), fmt.Sprintf(`{"id":%d}{"id":-%d}`, i+1, i+1), 2))
	}
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			s := w.open(nil)
			r := rand.New(rand.NewPCG(uint64(i), 7))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for left := append([]sinks.Part(nil), list...); len(left) > 0 && ctx.Err() == nil; {
				r.Shuffle(len(left), func(a, b int) { left[a], left[b] = left[b], left[a] })
				n := 1 + r.IntN(min(8, len(left)))
				var again []sinks.Part
				for k, err := range s.Finish(ctx, left[:n]) {
					if err != nil {
						again = append(again, left[k])
					}
				}
				left = append(left[n:], again...)
			}
			if ctx.Err() != nil {
				t.Error("it takes more than a minute")
			}
		})
	}
	wg.Wait()
	mu.Lock()
	calm = true
	mu.Unlock()
	w.exactly(objects)
}

// Giving up and loading exclude each other, whoever comes first and whatever answer is lost.
func TestSkip(t *testing.T) {
	var faults script
	w := newWorld(t, memoryStore(t), redshifttest.Options{On: faults.on, Lateness: 30 * time.Millisecond}, clicks)
	s := w.open(nil)
	part := func(n int) sinks.Part {
		return w.put(s, fmt.Sprintf("m/%d", n), fmt.Sprintf("clicks/%d.json", n), fmt.Sprintf(`{"id":%d}`, n), 1)
	}
	one, two, three := part(1), part(2), part(3)
	w.finish(s, one)
	taken, err := s.Skip(t.Context(), []sinks.Part{one, two})
	if err != nil || fmt.Sprint(taken) != "[true false]" {
		t.Fatalf("skip says %v, %v", taken, err)
	}
	errs := s.Finish(t.Context(), []sinks.Part{one, two, three})
	if e, ok := errs[1].(*sinks.Error); errs[0] != nil || !ok || e.Code != sinks.CodeSkipped || e.Class != sinks.RefusedObject || errs[2] != nil {
		t.Fatalf("after a skip: %v", errs)
	}
	// A connection lost at each statement.
	faults.arm("", 0, redshifttest.Pass)
	if _, err := s.Skip(t.Context(), []sinks.Part{part(4)}); err != nil {
		t.Fatal(err)
	}
	_, statements := faults.take()
	n := 5
	count := map[string]int{}
	for _, at := range statements {
		count[at]++
		for _, action := range []redshifttest.Action{redshifttest.Before, redshifttest.After, redshifttest.Late} {
			p := part(n)
			n++
			faults.arm(at, count[at], action)
			taken, err := s.Skip(t.Context(), []sinks.Part{p})
			if hit, _ := faults.take(); !hit {
				t.Fatalf("%s %d was not reached", at, count[at])
			}
			if err != nil {
				taken, err = s.Skip(t.Context(), []sinks.Part{p})
			}
			if err != nil || taken[0] {
				t.Errorf("%s, %d: skip says %v, %v", at, action, taken, err)
			}
		}
	}
	if got := w.ask("SELECT string_agg(id::text, ' ' ORDER BY id) FROM clicks"); got != "1 3" {
		t.Errorf("the table has %s", got)
	}
	if got, want := w.ask("SELECT count(*), count(DISTINCT id) FROM hydrant_ledger WHERE state = 'skipped'"), fmt.Sprintf("%d %d", n-3, n-3); got != want {
		t.Errorf("%s are skipped, want %s", got, want)
	}
	// The set-aside manifest is loaded later, once.
	manifest := s.Manifest([]sinks.Part{one, two, part(4)})
	for i, want := range []int{2, 0} {
		if objects, err := s.Backfill(t.Context(), manifest); err != nil || objects != want {
			t.Fatalf("backfill %d loaded %d objects, %v", i+1, objects, err)
		}
	}
	if got := w.ask("SELECT string_agg(id::text, ' ' ORDER BY id) FROM clicks"); got != "1 2 3 4" {
		t.Errorf("after the backfill the table has %s", got)
	}
	if err := s.Forget(t.Context(), []string{"m/1", "m/2"}); err != nil {
		t.Error(err)
	}
	if got := w.ask("SELECT id, state FROM hydrant_ledger WHERE id IN ('m/1','m/2')"); got != "m/2 backfilled" {
		t.Errorf("the ledger keeps %q", got)
	}
	if _, err := s.Backfill(t.Context(), s.Manifest([]sinks.Part{one})); err == nil || !strings.Contains(err.Error(), "does not know") {
		t.Errorf("a backfill of a forgotten object: %v", err)
	}
}
