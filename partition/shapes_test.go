package partition

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// wanted is a tree of the paths a, b.c and b.
func wanted() *branch {
	tree := &branch{}
	tree.add([]string{"a"}, 0)
	tree.add([]string{"b", "c"}, 1)
	tree.add([]string{"b"}, 2)
	return tree
}

func newScanner(tree *branch, slots int) *scanner {
	return &scanner{tree: tree, views: make([]view, slots)}
}

// forget makes the next record the first one.
func (s *scanner) forget() { s.shapes = shapes{} }

// TestShapes: whatever came before, a record is taken or left to the full parse as if it were the first, and has the same
// values. stray is how many of the records, sent three times over, were read name by name.
func TestShapes(t *testing.T) {
	long := strings.Repeat("n", maxSpot-len(`"":`))
	many := func(n int) string {
		members := make([]string, n)
		for i := range members {
			members[i] = fmt.Sprintf(`"m%d":%d`, i, i)
		}
		return "{" + strings.Join(members, ",") + "}"
	}
	for _, test := range []struct {
		name    string
		records []string
		takes   string // which of them, 1 or 0
		stray   int
	}{
		{"the same", []string{`{"a":1,"x":2}`, `{"a":2,"x":3}`}, "11", 1},
		{"white space", []string{`{"a": 1, "x": 2}`, "{\n  \"a\": 1,\n  \"x\": 2\n}\n"}, "11", 1},
		{"white space before colons", []string{`{"a" :1,"x":2}`}, "1", 3},
		{"one that is absent at times", []string{`{"a":1,"x":2,"y":3}`, `{"a":1,"y":3}`, `{"x":2,"y":3}`, `{"a":1,"x":2}`}, "1111", 3},
		{"another order", []string{`{"a":1,"x":2}`, `{"x":2,"a":1}`}, "11", 4},
		{"twice, after the same", []string{`{"a":1,"x":2}`, `{"a":1,"x":2,"a":3}`}, "10", 4},
		{"twice at once", []string{`{"a":1,"x":2}`, `{"a":1,"a":1,"x":2}`}, "10", 4},
		{"twice after a step aside", []string{`{"a":1,"x":2,"y":3}`, `{"a":1,"y":2,"x":3,"y":4}`}, "10", 4},
		{"twice far behind", []string{`{"a":1,"x":2}`, `{"a":1,"z":2,"y":1,"x":3,"z":4}`}, "10", 4},
		{"twice in an object", []string{`{"b":{"c":1,"d":2},"a":3}`, `{"b":{"c":1,"c":2},"a":3}`}, "10", 4},
		{"in two objects", []string{`{"x":{"a":1},"y":{"a":2},"a":3}`, `{"x":{"a":1},"a":3}`}, "11", 2},
		{"an object that was a number", []string{`{"a":1,"b":2,"x":{"c":4}}`, `{"a":1,"b":{"c":3},"x":{"c":4}}`}, "01", 2},
		{"an object of the same number elsewhere", []string{`{"b":{"c":1},"x":2}`, `{"x":{"c":1},"a":2}`, `{"b":5}`}, "110", 2},
		{"a name of two objects of the same number", []string{`{"b":{"d":{"e":1},"c":2}}`, `{"x":{"d":{"e":1},"c":2}}`}, "11", 2},
		{"objects in arrays", []string{`{"l":[{"a":1},{"a":2}],"a":3}`, `{"l":[{"a":1},{"a":2},{"a":4}],"a":3}`, `{"l":[],"a":3}`}, "111", 3},
		{"beginnings of each other", []string{`{"abcdefg":1,"abcdefgh":2,"abcdefghi":3}`, `{"abcdefgh":2,"abcdefghi":3,"abcdefg":1}`, `{"abcdefg":1,"abcdefghj":3}`}, "111", 5},
		{"names that differ in the middle", []string{`{"aaaaaaaaaaaabbbbbbbbbbbb":1}`, `{"aaaaaaaaaaaacbbbbbbbbbbb":1}`, `{"aaaaaaaabaaabbbbbbbbbbbb":1}`}, "111", 3},
		{"nothing", []string{`{}`, `{"":1}`, `{"":1,"":2}`}, "110", 4},
		{"the longest name", []string{`{"` + long + `":1}`}, "1", 1},
		{"one longer", []string{`{"` + long + `n":1}`}, "1", 3},
		{"cut off", []string{`{"a":1,"abcdefghijklmn":2}`, `{"a":1,"abcdefghij`, `{"a":1,"abcdefghijklmn"`, `{"a":1,"abcdefghijklmn":`, `{"a":1,"`}, "10000", 4 + 6},
		{"cut off far behind", []string{`{"` + long + `":1}`, "{" + strings.Repeat(" ", 200) + `"nnnnnnnn`}, "10", 1 + 3},
		{"an escape", []string{`{"a":1,"x":2}`, `{"a":1,"\u0078":2}`}, "10", 4},
		{"more orders than steps", []string{`{"x":1}`, `{"y":1}`, `{"z":1}`, `{"u":1}`, `{"v":1}`, `{"w":1}`, `{"p":1}`, `{"q":1}`, `{"r":1}`}, "111111111", 11},
		{"as many as there is room for", []string{many(maxSpots - 1)}, "1", 1},
		{"one more", []string{many(maxSpots)}, "1", 3},
		{"as many as can be told apart", []string{many(maxNames)}, "1", 3},
		{"one more than that", []string{many(maxNames + 1)}, "0", 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			after, fresh := newScanner(wanted(), 3), newScanner(wanted(), 3)
			stray := 0
			for range 3 {
				for i, r := range test.records {
					before := after.shapes.strayed
					if i == 0 && after.shapes.spots == nil {
						before = 0
					}
					fresh.forget()
					ok, want := after.scan([]byte(r)), fresh.scan([]byte(r))
					stray += after.shapes.strayed - before
					if ok != want || want != (test.takes[i] == '1') {
						t.Fatalf("%.200s: taken %v, as the first one %v, want %c", r, ok, want, test.takes[i])
					}
					if ok && !slices.Equal(after.views, fresh.views) {
						t.Fatalf("%.200s: %v, as the first one %v", r, after.views, fresh.views)
					}
				}
			}
			if stray != test.stray {
				t.Errorf("%d of %d records were read name by name, want %d", stray, 3*len(test.records), test.stray)
			}
		})
	}
}

