package directput

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func lake() *store {
	s := newStore(nil, "events", "files", "going", "rows", "text", "web", "web2")
	created, updated := time.UnixMilli(1789014240448), time.UnixMilli(1789014301500)
	s.streams["events"] = Description{
		Name: "events", Version: 3, Created: created, Updated: updated,
		Destination: Destination{
			S3: &S3Destination{Bucket: "lake"}, Prefix: "e/dt=!{timestamp:yyyy-MM-dd}/", ErrorOutputPrefix: "errors/!{firehose:error-output-type}/",
			TimeZone: "Europe/Berlin", BufferSize: 128 << 20, BufferInterval: 5 * time.Minute, Parquet: "zstd",
		},
	}
	s.streams["files"] = Description{
		Name: "files", Version: 1, Created: created,
		Destination: Destination{File: &FileDestination{Path: "/lake"}, FileExtension: ".json", BufferSize: 5<<20 + 1, BufferInterval: 1500 * time.Millisecond, Compression: "gzip"},
	}
	s.streams["text"] = Description{
		Name: "text", Version: 1, Created: created,
		Destination: Destination{
			S3:         &S3Destination{Bucket: "b", RoleARN: "arn:aws:iam::123456789012:role/r", KMSKeyARN: "arn:aws:kms:eu-west-1:123456789012:key/k"},
			BufferSize: 1, Compression: "snappy",
		},
	}
	s.streams["web"] = Description{
		Name: "web", Version: 1, Created: created,
		Destination: Destination{
			HTTP: &HTTPDestination{
				URL: "https://host/path", Gzip: true, Attributes: map[string]string{"b": "2", "a": ""}, Retry: 90 * time.Second,
				Backup: &S3Destination{Bucket: "b"}, BackupErrorPrefix: "failed/", BackupCompression: "gzip",
			},
			BufferSize: 1 << 20, BufferInterval: time.Minute,
		},
	}
	s.streams["web2"] = Description{Name: "web2", Version: 1, Created: created, Destination: Destination{HTTP: &HTTPDestination{URL: "http://host", Retry: -1}}}
	s.streams["rows"] = Description{Name: "rows", Version: 1, Created: created, Destination: Destination{
		Redshift: &RedshiftDestination{JDBCURL: "jdbc:redshift://h:5439/dev", User: "u", RoleARN: "arn:aws:iam::123456789012:role/r", Table: "a.b", Columns: "x,y", CopyOptions: "csv", Retry: 90 * time.Second,
			Staging: S3Destination{Bucket: "b"}},
		Prefix: "p/", BufferSize: 1 << 20, BufferInterval: time.Minute, Compression: "gzip",
	}}
	s.streams["going"] = Description{Name: "going", Status: "DELETING", Version: 18446744073709551615}
	return s
}

