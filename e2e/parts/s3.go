package parts

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	s3Call  = 30 * time.Second // any one call to a server
	s3Start = 30 * time.Second // from start to the first answer
)

// S3Server is a real S3 server in a process of its own, on loopback, with its data in a temporary directory.
// Its methods end the test where they fail.
type S3Server struct {
	Name      string // minio, versitygw
	Endpoint  string // http://127.0.0.1:port; the same after a restart
	Region    string
	AccessKey string // of the root user
	SecretKey string
	KMSKey    string // id of the key for SSE-KMS, or "" where the server has none
	Dir       string // the server's data

	args    []string
	env     []string
	ready   string // a path that any answer below 500 makes ready
	log     string // file that takes the server's output
	process *exec.Cmd
	control io.WriteCloser // the supervisor's standard input
}

// NeedMinIO ends the test where MinIO is not installed.
func NeedMinIO(t testing.TB) { needServer(t, "minio") }

func needServer(t testing.TB, name string) string {
	t.Helper()
	needProgram(t, "sh", "the S3 servers are run under a POSIX shell")
	return need(t, filepath.Join(Cache(t), "bin", name), makeTools)
}

// MinIO starts a MinIO server without buckets. SSE-S3 and SSE-KMS work: it holds one key, KMSKey.
func MinIO(t testing.TB) *S3Server {
	t.Helper()
	s := &S3Server{Name: "minio", AccessKey: "testkey", SecretKey: "testsecret123", KMSKey: "my-key", ready: "/minio/health/live"}
	port := s.place(t)
	s.args = []string{needServer(t, "minio"), "server", "--quiet", "--address", "127.0.0.1:" + port, s.Dir}
	s.env = []string{
		"MINIO_ROOT_USER=" + s.AccessKey, "MINIO_ROOT_PASSWORD=" + s.SecretKey, "MINIO_UPDATE=off", "MINIO_BROWSER=off",
		"MINIO_KMS_SECRET_KEY=" + s.KMSKey + ":" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
	}
	s.start(t)
	return s
}

// Versitygw starts a Versity gateway without buckets. It keeps an object as the plain file Dir/bucket/key,
// and takes every SSE header without encrypting anything.
func Versitygw(t testing.TB) *S3Server {
	t.Helper()
	s := &S3Server{Name: "versitygw", AccessKey: "testkey", SecretKey: "testsecret123", ready: "/"}
	port := s.place(t)
	// Object attributes go beside the data, so that file systems without extended attributes do.
	attributes := filepath.Join(filepath.Dir(s.Dir), "attributes")
	if err := os.Mkdir(attributes, 0o755); err != nil {
		t.Fatal(err)
	}
	s.args = []string{needServer(t, "versitygw"), "--port", "127.0.0.1:" + port, "posix", "--sidecar", attributes, s.Dir}
	s.env = []string{"ROOT_ACCESS_KEY=" + s.AccessKey, "ROOT_SECRET_KEY=" + s.SecretKey}
	s.start(t)
	return s
}

// place chooses a directory and a port.
func (s *S3Server) place(t testing.TB) (port string) {
	t.Helper()
	s.Region = "us-east-1"
	s.Dir = filepath.Join(t.TempDir(), "data")
	s.log = filepath.Join(filepath.Dir(s.Dir), "log")
	if err := os.Mkdir(s.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s.Endpoint = "http://" + l.Addr().String()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// supervise runs a program until a line with the name of a signal comes in, or the end of the input, which
// also comes when the test process dies however it dies: no server outlives the test.
const supervise = `"$@" </dev/null & server=$!
read -r signal
kill -"${signal:-KILL}" $server
wait $server`

func (s *S3Server) start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() // the process has its own
	s.process = exec.Command("sh", append([]string{"-c", supervise, s.Name}, s.args...)...)
	s.process.Env = append(os.Environ(), s.env...)
	s.process.Stdout, s.process.Stderr = log, log
	if s.control, err = s.process.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := s.process.Start(); err != nil {
		t.Fatalf("start %s: %v", s.Name, err)
	}
	t.Cleanup(func() {
		s.end("")
		if t.Failed() {
			t.Logf("%s said:\n%s", s.Name, s.said())
		}
	})
	deadline := time.Now().Add(s3Start)
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	for {
		answer, err := client.Get(s.Endpoint + s.ready)
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode < 500 {
				return
			}
			err = fmt.Errorf("HTTP status %d", answer.StatusCode)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s on %s does not answer after %v: %v\n%s", s.Name, s.Endpoint, s3Start, err, s.said())
		}
		time.Sleep(20 * time.Millisecond) // a poll with a deadline
	}
}

// said is the end of the server's output.
func (s *S3Server) said() string {
	b, _ := os.ReadFile(s.log)
	if len(b) > 4096 {
		b = b[len(b)-4096:]
	}
	return string(b)
}

