package access

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// wire is a connection of which only the other side's address matters, and whether it is closed.
type wire struct {
	net.Conn
	from   net.Addr
	closed bool
}

func (w *wire) RemoteAddr() net.Addr { return w.from }
func (w *wire) Close() error         { w.closed = true; return nil }

// TestConnectionsAreFair has 16 places, of which one address gets 14.
func TestConnectionsAreFair(t *testing.T) {
	type step struct {
		from string // who comes
		busy bool   // and has a request under way from then on
		out  int    // number of the step whose connection has to go for it; 0: none
		none bool   // there is no place for it
	}
	repeat := func(n int, s step) (all []step) {
		for range n {
			all = append(all, s)
		}
		return all
	}
	const a, b, c, d = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"one address does not get the last places", append(repeat(14, step{from: a, busy: true}), step{from: a, none: true}, step{from: b}, step{from: c}, step{from: a, none: true})},
		{"its own goes first", append(repeat(14, step{from: a}), step{from: a, out: 1}, step{from: a, out: 2}, step{from: b})},
		{"from who has the most, and there what waited longest", append(append(repeat(14, step{from: a}), repeat(2, step{from: b})...), step{from: c, out: 1}, step{from: b, out: 2}, step{from: c, out: 3})},
		{"not what is at work", append(append(repeat(13, step{from: a, busy: true}), repeat(3, step{from: b})...), step{from: c, busy: true, out: 14}, step{from: c, busy: true, out: 15}, step{from: c, none: true})},
		{"not from who has as few", append(repeat(4, step{from: a}), append(append(repeat(4, step{from: b}), repeat(8, step{from: c, busy: true})...),
			step{from: d, out: 1}, step{from: d, out: 5}, step{from: d, out: 2}, step{from: d, out: 17}, step{from: a, out: 6})...)},
		{"an IPv6 network of 64 bits is one address", append(repeat(14, step{from: "2001:db8::1", busy: true}), step{from: "2001:db8::ffff:2", none: true}, step{from: "2001:db8:0:1::1"})},
		{"IPv4 is the same in both forms", append(repeat(14, step{from: a, busy: true}), step{from: "::ffff:" + a, none: true}, step{from: b})},
	} {
		t.Run(test.name, func(t *testing.T) {
			bound := NewConnections("api", 16, slog.New(slog.DiscardHandler))
			var wires []*wire
			var gone int
			for i, s := range test.steps {
				w := &wire{from: &net.TCPAddr{IP: net.ParseIP(s.from), Port: 1000 + i}}
				wires = append(wires, w)
				in := bound.admit(w)
				if (in == nil) != s.none {
					t.Fatalf("step %d: has a place: %v, want %v", i+1, in != nil, !s.none)
				}
				if in == nil {
					continue
				}
				in.since.Store(int64(i)) // in order, whatever the clock says
				if s.busy {
					bound.Follow(in, http.StateActive)
				}
				for j, w := range wires {
					if want := j+1 == s.out; w.closed && !want && !was(test.steps[:i], j, func(s step) int { return s.out }) || want && !w.closed {
						t.Fatalf("step %d: connection %d closed: %v, want %d to be", i+1, j+1, w.closed, s.out)
					}
				}
				if s.out > 0 {
					gone++
				}
			}
			if n := int(testutil.ToFloat64(bound.evicted)); n != gone {
				t.Errorf("%d counted as evicted, want %d", n, gone)
			}
			for one := range bound.open {
				one.Close()
			}
			if len(bound.open)+len(bound.held) > 0 {
				t.Errorf("%d connections and %d addresses are left", len(bound.open), len(bound.held))
			}
		})
	}
}

// was tells whether a step made connection j go.
func was[S any](steps []S, j int, out func(S) int) bool {
	for _, s := range steps {
		if out(s) == j+1 {
			return true
		}
	}
	return false
}

// TestEvictionOverTLS has a server with 2 places: one with a request under way, and one that waits, which makes room
// once and again.
func TestEvictionOverTLS(t *testing.T) {
	certificates, err := NewTLS(TLSOptions{AutoDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bound := NewConnections("api", 2, slog.New(slog.DiscardHandler))
	arrived, release := make(chan bool, 1), make(chan bool)
	server := &http.Server{TLSConfig: certificates.Config(), ConnState: bound.Follow, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				arrived <- true
				select {
				case <-release:
				case <-r.Context().Done(): // the test has failed
				}
			}
			io.WriteString(w, "done")
		})}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(bound.Listen(l), "", "") }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	send := func(conn net.Conn, path string) net.Conn {
		t.Helper()
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		if _, err := io.WriteString(secure, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		return secure
	}
	answered := func(conn net.Conn) {
		t.Helper()
		var got strings.Builder
		for b := make([]byte, 512); !strings.HasSuffix(got.String(), "done"); {
			n, err := conn.Read(b)
			got.Write(b[:n])
			if err != nil {
				t.Fatalf("after %q: %v", &got, err)
			}
		}
	}
	ended := func(conn net.Conn) {
		t.Helper()
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil || strings.Contains(err.Error(), "timeout") {
			t.Fatalf("read %d, %v, want an end", n, err)
		}
	}
	working := send(dial(), "/wait")
	<-arrived
	silent := dial() // says nothing at all, not even TLS
	idle := send(dial(), "/")
	ended(silent)
	answered(idle)
	waits := func() bool { // the server says so a moment after its answer
		bound.mu.Lock()
		defer bound.mu.Unlock()
		for one := range bound.open {
			if one.since.Load() >= 0 {
				return true
			}
		}
		return false
	}
	for deadline := time.Now().Add(10 * time.Second); !waits(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("no connection waits")
		}
	}
	third := send(dial(), "/")
	ended(idle)
	answered(third)
	release <- true
	answered(working)
	if refused, evicted := testutil.ToFloat64(bound.refused), testutil.ToFloat64(bound.evicted); evicted != 2 || refused != 0 {
		t.Errorf("%v evicted and %v refused, want 2 and none", evicted, refused)
	}
}
