package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hydrant/buffer"
	"hydrant/prefix"
	"hydrant/record"
	"hydrant/transform"
	"hydrant/transform/hook"
)

// Keys of routed runs. The buffer sorts and compares them and knows nothing of them.
//
//	data   0x01, the rendered prefix but for its random strings
//	error  0x02, the error output type, 0x00, the rendered error prefix likewise
//
// Rows under an error key are finished lines of the error output.
const (
	roleData  = 1
	roleError = 2
)

// dataKey and errorKey of a run, appended to dst.
func appendDataKey(dst []byte, route string) []byte {
	return append(append(dst, roleData), route...)
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
		}
	}
	return 0, "", "", fmt.Errorf("run has a key %.100q that this version cannot read", key)
}

// Router says where a row goes. It is safe for concurrent use.
type Router interface {
	// Route returns the prefix of the row's object, rendered but for its random strings, or why there is none. metadata
	// are the partition keys that functions gave.
	Route(row record.Row, metadata map[string]string) (route string, failure *transform.Failure)
}

// Routed tells whether rows pass through routed runs: because a function has a say, or because their prefixes lie
// scattered. What decides such rows is asked once.
func (p *Pipeline) Routed() bool { return len(p.Hooks) > 0 || p.Router != nil }

// routing is the ending of a flow: it puts rows into a run, under their keys. Not safe for concurrent use.
type routing struct {
	j   *job
	run run

	arrival arrivals
	errors  map[string]*errorRoute // by type: there are a few
	checked map[string]error       // what the destination says of routes
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

// destinationOf is a row's route, or why it has none.
func (r *routing) destinationOf(row record.Row, metadata map[string]string) (string, *transform.Failure) {
	p := r.j.pipe
	var route string
	if p.Router == nil {
		route = r.arrival.of(p, row.Arrived)
	} else {
		var failure *transform.Failure
		if route, failure = p.Router.Route(row, metadata); failure != nil {
			return "", failure
		}
	}
	refused, known := r.checked[route]
	if !known {
		if len(r.checked) >= maxChecked {
			clear(r.checked)
		}
		_, refused = p.routedKey(route, r.j.name, r.j.version, row.Arrived)
		r.checked[route] = refused
	}
	if refused != nil {
		return "", &transform.Failure{Type: metadataExtractionFailed, Code: codeObjectKey, Message: refused.Error()}
	}
	return route, nil
}

// deliver implements ending.
func (r *routing) deliver(row record.Row, metadata map[string]string, counts bool) error {
	route, failure := r.destinationOf(row, metadata)
	if failure != nil {
		return r.fail(&failedPart{Row: row, Failure: *failure, Attempts: 1, Ended: time.Now()}, counts)
	}
	r.key = appendDataKey(r.key[:0], route)
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
	r.j.sizes[string(r.key)] += int64(len(row.Data))
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
	j.sizes, j.runHead.Counts = map[string]int64{}, buffer.Counts{}
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
