package kinesis_test

import (
	"fmt"
	"strings"
	"testing"

	"hydrant/sources/kinesis"
	"hydrant/sources/kinesis/kinesistest"
)

func TestProbe(t *testing.T) {
	credentials(t)
	s := newFake(t, kinesistest.Options{})
	s.CreateStream("s", 2)
	s.split(t, "s", "shardId-000000000000")
	f := func(want string, o kinesis.Options) {
		t.Helper()
		r, err := kinesis.New(o)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, p := range r.Probe(t.Context()) {
			if p.Err != nil {
				got.WriteString("failed ")
			}
			fmt.Fprintf(&got, "%s: %s\n", p.Check, p.Found)
		}
		if g := got.String(); g != want {
			t.Errorf("got\n%swant\n%s", g, want)
		}
	}
	const stream = "stream: arn:aws:kinesis:us-east-1:000000000000:stream/s is there and keeps records for 24h0m0s\nshards: 3 are open\n"
	f(stream+"records: shard shardId-000000000001 can be read\n", options(s, "s"))
	f(stream+"consumer: hydrant will be registered\n", fanOut(s, "s"))
	if s.Calls("RegisterStreamConsumer") != 0 {
		t.Error("the consumer was registered")
	}
	s.SetFault(func(c kinesistest.Call) *kinesistest.Fault {
		if c.Operation == "ListShards" {
			return &kinesistest.Fault{Type: "AccessDeniedException", Message: "no"}
		}
		return nil
	})
	o := options(s, "s")
	r, err := kinesis.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Probe(t.Context()); len(got) != 2 || got[1].Check != "shards" || got[1].Err == nil || !strings.Contains(got[1].Found, "docs/kinesis.md") {
		t.Errorf("%+v", got)
	}
}
