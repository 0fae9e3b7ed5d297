//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"
)

// runPoints are the crash points around run files. A storm passes there only where rows pass through runs.
var runPoints = []string{"run-synced", "run-sealed", "run-durable", "run-unlinked"}

// The daemon dies where a run of rows becomes durable, and where it has ended. Each acknowledged record is there once
// all the same, in its own partition, and no file of a run is left behind.
func TestDeathsAroundRuns(t *testing.T) {
	t.Parallel()
	for _, point := range runPoints {
		t.Run(point, func(t *testing.T) {
			lake := filepath.Join(t.TempDir(), "lake")
			d := configure(t, fmt.Sprintf(`streams:
  - name: s
    partition: { keys: { k: .k } }
    format: { text: { delimiter: after } }
    buffer: { size: 1GiB, interval: 1h }
    destination: { file: { path: %q, prefix: "k=!{partitionKeyFromQuery:k}/", error_output_prefix: "errors/!{firehose:error-output-type}/" } }
`, lake))
			d.program, d.env = withCrashPoints(t), []string{"HYDRANT_CRASH_POINT=" + point}
			d.start()
			const batch, keys = 40, 10
			pad := strings.Repeat("x", 100_000)
			stored, sent := map[string]bool{}, 0 // by id; false where the answer was lost
			put := func() bool {
				records := make([]types.Record, batch)
				ids := make([]string, batch)
				for i := range records {
					ids[i] = fmt.Sprintf("%s-%d", point, sent)
					records[i].Data = fmt.Appendf(nil, `{"k":%d,"id":%q,"pad":%q}`, sent%keys, ids[i], pad)
					sent++
				}
				stream := "s"
				out, err := firehoseClient(d.api, 1).PutRecordBatch(t.Context(), &firehose.PutRecordBatchInput{DeliveryStreamName: &stream, Records: records})
				for i, id := range ids {
					stored[id] = err == nil && out.RequestResponses[i].RecordId != nil
				}
				return err == nil
			}
			for range 40 { // 160 MB: a run is due long before
				if !put() {
					break
				}
			}
			if point == "run-unlinked" {
				// It may die before it answers.
				if resp, err := http.Post(d.admin+"/v1/streams/s/flush?timeout=1s", "", nil); err == nil {
					resp.Body.Close()
				}
			}
			if !d.ended(30 * time.Second) {
				t.Fatalf("the daemon did not come to %s", point)
			}
			d.kill()
			d.program, d.env = "", nil
			d.start()
			put()
			d.flush("s")
			found := map[string]int{}
			for _, path := range walk(t, lake) {
				if strings.Contains(path, "/.hydrant-tmp/") { // what an attempt left that died with the daemon
					continue
				}
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				for line := range strings.Lines(string(text)) {
					var k int
					var id string
					head, _, _ := strings.Cut(line, `","pad"`)
					if _, err := fmt.Sscanf(head, `{"k":%d,"id":"%s`, &k, &id); err != nil || !strings.Contains(path, fmt.Sprintf("/k=%d/", k)) {
						t.Fatalf("%s has %s: %v", path, head, err)
					}
					found[id]++
				}
			}
			for id, acked := range stored {
				if n := found[id]; acked && n != 1 || n > 1 {
					t.Errorf("record %s (acknowledged: %v) is there %d times", id, acked, n)
				}
				delete(found, id)
			}
			for id := range found {
				t.Errorf("record %s was never sent", id)
			}
			eventually(t, "no run is left", func() bool {
				entries, err := os.ReadDir(filepath.Join(d.data, "runs"))
				return err == nil && len(entries) == 0
			})
		})
	}
}
