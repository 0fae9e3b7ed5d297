package parts

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// queryTimeout bounds one query; startTimeout the start of the process, and its end.
const (
	queryTimeout = 2 * time.Minute
	startTimeout = 30 * time.Second
)

// Duck is a DuckDB in a process of its own: a reader of Parquet and of JSON that shares no line of code with
// Hydrant. Its methods may be called by one goroutine at a time; other callers wait.
type Duck struct {
	t       testing.TB
	version string

	mu     sync.Mutex // held for the length of a query
	id     int
	stdin  io.WriteCloser
	lines  chan []byte // what the process answers; closed at its end
	stop   func()
	stderr *tailBuffer
}

// DuckDB starts a DuckDB in memory, with the time zone UTC, and stops it when the test ends.
func DuckDB(t testing.TB) *Duck {
	t.Helper()
	need(t, filepath.Join(NodeModules(t), "@duckdb", "node-api"), makeTools)
	script := need(t, filepath.Join(Cache(t), "node", "duckdb.mjs"), makeTools)
	cmd := exec.Command("node", script)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d := &Duck{t: t, stdin: stdin, lines: make(chan []byte, 1), stderr: &tailBuffer{}}
	cmd.Stderr = d.stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("start DuckDB: %v", err)
	}
	quit := make(chan struct{})
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(d.lines)
		r := bufio.NewReaderSize(stdout, 1<<20)
		for {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return
			}
			select {
			case d.lines <- line:
			case <-quit:
				return
			}
		}
	}()
	d.stop = sync.OnceFunc(func() {
		stdin.Close()
		close(quit)
		kill := time.AfterFunc(startTimeout, func() { cmd.Process.Kill() })
		defer kill.Stop()
		<-read // Wait closes the pipe under a reader
		cmd.Wait()
	})
	t.Cleanup(func() {
		if t.Failed() { // it may hang in a query
			cmd.Process.Kill()
		}
		d.stop()
	})
	a, err := d.receive(0, startTimeout)
	if err != nil {
		cmd.Process.Kill()
		t.Fatalf("start DuckDB: %v", err)
	}
	d.version = fmt.Sprint(a.Rows[0]["version"])
	return d
}

// Version is DuckDB's own, such as v1.5.6.
func (d *Duck) Version() string { return d.version }

// Answer is what a query gave.
type Answer struct {
	Columns []Column         // in order
	Rows    []map[string]any // by column name
	CPU     time.Duration    // user and system time that DuckDB's process used for it, all threads
}

// Column of an answer; Type is DuckDB's name for it.
type Column struct{ Name, Type string }

// Query runs SQL and returns the rows of its last statement; a failure ends the test.
//
// An integer is an int64, or a *big.Int when it needs more; FLOAT and DOUBLE are float64; BLOB is []byte; LIST
// is []any, STRUCT a map[string]any, MAP a []any of maps with key and value; NULL is nil; all else, DECIMAL,
// DATE and TIMESTAMP with it, is its text in DuckDB, such as 2025-03-01 00:00:03.25.
func (d *Duck) Query(sql string) []map[string]any {
	d.t.Helper()
	return d.Ask(sql).Rows
}

// Ask is Query with the columns and the CPU time.
func (d *Duck) Ask(sql string) *Answer {
	d.t.Helper()
	a, err := d.Try(sql)
	if err != nil {
		d.t.Fatalf("DuckDB: %v\nin: %s", err, sql)
	}
	return a
}

// Try is Ask for a query that may fail: the error is DuckDB's.
func (d *Duck) Try(sql string) (*Answer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.id++
	line, err := json.Marshal(map[string]any{"id": d.id, "sql": sql})
	if err != nil {
		return nil, err
	}
	if _, err := d.stdin.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("its process is gone: %w\n%s", err, d.stderr)
	}
	return d.receive(d.id, queryTimeout)
}

// receive waits for the answer with this id. After a time-out the next answer would be the late one, so
// everything after it fails.
func (d *Duck) receive(id int, timeout time.Duration) (*Answer, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	var line []byte
	select {
	case l, ok := <-d.lines:
		if !ok {
			return nil, fmt.Errorf("its process ended\n%s", d.stderr)
		}
		line = l
	case <-timer.C:
		return nil, fmt.Errorf("no answer within %v", timeout)
	}
	var raw struct {
		ID      int
		CPU     int64
		Error   string
		Columns []Column
		Rows    []map[string]any
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.UseNumber()
	if err := dec.Decode(&raw); err != nil {
		return nil, fmt.Errorf("an answer that is no JSON: %w: %.200q", err, line)
	}
	if raw.ID != id {
		return nil, fmt.Errorf("the answer to query %d came instead of that to %d", raw.ID, id)
	}
	if raw.Error != "" {
		return nil, errors.New(raw.Error)
	}
	for _, row := range raw.Rows {
		for name, v := range row {
			row[name] = exact(v)
		}
	}
	return &Answer{Columns: raw.Columns, Rows: raw.Rows, CPU: time.Duration(raw.CPU) * time.Microsecond}, nil
}

// exact turns what the JSON decoder made of a value into the types that Query promises.
func exact(v any) any {
	switch v := v.(type) {
	case json.Number:
		s := v.String()
		if strings.ContainsAny(s, ".eE") {
			f, _ := strconv.ParseFloat(s, 64)
			return f
		}
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n
		}
		n, _ := new(big.Int).SetString(s, 10)
		return n
	case []any:
		for i := range v {
			v[i] = exact(v[i])
		}
	case map[string]any:
		if s, ok := v["$bytes"].(string); ok && len(v) == 1 {
			b, _ := base64.StdEncoding.DecodeString(s)
			return b
		}
		switch s, _ := v["$float"].(string); s {
		case "NaN":
			return math.NaN()
		case "Infinity":
			return math.Inf(1)
		case "-Infinity":
			return math.Inf(-1)
		}
		for name := range v {
			v[name] = exact(v[name])
		}
	}
	return v
}

// SQL quotes a text as a literal of SQL.
func SQL(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// tailBuffer keeps the last few KiB that were written to it.
type tailBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (w *tailBuffer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b = append(w.b, p...)
	if n := len(w.b) - 8<<10; n > 0 {
		w.b = append(w.b[:0], w.b[n:]...)
	}
	return len(p), nil
}

func (w *tailBuffer) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.b)
}
