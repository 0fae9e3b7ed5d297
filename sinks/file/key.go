package file

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unicode/utf8"
)

const (
	maxKey       = 1024 // bytes, as in S3, so that a stream can be pointed from one to the other
	maxComponent = 255  // bytes, the limit of every usual file system
)

// fileName is the name of the file for a valid key. Empty components stand for nothing in a file system:
// a//b is a/b.
func fileName(key string) string {
	parts := strings.Split(key, "/")
	kept := parts[:0]
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, "/")
}

// ValidateKey accepts relative paths of UTF-8 without a way up, of at most 1,024 bytes, 255 in a component.
func (s *Sink) ValidateKey(key string) error { return validateKey(key, runtime.GOOS == "windows") }

func validateKey(key string, windows bool) error {
	switch {
	case len(key) > maxKey:
		return fmt.Errorf("the object's key has %d bytes, %d are the most: shorten the prefix", len(key), maxKey)
	case !utf8.ValidString(key):
		return fmt.Errorf("the object's key %q is not valid UTF-8", key)
	case strings.ContainsRune(key, 0):
		return fmt.Errorf("the object's key %q has a NUL character", key)
	case strings.HasSuffix(key, "/"):
		return fmt.Errorf("the object's key %q ends with a slash: there is no file name", key)
	}
	name := fileName(key)
	if name == "" {
		return errors.New("the object's key is empty")
	}
	for i, p := range strings.Split(name, "/") {
		switch {
		case p == "." || p == "..":
			return fmt.Errorf("the object's key %q has the path component %q", key, p)
		case len(p) > maxComponent:
			return fmt.Errorf("the object's key has a path component of %d bytes (%.32q…), %d are the most for a file: shorten the prefix or put a slash in it", len(p), p, maxComponent)
		case i == 0 && strings.EqualFold(p, TempDir):
			return fmt.Errorf("the object's key begins with %s, where unfinished files are kept: choose another prefix", TempDir)
		}
		if windows {
			if err := validateWindows(p); err != nil {
				return fmt.Errorf("the object's key %q: %w", key, err)
			}
		}
	}
	return nil
}

// validateWindows refuses what Windows would take for something else, or cannot store.
func validateWindows(component string) error {
	if i := strings.IndexFunc(component, func(r rune) bool { return r < 0x20 || strings.ContainsRune(`<>:"\|?*`, r) }); i >= 0 {
		return fmt.Errorf("path component %q has the character %q, which Windows does not allow", component, component[i])
	}
	if strings.HasSuffix(component, ".") || strings.HasSuffix(component, " ") {
		return fmt.Errorf("path component %q ends with a dot or a space, which Windows drops", component)
	}
	base, _, _ := strings.Cut(strings.ToUpper(component), ".")
	switch base = strings.TrimRight(base, " "); base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return fmt.Errorf("path component %q is a device of Windows", component)
	}
	if n, ok := strings.CutPrefix(base, "COM"); ok && isDeviceNumber(n) {
		return fmt.Errorf("path component %q is a device of Windows", component)
	}
	if n, ok := strings.CutPrefix(base, "LPT"); ok && isDeviceNumber(n) {
		return fmt.Errorf("path component %q is a device of Windows", component)
	}
	return nil
}

func isDeviceNumber(s string) bool {
	return len(s) == 1 && s[0] >= '0' && s[0] <= '9' || s == "¹" || s == "²" || s == "³"
}
