// Package ddl writes the statements that make a table over a stream's objects, for the engines that read them.
//
// A schema and the layout of the objects flow in; text for one engine flows out. Nothing is asked and nothing is made:
// the same table has the same text each time.
package ddl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"hydrant/format"
)

// Engine is who the text is for.
type Engine string

const (
	Redshift Engine = "redshift"
	Athena   Engine = "athena"
	Trino    Engine = "trino"
	DuckDB   Engine = "duckdb"
	Glue     Engine = "glue"
)

// Engines are all of them.
var Engines = []Engine{Athena, Trino, DuckDB, Redshift, Glue}

// Table is what is described.
type Table struct {
	Name     string // table, or schema.table for the engines that have schemas
	Schema   *format.Schema
	Location string // URL or path that all objects begin with; ends in a slash
	Layout   *Layout
	// Ledger is a statement that goes with the table in Redshift.
	Ledger string
}

// Write gives the text for an engine.
func Write(e Engine, t Table) (string, error) {
	if t.Layout == nil {
		t.Layout = &Layout{}
	}
	for _, p := range t.Layout.Partitions {
		for _, f := range t.Schema.Fields {
			if e != Redshift && strings.EqualFold(f.Name, p.Name) {
				return "", fmt.Errorf("the folder %s= of the prefix has the name of a column, and a table cannot have both: rename one", p.Name)
			}
		}
	}
	switch e {
	case Redshift:
		return t.redshift(), nil
	case Athena:
		return t.athena(), nil
	case Trino:
		return t.trino(), nil
	case DuckDB:
		return t.duckdb(), nil
	case Glue:
		return t.glue()
	}
	return "", fmt.Errorf("the engine %q is none of %v", e, Engines)
}

// name quotes each part of the table's name.
func (t *Table) name(quote string) string {
	var parts []string
	for p := range strings.SplitSeq(t.Name, ".") {
		parts = append(parts, quoted(p, quote))
	}
	return strings.Join(parts, ".")
}

func quoted(s, quote string) string {
	return quote + strings.ReplaceAll(s, quote, quote+quote) + quote
}

func text(s string) string { return quoted(s, "'") }

// list is lines with commas between.
func list(lines []string) string { return "  " + strings.Join(lines, ",\n  ") }

// redshift pairs types as COPY of Parquet wants them. A text has four bytes a character at most.
func (t *Table) redshift() string {
	var columns []string
	for _, f := range t.Schema.Fields {
		columns = append(columns, quoted(strings.ToLower(f.Name), `"`)+" "+redshiftType(f.Type))
	}
	out := "CREATE TABLE IF NOT EXISTS " + strings.ToLower(t.name(`"`)) + " (\n" + list(columns) + "\n);\n"
	if t.Ledger != "" {
		out += "\n-- Which objects are loaded. It is written in the transaction that loads them.\n" + t.Ledger + ";\n"
	}
	return out
}

const redshiftVarchar = 65535 // the widest, in bytes

func redshiftType(t format.Type) string {
	switch t.Kind {
	case format.Boolean:
		return "BOOLEAN"
	case format.TinyInt, format.SmallInt:
		return "SMALLINT"
	case format.Int:
		return "INTEGER"
	case format.BigInt:
		return "BIGINT"
	case format.Float:
		return "REAL"
	case format.Double:
		return "DOUBLE PRECISION"
	case format.Decimal:
		return fmt.Sprintf("DECIMAL(%d,%d)", t.Precision, t.Scale)
	case format.Char, format.VarChar:
		return fmt.Sprintf("VARCHAR(%d)", min(4*t.Length, redshiftVarchar))
	case format.Binary:
		return "VARBYTE"
	case format.Date:
		return "DATE"
	case format.Timestamp:
		return "TIMESTAMP"
	case format.String:
		return fmt.Sprintf("VARCHAR(%d)", redshiftVarchar)
	}
	return "SUPER"
}

const (
	parquetInput  = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"
	parquetOutput = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"
	parquetSerDe  = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
)

