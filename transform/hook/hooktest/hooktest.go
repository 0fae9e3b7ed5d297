// Package hooktest is the suite that every carrier of hooks must pass, against real functions: one in Go with AWS's own types
// and one in JavaScript for Node, each behind a server that answers as AWS's Runtime Interface Emulator and as Lambda's API.
//
// A function that opens a carrier flows in; nothing is kept.
package hooktest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"hydrant/record"
	"hydrant/transform"
	"hydrant/transform/hook"
)

const (
	arn    = "arn:aws:firehose:eu-west-1:123456789012:deliverystream/clicks"
	region = "eu-west-1"
	// arrived is the arrival of the first row, in µs; each is a second after the one before.
	arrived = 1_789_014_240_448_999
)

var directory = [16]byte{0xde, 0xad, 15: 0x01}

// Rows with this data and sequences from 1.
func Rows(data ...string) []record.Row {
	rows := make([]record.Row, len(data))
	for i, d := range data {
		rows[i] = record.Row{Seq: uint64(i + 1), Arrived: arrived + int64(i)*1e6, Data: []byte(d)}
	}
	return rows
}

// Kept is an outcome that outlives emit.
type Kept struct {
	hook.Outcome
	Text string // the data
}

// Invoke collects the outcomes of rows, and checks that there is one for each, in order.
func Invoke(t testing.TB, v *hook.Invoker, rows []record.Row) []Kept {
	t.Helper()
	var got []Kept
	err := v.Invoke(context.Background(), rows, func(o *hook.Outcome) error {
		got = append(got, Kept{*o, string(o.Row.Data)})
		return nil
	})
	if err != nil {
		t.Fatalf("invoke: %v", err)
	}
	if len(got) != len(rows) {
		t.Fatalf("%d rows have %d outcomes", len(rows), len(got))
	}
	for i, o := range got {
		if o.Row.Seq != rows[i].Seq || o.Row.Sub != rows[i].Sub || o.Row.Arrived != rows[i].Arrived {
			t.Fatalf("outcome %d is of row %d.%d, not %d.%d", i, o.Row.Seq, o.Row.Sub, rows[i].Seq, rows[i].Sub)
		}
	}
	return got
}

// Run runs the suite. open returns a carrier for the function at the server with that URL.
func Run(t *testing.T, open func(t testing.TB, server string) hook.Carrier) {
	for _, server := range []struct {
		name  string
		start func(t testing.TB) string
	}{
		{"go", func(t testing.TB) string { return Serve(t, Function, nil) }},
		{"node", Node},
	} {
		t.Run(server.name, func(t *testing.T) { suite(t, open(t, server.start(t))) })
	}
}

