//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hydrant/e2e/parts"
	"hydrant/e2e/parts/faultproxy"
)

// measuring skips what takes minutes and proves nothing that other tests do not: it yields figures.
func measuring(t *testing.T) {
	t.Helper()
	if os.Getenv("HYDRANT_MEASURE") == "" {
		t.Skip("a measurement: set HYDRANT_MEASURE=1, on a machine that does nothing else")
	}
}

// TestMeasureSync puts as fast as clients on the same machine can, into a daemon that syncs and into one that
// was built not to, in turn, and prints the ratios of neighbours in time: a shared machine changes its speed from
// one minute to the next. Both daemons make Parquet and deliver it.
func TestMeasureSync(t *testing.T) {
	measuring(t)
	unsynced, err := buildTagged("benchnosync")
	if err != nil {
		t.Fatal(err)
	}
	const rounds, length = 15, 4 * time.Second
	rates := map[string][]float64{}
	for i := range rounds {
		order := []string{"synced", "unsynced"}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, name := range order {
			program := map[string]string{"unsynced": unsynced}[name]
			d := configure(t, `limits: { memory: 1GiB, disk: 8GiB }
streams:
  - name: s
    format: { parquet: { schema: "producer bigint, n bigint, pad string, sum string", compression: zstd } }
    buffer: { size: 64MiB, interval: 5s }
    destination: { file: { path: ./lake, prefix: "in/" } }
`)
			d.program = program
			d.start()
			var producers []*producer
			for i := range 8 {
				producers = append(producers, &producer{number: i, stream: "s", endpoint: d.api, records: 500, pad: 2000})
			}
			end := season(t, producers)
			warm := time.Now()
			eventually(t, "warm", func() bool { return time.Since(warm) > time.Second })
			before, began := acknowledged(producers), time.Now()
			eventually(t, "enough", func() bool { return time.Since(began) > length })
			rates[name] = append(rates[name], float64(acknowledged(producers)-before)/time.Since(began).Seconds())
			end()
			d.kill()
		}
	}
	var ratios []float64
	for i := range rounds {
		ratios = append(ratios, rates["synced"][i]/rates["unsynced"][i])
	}
	slices.Sort(ratios)
	for name := range rates {
		slices.Sort(rates[name])
		t.Logf("%s: records per second %.0f, median %.0f", name, rates[name], rates[name][rounds/2])
	}
	t.Logf("records with syncs, of those without: median %.2f, quartiles %.2f and %.2f", ratios[rounds/2], ratios[rounds/4], ratios[rounds-1-rounds/4])
}

// TestMeasureRecovery fills the largest ring that there is with rows that nobody has cut, and the disk with packs
// that nobody takes (HYDRANT_MEASURE_PACKS GiB), kills the daemon, and measures how long the next one takes to be
// ready. The page cache of the data directory is dropped before every other start.
func TestMeasureRecovery(t *testing.T) {
	measuring(t)
	gib := int64(number(t, "HYDRANT_MEASURE_PACKS", 1))
	store := parts.MinIO(t)
	proxy := faultproxy.New(t, store.Endpoint)
	outage(t, store, proxy)
	stream := func(name, buffer string) string {
		return fmt.Sprintf(`  - name: %s
    format: { text: { delimiter: after } }
    buffer: %s
    destination: { s3: { bucket: lake, endpoint: %q, prefix: "%s/", credentials: { access_key_id: %s, secret_access_key: %s } } }
`, name, buffer, proxy.URL, name, store.AccessKey, store.SecretKey)
	}
	d := configure(t, "limits: { memory: 6GiB, disk: 30GiB }\nstreams:\n"+stream("packs", "{ size: 64MiB, interval: 5s }")+stream("rows", "{ size: 5GiB, interval: 1h }"))
	d.start()
	fill := func(name string, until func() bool) {
		var producers []*producer
		for i := range 8 {
			producers = append(producers, &producer{number: i, stream: name, endpoint: d.api, records: 400, pad: 16 << 10, once: true})
		}
		end := season(t, producers)
		defer end()
		for deadline := time.Now().Add(20 * time.Minute); !until(); <-time.After(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not fill up", name)
			}
		}
	}
	packs := func() int64 { return allocated(filepath.Join(d.data, "packs")) }
	fill("packs", func() bool { return packs() >= gib<<30 })
	d.flushAway("packs")
	ring := func() int64 { return d.counter("hydrant_journal_bytes") }
	// An eighth of each slot is for the ledger, and two slots are kept free: the ring is full at about 865 MB.
	fill("rows", func() bool { return ring() > 1<<30*25/32 })
	rows := d.status("rows").Backlog
	t.Logf("%d MiB of packs, %d MiB of the journal in use, %d rows without a pack", packs()>>20, ring()>>20, rows)
	d.kill()
	for i := range 6 {
		cache := "warm"
		if i%2 == 1 {
			cache = "dropped"
			for _, path := range walk(t, d.data) {
				command(t, "dd", "of="+path, "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none")
			}
		}
		began := time.Now()
		d.launch()
		for !d.ready() {
			<-time.After(time.Millisecond)
			if time.Since(began) > time.Minute {
				t.Fatalf("not ready after a minute: %s", tail(d.log.String(), 2000))
			}
		}
		ready := time.Since(began)
		opened := d.log.String()[strings.LastIndex(d.log.String(), `msg="data directory opened"`):]
		line, _, _ := strings.Cut(opened, "\n")
		t.Logf("page cache %s: ready after %s (%s)", cache, ready.Round(time.Millisecond), line[strings.LastIndex(line, "took="):])
		if got := d.status("rows").Backlog; got != rows {
			t.Errorf("%d rows wait, %d before", got, rows)
		}
		d.kill()
	}
}

// flushAway has what waits cut, without waiting for the destination.
func (d *daemon) flushAway(stream string) {
	d.t.Helper()
	d.call("POST", d.admin+"/v1/streams/"+stream+"/flush?timeout=1s", "")
}
