package delivery

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hydrant/buffer"
	"hydrant/prefix"
	"hydrant/record"
)

// The line that stands for a row that does not fit, to the byte.
func TestConversionFailedLine(t *testing.T) {
	row := record.Row{Seq: 42, Sub: 7, Arrived: 1789014240448123, Data: []byte(`{"a":"oops"}`)}
	now := time.UnixMilli(1789014301529)
	for _, c := range []struct {
		name    string
		catalog map[string]string
		want    string
	}{
		{"no catalog", nil, `null`},
		{"catalog", map[string]string{"catalogId": "123456789012", "databaseName": "db", "tableName": "t", "region": "us-east-1", "versionId": "LATEST", "other": "x"},
			`{"catalogId":"123456789012","databaseName":"db","tableName":"t","region":"us-east-1","versionId":"LATEST","catalogArn":null}`},
	} {
		got := string(appendConversionFailed([]byte("x"), row, "DataFormatConversion.MalformedData", `For input string: "oops"`, now, c.catalog))
		want := `x{"attemptsMade":1,"arrivalTimestamp":1789014240448,"lastErrorCode":"DataFormatConversion.MalformedData",` +
			`"lastErrorMessage":"For input string: \"oops\"","attemptEndingTimestamp":1789014301529,"rawData":"eyJhIjoib29wcyJ9",` +
			`"sequenceNumber":"42","subSequenceNumber":7,"dataCatalogTable":` + c.want + "}\n"
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, want)
		}
	}
}

func TestFailedLine(t *testing.T) {
	row := record.Row{Seq: 42, Arrived: 1789014240448123, Data: []byte("hello")}
	got := string(appendFailed(nil, row, "Hydrant.ObjectKey", "too long", time.UnixMilli(1789014301529)))
	want := `{"rawData":"aGVsbG8=","errorCode":"Hydrant.ObjectKey","errorMessage":"too long","attemptsMade":1,` +
		`"arrivalTimestamp":1789014240448,"attemptEndingTimestamp":1789014301529}` + "\n"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestNames(t *testing.T) {
	id := uuid.MustParse("046b6c7f-0b8a-43b9-b35d-6489e6daee91")
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	name := objectName("clicks", 3, time.UnixMicro(1789014240448123).In(berlin), id, ".parquet")
	if want := "clicks-3-2026-09-10-06-24-00-046b6c7f-0b8a-43b9-b35d-6489e6daee91.parquet"; name != want {
		t.Errorf("object name %q, want %q", name, want)
	}
	other := uuid.MustParse("ffffffff-0000-4000-8000-000000000000")
	f := func(key, want string, ok bool) {
		t.Helper()
		if got, is := renamed(key, other); got != want || is != ok {
			t.Errorf("%q renamed to %q, %v, want %q, %v", key, got, is, want, ok)
		}
	}
	f("a/b/"+name, "a/b/clicks-3-2026-09-10-06-24-00-ffffffff-0000-4000-8000-000000000000.parquet", true)
	f(id.String(), other.String(), true)
	f(id.String()+"/x", "", false) // only in the name
	f("a/"+id.String()+"-1-"+id.String(), "a/"+id.String()+"-1-"+other.String(), true)
	f("", "", false)
	f("a/short", "", false)
	if got := extensionOf("a.b/" + name); got != ".parquet" {
		t.Errorf("extension %q", got)
	}
	if got := extensionOf("none"); got != "" {
		t.Errorf("extension %q", got)
	}
}

func FuzzRenamed(f *testing.F) {
	f.Add("a/s-1-2000-01-01-00-00-00-046b6c7f-0b8a-43b9-b35d-6489e6daee91.gz")
	f.Add("")
	f.Add("{046b6c7f-0b8a-43b9-b35d-6489e6daee91}")
	id := uuid.MustParse("ffffffff-0000-4000-8000-000000000000")
	f.Fuzz(func(t *testing.T, key string) {
		got, ok := renamed(key, id)
		if ok && (len(got) != len(key) || !strings.HasSuffix(got, id.String()+extensionOf(key))) {
			t.Fatalf("%q renamed to %q", key, got)
		}
	})
}

// Rows that do not fit go to the error output with their reason; the rest of the batch is delivered.
func TestRowsThatDoNotFit(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Errors: "errors/!{firehose:error-output-type}/!{timestamp:HH}/", Interval: 4 * time.Hour}}, func(t *testing.T, w *world) {
		w.put("s", "a", "bad 1", "b", "bad 2")
		time.Sleep(time.Hour)
		w.put("s", "bad 3", "c")
		w.flush("s")
		data, failed := w.shop().rows()
		equal(t, "rows", data, map[string]int{"a": 1, "b": 1, "c": 1})
		equal(t, "failed", failed, map[string]int{"bad 1": 1, "bad 2": 1, "bad 3": 1})
		line := func(seq int, row string, arrived int64) string {
			return fmt.Sprintf(`{"attemptsMade":1,"arrivalTimestamp":%d,"lastErrorCode":"DataFormatConversion.MalformedData","lastErrorMessage":"not \"good\"",`+
				`"attemptEndingTimestamp":%d,"rawData":"%s","sequenceNumber":"%d","subSequenceNumber":0,"dataCatalogTable":null}`+"\n",
				arrived, epoch2000.Add(time.Hour).UnixMilli(), encoded(row), seq)
		}
		zero, one := epoch2000.UnixMilli(), epoch2000.Add(time.Hour).UnixMilli()
		equal(t, "errors of hour 0", w.shop().bodies("errors/format-conversion-failed/00/s-1-2000-01-01-00-00-00-"), []string{line(2, "bad 1", zero) + line(4, "bad 2", zero)})
		equal(t, "errors of hour 1", w.shop().bodies("errors/format-conversion-failed/01/s-1-2000-01-01-01-00-00-"), []string{line(5, "bad 3", one)})
		w.balanced("s", 6)
		st := w.status("s")
		if st.Delivered != 3 || st.Failed != 3 {
			t.Errorf("status %+v", st)
		}
		if n := gather(t, w.m, "s")["failed_records_total{code=DataFormatConversion.MalformedData,stage=format-conversion-failed}"]; n != 3 {
			t.Errorf("%v failed records counted", n)
		}
	})
}