func suite(t *testing.T, c hook.Carrier) {
	var mu sync.Mutex
	var attempts []hook.Attempt
	retries := 1
	invoker := func(o hook.Options) *hook.Invoker {
		attempts = nil
		o.Carrier, o.DeliveryStreamARN, o.Region, o.Directory, o.Incarnation = c, arn, region, directory, 3
		o.Retries, o.Timeout = &retries, 20*time.Second
		o.Observe = func(a hook.Attempt) {
			mu.Lock()
			attempts = append(attempts, a)
			mu.Unlock()
		}
		v, err := hook.New(o)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	id := func(row record.Row) string { return string(hook.AppendID(nil, directory, 3, row)) }
	check := func(t *testing.T, row record.Row, text string, o Kept) {
		t.Helper()
		var out transformed
		if err := json.Unmarshal([]byte(o.Text), &out); o.Outcome.Outcome != transform.Ok || err != nil {
			t.Fatalf("row %d: %v, %v, %.200q, %v", row.Seq, o.Outcome.Outcome, o.Failure, o.Text, err)
		}
		out.Filler = ""
		if want := (transformed{ID: id(row), Arrived: row.Arrived / 1000, Stream: arn, Region: region, Text: text}); out != want {
			t.Errorf("row %d: the function saw\n%+v, not\n%+v", row.Seq, out, want)
		}
	}

	t.Run("outcomes", func(t *testing.T) {
		v := invoker(hook.Options{PartitionKeys: []string{"customer"}})
		rows := Rows(`{"text":"a/b+c","customer":"42"}`, `{"type":"heartbeat"}`, ``, `{"text":"ü€😀"}`, "\xff\x00\xfe", `{"text":"<&>\u2028","customer":"É"}`)
		rows[3].Sub = 7
		got := Invoke(t, v, rows)
		check(t, rows[0], "A/B+C", got[0])
		check(t, rows[3], "Ü€😀", got[3])
		check(t, rows[5], "<&>\u2028", got[5])
		for i, want := range []string{"42", "", "", "none", "", "É"} {
			if k := got[i].Partitions["customer"]; k != want {
				t.Errorf("row %d has the partition key %q, not %q", i, k, want)
			}
			if got[i].Attempts != 1 {
				t.Errorf("row %d was sent %d times", i, got[i].Attempts)
			}
		}
		if got[1].Outcome.Outcome != transform.Dropped || got[1].Failure != nil {
			t.Errorf("the heartbeat: %v", got[1].Outcome.Outcome)
		}
		for _, i := range []int{2, 4} {
			if f := got[i].Failure; got[i].Outcome.Outcome != transform.Failed || *f != (transform.Failure{Type: "processing-failed", Code: "Lambda.ProcessingFailedStatus", Message: "ProcessingFailed status set for record"}) {
				t.Errorf("row %d: %v, %v", i, got[i].Outcome.Outcome, f)
			}
			if got[i].Text != string(rows[i].Data) {
				t.Errorf("row %d failed with %q and not as it was", i, got[i].Text)
			}
		}
	})

	t.Run("many", func(t *testing.T) {
		data := make([]string, 12_345)
		for i := range data {
			data[i] = fmt.Sprintf(`{"text":"n%d"}`, i)
		}
		rows := Rows(data...)
		for i, o := range Invoke(t, invoker(hook.Options{}), rows) {
			check(t, rows[i], fmt.Sprintf("N%d", i), o)
		}
		if len(attempts) != 2 || attempts[0].Records != 10_000 {
			t.Errorf("sent in %+v", attempts)
		}
	})

	t.Run("failing", func(t *testing.T) {
		before := time.Now()
		for i, o := range Invoke(t, invoker(hook.Options{}), Rows(`{}`, `{"fail":"I \"give\" up"}`, `{}`)) {
			want := transform.Failure{Type: "processing-failed", Code: "Lambda.FunctionError", Message: "The Lambda function was successfully invoked but it returned an error result."}
			if o.Outcome.Outcome != transform.Failed || *o.Failure != want || o.Attempts != 2 || o.Ended.Before(before) {
				t.Errorf("row %d: %v, %v, %d attempts, %v", i, o.Outcome.Outcome, o.Failure, o.Attempts, o.Ended)
			}
		}
		if len(attempts) != 2 || !attempts[0].Retried || attempts[1].Retried || attempts[1].Code != "Lambda.FunctionError" {
			t.Errorf("attempts: %+v", attempts)
		}
	})

	t.Run("overflowing", func(t *testing.T) {
		// Base64 of 2.2 MB is 2.93 MB: two fit, three do not. The row of 5 MB fits nowhere.
		rows := Rows(`{"text":"a","grow":2200000}`, `{"text":"b","grow":2200000}`, `{"text":"c","grow":2200000}`, `{"grow":5000000}`, `{"text":"e","grow":2200000}`)
		got := Invoke(t, invoker(hook.Options{}), rows)
		for i, text := range []string{"A", "B", "C", "", "E"} {
			if i != 3 {
				check(t, rows[i], text, got[i])
			}
		}
		// 5 rows, then 2 that fit and 3, of which one fits and two do not, of which one does not fit alone, with its retry.
		for i, want := range []int{2, 2, 3, 5, 4} {
			if got[i].Attempts != want {
				t.Errorf("row %d was sent %d times, not %d", i, got[i].Attempts, want)
			}
		}
		if f := got[3].Failure; f == nil || f.Code != "Lambda.FunctionError" {
			t.Errorf("the row that fits nowhere: %v", f)
		}
	})
}
