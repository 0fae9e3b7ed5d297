package directput

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"hydrant/firehose"
)

// Description is a delivery stream as DescribeDeliveryStream shows it.
type Description struct {
	Name        string
	Status      string    // CREATING, ACTIVE, DELETING, ...; "": ACTIVE
	Version     uint64    // of its configuration
	Created     time.Time // of the stream
	Updated     time.Time // of the last effective change; zero where there was none
	Destination Destination

	Type string // DirectPut, KinesisStreamAsSource, MSKAsSource; "": DirectPut
	// The data stream that a KinesisStreamAsSource reads, and the role that it is read with; "": the daemon's own credentials.
	KinesisStreamARN, KinesisRoleARN string

	// Answer is the whole answer to DescribeDeliveryStream of a stream that was made by a ControlPlane, which
	// has a document of its own. nil: it is made from the rest.
	Answer []byte
}

// statusCreating is the status of a stream that takes no records yet.
const statusCreating = "CREATING"

// Destination is where a stream delivers to: exactly one of S3, File, HTTP and Redshift, with what they have in common. Prefixes,
// extension, time zone and formats are of S3, File and Redshift, whose staged objects they are of.
type Destination struct {
	S3       *S3Destination
	File     *FileDestination
	HTTP     *HTTPDestination
	Redshift *RedshiftDestination

	Prefix, ErrorOutputPrefix string
	FileExtension             string // "": the format's own
	TimeZone                  string // "": UTC
	BufferSize                int64  // bytes
	BufferInterval            time.Duration
	Compression               string // of text: none, gzip, ... as the configuration has it; "": none
	Parquet                   string // compression of Parquet output; "": the output is text
}

// S3Destination is what an S3 destination has beside.
type S3Destination struct {
	Bucket    string
	RoleARN   string // "": the daemon's own credentials are used
	KMSKeyARN string // "": objects are not encrypted with a key of KMS
}

// FileDestination is what a destination in the file system has beside.
type FileDestination struct {
	Path string
}

// HTTPDestination is an HTTP endpoint. Its access key and headers are secrets, and not here.
type HTTPDestination struct {
	URL        string
	Gzip       bool              // bodies are compressed
	Attributes map[string]string // common attributes
	Retry      time.Duration     // that a request is tried; negative: for ever
	// Backup is the bucket that takes what the endpoint does not, under these prefixes; nil where it is none.
	Backup                          *S3Destination
	BackupPrefix, BackupErrorPrefix string
	BackupCompression               string // none, gzip, ...
}

// RedshiftDestination is a table of Redshift. Its password is a secret, and so is an address that was given as a URL.
type RedshiftDestination struct {
	JDBCURL        string // "": it is a secret
	User           string
	RoleARN        string // of COPY; "": it has keys
	Table, Columns string
	CopyOptions    string
	Retry          time.Duration // that an object is tried which cannot be loaded; negative: for ever
	Staging        S3Destination
}

