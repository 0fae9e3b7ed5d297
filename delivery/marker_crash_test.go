package delivery

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/sinks"
)

// TestMarkersSurviveCrashes lets a stream with markers live through faults of the store, changes, restarts, kills and power
// cuts, with rows in time and late ones. In the end each object is in exactly one marker, no marker is there twice, and they
// account for every row that was routed.
func TestMarkersSurviveCrashes(t *testing.T) {
	for _, b := range backends {
		if b.name == "files" {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			n := uint64(60)
			if b.name != "model" {
				n = 40
			}
			if os.Getenv("HYDRANT_SABOTAGE") != "" {
				n *= 3
			}
			for seed := range n {
				synctest.Test(t, func(t *testing.T) { markedLife(t, b, seed) })
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

func markedLife(t *testing.T, b backend, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 12))
	w := newWorld(t, b)
	defer w.close()
	if seed%4 == 3 {
		w.memory = 1 << 20 // accounts are at their bound now and then
	}
	l := &life{world: w, r: r}
	c := spec{Prefix: minutePrefix, Keyed: true, Marked: true, Size: 300, Interval: 20 * time.Second}
	bad := l.faults(rand.New(rand.NewPCG(seed, 13)))
	w.shop().set(func(o sinks.Object, attempt int) *fault {
		if strings.Contains(o.Key, "_SUCCESS") {
			o.SHA256[0] = 0xFF // it may not be refused for good
		}
		return bad(o, attempt)
	})
	w.shop().slow = time.Duration(r.IntN(3)) * 20 * time.Millisecond
	w.start()
	w.apply(map[string]spec{"s": c})
	w.run()
	time.Sleep(12 * time.Hour)
	sent, routed := 0, 0
	for i := range 50 {
		var rows []string
		for n := range 1 + r.IntN(5) {
			at := time.Now().UTC().Add(-time.Duration(r.IntN(90)) * time.Second)
			if r.IntN(5) == 0 {
				at = at.Add(-time.Duration(r.IntN(600)) * time.Second) // late
			}
			flaw := ""
			switch r.IntN(20) {
			case 0:
				flaw = `"bad":1,`
			case 1:
				rows = append(rows, "no JSON")
				sent++
			}
			rows = append(rows, fmt.Sprintf(`{%s"n":"%d.%d","k":"%c","t":"%s"}`, flaw, i, n, 'a'+r.IntN(3), at.Format(time.RFC3339)))
			sent++
			routed++
		}
		w.put("s", rows...)
		switch n := r.IntN(20); {
		case n < 9:
			time.Sleep(time.Duration(r.IntN(30_000)) * time.Millisecond)
		case n < 10:
			w.restart()
		case n < 15:
			for range 1 + r.IntN(2) { // and again, as it gets up
				time.Sleep(time.Duration(r.IntN(2000)) * time.Duration(1+r.IntN(20)) * time.Millisecond)
				l.kill()
				w.store = w.backing.store()
				w.start()
				w.run()
			}
		case n < 16:
			c.Size = int64(200 + r.IntN(400))
			w.apply(map[string]spec{"s": c})
		case n < 17:
			if err := w.m.Pause("s"); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
			if err := w.m.Resume("s"); err != nil {
				t.Error(err)
			}
		case n < 18:
			_, _ = w.m.Flush(within(time.Duration(r.IntN(4000))*time.Millisecond), "s")
		}
		w.status("s")
	}
	w.shop().set(nil)
	w.flush("s")
	w.balanced("s", int64(sent))
	if seed%5 == 4 {
		w.apply(nil) // what it has is marked early
	}
	time.Sleep(3 * time.Hour)
	if sum := w.shop().judgeMarkers(); sum.Accepted != int64(routed) {
		t.Errorf("markers account for %+v, of %d rows", sum, routed)
	}
	if seed%5 != 4 {
		for key, m := range w.shop().markers() {
			if w.memory == 0 && !m.Complete {
				t.Errorf("marker %q came early", key)
			}
		}
	}
	if notes, err := w.store.Notes().List(1); err != nil || len(notes) != 0 {
		t.Errorf("notes are left: %q, %v", notes, err)
	}
}

// TestMarkersAtEveryOperation ends the process, or the power, at each operation of the disk from the first put of a stream with
// markers to the last marker, which are on time and late, with an object that is refused and one whose key is taken; and again
// at each operation of what follows on it, a few times.
func TestMarkersAtEveryOperation(t *testing.T) {
	b := backends[1]
	step := int64(1)
	if testing.Short() {
		step = 5
	}
	worlds := 0
	for n := int64(1); ; n += step {
		died := false
		synctest.Test(t, func(t *testing.T) { died = markedDeath(t, b, n) })
		if worlds++; t.Failed() {
			t.Fatalf("death at operation %d", n)
		}
		if !died {
			break
		}
	}
	if worlds < 40 {
		t.Errorf("only %d worlds", worlds)
	}
	t.Logf("%d worlds", worlds)
}

func markedDeath(t *testing.T, b backend, n int64) (died bool) {
	r := rand.New(rand.NewPCG(uint64(n), 14))
	w := newWorld(t, b)
	defer w.close()
	taken := map[bool]bool{}
	w.shop().set(func(o sinks.Object, _ int) *fault {
		marks := strings.Contains(o.Key, "_SUCCESS")
		w.shop().mu.Lock()
		defer w.shop().mu.Unlock()
		switch {
		case strings.HasPrefix(o.Key, "k=refused/") && !marks:
			return &fault{err: refusal(sinks.RefusedObject, "KeyTooLong")}
		case strings.HasPrefix(o.Key, "k=foreign/") && !taken[marks]:
			taken[marks] = true
			if _, there := w.shop().objects[o.Key]; !there {
				w.shop().objects[o.Key] = shopped{meta: map[string]string{sinks.MetaManifestID: "theirs"}}
			}
		}
		return nil
	})
	w.start()
	w.apply(map[string]spec{"s": {Prefix: minutePrefix, Keyed: true, Marked: true, Interval: 5 * time.Second}})
	w.run()
	time.Sleep(30 * time.Minute)
	fs := w.backing.(*bufferBacking).fs
	fs.CrashAt(fs.Ops() + n)
	rows := [][]string{
		{row("a", "00:29:30"), row("a", "00:30:00"), row("refused", "00:29:00"), row("foreign", "00:29:00")},
		{row("a", "00:29:31"), row("b", "00:29:31"), row("z", "00:31:00")},
		{row("a", "00:29:32"), row("foreign", "00:29:01")},
		{row("a", "00:29:33"), row("z", "00:33:00")},
	}
	put := map[int]bool{}
	acked, tried := 0, 0
	for again := 0; ; again++ {
		for i, call := range rows {
			if put[i] {
				continue
			}
			put[i] = true
			tried += len(call)
			if _, err := w.tryPut("s", call...); err == nil {
				acked += len(call)
			}
			for range 4 {
				if time.Sleep(10 * time.Second); w.backing.(*bufferBacking).fs.Dead() {
					break
				}
			}
			if w.backing.(*bufferBacking).fs.Dead() {
				break
			}
		}
		for range 20 {
			if w.backing.(*bufferBacking).fs.Dead() {
				break
			}
			time.Sleep(15 * time.Second)
		}
		if !w.backing.(*bufferBacking).fs.Dead() {
			break
		}
		died = true
		w.stop()
		w.backing.crash(r)
		w.store = w.backing.store()
		if f := w.backing.(*bufferBacking).fs; again < 2 {
			f.CrashAt(f.Ops() + 1 + r.Int64N(60))
		}
		w.start()
		w.run()
	}
	w.backing.(*bufferBacking).fs.CrashAt(0)
	w.flush("s")
	time.Sleep(3 * time.Hour)
	sum := w.shop().judgeMarkers()
	if st := w.status("s"); sum.Accepted < int64(acked) || sum.Accepted > int64(tried) || sum.Accepted != st.Accepted {
		t.Errorf("markers account for %+v, of %d rows that were acknowledged and %d that were sent: %+v", sum, acked, tried, st)
	}
	if notes, err := w.store.Notes().List(1); err != nil || len(notes) != 0 {
		t.Errorf("notes are left: %q, %v", notes, err)
	}
	return died
}
