package directput

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads JSON (RFC 8259) strictly from a body. Its errors are SerializationExceptions that give the
// byte at which reading stopped.
type scanner struct {
	data    []byte
	pos     int
	wide    bool   // a string had bytes beyond ASCII
	scratch []byte // of the last string that had escapes
}

// maxDepth is how deep members that nobody knows may nest.
const maxDepth = 1000

func errNotUTF8() error { return errSerialization("The request body is not valid UTF-8.") }

func (s *scanner) malformed(want string) error {
	found := "the body ends"
	if s.pos < len(s.data) {
		r, _ := utf8.DecodeRune(s.data[s.pos:])
		found = fmt.Sprintf("%q stands", r)
	}
	return errSerialization("The request body is not JSON: at byte %d %s where %s is expected.", s.pos, found, want)
}

// wrongType says that the value at the current byte is of another type than its member.
func (s *scanner) wrongType(path, want string) error {
	return errSerialization("%s at byte %d must be %s.", path, s.pos, want)
}

// space skips white space.
func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek skips white space and returns the byte that follows, 0 at the end (which no token begins with).
func (s *scanner) peek() byte {
	s.space()
	if s.pos == len(s.data) {
		return 0
	}
	return s.data[s.pos]
}

// accept skips white space and the byte c where it follows.
func (s *scanner) accept(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

// end wants nothing but white space to be left.
func (s *scanner) end() error {
	if s.peek() != 0 || s.pos < len(s.data) {
		return s.malformed("the end of the body")
	}
	return nil
}

// null skips null where it follows: an absent member.
func (s *scanner) null() bool {
	s.space()
	if bytes.HasPrefix(s.data[s.pos:], []byte("null")) {
		s.pos += len("null")
		return true
	}
	return false
}

// object reads an object at the current byte. member is called for each of its members, with the key
// unescaped and valid until the next read, when the value is next; it has to read the value.
func (s *scanner) object(member func(key []byte) error) error {
	if !s.accept('{') {
		return s.malformed("an object")
	}
	if s.accept('}') {
		return nil
	}
	for {
		if s.peek() != '"' {
			return s.malformed("a member's name")
		}
		key, err := s.string()
		if err != nil {
			return err
		}
		if !s.accept(':') {
			return s.malformed("a colon")
		}
		s.space()
		if err := member(key); err != nil {
			return err
		}
		if s.accept('}') {
			return nil
		}
		if !s.accept(',') {
			return s.malformed("a comma or }")
		}
	}
}

// array reads an array at the current byte; element is called when each element is next and has to read it.
func (s *scanner) array(element func() error) error {
	if !s.accept('[') {
		return s.malformed("an array")
	}
	if s.accept(']') {
		return nil
	}
	for {
		s.space()
		if err := element(); err != nil {
			return err
		}
		if s.accept(']') {
			return nil
		}
		if !s.accept(',') {
			return s.malformed("a comma or ]")
		}
	}
}

// string reads the string whose opening quote is at the current byte and returns it unescaped. The result
// is part of the body where nothing is escaped, and valid until the next string is read.
func (s *scanner) string() ([]byte, error) {
	s.pos++
	run := s.run()
	if s.pos < len(s.data) && s.data[s.pos] == '"' {
		s.pos++
		return run, nil
	}
	text := append(s.scratch[:0], run...)
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case '"':
			s.pos++
			s.scratch = text
			return text, nil
		case '\\':
			r, err := s.escape()
			if err != nil {
				return nil, err
			}
			text = utf8.AppendRune(text, r)
			text = append(text, s.run()...)
		default:
			return nil, s.malformed("a character that needs no escape")
		}
	}
	return nil, s.malformed("a closing quote")
}

// run reads the characters of a string that stand for themselves.
func (s *scanner) run() []byte {
	start, rest, all := s.pos, s.data[s.pos:], byte(0)
	// Eight bytes at a time as long as they are ASCII and need no closer look. A borrow can make a byte look
	// wrong, never right.
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for len(rest) >= 8 {
		x := binary.LittleEndian.Uint64(rest)
		quote, backslash := x^'"'*ones, x^'\\'*ones
		if (x|(x-' '*ones)|(quote-ones)|(backslash-ones))&tops != 0 {
			break
		}
		rest = rest[8:]
	}
	for len(rest) > 0 && rest[0] != '"' && rest[0] != '\\' && rest[0] >= ' ' {
		all |= rest[0]
		rest = rest[1:]
	}
	s.wide = s.wide || all >= utf8.RuneSelf
	s.pos = len(s.data) - len(rest)
	return s.data[start:s.pos]
}

// escape reads the escape whose backslash is at the current byte.
func (s *scanner) escape() (rune, error) {
	s.pos++
	if s.pos == len(s.data) {
		return 0, s.malformed("a closing quote")
	}
	const names, values = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if i := strings.IndexByte(names, s.data[s.pos]); i >= 0 {
		s.pos++
		return rune(values[i]), nil
	}
	if s.data[s.pos] != 'u' {
		return 0, s.malformed("an escape")
	}
	r, err := s.hex()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	// A half without its other half becomes U+FFFD, and what follows is read by itself.
	pos := s.pos
	if !bytes.HasPrefix(s.data[pos:], []byte(`\u`)) {
		return utf8.RuneError, nil
	}
	s.pos++
	other, err := s.hex()
	if err != nil {
		return 0, err
	}
	if r = utf16.DecodeRune(r, other); r == utf8.RuneError {
		s.pos = pos
	}
	return r, nil
}

// hex reads uXXXX at the current byte.
func (s *scanner) hex() (rune, error) {
	s.pos++
	r := rune(0)
	for range 4 {
		if s.pos == len(s.data) {
			return 0, s.malformed("a hexadecimal digit")
		}
		d, err := strconv.ParseUint(string(s.data[s.pos]), 16, 8)
		if err != nil {
			return 0, s.malformed("a hexadecimal digit")
		}
		r = r<<4 | rune(d)
		s.pos++
	}
	return r, nil
}

// skip reads the value at the current byte, whatever it is.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return errSerialization("The request body is nested more than %d deep at byte %d.", maxDepth, s.pos)
	}
	switch c := s.peek(); {
	case c == '{':
		return s.object(func([]byte) error { return s.skip(depth + 1) })
	case c == '[':
		return s.array(func() error { return s.skip(depth + 1) })
	case c == '"':
		_, err := s.string()
		return err
	case c == '-' || '0' <= c && c <= '9':
		_, err := s.number()
		return err
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
			s.pos += len(word)
			return nil
		}
	}
	return s.malformed("a value")
}

// number reads the number at the current byte and returns its text.
func (s *scanner) number() ([]byte, error) {
	start := s.pos
	digits := func() bool {
		from := s.pos
		for s.pos < len(s.data) && '0' <= s.data[s.pos] && s.data[s.pos] <= '9' {
			s.pos++
		}
		return s.pos > from
	}
	next := func(set string) bool {
		if s.pos < len(s.data) && bytes.IndexByte([]byte(set), s.data[s.pos]) >= 0 {
			s.pos++
			return true
		}
		return false
	}
	next("-")
	if !next("0") && !digits() {
		return nil, s.malformed("a digit")
	}
	if next(".") && !digits() {
		return nil, s.malformed("a digit")
	}
	if next("eE") {
		next("+-")
		if !digits() {
			return nil, s.malformed("a digit")
		}
	}
	return s.data[start:s.pos], nil
}

// text reads a member that is a string.
func (s *scanner) text(path string) (string, error) {
	if s.peek() != '"' {
		return "", s.wrongType(path, "a string")
	}
	text, err := s.string()
	return string(text), err
}
