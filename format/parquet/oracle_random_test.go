package parquet_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"hydrant/format"
	"hydrant/format/parquet"
)

// maker draws schemas and JSON that fits them. It keeps to values that DuckDB's JSON reader takes as this
// package does: no numbers in strings, no rounding, text no longer than declared.
type maker struct {
	*rand.Rand
}

func (m maker) chance(percent int) bool { return m.IntN(100) < percent }

// typ draws a type at most depth types deep.
func (m maker) typ(depth int) format.Type {
	if depth > 1 && m.chance(45) {
		switch m.IntN(4) {
		case 0, 1:
			elem := m.typ(depth - 1)
			return format.Type{Kind: format.Array, Elem: &elem}
		case 2:
			key := format.Type{Kind: []format.Kind{format.String, format.Int, format.Date, format.BigInt}[m.IntN(4)]}
			elem := m.typ(depth - 1)
			return format.Type{Kind: format.Map, Key: &key, Elem: &elem}
		default:
			return format.Type{Kind: format.Struct, Fields: m.fields(1+m.IntN(4), depth-1)}
		}
	}
	t := format.Type{Kind: format.Boolean + format.Kind(m.IntN(int(format.Timestamp)))}
	switch t.Kind {
	case format.Decimal:
		t.Precision = 1 + m.IntN(format.MaxPrecision)
		t.Scale = m.IntN(t.Precision + 1)
	case format.Char, format.VarChar:
		t.Length = 1 + m.IntN(12)
	}
	return t
}

func (m maker) fields(n, depth int) []format.Field {
	out := make([]format.Field, n)
	for i := range out {
		out[i] = format.Field{Name: fmt.Sprintf("%c%d", 'a'+m.IntN(26), i), Type: m.typ(depth)}
	}
	return out
}

// object draws members for the fields: some are missing, some unknown, in any order.
func (m maker) object(dst []byte, fields []format.Field) []byte {
	dst = append(dst, '{')
	comma := func() {
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
	}
	shuffled := m.chance(30)
	order := make([]int, len(fields))
	for i := range order {
		order[i] = i
	}
	if shuffled {
		m.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	for _, i := range order {
		if m.chance(8) {
			comma()
			dst = append(dst, `"unknown":{"x":[1,"}",null]}`...)
		}
		if m.chance(12) {
			continue
		}
		comma()
		dst = strconv.AppendQuote(dst, fields[i].Name)
		dst = append(dst, ':')
		dst = m.value(dst, fields[i].Type)
	}
	return append(dst, '}')
}

func (m maker) value(dst []byte, t format.Type) []byte {
	if m.chance(12) {
		return append(dst, "null"...)
	}
	switch t.Kind {
	case format.Array:
		dst = append(dst, '[')
		for i := range m.length() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = m.value(dst, *t.Elem)
		}
		return append(dst, ']')
	case format.Map:
		dst = append(dst, '{')
		for i := range m.length() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(m.key(dst, t.Key.Kind, i), ':')
			dst = m.value(dst, *t.Elem)
		}
		return append(dst, '}')
	case format.Struct:
		return m.object(dst, t.Fields)
	}
	return m.leaf(dst, t)
}

// length of an array or a map: mostly short, sometimes long enough to fill a page.
func (m maker) length() int {
	switch {
	case m.chance(25):
		return 0
	case m.chance(2):
		return 100 + m.IntN(200)
	}
	return 1 + m.IntN(4)
}

// key is the i-th key of a map, unlike its others.
func (m maker) key(dst []byte, kind format.Kind, i int) []byte {
	switch kind {
	case format.Int, format.BigInt:
		return fmt.Appendf(dst, `"%d"`, i*1000-m.IntN(1000))
	case format.Date:
		return fmt.Appendf(dst, `"%04d-%02d-%02d"`, 1900+i, 1+m.IntN(12), 1+m.IntN(28))
	}
	return fmt.Appendf(dst, `"%s%d"`, []string{"k", "ключ", "", `\"`, "k.k"}[m.IntN(5)], i)
}

