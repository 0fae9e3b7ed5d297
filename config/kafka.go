package config

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kafka reads topics of Apache Kafka, and of what speaks its protocol, as a member of a consumer group. See docs/kafka.md.
type Kafka struct {
	// Some brokers, as host:port; the others are learnt of them.
	Brokers []string `key:"brokers" required:"true" expect:"a list like [\"b-1:9092\", \"b-2:9092\"]"`
	// Names of topics. One between slashes, like "/^clicks-.*/", is a regular expression: topics that match are read, those
	// that are created later too.
	Topics []string `key:"topics" required:"true" expect:"a list of names"`
	// Consumer group. Replicas of the same group share the partitions; a new name reads from `start` again.
	Group string `key:"group" required:"true" pattern:"^.{1,249}$" expect:"1 to 249 characters"`
	// Name of this member of the group, for ever, another for each replica: one that restarts within `session_timeout` gets its
	// partitions back and no others are moved. Empty: every start is a new member.
	InstanceID string `key:"instance_id" default:"" pattern:"^[a-zA-Z0-9._-]{0,249}$" expect:"up to 249 letters, digits, ., _ or -"`
	// Where reading begins in partitions of which the group has no offset: `earliest`, `latest` (the time of the very first start,
	// which is kept), or at a time.
	Start string `key:"start" default:"earliest" pattern:"^(earliest|latest|[0-9]{4}-[0-9]{2}-[0-9]{2}T.*)$" expect:"earliest, latest or a time like 2026-03-01T00:00:00Z"`
	// What to do where the records at an offset are gone, or the topic was made anew: `stop` reading with an error, or go on with
	// the `earliest` or `latest` record.
	OutOfRange string `key:"out_of_range" default:"stop" enum:"stop|earliest|latest"`
	// `read_committed` leaves out records of transactions that were aborted, and waits for those that are open.
	Isolation string `key:"isolation" default:"read_committed" enum:"read_committed|read_uncommitted"`
	// Records without a value: `drop` them, which is counted, or `mark` them as {"_deleted":true}.
	Tombstones string `key:"tombstones" default:"drop" enum:"drop|mark"`
	// What counts as a record's arrival, for the prefix: its `timestamp`, or when it was `read`.
	Arrival string `key:"arrival" default:"timestamp" enum:"timestamp|read"`
	// How values are written.
	Value KafkaValue `key:"value"`
	// Time without a sign of life after which the group gives a member's partitions to others.
	SessionTimeout Duration `key:"session_timeout" default:"45s" min:"6s" max:"30m"`
	// Time that members have to give partitions up. Two thirds of it are for delivering what was read of them.
	RebalanceTimeout Duration `key:"rebalance_timeout" default:"60s" min:"6s" max:"30m"`
	// TLS, where it is given: `{}` trusts the system's authorities.
	TLS *ClientTLS `key:"tls"`
	// How to log in; nothing where brokers want no login.
	SASL *KafkaSASL `key:"sasl"`
}

// KafkaSASL is how to log in.
type KafkaSASL struct {
	// `aws-msk-iam` takes credentials from the AWS chain, and always uses TLS.
	Mechanism string `key:"mechanism" required:"true" enum:"plain|scram-sha-256|scram-sha-512|aws-msk-iam"`
	// Name of the user; not for aws-msk-iam.
	Username string `key:"username" default:""`
	// Password of the user. A file is read again at each login.
	Password Secret `key:"password"`
}

// KafkaValue is how values are written.
type KafkaValue struct {
	// `raw` takes bytes as they are, `confluent_json` takes the five bytes of a schema registry's id away, `confluent_avro` makes
	// JSON of Avro with the schema of that id.
	Format string `key:"format" default:"raw" enum:"raw|confluent_json|confluent_avro"`
	// Schema registry; for `confluent_avro`.
	Registry *SchemaRegistry `key:"registry"`
}

// SchemaRegistry speaks the API of Confluent's schema registry.
type SchemaRegistry struct {
	// Base URL that paths like /schemas/ids/1 are added to.
	URL string `key:"url" required:"true" expect:"an http or https URL"`
	// User of basic authentication.
	Username string `key:"username" default:""`
	// Its password. A file is read again for each request.
	Password Secret `key:"password"`
	// Authorities and certificates other than the system's.
	TLS ClientTLS `key:"tls"`
}

