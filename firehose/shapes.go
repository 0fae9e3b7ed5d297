package firehose

import (
	"regexp"
	"strings"
	"unicode"
)

// The tables of the API's model, 2015-08-04. Order of members is the order in which faults are told.

// pattern is a regular expression as it is printed, and whether a whole text matches it.
type pattern struct {
	text    string
	matches func(string) bool
}

// re is a pattern that is also Go's.
func re(text string) *pattern { return like(text, text) }

// like prints a pattern that is written otherwise for Go, which has no look-around.
func like(printed, ours string) *pattern {
	return &pattern{printed, regexp.MustCompile(`\A(?:` + ours + `)\z`).MatchString}
}

// Texts that have no pattern here have `.*` in the model. Strictly that excludes line ends, which SQL and jq
// that people write in several lines do have.
var (
	// The model's `.+` is taken over line ends too, for the same reason.
	notBlank = &pattern{`^(?!\s*$).+`, func(s string) bool { return strings.TrimSpace(s) != "" }}

	namePattern = re(`[a-zA-Z0-9_.-]+`)
	rolePattern = re(`arn:.*:iam::\d{12}:role/[a-zA-Z_0-9+=,.@\-_/]+`)
	keyPattern  = re(`arn:.*:kms:[a-zA-Z0-9\-]+:\d{12}:(key|alias)/[a-zA-Z_0-9+=,.@\-_/]+`)
	noSpace     = re(`^\S+$`)
	idPattern   = re(`[a-zA-Z0-9-]+`)

	tagKeyPattern = &pattern{`^(?!aws:)[\p{L}\p{Z}\p{N}_.:\/=+\-@%]*$`, func(s string) bool {
		return !strings.HasPrefix(s, "aws:") && tagText(s)
	}}
	tagValuePattern = &pattern{`^[\p{L}\p{Z}\p{N}_.:\/=+\-@%]*$`, tagText}
)

func tagText(s string) bool {
	for _, r := range s {
		if !unicode.In(r, unicode.L, unicode.Z, unicode.N) && !strings.ContainsRune("_.:/=+-@%", r) {
			return false
		}
	}
	return true
}

func bound(n int64) *int64 { return &n }

// str is a text of min to max characters; p may be nil.
func str(min, max int64, p *pattern) *shape {
	s := &shape{kind: text, max: bound(max), pattern: p}
	if min > 0 {
		s.min = bound(min)
	}
	return s
}

func hidden(min, max int64) *shape {
	s := str(min, max, nil)
	s.kind = secret
	return s
}

func enum(values ...string) *shape { return &shape{kind: text, enum: values} }

func whole(min, max int64) *shape { return &shape{kind: integer, min: bound(min), max: bound(max)} }

func wholeFrom(min int64) *shape { return &shape{kind: integer, min: bound(min)} }

func fraction() *shape { return &shape{kind: number, min: bound(0), max: bound(1)} }

func truth() *shape { return &shape{kind: boolean} }

func listOf(elem *shape) *shape { return &shape{kind: list, elem: elem} }

func listFrom(min, max int64, elem *shape) *shape {
	return &shape{kind: list, elem: elem, min: bound(min), max: bound(max)}
}

func object(members ...member) *shape { return &shape{kind: structure, members: members} }

func need(name string, s *shape) member { return member{name, s, true} }
func may(name string, s *shape) member  { return member{name, s, false} }

// with is a structure with more members.
func with(s *shape, more ...member) *shape {
	return object(append(append([]member{}, s.members...), more...)...)
}

// optional is the structure with nothing required, which is what an update may leave out.
func optional(s *shape) *shape {
	out := object(append([]member{}, s.members...)...)
	for i := range out.members {
		out.members[i].required = false
	}
	return out
}

// updates is what an update may say of a destination: the S3 configurations in it have other names there.
func updates(s *shape) *shape {
	out := optional(s)
	for i := range out.members {
		switch m := &out.members[i]; m.name {
		case "S3Configuration":
			*m = may("S3Update", s3Update)
		case "S3BackupConfiguration":
			*m = may("S3BackupUpdate", s3Update)
		}
	}
	return out
}

