package format

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// SchemaError says what is wrong with a declared schema, and where.
type SchemaError struct {
	Entry   int    // index in the list given to ParseColumns, or -1
	Line    int    // in the text of the entry or of the DDL, from 1
	Char    int    // character in that line, from 1
	Column  string // dotted path of the column or struct member concerned, or "" when none has been read
	Found   string // the offending text, or "" at the end of the text
	Problem string
	Hint    string // what to do about it, or ""
}

func (e *SchemaError) Error() string {
	var b strings.Builder
	switch {
	case e.Column != "":
		fmt.Fprintf(&b, "column %q: ", e.Column)
	case e.Entry >= 0:
		fmt.Fprintf(&b, "column number %d: ", e.Entry+1)
	}
	b.WriteString(e.Problem)
	at := fmt.Sprintf("character %d", e.Char)
	if e.Line > 1 {
		at = fmt.Sprintf("line %d, %s", e.Line, at)
	}
	if e.Found == "" {
		fmt.Fprintf(&b, " (at the end of the text, %s)", at)
	} else {
		fmt.Fprintf(&b, " (at %q, %s)", e.Found, at)
	}
	if e.Hint != "" {
		b.WriteString("; ")
		b.WriteString(e.Hint)
	}
	return b.String()
}

// ParseColumns reads a schema given as a list of columns in order, each "name type" (a COMMENT 'text' may
// follow). The error joins one *SchemaError for each faulty entry, with Entry set.
func ParseColumns(columns []string) (*Schema, error) {
	if len(columns) == 0 {
		return nil, &SchemaError{Entry: -1, Line: 1, Char: 1, Problem: "a schema needs at least one column", Hint: `list columns as "name type"`}
	}
	var errs []error
	s := &Schema{Fields: make([]Field, 0, len(columns))}
	seen := map[string]string{}
	n := 0
	for i, text := range columns {
		p := parser{text: text, leaves: n}
		f, err := p.entry(seen)
		n = p.leaves
		if err != nil {
			err.Entry = i
			errs = append(errs, err)
			if p.tooMany {
				break // every entry after it would only say so again
			}
			continue
		}
		s.Fields = append(s.Fields, f)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

// ParseDDL reads a schema given as one text: either columns separated by commas, or a whole CREATE TABLE
// statement, of which the columns between the parentheses count and what follows them (PARTITIONED BY,
// STORED AS, LOCATION, ...) is left aside, since it is not in the files. The error is a *SchemaError.
func ParseDDL(text string) (*Schema, error) {
	p := parser{text: text}
	s, err := p.ddl()
	if err != nil {
		err.Entry = -1
		return nil, err
	}
	return s, nil
}

// ParseType reads one type. The error is a *SchemaError.
func ParseType(text string) (Type, error) {
	p := parser{text: text}
	t, err := p.wholeType()
	if err != nil {
		err.Entry = -1
		return Type{}, err
	}
	return t, nil
}

type tokenKind uint8

const (
	tokenEnd    tokenKind = iota
	tokenWord             // a bare name, type or number
	tokenQuoted           // a name in backquotes
	tokenText             // a literal in single or double quotes
	tokenPunct            // one character
)

type token struct {
	kind  tokenKind
	off   int    // where it starts, in bytes
	raw   string // as it stands in the text
	value string // without its quotes
}

// parser is a recursive descent over tokens with one token of lookahead. Its depth is bounded by
// MaxSchemaDepth.
type parser struct {
	text    string
	off     int // where tok ends
	tok     token
	path    []string // names of the column and of the struct members that are being read
	leaves  int
	tooMany bool
}

// start checks the text as a whole and reads the first token.
func (p *parser) start() *SchemaError {
	for i, r := range p.text {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(p.text[i:]); n == 1 {
				p.tok = token{kind: tokenPunct, off: i, raw: p.text[i : i+1]}
				return p.fail("the schema is not valid UTF-8", "")
			}
		}
	}
	return p.next()
}

// fail describes a fault at the current token.
func (p *parser) fail(problem, hint string) *SchemaError { return p.failAt(p.tok, problem, hint) }

func (p *parser) failAt(t token, problem, hint string) *SchemaError {
	before := p.text[:t.off]
	line := strings.Count(before, "\n")
	start := strings.LastIndexByte(before, '\n') + 1
	found := t.raw
	if r := []rune(found); len(r) > 60 {
		found = string(r[:60]) + "..."
	}
	return &SchemaError{
		Entry: -1, Line: line + 1, Char: utf8.RuneCountInString(before[start:]) + 1,
		Column: strings.Join(p.path, "."), Found: found, Problem: problem, Hint: hint,
	}
}

// next reads a token into p.tok.
func (p *parser) next() *SchemaError {
	if err := p.skipBlanks(); err != nil {
		return err
	}
	start := p.off
	if start == len(p.text) {
		p.tok = token{kind: tokenEnd, off: start}
		return nil
	}
	switch c := p.text[start]; c {
	case '`', '\'', '"':
		value, n := unquote(p.text[start:], c)
		if n == 0 {
			p.tok = token{kind: tokenPunct, off: start, raw: p.text[start:]}
			return p.fail("a quote is opened and never closed", "close it with "+string(c))
		}
		kind := tokenText
		if c == '`' {
			kind = tokenQuoted
		}
		p.tok = token{kind: kind, off: start, raw: p.text[start : start+n], value: value}
		p.off += n
		return nil
	}
	n := strings.IndexFunc(p.text[start:], func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(",:<>()`'\";=", r)
	})
	switch n {
	case -1:
		n = len(p.text) - start
		fallthrough
	default:
		p.tok = token{kind: tokenWord, off: start, raw: p.text[start : start+n], value: p.text[start : start+n]}
	case 0:
		_, n = utf8.DecodeRuneInString(p.text[start:])
		p.tok = token{kind: tokenPunct, off: start, raw: p.text[start : start+n]}
	}
	p.off += n
	return nil
}

