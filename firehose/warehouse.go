package firehose

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"hydrant/config"
)

// What the service does with a Redshift destination and the API cannot change.
const (
	warehouseTLS    = "verify-full"
	warehouseLedger = "hydrant_ledger"
)

// staged is the configuration of S3 whose hints and compression are those of the stream's objects.
func (d *Document) staged() tree {
	if d.kind == redshift {
		return d.conf.sub(intermediateMember)
	}
	return d.conf
}

// warehouse is a Redshift destination, without its password. COPY has the stream's role.
func (d *Document) warehouse(aws config.AWS) (*config.RedshiftDestination, error) {
	staging, err := bucketOf(d.conf.sub(intermediateMember), aws)
	if err != nil {
		return nil, err
	}
	address, err := jdbcAddress(d.conf.text("ClusterJDBCURL"))
	if err != nil {
		return nil, err
	}
	if ofAWS(address.Host) && aws.Endpoints.S3 != "" {
		if u, err := url.Parse(aws.Endpoints.S3); err != nil || !ofAWS(u.Hostname()) {
			return nil, d.notDeliverable("", "COPY of Amazon Redshift reads buckets of AWS alone, and aws.endpoints.s3 names another store.")
		}
	}
	address.User, address.SSLMode = d.conf.text("Username"), warehouseTLS
	command := d.conf.sub("CopyCommand")
	r := &config.RedshiftDestination{
		DSN:           config.RedshiftDSN{Parts: address},
		Table:         command.text("DataTableName"),
		Columns:       columnsOf(command.text("DataTableColumns")),
		CopyOptions:   copyOptions(command.text("CopyOptions")),
		IAMRole:       d.conf.text("RoleARN"),
		Staging:       config.RedshiftStaging{S3: staging},
		LedgerTable:   warehouseLedger,
		RetryDuration: config.RetryTime(time.Duration(d.conf.sub("RetryOptions").integer("DurationInSeconds")) * time.Second),
	}
	return r, nil
}

// ofAWS tells whether a host is one of Amazon's services.
func ofAWS(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return strings.HasSuffix(host, ".amazonaws.com") || strings.HasSuffix(host, ".amazonaws.com.cn")
}

// jdbcAddress reads a ClusterJDBCURL, whose pattern was checked.
func jdbcAddress(text string) (*config.RedshiftAddress, error) {
	u, err := url.Parse(strings.TrimPrefix(text, "jdbc:"))
	if err != nil {
		return nil, invalid("ClusterJDBCURL is not a URL; write it like jdbc:redshift://host:5439/dev.")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 {
		return nil, invalid("ClusterJDBCURL has the port %s; ports go from 1 to 65535.", u.Port())
	}
	return &config.RedshiftAddress{Host: u.Hostname(), Port: config.Count(port), Database: strings.TrimPrefix(u.Path, "/")}, nil
}

// columnsOf is a list of columns as SQL has it.
func columnsOf(text string) (out []string) {
	for c := range strings.SplitSeq(text, ",") {
		c = strings.TrimSpace(c)
		if n := len(c); n > 1 && c[0] == '"' && c[n-1] == '"' {
			c = strings.ReplaceAll(c[1:n-1], `""`, `"`)
		}
		if c != "" {
			out = append(out, c)
		}
	}
	return out
}

var (
	literals = regexp.MustCompile(`'(?:[^']|'')*'`)
	formats  = regexp.MustCompile(`(?i)\b(FORMAT|JSON|CSV|PARQUET|AVRO|ORC|SHAPEFILE|FIXEDWIDTH|DELIMITER)\b`)
)

// copyOptions are those of a CopyCommand, in which no format means delimited text.
func copyOptions(text string) string {
	if formats.MatchString(literals.ReplaceAllString(text, "''")) {
		return text
	}
	return strings.TrimSpace(text + " DELIMITER '|'")
}
