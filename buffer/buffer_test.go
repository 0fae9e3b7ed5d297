package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer/forgetfs"
	"hydrant/buffer/fsys"
	"hydrant/record"
)

// tiny is a ring of slots so small that a test laps it in a moment.
var tiny = geometry{slot: 128 << 10, limit: 6, first: 4}

// bench is a Buffer under test with what it takes to open it again.
type bench struct {
	t testing.TB
	o Options
	*Buffer
	logs *logBuffer
}

// logBuffer is a bytes.Buffer that goroutines may share.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) Reset() { l.mu.Lock(); l.b.Reset(); l.mu.Unlock() }

func (l *logBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// testLog collects log lines of level Warn and above for a test to look at.
func testLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func openBench(t testing.TB, o Options) *bench {
	t.Helper()
	if o.Dir == "" {
		o.Dir = "/data"
	}
	if o.FS == nil {
		o.FS = fsys.OS()
		o.Dir = t.TempDir()
	}
	if o.geometry.slot == 0 {
		o.geometry = tiny
	}
	x := &bench{t: t, o: o, logs: &logBuffer{}}
	x.start()
	t.Cleanup(func() {
		if x.Buffer != nil {
			x.Buffer.Close()
		}
	})
	return x
}

func (x *bench) start() {
	x.t.Helper()
	x.o.Log = testLog(x.logs)
	b, err := Open(x.o)
	if err != nil {
		x.t.Fatalf("open: %v", err)
	}
	x.Buffer = b
}

// restart closes and opens again.
func (x *bench) restart() {
	x.t.Helper()
	if err := x.Close(); err != nil {
		x.t.Fatalf("close: %v", err)
	}
	x.start()
}

// crash goes on with what a power cut may have left.
func (x *bench) crash(seed uint64) {
	x.t.Helper()
	disk := x.o.FS.(*forgetfs.FS)
	image := disk.Crash(seed)
	x.Buffer.Close()
	x.logs.Reset() // of a process that has lost its disk
	x.o.FS = image
	x.start()
}

func (x *bench) define(name string) Stream {
	x.t.Helper()
	s, err := x.Define(Stream{Name: name, Spec: []byte("spec of " + name)})
	if err != nil {
		x.t.Fatalf("define %q: %v", name, err)
	}
	return s
}

func (x *bench) append(stream string, rows ...string) record.Receipt {
	x.t.Helper()
	r, _, err := x.Append(context.Background(), stream, record.Call{Batch: batch(rows...)})
	if err != nil {
		x.t.Fatalf("append to %q: %v", stream, err)
	}
	return r
}

// cut makes one manifest of all that waits: one object with the rows, a line each.
func (x *bench) cut(s Stream) *Manifest {
	x.t.Helper()
	m, err := x.tryCut(s)
	if err != nil {
		x.t.Fatalf("cut: %v", err)
	}
	return m
}

func (x *bench) tryCut(s Stream) (*Manifest, error) {
	c := x.Consumer(s.Incarnation, Main)
	k := c.Take(0, 1<<40)
	if k == nil {
		return nil, errors.New("nothing waits")
	}
	first, next := k.Range()
	h := ManifestHead{ID: x.NewManifestID(), Incarnation: s.Incarnation, Version: s.Version, Epoch: c.NewEpoch(), First: first, Next: next}
	p, err := x.NewPack()
	if err != nil {
		return nil, err
	}
	w, err := p.Begin(ObjectHead{Key: fmt.Sprintf("%s/%d", s.Name, first), Destination: s.Name + "/data/file"})
	if err != nil {
		return nil, err
	}
	for r := range k.Rows() {
		fmt.Fprintf(w, "%d %s\n", r.Seq, r.Data)
		h.Counts.OK++
	}
	if err := errors.Join(p.End(h.Counts.OK, first, 1), p.Seal(h)); err != nil {
		return nil, err
	}
	m, err := x.Cut(k, []*Pack{p}, h)
	if err != nil {
		k.Release()
		p.Abort()
	}
	return m, err
}

// content reads an object.
func (x *bench) content(m *Manifest, i int) string {
	x.t.Helper()
	r, err := x.OpenObject(m, i)
	if err != nil {
		x.t.Fatalf("open object: %v", err)
	}
	defer r.Close()
	b := make([]byte, m.Objects[i].Size)
	if _, err := r.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		x.t.Fatalf("read object: %v", err)
	}
	return string(b)
}

// waiting prints the rows that wait, and gives them back.
func (x *bench) waiting(s Stream) string {
	x.t.Helper()
	c := x.Consumer(s.Incarnation, Main)
	var list []string
	var claims []*Claim
	for {
		k := c.Take(0, 1<<40)
		if k == nil {
			break
		}
		claims = append(claims, k)
		for r := range k.Rows() {
			list = append(list, fmt.Sprintf("%d:%s", r.Seq, r.Data))
		}
	}
	for i := len(claims) - 1; i >= 0; i-- {
		claims[i].Release()
	}
	return strings.Join(list, " ")
}

// bubble runs a subtest whose time passes only while all goroutines wait.
func bubble(t *testing.T, name string, fn func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, fn) })
}

// until polls for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("it never happened: %s", what)
}

// balanced fails where the accounts do not add up.
func (x *bench) balanced(s Stream) {
	x.t.Helper()
	t := x.Consumer(s.Incarnation, Main).Totals()
	if left := t.Accepted - t.OK - t.Dropped - t.Failed - t.Lost - t.Waiting; left != 0 {
		x.t.Fatalf("%d records are unaccounted for: %+v", left, t)
	}
}

func TestAppendCutConfirm(t *testing.T) {
	x := openBench(t, Options{})
	s := x.define("clicks")
	if r := x.append("clicks", "a", "b"); r.First != 1 || r.Incarnation != s.Incarnation || r.Directory != x.Directory() {
		t.Fatalf("receipt %+v", r)
	}
	if r := x.append("clicks", "c"); r.First != 3 {
		t.Fatalf("receipt %+v", r)
	}
	if got := x.waiting(s); got != "1:a 2:b 3:c" {
		t.Fatalf("waiting %q", got)
	}
	x.balanced(s)
	m := x.cut(s)
	if got := x.content(m, 0); got != "1 a\n2 b\n3 c\n" {
		t.Fatalf("object %q", got)
	}
	x.append("clicks", "d")
	x.restart()
	if got := x.waiting(s); got != "4:d" {
		t.Fatalf("waiting %q", got)
	}
	out := x.Outstanding()
	if len(out) != 1 || out[0].ID != m.ID {
		t.Fatalf("outstanding %+v", out)
	}
	if got := x.content(out[0], 0); got != "1 a\n2 b\n3 c\n" {
		t.Fatalf("object %q", got)
	}
	x.balanced(s)
	x.Confirm(m.ID, 0)
	until(t, "the manifest ends", func() bool { return len(x.Outstanding()) == 0 })
	x.restart()
	if n := len(x.Outstanding()); n != 0 {
		t.Fatalf("%d manifests are outstanding", n)
	}
	if got := x.waiting(s); got != "4:d" {
		t.Fatalf("waiting %q", got)
	}
	x.balanced(s)
	want := Totals{Accepted: 4, OK: 3, Waiting: 1}
	if got := x.Consumer(s.Incarnation, Main).Totals(); got != want {
		t.Fatalf("totals %+v, want %+v", got, want)
	}
	if x.logs.String() != "" {
		t.Errorf("log: %s", x.logs)
	}
}
