package simulation

import (
	"bufio"
	"bytes"
	cryptorand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The environment: what a person may set, and what a worker is told.
const (
	envSeed    = "HYDRANT_SIM_SEED"    // one seed, or several with commas, to replay
	envSeeds   = "HYDRANT_SIM_SEEDS"   // how many random ones are run, instead of as many as fit into the time
	envSeconds = "HYDRANT_SIM_SECONDS" // time for random ones
	envFrom    = "HYDRANT_SIM_FROM"    // the first random one, instead of any
	envLog     = "HYDRANT_SIM_LOG"     // not empty: replays show the daemon's log and the whole trace
	envWorker  = "HYDRANT_SIM_WORKER"  // set for workers
)

// defaultSeconds is the time that random seeds get where nothing else is said.
const defaultSeconds = 45

// patience is how long a worker may say nothing: a life takes a tenth of a second.
const patience = 2 * time.Minute

// TestSimulation runs whole lives of the daemon's core: those that once showed a fault, then random ones for a
// while. A seed that fails is printed with the command that replays it.
func TestSimulation(t *testing.T) {
	if os.Getenv(envWorker) != "" {
		t.Skip("this process is a worker")
	}
	replay := os.Getenv(envSeed)
	t.Run("replay", func(t *testing.T) {
		if replay == "" {
			t.Skip("no " + envSeed)
		}
		run(t, strings.Split(replay, ","), 1)
	})
	if replay != "" {
		return
	}
	t.Run("regressions", func(t *testing.T) { run(t, regressions(t), 1) })
	t.Run("random", func(t *testing.T) { random(t, 0, defaultSeconds) })
}

// regressions reads testdata/seeds.txt: a seed and a remark on each line.
func regressions(t *testing.T) (seeds []string) {
	text, err := os.ReadFile("testdata/seeds.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if seed, _, _ := strings.Cut(strings.TrimSpace(line), " "); seed != "" && !strings.HasPrefix(seed, "#") {
			seeds = append(seeds, seed)
		}
	}
	return seeds
}

// random runs seeds with these bits from anywhere on, until one is at fault.
func random(t *testing.T, bits, seconds int) {
	t.Helper()
	seconds, most := number(t, envSeconds, seconds), number(t, envSeeds, 0)
	if testing.Short() {
		seconds = min(seconds, 5)
	}
	var raw [4]byte
	cryptorand.Read(raw[:])
	from := number(t, envFrom, int(binary.LittleEndian.Uint32(raw[:])))
	from |= bits
	t.Logf("random seeds from %d on", from)
	lives, faulty := hunt(from, most, time.Duration(seconds)*time.Second)
	for _, r := range faulty {
		r.check(t)
	}
	t.Logf("%d lives", lives)
}

// hunt runs seeds, from one on, until one is at fault: so many, or where most is 0 for so long. It returns how
// many were well, and what was not.
func hunt(from, most int, limit time.Duration) (lives int, faulty []result) {
	end := time.Now().Add(limit)
	var given atomic.Int64
	var stop atomic.Bool
	results := make([]result, runtime.NumCPU())
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			results[i] = work(func(int) (string, bool) {
				n := int(given.Add(1) - 1)
				return strconv.Itoa(from + n), !stop.Load() && (n < most || most == 0 && time.Now().Before(end))
			})
			if results[i].seed != "" {
				stop.Store(true)
			}
		})
	}
	wg.Wait()
	for _, r := range results {
		lives += len(r.sums)
		if r.seed != "" {
			faulty = append(faulty, r)
		}
	}
	return lives, faulty
}

// run runs given seeds, each so many times.
func run(t *testing.T, seeds []string, times int) map[string][]string {
	t.Helper()
	r := work(func(n int) (string, bool) {
		if n >= len(seeds)*times {
			return "", false
		}
		return seeds[n/times], true
	})
	r.check(t)
	if os.Getenv(envLog) != "" {
		t.Log(r.log)
	}
	return r.sums
}

