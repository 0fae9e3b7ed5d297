//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hydrant/e2e/parts"
	"hydrant/sinks/file"
)

// A doctor says what is wrong with a bucket before the daemon runs, and leaves nothing behind. A batch that no bucket takes
// is diverted into a directory, is there under its own name after the daemon was killed, and does not come to the bucket
// when that is made.
func TestOperateStuckBatch(t *testing.T) {
	store := parts.MinIO(t)
	bucket := func(name string) string {
		return fmt.Sprintf(`{ s3: { bucket: %s, prefix: "in/", region: %s, endpoint: %q, credentials: { access_key_id: %s, secret_access_key: %s } } }`,
			name, store.Region, store.Endpoint, store.AccessKey, store.SecretKey)
	}
	store.CreateBucket(t, "well")
	d := configure(t, "streams:\n  - name: well\n    destination: "+bucket("well")+"\n  - name: stuck\n    destination: "+bucket("missing")+"\n")
	out := d.cli(0, nil, "doctor", "-c", d.config, "--stream", "well")
	for _, want := range []string{"conditional put: If-None-Match is honoured", "abort: uploads can be aborted", "0 warnings, 0 failed"} {
		if !strings.Contains(out, want) {
			t.Errorf("doctor does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, store.SecretKey) {
		t.Errorf("doctor tells the secret:\n%s", out)
	}
	for o := range store.Objects(t, "well") {
		t.Errorf("doctor left %+v", o)
	}
	if out := d.cli(1, nil, "doctor", "-c", d.config); !strings.Contains(out, "streams[1].destination.s3.bucket") {
		t.Errorf("doctor does not name the key of the bucket that is not there:\n%s", out)
	}

	d.start()
	if out := d.cli(0, nil, "doctor", "-c", d.config, "--stream", "well"); strings.Contains(out, "failed  ") {
		t.Errorf("doctor beside a daemon:\n%s", out)
	}
	d.mustPut("stuck", "one\n")
	d.call("POST", d.admin+"/v1/streams/stuck/flush?timeout=1s", "")
	var list struct {
		Batches []struct {
			ID   string `json:"manifest_id"`
			Left []struct {
				Key string `json:"key"`
			} `json:"pending"`
		} `json:"batches"`
	}
	if err := json.Unmarshal([]byte(d.cli(0, nil, "batch", "list", "stuck", "--admin", d.admin, "--json")), &list); err != nil || len(list.Batches) != 1 || len(list.Batches[0].Left) != 1 {
		t.Fatalf("batches %+v, %v", list, err)
	}
	exit := filepath.Join(d.dir, "exit")
	if out := d.cli(1, nil, "batch", "divert", "stuck", "--all", "--to", exit, "--admin", d.admin); !strings.Contains(out, "make it first") {
		t.Errorf("a directory that is not there: %s", out)
	}
	if err := os.Mkdir(exit, 0o755); err != nil {
		t.Fatal(err)
	}
	if out := d.cli(0, nil, "batch", "divert", "stuck", list.Batches[0].ID, "--to", exit, "--admin", d.admin); !strings.Contains(out, "1 object diverted (1 records)") {
		t.Errorf("divert says %s", out)
	}
	d.kill()
	store.CreateBucket(t, "missing")
	d.start()
	for deadline := time.Now().Add(20 * time.Second); d.status("stuck").Backlog > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting: %+v", d.status("stuck"))
		}
		time.Sleep(20 * time.Millisecond)
	}
	d.balance("stuck", 1, 1)
	if body, err := os.ReadFile(filepath.Join(exit, filepath.FromSlash(list.Batches[0].Left[0].Key))); err != nil || string(body) != "one\n" {
		t.Errorf("the directory has %q, %v", body, err)
	}
	for o := range store.Objects(t, "missing") {
		t.Errorf("the bucket has %+v, which was diverted", o)
	}
	_ = filepath.WalkDir(exit, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && e.Name() == file.TempDir {
			return fs.SkipDir // what the killed process had begun stays for a while, where no reader looks
		}
		if err == nil && !e.IsDir() && !strings.HasSuffix(path, list.Batches[0].Left[0].Key) {
			t.Errorf("%s lies in the directory too", path)
		}
		return err
	})
}