// Where no row fits there is no data object, not even an empty one.
func TestNoRowFits(t *testing.T) {
	inWorld(t, map[string]spec{"s": {}}, func(t *testing.T, w *world) {
		w.put("s", "bad 1", "bad 2")
		w.flush("s")
		if keys := w.shop().keys(); len(keys) != 1 || !strings.HasPrefix(keys[0], "errors/format-conversion-failed/") {
			t.Errorf("keys %q", keys)
		}
		w.balanced("s", 2)
	})
}

// A key of which no row fits has no object; its neighbours do.
func TestNoRowOfAKeyFits(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Prefix: "h=!{timestamp:HH}/", Interval: 4 * time.Hour}}, func(t *testing.T, w *world) {
		w.put("s", "bad 1")
		time.Sleep(time.Hour)
		w.put("s", "a")
		time.Sleep(time.Hour)
		w.put("s", "bad 2")
		w.flush("s")
		equal(t, "objects", w.shop().bodies("h="), []string{body("a")})
		w.balanced("s", 3)
	})
}

// Rows for which there is no valid key go to the error output with the reason.
func TestKeyThatTheStoreCannotTake(t *testing.T) {
	for name, p := range map[string]string{"the sink": "forbidden/!{timestamp:HH}/", "the prefix": strings.Repeat("x", 495) + strings.Repeat("!{timestamp:MMMM}", 3) + "/"} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, map[string]spec{"s": {Prefix: p}}, func(t *testing.T, w *world) {
				w.put("s", "a", "bad b")
				w.flush("s")
				lines := w.shop().bodies("errors/metadata-extraction-failed/s-1-")
				if len(lines) != 1 || len(w.shop().keys()) != 1 || strings.Count(lines[0], `"errorCode":"Hydrant.ObjectKey","errorMessage":"`) != 2 {
					t.Errorf("keys %q, errors %q", w.shop().keys(), lines)
				}
				_, failed := w.shop().rows()
				equal(t, "failed", failed, map[string]int{"a": 1, "bad b": 1})
				w.balanced("s", 2)
			})
		})
	}
}

// A record that breaks the encoder costs itself, not the stream and not the daemon.
func TestEncoderThatPanics(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Size: 40}}, func(t *testing.T, w *world) {
		w.put("s", "a", "panic 1", "b", "panic 2", "c")
		w.put("s", ten(0, 20)...)
		w.flush("s")
		data, failed := w.shop().rows()
		if data["a"] != 1 || data["b"] != 1 || data["c"] != 1 || len(data) != 23 {
			t.Errorf("rows %v", data)
		}
		equal(t, "failed", failed, map[string]int{"panic 1": 1, "panic 2": 1})
		w.balanced("s", 25)
		if n := gather(t, w.m, "s")["delivery_alarms_total{kind=encoder}"]; n != 2 {
			t.Errorf("%v alarms, want 2", n)
		}
	})
}

