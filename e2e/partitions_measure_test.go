//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hydrant/sample"
)

// TestMeasurePartitions puts clicks that lie in 1, 1,000, 10,000 and 100,000 partitions, evenly and at random, into a daemon of
// 512 MiB, has them delivered to files as one epoch, and prints memory above the idle process and processor time. HYDRANT_MEASURE_MB
// is the megabytes of JSON, HYDRANT_MEASURE_KEYS one number of partitions instead of these, HYDRANT_MEASURE_MIB another
// limits.memory. 100,000 partitions come twice, as one epoch and with the max_active of the default.
func TestMeasurePartitions(t *testing.T) {
	measuring(t)
	size := int64(number(t, "HYDRANT_MEASURE_MB", 512)) * 1e6
	only, memory := number(t, "HYDRANT_MEASURE_KEYS", 0), number(t, "HYDRANT_MEASURE_MIB", 512)
	for _, c := range []struct{ keys, active int }{{1, 1_000_000}, {1000, 1_000_000}, {10_000, 1_000_000}, {100_000, 1_000_000}, {100_000, 10_000}} {
		if only > 0 && only != c.keys {
			continue
		}
		d := configure(t, fmt.Sprintf(`limits: { memory: %dMiB, disk: 20GiB }
streams:
  - name: clicks
    partition: { keys: { p: .p }, max_active: %d }
    format: { parquet: { schema: "p string, event_id string, event_time string, event_type string, user_id string, session_id string, url string, referrer string, title string, user_agent string, ip string, status int, latency_ms double, bytes_sent bigint", compression: zstd } }
    buffer: { size: 5GiB, interval: 1h }
    destination: { file: { path: ./lake, prefix: "p=!{partitionKeyFromQuery:p}/" } }
`, memory, c.active)).start()
		pid := d.cmd.Process.Pid
		idle, began := resident(pid), time.Now()
		used := processorTime(t, pid)
		watched := d.watch()
		records := d.fill(t, "clicks", size, func(i uint64) string { return strconv.FormatUint(mix(i)%uint64(c.keys), 10) })
		put := time.Since(began)
		putUsed := processorTime(t, pid) - used
		d.flushFor("clicks", 10*time.Minute)
		u := watched()
		used = processorTime(t, pid) - used
		if s := d.status("clicks"); s.Delivered != records {
			t.Errorf("%d of %d records delivered: %+v", s.Delivered, records, s)
		}
		objects := len(withSuffix(walk(t, filepath.Join(d.dir, "lake")), ".parquet"))
		t.Logf("%d partitions, max_active %d: %d records, %.0f MB; idle %d MiB, peak %d MiB, above idle %d MiB; put %s (%.0f MB/s of a core), all %s, processor %s (%.0f MB/s of a core); %d objects, cut %s",
			c.keys, c.active, records, float64(size)/1e6, idle>>20, u.memory>>20, (u.memory-idle)>>20, put.Round(time.Second), float64(size)/1e6/putUsed.Seconds(),
			time.Since(began).Round(time.Second), used, float64(size)/1e6/used.Seconds(), objects, d.reasons("clicks"))
		d.kill()
	}
}

