// Package fsystest is the suite of behaviour that every fsys.FS must pass: the operating system's, and
// the one that forgets. What the buffer relies on stands here, so that a test on the forgetful one says
// something about the real one.
package fsystest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"testing"

	"hydrant/buffer/fsys"
)

// Run runs the suite. open returns a file system and an empty directory in it.
func Run(t *testing.T, open func(t *testing.T) (fsys.FS, string)) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f, dir := open(t)
			c.run(&env{T: t, fs: f, dir: dir})
		})
	}
}

type env struct {
	*testing.T
	fs  fsys.FS
	dir string
}

func (e *env) path(name string) string { return e.dir + "/" + name }

func (e *env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

func (e *env) open(name string, flag fsys.Flag) fsys.File {
	e.Helper()
	f, err := e.fs.OpenFile(e.path(name), flag)
	e.ok(err)
	e.Cleanup(func() { f.Close() })
	return f
}

// create makes a file with these bytes.
func (e *env) create(name, content string) fsys.File {
	e.Helper()
	f := e.open(name, fsys.Create)
	n, err := f.WriteAt([]byte(content), 0)
	e.ok(err)
	if n != len(content) {
		e.Fatalf("wrote %d bytes, want %d", n, len(content))
	}
	return f
}

// content reads a whole file through its size.
func (e *env) content(f fsys.File) string {
	e.Helper()
	size, err := f.Size()
	e.ok(err)
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if int64(n) != size || err != nil && err != io.EOF {
		e.Fatalf("read %d of %d bytes: %v", n, size, err)
	}
	return string(b)
}

func (e *env) want(got, want any) {
	e.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		e.Fatalf("got %v, want %v", got, want)
	}
}

func (e *env) fails(err, want error) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Fatalf("got error %v, want %v", err, want)
	}
}

