package delimiter

import (
	"testing"

	"hydrant/transform/transformtest"
)

func TestDelimiter(t *testing.T) {
	p, err := New(Options{Text: "\r\n"})
	if err != nil {
		t.Fatal(err)
	}
	transformtest.Run(t, p, [][]string{
		{`{"a" : 1}`, "{\"a\" : 1}\r\n"},
		{"a\r\n", "a\r\n"},
		{"a\n", "a\n\r\n"},
		{"", "\r\n"},
		{"\xff", "\xff\r\n"},
	})
	if _, err := New(Options{}); err == nil {
		t.Error("an empty delimiter was taken")
	}
}
