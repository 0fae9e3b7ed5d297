package redshift

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hydrant/sinks"
)

// States of a part in the ledger.
const (
	stateLoaded     = "loaded"
	stateSkipped    = "skipped"
	stateBackfilled = "backfilled" // it was skipped, and loaded later
)

const (
	// lookTime bounds the look into the ledger after a lost answer, while the lost session may still hold the lock.
	lookTime = 2 * time.Minute
	// answerTime is how much longer than a statement may take its answer is waited for.
	answerTime = time.Minute
	// closeTime bounds the good-bye to a server.
	closeTime = 5 * time.Second
)

// session is one connection, for one caller.
type session struct {
	s    *Sink
	conn *pgx.Conn
	keys Keys // of COPY
	// copied is the number of rows that the server's last notice about a load named; -1: none did.
	copied int64
	// sent says that a statement went out that may have taken effect.
	sent bool
}

var completedNotice = regexp.MustCompile(`completed, (\d+) record\(s\) loaded successfully`)

// errLogin is of connections for which no user and password could be had.
var errLogin = errors.New("get credentials of the database")

// connectFailure classifies what went wrong before there was a connection.
func (s *Sink) connectFailure(err error) *sinks.Error {
	v := judge(err, false)
	if errors.Is(err, errLogin) && v.name == "s3 rights" {
		v = verdict{name: "credentials", class: sinks.RefusedDestination, code: "AuthenticationFailed",
			hint: "Hydrant's own credentials of AWS need redshift:GetClusterCredentials, without user redshift:GetClusterCredentialsWithIAM, for a workgroup redshift-serverless:GetCredentials"}
	}
	return s.failure(v, "connect to "+s.o.Address.Host, Keys{}, err)
}

// open connects. Its error is classified.
func (s *Sink) open(ctx context.Context) (*session, error) {
	e := &session{s: s, copied: -1}
	if err := e.connect(ctx); err != nil {
		return nil, s.connectFailure(err)
	}
	return e, nil
}

func (e *session) connect(ctx context.Context) error {
	a := &e.s.o.Address
	ctx, cancel := context.WithTimeout(ctx, connectTime) // the bounds below are for single steps
	defer cancel()
	login, err := e.s.o.Login(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errLogin, err)
	}
	c, err := a.config(login, "hydrant")
	if err != nil {
		return err
	}
	c.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if m := completedNotice.FindStringSubmatch(n.Message); m != nil {
			e.copied, _ = strconv.ParseInt(m[1], 10, 64)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "SET statement_timeout TO "+strconv.FormatInt(e.s.o.StatementTime.Milliseconds(), 10)); err != nil {
		closeConn(conn)
		return err
	}
	e.conn, e.sent = conn, false
	return nil
}

func (e *session) close() { closeConn(e.conn) }

func closeConn(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	_ = c.Close(ctx) // what mattered is committed, and all else is to go
}

// renew connects again where the connection is gone, or a transaction is in doubt.
func (e *session) renew(ctx context.Context) error {
	if !e.conn.IsClosed() && e.conn.PgConn().TxStatus() == 'I' {
		return nil
	}
	e.close()
	if err := e.connect(ctx); err != nil {
		return e.s.connectFailure(err)
	}
	return nil
}

// fail classifies what became of a statement; what names it without its text, which may hold keys.
func (e *session) fail(what string, err error) *sinks.Error {
	return e.s.failure(judge(err, e.sent), what, e.keys, err)
}

func (e *session) exec(ctx context.Context, sql string) (pgconn.CommandTag, error) {
	ctx, cancel := e.answered(ctx)
	defer cancel()
	e.sent = true
	return e.conn.Exec(ctx, sql)
}

// answered bounds the wait for a statement: the server ends it by its own clock, and one that says nothing some time after
// that is not waited for, as it may be gone behind a gateway that keeps the connection.
func (e *session) answered(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, e.s.o.StatementTime+e.s.grace)
}

// number is the one value of a query.
func (e *session) number(ctx context.Context, sql string) (n int64, err error) {
	ctx, cancel := e.answered(ctx)
	defer cancel()
	return n, e.conn.QueryRow(ctx, sql).Scan(&n)
}