var cases = []struct {
	name string
	run  func(e *env)
}{
	{"create, write, read", func(e *env) {
		f := e.create("a", "hello")
		e.want(e.content(f), "hello")
		e.ok(f.Datasync())
		_, err := f.WriteAt([]byte("J"), 0)
		e.ok(err)
		_, err = f.WriteAt([]byte("end"), 7)
		e.ok(err)
		e.want(e.content(f), "Jello\x00\x00end")
		e.ok(f.Close())
		g := e.open("a", fsys.ReadOnly)
		e.want(e.content(g), "Jello\x00\x00end")
	}},
	{"create takes no name twice", func(e *env) {
		e.create("a", "1")
		_, err := e.fs.OpenFile(e.path("a"), fsys.Create)
		e.fails(err, fs.ErrExist)
	}},
	{"missing names", func(e *env) {
		for _, flag := range []fsys.Flag{fsys.ReadOnly, fsys.ReadWrite} {
			_, err := e.fs.OpenFile(e.path("none"), flag)
			e.fails(err, fs.ErrNotExist)
		}
		_, err := e.fs.OpenFile(e.path("no/dir"), fsys.Create)
		e.fails(err, fs.ErrNotExist)
		_, err = e.fs.ReadDir(e.path("none"))
		e.fails(err, fs.ErrNotExist)
		e.fails(e.fs.Remove(e.path("none")), fs.ErrNotExist)
		e.fails(e.fs.Rename(e.path("none"), e.path("b")), fs.ErrNotExist)
		e.fails(e.fs.SyncDir(e.path("none")), fs.ErrNotExist)
	}},
	{"a file opened for reading is not written", func(e *env) {
		e.ok(e.create("a", "x").Close())
		f := e.open("a", fsys.ReadOnly)
		if _, err := f.WriteAt([]byte("y"), 0); err == nil {
			e.Fatal("write went through")
		}
		e.want(e.content(f), "x")
	}},
	{"reading at and behind the end", func(e *env) {
		f := e.create("a", "abc")
		b := make([]byte, 4)
		n, err := f.ReadAt(b, 1)
		e.want(n, 2)
		e.fails(err, io.EOF)
		n, err = f.ReadAt(b, 3)
		e.want(n, 0)
		e.fails(err, io.EOF)
		n, err = f.ReadAt(b, 1<<20)
		e.want(n, 0)
		e.fails(err, io.EOF)
	}},
	{"gathered writes", func(e *env) {
		f := e.create("a", "....")
		bufs := [][]byte{[]byte("ab"), nil, []byte("c"), {}, []byte("defg")}
		n, err := f.WritevAt(bufs, 2)
		e.ok(err)
		e.want(n, 7)
		e.want(e.content(f), "..abcdefg")
		e.want(string(bytes.Join(bufs, nil)), "abcdefg")
		n, err = f.WritevAt(nil, 1)
		e.ok(err)
		e.want(n, 0)
	}},
	{"more buffers than a system call takes", func(e *env) {
		f := e.create("a", "")
		var bufs [][]byte
		var want bytes.Buffer
		for i := range 3000 {
			b := fmt.Appendf(nil, "%d,", i)
			bufs = append(bufs, b)
			want.Write(b)
		}
		n, err := f.WritevAt(bufs, 0)
		e.ok(err)
		e.want(n, want.Len())
		if e.content(f) != want.String() {
			e.Fatal("the bytes are others")
		}
	}},
	{"a gathered write of megabytes", func(e *env) {
		f := e.create("a", "....")
		r := rand.New(rand.NewPCG(1, 1))
		for _, sizes := range [][]int{{3<<20 + 1}, {5, 1 << 20, 0, 700 << 10, 1}, {300 << 10, 300 << 10, 300 << 10, 1}, {512 << 10, 512 << 10}} {
			var bufs [][]byte
			for _, n := range sizes {
				b := make([]byte, n)
				for i := range b {
					b[i] = byte(r.Uint32())
				}
				bufs = append(bufs, b)
			}
			want := bytes.Join(bufs, nil)
			n, err := f.WritevAt(bufs, 4)
			e.ok(err)
			e.want(n, len(want))
			if e.content(f)[4:4+len(want)] != string(want) {
				e.Fatalf("sizes %d: the bytes are others", sizes)
			}
			if !bytes.Equal(bytes.Join(bufs, nil), want) {
				e.Fatalf("sizes %d: the buffers were changed", sizes)
			}
		}
	}},
	{"allocate extends with zeros and keeps what is there", func(e *env) {
		f := e.create("a", "abc")
		e.ok(fsys.Reserve(f, 3, 8189))
		size, err := f.Size()
		e.ok(err)
		e.want(size, 8192)
		if e.content(f) != "abc"+string(make([]byte, 8189)) {
			e.Fatal("not zeros")
		}
		if err := f.Allocate(0, 4096); !errors.Is(err, fsys.ErrNotSupported) {
			e.ok(err)
		}
		size, err = f.Size()
		e.ok(err)
		e.want(size, 8192)
		e.want(e.content(f)[:3], "abc")
	}},
	{"truncate", func(e *env) {
		f := e.create("a", "abcdef")
		e.ok(f.Truncate(2))
		e.want(e.content(f), "ab")
		e.ok(f.Truncate(4))
		e.want(e.content(f), "ab\x00\x00")
		e.ok(f.Datasync())
	}},
	{"directories", func(e *env) {
		e.ok(e.fs.Mkdir(e.path("d/e")))
		e.ok(e.fs.Mkdir(e.path("d/e")))
		e.ok(e.create("d/f", "123").Close())
		e.ok(e.fs.SyncDir(e.path("d")))
		got, err := e.fs.ReadDir(e.path("d"))
		e.ok(err)
		slices.SortFunc(got, func(a, b fsys.Entry) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
		if len(got) != 2 || got[0].Name != "e" || !got[0].Dir || got[1] != (fsys.Entry{Name: "f", Size: 3}) {
			e.Fatalf("got %+v", got)
		}
		if err := e.fs.Mkdir(e.path("d/f")); err == nil {
			e.Fatal("made a directory where a file is")
		}
	}},
	{"rename replaces, and an open file goes with its name", func(e *env) {
		e.ok(e.create("old", "1").Close())
		e.ok(e.create("new", "2").Close())
		e.ok(e.fs.Rename(e.path("new"), e.path("old")))
		e.want(e.content(e.open("old", fsys.ReadOnly)), "2")
		_, err := e.fs.OpenFile(e.path("new"), fsys.ReadOnly)
		e.fails(err, fs.ErrNotExist)
	}},
	{"remove", func(e *env) {
		e.ok(e.create("a", "1").Close())
		e.ok(e.fs.Remove(e.path("a")))
		_, err := e.fs.OpenFile(e.path("a"), fsys.ReadOnly)
		e.fails(err, fs.ErrNotExist)
		e.create("a", "2")
	}},
	{"a lock is one's own until it is closed", func(e *env) {
		l, err := e.fs.Lock(e.path("LOCK"))
		e.ok(err)
		_, err = e.fs.Lock(e.path("LOCK"))
		e.fails(err, fsys.ErrLocked)
		other, err := e.fs.Lock(e.path("OTHER"))
		e.ok(err)
		e.ok(other.Close())
		e.ok(l.Close())
		l, err = e.fs.Lock(e.path("LOCK"))
		e.ok(err)
		e.ok(l.Close())
	}},
	{"statfs", func(e *env) {
		s, err := e.fs.Statfs(e.dir)
		e.ok(err)
		if s.Free <= 0 || s.Total < s.Free {
			e.Fatalf("got %+v", s)
		}
	}},
	{"a closed file is closed", func(e *env) {
		f := e.create("a", "1")
		e.ok(f.Close())
		_, err := f.ReadAt(make([]byte, 1), 0)
		e.fails(err, fs.ErrClosed)
		_, err = f.WriteAt([]byte("2"), 0)
		e.fails(err, fs.ErrClosed)
	}},
}