// The wire shapes. Firehose has no destination in a file system: that one is a member of Hydrant's own,
// FileDestinationDescription, which clients that do not know it pass over. It is not dressed up as a bucket,
// since what reads a description in order to read the objects would look for them in S3.
type (
	wireDescription struct {
		DeliveryStreamName                    string
		DeliveryStreamARN                     string
		DeliveryStreamStatus                  string
		DeliveryStreamEncryptionConfiguration *wireEncrypted `json:",omitempty"`
		DeliveryStreamType                    string
		VersionID                             string              `json:"VersionId"`
		CreateTimestamp                       *firehose.Timestamp `json:",omitempty"`
		LastUpdateTimestamp                   *firehose.Timestamp `json:",omitempty"`
		Source                                *wireSource         `json:",omitempty"`
		Destinations                          []wireDestination
		HasMoreDestinations                   bool
	}
	wireSource  struct{ KinesisStreamSourceDescription wireKinesis }
	wireKinesis struct {
		KinesisStreamARN       string
		RoleARN                string              `json:",omitempty"`
		DeliveryStartTimestamp *firehose.Timestamp `json:",omitempty"`
	}
	wireEncrypted struct {
		KeyType string `json:",omitempty"`
		Status  string
	}
	wireDestination struct {
		DestinationID                    string          `json:"DestinationId"`
		S3DestinationDescription         *wireS3         `json:",omitempty"`
		ExtendedS3DestinationDescription *wireExtendedS3 `json:",omitempty"`
		FileDestinationDescription       *wireFile       `json:",omitempty"`

		HTTPEndpointDestinationDescription *wireEndpoint `json:"HttpEndpointDestinationDescription,omitempty"`
		RedshiftDestinationDescription     *wireRedshift `json:",omitempty"`
	}
	wireRedshift struct {
		RoleARN        string `json:",omitempty"`
		ClusterJDBCURL string `json:",omitempty"`
		CopyCommand    struct {
			DataTableName    string
			DataTableColumns string `json:",omitempty"`
			CopyOptions      string `json:",omitempty"`
		}
		Username                 string     `json:",omitempty"`
		RetryOptions             *wireRetry `json:",omitempty"`
		S3DestinationDescription wireS3
		S3BackupMode             string
		CloudWatchLoggingOptions wireEnabled
	}
	wireEndpoint struct {
		EndpointConfiguration struct {
			URL string `json:"Url"`
		}
		BufferingHints           wireHints
		CloudWatchLoggingOptions wireEnabled
		RequestConfiguration     struct {
			ContentEncoding  string
			CommonAttributes []wireAttribute
		}
		RetryOptions             *wireRetry `json:",omitempty"`
		S3BackupMode             string
		S3DestinationDescription *wireS3 `json:",omitempty"`
	}
	wireAttribute struct{ AttributeName, AttributeValue string }
	wireRetry     struct{ DurationInSeconds int64 }
	wireS3        struct {
		RoleARN                  string `json:",omitempty"`
		BucketARN                string
		Prefix                   string `json:",omitempty"`
		ErrorOutputPrefix        string `json:",omitempty"`
		BufferingHints           wireHints
		CompressionFormat        string
		EncryptionConfiguration  wireEncryption
		CloudWatchLoggingOptions wireEnabled
	}
	wireExtendedS3 struct {
		wireS3
		wireOutput
		S3BackupMode string
	}
	wireFile struct {
		Path              string
		Prefix            string `json:",omitempty"`
		ErrorOutputPrefix string `json:",omitempty"`
		BufferingHints    wireHints
		CompressionFormat string
		wireOutput
	}
	wireOutput struct {
		FileExtension                     string          `json:",omitempty"`
		CustomTimeZone                    string          `json:",omitempty"`
		DataFormatConversionConfiguration *wireConversion `json:",omitempty"`
	}
	wireHints struct {
		SizeInMBs         int64
		IntervalInSeconds int64
	}
	wireEncryption struct {
		NoEncryptionConfig  string   `json:",omitempty"`
		KMSEncryptionConfig *wireKMS `json:",omitempty"`
	}
	wireKMS        struct{ AWSKMSKeyARN string }
	wireEnabled    struct{ Enabled bool }
	wireConversion struct {
		Enabled                   bool
		OutputFormatConfiguration struct {
			Serializer struct {
				ParquetSerDe struct{ Compression string }
			}
		}
	}
)

// arn of a delivery stream.
func arn(region, account, stream string) string {
	return firehose.ARN(firehose.Settings{Region: region, AccountID: account}, stream)
}

// kind is the type of the delivery stream.
func (d *Description) kind() string {
	if d.Type == "" {
		return firehose.DirectPut
	}
	return d.Type
}

