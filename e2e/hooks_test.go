//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hydrant/transform/hook/hooktest"
)

// Real functions, in Go with AWS's types and in JavaScript on Node, transform the records of a daemon that dies on the way:
// over HTTP as behind the emulator, and as a function of Lambda.
func TestFunctions(t *testing.T) {
	goServer, nodeServer := hooktest.Serve(t, hooktest.Function, nil), hooktest.Node(t)
	d := configure(t, fmt.Sprintf(`aws: { endpoints: { lambda: %q } }
streams:
  - name: http
    transform:
      - filter: '.skip != true'
      - http: { url: %q, buffer: { size: 205KiB } }
      - remove: [id, arrived, stream, region, filler]
    buffer: { interval: 2s }
    destination: { file: { path: lake, prefix: "http/" , error_output_prefix: "errors/http/!{firehose:error-output-type}/" } }
  - name: lambda
    transform:
      - lambda: { function: "arn:aws:lambda:eu-west-1:123456789012:function:function", retries: 1, buffer: { interval: 1s } }
      - remove: [id, arrived, stream, region, filler]
    buffer: { interval: 2s }
    destination: { file: { path: lake, prefix: "lambda/", error_output_prefix: "errors/lambda/!{firehose:error-output-type}/" } }
`, nodeServer, goServer+hooktest.Path))
	d.env = append(d.env, "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret")
	d.start()
	want := map[string]map[string]int{"http": {}, "lambda": {}}
	failed := map[string]map[string]int{"http": {}, "lambda": {}}
	var dropped int64
	n := 0
	put := func(stream string) {
		t.Helper()
		var in strings.Builder
		for range 200 {
			n++
			switch {
			case n%10 == 0:
				fmt.Fprintf(&in, "{\"type\":\"heartbeat\",\"n\":%d}\n", n)
				dropped++
			case n%10 == 1 && stream == "http":
				fmt.Fprintf(&in, "{\"skip\":true,\"n\":%d}\n", n)
				dropped++
			case n%10 == 2:
				raw := fmt.Sprintf("no JSON %d", n)
				if stream == "http" { // the filter would find that out by itself
					raw = fmt.Sprintf(`{"text":%d}`, n)
				}
				in.WriteString(raw + "\n")
				failed[stream][raw]++
			default:
				fmt.Fprintf(&in, "{\"text\":\"n%d ü\"}\n", n)
				want[stream][fmt.Sprintf(`{"text":"N%d Ü"}`, n)]++
			}
		}
		d.cli(0, strings.NewReader(in.String()), "put", "--stream", stream, "--endpoint", d.api)
	}
	for range 3 {
		put("http")
		put("lambda")
		time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond) // of the life of a daemon, at whose end it dies
		d.kill()
		d.start()
	}
	put("http")
	put("lambda")
	var droppedBy int64
	for stream, lines := range want {
		d.flush(stream)
		got := map[string]int{}
		for _, line := range linesUnder(t, d, stream+"/") {
			got[strings.TrimSpace(line)]++
		}
		delete(got, "")
		if len(got) != len(lines) {
			t.Errorf("%s: %d lines, want %d", stream, len(got), len(lines))
		}
		for line := range lines {
			if got[line] != 1 {
				t.Errorf("%s: %s is there %d times", stream, line, got[line])
			}
		}
		function := goServer + hooktest.Path
		if stream == "lambda" {
			function = "arn:aws:lambda:eu-west-1:123456789012:function:function"
		}
		raws := map[string]int{}
		for _, line := range linesUnder(t, d, "errors/"+stream+"/processing-failed/") {
			var e struct {
				RawData   []byte `json:"rawData"`
				ErrorCode string `json:"errorCode"`
				Attempts  int    `json:"attemptsMade"`
				LambdaARN string `json:"lambdaARN"`
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			raw := strings.TrimSpace(string(e.RawData))
			if e.ErrorCode != "Lambda.ProcessingFailedStatus" || e.Attempts != 1 || !strings.HasPrefix(e.LambdaARN, function) {
				t.Errorf("error line %s", line)
			}
			raws[raw]++
		}
		for raw := range failed[stream] {
			if raws[raw] != 1 {
				t.Errorf("%s: %s is in the error output %d times", stream, raw, raws[raw])
			}
		}
		s := d.status(stream)
		if s.Delivered != int64(len(lines)) || s.Failed != int64(len(failed[stream])) || s.Backlog != 0 || s.Unaccounted != 0 {
			t.Errorf("%s: %+v, want %d delivered and %d failed", stream, s, len(lines), len(failed[stream]))
		}
		droppedBy += s.Dropped
		if d.counter(fmt.Sprintf(`hydrant_hook_invocations_total{outcome="answered",stream=%q}`, stream)) == 0 {
			t.Errorf("%s: no calls are counted", stream)
		}
	}
	if droppedBy != dropped {
		t.Errorf("%d records were dropped, want %d", droppedBy, dropped)
	}
	if code := d.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// whim is a function that decides differently each time, and fails and hangs now and then.
type whim struct {
	mu   sync.Mutex
	r    *rand.Rand
	last map[string]string // what it said of each record last: the result, or ProcessingFailed where the call failed
	many map[string]int    // how often it was asked
	hang chan struct{}     // not nil: it answers nobody before this is closed
	well bool              // it does not fail
}

func (w *whim) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	type rec struct {
		RecordID string `json:"recordId"`
		Data     []byte `json:"data"`
		Result   string `json:"result,omitempty"`
	}
	var batch struct {
		Records []rec `json:"records"`
	}
	if err := json.Unmarshal(body, &batch); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	hang := w.hang
	fate, wait := w.r.IntN(12), time.Duration(w.r.IntN(60))*time.Millisecond
	if w.well {
		fate, wait = 11, 0
	}
	for i := range batch.Records {
		b := &batch.Records[i]
		b.Result = []string{"Ok", "Ok", "Dropped", "ProcessingFailed"}[w.r.IntN(4)]
		key := strings.TrimSpace(string(b.Data))
		if w.last[key] = b.Result; fate < 3 && hang == nil {
			w.last[key] = "ProcessingFailed"
		}
		w.many[key]++
	}
	w.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
		return
	}
	time.Sleep(wait) // as a function does
	switch fate {
	case 0:
		panic(http.ErrAbortHandler)
	case 1:
		http.Error(rw, "busy", http.StatusTooManyRequests)
		return
	case 2:
		rw.Header().Set("X-Amz-Function-Error", "Unhandled")
		fmt.Fprint(rw, `{"errorMessage":"it died"}`)
		return
	}
	json.NewEncoder(rw).Encode(batch)
}

