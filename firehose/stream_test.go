package firehose

import (
	"errors"
	"strings"
	"testing"

	"hydrant/config"
)

var local = config.AWS{Region: "eu-west-1", AccountID: "123456789012", RoleARNs: "ignore", Endpoints: config.Endpoints{S3: "http://127.0.0.1:9000"}}

// The stream that delivers, as the configuration writes it.
func TestConfig(t *testing.T) {
	base := func(format string, edits ...string) string {
		return edit(t, `{"source":{"direct_put":{}},"format":`+format+`,"buffer":{"size":"5MiB","interval":"5m","file_size":"0"},
			"destination":{"s3":{"bucket":"lake","prefix":"","error_output_prefix":"","time_zone":"UTC","file_extension":"","region":"eu-west-1",
			"endpoint":"http://127.0.0.1:9000","path_style":"auto","checksum":"auto","credentials":{"profile":"","role_arn":""},"encryption":"none","storage_class":"","retry_duration":"forever"}}}`, edits...)
	}
	plain := func(edits ...string) string {
		return base(`{"text":{"delimiter":"none","compression":"none"}}`, edits...)
	}
	again := func(s *config.Stream) string {
		t.Helper()
		back, err := config.ParseSpec(s.Name, s.Spec())
		if err != nil {
			t.Fatal(err)
		}
		return string(back.Spec())
	}
	f := func(want string, aws config.AWS, body string, edits ...string) {
		t.Helper()
		d, _ := mustCreate(t, edit(t, body, edits...))
		s, err := d.Config("logs", aws)
		if err != nil {
			t.Errorf("%v: %v", edits, err)
			return
		}
		if got := edit(t, string(s.Spec())); s.Name != "logs" || got != want || edit(t, again(s)) != want {
			t.Errorf("%v: got\n%s\nwant\n%s", edits, got, want)
		}
	}
	f(plain(), local, plainS3)
	f(plain(), local, s3, ext+`S3BackupConfiguration={"RoleARN":"`+role+`","BucketARN":"`+bucket+`"}`, ext+`CloudWatchLoggingOptions={"Enabled":true}`)
	// Source records go to a bucket of their own; what fails stays where it was.
	f(plain(`backup={"mode":"all","s3":{"bucket":"lake","prefix":"raw/","error_output_prefix":"","time_zone":"UTC","file_extension":"","region":"eu-west-1","endpoint":"http://127.0.0.1:9000",
		"path_style":"auto","checksum":"auto","credentials":{"profile":"","role_arn":""},"encryption":"none","storage_class":"","retry_duration":"forever"},"compression":"gzip",
		"buffer":{"size":"5MiB","interval":"5m"},"error_output":"destination"}`), local, s3, ext+`S3BackupMode="Enabled"`,
		ext+`S3BackupConfiguration={"RoleARN":"`+role+`","BucketARN":"`+bucket+`","Prefix":"raw/","CompressionFormat":"GZIP"}`)
	f(plain(`destination.s3.prefix="a/!{timestamp:yyyy}/"`, `destination.s3.error_output_prefix="e/!{firehose:error-output-type}/"`, `destination.s3.time_zone="Europe/Zurich"`, `destination.s3.file_extension=".log"`),
		local, s3, ext+`Prefix="a/!{timestamp:yyyy}/"`, ext+`ErrorOutputPrefix="e/!{firehose:error-output-type}/"`, ext+`CustomTimeZone="Europe/Zurich"`, ext+`FileExtension=".log"`)
	f(plain(`buffer.size="128MiB"`, `buffer.interval="0s"`), local, s3, ext+`BufferingHints={"SizeInMBs":128,"IntervalInSeconds":0}`)
	f(plain(`destination.s3.encryption={"kms":"arn:aws:kms:eu-west-1:123456789012:key/k"}`), local, s3, ext+`EncryptionConfiguration={"KMSEncryptionConfig":{"AWSKMSKeyARN":"arn:aws:kms:eu-west-1:123456789012:key/k"}}`)
	assume := local
	assume.RoleARNs, assume.Endpoints.S3 = "assume", ""
	f(plain(`destination.s3.endpoint=""`, `destination.s3.credentials.role_arn="`+role+`"`), assume, s3)
	for api, ours := range map[string]string{"UNCOMPRESSED": "none", "GZIP": "gzip", "ZIP": "zip", "Snappy": "snappy", "HADOOP_SNAPPY": "hadoop_snappy"} {
		f(base(`{"text":{"delimiter":"none","compression":"`+ours+`"}}`), local, s3, ext+`CompressionFormat="`+api+`"`)
	}
	f(base(`{"text":{"delimiter":"between","compression":"none"}}`), local, s3, processorsOf(newline))
	// Decompression is a transform of the stream, and comes first wherever it stands.
	f(plain(`transform=[{"decompress":"gzip"}]`), local, s3, processorsOf(gunzip))
	f(base(`{"text":{"delimiter":"between","compression":"none"}}`, `transform=[{"decompress":{"cloudwatch_logs":{"extract":"messages"}}}]`), local, s3, processorsOf(newline, splitLogs, gunzip))
	f(plain(`transform=[{"decompress":"cloudwatch_logs"}]`), local, s3, processorsOf(gunzip, strings.Replace(splitLogs, "True", "false", 1)))
	// Dynamic partitioning. Each key of the query becomes a query of its own.
	parted := func(keys, prefix string, edits ...string) string {
		return plain(append([]string{`partition={"keys":` + keys + `,"max_active":"500","hard":true}`, `destination.s3.prefix="` + prefix + `"`,
			`destination.s3.error_output_prefix="errors/!{firehose:error-output-type}/"`, `buffer.size="128MiB"`}, edits...)...)
	}
	query := func(text string) string { return processorsOf(strings.Replace(jqCustomer, "{customer:.c}", text, 1)) }
	f(parted(`{"customer":".c"}`, "c=!{partitionKeyFromQuery:customer}/"), local, partitioned(t))
	const two = "!{partitionKeyFromQuery:a b}/!{partitionKeyFromQuery:c}/"
	f(parted(`{"a b":"(.x|f(1,2))","c":".[\"c\"]"}`, two), local, partitioned(t), ext+`Prefix="`+two+`"`, query(`{ \"a b\" : (.x|f(1,2)), c }`))
	f(parted(`{"a b":"(. as $x | {\"a b\":.b,c:1})[\"a b\"]","c":"(. as $x | {\"a b\":.b,c:1})[\"c\"]"}`, two), local, partitioned(t), ext+`Prefix="`+two+`"`, query(`. as $x | {\"a b\":.b,c:1}`))
	f(parted(`{"customer":".c"}`, "c=!{partitionKeyFromQuery:customer}/", `transform=[{"decompress":"gzip"},{"deaggregate":{"delimited":"IyMjIw=="}}]`),
		local, partitioned(t), processorsOf(jqCustomer, strings.Replace(splitJSON, `"JSON"}`, `"DELIMITED"},`+parameter("Delimiter", "IyMjIw=="), 1), gunzip))
	f(parted(`{"customer":".c"}`, "c=!{partitionKeyFromQuery:customer}/", `transform=[{"deaggregate":"json"}]`), local, partitioned(t), processorsOf(splitJSON, jqCustomer))
	// Functions. Sizes are rounded up to whole KiB.
	lambdaOf := func(retries, size, interval string) string {
		return plain(`transform=[{"lambda":{"function":"arn:aws:lambda:eu-west-1:123456789012:function:f","timeout":"5m","retries":"` + retries + `","concurrency":"4","buffer":{"size":"` + size + `","interval":"` + interval + `"}}}]`)
	}
	f(lambdaOf("3", "1MiB", "1m"), local, s3, processorsOf(lambdaWith()))
	f(lambdaOf("0", "205KiB", "0s"), local, s3, processorsOf(lambdaWith(parameter("NumberOfRetries", "0"), parameter("BufferSizeInMBs", "0.2"), parameter("BufferIntervalInSeconds", "0"))))
	f(lambdaOf("300", "3MiB", "15m"), local, s3, processorsOf(lambdaWith(parameter("NumberOfRetries", "300"), parameter("BufferSizeInMBs", "3"), parameter("BufferIntervalInSeconds", "900"))))
	f(plain(), local, s3, ext+`ProcessingConfiguration={"Enabled":false,"Processors":[`+newline+`,`+lambdaWith()+`]}`)
}

