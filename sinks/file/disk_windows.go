package file

import (
	"errors"
	"os"
	"syscall"
)

// Error codes of Windows that package syscall has no names for.
const (
	errInvalidFunction  syscall.Errno = 1
	errNotSameDevice    syscall.Errno = 17
	errWriteProtect     syscall.Errno = 19
	errHandleDiskFull   syscall.Errno = 39
	errNotSupported     syscall.Errno = 50
	errDiskFull         syscall.Errno = 112
	errInvalidName      syscall.Errno = 123
	errFilenameTooLong  syscall.Errno = 206
	errDiskQuota        syscall.Errno = 1295
	errTooManyHardLinks syscall.Errno = 1142
)

func diskFull(err error) bool {
	return errors.Is(err, errDiskFull) || errors.Is(err, errHandleDiskFull) || errors.Is(err, errDiskQuota)
}
func readOnly(err error) bool    { return errors.Is(err, errWriteProtect) }
func crossDevice(err error) bool { return errors.Is(err, errNotSameDevice) }
func badName(err error) bool {
	return errors.Is(err, errInvalidName) || errors.Is(err, errFilenameTooLong)
}

// noLinks tells whether the file system has no hard links.
func noLinks(err error) bool {
	return errors.Is(err, errInvalidFunction) || errors.Is(err, errNotSupported) || errors.Is(err, errTooManyHardLinks)
}

// syncPath makes a file durable. Windows has no sync of a directory for ordinary users; NTFS journals names.
func syncPath(root *os.Root, name string, dir bool) error {
	if dir {
		return nil
	}
	f, err := root.OpenFile(name, os.O_RDWR, 0) // FlushFileBuffers wants the right to write
	if err != nil {
		return err
	}
	err = f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func syncOSDir(string) error { return nil }
