package redshifttest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/klauspost/compress/zstd"
)

// chunk is how many bytes of rows go to PostgreSQL at a time.
const chunk = 256 << 10

// target is a column that is loaded into.
type target struct {
	name    string
	typ     string // PostgreSQL's, with its length
	base    string // without
	length  int    // of character types, in bytes
	notNull bool
}

// rowError is a row that cannot be loaded.
type rowError struct {
	file   string
	line   int64
	column *target
	code   int
	reason string
	raw    string
}

// loader writes rows of one COPY.
type loader struct {
	c       *client
	s       *copyStatement
	columns []target
	buf     []byte
	rows    int64
	errs    []rowError
	paths   []jsonPath // nil: by names
}

// stopped is an error that ends a load, as the client sees it.
type stopped struct{ e *pgproto3.ErrorResponse }

func (s *stopped) Error() string { return s.e.Message }

func internal(code int, message, detail string) error {
	return &stopped{&pgproto3.ErrorResponse{Severity: "ERROR", Code: "XX000", Message: message, Detail: fmt.Sprintf(
		"\n  -----------------------------------------------\n  error:  %s\n  code:      %d\n  context:   %s\n  query:     0\n  location:  front\n  process:   padbmaster\n  -----------------------------------------------\n",
		message, code, detail)}}
}

// errBadRows says that more rows failed than may.
var errBadRows = errors.New("rows cannot be loaded")

// load carries out a COPY in the client's transaction.
func (c *client) load(answer bool, s *copyStatement) error {
	if c.status == 'E' {
		return c.fail(answer, &pgproto3.ErrorResponse{Severity: "ERROR", Code: "25P02", Message: "current transaction is aborted, commands ignored until end of transaction block"})
	}
	rows, skipped, err := c.run(s)
	var stop *stopped
	switch {
	case err == nil:
	case errors.As(err, &stop):
		return c.fail(answer, stop.e)
	default:
		return err // of the connection
	}
	c.fe.Send(&pgproto3.Query{String: fmt.Sprintf("SELECT set_config('front.copied', '%d', false)", rows)})
	if _, _, err := c.swallow(); err != nil || !answer {
		return err
	}
	notice := func(text string) {
		c.be.Send(&pgproto3.NoticeResponse{Severity: "INFO", Code: "00000", Message: text})
	}
	notice(fmt.Sprintf("Load into table '%s' completed, %d record(s) loaded successfully.", s.label, rows))
	if skipped > 0 {
		notice(fmt.Sprintf("Load into table '%s' completed, %d record(s) could not be loaded.  Check '%s' system table for details.", s.label, skipped, c.view()))
	}
	c.be.Send(&pgproto3.CommandComplete{CommandTag: []byte("COPY")}) // without a number, as there
	c.be.Send(&pgproto3.ReadyForQuery{TxStatus: c.status})
	return c.be.Flush()
}

func (c *client) view() string {
	if c.f.o.Serverless {
		return "sys_load_error_detail"
	}
	return "stl_load_errors"
}

func (c *client) run(s *copyStatement) (rows int64, skipped int, err error) {
	if err := c.authorize(s); err != nil {
		return 0, 0, err
	}
	l := &loader{c: c, s: s}
	if err := l.targets(); err != nil {
		return 0, 0, err
	}
	entries, err := l.entries()
	if err != nil {
		return 0, 0, err
	}
	if path, ok := strings.CutPrefix(s.json, "s3://"); s.format == "json" && ok {
		if l.paths, err = l.jsonPaths(path); err != nil {
			return 0, 0, err
		}
	}
	names := make([]string, len(l.columns))
	for i, t := range l.columns {
		names[i] = `"` + strings.ReplaceAll(t.name, `"`, `""`) + `"`
	}
	c.fe.Send(&pgproto3.Query{String: "COPY " + s.table + " (" + strings.Join(names, ", ") + ") FROM STDIN"})
	if err := c.fe.Flush(); err != nil {
		return 0, 0, err
	}
	if failed, err := c.copyBegun(); err != nil || failed != nil {
		if err == nil {
			err = &stopped{failed}
		}
		return 0, 0, err
	}
	for _, e := range entries {
		if err = l.object(e); err != nil {
			break
		}
	}
	if err == nil {
		err = l.flush()
	}
	if err != nil {
		c.fe.Send(&pgproto3.CopyFail{Message: "the load has failed"})
	} else {
		c.fe.Send(&pgproto3.CopyDone{})
	}
	_, failed, connErr := c.swallow()
	if connErr != nil {
		return 0, 0, connErr
	}
	if recordErr := l.record(); recordErr != nil {
		return 0, 0, recordErr
	}
	switch {
	case errors.Is(err, errBadRows):
		return 0, 0, &stopped{&pgproto3.ErrorResponse{Severity: "ERROR", Code: "XX000",
			Message: fmt.Sprintf("Load into table '%s' failed.  Check '%s' system table for details.", s.label, c.view())}}
	case err != nil:
		return 0, 0, err
	case failed != nil && failed.Code == "57014":
		return 0, 0, &stopped{failed}
	case failed != nil: // PostgreSQL found what the front had not
		return 0, 0, &stopped{&pgproto3.ErrorResponse{Severity: "ERROR", Code: "XX000",
			Message: fmt.Sprintf("Load into table '%s' failed.  Check '%s' system table for details.", s.label, c.view()), Detail: failed.Message}}
	}
	return l.rows, len(l.errs), nil
}

