package delivery

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer"
	"hydrant/record"
	"hydrant/transform"
)

type processor func(d *transform.Document) (transform.Verdict, *transform.Failure)

func (f processor) Process(d *transform.Document) (transform.Verdict, *transform.Failure) {
	return f(d)
}

// words takes a row apart at its spaces. Of the words "drop…" is dropped, "fail…" fails, "ten…" is written ten times, and the
// others pass.
func words(t testing.TB) *transform.Chain {
	t.Helper()
	c, err := transform.New(transform.Options{Stages: []transform.Stage{
		{Name: "split", Processor: processor(func(d *transform.Document) (transform.Verdict, *transform.Failure) {
			if bytes.HasPrefix(d.Data(), []byte("whole")) {
				return 0, transform.Failf("Words", "the whole row")
			}
			for _, word := range bytes.Fields(d.Data()) {
				d.AddPartData(word)
			}
			return transform.Split, nil
		})},
		{Name: "word", Processor: processor(func(d *transform.Document) (transform.Verdict, *transform.Failure) {
			switch word := d.Data(); {
			case bytes.HasPrefix(word, []byte("drop")):
				return transform.Drop, nil
			case bytes.HasPrefix(word, []byte("fail")):
				return 0, transform.Failf("Words", "a word")
			case bytes.HasPrefix(word, []byte("ten")):
				d.SetOwned(append(d.Scratch(), bytes.Repeat(word, 10)...))
			}
			return transform.Keep, nil
		})},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTransform(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Words: true}}, func(t *testing.T, w *world) {
		w.put("s", "a", "b c", "drop", "fail1", "d fail2 drop e", "drop drop", "", "whole f", "fail3 g")
		w.flush("s")
		data, failed := w.shop().rows()
		equal(t, "data", data, map[string]int{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "g": 1})
		equal(t, "failed", failed, map[string]int{"fail1": 1, "fail2": 1, "fail3": 1, "whole f": 1})
		w.balanced("s", 9)
		// A record counts once, where the first of its parts went.
		st := w.status("s")
		if st.Delivered != 3 || st.Failed != 3 || st.Dropped != 3 {
			t.Errorf("delivered %d, failed %d, dropped %d", st.Delivered, st.Failed, st.Dropped)
		}
		for _, key := range w.shop().keys() {
			if strings.HasPrefix(key, "errors/") && !strings.HasPrefix(key, "errors/processing-failed/") {
				t.Errorf("an error object under %s", key)
			}
		}
	})
}

// Rows of which nothing is left make no object, and are done all the same.
func TestTransformDropsAll(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Words: true}}, func(t *testing.T, w *world) {
		w.put("s", "drop", "drop", "")
		w.flush("s")
		w.balanced("s", 3)
		if keys := w.shop().keys(); len(keys) != 0 {
			t.Errorf("objects %q", keys)
		}
		w.restart()
		w.put("s", "a", "drop")
		w.flush("s")
		w.balanced("s", 5)
		if st := w.status("s"); st.Dropped != 4 || st.Delivered != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// buffer.size counts what comes out of the transform. The first objects tell what that is.
func TestTransformSize(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Words: true, Size: 10_000, Interval: time.Hour}}, func(t *testing.T, w *world) {
		n := 0
		for range 60 {
			var rows []string
			for range 20 {
				rows = append(rows, fmt.Sprintf("ten%07d", n)) // 10 bytes in, 100 out
				n++
			}
			w.put("s", rows...)
			synctest.Wait()
		}
		w.flush("s")
		w.balanced("s", int64(n))
		bodies := w.shop().bodies("")
		total := 0
		for i, b := range bodies {
			total += strings.Count(b, "\n")
			if size := len(b) - strings.Count(b, "\n"); size > 12_500 {
				t.Errorf("object %d has %d bytes", i, size)
			}
		}
		if total != n || len(bodies) > 20 {
			t.Errorf("%d rows of %d in %d objects", total, n, len(bodies))
		}
	})
}

