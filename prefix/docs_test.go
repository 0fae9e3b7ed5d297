package prefix

import (
	"os"
	"strings"
	"testing"
)

// TestDocument checks the examples of docs/prefixes.md that are a text and what it evaluates to.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../docs/prefixes.md")
	if err != nil {
		t.Fatal(err)
	}
	v := Values{Time: julyAfternoon, ErrorOutputType: "processing-failed"}
	code := func(cell string) (string, bool) {
		cell = strings.TrimSpace(cell)
		text, opened := strings.CutPrefix(cell, "`")
		text, closed := strings.CutSuffix(text, "`")
		return strings.Trim(text, `"`), opened && closed && !strings.Contains(text, "`")
	}
	examples, letters := 0, 0
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		switch {
		case strings.TrimSpace(cells[0]) == "`prefix`": // a heading
		case len(cells) == 2:
			text, ok := code(cells[0])
			want, ok2 := code(cells[1])
			if !ok2 || !ok && strings.TrimSpace(cells[0]) != "*(empty)*" {
				continue
			}
			if !ok {
				text = ""
			}
			examples++
			p, err := Parse(text, Prefix)
			if err != nil {
				t.Errorf("%q: %v", text, err)
			} else if got := p.Route(v); got != want {
				t.Errorf("%q: got %q, the document says %q", text, got, want)
			}
		case len(cells) == 3 && strings.Contains(cells[2], "processing-failed/"):
			prefix, ok := code(cells[0])
			errorPrefix, given := code(cells[1])
			want, _ := code(cells[2])
			if !ok {
				prefix = "any/!{timestamp:HH}"
			}
			if !given {
				errorPrefix = ""
			}
			examples++
			if _, bad, err := ParsePair(prefix, errorPrefix); err != nil {
				t.Error(err)
			} else if got := bad.Route(v); got != want {
				t.Errorf("%q, %q: got %q, the document says %q", prefix, errorPrefix, got, want)
			}
		case len(cells) == 3 && strings.HasPrefix(strings.TrimSpace(cells[0]), "`"):
			patterns, texts := strings.Split(cells[0], ", "), strings.Split(cells[2], ", ")
			for i := range patterns {
				pattern, _ := code(patterns[i])
				want, _ := code(texts[i])
				letters++
				p, err := Parse("!{timestamp:"+pattern+"}", Prefix)
				if err != nil {
					t.Errorf("%q: %v", pattern, err)
				} else if got := p.Route(v); got != want {
					t.Errorf("%q: got %q, the document says %q", pattern, got, want)
				}
			}
		}
	}
	if examples < 13 || letters < 20 {
		t.Errorf("found %d examples and %d letters: has the document another form now?", examples, letters)
	}
	_, err = Parse("!{timestamp:yyyHHH}", Prefix)
	if err == nil || !strings.Contains(string(b), "\n"+err.Error()+"\n") {
		t.Errorf("the document lacks the message %q", err)
	}
}
