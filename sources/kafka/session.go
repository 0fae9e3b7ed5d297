package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"hydrant/sources"
)

// session is the life of one member of the group.
type session struct {
	r   *Reader
	o   *Options
	in  sources.Inlet
	log *slog.Logger
	cl  *kgo.Client  // the member
	adm *kadm.Client // of a client of its own: what it asks does not wait behind fetches
	end context.CancelCauseFunc

	began    time.Time // what "latest" means; zero where reading does not begin at a time
	stopping bool      // guarded by mu: partitions are given up since the Run ends

	// committing is held during a commit, and by who takes lanes away from it: so nothing of a lane is committed once
	// another member may have it.
	committing sync.Mutex

	mu        sync.Mutex
	lanes     map[partition]*lane
	change    uint64               // counts changes of lanes
	takenAt   map[partition]uint64 // the change that took a partition away last
	committed map[partition]committed
	queued    int64         // bytes of records in the queues of lanes, but for those that are parked
	parked    int64         // bytes of those
	progress  time.Time     // when a lane last handed rows over
	room      chan struct{} // capacity 1: queued went down
}

// committed is what the group holds of a partition.
type committed struct {
	offset int64 // -1: nothing
	epoch  int32
	note   commitNote // the zero one where who committed is not one of us
}

var errClosed = errors.New("the client was closed")

// session joins the group and reads until ctx ends or something has to begin again.
func (r *Reader) session(ctx context.Context, in sources.Inlet) (err error) {
	s := &session{
		r: r, o: &r.o, in: in, log: r.o.Log,
		lanes: map[partition]*lane{}, takenAt: map[partition]uint64{}, committed: map[partition]committed{},
		room: make(chan struct{}, 1), progress: time.Now(),
	}
	plain, err := kgo.NewClient(r.connect()...)
	if err != nil {
		return stuck("make a client of %s: %w", strings.Join(r.o.Brokers, ", "), err)
	}
	defer plain.Close()
	s.adm = kadm.NewClient(plain)
	s.adm.SetTimeoutMillis(int32(askLimit / time.Millisecond))
	if err := s.look(ctx); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	ctx, s.end = context.WithCancelCause(ctx)
	defer s.end(nil)
	if s.cl, err = kgo.NewClient(append(r.consume(s), kgo.WithHooks(hooks{s}))...); err != nil {
		return stuck("make a member of group %s: %w", r.o.Group, err)
	}
	var loops sync.WaitGroup
	loops.Go(func() { s.commitLoop(ctx) })
	loops.Go(func() { s.watch(ctx) })
	s.poll(ctx)
	loops.Wait()
	s.leave()
	return context.Cause(ctx)
}

// leave gives all partitions up, and leaves the group where the member is not a static one.
func (s *session) leave() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), max(s.o.StopTime, 0)+leaveLimit)
	defer cancel()
	if err := s.cl.LeaveGroupContext(ctx); err != nil {
		s.log.Warn("the group was not told that this member leaves", "err", err)
	}
	s.cl.Close()
	// What no callback took away: the member was not in the group when it left.
	s.mu.Lock()
	rest := slices.Collect(maps.Keys(s.lanes))
	s.mu.Unlock()
	s.takeAway(rest, nil, nil)
}

// leaveLimit bounds the last commit and the good-bye together, for brokers that do not answer.
const leaveLimit = 5 * time.Second

// askLimit bounds a question to brokers.
const askLimit = 20 * time.Second

// look sees whether brokers answer and topics are there, before the group is joined.
func (s *session) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	m, err := s.adm.Metadata(ctx, s.o.Topics...)
	if err != nil {
		return s.r.explainFirst(fmt.Errorf("ask brokers %s for topics: %w", strings.Join(s.o.Brokers, ", "), err))
	}
	for _, name := range s.o.Topics {
		switch t := m.Topics[name]; {
		case t.Err == nil:
		case errors.Is(t.Err, kerr.UnknownTopicOrPartition):
			return stuck("topic %s is not there: create it, or correct topics", name)
		case errors.Is(t.Err, kerr.TopicAuthorizationFailed):
			return stuck("topic %s may not be read: give the user READ and DESCRIBE on it", name)
		default:
			return fmt.Errorf("topic %s: %w", name, t.Err)
		}
	}
	return nil
}

