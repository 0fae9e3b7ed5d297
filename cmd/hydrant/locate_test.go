package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hydrant/sinks"
)

// fakeCatalog is a store that counts who asks.
type fakeCatalog struct {
	mu      sync.Mutex
	objects map[string]map[string]string
	asked   int
}

func (f *fakeCatalog) List(_ context.Context, prefix string, found func(string, int64) bool) error {
	for key := range f.objects {
		if strings.HasPrefix(key, prefix) && !found(key, 1) {
			return nil
		}
	}
	return nil
}

func (f *fakeCatalog) Describe(_ context.Context, key string) (map[string]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	meta, ok := f.objects[key]
	if !ok {
		return nil, errors.New("not there")
	}
	return meta, nil
}

// put adds an object that took [first, next) and begins with firstSeq, minutes after the beginning.
func (f *fakeCatalog) put(top, stream string, minutes int, incarnation, first, next, firstSeq uint64) string {
	at := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC).Add(time.Duration(minutes) * time.Minute)
	key := fmt.Sprintf("%s%s/%s-1-%s-00000000-0000-4000-8000-%012x", top, at.Format("2006/01/02/15"), stream, at.Format("2006-01-02-15-04-05"), len(f.objects))
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	f.objects[key] = map[string]string{
		sinks.MetaRole: "data", sinks.MetaDirectory: "d1", sinks.MetaIncarnation: number(incarnation), sinks.MetaRangeFirst: number(first), sinks.MetaRangeNext: number(next),
		sinks.MetaFirstSeq: number(firstSeq), sinks.MetaCount: "1", sinks.MetaManifestID: fmt.Sprintf("m%d", first), sinks.MetaStream: stream,
	}
	return key
}

// A record's objects are found among ten thousand by asking few of them, whatever else lies there.
func TestSearch(t *testing.T) {
	f := &fakeCatalog{objects: map[string]map[string]string{}}
	keys := map[uint64][]string{} // by the first position of a range of 10
	for i := range uint64(5000) {
		// Two objects of a manifest, one of another data directory, and one of another stream.
		keys[i*10] = append(keys[i*10], f.put("lake/", "clicks", int(i), 7, i*10, i*10+10, i*10), f.put("lake/", "clicks", int(i), 7, i*10, i*10+10, i*10+5))
		if i%3 == 0 {
			f.objects[f.put("lake/", "clicks", int(i), 7, i*10, i*10+10, i*10)][sinks.MetaDirectory] = "d2"
			f.put("lake/", "other-clicks", int(i), 7, i*10, i*10+10, i*10)
		}
	}
	f.objects["lake/somebody-elses"] = nil
	find := func(first, next uint64) (found []string, asked int) {
		t.Helper()
		f.asked = 0
		s := search{shelf: shelf{stream: "clicks", place: "fake", catalog: f, below: "lake/"}, want: wanted{"d1", 7, first, next}, tell: func(string) {}}
		list, err := s.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if next == first+1 {
			list = narrow(list, first, func(string) bool { return false })
		}
		for _, o := range list {
			found = append(found, o.Key)
		}
		return found, f.asked
	}
	for _, c := range []struct {
		first, next uint64
		want        []string
	}{
		{0, 1, keys[0][:1]}, {4, 5, keys[0][:1]}, {5, 6, keys[0][1:]}, {31234, 31235, keys[31230][:1]}, {49999, 50000, keys[49990][1:]},
		{50000, 50001, nil}, {100, 112, slices.Concat(keys[100], keys[110][:1])},
	} {
		got, asked := find(c.first, c.next)
		if !slices.Equal(got, c.want) {
			t.Errorf("[%d, %d) is in %q, want %q", c.first, c.next, got, c.want)
		}
		if asked > 600 {
			t.Errorf("[%d, %d): %d of %d objects were asked", c.first, c.next, asked, len(f.objects))
		}
	}
}

func TestReadMeta(t *testing.T) {
	sound := map[string]string{
		sinks.MetaRole: "data", sinks.MetaDirectory: "d", sinks.MetaIncarnation: "1", sinks.MetaRangeFirst: "1", sinks.MetaRangeNext: "2", sinks.MetaFirstSeq: "1", sinks.MetaCount: "1",
	}
	if _, ok := readMeta(sound); !ok {
		t.Error("sound metadata say nothing")
	}
	for key, bad := range map[string]string{sinks.MetaRole: "", sinks.MetaDirectory: "", sinks.MetaIncarnation: "x", sinks.MetaRangeFirst: "2", sinks.MetaRangeNext: "", sinks.MetaFirstSeq: "-1", sinks.MetaCount: "many"} {
		meta := map[string]string{}
		for k, v := range sound {
			meta[k] = v
		}
		meta[key] = bad
		if o, ok := readMeta(meta); ok {
			t.Errorf("%s of %q reads as %+v", key, bad, o)
		}
	}
}

// Lives of a stream that came before or after are passed by without asking all their objects.
func TestSearchAmongLives(t *testing.T) {
	f := &fakeCatalog{objects: map[string]map[string]string{}}
	var keys []string
	for life := range uint64(3) {
		for i := range uint64(3000) {
			key := f.put("lake/", "clicks", int(life*3000+i), life+1, i*10, i*10+10, i*10)
			if life == 1 {
				keys = append(keys, key)
			}
		}
	}
	for _, i := range []int{0, 1500, 2999} {
		f.asked = 0
		s := search{shelf: shelf{stream: "clicks", place: "fake", catalog: f, below: "lake/"}, want: wanted{"d1", 2, uint64(i * 10), uint64(i*10 + 1)}, tell: func(string) {}}
		list, err := s.run(t.Context())
		if err != nil || len(list) != 1 || list[0].Key != keys[i] {
			t.Errorf("object %d of the second life: found %+v, %v; want %s", i, list, err, keys[i])
		}
		if f.asked > 300 {
			t.Errorf("object %d: %d of %d objects were asked", i, f.asked, len(f.objects))
		}
	}
}

// Of the objects of a manifest those are left that may have the record: the ones before it or of another hour may not, but for
// rows of a record that was taken apart, and for errors, whose faults lie side by side.
func TestNarrow(t *testing.T) {
	object := func(role, route, id string, first uint64) located {
		return located{Stream: "s", Role: role, Manifest: "m", Key: route + "s-1-2026-11-25-00-00-00-00000000-0000-4000-8000-00000000000" + id, FirstSeq: first}
	}
	list := []located{
		object("data", "00/", "1", 1), object("data", "00/", "2", 3), object("data", "00/", "3", 5), object("data", "00/", "4", 5),
		object("data", "01/", "5", 2), object("error", "e/", "6", 1), object("error", "e/", "7", 4),
		object("backup", "00/", "8", 1), object("backup", "00/", "9", 5),
	}
	for _, c := range []struct {
		seq    uint64
		splits bool
		want   string
	}{{5, false, "345679"}, {5, true, "2345679"}, {6, true, "345679"}} {
		var got string
		for _, o := range narrow(list, c.seq, func(string) bool { return c.splits }) {
			got += o.Key[len(o.Key)-1:]
		}
		if got != c.want {
			t.Errorf("record %d, taken apart %v: %s, want %s", c.seq, c.splits, got, c.want)
		}
	}
}
