package redshifttest

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// value turns a text of the input into one that PostgreSQL takes for the column, or says what is wrong with it.
func (l *loader) value(t *target, s string) (out string, code int, reason string) {
	switch t.base {
	case "character varying", "character":
		if !utf8.ValidString(s) {
			return "", 1220, "String contains invalid or unsupported UTF8 codepoints"
		}
		if strings.ContainsRune(s, 0) {
			return "", 1218, "NUL character"
		}
		if t.length > 0 && len(s) > t.length {
			if !l.s.has("truncatecolumns") {
				return "", 1204, "String length exceeds DDL length"
			}
			for s = s[:t.length]; !utf8.ValidString(s); s = s[:len(s)-1] {
			}
		}
		return s, 0, ""
	case "smallint", "integer", "bigint":
		bits := map[string]int{"smallint": 16, "integer": 32, "bigint": 64}[t.base]
		if _, err := strconv.ParseInt(s, 10, bits); err != nil {
			if errors.Is(err, strconv.ErrRange) {
				return "", 1222, "Overflow, integer out of range"
			}
			return "", 1207, "Invalid digit, Value, Type: " + t.base
		}
	case "boolean":
		if !slices.Contains([]string{"true", "false", "t", "f", "1", "0", "yes", "no", "y", "n"}, strings.ToLower(s)) {
			return "", 1210, "Unknown boolean format"
		}
	case "real", "double precision":
		if _, err := strconv.ParseFloat(s, 64); err != nil {
			return "", 1208, "Invalid or unsupported floating point number"
		}
	case "numeric":
		r, ok := new(big.Rat).SetString(s)
		if !ok {
			return "", 1209, "Invalid numeric format"
		}
		_, args, _ := strings.Cut(strings.TrimSuffix(t.typ, ")"), "(")
		_, scale, _ := strings.Cut(args, ",")
		if n, err := strconv.Atoi(scale); err == nil && !l.s.has("roundec") { // it is cut, not rounded
			f := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil))
			scaled := new(big.Rat).Mul(r, f)
			whole := new(big.Int).Quo(scaled.Num(), scaled.Denom())
			s = new(big.Rat).Quo(new(big.Rat).SetInt(whole), f).FloatString(n)
		}
	case "date":
		for _, layout := range []string{"2006-01-02", "2006/01/02", "20060102", "01/02/2006"} {
			if d, err := time.Parse(layout, s); err == nil {
				return d.Format("2006-01-02"), 0, ""
			}
		}
		return "", 1205, "Invalid Date Format - length must be 10 or more"
	case "timestamp without time zone", "timestamp with time zone":
		switch l.s.words["timeformat"] {
		case "epochsecs", "epochmillisecs":
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return "", 1206, "Invalid timestamp format or value"
			}
			if l.s.words["timeformat"] == "epochsecs" {
				n *= 1000
			}
			return time.UnixMilli(n).UTC().Format("2006-01-02 15:04:05.999999"), 0, ""
		case "auto":
			for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04", "2006-01-02"} {
				if d, err := time.Parse(layout, s); err == nil {
					return d.UTC().Format("2006-01-02 15:04:05.999999") + map[bool]string{true: "Z"}[t.base == "timestamp with time zone"], 0, ""
				}
			}
		default:
			if d, err := time.Parse("2006-01-02 15:04:05", s); err == nil {
				return d.Format("2006-01-02 15:04:05"), 0, ""
			}
		}
		return "", 1206, "Invalid timestamp format or value"
	case "super":
		if !json.Valid([]byte(s)) {
			return "", 1224, "Invalid JSON"
		}
	case "bytea":
		if _, err := hex.DecodeString(s); err != nil {
			return "", 1223, "Invalid hexadecimal"
		}
		return `\x` + s, 0, ""
	}
	return s, 0, ""
}