// TestMeasureManyPartitions spreads 100,000 partitions over twelve intervals, as an hour of the usual 300 seconds has them, in a daemon of
// 512 MiB with the max_active of the default: in each a twelfth is new, and one record in sixteen is of a partition that
// came before. HYDRANT_MEASURE_SECONDS is what the hour is compressed to, HYDRANT_MEASURE_KEYS another number of partitions,
// HYDRANT_MEASURE_MB the megabytes of JSON. It prints memory above the idle process in each interval. Nothing may be refused,
// fail, or lie in another folder.
func TestMeasureManyPartitions(t *testing.T) {
	measuring(t)
	const intervals = 12
	keys, seconds := number(t, "HYDRANT_MEASURE_KEYS", 100_000), number(t, "HYDRANT_MEASURE_SECONDS", 480)
	size := int64(number(t, "HYDRANT_MEASURE_MB", 960)) * 1e6
	interval := time.Duration(seconds) * time.Second / intervals
	d := configure(t, fmt.Sprintf(`limits: { memory: 512MiB, disk: 20GiB }
streams:
  - name: clicks
    partition: { keys: { p: .p }, event_time: { field: event_time, formats: [rfc3339], allowed_lateness: 3h, late: quarantine } }
    format: { parquet: { schema: "p string, event_id string, event_time string, event_type string, user_id string, session_id string, url string, referrer string, title string, user_agent string, ip string, status int, latency_ms double, bytes_sent bigint", compression: zstd } }
    buffer: { interval: %s }
    destination: { file: { path: ./lake, prefix: "p=!{partitionKeyFromQuery:p}/y=!{timestamp:yyyy}/" } }
`, interval)).start()
	pid := d.cmd.Process.Pid
	idle, began, used := resident(pid), time.Now(), processorTime(t, pid)
	const usual = 880 // bytes of a record
	rate := float64(size) / usual / float64(seconds)
	var peaks []string
	watched, open := d.watch(), int64(0)
	met := map[uint64]bool{}
	records := d.fill(t, "clicks", size, func(i uint64) string {
		if due := began.Add(time.Duration(float64(i) / rate * float64(time.Second))); i%500 == 0 {
			time.Sleep(time.Until(due))
			open = max(open, d.counter(`hydrant_active_partitions{stream="clicks"}`))
		}
		n := uint64(float64(i) / rate / interval.Seconds()) // of the interval
		if int(n) > len(peaks) {
			peaks = append(peaks, strconv.FormatInt((watched().memory-idle)>>20, 10))
			watched = d.watch()
		}
		n = min(n, intervals-1)
		from, until := uint64(keys)*n/intervals, uint64(keys)*(n+1)/intervals
		key := from + i%max(until-from, 1)
		if r := mix(i); r%16 == 0 && from > 0 {
			key = r / 16 % from
		}
		met[key] = true
		return strconv.FormatUint(key, 10)
	})
	d.flushFor("clicks", 20*time.Minute)
	peaks = append(peaks, strconv.FormatInt((watched().memory-idle)>>20, 10))
	used = processorTime(t, pid) - used
	if s := d.status("clicks"); s.Delivered != records || s.Accepted != records {
		t.Errorf("%d of %d records delivered: %+v", s.Delivered, records, s)
	}
	if n := d.counter(`hydrant_throttled_records_total{stream="clicks"}`); n != 0 {
		t.Errorf("%d records were refused", n)
	}
	objects, folders := withSuffix(walk(t, filepath.Join(d.dir, "lake")), ".parquet"), map[string]bool{}
	for _, path := range objects {
		folders[filepath.Dir(path)] = true
	}
	if len(folders) != len(met) {
		t.Errorf("%d folders for %d partitions", len(folders), len(met))
	}
	t.Logf("%d partitions in %s: %d records, %.0f MB; above idle %s MiB by interval; at most %d active; all %s, processor %s; %d objects, cut %s",
		len(met), time.Duration(seconds)*time.Second, records, float64(size)/1e6, strings.Join(peaks, ", "), open, time.Since(began).Round(time.Second), used, len(objects), d.reasons("clicks"))
}