func TestDescribe(t *testing.T) {
	s := lake()
	s.t = t
	h := newHandler(t, s)
	f := func(name, version, times, destination string) {
		t.Helper()
		status := "ACTIVE"
		if name == "going" {
			status = "DELETING"
		}
		want := fmt.Sprintf(`{"DeliveryStreamDescription":{"DeliveryStreamName":%q,"DeliveryStreamARN":"arn:aws:firehose:eu-west-1:123456789012:deliverystream/%[1]s",`+
			`"DeliveryStreamStatus":%q,"DeliveryStreamEncryptionConfiguration":{"Status":"DISABLED"},"DeliveryStreamType":"DirectPut","VersionId":%q,%s`+
			`"Destinations":[{"DestinationId":"destinationId-000000000001"%s}],"HasMoreDestinations":false}}`, name, status, version, times, destination)
		w := post(t, h, opDescribe, `{"DeliveryStreamName":"`+name+`"}`)
		if w.Code != 200 || w.Body.String() != want {
			t.Errorf("got %d %s\nwant 200 %s", w.Code, w.Body, want)
		}
	}
	created := `"CreateTimestamp":1789014240.448,`
	s3 := `"BucketARN":"arn:aws:s3:::lake","Prefix":"e/dt=!{timestamp:yyyy-MM-dd}/","ErrorOutputPrefix":"errors/!{firehose:error-output-type}/",` +
		`"BufferingHints":{"SizeInMBs":128,"IntervalInSeconds":300},"CompressionFormat":"UNCOMPRESSED","EncryptionConfiguration":{"NoEncryptionConfig":"NoEncryption"},"CloudWatchLoggingOptions":{"Enabled":false}`
	f("events", "3", created+`"LastUpdateTimestamp":1789014301.5,`, `,"S3DestinationDescription":{`+s3+`},"ExtendedS3DestinationDescription":{`+s3+
		`,"CustomTimeZone":"Europe/Berlin","DataFormatConversionConfiguration":{"Enabled":true,"OutputFormatConfiguration":{"Serializer":{"ParquetSerDe":{"Compression":"ZSTD"}}}},"S3BackupMode":"Disabled"}`)
	f("files", "1", created, `,"FileDestinationDescription":{"Path":"/lake","BufferingHints":{"SizeInMBs":6,"IntervalInSeconds":1},"CompressionFormat":"GZIP","FileExtension":".json","CustomTimeZone":"UTC"}`)
	s3 = `"RoleARN":"arn:aws:iam::123456789012:role/r","BucketARN":"arn:aws:s3:::b","BufferingHints":{"SizeInMBs":1,"IntervalInSeconds":0},"CompressionFormat":"Snappy",` +
		`"EncryptionConfiguration":{"KMSEncryptionConfig":{"AWSKMSKeyARN":"arn:aws:kms:eu-west-1:123456789012:key/k"}},"CloudWatchLoggingOptions":{"Enabled":false}`
	f("text", "1", created, `,"S3DestinationDescription":{`+s3+`},"ExtendedS3DestinationDescription":{`+s3+`,"CustomTimeZone":"UTC","S3BackupMode":"Disabled"}`)
	f("web", "1", created, `,"HttpEndpointDestinationDescription":{"EndpointConfiguration":{"Url":"https://host/path"},"BufferingHints":{"SizeInMBs":1,"IntervalInSeconds":60},"CloudWatchLoggingOptions":{"Enabled":false},`+
		`"RequestConfiguration":{"ContentEncoding":"GZIP","CommonAttributes":[{"AttributeName":"a","AttributeValue":""},{"AttributeName":"b","AttributeValue":"2"}]},"RetryOptions":{"DurationInSeconds":90},"S3BackupMode":"FailedDataOnly",`+
		`"S3DestinationDescription":{"BucketARN":"arn:aws:s3:::b","ErrorOutputPrefix":"failed/","BufferingHints":{"SizeInMBs":1,"IntervalInSeconds":60},"CompressionFormat":"GZIP","EncryptionConfiguration":{"NoEncryptionConfig":"NoEncryption"},"CloudWatchLoggingOptions":{"Enabled":false}}}`)
	f("web2", "1", created, `,"HttpEndpointDestinationDescription":{"EndpointConfiguration":{"Url":"http://host"},"BufferingHints":{"SizeInMBs":0,"IntervalInSeconds":0},"CloudWatchLoggingOptions":{"Enabled":false},`+
		`"RequestConfiguration":{"ContentEncoding":"NONE","CommonAttributes":[]},"S3BackupMode":"FailedDataOnly"}`)
	f("rows", "1", created, `,"RedshiftDestinationDescription":{"RoleARN":"arn:aws:iam::123456789012:role/r","ClusterJDBCURL":"jdbc:redshift://h:5439/dev","CopyCommand":{"DataTableName":"a.b","DataTableColumns":"x,y","CopyOptions":"csv"},`+
		`"Username":"u","RetryOptions":{"DurationInSeconds":90},"S3DestinationDescription":{"BucketARN":"arn:aws:s3:::b","Prefix":"p/","BufferingHints":{"SizeInMBs":1,"IntervalInSeconds":60},"CompressionFormat":"GZIP",`+
		`"EncryptionConfiguration":{"NoEncryptionConfig":"NoEncryption"},"CloudWatchLoggingOptions":{"Enabled":false}},"S3BackupMode":"Disabled","CloudWatchLoggingOptions":{"Enabled":false}}`)
	f("going", "18446744073709551615", "", "")
}