// end stops the process by a signal ("" kills) and waits for it.
func (s *S3Server) end(signal string) {
	if s.process == nil {
		return
	}
	if signal != "" {
		fmt.Fprintln(s.control, signal)
	}
	s.control.Close()
	_ = s.process.Wait() // its status is that of a killed process
	s.process = nil
}

// Kill ends the server as kill -9 does; its data stays.
func (s *S3Server) Kill(t testing.TB) { t.Helper(); s.end("") }

// Stop ends the server as kill -TERM does; its data stays.
func (s *S3Server) Stop(t testing.TB) { t.Helper(); s.end("TERM") }

// Restart starts the server again with the same address and data, stopping it first where it runs.
func (s *S3Server) Restart(t testing.TB) {
	t.Helper()
	s.end("TERM")
	s.start(t)
}

// Client is a plain client of the server with the root user's rights.
func (s *S3Server) Client() *s3.Client {
	return S3Client(s.Endpoint, s.Region, s.AccessKey, s.SecretKey)
}

// S3Client is a plain client with path-style addresses and without surprises: no checksums of its own.
func S3Client(endpoint, region, accessKey, secretKey string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint:               aws.String(endpoint),
		Region:                     region,
		UsePathStyle:               true,
		Credentials:                credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
		HTTPClient:                 &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}},
	})
}

// CreateBucket makes a bucket.
func (s *S3Server) CreateBucket(t testing.TB, bucket string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), s3Call)
	defer cancel()
	if _, err := s.Client().CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
		t.Fatalf("create bucket %q in %s: %v", bucket, s.Name, err)
	}
}

// S3Object is what a server says of an object.
type S3Object struct {
	Key             string
	Size            int64
	ContentType     string
	ContentEncoding string
	Metadata        map[string]string // names in lower case, without x-amz-meta-
	Encryption      string            // AES256, aws:kms or ""
	KMSKey          string
	StorageClass    string
}

// Objects asks the server for all objects of a bucket, by key. It stops at the first error.
func (s *S3Server) Objects(t testing.TB, bucket string) iter.Seq2[S3Object, error] {
	t.Helper()
	return S3Objects(s.Client(), bucket)
}

// S3Objects is Objects of any server.
func S3Objects(client *s3.Client, bucket string) iter.Seq2[S3Object, error] {
	return func(yield func(S3Object, error) bool) {
		pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &bucket})
		for pages.HasMorePages() {
			page, err := list(pages)
			if err != nil {
				yield(S3Object{}, fmt.Errorf("list bucket %q: %w", bucket, err))
				return
			}
			for _, o := range page.Contents {
				object, err := head(client, bucket, aws.ToString(o.Key))
				if !yield(object, err) || err != nil {
					return
				}
			}
		}
	}
}

func list(pages *s3.ListObjectsV2Paginator) (*s3.ListObjectsV2Output, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s3Call)
	defer cancel()
	return pages.NextPage(ctx)
}

func head(client *s3.Client, bucket, key string) (S3Object, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s3Call)
	defer cancel()
	h, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return S3Object{}, fmt.Errorf("head object %q of bucket %q: %w", key, bucket, err)
	}
	return S3Object{
		Key: key, Size: aws.ToInt64(h.ContentLength), ContentType: aws.ToString(h.ContentType), ContentEncoding: aws.ToString(h.ContentEncoding),
		Metadata: h.Metadata, Encryption: string(h.ServerSideEncryption), KMSKey: aws.ToString(h.SSEKMSKeyId), StorageClass: string(h.StorageClass),
	}, nil
}

// Get reads an object.
func (s *S3Server) Get(t testing.TB, bucket, key string) []byte {
	t.Helper()
	var b strings.Builder
	if err := download(s.Client(), bucket, key, &b); err != nil {
		t.Fatal(err)
	}
	return []byte(b.String())
}

// Fetch copies all objects of a bucket to files under dir, named by their keys.
func (s *S3Server) Fetch(t testing.TB, bucket, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir) // a key cannot lead out of it
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	client := s.Client()
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &bucket})
	for pages.HasMorePages() {
		page, err := list(pages)
		if err != nil {
			t.Fatalf("list bucket %q: %v", bucket, err)
		}
		for _, o := range page.Contents {
			key := aws.ToString(o.Key)
			if err := root.MkdirAll(filepath.Dir(filepath.FromSlash(key)), 0o755); err != nil {
				t.Fatal(err)
			}
			f, err := root.Create(filepath.FromSlash(key))
			if err != nil {
				t.Fatal(err)
			}
			if err := download(client, bucket, key, f); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func download(client *s3.Client, bucket, key string, w io.Writer) error {
	ctx, cancel := context.WithTimeout(context.Background(), s3Call)
	defer cancel()
	o, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return fmt.Errorf("get object %q of bucket %q: %w", key, bucket, err)
	}
	defer o.Body.Close()
	if _, err := io.Copy(w, o.Body); err != nil {
		return fmt.Errorf("read object %q of bucket %q: %w", key, bucket, err)
	}
	return nil
}
