package hook_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hydrant/record"
	"hydrant/transform"
	"hydrant/transform/hook"
	"hydrant/transform/hook/hooktest"
	hookhttp "hydrant/transform/hook/http"
)

// ids of rows 1 to 9 of the directory and incarnation 0.
func id(seq uint64) string { return string(hook.AppendID(nil, [16]byte{}, 0, record.Row{Seq: seq})) }

// server answers requests in turn, the last answer for all that follow, and keeps the requests.
type server struct {
	mu       sync.Mutex
	answers  []func(http.ResponseWriter, *http.Request)
	requests []event
	bodies   []string
}

type event struct {
	InvocationID      string `json:"invocationId"`
	DeliveryStreamARN string `json:"deliveryStreamArn"`
	Region            string
	Records           []struct {
		RecordID string `json:"recordId"`
		Arrived  int64  `json:"approximateArrivalTimestamp"`
		Data     []byte
	}
}

func serve(t testing.TB, answers ...func(http.ResponseWriter, *http.Request)) (*server, string) {
	t.Helper()
	s := &server{answers: answers}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the caller has gone away
		}
		var e event
		if err := json.Unmarshal(body, &e); err != nil {
			t.Errorf("request %q: %v", body, err)
		}
		s.mu.Lock()
		s.requests, s.bodies = append(s.requests, e), append(s.bodies, string(body))
		answer := s.answers[min(len(s.requests), len(s.answers))-1]
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(h.Close)
	return s, h.URL
}

// seen are the requests so far.
func (s *server) seen() []event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func says(status int, body string, header ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// records is an answer with these elements; #1 stands for the id of row 1, and so on.
func records(elements ...string) string {
	text := `{"records":[` + strings.Join(elements, ",") + `]}`
	for seq := uint64(1); seq <= 9; seq++ {
		text = strings.ReplaceAll(text, fmt.Sprintf("#%d", seq), id(seq))
	}
	return text
}

func ok(n int) string {
	return fmt.Sprintf(`{"recordId":"#%d","result":"Ok","data":"%s"}`, n, base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "new %d", n)))
}

