package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"
)

// endpoint is a Firehose API that stores what it acknowledges and checks the limits of a call itself.
type endpoint struct {
	t *testing.T
	*httptest.Server

	mu      sync.Mutex
	stored  []string
	calls   int
	answers []func(w http.ResponseWriter, records []string) (stored []string) // of the first calls
}

func newEndpoint(t *testing.T, answers ...func(http.ResponseWriter, []string) []string) *endpoint {
	e := &endpoint{t: t, answers: answers}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct {
		DeliveryStreamName string
		Records            []struct{ Data []byte }
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // its patience ended while it sent
	}
	if json.Unmarshal(body, &in) != nil || r.Header.Get("X-Amz-Target") != "Firehose_20150804.PutRecordBatch" || in.DeliveryStreamName != "s" {
		e.t.Errorf("not a call of PutRecordBatch: %s %.100s", r.Header, body)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	var records []string
	total := 0
	for _, record := range in.Records {
		if len(record.Data) > maxRecord {
			e.t.Errorf("a record of %d bytes", len(record.Data))
		}
		total += len(record.Data)
		records = append(records, string(record.Data))
	}
	if len(records) == 0 || len(records) > maxBatchRecords || total > maxBatchBytes {
		e.t.Errorf("a call with %d records and %d bytes", len(records), total)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls++
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if len(e.answers) > 0 {
		answer := e.answers[0]
		e.answers = e.answers[1:]
		e.stored = append(e.stored, answer(w, records)...)
		return
	}
	e.stored = append(e.stored, accept(w, records)...)
}

// accept acknowledges everything.
func accept(w http.ResponseWriter, records []string) []string {
	return refuse()(w, records)
}

// refuse acknowledges all records but those with these indexes.
func refuse(indexes ...int) func(http.ResponseWriter, []string) []string {
	return func(w http.ResponseWriter, records []string) (stored []string) {
		var answers []string
		for i, record := range records {
			if slices.Contains(indexes, i) {
				answers = append(answers, `{"ErrorCode":"ServiceUnavailableException","ErrorMessage":"Slow down."}`)
				continue
			}
			stored = append(stored, record)
			answers = append(answers, `{"RecordId":"r"}`)
		}
		fmt.Fprintf(w, `{"FailedPutCount":%d,"Encrypted":false,"RequestResponses":[%s]}`, len(records)-len(stored), strings.Join(answers, ","))
		return stored
	}
}

// answerWith answers a whole call with an error.
func answerWith(code int, kind string) func(http.ResponseWriter, []string) []string {
	return func(w http.ResponseWriter, _ []string) []string {
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"__type":%q,"message":"no"}`, kind)
		return nil
	}
}

func putLines(t *testing.T, e *endpoint, input string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"put", "--stream", "s", "--endpoint", e.URL, "--parallel", "1"}, args...), strings.NewReader(input), &out, &errs)
	http.DefaultClient.CloseIdleConnections()
	return code, out.String(), errs.String()
}

func TestPut(t *testing.T) {
	long := strings.Repeat("x", maxRecord)
	for _, c := range []struct {
		name    string
		input   string
		args    []string
		answers []func(http.ResponseWriter, []string) []string
		want    []string
		calls   int
		code    int
		stderr  string
	}{
		{name: "nothing", input: ""},
		{name: "lines keep their newline", input: "a\nb\n", want: []string{"a\n", "b\n"}, calls: 1},
		{name: "the last line needs none", input: "a\nb", want: []string{"a\n", "b"}, calls: 1},
		{name: "lines are stripped", input: "a\nb\r\n", args: []string{"--delimiter", "strip"}, want: []string{"a", "b\r"}, calls: 1},
		{name: "empty lines are skipped", input: "\na\n\n\nb\n", want: []string{"a\n", "b\n"}, calls: 1},
		{name: "500 records are one call", input: strings.Repeat("r\n", 500), want: slices.Repeat([]string{"r\n"}, 500), calls: 1},
		{name: "501 records are two calls", input: strings.Repeat("r\n", 501), want: slices.Repeat([]string{"r\n"}, 501), calls: 2},
		{name: "4 MiB are one call", input: strings.Repeat(strings.Repeat("m", 1<<19-1)+"\n", 8), want: slices.Repeat([]string{strings.Repeat("m", 1<<19-1) + "\n"}, 8), calls: 1},
		{name: "4 MiB and a byte are two calls", input: strings.Repeat(strings.Repeat("m", 1<<19-1)+"\n", 8) + "x", want: append(slices.Repeat([]string{strings.Repeat("m", 1<<19-1) + "\n"}, 8), "x"), calls: 2},
		{name: "the longest record", input: long + "\n", args: []string{"--delimiter", "strip"}, want: []string{long}, calls: 1},
		{name: "the longest record with its newline", input: long[1:] + "\n", want: []string{long[1:] + "\n"}, calls: 1},
		{name: "a record that is too long", input: "a\n" + long + "x\nb\n", args: []string{"--delimiter", "strip"}, want: []string{"a", "b"}, calls: 1, code: 1, stderr: "hydrant: line 2 has more than 1024000 bytes and is skipped\n"},
		{name: "a record that is far too long", input: "a\n" + long + long + long + "\nb\n", want: []string{"a\n", "b\n"}, calls: 1, code: 1, stderr: "hydrant: line 2 has more than 1024000 bytes and is skipped\n"},
		{name: "refused records are put again", input: "a\nb\nc\n", answers: []func(http.ResponseWriter, []string) []string{refuse(0, 2), refuse(1)}, want: []string{"b\n", "a\n", "c\n"}, calls: 3},
		{name: "a refused call is repeated", input: "a\n", answers: []func(http.ResponseWriter, []string) []string{answerWith(503, "ServiceUnavailableException"), answerWith(500, "InternalFailure")}, want: []string{"a\n"}, calls: 3},
		{name: "a call that is wrong is not", input: "a\n", answers: []func(http.ResponseWriter, []string) []string{answerWith(400, "ResourceNotFoundException")}, calls: 1, code: 1, stderr: "put 1 record from line 1 on into stream \"s\""},
		{name: "patience ends", input: "a\n", args: []string{"--retry-for", "1ms"}, answers: []func(http.ResponseWriter, []string) []string{answerWith(503, "ServiceUnavailableException")}, calls: 1, code: 1, stderr: "not acknowledged within 1ms"},
		{name: "patience ends with one record", input: "a\nb\n", args: []string{"--retry-for", "50ms"}, answers: []func(http.ResponseWriter, []string) []string{refuse(1)}, want: []string{"a\n"}, calls: 1, code: 1, stderr: "not acknowledged within 50ms (last: ServiceUnavailableException: Slow down.)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEndpoint(t, c.answers...)
			code, stdout, stderr := putLines(t, e, c.input, c.args...)
			e.Close() // a call that nobody waits for any more may still be in there
			if code != c.code || !strings.Contains(stderr, c.stderr) || c.stderr == "" && stderr != "" {
				t.Errorf("exit code %d, want %d; stderr %.300q, want %q", code, c.code, stderr, c.stderr)
			}
			if !slices.Equal(e.stored, c.want) {
				t.Errorf("%d records stored, want %d", len(e.stored), len(c.want))
			}
			if c.calls != e.calls && c.name != "patience ends" {
				t.Errorf("%d calls, want %d", e.calls, c.calls)
			}
			if want := fmt.Sprintf("s: %d records (", len(c.want)); !strings.HasPrefix(stdout, want) {
				t.Errorf("says %q, want %q", stdout, want)
			}
		})
	}
}

// late keeps the request that it answers, as a transport does that has not seen the end of its body.
type late struct{ request *http.Request }

func (l *late) Do(r *http.Request) (*http.Response, error) {
	l.request = r
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"FailedPutCount":0,"RequestResponses":[]}`))}, nil
}

