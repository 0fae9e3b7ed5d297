package directput

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"hydrant/record"
	"hydrant/sources"
)

// dial opens a connection to srv.
func dial(t *testing.T, srv *httptest.Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// head is a request up to its body.
func head(op string, headers ...string) string {
	return "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: " + contentType + "\r\nX-Amz-Target: " + targetPrefix + op + "\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n"
}

// answer reads one answer from a connection.
func answer(t *testing.T, conn io.Reader) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res, readAll(t, res.Body)
}

// padded is a body of n bytes that puts one record.
func padded(n int) string {
	body := `{"DeliveryStreamName":"s","Record":{"Data":"YQ=="}}`
	return body + strings.Repeat(" ", n-len(body))
}

func TestBodyLength(t *testing.T) {
	s := newStore(t, "s")
	h := newHandler(t, s)
	srv := server(t, h)
	tooLarge := errorBody("RequestEntityTooLargeException", "The request body is longer than 8388608 bytes.")
	send := func(body io.Reader) (*http.Response, string, error) {
		r, err := http.NewRequest("POST", srv.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("X-Amz-Target", targetPrefix+"PutRecord")
		res, err := srv.Client().Do(r)
		if err != nil {
			return nil, "", err
		}
		defer res.Body.Close()
		return res, readAll(t, res.Body), nil
	}
	for _, chunked := range []bool{false, true} {
		for _, n := range []int{60, 64 << 10, 64<<10 + 1, 1 << 20, MaxBody} {
			var body io.Reader = strings.NewReader(padded(n))
			if chunked {
				body = io.MultiReader(body) // of a type that hides its length
			}
			res, got, err := send(body)
			if err != nil || res.StatusCode != 200 {
				t.Errorf("%d bytes, chunked %v: %v, %s", n, chunked, err, got)
			}
		}
	}
	if got := len(s.calls); got != 10 {
		t.Errorf("%d calls were stored, want 10", got)
	}
	// Too long, by Content-Length: refused before the body is read.
	conn := dial(t, srv)
	fmt.Fprint(conn, head("PutRecord", fmt.Sprintf("Content-Length: %d", MaxBody+1)))
	if res, got := answer(t, conn); res.StatusCode != 413 || got != tooLarge || !res.Close {
		t.Errorf("got %d %s, close %v", res.StatusCode, got, res.Close)
	}
	// Too long, in chunks: refused when it is seen.
	conn = dial(t, srv)
	fmt.Fprint(conn, head("PutRecord", "Transfer-Encoding: chunked"))
	go func() {
		fmt.Fprintf(conn, "%x\r\n%s\r\n", MaxBody, padded(MaxBody))
		fmt.Fprint(conn, "1\r\n \r\n")
	}()
	if res, got := answer(t, conn); res.StatusCode != 413 || got != tooLarge || !res.Close {
		t.Errorf("chunked: got %d %s, close %v", res.StatusCode, got, res.Close)
	}
	if got := len(s.calls); got != 10 {
		t.Errorf("a call that is too long was stored")
	}
	if s.peak > 4*MaxBody {
		t.Errorf("%d bytes were admitted at once", s.peak)
	}
}

// TestBodyCutOff: a body that ends early is never taken for a whole one.
func TestBodyCutOff(t *testing.T) {
	s := newStore(t, "s")
	srv := server(t, newHandler(t, s))
	whole := padded(60)
	for name, request := range map[string]string{
		"length":        head("PutRecord", "Content-Length: 70") + whole,
		"chunk":         head("PutRecord", "Transfer-Encoding: chunked") + "40\r\n" + whole,
		"no last chunk": head("PutRecord", "Transfer-Encoding: chunked") + "3c\r\n" + whole + "\r\n",
	} {
		conn := dial(t, srv)
		fmt.Fprint(conn, request)
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if res, got := answer(t, conn); res.StatusCode != 400 || got != errorBody("SerializationException", "The request body ended early.") {
			t.Errorf("%s: got %d %s", name, res.StatusCode, got)
		}
	}
	if len(s.calls) != 0 {
		t.Errorf("stored %+v", s.calls)
	}
}

// TestSlowBody: a client that stops sending loses its connection and its memory.
func TestSlowBody(t *testing.T) {
	s := newStore(t, "s")
	srv := server(t, newHandler(t, s, func(o *Options) { o.BodyTimeout = 50 * time.Millisecond }))
	for _, request := range []string{
		head("PutRecord", "Content-Length: 1000000") + "{",
		head("PutRecord", "Transfer-Encoding: chunked") + "5\r\n{",
	} {
		conn := dial(t, srv)
		fmt.Fprint(conn, request)
		res, got := answer(t, conn)
		if res.StatusCode != 408 || got != errorBody("RequestTimeoutException", "The request body did not arrive in time.") || !res.Close {
			t.Errorf("got %d %s, close %v", res.StatusCode, got, res.Close)
		}
	}
}

// TestDeadlineEndsWithBody: the time for the body does not limit the Append that follows, nor the next
// call on the connection.
func TestDeadlineEndsWithBody(t *testing.T) {
	s := newStore(t, "s")
	const timeout = 30 * time.Millisecond
	s.before = func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * timeout): // waits for what must not happen
			return nil
		}
	}
	srv := server(t, newHandler(t, s, func(o *Options) { o.BodyTimeout = timeout }))
	conn := dial(t, srv)
	for range 2 {
		fmt.Fprint(conn, head("PutRecord", "Content-Length: 60")+padded(60))
		if res, got := answer(t, conn); res.StatusCode != 200 {
			t.Fatalf("got %d %s", res.StatusCode, got)
		}
	}
}

