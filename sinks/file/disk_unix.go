//go:build !windows

package file

import (
	"errors"
	"os"
	"syscall"
)

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
func readOnly(err error) bool    { return errors.Is(err, syscall.EROFS) }
func crossDevice(err error) bool { return errors.Is(err, syscall.EXDEV) }
func badName(err error) bool {
	return errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EILSEQ)
}

// noLinks tells whether the file system has no hard links.
func noLinks(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.EOPNOTSUPP) ||
		errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EMLINK)
}

// syncPath makes a file or directory durable.
func syncPath(root *os.Root, name string, dir bool) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	return syncAndClose(f, dir)
}

// syncOSDir is syncPath for a directory outside of the root.
func syncOSDir(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return syncAndClose(f, true)
}

func syncAndClose(f *os.File, dir bool) error {
	err := f.Sync()
	if dir && (errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP)) {
		err = nil // some network file systems cannot sync directories: their names are as durable as they get
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
