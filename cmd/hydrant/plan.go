package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"hydrant/config"
	"hydrant/delivery"
	"hydrant/record"
)

// maxPlanned bounds the sample that is planned, in bytes.
const maxPlanned = 256 << 20

type planJSON struct {
	Stream    string        `json:"stream"`
	Records   int           `json:"records"`
	Delivered int64         `json:"delivered_records"`
	Dropped   int64         `json:"dropped_records"`
	Failed    int64         `json:"failed_records"`
	Objects   []plannedJSON `json:"objects"`
	Failures  []failureJSON `json:"failures"`
	Warnings  []string      `json:"warnings"`
}

type plannedJSON struct {
	Key             string `json:"key"`
	Error           bool   `json:"error_output,omitempty"`
	ContentEncoding string `json:"content_encoding,omitempty"`
	Records         int64  `json:"records"`
	Bytes           int64  `json:"bytes"`
}

type failureJSON struct {
	Line    uint64 `json:"line"`
	Part    uint32 `json:"part"`
	Type    string `json:"type"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (c *cli) planCommand() *cobra.Command {
	var file, stream, at string
	var asJSON, call bool
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what would become of sample records, without sending anything",
		Long: `Reads records from standard input, one a line, and runs them through what a stream does with its records:
transforms, prefixes, format. Prints the objects that would be written, how many records would be
delivered, dropped or put into the error output, and why. No destination is asked and nothing is stored.

Functions (http, lambda) are not called: a record passes each of them as it is. With --hooks they are called.

Exit codes: 0 no record fails, 1 some do, 2 wrong usage or invalid configuration.`,
		Example: "  hydrant plan -c hydrant.yaml --stream clicks < sample.ndjson",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := c.load(file)
			if err != nil {
				return err
			}
			s, err := oneStream(f.Config, stream)
			if err != nil {
				return err
			}
			arrived := time.Now()
			if at != "" {
				if arrived, err = time.Parse(time.RFC3339, at); err != nil {
					return usageError{fmt.Errorf("--at %q: write a time like 2026-11-25T14:00:00Z", at)}
				}
			}
			if err := c.lookUp(cmd.Context(), f, s.Name); err != nil {
				return err
			}
			out, err := c.plan(cmd.Context(), f.Config, s, arrived, call)
			if err != nil {
				return err
			}
			if asJSON {
				err = c.printJSON(out)
			} else {
				err = c.printPlan(out)
			}
			if err == nil && out.Failed > 0 {
				return fmt.Errorf("%d of %d %s would go to the error output", out.Failed, out.Records, plural(out.Records, "record"))
			}
			return err
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&stream, "stream", "", "`NAME` of the stream; may be left out where there is only one")
	cmd.Flags().StringVar(&at, "at", "", "arrival of the records, as in 2026-11-25T14:00:00Z (default now)")
	hooksFlag(cmd, &call)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// oneStream is the stream of this name, or the only one.
func oneStream(c *config.Config, name string) (*config.Stream, error) {
	var names []string
	for i := range c.Streams {
		if c.Streams[i].Name == name || name == "" && len(c.Streams) == 1 {
			return &c.Streams[i], nil
		}
		names = append(names, c.Streams[i].Name)
	}
	if name == "" {
		return nil, usageError{fmt.Errorf("--stream is needed: one of %s", strings.Join(names, ", "))}
	}
	return nil, usageError{fmt.Errorf("no stream %q in the configuration; there are: %s", name, strings.Join(names, ", "))}
}

func (c *cli) plan(ctx context.Context, conf *config.Config, s *config.Stream, arrived time.Time, call bool) (*planJSON, error) {
	p := newParts(conf, slog.New(slog.DiscardHandler))
	var warnings []string
	if list := withoutHooks(s.Transform); !call && len(list) < len(s.Transform) {
		own := *s
		own.Transform = list
		s = &own
		warnings = append(warnings, "functions are not called: records pass them as they are; --hooks calls them")
	}
	pipe, flaws := p.pipeline(p.now.Load(), "", s)
	if err := joined(flaws); err != nil {
		return nil, err
	}
	defer closeSinks(pipe)
	defer closeHooks(pipe)
	out := &planJSON{Stream: s.Name, Objects: []plannedJSON{}, Failures: []failureJSON{}, Warnings: append([]string{}, warnings...)}
	rows, err := readRows(c.stdin, arrived)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if len(r.Data) > maxRecord {
			out.Warnings = append(out.Warnings, fmt.Sprintf("line %d has %d bytes; the API takes records of at most %d", r.Seq, len(r.Data), maxRecord))
		}
	}
	plan, err := delivery.MakePlan(ctx, s.Name, 1, pipe, rows)
	if err != nil {
		return nil, err
	}
	out.Records, out.Delivered, out.Dropped, out.Failed = len(rows), plan.Delivered, plan.Dropped, plan.Failed
	for _, o := range plan.Objects {
		out.Objects = append(out.Objects, plannedJSON{Key: o.Key, Error: o.Error, ContentEncoding: o.ContentEncoding, Records: o.Records, Bytes: o.Bytes})
	}
	for _, r := range plan.Refused {
		out.Failures = append(out.Failures, failureJSON{Line: r.Seq, Part: r.Sub, Type: r.Type, Code: r.Code, Message: r.Message})
	}
	if len(rows) == 0 {
		out.Warnings = append(out.Warnings, "there is no record on standard input")
	}
	if len(rows) > 0 && plan.Dropped == int64(len(rows)) {
		out.Warnings = append(out.Warnings, "every record is dropped")
	}
	if s.Format.Text != nil && s.Format.Text.Delimiter == "none" && endsBare(rows, s) {
		out.Warnings = append(out.Warnings, "records are written one after another without a newline between them: set format.text.delimiter, or append_delimiter")
	}
	return out, nil
}

// endsBare tells whether records would run into each other in a text object.
func endsBare(rows []record.Row, s *config.Stream) bool {
	for _, p := range s.Transform {
		if p.AppendDelimiter != nil {
			return false
		}
	}
	return len(rows) > 1 && !bytes.HasSuffix(rows[0].Data, []byte("\n"))
}

// readRows reads a record a line; sequences are numbers of lines. Empty lines are left out.
func readRows(in io.Reader, arrived time.Time) ([]record.Row, error) {
	data, err := io.ReadAll(io.LimitReader(in, maxPlanned+1))
	if err != nil {
		return nil, fmt.Errorf("read records from standard input: %w", err)
	}
	if len(data) > maxPlanned {
		return nil, usageError{fmt.Errorf("the sample has more than %d MiB", maxPlanned>>20)}
	}
	var rows []record.Row
	line := uint64(0)
	for text := range bytes.Lines(data) {
		line++
		if text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r")); len(text) > 0 {
			rows = append(rows, record.Row{Seq: line, Arrived: arrived.UnixMicro(), Data: text})
		}
	}
	return rows, nil
}

// maxShownFailures is how many failures are printed for people.
const maxShownFailures = 20

func (c *cli) printPlan(p *planJSON) error {
	out := bufio.NewWriter(c.stdout)
	fmt.Fprintf(out, "%s: %d %s: %d delivered, %d dropped, %d to the error output\n", p.Stream, p.Records, plural(p.Records, "record"), p.Delivered, p.Dropped, p.Failed)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i, o := range p.Objects {
		if i == 0 {
			fmt.Fprintln(w, "\nrecords\tbytes\tkey")
		}
		fmt.Fprintf(w, "%d\t%d\t%s\n", o.Records, o.Bytes, o.Key)
	}
	for i, f := range p.Failures {
		if i == 0 {
			fmt.Fprintln(w, "\nline\tcode\treason")
		}
		if i == maxShownFailures {
			fmt.Fprintf(w, "%d more; --json shows all\n", len(p.Failures)-i)
			break
		}
		fmt.Fprintf(w, "%d\t%s\t%s\n", f.Line, f.Code, f.Message)
	}
	if err := errors.Join(w.Flush(), out.Flush()); err != nil {
		return err
	}
	for _, warning := range p.Warnings {
		fmt.Fprintln(c.stderr, "warning: "+warning)
	}
	return nil
}
