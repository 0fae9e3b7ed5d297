package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hydrant/config"
	"hydrant/sources"
	"hydrant/sources/directput"
)

// testConfig is a configuration in a directory of the test's own, on free ports.
func testConfig(t *testing.T, dir, streams string) *config.Config {
	t.Helper()
	text := fmt.Sprintf("data_dir: %q\nlimits: { memory: 128MiB, disk: 256MiB }\napi: { listen: '127.0.0.1:0' }\nadmin: { listen: '127.0.0.1:0' }\nstreams:\n%s", filepath.Join(dir, "data"), streams)
	f, err := config.Decode("f", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return f.Config
}

func startDaemon(t *testing.T, c *config.Config) *daemon {
	t.Helper()
	d := newDaemon(c, slog.New(slog.DiscardHandler))
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return d
}

func fileStream(dir, more string) string {
	return fmt.Sprintf("  - { name: s, destination: { file: { path: %q } }%s }\n", filepath.Join(dir, "lake"), more)
}

// Each metric that is registered is documented, and each that is documented is registered.
func TestMetricsAreDocumented(t *testing.T) {
	dir := t.TempDir()
	d := startDaemon(t, testConfig(t, dir, fileStream(dir, "")))
	api, err := directput.New(directput.Options{Appender: d.manager, Directory: directory{d.manager, d.plane, d.log, d.identity}})
	if err != nil {
		t.Fatal(err)
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		for _, c := range slices.Concat(d.buffer.Collectors(), d.manager.Collectors(), api.Collectors(), d.apiGuard.Collectors(), d.reloads.collectors(), []prometheus.Collector{d.api.bound, sources.NewReading(func() []string { return nil })}) {
			c.Describe(descs)
		}
	}()
	registered := map[string]bool{"hydrant_build_info": true}
	fqName := regexp.MustCompile(`fqName: "([^"]+)"`)
	for desc := range descs {
		registered[fqName.FindStringSubmatch(desc.String())[1]] = true
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(hydrant_[a-z_]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		documented[m[1]] = true
	}
	for name := range registered {
		if !strings.HasPrefix(name, "hydrant_") {
			t.Errorf("metric %s has no prefix hydrant_", name)
		}
		if !documented[name] {
			t.Errorf("metric %s is not in docs/metrics.md", name)
		}
	}
	for name := range documented {
		if !registered[name] {
			t.Errorf("docs/metrics.md has %s, which is not registered", name)
		}
	}
	gathered, err := d.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]bool{}
	for _, f := range gathered {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				labels[l.GetName()] = true
			}
		}
	}
	if labels["partition"] || labels["key"] {
		t.Errorf("labels %v: what data decides must not be one", labels)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// While the process stops it says that it is not ready, and the admin listener stays until the end.
func TestReadiness(t *testing.T) {
	dir := t.TempDir()
	c := testConfig(t, dir, fileStream(dir, ""))
	d := startDaemon(t, c)
	admin := "http://" + d.admin.addresses()[0]
	if code, body := get(t, admin+"/readyz"); code != 200 {
		t.Errorf("ready: %d %s", code, body)
	}
	d.setNotReady("stopping")
	if code, body := get(t, admin+"/readyz"); code != 503 || body != "not ready: stopping\n" {
		t.Errorf("stopping: %d %s", code, body)
	}
	if code, _ := get(t, admin+"/healthz"); code != 200 {
		t.Errorf("health while stopping: %d", code)
	}
	api := d.api.addresses()[0]
	http.DefaultClient.CloseIdleConnections()
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	if conn, err := net.DialTimeout("tcp", api, time.Second); err == nil {
		conn.Close()
		t.Error("the API listener is open after the stop")
	}
}

// A start that fails leaves nothing running: no listener, no lock.
func TestFailedStart(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := testConfig(t, dir, fileStream(dir, ""))
	c.API.Listen = config.Listen{"127.0.0.1:0", taken.Addr().String()}
	d := newDaemon(c, slog.New(slog.DiscardHandler))
	if err := d.start(); err == nil || !strings.HasPrefix(err.Error(), "api.listen: listen tcp "+taken.Addr().String()) {
		t.Fatalf("start on a port that is taken: %v", err)
	}
	c.API.Listen = config.Listen{"127.0.0.1:0"}
	startDaemon(t, c) // the lock was given back
}

// Several addresses serve the same API.
func TestSeveralListeners(t *testing.T) {
	dir := t.TempDir()
	c := testConfig(t, dir, fileStream(dir, ""))
	c.API.Listen = config.Listen{"127.0.0.1:0", "127.0.0.1:0"}
	d := startDaemon(t, c)
	for _, addr := range d.api.addresses() {
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{"put", "--stream", "s", "--endpoint", "http://" + addr}, strings.NewReader("x\n"), &out, &errs); code != 0 {
			t.Errorf("put to %s: %s", addr, errs.String())
		}
	}
	if s, _ := d.manager.Stream("s"); s.Accepted != 2 {
		t.Errorf("accepted %d records, want 2", s.Accepted)
	}
}

// A stream changes its version with its configuration, and not otherwise.
func TestVersions(t *testing.T) {
	dir := t.TempDir()
	for _, step := range []struct {
		more    string
		version uint64
	}{{"", 1}, {"", 1}, {", tags: { a: b }", 1}, {", buffer: { interval: 10s }", 2}, {"", 3}} {
		d := newDaemon(testConfig(t, dir, fileStream(dir, step.more)), slog.New(slog.DiscardHandler))
		if err := d.start(); err != nil {
			t.Fatal(err)
		}
		s, _ := d.manager.Stream("s")
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
		if s.Version != step.version {
			t.Errorf("with %q: version %d, want %d", step.more, s.Version, step.version)
		}
	}
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log := newLogger(config.Log{Level: "warn", Format: "json"}, &out)
	log.Info("quiet")
	log.Warn("loud", "n", 1)
	var line struct {
		Level string
		Msg   string
		N     int
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Level != "WARN" || line.Msg != "loud" || line.N != 1 {
		t.Errorf("%v in %q", err, out.String())
	}
	out.Reset()
	newLogger(config.Log{Level: "debug", Format: "text"}, &out).Debug("all", "n", 1)
	if !strings.Contains(out.String(), "level=DEBUG msg=all n=1") {
		t.Errorf("%q", out.String())
	}
}

// A part that fails ends the daemon with its error.
func TestPartFails(t *testing.T) {
	d := newDaemon(testConfig(t, t.TempDir(), "  []\n"), slog.New(slog.DiscardHandler))
	d.failed <- io.ErrUnexpectedEOF
	if err := d.wait(context.Background()); err != io.ErrUnexpectedEOF {
		t.Errorf("wait: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := d.wait(ctx); err != nil {
		t.Errorf("wait after a signal: %v", err)
	}
}
