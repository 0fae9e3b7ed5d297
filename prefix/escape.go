package prefix

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// A value of a partition key comes from a record, so anybody can choose it. Most go into a key as they are, slashes
// included, as Firehose does it. What could leave the prefix, confuse a listing, or look like another value is
// written as % and two hexadecimal digits for each byte:
//
//   - control characters, backslashes, and bytes that are not UTF-8;
//   - the dots of a piece between slashes that is of dots only;
//   - a slash that would begin the key, or begin or end an empty path component, or one of a dot or two;
//   - !{ where it would read as an expression;
//   - a % that two of 0-9 A-F follow, so that nothing reads as an escape that is none.
//
// So Unescape gives every value back, and no two values are printed alike.

// writer prints a route. It holds back a byte of a value of which it depends on what follows whether it is escaped.
type writer struct {
	dst  []byte
	held byte // '/' or '!', or 0
}

const upperHex = "0123456789ABCDEF"

func isUpperHex(c byte) bool { return c-'0' <= 9 || c-'A' < 6 }

func (w *writer) escape(c byte) { w.dst = append(w.dst, '%', upperHex[c>>4], upperHex[c&15]) }

// release prints the byte that is held, as what comes next wants it.
func (w *writer) release(next []byte) {
	if w.held == 0 || len(next) == 0 {
		return
	}
	c := w.held
	w.held = 0
	if c == '!' && next[0] == '{' || c == '/' && upwards(piece(next)) {
		w.escape(c)
		return
	}
	w.dst = append(w.dst, c)
}

// piece is text up to its first slash.
func piece(text []byte) []byte {
	if i := bytes.IndexByte(text, '/'); i >= 0 {
		return text[:i]
	}
	return text
}

// upwards tells whether a path component is one that file systems take for something else than a name.
func upwards(component []byte) bool {
	return len(component) == 0 || string(component) == "." || string(component) == ".."
}

// text prints what is no value.
func (w *writer) text(s []byte) {
	w.release(s)
	w.dst = append(w.dst, s...)
}

func (w *writer) end() []byte {
	if w.held != 0 {
		w.dst = append(w.dst, w.held)
		w.held = 0
	}
	return w.dst
}

// value prints the value of a key.
func (w *writer) value(s string) {
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '/':
			w.release([]byte{c})
			if tail := w.dst[max(0, len(w.dst)-len("/..")):]; upwards(tail[bytes.LastIndexByte(tail, '/')+1:]) {
				w.escape(c)
			} else {
				w.held = c
			}
			i++
			continue
		case c == '!':
			w.release([]byte{c})
			w.held = c
			i++
			continue
		}
		size := 1
		escaped := c < ' ' || c == 0x7F || c == '\\'
		switch {
		case c >= utf8.RuneSelf:
			var r rune
			r, size = utf8.DecodeRuneInString(s[i:])
			escaped = r == utf8.RuneError && size == 1 || r < 0xA0 // not UTF-8, or a control character
		case c == '%':
			escaped = i+2 < len(s) && isUpperHex(s[i+1]) && isUpperHex(s[i+2])
		case c == '{':
			escaped = w.held == 0 && len(w.dst) > 0 && w.dst[len(w.dst)-1] == '!'
		case c == '.' && (i == 0 || s[i-1] == '/'):
			for i+size < len(s) && s[i+size] == '.' {
				size++
			}
			escaped = i+size == len(s) || s[i+size] == '/'
		}
		if escaped {
			w.release([]byte{'%'})
			for range size {
				w.escape(s[i])
				i++
			}
			continue
		}
		if w.held != 0 {
			w.release([]byte{c, c, c}) // what begins here is not of dots only
		}
		w.dst = append(w.dst, s[i:i+size]...)
		i += size
	}
}

// Unescape gives the value of a partition key back from what a template printed of it.
func Unescape(printed string) string {
	if !strings.Contains(printed, "%") {
		return printed
	}
	b := make([]byte, 0, len(printed))
	for i := 0; i < len(printed); i++ {
		if c := printed[i]; c != '%' || i+2 >= len(printed) || !isUpperHex(printed[i+1]) || !isUpperHex(printed[i+2]) {
			b = append(b, c)
			continue
		}
		b = append(b, byte(strings.IndexByte(upperHex, printed[i+1])<<4|strings.IndexByte(upperHex, printed[i+2])))
		i += 2
	}
	return string(b)
}
