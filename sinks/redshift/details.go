package redshift

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"hydrant/sinks"
)

const (
	// detailFiles is the most objects that the views are asked for by name, and detailRows the most rows of an answer.
	detailFiles = 500
	detailRows  = 1000
	// detailPoll is the time between two looks: the rows turn up some seconds after the load has failed.
	detailPoll = 300 * time.Millisecond
)

// detail is a row of a load-error view.
type detail struct {
	file, column, typ, reason string
	line                      int64
	code                      int64
}

func (d *detail) String() string {
	text := fmt.Sprintf("%s, line %d", d.file, d.line)
	if d.column != "" {
		text += ", column " + d.column
		if d.typ != "" {
			text += " (" + d.typ + ")"
		}
	}
	return fmt.Sprintf("%s: %s (error %d)", text, d.reason, d.code)
}

// views are where the warehouse says which rows it could not load. The first is there on both kinds, the second on
// provisioned clusters alone. Names of types and columns are padded with blanks.
var views = []string{
	`SELECT TRIM(file_name), line_number::bigint, TRIM(column_name), TRIM(column_type), error_code::bigint, TRIM(error_message)
FROM sys_load_error_detail WHERE TRIM(file_name) IN (%s) AND start_time >= %s ORDER BY start_time DESC, file_name, line_number LIMIT %d`,
	`SELECT TRIM(filename), line_number::bigint, TRIM(colname), TRIM(type), err_code::bigint, TRIM(err_reason)
FROM stl_load_errors WHERE TRIM(filename) IN (%s) AND starttime >= %s ORDER BY starttime DESC, filename, line_number LIMIT %d`,
}

// recently is how old rows about the same objects may be, which an earlier attempt left. Clocks of the warehouse's
// nodes differ.
const recently = "DATEADD(minute, -120, GETDATE())"

// details asks the views about a load that has failed, adds the first row to the failure, and returns the URLs of the
// objects that were named. Nothing here is needed for a load to be right: what the views do not tell is found by halving.
func (l *loading) details(ctx context.Context, parts []sinks.Part, failure *sinks.Error) map[string]bool {
	bad := map[string]bool{}
	if l.renew(ctx) != nil {
		return bad
	}
	urls := map[string]string{} // by the names that views have for them
	for _, p := range parts[:min(len(parts), detailFiles)] {
		url := l.s.url(p.Key)
		urls[url] = url
		if l.s.copy.format == Parquet && l.s.o.Region != "" {
			urls[l.s.webURL(p.Key)] = url
		}
	}
	names := slices.Sorted(maps.Keys(urls))
	order := views
	if strings.Contains(failure.Message, "stl_load_errors") {
		order = []string{views[1], views[0]}
	}
	ctx, cancel := context.WithTimeout(ctx, l.s.patient)
	defer cancel()
	for {
		for _, view := range order {
			found, err := l.readView(ctx, fmt.Sprintf(view, list(names), recently, detailRows))
			if err != nil {
				if l.conn.IsClosed() {
					return bad
				}
				continue // it is not there, or not for this user
			}
			if len(found) == 0 {
				continue
			}
			for _, d := range found {
				bad[urls[d.file]] = true
			}
			text := fmt.Sprintf("%s; %s", failure.Message, &found[0])
			if len(found) > 1 {
				text += fmt.Sprintf(", and %d more", len(found)-1)
			}
			failure.Message, failure.Err = text, &quiet{text, failure.Err}
			return bad
		}
		select {
		case <-ctx.Done():
			return bad
		case <-time.After(detailPoll):
		}
	}
}

// webURL is what an object of Parquet is called by what reads it.
func (s *Sink) webURL(key string) string {
	return "https://s3." + s.o.Region + ".amazonaws.com/" + s.o.Bucket + "/" + strings.ReplaceAll(key, "=", "%3D")
}

func (l *loading) readView(ctx context.Context, sql string) ([]detail, error) {
	rows, err := l.conn.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (detail, error) {
		var d detail
		var file, column, typ, reason *string
		var line, code *int64
		if err := r.Scan(&file, &line, &column, &typ, &code, &reason); err != nil {
			return d, err
		}
		for _, f := range []struct {
			to   *string
			from *string
		}{{&d.file, file}, {&d.column, column}, {&d.typ, typ}, {&d.reason, reason}} {
			if f.from != nil {
				*f.to = strings.TrimSpace(*f.from)
			}
		}
		if line != nil {
			d.line = *line
		}
		if code != nil {
			d.code = *code
		}
		return d, nil
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return out, err
}
