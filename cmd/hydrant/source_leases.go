package main

import (
	"context"
	"encoding/hex"
	"log/slog"
	"time"

	"hydrant/config"
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
	at := lease.ClientOptions{Region: k.Region, Endpoint: now.aws.Endpoints.DynamoDB}
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
