package s3

import (
	"bytes"
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"go.uber.org/goleak"

	"hydrant/e2e/parts"
	"hydrant/sinks"
	"hydrant/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var discard = log.New(io.Discard, "", 0)

// server is a store to test on.
type server struct {
	name      string
	endpoint  string
	accessKey string
	secretKey string
	kmsKey    string
	dir       string
	inProcess bool
	// completeOverwrites: CompleteMultipartUpload takes no heed of If-None-Match.
	completeOverwrites bool
	buckets            atomic.Int32
}

// servers are the stores that every test of this package can run on, each started at its first use.
var servers = []struct {
	name string
	open func(testing.TB) *server
}{
	{"minio", func(t testing.TB) *server { return real(parts.MinIO(t)) }},
	{"versitygw", func(t testing.TB) *server { return real(parts.Versitygw(t)) }},
	{"gofakes3", func(t testing.TB) *server {
		h := httptest.NewServer(gofakes3.New(s3mem.New(), gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
		t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
		return &server{name: "gofakes3", endpoint: h.URL, accessKey: "k", secretKey: "s", inProcess: true, completeOverwrites: true}
	}},
}

func real(s *parts.S3Server) *server {
	return &server{name: s.Name, endpoint: s.Endpoint, accessKey: s.AccessKey, secretKey: s.SecretKey, kmsKey: s.KMSKey, dir: s.Dir}
}

// each runs a test on every store.
func each(t *testing.T, run func(*testing.T, *server)) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) { run(t, s.open(t)) })
	}
}

func (s *server) client() *s3.Client {
	return parts.S3Client(s.endpoint, "us-east-1", s.accessKey, s.secretKey)
}

// bucket makes a new bucket.
func (s *server) bucket(t testing.TB) view {
	t.Helper()
	name := "lake-" + string(rune('a'+s.buckets.Load()/26)) + string(rune('a'+s.buckets.Add(1)%26))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := s.client().CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatalf("create bucket: %v", err)
	}
	return view{t, s, name}
}

// options of a sink for a bucket of the store, by way of an endpoint ("": the store's own).
func (v view) options(endpoint string) Options {
	if endpoint == "" {
		endpoint = v.server.endpoint
	}
	return Options{Bucket: v.name, Endpoint: endpoint, Credentials: Credentials{Keys: StaticKeys(v.server.accessKey, v.server.secretKey, "")}}
}

// sink of these options, closed when the test ends.
func open(t testing.TB, o Options) *Sink {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// view is a bucket as the suite sees it.
type view struct {
	t      testing.TB
	server *server
	name   string
}

func (v view) Keys() (keys []string) {
	v.t.Helper()
	keys = []string{}
	for o, err := range parts.S3Objects(v.server.client(), v.name) {
		if err != nil {
			v.t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	slices.Sort(keys)
	return keys
}

func (v view) Get(key string) sinktest.Stored {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	o, err := v.server.client().GetObject(ctx, &s3.GetObjectInput{Bucket: &v.name, Key: &key})
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

func (v view) Plant(key, body string) { v.plant(key, body, nil) }

func (v view) plant(key, body string, meta map[string]string) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := v.server.client().PutObject(ctx, &s3.PutObjectInput{Bucket: &v.name, Key: &key, Body: strings.NewReader(body), Metadata: meta}); err != nil {
		v.t.Fatalf("plant %q: %v", key, err)
	}
}

// Leftovers are the unfinished multipart uploads.
func (v view) Leftovers() (uploads []string) {
	v.t.Helper()
	if v.server.name == "minio" {
		// MinIO lists the uploads of one key only; on its disk they have a folder each.
		found, err := filepath.Glob(filepath.Join(v.server.dir, ".minio.sys/multipart/*/*"))
		if err != nil {
			v.t.Fatal(err)
		}
		return found
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := v.server.client().ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &v.name})
	if statusOf(err) == http.StatusNotFound {
		return nil // gofakes3 for none
	}
	if err != nil {
		v.t.Fatal(err)
	}
	for _, u := range out.Uploads {
		uploads = append(uploads, aws.ToString(u.Key)+" "+aws.ToString(u.UploadId))
	}
	return uploads
}

// startUpload leaves an unfinished upload with one part.
func (v view) startUpload(key string) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := v.server.client()
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &v.name, Key: &key})
	if err != nil {
		v.t.Fatal(err)
	}
	if _, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: &v.name, Key: &key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader(make([]byte, 100))}); err != nil {
		v.t.Fatal(err)
	}
}

// has checks that the bucket holds exactly these objects, whole, and no unfinished upload.
func (v view) has(objects ...sinks.Object) {
	v.t.Helper()
	want := []string{}
	for _, o := range objects {
		want = append(want, o.Key)
	}
	slices.Sort(want)
	if got := v.Keys(); !slices.Equal(got, want) {
		v.t.Errorf("keys in the bucket: %q, want %q", got, want)
		return
	}
	for _, o := range objects {
		if got := v.Get(o.Key); got.SHA256 != o.SHA256 || got.Meta[sinks.MetaManifestID] != o.Meta[sinks.MetaManifestID] {
			v.t.Errorf("%q has %d bytes (want %d), and metadata %v", o.Key, got.Size, o.Size, got.Meta)
		}
	}
	if left := v.Leftovers(); len(left) > 0 {
		v.t.Errorf("unfinished uploads: %q", left)
	}
}

// endUploads ends all unfinished uploads, as a lifecycle rule does.
func endUploads(t *testing.T, v view) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := v.server.client()
	if v.server.name == "minio" {
		for _, dir := range v.Leftovers() {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	out, err := c.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &v.name})
	if statusOf(err) == http.StatusNotFound {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range out.Uploads {
		if _, err := c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &v.name, Key: u.Key, UploadId: u.UploadId}); err != nil {
			t.Fatal(err)
		}
	}
}
