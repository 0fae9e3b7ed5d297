package firehose

import (
	"testing"
)

const extUpdate = `"ExtendedS3DestinationUpdate":`

func TestUpdateMerges(t *testing.T) {
	full := edit(t, s3,
		ext+`Prefix="a/"`, ext+`BufferingHints={"SizeInMBs":64,"IntervalInSeconds":100}`, ext+`FileExtension=".json"`,
		ext+`CloudWatchLoggingOptions={"Enabled":true,"LogGroupName":"g"}`,
		processorsOf(newline), ext+`DataFormatConversionConfiguration=`+edit(t, conversionJSON, `Enabled=false`))
	f := func(change string, wantChanged bool, edits ...string) {
		t.Helper()
		d, s := mustCreate(t, full)
		before := conf(t, d)
		next, _, changed, err := update(d, s, extUpdate+change)
		if err != nil {
			t.Errorf("%s: %v", change, err)
			return
		}
		if changed != wantChanged {
			t.Errorf("%s: changed %v", change, changed)
		}
		if got, want := conf(t, next), edit(t, before, edits...); edit(t, got) != want {
			t.Errorf("%s: got\n%s\nwant\n%s", change, got, want)
		}
		if conf(t, d) != before {
			t.Errorf("%s: the former document changed", change)
		}
	}
	f(`{}`, false)
	f(`{"Prefix":null}`, false)
	f(`{"Prefix":"a/","CompressionFormat":"UNCOMPRESSED","S3BackupMode":"Disabled"}`, false)
	f(`{"Unknown":1}`, false)
	f(`{"Prefix":"b/"}`, true, `Prefix="b/"`)
	f(`{"Prefix":""}`, true, `Prefix=""`)
	f(`{"FileExtension":""}`, true, `FileExtension=-`)
	f(`{"BufferingHints":{"SizeInMBs":65}}`, true, `BufferingHints.SizeInMBs=65`)
	f(`{"BufferingHints":{"IntervalInSeconds":0}}`, true, `BufferingHints.IntervalInSeconds=0`)
	f(`{"CloudWatchLoggingOptions":{"LogStreamName":"s"}}`, true, `CloudWatchLoggingOptions={"Enabled":false,"LogStreamName":"s"}`)
	f(`{"EncryptionConfiguration":{}}`, false)
	f(`{"EncryptionConfiguration":{"KMSEncryptionConfig":{"AWSKMSKeyARN":"arn:aws:kms:eu-west-1:123456789012:key/k"}}}`, true,
		`EncryptionConfiguration={"KMSEncryptionConfig":{"AWSKMSKeyARN":"arn:aws:kms:eu-west-1:123456789012:key/k"}}`)
	// Processing is replaced whole: Enabled stays what it was, processors that are not given go, which an enabled one refuses.
	f(`{"ProcessingConfiguration":{"Enabled":false}}`, true, `ProcessingConfiguration={"Enabled":false,"Processors":[]}`)
	f(`{"ProcessingConfiguration":{"Processors":[`+newline+`]}}`, false)
	f(`{"ProcessingConfiguration":{"Processors":[`+lambdaWith(parameter("RoleArn", role))+`]}}`, true,
		`ProcessingConfiguration.Processors=[`+lambdaWith(parameter("RoleArn", role), parameter("NumberOfRetries", "3"), parameter("BufferSizeInMBs", "1"), parameter("BufferIntervalInSeconds", "60"))+`]`)
	// Conversion keeps its siblings, and is on where the update does not say that it is off.
	f(`{"DataFormatConversionConfiguration":{"Enabled":false,"OutputFormatConfiguration":{"Serializer":{"OrcSerDe":{}}}}}`, true,
		`DataFormatConversionConfiguration.OutputFormatConfiguration={"Serializer":{"OrcSerDe":{}}}`)
	f(`{"DataFormatConversionConfiguration":{}}`, true, `DataFormatConversionConfiguration.Enabled=true`)
	f(`{"S3BackupMode":"Enabled","S3BackupUpdate":{"RoleARN":"`+role+`","BucketARN":"`+bucket+`"}}`, true, `S3BackupMode="Enabled"`,
		`S3BackupConfiguration={"RoleARN":"`+role+`","BucketARN":"`+bucket+`","BufferingHints":{"SizeInMBs":5,"IntervalInSeconds":300},"CompressionFormat":"UNCOMPRESSED","EncryptionConfiguration":{"NoEncryptionConfig":"NoEncryption"},"CloudWatchLoggingOptions":{"Enabled":false}}`)
}

// The two forms of S3 are one destination.
func TestUpdateThroughTheOtherForm(t *testing.T) {
	for _, body := range []string{plainS3, s3} {
		d, s := mustCreate(t, body)
		next, _, changed, err := update(d, s, `"S3DestinationUpdate":{"CompressionFormat":"GZIP"}`)
		if err != nil || !changed || conf(t, next) != edit(t, conf(t, d), `CompressionFormat="GZIP"`) {
			t.Errorf("%s: changed %v, error %v", body, changed, err)
		}
		next, _, changed, err = update(next, s, extUpdate+`{"FileExtension":".log"}`)
		if err != nil || !changed || conf(t, next) != edit(t, conf(t, d), `CompressionFormat="GZIP"`, `FileExtension=".log"`) {
			t.Errorf("%s: changed %v, error %v", body, changed, err)
		}
	}
}