// A disk without room for packs: what fits is sealed, the rest waits, nothing is lost, and when there is
// room again everything goes out by itself.
func TestNoSpaceForPacks(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Size: 10000}}, func(t *testing.T, w *world) {
		if w.model() == nil {
			t.Skip("only the model's space can be set to a byte")
		}
		space := func(n int64) {
			w.model().disk.mu.Lock()
			w.model().space = n
			w.model().disk.mu.Unlock()
		}
		space(1200)
		w.shop().set(always(refusal(0, "down")))
		for i := 0; i < 2000; i += 100 {
			w.put("s", ten(i, 100)...)
		}
		time.Sleep(time.Minute)
		st := w.status("s")
		if len(st.Batches) == 0 {
			t.Fatalf("nothing was sealed though 100 rows would fit: %+v", st)
		}
		for _, b := range st.Batches {
			if b.Records > 110 {
				t.Errorf("a batch has %d records, more than fit", b.Records)
			}
		}
		space(0)
		time.Sleep(time.Minute)
		if st := w.status("s"); !strings.Contains(st.Error, "no space") {
			t.Errorf("status does not say why: %+v", st)
		}
		if used := w.model().used; used != 0 {
			t.Errorf("%d bytes of packs that were given up are still there", used)
		}
		space(-1)
		w.shop().set(nil)
		time.Sleep(cutCap + time.Minute)
		synctest.Wait()
		w.balanced("s", 2000)
		data, _ := w.shop().rows()
		for row, n := range data {
			if n != 1 {
				t.Errorf("row %q is there %d times", row, n)
			}
		}
		if len(data) != 2000 {
			t.Errorf("%d rows, want 2000", len(data))
		}
	})
}

// Another writer fills the disk: cuts fail or shrink, puts are refused or taken, and when there is room
// again everything that was taken goes out by itself.
func TestDiskFilledByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, backends[1])
		disk := w.backing.(*bufferBacking).fs
		w.start()
		w.apply(map[string]spec{"s": {Size: 8 << 20, Interval: 30 * time.Second}})
		w.run()
		defer w.close()
		var taken []string
		put := func(n int) (refused int) {
			for range n {
				row := fmt.Sprintf("%06d-%s", len(taken)+refused, strings.Repeat("x", 100_000))
				if _, err := w.tryPut("s", row); err != nil {
					refused++
				} else {
					taken = append(taken, row)
				}
			}
			return refused
		}
		put(200) // two objects that are full and a rest that waits
		synctest.Wait()
		disk.SetCapacity(disk.Used())
		disk.SetOther(1 << 30)
		put(50)
		time.Sleep(10 * time.Minute)
		st := w.status("s")
		if st.BacklogRecords == 0 || !strings.Contains(st.Error, "no space") {
			t.Errorf("the disk was not full for cuts, or nobody says so: %+v", st)
		}
		disk.SetOther(0)
		disk.SetCapacity(0)
		time.Sleep(5 * time.Minute)
		w.balanced("s", int64(len(taken)))
		data, _ := w.shop().rows()
		for _, row := range taken {
			if data[row] != 1 {
				t.Errorf("row %s is there %d times", row[:6], data[row])
			}
		}
		if len(data) != len(taken) || len(taken) == 0 {
			t.Errorf("%d rows are there, %d were taken", len(data), len(taken))
		}
	})
}

// A journal that takes no manifest: the packs go away and the rows are cut again later.
func TestCutThatFails(t *testing.T) {
	inWorld(t, map[string]spec{"s": {Size: 100}}, func(t *testing.T, w *world) {
		if w.model() == nil {
			t.Skip("only the model can be told to fail")
		}
		fail := func(err error) {
			w.model().disk.mu.Lock()
			w.model().cutErr = err
			w.model().disk.mu.Unlock()
		}
		fail(errDead)
		for i := 0; i < 100; i += 10 {
			w.put("s", ten(i, 10)...)
		}
		time.Sleep(time.Minute)
		st := w.status("s")
		if st.BacklogRecords != 100 || st.BacklogBytes != 1000 || !strings.Contains(st.Error, errDead.Error()) {
			t.Errorf("status %+v", st)
		}
		fail(nil)
		time.Sleep(cutCap)
		synctest.Wait()
		w.balanced("s", 100)
		if n := len(w.shop().keys()); n != 10 {
			t.Errorf("%d objects, want 10", n)
		}
	})
}

