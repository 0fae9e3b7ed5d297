package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"hydrant/config"
	"hydrant/format/parquet"
	"hydrant/sample"
)

// Of the demonstration. A batch is about 430 KB, so that several are on the way at any time.
const (
	demoStream    = "clicks"
	demoRecords   = 100_000
	demoSenders   = 4
	demoFlush     = 2 * time.Minute
	demoShownRows = 3
	demoShownText = 240              // bytes of each
	demoStep      = time.Millisecond // of event time between two events; the last one is now
)

func (c *cli) demoCommand() *cobra.Command {
	d := demo{cli: c}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See the main job done: generated events in, partitioned Parquet out; needs nothing",
		Long: `Starts the daemon on free loopback ports with a file destination, sends generated clickstream events through the
real PutRecordBatch API, and prints the files that it made and rows read back from them. Everything is in --dir:
hydrant.yaml, the data directory and the lake. It is left there; another run adds to it.`,
		Example: "  hydrant demo\n  hydrant demo --keep-running",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.records < 1 {
				return usageError{fmt.Errorf("--records %d is not above 0", d.records)}
			}
			return d.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.dir, "dir", "hydrant-demo", "`DIR` for the configuration, the data directory and the lake")
	f.Int64Var(&d.records, "records", demoRecords, "events to send")
	f.BoolVar(&d.stay, "keep-running", false, "stay up afterwards, and print what to try next")
	cmd.MarkFlagDirname("dir")
	return cmd
}

type demo struct {
	*cli
	dir     string
	records int64
	stay    bool

	lake        string
	acked, json atomic.Int64 // records and their bytes
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.stdout, format+"\n", args...) }

func (d *demo) run(ctx context.Context) (err error) {
	began := time.Now()
	f, err := d.configure()
	if err != nil {
		return err
	}
	conf := f.Config
	limitRuntime(int64(conf.Limits.Memory), encodeWorkers(int64(conf.Limits.Memory)), d.env)
	daemon := newDaemon(conf, newLogger(conf.Log, d.stderr))
	if err := daemon.start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.stop()) }()
	api, adm := "http://"+daemon.api.addresses()[0], "http://"+daemon.admin.addresses()[0]
	d.say("hydrant is up: Firehose API on %s, status page on %s", api, adm)
	d.say("sending %s click events in calls of PutRecordBatch; each is acknowledged when it is on disk", thousands(d.records))

	sent := time.Now()
	if err := d.send(ctx, api, daemon); err != nil {
		return err
	}
	took := time.Since(sent)
	d.say("acknowledged %s records, %s of JSON, in %.1f s: %s records/s", thousands(d.acked.Load()), size(d.json.Load()), took.Seconds(), thousands(int64(float64(d.acked.Load())/took.Seconds())))

	flushing, cancel := context.WithTimeout(ctx, demoFlush)
	defer cancel()
	if r, err := daemon.manager.Flush(flushing, demoStream); err != nil {
		return fmt.Errorf("flush: %d records are not delivered: %w", r.Records, err)
	}
	if err := d.show(); err != nil {
		return err
	}
	s, _ := daemon.manager.Stream(demoStream)
	d.say("\naccepted %s = delivered %s + in the error output %s + waiting %s; unaccounted %d", thousands(s.Accepted), thousands(s.Delivered), thousands(s.Failed), thousands(s.BacklogRecords), s.Unaccounted)
	d.say("done in %.1f s; everything is in %s", time.Since(began).Seconds(), d.dir)
	if !d.stay {
		return nil
	}
	d.next(api, adm)
	return daemon.wait(ctx)
}

// demoConfig is what hydrant.yaml in the demo's directory says. The listeners take free ports.
const demoConfig = `# The configuration of 'hydrant demo'. Try it again with: hydrant run -c %[1]s
data_dir: %[2]q
limits: { disk: 4GiB }
log: { level: warn }
api: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
streams:
  - name: %[3]s
    format:
      parquet:
        compression: zstd
        schema: |
%[4]s
    buffer: { size: 32MiB, interval: 10s }
    destination:
      file:
        path: %[5]q
        prefix: "%[3]s/dt=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/"
`

// configure makes the directory and its configuration, and reads it as any other.
func (d *demo) configure() (*config.File, error) {
	abs, err := filepath.Abs(d.dir)
	if err != nil {
		return nil, err
	}
	d.dir, d.lake = abs, filepath.Join(abs, "lake")
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the demo's directory: %w", err)
	}
	name := filepath.Join(d.dir, "hydrant.yaml")
	text := fmt.Sprintf(demoConfig, name, filepath.Join(d.dir, "data"), demoStream, indent(sample.ClicksSchema, "          "), d.lake)
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		return nil, fmt.Errorf("write the demo's configuration: %w", err)
	}
	return d.load(name)
}

func indent(text, by string) string {
	return by + strings.ReplaceAll(text, "\n", "\n"+by)
}

