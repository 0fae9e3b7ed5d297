package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"

	"hydrant/e2e/parts"
)

// TestKillNine kills the daemon at random moments while clients put, starts it again at once, drains it at
// the end and counts in the bucket: every acknowledged record must be there once, in a data object or in
// an error object, and every other record that was sent at most once.
//
// HYDRANT_CRASH_ROUNDS sets the number of kills, HYDRANT_CRASH_SEED the moments.
func TestKillNine(t *testing.T) {
	rounds := number(t, "HYDRANT_CRASH_ROUNDS", 20)
	seed := number(t, "HYDRANT_CRASH_SEED", int(time.Now().UnixNano()&0xffffff))
	t.Logf("again with: HYDRANT_CRASH_SEED=%d HYDRANT_CRASH_ROUNDS=%d go test ./e2e -run TestKillNine", seed, rounds)
	random := rand.New(rand.NewPCG(uint64(seed), 1))

	duck := parts.DuckDB(t)
	store := parts.MinIO(t)
	store.CreateBucket(t, "lake")
	stream := func(name, format string) string {
		return fmt.Sprintf(`
  - name: %[1]s
    format: %[2]s
    buffer: { size: 1MiB, interval: 1s }
    destination: { s3: { bucket: lake, endpoint: %[3]q, prefix: "%[1]s/dt=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/",
      error_output_prefix: "errors/%[1]s/!{firehose:error-output-type}/",
      credentials: { access_key_id: %[4]s, secret_access_key: %[5]s } } }`,
			name, format, store.Endpoint, store.AccessKey, store.SecretKey)
	}
	d := configure(t, "streams:"+stream("rows", `{ parquet: { schema: "id string, producer int, n bigint, pad string", compression: zstd } }`)+
		stream("text", "{ text: { delimiter: after, compression: gzip } }")).start()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var producers sync.WaitGroup
	ledgers := make([]*ledger, 6)
	for i := range ledgers {
		ledgers[i] = &ledger{sent: map[string]bool{}, acked: map[string]bool{}}
		name := []string{"rows", "text"}[i%2]
		producers.Go(func() { produce(ctx, t, d.api, name, i, ledgers[i]) })
	}

	for range rounds {
		pause := time.Duration(random.Int64N(int64(900 * time.Millisecond)))
		if random.IntN(4) == 0 { // also while it recovers
			pause /= 30
		}
		<-time.After(pause)
		d.kill()
		d.launch()
	}
	// One round more in peace, so that the last start is known to take records.
	eventually(t, "ready after the last kill", d.ready)
	before := acked(ledgers)
	eventually(t, "records acknowledged after the last kill", func() bool { return acked(ledgers) > before })
	d.kill()
	cancel()
	producers.Wait()

	d.cli(0, nil, "drain", "-c", d.config)

	bucket := filepath.Join(t.TempDir(), "lake")
	store.Fetch(t, "lake", bucket)
	found := map[string]int{}
	count := func(sql string) {
		for _, row := range duck.Query(sql) {
			n, err := strconv.Atoi(fmt.Sprint(row["n"]))
			if err != nil {
				t.Fatal(err)
			}
			found[row["id"].(string)] += n
		}
	}
	count(fmt.Sprintf("select id, count(*)::INTEGER n from read_parquet('%s/rows/**/*.parquet', hive_partitioning=false) group by id", bucket))
	count(fmt.Sprintf("select id, count(*)::INTEGER n from read_json('%s/text/**/*.gz', format='newline_delimited', columns={id:'VARCHAR'}) group by id", bucket))
	inErrors := 0
	for _, path := range walk(t, filepath.Join(bucket, "errors")) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			var r struct{ RawData string }
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%s: %v in %q", path, err, line)
			}
			raw, err := base64.StdEncoding.DecodeString(r.RawData)
			if err != nil {
				t.Fatal(err)
			}
			id, _ := strings.CutPrefix(string(raw), "misfit ")
			found[id]++
			inErrors++
		}
	}

	var sent, ackedN, lost, duplicated, foreign int
	for _, l := range ledgers {
		sent += len(l.sent)
		ackedN += len(l.acked)
		for id := range l.acked {
			if found[id] == 0 {
				lost++
				t.Logf("lost: %s", id)
			}
		}
	}
	for id, n := range found {
		if n > 1 {
			duplicated++
			t.Logf("%d times: %s", n, id)
		}
		if p, err := strconv.Atoi(strings.SplitN(id, "-", 2)[0]); err != nil || !ledgers[p].sent[id] {
			foreign++
			t.Logf("never sent: %q", id)
		}
	}
	t.Logf("kills %d · sent %d · acknowledged %d · delivered %d · in the error output %d · lost %d · duplicated %d · never sent %d",
		rounds+1, sent, ackedN, len(found)-inErrors, inErrors, lost, duplicated, foreign)
	if lost != 0 || duplicated != 0 || foreign != 0 {
		t.Fail()
	}
	if ackedN == 0 || inErrors == 0 {
		t.Error("nothing was put to the test: no acknowledged records or no error records")
	}
}

