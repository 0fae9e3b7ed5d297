package redshift

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hydrant/e2e/parts"
	"hydrant/e2e/parts/faultproxy"
	"hydrant/format"
	"hydrant/format/parquet"
	"hydrant/record"
	"hydrant/sinks"
	"hydrant/sinks/redshift/redshifttest"
	"hydrant/sinks/s3"
	"hydrant/sinks/sinktest"
)

// Objects that cannot be loaded hold back themselves alone, on both kinds of warehouse, and their errors say where and why.
func TestBadObjectsAreFound(t *testing.T) {
	for _, serverless := range []bool{false, true} {
		t.Run(fmt.Sprint(serverless), func(t *testing.T) {
			w := newWorld(t, memoryStore(t), redshifttest.Options{Serverless: serverless}, clicks)
			s := w.open(nil)
			var list []sinks.Part
			bad := map[int]string{2: `{"id":1}` + "\n" + `{"id":"x"}`, 5: `{"id":`, 6: fmt.Sprintf(`{"id":1,"name":%q}`, strings.Repeat("n", 41))}
			for i := range 9 {
				body := fmt.Sprintf(`{"id":%d}`, i)
				if b, is := bad[i]; is {
					body = b
				}
				list = append(list, w.put(s, fmt.Sprintf("m/%d", i), fmt.Sprintf("clicks/%d", i), body, 1))
			}
			errs := s.Finish(t.Context(), list)
			for i, err := range errs {
				_, is := bad[i]
				if (err != nil) != is || is && sinks.ClassOf(err) != sinks.RefusedObject {
					t.Errorf("object %d: %v", i, err)
				}
			}
			e, ok := errors.AsType[*sinks.Error](errs[2])
			if !ok || e.Code != "Redshift.DataLoadFailed" || !strings.Contains(e.Message, "s3://stage/clicks/2, line 2, column id (bigint): Invalid digit") || !strings.Contains(e.Message, "(error 1207)") {
				t.Errorf("the error of object 2 is %+v", e)
			}
			if got := w.ask("SELECT string_agg(id::text, ' ' ORDER BY id) FROM clicks"); got != "0 1 3 4 7 8" {
				t.Errorf("the table has %s", got)
			}
		})
	}
}

// How many rows an object of text has is not known, so MAXERROR must not let COPY leave any out.
func TestRowsThatMAXERRORWouldLose(t *testing.T) {
	for _, unknown := range []bool{false, true} {
		w := newWorld(t, memoryStore(t), redshifttest.Options{}, clicks)
		s := w.open(func(o *Options) { o.CopyOptions = "MAXERROR 10" })
		good, bad := w.put(s, "m/0", "clicks/0", `{"id":1}`, 1), w.put(s, "m/1", "clicks/1", "{\"id\":2}\n{\"id\":\"x\"}", 2)
		if unknown {
			good.Records, bad.Records = -1, -1
		}
		errs := s.Finish(t.Context(), []sinks.Part{good, bad})
		if errs[0] != nil || sinks.ClassOf(errs[1]) != sinks.RefusedObject || !strings.Contains(errs[1].Error(), "clicks/1, line 2") {
			t.Errorf("unknown counts %v: %v", unknown, errs)
		}
		if got := w.ask("SELECT string_agg(id::text, ' ') FROM clicks"); got != "1" {
			t.Errorf("unknown counts %v: the table has %s", unknown, got)
		}
	}
}

