package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc64"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"hydrant/sinks"
)

const (
	// A signature is refused when it is 15 minutes old; long before that a clock is wrong.
	skewWarning = time.Minute
	skewFailed  = 15 * time.Minute
)

// prober is what a probe calls beside what the sink does.
type prober interface {
	HeadBucket(context.Context, *s3.HeadBucketInput, ...func(*s3.Options)) (*s3.HeadBucketOutput, error)
	DeleteObject(context.Context, *s3.DeleteObjectInput, ...func(*s3.Options)) (*s3.DeleteObjectOutput, error)
}

var (
	_ sinks.Prober = (*Sink)(nil)
	_ prober       = (*s3.Client)(nil)
)

// Probe asks for the bucket, and stores, looks at and deletes objects.
func (s *Sink) Probe(ctx context.Context, prefix string) (out []sinks.Finding) {
	add := func(check string, level sinks.Level, key, remedy, format string, args ...any) {
		out = append(out, sinks.Finding{Check: check, Level: level, Found: fmt.Sprintf(format, args...), Key: key, Remedy: remedy})
	}
	conn, err := s.connect(ctx)
	if err != nil {
		add("credentials", sinks.Failed, "credentials", "give credentials that can be read", "%v", err)
		return out
	}
	if conn.creds != nil {
		k, err := conn.creds.Retrieve(ctx)
		if err != nil {
			add("credentials", sinks.Failed, "credentials", "set access_key_id and secret_access_key, a profile, or what the AWS chain looks at", "%v", err)
			return out
		}
		source, until := k.Source, ""
		if source == "hydrant" {
			source = "the configuration"
		}
		if k.CanExpire {
			until = ", good until " + k.Expires.UTC().Format(time.RFC3339)
		}
		add("credentials", sinks.OK, "", "", "from %s%s", source, until)
	}
	client, ok := conn.api.(prober)
	if !ok {
		return out
	}
	head, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.opts.Bucket})
	switch code := codeOf(err); {
	case err == nil:
		region := aws.ToString(head.BucketRegion)
		add("bucket", sinks.OK, "", "", "%s is there%s", s.opts.Bucket, map[bool]string{true: ", in " + region}[region != ""])
		if region != "" && region != s.opts.Region {
			add("region", sinks.Warning, "region", "write "+region, "the bucket is in %s, requests are signed for %s", region, s.opts.Region)
		}
		if now, ok := awsmiddleware.GetServerTime(head.ResultMetadata); ok {
			skew := time.Since(now).Round(time.Second)
			level, remedy := sinks.OK, ""
			if skew.Abs() >= skewFailed {
				level, remedy = sinks.Failed, "set this machine's clock: signatures are refused"
			} else if skew.Abs() >= skewWarning {
				level, remedy = sinks.Warning, "set this machine's clock"
			}
			add("clock", level, "", remedy, "%v off the store's", skew)
		}
	case code == "Forbidden" || code == codeDenied || code == "403":
		add("bucket", sinks.Warning, "", "grant s3:ListBucket, or leave it", "may not be looked at: %s", code)
	default:
		key, remedy := "endpoint", "correct the endpoint, let the network pass, or name the authority to trust in AWS_CA_BUNDLE"
		if code != "" {
			key, remedy = "bucket", "create the bucket, or correct its name, region or endpoint"
		}
		add("bucket", sinks.Failed, key, remedy, "%v", s.classified(ctx, conn, attempt{verb: "look at"}, err))
		return out
	}
	objects := s.probeObjects(ctx, conn, client, prefix)
	if out = append(out, objects...); objects[0].Level == sinks.Failed {
		return out
	}
	return append(out, s.probeModes(ctx, client, prefix)...)
}

// probeObject is an object that nobody has.
func probeObject(prefix string, content string) sinks.Object {
	var id [16]byte
	rand.Read(id[:]) // never fails
	body := []byte(content)
	sum := sha256.Sum256(body)
	return sinks.Object{
		Key: prefix + "hydrant-probe-" + hex.EncodeToString(id[:]), Size: int64(len(body)), SHA256: sum,
		CRC64NVME: crc64.Checksum(body, crc64.MakeTable(sinks.CRC64NVME)), ContentType: "application/octet-stream",
		Meta:     map[string]string{sinks.MetaManifestID: hex.EncodeToString(id[:]), sinks.MetaSHA256: hex.EncodeToString(sum[:])},
		ReaderAt: bytes.NewReader(body),
	}
}

