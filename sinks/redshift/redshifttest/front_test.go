package redshifttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"go.uber.org/goleak"

	"hydrant/e2e/parts"
)

var postgres struct {
	once sync.Once
	is   *Postgres
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if postgres.is != nil {
		postgres.is.Stop()
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func open(t *testing.T, o Options) *Front {
	t.Helper()
	Need(t)
	postgres.once.Do(func() { postgres.is, postgres.err = StartPostgres() })
	if postgres.err != nil {
		t.Fatal(postgres.err)
	}
	o.Postgres = postgres.is
	f, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// dial connects as a client of Redshift has to.
func dial(t *testing.T, f *Front, change func(*pgx.ConnConfig)) (*pgx.Conn, error) {
	t.Helper()
	c, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d dbname=%s user=u password=p sslmode=disable client_encoding=UTF8", f.Host, f.Port, f.Database))
	if err != nil {
		t.Fatal(err)
	}
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	if change != nil {
		change(c)
	}
	conn, err := pgx.ConnectConfig(t.Context(), c)
	if err == nil {
		t.Cleanup(func() { conn.Close(context.Background()) })
	}
	return conn, err
}

func session(t *testing.T, f *Front) *pgx.Conn {
	t.Helper()
	c, err := dial(t, f, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func must(t *testing.T, c *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func state(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

func TestStartUp(t *testing.T) {
	f := open(t, Options{Password: func(user string) (string, bool) { return "p", user == "u" }})
	c := session(t, f)
	if v, e := c.PgConn().ParameterStatus("server_version"), c.PgConn().ParameterStatus("client_encoding"); v != "8.0.2" || e != "UTF8" {
		t.Errorf("version %q, encoding %q", v, e)
	}
	if v := c.PgConn().ParameterStatus("standard_conforming_strings"); v != "" {
		t.Errorf("standard_conforming_strings is %q", v)
	}
	for _, p := range []string{"standard_conforming_strings", "extra_float_digits", "options", "search_path"} {
		if _, err := dial(t, f, func(c *pgx.ConnConfig) { c.RuntimeParams[p] = "on" }); state(err) != "42704" {
			t.Errorf("the parameter %s: %v", p, err)
		}
	}
	plain, err := dial(t, f, func(c *pgx.ConnConfig) { delete(c.RuntimeParams, "client_encoding") })
	if err != nil || plain.PgConn().ParameterStatus("client_encoding") != "UNICODE" {
		t.Errorf("without an encoding: %v", err)
	}
	if _, err := dial(t, f, func(c *pgx.ConnConfig) { c.Password = "q" }); state(err) != "28000" {
		t.Errorf("a wrong password: %v", err)
	}
	if _, err := dial(t, f, func(c *pgx.ConnConfig) { c.Database = "other" }); state(err) != "3D000" {
		t.Errorf("another database: %v", err)
	}
	// What pgx does by default, and the simple mode with arguments, do not work there.
	simple, err := dial(t, f, func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := simple.Exec(t.Context(), "SELECT $1::int", 1); err == nil {
		t.Error("the simple mode interpolates")
	}
	digest := open(t, Options{Digest: true})
	if _, err := dial(t, digest, nil); err == nil || !strings.Contains(err.Error(), "13") {
		t.Errorf("Redshift's digest: %v", err)
	}
	md5 := open(t, Options{MD5: true, Password: func(string) (string, bool) { return "p", true }})
	if _, err := dial(t, md5, nil); err != nil {
		t.Errorf("MD5: %v", err)
	}
	if _, err := dial(t, md5, func(c *pgx.ConnConfig) { c.Password = "q" }); state(err) != "28000" {
		t.Errorf("MD5, a wrong password: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	f := open(t, Options{})
	c := session(t, f)
	must(t, c, "CREATE TABLE t (a int, b varchar(20))", "CREATE TABLE s (a int, b varchar(20))")
	for _, sql := range []string{
		`SELECT E'a\'b'`, "SELECT $$a$$", "SELECT pg_advisory_lock(1)", "SELECT a::uuid FROM t", "SELECT gen_random_uuid()",
		"SAVEPOINT x", "LISTEN x", "DISCARD ALL", "SET standard_conforming_strings TO on", "SHOW standard_conforming_strings",
		"INSERT INTO t VALUES (1, 'x') ON CONFLICT DO NOTHING", "INSERT INTO t VALUES (1, 'x') RETURNING a", "PREPARE TRANSACTION 'x'",
		"CREATE TEMP TABLE x (a int) ON COMMIT DROP", "CREATE INDEX i ON t (a)", "CREATE UNIQUE INDEX i ON t (a)",
		"CREATE TABLE x (a uuid)", "CREATE TABLE x (a jsonb)", "CREATE TABLE x (a bytea)", "CREATE TABLE x (a int[])",
		"COPY t FROM STDIN", "COPY t FROM '/etc/passwd'", "SELECT 1; SELECT 2",
		"MERGE INTO t AS x USING s ON x.a = s.a WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.a, s.b)",
		"MERGE INTO t USING (SELECT * FROM s) AS s ON t.a = s.a WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.a, s.b)",
		"MERGE INTO t USING s ON t.a = s.a WHEN MATCHED AND s.a > 1 THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.a, s.b)",
		"MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE",
		"SELECT 'unterminated",
	} {
		if _, err := c.Exec(t.Context(), sql); state(err) == "" {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for _, sql := range []string{
		"MERGE INTO t USING s AS x ON t.a = x.a WHEN MATCHED THEN UPDATE SET b = x.b WHEN NOT MATCHED THEN INSERT (a, b) VALUES (x.a, x.b)",
		"CREATE TABLE x (a int ENCODE az64, b varchar(max), c super, d varbyte(10), e timestamp DEFAULT SYSDATE, f bigint IDENTITY(1,1)) DISTSTYLE KEY DISTKEY (a) COMPOUND SORTKEY (a, b)",
		"CREATE TEMP TABLE y (LIKE t)", "LOCK t",
	} {
		must(t, c, "BEGIN", sql, "ROLLBACK")
	}
	// A refusal inside a transaction ends it as any error does.
	must(t, c, "BEGIN")
	if _, err := c.Exec(t.Context(), "SAVEPOINT x"); err == nil {
		t.Error("a savepoint is taken")
	}
	if _, err := c.Exec(t.Context(), "SELECT 1"); state(err) != "25P02" {
		t.Errorf("after a refusal: %v", err)
	}
	tag, err := c.Exec(t.Context(), "COMMIT")
	if err != nil || tag.String() != "ROLLBACK" {
		t.Errorf("COMMIT of a failed transaction: %q, %v", tag, err)
	}
	// Backslashes escape.
	var got string
	if err := c.QueryRow(t.Context(), `SELECT 'a\'b\\c''d'`).Scan(&got); err != nil || got != `a'b\c'd` {
		t.Errorf("a literal means %q, %v", got, err)
	}
	// Queries and arguments in the mode that works.
	if err := c.QueryRow(t.Context(), "SELECT $1::varchar", "x").Scan(&got); err != nil || got != "x" {
		t.Errorf("an argument: %q, %v", got, err)
	}
}

func TestKeysAreNotEnforced(t *testing.T) {
	f := open(t, Options{})
	c := session(t, f)
	must(t, c, "CREATE TABLE t (a int NOT NULL PRIMARY KEY, b int UNIQUE)", "CREATE TABLE s (a int, b int, PRIMARY KEY (a, b), UNIQUE (b))",
		"INSERT INTO t VALUES (1, 1)", "INSERT INTO t VALUES (1, 1)", "INSERT INTO s VALUES (1, 1)", "INSERT INTO s VALUES (1, 1)")
	var n int
	if err := c.QueryRow(t.Context(), "SELECT count(*) FROM t, s").Scan(&n); err != nil || n != 4 {
		t.Errorf("%d rows, %v", n, err)
	}
}

// Whoever reads before he locks does not see what the holder of the lock committed; whoever locks first does.
func TestSnapshot(t *testing.T) {
	f := open(t, Options{})
	a, b, d := session(t, f), session(t, f), session(t, f)
	must(t, a, "CREATE TABLE ledger (id int)", "BEGIN", "LOCK ledger", "INSERT INTO ledger VALUES (1)")
	must(t, b, "CREATE TABLE other (id int)", "BEGIN", "SELECT count(*) FROM other") // takes the snapshot
	must(t, d, "BEGIN")
	count := func(c *pgx.Conn, into *int, done chan<- error) {
		_, err := c.Exec(context.Background(), "LOCK ledger")
		if err == nil {
			err = c.QueryRow(context.Background(), "SELECT count(*) FROM ledger").Scan(into)
		}
		c.Exec(context.Background(), "COMMIT")
		done <- err
	}
	var late, first int
	done := make(chan error, 2)
	go count(b, &late, done)
	go count(d, &first, done)
	must(t, a, "COMMIT")
	if err := errors.Join(<-done, <-done); err != nil {
		t.Fatal(err)
	}
	if late != 0 || first != 1 {
		t.Errorf("read before the lock: %d rows, want the old 0; lock first: %d, want 1", late, first)
	}
}

// bucket is a store with objects.
func bucket(t *testing.T, objects map[string]string) *s3.Client {
	t.Helper()
	h := httptest.NewServer(gofakes3.New(s3mem.New(), gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
	c := parts.S3Client(h.URL, "us-east-1", "k", "s")
	if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("stage")}); err != nil {
		t.Fatal(err)
	}
	for key, body := range objects {
		if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("stage"), Key: &key, Body: strings.NewReader(body)}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func compressed(s string) string {
	var b bytes.Buffer
	w, _ := zstd.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

func parquetOf[T any](rows ...T) string {
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b)
	w.Write(rows)
	w.Close()
	return b.String()
}

type pair struct {
	B string `parquet:"b"`
	A int64  `parquet:"a"`
}

func manifest(entries ...string) string { return `{"entries":[` + strings.Join(entries, ",") + `]}` }

func item(key string, length int) string {
	return fmt.Sprintf(`{"url":"s3://stage/%s","mandatory":true,"meta":{"content_length":%d}}`, key, length)
}

func TestCopy(t *testing.T) {
	const arn = "arn:aws:iam::1:role/r"
	jsonl := "{\"a\":1,\"b\":\"x\"}\n{\"B\":\"dropped\",\"a\":2}"
	columnar := parquetOf(pair{"x", 1}, pair{"y", 2})
	f := open(t, Options{Roles: []string{arn}, Keys: map[string]string{"AK": "se"}, Region: "us-east-1", S3: bucket(t, map[string]string{
		"j.json": jsonl, "j.zst": compressed(jsonl), "c.csv": "1,x\n2,\\N\n3,\n", "p.parquet": columnar, "bad.json": "{\"a\":1}\n{\"a\":\"x\"}\n{\"a\":3}",
		"long.json": `{"a":1,"b":"123456789012345678901"}`, "paths.json": `{"jsonpaths":["$.a","$['b']"]}`, "path.json": `{"jsonpaths":["$['a']"]}`,
		"m/json": manifest(item("j.json", len(jsonl))), "m/twice": manifest(item("j.json", len(jsonl)), item("j.json", len(jsonl))),
		"m/parquet": manifest(item("p.parquet", len(columnar))), "m/short": manifest(item("p.parquet", len(columnar)-1)),
		"m/bare": manifest(`{"url":"s3://stage/p.parquet"}`), "m/gone": manifest(item("none", 1)), "m/optional": manifest(`{"url":"s3://stage/none"}`, item("j.json", len(jsonl))),
		"m/prefix": manifest(`{"url":"s3://stage/m/"}`), "m/broken": "{",
	})})
	c := session(t, f)
	must(t, c, "CREATE TABLE t (a bigint, b varchar(20))", "CREATE TABLE need (a bigint, b varchar(20) NOT NULL)", "CREATE TABLE small (a int, b varchar(20))", "CREATE TABLE doc (d super)")
	const role = " IAM_ROLE '" + arn + "' "
	for _, x := range []struct{ sql, want string }{
		{"COPY t (a, b) FROM 's3://stage/m/json'" + role + "FORMAT AS JSON 'auto' MANIFEST", "1 x|2 -"},
		{"COPY t (a, b) FROM 's3://stage/m/json'" + role + "FORMAT AS JSON 'auto ignorecase' MANIFEST", "1 x|2 dropped"},
		{"COPY t (a, b) FROM 's3://stage/m/json'" + role + "JSON AS 's3://stage/paths.json' MANIFEST", "1 x|2 -"},
		{"COPY t (a, b) FROM 's3://stage/m/json'" + role + "JSON AS 's3://stage/path.json' MANIFEST", "XX000 should match"},
		{"COPY t (a) FROM 's3://stage/m/twice'" + role + "JSON 'auto' MANIFEST", "1 -|1 -|2 -|2 -"},
		{"COPY t FROM 's3://stage/m/optional'" + role + "JSON 'auto' MANIFEST", "1 x|2 -"},
		{"COPY t FROM 's3://stage/j.json'" + role + "JSON 'auto'", "1 x|2 -"}, // a prefix
		{"COPY t FROM 's3://stage/j.zst'" + role + "JSON 'auto' ZSTD", "1 x|2 -"},
		{"COPY t FROM 's3://stage/j.zst'" + role + "JSON 'auto'", "XX000 stl_load_errors"},
		{"COPY t FROM 's3://stage/c.csv'" + role + "CSV", "1 x|2 -|3 "},
		{"COPY t FROM 's3://stage/c.csv'" + role + "CSV EMPTYASNULL", "1 x|2 -|3 -"},
		{"COPY t (a, b) FROM 's3://stage/m/parquet'" + role + "FORMAT AS PARQUET MANIFEST", "XX000 incompatible Parquet schema"},
		{"COPY t (b, a) FROM 's3://stage/m/parquet'" + role + "FORMAT AS PARQUET MANIFEST", "1 x|2 y"},
		{"COPY t (b) FROM 's3://stage/m/parquet'" + role + "FORMAT AS PARQUET MANIFEST", "XX000 Unmatched number of columns between table and file. Table columns: 1, Data columns: 2"},
		{"COPY small (b, a) FROM 's3://stage/m/parquet'" + role + "FORMAT AS PARQUET MANIFEST", "XX000 incompatible Parquet schema"},
		{"COPY t (b, a) FROM 's3://stage/m/short'" + role + "FORMAT AS PARQUET MANIFEST", "XX000 content length"},
		{"COPY t (b, a) FROM 's3://stage/m/bare'" + role + "FORMAT AS PARQUET MANIFEST", "XX000 does not have 'meta' key"},
		{"COPY t (b, a) FROM 's3://stage/m/parquet'" + role + "FORMAT AS PARQUET MANIFEST REGION 'us-east-1'", "0A000 REGION argument"},
		{"COPY t (b, a) FROM 's3://stage/m/parquet'" + role + "FORMAT AS PARQUET MANIFEST COMPUPDATE OFF", "0A000 COMPUPDATE"},
		{"COPY t (b, a) FROM 's3://stage/m/parquet'" + role + "FORMAT AS PARQUET MANIFEST GZIP", "0A000 compression"},
		{"COPY t FROM 's3://stage/m/gone'" + role + "JSON 'auto' MANIFEST", "XX000 NoSuchKey"},
		{"COPY t FROM 's3://stage/m/none'" + role + "JSON 'auto' MANIFEST", "XX000 Problem reading manifest"},
		{"COPY t FROM 's3://stage/m/broken'" + role + "JSON 'auto' MANIFEST", "XX000 not in correct json format"},
		{"COPY t FROM 's3://stage/m/prefix'" + role + "JSON 'auto' MANIFEST", "XX000 8001"},
		{"COPY t FROM 's3://stage/bad.json'" + role + "JSON 'auto'", "XX000 stl_load_errors"},
		{"COPY t (a) FROM 's3://stage/bad.json'" + role + "JSON 'auto' MAXERROR 2", "1 -|3 -"},
		{"COPY t FROM 's3://stage/long.json'" + role + "JSON 'auto'", "XX000 stl_load_errors"},
		{"COPY t FROM 's3://stage/long.json'" + role + "JSON 'auto' TRUNCATECOLUMNS", "1 12345678901234567890"},
		{"COPY need (a) FROM 's3://stage/j.json'" + role + "JSON 'auto'", "42601 NOT NULL column without DEFAULT"},
		{"COPY t FROM 's3://stage/j.json' IAM_ROLE 'arn:other' JSON 'auto'", "XX000 not authorized to assume"},
		{"COPY t FROM 's3://stage/j.json' ACCESS_KEY_ID 'AK' SECRET_ACCESS_KEY 'se' JSON 'auto' REGION AS 'us-east-1'", "1 x|2 -"},
		{"COPY t FROM 's3://stage/j.json' ACCESS_KEY_ID 'AK' SECRET_ACCESS_KEY 'no' JSON 'auto'", "XX000 SignatureDoesNotMatch"},
		{"COPY t FROM 's3://stage/j.json'" + role + "JSON 'auto' REGION 'eu-west-1'", "XX000 PermanentRedirect"},
		{"COPY t FROM 's3://stage/j.json' JSON 'auto'", "42601 authorization"},
		{"COPY t FROM 's3://stage/j.json'" + role + "JSON 'auto' NULL AS 'x'", "0A000 NULL"},
		{"COPY t FROM 's3://stage/j.json'" + role + "JSON 'auto' NONSENSE", "42601 nonsense"},
		{"COPY none FROM 's3://stage/j.json'" + role + "JSON 'auto'", "42P01 none"},
		{"COPY t (z) FROM 's3://stage/j.json'" + role + "JSON 'auto'", "42703 z"},
		{"COPY doc FROM 's3://stage/long.json'" + role + "JSON 'noshred'", ""},
	} {
		must(t, c, "BEGIN")
		tag, err := c.Exec(t.Context(), x.sql)
		if code, words, isError := strings.Cut(x.want, " "); isError && len(code) == 5 {
			e, ok := errors.AsType[*pgconn.PgError](err)
			if !ok || e.Code != code || !strings.Contains(strings.ToLower(e.Message+e.Detail), strings.ToLower(words)) {
				t.Errorf("%s: %v\nwant %s", x.sql, err, x.want)
			}
			must(t, c, "ROLLBACK")
			continue
		}
		if err != nil || tag.String() != "COPY" {
			t.Errorf("%s: tag %q, %v (%+v)", x.sql, tag, err, err)
			must(t, c, "ROLLBACK")
			continue
		}
		var got string
		if err := c.QueryRow(t.Context(), "SELECT coalesce(string_agg(a::text || ' ' || coalesce(b, '-'), '|' ORDER BY a), '') FROM t").Scan(&got); err != nil || got != x.want {
			t.Errorf("%s: %q, %v, want %q", x.sql, got, err, x.want)
		}
		var n int64
		if err := c.QueryRow(t.Context(), "SELECT pg_last_copy_count()").Scan(&n); err != nil || x.want != "" && n != int64(strings.Count(x.want, "|")+1) {
			t.Errorf("%s: pg_last_copy_count is %d, %v", x.sql, n, err)
		}
		must(t, c, "ROLLBACK")
	}
	var file, column string
	var line, code int
	if err := c.QueryRow(t.Context(), "SELECT TRIM(file_name), line_number, TRIM(column_name), error_code FROM sys_load_error_detail WHERE TRIM(file_name) LIKE '%bad.json' LIMIT 1").Scan(&file, &line, &column, &code); err != nil ||
		file != "s3://stage/bad.json" || line != 2 || column != "a" || code != 1207 {
		t.Errorf("the view has %s line %d column %s code %d, %v", file, line, column, code, err)
	}
	// Not by way of the extended protocol.
	rows, err := c.Query(t.Context(), "COPY t FROM 's3://stage/j.json'"+role+"JSON 'auto'")
	if err == nil {
		rows.Close()
		err = rows.Err()
	}
	if state(err) != "XX000" {
		t.Errorf("COPY by the extended protocol: %v", err)
	}
}

func TestCancel(t *testing.T) {
	f := open(t, Options{})
	holder, waiter := session(t, f), session(t, f)
	must(t, holder, "CREATE TABLE t (a int)", "BEGIN", "LOCK t")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		r := waiter.PgConn().Exec(context.WithoutCancel(ctx), "LOCK t")
		_, err := r.ReadAll()
		done <- err
	}()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err := waiter.PgConn().CancelRequest(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			cancel()
			if err == nil {
				t.Error("the statement was not cancelled")
			}
			return
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("a cancel request does nothing")
		}
	}
}

func FuzzLex(f *testing.F) {
	for _, s := range []string{"SELECT 'a\\'b''c', \"x\"\"y\" -- c\n/* d */", "COPY t (a) FROM 's3://b/m' IAM_ROLE 'r' MANIFEST", "MERGE INTO t USING s ON t.a = s.a", "CREATE TABLE t (a int, PRIMARY KEY (a)) SORTKEY (a)", "$a$", "'\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tokens, problem := lex(s)
		if problem != "" {
			return
		}
		at := 0
		for _, x := range tokens {
			if x.from < at || x.to <= x.from || x.to > len(s) {
				t.Fatalf("token %+v of %q", x, s)
			}
			at = x.to
		}
		refuse(tokens)
		rewrite(s, tokens)
		if len(tokens) > 0 && tokens[0].is("copy") {
			parseCopy(tokens)
		}
	})
}
