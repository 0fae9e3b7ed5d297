package plainhttp

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"hydrant/record"
	"hydrant/sources"
)

// textOf is n bytes of lines that do not compress well.
func textOf(n int) string {
	raw := make([]byte, n/2+1)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(raw)
	b := []byte(hex.EncodeToString(raw)[:n])
	for i := 999; i < n; i += 1000 {
		b[i] = '\n'
	}
	return string(b)
}

// TestBodyLimit: both sides of the longest body, in every coding, with its length told before and without.
func TestBodyLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	s := &store{t: t}
	h := newHandler(t, s)
	srv := httptest.NewServer(h)
	defer srv.Close()
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: 10 * time.Second}}
	defer client.CloseIdleConnections()
	fits, over := textOf(MaxBody), textOf(MaxBody+1)
	for _, c := range []struct {
		name, coding string
		encode       func(string) string
	}{
		{"identity", "identity", func(s string) string { return s }},
		{"gzip", "gzip", func(s string) string { return gzipOf(t, s) }},
		{"gzip, two members", "gzip", func(s string) string { return gzipOf(t, s[:100], s[100:]) }},
		{"zstd", "zstd", func(s string) string { return zstdOf(t, s) }},
		{"zstd, two frames", "zstd", func(s string) string { return zstdOf(t, s[:300], s[300:]) }}, // the first says its length
		{"zstd, unknown length", "zstd", func(s string) string { return zstdStream(t, s) }},
	} {
		for body, want := range map[string]int{fits: 200, over: 413} {
			encoded := c.encode(body)
			for way := range 4 {
				chunked, asks := way&1 > 0, way&2 > 0
				var r io.Reader = strings.NewReader(encoded)
				if chunked {
					r = struct{ io.Reader }{r}
				}
				req, err := http.NewRequest("POST", srv.URL+"/v1/streams/s/records", r)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", mediaNDJSON)
				req.Header.Set("Content-Encoding", c.coding)
				if asks {
					req.Header.Set("Expect", "100-continue")
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatalf("%s, chunked %v, asks before %v: %v", c.name, chunked, asks, err)
				}
				answer, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				lines := len(s.taken())
				if resp.StatusCode != want || want == 200 && lines != (MaxBody+999)/1000 || want != 200 && lines > 0 {
					t.Errorf("%s, %d bytes, chunked %v: %d %s, %d records", c.name, len(body), chunked, resp.StatusCode, answer, lines)
				}
			}
		}
	}
	// One that is far too long is read on for a while, so that the sender gets to know.
	resp, err := client.Post(srv.URL+"/v1/streams/s/records", mediaNDJSON, strings.NewReader(strings.Repeat(fits, 3)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("three times too long: %d", resp.StatusCode)
	}
	// Body and what it decodes to are never there together with more than a buffer that doubles beside.
	if s.peak > maxRaw+2*(MaxBody+1) {
		t.Errorf("%d bytes were admitted at once", s.peak)
	}
}

