package redshifttest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// parquet loads a file, column by position. Types are paired strictly.
func (l *loader) parquet(e entry, b []byte) error {
	f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return internal(15001, "Spectrum Scan Error", fmt.Sprintf("File '%s' is not a Parquet file: %v", e.url(), err))
	}
	columns := f.Root().Columns()
	if len(columns) != len(l.columns) {
		return internal(15007, "Spectrum Scan Error", fmt.Sprintf("File '%s' has an incompatible Parquet schema: Unmatched number of columns between table and file. Table columns: %d, Data columns: %d", e.url(), len(l.columns), len(columns)))
	}
	nested := false
	for i, c := range columns {
		if !c.Leaf() {
			nested = true
		}
		if problem := l.pair(&l.columns[i], c); problem != "" {
			if strings.HasPrefix(problem, "invalid type length") {
				return internal(15001, "Spectrum Scan Error", fmt.Sprintf("File '%s': %s", e.url(), problem))
			}
			return internal(15007, "Spectrum Scan Error", fmt.Sprintf("File '%s' has an incompatible Parquet schema for column '%s.%s'. Column type: %s, Parquet schema: %s", e.url(), l.s.label, l.columns[i].name, l.columns[i].typ, problem))
		}
	}
	if nested {
		return l.parquetNested(e, f, columns)
	}
	line := int64(0)
	buf := make([]parquet.Row, 256)
	var out []byte
	for _, g := range f.RowGroups() {
		rows := g.Rows()
		for {
			n, err := rows.ReadRows(buf)
			for _, row := range buf[:n] {
				line++
				out = out[:0]
				for i, v := range row {
					if i > 0 {
						out = append(out, '\t')
					}
					t := &l.columns[i]
					var code int
					var reason string
					if out, code, reason = l.leaf(out, t, columns[i], v); code != 0 {
						rows.Close()
						return l.badValue(e, line, t, code, reason, v)
					}
				}
				if err := l.put(append(out, '\n')); err != nil {
					rows.Close()
					return err
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				rows.Close()
				return internal(15001, "Spectrum Scan Error", fmt.Sprintf("File '%s': %v", e.url(), err))
			}
		}
		rows.Close()
	}
	return nil
}

// badValue notes a value that cannot be loaded. What reads Parquet names objects by their address on the web, and says of a
// text that is too long in the client's error what it is, in place of pointing at the view.
func (l *loader) badValue(e entry, line int64, t *target, code int, reason string, v parquet.Value) error {
	address := "https://s3.us-east-1.amazonaws.com/" + e.bucket + "/" + strings.ReplaceAll(e.key, "=", "%3D")
	if code != 1204 {
		return l.bad(rowError{address, line, t, code, reason, ""}, true)
	}
	reason = fmt.Sprintf("The length of the data column %s is longer than the length defined in the table. Table: %d, Data: %d", t.name, t.length, len(v.ByteArray()))
	if err := l.bad(rowError{address, line, t, 15007, reason, ""}, true); err == nil {
		return nil
	}
	return internal(15007, "Spectrum Scan Error", reason+", File name: "+address)
}

// pair says why a column of the file cannot be loaded into one of the table, or "".
func (l *loader) pair(t *target, c *parquet.Column) string {
	if t.base == "super" && l.s.has("serializetojson") {
		return ""
	}
	if !c.Leaf() || c.Repeated() {
		return "nested"
	}
	typ := c.Type()
	is := fmt.Sprintf("%s %s", typ.Kind(), typ)
	var logical any
	if lt := typ.LogicalType(); lt != nil {
		logical = lt.Value
	}
	ok := false
	switch t.base {
	case "boolean":
		ok = typ.Kind() == parquet.Boolean
	case "smallint":
		n, isInt := logical.(*format.IntType)
		ok = typ.Kind() == parquet.Int32 && isInt && n.BitWidth <= 16 && n.IsSigned
	case "integer":
		n, isInt := logical.(*format.IntType)
		ok = typ.Kind() == parquet.Int32 && (logical == nil || isInt && n.BitWidth == 32 && n.IsSigned)
	case "bigint":
		n, isInt := logical.(*format.IntType)
		ok = typ.Kind() == parquet.Int64 && (logical == nil || isInt && n.IsSigned)
	case "real":
		ok = typ.Kind() == parquet.Float
	case "double precision":
		ok = typ.Kind() == parquet.Double
	case "numeric":
		d, isDecimal := logical.(*format.DecimalType)
		want := fmt.Sprintf("numeric(%d,%d)", 0, 0)
		if isDecimal {
			want = fmt.Sprintf("numeric(%d,%d)", d.Precision, d.Scale)
		}
		if isDecimal && want != t.typ && typ.Kind() == parquet.FixedLenByteArray {
			return fmt.Sprintf("invalid type length. Expecting: %s len in file: %s", t.typ, want)
		}
		ok = isDecimal && want == t.typ && typ.Kind() == parquet.FixedLenByteArray
	case "character varying", "character", "super":
		_, isString := logical.(*format.StringType)
		ok = typ.Kind() == parquet.ByteArray && isString
	case "bytea":
		ok = typ.Kind() == parquet.ByteArray && logical == nil
	case "date":
		_, isDate := logical.(*format.DateType)
		ok = isDate
	case "timestamp without time zone", "timestamp with time zone":
		n, isTime := logical.(*format.TimestampType)
		if isTime {
			_, isMicros := n.Unit.Value.(*format.MicroSeconds)
			isTime = isMicros
		}
		ok = isTime || typ.Kind() == parquet.Int96
	}
	if ok {
		return ""
	}
	return is
}