func (t *Table) athena() string {
	var b strings.Builder
	var columns, partitions, properties []string
	for _, f := range t.Schema.Fields {
		columns = append(columns, quoted(f.Name, "`")+" "+f.Type.String())
	}
	for _, p := range t.Layout.Partitions {
		partitions = append(partitions, quoted(p.Name, "`")+" "+p.hiveType())
	}
	fmt.Fprintf(&b, "CREATE EXTERNAL TABLE IF NOT EXISTS %s (\n%s\n)\n", t.name("`"), list(columns))
	if len(partitions) > 0 {
		fmt.Fprintf(&b, "PARTITIONED BY (\n%s\n)\n", list(partitions))
	}
	fmt.Fprintf(&b, "STORED AS PARQUET\nLOCATION %s\n", text(t.Location))
	for _, p := range t.properties() {
		properties = append(properties, text(p[0])+" = "+text(p[1]))
	}
	fmt.Fprintf(&b, "TBLPROPERTIES (\n%s\n);\n", list(properties))
	return b.String()
}

// properties are those of a table whose partitions are computed and never registered.
func (t *Table) properties() [][2]string {
	out := [][2]string{{"classification", "parquet"}}
	if len(t.Layout.Partitions) == 0 {
		return out
	}
	out = append(out, [2]string{"projection.enabled", "true"})
	for _, p := range t.Layout.Partitions {
		for _, v := range p.projection() {
			out = append(out, [2]string{"projection." + p.Name + "." + v[0], v[1]})
		}
	}
	return append(out, [2]string{"storage.location.template", t.Location + t.Layout.Template})
}

func (t *Table) trino() string {
	var columns, names, properties []string
	for _, f := range t.Schema.Fields {
		columns = append(columns, quoted(strings.ToLower(f.Name), `"`)+" "+trinoType(f.Type))
	}
	for _, p := range t.Layout.Partitions {
		names = append(names, text(p.Name))
		var with []string
		for _, v := range p.projection() {
			value := text(v[1])
			switch v[0] {
			case "type":
				value = text(strings.ToUpper(v[1]))
			case "range":
				from, to, _ := strings.Cut(v[1], ",")
				value = "ARRAY[" + text(from) + ", " + text(to) + "]"
			case "digits", "interval":
				value = v[1]
			}
			with = append(with, "partition_projection_"+strings.ReplaceAll(v[0], ".", "_")+" = "+value)
		}
		typ := "varchar"
		if p.hiveType() == "int" {
			typ = "integer"
		}
		columns = append(columns, quoted(p.Name, `"`)+" "+typ+" WITH ("+strings.Join(with, ", ")+")")
	}
	properties = append(properties, "format = 'PARQUET'", "external_location = "+text(t.Location))
	if len(names) > 0 {
		properties = append(properties, "partitioned_by = ARRAY["+strings.Join(names, ", ")+"]", "partition_projection_enabled = true",
			"partition_projection_location_template = "+text(t.Location+t.Layout.Template))
	}
	return "CREATE TABLE IF NOT EXISTS " + strings.ToLower(t.name(`"`)) + " (\n" + list(columns) + "\n)\nWITH (\n" + list(properties) + "\n);\n"
}

func trinoType(t format.Type) string {
	switch t.Kind {
	case format.Int:
		return "integer"
	case format.Float:
		return "real"
	case format.String:
		return "varchar"
	case format.Binary:
		return "varbinary"
	case format.Array:
		return "array(" + trinoType(*t.Elem) + ")"
	case format.Map:
		return "map(" + trinoType(*t.Key) + ", " + trinoType(*t.Elem) + ")"
	case format.Struct:
		var members []string
		for _, f := range t.Fields {
			members = append(members, quoted(f.Name, `"`)+" "+trinoType(f.Type))
		}
		return "row(" + strings.Join(members, ", ") + ")"
	}
	return t.String()
}

