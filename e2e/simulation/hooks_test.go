package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	hashes "hash/fnv"
	"time"

	"hydrant/buffer"
	"hydrant/delivery"
	"hydrant/partition"
	"hydrant/prefix"
	"hydrant/record"
	"hydrant/transform"
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

// scatter spreads records over some prefixes.
type scatter struct{ p *delivery.Pipeline }

func (s scatter) NewRouter(partition.Mark) delivery.Router            { return s }
func (s scatter) Watermark(partition.Mark, int64) (at int64, ok bool) { return 0, false }
func (s scatter) Resume(int64, int64) partition.Mark                  { return partition.Mark{} }
func (s scatter) Mark() partition.Mark                                { return partition.Mark{} }
func (s scatter) Rewind(partition.Mark)                               {}

func (s scatter) Route(row record.Row, _ map[string]string) (partition.Placed, *transform.Failure) {
	route := s.p.Prefix.Route(prefix.Values{Time: time.UnixMicro(row.Arrived).In(s.p.TimeZone)}) + fmt.Sprintf("k=%d/", row.Seq%5)
	return partition.Placed{Key: partition.Key{Prefix: route, Hash: buffer.KeyHash([]byte(route))}}, nil
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
