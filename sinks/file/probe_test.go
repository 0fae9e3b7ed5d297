package file

import (
	"os"
	"path/filepath"
	"testing"

	"hydrant/sinks"
)

func TestProbe(t *testing.T) {
	dir := t.TempDir()
	s, err := New(Options{Path: filepath.Join(dir, "lake")})
	if err != nil {
		t.Fatal(err)
	}
	if out := s.Probe(t.Context(), "in/"); len(out) != 1 || out[0].Check != "put" || out[0].Level != sinks.OK {
		t.Errorf("findings %+v", out)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "lake", "in")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	taken := filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = New(Options{Path: taken}); err != nil {
		t.Fatal(err)
	}
	if out := s.Probe(t.Context(), ""); len(out) != 1 || out[0].Level != sinks.Failed || out[0].Key != "path" || out[0].Remedy == "" {
		t.Errorf("findings where the path is a file: %+v", out)
	}
}
