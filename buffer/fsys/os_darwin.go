package fsys

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// writev has no positioned gathering call here; one write per buffer.
func writev(f *os.File, bufs [][]byte, off int64) (int64, error) { return writeEach(f, bufs, off) }

// datasync asks for F_FULLFSYNC, which File.Sync does on this system: fsync alone leaves bytes in the
// drive's cache.
func datasync(f *os.File) error { return f.Sync() }

// allocate reserves behind the end of the file, which is all that this system can reserve, and extends it.
func allocate(f *os.File, off, n int64) error {
	return control(f, func(fd uintptr) error {
		var st unix.Stat_t
		if err := unix.Fstat(int(fd), &st); err != nil {
			return err
		}
		end := off + n
		if end <= st.Size {
			return nil
		}
		store := unix.Fstore_t{
			Flags:   unix.F_ALLOCATEALL,
			Posmode: unix.F_PEOFPOSMODE,
			Length:  end - st.Size,
		}
		err := retry(func() error { return unix.FcntlFstore(fd, unix.F_PREALLOCATE, &store) })
		if errors.Is(err, unix.ENOTSUP) {
			return ErrNotSupported
		}
		if err != nil {
			return err
		}
		return unix.Ftruncate(int(fd), end)
	})
}

func statfs(name string) (Space, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Statfs(name, &st) }); err != nil {
		return Space{}, err
	}
	block := int64(st.Bsize)
	return Space{Free: int64(st.Bavail) * block, Total: int64(st.Blocks) * block}, nil
}
