// Package parquet turns JSON records into Parquet files.
//
// Rows flow in as JSON text, a finished Parquet file flows out to a writer. There is no tree and no value
// of any in between: the declared schema is compiled into a tree of nodes, and one strict pass over the
// bytes of a record writes each value straight into the builder of its column. Pages are encoded and
// compressed as they fill and are held compressed until their row group ends. We write the pages ourselves;
// the structures of the footer and their thrift encoding, and all reading, are parquet-go's.
//
// Nothing here outlives a crash and nothing needs to: an encoder writes no file, it holds only what it has
// not written yet, and rows stay with whoever gave them until the object is safe. The same rows in the same
// order give the same bytes, whichever encoder writes them and whatever it wrote before (on processors of one
// kind: the compressors differ between them).
//
// # What is accepted
//
// A record is one or more JSON objects, back to back or with white space between them; each is a row, and
// either all rows of a record are written or none. JSON is taken strictly: exactly what encoding/json and
// utf8.Valid accept together, checked in the members that no column wants as well. Nesting ends at 10,000
// levels, as encoding/json has it. A \u escape that is half of a surrogate pair becomes U+FFFD.
//
// A record that names a column twice is refused rather than one of the values being lost in silence, and
// so is a map that has a key twice. Members without a column may repeat.
//
// values.go says which JSON values each type takes.
package parquet

import (
	"errors"
	"fmt"
	"strings"

	"hydrant/format"
)

// Compression of pages.
type Compression string

// The compressions. Zstandard is level 1 ("fastest"), gzip is level 6.
const (
	Snappy Compression = "snappy"
	Zstd   Compression = "zstd"
	Gzip   Compression = "gzip"
	None   Compression = "none"
)

// Encodings is a set of page encodings.
type Encodings string

const (
	// Compatible is what every reader since 2013 knows: version 1 pages, PLAIN and dictionaries.
	Compatible Encodings = "compatible"
	// Modern is version 2 pages, DELTA_LENGTH_BYTE_ARRAY for text and DELTA_BINARY_PACKED for integers that
	// have no dictionary: faster to write and smaller.
	Modern Encodings = "modern"
)

// TimestampUnit is how timestamp columns are stored.
type TimestampUnit string

// The units. Micros and Millis are INT64 with the logical type TIMESTAMP, adjusted to UTC; a finer fraction
// than the unit is cut off towards the past. Int96 is the older form of 12 bytes, in nanoseconds, that Hive
// and Firehose write.
const (
	Micros TimestampUnit = "micros"
	Millis TimestampUnit = "millis"
	Int96  TimestampUnit = "int96"
)

// UnknownPolicy says what becomes of members that have no column.
type UnknownPolicy string

const (
	DropUnknown    UnknownPolicy = "drop"   // they are checked and left out
	FailUnknown    UnknownPolicy = "fail"   // the record is refused
	CaptureUnknown UnknownPolicy = "column" // they are kept as JSON text in a column of their own
)

// UnknownFields is the policy for members that have no column, at any depth.
type UnknownFields struct {
	Policy UnknownPolicy // "": DropUnknown
	// Column takes the unknown members with CaptureUnknown. It is a string column: one that the schema
	// declares, or else one that is added after the last. It holds null when there are none, otherwise an
	// object with the members as they were written, in their place: unknown members of a struct are in an
	// object under the struct's key, those of an array's element in an object under the element's index.
	Column string
}

// OpenX is how the deserializer of that name reads JSON.
type OpenX struct {
	// CaseSensitive keys must be spelled as the columns are. Otherwise both are put in lower case first; keys
	// of maps stay as they are either way.
	CaseSensitive bool
	// ColumnToJSONKey gives the key from which a column is read when it is not the column's name. A member of
	// a struct is named by its path with dots.
	ColumnToJSONKey map[string]string
	// DotsToUnderscores makes each dot of a key an underscore before columns are looked for.
	DotsToUnderscores bool
}

// Hive is how the deserializer of that name reads JSON: keys in any case, no numbers or booleans written as
// strings, no object or array as the text of a string column.
type Hive struct {
	// TimestampFormats are tried in turn; each is a Joda pattern or the word millis. JDBC's form
	// yyyy-[m]m-[d]d hh:mm:ss[.f...] is tried after them.
	TimestampFormats []string
}

// Defaults and limits of Options.
const (
	DefaultRowGroup    = 128 << 20
	DefaultPage        = 1 << 20
	DefaultMemoryLimit = 256 << 20
	MinRowGroup        = 4 << 10
	MinPage            = 1 << 10
	MaxPage            = 256 << 20
	MinMemoryLimit     = 1 << 20
	// MaxColumns is the most columns that hold values, those inside structs, arrays and maps included.
	MaxColumns = format.MaxLeaves
	// MaxRecord is the size in bytes of the largest record.
	MaxRecord = 64 << 20
)

