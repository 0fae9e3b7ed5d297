//go:build unix

package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"hydrant/e2e/parts"
)

// TestStorm ends the daemon again and again while clients put and a bad network stands between everybody: at
// random moments, at the instants where the order of writes matters, together with the store, on a disk that
// others fill up, and by power cuts. At the end of each season everything is drained and DuckDB counts in the
// bucket and in the directory: every acknowledged record must be there once, in a data object or in the error
// output, and in its own partition, with its content, and every other record that was sent at most once.
//
// HYDRANT_CRASH_ROUNDS sets the number of deaths, HYDRANT_CRASH_SEED what happens when.
func TestStorm(t *testing.T) {
	rounds := number(t, "HYDRANT_CRASH_ROUNDS", 30)
	seed := number(t, "HYDRANT_CRASH_SEED", int(time.Now().UnixNano()&0xffffff))
	t.Logf("again with: HYDRANT_CRASH_SEED=%d HYDRANT_CRASH_ROUNDS=%d go test ./e2e -run TestStorm", seed, rounds)
	withCrashPoints(t)
	duck := parts.DuckDB(t)
	store := parts.MinIO(t)

	var tallies []*tally
	for i, c := range []struct {
		name   string
		share  int // of a hundred rounds
		ground func(testing.TB) *ground
	}{
		{"plain", 50, func(t testing.TB) *ground { return plainGround(t) }},
		{"full", 20, func(t testing.TB) *ground { return smallGround(t, "224m") }},
		{"xfs", 15, func(t testing.TB) *ground { return powerGround(t, "xfs") }},
		{"ext4", 15, func(t testing.TB) *ground { return powerGround(t, "ext4") }},
	} {
		host := t
		t.Run(c.name, func(t *testing.T) {
			s := newStorm(t, host, duck, store, "storm-"+c.name, c.ground(t), uint64(seed)<<8+uint64(i))
			tallies = append(tallies, &s.tally)
			for left := max(rounds*c.share/100, 1); left > 0 && !t.Failed(); left -= seasonRounds {
				s.season(min(left, seasonRounds))
			}
		})
	}
	t.Logf("\n%s", table(tallies))
}

// seasonRounds is how many deaths there are between two counts.
const seasonRounds = 50

// tally is what happened on one ground.
type tally struct {
	ground  string
	deaths  map[string]int // by what ended the process
	points  map[string]int // deaths at crash points, by name
	puts    int64          // S3 requests that met a fault, and calls
	changes int            // of the configuration
	reloads int            // of them with a daemon that was told
	verdict verdict
	seasons int
}

// Deaths that a table has columns for.
const (
	deathRandom   = "at random"
	deathStart    = "while starting"
	deathPoint    = "crash points"
	deathStore    = "store too"
	deathFull     = "disk full"
	deathPower    = "power cuts"
	deathDraining = "draining"
	deathStop     = "stopped"
)

// table prints tallies, with a line for the sum.
func table(tallies []*tally) string {
	sum := &tally{ground: "all", deaths: map[string]int{}, points: map[string]int{}}
	for _, l := range tallies {
		sum.verdict.add(l.verdict)
		sum.seasons += l.seasons
		sum.puts += l.puts
		sum.changes += l.changes
		sum.reloads += l.reloads
		for k, n := range l.deaths {
			sum.deaths[k] += n
		}
		for k, n := range l.points {
			sum.points[k] += n
		}
	}
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	kinds := []string{deathRandom, deathStart, deathPoint, deathStore, deathFull, deathPower, deathDraining, deathStop}
	fmt.Fprintf(w, "ground\tdeaths\t%s\tfaults\tchanges\treloads\t\n", strings.Join(kinds, "\t"))
	for _, l := range append(tallies, sum) {
		all := 0
		for _, n := range l.deaths {
			all += n
		}
		fmt.Fprintf(w, "%s\t%d\t", l.ground, all)
		for _, k := range kinds {
			fmt.Fprintf(w, "%d\t", l.deaths[k])
		}
		fmt.Fprintf(w, "%d\t%d\t%d\t\n", l.puts, l.changes, l.reloads)
	}
	w.Flush()
	b.WriteByte('\n')
	fmt.Fprintf(w, "ground\tsent\tacknowledged\tdelivered\terror output\tlost\tduplicated\tnever sent\tdamaged\twrong partition\tout of order\tobjects\t\n")
	for _, l := range append(tallies, sum) {
		v := &l.verdict
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", l.ground, v.sent, v.acked, v.delivered, v.failed, v.lost, v.duplicated, v.foreign, v.damaged, v.misplaced, v.disorder, v.objects)
	}
	w.Flush()
	b.WriteString("\ndeaths at crash points: ")
	for i, p := range crashPoints {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %d", p.name, sum.points[p.name])
	}
	b.WriteByte('\n')
	return b.String()
}