// copyBegun waits for PostgreSQL to take rows.
func (c *client) copyBegun() (*pgproto3.ErrorResponse, error) {
	for {
		m, err := c.fe.Receive()
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *pgproto3.CopyInResponse:
			return nil, nil
		case *pgproto3.ErrorResponse:
			e := *m
			_, _, err := c.swallow()
			return &e, err
		}
	}
}

func (c *client) authorize(s *copyStatement) error {
	o := &c.f.o
	switch {
	case s.role != "":
		if !slices.Contains(o.Roles, s.role) && (s.role != "default" || len(o.Roles) == 0) {
			return internal(8001, "User arn:aws:redshift is not authorized to assume IAM Role "+s.role, "IAM Role="+s.role)
		}
	case o.Keys[s.key] == "":
		return internal(8001, "S3ServiceException:The AWS Access Key Id you provided does not exist in our records.,Status 403,Error InvalidAccessKeyId", "Listing bucket")
	case o.Keys[s.key] != s.secret:
		return internal(8001, "S3ServiceException:The request signature we calculated does not match the signature you provided.,Status 403,Error SignatureDoesNotMatch", "Listing bucket")
	}
	if s.region != "" && o.Region != "" && s.region != o.Region {
		return internal(8001, "S3ServiceException:The bucket you are attempting to access must be addressed using the specified endpoint.,Status 301,Error PermanentRedirect", "Listing bucket")
	}
	if o.S3 == nil {
		return internal(15005, "S3 Query Exception (Fetch)", "Connection failed, retries exceeded")
	}
	return nil
}

