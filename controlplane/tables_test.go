package controlplane

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"hydrant/config"
	"hydrant/firehose"
)

// catalog is Tables in memory. It checks that no stream is being changed while a table is read.
type catalog struct {
	r       *registry
	mu      sync.Mutex
	columns map[string]string // of "database.table", or why there are none, after a "!"
	version string
	reads   []string
}

func (c *catalog) Schema(_ context.Context, t firehose.GlueTable, aws config.AWS) (config.Schema, error) {
	if !c.r.defining.TryLock() {
		c.r.t.Error("a table is read while a stream is being changed")
	} else {
		c.r.defining.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	name := t.Database + "." + t.Table
	c.reads = append(c.reads, name)
	columns, ok := c.columns[name]
	if why, refused := strings.CutPrefix(columns, "!"); refused || !ok {
		return config.Schema{}, &firehose.Error{Code: firehose.CodeInvalidArgument, Message: name + " " + why}
	}
	s := config.Schema{Glue: &config.Glue{Database: t.Database, Table: t.Table, Version: "LATEST", Region: aws.Region}}
	s.Resolve(strings.Split(columns, ", "), c.version)
	return s, nil
}

func (c *catalog) takeReads() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.reads)
	out := strings.Join(c.reads, " ")
	c.reads = nil
	return out
}

func newTablesBench(t *testing.T) (*bench, *catalog) {
	c := &catalog{columns: map[string]string{"db.clicks": "id bigint, `at` timestamp", "db.other": "x int"}, version: "1"}
	b := newBench(t, func(o *Options) { o.Tables = c })
	c.r = b.r
	return b, c
}

// converted is the member by which a stream converts with a table of "db".
func converted(table, more string) string {
	return `"DataFormatConversionConfiguration":{"SchemaConfiguration":{` + someRole + `,"DatabaseName":"db","TableName":"` + table + `"` + more + `},
		"InputFormatConfiguration":{"Deserializer":{"OpenXJsonSerDe":{}}},"OutputFormatConfiguration":{"Serializer":{"ParquetSerDe":{}}}}`
}

// schema is what a stream is stored with.
func (b *bench) schema(name string) string {
	b.t.Helper()
	s, _ := b.r.Definition(name)
	stored, err := readSpec(s.Spec)
	if err != nil {
		b.t.Fatal(err)
	}
	schema, err := stored.schema(name)
	if err != nil {
		b.t.Fatal(err)
	}
	return fmt.Sprintf("%d: %s version %s", s.Version, strings.Join(schema.Columns, ", "), schema.TableVersion)
}

func (b *bench) stored(name, want string) {
	b.t.Helper()
	if got := b.schema(name); got != want {
		b.t.Errorf("%s: %s, want %s", name, got, want)
	}
}

func TestCreateWithTable(t *testing.T) {
	b, c := newTablesBench(t)
	b.made("logs", ","+converted("clicks", ""))
	b.stored("logs", "1: id bigint, `at` timestamp version 1")
	schema := b.describe("logs").Destinations[0].ExtendedS3DestinationDescription["DataFormatConversionConfiguration"].(map[string]any)["SchemaConfiguration"].(map[string]any)
	if schema["DatabaseName"] != "db" || schema["TableName"] != "clicks" || schema["RoleARN"] == nil {
		t.Errorf("described with %v", schema)
	}
	c.columns["db.gone"] = "!is not there"
	b.f("CreateDeliveryStream", create("more", ","+converted("gone", "")), "InvalidArgumentException: db.gone is not there")
	if len(b.Names()) != 1 {
		t.Errorf("streams %q", b.Names())
	}
	c.takeReads()
	// Nothing is asked about a stream that cannot be delivered anyway, or that does not convert.
	if got := b.call("CreateDeliveryStream", create("more", ","+strings.Replace(converted("clicks", ""), `"ParquetSerDe"`, `"OrcSerDe"`, 1))); !strings.Contains(got, "ORC is not written") {
		t.Error(got)
	}
	b.made("plain", ","+strings.Replace(converted("clicks", ""), `{"SchemaConfiguration"`, `{"Enabled":false,"SchemaConfiguration"`, 1))
	if got := c.takeReads(); got != "" {
		t.Errorf("read %s", got)
	}
}

