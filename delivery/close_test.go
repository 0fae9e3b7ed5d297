package delivery

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer"
)

// start of the clock in a synctest bubble.
var epoch2000 = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// ten is n rows of ten bytes each.
func ten(from, n int) (rows []string) {
	for i := range n {
		rows = append(rows, fmt.Sprintf("row-%06d", from+i))
	}
	return rows
}

// bodies of the objects with a prefix, in the order of their first rows.
func (s *shop) bodies(prefix string) (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, o := range s.objects {
		if strings.HasPrefix(key, prefix) {
			out = append(out, string(o.body))
		}
	}
	slices.Sort(out)
	return out
}

func body(rows ...string) string { return strings.Join(rows, "\n") + "\n" }

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%q", got), fmt.Sprintf("%q", want); g != w {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func TestSizeCloses(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Size: 100}}, func(t *testing.T, w *world) {
		// 25 rows in calls of 7: no call ends where an object does.
		for i := 0; i < 25; i += 7 {
			w.put("s", ten(i, min(7, 25-i))...)
		}
		time.Sleep(time.Second)
		equal(t, "objects at once", w.shop().bodies("2000"), []string{body(ten(0, 10)...), body(ten(10, 10)...)})
		st := w.status("s")
		if st.BacklogRecords != 5 || st.BacklogBytes != 50 || st.Delivered != 20 {
			t.Errorf("status %+v, want 20 delivered and 5 records of 50 bytes in the backlog", st)
		}
		time.Sleep(time.Minute)
		equal(t, "objects after the interval", w.shop().bodies("2000"), []string{body(ten(0, 10)...), body(ten(10, 10)...), body(ten(20, 5)...)})
		w.balanced("s", 25)
	})
}

// One call with more than an object holds becomes several.
func TestSizeSplitsACall(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Size: 100}}, func(t *testing.T, w *world) {
		w.put("s", ten(0, 35)...)
		w.flush("s")
		equal(t, "objects", w.shop().bodies("2000"), []string{body(ten(0, 10)...), body(ten(10, 10)...), body(ten(20, 10)...), body(ten(30, 5)...)})
	})
}

// A row larger than the size is an object by itself.
func TestSizeOneRow(t *testing.T) {
	long := strings.Repeat("x", 250)
	inWorld(t, map[string]spec{"s": {Size: 100}}, func(t *testing.T, w *world) {
		w.put("s", "a", long, "b")
		w.flush("s")
		equal(t, "objects", w.shop().bodies("2000"), []string{body("a"), body("b"), body(long)})
	})
}

func TestIntervalFromOldestRecord(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Interval: 10 * time.Second}}, func(t *testing.T, w *world) {
		time.Sleep(3 * time.Second)
		w.put("s", "one")
		time.Sleep(9 * time.Second)
		w.put("s", "two")
		time.Sleep(999 * time.Millisecond)
		synctest.Wait()
		if k := w.shop().keys(); len(k) != 0 {
			t.Fatalf("objects %q before the interval has passed", k)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		keys := w.shop().keys()
		if len(keys) != 1 || !strings.HasPrefix(keys[0], "2000/01/01/00/s-1-2000-01-01-00-00-03-") {
			t.Fatalf("objects %q, want one named after the arrival of its oldest record", keys)
		}
		equal(t, "objects", w.shop().bodies(""), []string{body("one", "two")})
	})
}

// What a size cut leaves has its own interval, from its own oldest record.
func TestIntervalOfTheRest(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Size: 100, Interval: 64 * time.Second}}, func(t *testing.T, w *world) {
		w.put("s", ten(0, 5)...)
		time.Sleep(30 * time.Second)
		w.put("s", ten(5, 7)...) // fills the object and leaves two rows
		time.Sleep(40 * time.Second)
		if n := len(w.shop().keys()); n != 1 {
			t.Fatalf("%d objects 70s after the first record, want 1: the rest has waited for 40s only", n)
		}
		time.Sleep(25 * time.Second)
		if n := len(w.shop().keys()); n != 2 {
			t.Fatalf("%d objects 65s after the rest arrived, want 2", n)
		}
	})
}

