package access

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Address is a parsed address of a listener.
type Address struct {
	Host, Port string      // of TCP
	Socket     string      // path of a Unix socket; "" for TCP
	Mode       fs.FileMode // of the socket
}

// DefaultSocketMode lets only the daemon's own user connect.
const DefaultSocketMode fs.FileMode = 0o600

// maxSocketPath is the longest path that every system takes, with room for the temporary name (sun_path has 104
// bytes on macOS, 108 on Linux).
const maxSocketPath = 90

// ParseAddress reads host:port, or unix:/path with an optional ?mode=0660.
func ParseAddress(text string) (Address, error) {
	if rest, ok := strings.CutPrefix(text, "unix:"); ok {
		path, query, has := strings.Cut(rest, "?")
		a := Address{Socket: path, Mode: DefaultSocketMode}
		if path == "" || len(path) > maxSocketPath {
			return a, fmt.Errorf("a socket's path has 1 to %d bytes", maxSocketPath)
		}
		if !has {
			return a, nil
		}
		digits, ok := strings.CutPrefix(query, "mode=")
		mode, err := strconv.ParseUint(digits, 8, 32)
		if !ok || err != nil || mode > 0o777 || mode&0o600 != 0o600 {
			return a, errors.New("a socket's mode is written ?mode=0660, and lets its owner read and write")
		}
		a.Mode = fs.FileMode(mode)
		return a, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return Address{}, errors.New("it is not host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return Address{}, errors.New("it has no port from 0 to 65535")
	}
	return Address{Host: host, Port: port}, nil
}

// String is the address as ParseAddress reads it.
func (a Address) String() string {
	switch {
	case a.Socket == "":
		return net.JoinHostPort(a.Host, a.Port)
	case a.Mode != DefaultSocketMode:
		return fmt.Sprintf("unix:%s?mode=%04o", a.Socket, a.Mode)
	}
	return "unix:" + a.Socket
}

// Local tells whether only this machine can reach the address, by its text alone: a loopback address, localhost,
// or a socket. Another name may resolve to anything, so it is not.
func (a Address) Local() bool { return a.Socket != "" || LoopbackHost(a.Host) }

// LoopbackHost tells whether a host, with or without a port, is localhost, a name under it, or a loopback
// address.
func LoopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// Listen opens a listener. With local it fails where other machines could reach what was opened, whatever the
// address looked like: a hosts file may say strange things of localhost.
func Listen(ctx context.Context, a Address, local bool) (net.Listener, error) {
	if a.Socket != "" {
		return listenSocket(ctx, a)
	}
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", net.JoinHostPort(a.Host, a.Port))
	if err != nil {
		return nil, err
	}
	if t, ok := l.Addr().(*net.TCPAddr); local && (!ok || !t.IP.IsLoopback()) {
		l.Close()
		return nil, fmt.Errorf("listen on %s: it opens %s, which other machines can reach, and no auth is configured", a, l.Addr())
	}
	return l, nil
}

// socket is a listener that removes its file when it ends.
type socket struct {
	*net.UnixListener
	path string
	made fs.FileInfo
}

// Close also removes the file, unless another process has put its own in the place.
func (s *socket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.made) {
		os.Remove(s.path)
	}
	return s.UnixListener.Close()
}

// Addr is the path that callers use, not the one that was bound.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: s.path} }

// listenSocket binds in a directory that nobody else can enter, sets the mode, and moves the socket to its place:
// at no moment can somebody connect whom the mode keeps out. A socket that a dead process left is replaced by
// that; one that somebody answers on is not, and neither is a file of another kind.
func listenSocket(ctx context.Context, a Address) (net.Listener, error) {
	switch info, err := os.Lstat(a.Socket); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", a, err)
	case info.Mode()&fs.ModeSocket == 0:
		return nil, fmt.Errorf("listen on %s: a file that is not a socket is in the way; move it, or choose another path", a)
	default:
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", a.Socket)
		if err == nil {
			conn.Close()
		}
		// Only a refusal proves that nobody listens: a full queue or a lack of rights does not.
		if !refused(err) {
			return nil, fmt.Errorf("listen on %s: a process listens on this socket already: stop it, or choose another path", a)
		}
	}
	dir, err := os.MkdirTemp(filepath.Dir(a.Socket), ".h")
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", a, err)
	}
	defer os.RemoveAll(dir)
	temp := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: temp})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", a, err)
	}
	l.SetUnlinkOnClose(false)
	s := &socket{UnixListener: l, path: a.Socket}
	if err = os.Chmod(temp, a.Mode); err == nil {
		if s.made, err = os.Lstat(temp); err == nil {
			err = os.Rename(temp, a.Socket)
		}
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("listen on %s: %w", a, err)
	}
	return s, nil
}

// refused tells whether a connection was refused because nobody listens.
func refused(err error) bool { return err != nil && errors.Is(err, errRefused) }
