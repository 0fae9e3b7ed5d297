package delivery

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"hydrant/buffer"
	"hydrant/partition"
	"hydrant/prefix"
	"hydrant/record"
	"hydrant/transform"
	"hydrant/transform/hook"
)

// Keys of routed runs. The buffer sorts and compares them and knows nothing of them.
//
//	data       0x01, the rendered prefix but for its random strings
//	error      0x02, the error output type, 0x00, the rendered error prefix likewise
//	partition  0x03, the rendered prefix likewise, the partition's hash 16: two partitions may have one prefix
//	marked     0x04, the end of the directory's time 8 (µs since 1970, big endian), then as a partition: where the
//	           directory gets a marker, which needs to be known after the row's own time is gone
//
// Rows under an error key are finished lines of the error output.
const (
	roleData      = 1
	roleError     = 2
	rolePartition = 3
	roleMarked    = 4

	hashLength = 16
	endLength  = 8
	maxKey     = 1100 // bytes that a key of a run may have
)

// appendDataKey appends the key of rows that go where their arrival says.
func appendDataKey(dst []byte, route string) []byte {
	return append(append(dst, roleData), route...)
}

// appendPartitionKey appends that of a partition.
func appendPartitionKey(dst []byte, k *partition.Key) []byte {
	return append(append(append(dst, rolePartition), k.Prefix...), k.Hash[:]...)
}

// appendMarkedKey appends that of a partition whose directory gets a marker; until is when its time ends.
func appendMarkedKey(dst []byte, k *partition.Key, until int64) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, roleMarked), uint64(until))
	return append(append(dst, k.Prefix...), k.Hash[:]...)
}

// endOf is the end of the directory's time in a key; 0 where that gets no marker.
func endOf(key []byte) int64 {
	if len(key) < 1+endLength || key[0] != roleMarked {
		return 0
	}
	return int64(binary.BigEndian.Uint64(key[1:]))
}

func appendErrorKey(dst []byte, errorType, route string) []byte {
	dst = append(append(dst, roleError), errorType...)
	return append(append(dst, 0), route...)
}

// parseKey takes a key apart.
func parseKey(key []byte) (role byte, errorType, route string, err error) {
	if len(key) > 0 {
		switch key[0] {
		case roleData:
			return roleData, "", string(key[1:]), nil
		case roleError:
			if kind, rest, ok := bytes.Cut(key[1:], []byte{0}); ok {
				return roleError, string(kind), string(rest), nil
			}
		case rolePartition:
			if end := len(key) - hashLength; end > 0 {
				return rolePartition, "", string(key[1:end]), nil
			}
		case roleMarked:
			if end := len(key) - hashLength; end > endLength {
				return roleMarked, "", string(key[1+endLength : end]), nil
			}
		}
	}
	return 0, "", "", fmt.Errorf("run has a key %.100q that this version cannot read", key)
}

// keySizes adds up bytes of Data by key of a run.
type keySizes struct {
	index  map[string]int
	bytes  []int64
	active int // keys that are not of the error output
}

func (k *keySizes) reset() { *k = keySizes{index: map[string]int{}} }

func (k *keySizes) add(key []byte, n int64) {
	i, known := k.index[string(key)]
	if !known {
		i = len(k.bytes)
		k.index[string(key)] = i
		k.bytes = append(k.bytes, 0)
		if key[0] != roleError {
			k.active++
		}
	}
	k.bytes[i] += n
}

func (k *keySizes) has(key []byte) bool {
	_, known := k.index[string(key)]
	return known
}

func (k *keySizes) of(key []byte) int64 {
	if i, known := k.index[string(key)]; known {
		return k.bytes[i]
	}
	return 0
}

// all gives the keys in no order.
func (k *keySizes) all(yield func(key string, bytes int64) bool) {
	for key, i := range k.index {
		if !yield(key, k.bytes[i]) {
			return
		}
	}
}

// Routed tells whether rows pass through routed runs: because a function has a say, or because their prefixes lie
// scattered. What decides such rows is asked once.
func (p *Pipeline) Routed() bool { return len(p.Hooks) > 0 || p.Scheme != nil }

