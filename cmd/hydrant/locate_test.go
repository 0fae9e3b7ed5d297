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
		// Two objects of a manifest, of another life of the stream at the same time, and of another stream.
		keys[i*10] = append(keys[i*10], f.put("lake/", "clicks", int(i), 7, i*10, i*10+10, i*10), f.put("lake/", "clicks", int(i), 7, i*10, i*10+10, i*10+5))
		if i%3 == 0 {
			f.put("lake/", "clicks", int(i), 6, i*10, i*10+10, i*10)
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
			list = narrow(list)
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
