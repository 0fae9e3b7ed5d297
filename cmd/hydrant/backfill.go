package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
)

// maxBackfill bounds a manifest that is read from a file, in bytes; the sink has the same bound.
const maxBackfill = 64 << 20

func (c *cli) batchBackfillCommand() *cobra.Command {
	var file, stream string
	cmd := &cobra.Command{
		Use:   "backfill MANIFEST...",
		Short: "Load what was given up for a Redshift table, from the manifests that name it",
		Long: `Loads the objects that manifests under errors/manifests/ name: those that COPY did not take within the stream's
retry_duration. MANIFEST is a file, a copy of such an object, or - for the standard input. Mend first what was wrong: a
column's type, the table's rights, or the object itself.

Each object is loaded once, however often the command is run, also beside a running daemon: the ledger says what was
given up. The stream goes on counting the records as failed.`,
		Example: "  aws s3 cp s3://stage/clicks/errors/manifests/2026/11/25/10/clicks-2026-11-25-10-02-03-0190 m.json\n  hydrant batch backfill -c hydrant.yaml --stream clicks m.json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("%s wants MANIFEST...; see '%[1]s --help'", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := c.load(file)
			if err != nil {
				return err
			}
			s, err := oneStream(f.Config, stream)
			if err != nil {
				return err
			}
			if s.Destination.Redshift == nil {
				return usageError{fmt.Errorf("stream %q does not load into Redshift, so nothing of it can be backfilled", s.Name)}
			}
			if err := c.lookUp(cmd.Context(), f, s.Name); err != nil {
				return err
			}
			p := newParts(f.Config, slog.New(slog.DiscardHandler))
			pipe, flaws := p.pipeline(p.now.Load(), s.Name, s)
			if err := joined(flaws); err != nil {
				return err
			}
			defer closeSinks(pipe)
			var errs []error
			for _, name := range args {
				manifest, err := c.manifest(name)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				n, err := pipe.Destination.Sink.(*warehouse).now().Backfill(cmd.Context(), manifest)
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", name, err))
				}
				if err == nil || n > 0 {
					fmt.Fprintf(c.stdout, "%s: %d %s loaded\n", name, n, plural(n, "object"))
				}
			}
			return errors.Join(errs...)
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&stream, "stream", "", "`NAME` of the stream; may be left out where there is only one")
	return cmd
}

// manifest reads a file, or the standard input.
func (c *cli) manifest(name string) (b []byte, err error) {
	in := c.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("open the manifest: %w", err)
		}
		defer f.Close()
		in = f
	}
	if b, err = io.ReadAll(io.LimitReader(in, maxBackfill+1)); err != nil {
		return nil, fmt.Errorf("read the manifest %s: %w", name, err)
	}
	return b, nil
}
