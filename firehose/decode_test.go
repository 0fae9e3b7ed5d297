package firehose

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// decoders by operation, for what concerns all of them.
var decoders = map[string]func([]byte) (any, error){
	"CreateDeliveryStream":          func(b []byte) (any, error) { return DecodeCreate(b) },
	"DeleteDeliveryStream":          func(b []byte) (any, error) { return DecodeDelete(b) },
	"UpdateDestination":             func(b []byte) (any, error) { return DecodeUpdate(b) },
	"TagDeliveryStream":             func(b []byte) (any, error) { return DecodeAddTags(b) },
	"UntagDeliveryStream":           func(b []byte) (any, error) { return DecodeRemoveTags(b) },
	"ListTagsForDeliveryStream":     func(b []byte) (any, error) { return DecodeListTags(b) },
	"StartDeliveryStreamEncryption": func(b []byte) (any, error) { return DecodeStartEncryption(b) },
	"StopDeliveryStreamEncryption":  func(b []byte) (any, error) { return DecodeStopEncryption(b) },
	"DescribeDeliveryStream":        func(b []byte) (any, error) { return DecodeDescribe(b) },
	"ListDeliveryStreams":           func(b []byte) (any, error) { return DecodeList(b) },
}

const detected1 = "1 validation error detected: Value at '"

