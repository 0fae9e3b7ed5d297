package ddl

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hydrant/e2e/parts"
	"hydrant/format"
	"hydrant/format/parquet"
	"hydrant/record"
)

func schema(t *testing.T, text string) *format.Schema {
	t.Helper()
	s, err := format.ParseDDL(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const columns = "event_id string, Ts timestamp, price decimal(10,2), `user` struct<id:bigint,tags:array<string>>"

func table(t *testing.T, prefix string) Table {
	t.Helper()
	l, err := ParseLayout(prefix)
	if err != nil {
		t.Fatal(err)
	}
	return Table{Name: "web.clicks", Schema: schema(t, columns), Location: "s3://lake/" + l.Literal, Layout: l, Ledger: "CREATE TABLE x"}
}

func TestWrite(t *testing.T) {
	in := table(t, "clicks/customer=!{partitionKeyFromQuery:customer}/dt=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/")
	for engine, want := range map[Engine]string{
		Redshift: `CREATE TABLE IF NOT EXISTS "web"."clicks" (
  "event_id" VARCHAR(65535),
  "ts" TIMESTAMP,
  "price" DECIMAL(10,2),
  "user" SUPER
);

-- Which objects are loaded. It is written in the transaction that loads them.
CREATE TABLE x;
`,
		Athena: "CREATE EXTERNAL TABLE IF NOT EXISTS `web`.`clicks` (\n  `event_id` string,\n  `Ts` timestamp,\n  `price` decimal(10,2),\n  `user` struct<id:bigint,tags:array<string>>\n)\n" +
			"PARTITIONED BY (\n  `customer` string,\n  `dt` string,\n  `hour` int\n)\nSTORED AS PARQUET\nLOCATION 's3://lake/clicks/'\nTBLPROPERTIES (\n" +
			`  'classification' = 'parquet',
  'projection.enabled' = 'true',
  'projection.customer.type' = 'injected',
  'projection.dt.type' = 'date',
  'projection.dt.format' = 'yyyy-MM-dd',
  'projection.dt.range' = 'NOW-3YEARS,NOW',
  'projection.dt.interval' = '1',
  'projection.dt.interval.unit' = 'DAYS',
  'projection.hour.type' = 'integer',
  'projection.hour.range' = '0,23',
  'projection.hour.digits' = '2',
  'storage.location.template' = 's3://lake/clicks/customer=${customer}/dt=${dt}/hour=${hour}/'
);
`,
		Trino: `CREATE TABLE IF NOT EXISTS "web"."clicks" (
  "event_id" varchar,
  "ts" timestamp,
  "price" decimal(10,2),
  "user" row("id" bigint, "tags" array(varchar)),
  "customer" varchar WITH (partition_projection_type = 'INJECTED'),
  "dt" varchar WITH (partition_projection_type = 'DATE', partition_projection_format = 'yyyy-MM-dd', partition_projection_range = ARRAY['NOW-3YEARS', 'NOW'], partition_projection_interval = 1, partition_projection_interval_unit = 'DAYS'),
  "hour" integer WITH (partition_projection_type = 'INTEGER', partition_projection_range = ARRAY['0', '23'], partition_projection_digits = 2)
)
WITH (
  format = 'PARQUET',
  external_location = 's3://lake/clicks/',
  partitioned_by = ARRAY['customer', 'dt', 'hour'],
  partition_projection_enabled = true,
  partition_projection_location_template = 's3://lake/clicks/customer=${customer}/dt=${dt}/hour=${hour}/'
);
`,
		DuckDB: `CREATE OR REPLACE VIEW "web"."clicks" AS
SELECT
  "event_id"::VARCHAR AS "event_id",
  "Ts"::TIMESTAMP AS "Ts",
  "price"::DECIMAL(10,2) AS "price",
  "user"::STRUCT("id" BIGINT, "tags" VARCHAR[]) AS "user",
  "customer",
  "dt",
  "hour"
FROM read_parquet('s3://lake/clicks/customer=*/dt=*/hour=*/*.parquet', hive_partitioning = true, hive_types = {'customer': VARCHAR, 'dt': VARCHAR, 'hour': VARCHAR}, union_by_name = true);
`,
		Glue: `{
  "Name": "clicks",
  "TableType": "EXTERNAL_TABLE",
  "Parameters": {
    "EXTERNAL": "TRUE",
    "classification": "parquet",
    "projection.customer.type": "injected",
    "projection.dt.format": "yyyy-MM-dd",
    "projection.dt.interval": "1",
    "projection.dt.interval.unit": "DAYS",
    "projection.dt.range": "NOW-3YEARS,NOW",
    "projection.dt.type": "date",
    "projection.enabled": "true",
    "projection.hour.digits": "2",
    "projection.hour.range": "0,23",
    "projection.hour.type": "integer",
    "storage.location.template": "s3://lake/clicks/customer=${customer}/dt=${dt}/hour=${hour}/"
  },
  "PartitionKeys": [
    {
      "Name": "customer",
      "Type": "string"
    },
    {
      "Name": "dt",
      "Type": "string"
    },
    {
      "Name": "hour",
      "Type": "int"
    }
  ],
  "StorageDescriptor": {
    "Columns": [
      {
        "Name": "event_id",
        "Type": "string"
      },
      {
        "Name": "ts",
        "Type": "timestamp"
      },
      {
        "Name": "price",
        "Type": "decimal(10,2)"
      },
      {
        "Name": "user",
        "Type": "struct<id:bigint,tags:array<string>>"
      }
    ],
    "Location": "s3://lake/clicks/",
    "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
    "SerdeInfo": {
      "SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
      "Parameters": {
        "serialization.format": "1"
      }
    }
  }
}
`,
	} {
		if got, err := Write(engine, in); err != nil || got != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", engine, err, got, want)
		}
	}
	if _, err := Write("hive", in); err == nil || !strings.Contains(err.Error(), `"hive" is none of`) {
		t.Errorf("an unknown engine: %v", err)
	}
	in.Schema = schema(t, "DT string")
	if _, err := Write(Athena, in); err == nil || !strings.Contains(err.Error(), "dt=") {
		t.Errorf("a column with the name of a folder: %v", err)
	}
}

func TestLayout(t *testing.T) {
	for in, want := range map[string]string{
		"":                                     " ${datetime}/ datetime",
		"clicks/":                              "clicks/ ${datetime}/ datetime",
		"a/b-":                                 "a/ b-${datetime}/ datetime",
		"a/!{timestamp:yyyy/MM/dd}/":           "a/ ${datetime}/ datetime",
		"a/!{timestamp:yyyy}/!{timestamp:MM}/": "a/ ${datetime}/${datetime_2}/ datetime datetime_2",
		"c=!{partitionKeyFromLambda:C}/x-!{timestamp:yyyyMMdd}/": " c=${c}/x-${datetime}/ c datetime",
		"Dt=!{timestamp:yyyy-MM}/part-/":                         " Dt=${dt}/part-/ dt",
	} {
		l, err := ParseLayout(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		got := l.Literal + " " + l.Template
		for _, p := range l.Partitions {
			got += " " + p.Name
		}
		if got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"!{firehose:random-string}/": "random-string", "!{timestamp:EEE}/": "EEE", "!{timestamp:dd/MM/yyyy}/": "dd/MM/yyyy", "dt=!{timestamp:yyyy}": "slash",
	} {
		if _, err := ParseLayout(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want it to name %s", in, err, want)
		}
	}
}

// The real DuckDB reads what the real encoder wrote, through the view.
func TestDuckDB(t *testing.T) {
	duck := parts.DuckDB(t)
	s := schema(t, "b boolean, i tinyint, s smallint, n int, l bigint, f float, d double, p decimal(5,2), v varchar(9), t string, x binary, day date, at timestamp, u struct<id:bigint,tags:array<string>>, m map<string,int>")
	f, err := parquet.New(parquet.Options{Schema: s})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i, folder := range []string{"dt=2026-01-02/hour=03", "dt=2026-01-02/hour=04"} {
		var b bytes.Buffer
		e := f.NewEncoder()
		e.Reset(&b)
		row := fmt.Sprintf(`{"b":true,"i":%d,"p":1.25,"at":"2026-01-02T03:04:05Z","u":{"id":7,"tags":["x","y"]},"m":{"k":1}}`, i)
		if err := e.Append(record.Row{Data: []byte(row)}); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Close(); err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(dir, "it's", filepath.FromSlash(folder))
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, "a.parquet"), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := ParseLayout("it's/dt=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/")
	if err != nil {
		t.Fatal(err)
	}
	text, err := Write(DuckDB, Table{Name: "clicks", Schema: s, Location: filepath.ToSlash(dir) + "/" + l.Literal, Layout: l})
	if err != nil {
		t.Fatal(err)
	}
	duck.Query(text)
	got := fmt.Sprint(duck.Query("SELECT dt, hour, i, p, u.tags[2] AS tag, m['k'] AS k, CAST(\"at\" AS VARCHAR) AS since FROM clicks WHERE hour = '04'"))
	if want := "[map[dt:2026-01-02 hour:04 i:1 k:1 p:1.25 since:2026-01-02 03:04:05 tag:y]]"; got != want {
		t.Errorf("DuckDB reads %s, want %s", got, want)
	}
}

func FuzzLayout(f *testing.F) {
	for _, s := range []string{"", "a/", "dt=!{timestamp:yyyy-MM-dd}/", "!{partitionKeyFromQuery:k}/x", "!{", "}/!{timestamp:yyyy/MM}/"} {
		f.Add(s)
	}
	s, err := format.ParseDDL("a string")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, prefix string) {
		l, err := ParseLayout(prefix)
		if err != nil {
			return
		}
		for _, e := range Engines {
			Write(e, Table{Name: "t", Schema: s, Location: "s3://b/" + l.Literal, Layout: l})
		}
	})
}
