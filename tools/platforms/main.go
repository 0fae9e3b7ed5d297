// Command platforms type-checks all packages of the module, with their tests, for every platform that is promised,
// and builds the daemon whole for one of them.
//
//	go run ./tools/platforms            check them all, build for today's
//	go run ./tools/platforms -build P   check them all, build for P (goos/goarch, all, or none)
//
// What the compiler makes of one platform is of no use for another, so building the daemon for all of them compiles
// its two hundred dependencies six times over: nine processor minutes from an empty cache. What breaks on another
// platform is nearly always a name or a type that is not there, which the type checker finds from the sources in
// seconds, and in the tests too. What only a compiler and a linker see, such as a body in assembly that is missing,
// shows in the whole build, which is for another platform every day. Files flow in, faults flow out; nothing is
// kept.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// platforms are those that are promised.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"}

func main() {
	which := flag.String("build", "today", "the `platform` to build for: goos/goarch, today (another one every day), all or none")
	flag.Parse()
	if err := run(*which, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(which string, out io.Writer) error {
	builds, err := chosen(which, time.Now())
	if err != nil {
		return err
	}
	c := newChecker()
	var faults []error
	for _, p := range platforms {
		began := time.Now()
		n, err := c.check(p, ".", patterns(p)...)
		fmt.Fprintf(out, "check %s: %d packages in %.1f s\n", p, n, time.Since(began).Seconds())
		if err != nil {
			faults = append(faults, fmt.Errorf("%s:\n%w", p, err))
		}
	}
	for _, p := range builds {
		fmt.Fprintln(out, "build", p)
		if err := compile(p); err != nil {
			faults = append(faults, fmt.Errorf("build for %s: %w", p, err))
		}
	}
	return errors.Join(faults...)
}

// patterns name the packages to check: all of them, but that the tests that drive the daemon as a process need Linux.
func patterns(platform string) []string {
	if strings.HasPrefix(platform, "linux/") {
		return []string{"./..."}
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		return []string{"./..."}
	}
	all := []string{"."}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "e2e" && !strings.HasPrefix(e.Name(), ".") {
			all = append(all, "./"+e.Name()+"/...")
		}
	}
	return all
}

// chosen are the platforms to build for.
func chosen(which string, now time.Time) ([]string, error) {
	host := build.Default.GOOS + "/" + build.Default.GOARCH
	switch {
	case which == "all":
		return platforms, nil
	case which == "none":
		return nil, nil
	case which == "today":
		// The host's own is built for the tests anyway.
		others := slices.DeleteFunc(slices.Clone(platforms), func(p string) bool { return p == host })
		return []string{others[int(now.Unix()/(24*3600))%len(others)]}, nil
	case slices.Contains(platforms, which):
		return []string{which}, nil
	}
	return nil, fmt.Errorf("-build %q is none of all, none, today, %s", which, strings.Join(platforms, ", "))
}

// compile builds the daemon into no place.
func compile(platform string) error {
	cmd := command(platform, "build", "-buildvcs=false", "-o", os.DevNull, "./cmd/hydrant")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// command is the go command for a platform.
func command(platform string, args ...string) *exec.Cmd {
	goos, goarch, _ := strings.Cut(platform, "/")
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch)
	return cmd
}

// listed is a package as go list prints it.
type listed struct {
	ImportPath, Dir, Name, ForTest string
	Standard, DepOnly              bool
	GoFiles                        []string
	ImportMap                      map[string]string
	Module                         *struct{ GoVersion string }
}

// checker keeps what was parsed: most files are the same on every platform.
type checker struct {
	files  *token.FileSet
	parsed map[string]*ast.File // by path
	said   map[string]bool      // faults: one that is there on every platform is said once
}

func newChecker() *checker {
	return &checker{files: token.NewFileSet(), parsed: map[string]*ast.File{}, said: map[string]bool{}}
}

// check type-checks the packages that the patterns name in dir, with their tests. Of packages that they import only
// declarations are looked at. It returns how many packages there were, dependencies counted.
func (c *checker) check(platform, dir string, patterns ...string) (n int, err error) {
	cmd := command(platform, append([]string{"list", "-deps", "-test",
		"-json=ImportPath,Dir,Name,ForTest,Standard,DepOnly,GoFiles,ImportMap,Module"}, patterns...)...)
	var faults, out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &faults
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("go list: %w\n%s", err, faults.Bytes())
	}
	_, arch, _ := strings.Cut(platform, "/")
	known := importer{"unsafe": types.Unsafe}
	var all []error
	for d := json.NewDecoder(&out); ; { // every package comes after those that it imports
		var p listed
		switch err := d.Decode(&p); {
		case err == io.EOF:
			return n, errors.Join(all...)
		case err != nil:
			return n, fmt.Errorf("go list: %w", err)
		case p.ImportPath == "unsafe", p.Name == "main" && strings.HasSuffix(p.ImportPath, ".test"):
			continue // the latter is made by the go command
		}
		n++
		pkg, err := c.load(&p, arch, known)
		if err != nil {
			all = append(all, err)
		}
		known[p.ImportPath] = pkg
	}
}

// load type-checks one package.
func (c *checker) load(p *listed, arch string, known importer) (*types.Package, error) {
	var faults []error
	fault := func(err error) {
		if len(faults) < 10 && !c.said[err.Error()] {
			c.said[err.Error()] = true
			faults = append(faults, err)
		}
	}
	var files []*ast.File
	for _, name := range p.GoFiles {
		path := filepath.Join(p.Dir, name)
		f, ok := c.parsed[path]
		if !ok {
			var err error
			if f, err = parser.ParseFile(c.files, path, nil, parser.SkipObjectResolution); err != nil {
				fault(err)
				continue
			}
			c.parsed[path] = f
		}
		files = append(files, f)
	}
	ours := !p.Standard && !p.DepOnly
	config := types.Config{
		Importer:         mapped{p.ImportMap, known},
		Sizes:            types.SizesFor("gc", arch),
		IgnoreFuncBodies: !ours,
		Error:            fault,
	}
	if p.Module != nil && p.Module.GoVersion != "" {
		config.GoVersion = "go" + p.Module.GoVersion
	}
	path, _, _ := strings.Cut(p.ImportPath, " ")      // tests' variants are "path [path.test]"
	pkg, _ := config.Check(path, c.files, files, nil) // its errors went to fault
	return pkg, errors.Join(faults...)
}

// importer has the packages that were checked.
type importer map[string]*types.Package

// mapped is an importer as one package sees it, with go list's ImportMap.
type mapped struct {
	as    map[string]string
	known importer
}

func (m mapped) Import(path string) (*types.Package, error) {
	if as, ok := m.as[path]; ok {
		path = as
	}
	if pkg, ok := m.known[path]; ok {
		return pkg, nil
	}
	return nil, fmt.Errorf("package %s was not listed", path)
}
