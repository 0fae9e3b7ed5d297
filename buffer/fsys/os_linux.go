package fsys

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// iovMax is the most buffers that the kernel takes in one call.
const iovMax = 1024

// writev writes in as few calls as the kernel allows: one, unless there are more than iovMax buffers or
// it wrote less than it was given.
func writev(f *os.File, bufs [][]byte, off int64) (int64, error) {
	var done int64
	err := control(f, func(fd uintptr) error {
		for len(bufs) > 0 {
			n, err := unix.Pwritev(int(fd), bufs[:min(len(bufs), iovMax)], off+done)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return err
			}
			done += int64(n)
			rest := skip(bufs, n)
			if n == 0 && len(rest) > 0 {
				return io.ErrShortWrite
			}
			bufs = rest
		}
		return nil
	})
	return done, err
}

// skip drops the first n bytes and the empty buffers after them. It leaves bufs itself as it is.
func skip(bufs [][]byte, n int) [][]byte {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if n == 0 {
		return bufs
	}
	return append([][]byte{bufs[0][n:]}, bufs[1:]...)
}

func datasync(f *os.File) error {
	return control(f, func(fd uintptr) error {
		return retry(func() error { return unix.Fdatasync(int(fd)) })
	})
}

func allocate(f *os.File, off, n int64) error {
	return control(f, func(fd uintptr) error {
		err := retry(func() error { return unix.Fallocate(int(fd), 0, off, n) })
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
			return ErrNotSupported
		}
		return err
	})
}

func statfs(name string) (Space, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Statfs(name, &st) }); err != nil {
		return Space{}, err
	}
	block := int64(st.Frsize)
	if block == 0 {
		block = int64(st.Bsize)
	}
	return Space{Free: int64(st.Bavail) * block, Total: int64(st.Blocks) * block}, nil
}
