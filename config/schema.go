package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
)

// Schema is the columns of Parquet objects, or where they come from: exactly one of Columns, DDL, File and Glue
// as the file has it. Who loads a configuration reads File and looks Glue up, and sets Columns to what they say
// (Resolve); only then can the stream be opened or stored.
type Schema struct {
	Columns []string // "name type", in order
	DDL     string   // one DDL string
	File    string   // name of a file, absolute once it was decoded
	Glue    *Glue
	// TableVersion is the version of Glue's table that Columns are of; "" where the catalog gives none.
	TableVersion string
}

// Resolved tells whether the columns are known.
func (s *Schema) Resolved() bool { return len(s.Columns) > 0 || s.DDL != "" }

// Resolve sets the columns that File or Glue turned out to have.
func (s *Schema) Resolve(columns []string, tableVersion string) {
	s.Columns, s.TableVersion = columns, tableVersion
}

// SameTable tells whether two schemas come from the same version, or both from the latest, of the same table.
func (s *Schema) SameTable(other *Schema) bool {
	if s.Glue == nil || other.Glue == nil {
		return false
	}
	a, b := *s.Glue, *other.Glue
	a.Endpoint, b.Endpoint = "", "" // where a catalog answers does not tell which it is
	return a == b
}

const schemaForms = "write a list of \"name type\", one DDL string, { file: FILE } or { glue: { database: D, table: T } }"

func (s *Schema) decode(d *decoder, n *node, path string) {
	*s = Schema{}
	switch n.kind {
	case scalar:
		if strings.TrimSpace(n.text) == "" {
			d.fault(n, path, "is empty", schemaForms)
			return
		}
		s.DDL = n.text
	case list:
		if len(n.items) == 0 {
			d.fault(n, path, "has no column", "")
		}
		s.columns(d, n, path)
	case mapping:
		s.source(d, n, path)
	default:
		d.fault(n, path, "is empty", schemaForms)
	}
}

func (s *Schema) columns(d *decoder, n *node, path string) {
	for i, item := range n.items {
		p := index(path, i)
		d.at(p, item)
		if item.kind == mapping && len(item.entries) == 1 && item.entries[0].value.kind == scalar {
			e := item.entries[0]
			d.fault(item, p, "is not a text", fmt.Sprintf("write it without the colon: %q", e.key+" "+e.value.text))
		} else if d.wantScalar(item, p, "a column, written \"name type\"") {
			s.Columns = append(s.Columns, item.text)
		}
	}
}

// source takes { file: F } and { glue: ... }. In a stored specification the latter has what was looked up beside it.
func (s *Schema) source(d *decoder, n *node, path string) {
	known := []string{"file", "glue"}
	given := 0
	for _, e := range n.entries {
		p := child(path, e.key)
		switch {
		case e.key == "file" && !d.spec:
			given++
			d.at(p, e.value)
			if d.wantScalar(e.value, p, "the name of a file") {
				if s.File = e.value.text; s.File == "" {
					d.fault(e.value, p, "is empty", "")
				}
			}
		case e.key == "glue":
			given++
			d.at(p, e.value)
			s.Glue = &Glue{}
			d.structure(reflect.ValueOf(s.Glue).Elem(), e.value, p)
		case e.key == "columns" && d.spec:
			s.columns(d, e.value, p)
		case e.key == "table_version" && d.spec:
			s.TableVersion = e.value.text
		default:
			d.unknown(e, p, known)
		}
	}
	switch {
	case given > 1:
		d.fault(n, path, "takes exactly one of file and glue", "keep one")
	case len(n.entries) == 0:
		d.fault(n, path, "has no column", schemaForms)
	case d.spec && len(s.Columns) == 0:
		d.fault(n, path, "has no columns", "")
	}
}

// encode is the columns where nothing else decides: a file says nothing any more once it was read. A table is
// kept with them, so that a later process knows that they are that table's when the catalog does not answer.
func (s Schema) encode() any {
	items := make([]any, len(s.Columns))
	for i, c := range s.Columns {
		items[i] = c
	}
	switch {
	case s.DDL != "":
		return s.DDL
	case s.Glue != nil:
		out := object{{"glue", encode(reflect.ValueOf(s.Glue))}, {"columns", items}}
		if s.TableVersion != "" {
			out = append(out, member{"table_version", s.TableVersion})
		}
		return out
	}
	return items
}

// schema makes the file's path absolute and gives the table the settings that all share.
func (d *decoder) schema(c *Config, s *Stream, path string) {
	if s.Format.Parquet == nil {
		return
	}
	from := &s.Format.Parquet.Schema
	if from.File != "" {
		abs, err := filepath.Abs(from.File)
		if err != nil {
			d.faultAt(child(path, "format.parquet.schema.file"), from.File, "cannot be made absolute: "+err.Error(), "write an absolute path")
			return
		}
		from.File = abs
	}
	if g := from.Glue; g != nil {
		if g.Region == "" {
			g.Region = c.AWS.Region
		}
		if g.Endpoint == "" {
			g.Endpoint = c.AWS.Endpoints.Glue
		}
	}
}

// CheckSize returns the faults of the streams of which a data directory cannot keep the specification, because
// their schemas turned out to be too large.
func (f *File) CheckSize() (faults []Fault) {
	for i := range f.Config.Streams {
		if fault, tooLong := f.specFault(&f.Config.Streams[i], index("streams", i)); tooLong {
			faults = append(faults, fault)
		}
	}
	return faults
}

// specFault says that a stream's specification is too long to be kept.
func (f *File) specFault(s *Stream, path string) (Fault, bool) {
	n := len(s.Spec())
	return f.Fault(path, "", fmt.Sprintf("is described by %d bytes", n), fmt.Sprintf("at most %d; the schema is the largest part", maxSpec)), n > maxSpec
}
