package config

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// Kinesis reads a Kinesis data stream. See docs/kinesis.md.
type Kinesis struct {
	// Name or ARN of the data stream.
	Stream string `key:"stream" required:"true" expect:"the name or the ARN of a data stream"`
	// Where reading begins the very first time: `latest` (the time of that start, which is kept), `trim_horizon` (the oldest
	// record that the stream has), or at a time.
	Start string `key:"start" default:"latest" expect:"latest, trim_horizon or a time like 2026-03-01T00:00:00Z"`
	// How records are read: `polling` shares the reads of each shard with its other readers, `{ enhanced_fan_out: NAME }` registers
	// a consumer of that name, which has reads of its own and costs money. It is not deregistered when the stream is deleted.
	Consumer KinesisConsumer `key:"consumer" default:"polling"`
	// Records that the Kinesis Producer Library packed into one: `split` makes records of them again, `keep` leaves them packed.
	KPL string `key:"kpl" default:"split" enum:"split|keep"`
	// Where it is kept how far each shard was read: `local` in data_dir, which then is the only reader of its name, or
	// `{ dynamodb: TABLE }` in a table of the Kinesis Client Library's form, of which replicas share the shards. See
	// docs/kinesis-leases.md.
	Checkpoints KinesisCheckpoints `key:"checkpoints" default:"local"`
	// Region of the stream. Empty: that of the ARN, or else `aws.region`.
	Region string `key:"region" default:"" pattern:"^[a-z0-9-]{0,64}$" expect:"a region's name, like us-east-1"`
	// Base URL of the service. Empty: `aws.endpoints.kinesis`, or else AWS's.
	Endpoint string `key:"endpoint" default:"" url:"true"`
	// Role that is assumed to read the stream, where `aws.role_arns` is `assume`. Credentials come from the AWS chain.
	RoleARN string `key:"role_arn" default:"" pattern:"^(arn:aws[a-z-]*:iam::[0-9]{12}:role/.{1,512})?$" expect:"the ARN of a role"`
}

// KinesisConsumer is how records are read.
type KinesisConsumer struct {
	// The scalar form, or "enhanced_fan_out".
	Word string `word:"polling"`
	// Name of the consumer.
	EnhancedFanOut string `key:"enhanced_fan_out"`
}

// KinesisCheckpoints is where positions are kept.
type KinesisCheckpoints struct {
	// The scalar form; "" where there is a table.
	Word string `word:"local" with:"several"`
	// Name of the table, at `aws.endpoints.dynamodb` in the region of the stream. It is created where it is not there and that is
	// allowed. It belongs to this stream alone, on all replicas.
	DynamoDB string `key:"dynamodb" required:"true" expect:"the name of a table"`
	// After how long without a sign of life the shards of a replica are taken by others. All that share the table need the same
	// time; in the Kinesis Client Library it is failoverTimeMillis.
	Failover Duration `key:"failover" default:"10s" min:"1s" max:"5m"`
}

var (
	kinesisName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)
	kinesisARN  = regexp.MustCompile(`^arn:aws[a-z-]*:kinesis:([a-z0-9-]+):[0-9]{12}:stream/[a-zA-Z0-9_.-]{1,128}$`)
	tableName   = regexp.MustCompile(`^[a-zA-Z0-9_.-]{3,255}$`)
)

// kinesis checks a Kinesis source, and fills in what it takes from the settings of all.
func (d *decoder) kinesis(c *Config, s *Stream, k *Kinesis, path string) {
	arn := kinesisARN.FindStringSubmatch(k.Stream)
	if k.Stream != "" && arn == nil && !kinesisName.MatchString(k.Stream) {
		d.faultAt(child(path, "stream"), k.Stream, "is neither the name nor the ARN of a data stream", "write 1 to 128 letters, digits, _, . and -, or an ARN like arn:aws:kinesis:us-east-1:123456789012:stream/clicks")
	}
	if _, _, err := k.Begins(); err != nil {
		d.faultAt(child(path, "start"), k.Start, "is not latest, trim_horizon or a time", "write a time like 2026-03-01T00:00:00Z")
	}
	if n := k.Consumer.EnhancedFanOut; n != "" && !kinesisName.MatchString(n) {
		d.faultAt(child(path, "consumer.enhanced_fan_out"), n, "is no name of a consumer", "write 1 to 128 letters, digits, _, . and -")
	}
	if n := k.Checkpoints.DynamoDB; n != "" && !tableName.MatchString(n) {
		d.faultAt(child(path, "checkpoints.dynamodb"), n, "is no name of a table", "write 3 to 255 letters, digits, _, . and -")
	}
	if i := slices.IndexFunc(c.Streams, func(t Stream) bool { // the first with the table; a later one is at fault
		other := t.Source.Kinesis
		return other != nil && other.Checkpoints.DynamoDB != "" && other.Checkpoints.DynamoDB == k.Checkpoints.DynamoDB
	}); i >= 0 && &c.Streams[i] != s {
		d.faultAt(child(path, "checkpoints.dynamodb"), k.Checkpoints.DynamoDB, "is the table of stream "+c.Streams[i].Name, "give each stream a table of its own")
	}
	if k.Region == "" {
		k.Region = c.AWS.Region
		if arn != nil {
			k.Region = arn[1]
		}
	}
	if k.Endpoint == "" {
		k.Endpoint = c.AWS.Endpoints.Kinesis
	}
	if s.Limits.RecordsPerSecond != 0 || s.Limits.BytesPerSecond != 0 {
		d.faultAt(child(strings.TrimSuffix(path, ".source.kinesis"), "limits"), "", "has a rate, which is one of puts, and the source is kinesis", "take it out; reading waits where there is no room")
	}
}

// Begins is what start says: a word ("latest" or "trim_horizon"), or a time and "".
func (k *Kinesis) Begins() (word string, at time.Time, err error) {
	if k.Start == "latest" || k.Start == "trim_horizon" {
		return k.Start, time.Time{}, nil
	}
	at, err = time.Parse(time.RFC3339Nano, k.Start)
	return "", at.UTC(), err
}
