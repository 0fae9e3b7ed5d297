package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hydrant/e2e/parts"
)

// put sends one PutRecord and returns status and body.
func (d *daemon) put(stream, data string) (int, string) {
	d.t.Helper()
	return d.call("POST", d.api+"/", fmt.Sprintf(`{"DeliveryStreamName":%q,"Record":{"Data":%q}}`, stream, base64.StdEncoding.EncodeToString([]byte(data))),
		"Content-Type", "application/x-amz-json-1.1", "X-Amz-Target", "Firehose_20150804.PutRecord")
}

// mustPut is a put that is acknowledged.
func (d *daemon) mustPut(stream, data string) {
	d.t.Helper()
	if code, body := d.put(stream, data); code != http.StatusOK || !strings.Contains(body, `"RecordId"`) {
		d.t.Fatalf("put to %s: %d %s", stream, code, body)
	}
}

// delivered is the text of all objects of a file destination, in no order.
func delivered(t testing.TB, dir string) string {
	t.Helper()
	var all strings.Builder
	for _, path := range walk(t, dir) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

func lake(d *daemon) string { return filepath.Join(d.dir, "lake") }

const textStream = `streams:
  - name: s
    format: { text: { delimiter: after } }
    buffer: { size: 1MiB, interval: 1s }
    destination: { file: { path: ./lake, prefix: "in/" } }
`

func TestTwoProcessesOnOneDataDir(t *testing.T) {
	d := configure(t, textStream).start()
	second := exec.Command(binary, "run", "-c", strings.Replace(d.config, "hydrant.yaml", "second.yaml", 1))
	second.Dir = d.dir
	b, err := os.ReadFile(d.config)
	if err != nil {
		t.Fatal(err)
	}
	for _, used := range []string{d.api, d.admin} {
		b = bytes.ReplaceAll(b, []byte(strings.TrimPrefix(used, "http://")), []byte(freeAddress(t)))
	}
	if err := os.WriteFile(filepath.Join(d.dir, "second.yaml"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := second.CombinedOutput()
	if code := second.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	for _, want := range []string{filepath.Join(d.dir, "data"), "another process"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in what the second process says:\n%s", want, out)
		}
	}
	d.mustPut("s", "still alive")
}

func TestReadOnlyDataDir(t *testing.T) {
	d := configure(t, textStream)
	data := filepath.Join(d.dir, "data")
	if err := os.Mkdir(data, 0o555); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // permissions do not stop root; a mount does
		if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", data).CombinedOutput(); err != nil {
			t.Skipf("cannot mount here: %v %s", err, out)
		}
		t.Cleanup(func() { exec.Command("umount", data).Run() })
	}
	d.launch()
	if code := d.wait(20 * time.Second); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if log := d.log.String(); !strings.Contains(log, data) || !(strings.Contains(log, "read-only") || strings.Contains(log, "permission denied")) {
		t.Errorf("the error names neither the directory nor the cause:\n%s", log)
	}
}

// TestFullDisk fills the file system of the data directory under a running daemon: puts are refused with
// the answer that SDKs repeat, nothing that was acknowledged is lost, and when space comes back so do puts.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	d := configure(t, "limits: { disk: 128MiB, memory: 128MiB }\n"+textStream)
	data := filepath.Join(d.dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", data).CombinedOutput(); err != nil {
		t.Skipf("cannot mount here: %v %s", err, out)
	}
	t.Cleanup(func() { d.kill(); exec.Command("umount", data).Run() })
	d.start()
	d.mustPut("s", "before")

	hog := filepath.Join(data, "somebody-elses-file")
	f, err := os.Create(hog)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 1<<20); ; {
		if _, err := f.Write(chunk); err != nil {
			break
		}
	}
	f.Close()

	acked, refused := 0, 0
	pad := strings.Repeat("x", 500_000)
	eventually(t, "puts are refused on a full disk", func() bool {
		switch code, body := d.put("s", fmt.Sprintf("full-%d %s", acked, pad)); {
		case code == http.StatusOK:
			acked++
		case code == http.StatusServiceUnavailable && strings.Contains(body, "ServiceUnavailableException"):
			refused++
		default:
			t.Fatalf("put on a full disk: %d %s", code, body)
		}
		return refused > 3
	})
	if !d.ready() {
		t.Error("a full disk made the daemon not ready")
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	eventually(t, "puts are taken again", func() bool { code, _ := d.put("s", "after"); return code == http.StatusOK })
	d.flush("s")
	all := delivered(t, lake(d))
	for _, want := range append([]string{"before\n", "after\n"}, numbered("full-%d ", acked)...) {
		if n := strings.Count(all, want); n != 1 {
			t.Errorf("%q was delivered %d times", want, n)
		}
	}
	if s := d.status("s"); s.Unaccounted != 0 || s.Backlog != 0 {
		t.Errorf("after the flush: %+v", s)
	}
}

