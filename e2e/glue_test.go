package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hydrant/e2e/parts"
)

// Streams take their columns from a Glue catalog, made with boto3: one that is created over the API and one of the
// configuration file. They follow the table when they are told to, go on with what they have when the catalog is
// gone, and what was put is in the store as DuckDB reads it. What waits when the columns change gets the new ones.
func TestGlueTables(t *testing.T) {
	python, duck := parts.Boto3(t), parts.DuckDB(t)
	catalog := parts.Moto(t)
	store := parts.MinIO(t)
	store.CreateBucket(t, "lake")
	streams := func(endpoint, more string) string {
		return fmt.Sprintf("aws: { endpoints: { s3: %q, glue: %q } }\nstreams:\n", store.Endpoint, endpoint) + more
	}
	const byTable = `  - { name: file, format: { parquet: { schema: { glue: { database: web, table: clicks } } } }, destination: { s3: { bucket: lake, prefix: "file/" } } }` + "\n"
	d := configure(t, strings.Replace(streams(catalog, ""), "streams:", "streams: []", 1))
	d.env = []string{"AWS_ACCESS_KEY_ID=" + store.AccessKey, "AWS_SECRET_ACCESS_KEY=" + store.SecretKey}
	d.start()
	step := func(what string, args ...string) {
		t.Helper()
		run(t, python, append([]string{"clients/glue.py", what, d.api, catalog}, args...)...)
		if t.Failed() {
			t.FailNow()
		}
	}
	file := filepath.Join(t.TempDir(), "rows")
	put := func(stream string, rows ...string) {
		t.Helper()
		writeLines(t, file, rows)
		step("put", stream, file)
	}
	row := func(id int, more string) string {
		return fmt.Sprintf(`{"ID":%d,"at":"2026-11-25 10:00:00","price":"1.50","user":{"name":"n%d","tags":["x","y"]},"dt":"2026-11-25"%s}`, id, id, more)
	}
	step("create", "api", "lake")
	d.reconfigure(streams(catalog, byTable))
	d.reload("applied")
	put("api", row(1, ""), row(2, `,"country":"de"`), `{"id":"no number"}`)
	put("file", row(1, ""))

	step("widen")
	d.reload("applied")
	step("follow", "api")
	put("api", row(3, `,"country":"deu"`))
	put("file", row(2, `,"country":"fr"`))
	d.flush("api")

	step("update", "api")
	put("api", row(4, `,"country":"at"`))

	// Without the catalog the streams go on, and a restart does.
	if code := d.stop(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	d.reconfigure(streams("http://"+freeAddress(t), byTable))
	d.env = append(d.env, "AWS_MAX_ATTEMPTS=1")
	d.start()
	if log := d.log.String(); strings.Count(log, "goes on with the columns that it had") != 2 {
		t.Errorf("the log does not say that tables could not be read:\n%s", tail(log, 4000))
	}
	put("api", row(5, ""))
	for _, stream := range []string{"api", "file"} {
		d.flush(stream)
	}
	d.balance("api", 6, 1)
	d.balance("file", 2, 0)

	bucket := filepath.Join(t.TempDir(), "lake")
	store.Fetch(t, "lake", bucket)
	glob := func(dir string) string {
		return "read_parquet(" + parts.SQL(filepath.Join(bucket, dir, "**", "*.parquet")) + ", union_by_name = true)"
	}
	query := func(sql, want string) {
		t.Helper()
		if got := fmt.Sprint(duck.Query(sql)); got != want {
			t.Errorf("%s\n got %s\nwant %s", sql, got, want)
		}
	}
	query("select string_agg(id || ' ' || price || ' ' || strftime(\"at\", '%Y-%m-%d %H:%M:%S') || ' ' || \"user\".name || ' ' || \"user\".tags[2] || ' ' || coalesce(country, '-'), ', ' order by id) s from "+glob("clicks"),
		"[map[s:1 1.50 2026-11-25 10:00:00 n1 y -, 2 1.50 2026-11-25 10:00:00 n2 y de, 3 1.50 2026-11-25 10:00:00 n3 y de, 4 1.50 2026-11-25 10:00:00 n4 y -, 5 1.50 2026-11-25 10:00:00 n5 y -]]")
	query("select string_agg(id || ' ' || coalesce(country, '-'), ', ' order by id) s from "+glob("file"), "[map[s:1 -, 2 fr]]")
	query("select string_agg(column_name, ' ') s from (describe select * from "+glob("file")+")", "[map[s:id at price user country]]")
	errors := walk(t, filepath.Join(bucket, "errors", "format-conversion-failed"))
	if len(errors) != 1 {
		t.Fatalf("error objects %v", errors)
	}
	if b, err := os.ReadFile(errors[0]); err != nil || !strings.Contains(string(b), "DataFormatConversion.MalformedData") ||
		!strings.Contains(string(b), `"dataCatalogTable":{"catalogId":"000000000000","databaseName":"web","tableName":"clicks","region":"us-east-1","versionId":"LATEST","catalogArn":null}`) {
		t.Errorf("error output %s, %v", b, err)
	}
}
