package buffer

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"hydrant/buffer/fsys"
)

// counted is a disk that counts the files that are open.
type counted struct {
	fsys.FS
	open atomic.Int64
}

type countedFile struct {
	fsys.File
	once sync.Once
	of   *counted
}

func (c *counted) OpenFile(name string, flag fsys.Flag) (fsys.File, error) {
	f, err := c.FS.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	c.open.Add(1)
	return &countedFile{File: f, of: c}, nil
}

func (f *countedFile) Close() error {
	f.once.Do(func() { f.of.open.Add(-1) })
	return f.File.Close()
}

// Neither a process that ends nor a start that fails leaves files open.
func TestFilesAreClosed(t *testing.T) { synctest.Test(t, testFilesAreClosed) }

func testFilesAreClosed(t *testing.T) {
	x := newDamaged(t)
	o := x.o
	disk := &counted{FS: x.disk}
	o.FS = disk
	f := func(when string) {
		t.Helper()
		if n := disk.open.Load(); n != 0 {
			t.Errorf("%d files are open after %s", n, when)
		}
	}
	spoil(t, x.disk, pick(t, x.disk, "STREAM", 0), false)
	_, err := Open(o)
	if _, ok := errors.AsType[*DamageError](err); !ok {
		t.Fatalf("open: %v, want a *DamageError", err)
	}
	f("a start that failed")
	spoil(t, x.disk, pick(t, x.disk, "STREAM", 0), false) // back as it was
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range b.Outstanding() {
		r, err := b.OpenObject(m, 0)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	f("Close")
}
