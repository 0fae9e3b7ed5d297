package config

import (
	"fmt"
	"reflect"
)

// KeepUntilRestart makes a file that is to take the place of what a running daemon was started with agree with it
// in everything that takes a restart to change: the keys with the tag restart. It returns the paths of those that
// were different, in the order of the file's reference.
func (f *File) KeepUntilRestart(running *Config) (ignored []string) {
	keep(reflect.ValueOf(f.Config).Elem(), reflect.ValueOf(running).Elem(), "", &ignored)
	return ignored
}

// keep is KeepUntilRestart for the struct at path. Elements of lists have no such keys.
func keep(next, running reflect.Value, path string, ignored *[]string) {
	for _, f := range shapeOf(next.Type()).fields {
		a, b, p := next.Field(f.index), running.Field(f.index), child(path, f.name)
		switch {
		case f.restart && !reflect.DeepEqual(a.Interface(), b.Interface()):
			*ignored = append(*ignored, p)
			a.Set(b)
		case f.restart, !f.container():
		case a.Kind() != reflect.Pointer:
			keep(a, b, p, ignored)
		case !a.IsNil() && !b.IsNil():
			keep(a.Elem(), b.Elem(), p, ignored)
		}
	}
}

// CheckDataDir returns the faults of a file whose streams would deliver into a data directory, where that is not the
// file's own.
func (f *File) CheckDataDir(dir string) (faults []Fault) {
	for i := range f.Config.Streams {
		if d := f.Config.Streams[i].Destination.File; d != nil && within(dir, d.Path) {
			faults = append(faults, f.Fault(fmt.Sprintf("streams[%d].destination.file.path", i), d.Path,
				"lies in data_dir, "+dir+", which stays in use until the next start", "choose a directory outside of it"))
		}
	}
	return faults
}
