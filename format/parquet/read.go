package parquet

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	pqgo "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	pq "github.com/parquet-go/parquet-go/format"
)

// ReadRows reads up to max rows (all of them when max is negative) of a Parquet file, ours or another's,
// and returns each as one JSON object with the columns in order. Times are RFC 3339 in UTC, decimals are
// numbers with all their digits, bytes that are no UTF-8 are {"base64": "..."}, and numbers that JSON
// lacks are the strings "NaN", "Infinity" and "-Infinity".
func ReadRows(r io.ReaderAt, size int64, max int) (rows [][]byte, err error) {
	// The reader is made for sound files and may panic on others, which a person may well inspect.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("read rows of a Parquet file: %v", p)
		}
	}()
	f, err := openFile(r, size)
	if err != nil {
		return nil, err
	}
	v, err := newView(f.Metadata().Schema)
	if err != nil {
		return nil, err
	}
	buf := make([]pqgo.Row, 64)
	for _, g := range f.RowGroups() {
		in := g.Rows()
		for max < 0 || len(rows) < max {
			n, err := in.ReadRows(buf)
			for _, row := range buf[:n] {
				if max >= 0 && len(rows) >= max {
					break
				}
				text, err := v.row(row)
				if err != nil {
					in.Close()
					return rows, fmt.Errorf("row %d: %w", len(rows), err)
				}
				rows = append(rows, text)
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				in.Close()
				return rows, fmt.Errorf("read row %d: %w", len(rows), err)
			}
		}
		if err := in.Close(); err != nil {
			return rows, fmt.Errorf("read rows of a Parquet file: %w", err)
		}
	}
	return rows, nil
}

// CountRows is the number of rows of a Parquet file, ours or another's, as its footer has it.
func CountRows(r io.ReaderAt, size int64) (n int64, err error) {
	defer func() {
		if p := recover(); p != nil { // see ReadRows
			err = fmt.Errorf("damaged Parquet file: %v", p)
		}
	}()
	f, err := openFile(r, size)
	if err != nil {
		return 0, err
	}
	return f.NumRows(), nil
}

// openFile checks what the reader takes on trust: it makes room for a footer as long as the file says.
func openFile(r io.ReaderAt, size int64) (*pqgo.File, error) {
	var tail [8]byte
	if size < int64(len(magic)+len(tail)) {
		return nil, fmt.Errorf("a file of %d bytes is no Parquet file", size)
	}
	if _, err := r.ReadAt(tail[:], size-int64(len(tail))); err != nil {
		return nil, fmt.Errorf("read the end of a Parquet file of %d bytes: %w", size, err)
	}
	if string(tail[4:]) != magic {
		return nil, fmt.Errorf("no Parquet file: it ends in %q where %q is expected", tail[4:], magic)
	}
	if n := int64(binary.LittleEndian.Uint32(tail[:])); n > size-int64(len(magic)+len(tail)) {
		return nil, fmt.Errorf("damaged Parquet file: a footer of %d bytes in a file of %d", n, size)
	}
	f, err := pqgo.OpenFile(r, size, pqgo.SkipBloomFilters(true))
	if err != nil {
		return nil, fmt.Errorf("open a Parquet file of %d bytes: %w", size, err)
	}
	return f, nil
}

// view turns the columns of a row back into what they were taken from, by their levels.
type view struct {
	root   *viewNode
	leaves []*viewNode
	cells  [][]pqgo.Value // of the row at hand, by column; shortened as they are used
	out    []byte
}

// viewNode is one element of a file's schema.
type viewNode struct {
	e        *pq.SchemaElement
	def, rep int
	first    int // its first column
	columns  int
	children []*viewNode
}

func newView(elements []pq.SchemaElement) (*view, error) {
	v := &view{}
	rest := elements
	var read func(def, rep, depth int) (*viewNode, error)
	read = func(def, rep, depth int) (*viewNode, error) {
		if len(rest) == 0 || depth > 1000 {
			return nil, errors.New("the file's schema is not a tree")
		}
		n := &viewNode{e: &rest[0], def: def, rep: rep, first: len(v.leaves)}
		rest = rest[1:]
		if depth > 0 {
			switch n.e.RepetitionType.V {
			case pq.Optional:
				n.def++
			case pq.Repeated:
				n.def++
				n.rep++
			}
		}
		if !n.e.NumChildren.Valid {
			v.leaves = append(v.leaves, n)
		}
		for range n.e.NumChildren.V {
			child, err := read(n.def, n.rep, depth+1)
			if err != nil {
				return nil, err
			}
			n.children = append(n.children, child)
		}
		n.columns = len(v.leaves) - n.first
		return n, nil
	}
	var err error
	v.root, err = read(0, 0, 0)
	return v, err
}

