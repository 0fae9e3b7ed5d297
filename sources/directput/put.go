package directput

import (
	"net/http"
	"strconv"
	"time"

	"hydrant/record"
)

// put serves PutRecord and PutRecordBatch. The caller gives the answer to the pool.
func (h *Handler) put(w http.ResponseWriter, r *http.Request, c call) (answer []byte, err error) {
	began, op := time.Now(), c.operation
	body, err := h.readBody(w, r, MaxBody)
	if err != nil {
		return nil, err
	}
	defer body.free()
	if err := c.confirm(&body); err != nil {
		return nil, err
	}
	batch := record.NewBatch(h.bufs.Get(bound(len(body.bytes))))
	adopted := false
	defer func() {
		if !adopted {
			h.bufs.Put(batch.Buffer())
		}
	}()
	single := op == opPutRecord
	e, err := decodeBatch(body.bytes, single, batch)
	if err != nil {
		return nil, err
	}
	if e.unknown > 0 {
		h.metrics.unknown.WithLabelValues(op).Add(float64(e.unknown))
	}
	if err := e.check(single); err != nil {
		return nil, err
	}
	if err := c.authorize(*e.stream); err != nil {
		return nil, err
	}
	if batch.Payload() > MaxBatchBytes {
		return nil, errInvalidArgument("Records size exceeds 4 MB limit")
	}
	call := record.Call{Batch: batch}
	c.identify(&call, r.Header, body.sum())
	body.free() // while others may need the memory, the call waits for the disk
	stream, count := *e.stream, batch.Count()

	if h.o.Limits != nil {
		call.Limiter = h.o.Limits.Limiter(stream)
	}
	var receipt record.Receipt
	receipt, adopted, err = h.o.Appender.Append(r.Context(), stream, call)
	if err != nil {
		err = h.errAppend(r.Context(), stream, err)
		e, ok := err.(*apiError)
		if !ok || e.status != http.StatusServiceUnavailable {
			return nil, err
		}
		if _, known := h.o.Directory.Describe(stream); known {
			h.metrics.Stream(stream).Throttled(count)
		}
		if single || e.reason != "rate" {
			return nil, err
		}
		// Each record says why.
		return h.putRecordBatchAnswer(h.bufs.Get(batchAnswerBytes(count)), record.Receipt{}, count), nil
	}
	h.metrics.Stream(stream).Accepted(op, receipt, batch.Payload(), count-receipt.Count, time.Since(began))
	if single {
		return h.putRecordAnswer(receipt), nil
	}
	return h.putRecordBatchAnswer(h.bufs.Get(batchAnswerBytes(count)), receipt, count), nil
}

// check validates the shape of a put.
func (e *envelope) check(single bool) error {
	var all faults
	all.name("deliveryStreamName", e.stream, true)
	switch {
	case single && !e.present:
		all.add("record", notNull)
	case !single && !e.present:
		all.add("records", notNull)
	case !single && e.count == 0:
		all.add("records", atLeast("length", 1))
	case !single && e.count > MaxBatchRecords:
		all.add("records", atMost("length", MaxBatchRecords))
	}
	return append(all, e.faults...).err()
}

func (h *Handler) putRecordAnswer(r record.Receipt) []byte {
	answer := append(make([]byte, 0, 96), `{"RecordId":"`...)
	answer = r.ID(0).Append(answer)
	answer = strconv.AppendBool(append(answer, `","Encrypted":`...), h.o.Encrypted)
	return append(answer, '}')
}

// tooFast is the entry of a record that the stream's limits have kept back.
const tooFast = `{"ErrorCode":"` + codeUnavailable + `","ErrorMessage":"` + slowDown + `"}`

// batchAnswerBytes is the most that putRecordBatchAnswer takes.
func batchAnswerBytes(count int) int {
	return 96 + count*(1+max(len(tooFast), len(`{"RecordId":""}`)+record.IDLength))
}

// putRecordBatchAnswer appends an answer with one entry for each record of a call of count, in order: the first
// ones are stored, as the receipt says.
func (h *Handler) putRecordBatchAnswer(answer []byte, r record.Receipt, count int) []byte {
	const begin = `{"RecordId":"`
	entry := r.ID(0).Append([]byte(begin))[:len(begin)+record.IDStem] // the same in all
	answer = strconv.AppendInt(append(answer, `{"FailedPutCount":`...), int64(count-r.Count), 10)
	answer = strconv.AppendBool(append(answer, `,"Encrypted":`...), h.o.Encrypted)
	answer = append(answer, `,"RequestResponses":[`...)
	for i := range count {
		if i > 0 {
			answer = append(answer, ',')
		}
		if i >= r.Count {
			answer = append(answer, tooFast...)
			continue
		}
		answer = append(answer, entry...)
		answer = record.AppendSeq(answer, r.First+uint64(i))
		answer = append(answer, `"}`...)
	}
	return append(answer, "]}"...)
}
