// Package fsys is the seam between the buffer and the operating system's files.
//
// Everything that the buffer does to a disk goes through FS and File, so that tests can put a file
// system behind it that forgets what was not synced, fails a sync, or runs out of space at a chosen byte.
//
// What is assumed of the real one: Datasync returns only when the file's bytes, its size and what is
// needed to read them are on stable storage; SyncDir the same for the names in a directory; a write may
// be torn at any multiple of 512 bytes by a power cut; a Rename is atomic. After Datasync has failed, the
// bytes written since the last good one are lost or not, and reading them back proves nothing.
package fsys

import (
	"errors"
	"io"
)

// Flag says how OpenFile opens.
type Flag uint8

// ReadOnly opens an existing file for reading; ReadWrite an existing file for both; Create makes a new
// file for both and fails with fs.ErrExist where the name is taken.
const (
	ReadOnly Flag = iota
	ReadWrite
	Create
)

// ErrNotSupported is returned by Allocate where the platform or file system cannot reserve space.
var ErrNotSupported = errors.New("not supported by this file system")

// Entry is one name in a directory.
type Entry struct {
	Name string
	Size int64
	Dir  bool
}

// Space is what statfs says of the file system that holds a path, in bytes.
type Space struct {
	Free  int64 // available to this process
	Total int64
}

// FS is a tree of files. Names use forward slashes and are passed on as they are; errors satisfy
// errors.Is with fs.ErrNotExist, fs.ErrExist and syscall.ENOSPC, EDQUOT, EROFS and EIO where they apply.
// Safe for concurrent use.
type FS interface {
	OpenFile(name string, flag Flag) (File, error)
	Mkdir(name string) error // with its parents; no error where it exists. Not durable before SyncDir of the parent
	ReadDir(name string) ([]Entry, error)
	Rename(from, to string) error
	Remove(name string) error
	SyncDir(name string) error
	Statfs(name string) (Space, error)
	// Lock takes an advisory lock that ends with the process, creating the file where it is missing.
	// Another process (or another Lock in this one) gets ErrLocked.
	Lock(name string) (io.Closer, error)
}

// ErrLocked says that somebody else holds the lock.
var ErrLocked = errors.New("locked by another process")

// File is an open file. ReadAt and WriteAt may be called concurrently.
type File interface {
	io.ReaderAt
	io.WriterAt
	// WritevAt writes the buffers one after another from off on, as one system call where it can. It may
	// write less than all only together with an error.
	WritevAt(bufs [][]byte, off int64) (int64, error)
	// Datasync makes all that was written durable. An error is never retried on the same file.
	Datasync() error
	// Allocate reserves space for [off, off+n) and extends the file, reading as zeros. It fails with
	// ENOSPC at once where there is no room.
	Allocate(off, n int64) error
	// Truncate cuts the file at size, or extends it with zeros. Durable after Datasync.
	Truncate(size int64) error
	Size() (int64, error)
	io.Closer
}

// zeros is what Reserve writes where space cannot be reserved otherwise.
const zeros = 1 << 20

// Reserve makes [off, off+n) of a file that ends at or before off belong to it: by Allocate, or by
// writing zeros where the file system cannot allocate. After it, writing there meets no ENOSPC (but for
// copy-on-write file systems, which nothing helps).
func Reserve(f File, off, n int64) error {
	err := f.Allocate(off, n)
	if !errors.Is(err, ErrNotSupported) {
		return err
	}
	buf := make([]byte, min(n, zeros))
	for n > 0 {
		w, err := f.WriteAt(buf[:min(n, zeros)], off)
		if err != nil {
			return err
		}
		off += int64(w)
		n -= int64(w)
	}
	return nil
}