func numbered(format string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf(format, i))
	}
	return all
}

func s3Stream(store *parts.S3Server, secret string) string {
	return fmt.Sprintf(`streams:
  - name: s
    format: { text: { delimiter: after } }
    buffer: { size: 1MiB, interval: 1s }
    destination: { s3: { bucket: late-bucket, endpoint: %q, prefix: "in/",
      credentials: { access_key_id: %s, secret_access_key: %s } } }
`, store.Endpoint, store.AccessKey, secret)
}

// lastFailure waits until the stream shows a failed attempt that names want.
func lastFailure(d *daemon, want string) {
	d.t.Helper()
	eventually(d.t, "a failure that names "+want, func() bool {
		_, body := d.call("GET", d.admin+"/v1/streams/s", "")
		return strings.Contains(body, want)
	})
}

func fetched(t *testing.T, store *parts.S3Server) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "fetched")
	store.Fetch(t, "late-bucket", dir)
	return delivered(t, dir)
}

func TestMissingBucketIsWaitedFor(t *testing.T) {
	store := parts.MinIO(t)
	d := configure(t, s3Stream(store, store.SecretKey)).start()
	d.mustPut("s", "one")
	lastFailure(d, "NoSuchBucket")
	d.mustPut("s", "two")
	store.CreateBucket(t, "late-bucket")
	d.flush("s")
	if got := fetched(t, store); strings.Count(got, "one\n") != 1 || strings.Count(got, "two\n") != 1 {
		t.Errorf("delivered %q", got)
	}
	d.balance("s", 2, 0)
}

// TestBucketCorrectedInTheFile: what was cut for a bucket that does not exist goes to the right one.
func TestBucketCorrectedInTheFile(t *testing.T) {
	t.Parallel()
	store := parts.MinIO(t)
	store.CreateBucket(t, "late-bucket")
	right := s3Stream(store, store.SecretKey)
	d := configure(t, strings.Replace(right, "late-bucket", "lat-bucket", 1)).start()
	d.mustPut("s", "one")
	lastFailure(d, "NoSuchBucket")
	d.stop()
	b, err := os.ReadFile(d.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.config, bytes.ReplaceAll(b, []byte("lat-bucket"), []byte("late-bucket")), 0o600); err != nil {
		t.Fatal(err)
	}
	d.start()
	d.mustPut("s", "two")
	d.flush("s")
	if got := fetched(t, store); strings.Count(got, "one\n") != 1 || strings.Count(got, "two\n") != 1 {
		t.Errorf("delivered %q", got)
	}
	d.balance("s", 2, 0)
}

func TestWrongCredentialsAreCorrectedByARestart(t *testing.T) {
	store := parts.MinIO(t)
	store.CreateBucket(t, "late-bucket")
	d := configure(t, s3Stream(store, "a-wrong-secret")).start()
	d.mustPut("s", "one")
	lastFailure(d, "SignatureDoesNotMatch")
	if log := d.log.String(); strings.Contains(log, "a-wrong-secret") {
		t.Error("the log holds the secret")
	}
	d.stop()
	b, err := os.ReadFile(d.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.config, bytes.ReplaceAll(b, []byte("a-wrong-secret"), []byte(store.SecretKey)), 0o600); err != nil {
		t.Fatal(err)
	}
	d.start()
	d.mustPut("s", "two")
	d.flush("s")
	if got := fetched(t, store); strings.Count(got, "one\n") != 1 || strings.Count(got, "two\n") != 1 {
		t.Errorf("delivered %q", got)
	}
}

