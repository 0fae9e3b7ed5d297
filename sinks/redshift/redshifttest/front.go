// Package redshifttest is a warehouse for tests: a front that speaks PostgreSQL's protocol as Redshift does, over a real
// PostgreSQL, and carries out COPY from a real object store.
//
// Statements of a client flow in and answers out. What Redshift does not take, the front refuses: start-up parameters,
// statements, literals, types. COPY reads a manifest and the objects that it names, checks their lengths, and loads rows
// through PostgreSQL's own COPY in the client's transaction; Parquet goes by position. A backslash escapes in every
// literal. Keys that a table declares are not enforced: a row that is loaded twice is there twice. A transaction sees the
// snapshot that its first reading statement took, which LOCK is not.
//
// It shows that whoever speaks to it holds to the rules that are known here, not that Redshift has no others.
package redshifttest

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Action is what becomes of a statement.
type Action uint8

const (
	Pass   Action = iota
	Before        // the connection is cut, and the statement is not carried out
	After         // the statement is carried out, and the connection cut without an answer
	Late          // the connection is cut, and the statement carried out Options.Lateness later, all locks held until then
)

// Statement is what a client sent.
type Statement struct {
	Connection int // numbered from 1
	Number     int // in the connection, from 1
	SQL        string
}

// Options of a Front.
type Options struct {
	Postgres *Postgres
	S3       *s3.Client // of the store that COPY reads; nil: COPY fails
	// Password of a user; false: there is no such user. nil: every user with any password.
	Password func(user string) (string, bool)
	MD5      bool // passwords are asked for as digests; else in clear
	Digest   bool // passwords are asked for in Redshift's own way, which PostgreSQL's clients do not know
	TLS      *tls.Config
	// Roles are ARNs that COPY may use, and Keys access keys with their secrets.
	Roles []string
	Keys  map[string]string
	// Region of the store's buckets, which REGION must name where it is given; "": any.
	Region string
	// Serverless: there is no stl_load_errors, and errors name the other view.
	Serverless bool
	// As is PostgreSQL's user for all clients; "": the superuser.
	As string
	// Isolation of transactions, in PostgreSQL's words; "": repeatable read, which is a snapshot.
	Isolation string
	// On is asked about each statement before it is carried out; nil: all pass.
	On       func(Statement) Action
	Lateness time.Duration
}

// Front listens until Close.
type Front struct {
	o        Options
	Host     string
	Port     uint16
	Database string

	l     net.Listener
	wg    sync.WaitGroup
	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	conns atomic.Int64
}

// New makes a database of its own and listens on loopback.
func New(ctx context.Context, o Options) (*Front, error) {
	f := &Front{o: o, Database: fmt.Sprintf("dev%d", o.Postgres.databases.Add(1))}
	if err := o.Postgres.Exec(ctx, "postgres", "CREATE DATABASE "+f.Database+" TEMPLATE template0"); err != nil {
		return nil, err
	}
	statements := strings.Split(strings.ReplaceAll(schema, "AS\n  '", "AS '"), ";\n")
	if err := o.Postgres.Exec(ctx, f.Database, statements...); err != nil {
		return nil, err
	}
	if o.Serverless {
		if err := o.Postgres.Exec(ctx, f.Database, "DROP TABLE front.stl_load_errors"); err != nil {
			return nil, err
		}
	}
	var err error
	if f.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	addr := f.l.Addr().(*net.TCPAddr)
	f.Host, f.Port = "127.0.0.1", uint16(addr.Port)
	f.ctx, f.stop = context.WithCancel(context.Background())
	f.wg.Go(f.accept)
	return f, nil
}

// Close cuts all connections, waits for late statements and removes the database.
func (f *Front) Close() error {
	f.stop()
	err := f.l.Close()
	f.wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return errors.Join(err, f.o.Postgres.Exec(ctx, "postgres", "DROP DATABASE "+f.Database+" WITH (FORCE)"))
}

// Connections is the number of connections that clients have opened so far.
func (f *Front) Connections() int { return int(f.conns.Load()) }

func (f *Front) accept() {
	for {
		c, err := f.l.Accept()
		if err != nil {
			return
		}
		f.wg.Go(func() {
			defer c.Close()
			stop := context.AfterFunc(f.ctx, func() { c.Close() })
			defer stop()
			f.serve(c)
		})
	}
}