// ledger is what one producer knows. It is read when the producer has ended.
type ledger struct {
	sent  map[string]bool
	acked map[string]bool
	n     atomic.Int64 // len(acked), for others
}

func acked(ledgers []*ledger) (n int64) {
	for _, l := range ledgers {
		n += l.n.Load()
	}
	return n
}

// produce puts batches until ctx ends, retrying as the SDK does and going on after it gave up.
func produce(ctx context.Context, t *testing.T, endpoint, stream string, producer int, l *ledger) {
	client := firehose.New(firehose.Options{BaseEndpoint: &endpoint, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff, o.RateLimiter = 6, 200*time.Millisecond, unlimited{}
		})})
	random := rand.New(rand.NewPCG(uint64(producer), 2))
	pad := strings.Repeat("x", 300)
	for n := 0; ctx.Err() == nil; {
		var records []types.Record
		var ids []string
		for range 1 + random.IntN(80) {
			id := fmt.Sprintf("%d-%d", producer, n)
			data := fmt.Sprintf(`{"id":%q,"producer":%d,"n":%d,"pad":%q}`, id, producer, n, pad[:random.IntN(len(pad))])
			if stream == "rows" && random.IntN(100) == 0 {
				data = "misfit " + id
			}
			records = append(records, types.Record{Data: []byte(data)})
			ids = append(ids, id)
			l.sent[id] = true
			n++
		}
		// The call outlives ctx: an acknowledgement that is on its way is waited for.
		call, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		out, err := client.PutRecordBatch(call, &firehose.PutRecordBatchInput{DeliveryStreamName: &stream, Records: records})
		cancel()
		if err != nil {
			continue // not acknowledged: each of these may be found once or not at all
		}
		if len(out.RequestResponses) != len(records) {
			t.Errorf("%d answers for %d records", len(out.RequestResponses), len(records))
			return
		}
		for i, r := range out.RequestResponses {
			if aws.ToString(r.RecordId) != "" {
				l.acked[ids[i]] = true
			}
		}
		l.n.Store(int64(len(l.acked)))
	}
}

// unlimited lets every retry through: a daemon that is killed every second is no reason to give up.
type unlimited struct{}

func (unlimited) GetToken(context.Context, uint) (func() error, error) {
	return func() error { return nil }, nil
}
func (unlimited) AddTokens(uint) error { return nil }

func number(t *testing.T, env string, otherwise int) int {
	v := os.Getenv(env)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is not a number from 1", env, v)
	}
	return n
}

// walk lists the files below dir, none where it is missing.
func walk(t testing.TB, dir string) (paths []string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			paths = append(paths, path)
		}
		return nil
	})
	return paths
}
