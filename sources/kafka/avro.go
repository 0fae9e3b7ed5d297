package kafka

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/avro"
)

// avroSchema turns Avro into JSON. The library reads schemas and finds what is wrong with them; values are walked here, so
// that members stand in the order of the schema, a union's branch is the one that was written, and equal values give equal
// bytes, without a Go value between.
//
// Numbers and texts are as in Avro. Of logical types, decimals are numbers with all their digits, dates and times are texts
// (2026-03-01, 12:30:00.5, 2026-03-01T12:30:00.5Z, and without Z where local), and UUIDs are texts. Other bytes are base64,
// unions are the value alone, and floats that JSON has no number for are "NaN", "Infinity" and "-Infinity".
type avroSchema struct{ root *avroNode }

type avroKind int

const (
	avroNull avroKind = iota
	avroBool
	avroInt
	avroFloat
	avroDouble
	avroBytes
	avroString
	avroRecord
	avroEnum
	avroArray
	avroMap
	avroUnion
	avroFixed
)

type avroNode struct {
	kind     avroKind
	logical  string
	fields   []avroField
	items    *avroNode // of an array or a map
	branches []*avroNode
	symbols  [][]byte // as JSON texts
	size     int
	scale    int
}

type avroField struct {
	key  []byte // "name":
	node *avroNode
}

// Bounds of a value.
const (
	avroDepth = 128
	avroJSON  = 32 << 20 // bytes of JSON that one may become
)

// parseAvro reads a schema, the last, and those before it that it refers to.
func parseAvro(schemas []string) (*avroSchema, error) {
	var cache avro.SchemaCache
	var last *avro.Schema
	for _, text := range schemas {
		var err error
		if last, err = cache.Parse(text); err != nil {
			return nil, err
		}
	}
	if last == nil {
		return nil, errors.New("it is empty")
	}
	c := avroCompiler{named: map[string]*avroNode{}}
	root, err := c.compile(last.Root(), "")
	if err != nil {
		return nil, err
	}
	return &avroSchema{root}, nil
}

type avroCompiler struct{ named map[string]*avroNode }

var avroKinds = map[string]avroKind{
	"null": avroNull, "boolean": avroBool, "int": avroInt, "long": avroInt, "float": avroFloat, "double": avroDouble, "bytes": avroBytes, "string": avroString,
	"record": avroRecord, "error": avroRecord, "enum": avroEnum, "array": avroArray, "map": avroMap, "union": avroUnion, "fixed": avroFixed,
}

// compile makes the node of a schema, or finds the one that it names. space is the namespace around it.
func (c *avroCompiler) compile(s *avro.SchemaNode, space string) (*avroNode, error) {
	kind, ok := avroKinds[s.Type]
	if !ok {
		for _, name := range []string{s.Type, space + "." + s.Type} {
			if n := c.named[name]; n != nil {
				return n, nil
			}
		}
		return nil, fmt.Errorf("type %q is not known", s.Type)
	}
	n := &avroNode{kind: kind, logical: s.LogicalType, size: s.Size, scale: s.Scale}
	if kind == avroRecord || kind == avroEnum || kind == avroFixed {
		name := s.Name
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			space = name[:i]
		} else {
			if space = s.Namespace; space != "" {
				name = space + "." + name
			}
		}
		c.named[name] = n // before its fields, which may be of it
	}
	var err error
	switch kind {
	case avroRecord:
		for i := range s.Fields {
			f := &s.Fields[i]
			node, err := c.compile(&f.Type, space)
			if err != nil {
				return nil, fmt.Errorf("field %s: %w", f.Name, err)
			}
			n.fields = append(n.fields, avroField{append(appendText(nil, []byte(f.Name)), ':'), node})
		}
	case avroEnum:
		for _, symbol := range s.Symbols {
			n.symbols = append(n.symbols, appendText(nil, []byte(symbol)))
		}
	case avroArray:
		n.items, err = c.compile(s.Items, space)
	case avroMap:
		n.items, err = c.compile(s.Values, space)
	case avroUnion:
		for i := range s.Branches {
			node, err := c.compile(&s.Branches[i], space)
			if err != nil {
				return nil, err
			}
			n.branches = append(n.branches, node)
		}
	}
	return n, err
}

