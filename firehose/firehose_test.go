package firehose

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

const (
	role   = "arn:aws:iam::123456789012:role/firehose"
	bucket = "arn:aws:s3:::lake"
)

var settings = Settings{Region: "eu-west-1", AccountID: "123456789012"}

// edit sets members of a request by their paths; a value is JSON, and "-" takes the member away.
func edit(t testing.TB, body string, edits ...string) string {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal([]byte(body), &root); err != nil {
		t.Fatal(err)
	}
	for _, e := range edits {
		path, value, _ := strings.Cut(e, "=")
		at := root
		names := strings.Split(path, ".")
		for _, n := range names[:len(names)-1] {
			if at[n] == nil {
				at[n] = map[string]any{}
			}
			at = at[n].(map[string]any)
		}
		if value == "-" {
			delete(at, names[len(names)-1])
			continue
		}
		var v any
		if err := json.Unmarshal([]byte(value), &v); err != nil {
			t.Fatalf("%s: %v", e, err)
		}
		at[names[len(names)-1]] = v
	}
	out, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// The smallest requests, of each destination.
const (
	plainS3 = `{"DeliveryStreamName":"logs","S3DestinationConfiguration":{"RoleARN":"` + role + `","BucketARN":"` + bucket + `"}}`
	s3      = `{"DeliveryStreamName":"logs","ExtendedS3DestinationConfiguration":{"RoleARN":"` + role + `","BucketARN":"` + bucket + `"}}`
	toRed   = `{"DeliveryStreamName":"logs","RedshiftDestinationConfiguration":{"RoleARN":"` + role + `",
		"ClusterJDBCURL":"jdbc:redshift://c.abc.eu-west-1.redshift.amazonaws.com:5439/dev","CopyCommand":{"DataTableName":"clicks"},
		"Username":"loader","Password":"hunter22","S3Configuration":{"RoleARN":"` + role + `","BucketARN":"` + bucket + `"}}}`
	toHTTP = `{"DeliveryStreamName":"logs","HttpEndpointDestinationConfiguration":{
		"EndpointConfiguration":{"Url":"https://collector.example/x","Name":"collector","AccessKey":"open-sesame"},
		"S3Configuration":{"RoleARN":"` + role + `","BucketARN":"` + bucket + `"}}}`
)

// Paths of the members of those.
const (
	ext   = "ExtendedS3DestinationConfiguration."
	red   = "RedshiftDestinationConfiguration."
	httpd = "HttpEndpointDestinationConfiguration."
)

const conversionJSON = `{"SchemaConfiguration":{"RoleARN":"` + role + `","DatabaseName":"db","TableName":"clicks"},
	"InputFormatConfiguration":{"Deserializer":{"OpenXJsonSerDe":{}}},
	"OutputFormatConfiguration":{"Serializer":{"ParquetSerDe":{}}}}`

// create makes a document, or gives the error of either layer.
func create(body string) (*Document, Secrets, error) {
	c, err := DecodeCreate([]byte(body))
	if err != nil {
		return nil, Secrets{}, err
	}
	return c.Document(settings)
}

func mustCreate(t testing.TB, body string) (*Document, Secrets) {
	t.Helper()
	d, s, err := create(body)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return d, s
}

// update applies the update of a request whose members are given in JSON.
func update(d *Document, s Secrets, members string) (*Document, Secrets, bool, error) {
	u, err := DecodeUpdate([]byte(`{"DeliveryStreamName":"logs","CurrentDeliveryStreamVersionId":"1","DestinationId":"` + DestinationID + `",` + members + `}`))
	if err != nil {
		return nil, Secrets{}, false, err
	}
	return d.Update(u, s)
}

// conf is what the document keeps of the destination, in JSON.
func conf(t testing.TB, d *Document) string {
	t.Helper()
	b, err := json.Marshal(d.conf)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wantError compares an error's code and message.
func wantError(t testing.TB, what string, err error, code, message string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("%s: error %v, want %s: %s", what, err, code, message)
		return
	}
	if e.Code != code || e.Message != message {
		t.Errorf("%s: error\n%s: %s\nwant\n%s: %s", what, e.Code, e.Message, code, message)
	}
}
