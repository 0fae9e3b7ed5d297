package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/firehose"
)

// Tables reads the tables that streams are converted by. It must be safe for concurrent use.
type Tables interface {
	// Schema returns the columns of a table, resolved. aws says what a table does not: region, endpoint, whether
	// its role is assumed. The error is a *firehose.Error, told to whoever creates or updates a stream, or of the
	// daemon.
	Schema(ctx context.Context, t firehose.GlueTable, aws config.AWS) (config.Schema, error)
}

// reading is what was read of a table; the zero reading of none.
type reading struct {
	table  firehose.GlueTable
	schema config.Schema
	err    error
}

// read reads the table of a document that can be delivered otherwise. It may take as long as ctx allows, so it is
// not called while a stream is being changed.
func (p *Plane) read(ctx context.Context, name string, d *firehose.Document, aws config.AWS) (r reading) {
	t, ok := d.Table()
	if !ok || p.o.Tables == nil {
		return r
	}
	if _, err := d.ConfigWithSchema(name, aws, config.Schema{}); err != nil {
		return r // which is what spec will say
	}
	r.table = t
	r.schema, r.err = p.o.Tables.Schema(ctx, t, aws)
	return r
}

// sameTable tells whether a document converts by this version of this table, whoever reads it.
func sameTable(d *firehose.Document, t firehose.GlueTable) bool {
	mine, ok := d.Table()
	mine.RoleARN, t.RoleARN = "", ""
	return ok && mine == t
}

// schema is what the stored stream is converted by; the zero Schema where it is not.
func (s storedSpec) schema(name string) (config.Schema, error) {
	c, err := config.ParseSpec(name, s.config)
	if err != nil || c.Format.Parquet == nil {
		return config.Schema{}, err
	}
	return c.Format.Parquet.Schema, nil
}

// readForUpdate reads the table that an update makes a stream be converted by, if that is another than before. What
// else is wrong with the update is left to the change itself.
func (p *Plane) readForUpdate(ctx context.Context, r *firehose.Update) reading {
	now, ok := p.o.Streams.Definition(r.Name)
	if !ok || !Owns(now) || p.o.Tables == nil {
		return reading{}
	}
	stored, err := readSpec(now.Spec)
	if err != nil {
		return reading{}
	}
	next, _, _, err := stored.document.Update(r, firehose.Secrets{})
	if err != nil {
		return reading{}
	}
	if t, ok := next.Table(); !ok || sameTable(stored.document, t) {
		return reading{}
	}
	return p.read(ctx, r.Name, next, p.present())
}

// updatedSchema is what an update makes a stream be converted by: what it was converted by where the table is the
// same, so that no update depends on a catalog that it does not name.
func (p *Plane) updatedSchema(r *firehose.Update, next *firehose.Document, stored storedSpec, read reading) (config.Schema, error) {
	t, ok := next.Table()
	switch {
	case !ok || p.o.Tables == nil:
		return config.Schema{}, nil
	case sameTable(stored.document, t):
		return stored.schema(r.Name)
	case read.table == t:
		return read.schema, read.err
	case read.table == (firehose.GlueTable{}): // it cannot be delivered anyway
		return config.Schema{}, nil
	}
	return config.Schema{}, &firehose.Error{Code: firehose.CodeConcurrent, Message: fmt.Sprintf("Cannot update firehose: %s since it has changed meanwhile", r.Name)}
}

// readersAtOnce bounds how many tables are read at once.
const readersAtOnce = 8

// reread reads the tables of streams again, each that several convert by once.
func (p *Plane) reread(ctx context.Context, all []buffer.Stream, aws config.AWS) map[firehose.GlueTable]reading {
	out := map[firehose.GlueTable]reading{}
	if p.o.Tables == nil {
		return out
	}
	var wait sync.WaitGroup
	var mu sync.Mutex // guards out
	slots := make(chan struct{}, readersAtOnce)
	for _, s := range all {
		stored, err := readSpec(s.Spec)
		if err != nil {
			continue // the change says so
		}
		t, ok := stored.document.Table()
		mu.Lock()
		_, known := out[t]
		if ok && !known {
			out[t] = reading{}
		}
		mu.Unlock()
		if !ok || known {
			continue
		}
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			r := p.read(ctx, s.Name, stored.document, aws)
			mu.Lock()
			defer mu.Unlock()
			out[t] = r
		})
	}
	wait.Wait()
	return out
}

// adopted is what a stored stream is to be converted by, after its table was read again: what it has already, if
// that did not succeed or says the same.
func (p *Plane) adopted(name string, stored storedSpec, read map[firehose.GlueTable]reading) (config.Schema, error) {
	t, ok := stored.document.Table()
	if !ok || p.o.Tables == nil {
		return config.Schema{}, nil
	}
	before, err := stored.schema(name)
	r, found := read[t]
	if err != nil || !found {
		return before, err
	}
	switch {
	case r.err != nil:
		p.o.Log.Warn("table cannot be read; the stream goes on with the columns that it had", "stream", name, "database", t.Database, "table", t.Table, "err", r.err)
		return before, nil
	case slices.Equal(r.schema.Columns, before.Columns):
		r.schema.TableVersion = before.TableVersion // of the first version with these columns
	case r.table == t:
		p.o.Log.Info("table has other columns", "stream", name, "database", t.Database, "table", t.Table, "version", r.schema.TableVersion)
	default:
		return before, nil
	}
	return r.schema, nil
}

// configOf is the stream of a document, converted by a schema where it converts.
func (p *Plane) configOf(name string, d *firehose.Document, aws config.AWS, schema config.Schema) (*config.Stream, error) {
	if _, ok := d.Table(); !ok || p.o.Tables == nil {
		return d.Config(name, aws)
	}
	s, err := d.ConfigWithSchema(name, aws, schema)
	if err == nil && !schema.Resolved() {
		err = errors.New("its table was not read")
	}
	return s, err
}
