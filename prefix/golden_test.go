package prefix

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"
)

type sample struct {
	label string
	t     time.Time
}

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func number64(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestGolden compares every line that Java's DateTimeFormatter has printed (testdata/Golden.java).
func TestGolden(t *testing.T) {
	f, err := os.Open("testdata/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	compile := func(pattern string) *datePattern {
		d, err := compileDate(pattern)
		if err != nil {
			t.Errorf("pattern %q: refused at byte %d (%s), Java takes it", pattern, err.offset, err.detail)
			return nil
		}
		return d
	}
	check := func(pattern string, d *datePattern, s sample, want string) {
		c := exactCivilOf(s.t)
		got := string(d.append(nil, &c))
		if got != want {
			t.Errorf("pattern %q at %s: got %q, Java prints %q", pattern, s.label, got, want)
		}
		if len(got) < d.min {
			t.Errorf("pattern %q at %s: %q is shorter than the minimum %d", pattern, s.label, got, d.min)
		}
	}
	var samples []sample
	lines := map[byte]int{}
	zoneText := strings.Split("z|zzzz|v|vvvv|O|OOOO|XXXXX", "|")
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		line := in.Text()
		lines[line[0]]++
		rest := line[2:]
		switch line[0] {
		case '#':
		case '@':
			w := strings.Fields(rest)
			at := time.Unix(number64(t, w[1]), number64(t, w[2])).In(zone(t, w[0]))
			samples = append(samples, sample{rest, at})
		case '=':
			w := strings.Split(rest, "\t")
			if len(w) != 1+len(samples) {
				t.Fatalf("%d columns for %d samples: %s", len(w), len(samples), line)
			}
			if d := compile(w[0]); d != nil {
				for i, want := range w[1:] {
					check(w[0], d, samples[i], want)
				}
			}
		case '?':
			w := strings.Split(rest, "\t")
			if d := compile(w[1]); d != nil {
				check(w[1], d, samples[number64(t, w[0])], w[2])
			}
		case '!':
			if _, err := compileDate(rest); err == nil {
				t.Errorf("pattern %q: taken, Java refuses it", rest)
			}
		case '~':
			w := strings.Split(rest, "\t")
			loc, err := time.LoadLocation(w[0])
			if err != nil { // a name that only Java has
				lines['~']--
				continue
			}
			s := sample{w[0] + " " + w[1], time.Unix(number64(t, w[1]), 0).In(loc)}
			for i, want := range strings.Split(w[2], "|") {
				check(zoneText[i], compile(zoneText[i]), s, want)
			}
		default:
			t.Fatalf("line %q", line)
		}
	}
	if err := in.Err(); err != nil {
		t.Fatal(err)
	}
	t.Logf("samples %d, patterns at all samples %d, at one %d, refused %d, zone texts %d", lines['@'], lines['='], lines['?'], lines['!'], lines['~'])
	for kind, least := range map[byte]int{'@': 40, '=': 200, '?': 1000, '!': 1500, '~': 1000} {
		if lines[kind] < least {
			t.Errorf("%d lines with %q, want at least %d", lines[kind], kind, least)
		}
	}
}