// targets asks for the columns.
func (l *loader) targets() error {
	l.c.fe.Send(&pgproto3.Query{String: `SELECT attname, format_type(atttypid, atttypmod), attnotnull, atthasdef OR attidentity <> '' FROM pg_attribute WHERE attrelid = '` +
		strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(l.s.table) + `'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`})
	rows, failed, err := l.c.swallow()
	if err != nil {
		return err
	}
	if failed != nil {
		return &stopped{failed}
	}
	all := map[string]target{}
	var order []string
	for _, r := range rows {
		typ := strings.TrimPrefix(r[1], "front.")
		t := target{name: r[0], typ: typ, base: typ, notNull: r[2] == "t"}
		if base, rest, ok := strings.Cut(typ, "("); ok {
			t.base = base
			fmt.Sscanf(rest, "%d", &t.length)
		}
		all[r[0]] = t
		order = append(order, r[0])
		if t.notNull && r[3] == "f" && len(l.s.columns) > 0 && !slices.Contains(l.s.columns, `"`+strings.ReplaceAll(r[0], `"`, `""`)+`"`) {
			return &stopped{&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42601", Message: "NOT NULL column without DEFAULT must be included in column list"}}
		}
	}
	if len(l.s.columns) > 0 {
		order = nil
		for _, c := range l.s.columns {
			order = append(order, strings.ReplaceAll(c[1:len(c)-1], `""`, `"`))
		}
	}
	for _, n := range order {
		t, ok := all[n]
		if !ok {
			return &stopped{&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42703", Message: fmt.Sprintf("column %q of relation %q does not exist", n, l.s.label)}}
		}
		l.columns = append(l.columns, t)
	}
	return nil
}

type entry struct {
	bucket, key string
	length      *int64
	mandatory   bool
}

func (e entry) url() string { return "s3://" + e.bucket + "/" + e.key }

// get reads a whole object.
func (l *loader) get(bucket, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(l.c.f.ctx, time.Minute)
	defer cancel()
	o, err := l.c.f.o.S3.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return nil, err
	}
	defer o.Body.Close()
	return io.ReadAll(o.Body)
}

// entries are the objects to load: those of the manifest, or of all keys that begin so.
func (l *loader) entries() ([]entry, error) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(l.s.url, "s3://"), "/")
	if !l.s.manifest {
		ctx, cancel := context.WithTimeout(l.c.f.ctx, time.Minute)
		defer cancel()
		var out []entry
		pages := s3.NewListObjectsV2Paginator(l.c.f.o.S3, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &key})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, internal(8001, "S3ServiceException:"+err.Error(), "Listing bucket="+bucket)
			}
			for _, o := range page.Contents {
				out = append(out, entry{bucket, aws.ToString(o.Key), o.Size, true})
			}
		}
		if len(out) == 0 {
			return nil, internal(8001, "The specified S3 prefix '"+key+"' does not exist", "Listing bucket="+bucket)
		}
		return out, nil
	}
	b, err := l.get(bucket, key)
	if err != nil {
		return nil, internal(8001, "Problem reading manifest file - S3ServiceException:The specified key does not exist.,Status 404,Error NoSuchKey", l.s.url)
	}
	var m struct {
		Entries []struct {
			URL       string `json:"url"`
			Mandatory bool   `json:"mandatory"`
			Meta      *struct {
				Length *int64 `json:"content_length"`
			} `json:"meta"`
		} `json:"entries"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, internal(8001, "Manifest file is not in correct json format", l.s.url)
	}
	var out []entry
	for _, e := range m.Entries {
		path, ok := strings.CutPrefix(e.URL, "s3://")
		bucket, key, slash := strings.Cut(path, "/")
		if !ok || !slash || key == "" || strings.HasSuffix(key, "/") {
			return nil, internal(8001, "The specified manifest entry is not a full path: "+e.URL, l.s.url)
		}
		n := entry{bucket: bucket, key: key, mandatory: e.Mandatory}
		if e.Meta != nil {
			n.length = e.Meta.Length
		}
		if n.length == nil && l.s.format == "parquet" {
			return nil, internal(15003, "File entry does not have 'meta' key", l.s.url)
		}
		out = append(out, n)
	}
	if len(out) == 0 {
		return nil, internal(8001, "Problem reading manifest file - no entries", l.s.url)
	}
	return out, nil
}

// object loads one.
func (l *loader) object(e entry) error {
	b, err := l.get(e.bucket, e.key)
	if err != nil {
		var missing *types.NoSuchKey
		switch {
		case !errors.As(err, &missing):
			return internal(15005, "S3 Query Exception (Fetch)", "Connection failed, retries exceeded: "+err.Error())
		case e.mandatory:
			return internal(8001, "Mandatory url is not present in manifest: S3ServiceException:The specified key does not exist.,Status 404,Error NoSuchKey", e.url())
		}
		return nil
	}
	if e.length != nil && *e.length != int64(len(b)) {
		return internal(15001, "S3 Query Exception (Fetch)", fmt.Sprintf("content length mismatch: %d in the manifest, %d in %s", *e.length, len(b), e.url()))
	}
	if l.s.format == "parquet" {
		return l.parquet(e, b)
	}
	var r io.Reader = bytes.NewReader(b)
	switch {
	case l.s.gzip:
		if r, err = gzip.NewReader(r); err != nil {
			return l.bad(rowError{file: e.url(), line: 1, code: 1216, reason: "Invalid compressed data: " + err.Error()}, true)
		}
	case l.s.zstd:
		d, err := zstd.NewReader(r)
		if err != nil {
			return err
		}
		defer d.Close()
		r = d
	}
	if l.s.format == "json" {
		return l.json(e, r)
	}
	return l.csv(e, r)
}

// bad notes a row that cannot be loaded; stop says that nothing after it can be.
func (l *loader) bad(e rowError, stop bool) error {
	l.errs = append(l.errs, e)
	if stop || len(l.errs) >= l.s.maxErrors() {
		return errBadRows
	}
	return nil
}

// put adds a row: COPY's own text format.
func (l *loader) put(row []byte) error {
	l.rows++
	l.buf = append(l.buf, row...)
	if len(l.buf) >= chunk {
		return l.flush()
	}
	return nil
}

func (l *loader) flush() error {
	if len(l.buf) == 0 {
		return nil
	}
	l.c.fe.Send(&pgproto3.CopyData{Data: l.buf})
	l.buf = l.buf[:0]
	return l.c.fe.Flush()
}

// appendText adds a value in COPY's text format.
func appendText(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\\':
			dst = append(dst, '\\', '\\')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// record writes the views, outside of the client's transaction.
func (l *loader) record() error {
	if len(l.errs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(l.c.f.ctx, time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, l.c.f.o.Postgres.URL(l.c.f.Database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	cut := func(s string, n int) string { return s[:min(len(s), n)] }
	for _, e := range l.errs {
		column, typ := "", ""
		if e.column != nil {
			column, typ = e.column.name, cut(e.column.base, 10)
		}
		if _, err := conn.Exec(ctx, "INSERT INTO front.sys_load_error_detail (session_id, start_time, file_name, line_number, column_name, column_type, error_code, error_message) VALUES ($1, localtimestamp, $2, $3, $4, $5, $6, $7)",
			l.c.pg.PID, e.file, e.line, column, typ, e.code, cut(e.reason, 512)); err != nil {
			return err
		}
		if !l.c.f.o.Serverless {
			if _, err := conn.Exec(ctx, "INSERT INTO front.stl_load_errors (session, starttime, filename, line_number, colname, type, err_code, err_reason, raw_line) VALUES ($1, localtimestamp, $2, $3, $4, $5, $6, $7, $8)",
				l.c.pg.PID, e.file, e.line, column, typ, e.code, cut(e.reason, 100), cut(e.raw, 1024)); err != nil {
				return err
			}
		}
	}
	return nil
}
