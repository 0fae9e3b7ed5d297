package transform

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Path names a value inside a record: the names of members on the way to it, and steps to each element of an array.
type Path struct {
	text  string
	steps []step
}

type step struct {
	name string
	each bool // every element of an array
}

// maxSteps bounds a path.
const maxSteps = 64

// ParsePath reads a path: names with dots between them, as in headers.cookie, with or without a dot before the first. A
// name that is not of letters, digits, _ and - stands in double quotes, as in a JSON text. After a name, [] means each
// element of the array there.
func ParsePath(text string) (Path, error) {
	bad := func(format string, a ...any) (Path, error) {
		return Path{}, fmt.Errorf("path %q: %s", text, fmt.Sprintf(format, a...))
	}
	if !utf8.ValidString(text) {
		return bad("it is not valid UTF-8")
	}
	rest := strings.TrimPrefix(text, ".")
	p := Path{text: text}
	for first := true; first || rest != ""; first = false {
		if !first {
			switch {
			case strings.HasPrefix(rest, "[]"):
				p.steps = append(p.steps, step{each: true})
				rest = rest[2:]
				if len(p.steps) > maxSteps {
					return bad("it has more than %d steps", maxSteps)
				}
				continue
			case rest[0] != '.':
				return bad("a dot or [] is expected before %q", rest)
			}
			rest = rest[1:]
		}
		var name string
		if strings.HasPrefix(rest, `"`) {
			var d Document
			d.Reset([]byte(rest))
			p, err := d.open(d.data)
			if err != nil {
				return bad("%v", err)
			}
			end, _, err := p.str(p.base + 1)
			if err != nil {
				return bad("%v", err)
			}
			name = string(unescape(nil, p.b[p.base+1:end]))
			rest = rest[end+1-p.base:]
		} else {
			n := 0
			for n < len(rest) && isNameByte(rest[n]) {
				n++
			}
			if n == 0 {
				return bad("a name is expected; names of other characters than letters, digits, _ and - stand in double quotes")
			}
			name, rest = rest[:n], rest[n:]
		}
		p.steps = append(p.steps, step{name: name})
		if len(p.steps) > maxSteps {
			return bad("it has more than %d steps", maxSteps)
		}
	}
	return p, nil
}

func isNameByte(c byte) bool {
	return c == '_' || c == '-' || c-'0' <= 9 || (c|0x20)-'a' < 26 || c >= 0x80
}

// String is the path as it was written.
func (p Path) String() string { return p.text }

// Names of the members on the way, without [] steps.
func (p Path) Names() []string {
	var names []string
	for _, s := range p.steps {
		if !s.each {
			names = append(names, s.name)
		}
	}
	return names
}

// Each tells whether the path has a [] step, and so can name several values.
func (p Path) Each() bool {
	for _, s := range p.steps {
		if s.each {
			return true
		}
	}
	return false
}

// Last is the name of the last step.
func (p Path) Last() string { return p.steps[len(p.steps)-1].name }

// Within tells whether p is outer or names something inside of it.
func (p Path) Within(outer Path) bool {
	if len(p.steps) < len(outer.steps) {
		return false
	}
	for i, s := range outer.steps {
		if p.steps[i] != s {
			return false
		}
	}
	return true
}

// Find returns the value that p, which has no [] step, names in d, or 0 where there is none.
func (d *Document) Find(root Ref, p Path) Ref {
	for _, s := range p.steps {
		if d.nodes[root].kind != Object {
			return 0
		}
		if root = d.Member(root, s.name); root == 0 {
			return 0
		}
	}
	return root
}

// FindEach calls f for every value that p names in d. f may remove or replace the value that it is given.
func (d *Document) FindEach(root Ref, p Path, f func(Ref)) { d.findEach(root, p.steps, f) }

func (d *Document) findEach(v Ref, steps []step, f func(Ref)) {
	if len(steps) == 0 {
		f(v)
		return
	}
	s := steps[0]
	switch k := d.nodes[v].kind; {
	case s.each && k == Array:
		for c := d.nodes[v].first; c != 0; {
			next := d.nodes[c].next
			d.findEach(c, steps[1:], f)
			c = next
		}
	case !s.each && k == Object:
		if c := d.Member(v, s.name); c != 0 {
			d.findEach(c, steps[1:], f)
		}
	}
}

// Place returns the object and the name under which p, which has no [] step, names a member, making the objects on the
// way where they are missing or null. Where something else is in the way, it returns 0 and the text of what is.
func (d *Document) Place(root Ref, p Path) (object Ref, name string, inTheWay string) {
	for i, s := range p.steps {
		if k := d.nodes[root].kind; k != Object {
			names := make([]string, i)
			for j := range names {
				names[j] = p.steps[j].name
			}
			return 0, "", fmt.Sprintf("%s is %s", strings.Join(names, "."), k)
		}
		if i == len(p.steps)-1 {
			return root, s.name, ""
		}
		next := d.Member(root, s.name)
		switch {
		case next == 0:
			next = d.NewContainer(Object)
			d.Append(root, s.name, next)
		case d.nodes[next].kind == Null:
			made := d.NewContainer(Object)
			d.Replace(next, made)
			next = made
		}
		root = next
	}
	return root, "", ""
}

// SameParent tells whether p and q name members of the same object.
func (p Path) SameParent(q Path) bool {
	if len(p.steps) != len(q.steps) {
		return false
	}
	for i, s := range p.steps[:len(p.steps)-1] {
		if q.steps[i] != s {
			return false
		}
	}
	return true
}
