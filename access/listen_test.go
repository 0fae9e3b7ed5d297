package access

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestAddresses(t *testing.T) {
	long := "/" + strings.Repeat("s", maxSocketPath-1)
	for _, c := range []struct {
		text  string
		want  Address
		local bool
	}{
		{"127.0.0.1:4573", Address{Host: "127.0.0.1", Port: "4573"}, true},
		{"127.9.9.9:0", Address{Host: "127.9.9.9", Port: "0"}, true},
		{"[::1]:65535", Address{Host: "::1", Port: "65535"}, true},
		{"[::ffff:127.0.0.1]:1", Address{Host: "::ffff:127.0.0.1", Port: "1"}, true},
		{"localhost:1", Address{Host: "localhost", Port: "1"}, true},
		{":4573", Address{Port: "4573"}, false},
		{"0.0.0.0:4573", Address{Host: "0.0.0.0", Port: "4573"}, false},
		{"[::]:4573", Address{Host: "::", Port: "4573"}, false},
		{"192.0.2.1:1", Address{Host: "192.0.2.1", Port: "1"}, false},
		{"example.com:1", Address{Host: "example.com", Port: "1"}, false},
		{"localhost.example.com:1", Address{Host: "localhost.example.com", Port: "1"}, false},
		{"unix:/run/h.sock", Address{Socket: "/run/h.sock", Mode: 0o600}, true},
		{"unix:" + long, Address{Socket: long, Mode: 0o600}, true},
		{"unix:h?mode=0660", Address{Socket: "h", Mode: 0o660}, true},
	} {
		got, err := ParseAddress(c.text)
		if err != nil || got != c.want || got.Local() != c.local {
			t.Errorf("%s: %+v (local %v), %v", c.text, got, got.Local(), err)
		}
		if again, err := ParseAddress(got.String()); err != nil || again != got {
			t.Errorf("%s: printed as %s, which is %+v, %v", c.text, got, again, err)
		}
	}
	for _, text := range []string{"", "localhost", "127.0.0.1", "::1:80", "h:65536", "h:-1", "h:01", "h:http", "unix:", "unix:" + long + "s", "unix:/s?mode=", "unix:/s?mode=9", "unix:/s?mode=0060", "unix:/s?mode=01600", "unix:/s?owner=me"} {
		if a, err := ParseAddress(text); err == nil {
			t.Errorf("%q is taken as %+v", text, a)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"127.0.0.1:4573", "[::1]:0", ":1", "unix:/a?mode=0660", "unix:", "a:b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAddress(text)
		if err != nil {
			return
		}
		a.Local()
		if again, err := ParseAddress(a.String()); err != nil || again != a {
			t.Errorf("%q: printed as %q, which is %+v, %v", text, a, again, err)
		}
	})
}

func TestLoopbackHost(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:80": true, "[::1]:80": true, "[::1]": true, "::1": true, "localhost": true, "LOCALHOST:80": true, "localhost.": true, "a.localhost:1": true,
		"": false, "evil.example": false, "127.0.0.1.evil.example": false, "localhost.evil.example": false, "notlocalhost": false, "10.0.0.1:80": false, "0.0.0.0": false, "[::]:80": false,
	} {
		if got := LoopbackHost(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func listen(t *testing.T, text string, local bool) (net.Listener, error) {
	t.Helper()
	a, err := ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return Listen(t.Context(), a, local)
}

// What was opened is looked at, and not only what was written.
func TestListenLooksAtWhatItOpened(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0"} {
		l, err := listen(t, addr, true)
		if err == nil {
			l.Close()
			t.Errorf("%s is opened as a local one", addr)
		} else if !strings.Contains(err.Error(), "which other machines can reach") && !strings.Contains(err.Error(), "address family") {
			t.Error(err)
		}
	}
	l, err := listen(t, "localhost:0", true)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	l, err = listen(t, "0.0.0.0:0", false)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// short is a directory whose path leaves room for a socket's name.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "h")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestSockets(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes mean nothing there")
	}
	dir := short(t)
	path := filepath.Join(dir, "s")
	l, err := listen(t, "unix:"+path, true)
	if err != nil {
		t.Fatal(err)
	}
	mode := func(want os.FileMode) {
		t.Helper()
		if info, err := os.Lstat(path); err != nil || info.Mode() != os.ModeSocket|want {
			t.Fatalf("%v, %v, want mode %o", info, err, want)
		}
		if left, _ := os.ReadDir(dir); len(left) != 1 {
			t.Errorf("the directory has %v", left)
		}
	}
	mode(0o600)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	resp, err := client.Get("http://any/")
	if err != nil || resp.StatusCode != http.StatusTeapot {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()

	if l.Addr().String() != path {
		t.Errorf("address %s", l.Addr())
	}
	if _, err := listen(t, "unix:"+path, true); err == nil || !strings.Contains(err.Error(), "a process listens on this socket already") {
		t.Errorf("on a live socket: %v", err)
	}
	server.Close()
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the end: %v", err)
	}

	// A process that died leaves its socket behind.
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	l, err = listen(t, "unix:"+path+"?mode=0660", true)
	if err != nil {
		t.Fatalf("on a dead socket: %v", err)
	}
	mode(0o660)

	// Another process's socket in our place stays when we end.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	theirs, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("theirs: %v", err)
	}
	theirs.Close()

	// A socket that cannot be asked may be somebody's.
	other, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen(t, "unix:"+path, true); err == nil || !strings.Contains(err.Error(), "a process listens on this socket already") {
		t.Errorf("on a socket of another kind: %v", err)
	}
	other.Close()
	os.Remove(path)

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(t, "unix:"+path, true); err == nil || !strings.Contains(err.Error(), "a file that is not a socket is in the way") {
		t.Errorf("on a file: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file holds %q", b)
	}
	if _, err := listen(t, "unix:"+filepath.Join(dir, "none", "s"), true); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in no directory: %v", err)
	}
}
