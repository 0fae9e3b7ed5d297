package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/controlplane"
	"hydrant/firehose"
	"hydrant/format"
	"hydrant/format/glue"
	"hydrant/format/parquet"
)

// Schemas of streams come from the configuration itself, from files, which are read whenever a configuration is
// loaded, and from tables of a catalog, which are looked up by whoever needs them: the daemon when it starts and
// reloads, and commands that encode or are told to. What was read is part of the stream from then on.

// maxSchemaFile bounds a file of DDL or JSON Schema.
const maxSchemaFile = 1 << 20

// readSchemaFiles reads the schemas that streams take from files. Streams that have faults already are read too:
// all that is wrong is told at once.
func readSchemaFiles(f *config.File) (faults []config.Fault) {
	for i := range f.Config.Streams {
		p := f.Config.Streams[i].Format.Parquet
		if p == nil || p.Schema.File == "" || p.Schema.Resolved() {
			continue
		}
		path := fmt.Sprintf("streams[%d].format.parquet.schema.file", i)
		s, err := readSchemaFile(p.Schema.File)
		if err == nil {
			p.Schema.Resolve(s.Columns(), "")
			continue
		}
		for _, e := range each(err) {
			problem, hint := e.Error(), ""
			if se, ok := errors.AsType[*format.SchemaError](e); ok {
				problem, hint = fmt.Sprintf("line %d, character %d: ", se.Line, se.Char), se.Hint
				if se.Column != "" {
					problem += "column " + se.Column + ": "
				}
				problem += se.Problem
			} else if ie, ok := errors.AsType[*format.ImportError](e); ok {
				problem, hint = ie.At+": "+ie.Problem, ie.Hint
			}
			faults = append(faults, f.Fault(path, p.Schema.File, problem, hint))
		}
	}
	return faults
}

// readSchemaFile reads a file of one of three kinds, told apart by how it begins: a Parquet file by its magic, JSON by
// its brace, and DDL.
func readSchemaFile(name string) (*format.Schema, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("read the schema: it is not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	defer f.Close()
	var head [len(parquet.Magic)]byte
	if n, _ := f.ReadAt(head[:], 0); string(head[:n]) == parquet.Magic {
		return parquet.ReadSchema(f, info.Size())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSchemaFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	if len(text) > maxSchemaFile {
		return nil, fmt.Errorf("read the schema: the file is larger than %d KiB", maxSchemaFile>>10)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // which editors of Windows leave
	if start := bytes.TrimLeft(text, " \t\r\n"); len(start) > 0 && (start[0] == '{' || start[0] == '[') {
		return format.ParseJSONSchema(text)
	}
	return format.ParseDDL(string(text))
}

// lookUpLimit bounds how long all tables of a configuration, or the one of a call, are asked for.
const lookUpLimit = 10 * time.Second

// lookUpsAtOnce bounds how many tables are asked for at once.
const lookUpsAtOnce = 8

// readTable asks a catalog for a table.
func readTable(ctx context.Context, aws config.AWS, g *config.Glue, role string) (*glue.Columns, error) {
	o := glue.Options{Region: g.Region, Endpoint: g.Endpoint, STSEndpoint: aws.Endpoints.STS}
	if aws.RoleARNs == "assume" {
		o.RoleARN = role
	}
	c, err := glue.New(o)
	if err != nil {
		return nil, err
	}
	return c.Columns(ctx, glue.Table{Catalog: g.CatalogID, Database: g.Database, Name: g.Table, Version: g.Version})
}

// unread tells which tables of a configuration are not looked up yet, by stream.
func unread(c *config.Config) (streams []*config.Stream) {
	for i := range c.Streams {
		if p := c.Streams[i].Format.Parquet; p != nil && p.Schema.Glue != nil && !p.Schema.Resolved() {
			streams = append(streams, &c.Streams[i])
		}
	}
	return streams
}

// lookUp looks up the tables of a configuration and then checks its streams again. stored is what a stream has so far,
// nil where it has nothing: it stands in where the catalog does not answer for the same table. The error is a
// *config.Error that names each table that is missing.
func lookUp(ctx context.Context, f *config.File, stored func(stream string) *config.Schema, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, lookUpLimit)
	defer cancel()
	streams := unread(f.Config)
	if len(streams) == 0 {
		return nil
	}
	errs := make([]error, len(streams))
	slots := make(chan struct{}, lookUpsAtOnce)
	var wait sync.WaitGroup
	for i, s := range streams {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			schema := &s.Format.Parquet.Schema
			columns, err := readTable(ctx, f.Config.AWS, schema.Glue, "")
			if err == nil {
				schema.Resolve(columns.Schema.Columns(), columns.Version)
			}
			errs[i] = err
		})
	}
	wait.Wait()
	var faults []config.Fault
	for i, s := range streams {
		schema, before := &s.Format.Parquet.Schema, stored(s.Name)
		if before != nil && !before.SameTable(schema) {
			before = nil
		}
		err := errs[i]
		switch {
		case err == nil && before != nil && slices.Equal(before.Columns, schema.Columns):
			schema.TableVersion = before.TableVersion // of the first version with these columns
		case err == nil:
		case before != nil:
			log.Warn("table cannot be read; the stream goes on with the columns that it had", "stream", s.Name, "database", schema.Glue.Database, "table", schema.Glue.Table, "err", err)
			schema.Resolve(before.Columns, before.TableVersion)
		default:
			at := slices.IndexFunc(f.Config.Streams, func(c config.Stream) bool { return c.Name == s.Name })
			faults = append(faults, f.Fault(fmt.Sprintf("streams[%d].format.parquet.schema.glue", at), schema.Glue.Database+"."+schema.Glue.Table, err.Error(), remedy(err)))
		}
	}
	faults = append(faults, f.CheckSize()...)
	return f.Faults(append(faults, checkStreams(f, faults)...))
}

