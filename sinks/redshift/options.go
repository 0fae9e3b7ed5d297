package redshift

import (
	"fmt"
	"strconv"
	"strings"
)

// Format of the staged objects.
type Format uint8

const (
	JSON    Format = 1 << iota // objects, one after another
	CSV                        // RFC 4180
	Text                       // delimited, as COPY's own default
	Parquet                    // columns by position
)

func (f Format) String() string {
	switch f {
	case JSON:
		return "JSON"
	case CSV:
		return "CSV"
	case Text:
		return "delimited text"
	case Parquet:
		return "Parquet"
	}
	return fmt.Sprintf("format(%d)", uint8(f))
}

const (
	textual  = JSON | CSV | Text
	rows     = CSV | Text
	anywhere = textual | Parquet
)

type argument uint8

const (
	none  argument = iota
	texts          // 'literal', AS may stand before it
	number
	word // ON or OFF
	preset
)

// copyOption is a parameter of COPY that a user may give.
type copyOption struct {
	formats  Format
	argument argument
}

// copyOptions are those that may stand in copy_options, from COPY's grammar. For columnar files the documented list is
// a list of what is allowed.
var copyOptions = map[string]copyOption{
	"ACCEPTANYDATE":    {textual, none},
	"ACCEPTINVCHARS":   {anywhere, texts},
	"BLANKSASNULL":     {textual, none},
	"COMPROWS":         {textual, number},
	"COMPUPDATE":       {textual, preset},
	"DATEFORMAT":       {textual, texts},
	"DELIMITER":        {rows, texts},
	"EMPTYASNULL":      {textual, none},
	"ENCODING":         {textual, texts},
	"ESCAPE":           {Text, none},
	"EXPLICIT_IDS":     {anywhere, none},
	"FILLRECORD":       {rows | Parquet, none},
	"IGNOREBLANKLINES": {rows, none},
	"IGNOREHEADER":     {rows, number},
	"MAXERROR":         {textual, number},
	"NULL":             {rows, texts},
	"QUOTE":            {CSV, texts},
	"REGION":           {textual, texts},
	"REMOVEQUOTES":     {Text, none},
	"ROUNDEC":          {textual, none},
	"SERIALIZETOJSON":  {Parquet, none},
	"STATUPDATE":       {anywhere, word},
	"TIMEFORMAT":       {textual, texts},
	"TRIMBLANKS":       {textual, none},
	"TRUNCATECOLUMNS":  {textual, none},
}

// refusedOptions are words of COPY with the reason why they cannot be given.
var refusedOptions = map[string]string{
	"FROM": "Hydrant says where the objects are", "MANIFEST": "Hydrant always loads by a manifest",
	"CREDENTIALS": "give iam_role or credentials", "WITH": "give iam_role or credentials", "IAM_ROLE": "give iam_role",
	"ACCESS_KEY_ID": "give credentials", "SECRET_ACCESS_KEY": "give credentials", "SESSION_TOKEN": "give credentials",
	"ENCRYPTED": "objects are not encrypted by the client", "MASTER_SYMMETRIC_KEY": "objects are not encrypted by the client",
	"IGNOREALLERRORS": "rows would be lost without a trace", "NOLOAD": "nothing would be loaded",
	"SSH": "objects are in S3", "READRATIO": "it is for DynamoDB", "FIXEDWIDTH": "Hydrant writes no columns of fixed width",
	"AVRO": "Hydrant writes no Avro", "ORC": "Hydrant writes no ORC", "SHAPEFILE": "Hydrant writes no shapefiles",
	"BZIP2": "Hydrant writes no bzip2", "LZOP": "Hydrant writes no lzop",
}

// Compressions that a staged object can have, in words of COPY.
var compressions = map[string]string{"": "", "none": "", "gzip": "GZIP", "zstd": "ZSTD"}

type token struct {
	text   string
	quoted bool // a literal: text is what it means
	at     int  // byte in the source
}

// tokens splits copy_options: words, numbers and literals with doubled quotes and backslash escapes.
func tokens(s string) ([]token, error) {
	var out []token
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case c == '\'':
			t := token{quoted: true, at: i}
			var b strings.Builder
			i++
			for {
				if i >= len(s) {
					return nil, fmt.Errorf("the literal at byte %d does not end", t.at)
				}
				if s[i] == '\'' {
					if i+1 < len(s) && s[i+1] == '\'' {
						b.WriteByte('\'')
						i += 2
						continue
					}
					i++
					break
				}
				if s[i] == 0 {
					return nil, fmt.Errorf("byte %d is a NUL", i)
				}
				if s[i] == '\\' && i+1 < len(s) && (s[i+1] == '\\' || s[i+1] == '\'') {
					i++ // a lone backslash stays: COPY reads \N and \t by itself
				}
				b.WriteByte(s[i])
				i++
			}
			t.text = b.String()
			out = append(out, t)
		case isWord(c):
			from := i
			for i < len(s) && isWord(s[i]) {
				i++
			}
			out = append(out, token{text: s[from:i], at: from})
		default:
			return nil, fmt.Errorf("%q at byte %d has no meaning there", rune(c), i)
		}
	}
	return out, nil
}

func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// userOptions are checked copy_options.
type userOptions struct {
	format   Format          // 0: not said
	json     string          // argument of JSON: auto, auto ignorecase, noshred, the URL of a jsonpaths file
	compress string          // GZIP, ZSTD or ""
	words    []string        // the options in the order given, as SQL
	has      map[string]bool // which
}