func invoker(t testing.TB, url string, o hook.Options) *hook.Invoker {
	t.Helper()
	if o.Carrier == nil {
		c, err := hookhttp.New(hookhttp.Options{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		o.Carrier = c
	}
	if o.Retries == nil {
		o.Retries = new(int)
	}
	v, err := hook.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// text of an outcome: its data, "Dropped", or the code of the failure.
func text(o hooktest.Kept) string {
	switch o.Outcome.Outcome {
	case transform.Dropped:
		return "Dropped"
	case transform.Failed:
		return o.Failure.Code
	}
	return o.Text
}

func TestAnswers(t *testing.T) {
	const (
		missing    = "Lambda.MissingRecordId"
		duplicated = "Lambda.DuplicatedRecordId"
		function   = "Lambda.FunctionError"
		format     = "Lambda.InvalidReturnFormat"
		processing = "Lambda.JsonProcessingException"
		mapping    = "Lambda.JsonMappingException"
		extraction = "DynamicPartitioning.MetadataExtractionFailed"
	)
	all := func(code string) []string { return []string{code, code, code} }
	for _, c := range []struct {
		name, answer string
		want         []string // for rows 1 to 3
	}{
		{"as it should be", records(ok(1), ok(2), ok(3)), []string{"new 1", "new 2", "new 3"}},
		{"another order", records(ok(3), ok(1), ok(2)), []string{"new 1", "new 2", "new 3"}},
		{"backwards", records(ok(3), ok(2), ok(1)), []string{"new 1", "new 2", "new 3"}},
		{"all results", records(`{"recordId":"#1","result":"Dropped"}`, `{"recordId":"#2","result":"ProcessingFailed","data":null}`, ok(3)), []string{"Dropped", "Lambda.ProcessingFailedStatus", "new 3"}},
		{"missing", records(ok(1), ok(3)), []string{"new 1", missing, "new 3"}},
		{"no element", records(), all(missing)},
		{"no records", `{}`, all(missing)},
		{"null records", `{"records":null}`, all(missing)},
		{"records twice", `{"records":[` + strings.Repeat(" ", 10) + `],` + records(ok(1), ok(2), ok(3))[1:], []string{"new 1", "new 2", "new 3"}},
		{"twice the same", records(ok(1), ok(2), ok(2), ok(3), ok(2)), []string{"new 1", duplicated, "new 3"}},
		{"unknown", records(ok(1), `{"recordId":"other","result":"what","data":"!"}`, `{"result":"Ok"}`, `{"recordId":null}`, ok(2), ok(3)), []string{"new 1", "new 2", "new 3"}},
		{"an id of another length", records(ok(1), `{"recordId":"#2.1","result":"Ok","data":""}`, ok(3)), []string{"new 1", missing, "new 3"}},
		{"wrong case of the result", records(ok(1), `{"recordId":"#2","result":"OK","data":""}`, ok(3)), all(function)},
		{"no result", records(ok(1), `{"recordId":"#2","data":""}`, ok(3)), all(function)},
		{"bad base64", records(ok(1), `{"recordId":"#2","result":"Ok","data":"a"}`, ok(3)), all(function)},
		{"base64 for URLs", records(ok(1), `{"recordId":"#2","result":"Ok","data":"_-8="}`, ok(3)), all(function)},
		{"base64 without padding", records(ok(1), `{"recordId":"#2","result":"Ok","data":"YQ"}`, ok(3)), all(function)},
		{"base64 in lines", records(ok(1), `{"recordId":"#2","result":"Ok","data":"YWJj\nYWJj\n\n\n"}`, ok(3)), all(function)},
		{"escaped base64", records(ok(1), `{"recordId":"#2","result":"Ok","data":"\/\u002B8="}`, ok(3)), []string{"new 1", "\xff\xef", "new 3"}},
		{"null data", records(ok(1), `{"recordId":"#2","result":"Ok","data":null}`, `{"recordId":"#3","result":"Ok"}`), []string{"new 1", format, format}},
		{"empty data", records(ok(1), `{"recordId":"#2","result":"Ok","data":""}`, ok(3)), []string{"new 1", "", "new 3"}},
		{"not JSON", `records`, all(processing)},
		{"not whole", records(ok(1), ok(2), ok(3))[:100], all(processing)},
		{"more than JSON", records(ok(1), ok(2), ok(3)) + "x", all(processing)},
		{"not UTF-8", "{\"records\":[],\"x\":\"\xff\"}", all(processing)},
		{"a string", `"{}"`, all(mapping)},
		{"an array", `[]`, all(mapping)},
		{"null", `null`, all(mapping)},
		{"records an object", `{"records":{}}`, all(mapping)},
		{"an element a string", records(ok(1), `"#2"`, ok(3)), all(mapping)},
		{"data an object", records(ok(1), `{"recordId":"#2","result":"Ok","data":{}}`, ok(3)), all(mapping)},
		{"names in another case", strings.ReplaceAll(records(ok(1)), "recordId", "RecordId"), all(missing)},
		{"names with escapes", strings.ReplaceAll(records(ok(1), ok(2), ok(3)), "records", `\u0072ecords`), []string{"new 1", "new 2", "new 3"}},
		{"much else", `{"a":[1,-2.5e+3,true,false,null,{"b":{}}],` + strings.ReplaceAll(records(ok(1), ok(2), ok(3))[1:], `"recordId"`, ` "x" : [ [ ] ] , "recordId"`), []string{"new 1", "new 2", "new 3"}},
		{"a metadata that nobody wants", records(`{"recordId":"#1","result":"Ok","data":"","metadata":7}`), []string{"", missing, missing}},
	} {
		s, url := serve(t, says(200, c.answer))
		retries := 2
		got := hooktest.Invoke(t, invoker(t, url, hook.Options{Retries: &retries}), hooktest.Rows("old 1", "old 2", "old 3"))
		for i, o := range got {
			if text(o) != c.want[i] {
				t.Errorf("%s: row %d: %q, not %q", c.name, i+1, text(o), c.want[i])
			}
			if o.Failure != nil && o.Text != fmt.Sprintf("old %d", i+1) {
				t.Errorf("%s: row %d failed with %q and not as it was", c.name, i+1, o.Text)
			}
			if o.Attempts != 1 {
				t.Errorf("%s: row %d: %d attempts", c.name, i+1, o.Attempts)
			}
		}
		if len(s.seen()) != 1 {
			t.Errorf("%s: %d requests, and an answer is final", c.name, len(s.seen()))
		}
	}

	meta := func(keys string) string {
		return records(`{"recordId":"#1","result":"Ok","data":"eA==","metadata":` + keys + `}`)
	}
	for _, c := range []struct{ answer, want string }{
		{meta(`{"partitionKeys":{"a":"1","b":"2","c":"3"}}`), `map[a:1 b:2]`},
		{meta(`{"partitionKeys":{"b":2.50,"a":true}}`), `map[a:true b:2.50]`},
		{meta(`{"partitionKeys":{"a":"x\"\/ü","b":"\ud83d\ude00"}}`), `map[a:x"/ü b:😀]`},
		{meta(`{"partitionKeys":{"a":"1"}}`), extraction},
		{meta(`{"partitionKeys":{"a":"1","b":""}}`), extraction},
		{meta(`{"partitionKeys":{"a":null,"b":"1"}}`), extraction},
		{meta(`{"partitionKeys":{}}`), extraction},
		{meta(`{"partitionKeys":null}`), extraction},
		{meta(`null`), extraction},
		{records(ok(1)), extraction},
		{meta(`{"partitionKeys":{"a":["1"],"b":"1"}}`), mapping},
		{meta(`{"partitionKeys":"a"}`), mapping},
		{meta(`[]`), mapping},
		{meta(`{"partitionKeys":{"c":["1"],"a":"1","b":"1"}}`), `map[a:1 b:1]`},
	} {
		_, url := serve(t, says(200, c.answer))
		got := hooktest.Invoke(t, invoker(t, url, hook.Options{PartitionKeys: []string{"a", "b"}}), hooktest.Rows("old"))[0]
		said := text(got)
		if got.Failure == nil {
			said = fmt.Sprint(got.Partitions)
		} else if said == extraction && (got.Failure.Type != "metadata-extraction-failed" || got.Failure.Message != "partitionKeys values must not be null or empty") {
			t.Errorf("%s: %+v", c.answer, got.Failure)
		}
		if said != c.want {
			t.Errorf("%s: %s, not %s", c.answer, said, c.want)
		}
	}
}

func TestFailedCalls(t *testing.T) {
	good := says(200, records(ok(1)))
	for _, c := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request)
		code   string
	}{
		{"header", says(200, `{"errorMessage":"boom","errorType":"Error"}`, "X-Amz-Function-Error", "Unhandled"), "Lambda.FunctionError"},
		{"header alone", says(200, records(ok(1)), "X-Amz-Function-Error", "Handled"), "Lambda.FunctionError"},
		{"emulator", says(200, `{"errorType":"Error","errorMessage":"boom","trace":[]}`), "Lambda.FunctionError"},
		{"emulator, timed out", says(200, `Task timed out after 3.00 seconds`), "Lambda.FunctionTimedOut"},
		{"emulator, process ended", says(200, ``), "Lambda.FunctionError"},
		{"emulator, failed to start", says(502, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: 1 Error: Runtime exited with error: exit status 42"}`), "Lambda.FunctionError"},
		{"Lambda, timed out", says(200, `{"errorMessage":"2026-09-10T00:00:00Z 7f39 Task timed out after 3.00 seconds"}`, "X-Amz-Function-Error", "Unhandled"), "Lambda.FunctionTimedOut"},
		{"Lambda, timed out, newer", says(200, `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: 7f39 Error: Task timed out after 3.00 seconds"}`, "X-Amz-Function-Error", "Unhandled"), "Lambda.FunctionTimedOut"},
		{"function URL", says(502, `Internal Server Error`), "Lambda.FunctionError"},
		{"400", says(400, ``), "Lambda.InvocationFailure"},
		{"401", says(401, ``), "Lambda.InvokeAccessDenied"},
		{"403", says(403, `{"Message":"Forbidden"}`), "Lambda.InvokeAccessDenied"},
		{"404", says(404, ``), "Lambda.ResourceNotFound"},
		{"429", says(429, ``), "Lambda.InvokeLimitExceeded"},
		{"500", says(500, ``), "Lambda.InternalServerError"},
		{"500 with an error of the function", says(500, `{"errorType":"Error","errorMessage":"boom"}`), "Lambda.FunctionError"},
		{"503", says(503, ``), "Lambda.ServiceUnavailable"},
		{"504", says(504, ``), "Lambda.FunctionRequestTimedOut"},
		{"redirect", says(307, ``, "Location", "http://127.0.0.1:1/"), "Lambda.InvocationFailure"},
		{"hangs up", hangUp, "Lambda.TargetServerFailedToRespond"},
		{"hangs up in the middle", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{"records":[`)
		}, "Lambda.TargetServerFailedToRespond"},
		{"too slow", hang, "Lambda.FunctionRequestTimedOut"},
		{"too slow in the middle", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"records":[`)
			w.(http.Flusher).Flush()
			hang(w, r)
		}, "Lambda.FunctionRequestTimedOut"},
		{"one answer too large", says(200, strings.Repeat(" ", hook.MaxAnswer+1)), "Lambda.FunctionError"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			timeout := 20 * time.Second
			if strings.HasPrefix(c.name, "too slow") {
				timeout = 100 * time.Millisecond
			}
			s, url := serve(t, c.answer)
			one := 1
			got := hooktest.Invoke(t, invoker(t, url, hook.Options{Retries: &one, Timeout: timeout}), hooktest.Rows("old"))[0]
			if text(got) != c.code || got.Attempts != 2 || got.Failure.Type != "processing-failed" || got.Failure.Message == "" || got.Text != "old" {
				t.Errorf("%s after %d attempts: %+v", text(got), got.Attempts, got.Failure)
			}
			if len(s.seen()) != 2 {
				t.Fatalf("%d requests", len(s.seen()))
			}
			a, b := s.seen()[0], s.seen()[1]
			if a.InvocationID == b.InvocationID || len(a.InvocationID) != 36 || a.Records[0].RecordID != b.Records[0].RecordID {
				t.Errorf("the second attempt is %+v, the first %+v", b, a)
			}
			// With one that is good after it, it is as if nothing had been.
			_, url = serve(t, c.answer, good)
			got = hooktest.Invoke(t, invoker(t, url, hook.Options{Retries: &one, Timeout: max(timeout, time.Second)}), hooktest.Rows("old"))[0]
			if text(got) != "new 1" || got.Attempts != 2 {
				t.Errorf("then %q after %d attempts", text(got), got.Attempts)
			}
			// NumberOfRetries 0 is one attempt.
			s, url = serve(t, c.answer, good)
			got = hooktest.Invoke(t, invoker(t, url, hook.Options{Timeout: timeout}), hooktest.Rows("old"))[0]
			if text(got) != c.code || got.Attempts != 1 || len(s.seen()) != 1 {
				t.Errorf("without retries: %s after %d attempts", text(got), got.Attempts)
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	got := hooktest.Invoke(t, invoker(t, "http://"+l.Addr().String(), hook.Options{}), hooktest.Rows("a", "b"))
	for _, o := range got {
		if text(o) != "Lambda.InvocationFailure" || o.Attempts != 1 {
			t.Errorf("%s after %d attempts", text(o), o.Attempts)
		}
	}
}

// TestTooLarge: 413 and answers that are too large halve the batch, down to one row.
func TestTooLarge(t *testing.T) {
	for name, refuse := range map[string]func(http.ResponseWriter){
		"413": func(w http.ResponseWriter) { w.WriteHeader(413) },
		"length": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", fmt.Sprint(hook.MaxAnswer+1))
			io.WriteString(w, strings.Repeat(" ", hook.MaxAnswer+1))
		},
		"chunks": func(w http.ResponseWriter) {
			w.(http.Flusher).Flush()
			io.WriteString(w, strings.Repeat(" ", hook.MaxAnswer+1))
		},
	} {
		var s *server
		s, url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			s.mu.Lock()
			e := s.requests[len(s.requests)-1]
			s.mu.Unlock()
			if len(e.Records) > 2 {
				refuse(w)
				return
			}
			var elements []string
			for _, r := range e.Records {
				elements = append(elements, fmt.Sprintf(`{"recordId":%q,"result":"Ok","data":"%s"}`, r.RecordID, base64.StdEncoding.EncodeToString(append(r.Data, '!'))))
			}
			io.WriteString(w, `{"records":[`+strings.Join(elements, ",")+`]}`)
		})
		got := hooktest.Invoke(t, invoker(t, url, hook.Options{Concurrency: 1}), hooktest.Rows("a", "b", "c", "d", "e"))
		for i, o := range got {
			if want := string("abcde"[i]) + "!"; text(o) != want || o.Attempts != []int{2, 2, 3, 3, 3}[i] {
				t.Errorf("%s: row %d: %q after %d attempts", name, i, text(o), o.Attempts)
			}
		}
		var sizes []int
		for _, e := range s.seen() {
			sizes = append(sizes, len(e.Records))
		}
		if !slices.Equal(sizes, []int{5, 2, 3, 1, 2}) {
			t.Errorf("%s: requests of %v rows", name, sizes)
		}
	}
}

// TestLimits: answers and requests of exactly the largest size are good, and one byte more is too much.
func TestLimits(t *testing.T) {
	answer := records(ok(1))
	_, url := serve(t, says(200, answer+strings.Repeat(" ", hook.MaxAnswer-len(answer))))
	if got := hooktest.Invoke(t, invoker(t, url, hook.Options{}), hooktest.Rows("old"))[0]; text(got) != "new 1" {
		t.Errorf("an answer of the largest size: %s", text(got))
	}

	// A row that no request can hold fails without one, and those around it do not.
	s, url := serve(t, says(200, records(ok(1), ok(3))))
	got := hooktest.Invoke(t, invoker(t, url, hook.Options{}), hooktest.Rows("old", strings.Repeat("x", hook.MaxRequest/4*3), "old"))
	if text(got[0]) != "new 1" || text(got[1]) != "Lambda.InvocationFailure" || got[1].Attempts != 0 || text(got[2]) != "new 3" || len(s.seen()) != 2 {
		t.Errorf("%s, %s after %d attempts, %s, %d requests", text(got[0]), text(got[1]), got[1].Attempts, text(got[2]), len(s.seen()))
	}
	for _, b := range s.bodies {
		if len(b) > hook.MaxRequest {
			t.Errorf("a request of %d bytes", len(b))
		}
	}
	s, url = serve(t, says(200, records(ok(1), ok(2), ok(3))))
	got = hooktest.Invoke(t, invoker(t, url, hook.Options{}), hooktest.Rows(strings.Repeat("x", 2_200_000), strings.Repeat("y", 2_200_000), strings.Repeat("z", 2_200_000)))
	if text(got[0])+text(got[1])+text(got[2]) != "new 1new 2new 3" || len(s.seen()) != 2 {
		t.Errorf("three large rows: %s, %s, %s, %d requests", text(got[0]), text(got[1]), text(got[2]), len(s.seen()))
	}
}

func TestRequest(t *testing.T) {
	s, url := serve(t, says(200, `{}`))
	v := invoker(t, url, hook.Options{DeliveryStreamARN: `arn:"<&>"`, Region: "r", Directory: [16]byte{0xff}, Incarnation: 1})
	rows := []record.Row{{Seq: 1, Arrived: 1_789_014_240_448_999, Data: []byte("hello")}, {Seq: 2, Sub: 12, Arrived: 999, Data: nil}}
	hooktest.Invoke(t, v, rows)
	id := s.seen()[0].InvocationID
	first := record.ID{Directory: [16]byte{0xff}, Incarnation: 1, Seq: 1}.String()
	second := record.ID{Directory: [16]byte{0xff}, Incarnation: 1, Seq: 2}.String() + ".12"
	want := `{"invocationId":"` + id + `","deliveryStreamArn":"arn:\"<&>\"","region":"r","records":[` +
		`{"recordId":"` + first + `","approximateArrivalTimestamp":1789014240448,"data":"aGVsbG8="},` +
		`{"recordId":"` + second + `","approximateArrivalTimestamp":0,"data":""}]}`
	if s.bodies[0] != want {
		t.Errorf("request\n%s, not\n%s", s.bodies[0], want)
	}
}

func TestFailedRecordLine(t *testing.T) {
	f := hook.Failed{Raw: []byte("hello"), Code: "Lambda.ProcessingFailedStatus", Message: "ProcessingFailed status set for record", Attempts: 1,
		Arrived: 1_789_014_240_448_999, Ended: time.UnixMilli(1_789_014_301_529), Function: "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST"}
	for _, c := range []struct{ function, want string }{
		{f.Function, `"arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST"`},
		{`http://h/"<&>ü`, `"http://h/\"<&>ü"`},
	} {
		f.Function = c.function
		want := `{"rawData":"aGVsbG8=","errorCode":"Lambda.ProcessingFailedStatus","errorMessage":"ProcessingFailed status set for record","attemptsMade":1,` +
			`"arrivalTimestamp":1789014240448,"attemptEndingTimestamp":1789014301529,"lambdaARN":` + c.want + "}\n"
		if got := string(hook.AppendFailed([]byte("x"), f)); got != "x"+want {
			t.Errorf("line\n%s, not\n%s", got, want)
		}
	}
}

func TestEndings(t *testing.T) {
	// The context ends an attempt, and the pause before the next.
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request){"attempt": hang, "pause": says(429, "", "Retry-After", "3600")} {
		ctx, cancel := context.WithCancel(context.Background())
		asked := make(chan struct{}, 1)
		_, url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			asked <- struct{}{}
			answer(w, r)
		})
		one := 1
		v := invoker(t, url, hook.Options{Retries: &one})
		go func() {
			<-asked
			cancel()
		}()
		err := v.Invoke(ctx, hooktest.Rows("old"), func(*hook.Outcome) error {
			t.Errorf("%s: an outcome", name)
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// So does an error of emit.
	_, url := serve(t, says(200, records(ok(1), ok(2))))
	enough := errors.New("enough")
	n := 0
	err := invoker(t, url, hook.Options{}).Invoke(context.Background(), hooktest.Rows("a", "b"), func(*hook.Outcome) error {
		n++
		return enough
	})
	if err != enough || n != 1 {
		t.Errorf("%v after %d outcomes", err, n)
	}
}

func TestOptions(t *testing.T) {
	c, err := hookhttp.New(hookhttp.Options{URL: "http://127.0.0.1/"})
	if err != nil {
		t.Fatal(err)
	}
	number := func(n int) *int { return &n }
	for _, x := range []struct {
		o    hook.Options
		want string
	}{
		{hook.Options{}, "a hook needs a carrier"},
		{hook.Options{Carrier: c}, ""},
		{hook.Options{Carrier: c, Retries: number(0)}, ""},
		{hook.Options{Carrier: c, Retries: number(300)}, ""},
		{hook.Options{Carrier: c, Retries: number(301)}, "retries: 301 is not between 0 and 300"},
		{hook.Options{Carrier: c, Retries: number(-1)}, "retries: -1 is not between 0 and 300"},
		{hook.Options{Carrier: c, Timeout: hook.MaxTimeout}, ""},
		{hook.Options{Carrier: c, Timeout: hook.MaxTimeout + 1}, "timeout: 15m0.000000001s is not between 0s and 15m0s"},
		{hook.Options{Carrier: c, Timeout: -1}, "timeout: -1ns is not between 0s and 15m0s"},
		{hook.Options{Carrier: c, Concurrency: 256}, ""},
		{hook.Options{Carrier: c, Concurrency: 257}, "concurrency: 257 is not between 1 and 256"},
		{hook.Options{Carrier: c, PartitionKeys: []string{"a", ""}}, "partition keys: number 1 is empty"},
		{hook.Options{Carrier: c, DeliveryStreamARN: strings.Repeat("x", 5000)}, "delivery stream ARN and region have 5101 bytes in a request, at most 4096 are sent"},
	} {
		got := ""
		if _, err := hook.New(x.o); err != nil {
			got = err.Error()
		}
		if got != x.want {
			t.Errorf("%q, not %q", got, x.want)
		}
	}
}
