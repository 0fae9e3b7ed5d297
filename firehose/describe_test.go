package firehose

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"
)

// wire is an HTTP client for the SDK: it keeps what was sent and answers what it is given.
type wire struct {
	answer []byte
	sent   []byte
}

func (w *wire) Do(r *http.Request) (*http.Response, error) {
	var err error
	if w.sent, err = io.ReadAll(r.Body); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: 200, Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}},
		Body: io.NopCloser(bytes.NewReader(w.answer)), Request: r,
	}, nil
}

func (w *wire) client() *sdk.Client {
	return sdk.New(sdk.Options{
		Region: "eu-west-1", HTTPClient: w, BaseEndpoint: aws.String("http://localhost"),
		Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
}

// described reads a description as an SDK does.
func sdkDescription(t testing.TB, answer []byte) *types.DeliveryStreamDescription {
	t.Helper()
	w := &wire{answer: answer}
	out, err := w.client().DescribeDeliveryStream(context.Background(), &sdk.DescribeDeliveryStreamInput{DeliveryStreamName: aws.String("x")})
	if err != nil {
		t.Fatalf("the SDK does not read %s: %v", answer, err)
	}
	return out.DeliveryStreamDescription
}

func describe(t testing.TB, d *Document, state State) string {
	t.Helper()
	if state.Name == "" {
		state.Name, state.Version = "logs", 1
	}
	b, err := d.Describe(settings, state)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDescription(t *testing.T) {
	d, _ := mustCreate(t, edit(t, s3, `DirectPutSourceConfiguration={"ThroughputHintInMBs":7}`))
	created := time.UnixMilli(1789014240448)
	got := describe(t, d, State{Name: "logs", Status: "CREATING", Version: 1, Created: created})
	const s3part = `"BucketARN":"arn:aws:s3:::lake","BufferingHints":{"IntervalInSeconds":300,"SizeInMBs":5},"CloudWatchLoggingOptions":{"Enabled":false},` +
		`"CompressionFormat":"UNCOMPRESSED",`
	const encryptionPart = `"EncryptionConfiguration":{"NoEncryptionConfig":"NoEncryption"},"RoleARN":"arn:aws:iam::123456789012:role/firehose"`
	want := `{"DeliveryStreamDescription":{"DeliveryStreamName":"logs","DeliveryStreamARN":"arn:aws:firehose:eu-west-1:123456789012:deliverystream/logs",` +
		`"DeliveryStreamStatus":"CREATING","DeliveryStreamEncryptionConfiguration":{"Status":"DISABLED"},"DeliveryStreamType":"DirectPut","VersionId":"1",` +
		`"CreateTimestamp":1789014240.448,"Source":{"DirectPutSourceDescription":{"ThroughputHintInMBs":7}},"Destinations":[{"DestinationId":"destinationId-000000000001",` +
		`"ExtendedS3DestinationDescription":{` + s3part + `"CustomTimeZone":"UTC",` + encryptionPart + `,"S3BackupMode":"Disabled"},` +
		`"S3DestinationDescription":{` + s3part + encryptionPart + `}}],"HasMoreDestinations":false}}`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	d, _ = mustCreate(t, plainS3)
	out := sdkDescription(t, []byte(describe(t, d, State{
		Name: "logs", Version: 3, Created: created, Updated: created.Add(time.Second),
		Encryption: EncryptionState{Status: "ENABLED", Key: Key{Type: CustomerKey, ARN: "arn:k"}},
		Failure:    &Failure{Type: "UNKNOWN_ERROR", Details: "x"},
	})))
	if *out.VersionId != "3" || out.DeliveryStreamStatus != types.DeliveryStreamStatusActive || out.Source != nil || *out.HasMoreDestinations ||
		!out.LastUpdateTimestamp.Equal(created.Add(time.Second)) || out.DeliveryStreamEncryptionConfiguration.Status != "ENABLED" ||
		*out.DeliveryStreamEncryptionConfiguration.KeyARN != "arn:k" || out.DeliveryStreamEncryptionConfiguration.KeyType != types.KeyTypeCustomerManagedCmk ||
		out.FailureDescription.Type != types.DeliveryStreamFailureTypeUnknownError {
		t.Errorf("description %+v", out)
	}
}

// Each destination comes back to the SDK as it was sent by it.
func TestDescriptionOfEachDestination(t *testing.T) {
	d, _ := mustCreate(t, toRed)
	text := describe(t, d, State{})
	r := sdkDescription(t, []byte(text)).Destinations[0].RedshiftDestinationDescription
	if *r.Username != "loader" || *r.RetryOptions.DurationInSeconds != 3600 || *r.CopyCommand.DataTableName != "clicks" ||
		*r.S3DestinationDescription.BucketARN != bucket || r.S3BackupMode != "Disabled" || *r.S3DestinationDescription.BufferingHints.SizeInMBs != 5 {
		t.Errorf("description %s", text)
	}
	d, _ = mustCreate(t, edit(t, toHTTP, httpd+`RequestConfiguration={"CommonAttributes":[{"AttributeName":"a","AttributeValue":""}]}`))
	text = describe(t, d, State{})
	h := sdkDescription(t, []byte(text)).Destinations[0].HttpEndpointDestinationDescription
	if *h.EndpointConfiguration.Url != "https://collector.example/x" || *h.BufferingHints.IntervalInSeconds != 300 || h.S3BackupMode != "FailedDataOnly" ||
		h.RequestConfiguration.ContentEncoding != "NONE" || *h.RequestConfiguration.CommonAttributes[0].AttributeName != "a" || *h.RetryOptions.DurationInSeconds != 300 {
		t.Errorf("description %s", text)
	}
	for _, hidden := range []string{"open-sesame", "hunter22"} {
		if bytes.Contains([]byte(text), []byte(hidden)) {
			t.Errorf("%s is told", hidden)
		}
	}
}

// The forms in which processors are stored.
func TestProcessorsAreEchoed(t *testing.T) {
	d, _ := mustCreate(t, edit(t, s3, processorsOf(newline, gunzip, splitLogs, lambdaWith())))
	got, err := json.Marshal(d.conf.sub(processingMember))
	if err != nil {
		t.Fatal(err)
	}
	want := edit(t, `{"Enabled":true,"Processors":[{"Type":"AppendDelimiterToRecord","Parameters":[]},`+gunzip+`,
		{"Type":"CloudWatchLogProcessing","Parameters":[{"ParameterName":"DataMessageExtraction","ParameterValue":"true"}]},`+
		lambdaWith(parameter("NumberOfRetries", "3"), parameter("RoleArn", role), parameter("BufferSizeInMBs", "1"), parameter("BufferIntervalInSeconds", "60"))+`]}`)
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What the SDK sends with every member set is decoded whole and comes back whole.
func TestWhatTheSDKSends(t *testing.T) {
	s3conf := types.S3DestinationConfiguration{
		RoleARN: aws.String(role), BucketARN: aws.String(bucket), Prefix: aws.String("b/"), ErrorOutputPrefix: aws.String("be/"),
		BufferingHints: &types.BufferingHints{SizeInMBs: aws.Int32(7), IntervalInSeconds: aws.Int32(70)}, CompressionFormat: types.CompressionFormatHadoopSnappy,
		EncryptionConfiguration:  &types.EncryptionConfiguration{KMSEncryptionConfig: &types.KMSEncryptionConfig{AWSKMSKeyARN: aws.String("arn:aws:kms:eu-west-1:123456789012:key/k")}},
		CloudWatchLoggingOptions: &types.CloudWatchLoggingOptions{Enabled: aws.Bool(true), LogGroupName: aws.String("g"), LogStreamName: aws.String("s")},
	}
	in := &sdk.CreateDeliveryStreamInput{
		DeliveryStreamName: aws.String("logs"), DeliveryStreamType: types.DeliveryStreamTypeDirectPut,
		Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("web")}},
		ExtendedS3DestinationConfiguration: &types.ExtendedS3DestinationConfiguration{
			RoleARN: aws.String(role), BucketARN: aws.String(bucket), Prefix: aws.String("p/!{partitionKeyFromQuery:customer}/"), ErrorOutputPrefix: aws.String("e/!{firehose:error-output-type}/"),
			BufferingHints: &types.BufferingHints{SizeInMBs: aws.Int32(99), IntervalInSeconds: aws.Int32(99)}, CompressionFormat: types.CompressionFormatUncompressed,
			EncryptionConfiguration:  &types.EncryptionConfiguration{NoEncryptionConfig: types.NoEncryptionConfigNoEncryption},
			CloudWatchLoggingOptions: &types.CloudWatchLoggingOptions{Enabled: aws.Bool(false)},
			ProcessingConfiguration: &types.ProcessingConfiguration{Enabled: aws.Bool(true), Processors: []types.Processor{{
				Type: types.ProcessorTypeMetadataExtraction, Parameters: []types.ProcessorParameter{
					{ParameterName: types.ProcessorParameterNameMetadataExtractionQuery, ParameterValue: aws.String("{customer:.c}")},
					{ParameterName: types.ProcessorParameterNameJsonParsingEngine, ParameterValue: aws.String("JQ-1.6")},
				}}}},
			S3BackupMode: types.S3BackupModeEnabled, S3BackupConfiguration: &s3conf,
			DataFormatConversionConfiguration: &types.DataFormatConversionConfiguration{
				Enabled: aws.Bool(true),
				SchemaConfiguration: &types.SchemaConfiguration{RoleARN: aws.String(role), CatalogId: aws.String("1"), DatabaseName: aws.String("db"),
					TableName: aws.String("t"), Region: aws.String("eu-west-1"), VersionId: aws.String("LATEST")},
				InputFormatConfiguration: &types.InputFormatConfiguration{Deserializer: &types.Deserializer{OpenXJsonSerDe: &types.OpenXJsonSerDe{
					CaseInsensitive: aws.Bool(false), ConvertDotsInJsonKeysToUnderscores: aws.Bool(true), ColumnToJsonKeyMappings: map[string]string{"ts": "timestamp"}}}},
				OutputFormatConfiguration: &types.OutputFormatConfiguration{Serializer: &types.Serializer{ParquetSerDe: &types.ParquetSerDe{
					BlockSizeBytes: aws.Int32(1 << 28), PageSizeBytes: aws.Int32(1 << 20), Compression: types.ParquetCompressionGzip,
					EnableDictionaryCompression: aws.Bool(true), MaxPaddingBytes: aws.Int32(1), WriterVersion: types.ParquetWriterVersionV2}}},
			},
			DynamicPartitioningConfiguration: &types.DynamicPartitioningConfiguration{Enabled: aws.Bool(true), RetryOptions: &types.RetryOptions{DurationInSeconds: aws.Int32(9)}},
			FileExtension:                    aws.String(".pq"), CustomTimeZone: aws.String("Europe/Zurich"),
		},
	}
	w := &wire{answer: []byte(`{"DeliveryStreamARN":"arn"}`)}
	if _, err := w.client().CreateDeliveryStream(context.Background(), in); err != nil {
		t.Fatal(err)
	}
	c, err := DecodeCreate(w.sent)
	if err != nil {
		t.Fatal(err)
	}
	if c.Unknown != 0 || !reflect.DeepEqual(c.Tags, []Tag{{"team", "web"}}) {
		t.Errorf("%d members are not known; tags %v", c.Unknown, c.Tags)
	}
	d, _, err := c.Document(settings)
	if err != nil {
		t.Fatal(err)
	}
	got := sdkDescription(t, []byte(describe(t, d, State{}))).Destinations[0].ExtendedS3DestinationDescription
	sent := in.ExtendedS3DestinationConfiguration
	backup := types.S3DestinationDescription{
		RoleARN: s3conf.RoleARN, BucketARN: s3conf.BucketARN, Prefix: s3conf.Prefix, ErrorOutputPrefix: s3conf.ErrorOutputPrefix, BufferingHints: s3conf.BufferingHints,
		CompressionFormat: s3conf.CompressionFormat, EncryptionConfiguration: s3conf.EncryptionConfiguration, CloudWatchLoggingOptions: s3conf.CloudWatchLoggingOptions,
	}
	want := &types.ExtendedS3DestinationDescription{
		RoleARN: sent.RoleARN, BucketARN: sent.BucketARN, Prefix: sent.Prefix, ErrorOutputPrefix: sent.ErrorOutputPrefix, BufferingHints: sent.BufferingHints,
		CompressionFormat: sent.CompressionFormat, EncryptionConfiguration: sent.EncryptionConfiguration, CloudWatchLoggingOptions: sent.CloudWatchLoggingOptions,
		ProcessingConfiguration: sent.ProcessingConfiguration, S3BackupMode: sent.S3BackupMode, S3BackupDescription: &backup,
		DataFormatConversionConfiguration: sent.DataFormatConversionConfiguration, DynamicPartitioningConfiguration: sent.DynamicPartitioningConfiguration,
		FileExtension: sent.FileExtension, CustomTimeZone: sent.CustomTimeZone,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// A document that is stored and read again is the same.
func TestDocumentsAreStored(t *testing.T) {
	for _, body := range []string{
		plainS3, s3, toRed, toHTTP, partitioned(t), edit(t, s3, processorsOf(newline, lambdaWith()), `DirectPutSourceConfiguration={"ThroughputHintInMBs":7}`),
		edit(t, s3, ext+`DataFormatConversionConfiguration=`+conversionJSON, ext+`DataFormatConversionConfiguration.OutputFormatConfiguration.Serializer={"OrcSerDe":{"PaddingTolerance":0.05}}`, ext+`Prefix="<&>"`),
	} {
		d, _ := mustCreate(t, body)
		stored, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var back Document
		if err := json.Unmarshal(stored, &back); err != nil {
			t.Errorf("%s: %v", stored, err)
			continue
		}
		if !back.Equal(d) {
			t.Errorf("%s came back as %s", stored, conf(t, &back))
		}
		if again, err := json.Marshal(&back); err != nil || string(again) != string(stored) {
			t.Errorf("stored again: %s, before: %s (%v)", again, stored, err)
		}
	}
	d, _ := mustCreate(t, plainS3)
	const want = `{"DestinationType":"ExtendedS3","Configuration":{"BucketARN":"arn:aws:s3:::lake","BufferingHints":{"IntervalInSeconds":300,"SizeInMBs":5},` +
		`"CloudWatchLoggingOptions":{"Enabled":false},"CompressionFormat":"UNCOMPRESSED","CustomTimeZone":"UTC","EncryptionConfiguration":{"NoEncryptionConfig":"NoEncryption"},` +
		`"RoleARN":"arn:aws:iam::123456789012:role/firehose","S3BackupMode":"Disabled"}}`
	if got, err := d.MarshalJSON(); string(got) != want {
		t.Errorf("stored as %s (%v), and data directories hold %s", got, err, want)
	}
	for body, want := range map[string]string{
		`{"DestinationType":"Splunk","Configuration":{}}`:                 `read a stream's document: its destination type "Splunk" is not one that this version knows`,
		`{"DestinationType":"ExtendedS3","Configuration":{"Newer":1}}`:    `read a stream's document: it has 1 members that this version does not know`,
		`{"DestinationType":"ExtendedS3","Configuration":{},"Newer":1}`:   `read a stream's document: json: unknown field "Newer"`,
		`{"DestinationType":"ExtendedS3","Configuration":{"Prefix":5}}`:   `read a stream's document: SerializationException: prefix at byte 10 must be a string.`,
		`{"DestinationType":"ExtendedS3"}`:                                `read a stream's document: SerializationException: The request body is not JSON: it ends too early, after byte 0.`,
		`{"DestinationType":"ExtendedS3","Configuration":{"Prefix":"x"}}`: ``,
	} {
		var d Document
		err := json.Unmarshal([]byte(body), &d)
		if err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("%s: error %v, want %s", body, err, want)
		}
	}
}

func TestSecretsAreStored(t *testing.T) {
	_, s := mustCreate(t, toHTTP)
	b, err := s.Encode()
	if err != nil || string(b) != `{"AccessKey":"open-sesame"}` {
		t.Fatalf("encoded %s, %v", b, err)
	}
	back, err := DecodeSecrets(b)
	if err != nil || !back.Equal(s) || back.IsZero() {
		t.Errorf("decoded %v, %v", back, err)
	}
	if b, err := (Secrets{}).Encode(); b != nil || err != nil {
		t.Errorf("no secrets: %s, %v", b, err)
	}
	if none, err := DecodeSecrets(nil); err != nil || !none.IsZero() {
		t.Errorf("no secrets: %v, %v", none, err)
	}
	for body, want := range map[string]string{
		`{"AccessKey":"open-sesame"`: "decode the secrets of a stream: 26 bytes are not what was encoded",
		`{"Token":"open-sesame"}`:    `decode the secrets of a stream: "Token" is not known to this version`,
	} {
		if _, err := DecodeSecrets([]byte(body)); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if b, err := json.Marshal(s); err != nil || bytes.Contains(b, []byte("sesame")) {
		t.Errorf("marshalled %s, %v", b, err)
	}
}

func TestARN(t *testing.T) {
	for region, want := range map[string]string{
		"us-east-1":     "arn:aws:firehose:us-east-1:000000000000:deliverystream/a",
		"cn-north-1":    "arn:aws-cn:firehose:cn-north-1:000000000000:deliverystream/a",
		"us-gov-west-1": "arn:aws-us-gov:firehose:us-gov-west-1:000000000000:deliverystream/a",
	} {
		if got := ARN(Settings{region, "000000000000"}, "a"); got != want {
			t.Errorf("%s: %s, want %s", region, got, want)
		}
	}
}
