package redshifttest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// copyStatement is a parsed COPY.
type copyStatement struct {
	table    string // as SQL
	label    string // as errors call it
	columns  []string
	url      string
	role     string
	key      string
	secret   string
	format   string // json, csv, text, parquet
	json     string // how
	gzip     bool
	zstd     bool
	region   string
	manifest bool
	words    map[string]string // the other options, in lower case, with their arguments
}

// optionArguments are how many arguments an option of COPY has; -1: one that may be left out.
var optionArguments = map[string]int{
	"acceptanydate": 0, "acceptinvchars": -1, "blanksasnull": 0, "comprows": 1, "compupdate": -1, "dateformat": 1, "delimiter": 1, "emptyasnull": 0,
	"encoding": 1, "escape": 0, "explicit_ids": 0, "fillrecord": 0, "ignoreblanklines": 0, "ignoreheader": 1, "maxerror": 1, "null": 1, "quote": 1,
	"removequotes": 0, "roundec": 0, "serializetojson": 0, "statupdate": -1, "timeformat": 1, "trimblanks": 0, "truncatecolumns": 0,
}

// columnar are the options that COPY takes with Parquet.
var columnar = []string{"acceptinvchars", "fillrecord", "explicit_ids", "statupdate", "serializetojson"}

// parseCopy reads COPY as far as the front carries it out.
func parseCopy(tokens []token) (*copyStatement, *refusal) {
	c := &copyStatement{words: map[string]string{}}
	i := 1
	at := func() token {
		if i < len(tokens) {
			return tokens[i]
		}
		return token{kind: mark, text: "end of input"}
	}
	syntax := func() *refusal {
		return &refusal{"42601", fmt.Sprintf("syntax error at or near %q", at().text)}
	}
	quote := func(s string) string { return `"` + strings.ReplaceAll(strings.ToLower(s), `"`, `""`) + `"` }
	ident := func() (string, bool) {
		t := at()
		if t.kind != word && t.kind != name {
			return "", false
		}
		i++
		return quote(t.text), true
	}
	table, ok := ident()
	if !ok {
		return nil, syntax()
	}
	c.label = strings.Trim(table, `"`)
	if at().text == "." {
		i++
		t, ok := ident()
		if !ok {
			return nil, syntax()
		}
		c.label = strings.Trim(t, `"`)
		table += "." + t
	}
	c.table = table
	if at().text == "(" && at().kind == mark {
		for {
			i++
			col, ok := ident()
			if !ok {
				return nil, syntax()
			}
			c.columns = append(c.columns, col)
			if at().text == ")" {
				i++
				break
			}
			if at().text != "," {
				return nil, syntax()
			}
		}
	}
	if !at().is("from") {
		return nil, syntax()
	}
	i++
	if at().kind != literal { // STDIN
		return nil, &refusal{"0A000", "COPY from stdin is not supported"}
	}
	if c.url = at().text; !strings.HasPrefix(c.url, "s3://") {
		return nil, &refusal{"0A000", "COPY reads s3:// alone"}
	}
	i++
	argument := func() (string, *refusal) {
		i++
		if at().is("as") {
			i++
		}
		t := at()
		if t.kind == mark || t.kind == name {
			return "", syntax()
		}
		return t.text, nil
	}
	for ; i < len(tokens); i++ {
		t := at()
		if t.kind == mark && t.text == ";" && i == len(tokens)-1 {
			break
		}
		if t.kind != word {
			return nil, syntax()
		}
		if t.text == "format" {
			i++
			if at().is("as") {
				i++
			}
			if t = at(); !slices.Contains([]string{"json", "csv", "parquet"}, t.text) {
				return nil, syntax()
			}
		}
		var no *refusal
		switch t.text {
		case "iam_role":
			c.role, no = argument()
		case "access_key_id":
			c.key, no = argument()
		case "secret_access_key":
			c.secret, no = argument()
		case "session_token":
			_, no = argument()
		case "region":
			c.region, no = argument()
		case "manifest":
			c.manifest = true
		case "gzip":
			c.gzip = true
		case "zstd":
			c.zstd = true
		case "json", "csv", "parquet":
			if c.format != "" {
				return nil, &refusal{"42601", "conflicting or redundant options"}
			}
			if c.format = t.text; t.text == "json" {
				c.json, no = argument()
			}
		default:
			n, known := optionArguments[t.text]
			if !known {
				return nil, syntax()
			}
			if _, twice := c.words[t.text]; twice {
				return nil, &refusal{"42601", "conflicting or redundant options"}
			}
			c.words[t.text] = ""
			switch {
			case n == 1:
				c.words[t.text], no = argument()
			case n == -1 && i+1 < len(tokens):
				next := tokens[i+1]
				if t.text == "acceptinvchars" && (next.is("as") || next.kind == literal) {
					c.words[t.text], no = argument()
				} else if next.is("on") || next.is("off") || next.is("preset") || next.is("true") || next.is("false") {
					i++
					c.words[t.text] = next.text
				}
			}
		}
		if no != nil {
			return nil, no
		}
	}
	return c, c.check()
}

// check refuses what COPY does not take together.
func (c *copyStatement) check() *refusal {
	if c.format == "" {
		c.format = "text"
	}
	if (c.role == "") == (c.key == "") {
		return &refusal{"42601", "COPY wants exactly one kind of authorization"}
	}
	if c.format == "parquet" {
		if c.region != "" {
			return &refusal{"0A000", "REGION argument is not supported for PARQUET based COPY"}
		}
		if c.gzip || c.zstd {
			return &refusal{"0A000", "compression is not supported for PARQUET based COPY"}
		}
		for w, v := range c.words {
			if !slices.Contains(columnar, w) && (w != "maxerror" || v != "0") {
				return &refusal{"0A000", strings.ToUpper(w) + " argument is not supported for PARQUET based COPY"}
			}
		}
	} else if _, given := c.words["serializetojson"]; given {
		return &refusal{"0A000", "SERIALIZETOJSON is supported for columnar formats only"}
	}
	for _, w := range []string{"null", "delimiter", "fillrecord", "ignoreheader", "quote"} {
		if _, given := c.words[w]; given && c.format == "json" {
			return &refusal{"0A000", strings.ToUpper(w) + " is not supported with JSON format"}
		}
	}
	if n, given := c.words["maxerror"]; given {
		if v, err := strconv.Atoi(n); err != nil || v < 0 || v > 100_000 {
			return &refusal{"42601", "MAXERROR must be between 0 and 100000"}
		}
	}
	return nil
}

func (c *copyStatement) has(w string) bool { _, ok := c.words[w]; return ok }

// maxErrors is how many rows may fail before the load does.
func (c *copyStatement) maxErrors() int {
	n, _ := strconv.Atoi(c.words["maxerror"])
	return max(n, 1)
}