var (
	errAvroShort = errors.New("it ends early")
	errAvroLong  = fmt.Errorf("it becomes more than %d bytes of JSON", avroJSON)
	errAvroDeep  = fmt.Errorf("it is nested more than %d deep", avroDepth)
)

// json returns a value as JSON. All of it must be the value.
func (s *avroSchema) json(value []byte) ([]byte, error) {
	r := avroReader{in: value, out: make([]byte, 0, 2*len(value)+64)}
	if err := r.value(s.root, 0); err != nil {
		return nil, err
	}
	if len(r.in) > 0 {
		return nil, fmt.Errorf("%d bytes stand after it", len(r.in))
	}
	return r.out, nil
}

type avroReader struct {
	in, out []byte
}

func (r *avroReader) long() (int64, error) {
	v, n := binary.Varint(r.in)
	if n <= 0 {
		return 0, errAvroShort
	}
	r.in = r.in[n:]
	return v, nil
}

func (r *avroReader) take(n int64) ([]byte, error) {
	if n < 0 || n > int64(len(r.in)) {
		return nil, errAvroShort
	}
	b := r.in[:n]
	r.in = r.in[n:]
	return b, nil
}

func (r *avroReader) bytes() ([]byte, error) {
	n, err := r.long()
	if err != nil {
		return nil, err
	}
	return r.take(n)
}

func (r *avroReader) value(n *avroNode, depth int) error {
	if depth > avroDepth {
		return errAvroDeep
	}
	if len(r.out) > avroJSON {
		return errAvroLong
	}
	switch n.kind {
	case avroNull:
		r.out = append(r.out, "null"...)
	case avroBool:
		b, err := r.take(1)
		if err != nil {
			return err
		}
		r.out = strconv.AppendBool(r.out, b[0] != 0)
	case avroInt:
		v, err := r.long()
		if err != nil {
			return err
		}
		r.out = appendInt(r.out, n.logical, v)
	case avroFloat:
		b, err := r.take(4)
		if err != nil {
			return err
		}
		r.out = appendFloat(r.out, float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), 32)
	case avroDouble:
		b, err := r.take(8)
		if err != nil {
			return err
		}
		r.out = appendFloat(r.out, math.Float64frombits(binary.LittleEndian.Uint64(b)), 64)
	case avroBytes:
		b, err := r.bytes()
		if err != nil {
			return err
		}
		r.out = appendBytes(r.out, n, b)
	case avroFixed:
		b, err := r.take(int64(n.size))
		if err != nil {
			return err
		}
		r.out = appendBytes(r.out, n, b)
	case avroString:
		b, err := r.bytes()
		if err != nil {
			return err
		}
		r.out = appendText(r.out, b)
	case avroEnum:
		i, err := r.long()
		if err != nil {
			return err
		}
		if i < 0 || i >= int64(len(n.symbols)) {
			return fmt.Errorf("it has symbol %d of an enum of %d", i, len(n.symbols))
		}
		r.out = append(r.out, n.symbols[i]...)
	case avroUnion:
		i, err := r.long()
		if err != nil {
			return err
		}
		if i < 0 || i >= int64(len(n.branches)) {
			return fmt.Errorf("it has branch %d of a union of %d", i, len(n.branches))
		}
		return r.value(n.branches[i], depth+1)
	case avroRecord:
		r.out = append(r.out, '{')
		for i := range n.fields {
			if i > 0 {
				r.out = append(r.out, ',')
			}
			r.out = append(r.out, n.fields[i].key...)
			if err := r.value(n.fields[i].node, depth+1); err != nil {
				return err
			}
		}
		r.out = append(r.out, '}')
	case avroArray:
		return r.blocks('[', ']', func() error { return r.value(n.items, depth+1) })
	case avroMap:
		return r.blocks('{', '}', func() error {
			key, err := r.bytes()
			if err != nil {
				return err
			}
			r.out = append(appendText(r.out, key), ':')
			return r.value(n.items, depth+1)
		})
	}
	return nil
}