func newWhim(t *testing.T) (*whim, string) {
	w := &whim{r: rand.New(rand.NewPCG(rand.Uint64(), 1)), last: map[string]string{}, many: map[string]int{}}
	s := httptest.NewServer(w)
	t.Cleanup(s.Close)
	return w, s.URL
}

// A function that answers differently each time and fails at random, and a daemon that is killed at random: what was
// acknowledged has one outcome, and it is what the function said last.
func TestFunctionStorm(t *testing.T) {
	w, url := newWhim(t)
	d := configure(t, fmt.Sprintf(`limits: { memory: 128MiB, disk: 1GiB }
streams:
  - name: s
    transform: [ { http: { url: %q, retries: 2, timeout: 2s, concurrency: 3, buffer: { size: 205KiB } } } ]
    format: { text: { delimiter: after } }
    buffer: { size: 64KiB, interval: 3s }
    destination: { file: { path: lake, prefix: "data/" } }
`, url))
	d.start()
	var acked []string
	n := 0
	put := func() {
		t.Helper()
		var in strings.Builder
		var rows []string
		for range 100 + rand.IntN(200) {
			n++
			rows = append(rows, fmt.Sprintf("record-%d-%s", n, strings.Repeat("x", rand.IntN(200))))
			in.WriteString(rows[len(rows)-1] + "\n")
		}
		status, body := d.call("POST", d.api+"/v1/streams/s/records", in.String(), "Content-Type", "application/x-ndjson")
		if status != http.StatusOK {
			t.Fatalf("put: %d %s", status, body)
		}
		acked = append(acked, rows...)
	}
	kills := 0
	for began := time.Now(); time.Since(began) < 14*time.Second; {
		put()
		time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond) // of the life of a daemon
		if rand.IntN(3) == 0 {
			d.kill()
			kills++
			d.start()
		}
	}
	d.flush("s")
	found := map[string][]string{}
	for _, line := range linesUnder(t, d, "data/") {
		found[line] = append(found[line], "Ok")
	}
	for _, line := range linesUnder(t, d, "errors/") {
		var e struct {
			RawData []byte `json:"rawData"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		found[string(e.RawData)] = append(found[string(e.RawData)], "ProcessingFailed")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	outcomes, again := map[string]int64{}, 0
	for _, row := range acked {
		got := strings.Join(found[row], " ")
		if got == "" {
			got = "Dropped"
		}
		outcomes[got]++
		if w.last[row] != got {
			t.Errorf("%.20s has the outcome %q; the function said %q last, asked %d times", row, got, w.last[row], w.many[row])
		}
		if w.many[row] > 1 {
			again++
		}
	}
	s := d.status("s")
	if s.Accepted != int64(len(acked)) || s.Delivered != outcomes["Ok"] || s.Failed != outcomes["ProcessingFailed"] || s.Dropped != outcomes["Dropped"] || s.Backlog != 0 || s.Unaccounted != 0 {
		t.Errorf("%+v, found %v of %d", s, outcomes, len(acked))
	}
	if kills == 0 || again == 0 || len(found) != int(outcomes["Ok"]+outcomes["ProcessingFailed"]) {
		t.Errorf("%d kills, %d records were asked about again, %d found, %v", kills, again, len(found), outcomes)
	}
	t.Logf("%d records, %d kills, %d asked about more than once: %v", len(acked), kills, again, outcomes)
}

// A function that does not answer keeps neither the ring of the journal nor the memory: other streams go on, and what
// waits is on disk. When it answers again after a restart, nothing is lost.
func TestDeadFunction(t *testing.T) {
	w, url := newWhim(t)
	w.hang = make(chan struct{})
	d := configure(t, fmt.Sprintf(`limits: { memory: 128MiB, disk: 1GiB }
streams:
  - name: dead
    transform: [ { http: { url: %q, retries: 100, timeout: 15m } } ]
    format: { text: { delimiter: after } }
    buffer: { size: 16MiB, interval: 1s }
    destination: { file: { path: lake, prefix: "dead/" } }
  - name: well
    buffer: { interval: 1s }
    destination: { file: { path: lake, prefix: "well/" } }
`, url))
	d.start()
	const calls, rows = 40, 500
	pad := strings.Repeat("y", 4000)
	put := func(stream string, from, n int) {
		t.Helper()
		var in strings.Builder
		for i := range n {
			fmt.Fprintf(&in, "%d %s\n", from+i, pad)
		}
		for range 200 {
			status, body := d.call("POST", d.api+"/v1/streams/"+stream+"/records", in.String(), "Content-Type", "application/x-ndjson")
			if status == http.StatusOK {
				return
			}
			if status != http.StatusServiceUnavailable {
				t.Fatalf("put: %d %s", status, body)
			}
			time.Sleep(50 * time.Millisecond) // as a client does that is told to come back
		}
		t.Fatal("the daemon refuses puts for good")
	}
	began := time.Now()
	for i := range calls { // 80 MB: more than the ring and the memory have
		put("dead", i*rows, rows)
	}
	t.Logf("puts took %v", time.Since(began))
	put("well", 0, 10)
	d.flush("well")
	t.Logf("and the other stream was delivered after %v", time.Since(began))
	d.balance("well", 10, 0)
	if s := d.status("dead"); s.Backlog != calls*rows {
		t.Errorf("%+v", s)
	}
	if runs, err := filepath.Glob(filepath.Join(d.data, "runs", "*.run")); err != nil || len(runs) == 0 {
		t.Errorf("nothing has been moved to disk: %v", err)
	}
	d.kill()
	w.mu.Lock()
	close(w.hang)
	w.hang, w.well = nil, true
	w.mu.Unlock()
	d.start()
	put("dead", calls*rows, 1)
	began = time.Now()
	d.flush("dead")
	t.Logf("what waited was delivered in %v", time.Since(began))
	s := d.status("dead")
	if s.Accepted != calls*rows+1 || s.Delivered+s.Failed+s.Dropped != s.Accepted || s.Unaccounted != 0 || s.Delivered == 0 {
		t.Errorf("%+v", s)
	}
	found := map[string]int{}
	for _, line := range linesUnder(t, d, "dead/") {
		n, _, _ := strings.Cut(line, " ")
		found[n]++
	}
	for n, times := range found {
		if times != 1 {
			t.Errorf("record %s was delivered %d times", n, times)
		}
	}
	if int64(len(found)) != s.Delivered {
		t.Errorf("%d records were found, %d delivered", len(found), s.Delivered)
	}
}
