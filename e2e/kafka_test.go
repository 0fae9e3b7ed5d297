//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"hydrant/e2e/parts"
)

// kafka is a cluster of brokers in the test's process.
type kafka struct {
	*kfake.Cluster
	t    *testing.T
	cl   *kgo.Client
	sent atomic.Int64 // records that were acknowledged, of produce
}

func newKafka(t *testing.T, topics map[string]int32) *kafka {
	t.Helper()
	opts := []kfake.Opt{kfake.NumBrokers(3)}
	for name, n := range topics {
		opts = append(opts, kfake.SeedTopics(n, name))
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &kafka{Cluster: c, t: t, cl: cl}
}

func (k *kafka) brokers() string {
	b, _ := json.Marshal(k.ListenAddrs())
	return string(b)
}

// produce sends batches of events to clicks until ctx ends: {"n": 0}, {"n": 1}, … with the key "k<n mod 100>".
func (k *kafka) produce(ctx context.Context, batch int, pause time.Duration) {
	for ctx.Err() == nil {
		first := k.sent.Load()
		records := make([]*kgo.Record, batch)
		for i := range records {
			n := first + int64(i)
			records[i] = &kgo.Record{Topic: "clicks", Key: fmt.Appendf(nil, "k%d", n%100), Value: fmt.Appendf(nil, `{"n":%d,"pad":%q}`, n, strings.Repeat("x", int(n%300)))}
		}
		if err := k.cl.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
			k.t.Error(err)
			return
		}
		k.sent.Add(int64(batch))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// left is how many records of clicks the group was not told to be delivered.
func (k *kafka) left(group string) int64 {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	adm := kadm.NewClient(k.cl)
	ends, err := adm.ListEndOffsets(ctx, "clicks")
	if err != nil {
		k.t.Fatal(err)
	}
	told, err := adm.FetchOffsets(ctx, group)
	if err != nil {
		return 1 << 40
	}
	n := int64(0)
	ends.Each(func(o kadm.ListedOffset) {
		n += o.Offset
		if c, ok := told.Lookup(o.Topic, o.Partition); ok {
			n -= max(c.At, 0)
		}
	})
	return n
}

const kafkaStream = `streams:
  - name: clicks
    source: { kafka: { brokers: %s, topics: [clicks], group: lake, instance_id: %q, session_timeout: 6s, rebalance_timeout: 9s } }
    transform: [ { jq: '.key = $key' }, { jq: '.topic = $topic' } ]
    format: { parquet: { schema: "n bigint, key string, topic string", compression: zstd } }
    buffer: { size: 1MiB, interval: 1s }
    destination: { s3: { bucket: lake, endpoint: %q, prefix: "clicks/dt=!{timestamp:yyyy-MM-dd}/", error_output_prefix: "errors/!{firehose:error-output-type}/",
      credentials: { access_key_id: %s, secret_access_key: %s } } }
`

// found counts events in the bucket: rows, distinct numbers, and rows whose key or topic is wrong.
func found(t *testing.T, duck *parts.Duck, store *parts.S3Server) (rows, distinct, wrong int64) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "lake")
	store.Fetch(t, "lake", dir)
	r := duck.Query(fmt.Sprintf(`select count(*)::BIGINT as n, count(distinct n)::BIGINT as d, count(*) filter (key is distinct from 'k' || (n %% 100) or topic is distinct from 'clicks')::BIGINT as w
		from read_parquet('%s/clicks/**/*.parquet', hive_partitioning=false)`, dir))[0]
	return r["n"].(int64), r["d"].(int64), r["w"].(int64)
}

// A replica that is killed again and again, and comes back on its disk, delivers each record of the topic once.
func TestKafkaExactlyOnceThroughKills(t *testing.T) {
	t.Parallel()
	duck, store := parts.DuckDB(t), parts.MinIO(t)
	store.CreateBucket(t, "lake")
	k := newKafka(t, map[string]int32{"clicks": 6})
	d := configure(t, fmt.Sprintf(kafkaStream, k.brokers(), "one", store.Endpoint, store.AccessKey, store.SecretKey)).start()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.produce(ctx, 500, 20*time.Millisecond)
	}()
	for round := range 5 {
		read := d.counter(`hydrant_source_records_total{stream="clicks"}`)
		eventually(t, "records are read", func() bool { return d.counter(`hydrant_source_records_total{stream="clicks"}`) > read })
		time.Sleep(time.Duration(200+300*round) * time.Millisecond) // somewhere between reading and delivering
		d.kill()
		d.start()
	}
	stop()
	<-done
	eventually(t, "all is delivered and the group knows", func() bool { return k.left("lake") == 0 })
	sent := k.sent.Load()
	rows, distinct, wrong := found(t, duck, store)
	t.Logf("%d records, %d rows, %d of them different, %d wrong", sent, rows, distinct, wrong)
	if rows != sent || distinct != sent || wrong != 0 {
		t.Errorf("%d records are %d rows, %d of them different, %d with a wrong key or topic", sent, rows, distinct, wrong)
	}
	if got := d.metric(`hydrant_source_lanes_owned{stream="clicks"}`); got != "6" {
		t.Errorf("%s lanes", got)
	}
	eventually(t, "no lag", func() bool { return d.metric(`hydrant_source_lag_records{stream="clicks"}`) == "0" })
	d.balance("clicks", d.status("clicks").Accepted, 0)
}

