package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"hydrant/config"
	"hydrant/firehose"
	"hydrant/format"
	"hydrant/format/parquet"
)

// parquetFile is an empty Parquet file with these columns.
func parquetFile(t *testing.T, ddl string) []byte {
	t.Helper()
	schema, err := format.ParseDDL(ddl)
	if err != nil {
		t.Fatal(err)
	}
	f, err := parquet.New(parquet.Options{Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	e := f.NewEncoder()
	e.Reset(&b)
	if _, err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSchemaFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "schema")
	f := func(text, want string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := readSchemaFile(name)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = s.String()
		}
		if got != want {
			t.Errorf("%.60q: %s, want %s", text, got, want)
		}
	}
	f("a int, b string", "a int, b string")
	f("-- the table\nCREATE EXTERNAL TABLE IF NOT EXISTS db.clicks (\n  a int COMMENT 'x',\n  b array<string>\n)\nPARTITIONED BY (dt string)\nSTORED AS PARQUET;\n", "a int, b array<string>")
	f("\ufeff \n{\"type\":\"object\",\"properties\":{\"z\":{\"type\":\"string\"},\"a\":{\"type\":\"integer\"}}}", "z string, a bigint")
	f(string(parquetFile(t, "a map<string,date>, B decimal(9,2)")), "a map<string,date>, B decimal(9,2)")
	f("", "a schema needs at least one column (at the end of the text, character 1); give columns as \"name type, name type\"")
	f("PAR1", "a file of 4 bytes is no Parquet file")
	f("[]", "#: is not a schema; write an object that gives a type")
	f("a int"+strings.Repeat(" ", maxSchemaFile-5), "a int")
	f("a int"+strings.Repeat(" ", maxSchemaFile-4), "read the schema: the file is larger than 1024 KiB")
	if _, err := readSchemaFile(filepath.Dir(name)); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
}

// tables is a Glue catalog of columns by "database.table".
type tables struct {
	mu      sync.Mutex
	columns map[string]string // like "a int, b string"; no entry: EntityNotFoundException
	version int
	denied  bool
}

func (s *tables) set(table, columns string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.columns[table] = columns
}

func (s *tables) drop(table string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.columns, table)
}

func (s *tables) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var in struct{ DatabaseName, Name string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	columns, ok := s.columns[in.DatabaseName+"."+in.Name]
	switch {
	case s.denied:
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"__type":"AccessDeniedException","Message":"Insufficient permission(s) on table."}`)
		return
	case !ok:
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"__type":"EntityNotFoundException","Message":"Entity Not Found"}`)
		return
	}
	type column struct{ Name, Type string }
	var list []column
	for _, c := range strings.Split(columns, ", ") {
		name, typ, _ := strings.Cut(c, " ")
		list = append(list, column{name, typ})
	}
	json.NewEncoder(w).Encode(map[string]any{"Table": map[string]any{"Name": in.Name, "VersionId": fmt.Sprint(s.version), "StorageDescriptor": map[string]any{"Columns": list}}})
}