// An HTTP endpoint with what may be said of it, its access key apart.
func TestConfigOfEndpoint(t *testing.T) {
	const base = `{"source":{"direct_put":{}},"format":{"text":{"delimiter":"none","compression":"none"}},"buffer":{"size":"5MiB","interval":"5m","file_size":"0"},
		"destination":{"http":{"url":"https://collector.example/x","body":"firehose","access_key":"configured","content_encoding":"none","timeout":"3m","max_in_flight":"1",
		"tls":{"ca_file":"","cert_file":"","key_file":""},"retry_duration":"5m"}},
		"backup":{"mode":"failed","s3":{"bucket":"lake","prefix":"","error_output_prefix":"","time_zone":"UTC","file_extension":"","region":"eu-west-1","endpoint":"http://127.0.0.1:9000",
		"path_style":"auto","checksum":"auto","credentials":{"profile":"","role_arn":""},"encryption":"none","storage_class":"","retry_duration":"forever"},"compression":"none"}}`
	f := func(want string, edits ...string) {
		t.Helper()
		d, secrets := mustCreate(t, edit(t, toHTTP, edits...))
		s, err := d.Config("logs", local)
		if err != nil {
			t.Errorf("%v: %v", edits, err)
			return
		}
		secrets.Into(s)
		if got := string(s.Spec()); edit(t, got) != edit(t, want) || strings.Contains(got, "open-sesame") {
			t.Errorf("%v: got\n%s\nwant\n%s", edits, edit(t, got), edit(t, want))
		}
		back, err := config.ParseSpec(s.Name, s.Spec())
		if err != nil || string(back.Spec()) != string(s.Spec()) {
			t.Fatalf("%v: read back %v", edits, err)
		}
		secrets.Into(back)
		key, err1 := back.Destination.HTTP.AccessKey.Value()
		given, err2 := secrets.AccessKey.Value()
		if err1 != nil || err2 != nil || key != given {
			t.Errorf("%v: the key is lost: %v, %v", edits, err1, err2)
		}
	}
	const h = "destination.http."
	f(base)
	f(edit(t, base, h+`access_key=-`), httpd+`EndpointConfiguration.AccessKey=-`)
	f(edit(t, base, h+`access_key=-`), httpd+`EndpointConfiguration.AccessKey=""`)
	f(edit(t, base, h+`content_encoding="gzip"`, h+`common_attributes={"a":"1","b":""}`),
		httpd+`RequestConfiguration={"ContentEncoding":"GZIP","CommonAttributes":[{"AttributeName":"b","AttributeValue":""},{"AttributeName":"a","AttributeValue":"1"}]}`)
	f(edit(t, base, h+`retry_duration="0s"`, `buffer={"size":"64MiB","interval":"1m","file_size":"0"}`), httpd+`RetryOptions={"DurationInSeconds":0}`, httpd+`BufferingHints={"SizeInMBs":64,"IntervalInSeconds":60}`)
	f(edit(t, base, h+`retry_duration="2h"`), httpd+`RetryOptions={"DurationInSeconds":7200}`)
	f(edit(t, base, `transform=[{"decompress":"gzip"}]`), httpd+`ProcessingConfiguration={"Enabled":true,"Processors":[`+gunzip+`]}`)
	f(edit(t, base, `backup.compression="hadoop_snappy"`, `backup.s3.prefix="all/"`, `backup.s3.error_output_prefix="failed/"`),
		httpd+`S3Configuration.CompressionFormat="HADOOP_SNAPPY"`, httpd+`S3Configuration.Prefix="all/"`, httpd+`S3Configuration.ErrorOutputPrefix="failed/"`)
	f(edit(t, base, `backup.mode="all"`, `backup.buffer={"size":"7MiB","interval":"90s"}`),
		httpd+`S3BackupMode="AllData"`, httpd+`S3Configuration.BufferingHints={"SizeInMBs":7,"IntervalInSeconds":90}`)
	d, _ := mustCreate(t, edit(t, toHTTP, httpd+`S3Configuration.BucketARN="arn:aws:s3:::ab"`))
	_, err := d.Config("logs", local)
	wantError(t, "bucket", err, "InvalidArgumentException", "BucketARN arn:aws:s3:::ab does not name a bucket; names have at least 3 characters.")
}

