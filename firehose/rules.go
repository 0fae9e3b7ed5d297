package firehose

import (
	"errors"
	"net/url"
	"strings"
	"time"

	"hydrant/prefix"
)

// validate is the second layer for what is described, with its defaults filled in.
func (d *Document) validate(s Secrets) error {
	checks := []func() error{d.secretsManager, d.encryptions, d.bucketPrefixes, d.processing, d.conversion, d.partitioning, d.buffering, d.backup}
	switch d.kind {
	case extendedS3:
		checks = append(checks, d.timeZone)
	case redshift:
		checks = append(checks, func() error { return d.redshift(s) })
	case httpEndpoint:
		checks = append(checks, func() error { return d.http(s) })
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (d *Document) secretsManager() error {
	if d.conf.sub(secretsManagerMember).boolean("Enabled") {
		return errUnsupported(secretsManagerMember, "give the secret itself in the request, which keeps it apart from what is described.")
	}
	return nil
}

// buckets are the configurations of S3 in the document, by the member in which they are; "" is the
// destination itself.
func (d *Document) buckets() map[string]tree {
	out := map[string]tree{}
	if d.kind == extendedS3 {
		out[""] = d.conf
	}
	for _, member := range []string{backupMember, intermediateMember} {
		if b := d.conf.sub(member); b != nil {
			out[member] = b
		}
	}
	return out
}

// bucketOrder is the order in which buckets are checked.
var bucketOrder = []string{"", intermediateMember, backupMember}

func (d *Document) encryptions() error {
	buckets := d.buckets()
	for _, member := range bucketOrder {
		e := buckets[member].sub("EncryptionConfiguration")
		if e.has("NoEncryptionConfig") && e.has("KMSEncryptionConfig") {
			return invalid("Only one of NoEncryptionConfig and KMSEncryptionConfig can be specified in EncryptionConfiguration.")
		}
	}
	return nil
}

func (d *Document) bucketPrefixes() error {
	buckets := d.buckets()
	for _, member := range bucketOrder {
		b := buckets[member]
		if b == nil {
			continue
		}
		if d.kind == redshift && member == intermediateMember &&
			(strings.Contains(b.text("Prefix"), "!{") || b.text(errorOutputPrefixMember) != "") {
			return invalid("Prefix Expressions or ErrorOutputPrefix is currently not supported for this destination.")
		}
		if err := checkPrefixes(b, member == "" && d.partitions()); err != nil {
			return err
		}
	}
	return nil
}

func checkPrefixes(b tree, partitioned bool) error {
	text := b.text("Prefix")
	validate := prefix.ValidatePair
	if partitioned {
		validate = prefix.ValidatePartitionedPair
	}
	err := validate(text, b.text(errorOutputPrefixMember), true)
	if err == nil {
		return nil
	}
	if p, other := prefix.Parse(text, prefix.PartitionedPrefix); !partitioned && other == nil && len(p.Keys()) > 0 {
		return invalid("S3 Prefix can contain Dynamic Partitioning namespaces only when Dynamic Partitioning is enabled")
	}
	var e *prefix.Error
	if errors.As(err, &e) {
		return invalid("%s", e.Message) // the service's words and no more
	}
	return invalid("%s", err)
}

// partitionKeys are the keys of the prefix, by namespace.
func (d *Document) partitionKeys() (fromQuery, fromLambda []string) {
	p, err := prefix.Parse(d.conf.text("Prefix"), prefix.PartitionedPrefix)
	if err != nil {
		return nil, nil // which is said elsewhere
	}
	for _, k := range p.Keys() {
		if k.Namespace == prefix.FromQuery {
			fromQuery = append(fromQuery, k.Name)
		} else {
			fromLambda = append(fromLambda, k.Name)
		}
	}
	return fromQuery, fromLambda
}

func (d *Document) buffering() error {
	if d.kind != extendedS3 {
		return nil
	}
	h := d.conf.sub(bufferingMember)
	if d.converts() && h.integer("SizeInMBs") < minSizeMBLarge {
		return invalid("BufferingHints.SizeInMBs must be at least %d when data format conversion is enabled.", minSizeMBLarge)
	}
	if d.partitions() && h.integer("SizeInMBs") < minSizeMBLarge {
		return invalid("BufferingHints.SizeInMBs must be at least %d when Dynamic Partitioning is enabled.", minSizeMBLarge)
	}
	if d.partitions() && h.integer("IntervalInSeconds") < minIntervalPartitioned {
		return invalid("BufferingHints.IntervalInSeconds must be at least %d when Dynamic Partitioning is enabled.", minIntervalPartitioned)
	}
	return nil
}

func (d *Document) backup() error {
	if d.conf.text("S3BackupMode") == enabled && !d.conf.has(backupMember) {
		return invalid("S3 backup destination configuration is required when enabling S3 backup.")
	}
	member := backupMember
	if d.kind == httpEndpoint {
		member = intermediateMember // which holds what failed
	}
	if b := d.conf.sub(member); b != nil && b.sub(bufferingMember).integer("IntervalInSeconds") < minIntervalBackup {
		return invalid("BufferingHints.IntervalInSeconds of %s must be at least %d.", member, minIntervalBackup)
	}
	return nil
}

func (d *Document) timeZone() error {
	// LoadLocation takes two names that are not in the data base of zones.
	switch name := d.conf.text("CustomTimeZone"); name {
	case defaultTimeZone:
		return nil
	default:
		if _, err := time.LoadLocation(name); err == nil && name != "Local" {
			return nil
		}
		return invalid("CustomTimeZone %s is not a time zone; use a name of the IANA data base, like Europe/Zurich.", name)
	}
}

func (d *Document) conversion() error {
	c := d.conf.sub(conversionMember)
	in := c.sub("InputFormatConfiguration").sub("Deserializer")
	out := c.sub("OutputFormatConfiguration").sub("Serializer")
	switch {
	case len(in) > 1:
		return invalid("More than one deserializer specified. Only one may be chosen.")
	case len(out) > 1:
		return invalid("More than one serializer specified. Only one may be chosen.")
	case !d.converts():
		return nil
	case d.conf.text("CompressionFormat") != uncompressed:
		return invalid("The S3 destination's compression format must be set to UNCOMPRESSED when data format conversion is enabled")
	}
	const path = conversionMember + "."
	schema := c.sub("SchemaConfiguration")
	for _, m := range []struct {
		there bool
		path  string
	}{
		{schema != nil, "SchemaConfiguration"},
		{schema.has("RoleARN"), "SchemaConfiguration.RoleARN"},
		{schema.has("DatabaseName"), "SchemaConfiguration.DatabaseName"},
		{schema.has("TableName"), "SchemaConfiguration.TableName"},
		{c.has("InputFormatConfiguration"), "InputFormatConfiguration"},
		{len(in) == 1, "InputFormatConfiguration.Deserializer"},
		{c.has("OutputFormatConfiguration"), "OutputFormatConfiguration"},
		{len(out) == 1, "OutputFormatConfiguration.Serializer"},
	} {
		if !m.there {
			return invalid("%s must not be null", path+m.path)
		}
	}
	if !rolePattern.matches(schema.text("RoleARN")) {
		return &Error{Code: CodeInvalidParameter, Message: "Invalid role ARN."}
	}
	return nil
}

func (d *Document) redshift(s Secrets) error {
	// A backup is what came, and COPY does not read it: there any format will do.
	if f := d.conf.sub(intermediateMember).text("CompressionFormat"); f != uncompressed && f != compressionGZIP {
		return invalid("Only the following compression formats are allowed when using Redshift: [UNCOMPRESSED, GZIP]")
	}
	switch {
	case !d.conf.has("Username"):
		return invalid("Redshift Database Username is required for Redshift Destination")
	case !s.Password.IsSet():
		return invalid("Redshift Database Password is required for Redshift Destination")
	}
	return nil
}

func (d *Document) http(s Secrets) error {
	u, err := url.Parse(d.conf.sub("EndpointConfiguration").text("Url"))
	switch {
	case err != nil || u.Hostname() == "": // without the text, which may have a password in it
		return invalid("Url of EndpointConfiguration is not a URL; write it like https://host/path.")
	case u.User != nil:
		return invalid("Url of EndpointConfiguration has a user or a password in it, which every description would show; use AccessKey.")
	case u.Fragment != "":
		return invalid("Url of EndpointConfiguration has a fragment in it; take out what stands after #.")
	}
	if key, err := s.AccessKey.Value(); err == nil && strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return invalid("AccessKey of EndpointConfiguration has a character that no header of a request can have.")
	}
	seen := map[string]bool{}
	for _, a := range d.conf.sub("RequestConfiguration").list("CommonAttributes") {
		name := a.(tree).text("AttributeName")
		if seen[name] {
			return invalid("Http Endpoint Common Attributes have duplicate names. Each AttributeName may stand once.")
		}
		seen[name] = true
	}
	return nil
}
