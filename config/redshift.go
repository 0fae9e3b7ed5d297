package config

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"
)

// RedshiftDestination loads objects into a table of Amazon Redshift by COPY.
type RedshiftDestination struct {
	// Where the warehouse is: a URL like postgres://user:${PGPASSWORD}@host:5439/dev, as redshift:// and jdbc:redshift:// too, or
	// the same in parts. The certificate is checked unless `sslmode` says otherwise.
	DSN RedshiftDSN `key:"dsn" required:"true"`
	// Table, or schema.table. It must exist; `hydrant ddl --engine redshift` prints it.
	Table string `key:"table" required:"true"`
	// Columns to load, in the order of the objects' columns. None: those of the schema, or with text those of the table.
	Columns []string `key:"columns"`
	// More options of COPY, as in SQL. Those that Hydrant sets by itself are refused by name.
	CopyOptions string `key:"copy_options" default:""`
	// Columns that tell rows apart: a row replaces the one that has the same values there.
	MergeOn []string `key:"merge_on"`
	// With `merge_on`: columns of which the highest values, compared in this order, are the newest row's. None: what is loaded
	// last counts, which need not be what was put last.
	MergeOrder []string `key:"merge_order"`
	// Role that COPY reads the bucket with: an ARN, a chain of them with commas, or `default`. Or give `credentials`.
	IAMRole string `key:"iam_role" default:""`
	// Credentials that COPY reads the bucket with.
	Credentials *Credentials `key:"credentials"`
	// Where objects lie for COPY to read.
	Staging RedshiftStaging `key:"staging" required:"true"`
	// Small table that notes which objects are loaded; made where it is missing, in the table's schema unless it names one.
	LedgerTable string `key:"ledger_table" default:"hydrant_ledger"`
	// How long objects that cannot be loaded are tried before their manifest is put under errors/manifests/; `forever` never
	// gives up.
	RetryDuration RetryTime `key:"retry_duration" default:"1h"`
}

// RedshiftStaging is where objects lie for COPY to read.
type RedshiftStaging struct {
	// Bucket in the region of the warehouse. The prefix has no expressions.
	S3 *S3Destination `key:"s3" required:"true"`
}

// RedshiftDSN is the address of a warehouse: a URL, which is kept as a secret, or its parts.
type RedshiftDSN struct {
	URL   Secret
	Parts *RedshiftAddress
}

// RedshiftAddress is an address in parts.
type RedshiftAddress struct {
	// Name of the host.
	Host string `key:"host" required:"true"`
	// Port that it listens on.
	Port Count `key:"port" default:"5439" min:"1" max:"65535"`
	// Name of the database.
	Database string `key:"database" default:"dev"`
	// User; with `iam` that of the cluster for whom credentials are asked.
	User string `key:"user" default:""`
	// Password, without `iam`.
	Password Secret `key:"password"`
	// Temporary credentials from AWS in place of a password, new ones for each connection.
	IAM *RedshiftIAM `key:"iam"`
	// How far the server's certificate is checked.
	SSLMode string `key:"sslmode" default:"verify-full" enum:"verify-full|verify-ca|require|disable"`
	// File of the authorities of the certificate, in PEM, in place of the system's.
	SSLRootCert string `key:"sslrootcert" default:""`
}

// RedshiftIAM names what credentials are asked for.
type RedshiftIAM struct {
	_ oneOf
	// Name of a provisioned cluster.
	Cluster *string `key:"cluster"`
	// Name of a serverless workgroup.
	Workgroup *string `key:"workgroup"`
}

func (r *RedshiftDSN) decode(d *decoder, n *node, path string) {
	*r = RedshiftDSN{}
	here := &node{kind: n.kind, pos: n.pos} // the text may hold a password
	switch {
	case d.spec && n.kind == scalar:
		r.URL = Secret{set: true, gone: true}
	case n.kind == scalar:
		text := strings.TrimPrefix(n.text, "jdbc:")
		scheme, _, ok := strings.Cut(text, "://")
		switch scheme {
		case "postgres", "postgresql", "redshift", "redshift:iam":
		default:
			ok = false
		}
		if _, err := url.Parse(strings.Replace(text, "redshift:iam:", "redshift:", 1)); err != nil || !ok {
			d.fault(here, path, "is not the URL of a warehouse", "write it like postgres://user:${PGPASSWORD}@host:5439/dev, special characters of a password as %XX")
			return
		}
		r.URL = NewSecret(n.text)
	case n.kind == mapping:
		r.Parts = &RedshiftAddress{}
		d.structure(reflect.ValueOf(r.Parts).Elem(), n, path)
		d.redshiftAddress(r.Parts, path)
	default:
		d.fault(here, path, "is neither a URL nor a mapping", "write it like postgres://user:${PGPASSWORD}@host:5439/dev")
	}
}