func (t *Table) duckdb() string {
	var columns, types []string
	for _, f := range t.Schema.Fields {
		columns = append(columns, fmt.Sprintf("%s::%s AS %[1]s", quoted(f.Name, `"`), duckType(f.Type)))
	}
	for _, p := range t.Layout.Partitions {
		if p.folder {
			columns = append(columns, quoted(p.Name, `"`))
			types = append(types, text(p.Name)+": VARCHAR")
		}
	}
	hive := "hive_partitioning = false"
	if len(types) > 0 {
		hive = "hive_partitioning = true, hive_types = {" + strings.Join(types, ", ") + "}"
	}
	return "CREATE OR REPLACE VIEW " + t.name(`"`) + " AS\nSELECT\n" + list(columns) + "\nFROM read_parquet(" + text(t.Location+t.Layout.glob()+"*.parquet") + ", " + hive + ", union_by_name = true);\n"
}

func duckType(t format.Type) string {
	switch t.Kind {
	case format.Int:
		return "INTEGER"
	case format.Decimal:
		return fmt.Sprintf("DECIMAL(%d,%d)", t.Precision, t.Scale)
	case format.String, format.Char, format.VarChar:
		return "VARCHAR"
	case format.Binary:
		return "BLOB"
	case format.Array:
		return duckType(*t.Elem) + "[]"
	case format.Map:
		return "MAP(" + duckType(*t.Key) + ", " + duckType(*t.Elem) + ")"
	case format.Struct:
		var members []string
		for _, f := range t.Fields {
			members = append(members, quoted(f.Name, `"`)+" "+duckType(f.Type))
		}
		return "STRUCT(" + strings.Join(members, ", ") + ")"
	}
	return strings.ToUpper(t.String())
}

type glueColumn struct {
	Name string
	Type string
}

