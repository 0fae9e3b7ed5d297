//go:build unix

package e2e

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hydrant/e2e/parts"
)

// reconfigure replaces the file's text below the first lines, which name data directory and listeners. The new file
// takes the place of the old one at once.
func (d *daemon) reconfigure(streams string) {
	d.t.Helper()
	old, err := os.ReadFile(d.config)
	if err != nil {
		d.t.Fatal(err)
	}
	head := strings.Join(strings.SplitAfterN(string(old), "\n", 4)[:3], "")
	next := d.config + ".next"
	if err := os.WriteFile(next, []byte(head+streams), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(next, d.config); err != nil {
		d.t.Fatal(err)
	}
}

// reload asks for the file to be read again and waits for what comes of it.
func (d *daemon) reload(outcome string) {
	d.t.Helper()
	before := d.reloads(outcome)
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		d.t.Fatal(err)
	}
	eventually(d.t, "a reload that is "+outcome, func() bool { return d.reloads(outcome) > before })
}

// alive tells whether the admin listener answers, which it does before the data directory is read.
func (d *daemon) alive() bool {
	client := http.Client{Timeout: 100 * time.Millisecond}
	resp, err := client.Get(d.admin + "/healthz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return true
}

func (d *daemon) reloads(outcome string) int64 {
	return d.counter(fmt.Sprintf("hydrant_config_reloads_total{outcome=%q}", outcome))
}

// TestReload changes a running daemon in every way that the file allows, and counts the records.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	lake := filepath.Join(dir, "lake")
	stream := func(name, prefix, more string) string {
		return fmt.Sprintf("  - { name: %s, format: { text: { delimiter: after } }, destination: { file: { path: %q, prefix: '%s/' } }%s }\n", name, lake, prefix, more)
	}
	d := configure(t, "streams:\n"+stream("a", "a1", ", buffer: { interval: 1h }")).start()
	put := func(stream, line string, want int) string {
		t.Helper()
		code, body := d.call("POST", d.api, fmt.Sprintf(`{"DeliveryStreamName":%q,"Record":{"Data":%q}}`, stream, base64.StdEncoding.EncodeToString([]byte(line))), "X-Amz-Target", "Firehose_20150804.PutRecord", "Content-Type", "application/x-amz-json-1.1")
		if code != want {
			t.Errorf("put to %s: %d %s, want %d", stream, code, body, want)
		}
		return body
	}
	found := func(prefix string) (lines []string) {
		t.Helper()
		for _, path := range walk(t, filepath.Join(lake, prefix)) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")...)
		}
		slices.Sort(lines)
		return lines
	}
	equal := func(prefix string, want ...string) {
		t.Helper()
		if got := found(prefix); !slices.Equal(got, want) {
			t.Errorf("under %s: %q, want %q", prefix, got, want)
		}
	}
	put("a", "one", 200)
	d.flush("a")
	put("a", "two", 200)

	// What waits follows the new prefix; a new stream takes records at once.
	d.reconfigure("streams:\n" + stream("a", "a2", ", buffer: { interval: 1h }") + stream("b", "b1", ""))
	d.reload("applied")
	put("b", "three", 200)
	d.flush("a")
	d.flush("b")
	equal("a1", "one")
	equal("a2", "two")
	equal("b1", "three")

	// A file with faults changes nothing and the log names each of them.
	d.reconfigure("streams:\n" + stream("a", "a3", ", buffer: { size: 5 }") + "  - { name: b, destination: { file: {} } }\n")
	d.reload("invalid")
	if v := d.counter("hydrant_config_reload_success"); v != 0 {
		t.Errorf("hydrant_config_reload_success %d", v)
	}
	for _, want := range []string{"streams[0].buffer.size: is not a size", "streams[1].destination.file.path: is required", "nothing has changed"} {
		if !strings.Contains(d.log.String(), want) {
			t.Errorf("the log has no %q", want)
		}
	}
	put("a", "four", 200)
	put("b", "five", 200)

	// A stream that is taken out refuses and drains, and the others go on.
	d.reconfigure("stop: { drain: 10s }\nlog: { format: json }\nlimits: { memory: 256MiB }\nstreams:\n" + stream("b", "b1", ""))
	d.reload("partial")
	if body := put("a", "refused", 400); !strings.Contains(body, "ResourceNotFoundException") {
		t.Errorf("a put to a stream that was taken out: %s", body)
	}
	put("b", "six", 200)
	eventually(t, "the stream that was taken out is delivered and gone", func() bool {
		code, _ := d.call("GET", d.admin+"/v1/streams/a", "")
		return code == 404
	})
	equal("a2", "four", "two")
	for _, want := range []string{"stream is no longer in the configuration", `"key":"limits.memory"`, `"msg":"configuration reloaded"`} {
		if !strings.Contains(d.log.String(), want) {
			t.Errorf("the log has no %q", want)
		}
	}

	// Watched from now on: the next change needs no signal.
	d.reconfigure("watch: true\nstop: { drain: 10s }\nstreams:\n" + stream("b", "b1", ""))
	d.reload("applied")
	applied := d.reloads("applied")
	d.reconfigure("watch: true\nstop: { drain: 10s }\nstreams:\n" + stream("a", "a4", "") + stream("b", "b2", ", buffer: { interval: 1h }"))
	eventually(t, "the file is noticed", func() bool { return d.reloads("applied") > applied })
	put("a", "seven", 200)
	if code := d.stop(); code != 0 { // drains, as the file says by now
		t.Errorf("exit code %d", code)
	}
	equal("a4", "seven")
	if all := len(found("")); all != 7 {
		t.Errorf("%d lines, want 7", all)
	}
}