// send puts the events over HTTP, as any client would. The seed differs from run to run, so that two runs
// into one directory send different events.
func (d *demo) send(ctx context.Context, api string, daemon *daemon) error {
	client, err := firehoseClient(api, "", d.env)
	if err != nil {
		return err
	}
	now := time.Now()
	clicks := sample.Clickstream{Seed: uint64(now.UnixNano()), Start: now.Add(-time.Duration(d.records) * demoStep), Step: demoStep}
	showing, stop := context.WithCancel(ctx)
	shown := make(chan struct{})
	go func() { defer close(shown); d.watch(showing, daemon) }()
	defer func() { stop(); <-shown }()

	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range demoSenders {
		g.Go(func() error {
			for {
				from := next.Add(maxBatchRecords) - maxBatchRecords
				if from >= d.records {
					return nil
				}
				if err := d.putClicks(ctx, client, clicks, from, min(maxBatchRecords, d.records-from)); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

func (d *demo) putClicks(ctx context.Context, client *firehose.Client, clicks sample.Clickstream, from, n int64) error {
	p := putter{client: client, stream: demoStream, patience: time.Minute}
	b := batch{line: int(from) + 1}
	for _, record := range clicks.All(uint64(from), uint64(n)) {
		b.records = append(b.records, types.Record{Data: append([]byte(nil), record...)})
	}
	err := p.putBatch(ctx, b)
	d.acked.Add(p.acked.Load())
	d.json.Add(p.ackedBytes.Load())
	return err
}

// watch shows how far it is: one line that changes on a terminal, a line a second elsewhere.
func (d *demo) watch(ctx context.Context, daemon *daemon) {
	line := func() string {
		s, _ := daemon.manager.Stream(demoStream)
		return fmt.Sprintf("  %s acknowledged %s, delivered %s", bar(d.acked.Load(), d.records, 30), thousands(d.acked.Load()), thousands(s.Delivered))
	}
	interval, p := time.Second, &progress{}
	if isTerminal(d.stdout) {
		interval, p.w = 100*time.Millisecond, d.stdout
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	defer p.clear()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if p.w != nil {
				p.show(line())
			} else {
				d.say("%s", line())
			}
		}
	}
}

// thousands prints a count with commas.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// show prints the lake's tree with rows and bytes of each file, and some rows of one.
func (d *demo) show() error {
	var files []string
	err := filepath.WalkDir(d.lake, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && strings.HasSuffix(path, ".parquet") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("list the lake: %w", err)
	}
	if len(files) == 0 {
		return fmt.Errorf("no file was delivered to %s", d.lake)
	}
	d.say("\n%s", d.lake)
	last := ""
	var rows, total int64
	for _, path := range files {
		rel, err := filepath.Rel(d.lake, path)
		if err != nil {
			return err
		}
		folder, base := filepath.Split(rel)
		if folder != last {
			last = folder
			d.say("  %s", filepath.ToSlash(folder))
		}
		info, err := inspectParquet(path)
		if err != nil {
			return err
		}
		rows, total = rows+info.Rows, total+info.Size
		d.say("    %s  %s rows  %s", base, thousands(info.Rows), size(info.Size))
	}
	d.say("  %s rows in %d %s, %s of Parquet", thousands(rows), len(files), plural(len(files), "file"), size(total))

	d.say("\nread back from %s:", filepath.Base(files[len(files)-1]))
	shown, err := readParquet(files[len(files)-1], demoShownRows)
	if err != nil {
		return err
	}
	for _, row := range shown {
		if len(row) > demoShownText {
			row = append(bytes.ToValidUTF8(row[:demoShownText], nil), "…"...)
		}
		d.say("  %s", row)
	}
	return nil
}

func withParquet(path string, use func(r io.ReaderAt, size int64) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := use(f, info.Size()); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

func inspectParquet(path string) (info *parquet.Info, err error) {
	err = withParquet(path, func(r io.ReaderAt, size int64) (err error) {
		info, err = parquet.Inspect(r, size)
		return err
	})
	return info, err
}

func readParquet(path string, n int) (rows [][]byte, err error) {
	err = withParquet(path, func(r io.ReaderAt, size int64) (err error) {
		rows, err = parquet.ReadRows(r, size, n)
		return err
	})
	return rows, err
}

// next prints what to try while the daemon runs.
func (d *demo) next(api, adm string) {
	d.say(`
It stays up until Ctrl-C. Try, with version 2 of the AWS CLI (version 1 wants Data as it is, without base64):

  AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x AWS_DEFAULT_REGION=us-east-1 aws --endpoint-url %[1]s firehose put-record \
    --delivery-stream-name %[3]s --record Data=$(printf '{"event_id":"mine","event_type":"click"}' | base64)

  curl -s %[1]s/ -H 'X-Amz-Target: Firehose_20150804.PutRecord' -H 'Content-Type: application/x-amz-json-1.1' \
    -d '{"DeliveryStreamName":"%[3]s","Record":{"Data":"'$(printf '{"event_id":"mine"}' | base64)'"}}'

  curl -s -X POST '%[2]s/v1/streams/%[3]s/flush?timeout=30s'
  curl -s %[2]s/metrics | grep ^hydrant_

  duckdb -c "select dt, hour, event_type, count(*) from read_parquet('%[4]s/%[3]s/**/*.parquet', hive_partitioning = true) group by all order by all"
`, api, adm, demoStream, d.lake)
}