// StartTime is the time at which reading begins, where Start is one.
func (k *Kafka) StartTime() (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, k.Start)
	return t.UTC(), err == nil
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// kafka checks a Kafka source.
func (d *decoder) kafka(s *Stream, k *Kafka, path string) {
	for _, list := range []struct {
		key   string
		items []string
	}{{"brokers", k.Brokers}, {"topics", k.Topics}} {
		if _, given := d.places[child(path, list.key)]; given && len(list.items) == 0 {
			d.faultAt(child(path, list.key), "", "is empty", "name one at least")
		}
	}
	for i, b := range k.Brokers {
		host, port, err := net.SplitHostPort(b)
		if n, bad := strconv.Atoi(port); err != nil || bad != nil || host == "" || n < 1 || n > 65535 {
			d.faultAt(index(child(path, "brokers"), i), b, "is not the address of a broker", "write it like b-1:9092")
		}
	}
	seen := map[string]bool{}
	for i, t := range k.Topics {
		at := index(child(path, "topics"), i)
		pattern, isPattern := TopicPattern(t)
		switch {
		case seen[t]:
			d.faultAt(at, t, "is given twice", "keep one")
		case isPattern:
			if _, err := regexp.Compile(pattern); err != nil || pattern == "" {
				d.faultAt(at, t, fmt.Sprintf("is not a regular expression: %v", err), "write it like \"/^clicks-.*/\"")
			}
		case !topicName.MatchString(t) || t == "." || t == "..":
			d.faultAt(at, t, "is not a topic's name", "write 1 to 249 letters, digits, ., _ or -, or a regular expression between slashes")
		}
		seen[t] = true
	}
	if _, ok := k.StartTime(); !ok && strings.Contains(k.Start, "T") {
		d.faultAt(child(path, "start"), k.Start, "is not a time", "write it like 2026-03-01T00:00:00Z")
	}
	if k.SASL != nil {
		at := child(path, "sasl")
		iam := k.SASL.Mechanism == "aws-msk-iam"
		switch {
		case iam && (k.SASL.Username != "" || k.SASL.Password.IsSet()):
			d.faultAt(at, "", "has a username or a password, and aws-msk-iam takes neither", "take them out; credentials come from the AWS chain")
		case !iam && k.SASL.Username == "":
			d.faultAt(child(at, "username"), "", "is required with mechanism "+k.SASL.Mechanism, "")
		case !iam && !k.SASL.Password.IsSet():
			d.faultAt(child(at, "password"), "", "is required with mechanism "+k.SASL.Mechanism, "give password or password_file")
		}
	}
	if k.TLS != nil && (k.TLS.CertFile == "") != (k.TLS.KeyFile == "") {
		d.faultAt(child(path, "tls"), "", "has only one of cert_file and key_file", "give both or neither")
	}
	d.kafkaValue(&k.Value, child(path, "value"))
	if s.Limits.RecordsPerSecond != 0 || s.Limits.BytesPerSecond != 0 {
		d.faultAt(child(strings.TrimSuffix(path, ".source.kafka"), "limits"), "", "has a rate, which is one of puts, and the source is kafka", "take it out; reading waits where there is no room")
	}
}

// kafkaGroups checks streams that are members of one group: each partition goes to one of them alone.
func (d *decoder) kafkaGroups(c *Config) {
	for i := range c.Streams {
		for j := range c.Streams[:i] {
			k, other := c.Streams[i].Source.Kafka, c.Streams[j].Source.Kafka
			if k == nil || other == nil || k.Group != other.Group || !slices.ContainsFunc(k.Brokers, func(b string) bool { return slices.Contains(other.Brokers, b) }) {
				continue
			}
			path := child(index("streams", i), "source.kafka")
			if topic, ok := sharedTopic(k.Topics, other.Topics); ok {
				d.faultAt(child(path, "group"), k.Group, fmt.Sprintf("is that of stream %s, which reads %s too: each record would go to one of both", c.Streams[j].Name, topic), "give each stream a group of its own")
			} else if k.InstanceID != "" && k.InstanceID == other.InstanceID {
				d.faultAt(child(path, "instance_id"), k.InstanceID, fmt.Sprintf("is that of stream %s in the same group: the two would push each other out", c.Streams[j].Name), "give each its own, or a group of its own")
			}
		}
	}
}

// sharedTopic finds an entry of topics that both lists have, as a name or by a pattern.
func sharedTopic(a, b []string) (topic string, ok bool) {
	for _, x := range a {
		for _, y := range b {
			if x == y || matches(x, y) || matches(y, x) {
				return x, true
			}
		}
	}
	return "", false
}

// matches tells whether an entry of topics is a pattern that another, which is a name, matches.
func matches(entry, name string) bool {
	pattern, ok := TopicPattern(entry)
	if _, also := TopicPattern(name); !ok || also {
		return false
	}
	re, err := regexp.Compile(pattern)
	return err == nil && re.MatchString(name)
}

func (d *decoder) kafkaValue(v *KafkaValue, path string) {
	switch {
	case v.Format == "confluent_avro" && v.Registry == nil:
		d.faultAt(child(path, "registry"), "", "is required with format confluent_avro", "write registry: { url: \"http://registry:8081\" }")
	case v.Format != "confluent_avro" && v.Registry != nil:
		d.faultAt(child(path, "registry"), "", "is not used with format "+v.Format, "take it out")
	}
	if r := v.Registry; r != nil {
		at := child(path, "registry")
		d.httpURL(r.URL, child(at, "url"), "give username and password beside it")
		if r.Password.IsSet() && r.Username == "" {
			d.faultAt(child(at, "username"), "", "is required with a password", "")
		}
		if (r.TLS.CertFile == "") != (r.TLS.KeyFile == "") {
			d.faultAt(child(at, "tls"), "", "has only one of cert_file and key_file", "give both or neither")
		}
	}
}

// TopicPattern is the regular expression of an entry of topics, where it is one.
func TopicPattern(topic string) (pattern string, ok bool) {
	if len(topic) >= 2 && topic[0] == '/' && topic[len(topic)-1] == '/' {
		return topic[1 : len(topic)-1], true
	}
	return "", false
}

// takeSecrets gives k those that the present configuration has. Where the source is gone from it, what was read is delivered
// without them.
func (k *Kafka) takeSecrets(present *Kafka) {
	if present == nil {
		return
	}
	if k.SASL != nil && present.SASL != nil {
		k.SASL.Password = present.SASL.Password
	}
	if k.Value.Registry != nil && present.Value.Registry != nil {
		k.Value.Registry.Password = present.Value.Registry.Password
	}
}
