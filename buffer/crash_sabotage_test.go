//go:build sabotage

package buffer

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// sabotages names the tests that must notice a fault, where these are not the crash tests. They run in a process of their own, this very
// binary, with the fault switched on.
var sabotages = map[string]string{
	"ignore-durable-lsn":        "^TestDamaged",
	"ledger-damage-passed-over": "^TestDamaged",
	"abort-kept":                "^TestPackEnds$",
	"remove-read-pack":          "^TestPackEnds$",
	"no-reserve":                "^TestFairShare$",
	"keep-reserve":              "^TestPromisesCount$",
	"publish-early":             "^TestTakeOnlyWhatIsPublished$",
	"ignore-size-cuts":          "^TestEpochMerge$",
	"drop-nothing":              "^TestTakeOnlyWhatIsPublished$",
}

const everyCrash = "^TestCrash(Everywhere|Random)$"

// TestSabotage shows that the tests can fail: a fault that no test notices is a missing test.
func TestSabotage(t *testing.T) {
	if os.Getenv("HYDRANT_SABOTAGE") != "" {
		t.Skip("this process is sabotaged itself")
	}
	names := sabotageNames(t)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			tests := sabotages[name]
			if tests == "" {
				tests = everyCrash
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", tests, "-test.failfast", "-test.timeout", "4m")
			cmd.Env = append(os.Environ(), "HYDRANT_SABOTAGE="+name)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Errorf("nothing noticed it:\n%s", out)
				return
			}
			if !strings.Contains(string(out), "--- FAIL") && !strings.Contains(string(out), "panic: ") {
				t.Errorf("it failed, but not in a test: %v\n%s", err, out)
				return
			}
			t.Logf("noticed: %s", firstReason(string(out)))
		})
	}
	for name := range sabotages {
		if !slices.Contains(names, name) {
			t.Errorf("there is no sabotage %q", name)
		}
	}
}

// sabotageNames reads the names from the source, so that none can be forgotten here.
func sabotageNames(t *testing.T) (names []string) {
	for _, file := range []string{"sabotage_on.go", "pack_sabotage_on.go", "run_sabotage_on.go"} {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`sabotaged\("([a-z-]+)"\)`).FindAllStringSubmatch(string(src), -1) {
			names = append(names, m[1])
		}
	}
	if len(names) == 0 {
		t.Fatal("no sabotages found")
	}
	return names
}

// firstReason is the line that says what was noticed.
func firstReason(out string) string {
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "_test.go:") || strings.HasPrefix(line, "panic: ") {
			return line
		}
	}
	return ""
}
