package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"time"

	"hydrant/config"
	"hydrant/sinks"
	"hydrant/sources/kinesis"
	"hydrant/sources/kinesis/lease"
)

// leases returns what makes the Owner of shards that replicas share by a table, for one run of a Reader; nil where the
// stream's source has none. The role that reads the stream is not assumed for the table, which belongs to who runs the daemon.
func (p *parts) leases(now *settings, s *config.Stream, log *slog.Logger) func() (kinesis.Owner, error) {
	k := s.Source.Kinesis
	if k.Checkpoints.DynamoDB == "" {
		return nil
	}
	at := leaseTable(now, k)
	o := lease.Options{
		Table: k.Checkpoints.DynamoDB, Failover: time.Duration(k.Checkpoints.Failover),
		// A daemon that starts again on its data directory has its name again.
		Worker:  hex.EncodeToString(p.directory[:]),
		Metrics: p.readingOf(s.Name), Log: log,
	}
	return func() (kinesis.Owner, error) {
		client, err := lease.NewClient(context.Background(), at)
		if err != nil {
			return nil, err
		}
		o := o
		o.API, o.Close = client, client.Close
		return lease.New(o)
	}
}

// leaseTable is where the table of a source is.
func leaseTable(now *settings, k *config.Kinesis) lease.ClientOptions {
	return lease.ClientOptions{Region: k.Region, Endpoint: now.aws.Endpoints.DynamoDB}
}

// probeLeases reads the table that a source shares shards by. Nothing is written.
func probeLeases(ctx context.Context, now *settings, k *config.Kinesis) []sinks.Finding {
	const key = "checkpoints.dynamodb"
	failed := func(err error, remedy string) []sinks.Finding {
		return []sinks.Finding{{Check: "leases", Level: sinks.Failed, Found: err.Error(), Key: key, Remedy: remedy}}
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	client, err := lease.NewClient(ctx, leaseTable(now, k))
	if err != nil {
		return failed(err, "check aws.endpoints.dynamodb and the environment")
	}
	defer client.Close()
	s, err := lease.Look(ctx, client, k.Checkpoints.DynamoDB)
	switch {
	case err != nil:
		return failed(err, "correct the name, check aws.endpoints.dynamodb, or grant dynamodb:Scan (docs/kinesis-leases.md)")
	case s.Missing:
		return []sinks.Finding{{Check: "leases", Level: sinks.OK, Found: fmt.Sprintf("table %s is not there; it is created at the first start, which takes dynamodb:CreateTable and dynamodb:DescribeTable", k.Checkpoints.DynamoDB)}}
	}
	found := []sinks.Finding{{Check: "leases", Level: sinks.OK, Found: fmt.Sprintf("table %s has %d leases of %d workers, and %d of shards that have ended", k.Checkpoints.DynamoDB, s.Leases-s.Ended, s.Workers, s.Ended)}}
	for _, err := range s.Faults {
		found = append(found, sinks.Finding{Check: "lease", Level: sinks.Warning, Found: err.Error(), Key: key, Remedy: "correct or delete the item; until then its shard is not read"})
	}
	return found
}