// TestShapesRest: where most records stray they are looked at ever more seldom, and where fewer do, always again.
func TestShapesRest(t *testing.T) {
	s := newScanner(wanted(), 3)
	n := 0
	scan := func(records, newNames int) {
		t.Helper()
		for i := range records {
			data := []byte(`{"y":1,"a":2}`)
			if i < newNames {
				n++
				data = fmt.Appendf(nil, `{"n%d":1,"a":2}`, n)
			}
			if !s.scan(data) || s.views[0].start != len(data)-2 {
				t.Fatalf("%s: %v", data, s.views)
			}
		}
		if len(s.shapes.spots) > maxSpots {
			t.Fatalf("%d names are remembered", len(s.shapes.spots))
		}
	}
	expect := func(resting bool, until, strayed int) {
		t.Helper()
		if x := &s.shapes; x.resting != resting || x.until != until || x.records != until || x.strayed != strayed {
			t.Fatalf("record %d of %d, %d strayed, resting %v; want the end of %d, %d, %v", x.records, x.until, x.strayed, x.resting, until, strayed, resting)
		}
	}
	for rest := review; rest <= 2*maxRest; rest *= 2 {
		scan(review, review)
		expect(false, review, review) // learns
		scan(review, review)
		expect(false, review, review) // in vain
		scan(min(rest, maxRest), 0)
		expect(true, min(rest, maxRest), 0)
	}
	scan(review, 0)
	expect(false, review, 1)
	scan(review, review/2)
	expect(false, review, review/2) // just good enough
	scan(review, review/2+1)
	expect(false, review, review/2+1) // not any more
	scan(review, 0)
	expect(true, review, 0) // the first rest is short again
}

