package delivery

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const keyedPrefix = "k=!{partitionKeyFromQuery:k}/h=!{timestamp:HH}/"

// folders are the rows of data objects by the folder of their object, one text for each object.
func folders(w *world) []string {
	var out []string
	s := w.shop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, o := range s.objects {
		if !strings.HasPrefix(key, "errors/") && !strings.Contains(key, "/_SUCCESS") {
			out = append(out, key[:strings.LastIndexByte(key, '/')+1]+" "+strings.ReplaceAll(strings.TrimSpace(string(o.body)), "\n", " "))
		}
	}
	slices.Sort(out)
	return out
}

// refusals are the rows of the error output with type and code.
func refusals(t *testing.T, w *world) []string {
	t.Helper()
	var out []string
	s := w.shop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, o := range s.objects {
		kind, found := strings.CutPrefix(key, "errors/")
		if !found {
			continue
		}
		kind, _, _ = strings.Cut(kind, "/")
		for line := range strings.Lines(string(o.body)) {
			var e struct {
				RawData []byte `json:"rawData"`
				Code    string `json:"errorCode"`
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Errorf("error line %q: %v", line, err)
			}
			out = append(out, kind+" "+e.Code+" "+string(e.RawData))
		}
	}
	slices.Sort(out)
	return out
}

func gauge(t *testing.T, w *world, name string) (value float64, there bool) {
	t.Helper()
	reg := prometheus.NewRegistry()
	for _, c := range w.m.Collectors() {
		reg.MustRegister(c)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "hydrant_"+name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue(), true
		}
	}
	return 0, false
}

// keyedWorld has one stream s. Its clock begins at midnight of 2000-01-01, as a bubble's does.
func keyedWorld(t *testing.T, c spec, f func(t *testing.T, w *world)) {
	t.Helper()
	c.Keyed = true
	if c.Prefix == "" {
		c.Prefix = keyedPrefix
	}
	hookWorld(t, map[string]spec{"s": c}, nil, f)
}

// Rows lie where their keys and their own times say; two pairs of values that give one folder share no object.
func TestPartitionsOfRows(t *testing.T) {
	keyedWorld(t, spec{Prefix: "!{partitionKeyFromQuery:k}/!{partitionKeyFromQuery:j}/"}, func(t *testing.T, w *world) {
		w.put("s", `{"k":"a/b","j":"c","t":"2000-01-01T00:00:00Z"}`, `{"k":"a","j":"b/c","t":"2000-01-01T00:00:00Z"}`, `{"k":"a","j":"b","t":"2000-01-01T00:00:00Z"}`)
		w.flush("s")
		equal(t, "objects", folders(w), []string{
			`a/b/ {"k":"a","j":"b","t":"2000-01-01T00:00:00Z"}`,
			`a/b/c/ {"k":"a","j":"b/c","t":"2000-01-01T00:00:00Z"}`,
			`a/b/c/ {"k":"a/b","j":"c","t":"2000-01-01T00:00:00Z"}`,
		})
		w.balanced("s", 3)
	})
	keyedWorld(t, spec{}, func(t *testing.T, w *world) {
		time.Sleep(time.Hour)
		w.put("s", `{"k":"a","t":"2000-01-01T00:30:00Z"}`, `{"k":"a","t":"2000-01-01T01:00:00Z"}`, `{"k":"b","t":"2000-01-01T00:59:00Z"}`,
			`no JSON`, `{"k":null,"t":"2000-01-01T00:00:00Z"}`, `{"k":"a"}`, fmt.Sprintf(`{"k":"%s","t":"2000-01-01T01:00:00Z"}`, strings.Repeat("x", 1000)))
		w.flush("s")
		equal(t, "objects", folders(w), []string{
			`k=a/h=00/ {"k":"a","t":"2000-01-01T00:30:00Z"}`, `k=a/h=01/ {"k":"a","t":"2000-01-01T01:00:00Z"}`, `k=b/h=00/ {"k":"b","t":"2000-01-01T00:59:00Z"}`,
		})
		const failed = "metadata-extraction-failed "
		equal(t, "failures", refusals(t, w), []string{
			failed + `DynamicPartitioning.MetadataExtractionFailed no JSON`,
			failed + `DynamicPartitioning.MetadataExtractionFailed {"k":null,"t":"2000-01-01T00:00:00Z"}`,
			failed + `Hydrant.EventTime {"k":"a"}`,
			failed + fmt.Sprintf(`Hydrant.ObjectKey {"k":"%s","t":"2000-01-01T01:00:00Z"}`, strings.Repeat("x", 1000)),
		})
		w.balanced("s", 7)
	})
}