// blocks reads the items of an array or a map: blocks of a count and so many items, until a count of zero. A negative count
// is followed by the block's size in bytes.
func (r *avroReader) blocks(open, end byte, item func() error) error {
	r.out = append(r.out, open)
	for first := true; ; {
		count, err := r.long()
		if err != nil {
			return err
		}
		if count == 0 {
			r.out = append(r.out, end)
			return nil
		}
		if count < 0 {
			if _, err := r.long(); err != nil {
				return err
			}
			if count == math.MinInt64 {
				return errors.New("it has a block of no size")
			}
			count = -count
		}
		for ; count > 0; count-- {
			if !first {
				r.out = append(r.out, ',')
			}
			first = false
			if err := item(); err != nil {
				return err
			}
		}
	}
}

// appendInt appends an int or a long.
func appendInt(out []byte, logical string, v int64) []byte {
	format := func(t time.Time, layout string) []byte {
		if y := t.Year(); y < 0 || y > 9999 {
			return strconv.AppendInt(out, v, 10) // no form of text has it
		}
		out = append(out, '"')
		out = t.UTC().AppendFormat(out, layout)
		return append(out, '"')
	}
	const stamp, clock = "2006-01-02T15:04:05.999999999", "15:04:05.999999999"
	zone := "Z"
	if rest, local := strings.CutPrefix(logical, "local-"); local {
		logical, zone = rest, ""
	}
	switch logical {
	case "date":
		if v >= math.MinInt32 && v <= math.MaxInt32 {
			return format(time.Unix(v*86400, 0), "2006-01-02")
		}
	case "timestamp-millis":
		return format(time.UnixMilli(v), stamp+zone)
	case "timestamp-micros":
		return format(time.UnixMicro(v), stamp+zone)
	case "timestamp-nanos":
		return format(time.Unix(0, v), stamp+zone)
	case "time-millis":
		if v >= 0 && v < 86400_000 {
			return format(time.UnixMilli(v), clock)
		}
	case "time-micros":
		if v >= 0 && v < 86400_000_000 {
			return format(time.UnixMicro(v), clock)
		}
	}
	return strconv.AppendInt(out, v, 10)
}

func appendFloat(out []byte, v float64, bits int) []byte {
	switch {
	case math.IsNaN(v):
		return append(out, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(out, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(out, `"-Infinity"`...)
	}
	return strconv.AppendFloat(out, v, 'g', -1, bits)
}

// maxDecimal bounds the bytes of a decimal that is written as a number: 38 digits are 16.
const maxDecimal = 128

// appendBytes appends bytes or a fixed.
func appendBytes(out []byte, n *avroNode, b []byte) []byte {
	switch {
	case n.logical == "decimal" && len(b) > 0 && len(b) <= maxDecimal && n.scale >= 0 && n.scale <= 8*maxDecimal:
		v := new(big.Int).SetBytes(b)
		if b[0]&0x80 != 0 { // two's complement
			v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
		}
		return appendDecimal(out, v, n.scale)
	case n.logical == "uuid" && len(b) == 16:
		return fmt.Appendf(out, `"%x-%x-%x-%x-%x"`, b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	}
	out = append(out, '"')
	out = base64.StdEncoding.AppendEncode(out, b)
	return append(out, '"')
}

func appendDecimal(out []byte, v *big.Int, scale int) []byte {
	digits := v.String()
	if digits[0] == '-' {
		out, digits = append(out, '-'), digits[1:]
	}
	if scale == 0 {
		return append(out, digits...)
	}
	if pad := scale + 1 - len(digits); pad > 0 {
		digits = strings.Repeat("0", pad) + digits
	}
	point := len(digits) - scale
	out = append(append(out, digits[:point]...), '.')
	return append(out, digits[point:]...)
}

// appendText appends a JSON text. Bytes that are no UTF-8 become U+FFFD.
func appendText(out, s []byte) []byte {
	const hex = "0123456789abcdef"
	out = append(out, '"')
	begin := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(s[i:])
			if r == utf8.RuneError && size == 1 {
				out = append(append(out, s[begin:i]...), "\ufffd"...)
				begin = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		out = append(out, s[begin:i]...)
		switch c {
		case '"', '\\':
			out = append(out, '\\', c)
		case '\n':
			out = append(out, '\\', 'n')
		case '\r':
			out = append(out, '\\', 'r')
		case '\t':
			out = append(out, '\\', 't')
		default:
			out = append(out, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
		i++
		begin = i
	}
	return append(append(out, s[begin:]...), '"')
}