func TestList(t *testing.T) {
	s := newStore(t)
	for i := range 23 {
		name := fmt.Sprintf("s%02d", i)
		s.streams[name] = Description{Name: name}
	}
	h := newHandler(t, s)
	f := func(body string, first, count int, more bool) {
		t.Helper()
		var names []string
		for i := range count {
			names = append(names, fmt.Sprintf(`"s%02d"`, first+i))
		}
		want := fmt.Sprintf(`{"DeliveryStreamNames":[%s],"HasMoreDeliveryStreams":%v}`, strings.Join(names, ","), more)
		w := post(t, h, opList, body)
		if w.Code != 200 || w.Body.String() != want {
			t.Errorf("%s: got %d %s, want 200 %s", body, w.Code, w.Body, want)
		}
	}
	f(`{}`, 0, 10, true)
	f(`{"Limit":null,"DeliveryStreamType":null,"Unknown":[{}]}`, 0, 10, true)
	f(`{"Limit":23}`, 0, 23, false)
	f(`{"Limit":22}`, 0, 22, true)
	f(`{"Limit":10000}`, 0, 23, false)
	f(`{"Limit":1,"ExclusiveStartDeliveryStreamName":"s07"}`, 8, 1, true)
	f(`{"ExclusiveStartDeliveryStreamName":"s07.5"}`, 8, 10, true) // need not exist
	f(`{"ExclusiveStartDeliveryStreamName":"s12"}`, 13, 10, false)
	f(`{"ExclusiveStartDeliveryStreamName":"s22"}`, 0, 0, false)
	f(`{"ExclusiveStartDeliveryStreamName":"0"}`, 0, 10, true)
	f(`{"DeliveryStreamType":"DirectPut","Limit":2}`, 0, 2, true)
	f(`{"DeliveryStreamType":"KinesisStreamAsSource"}`, 0, 0, false)
	f(`{"DeliveryStreamType":"KinesisStreamAsSource","ExclusiveStartDeliveryStreamName":"s01"}`, 0, 0, false)
}

func TestListByType(t *testing.T) {
	s := newStore(t, "a", "b", "c")
	s.streams["b"] = Description{Name: "b", Type: "KinesisStreamAsSource", KinesisStreamARN: "arn:aws:kinesis:eu-west-1:123456789012:stream/in", Created: time.UnixMilli(1500)}
	h := newHandler(t, s)
	f := func(kind, want string) {
		t.Helper()
		if w := post(t, h, opList, `{"DeliveryStreamType":"`+kind+`"}`); w.Body.String() != want {
			t.Errorf("%s: got %s, want %s", kind, w.Body, want)
		}
	}
	f("DirectPut", `{"DeliveryStreamNames":["a","c"],"HasMoreDeliveryStreams":false}`)
	f("KinesisStreamAsSource", `{"DeliveryStreamNames":["b"],"HasMoreDeliveryStreams":false}`)
	f("MSKAsSource", `{"DeliveryStreamNames":[],"HasMoreDeliveryStreams":false}`)
	w := post(t, h, opDescribe, `{"DeliveryStreamName":"b"}`)
	const part = `"DeliveryStreamType":"KinesisStreamAsSource","VersionId":"0","CreateTimestamp":1.5,` +
		`"Source":{"KinesisStreamSourceDescription":{"KinesisStreamARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/in","DeliveryStartTimestamp":1.5}}`
	if got := w.Body.String(); !strings.Contains(got, part) || strings.Contains(got, "EncryptionConfiguration\":{\"Status") {
		t.Errorf("got %s, want in it %s", got, part)
	}
}

