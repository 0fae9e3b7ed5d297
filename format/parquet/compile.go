package parquet

import (
	"fmt"
	"math"
	"sort"
	"strings"

	pq "github.com/parquet-go/parquet-go/format"

	"hydrant/format"
)

// kind is what the shredder does with a value: one per way of reading, not per Hive type.
type kind uint8

const (
	kindInt       kind = iota // tinyint, smallint, int: 32 bits with a range
	kindBigInt                //
	kindFloat                 //
	kindDouble                //
	kindBoolean               //
	kindString                // string
	kindChars                 // char, varchar: cut at a number of characters
	kindBinary                //
	kindTimestamp             //
	kindDate                  //
	kindDecimal               //
	kindStruct                //
	kindList                  //
	kindMap                   //
)

// node is one type of the schema, where it stands. Levels follow from the layout that Hive writes, in which
// everything but a map's key is optional:
//
//	array<T>    optional group NAME (LIST) { repeated group bag { optional T array_element } }
//	map<K,V>    optional group NAME (MAP)  { repeated group map { required K key; optional V value } }
//
// A node that is null is recorded in each of its columns at definition level def-1, an empty array or map at
// def, the elements of one at def+2 (a key at def+1).
type node struct {
	kind     kind
	def      uint8 // definition level when the value is there
	rep      uint8 // lists and maps: repetition level of the second and later elements
	typ      format.Type
	path     string // for messages: geo.lat, items[].sku, labels{}
	col      *column
	min, max int64 // kindInt
	limit    int   // kindChars: characters

	fields []*node // kindStruct
	keys   keyTable
	seen   []uint64  // stamp of the object in which each field was last met
	elem   *node     // element of a list, value of a map
	key    *node     // of a map
	cols   []*column // all columns under this node, in order
}

// plan is a schema compiled for one encoder, which owns it: nodes remember the order of keys, columns hold
// the open pages.
type plan struct {
	root     *node
	columns  []*column
	elements []pq.SchemaElement
	rest     *column // takes unknown members, or nil
}

type compiler struct {
	o      *Options
	p      *plan
	errs   []string
	mapped map[string]string // column path → JSON key, those not used yet
}

// compile builds the plan of a schema. Its error names every fault.
func compile(o *Options) (*plan, error) {
	c := compiler{o: o, p: &plan{}, mapped: map[string]string{}}
	if o.OpenX != nil {
		for col, key := range o.OpenX.ColumnToJSONKey {
			if key == "" || len(key) > 1024 {
				c.fault("column %q is mapped to a JSON key of %d bytes, must be 1 to 1024", col, len(key))
			}
			c.mapped[col] = key
		}
	}
	if o.Hive != nil {
		for _, f := range o.Hive.TimestampFormats {
			if _, err := compileJoda(f); err != nil {
				c.fault("timestamp format %q: %v", f, err)
			}
		}
	}
	root := &node{kind: kindStruct}
	c.p.root = root
	c.p.elements = append(c.p.elements, pq.SchemaElement{Name: "hive_schema"})
	c.p.elements[0].NumChildren.Set(int32(len(o.Schema.Fields)))
	c.structure(root, o.Schema.Fields, nil, 0, 0)
	unused := make([]string, 0, len(c.mapped))
	for col := range c.mapped {
		unused = append(unused, col)
	}
	sort.Strings(unused)
	for _, col := range unused {
		c.fault("a JSON key is given for column %q, which the schema does not have", col)
	}
	if len(c.errs) > 0 {
		return nil, fmt.Errorf("parquet: %s", strings.Join(c.errs, "; "))
	}
	if o.UnknownFields.Policy == CaptureUnknown {
		for i, f := range o.Schema.Fields {
			if f.Name == o.UnknownFields.Column {
				c.p.rest = root.fields[i].col
			}
		}
	}
	return c.p, nil
}

func (c *compiler) fault(f string, a ...any) { c.errs = append(c.errs, fmt.Sprintf(f, a...)) }

// structure fills in the fields of n, which is at definition level def.
func (c *compiler) structure(n *node, fields []format.Field, path []string, def, rep uint8) {
	first := len(c.p.columns)
	keys := make([]string, len(fields))
	for i, f := range fields {
		sub := append(path[:len(path):len(path)], f.Name)
		dotted := strings.Join(sub, ".")
		keys[i] = f.Name
		if n == c.p.root && c.o.UnknownFields.Policy == CaptureUnknown && f.Name == c.o.UnknownFields.Column {
			keys[i] = "" // read from no key: a member of that name is an unknown one too
		}
		if key, ok := c.mapped[dotted]; ok && !strings.ContainsAny(n.path, "[{") {
			keys[i] = key
			delete(c.mapped, dotted)
		}
		label := f.Name
		if n.path != "" {
			label = n.path + "." + f.Name
		}
		child := c.node(f.Name, label, f.Type, sub, def, rep)
		n.fields = append(n.fields, child)
	}
	n.seen = make([]uint64, len(fields))
	fold, dots := true, false
	if c.o.OpenX != nil {
		fold, dots = !c.o.OpenX.CaseSensitive, c.o.OpenX.DotsToUnderscores
	}
	clash := n.keys.build(keys, fold, dots)
	if clash != [2]int{} {
		c.fault("columns %q and %q read the same JSON key %q", n.fields[clash[0]].path, n.fields[clash[1]].path, keys[clash[1]])
	}
	n.cols = c.p.columns[first:len(c.p.columns):len(c.p.columns)]
}

