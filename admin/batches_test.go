package admin

import (
	"strings"
	"testing"
)

func TestBatches(t *testing.T) {
	h := handler(t, &fake{}, "")
	doubtful := handler(t, &fake{stuck: true}, "")
	for _, c := range []struct {
		stuck          bool
		method, target string
		code           int
		body           string // that the answer has, without space
	}{
		{false, "GET", "/v1/streams/s/batches", 200, `{"batches":[{"manifest_id":"m1","version":0,"records":2,"bytes":0,"objects":1,"pending_objects":1,"attempts":0,"pending":[{"key":"k","role":"data","place":"s3b","records":2,"bytes":0}]}]}`},
		{false, "GET", "/v1/streams/x/batches", 404, `{"error":"nostream\"x\""}`},
		{false, "DELETE", "/v1/streams/s/batches", 405, ""},
		{false, "GET", "/v1/streams/s/batches/m1/divert", 405, ""},
		{false, "POST", "/v1/streams/s/batches/m1/retry", 200, `{"manifest_id":"m1","name":"s"}`},
		{false, "POST", "/v1/streams/s/batches/m2/retry", 404, "nosuchbatchiswaiting"},
		{false, "POST", "/v1/streams/paused/batches/m1/retry", 409, "resumeitfirst"},
		{false, "POST", "/v1/streams/broken/batches/m1/retry", 500, "diskonfire"},
		{false, "POST", "/v1/streams/s/batches/m1/divert", 200, `{"diverted_objects":2,"diverted_records":9,"found_delivered":0,"set_aside":0}`},
		{false, "POST", "/v1/streams/s/batches/m1/divert?directory=/exit", 200, `"diverted_objects":2`},
		{false, "POST", "/v1/streams/s/batches/m1/divert?directory=exit", 400, "notanabsolutepath"},
		{false, "POST", "/v1/streams/s/batches/m1/divert?force=perhaps", 400, "nottrueorfalse"},
		{false, "POST", "/v1/streams/s/batches/m2/divert", 404, "nosuchbatch"},
		{false, "POST", "/v1/streams/x/batches/m1/divert", 404, "nostream"},
		{false, "POST", "/v1/streams/broken/batches/m1/divert", 409, "diskonfire"},
		{true, "POST", "/v1/streams/s/batches/m1/divert", 409, `"doubtful":["k"]`},
		{true, "POST", "/v1/streams/s/batches/m1/divert?force=true", 200, `"diverted_objects":2`},
	} {
		handler := h
		if c.stuck {
			handler = doubtful
		}
		w := request(handler, c.method, c.target)
		if body := strings.Join(strings.Fields(w.Body.String()), ""); w.Code != c.code || !strings.Contains(body, c.body) {
			t.Errorf("%s %s: %d %s, want %d with %s", c.method, c.target, w.Code, body, c.code, c.body)
		}
	}
}
