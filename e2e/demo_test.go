package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hydrant/e2e/parts"
)

// TestDemo is what a newcomer does first: it must work from any directory and leave files that another
// program reads.
func TestDemo(t *testing.T) {
	duck := parts.DuckDB(t)
	dir := filepath.Join(t.TempDir(), "demo")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "demo", "--dir", dir)
	cmd.Dir = t.TempDir()
	b, err := cmd.CombinedOutput()
	out := string(b)
	if err != nil {
		t.Fatalf("hydrant demo: %v\n%s", err, out)
	}
	for _, want := range []string{`dt=\d{4}-\d\d-\d\d`, `hour=\d\d`, `\.parquet`, `event_id`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the demo's output has nothing like %s:\n%s", want, out)
		}
	}
	var files []string
	for _, f := range walk(t, dir) {
		if strings.HasSuffix(f, ".parquet") {
			files = append(files, f)
		}
	}
	if len(files) == 0 {
		t.Fatalf("no Parquet files under %s:\n%s", dir, out)
	}
	rows := duck.Query(fmt.Sprintf("select count(*)::INTEGER n, count(distinct event_id)::INTEGER d from read_parquet('%s/**/*.parquet', hive_partitioning=true)", dir))
	n, d := fmt.Sprint(rows[0]["n"]), fmt.Sprint(rows[0]["d"])
	if n == "0" || n != d {
		t.Errorf("%s rows with %s distinct event ids", n, d)
	}
	if !strings.Contains(strings.NewReplacer(",", "", "_", "").Replace(out), n) {
		t.Errorf("DuckDB counts %s rows, which the demo does not print:\n%s", n, out)
	}
}

// TestDataLakeExample runs the example as its README says.
func TestDataLakeExample(t *testing.T) {
	parts.NeedMinIO(t)
	parts.NodeModules(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "run.sh")
	cmd.Dir = "../examples/datalake"
	cmd.Env = append(os.Environ(), "DATALAKE_DIR="+filepath.Join(t.TempDir(), "lake"))
	cmd.WaitDelay = 10 * time.Second
	b, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("run.sh: %v\n%s", err, b)
	}
	// 20,000 flights went in; the busiest route of the file is a fact of the data.
	for _, want := range []string{"20000", "LAX", "PHX", "59"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in the answer:\n%s", want, b)
		}
	}
}