func TestIntervalZeroGathersShortly(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Interval: -1}}, func(t *testing.T, w *world) {
		for i := range 10 {
			w.put("s", ten(i, 1)...)
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(time.Second)
		w.balanced("s", 10)
		if n := len(w.shop().keys()); n < 2 || n > 4 {
			t.Errorf("%d objects from 200ms of records, want 2 to 4", n)
		}
	})
}

// The interval goes on over a restart, on the wall clock, and never beyond itself.
func TestIntervalOverRestart(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Interval: time.Minute}}, func(t *testing.T, w *world) {
		w.put("s", "one")
		time.Sleep(50 * time.Second)
		w.restart()
		time.Sleep(9 * time.Second)
		if n := len(w.shop().keys()); n != 0 {
			t.Fatalf("%d objects after 59s", n)
		}
		time.Sleep(2 * time.Second)
		if n := len(w.shop().keys()); n != 1 {
			t.Fatalf("%d objects after 61s, want 1", n)
		}
		w.put("s", "two")
		synctest.Wait()
		w.stop()
		time.Sleep(time.Hour)
		w.restart()
		time.Sleep(time.Second)
		if n := len(w.shop().keys()); n != 2 {
			t.Fatalf("%d objects: a record that waited for longer than the interval is not due at the start", n)
		}
	})
}

// A clock that was set back before the restart does not keep records for longer than the interval.
func TestIntervalAfterClockWasSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, backends[0])
		w.start()
		w.apply(map[string]spec{"s": {Interval: time.Minute}})
		w.put("s", "from the future")
		for _, s := range w.model().disk.streams {
			s.rows[0].arrived = time.Now().Add(24 * time.Hour).UnixMicro()
		}
		w.run()
		defer w.close()
		time.Sleep(59 * time.Second)
		if n := len(w.shop().keys()); n != 0 {
			t.Fatalf("%d objects before the interval", n)
		}
		time.Sleep(2 * time.Second)
		if n := len(w.shop().keys()); n != 1 {
			t.Fatalf("%d objects after the interval, want 1", n)
		}
	})
}

// Rows of different keys never share an object, and one cut takes all keys.
func TestKeysAreSeparateObjects(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Prefix: "h=!{timestamp:HH}/", Interval: 4 * time.Hour}}, func(t *testing.T, w *world) {
		time.Sleep(30 * time.Minute)
		w.put("s", "a", "b")
		time.Sleep(time.Hour)
		w.put("s", "c")
		time.Sleep(time.Hour)
		w.put("s", "d")
		synctest.Wait()
		if st := w.m.snapshots()[0]; st.keys != 3 {
			t.Errorf("%d open keys, want 3", st.keys)
		}
		w.flush("s")
		equal(t, "hour 0", w.shop().bodies("h=00/s-1-2000-01-01-00-30-00-"), []string{body("a", "b")})
		equal(t, "hour 1", w.shop().bodies("h=01/s-1-2000-01-01-01-30-00-"), []string{body("c")})
		equal(t, "hour 2", w.shop().bodies("h=02/s-1-2000-01-01-02-30-00-"), []string{body("d")})
		if n := cuts(w, "s"); n != 1 {
			t.Errorf("%d cuts, want 1", n)
		}
	})
}

// The zone moves the key and the name.
func TestTimeZone(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Zone: "America/New_York", Ext: ".x"}}, func(t *testing.T, w *world) {
		w.put("s", "a")
		w.flush("s")
		keys := w.shop().keys()
		if len(keys) != 1 || !strings.HasPrefix(keys[0], "1999/12/31/19/s-1-1999-12-31-19-00-00-") || !strings.HasSuffix(keys[0], ".x") {
			t.Errorf("keys %q", keys)
		}
	})
}

