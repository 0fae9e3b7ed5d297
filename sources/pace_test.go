package sources

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// over is a ResponseWriter of a connection.
type over struct {
	http.ResponseWriter
	conn net.Conn
	told int // deadlines
}

func (o *over) SetReadDeadline(t time.Time) error {
	o.told++
	return o.conn.SetReadDeadline(t)
}

// TestPaceBody sends bodies piece by piece and looks at when, and with what, they end.
func TestPaceBody(t *testing.T) {
	const never = time.Hour
	for _, c := range []struct {
		name  string
		most  time.Duration
		piece int
		every time.Duration
		total int
		want  time.Duration // when it fails; 0: it comes whole
	}{
		{"nothing comes", time.Minute, 0, never, 1, BodyGrace},
		{"a byte a second", time.Minute, 1, time.Second, 1 << 20, BodyGrace},
		{"a byte a second, and done before the grace ends", time.Minute, 1, time.Second, 9, 0},
		{"just fast enough", time.Minute, BodyRate, time.Second, 50 * BodyRate, 0},
		{"half as fast", time.Minute, BodyRate / 2, 1100 * time.Millisecond, 50 * BodyRate, 18 * time.Second},
		{"much at once, then nothing", time.Minute, 20 * BodyRate, never, 21 * BodyRate, 30 * time.Second},
		{"much at once, then nothing, and the most", time.Minute, 600 * BodyRate, never, 601 * BodyRate, time.Minute},
		{"fast enough, but longer than the most", time.Minute, 2 * BodyRate, 1700 * time.Millisecond, 100 * BodyRate, time.Minute},
		{"a most below the grace", 3 * time.Second, BodyRate, time.Second, 61 * BodyRate, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				defer server.Close()
				defer client.Close()
				gone := make(chan struct{})
				defer func() { <-gone }()
				done := make(chan struct{})
				defer close(done)
				go func() {
					defer close(gone)
					for sent := 0; sent < c.total; {
						n := min(c.piece, c.total-sent)
						if n > 0 {
							if _, err := client.Write(make([]byte, n)); err != nil {
								return
							}
						}
						sent += n
						select {
						case <-done:
							return
						case <-time.After(c.every):
						}
					}
				}()
				w := &over{httptest.NewRecorder(), server, 0}
				began := time.Now()
				n, err := io.ReadFull(PaceBody(w, server, c.most), make([]byte, c.total))
				took := time.Since(began)
				switch {
				case c.want == 0 && (err != nil || n != c.total):
					t.Errorf("%d bytes after %v: %v", n, took, err)
				case c.want > 0 && (!errors.Is(err, os.ErrDeadlineExceeded) || took != c.want):
					t.Errorf("got %v after %v and %d bytes, want the deadline after %v", err, took, n, c.want)
				}
				if most := 2 + n/BodyRate; w.told > most {
					t.Errorf("the connection got %d deadlines for %d bytes", w.told, n)
				}
				server.Close()
			})
		})
	}
}

// atOnce gives everything with its end, as package http's bodies do.
type atOnce struct{ n int }

func (a atOnce) Read(p []byte) (int, error) { return min(a.n, len(p)), io.EOF }

// TestPaceEndsWithBody: package http takes the limit away at the end of a body, and it must not come back.
func TestPaceEndsWithBody(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	w := &over{httptest.NewRecorder(), server, 0}
	b := make([]byte, 100*BodyRate)
	if n, err := PaceBody(w, atOnce{len(b)}, time.Minute).Read(b); n != len(b) || err != io.EOF {
		t.Errorf("read %d, %v", n, err)
	}
	if w.told != 1 {
		t.Errorf("the connection got %d deadlines, want the first alone", w.told)
	}
}
