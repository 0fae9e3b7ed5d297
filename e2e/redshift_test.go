package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/jackc/pgx/v5"

	"hydrant/e2e/parts"
	"hydrant/sinks/redshift/redshifttest"
)

const copyRole = "arn:aws:iam::000000000000:role/copy"

// shot hits one statement of the warehouse's clients.
type shot struct {
	mu     sync.Mutex
	armed  bool
	at     int // statement of the load, from 0; below 0: it is learnt which there are
	action redshifttest.Action
	kill   func() // nil: only the connection is lost
	seen   int
	all    []string
}

func (s *shot) on(q redshifttest.Statement) redshifttest.Action {
	s.mu.Lock()
	defer s.mu.Unlock()
	words := strings.Fields(q.SQL)
	s.all = append(s.all, strings.Join(words[:min(2, len(words))], " "))
	s.seen++
	if !s.armed || s.seen-1 != s.at {
		return redshifttest.Pass
	}
	s.armed = false
	if s.kill != nil {
		s.kill()
	}
	return s.action
}

func (s *shot) arm(at int, action redshifttest.Action, kill func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed, s.at, s.action, s.kill, s.seen, s.all = true, at, action, kill, 0, nil
}

func (s *shot) waits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.armed
}

// loadPoints are the crash points around loads. Only a stream with such a destination passes there.
var loadPoints = []string{"object-staged", "object-finishing", "object-finished"}

