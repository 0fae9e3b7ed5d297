package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"

	"hydrant/e2e/parts"
)

// compressionScript expands an object of any CompressionFormat by libraries that are not ours.
const compressionScript = `
import gzip, struct, sys, zipfile
path, form = sys.argv[1:]
raw = open(path, 'rb').read()
if form == 'GZIP': out = gzip.decompress(raw)
elif form == 'ZIP':
    z = zipfile.ZipFile(path)
    out = z.read(z.namelist()[0])
elif form == 'Snappy':
    import snappy
    assert raw[:8] == b'\x82SNAPPY\x00'
    out, at = b'', 16
    while at < len(raw):
        n, = struct.unpack_from('>i', raw, at)
        out += snappy.uncompress(raw[at + 4:at + 4 + n])
        at += 4 + n
elif form == 'HADOOP_SNAPPY':
    from snappy import hadoop_snappy
    out = hadoop_snappy.StreamDecompressor().decompress(raw)
else: out = raw
sys.stdout.buffer.write(out)
`

// Streams that an SDK creates with each CompressionFormat write the extension, the headers and the bytes that
// Firehose writes; a FileExtension replaces the extension and nothing else, and an empty one does not.
func TestChecklist12And13Compressions(t *testing.T) {
	t.Parallel()
	python := parts.Python(t, "snappy")
	store, d := controlledMinIO(t)
	client := firehoseClient(d.api, 3)
	for _, c := range []struct {
		form                types.CompressionFormat
		given               *string
		extension, encoding string
	}{
		{types.CompressionFormatUncompressed, nil, "", ""},
		{types.CompressionFormatGzip, nil, ".gz", "gzip"},
		{types.CompressionFormatGzip, aws.String(".log"), ".log", "gzip"},
		{types.CompressionFormatZip, aws.String(""), ".zip", "zip"},
		{types.CompressionFormatSnappy, nil, ".snappy", "snappy-java"},
		{types.CompressionFormatHadoopSnappy, nil, ".snappy", "hadoop-snappy"},
	} {
		name := strings.ToLower(string(c.form)) + strings.ReplaceAll(aws.ToString(c.given), ".", "-")
		_, err := client.CreateDeliveryStream(t.Context(), &firehose.CreateDeliveryStreamInput{
			DeliveryStreamName: &name,
			ExtendedS3DestinationConfiguration: &types.ExtendedS3DestinationConfiguration{
				RoleARN: aws.String("arn:aws:iam::123456789012:role/firehose"), BucketARN: aws.String("arn:aws:s3:::lake"),
				Prefix: aws.String(name + "/"), CompressionFormat: c.form, FileExtension: c.given,
			},
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, data := range []string{"abc", "", "abc\n", "abc"} {
			if _, err := client.PutRecord(t.Context(), &firehose.PutRecordInput{DeliveryStreamName: &name, Record: &types.Record{Data: []byte(data)}}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		d.flush(name)
		found := 0
		for o, err := range store.Objects(t, "lake") {
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(o.Key, name+"/") {
				continue
			}
			found++
			if base := filepath.Base(o.Key); !strings.HasPrefix(base, name+"-1-") || filepath.Ext(base) != c.extension {
				t.Errorf("%s: key %s, want extension %q", name, o.Key, c.extension)
			}
			if o.ContentEncoding != c.encoding || o.ContentType != "application/octet-stream" {
				t.Errorf("%s: content type %q and encoding %q, want %q", name, o.ContentType, o.ContentEncoding, c.encoding)
			}
			path := filepath.Join(t.TempDir(), "object")
			if err := os.WriteFile(path, store.Get(t, "lake", o.Key), 0o600); err != nil {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			cmd := exec.CommandContext(t.Context(), python, "-c", compressionScript, path, string(c.form))
			cmd.Stderr = &stderr
			if out, err := cmd.Output(); err != nil || string(out) != "abcabc\nabc" {
				t.Errorf("%s: read %q, %v %s", name, out, err, stderr.Bytes())
			}
		}
		if found != 1 {
			t.Errorf("%s: %d objects", name, found)
		}
	}
	if code := d.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