// TestBombs: what decompresses to far too much is refused for what has been read until then, and what lies about
// its length gets no memory for it.
func TestBombs(t *testing.T) {
	s := &store{t: t}
	h := newHandler(t, s)
	zeros := strings.Repeat("0", 64<<20)
	gz, zs := gzipOf(t, zeros), zstdStream(t, zeros)
	liar := []byte(zstdOf(t, strings.Repeat("a\n", 1<<10)))
	small := []byte(gzipOf(t, "a\n"))
	binary.LittleEndian.PutUint32(small[len(small)-4:], 0xffffffff)
	for _, c := range []struct {
		name, coding, body string
		status             int
		admitted           int64
	}{
		{"gzip", "gzip", gz, 413, 3*MaxBody + int64(len(gz))},
		{"zstd", "zstd", zs, 413, MaxBody + maxBlock + int64(len(zs))},
		{"zstd that says so", "zstd", zstdOf(t, zeros), 413, 64 << 10},
		{"gzip that lies about its length", "gzip", string(small), 400, 64 << 10},
		{"zstd without what it promises", "zstd", string(liar[:10]), 400, 64<<10 + maxBlock},
		{"many empty members", "gzip", strings.Repeat(gzipOf(t, ""), 50000), 400, 4 << 20},
	} {
		s.peak = 0
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		w := post(t, h, mediaNDJSON, c.body, "Content-Encoding", c.coding)
		runtime.ReadMemStats(&after)
		if w.Code != c.status || len(s.taken()) > 0 {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		if s.peak > c.admitted {
			t.Errorf("%s: %d bytes were admitted, more than %d", c.name, s.peak, c.admitted)
		}
		// Beside what is admitted: the recorder, a decoder, and buffers that were let go.
		if took := after.TotalAlloc - before.TotalAlloc; took > uint64(4*MaxBody+len(c.body)) {
			t.Errorf("%s: %d bytes were allocated", c.name, took)
		}
	}
	// Where there is no memory for what comes out, the request is refused and may be sent again.
	s.admit = func(n int64) error {
		if n > 1<<20 {
			return &record.Refusal{Reason: "memory", Message: "No memory."}
		}
		return nil
	}
	for coding, body := range map[string]string{"gzip": gzipOf(t, textOf(2<<20)), "zstd": zstdOf(t, strings.Repeat("abc\n", 1<<19))} {
		if w := post(t, h, mediaNDJSON, body, "Content-Encoding", coding); w.Code != 503 {
			t.Errorf("%s: %d %s", coding, w.Code, w.Body)
		}
	}
}

// TestDamagedBodies: a body that is not what its headers say is the sender's fault, and the message says so.
func TestDamagedBodies(t *testing.T) {
	s := &store{t: t}
	h := newHandler(t, s)
	text := textOf(10000)
	gz, zs, stream := gzipOf(t, text), zstdOf(t, text), zstdStream(t, text)
	flip := func(s string, i int) string { b := []byte(s); b[i] ^= 0x55; return string(b) }
	for name, body := range map[string]string{
		"gzip empty": "", "gzip plain": text, "gzip cut": gz[:len(gz)/2], "gzip header cut": gz[:5], "gzip sum": flip(gz, len(gz)-6), "gzip length": flip(gz, len(gz)-1), "gzip and more": gz + "x",
		"gzip flipped": flip(gz, len(gz)/2), "gzip is zstd": zs,
		"zstd empty": "", "zstd plain": text, "zstd cut": zs[:len(zs)/2], "zstd header cut": zs[:3], "zstd and more": zs + "x", "zstd stream cut": stream[:len(stream)-5],
		"zstd sum": flip(stream, len(stream)-1), "zstd is gzip": gz,
	} {
		coding, _, _ := strings.Cut(name, " ")
		w := post(t, h, mediaNDJSON, body, "Content-Encoding", coding)
		if w.Code != 400 || !strings.Contains(w.Body.String(), "Content-Encoding") || len(s.taken()) > 0 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	// The decoders are as good as new.
	for coding, body := range map[string]string{"gzip": gz, "zstd": zs} {
		if w := post(t, h, mediaNDJSON, body, "Content-Encoding", coding); w.Code != 200 || len(s.taken()) != 10 {
			t.Errorf("%s: %d %s", coding, w.Code, w.Body)
		}
	}
}

// TestSlowClients: a body that does not arrive, or ends early, holds nothing for longer than it may take.
func TestSlowClients(t *testing.T) {
	s := &store{t: t}
	srv := httptest.NewServer(newHandler(t, s, func(o *Options) { o.BodyTimeout = 50 * time.Millisecond }))
	defer srv.Close()
	for _, c := range []struct {
		name, head, body string
		closed           bool
		want             int
	}{
		{"nothing comes", "Content-Length: 10\r\n", "", false, 408},
		{"some comes", "Content-Length: 10\r\n", "abc\n", false, 408},
		{"a chunk comes", "Transfer-Encoding: chunked\r\n", "4\r\nabc\n\r\n", false, 408},
		{"it is closed", "Content-Length: 10\r\n", "abc\n", true, 400},
		{"it is closed between chunks", "Transfer-Encoding: chunked\r\n", "4\r\nabc\n\r\n", true, 400},
		{"a chunk is no chunk", "Transfer-Encoding: chunked\r\n", "zz\r\nabc\n\r\n", false, 400},
		{"whole", "Transfer-Encoding: chunked\r\n", "4\r\nabc\n\r\n0\r\n\r\n", false, 200},
	} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /v1/streams/s/records HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-ndjson\r\n%s\r\n%s", c.head, c.body)
		if c.closed {
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		answer, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		conn.Close()
		if got := s.taken(); resp.StatusCode != c.want || (c.want == 200) != (len(got) == 1) {
			t.Errorf("%s: %d %s, stored %q", c.name, resp.StatusCode, bytes.TrimSpace(answer), got)
		}
	}
}

// FuzzDecode: nothing panics, whatever a body says it is, and nothing that is admitted is kept.
func FuzzDecode(f *testing.F) {
	for _, b := range bodies {
		f.Add([]byte(gzipOf(f, b)), true)
		f.Add([]byte(zstdOf(f, b, b)), false)
		f.Add([]byte(zstdStream(f, b)), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, gz bool) {
		s := &store{t: t}
		h := newHandler(t, s)
		c := zstandard
		if gz {
			c = gzipped
		}
		b, err := h.decode("192.0.2.1:1", body, c)
		if err == nil && len(b.bytes) > MaxBody {
			t.Fatalf("%d bytes", len(b.bytes))
		}
		b.free()
	})
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
		h := newHandler(t, &store{t: t})
		w := &deadlines{ResponseWriter: httptest.NewRecorder()}
		r := httptest.NewRequest("POST", "/", iotest.HalfReader(bytes.NewReader(make([]byte, size))))
		r.ContentLength = length
		began := time.Now()
		b, err := h.readBody(w, r, identity)
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
