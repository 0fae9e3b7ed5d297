//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"hydrant/sinks/http/receiver"
)

// TestMeasureEndpoint has a paused stream filled and measures how fast, and with how much of a core, what waits goes to a
// receiver on the same machine that reads and answers.
func TestMeasureEndpoint(t *testing.T) {
	measuring(t)
	for _, c := range []string{"firehose, content_encoding: none", "firehose", "ndjson"} {
		var posted atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			posted.Add(n)
			receiver.OK(w, r.Header.Get("X-Amz-Firehose-Request-Id"))
		}))
		d := configure(t, "limits: { memory: 2GiB, disk: 8GiB }\n"+endpointStream(s.URL, "body: "+c, ", size: 4MiB")).start()
		d.call("POST", d.admin+"/v1/streams/web/pause", "")
		var producers []*producer
		for i := range 4 {
			producers = append(producers, &producer{number: i, stream: "web", endpoint: d.api, records: 500, pad: 300, once: true})
		}
		end := season(t, producers)
		eventually(t, "filled", func() bool { return d.counter(`hydrant_incoming_bytes_total{stream="web"}`) > 200<<20 })
		end()
		records, bytes := d.status("web").Accepted, d.counter(`hydrant_incoming_bytes_total{stream="web"}`)
		before, began := processorTime(t, d.cmd.Process.Pid), time.Now()
		d.call("POST", d.admin+"/v1/streams/web/resume", "")
		d.flush("web")
		took, used := time.Since(began), processorTime(t, d.cmd.Process.Pid)-before
		t.Logf("%s: %d records, %.0f MB in %s, %.0f MB posted; a second %.0f records and %.0f MB; a second of one core %.0f records and %.0f MB", c, records, float64(bytes)/1e6,
			took.Round(time.Millisecond), float64(posted.Load())/1e6, float64(records)/took.Seconds(), float64(bytes)/1e6/took.Seconds(), float64(records)/used.Seconds(), float64(bytes)/1e6/used.Seconds())
		d.kill()
		s.Close()
	}
}

// processorTime is what a process has used of all cores.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	var skip string
	var user, system int64
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(text), &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &user, &system); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}
