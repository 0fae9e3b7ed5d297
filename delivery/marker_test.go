package delivery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hydrant/buffer"
	"hydrant/partition"
	"hydrant/sinks"
)

const minutePrefix = "k=!{partitionKeyFromQuery:k}/!{timestamp:HH-mm}/"

// checkMarker holds a marker that is sent against what is there: each object that it lists. The caller holds s.mu.
func (s *shop) checkMarker(o sinks.Object, body []byte) {
	var m markerText
	if err := json.Unmarshal(body, &m); err != nil {
		s.t.Errorf("marker %q is no JSON: %v", o.Key, err)
		return
	}
	if id := strings.ReplaceAll(m.ID, "-", ""); id != o.Meta[sinks.MetaManifestID] {
		s.t.Errorf("marker %q has id %s and manifest-id %s", o.Key, m.ID, o.Meta[sinks.MetaManifestID])
	}
	for _, k := range m.Objects {
		there, ok := s.objects[k.Key]
		sum := sha256.Sum256(there.body)
		if !ok || int64(len(there.body)) != k.Bytes || hex.EncodeToString(sum[:]) != k.SHA256 {
			s.t.Errorf("marker %q lists %+v, which is not there so", o.Key, k)
		}
	}
}

// markers are all that are there, by key.
func (s *shop) markers() map[string]markerText {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]markerText{}
	for key, o := range s.objects {
		if strings.Contains(key, "/_SUCCESS") && o.meta[sinks.MetaManifestID] != "theirs" {
			var m markerText
			if err := json.Unmarshal(o.body, &m); err != nil {
				s.t.Errorf("marker %q: %v", key, err)
			}
			out[key] = m
		}
	}
	return out
}

