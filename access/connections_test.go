package access

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestConnections has two listeners of one part and one of another, with both sides of the bound.
func TestConnections(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	api, other := NewConnections("api", 3, logger), NewConnections("admin", 0, logger)
	accepted := make(chan net.Conn, 10)
	var stops []func()
	stop := func() {
		for _, f := range stops {
			f()
		}
		stops = nil
	}
	t.Cleanup(func() { stop() })
	listen := func(c *Connections) net.Listener {
		t.Helper()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		bound := c.Listen(l)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := bound.Accept()
				if err != nil {
					return
				}
				accepted <- conn
			}
		}()
		stops = append(stops, func() { bound.Close(); <-done })
		return bound
	}
	first, second, apart := listen(api), listen(api), listen(other)
	dial := func(l net.Listener) net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	enter := func(l net.Listener) net.Conn {
		t.Helper()
		dial(l)
		select {
		case conn := <-accepted:
			t.Cleanup(func() { conn.Close() })
			return conn
		case <-time.After(10 * time.Second):
			t.Fatal("a connection that there is room for was not accepted")
			return nil
		}
	}
	refused := func(l net.Listener) {
		t.Helper()
		if n, err := dial(l).Read(make([]byte, 1)); n > 0 || err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("one too many: read %d, %v, want an end", n, err)
		}
	}
	a := enter(first)
	enter(first)
	enter(second)
	refused(first)
	refused(second)
	enter(apart) // room for one, though none was asked for
	refused(apart)
	a.Close()
	a.Close() // gives its place back once
	enter(second)
	refused(first)
	want := func(c *Connections, part, open, limit, refused string) {
		t.Helper()
		l := `{listener="` + part + `"} `
		text := "# HELP hydrant_connections Open connections of clients.\n# TYPE hydrant_connections gauge\nhydrant_connections" + l + open +
			"\n# HELP hydrant_connections_evicted_total Connections without a request that were closed to make room for another.\n# TYPE hydrant_connections_evicted_total counter\nhydrant_connections_evicted_total" + l + "0" +
			"\n# HELP hydrant_connections_limit Connections of clients that may be open at a time.\n# TYPE hydrant_connections_limit gauge\nhydrant_connections_limit" + l + limit +
			"\n# HELP hydrant_connections_refused_total Connections that were closed at once, because as many as may be were open.\n# TYPE hydrant_connections_refused_total counter\nhydrant_connections_refused_total" + l + refused + "\n"
		if err := testutil.CollectAndCompare(c, strings.NewReader(text)); err != nil {
			t.Error(err)
		}
	}
	want(api, "api", "3", "3", "3")
	want(other, "admin", "1", "1", "1")
	stop()
	if n := strings.Count(log.String(), "a connection was closed"); n != 2 {
		t.Errorf("%d lines in the log, want one of each part:\n%s", n, &log)
	}
}
