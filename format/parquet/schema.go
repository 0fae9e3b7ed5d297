package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	pqgo "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	pq "github.com/parquet-go/parquet-go/format"

	"hydrant/format"
)

// maxFooter bounds the footer that a schema is read from, in bytes: it has an entry for each column of each row
// group.
const maxFooter = 64 << 20

// Magic begins and ends a Parquet file.
const Magic = magic

// ReadSchema reads the columns of a Parquet file, ours or another's, as Hive types:
//
//	BOOLEAN                                   boolean
//	INT32, INT(8|16|32)                       int, tinyint, smallint, int; unsigned ones the next larger
//	INT64, INT(64); unsigned                  bigint; decimal(20,0)
//	FLOAT, DOUBLE; FLOAT16                    float, double; float
//	DECIMAL                                   decimal
//	DATE                                      date
//	TIMESTAMP of any unit, INT96              timestamp
//	STRING, ENUM, JSON, UUID                  string
//	BYTE_ARRAY, FIXED_LEN_BYTE_ARRAY, BSON    binary
//	LIST in two and three levels, repeated    array
//	MAP                                       map
//	a group                                   struct
//
// The error joins one *format.ImportError for each column that has no such type; others are about the file.
func ReadSchema(r io.ReaderAt, size int64) (s *format.Schema, err error) {
	defer func() {
		if p := recover(); p != nil { // see ReadRows
			s, err = nil, fmt.Errorf("read the schema of a Parquet file: %v", p)
		}
	}()
	var tail [8]byte
	if size < int64(len(magic)+len(tail)) {
		return nil, fmt.Errorf("a file of %d bytes is no Parquet file", size)
	}
	if _, err := r.ReadAt(tail[:], size-int64(len(tail))); err != nil {
		return nil, fmt.Errorf("read the end of a Parquet file of %d bytes: %w", size, err)
	}
	n := int64(binary.LittleEndian.Uint32(tail[:]))
	switch {
	case string(tail[4:]) != magic:
		return nil, fmt.Errorf("no Parquet file, or one that is cut off: it ends in %q where %q is expected", tail[4:], magic)
	case n > size-int64(len(magic)+len(tail)):
		return nil, fmt.Errorf("damaged Parquet file: a footer of %d bytes in a file of %d", n, size)
	case n > maxFooter:
		return nil, fmt.Errorf("the Parquet file has a footer of %d bytes, at most %d are read", n, maxFooter)
	}
	f, err := pqgo.OpenFile(r, size, pqgo.SkipPageIndex(true), pqgo.SkipBloomFilters(true))
	if err != nil {
		return nil, fmt.Errorf("open a Parquet file of %d bytes: %w", size, err)
	}
	return schemaOf(f.Metadata().Schema)
}

// schemaOf turns the flat list of a file's schema into columns.
func schemaOf(elements []pq.SchemaElement) (*format.Schema, error) {
	i := &importer{rest: elements}
	root, err := i.tree(0)
	if err != nil {
		return nil, err
	}
	if len(i.rest) > 0 || len(root.children) == 0 {
		return nil, errors.New("the file's schema is not a tree with columns")
	}
	s := &format.Schema{Fields: i.fields(root.children, nil)}
	if len(i.errs) > 0 {
		return nil, errors.Join(i.errs...)
	}
	if n := s.Leaves(); n > format.MaxLeaves {
		return nil, fmt.Errorf("the file has %d columns, nested ones included; at most %d", n, format.MaxLeaves)
	}
	return s, nil
}

type element struct {
	*pq.SchemaElement
	children []*element
}

func (e *element) repeated() bool {
	return e.RepetitionType.Valid && e.RepetitionType.V == pq.Repeated
}

func (e *element) leaf() bool { return len(e.children) == 0 }

type importer struct {
	rest []pq.SchemaElement
	errs []error
}

// maxElementDepth bounds the levels of a file's schema: three for a list, three for a map.
const maxElementDepth = 3 * format.MaxSchemaDepth

