//go:build darwin || windows

package fsys

import "os"

// writeEach writes the buffers one by one, where the system has no call for all of them.
func writeEach(f *os.File, bufs [][]byte, off int64) (int64, error) {
	var done int64
	for _, b := range bufs {
		n, err := f.WriteAt(b, off+done)
		done += int64(n)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
