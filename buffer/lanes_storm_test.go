package buffer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Lanes are appended, let go and noted while rows are claimed, given back, cut and spilled, for one consumer and for two. In the
// end each consumer has each lane's records before its position once.
func TestLanesConcurrently(t *testing.T) {
	for _, consumers := range [][]uint8{{Main}, {Main, Backup}} {
		t.Run(fmt.Sprint(len(consumers)), func(t *testing.T) {
			x := openBench(t, Options{Memory: 16 << 20})
			s, err := x.Define(Stream{Name: "fed", Consumers: consumers})
			if err != nil {
				t.Fatal(err)
			}
			in := x.inlet(s)
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			var lanes, others sync.WaitGroup
			names := make([]string, 8)
			for i := range names {
				names[i] = fmt.Sprint("lane-", i)
				lanes.Go(func() {
					r := rand.New(rand.NewPCG(uint64(i), 1))
					for ctx.Err() == nil {
						at := lanePlace(in.Position(names[i]))
						rows := LaneRows{Lane: names[i], Arrived: time.Now()}
						for n := range 1 + r.IntN(20) {
							rows.Data = append(rows.Data, []byte(laneRow(names[i], at+n, r.IntN(3000))))
						}
						rows.Next = []byte(strconv.Itoa(at + len(rows.Data)))
						if err := in.Append(ctx, rows); err != nil && ctx.Err() == nil {
							t.Errorf("append: %v", err)
						}
						switch r.IntN(20) {
						case 0:
							in.Release(names[i])
						case 1:
							if err := in.Note(ctx, names[i], in.Position(names[i])); err != nil && ctx.Err() == nil {
								t.Errorf("note: %v", err)
							}
						}
					}
				})
			}
			done := make(chan struct{})
			got := make([]map[string]int, len(consumers))
			for i, id := range consumers {
				got[i] = map[string]int{}
				c := x.Consumer(s.Incarnation, id)
				take := func(r *rand.Rand) bool {
					k := c.Take(0, int64(r.IntN(1<<20)))
					if k == nil {
						return false
					}
					if r.IntN(4) == 0 {
						k.Release()
						return true
					}
					var list []string
					for row := range k.Rows() {
						lane, n := parseLaneRow(string(row.Data))
						list = append(list, fmt.Sprint(lane, ":", n))
					}
					first, next := k.Range()
					h := ManifestHead{ID: x.NewManifestID(), Version: s.Version, Epoch: c.NewEpoch(), First: first, Next: next, Counts: Counts{Dropped: int64(len(list))}}
					if _, err := x.Cut(k, nil, h); err != nil {
						k.Release()
						return true
					}
					for _, row := range list {
						got[i][row]++
					}
					return true
				}
				others.Go(func() {
					r := rand.New(rand.NewPCG(uint64(id), 2))
					for {
						if take(r) {
							continue
						}
						select {
						case <-c.Changed():
						case <-done:
							for deadline := time.Now().Add(20 * time.Second); c.Totals().Waiting > 0 && time.Now().Before(deadline); {
								if !take(r) {
									select {
									case <-c.Changed():
									case <-time.After(10 * time.Millisecond):
									}
								}
							}
							return
						}
					}
				})
				others.Go(func() {
					r := rand.New(rand.NewPCG(uint64(id), 3))
					for ctx.Err() == nil {
						if _, err := c.Spill(ctx, int64(r.IntN(1<<20))); err != nil && ctx.Err() == nil {
							t.Errorf("spill: %v", err)
						}
						select {
						case <-ctx.Done():
						case <-time.After(time.Duration(r.IntN(10)) * time.Millisecond):
						}
					}
				})
			}
			lanes.Wait()
			close(done)
			others.Wait()
			for i, id := range consumers {
				want := 0
				for _, lane := range names {
					at := lanePlace(in.Position(lane))
					want += at
					for n := range at {
						if times := got[i][fmt.Sprint(lane, ":", n)]; times != 1 {
							t.Fatalf("consumer %d has record %d of %s %d times; the lane stands at %d", id, n, lane, times, at)
						}
					}
				}
				if len(got[i]) != want || want == 0 {
					t.Errorf("consumer %d has %d records, want %d", id, len(got[i]), want)
				}
				if sum := x.Consumer(s.Incarnation, id).Totals(); sum.Accepted != int64(want) || sum.Dropped != int64(want) || sum.Waiting != 0 {
					t.Errorf("consumer %d: %+v, want %d", id, sum, want)
				}
			}
			for _, lane := range names {
				if string(in.Delivered(lane)) != string(in.Position(lane)) {
					t.Errorf("%s stands at %s and is delivered up to %s", lane, in.Position(lane), in.Delivered(lane))
				}
			}
			if st := x.front.stats(); st.Reserved != 0 || st.Used != 0 {
				t.Errorf("the front is not empty: %+v", st)
			}
		})
	}
}
