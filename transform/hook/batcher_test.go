package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"hydrant/record"
	"hydrant/transform"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a carrier whose function gives every record back, after what before does.
type echo struct {
	before func(ctx context.Context, first string, n int) error // the data of the first record, and the number of all

	mu       sync.Mutex
	now      int
	most     int // calls at once
	sizes    []int
	firstIDs []string
}

func (c *echo) Function() string { return "echo" }

func (c *echo) Invoke(ctx context.Context, request, dst []byte) ([]byte, error) {
	var e struct {
		Records []struct {
			RecordID string `json:"recordId"`
			Data     []byte `json:"data"`
			Result   string `json:"result"`
		} `json:"records"`
	}
	if err := json.Unmarshal(request, &e); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.now++
	c.most = max(c.most, c.now)
	c.sizes = append(c.sizes, len(e.Records))
	c.firstIDs = append(c.firstIDs, e.Records[0].RecordID)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.now--
		c.mu.Unlock()
	}()
	if c.before != nil {
		if err := c.before(ctx, string(e.Records[0].Data), len(e.Records)); err != nil {
			return nil, err
		}
	}
	for i := range e.Records {
		e.Records[i].Result = "Ok"
	}
	answer, err := json.Marshal(e)
	return append(dst, answer...), err
}

// kept are the data of outcomes, or the codes of failures, in the order in which they came.
type kept struct {
	mu   sync.Mutex
	busy bool
	all  []string
	t    *testing.T
}

func (k *kept) emit(o *Outcome) error {
	k.mu.Lock()
	if k.busy {
		k.t.Error("emit is called while it runs")
	}
	k.busy = true
	if o.Outcome == transform.Failed {
		k.all = append(k.all, o.Failure.Code)
	} else {
		k.all = append(k.all, string(o.Row.Data))
	}
	k.busy = false
	k.mu.Unlock()
	return nil
}

func (k *kept) got() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.all)
}

func batcher(t *testing.T, c Carrier, o BatcherOptions, concurrency int) (*Batcher, *kept) {
	t.Helper()
	retries := 2
	v, err := New(Options{Carrier: c, Concurrency: concurrency, Retries: &retries})
	if err != nil {
		t.Fatal(err)
	}
	k := &kept{t: t}
	o.Invoker = v
	if o.Emit == nil {
		o.Emit = k.emit
	}
	b, err := NewBatcher(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b, k
}

func add(t *testing.T, b *Batcher, data ...string) {
	t.Helper()
	for i, d := range data {
		volatile := []byte(d)
		if err := b.Add(context.Background(), record.Row{Seq: uint64(i + 1), Data: volatile}); err != nil {
			t.Fatal(err)
		}
		clear(volatile) // the row is the caller's again
	}
}

func flush(t *testing.T, b *Batcher) {
	t.Helper()
	if err := b.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestBatcherSizes(t *testing.T) {
	c := &echo{}
	b, k := batcher(t, c, BatcherOptions{Size: MinSize, Interval: MaxInterval}, 1)
	flush(t, b) // of nothing
	half, rest, large := strings.Repeat("h", MinSize/2), strings.Repeat("r", MinSize-MinSize/2), strings.Repeat("l", MinSize+1)
	// Two halves are exactly the size; a row that is larger is alone, also where others wait; what is left goes at the flush.
	rows := []string{half, rest, "a", half, rest, "b", large, large, "c", "", ""}
	add(t, b, rows...)
	flush(t, b)
	if want := []int{2, 2, 2, 1, 1, 3}; !slices.Equal(c.sizes, want) {
		t.Errorf("batches of %v rows, not %v", c.sizes, want)
	}
	if !slices.Equal(k.got(), rows) {
		t.Errorf("outcomes are not as the rows")
	}
	// Rows without data are bounded in number.
	c.sizes = nil
	add(t, b, make([]string, maxRows+5)...)
	flush(t, b)
	if want := []int{maxRows, 5}; !slices.Equal(c.sizes, want) {
		t.Errorf("batches of %v rows, not %v", c.sizes, want)
	}
}

func TestBatcherInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &echo{}
		b, k := batcher(t, c, BatcherOptions{Interval: time.Minute}, 4)
		add(t, b, "a")
		time.Sleep(30 * time.Second)
		add(t, b, "b")
		time.Sleep(30*time.Second - 1)
		synctest.Wait()
		if len(k.got()) != 0 {
			t.Errorf("before the interval has passed: %v", k.got())
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !slices.Equal(k.got(), []string{"a", "b"}) {
			t.Errorf("after the interval: %v", k.got())
		}
		// The next one begins with its own first row.
		add(t, b, "c")
		time.Sleep(time.Minute)
		synctest.Wait()
		if !slices.Equal(k.got(), []string{"a", "b", "c"}) {
			t.Errorf("after another interval: %v", k.got())
		}
		b.Close()
	})
}

