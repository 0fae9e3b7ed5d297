package config

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
)

// File is a decoded configuration file together with where everything stood in it.
type File struct {
	Name   string
	Config *Config
	places map[string]pos
}

// Load reads and decodes a file. Its error is the operating system's, or *Error with every fault.
// env looks environment variables up (os.LookupEnv). With *Error it returns the File as well where the text
// is YAML, with what could be decoded: whoever has more to check can add its faults.
func Load(name string, env func(string) (string, bool)) (*File, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Decode(name, data, env)
}

// Decode decodes the text of a file, as Load does; name is for messages. Relative paths of destinations are made
// absolute, so that a version of a stream means the same whatever directory a later process starts in.
func Decode(name string, data []byte, env func(string) (string, bool)) (*File, error) {
	root, faults := parseYAML(data, env)
	if root == nil {
		return nil, &Error{name, faults}
	}
	d := &decoder{places: map[string]pos{}}
	f := &File{Name: name, Config: &Config{}, places: d.places}
	d.decode(reflect.ValueOf(f.Config).Elem(), root, "", &field{})
	d.check(f.Config)
	d.faults = append(faults, without(d.faults, faults)...)
	if len(d.faults) > 0 {
		sortFaults(d.faults)
		return f, &Error{name, d.faults}
	}
	return f, nil
}

// without drops the faults that stand where a known one does: a scalar whose ${NAME} is not set has that
// one fault, and what else is wrong with the text that is left of it is noise.
func without(faults, known []Fault) []Fault {
	places := map[pos]bool{}
	for _, f := range known {
		places[pos{f.Line, f.Column}] = true
	}
	return slices.DeleteFunc(faults, func(f Fault) bool { return places[pos{f.Line, f.Column}] })
}

// Position tells where a path like streams[0].destination.s3.prefix stands in the file: the value itself,
// or the nearest thing around it that the file has. Lines and columns count from 1.
func (f *File) Position(path string) (line, col int) {
	for {
		if p, ok := f.places[path]; ok && p.line > 0 {
			return p.line, p.col
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return 1, 1
		}
		path = path[:i]
	}
}

// Fault makes a fault at a path, for what is found out outside of this package.
func (f *File) Fault(path, value, problem, remedy string) Fault {
	line, col := f.Position(path)
	return Fault{line, col, path, value, problem, remedy}
}

// Faults makes an error of faults, or nil of none.
func (f *File) Faults(faults []Fault) error {
	if len(faults) == 0 {
		return nil
	}
	sortFaults(faults)
	return &Error{f.Name, faults}
}