// newTables starts a catalog and sets the credentials of the environment.
func newTables(t *testing.T) (*tables, *httptest.Server) {
	t.Helper()
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"} {
		t.Setenv(name, value)
	}
	s := &tables{columns: map[string]string{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server
}

const ofTable = `, format: { parquet: { schema: { glue: { database: web, table: %s } }%s } }`

// A running daemon follows its tables when it is told to reload, and goes on with what it has where it cannot.
func TestTablesOfADaemon(t *testing.T) {
	catalog, server := newTables(t)
	catalog.set("web.clicks", "a int, b string")
	aws := fmt.Sprintf("aws: { endpoints: { glue: %q } }\n", server.URL)
	x := startReloadable(t, aws+"streams: []\n")
	one := aws + "streams:\n" + x.stream("clicks", fmt.Sprintf(ofTable, "clicks", ""))
	columns := func(want string, version uint64) {
		t.Helper()
		s := storedSchema(x.r.d.manager.Definition, "clicks")
		if got := strings.Join(s.Columns, ", ") + " of " + s.TableVersion; got != want || x.versions()["clicks"] != version {
			t.Errorf("columns %s in version %d, want %s in %d", got, x.versions()["clicks"], want, version)
		}
	}
	if log := x.reload(one); !strings.Contains(log, "configuration reloaded") {
		t.Fatal(log)
	}
	columns("a int, b string of 1", 1)
	catalog.set("web.other", "a int") // which counts as a new version of every table
	if log := x.reload(one); strings.Contains(log, "level=WARN") {
		t.Error(log)
	}
	columns("a int, b string of 1", 1)
	catalog.set("web.clicks", "a int, c date")
	x.reload(one)
	columns("a int, c date of 3", 2)

	// Columns that the stream's own settings do not fit are a fault of the file.
	if log := x.reload(aws + "streams:\n" + x.stream("clicks", fmt.Sprintf(ofTable, "clicks", ", unknown_fields: { column: a }"))); !strings.Contains(log, "configuration has a fault") || !strings.Contains(log, "is declared int") {
		t.Error(log)
	}
	columns("a int, c date of 3", 2)

	// So is a table that a data directory has no room for.
	var wide []string
	for i := range 4000 {
		wide = append(wide, fmt.Sprintf("column_%04d string", i))
	}
	catalog.set("web.wide", strings.Join(wide, ", "))
	if log := x.reload(strings.Replace(one, "table: clicks", "table: wide", 1)); !strings.Contains(log, "the schema is the largest part") {
		t.Error(log)
	}
	columns("a int, c date of 3", 2)

	catalog.drop("web.clicks")
	if log := x.reload(one); !strings.Contains(log, "goes on with the columns that it had") || !strings.Contains(log, "EntityNotFoundException") || !strings.Contains(log, "configuration reloaded") {
		t.Error(log)
	}
	columns("a int, c date of 3", 2)
	// Another table has nothing that could stand in.
	log := x.reload(strings.Replace(one, "table: clicks", "table: gone", 1))
	if want := "streams[0].format.parquet.schema.glue: read table web.gone of the Glue catalog in us-east-1: EntityNotFoundException: Entity Not Found: \\\"web.gone\\\" (check database, table, version, catalog_id and region)"; !strings.Contains(log, want) {
		t.Errorf("%s\nwants %s", log, want)
	}
	columns("a int, c date of 3", 2)
}

// A start without the catalog goes on with what the data directory has, and refuses what it has not.
func TestStartWithoutTheCatalog(t *testing.T) {
	catalog, server := newTables(t)
	catalog.set("web.clicks", "a int")
	dir := t.TempDir()
	text := func(table string) string {
		return fmt.Sprintf("data_dir: %q\nlimits: { memory: 128MiB, disk: 256MiB }\napi: { listen: '127.0.0.1:0' }\nadmin: { listen: '127.0.0.1:0' }\naws: { endpoints: { glue: %q } }\nstreams:\n  - { name: clicks, destination: { file: { path: %q } }%s }\n",
			filepath.Join(dir, "data"), server.URL, filepath.Join(dir, "lake"), fmt.Sprintf(ofTable, table, ""))
	}
	start := func(table string) (log string, err error) {
		t.Helper()
		file := filepath.Join(dir, "hydrant.yaml")
		if err := os.WriteFile(file, []byte(text(table)), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := (&cli{env: os.LookupEnv}).load(file)
		if err != nil {
			t.Fatal(err)
		}
		var out lockedBuffer
		d := newDaemon(f.Config, slog.New(slog.NewTextHandler(&out, nil)))
		d.file = f
		if err := d.start(); err != nil {
			return out.take(), err
		}
		if err := d.stop(); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
		return out.take(), nil
	}
	if log, err := start("clicks"); err != nil || strings.Contains(log, "level=WARN") {
		t.Fatalf("%v\n%s", err, log)
	}
	server.Close()
	if log, err := start("clicks"); err != nil || !strings.Contains(log, "goes on with the columns that it had") {
		t.Errorf("%v\n%s", err, log)
	}
	_, err := start("other")
	if e, ok := err.(*config.Error); !ok || len(e.Faults) != 1 || e.Faults[0].Path != "streams[0].format.parquet.schema.glue" || e.Faults[0].Line != 7 || !strings.Contains(e.Faults[0].Problem, "connection refused") {
		t.Errorf("a new table: %v", err)
	}
}

// What the API says of tables that cannot be read.
func TestTablesOfTheAPI(t *testing.T) {
	catalog, server := newTables(t)
	catalog.set("db.clicks", "a int, b struct<x:int>")
	catalog.set("db.set", "a set<int>")
	aws := config.AWS{Region: "eu-west-1", RoleARNs: "ignore", Endpoints: config.Endpoints{Glue: server.URL}}
	table := firehose.GlueTable{RoleARN: "arn:aws:iam::000000000000:role/r", Database: "db", Table: "clicks"}
	s, err := catalogs{}.Schema(t.Context(), table, aws)
	if err != nil || strings.Join(s.Columns, ", ") != "a int, b struct<x:int>" || s.TableVersion != "2" || *s.Glue != (config.Glue{Database: "db", Table: "clicks", Version: "LATEST", Region: "eu-west-1", Endpoint: server.URL}) {
		t.Errorf("%+v, %v", s, err)
	}
	f := func(name, want string) {
		t.Helper()
		table.Table = name
		_, err := catalogs{}.Schema(t.Context(), table, aws)
		if err == nil || !strings.HasPrefix(err.Error(), "InvalidArgumentException: "+want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	f("gone", "Entity Not Found: table db.gone (Service: AWSGlue; Error Code: EntityNotFoundException)")
	f("set", `The schema is invalid. Table db.set: column "a": unknown type "set"`)
	table.Region = "@127.0.0.1:9999/"
	f("clicks", `region "@127.0.0.1:9999/" is not the name of a region`)
	table.Region = ""
	catalog.denied = true
	f("clicks", "Access was denied when calling Glue. Please ensure that the role specified in the data format conversion configuration has the necessary permissions. Insufficient permission(s) on table: table db.clicks (Service: AWSGlue; Error Code: AccessDeniedException)")
	server.Close()
	f("clicks", "Table db.clicks cannot be read from the Glue catalog in eu-west-1: ")
}