func number(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// result is what a worker found.
type result struct {
	sums  map[string][]string // hash of the trace of each seed, once for each time
	seed  string              // at which it ended, "" where nothing was wrong
	fault string
	log   string
}

func (r *result) check(t *testing.T) {
	t.Helper()
	if r.seed != "" {
		t.Errorf("seed %s: %s\n\nReplay it with\n%s=%s go test ./e2e/simulation -run TestSimulation/replay -count=1", r.seed, r.fault, envSeed, r.seed)
	}
}

// work has a process of its own run seeds until there are no more or one is at fault. In there a panic ends no
// more than the worker, one thread does everything in one order, and a life that hangs is found.
func work(next func(n int) (string, bool)) (r result) {
	r.sums = map[string][]string{}
	fail := func(seed, format string, args ...any) result {
		r.seed, r.fault = seed, fmt.Sprintf(format, args...)
		return r
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestWorker$", "-test.timeout", "0", "-test.v")
	// Without preemption a goroutine gives way where the program says so, not where time says so.
	cmd.Env = append(os.Environ(), envWorker+"=1", "GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1")
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		return fail("none", "start a worker: %v", err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			if line, ok := strings.CutPrefix(s.Text(), "worker: "); ok {
				lines <- line
			}
		}
		io.Copy(io.Discard, out)
	}()
	end := func() {
		in.Close()
		for range lines {
		}
		cmd.Wait()
		r.log = log.String()
	}
	for n := 0; ; n++ {
		seed, ok := next(n)
		if !ok {
			end()
			return r
		}
		fmt.Fprintln(in, seed)
		select {
		case line, ok := <-lines:
			switch sum, good := strings.CutPrefix(line, "good "); {
			case !ok:
				end()
				return fail(seed, "the process ended:\n%s", tail(r.log))
			case !good:
				end()
				return fail(seed, "%s", r.log)
			default:
				r.sums[seed] = append(r.sums[seed], sum)
			}
		case <-time.After(patience):
			cmd.Process.Signal(syscall.SIGQUIT)
			end()
			return fail(seed, "hangs:\n%s", stuck(r.log))
		}
	}
}

// tail is the end of a long text, and its beginning where a panic says why.
func tail(s string) string {
	const most = 20000
	if i := strings.Index(s, "panic: "); i >= 0 {
		s = s[i:]
		return s[:min(len(s), most)]
	}
	return s[max(len(s)-most, 0):]
}

// stuck is what of all stacks tells why a bubble's clock stands: goroutines that run or wait for a mutex, and
// those that sleep, one of which may hold it.
func stuck(stacks string) string {
	var b strings.Builder
	for _, stack := range strings.Split(stacks, "\n\n") {
		head, _, _ := strings.Cut(stack, "\n")
		if strings.Contains(head, "synctest bubble") && (!strings.Contains(head, "durable") || strings.Contains(head, "sleep")) {
			fmt.Fprintf(&b, "%s\n\n", stack)
		}
	}
	return b.String()
}

// TestWorker runs the seeds that come in, one a line, and says how each went.
func TestWorker(t *testing.T) {
	if os.Getenv(envWorker) == "" {
		t.Skip("only in a worker")
	}
	// Collections come between lives, so that none comes into one.
	debug.SetGCPercent(-1)
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		sum, fault := life1(t, strings.TrimSpace(s.Text()))
		if fault != "" {
			fmt.Fprintln(os.Stderr, fault)
			fmt.Println("worker: bad " + sum)
			return // whatever is left of it may not run for long
		}
		fmt.Println("worker: good " + sum)
		var m runtime.MemStats
		if runtime.ReadMemStats(&m); m.HeapAlloc > 256<<20 {
			runtime.GC()
		}
	}
}

// life1 runs one life, of a seed or of a moment, and returns what was wrong, and the hash of its trace or what
// the moment's life took.
func life1(t *testing.T, text string) (sum, fault string) {
	m, seed, err := moment{}, uint64(0), error(nil)
	if isMoment(text) {
		m, err = parseMoment(text)
		seed = m.workload
	} else {
		seed, err = strconv.ParseUint(text, 10, 64)
	}
	if err != nil {
		t.Fatalf("seed %q: %v", text, err)
	}
	synctest.Test(t, func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, seed)
		w := newWorld(seed, os.Getenv(envLog) != "")
		if os.Getenv(envLog) != "" {
			w.logs = os.Stderr
		}
		if isMoment(text) {
			w.simple()
			var r momentResult
			r.ops, r.recovery, fault = m.live(w)
			sum = fmt.Sprintf("%d/%d", r.ops, r.recovery)
		} else {
			fault = w.live()
			hash, events := w.trace.sum()
			sum = fmt.Sprintf("%016x/%d", hash, events)
		}
		if fault != "" {
			fault += "\n\n" + w.trace.String()
		} else if os.Getenv(envLog) != "" {
			fmt.Fprintln(os.Stderr, w.trace)
		}
	})
	return sum, fault
}

// A seed is one life: run again, it goes the same way.
func TestDeterminism(t *testing.T) {
	if os.Getenv(envWorker) != "" {
		t.Skip("this process is a worker")
	}
	var seeds []string
	for i := range 40 {
		seeds = append(seeds, strconv.Itoa(1000+i))
	}
	differ := 0
	sums := run(t, seeds, 2)
	for _, seed := range seeds {
		if s := sums[seed]; len(s) == 2 && s[0] != s[1] {
			differ++
			t.Logf("seed %s: %s", seed, strings.Join(s, ", "))
		}
	}
	// What is left is not ours to decide: the runtime takes a goroutine's turn away after 10 ms, which a busy
	// machine needs to wake a thread, and two encoders then draw their random numbers in another order.
	if differ*10 > len(seeds) {
		t.Errorf("%d of %d seeds went another way the second time", differ, len(seeds))
	}
}