func TestTally(t *testing.T) {
	parse := func(text string) *prefix.Template {
		p, err := prefix.Parse(text, prefix.Prefix)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	hour := time.Hour.Microseconds()
	type chunk struct {
		first   uint64
		count   int
		bytes   int64
		arrived int64
	}
	for _, c := range []struct {
		name   string
		limit  int64
		chunks []chunk
		segs   string
		routes string
		full   bool
		max    int64
		next   uint64
	}{
		{"nothing", 100, nil, "[]", "[]", false, 0, 1},
		{"one", 100, []chunk{{1, 3, 30, 0}}, "[{1 0}]", "[30]", false, 0, 4},
		{"same hour", 100, []chunk{{1, 3, 30, 0}, {4, 1, 69, hour - 1}}, "[{1 0}]", "[99]", false, 0, 5},
		{"full to the byte", 100, []chunk{{1, 3, 30, 0}, {4, 1, 70, 5}}, "[{1 0}]", "[100]", true, 100, 5},
		{"more than full", 100, []chunk{{1, 3, 30, 0}, {4, 9, 500, 5}}, "[{1 0}]", "[530]", true, 100, 13},
		{"two hours", 100, []chunk{{1, 3, 90, 0}, {4, 1, 90, hour}, {5, 1, 50, hour + 1}}, "[{1 0} {4 1}]", "[90 140]", true, 190, 6},
		{"clock set back", 100, []chunk{{1, 1, 10, hour}, {2, 1, 10, 0}, {3, 1, 10, hour}}, "[{1 0} {2 1} {3 0}]", "[20 10]", false, 0, 4},
		{"gap", 100, []chunk{{1, 1, 10, 0}, {8, 2, 10, 0}}, "[{1 0}]", "[20]", false, 0, 10},
	} {
		y := newTally(&Pipeline{Prefix: parse("h=!{timestamp:HH}/")}, c.limit, 1)
		for i, k := range c.chunks {
			more := y.add(bufferChunk(k.first, k.count, k.bytes, k.arrived))
			if more == (c.full && i == len(c.chunks)-1) {
				t.Errorf("%s: add of chunk %d says %v", c.name, i, more)
			}
		}
		if segs, routes := fmt.Sprint(y.segs), fmt.Sprint(y.routes); segs != c.segs || routes != c.routes || y.full != c.full || y.max != c.max || y.next != c.next {
			t.Errorf("%s: segments %s, routes %s, full %v at %d, next %d\nwant %s, %s, %v at %d, %d", c.name, segs, routes, y.full, y.max, y.next, c.segs, c.routes, c.full, c.max, c.next)
		}
		if want := len(c.chunks) > 0 && c.name == "clock set back"; y.scattered() != want {
			t.Errorf("%s: scattered %v", c.name, y.scattered())
		}
	}
}

// Rows of one key that lie scattered, because a clock was set back, share one object all the same.
func TestClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, backends[0])
		w.start()
		w.apply(map[string]spec{"s": {Prefix: "h=!{timestamp:HH}/", Interval: time.Hour}})
		w.put("s", "a", "bad 1")
		w.put("s", "b")
		w.put("s", "c", "d")
		for _, s := range w.model().disk.streams {
			s.rows[2].arrived -= time.Hour.Microseconds()
		}
		w.run()
		defer w.close()
		w.flush("s")
		equal(t, "hour 0", w.shop().bodies("h=00/"), []string{body("a", "c", "d")})
		equal(t, "hour 23", w.shop().bodies("h=23/"), []string{body("b")})
		w.balanced("s", 5)
	})
}

func bufferChunk(first uint64, count int, bytes, arrived int64) buffer.Chunk {
	return buffer.Chunk{First: first, Count: count, Bytes: bytes, Arrived: arrived}
}

func TestMarks(t *testing.T) {
	now := time.Unix(1000, 0)
	var m marks
	see := func(first, next uint64, after, age time.Duration) {
		m.observe(buffer.Waiting{First: first, Next: next}, now.Add(after), age, 64*time.Second)
	}
	since := func(seq uint64, want time.Duration) {
		t.Helper()
		if got := m.since(seq, now.Add(time.Hour)).Sub(now); got != want {
			t.Errorf("record %d is there since %v, want %v", seq, got, want)
		}
	}
	since(1, time.Hour) // nothing is known: now
	see(1, 1, 0, 0)
	since(1, time.Hour)
	see(5, 10, 0, 30*time.Second) // they had waited before
	see(5, 10, time.Second, 0)    // nothing new
	see(5, 20, 2*time.Second, 0)
	see(5, 30, 2500*time.Millisecond, 0) // less than a 64th of the interval later: not worth a mark
	see(25, 40, 10*time.Second, 0)
	for seq, want := range map[uint64]time.Duration{1: -30, 5: -30, 9: -30, 10: 2, 20: 2, 29: 2, 30: 10, 39: 10, 99: 10} {
		since(seq, want*time.Second)
	}
	m.prune(29)
	since(29, 2*time.Second)
	since(30, 10*time.Second)
	if len(m.list) != 2 {
		t.Errorf("%d marks are left, want 2", len(m.list))
	}
}
