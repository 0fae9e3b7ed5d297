package lease

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// sighting is a lease as this process saw it, and since when its counter stands still, on its own clock.
type sighting struct {
	item
	first time.Time // when the lease was first seen
	since time.Time // when the counter was first seen as it is
	asked time.Time // when the checkpointOwner was first seen as it is; zero: there is none
}

// oldTimes is how many fail-over times a lease must be free or still before it is taken by who has his share already.
const oldTimes = 3

// handOver is how long the former owner of a lease has to finish when it was asked for.
const handOver = 30 * time.Second

// move is what this process is to try with a lease.
type move struct {
	item
	ask bool // ask the owner to hand it over, and do not just take it
}

// position is what is weighed by balance.
type position struct {
	me       string
	now      time.Time
	failover time.Duration
	leases   []*sighting           // those that can be read now: not ended, all parents ended
	mine     func(key string) bool // leases that this process owns
	busy     func(key string) bool // leases that it lost, and has not let go of yet: not to be taken
	hands    func(owner string) bool
	random   *rand.Rand // nil: the global one
}

// balance says which leases to try to take. Workers share leases as those of the KCL 2 do: a worker's part is the number of
// leases over the number of workers that have any, rounded up. Who has less takes free leases and those of the dead, in
// random order, and where there are none takes some of who has most. Leases that nobody has taken for long, because others
// who have too few do not care for them, are taken by anybody.
//
// Where the owner understands it (hands), he is asked first: then reading ends before it begins elsewhere.
func balance(p position) []move {
	counts := map[string]int{p.me: 0}
	var own, free, old []*sighting
	for _, s := range p.leases {
		holder, still := s.holder(), p.now.Sub(s.since)
		expired := still > p.failover
		switch {
		case p.mine(s.key):
			if s.checkpointOwner == p.me { // promised: it counts for who gets it
				counts[s.owner]++
			} else {
				counts[p.me]++
			}
		case p.busy(s.key):
			if holder != "" && !expired {
				counts[s.owner]++
			}
		case holder == p.me:
			// Of an earlier life of this process: nobody else may take it while its counter is young, and nobody reads it.
			counts[p.me]++
			own = append(own, s)
		case s.owner == p.me: // somebody else finishes with it
			counts[p.me]++
			if expired || p.now.Sub(s.asked) > handOver {
				own = append(own, s)
			}
		case holder == "" || expired:
			free = append(free, s)
			if still > oldTimes*p.failover {
				old = append(old, s)
			}
		default:
			counts[s.owner]++
		}
	}
	var moves []move
	for _, s := range own {
		moves = append(moves, move{item: s.item})
	}
	for _, s := range old {
		moves = append(moves, move{item: s.item})
	}
	if len(old) > 0 {
		return moves
	}
	shuffle := rand.Shuffle
	if p.random != nil {
		shuffle = p.random.Shuffle
	}
	target := max(1, (len(p.leases)+len(counts)-1)/len(counts))
	need := target - counts[p.me]
	if need <= 0 {
		return moves
	}
	if len(free) > 0 {
		shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
		for _, s := range free[:min(need, len(free))] {
			moves = append(moves, move{item: s.item})
		}
		return moves
	}
	return append(moves, p.steal(counts, target, need, shuffle)...)
}

// steal chooses leases of the worker that has most: what he has above the target, or one if he has no more than that and this
// process needs more than one. At most a quarter of what is needed at a time, so that others who come at the same time and
// want the same share do not empty him; the rest follows soon.
func (p position) steal(counts map[string]int, target, need int, shuffle func(int, func(int, int))) []move {
	most, loaded := "", 0
	for owner, n := range counts {
		if owner != p.me && (n > loaded || n == loaded && owner < most) {
			most, loaded = owner, n
		}
	}
	n := min(need, loaded-target)
	if n == 0 && need > 1 {
		n = 1
	}
	n = min(n, max(1, need/4))
	if n <= 0 {
		return nil
	}
	var theirs []*sighting
	for _, s := range p.leases {
		if s.owner == most && s.checkpointOwner == "" && !p.mine(s.key) && !p.busy(s.key) {
			theirs = append(theirs, s)
		}
	}
	slices.SortFunc(theirs, func(a, b *sighting) int { return cmp.Compare(a.key, b.key) }) // random alone decides
	shuffle(len(theirs), func(i, j int) { theirs[i], theirs[j] = theirs[j], theirs[i] })
	var moves []move
	for _, s := range theirs[:min(n, len(theirs))] {
		moves = append(moves, move{item: s.item, ask: p.hands(most)})
	}
	return moves
}