// explainFirst is explain for what comes before any broker has answered: then broken connections are more likely to be a
// wrong setting than a broker that restarts.
func (r *Reader) explainFirst(err error) error {
	if said, ok := loginProblem(err); ok {
		return &stuckError{fmt.Errorf("%w: %s", err, said)}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &stuckError{fmt.Errorf("%w: no broker answers: correct brokers, or see whether they can be reached", err)}
	}
	return r.explain(err)
}

// explain makes an error of brokers one for who runs this, where only he can do something.
func (r *Reader) explain(err error) error {
	said := ""
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.UnsupportedSaslMechanism), errors.Is(err, kerr.IllegalSaslState):
		said = "the login was refused: correct sasl"
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		said = "give the user READ and DESCRIBE on the topics"
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		said = "give the user READ on group " + r.o.Group
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		said = "the cluster does not let the user in"
	case errors.Is(err, kerr.InvalidSessionTimeout):
		said = "the cluster does not take session_timeout " + r.o.SessionTimeout.String() + ": see its group.min.session.timeout.ms and group.max.session.timeout.ms"
	case errors.Is(err, kerr.InconsistentGroupProtocol):
		said = "group " + r.o.Group + " has members that share partitions in another way: stop them first, or take a group of its own"
	case errors.Is(err, kerr.FencedInstanceID):
		said = "another member has the instance_id " + r.o.InstanceID + ": give each replica its own"
	case errors.Is(err, kerr.GroupMaxSizeReached):
		said = "group " + r.o.Group + " takes no more members"
	default:
		return err
	}
	return &stuckError{fmt.Errorf("%w: %s", err, said)}
}