// A prefix that no run can have as a key sends its records to the error output, and holds up nobody.
func TestLongPrefixes(t *testing.T) {
	const random = "!{firehose:random-string}" // in the key of a run as it is written, in that of an object shorter
	keyedWorld(t, spec{Prefix: strings.Repeat(random, 42) + "!{partitionKeyFromQuery:k}"}, func(t *testing.T, w *world) {
		row := func(n int) string { return `{"k":"` + strings.Repeat("x", n) + `","t":"2000-01-01T00:00:00Z"}` }
		w.shop().lenient = true
		const most = maxKey - 1 - hashLength - 42*len(random)
		w.put("s", row(most), row(most+1))
		w.flush("s")
		if data, _ := w.shop().rows(); data[row(most)] != 1 || len(data) != 1 {
			t.Errorf("delivered %v", data)
		}
		equal(t, "failures", refusals(t, w), []string{"metadata-extraction-failed Hydrant.ObjectKey " + row(most+1)})
		w.balanced("s", 2)
	})
}

// What is late stays late over a restart, whether the rows before it are in runs or under a manifest, and each late row counts
// once.
func TestLateOverRestarts(t *testing.T) {
	for _, flush := range []bool{false, true} {
		keyedWorld(t, spec{Interval: time.Hour}, func(t *testing.T, w *world) {
			time.Sleep(10 * time.Hour)
			if _, there := gauge(t, w, "watermark_timestamp_seconds"); there {
				t.Error("there is a watermark before any row")
			}
			w.put("s", `{"k":"a","t":"2000-01-01T09:30:00Z"}`)
			if flush {
				w.flush("s")
			} else {
				time.Sleep(routeEvery + time.Second)
			}
			watermark := time.Date(2000, 1, 1, 8, 30, 0, 0, time.UTC)
			if got, _ := gauge(t, w, "watermark_timestamp_seconds"); got != float64(watermark.Unix()) {
				t.Errorf("watermark %v, want %v", got, watermark.Unix())
			}
			w.put("s", `{"k":"b","t":"2000-01-01T08:00:00Z"}`)
			time.Sleep(routeEvery + time.Second)
			w.put("s", `{"k":"a","t":"2000-01-01T08:29:59Z"}`, `{"k":"a","t":"2000-01-01T08:30:00Z"}`)
			w.restart() // before they are routed
			time.Sleep(routeEvery + time.Second)
			if got, _ := gauge(t, w, "watermark_timestamp_seconds"); got != float64(watermark.Unix()) {
				t.Errorf("watermark %v after a restart, want %v", got, watermark.Unix())
			}
			w.flush("s")
			want := []string{`k=a/h=08/ {"k":"a","t":"2000-01-01T08:30:00Z"}`, `k=a/h=09/ {"k":"a","t":"2000-01-01T09:30:00Z"}`}
			equal(t, "objects", folders(w), want)
			equal(t, "failures", refusals(t, w), []string{`late Hydrant.Late {"k":"a","t":"2000-01-01T08:29:59Z"}`, `late Hydrant.Late {"k":"b","t":"2000-01-01T08:00:00Z"}`})
			if n, _ := gauge(t, w, "late_records_total"); n != 1 { // since the restart
				t.Errorf("%v late records", n)
			}
			w.balanced("s", 4)
		})
	}
}

