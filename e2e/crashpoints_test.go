//go:build unix

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"sync"
	"testing"
)

// crashPoints are the instants at which a build with the tag crashpoints can die, and how often it passes
// there before anything interesting has happened.
var crashPoints = []crashPoint{
	{"group-written", 120}, {"group-synced", 120},
	{"slot-allocated", 4}, {"slot-header", 4}, {"slot-prepared", 2}, {"slot-opened", 2}, {"ids-saved", 2},
	{"pack-synced", 8}, {"pack-sealed", 8}, {"manifest-durable", 8}, {"object-sending", 10}, {"object-stored", 10},
	{"run-synced", 4}, {"run-sealed", 4}, {"run-durable", 4}, {"run-unlinked", 1},
	{"replacement-sealed", 1}, {"replace-durable", 1}, {"commit-durable", 6}, {"pack-unlinked", 6},
	{"recovery-copied", 1}, {"recovery-opened", 1}, {"recovered", 1},
}

// slotAllocated is the index of that crash point.
const slotAllocated = 2

type crashPoint struct {
	name   string
	passes int // the death is at one of so many first passes
}

// withCrashPoints is the daemon in a build that can be made to die at crash points. It is built once.
func withCrashPoints(t testing.TB) string {
	t.Helper()
	path, err := buildWithCrashPoints()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var buildWithCrashPoints = sync.OnceValues(func() (string, error) { return buildTagged("crashpoints") })

// buildTagged builds the daemon with a tag, beside the one that has none.
func buildTagged(tag string) (string, error) {
	path := binary + "-" + tag
	build := exec.Command("go", "build", "-trimpath", "-tags", tag, "-o", path, "hydrant/cmd/hydrant")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the daemon with the tag %s: %w\n%s", tag, err, out)
	}
	return path, nil
}

// TestEveryCrashPointIsReached: a name that nothing passes would make rounds that test nothing.
func TestEveryCrashPointIsReached(t *testing.T) {
	placed := map[string]bool{}
	call := regexp.MustCompile(`CrashPoint\("([a-z-]+)"\)`)
	for _, path := range withSuffix(append(walk(t, "../buffer"), walk(t, "../delivery")...), ".go") {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllSubmatch(b, -1) {
			placed[string(m[1])] = true
		}
	}
	for _, p := range slices.Concat(crashPoints, controlPoints, markerPoints) {
		if !placed[p.name] {
			t.Errorf("no place in the code has the crash point %s", p.name)
		}
		delete(placed, p.name)
	}
	for _, name := range runPoints {
		if !slices.ContainsFunc(crashPoints, func(p crashPoint) bool { return p.name == name }) {
			t.Errorf("a storm does not know the crash point %s", name)
		}
	}
	for _, name := range loadPoints {
		if !placed[name] {
			t.Errorf("no place in the code has the crash point %s", name)
		}
		delete(placed, name)
	}
	for name := range placed {
		t.Errorf("no test knows the crash point %s", name)
	}
}
