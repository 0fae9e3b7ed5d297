package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"hydrant/sinks"
)

var _ sinks.Catalog = (*Sink)(nil)

// attribute is the extended attribute that a file's metadata is kept in, where the file system has such. It is a help for
// those who look for records: what is lost with it, when a file is copied say, nothing else depends on.
const attribute = "user.hydrant.records"

// kept are the metadata that the attribute holds, in its order: few bytes, as a file system that has no room for them in the
// file's own entry spends a block.
var kept = [...]string{
	sinks.MetaRole, sinks.MetaDirectory, sinks.MetaIncarnation, sinks.MetaRangeFirst, sinks.MetaRangeNext, sinks.MetaFirstSeq, sinks.MetaCount, sinks.MetaManifestID,
}

// errorAttribute holds why what a file names was not taken, for people to read: code, attempts and message, one space between
// two. Few files have it.
const errorAttribute = "user.hydrant.error"

// maxAttribute bounds what is read of an attribute.
const maxAttribute = 2 << 10

// keepMeta has the file system keep the metadata of a file, if it can.
func keepMeta(f *os.File, meta map[string]string) {
	if text := printMeta(meta); text != "" {
		_ = setAttribute(f, attribute, []byte(text))
	}
	if text := printError(meta); text != "" {
		_ = setAttribute(f, errorAttribute, []byte(text))
	}
}

// printError is the text of errorAttribute, "" where there is no code or something else that could not be read again.
func printError(meta map[string]string) string {
	code, attempts, message := meta[sinks.MetaErrorCode], meta[sinks.MetaAttempts], meta[sinks.MetaErrorMessage]
	if code == "" || attempts == "" || strings.Contains(code+attempts, " ") {
		return ""
	}
	return code + " " + attempts + " " + message
}

// parseError adds what printError wrote to the metadata.
func parseError(text string, meta map[string]string) {
	if code, rest, ok := strings.Cut(text, " "); ok && code != "" {
		if attempts, message, ok := strings.Cut(rest, " "); ok && attempts != "" {
			meta[sinks.MetaErrorCode], meta[sinks.MetaAttempts], meta[sinks.MetaErrorMessage] = code, attempts, message
		}
	}
}

// printMeta is the attribute's text: the values, one space between two. "" where one is missing.
func printMeta(meta map[string]string) string {
	values := make([]string, len(kept))
	for i, key := range kept {
		if values[i] = meta[key]; values[i] == "" || strings.ContainsAny(values[i], " \n") {
			return ""
		}
	}
	return strings.Join(values, " ")
}

// parseMeta reads what printMeta wrote; nil where it is something else.
func parseMeta(text string) map[string]string {
	values := strings.Split(text, " ")
	if len(values) != len(kept) {
		return nil
	}
	meta := make(map[string]string, len(kept))
	for i, key := range kept {
		if values[i] == "" {
			return nil
		}
		meta[key] = values[i]
	}
	return meta
}

// List is the contract's. Unfinished files are not listed.
func (s *Sink) List(ctx context.Context, prefix string, found func(key string, size int64) bool) error {
	root, err := os.OpenRoot(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %q: %w", s.path, err)
	}
	defer root.Close()
	top := "."
	if i := strings.LastIndexByte(prefix, '/'); i > 0 {
		top = path.Clean(prefix[:i])
	}
	if !fs.ValidPath(top) {
		return fmt.Errorf("list %q: %q is not below it", s.path, prefix)
	}
	err = fs.WalkDir(root.FS(), top, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // it has gone meanwhile, or nothing was ever there
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case entry.IsDir() && name == TempDir:
			return fs.SkipDir
		case entry.IsDir() || !strings.HasPrefix(name, prefix):
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() && !found(name, info.Size()) {
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list %q: %w", s.path, err)
	}
	return nil
}

// Describe is the contract's: what the file system has kept in an extended attribute.
func (s *Sink) Describe(_ context.Context, key string) (map[string]string, error) {
	root, err := os.OpenRoot(s.path)
	if err != nil {
		return nil, fmt.Errorf("look at %q: %w", key, err)
	}
	defer root.Close()
	f, err := root.Open(fileName(key))
	if err != nil {
		return nil, fmt.Errorf("look at %q: %w", key, err)
	}
	defer f.Close()
	var text [maxAttribute]byte
	n, err := getAttribute(f, attribute, text[:])
	if err != nil {
		return map[string]string{}, nil // the file system has none, or never had
	}
	meta := parseMeta(string(text[:n]))
	if meta == nil {
		return map[string]string{}, nil
	}
	if n, err := getAttribute(f, errorAttribute, text[:]); err == nil {
		parseError(string(text[:n]), meta)
	}
	return meta, nil
}
