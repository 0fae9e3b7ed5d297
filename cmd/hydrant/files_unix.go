//go:build unix

package main

import "syscall"

// openFiles is how many files the process may have open; 0: not known. The Go runtime has raised the limit to the most
// that it may be.
func openFiles() uint64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return uint64(l.Cur)
}
