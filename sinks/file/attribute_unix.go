//go:build linux || darwin

package file

import (
	"os"

	"golang.org/x/sys/unix"
)

// setAttribute sets an extended attribute of an open file.
func setAttribute(f *os.File, name string, value []byte) error {
	return controlled(f, func(fd int) error { return unix.Fsetxattr(fd, name, value, 0) })
}

// getAttribute reads one into a buffer and returns its length.
func getAttribute(f *os.File, name string, into []byte) (n int, err error) {
	err = controlled(f, func(fd int) (err error) {
		n, err = unix.Fgetxattr(fd, name, into)
		return err
	})
	return n, err
}

// controlled calls do with the file's descriptor.
func controlled(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	if err := raw.Control(func(fd uintptr) { done = do(int(fd)) }); err != nil {
		return err
	}
	return done
}