// variant is what a storm makes of its streams' settings. It never moves a destination, nor changes how its objects
// are read.
type variant struct {
	number  int
	without string // a stream that is taken out; "": none
	buffers []string
}

var stormBuffers = []string{"size: 1MiB, interval: 1s", "size: 64KiB, interval: 0s", "size: 256KiB, interval: 2s", "file_size: 32KiB, interval: 1s"}

func (v *variant) draw(r *rand.Rand, names []string) {
	v.number++
	v.without = ""
	if r.IntN(3) == 0 {
		v.without = names[r.IntN(len(names))]
	}
	v.buffers = nil
	for range names {
		v.buffers = append(v.buffers, stormBuffers[r.IntN(len(stormBuffers))])
	}
}

// TestReloadUnderLoad reloads again and again while clients put, and takes streams out and puts them back. No record
// that was acknowledged may be lost, and none may be there twice.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	duck := parts.DuckDB(t)
	reloads := number(t, "HYDRANT_RELOADS", 40)
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	dir := t.TempDir()
	lake := filepath.Join(dir, "lake")
	names := []string{"rows", "lines", "zipped"}
	v := variant{buffers: []string{stormBuffers[0], stormBuffers[0], stormBuffers[0]}}
	yaml := func() string {
		formats := []string{`parquet: { schema: "producer bigint, n bigint, pad string, sum string" }`, "text: { delimiter: after }", "text: { delimiter: after, compression: gzip }"}
		text := "limits: { memory: 256MiB, disk: 1GiB }\nstreams:\n"
		for i, name := range names {
			if name != v.without {
				text += fmt.Sprintf("  - { name: %s, format: { %s }, buffer: { %s }, destination: { file: { path: %q, prefix: '%[1]s/v%[5]d/!{timestamp:HH}/', error_output_prefix: 'errors/%[1]s/!{firehose:error-output-type}/' } } }\n",
					name, formats[i], v.buffers[i], lake, v.number)
			}
		}
		return text
	}
	d := configure(t, yaml()).start()
	var producers []*producer
	for i, name := range []string{"rows", "lines", "zipped", "rows", "lines", "zipped"} {
		producers = append(producers, &producer{number: i, stream: name, endpoint: d.api, records: 80, pad: 300, pause: 5 * time.Millisecond, misfits: name == "rows"})
	}
	end := season(t, producers)
	defer end()
	for range reloads {
		v.draw(r, names)
		d.reconfigure(yaml())
		d.reload("applied")
		<-time.After(time.Duration(r.IntN(int(150 * time.Millisecond))))
	}
	v.without = ""
	d.reconfigure(yaml())
	d.reload("applied")
	before := acknowledged(producers)
	eventually(t, "records acknowledged after the last reload", func() bool { return acknowledged(producers) > before })
	end()
	var places []place
	for i, name := range names {
		d.flush(name)
		places = append(places, placeOf(t, lake, name, i == 0, i == 2))
		if s := d.status(name); s.Delivered+s.Failed != s.Accepted || s.Unaccounted != 0 || s.Backlog != 0 {
			t.Errorf("counters of %s do not balance: %+v", name, s)
		}
	}
	sent, acked := logs(t, dir, producers)
	got, _ := judge(t, duck, sent, acked, places)
	t.Logf("%d reloads: %s", reloads, &got)
	if !got.clean() || got.acked == 0 {
		t.Errorf("after %d reloads: %s", reloads, &got)
	}
	if strings.Contains(d.log.String(), "level=ERROR") {
		t.Errorf("log:\n%s", tail(d.log.String(), 4000))
	}
}
