package firehose

import (
	"strings"
)

// Defaults of the service.
const (
	defaultSizeMB           = 5
	defaultSizeMBLarge      = 128 // with conversion; with dynamic partitioning too, which the console fills in
	defaultIntervalSeconds  = 300
	defaultRedshiftRetry    = 3600
	defaultRetry            = 300 // of HTTP endpoints and of dynamic partitioning
	defaultLambdaRetries    = "3"
	defaultLambdaSizeMB     = "1"
	defaultLambdaSeconds    = "60"
	minSizeMBLarge          = 64
	minIntervalPartitioned  = 60
	minIntervalBackup       = 60
	maxProcessors           = 5
	partitioningMember      = "DynamicPartitioningConfiguration"
	conversionMember        = "DataFormatConversionConfiguration"
	processingMember        = "ProcessingConfiguration"
	backupMember            = "S3BackupConfiguration"
	intermediateMember      = "S3Configuration"
	secretsManagerMember    = "SecretsManagerConfiguration"
	bufferingMember         = "BufferingHints"
	errorOutputPrefixMember = "ErrorOutputPrefix"
)

// fill puts in the defaults that the service writes into what it stores, and the forms in which it stores some
// members. It changes d.conf, which is d's alone until d is given out.
func (d *Document) fill() {
	t := d.conf
	switch d.kind {
	case extendedS3:
		size := int64(defaultSizeMB)
		if d.converts() || d.partitions() {
			size = defaultSizeMBLarge
		}
		if t.has(conversionMember) {
			t.sub(conversionMember).fill("Enabled", true)
		}
		if t.has(partitioningMember) {
			p := t.sub(partitioningMember)
			p.fill("Enabled", false)
			if p.boolean("Enabled") {
				p.into("RetryOptions").fill("DurationInSeconds", int64(defaultRetry))
			}
		}
		fillS3(t, size)
		t.fill("S3BackupMode", disabled)
		if t.text("FileExtension") == "" {
			delete(t, "FileExtension")
		}
		if t.text("CustomTimeZone") == "" {
			t["CustomTimeZone"] = defaultTimeZone
		}
	case redshift:
		t.into("RetryOptions").fill("DurationInSeconds", int64(defaultRedshiftRetry))
		t.fill("S3BackupMode", disabled)
	case httpEndpoint:
		fillHints(t, defaultSizeMB)
		t.into("RetryOptions").fill("DurationInSeconds", int64(defaultRetry))
		t.fill("S3BackupMode", failedDataOnly)
		r := t.into("RequestConfiguration")
		r.fill("ContentEncoding", "NONE")
		r.fill("CommonAttributes", []any{})
	}
	for _, member := range []string{backupMember, intermediateMember} {
		if t.has(member) {
			fillS3(t.sub(member), defaultSizeMB)
		}
	}
	t.into("CloudWatchLoggingOptions").fill("Enabled", false)
	if t.has(processingMember) {
		d.fillProcessing(t.sub(processingMember))
	}
}

func fillHints(t tree, sizeMB int64) {
	h := t.into(bufferingMember)
	h.fill("SizeInMBs", sizeMB)
	h.fill("IntervalInSeconds", int64(defaultIntervalSeconds))
}

func fillS3(t tree, sizeMB int64) {
	fillHints(t, sizeMB)
	t.fill("CompressionFormat", uncompressed)
	t.into("CloudWatchLoggingOptions").fill("Enabled", false)
	if e := t.into("EncryptionConfiguration"); len(e) == 0 {
		e["NoEncryptionConfig"] = noEncryption
	}
}

// fillProcessing brings processors into the form in which the service stores them.
func (d *Document) fillProcessing(t tree) {
	t.fill("Enabled", false)
	t.fill("Processors", []any{})
	for _, p := range t.list("Processors") {
		p, ok := p.(tree)
		if !ok {
			continue // null, which validate finds
		}
		p.fill("Parameters", []any{})
		switch p.text("Type") {
		case appendDelimiter:
			p["Parameters"] = []any{}
		case logProcessing:
			for _, q := range p.list("Parameters") {
				if q := q.(tree); q.text("ParameterName") == "DataMessageExtraction" {
					q["ParameterValue"] = strings.ToLower(q.text("ParameterValue"))
				}
			}
		case lambda:
			d.fillLambda(p)
		}
	}
}

// fillLambda writes out the parameters that have defaults, in the service's order. A size or an interval
// alone is left as it is, which validate finds.
func (d *Document) fillLambda(p tree) {
	given := parameters(p)
	_, size := given["BufferSizeInMBs"]
	_, interval := given["BufferIntervalInSeconds"]
	if _, ok := given["LambdaArn"]; !ok || size != interval || len(given) != len(p.list("Parameters")) {
		return
	}
	for _, def := range []struct{ name, value string }{
		{"NumberOfRetries", defaultLambdaRetries},
		{"RoleArn", d.conf.text("RoleARN")},
		{"BufferSizeInMBs", defaultLambdaSizeMB},
		{"BufferIntervalInSeconds", defaultLambdaSeconds},
	} {
		if _, ok := given[def.name]; !ok && def.value != "" {
			given[def.name] = def.value
			p["Parameters"] = append(p.list("Parameters"), tree{"ParameterName": def.name, "ParameterValue": def.value})
		}
	}
}

// parameters of a processor by name; the first of a repeated name.
func parameters(p tree) map[string]string {
	out := map[string]string{}
	for _, q := range p.list("Parameters") {
		q, ok := q.(tree)
		if !ok {
			continue
		}
		if name := q.text("ParameterName"); out[name] == "" {
			out[name] = q.text("ParameterValue")
		}
	}
	return out
}

// converts tells whether records become Parquet or ORC: a conversion is on where nothing says that it is off.
func (d *Document) converts() bool {
	c := d.conf.sub(conversionMember)
	return c != nil && (!c.has("Enabled") || c.boolean("Enabled"))
}

func (d *Document) partitions() bool { return d.conf.sub(partitioningMember).boolean("Enabled") }