// leaf adds a value of a flat column in COPY's text format.
func (l *loader) leaf(out []byte, t *target, c *parquet.Column, v parquet.Value) ([]byte, int, string) {
	if v.IsNull() {
		if t.notNull {
			return out, 1213, "Missing data for not-null field"
		}
		return append(out, `\N`...), 0, ""
	}
	switch v.Kind() {
	case parquet.Boolean:
		return strconv.AppendBool(out, v.Boolean()), 0, ""
	case parquet.Int32:
		if t.base == "date" {
			return time.Unix(int64(v.Int32())*86400, 0).UTC().AppendFormat(out, "2006-01-02"), 0, ""
		}
		return strconv.AppendInt(out, int64(v.Int32()), 10), 0, ""
	case parquet.Int64:
		if strings.HasPrefix(t.base, "timestamp") {
			return time.UnixMicro(v.Int64()).UTC().AppendFormat(out, "2006-01-02 15:04:05.999999"), 0, ""
		}
		return strconv.AppendInt(out, v.Int64(), 10), 0, ""
	case parquet.Int96:
		n := v.Int96()
		return time.Unix((int64(n[2])-2440588)*86400, int64(n[1])<<32|int64(n[0])).UTC().AppendFormat(out, "2006-01-02 15:04:05.999999"), 0, ""
	case parquet.Float:
		return strconv.AppendFloat(out, float64(v.Float()), 'g', -1, 32), 0, ""
	case parquet.Double:
		return strconv.AppendFloat(out, v.Double(), 'g', -1, 64), 0, ""
	case parquet.FixedLenByteArray:
		b := v.ByteArray()
		n := new(big.Int).SetBytes(b)
		if len(b) > 0 && b[0] >= 0x80 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
		}
		scale := 0
		if d, ok := c.Type().LogicalType().Value.(*format.DecimalType); ok {
			scale = int(d.Scale)
		}
		f := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)
		return append(out, new(big.Rat).SetFrac(n, f).FloatString(scale)...), 0, ""
	}
	b := v.ByteArray()
	switch t.base {
	case "bytea":
		return append(append(out, `\\x`...), hex.EncodeToString(b)...), 0, ""
	case "super": // a string becomes a JSON string
		text, err := json.Marshal(string(b))
		if err != nil {
			return out, 1224, err.Error()
		}
		return appendText(out, string(text)), 0, ""
	}
	text, code, reason := l.value(t, string(b))
	if code != 0 {
		return out, code, reason
	}
	return appendText(out, text), 0, ""
}

// parquetNested loads a file with columns inside columns, each as JSON.
func (l *loader) parquetNested(e entry, f *parquet.File, columns []*parquet.Column) error {
	line := int64(0)
	r := parquet.NewGenericReader[any](f, f.Schema())
	defer r.Close()
	plain := parquet.NewReader(f)
	defer plain.Close()
	one := make([]parquet.Row, 1)
	buf := make([]any, 64)
	for {
		n, err := r.Read(buf)
		for _, v := range buf[:n] {
			line++
			if k, err := plain.ReadRows(one); k != 1 {
				return internal(15001, "Spectrum Scan Error", fmt.Sprintf("File '%s': %v", e.url(), err))
			}
			row, ok := v.(map[string]any)
			if !ok {
				return internal(15001, "Spectrum Scan Error", fmt.Sprintf("a row is %T", v))
			}
			var out []byte
			for i, c := range columns {
				if i > 0 {
					out = append(out, '\t')
				}
				t, v := &l.columns[i], row[c.Name()]
				if c.Leaf() { // from the row as it is stored: the other reader rounds decimals
					var value parquet.Value
					for _, x := range one[0] {
						if x.Column() == c.Index() {
							value = x
						}
					}
					var code int
					var reason string
					if out, code, reason = l.leaf(out, t, c, value); code != 0 {
						return l.badValue(e, line, t, code, reason, value)
					}
					continue
				}
				if v == nil {
					out = append(out, `\N`...)
					continue
				}
				text, err := json.Marshal(v)
				if err != nil {
					return internal(15001, "Spectrum Scan Error", err.Error())
				}
				out = appendText(out, string(text))
			}
			if err := l.put(append(out, '\n')); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return internal(15001, "Spectrum Scan Error", fmt.Sprintf("File '%s': %v", e.url(), err))
		}
	}
}