// Keys from a function and from a query stand in one prefix; what the function did not give fails.
func TestPartitionKeysOfFunctions(t *testing.T) {
	f := &function{decide: func(data string) (string, string) { return "Ok", data }, keys: func(data string) map[string]string {
		if strings.Contains(data, "none") {
			return nil
		}
		return map[string]string{"team": data[len(`{"k":"`):][:1] + "/team", "other": "x"}
	}}
	hookWorld(t, map[string]spec{"s": {Hook: "f", Keyed: true, Prefix: "!{partitionKeyFromLambda:team}/k=!{partitionKeyFromQuery:k}/"}}, map[string]*function{"f": f}, func(t *testing.T, w *world) {
		w.put("s", `{"k":"a","t":"2000-01-01T00:00:00Z"}`, `{"k":"b","t":"2000-01-01T00:00:00Z"}`, `{"k":"none","t":"2000-01-01T00:00:00Z"}`)
		w.flush("s")
		equal(t, "objects", folders(w), []string{`a/team/k=a/ {"k":"a","t":"2000-01-01T00:00:00Z"}`, `b/team/k=b/ {"k":"b","t":"2000-01-01T00:00:00Z"}`})
		equal(t, "failures", refusals(t, w), []string{`metadata-extraction-failed DynamicPartitioning.MetadataExtractionFailed {"k":"none","t":"2000-01-01T00:00:00Z"}`})
		w.balanced("s", 3)
	})
}

// Above a hard bound rows of new partitions go to the error output, and those of active ones do not. A partition that was
// delivered is not active.
func TestHardBound(t *testing.T) {
	row := func(k string) string { return `{"k":"` + k + `","t":"2000-01-01T00:00:00Z"}` }
	keyedWorld(t, spec{Interval: time.Hour, Most: 2, Hard: true}, func(t *testing.T, w *world) {
		w.put("s", row("a"), row("b"), row("c"), row("b"))
		time.Sleep(routeEvery + time.Second)
		if n, _ := gauge(t, w, "active_partitions"); n != 2 {
			t.Errorf("%v active partitions", n)
		}
		w.put("s", row("d"), row("a"))
		time.Sleep(routeEvery + time.Second)
		if n := len(w.shop().keys()); n != 0 {
			t.Errorf("%d objects before the interval", n)
		}
		w.flush("s")
		const at = `,"t":"2000-01-01T00:00:00Z"}`
		equal(t, "objects", folders(w), []string{`k=a/h=00/ {"k":"a"` + at + ` {"k":"a"` + at, `k=b/h=00/ {"k":"b"` + at + ` {"k":"b"` + at})
		const failed = `activePartitionExceeded DynamicPartitioning.ActivePartitionsLimitExceeded `
		equal(t, "failures", refusals(t, w), []string{failed + row("c"), failed + row("d")})
		w.put("s", row("c"), row("d"))
		w.flush("s")
		if n := len(refusals(t, w)); n != 2 {
			t.Errorf("%d failures after the others were delivered", n)
		}
		w.balanced("s", 8)
	})
}

// Nobody knows at first how small rows become: the first object of file_size is not made a sixth of its size all the same. Then
// that is known, of other partitions too.
func TestFileSizeOfPartitions(t *testing.T) {
	keyedWorld(t, spec{FileSize: 1000, Interval: time.Hour, Short: 16}, func(t *testing.T, w *world) {
		put := func(k string, n int) {
			t.Helper()
			for range n {
				w.put("s", `{"k":"`+k+`","t":"2000-01-01T00:00:00Z","pad":"`+strings.Repeat("x", 54)+`"}`) // 100 bytes, of which 17 are written
			}
			time.Sleep(routeEvery + 2*cutEvery)
		}
		put("a", 20)
		if n := len(w.shop().keys()); n != 0 {
			t.Fatalf("%d objects of 340 bytes", n)
		}
		put("a", 40)
		put("b", 58) // 986 bytes
		keys := w.shop().keys()
		if len(keys) != 1 || len(w.shop().objects[keys[0]].body) < 59*17 { // one row may come while the object is made, and stays
			t.Fatalf("objects %q, the first of %d bytes", keys, len(w.shop().objects[keys[0]].body))
		}
		put("b", 1)
		if n := len(w.shop().keys()); n != 2 {
			t.Errorf("%d objects", n)
		}
		w.flush("s")
		w.balanced("s", 119)
	})
}