// A transport that looks for the end of a body when the SDK has closed it finds the end and no error.
func TestBodiesEndInPeace(t *testing.T) {
	var l late
	client := firehose.New(firehose.Options{
		Region: "us-east-1", HTTPClient: plainBodies{&l}, BaseEndpoint: aws.String("http://127.0.0.1:1"),
		Credentials: credentials.NewStaticCredentialsProvider("k", "s", ""),
	})
	in := firehose.PutRecordBatchInput{DeliveryStreamName: aws.String("s"), Records: []types.Record{{Data: []byte("a")}}}
	if _, err := client.PutRecordBatch(t.Context(), &in); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, l.request.Body); n != 0 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// With several calls under way every line arrives once.
func TestPutInParallel(t *testing.T) {
	e := newEndpoint(t)
	var input strings.Builder
	want := make([]string, 5000)
	for i := range want {
		want[i] = fmt.Sprintf("line %04d\n", i)
		input.WriteString(want[i])
	}
	if code, _, stderr := putLines(t, e, input.String(), "--parallel", "8"); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	slices.Sort(e.stored)
	if !slices.Equal(e.stored, want) {
		t.Errorf("%d records stored, want %d", len(e.stored), len(want))
	}
}

// A signal ends the command although standard input stays open and silent.
func TestPutIsInterrupted(t *testing.T) {
	e := newEndpoint(t)
	in, silent := io.Pipe()
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	codes := make(chan int)
	var out, errs bytes.Buffer
	go func() { codes <- run(ctx, []string{"put", "--stream", "s", "--endpoint", e.URL}, in, &out, &errs) }()
	if _, err := silent.Write([]byte("a\n")); err != nil { // it reads now
		t.Fatal(err)
	}
	cancel()
	if code := <-codes; code != exitFailed {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
}

func TestBar(t *testing.T) {
	for _, c := range []struct {
		done, total int64
		want        string
	}{{0, 10, "[..........]   0%"}, {5, 10, "[#####.....]  50%"}, {10, 10, "[##########] 100%"}, {20, 10, "[##########] 100%"}, {1, 0, ""}} {
		if got := bar(c.done, c.total, 10); got != c.want {
			t.Errorf("bar(%d, %d) = %q, want %q", c.done, c.total, got, c.want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", -123: "-123"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %q, want %q", n, got, want)
		}
	}
}