// Options of a Format. The zero value of every field but Schema is the default.
type Options struct {
	Schema *format.Schema // required
	OpenX  *OpenX         // nil together with Hive: OpenX with its defaults
	Hive   *Hive          // at most one of OpenX and Hive

	Compression Compression   // "": Snappy
	Encodings   Encodings     // "": Compatible
	Timestamps  TimestampUnit // "": Micros

	// RowGroup is the size in bytes, encoded and compressed, at which a row group ends; 0:
	// DefaultRowGroup, at least MinRowGroup.
	RowGroup int64
	// Page is the size in bytes, encoded and not yet compressed, at which a page ends; 0: DefaultPage,
	// MinPage to MaxPage. A page never ends inside a row, so it exceeds this by less than a row.
	Page int64
	// MemoryLimit in bytes of one encoder: a row group ends early when it is reached. 0:
	// DefaultMemoryLimit, at least MinMemoryLimit. One row may exceed it.
	MemoryLimit int64

	UnknownFields UnknownFields
}

// Format writes Parquet. It is immutable and safe for concurrent use.
type Format struct {
	o       Options
	version string
}

var _ format.Format = (*Format)(nil)

// New checks the options. Its error joins all that is wrong with them.
func New(o Options) (*Format, error) {
	var errs []error
	bad := func(f string, a ...any) { errs = append(errs, fmt.Errorf("parquet: "+f, a...)) }

	if o.Compression == "" {
		o.Compression = Snappy
	}
	switch o.Compression {
	case Snappy, Zstd, Gzip, None:
	default:
		bad("compression %q is none of snappy, zstd, gzip, none", o.Compression)
	}
	if o.Encodings == "" {
		o.Encodings = Compatible
	}
	if o.Encodings != Compatible && o.Encodings != Modern {
		bad("encodings %q is neither compatible nor modern", o.Encodings)
	}
	if o.Timestamps == "" {
		o.Timestamps = Micros
	}
	switch o.Timestamps {
	case Micros, Millis, Int96:
	default:
		bad("timestamps %q is none of micros, millis, int96", o.Timestamps)
	}
	size := func(name string, v *int64, def, low, high int64) {
		if *v == 0 {
			*v = def
		}
		if *v < low || *v > high {
			bad("%s is %d bytes, must be %d to %d", name, *v, low, high)
		}
	}
	size("row group", &o.RowGroup, DefaultRowGroup, MinRowGroup, 1<<40)
	size("page", &o.Page, DefaultPage, MinPage, MaxPage)
	size("memory limit", &o.MemoryLimit, DefaultMemoryLimit, MinMemoryLimit, 1<<40)

	if o.OpenX != nil && o.Hive != nil {
		bad("both deserializers are given, openx and hive; choose one")
	}
	if o.OpenX == nil && o.Hive == nil {
		o.OpenX = &OpenX{}
	}
	if o.UnknownFields.Policy == "" {
		o.UnknownFields.Policy = DropUnknown
	}
	if o.Schema == nil || len(o.Schema.Fields) == 0 {
		bad("a schema is required")
		return nil, errors.Join(errs...)
	}
	switch u := &o.UnknownFields; u.Policy {
	case DropUnknown, FailUnknown:
		if u.Column != "" {
			bad("a column for unknown fields (%q) goes only with the policy column", u.Column)
		}
	case CaptureUnknown:
		if err := captureInto(&o); err != nil {
			errs = append(errs, err)
		}
	default:
		bad("unknown fields: %q is none of drop, fail, column", u.Policy)
	}
	if n := o.Schema.Leaves(); n > MaxColumns {
		bad("the schema has %d columns that hold values, at most %d are written", n, MaxColumns)
	} else if _, err := compile(&o); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &Format{o: o, version: o.Schema.Version()}, nil
}

// captureInto adds the column for unknown members to the schema where it is not declared.
func captureInto(o *Options) error {
	name := o.UnknownFields.Column
	if name == "" {
		return errors.New("parquet: the policy column for unknown fields needs the name of the column")
	}
	for _, f := range o.Schema.Fields {
		if strings.EqualFold(f.Name, name) {
			if f.Type.Kind != format.String {
				return fmt.Errorf("parquet: column %q is to take unknown fields but is declared %s; declare it string", f.Name, f.Type)
			}
			o.UnknownFields.Column = f.Name
			return nil
		}
	}
	s := &format.Schema{Fields: append([]format.Field(nil), o.Schema.Fields...)}
	s.Fields = append(s.Fields, format.Field{Name: name, Type: format.Type{Kind: format.String}})
	o.Schema = s
	return nil
}

// NewEncoder returns an encoder for one worker; until rows come it takes little memory.
func (f *Format) NewEncoder() format.Encoder { return newEncoder(f) }

// Extension of object names.
func (f *Format) Extension() string { return ".parquet" }

// ContentEncoding is empty: compression is inside the file.
func (f *Format) ContentEncoding() string { return "" }

// Schema is the columns of the files, the one for unknown fields included. It is not to be changed.
func (f *Format) Schema() *format.Schema { return f.o.Schema }

// SchemaVersion is the version of the schema, the column for unknown fields included.
func (f *Format) SchemaVersion() string { return f.version }
