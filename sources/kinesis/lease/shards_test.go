package lease

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hydrant/sources/kinesis"
)

// shardsOf reads "a b<a c<a,b": shards with their parents.
func shardsOf(text string) []kinesis.Shard {
	var all []kinesis.Shard
	for word := range strings.FieldsSeq(text) {
		id, parents, some := strings.Cut(word, "<")
		s := kinesis.Shard{ID: id}
		if some {
			s.Parents = strings.Split(parents, ",")
		}
		all = append(all, s)
	}
	return all
}

// leasesOf reads "a=END b<a=5 c<a,b=TRIM": leases with their parents and checkpoints.
func leasesOf(text string) leases {
	known := leases{}
	for word := range strings.FieldsSeq(text) {
		shard, at, _ := strings.Cut(word, "=")
		s := shardsOf(shard)[0]
		it := newItem(s, naming{}, kinesis.Checkpoint{Sequence: strings.NewReplacer("END", kinesis.ShardEnd, "TRIM", kinesis.TrimHorizon, "TIME", kinesis.AtTimestamp).Replace(at)}, time.Time{})
		known[it.shard] = &it
	}
	return known
}

func TestAbsent(t *testing.T) {
	at := time.UnixMilli(1725000000000)
	trim, first := kinesis.Checkpoint{Sequence: kinesis.TrimHorizon}, kinesis.Checkpoint{Sequence: kinesis.AtTimestamp, Time: at}
	for _, c := range []struct {
		name, list, known string
		first             kinesis.Checkpoint
		want              string
	}{
		{"nothing", "", "", trim, ""},
		{"a new stream", "b a", "", trim, "a=TRIM_HORIZON b=TRIM_HORIZON"},
		{"from a time, all that is listed", "a b<a c<a", "", first, "a=AT_TIMESTAMP b=AT_TIMESTAMP c=AT_TIMESTAMP"},
		{"parents first, whatever their names", "a<z z", "", trim, "z=TRIM_HORIZON a=TRIM_HORIZON"},
		{"everything has one", "a b", "a=5 b=TRIM", first, ""},
		{"a split", "a b<a c<a", "a=5", first, "b=TRIM_HORIZON c=TRIM_HORIZON"},
		{"a merge", "a b c<a,b", "a=5 b=6", first, "c=TRIM_HORIZON"},
		{"read, and its lease was removed", "a b<a c<a", "b<a=5 c<a=TRIM", trim, ""},
		{"generations ago", "a b<a c<a d<b e<b", "c<a=5 d<b=5 e<b=5", trim, ""},
		{"half of the children have one", "a b<a c<a", "b<a=5", trim, "c=TRIM_HORIZON"},
		{"the list was cut before the parent", "b<a c<a", "a=END b<a=5", trim, "c=TRIM_HORIZON"},
		{"a parent that only leases know of", "a", "b<a=5", trim, ""},
		{"the child that only its parent's lease knows of", "a b", "a=END", trim, "b=TRIM_HORIZON"},
		{"new and unrelated", "a b", "a=5", first, "b=TRIM_HORIZON"},
		{"a cycle", "a<b b<a", "", trim, "b=TRIM_HORIZON a=TRIM_HORIZON"},
		{"made by a KCL from the latest", "a b<a c<a", "b<a=LATEST c<a=LATEST", first, ""},
	} {
		var got []string
		for _, it := range absent(shardsOf(c.list), leasesOf(c.known), naming{}, c.first, at) {
			got = append(got, it.key+"="+it.checkpoint.Sequence)
			if !it.notBefore.Equal(at) || it.counter != 0 || it.owner != "" {
				t.Errorf("%s: made %+v", c.name, it)
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: got %q, want %q", c.name, s, c.want)
		}
	}
	made := absent(shardsOf("a"), leases{}, naming{"1:s:2"}, trim, time.Time{})
	if len(made) != 1 || made[0].key != "1:s:2:a" || made[0].shard != "a" || made[0].stream != "1:s:2" {
		t.Errorf("in a table of several streams: %+v", made)
	}
}

// A list of thousands of shards of many generations takes no longer than it should.
func TestAbsentOfManyGenerations(t *testing.T) {
	var all []kinesis.Shard
	for i := range 5000 {
		s := kinesis.Shard{ID: fmt.Sprintf("shardId-%012d", i)}
		if i >= 2 { // merged of the two before: paths through it are as many as Fibonacci's numbers
			s.Parents = []string{all[i-1].ID, all[i-2].ID}
		}
		all = append(all, s)
	}
	last := newItem(all[4999], naming{}, kinesis.Checkpoint{Sequence: "1"}, time.Time{})
	if made := absent(all, leases{last.shard: &last}, naming{}, kinesis.Checkpoint{Sequence: kinesis.TrimHorizon}, time.Time{}); len(made) != 0 {
		t.Errorf("made %d leases of shards that were read", len(made))
	}
}

func TestReadable(t *testing.T) {
	for _, c := range []struct{ known, want string }{
		{"a=TRIM b=5", "a b"},
		{"a=5 b<a=TRIM c<a=TRIM", "a"},
		{"a=END b<a=TRIM c<a=TRIM", "b c"},
		{"a=END b=5 c<a,b=TRIM", "b"},
		{"a=END b=END c<a,b=TRIM", "c"},
		{"b=END c<a,b=TRIM", "c"}, // a is gone
		{"a=END", ""},
	} {
		known := leasesOf(c.known)
		var got []string
		for _, it := range known {
			if readable(it, known) {
				got = append(got, it.shard)
			}
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: got %q, want %q", c.known, s, c.want)
		}
	}
	known := leasesOf("a=5 b<a=TRIM")
	known["a"] = &item{key: "a", shard: "a", bad: true}
	if readable(known["b"], known) {
		t.Error("a shard is read before its parent, whose lease cannot be read")
	}
}

func TestRemovable(t *testing.T) {
	for _, c := range []struct{ list, known, want string }{
		{"a b<a c<a", "a=5 b<a=TRIM c<a=TRIM", ""},
		{"a b<a c<a", "a=END b<a=TRIM c<a=TRIM", ""},
		{"a b<a c<a", "a=END b<a=5 c<a=TRIM", ""},
		{"a b<a c<a", "a=END b<a=5 c<a=TIME", ""},
		{"a b<a c<a", "a=END b<a=5 c<a=7", "a"},
		{"a b<a c<a", "a=END b<a=END c<a=7", "a"},
		{"a b<a c<a", "a=END b<a=5", ""}, // c has none yet
		{"a b c<a,b", "a=END b=5 c<a,b=TRIM", ""},
		{"a b c<a,b", "a=END b=END c<a,b=5", "a b"},
		{"a b<a c<a d<b", "a=END b<a=END c<a=5 d<b=5", "a"}, // and b after it
		{"a b<a c<a d<b", "b<a=END c<a=5 d<b=5", "b"},
		{"a", "a=END", ""}, // children are not known
		{"", "a=END", "a"}, // nor the shard
		{"", "a=END b<a=TRIM", ""},
		{"", "a=5", ""},
	} {
		var got []string
		for _, it := range removable(shardsOf(c.list), leasesOf(c.known)) {
			got = append(got, it.shard)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s with %s: got %q, want %q", c.list, c.known, s, c.want)
		}
	}
	known := leasesOf("a=END")
	known["a"].children = []string{"b"}
	if got := removable(nil, known); len(got) != 0 {
		t.Errorf("removed a shard whose child has no lease")
	}
}

func TestNameLeases(t *testing.T) {
	stream := kinesis.Stream{Name: "s", ARN: "arn:aws:kinesis:eu-west-1:123456789012:stream/s", Created: time.Unix(1725000000, 0)}
	items := func(keys ...string) (all []item) {
		for _, key := range keys {
			it, err := parseItem((&item{key: key, checkpoint: kinesis.Checkpoint{Sequence: "1"}}).attributes())
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, it)
		}
		return all
	}
	for _, c := range []struct {
		items []item
		want  string
	}{
		{items(), ""},
		{items("shardId-0"), ""},
		{items("123456789012:s:1725000000:shardId-0"), "123456789012:s:1725000000"},
		{items("shardId-0", "123456789012:s:1725000000:shardId-0"), "123456789012:s:1725000000"},
		{items("123456789012:other:1725000000:shardId-0"), "123456789012:s:1725000000"},
		{items("123456789012:s:1600000000:shardId-0"), "123456789012:s:1725000000"}, // an earlier stream of the name
		{items("999999999999:s:1725000000:shardId-0"), "123456789012:s:1725000000"},
		{items("shardId-0", "123456789012:other:1725000000:shardId-0"), ""},
	} {
		if got := nameLeases(c.items, stream); got.stream != c.want {
			t.Errorf("%+v: got %q, want %q", c.items, got.stream, c.want)
		}
	}
}
