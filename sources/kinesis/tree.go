package kinesis

import (
	"math/big"
	"slices"
)

// Ready says whether reading of a shard may begin: every parent has ended, or is not in the list any longer, since all of it
// is too old or was done with. known says whether a shard is in the list, or kept for another reason, and ended whether it was
// read to its end.
func Ready(s Shard, known, ended func(id string) bool) bool {
	for _, p := range s.Parents {
		if known(p) && !ended(p) {
			return false
		}
	}
	return true
}

// Descends says whether a shard came of one that is known: then everything in it arrived after that one was begun, and it is
// read from TrimHorizon wherever the stream's reading began.
func Descends(s Shard, known func(id string) bool) bool { return slices.ContainsFunc(s.Parents, known) }

// Holes are ranges of hash keys, inclusive, that no shard of those has: records with such keys would never be read. Shards
// whose range is not known are taken to fill everything. Shards that overlap are no fault here: parents and children do.
func Holes(shards []Shard) [][2]string {
	type span struct{ from, to *big.Int }
	spans := make([]span, 0, len(shards))
	for _, s := range shards {
		from, ok1 := new(big.Int).SetString(s.StartingHashKey, 10)
		to, ok2 := new(big.Int).SetString(s.EndingHashKey, 10)
		if !ok1 || !ok2 {
			return nil
		}
		spans = append(spans, span{from, to})
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from.Cmp(b.from) })
	one := big.NewInt(1)
	next, all := new(big.Int), new(big.Int).Lsh(one, 128)
	var holes [][2]string
	for _, s := range append(spans, span{all, all}) {
		if s.from.Cmp(next) > 0 {
			holes = append(holes, [2]string{next.String(), new(big.Int).Sub(s.from, one).String()})
		}
		if after := new(big.Int).Add(s.to, one); after.Cmp(next) > 0 {
			next = after
		}
	}
	return holes
}
