package partition

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"strings"
	"time"
	"unicode/utf8"

	"hydrant/prefix"
	"hydrant/record"
	"hydrant/transform"
)

// Key is a partition. Equal keys are equal partitions: compare keys or their hashes, which are as good. Two keys may have
// the same Prefix, where a value has a slash that the prefix has too; an object never holds rows of both.
type Key struct {
	// Hash of the prefix and of the values of its keys. It is the same in every process.
	Hash [16]byte
	// Prefix is what the template's Finish makes the first part of an object's key of.
	Prefix string
}

// Placed is where a row belongs.
type Placed struct {
	Key
	Time int64 // of the row: its event time, or its arrival where the scheme has none; µs since the Unix epoch
	// Until is the first instant after Time at which the prefix may print another time; 0 where it prints none.
	Until int64
	Late  bool // its event time is before the watermark at its arrival
}

// Router routes rows in order. Not safe for concurrent use.
type Router struct {
	s    *Scheme
	mark Mark

	scan  scanner
	doc   transform.Document
	large bool     // the record in doc was
	made  []string // values of keys, in the order of Scheme.keys; those of queries as far as they were made

	last  *span     // of the row before
	spans [256]span // by granule of time
	clock zone      // of event times

	seed  maphash.Seed
	probe []byte
	front [512]*remembered       // of young, by the end of the hash: most rows find theirs here
	young map[uint64]*remembered // a full generation becomes the old one, and the old one goes
	old   map[uint64]*remembered
	size  int // bytes of young
}

// span is instants in which the prefix prints the same time.
type span struct{ from, until int64 } // µs

// remembered is a prefix that was rendered.
type remembered struct {
	hash  uint64
	probe []byte
	key   Key
}

// NewRouter makes a router that goes on from mark.
func (s *Scheme) NewRouter(mark Mark) *Router {
	r := &Router{s: s, mark: mark, seed: maphash.MakeSeed(), young: map[uint64]*remembered{}}
	r.scan = scanner{tree: s.tree, views: make([]view, s.slots)}
	r.made = make([]string, len(s.keys))
	if s.time != nil {
		r.clock = zone{location: s.time.location}
	}
	return r
}

// Mark is how far the rows so far have brought the stream.
func (r *Router) Mark() Mark { return r.mark }

// Rewind makes the router go on from mark: rows that were routed since will come again.
func (r *Router) Rewind(mark Mark) { r.mark = mark }

// Route places a row. keys are what a hook returned for it (metadata.partitionKeys), or nil. On plain paths it allocates
// nothing for a partition that it knows.
//
// A failure has the type of the error output, the code and the message of the error record. Of several reasons it is the
// first: no JSON, keys from queries in the order of the prefix, event time, keys from hooks, the prefix, lateness.
func (r *Router) Route(row record.Row, keys map[string]string) (Placed, *transform.Failure) {
	p, f := r.route(row, keys)
	if f != nil {
		return Placed{}, f
	}
	return p, nil
}

func (r *Router) route(row record.Row, keys map[string]string) (Placed, *transform.Failure) {
	s := r.s
	p := Placed{Time: row.Arrived}
	parsed := false // and then made has the values of queries
	if s.slots > 0 || s.queries {
		quick := false
		if s.plain {
			if s.trusting {
				quick = r.scan.skim(row.Data)
			} else {
				quick = r.scan.scan(row.Data)
			}
		}
		if !quick {
			parsed = true
			if f := r.parse(row.Data, row.Meta); f != nil {
				return p, f
			}
		}
	}
	if s.time != nil {
		var f *transform.Failure
		if parsed {
			p.Time, f = r.parsedTime()
		} else {
			p.Time, f = r.viewedTime()
			if f != nil {
				if first := r.viewQueries(); first != nil {
					return p, first
				}
			}
		}
		if f != nil {
			return p, f
		}
	}
	probe := r.probe[:0]
	if s.granule > 0 {
		sp := r.spanOf(p.Time)
		p.Until = sp.until
		probe = binary.LittleEndian.AppendUint64(probe, uint64(sp.from))
	}
	for i := range s.keys {
		k := &s.keys[i]
		switch {
		case k.query == nil:
			v := keys[k.name]
			r.made[i] = v
			probe = append(binary.AppendUvarint(probe, uint64(len(v))), v...)
		case parsed:
			probe = append(append(binary.AppendUvarint(probe, uint64(len(r.made[i]))), 0xFF), r.made[i]...)
		default:
			v := r.scan.views[k.slot]
			probe = append(append(binary.AppendUvarint(probe, uint64(v.end-v.start)), byte(v.kind)), r.scan.text[v.start:v.end]...)
		}
	}
	r.probe = probe
	hash := maphash.Bytes(r.seed, probe)
	front := &r.front[hash%uint64(len(r.front))]
	known := *front
	if known == nil || known.hash != hash || !bytes.Equal(known.probe, probe) {
		if known = r.young[hash]; known == nil || !bytes.Equal(known.probe, probe) {
			var f *transform.Failure
			if known, f = r.render(hash, p.Time, parsed); f != nil {
				return p, f
			}
		}
		*front = known
	}
	p.Key = known.key
	if s.time != nil {
		if f := r.judge(&p, row.Arrived); f != nil {
			return p, f
		}
	}
	return p, nil
}

