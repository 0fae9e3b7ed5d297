package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"hydrant/sources"
)

// assigned makes lanes of partitions that the group gave to this member. They have no records until startOffsets told where
// to begin.
func (s *session) assigned(ctx context.Context, cl *kgo.Client, added map[string][]int32) {
	list := partitions(added)
	if len(list) == 0 {
		return
	}
	s.o.Reading.Add(sources.ReadRebalances, 1)
	s.takeAway(list, nil, nil) // those that it has already begin again: their topic was made anew
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change++
	for _, p := range list {
		name, err := p.lane()
		if err != nil {
			s.end(stuck("%w", err))
			return
		}
		// Its life is that of the assignment, which ends in takeAway.
		work, cancel := context.WithCancel(context.WithoutCancel(ctx))
		l := &lane{partition: p, name: name, cancel: cancel, done: make(chan struct{}), ready: make(chan struct{}, 1), next: -1, epoch: -1, moved: time.Now()}
		l.tail.Offset, l.told.Offset = -1, -1
		s.lanes[p] = l
		go l.work(work, s)
	}
	s.measure()
	s.log.Info("partitions came", "partitions", lanesOf(list), "all", len(s.lanes))
}

// measure tells how many lanes there are. mu is held.
func (s *session) measure() { s.o.Reading.Lanes(len(s.lanes), 0) }

// lanesOf names partitions in the log, the first of many.
func lanesOf(list []partition) (names []string) {
	for _, p := range list[:min(len(list), 32)] {
		name, _ := p.lane()
		names = append(names, name)
	}
	return names
}

// revoked gives partitions up before others get them: what was read of them is delivered, if there is time for it, and
// committed; what is left in memory is forgotten, and read again by whoever is next.
func (s *session) revoked(ctx context.Context, cl *kgo.Client, taken map[string][]int32) {
	list := partitions(taken)
	if len(list) == 0 {
		return
	}
	s.mu.Lock()
	limit := s.o.RebalanceTimeout * 2 / 3
	if s.stopping {
		limit = min(limit, s.o.StopTime)
	}
	s.mu.Unlock()
	began := time.Now()
	s.takeAway(list, func(lanes []*lane) {
		if limit <= 0 {
			return
		}
		names := make([]string, len(lanes))
		for i, l := range lanes {
			names[i] = l.name
		}
		settle, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		if err := s.in.Settle(settle, names...); err != nil {
			s.log.Info("partitions go before all that was read of them is delivered; it is read again", "after", limit, "err", err)
		}
	}, func(lanes []*lane) { s.commit(ctx, cl, lanes) })
	s.log.Info("partitions went", "partitions", lanesOf(list), "took", time.Since(began))
}

// lost lets go of partitions that somebody else may have already: nothing is committed.
func (s *session) lost(ctx context.Context, _ *kgo.Client, taken map[string][]int32) {
	list := partitions(taken)
	if len(list) == 0 {
		return
	}
	s.takeAway(list, nil, nil)
	s.o.Reading.Add(sources.ReadLanesLost, len(list))
	s.log.Warn("partitions were lost: the group had no sign of life of this member in time", "partitions", lanesOf(list))
}

// takeAway ends lanes. settle and last, where they are given, may deliver what was read of them, and commit it.
func (s *session) takeAway(list []partition, settle, last func([]*lane)) {
	s.mu.Lock()
	var lanes []*lane
	for _, p := range list {
		if l := s.lanes[p]; l != nil {
			l.state = revoking
			l.cancel()
			lanes = append(lanes, l)
		}
	}
	s.mu.Unlock()
	if len(lanes) == 0 {
		return
	}
	for _, l := range lanes {
		<-l.done
	}
	if settle != nil {
		settle(lanes)
	}
	// From here on no commit but last's has one of these lanes: this waits for the one that is under way, and the next sees
	// that they are not owned.
	s.committing.Lock()
	defer s.committing.Unlock()
	if last != nil {
		last(lanes)
	}
	s.mu.Lock()
	s.change++
	for _, l := range lanes {
		l.state = gone
		s.drop(l)
		delete(s.lanes, l.partition)
		delete(s.committed, l.partition)
		s.takenAt[l.partition] = s.change
		s.o.Reading.Left(l.name)
	}
	s.measure()
	s.mu.Unlock()
	for _, l := range lanes {
		s.in.Release(l.name)
	}
}