// A Redshift destination, its password apart.
func TestConfigOfWarehouse(t *testing.T) {
	const base = `{"source":{"direct_put":{}},"format":{"text":{"delimiter":"none","compression":"none"}},"buffer":{"size":"5MiB","interval":"5m","file_size":"0"},
		"destination":{"redshift":{"dsn":{"host":"c.abc.eu-west-1.redshift.amazonaws.com","port":"5439","database":"dev","user":"loader","password":"configured","sslmode":"verify-full","sslrootcert":""},
		"table":"clicks","copy_options":"DELIMITER '|'","iam_role":"` + role + `","staging":{"s3":{"bucket":"lake","prefix":"","error_output_prefix":"","time_zone":"UTC","file_extension":"",
		"region":"eu-west-1","endpoint":"","path_style":"auto","checksum":"auto","credentials":{"profile":"","role_arn":""},"encryption":"none","storage_class":"","retry_duration":"forever"}},
		"ledger_table":"hydrant_ledger","retry_duration":"1h"}}}`
	settings := local
	settings.Endpoints.S3 = ""
	f := func(want string, edits ...string) {
		t.Helper()
		d, secrets := mustCreate(t, edit(t, toRed, edits...))
		s, err := d.Config("logs", settings)
		if err != nil {
			t.Errorf("%v: %v", edits, err)
			return
		}
		secrets.Into(s)
		if got := string(s.Spec()); edit(t, got) != edit(t, want) || strings.Contains(got, "hunter") {
			t.Errorf("%v: got\n%s\nwant\n%s", edits, edit(t, got), edit(t, want))
		}
		back, err := config.ParseSpec(s.Name, s.Spec())
		if err != nil || string(back.Spec()) != string(s.Spec()) {
			t.Fatalf("%v: read back %v", edits, err)
		}
		secrets.Into(back)
		got, err1 := back.Destination.Redshift.DSN.Parts.Password.Value()
		given, err2 := secrets.Password.Value()
		if err1 != nil || err2 != nil || got != given {
			t.Errorf("%v: the password is lost: %v, %v", edits, err1, err2)
		}
	}
	const r = "destination.redshift."
	f(base)
	f(edit(t, base, r+`dsn.host="w.1.eu-west-1.redshift-serverless.amazonaws.com"`, r+`dsn.port="5440"`, r+`dsn.database="d-$_"`),
		red+`ClusterJDBCURL="jdbc:postgresql://w.1.eu-west-1.redshift-serverless.amazonaws.com:5440/d-$_"`)
	f(edit(t, base, `format.text.compression="gzip"`, r+`staging.s3.prefix="stage/"`, `buffer.size="1MiB"`, `buffer.interval="15m"`),
		red+`S3Configuration.CompressionFormat="GZIP"`, red+`S3Configuration.Prefix="stage/"`, red+`S3Configuration.BufferingHints={"SizeInMBs":1,"IntervalInSeconds":900}`)
	f(edit(t, base, r+`columns=["id","At","a\"b"]`, r+`copy_options="json 'auto' gzip"`), red+`CopyCommand={"DataTableName":"clicks","DataTableColumns":" id,\"At\", \"a\"\"b\" ","CopyOptions":"json 'auto' gzip"}`)
	f(edit(t, base, r+`copy_options="NULL 'csv it''s json' DELIMITER '|'"`), red+`CopyCommand={"DataTableName":"clicks","CopyOptions":"NULL 'csv it''s json'"}`)
	f(edit(t, base, r+`copy_options="Format as Csv"`), red+`CopyCommand={"DataTableName":"clicks","CopyOptions":"Format as Csv"}`)
	f(edit(t, base, r+`retry_duration="0s"`), red+`RetryOptions={"DurationInSeconds":0}`)
	f(edit(t, base, `transform=[{"decompress":"gzip"}]`), red+`ProcessingConfiguration={"Enabled":true,"Processors":[`+gunzip+`]}`)
	f(edit(t, base, `backup={"mode":"all","s3":{"bucket":"lake","prefix":"raw/","error_output_prefix":"","time_zone":"UTC","file_extension":"","region":"eu-west-1","endpoint":"",
		"path_style":"auto","checksum":"auto","credentials":{"profile":"","role_arn":""},"encryption":"none","storage_class":"","retry_duration":"forever"},"compression":"none",
		"buffer":{"size":"5MiB","interval":"5m"},"error_output":"destination"}`), red+`S3BackupMode="Enabled"`,
		red+`S3BackupConfiguration={"RoleARN":"`+role+`","BucketARN":"`+bucket+`","Prefix":"raw/"}`)
	for _, endpoint := range []string{"https://s3.eu-west-1.amazonaws.com", "https://s3.cn-north-1.amazonaws.com.cn"} {
		d, _ := mustCreate(t, toRed)
		settings.Endpoints.S3 = endpoint
		if _, err := d.Config("logs", settings); err != nil {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
	// A warehouse that is not AWS's may read another store.
	settings.Endpoints.S3 = "http://127.0.0.1:9000"
	d, _ := mustCreate(t, edit(t, toRed, red+`ClusterJDBCURL="jdbc:redshift://c.redshift.example:5439/dev"`))
	if _, err := d.Config("logs", settings); err != nil {
		t.Error(err)
	}
	d, _ = mustCreate(t, edit(t, toRed, red+`ClusterJDBCURL="jdbc:redshift://c.redshift.example:65536/dev"`))
	_, err := d.Config("logs", settings)
	wantError(t, "port", err, "InvalidArgumentException", "ClusterJDBCURL has the port 65536; ports go from 1 to 65535.")
}

func TestConfigWithSchema(t *testing.T) {
	schema := config.Schema{Columns: []string{"id string", "ts timestamp"}}
	f := func(want string, edits ...string) {
		t.Helper()
		d, _ := mustCreate(t, edit(t, edit(t, s3, ext+`DataFormatConversionConfiguration=`+conversionJSON), edits...))
		s, err := d.ConfigWithSchema("logs", local, schema)
		if err != nil {
			t.Errorf("%v: %v", edits, err)
			return
		}
		var spec = edit(t, string(s.Spec()), `source=-`, `destination=-`)
		if want := edit(t, want); spec != want {
			t.Errorf("%v: got\n%s\nwant\n%s", edits, spec, want)
		}
	}
	const base = `{"format":{"parquet":{"schema":["id string","ts timestamp"],"deserializer":{"openx":{"case_insensitive":true,"dots_to_underscores":false}},
		"compression":"snappy","encodings":"compatible","timestamps":"int96","row_group":"128MiB","page":"1MiB","unknown_fields":"drop"}},
		"buffer":{"size":"128MiB","interval":"5m","file_size":"0"}}`
	const convert = ext + "DataFormatConversionConfiguration."
	const serde = convert + "OutputFormatConfiguration.Serializer.ParquetSerDe="
	f(base)
	f(edit(t, base, `format.parquet.deserializer={"openx":{"case_insensitive":false,"column_to_json_key":{"ts":"timestamp"},"dots_to_underscores":true}}`),
		convert+`InputFormatConfiguration.Deserializer.OpenXJsonSerDe={"CaseInsensitive":false,"ConvertDotsInJsonKeysToUnderscores":true,"ColumnToJsonKeyMappings":{"ts":"timestamp"}}`)
	f(edit(t, base, `format.parquet.deserializer={"hive":{"timestamp_formats":["yyyy","millis"]}}`), convert+`InputFormatConfiguration.Deserializer={"HiveJsonSerDe":{"TimestampFormats":["yyyy","millis"]}}`)
	f(edit(t, base, `format.parquet.deserializer={"hive":{}}`), convert+`InputFormatConfiguration.Deserializer={"HiveJsonSerDe":{}}`)
	f(edit(t, base, `format.parquet.compression="gzip"`, `format.parquet.encodings="modern"`), serde+`{"Compression":"GZIP","WriterVersion":"V2","EnableDictionaryCompression":true,"MaxPaddingBytes":5}`)
	f(edit(t, base, `format.parquet.compression="none"`), serde+`{"Compression":"UNCOMPRESSED","WriterVersion":"V1"}`)
	f(edit(t, base, `format.parquet.row_group="64MiB"`, `format.parquet.page="64KiB"`), serde+`{"BlockSizeBytes":67108865,"PageSizeBytes":65537}`)
	f(edit(t, base, `format.parquet.row_group="1GiB"`, `format.parquet.page="64MiB"`), serde+`{"BlockSizeBytes":2147483647,"PageSizeBytes":2147483647}`)
	f(edit(t, base, `format={"text":{"delimiter":"none","compression":"none"}}`, `buffer.size="5MiB"`), convert+`Enabled=false`)

	d, _ := mustCreate(t, edit(t, s3, ext+`DataFormatConversionConfiguration=`+conversionJSON, convert+`SchemaConfiguration.VersionId="7"`))
	if table, ok := d.Table(); !ok || table != (GlueTable{RoleARN: role, Database: "db", Table: "clicks", Version: "7"}) {
		t.Errorf("table %+v, %v", table, ok)
	}
	if d, _ := mustCreate(t, s3); d.converts() {
		t.Error("a stream without conversion has a table")
	}
}

// What is described and cannot be delivered is named.
func TestNotDeliverable(t *testing.T) {
	f := func(member, reason, body string, edits ...string) {
		t.Helper()
		d, _ := mustCreate(t, edit(t, body, edits...))
		_, err := d.Config("logs", local)
		var n *NotDeliverable
		// The types of destinations that are to come are taken, and wait; S3 streams do not.
		if !errors.As(err, &n) || n.Member != member || n.Reason != reason || n.Waits == strings.HasPrefix(member, "extendedS3") {
			t.Errorf("%s: error %v", member, err)
			return
		}
		wantError(t, member, n.Answer(), "InvalidArgumentException", member+" is not supported by this version: "+reason)
	}
	const extPath = "extendedS3DestinationConfiguration"
	f("redshiftDestinationConfiguration", "COPY of Amazon Redshift reads buckets of AWS alone, and aws.endpoints.s3 names another store.", toRed)
	f(extPath+".dataFormatConversionConfiguration.schemaConfiguration", "the AWS Glue table db.clicks cannot be read. Declare the stream with its schema in the configuration file.",
		s3, ext+`DataFormatConversionConfiguration=`+conversionJSON)
	f(extPath+".dataFormatConversionConfiguration.outputFormatConfiguration.serializer.orcSerDe", "ORC is not written; ParquetSerDe is.",
		s3, ext+`DataFormatConversionConfiguration=`+conversionJSON, ext+`DataFormatConversionConfiguration.OutputFormatConfiguration.Serializer={"OrcSerDe":{}}`)

	// A bucket that the API's pattern takes and S3 does not.
	d, _ := mustCreate(t, edit(t, s3, ext+`BucketARN="arn:aws:s3:::ab"`))
	_, err := d.Config("logs", local)
	wantError(t, "bucket", err, "InvalidArgumentException", "BucketARN arn:aws:s3:::ab does not name a bucket; names have at least 3 characters.")
}