func TestUpdateOfNested(t *testing.T) {
	d, s := mustCreate(t, toRed)
	next, _, changed, err := update(d, s, `"RedshiftDestinationUpdate":{"S3Update":{"BufferingHints":{"SizeInMBs":9}},"RetryOptions":{"DurationInSeconds":0},"CopyCommand":{"DataTableName":"u"}}`)
	want := edit(t, conf(t, d), `S3Configuration.BufferingHints.SizeInMBs=9`, `RetryOptions.DurationInSeconds=0`, `CopyCommand={"DataTableName":"u"}`)
	if err != nil || !changed || edit(t, conf(t, next)) != want {
		t.Errorf("changed %v, error %v, got\n%s\nwant\n%s", changed, err, conf(t, next), want)
	}
	d, s = mustCreate(t, toHTTP)
	next, s2, changed, err := update(d, s, `"HttpEndpointDestinationUpdate":{"EndpointConfiguration":{"Url":"https://y"},"S3BackupMode":"AllData","RequestConfiguration":{"ContentEncoding":"GZIP"}}`)
	want = edit(t, conf(t, d), `EndpointConfiguration.Url="https://y"`, `S3BackupMode="AllData"`, `RequestConfiguration.ContentEncoding="GZIP"`)
	if err != nil || !changed || edit(t, conf(t, next)) != want || !s2.Equal(s) {
		t.Errorf("changed %v, error %v, got\n%s\nwant\n%s", changed, err, conf(t, next), want)
	}
	// HTTP's backup mode goes both ways.
	if _, _, changed, err := update(next, s2, `"HttpEndpointDestinationUpdate":{"S3BackupMode":"FailedDataOnly"}`); err != nil || !changed {
		t.Errorf("changed %v, error %v", changed, err)
	}
}