func TestMerge(t *testing.T) {
	w := newWorld(t, memoryStore(t), redshifttest.Options{}, `CREATE TABLE clicks (id bigint, name varchar(40), n bigint, at timestamp NOT NULL DEFAULT now())`)
	s := w.open(func(o *Options) {
		o.Columns, o.MergeOn, o.MergeOrder = []string{"id", "name", "n"}, []string{"id"}, []string{"n"}
	})
	w.finish(s, w.put(s, "m/0", "clicks/0", `{"id":1,"name":"a","n":5}{"id":2,"name":"b","n":1}{"id":2,"name":"newer","n":2}`, 3))
	w.finish(s, w.put(s, "m/1", "clicks/1", `{"id":1,"name":"stale","n":4}{"id":2,"name":"newest","n":3}{"id":3,"name":"c","n":1}`, 3))
	if got := w.ask("SELECT id, name, n FROM clicks ORDER BY id"); got != "1 a 5\n2 newest 3\n3 c 1" {
		t.Errorf("the table has\n%s", got)
	}
	// NULL is the lowest of an order, between loads as within one.
	w.finish(s, w.put(s, "m/1n", "clicks/1n", `{"id":1,"name":"no order"}{"id":5,"name":"no order"}`, 2))
	w.finish(s, w.put(s, "m/1o", "clicks/1o", `{"id":5,"name":"some order","n":-1}`, 1))
	if got := w.ask("SELECT id, name, n FROM clicks WHERE id IN (1, 5) ORDER BY id"); got != "1 a 5\n5 some order -1" {
		t.Errorf("with NULL in the order the table has\n%s", got)
	}
	w.exec("DELETE FROM clicks WHERE id = 5")
	errs := s.Finish(t.Context(), []sinks.Part{w.put(s, "m/2", "clicks/2", `{"name":"no key"}`, 1), w.put(s, "m/3", "clicks/3", `{"id":4}`, 1)})
	if sinks.ClassOf(errs[0]) != sinks.RefusedObject || !strings.Contains(errs[0].Error(), "NULL in a column of merge_on") || errs[1] != nil {
		t.Errorf("without a key: %v", errs)
	}
	// Without an order the last part wins, and columns that are all keys are taken once.
	last := w.open(func(o *Options) { o.MergeOn = []string{"id"} })
	w.finish(last, w.put(s, "m/4", "clicks/4", `{"id":9,"name":"z"}`, 1), w.put(s, "m/5", "clicks/5", `{"id":9,"name":"a"}`, 1))
	keys := w.open(func(o *Options) { o.MergeOn = []string{"id", "name"} })
	w.finish(keys, w.put(s, "m/6", "clicks/6", `{"id":9,"name":"a"}{"id":9,"name":"b"}`, 2))
	if got := w.ask("SELECT name FROM clicks WHERE id = 9 ORDER BY name"); got != "a\nb" {
		t.Errorf("of id 9 there are %s", got)
	}
}

const everyType = `b boolean, i tinyint, s smallint, n int, l bigint, f float, d double, p decimal(5,2), q decimal(30,3), v varchar(9), t string, c char(3), x binary, day date, at timestamp`