// The extension of the stream stands in for the format's.
func TestFileExtension(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Ext: ".gz", FileExt: ".json.gz"}}, func(t *testing.T, w *world) {
		w.put("s", "a", "bad")
		w.flush("s")
		keys := w.shop().keys()
		if len(keys) != 2 || len(keys[0]) != len("2000/01/01/00/s-1-2000-01-01-00-00-00-")+uuidLength+len(".json.gz") || !strings.HasSuffix(keys[0], ".json.gz") || extensionOf(keys[1]) != "" {
			t.Errorf("keys %q, want .json.gz for data and nothing for errors", keys)
		}
	})
}

// What is remembered of waiting records goes when they go.
func TestMarksGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, backends[0])
		w.start()
		w.apply(map[string]spec{"s": {Size: 100, Interval: time.Minute}})
		l := w.m.loops[0]
		w.run()
		defer w.close()
		for i := range 200 {
			w.put("s", ten(i, 1)...)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := len(l.marks.list); n > 12 {
			t.Errorf("%d marks for the less than ten records that wait", n)
		}
	})
}

// A key that fills closes the epoch: the rows of the other keys go with it.
func TestSizeOfOneKeyClosesAll(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Prefix: "h=!{timestamp:HH}/", Size: 100, Interval: 4 * time.Hour}}, func(t *testing.T, w *world) {
		w.put("s", ten(0, 9)...)
		time.Sleep(time.Hour)
		w.put("s", ten(9, 9)...)
		time.Sleep(time.Second)
		if n := len(w.shop().keys()); n != 0 {
			t.Fatalf("%d objects before any key has 100 bytes", n)
		}
		w.put("s", ten(18, 3)...)
		time.Sleep(time.Second)
		equal(t, "hour 0", w.shop().bodies("h=00/"), []string{body(ten(0, 9)...)})
		equal(t, "hour 1", w.shop().bodies("h=01/"), []string{body(ten(9, 10)...)})
		if st := w.status("s"); st.BacklogRecords != 2 {
			t.Errorf("%d records wait, want 2", st.BacklogRecords)
		}
	})
}

func TestFileSizeLearns(t *testing.T) {
	// Rows of 4 bytes make lines of 5: an object of 1000 written bytes takes 800 of Data.
	inWorld(t, map[string]spec{"s": {FileSize: 1000, Interval: time.Hour}}, func(t *testing.T, w *world) {
		for i := range 100 {
			var rows []string
			for j := range 50 {
				rows = append(rows, fmt.Sprintf("%04d", i*50+j))
			}
			w.put("s", rows...)
			synctest.Wait()
			time.Sleep(time.Second)
		}
		var sizes []int
		for _, b := range w.shop().bodies("") {
			sizes = append(sizes, len(b))
		}
		last := sizes[len(sizes)-1]
		if last < 950 || last > 1050 {
			t.Errorf("the last of objects with %v bytes is not near 1000", sizes)
		}
	})
}