// A secret that is changed alone is a change, and one that is not given stays.
func TestUpdateOfSecrets(t *testing.T) {
	value := func(s Secrets) string {
		t.Helper()
		b, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	d, s := mustCreate(t, toRed)
	if got := value(s); got != `{"Password":"hunter22"}` {
		t.Errorf("secrets %s", got)
	}
	f := func(change, want string, wantChanged bool) {
		t.Helper()
		next, s2, changed, err := update(d, s, change)
		if err != nil || changed != wantChanged || value(s2) != want {
			t.Errorf("%s: changed %v, error %v, secrets %s", change, changed, err, value(s2))
			return
		}
		if next.conf.has("Password") {
			t.Errorf("%s: the password is in the document", change)
		}
	}
	f(`"RedshiftDestinationUpdate":{"Password":"hunter22"}`, `{"Password":"hunter22"}`, false)
	f(`"RedshiftDestinationUpdate":{"Password":"hunter23"}`, `{"Password":"hunter23"}`, true)
	f(`"RedshiftDestinationUpdate":{"Username":"x"}`, `{"Password":"hunter22"}`, true)
	f(`"S3DestinationUpdate":{"RoleARN":"`+role+`","BucketARN":"`+bucket+`"}`, ``, true)
	d, s = mustCreate(t, toHTTP)
	f(`"HttpEndpointDestinationUpdate":{"EndpointConfiguration":{"Url":"https://collector.example/x"}}`, `{"AccessKey":"open-sesame"}`, false)
	f(`"HttpEndpointDestinationUpdate":{"EndpointConfiguration":{"Url":"https://collector.example/x","AccessKey":"new"}}`, `{"AccessKey":"new"}`, true)
}

func TestUpdateToAnotherType(t *testing.T) {
	d, s := mustCreate(t, edit(t, s3, ext+`Prefix="kept?"`))
	complete := `{"RoleARN":"` + role + `","ClusterJDBCURL":"jdbc:redshift://c.abc.redshift.amazonaws.com:5439/dev","CopyCommand":{"DataTableName":"t"},
		"Username":"u","Password":"hunter22","S3Update":{"RoleARN":"` + role + `","BucketARN":"` + bucket + `"}}`
	next, s2, changed, err := update(d, s, `"RedshiftDestinationUpdate":`+complete)
	if err != nil || !changed || next.kind != redshift || !s2.Password.IsSet() {
		t.Fatalf("changed %v, error %v", changed, err)
	}
	fresh, _ := mustCreate(t, `{"DeliveryStreamName":"x","RedshiftDestinationConfiguration":`+edit(t, complete, `S3Configuration={"RoleARN":"`+role+`","BucketARN":"`+bucket+`"}`, `S3Update=-`)+`}`)
	if !next.Equal(fresh) {
		t.Errorf("got\n%s\nwant what create makes\n%s", conf(t, next), conf(t, fresh))
	}
	back, s3secrets, changed, err := update(next, s2, `"S3DestinationUpdate":{"RoleARN":"`+role+`","BucketARN":"`+bucket+`"}`)
	if err != nil || !changed || !s3secrets.IsZero() || back.conf.has("Prefix") {
		t.Errorf("changed %v, error %v, secrets %v", changed, err, s3secrets)
	}
}

func TestUpdateMessages(t *testing.T) {
	f := func(body, change, want string) {
		t.Helper()
		d, s := mustCreate(t, body)
		_, _, _, err := update(d, s, change)
		wantError(t, change, err, "InvalidArgumentException", want)
	}
	f(s3, `"X":1`, "At least one destination or source configuration update must be provided.")
	f(s3, `"S3DestinationUpdate":{},"ExtendedS3DestinationUpdate":{}`, "Exactly one of s3DestinationUpdate or extendedS3DestinationUpdate must be specified.")
	f(s3, `"S3DestinationUpdate":{},"RedshiftDestinationUpdate":{}`, "Exactly one destination configuration update is supported for a Firehose")
	f(s3, `"HttpEndpointDestinationUpdate":{}`, "Changing the destination type to or from HttpEndpoint is not supported at this time.")
	f(toHTTP, `"S3DestinationUpdate":{"Prefix":"a"}`, "Changing the destination type to or from HttpEndpoint is not supported at this time.")
	f(s3, `"ElasticsearchDestinationUpdate":{}`, "Changing the destination type to or from Elasticsearch is not supported at this time.")
	f(s3, `"AmazonopensearchserviceDestinationUpdate":{}`, "Changing the destination type to or from Amazonopensearchservice is not supported at this time.")
	for _, m := range []string{"Splunk", "Snowflake", "Iceberg"} {
		f(s3, `"`+m+`DestinationUpdate":{}`, m+"DestinationUpdate is not supported by Hydrant; the destinations are S3, ExtendedS3, Redshift and HttpEndpoint.")
	}
	f(s3, `"RedshiftDestinationUpdate":{"RoleARN":"`+role+`"}`, "RedshiftDestinationUpdate has to be complete when it changes the destination type: "+
		"3 validation errors detected: Value at 'redshiftDestinationUpdate.clusterJDBCURL' failed to satisfy constraint: Member must not be null; "+
		"Value at 'redshiftDestinationUpdate.copyCommand' failed to satisfy constraint: Member must not be null; "+
		"Value at 'redshiftDestinationUpdate.s3Configuration' failed to satisfy constraint: Member must not be null")
	withBackup := edit(t, s3, ext+`S3BackupMode="Enabled"`, ext+`S3BackupConfiguration={"RoleARN":"`+role+`","BucketARN":"`+bucket+`"}`)
	f(withBackup, extUpdate+`{"S3BackupMode":"Disabled"}`, "Disabling S3 backup is not currently supported.")
	f(s3, extUpdate+`{"S3BackupMode":"Enabled"}`, "S3 backup destination configuration is required when enabling S3 backup.")
	f(s3, extUpdate+`{"S3BackupUpdate":{"Prefix":"b/"}}`, "S3BackupUpdate needs RoleARN and BucketARN where the delivery stream has no S3 backup yet.")
	const fixed = "Dynamic Partitioning cannot be enabled or disabled on an existing delivery stream."
	f(s3, extUpdate+`{"DynamicPartitioningConfiguration":{"Enabled":true}}`, fixed)
	f(partitioned(t), extUpdate+`{"DynamicPartitioningConfiguration":{"Enabled":false}}`, fixed)
	f(s3, extUpdate+`{"ProcessingConfiguration":{"Enabled":true,"Processors":[`+gunzip+`]}}`, "Enabling source decompression is not supported for existing stream with no Lambda function attached.")
	f(edit(t, s3, processorsOf(newline)), extUpdate+`{"ProcessingConfiguration":{}}`, "A maximum of 5 and a minimum of 1 processor needs to be supplied when processing is enabled.")
	f(s3, extUpdate+`{"DataFormatConversionConfiguration":`+conversionJSON+`}`, "BufferingHints.SizeInMBs must be at least 64 when data format conversion is enabled.")
	f(s3, extUpdate+`{"Prefix":"!{timestamp:yyyy}/"}`, "ErrorOutputPrefix cannot be null or empty when Prefix contains expressions")

	// And what the same rules let pass.
	ok := func(body, change string) {
		t.Helper()
		d, s := mustCreate(t, body)
		if _, _, changed, err := update(d, s, change); err != nil || !changed {
			t.Errorf("%s: changed %v, error %v", change, changed, err)
		}
	}
	ok(withBackup, extUpdate+`{"S3BackupUpdate":{"Prefix":"b/"}}`)
	ok(partitioned(t), extUpdate+`{"DynamicPartitioningConfiguration":{"Enabled":true,"RetryOptions":{"DurationInSeconds":1}}}`)
	ok(edit(t, s3, processorsOf(lambdaWith())), extUpdate+`{"ProcessingConfiguration":{"Processors":[`+gunzip+`,`+lambdaWith()+`]}}`)
	ok(s3, extUpdate+`{"BufferingHints":{"SizeInMBs":64},"DataFormatConversionConfiguration":`+conversionJSON+`}`)
}
