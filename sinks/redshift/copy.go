package redshift

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Keys are credentials that stand in the text of a COPY.
type Keys struct{ AccessKeyID, SecretAccessKey, SessionToken string }

// statement builds COPY statements of one stream. Immutable.
type statement struct {
	columns []string // quoted
	format  Format
	role    string // authorization by a role, as SQL; "": by keys
	before  string // what stands before MANIFEST, as SQL
	after   string // what stands after it
	exact   bool   // a load must have as many rows as its parts
}

var (
	rolePattern   = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,512}$`)
	regionPattern = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$`)
	keyPattern    = regexp.MustCompile(`^[A-Za-z0-9+/=_.-]+$`)
	// bucketPattern and objectPattern are what goes into the text of a COPY and its manifest and means the same everywhere.
	bucketPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	objectPattern = regexp.MustCompile(`^[A-Za-z0-9=/_.-]+$`)
)

// newStatement checks what a COPY is made of.
func newStatement(o *Options) (*statement, error) {
	s := &statement{}
	var err error
	if s.columns, err = identifiers(o.Columns); err != nil {
		return nil, fmt.Errorf("columns: %w", err)
	}
	u, err := parseOptions(o.CopyOptions)
	if err != nil {
		return nil, err
	}
	s.format = o.Format
	switch {
	case s.format == 0 && u.format == 0:
		s.format = JSON
	case s.format == 0:
		s.format = u.format
	case u.format != 0 && u.format != s.format:
		return nil, fmt.Errorf("copy_options: FORMAT %s is given, and the objects are %s", u.format, s.format)
	}
	if len(s.columns) == 0 && (s.format == Parquet || len(o.MergeOn) > 0) {
		return nil, errors.New("columns are missing: Parquet is loaded by position, and merge_on needs to know what is loaded")
	}
	compression, known := compressions[o.Compression]
	if s.format == Parquet {
		compression = ""
	} else if !known {
		return nil, fmt.Errorf("compression %q cannot be loaded by COPY; it is none, gzip or zstd", o.Compression)
	}
	if err := u.check(s.format, compression); err != nil {
		return nil, err
	}
	switch {
	case o.IAMRole != "" && o.Keys != nil:
		return nil, errors.New("there are both iam_role and credentials; keep one")
	case o.IAMRole == "" && o.Keys == nil:
		return nil, errors.New("iam_role is missing, or credentials: COPY reads the staged objects with them")
	case strings.EqualFold(o.IAMRole, "default"):
		s.role = "IAM_ROLE DEFAULT"
	case o.IAMRole != "":
		for role := range strings.SplitSeq(o.IAMRole, ",arn:") { // a chain of roles
			if !strings.HasPrefix(role, "arn:") {
				role = "arn:" + role
			}
			if !rolePattern.MatchString(role) {
				return nil, fmt.Errorf("iam_role %q is not the ARN of a role, a chain of them with commas, or default", o.IAMRole)
			}
		}
		s.role = "IAM_ROLE " + literal(o.IAMRole)
	}

	var before []string
	switch s.format {
	case JSON:
		how := u.json
		if how == "" {
			how = "'auto ignorecase'"
		}
		before = append(before, "FORMAT AS JSON "+how)
	case CSV:
		before = append(before, "FORMAT AS CSV")
	case Parquet:
		before = append(before, "FORMAT AS PARQUET")
		if o.Nested && !u.has["SERIALIZETOJSON"] {
			before = append(before, "SERIALIZETOJSON")
		}
	}
	if compression != "" {
		before = append(before, compression)
	}
	if s.format != Parquet {
		if o.Region != "" && !u.has["REGION"] {
			if !regionPattern.MatchString(o.Region) {
				return nil, fmt.Errorf("region %q is not the name of a region", o.Region)
			}
			before = append(before, "REGION AS "+literal(o.Region))
		}
		for _, name := range []string{"TIMEFORMAT", "DATEFORMAT"} {
			if !u.has[name] {
				before = append(before, name+" AS 'auto'")
			}
		}
	}
	s.before = strings.Join(append(before, u.words...), " ")
	if s.format != Parquet && !u.has["COMPUPDATE"] {
		s.after += " COMPUPDATE OFF"
	}
	if !u.has["STATUPDATE"] {
		s.after += " STATUPDATE OFF"
	}
	s.exact = s.format == Parquet
	return s, nil
}

// copy is the statement that loads a manifest into a table.
func (s *statement) copy(table, manifest string, keys Keys) (string, error) {
	auth := s.role
	if auth == "" {
		for _, k := range []string{keys.AccessKeyID, keys.SecretAccessKey} {
			if !keyPattern.MatchString(k) {
				return "", errors.New("the credentials for COPY are missing or have characters that no key has")
			}
		}
		auth = "ACCESS_KEY_ID " + literal(keys.AccessKeyID) + " SECRET_ACCESS_KEY " + literal(keys.SecretAccessKey)
		if keys.SessionToken != "" {
			if !keyPattern.MatchString(keys.SessionToken) {
				return "", errors.New("the session token for COPY has characters that no token has")
			}
			auth += " SESSION_TOKEN " + literal(keys.SessionToken)
		}
	}
	if len(s.columns) > 0 {
		table += " (" + strings.Join(s.columns, ", ") + ")"
	}
	return "COPY " + table + " FROM " + literal(manifest) + " " + auth + " " + s.before + " MANIFEST" + s.after, nil
}

// mask takes secrets out of a text that a server wrote.
func (k Keys) mask(s string) string {
	for _, secret := range []string{k.SecretAccessKey, k.SessionToken} {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "**redacted**")
		}
	}
	return s
}
