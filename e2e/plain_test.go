package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"

	"hydrant/e2e/parts"
)

// curl sends records with curl and returns the status, the headers and the body of the answer.
func (d *daemon) curl(stream string, args ...string) (status, headers, body string) {
	d.t.Helper()
	program, err := exec.LookPath("curl")
	if err != nil {
		parts.Missing(d.t, "curl", "apt-get install curl")
	}
	headersFile := filepath.Join(d.t.TempDir(), "headers")
	args = append([]string{"-sS", "--max-time", "60", "-D", headersFile, "-w", "\n%{http_code}"}, args...)
	cmd := exec.CommandContext(d.t.Context(), program, append(args, d.api+"/v1/streams/"+stream+"/records")...)
	cmd.Dir = d.dir
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatalf("curl %s: %v %s", args, err, out)
	}
	cut := strings.LastIndexByte(string(out), '\n')
	return string(out[cut+1:]), string(read(d.t, headersFile)), string(out[:cut])
}

// file writes a file beside the configuration and returns its name.
func (d *daemon) file(name string, content string) string {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(content), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return name
}

const (
	asLines = "Content-Type: application/x-ndjson"
	asArray = "Content-Type: application/json"
)

// TestPlainHTTP puts records with curl, in every form, kills the daemon between a request and its repetition, and
// finds each record once, as it was sent.
func TestPlainHTTP(t *testing.T) {
	d := configure(t, slowText).start()
	accepts := func(n int, replayed bool, args ...string) {
		t.Helper()
		status, headers, body := d.curl("s", args...)
		if status != "200" || body != fmt.Sprintf(`{"accepted":%d,"failed":[]}`, n) || strings.Contains(headers, "Idempotent-Replayed: true") != replayed {
			t.Errorf("curl %q: %s\n%s%s", args, status, headers, body)
		}
	}
	refuses := func(want, text string, args ...string) {
		t.Helper()
		if status, _, body := d.curl("s", args...); status != want || !strings.Contains(body, text) {
			t.Errorf("curl %q: %s %s, want %s with %s", args, status, body, want, text)
		}
	}
	compressed := func(program, name, content string) string {
		t.Helper()
		if _, err := exec.LookPath(program); err != nil {
			parts.Missing(t, program, "apt-get install "+program)
		}
		cmd := exec.Command(program, "-c")
		cmd.Stdin = strings.NewReader(content)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return d.file(name, string(out))
	}
	accepts(2, false, "-H", asLines, "--data-binary", "@"+d.file("a", "{\"n\": 1}\r\n\n{\"n\":2}"))
	accepts(2, false, "-H", asArray, "-d", `[ {"n": 3}, "four" ]`)
	accepts(2, false, "-H", asLines, "-H", "Content-Encoding: gzip", "--data-binary", "@"+compressed("gzip", "b", "5\n6\n"))
	accepts(2, false, "-H", asArray, "-H", "Content-Encoding: zstd", "--data-binary", "@"+compressed("zstd", "c", "[7,8]"))
	accepts(1, false, "-H", asLines, "-H", "Transfer-Encoding: chunked", "-d", "9")
	accepts(1, false, "-H", asLines, "-H", "Idempotency-Key: order-1", "-d", "10")
	d.kill()
	d.start()
	accepts(1, true, "-H", asLines, "-H", "Idempotency-Key: order-1", "-d", "10")
	refuses("422", "IdempotentParameterMismatchException", "-H", asLines, "-H", "Idempotency-Key: order-1", "-d", "11")
	accepts(1, false, "-H", asLines, "-H", "Idempotency-Key: order-2", "-d", "10")

	refuses("415", "Send application/x-ndjson", "-d", "a=b")
	refuses("400", "at byte 3", "-H", asArray, "-d", "[1,]")
	refuses("405", "POST", "-X", "PUT", "-H", asLines, "-d", "a")
	refuses("413", "5242880", "-H", asLines, "--data-binary", "@"+d.file("large", strings.Repeat("x\n", 5<<19+1)))
	if status, _, body := d.curl("nowhere", "-H", asLines, "-d", "a"); status != "404" || !strings.Contains(body, "ResourceNotFoundException") {
		t.Errorf("no stream: %s %s", status, body)
	}
	status, _, body := d.curl("s", "-H", asLines, "--data-binary", "@"+d.file("long", strings.Repeat("x", 1_024_001)+"\n11\n"))
	if want := `{"accepted":1,"failed":[{"index":0,"code":"RecordTooLargeException",`; status != "200" || !strings.HasPrefix(body, want) {
		t.Errorf("a record that is too long: %s %s, want %s", status, body, want)
	}

	d.flush("s")
	got := strings.Split(strings.TrimSuffix(delivered(t, lake(d)), "\n"), "\n")
	want := []string{`{"n": 1}`, `{"n":2}`, `{"n": 3}`, `"four"`, "5", "6", "7", "8", "9", "10", "10", "11"}
	if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("delivered %q, want %q", got, want)
	}
	d.balance("s", int64(len(want)), 0)
	if n := d.counter(`hydrant_repeated_puts_total{stream="s"}`); n != 1 {
		t.Errorf("%d repeated puts", n)
	}
}