// remedy tells what to do about a table that cannot be read.
func remedy(err error) string {
	e, ok := errors.AsType[*glue.Error](err)
	switch {
	case !ok:
		return ""
	case e.Code == glue.CodeNotFound:
		return "check database, table, version, catalog_id and region"
	case columnsAtFault(e):
		return "correct the table, or declare the columns here"
	}
	return "check aws.endpoints.glue and the credentials, or declare the columns here"
}

// columnsAtFault tells whether a table was read, and has columns that cannot be written.
func columnsAtFault(e *glue.Error) bool {
	_, ok := errors.AsType[*format.SchemaError](e.Err)
	return ok || e.Err == nil
}

// unreadable is what the API says of a table that cannot be read.
func unreadable(err error) string {
	e, ok := errors.AsType[*glue.Error](err)
	switch {
	case !ok:
		return err.Error()
	case e.Code != "":
		said := fmt.Sprintf("%s: table %s (Service: AWSGlue; Error Code: %s)", strings.TrimSuffix(e.Problem, "."), e.Table, e.Code)
		if e.Code == glue.CodeAccessDenied {
			said = accessDenied + " " + said
		}
		return said
	case columnsAtFault(e):
		return fmt.Sprintf("The schema is invalid. Table %s: %s", e.Table, e.Problem)
	}
	return fmt.Sprintf("Table %s cannot be read from the Glue catalog in %s: %s", e.Table, e.Region, e.Problem)
}

// storedSchema is the schema of what is in force of a stream of the file; nil where there is none.
func storedSchema(definition func(name string) (buffer.Stream, bool), stream string) *config.Schema {
	v, ok := definition(stream)
	if !ok || controlplane.Owns(v) {
		return nil
	}
	s, err := parseSpec(v)
	if err != nil || s.Format.Parquet == nil {
		return nil
	}
	return &s.Format.Parquet.Schema
}

// catalogTable is how lines of the error output name the table that a stream takes its columns from; nil where there is
// none.
func catalogTable(f *config.Format, account string) map[string]string {
	if f.Parquet == nil || f.Parquet.Schema.Glue == nil {
		return nil
	}
	g := f.Parquet.Schema.Glue
	return map[string]string{"catalogId": cmp.Or(g.CatalogID, account), "databaseName": g.Database, "tableName": g.Table, "region": g.Region, "versionId": g.Version}
}

// catalogs is controlplane.Tables.
type catalogs struct{}

var _ controlplane.Tables = catalogs{}

// accessDenied is how Firehose begins what it says of a table that it may not read; clients look for it.
const accessDenied = "Access was denied when calling Glue. Please ensure that the role specified in the data format conversion configuration has the necessary permissions."

// Schema reads a table for the API.
func (catalogs) Schema(ctx context.Context, t firehose.GlueTable, aws config.AWS) (config.Schema, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpLimit)
	defer cancel()
	g := &config.Glue{Database: t.Database, Table: t.Table, Version: t.Version, CatalogID: t.CatalogID, Region: t.Region, Endpoint: aws.Endpoints.Glue}
	if g.Version == "" {
		g.Version = glue.Latest
	}
	if g.Region == "" {
		g.Region = aws.Region
	}
	columns, err := readTable(ctx, aws, g, t.RoleARN)
	if err != nil {
		return config.Schema{}, &firehose.Error{Code: firehose.CodeInvalidArgument, Message: unreadable(err)}
	}
	s := config.Schema{Glue: g}
	s.Resolve(columns.Schema.Columns(), columns.Version)
	return s, nil
}