func TestFaultsOfShape(t *testing.T) {
	f := func(op, body, want string) {
		t.Helper()
		_, err := decoders[op]([]byte(body))
		wantError(t, op+" "+body, err, "ValidationException", want)
	}
	one := func(path, constraint string) string {
		return detected1 + path + "' failed to satisfy constraint: " + constraint
	}
	create := func(want, base string, edits ...string) {
		t.Helper()
		f("CreateDeliveryStream", edit(t, base, edits...), want)
	}
	const extPath = "extendedS3DestinationConfiguration."

	f("CreateDeliveryStream", `{}`, one("deliveryStreamName", "Member must not be null"))
	f("DeleteDeliveryStream", `{"DeliveryStreamName":null}`, one("deliveryStreamName", "Member must not be null"))
	f("DescribeDeliveryStream", `{"DeliveryStreamName":"a b"}`, one("deliveryStreamName", "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"))
	f("DescribeDeliveryStream", `{"DeliveryStreamName":"`+strings.Repeat("x", 65)+`"}`, one("deliveryStreamName", "Member must have length less than or equal to 64"))
	f("DescribeDeliveryStream", `{"DeliveryStreamName":"a","Limit":0}`, one("limit", "Member must have value greater than or equal to 1"))
	f("DescribeDeliveryStream", `{"DeliveryStreamName":"a","Limit":10001}`, one("limit", "Member must have value less than or equal to 10000"))
	f("DescribeDeliveryStream", `{"DeliveryStreamName":"a","ExclusiveStartDestinationId":"_"}`, one("exclusiveStartDestinationId", "Member must satisfy regular expression pattern: [a-zA-Z0-9-]+"))
	f("ListDeliveryStreams", `{"DeliveryStreamType":"directput"}`, one("deliveryStreamType", "Member must satisfy enum value set: [DirectPut, KinesisStreamAsSource, MSKAsSource, DatabaseAsSource]"))
	// Two faults of one member and one of another, in the model's order and not the request's.
	f("ListDeliveryStreams", `{"ExclusiveStartDeliveryStreamName":"","Limit":0}`,
		"3 validation errors detected: Value at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1; "+
			"Value at 'exclusiveStartDeliveryStreamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; "+
			"Value at 'exclusiveStartDeliveryStreamName' failed to satisfy constraint: Member must have length greater than or equal to 1")
	f("UpdateDestination", `{"DeliveryStreamName":"a"}`,
		"2 validation errors detected: Value at 'currentDeliveryStreamVersionId' failed to satisfy constraint: Member must not be null; "+
			"Value at 'destinationId' failed to satisfy constraint: Member must not be null")

	create(one(extPath+"compressionFormat", "Member must satisfy enum value set: [ZIP, HADOOP_SNAPPY, Snappy, GZIP, UNCOMPRESSED]"), s3, ext+`CompressionFormat="gzip"`)
	create(one(extPath+"bucketARN", `Member must satisfy regular expression pattern: arn:.*:s3:::[\w\.\-]{1,255}`), s3, ext+`BucketARN="lake"`)
	create(one(extPath+"roleARN", "Member must not be null"), s3, ext+`RoleARN=null`)
	create(one(extPath+"roleARN", `Member must satisfy regular expression pattern: arn:.*:iam::\d{12}:role/[a-zA-Z_0-9+=,.@\-_/]+`), s3, ext+`RoleARN="arn:aws:iam::1:role/x"`)
	create(one(extPath+"bufferingHints.sizeInMBs", "Member must have value less than or equal to 128"), s3, ext+`BufferingHints={"SizeInMBs":129}`)
	create(one(extPath+"bufferingHints.sizeInMBs", "Member must have value greater than or equal to 1"), s3, ext+`BufferingHints={"SizeInMBs":0}`)
	create(one(extPath+"bufferingHints.intervalInSeconds", "Member must have value less than or equal to 900"), s3, ext+`BufferingHints={"IntervalInSeconds":901}`)
	create(one(extPath+"prefix", "Member must have length less than or equal to 1024"), s3, ext+`Prefix="`+strings.Repeat("ä", 1025)+`"`)
	create(one(extPath+"fileExtension", `Member must satisfy regular expression pattern: ^(|\.[0-9a-z!\-_.*'()]+)$`), s3, ext+`FileExtension="json"`)
	create(one(extPath+"fileExtension", "Member must have length less than or equal to 128"), s3, ext+`FileExtension=".`+strings.Repeat("x", 128)+`"`)
	create(one(extPath+"customTimeZone", `Member must satisfy regular expression pattern: ^$|[a-zA-Z/_]+`), s3, ext+`CustomTimeZone="Etc/GMT+5"`)
	create(one(extPath+"s3BackupMode", "Member must satisfy enum value set: [Disabled, Enabled]"), s3, ext+`S3BackupMode="enabled"`)
	create(one(extPath+"s3BackupConfiguration.bucketARN", "Member must not be null"), s3, ext+`S3BackupConfiguration={"RoleARN":"`+role+`"}`)
	create(one(extPath+"encryptionConfiguration.noEncryptionConfig", "Member must satisfy enum value set: [NoEncryption]"), s3, ext+`EncryptionConfiguration={"NoEncryptionConfig":"none"}`)
	create(one(extPath+"encryptionConfiguration.kMSEncryptionConfig.aWSKMSKeyARN", "Member must not be null"), s3, ext+`EncryptionConfiguration={"KMSEncryptionConfig":{}}`)
	create(one(extPath+"cloudWatchLoggingOptions.logStreamName", "Member must satisfy regular expression pattern: [^:*]*"), s3, ext+`CloudWatchLoggingOptions={"LogStreamName":"a:b"}`)
	create(one(extPath+"processingConfiguration.processors.2.member.type", "Member must satisfy enum value set: [RecordDeAggregation, Decompression, CloudWatchLogProcessing, Lambda, MetadataExtraction, AppendDelimiterToRecord]"),
		s3, ext+`ProcessingConfiguration={"Processors":[{"Type":"Lambda"},{"Type":"lambda"}]}`)
	create(one(extPath+"processingConfiguration.processors.1.member.parameters.1.member.parameterValue", `Member must satisfy regular expression pattern: ^(?!\s*$).+`),
		s3, ext+`ProcessingConfiguration={"Processors":[{"Type":"Lambda","Parameters":[{"ParameterName":"LambdaArn","ParameterValue":" "}]}]}`)
	create(one(extPath+"dataFormatConversionConfiguration.outputFormatConfiguration.serializer.parquetSerDe.blockSizeBytes", "Member must have value greater than or equal to 67108864"),
		s3, ext+`DataFormatConversionConfiguration.OutputFormatConfiguration.Serializer.ParquetSerDe.BlockSizeBytes=67108863`)
	create(one(extPath+"dataFormatConversionConfiguration.outputFormatConfiguration.serializer.orcSerDe.paddingTolerance", "Member must have value less than or equal to 1"),
		s3, ext+`DataFormatConversionConfiguration.OutputFormatConfiguration.Serializer.OrcSerDe.PaddingTolerance=1.5`)
	create(one(extPath+"dataFormatConversionConfiguration.inputFormatConfiguration.deserializer.openXJsonSerDe.columnToJsonKeyMappings",
		`Map keys must satisfy constraint: [Member must satisfy regular expression pattern: ^\S+$]`),
		s3, ext+`DataFormatConversionConfiguration.InputFormatConfiguration.Deserializer.OpenXJsonSerDe.ColumnToJsonKeyMappings={"a b":"c"}`)
	create(one(extPath+"dataFormatConversionConfiguration.inputFormatConfiguration.deserializer.openXJsonSerDe.columnToJsonKeyMappings",
		`Map value must satisfy constraint: [Member must not be null]`),
		s3, ext+`DataFormatConversionConfiguration.InputFormatConfiguration.Deserializer.OpenXJsonSerDe.ColumnToJsonKeyMappings={"a":null}`)
	create(one(extPath+"dynamicPartitioningConfiguration.retryOptions.durationInSeconds", "Member must have value less than or equal to 7200"),
		s3, ext+`DynamicPartitioningConfiguration={"RetryOptions":{"DurationInSeconds":7201}}`)
	create(one("directPutSourceConfiguration.throughputHintInMBs", "Member must not be null"), s3, `DirectPutSourceConfiguration={}`)
	create(one("deliveryStreamEncryptionConfigurationInput.keyType", "Member must not be null"), s3, `DeliveryStreamEncryptionConfigurationInput={}`)
	create(one("redshiftDestinationConfiguration.password", "Member must have length greater than or equal to 6"), toRed, red+`Password="short"`)
	create(one("redshiftDestinationConfiguration.copyCommand.dataTableName", "Member must not be null"), toRed, red+`CopyCommand={}`)
	create(one("redshiftDestinationConfiguration.clusterJDBCURL", `Member must satisfy regular expression pattern: jdbc:(redshift|postgresql)://((?!-)[A-Za-z0-9-]{1,63}(?<!-)\.)+(redshift(-serverless)?)\.([a-zA-Z0-9\.\-]+):\d{1,5}/[a-zA-Z0-9_$-]+`),
		toRed, red+`ClusterJDBCURL="jdbc:redshift://-c.abc.redshift.amazonaws.com:5439/dev"`)
	create(one("httpEndpointDestinationConfiguration.endpointConfiguration.url", "Member must satisfy regular expression pattern: https://.*"), toHTTP, httpd+`EndpointConfiguration.Url="http://x"`)
	create(one("httpEndpointDestinationConfiguration.bufferingHints.sizeInMBs", "Member must have value less than or equal to 64"), toHTTP, httpd+`BufferingHints={"SizeInMBs":65}`)
	create(one("httpEndpointDestinationConfiguration.requestConfiguration.commonAttributes.1.member.attributeValue", "Member must not be null"),
		toHTTP, httpd+`RequestConfiguration={"CommonAttributes":[{"AttributeName":"a"}]}`)
	create(one("httpEndpointDestinationConfiguration.s3BackupMode", "Member must satisfy enum value set: [FailedDataOnly, AllData]"), toHTTP, httpd+`S3BackupMode="Enabled"`)

	tags := func(n int) string {
		return `{"DeliveryStreamName":"a","Tags":[` + strings.TrimSuffix(strings.Repeat(`{"Key":"k"},`, n), ",") + `]}`
	}
	f("TagDeliveryStream", tags(0), one("tags", "Member must have length greater than or equal to 1"))
	f("TagDeliveryStream", tags(51), one("tags", "Member must have length less than or equal to 50"))
	f("TagDeliveryStream", `{"DeliveryStreamName":"a","Tags":[{"Key":"k"},null]}`, one("tags.2.member", "Member must not be null"))
	f("TagDeliveryStream", `{"DeliveryStreamName":"a","Tags":[{"Key":"aws:x"}]}`, one("tags.1.member.key", `Member must satisfy regular expression pattern: ^(?!aws:)[\p{L}\p{Z}\p{N}_.:\/=+\-@%]*$`))
	f("TagDeliveryStream", `{"DeliveryStreamName":"a","Tags":[{"Key":"k","Value":"a;b"}]}`, one("tags.1.member.value", `Member must satisfy regular expression pattern: ^[\p{L}\p{Z}\p{N}_.:\/=+\-@%]*$`))
	f("TagDeliveryStream", `{"DeliveryStreamName":"a","Tags":[{"Value":"v"}]}`, one("tags.1.member.key", "Member must not be null"))
	f("UntagDeliveryStream", `{"DeliveryStreamName":"a","TagKeys":[""]}`, one("tagKeys.1.member", "Member must have length greater than or equal to 1"))
	f("ListTagsForDeliveryStream", `{"DeliveryStreamName":"a","Limit":51}`, one("limit", "Member must have value less than or equal to 50"))
	f("StartDeliveryStreamEncryption", `{"DeliveryStreamName":"a","DeliveryStreamEncryptionConfigurationInput":{"KeyType":"x"}}`,
		one("deliveryStreamEncryptionConfigurationInput.keyType", "Member must satisfy enum value set: [AWS_OWNED_CMK, CUSTOMER_MANAGED_CMK]"))
	f("StopDeliveryStreamEncryption", `{}`, one("deliveryStreamName", "Member must not be null"))
}

