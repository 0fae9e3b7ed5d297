package fsys

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/windows"
)

// syncDir does nothing: this system keeps names in a journal of its own and lets nobody flush a
// directory. Data directories here are for development.
func syncDir(string) error { return nil }

func writev(f *os.File, bufs [][]byte, off int64) (int64, error) { return writeEach(f, bufs, off) }

func datasync(f *os.File) error { return f.Sync() } // FlushFileBuffers

// allocate extends the file, for which NTFS sets clusters aside.
func allocate(f *os.File, off, n int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if off+n <= info.Size() {
		return nil
	}
	return f.Truncate(off + n)
}

func lock(f *os.File) error {
	return control(f, func(fd uintptr) error {
		const whole = ^uint32(0)
		err := windows.LockFileEx(windows.Handle(fd), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
			0, whole, whole, &windows.Overlapped{})
		if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
			return ErrLocked
		}
		return err
	})
}

func statfs(name string) (Space, error) {
	p, err := windows.UTF16PtrFromString(filepath.FromSlash(name))
	if err != nil {
		return Space{}, err
	}
	var free, total uint64
	if err := windows.GetDiskFreeSpaceEx(p, &free, &total, nil); err != nil {
		return Space{}, err
	}
	return Space{Free: int64(free), Total: int64(total)}, nil
}

// translate turns this system's codes for a full disk into the one that callers ask for.
func translate(err error) error {
	if errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) {
		return errors.Join(err, syscall.ENOSPC)
	}
	return err
}
