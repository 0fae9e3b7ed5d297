package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	hashes "hash/fnv"
	"strconv"
	"time"

	"hydrant/delivery"
	"hydrant/partition"
	"hydrant/transform/hook"
)

// hooksSalt draws which lives have functions.
const hooksSalt = 0x400c

// whim is a function that says something else each time it is asked about a record, takes its time, and fails now and
// then. What it says depends on the seed, the record and how often it was asked, so that a seed has one life.
type whim struct {
	p   *process
	rev int
}

func (f *whim) Function() string { return fmt.Sprintf("https://functions.test/r%d", f.rev) }

func (f *whim) Invoke(ctx context.Context, request, dst []byte) ([]byte, error) {
	type rec struct {
		RecordID string `json:"recordId"`
		Data     []byte `json:"data"`
		Result   string `json:"result"`
	}
	var batch struct {
		Records []rec `json:"records"`
	}
	if err := json.Unmarshal(request, &batch); err != nil {
		return nil, err
	}
	if f.p.dead() {
		return nil, errors.New("nobody calls")
	}
	l := f.p.w.log
	l.mu.Lock()
	fate := uint64(0)
	for i := range batch.Records {
		b := &batch.Records[i]
		var fields struct{ ID string }
		var known *sentRecord
		if err := json.Unmarshal(b.Data, &fields); err == nil {
			known = l.records[fields.ID]
		}
		if known == nil {
			f.p.w.violated("a function is asked about %.60q, which nobody sent", b.Data)
			b.Result = "Ok"
			continue
		}
		draw := f.draw(fields.ID, len(known.said)+1)
		if i == 0 {
			fate = draw / 64
		}
		b.Result = []string{"Ok", "Ok", "Ok", "Dropped", "ProcessingFailed"}[draw%5]
		said := opinion{b.Result, f.p.w.since()}
		if fate%8 == 0 {
			said.outcome = "ProcessingFailed" // if it stays at that
		}
		known.said = append(known.said, said)
	}
	l.mu.Unlock()
	wait := time.NewTimer(time.Duration(fate/8%4000)*time.Millisecond + 17*time.Microsecond)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	switch fate % 24 {
	case 0:
		return nil, &hook.Error{Code: hook.CodeFunctionError, Err: errors.New("it broke")}
	case 8:
		return nil, &hook.Error{Code: hook.CodeLimitExceeded, After: time.Second}
	case 16:
		return append(dst, "no answer at all"...), nil
	}
	answer, err := json.Marshal(batch)
	return append(dst, answer...), err
}

func (f *whim) draw(id string, asked int) uint64 {
	h := hashes.New64a()
	fmt.Fprintf(h, "%d %s %d", f.p.w.seed, id, asked)
	return h.Sum64() >> 3
}

// scatteredBy is the key by which records lie scattered: the length of their padding, modulo 5.
const scatteredBy = ".pad | length % 5"

// scatter has the records of a pipeline routed by that key, by their event time, or by both.
func (p *spec) scatter(pipe *delivery.Pipeline, stream string) error {
	keys := map[string]string{}
	if p.Scatter {
		keys["k"] = scatteredBy
	}
	s, err := partition.New(partition.Options{
		Prefix: pipe.Prefix, Location: pipe.TimeZone, Keys: keys, EventTime: p.eventTime(),
		Check: func(text string) error { return pipe.CheckPrefix(stream, text) },
	})
	if err != nil {
		return err
	}
	pipe.Scheme = delivery.Partitioned(s)
	return nil
}

// scattered is the value of the key of a record.
func scattered(data []byte) string {
	var fields struct{ Pad string }
	if err := json.Unmarshal(data, &fields); err != nil {
		panic("bug: " + err.Error())
	}
	return strconv.Itoa(len(fields.Pad) % 5)
}

// decided tells whether a record may have ended as the function said. That is what it said last. But where a decision could not be
// written and a bad disk leaves in doubt whether it was, the function is asked again, and a start may find the earlier decision, and
// only that. The caller holds w.log.mu.
func (w *world) decided(rec *sentRecord, outcome string) bool {
	for i, a := range rec.said {
		if a.outcome == outcome && (i == len(rec.said)-1 || w.lastFault.Load() >= int64(a.at)) {
			return true
		}
	}
	return false
}

// checkSaid checks that a record is where the function said. The caller holds w.log.mu.
func (w *world) checkSaid(n named, s *spec, rec *sentRecord) {
	if !s.Hook {
		return
	}
	want := "Ok"
	if n.errorType == "processing-failed" {
		want = "ProcessingFailed"
	}
	if n.errorType != "delivery-failed" && !w.decided(rec, want) {
		w.violated("record %d of %q is in %q, and the function said %v", rec.seq(), n.stream, n.key, rec.said)
	}
}
