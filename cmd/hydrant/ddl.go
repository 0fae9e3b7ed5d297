package main

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hydrant/config"
	"hydrant/format/ddl"
	"hydrant/sinks/redshift"
)

func (c *cli) ddlCommand() *cobra.Command {
	var file, stream, engine, table, ledger string
	cmd := &cobra.Command{
		Use:   "ddl",
		Short: "Print the table of a stream's objects for an engine",
		Long: `Prints what makes a table over the Parquet objects of a stream: a statement, or for glue the input of
aws glue create-table. Folders of the prefix become partitions that the engine computes by itself (partition
projection), so that nothing has to register them.

For redshift the table has the types that COPY of Parquet wants, and the ledger table goes with it. What the user that
loads has to be granted stands below, as comments.`,
		Example: "  hydrant ddl -c hydrant.yaml --stream clicks --engine athena",
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
			if r := s.Destination.Redshift; r != nil && s.Format.Parquet == nil && ddl.Engine(engine) == ddl.Redshift {
				text, err := ledgerOf(r, table, ledger)
				if err == nil {
					_, err = fmt.Fprint(c.stdout, text)
				}
				return err
			}
			if s.Format.Parquet == nil {
				return usageError{fmt.Errorf("stream %q writes text, which has no schema: set format.parquet", s.Name)}
			}
			if err := c.lookUp(cmd.Context(), f, s.Name); err != nil {
				return err
			}
			text, err := tableOf(s, ddl.Engine(engine), table, ledger)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(c.stdout, text)
			return err
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&stream, "stream", "", "`NAME` of the stream; may be left out where there is only one")
	cmd.Flags().StringVar(&engine, "engine", "", "athena, trino, duckdb, redshift or glue")
	cmd.Flags().StringVar(&table, "table", "", "`NAME` of the table, or schema.table (default that of a redshift destination, else the stream's name)")
	cmd.Flags().StringVar(&ledger, "ledger", "", "`NAME` of the ledger table, for redshift (default the destination's, else "+redshift.DefaultLedger+")")
	return cmd
}

var notInNames = regexp.MustCompile(`[^a-z0-9_]`)

// tableOf is the text for an engine.
func tableOf(s *config.Stream, engine ddl.Engine, table, ledger string) (string, error) {
	schema, err := parseSchema(s.Format.Parquet.Schema)
	if err != nil {
		return "", err
	}
	if r := s.Destination.Redshift; r != nil && engine == ddl.Redshift {
		if table == "" {
			table = r.Table
		}
		if ledger == "" {
			ledger = r.LedgerTable
		}
	}
	if table == "" {
		table = notInNames.ReplaceAllString(strings.ToLower(s.Name), "_")
	}
	name, err := redshift.ParseName(table)
	if err != nil {
		return "", usageError{fmt.Errorf("--table: %w", err)}
	}
	plain := name.Table
	if name.Schema != "" {
		plain = name.Schema + "." + name.Table
	}
	t := ddl.Table{Name: plain, Schema: schema}
	if engine == ddl.Redshift {
		if s.Format.Parquet.Timestamps == "millis" {
			return "", errors.New("format.parquet.timestamps is millis, which COPY does not load: set micros")
		}
		n, err := redshift.LedgerName(name, ledger)
		if err != nil {
			return "", usageError{fmt.Errorf("--ledger: %w", err)}
		}
		t.Ledger = redshift.LedgerDDL(n)
		text, err := ddl.Write(engine, t)
		if err != nil {
			return "", err
		}
		merge := s.Destination.Redshift != nil && len(s.Destination.Redshift.MergeOn) > 0
		return text + grants(name, n, merge), nil
	}
	prefix := ""
	switch d := s.Destination; {
	case d.S3 != nil:
		t.Location, prefix = "s3://"+d.S3.Bucket+"/", d.S3.Prefix
	case d.File != nil:
		t.Location, prefix = filepath.ToSlash(d.File.Path)+"/", d.File.Prefix
		if engine != ddl.DuckDB && engine != "" {
			t.Location = "file://" + t.Location
		}
	default:
		return "", fmt.Errorf("stream %q has no objects in a bucket or a folder", s.Name)
	}
	if t.Layout, err = ddl.ParseLayout(prefix); err != nil {
		return "", err
	}
	t.Location += t.Layout.Literal
	text, err := ddl.Write(engine, t)
	if err != nil {
		return "", usageError{err}
	}
	return text, nil
}

// ledgerOf is what a stream of text needs beside its table, which is the user's own.
func ledgerOf(r *config.RedshiftDestination, table, ledger string) (string, error) {
	name, err := redshift.ParseName(cmp.Or(table, r.Table))
	if err != nil {
		return "", usageError{fmt.Errorf("--table: %w", err)}
	}
	n, err := redshift.LedgerName(name, cmp.Or(ledger, r.LedgerTable))
	if err != nil {
		return "", usageError{fmt.Errorf("--ledger: %w", err)}
	}
	return fmt.Sprintf("-- The columns of %s are yours: text has no schema to take them from.\n%s;\n%s", name, redshift.LedgerDDL(n), grants(name, n, len(r.MergeOn) > 0)), nil
}

// grants are the rights of the user that loads, as comments: its name is not known here.
func grants(table, ledger redshift.Name, merge bool) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "-- "+format+"\n", args...) }
	line("The user that loads needs these rights, with its own name in place of loader:")
	for _, schema := range slices.Compact([]string{table.Schema, ledger.Schema}) {
		if schema != "" {
			line("GRANT USAGE ON SCHEMA %s TO loader;", redshift.Name{Table: schema})
		}
	}
	rights := "INSERT"
	if merge {
		rights = "INSERT, SELECT, UPDATE, DELETE"
		line("GRANT TEMP ON DATABASE dev TO loader; (dev is the database)")
	}
	line("GRANT %s ON %s TO loader;", rights, table)
	line("GRANT ALL ON %s TO loader;", ledger)
	line("LOCK may want more than that from who does not own a table: ALTER TABLE %s OWNER TO loader; is safe.", ledger)
	return b.String()
}
