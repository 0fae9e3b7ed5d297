package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/controlplane"
	"hydrant/record"
)

// flushPatience is how long something that takes a moment may take.
const flushPatience = 20 * time.Second

// waitFor polls until ok says yes.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(flushPatience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %s still not: %s", flushPatience, what)
		}
	}
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take returns what was written since the last take.
func (l *lockedBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

// running is a daemon with a file that a test rewrites.
type running struct {
	t    *testing.T
	dir  string
	file string
	log  lockedBuffer
	r    *reloader
}

func startReloadable(t *testing.T, text string) *running {
	t.Helper()
	x := &running{t: t, dir: t.TempDir()}
	x.file = filepath.Join(x.dir, "hydrant.yaml")
	x.write(text)
	c := &cli{env: func(string) (string, bool) { return "", false }}
	f, src, err := c.open(x.file)
	if err != nil {
		t.Fatal(err)
	}
	log := newLog(f.Config.Log, &x.log)
	d := newDaemon(f.Config, slog.New(log))
	d.renewals = append(d.renewals, func(next *config.Config) (func(), error) { return func() { log.set(next.Log) }, nil })
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	x.r = &reloader{d: d, source: src}
	return x
}

func (x *running) head() string {
	return fmt.Sprintf("data_dir: %q\nlimits: { memory: 128MiB, disk: 256MiB }\napi: { listen: '127.0.0.1:0' }\nadmin: { listen: '127.0.0.1:0' }\n", filepath.Join(x.dir, "data"))
}

// write replaces the file; a text that does not begin with data_dir gets the head.
func (x *running) write(text string) {
	x.t.Helper()
	if !strings.HasPrefix(text, "data_dir") {
		text = x.head() + text
	}
	if err := os.WriteFile(x.file, []byte(text), 0o600); err != nil {
		x.t.Fatal(err)
	}
}

func (x *running) stream(name, more string) string {
	return fmt.Sprintf("  - { name: %s, destination: { file: { path: %q } }%s }\n", name, filepath.Join(x.dir, "lake"), more)
}

// reload takes the text as the file's and returns what was logged.
func (x *running) reload(text string) string {
	x.t.Helper()
	x.log.take()
	x.write(text)
	x.r.reread(x.t.Context(), "test")
	return x.log.take()
}

// versions of the streams that take records.
func (x *running) versions() map[string]uint64 {
	out := map[string]uint64{}
	for _, s := range x.r.d.manager.Definitions() {
		if s.State < buffer.Deleting {
			out[s.Name] = s.Version
		}
	}
	return out
}

func (x *running) outcomes(want map[string]float64, success float64) {
	x.t.Helper()
	for _, o := range []string{outcomeApplied, outcomePartial, outcomeInvalid, outcomeFailed} {
		if got := testutil.ToFloat64(x.r.d.reloads.total.WithLabelValues(o)); got != want[o] {
			x.t.Errorf("hydrant_config_reloads_total{outcome=%q} %v, want %v", o, got, want[o])
		}
	}
	if got := testutil.ToFloat64(x.r.d.reloads.success); got != success {
		x.t.Errorf("hydrant_config_reload_success %v, want %v", got, success)
	}
}

func (x *running) put(stream, data string) error {
	b := record.NewBatch(nil)
	b.Append([]byte(data))
	_, _, err := x.r.d.manager.Append(x.t.Context(), stream, record.Call{Batch: b})
	return err
}

func TestReload(t *testing.T) {
	x := startReloadable(t, "streams: []\n")
	f := func(text string, want map[string]uint64, logged ...string) {
		t.Helper()
		log := x.reload(text)
		if got := x.versions(); !maps.Equal(got, want) {
			t.Errorf("after\n%s%v, want %v\n%s", text, got, want, log)
		}
		for _, l := range logged {
			if !strings.Contains(log, l) {
				t.Errorf("after\n%s\nno %q in the log\n%s", text, l, log)
			}
		}
	}
	a, b, c := x.stream("a", ""), x.stream("b", ""), x.stream("c", "")
	x.outcomes(nil, 1)
	f("streams: []\n", map[string]uint64{}, `msg="configuration reloaded"`, "added=[] changed=[] removed=[]")
	f("streams:\n"+a, map[string]uint64{"a": 1}, "added=[a] changed=[] removed=[]")
	f("streams:\n"+a+b, map[string]uint64{"a": 1, "b": 1}, "added=[b] changed=[] removed=[]")
	f("streams:\n"+b+a, map[string]uint64{"a": 1, "b": 1}, "added=[] changed=[] removed=[]")
	f("streams:\n"+x.stream("a", ", buffer: { interval: 1h }")+x.stream("b", ", tags: { x: y }"), map[string]uint64{"a": 2, "b": 1}, `added=[] changed="[a b]" removed=[]`)
	if err := x.put("a", "waits"); err != nil {
		t.Fatal(err)
	}
	x.r.d.manager.Pause("a")
	f("streams:\n"+b, map[string]uint64{"b": 1}, "added=[] changed=[b] removed=[a]", "stream is no longer in the configuration", "stream=a")
	x.outcomes(map[string]float64{outcomeApplied: 6}, 1)
	if err := x.put("b", "is taken"); err != nil {
		t.Error(err)
	}

	// Invalid: nothing changes, and every fault is said.
	f("streams:\n"+c+"  - { name: b }\n  - { name: 'c d', destination: { file: { path: /lake, prefix: '!{nonsense}' } } }\nlgo: {}\n", map[string]uint64{"b": 1},
		"streams[1].destination: is required", "line=7", "column=", "streams[2].name: cannot be taken", "streams[2].destination.file.prefix", "lgo: is not a known key",
		`msg="configuration is not taken; nothing has changed"`, "faults=4")
	x.outcomes(map[string]float64{outcomeApplied: 6, outcomeInvalid: 1}, 0)
	f("streams: [\n", map[string]uint64{"b": 1}, "is not YAML", "faults=1")
	if err := os.Remove(x.file); err != nil {
		t.Fatal(err)
	}
	x.r.reread(t.Context(), "test")
	if log := x.log.take(); !strings.Contains(log, "read configuration: open "+x.file) || !maps.Equal(x.versions(), map[string]uint64{"b": 1}) {
		t.Errorf("without a file: %v\n%s", x.versions(), log)
	}
	x.outcomes(map[string]float64{outcomeApplied: 6, outcomeInvalid: 3}, 0)

	// Keys that take a restart: the rest is applied.
	f("data_dir: /elsewhere\non_damage: stop\nlimits: { memory: 256MiB, disk: 256MiB }\napi: { listen: '127.0.0.1:0' }\nadmin: { listen: '127.0.0.1:1' }\nstop: { drain: 3s }\nstreams:\n"+b+c,
		map[string]uint64{"b": 1, "c": 1}, "until then it stays as it was", "key=data_dir", "key=on_damage", "key=limits.memory", "key=admin.listen",
		`needs_restart="[data_dir on_damage limits.memory admin.listen]"`)
	x.outcomes(map[string]float64{outcomeApplied: 6, outcomePartial: 1, outcomeInvalid: 3}, 1)
	now := x.r.d.now.Load()
	if now.DataDir != filepath.Join(x.dir, "data") || now.Limits.Memory != 128*config.MiB || now.Stop.Drain.String() != "3s" {
		t.Errorf("in force: %+v", now)
	}
	f("data_dir: /elsewhere\nlimits: { memory: 128MiB, disk: 256MiB }\napi: { listen: '127.0.0.1:0' }\nadmin: { listen: '127.0.0.1:0' }\nstreams:\n"+
		fmt.Sprintf("  - { name: c, destination: { file: { path: %q } } }\n", filepath.Join(x.dir, "data", "lake")), map[string]uint64{"b": 1, "c": 1}, "lies in data_dir", "streams[0].destination.file.path")
	x.outcomes(map[string]float64{outcomeApplied: 6, outcomePartial: 1, outcomeInvalid: 4}, 0)

	// The log follows.
	f("log: { level: error }\nstreams:\n"+b+c, map[string]uint64{"b": 1, "c": 1})
	if log := x.reload("log: { level: info, format: json }\nstreams:\n" + b + c); !strings.Contains(log, `"msg":"configuration reloaded"`) || strings.Contains(log, "level=") {
		t.Errorf("log %s", log)
	}
	x.outcomes(map[string]float64{outcomeApplied: 8, outcomePartial: 1, outcomeInvalid: 4}, 1)
}

// A stream that was taken out refuses puts and says so, is delivered, and takes them again when it is back.
func TestReloadPutsBack(t *testing.T) {
	x := startReloadable(t, "streams: []\n")
	s := x.stream("s", ", buffer: { interval: 1h }, format: { text: { delimiter: after } }")
	x.reload("streams:\n" + s + x.stream("t", ""))
	if err := x.put("s", "first"); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(x.dir, "lake"), 0o700); err != nil {
		t.Fatal(err)
	}
	x.reload("streams:\n" + x.stream("t", ""))
	err := x.put("s", "second")
	if _, ok := errors.AsType[*record.NotFound](err); !ok {
		t.Errorf("put to a stream that was taken out: %v", err)
	}
	x.reload("streams:\n" + s + x.stream("t", ""))
	if err := x.put("s", "third"); err != nil {
		t.Errorf("put after it was put back: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), flushPatience)
	defer cancel()
	if left, err := x.r.d.manager.Flush(ctx, "s"); err != nil {
		t.Fatal(err, left)
	}
	var lines []string
	filepath.WalkDir(filepath.Join(x.dir, "lake"), func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			b, _ := os.ReadFile(path)
			lines = append(lines, strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")...)
		}
		return err
	})
	slices.Sort(lines)
	if !slices.Equal(lines, []string{"first", "third"}) {
		t.Errorf("delivered %q", lines)
	}
}

// A file that would take over a stream of the API is refused as a whole.
func TestReloadLeavesOthersAlone(t *testing.T) {
	x := startReloadable(t, "streams: []\n")
	body := `{"DeliveryStreamName":"theirs","ExtendedS3DestinationConfiguration":{"RoleARN":"arn:aws:iam::123456789012:role/r","BucketARN":"arn:aws:s3:::lake"}}`
	if _, _, err := x.r.d.plane.Call(t.Context(), controlplane.Call{Operation: "CreateDeliveryStream", Body: []byte(body)}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the stream is there", func() bool { return x.versions()["theirs"] == 1 })
	log := x.reload("streams:\n" + x.stream("theirs", "") + x.stream("mine", ""))
	if want := map[string]uint64{"theirs": 1}; !maps.Equal(x.versions(), want) || !strings.Contains(log, `stream \"theirs\" is there already and was created over the API`) {
		t.Errorf("%v\n%s", x.versions(), log)
	}
	x.outcomes(map[string]float64{outcomeInvalid: 1}, 0)
	x.reload("streams:\n" + x.stream("mine", ""))
	x.reload("aws: { region: eu-west-1, account_id: '123456789012', endpoints: { s3: 'http://127.0.0.1:1' } }\nstreams: []\n")
	if want := map[string]uint64{"theirs": 2}; !maps.Equal(x.versions(), want) { // its place follows the aws settings
		t.Errorf("%v, want %v", x.versions(), want)
	}
	if account, region := x.r.d.identity(); account != "123456789012" || region != "eu-west-1" {
		t.Errorf("identity %s %s", account, region)
	}
	x.outcomes(map[string]float64{outcomeInvalid: 1, outcomeApplied: 2}, 1)
}

// A part that cannot have a configuration keeps all others from having it.
func TestReloadRefusedByPart(t *testing.T) {
	x := startReloadable(t, "streams: []\n")
	adopted := 0
	x.r.d.renewals = append(x.r.d.renewals,
		func(*config.Config) (func(), error) { return func() { adopted++ }, nil },
		func(next *config.Config) (func(), error) {
			if next.Log.Level == "debug" {
				return nil, errors.New("too much")
			}
			return func() { adopted++ }, nil
		})
	log := x.reload("log: { level: debug }\nstreams:\n" + x.stream("s", ""))
	if adopted != 0 || len(x.versions()) != 0 || !strings.Contains(log, `err="too much"`) || x.r.d.now.Load().Log.Level != "info" {
		t.Errorf("adopted %d, streams %v\n%s", adopted, x.versions(), log)
	}
	x.reload("streams:\n" + x.stream("s", ""))
	if adopted != 2 || len(x.versions()) != 1 {
		t.Errorf("adopted %d, streams %v", adopted, x.versions())
	}
}

// Streams that cannot be brought over now stay pending, and a refused file in between does not count as taken.
func TestReloadTriesAgain(t *testing.T) {
	x := startReloadable(t, "streams: []\n")
	d := x.r.d
	if err := d.buffer.Close(); err != nil { // every definition fails from now on
		t.Fatal(err)
	}
	if log := x.reload("streams:\n" + x.stream("s", "")); !strings.Contains(log, "not all in force yet") {
		t.Errorf("log %s", log)
	}
	x.outcomes(map[string]float64{outcomeFailed: 1}, 0)
	x.r.look(t.Context()) // too early
	x.outcomes(map[string]float64{outcomeFailed: 1}, 0)
	x.r.pending.again = x.r.pending.again.Add(-applyAgain)
	x.r.look(t.Context())
	x.outcomes(map[string]float64{outcomeFailed: 2}, 0)
	x.reload("streams: {}\n")
	x.outcomes(map[string]float64{outcomeFailed: 2, outcomeInvalid: 1}, 0)
	x.r.pending.next = &config.Config{} // which changes nothing, and so succeeds
	x.r.applyStreams(t.Context())
	x.outcomes(map[string]float64{outcomeFailed: 2, outcomeInvalid: 1, outcomeApplied: 1}, 0)
	if x.r.pending != nil {
		t.Error("still pending")
	}
}

// A watched file is reloaded once it has changed and stays so, also where a link is moved to another file, as
// Kubernetes does with the files of a ConfigMap.
func TestWatch(t *testing.T) {
	x := startReloadable(t, "streams: []\n")
	x.reload("watch: true\nstreams:\n" + x.stream("a", ""))
	reloads := 1.0
	look := func(what string, taken bool) {
		t.Helper()
		x.r.look(t.Context())
		if taken {
			reloads++
		}
		if got := testutil.ToFloat64(x.r.d.reloads.total.WithLabelValues(outcomeApplied)) + testutil.ToFloat64(x.r.d.reloads.total.WithLabelValues(outcomeInvalid)); got != reloads {
			t.Fatalf("%s: %v reloads, want %v", what, got, reloads)
		}
	}
	look("unchanged", false)
	x.write("watch: true\nstreams:\n")
	look("half written", false)
	x.write("watch: true\nstreams:\n" + x.stream("a", "") + x.stream("b", ""))
	look("written", false)
	look("written, and seen again", true)
	look("afterwards", false)
	if len(x.versions()) != 2 {
		t.Errorf("streams %v", x.versions())
	}

	// ..data is a link to a directory that is replaced by another.
	mount := filepath.Join(x.dir, "mount")
	publish := func(revision, text string) {
		t.Helper()
		dir := filepath.Join(mount, "..rev"+revision)
		err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "hydrant.yaml"), []byte(x.head()+text), 0o600),
			os.Symlink("..rev"+revision, filepath.Join(mount, "..tmp")), os.Rename(filepath.Join(mount, "..tmp"), filepath.Join(mount, "..data")))
		if err != nil {
			t.Fatal(err)
		}
	}
	publish("1", "watch: true\nstreams:\n"+x.stream("a", ""))
	if err := os.Symlink(filepath.Join("..data", "hydrant.yaml"), filepath.Join(mount, "hydrant.yaml")); err != nil {
		t.Skip(err) // Windows without the right to make links
	}
	x.r.source.file = filepath.Join(mount, "hydrant.yaml")
	look("moved", false)
	look("moved, seen again", true)
	publish("2", "watch: true\nstreams:\n"+x.stream("a", "")+x.stream("c", ""))
	look("published", false)
	look("published, seen again", true)
	if len(x.versions()) != 2 || x.versions()["c"] != 1 {
		t.Errorf("streams %v", x.versions())
	}
	publish("3", "watch: true\nstreams: nothing\n")
	look("a fault", false)
	look("a fault, seen again", true)
	look("said once", false)
	if err := os.Remove(x.r.source.file); err != nil {
		t.Fatal(err)
	}
	look("gone", false)
	look("gone, seen again", true)
	look("said once", false)
	if err := os.Symlink(filepath.Join("..data", "hydrant.yaml"), x.r.source.file); err != nil {
		t.Fatal(err)
	}
	publish("4", "streams:\n"+x.stream("a", "")+x.stream("c", "")) // which ends the watch
	look("back", false)
	look("back, seen again", true)
	publish("5", "watch: true\nstreams: []\n")
	look("not watched any more", false)
	look("not watched any more", false)
	if len(x.versions()) != 2 {
		t.Errorf("streams %v", x.versions())
	}
}