func (r RedshiftDSN) encode() any {
	if r.Parts == nil {
		return "configured"
	}
	return encode(reflect.ValueOf(r.Parts))
}

func (d *decoder) redshiftAddress(a *RedshiftAddress, path string) {
	switch {
	case a.IAM == nil && a.User == "":
		d.faultAt(child(path, "user"), "", "is missing", "give the user that loads, or iam: { cluster: NAME } or { workgroup: NAME }")
	case a.IAM != nil && a.Password.IsSet():
		d.faultAt(child(path, "password"), "", "is given although iam gets one", "keep one")
	case a.IAM != nil && a.SSLMode == "disable":
		d.faultAt(child(path, "sslmode"), a.SSLMode, "would send credentials of AWS for all to read, and Redshift takes them over TLS alone", "verify-full")
	case a.IAM != nil && a.IAM.Workgroup != nil && a.User != "":
		d.faultAt(child(path, "user"), a.User, "is given although a workgroup says who the user is", "take it out")
	}
}

// redshift checks the Redshift destination of the stream at a path, and what of the stream depends on it.
func (d *decoder) redshift(c *Config, s *Stream, r *RedshiftDestination, stream string) {
	path := child(stream, "destination.redshift")
	if (r.IAMRole == "") == (r.Credentials == nil) {
		d.faultAt(child(path, "iam_role"), r.IAMRole, "COPY reads the bucket either with iam_role or with credentials", "give exactly one of them")
	}
	if r.Credentials != nil {
		d.credentials(r.Credentials, child(path, "credentials"))
	}
	if len(r.Columns) == 0 && s.Format.Parquet == nil && len(r.MergeOn) > 0 {
		d.faultAt(child(path, "columns"), "", "is missing: merge_on needs it, and text has no schema to take columns from", "name the columns of the table")
	}
	if t := s.Format.Text; t != nil {
		switch t.Compression {
		case "none", "gzip", "zstd":
		default:
			d.faultAt(child(stream, "format.text.compression"), t.Compression, "cannot be read by COPY", "gzip, zstd or none")
		}
	}
	if p := s.Format.Parquet; p != nil && p.Timestamps == "millis" {
		d.faultAt(child(path, "table"), r.Table, "cannot take timestamps in millis, which COPY does not convert", "set format.parquet.timestamps to micros")
	}
	st := r.Staging.S3
	if st == nil {
		return
	}
	if s.Format.Parquet != nil && (st.FileExtension == ".gz" || st.FileExtension == ".snappy" || st.FileExtension == ".bz2") {
		d.faultAt(child(path, "staging.s3.file_extension"), st.FileExtension, "makes COPY decompress a Parquet file as a whole, which it is not", "take it out")
	}
	at := child(path, "staging.s3")
	d.s3(c, st, at)
	if strings.Contains(st.Prefix, "!{") {
		d.faultAt(child(at, "prefix"), st.Prefix, "has expressions, and staged objects need none", "take them out")
	}
	for _, x := range st.Prefix {
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789=/_.-!{}:", x) {
			d.faultAt(child(at, "prefix"), st.Prefix, fmt.Sprintf("has %q, and COPY's manifest does not say how that is read", x), "use A-Z a-z 0-9 = / _ . -")
			break
		}
	}
}

// takeSecrets gives r what the present configuration has. The address is taken as a whole, since that is a secret where it is
// a URL: what an older version has to load goes to where the warehouse is now.
func (r *RedshiftDestination) takeSecrets(stream string, present *Stream) error {
	theirs := present.Destination.Redshift
	switch {
	case theirs != nil:
		r.DSN = theirs.DSN
		if r.Credentials != nil && theirs.Credentials != nil {
			*r.Credentials = *theirs.Credentials
		}
	case r.DSN.Parts == nil, r.DSN.Parts.Password.IsSet():
		return fmt.Errorf("stream %q has records that are not loaded yet, and the address of their warehouse is no longer in the configuration: put the stream back until they are", stream)
	}
	if c := r.Credentials; c != nil && theirs == nil && c.AccessKeyID.IsSet() {
		return fmt.Errorf("stream %q has records that are not loaded yet, and the credentials of COPY are no longer in the configuration: put the stream back until they are", stream)
	}
	var staging *S3Destination
	if theirs != nil {
		staging = theirs.Staging.S3
	}
	if r.Staging.S3 == nil {
		return nil
	}
	return r.Staging.S3.takeSecrets(stream, staging, present)
}
