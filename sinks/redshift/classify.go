package redshift

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"hydrant/sinks"
)

// verdict is what an error of the warehouse means for those who load.
type verdict struct {
	name  string // for logs and tests
	class sinks.Class
	code  string // Firehose's, without "Redshift."
	data  bool   // some row cannot be loaded: the parts with such rows are to be found
	full  bool
	hint  string
}

// rule recognises a verdict: by one of the states, or by a text in the error's message and detail in lower case.
type rule struct {
	states string // separated by blanks
	texts  []string
	verdict
}

// rules are tried in order. What happens while COPY reads objects has the state XX000, so texts come first where states
// say nothing.
var rules = []rule{
	{states: "40001", texts: []string{"serializable isolation violation", "error: 1023", "could not serialize", "code: 1018", "concurrent transaction"},
		verdict: verdict{name: "conflict", class: sinks.NotStored, code: "InternalError"}},
	{states: "57P01 57P02 57P03 53300 08001 08004", texts: []string{"too many connections", "connection limit", "the database system is"},
		verdict: verdict{name: "connect", class: sinks.NotStored, code: "ConnectionFailed"}},
	{states: "25006", texts: []string{"read-only mode", "resize mode", "system is in resize"},
		verdict: verdict{name: "read only", class: sinks.NotStored, code: "ReadOnlyCluster"}},
	{states: "53100", texts: []string{"disk full", "no space left"},
		verdict: verdict{name: "disk full", class: sinks.NotStored, code: "DiskFull", full: true}},
	{states: "53200", texts: []string{"out of memory"},
		verdict: verdict{name: "memory", class: sinks.NotStored, code: "InternalError"}},
	{states: "57014", texts: []string{"aborted by wlm", "cancelled by wlm", "statement timeout", "query cancelled", "cancelled on user"},
		verdict: verdict{name: "cancelled", class: sinks.NotStored, code: "InternalError", hint: "the load took longer than the warehouse allows: less at a time, or a longer time-out"}},
	{texts: []string{"unknown authentication type: 13", "unknown authentication type: 14"},
		verdict: verdict{name: "authentication method", class: sinks.RefusedDestination, code: "AuthenticationFailed", hint: "give the user an MD5 password, or use IAM credentials (iam)"}},
	{states: "28000 28P01", texts: []string{"password authentication failed", "token is expired", "expiredtoken", "the security token included in the request"},
		verdict: verdict{name: "credentials", class: sinks.RefusedDestination, code: "AuthenticationFailed"}},
	{states: "3D000",
		verdict: verdict{name: "database", class: sinks.RefusedDestination, code: "DatabaseNotFound"}},
	{texts: []string{"x509:", "tls: ", "server refused tls", "certificate"},
		verdict: verdict{name: "tls", class: sinks.RefusedDestination, code: "ConnectionFailed", hint: "the warehouse's certificate is checked: sslmode and sslrootcert say how"}},
	{texts: []string{"accessdenied", "access denied", "not authorized to assume", "not authorized to get credentials", "invalidaccesskeyid", "signaturedoesnotmatch"},
		verdict: verdict{name: "s3 rights", class: sinks.RefusedDestination, code: "S3BucketAccessDenied", hint: "the role or the keys need s3:GetObject on the objects and manifests, and s3:ListBucket on the bucket"}},
	{texts: []string{"permanentredirect", "the bucket you are attempting to access must be addressed", "authorizationheadermalformed", "region argument is not supported"},
		verdict: verdict{name: "region", class: sinks.RefusedDestination, code: "IncorrectOrMissingRegion"}},
	{texts: []string{"problem reading manifest file", "nosuchkey", "the specified key does not exist", "code: 8001", "code:      8001", "manifest file is not in correct json format", "does not have 'meta' key", "does not have the required", "mandatory url is not present", "content length mismatch", "file not found"},
		verdict: verdict{name: "staging", class: sinks.RefusedDestination, code: "MissingS3File", hint: "staged objects, and the file of JSON paths where copy_options name one, have to be there until they are loaded"}},
	// What reads Parquet has these under the same headings as what is wrong with the store or the table.
	{texts: []string{"longer than the length defined in the table", "string value exceeds the max size", "cannot insert a null value", "numeric data overflow"},
		verdict: verdict{name: "data", class: sinks.RefusedObject, code: "DataLoadFailed", data: true}},
	{texts: []string{"jsonpath"},
		verdict: verdict{name: "jsonpaths", class: sinks.RefusedDestination, code: "IncorrectJsonPathsFile"}},
	{texts: []string{"unmatched number of columns"},
		verdict: verdict{name: "schema", class: sinks.RefusedDestination, code: "ColumnMismatch"}},
	{texts: []string{"incompatible parquet schema", "invalid type length"},
		verdict: verdict{name: "schema", class: sinks.RefusedDestination, code: "ColumnMismatch", hint: "types are paired strictly: hydrant ddl --engine redshift prints the table"}},
	{texts: []string{"s3 query exception", "spectrum scan error", "slowdown", "503 slow down", "fetch / execute thread", "connection failed, retries exceeded", "s3serviceexception"},
		verdict: verdict{name: "s3", class: sinks.NotStored, code: "InternalError"}},
	{texts: []string{"stl_load_errors", "sys_load_error_detail", "load into table"},
		verdict: verdict{name: "data", class: sinks.RefusedObject, code: "DataLoadFailed", data: true}},
	{states: "22001 22003 22007 22008 22P02 23502", texts: []string{"value too long for character type", "found multiple matches to update"},
		verdict: verdict{name: "data", class: sinks.RefusedObject, code: "DataLoadFailed", data: true}},
	{states: "42P01 3F000",
		verdict: verdict{name: "table", class: sinks.RefusedDestination, code: "TableNotFound", hint: "hydrant ddl --engine redshift prints the table"}},
	{states: "42703",
		verdict: verdict{name: "column", class: sinks.RefusedDestination, code: "ColumnNotFound"}},
	{states: "42501", texts: []string{"permission denied", "must be owner"},
		verdict: verdict{name: "rights", class: sinks.RefusedDestination, code: "InsufficientPrivilege"}},
	{texts: []string{"not null column without default"},
		verdict: verdict{name: "missing column", class: sinks.RefusedDestination, code: "MissingColumn"}},
	{states: "42601 42804 42704 0A000 42P07",
		verdict: verdict{name: "statement", class: sinks.RefusedDestination, code: "SyntaxError"}},
}