// The other side of each limit.
func TestShapesAtTheirLimits(t *testing.T) {
	for _, e := range [][]string{
		{s3, ext + `BufferingHints={"SizeInMBs":1,"IntervalInSeconds":0}`},
		{s3, ext + `BufferingHints={"SizeInMBs":128,"IntervalInSeconds":900}`},
		{s3, ext + `Prefix="` + strings.Repeat("x", 512) + `"`},
		{s3, ext + `Prefix=""`, ext + `ErrorOutputPrefix=""`, ext + `FileExtension=""`, ext + `CustomTimeZone=""`},
		{s3, ext + `FileExtension=".` + strings.Repeat("x", 127) + `"`},
		{s3, `DeliveryStreamName="` + strings.Repeat("x", 64) + `"`},
		{s3, `DirectPutSourceConfiguration={"ThroughputHintInMBs":100}`},
		{s3, `Tags=[{"Key":"` + strings.Repeat("ü", 128) + `","Value":"` + strings.Repeat("v", 256) + `"}]`},
		{toHTTP, httpd + `BufferingHints={"SizeInMBs":64,"IntervalInSeconds":900}`},
		{toHTTP, httpd + `RetryOptions={"DurationInSeconds":7200}`},
		{toRed, red + `Password="123456"`},
		{toRed, red + `ClusterJDBCURL="jdbc:postgresql://w.1.eu-west-1.redshift-serverless.amazonaws.com:5439/d-$_"`},
		{toRed, red + `CopyCommand={"DataTableName":"t","CopyOptions":"json 'auto'\n gzip"}`},
		{s3, ext + `CustomTimeZone=null`, ext + `Prefix=null`, `Tags=null`},
	} {
		body := edit(t, e[0], e[1:]...)
		if _, _, err := create(body); err != nil {
			t.Errorf("%.300s: %v", body, err)
		}
	}
}

