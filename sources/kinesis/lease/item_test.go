package lease

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"hydrant/sources/kinesis"
)

// fromJSON reads a value in DynamoDB's own JSON.
func fromJSON(v map[string]any, depth int) (types.AttributeValue, error) {
	bad := fmt.Errorf("%v is no attribute value", v)
	if len(v) != 1 || depth > 32 {
		return nil, bad
	}
	for kind, v := range v {
		s, isText := v.(string)
		list, isList := v.([]any)
		var texts []string
		for _, e := range list {
			if s, ok := e.(string); ok {
				texts = append(texts, s)
			}
		}
		switch {
		case kind == "S" && isText:
			return &types.AttributeValueMemberS{Value: s}, nil
		case kind == "N" && isText:
			return &types.AttributeValueMemberN{Value: s}, nil
		case kind == "B" && isText:
			b, err := base64.StdEncoding.DecodeString(s)
			return &types.AttributeValueMemberB{Value: b}, err
		case kind == "SS" && isList:
			return &types.AttributeValueMemberSS{Value: texts}, nil
		case kind == "NS" && isList:
			return &types.AttributeValueMemberNS{Value: texts}, nil
		case kind == "BOOL":
			b, _ := v.(bool)
			return &types.AttributeValueMemberBOOL{Value: b}, nil
		case kind == "NULL":
			return &types.AttributeValueMemberNULL{Value: true}, nil
		case kind == "L" && isList:
			l := &types.AttributeValueMemberL{}
			for _, e := range list {
				m, _ := e.(map[string]any)
				w, err := fromJSON(m, depth+1)
				if err != nil {
					return nil, err
				}
				l.Value = append(l.Value, w)
			}
			return l, nil
		case kind == "M":
			fields, ok := v.(map[string]any)
			if !ok {
				return nil, bad
			}
			m, err := itemFromJSON(fields, depth+1)
			return &types.AttributeValueMemberM{Value: m}, err
		}
	}
	return nil, bad
}

func itemFromJSON(fields map[string]any, depth int) (map[string]types.AttributeValue, error) {
	av := map[string]types.AttributeValue{}
	for name, v := range fields {
		m, _ := v.(map[string]any)
		w, err := fromJSON(m, depth)
		if err != nil {
			return nil, err
		}
		av[name] = w
	}
	return av, nil
}

// fixture reads a file of items in DynamoDB's JSON.
func fixture(t testing.TB, name string) []map[string]types.AttributeValue {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var raw []map[string]any
	if err := json.Unmarshal(b, &raw); err != nil {
		t.Fatal(err)
	}
	var items []map[string]types.AttributeValue
	for _, fields := range raw {
		av, err := itemFromJSON(fields, 0)
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, av)
	}
	return items
}

const number56 = "49656112345678901234567890123456789012345678901234567890"

