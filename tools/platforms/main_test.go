package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// module writes files of a module of its own, which imports nothing but the standard library.
func module(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	files["go.mod"] = "module example\n\ngo 1.26\n"
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name     string
		files    map[string]string
		platform string
		want     string // in the error; "": there is none
	}{
		{"sound", map[string]string{"a.go": "package a\n\nimport \"unsafe\"\n\nconst Size = unsafe.Sizeof(uintptr(0))\n"}, "windows/amd64", ""},
		{"a file of another platform", map[string]string{"a.go": "package a\n", "a_linux.go": "package a\n\nvar x int = \"\"\n"}, "windows/amd64", ""},
		{"a fault on one platform", map[string]string{"a.go": "package a\n", "a_windows.go": "package a\n\nfunc f() { g() }\n"}, "windows/amd64", "a_windows.go:3:12: undefined: g"},
		{"a name that one platform lacks", map[string]string{"a.go": "package a\n\nimport \"syscall\"\n\nvar F = syscall.Fdatasync\n"}, "darwin/arm64", "a.go:5:17: undefined: syscall.Fdatasync"},
		{"a fault in a test", map[string]string{"a.go": "package a\n", "a_test.go": "package a\n\nvar x int = \"\"\n"}, "linux/arm64", "a_test.go:3:13"},
		{"a fault in a test of another package", map[string]string{"a.go": "package a\n", "a_test.go": "package a_test\n\nimport \"example\"\n\nvar x = a.B\n"}, "linux/arm64", "a_test.go:5:11: undefined: a.B"},
		{"not Go", map[string]string{"a.go": "package a\n\nfunc {\n"}, "linux/arm64", "a.go:3:6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := newChecker().check(c.platform, module(t, c.files), "./...")
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got %v, want none", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			case c.want == "" && n == 0:
				t.Error("no package was looked at")
			}
		})
	}
}

func TestEveryForeignPlatformGetsItsDay(t *testing.T) {
	var got []string
	day := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for range 12 {
		p, err := chosen("today", day)
		if err != nil || len(p) != 1 {
			t.Fatalf("got %v, %v", p, err)
		}
		got = append(got, p[0])
		day = day.Add(24 * time.Hour)
	}
	slices.Sort(got)
	if got = slices.Compact(got); len(got) < len(platforms)-1 {
		t.Errorf("built in twelve days: %v", got)
	}
	if _, err := chosen("plan9/386", day); err == nil {
		t.Error("a platform that is not promised was taken")
	}
	if p, err := chosen("windows/arm64", day); err != nil || len(p) != 1 || p[0] != "windows/arm64" {
		t.Errorf("got %v, %v", p, err)
	}
}
