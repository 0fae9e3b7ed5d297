package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hydrant/e2e/parts"
	"hydrant/e2e/parts/faultproxy"
)

// sdks are the clients that name their calls, so that a retry can be told from a new call.
func sdks(t *testing.T) []client {
	python, modules := parts.Boto3(t), parts.NodeModules(t)
	return []client{
		{"AWS SDK for Go", putGo},
		{"boto3", func(t *testing.T, endpoint, stream, file string) []string {
			return run(t, python, "clients/put.py", endpoint, stream, file)
		}},
		{"AWS SDK for JavaScript", func(t *testing.T, endpoint, stream, file string) []string {
			return run(t, "node", "clients/put.mjs", modules, endpoint, stream, file)
		}},
	}
}

// attempt matches puts that are the nth attempt of their call, as SDKs say in a header.
func attempt(n int) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return strings.HasPrefix(r.Header.Get("X-Amz-Target"), "Firehose_20150804.PutRecord") &&
			strings.Contains(r.Header.Get("Amz-Sdk-Request")+";", fmt.Sprintf("attempt=%d;", n))
	}
}

// restart kills the daemon and starts it again. It may be called outside of the test's goroutine.
func (d *daemon) restart() {
	d.kill()
	d.launch()
	for deadline := time.Now().Add(30 * time.Second); !d.ready() && time.Now().Before(deadline); {
		<-time.After(5 * time.Millisecond)
	}
}

// TestRetriesMakeNoSecondCopy: the answer to the first attempt of every call is lost after the daemon has
// stored its records, and the SDK sends the call again, as it does by itself. So is the second answer.
// Every record is delivered once all the same, also where the daemon is killed between the attempts.
func TestRetriesMakeNoSecondCopy(t *testing.T) {
	t.Parallel()
	for _, c := range sdks(t) {
		for _, kill := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/kill=%t", c.name, kill), func(t *testing.T) {
				t.Parallel() // it is the clients' pauses that take the time
				d := configure(t, textStream).start()
				proxy := faultproxy.New(t, d.api)
				var lost atomic.Int64
				first := faultproxy.DropAfterDoing("nothing", func() { lost.Add(1) })
				if kill {
					first = faultproxy.DropAfterDoing("kill -9 and a restart", func() { lost.Add(1); d.restart() })
				}
				proxy.Inject(faultproxy.Rule{Match: attempt(1), Times: -1, Fault: first})
				proxy.Inject(faultproxy.Rule{Match: attempt(2), Times: -1, Fault: faultproxy.DropAfter()})

				records := make([]string, 601) // the last batch of each client is a single record, or smaller than the others
				for i := range records {
					records[i] = fmt.Sprintf("record %d of %s", i, c.name)
				}
				file := filepath.Join(t.TempDir(), "records")
				writeLines(t, file, records)
				ids := c.put(t, proxy.URL, "s", file)
				if distinct := slices.Compact(slices.Sorted(slices.Values(ids))); len(distinct) != len(records) {
					t.Errorf("%d different record ids for %d records", len(distinct), len(records))
				}
				if lost.Load() < 2 {
					t.Errorf("%d answers were lost: the client does not number its attempts, or makes too few calls", lost.Load())
				}
				if !kill {
					if n := d.counter(`hydrant_repeated_puts_total{stream="s"}`); n < 2*lost.Load() {
						t.Errorf("%d repeated calls were recognised; %d calls were sent three times", n, lost.Load())
					}
				}
				d.flush("s")
				got := strings.Split(strings.TrimSuffix(delivered(t, lake(d)), "\n"), "\n")
				slices.Sort(got)
				if want := slices.Sorted(slices.Values(records)); !slices.Equal(got, want) {
					t.Errorf("%d lines were delivered, %d of them different; %d records were put", len(got), len(slices.Compact(slices.Clone(got))), len(want))
				}
				d.balance("s", int64(len(records)), 0)
			})
		}
	}
}

// TestCallsWithoutNamesAreNewCalls: what cannot be told from a new call is one. So it is with clients that
// name nothing, such as Fluent Bit and the AWS CLI that Debian 12 packages.
func TestCallsWithoutNamesAreNewCalls(t *testing.T) {
	d := configure(t, textStream).start()
	d.mustPut("s", "sent twice")
	d.mustPut("s", "sent twice")
	d.flush("s")
	if got := delivered(t, lake(d)); got != "sent twice\nsent twice\n" {
		t.Errorf("delivered %q", got)
	}
}