// routing is the ending of a flow: it puts rows into a run, under their keys. Not safe for concurrent use.
type routing struct {
	j   *job
	run run

	arrival arrivals
	errors  map[string]*errorRoute // by type: there are a few
	checked map[string]error       // what the destination says of routes of arrivals
	opened  int                    // partitions that the epoch did not have
	key     []byte
	line    []byte
}

// errorRoute is the prefix of an error output type for the arrivals in [from, until), µs.
type errorRoute struct {
	from, until int64
	route       string
}

// arrivals renders the prefix of arrivals, which are the same for a while.
type arrivals struct {
	from, until int64 // µs
	route       string
}

func (a *arrivals) of(p *Pipeline, arrived int64) string {
	if a.from == a.until || arrived < a.from || arrived >= a.until {
		v := prefix.Values{Time: p.at(arrived)}
		a.route = p.Prefix.Route(v)
		from, until := p.Prefix.SameRoute(v)
		a.from, a.until = from.UnixMicro(), until.UnixMicro()
	}
	return a.route
}

// maxChecked bounds the routes of which a routing remembers what the destination says.
const maxChecked = 10_000

// keyOf appends the key of a row, or says why it has none.
func (r *routing) keyOf(dst []byte, row record.Row, metadata map[string]string) ([]byte, *transform.Failure) {
	j := r.j
	if j.router != nil {
		placed, failure := j.router.Route(row, metadata)
		if placed.Late || failure != nil && failure.Type == partition.Late {
			j.late++
		}
		if failure != nil {
			return dst, failure
		}
		if j.pipe.Markers {
			dst = appendMarkedKey(dst, &placed.Key, placed.Until)
		} else {
			dst = appendPartitionKey(dst, &placed.Key)
		}
		if len(dst) > maxKey {
			return dst, &transform.Failure{Type: metadataExtractionFailed, Code: codeObjectKey,
				Message: fmt.Sprintf("The prefix of this record has %d bytes, and no more than %d can be kept: %.100q...", len(placed.Prefix), maxKey-len(dst)+len(placed.Prefix), placed.Prefix)}
		}
		if j.known != nil && !j.sizes.has(dst) && !j.known[string(dst)] {
			if len(j.known)+r.opened >= j.pipe.MaxActive {
				return dst, &transform.Failure{Type: activePartitionExceeded, Code: codeActivePartitions, Message: messageActivePartitions}
			}
			r.opened++
		}
		return dst, nil
	}
	p := j.pipe
	route := r.arrival.of(p, row.Arrived)
	refused, known := r.checked[route]
	if !known {
		if len(r.checked) >= maxChecked {
			clear(r.checked)
		}
		_, refused = p.routedKey(route, j.name, j.version, row.Arrived)
		r.checked[route] = refused
	}
	if refused != nil {
		return dst, &transform.Failure{Type: metadataExtractionFailed, Code: codeObjectKey, Message: refused.Error()}
	}
	return appendDataKey(dst, route), nil
}

// deliver implements ending.
func (r *routing) deliver(row record.Row, metadata map[string]string, counts bool) error {
	var failure *transform.Failure
	if r.key, failure = r.keyOf(r.key[:0], row, metadata); failure != nil {
		return r.fail(&failedPart{Row: row, Failure: *failure, Attempts: 1, Ended: time.Now()}, counts)
	}
	r.j.routed += int64(len(row.Data))
	if counts {
		r.j.runHead.Counts.OK++
	}
	return r.append(row, counts)
}

// fail implements ending.
func (r *routing) fail(f *failedPart, counts bool) error {
	r.line = appendFailedPart(r.line[:0], f)
	r.key = appendErrorKey(r.key[:0], f.Type, r.errorRoute(f.Type, f.Arrived))
	r.j.codes.add(f.Type, f.Code)
	if r.j.refused != nil {
		r.j.refused(f.Type, f.Row, f.Code, f.Message)
	}
	if counts {
		r.j.runHead.Counts.Failed++
	}
	return r.append(record.Row{Seq: f.Seq, Sub: f.Sub, Arrived: f.Arrived, Data: r.line}, counts)
}

