package delivery

import "golang.org/x/sys/unix"

// lowerPriority makes the calling thread give way to others. On Linux a "process" of setpriority is a
// thread. Without it everything works, only less evenly, so an error is of no interest.
func lowerPriority(nice int) { _ = unix.Setpriority(unix.PRIO_PROCESS, 0, nice) }
