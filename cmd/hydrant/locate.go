package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"hydrant/config"
	"hydrant/delivery"
	"hydrant/prefix"
	"hydrant/sinks"
)

// located is an object that may have a record, or some of a range.
type located struct {
	Stream   string `json:"stream"`
	Role     string `json:"role"`  // data, error or backup
	Place    string `json:"place"` // kind and place
	Key      string `json:"key"`
	Manifest string `json:"manifest_id"`
	First    uint64 `json:"range_first"` // positions [first, next) that its manifest took
	Next     uint64 `json:"range_next"`
	FirstSeq uint64 `json:"first_seq"` // of its first record
	Count    int64  `json:"records"`
	Waits    bool   `json:"in_data_directory,omitempty"` // it may not be in its place yet

	directory   string
	incarnation uint64
}

// readMeta reads what says where an object's records come from; false where it does not say.
func readMeta(meta map[string]string) (o located, ok bool) {
	var err error
	number := func(key string) (n uint64) {
		if err == nil {
			n, err = strconv.ParseUint(meta[key], 10, 64)
		}
		return n
	}
	o = located{Role: meta[sinks.MetaRole], Manifest: meta[sinks.MetaManifestID], directory: meta[sinks.MetaDirectory]}
	o.First, o.Next, o.FirstSeq = number(sinks.MetaRangeFirst), number(sinks.MetaRangeNext), number(sinks.MetaFirstSeq)
	o.Count, o.incarnation = int64(min(number(sinks.MetaCount), math.MaxInt64)), number(sinks.MetaIncarnation)
	return o, err == nil && o.directory != "" && o.Role != "" && o.First < o.Next
}

// shelf is where some objects of a stream lie: below a prefix of one place.
type shelf struct {
	stream  string
	place   string
	catalog sinks.Catalog
	below   string
}

// shelves are those of a stream, none of which lies below another. close ends their connections.
func (p *parts) shelves(s *config.Stream) (list []shelf, close func(), err error) {
	pipe, flaws := p.pipeline(p.now.Load(), s.Name, s)
	if err := joined(flaws); err != nil {
		return nil, nil, fmt.Errorf("stream %q: %w", s.Name, err)
	}
	closers := []func(){func() { closeSinks(pipe) }}
	add := func(d *delivery.Destination, t *prefix.Template) {
		c, ok := d.Sink.(sinks.Catalog)
		if !ok || t == nil {
			return
		}
		at := shelf{stream: s.Name, place: d.Kind + " " + strings.TrimSpace(d.Place), catalog: c, below: fixedPart(t)}
		for i, other := range list {
			switch {
			case other.place != at.place:
			case strings.HasPrefix(at.below, other.below):
				return
			case strings.HasPrefix(other.below, at.below):
				list[i] = at
				return
			}
		}
		list = append(list, at)
	}
	errs := &pipe.Destination
	if pipe.Errors.Sink != nil {
		errs = &pipe.Errors
	}
	add(&pipe.Destination, pipe.Prefix)
	add(errs, pipe.ErrorPrefix)
	if s.KeepsAll() {
		own, flaws := p.backupPlace(p.now.Load(), s.Name, s, "source")
		if err := joined(flaws); err != nil {
			return nil, nil, fmt.Errorf("stream %q: %w", s.Name, err)
		}
		closers = append(closers, func() { own.Destination.Sink.Close() })
		add(&own.Destination, own.Prefix)
		add(&own.Destination, own.ErrorPrefix)
	}
	return list, func() {
		for _, f := range closers {
			f()
		}
	}, nil
}

// wanted are positions of one stream's life.
type wanted struct {
	directory   string
	incarnation uint64
	first, next uint64
}

func (w *wanted) has(o *located) bool {
	return o.directory == w.directory && o.incarnation == w.incarnation
}

// entry is a listed object, with what it says once it was asked.
type entry struct {
	key   string
	at    string // the time in its name
	asked bool
	said  *located // nil: nothing, or of another directory or incarnation
	life  int      // -1: of an earlier incarnation of the directory, 1: of a later one
}

// search finds the objects of one shelf whose manifests took wanted positions. Positions go with arrivals, and names have the
// arrival of the oldest record: so the place in the list is found by halving, and few objects are asked for their metadata.
type search struct {
	shelf   shelf
	want    wanted
	entries []entry
	tell    func(string) // how far it is
	asked   int
	silent  int // objects that keep no positions
}

// searchSlack is how many objects in a row must be beyond the wanted positions for the search to end there: partitions of one
// epoch lie side by side with the same range, and a clock that was set back or a late retry scatters few.
const searchSlack = 64

// searchAtOnce is how many objects are asked at a time.
const searchAtOnce = 16

// objectNames matches the end of the keys of a stream's objects: version, time of arrival, UUID.
func objectNames(stream string) *regexp.Regexp {
	return regexp.MustCompile(regexp.QuoteMeta(stream) + `-\d+-(\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}[^/]*$`)
}

