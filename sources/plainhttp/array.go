package plainhttp

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	asmutf8 "github.com/segmentio/asm/utf8"
)

// maxDepth is how deep elements may nest, with the array around them.
const maxDepth = 1000

// elements calls add for each element of a JSON array, which is all that the body is. It reads what RFC 8259 says and
// nothing else; elements are passed on as they stand, without the white space around them. Its errors name the byte
// at which the body is not such an array; those of add end it.
func elements(body []byte, add func(data []byte) error) error {
	if !asmutf8.Valid(body) {
		at := 0
		for at < len(body) {
			r, size := utf8.DecodeRune(body[at:])
			if r == utf8.RuneError && size == 1 {
				break
			}
			at += size
		}
		return errMalformed("The body is not valid UTF-8 at byte %d.", at)
	}
	s := scanner{data: body}
	if s.skip(); !s.take('[') {
		return s.malformed("an array of records, [...]; a record a line is sent with the Content-Type " + mediaNDJSON)
	}
	if s.skip(); !s.take(']') {
		for {
			s.skip()
			start := s.pos
			if err := s.value(); err != nil {
				return err
			}
			if err := add(body[start:s.pos]); err != nil {
				return err
			}
			if s.skip(); s.take(']') {
				break
			}
			if !s.take(',') {
				return s.malformed("a comma or ]")
			}
		}
	}
	if s.skip(); s.pos < len(body) {
		return s.malformed("the end of the body")
	}
	return nil
}

// scanner walks through JSON.
type scanner struct {
	data []byte
	pos  int
}

func (s *scanner) malformed(want string) error {
	found := "the body ends"
	if s.pos < len(s.data) {
		r, _ := utf8.DecodeRune(s.data[s.pos:])
		found = fmt.Sprintf("there is %q", r)
	}
	return errMalformed("The body is not valid JSON: at byte %d %s, expected %s.", s.pos, found, want)
}

func space(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

func (s *scanner) skip() {
	for s.pos < len(s.data) && space(s.data[s.pos]) {
		s.pos++
	}
}

func (s *scanner) take(c byte) bool {
	if s.pos < len(s.data) && s.data[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// value walks over one value. It does not call itself, so that depth costs a bit.
func (s *scanner) value() error {
	var objects [(maxDepth + 63) / 64]uint64 // by depth: it is an object that is open
	depth := 0
	for {
		// At the first byte of a value, or before.
		s.skip()
		c := byte(0)
		if s.pos < len(s.data) {
			c = s.data[s.pos]
		}
		var err error
		opened := false
		switch {
		case c == '{' || c == '[':
			if depth == maxDepth-1 {
				return errMalformed("The body nests deeper than %d at byte %d.", maxDepth, s.pos)
			}
			bit := uint64(1) << (depth % 64)
			objects[depth/64] &^= bit
			if c == '{' {
				objects[depth/64] |= bit
			}
			depth++
			s.pos++
			opened = true
		case c == '"':
			err = s.text()
		case c == '-' || c >= '0' && c <= '9':
			err = s.number()
		case c == 't':
			err = s.word("true")
		case c == 'f':
			err = s.word("false")
		case c == 'n':
			err = s.word("null")
		default:
			err = s.malformed("a value")
		}
		if err != nil {
			return err
		}
		// Behind a value, or behind what opened one: to the next value, or out.
		for {
			if depth == 0 {
				return nil
			}
			object := objects[(depth-1)/64]&(1<<((depth-1)%64)) != 0
			s.skip()
			switch {
			case object && s.take('}'), !object && s.take(']'):
				depth--
				opened = false
				continue
			case opened:
			case !s.take(','):
				if object {
					return s.malformed("a comma or }")
				}
				return s.malformed("a comma or ]")
			}
			if object {
				if err := s.name(); err != nil {
					return err
				}
			}
			break
		}
	}
}

// name walks over the name of a member and its colon.
func (s *scanner) name() error {
	s.skip()
	if s.pos == len(s.data) || s.data[s.pos] != '"' {
		return s.malformed("the name of a member")
	}
	if err := s.text(); err != nil {
		return err
	}
	if s.skip(); !s.take(':') {
		return s.malformed("a colon")
	}
	return nil
}

func (s *scanner) word(w string) error {
	for i := range len(w) {
		if !s.take(w[i]) {
			return s.malformed(w)
		}
	}
	return nil
}

// text walks over a string; s is at its quote.
func (s *scanner) text() error {
	s.pos++
	for {
		// Eight bytes at a time as long as none needs a closer look. A borrow can make a byte look wrong, never right.
		const ones, tops = 0x0101010101010101, 0x8080808080808080
		for len(s.data)-s.pos >= 8 {
			x := binary.LittleEndian.Uint64(s.data[s.pos:])
			low, quote, backslash := x-' '*ones, x^'"'*ones, x^'\\'*ones
			if (low&^x|(quote-ones)&^quote|(backslash-ones)&^backslash)&tops != 0 {
				break
			}
			s.pos += 8
		}
		if s.pos == len(s.data) {
			return s.malformed("the end of a string")
		}
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return nil
		case c < ' ':
			return s.malformed("an escape instead of a control character")
		case c == '\\':
			if err := s.escape(); err != nil {
				return err
			}
		default:
			s.pos++
		}
	}
}

func (s *scanner) escape() error {
	s.pos++
	if s.pos == len(s.data) {
		return s.malformed("the rest of an escape")
	}
	switch s.data[s.pos] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos++
		return nil
	case 'u':
		s.pos++
		for range 4 {
			if s.pos == len(s.data) || !hexDigit(s.data[s.pos]) {
				return s.malformed("four hexadecimal digits")
			}
			s.pos++
		}
		return nil
	}
	return s.malformed(`an escape: one of " \ / b f n r t u`)
}

func hexDigit(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// number walks over a number; s is at its first byte.
func (s *scanner) number() error {
	s.take('-')
	if !s.take('0') {
		if err := s.digits(); err != nil {
			return err
		}
	}
	if s.take('.') {
		if err := s.digits(); err != nil {
			return err
		}
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		return s.digits()
	}
	return nil
}

func (s *scanner) digits() error {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
		s.pos++
	}
	if s.pos == start {
		return s.malformed("a digit")
	}
	return nil
}