// probeObjects does what deliveries do.
func (s *Sink) probeObjects(ctx context.Context, conn *connection, client prober, prefix string) (out []sinks.Finding) {
	add := func(check string, level sinks.Level, key, remedy, format string, args ...any) {
		out = append(out, sinks.Finding{Check: check, Level: level, Found: fmt.Sprintf(format, args...), Key: key, Remedy: remedy})
	}
	o := probeObject(prefix, "hydrant doctor stored this, and takes it away again\n")
	if err := s.Put(ctx, o); err != nil {
		add("put", sinks.Failed, "credentials", "", "%v", err) // which says what to do
		return out
	}
	add("put", sinks.OK, "", "", "stored under %q", prefix)
	defer func() {
		if _, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.opts.Bucket, Key: &o.Key}); err != nil {
			add("delete", sinks.Warning, "", "delete it yourself; deliveries need no right to delete", "%s stays: %s", o.Key, s.word(ctx, conn, err))
		}
	}()
	switch _, err := conn.api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.opts.Bucket, Key: &o.Key}); {
	case err != nil:
		add("head", sinks.Warning, "", "grant s3:GetObject under the prefix: without it nobody can tell whether an object whose answer was lost is ours", "%s", s.word(ctx, conn, err))
	default:
		add("head", sinks.OK, "", "", "objects can be looked at")
	}
	// The same key with other bytes must be refused.
	_, err := conn.api.PutObject(ctx, &s3.PutObjectInput{Bucket: &s.opts.Bucket, Key: &o.Key, Body: strings.NewReader("other"), IfNoneMatch: aws.String("*")})
	switch {
	case codeOf(err) == codePrecondition:
		add("conditional put", sinks.OK, "", "", "If-None-Match is honoured")
	case err == nil:
		add("conditional put", sinks.Warning, "", "keep others from writing under the prefix, or use a newer store", "If-None-Match is ignored: an object of somebody else under the same key would be overwritten")
	case s.unconditional.Load() || codeOf(err) == codeNotImplemented:
		add("conditional put", sinks.Warning, "", "keep others from writing under the prefix, or use a newer store", "If-None-Match is not known here; objects are looked for before they are put")
	default:
		add("conditional put", sinks.Warning, "", "", "%s", s.word(ctx, conn, err))
	}
	key := o.Key + "-parts"
	up, err := conn.api.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &s.opts.Bucket, Key: &key})
	if err != nil {
		add("multipart", sinks.Failed, "", fmt.Sprintf("allow multipart uploads: objects above %d MiB are sent in parts", s.single>>20), "%s", s.word(ctx, conn, err))
		return out
	}
	part, number := "part", int32(1)
	_, err = conn.api.UploadPart(ctx, &s3.UploadPartInput{Bucket: &s.opts.Bucket, Key: &key, UploadId: up.UploadId, PartNumber: &number, Body: strings.NewReader(part)})
	if err != nil {
		add("multipart", sinks.Failed, "", "allow uploads of parts", "%s", s.word(ctx, conn, err))
	} else {
		add("multipart", sinks.OK, "", "", "parts are taken")
	}
	if _, err := conn.api.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &s.opts.Bucket, Prefix: &key}); err != nil {
		add("list uploads", sinks.Warning, "", "grant s3:ListBucketMultipartUploads, or let a lifecycle rule abort uploads that were left behind", "%s", s.word(ctx, conn, err))
	}
	if _, err := conn.api.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.opts.Bucket, Key: &key, UploadId: up.UploadId}); err != nil {
		add("abort", sinks.Warning, "", "grant s3:AbortMultipartUpload, or let a lifecycle rule abort uploads that were left behind", "upload %s of %s stays: %s", aws.ToString(up.UploadId), key, s.word(ctx, conn, err))
	} else {
		add("abort", sinks.OK, "", "", "uploads can be aborted")
	}
	return out
}

// word is what an error says, without the SDK's detail.
func (s *Sink) word(ctx context.Context, conn *connection, err error) string {
	return s.classified(ctx, conn, attempt{verb: "probe"}, err).Error()
}

// probeModes tries the checksums and the places of the bucket's name that were not configured.
func (s *Sink) probeModes(ctx context.Context, client prober, prefix string) (out []sinks.Finding) {
	works := func(change func(*Options)) bool {
		o := s.opts
		change(&o)
		o.Transport = newTransport()
		other, err := New(o)
		if err != nil {
			return false
		}
		defer other.Close()
		object := probeObject(prefix, "hydrant doctor tries a mode\n")
		defer client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.opts.Bucket, Key: &object.Key}) // it was told where that is denied
		return other.Put(ctx, object) == nil
	}
	list := func(check, key, now string, values []string, change func(*Options, string)) {
		var good []string
		for _, v := range values {
			if works(func(o *Options) { change(o, v) }) {
				good = append(good, v)
			}
		}
		out = append(out, sinks.Finding{Check: check, Level: sinks.OK, Found: fmt.Sprintf("%s is configured; %s work", now, strings.Join(good, ", ")), Key: key})
	}
	list("checksums", "checksum", s.opts.Checksum, []string{WhenRequired, CRC64NVME, CRC32C, CRC32, SHA256, MD5}, func(o *Options, v string) { o.Checksum = v })
	list("path style", "path_style", s.opts.PathStyle, []string{PathStyleOn, PathStyleOff}, func(o *Options, v string) { o.PathStyle = v })
	return out
}
