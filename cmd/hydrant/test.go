package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hydrant/config"
	"hydrant/delivery"
	"hydrant/record"
	"hydrant/transform"
)

type testedJSON struct {
	Stream string       `json:"stream"`
	Index  int          `json:"index"` // in the stream's tests, from 0
	Name   string       `json:"name,omitempty"`
	Passed bool         `json:"passed"`
	Fault  string       `json:"fault,omitempty"`
	Got    []resultJSON `json:"got"`
}

type resultJSON struct {
	Outcome string `json:"outcome"` // ok, dropped or failed
	Data    string `json:"data,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

func (r resultJSON) String() string {
	switch r.Outcome {
	case config.WantOk:
		return "ok: " + r.Data
	case config.WantFailed:
		return "failed: " + r.Code + ": " + r.Message
	}
	return r.Outcome
}

func (c *cli) testCommand() *cobra.Command {
	var file, stream string
	var asJSON, call bool
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Run the tests that the configuration has for its transforms",
		Long: `Runs the tests of streams: each is a record with what the stream's transform list must make of it. Nothing is
started, sent or stored.

  streams:
    - name: clicks
      transform:
        - filter: '.type != "heartbeat"'
        - jq: '.user_id |= tostring'
      tests:
        - { input: '{"user_id":7}', want: { ok: '{"user_id":"7"}' } }
        - { input: '{"type":"heartbeat"}', want: dropped }
        - { input: 'no JSON', want: { failed: Hydrant.Filter } }

Functions (http, lambda) are not called, so that tests need no network and give the same result everywhere: a record passes
each of them as it is. With --hooks they are called.

Exit codes: 0 all pass, 1 some fail, 2 wrong usage or invalid configuration.`,
		Example: "  hydrant test -c hydrant.yaml",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := c.load(file)
			if err != nil {
				return err
			}
			if stream != "" {
				s, err := oneStream(f.Config, stream)
				if err != nil {
					return err
				}
				f.Config.Streams = []config.Stream{*s}
			}
			tested, err := runTests(cmd.Context(), f.Config, call)
			if err != nil {
				return err
			}
			return c.reportTests(tested, asJSON)
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&stream, "stream", "", "`NAME` of the only stream to test")
	hooksFlag(cmd, &call)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func hooksFlag(cmd *cobra.Command, call *bool) {
	cmd.Flags().BoolVar(call, "hooks", false, "call functions (http, lambda) instead of passing records by them")
}

func (c *cli) reportTests(tested []testedJSON, asJSON bool) error {
	failed := 0
	for _, t := range tested {
		if !t.Passed {
			failed++
		}
	}
	if asJSON {
		if err := c.printJSON(tested); err != nil {
			return err
		}
	}
	for _, t := range tested {
		if t.Passed || asJSON {
			continue
		}
		name := ""
		if t.Name != "" {
			name = fmt.Sprintf(" (%s)", t.Name)
		}
		fmt.Fprintf(c.stdout, "FAIL %s: tests[%d]%s: %s\n", t.Stream, t.Index, name, strings.ReplaceAll(t.Fault, "\n", "\n     "))
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d %s failed", failed, len(tested), plural(len(tested), "test"))
	}
	if !asJSON {
		fmt.Fprintf(c.stdout, "%d %s passed\n", len(tested), plural(len(tested), "test"))
	}
	return nil
}

func runTests(ctx context.Context, c *config.Config, call bool) ([]testedJSON, error) {
	out := []testedJSON{}
	p := newParts(c, slog.New(slog.DiscardHandler))
	for i := range c.Streams {
		s := &c.Streams[i]
		if len(s.Tests) == 0 {
			continue
		}
		list := s.Transform
		if !call {
			list = withoutHooks(list)
		}
		var pipe delivery.Pipeline
		var flaws []flaw
		pipe.Transform, pipe.Hooks, flaws = p.transforms(p.now.Load(), "", s.Name, list)
		if err := joined(flaws); err != nil {
			return nil, err
		}
		for k := range s.Tests {
			t := &s.Tests[k]
			in, err := t.Data()
			if err != nil {
				return nil, fmt.Errorf("stream %q: tests[%d]: %w", s.Name, k, err)
			}
			got, err := results(ctx, &pipe, in)
			if err != nil {
				return nil, fmt.Errorf("stream %q: tests[%d]: %w", s.Name, k, err)
			}
			fault := compareResults(got, t.Want)
			out = append(out, testedJSON{Stream: s.Name, Index: k, Name: t.Name, Passed: fault == "", Fault: fault, Got: got})
		}
		closeHooks(&pipe)
	}
	return out, nil
}

// withoutHooks is a transform list without its functions.
func withoutHooks(list []config.Processor) []config.Processor {
	return slices.DeleteFunc(slices.Clone(list), func(c config.Processor) bool { return c.HTTP != nil || c.Lambda != nil })
}

// closeHooks ends the connections of a pipeline's functions.
func closeHooks(pipe *delivery.Pipeline) {
	for _, h := range pipe.Hooks {
		if h.Close != nil {
			h.Close()
		}
	}
}

// results is what the record becomes, part by part. Without functions that is in order, and says of each part that is dropped.
func results(ctx context.Context, pipe *delivery.Pipeline, in []byte) ([]resultJSON, error) {
	out := []resultJSON{}
	row := record.Row{Seq: 1, Arrived: time.Now().UnixMicro(), Data: in}
	add := func(r transform.Result) error {
		switch r.Outcome {
		case transform.Ok:
			out = append(out, resultJSON{Outcome: config.WantOk, Data: string(r.Row.Data)})
		case transform.Dropped:
			out = append(out, resultJSON{Outcome: config.WantDropped})
		default:
			out = append(out, resultJSON{Outcome: config.WantFailed, Code: r.Failure.Code, Message: r.Failure.Message})
		}
		return nil
	}
	switch {
	case len(pipe.Hooks) > 0:
		if err := delivery.Try(ctx, pipe, []record.Row{row}, add); err != nil {
			return nil, err
		}
		if len(out) == 0 {
			out = append(out, resultJSON{Outcome: config.WantDropped})
		}
	case pipe.Transform != nil:
		if _, err := pipe.Transform.Apply(row, add); err != nil {
			return nil, err
		}
	default:
		out = append(out, resultJSON{Outcome: config.WantOk, Data: string(in)})
	}
	return out, nil
}

// compareResults tells what is wrong, or "".
func compareResults(got []resultJSON, want config.Wants) string {
	if len(got) != len(want) {
		lines := []string{fmt.Sprintf("%d %s, want %d", len(got), plural(len(got), "result"), len(want))}
		for _, g := range got {
			lines = append(lines, "got "+g.String())
		}
		return strings.Join(lines, "\n")
	}
	for i, w := range want {
		g, kind, text := got[i], w[0], w[1]
		same := false
		switch kind {
		case config.WantOk:
			same = g.Outcome == kind && (text == "" || sameRecord(g.Data, text))
		case config.WantText:
			same = g.Outcome == config.WantOk && g.Data == text
		case config.WantFailed:
			same = g.Outcome == kind && (text == "" || text == g.Code)
		default:
			same = g.Outcome == kind
		}
		if same {
			continue
		}
		at := ""
		if len(want) > 1 {
			at = fmt.Sprintf("result %d: ", i)
		}
		if text != "" {
			text = ": " + text
		}
		return fmt.Sprintf("%sgot  %s\nwant %s%s", at, g, kind, text)
	}
	return ""
}

// sameRecord compares JSON by its values, numbers by their text, and anything else byte for byte.
func sameRecord(got, want string) bool {
	x, ok := decodeValue(got)
	if !ok {
		return got == want
	}
	y, ok := decodeValue(want)
	return ok && reflect.DeepEqual(x, y)
}

func decodeValue(text string) (any, bool) {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil || d.More() {
		return nil, false
	}
	return v, true
}