// judgeMarkers checks that what is there is what markers say: each object in exactly one marker, which is of its directory, and
// no marker twice. It returns all that they have counted.
func (s *shop) judgeMarkers() (sum markerText) {
	s.t.Helper()
	listed, ids := map[string]string{}, map[string]string{}
	for key, m := range s.markers() {
		if other, twice := ids[m.ID]; twice {
			s.t.Errorf("marker %s is there as %q and as %q", m.ID, key, other)
		}
		ids[m.ID] = key
		if dir := directoryOfKey(key); dir != m.Directory || m.Accepted != m.Delivered+m.Failed+m.Dropped {
			s.t.Errorf("marker %q: %+v", key, m)
		}
		delivered := int64(0)
		for _, o := range m.Objects {
			if other, twice := listed[o.Key]; twice {
				s.t.Errorf("object %q is in the markers %q and %q", o.Key, key, other)
			}
			listed[o.Key] = key
			if directoryOfKey(o.Key) != m.Directory {
				s.t.Errorf("marker %q lists %q", key, o.Key)
			}
			delivered += o.Records
		}
		if delivered != m.Delivered {
			s.t.Errorf("marker %q has delivered %d in objects of %d", key, m.Delivered, delivered)
		}
		sum.Accepted, sum.Delivered, sum.Failed = sum.Accepted+m.Accepted, sum.Delivered+m.Delivered, sum.Failed+m.Failed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, o := range s.objects {
		if o.meta[sinks.MetaManifestID] == "theirs" || strings.HasPrefix(key, "errors/") || strings.Contains(key, "/_SUCCESS") {
			continue
		}
		if listed[key] == "" {
			s.t.Errorf("object %q is in no marker", key)
		}
	}
	return sum
}

// marked are the markers of a shop, as "key: accepted=delivered+failed complete|early objects".
func marked(w *world) []string {
	var out []string
	for key, m := range w.shop().markers() {
		kind := "early"
		if m.Complete {
			kind = "complete"
		}
		out = append(out, fmt.Sprintf("%s: %d=%d+%d %s %d", key, m.Accepted, m.Delivered, m.Failed, kind, len(m.Objects)))
	}
	slices.Sort(out)
	return out
}

func at(clock string) string { return "2000-01-01T" + clock + "Z" }

func row(k, clock string) string { return fmt.Sprintf(`{"k":"%s","t":"%s"}`, k, at(clock)) }

// markedWorld has one stream s whose directories are of minutes; its clock stands at 00:30:00.
func markedWorld(t *testing.T, c spec, f func(t *testing.T, w *world)) {
	t.Helper()
	c.Marked = true
	if c.Prefix == "" {
		c.Prefix = minutePrefix
	}
	if c.Interval == 0 {
		c.Interval = 10 * time.Second
	}
	keyedWorld(t, c, func(t *testing.T, w *world) {
		time.Sleep(30 * time.Minute)
		f(t, w)
	})
}

// A directory is marked when the watermark passes its end and not before, with what failed in it; late rows make one more
// marker, with what came late and nothing else.
func TestMarkers(t *testing.T) {
	markedWorld(t, spec{}, func(t *testing.T, w *world) {
		w.put("s", row("a", "00:28:10"), row("a", "00:28:50"), row("b", "00:28:10"), `{"k":"a","bad":1,"t":"2000-01-01T00:28:00Z"}`, "no JSON")
		w.flush("s")
		time.Sleep(5 * time.Second)
		equal(t, "markers at watermark 00:27:50", marked(w), []string(nil))
		w.put("s", row("c", "00:29:59.999999"))
		w.flush("s")
		time.Sleep(5 * time.Second)
		equal(t, "markers a microsecond before the end", marked(w), []string(nil))
		if n, there := gauge(t, w, "unmarked_objects"); n != 3 || !there {
			t.Errorf("%v objects wait for their marker", n)
		}
		w.put("s", row("c", "00:30:00"))
		w.flush("s")
		time.Sleep(5 * time.Second)
		want := []string{"k=a/00-28/_SUCCESS.json: 3=2+1 complete 1", "k=b/00-28/_SUCCESS.json: 1=1+0 complete 1"}
		equal(t, "markers at the end", marked(w), want)
		w.put("s", row("a", "00:28:30"), `{"k":"b","bad":1,"t":"2000-01-01T00:28:00Z"}`)
		w.flush("s")
		time.Sleep(5 * time.Second)
		want = []string{"k=a/00-28/_SUCCESS-2.json: 1=1+0 complete 1", want[0], "k=b/00-28/_SUCCESS-2.json: 1=0+1 complete 0", want[1]}
		equal(t, "markers with late rows", marked(w), want)
		w.restart() // and nobody remembers how many there are
		w.put("s", row("a", "00:28:31"))
		w.flush("s")
		time.Sleep(5 * time.Second)
		want = slices.Insert(want, 1, "k=a/00-28/_SUCCESS-3.json: 1=1+0 complete 1")
		equal(t, "markers after a restart", marked(w), want)
		time.Sleep(10 * time.Minute) // idle: the clock goes on
		sum := w.shop().judgeMarkers()
		if sum.Accepted != 9 || sum.Failed != 2 {
			t.Errorf("markers account for %+v", sum)
		}
		if n, _ := gauge(t, w, "unmarked_objects"); n != 0 {
			t.Errorf("%v objects wait for their marker", n)
		}
		if notes, err := w.store.Notes().List(1); err != nil || len(notes) != 0 {
			t.Errorf("notes are left: %q, %v", notes, err)
		}
		w.balanced("s", 10)
	})
}

// An object that is stuck, wherever it lies, keeps every directory of the stream waiting, and rows that come meanwhile are in
// the marker.
func TestMarkersWaitForObjects(t *testing.T) {
	markedWorld(t, spec{}, func(t *testing.T, w *world) {
		w.shop().set(func(o sinks.Object, _ int) *fault {
			if strings.HasPrefix(o.Key, "k=stuck/") {
				return &fault{err: refusal(sinks.Unknown, "")}
			}
			return nil
		})
		w.put("s", row("stuck", "00:29:59"), row("a", "00:20:00"))
		time.Sleep(20 * time.Second)
		w.put("s", row("a", "00:20:00"), row("z", "00:30:00"))
		time.Sleep(time.Hour)
		equal(t, "markers", marked(w), []string(nil))
		w.shop().set(nil)
		w.flush("s")
		time.Sleep(time.Hour)
		equal(t, "markers", marked(w), []string{"k=a/00-20/_SUCCESS.json: 2=2+0 complete 2", "k=stuck/00-29/_SUCCESS.json: 1=1+0 complete 1",
			"k=z/00-30/_SUCCESS.json: 1=1+0 complete 1"})
	})
}

// What became of an object stands in the marker: under another key, as failed where it went to the error output or to a
// directory of the operator's, or was damaged.
func TestMarkersOfReplacedObjects(t *testing.T) {
	for _, restart := range []bool{false, true} {
		markedWorld(t, spec{}, func(t *testing.T, w *world) {
			elsewhere := w.newShop()
			w.directory = func(string) (sinks.Sink, error) { return elsewhere, nil }
			w.restart()
			var allow atomic.Bool
			taken := map[bool]bool{} // an object's key, and a marker's
			w.shop().set(func(o sinks.Object, _ int) *fault {
				w.shop().mu.Lock()
				defer w.shop().mu.Unlock()
				switch {
				case strings.HasPrefix(o.Key, "k=refused/") && !strings.Contains(o.Key, "_SUCCESS"):
					return &fault{err: refusal(sinks.RefusedObject, "KeyTooLong")}
				case strings.HasPrefix(o.Key, "k=foreign/") && !taken[strings.Contains(o.Key, "_SUCCESS")]:
					taken[strings.Contains(o.Key, "_SUCCESS")] = true
					if _, there := w.shop().objects[o.Key]; !there {
						w.shop().objects[o.Key] = shopped{meta: map[string]string{sinks.MetaManifestID: "theirs"}}
					}
				case strings.HasPrefix(o.Key, "k=diverted/") && !allow.Load() && !strings.Contains(o.Key, "_SUCCESS"):
					return &fault{err: refusal(sinks.NotStored, "")}
				}
				return nil
			})
			w.put("s", row("refused", "00:20:00"), row("foreign", "00:20:00"), row("diverted", "00:20:00"), row("diverted", "00:20:01"), row("z", "00:30:00"))
			time.Sleep(30 * time.Second)
			list, err := w.m.Batches("s")
			if err != nil || len(list) != 1 {
				t.Fatalf("batches %+v, %v", list, err)
			}
			if restart {
				w.restart()
			}
			out, err := w.m.Divert(context.Background(), "s", list[0].Manifest, DivertTo{Directory: "/d", Force: true})
			if err != nil || out.Objects != 1 {
				t.Fatalf("diverted %+v, %v", out, err)
			}
			allow.Store(true)
			if restart {
				w.restart()
			}
			w.flush("s")
			time.Sleep(time.Hour)
			equal(t, "markers", marked(w), []string{"k=diverted/00-20/_SUCCESS.json: 2=0+2 complete 0", "k=foreign/00-20/_SUCCESS-2.json: 1=1+0 complete 1",
				"k=refused/00-20/_SUCCESS.json: 1=0+1 complete 0", "k=z/00-30/_SUCCESS.json: 1=1+0 complete 1"})
			w.shop().judgeMarkers()
			if n := len(elsewhere.keys()); n != 1 {
				t.Errorf("%d objects were diverted", n)
			}
		})
	}
}

// An object whose bytes are damaged counts as failed in the marker of its directory.
func TestMarkersOfDamagedObjects(t *testing.T) {
	for _, restart := range []bool{false, true} {
		markedWorld(t, spec{}, func(t *testing.T, w *world) {
			m := w.model()
			if m == nil {
				return // bytes of packs cannot be reached
			}
			w.shop().set(func(sinks.Object, int) *fault { return &fault{err: refusal(sinks.NotStored, "")} })
			w.put("s", row("a", "00:20:00"), row("a", "00:20:01"), row("b", "00:20:01"), row("z", "00:30:00"))
			time.Sleep(30 * time.Second)
			m.disk.mu.Lock()
			for _, man := range m.disk.manifests {
				for i := range man.Objects {
					if strings.HasPrefix(man.Objects[i].Key, "k=a/") {
						man.bytes[i][3]++
					}
				}
			}
			m.disk.mu.Unlock()
			w.shop().set(nil)
			if restart {
				w.restart()
			}
			time.Sleep(2 * time.Hour)
			equal(t, "markers", marked(w), []string{"k=a/00-20/_SUCCESS.json: 2=0+2 complete 0", "k=b/00-20/_SUCCESS.json: 1=1+0 complete 1",
				"k=z/00-30/_SUCCESS.json: 1=1+0 complete 1"})
			w.shop().judgeMarkers()
		})
	}
}

// Above their bound directories get their markers early, those that end first: nothing is left out, and what comes later has a
// marker of its own. At the bound nothing is early.
func TestMarkersAtTheirBound(t *testing.T) {
	const bound = 64 << 10
	one := (&directory{Path: "k=0000/00-29/", Objects: []markedObject{{Key: "k=0000/00-29/" + objectName("s", 1, time.Now(), [16]byte{}, "")}}}).cost()
	most := int(bound / one)
	for _, n := range []int{most, most + 1} {
		keyedWorld(t, spec{Marked: true, Prefix: minutePrefix, Interval: 10 * time.Second}, func(t *testing.T, w *world) {
			time.Sleep(30 * time.Minute)
			rows := make([]string, n)
			for i := range rows {
				rows[i] = row(fmt.Sprintf("%04d", i), "00:29:30")
			}
			w.memory = bound * 32
			w.restart()
			w.put("s", rows...)
			w.flush("s")
			time.Sleep(10 * time.Second)
			early := 0
			for _, m := range w.shop().markers() {
				if !m.Complete {
					early++
				}
			}
			if want := map[bool]int{false: 0, true: n / 2}[n > most]; early < want || want == 0 && early > 0 {
				t.Errorf("%d directories, %d fit: %d markers came early", n, most, early)
			}
			time.Sleep(time.Hour)
			if sum := w.shop().judgeMarkers(); sum.Accepted != int64(n) {
				t.Errorf("markers account for %+v", sum)
			}
		})
	}
}

// A stream that is deleted, or wants no markers any more, marks what it has early; its notes go with it.
func TestMarkersEnd(t *testing.T) {
	markedWorld(t, spec{}, func(t *testing.T, w *world) {
		w.put("s", row("a", "00:29:30"))
		w.flush("s")
		w.apply(map[string]spec{"s": {Keyed: true, Prefix: minutePrefix}})
		time.Sleep(10 * time.Second)
		want := []string{"k=a/00-29/_SUCCESS.json: 1=1+0 early 1"}
		equal(t, "markers that were turned off", marked(w), want)
		w.put("s", row("a", "00:29:30"))
		w.flush("s")
		time.Sleep(2 * time.Hour)
		equal(t, "markers after that", marked(w), want)
		w.apply(map[string]spec{"s": {Keyed: true, Prefix: minutePrefix, Marked: true}})
		w.put("s", row("a", "00:29:30"), row("b", "02:30:00"))
		w.apply(nil)
		time.Sleep(time.Minute)
		if _, there := w.m.Stream("s"); there {
			t.Fatal("the stream is not gone")
		}
		equal(t, "markers of a deleted stream", marked(w), []string{"k=a/00-29/_SUCCESS-2.json: 1=1+0 complete 1", want[0], "k=b/02-30/_SUCCESS.json: 1=1+0 early 1"})
		if notes, err := w.store.Notes().List(1); err != nil || len(notes) != 0 {
			t.Errorf("notes are left: %q, %v", notes, err)
		}
	})
}

// A store that does not take markers holds up nothing but them; what cannot be read makes no markers, and says so.
func TestMarkersAreRefused(t *testing.T) {
	markedWorld(t, spec{}, func(t *testing.T, w *world) {
		w.shop().set(func(o sinks.Object, _ int) *fault {
			if strings.Contains(o.Key, "_SUCCESS") {
				return &fault{err: refusal(sinks.RefusedDestination, "AccessDenied")}
			}
			return nil
		})
		w.put("s", row("a", "00:20:00"), row("b", "00:30:00"))
		w.flush("s")
		time.Sleep(20 * time.Second)
		w.put("s", row("a", "00:20:00"))
		w.flush("s")
		w.restart()
		w.shop().set(nil)
		time.Sleep(10 * time.Minute)
		equal(t, "markers", marked(w), []string{"k=a/00-20/_SUCCESS-2.json: 1=1+0 complete 1", "k=a/00-20/_SUCCESS.json: 1=1+0 complete 1", "k=b/00-30/_SUCCESS.json: 1=1+0 complete 1"})
		w.shop().judgeMarkers()
		if err := w.store.Notes().Write(1, "a-00", []byte("{")); err != nil {
			t.Fatal(err)
		}
		w.restart()
		w.put("s", row("a", "00:20:00"))
		w.flush("s")
		time.Sleep(2 * time.Hour)
		if n := len(marked(w)); n != 3 {
			t.Errorf("%d markers although a note cannot be read", n)
		}
	})
}

// Each note that is written is read as it was, and nothing else is read as one that the book could not work with.
func FuzzBookNote(f *testing.F) {
	account := accounted{Next: 7, Directories: []*directory{{Path: "a/", End: 5, Failed: 1, Objects: []markedObject{{Key: "a/b", Bytes: 3, Records: 1, SHA256: "00"}}}}}
	for _, v := range []any{account, draft{Next: 7, Replaces: "a/b", Directories: account.Directories},
		markerBatch{UsesUp: []string{"a-1"}, Rest: account, Markers: []*marker{{Path: "a/", Number: 2, Kind: markerEarly, Body: json.RawMessage("{}")}}}} {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"directories":[null],"markers":[null],"replaces":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, a, k := &draft{}, &accounted{}, &markerBatch{}
		if parseNote(b, d) == nil {
			d.account(&buffer.Manifest{Objects: []buffer.ObjectInfo{{}}}).cost()
		}
		if parseNote(b, a) == nil {
			a.cost()
		}
		if parseNote(b, k) == nil {
			for _, m := range k.Markers {
				m.object("s")
			}
			again, err := json.Marshal(k)
			if err != nil {
				t.Fatal(err)
			}
			next := &markerBatch{}
			if err := parseNote(again, next); err != nil {
				t.Fatalf("%s: %v", again, err)
			}
			for i := range k.Markers { // the bytes of a marker never change
				once := &markerBatch{}
				if err := parseNote(again, once); err != nil || string(once.Markers[i].Body) != string(next.Markers[i].Body) {
					t.Fatalf("%s is read as %s, %v", next.Markers[i].Body, once.Markers[i].Body, err)
				}
			}
		}
	})
}

