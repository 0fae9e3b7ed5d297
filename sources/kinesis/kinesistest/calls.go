package kinesistest

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// apiError is an answer of the service's that is an error.
type apiError struct {
	status        int
	kind, message string
}

func (e *apiError) Error() string { return e.kind + ": " + e.message }

func invalid(format string, a ...any) error {
	return &apiError{400, "InvalidArgumentException", fmt.Sprintf(format, a...)}
}

func missing(format string, a ...any) error {
	return &apiError{400, "ResourceNotFoundException", fmt.Sprintf(format, a...)}
}

// request has the members of all operations that are known here.
type request struct {
	StreamName, StreamARN, NextToken, ShardID, ExclusiveStartShardID string
	ShardFilter                                                      *struct {
		Type      string
		Timestamp json.Number
	}
	MaxResults, Limit      int
	ShardIterator          string
	ShardIteratorType      string
	StartingSequenceNumber string
	Timestamp              json.Number
	ConsumerName           string
	ConsumerARN            string
	PartitionKey           string
	ExplicitHashKey        string
	Data                   []byte
	Records                []struct {
		PartitionKey, ExplicitHashKey string
		Data                          []byte
	}
	StartingPosition *struct {
		Type, SequenceNumber string
		Timestamp            json.Number
	}
	ShardToSplit, NewStartingHashKey   string
	ShardToMerge, AdjacentShardToMerge string
	ShardCount                         int
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 16<<20))
	if err != nil {
		return
	}
	operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "Kinesis_20131202.")
	if !ok || r.Method != http.MethodPost {
		fail(w, &apiError{400, "UnknownOperationException", ""})
		return
	}
	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") || r.Header.Get("X-Amz-Date") == "" {
		fail(w, &apiError{400, "MissingAuthenticationTokenException", "Missing Authentication Token"})
		return
	}
	var q request
	if err := json.Unmarshal(body, &q); err != nil {
		fail(w, &apiError{400, "SerializationException", err.Error()})
		return
	}
	shard := q.ShardID
	if it, err := parseIterator(q.ShardIterator); err == nil {
		shard = it.shard
	}
	s.mu.Lock()
	s.calls[operation]++
	ask := s.o.Fault
	s.mu.Unlock()
	var fault *Fault
	if ask != nil {
		fault = ask(Call{Operation: operation, Shard: shard, Type: q.ShardIteratorType})
	}
	if fault != nil && !fault.After && !fault.Empty && !fault.Torn {
		lose(w, fault)
		return
	}
	if operation == "SubscribeToShard" {
		s.subscribe(w, r, &q)
		return
	}
	if fault != nil && fault.Torn {
		_, _ = w.Write([]byte(`{"Records":[],"MillisBehindLatest":0}`))
		return
	}
	out, err := s.call(operation, &q, fault != nil && fault.Empty)
	if fault != nil && fault.After {
		lose(w, fault)
		return
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("Content-Length", strconv.Itoa(len(out)))
	_, _ = w.Write(out)
}

func lose(w http.ResponseWriter, f *Fault) {
	if f.Status == 599 {
		panic(http.ErrAbortHandler)
	}
	status := f.Status
	if status == 0 {
		status = 400
	}
	fail(w, &apiError{status, f.Type, f.Message})
}

func fail(w http.ResponseWriter, err error) {
	e, ok := err.(*apiError)
	if !ok {
		e = &apiError{500, "InternalFailure", err.Error()}
	}
	out, _ := json.Marshal(map[string]string{"__type": e.kind, "message": e.message})
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(e.status)
	_, _ = w.Write(out)
}

