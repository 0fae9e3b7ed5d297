package main

import (
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"hydrant/config"
	"hydrant/transform/hook/hooktest"
)

func decodeFile(t *testing.T, text string) *config.Config {
	t.Helper()
	f, err := config.Decode("f.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return f.Config
}

// With --hooks tests call the real function, and headers are those that the file of the secret holds at the moment.
func TestTestsCallFunctions(t *testing.T) {
	var authorization atomic.Value
	url := hooktest.Serve(t, hooktest.Function, func(r *http.Request) { authorization.Store(r.Header.Get("Authorization")) }) + hooktest.Path
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := decodeFile(t, `
streams:
  - name: s
    destination: { file: { path: lake } }
    transform:
      - http: { url: "`+url+`", headers: { Authorization_file: "`+secret+`" } }
      - remove: [id, arrived]
    tests:
      - { input: '{"text":"a"}', want: { ok: '{"stream":"arn:aws:firehose:us-east-1:000000000000:deliverystream/s","region":"us-east-1","text":"A","filler":""}' } }
      - { input: '{"type":"heartbeat"}', want: dropped }
      - { input: 'no item', want: { failed: Lambda.ProcessingFailedStatus } }
`)
	tested, err := runTests(t.Context(), c, true)
	if err != nil || len(tested) != 3 {
		t.Fatalf("%d tests, %v", len(tested), err)
	}
	for _, x := range tested {
		if !x.Passed {
			t.Errorf("test %d: %s", x.Index, x.Fault)
		}
	}
	if got := authorization.Load(); got != "first" {
		t.Errorf("authorization %q", got)
	}
	if err := os.WriteFile(secret, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := runTests(t.Context(), c, true); err != nil || authorization.Load() != "second" {
		t.Errorf("authorization %q, %v", authorization.Load(), err)
	}
}
