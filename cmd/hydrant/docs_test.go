package main

import (
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
