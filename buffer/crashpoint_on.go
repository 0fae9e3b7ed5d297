//go:build crashpoints

package buffer

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// The instant at which this process dies: HYDRANT_CRASH_POINT has the name of a crash point and, behind a
// colon, which of its passes is the last one (1 where it is missing).
var (
	crashName string
	crashLeft atomic.Int64
)

func init() {
	name, pass, counted := strings.Cut(os.Getenv("HYDRANT_CRASH_POINT"), ":")
	crashName = name
	n := 1
	if counted {
		var err error
		if n, err = strconv.Atoi(pass); err != nil || n < 1 {
			panic("HYDRANT_CRASH_POINT wants NAME:PASS, with a pass from 1")
		}
	}
	crashLeft.Store(int64(n))
}

// CrashPoint ends the process as kill -9 does, without another instruction, at the pass that was asked for.
func CrashPoint(name string) {
	if name != crashName || crashLeft.Add(-1) != 0 {
		return
	}
	fmt.Fprintf(os.Stderr, "died at crash point %s\n", name)
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		panic("cannot end this process: " + err.Error())
	}
	select {} // the signal is on its way
}