// Items as a KCL 2 and a KCL 3.5 write them.
func TestItemsOfTheKCL(t *testing.T) {
	const worker = "ip-10-0-3-17.eu-west-1.compute.internal:6a9c6f0e-27c3-4b0e-9d40-1f6f6f1f9b61"
	const all, half = "340282366920938463463374607431768211455", "170141183460469231731687303715884105727"
	for _, c := range []struct {
		file string
		want []*item // nil: not a lease
	}{
		{"kcl2.json", []*item{
			{key: "shardId-000000000000", shard: "shardId-000000000000", owner: worker, counter: 4711, checkpoint: kinesis.Checkpoint{Sequence: kinesis.ShardEnd}, children: []string{"shardId-000000000001", "shardId-000000000002"}, startHash: "0", endHash: all},
			{key: "shardId-000000000001", shard: "shardId-000000000001", owner: worker, counter: 912, checkpoint: kinesis.Checkpoint{Sequence: number56, Sub: 17}, parents: []string{"shardId-000000000000"}, startHash: "0", endHash: half},
			{key: "shardId-000000000002", shard: "shardId-000000000002", counter: 3, checkpoint: kinesis.Checkpoint{Sequence: kinesis.TrimHorizon}, parents: []string{"shardId-000000000000"}, startHash: "170141183460469231731687303715884105728", endHash: all},
		}},
		{"kcl3.json", []*item{
			{key: "123456789012:clicks:1725000000:shardId-000000000007", stream: "123456789012:clicks:1725000000", shard: "shardId-000000000007", owner: "b1c9d6a2-7d0e-4c58-8a53-0a2f0a6f3f55", checkpointOwner: "0f3bd3f7-9b83-4a39-8f0d-f8a1d1d3b7ce", counter: 88, checkpoint: kinesis.Checkpoint{Sequence: number56}, parents: []string{"shardId-000000000003", "shardId-000000000004"}, startHash: "0", endHash: all},
			{key: "999999999999:clicks:1725000000:shardId-000000000007", stream: "999999999999:clicks:1725000000", shard: "shardId-000000000007", checkpoint: kinesis.Checkpoint{Sequence: kinesis.Latest}},
			nil, nil, nil, nil, nil,
		}},
	} {
		items := fixture(t, c.file)
		if len(items) != len(c.want) {
			t.Fatalf("%s has %d items, want %d", c.file, len(items), len(c.want))
		}
		for i, av := range items {
			got, err := parseItem(av)
			switch {
			case c.want[i] == nil && !errors.Is(err, errNotALease):
				t.Errorf("%s item %d: got %+v, %v, want none", c.file, i, got, err)
			case c.want[i] != nil && (err != nil || !reflect.DeepEqual(got, *c.want[i])):
				t.Errorf("%s item %d:\ngot  %+v, %v\nwant %+v", c.file, i, got, err, *c.want[i])
			}
		}
	}
}

func TestItemsThatAreNone(t *testing.T) {
	good := func() map[string]types.AttributeValue {
		return (&item{key: "shardId-0", shard: "shardId-0", counter: 1, checkpoint: kinesis.Checkpoint{Sequence: "5"}}).attributes()
	}
	if _, err := parseItem(good()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		value types.AttributeValue // nil: absent
		want  string
	}{
		{attrKey, nil, "an item without leaseKey"},
		{attrKey, number(1), `leaseKey is a number, not a string`},
		{attrKey, text("1:a:2:"), `lease "1:a:2:": it names no shard`},
		{attrKey, text(":shardId-1"), `lease ":shardId-1": it names no shard, or no stream`},
		{attrCounter, nil, "leaseCounter is missing, not a number"},
		{attrCounter, text("1"), "leaseCounter is a string, not a number"},
		{attrCounter, number(-1), "leaseCounter is -1, below zero"},
		{attrCounter, &types.AttributeValueMemberN{Value: "1.5"}, `leaseCounter is "1.5", not a whole number of 64 bits`},
		{attrCounter, &types.AttributeValueMemberN{Value: "9223372036854775808"}, `not a whole number of 64 bits`},
		{attrCheckpoint, nil, `checkpoint is "": neither`},
		{attrCheckpoint, text("MIDDLE"), `checkpoint is "MIDDLE": neither a sequence number nor a known name`},
		{attrCheckpoint, text(strings.Repeat("9", 129)), "neither a sequence number"},
		{attrCheckpoint, text("-1"), "neither a sequence number"},
		{attrParents, text("a"), "parentShardId is a string, not a set of strings"},
		{attrParents, set(make([]string, maxShards+1)), "parentShardId is a set of 17, not a set of shards"},
		{attrOwner, &types.AttributeValueMemberB{}, "leaseOwner is bytes, not a string"},
		{attrEntity, number(1), "entityType is a number"},
	} {
		av := good()
		if delete(av, c.name); c.value != nil {
			av[c.name] = c.value
		}
		it, err := parseItem(av)
		if err == nil || !strings.Contains(err.Error(), c.want) || !it.bad {
			t.Errorf("%s = %v: got %+v, %v, want an error with %q", c.name, c.value, it, err, c.want)
		}
	}
	for name, v := range map[string]types.AttributeValue{ // what does not matter
		attrStartingHashKey: text("abc"),
		attrEndingHashKey:   text("340282366920938463463374607431768211456"), // 2^128
		attrSub:             number(-1),
		attrParents:         set(make([]string, maxShards)),
		attrOwner:           &types.AttributeValueMemberNULL{Value: true},
		attrNotBefore:       number(-1),
		attrPendingState:    number(7),
		attrPending:         number(7),
		"anything":          &types.AttributeValueMemberBOOL{},
	} {
		av := good()
		av[name] = v
		if it, err := parseItem(av); err != nil || it.endHash != "" || it.checkpoint.Sub != 0 || it.owner != "" || !it.notBefore.IsZero() {
			t.Errorf("%s = %v: got %+v, %v, want a lease", name, v, it, err)
		}
	}
	// The last sequence number that is one.
	av := good()
	av[attrCheckpoint] = text(strings.Repeat("9", 128))
	if it, err := parseItem(av); err != nil || !it.checkpoint.IsNumber() {
		t.Errorf("128 digits: got %+v, %v", it, err)
	}
}

