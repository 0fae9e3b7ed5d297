package redshift

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxIdentifier is the longest name of a table or a column, in bytes of UTF-8.
const maxIdentifier = 127

// Literal quotes a text for Redshift, whose ordinary literals know backslash escapes whatever the session says: both
// the quote and the backslash are doubled. A NUL cannot be quoted.
func Literal(s string) (string, error) {
	if i := strings.IndexByte(s, 0); i >= 0 {
		return "", fmt.Errorf("the text %q has a NUL at byte %d, which no text in Redshift can have", s, i)
	}
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("the text %q is not UTF-8", s)
	}
	return literal(s), nil
}

// literal is Literal of a text that was checked before.
func literal(s string) string { return "'" + literalEscapes.Replace(s) + "'" }

var literalEscapes = strings.NewReplacer("'", "''", `\`, `\\`)

// Identifier quotes a name of a table, schema or column. Redshift folds names to lower case, quoted ones too, so that is
// what it is given.
func Identifier(s string) (string, error) {
	switch folded := strings.ToLower(s); {
	case s == "":
		return "", fmt.Errorf("a name is empty")
	case len(folded) > maxIdentifier:
		return "", fmt.Errorf("the name %q has %d bytes, and Redshift takes %d", s, len(folded), maxIdentifier)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", fmt.Errorf("the name %q has control characters or is not UTF-8", s)
	default:
		return `"` + strings.ReplaceAll(folded, `"`, `""`) + `"`, nil
	}
}

// Name is the name of a table, with its schema unless it has none.
type Name struct{ Schema, Table string }

// ParseName reads table or schema.table, each bare or in double quotes.
func ParseName(text string) (Name, error) {
	var parts []string
	rest := text
	for {
		var part string
		if strings.HasPrefix(rest, `"`) {
			var b strings.Builder
			i := 1
			for ; i < len(rest); i++ {
				if rest[i] == '"' {
					if i+1 < len(rest) && rest[i+1] == '"' {
						i++
					} else {
						break
					}
				}
				b.WriteByte(rest[i])
			}
			if i >= len(rest) {
				return Name{}, fmt.Errorf("the name %q has a quote that does not end", text)
			}
			part, rest = b.String(), rest[i+1:]
		} else {
			end := strings.IndexByte(rest, '.')
			if end < 0 {
				end = len(rest)
			}
			if part = rest[:end]; !bareName.MatchString(part) {
				return Name{}, fmt.Errorf("the name %q wants double quotes around %q", text, part)
			}
			rest = rest[end:]
		}
		if _, err := Identifier(part); err != nil {
			return Name{}, err
		}
		parts = append(parts, part)
		if rest == "" {
			break
		}
		if rest[0] != '.' || len(parts) == 2 {
			return Name{}, fmt.Errorf("the name %q is not of the form table or schema.table", text)
		}
		rest = rest[1:]
	}
	if len(parts) == 1 {
		return Name{Table: parts[0]}, nil
	}
	return Name{parts[0], parts[1]}, nil
}

var bareName = regexp.MustCompile(`^[\p{L}_][\p{L}\p{N}_$]*$`)

// sql is the quoted name, which ParseName has checked.
func (n Name) sql() string {
	t, _ := Identifier(n.Table)
	if n.Schema == "" {
		return t
	}
	s, _ := Identifier(n.Schema)
	return s + "." + t
}

func (n Name) String() string { return n.sql() }

// SQL is the quoted name.
func (n Name) SQL() string { return n.sql() }

// identifiers quotes a list of columns, which are different once they are folded.
func identifiers(names []string) ([]string, error) {
	out := make([]string, len(names))
	seen := map[string]bool{}
	for i, name := range names {
		q, err := Identifier(name)
		if err != nil {
			return nil, err
		}
		if seen[q] {
			return nil, fmt.Errorf("the column %q is named twice; names differ by more than their case", name)
		}
		seen[q], out[i] = true, q
	}
	return out, nil
}
