package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A stream's own limits are in force from the start, are changed by a reload, and are no matter of its version.
func TestLimitsOfStreams(t *testing.T) {
	x := startReloadable(t, "streams: []\n")
	post := func(stream string, records ...string) (status int, answer string) {
		t.Helper()
		resp, err := http.Post("http://"+x.r.d.api.addresses()[0]+"/v1/streams/"+stream+"/records", "application/x-ndjson", strings.NewReader(strings.Join(records, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	accepted := func(answer string) (n int) {
		if _, err := fmt.Sscanf(answer, `{"accepted":%d`, &n); err != nil {
			return 0
		}
		return n
	}
	reload := func(limits, logged string) {
		t.Helper()
		if log := x.reload("streams:\n" + x.stream("a", limits) + x.stream("b", "")); !strings.Contains(log, logged) {
			t.Errorf("no %q in the log\n%s", logged, log)
		}
		if got := x.versions(); !maps.Equal(got, map[string]uint64{"a": 1, "b": 1}) {
			t.Errorf("versions %v", got)
		}
	}
	reload(", limits: { records_per_second: 2 }", "added=\"[a b]\"")
	if status, answer := post("a", "1", "2", "3"); status != 200 || accepted(answer) != 2 || !strings.Contains(answer, `"failed":[{"index":2,"code":"ServiceUnavailableException","message":"Slow down."}]`) {
		t.Errorf("%d %s", status, answer)
	}
	if status, answer := post("b", "1", "2", "3"); status != 200 || accepted(answer) != 3 {
		t.Errorf("another stream: %d %s", status, answer)
	}
	reload("", `added=[] changed=[a] removed=[]`)
	if status, answer := post("a", "1", "2", "3"); status != 200 || accepted(answer) != 3 {
		t.Errorf("without limits: %d %s", status, answer)
	}

	// What waits and is not delivered is within the stream's part of the disk.
	reload(", limits: { disk: 8MiB }", `changed=[a]`)
	if err := x.r.d.manager.Pause("a"); err != nil {
		t.Fatal(err)
	}
	megabyte := string(bytes.Repeat([]byte("x"), 1_000_000))
	sent := 0
	for status, answer := 200, ""; status == 200; sent++ {
		if status, answer = post("a", megabyte); status != 200 && (status != 503 || !strings.Contains(answer, "Slow down. The stream's share of the disk is full.")) {
			t.Fatalf("%d %s", status, answer)
		}
		if sent > 8 {
			t.Fatalf("%d MB were accepted", sent)
		}
	}
	if sent < 7 {
		t.Errorf("refused at %d MB", sent)
	}
	if status, answer := post("b", megabyte); status != 200 {
		t.Errorf("another stream: %d %s", status, answer)
	}
	reload(", limits: { disk: 16MiB }", `changed=[a]`)
	if status, answer := post("a", megabyte); status != 200 {
		t.Errorf("with more room: %d %s", status, answer)
	}

	// A stream whose part of the disk is smaller than an object of it delivers early instead of standing still.
	x.reload("streams:\n" + x.stream("a", "") + x.stream("b", "") + x.stream("c", ", limits: { disk: 8MiB }, buffer: { size: 64MiB, interval: 1h }"))
	deadline := time.Now().Add(30 * time.Second)
	for sent := 0; sent < 30; {
		switch status, answer := post("c", megabyte); {
		case status == 200:
			sent++
		case status != 503 || time.Now().After(deadline):
			t.Fatalf("after %d MB: %d %s", sent, status, answer)
		}
	}
}