// client is one connection of a client with its own to PostgreSQL.
type client struct {
	f      *Front
	number int
	count  int // statements so far
	net    net.Conn
	be     *pgproto3.Backend
	fe     *pgproto3.Frontend
	pg     *pgconn.HijackedConn
	status byte // of the transaction
}

// errCut ends a connection on purpose.
var errCut = errors.New("cut")

func (f *Front) serve(conn net.Conn) {
	c := &client{f: f, net: conn, be: pgproto3.NewBackend(conn, conn), status: 'I'}
	start, err := c.start()
	if err != nil || start == nil {
		return
	}
	c.number = int(f.conns.Add(1))
	ctx, cancel := context.WithTimeout(f.ctx, 10*time.Second)
	err = c.connect(ctx)
	cancel()
	if err != nil {
		c.fatal("08006", err.Error())
		return
	}
	defer c.pg.Conn.Close()
	stop := context.AfterFunc(f.ctx, func() { c.pg.Conn.Close() })
	defer stop()
	c.be.Send(&pgproto3.AuthenticationOk{})
	encoding := "UNICODE"
	if start.Parameters["client_encoding"] != "" {
		encoding = "UTF8"
	}
	for _, p := range [][2]string{{"server_version", "8.0.2"}, {"client_encoding", encoding}, {"server_encoding", "UNICODE"},
		{"DateStyle", "ISO, MDY"}, {"integer_datetimes", "on"}, {"is_superuser", "off"}, {"session_authorization", start.Parameters["user"]}} {
		c.be.Send(&pgproto3.ParameterStatus{Name: p[0], Value: p[1]})
	}
	c.be.Send(&pgproto3.BackendKeyData{ProcessID: c.pg.PID, SecretKey: c.pg.SecretKey})
	c.be.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if c.be.Flush() != nil {
		return
	}
	for c.next() == nil {
	}
}

// start does the hand-shake. Without a start-up message there is nothing to serve.
func (c *client) start() (*pgproto3.StartupMessage, error) {
	for {
		m, err := c.be.ReceiveStartupMessage()
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *pgproto3.SSLRequest:
			if c.f.o.TLS == nil {
				if _, err := c.net.Write([]byte("N")); err != nil {
					return nil, err
				}
				continue
			}
			if _, err := c.net.Write([]byte("S")); err != nil {
				return nil, err
			}
			conn := tls.Server(c.net, c.f.o.TLS)
			c.net, c.be = conn, pgproto3.NewBackend(conn, conn)
		case *pgproto3.GSSEncRequest:
			if _, err := c.net.Write([]byte("N")); err != nil {
				return nil, err
			}
		case *pgproto3.CancelRequest:
			return nil, c.cancel(m)
		case *pgproto3.StartupMessage:
			for name, value := range m.Parameters {
				switch {
				case name == "user", name == "database", name == "application_name":
				case name == "client_encoding" && strings.EqualFold(value, "UTF8"):
				default:
					c.fatal("42704", fmt.Sprintf("unrecognized configuration parameter %q", name))
					return nil, errCut
				}
			}
			if m.ProtocolVersion != pgproto3.ProtocolVersion30 {
				c.fatal("0A000", "unsupported frontend protocol")
				return nil, errCut
			}
			if c.f.o.TLS != nil {
				if _, ok := c.net.(*tls.Conn); !ok {
					c.fatal("28000", "no pg_hba.conf entry for host, SSL off")
					return nil, errCut
				}
			}
			if m.Parameters["database"] != c.f.Database {
				c.fatal("3D000", fmt.Sprintf("database %q does not exist", m.Parameters["database"]))
				return nil, errCut
			}
			return m, c.authenticate(m.Parameters["user"])
		}
	}
}

