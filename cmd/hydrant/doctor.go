package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hydrant/buffer/fsys"
	"hydrant/config"
	"hydrant/delivery"
	"hydrant/prefix"
	"hydrant/sinks"
	"hydrant/sources/kafka"
	"hydrant/sources/kinesis"
)

const (
	// probeLimit bounds what a doctor asks one destination.
	probeLimit = 2 * time.Minute
	// dialLimit bounds a look at whether somebody listens.
	dialLimit = 10 * time.Second
	// slowSync is the time of a sync above which puts wait noticeably.
	slowSync = 50 * time.Millisecond
)

// finding is one of a stream, with the key's whole path.
type finding struct {
	Stream string `json:"stream,omitempty"`
	Part   string `json:"part"`
	sinks.Finding
}

func (c *cli) doctorCommand() *cobra.Command {
	var file, stream string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Ask every destination whether deliveries will work, and say what to change",
		Long: `Asks what the configuration names whether it will work: the destination and the backup of each stream, functions, tables of
a Glue catalog, and the data directory. Objects are stored as deliveries store them, under the part of the prefix that is fixed, and
taken away again; a line says what could not be. An HTTP endpoint gets an OPTIONS request with the stream's headers and no
records. Functions are not called: it is only seen whether somebody listens.

Each line is ok, warning or failed, with the key to change. Exit codes: 0 nothing failed, 1 something did, 2 wrong usage or
invalid configuration.`,
		Example: "  hydrant doctor -c hydrant.yaml\n  hydrant doctor -c hydrant.yaml --stream clicks --json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := c.load(file)
			if err != nil {
				return err
			}
			if stream != "" && !slices.ContainsFunc(f.Config.Streams, func(s config.Stream) bool { return s.Name == stream }) {
				return usageError{fmt.Errorf("--stream %q is not in %s", stream, file)}
			}
			return c.doctor(cmd.Context(), f, stream, asJSON)
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&stream, "stream", "", "only the stream with this `NAME`, and not the data directory")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (c *cli) doctor(ctx context.Context, f *config.File, stream string, asJSON bool) error {
	all := []finding{}
	report := func(stream, part, path string, found ...sinks.Finding) {
		for _, w := range found {
			if w.Key != "" && path != "" {
				w.Key = path + "." + w.Key
			}
			all = append(all, finding{stream, part, w})
			if !asJSON {
				c.printFinding(all[len(all)-1])
			}
		}
	}
	if stream == "" {
		report("", "data_dir", "", probeDataDir(f.Config.DataDir)...)
	}
	p := newParts(f.Config, slog.New(slog.DiscardHandler))
	for i := range f.Config.Streams {
		s, path := &f.Config.Streams[i], fmt.Sprintf("streams[%d]", i)
		if stream != "" && s.Name != stream {
			continue
		}
		if err := probeStream(ctx, p, s, path, report); err != nil {
			report(s.Name, "stream", "", sinks.Finding{Check: "open", Level: sinks.Failed, Found: err.Error(), Key: path})
		}
	}
	count := func(level sinks.Level) (n int) {
		for _, w := range all {
			if w.Level == level {
				n++
			}
		}
		return n
	}
	failed := count(sinks.Failed)
	if asJSON {
		if err := c.printJSON(map[string]any{"findings": all, "failed": failed, "warnings": count(sinks.Warning)}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(c.stdout, "%d ok, %d %s, %d failed\n", count(sinks.OK), count(sinks.Warning), plural(count(sinks.Warning), "warning"), failed)
	}
	if failed > 0 {
		return errSaid
	}
	return nil
}

func (c *cli) printFinding(w finding) {
	fmt.Fprintf(c.stdout, "%-7s  %s: %s: %s", w.Level, strings.TrimSpace(w.Stream+" "+w.Part), w.Check, w.Found)
	if w.Level != sinks.OK && (w.Remedy != "" || w.Key != "") {
		fmt.Fprintf(c.stdout, " (%s)", strings.TrimPrefix(cmp.Or(w.Remedy, "change it")+prefixed(": ", w.Key), ": "))
	}
	fmt.Fprintln(c.stdout)
}

// probeStream asks everything that a stream needs.
func probeStream(ctx context.Context, p *parts, s *config.Stream, path string, report func(stream, part, path string, found ...sinks.Finding)) error {
	pipe, flaws := p.pipeline(p.now.Load(), s.Name, s)
	if err := joined(flaws); err != nil {
		return err
	}
	defer closeSinks(pipe)
	probe := func(part, at string, d delivery.Destination, t *prefix.Template) {
		ctx, cancel := context.WithTimeout(ctx, probeLimit)
		defer cancel()
		if prober, ok := d.Sink.(sinks.Prober); ok {
			report(s.Name, part, at, prober.Probe(ctx, fixedPart(t))...)
		}
	}
	probe("destination", path+".destination."+pipe.Destination.Kind, pipe.Destination, pipe.Prefix)
	if s.Backup != nil && pipe.Errors.Sink != nil {
		probe("backup", path+".backup."+pipe.Errors.Kind, pipe.Errors, pipe.ErrorPrefix)
	}
	if s.KeepsAll() {
		own, flaws := p.backupPlace(p.now.Load(), s.Name, s, "source")
		if err := joined(flaws); err != nil {
			return err
		}
		defer own.Destination.Sink.Close()
		at := path + ".backup." + own.Destination.Kind
		probe("backup of all records", at, own.Destination, own.Prefix)
		if raw, beside := besideData(pipe, own); beside {
			report(s.Name, "backup of all records", at, sinks.Finding{
				Check: "prefix", Level: sinks.Warning, Key: "prefix", Remedy: "write them below a prefix of their own",
				Found: fmt.Sprintf("source records go below %q, where the destination's objects are: who reads a table from there reads both", raw),
			})
		}
	}
	if r, ok := pipe.Reader.(*kafka.Reader); ok {
		report(s.Name, "source", path+".source.kafka", probeKafka(ctx, r)...)
	}
	if r, ok := pipe.Reader.(*kinesis.Reader); ok {
		report(s.Name, "source", path+".source.kinesis", probeKinesis(ctx, r)...)
	}
	if k := s.Source.Kinesis; k != nil && k.Checkpoints.DynamoDB != "" {
		report(s.Name, "source", path+".source.kinesis", probeLeases(ctx, p.now.Load(), k)...)
	}
	for i, t := range s.Transform {
		if t.HTTP != nil {
			at := fmt.Sprintf("%s.transform[%d].http", path, i)
			report(s.Name, "function", at, probeListener(ctx, t.HTTP.URL))
		}
	}
	for _, h := range pipe.Hooks {
		if h.Close != nil {
			h.Close()
		}
	}
	if q := s.Format.Parquet; q != nil && q.Schema.Glue != nil {
		ctx, cancel := context.WithTimeout(ctx, lookUpLimit)
		defer cancel()
		w := sinks.Finding{Check: "table", Level: sinks.OK, Found: fmt.Sprintf("%s.%s is there", q.Schema.Glue.Database, q.Schema.Glue.Table)}
		if _, err := readTable(ctx, p.now.Load().aws, q.Schema.Glue, ""); err != nil {
			w = sinks.Finding{Check: "table", Level: sinks.Failed, Found: err.Error(), Key: "glue", Remedy: "correct the table, or grant glue:GetTable"}
		}
		report(s.Name, "schema", path+".format.parquet.schema", w)
	}
	return nil
}

// besideData tells whether a backup's objects go where the destination's are, and below which prefix.
func besideData(pipe, own *delivery.Pipeline) (raw string, beside bool) {
	if own.Destination.Kind != pipe.Destination.Kind || own.Destination.Place != pipe.Destination.Place {
		return "", false
	}
	data := fixedPart(pipe.Prefix)
	raw = fixedPart(own.Prefix)
	return raw, raw == data || data != "" && strings.HasPrefix(raw, data)
}

// fixedPart is what every key of a template begins with, up to its last slash.
func fixedPart(t *prefix.Template) string {
	text := t.String()
	if i := strings.Index(text, "!{"); i >= 0 {
		text = text[:i]
	}
	return text[:strings.LastIndexByte(text, '/')+1]
}

// probeListener sees whether somebody listens at a URL.
func probeListener(ctx context.Context, text string) sinks.Finding {
	failed := sinks.Finding{Check: "reach", Level: sinks.Failed, Key: "url", Remedy: "start the function, or correct url"}
	u, err := url.Parse(text)
	if err != nil {
		failed.Found = "the url cannot be read"
		return failed
	}
	port := cmp.Or(u.Port(), map[string]string{"https": "443"}[u.Scheme], "80")
	at := net.JoinHostPort(u.Hostname(), port)
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", at)
	if err != nil {
		failed.Found = err.Error()
		return failed
	}
	conn.Close()
	return sinks.Finding{Check: "reach", Level: sinks.OK, Found: "somebody listens on " + at}
}

// probeDataDir looks at the disk, unless a daemon has it.
func probeDataDir(dir string) (out []sinks.Finding) {
	add := func(check string, level sinks.Level, remedy, format string, args ...any) {
		w := sinks.Finding{Check: check, Level: level, Found: fmt.Sprintf(format, args...), Remedy: remedy}
		if level != sinks.OK {
			w.Key = "data_dir"
		}
		out = append(out, w)
	}
	disk, at := fsys.OS(), dir
	for {
		if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			break
		}
		at = filepath.Dir(at)
	}
	lock := filepath.Join(dir, "LOCK")
	if _, err := os.Stat(lock); err == nil {
		held, err := disk.Lock(filepath.ToSlash(lock))
		if errors.Is(err, fsys.ErrLocked) {
			add("lock", sinks.OK, "", "a running daemon has %s; it is left alone", dir)
			return out
		}
		if err != nil {
			add("lock", sinks.Failed, "name a directory that this user may write to", "%v", err)
			return out
		}
		defer held.Close()
	}
	if space, err := disk.Statfs(filepath.ToSlash(at)); err != nil {
		add("space", sinks.Warning, "", "%v", err)
	} else {
		add("space", sinks.OK, "", "%s of %s free", size(space.Free), size(space.Total))
	}
	took, err := syncTime(at)
	switch {
	case err != nil:
		add("sync", sinks.Failed, "name a directory that this user may write to", "%v", err)
	case took > slowSync:
		add("sync", sinks.Warning, "use a faster disk: every put waits for one", "a sync takes %v (median of %d)", took.Round(time.Microsecond), syncs)
	default:
		add("sync", sinks.OK, "", "a sync takes %v (median of %d)", took.Round(time.Microsecond), syncs)
	}
	return out
}

// syncs is how many are measured.
const syncs = 11

// syncTime is the median time that it takes to make 4 KiB durable.
func syncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, ".hydrant-doctor-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var took []time.Duration
	for range syncs {
		began := time.Now()
		if _, err := f.WriteAt(make([]byte, 4096), 0); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[syncs/2], nil
}
