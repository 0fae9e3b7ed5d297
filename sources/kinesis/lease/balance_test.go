package lease

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"hydrant/sources/kinesis"
)

// worldOf reads "a:me b:x c:x+12 d:- e:y>me f:me>y+3": leases with their owner (- free; y>me: y is to finish for me) and the
// seconds that their counter stands still.
func worldOf(text string, mine string, now time.Time) position {
	p := position{
		me: "me", now: now, failover: 10 * time.Second, random: rand.New(rand.NewPCG(1, 2)),
		mine:  func(key string) bool { return strings.Contains(mine, key) },
		busy:  func(key string) bool { return strings.Contains(mine, strings.ToUpper(key)) },
		hands: func(owner string) bool { return owner == "x" },
	}
	for word := range strings.FieldsSeq(text) {
		key, owner, _ := strings.Cut(word, ":")
		owner, age, _ := strings.Cut(owner, "+")
		seconds := 0.0
		fmt.Sscan(age, &seconds)
		s := &sighting{item: item{key: key, shard: key, owner: strings.TrimPrefix(owner, "-"), checkpoint: kinesis.Checkpoint{Sequence: "1"}}, since: now.Add(-time.Duration(seconds * float64(time.Second)))}
		if from, to, asked := strings.Cut(owner, ">"); asked {
			s.checkpointOwner, s.owner, s.asked = from, to, now.Add(-time.Second)
			if seconds > 100 { // renewed, but asked for long ago
				s.since, s.asked = now, s.since
			}
		}
		p.leases = append(p.leases, s)
	}
	return p
}

func TestBalance(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name, leases, mine string
		take, ask          int
		only               string // of these; "": any
	}{
		{"nothing", "", "", 0, 0, ""},
		{"all free, alone", "a:- b:- c:-", "", 3, 0, ""},
		{"free, another has some", "a:x b:x c:- d:-", "", 2, 0, "cd"},
		{"no more than a share", "a:x b:x c:- d:- e:- f:-", "", 3, 0, "cdef"},
		{"a share that is rounded up", "a:x b:- c:- d:- e:-", "", 3, 0, "bcde"},
		{"dead at more than the fail-over time", "a:y+10.1", "", 1, 0, "a"},
		{"not at the fail-over time", "a:y+10", "", 0, 0, ""},
		{"free for long, and I have my share", "a:me g:me h:me b:- c:x d:x", "agh", 0, 0, ""},
		{"free for more than three times the fail-over time", "a:me g:me h:me b:-+30.1 c:x d:x", "agh", 1, 0, "b"},
		{"free for just that", "a:me g:me h:me b:-+30 c:x d:x", "agh", 0, 0, ""},
		{"of an earlier life", "a:me b:x c:x", "", 1, 0, "a"},
		{"of an earlier life, above my share", "a:me b:me c:me d:x", "", 3, 0, "abc"},
		{"steal what is above the share, asked first", "a:x b:x c:x d:x", "", 0, 1, ""},
		{"steal from who does not hand over", "a:y b:y c:y d:y", "", 1, 0, ""},
		{"a quarter of what I need", "a:y b:y c:y d:y e:y f:y g:y h:y i:y j:y k:y l:y m:y n:y o:y p:y", "", 2, 0, ""},
		{"from who has most", "a:y b:y c:y d:z e:z f:z g:z", "", 1, 0, "defg"},
		{"one is enough, and nobody has more than his share", "a:y b:y c:z d:me", "d", 0, 0, ""},
		{"I need two, and nobody has more than his share", "a:y b:y c:y d:z e:z f:z g:w h:w i:w j:me", "j", 1, 0, ""},
		{"level", "a:y b:y c:me d:me", "cd", 0, 0, ""},
		{"one lease, somebody has it", "a:y", "", 0, 0, ""},
		{"it is being handed over to me", "a:x>me b:x", "", 0, 0, ""},
		{"handed over", "a:me b:x", "", 1, 0, "a"},
		{"too slowly", "a:y>me+101 b:y c:y", "", 1, 0, "a"},
		{"by a dead one", "a:y>me+11 b:y", "", 1, 0, "a"},
		{"it is handed over to another", "a:y>z b:y c:me", "c", 0, 0, ""},
		{"I hand it over", "a:me>y b:me", "ab", 0, 0, ""},
		{"promised leases are not stolen", "a:x>y b:x>y c:x>y d:y", "", 1, 0, "d"},
		{"lost, and not yet let go of", "a:y b:- c:me", "ABC", 0, 0, ""},
	} {
		p := worldOf(c.leases, c.mine, now)
		var take, ask int
		seen := map[string]bool{}
		for _, m := range balance(p) {
			if m.ask {
				ask++
			} else {
				take++
			}
			if seen[m.key] || c.only != "" && !strings.Contains(c.only, m.key) {
				t.Errorf("%s: chose %s", c.name, m.key)
			}
			seen[m.key] = true
		}
		if take != c.take || ask != c.ask {
			t.Errorf("%s: takes %d and asks for %d, want %d and %d", c.name, take, ask, c.take, c.ask)
		}
	}
}

// Whatever the numbers, workers who act one after another, in any order, come to shares that differ by one at most, and then rest.
func TestBalanceConverges(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 7))
		workers, shards := 1+r.IntN(8), r.IntN(40)
		now := time.Now()
		owner := make([]string, shards) // some free, some of the dead, the others anybody's
		for i := range owner {
			owner[i] = []string{"", "dead", "w0", fmt.Sprint("w", r.IntN(workers))}[r.IntN(4)]
		}
		act := func(me string) int {
			p := position{me: me, now: now, failover: time.Second, random: r, busy: func(string) bool { return false }, hands: func(string) bool { return false }}
			index := map[string]int{}
			for i, o := range owner {
				s := &sighting{item: item{key: fmt.Sprint(i), owner: o}, since: now}
				if o == "dead" {
					s.since = now.Add(-2 * time.Second)
				}
				index[s.key] = i
				p.leases = append(p.leases, s)
			}
			p.mine = func(key string) bool { return owner[index[key]] == me }
			moves := balance(p)
			for _, m := range moves {
				owner[index[m.key]] = me
			}
			return len(moves)
		}
		quiet := 0
		for round := 0; quiet < 2; round++ {
			moved := 0
			for _, w := range r.Perm(workers) {
				moved += act(fmt.Sprint("w", w))
			}
			if quiet++; moved > 0 {
				quiet = 0
			}
			if round > 200 {
				t.Fatalf("seed %d: %d workers and %d shards do not come to rest: %v", seed, workers, shards, owner)
			}
		}
		counts := map[string]int{}
		for w := range workers {
			counts[fmt.Sprint("w", w)] = 0
		}
		for _, o := range owner {
			counts[o]++
		}
		sizes := slices.Sorted(maps.Values(counts))
		if len(counts) != workers || sizes[len(sizes)-1]-sizes[0] > 1 {
			t.Fatalf("seed %d: %d workers and %d shards end with %v", seed, workers, shards, counts)
		}
	}
}