func (i *importer) tree(depth int) (*element, error) {
	if len(i.rest) == 0 || depth > maxElementDepth {
		return nil, errors.New("the file's schema is not a tree, or a very deep one")
	}
	e := &element{SchemaElement: &i.rest[0]}
	i.rest = i.rest[1:]
	for range e.NumChildren.V {
		c, err := i.tree(depth + 1)
		if err != nil {
			return nil, err
		}
		e.children = append(e.children, c)
	}
	return e, nil
}

func (i *importer) fail(path []string, problem string) format.Type {
	const most = 20
	if len(i.errs) < most {
		i.errs = append(i.errs, &format.ImportError{At: "column " + strings.Join(path, "."), Problem: problem, Hint: "declare the columns in the configuration without it, or write the file without it"})
	}
	return format.Type{}
}

func (i *importer) fields(elements []*element, path []string) []format.Field {
	out := make([]format.Field, 0, len(elements))
	seen := map[string]bool{}
	for _, e := range elements {
		at := append(slices.Clip(path), e.Name)
		key := strings.ToLower(e.Name)
		switch {
		case e.Name == "" || !utf8.ValidString(e.Name) || strings.ContainsFunc(e.Name, unicode.IsControl):
			i.fail(at, "the name is empty, not valid UTF-8 or has control characters")
		case seen[key]:
			i.fail(at, "there is another column of this name (case does not count)")
		default:
			seen[key] = true
			out = append(out, format.Field{Name: e.Name, Type: i.column(e, at)})
		}
	}
	return out
}

// column is the type of a column or of a struct's member.
func (i *importer) column(e *element, path []string) format.Type {
	if len(path) > format.MaxSchemaDepth {
		return i.fail(path, fmt.Sprintf("is nested more than %d deep", format.MaxSchemaDepth))
	}
	t := i.single(e, path)
	if e.repeated() { // a list without an annotation
		return format.Type{Kind: format.Array, Elem: &t}
	}
	return t
}

// annotated tells whether an element has a logical type, or the older form of it.
func annotated[T any](e *element, old ...deprecated.ConvertedType) bool {
	if e.LogicalType.Value != nil {
		_, ok := any(e.LogicalType.Value).(T)
		return ok
	}
	return e.ConvertedType.Valid && slices.Contains(old, e.ConvertedType.V)
}

// single is the type of one value of an element.
func (i *importer) single(e *element, path []string) format.Type {
	switch {
	case e.leaf() && !e.Type.Valid:
		return i.fail(path, "is a group without members, which has no Hive type")
	case e.leaf():
		return i.value(e, path)
	case annotated[*pq.ListType](e, deprecated.List):
		return i.list(e, path)
	case annotated[*pq.MapType](e, deprecated.Map, deprecated.MapKeyValue):
		return i.mapping(e, path)
	case e.LogicalType.Value != nil:
		return i.fail(path, "is a group of type "+e.LogicalType.String()+", which has no Hive type")
	}
	return format.Type{Kind: format.Struct, Fields: i.fields(e.children, path)}
}

// list takes a list apart by the rules for older writers: the repeated group is the element itself where it has
// several members, or is named as those writers name it.
func (i *importer) list(e *element, path []string) format.Type {
	if len(e.children) != 1 || !e.children[0].repeated() {
		return i.fail(path, "is a LIST without a repeated group")
	}
	r, at := e.children[0], append(slices.Clip(path), "element")
	var elem format.Type
	if r.leaf() || len(r.children) > 1 || r.Name == "array" || r.Name == e.Name+"_tuple" {
		elem = i.single(r, at)
	} else {
		elem = i.column(r.children[0], at)
	}
	return format.Type{Kind: format.Array, Elem: &elem}
}

func (i *importer) mapping(e *element, path []string) format.Type {
	if len(e.children) != 1 || !e.children[0].repeated() || len(e.children[0].children) != 2 {
		return i.fail(path, "is a MAP without a repeated group of key and value")
	}
	pair := e.children[0].children
	if !pair[0].leaf() || pair[0].repeated() {
		return i.fail(path, "is a MAP with a nested key, which has no Hive type")
	}
	key := i.single(pair[0], append(slices.Clip(path), "key"))
	elem := i.column(pair[1], append(slices.Clip(path), "value"))
	return format.Type{Kind: format.Map, Key: &key, Elem: &elem}
}