// TestBatcherAtOnce: without an interval rows go at once while there are slots, and gather while there are none.
func TestBatcherAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &echo{before: func(context.Context, string, int) error { time.Sleep(time.Second); return nil }}
		b, k := batcher(t, c, BatcherOptions{}, 2)
		add(t, b, "a", "b", "c", "d", "e")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if !slices.Equal(k.got(), []string{"a", "b", "c", "d", "e"}) || !slices.Equal(c.sizes, []int{1, 1, 3}) || c.most != 2 {
			t.Errorf("%v in batches of %v, %d at once", k.got(), c.sizes, c.most)
		}
		b.Close()
	})
}

// TestBatcherOrder: whichever batch is fast, outcomes come in order, no more batches are under way than there are slots, and
// Add waits for one.
func TestBatcherOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &echo{before: func(_ context.Context, first string, _ int) error {
			if strings.HasPrefix(first, "0 ") {
				time.Sleep(time.Minute)
			}
			return nil
		}}
		b, k := batcher(t, c, BatcherOptions{Size: MinSize, Interval: MaxInterval}, 3)
		var rows []string
		for i := range 20 {
			rows = append(rows, fmt.Sprintf("%d %s", i, strings.Repeat("x", MinSize)))
		}
		added := make(chan struct{})
		go func() {
			add(t, b, rows...)
			close(added)
		}()
		synctest.Wait()
		if len(c.sizes) != 3 || len(k.got()) != 0 {
			t.Errorf("while the first is slow: %d batches sent, %d outcomes", len(c.sizes), len(k.got()))
		}
		select {
		case <-added:
			t.Error("all rows are taken while every slot is")
		default:
		}
		<-added
		flush(t, b)
		if !slices.Equal(k.got(), rows) {
			t.Error("outcomes are not in the order of the rows")
		}
		b.Close()
	})
}

// TestBatcherSplits: the second half of a batch that is split comes before the next batch.
func TestBatcherSplits(t *testing.T) {
	c := &echo{before: func(_ context.Context, _ string, n int) error {
		if n > 1 {
			return &Error{Code: CodeFunctionError, TooLarge: true}
		}
		return nil
	}}
	b, k := batcher(t, c, BatcherOptions{Size: MinSize, Interval: MaxInterval}, 4)
	rows := make([]string, 40)
	for i := range rows {
		rows[i] = fmt.Sprintf("%d %s", i, strings.Repeat("x", MinSize/4))
	}
	add(t, b, rows...)
	flush(t, b)
	if !slices.Equal(k.got(), rows) {
		t.Error("outcomes are not in the order of the rows")
	}
}

func TestBatcherEnds(t *testing.T) {
	large := strings.Repeat("x", MinSize)
	block := &echo{before: func(ctx context.Context, _ string, _ int) error { <-ctx.Done(); return ctx.Err() }}
	t.Run("closed", func(t *testing.T) {
		b, k := batcher(t, block, BatcherOptions{Size: MinSize, Interval: MaxInterval}, 2)
		add(t, b, large, large, "rest")
		b.Close()
		b.Close()
		if err := b.Add(context.Background(), record.Row{}); !errors.Is(err, context.Canceled) || len(k.got()) != 0 {
			t.Errorf("%v, outcomes %v", err, k.got())
		}
		if err := b.Flush(context.Background()); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("add gives up", func(t *testing.T) {
		b, _ := batcher(t, block, BatcherOptions{Size: MinSize, Interval: MaxInterval}, 1)
		add(t, b, large, large)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := b.Add(ctx, record.Row{Data: []byte(large)}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		b.Close()
	})
	t.Run("flush gives up", func(t *testing.T) {
		b, _ := batcher(t, block, BatcherOptions{Size: MinSize, Interval: MaxInterval}, 1)
		add(t, b, "a")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := b.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		b.Close()
	})
	t.Run("emit fails", func(t *testing.T) {
		full := errors.New("the disk is full")
		n := 0
		b, _ := batcher(t, &echo{}, BatcherOptions{Size: MinSize, Interval: MaxInterval, Emit: func(*Outcome) error {
			if n++; n == 3 {
				return full
			}
			return nil
		}}, 4)
		var err error
		for i := 0; i < 100 && err == nil; i++ {
			err = b.Add(context.Background(), record.Row{Seq: uint64(i + 1), Data: []byte(large)})
		}
		if err == nil {
			err = b.Flush(context.Background())
		}
		b.Close()
		if err != full || n != 3 {
			t.Errorf("%v after %d outcomes", err, n)
		}
	})
}

// TestPauses: between attempts there is time, more after each, and what the function asks for.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		var after time.Duration
		c := &echo{before: func(context.Context, string, int) error {
			at = append(at, time.Now())
			return &Error{Code: CodeLimitExceeded, After: after}
		}}
		retries := 12
		v, err := New(Options{Carrier: c, Retries: &retries})
		if err != nil {
			t.Fatal(err)
		}
		invoke := func() {
			at = nil
			err := v.Invoke(t.Context(), []record.Row{{Seq: 1}}, func(o *Outcome) error {
				if o.Attempts != 13 || o.Failure.Code != CodeLimitExceeded {
					t.Errorf("%+v after %d attempts", o.Failure, o.Attempts)
				}
				return nil
			})
			if err != nil || len(at) != 13 {
				t.Fatalf("%v after %d attempts", err, len(at))
			}
		}
		invoke()
		for i := range retries {
			most := min(firstPause<<i, longestPause)
			if d := at[i+1].Sub(at[i]); d < most/2 || d > most {
				t.Errorf("pause %d is %v, not between %v and %v", i, d, most/2, most)
			}
		}
		after = time.Hour
		invoke()
		if d := at[1].Sub(at[0]); d != longestAfter {
			t.Errorf("a pause of %v", d)
		}
	})
}