// limited is a stream with limits of its own.
func limited(limits string) string {
	return strings.Replace(slowText, "    format:", "    limits: { "+limits+" }\n    format:", 1)
}

// TestStreamFull fills the part of the disk that a stream may have: curl is told when to come again, and does once
// there is room; a kill in between loses nothing.
func TestStreamFull(t *testing.T) {
	d := configure(t, limited("disk: 8MiB")).start()
	steer := func(action string) {
		t.Helper()
		if code, body := d.call("POST", d.admin+"/v1/streams/s/"+action, ""); code != http.StatusOK {
			t.Fatalf("%s: %d %s", action, code, body)
		}
	}
	steer("pause")
	megabyte := "@" + d.file("megabyte", strings.Repeat("x", 1_000_000))
	accepted := int64(0)
	for {
		status, headers, body := d.curl("s", "-H", asLines, "--data-binary", megabyte)
		if status == "503" {
			if !strings.Contains(headers, "Retry-After: 1") || !strings.Contains(body, "The stream's share of the disk is full") {
				t.Errorf("%s%s", headers, body)
			}
			break
		}
		if accepted++; status != "200" || accepted > 8 {
			t.Fatalf("request %d: %s %s", accepted, status, body)
		}
	}
	if accepted < 6 {
		t.Errorf("full after %d requests", accepted)
	}
	d.kill()
	d.start()
	if status, _, body := d.curl("s", "-H", asLines, "--data-binary", megabyte); status != "503" {
		t.Errorf("after a kill: %s %s", status, body)
	}
	if n := d.counter(`hydrant_throttled_records_total{stream="s"}`); n != 1 {
		t.Errorf("%d records were throttled", n)
	}
	steer("resume")
	if status, _, body := d.curl("s", "--retry", "20", "-o", "answer", "-H", asLines, "--data-binary", megabyte); status != "200" {
		t.Errorf("with room again: %s %s", status, body)
	}
	d.flush("s")
	d.balance("s", accepted+1, 0)
	if n := len(delivered(t, lake(d))); n != int(accepted+1)*1_000_001 {
		t.Errorf("%d bytes were delivered for %d requests", n, accepted+1)
	}
}

// TestStreamRate: a stream that takes 200 records in a second, over both APIs. Who sends what was kept back again
// gets each record in once, also when the SDK loses an answer: it closes its connection now and then when answers
// come very fast, and sends the batch again by itself.
func TestStreamRate(t *testing.T) {
	d := configure(t, limited("records_per_second: 200")).start()
	client := firehoseClient(d.api, 5)
	var waiting, all []string
	for i := range 300 {
		waiting = append(waiting, fmt.Sprintf("r%03d", i))
	}
	all = append(all, waiting...)
	throttled := 0
	for calls := 0; len(waiting) > 0; calls++ {
		in := &firehose.PutRecordBatchInput{DeliveryStreamName: aws.String("s")}
		for _, r := range waiting {
			in.Records = append(in.Records, types.Record{Data: []byte(r)})
		}
		out, err := client.PutRecordBatch(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		var again []string
		for i, r := range out.RequestResponses {
			if r.ErrorCode != nil {
				if *r.ErrorCode != "ServiceUnavailableException" || aws.ToString(r.ErrorMessage) != "Slow down." || r.RecordId != nil {
					t.Fatalf("%+v", r)
				}
				again = append(again, waiting[i])
			}
		}
		if int(*out.FailedPutCount) != len(again) || calls == 0 && (len(again) > 100 || len(again) < 80) {
			t.Errorf("call %d of %d records: FailedPutCount %d, %d failed", calls, len(waiting), *out.FailedPutCount, len(again))
		}
		throttled += len(again)
		waiting = again
	}
	// The plain API shares the limit; with nothing left of the second it refuses the whole.
	status, _, body := d.curl("s", "-H", asLines, "--data-binary", "@"+d.file("many", strings.Repeat("plain\n", 500)))
	var n int
	if _, err := fmt.Sscanf(body, `{"accepted":%d,"failed":[{"index":`, &n); err == nil && status == "200" && n > 0 && n <= 200 {
		throttled += 500 - n
		all = append(all, slices.Repeat([]string{"plain"}, n)...)
	} else if status != "503" || body != `{"code":"ServiceUnavailableException","message":"Slow down."}` {
		t.Errorf("%s %s", status, body)
	} else {
		throttled += 500
	}
	d.flush("s")
	got := strings.Fields(delivered(t, lake(d)))
	slices.Sort(got)
	if slices.Sort(all); !slices.Equal(got, all) {
		t.Errorf("delivered %d records, want %d", len(got), len(all))
	}
	if got := d.counter(`hydrant_throttled_records_total{stream="s"}`); got < int64(throttled) {
		t.Errorf("%d records were throttled, want %d at least", got, throttled)
	}
	d.balance("s", int64(len(all)), 0)
}
