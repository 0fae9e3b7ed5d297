package hydrant_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// testsOf are the tests of the module as docs name them: folder.TestName.
func testsOf(t *testing.T) map[string]bool {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	all := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && path != "." && strings.HasPrefix(e.Name(), ".") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(b, -1) {
			all[filepath.ToSlash(filepath.Dir(path))+"."+string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The tests and differences that docs/conformance.md names are there, and differences are numbered from 1 without a gap.
func TestConformanceDocument(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join("docs", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	differences := 0
	for _, m := range regexp.MustCompile(`(?m)^(\d+)\. `).FindAllStringSubmatch(read("differences.md"), -1) {
		differences++
		if m[1] != strconv.Itoa(differences) {
			t.Errorf("differences.md: number %s where %d is due", m[1], differences)
		}
	}
	page, tests := read("conformance.md"), testsOf(t)
	named := regexp.MustCompile("`([a-z0-9/]+\\.Test\\w+)`").FindAllStringSubmatch(page, -1)
	if len(named) < 50 {
		t.Errorf("conformance.md names %d tests", len(named))
	}
	for _, m := range named {
		if !tests[m[1]] {
			t.Errorf("conformance.md: there is no test %s", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`differences? ([\d, toand]+)`).FindAllStringSubmatch(page, -1) {
		for _, number := range regexp.MustCompile(`\d+`).FindAllString(m[1], -1) {
			if n, err := strconv.Atoi(number); err != nil || n < 1 || n > differences {
				t.Errorf("conformance.md: there is no difference %s", number)
			}
		}
	}
	var lines []string
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(page, -1) {
		lines = append(lines, m[1])
	}
	var want []string
	for n := range 28 {
		want = append(want, strconv.Itoa(n+1))
	}
	if !slices.Equal(lines, want) {
		t.Errorf("conformance.md: lines %v, want %v", lines, want)
	}
}
