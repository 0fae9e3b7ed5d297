package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func schemaOf(t *testing.T, schema, aws string) (*Stream, *Schema) {
	t.Helper()
	f := decode(t, aws+"streams: [ { name: s, destination: { file: { path: /l } }, format: { parquet: { schema: "+schema+" } } } ]\n")
	return &f.Config.Streams[0], &f.Config.Streams[0].Format.Parquet.Schema
}

func TestSchemaSources(t *testing.T) {
	_, s := schemaOf(t, "{ file: tables/clicks.sql }", "")
	if want, err := filepath.Abs("tables/clicks.sql"); err != nil || s.File != want || s.Resolved() {
		t.Errorf("%+v, want the file %s", s, want)
	}
	_, s = schemaOf(t, "{ glue: { database: d, table: t } }", "aws: { region: eu-west-1, endpoints: { glue: 'http://h:1' } }\n")
	if want := (Glue{Database: "d", Table: "t", Version: "LATEST", Region: "eu-west-1", Endpoint: "http://h:1"}); *s.Glue != want || s.Resolved() {
		t.Errorf("%+v, want %+v", s.Glue, want)
	}
	_, s = schemaOf(t, "{ glue: { database: d, table: t, version: 7, catalog_id: c, region: r, endpoint: 'http://i:1' } }", "aws: { region: eu-west-1, endpoints: { glue: 'http://h:1' } }\n")
	if want := (Glue{"d", "t", "7", "c", "r", "http://i:1"}); *s.Glue != want {
		t.Errorf("%+v, want %+v", s.Glue, want)
	}
}

// A specification has what a file said and not its name, and a table with its columns.
func TestSpecOfSchemaSources(t *testing.T) {
	inline, _ := schemaOf(t, "[ a int, b string ]", "")
	file, s := schemaOf(t, "{ file: x }", "")
	s.Resolve([]string{"a int", "b string"}, "")
	if got, want := string(file.Spec()), string(inline.Spec()); got != want || !s.Resolved() {
		t.Errorf("of a file:\n%s\nwant that of the columns:\n%s", got, want)
	}
	table, s := schemaOf(t, "{ glue: { database: d, table: t, catalog_id: c } }", "")
	s.Resolve([]string{"a int"}, "3")
	spec := string(table.Spec())
	if want := `"schema":{"glue":{"database":"d","table":"t","version":"LATEST","catalog_id":"c","region":"us-east-1"},"columns":["a int"],"table_version":"3"}`; !strings.Contains(spec, want) {
		t.Errorf("of a table: %s, want %s in it", spec, want)
	}
	back, err := ParseSpec("s", []byte(spec))
	if err != nil {
		t.Fatal(err)
	}
	if got := &back.Format.Parquet.Schema; string(back.Spec()) != spec || !got.SameTable(s) || got.TableVersion != "3" || fmt.Sprint(got.Columns) != "[a int]" {
		t.Errorf("read back: %+v", got)
	}
	moved, other := schemaOf(t, "{ glue: { database: d, table: t, catalog_id: c, endpoint: 'http://h' } }", "")
	other.Resolve([]string{"a int"}, "3")
	if !other.SameTable(s) || string(moved.Spec()) != spec {
		t.Errorf("an endpoint makes another stream of it: %s", moved.Spec())
	}
	for _, schema := range []string{"[ a int ]", "{ glue: { database: d, table: u, catalog_id: c } }", "{ glue: { database: d, table: t } }", "{ glue: { database: d, table: t, catalog_id: c, version: 3 } }"} {
		if _, other := schemaOf(t, schema, ""); other.SameTable(s) || s.SameTable(other) {
			t.Errorf("%s is taken for the same table", schema)
		}
	}
	for _, c := range []struct{ old, new, want string }{
		{`"columns":["a int"],`, "", "format.parquet.schema: has no columns"},
		{`"table_version"`, `"tabel_version"`, "format.parquet.schema.tabel_version: is not a known key"},
		{`{"glue":`, `{"file":"x","glue":`, "format.parquet.schema.file: is not a known key"},
	} {
		if _, err := ParseSpec("s", []byte(strings.Replace(spec, c.old, c.new, 1))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %s: %v", c.new, c.old, err)
		}
	}
}

// A schema that is too large is found out when it is known.
func TestCheckSize(t *testing.T) {
	f := decode(t, "streams: [ { name: s, destination: { file: { path: /l } }, format: { parquet: { schema: { file: x } } } } ]\n")
	s := &f.Config.Streams[0]
	s.Format.Parquet.Schema.Resolve([]string{""}, "")
	room := maxSpec - len(s.Spec())
	s.Format.Parquet.Schema.Resolve([]string{strings.Repeat("x", room)}, "")
	if faults := f.CheckSize(); len(faults) > 0 {
		t.Errorf("%v", faults)
	}
	s.Format.Parquet.Schema.Resolve([]string{strings.Repeat("x", room+1)}, "")
	if faults := f.CheckSize(); len(faults) != 1 || faults[0].String() != "streams[0]: is described by 61441 bytes (at most 61440; the schema is the largest part)" {
		t.Errorf("%v", faults)
	}
}
