package lease

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"hydrant/sources/kinesis"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Table: "t"}, "API is nil"},
		{Options{API: newMemory()}, "Table is empty"},
		{Options{API: newMemory(), Table: "t", Failover: MinFailover - 1}, "Failover is 999.999999ms, not between 1s and 5m0s"},
		{Options{API: newMemory(), Table: "t", Failover: MaxFailover + 1}, "Failover is 5m0.000000001s"},
		{Options{API: newMemory(), Table: "t", Failover: MinFailover}, ""},
		{Options{API: newMemory(), Table: "t", Failover: MaxFailover}, ""},
		{Options{API: newMemory(), Table: "t"}, ""},
	} {
		if _, err := New(c.o); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %q", c.o, err, c.want)
		}
	}
}

// denied is a client that may not do some things.
type denied struct {
	API
	op map[string]bool
}

func (d denied) Scan(ctx context.Context, in *dynamodb.ScanInput, o ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	if d.op["Scan"] {
		return nil, &types.ConditionalCheckFailedException{}
	}
	return d.API.Scan(ctx, in, o...)
}

func (d denied) CreateTable(ctx context.Context, in *dynamodb.CreateTableInput, o ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error) {
	if d.op["CreateTable"] {
		return nil, &types.ResourceNotFoundException{}
	}
	return d.API.CreateTable(ctx, in, o...)
}

func TestBeginSaysWhatIsWrong(t *testing.T) {
	begin := func(api API) error {
		o, err := New(Options{API: api, Table: "t"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = o.Begin(t.Context(), theStream, trim)
		return err
	}
	m := newMemory()
	m.items["x"] = map[string]types.AttributeValue{"ShardID": text("shardId-0"), "AssignedTo": text("w")}
	if err := begin(m); err == nil || !strings.Contains(err.Error(), `DynamoDB's table "t" is no table of leases`) {
		t.Errorf("a table of something else: %v", err)
	}
	m = newMemory()
	m.exists = false
	if err := begin(denied{m, map[string]bool{"CreateTable": true}}); err == nil || transient(err) || !strings.Contains(err.Error(), "dynamodb:CreateTable") {
		t.Errorf("a table that may not be made: %v", err)
	}
}

// A table that is deleted ends Run with an error, and not in silence.
func TestTableDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		w := &world{t: t, api: m, table: "leases", failover: 10 * time.Second}
		k := w.start("a", "s0", trim)
		k.has("s0")
		m.mu.Lock()
		m.exists = false
		m.mu.Unlock()
		w.eventually("it ends", func() bool {
			k.mu.Lock()
			defer k.mu.Unlock()
			return k.err != nil
		})
		if transient(k.err) || !missing(k.err) {
			t.Errorf("ended with %v", k.err)
		}
	})
}

// between is a client that does something after the first page of the first list.
type between struct {
	API
	once *sync.Once
	do   func()
}

func (b between) Scan(ctx context.Context, in *dynamodb.ScanInput, o ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	out, err := b.API.Scan(ctx, in, o...)
	if err == nil && len(out.LastEvaluatedKey) > 0 {
		b.once.Do(b.do)
	}
	return out, err
}

// Leases that are made while the table is read: of a parent and its child only the child is seen.
func TestPagesOfAListAreNotOfOneMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory() // it lists keys from z to a
		m.page = 1
		w := &world{t: t, table: "leases", failover: 10 * time.Second}
		lease := func(text string) {
			for _, it := range leasesOf(text) {
				m.items[it.key] = it.attributes()
			}
		}
		lease("x=5")
		lease("c=5")
		w.api = between{m, new(sync.Once), func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			lease("p=TRIM")
			lease("a<y=TRIM")
			lease("y=TRIM")
		}}
		k := w.start("a", "", trim)
		k.has("c p x y")
		time.Sleep(time.Minute)
		k.has("c p x y")
		lane := k.lane("y")
		k.mu.Lock()
		delete(k.lanes, "y")
		k.mu.Unlock()
		if err := k.End(t.Context(), lane, shardsOf("a<y")); err != nil {
			t.Fatal(err)
		}
		k.has("a c p x")
		if strings.Count(k.did(), "+a") != 1 {
			t.Errorf("did %s", k.did())
		}
	})
}

