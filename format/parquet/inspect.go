package parquet

import (
	"fmt"
	"io"
	"strings"

	pq "github.com/parquet-go/parquet-go/format"
)

// Info describes a Parquet file. Sizes are in bytes.
type Info struct {
	Size      int64       `json:"size"`
	CreatedBy string      `json:"created_by"`
	Version   int32       `json:"version"`
	Rows      int64       `json:"rows"`
	Schema    string      `json:"schema"` // as a Parquet message
	Groups    []GroupInfo `json:"row_groups"`
}

// GroupInfo describes a row group.
type GroupInfo struct {
	Rows         int64        `json:"rows"`
	Compressed   int64        `json:"compressed"`
	Uncompressed int64        `json:"uncompressed"`
	Columns      []ColumnInfo `json:"columns"`
}

// ColumnInfo describes a column chunk: one column in one row group.
type ColumnInfo struct {
	Path         string   `json:"path"`
	Type         string   `json:"type"`
	Codec        string   `json:"codec"`
	Encodings    []string `json:"encodings"`
	Values       int64    `json:"values"` // with nulls
	Nulls        int64    `json:"nulls"`
	Compressed   int64    `json:"compressed"`
	Uncompressed int64    `json:"uncompressed"`
	Pages        int      `json:"pages"`         // of data; 0 when the file has no page index
	Min          string   `json:"min,omitempty"` // as JSON; long text is cut to a bound
	Max          string   `json:"max,omitempty"`
}

// Inspect describes a Parquet file, ours or another's, from its footer and page index.
func Inspect(r io.ReaderAt, size int64) (info *Info, err error) {
	defer func() {
		if p := recover(); p != nil { // see ReadRows
			info, err = nil, fmt.Errorf("inspect a Parquet file: %v", p)
		}
	}()
	f, err := openFile(r, size)
	if err != nil {
		return nil, err
	}
	m := f.Metadata()
	v, err := newView(m.Schema)
	if err != nil {
		return nil, err
	}
	info = &Info{Size: size, CreatedBy: m.CreatedBy, Version: m.Version, Rows: m.NumRows, Schema: f.Schema().String()}
	offsets := f.OffsetIndexes()
	for gi := range m.RowGroups {
		g := &m.RowGroups[gi]
		group := GroupInfo{Rows: g.NumRows, Uncompressed: g.TotalByteSize, Compressed: g.TotalCompressedSize}
		for ci := range g.Columns {
			c := &g.Columns[ci].MetaData
			e := v.leaves[ci].e
			col := ColumnInfo{
				Path: strings.Join(c.PathInSchema, "."), Type: typeName(e), Codec: c.Codec.String(),
				Values: c.NumValues, Nulls: c.Statistics.NullCount,
				Compressed: c.TotalCompressedSize, Uncompressed: c.TotalUncompressedSize,
			}
			for _, x := range c.Encoding {
				col.Encodings = append(col.Encodings, x.String())
			}
			if at := gi*len(g.Columns) + ci; at < len(offsets) {
				col.Pages = len(offsets[at].PageLocations)
			}
			// An absent bound and an empty one look the same; only both can be told apart.
			if s := &c.Statistics; len(s.MinValue)+len(s.MaxValue) > 0 {
				if low, ok := decode(e, s.MinValue); ok {
					col.Min = string(appendValue(nil, e, low))
				}
				if high, ok := decode(e, s.MaxValue); ok {
					col.Max = string(appendValue(nil, e, high))
				}
			}
			group.Columns = append(group.Columns, col)
		}
		info.Groups = append(info.Groups, group)
	}
	return info, nil
}

// typeName is the type of a column: its logical one where it has one.
func typeName(e *pq.SchemaElement) string {
	name := e.Type.V.String()
	if e.TypeLength.Valid && e.Type.V == pq.FixedLenByteArray {
		name = fmt.Sprintf("%s(%d)", name, e.TypeLength.V)
	}
	if e.LogicalType.Value != nil {
		name += " " + e.LogicalType.String()
	}
	return name
}
