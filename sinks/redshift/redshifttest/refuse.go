package redshifttest

import (
	"fmt"
	"slices"
	"strings"
)

// refusal is why Redshift does not take a statement.
type refusal struct{ state, message string }

func unsupported(format string, args ...any) *refusal {
	return &refusal{"0A000", fmt.Sprintf(format, args...)}
}

// first words of statements that PostgreSQL knows and Redshift does not, or that take more than Redshift's grammar has.
var unknownStatements = []string{"listen", "notify", "unlisten", "discard", "reindex", "cluster", "checkpoint", "do", "load", "savepoint", "release"}

// words anywhere that mean what Redshift lacks; each with what follows it.
var unknownPhrases = []struct{ phrase, message string }{
	{"on conflict", `syntax error at or near "conflict"`},
	{"returning", `syntax error at or near "returning"`},
	{"on commit", `syntax error at or near "commit"`},
	{"prepare transaction", `syntax error at or near "transaction"`},
	{"rollback to", `syntax error at or near "to"`},
	{"create index", "SQL command \"create index\" not supported on Redshift tables."},
	{"create unique index", "SQL command \"create index\" not supported on Redshift tables."},
	{"generated always as (", "generated columns are not supported"},
	{"with hold", "cursors WITH HOLD are not supported"},
	{"insert overriding", `syntax error at or near "overriding"`},
	{"when not matched by", `syntax error at or near "by"`},
}

var unknownFunctions = []string{"pg_advisory_lock", "pg_try_advisory_lock", "pg_advisory_xact_lock", "pg_try_advisory_xact_lock", "gen_random_uuid", "jsonb_build_object", "array_agg", "pg_sleep", "txid_current"}

var unknownTypes = []string{"uuid", "json", "jsonb", "bytea", "inet", "cidr", "xml", "money", "hstore", "serial", "bigserial", "tsvector", "int4range"}

var unknownParameters = []string{"standard_conforming_strings", "bytea_output", "escape_string_warning", "backslash_quote", "lock_timeout", "idle_in_transaction_session_timeout", "synchronous_commit", "default_transaction_isolation"}

// refuse says why Redshift would not take the statement, or nil.
func refuse(tokens []token) *refusal {
	for i, t := range tokens {
		if t.kind == mark && t.text == ";" && i != len(tokens)-1 {
			return &refusal{"42601", "the front takes one statement at a time"}
		}
		if t.kind == dollar && strings.HasSuffix(t.text, "$") {
			return &refusal{"42601", `syntax error at or near "$"`}
		}
		// E'' is two tokens here, and so it is there.
		if t.kind == word && i+1 < len(tokens) && tokens[i+1].kind == literal && tokens[i+1].from == t.to {
			return &refusal{"42704", fmt.Sprintf("type %q does not exist", t.text)}
		}
		if t.kind == word && slices.Contains(unknownFunctions, t.text) && i+1 < len(tokens) && tokens[i+1].text == "(" {
			return &refusal{"42883", fmt.Sprintf("function %s() does not exist", t.text)}
		}
	}
	if len(tokens) == 0 {
		return nil
	}
	first := tokens[0].text
	if tokens[0].kind == word && slices.Contains(unknownStatements, first) {
		return &refusal{"42601", fmt.Sprintf("syntax error at or near %q", first)}
	}
	for _, p := range unknownPhrases {
		if hasPhrase(tokens, strings.Fields(p.phrase)) {
			return &refusal{"42601", p.message}
		}
	}
	switch {
	case first == "set" || first == "show":
		for _, t := range tokens[1:] {
			if t.kind == word && slices.Contains(unknownParameters, t.text) {
				return &refusal{"42704", fmt.Sprintf("unrecognized configuration parameter %q", t.text)}
			}
		}
	case first == "merge":
		return refuseMerge(tokens)
	}
	if first == "create" || first == "alter" {
		for i, t := range tokens {
			if t.kind == word && slices.Contains(unknownTypes, t.text) && i > 0 && (tokens[i-1].kind == name || tokens[i-1].kind == word) {
				return unsupported("Column \"%s\" has unsupported type \"%s\".", tokens[i-1].text, t.text)
			}
			if t.kind == mark && t.text == "[" {
				return unsupported("arrays are not supported")
			}
		}
	}
	for i, t := range tokens {
		if t.text == "::" && i+1 < len(tokens) && slices.Contains(unknownTypes, tokens[i+1].text) {
			return &refusal{"42704", fmt.Sprintf("type %q does not exist", tokens[i+1].text)}
		}
	}
	return nil
}

func hasPhrase(tokens []token, words []string) bool {
	for i := 0; i+len(words) <= len(tokens); i++ {
		found := true
		for j, w := range words {
			if t := tokens[i+j]; t.text != w || t.kind != word && t.kind != mark {
				found = false
				break
			}
		}
		if found {
			return true
		}
	}
	return false
}

