package firehose

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"hydrant/config"
)

// GlueTable is where a conversion takes its schema from.
type GlueTable struct {
	RoleARN   string
	CatalogID string // "": the account
	Database  string
	Table     string
	Region    string // "": the stream's
	Version   string // "": LATEST
}

// Table is the Glue table of the schema; ok is false for a stream that does not convert.
func (d *Document) Table() (t GlueTable, ok bool) {
	if !d.converts() {
		return GlueTable{}, false
	}
	s := d.conf.sub(conversionMember).sub("SchemaConfiguration")
	return GlueTable{
		RoleARN: s.text("RoleARN"), CatalogID: s.text("CatalogId"), Database: s.text("DatabaseName"),
		Table: s.text("TableName"), Region: s.text("Region"), Version: s.text("VersionId"),
	}, true
}

// Config is the stream that delivers what the document describes. aws says what ARNs cannot: endpoint,
// region, and whether roles are assumed. The error is a *NotDeliverable where this version cannot deliver it,
// and an *Error where a value has no place in a stream. Tags are left to the caller.
func (d *Document) Config(name string, aws config.AWS) (*config.Stream, error) {
	if t, ok := d.Table(); ok {
		if err := d.deliverable(); err != nil {
			return nil, err
		}
		return nil, &NotDeliverable{Member: lowerFirst(d.kind.create) + "." + lowerFirst(conversionMember) + ".schemaConfiguration",
			Reason: fmt.Sprintf("the AWS Glue table %s.%s cannot be read. Declare the stream with its schema in the configuration file.", t.Database, t.Table)}
	}
	return d.ConfigWithSchema(name, aws, config.Schema{})
}

