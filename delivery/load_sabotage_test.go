//go:build sabotage

package delivery

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Faults in loading must be noticed by the tests of loads, each in a process of its own: this very binary with the fault
// switched on.
func TestSabotage(t *testing.T) {
	if os.Getenv("HYDRANT_SABOTAGE") != "" {
		t.Skip("this process is sabotaged itself")
	}
	for name, tests := range map[string]string{
		"progress-before-finish": "^TestCrashesOfLoads$",
		"give-up-unasked":        "^Test(CrashesOfLoads|SkipIsBelieved)$",

		"marker-before-its-note":    "^TestMarkers(SurviveCrashes|AtEveryOperation)$",
		"marker-before-its-objects": "^TestMarkers(SurviveCrashes|AtEveryOperation)$",
		"object-before-its-account": "^TestMarkers(SurviveCrashes|AtEveryOperation)$",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", tests, "-test.failfast", "-test.timeout", "4m")
			cmd.Env = append(os.Environ(), "HYDRANT_SABOTAGE="+name)
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Errorf("nothing noticed it:\n%s", out)
			}
		})
	}
}
