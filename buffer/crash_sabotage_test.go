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

// sabotages names the tests that must notice a fault, where these are not the crash tests in general. They run in a process of their own,
// this very binary, with the fault switched on.
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
	"forget-doubt":              "^TestCrashEverywhere$/^a_replace_fails$",
}

// crashes are the crash tests, in the order in which they are tried. Random lives do everything at once: nearly every fault shows within
// a second of them, while it may be far down the list of scripts.
var crashes = []string{"^TestCrashRandom$", "^TestCrashEverywhere$"}

// TestSabotage shows that the tests can fail: a fault that no test notices is a missing test.
func TestSabotage(t *testing.T) {
	if os.Getenv("HYDRANT_SABOTAGE") != "" {
		t.Skip("this process is sabotaged itself")
	}
	t.Run("none", func(t *testing.T) {
		t.Setenv("HYDRANT_CRASH_SEEDS", "100")
		if out, noticed := sabotage(t, "none", crashes[0]); noticed {
			t.Fatalf("without a fault they fail too:\n%s", out)
		}
	})
	names := sabotageNames(t)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tests := crashes
			if own := sabotages[name]; own != "" {
				tests = []string{own}
			}
			for _, run := range tests {
				out, noticed := sabotage(t, name, run)
				if noticed {
					t.Logf("noticed: %s", firstReason(out))
					return
				}
				t.Logf("nothing was noticed by %s:\n%s", run, out)
			}
			t.Error("nothing noticed it")
		})
	}
	for name := range sabotages {
		if !slices.Contains(names, name) {
			t.Errorf("there is no sabotage %q", name)
		}
	}
}

// sabotage runs tests with a fault and says whether one of them noticed it. They have one processor, which is all that crash tests use, so
// that as many faults as there are processors are tried at a time.
func sabotage(t *testing.T, name, run string) (out string, noticed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", run, "-test.failfast", "-test.timeout", "4m")
	cmd.Env = append(os.Environ(), "HYDRANT_SABOTAGE="+name, "GOMAXPROCS=1", "GOGC=400")
	text, err := cmd.CombinedOutput()
	out = string(text)
	if err != nil && !strings.Contains(out, "--- FAIL") && !strings.Contains(out, "panic: ") {
		t.Fatalf("it failed, but not in a test: %v\n%s", err, out)
	}
	return out, err != nil
}

// sabotageNames reads the names from the source, so that none can be forgotten here.
func sabotageNames(t *testing.T) (names []string) {
	for _, file := range []string{"sabotage_on.go", "pack_sabotage_on.go", "run_sabotage_on.go", "lane_sabotage_on.go"} {
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