// Two replicas share the partitions. One that stops in order hands over without a record twice; one that dies is taken over,
// and nothing is lost.
func TestKafkaReplicasTakeOver(t *testing.T) {
	t.Parallel()
	duck, store := parts.DuckDB(t), parts.MinIO(t)
	store.CreateBucket(t, "lake")
	k := newKafka(t, map[string]int32{"clicks": 8})
	replica := func() *daemon {
		return configure(t, fmt.Sprintf(kafkaStream, k.brokers(), "", store.Endpoint, store.AccessKey, store.SecretKey)).start()
	}
	const owned = `hydrant_source_lanes_owned{stream="clicks"}`
	a := replica()
	b := replica()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.produce(ctx, 200, 20*time.Millisecond)
	}()
	even := func(x, y *daemon) {
		t.Helper()
		eventually(t, "even parts", func() bool { return x.metric(owned) == "4" && y.metric(owned) == "4" })
	}
	even(a, b)
	if code := a.stop(); code != 0 {
		t.Errorf("the first ended with %d", code)
	}
	eventually(t, "the second has all", func() bool { return b.metric(owned) == "8" })
	eventually(t, "it delivers them", func() bool { return k.left("lake") < k.sent.Load()/2 })
	rows, distinct, _ := found(t, duck, store)
	if rows != distinct {
		t.Errorf("%d rows are %d different records, though nobody died", rows, distinct)
	}
	c := replica()
	even(b, c)
	b.kill()
	eventually(t, "the third has all", func() bool { return c.metric(owned) == "8" })
	stop()
	<-done
	eventually(t, "all is delivered and the group knows", func() bool { return k.left("lake") == 0 })
	sent := k.sent.Load()
	rows, distinct, wrong := found(t, duck, store)
	t.Logf("%d records, %d rows, %d of them different", sent, rows, distinct)
	if distinct != sent || wrong != 0 {
		t.Errorf("%d records are %d rows, %d of them different, %d with a wrong key or topic", sent, rows, distinct, wrong)
	}
}

// Values that a schema registry frames become rows, and those of a schema that nobody knows are in the error output as they
// came.
func TestKafkaAvro(t *testing.T) {
	t.Parallel()
	const schema = `{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}]}`
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); r.URL.Path != "/schemas/ids/7" || user != "u" || password != "p" {
			http.Error(w, `{"error_code":40403}`, http.StatusNotFound)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"schema": schema})
	}))
	t.Cleanup(registry.Close)
	duck := parts.DuckDB(t)
	k := newKafka(t, map[string]int32{"clicks": 1})
	lake := filepath.Join(t.TempDir(), "lake")
	d := configure(t, fmt.Sprintf(`streams:
  - name: clicks
    source: { kafka: { brokers: %s, topics: [clicks], group: lake, tombstones: drop, value: { format: confluent_avro, registry: { url: %q, username: u, password: p } } } }
    format: { parquet: { schema: "id bigint, at timestamp, price decimal(9,2)" } }
    buffer: { size: 1MiB, interval: 1h }
    destination: { file: { path: %q, prefix: "data/", error_output_prefix: "errors/!{firehose:error-output-type}/" } }
`, k.brokers(), registry.URL, lake)).start()
	s := avro.MustParse(schema)
	value := func(id byte, n int64) []byte {
		b, err := s.AppendEncode([]byte{0, 0, 0, 0, id}, map[string]any{"id": n, "at": time.UnixMilli(1700000000123), "price": "12.5"})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if err := k.cl.ProduceSync(t.Context(), &kgo.Record{Topic: "clicks", Value: value(7, 1)}, &kgo.Record{Topic: "clicks", Value: value(8, 2)},
		&kgo.Record{Topic: "clicks", Key: []byte("gone")}, &kgo.Record{Topic: "clicks", Value: []byte("{}")}, &kgo.Record{Topic: "clicks", Value: value(7, 3)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "records are read", func() bool { return d.status("clicks").Accepted == 4 })
	d.flush("clicks")
	rows := duck.Query(fmt.Sprintf(`select id, "at", price from read_parquet('%s/data/**/*.parquet') order by id`, lake))
	if got := fmt.Sprint(rows); got != "[map[at:2023-11-14 22:13:20.123+00 id:1 price:12.50] map[at:2023-11-14 22:13:20.123+00 id:3 price:12.50]]" {
		t.Errorf("%s", got)
	}
	var failed []map[string]any
	for _, path := range walk(t, filepath.Join(lake, "errors", "processing-failed")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatal(err)
			}
			failed = append(failed, m)
		}
	}
	if len(failed) != 2 || failed[0]["errorCode"] != "Hydrant.Source" || !strings.Contains(fmt.Sprint(failed[0]["errorMessage"]), "Schema 8 is not known to the schema registry.") {
		t.Errorf("%v", failed)
	}
	eventually(t, "the group knows", func() bool { return k.left("lake") == 0 })
	out := d.cli(0, nil, "doctor", "-c", d.config, "--stream", "clicks")
	for _, want := range []string{"3 answer", "clicks has 1 partitions", "lake has offsets of 1 partitions"} {
		if !strings.Contains(out, want) {
			t.Errorf("doctor does not say %q:\n%s", want, out)
		}
	}
	if code, answer := d.put("clicks", "{}"); code == http.StatusOK {
		t.Errorf("a put to a stream that reads was taken: %s", answer)
	}
	if got := d.counter(`hydrant_source_tombstones_total{stream="clicks"}`); got != 1 {
		t.Errorf("%d tombstones", got)
	}
}