// skipBlanks passes white space and SQL comments.
func (p *parser) skipBlanks() *SchemaError {
	for p.off < len(p.text) {
		rest := p.text[p.off:]
		switch {
		case strings.HasPrefix(rest, "--"):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			p.off += n
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest, "*/")
			if n < 0 {
				p.tok = token{kind: tokenPunct, off: p.off, raw: rest}
				return p.fail("a comment is opened and never closed", "close it with */")
			}
			p.off += n + 2
		default:
			r, n := utf8.DecodeRuneInString(rest)
			if !unicode.IsSpace(r) {
				return nil
			}
			p.off += n
		}
	}
	return nil
}

// unquote reads a quoted text at the start of s: a doubled quote stands for one, and in literals a
// backslash takes the next character as it is. n is 0 when the quote is not closed.
func unquote(s string, quote byte) (value string, n int) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quote != '`' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] != quote:
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == quote:
			i++
			b.WriteByte(quote)
		default:
			return b.String(), i + 1
		}
	}
	return "", 0
}

func (p *parser) isWord(w string) bool {
	return p.tok.kind == tokenWord && strings.EqualFold(p.tok.value, w)
}

func (p *parser) isPunct(c string) bool { return p.tok.kind == tokenPunct && p.tok.raw == c }

// takeWords passes the given words if they all follow, and tells whether they did. The first must match
// for the others to be demanded.
func (p *parser) takeWords(words ...string) (bool, *SchemaError) {
	for i, w := range words {
		if !p.isWord(w) {
			if i == 0 {
				return false, nil
			}
			return false, p.fail("expected "+strings.ToUpper(w), "")
		}
		if err := p.next(); err != nil {
			return false, err
		}
	}
	return true, nil
}

// take passes one punctuation character.
func (p *parser) take(c, where, hint string) *SchemaError {
	if !p.isPunct(c) {
		return p.fail(fmt.Sprintf("expected %q %s", c, where), hint)
	}
	return p.next()
}