// Credentials that are changed in the file are used at once, also for what older versions have still to deliver;
// those of a stream that was taken out stay.
func TestReloadCredentials(t *testing.T) {
	var mu sync.Mutex
	var used []string
	keyID := regexp.MustCompile(`Credential=([^/]+)/`)
	good := "K1"
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		id := "none"
		if m := keyID.FindStringSubmatch(r.Header.Get("Authorization")); m != nil {
			id = m[1]
		}
		used = append(used, id)
		if id != good {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if r.Method != http.MethodPut {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("ETag", `"00000000000000000000000000000000"`)
	}))
	defer store.Close()
	x := startReloadable(t, "streams: []\n")
	stream := func(key, more string) string {
		return fmt.Sprintf("streams:\n  - { name: s, buffer: { interval: 0s }, destination: { s3: { bucket: lake, endpoint: %q, credentials: { access_key_id: %s, secret_access_key: x }%s } } }\n", store.URL, key, more)
	}
	x.reload(stream("K1", ""))
	flush := func(key string) {
		t.Helper()
		mu.Lock()
		good, used = key, nil
		mu.Unlock()
		if err := x.put("s", key); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), flushPatience)
		defer cancel()
		left, err := x.r.d.manager.Flush(ctx, "s")
		mu.Lock()
		defer mu.Unlock()
		if err != nil || !slices.Contains(used, key) {
			t.Fatalf("%v %+v; keys %q, want %s", err, left, used, key)
		}
		for _, k := range used {
			if k != key {
				t.Errorf("key %s was used after %s had come", k, key)
			}
		}
	}
	flush("K1")
	x.reload(stream("K2", ""))
	if v := x.versions()["s"]; v != 1 {
		t.Errorf("version %d: credentials make no version", v)
	}
	flush("K2")

	// An object that is refused under one version goes with the key that comes with the next one.
	mu.Lock()
	good = "K3"
	mu.Unlock()
	if err := x.put("s", "waits"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a refusal", func() bool { s, _ := x.r.d.manager.Stream("s"); return len(s.Failures) > 0 })
	x.reload(stream("K3", ", prefix: other/"))
	flush("K3")

	// Taken out, it is still delivered with what it had.
	mu.Lock()
	good = "none yet"
	mu.Unlock()
	if err := x.put("s", "left"); err != nil {
		t.Fatal(err)
	}
	x.reload("streams: []\n")
	x.reload("streams: []\n")
	mu.Lock()
	good = "K3"
	mu.Unlock()
	x.r.d.manager.Flush(t.Context(), "s") // what failed is due at once
	waitFor(t, "the stream is delivered and gone", func() bool { _, there := x.r.d.manager.Stream("s"); return !there })
	if len(x.r.d.now.Load().Streams) != 0 {
		t.Error("the stream is still in the configuration")
	}
}

// A handler that was made before the change follows it, with its attributes and groups.
func TestSwitchableLog(t *testing.T) {
	var out bytes.Buffer
	s := newLog(config.Log{Level: "info", Format: "text"}, &out)
	log := slog.New(s).With("a", 1).WithGroup("g").With("b", 2)
	log.Debug("not seen")
	log.Info("text", "c", 3)
	s.set(config.Log{Level: "debug", Format: "json"})
	log.Debug("json", "c", 3)
	s.set(config.Log{Level: "error", Format: "text"})
	log.Warn("not seen")
	times := regexp.MustCompile(`("time":"[^"]*",|time=\S+ )`)
	if got, want := times.ReplaceAllString(out.String(), ""), "level=INFO msg=text a=1 g.b=2 g.c=3\n"+`{"level":"DEBUG","msg":"json","a":1,"g":{"b":2,"c":3}}`+"\n"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
