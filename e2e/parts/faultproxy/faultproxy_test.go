package faultproxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a server that notes which bodies it has taken whole.
type recorder struct {
	mu    sync.Mutex
	taken []string
}

func (s *recorder) clear() {
	s.mu.Lock()
	s.taken = nil
	s.mu.Unlock()
}

// took polls for what the server was given: it may notice the end of half a request after its sender.
func (s *recorder) took(want []string) string {
	deadline := time.Now().Add(5 * time.Second)
	for {
		s.mu.Lock()
		got := fmt.Sprint(s.taken)
		s.mu.Unlock()
		if got == fmt.Sprint(want) || time.Now().After(deadline) {
			return got
		}
		time.Sleep(time.Millisecond)
	}
}

func (s *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.taken = append(s.taken, "part")
		return
	}
	s.taken = append(s.taken, string(b))
	w.Header().Set("X-Host", r.Host)
	w.Header().Set("X-Path", r.URL.EscapedPath()+"?"+r.URL.RawQuery)
	w.Header().Set("X-Condition", r.Header.Get("If-None-Match"))
	fmt.Fprintf(w, "answer %d", len(s.taken))
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		fault Fault
		taken []string // by the server
		want  string   // status and body that the client sees, or "error"
	}{
		{DropBefore(), nil, "error"},
		{DropAfter(), []string{"0123456789"}, "error"},
		{DropAfterDoing("nothing", func() {}), []string{"0123456789"}, "error"},
		{PassAfterDoing("nothing", func(*http.Request) {}), []string{"0123456789"}, "200 answer 1"},
		{TruncateRequest(), []string{"part"}, "error"},
		{TruncateAnswer(), []string{"0123456789"}, "error"},
		{Answer(503, "SlowDown"), nil, "503 <?xml"},
		{Answer(502, ""), nil, "502 <html>"},
		{Answer(200, "InternalError"), nil, "200 <?xml"},
		{AnswerAfter(500, "InternalError"), []string{"0123456789"}, "500 <?xml"},
		{Duplicate(false), []string{"0123456789", "0123456789"}, "200 answer 1"},
		{Duplicate(true), []string{"0123456789", "0123456789"}, "200 answer 2"},
		{Delay(time.Millisecond), []string{"0123456789"}, "200 answer 1"},
		{Hang(), nil, "error"},
		{RemoveHeader("If-None-Match"), []string{"0123456789"}, "200 answer 1"},
	} {
		t.Run(c.fault.String(), func(t *testing.T) {
			server := &recorder{}
			target := httptest.NewServer(server)
			defer target.Close()
			p := New(t, target.URL)
			p.Inject(Rule{Fault: c.fault, Skip: 1, Match: On("PutObject")})
			for i, want := range []string{"200 answer", c.want, "200 answer"} {
				server.clear()
				got := put(t, p.URL)
				if !strings.HasPrefix(got, want) {
					t.Errorf("request %d: %q, want %q", i, got, want)
				}
				if i == 1 {
					if got := server.took(c.taken); got != fmt.Sprint(c.taken) {
						t.Errorf("the server took %s, want %s", got, c.taken)
					}
				}
			}
			if got := p.Hits(); got != 1 {
				t.Errorf("%d hits", got)
			}
			if got := fmt.Sprint(p.Asked()); got != "[PutObject PutObject PutObject]" {
				t.Errorf("asked: %s", got)
			}
		})
	}
}

func put(t *testing.T, base string) string {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 500 * time.Millisecond}
	req, err := http.NewRequest("PUT", base+"/b/a%2Fb%20c", strings.NewReader("0123456789"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("If-None-Match", "*")
	res, err := client.Do(req)
	if err != nil {
		return "error"
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return "error"
	}
	return fmt.Sprintf("%d %s", res.StatusCode, b)
}

// TestRequestsArePassedOnAsTheyWereSigned: host, path, query and headers.
func TestRequestsArePassedOnAsTheyWereSigned(t *testing.T) {
	target := httptest.NewServer(&recorder{})
	defer target.Close()
	for name, p := range map[string]*Proxy{"http": New(t, target.URL), "https": NewTLS(t, target.URL)} {
		client := http.DefaultTransport.(*http.Transport).Clone()
		client.TLSClientConfig.InsecureSkipVerify = true
		req, _ := http.NewRequest("PUT", p.URL+"/b/a%2Fb%20c+%C3%BC?x-id=PutObject&z=", strings.NewReader("x"))
		req.Header.Set("If-None-Match", "*")
		res, err := client.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		res.Body.Close()
		client.CloseIdleConnections()
		if got := res.Header.Get("X-Host"); !strings.Contains(p.URL, got) || got == "" {
			t.Errorf("%s: host %q", name, got)
		}
		if got := res.Header.Get("X-Path"); got != "/b/a%2Fb%20c+%C3%BC?x-id=PutObject&z=" {
			t.Errorf("%s: path %q", name, got)
		}
		if got := res.Header.Get("X-Condition"); got != "*" {
			t.Errorf("%s: condition %q", name, got)
		}
	}
}

func TestOperation(t *testing.T) {
	for request, want := range map[string]string{
		"PUT /b/k": "PutObject", "PUT /b/k?x-id=PutObject": "PutObject", "HEAD /b/k": "HeadObject", "GET /b/k": "",
		"POST /b/k?uploads": "CreateMultipartUpload", "PUT /b/k?partNumber=1&uploadId=u&x-id=UploadPart": "UploadPart",
		"POST /b/k?uploadId=u": "CompleteMultipartUpload", "DELETE /b/k?uploadId=u": "AbortMultipartUpload", "GET /b?uploads&prefix=k": "ListMultipartUploads",
		"PUT /b/k?tagging": "", "DELETE /b/k": "",
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := Operation(httptest.NewRequest(method, path, nil)); got != want {
			t.Errorf("%s is %q, want %q", request, got, want)
		}
	}
}

// TestDoingHappensInBetween: after the server's work and before the client learns of it, or before both.
func TestDoingHappensInBetween(t *testing.T) {
	server := &recorder{}
	target := httptest.NewServer(server)
	defer target.Close()
	var seen []string
	look := func() {
		server.mu.Lock()
		defer server.mu.Unlock()
		seen = append(seen, fmt.Sprint(len(server.taken)))
	}
	p := New(t, target.URL)
	p.Inject(Rule{Fault: DropAfterDoing("a look", look)})
	p.Inject(Rule{Fault: PassAfterDoing("a look", func(*http.Request) { look() })})
	for i, want := range []string{"error", "200 answer 2"} {
		if got := put(t, p.URL); got != want {
			t.Errorf("request %d: %q, want %q", i, got, want)
		}
	}
	if got := strings.Join(seen, " "); got != "1 1" {
		t.Errorf("bodies that the server had taken when it was looked at: %s, want 1 1", got)
	}
}