// TestConcurrency: the bound holds over all calls.
func TestConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &echo{before: func(context.Context, string, int) error { time.Sleep(time.Second); return nil }}
		v, err := New(Options{Carrier: c, Concurrency: 3})
		if err != nil {
			t.Fatal(err)
		}
		var calls sync.WaitGroup
		for range 10 {
			calls.Go(func() {
				if err := v.Invoke(t.Context(), []record.Row{{Seq: 1}}, func(*Outcome) error { return nil }); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		if c.most != 3 {
			t.Errorf("%d calls at once, not 3", c.most)
		}
	})
}

func TestBatcherOptions(t *testing.T) {
	v, err := New(Options{Carrier: &echo{}})
	if err != nil {
		t.Fatal(err)
	}
	emit := func(*Outcome) error { return nil }
	for _, c := range []struct {
		o    BatcherOptions
		want string
	}{
		{BatcherOptions{Invoker: v, Emit: emit}, ""},
		{BatcherOptions{Invoker: v, Emit: emit, Size: MinSize, Interval: MaxInterval}, ""},
		{BatcherOptions{Invoker: v, Emit: emit, Size: MaxSize}, ""},
		{BatcherOptions{Invoker: v, Emit: emit, Size: MinSize - 1}, "buffer.size: 209714 bytes are not between 209715 and 3145728 (0.2 and 3 MiB)"},
		{BatcherOptions{Invoker: v, Emit: emit, Size: MaxSize + 1}, "buffer.size: 3145729 bytes are not between 209715 and 3145728 (0.2 and 3 MiB)"},
		{BatcherOptions{Invoker: v, Emit: emit, Interval: MaxInterval + 1}, "buffer.interval: 15m0.000000001s is not between 0s and 15m0s"},
		{BatcherOptions{Invoker: v, Emit: emit, Interval: -1}, "buffer.interval: -1ns is not between 0s and 15m0s"},
		{BatcherOptions{Invoker: v}, "a batcher needs an invoker and something that takes outcomes"},
	} {
		got := ""
		if b, err := NewBatcher(t.Context(), c.o); err != nil {
			got = err.Error()
		} else {
			b.Close()
		}
		if got != c.want {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
}

// TestMemory: with every slot taken by answers of the largest size that wait for their turn, what is alive is what Memory says.
func TestMemory(t *testing.T) {
	const concurrency = 4
	alive := func() int {
		runtime.GC()
		runtime.GC() // pools keep what they hold for one more
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := alive()
	c := &fat{}
	hold, reached := make(chan struct{}), make(chan struct{}, 1)
	b, _ := batcher(t, c, BatcherOptions{Interval: MaxInterval, Emit: func(*Outcome) error {
		select {
		case reached <- struct{}{}:
		default:
		}
		<-hold
		return nil
	}}, concurrency)
	row := record.Row{Data: make([]byte, 1000)}
	for i := range (concurrency + 1) * (DefaultSize/1000 - 1) {
		row.Seq = uint64(i + 1)
		if err := b.Add(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	<-reached
	for deadline := time.Now().Add(20 * time.Second); c.answered.Load() < concurrency; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d answers", c.answered.Load())
		}
	}
	got, most := alive()-before, Memory(DefaultSize, concurrency, 1000)
	if got > most || got < most/3 {
		t.Errorf("%d bytes are alive, Memory says %d", got, most)
	}
	t.Logf("%d bytes are alive of %d", got, most)
	close(hold)
	flush(t, b)
}

// fat is a carrier whose function answers with as much as it may.
type fat struct{ answered atomic.Int32 }

func (c *fat) Function() string { return "fat" }

func (c *fat) Invoke(_ context.Context, _, dst []byte) ([]byte, error) {
	defer c.answered.Add(1)
	dst = append(dst, `{"records":[]}`...)
	dst = slices.Grow(dst, MaxAnswer-len(dst)+padding)
	return append(dst, bytes.Repeat([]byte(" "), MaxAnswer-len(dst))...), nil
}
