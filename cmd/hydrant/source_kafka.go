package main

import (
	"context"
	"strings"
	"time"

	"hydrant/config"
	"hydrant/delivery"
	"hydrant/sinks"
	"hydrant/sources/kafka"
	"hydrant/transform"
	"hydrant/transform/fault"
)

// kafka makes the Reader of a stream whose source is Kafka.
func (p *parts) kafka(pipe *delivery.Pipeline, s *config.Stream) []flaw {
	o := kafkaOptions(s.Source.Kafka)
	o.Memory = p.kafkaMemory
	o.Reading = p.readingOf(s.Name)
	o.Log = p.log.With("stream", s.Name, "component", "kafka")
	r, err := kafka.New(o)
	if err == nil && (o.Value.Format == kafka.ConfluentAvro || o.Value.Format == kafka.ConfluentJSON) {
		pipe.Transform, err = transform.First(transform.Stage{Name: "source", Processor: fault.Fault{}}, pipe.Transform)
	}
	if err != nil {
		key, problem, found := strings.Cut(err.Error(), ": ")
		if !found {
			return []flaw{{"source.kafka", "", err.Error(), ""}}
		}
		return []flaw{{"source.kafka." + key, "", problem, ""}}
	}
	pipe.Reader, pipe.Source = r, "kafka"
	return nil
}

// kafkaOptions translates what the file says of a Kafka source.
func kafkaOptions(k *config.Kafka) kafka.Options {
	o := kafka.Options{
		Brokers: k.Brokers, Group: k.Group, InstanceID: k.InstanceID,
		OutOfRange:       k.OutOfRange,
		Uncommitted:      k.Isolation == "read_uncommitted",
		MarkTombstones:   k.Tombstones == "mark",
		ArriveOnRead:     k.Arrival == "read",
		SessionTimeout:   time.Duration(k.SessionTimeout),
		RebalanceTimeout: time.Duration(k.RebalanceTimeout),
		Value:            kafka.Value{Format: k.Value.Format},
	}
	for _, t := range k.Topics {
		if pattern, ok := config.TopicPattern(t); ok {
			o.Patterns = append(o.Patterns, pattern)
		} else {
			o.Topics = append(o.Topics, t)
		}
	}
	if at, ok := k.StartTime(); ok {
		o.StartTime = at
	} else {
		o.Start = k.Start
	}
	if k.TLS != nil {
		o.TLS = &kafka.TLS{CAFile: k.TLS.CAFile, CertFile: k.TLS.CertFile, KeyFile: k.TLS.KeyFile}
	}
	if k.SASL != nil {
		o.SASL = &kafka.SASL{Mechanism: k.SASL.Mechanism, Username: k.SASL.Username}
		if k.SASL.Password.IsSet() {
			o.SASL.Password = k.SASL.Password.Value
		}
	}
	if g := k.Value.Registry; g != nil {
		o.Value.Registry = kafka.Registry{URL: g.URL, Username: g.Username}
		if g.Password.IsSet() {
			o.Value.Registry.Password = g.Password.Value
		}
		if g.TLS != (config.ClientTLS{}) {
			o.Value.Registry.TLS = &kafka.TLS{CAFile: g.TLS.CAFile, CertFile: g.TLS.CertFile, KeyFile: g.TLS.KeyFile}
		}
	}
	return o
}

// probeKafka asks the brokers of a stream's source.
func probeKafka(ctx context.Context, r *kafka.Reader) (found []sinks.Finding) {
	for _, s := range r.Probe(ctx) {
		w := sinks.Finding{Check: s.Check, Level: sinks.OK, Found: s.Found, Key: s.Key}
		switch {
		case s.Err:
			w.Level = sinks.Failed
		case s.Key != "":
			w.Level = sinks.Warning
		}
		found = append(found, w)
	}
	return found
}
