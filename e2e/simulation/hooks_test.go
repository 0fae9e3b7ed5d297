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
		known.asked++
		draw := f.draw(fields.ID, known.asked)
		if i == 0 {
			fate = draw / 64
		}
		b.Result = []string{"Ok", "Ok", "Ok", "Dropped", "ProcessingFailed"}[draw%5]
		if known.said = b.Result; fate%8 == 0 {
			known.said = "ProcessingFailed" // if it stays at that
		}
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

// checkSaid checks that a record is where the function said last. The caller holds w.log.mu.
func (w *world) checkSaid(n named, s *spec, rec *sentRecord) {
	if !s.Hook {
		return
	}
	want := "Ok"
	if n.errorType == "processing-failed" {
		want = "ProcessingFailed"
	}
	if n.errorType != "delivery-failed" && rec.said != want {
		w.violated("record %d of %q is in %q, and the function, asked %d times, said %s last", rec.seq(), n.stream, n.key, rec.asked, rec.said)
	}
}
