package hook

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/record"
)

func TestBudget(t *testing.T) {
	if _, err := NewBudget(0); err == nil {
		t.Error("a budget of nothing is made")
	}
	synctest.Test(t, func(t *testing.T) {
		b, err := NewBudget(100)
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		var mu sync.Mutex
		var in []string
		ask := func(ctx context.Context, name string, n int64) {
			go func() {
				err := b.acquire(ctx, nil, n)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					name += "!"
				}
				in = append(in, name)
			}()
			synctest.Wait()
		}
		check := func(want string, used int64) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(in, " "); got != want || b.Used() != used {
				t.Errorf("let in %q with %d bytes used, want %q with %d", got, b.Used(), want, used)
			}
		}
		ask(ctx, "a", 60)
		ask(ctx, "b", 40) // exactly full
		ask(ctx, "c", 1)
		check("a b", 100)
		limited, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		ask(limited, "large", 200)
		ask(ctx, "d", 10) // in its turn, though it would fit
		b.add(-40)
		check("a b c", 61)
		time.Sleep(time.Second)
		check("a b c large! d", 71)
		ask(ctx, "e", 200)
		b.add(-70)
		check("a b c large! d", 1)
		b.add(-1) // what is larger than all comes when nothing else is there
		check("a b c large! d e", 200)
		done := make(chan struct{})
		close(done)
		if err := b.acquire(ctx, done, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end: %v", err)
		}
		b.add(-200)
		check("a b c large! d e", 0)
	})
}

// Two batchers with many slots share room for two batches: no more are gathered or under way, and all comes out.
func TestBatchersShareABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget, err := NewBudget(2*Charge(MinSize) + 40*perRow)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		now, most := 0, 0
		c := &echo{before: func(context.Context, string, int) error {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return nil
		}}
		var all sync.WaitGroup
		var outs []*kept
		for range 2 {
			b, k := batcher(t, c, BatcherOptions{Size: MinSize, Interval: time.Minute, Budget: budget}, 8)
			outs = append(outs, k)
			all.Go(func() {
				for i := range 100 {
					if err := b.Add(t.Context(), record.Row{Seq: uint64(i + 1), Data: []byte(fmt.Sprintf("%020000d", i))}); err != nil {
						t.Errorf("add: %v", err)
					}
				}
				if err := b.Flush(t.Context()); err != nil {
					t.Errorf("flush: %v", err)
				}
			})
		}
		all.Wait()
		for _, k := range outs {
			for i, got := range k.got() {
				if got != fmt.Sprintf("%020000d", i) {
					t.Fatalf("row %d is %.40s", i, got)
				}
			}
			if len(k.got()) != 100 {
				t.Errorf("%d rows came out", len(k.got()))
			}
		}
		if most != 2 || budget.Used() != 0 {
			t.Errorf("%d batches at a time, want 2; %d bytes are not given back", most, budget.Used())
		}
	})
}

// What waits for room ends with its context, and what has been gathered gives its room back.
func TestBudgetIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget, err := NewBudget(Charge(MinSize))
		if err != nil {
			t.Fatal(err)
		}
		first, _ := batcher(t, &echo{}, BatcherOptions{Size: MinSize, Interval: time.Minute, Budget: budget}, 1)
		if err := first.Add(t.Context(), record.Row{Seq: 1, Data: []byte("gathered")}); err != nil {
			t.Fatal(err)
		}
		second, _ := batcher(t, &echo{}, BatcherOptions{Size: MinSize, Interval: time.Minute, Budget: budget}, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := second.Add(ctx, record.Row{Seq: 1, Data: []byte("waits")}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without room: %v", err)
		}
		later, _ := batcher(t, &echo{}, BatcherOptions{Size: MinSize, Budget: budget, Later: true}, 1)
		if err := later.Add(t.Context(), record.Row{Seq: 1, Data: []byte("does not wait")}); err != nil {
			t.Error(err)
		}
		if err := later.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		first.Close()
		second.Close()
		later.Close()
		if n := budget.Used(); n != 0 {
			t.Errorf("%d bytes are not given back", n)
		}
	})
}
