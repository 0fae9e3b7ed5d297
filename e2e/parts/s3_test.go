package parts

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func TestS3Servers(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *S3Server{"minio": MinIO, "versitygw": Versitygw} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.CreateBucket(t, "lake")
			key, body := "a b/ü+'()*=1/x", []byte("one\ntwo\n")
			if _, err := s.Client().PutObject(context.Background(), &s3.PutObjectInput{Bucket: new("lake"), Key: &key,
				Body: bytes.NewReader(body), Metadata: map[string]string{"sha256": "ab"}}); err != nil {
				t.Fatal(err)
			}
			check := func() {
				t.Helper()
				n := 0
				for o, err := range s.Objects(t, "lake") {
					if err != nil {
						t.Fatal(err)
					}
					if n++; o.Key != key || o.Size != int64(len(body)) || o.Metadata["sha256"] != "ab" {
						t.Errorf("object %+v", o)
					}
				}
				if n != 1 {
					t.Errorf("%d objects", n)
				}
			}
			check()
			s.Kill(t)
			if _, err := head(s.Client(), "lake", key); err == nil {
				t.Error("a killed server answers")
			}
			s.Restart(t)
			check()
			dir := t.TempDir()
			s.Fetch(t, "lake", dir)
			if got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(key))); err != nil || !bytes.Equal(got, body) {
				t.Errorf("fetched %q, %v", got, err)
			}
			s.Stop(t)
			s.Restart(t)
			check()
		})
	}
}