// parseOptions reads copy_options. What COPY would refuse for the format is refused here, by name.
func parseOptions(s string) (*userOptions, error) {
	list, err := tokens(s)
	if err != nil {
		return nil, fmt.Errorf("copy_options: %w", err)
	}
	u := &userOptions{has: map[string]bool{}}
	next := func() (token, bool) {
		if len(list) == 0 {
			return token{}, false
		}
		t := list[0]
		list = list[1:]
		return t, true
	}
	peek := func(w string) bool { return len(list) > 0 && !list[0].quoted && strings.EqualFold(list[0].text, w) }
	skipAs := func() {
		if peek("AS") {
			next()
		}
	}
	needText := func(of string) (string, error) {
		skipAs()
		t, ok := next()
		if !ok || !t.quoted {
			return "", fmt.Errorf("copy_options: %s wants a text in single quotes after it", of)
		}
		return Literal(t.text)
	}
	formatted := func(f Format) error {
		if u.format != 0 {
			return fmt.Errorf("copy_options: there are two formats, %s and %s", u.format, f)
		}
		u.format = f
		return nil
	}
	for {
		t, ok := next()
		if !ok {
			break
		}
		if t.quoted {
			return nil, fmt.Errorf("copy_options: the text at byte %d belongs to no option", t.at)
		}
		name := strings.ToUpper(t.text)
		if name == "FORMAT" {
			skipAs()
			if t, ok = next(); !ok || t.quoted {
				return nil, fmt.Errorf("copy_options: FORMAT wants CSV, JSON or PARQUET after it")
			}
			if name = strings.ToUpper(t.text); name != "CSV" && name != "JSON" && name != "PARQUET" {
				if why := refusedOptions[name]; why != "" {
					return nil, fmt.Errorf("copy_options: FORMAT %s cannot be given: %s", name, why)
				}
				return nil, fmt.Errorf("copy_options: FORMAT %q is unknown; it is CSV, JSON or PARQUET", t.text)
			}
		}
		if why := refusedOptions[name]; why != "" {
			return nil, fmt.Errorf("copy_options: %s cannot be given: %s", name, why)
		}
		switch name {
		case "JSON":
			if err := formatted(JSON); err != nil {
				return nil, err
			}
			u.json = "'auto'"
			if peek("AS") || len(list) > 0 && list[0].quoted {
				if u.json, err = needText(name); err != nil {
					return nil, err
				}
			}
			continue
		case "CSV", "PARQUET":
			if err := formatted(map[string]Format{"CSV": CSV, "PARQUET": Parquet}[name]); err != nil {
				return nil, err
			}
			continue
		case "GZIP", "ZSTD":
			if u.compress != "" {
				return nil, fmt.Errorf("copy_options: there are two compressions, %s and %s", u.compress, name)
			}
			u.compress = name
			continue
		}
		o, known := copyOptions[name]
		if !known {
			return nil, fmt.Errorf("copy_options: %q at byte %d is no option of COPY", t.text, t.at)
		}
		if u.has[name] {
			return nil, fmt.Errorf("copy_options: %s is given twice", name)
		}
		u.has[name] = true
		sql := name
		switch o.argument {
		case texts:
			if name == "ACCEPTINVCHARS" && !peek("AS") && (len(list) == 0 || !list[0].quoted) {
				break // its character may be left out
			}
			lit, err := needText(name)
			if err != nil {
				return nil, err
			}
			sql += " AS " + lit
		case number:
			skipAs()
			t, ok := next()
			n, err := strconv.ParseUint(t.text, 10, 31)
			if !ok || t.quoted || err != nil {
				return nil, fmt.Errorf("copy_options: %s wants a number after it", name)
			}
			switch {
			case name == "MAXERROR" && n > 100_000:
				return nil, fmt.Errorf("copy_options: MAXERROR is %d; at most 100000", n)
			case name == "MAXERROR":
				// COPY would leave rows out and succeed. How many rows an object of text has is not known, so nobody would
				// notice: it is taken, as Firehose takes it, and not handed on.
				continue
			case name == "IGNOREHEADER" && n > 0:
				return nil, fmt.Errorf("copy_options: IGNOREHEADER %d cannot be given: objects have no header, and the first rows of each would be lost without a trace; take it out", n)
			}
			sql += " " + strconv.FormatUint(n, 10)
		case word, preset:
			for _, w := range []string{"ON", "OFF", "TRUE", "FALSE", "PRESET"} {
				if peek(w) && (w != "PRESET" || o.argument == preset) {
					next()
					sql += " " + w
					break
				}
			}
		}
		u.words = append(u.words, sql)
	}
	if u.format == 0 && u.has["DELIMITER"] {
		u.format = Text
	}
	return u, nil
}

// check says whether the options go with the format and compression of the objects.
func (u *userOptions) check(f Format, compression string) error {
	for name := range u.has {
		if copyOptions[name].formats&f == 0 {
			return fmt.Errorf("copy_options: COPY does not take %s with %s", name, f)
		}
	}
	if u.compress != "" && u.compress != compression {
		is := "not compressed"
		if compression != "" {
			is = compression
		}
		if f == Parquet {
			is = "Parquet, which is compressed inside"
		}
		return fmt.Errorf("copy_options: %s is given, and the objects are %s", u.compress, is)
	}
	return nil
}
