//go:build linux || darwin

package fsys

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncDir opens the directory anew: a descriptor kept for years would pin a directory that was replaced.
func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

func lock(f *os.File) error {
	return control(f, func(fd uintptr) error {
		err := retry(func() error { return unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB) })
		if errors.Is(err, unix.EWOULDBLOCK) {
			return ErrLocked
		}
		return err
	})
}

// retry repeats a call that a signal interrupted before it did anything.
func retry(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR {
			return err
		}
	}
}

// translate has nothing to do here: the codes are the system's own.
func translate(err error) error { return err }