// begin finds out what "latest" means for this group: the time of its first start, which is kept here and in the group.
func (s *session) begin(ctx context.Context) error {
	if s.o.Start == "" {
		s.began = s.o.StartTime
		return nil
	}
	if s.o.Start != Latest {
		return nil
	}
	if group, at, err := parseStart(s.in.Position(startLane)); err == nil && group == s.r.group {
		s.began = at
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	offsets, err := s.adm.FetchOffsets(asking, s.o.Group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return s.r.explain(fmt.Errorf("ask for the offsets of group %s: %w", s.o.Group, err))
	}
	s.began = time.Now().UTC().Truncate(time.Millisecond)
	offsets.Each(func(o kadm.OffsetResponse) {
		if n, ok := parseCommitNote(o.Metadata); ok && !n.Start.IsZero() && n.Start.Before(s.began) {
			s.began = n.Start
		}
	})
	return s.in.Note(ctx, startLane, encodeStart(s.r.group, s.began))
}

// hooks hear of the group's errors.
type hooks struct{ s *session }

// OnGroupManageError implements kgo.HookGroupManageError.
func (h hooks) OnGroupManageError(err error) {
	s := h.s
	s.o.Reading.Add(sources.ReadFaults, 1)
	err = fmt.Errorf("be a member of group %s: %w", s.o.Group, err)
	var e *stuckError
	if ex := s.r.explain(err); errors.As(ex, &e) {
		s.end(ex)
		return
	}
	s.log.Warn("the group let go of this member, which joins again", "err", err)
}

// How polls are paced.
const (
	pollRecords = 20_000 // at most so many records are handed over at a time
	pollWait    = time.Second
	stuckAfter  = time.Second // without a hand-over, a lane holds others up
)

// poll takes what was fetched and gives it to lanes, until ctx ends. It waits where their queues are full.
func (s *session) poll(ctx context.Context) {
	for ctx.Err() == nil {
		if !s.awaitRoom(ctx) {
			return
		}
		s.mu.Lock()
		before := s.change
		s.mu.Unlock()
		wait, cancel := context.WithTimeout(ctx, pollWait)
		fetches := s.cl.PollRecords(wait, pollRecords)
		cancel()
		if fetches.IsClientClosed() {
			s.end(errClosed)
			return
		}
		fetches.EachTopic(func(t kgo.FetchTopic) {
			t.EachPartition(func(p kgo.FetchPartition) { s.take(ctx, t.Topic, topicID(t.TopicID), p, before) })
		})
	}
}

// awaitRoom returns when queues have room. Where lanes that do not move take it all while others do, they are parked:
// fetching stops for them, and what they hold is no longer counted. False: ctx ended.
func (s *session) awaitRoom(ctx context.Context) bool {
	for half := false; ; half = true {
		s.mu.Lock()
		most := s.o.Memory / 2
		if half {
			most /= 2 // once it is full, wait for more than a little
		}
		if s.queued < most || s.queued == 0 {
			s.mu.Unlock()
			return true
		}
		s.park()
		s.mu.Unlock()
		check := time.NewTimer(stuckAfter / 2)
		select {
		case <-s.room:
		case <-check.C:
		case <-ctx.Done():
		}
		check.Stop()
		if ctx.Err() != nil {
			return false
		}
	}
}

// park sets lanes aside that do not move while others do, or wait for something of their own. mu is held.
func (s *session) park() {
	now := time.Now()
	others := now.Sub(s.progress) < stuckAfter
	stop := map[string][]int32{}
	for p, l := range s.lanes {
		if l.parked || l.bytes == 0 || now.Sub(l.moved) < stuckAfter || !l.waits && !others || s.parked+l.bytes > s.o.Memory {
			continue
		}
		l.parked = true
		s.queued -= l.bytes
		s.parked += l.bytes
		stop[p.topic] = append(stop[p.topic], p.number)
	}
	if len(stop) > 0 {
		s.cl.PauseFetchPartitions(stop)
	}
}

// consumed counts bytes that left a lane's queue, and lets fetching of a parked lane go on once it is nearly empty: what a
// client has fetched of a paused partition it throws away, so it is not paused for a little. mu is held.
func (s *session) consumed(l *lane, bytes int64) {
	l.bytes -= bytes
	if !l.parked {
		s.queued -= bytes
	} else {
		s.parked -= bytes
		if l.bytes <= s.o.Memory/64 {
			s.unpark(l)
		}
	}
	select {
	case s.room <- struct{}{}:
	default:
	}
}

func (s *session) unpark(l *lane) {
	l.parked = false
	s.parked -= l.bytes
	s.queued += l.bytes
	s.cl.ResumeFetchPartitions(map[string][]int32{l.topic: {l.number}})
}

// take gives what was fetched of a partition to its lane. before is the number of changes when the poll began.
func (s *session) take(ctx context.Context, topic string, id topicID, p kgo.FetchPartition, before uint64) {
	if p.Err != nil {
		s.fault(ctx, partition{topic, p.Partition}, p)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := partition{topic, p.Partition}
	l := s.lanes[at]
	switch {
	case l == nil || l.state != owned:
		return // it was given up between the poll and now
	case id != (topicID{}) && l.topicID != (topicID{}) && id != l.topicID:
		s.end(fmt.Errorf("topic %s was made anew", topic)) // the next session looks at it by the policy
		return
	case s.takenAt[at] > before:
		// The partition was given up and came back during the poll: these records may be those that were fetched before,
		// and then some are missing between.
		switch {
		case len(p.Records) == 0 || l.tail.Group != s.r.group: // the client has yet to be told where it begins
		case l.next < 0:
			// A client cannot be set back to the first record that there is.
			s.end(fmt.Errorf("%v came back while records of it were on their way", at))
		default:
			s.cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: {p.Partition: {Epoch: l.epoch, Offset: l.next}}})
		}
		return
	}
	l.fetched(s, p)
}

// fault acts on an error that came in place of records.
func (s *session) fault(ctx context.Context, at partition, p kgo.FetchPartition) {
	err := p.Err
	var loss *kgo.ErrDataLoss
	var group *kgo.ErrGroupSession
	var large *kgo.ErrDecompressTooLarge
	switch {
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded) && at.topic == "":
		return // a poll that waited long enough
	case errors.As(err, &group):
		return // hooks heard of it
	case errors.Is(err, kerr.OffsetOutOfRange):
		s.outOfRange(ctx, at)
		return
	case errors.As(err, &loss):
		s.truncated(at, loss)
		return
	case errors.As(err, &large):
		s.end(stuck("%v: the batch of records at offset %d unpacks to more than %d bytes: it cannot be read", at, large.Offset, maxBatch))
		return
	}
	s.o.Reading.Add(sources.ReadFaults, 1)
	if at.topic != "" {
		err = fmt.Errorf("fetch %v: %w", at, err)
	}
	var e *stuckError
	if ex := s.r.explain(err); errors.As(ex, &e) {
		s.end(ex)
		return
	}
	if s.r.held.may("fetch") {
		s.log.Warn("a fetch failed", "err", err)
	}
}