func (v *view) row(row pqgo.Row) ([]byte, error) {
	v.cells = make([][]pqgo.Value, len(v.leaves))
	for from := 0; from < len(row); {
		to := from
		for to < len(row) && row[to].Column() == row[from].Column() {
			to++
		}
		v.cells[row[from].Column()] = row[from:to]
		from = to
	}
	v.out = nil
	if err := v.fields(v.root); err != nil {
		return nil, err
	}
	return v.out, nil
}

func (v *view) fields(n *viewNode) error {
	v.out = append(v.out, '{')
	for i, c := range n.children {
		if i > 0 {
			v.out = append(v.out, ',')
		}
		v.out = appendQuoted(v.out, c.e.Name)
		v.out = append(v.out, ':')
		if err := v.field(c); err != nil {
			return err
		}
	}
	v.out = append(v.out, '}')
	return nil
}

// peek is the next cell of the node's first column.
func (v *view) peek(n *viewNode) (pqgo.Value, error) {
	if n.columns == 0 || len(v.cells[n.first]) == 0 {
		return pqgo.Value{}, fmt.Errorf("column %q has fewer values than the others", n.e.Name)
	}
	return v.cells[n.first][0], nil
}

// drop passes over one cell of each column of n.
func (v *view) drop(n *viewNode) {
	for i := n.first; i < n.first+n.columns; i++ {
		if len(v.cells[i]) > 0 {
			v.cells[i] = v.cells[i][1:]
		}
	}
}

func (v *view) field(n *viewNode) error {
	cell, err := v.peek(n)
	if err != nil {
		return err
	}
	if n.e.RepetitionType.V == pq.Repeated {
		return v.repeated(n, func() error { return v.content(n) })
	}
	if cell.DefinitionLevel() < n.def {
		v.drop(n)
		v.out = append(v.out, "null"...)
		return nil
	}
	return v.content(n)
}

// content writes a value that is there.
func (v *view) content(n *viewNode) error {
	if len(n.children) == 0 {
		cell, err := v.peek(n)
		if err != nil {
			return err
		}
		v.drop(n)
		v.out = appendValue(v.out, n.e, cell)
		return nil
	}
	if len(n.children) == 1 && n.children[0].e.RepetitionType.V == pq.Repeated {
		inner := n.children[0]
		switch {
		case n.isMap() && len(inner.children) == 2:
			return v.mapping(inner)
		case n.isList() && len(inner.children) == 1:
			return v.repeated(inner, func() error { return v.field(inner.children[0]) })
		case n.isList():
			return v.repeated(inner, func() error { return v.content(inner) })
		}
	}
	return v.fields(n)
}

func (n *viewNode) isList() bool {
	_, ok := n.e.LogicalType.Value.(*pq.ListType)
	return ok || n.e.ConvertedType.Valid && n.e.ConvertedType.V == deprecated.List
}

func (n *viewNode) isMap() bool {
	_, ok := n.e.LogicalType.Value.(*pq.MapType)
	return ok || n.e.ConvertedType.Valid && (n.e.ConvertedType.V == deprecated.Map || n.e.ConvertedType.V == deprecated.MapKeyValue)
}

// each calls element for every element of the repeated node n.
func (v *view) each(n *viewNode, element func(i int) error) error {
	for i := 0; ; i++ {
		cell, err := v.peek(n)
		if err != nil {
			return err
		}
		if cell.DefinitionLevel() < n.def {
			v.drop(n)
			return nil
		}
		if err := element(i); err != nil {
			return err
		}
		if left := v.cells[n.first]; len(left) == 0 || left[0].RepetitionLevel() != n.rep {
			return nil
		}
	}
}

func (v *view) repeated(n *viewNode, element func() error) error {
	v.out = append(v.out, '[')
	err := v.each(n, func(i int) error {
		if i > 0 {
			v.out = append(v.out, ',')
		}
		return element()
	})
	v.out = append(v.out, ']')
	return err
}

func (v *view) mapping(n *viewNode) error {
	v.out = append(v.out, '{')
	err := v.each(n, func(i int) error {
		if i > 0 {
			v.out = append(v.out, ',')
		}
		from := len(v.out)
		if err := v.field(n.children[0]); err != nil {
			return err
		}
		if key := string(v.out[from:]); !strings.HasPrefix(key, `"`) {
			v.out = appendQuoted(v.out[:from], key)
		}
		v.out = append(v.out, ':')
		return v.field(n.children[1])
	})
	v.out = append(v.out, '}')
	return err
}

