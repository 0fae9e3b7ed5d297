package redshift

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc64"
	"io"
	"log"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"go.uber.org/goleak"

	"hydrant/e2e/parts"
	"hydrant/sinks"
	"hydrant/sinks/redshift/redshifttest"
	"hydrant/sinks/s3"
)

// postgres is the one server of this package's tests, started by the first that needs it.
var postgres struct {
	once sync.Once
	is   *redshifttest.Postgres
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

func database(t testing.TB) *redshifttest.Postgres {
	t.Helper()
	redshifttest.Need(t)
	postgres.once.Do(func() { postgres.is, postgres.err = redshifttest.StartPostgres() })
	if postgres.err != nil {
		t.Fatal(postgres.err)
	}
	return postgres.is
}

const role = "arn:aws:iam::123456789012:role/copy"

// world is a warehouse with a store and one table.
type world struct {
	t      testing.TB
	front  *redshifttest.Front
	client *awss3.Client
	store  s3.Options
	log    *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// memoryStore is an S3 in this process.
func memoryStore(t testing.TB) s3.Options {
	h := httptest.NewServer(gofakes3.New(s3mem.New(), gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
	return s3.Options{Endpoint: h.URL, Credentials: s3.Credentials{Keys: s3.StaticKeys("k", "s", "")}}
}

// minio is a real S3.
func minio(t testing.TB) s3.Options {
	m := parts.MinIO(t)
	return s3.Options{Endpoint: m.Endpoint, Credentials: s3.Credentials{Keys: s3.StaticKeys(m.AccessKey, m.SecretKey, "")}}
}

func newWorld(t testing.TB, store s3.Options, o redshifttest.Options, ddl ...string) *world {
	t.Helper()
	o.Postgres = database(t)
	w := &world{t: t, store: store, log: &lockedBuffer{}}
	w.store.Bucket, w.store.Region = "stage", "us-east-1"
	id, secret, _, err := store.Credentials.Keys()
	if err != nil {
		t.Fatal(err)
	}
	w.client = parts.S3Client(store.Endpoint, "us-east-1", id, secret)
	if _, err := w.client.CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: aws.String("stage")}); err != nil {
		t.Fatal(err)
	}
	o.S3 = w.client
	if o.Roles == nil {
		o.Roles = []string{role}
	}
	front, err := redshifttest.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	w.front = front
	t.Cleanup(func() {
		if err := front.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", w.log)
		}
	})
	w.exec(ddl...)
	return w
}

// exec runs statements beside the sink, through the front's database and not through the front.
func (w *world) exec(statements ...string) {
	w.t.Helper()
	if err := database(w.t).Exec(w.t.Context(), w.front.Database, statements...); err != nil {
		w.t.Fatal(err)
	}
}

// ask is a query's rows, values with blanks between, lines sorted by the query.
func (w *world) ask(sql string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, database(w.t).URL(w.front.Database))
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close(ctx)
	rows, err := c.Query(ctx, sql)
	if err != nil {
		w.t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (string, error) {
		values, err := r.Values()
		return strings.TrimSuffix(fmt.Sprintln(values...), "\n"), err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// options load clicks of id and name.
func (w *world) options() Options {
	staging, err := s3.New(w.store)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { staging.Close() })
	return Options{
		Address: Address{Host: w.front.Host, Port: w.front.Port, Database: w.front.Database, User: "loader", Password: "secret", TLS: Disable},
		Table:   "public.clicks", Columns: []string{"id", "name"}, IAMRole: role, Staging: staging, Bucket: "stage", Prefix: "clicks/", Stream: "clicks",
		Log: slog.New(slog.NewTextHandler(w.log, nil)), StatementTime: time.Minute,
	}
}

const clicks = `CREATE TABLE clicks (id bigint NOT NULL, name varchar(40))`

func (w *world) open(change func(*Options)) *Sink {
	w.t.Helper()
	o := w.options()
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	s.patient = time.Second
	return s
}

// put stages an object and returns it as a part.
func (w *world) put(s *Sink, id, key, body string, records int64) sinks.Part {
	w.t.Helper()
	sum := sha256.Sum256([]byte(body))
	err := s.Put(w.t.Context(), sinks.Object{
		Key: key, Size: int64(len(body)), SHA256: sum, CRC64NVME: crc64.Checksum([]byte(body), nvme), ReaderAt: strings.NewReader(body),
		Meta: map[string]string{sinks.MetaManifestID: strings.Split(id, "/")[0], sinks.MetaSHA256: hex.EncodeToString(sum[:])},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return sinks.Part{ID: id, Key: key, Size: int64(len(body)), Records: records}
}

func zipped(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, s)
	z.Close()
	return b.String()
}

func (w *world) finish(s *Sink, list ...sinks.Part) {
	w.t.Helper()
	for i, err := range s.Finish(w.t.Context(), list) {
		if err != nil {
			w.t.Fatalf("finish %s: %v", list[i].ID, err)
		}
	}
}
