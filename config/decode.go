package config

import (
	"cmp"
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// A decoder fills structs from nodes and collects every fault on the way.
type decoder struct {
	faults []Fault
	places map[string]pos
	// spec: the nodes come from Spec, which an earlier process wrote. Limits were checked then and are not
	// checked again, so that tightening one never makes what is buffered undeliverable.
	spec bool
}

// custom is a type with a form of its own in the file.
type custom interface {
	decode(d *decoder, n *node, path string)
}

func (d *decoder) fault(n *node, path, problem, remedy string) {
	d.faults = append(d.faults, Fault{n.pos.line, n.pos.col, path, n.text, problem, remedy})
}

// at notes where a path stands, for File.Position.
func (d *decoder) at(path string, n *node) {
	if d.places != nil {
		d.places[path] = n.pos
	}
}

func (d *decoder) unknown(e entry, path string, known []string) {
	remedy := "known here: " + oneOfList(known)
	if best := nearest(e.key, known); best != "" {
		remedy = "did you mean " + best + "?"
	}
	d.faults = append(d.faults, Fault{e.pos.line, e.pos.col, path, "", "is not a known key", remedy})
}

func (d *decoder) notYet(e entry, path string) {
	d.faults = append(d.faults, Fault{e.pos.line, e.pos.col, path, "", "is not supported yet", "take it out"})
}

func (d *decoder) wantScalar(n *node, path, what string) bool {
	if n.kind == scalar {
		return true
	}
	d.fault(n, path, fmt.Sprintf("wants %s, not %s", what, n.kind), "")
	return false
}

// decode fills v from n as f says.
func (d *decoder) decode(v reflect.Value, n *node, path string, f *field) {
	d.at(path, n)
	if c, ok := v.Addr().Interface().(custom); ok {
		if n.kind != null {
			c.decode(d, n, path)
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(v.Elem(), n, path, f)
		return
	case reflect.Struct:
		if v.Type() != reflect.TypeFor[Secret]() {
			d.structure(v, n, path)
			return
		}
	case reflect.Slice:
		d.slice(v, n, path, f)
		return
	case reflect.Map:
		d.stringMap(v, n, path)
		return
	}
	if !d.wantScalar(n, path, f.what()) {
		return
	}
	problem, remedy := f.scan(v, n.text, d.spec)
	if problem == "" {
		return
	}
	if f.url && strings.Contains(n.text, "@") { // a password may stand before it
		n = &node{kind: scalar, pos: n.pos, text: Redacted}
	}
	d.fault(n, path, problem, remedy)
}

func (d *decoder) slice(v reflect.Value, n *node, path string, f *field) {
	if n.kind == null {
		return
	}
	if n.kind != list {
		if e := v.Type().Elem(); e.Kind() == reflect.Struct && shapeOf(e).secrets {
			n = &node{kind: n.kind, pos: n.pos}
		}
		d.fault(n, path, fmt.Sprintf("wants a list, not %s", n.kind), "")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
	for i, item := range n.items {
		d.decode(v.Index(i), item, index(path, i), &field{name: f.name})
	}
}

func (d *decoder) stringMap(v reflect.Value, n *node, path string) {
	if n.kind == null {
		return
	}
	if n.kind != mapping {
		d.fault(n, path, fmt.Sprintf("wants a mapping of texts, not %s", n.kind), "")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range n.entries {
		p := child(path, e.key)
		d.at(p, e.value)
		if d.wantScalar(e.value, p, "a text") {
			v.SetMapIndex(reflect.ValueOf(e.key), reflect.ValueOf(e.value.text))
		}
	}
}

// structure fills a struct from a mapping: what is given, then the defaults of what is not. A key with
// nothing after it counts as an empty mapping where the field is a struct, and as absent elsewhere.
func (d *decoder) structure(v reflect.Value, n *node, path string) {
	s := shapeOf(v.Type())
	if s.word != nil && n.kind == scalar {
		if problem, _ := s.word.scan(v.Field(s.word.index), n.text, d.spec); problem != "" {
			if s.several { // it may be a secret that stands in the wrong place
				n = &node{kind: n.kind, pos: n.pos}
			}
			d.fault(n, path, problem, "write "+oneOfList(append(slices.Clone(s.word.enum), wordForms(s)...)))
		}
		return
	}
	if n.kind != mapping && n.kind != null {
		remedy := ""
		if s.secrets {
			n = &node{kind: n.kind, pos: n.pos}
		}
		if n.kind == scalar && slices.Contains(s.keys, n.text) {
			remedy = "write { " + n.text + ": {} }"
		}
		d.fault(n, path, fmt.Sprintf("wants a mapping, not %s", n.kind), remedy)
		return
	}
	given := make([]bool, len(s.fields))
	later := false
	var chosen []string
	for _, e := range n.entries {
		p := child(path, e.key)
		i := slices.IndexFunc(s.fields, func(f *field) bool { return f.name == e.key })
		switch {
		case i >= 0:
			f := s.fields[i]
			fv := v.Field(f.index)
			if e.value.kind == null && !f.container() {
				d.at(p, e.value)
				continue
			}
			if f.typ == reflect.TypeFor[Secret]() && fv.Interface().(Secret).set {
				d.fault(&node{pos: e.pos}, p, "is given twice, here and as "+e.key+"_file", "keep one")
				continue
			}
			given[i] = true
			chosen = append(chosen, e.key)
			d.decode(fv, e.value, p, f)
		case s.secretFile(e.key) != nil:
			d.secretFile(v, s.secretFile(e.key), e, p)
		case slices.Contains(s.later, e.key):
			later = true
			d.notYet(e, p)
		default:
			d.unknown(e, p, s.keys)
		}
	}
	switch {
	case s.several:
		if len(chosen) == 0 {
			d.fault(n, path, "says nothing", "give "+oneOfList(s.names())+", or write "+oneOfList(s.word.enum))
		}
	case s.word != nil:
		if len(chosen) != 1 {
			d.fault(n, path, "wants exactly one form", "write "+oneOfList(append(slices.Clone(s.word.enum), wordForms(s)...)))
			return
		}
		v.Field(s.word.index).SetString(chosen[0])
		return
	case s.union:
		d.union(v, s, n, path, chosen, later)
		return
	}
	for i, f := range s.fields {
		if !given[i] {
			d.absent(v.Field(f.index), f, n, child(path, f.name))
		}
	}
}

func (d *decoder) union(v reflect.Value, s *shape, n *node, path string, chosen []string, later bool) {
	switch {
	case len(chosen) > 1:
		d.fault(n, path, "takes exactly one of "+oneOfList(s.names())+", and has "+strings.Join(chosen, " and "), "keep one")
	case len(chosen) == 1 || later:
	case s.unionDefault == "":
		d.fault(n, path, "wants exactly one of "+oneOfList(s.names()), "")
	default:
		i := slices.IndexFunc(s.fields, func(f *field) bool { return f.name == s.unionDefault })
		d.decode(v.Field(s.fields[i].index), &node{kind: null, pos: n.pos}, child(path, s.unionDefault), s.fields[i])
	}
}

// absent gives a field that is not in the file its default.
func (d *decoder) absent(fv reflect.Value, f *field, parent *node, path string) {
	switch {
	case f.required:
		d.faults = append(d.faults, Fault{parent.pos.line, parent.pos.col, path, "", "is required", f.hint()})
	case f.hasDefault:
		n := &node{kind: scalar, pos: parent.pos, text: f.def}
		places := d.places
		d.places = nil // it stands nowhere
		d.decode(fv, n, path, f)
		d.places = places
	case f.typ.Kind() == reflect.Struct && f.typ != reflect.TypeFor[Secret]():
		places := d.places
		d.places = nil
		d.structure(fv, &node{kind: null, pos: parent.pos}, path)
		d.places = places
	}
}

// secretFile takes the _file variant of a secret and makes sure that it can be read.
func (d *decoder) secretFile(v reflect.Value, f *field, e entry, path string) {
	d.at(path, e.value)
	if e.value.kind == null || !d.wantScalar(e.value, path, "the name of a file") {
		return
	}
	if v.Field(f.index).Interface().(Secret).set {
		d.fault(&node{pos: e.pos}, path, "is given twice, here and as "+f.name, "keep one")
		return
	}
	if e.value.text == "" {
		return
	}
	s := SecretFile(e.value.text)
	v.Field(f.index).Set(reflect.ValueOf(s))
	if _, err := s.Value(); err != nil {
		d.fault(e.value, path, err.Error(), "the file must exist and be readable")
	}
}

// shape is what the tags of a struct say.
type shape struct {
	fields       []*field
	keys         []string // every key that means something, also those that are not supported yet
	later        []string
	secrets      bool // some fields are secrets
	union        bool
	unionDefault string
	word         *field // the scalar form of a struct that has one
	several      bool   // the mapping form of such a struct may have more than one key
}

func (s *shape) names() []string {
	out := make([]string, len(s.fields))
	for i, f := range s.fields {
		out[i] = f.name
	}
	return out
}

func (s *shape) secretFile(key string) *field {
	name, ok := strings.CutSuffix(key, "_file")
	if !ok {
		return nil
	}
	for _, f := range s.fields {
		if f.name == name && f.typ == reflect.TypeFor[Secret]() {
			return f
		}
	}
	return nil
}

func wordForms(s *shape) []string {
	var out []string
	for _, f := range s.fields {
		if !f.hasDefault {
			out = append(out, "{ "+f.name+": "+strings.ToUpper(f.name)+" }")
		}
	}
	return out
}

// Marker types: a blank field of one of them carries what holds for the struct.
type (
	later struct{} // keys:"a b" are refused by name until they work, like a field with later:"true"
	oneOf struct{} // exactly one of the pointer fields is set; default:"x" where none is given
)

// field is what the tags of a struct's field say.
type field struct {
	index      int
	goName     string
	name       string // key in the file
	typ        reflect.Type
	required   bool
	hasDefault bool
	def        string
	enum       []string
	min, max   string
	zero       string // what 0 means where it is allowed outside of min and max
	pattern    *regexp.Regexp
	expect     string
	url, zone  bool
	notInSpec  bool
	sparse     bool // not in a spec while it has its default, as specs were written before there was such a key
	restart    bool // a change while the daemon runs has no effect until it starts again
}

func (f *field) container() bool {
	t := f.typ
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct && t != reflect.TypeFor[Secret]() && !reflect.PointerTo(t).Implements(reflect.TypeFor[custom]())
}

// hint tells what a required key looks like.
func (f *field) hint() string {
	if f.expect != "" {
		return f.expect
	}
	if f.container() {
		t := f.typ
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if s := shapeOf(t); s.union {
			return "exactly one of " + oneOfList(s.names())
		}
	}
	return ""
}

// what names the kind of scalar that the field takes.
func (f *field) what() string {
	switch {
	case f.typ == nil:
		return "a text"
	case f.typ == reflect.TypeFor[Bytes]():
		return "a size"
	case f.typ == reflect.TypeFor[Count]():
		return "a whole number"
	case f.typ == reflect.TypeFor[Duration]():
		return "a duration"
	case f.typ.Kind() == reflect.Bool:
		return "true or false"
	case len(f.enum) > 0:
		return oneOfList(f.enum)
	}
	return "a text"
}

var shapes sync.Map // reflect.Type to *shape: a cache of what the types say, the same for ever

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := &shape{}
	for i := range t.NumField() {
		sf := t.Field(i)
		tag := sf.Tag
		switch sf.Type {
		case reflect.TypeFor[later]():
			s.later = append(s.later, strings.Fields(tag.Get("keys"))...)
			continue
		case reflect.TypeFor[oneOf]():
			s.union, s.unionDefault = true, tag.Get("default")
			continue
		}
		f := &field{index: i, goName: sf.Name, name: tag.Get("key"), typ: sf.Type, required: tag.Get("required") == "true",
			min: tag.Get("min"), max: tag.Get("max"), zero: tag.Get("zero"), expect: tag.Get("expect"),
			url: tag.Get("url") == "true", zone: tag.Get("zone") == "true", notInSpec: tag.Get("spec") == "-", sparse: tag.Get("spec") == "changed", restart: tag.Get("restart") == "true"}
		f.def, f.hasDefault = tag.Lookup("default")
		if e := cmp.Or(tag.Get("enum"), tag.Get("word")); e != "" {
			f.enum = strings.Split(e, "|")
		}
		if p := tag.Get("pattern"); p != "" {
			f.pattern = regexp.MustCompile(p)
		}
		if _, ok := tag.Lookup("word"); ok {
			s.word, s.several = f, tag.Get("with") == "several"
			continue
		}
		if f.name == "" {
			panic("bug: config field " + t.Name() + "." + sf.Name + " has no key")
		}
		if tag.Get("later") == "true" {
			s.later = append(s.later, f.name)
			continue
		}
		s.fields = append(s.fields, f)
	}
	s.keys = append(s.names(), s.later...)
	for _, f := range s.fields {
		if f.typ == reflect.TypeFor[Secret]() {
			s.secrets = true
			s.keys = append(s.keys, f.name+"_file")
		}
	}
	shapes.Store(t, s)
	return s
}

// scan sets v from text, or says what is wrong with it.
func (f *field) scan(v reflect.Value, text string, spec bool) (problem, remedy string) {
	switch p := v.Addr().Interface().(type) {
	case *Bytes:
		b, err := ParseBytes(text)
		if err != nil {
			return "is not a size", err.Error()
		}
		*p = b
		if spec || b == 0 && f.zero != "" {
			return "", ""
		}
		lo, hi := bytesOr(f.min, 0), bytesOr(f.max, 1<<62)
		return f.outside(b < lo, b > hi)
	case *Count:
		n, err := ParseCount(text)
		if err != nil {
			return "is not a whole number", err.Error()
		}
		*p = n
		if spec || n == 0 && f.zero != "" {
			return "", ""
		}
		return f.outside(n < countOr(f.min, 0), n > countOr(f.max, 1<<62))
	case *Duration:
		t, err := ParseDuration(text)
		if err != nil {
			return "is not a duration", err.Error()
		}
		*p = t
		if spec || t == 0 && f.zero != "" {
			return "", ""
		}
		lo, hi := durationOr(f.min, 0), durationOr(f.max, 1<<62)
		return f.outside(t < lo, t > hi)
	case *Secret:
		switch {
		case spec:
			*p = Secret{set: true, gone: true}
		case text != "":
			*p = NewSecret(text)
		}
		return "", ""
	case *bool:
		switch text {
		case "true":
			*p = true
		case "false":
			*p = false
		default:
			return "is not true or false", ""
		}
		return "", ""
	case *string:
		*p = text
		if spec {
			return "", ""
		}
		return f.checkText(text)
	}
	panic("bug: config field " + f.name + " has a type that has no scalar form: " + v.Type().String())
}

func (f *field) outside(below, above bool) (problem, remedy string) {
	limits := "from " + f.min + " to " + f.max
	if f.zero != "" {
		limits = "0 (" + f.zero + "), or " + limits
	}
	switch {
	case below:
		return "is below the least, " + f.min, "allowed: " + limits
	case above:
		return "is above the most, " + f.max, "allowed: " + limits
	}
	return "", ""
}

func bytesOr(s string, none Bytes) Bytes {
	if s == "" {
		return none
	}
	b, err := ParseBytes(s)
	if err != nil {
		panic("bug: limit " + s + " of a config field: " + err.Error())
	}
	return b
}

func countOr(s string, none Count) Count {
	if s == "" {
		return none
	}
	n, err := ParseCount(s)
	if err != nil {
		panic("bug: limit " + s + " of a config field: " + err.Error())
	}
	return n
}

func durationOr(s string, none Duration) Duration {
	if s == "" {
		return none
	}
	d, err := ParseDuration(s)
	if err != nil {
		panic("bug: limit " + s + " of a config field: " + err.Error())
	}
	return d
}

func (f *field) checkText(text string) (problem, remedy string) {
	switch {
	case len(f.enum) > 0:
		if slices.Contains(f.enum, text) {
			return "", ""
		}
		remedy = "write " + oneOfList(f.enum)
		if best := nearest(text, f.enum); best != "" {
			remedy = "did you mean " + best + "? " + strings.ToUpper(remedy[:1]) + remedy[1:]
		}
		return "is not " + oneOfList(f.enum), remedy
	case f.required && text == "":
		return "is empty", f.expect
	case f.pattern != nil && !f.pattern.MatchString(text):
		return "cannot be taken", "wanted: " + f.expect
	case f.url && text != "":
		return checkURL(text)
	case f.zone:
		if text == "" || text == "Local" {
			return "is not a time zone", "write an IANA name, like UTC or Europe/Berlin"
		}
		if _, err := time.LoadLocation(text); err != nil {
			return "is not a known time zone", "write an IANA name, like UTC or Europe/Berlin"
		}
	}
	return "", ""
}

func checkURL(text string) (problem, remedy string) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "is not a URL", "write it like https://host:port"
	case u.User != nil:
		return "has a user or a password in it", "credentials have keys of their own"
	case u.RawQuery != "" || u.Fragment != "":
		return "has a query or a fragment in it", "write it like https://host:port"
	}
	return "", ""
}