// judge says what an error means; sent tells whether it came after a statement that may have taken effect.
func judge(err error, sent bool) verdict {
	var pg *pgconn.PgError
	state, said := "", strings.ToLower(err.Error())
	if errors.As(err, &pg) {
		state, said = pg.Code, strings.ToLower(pg.Message+"\n"+pg.Detail)
	}
	for i := range rules {
		r := &rules[i]
		if state != "" && strings.Contains(" "+r.states+" ", " "+state+" ") {
			return r.verdict
		}
		for _, t := range r.texts {
			if strings.Contains(said, t) {
				return r.verdict
			}
		}
	}
	switch {
	case pg != nil:
		return verdict{name: "internal", class: sinks.NotStored, code: "InternalError"}
	case sent:
		return verdict{name: "lost", class: sinks.Unknown, code: "ConnectionFailed"}
	}
	return verdict{name: "connect", class: sinks.NotStored, code: "ConnectionFailed"}
}

// failure is the classified error of what was tried.
func (s *Sink) failure(v verdict, what string, keys Keys, err error) *sinks.Error {
	message := explain(err)
	if v.hint != "" {
		message += " (" + v.hint + ")"
	}
	message = keys.mask(message)
	class := v.class
	if v.name != "connect" && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		class = sinks.Unknown
	}
	return &sinks.Error{Class: class, Code: "Redshift." + v.code, Full: v.full, Message: message,
		Err: &quiet{fmt.Sprintf("%s: %s", what, message), err}}
}

// quiet says what an error has to say without what it was made of.
type quiet struct {
	text  string
	cause error
}

func (e *quiet) Error() string { return e.text }

// Is finds what the error was made of, which can hold secrets in its text and so is not handed out.
func (e *quiet) Is(target error) bool { return errors.Is(e.cause, target) }

// explain is an error in full: the useful half of what COPY says is in its detail.
func explain(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err.Error()
	}
	text := pg.Message
	if detail := strings.Join(strings.Fields(strings.ReplaceAll(pg.Detail, "-----------------------------------------------", "")), " "); detail != "" {
		text += ": " + detail
	}
	return fmt.Sprintf("%s (SQLSTATE %s)", strings.TrimSpace(text), pg.Code)
}
