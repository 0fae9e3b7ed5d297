package kafka

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Seen is what a probe saw of one thing.
type Seen struct {
	Check string // brokers, topic, group
	Found string
	Err   bool   // reading will not work
	Key   string // of the source's configuration, below kafka; "": none would change it
}

// Probe asks the brokers what a Reader will need of them: whether they let it in, and whether topics and the group can be
// read. It joins no group and changes nothing. It never returns secrets.
func (r *Reader) Probe(ctx context.Context) (seen []Seen) {
	add := func(check, key string, err bool, format string, args ...any) {
		seen = append(seen, Seen{check, fmt.Sprintf(format, args...), err, key})
	}
	cl, err := kgo.NewClient(r.connect()...)
	if err != nil {
		add("brokers", "brokers", true, "%v", err)
		return seen
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	topics := r.o.Topics
	if len(r.patterns) > 0 {
		topics = nil // all of them
	}
	m, err := adm.Metadata(ctx, topics...)
	if err != nil {
		key := "brokers"
		if text := err.Error(); strings.Contains(text, "SASL") || strings.Contains(text, "EOF") {
			key = "sasl"
		}
		add("brokers", key, true, "%v", r.explainFirst(err))
		return seen
	}
	add("brokers", "", false, "%d answer", len(m.Brokers))
	read := 0
	for _, t := range m.Topics.Sorted() {
		named := slices.Contains(r.o.Topics, t.Topic)
		if !named && (t.IsInternal || !slices.ContainsFunc(r.patterns, func(p *regexp.Regexp) bool { return p.MatchString(t.Topic) })) {
			continue
		}
		switch {
		case errors.Is(t.Err, kerr.UnknownTopicOrPartition):
			add("topic", "topics", true, "%s is not there", t.Topic)
		case t.Err != nil:
			add("topic", "topics", true, "%s: %v", t.Topic, r.explain(t.Err))
		default:
			read++
			add("topic", "", false, "%s has %d partitions", t.Topic, len(t.Partitions))
		}
	}
	if read == 0 && len(r.patterns) > 0 {
		add("topic", "topics", false, "no topic matches yet")
	}
	offsets, err := adm.FetchOffsets(ctx, r.o.Group)
	switch {
	case err != nil && !errors.Is(err, kerr.GroupIDNotFound):
		add("group", "group", true, "%s: %v", r.o.Group, r.explain(err))
	case len(offsets) == 0:
		add("group", "", false, "%s has no offsets yet: reading begins at start", r.o.Group)
	default:
		n := 0
		offsets.Each(func(kadm.OffsetResponse) { n++ })
		add("group", "", false, "%s has offsets of %d partitions", r.o.Group, n)
	}
	return seen
}
