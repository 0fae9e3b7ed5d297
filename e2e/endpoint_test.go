package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hydrant/e2e/parts"
	"hydrant/sinks/http/receiver"
)

// endpointStream is a stream of the file that posts to a receiver and has its backup in dir/backup.
func endpointStream(url, http, rest string) string {
	return fmt.Sprintf("streams:\n  - name: web\n    destination: { http: { url: %q, %s } }\n    backup: { file: { path: ./backup } }\n    buffer: { interval: 0s%s }\n", url, http, rest)
}

// backedUp are the lines of the error output below a directory, expanded.
func backedUp(t *testing.T, dir string) (lines []map[string]any) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".gz") {
			return err
		}
		if !strings.Contains(path, filepath.Join("errors", "http-endpoint-failed")) {
			t.Errorf("%s is not under errors/http-endpoint-failed", path)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			return err
		}
		for d := json.NewDecoder(z); ; {
			var line map[string]any
			if err := d.Decode(&line); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			lines = append(lines, line)
		}
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return lines
}

// A strict receiver gets every record of a stream of the file once and in order, by the rules of the protocol.
func TestEndpoint(t *testing.T) {
	r := receiver.New(t, receiver.Rules{AccessKey: "k3y", ARN: "arn:aws:firehose:us-east-1:000000000000:deliverystream/web", Attributes: map[string]string{"env": "prod", "ümlaut": "\"\n"}, Gzip: true,
		Header: map[string]string{"X-Team": "web"}})
	d := configure(t, endpointStream(r.URL+"/firehose?a=b", `access_key: k3y, headers: { X-Team: web }, common_attributes: { env: prod, ümlaut: "\"\n" }`, "")).start()
	var want []string
	for i := range 50 {
		data := fmt.Sprintf("record %d", i)
		if code, body := d.put("web", data); code != http.StatusOK {
			t.Fatalf("put: %d %s", code, body)
		}
		want = append(want, data)
	}
	d.flush("web")
	var got []string
	for _, b := range r.Records() {
		got = append(got, string(b))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %d records, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	if broken := r.Broken(); len(broken) > 0 {
		t.Errorf("rules that were broken:\n%s", strings.Join(broken, "\n"))
	}
	for _, q := range r.Requests() {
		if q.Times != 1 {
			t.Errorf("request %s was taken %d times", q.ID, q.Times)
		}
	}
	d.balance("web", 50, 0)
	if shown := d.log.String() + d.cli(0, nil, "stream", "show", "web", "--admin", d.admin); strings.Contains(shown, "k3y") {
		t.Error("the access key is shown")
	}
	if n := d.counter(`hydrant_delivery_attempts_total{outcome="stored",sink="http",stream="web"}`); n != int64(len(r.Requests())) {
		t.Errorf("%d attempts counted, %d requests came", n, len(r.Requests()))
	}
}

// What an endpoint does not take in time goes to the backup, as Firehose writes it; what is too large for it in one piece
// comes in pieces.
func TestEndpointRefuses(t *testing.T) {
	r := receiver.New(t, receiver.Rules{MaxBody: 2000})
	d := configure(t, endpointStream(r.URL, "content_encoding: none, retry_duration: 0s", ", size: 1MiB")).start()
	var records []string
	for i := range 40 {
		records = append(records, fmt.Sprintf(`{"Data":"%s"}`, strings.Repeat("QUJD", 20+i%3)))
	}
	records = append(records, fmt.Sprintf(`{"Data":"%s"}`, strings.Repeat("QUJE", 1000)))
	header := []string{"Content-Type", "application/x-amz-json-1.1", "X-Amz-Target", "Firehose_20150804.PutRecordBatch"}
	if code, body := d.call("POST", d.api, `{"DeliveryStreamName":"web","Records":[`+strings.Join(records, ",")+`]}`, header...); code != http.StatusOK {
		t.Fatalf("put: %d %s", code, body)
	}
	d.flush("web")
	if got := r.Records(); len(got) != 40 {
		t.Errorf("%d records came, want 40", len(got))
	}
	lines := backedUp(t, filepath.Join(d.dir, "backup"))
	if len(lines) != 1 || lines[0]["errorCode"] != "HttpEndpoint.DestinationException" || lines[0]["dataId"] != "41.0" || lines[0]["attemptsMade"] != 1.0 ||
		!strings.Contains(fmt.Sprint(lines[0]["errorMessage"]), `"errorMessage":"status 413 of a test"`) || lines[0]["rawData"] != strings.Repeat("QUJE", 1000) {
		t.Errorf("backup: %.500v", lines)
	}
	d.balance("web", 41, 1)

	r.Inject(func(int, string) *receiver.Fault {
		return &receiver.Fault{Answer: receiver.Status(http.StatusUnauthorized)}
	})
	if code, body := d.put("web", "refused"); code != http.StatusOK {
		t.Fatalf("put: %d %s", code, body)
	}
	d.flush("web")
	if lines := backedUp(t, filepath.Join(d.dir, "backup")); len(lines) != 2 {
		t.Errorf("backup has %d lines, want 2", len(lines))
	}
	d.balance("web", 42, 2)
	if broken := r.Broken(); len(broken) > 0 {
		t.Errorf("rules that were broken:\n%s", strings.Join(broken, "\n"))
	}
}

// The daemon is killed again and again while the receiver cuts every tenth connection, before or after it has taken what
// came: every acknowledged record arrives, and what arrives twice does so under one request id with the same bytes, which the
// receiver checks.
func TestEndpointKilled(t *testing.T) {
	r := receiver.New(t, receiver.Rules{Gzip: true})
	rnd := rand.New(rand.NewPCG(5, 6))
	var mu sync.Mutex
	r.Inject(func(int, string) *receiver.Fault {
		mu.Lock()
		defer mu.Unlock()
		if rnd.IntN(10) == 0 {
			return &receiver.Fault{Store: rnd.IntN(2) == 0}
		}
		return nil
	})
	d := configure(t, endpointStream(r.URL, "retry_duration: forever", ""))
	acked, sent := map[string]bool{}, 0
	const rounds = 8
	for range rounds {
		d.start()
		until := time.Now().Add(time.Duration(200+rnd.IntN(500)) * time.Millisecond)
		for time.Now().Before(until) {
			sent++
			data := fmt.Sprintf("record %06d", sent)
			if code, _ := d.put("web", data); code == http.StatusOK {
				acked[data] = true
			}
		}
		d.kill()
	}
	r.Inject(nil)
	d.start()
	d.flush("web")
	got := map[string]int{}
	for _, b := range r.Records() {
		got[string(b)]++
	}
	again := 0
	for _, q := range r.Requests() {
		again += q.Times - 1
	}
	for data := range acked {
		if got[data] == 0 {
			t.Errorf("%q was acknowledged and has not arrived", data)
		}
	}
	for data, n := range got {
		if n > 1 {
			t.Errorf("%q came %d times, under different ids", data, n)
		}
	}
	if broken := r.Broken(); len(broken) > 0 {
		t.Errorf("rules that were broken:\n%s", strings.Join(broken, "\n"))
	}
	t.Logf("%d deaths, %d records acknowledged, %d requests, %d of them again", rounds, len(acked), len(r.Requests()), again)
	s := d.status("web")
	if s.Unaccounted != 0 || s.Backlog != 0 || s.Failed != 0 {
		t.Errorf("counters: %+v", s)
	}
}

// Plain bodies go with headers of the stream's own, and the id as Idempotency-Key.
func TestEndpointPlain(t *testing.T) {
	r := receiver.New(t, receiver.Rules{Plain: true, Gzip: true, Header: map[string]string{"Authorization": "Splunk t0ken", "Content-Type": "application/x-ndjson"}})
	d := configure(t, endpointStream(r.URL, `body: ndjson, headers: { Authorization: "Splunk t0ken" }`, "")).start()
	for i := range 3 {
		if code, body := d.put("web", fmt.Sprintf(`{"n":%d}`, i)); code != http.StatusOK {
			t.Fatalf("put: %d %s", code, body)
		}
	}
	d.flush("web")
	if got := string(bytes.Join(r.Records(), nil)); got != "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n" {
		t.Errorf("got %q", got)
	}
	if broken := r.Broken(); len(broken) > 0 {
		t.Errorf("rules that were broken:\n%s", strings.Join(broken, "\n"))
	}
}

// Telegraf's input for the protocol takes every record, and none with another key.
func TestEndpointTelegraf(t *testing.T) {
	for _, encoding := range []string{"gzip", "none"} {
		g := parts.StartTelegraf(t, "secret-key")
		d := configure(t, endpointStream(g.URL, "access_key: secret-key, content_encoding: "+encoding, "")).start()
		const n = 300
		for i := range n {
			d.mustPut("web", fmt.Sprintf(`{"n":%d}`, i))
		}
		d.flush("web")
		d.balance("web", n, 0)
		eventually(t, "Telegraf has written all", func() bool { return len(g.Values(t, "n")) >= n })
		got := g.Values(t, "n")
		slices.Sort(got)
		for i := range n {
			if len(got) != n || got[i] != float64(i) {
				t.Fatalf("%s: Telegraf has %d records, want 0 to %d once each", encoding, len(got), n-1)
			}
		}
		d.kill()
	}
	g := parts.StartTelegraf(t, "secret-key")
	d := configure(t, endpointStream(g.URL, "access_key: other-key, retry_duration: 0s", "")).start()
	d.mustPut("web", `{"n":1}`)
	d.flush("web")
	d.balance("web", 1, 1)
	if lines := backedUp(t, filepath.Join(d.dir, "backup")); len(lines) != 1 || !strings.Contains(fmt.Sprint(lines[0]["errorMessage"]), "Status 401.") {
		t.Errorf("backup: %v", lines)
	}
}
