package fsys_test

import (
	"os"
	"path/filepath"
	"testing"

	"hydrant/buffer/fsys"
	"hydrant/buffer/fsys/fsystest"
)

func TestOS(t *testing.T) {
	fsystest.Run(t, func(t *testing.T) (fsys.FS, string) {
		return fsys.OS(), filepath.ToSlash(t.TempDir())
	})
}

// What is created here holds other people's records.
func TestModes(t *testing.T) {
	if filepath.Separator != '/' {
		t.Skip("no such modes on this system")
	}
	dir := t.TempDir()
	f, err := fsys.OS().OpenFile(dir+"/a", fsys.Create)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := fsys.OS().Mkdir(dir + "/d"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"a": 0o600, "d": 0o700} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", name, got, want)
		}
	}
}

func BenchmarkDatasync(b *testing.B) {
	const size = 64 << 10
	f, err := fsys.OS().OpenFile(b.TempDir()+"/a", fsys.Create)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, size)
	if err := fsys.Reserve(f, 0, size); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.WritevAt([][]byte{buf[:100], buf[100:]}, 0); err != nil {
			b.Fatal(err)
		}
		if err := f.Datasync(); err != nil {
			b.Fatal(err)
		}
	}
}
