package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	_ "time/tzdata" // time zones of prefixes, where the machine has none

	"github.com/spf13/cobra"

	"hydrant/config"
)

func (c *cli) runCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon",
		Long: `Runs the daemon: recovers the data directory, accepts puts on api.listen, delivers, and shows metrics and health
on admin.listen. The log goes to standard error.

SIGHUP reads the configuration again, and so does a change of the file with watch: true. What is wrong with it is in
the log, and then nothing changes.

SIGINT and SIGTERM stop it: puts are refused, open requests end, delivery goes on for stop.drain, and what is
left waits on disk for the next start. The exit code is 1 when a drain left something. A second signal ends
the process at once; nothing acknowledged is lost by that.`,
		Example: "  hydrant run -c hydrant.yaml",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			again := make(chan os.Signal, 1)
			signal.Notify(again, syscall.SIGHUP) // which would end the process
			defer signal.Stop(again)
			f, src, err := c.open(file)
			if err != nil {
				return err
			}
			return c.runDaemon(cmd.Context(), f, src, again)
		},
	}
	configFlag(cmd, &file)
	return cmd
}

// runDaemon runs until ctx ends. f is what src holds, which is read again when again says so.
func (c *cli) runDaemon(ctx context.Context, f *config.File, src source, again <-chan os.Signal) error {
	conf := f.Config
	limitRuntime(int64(conf.Limits.Memory), encodeWorkers(int64(conf.Limits.Memory)), c.env)
	log := newLog(conf.Log, c.stderr)
	d := newDaemon(conf, slog.New(log))
	d.file = f
	d.renewals = append(d.renewals, func(next *config.Config) (func(), error) {
		return func() { log.set(next.Log) }, nil
	})
	if err := d.start(); err != nil {
		return err
	}
	d.followFile(src, again)
	err := d.wait(ctx)
	if e := d.stop(); e != nil {
		err = errors.Join(err, e)
	}
	d.log.Info("stopped")
	return err
}

// newLogger writes to w as the configuration says.
func newLogger(l config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		panic("bug: log level " + l.Level + " came through the decoder")
	}
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func (c *cli) drainCommand() *cobra.Command {
	var file string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Deliver what a data directory holds, and accept nothing",
		Long: `Opens the data directory of a daemon that does not run, delivers everything in it as the configuration says, and
ends. No listener is opened. Without --timeout it goes on until everything is delivered; otherwise, and on
SIGINT or SIGTERM, what is left stays on disk and the exit code is 1. Streams that are paused stay so, and
count as left.`,
		Example: "  hydrant drain -c hydrant.yaml --timeout 10m",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout < 0 {
				return usageError{fmt.Errorf("--timeout %s is negative", timeout)}
			}
			f, err := c.load(file)
			if err != nil {
				return err
			}
			return c.drain(cmd.Context(), f, timeout)
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up after so long (0: never)")
	return cmd
}

func (c *cli) drain(ctx context.Context, f *config.File, timeout time.Duration) (err error) {
	conf := f.Config
	limitRuntime(int64(conf.Limits.Memory), encodeWorkers(int64(conf.Limits.Memory)), c.env)
	d := newDaemon(conf, newLogger(conf.Log, c.stderr))
	d.file = f
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.openBuffer(); err != nil {
		return err
	}
	if err := d.openDelivery(); err != nil {
		return err
	}
	d.manager.StopReading() // what is there is delivered, and nothing more is fetched
	d.deliver()
	if timeout == 0 {
		timeout = 1<<63 - 1
	}
	before := d.backlog()
	progress := c.newProgress()
	showing, stop := context.WithCancel(ctx)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		progress.every(showing, 200*time.Millisecond, func() string {
			left := d.backlog()
			return fmt.Sprintf("%s %d records left", bar(max(before-left, 0), before, 30), left)
		})
	}()
	err = d.drain(ctx, timeout)
	stop()
	<-shown
	progress.clear()
	if err == nil {
		fmt.Fprintf(c.stdout, "delivered %d records, nothing is left in %s\n", before, conf.DataDir)
	}
	return err
}

// backlog is the records that wait, of all streams.
func (d *daemon) backlog() (n int64) {
	for _, s := range d.manager.Streams() {
		n += s.BacklogRecords
	}
	return n
}
