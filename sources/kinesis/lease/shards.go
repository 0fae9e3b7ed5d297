package lease

import (
	"slices"
	"strings"
	"time"

	"hydrant/sources/kinesis"
)

// naming makes keys of leases: the shard alone, or behind its stream in a table that several streams share.
type naming struct{ stream string }

func (n naming) key(shard string) string {
	if n.stream == "" {
		return shard
	}
	return n.stream + ":" + shard
}

// leases are those of one stream, by shard.
type leases map[string]*item

// absent are the leases that are to be made for a list of shards, parents first, so that a child never has one while its
// parent, which is to be read before, has none.
//
// A stream that nothing is known of begins everywhere at first. After that a shard without a lease is a new one, or its
// parents' leases are gone with their shards; both are read from the oldest record on. One whose descendants have leases was
// read, and its own lease was removed.
func absent(list []kinesis.Shard, known leases, n naming, first kinesis.Checkpoint, notBefore time.Time) []item {
	children := map[string][]string{}
	byID := make(map[string]kinesis.Shard, len(list))
	for _, s := range list {
		byID[s.ID] = s
		for _, p := range s.Parents {
			children[p] = append(children[p], s.ID)
		}
	}
	for _, it := range known { // what the list no longer says
		for _, p := range it.parents {
			children[p] = append(children[p], it.shard)
		}
		children[it.shard] = append(children[it.shard], it.children...)
	}
	followed := map[string]bool{} // shards with a descendant that has a lease
	var below func(id string, seen map[string]bool) bool
	below = func(id string, seen map[string]bool) bool {
		if f, ok := followed[id]; ok {
			return f
		}
		if seen[id] { // a cycle: no real stream has one
			return false
		}
		seen[id] = true
		f := slices.ContainsFunc(children[id], func(c string) bool { return known[c] != nil || below(c, seen) })
		followed[id] = f
		return f
	}
	at := kinesis.Checkpoint{Sequence: kinesis.TrimHorizon}
	if len(known) == 0 {
		at = kinesis.Checkpoint{Sequence: first.Sequence} // the time is in notBefore
	}
	var made []item
	placed := map[string]bool{}
	var place func(s kinesis.Shard)
	place = func(s kinesis.Shard) {
		if placed[s.ID] || known[s.ID] != nil || below(s.ID, map[string]bool{}) {
			return
		}
		placed[s.ID] = true
		for _, p := range s.Parents {
			if parent, ok := byID[p]; ok {
				place(parent)
			}
		}
		made = append(made, newItem(s, n, at, notBefore))
	}
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, func(a, b kinesis.Shard) int { return strings.Compare(a.ID, b.ID) })
	for _, s := range sorted {
		place(s)
	}
	return made
}

func newItem(s kinesis.Shard, n naming, at kinesis.Checkpoint, notBefore time.Time) item {
	parents := slices.Clone(s.Parents)
	slices.Sort(parents)
	return item{
		key: n.key(s.ID), stream: n.stream, shard: s.ID, checkpoint: at, parents: slices.Compact(parents),
		startHash: s.StartingHashKey, endHash: s.EndingHashKey, notBefore: notBefore,
	}
}

// readable says whether a lease's shard may be read: it has not ended, and no parent has a lease that has not. A parent without
// a lease is too old to be listed, or was read and its lease was removed.
func readable(it *item, known leases) bool {
	return !it.ended() && kinesis.Ready(kinesis.Shard{ID: it.shard, Parents: it.parents},
		func(id string) bool { return known[id] != nil },
		func(id string) bool { return known[id].ended() })
}

// removable are the leases of ended shards that nothing needs any more: their parents' leases are gone, and reading of all
// children has begun. A shard whose children nobody knows stays until it is no longer listed.
func removable(list []kinesis.Shard, known leases) []*item {
	children := map[string][]string{}
	listed := map[string]bool{}
	for _, s := range list {
		listed[s.ID] = true
		for _, p := range s.Parents {
			children[p] = append(children[p], s.ID)
		}
	}
	for _, it := range known {
		for _, p := range it.parents {
			children[p] = append(children[p], it.shard)
		}
		children[it.shard] = append(children[it.shard], it.children...)
	}
	var gone []*item
	for _, it := range known {
		if !it.ended() || slices.ContainsFunc(it.parents, func(p string) bool { return known[p] != nil }) {
			continue
		}
		unread := func(c string) bool { return known[c] == nil || !known[c].begun() }
		if len(children[it.shard]) == 0 && listed[it.shard] || slices.ContainsFunc(children[it.shard], unread) {
			continue
		}
		gone = append(gone, it)
	}
	slices.SortFunc(gone, func(a, b *item) int { return strings.Compare(a.key, b.key) })
	return gone
}