// row adds a row of texts; nil is NULL.
func (l *loader) row(e entry, line int64, raw string, values []*string) error {
	var row []byte
	for i := range l.columns {
		t := &l.columns[i]
		if i > 0 {
			row = append(row, '\t')
		}
		if values[i] == nil {
			if t.notNull {
				return l.bad(rowError{e.url(), line, t, 1213, "Missing data for not-null field", raw}, false)
			}
			row = append(row, `\N`...)
			continue
		}
		text, code, reason := l.value(t, *values[i])
		if code != 0 {
			return l.bad(rowError{e.url(), line, t, code, reason, raw}, false)
		}
		row = appendText(row, text)
	}
	return l.put(append(row, '\n'))
}

// lines counts them as they are read.
type lines struct {
	r    io.Reader
	at   int64   // bytes read
	ends []int64 // offsets of newlines
}

func (n *lines) Read(p []byte) (int, error) {
	k, err := n.r.Read(p)
	for i, c := range p[:k] {
		if c == '\n' {
			n.ends = append(n.ends, n.at+int64(i))
		}
	}
	n.at += int64(k)
	return k, err
}

func (n *lines) of(offset int64) int64 {
	i, _ := slices.BinarySearch(n.ends, offset)
	return int64(i) + 1
}

// json loads objects that stand one after another.
func (l *loader) json(e entry, r io.Reader) error {
	n := &lines{r: r}
	d := json.NewDecoder(n)
	index := map[string]int{}
	for i, t := range l.columns {
		index[t.name] = i
	}
	fold := l.s.json == "auto ignorecase"
	for {
		var raw json.RawMessage
		err := d.Decode(&raw)
		if err == io.EOF {
			return nil
		}
		line := n.of(d.InputOffset())
		if err != nil {
			return l.bad(rowError{file: e.url(), line: line, code: 1216, reason: "Invalid JSON: " + err.Error()}, true)
		}
		values := make([]*string, len(l.columns))
		switch {
		case l.s.json == "noshred":
			text := string(raw)
			values[0] = &text
		case l.paths != nil:
			for i, p := range l.paths {
				v, problem := p.find(raw)
				if problem != "" {
					if err := l.bad(rowError{e.url(), line, &l.columns[i], 1216, problem, string(raw)}, false); err != nil {
						return err
					}
					values = nil
					break
				}
				values[i] = jsonText(v)
			}
		default:
			var object map[string]json.RawMessage
			if err := json.Unmarshal(raw, &object); err != nil {
				if err := l.bad(rowError{file: e.url(), line: line, code: 1216, reason: "Invalid JSON: an object is wanted", raw: string(raw)}, false); err != nil {
					return err
				}
				continue
			}
			for key, v := range object {
				if fold {
					key = strings.ToLower(key)
				}
				if i, ok := index[key]; ok {
					if l.columns[i].base == "super" && string(v) != "null" {
						text := string(v)
						values[i] = &text
					} else {
						values[i] = jsonText(v)
					}
				}
			}
		}
		if values == nil {
			continue
		}
		for i, v := range values {
			if v != nil && *v == "" && l.s.has("emptyasnull") || v != nil && *v == "" && !strings.HasPrefix(l.columns[i].base, "char") && l.columns[i].base != "super" {
				values[i] = nil
			}
		}
		if err := l.row(e, line, string(raw), values); err != nil {
			return err
		}
	}
}

// jsonText is a JSON value as a text: what a string means, and all else as it is written.
func jsonText(v json.RawMessage) *string {
	v = bytes.TrimSpace(v)
	if len(v) == 0 || string(v) == "null" {
		return nil
	}
	text := string(v)
	if v[0] == '"' {
		if json.Unmarshal(v, &text) != nil {
			return nil
		}
	}
	return &text
}

// jsonPath is a parsed path of a jsonpaths file: names and indices.
type jsonPath []any