func (c *client) authenticate(user string) error {
	var salt [4]byte
	if c.f.o.Digest {
		// The message of type 13: an algorithm, a salt, a server nonce, iterations.
		_, err := c.net.Write([]byte{'R', 0, 0, 0, 12, 0, 0, 0, 13, 0, 0, 0, 1})
		return errors.Join(err, errCut)
	}
	var ask pgproto3.BackendMessage = &pgproto3.AuthenticationCleartextPassword{}
	kind := uint32(pgproto3.AuthTypeCleartextPassword)
	if c.f.o.MD5 {
		if _, err := rand.Read(salt[:]); err != nil {
			return err
		}
		ask, kind = &pgproto3.AuthenticationMD5Password{Salt: salt}, pgproto3.AuthTypeMD5Password
	}
	c.be.Send(ask)
	if err := errors.Join(c.be.SetAuthType(kind), c.be.Flush()); err != nil {
		return err
	}
	m, err := c.be.Receive()
	if err != nil {
		return err
	}
	given, ok := m.(*pgproto3.PasswordMessage)
	if !ok {
		return fmt.Errorf("a password was asked for, and %T came", m)
	}
	if c.f.o.Password == nil {
		return nil
	}
	want, known := c.f.o.Password(user)
	if c.f.o.MD5 {
		sum := func(s string) string { h := md5.Sum([]byte(s)); return hex.EncodeToString(h[:]) }
		want = "md5" + sum(sum(want+user)+string(salt[:]))
	}
	if !known || subtle.ConstantTimeCompare([]byte(want), []byte(given.Password)) == 0 {
		c.fatal("28000", fmt.Sprintf("password authentication failed for user %q", user))
		return errCut
	}
	return nil
}

// connect opens the connection to PostgreSQL.
func (c *client) connect(ctx context.Context) error {
	config, err := pgconn.ParseConfig(c.f.o.Postgres.URL(c.f.Database))
	if err != nil {
		return err
	}
	isolation := c.f.o.Isolation
	if isolation == "" {
		isolation = "repeatable read"
	}
	if c.f.o.As != "" {
		config.User = c.f.o.As
	}
	config.RuntimeParams = map[string]string{
		"client_encoding": "UTF8", "standard_conforming_strings": "off", "escape_string_warning": "off", "backslash_quote": "on",
		"default_transaction_isolation": isolation, "search_path": `"$user", public, front`, "timezone": "UTC", "client_min_messages": "error",
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	if c.pg, err = conn.Hijack(); err != nil {
		return err
	}
	c.fe = c.pg.Frontend
	return nil
}

func (c *client) cancel(m *pgproto3.CancelRequest) error {
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+c.f.o.Postgres.port, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	b, err := m.Encode(nil)
	if err != nil {
		return err
	}
	if _, err := conn.Write(b); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1)) // it is closed once it is done
	if err == io.EOF {
		err = nil
	}
	return err
}

func (c *client) fatal(state, message string) {
	c.be.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: state, Message: message})
	_ = c.be.Flush() // the client may be gone
}

// next carries out one statement of the client.
func (c *client) next() error {
	m, err := c.be.Receive()
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *pgproto3.Query:
		return c.simple(strings.Clone(m.String))
	case *pgproto3.Terminate:
		return io.EOF
	case *pgproto3.Parse, *pgproto3.Bind, *pgproto3.Describe, *pgproto3.Execute, *pgproto3.Close, *pgproto3.Sync:
		return c.extended(m)
	}
	c.fatal("08P01", fmt.Sprintf("the front does not take %T", m))
	return errCut
}

// on asks what is to become of a statement, and does it; work carries it out without an answer.
func (c *client) on(sql string, work func() error) error {
	c.count++
	action := Pass
	if c.f.o.On != nil {
		action = c.f.o.On(Statement{c.number, c.count, sql})
	}
	switch action {
	case Before:
		return errCut
	case After:
		_ = work() // nobody hears of it
		return errCut
	case Late:
		c.net.Close()
		select {
		case <-time.After(c.f.o.Lateness):
		case <-c.f.ctx.Done():
			return errCut
		}
		_ = work()
		return errCut
	}
	return nil
}

