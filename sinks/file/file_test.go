package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hydrant/sinks"
	"hydrant/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dir string) *Sink {
	t.Helper()
	s, err := New(Options{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tree is a directory as the suite's store.
type tree struct {
	t   *testing.T
	dir string
}

func (s tree) walk(hidden bool) (names []string) {
	err := filepath.WalkDir(s.dir, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && p == s.dir {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(s.dir, p)
		name = filepath.ToSlash(name)
		if strings.HasPrefix(name, TempDir+"/") == hidden {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func (s tree) Keys() []string      { s.t.Helper(); return s.walk(false) }
func (s tree) Leftovers() []string { s.t.Helper(); return s.walk(true) }

func (s tree) Get(key string) sinktest.Stored {
	s.t.Helper()
	f, err := os.Open(filepath.Join(s.dir, filepath.FromSlash(key)))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	sum, size, err := sinktest.Sum(f)
	if err != nil {
		s.t.Fatal(err)
	}
	return sinktest.Stored{Size: size, SHA256: sum}
}

func (s tree) Plant(key, body string) {
	s.t.Helper()
	name := filepath.Join(s.dir, filepath.FromSlash(key))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(body), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func TestSuite(t *testing.T) {
	sinktest.Run(t, sinktest.Target{
		NoHeaders:   true,
		OddKeys:     []string{strings.Repeat("b", 255) + "/"},
		RefusedKeys: []string{strings.Repeat("b", 256) + "/x", "a/", "/", TempDir + "/x", "//" + TempDir + "/x"},
		Open: func(t *testing.T) sinktest.Fixture {
			dir := filepath.Join(t.TempDir(), "not/there/yet")
			return sinktest.Fixture{Sink: open(t, dir), Store: tree{t, dir}, Reopen: func() sinks.Sink { return open(t, dir) }}
		},
	})
}

func TestEmptyComponentsStandForNothing(t *testing.T) {
	dir := t.TempDir()
	o := sinktest.Object("/a//b/x", 10, 1)
	for range 2 {
		if err := open(t, dir).Put(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if got := (tree{t, dir}).Keys(); !slices.Equal(got, []string{"a/b/x"}) {
		t.Errorf("files %q", got)
	}
}

// TestEveryStepFails makes each step fail in turn and looks at the directory, then puts again in the same
// process and in the next.
func TestEveryStepFails(t *testing.T) {
	cause := &fs.PathError{Op: "test", Path: "x", Err: syscall.EIO}
	seen := map[string]bool{}
	for n := 1; ; n++ {
		dir := filepath.Join(t.TempDir(), "lake")
		o := sinktest.Object("dt=1/hour=2/x", 3*chunk, uint64(n))
		s := open(t, dir)
		calls, failed := 0, ""
		s.fail = func(step string) error {
			seen[step] = true
			if calls++; calls == n {
				failed = step
				return cause
			}
			return nil
		}
		err := s.Put(t.Context(), o)
		if failed == "" {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		store := tree{t, dir}
		if err == nil {
			t.Errorf("step %d, %s: no error", n, failed)
		} else if !errors.Is(err, syscall.EIO) || sinks.ClassOf(err) != sinks.Unknown {
			t.Errorf("step %d, %s: class %v: %v", n, failed, sinks.ClassOf(err), err)
		}
		if got := store.Leftovers(); len(got) > 0 {
			t.Errorf("step %d, %s: left %q", n, failed, got)
		}
		for _, key := range store.Keys() {
			if got := store.Get(key); got.SHA256 != o.SHA256 {
				t.Errorf("step %d, %s: a reader sees %d bytes of %q", n, failed, got.Size, key)
			}
		}
		for _, again := range []*Sink{s, open(t, dir)} {
			if err := again.Put(t.Context(), o); err != nil {
				t.Errorf("step %d, %s: the next put: %v", n, failed, err)
			}
			if got := store.Keys(); len(got) != 1 || store.Get(got[0]).SHA256 != o.SHA256 {
				t.Errorf("step %d, %s: files after the next put: %q", n, failed, got)
			}
		}
	}
	for _, step := range []string{"open", "tempdir", "create", "write", "sync", "mkdir", "publish", "syncdir"} {
		if !seen[step] {
			t.Errorf("no step %q", step)
		}
	}
}

// TestNameIsGivenAnewAfterAFailedSync: a second sync of a directory whose first one failed proves nothing.
func TestNameIsGivenAnewAfterAFailedSync(t *testing.T) {
	dir := t.TempDir()
	s, o := open(t, dir), sinktest.Object("x", 10, 1)
	broken := true
	s.fail = func(step string) error {
		if step == "syncdir" && broken {
			return syscall.EIO
		}
		return nil
	}
	inode := func() any {
		info, err := os.Stat(filepath.Join(dir, "x"))
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	if err := s.Put(t.Context(), o); err == nil {
		t.Fatal("no error")
	}
	first := inode()
	broken = false
	if err := s.Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	second := inode()
	if os.SameFile(first.(os.FileInfo), second.(os.FileInfo)) {
		t.Error("the entry that may be lost was only synced again")
	}
	if err := s.Put(t.Context(), o); err != nil || !os.SameFile(second.(os.FileInfo), inode().(os.FileInfo)) {
		t.Errorf("a durable file was written again (%v)", err)
	}
}

// TestErrors are failures with what they mean for delivery.
func TestErrors(t *testing.T) {
	step := func(at string, err error) func(string) error {
		return func(name string) error {
			if name == at {
				return &fs.PathError{Op: at, Path: "p", Err: err}
			}
			return nil
		}
	}
	for _, c := range []struct {
		name  string
		fail  func(string) error
		class sinks.Class
		code  string
		text  string
	}{
		{"disk full", step("write", syscall.ENOSPC), sinks.RefusedDestination, "DiskFull", "file system is full"},
		{"quota", step("create", syscall.EDQUOT), sinks.RefusedDestination, "DiskFull", "quota"},
		{"read-only", step("tempdir", syscall.EROFS), sinks.RefusedDestination, "ReadOnly", "read-only"},
		{"denied", step("publish", syscall.EACCES), sinks.RefusedDestination, "Denied", "daemon's user"},
		{"name too long", step("publish", syscall.ENAMETOOLONG), sinks.RefusedObject, "InvalidKey", "too long"},
		{"other file system", step("publish", syscall.EXDEV), sinks.RefusedDestination, "CrossDevice", "another file system"},
		{"no descriptors", step("create", syscall.EMFILE), sinks.NotStored, "", ""},
		{"device", step("sync", syscall.EIO), sinks.Unknown, "", "input/output"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			s.fail = c.fail
			err := s.Put(t.Context(), sinktest.Object("a/x", 100, 1))
			e, ok := errors.AsType[*sinks.Error](err)
			if !ok || e.Class != c.class || e.Code != c.code || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), filepath.Join(dir, "a/x")) {
				t.Errorf("got %v (%+v), want class %v, code %q and text %q", err, e, c.class, c.code, c.text)
			}
			if ok && e.Full != (c.code == "DiskFull") {
				t.Errorf("Full is %v", e.Full)
			}
			if keys, left := (tree{t, dir}).Keys(), (tree{t, dir}).Leftovers(); len(keys)+len(left) > 0 {
				t.Errorf("there are files: %q %q", keys, left)
			}
		})
	}
}

func TestPathIsAFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{name, name + "/below"} {
		if err := open(t, dir).Put(t.Context(), sinktest.Object("x", 1, 1)); sinks.ClassOf(err) != sinks.RefusedDestination {
			t.Errorf("put under %q: class %v: %v", dir, sinks.ClassOf(err), err)
		}
	}
}

func TestReadOnlyDirectory(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write everywhere; the classification is in TestErrors")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o755) })
	err := open(t, dir).Put(t.Context(), sinktest.Object("x", 1, 1))
	if sinks.ClassOf(err) != sinks.RefusedDestination || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("class %v: %v", sinks.ClassOf(err), err)
	}
}

func TestNothingLeavesTheDirectory(t *testing.T) {
	top := t.TempDir()
	dir, outside := filepath.Join(top, "lake"), filepath.Join(top, "outside")
	for _, d := range []string{dir, outside, dir + "/real"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"absolute": outside, "relative": "../outside", "loop": "loop", "inside": "real"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Skipf("no symbolic links: %v", err)
		}
	}
	if err := os.WriteFile(outside+"/there", []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside+"/there", dir+"/file"); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	for key, class := range map[string]sinks.Class{
		"absolute/x": sinks.RefusedObject, "relative/x": sinks.RefusedObject, "relative/a/b/x": sinks.RefusedObject,
		"loop/x": sinks.RefusedObject, "file": sinks.Foreign, "file/x": sinks.RefusedObject,
	} {
		if err := s.Put(t.Context(), sinktest.Object(key, 6, 1)); sinks.ClassOf(err) != class || err == nil {
			t.Errorf("put %q: class %v, want %v: %v", key, sinks.ClassOf(err), class, err)
		}
		if err := s.Verify(t.Context(), sinktest.Object(key, 6, 1)); sinks.ClassOf(err) != sinks.NotStored {
			t.Errorf("verify %q: class %v, want not stored: %v", key, sinks.ClassOf(err), err)
		}
	}
	if err := s.Put(t.Context(), sinktest.Object("inside/x", 6, 1)); err != nil {
		t.Errorf("a link that stays inside: %v", err)
	}
	if got := (tree{t, outside}).Keys(); !slices.Equal(got, []string{"there"}) {
		t.Errorf("outside there are %q", got)
	}
}

func TestFileInTheWay(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	(tree{t, dir}).Plant("a", "a file")
	(tree{t, dir}).Plant("d/x", "a file in a directory")
	for key, class := range map[string]sinks.Class{"a/b": sinks.RefusedObject, "a/b/c": sinks.RefusedObject, "d": sinks.Foreign} {
		if err := s.Put(t.Context(), sinktest.Object(key, 6, 1)); sinks.ClassOf(err) != class || err == nil {
			t.Errorf("put %q: class %v, want %v: %v", key, sinks.ClassOf(err), class, err)
		}
	}
	if left := (tree{t, dir}).Leftovers(); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	temp := filepath.Join(dir, TempDir)
	if err := os.Mkdir(temp, 0o755); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * abandoned)
	for name, when := range map[string]time.Time{"old.tmp": old, "young.tmp": time.Now(), "not-ours": old} {
		if err := os.WriteFile(filepath.Join(temp, name), []byte("half"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(temp, name), when, when); err != nil {
			t.Fatal(err)
		}
	}
	if err := open(t, dir).Put(t.Context(), sinktest.Object("x", 1, 1)); err != nil {
		t.Fatal(err)
	}
	if got := (tree{t, dir}).Leftovers(); !slices.Equal(got, []string{TempDir + "/not-ours", TempDir + "/young.tmp"}) {
		t.Errorf("left %q", got)
	}
}

// TestDirectoryIsReplaced: the directory is removed and made again, as by a new mount, while the sink lives.
func TestDirectoryIsReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lake")
	s := open(t, dir)
	for i := range 3 {
		o := sinktest.Object("a/b/"+fmt.Sprint(i), 10, uint64(i))
		if err := s.Put(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if got := (tree{t, dir}).Keys(); len(got) != 1 {
			t.Errorf("files %q", got)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(t.Context(), o); sinks.ClassOf(err) != sinks.NotStored {
			t.Errorf("verify without directory: %v", err)
		}
	}
}

func TestNewWantsAPath(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("no error")
	}
}

func TestWindowsKeys(t *testing.T) {
	for key, ok := range map[string]bool{
		"dt=2026-11-24/x.parquet": true, "a/COM10/x": true, "console/x": true, "a b/c.d": true, "NULL": true,
		"a:b/x": false, `a\b`: false, "NUL": false, "a/con.txt": false, "com1": false, "LPT³.x": false, "a./x": false, "a /x": false, "what?": false, "a/\x01": false,
	} {
		if err := validateKey(key, true); (err == nil) != ok {
			t.Errorf("validateKey(%q) on Windows: %v", key, err)
		}
	}
}

func FuzzValidateKey(f *testing.F) {
	for _, key := range []string{"a/b", "../a", "a/../../b", "/", "//x", "a\x00", "\xff", strings.Repeat("a", 256), TempDir + "/x", "C:/x", `..\x`, "a/./b"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		for _, windows := range []bool{false, true} {
			if validateKey(key, windows) != nil {
				continue
			}
			// What is accepted is a local path that stands for itself.
			name := fileName(key)
			if !filepath.IsLocal(name) || filepath.ToSlash(filepath.Clean(name)) != name || name == "" {
				t.Errorf("key %q is accepted as %q", key, name)
			}
			if got := fileName(name); got != name {
				t.Errorf("name %q of key %q has the name %q", name, key, got)
			}
		}
	})
}

// BenchmarkPut stores files in one directory, and small ones in a new directory each, as partitions are.
func BenchmarkPut(b *testing.B) {
	for _, c := range []struct {
		name string
		size int64
		key  string
	}{{"4KiB", 4 << 10, "dt=1/%d"}, {"16384KiB", 16 << 20, "dt=1/%d"}, {"4KiB in a directory each", 4 << 10, "p=%d/x"}} {
		b.Run(c.name, func(b *testing.B) {
			s, err := New(Options{Path: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			o := sinktest.Object("x", c.size, 1)
			b.SetBytes(c.size)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				o.Key = fmt.Sprintf(c.key, n)
				if err := s.Put(b.Context(), o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