// glue is the input of Glue's CreateTable.
func (t *Table) glue() (string, error) {
	type serde struct {
		SerializationLibrary string
		Parameters           map[string]string
	}
	type storage struct {
		Columns      []glueColumn
		Location     string
		InputFormat  string
		OutputFormat string
		SerdeInfo    serde
	}
	name := t.Name[strings.LastIndexByte(t.Name, '.')+1:]
	in := struct {
		Name              string
		TableType         string
		Parameters        map[string]string
		PartitionKeys     []glueColumn
		StorageDescriptor storage
	}{
		Name: strings.ToLower(name), TableType: "EXTERNAL_TABLE", Parameters: map[string]string{"EXTERNAL": "TRUE"}, PartitionKeys: []glueColumn{},
		StorageDescriptor: storage{Location: t.Location, InputFormat: parquetInput, OutputFormat: parquetOutput, SerdeInfo: serde{parquetSerDe, map[string]string{"serialization.format": "1"}}},
	}
	for _, p := range t.properties() {
		in.Parameters[p[0]] = p[1]
	}
	for _, f := range t.Schema.Fields {
		in.StorageDescriptor.Columns = append(in.StorageDescriptor.Columns, glueColumn{strings.ToLower(f.Name), strings.ToLower(f.Type.String())})
	}
	for _, p := range t.Layout.Partitions {
		in.PartitionKeys = append(in.PartitionKeys, glueColumn{p.Name, p.hiveType()})
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(in); err != nil {
		return "", fmt.Errorf("write the table for Glue: %w", err)
	}
	return b.String(), nil
}

// Layout is how the part of a key after the literal beginning is made.
type Layout struct {
	Literal    string // what the prefix begins with, up to the last slash before its first expression
	Template   string // what follows, with ${name} for values; ends in a slash
	Partitions []Partition
}

// Partition is a value in the key.
type Partition struct {
	Name    string
	pattern string // of a time; "": a partition key
	folder  bool   // the whole folder is name=value
}

var (
	expression = regexp.MustCompile(`!\{([a-zA-Z]+):([^}]*)\}`)
	folderName = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)=!\{[^}]*\}$`)
)

// ParseLayout reads a prefix, which is valid as such.
func ParseLayout(prefix string) (*Layout, error) {
	if !strings.Contains(prefix, "!{") {
		prefix += "!{timestamp:yyyy/MM/dd/HH}/"
	}
	first := strings.Index(prefix, "!{")
	cut := strings.LastIndexByte(prefix[:first], '/') + 1
	l := &Layout{Literal: prefix[:cut]}
	rest := prefix[cut:]
	end := strings.LastIndexByte(rest, '/') + 1
	if strings.LastIndexByte(rest, '}') >= end {
		return nil, fmt.Errorf("the prefix %q ends inside of a name and not with a slash, so that no folder holds the objects of a partition: end it with /", prefix)
	}
	rest = rest[:end]
	names := map[string]bool{}
	for folder := range strings.SplitSeq(splitSafe(rest), "\x00") {
		if folder == "" {
			continue
		}
		m := folderName.FindStringSubmatch(folder)
		var problem error
		made := expression.ReplaceAllStringFunc(folder, func(x string) string {
			e := expression.FindStringSubmatch(x)
			p := Partition{folder: m != nil}
			switch e[1] {
			case "timestamp":
				p.pattern = e[2]
				p.Name = "datetime"
			case "partitionKeyFromQuery", "partitionKeyFromLambda":
				p.Name = strings.ToLower(e[2])
			default:
				problem = fmt.Errorf("%s in the prefix has values that nobody can compute, and no table can have such partitions", x)
				return ""
			}
			if m != nil {
				p.Name = strings.ToLower(m[1])
			}
			for base, n := p.Name, 2; names[p.Name]; n++ {
				p.Name = fmt.Sprintf("%s_%d", base, n)
			}
			names[p.Name] = true
			if p.pattern != "" && p.projection() == nil {
				problem = fmt.Errorf("%s in the prefix is a time that tables cannot compute: it begins with yyyy and goes on to MM, dd and HH in that order, or is one of MM, dd, HH and mm", x)
			}
			l.Partitions = append(l.Partitions, p)
			return "${" + p.Name + "}"
		})
		if problem != nil {
			return nil, problem
		}
		l.Template += made + "/"
	}
	return l, nil
}

// splitSafe puts a NUL in the place of slashes that are not inside of an expression.
func splitSafe(s string) string {
	b := []byte(s)
	inside := false
	for i, c := range b {
		switch {
		case c == '{':
			inside = true
		case c == '}':
			inside = false
		case c == '/' && !inside:
			b[i] = 0
		}
	}
	return string(b)
}

var datePattern = regexp.MustCompile(`^yyyy(?:([^a-zA-Z']*)MM(?:([^a-zA-Z']*)dd(?:([^a-zA-Z']*)HH)?)?)?$`)

// numbers are parts of a date that stand alone.
var numbers = map[string]string{"MM": "1,12", "dd": "1,31", "HH": "0,23", "mm": "0,59"}

// projection says how the values are computed, as Athena's properties have it; nil: they cannot be.
func (p *Partition) projection() [][2]string {
	switch {
	case p.pattern == "":
		return [][2]string{{"type", "injected"}}
	case numbers[p.pattern] != "":
		return [][2]string{{"type", "integer"}, {"range", numbers[p.pattern]}, {"digits", "2"}}
	case !datePattern.MatchString(p.pattern):
		return nil
	}
	unit := "YEARS"
	for _, u := range [][2]string{{"MM", "MONTHS"}, {"dd", "DAYS"}, {"HH", "HOURS"}} {
		if strings.Contains(p.pattern, u[0]) {
			unit = u[1]
		}
	}
	return [][2]string{{"type", "date"}, {"format", p.pattern}, {"range", "NOW-3YEARS,NOW"}, {"interval", "1"}, {"interval.unit", unit}}
}

func (p *Partition) hiveType() string {
	if numbers[p.pattern] != "" {
		return "int"
	}
	return "string"
}

// glob matches the folders of the template.
func (l *Layout) glob() string {
	out := l.Template
	for _, p := range l.Partitions {
		out = strings.ReplaceAll(out, "${"+p.Name+"}", "*"+strings.Repeat("/*", strings.Count(p.pattern, "/")))
	}
	return out
}