// The daemon stages Parquet files in MinIO and loads them by COPY through a front that speaks as Redshift does over a real
// PostgreSQL. The connection is lost at each statement of a load, and the daemon is killed at each: whatever happens, the
// table has exactly the acknowledged records. A record that COPY does not take is given up with its object, named by a
// manifest, and loaded once from there when the table has been mended.
func TestRedshift(t *testing.T) {
	redshifttest.Need(t)
	store := parts.MinIO(t)
	store.CreateBucket(t, "stage")
	postgres, err := redshifttest.StartPostgres()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { postgres.Stop() })
	var faults shot
	front, err := redshifttest.New(t.Context(), redshifttest.Options{
		Postgres: postgres, S3: store.Client(), Roles: []string{copyRole}, On: faults.on, Lateness: 50 * time.Millisecond,
		Password: func(user string) (string, bool) { return somePassword, user == "loader" },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := front.Close(); err != nil {
			t.Error(err)
		}
	})
	ask := func(sql string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		c, err := pgx.Connect(ctx, postgres.URL(front.Database))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(ctx)
		rows, err := c.Query(ctx, sql)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (string, error) {
			values, err := r.Values()
			return strings.TrimSuffix(fmt.Sprintln(values...), "\n"), err
		})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(lines, "\n")
	}
	d := configure(t, fmt.Sprintf(`streams:
  - name: clicks
    format: { parquet: { schema: ["id bigint", "name string"] } }
    buffer: { size: 1MiB, interval: 1h }
    destination:
      redshift:
        dsn: "postgres://loader:${PASSWORD}@%s:%d/%s?sslmode=disable"
        table: public.clicks
        iam_role: %s
        retry_duration: 0s
        staging: { s3: { bucket: stage, prefix: clicks/, endpoint: %q, credentials: { access_key_id: %s, secret_access_key: %s } } }
`, front.Host, front.Port, front.Database, copyRole, store.Endpoint, store.AccessKey, store.SecretKey))
	t.Setenv("PASSWORD", somePassword)

	if out := d.cli(1, nil, "doctor", "-c", d.config); !strings.Contains(out, "failed   clicks destination: table") || !strings.Contains(out, "hydrant ddl") {
		t.Errorf("doctor without a table says\n%s", out)
	}
	ddl := d.cli(0, nil, "ddl", "-c", d.config, "--engine", "redshift")
	if !strings.Contains(ddl, "GRANT INSERT ON") || !strings.Contains(ddl, `"hydrant_ledger"`) {
		t.Errorf("ddl prints\n%s", ddl)
	}
	if err := postgres.Exec(t.Context(), front.Database, "CREATE TABLE clicks (id bigint, name varchar(20))"); err != nil {
		t.Fatal(err)
	}
	if out := d.cli(0, nil, "doctor", "-c", d.config); !strings.Contains(out, "ok       clicks destination: rights") {
		t.Errorf("doctor says\n%s", out)
	}

	d.start()
	next, acknowledged := 0, []string(nil)
	put := func(name string) {
		t.Helper()
		var lines strings.Builder
		for range 5 {
			next++
			fmt.Fprintf(&lines, "{\"id\":%d,\"name\":%q}\n", next, name)
			acknowledged = append(acknowledged, fmt.Sprint(next))
		}
		if code, body := d.call("POST", d.api+"/v1/streams/clicks/records", lines.String(), "Content-Type", "application/x-ndjson"); code != http.StatusOK {
			t.Fatalf("put: %d %s", code, body)
		}
	}
	exactly := func(what string) {
		t.Helper()
		if got, want := ask("SELECT count(*), count(DISTINCT id), coalesce(max(id), 0) FROM clicks"), fmt.Sprintf("%d %[1]d %d", len(acknowledged), next); got != want {
			t.Fatalf("%s: rows, different ids and the highest are %s, want %s", what, got, want)
		}
	}
	put("first")
	d.flush("clicks") // it makes the ledger
	faults.arm(-1, redshifttest.Pass, nil)
	put("second")
	d.flush("clicks")
	exactly("without faults")
	faults.mu.Lock()
	statements := slices.Clone(faults.all)
	faults.mu.Unlock()
	if i := slices.Index(statements, "COMMIT"); i < 0 {
		t.Fatalf("a load has the statements %q", statements)
	} else {
		statements = statements[:i+1] // what is behind it forgets
	}

	// While a load is under way the batch is listed so.
	put("listed")
	listed := ""
	faults.arm(slices.IndexFunc(statements, func(s string) bool { return strings.HasPrefix(s, "COPY") }), redshifttest.Pass, func() {
		out, err := exec.Command(binary, "batch", "list", "clicks", "--admin", d.admin).CombinedOutput()
		listed = fmt.Sprint(string(out), err)
	})
	d.flush("clicks")
	exactly("listed")
	if !strings.Contains(listed, ", loading") {
		t.Errorf("batch list during a load says\n%s", listed)
	}

	actions := []redshifttest.Action{redshifttest.Before, redshifttest.After, redshifttest.Late}
	for i, at := range statements {
		for k, action := range actions {
			if at != "COMMIT" && !strings.HasPrefix(at, "COPY") && k != i%3 {
				continue // each kind of loss everywhere is the sink's own test
			}
			put("lost")
			faults.arm(i, action, nil)
			d.flush("clicks")
			if faults.waits() {
				t.Fatalf("statement %d of a load, %s, was not reached", i, at)
			}
			exactly(fmt.Sprintf("connection lost at %s, %d", at, action))
		}
	}
	for i, at := range statements {
		for k, action := range actions {
			if at != "COMMIT" && !strings.HasPrefix(at, "COPY") && k != i%2 || at != "COMMIT" && action == redshifttest.Late {
				continue
			}
			put("killed")
			process := d.cmd.Process
			faults.arm(i, action, func() { process.Signal(syscall.SIGKILL) })
			flushed := make(chan struct{})
			go func() { // its answer does not come
				defer close(flushed)
				if resp, err := http.Post(d.admin+"/v1/streams/clicks/flush?timeout=60s", "", nil); err == nil {
					resp.Body.Close()
				}
			}()
			if !d.ended(30 * time.Second) {
				t.Fatalf("statement %d of a load, %s, was not reached", i, at)
			}
			<-flushed
			d.kill()
			d.startAgain()
			d.flush("clicks")
			exactly(fmt.Sprintf("killed at %s, %d", at, action))
		}
	}

	// It dies where an object is staged, where its load begins, and where it has ended.
	d.program = withCrashPoints(t)
	for _, point := range loadPoints {
		if code := d.stop(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		d.env = []string{"HYDRANT_CRASH_POINT=" + point}
		d.startAgain()
		put("dies")
		if resp, err := http.Post(d.admin+"/v1/streams/clicks/flush?timeout=60s", "", nil); err == nil {
			resp.Body.Close()
		}
		if !d.ended(30 * time.Second) {
			t.Fatalf("%s was not reached", point)
		}
		d.kill()
		d.env = nil
		d.startAgain()
		d.flush("clicks")
		exactly("died at " + point)
	}

	// The longest name is too long for the column. Its object is given up, and the others are loaded.
	put("well")
	put("a name that is longer than the column takes")
	d.flush("clicks")
	put("well again")
	d.flush("clicks")
	if s := d.status("clicks"); s.Failed != 10 || s.Backlog != 0 || s.Unaccounted != 0 {
		t.Errorf("with a bad record: %+v", s)
	}
	var manifests []string
	var why map[string]string
	for o, err := range store.Objects(t, "stage") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(o.Key, "clicks/errors/manifests/") {
			manifests, why = append(manifests, o.Key), o.Metadata
		}
	}
	if len(manifests) != 1 {
		t.Fatalf("manifests of what was given up: %q", manifests)
	}
	if !strings.Contains(why["error-message"], "clicks/") || !strings.Contains(why["error-message"], "column name") || why["error-code"] != "Redshift.DataLoadFailed" || why["attempts"] != "1" {
		t.Errorf("the manifest of what was given up says %q", why)
	}
	d.file("m.json", string(store.Get(t, "stage", manifests[0])))
	if out := d.cli(1, nil, "batch", "backfill", "-c", d.config, "m.json"); !strings.Contains(out, "0 of 1 objects were loaded") || !strings.Contains(out, "column name") {
		t.Errorf("a backfill before the table was mended says\n%s", out)
	}
	if err := postgres.Exec(t.Context(), front.Database, "ALTER TABLE clicks ALTER COLUMN name TYPE varchar(100)"); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"m.json: 1 object loaded\n", "m.json: 0 objects loaded\n"} {
		if out := d.cli(0, nil, "batch", "backfill", "-c", d.config, "m.json"); out != want {
			t.Errorf("backfill %d says %q, want %q", i+1, out, want)
		}
	}
	exactly("after the backfill")
	described, err := firehoseClient(d.api, 1).DescribeDeliveryStream(t.Context(), &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: aws.String("clicks")})
	if err != nil {
		t.Fatal(err)
	}
	if r := described.DeliveryStreamDescription.Destinations[0].RedshiftDestinationDescription; r == nil || *r.CopyCommand.DataTableName != "public.clicks" || *r.RoleARN != copyRole || r.ClusterJDBCURL != nil {
		t.Errorf("described %+v", r)
	}
	if got := d.counter(`hydrant_load_objects_total{outcome="skipped",stream="clicks"}`); got != 1 {
		t.Errorf("%d objects are counted as skipped", got)
	}
	put("last")
	d.flush("clicks")
	exactly("at the end")
	if code := d.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if n := ask("SELECT count(*) FROM hydrant_ledger WHERE state = 'loaded'"); len(n) > 2 {
		t.Errorf("the ledger still has %s loaded parts: it is not pruned", n)
	}
	noSecrets(t, d)
}

// startAgain is start for a daemon that was there before. While it was not, somebody's connection may have got the port of one
// of its listeners, for a moment.
func (d *daemon) startAgain() {
	d.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		before := len(d.log.String())
		d.launch()
		over := false
		for !over && !d.ready() {
			if over = d.ended(10 * time.Millisecond); over {
				if said := d.log.String()[before:]; !strings.Contains(said, "address already in use") {
					d.t.Fatalf("the daemon ended before it was ready\n%s", tail(said, 4000))
				}
			}
			if time.Now().After(deadline) {
				d.t.Fatalf("not ready after 30s\n%s", tail(d.log.String(), 4000))
			}
		}
		if !over {
			return
		}
		d.kill()
	}
}
