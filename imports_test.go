// Package hydrant_test holds the rules about the module as a whole.
package hydrant_test

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "hydrant"

// mayImport says which packages of this module each folder's own packages may import. A sub-folder may
// import its parent besides, and what its parent may; cmd may import everything.
var mayImport = map[string][]string{
	"access":       {},
	"admin":        {"access"},
	"buffer":       {"record"},
	"config":       {},
	"controlplane": {"buffer", "config", "firehose"},
	"delivery":     {"record", "prefix", "buffer", "format", "sinks", "sources", "partition", "transform", "transform/hook"},
	"firehose":     {"config", "prefix"},
	"format":       {"record"},
	"partition":    {"record", "prefix", "transform", "transform/jq"},
	"prefix":       {},
	"record":       {},
	"sample":       {"format"}, // the declared schemas of the data sets
	"sinks":        {"record"},
	"sources":      {"record", "access", "firehose"},
	"transform":    {"record"},
}

// private sub-folders are parts of their parent, which may import them.
var private = map[string]string{"buffer/fsys": "buffer", "sources/kinesis/aggregate": "sources"}

// outside are folders of programs and of test support, which the daemon's packages never import.
var outside = []string{"cmd", "e2e", "tools", "examples", "deploy", "docs"}

func TestImportsPointOneWay(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		from, ok := strings.CutPrefix(p.ImportPath, module+"/")
		if !ok || slices.Contains(outside, top(from)) {
			continue
		}
		seen++
		if _, ok := mayImport[top(from)]; !ok {
			t.Errorf("package %s: its folder has no import rule; add one to this test", from)
			continue
		}
		for _, imp := range p.Imports {
			if to, ok := strings.CutPrefix(imp, module+"/"); ok && !allowed(from, to) {
				t.Errorf("%s imports %s: arrows point the other way", from, to)
			}
		}
	}
	if seen < len(mayImport) {
		t.Errorf("saw %d packages, fewer than there are rules (%d): the test no longer sees the module", seen, len(mayImport))
	}
}

// The image is built from a copy of the tree without what .dockerignore leaves out.
func TestImageHasWhatTheDaemonImports(t *testing.T) {
	ignored, err := os.ReadFile(".dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "list", "-deps", "./cmd/hydrant").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := map[string]bool{}
	for path := range strings.FieldsSeq(string(out)) {
		if folder, ok := strings.CutPrefix(path, module+"/"); ok && !seen[top(folder)] {
			seen[top(folder)] = true
			if !slices.Contains(strings.Fields(string(ignored)), "!"+top(folder)) {
				t.Errorf(".dockerignore leaves out %s, which the daemon imports", top(folder))
			}
		}
	}
	if len(seen) < 10 {
		t.Errorf("saw %d folders: the test no longer sees the module", len(seen))
	}
}

func TestImportRule(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"delivery", "buffer", true},
		{"delivery", "sinks", true},
		{"delivery", "sinks/s3", false},
		{"delivery", "transform/hook", true},
		{"delivery", "transform/hook/http", false},
		{"delivery", "config", false},
		{"buffer", "delivery", false},
		{"buffer", "buffer/fsys", true},
		{"buffer/forgetfs", "buffer/fsys", true},
		{"delivery", "buffer/fsys", false},
		{"sinks/s3", "sinks", true},
		{"sinks/s3", "sinks/file", false},
		{"sources/directput", "record", true},
		{"record", "prefix", false},
		{"partition", "transform/jq", true},
		{"partition", "transform/set", false},
		{"partition", "delivery", false},
		{"transform/jq", "transform", true},
		{"transform/jq", "transform/set", false},
	} {
		if got := allowed(c.from, c.to); got != c.want {
			t.Errorf("allowed(%s → %s) = %v, want %v", c.from, c.to, got, c.want)
		}
	}
}

func top(path string) string {
	t, _, _ := strings.Cut(path, "/")
	return t
}

func allowed(from, to string) bool {
	if slices.Contains(outside, top(to)) {
		return false
	}
	if private[to] == top(from) {
		return true
	}
	if strings.HasPrefix(from, to+"/") { // its parent
		return true
	}
	return slices.Contains(mayImport[top(from)], to)
}