// judge holds the row's time against the watermark, and then counts it.
func (r *Router) judge(p *Placed, arrived int64) *transform.Failure {
	if at, ok := r.s.Watermark(r.mark, arrived); ok && p.Time < at {
		p.Late = true
		if r.s.time.quarantine {
			return &transform.Failure{Type: Late, Code: codeLate, Message: fmt.Sprintf("The event time %s is before the watermark, %s: it came later than allowed_lateness allows, %s.",
				printed(p.Time), printed(at), time.Duration(r.s.time.lateness)*time.Microsecond)}
		}
		return nil
	}
	r.mark.observe(p.Time, arrived)
	return nil
}

func printed(at int64) string { return time.UnixMicro(at).UTC().Format(time.RFC3339Nano) }

// parse finds the values of queries by a full parse.
func (r *Router) parse(data, meta []byte) *transform.Failure {
	if r.large { // what it holds is of no use to rows of usual size
		r.doc = transform.Document{}
	}
	r.large = len(data) > keptBytes
	r.doc.Reset(data)
	root, err := r.doc.Root()
	if err != nil {
		return &transform.Failure{Type: MetadataExtractionFailed, Code: codeExtraction, Message: messageNotJSON + ": " + err.Error()}
	}
	if !r.s.queries {
		return nil
	}
	value := r.doc.Value(root)
	for i := range r.s.keys {
		k := &r.s.keys[i]
		if k.query == nil {
			continue
		}
		v, err := k.query.Value(value, meta)
		if err != nil {
			return &transform.Failure{Type: MetadataExtractionFailed, Code: codeExtraction, Message: fmt.Sprintf("The expression of key %q failed on this record: %v", k.name, err)}
		}
		text, problem := valueOf(v)
		if f := k.check(text, problem); f != nil {
			return f
		}
		r.made[i] = text
	}
	return nil
}

// viewQueries makes the values of queries of what was scanned.
func (r *Router) viewQueries() *transform.Failure {
	for i := range r.s.keys {
		k := &r.s.keys[i]
		if k.query == nil {
			continue
		}
		text, problem := r.scan.value(r.scan.views[k.slot])
		if f := k.check(text, problem); f != nil {
			return f
		}
		r.made[i] = text
	}
	return nil
}

// check is the failure of a key that has no value.
func (k *key) check(text, problem string) *transform.Failure {
	switch {
	case problem != "":
		return &transform.Failure{Type: MetadataExtractionFailed, Code: codeExtraction, Message: fmt.Sprintf("partitionKeys values must be strings, numbers or booleans: key %q %s", k.name, problem)}
	case text == "":
		return &transform.Failure{Type: MetadataExtractionFailed, Code: codeExtraction, Message: fmt.Sprintf("%s: key %q", messageEmpty, k.name)}
	}
	return nil
}

func (r *Router) viewedTime() (int64, *transform.Failure) {
	t := r.s.time
	v := r.scan.views[t.slot]
	switch v.kind {
	case transform.String:
		text := r.scan.text[v.start:v.end]
		if v.escaped {
			text = transform.AppendUnescaped(nil, text)
		}
		if at, ok := t.read(text, false, &r.clock); ok {
			return at, nil
		}
		return 0, t.unreadable(text)
	case transform.Number:
		text := r.scan.text[v.start:v.end]
		if at, ok := t.read(text, true, &r.clock); ok {
			return at, nil
		}
		return 0, t.unreadable(text)
	}
	return 0, t.missing(v.kind)
}