// Types of processors.
const (
	deaggregation    = "RecordDeAggregation"
	decompression    = "Decompression"
	logProcessing    = "CloudWatchLogProcessing"
	lambda           = "Lambda"
	extraction       = "MetadataExtraction"
	appendDelimiter  = "AppendDelimiterToRecord"
	uncompressed     = "UNCOMPRESSED"
	enabled          = "Enabled"
	disabled         = "Disabled"
	failedDataOnly   = "FailedDataOnly"
	allData          = "AllData"
	noEncryption     = "NoEncryption"
	defaultTimeZone  = "UTC"
	parsingEngine    = "JQ-1.6"
	compressionGZIP  = "GZIP"
	subRecordJSON    = "JSON"
	subRecordDelimit = "DELIMITED"
)

var (
	streamName = str(1, 64, namePattern)
	streamType = enum(DirectPut, KinesisStreamAsSource, MSKAsSource, DatabaseAsSource)
	roleARN    = str(1, 512, rolePattern)
	nonEmpty   = str(1, 1024, notBlank)
	unspaced   = str(1, 1024, noSpace)

	tagKey  = str(1, 128, tagKeyPattern)
	tagList = listFrom(1, 50, object(need("Key", tagKey), may("Value", str(0, 256, tagValuePattern))))

	bufferingHints = object(may("SizeInMBs", whole(1, 128)), may("IntervalInSeconds", whole(0, 900)))
	retryOptions   = object(may("DurationInSeconds", whole(0, 7200)))
	logging        = object(
		may("Enabled", truth()),
		may("LogGroupName", str(0, 512, re(`[\.\-_/#A-Za-z0-9]*`))),
		may("LogStreamName", str(0, 512, re(`[^:*]*`))),
	)
	encryption = object(
		may("NoEncryptionConfig", enum(noEncryption)),
		may("KMSEncryptionConfig", object(need("AWSKMSKeyARN", str(1, 512, keyPattern)))),
	)
	processing = object(
		may("Enabled", truth()),
		// A null here is an oddity of the service: it passes the shapes and fails later.
		may("Processors", &shape{kind: list, nullable: true, elem: object(
			need("Type", enum(deaggregation, decompression, logProcessing, lambda, extraction, appendDelimiter)),
			may("Parameters", listOf(object(
				need("ParameterName", enum("LambdaArn", "NumberOfRetries", "MetadataExtractionQuery", "JsonParsingEngine", "RoleArn",
					"BufferSizeInMBs", "BufferIntervalInSeconds", "SubRecordType", "Delimiter", "CompressionFormat", "DataMessageExtraction")),
				need("ParameterValue", str(1, 5120, notBlank)),
			))),
		)}),
	)
	conversion = object(
		may("SchemaConfiguration", object(
			may("RoleARN", unspaced), may("CatalogId", unspaced), may("DatabaseName", unspaced),
			may("TableName", unspaced), may("Region", unspaced), may("VersionId", unspaced),
		)),
		may("InputFormatConfiguration", object(may("Deserializer", object(
			may("OpenXJsonSerDe", object(
				may("ConvertDotsInJsonKeysToUnderscores", truth()),
				may("CaseInsensitive", truth()),
				may("ColumnToJsonKeyMappings", &shape{kind: mapping, keys: unspaced, elem: nonEmpty}),
			)),
			may("HiveJsonSerDe", object(may("TimestampFormats", listOf(nonEmpty)))),
		)))),
		may("OutputFormatConfiguration", object(may("Serializer", object(
			may("ParquetSerDe", object(
				may("BlockSizeBytes", wholeFrom(64<<20)),
				may("PageSizeBytes", wholeFrom(64<<10)),
				may("Compression", enum(uncompressed, compressionGZIP, "SNAPPY")),
				may("EnableDictionaryCompression", truth()),
				may("MaxPaddingBytes", wholeFrom(0)),
				may("WriterVersion", enum("V1", "V2")),
			)),
			may("OrcSerDe", object(
				may("StripeSizeBytes", wholeFrom(8<<20)),
				may("BlockSizeBytes", wholeFrom(64<<20)),
				may("RowIndexStride", wholeFrom(1000)),
				may("EnablePadding", truth()),
				may("PaddingTolerance", fraction()),
				may("Compression", enum("NONE", "ZLIB", "SNAPPY")),
				may("BloomFilterColumns", listOf(unspaced)),
				may("BloomFilterFalsePositiveProbability", fraction()),
				may("DictionaryKeyThreshold", fraction()),
				may("FormatVersion", enum("V0_11", "V0_12")),
			)),
		)))),
		may("Enabled", truth()),
	)
	secretsManager = object(
		may("SecretARN", str(1, 2048, re(`arn:.*:secretsmanager:[a-zA-Z0-9\-]+:\d{12}:secret:[a-zA-Z0-9\-/_+=.@!]+`))),
		may("RoleARN", roleARN),
		need("Enabled", truth()),
	)

	s3Config = object(
		need("RoleARN", roleARN),
		need("BucketARN", str(1, 2048, re(`arn:.*:s3:::[\w\.\-]{1,255}`))),
		may("Prefix", str(0, 1024, nil)),
		may("ErrorOutputPrefix", str(0, 1024, nil)),
		may("BufferingHints", bufferingHints),
		// The order in which the service lists them.
		may("CompressionFormat", enum("ZIP", "HADOOP_SNAPPY", "Snappy", compressionGZIP, uncompressed)),
		may("EncryptionConfiguration", encryption),
		may("CloudWatchLoggingOptions", logging),
	)
	s3Update = optional(s3Config)

	extendedS3Config = with(s3Config,
		may("ProcessingConfiguration", processing),
		may("S3BackupMode", enum(disabled, enabled)),
		may("S3BackupConfiguration", s3Config),
		may("DataFormatConversionConfiguration", conversion),
		may("DynamicPartitioningConfiguration", object(may("RetryOptions", retryOptions), may("Enabled", truth()))),
		may("FileExtension", str(0, 128, re(`^(|\.[0-9a-z!\-_.*'()]+)$`))),
		may("CustomTimeZone", str(0, 50, re(`^$|[a-zA-Z/_]+`))),
	)
	redshiftConfig = object(
		need("RoleARN", roleARN),
		need("ClusterJDBCURL", str(1, 512, like(
			`jdbc:(redshift|postgresql)://((?!-)[A-Za-z0-9-]{1,63}(?<!-)\.)+(redshift(-serverless)?)\.([a-zA-Z0-9\.\-]+):\d{1,5}/[a-zA-Z0-9_$-]+`,
			`jdbc:(redshift|postgresql)://([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+(redshift(-serverless)?)\.([a-zA-Z0-9\.\-]+):\d{1,5}/[a-zA-Z0-9_$-]+`,
		))),
		need("CopyCommand", object(
			need("DataTableName", str(1, 512, nil)),
			may("DataTableColumns", str(0, 10240, nil)),
			may("CopyOptions", str(0, 10240, nil)),
		)),
		may("Username", str(1, 512, nil)),
		may("Password", hidden(6, 512)),
		may("RetryOptions", retryOptions),
		need("S3Configuration", s3Config),
		may("ProcessingConfiguration", processing),
		may("S3BackupMode", enum(disabled, enabled)),
		may("S3BackupConfiguration", s3Config),
		may("CloudWatchLoggingOptions", logging),
		may("SecretsManagerConfiguration", secretsManager),
	)
	httpConfig = object(
		need("EndpointConfiguration", object(
			need("Url", str(1, 1000, re(`https://.*`))),
			may("Name", str(1, 256, notBlank)),
			may("AccessKey", hidden(0, 4096)),
		)),
		may("BufferingHints", object(may("SizeInMBs", whole(1, 64)), may("IntervalInSeconds", whole(0, 900)))),
		may("CloudWatchLoggingOptions", logging),
		may("RequestConfiguration", object(
			may("ContentEncoding", enum("NONE", compressionGZIP)),
			may("CommonAttributes", listFrom(0, 50, object(
				need("AttributeName", str(1, 256, notBlank)),
				need("AttributeValue", str(0, 1024, nil)),
			))),
		)),
		may("ProcessingConfiguration", processing),
		may("RoleARN", roleARN),
		may("RetryOptions", retryOptions),
		may("S3BackupMode", enum(failedDataOnly, allData)),
		need("S3Configuration", s3Config),
		may("SecretsManagerConfiguration", secretsManager),
	)

	anything = &shape{kind: opaque}
	keyInput = object(
		may("KeyARN", str(1, 512, keyPattern)),
		need("KeyType", enum(OwnedKey, CustomerKey)),
	)
)

