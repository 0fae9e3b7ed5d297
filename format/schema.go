package format

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// Kind says which of Hive's types a Type is.
type Kind uint8

// The kinds. The zero Kind is no type at all: a Type that was never filled in is visible as such.
const (
	Boolean   Kind = iota + 1
	TinyInt        // 8 bits, signed, as all integers are
	SmallInt       // 16 bits
	Int            // 32 bits
	BigInt         // 64 bits
	Float          // 32 bits
	Double         // 64 bits
	Decimal        // Precision digits, Scale of them after the point
	String         // UTF-8
	Char           // at most Length characters
	VarChar        // at most Length characters
	Binary         // bytes
	Date           // a day, without a time zone
	Timestamp      // an instant
	Array          // of Elem
	Map            // from Key, which is never nested, to Elem
	Struct         // of Fields, at least one
)

var kindNames = [...]string{
	Boolean: "boolean", TinyInt: "tinyint", SmallInt: "smallint", Int: "int", BigInt: "bigint", Float: "float",
	Double: "double", Decimal: "decimal", String: "string", Char: "char", VarChar: "varchar", Binary: "binary",
	Date: "date", Timestamp: "timestamp", Array: "array", Map: "map", Struct: "struct",
}

// String is the kind's name in Hive, in lower case.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// Limits of a schema. Those on decimals and characters are Hive's; the others bound what a schema can make
// an encoder allocate.
const (
	MaxPrecision   = 38     // digits of a decimal
	MaxChar        = 255    // characters of a char(n)
	MaxVarChar     = 65535  // characters of a varchar(n)
	MaxSchemaDepth = 100    // types inside one another: array<int> is 2 deep
	MaxLeaves      = 10_000 // columns that hold values, those inside structs, arrays and maps included
)

// Default precision and scale of a decimal that gives none: decimal(10,0), as in Hive.
const (
	DefaultPrecision = 10
	DefaultScale     = 0
)

// Type is one Hive type. Only the fields that its Kind names are set. A Type is plain data: it is never
// changed after it was parsed, and may be shared.
type Type struct {
	Kind      Kind
	Precision int     // Decimal: digits in all, 1 to MaxPrecision
	Scale     int     // Decimal: digits after the point, 0 to Precision
	Length    int     // Char, VarChar: characters, from 1
	Key       *Type   // Map: a type for which Nested is false
	Elem      *Type   // Array: of its elements; Map: of its values
	Fields    []Field // Struct: in declared order, at least one, names distinct whatever their case
}

// Field is a column, or a member of a struct. Every value at every level may be null.
type Field struct {
	Name string // as declared, quotes removed; its case is kept
	Type Type
}

// Schema is the columns of a table, in declared order. There is at least one, and no two names are equal
// when case is ignored.
type Schema struct {
	Fields []Field
}

// Nested reports whether t is an array, a map or a struct.
func (t Type) Nested() bool { return t.Kind == Array || t.Kind == Map || t.Kind == Struct }

// Leaves is the number of columns that hold the values of t.
func (t Type) Leaves() int {
	switch t.Kind {
	case Array:
		return t.Elem.Leaves()
	case Map:
		return t.Key.Leaves() + t.Elem.Leaves()
	case Struct:
		return leaves(t.Fields)
	}
	return 1
}

// Leaves is the number of columns that hold values, those inside nested columns included.
func (s *Schema) Leaves() int { return leaves(s.Fields) }

func leaves(fields []Field) int {
	n := 0
	for _, f := range fields {
		n += f.Type.Leaves()
	}
	return n
}

// String is the canonical form of the type: lower case, no blanks, nothing left out that has a default.
// ParseType reads it back as the same Type.
func (t Type) String() string { return string(t.append(nil)) }

func (t Type) append(dst []byte) []byte {
	dst = append(dst, t.Kind.String()...)
	switch t.Kind {
	case Decimal:
		dst = append(dst, '(')
		dst = strconv.AppendInt(dst, int64(t.Precision), 10)
		dst = append(dst, ',')
		dst = strconv.AppendInt(dst, int64(t.Scale), 10)
		dst = append(dst, ')')
	case Char, VarChar:
		dst = append(dst, '(')
		dst = strconv.AppendInt(dst, int64(t.Length), 10)
		dst = append(dst, ')')
	case Array:
		dst = append(dst, '<')
		dst = t.Elem.append(dst)
		dst = append(dst, '>')
	case Map:
		dst = append(dst, '<')
		dst = t.Key.append(dst)
		dst = append(dst, ',')
		dst = t.Elem.append(dst)
		dst = append(dst, '>')
	case Struct:
		dst = append(dst, '<')
		for i, f := range t.Fields {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendName(dst, f.Name)
			dst = append(dst, ':')
			dst = f.Type.append(dst)
		}
		dst = append(dst, '>')
	}
	return dst
}

// String is the column in the form in which a schema lists it: its name, a blank, its type.
func (f Field) String() string {
	dst := appendName(nil, f.Name)
	dst = append(dst, ' ')
	return string(f.Type.append(dst))
}

// Columns is the canonical form, one string for each column. ParseColumns reads it back.
func (s *Schema) Columns() []string {
	out := make([]string, len(s.Fields))
	for i, f := range s.Fields {
		out[i] = f.String()
	}
	return out
}

// String is the canonical form in one line: the columns, joined by a comma and a blank. ParseDDL reads it
// back.
func (s *Schema) String() string { return strings.Join(s.Columns(), ", ") }

// Version identifies the schema in an object's metadata: 12 hexadecimal digits that depend on the canonical
// form alone, so spelling, comments and white space in the configuration do not change it.
func (s *Schema) Version() string {
	sum := sha256.Sum256([]byte(s.String()))
	return hex.EncodeToString(sum[:6])
}

// appendName adds a name, in backquotes unless it is letters, digits and _ of ASCII and starts with no digit:
// what every SQL engine takes bare.
func appendName(dst []byte, name string) []byte {
	plain := name != "" && (name[0] < '0' || name[0] > '9')
	for i := 0; plain && i < len(name); i++ {
		c := name[i]
		plain = c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
	}
	if plain {
		return append(dst, name...)
	}
	dst = append(dst, '`')
	dst = append(dst, strings.ReplaceAll(name, "`", "``")...)
	return append(dst, '`')
}

// Column is a column in the form in which ParseColumns takes it, of a name and the text of a type that were kept
// apart, such as a catalog's.
func Column(name, typ string) string { return string(appendName(nil, name)) + " " + typ }
