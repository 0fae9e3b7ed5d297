package fsys

import (
	"errors"
	"io"
	"os"
)

// Modes of what is created: the data directory holds other people's records.
const (
	dirMode  = 0o700
	fileMode = 0o600
)

// OS is the operating system's file system.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) OpenFile(name string, flag Flag) (File, error) {
	how := os.O_RDONLY
	switch flag {
	case ReadWrite:
		how = os.O_RDWR
	case Create:
		how = os.O_RDWR | os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(name, how, fileMode)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Mkdir(name string) error { return os.MkdirAll(name, dirMode) }

func (osFS) ReadDir(name string) ([]Entry, error) {
	found, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(found))
	for _, d := range found {
		info, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // removed between the two calls
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, Entry{Name: d.Name(), Size: info.Size(), Dir: d.IsDir()})
	}
	return entries, nil
}

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) SyncDir(name string) error {
	if !syncing {
		return nil
	}
	return syncDir(name)
}

func (osFS) Statfs(name string) (Space, error) {
	s, err := statfs(name)
	if err != nil {
		return Space{}, &os.PathError{Op: "statfs", Path: name, Err: err}
	}
	return s, nil
}

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: name, Err: err}
	}
	return f, nil // closing the file drops the lock
}

type osFile struct{ *os.File }

func (f osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, f.fault("write", err)
}

func (f osFile) WritevAt(bufs [][]byte, off int64) (int64, error) {
	n, err := writev(f.File, bufs, off)
	return n, f.fault("writev", err)
}

func (f osFile) Datasync() error {
	if !syncing {
		return nil
	}
	return f.fault("datasync", datasync(f.File))
}

func (f osFile) Allocate(off, n int64) error { return f.fault("allocate", allocate(f.File, off, n)) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// fault gives an error the code that callers ask for, and the file's name where it was a bare system
// call that failed.
func (f osFile) fault(op string, err error) error {
	if err == nil {
		return nil
	}
	err = translate(err)
	if _, ok := errors.AsType[*os.PathError](err); ok {
		return err
	}
	return &os.PathError{Op: op, Path: f.Name(), Err: err}
}

// control runs fn with the file's descriptor, which stays open meanwhile.
func control(f *os.File, fn func(fd uintptr) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := c.Control(func(fd uintptr) { inner = fn(fd) }); err != nil {
		return err
	}
	return inner
}