func (l *loader) jsonPaths(path string) ([]jsonPath, error) {
	bucket, key, _ := strings.Cut(path, "/")
	b, err := l.get(bucket, key)
	if err != nil {
		return nil, internal(8001, "Problem reading jsonpaths file - The specified key does not exist", path)
	}
	var file struct {
		Paths []string `json:"jsonpaths"`
	}
	if json.Unmarshal(b, &file) != nil || file.Paths == nil {
		return nil, nil // as COPY does: it works as 'auto'
	}
	if len(file.Paths) != len(l.columns) {
		return nil, internal(8001, "Number of jsonpaths and the number of columns should match", path)
	}
	var out []jsonPath
	for _, text := range file.Paths {
		p, ok := parsePath(text)
		if !ok {
			return nil, internal(8001, "Invalid JSONPath format: "+text, path)
		}
		out = append(out, p)
	}
	return out, nil
}

func parsePath(s string) (jsonPath, bool) {
	s, ok := strings.CutPrefix(s, "$")
	if !ok {
		return nil, false
	}
	p := jsonPath{}
	for s != "" {
		switch {
		case strings.HasPrefix(s, "['"):
			end := strings.Index(s, "']")
			if end < 0 {
				return nil, false
			}
			p, s = append(p, s[2:end]), s[end+2:]
		case s[0] == '[':
			end := strings.IndexByte(s, ']')
			if end < 0 {
				return nil, false
			}
			n, err := strconv.Atoi(s[1:end])
			if err != nil || n < 0 {
				return nil, false
			}
			p, s = append(p, n), s[end+1:]
		case s[0] == '.':
			end := strings.IndexAny(s[1:], ".[")
			if end < 0 {
				end = len(s) - 1
			}
			if end == 0 {
				return nil, false
			}
			p, s = append(p, s[1:end+1]), s[end+1:]
		default:
			return nil, false
		}
	}
	return p, true
}

func (p jsonPath) find(v json.RawMessage) (json.RawMessage, string) {
	for _, step := range p {
		switch step := step.(type) {
		case string:
			var object map[string]json.RawMessage
			if json.Unmarshal(v, &object) != nil {
				return nil, ""
			}
			v = object[step]
			if v == nil {
				return nil, ""
			}
		case int:
			var list []json.RawMessage
			if json.Unmarshal(v, &list) != nil || step >= len(list) {
				return nil, "Invalid JSONPath format: Not an array or index out of range."
			}
			v = list[step]
		}
	}
	return v, ""
}

// csv loads CSV, and text between delimiters without quotes.
func (l *loader) csv(e entry, r io.Reader) error {
	c := csv.NewReader(r)
	c.FieldsPerRecord = -1
	if l.s.format == "text" {
		c.Comma = '|'
	}
	if d := l.s.words["delimiter"]; d == `\t` {
		c.Comma = '\t'
	} else if d != "" {
		c.Comma, _ = utf8.DecodeRuneInString(d)
	}
	null := `\N`
	if l.s.has("null") {
		null = l.s.words["null"]
	}
	skip, _ := strconv.Atoi(l.s.words["ignoreheader"])
	for {
		fields, err := c.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			line := int64(0)
			if p, ok := errors.AsType[*csv.ParseError](err); ok {
				line = int64(p.Line)
			}
			return l.bad(rowError{file: e.url(), line: line, code: 1214, reason: "Delimiter not found"}, true)
		}
		at, _ := c.FieldPos(0)
		if skip > 0 {
			skip--
			continue
		}
		code, reason := 0, ""
		switch {
		case len(fields) > len(l.columns):
			code, reason = 1202, "Extra column(s) found"
		case len(fields) < len(l.columns) && !l.s.has("fillrecord"):
			code, reason = 1203, "Missing data: fewer columns than defined"
		}
		if code != 0 {
			if err := l.bad(rowError{file: e.url(), line: int64(at), code: code, reason: reason}, false); err != nil {
				return err
			}
			continue
		}
		values := make([]*string, len(l.columns))
		for i := range fields {
			text := fields[i]
			chars := strings.HasPrefix(l.columns[i].base, "char")
			if text == null || text == "" && (!chars || l.s.has("emptyasnull")) {
				continue
			}
			values[i] = &text
		}
		if err := l.row(e, int64(at), strings.Join(fields, string(c.Comma)), values); err != nil {
			return err
		}
	}
}