// A shard that was gone before it was read to its end has no children that anybody knows of, and ends all the same.
func TestEndOfAShardThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, api: newMemory(), table: "leases", failover: 10 * time.Second}
		k := w.start("a", "s0 s1", trim)
		k.has("s0 s1")
		if err := k.End(t.Context(), k.lane("s0"), nil); !errors.Is(err, errChildren) {
			t.Errorf("a shard that is listed: %v", err)
		}
		_ = k.Shards(t.Context(), shardsOf("s1"))
		if err := k.End(t.Context(), k.lane("s0"), nil); err != nil || w.items()["s0"].checkpoint.Sequence != kinesis.ShardEnd {
			t.Errorf("a shard that is gone: %v", err)
		}
	})
}

func TestClientOptions(t *testing.T) {
	for _, o := range []ClientOptions{{Endpoint: "localhost:8000"}, {STSEndpoint: "ftp://x"}} {
		if _, err := NewClient(t.Context(), o); err == nil || !strings.Contains(err.Error(), "endpoint: it is not a URL") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// What the service says of a request does not pass by repeating it; faults of connections, too many calls and faults of the
// service do.
func TestWhatPasses(t *testing.T) {
	answer := "{}"
	status := 500
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Setenv("AWS_ACCESS_KEY_ID", "k")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	client, err := NewClient(t.Context(), ClientOptions{Region: "us-east-1", Endpoint: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	tb := table{api: client, name: "t", timeout: 5 * time.Second}
	for _, c := range []struct {
		status int
		code   string
		passes bool
	}{
		{500, "InternalServerError", true},
		{503, "ServiceUnavailable", true},
		{502, "", true},
		{400, "ProvisionedThroughputExceededException", true},
		{400, "ThrottlingException", true},
		{400, "ExpiredTokenException", true},
		{400, "AccessDeniedException", false},
		{400, "ResourceNotFoundException", false},
		{400, "ValidationException", false},
		{400, "UnrecognizedClientException", false},
		{403, "", false},
	} {
		status, answer = c.status, fmt.Sprintf(`{"__type":"com.amazonaws.dynamodb.v20120810#%s","message":"m"}`, c.code)
		_, _, err := tb.scan(t.Context())
		if err == nil || transient(err) != c.passes || missing(err) != (c.code == "ResourceNotFoundException") {
			t.Errorf("%d %s: passes %v, want %v: %v", c.status, c.code, transient(err), c.passes, err)
		}
		if !strings.Contains(err.Error(), `list the leases in DynamoDB's table "t"`) {
			t.Errorf("error does not say what was tried: %v", err)
		}
	}
	server.Close()
	if _, _, err := tb.scan(t.Context()); err == nil || !transient(err) {
		t.Errorf("no server: %v", err)
	}
	client.Close()
}

// In a table of several streams the leases of this one are used, with keys of their form, and those of others are left alone.
func TestTableOfSeveralStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		for _, av := range fixture(t, "kcl3.json") {
			m.items[keyIn(av)] = av
		}
		const ours, theirs = "123456789012:clicks:1725000000:", "999999999999:clicks:1725000000:shardId-000000000007"
		before := maps.Clone(m.items)
		w := &world{t: t, api: m, table: "leases", failover: 10 * time.Second}
		k := w.start("a", "shardId-000000000007 shardId-000000000008<shardId-000000000007", trim)
		k.has("shardId-000000000007") // those who had it, and were to have it, are dead
		if c := k.change("shardId-000000000007"); c.From.Sequence != number56 {
			t.Errorf("goes on at %+v", c)
		}
		lane := k.lane("shardId-000000000007")
		k.commits(lane, kinesis.Checkpoint{Sequence: number56[:55] + "1"}, nil)
		if err := k.End(t.Context(), lane, nil); err != nil {
			t.Fatal(err)
		}
		w.eventually("the child is read", func() bool { return k.lane("shardId-000000000008").Shard != "" })
		child := m.items[ours+"shardId-000000000008"]
		if shown(child[attrStream]) != "S"+strings.TrimSuffix(ours, ":") || shown(child[attrShard]) != "SshardId-000000000008" {
			t.Errorf("the child's lease is %v", child)
		}
		parent := m.items[ours+"shardId-000000000007"]
		if shown(parent["throughputKBps"]) != "N12.37" || shown(parent[attrCheckpoint]) != "SSHARD_END" || parent[attrCheckpointOwner] != nil {
			t.Errorf("the parent's lease is %v", parent)
		}
		for key, av := range before {
			if !strings.HasPrefix(key, ours) && !reflect.DeepEqual(m.items[key], av) || m.items[theirs] == nil {
				t.Errorf("%s is changed to %v", key, m.items[key])
			}
		}
		if len(m.items) != len(before)+1 {
			t.Errorf("there are %d items, and were %d", len(m.items), len(before))
		}
	})
}

// A lease at LATEST of a KCL that read nothing begins when it is taken, and there again if it is lost before a commit.
func TestLatestIsResolvedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		for _, it := range leasesOf("s0=LATEST s1=TIME") {
			m.items[it.key] = it.attributes()
		}
		w := &world{t: t, api: m, table: "leases", failover: 10 * time.Second}
		began := time.Now()
		k := w.start("a", "s0 s1", trim)
		k.has("s0 s1")
		first := k.change("s0").From
		if first.Sequence != kinesis.AtTimestamp || first.Time.Sub(began).Abs() > time.Second {
			t.Errorf("begins at %v, and it is %v", first, began)
		}
		if got := k.change("s1").From; got != trim {
			t.Errorf("a time that nobody knows is %v", got)
		}
		k.crash()
		time.Sleep(time.Hour)
		k = w.start("b", "s0 s1", trim)
		k.has("s0 s1")
		if got := k.change("s0").From; got != first {
			t.Errorf("begins at %v, and before at %v", got, first)
		}
		if shown(m.items["s0"][attrCheckpoint]) != "SLATEST" {
			t.Errorf("the KCL finds %v", m.items["s0"])
		}
	})
}