func (c *client) simple(sql string) error {
	tokens, problem := lex(sql)
	var no *refusal
	if problem != "" {
		no = &refusal{"42601", problem}
	} else {
		no = refuse(tokens)
	}
	var load *copyStatement
	if no == nil && len(tokens) > 0 && tokens[0].is("copy") {
		load, no = parseCopy(tokens)
	}
	run := func(answer bool) error {
		switch {
		case no != nil:
			return c.fail(answer, &pgproto3.ErrorResponse{Severity: "ERROR", Code: no.state, Message: no.message})
		case load != nil:
			return c.load(answer, load)
		}
		c.fe.Send(&pgproto3.Query{String: rewrite(sql, tokens)})
		return c.relay(answer)
	}
	if err := c.on(sql, func() error { return run(false) }); err != nil {
		return err
	}
	return run(true)
}

// extended takes messages up to a Sync.
func (c *client) extended(m pgproto3.FrontendMessage) error {
	var no *refusal
	sql := ""
	for {
		switch m := m.(type) {
		case *pgproto3.Parse:
			sql = strings.Clone(m.Query)
			tokens, problem := lex(sql)
			switch {
			case problem != "":
				no = &refusal{"42601", problem}
			case len(tokens) > 0 && tokens[0].is("copy"):
				no = &refusal{"XX000", "COPY in the extended protocol fails"}
			default:
				if no = refuse(tokens); no == nil {
					c.fe.Send(&pgproto3.Parse{Name: m.Name, Query: rewrite(sql, tokens), ParameterOIDs: m.ParameterOIDs})
				}
			}
		case *pgproto3.Sync:
			run := func(answer bool) error {
				if no != nil {
					return c.fail(answer, &pgproto3.ErrorResponse{Severity: "ERROR", Code: no.state, Message: no.message})
				}
				c.fe.Send(m)
				return c.relay(answer)
			}
			if err := c.on(sql, func() error { return run(false) }); err != nil {
				return err
			}
			return run(true)
		case *pgproto3.Bind, *pgproto3.Describe, *pgproto3.Execute, *pgproto3.Close:
			if no == nil {
				c.fe.Send(m)
			}
		default:
			c.fatal("08P01", fmt.Sprintf("the front does not take %T between Parse and Sync", m))
			return errCut
		}
		var err error
		if m, err = c.be.Receive(); err != nil {
			return err
		}
	}
}

// relay sends what waits to PostgreSQL and its answers to the client, up to the end of the statement.
func (c *client) relay(answer bool) error {
	if err := c.fe.Flush(); err != nil {
		return err
	}
	for {
		m, err := c.fe.Receive()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pgproto3.ReadyForQuery:
			c.status = m.TxStatus
			if !answer {
				return nil
			}
			c.be.Send(m)
			return c.be.Flush()
		case *pgproto3.ParameterStatus, *pgproto3.NotificationResponse:
		case *pgproto3.CopyInResponse:
			c.fe.Send(&pgproto3.CopyFail{Message: "not supported"})
			if err := c.fe.Flush(); err != nil {
				return err
			}
		default:
			if answer {
				c.be.Send(m)
			}
		}
	}
}

// swallow reads PostgreSQL's answers up to the end of the statement; it returns the first error among them and the rows.
func (c *client) swallow() (rows [][]string, failed *pgproto3.ErrorResponse, err error) {
	if err := c.fe.Flush(); err != nil {
		return nil, nil, err
	}
	for {
		m, err := c.fe.Receive()
		if err != nil {
			return nil, nil, err
		}
		switch m := m.(type) {
		case *pgproto3.ReadyForQuery:
			c.status = m.TxStatus
			return rows, failed, nil
		case *pgproto3.ErrorResponse:
			if failed == nil {
				e := *m
				failed = &e
			}
		case *pgproto3.DataRow:
			row := make([]string, len(m.Values))
			for i, v := range m.Values {
				row[i] = string(v)
			}
			rows = append(rows, row)
		}
	}
}

// fail answers with an error after which a transaction is of no use, as after any error.
func (c *client) fail(answer bool, e *pgproto3.ErrorResponse) error {
	if c.status == 'T' {
		c.fe.Send(&pgproto3.Query{String: "the front refuses this"})
		if _, _, err := c.swallow(); err != nil {
			return err
		}
	}
	if !answer {
		return nil
	}
	e.SeverityUnlocalized = e.Severity
	c.be.Send(e)
	c.be.Send(&pgproto3.ReadyForQuery{TxStatus: c.status})
	return c.be.Flush()
}