// drop forgets what a lane has in its queue. mu is held.
func (s *session) drop(l *lane) {
	l.queue = nil
	if l.parked {
		s.unpark(l)
	}
	s.queued -= l.bytes
	l.bytes = 0
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// fetchedOffsets notes what the group holds of partitions that came, which startOffsets decides by.
func (s *session) fetchedOffsets(_ context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				c := committed{offset: p.Offset, epoch: p.LeaderEpoch}
				if p.Metadata != nil {
					c.note, _ = parseCommitNote(*p.Metadata)
				}
				s.committed[partition{t.Topic, p.Partition}] = c
			}
		}
	}
	return nil
}

// startOffsets says where reading of partitions begins: offsets are those of the group, or the client's own for those of
// which it has none.
func (s *session) startOffsets(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	topics := slices.Sorted(maps.Keys(offsets))
	m, err := s.adm.Metadata(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("ask for the ids of topics: %w", err)
	}
	var listed listings
	out := map[string]map[int32]kgo.Offset{}
	for _, topic := range topics {
		out[topic] = map[int32]kgo.Offset{}
		id := topicID(m.Topics[topic].ID)
		for number := range offsets[topic] {
			p := partition{topic, number}
			name, err := p.lane()
			if err != nil {
				return nil, err
			}
			k := known{group: s.r.group, topic: id, start: s.startPlace(), policy: s.o.OutOfRange}
			if local, err := parsePosition(s.in.Position(name)); err == nil {
				k.local = &local
			}
			s.mu.Lock()
			k.committed = s.committed[p]
			s.mu.Unlock()
			if at := offsets[topic][number].EpochOffset(); at.Offset < 0 {
				k.committed = committed{offset: -1}
			} else if k.committed.offset != at.Offset { // the client had it of a request that fetchedOffsets did not see
				k.committed = committed{offset: at.Offset, epoch: at.Epoch}
			}
			d := k.decide()
			if d.gap {
				s.o.Reading.Add(sources.ReadGaps, 1)
				s.log.Error("the topic was made anew: what was read of it before says nothing of its records", "topic", topic, "partition", number, "out_of_range", s.o.OutOfRange)
				if s.o.OutOfRange == Stop {
					err := stuck("topic %s was made anew since it was read last: set out_of_range to earliest or latest to go on, or take a new group", topic)
					s.end(err)
					return nil, err
				}
			}
			if d.from == atTime || d.from == atEnd {
				found, err := listed.look(ctx, s, d.from, topic, number)
				if err != nil {
					return nil, err
				}
				d.at.Offset, d.at.Epoch = found.Offset, found.LeaderEpoch
			}
			out[topic][number] = s.place(p, id, k, d)
		}
	}
	return out, nil
}

// place puts a lane where it begins.
func (s *session) place(p partition, id topicID, k known, d decision) kgo.Offset {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.at.Group, d.at.Topic = s.r.group, id
	if l := s.lanes[p]; l != nil && l.state == owned {
		l.topicID, l.next, l.epoch, l.turn = id, d.at.Offset, d.at.Epoch, d.at.Turn
		l.told = position{s.r.group, id, k.committed.note.Turn, k.committed.epoch, k.committed.offset}
		l.tail, l.appended = d.at, nil
		if d.local {
			l.appended = d.at.encode() // not all before it need be delivered
		}
		l.queue = append(l.queue, fetched{jump: &d.at})
		l.wake()
	}
	if d.at.Offset < 0 {
		return kgo.NewOffset().AtStart()
	}
	return kgo.NewOffset().At(d.at.Offset).WithEpoch(d.at.Epoch)
}

