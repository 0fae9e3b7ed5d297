package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hydrant/config"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2 // wrong usage or invalid configuration
)

// usageError is a command line that cannot be carried out.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errSaid ends a command with exit code 1 whose output has said why already.
var errSaid = errors.New("failed")

// cli is what commands share: the process's streams and its environment.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) (string, bool)
}

// run carries out a command line and returns the exit code. ctx ends when a signal asks for the end.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &cli{stdin: stdin, stdout: stdout, stderr: stderr, env: os.LookupEnv}
	root := c.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return c.exit(root.ExecuteContext(ctx))
}

// exit prints an error and maps it to an exit code.
func (c *cli) exit(err error) int {
	var faults *config.Error
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errSaid):
		return exitFailed
	case errors.As(err, &faults):
		fmt.Fprintln(c.stderr, faults) // file:line:column first, where editors look for it
		return exitUsage
	case errors.As(err, &usage):
		fmt.Fprintf(c.stderr, "hydrant: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(c.stderr, "hydrant: %v\n", err)
	return exitFailed
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "hydrant",
		Short: "Deliver records to S3 and files, exactly once, over the Firehose API",
		Long: `Hydrant is a delivery daemon that one runs oneself. It speaks the API of Amazon Data Firehose,
acknowledges a record when it is on stable storage, and delivers it once: as text or Parquet, to S3 or
files, under prefixes such as dt=2026-11-25/hour=14/.

Exit codes: 0 done, 1 failed, 2 wrong usage or invalid configuration.`,
		Example:       "  hydrant demo\n  hydrant run -c hydrant.yaml",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			return usageError{fmt.Errorf("unknown command %q%s; 'hydrant --help' lists them", args[0], didYouMean(cmd, args[0]))}
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.Args = noUnknown(root.Args)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())}
	})
	root.CompletionOptions.HiddenDefaultCmd = false
	root.AddCommand(
		c.runCommand(), c.demoCommand(), c.validateCommand(), c.testCommand(), c.planCommand(), c.ddlCommand(), c.putCommand(), c.streamCommand(), c.batchCommand(), c.drainCommand(), c.doctorCommand(),
		c.inspectCommand(), c.schemaCommand(), c.versionCommand(),
	)
	return root
}

// noUnknown lets a group of commands stand alone, which prints its help.
func noUnknown(unknown cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return unknown(cmd, args)
	}
}

// group is a command that only holds others.
func group(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: noUnknown(func(cmd *cobra.Command, args []string) error {
			return usageError{fmt.Errorf("unknown command %q%s; '%s --help' lists them", cmd.CommandPath()+" "+args[0], didYouMean(cmd, args[0]), cmd.CommandPath())}
		}),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	g.AddCommand(commands...)
	return g
}

func didYouMean(cmd *cobra.Command, arg string) string {
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(arg); len(near) > 0 {
		return ", did you mean " + strings.Join(near, " or ") + "?"
	}
	return ""
}

// exactly wants these arguments by name.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		want := "no argument"
		if len(names) > 0 {
			want = strings.Join(names, " ")
		}
		return usageError{fmt.Errorf("%s wants %s, not %d arguments; see '%[1]s --help'", cmd.CommandPath(), want, len(args))}
	}
}

// configFlag adds -c.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "hydrant.yaml", "configuration `FILE`")
	cmd.MarkFlagFilename("config", "yaml", "yml")
}

func jsonFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print JSON for programs")
}

// load reads and checks a configuration, and whether every stream's pipeline can be made. All faults of
// both kinds are in one error.
func (c *cli) load(file string) (*config.File, error) {
	f, _, err := c.open(file)
	return f, err
}

// open is load for those who want to read the file again.
func (c *cli) open(file string) (*config.File, source, error) {
	src := source{file: file, env: c.env}
	text, d, err := src.read()
	if err != nil {
		return nil, src, usageError{err}
	}
	src.seen = d
	f, err := src.parse(text)
	return f, src, err
}

// checked adds to what decoding a file has found whether the schemas that it names in files can be read, and whether
// every stream's pipeline can be made. Tables are not looked up.
func checked(f *config.File, err error) (*config.File, error) {
	var faults *config.Error
	switch {
	case errors.As(err, &faults):
		if f == nil {
			return nil, err
		}
		known := append(faults.Faults, readSchemaFiles(f)...)
		return nil, f.Faults(append(known, checkStreams(f, known)...))
	case err != nil:
		return nil, err
	}
	known := append(readSchemaFiles(f), f.CheckSize()...)
	return f, f.Faults(append(known, checkStreams(f, known)...))
}

// printJSON writes one value, indented.
func (c *cli) printJSON(v any) error {
	e := json.NewEncoder(c.stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// isTerminal tells whether a person watches what is written to w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