// kinesisSourceConfig is the data stream that a delivery stream reads.
var kinesisSourceConfig = object(
	need("KinesisStreamARN", str(1, 512, re(`arn:.*:kinesis:[a-zA-Z0-9\-]+:\d{12}:stream/[a-zA-Z0-9_.-]+`))),
	need("RoleARN", roleARN),
)

// The requests.
var (
	createShape = object(
		need("DeliveryStreamName", streamName),
		may("DeliveryStreamType", streamType),
		may("DirectPutSourceConfiguration", object(need("ThroughputHintInMBs", whole(1, 100)))),
		may(kinesisSource, kinesisSourceConfig),
		may("DeliveryStreamEncryptionConfigurationInput", keyInput),
		may("S3DestinationConfiguration", s3Config),
		may("ExtendedS3DestinationConfiguration", extendedS3Config),
		may("RedshiftDestinationConfiguration", redshiftConfig),
		may("ElasticsearchDestinationConfiguration", anything),
		may("AmazonopensearchserviceDestinationConfiguration", anything),
		may("SplunkDestinationConfiguration", anything),
		may("HttpEndpointDestinationConfiguration", httpConfig),
		may("Tags", tagList),
		may("AmazonOpenSearchServerlessDestinationConfiguration", anything),
		may("MSKSourceConfiguration", anything),
		may("SnowflakeDestinationConfiguration", anything),
		may("IcebergDestinationConfiguration", anything),
		may("DatabaseSourceConfiguration", anything),
	)
	deleteShape = object(need("DeliveryStreamName", streamName), may("AllowForceDelete", truth()))
	updateShape = object(
		need("DeliveryStreamName", streamName),
		need("CurrentDeliveryStreamVersionId", str(1, 50, re(`[0-9]+`))),
		need("DestinationId", str(1, 100, idPattern)),
		may("S3DestinationUpdate", s3Update),
		may("ExtendedS3DestinationUpdate", updates(extendedS3Config)),
		may("RedshiftDestinationUpdate", updates(redshiftConfig)),
		may("ElasticsearchDestinationUpdate", anything),
		may("AmazonopensearchserviceDestinationUpdate", anything),
		may("SplunkDestinationUpdate", anything),
		may("HttpEndpointDestinationUpdate", updates(httpConfig)),
		may("AmazonOpenSearchServerlessDestinationUpdate", anything),
		may("SnowflakeDestinationUpdate", anything),
		may("IcebergDestinationUpdate", anything),
	)
	tagShape      = object(need("DeliveryStreamName", streamName), need("Tags", tagList))
	untagShape    = object(need("DeliveryStreamName", streamName), need("TagKeys", listFrom(1, 50, tagKey)))
	listTagsShape = object(
		need("DeliveryStreamName", streamName),
		may("ExclusiveStartTagKey", tagKey),
		may("Limit", whole(1, 50)),
	)
	startEncryptionShape = object(
		need("DeliveryStreamName", streamName),
		may("DeliveryStreamEncryptionConfigurationInput", keyInput),
	)
	stopEncryptionShape = object(need("DeliveryStreamName", streamName))
	describeShape       = object(
		need("DeliveryStreamName", streamName),
		may("Limit", whole(1, 10000)),
		may("ExclusiveStartDestinationId", str(1, 100, idPattern)),
	)
	listShape = object(
		may("Limit", whole(1, 10000)),
		may("DeliveryStreamType", streamType),
		may("ExclusiveStartDeliveryStreamName", streamName),
	)
)