// wire is the description as it is sent.
func (h *Handler) wire(d Description) wireDescription {
	account, region := h.o.Identity()
	w := wireDescription{
		DeliveryStreamName:                    d.Name,
		DeliveryStreamARN:                     arn(region, account, d.Name),
		DeliveryStreamStatus:                  d.Status,
		DeliveryStreamEncryptionConfiguration: &wireEncrypted{Status: "DISABLED"},
		DeliveryStreamType:                    d.kind(),
		VersionID:                             strconv.FormatUint(d.Version, 10),
		CreateTimestamp:                       firehose.NewTimestamp(d.Created),
		LastUpdateTimestamp:                   firehose.NewTimestamp(d.Updated),
		Destinations:                          []wireDestination{d.Destination.wire()},
	}
	if h.o.Encrypted { // with a key that no caller named
		w.DeliveryStreamEncryptionConfiguration = &wireEncrypted{KeyType: firehose.OwnedKey, Status: "ENABLED"}
	}
	if d.KinesisStreamARN != "" {
		w.DeliveryStreamEncryptionConfiguration = nil // there is none for it
		w.Source = &wireSource{wireKinesis{d.KinesisStreamARN, d.KinesisRoleARN, firehose.NewTimestamp(d.Created)}}
	}
	if w.DeliveryStreamStatus == "" {
		w.DeliveryStreamStatus = "ACTIVE"
	}
	return w
}

func (d *Destination) wire() wireDestination {
	const mebibyte = 1 << 20
	hints := wireHints{SizeInMBs: (d.BufferSize + mebibyte - 1) / mebibyte, IntervalInSeconds: int64(d.BufferInterval / time.Second)}
	output := wireOutput{FileExtension: d.FileExtension, CustomTimeZone: d.TimeZone}
	if output.CustomTimeZone == "" {
		output.CustomTimeZone = "UTC"
	}
	compression := compressionFormat(d.Compression)
	if d.Parquet != "" {
		compression = "UNCOMPRESSED" // of the whole object, as with Firehose's conversion
		c := &wireConversion{Enabled: true}
		c.OutputFormatConfiguration.Serializer.ParquetSerDe.Compression = strings.ToUpper(d.Parquet)
		if d.Parquet == "none" {
			c.OutputFormatConfiguration.Serializer.ParquetSerDe.Compression = "UNCOMPRESSED"
		}
		output.DataFormatConversionConfiguration = c
	}
	w := wireDestination{DestinationID: firehose.DestinationID}
	switch {
	case d.S3 != nil:
		s3 := d.S3.wire(d.Prefix, d.ErrorOutputPrefix, compression, hints)
		w.S3DestinationDescription = &s3
		w.ExtendedS3DestinationDescription = &wireExtendedS3{wireS3: s3, wireOutput: output, S3BackupMode: "Disabled"}
	case d.File != nil:
		w.FileDestinationDescription = &wireFile{
			Path: d.File.Path, Prefix: d.Prefix, ErrorOutputPrefix: d.ErrorOutputPrefix,
			BufferingHints: hints, CompressionFormat: compression, wireOutput: output,
		}
	case d.HTTP != nil:
		w.HTTPEndpointDestinationDescription = d.HTTP.wire(hints)
	case d.Redshift != nil:
		w.RedshiftDestinationDescription = d.Redshift.wire(d.Redshift.Staging.wire(d.Prefix, d.ErrorOutputPrefix, compression, hints))
	}
	return w
}

func (d *S3Destination) wire(prefix, errorPrefix, compression string, hints wireHints) wireS3 {
	w := wireS3{
		RoleARN: d.RoleARN, BucketARN: "arn:aws:s3:::" + d.Bucket,
		Prefix: prefix, ErrorOutputPrefix: errorPrefix,
		BufferingHints: hints, CompressionFormat: compression,
		EncryptionConfiguration: wireEncryption{NoEncryptionConfig: "NoEncryption"},
	}
	if d.KMSKeyARN != "" {
		w.EncryptionConfiguration = wireEncryption{KMSEncryptionConfig: &wireKMS{d.KMSKeyARN}}
	}
	return w
}