// node adds a field's elements to the file's schema and its columns to the plan. def and rep are those of
// what surrounds it.
func (c *compiler) node(name, label string, t format.Type, path []string, def, rep uint8) *node {
	n := &node{typ: t, path: label, def: def + 1}
	first := len(c.p.columns)
	switch t.Kind {
	case format.Struct:
		n.kind = kindStruct
		c.group(name, pq.Optional, len(t.Fields), nil)
		c.structure(n, t.Fields, path, n.def, rep)
	case format.Array:
		n.kind, n.rep = kindList, rep+1
		c.group(name, pq.Optional, 1, listType)
		c.group("bag", pq.Repeated, 1, nil)
		n.elem = c.node("array_element", label+"[]", *t.Elem, append(path[:len(path):len(path)], "bag", "array_element"), n.def+1, n.rep)
	case format.Map:
		n.kind, n.rep = kindMap, rep+1
		c.group(name, pq.Optional, 1, mapType)
		c.group("map", pq.Repeated, 2, mapEntryType)
		sub := append(path[:len(path):len(path)], "map")
		// A key is required, so its level is that of the entry: one less than an optional field has.
		n.key = c.leaf("key", label+" key", *t.Key, append(sub[:len(sub):len(sub)], "key"), n.def+1, n.rep, pq.Required)
		n.elem = c.node("value", label+"{}", *t.Elem, append(sub[:len(sub):len(sub)], "value"), n.def+1, n.rep)
	default:
		return c.leaf(name, label, t, path, n.def, rep, pq.Optional)
	}
	n.cols = c.p.columns[first:len(c.p.columns):len(c.p.columns)]
	return n
}

func (c *compiler) leaf(name, label string, t format.Type, path []string, def, rep uint8, r pq.FieldRepetitionType) *node {
	n := &node{typ: t, path: label, def: def}
	col := &column{path: path, maxDef: def, maxRep: rep}
	e := pq.SchemaElement{Name: name}
	e.RepetitionType.Set(r)
	integer := func(low, high int64, bits int8) {
		n.kind, n.min, n.max = kindInt, low, high
		col.physical = pq.Int32
		if bits != 0 {
			setIntType(&e, bits)
		}
	}
	switch t.Kind {
	case format.Boolean:
		n.kind, col.physical = kindBoolean, pq.Boolean
	case format.TinyInt:
		integer(math.MinInt8, math.MaxInt8, 8)
	case format.SmallInt:
		integer(math.MinInt16, math.MaxInt16, 16)
	case format.Int:
		integer(math.MinInt32, math.MaxInt32, 0)
	case format.BigInt:
		n.kind, col.physical = kindBigInt, pq.Int64
	case format.Float:
		n.kind, col.physical = kindFloat, pq.Float
	case format.Double:
		n.kind, col.physical = kindDouble, pq.Double
	case format.String:
		n.kind, col.physical = kindString, pq.ByteArray
		setStringType(&e)
	case format.Char, format.VarChar:
		n.kind, col.physical, n.limit = kindChars, pq.ByteArray, t.Length
		setStringType(&e)
	case format.Binary:
		n.kind, col.physical = kindBinary, pq.ByteArray
	case format.Date:
		n.kind, col.physical = kindDate, pq.Int32
		setDateType(&e)
	case format.Timestamp:
		n.kind, col.physical = kindTimestamp, pq.Int64
		if c.o.Timestamps == Int96 {
			col.physical, col.width = pq.Int96, 12
		} else {
			setTimestampType(&e, c.o.Timestamps)
		}
	case format.Decimal:
		n.kind, col.physical, col.width = kindDecimal, pq.FixedLenByteArray, decimalWidth(t.Precision)
		setDecimalType(&e, t.Precision, t.Scale)
		e.TypeLength.Set(int32(col.width))
	default:
		c.fault("column %q: no Parquet type for %s", label, t)
	}
	e.Type.Set(col.physical)
	col.init(c.o)
	n.col = col
	c.p.elements = append(c.p.elements, e)
	c.p.columns = append(c.p.columns, col)
	n.cols = c.p.columns[len(c.p.columns)-1 : len(c.p.columns) : len(c.p.columns)]
	return n
}

// group adds the element of a group.
func (c *compiler) group(name string, r pq.FieldRepetitionType, children int, annotate func(*pq.SchemaElement)) {
	e := pq.SchemaElement{Name: name}
	e.RepetitionType.Set(r)
	e.NumChildren.Set(int32(children))
	if annotate != nil {
		annotate(&e)
	}
	c.p.elements = append(c.p.elements, e)
}
