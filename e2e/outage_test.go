//go:build linux

package e2e

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hydrant/e2e/parts"
	"hydrant/e2e/parts/faultproxy"
)

// memorySlack is what a process may take beyond limits.memory, in bytes: the program itself, mapped from its
// file, and what the garbage collector needs while it catches up.
const memorySlack = 48 << 20

// usage is the most that a daemon took of memory and disk, looked at every few milliseconds.
type usage struct {
	memory, disk int64 // bytes; memory is resident
	looks        int
}

// watch looks at a daemon's process and data directory until end is called.
func (d *daemon) watch() (end func() usage) {
	stop := make(chan struct{})
	var running sync.WaitGroup
	var u usage
	pid := d.cmd.Process.Pid
	running.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			u.memory = max(u.memory, resident(pid))
			u.disk = max(u.disk, allocated(d.data))
			u.looks++
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	})
	return func() usage {
		close(stop)
		running.Wait()
		return u
	}
}

// resident is the memory of a process, 0 when it is gone.
func resident(pid int) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return n << 10
		}
	}
	return 0
}

// allocated is the disk that the files below a directory take. Files may go while it counts.
func allocated(dir string) (n int64) {
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				n += st.Blocks * 512
			}
		}
		return nil
	})
	return n
}

// diskRefusals counts calls that were refused because the disk is full, or a stream's share of it.
const diskRefusals = `hydrant_put_refused_total{operation="PutRecordBatch",reason="disk"}`

// outage kills the store, until end is called and it serves again.
func outage(t *testing.T, store *parts.S3Server, proxy *faultproxy.Proxy) (end func()) {
	t.Helper()
	proxy.Inject(faultproxy.Rule{Fault: faultproxy.DropBefore(), Times: -1})
	store.Kill(t)
	return func() {
		store.Restart(t)
		serves(t, store, "lake")
		proxy.Clear()
	}
}

// outageStreams are some whose destination is dead and one whose destination lives.
func outageStreams(d *daemon, dead int) (all []*producer) {
	for i := range dead + 1 {
		name := fmt.Sprintf("dead%d", i)
		if i == dead {
			name = "alive"
		}
		all = append(all, &producer{number: i, stream: name, endpoint: d.api, records: 200, pad: 4 << 10, once: true})
	}
	return all
}

func outageYAML(store *parts.S3Server, endpoint string, dead int, limits string) string {
	var y strings.Builder
	fmt.Fprintf(&y, "limits: { %s }\nstreams:\n", limits)
	for i := range dead {
		fmt.Fprintf(&y, `  - name: dead%[1]d
    format: { text: { delimiter: after, compression: gzip } }
    buffer: { size: 8MiB, interval: 2s }
    destination: { s3: { bucket: lake, endpoint: %[2]q, prefix: "dead%[1]d/d=!{timestamp:dd}/", error_output_prefix: "errors/dead%[1]d/!{firehose:error-output-type}/",
      credentials: { access_key_id: %[3]s, secret_access_key: %[4]s } } }
`, i, endpoint, store.AccessKey, store.SecretKey)
	}
	return y.String() + `  - name: alive
    format: { text: { delimiter: after, compression: gzip } }
    buffer: { size: 1MiB, interval: 1s }
    destination: { file: { path: ./lake, prefix: "alive/d=!{timestamp:dd}/", error_output_prefix: "errors/alive/!{firehose:error-output-type}/" } }
`
}

// TestLongOutage lets the store be dead while producers put as fast as they can. Memory stays within its
// limit, packs grow up to the share of the disk that dead destinations may have, then whole calls are refused
// with the answer that SDKs repeat; a stream with another destination goes on beside them. When the store is
// back everything arrives once.
func TestLongOutage(t *testing.T) {
	const dead, memoryLimit, diskLimit = 3, 128 << 20, 256 << 20
	duck := parts.DuckDB(t)
	store := parts.MinIO(t)
	store.CreateBucket(t, "lake")
	proxy := faultproxy.New(t, store.Endpoint)
	d := configure(t, outageYAML(store, proxy.URL, dead, "memory: 128MiB, disk: 256MiB")).start()
	out := outage(t, store, proxy)

	watched := d.watch()
	producers := outageStreams(d, dead)
	alive := producers[dead]
	alive.pause = 10 * time.Millisecond // it is not what fills the disk
	end := season(t, producers)
	defer end()
	began := time.Now()
	eventually(t, "puts to every stream with a dead destination are refused", func() bool {
		for _, p := range producers[:dead] {
			if p.refused.Load() < 50 {
				return false
			}
		}
		return d.counter(diskRefusals) > 200
	})
	t.Logf("full after %s", time.Since(began).Round(time.Millisecond))

	// The other stream goes on: it is acknowledged and delivered.
	before, arrived := alive.n.Load(), d.status("alive").Delivered
	eventually(t, "records are acknowledged beside dead destinations", func() bool { return alive.n.Load() > before+200 })
	eventually(t, "records are delivered beside dead destinations", func() bool { return d.status("alive").Delivered > arrived+200 })
	packs := allocated(filepath.Join(d.data, "packs"))
	if got := d.metric("hydrant_accepting"); got != "1" {
		t.Errorf("hydrant_accepting is %s while a stream is still taken", got)
	}
	if !d.ready() {
		t.Error("an outage of a destination made the daemon not ready")
	}
	if n := alive.refused.Load(); n > alive.n.Load()/20 {
		t.Errorf("%d calls of the stream with a living destination were refused, %d of its records acknowledged", n, alive.n.Load())
	}
	refused := make([]int64, len(producers))
	held := make([]int64, len(producers))
	for i, p := range producers {
		refused[i], held[i] = p.refused.Load(), p.n.Load()
	}

	// The store is back, and producers go on: they are taken again without a restart, and what is new is not
	// held up by what had waited.
	began = time.Now()
	out()
	backlog := acknowledged(producers[:dead])
	eventually(t, "puts to every stream are taken again", func() bool {
		for i, p := range producers {
			if p.n.Load() < held[i]+1000 {
				return false
			}
		}
		return true
	})
	again := time.Since(began)
	eventually(t, "as many records are delivered as waited", func() bool {
		var n int64
		for _, p := range producers[:dead] {
			n += d.status(p.stream).Delivered
		}
		return n >= backlog
	})
	delivered := time.Since(began)
	end()
	u := watched()
	for _, p := range producers {
		d.flush(p.stream)
	}
	t.Logf("%d looks: memory at most %d MiB of %d, disk at most %d MiB of %d, %d MiB of packs; calls refused while the store was dead: %v (the last is the living stream's)",
		u.looks, u.memory>>20, memoryLimit>>20, u.disk>>20, diskLimit>>20, packs>>20, refused)
	t.Logf("the store was back: every stream taken again after %s, %d records that had waited delivered after %s",
		again.Round(time.Millisecond), backlog, delivered.Round(time.Millisecond))
	if u.memory > memoryLimit+memorySlack {
		t.Errorf("the process took %d MiB of memory, more than %d and %d of slack", u.memory>>20, memoryLimit>>20, memorySlack>>20)
	}
	if u.disk > diskLimit {
		t.Errorf("the data directory took %d MiB, more than %d", u.disk>>20, diskLimit>>20)
	}
	if u.disk < diskLimit*6/10 {
		t.Errorf("the data directory took %d MiB only: refusals came before the disk was used", u.disk>>20)
	}
	judgeOutage(t, duck, store, d, producers, "alive")
}