func TestPressureCloses(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Interval: time.Hour, Size: 64 << 20}}, func(t *testing.T, w *world) {
		if w.model() == nil {
			t.Skip("only the model can be pressed")
		}
		c := w.store.Consumer(1, buffer.Main).(*modelConsumer)
		w.put("s", "small")
		c.press(buffer.PressureDisk)
		synctest.Wait()
		if n := len(w.shop().keys()); n != 0 {
			t.Fatalf("%d objects at once: a few bytes do not relieve anything", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(w.shop().keys()); n != 1 {
			t.Fatalf("%d objects after a second of pressure, want 1", n)
		}
		// Plenty goes at once, paused or not.
		if err := w.m.Pause("s"); err != nil {
			t.Fatal(err)
		}
		w.put("s", strings.Repeat("x", 2<<20))
		synctest.Wait()
		if n := cuts(w, "s"); n != 2 {
			t.Fatalf("%d cuts, want 2: pressure closes also while the stream is paused", n)
		}
		c.press(0)
		w.put("s", "later")
		time.Sleep(2 * time.Hour)
		if n, k := cuts(w, "s"), len(w.shop().keys()); n != 2 || k != 1 {
			t.Fatalf("%d cuts and %d objects while paused, want 2 and 1", n, k)
		}
		if err := w.m.Resume("s"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.balanced("s", 3)
	})
}

// A long outage fills the ledger with few manifests: from some number on the interval closes nothing.
func TestIntervalHoldsBack(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Interval: -1}}, func(t *testing.T, w *world) {
		if w.model() == nil {
			t.Skip("too slow for a real disk")
		}
		w.shop().set(always(refusal(0, "down")))
		for i := range maxOutstanding + 50 {
			w.put("s", ten(i, 1)...)
			time.Sleep(2 * minInterval)
		}
		if n := cuts(w, "s"); n != maxOutstanding {
			t.Errorf("%d manifests, want %d", n, maxOutstanding)
		}
		w.shop().set(nil)
		time.Sleep(5 * time.Minute)
		w.balanced("s", maxOutstanding+50)
	})
}

// When manifests fill the ledger, a stream with many of them closes nothing by size either. Under pressure all that
// waits becomes one manifest. A stream whose destination takes objects goes on.
func TestCrowdedHoldsBack(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		if w.model() == nil {
			t.Skip("the model says when it is crowded")
		}
		w.shops["dead"] = w.newShop()
		w.apply(map[string]spec{"dead": {Size: 100, Shop: "dead"}, "well": {Size: 100}})
		w.shops["dead"].set(always(refusal(0, "down")))
		row := strings.Repeat("x", 100)
		for range crowdedOutstanding {
			w.put("dead", row)
			synctest.Wait()
		}
		w.model().crowded.Store(true)
		for range 50 {
			w.put("dead", row)
			w.put("well", row)
			time.Sleep(time.Minute)
		}
		if d, g := cuts(w, "dead"), cuts(w, "well"); d != crowdedOutstanding || g != 50 {
			t.Fatalf("%d and %d manifests, want %d and 50", d, g, crowdedOutstanding)
		}
		w.balanced("well", 50)
		c := w.store.Consumer(w.m.lookup("dead").incarnation, buffer.Main).(*modelConsumer)
		c.press(buffer.PressureDisk)
		time.Sleep(2 * pressureAge)
		c.press(0)
		if n := cuts(w, "dead"); n != crowdedOutstanding+1 {
			t.Errorf("%d manifests, want one more under pressure", n)
		}
		w.shops["dead"].set(nil)
		time.Sleep(5 * time.Minute)
		w.balanced("dead", crowdedOutstanding+50)
		if n := len(w.shops["dead"].keys()); n != crowdedOutstanding+50 {
			t.Errorf("%d objects, want %d of the size that was asked for", n, crowdedOutstanding+50)
		}
	})
}

// Many calls, many objects, several encoders: everything arrives once, and manifests are made in order,
// which the model checks.
func TestManyCutsInParallel(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Size: 500}, "t": {Size: 300}}, func(t *testing.T, w *world) {
		for i := 0; i < 3000; i += 30 {
			w.put("s", ten(i, 30)...)
			w.put("t", ten(i, 30)...)
		}
		w.flush("s")
		w.flush("t")
		w.balanced("s", 3000)
		w.balanced("t", 3000)
		data, failed := w.shop().rows()
		if len(data) != 3000 || len(failed) != 0 {
			t.Fatalf("%d different rows and %d failed, want 3000 and none", len(data), len(failed))
		}
		for row, n := range data {
			if n != 2 {
				t.Errorf("row %q is there %d times in two streams", row, n)
			}
		}
	})
}