// truncated goes on where a log was cut after its leader was lost: what was read beyond is gone there, and others took its
// offsets.
func (s *session) truncated(at partition, loss *kgo.ErrDataLoss) {
	s.o.Reading.Add(sources.ReadGaps, 1)
	s.log.Error("records that were read are no longer in the log: a replica that did not have them became leader", "topic", at.topic, "partition", at.number,
		"read_to", loss.ConsumedTo, "goes_on_at", loss.ResetTo)
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lanes[at]; l != nil {
		l.restart(s, loss.ResetTo, loss.ResetToEpoch)
	}
}

// outOfRange follows the policy for an offset whose records are gone.
func (s *session) outOfRange(ctx context.Context, at partition) {
	s.mu.Lock()
	l := s.lanes[at]
	var next int64
	placed := l != nil && l.tail.Group == s.r.group // else the error is of before, and the client has yet to be told where it begins
	if placed {
		next = l.next
	}
	s.mu.Unlock()
	if !placed {
		return
	}
	asking, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	first, err := s.adm.ListStartOffsets(asking, at.topic)
	var last kadm.ListedOffsets
	if err == nil {
		last, err = s.ends(asking, at.topic)
	}
	from, ok := first.Lookup(at.topic, at.number)
	to, okTo := last.Lookup(at.topic, at.number)
	if err == nil && (!ok || !okTo) {
		err = errors.New("no broker answered for it")
	}
	if err == nil {
		err = errors.Join(from.Err, to.Err)
	}
	if err != nil {
		s.end(fmt.Errorf("find out which offsets %v has: %w", at, err))
		return
	}
	policy := s.o.OutOfRange
	if next < 0 {
		policy = Earliest // it was to begin with the first record, which was trimmed since the client asked where that is
	}
	s.o.Reading.Add(sources.ReadGaps, 1)
	s.log.Error("the records where reading goes on are gone", "topic", at.topic, "partition", at.number, "offset", next,
		"first", from.Offset, "end", to.Offset, "missing", max(from.Offset-next, 0), "out_of_range", policy)
	goOn := from
	switch policy {
	case Stop:
		s.end(stuck("%v: offset %d is out of range, the log has %d to %d: records may be lost; set out_of_range to earliest or latest to go on, or take a new group", at, next, from.Offset, to.Offset))
		return
	case Latest:
		goOn = to
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lanes[at] == l && l.state == owned {
		l.restart(s, goOn.Offset, goOn.LeaderEpoch)
		s.cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{at.topic: {at.number: {Epoch: goOn.LeaderEpoch, Offset: goOn.Offset}}})
	}
}

// ends lists where reading could go to at most.
func (s *session) ends(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
	if s.o.Uncommitted {
		return s.adm.ListEndOffsets(ctx, topics...)
	}
	return s.adm.ListCommittedOffsets(ctx, topics...)
}

// partitions are those of a callback, in order.
func partitions(m map[string][]int32) (list []partition) {
	for topic, numbers := range m {
		for _, n := range numbers {
			list = append(list, partition{topic, n})
		}
	}
	slices.SortFunc(list, func(a, b partition) int {
		if c := strings.Compare(a.topic, b.topic); c != 0 {
			return c
		}
		return int(a.number) - int(b.number)
	})
	return list
}

// held keeps lines of the log that would come again and again to one a minute and kind.
type held struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (h *held) may(kind string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if last, said := h.last[kind]; said && now.Sub(last) < time.Minute {
		return false
	}
	if h.last == nil {
		h.last = map[string]time.Time{}
	}
	h.last[kind] = now
	return true
}
