package http

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"hydrant/record"
	"hydrant/transform"
	"hydrant/transform/hook"
)

// TestStorm: a server that hangs up, throttles, is too slow, overflows and decides otherwise each time gives each row of a
// Batcher one outcome, in order, with the row's own data.
func TestStorm(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var e events.KinesisFirehoseEvent
		if err := json.Unmarshal(body, &e); err != nil {
			t.Errorf("request: %v", err)
		}
		switch rand.IntN(20) {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			w.WriteHeader(http.StatusTooManyRequests)
			return
		case 2:
			if len(e.Records) > 1 {
				w.WriteHeader(http.StatusRequestEntityTooLarge)
				return
			}
		case 3:
			<-r.Context().Done()
			return
		}
		var answer events.KinesisFirehoseResponse
		for _, in := range e.Records {
			out := events.KinesisFirehoseResponseRecord{RecordID: in.RecordID}
			switch rand.IntN(4) {
			case 0:
				out.Result = events.KinesisFirehoseTransformedStateDropped
			case 1:
				out.Result = events.KinesisFirehoseTransformedStateProcessingFailed
			default:
				out.Result, out.Data = events.KinesisFirehoseTransformedStateOk, append(in.Data, '!')
			}
			answer.Records = append(answer.Records, out)
		}
		rand.Shuffle(len(answer.Records), func(i, j int) {
			if rand.IntN(10) == 0 {
				answer.Records[i], answer.Records[j] = answer.Records[j], answer.Records[i]
			}
		})
		json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(s.Close)
	retries := 30
	v, err := hook.New(hook.Options{Carrier: open(t, s.URL), Retries: &retries, Timeout: 500 * time.Millisecond, Concurrency: 8})
	if err != nil {
		t.Fatal(err)
	}
	data := func(seq int) []byte {
		return fmt.Appendf(nil, "%d %s", seq, bytes.Repeat([]byte{byte('a' + seq%26)}, 2000+seq%1000))
	}
	const rows = 5000
	next, outcomes := 1, [3]int{}
	b, err := hook.NewBatcher(t.Context(), hook.BatcherOptions{Invoker: v, Size: hook.MinSize, Interval: time.Second, Emit: func(o *hook.Outcome) error {
		if o.Row.Seq != uint64(next) {
			return fmt.Errorf("row %d where %d is due", o.Row.Seq, next)
		}
		want := data(next)
		if o.Outcome == transform.Ok {
			want = append(want, '!')
		}
		if o.Outcome != transform.Dropped && !bytes.Equal(o.Row.Data, want) {
			return fmt.Errorf("row %d: %v with %.40q", next, o.Outcome, o.Row.Data)
		}
		if o.Failure != nil && o.Failure.Code != "Lambda.ProcessingFailedStatus" {
			return fmt.Errorf("row %d: %v after %d attempts", next, o.Failure, o.Attempts)
		}
		next++
		outcomes[o.Outcome]++
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for seq := 1; seq <= rows; seq++ {
		if err := b.Add(t.Context(), record.Row{Seq: uint64(seq), Data: data(seq)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if next != rows+1 || outcomes[transform.Ok] == 0 || outcomes[transform.Dropped] == 0 || outcomes[transform.Failed] == 0 {
		t.Errorf("%d outcomes: %v", next-1, outcomes)
	}
}