func (m maker) leaf(dst []byte, t format.Type) []byte {
	integer := func(bits int) []byte {
		v := int64(m.Uint64()) >> (64 - bits) >> m.IntN(bits)
		return strconv.AppendInt(dst, v, 10)
	}
	switch t.Kind {
	case format.Boolean:
		return strconv.AppendBool(dst, m.chance(50))
	case format.TinyInt:
		return integer(8)
	case format.SmallInt:
		return integer(16)
	case format.Int:
		return integer(32)
	case format.BigInt:
		return integer(64)
	case format.Float:
		return strconv.AppendFloat(dst, float64(m.IntN(2_000_001)-1_000_000)/64, 'f', -1, 32)
	case format.Double:
		switch m.IntN(3) {
		case 0:
			return strconv.AppendFloat(dst, m.NormFloat64()*1e3, 'g', -1, 64)
		case 1:
			return strconv.AppendFloat(dst, m.NormFloat64()*[]float64{1e-300, 1e-12, 1e22, 1e300}[m.IntN(4)], 'e', -1, 64)
		}
		return fmt.Appendf(dst, "%d.%02d", m.IntN(1000), m.IntN(100))
	case format.Decimal:
		return m.decimal(dst, t)
	case format.Date:
		return fmt.Appendf(dst, `"%04d-%02d-%02d"`, 1+m.IntN(9999), 1+m.IntN(12), 1+m.IntN(28))
	case format.Timestamp:
		// A date before 1970 makes a fraction count from below.
		dst = fmt.Appendf(dst, `"%04d-%02d-%02d%c%02d:%02d:%02d`, 1600+m.IntN(700), 1+m.IntN(12), 1+m.IntN(28), "T "[m.IntN(2)], m.IntN(24), m.IntN(60), m.IntN(60))
		if n := m.IntN(7); n > 0 {
			dst = fmt.Appendf(dst, ".%0*d", n, m.IntN([]int{1, 10, 100, 1000, 10_000, 100_000, 1_000_000}[n]))
		}
		return append(dst, []string{`"`, `Z"`}[m.IntN(2)]...)
	case format.Binary:
		return m.text(dst, 20, "abcXYZ 019")
	case format.Char, format.VarChar:
		return m.text(dst, t.Length, "abcé日😀\"\\\n\t/")
	}
	switch {
	case m.chance(30): // for dictionaries
		return strconv.AppendQuote(dst, []string{"red", "green", "blue", "", "a longer word than fits inline"}[m.IntN(5)])
	case m.chance(1):
		return m.text(dst, 5000, "abcdefghij")
	}
	return m.text(dst, 30, "abcé日😀\"\\\n\t/\x00\u2028")
}

// text draws a JSON string of up to n of the characters, some escaped that need not be.
func (m maker) text(dst []byte, n int, characters string) []byte {
	set := []rune(characters)
	dst = append(dst, '"')
	for range m.IntN(n + 1) {
		r := set[m.IntN(len(set))]
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '/' && m.chance(50):
			dst = append(dst, `\/`...)
		case r == '\n':
			dst = append(dst, `\n`...)
		case r < 0x20 || r < 0x10000 && m.chance(5):
			dst = fmt.Appendf(dst, `\u%04x`, r)
		case r >= 0x10000 && m.chance(20):
			r -= 0x10000
			dst = fmt.Appendf(dst, `\u%04X\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			dst = append(dst, string(r)...)
		}
	}
	return append(dst, '"')
}

// decimal draws digits that fit: in a string for DuckDB's sake, whose JSON reader takes numbers through a
// double, or as a number where few digits make that exact.
func (m maker) decimal(dst []byte, t format.Type) []byte {
	whole, fraction := m.IntN(t.Precision-t.Scale+1), m.IntN(t.Scale+1)
	var b strings.Builder
	if m.chance(50) {
		b.WriteByte('-')
	}
	if whole == 0 {
		b.WriteByte('0')
	}
	for range whole {
		b.WriteByte(byte('1' + m.IntN(9)))
	}
	if fraction > 0 {
		b.WriteByte('.')
		for range fraction {
			b.WriteByte(byte('0' + m.IntN(10)))
		}
	}
	if whole+t.Scale > 15 || m.chance(20) {
		return strconv.AppendQuote(dst, b.String())
	}
	return append(dst, b.String()...)
}

// Schemas nobody thought of, with nulls, gaps and empty lists at every level, across many pages and row
// groups.
func TestOracleRandomSchemas(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	duck := oneThread(t)
	for seed := range 40 {
		m := maker{rand.New(rand.NewPCG(uint64(seed), 77))}
		schema := &format.Schema{Fields: m.fields(1+m.IntN(8), 4)}
		lines := make([][]byte, 1+m.IntN(400))
		for i := range lines {
			lines[i] = m.object(nil, schema.Fields)
		}
		o := parquet.Options{
			Schema:      schema,
			Compression: []parquet.Compression{parquet.None, parquet.Snappy, parquet.Zstd, parquet.Gzip}[m.IntN(4)],
			Encodings:   []parquet.Encodings{parquet.Compatible, parquet.Modern}[m.IntN(2)],
		}
		if m.chance(70) {
			o.RowGroup, o.Page = parquet.MinRowGroup<<m.IntN(4), parquet.MinPage<<m.IntN(3)
		}
		path, refused := convert(t, o, lines)
		if len(refused) > 0 {
			t.Errorf("seed %d, schema %s: line %d was refused: %.500s", seed, schema, refused[0], lines[refused[0]])
			continue
		}
		sameRows(t, duck, parquetTable(schema, path), jsonTable(schema, jsonFile(t, lines)))
		if t.Failed() {
			t.Fatalf("seed %d, schema %s, %s %s, row group %d, page %d", seed, schema, o.Compression, o.Encodings, o.RowGroup, o.Page)
		}
	}
}