// Keys of runs are read back with the end of their directory.
func TestMarkedKeys(t *testing.T) {
	k := appendMarkedKey(nil, &partition.Key{Prefix: "a/b/", Hash: [16]byte{1, 2}}, 1_000_001)
	role, _, route, err := parseKey(k)
	if err != nil || role != roleMarked || route != "a/b/" || endOf(k) != 1_000_001 {
		t.Errorf("key %x is role %d of %q, ends %d: %v", k, role, route, endOf(k), err)
	}
	if _, _, _, err := parseKey(k[:1+endLength+hashLength-1]); err == nil {
		t.Error("a key without its hash is read")
	}
	if end := endOf(appendPartitionKey(nil, &partition.Key{Prefix: "a/bcdefghijkl/"})); end != 0 {
		t.Errorf("a partition without a marker ends %d", end)
	}
}

// The watermark is that after the last rows that are settled, however many steps there were.
func TestPoints(t *testing.T) {
	var p points
	if at := p.upTo(5); at != 0 {
		t.Errorf("watermark %d of nothing", at)
	}
	p.add(10, 100)
	p.add(20, 200)
	for _, c := range []struct {
		settled uint64
		want    int64
	}{{9, 0}, {10, 100}, {19, 100}, {20, 200}, {1000, 200}} {
		if at := p.upTo(c.settled); at != c.want {
			t.Errorf("watermark below %d is %d, want %d", c.settled, at, c.want)
		}
	}
	for i := range uint64(5 * maxPoints) {
		p.add(30+i, int64(300+i))
	}
	if at := p.upTo(30 + 5*maxPoints - 1); len(p) > maxPoints || at != 300+5*maxPoints-1 {
		t.Errorf("%d points, the last at %d", len(p), at)
	}
}