// BenchmarkPass looks at a table of 1000 leases, half of them another worker's.
func BenchmarkPass(b *testing.B) {
	m := newMemory()
	var all []kinesis.Shard
	for i := range 1000 {
		all = append(all, kinesis.Shard{ID: fmt.Sprintf("shardId-%012d", i)})
		it := newItem(all[i], naming{}, trim, time.Time{})
		if i%2 == 0 {
			it.owner = "kcl"
		}
		av := it.attributes()
		if it.owner != "" {
			av[attrOwner] = text(it.owner)
		}
		m.items[it.key] = av
	}
	o, err := New(Options{API: m, Table: "t", Worker: "a"})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := o.Begin(b.Context(), theStream, trim); err != nil {
		b.Fatal(err)
	}
	_ = o.Shards(b.Context(), all)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.pass(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func TestLook(t *testing.T) {
	m := newMemory()
	m.exists = false
	if s, err := Look(t.Context(), m, "t"); err != nil || !s.Missing {
		t.Errorf("no table: %+v, %v", s, err)
	}
	m.exists = true
	for _, file := range []string{"kcl2.json", "kcl3.json"} {
		for _, av := range fixture(t, file) {
			m.items[keyIn(av)] = av
		}
	}
	m.items["shardId-9"] = keyOf("shardId-9")
	s, err := Look(t.Context(), m, "t")
	if err != nil || s.Missing || s.Leases != 5 || s.Ended != 1 || s.Workers != 2 || len(s.Faults) != 1 {
		t.Errorf("got %+v, %v", s, err)
	}
}