// list reads the names below the shelf's prefix.
func (s *search) list(ctx context.Context) error {
	names := objectNames(s.shelf.stream)
	err := s.shelf.catalog.List(ctx, s.shelf.below, func(key string, _ int64) bool {
		if m := names.FindStringSubmatch(key); m != nil {
			s.entries = append(s.entries, entry{key: key, at: m[1]})
			if len(s.entries)%1000 == 0 {
				s.tell(fmt.Sprintf("%s: %d objects listed", s.shelf.place, len(s.entries)))
			}
		}
		return true
	})
	slices.SortFunc(s.entries, func(a, b entry) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.key, b.key)) })
	return err
}

// ask gets what the objects [from, to) say.
func (s *search) ask(ctx context.Context, from, to int) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for i := max(from, 0); i < min(to, len(s.entries)); i++ {
		e := &s.entries[i]
		if e.asked {
			continue
		}
		e.asked = true
		s.asked++
		wg.Go(func() {
			meta, err := s.shelf.catalog.Describe(ctx, e.key)
			o, ok := readMeta(meta)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				failed = err
			case !ok:
				s.silent++
			case s.want.has(&o) && cmp.Or(meta[sinks.MetaStream], s.shelf.stream) == s.shelf.stream:
				o.Stream, o.Place, o.Key = s.shelf.stream, s.shelf.place, e.key
				e.said = &o
			case o.directory == s.want.directory:
				e.life = cmp.Compare(o.incarnation, s.want.incarnation)
			}
		})
	}
	wg.Wait()
	s.tell(fmt.Sprintf("%s: %d of %d objects asked", s.shelf.place, s.asked, len(s.entries)))
	return failed
}

// run returns the objects, in the order of their positions.
func (s *search) run(ctx context.Context) (found []located, err error) {
	if err := s.list(ctx); err != nil {
		return nil, err
	}
	// The first object whose range does not end before the wanted one.
	low, high := 0, len(s.entries)
	for low < high {
		middle := low + (high-low)/2
		at := middle
		for ; at < high; at++ {
			if err := s.ask(ctx, at, min(at+1+min(at-middle, searchAtOnce-1), high)); err != nil {
				return nil, err
			}
			if s.entries[at].said != nil || s.entries[at].life != 0 {
				break
			}
		}
		switch {
		case at == high || s.entries[at].life > 0:
			high = middle
		case s.entries[at].life < 0:
			low = at + 1
		case s.entries[at].said.Next <= s.want.first:
			low = at + 1
		default:
			high = middle
		}
	}
	// All around it that have some.
	for _, step := range []int{1, -1} {
		beyond := 0
		for at := low + min(step, 0); at >= 0 && at < len(s.entries) && beyond < searchSlack; at += step {
			from, to := at, at+searchAtOnce
			if step < 0 {
				from, to = at-searchAtOnce+1, at+1
			}
			if err := s.ask(ctx, from, to); err != nil {
				return nil, err
			}
			o := s.entries[at].said
			switch {
			case o == nil && s.entries[at].life == 0:
			case o == nil:
				beyond++
			case o.First < s.want.next && o.Next > s.want.first:
				beyond = 0
				if o.FirstSeq < s.want.next {
					found = append(found, *o)
				}
			default:
				beyond++
			}
		}
	}
	sortLocated(found)
	return found, nil
}

func sortLocated(list []located) {
	slices.SortFunc(list, func(a, b located) int {
		return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Role, b.Role), cmp.Compare(a.First, b.First), cmp.Compare(a.FirstSeq, b.FirstSeq), cmp.Compare(a.Key, b.Key))
	})
}

// narrow leaves of the data objects of one manifest and route, and of those of a backup, only the ones that may have a record:
// rows that are not routed by their content lie in them one behind the other. Those of a record that is taken apart, where
// splits says that it may be, begin in the object before and go on over several. Error objects stay: lines of several faults
// lie side by side.
func narrow(list []located, seq uint64, splits func(stream string) bool) (out []located) {
	group := func(o *located) string {
		route := o.Key
		if at := objectNames(o.Stream).FindStringIndex(o.Key); at != nil {
			route = o.Key[:at[0]]
		}
		return o.Manifest + " " + o.Role + " " + o.Place + " " + route
	}
	first := map[string][]uint64{} // positions that objects begin with, the last one at the end
	for i := range list {
		of := group(&list[i])
		first[of] = append(first[of], list[i].FirstSeq)
	}
	for of, begin := range first {
		slices.Sort(begin)
		first[of] = slices.Compact(begin)
	}
	for _, o := range list {
		begin := first[group(&o)]
		from := begin[len(begin)-1]
		if from == seq && len(begin) > 1 && o.Role == "data" && splits(o.Stream) {
			from = begin[len(begin)-2]
		}
		if o.Role == "error" || o.FirstSeq >= from {
			out = append(out, o)
		}
	}
	return out
}