// What comes into a partition while it is cut does not make it full again.
func TestCutWhileRowsCome(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				w := newWorld(t, b)
				defer w.close()
				w.gate = func() { <-release }
				w.start()
				w.apply(map[string]spec{"s": {Scatter: true, Size: 100, Interval: time.Hour}})
				w.run()
				w.put("s", "wait"+strings.Repeat("x", 100))
				time.Sleep(3 * cutEvery) // its encoder waits
				w.put("s", "w")
				time.Sleep(routeEvery + time.Second)
				close(release)
				time.Sleep(3 * cutEvery)
				if n := len(w.shop().keys()); n != 1 {
					t.Errorf("%d objects", n)
				}
				w.flush("s")
				w.balanced("s", 2)
			})
		})
	}
}

// Through crashes at random moments, sweeps and size cuts included, no row is lost, twice, or in a wrong partition.
func TestPartitionsSurviveCrashes(t *testing.T) {
	for _, b := range backends {
		if b.name == "files" {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			n := uint64(25)
			if b.name != "model" {
				n = 12
			}
			for seed := range n {
				synctest.Test(t, func(t *testing.T) { keyedLife(t, b, seed) })
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

func keyedLife(t *testing.T, b backend, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 11))
	w := newWorld(t, b)
	defer w.close()
	c := spec{Prefix: keyedPrefix, Keyed: true, Size: 400, Interval: 30 * time.Second, Most: []int{0, 5, 5}[seed%3], Hard: seed%3 == 2}
	w.start()
	w.apply(map[string]spec{"s": c})
	w.run()
	where := map[string]string{} // rows by their folder
	for i := range 40 {
		var rows []string
		for n := range 1 + r.IntN(5) {
			at := time.Now().UTC().Add(-time.Duration(r.IntN(55)) * time.Minute)
			row := fmt.Sprintf(`{"n":"%d.%d","k":"%c","t":"%s"}`, i, n, 'a'+r.IntN(6), at.Format(time.RFC3339))
			where[row] = fmt.Sprintf("k=%s/h=%02d/", row[strings.Index(row, `"k":"`)+5:][:1], at.Hour())
			rows = append(rows, row)
		}
		w.put("s", rows...)
		switch n := r.IntN(20); {
		case n < 8:
			time.Sleep(time.Duration(r.IntN(15_000)) * time.Millisecond)
		case n < 9:
			w.restart()
		case n < 12:
			for range 1 + r.IntN(2) { // and again, as it gets up
				time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
				(&life{world: w, r: r}).kill()
				w.store = w.backing.store()
				w.start()
				w.run()
			}
		case n < 13:
			c.Size = int64(200 + r.IntN(400))
			w.apply(map[string]spec{"s": c})
		case n < 14:
			_, _ = w.m.Flush(within(time.Duration(r.IntN(4000))*time.Millisecond), "s")
		}
		w.status("s")
	}
	w.flush("s")
	w.balanced("s", int64(len(where)))
	seen := map[string]int{}
	for _, object := range folders(w) {
		folder, rows, _ := strings.Cut(object, " ")
		for _, row := range strings.Split(rows, " ") {
			if seen[row]++; where[row] != folder {
				t.Errorf("%s lies in %s, not in %s", row, folder, where[row])
			}
		}
	}
	for _, line := range refusals(t, w) {
		row := line[strings.IndexByte(line, '{'):]
		if seen[row]++; !strings.HasPrefix(line, activePartitionExceeded) || !c.Hard {
			t.Errorf("failed: %s", line)
		}
	}
	for _, row := range slices.Sorted(maps.Keys(where)) {
		if seen[row] != 1 {
			t.Errorf("%s was delivered %d times", row, seen[row])
		}
	}
}
