// Package parts hands tests the real programs that Hydrant works with: S3 servers, clients of the Firehose
// API, an independent reader of Parquet, and real input data. A test asks for a part by name and gets it
// running, on a free loopback port or over a pipe, with its files in a temporary directory; it is stopped when
// the test ends, so nothing of it outlives the test.
//
// A part that is not installed skips the test, with a message that says how to get it. Where the environment
// variable CI is set it fails the test instead: a green run must mean that it ran.
package parts

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// makeTools is how most parts are got.
const makeTools = "run `make tools`"

// Root is the module's top directory: the first one above the working directory that holds a go.mod.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := rootDir()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var rootDir = sync.OnceValues(func() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod in the working directory nor above it")
		}
		dir = up
	}
})

// Cache is the directory that tools and large input data are kept in, which git ignores: $HYDRANT_CACHE, or
// .cache beside go.mod.
func Cache(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("HYDRANT_CACHE"); dir != "" {
		return dir
	}
	return filepath.Join(Root(t), ".cache")
}

// CI reports whether a missing part is a failure.
func CI() bool { return os.Getenv("CI") != "" }

// Missing ends the test because what is not there: it is skipped, or failed where CI is set. How says what to
// do about it.
func Missing(t testing.TB, what, how string) {
	t.Helper()
	if CI() {
		t.Fatalf("%s is missing, and CI is set, where nothing may be skipped; %s", what, how)
	}
	t.Skipf("%s is missing; %s", what, how)
}

// need returns path when there is such a file or directory, and otherwise ends the test as Missing does.
func need(t testing.TB, path, how string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		Missing(t, path, how)
	}
	return path
}

// needProgram is need for a program that is looked for in PATH.
func needProgram(t testing.TB, name, how string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "the program "+name, how)
	}
	return path
}

// NodeModules is the node_modules folder of the pinned npm packages, those of tools/node.
func NodeModules(t testing.TB) string {
	t.Helper()
	needProgram(t, "node", "install node 20 or newer, with npm")
	return need(t, filepath.Join(Cache(t), "node", "node_modules"), makeTools)
}