func TestRestartWithTheStoreDown(t *testing.T) {
	store := parts.MinIO(t)
	store.CreateBucket(t, "late-bucket")
	d := configure(t, s3Stream(store, store.SecretKey)).start()
	d.mustPut("s", "before")
	store.Kill(t)
	d.mustPut("s", "down")
	d.kill()
	d.start() // it waits for no destination
	d.mustPut("s", "restarted")
	lastFailure(d, "connection refused")
	if code, body := d.call("POST", d.admin+"/v1/streams/s/flush?timeout=200ms", ""); code != http.StatusGatewayTimeout || !strings.Contains(body, "remaining_records") {
		t.Errorf("flush with the store down: %d %s", code, body)
	}
	store.Restart(t)
	d.flushFor("s", 4*time.Minute) // a MinIO that starts may keep a request until its time is up
	got := fetched(t, store)
	for _, want := range []string{"before\n", "down\n", "restarted\n"} {
		if n := strings.Count(got, want); n != 1 {
			t.Errorf("%q was delivered %d times", want, n)
		}
	}
	d.balance("s", 3, 0)
}

// TestKeyTooLong: a file name of more than 255 bytes cannot exist; the records are in the error output.
func TestKeyTooLong(t *testing.T) {
	d := configure(t, strings.Replace(textStream, `"in/"`, `"`+strings.Repeat("d", 256)+`/!{timestamp:yyyy}/"`, 1)).start()
	d.mustPut("s", "one")
	d.flush("s")
	d.balance("s", 1, 1)
	if got := delivered(t, lake(d)); !strings.Contains(got, base64.StdEncoding.EncodeToString([]byte("one"))) || !strings.Contains(got, "255") {
		t.Errorf("the error output does not hold the record and the limit: %q", got)
	}
}

func TestPauseHoldsDeliveryAndResumeContinues(t *testing.T) {
	d := configure(t, textStream).start()
	if code, body := d.call("POST", d.admin+"/v1/streams/s/pause", ""); code != http.StatusOK {
		t.Fatalf("pause: %d %s", code, body)
	}
	d.mustPut("s", "held")
	if code, body := d.call("POST", d.admin+"/v1/streams/s/flush", ""); code != http.StatusConflict {
		t.Errorf("flush of a paused stream: %d %s", code, body)
	}
	d.kill()
	d.start()
	if s := d.status("s"); s.State != "paused" || s.Backlog != 1 {
		t.Errorf("after a restart: %+v, want paused with a backlog of 1", s)
	}
	if got := delivered(t, lake(d)); got != "" {
		t.Errorf("a paused stream delivered %q", got)
	}
	if code, body := d.call("POST", d.admin+"/v1/streams/s/resume", ""); code != http.StatusOK {
		t.Fatalf("resume: %d %s", code, body)
	}
	d.flush("s")
	if got := delivered(t, lake(d)); got != "held\n" {
		t.Errorf("delivered %q after resume", got)
	}
}

// TestStopDrains: with stop.drain the backlog is delivered before the process ends; without, it stays and
// the next start delivers it.
func TestStopDrains(t *testing.T) {
	long := strings.Replace(textStream, "interval: 1s", "interval: 300s", 1)
	d := configure(t, "stop: { drain: 20s }\n"+long).start()
	d.mustPut("s", "drained")
	if code := d.stop(); code != 0 {
		t.Errorf("exit code %d after a drain that left nothing", code)
	}
	if got := delivered(t, lake(d)); got != "drained\n" {
		t.Errorf("delivered %q", got)
	}

	d = configure(t, long).start()
	d.mustPut("s", "kept")
	if code := d.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := delivered(t, lake(d)); got != "" {
		t.Errorf("delivered %q without stop.drain", got)
	}
	d.start()
	d.flush("s")
	if got := delivered(t, lake(d)); got != "kept\n" {
		t.Errorf("delivered %q by the next start", got)
	}
}

// TestRemovedStreamDrains: a stream that is gone from the file takes no more puts and delivers what it had.
func TestRemovedStreamDrains(t *testing.T) {
	d := configure(t, strings.Replace(textStream, "interval: 1s", "interval: 300s", 1)).start()
	d.mustPut("s", "last words")
	d.stop()
	b, err := os.ReadFile(d.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.config, bytes.ReplaceAll(b, []byte("name: s\n"), []byte("name: other\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	d.start()
	if code, body := d.put("s", "too late"); code != http.StatusBadRequest || !strings.Contains(body, "ResourceNotFoundException") {
		t.Errorf("put to a removed stream: %d %s", code, body)
	}
	eventually(t, "the backlog of the removed stream is delivered", func() bool { return delivered(t, lake(d)) == "last words\n" })
	d.mustPut("other", "hello")
}