func TestReadRefuses(t *testing.T) {
	s := newStore(t, "s")
	h := newHandler(t, s)
	f := func(op, body, code, message string) {
		t.Helper()
		w := post(t, h, op, body)
		if want := errorBody(code, message); w.Code != 400 || w.Body.String() != want {
			t.Errorf("%s %s: got %d %s, want 400 %s", op, body, w.Code, w.Body, want)
		}
	}
	const one = "1 validation error detected: Value at "
	f(opDescribe, `{}`, "ValidationException", one+"'deliveryStreamName' failed to satisfy constraint: Member must not be null")
	f(opDescribe, `{"DeliveryStreamName":"x"}`, "ResourceNotFoundException", "Firehose x under account 123456789012 not found.")
	f(opDescribe, `{"DeliveryStreamName":"s","Limit":0}`, "ValidationException", one+"'limit' failed to satisfy constraint: Member must have value greater than or equal to 1")
	f(opDescribe, `{"DeliveryStreamName":"x","ExclusiveStartDestinationId":"a_b"}`, "ValidationException", one+"'exclusiveStartDestinationId' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9-]+")
	f(opDescribe, `{"DeliveryStreamName":["s"]}`, "SerializationException", "deliveryStreamName at byte 22 must be a string.")
	f(opDescribe, `{"DeliveryStreamName":"s","DeliveryStreamName":"s"}`, "SerializationException", "deliveryStreamName is given a second time at byte 26.")
	f(opDescribe, ``, "SerializationException", "The request body is not JSON: it ends too early, after byte 0.")
	f(opDescribe, `{}{}`, "SerializationException", "The request body is not JSON: something follows its object, at byte 3.")
	f(opList, `{"Limit":10001}`, "ValidationException", one+"'limit' failed to satisfy constraint: Member must have value less than or equal to 10000")
	f(opList, `{"Limit":"1"}`, "SerializationException", "limit at byte 9 must be a whole number of 32 bits.")
	f(opList, `{"Limit":1.5}`, "SerializationException", "limit at byte 9 must be a whole number of 32 bits.")
	f(opList, `{"Limit":2147483648}`, "SerializationException", "limit at byte 9 must be a whole number of 32 bits.")
	f(opList, `{"Limit":1,"Limit":1}`, "SerializationException", "limit is given a second time at byte 11.")
	f(opList, `{"DeliveryStreamType":"directput","Limit":0}`, "ValidationException", "2 validation errors detected: Value at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1; "+
		"Value at 'deliveryStreamType' failed to satisfy constraint: Member must satisfy enum value set: [DirectPut, KinesisStreamAsSource, MSKAsSource, DatabaseAsSource]")
	f(opList, `{"ExclusiveStartDeliveryStreamName":""}`, "ValidationException", "2 validation errors detected: Value at 'exclusiveStartDeliveryStreamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; "+
		"Value at 'exclusiveStartDeliveryStreamName' failed to satisfy constraint: Member must have length greater than or equal to 1")
}

// Account and region are asked for at each call.
func TestIdentityChanges(t *testing.T) {
	s := newStore(t, "s")
	account, region := "123456789012", "eu-west-1"
	h := newHandler(t, s, func(o *Options) { o.Identity = func() (string, string) { return account, region } })
	check := func() {
		t.Helper()
		if w := post(t, h, opDescribe, `{"DeliveryStreamName":"s"}`); !strings.Contains(w.Body.String(), `"`+arn(region, account, "s")+`"`) {
			t.Errorf("described as %s", w.Body)
		}
		if w := post(t, h, opDescribe, `{"DeliveryStreamName":"x"}`); !strings.Contains(w.Body.String(), "under account "+account+" not found") {
			t.Errorf("missing: %s", w.Body)
		}
	}
	check()
	account, region = "210987654321", "us-east-2"
	check()
}

func TestARN(t *testing.T) {
	for region, want := range map[string]string{
		"eu-west-1":     "arn:aws:firehose:eu-west-1:1:deliverystream/s",
		"cn-north-1":    "arn:aws-cn:firehose:cn-north-1:1:deliverystream/s",
		"us-gov-west-1": "arn:aws-us-gov:firehose:us-gov-west-1:1:deliverystream/s",
	} {
		if got := arn(region, "1", "s"); got != want {
			t.Errorf("%s: got %s, want %s", region, got, want)
		}
	}
}
