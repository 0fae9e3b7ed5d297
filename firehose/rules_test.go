package firehose

import (
	"strings"
	"testing"
)

func lambdaWith(parameters ...string) string {
	return `{"Type":"Lambda","Parameters":[` + parameter("LambdaArn", "arn:aws:lambda:eu-west-1:123456789012:function:f") + joined(parameters) + `]}`
}

func parameter(name, value string) string {
	return `{"ParameterName":"` + name + `","ParameterValue":"` + value + `"}`
}

func joined(parts []string) string {
	if len(parts) == 0 {
		return ""
	}
	return "," + strings.Join(parts, ",")
}

func processorsOf(p ...string) string {
	return ext + `ProcessingConfiguration={"Enabled":true,"Processors":[` + strings.Join(p, ",") + `]}`
}

const (
	gunzip     = `{"Type":"Decompression","Parameters":[{"ParameterName":"CompressionFormat","ParameterValue":"GZIP"}]}`
	splitLogs  = `{"Type":"CloudWatchLogProcessing","Parameters":[{"ParameterName":"DataMessageExtraction","ParameterValue":"True"}]}`
	newline    = `{"Type":"AppendDelimiterToRecord","Parameters":[{"ParameterName":"Delimiter","ParameterValue":"\\n"}]}`
	splitJSON  = `{"Type":"RecordDeAggregation","Parameters":[{"ParameterName":"SubRecordType","ParameterValue":"JSON"}]}`
	jqCustomer = `{"Type":"MetadataExtraction","Parameters":[{"ParameterName":"MetadataExtractionQuery","ParameterValue":"{customer:.c}"},{"ParameterName":"JsonParsingEngine","ParameterValue":"JQ-1.6"}]}`
)

// partitioned is the smallest dynamically partitioned stream.
func partitioned(t testing.TB, edits ...string) string {
	return edit(t, edit(t, s3,
		ext+`DynamicPartitioningConfiguration={"Enabled":true}`,
		ext+`Prefix="c=!{partitionKeyFromQuery:customer}/"`,
		ext+`ErrorOutputPrefix="errors/!{firehose:error-output-type}/"`,
		processorsOf(jqCustomer),
	), edits...)
}