func (r *Router) parsedTime() (int64, *transform.Failure) {
	t := r.s.time
	root, err := r.doc.Root()
	if err != nil {
		panic("bug: a record that was parsed has no root: " + err.Error())
	}
	v := r.doc.Find(root, t.path)
	var text []byte
	kind := r.doc.Kind(v)
	switch kind {
	case transform.String:
		text = r.doc.StringValue(v)
	case transform.Number:
		text = r.doc.Text(v)
	default:
		return 0, t.missing(kind)
	}
	if at, ok := t.read(text, kind == transform.Number, &r.clock); ok {
		return at, nil
	}
	return 0, t.unreadable(text)
}

func (t *eventTime) missing(kind transform.Kind) *transform.Failure {
	what := "is missing or null"
	if kind != transform.Null {
		what = "is " + kind.String() + ", a string or a number is needed"
	}
	return &transform.Failure{Type: MetadataExtractionFailed, Code: codeEventTime, Message: fmt.Sprintf("The event time %s %s.", t.path, what)}
}

func (t *eventTime) unreadable(text []byte) *transform.Failure {
	return &transform.Failure{Type: MetadataExtractionFailed, Code: codeEventTime,
		Message: fmt.Sprintf("The event time %s is %q, which none of these formats reads as a time of the years 1 to 9999: %s.", t.path, clip(string(text)), t.names())}
}

// clip bounds a piece of a record in a message.
func clip(text string) string {
	const most = 100
	if len(text) <= most {
		return text
	}
	n := most - len("...")
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "..."
}

// spanOf finds the span of an instant.
func (r *Router) spanOf(at int64) *span {
	if l := r.last; l != nil && at >= l.from && at < l.until {
		return l
	}
	second := at / 1e6
	sp := &r.spans[uint64(second/r.s.granule)%uint64(len(r.spans))]
	if at < sp.from || at >= sp.until {
		from, until := r.s.prefix.SameRoute(prefix.Values{Time: time.UnixMicro(at).In(r.s.location)})
		*sp = span{from.UnixMicro(), until.UnixMicro()}
	}
	r.last = sp
	return sp
}

// render makes the key of the values of a row, or finds it in the old generation.
func (r *Router) render(hash uint64, at int64, parsed bool) (*remembered, *transform.Failure) {
	if known := r.old[hash]; known != nil && bytes.Equal(known.probe, r.probe) {
		r.remember(hash, known)
		return known, nil
	}
	s := r.s
	if !parsed {
		if f := r.viewQueries(); f != nil {
			return nil, f
		}
	}
	for i := range s.keys {
		k, text := &s.keys[i], r.made[i]
		if f := k.check(text, ""); f != nil {
			return nil, f
		}
		if len(text) > maxValue {
			return nil, &transform.Failure{Type: MetadataExtractionFailed, Code: codeObjectKey,
				Message: fmt.Sprintf("The value of key %q has %d bytes, and an evaluated prefix may have %d characters: %q.", k.name, len(text), prefix.MaxEvaluated, clip(text))}
		}
	}
	text := s.prefix.Route(prefix.Values{Time: time.UnixMicro(at).In(s.location), Keys: r.made})
	known := &remembered{hash: hash, probe: bytes.Clone(r.probe), key: Key{hashOf(text, r.made), text}}
	evaluated, err := s.prefix.Finish(text, zeros{})
	if err == nil && s.check != nil {
		err = s.check(evaluated)
	}
	if err != nil {
		return nil, &transform.Failure{Type: MetadataExtractionFailed, Code: codeObjectKey, Message: fmt.Sprintf("No object can lie under the prefix of this record, %q: %v.", clip(text), strings.TrimSuffix(err.Error(), "."))}
	}
	r.remember(hash, known)
	return known, nil
}

// maxValue is the most bytes that a value can have in an evaluated prefix.
const maxValue = 3 * prefix.MaxEvaluated

// zeros stands in for what is drawn at random.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// hashOf is the hash of a partition.
func hashOf(text string, values []string) (hash [16]byte) {
	b := append(binary.AppendUvarint(nil, uint64(len(text))), text...)
	for _, v := range values {
		b = append(binary.AppendUvarint(b, uint64(len(v))), v...)
	}
	sum := sha256.Sum256(b)
	copy(hash[:], sum[:])
	return hash
}

// overhead is about what one remembered prefix takes beside its bytes.
const overhead = 160

func (r *Router) remember(hash uint64, known *remembered) {
	size := len(known.probe) + len(known.key.Prefix) + overhead
	if r.size+size > r.s.cache/2 {
		r.old, r.young, r.size = r.young, make(map[uint64]*remembered, len(r.young)), 0
		clear(r.front[:])
	}
	r.young[hash] = known
	r.size += size
}