func (p *parser) entry(seen map[string]string) (Field, *SchemaError) {
	if err := p.start(); err != nil {
		return Field{}, err
	}
	f, err := p.field(seen, 1)
	if err != nil {
		return Field{}, err
	}
	if p.tok.kind != tokenEnd {
		hint := "remove it"
		if p.isPunct(",") {
			hint = "give one column in each entry of the list"
		}
		return Field{}, p.fail("unexpected text after the column", hint)
	}
	return f, nil
}

func (p *parser) wholeType() (Type, *SchemaError) {
	if err := p.start(); err != nil {
		return Type{}, err
	}
	t, err := p.typ(1)
	if err != nil {
		return Type{}, err
	}
	if p.tok.kind != tokenEnd {
		return Type{}, p.fail("unexpected text after the type", "remove it")
	}
	return t, nil
}

func (p *parser) ddl() (*Schema, *SchemaError) {
	if err := p.start(); err != nil {
		return nil, err
	}
	table, err := p.createTable()
	if err != nil {
		return nil, err
	}
	if !table && p.tok.kind == tokenEnd {
		return nil, p.fail("a schema needs at least one column", `give columns as "name type, name type"`)
	}
	s := &Schema{}
	seen := map[string]string{}
	for {
		f, err := p.field(seen, 1)
		if err != nil {
			return nil, err
		}
		s.Fields = append(s.Fields, f)
		if !p.isPunct(",") {
			break
		}
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	if table {
		if err := p.take(")", "or a comma after the column", ""); err != nil {
			return nil, err
		}
		if p.tok.kind == tokenEnd || p.isPunct(";") || p.tok.kind == tokenWord && startsClause(p.tok.value) {
			return s, nil
		}
		return nil, p.fail("unexpected text after the columns of the table", "remove it")
	}
	if p.isPunct(";") {
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	if p.tok.kind != tokenEnd {
		return nil, p.fail("expected a comma or the end after the column", "")
	}
	return s, nil
}

// createTable passes everything up to the opening parenthesis of a CREATE TABLE statement, if there is one.
func (p *parser) createTable() (bool, *SchemaError) {
	// A column may be called create too; only CREATE followed by a word of the statement starts one.
	save := *p
	if ok, err := p.takeWords("create"); err != nil || !ok {
		return false, err
	}
	for p.isWord("external") || p.isWord("temporary") {
		if err := p.next(); err != nil {
			return false, err
		}
	}
	if ok, err := p.takeWords("table"); err != nil || !ok {
		*p = save
		return false, err
	}
	if _, err := p.takeWords("if", "not", "exists"); err != nil {
		return false, err
	}
	// The table's name: a bare word may hold dots; quoted parts are joined by words that are dots.
	names := 0
	for p.tok.kind == tokenWord || p.tok.kind == tokenQuoted {
		names++
		if err := p.next(); err != nil {
			return false, err
		}
	}
	if names == 0 {
		return false, p.fail("expected the name of the table", "")
	}
	return true, p.take("(", "before the columns of the table", "")
}

// startsClause tells the words that may follow the columns of a table definition.
func startsClause(word string) bool {
	switch strings.ToLower(word) {
	case "comment", "partitioned", "clustered", "skewed", "row", "stored", "location", "tblproperties", "with":
		return true
	}
	return false
}

// field reads a column or a member of a struct: its name, its type and perhaps a comment. Depth is that of
// its type. Names seen so far are in seen, by lower case; the field's is added.
func (p *parser) field(seen map[string]string, depth int) (Field, *SchemaError) {
	nameTok := p.tok
	what := "a column"
	if depth > 1 {
		what = "a struct's member"
	}
	switch p.tok.kind {
	case tokenWord, tokenQuoted:
	default:
		return Field{}, p.fail("expected the name of "+what, `write it as name and type; names with other than letters, digits and _ go in backquotes`)
	}
	name := p.tok.value
	if name == "" || strings.ContainsFunc(name, unicode.IsControl) {
		return Field{}, p.fail("the name of "+what+" is empty or has control characters", "give it another name")
	}
	p.path = append(p.path, name)
	defer func() { p.path = p.path[:len(p.path)-1] }()
	if err := p.next(); err != nil {
		return Field{}, err
	}
	if p.isPunct(":") {
		if err := p.next(); err != nil {
			return Field{}, err
		}
	}
	t, err := p.typ(depth)
	if err != nil {
		return Field{}, err
	}
	if ok, err := p.takeWords("comment"); err != nil {
		return Field{}, err
	} else if ok {
		if p.tok.kind != tokenText {
			return Field{}, p.fail("expected the text of the comment in quotes", "write COMMENT 'text'")
		}
		if err := p.next(); err != nil {
			return Field{}, err
		}
	}
	if p.isWord("not") || p.isWord("null") || p.isWord("primary") || p.isWord("default") {
		return Field{}, p.fail("constraints are not supported: every column may be null", "remove "+strings.ToUpper(p.tok.value))
	}
	key := strings.ToLower(name)
	if first, dup := seen[key]; dup {
		return Field{}, p.failAt(nameTok, fmt.Sprintf("the name was already given to %q (case does not count)", first), "rename one of the two")
	}
	seen[key] = name
	return Field{Name: name, Type: t}, nil
}

// typ reads a type that stands depth types deep.
func (p *parser) typ(depth int) (Type, *SchemaError) {
	if depth > MaxSchemaDepth {
		return Type{}, p.fail(fmt.Sprintf("types are nested more than %d deep", MaxSchemaDepth), "declare the inner part as string")
	}
	nameTok := p.tok
	if p.tok.kind != tokenWord {
		return Type{}, p.fail("expected a type", "")
	}
	word := strings.ToLower(p.tok.value)
	kind, known := kindOf(word)
	if !known {
		return Type{}, p.fail(fmt.Sprintf("unknown type %q", p.tok.value), typeHint(word))
	}
	if err := p.next(); err != nil {
		return Type{}, err
	}
	t := Type{Kind: kind}
	switch kind {
	case Decimal:
		err := p.decimal(&t)
		return t, err
	case Char, VarChar:
		err := p.length(&t)
		return t, err
	case Array:
		err := p.array(&t, depth)
		return t, err
	case Map:
		err := p.mapping(&t, depth)
		return t, err
	case Struct:
		err := p.structure(&t, depth)
		return t, err
	case Double:
		if p.isWord("precision") {
			if err := p.next(); err != nil {
				return t, err
			}
		}
	case Timestamp:
		if p.isWord("with") || p.isWord("without") {
			return t, p.fail("a timestamp is always an instant: time zones are not part of the type", "write timestamp alone")
		}
	}
	if p.isPunct("(") || p.isPunct("<") {
		return t, p.fail(fmt.Sprintf("%s takes no parameters", kind), "remove them")
	}
	return t, p.leaf(nameTok)
}

// leaf counts a column that holds values.
func (p *parser) leaf(at token) *SchemaError {
	p.leaves++
	if p.leaves > MaxLeaves {
		p.tooMany = true
		return p.failAt(at, fmt.Sprintf("the schema has more than %d columns, nested ones included", MaxLeaves), "declare rarely used parts as string")
	}
	return nil
}

func (p *parser) decimal(t *Type) *SchemaError {
	t.Precision, t.Scale = DefaultPrecision, DefaultScale
	at := p.tok
	if p.isPunct("(") {
		var err *SchemaError
		if err = p.next(); err != nil {
			return err
		}
		hint := fmt.Sprintf("write decimal(p,s) with 1 <= p <= %d and 0 <= s <= p", MaxPrecision)
		if t.Precision, err = p.number(1, MaxPrecision, "precision", hint); err != nil {
			return err
		}
		if p.isPunct(",") {
			if err = p.next(); err != nil {
				return err
			}
			if t.Scale, err = p.number(0, t.Precision, "scale", hint); err != nil {
				return err
			}
		}
		if err = p.take(")", "after the precision and scale", hint); err != nil {
			return err
		}
	}
	return p.leaf(at)
}

func (p *parser) length(t *Type) *SchemaError {
	limit := MaxVarChar
	if t.Kind == Char {
		limit = MaxChar
	}
	hint := fmt.Sprintf("write %s(n) with 1 <= n <= %d, or string", t.Kind, limit)
	at := p.tok
	err := p.take("(", fmt.Sprintf("and a length after %s", t.Kind), hint)
	if err != nil {
		return err
	}
	if t.Length, err = p.number(1, limit, "length", hint); err != nil {
		return err
	}
	if err := p.take(")", "after the length", hint); err != nil {
		return err
	}
	return p.leaf(at)
}

// number reads a decimal integer between low and high.
func (p *parser) number(low, high int, what, hint string) (int, *SchemaError) {
	n, err := strconv.ParseUint(p.tok.value, 10, 31)
	if p.tok.kind != tokenWord || err != nil || int(n) < low || int(n) > high {
		return 0, p.fail(fmt.Sprintf("the %s is not a number from %d to %d", what, low, high), hint)
	}
	return int(n), p.next()
}

func (p *parser) array(t *Type, depth int) *SchemaError {
	err := p.take("<", "after array", "write array<type>")
	if err != nil {
		return err
	}
	elem, err := p.typ(depth + 1)
	if err != nil {
		return err
	}
	t.Elem = &elem
	return p.take(">", "after the type of the array's elements", "")
}

func (p *parser) mapping(t *Type, depth int) *SchemaError {
	const hint = "write map<key type,value type>"
	err := p.take("<", "after map", hint)
	if err != nil {
		return err
	}
	keyTok := p.tok
	key, err := p.typ(depth + 1)
	if err != nil {
		return err
	}
	if key.Nested() {
		return p.failAt(keyTok, "a map's key cannot be nested", "use string for the key")
	}
	if err := p.take(",", "after the type of the map's keys", hint); err != nil {
		return err
	}
	elem, err := p.typ(depth + 1)
	if err != nil {
		return err
	}
	t.Key, t.Elem = &key, &elem
	return p.take(">", "after the type of the map's values", hint)
}

func (p *parser) structure(t *Type, depth int) *SchemaError {
	const hint = "write struct<name:type,name:type>"
	if err := p.take("<", "after struct", hint); err != nil {
		return err
	}
	if p.isPunct(">") {
		return p.fail("a struct needs at least one member", hint)
	}
	seen := map[string]string{}
	for {
		f, err := p.field(seen, depth+1)
		if err != nil {
			return err
		}
		t.Fields = append(t.Fields, f)
		if !p.isPunct(",") {
			break
		}
		if err := p.next(); err != nil {
			return err
		}
	}
	return p.take(">", "or a comma after the struct's member", hint)
}

// kindOf knows Hive's type names and its synonyms.
func kindOf(word string) (Kind, bool) {
	switch word {
	case "integer":
		return Int, true
	case "dec", "numeric":
		return Decimal, true
	}
	for k, name := range kindNames {
		if name == word && name != "" {
			return Kind(k), true
		}
	}
	return 0, false
}

// typeHint tells what to write instead of a word that is no type here.
func typeHint(word string) string {
	instead := map[string]string{
		"uniontype": "unions have no Parquet form: declare the column as string, or as a struct with a member for each alternative",
		"union":     "unions have no Parquet form: declare the column as string, or as a struct with a member for each alternative",
		"set":       "use array<type>: sets are not supported",
		"bool":      "use boolean", "byte": "use tinyint", "short": "use smallint", "long": "use bigint",
		"int8": "use tinyint", "int16": "use smallint", "int32": "use int", "int64": "use bigint", "number": "use decimal(p,s)",
		"float32": "use float", "float64": "use double", "real": "use double", "text": "use string", "json": "use string",
		"uuid": "use string", "variant": "use string", "super": "use string", "bytes": "use binary", "blob": "use binary",
		"datetime": "use timestamp", "timestamptz": "use timestamp", "timestamp_ntz": "use timestamp", "time": "use string",
		"interval": "use string", "list": "use array<type>", "row": "use struct<name:type>", "record": "use struct<name:type>",
		"object": "use struct<name:type>, or map<string,type>", "void": "use string",
	}
	if hint, ok := instead[word]; ok {
		return hint
	}
	return "the types are " + strings.Join(kindNames[1:], ", ") + "; a name with blanks or punctuation goes in backquotes"
}