func (r *routing) append(row record.Row, counts bool) error {
	if err := r.run.Append(r.key, buffer.RunRow{Row: row, Counts: counts}); err != nil {
		return &packError{fmt.Errorf("route a row: %w", err)}
	}
	r.j.reach = row.Seq
	r.j.sizes.add(r.key, int64(len(row.Data)))
	return nil
}

func (r *routing) errorRoute(errorType string, arrived int64) string {
	e := r.errors[errorType]
	if e == nil {
		e = &errorRoute{}
		r.errors[errorType] = e
	}
	if e.from == e.until || arrived < e.from || arrived >= e.until {
		p := r.j.pipe
		v := prefix.Values{Time: p.errorAt(arrived), ErrorOutputType: errorType}
		from, until := p.ErrorPrefix.SameRoute(v)
		*e = errorRoute{from.UnixMicro(), until.UnixMicro(), p.ErrorPrefix.Route(v)}
	}
	return e.route
}

// appendFailedPart adds the line of a part that failed before it came to a format.
func appendFailedPart(dst []byte, f *failedPart) []byte {
	if f.Function != "" && f.Type == transform.ProcessingFailed {
		return hook.AppendFailed(dst, hook.Failed{
			Raw: f.Data, Code: f.Code, Message: f.Message, Attempts: f.Attempts, Arrived: f.Arrived, Ended: f.Ended, Function: f.Function,
		})
	}
	return appendFailed(dst, f.Row, f.Code, f.Message, f.Ended)
}

// route runs the rows of a job's claim through the pipeline and into a run.
func (j *job) route(ctx context.Context, budget *hook.Budget) {
	j.codes, j.raw, j.routed, j.reach = j.codes[:0], 0, 0, j.first
	j.sizes.reset()
	j.runHead.Counts, j.late = buffer.Counts{}, 0
	if j.router != nil {
		j.router.Rewind(j.mark) // rows that are routed again are judged as if for the first time
	}
	r, err := j.store.NewRun(buffer.RunRouted, j.memory)
	if err != nil {
		j.err = &packError{fmt.Errorf("start a run: %w", err)}
		return
	}
	f := &flow{
		first: j.pipe.Transform, hooks: j.pipe.Hooks, rows: j.claim.Rows, invokers: j.use.invokers, budget: budget,
		ending: &routing{j: j, run: r, errors: map[string]*errorRoute{}, checked: map[string]error{}},
	}
	if err = f.run(ctx); err == nil && len(f.parts.open) > 0 {
		err = fmt.Errorf("bug: %d records have parts that did not end", len(f.parts.open))
	}
	if err != nil {
		r.Abort()
		if _, ok := errors.AsType[*packError](err); !ok && ctx.Err() != nil {
			err = ctx.Err()
		}
		j.err = err
		return
	}
	j.run, j.raw, j.routeCodes = r, j.bytes, slices.Clone(j.codes)
	j.results = f.results
	h := &j.runHead
	if j.router != nil {
		j.reached = j.router.Mark()
		h.Watermark = j.watermark()
	}
	h.Kind, h.Counts.Dropped, h.Lost = buffer.RunRouted, f.parts.dropped, j.claim.Lost()
}

// direct tells whether the job closes an epoch that has nothing but what is in memory: then no run is written.
func (j *job) direct() bool { return j.tail && j.epoch == nil && !j.spilled && j.run.InMemory() }

// sealRun makes the run durable.
func (j *job) sealRun() {
	h := &j.runHead
	h.First, h.Next, h.Version, h.Epoch, h.N = j.first, j.next, j.version, j.head.Epoch, 1
	h.Incarnation, h.Consumer = j.head.Incarnation, j.head.Consumer
	if j.epoch != nil {
		h.N = j.epoch.n + 1
	}
	if err := j.run.Seal(*h); err != nil {
		j.err = &packError{fmt.Errorf("seal a run: %w", err)}
	}
}
