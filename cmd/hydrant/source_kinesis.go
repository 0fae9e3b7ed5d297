package main

import (
	"context"
	"strings"

	"hydrant/config"
	"hydrant/delivery"
	"hydrant/sinks"
	"hydrant/sources/kinesis"
)

// readMemory is the part of the memory that answers of a stream's source may take until they are handed over.
const readMemory = 1 // of memoryShares

// kinesis makes the Reader of a stream whose source is a Kinesis data stream.
func (p *parts) kinesis(pipe *delivery.Pipeline, now *settings, s *config.Stream) []flaw {
	k := s.Source.Kinesis
	o := kinesis.Options{
		Stream: k.Stream, Region: k.Region, Endpoint: k.Endpoint,
		FanOut:         k.Consumer.EnhancedFanOut,
		KeepAggregates: k.KPL == "keep",
		Memory:         p.kinesisMemory,
		Metrics:        p.readingOf(s.Name),
		Log:            p.log.With("stream", s.Name, "component", "kinesis"),
	}
	if k.RoleARN != "" && now.reach().roles {
		o.RoleARN, o.STSEndpoint = k.RoleARN, now.reach().sts
	}
	switch word, at, err := k.Begins(); {
	case err != nil:
		return []flaw{{"source.kinesis.start", k.Start, "is not latest, trim_horizon or a time", ""}}
	case word == "latest":
		o.Start.Sequence = kinesis.Latest
	case word == "trim_horizon":
		o.Start.Sequence = kinesis.TrimHorizon
	default:
		o.Start = kinesis.Checkpoint{Sequence: kinesis.AtTimestamp, Time: at}
	}
	o.Own = p.leases(now, s, o.Log)
	r, err := kinesis.New(o)
	if err != nil {
		key, problem, found := strings.Cut(err.Error(), ": ")
		if !found {
			return []flaw{{"source.kinesis", "", err.Error(), ""}}
		}
		return []flaw{{"source.kinesis." + key, "", problem, ""}}
	}
	pipe.Reader, pipe.Source = r, "kinesis"
	return nil
}

// probeKinesis asks the service about a stream's source.
func probeKinesis(ctx context.Context, r *kinesis.Reader) (found []sinks.Finding) {
	for _, p := range r.Probe(ctx) {
		w := sinks.Finding{Check: p.Check, Level: sinks.OK, Found: p.Found}
		if p.Err != nil {
			w.Level, w.Key = sinks.Failed, "stream"
			if p.Check == "consumer" {
				w.Key = "consumer"
			}
		}
		found = append(found, w)
	}
	return found
}