// ConfigWithSchema is Config for a caller that has read the columns of Table.
func (d *Document) ConfigWithSchema(name string, aws config.AWS, schema config.Schema) (*config.Stream, error) {
	if err := d.deliverable(); err != nil {
		return nil, err
	}
	hints := d.staged().sub(bufferingMember)
	s := &config.Stream{
		Name:   name,
		Source: d.source(aws),
		Buffer: config.Buffer{
			Size:     config.Bytes(hints.integer("SizeInMBs")) * config.MiB,
			Interval: config.Duration(time.Duration(hints.integer("IntervalInSeconds")) * time.Second),
		},
	}
	s.Transform = d.transform()
	s.Partition = d.partition()
	if d.converts() {
		s.Format.Parquet = d.parquet(schema)
	} else {
		s.Format.Text = d.text()
	}
	var err error
	switch d.kind {
	case httpEndpoint:
		s.Destination.HTTP = d.endpoint()
		s.Backup, err = d.failedData(aws)
	case redshift:
		if s.Destination.Redshift, err = d.warehouse(aws); err == nil {
			s.Backup, err = d.sourceBackup(aws)
		}
	default:
		if s.Destination.S3, err = bucketOf(d.conf, aws); err == nil {
			s.Backup, err = d.sourceBackup(aws)
		}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// source is where the stream's records come from. A data stream is read from the time of the first start on, as the
// service does.
func (d *Document) source(aws config.AWS) config.Source {
	if d.from == nil {
		return config.Source{DirectPut: &config.DirectPut{}}
	}
	k := &config.Kinesis{
		Stream: d.from.text("KinesisStreamARN"), Start: "latest", KPL: "split",
		Consumer: config.KinesisConsumer{Word: "polling"}, Checkpoints: config.KinesisCheckpoints{Word: "local"},
		Endpoint: aws.Endpoints.Kinesis,
	}
	k.Region = regionOf(k.Stream)
	if aws.RoleARNs == "assume" {
		k.RoleARN = d.from.text("RoleARN")
	}
	return config.Source{Kinesis: k}
}

// bucketOf is the bucket of a configuration of S3.
func bucketOf(conf tree, aws config.AWS) (*config.S3Destination, error) {
	_, bucket, _ := strings.Cut(conf.text("BucketARN"), ":::")
	if len(bucket) < minBucket {
		return nil, invalid("BucketARN %s does not name a bucket; names have at least %d characters.", conf.text("BucketARN"), minBucket)
	}
	s3 := &config.S3Destination{
		Bucket:            bucket,
		Prefix:            conf.text("Prefix"),
		ErrorOutputPrefix: conf.text(errorOutputPrefixMember),
		TimeZone:          defaultTimeZone,
		FileExtension:     conf.text("FileExtension"),
		Region:            aws.Region,
		Endpoint:          aws.Endpoints.S3,
		PathStyle:         "auto",
		Checksum:          "auto",
		Encryption:        config.Encryption{Word: "none"},
	}
	if zone := conf.text("CustomTimeZone"); zone != "" {
		s3.TimeZone = zone
	}
	if aws.RoleARNs == "assume" {
		s3.Credentials.RoleARN = conf.text("RoleARN")
	}
	if key := conf.sub("EncryptionConfiguration").sub("KMSEncryptionConfig").text("AWSKMSKeyARN"); key != "" {
		s3.Encryption = config.Encryption{KMS: key}
	}
	return s3, nil
}

// What the service does with an HTTP endpoint and the API cannot change.
const (
	endpointTimeout  = 3 * time.Minute
	endpointInFlight = 1
)

// endpoint is an HTTP destination, without its access key.
func (d *Document) endpoint() *config.HTTPDestination {
	request := d.conf.sub("RequestConfiguration")
	h := &config.HTTPDestination{
		URL:             d.conf.sub("EndpointConfiguration").text("Url"),
		Body:            "firehose",
		ContentEncoding: "none",
		Timeout:         config.Duration(endpointTimeout),
		MaxInFlight:     endpointInFlight,
		RetryDuration:   config.RetryTime(time.Duration(d.conf.sub("RetryOptions").integer("DurationInSeconds")) * time.Second),
	}
	if request.text("ContentEncoding") == compressionGZIP {
		h.ContentEncoding = "gzip"
	}
	for _, a := range request.list("CommonAttributes") {
		if h.CommonAttributes == nil {
			h.CommonAttributes = map[string]string{}
		}
		h.CommonAttributes[a.(tree).text("AttributeName")] = a.(tree).text("AttributeValue")
	}
	return h
}

// failedData is where records go that an HTTP endpoint does not take.
func (d *Document) failedData(aws config.AWS) (*config.Backup, error) {
	conf := d.conf.sub(intermediateMember)
	s3, err := bucketOf(conf, aws)
	if err != nil {
		return nil, err
	}
	b := &config.Backup{Mode: config.BackupFailed, S3: s3, Compression: compression(conf)}
	if d.conf.text("S3BackupMode") == allData {
		b.Mode, b.Buffer = config.BackupAll, backupBuffer(conf)
	}
	return b, nil
}

// sourceBackup is where all source records go beside a bucket or a table, or nil: the error output stays where it is then.
func (d *Document) sourceBackup(aws config.AWS) (*config.Backup, error) {
	if d.conf.text("S3BackupMode") != enabled {
		return nil, nil
	}
	conf := d.conf.sub(backupMember)
	s3, err := bucketOf(conf, aws)
	if err != nil {
		return nil, err
	}
	return &config.Backup{
		Mode: config.BackupAll, S3: s3, Compression: compression(conf), Buffer: backupBuffer(conf), ErrorOutput: config.ErrorsToDestination,
	}, nil
}

// backupBuffer is when source records in a bucket's configuration are cut into objects.
func backupBuffer(conf tree) *config.BackupBuffer {
	hints := conf.sub(bufferingMember)
	return &config.BackupBuffer{
		Size:     config.Bytes(hints.integer("SizeInMBs")) * config.MiB,
		Interval: config.Duration(time.Duration(hints.integer("IntervalInSeconds")) * time.Second),
	}
}

// Into gives a stream that Config made, in this process or an earlier one, its secrets.
func (s Secrets) Into(stream *config.Stream) {
	if h := stream.Destination.HTTP; h != nil {
		h.AccessKey = s.AccessKey
	}
	if r := stream.Destination.Redshift; r != nil && r.DSN.Parts != nil {
		r.DSN.Parts.Password = s.Password
	}
}

// notDeliverable names a member of the destination, "" the destination itself, and why it is not delivered.
func (d *Document) notDeliverable(member, reason string) error {
	path := lowerFirst(d.kind.create)
	if member != "" {
		path += "." + lowerFirst(member)
	}
	return &NotDeliverable{Member: path, Reason: reason, Waits: d.kind != extendedS3}
}

// deliverable names what this version describes and does not deliver.
func (d *Document) deliverable() error {
	refuse := d.notDeliverable
	if c := d.conf.sub(processingMember); c.boolean("Enabled") {
		for _, p := range c.list("Processors") {
			switch kind := p.(tree).text("Type"); kind {
			case appendDelimiter, decompression, logProcessing, deaggregation, extraction, lambda:
			default:
				return refuse(processingMember, "the processor "+kind+" is yet to come.")
			}
		}
	}
	if d.converts() {
		out := d.conf.sub(conversionMember).sub("OutputFormatConfiguration").sub("Serializer")
		if out.has("OrcSerDe") {
			return refuse(conversionMember+".outputFormatConfiguration.serializer.orcSerDe", "ORC is not written; ParquetSerDe is.")
		}
	}
	return nil
}

// transform is what processors do before the format, in the service's order, whatever order they are given in.
func (d *Document) transform() []config.Processor {
	var list []config.Processor
	if _, ok := d.enabled(decompression); ok {
		how := config.DecompressGzip
		if p, ok := d.enabled(logProcessing); ok {
			how = config.DecompressLogs
			if p["DataMessageExtraction"] == "true" {
				how = config.DecompressMessages
			}
		}
		list = append(list, config.Processor{Decompress: &how})
	}
	if p, ok := d.enabled(deaggregation); ok {
		how := config.DeaggregateJSON
		if p["SubRecordType"] == subRecordDelimit {
			how = config.Deaggregate(p["Delimiter"])
		}
		list = append(list, config.Processor{Deaggregate: &how})
	}
	if p, ok := d.enabled(lambda); ok {
		list = append(list, config.Processor{Lambda: function(p)})
	}
	return list
}

// What the service does with a function and the API cannot change.
const (
	functionTimeout     = 5 * time.Minute
	functionConcurrency = 4
)

// function is what the parameters of a Lambda processor say, which were checked. Its role is shown and not assumed.
func function(parameters map[string]string) *config.LambdaHook {
	value := func(name, otherwise string) float64 {
		text := parameters[name]
		if text == "" {
			text = otherwise
		}
		n, _ := strconv.ParseFloat(text, 64)
		return n
	}
	return &config.LambdaHook{
		Function:    parameters["LambdaArn"],
		Timeout:     config.Duration(functionTimeout),
		Retries:     config.Count(value("NumberOfRetries", defaultLambdaRetries)),
		Concurrency: functionConcurrency,
		Buffer: config.LambdaHookBuffer{
			// Sizes of a stream are whole KiB.
			Size:     config.Bytes(math.Ceil(value("BufferSizeInMBs", defaultLambdaSizeMB)*1024)) * config.KiB,
			Interval: config.Duration(value("BufferIntervalInSeconds", defaultLambdaSeconds) * float64(time.Second)),
		},
	}
}

// enabled are the parameters of the processor of a type, if processing has one and is enabled.
func (d *Document) enabled(kind string) (map[string]string, bool) {
	c := d.conf.sub(processingMember)
	if c.boolean("Enabled") {
		for _, p := range c.list("Processors") {
			if p := p.(tree); p.text("Type") == kind {
				return parameters(p), true
			}
		}
	}
	return nil, false
}

// query is that of the MetadataExtraction processor, or "".
func (d *Document) query() string {
	p, _ := d.enabled(extraction)
	return p["MetadataExtractionQuery"]
}

// activePartitions is Firehose's quota. Records that would open a partition above it go to the error output.
const activePartitions = 500

// partition is dynamic partitioning, or nil: what the query says, key by key.
func (d *Document) partition() *config.Partition {
	if !d.partitions() {
		return nil
	}
	p := &config.Partition{MaxActive: activePartitions, Hard: true}
	fromQuery, _ := d.partitionKeys()
	query := d.query()
	keys, plain := queryKeys(query)
	for _, name := range fromQuery {
		if p.Keys == nil {
			p.Keys = map[string]string{}
		}
		if !plain {
			p.Keys[name] = valueOf("("+query+")", name)
		}
	}
	for _, k := range keys {
		p.Keys[k.name] = k.value
	}
	return p
}

// text is the format of records as they came.
func (d *Document) text() *config.Text {
	t := &config.Text{Delimiter: "none"}
	if c := d.conf.sub(processingMember); c.boolean("Enabled") && has(c, appendDelimiter) {
		t.Delimiter = "between"
	}
	t.Compression = compression(d.staged())
	return t
}

// compression of the objects of a configuration of S3.
func compression(conf tree) string {
	switch conf.text("CompressionFormat") {
	case compressionGZIP:
		return "gzip"
	case "ZIP":
		return "zip"
	case "Snappy":
		return "snappy"
	case "HADOOP_SNAPPY":
		return "hadoop_snappy"
	}
	return "none"
}

// minBucket is the shortest name that S3 and the configuration take; the API's pattern takes shorter ones.
const minBucket = 3

// Limits of Hydrant's Parquet files that the API's numbers may pass.
const (
	maxRowGroup = config.GiB
	maxPage     = 64 * config.MiB
	rowGroup    = 128 * config.MiB // where the request gives none
	page        = config.MiB
)

// parquet is the format of a conversion. Dictionaries and padding are the writer's own business.
func (d *Document) parquet(schema config.Schema) *config.Parquet {
	c := d.conf.sub(conversionMember)
	out := c.sub("OutputFormatConfiguration").sub("Serializer").sub("ParquetSerDe")
	p := &config.Parquet{
		Schema:        schema,
		Compression:   "snappy",
		Encodings:     "compatible",
		Timestamps:    "int96", // as Firehose writes them
		RowGroup:      rowGroup,
		Page:          page,
		UnknownFields: config.UnknownFields{Word: "drop"},
	}
	switch out.text("Compression") {
	case compressionGZIP:
		p.Compression = "gzip"
	case uncompressed:
		p.Compression = "none"
	}
	if out.text("WriterVersion") == "V2" {
		p.Encodings = "modern"
	}
	// Sizes of a stream are whole KiB.
	if n := config.Bytes(out.integer("BlockSizeBytes")); n > 0 {
		p.RowGroup = min(n/config.KiB*config.KiB, maxRowGroup)
	}
	if n := config.Bytes(out.integer("PageSizeBytes")); n > 0 {
		p.Page = min(n/config.KiB*config.KiB, maxPage, p.RowGroup)
	}
	in := c.sub("InputFormatConfiguration").sub("Deserializer")
	if hive := in.sub("HiveJsonSerDe"); hive != nil {
		h := &config.Hive{}
		for _, f := range hive.list("TimestampFormats") {
			h.TimestampFormats = append(h.TimestampFormats, f.(string))
		}
		p.Deserializer.Hive = h
		return p
	}
	openX := in.sub("OpenXJsonSerDe")
	o := &config.OpenX{
		CaseInsensitive:   !openX.has("CaseInsensitive") || openX.boolean("CaseInsensitive"),
		DotsToUnderscores: openX.boolean("ConvertDotsInJsonKeysToUnderscores"),
	}
	if m := openX.sub("ColumnToJsonKeyMappings"); len(m) > 0 {
		o.ColumnToJSONKey = map[string]string{}
		for column, key := range m {
			o.ColumnToJSONKey[column] = key.(string)
		}
	}
	p.Deserializer.OpenX = o
	return p
}