// Through crashes at random moments, each part of each record ends in one place, once.
func TestTransformSurvivesCrashes(t *testing.T) {
	for _, b := range backends {
		if b.name == "files" {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			for seed := range uint64(20) {
				synctest.Test(t, func(t *testing.T) {
					r := rand.New(rand.NewPCG(seed, 1))
					w := newWorld(t, b)
					w.start()
					w.apply(map[string]spec{"s": {Words: true, Size: 200, Interval: time.Second}})
					w.run()
					data, failed, dropped := map[string]int{}, map[string]int{}, 0
					const records = 120
					for i := range records {
						var row []string
						kept := 0
						for k := range r.IntN(4) {
							word := fmt.Sprintf("%s%d.%d", []string{"a", "drop", "fail", "ten"}[r.IntN(4)], i, k)
							row = append(row, word)
							switch {
							case word[0] == 'f':
								failed[word]++
								kept++
							case word[0] == 't':
								data[strings.Repeat(word, 10)]++
								kept++
							case word[0] == 'a':
								data[word]++
								kept++
							}
						}
						if kept == 0 {
							dropped++
						}
						w.put("s", strings.Join(row, " "))
						switch r.IntN(20) {
						case 0:
							w.restart()
						case 1:
							time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
						}
					}
					w.flush("s")
					w.balanced("s", records)
					gotData, gotFailed := w.shop().rows()
					equal(t, "data", gotData, data)
					equal(t, "failed", gotFailed, failed)
					if st := w.status("s"); st.Dropped != int64(dropped) {
						t.Errorf("seed %d: %d dropped, want %d", seed, st.Dropped, dropped)
					}
					w.close()
				})
			}
		})
	}
}

// The line in the error output is Firehose's.
func TestTransformErrorLine(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Words: true}}, func(t *testing.T, w *world) {
		w.put("s", "fail x")
		w.flush("s")
		var line string
		for _, key := range w.shop().keys() {
			if strings.HasPrefix(key, "errors/processing-failed/") {
				line = string(w.shop().objects[key].body)
			}
		}
		for _, want := range []string{`{"rawData":"` + encoded("fail") + `","errorCode":"Hydrant.Words","errorMessage":"a word","attemptsMade":1,"arrivalTimestamp":`} {
			if !strings.HasPrefix(line, want) {
				t.Errorf("line %s\nwant %s…", line, want)
			}
		}
	})
}

// A plan says what a cut would make, and makes nothing.
func TestMakePlan(t *testing.T) {
	w := &world{t: t, shops: map[string]*shop{"": newShop(t)}}
	pipe, err := w.open(buffer.Stream{Name: "s", Spec: spec{Words: true, Size: 6, Prefix: "data/!{timestamp:yyyy}/"}.bytes()})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 25, 14, 30, 0, 0, time.UTC)
	var rows []record.Row
	for i, data := range []string{"abc", "drop", "def fail1", "ghi bad", "whole", "jkl"} {
		rows = append(rows, record.Row{Seq: uint64(i + 1), Arrived: at.UnixMicro(), Data: []byte(data)})
	}
	plan, err := MakePlan(t.Context(), "s", 3, pipe, rows)
	if err != nil {
		t.Fatal(err)
	}
	var objects []string
	for _, o := range plan.Objects {
		objects = append(objects, fmt.Sprintf("%s… %v %d", o.Key[:len(o.Key)-36], o.Error, o.Records))
	}
	equal(t, "objects", objects, []string{
		"data/2026/s-3-2026-11-25-14-30-00-… false 2",
		"errors/processing-failed/s-3-2026-11-25-14-30-00-… true 0",
		"data/2026/s-3-2026-11-25-14-30-00-… false 2",
		"errors/processing-failed/s-3-2026-11-25-14-30-00-… true 1",
		"errors/format-conversion-failed/s-3-2026-11-25-14-30-00-… true 0",
	})
	equal(t, "refused", plan.Refused, []PlannedRefusal{
		{3, 1, "processing-failed", "Hydrant.Words", "a word"},
		{4, 1, "format-conversion-failed", "DataFormatConversion.MalformedData", "not \"good\""},
		{5, 0, "processing-failed", "Hydrant.Words", "the whole row"},
	})
	if plan.Delivered != 4 || plan.Dropped != 1 || plan.Failed != 1 || plan.Objects[0].Bytes != 8 {
		t.Errorf("%+v, first of %d bytes", plan, plan.Objects[0].Bytes)
	}
	if keys := w.shop().keys(); len(keys) != 0 {
		t.Errorf("stored %q", keys)
	}
	if plan, err := MakePlan(t.Context(), "s", 3, pipe, nil); err != nil || len(plan.Objects) != 0 {
		t.Errorf("%+v, %v", plan, err)
	}
}
