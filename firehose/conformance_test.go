package firehose

import (
	"errors"
	"strings"
	"testing"
)

// The lines of Firehose's behaviour that clients rely on, as far as documents decide them.

func TestConformanceEnumInTheWrongCaseIsAValidationException(t *testing.T) {
	for _, word := range []string{"gzip", "snappy", "Zip", "hadoop_snappy"} {
		_, err := DecodeCreate([]byte(edit(t, s3, ext+`CompressionFormat="`+word+`"`)))
		wantError(t, word, err, "ValidationException", "1 validation error detected: Value at 'extendedS3DestinationConfiguration.compressionFormat' "+
			"failed to satisfy constraint: Member must satisfy enum value set: [ZIP, HADOOP_SNAPPY, Snappy, GZIP, UNCOMPRESSED]")
	}
}

func TestConformanceTwoBadMembersAreTwoErrors(t *testing.T) {
	_, err := DecodeCreate([]byte(edit(t, s3, ext+`S3BackupMode="on"`, ext+`CompressionFormat="gzip"`)))
	if err == nil || !strings.HasPrefix(err.Error(), "ValidationException: 2 validation errors detected: Value at 'extendedS3DestinationConfiguration.compressionFormat' ") {
		t.Errorf("error %v", err)
	}
}

func TestConformanceIdenticalUpdateChangesNothing(t *testing.T) {
	for body, change := range map[string]string{
		s3:      `"ExtendedS3DestinationUpdate":{"RoleARN":"` + role + `","BufferingHints":{"SizeInMBs":5},"CompressionFormat":"UNCOMPRESSED","CustomTimeZone":"UTC","FileExtension":""}`,
		plainS3: `"S3DestinationUpdate":{}`,
		toRed:   `"RedshiftDestinationUpdate":{"Username":"loader","Password":"hunter22","S3Update":{"BucketARN":"` + bucket + `"},"RetryOptions":{"DurationInSeconds":3600}}`,
		toHTTP:  `"HttpEndpointDestinationUpdate":{"EndpointConfiguration":{"Url":"https://collector.example/x","Name":"collector","AccessKey":"open-sesame"},"RequestConfiguration":{"CommonAttributes":[]}}`,
	} {
		d, s := mustCreate(t, body)
		next, s2, changed, err := update(d, s, change)
		if err != nil || changed || !next.Equal(d) || !s2.Equal(s) {
			t.Errorf("%s: changed %v, error %v", change, changed, err)
		}
	}
}

func TestConformanceProcessorsAreClearedAndConversionKeepsSiblings(t *testing.T) {
	d, s := mustCreate(t, edit(t, s3, processorsOf(newline), ext+`DataFormatConversionConfiguration=`+conversionJSON))
	next, _, changed, err := update(d, s, `"ExtendedS3DestinationUpdate":{"ProcessingConfiguration":{"Enabled":false},
		"DataFormatConversionConfiguration":{"InputFormatConfiguration":{"Deserializer":{"HiveJsonSerDe":{}}}}}`)
	want := edit(t, conf(t, d), `ProcessingConfiguration={"Enabled":false,"Processors":[]}`, `DataFormatConversionConfiguration.InputFormatConfiguration={"Deserializer":{"HiveJsonSerDe":{}}}`)
	if err != nil || !changed || conf(t, next) != want {
		t.Errorf("changed %v, error %v, got\n%s\nwant\n%s", changed, err, conf(t, next), want)
	}
}

func TestConformanceLegacyFormShowsBothForms(t *testing.T) {
	d, _ := mustCreate(t, edit(t, plainS3, `S3DestinationConfiguration.Prefix=""`))
	dest := sdkDescription(t, []byte(describe(t, d, State{}))).Destinations[0]
	plain, extended := dest.S3DestinationDescription, dest.ExtendedS3DestinationDescription
	if plain == nil || extended == nil || *plain.BucketARN != bucket || *extended.BucketARN != bucket || *dest.DestinationId != DestinationID ||
		extended.S3BackupMode != "Disabled" || plain.Prefix == nil || *plain.Prefix != "" || extended.ErrorOutputPrefix != nil {
		t.Errorf("plain %+v, extended %+v", plain, extended)
	}
}

// Keys are evaluated by package prefix; here is what reaches it.
func TestConformancePrefixesReachTheStreamAsTheyAre(t *testing.T) {
	for prefix, errors := range map[string]string{"logs": "", "": "", "a/!{firehose:random-string}/": "e/!{firehose:error-output-type}/"} {
		d, _ := mustCreate(t, edit(t, s3, ext+`Prefix="`+prefix+`"`, ext+`ErrorOutputPrefix="`+errors+`"`))
		s, err := d.Config("logs", local)
		if err != nil || s.Destination.S3.Prefix != prefix || s.Destination.S3.ErrorOutputPrefix != errors {
			t.Errorf("%q: %+v, %v", prefix, s.Destination.S3, err)
		}
	}
}

func TestConformanceExpressions(t *testing.T) {
	f := func(prefix, want string) {
		t.Helper()
		_, _, err := create(edit(t, s3, ext+`Prefix="`+prefix+`"`, ext+`ErrorOutputPrefix="e/!{firehose:error-output-type}/"`))
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", prefix, err)
			}
			return
		}
		wantError(t, prefix, err, "InvalidArgumentException", want)
	}
	f("!{timestamp:YYYY}/", "")
	f("!{timestamp:SSS}/", "")
	f("!{timestamp:'year='yyyy''''}/", "")
	for _, letter := range strings.Split("C I J P R T U V b f i j l o p r t", " ") {
		f("!{timestamp:"+letter+"}/", "Invalid conversion character used in the value of the expression in Prefix")
	}
	f("!{firehose:foo}/", "Invalid conversion character used in the value of the expression in Prefix")
	f("!{foo:x}/", "Namespace to the left of colon (foo) is an invalid keyword!")
	f("a/!{timestamp:yyyy", "Invalid expression usage")
}

func TestConformanceFileExtensionReplacesAndAnEmptyOneDoesNot(t *testing.T) {
	for given, want := range map[string]string{".json": ".json", "": ""} {
		d, _ := mustCreate(t, edit(t, s3, ext+`FileExtension="`+given+`"`, ext+`CompressionFormat="GZIP"`))
		s, err := d.Config("logs", local)
		if err != nil || s.Destination.S3.FileExtension != want || s.Format.Text.Compression != "gzip" {
			t.Errorf("%q: %+v, %v", given, s, err)
		}
	}
	_, _, err := create(edit(t, s3, ext+`FileExtension="json"`))
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeValidation {
		t.Errorf("without a dot: error %v", err)
	}
}
