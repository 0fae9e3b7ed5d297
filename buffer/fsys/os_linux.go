package fsys

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// iovMax is the most buffers that the kernel takes in one call.
const iovMax = 1024

// piece is how many bytes of a large write are copied before the device is asked to begin with them.
const piece = 512 << 10

// writev writes in as few calls as the kernel allows. The device begins with each piece of a large write
// while the next one is copied, so that the sync that follows has less to wait for.
func writev(f *os.File, bufs [][]byte, off int64) (int64, error) {
	var done int64
	err := control(f, func(fd uintptr) error {
		for len(bufs) > 0 {
			now := head(bufs, piece)
			n, err := unix.Pwritev(int(fd), now, off+done)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return err
			}
			rest := skip(bufs, n)
			if n == 0 && len(rest) > 0 {
				return io.ErrShortWrite
			}
			if n >= piece && len(rest) > 0 {
				// A hint: it promises nothing, and an error of the device is kept for the sync.
				_ = unix.SyncFileRange(int(fd), off+done, int64(n), unix.SYNC_FILE_RANGE_WRITE)
			}
			done += int64(n)
			bufs = rest
		}
		return nil
	})
	return done, err
}

// head returns the buffers with the first n bytes, or somewhat more or fewer, and no more than one call takes. The
// last of them may be cut short. It leaves bufs itself as it is.
func head(bufs [][]byte, n int) [][]byte {
	for i, b := range bufs[:min(len(bufs), iovMax)] {
		if len(b) < n {
			n -= len(b)
			continue
		}
		if len(b)-n < piece/2 {
			n = len(b)
		}
		return append(bufs[:i:i], b[:n])
	}
	return bufs[:min(len(bufs), iovMax)]
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
