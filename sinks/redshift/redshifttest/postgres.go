package redshifttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const startTime = time.Minute

// Postgres is a PostgreSQL server in a process of its own, on loopback, with its data in a temporary directory. What it
// holds is lost with it.
type Postgres struct {
	port    string
	dir     string
	process *exec.Cmd
	control io.WriteCloser

	databases atomic.Int64 // made by fronts so far
}

// supervise runs a program until a line comes in or the input ends, which also comes when the test process dies.
const supervise = `"$@" </dev/null & server=$!
read -r signal
kill -QUIT $server
wait $server`

// FindPostgres is the directory of PostgreSQL's programs, or "" where it is not installed.
func FindPostgres() string {
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/postgres", "/usr/local/opt/postgresql*/bin/postgres", "/usr/local/bin/postgres", "/usr/bin/postgres"} {
		found, _ := filepath.Glob(pattern)
		for i := len(found) - 1; i >= 0; i-- {
			if _, err := os.Stat(filepath.Join(filepath.Dir(found[i]), "initdb")); err == nil {
				return filepath.Dir(found[i])
			}
		}
	}
	return ""
}

// Need ends the test where PostgreSQL is not installed: it is skipped, or failed where CI is set.
func Need(t testing.TB) {
	t.Helper()
	switch {
	case FindPostgres() != "":
	case os.Getenv("CI") != "":
		t.Fatal("PostgreSQL is missing, and CI is set, where nothing may be skipped; install PostgreSQL 15 or newer")
	default:
		t.Skip("PostgreSQL is missing; install PostgreSQL 15 or newer")
	}
}

// StartPostgres starts a server; Stop ends it. PostgreSQL does not run as root, so there it runs as the user postgres.
func StartPostgres() (*Postgres, error) {
	bin := FindPostgres()
	if bin == "" {
		return nil, errors.New("PostgreSQL is not installed")
	}
	dir, err := os.MkdirTemp("", "hydrant-postgres-")
	if err != nil {
		return nil, err
	}
	p := &Postgres{dir: dir}
	as := []string{}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
		as = []string{"setpriv", "--reuid=" + u.Uid, "--regid=" + u.Gid, "--clear-groups"}
		if out, err := exec.Command("chown", u.Uid+":"+u.Gid, dir).CombinedOutput(); err != nil {
			return nil, errors.Join(fmt.Errorf("chown %q: %w: %s", dir, err, out), os.RemoveAll(dir))
		}
	}
	data := filepath.Join(dir, "data")
	run := func(args ...string) *exec.Cmd {
		args = append(append([]string{}, as...), args...)
		c := exec.Command(args[0], args[1:]...)
		c.Dir, c.Env = dir, append(os.Environ(), "LC_ALL=C", "TZ=UTC")
		return c
	}
	if out, err := run(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C", "--no-instructions").CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, out), os.RemoveAll(dir))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, p.port, _ = net.SplitHostPort(l.Addr().String())
	l.Close()
	server := append(append([]string{}, as...), filepath.Join(bin, "postgres"), "-D", data, "-p", p.port,
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "full_page_writes=off",
		"-c", "shared_buffers=64MB", "-c", "max_connections=200", "-c", "timezone=UTC")
	p.process = exec.Command("sh", append([]string{"-c", supervise, "postgres"}, server...)...)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own
	p.process.Dir, p.process.Stdout, p.process.Stderr = "/", log, log
	if p.control, err = p.process.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.process.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(startTime); ; time.Sleep(20 * time.Millisecond) { // a poll with a deadline
		if err = p.Exec(context.Background(), "postgres", "SELECT 1"); err == nil {
			return p, nil
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(filepath.Join(dir, "log"))
			p.Stop()
			return nil, fmt.Errorf("PostgreSQL does not answer after %v: %w\n%s", startTime, err, said)
		}
	}
}

// Stop ends the server and removes its data.
func (p *Postgres) Stop() {
	p.control.Close()
	_ = p.process.Wait() // its status is that of a killed process
	_ = os.RemoveAll(p.dir)
}

// URL of a database, without the front.
func (p *Postgres) URL(database string) string {
	return "postgres://postgres@127.0.0.1:" + p.port + "/" + database + "?sslmode=disable"
}

// Exec runs statements in a database, each by itself, without the front.
func (p *Postgres) Exec(ctx context.Context, database string, statements ...string) error {
	c, err := pgx.Connect(ctx, p.URL(database))
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	for _, sql := range statements {
		if _, err := c.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", strings.TrimSpace(sql), err)
		}
	}
	return nil
}

// schema is what the front adds to a database, in a schema of its own.
const schema = `
CREATE SCHEMA front;
CREATE DOMAIN front.super AS jsonb;
CREATE FUNCTION front.sysdate() RETURNS timestamp LANGUAGE sql STABLE AS 'SELECT localtimestamp';
CREATE FUNCTION front.getdate() RETURNS timestamp LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()::timestamp';
CREATE FUNCTION front.add_minutes(int, timestamp) RETURNS timestamp LANGUAGE sql IMMUTABLE AS 'SELECT $2 + $1 * interval ''1 minute''';
CREATE FUNCTION front.pg_last_copy_count() RETURNS bigint LANGUAGE sql VOLATILE AS
  'SELECT coalesce(nullif(current_setting(''front.copied'', true), ''''), ''0'')::bigint';
CREATE TABLE front.sys_load_error_detail (user_id int, query_id bigint, transaction_id bigint, session_id int, database_name char(64), table_id int,
  start_time timestamp, file_name char(256), line_number bigint, column_name char(127), column_type char(10), column_length char(10), position int,
  error_code int, error_message char(512));
CREATE TABLE front.stl_load_errors (query int, slice int, tbl int, starttime timestamp, session int, filename char(256), line_number bigint, colname char(127),
  type char(10), col_length char(10), position int, raw_line char(1024), raw_field_value char(1024), err_code int, err_reason char(100));
GRANT USAGE ON SCHEMA front TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA front TO PUBLIC;
GRANT CREATE ON SCHEMA public TO PUBLIC`
