package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"hydrant/sources"
)

// watch looks at topics once in a while: whether they are there and are what they were, and how far behind reading is,
// which fetches do not tell while none are made.
func (s *session) watch(ctx context.Context) {
	tick := time.NewTicker(s.o.WatchEvery)
	defer tick.Stop()
	var gone map[string]bool
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		err := s.watchOnce(ctx)
		if err == nil {
			gone, err = s.forgetGone(ctx, gone)
		}
		if err != nil && ctx.Err() == nil {
			s.o.Reading.Add(sources.ReadFaults, 1)
			if s.r.held.may("watch") {
				s.log.Warn("brokers were not asked how far behind reading is", "err", err)
			}
		}
	}
}

// forgetGone forgets delivered lanes of topics that are not there any more: those that match a pattern come and go, and a
// data directory has room for so many lanes. before are the topics that were not there at the last look, which it returns
// for the next: one answer may be that of a broker that does not know them yet.
func (s *session) forgetGone(ctx context.Context, before map[string]bool) (map[string]bool, error) {
	ended := map[string][]string{} // lanes, by topic
	for _, name := range s.in.Lanes() {
		at, ok := parseLane(name)
		if !ok {
			continue
		}
		s.mu.Lock()
		read := s.lanes[at] != nil
		s.mu.Unlock()
		if read {
			continue
		}
		if delivered := s.in.Delivered(name); delivered != nil && string(delivered) == string(s.in.Position(name)) {
			ended[at.topic] = append(ended[at.topic], name)
		}
	}
	if len(ended) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	m, err := s.adm.Metadata(ctx, slices.Sorted(maps.Keys(ended))...)
	if err != nil {
		return nil, fmt.Errorf("ask for topics that were read: %w", err)
	}
	gone := map[string]bool{}
	for topic, lanes := range ended {
		switch {
		case !errors.Is(m.Topics[topic].Err, kerr.UnknownTopicOrPartition):
		case !before[topic]:
			gone[topic] = true
		default:
			for _, name := range lanes {
				s.in.Forget(name)
			}
			s.log.Info("a topic is gone, and what was read of it is delivered: its partitions are forgotten", "topic", topic, "partitions", len(lanes))
		}
	}
	return gone, nil
}

func (s *session) watchOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	s.mu.Lock()
	topics := map[string]topicID{}
	for p, l := range s.lanes {
		if l.next >= 0 || l.topicID != (topicID{}) {
			topics[p.topic] = l.topicID
		}
	}
	s.mu.Unlock()
	if len(topics) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(topics))
	m, err := s.adm.Metadata(ctx, names...)
	if err != nil {
		return fmt.Errorf("ask for topics: %w", err)
	}
	for _, name := range names {
		t := m.Topics[name]
		if errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
			if slices.Contains(s.o.Topics, name) {
				s.end(stuck("topic %s is not there any more: create it, or correct topics", name))
				return nil
			}
			continue
		}
		if id := topicID(t.ID); t.Err == nil && id != (topicID{}) && topics[name] != (topicID{}) && id != topics[name] {
			s.end(fmt.Errorf("topic %s was made anew", name)) // the next session looks at it by the policy
			return nil
		}
	}
	ends, err := s.ends(ctx, names...)
	if err != nil {
		return fmt.Errorf("ask for the ends of topics: %w", err)
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, l := range s.lanes {
		end, ok := ends.Lookup(p.topic, p.number)
		if !ok || end.Err != nil || l.next < 0 {
			continue
		}
		l.end = max(l.end, end.Offset)
		behind := time.Duration(0)
		if l.end > l.next && l.newest.UnixMilli() > 0 {
			behind = max(now.Sub(l.newest), 0)
		}
		s.o.Reading.Behind(l.name, behind, max(l.end-l.next, 0), now)
	}
	return nil
}