// begin opens a transaction. The lock comes before anything that reads: see the package's comment.
func (e *session) begin(ctx context.Context) error {
	if _, err := e.exec(ctx, "BEGIN"); err != nil {
		return e.fail("begin a transaction", err)
	}
	if _, err := e.exec(ctx, "LOCK "+e.s.ledger); err != nil {
		return e.fail("lock the ledger "+e.s.ledger, err)
	}
	return nil
}

// commit ends the transaction. COMMIT of a transaction that has failed is answered by ROLLBACK, without an error.
func (e *session) commit(ctx context.Context) error {
	tag, err := e.exec(ctx, "COMMIT")
	if err != nil {
		return e.fail("commit", err)
	}
	if tag.String() != "COMMIT" {
		err := fmt.Errorf("the transaction was rolled back: the answer to COMMIT is %q", tag)
		return &sinks.Error{Class: sinks.NotStored, Code: "Redshift.InternalError", Message: err.Error(), Err: err}
	}
	return nil
}

// rollback ends a transaction that is not wanted; a connection on which that fails is closed, which does it too.
func (e *session) rollback(ctx context.Context) {
	if e.conn.IsClosed() || e.conn.PgConn().TxStatus() == 'I' {
		return
	}
	if ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(ctx, e.s.grace)
		defer cancel()
		if _, err := e.conn.Exec(ctx, "ROLLBACK"); err == nil {
			return
		}
	}
	e.close()
}

// list is the ids as SQL.
func list(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = literal(v)
	}
	return strings.Join(quoted, ", ")
}

// states asks the ledger about parts. Outside of a transaction that holds the lock, what is not there may be there soon.
func (e *session) states(ctx context.Context, ids []string) (map[string]string, error) {
	ctx, cancel := e.answered(ctx)
	defer cancel()
	out := make(map[string]string, len(ids))
	rows, err := e.conn.Query(ctx, "SELECT id, state FROM "+e.s.ledger+" WHERE id IN ("+list(ids)+")")
	if err != nil {
		return nil, err
	}
	var id, state string
	_, err = pgx.ForEachRow(rows, []any{&id, &state}, func() error {
		// A part can be there once alone. Should somebody have written by hand, it is loaded where any row says so.
		if out[id] == "" || state != stateSkipped {
			out[id] = state
		}
		return nil
	})
	return out, err
}

// settled asks the ledger behind the lock, so that the answer is final for all that was begun before.
func (e *session) settled(ctx context.Context, ids []string) (map[string]string, error) {
	if err := e.renew(ctx); err != nil {
		return nil, err
	}
	if err := e.begin(ctx); err != nil {
		e.rollback(ctx)
		return nil, err
	}
	states, err := e.states(ctx, ids)
	e.rollback(ctx)
	if err != nil {
		return nil, e.fail("read the ledger "+e.s.ledger, err)
	}
	return states, nil
}

// afterLoss finds out what became of a transaction whose COMMIT had no answer.
func (e *session) afterLoss(ctx context.Context, ids []string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	return e.settled(ctx, ids)
}

// look is a first look at the ledger, which makes it where it is not there.
func (e *session) look(ctx context.Context, ids []string) (map[string]string, error) {
	states, err := e.states(ctx, ids)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42P01" {
		// In a transaction of its own: it would take the snapshot.
		name, _ := LedgerName(e.s.tableName(), e.s.o.Ledger)
		if _, err := e.exec(ctx, LedgerDDL(name)); err != nil {
			return nil, e.fail("create the ledger "+e.s.ledger, err)
		}
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, e.fail("read the ledger "+e.s.ledger, err)
	}
	return states, nil
}

func (s *Sink) tableName() Name {
	n, _ := ParseName(s.o.Table) // New has parsed it
	return n
}

// note writes parts into the ledger.
func (e *session) note(ctx context.Context, parts []sinks.Part, state string) error {
	var b strings.Builder
	b.WriteString("INSERT INTO " + e.s.ledger + " (id, stream, object_key, row_count, state) VALUES ")
	for i, p := range parts {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "(%s, %s, %s, %d, %s)", literal(p.ID), literal(e.s.o.Stream), literal(p.Key), p.Records, literal(state))
	}
	if _, err := e.exec(ctx, b.String()); err != nil {
		return e.fail("write the ledger "+e.s.ledger, err)
	}
	return nil
}