// TestShapesOfData: real records by turns, whole and damaged, are read as each would be by itself.
func TestShapesOfData(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	const seed = 11
	rng := rand.New(rand.NewPCG(seed, seed))
	var all [][][]byte
	for _, set := range sets {
		all = append(all, set.records(t))
	}
	tree := &branch{}
	for i, p := range [][]string{{"event_type"}, {"geo", "country"}, {"event_time"}, {"origin"}, {"date"}, {"event"}, {"payload", "sender", "login"}} {
		tree.add(p, i)
	}
	after, fresh := newScanner(tree, 7), newScanner(tree, 7)
	taken, strayed := 0, 0
	const rounds = 30_000
	for n := range rounds {
		records := all[n/100%len(all)]
		data := slices.Clone(records[rng.IntN(len(records))])
		switch rng.IntN(16) {
		case 0: // a byte
			data[rng.IntN(len(data))] = byte(rng.Uint32())
		case 1: // cut off
			data = data[:rng.IntN(len(data))]
		case 2: // a piece is there twice
			i := rng.IntN(len(data))
			j := i + rng.IntN(min(200, len(data)-i))
			data = slices.Insert(data, j, data[i:j]...)
		case 3: // a member is there twice
			pieces := strings.Split(string(data[1:len(data)-1]), ",")
			pieces = slices.Insert(pieces, rng.IntN(len(pieces)), pieces[rng.IntN(len(pieces))])
			data = []byte("{" + strings.Join(pieces, ",") + "}")
		case 4: // members change places
			pieces := strings.Split(string(data[1:len(data)-1]), ",")
			i, j := rng.IntN(len(pieces)), rng.IntN(len(pieces))
			pieces[i], pieces[j] = pieces[j], pieces[i]
			data = []byte("{" + strings.Join(pieces, ",") + "}")
		}
		fresh.forget()
		before := after.shapes.strayed
		ok, want := after.scan(data), fresh.scan(data)
		if ok != want || ok && !slices.Equal(after.views, fresh.views) {
			t.Fatalf("record %d, %s:\n%v %v, by itself %v %v", n, data, ok, after.views, want, fresh.views)
		}
		if ok {
			taken++
		}
		if after.shapes.strayed > before {
			strayed++
		}
	}
	if taken < rounds*3/4 || strayed > rounds/2 {
		t.Errorf("%d of %d records were taken, %d were read name by name", taken, rounds, strayed)
	}
}

// FuzzShapes: what a record is taken for does not depend on those before it.
func FuzzShapes(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"a":1,"x":2}`, `{"a":1,"x":2,"a":3}`}, {`{"b":{"c":1,"d":2}}`, `{"b":{"d":1,"c":2},"c":1}`}, {`{"a":1,"x":2,"y":3}`, `{"a":1,"y":2,"x":3,"y":4}`},
		{`{"x":[{"a":1},{"a":2}],"a":1}`, `{"x":[{"a":1}],"y":{"a":2},"a":1}`}, {`{"abcdefghijklmnopqrs":1,"a":2}`, `{"abcdefghijklmnopqrs": 1, "a" : 2}`},
		{`{"a":1,"b":2}`, `{"a":1,"b":{"c":2}}`}, {`{"":1}`, `{"":1,"a":`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	after, fresh := newScanner(wanted(), 3), newScanner(wanted(), 3)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		after.forget()
		for n, data := range [][]byte{a, b, a, b, b, a} {
			fresh.forget()
			ok, want := after.scan(data), fresh.scan(data)
			if ok != want || ok && !slices.Equal(after.views, fresh.views) {
				t.Fatalf("record %d of %q and %q: %v %v, by itself %v %v", n, a, b, ok, after.views, want, fresh.views)
			}
		}
	})
}