func (s *Server) call(operation string, q *request, empty bool) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if operation == "GetRecords" {
		return s.getRecords(q, empty)
	}
	if operation == "CreateStream" {
		return nil, invalid("use Server.CreateStream")
	}
	if operation == "ListShards" && q.NextToken != "" {
		return s.listShards(nil, q)
	}
	st, err := s.find(q)
	if err != nil {
		return nil, err
	}
	switch operation {
	case "ListShards":
		return s.listShards(st, q)
	case "DescribeStreamSummary":
		open := 0
		for _, sh := range st.shards {
			if !sh.closed {
				open++
			}
		}
		return json.Marshal(map[string]any{"StreamDescriptionSummary": map[string]any{
			"StreamName": st.name, "StreamARN": st.arn(), "StreamStatus": "ACTIVE", "OpenShardCount": open,
			"RetentionPeriodHours": int(st.retention / time.Hour), "StreamCreationTimestamp": float64(st.created.UnixMilli()) / 1000,
			"EnhancedMonitoring": []any{}, "EncryptionType": "NONE", "ConsumerCount": len(st.consumers),
		}})
	case "GetShardIterator":
		it, err := s.iterator(st, q.ShardID, q.ShardIteratorType, q.StartingSequenceNumber, q.Timestamp)
		if err != nil {
			return nil, err
		}
		return json.Marshal(map[string]any{"ShardIterator": it.String()})
	case "PutRecord":
		sh, seq, err := s.putHashed(st, q.PartitionKey, q.ExplicitHashKey, q.Data)
		if err != nil {
			return nil, err
		}
		return json.Marshal(map[string]any{"ShardId": sh.id, "SequenceNumber": seq})
	case "PutRecords":
		results := make([]map[string]any, 0, len(q.Records))
		for _, r := range q.Records {
			sh, seq, err := s.putHashed(st, r.PartitionKey, r.ExplicitHashKey, r.Data)
			if err != nil {
				return nil, err
			}
			results = append(results, map[string]any{"ShardId": sh.id, "SequenceNumber": seq})
		}
		return json.Marshal(map[string]any{"FailedRecordCount": 0, "Records": results})
	case "RegisterStreamConsumer", "DescribeStreamConsumer", "DeregisterStreamConsumer":
		return s.consumer(operation, st, q)
	}
	return nil, &apiError{400, "UnknownOperationException", operation}
}

func (s *Server) putHashed(st *stream, key, explicit string, data []byte) (*shard, string, error) {
	sum := md5.Sum([]byte(key))
	hash := new(big.Int).SetBytes(sum[:])
	if explicit != "" {
		var ok bool
		if hash, ok = new(big.Int).SetString(explicit, 10); !ok {
			return nil, "", invalid("Invalid ExplicitHashKey %s", explicit)
		}
	}
	if len(data) > 10<<20 {
		return nil, "", &apiError{400, "ValidationException", "Data must not be longer than 10485760"}
	}
	return s.put(st, hash, key, data)
}

func (s *Server) find(q *request) (*stream, error) {
	name := q.StreamName
	for _, arn := range []string{q.StreamARN, q.ConsumerARN} {
		if _, after, ok := strings.Cut(arn, ":stream/"); ok && name == "" {
			name, _, _ = strings.Cut(after, "/")
		}
	}
	st := s.streams[name]
	if st == nil {
		return nil, missing("Stream %s under account 000000000000 not found.", name)
	}
	return st, nil
}

func sortByRange(shards []*shard) {
	sort.Slice(shards, func(i, j int) bool { return shards[i].from.Cmp(shards[j].from) < 0 })
}

