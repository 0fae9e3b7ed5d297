package access

import "syscall"

// errRefused is WSAECONNREFUSED, which the syscall package of Windows does not name.
const errRefused = syscall.Errno(10061)
