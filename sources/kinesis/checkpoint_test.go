package kinesis

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCheckpointCompare(t *testing.T) {
	long := strings.Repeat("9", 56)
	at := func(seq string, sub int64, whole bool) Checkpoint {
		return Checkpoint{Sequence: seq, Sub: sub, Whole: whole}
	}
	// Ascending; those of one line are equal.
	order := [][]Checkpoint{
		{{}},
		{{Sequence: Latest}, {Sequence: TrimHorizon}, {Sequence: AtTimestamp, Time: time.Unix(1, 0)}},
		{at("9", 0, false), at("09", 0, false)},
		{at("9", 0, true)},
		{at("10", 0, false)},
		{at("10", 1, false)},
		{at("10", 2, true), at("10", 2, true)},
		{at(long, 0, false)},
		{at("1"+long, 0, false)},
		{{Sequence: ShardEnd}},
	}
	for i, line := range order {
		for j, other := range order {
			for _, a := range line {
				for _, b := range other {
					if got := a.Compare(b); got < 0 != (i < j) || got > 0 != (i > j) {
						t.Errorf("Compare(%v, %v) = %d", a, b, got)
					}
				}
			}
		}
	}
}

func TestCheckpointText(t *testing.T) {
	f := func(c Checkpoint, want, shown string) {
		t.Helper()
		got := string(c.append(nil))
		if got != want || c.String() != shown {
			t.Errorf("%#v is %q and shown as %q, want %q and %q", c, got, c.String(), want, shown)
		}
		if back, err := parseCheckpoint(got); err != nil || back != c {
			t.Errorf("%q is read as %#v, %v", got, back, err)
		}
	}
	f(Checkpoint{Sequence: "123", Whole: true}, "A123.0", "123")
	f(Checkpoint{Sequence: "123", Sub: 7}, "I123.7", "123.7")
	f(Checkpoint{Sequence: TrimHorizon}, "TRIM_HORIZON", "TRIM_HORIZON")
	f(Checkpoint{Sequence: ShardEnd}, "SHARD_END", "SHARD_END")
	f(Checkpoint{Sequence: AtTimestamp, Time: time.UnixMilli(1500).UTC()}, "AT_TIMESTAMP 1500", "AT_TIMESTAMP 1970-01-01T00:00:01.5Z")
	f(Checkpoint{Sequence: strings.Repeat("1", 128), Whole: true}, "A"+strings.Repeat("1", 128)+".0", strings.Repeat("1", 128))
	for _, bad := range []string{"", "A", "A1", "A1.", "A1.x", "A1.-1", "Ax.1", "B1.1", "1.1", "AT_TIMESTAMP", "AT_TIMESTAMP x", "A" + strings.Repeat("1", 129) + ".0"} {
		if c, err := parseCheckpoint(bad); err == nil {
			t.Errorf("%q is read as %v", bad, c)
		}
	}
}

func FuzzCheckpoint(f *testing.F) {
	for _, s := range []string{"A123.0", "I9.7", "TRIM_HORIZON", "AT_TIMESTAMP 1500", "SHARD_END", "LATEST"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCheckpoint(s)
		if err != nil {
			return
		}
		if back, err := parseCheckpoint(string(c.append(nil))); err != nil || back != c {
			t.Fatalf("%q is %#v and then %#v, %v", s, c, back, err)
		}
	})
}

// tree makes shards of words: "c<a,b" is c with the parents a and b.
func tree(words ...string) (all []Shard) {
	for _, w := range words {
		id, parents, found := strings.Cut(w, "<")
		s := Shard{ID: id}
		if found {
			s.Parents = strings.Split(parents, ",")
		}
		all = append(all, s)
	}
	return all
}

func TestReady(t *testing.T) {
	f := func(name, ended, want string, all []Shard) {
		t.Helper()
		in := map[string]bool{}
		for _, s := range all {
			in[s.ID] = true
		}
		over := func(id string) bool { return slices.Contains(strings.Fields(ended), id) }
		var got []string
		for _, s := range all {
			if !over(s.ID) && Ready(s, func(id string) bool { return in[id] }, over) {
				got = append(got, s.ID)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v may begin, want %s", name, got, want)
		}
	}
	f("shards without parents", "", "a b", tree("a", "b"))
	f("a split", "", "a", tree("a", "b<a", "c<a"))
	f("a split whose parent has ended", "a", "b c", tree("a", "b<a", "c<a"))
	f("a merge", "", "a b", tree("a", "b", "c<a,b"))
	f("a merge with one parent ended", "a", "b", tree("a", "b", "c<a,b"))
	f("a merge with the other parent ended", "b", "a", tree("a", "b", "c<a,b"))
	f("a merge with both ended", "a b", "c", tree("a", "b", "c<a,b"))
	f("a merge with one parent too old to be listed", "", "b", tree("b", "c<a,b"))
	f("a merge with one parent too old and one ended", "b", "c", tree("b", "c<a,b"))
	f("parents that are too old", "", "b c", tree("b<a", "c<a"))
	f("two reshards in a row", "a", "b c", tree("a", "b<a", "c<a", "d<b,c"))
	f("a grandchild whose parent is gone before its own parent", "", "a c", tree("a", "c<b"))
	many := []Shard{{ID: "root"}}
	for range 2000 {
		many = append(many, Shard{ID: "child", Parents: []string{"root"}})
	}
	f("2,000 children", "", "root", many)
}

func TestDescends(t *testing.T) {
	known := func(id string) bool { return id == "a" }
	for _, c := range []struct {
		shard string
		want  bool
	}{{"b<a", true}, {"b<x", false}, {"b", false}, {"b<x,a", true}} {
		if got := Descends(tree(c.shard)[0], known); got != c.want {
			t.Errorf("Descends(%s) = %v", c.shard, got)
		}
	}
}

func TestHoles(t *testing.T) {
	const last = "340282366920938463463374607431768211455"
	f := func(want string, ranges ...string) {
		t.Helper()
		var all []Shard
		for _, r := range ranges {
			from, to, _ := strings.Cut(r, "-")
			all = append(all, Shard{StartingHashKey: from, EndingHashKey: to})
		}
		var got []string
		for _, h := range Holes(all) {
			got = append(got, h[0]+"-"+h[1])
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%v: holes %s, want %s", ranges, s, want)
		}
	}
	f("", "0-"+last)
	f("", "100-"+last, "0-99")
	f("", "0-150", "100-"+last)
	f("100-100", "101-"+last, "0-99")
	f("0-0", "1-"+last)
	f(last+"-"+last, "0-340282366920938463463374607431768211454")
	f("0-" + last)
	f("", "", "5-6") // a range that is not known
	f("3-4 9-"+last, "0-2", "5-8", "6-7")
}
