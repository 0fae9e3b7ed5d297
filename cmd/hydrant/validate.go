package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hydrant/config"
)

func (c *cli) validateCommand() *cobra.Command {
	var file string
	var asJSON, tables bool
	cmd := &cobra.Command{
		Use:   "validate",
		Short: "Check a configuration and name every fault at once",
		Long: `Checks a configuration without starting anything and without asking a destination. Each fault is a line:
file:line:column: path: problem: "value" (remedy). Environment variables and files of secrets that the
configuration names must be there, and so must files of schemas. Tables of a Glue catalog are looked up only with
--tables.`,
		Example: "  hydrant validate -c hydrant.yaml",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := c.load(file)
			if err == nil && tables {
				err = c.lookUp(cmd.Context(), f, "")
			}
			var left []string // not looked up
			if err == nil {
				for _, s := range unread(f.Config) {
					g := s.Format.Parquet.Schema.Glue
					left = append(left, fmt.Sprintf("table %s.%s of stream %s", g.Database, g.Table, s.Name))
				}
			}
			if asJSON {
				return c.validateJSON(file, left, err)
			}
			if err != nil {
				return err
			}
			names := make([]string, len(f.Config.Streams))
			for i, s := range f.Config.Streams {
				names[i] = s.Name
			}
			list := ""
			if len(names) > 0 {
				list = ": " + strings.Join(names, ", ")
			}
			fmt.Fprintf(c.stdout, "%s: valid, %d %s%s\n", file, len(names), plural(len(names), "stream"), list)
			if len(left) > 0 {
				fmt.Fprintf(c.stdout, "not looked up: %s (--tables does)\n", strings.Join(left, ", "))
			}
			return nil
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&tables, "tables", false, "look up tables of Glue catalogs")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// lookUp looks up the tables of a configuration without a daemon, or only that of one stream.
func (c *cli) lookUp(ctx context.Context, f *config.File, stream string) error {
	if stream != "" {
		of := func(s *config.Stream) bool { return s.Name == stream }
		if !slices.ContainsFunc(unread(f.Config), of) {
			return nil
		}
	}
	return lookUp(ctx, f, func(string) *config.Schema { return nil }, slog.New(slog.DiscardHandler))
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

func (c *cli) validateJSON(file string, left []string, err error) error {
	out := struct {
		File        string         `json:"file"`
		Valid       bool           `json:"valid"`
		Faults      []config.Fault `json:"faults"`
		NotLookedUp []string       `json:"not_looked_up,omitempty"`
	}{file, err == nil, []config.Fault{}, left}
	var faults *config.Error
	if errors.As(err, &faults) {
		out.Faults = faults.Faults
	} else if err != nil {
		out.Faults = append(out.Faults, config.Fault{Problem: err.Error()})
	}
	if err := c.printJSON(out); err != nil {
		return err
	}
	if err != nil {
		return usageError{fmt.Errorf("%s is not valid", file)}
	}
	return nil
}

func (c *cli) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration file",
		Long: `Prints the JSON Schema (2020-12) of the configuration file, for editors. With the YAML language server, begin
a configuration with:

  # yaml-language-server: $schema=hydrant.schema.json`,
		Example: "  hydrant schema > hydrant.schema.json",
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			_, err := c.stdout.Write(config.JSONSchema())
			return err
		},
	}
}

// build is what the binary says of itself.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func buildInfo() build {
	b := build{Version: "devel"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go = info.GoVersion
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	var os, arch string
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		case "GOOS":
			os = s.Value
		case "GOARCH":
			arch = s.Value
		}
	}
	b.Platform = os + "/" + arch
	return b
}

func (c *cli) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of the binary",
		Args:  exactly(),
		RunE: func(*cobra.Command, []string) error {
			b := buildInfo()
			if asJSON {
				return c.printJSON(b)
			}
			fmt.Fprintf(c.stdout, "hydrant %s %s %s\n", b.Version, b.Go, b.Platform)
			if b.Revision != "" {
				fmt.Fprintf(c.stdout, "revision %s %s%s\n", b.Revision, b.Time, map[bool]string{true: " (modified)"}[b.Modified])
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
