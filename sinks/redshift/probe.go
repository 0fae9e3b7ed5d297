package redshift

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hydrant/sinks"
)

var _ sinks.Prober = (*Sink)(nil)

// Probe asks the bucket and the warehouse whether loads will work. In the warehouse it changes nothing: the ledger is written
// to, or made, in a transaction that is rolled back. Whether COPY may read the bucket only a COPY can tell.
func (s *Sink) Probe(ctx context.Context, prefix string) (out []sinks.Finding) {
	if p, ok := s.o.Staging.(sinks.Prober); ok {
		for _, w := range p.Probe(ctx, prefix) {
			w.Check = "staging " + w.Check
			if w.Key != "" {
				w.Key = "staging.s3." + w.Key
			}
			out = append(out, w)
		}
	}
	add := func(check string, level sinks.Level, key, remedy, format string, args ...any) {
		out = append(out, sinks.Finding{Check: check, Level: level, Found: fmt.Sprintf(format, args...), Key: key, Remedy: remedy})
	}
	e, err := s.open(ctx)
	if err != nil {
		add("connect", sinks.Failed, "dsn", "correct host, port, user or password, and let the network pass", "%v", err)
		return out
	}
	defer func() { e.close() }()
	encrypted := "encrypted"
	if s.o.Address.TLS == Disable {
		encrypted = "not encrypted"
	}
	add("connect", sinks.OK, "", "", "%s answers, %s", s.o.Address.Host, encrypted)
	e.probeTable(ctx, add)
	e.probeLedger(ctx, add)
	return out
}

type adder func(check string, level sinks.Level, key, remedy, format string, args ...any)

// rights that loads need on the table.
func (s *Sink) rights() []string {
	if len(s.merge) == 0 {
		return []string{"INSERT"}
	}
	return []string{"INSERT", "SELECT", "UPDATE", "DELETE"}
}

func (e *session) probeTable(ctx context.Context, add adder) {
	name := e.s.tableName()
	where := "table_name = " + literal(strings.ToLower(name.Table))
	if name.Schema != "" {
		where += " AND table_schema = " + literal(strings.ToLower(name.Schema))
	} else {
		where += " AND table_schema = current_schema()"
	}
	rows, err := e.conn.Query(ctx, "SELECT column_name::varchar FROM information_schema.columns WHERE "+where)
	var there []string
	if err == nil {
		there, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	switch {
	case err != nil:
		add("table", sinks.Warning, "", "", "what columns %s has is not known: %v", e.s.table, e.fail("ask for the columns of "+e.s.table, err))
	case len(there) == 0:
		add("table", sinks.Failed, "table", "create it (hydrant ddl --engine redshift prints it), correct the name, or grant "+strings.Join(e.s.rights(), ", "), "%s is not there, or this user may not see it", e.s.table)
		return
	default:
		var missing []string
		for _, c := range e.s.o.Columns {
			if !slices.ContainsFunc(there, func(t string) bool { return strings.EqualFold(t, c) }) {
				missing = append(missing, c)
			}
		}
		if len(missing) > 0 {
			add("table", sinks.Failed, "columns", "add them to the table, or correct columns", "%s has no column %s", e.s.table, strings.Join(missing, ", "))
		} else {
			add("table", sinks.OK, "", "", "%s is there, with %d columns", e.s.table, len(there))
		}
	}
	plain := name.Table
	if name.Schema != "" {
		plain = name.Schema + "." + name.Table
	}
	for _, right := range e.s.rights() {
		var may bool
		if err := e.conn.QueryRow(ctx, "SELECT has_table_privilege("+literal(plain)+", "+literal(right)+")").Scan(&may); err != nil {
			add("rights", sinks.Warning, "", "", "whether this user has %s on %s is not known: %v", right, e.s.table, e.fail("ask for rights", err))
			return
		}
		if !may {
			add("rights", sinks.Failed, "table", "GRANT "+right+" ON "+plain+" TO this user", "this user has no %s on %s", right, e.s.table)
			return
		}
	}
	add("rights", sinks.OK, "", "", "this user has %s on %s", strings.Join(e.s.rights(), ", "), e.s.table)
}

// probeLedger does to the ledger what a load does, and takes it back.
func (e *session) probeLedger(ctx context.Context, add adder) {
	defer e.rollback(ctx)
	failed := func(what string, err error) {
		add("ledger", sinks.Failed, "ledger_table", "grant ALL on it to this user, or let it create tables in the schema: GRANT CREATE, USAGE ON SCHEMA", "%v", e.fail(what, err))
	}
	if _, err := e.states(ctx, []string{"probe/0"}); err != nil {
		pg, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || pg.Code != "42P01" {
			failed("read the ledger "+e.s.ledger, err)
			return
		}
		name, _ := LedgerName(e.s.tableName(), e.s.o.Ledger)
		for _, sql := range []string{"BEGIN", LedgerDDL(name)} {
			if _, err := e.exec(ctx, sql); err != nil {
				failed("create the ledger "+e.s.ledger, err)
				return
			}
		}
		add("ledger", sinks.OK, "", "", "%s is not there yet and can be made", e.s.ledger)
		return
	}
	if err := e.begin(ctx); err != nil {
		failed("lock the ledger "+e.s.ledger, err)
		return
	}
	if err := e.note(ctx, []sinks.Part{{ID: "probe/0", Key: "probe"}}, stateSkipped); err != nil {
		failed("write the ledger "+e.s.ledger, err)
		return
	}
	if _, err := e.exec(ctx, "DELETE FROM "+e.s.ledger+" WHERE id = 'probe/0'"); err != nil {
		failed("prune the ledger "+e.s.ledger, err)
		return
	}
	add("ledger", sinks.OK, "", "", "%s is there; it can be locked, read and written", e.s.ledger)
}
