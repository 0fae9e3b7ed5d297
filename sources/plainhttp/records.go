package plainhttp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"hydrant/record"
)

// records are those of one request, on their way into a batch.
type records struct {
	batch *record.Batch
	count int // of all, also of those that failed
	long  []failure
}

// failure is a record that is not stored, in the answer.
type failure struct {
	Index   int    `json:"index"` // among the records of the request, from 0
	Code    string `json:"code"`
	Message string `json:"message"`
}

// bound is the room that a batch of a body's records needs, mostly: a record's length takes as much as what
// separates it from the next one, and a little more where it is long.
func bound(n int) int { return record.Headroom + n + n/64 + 16 }

// read splits a body into records. Records that are too long are put aside; the errors are about all of them.
func (r *records) read(f form, body []byte) error {
	err := error(nil)
	if f == lines {
		err = r.lines(body)
	} else {
		err = elements(body, r.add)
	}
	switch {
	case err != nil:
		return err
	case r.count == 0:
		return errInvalid("The body has no records.")
	case r.batch.Count() == 0:
		return &apiError{status: http.StatusRequestEntityTooLarge, code: codeTooLong, reason: "too_large",
			message: fmt.Sprintf("Each record of the body is longer than %d bytes.", MaxRecordBytes)}
	}
	return nil
}

// add takes a record.
func (r *records) add(data []byte) error {
	if r.count == MaxRecords {
		return errTooLarge("The body has more than %d records. Send them in several requests.", MaxRecords)
	}
	if len(data) > MaxRecordBytes {
		r.long = append(r.long, failure{r.count, codeTooLong, fmt.Sprintf("The record has %d bytes, at most %d are taken.", len(data), MaxRecordBytes)})
	} else {
		r.batch.Append(data)
	}
	r.count++
	return nil
}

// lines splits a body at line feeds. A carriage return before one, or at the end of the body, is not the record's,
// and lines of nothing but white space are passed over. What a record is, nobody looks at: as with PutRecord, what
// does not fit a stream's format goes to its error output.
func (r *records) lines(body []byte) error {
	for len(body) > 0 {
		line, rest := body, []byte(nil)
		if i := bytes.IndexByte(body, '\n'); i >= 0 {
			line, rest = body[:i], body[i+1:]
		}
		body = rest
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		if blank(line) {
			continue
		}
		if err := r.add(line); err != nil {
			return err
		}
	}
	return nil
}

func blank(line []byte) bool {
	for _, c := range line {
		if !space(c) {
			return false
		}
	}
	return true
}

// answer says which records are stored: of those that could be, the first n.
func (r *records) answer(n int) []byte {
	failed := make([]failure, 0, r.count-n)
	long, could := r.long, 0
	for i := range r.count {
		switch {
		case len(long) > 0 && long[0].Index == i:
			failed = append(failed, long[0])
			long = long[1:]
		case could < n:
			could++
		default:
			failed = append(failed, failure{i, codeUnavailable, slowDown})
		}
	}
	answer := strconv.AppendInt([]byte(`{"accepted":`), int64(n), 10)
	answer = append(answer, `,"failed":`...)
	list, err := json.Marshal(failed)
	if err != nil {
		panic("bug: an answer cannot be encoded: " + err.Error())
	}
	return append(append(answer, list...), '}')
}
