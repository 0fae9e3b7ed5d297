// Package e2e drives the real binary with real clients into real stores, and counts with an independent
// reader what arrived. Nothing here knows the daemon's code.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the daemon, built once for all tests of the package.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "hydrant-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "hydrant")
		build := exec.Command("go", "build", "-trimpath", "-o", binary, "hydrant/cmd/hydrant")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the daemon: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// daemon is one configuration with the process that runs it now.
type daemon struct {
	t          testing.TB
	dir        string // holds hydrant.yaml and what relative paths in the configuration name
	data       string // data directory
	config     string // path of the file
	api, admin string // base URLs
	log        syncBuffer

	program string   // binary to run; "": the one that was built for all tests
	env     []string // beside the environment of the tests

	cmd  *exec.Cmd
	done chan error // the process's Wait, once
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// configure writes a configuration whose listeners are free loopback ports and whose data directory is
// dir/data; streams is the rest of the file.
func configure(t testing.TB, streams string) *daemon {
	t.Helper()
	dir := t.TempDir()
	return configureAt(t, dir, filepath.Join(dir, "data"), streams)
}

// configureAt is configure for directories of the caller's.
func configureAt(t testing.TB, dir, data, streams string) *daemon {
	t.Helper()
	d := &daemon{t: t, dir: dir, data: data}
	api, admin := freeAddress(t), freeAddress(t)
	d.api, d.admin = "http://"+api, "http://"+admin
	d.config = filepath.Join(d.dir, "hydrant.yaml")
	text := fmt.Sprintf("data_dir: %s\napi: { listen: %s }\nadmin: { listen: %s }\n%s", d.data, api, admin, streams)
	if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.kill()
		if t.Failed() {
			t.Logf("configuration:\n%s\nlog of the daemon:\n%s", text, tail(d.log.String(), 8000))
		}
	})
	return d
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// given are the addresses that freeAddress has returned.
var given sync.Map

// freeAddress is a loopback address that nobody listens on at this moment, and no other test was given.
func freeAddress(t testing.TB) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		l.Close()
		if _, taken := given.LoadOrStore(address, true); !taken {
			return address
		}
	}
}

// start runs the daemon and returns when it is ready.
func (d *daemon) start() *daemon {
	d.t.Helper()
	d.launch()
	deadline := time.Now().Add(30 * time.Second)
	for !d.ready() {
		select {
		case err := <-d.done:
			d.done <- err
			d.t.Fatalf("the daemon ended before it was ready: %v\n%s", err, tail(d.log.String(), 4000))
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("not ready after 30s\n%s", tail(d.log.String(), 4000))
		}
	}
	return d
}

// launch runs the daemon without waiting for anything.
func (d *daemon) launch() { d.t.Helper(); d.execute("run", "-c", d.config) }

// execute runs a command of the binary as the daemon's process, without waiting for anything.
func (d *daemon) execute(args ...string) {
	d.t.Helper()
	program := d.program
	if program == "" {
		program = binary
	}
	d.cmd = exec.Command(program, args...)
	d.cmd.Dir = d.dir
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	d.cmd.Env = append(append(os.Environ(), "AWS_EC2_METADATA_DISABLED=true"), d.env...)
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.done = make(chan error, 1)
	go func(cmd *exec.Cmd, done chan error) { done <- cmd.Wait() }(d.cmd, d.done)
}

func (d *daemon) ready() bool {
	client := http.Client{Timeout: time.Second}
	resp, err := client.Get(d.admin + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// kill ends the process as a power switch would, as far as a process can tell.
func (d *daemon) kill() {
	if d.cmd == nil {
		return
	}
	d.cmd.Process.Kill()
	<-d.done
	d.cmd = nil
}

// ended waits for the process to end by itself, and tells whether it did before the limit.
func (d *daemon) ended(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-d.done:
		d.done <- err
		return true
	case <-timer.C:
		return false
	}
}

// stop ends it with SIGTERM and returns the exit code.
func (d *daemon) stop() int {
	d.t.Helper()
	d.cmd.Process.Signal(syscall.SIGTERM)
	code := d.wait(30 * time.Second)
	return code
}

// wait returns the exit code of a process that ends by itself.
func (d *daemon) wait(limit time.Duration) int {
	d.t.Helper()
	select {
	case err := <-d.done:
		d.cmd = nil
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode()
		}
		if err != nil {
			d.t.Fatal(err)
		}
		return 0
	case <-time.After(limit):
		d.t.Fatalf("the daemon still runs after %s", limit)
		return -1
	}
}