// refuseMerge holds MERGE to its restrictions: a target without alias, a source that is a table, both WHEN clauses
// once, no condition in either.
func refuseMerge(tokens []token) *refusal {
	syntax := func(t token) *refusal {
		return &refusal{"42601", fmt.Sprintf("syntax error at or near %q", t.text)}
	}
	i := 1
	at := func() token {
		if i < len(tokens) {
			return tokens[i]
		}
		return token{kind: mark, text: "end of input"}
	}
	if !at().is("into") {
		return syntax(at())
	}
	table := func() bool {
		i++
		if k := at().kind; k != word && k != name || at().is("select") {
			return false
		}
		if i++; at().text == "." {
			i += 2
		}
		return true
	}
	if !table() || !at().is("using") {
		return syntax(at())
	}
	if !table() {
		return syntax(at())
	}
	if at().is("as") {
		i += 2
	} else if !at().is("on") {
		i++
	}
	if !at().is("on") {
		return syntax(at())
	}
	var matched, not int
	for ; i < len(tokens); i++ {
		if !at().is("when") {
			continue
		}
		i++
		if at().is("not") {
			not++
			i++
		} else {
			matched++
		}
		if !at().is("matched") {
			return syntax(at())
		}
		if i++; !at().is("then") {
			return syntax(at())
		}
	}
	if matched != 1 || not != 1 {
		return &refusal{"42601", "MERGE wants one WHEN MATCHED and one WHEN NOT MATCHED clause"}
	}
	return nil
}

// edit replaces bytes of a statement.
type edit struct {
	from, to int
	with     string
}

// rewrite makes PostgreSQL's statement of Redshift's: storage clauses go, keys are not enforced, and types and functions get
// the names that the front's schema has for them.
func rewrite(sql string, tokens []token) string {
	var edits []edit
	cut := func(first, last int) {
		edits = append(edits, edit{tokens[first].from, tokens[min(last, len(tokens)-1)].to, ""})
	}
	closing := func(i int) int { // of the parenthesis at i
		depth := 0
		for ; i < len(tokens); i++ {
			switch {
			case tokens[i].kind != mark:
			case tokens[i].text == "(":
				depth++
			case tokens[i].text == ")":
				if depth--; depth == 0 {
					return i
				}
			}
		}
		return len(tokens) - 1
	}
	opens := func(i int) bool { return i < len(tokens) && tokens[i].kind == mark && tokens[i].text == "(" }
	create := len(tokens) > 0 && (tokens[0].is("create") || tokens[0].is("alter"))
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		if t.kind != word {
			continue
		}
		if t.text == "sysdate" {
			edits = append(edits, edit{t.from, t.to, "front.sysdate()"})
		}
		if t.text == "dateadd" && opens(i+1) && i+3 < len(tokens) && tokens[i+2].is("minute") {
			edits = append(edits, edit{t.from, tokens[i+3].to, "front.add_minutes("})
		}
		if !create {
			continue
		}
		switch t.text {
		case "diststyle", "encode", "backup":
			cut(i, i+1)
			i++
		case "distkey", "sortkey":
			last := i
			if opens(i + 1) {
				last = closing(i + 1)
			}
			cut(i, last)
			i = last
		case "compound", "interleaved":
			cut(i, i)
		case "unique", "primary":
			first, last := i, i
			if t.text == "primary" {
				last++
			}
			if opens(last + 1) { // of the table: its comma goes too
				last = closing(last + 1)
				if tokens[first-1].text == "," {
					first--
				}
			}
			cut(first, last)
			i = last
		case "super":
			edits = append(edits, edit{t.from, t.to, "front.super"})
		case "varbyte":
			last := i
			if opens(i + 1) {
				last = closing(i + 1)
			}
			edits = append(edits, edit{t.from, tokens[last].to, "bytea"})
			i = last
		case "varchar", "text":
			switch {
			case opens(i+1) && i+2 < len(tokens) && tokens[i+2].is("max"):
				edits = append(edits, edit{tokens[i+2].from, tokens[i+2].to, "65535"})
			case !opens(i + 1):
				edits = append(edits, edit{t.from, t.to, "varchar(256)"})
			}
		case "identity":
			if opens(i + 1) {
				last := closing(i + 1)
				edits = append(edits, edit{t.from, tokens[last].to, "generated by default as identity"})
				i = last
			}
		}
	}
	var b strings.Builder
	at := 0
	for _, e := range edits {
		if e.from = max(e.from, at); e.to <= e.from { // of a statement that makes no sense
			continue
		}
		b.WriteString(sql[at:e.from])
		b.WriteString(e.with)
		at = e.to
	}
	b.WriteString(sql[at:])
	return b.String()
}