func TestWrongTypesAreSerializationErrors(t *testing.T) {
	f := func(op, body, want string) {
		t.Helper()
		_, err := decoders[op]([]byte(body))
		wantError(t, op+" "+body, err, "SerializationException", want)
	}
	f("DeleteDeliveryStream", `{"DeliveryStreamName":5}`, "deliveryStreamName at byte 22 must be a string.")
	f("DeleteDeliveryStream", `{"DeliveryStreamName":"a","AllowForceDelete":"true"}`, "allowForceDelete at byte 45 must be true or false.")
	f("ListTagsForDeliveryStream", `{"Limit":"5"}`, "limit at byte 9 must be a whole number of 32 bits.")
	f("ListTagsForDeliveryStream", `{"Limit":5.5}`, "limit at byte 9 must be a whole number of 32 bits.")
	f("ListTagsForDeliveryStream", `{"Limit":2147483648}`, "limit at byte 9 must be a whole number of 32 bits.")
	f("TagDeliveryStream", `{"Tags":{}}`, "tags at byte 8 must be an array.")
	f("TagDeliveryStream", `{"Tags":["a"]}`, "tags.1.member at byte 9 must be an object.")
	f("CreateDeliveryStream", `{"S3DestinationConfiguration":[]}`, "s3DestinationConfiguration at byte 30 must be an object.")
	f("CreateDeliveryStream", `{"SplunkDestinationConfiguration":[]}`, "splunkDestinationConfiguration at byte 34 must be an object.")
	f("CreateDeliveryStream", `{"DeliveryStreamName":"a","DeliveryStreamName":"b"}`, "deliveryStreamName is given a second time at byte 26.")
	f("ListDeliveryStreams", ``, "The request body is not JSON: it ends too early, after byte 0.")
	f("ListDeliveryStreams", `[]`, "The request body is not a JSON object.")
	f("ListDeliveryStreams", `{}{}`, "The request body is not JSON: something follows its object, at byte 3.")
	f("ListDeliveryStreams", `{"Limit":`, "The request body is not JSON: it ends too early, after byte 9.")
	f("ListDeliveryStreams", "{\"ExclusiveStartDeliveryStreamName\":\"\xff\"}", "The request body is not valid UTF-8.")
	for _, body := range []string{`{"Limit" 5}`, `{"Limit":5,}`, `{Limit:5}`, `{"Limit":05}`, `{"x":{"y":]}}`, `{"x":` + strings.Repeat("[", 20000)} {
		_, err := DecodeList([]byte(body))
		if err == nil || !strings.HasPrefix(err.Error(), "SerializationException: The request body is not JSON: ") {
			t.Errorf("%.40s: error %v", body, err)
		}
	}
}