func (s *session) startPlace() from {
	if s.began.IsZero() {
		return atBeginning
	}
	return atTime
}

// from is where reading begins.
type from int

const (
	atOffset    from = iota
	atBeginning      // the first record that there is
	atTime           // the first record of that time, or the end
	atEnd
)

// known is what is known of a partition that came.
type known struct {
	group     uint64
	topic     topicID   // that it has now; zero: brokers do not tell
	local     *position // of the data directory
	committed committed
	start     from   // where nothing is known
	policy    string // where what is known is of another topic
}

// decision is where reading begins.
type decision struct {
	from  from
	at    position // with atOffset; Offset -1 otherwise
	local bool     // it is the data directory's
	gap   bool     // what is known is of a topic that is gone
}

// decide takes whatever is further, of the data directory and of the group: the group's is further where somebody else had
// the partition, and the data directory's where rows are durable that were not delivered yet.
func (k known) decide() decision {
	differs := func(t topicID) bool { return t != (topicID{}) && k.topic != (topicID{}) && t != k.topic }
	d := decision{from: k.start, at: position{Epoch: -1, Offset: -1}}
	stale := false
	if c := k.committed; c.offset >= 0 {
		if stale = differs(c.note.Topic); !stale {
			d = decision{from: atOffset, at: position{Turn: c.note.Turn, Epoch: c.epoch, Offset: c.offset}}
		}
	}
	if l := k.local; l != nil && l.Group == k.group {
		switch {
		case differs(l.Topic):
			stale = true
		case d.from != atOffset || !d.at.after(*l):
			d = decision{from: atOffset, at: *l, local: true}
		}
	}
	if !stale || d.from == atOffset {
		return d
	}
	d.gap = true
	switch k.policy {
	case Earliest:
		d.from = atBeginning
	case Latest:
		d.from = atEnd
	}
	return d
}

// listings are offsets that were asked for, by topic, once for all partitions of a call.
type listings map[listing]kadm.ListedOffsets

type listing struct {
	from  from
	topic string
}

func (l *listings) look(ctx context.Context, s *session, from from, topic string, number int32) (kadm.ListedOffset, error) {
	all, asked := (*l)[listing{from, topic}]
	if !asked {
		var err error
		if from == atTime {
			all, err = s.afterStart(ctx, topic)
		} else {
			all, err = s.ends(ctx, topic)
		}
		if err != nil {
			return kadm.ListedOffset{}, fmt.Errorf("ask for offsets of topic %s: %w", topic, err)
		}
		if *l == nil {
			*l = listings{}
		}
		(*l)[listing{from, topic}] = all
	}
	o, ok := all.Lookup(topic, number)
	switch {
	case !ok:
		return o, fmt.Errorf("ask for offsets of %v: no broker answered", partition{topic, number})
	case o.Err != nil:
		return o, fmt.Errorf("ask for offsets of %v: %w", partition{topic, number}, o.Err)
	}
	return o, nil
}

// afterStart lists the first offsets of the time at which reading begins, and where no record is that late the end. Brokers
// are asked for ends before they are for times: a record that comes between the two answers is behind the end.
func (s *session) afterStart(ctx context.Context, topic string) (kadm.ListedOffsets, error) {
	ends, err := s.ends(ctx, topic)
	if err != nil {
		return nil, err
	}
	all, err := s.adm.ListOffsetsAfterMilli(ctx, s.began.UnixMilli(), topic)
	if err != nil {
		return nil, err
	}
	for number, o := range all[topic] {
		if o.Err != nil || o.Timestamp >= 0 {
			continue
		}
		end, ok := ends.Lookup(topic, number)
		if !ok {
			delete(all[topic], number) // as if no broker had answered: it is asked again
			continue
		}
		all[topic][number] = end
	}
	return all, nil
}

