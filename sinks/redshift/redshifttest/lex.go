package redshifttest

import "strings"

type kind uint8

const (
	word    kind = iota // keyword or bare name, and numbers
	name                // "quoted"
	literal             // 'quoted', with backslash escapes
	mark                // one character of punctuation, or ::
	dollar              // $tag$, or $1
)

// token of a statement.
type token struct {
	kind     kind
	text     string // of a word in lower case; of names and literals what they mean
	from, to int    // bytes in the source
}

func (t token) is(w string) bool { return t.kind == word && t.text == w }

// lex reads SQL as Redshift does: a backslash escapes in every literal.
func lex(s string) ([]token, string) {
	var out []token
	for i := 0; i < len(s); {
		c := s[i]
		from := i
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case strings.HasPrefix(s[i:], "--"):
			for i < len(s) && s[i] != '\n' {
				i++
			}
		case strings.HasPrefix(s[i:], "/*"):
			end := strings.Index(s[i+2:], "*/")
			if end < 0 {
				return nil, "unterminated /* comment"
			}
			i += end + 4
		case c == '\'' || c == '"':
			var b strings.Builder
			for i++; ; i++ {
				if i >= len(s) {
					return nil, "unterminated quoted string"
				}
				if s[i] == c {
					if i+1 < len(s) && s[i+1] == c {
						i++
					} else {
						break
					}
				} else if c == '\'' && s[i] == '\\' && i+1 < len(s) {
					i++
					switch s[i] {
					case 'n':
						b.WriteByte('\n')
						continue
					case 't':
						b.WriteByte('\t')
						continue
					case 'r':
						b.WriteByte('\r')
						continue
					}
				}
				b.WriteByte(s[i])
			}
			i++
			k := literal
			if c == '"' {
				k = name
			}
			out = append(out, token{k, b.String(), from, i})
		case c == '$':
			for i++; i < len(s) && letter(s[i]); i++ {
			}
			if i < len(s) && s[i] == '$' {
				i++
			}
			out = append(out, token{dollar, s[from:i], from, i})
		case letter(c):
			for i < len(s) && (letter(s[i]) || s[i] == '$') {
				i++
			}
			out = append(out, token{word, strings.ToLower(s[from:i]), from, i})
		default:
			i++
			if strings.HasPrefix(s[from:], "::") {
				i++
			}
			out = append(out, token{mark, s[from:i], from, i})
		}
	}
	return out, ""
}

func letter(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80
}