// TestMeasureFileSize cuts by file_size in a daemon of 512 MiB, with HYDRANT_MEASURE_MB of JSON in two partitions, of which one has
// three quarters, and prints the sizes of objects.
func TestMeasureFileSize(t *testing.T) {
	measuring(t)
	size := int64(number(t, "HYDRANT_MEASURE_MB", 8000)) * 1e6
	target := number(t, "HYDRANT_MEASURE_FILE_MIB", 256)
	d := configure(t, fmt.Sprintf(`limits: { memory: 512MiB, disk: 30GiB }
streams:
  - name: clicks
    partition: { keys: { p: .p } }
    format: { parquet: { schema: "p string, event_id string, event_time string, event_type string, user_id string, session_id string, url string, referrer string, title string, user_agent string, ip string, status int, latency_ms double, bytes_sent bigint", compression: snappy } }
    buffer: { file_size: %dMiB, interval: 15m }
    destination: { file: { path: ./lake, prefix: "p=!{partitionKeyFromQuery:p}/" } }
`, target)).start()
	idle := resident(d.cmd.Process.Pid)
	watched := d.watch()
	d.fill(t, "clicks", size, func(i uint64) string { return strconv.FormatUint(min(mix(i)%4, 1), 10) })
	stored := func() []string { return withSuffix(walk(t, filepath.Join(d.dir, "lake")), ".parquet") }
	for objects, since := -1, time.Now(); time.Since(since) < 20*time.Second; <-time.After(time.Second) { // what is full by then
		if n := len(stored()); n != objects {
			objects, since = n, time.Now()
		}
	}
	u := watched()
	var sizes []int64
	for _, path := range stored() {
		sizes = append(sizes, length(t, path)>>20)
	}
	slices.Sort(sizes)
	reasons := d.reasons("clicks")
	d.flushFor("clicks", 10*time.Minute)
	if len(sizes) == 0 {
		t.Fatalf("%d MB make no object of %d MiB", size/1e6, target)
	}
	t.Logf("objects of %d MiB: median %d, all %d; above idle %d MiB; cut %s", target, sizes[len(sizes)/2], sizes, (u.memory-idle)>>20, reasons)
}

func length(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// mix scatters numbers.
func mix(i uint64) uint64 {
	i ^= i >> 31
	i *= 0x7fb5d329728ea185
	i ^= i >> 27
	i *= 0x81dadef4bc2dd44d
	return i ^ i>>33
}

// fill puts clicks with a member p until there are size bytes of them, over two connections, and returns how many.
func (d *daemon) fill(t *testing.T, stream string, size int64, p func(i uint64) string) (records int64) {
	t.Helper()
	const call = 4 << 20
	bodies := make(chan []byte, 2)
	var sending sync.WaitGroup
	for range 2 {
		sending.Go(func() {
			for body := range bodies {
				for deadline := time.Now().Add(5 * time.Minute); ; {
					resp, err := http.Post(d.api+"/v1/streams/"+stream+"/records", "application/x-ndjson", bytes.NewReader(body))
					if err != nil {
						t.Error(err)
						break
					}
					resp.Body.Close()
					if resp.StatusCode == http.StatusOK {
						break
					}
					if resp.StatusCode != http.StatusServiceUnavailable || time.Now().After(deadline) {
						t.Errorf("put: %s", resp.Status)
						break
					}
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	var body []byte
	i := uint64(0)
	for _, r := range (sample.Clickstream{Seed: sample.DefaultSeed}).All(0, 1<<40) {
		n := len(body)
		body = append(append(append(append(body, `{"p":"`...), p(i)...), `",`...), r[1:]...)
		body = append(bytes.TrimSuffix(body, []byte("\n")), '\n')
		size -= int64(len(body) - n - 1)
		records++
		if i++; len(body) > call-4096 || size <= 0 {
			bodies <- body
			body = nil
		}
		if size <= 0 {
			break
		}
	}
	close(bodies)
	sending.Wait()
	return records
}

// flushFor is flush with patience.
func (d *daemon) flushFor(stream string, limit time.Duration) {
	d.t.Helper()
	for deadline := time.Now().Add(limit); ; {
		if status, body := d.call("POST", d.admin+"/v1/streams/"+stream+"/flush?timeout=60s", ""); status == http.StatusOK {
			return
		} else if time.Now().After(deadline) {
			d.t.Fatalf("flush %s: %d %s", stream, status, body)
		}
	}
}

// reasons are the cuts of a stream by reason.
func (d *daemon) reasons(stream string) string {
	_, body := d.call("GET", d.admin+"/metrics", "")
	var out []string
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, "hydrant_batches_cut_total{reason=\""); ok && strings.Contains(rest, `stream="`+stream+`"`) && !strings.HasSuffix(strings.TrimSpace(rest), " 0") {
			reason, _, _ := strings.Cut(rest, `"`)
			out = append(out, reason+" "+strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]))
		}
	}
	return strings.Join(out, ", ")
}
