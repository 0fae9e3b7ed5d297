package file

import (
	"bytes"
	"context"
	"crypto/sha256"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hydrant/sinks"
)

func someMeta() map[string]string {
	return map[string]string{
		sinks.MetaRole: "backup", sinks.MetaDirectory: "00112233445566778899aabbccddeeff", sinks.MetaIncarnation: "7", sinks.MetaRangeFirst: "10",
		sinks.MetaRangeNext: "20", sinks.MetaFirstSeq: "12", sinks.MetaCount: "3", sinks.MetaManifestID: "ffeeddccbbaa99887766554433221100",
	}
}

// What a file is put with can be asked for where the file system keeps it, and files are listed by what their keys begin with.
func TestCatalog(t *testing.T) {
	dir := t.TempDir()
	s, err := New(Options{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	list := func(prefix string) (keys []string) {
		t.Helper()
		if err := s.List(ctx, prefix, func(key string, _ int64) bool { keys = append(keys, key); return true }); err != nil {
			t.Fatal(err)
		}
		slices.Sort(keys)
		return keys
	}
	for _, key := range []string{"a/b/one", "a/b/two", "a/bc/three", "four"} {
		o := sinks.Object{Key: key, Size: 1, SHA256: sha256.Sum256([]byte("x")), Meta: someMeta(), ReaderAt: bytes.NewReader([]byte("x"))}
		if err := s.Put(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	for prefix, want := range map[string][]string{
		"": {"a/b/one", "a/b/two", "a/bc/three", "four"}, "a/b": {"a/b/one", "a/b/two", "a/bc/three"}, "a/b/": {"a/b/one", "a/b/two"}, "a/b/t": {"a/b/two"}, "nothing/": nil,
	} {
		if got := list(prefix); !slices.Equal(got, want) {
			t.Errorf("below %q are %q, want %q", prefix, got, want)
		}
	}
	if err := s.List(ctx, "../", func(string, int64) bool { return true }); err == nil {
		t.Error("what is above the directory is listed")
	}
	n := 0
	if err := s.List(ctx, "", func(string, int64) bool { n++; return false }); err != nil || n != 1 {
		t.Errorf("%d files after the first was enough, %v", n, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "four"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	meta, err := s.Describe(ctx, "a/b/one")
	if setAttribute(f, attribute, []byte("a b")) != nil {
		if len(meta) > 0 || err != nil {
			t.Errorf("metadata on a file system that keeps none: %v, %v", meta, err)
		}
		t.Skip("this file system keeps no attributes")
	}
	if err != nil || !maps.Equal(meta, someMeta()) {
		t.Errorf("metadata %v, %v", meta, err)
	}
	if meta, err := s.Describe(ctx, "four"); err != nil || len(meta) > 0 {
		t.Errorf("metadata of an attribute that is not ours: %v, %v", meta, err)
	}
	if _, err := s.Describe(ctx, "five"); err == nil {
		t.Error("a file that is not there has metadata")
	}

	for key, message := range map[string]string{
		"refused": "s3://stage/x, line 1, column a (int4): Invalid digit (error 1207)", "most": strings.Repeat("m", sinks.MaxErrorMessage), "unsaid": "",
	} {
		want := someMeta()
		want[sinks.MetaErrorCode], want[sinks.MetaErrorMessage], want[sinks.MetaAttempts] = strings.Repeat("c", sinks.MaxErrorCode), message, "12"
		o := sinks.Object{Key: key, Size: 1, SHA256: sha256.Sum256([]byte("x")), Meta: want, ReaderAt: bytes.NewReader([]byte("x"))}
		if err := s.Put(ctx, o); err != nil {
			t.Fatal(err)
		}
		if meta, err := s.Describe(ctx, key); err != nil || !maps.Equal(meta, want) {
			t.Errorf("metadata of %s: %v, %v", key, meta, err)
		}
	}
	for _, text := range []string{"", " ", "code", "code ", " 1 message", "code  message"} {
		meta := map[string]string{}
		if parseError(text, meta); len(meta) > 0 {
			t.Errorf("%q is read as %v", text, meta)
		}
	}
	for _, meta := range []map[string]string{{}, {sinks.MetaErrorCode: "a b", sinks.MetaAttempts: "1"}, {sinks.MetaErrorCode: "a"}, {sinks.MetaAttempts: "1"}} {
		if text := printError(meta); text != "" {
			t.Errorf("%v is written as %q", meta, text)
		}
	}
}

func FuzzParseMeta(f *testing.F) {
	f.Add(printMeta(someMeta()))
	f.Add("a b c d e f g h")
	f.Add("  ")
	f.Fuzz(func(t *testing.T, text string) {
		meta := parseMeta(text)
		if meta == nil {
			return
		}
		if again := printMeta(meta); again != "" && !maps.Equal(parseMeta(again), meta) {
			t.Errorf("%q reads as %v, which prints as %q", text, meta, again)
		}
	})
}