// The catalogue of what the second layer of creation answers.
func TestCreateMessages(t *testing.T) {
	f := func(want, body string, edits ...string) {
		t.Helper()
		body = edit(t, body, edits...)
		_, _, err := create(body)
		wantError(t, body, err, "InvalidArgumentException", want)
	}
	convert := ext + "DataFormatConversionConfiguration=" + conversionJSON
	const convertPath = ext + "DataFormatConversionConfiguration."
	s3bucket := `{"RoleARN":"` + role + `","BucketARN":"` + bucket + `"}`

	// Destinations and sources.
	f("Exactly one destination configuration is supported for a Firehose", `{"DeliveryStreamName":"logs"}`)
	f("Exactly one destination configuration is supported for a Firehose", s3, "HttpEndpointDestinationConfiguration="+`{"EndpointConfiguration":{"Url":"https://x"},"S3Configuration":`+s3bucket+`}`)
	f("Exactly one of S3DestinationConfiguration or ExtendedS3DestinationConfiguration must be specified.", s3, "S3DestinationConfiguration="+s3bucket)
	f("KinesisStreamSourceConfig is only applicable for KinesisStreamAsSource stream type", s3,
		`KinesisStreamSourceConfiguration={"KinesisStreamARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/in","RoleARN":"`+role+`"}`)
	const noSource = " is not supported by Hydrant; create the stream with DirectPut or KinesisStreamAsSource as its DeliveryStreamType."
	f("KinesisStreamSourceConfiguration must be specified for the delivery stream type KinesisStreamAsSource.", s3, `DeliveryStreamType="KinesisStreamAsSource"`)
	f("DirectPutSourceConfiguration is only applicable for DirectPut stream type", s3, fromKinesis[0], fromKinesis[1], `DirectPutSourceConfiguration={"ThroughputHintInMBs":5}`)
	f("Server side encryption from firehose is only allowed for direct put delivery streams and database as a source delivery streams", s3, fromKinesis[0], fromKinesis[1],
		`DeliveryStreamEncryptionConfigurationInput={"KeyType":"AWS_OWNED_CMK"}`)
	f("MSKSourceConfiguration"+noSource, s3, `DeliveryStreamType="MSKAsSource"`, `MSKSourceConfiguration={}`)
	f("DatabaseSourceConfiguration"+noSource, s3, `DatabaseSourceConfiguration={"Type":"MySQL"}`)
	for _, m := range []string{"Elasticsearch", "Amazonopensearchservice", "AmazonOpenSearchServerless", "Splunk", "Snowflake", "Iceberg"} {
		f(m+"DestinationConfiguration is not supported by Hydrant; the destinations are S3, ExtendedS3, Redshift and HttpEndpoint.",
			`{"DeliveryStreamName":"logs"}`, m+`DestinationConfiguration={"VpcConfiguration":{}}`)
	}
	f("SecretsManagerConfiguration is not supported by Hydrant; give the secret itself in the request, which keeps it apart from what is described.",
		toHTTP, httpd+`SecretsManagerConfiguration={"Enabled":true,"SecretARN":"arn:aws:secretsmanager:eu-west-1:123456789012:secret:x"}`)

	// Encryption.
	f("KeyARN has to be specified when KeyType is CUSTOMER_MANAGED_CMK", s3, `DeliveryStreamEncryptionConfigurationInput={"KeyType":"CUSTOMER_MANAGED_CMK"}`)
	f("KeyARN cannot be specified when KeyType is AWS_OWNED_CMK", s3, `DeliveryStreamEncryptionConfigurationInput={"KeyType":"AWS_OWNED_CMK","KeyARN":"arn:aws:kms:eu-west-1:123456789012:key/k"}`)
	f("Cross-region keys are not allowed for SSE. The key is in us-east-1, the delivery stream in eu-west-1.", s3,
		`DeliveryStreamEncryptionConfigurationInput={"KeyType":"CUSTOMER_MANAGED_CMK","KeyARN":"arn:aws:kms:us-east-1:123456789012:key/k"}`)
	f("Only one of NoEncryptionConfig and KMSEncryptionConfig can be specified in EncryptionConfiguration.", s3,
		ext+`EncryptionConfiguration={"NoEncryptionConfig":"NoEncryption","KMSEncryptionConfig":{"AWSKMSKeyARN":"arn:aws:kms:us-east-1:123456789012:key/k"}}`)

	// Prefixes.
	prefix := func(p, e, want string) {
		t.Helper()
		f(want, s3, ext+`Prefix="`+p+`"`, ext+`ErrorOutputPrefix="`+e+`"`)
		f(want, plainS3, `S3DestinationConfiguration.Prefix="`+p+`"`, `S3DestinationConfiguration.ErrorOutputPrefix="`+e+`"`)
		f(want, s3, ext+`S3BackupConfiguration=`+edit(t, s3bucket, `Prefix="`+p+`"`, `ErrorOutputPrefix="`+e+`"`))
	}
	const errs = "e/!{firehose:error-output-type}/"
	prefix("a/!{timestamp:yyyy", errs, "Invalid expression usage")
	prefix("a/!{}/", errs, "Invalid expression usage")
	prefix("a/!{foo:x}/", errs, "Namespace to the left of colon (foo) is an invalid keyword!")
	prefix("a/!{firehose:foo}/", errs, "Invalid conversion character used in the value of the expression in Prefix")
	prefix("a/!{timestamp:C}/", errs, "Invalid conversion character used in the value of the expression in Prefix")
	prefix("a/", "!{timestamp:j}/!{firehose:error-output-type}", "Invalid conversion character used in the value of the expression in ErrorOutputPrefix")
	prefix("a/!{firehose:error-output-type}/", errs, "Prefix must not contain any occurrence of !{firehose:error-output-type}")
	prefix("a/", "e/!{timestamp:yyyy}/", "ErrorOutputPrefix must contain at least one occurrence of !{firehose:error-output-type}")
	prefix("a/!{timestamp:yyyy}/", "", "ErrorOutputPrefix cannot be null or empty when Prefix contains expressions")
	prefix("a/", errs+"!{partitionKeyFromQuery:k}", "Dynamic Partitioning Namespaces can't be part of an error prefix expression")
	prefix(strings.Repeat("x", 513), "", "Length of evaluated prefix cannot be greater than 512")
	prefix("a", strings.Repeat("x", 513), "Length of evaluated ErrorOutputPrefix cannot be greater than 512")
	prefix("a/!{partitionKeyFromQuery:k}/", errs, "S3 Prefix can contain Dynamic Partitioning namespaces only when Dynamic Partitioning is enabled")
	f("Prefix Expressions or ErrorOutputPrefix is currently not supported for this destination.", toRed, red+`S3Configuration.Prefix="!{timestamp:yyyy}"`)
	f("Prefix Expressions or ErrorOutputPrefix is currently not supported for this destination.", toRed, red+`S3Configuration.ErrorOutputPrefix="e/"`)

	// Dynamic partitioning.
	const partitionBuffer = "BufferingHints.SizeInMBs must be at least 64 when Dynamic Partitioning is enabled."
	f(partitionBuffer, partitioned(t), ext+`BufferingHints={"SizeInMBs":63}`)
	f("BufferingHints.IntervalInSeconds must be at least 60 when Dynamic Partitioning is enabled.", partitioned(t), ext+`BufferingHints={"IntervalInSeconds":59}`)
	f("S3 Prefix should contain Dynamic Partitioning namespaces when Dynamic Partitioning is enabled", partitioned(t), ext+`Prefix="a/"`)
	f("ErrorOutputPrefix cannot be null or empty when Prefix contains expressions", partitioned(t), ext+`ErrorOutputPrefix=-`)
	f("Invalid expression usage", partitioned(t), ext+`Prefix="!{partitionKeyFromQuery:}"`)
	f("MetaDataExtraction JQ Query can't contain keys that are not present in the S3 Prefix expression", partitioned(t),
		processorsOf(strings.Replace(jqCustomer, "{customer:.c}", `{customer:.c, \"year\":(.t|f(1,2))}`, 1)))
	f("S3 Prefix takes year from the MetaDataExtraction JQ Query, which has no such key.", partitioned(t), ext+`Prefix="!{partitionKeyFromQuery:customer}!{partitionKeyFromQuery:year}"`)
	f("S3 Prefix takes customer from a MetadataExtraction processor, and there is none.", partitioned(t), processorsOf(newline))
	f("S3 Prefix takes x from a Lambda processor, and there is none.", partitioned(t), ext+`Prefix="!{partitionKeyFromQuery:customer}!{partitionKeyFromLambda:x}"`)
	f("MetaDataExtraction JSON Parsing Engine has to be one of JQ-1.6", partitioned(t), processorsOf(strings.Replace(jqCustomer, "JQ-1.6", "jq-1.6", 1)))
	f("MetadataExtractionQuery is required when the MetadataExtraction processor is used.", partitioned(t),
		processorsOf(`{"Type":"MetadataExtraction","Parameters":[`+parameter("JsonParsingEngine", "JQ-1.6")+`]}`))
	f("RecordDeAggregationProcessor can only be present when Dynamic Partitioning is enabled.", s3, processorsOf(splitJSON))
	f("MetadataExtractionProcessor can only be present when Dynamic Partitioning is enabled.", s3, processorsOf(jqCustomer))
	split := func(p ...string) string {
		return processorsOf(jqCustomer, `{"Type":"RecordDeAggregation","Parameters":[`+strings.Join(p, ",")+`]}`)
	}
	f("SubRecordType has to be one of JSON, DELIMITED", partitioned(t), split())
	f("SubRecordType has to be one of JSON, DELIMITED", partitioned(t), split(parameter("SubRecordType", "json")))
	f("Delimiter should be present for DELIMITED", partitioned(t), split(parameter("SubRecordType", "DELIMITED")))
	f("Delimiter has to be in base64.", partitioned(t), split(parameter("SubRecordType", "DELIMITED"), parameter("Delimiter", "####")))

	// Processors.
	const five = "A maximum of 5 and a minimum of 1 processor needs to be supplied when processing is enabled."
	f(five, s3, processorsOf())
	f(five, s3, ext+`ProcessingConfiguration={"Enabled":true}`)
	f(five, s3, processorsOf(newline, newline, newline, newline, newline, newline))
	f("Cannot have more than 1 Lambda processor.", s3, processorsOf(lambdaWith(), lambdaWith()))
	f("LambdaArn is required when Lambda processor is used.", s3, processorsOf(`{"Type":"Lambda"}`))
	for _, n := range []string{"-1", "301", "x", "1.5"} {
		f("Number of retries for lambda must be between 0 and 300.", s3, processorsOf(lambdaWith(parameter("NumberOfRetries", n))))
	}
	for _, n := range []string{"0.19", "3.01", "NaN", "x"} {
		f("BufferSizeInMBs for lambda processor must be between 0.2 and 3.", s3, processorsOf(lambdaWith(parameter("BufferSizeInMBs", n), parameter("BufferIntervalInSeconds", "60"))))
	}
	for _, n := range []string{"-1", "901", "1.5"} {
		f("BufferIntervalInSeconds for lambda processor must be between 0 and 900.", s3, processorsOf(lambdaWith(parameter("BufferSizeInMBs", "1"), parameter("BufferIntervalInSeconds", n))))
	}
	const both = "Both BufferSizeInMBs and BufferIntervalInSeconds are required to configure buffering for lambda processor."
	f(both, s3, processorsOf(lambdaWith(parameter("BufferSizeInMBs", "1"))))
	f(both, s3, processorsOf(lambdaWith(parameter("BufferIntervalInSeconds", "1"))))
	f("CompressionFormat has to be GZIP", s3, processorsOf(strings.Replace(gunzip, "GZIP", "gzip", 1)))
	f("CompressionFormat has to be GZIP", s3, processorsOf(`{"Type":"Decompression"}`))
	f("Invalid parameter value for DataMessageExtraction. Allowed values are True and False.", s3, processorsOf(gunzip, strings.Replace(splitLogs, "True", "yes", 1)))
	f("CloudWatchLogProcessingProcessor can only be enabled with DecompressionProcessor", s3, processorsOf(splitLogs))
	f("Parameter Delimiter is not one of the Lambda processor.", s3, processorsOf(lambdaWith(parameter("Delimiter", "x"))))
	f("Parameter LambdaArn is given twice for the Lambda processor.", s3, processorsOf(lambdaWith(parameter("LambdaArn", "x"))))
	f("AppendDelimiterToRecordProcessor can only be present with an S3 destination.", toHTTP, httpd+`ProcessingConfiguration={"Enabled":true,"Processors":[`+newline+`]}`)

	// Conversion.
	f("The S3 destination's compression format must be set to UNCOMPRESSED when data format conversion is enabled", s3, convert, ext+`CompressionFormat="GZIP"`)
	f("BufferingHints.SizeInMBs must be at least 64 when data format conversion is enabled.", s3, convert, ext+`BufferingHints={"SizeInMBs":63}`)
	f("More than one deserializer specified. Only one may be chosen.", s3, convert, convertPath+`InputFormatConfiguration.Deserializer.HiveJsonSerDe={}`)
	f("More than one serializer specified. Only one may be chosen.", s3, convert, convertPath+`OutputFormatConfiguration.Serializer.OrcSerDe={}`)
	for _, m := range []string{"SchemaConfiguration", "InputFormatConfiguration", "OutputFormatConfiguration"} {
		f("DataFormatConversionConfiguration."+m+" must not be null", s3, convert, convertPath+m+`=-`)
	}
	f("DataFormatConversionConfiguration.InputFormatConfiguration.Deserializer must not be null", s3, convert, convertPath+`InputFormatConfiguration={"Deserializer":{}}`)
	f("DataFormatConversionConfiguration.OutputFormatConfiguration.Serializer must not be null", s3, convert, convertPath+`OutputFormatConfiguration={}`)
	f("DataFormatConversionConfiguration.SchemaConfiguration.TableName must not be null", s3, convert, convertPath+`SchemaConfiguration.TableName=-`)

	// Backup.
	f("S3 backup destination configuration is required when enabling S3 backup.", s3, ext+`S3BackupMode="Enabled"`)
	f("S3 backup destination configuration is required when enabling S3 backup.", toRed, red+`S3BackupMode="Enabled"`)
	f("BufferingHints.IntervalInSeconds of S3BackupConfiguration must be at least 60.", s3, ext+`S3BackupConfiguration=`+edit(t, s3bucket, `BufferingHints={"IntervalInSeconds":59}`))
	f("BufferingHints.IntervalInSeconds of S3Configuration must be at least 60.", toHTTP, httpd+`S3Configuration.BufferingHints={"IntervalInSeconds":0}`)

	// The rest.
	f("CustomTimeZone Mars/Olympus is not a time zone; use a name of the IANA data base, like Europe/Zurich.", s3, ext+`CustomTimeZone="Mars/Olympus"`)
	f("CustomTimeZone Local is not a time zone; use a name of the IANA data base, like Europe/Zurich.", s3, ext+`CustomTimeZone="Local"`)
	for _, c := range []string{"ZIP", "Snappy", "HADOOP_SNAPPY"} {
		f("Only the following compression formats are allowed when using Redshift: [UNCOMPRESSED, GZIP]", toRed, red+`S3Configuration.CompressionFormat="`+c+`"`)
	}
	f("Redshift Database Password is required for Redshift Destination", toRed, red+`Password=-`)
	f("Redshift Database Username is required for Redshift Destination", toRed, red+`Username=-`)
	const url = httpd + "EndpointConfiguration.Url="
	for _, bad := range []string{`"https://"`, `"https:///path"`, `"https://a b/"`, `"https://[::1"`, `"https://host:port/"`} {
		f("Url of EndpointConfiguration is not a URL; write it like https://host/path.", toHTTP, url+bad)
	}
	f("Url of EndpointConfiguration has a user or a password in it, which every description would show; use AccessKey.", toHTTP, url+`"https://user:hunter22@host/"`)
	f("Url of EndpointConfiguration has a fragment in it; take out what stands after #.", toHTTP, url+`"https://host/#a"`)
	for _, bad := range []string{`"a\nb"`, `"a\u0000"`, `"\u007f"`} {
		f("AccessKey of EndpointConfiguration has a character that no header of a request can have.", toHTTP, httpd+`EndpointConfiguration.AccessKey=`+bad)
	}
	f("Http Endpoint Common Attributes have duplicate names. Each AttributeName may stand once.", toHTTP,
		httpd+`RequestConfiguration={"CommonAttributes":[{"AttributeName":"a","AttributeValue":"1"},{"AttributeName":"b","AttributeValue":"1"},{"AttributeName":"a","AttributeValue":"2"}]}`)
}

