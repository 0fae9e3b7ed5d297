package config

import (
	"errors"
	"strings"
	"testing"
	"time"
)

const kafkaStream = `
streams:
  - name: s
    source:
      kafka: SOURCE
    destination: { file: { path: ./out } }
`

func decodeKafka(t *testing.T, source string) (*Stream, []Fault) {
	t.Helper()
	f, err := Decode("hydrant.yaml", []byte(strings.Replace(kafkaStream, "SOURCE", source, 1)), func(name string) (string, bool) { return "pa$$", name == "PW" })
	var e *Error
	if err != nil && !errors.As(err, &e) {
		t.Fatal(err)
	}
	if e != nil {
		return nil, e.Faults
	}
	return &f.Config.Streams[0], nil
}

func TestKafka(t *testing.T) {
	s, faults := decodeKafka(t, `{ brokers: ["b:9092"], topics: [clicks], group: g }`)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	k := s.Source.Kafka
	if k.Start != "earliest" || k.OutOfRange != "stop" || k.Isolation != "read_committed" || k.Tombstones != "drop" || k.Arrival != "timestamp" || k.Value.Format != "raw" ||
		time.Duration(k.SessionTimeout) != 45*time.Second || time.Duration(k.RebalanceTimeout) != time.Minute || k.TLS != nil || k.SASL != nil || k.InstanceID != "" {
		t.Errorf("defaults: %+v", k)
	}
	s, faults = decodeKafka(t, `{ brokers: ["b:9092", "[::1]:9093"], topics: [clicks, "/^x-.*/"], group: g, instance_id: "r-0", start: "2026-03-01T00:00:00+01:00", out_of_range: latest,
        isolation: read_uncommitted, tombstones: mark, arrival: read, session_timeout: 6s, rebalance_timeout: 30m, tls: {}, sasl: { mechanism: scram-sha-512, username: u, password: "${PW}" },
        value: { format: confluent_avro, registry: { url: "https://r:8081", username: u, password: p } } }`)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	k = s.Source.Kafka
	at, ok := k.StartTime()
	if pw, _ := k.SASL.Password.Value(); !ok || !at.Equal(time.Date(2026, 2, 28, 23, 0, 0, 0, time.UTC)) || k.TLS == nil || pw != "pa$$" || k.Value.Registry.URL != "https://r:8081" {
		t.Errorf("%+v", k)
	}
	for topic, want := range map[string]string{"/^x-.*/": "^x-.*", "//": "", "x": "none", "/": "none"} {
		pattern, ok := TopicPattern(topic)
		if !ok {
			pattern = "none"
		}
		if pattern != want {
			t.Errorf("%s is %q, want %q", topic, pattern, want)
		}
	}
}

func TestKafkaFaults(t *testing.T) {
	long := strings.Repeat("x", 250)
	for _, c := range []struct{ source, want string }{
		{`{}`, "streams[0].source.kafka.brokers: is required"},
		{`{ brokers: [], topics: [t], group: g }`, "kafka.brokers: is empty"},
		{`{ brokers: [b], topics: [t], group: g }`, `kafka.brokers[0]: is not the address of a broker`},
		{`{ brokers: ["b:0"], topics: [t], group: g }`, `kafka.brokers[0]: is not the address of a broker`},
		{`{ brokers: ["b:65536"], topics: [t], group: g }`, `kafka.brokers[0]: is not the address of a broker`},
		{`{ brokers: ["b:65535"], topics: [t], group: g }`, ""},
		{`{ brokers: ["b:1"], topics: [], group: g }`, "kafka.topics: is empty"},
		{`{ brokers: ["b:1"], topics: [t, t], group: g }`, "kafka.topics[1]: is given twice"},
		{`{ brokers: ["b:1"], topics: ["/(/"], group: g }`, "kafka.topics[0]: is not a regular expression"},
		{`{ brokers: ["b:1"], topics: ["//"], group: g }`, "kafka.topics[0]: is not a regular expression"},
		{`{ brokers: ["b:1"], topics: ["a b"], group: g }`, "kafka.topics[0]: is not a topic's name"},
		{`{ brokers: ["b:1"], topics: [".."], group: g }`, "kafka.topics[0]: is not a topic's name"},
		{`{ brokers: ["b:1"], topics: [` + long + `], group: g }`, "kafka.topics[0]: is not a topic's name"},
		{`{ brokers: ["b:1"], topics: [` + long[1:] + `], group: g }`, ""},
		{`{ brokers: ["b:1"], topics: [t], group: ` + long + ` }`, "kafka.group"},
		{`{ brokers: ["b:1"], topics: [t], group: g, instance_id: "a b" }`, "kafka.instance_id"},
		{`{ brokers: ["b:1"], topics: [t], group: g, start: newest }`, "kafka.start"},
		{`{ brokers: ["b:1"], topics: [t], group: g, start: "2026-13-01T00:00:00Z" }`, "kafka.start: is not a time"},
		{`{ brokers: ["b:1"], topics: [t], group: g, session_timeout: 5s }`, "kafka.session_timeout"},
		{`{ brokers: ["b:1"], topics: [t], group: g, rebalance_timeout: 31m }`, "kafka.rebalance_timeout"},
		{`{ brokers: ["b:1"], topics: [t], group: g, sasl: { mechanism: plain, password: p } }`, "kafka.sasl.username: is required with mechanism plain"},
		{`{ brokers: ["b:1"], topics: [t], group: g, sasl: { mechanism: plain, username: u } }`, "kafka.sasl.password: is required with mechanism plain"},
		{`{ brokers: ["b:1"], topics: [t], group: g, sasl: { mechanism: aws-msk-iam, username: u } }`, "kafka.sasl: has a username or a password"},
		{`{ brokers: ["b:1"], topics: [t], group: g, sasl: { mechanism: aws-msk-iam } }`, ""},
		{`{ brokers: ["b:1"], topics: [t], group: g, tls: { cert_file: c } }`, "kafka.tls: has only one of cert_file and key_file"},
		{`{ brokers: ["b:1"], topics: [t], group: g, value: { format: confluent_avro } }`, "kafka.value.registry: is required with format confluent_avro"},
		{`{ brokers: ["b:1"], topics: [t], group: g, value: { registry: { url: "http://r" } } }`, "kafka.value.registry: is not used with format raw"},
		{`{ brokers: ["b:1"], topics: [t], group: g, value: { format: confluent_avro, registry: { url: "ftp://r" } } }`, "kafka.value.registry.url: is not a URL"},
		{`{ brokers: ["b:1"], topics: [t], group: g, value: { format: confluent_avro, registry: { url: "http://r", password: p } } }`, "kafka.value.registry.username: is required with a password"},
	} {
		_, faults := decodeKafka(t, c.source)
		all := make([]string, len(faults))
		for i, f := range faults {
			all[i] = f.Path + ": " + f.Problem
		}
		got := strings.Join(all, "\n")
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", c.source, got, c.want)
		}
		if strings.Contains(got, "pa$$") {
			t.Errorf("a secret in %q", got)
		}
	}
	_, faults := decodeKafka(t, `{ brokers: ["b:1"], topics: [t], group: g }
    limits: { records_per_second: 5 }`)
	if len(faults) != 1 || faults[0].Path != "streams[0].limits" {
		t.Errorf("%v", faults)
	}
}

