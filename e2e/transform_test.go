//go:build unix

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const transformed = `streams:
  - name: clicks
    transform:
      - deaggregate: json
      - filter: '.type != "heartbeat"'
      - jq: '.user_id |= tostring'
      - lookup: { file: countries.csv, key: country, into: name, refresh: 1s }
      - append_delimiter: "\n"
    buffer: { size: 1KiB, interval: 1s }
    destination: { file: { path: lake, prefix: "data/" } }
`

// Records go through a transform list in the real daemon, which dies twice on the way: each part of each record is in one place,
// once, and the counters add up. A table that is replaced is in force for what comes after.
func TestTransform(t *testing.T) {
	t.Parallel()
	d := configure(t, transformed)
	table := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(d.dir, "next.csv"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(d.dir, "next.csv"), filepath.Join(d.dir, "countries.csv")); err != nil {
			t.Fatal(err)
		}
	}
	table("code,name\nDE,Germany\n")
	d.start()
	var want []string
	var accepted, delivered, dropped, failed int64
	put := func(first, n int) {
		t.Helper()
		var in strings.Builder
		for i := first; i < first+n; i++ {
			accepted++
			switch i % 5 {
			case 0, 1:
				fmt.Fprintf(&in, "{\"user_id\":%d,\"country\":\"DE\"}{\"type\":\"heartbeat\"}{\"user_id\":\"%d b\"}\n", i, i)
				want = append(want, fmt.Sprintf(`{"user_id":"%d","country":"DE","name":"Germany"}`, i), fmt.Sprintf(`{"user_id":"%d b"}`, i))
				delivered++
			case 2:
				fmt.Fprintf(&in, "{\"type\":\"heartbeat\",\"i\":%d}\n", i)
				dropped++
			case 3:
				fmt.Fprintf(&in, "no JSON %d\n", i)
				failed++
			case 4: // one part fails, one is delivered: it counts where the first went
				fmt.Fprintf(&in, "{\"type\":1,\"user_id\":%d}{\"user_id\":[1],\"country\":\"DE\",\"name\":{}}\n", i)
				want = append(want, fmt.Sprintf(`{"type":1,"user_id":"%d"}`, i), `{"user_id":"[1]","country":"DE","name":"Germany"}`)
				delivered++
			}
		}
		d.cli(0, strings.NewReader(in.String()), "put", "--stream", "clicks", "--endpoint", d.api)
	}
	put(0, 300)
	d.kill()
	d.start()
	put(300, 300)
	d.kill()
	d.start()
	d.flush("clicks")
	table("code,name\nDE,Deutschland\n")
	eventually(t, "the new table", func() bool {
		accepted++
		delivered++
		d.cli(0, strings.NewReader("{\"user_id\":\"probe\",\"country\":\"DE\"}\n"), "put", "--stream", "clicks", "--endpoint", d.api)
		d.flush("clicks")
		return slices.Contains(linesUnder(t, d, "data/"), `{"user_id":"probe","country":"DE","name":"Deutschland"}`)
	})
	if got, want := d.status("clicks"), (status{State: "active", Accepted: accepted, Delivered: delivered, Dropped: dropped, Failed: failed}); got != want {
		t.Errorf("counters\n got %+v\nwant %+v", got, want)
	}
	got := slices.DeleteFunc(linesUnder(t, d, "data/"), func(s string) bool { return strings.Contains(s, `"probe"`) })
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d lines were delivered, want %d", len(got), len(want))
	}
	seen := map[string]int{}
	for _, line := range linesUnder(t, d, "errors/processing-failed/") {
		var e struct {
			RawData   []byte `json:"rawData"`
			ErrorCode string `json:"errorCode"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.ErrorCode != "Hydrant.Deaggregate" {
			t.Errorf("error line %s: %v", line, err)
		}
		seen[strings.TrimSuffix(string(e.RawData), "\n")]++
	}
	for i := range 600 {
		if raw := fmt.Sprintf("no JSON %d", i); i%5 == 3 && seen[raw] != 1 {
			t.Errorf("%s is in the error output %d times", raw, seen[raw])
		}
	}
	if code := d.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// linesUnder is the lines of all files under a prefix of the lake.
func linesUnder(t *testing.T, d *daemon, prefix string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(d.dir, "lake", prefix), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		for line := range bytes.Lines(b) {
			out = append(out, string(bytes.TrimSuffix(line, []byte("\n"))))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