// value is the type of a leaf.
func (i *importer) value(e *element, path []string) format.Type {
	if d, ok := e.LogicalType.Value.(*pq.DecimalType); ok {
		return i.decimal(int(d.Precision), int(d.Scale), path)
	}
	if e.LogicalType.Value == nil && e.ConvertedType.Valid && e.ConvertedType.V == deprecated.Decimal {
		return i.decimal(int(e.Precision.V), int(e.Scale.V), path)
	}
	if e.LogicalType.Value == nil && e.ConvertedType.Valid && e.ConvertedType.V == deprecated.Interval {
		return i.fail(path, "is an INTERVAL, which has no Hive type")
	}
	switch {
	case annotated[*pq.TimeType](e, deprecated.TimeMillis, deprecated.TimeMicros):
		return i.fail(path, "is a TIME, which has no Hive type")
	case annotated[*pq.DateType](e, deprecated.Date):
		return format.Type{Kind: format.Date}
	case annotated[*pq.TimestampType](e, deprecated.TimestampMillis, deprecated.TimestampMicros):
		return format.Type{Kind: format.Timestamp}
	case annotated[*pq.StringType](e, deprecated.UTF8), annotated[*pq.EnumType](e, deprecated.Enum), annotated[*pq.JsonType](e, deprecated.Json), annotated[*pq.UUIDType](e):
		return format.Type{Kind: format.String}
	case annotated[*pq.Float16Type](e):
		return format.Type{Kind: format.Float}
	case annotated[*pq.BsonType](e, deprecated.Bson):
		return format.Type{Kind: format.Binary}
	case annotated[*pq.GeometryType](e), annotated[*pq.GeographyType](e), annotated[*pq.VariantType](e), annotated[*pq.NullType](e):
		return i.fail(path, "is of type "+e.LogicalType.String()+", which has no Hive type")
	}
	bits, signed := width(e)
	switch e.Type.V {
	case pq.Boolean:
		return format.Type{Kind: format.Boolean}
	case pq.Int32, pq.Int64:
		switch {
		case !signed && bits == 64:
			return format.Type{Kind: format.Decimal, Precision: 20}
		case !signed:
			bits *= 2
		}
		switch bits {
		case 8:
			return format.Type{Kind: format.TinyInt}
		case 16:
			return format.Type{Kind: format.SmallInt}
		case 32:
			return format.Type{Kind: format.Int}
		}
		return format.Type{Kind: format.BigInt}
	case pq.Int96:
		return format.Type{Kind: format.Timestamp}
	case pq.Float:
		return format.Type{Kind: format.Float}
	case pq.Double:
		return format.Type{Kind: format.Double}
	case pq.ByteArray, pq.FixedLenByteArray:
		return format.Type{Kind: format.Binary}
	}
	return i.fail(path, "has the unknown physical type "+e.Type.V.String())
}

// width of an integer in bits.
func width(e *element) (bits int, signed bool) {
	if t, ok := e.LogicalType.Value.(*pq.IntType); ok {
		return int(t.BitWidth), t.IsSigned
	}
	if e.LogicalType.Value == nil && e.ConvertedType.Valid {
		switch e.ConvertedType.V {
		case deprecated.Int8:
			return 8, true
		case deprecated.Int16:
			return 16, true
		case deprecated.Uint8:
			return 8, false
		case deprecated.Uint16:
			return 16, false
		case deprecated.Uint32:
			return 32, false
		case deprecated.Uint64:
			return 64, false
		}
	}
	if e.Type.V == pq.Int32 {
		return 32, true
	}
	return 64, true
}

func (i *importer) decimal(precision, scale int, path []string) format.Type {
	if precision < 1 || precision > format.MaxPrecision || scale < 0 || scale > precision {
		return i.fail(path, fmt.Sprintf("is a DECIMAL(%d,%d); Hive's have 1 to %d digits, of which none or more are after the point", precision, scale, format.MaxPrecision))
	}
	return format.Type{Kind: format.Decimal, Precision: precision, Scale: scale}
}
