// Package partition tells which partition a row belongs to: dynamic partitioning and event time.
//
// A row and the keys that a hook gave it flow in; out flows a Key, which says under which evaluated prefix the row is to
// lie, or the reason why nothing can be said. Nothing here does I/O, and the clock is what rows say of their arrival, so
// the same rows in the same order from the same Mark give the same answers, before and after a crash. What has to
// survive one is the Mark alone.
//
// A Scheme is compiled once for a version of a stream and is safe for concurrent use. A Router routes rows in order and
// belongs to one goroutine.
package partition

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hydrant/prefix"
	"hydrant/transform"
	"hydrant/transform/jq"
)

// Error output types and codes, Firehose's but for Late and those that begin with Hydrant.
const (
	MetadataExtractionFailed = "metadata-extraction-failed"
	Late                     = "late"

	codeExtraction = "DynamicPartitioning.MetadataExtractionFailed"
	codeEventTime  = "Hydrant.EventTime"
	codeObjectKey  = "Hydrant.ObjectKey"
	codeLate       = "Hydrant.Late"
)

// Firehose's messages. Details follow after a colon.
const (
	messageNotJSON = "Non JSON record provided"
	messageEmpty   = "partitionKeys values must not be null or empty"
)

// Options of a Scheme.
type Options struct {
	// Prefix of data objects, parsed as prefix.PartitionedPrefix.
	Prefix *prefix.Template
	// Location in which the prefix prints times; nil: UTC.
	Location *time.Location
	// Keys are jq expressions by the name under which the prefix prints them from namespace partitionKeyFromQuery.
	Keys map[string]string
	// Hooks is whether something gives keys of namespace partitionKeyFromLambda.
	Hooks bool
	// EventTime, or nil: then a row's time is its arrival.
	EventTime *EventTime
	// Trusting leaves it to others to find out that a row is no JSON or has a member twice. Then a row of plain paths is
	// read only as far as it has to be. A row of which something else is wrong may be routed by what stands before it.
	Trusting bool
	// Check tells why no object can have an evaluated prefix, for example because it is too long; nil: never.
	Check func(prefix string) error
	// CacheBytes bounds the prefixes that a Router remembers; 0: DefaultCacheBytes.
	CacheBytes int
}

// EventTime is how a row says when what it is about happened.
type EventTime struct {
	// Field is the path of the time, as in transform.ParsePath.
	Field string
	// Formats are tried in order: rfc3339, unix_s, unix_ms, unix_us, unix_ns, or a pattern of Java's DateTimeFormatter.
	Formats []string
	// Location of times that do not say theirs; nil: UTC.
	Location *time.Location
	// AllowedLateness is how far the watermark stays behind the latest event time.
	AllowedLateness time.Duration
	// Quarantine sends rows that are older than the watermark to the error output.
	Quarantine bool
}

// DefaultCacheBytes is room for about 20,000 prefixes of usual length.
const DefaultCacheBytes = 8 << 20

// Fault is an option that is wrong.
type Fault struct {
	Field   string // as in the configuration: keys.NAME, event_time.field, event_time.formats[1], prefix; "": all of it
	Value   string
	Problem string
	Remedy  string
}

// Faults is every fault of Options.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, x := range f {
		lines[i] = fmt.Sprintf("%s %q %s", x.Field, x.Value, x.Problem)
		if x.Remedy != "" {
			lines[i] += ": " + x.Remedy
		}
	}
	return strings.Join(lines, "; ")
}

// Scheme is compiled Options. Immutable, safe for concurrent use.
type Scheme struct {
	prefix   *prefix.Template
	location *time.Location
	check    func(string) error
	trusting bool
	cache    int

	keys    []key      // in the order of the template
	queries bool       // some key is a query
	plain   bool       // and all are plain paths
	tree    *branch    // of the paths that are looked for
	slots   int        // values that it finds
	time    *eventTime // or nil
	granule int64      // seconds; within one the prefix hardly ever changes, 0: it has no time
}

// key is one value that the prefix prints.
type key struct {
	name  string
	query *jq.Query // nil: from a hook
	slot  int       // of a plain path
}

// eventTime is compiled.
type eventTime struct {
	path       transform.Path
	formats    []timeFormat
	location   *time.Location
	lateness   int64 // µs
	quarantine bool
	slot       int
}

// maxPath bounds the names of an expression that is looked for without a parse. transform.ParsePath has its own bound.
const maxPath = 64