func TestUpdateWithTable(t *testing.T) {
	b, c := newTablesBench(t)
	b.made("logs", ","+converted("clicks", ""))
	c.takeReads()
	c.columns["db.clicks"] = "!cannot be read"
	b.f("UpdateDestination", updateOf("logs", "1", `"Prefix":"a/"`), `{}`)
	b.stored("logs", "2: id bigint, `at` timestamp version 1")
	b.f("UpdateDestination", updateOf("logs", "2", `"Prefix":"b/",`+converted("clicks", "")), `{}`)
	b.stored("logs", "3: id bigint, `at` timestamp version 1")
	if got := c.takeReads(); got != "" {
		t.Errorf("updates that name no other table read %s", got)
	}
	b.f("UpdateDestination", updateOf("logs", "3", converted("other", "")), `{}`)
	b.stored("logs", "4: x int version 1")
	b.f("UpdateDestination", updateOf("logs", "4", converted("gone", "")), "InvalidArgumentException: db.gone ")
	b.f("UpdateDestination", updateOf("logs", "4", converted("clicks", `,"VersionId":"7"`)), "InvalidArgumentException: db.clicks cannot be read")
	b.stored("logs", "4: x int version 1")
	b.f("UpdateDestination", updateOf("logs", "4", `"DataFormatConversionConfiguration":{"Enabled":false}`), `{}`)
	b.stored("logs", "5:  version ")
	c.columns["db.clicks"] = "y int"
	b.f("UpdateDestination", updateOf("logs", "5", converted("clicks", "")), `{}`)
	b.stored("logs", "6: y int version 1")
	b.f("UpdateDestination", updateOf("logs", "5", converted("other", "")),
		"ConcurrentModificationException: Cannot update firehose: logs since the current version id: 6 and specified version id: 5 do not match")
}

func TestAdoptReadsTables(t *testing.T) {
	b, c := newTablesBench(t)
	b.made("logs", ","+converted("clicks", ""))
	b.made("also", ","+converted("clicks", ""))
	b.made("plain", "")
	b.made("leaving", ","+converted("other", ""))
	b.f("DeleteDeliveryStream", `{"DeliveryStreamName":"leaving"}`, `{}`)
	c.takeReads()
	b.r.changes = 0
	adopt := func(aws config.AWS, changes int) {
		t.Helper()
		b.r.changes = 0
		if err := b.Adopt(t.Context(), aws); err != nil || b.r.changes != changes {
			t.Errorf("%v, %d changes, want %d", err, b.r.changes, changes)
		}
	}
	// A new version of the table with the same columns is no change.
	c.version = "2"
	adopt(someAWS, 0)
	if got := c.takeReads(); got != "db.clicks" {
		t.Errorf("read %s", got)
	}
	b.stored("logs", "1: id bigint, `at` timestamp version 1")
	c.columns["db.clicks"], c.version = "id bigint, b int", "3"
	adopt(someAWS, 2)
	b.stored("logs", "2: id bigint, b int version 3")
	b.stored("also", "2: id bigint, b int version 3")
	// A catalog that does not answer changes nothing, and keeps nothing else from changing.
	c.columns["db.clicks"] = "!cannot be read"
	adopt(someAWS, 0)
	aws := someAWS
	aws.Endpoints.S3 = "http://127.0.0.1:9999"
	adopt(aws, 3)
	b.stored("logs", "3: id bigint, b int version 3")
}

// A stream that changed between the reading of tables and its turn keeps the columns of its own table.
func TestAdoptedAfterAnUpdate(t *testing.T) {
	b, c := newTablesBench(t)
	b.made("logs", ","+converted("clicks", ""))
	read := b.reread(t.Context(), b.r.Definitions(), someAWS)
	b.f("UpdateDestination", updateOf("logs", "1", converted("other", "")), `{}`)
	s, _ := b.r.Definition("logs")
	stored, err := readSpec(s.Spec)
	if err != nil {
		t.Fatal(err)
	}
	if schema, err := b.adopted("logs", stored, read); err != nil || strings.Join(schema.Columns, ", ") != "x int" {
		t.Errorf("%+v, %v", schema, err)
	}
	// And one that changed between an update's reading and its turn is not updated.
	c.takeReads()
	u := b.call("UpdateDestination", updateOf("logs", "2", `"Prefix":"x/"`))
	if u != "{}" {
		t.Fatal(u)
	}
	r, err := firehose.DecodeUpdate([]byte(updateOf("logs", "3", converted("clicks", ""))))
	if err != nil {
		t.Fatal(err)
	}
	s, _ = b.r.Definition("logs")
	if _, err := b.updated(r, s, reading{table: firehose.GlueTable{Table: "third"}}); err == nil || !strings.HasPrefix(err.Error(), "ConcurrentModificationException") {
		t.Errorf("an update with what was read of another table: %v", err)
	}
}