// encode makes a Parquet file by the encoder that streams use.
func encode(t testing.TB, schema string, rows ...string) string {
	t.Helper()
	sc, err := format.ParseDDL(schema)
	if err != nil {
		t.Fatal(err)
	}
	f, err := parquet.New(parquet.Options{Schema: sc})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	e := f.NewEncoder()
	e.Reset(&b)
	for i, r := range rows {
		if err := e.Append(record.Row{Seq: uint64(i), Data: []byte(r)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestParquetByPosition(t *testing.T) {
	w := newWorld(t, memoryStore(t), redshifttest.Options{}, `CREATE TABLE clicks (b boolean, i smallint, s smallint, n integer, l bigint, f real, d double precision, p numeric(5,2), q numeric(30,3), v varchar(36), t varchar(65535), c varchar(12), x bytea, day date, at timestamp, nested front.super, extra int)`)
	columns := strings.Split("b i s n l f d p q v t c x day at nested", " ")
	s := w.open(func(o *Options) { o.Columns, o.Format, o.Nested = columns, Parquet, true })
	file := encode(t, everyType+", nested struct<a:int,b:array<string>>",
		`{"b":true,"i":-7,"s":-300,"n":70000,"l":9007199254740993,"f":0.5,"d":-1e100,"p":123.45,"q":123456789012345678901234567.891,"v":"é'\\","t":"a\tb\n","c":"abc","x":"AAH/","day":"2026-02-28","at":"2026-02-28T23:59:59.123456Z","nested":{"a":1,"b":["x"]}}`, `{}`)
	w.finish(s, w.put(s, "m/0", "clicks/0.parquet", file, 2))
	want := `true -7 -300 70000 9007199254740993 0.5 -1e+100 123.45 123456789012345678901234567.891 é'\ abc 2026-02-28 2026-02-28 23:59:59.123456`
	if got := w.ask(`SELECT b, i, s, n, l, f, d, p::text, q::text, v, c, day::text, at::text FROM clicks WHERE b`); got != want {
		t.Errorf("the table has\n%s, want\n%s", got, want)
	}
	if got := w.ask(`SELECT count(*), count(b), count(at) FROM clicks`); got != "2 1 1" {
		t.Errorf("rows and values: %s", got)
	}
	// Another order has other types, and the warehouse says so; the error keeps its detail.
	slices.Reverse(columns)
	s = w.open(func(o *Options) { o.Columns, o.Format, o.Nested = columns, Parquet, true })
	errs := s.Finish(t.Context(), []sinks.Part{w.put(s, "m/1", "clicks/1.parquet", file, 2)})
	if e, ok := errors.AsType[*sinks.Error](errs[0]); !ok || e.Class != sinks.RefusedDestination || e.Code != "Redshift.ColumnMismatch" || !strings.Contains(e.Message, "incompatible Parquet schema for column") {
		t.Errorf("columns in another order: %v", errs[0])
	}
	for _, key := range []string{"clicks/x.parquet.gz", "clicks/x y", "clicks/é"} {
		if err := s.Finish(t.Context(), []sinks.Part{{ID: "m/2", Key: key}})[0]; sinks.ClassOf(err) != sinks.RefusedObject {
			t.Errorf("the key %q: %v", key, err)
		}
	}
}

// A text that is too long for its column is bad data in Parquet too, and holds back its object alone.
func TestBadParquetIsFound(t *testing.T) {
	for _, serverless := range []bool{false, true} {
		w := newWorld(t, memoryStore(t), redshifttest.Options{Serverless: serverless}, clicks)
		s := w.open(func(o *Options) { o.Format, o.Region = Parquet, "us-east-1" })
		var list []sinks.Part
		for i := range 4 {
			name := "short"
			if i == 2 {
				name = strings.Repeat("n", 41)
			}
			body := encode(t, "id bigint, name string", fmt.Sprintf(`{"id":%d,"name":%q}`, i, name))
			list = append(list, w.put(s, fmt.Sprintf("m/%d", i), fmt.Sprintf("clicks/n=%d/x.parquet", i), body, 1))
		}
		for i, err := range s.Finish(t.Context(), list) {
			switch {
			case i != 2 && err != nil:
				t.Errorf("object %d: %v", i, err)
			case i == 2 && (sinks.ClassOf(err) != sinks.RefusedObject || !strings.Contains(err.Error(), "clicks/n%3D2/x.parquet, line 1, column name")):
				t.Errorf("the long name: %v", err)
			}
		}
		if got := w.ask("SELECT string_agg(id::text, ' ' ORDER BY id) FROM clicks"); got != "0 1 3" {
			t.Errorf("the table has %s", got)
		}
	}
}

// Errors of real statements get their class and Firehose's code, and hold no secret.
func TestRefusedDestinations(t *testing.T) {
	w := newWorld(t, memoryStore(t), redshifttest.Options{Password: func(u string) (string, bool) { return "secret", u == "loader" }, Keys: map[string]string{"AK": "sesame"}}, clicks)
	p := w.put(w.open(nil), "m/0", "clicks/0", `{"id":1}`, 1)
	for _, c := range []struct {
		name   string
		change func(*Options)
		part   func(*sinks.Part)
		class  sinks.Class
		code   string
	}{
		{"password", func(o *Options) { o.Address.Password = "hunter2" }, nil, sinks.RefusedDestination, "AuthenticationFailed"},
		{"database", func(o *Options) { o.Address.Database = "none" }, nil, sinks.RefusedDestination, "DatabaseNotFound"},
		{"unreachable", func(o *Options) { o.Address.Port = 1 }, nil, sinks.NotStored, "ConnectionFailed"},
		{"tls", func(o *Options) { o.Address.TLS = "" }, nil, sinks.RefusedDestination, "ConnectionFailed"},
		{"table", func(o *Options) { o.Table = "public.none" }, nil, sinks.RefusedDestination, "TableNotFound"},
		{"column", func(o *Options) { o.Columns = []string{"id", "none"} }, nil, sinks.RefusedDestination, "ColumnNotFound"},
		{"missing column", func(o *Options) { o.Columns = []string{"name"} }, nil, sinks.RefusedDestination, "MissingColumn"},
		{"role", func(o *Options) { o.IAMRole = strings.ReplaceAll(role, "copy", "other") }, nil, sinks.RefusedDestination, "S3BucketAccessDenied"},
		{"keys", func(o *Options) {
			o.IAMRole = ""
			o.Keys = func(context.Context) (Keys, error) { return Keys{"AK", "hunter2", ""}, nil }
		}, nil, sinks.RefusedDestination, "S3BucketAccessDenied"},
		{"jsonpaths", func(o *Options) { o.CopyOptions = "JSON 's3://stage/none'" }, nil, sinks.RefusedDestination, "MissingS3File"},
		{"staged object", nil, func(p *sinks.Part) { p.Key = "clicks/none" }, sinks.RefusedDestination, "MissingS3File"},
		{"length", nil, func(p *sinks.Part) { p.Size++ }, sinks.RefusedDestination, "MissingS3File"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, q := w.open(c.change), p
			if c.part != nil {
				c.part(&q)
			}
			err := s.Finish(t.Context(), []sinks.Part{q})[0]
			e, ok := errors.AsType[*sinks.Error](err)
			if !ok || e.Class != c.class || e.Code != "Redshift."+c.code {
				t.Errorf("%+v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "sesame")) {
				t.Errorf("a secret is in %v", err)
			}
		})
	}
	good := w.open(func(o *Options) {
		o.IAMRole = ""
		o.Keys = func(context.Context) (Keys, error) { return Keys{"AK", "sesame", "token"}, nil }
	})
	w.finish(good, p)
	if strings.Contains(w.log.String(), "sesame") || strings.Contains(w.log.String(), "secret") {
		t.Error("a secret is in the log")
	}
	if got := w.ask("SELECT count(*) FROM clicks"); got != "1" {
		t.Errorf("%s rows", got)
	}
}

func TestJudge(t *testing.T) {
	pg := func(code, message, detail string) error {
		return fmt.Errorf("exec: %w", &pgconn.PgError{Code: code, Message: message, Detail: detail})
	}
	for _, c := range []struct {
		err  error
		sent bool
		name string
	}{
		{pg("XX000", "1023", "Serializable isolation violation on table - 108203"), true, "conflict"},
		{pg("40001", "could not serialize access due to concurrent update", ""), true, "conflict"},
		{pg("57P03", "cannot connect now", ""), false, "connect"},
		{pg("XX000", "cluster is in read-only mode", ""), true, "read only"},
		{pg("XX000", "Disk Full", ""), true, "disk full"},
		{pg("57014", "Query (1) cancelled on user's request", ""), true, "cancelled"},
		{pg("XX000", "Query cancelled by WLM abort action", ""), true, "cancelled"},
		{pg("28000", "password authentication failed for user \"x\"", ""), false, "credentials"},
		{errors.New("unknown authentication type: 13"), false, "authentication method"},
		{errors.New("failed to connect: tls: failed to verify certificate: x509: certificate signed by unknown authority"), false, "tls"},
		{pg("XX000", "S3ServiceException:Access Denied,Status 403,Error AccessDenied", ""), true, "s3 rights"},
		{pg("XX000", "S3ServiceException:The bucket you are attempting to access must be addressed using the specified endpoint", ""), true, "region"},
		{pg("XX000", "Problem reading manifest file - S3ServiceException:The specified key does not exist.,Status 404", ""), true, "staging"},
		{pg("XX000", "File entry does not have 'meta' key", "code: 15003"), true, "staging"},
		{pg("XX000", "Number of jsonpaths and the number of columns should match", ""), true, "jsonpaths"},
		{pg("XX000", "Spectrum Scan Error", "code: 15007 has an incompatible Parquet schema for column"), true, "schema"},
		{pg("XX000", "Spectrum Scan Error", "code: 15001 context: S3 Query Exception (Fetch), invalid type length. Expecting: 8 len in file: 13"), true, "schema"},
		{pg("XX000", "Spectrum Scan Error", "code: 15007 context: The length of the data column name is longer than the length defined in the table. Table: 40, Data: 41, File name: https://s3.x"), true, "data"},
		{pg("XX000", "Spectrum Scan Error", "code: 1224 context: String value exceeds the max size of 65535 bytes"), true, "data"},
		{pg("XX000", "Cannot insert a NULL value into column id", ""), true, "data"},
		{pg("XX000", "Spectrum Scan Error", "context: File not found"), true, "staging"},
		{pg("XX000", "S3 Query Exception (Fetch)", "code: 15005 Connection failed, retries exceeded"), true, "s3"},
		{pg("XX000", "Load into table 'x' failed.  Check 'stl_load_errors' system table for details.", ""), true, "data"},
		{pg("XX000", "Load into table 'x' failed.  Check 'sys_load_error_detail' system table for details.", ""), true, "data"},
		{pg("22001", "value too long for type character varying(3)", ""), true, "data"},
		{pg("42P01", "relation \"x\" does not exist", ""), true, "table"},
		{pg("42703", "column \"x\" does not exist", ""), true, "column"},
		{pg("42501", "permission denied for relation x", ""), true, "rights"},
		{pg("42601", "NOT NULL column without DEFAULT must be included in column list", ""), true, "missing column"},
		{pg("42601", "syntax error", ""), true, "statement"},
		{pg("XX000", "Assert", ""), true, "internal"},
		{errors.New("unexpected EOF"), true, "lost"},
		{errors.New("dial tcp: connection refused"), false, "connect"},
	} {
		if v := judge(c.err, c.sent); v.name != c.name {
			t.Errorf("%v is %q, want %q", c.err, v.name, c.name)
		}
	}
}

// The certificate is checked unless it is said otherwise.
func TestTLS(t *testing.T) {
	file := func(c *x509.Certificate) (string, tls.Certificate) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c.SerialNumber, c.NotAfter, c.IsCA, c.BasicConstraintsValid = big.NewInt(1), time.Now().Add(time.Hour), true, true
		der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return name, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	right, own := file(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	named, other := file(&x509.Certificate{DNSNames: []string{"elsewhere"}})
	for _, c := range []struct {
		mode, ca string
		cert     tls.Certificate
		want     bool
	}{
		{"", right, own, true}, {"", "", own, false}, {"", named, other, false}, {VerifyCA, named, other, true}, {VerifyCA, right, other, false},
		{Require, "", other, true}, {Disable, "", own, false},
	} {
		w := newWorld(t, memoryStore(t), redshifttest.Options{TLS: &tls.Config{Certificates: []tls.Certificate{c.cert}}}, clicks)
		s := w.open(func(o *Options) { o.Address.TLS, o.Address.CAFile = c.mode, c.ca })
		errs := s.Finish(t.Context(), []sinks.Part{w.put(s, "m/0", "clicks/0", `{"id":1}`, 1)})
		if (errs[0] == nil) != c.want {
			t.Errorf("mode %q with %q: %v", c.mode, c.ca, errs[0])
		}
		if errs[0] != nil && sinks.ClassOf(errs[0]) != sinks.RefusedDestination {
			t.Errorf("mode %q with %q: class %v: %v", c.mode, c.ca, sinks.ClassOf(errs[0]), errs[0])
		}
	}
}

// Each connection has credentials of its own, of both services.
func TestTemporaryCredentials(t *testing.T) {
	n := 0
	password := ""
	api := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n++
		password = fmt.Sprintf("temporary-%d", n)
		if !strings.Contains(r.Header.Get("Authorization"), "Signature=") {
			rw.WriteHeader(403)
			return
		}
		if strings.Contains(r.Header.Get("X-Amz-Target"), "GetCredentials") {
			rw.Header().Set("Content-Type", "application/x-amz-json-1.1")
			fmt.Fprintf(rw, `{"dbUser":"IAM:me","dbPassword":%q,"expiration":%d}`, password, time.Now().Add(time.Hour).Unix())
			return
		}
		r.ParseForm()
		action := r.Form.Get("Action")
		if r.Form.Get("ClusterIdentifier") != "c" || r.Form.Get("DbName") == "" || action == "GetClusterCredentials" && r.Form.Get("DbUser") != "loader" {
			t.Errorf("the request is %v", r.Form)
		}
		fmt.Fprintf(rw, `<%[1]sResponse xmlns="http://redshift.amazonaws.com/doc/2012-12-01/"><%[1]sResult><DbUser>IAM:me</DbUser><DbPassword>%[2]s</DbPassword></%[1]sResult></%[1]sResponse>`, action, password)
	}))
	defer api.Close()
	w := newWorld(t, memoryStore(t), redshifttest.Options{MD5: true, Password: func(u string) (string, bool) { return password, u == "IAM:me" }}, clicks)
	conf := aws.Config{Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("AK", "s", ""), HTTPClient: api.Client()}
	for i, o := range []IAM{{Cluster: "c", User: "loader"}, {Cluster: "c"}, {Workgroup: "w"}} {
		o.Database, o.AWS, o.Endpoint = w.front.Database, conf, api.URL
		login, err := o.NewLogin()
		if err != nil {
			t.Fatal(err)
		}
		s := w.open(func(o *Options) { o.Login, o.Address.User, o.Address.Password = login, "", "" })
		for k := range 2 {
			w.finish(s, w.put(s, fmt.Sprintf("m%d/%d", i, k), fmt.Sprintf("clicks/%d-%d", i, k), `{"id":1}`, 1))
		}
	}
	if n != 6 {
		t.Errorf("credentials were asked for %d times for 6 connections", n)
	}
	for _, o := range []IAM{{Database: "d", AWS: conf}, {Cluster: "c", Workgroup: "w", Database: "d", AWS: conf}, {Cluster: "c", AWS: conf}, {Cluster: "c", Database: "d"}, {Workgroup: "w", User: "u", Database: "d", AWS: conf}} {
		if _, err := o.NewLogin(); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	digest := newWorld(t, memoryStore(t), redshifttest.Options{Digest: true}, clicks)
	s := digest.open(nil)
	if err := s.Finish(t.Context(), []sinks.Part{digest.put(s, "m/0", "clicks/0", `{}`, 1)})[0]; err == nil || !strings.Contains(err.Error(), "MD5 password") {
		t.Errorf("Redshift's own digest: %v", err)
	}
}

// A load that waits for the lock ends soon after its caller does, and the next one is not held up.
func TestEndsWithItsContext(t *testing.T) {
	w := newWorld(t, memoryStore(t), redshifttest.Options{}, clicks)
	s := w.open(nil)
	w.finish(s, w.put(s, "m/0", "clicks/0", `{"id":1}`, 1))
	holder, err := pgx.Connect(t.Context(), database(t).URL(w.front.Database))
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.Background())
	if _, err := holder.Exec(t.Context(), "BEGIN; LOCK hydrant_ledger"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	p := w.put(s, "m/1", "clicks/1", `{"id":2}`, 1)
	if err := s.Finish(ctx, []sinks.Part{p})[0]; sinks.ClassOf(err) != sinks.Unknown {
		t.Errorf("cancelled: %v", err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
	if _, err := holder.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	w.finish(s, p)
}

// A server that says nothing to a statement is given up soon after the server should have ended it.
func TestSilentServer(t *testing.T) {
	silent := make(chan struct{})
	speak := sync.OnceFunc(func() { close(silent) })
	defer speak()
	w := newWorld(t, memoryStore(t), redshifttest.Options{On: func(q redshifttest.Statement) redshifttest.Action {
		select {
		case <-silent:
		default:
			if strings.HasPrefix(q.SQL, "COPY") {
				<-silent
				return redshifttest.Before
			}
		}
		return redshifttest.Pass
	}}, clicks)
	s := w.open(func(o *Options) { o.StatementTime = time.Second })
	s.grace = 100 * time.Millisecond
	p := w.put(s, "m/0", "clicks/0", `{"id":1}`, 1)
	began := time.Now()
	err := s.Finish(t.Context(), []sinks.Part{p})[0]
	if d := time.Since(began); sinks.ClassOf(err) != sinks.Unknown || d > 30*time.Second {
		t.Errorf("after %v: %v", d, err)
	}
	speak()
	w.finish(w.open(nil), p)
}

// An AWS that gives no credentials of the database is not the bucket's fault.
func TestRefusedLogin(t *testing.T) {
	w := newWorld(t, memoryStore(t), redshifttest.Options{}, clicks)
	s := w.open(func(o *Options) {
		o.Login = func(context.Context) (Login, error) {
			return Login{}, errors.New("api error AccessDenied: not authorized to perform: redshift:GetClusterCredentials")
		}
	})
	err := s.Finish(t.Context(), []sinks.Part{{ID: "m/0", Key: "clicks/0"}})[0]
	if e, ok := errors.AsType[*sinks.Error](err); !ok || e.Class != sinks.RefusedDestination || e.Code != "Redshift.AuthenticationFailed" || !strings.Contains(e.Message, "redshift-serverless:GetCredentials") || strings.Contains(e.Message, "s3:GetObject") {
		t.Errorf("%+v", err)
	}
	// That nobody answers in time has no effect that is not known.
	s = w.open(func(o *Options) {
		o.Login = func(context.Context) (Login, error) { return Login{}, context.DeadlineExceeded }
	})
	if err := s.Finish(t.Context(), []sinks.Part{{ID: "m/0", Key: "clicks/0"}})[0]; sinks.ClassOf(err) != sinks.NotStored {
		t.Errorf("out of time: %v", err)
	}
}

func TestManifestNames(t *testing.T) {
	at := time.Date(2026, 11, 25, 13, 21, 49, 0, time.FixedZone("x", 3600))
	if got := SkippedKey("p/", "s", at, "uuid"); got != "p/errors/manifests/2026/11/25/12/s-2026-11-25-12-21-49-uuid" {
		t.Errorf("a skipped manifest is called %s", got)
	}
	for _, bad := range []string{"", "{}", `{"entries":[{"url":"s3://other/a"}]}`, `{"entries":[{"url":"s3://stage/a b"}]}`, `{"entries":[{"url":"s3://stage/a"},{"url":"s3://stage/a"}]}`, `{"entries":[{"url":"s3://stage/a","meta":{"content_length":-1}}]}`} {
		if p, err := parseManifest("stage", []byte(bad)); err == nil {
			t.Errorf("%s is read as %v", bad, p)
		}
	}
}

// What the sink stages is stored as any sink stores it.
func TestSuite(t *testing.T) {
	store := memoryStore(t)
	w := newWorld(t, store, redshifttest.Options{}, clicks)
	n := 0
	sinktest.Run(t, sinktest.Target{InProcess: true, Overwrites: true, RefusedKeys: []string{strings.Repeat("k", 1025)}, Open: func(t *testing.T) sinktest.Fixture {
		n++
		bucket := fmt.Sprintf("suite-%d", n)
		if _, err := w.client.CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: &bucket}); err != nil {
			t.Fatal(err)
		}
		open := func(endpoint string) sinks.Sink {
			o := w.options()
			so := w.store
			so.Bucket, so.Endpoint = bucket, endpoint
			staging, err := s3.New(so)
			if err != nil {
				t.Fatal(err)
			}
			o.Staging, o.Bucket = staging, bucket
			s, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return s
		}
		proxy := faultproxy.New(t, store.Endpoint)
		return sinktest.Fixture{
			Sink: open(proxy.URL), Store: stored{t, w.client, bucket}, Reopen: func() sinks.Sink { return open(store.Endpoint) },
			LoseAnswer: func(committed bool) {
				f := faultproxy.DropBefore()
				if committed {
					f = faultproxy.DropAfter()
				}
				proxy.Inject(faultproxy.Rule{Match: faultproxy.On("PutObject", "CompleteMultipartUpload"), Fault: f})
			},
		}
	}})
}

// stored is a bucket as the suite sees it.
type stored struct {
	t      testing.TB
	client *awss3.Client
	bucket string
}

func (v stored) Keys() []string {
	keys := []string{}
	for o, err := range parts.S3Objects(v.client, v.bucket) {
		if err != nil {
			v.t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	slices.Sort(keys)
	return keys
}

func (v stored) Get(key string) sinktest.Stored {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	o, err := v.client.GetObject(ctx, &awss3.GetObjectInput{Bucket: &v.bucket, Key: &key})
	if err != nil {
		v.t.Fatalf("get %q: %v", key, err)
	}
	defer o.Body.Close()
	sum, size, err := sinktest.Sum(o.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return sinktest.Stored{Size: size, SHA256: sum, ContentType: aws.ToString(o.ContentType), ContentEncoding: aws.ToString(o.ContentEncoding), Meta: o.Metadata}
}

func (v stored) Plant(key, body string) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := v.client.PutObject(ctx, &awss3.PutObjectInput{Bucket: &v.bucket, Key: &key, Body: strings.NewReader(body)}); err != nil {
		v.t.Fatal(err)
	}
}

func (v stored) Leftovers() (uploads []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := v.client.ListMultipartUploads(ctx, &awss3.ListMultipartUploadsInput{Bucket: &v.bucket})
	if err != nil {
		return nil // the store says so of none
	}
	for _, u := range out.Uploads {
		uploads = append(uploads, aws.ToString(u.Key))
	}
	return uploads
}