// New compiles options. Its errors are Faults.
func New(o Options) (*Scheme, error) {
	s := &Scheme{prefix: o.Prefix, location: o.Location, check: o.Check, trusting: o.Trusting, cache: o.CacheBytes, plain: true, tree: &branch{}}
	if s.location == nil {
		s.location = time.UTC
	}
	if s.cache == 0 {
		s.cache = DefaultCacheBytes
	}
	var faults Faults
	fault := func(field, value, problem, remedy string) {
		faults = append(faults, Fault{field, value, problem, remedy})
	}
	shown := map[string]bool{}
	for _, k := range o.Prefix.Keys() {
		switch k.Namespace {
		case prefix.FromLambda:
			if !o.Hooks {
				fault("prefix", k.String(), "is a key that nothing gives", "add an http or lambda entry to transform, whose answers carry metadata.partitionKeys")
			}
			s.keys = append(s.keys, key{name: k.Name})
		case prefix.FromQuery:
			shown[k.Name] = true
			text, ok := o.Keys[k.Name]
			if !ok {
				fault("prefix", k.String(), "is a key that partition.keys does not have", "add "+k.Name+" there with a jq expression"+similar(k.Name, o.Keys))
				continue
			}
			q, err := jq.NewQuery(jq.Options{Expression: text})
			if err != nil {
				fault("keys."+k.Name, text, "is not a jq expression: "+err.Error(), "")
				continue
			}
			s.queries = true
			s.keys = append(s.keys, s.query(k.Name, q))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Keys)) {
		if !shown[name] {
			fault("keys."+name, o.Keys[name], "is not in the prefix", "put "+prefix.Key{Namespace: prefix.FromQuery, Name: name}.String()+" there, or take the key out")
		}
	}
	if o.EventTime != nil {
		t, more := newEventTime(o.EventTime)
		faults = append(faults, more...)
		if t != nil {
			t.slot = s.want(t.path.Names())
			s.time = t
		}
	}
	if len(s.keys) == 0 && o.EventTime == nil && len(faults) == 0 {
		fault("", "", "says nothing", "give keys that the prefix shows, or event_time")
	}
	if len(faults) > 0 {
		return nil, faults
	}
	if s.prefix.HasTime() {
		from, until := s.prefix.SameRoute(prefix.Values{Time: time.Unix(0, 0).UTC()})
		switch length := until.Sub(from); {
		case length >= 15*time.Minute: // offsets of zones are multiples of that, but for some of long ago
			s.granule = 15 * 60
		case length >= time.Minute:
			s.granule = 60
		default:
			s.granule = 1
		}
	}
	return s, nil
}

// query makes a key of an expression.
func (s *Scheme) query(name string, q *jq.Query) key {
	path, ok := q.Path()
	if !ok || len(path) == 0 || len(path) > maxPath {
		s.plain = false
		return key{name: name, query: q}
	}
	return key{name: name, query: q, slot: s.want(path)}
}

// want adds a path to the tree and returns the slot in which its value will be.
func (s *Scheme) want(path []string) int {
	slot := s.tree.add(path, s.slots)
	if slot == s.slots {
		s.slots++
	}
	return slot
}

// similar is a hint where a key is only written differently.
func similar(name string, keys map[string]string) string {
	for k := range keys {
		if strings.EqualFold(k, name) {
			return "; it has " + k
		}
	}
	return ""
}

func newEventTime(o *EventTime) (*eventTime, Faults) {
	t := &eventTime{location: o.Location, lateness: o.AllowedLateness.Microseconds(), quarantine: o.Quarantine}
	if t.location == nil {
		t.location = time.UTC
	}
	var faults Faults
	var err error
	if t.path, err = transform.ParsePath(o.Field); err != nil {
		faults = append(faults, Fault{"event_time.field", o.Field, "is not a path: " + err.Error(), ""})
	} else if t.path.Each() {
		faults = append(faults, Fault{"event_time.field", o.Field, "can name several values", "name one, without []"})
	}
	if o.AllowedLateness < 0 {
		faults = append(faults, Fault{"event_time.allowed_lateness", o.AllowedLateness.String(), "is negative", ""})
	}
	if len(o.Formats) == 0 {
		faults = append(faults, Fault{"event_time.formats", "", "is empty", "give at least one, like rfc3339"})
	}
	numbers := ""
	for i, text := range o.Formats {
		field := fmt.Sprintf("event_time.formats[%d]", i)
		if slices.Contains(o.Formats[:i], text) {
			faults = append(faults, Fault{field, text, "is there twice", "keep one"})
			continue
		}
		f, err := newTimeFormat(text)
		switch {
		case err != nil:
			faults = append(faults, Fault{field, text, "is no format of times: " + err.Error(), "formats are rfc3339, unix_s, unix_ms, unix_us, unix_ns, or a pattern like yyyy/MM/dd HH:mm"})
			continue
		case f.unix() && numbers != "":
			faults = append(faults, Fault{field, text, "is never reached, since " + numbers + " takes every number", "keep one of them"})
			continue
		case f.unix():
			numbers = text
		}
		t.formats = append(t.formats, f)
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return t, nil
}
