package config

import (
	"strings"
	"testing"
	"time"
)

func kinesisSource(t *testing.T, source string) *Stream {
	t.Helper()
	return &decode(t, "aws: { region: eu-central-1, endpoints: { kinesis: 'http://k:1' } }\nstreams: [ { name: s, source: { kinesis: "+source+" }, destination: { file: { path: /l } } } ]").Config.Streams[0]
}

func TestKinesisSource(t *testing.T) {
	f := func(source string, want Kinesis) {
		t.Helper()
		s := kinesisSource(t, source)
		if *s.Source.Kinesis != want || s.Source.DirectPut != nil {
			t.Errorf("%s\n got %+v\nwant %+v", source, *s.Source.Kinesis, want)
		}
		back, err := ParseSpec("s", s.Spec())
		if err != nil || *back.Source.Kinesis != want {
			t.Errorf("%s is read back as %+v, %v", s.Spec(), back, err)
		}
	}
	f("{ stream: clicks }", Kinesis{
		Stream: "clicks", Start: "latest", Consumer: KinesisConsumer{Word: "polling"}, KPL: "split", Checkpoints: KinesisCheckpoints{Word: "local"},
		Region: "eu-central-1", Endpoint: "http://k:1",
	})
	const arn = "arn:aws:kinesis:us-west-2:123456789012:stream/clicks"
	f("{ stream: '"+arn+"', start: '2026-03-01T00:00:00Z', consumer: { enhanced_fan_out: hydrant }, kpl: keep, checkpoints: { dynamodb: leases }, endpoint: 'http://h', role_arn: 'arn:aws:iam::123456789012:role/r' }", Kinesis{
		Stream: arn, Start: "2026-03-01T00:00:00Z", Consumer: KinesisConsumer{Word: "enhanced_fan_out", EnhancedFanOut: "hydrant"}, KPL: "keep",
		Checkpoints: KinesisCheckpoints{DynamoDB: "leases", Failover: Duration(10 * time.Second)}, Region: "us-west-2", Endpoint: "http://h", RoleARN: "arn:aws:iam::123456789012:role/r",
	})
	f("{ stream: clicks, checkpoints: { dynamodb: leases, failover: 5m } }", Kinesis{
		Stream: "clicks", Start: "latest", Consumer: KinesisConsumer{Word: "polling"}, KPL: "split",
		Checkpoints: KinesisCheckpoints{DynamoDB: "leases", Failover: Duration(5 * time.Minute)}, Region: "eu-central-1", Endpoint: "http://k:1",
	})
	f("{ stream: clicks, start: trim_horizon, region: us-east-2 }", Kinesis{
		Stream: "clicks", Start: "trim_horizon", Consumer: KinesisConsumer{Word: "polling"}, KPL: "split", Checkpoints: KinesisCheckpoints{Word: "local"},
		Region: "us-east-2", Endpoint: "http://k:1",
	})
}

func TestKinesisBegins(t *testing.T) {
	for _, c := range []struct {
		start, word string
		at          time.Time
	}{
		{"latest", "latest", time.Time{}},
		{"trim_horizon", "trim_horizon", time.Time{}},
		{"2026-03-01T01:00:00.5+01:00", "", time.Date(2026, 3, 1, 0, 0, 0, 5e8, time.UTC)},
	} {
		word, at, err := (&Kinesis{Start: c.start}).Begins()
		if word != c.word || !at.Equal(c.at) || err != nil {
			t.Errorf("%s is %q, %v, %v", c.start, word, at, err)
		}
	}
	if _, _, err := (&Kinesis{Start: "yesterday"}).Begins(); err == nil {
		t.Error("yesterday is a time")
	}
}

func TestKinesisFaults(t *testing.T) {
	f := func(source, want string) {
		t.Helper()
		got := faults(t, "streams:\n  - name: s\n    destination: { file: { path: /lake } }\n    source: { kinesis: "+source+" }\n", noEnv)
		if _, after, ok := strings.Cut(got, "streams[0]."); !ok || after != want {
			t.Errorf("%s: got  %s\nwant %s", source, got, want)
		}
	}
	f("{}", "source.kinesis.stream: is required (the name or the ARN of a data stream)")
	f("{ stream: 'a b' }", `source.kinesis.stream: is neither the name nor the ARN of a data stream: "a b" (write 1 to 128 letters, digits, _, . and -, or an ARN like arn:aws:kinesis:us-east-1:123456789012:stream/clicks)`)
	f("{ stream: 'arn:aws:kinesis:us-east-1:1:stream/s' }", `source.kinesis.stream: is neither the name nor the ARN of a data stream: "arn:aws:kinesis:us-east-1:1:stream/s" (write 1 to 128 letters, digits, _, . and -, or an ARN like arn:aws:kinesis:us-east-1:123456789012:stream/clicks)`)
	f("{ stream: s, start: yesterday }", `source.kinesis.start: is not latest, trim_horizon or a time: "yesterday" (write a time like 2026-03-01T00:00:00Z)`)
	f("{ stream: s, consumer: push }", `source.kinesis.consumer: is not polling: "push" (write polling or { enhanced_fan_out: ENHANCED_FAN_OUT })`)
	f("{ stream: s, consumer: { enhanced_fan_out: 'a b' } }", `source.kinesis.consumer.enhanced_fan_out: is no name of a consumer: "a b" (write 1 to 128 letters, digits, _, . and -)`)
	f("{ stream: s, checkpoints: { dynamodb: ab } }", `source.kinesis.checkpoints.dynamodb: is no name of a table: "ab" (write 3 to 255 letters, digits, _, . and -)`)
	f("{ stream: s, checkpoints: { failover: 10s } }", `source.kinesis.checkpoints.dynamodb: is required (the name of a table)`)
	f("{ stream: s, checkpoints: remote }", `source.kinesis.checkpoints: is not local (write local or { dynamodb: DYNAMODB })`)
	f("{ stream: s, checkpoints: { dynamodb: abc, failover: 999ms } }", `source.kinesis.checkpoints.failover: is below the least, 1s: "999ms" (allowed: from 1s to 5m)`)
	f("{ stream: s, checkpoints: { dynamodb: abc, failover: 301s } }", `source.kinesis.checkpoints.failover: is above the most, 5m: "301s" (allowed: from 1s to 5m)`)
	f("{ stream: s, kpl: drop }", `source.kinesis.kpl: is not split or keep: "drop" (write split or keep)`)
	f("{ stream: s, role_arn: r }", `source.kinesis.role_arn: cannot be taken: "r" (wanted: the ARN of a role)`)
}

// A table belongs to one stream: two that shared one would share its shards.
func TestKinesisTables(t *testing.T) {
	stream := func(name, table string) string {
		return "  - { name: " + name + ", destination: { file: { path: /lake } }, source: { kinesis: { stream: " + name + ", checkpoints: { dynamodb: " + table + " } } } }\n"
	}
	decode(t, "streams:\n"+stream("a", "abc")+stream("b", "abd"))
	want := `streams[1].source.kinesis.checkpoints.dynamodb: is the table of stream a: "abc" (give each stream a table of its own)`
	if got := faults(t, "streams:\n"+stream("a", "abc")+stream("b", "abc"), noEnv); !strings.Contains(got, want) {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