// TestAdmission: without memory a body is refused before it is read, and the connection stays usable.
func TestAdmission(t *testing.T) {
	s := newStore(t, "s")
	full := true
	var asked []int64
	s.admit = func(n int64) error {
		asked = append(asked, n)
		if full {
			return &record.Refusal{Reason: "memory", Message: "No room."}
		}
		return nil
	}
	h := newHandler(t, s)
	srv := server(t, h)
	conn := dial(t, srv)
	const n = 3 << 20
	sent := make(chan error, 1)
	go func() {
		_, err := fmt.Fprint(conn, head("PutRecord", fmt.Sprintf("Content-Length: %d", n))+padded(n))
		sent <- err
	}()
	if res, got := answer(t, conn); res.StatusCode != 503 || got != errorBody("ServiceUnavailableException", "Slow down. No room.") || res.Close {
		t.Errorf("got %d %s, close %v", res.StatusCode, got, res.Close)
	}
	if err := <-sent; err != nil {
		t.Errorf("the client could not send to the end: %v", err)
	}
	if len(asked) != 1 || asked[0] != n {
		t.Errorf("asked for %d, want [%d]", asked, n)
	}
	full = false
	fmt.Fprint(conn, head("PutRecord", "Content-Length: 60")+padded(60))
	if res, got := answer(t, conn); res.StatusCode != 200 {
		t.Errorf("after that: got %d %s", res.StatusCode, got)
	}
	if got := counted(t, h, "hydrant_put_refused_total", "PutRecord", "memory"); got != 1 {
		t.Errorf("counted %v refusals", got)
	}
	// A client that asks before it sends is refused without being asked for the body.
	full = true
	conn = dial(t, srv)
	fmt.Fprint(conn, head("PutRecord", "Expect: 100-continue", fmt.Sprintf("Content-Length: %d", n)))
	if res, _ := answer(t, conn); res.StatusCode != 503 {
		t.Errorf("with Expect: got %d", res.StatusCode)
	}
}