func appendQuoted(dst []byte, s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic("bug: a string that has no JSON: " + err.Error())
	}
	return append(dst, b...)
}

func appendValue(dst []byte, e *pq.SchemaElement, v pqgo.Value) []byte {
	switch v.Kind() {
	case pqgo.Boolean:
		return strconv.AppendBool(dst, v.Boolean())
	case pqgo.Int32, pqgo.Int64:
		return appendInteger(dst, e, v)
	case pqgo.Int96:
		t := v.Int96()
		nanos := int64(t[0]) | int64(t[1])<<32
		return appendTime(dst, time.Unix((int64(int32(t[2]))-julianEpoch)*daySeconds, nanos))
	case pqgo.Float:
		return appendReal(dst, float64(v.Float()), 32)
	case pqgo.Double:
		return appendReal(dst, v.Double(), 64)
	}
	b := v.ByteArray()
	if d, ok := e.LogicalType.Value.(*pq.DecimalType); ok {
		return appendUnscaled(dst, signed(b), int(d.Scale))
	}
	if !utf8.Valid(b) {
		dst = append(dst, `{"base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, b)
		return append(dst, `"}`...)
	}
	return appendQuoted(dst, string(b))
}

func appendInteger(dst []byte, e *pq.SchemaElement, v pqgo.Value) []byte {
	n := int64(v.Int32())
	if v.Kind() == pqgo.Int64 {
		n = v.Int64()
	}
	switch t := e.LogicalType.Value.(type) {
	case *pq.DateType:
		dst = append(dst, '"')
		dst = time.Unix(n*daySeconds, 0).UTC().AppendFormat(dst, "2006-01-02")
		return append(dst, '"')
	case *pq.TimestampType:
		switch t.Unit.Value.(type) {
		case *pq.MilliSeconds:
			return appendTime(dst, time.UnixMilli(n))
		case *pq.MicroSeconds:
			return appendTime(dst, time.UnixMicro(n))
		case *pq.NanoSeconds:
			return appendTime(dst, time.Unix(0, n))
		}
	case *pq.DecimalType:
		return appendUnscaled(dst, big.NewInt(n), int(t.Scale))
	case *pq.IntType:
		if !t.IsSigned {
			if v.Kind() == pqgo.Int32 {
				n = int64(v.Uint32())
			}
			return strconv.AppendUint(dst, uint64(n), 10)
		}
	}
	return strconv.AppendInt(dst, n, 10)
}

func appendTime(dst []byte, t time.Time) []byte {
	dst = append(dst, '"')
	dst = t.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"')
}

func appendReal(dst []byte, f float64, bits int) []byte {
	switch {
	case f != f:
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, bits)
}

// signed reads a big-endian two's complement number.
func signed(b []byte) *big.Int {
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return n
}

// appendUnscaled writes n × 10^-scale with all its digits.
func appendUnscaled(dst []byte, n *big.Int, scale int) []byte {
	if n.Sign() < 0 {
		dst = append(dst, '-')
	}
	digits := new(big.Int).Abs(n).String()
	if scale <= 0 {
		return append(dst, digits...)
	}
	if pad := scale + 1 - len(digits); pad > 0 {
		digits = strings.Repeat("0", pad) + digits
	}
	dst = append(dst, digits[:len(digits)-scale]...)
	dst = append(dst, '.')
	return append(dst, digits[len(digits)-scale:]...)
}

// decode is a bound as statistics have it, as a value.
func decode(e *pq.SchemaElement, b []byte) (v pqgo.Value, ok bool) {
	switch {
	case e.Type.V == pq.Boolean && len(b) == 1:
		return pqgo.BooleanValue(b[0] != 0), true
	case e.Type.V == pq.Int32 && len(b) == 4:
		return pqgo.Int32Value(int32(binary.LittleEndian.Uint32(b))), true
	case e.Type.V == pq.Int64 && len(b) == 8:
		return pqgo.Int64Value(int64(binary.LittleEndian.Uint64(b))), true
	case e.Type.V == pq.Float && len(b) == 4:
		return pqgo.FloatValue(math.Float32frombits(binary.LittleEndian.Uint32(b))), true
	case e.Type.V == pq.Double && len(b) == 8:
		return pqgo.DoubleValue(math.Float64frombits(binary.LittleEndian.Uint64(b))), true
	case e.Type.V == pq.ByteArray || e.Type.V == pq.FixedLenByteArray:
		return pqgo.ByteArrayValue(b), true
	}
	return v, false
}