// cli runs a command of the binary and returns its output; it fails the test on another exit code.
func (d *daemon) cli(code int, stdin io.Reader, args ...string) string {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir, cmd.Stdin = d.dir, stdin
	out, err := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code {
		d.t.Fatalf("hydrant %s: exit code %d (%v), want %d\n%s", strings.Join(args, " "), got, err, code, out)
	}
	return string(out)
}

// flush returns when all that a stream accepted is delivered or in the error output.
func (d *daemon) flush(stream string) {
	d.t.Helper()
	status, body := d.call("POST", d.admin+"/v1/streams/"+stream+"/flush?timeout=60s", "")
	if status != http.StatusOK {
		d.t.Fatalf("flush %s: %d %s", stream, status, body)
	}
}

// status is what GET /v1/streams/{name} says.
type status struct {
	State       string `json:"state"`
	Accepted    int64  `json:"accepted_records"`
	Delivered   int64  `json:"delivered_records"`
	Failed      int64  `json:"failed_records"`
	Dropped     int64  `json:"dropped_records"`
	Unaccounted int64  `json:"unaccounted_records"`
	Backlog     int64  `json:"backlog_records"`
}

func (d *daemon) status(stream string) status {
	d.t.Helper()
	code, body := d.call("GET", d.admin+"/v1/streams/"+stream, "")
	if code != http.StatusOK {
		d.t.Fatalf("status of %s: %d %s", stream, code, body)
	}
	var s status
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		d.t.Fatalf("status of %s: %v in %s", stream, err, body)
	}
	return s
}

// backupStatus is status for a stream's backup of all records.
func (d *daemon) backupStatus(stream string) status {
	d.t.Helper()
	code, body := d.call("GET", d.admin+"/v1/streams/"+stream, "")
	var s struct{ Backup *status }
	if err := json.Unmarshal([]byte(body), &s); err != nil || code != http.StatusOK || s.Backup == nil {
		d.t.Fatalf("status of the backup of %s: %d %v in %s", stream, code, err, body)
	}
	return *s.Backup
}

// balance fails the test unless the stream's counters say exactly this, with nothing left over.
func (d *daemon) balance(stream string, accepted, failed int64) {
	d.t.Helper()
	s := d.status(stream)
	want := status{State: "active", Accepted: accepted, Delivered: accepted - failed, Failed: failed}
	if s != want {
		d.t.Errorf("counters of %s:\n got %+v\nwant %+v", stream, s, want)
	}
}

// call makes a request and returns status and body.
func (d *daemon) call(method, url, body string, header ...string) (int, string) {
	d.t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Timeout: 90 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp.StatusCode, string(b)
}

// metric returns the value of a sample line of /metrics, such as hydrant_unaccounted_records{stream="s"}.
func (d *daemon) metric(sample string) string {
	d.t.Helper()
	_, body := d.call("GET", d.admin+"/metrics", "")
	for line := range strings.Lines(body) {
		if v, ok := strings.CutPrefix(line, sample+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	d.t.Fatalf("no sample %s in /metrics", sample)
	return ""
}

// counter is the value of a sample.
func (d *daemon) counter(sample string) int64 {
	d.t.Helper()
	v, err := strconv.ParseFloat(d.metric(sample), 64)
	if err != nil {
		d.t.Fatalf("%s: %v", sample, err)
	}
	return int64(v)
}

// eventually polls until ok says yes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after 60s still not: %s", what)
		}
	}
}
