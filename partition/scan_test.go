package partition

import (
	"bytes"
	"testing"
)

// TestEnds: every byte, in every place of a word, ends what it has to end.
func TestEnds(t *testing.T) {
	for c := range 256 {
		for n := range 18 {
			text := func(fill byte) []byte {
				b := append(bytes.Repeat([]byte{fill}, n), byte(c))
				return append(b, make([]byte, pad)...)
			}
			want := n
			if '0' <= c && c <= '9' {
				want++
			}
			for _, fill := range []byte{'0', '9'} {
				if got := digits(text(fill), 0); got != want {
					t.Errorf("%d times %c and byte %#x: %d digits, want %d", n, fill, c, got, want)
				}
			}
			want = n
			if c >= ' ' && c != '"' && c != '\\' {
				want++
			}
			for _, fill := range []byte{' ', '!', '#', '[', ']', 0x7F, 0x80, 0xA2, 0xDC, 0xFF} {
				if got := plainEnd(text(fill), 0); got != want {
					t.Errorf("%d times %#x and byte %#x: %d plain, want %d", n, fill, c, got, want)
				}
			}
		}
	}
}
