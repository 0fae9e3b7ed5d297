// Command hydrant is the daemon and the commands around it.
//
// This package is the only one that knows every other: it translates the configuration into each part's
// own options, starts the parts in order (buffer, delivery, listeners), and stops them in reverse. It keeps
// nothing itself; what holds after a crash is said by package buffer.
//
//	stdin ─ put ──────────┐
//	                      ▼
//	producers ─► API listener ─► delivery ─► buffer ─► delivery ─► sinks
//	                                 ▲
//	operators ─► admin listener ─────┘        config ─► run, validate, drain, demo
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(realMain()) }

// realMain runs the command line with signals: the first SIGINT or SIGTERM asks for an orderly end, the
// second one ends the process at once.
func realMain() int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		s := <-signals
		cancel(errors.New("got " + s.String()))
		<-signals
		os.Exit(exitFailed)
	}()
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}
