//go:build !windows

package access

import "syscall"

const errRefused = syscall.ECONNREFUSED
