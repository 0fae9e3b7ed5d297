package delivery

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"hydrant/buffer"
	"hydrant/partition"
	"hydrant/record"
	"hydrant/transform"
	"hydrant/transform/hook"
)

// Plan is what a cut of some rows would make, were it sent.
type Plan struct {
	Objects []*PlannedObject // in the order in which they were begun
	Refused []PlannedRefusal // in the order in which they were found
	// Records by what would become of them, each once.
	Delivered, Dropped, Failed int64
}

// PlannedObject is an object that would be stored.
type PlannedObject struct {
	Key             string
	Error           bool // of the error output
	ContentEncoding string
	Records         int64 // that count in it
	Bytes           int64
}

// PlannedRefusal is a row that would go to the error output.
type PlannedRefusal struct {
	Seq     uint64
	Sub     uint32
	Type    string // of the error output
	Code    string
	Message string
}

// MakePlan runs rows, which arrived at one time and have sequences from 1, through the code that cuts rows of a stream: transform,
// format, keys and error output. Nothing is stored, and the destination is not asked.
func MakePlan(ctx context.Context, stream string, number uint64, p *Pipeline, rows []record.Row) (Plan, error) {
	var plan Plan
	if len(rows) == 0 {
		return plan, nil
	}
	j := &job{
		store:   planStore{plan: &plan},
		name:    stream,
		pipe:    p,
		version: number,
		claim:   planClaim(rows),
		first:   rows[0].Seq,
		next:    rows[len(rows)-1].Seq + 1,
		segs:    []segment{{first: rows[0].Seq}},
		routes:  1,
		refused: func(errorType string, row record.Row, code, message string) {
			plan.Refused = append(plan.Refused, PlannedRefusal{Seq: row.Seq, Sub: row.Sub, Type: errorType, Code: code, Message: message})
		},
	}
	if p.FileSize <= 0 {
		j.limit = max(p.Size, 1)
	}
	if p.Routed() {
		j.kind, j.objects, j.use = routeRows, true, &version{}
		if p.Scheme != nil {
			j.router = p.Scheme.NewRouter(partition.Mark{})
		}
		var err error
		if j.use.invokers, err = invokers(p); err != nil {
			return plan, err
		}
		if j.route(ctx, nil); j.err != nil {
			return plan, j.err
		}
	}
	// The data object and the error object that are open write by turns, each into its own pack.
	w := &worker{}
	w.encode(ctx, j)
	if j.err != nil {
		return plan, j.err
	}
	plan.Delivered, plan.Dropped, plan.Failed = j.head.Counts.OK, j.head.Counts.Dropped, j.head.Counts.Failed
	return plan, nil
}

// invokers makes those of a pipeline for rows that were never put.
func invokers(p *Pipeline) (list []*hook.Invoker, err error) {
	for i, h := range p.Hooks {
		v, err := hook.New(h.Options)
		if err != nil {
			return nil, fmt.Errorf("hook %d: %w", i, err)
		}
		list = append(list, v)
	}
	return list, nil
}

// Try runs rows through the processors and functions of a pipeline and calls emit for what becomes of each part, but for those
// that functions drop: a row of which no part is emitted was dropped. Nothing is stored. Parts come in the order of rows, where
// nothing fails on the way.
func Try(ctx context.Context, p *Pipeline, rows []record.Row, emit func(transform.Result) error) error {
	list, err := invokers(p)
	if err != nil {
		return err
	}
	f := &flow{first: p.Transform, hooks: p.Hooks, rows: func() iter.Seq[record.Row] { return slices.Values(rows) }, invokers: list, ending: trying(emit)}
	return f.run(ctx)
}

// trying is the ending of Try.
type trying func(transform.Result) error

func (t trying) deliver(row record.Row, metadata map[string]string, _ bool) error {
	return t(transform.Result{Row: row, Partitions: metadata})
}

func (t trying) fail(f *failedPart, _ bool) error {
	return t(transform.Result{Outcome: transform.Failed, Row: f.Row, Failure: &f.Failure})
}

// planStore makes packs that only count. The other methods of a store are not called by a cut's encoding.
type planStore struct {
	store
	plan *Plan
}

func (s planStore) NewPack() (pack, error) { return &planPack{plan: s.plan}, nil }

func (s planStore) NewRun(buffer.RunKind, int64) (run, error) {
	return &planRun{rows: map[string][]buffer.RunRow{}}, nil
}

// planRun is a run that stays in memory.
type planRun struct {
	rows map[string][]buffer.RunRow
	n    int64
}

func (r *planRun) Append(key []byte, row buffer.RunRow) error {
	row.Data = bytes.Clone(row.Data)
	r.rows[string(key)] = append(r.rows[string(key)], row)
	r.n++
	return nil
}

func (r *planRun) Sorted() iter.Seq2[[]byte, buffer.RunRow] {
	return func(yield func([]byte, buffer.RunRow) bool) {
		for _, key := range slices.Sorted(maps.Keys(r.rows)) {
			for _, row := range r.rows[key] {
				if !yield([]byte(key), row) {
					return
				}
			}
		}
	}
}

func (r *planRun) InMemory() bool            { return true }
func (r *planRun) Rows() int64               { return r.n }
func (r *planRun) Seal(buffer.RunHead) error { return nil }
func (r *planRun) Abort()                    {}

type planPack struct {
	plan *Plan
	own  []*PlannedObject // this pack's objects, in plan
}

func (p *planPack) last() *PlannedObject { return p.own[len(p.own)-1] }

func (p *planPack) Write(b []byte) (int, error) {
	p.last().Bytes += int64(len(b))
	return len(b), nil
}

func (p *planPack) Begin(h buffer.ObjectHead) (io.Writer, error) {
	o := &PlannedObject{Key: h.Key, Error: h.Role == buffer.Error, ContentEncoding: h.ContentEncoding}
	p.own = append(p.own, o)
	p.plan.Objects = append(p.plan.Objects, o)
	return p, nil
}

func (p *planPack) End(records int64, _ uint64, _ int64) error {
	p.last().Records = records
	return nil
}

func (p *planPack) Drop() error {
	at := slices.Index(p.plan.Objects, p.last())
	p.own = p.own[:len(p.own)-1]
	p.plan.Objects = slices.Delete(p.plan.Objects, at, at+1)
	return nil
}

func (p *planPack) Seal(buffer.ManifestHead) error { return nil }

func (p *planPack) Abort() {
	for len(p.own) > 0 {
		_ = p.Drop()
	}
}

// planClaim are the rows of a plan.
type planClaim []record.Row

func (c planClaim) Range() (first, next uint64) { return c[0].Seq, c[len(c)-1].Seq + 1 }
func (c planClaim) Bytes() (n int64) {
	for _, r := range c {
		n += int64(len(r.Data))
	}
	return n
}
func (c planClaim) Lost() int64                { return 0 }
func (c planClaim) Rows() iter.Seq[record.Row] { return slices.Values(c) }
func (c planClaim) Trim(uint64)                {}
func (c planClaim) Release()                   {}