// What is created can be read, and is what a KCL writes.
func TestItemRoundTrip(t *testing.T) {
	for _, it := range []item{
		{key: "shardId-1", shard: "shardId-1", checkpoint: kinesis.Checkpoint{Sequence: kinesis.TrimHorizon}},
		{key: "1:a:2:shardId-1", stream: "1:a:2", shard: "shardId-1", counter: 7, checkpoint: kinesis.Checkpoint{Sequence: kinesis.AtTimestamp}, parents: []string{"a", "b"}, startHash: "1", endHash: "2", notBefore: time.UnixMilli(1725000000123).UTC()},
		{key: "s", shard: "s", checkpoint: kinesis.Checkpoint{Sequence: number56, Sub: 3}},
	} {
		if got, err := parseItem(it.attributes()); err != nil || !reflect.DeepEqual(got, it) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, it)
		}
	}
	got := (&item{key: "s", shard: "s", checkpoint: kinesis.Checkpoint{Sequence: kinesis.TrimHorizon}}).attributes()
	want := map[string]types.AttributeValue{
		"leaseKey": text("s"), "leaseCounter": number(0), "ownerSwitchesSinceCheckpoint": number(0), "checkpoint": text("TRIM_HORIZON"),
		"checkpointSubSequenceNumber": number(0), "entityType": text("LEASE"),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func FuzzItem(f *testing.F) {
	for _, file := range []string{"kcl2.json", "kcl3.json"} {
		b, err := os.ReadFile("testdata/" + file)
		if err != nil {
			f.Fatal(err)
		}
		var raw []json.RawMessage
		if err := json.Unmarshal(b, &raw); err != nil {
			f.Fatal(err)
		}
		for _, m := range raw {
			f.Add([]byte(m))
		}
	}
	f.Add([]byte(`{"leaseKey":{"S":":"},"leaseCounter":{"N":"1e3"},"checkpoint":{"S":"1"},"parentShardId":{"SS":["","",""]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var fields map[string]any
		if json.Unmarshal(b, &fields) != nil {
			return
		}
		av, err := itemFromJSON(fields, 0)
		if err != nil {
			return
		}
		it, err := parseItem(av)
		if err != nil {
			if !errors.Is(err, errNotALease) && !it.bad {
				t.Fatalf("%v, and the item is not bad: %+v", err, it)
			}
			return
		}
		if it.bad || it.key == "" || it.shard == "" || it.counter < 0 || it.checkpoint.Compare(kinesis.Checkpoint{}) <= 0 || len(it.parents) > maxShards {
			t.Fatalf("no lease: %+v", it)
		}
		if it.stream != "" && it.stream+":"+it.shard != it.key {
			t.Fatalf("key %q has stream %q and shard %q", it.key, it.stream, it.shard)
		}
	})
}