// Oddities of the service: other errors than InvalidArgumentException.
func TestOddCodes(t *testing.T) {
	_, _, err := create(edit(t, s3, ext+`DataFormatConversionConfiguration=`+conversionJSON, ext+`DataFormatConversionConfiguration.SchemaConfiguration.RoleARN="firehose"`))
	wantError(t, "role of a schema", err, "InvalidParameterValueException", "Invalid role ARN.")
	_, _, err = create(edit(t, s3, ext+`ProcessingConfiguration={"Processors":[null]}`))
	wantError(t, "null processor", err, "InternalFailure", "A processor is null.")
	if status := err.(*Error).HTTPStatus(); status != 500 {
		t.Errorf("status %d, want 500", status)
	}
	_, _, err = create(`{`)
	if status := err.(*Error).HTTPStatus(); status != 400 {
		t.Errorf("status %d, want 400", status)
	}
}

// The other side of each rule.
func TestAccepted(t *testing.T) {
	convert := ext + "DataFormatConversionConfiguration=" + conversionJSON
	for _, e := range [][]string{
		{plainS3},
		{toHTTP, httpd + `EndpointConfiguration={"Url":"https://[::1]:8443/a/b?c=d&e","AccessKey":"ünï cødé"}`},
		{toHTTP, httpd + `EndpointConfiguration={"Url":"https://h"}`},
		{s3, convert},
		{s3, convert, ext + `BufferingHints={"SizeInMBs":64}`},
		{s3, ext + `DataFormatConversionConfiguration={"Enabled":false}`, ext + `CompressionFormat="GZIP"`}, // what Terraform sends
		{partitioned(t)},
		{partitioned(t), ext + `BufferingHints={"SizeInMBs":64,"IntervalInSeconds":60}`},
		{partitioned(t), processorsOf(jqCustomer, splitJSON, newline, lambdaWith()), ext + `Prefix="!{partitionKeyFromQuery:customer}/!{partitionKeyFromLambda:x}/!{timestamp:yyyy}/"`},
		{partitioned(t), processorsOf(strings.Replace(jqCustomer, "{customer:.c}", `. as $x | {customer:$x}`, 1))}, // jq that only jq understands
		{partitioned(t), ext + `Prefix="` + strings.Repeat("x", 511) + `!{partitionKeyFromQuery:customer}"`},
		{s3, processorsOf(newline)},
		{s3, processorsOf(gunzip, splitLogs)},
		{s3, processorsOf(lambdaWith(parameter("NumberOfRetries", "0"), parameter("BufferSizeInMBs", "0.2"), parameter("BufferIntervalInSeconds", "0")))},
		{s3, processorsOf(lambdaWith(parameter("NumberOfRetries", "300"), parameter("BufferSizeInMBs", "3"), parameter("BufferIntervalInSeconds", "900")))},
		{s3, ext + `ProcessingConfiguration={"Enabled":false}`},
		{s3, ext + `S3BackupMode="Enabled"`, ext + `S3BackupConfiguration={"RoleARN":"` + role + `","BucketARN":"` + bucket + `","BufferingHints":{"IntervalInSeconds":60}}`},
		{s3, ext + `CustomTimeZone="Europe/Zurich"`},
		{s3, ext + `Prefix="` + strings.Repeat("x", 512) + `"`},
		{s3, `DeliveryStreamType="DirectPut"`, `DeliveryStreamEncryptionConfigurationInput={"KeyType":"CUSTOMER_MANAGED_CMK","KeyARN":"arn:aws:kms:eu-west-1:123456789012:key/k"}`},
		{toRed}, {toRed, red + `S3Configuration.CompressionFormat="GZIP"`, red + `S3Configuration.Prefix="stage/"`, red + `SecretsManagerConfiguration={"Enabled":false}`},
		{toHTTP}, {toHTTP, httpd + `EndpointConfiguration.AccessKey=-`},
	} {
		body := edit(t, e[0], e[1:]...)
		if _, _, err := create(body); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestQueryKeys(t *testing.T) {
	f := func(query, want string) {
		t.Helper()
		keys, ok := queryKeys(query)
		var names []string
		for _, k := range keys {
			names = append(names, k.name)
		}
		got := strings.Join(names, " ")
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%s: keys %q, want %q", query, got, want)
		}
	}
	f(`{customer:.customer_id}`, "customer")
	f(` { a : .a , "b c" : (.x|f(1,2)) , c_1: [.a,.b] , d } `, "a b c c_1 d")
	f("{a:.a,\n b:.ts|strftime(\"%Y,%m}\")}", "a b")
	f(`{"a":"x\",\"y"}`, "a")
	f(`{a:{b:1,c:2}}`, "a")
	f(`{}`, "-")
	f(`{a:.a,}`, "-")
	f(`{,}`, "-")
	f(`.a`, "-")
	f(`. as $x | {a:$x}`, "-")
	f(`{a:.a} + {b:.b}`, "-")
	f(`{(.k):.v}`, "-")
	f(`{a:"\(.b)"}`, "-")
	f(`{a:.a # b
}`, "-")
	f(`{a .b}`, "-")
	f(`{"a\(1)":1}`, "-")
	f(`{a:(.b}`, "-")
	f(`{a:".b}`, "-")
}
