package directput

import (
	"context"
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"hydrant/record"
)

// plane is a ControlPlane that answers what it is told.
type plane struct {
	operation, body string
	answer          string
	unknown         int
	err             error
	sees            func(string) bool // what it was given
}

func (p *plane) Control(_ context.Context, operation string, body []byte, _ func(string) error, sees func(string) bool) ([]byte, int, error) {
	p.sees = sees
	p.operation, p.body = operation, string(body)
	return []byte(p.answer), p.unknown, p.err
}

func TestControl(t *testing.T) {
	for _, c := range []struct {
		name    string
		err     error
		status  int
		answer  string
		reason  string
		unknown int
	}{
		{name: "success", status: 200, answer: `{}`, unknown: 2},
		{name: "an answer", err: &ControlError{Status: 400, Code: "ResourceInUseException", Message: "Firehose s is there"}, status: 400,
			answer: `{"__type":"ResourceInUseException","message":"Firehose s is there"}`, reason: "in_use", unknown: 1},
		{name: "an answer of another kind", err: &ControlError{Status: 400, Code: "OddException", Message: "x"}, status: 400, answer: `{"__type":"OddException","message":"x"}`, reason: "other"},
		{name: "an answer with what KMS said", err: &ControlError{Status: 400, Code: "InvalidKMSResourceException", Message: "x", Detail: "NotFoundException"}, status: 400,
			answer: `{"__type":"InvalidKMSResourceException","message":"x","code":"NotFoundException"}`, reason: "encryption"},
		{name: "unavailable", err: &ControlError{Status: 503, Code: "ServiceUnavailableException", Message: "x"}, status: 503, answer: `{"__type":"ServiceUnavailableException","message":"x"}`, reason: "failing"},
		{name: "a failure", err: errors.New("secret"), status: 500, answer: `{"__type":"InternalFailure","message":"The call failed."}`, reason: "internal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &plane{answer: `{}`, unknown: c.unknown, err: c.err}
			s := newStore(t)
			h := newHandler(t, s, func(o *Options) { o.Control = p })
			w := post(t, h, "TagDeliveryStream", `{"a":1}`)
			if w.Code != c.status || w.Body.String() != c.answer {
				t.Errorf("%d %s, want %d %s", w.Code, w.Body, c.status, c.answer)
			}
			if n := testutil.ToFloat64(h.metrics.unknown.WithLabelValues("TagDeliveryStream")); n != float64(c.unknown) {
				t.Errorf("%v unknown members counted, want %d", n, c.unknown)
			}
			if c.reason != "" {
				if n := counted(t, h, "hydrant_put_refused_total", "TagDeliveryStream", c.reason); n != 1 {
					t.Errorf("refusals for %s: %v, want 1", c.reason, n)
				}
			}
			if p.operation != "TagDeliveryStream" || p.body != `{"a":1}` {
				t.Errorf("the control plane got %q %q", p.operation, p.body)
			}
		})
	}
}

// A put to a stream that is being created is not told that there is none.
func TestPutWhileCreating(t *testing.T) {
	s := newStore(t)
	s.refuse = &record.NotFound{Stream: "young"}
	s.streams["young"] = Description{Name: "young", Status: "CREATING", Answer: []byte(`{"DeliveryStreamDescription":{}}`)}
	h := newHandler(t, s)
	for _, op := range []string{"PutRecord", "PutRecordBatch"} {
		body := `{"DeliveryStreamName":"young","Record":{"Data":"YQ=="}}`
		if op == "PutRecordBatch" {
			body = `{"DeliveryStreamName":"young","Records":[{"Data":"YQ=="}]}`
		}
		w := post(t, h, op, body)
		if want := errorBody("ResourceNotFoundException", "Firehose young is not active in 123456789012 account."); w.Code != 400 || w.Body.String() != want {
			t.Errorf("%s: %d %s, want 400 %s", op, w.Code, w.Body, want)
		}
	}
	if w := post(t, h, "DescribeDeliveryStream", `{"DeliveryStreamName":"young"}`); w.Code != 200 || w.Body.String() != `{"DeliveryStreamDescription":{}}` {
		t.Errorf("Describe: %d %s", w.Code, w.Body)
	}
}
