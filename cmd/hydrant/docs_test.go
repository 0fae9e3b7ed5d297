package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hydrant/config"
)

// What documents and examples tell people to write is a valid configuration.
func TestDocumentedConfigurations(t *testing.T) {
	root := filepath.Join("..", "..")
	var texts []struct{ name, text string }
	add := func(name, text string) { texts = append(texts, struct{ name, text string }{name, text}) }
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	pages, _ := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	for _, page := range append(pages, filepath.Join(root, "README.md")) {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllStringSubmatch(string(b), -1) {
			if strings.Contains(m[1], "streams:") { // others show a part
				add(page, m[1])
			}
		}
	}
	examples, _ := filepath.Glob(filepath.Join(root, "examples", "*", "*.yaml"))
	for _, example := range examples {
		b, err := os.ReadFile(example)
		if err != nil {
			t.Fatal(err)
		}
		add(example, string(b))
	}
	if len(texts) < 4 {
		t.Fatalf("only %d configurations found", len(texts))
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := func(name string) (string, bool) { // whatever has no default is set
		if name == "LAKE_KEY" || strings.HasPrefix(name, "MINIO_ROOT_") {
			return "set", true
		}
		return "", false
	}
	for _, c := range texts {
		text := regexp.MustCompile(`/run/secrets/\w+`).ReplaceAllString(c.text, secret)
		f, err := config.Decode(c.name, []byte(text), env)
		if err == nil {
			err = f.Faults(checkStreams(f, nil))
		}
		if err != nil {
			t.Errorf("%v\nin\n%s", err, c.text)
		}
	}
}

// The examples of docs/transforms.md do what they say, and there is one of every processor.
func TestDocumentedTransforms(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "transforms.md"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	table := regexp.MustCompile("(?s)```csv\n(.*?)```").FindSubmatch(page)
	if err := os.WriteFile("countries.csv", table[1], 0o600); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		text := "streams:\n  - name: s\n    destination: { file: { path: lake } }\n    " + strings.ReplaceAll(m[1], "\n", "\n    ")
		f, err := config.Decode("transforms.md", []byte(text), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Errorf("%v\nin\n%s", err, text)
			continue
		}
		tested, err := runTests(t.Context(), f.Config, false)
		if err != nil {
			t.Errorf("%v\nin\n%s", err, text)
		}
		for _, x := range tested {
			if !x.Passed {
				t.Errorf("test %d: %s\nin\n%s", x.Index, x.Fault, m[1])
			}
		}
		if len(tested) == 0 {
			t.Errorf("no test in\n%s", m[1])
		}
		steps := f.Config.Streams[0].Transform
		for i := range steps {
			key, _, _, _ := processor(&steps[i], slog.New(slog.DiscardHandler))
			seen[key] = true
		}
	}
	for _, key := range []string{"decompress", "deaggregate", "append_delimiter", "jq", "filter", "rename", "set", "remove", "flatten", "redact", "lookup"} {
		if !seen[key] {
			t.Errorf("no example of %s", key)
		}
	}
}
