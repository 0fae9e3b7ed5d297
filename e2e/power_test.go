//go:build unix

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hydrant/e2e/parts"
)

// freeze stops the process where it is: nothing leaves it from now on, no acknowledgement and no object. A
// power cut ends process and disk at one instant, while a shutdown of the file system takes some time, and
// during it a sync of space that was allocated and never written can succeed without being durable (xfs and
// ext4 alike). No program sees that where the power really goes, so none may see it here.
func (d *daemon) freeze() {
	d.t.Helper()
	if d.cmd.Process.Signal(syscall.SIGSTOP) != nil {
		return // it has died
	}
	eventually(d.t, "all threads of the daemon have stopped", func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", d.cmd.Process.Pid))
		for _, thread := range threads {
			b, err := os.ReadFile(thread)
			if err != nil {
				continue
			}
			_, state, _ := strings.Cut(string(b), ") ")
			// One that waits for the disk (D) stops before it returns from there; T is stopped, Z and X are dead.
			if !strings.ContainsAny(state[:1], "TtDZX") {
				return false
			}
		}
		return true
	})
}

// ground is what a daemon's files stand on, and what can befall it.
type ground struct {
	name       string
	data, lake string // data directory, and destination of streams that go to files
	cut        func() // the power goes: what is not synced is gone, nothing can be written or read
	restore    func() // the power is back; the daemon is dead by then
	fill, free func() // somebody else takes all space that is left, and gives it back
}

// plainGround is a directory on whatever the tests run on.
func plainGround(t testing.TB) *ground {
	dir := t.TempDir()
	return &ground{name: "plain", data: filepath.Join(dir, "data"), lake: filepath.Join(dir, "lake")}
}

// command runs a program that must succeed.
func command(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// mountAt mounts at a new directory, which is unmounted when the test ends. Where that cannot be done the test
// is skipped, in CI too: it is the machine that does not allow it.
func mountAt(t testing.TB, args ...string) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system; run the tests as root to have this one")
	}
	dir = filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", append(args, dir)...).CombinedOutput(); err != nil {
		t.Skipf("this machine does not mount %s: %v %s", strings.Join(args, " "), err, out)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

// unmount waits for whoever may still have a file open.
func unmount(t testing.TB, dir string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		out, err := exec.Command("umount", dir).CombinedOutput()
		if err == nil || strings.Contains(string(out), "not mounted") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("unmount %s: %v %s", dir, err, out)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// smallGround is a file system in memory that others fill up.
func smallGround(t testing.TB, size string) *ground {
	dir := mountAt(t, "-t", "tmpfs", "-o", "size="+size, "tmpfs")
	hog := filepath.Join(dir, "somebody-elses-file")
	return &ground{
		name: "full disk", data: filepath.Join(dir, "data"), lake: filepath.Join(dir, "lake"),
		fill: func() {
			f, err := os.OpenFile(hog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				return // not even room for a name
			}
			defer f.Close()
			for n := 1 << 20; n >= 4096; {
				if _, err := f.Write(make([]byte, n)); err != nil {
					n /= 2
				}
			}
		},
		free: func() { os.Remove(hog) },
	}
}

// powerGround is a file system on an image that can be shut down without writing anything more: what was not
// synced is gone, as after a power cut, and the log of the file system is replayed at the next mount.
func powerGround(t testing.TB, kind string) *ground {
	for _, program := range []string{"mkfs." + kind, "xfs_io"} {
		if _, err := exec.LookPath(program); err != nil && os.Geteuid() == 0 {
			parts.Missing(t, "the program "+program, "as root run `make tools`, or install the Debian packages xfsprogs and e2fsprogs")
		}
	}
	image := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(image)
	if err == nil {
		err = f.Truncate(640 << 20)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		command(t, "mkfs."+kind, "-q", image)
	}
	mnt := mountAt(t, "-t", kind, "-o", "loop", image)
	return &ground{
		name: "power cut, " + kind, data: filepath.Join(mnt, "data"), lake: filepath.Join(mnt, "lake"),
		cut: func() { command(t, "xfs_io", "-x", "-c", "shutdown", mnt) },
		restore: func() {
			unmount(t, mnt)
			command(t, "mount", "-t", kind, "-o", "loop", image, mnt)
		},
	}
}

// TestPowerCutForgets: the cut must take what was not synced and leave what was, or the storms on these
// grounds prove nothing.
func TestPowerCutForgets(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"xfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			g := powerGround(t, kind)
			dir := filepath.Dir(g.data)
			write := func(name string, sync bool) *os.File {
				f, err := os.Create(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteString(name); err != nil {
					t.Fatal(err)
				}
				if sync {
					for _, open := range []func() (*os.File, error){func() (*os.File, error) { return f, nil }, func() (*os.File, error) { return os.Open(dir) }} {
						d, err := open()
						if err == nil {
							err = d.Sync()
						}
						if err != nil {
							t.Fatal(err)
						}
					}
				}
				return f
			}
			write("synced", true).Close()
			half := write("half", true) // synced, then appended to
			if _, err := half.WriteString(" and more"); err != nil {
				t.Fatal(err)
			}
			write("forgotten", false).Close()
			g.cut()
			if _, err := half.WriteString("too late"); err == nil {
				if err = half.Sync(); err == nil {
					t.Error("a sync succeeds after the power cut")
				}
			}
			half.Close()
			g.restore()
			var got []string
			for _, name := range []string{"synced", "half", "forgotten"} {
				b, err := os.ReadFile(filepath.Join(dir, name))
				got = append(got, fmt.Sprintf("%s %q %t", name, b, err == nil))
			}
			if want := `synced "synced" true, half "half" true, forgotten "" false`; strings.Join(got, ", ") != want {
				t.Errorf("after a power cut:\n got %s\nwant %s", strings.Join(got, ", "), want)
			}
		})
	}
}