// judgeOutage counts what is in the bucket and, of the streams with files, in the lake.
func judgeOutage(t *testing.T, duck *parts.Duck, store *parts.S3Server, d *daemon, producers []*producer, files ...string) {
	t.Helper()
	dir := t.TempDir()
	bucket := filepath.Join(dir, "bucket")
	store.Fetch(t, "lake", bucket)
	var places []place
	for _, p := range producers {
		from := bucket
		for _, f := range files {
			if f == p.stream {
				from = lake(d)
			}
		}
		places = append(places, placeOf(t, from, p.stream, false, true))
	}
	sent, acked := logs(t, dir, producers)
	v, found := judge(t, duck, sent, acked, places)
	t.Log(v.String())
	if !v.clean() || v.acked == 0 || v.failed != 0 {
		t.Errorf("after an outage: %s", &v)
	}
	for _, p := range producers {
		d.balance(p.stream, found[p.stream], 0)
	}
}

// TestDeliveryOnAFullDisk: no byte is left on the disk when the store comes back; everything is delivered
// all the same, from packs and from rows that have no pack yet, and nothing had to be given free for it.
func TestDeliveryOnAFullDisk(t *testing.T) {
	g := smallGround(t, "288m")
	duck := parts.DuckDB(t)
	store := parts.MinIO(t)
	store.CreateBucket(t, "lake")
	proxy := faultproxy.New(t, store.Endpoint)
	yaml := outageYAML(store, proxy.URL, 2, "memory: 128MiB, disk: 256MiB")
	yaml = strings.Replace(yaml, "interval: 2s", "interval: 300s", 1) // rows of dead0 wait for the size, then in part
	d := configureAt(t, t.TempDir(), g.data, yaml)
	t.Cleanup(d.kill)
	d.start()
	out := outage(t, store, proxy)
	producers := outageStreams(d, 2)
	end := season(t, producers)
	defer end()
	eventually(t, "a backlog", func() bool {
		return producers[0].n.Load() > 5000 && producers[1].n.Load() > 5000 && d.metric(`hydrant_outstanding_batches{stream="dead1"}`) != "0"
	})
	g.fill()
	eventually(t, "puts are refused on a full disk", func() bool { return producers[0].refused.Load() > 10 && producers[1].refused.Load() > 10 })
	end()
	var refused int64
	for _, p := range producers {
		refused += p.refused.Load()
	}
	t.Logf("%d records acknowledged, %d calls refused, then the disk was full and the store came back", acknowledged(producers), refused)

	eventually(t, "nothing is left of the disk", func() bool { // a cut that found no room gives some back
		g.fill()
		var space syscall.Statfs_t
		err := syscall.Statfs(d.data, &space)
		return err == nil && space.Bavail*uint64(space.Bsize) < 64<<10
	})
	if rows := d.metric(`hydrant_disk_used_bytes{kind="reserved"}`); rows == "0" {
		t.Error("no rows wait for a pack: they were to be packed on the full disk")
	}
	out()
	for _, p := range producers {
		d.flush(p.stream)
	}
	g.fill() // still full, but for what delivery has given back
	judgeOutage(t, duck, store, d, producers, "alive")
	if code, body := d.call("POST", d.api+"/", "{}", "Content-Type", "application/x-amz-json-1.1", "X-Amz-Target", "Firehose_20150804.ListDeliveryStreams"); code != http.StatusOK {
		t.Errorf("the API on a full disk: %d %s", code, body)
	}
}