// A registry's URL with a login in it is told where that goes, and not shown.
func TestRegistryLogin(t *testing.T) {
	_, faults := decodeKafka(t, `{ brokers: ["b:1"], topics: [t], group: g, value: { format: confluent_avro, registry: { url: "http://u:pa55@r" } } }`)
	if len(faults) != 1 || faults[0].Remedy != "give username and password beside it" || strings.Contains(faults[0].String(), "pa55") {
		t.Errorf("%v", faults)
	}
}

// TestKafkaGroups: two streams in one group must not read the same topics, or be the same member.
func TestKafkaGroups(t *testing.T) {
	const one = `{ brokers: ["a:1", "b:1"], topics: [t, "/^x-.*/"], group: g, instance_id: i }`
	for _, c := range []struct{ two, want string }{
		{`{ brokers: ["b:1"], topics: [t], group: g }`, "streams[1].source.kafka.group: is that of stream s, which reads t too"},
		{`{ brokers: ["b:1"], topics: [u, x-1], group: g }`, "streams[1].source.kafka.group: is that of stream s, which reads x-1 too"},
		{`{ brokers: ["b:1"], topics: ["/^t$/"], group: g }`, "streams[1].source.kafka.group: is that of stream s, which reads /^t$/ too"},
		{`{ brokers: ["b:1"], topics: ["/^x-.*/"], group: g }`, "streams[1].source.kafka.group: is that of stream s, which reads /^x-.*/ too"},
		{`{ brokers: ["b:1"], topics: [u, x], group: g, instance_id: i }`, "streams[1].source.kafka.instance_id: is that of stream s in the same group"},
		{`{ brokers: ["b:1"], topics: [u, "/^tt/"], group: g, instance_id: j }`, ""},
		{`{ brokers: ["b:1"], topics: [u], group: g }`, ""},
		{`{ brokers: ["b:1"], topics: [t], group: h, instance_id: i }`, ""},
		{`{ brokers: ["c:1"], topics: [t], group: g, instance_id: i }`, ""},
	} {
		_, faults := decodeKafka(t, one+`
    destination: { file: { path: ./out } }
  - name: two
    source: { kafka: `+c.two+` }`)
		got := ""
		for _, f := range faults {
			got += f.Path + ": " + f.Problem + "\n"
			if f.Remedy == "" {
				t.Errorf("%s: no remedy", f.Path)
			}
		}
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) || len(faults) > 1 {
			t.Errorf("%s: %s, want %s", c.two, got, c.want)
		}
	}
}

// TestKafkaSecrets: a stored version gets the passwords of the present file, and is delivered without them where the source
// is gone from it.
func TestKafkaSecrets(t *testing.T) {
	now, faults := decodeKafka(t, `{ brokers: ["b:1"], topics: [t], group: g, sasl: { mechanism: plain, username: u, password: secret-1 },
        value: { format: confluent_avro, registry: { url: "http://r", username: u, password: secret-2 } } }`)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	spec := now.Spec()
	if strings.Contains(string(spec), "secret") {
		t.Errorf("%s", spec)
	}
	old, err := ParseSpec("s", spec)
	if err != nil {
		t.Fatal(err)
	}
	if string(old.Spec()) != string(spec) {
		t.Errorf("%s is read back as %s", spec, old.Spec())
	}
	if err := old.TakeSecrets(nil); err != nil {
		t.Errorf("without the source: %v", err)
	}
	if err := old.TakeSecrets(now); err != nil {
		t.Fatal(err)
	}
	if a, _ := old.Source.Kafka.SASL.Password.Value(); a != "secret-1" {
		t.Errorf("%q", a)
	}
	if b, _ := old.Source.Kafka.Value.Registry.Password.Value(); b != "secret-2" {
		t.Errorf("%q", b)
	}
}
