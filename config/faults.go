package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a file.
type Fault struct {
	Line    int    `json:"line"`   // from 1; 0 where the file as a whole is meant
	Column  int    `json:"column"` // from 1, in characters
	Path    string `json:"path"`   // streams[0].buffer.size; "" where there is none
	Value   string `json:"value,omitempty"`
	Problem string `json:"problem"`
	Remedy  string `json:"remedy,omitempty"`
}

// String is `path: problem: "value" (remedy)`.
func (f Fault) String() string {
	var b strings.Builder
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Problem)
	if f.Value != "" {
		fmt.Fprintf(&b, ": %q", shorten(f.Value))
	}
	if f.Remedy != "" {
		b.WriteString(" (" + f.Remedy + ")")
	}
	return b.String()
}

// maxShown bounds how much of an offending value is shown.
const maxShown = 80

func shorten(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "..."
}

// Error is all faults of a file, in the order in which they stand in it.
type Error struct {
	File   string
	Faults []Fault
}

// Error has a line for each fault: file:line:column: path: problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		if f.Line == 0 {
			lines[i] = e.File + ": " + f.String()
		} else {
			lines[i] = fmt.Sprintf("%s:%d:%d: %s", e.File, f.Line, f.Column, f)
		}
	}
	return strings.Join(lines, "\n")
}

func sortFaults(faults []Fault) {
	slices.SortStableFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// nearest returns the known word that text was probably meant to be, or "".
func nearest(text string, known []string) string {
	best, bestDist := "", 3
	if len(text) > 64 {
		return ""
	}
	for _, k := range known {
		limit := min(bestDist, (len(k)+2)/3+1)
		if d := distance(strings.ToLower(text), k); d < limit {
			best, bestDist = k, d
		}
	}
	if best == "" {
		folded := strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(text))
		for _, k := range known {
			if strings.ReplaceAll(k, "_", "") == folded {
				return k
			}
		}
	}
	return best
}

// distance is the number of single-character edits, a swap of neighbours being one, between a and b.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	prev2, prev, cur := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(x); i++ {
		cur[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(y)]
}

// oneOfList prints a, b or c.
func oneOfList(words []string) string {
	switch len(words) {
	case 0:
		return ""
	case 1:
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