func (s *Server) listShards(st *stream, q *request) ([]byte, error) {
	after, since := q.ExclusiveStartShardID, int64(0)
	if q.NextToken != "" {
		if q.StreamName != "" || q.StreamARN != "" || q.ShardFilter != nil || q.ExclusiveStartShardID != "" {
			return nil, invalid("NextToken and StreamName cannot be provided together.")
		}
		var name string
		var made int64
		raw, err := base64.StdEncoding.DecodeString(q.NextToken)
		if err != nil {
			return nil, invalid("Invalid NextToken")
		}
		if _, err := fmt.Sscanf(string(raw), "%s %s %d %d", &name, &after, &made, &since); err != nil {
			return nil, invalid("Invalid NextToken")
		}
		if time.Since(time.UnixMilli(made)) > s.o.TokenAge {
			return nil, &apiError{400, "ExpiredNextTokenException", "The NextToken has expired."}
		}
		if st = s.streams[name]; st == nil {
			return nil, missing("Stream %s under account 000000000000 not found.", name)
		}
	} else if f := q.ShardFilter; f != nil {
		switch f.Type {
		case "FROM_TIMESTAMP":
			since = millis(f.Timestamp)
		case "FROM_TRIM_HORIZON":
		default:
			return nil, invalid("filter %s is not imitated", f.Type)
		}
	}
	most := s.o.PageSize
	if q.MaxResults > 0 {
		most = min(most, q.MaxResults)
	}
	shards := []map[string]any{}
	last, more := "", false
	for _, sh := range st.shards {
		if sh.id == "" || sh.id <= after || sh.closed && since > 0 && (len(sh.records) == 0 || sh.records[len(sh.records)-1].arrived < since) {
			continue
		}
		if len(shards) == most {
			more = true
			break
		}
		d := map[string]any{
			"ShardId":             sh.id,
			"HashKeyRange":        map[string]string{"StartingHashKey": sh.from.String(), "EndingHashKey": sh.to.String()},
			"SequenceNumberRange": map[string]string{"StartingSequenceNumber": st.sequence(sh, 0)},
		}
		if sh.closed {
			d["SequenceNumberRange"].(map[string]string)["EndingSequenceNumber"] = st.sequence(sh, sh.next)
		}
		if len(sh.parents) > 0 {
			d["ParentShardId"] = sh.parents[0]
		}
		if len(sh.parents) > 1 {
			d["AdjacentParentShardId"] = sh.parents[1]
		}
		shards = append(shards, d)
		last = sh.id
	}
	out := map[string]any{"Shards": shards}
	if more {
		out["NextToken"] = base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s %s %d %d", st.name, last, time.Now().UnixMilli(), since))
	}
	return json.Marshal(out)
}

// iterator is a place between two records: those with numbers of at least n are after it.
type iterator struct {
	stream, shard string
	serial        int64
	n             uint64
	since         int64 // ms: only records that arrived then or later, until the first of them
	made          int64 // ms
}

func (it iterator) String() string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s %s %d %d %d %d", it.stream, it.shard, it.serial, it.n, it.since, it.made))
}

func parseIterator(s string) (it iterator, err error) {
	raw, err := base64.StdEncoding.DecodeString(s)
	if err == nil {
		_, err = fmt.Sscanf(string(raw), "%s %s %d %d %d %d", &it.stream, &it.shard, &it.serial, &it.n, &it.since, &it.made)
	}
	return it, err
}

// millis reads a time as the protocol has it: seconds with a fraction.
func millis(n json.Number) int64 {
	f, _ := n.Float64()
	return int64(f*1000 + .5)
}

func (s *Server) iterator(st *stream, id, kind, sequence string, at json.Number) (it iterator, err error) {
	sh := st.shard(id)
	if sh == nil || id == "" {
		return it, missing("Shard %s in stream %s under account 000000000000 does not exist", id, st.name)
	}
	it = iterator{stream: st.name, shard: id, serial: st.serial, made: time.Now().UnixMilli()}
	switch kind {
	case "TRIM_HORIZON":
	case "LATEST":
		it.n = sh.next
	case "AT_TIMESTAMP":
		if it.since = millis(at); it.since > time.Now().UnixMilli()+1000 {
			return it, invalid("The timestampInMillis parameter cannot be greater than the currentTimestampInMillis.")
		}
	case "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER":
		n, ok := st.parse(sh, sequence)
		if !ok {
			return it, invalid("StartingSequenceNumber %s used in GetShardIterator on shard %s in stream %s under account 000000000000 is invalid because it did not come from this stream.", sequence, id, st.name)
		}
		if n < sh.trimmed {
			return it, invalid("StartingSequenceNumber %s used in GetShardIterator on shard %s in stream %s under account 000000000000 is invalid because it is older than the retention.", sequence, id, st.name)
		}
		it.n = n
		if kind[1] == 'F' {
			it.n++
		}
	default:
		return it, invalid("ShardIteratorType %s", kind)
	}
	return it, nil
}

// after is the place of the first record behind an iterator.
func (sh *shard) after(it iterator) int {
	i := sort.Search(len(sh.records), func(i int) bool { return sh.records[i].n >= it.n })
	for it.since > 0 && i < len(sh.records) && sh.records[i].arrived < it.since {
		i++
	}
	return i
}

