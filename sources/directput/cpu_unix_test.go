//go:build unix

package directput

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpu is the time that the process has had on all cores, in user mode and in the kernel.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