func TestDecodedRequests(t *testing.T) {
	f := func(op, body string, want any) {
		t.Helper()
		got, err := decoders[op]([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
			return
		}
		switch got := got.(type) {
		case *Create:
			got.tree = nil
		case *Update:
			got.tree = nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", body, got, want)
		}
	}
	f("DeleteDeliveryStream", `{"DeliveryStreamName":"a","AllowForceDelete":true,"X":{"Y":[1]}}`, &Delete{"a", true, 1})
	f("DeleteDeliveryStream", `{"DeliveryStreamName":"a","AllowForceDelete":null}`, &Delete{"a", false, 0})
	f("TagDeliveryStream", `{"DeliveryStreamName":"a","Tags":[{"Key":"k","Value":"v","Z":1},{"Key":"k"}]}`, &AddTags{"a", []Tag{{"k", "v"}, {"k", ""}}, 1})
	f("UntagDeliveryStream", `{"DeliveryStreamName":"a","TagKeys":["k","l"]}`, &RemoveTags{"a", []string{"k", "l"}, 0})
	f("ListTagsForDeliveryStream", `{"DeliveryStreamName":"a"}`, &ListTags{"a", "", 50, 0})
	f("ListTagsForDeliveryStream", `{"DeliveryStreamName":"a","ExclusiveStartTagKey":"k","Limit":1}`, &ListTags{"a", "k", 1, 0})
	f("StartDeliveryStreamEncryption", `{"DeliveryStreamName":"a"}`, &StartEncryption{"a", Key{Type: OwnedKey}, 0})
	f("StartDeliveryStreamEncryption", `{"DeliveryStreamName":"a","DeliveryStreamEncryptionConfigurationInput":{"KeyType":"CUSTOMER_MANAGED_CMK"}}`, &StartEncryption{"a", Key{Type: CustomerKey}, 0})
	f("StopDeliveryStreamEncryption", `{"DeliveryStreamName":"a"}`, &StopEncryption{"a", 0})
	f("DescribeDeliveryStream", `{"DeliveryStreamName":"a","Limit":1,"ExclusiveStartDestinationId":"x"}`, &Describe{"a", 0})
	f("ListDeliveryStreams", `{}`, &List{"", "", 10, 0})
	f("ListDeliveryStreams", `{"Limit":10000,"DeliveryStreamType":"DirectPut","ExclusiveStartDeliveryStreamName":"m"}`, &List{"DirectPut", "m", 10000, 0})
	f("UpdateDestination", `{"DeliveryStreamName":"a","CurrentDeliveryStreamVersionId":"7","DestinationId":"d-1","S3DestinationUpdate":{"Unheard":1}}`, &Update{Name: "a", CurrentVersion: "7", DestinationID: "d-1", Unknown: 1})
	f("CreateDeliveryStream", edit(t, s3, `Tags=[{"Key":"k","Value":"v"}]`, `DeliveryStreamEncryptionConfigurationInput={"KeyType":"AWS_OWNED_CMK"}`, `New=1`, ext+`New={"A":1}`),
		&Create{Name: "logs", Type: "DirectPut", Encryption: &Key{Type: OwnedKey}, Tags: []Tag{{"k", "v"}}, Unknown: 2})
}

// What is decoded holds no secret that prints.
func TestSecretsDoNotPrint(t *testing.T) {
	for body, secret := range map[string]string{toRed: "hunter22", toHTTP: "open-sesame"} {
		c, err := DecodeCreate([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		d, s, err := c.Document(settings)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []any{c, c.tree, d, s} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
				if text := fmt.Sprintf(verb, v); strings.Contains(text, secret) {
					t.Errorf("%s of %T tells the secret", verb, v)
				}
			}
		}
	}
}

// Of a list that is too long no more is kept, and said, than of the longest that there may be.
func TestListTooLong(t *testing.T) {
	_, err := DecodeAddTags([]byte(`{"DeliveryStreamName":"a","Tags":[` + strings.Repeat(`{},`, 50_000) + `{}]}`))
	if err == nil {
		t.Fatal("taken")
	}
	const begin = "52 validation errors detected: Value at 'tags' failed to satisfy constraint: Member must have length less than or equal to 50; "
	if said := err.(*Error).Message; !strings.HasPrefix(said, begin) || len(said) > 10_000 {
		t.Errorf("%d bytes: %.200s", len(said), said)
	}
	_, err = DecodeAddTags([]byte(`{"DeliveryStreamName":"a","Tags":[` + strings.Repeat(`{},`, 100) + `{]}`))
	if e, ok := err.(*Error); !ok || e.Code != CodeSerialization {
		t.Errorf("what is no JSON behind the longest list: %v", err)
	}
}