func (s *Server) getRecords(q *request, empty bool) ([]byte, error) {
	it, err := parseIterator(q.ShardIterator)
	if err != nil {
		return nil, invalid("Invalid ShardIterator.")
	}
	st := s.streams[it.stream]
	if st == nil || st.serial != it.serial {
		return nil, missing("Stream %s under account 000000000000 not found.", it.stream)
	}
	sh := st.shard(it.shard)
	if sh == nil {
		return nil, missing("Shard %s in stream %s under account 000000000000 does not exist", it.shard, it.stream)
	}
	now := time.Now()
	if now.Sub(time.UnixMilli(it.made)) > s.o.IteratorAge {
		return nil, &apiError{400, "ExpiredIteratorException", "Iterator expired. The iterator was created at time " + time.UnixMilli(it.made).String()}
	}
	if s.o.ReadsPerSecond > 0 {
		sh.reads = slices.DeleteFunc(sh.reads, func(t time.Time) bool { return now.Sub(t) > time.Second })
		if len(sh.reads) >= s.o.ReadsPerSecond {
			return nil, &apiError{400, "ProvisionedThroughputExceededException", "Rate exceeded for shard " + it.shard + " in stream " + it.stream + " under account 000000000000."}
		}
		sh.reads = append(sh.reads, now)
	}
	limit := 10_000
	if q.Limit != 0 {
		if limit = q.Limit; limit < 1 || limit > 10_000 {
			return nil, &apiError{400, "ValidationException", "Limit must be between 1 and 10000"}
		}
	}
	if empty {
		limit = 0
	}
	i := sh.after(it)
	batch := sh.take(i, limit, s.o.MaxReply)
	next, end := iterator{stream: it.stream, shard: it.shard, serial: it.serial, n: it.n, since: it.since, made: now.UnixMilli()}, false
	if len(batch) > 0 {
		next.n, next.since = batch[len(batch)-1].n+1, 0
	}
	rest := sh.records[i+len(batch):]
	end = sh.closed && len(rest) == 0 && !empty
	out := []byte(`{"Records":[`)
	out = st.appendRecords(out, sh, batch)
	out = append(out, `],"MillisBehindLatest":`...)
	out = strconv.AppendInt(out, behind(rest, now), 10)
	if end {
		out = append(out, `,"ChildShards":`...)
		out = append(out, childShards(sh)...)
	} else {
		out = append(out, `,"NextShardIterator":"`...)
		out = append(append(out, next.String()...), '"')
	}
	return append(out, '}'), nil
}

// take is records from place i on, at least one where there is one and limit is not 0.
func (sh *shard) take(i, limit, most int) []rec {
	size, n := 0, 0
	for n < limit && i+n < len(sh.records) {
		if size += len(sh.records[i+n].data) + len(sh.records[i+n].key); n > 0 && size > most {
			break
		}
		n++
	}
	return sh.records[i : i+n]
}

func behind(rest []rec, now time.Time) int64 {
	if len(rest) == 0 {
		return 0
	}
	return max(now.UnixMilli()-rest[0].arrived, 1)
}

func (st *stream) appendRecords(out []byte, sh *shard, batch []rec) []byte {
	prefix := st.sequence(sh, 0)[:18]
	for i, r := range batch {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(out, `{"SequenceNumber":"`...), prefix...)
		out = fmt.Appendf(out, `%038d","ApproximateArrivalTimestamp":%d.%03d,"Data":"`, r.n, r.arrived/1000, r.arrived%1000)
		out = base64.StdEncoding.AppendEncode(out, r.data)
		out = append(out, `","PartitionKey":`...)
		key, _ := json.Marshal(r.key)
		out = append(append(out, key...), '}')
	}
	return out
}

func childShards(sh *shard) []byte {
	list := []map[string]any{}
	for _, c := range sh.children {
		list = append(list, map[string]any{
			"ShardId": c.id, "ParentShards": c.parents,
			"HashKeyRange": map[string]string{"StartingHashKey": c.from.String(), "EndingHashKey": c.to.String()},
		})
	}
	out, _ := json.Marshal(list)
	return out
}
