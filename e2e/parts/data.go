package parts

import (
	"errors"
	"path/filepath"
	"testing"

	"hydrant/sample/sets"
)

// Data is the path of a named data set (see package sets) as newline-delimited JSON. It is made once, in
// .cache/data.
func Data(t testing.TB, name string) string {
	t.Helper()
	s, err := sets.Named(name)
	if err != nil {
		t.Fatal(err)
	}
	path, err := s.File(filepath.Join(Cache(t), "data"), filepath.Join(Cache(t), "node", "node_modules"))
	if errors.Is(err, sets.ErrMissing) {
		Missing(t, "what data set "+name+" is made from", makeTools)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}