// TestMemoryIsFreeWhileWaiting: the memory of a body is given back before the call waits for the disk.
func TestMemoryIsFreeWhileWaiting(t *testing.T) {
	s := newStore(t, "s")
	h := newHandler(t, s)
	s.before = func(context.Context) error {
		s.settled()
		return nil
	}
	if w := post(t, h, "PutRecord", padded(100)); w.Code != 200 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestBuffersDoNotMix(t *testing.T) {
	s := newStore(t, "s")
	s.adopt = func(call int) bool { return call%3 == 0 }
	h := newHandler(t, s)
	done := make(chan struct{})
	const callers, calls = 8, 30
	for c := range callers {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range calls {
				body := batchOf(strings.Repeat(fmt.Sprintf("%d-%d.", c, i), 1+i*i*c), "end")
				r := httptest.NewRequest("POST", "/", bytes.NewReader([]byte(body)))
				r.Header.Set("Content-Type", contentType)
				r.Header.Set("X-Amz-Target", targetPrefix+"PutRecordBatch")
				h.ServeHTTP(httptest.NewRecorder(), r)
			}
		}()
	}
	for range callers {
		<-done
	}
	if len(s.calls) != callers*calls {
		t.Fatalf("%d calls were stored", len(s.calls))
	}
	for _, c := range s.calls {
		piece, _, _ := strings.Cut(c.records[0], ".")
		if strings.Trim(strings.ReplaceAll(c.records[0], piece+".", ""), " ") != "" || c.records[1] != "end" {
			t.Fatalf("stored %.100q", c.records)
		}
	}
}

// Calls that are not puts have small documents, of which a lot of memory is made. The sender of one that is too long gets
// the answer, and its connection goes on.
func TestDocumentLength(t *testing.T) {
	s := newStore(t, "s")
	srv := server(t, newHandler(t, s, func(o *Options) { o.Control = &plane{answer: `{}`} }))
	for op, body := range map[string]string{"TagDeliveryStream": `{}`, opDescribe: `{"DeliveryStreamName":"s"}`, opList: `{}`} {
		conn := dial(t, srv)
		for _, chunked := range []bool{false, true} {
			for _, c := range []struct{ n, status int }{{MaxDocument, 200}, {MaxDocument + 1, 413}, {2 << 20, 413}, {MaxDocument, 200}} {
				text := body + strings.Repeat(" ", c.n-len(body))
				if chunked {
					fmt.Fprint(conn, head(op, "Transfer-Encoding: chunked"))
					fmt.Fprintf(conn, "%x\r\n%s\r\n0\r\n\r\n", c.n, text)
				} else {
					fmt.Fprint(conn, head(op, fmt.Sprintf("Content-Length: %d", c.n)), text)
				}
				if res, got := answer(t, conn); res.StatusCode != c.status || res.Close {
					t.Fatalf("%s with %d bytes, chunked %v: %d %s, close %v, want %d", op, c.n, chunked, res.StatusCode, got, res.Close, c.status)
				}
			}
		}
	}
	if s.peak > 4*MaxDocument {
		t.Errorf("%d bytes were admitted at once", s.peak)
	}
}

// deadlines is a ResponseWriter that keeps what its connection is told.
type deadlines struct {
	http.ResponseWriter
	told []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.told = append(d.told, t)
	return nil
}

// TestBodyHasItsPace: a body gets more time as it comes, whether it says how long it is or not.
func TestBodyHasItsPace(t *testing.T) {
	const size = 20 * sources.BodyRate
	for _, length := range []int64{size, -1} {
		h := newHandler(t, newStore(t, "s"))
		w := &deadlines{ResponseWriter: httptest.NewRecorder()}
		r := httptest.NewRequest("POST", "/", iotest.HalfReader(bytes.NewReader(make([]byte, size))))
		r.ContentLength = length
		began := time.Now()
		b, err := h.readBody(w, r, MaxBody)
		if err != nil || len(b.bytes) != size {
			t.Fatalf("length %d: %d bytes, %v", length, len(b.bytes), err)
		}
		b.free()
		if len(w.told) < 2 || w.told[0].Before(began.Add(sources.BodyGrace)) || w.told[0].After(time.Now().Add(sources.BodyGrace)) {
			t.Fatalf("length %d: deadlines %v after %v", length, w.told, began)
		}
		if more := w.told[len(w.told)-1].Sub(w.told[0]); more < 19*time.Second || more > 20*time.Second {
			t.Errorf("length %d: %v more for %d bytes", length, more, size)
		}
	}
}
