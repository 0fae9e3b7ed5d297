package delivery

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"hydrant/buffer"
	"hydrant/record"
	"hydrant/transform/hook"
)

// remote is a function that is some time away and gives records back as they are: what is measured is everything but the
// function.
type remote struct{ away time.Duration }

func (remote) Function() string { return "remote" }

func (f remote) Invoke(ctx context.Context, request, dst []byte) ([]byte, error) {
	if f.away > 0 {
		t := time.NewTimer(f.away)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return echoed(request, dst), nil
}

// echoed makes an answer of a request: records get "result":"Ok" in place of their arrival.
func echoed(request, dst []byte) []byte {
	dst = append(dst, `{"records":[`...)
	for first := true; ; first = false {
		id, rest, ok := field(request, `{"recordId":"`)
		if !ok {
			return append(dst, "]}"...)
		}
		data, rest, _ := field(rest, `"data":"`)
		if !first {
			dst = append(dst, ',')
		}
		dst = append(append(dst, `{"recordId":"`...), id...)
		dst = append(append(dst, `","result":"Ok","data":"`...), data...)
		dst = append(dst, `"}`...)
		request = rest
	}
}

// field is what stands between a prefix and the next quote, and what follows it.
func field(text []byte, prefix string) (value, rest []byte, ok bool) {
	_, text, ok = bytes.Cut(text, []byte(prefix))
	if !ok {
		return nil, nil, false
	}
	return bytes.Cut(text, []byte{'"'})
}

// benchRows is a claim of rows of so many bytes.
type benchRows struct {
	planClaim
	rows []record.Row
}

func (c benchRows) Rows() iter.Seq[record.Row] {
	return func(yield func(record.Row) bool) {
		for _, r := range c.rows {
			if !yield(r) {
				return
			}
		}
	}
}

// BenchmarkHooks routes 8 MiB of records of 400 bytes through a function that is 20 ms away, with so many calls at a time, and
// through one that takes no time.
func BenchmarkHooks(b *testing.B) {
	const size, n = 400, 8 << 20 / 400
	var rows []record.Row
	data := make([]byte, size)
	for i := range data {
		data[i] = 'a' + byte(i%26)
	}
	for i := range n {
		rows = append(rows, record.Row{Seq: uint64(i + 1), Arrived: 1_700_000_000_000_000, Data: data})
	}
	w := &world{t: b, shops: map[string]*shop{"": newShop(b)}}
	for _, away := range []time.Duration{20 * time.Millisecond, 0} {
		for _, concurrency := range []int{1, 16} {
			b.Run(fmt.Sprintf("away=%v/calls=%d", away, concurrency), func(b *testing.B) {
				pipe, err := w.open(buffer.Stream{Name: "s", Spec: spec{}.bytes()})
				if err != nil {
					b.Fatal(err)
				}
				pipe.Hooks = []Hook{{Options: hook.Options{Carrier: remote{away}, Concurrency: concurrency}, Size: 256 << 10, Interval: time.Second}}
				list, err := invokers(pipe)
				if err != nil {
					b.Fatal(err)
				}
				budget, err := hook.NewBudget(64 << 20)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(size * n)
				b.ReportAllocs()
				for b.Loop() {
					j := &job{
						kind: routeRows, store: planStore{plan: &Plan{}}, name: "s", use: &version{invokers: list}, pipe: pipe, version: 1,
						claim: benchRows{planClaim(rows), rows}, first: 1, next: n + 1, bytes: size * n,
					}
					if j.route(b.Context(), budget); j.err != nil {
						b.Fatal(j.err)
					}
					if j.runHead.Counts.OK != n {
						b.Fatalf("%+v", j.runHead.Counts)
					}
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}