func (d *HTTPDestination) wire(hints wireHints) *wireEndpoint {
	w := &wireEndpoint{BufferingHints: hints, S3BackupMode: "FailedDataOnly"}
	w.EndpointConfiguration.URL = d.URL
	w.RequestConfiguration.ContentEncoding = "NONE"
	if d.Gzip {
		w.RequestConfiguration.ContentEncoding = "GZIP"
	}
	w.RequestConfiguration.CommonAttributes = []wireAttribute{}
	for _, name := range slices.Sorted(maps.Keys(d.Attributes)) {
		w.RequestConfiguration.CommonAttributes = append(w.RequestConfiguration.CommonAttributes, wireAttribute{name, d.Attributes[name]})
	}
	if d.Retry >= 0 {
		w.RetryOptions = &wireRetry{int64(d.Retry / time.Second)}
	}
	if d.Backup != nil {
		s3 := d.Backup.wire(d.BackupPrefix, d.BackupErrorPrefix, compressionFormat(d.BackupCompression), hints)
		w.S3DestinationDescription = &s3
	}
	return w
}

func (d *RedshiftDestination) wire(staging wireS3) *wireRedshift {
	w := &wireRedshift{RoleARN: d.RoleARN, ClusterJDBCURL: d.JDBCURL, Username: d.User, S3DestinationDescription: staging, S3BackupMode: "Disabled"}
	w.CopyCommand.DataTableName, w.CopyCommand.DataTableColumns, w.CopyCommand.CopyOptions = d.Table, d.Columns, d.CopyOptions
	if d.Retry >= 0 {
		w.RetryOptions = &wireRetry{int64(d.Retry / time.Second)}
	}
	return w
}

// compressionFormat is the configuration's word for a compression as Firehose writes it; zstd, which it
// does not have, in capitals like most.
func compressionFormat(c string) string {
	switch c {
	case "", "none":
		return "UNCOMPRESSED"
	case "snappy":
		return "Snappy"
	}
	return strings.ToUpper(c)
}

// read serves DescribeDeliveryStream and ListDeliveryStreams.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, c call) ([]byte, error) {
	body, err := h.readBody(w, r, MaxDocument)
	if err != nil {
		return nil, err
	}
	defer body.free()
	if err := c.confirm(&body); err != nil {
		return nil, err
	}
	if c.operation == opDescribe {
		return h.describe(body.bytes, c)
	}
	return h.list(body.bytes, c)
}

func (h *Handler) describe(body []byte, c call) ([]byte, error) {
	q, err := firehose.DecodeDescribe(body)
	if err != nil {
		return nil, errDocument(err)
	}
	h.metrics.unknown.WithLabelValues(opDescribe).Add(float64(q.Unknown))
	if err := c.authorize(q.Name); err != nil {
		return nil, err
	}
	// There is one destination, which is shown whatever comes before it: so does the service.
	d, ok := h.o.Directory.Describe(q.Name)
	if !ok {
		return nil, h.errNotFound(q.Name)
	}
	if d.Answer != nil {
		return d.Answer, nil
	}
	return json.Marshal(struct{ DeliveryStreamDescription wireDescription }{h.wire(d)})
}

func (h *Handler) list(body []byte, c call) ([]byte, error) {
	q, err := firehose.DecodeList(body)
	if err != nil {
		return nil, errDocument(err)
	}
	h.metrics.unknown.WithLabelValues(opList).Add(float64(q.Unknown))
	if err := c.authorize(""); err != nil {
		return nil, err
	}
	var names []string
	for _, name := range h.o.Directory.Names() {
		if c.sees(name) {
			names = append(names, name)
		}
	}
	if q.Type != "" {
		names = slices.DeleteFunc(names, func(name string) bool {
			d, there := h.o.Directory.Describe(name)
			return !there || d.kind() != q.Type
		})
	}
	if q.Start != "" {
		i, found := slices.BinarySearch(names, q.Start)
		if found {
			i++
		}
		names = names[i:]
	}
	answer := struct {
		DeliveryStreamNames    []string
		HasMoreDeliveryStreams bool
	}{names, len(names) > q.Limit}
	answer.DeliveryStreamNames = append([]string{}, names[:min(q.Limit, len(names))]...)
	return json.Marshal(answer)
}
