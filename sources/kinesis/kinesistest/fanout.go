package kinesistest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/aws/smithy-go/eventstream"
)

// consumer answers the calls about consumers of enhanced fan-out.
func (s *Server) consumer(operation string, st *stream, q *request) ([]byte, error) {
	var found *consumer
	for _, c := range st.consumers {
		if c.arn == q.ConsumerARN || c.name == q.ConsumerName {
			found = c
		}
	}
	switch {
	case operation == "RegisterStreamConsumer" && found != nil:
		return nil, &apiError{400, "ResourceInUseException", "Consumer " + q.ConsumerName + " is already registered."}
	case operation == "RegisterStreamConsumer":
		found = &consumer{name: q.ConsumerName, created: time.Now(), active: time.Now().Add(50 * time.Millisecond), subscribed: map[string]time.Time{}, current: map[string]chan struct{}{}}
		found.arn = fmt.Sprintf("%s/consumer/%s:%d", st.arn(), found.name, found.created.Unix())
		st.consumers[found.arn] = found
		return json.Marshal(map[string]any{"Consumer": found.describe()})
	case found == nil:
		return nil, missing("Consumer %s under stream %s not found.", q.ConsumerName, st.name)
	case operation == "DescribeStreamConsumer":
		d := found.describe()
		d["StreamARN"] = st.arn()
		return json.Marshal(map[string]any{"ConsumerDescription": d})
	}
	delete(st.consumers, found.arn)
	return []byte("{}"), nil
}

func (c *consumer) describe() map[string]any {
	status := "ACTIVE"
	if time.Now().Before(c.active) {
		status = "CREATING"
	}
	return map[string]any{
		"ConsumerName": c.name, "ConsumerARN": c.arn, "ConsumerStatus": status,
		"ConsumerCreationTimestamp": float64(c.created.UnixMilli()) / 1000,
	}
}

// subscribe answers a SubscribeToShard with events until its time is over, somebody else subscribes, or the shard ends.
func (s *Server) subscribe(w http.ResponseWriter, r *http.Request, q *request) {
	st, sh, c, it, taken, err := s.subscription(q)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/vnd.amazon.eventstream")
	encoder := eventstream.NewEncoder()
	send := func(kind, header, name string, payload []byte) bool {
		m := eventstream.Message{Payload: payload}
		m.Headers.Set(eventstream.MessageTypeHeader, eventstream.StringValue(kind))
		m.Headers.Set(header, eventstream.StringValue(name))
		m.Headers.Set(eventstream.ContentTypeHeader, eventstream.StringValue("application/json"))
		if err := encoder.Encode(w, m); err != nil {
			return false
		}
		return http.NewResponseController(w).Flush() == nil
	}
	if !send(eventstream.EventMessageType, eventstream.EventTypeHeader, "initial-response", []byte("{}")) {
		return
	}
	over := time.NewTimer(s.o.Subscription)
	defer over.Stop()
	beat := time.NewTicker(200 * time.Millisecond) // events without records come too
	defer beat.Stop()
	for {
		s.mu.Lock()
		i := sh.after(it)
		batch := sh.take(i, 10_000, min(s.o.MaxReply, 1<<20))
		rest := sh.records[i+len(batch):]
		end, grown := sh.closed && len(rest) == 0, sh.grown
		if len(batch) > 0 {
			it.n, it.since = batch[len(batch)-1].n+1, 0
		} else if len(rest) == 0 {
			it.n = max(it.n, sh.next) // the continuation moves on without records
		}
		out := []byte(`{"Records":[`)
		out = st.appendRecords(out, sh, batch)
		out = append(out, `],"MillisBehindLatest":`...)
		out = strconv.AppendInt(out, behind(rest, time.Now()), 10)
		if end {
			out = append(append(out, `,"ChildShards":`...), childShards(sh)...)
		} else {
			out = append(append(append(out, `,"ContinuationSequenceNumber":"`...), st.sequence(sh, max(it.n, 1)-1)...), '"')
		}
		out = append(out, '}')
		fault := s.o.Fault
		s.mu.Unlock()
		if fault != nil {
			if f := fault(Call{Operation: "Event", Shard: sh.id}); f != nil {
				if f.Status == 599 {
					panic(http.ErrAbortHandler)
				}
				message, _ := json.Marshal(map[string]string{"message": f.Message})
				send(eventstream.ExceptionMessageType, eventstream.ExceptionTypeHeader, f.Type, message)
				return
			}
		}
		if !send(eventstream.EventMessageType, eventstream.EventTypeHeader, "SubscribeToShardEvent", out) || end {
			return
		}
		if len(rest) > 0 {
			continue
		}
		select {
		case <-grown:
		case <-beat.C:
		case <-over.C:
			return
		case <-taken:
			message, _ := json.Marshal(map[string]string{"message": "Another active subscription exists for this consumer: " + c.arn})
			send(eventstream.ExceptionMessageType, eventstream.ExceptionTypeHeader, "ResourceInUseException", message)
			return
		case <-r.Context().Done():
			return
		case <-s.done:
			return
		}
	}
}

func (s *Server) subscription(q *request) (st *stream, sh *shard, c *consumer, it iterator, taken chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st, err = s.find(q); err != nil {
		return
	}
	if c = st.consumers[q.ConsumerARN]; c == nil {
		err = missing("Consumer %s not found.", q.ConsumerARN)
		return
	}
	if time.Now().Before(c.active) {
		err = &apiError{400, "ResourceInUseException", "Consumer is not ACTIVE."}
		return
	}
	if sh = st.shard(q.ShardID); sh == nil || q.StartingPosition == nil {
		err = missing("Shard %s in stream %s under account 000000000000 does not exist", q.ShardID, st.name)
		return
	}
	if time.Since(c.subscribed[sh.id]) < s.o.Resubscribe {
		err = &apiError{400, "ResourceInUseException", "Another active subscription exists for this consumer: " + c.arn}
		return
	}
	p := q.StartingPosition
	if it, err = s.iterator(st, q.ShardID, p.Type, p.SequenceNumber, p.Timestamp); err != nil {
		return
	}
	if before := c.current[sh.id]; before != nil {
		close(before)
	}
	taken = make(chan struct{})
	c.current[sh.id], c.subscribed[sh.id] = taken, time.Now()
	return
}