// commitLimit bounds a commit, which the group holds up while it shares partitions anew.
const commitLimit = 10 * time.Second

// commitLoop tells the group what is delivered, soon after that changes and not too often.
func (s *session) commitLoop(ctx context.Context) {
	wait := time.NewTimer(s.o.CommitEvery)
	defer wait.Stop()
	for {
		select {
		case <-wait.C:
		case <-ctx.Done():
			return
		}
		s.committing.Lock()
		s.mu.Lock()
		var lanes []*lane
		for _, l := range s.lanes {
			if l.state == owned {
				lanes = append(lanes, l)
			}
		}
		s.mu.Unlock()
		s.commit(ctx, s.cl, lanes)
		s.committing.Unlock()
		wait.Reset(s.o.CommitEvery)
		select {
		case <-s.in.Changed():
		case <-ctx.Done():
			return
		case <-time.After(5 * s.o.CommitEvery): // starts, and records without rows, change nothing there
		}
	}
}

// committable is what the group may be told of a lane, and whether that is news. mu is held.
func (s *session) committable(l *lane) (position, bool) {
	if l.tail.Topic != l.topicID {
		return position{}, false // it was not placed yet
	}
	delivered := s.in.Delivered(l.name)
	at := l.tail
	if l.appended != nil && string(delivered) != string(l.appended) {
		var err error
		if at, err = parsePosition(delivered); err != nil || at.Group != s.r.group || at.Topic != l.topicID {
			return position{}, false
		}
	}
	return at, at.Offset >= 0 && (l.told.Offset < 0 || at.after(l.told))
}

// commit tells the group what is delivered of lanes. committing is held.
func (s *session) commit(ctx context.Context, cl *kgo.Client, lanes []*lane) {
	s.mu.Lock()
	offsets := map[string]map[int32]kgo.EpochOffset{}
	news := map[partition]position{}
	for _, l := range lanes {
		at, isNew := s.committable(l)
		if !isNew {
			continue
		}
		if offsets[l.topic] == nil {
			offsets[l.topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[l.topic][l.number] = kgo.EpochOffset{Epoch: at.Epoch, Offset: at.Offset}
		news[l.partition] = at
	}
	s.mu.Unlock()
	if len(news) == 0 {
		return
	}
	s.mu.Lock()
	limit := commitLimit
	if s.stopping {
		limit = leaveLimit - time.Second
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for i := range req.Topics {
			t := &req.Topics[i]
			for k := range t.Partitions {
				at := news[partition{t.Topic, t.Partitions[k].Partition}]
				note := commitNote{Topic: at.Topic, Turn: at.Turn}
				if s.o.Start == Latest {
					note.Start = s.began
				}
				text := note.encode()
				t.Partitions[k].Metadata = &text
			}
		}
		return nil
	})
	cl.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			s.notCommitted(err)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, t := range resp.Topics {
			topic := t.Topic
			if topic == "" && i < len(req.Topics) {
				topic = req.Topics[i].Topic // newer brokers answer with ids, in the order of the request
			}
			for _, p := range t.Partitions {
				at := partition{topic, p.Partition}
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					s.notCommitted(fmt.Errorf("%v: %w", at, err))
					continue
				}
				if l := s.lanes[at]; l != nil {
					l.told = news[at]
				}
				s.o.Reading.Add(sources.ReadCommits, 1)
			}
		}
	})
}

// notCommitted counts a commit that failed: a later one says the same and more. Whether the member is still in the group,
// its heartbeats tell.
func (s *session) notCommitted(err error) {
	switch {
	case errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.FencedInstanceID):
		s.o.Reading.Add(sources.ReadFenced, 1)
	default:
		s.o.Reading.Add(sources.ReadFaults, 1)
	}
	if !errors.Is(err, kerr.RebalanceInProgress) && !errors.Is(err, context.Canceled) && s.r.held.may("commit") {
		s.log.Warn("offsets were not committed; they are, later", "err", err)
	}
}
