package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// HTTPDestination sends requests to an endpoint of Amazon Data Firehose's HTTP delivery protocol, or plain JSON.
type HTTPDestination struct {
	// URL that requests are posted to, exactly as it stands here. It is no place for a secret: it is kept in data_dir and shown
	// in descriptions.
	URL string `key:"url" required:"true" expect:"an http or https URL"`
	// What is posted: `firehose` is the protocol of Firehose's HTTP endpoint destination, `ndjson` records with a newline
	// after each, `json_array` one JSON array of all records. See docs/http-destination.md.
	Body string `key:"body" default:"firehose" enum:"firehose|ndjson|json_array"`
	// Key that the endpoint knows the stream by, sent as X-Amz-Firehose-Access-Key; with `body: firehose` only.
	AccessKey Secret `key:"access_key"`
	// Headers to send with each request, such as Authorization. The values are kept as secrets are, and with `_file` at
	// the end of its name a header's value is read from a file.
	Headers Headers `key:"headers"`
	// Compression of bodies.
	ContentEncoding string `key:"content_encoding" default:"gzip" enum:"gzip|none"`
	// Attributes that the endpoint gets with each request, up to 50; with `body: firehose` only.
	CommonAttributes map[string]string `key:"common_attributes"`
	// Time that one request may take, with its answer.
	Timeout Duration `key:"timeout" default:"180s" min:"1s" max:"10m"`
	// Requests that may be under way at a time. With 1 they arrive in the order of the records.
	MaxInFlight Count `key:"max_in_flight" default:"1" min:"1" max:"64"`
	// Authorities and certificates other than the system's.
	TLS ClientTLS `key:"tls"`
	// How long a request is tried before its records go to the backup; `0s` is one attempt, and `forever` never gives up.
	RetryDuration RetryTime `key:"retry_duration" default:"300s"`
}

// ClientTLS is what a client shows and trusts. Files that change are read again without a restart.
type ClientTLS struct {
	// File of the authorities of the server's certificate, in PEM, in place of the system's.
	CAFile string `key:"ca_file" default:""`
	// File of the certificate to show to the server, in PEM.
	CertFile string `key:"cert_file" default:""`
	// File of its key, in PEM.
	KeyFile string `key:"key_file" default:""`
}

// Backup is where what could not be delivered goes, and all source records where they are kept as well.
type Backup struct {
	// What goes there: `failed` is records that could not be delivered, each with the reason; `all` is every source record
	// too, untouched, one behind the other as they came, under `prefix`.
	Mode string `key:"mode" default:"failed" enum:"failed|all"`
	// Objects in a bucket of S3 or a compatible store.
	S3 *S3Destination `key:"s3"`
	// Files under a directory.
	File *FileDestination `key:"file"`
	// Compression of its objects.
	Compression string `key:"compression" default:"gzip" enum:"none|gzip|zip|snappy|hadoop_snappy|zstd"`
	// When source records that wait for the backup are cut into objects, whatever becomes of them elsewhere: with `mode: all`
	// only.
	Buffer *BackupBuffer `key:"buffer"`
	// Where records go that could not be delivered: to the `backup`, or with `mode: all` to the `destination`, under its
	// `error_output_prefix`, as Firehose does it.
	ErrorOutput string `key:"error_output" default:"backup" enum:"backup|destination" spec:"changed"`
}

// BackupBuffer says when source records are cut into objects of a backup.
type BackupBuffer struct {
	// Bytes of records that make an object, before compression.
	Size Bytes `key:"size" default:"5MiB" min:"1KiB" max:"5GiB"`
	// Time that the oldest waiting record waits at most. `0s` writes as soon as records are there, gathered over a tenth of
	// a second.
	Interval Duration `key:"interval" default:"300s" min:"0s" max:"24h"`
}

// Values of Backup.Mode and of Backup.ErrorOutput.
const (
	BackupFailed = "failed"
	BackupAll    = "all"

	ErrorsToBackup      = "backup"
	ErrorsToDestination = "destination"
)

// KeepsAll tells whether all source records of the stream go to its backup.
func (s *Stream) KeepsAll() bool { return s.Backup != nil && s.Backup.Mode == BackupAll }

// RetryTime is how long a destination that has a backup is tried: 0 is one attempt, Forever has no end.
type RetryTime Duration

// Forever is the RetryTime of a destination that is never given up.
const Forever RetryTime = -1

// maxRetryTime bounds a RetryTime.
const maxRetryTime = RetryTime(30 * 24 * time.Hour)

func (r *RetryTime) decode(d *decoder, n *node, path string) {
	*r = 0
	if !d.wantScalar(n, path, "a duration or "+forever) {
		return
	}
	if n.text == forever {
		*r = Forever
		return
	}
	t, err := ParseDuration(n.text)
	switch {
	case err != nil:
		d.fault(n, path, "is neither a duration nor "+forever, err.Error())
	case RetryTime(t) > maxRetryTime && !d.spec:
		d.fault(n, path, "is above the most, "+Duration(maxRetryTime).String(), "write "+forever+" for no end")
	default:
		*r = RetryTime(t)
	}
}

func (r RetryTime) encode() any {
	if r == Forever {
		return forever
	}
	return Duration(r).String()
}

// Headers are the headers of a request, in the order of the file.
type Headers []Header

// Header is one of them. Its value is kept as a secret is.
type Header struct {
	Name  string
	Value Secret
}

// headerName is a token of HTTP.
var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$")

func (h *Headers) decode(d *decoder, n *node, path string) {
	*h = nil
	if n.kind != mapping {
		n = &node{kind: n.kind, pos: n.pos} // it may be a secret
		d.fault(n, path, fmt.Sprintf("wants a mapping of texts, not %s", n.kind), "write it like { Authorization: \"Bearer ${TOKEN}\" }")
		return
	}
	seen := map[string]bool{}
	for _, e := range n.entries {
		at := child(path, e.key)
		d.at(at, e.value)
		name, fromFile := strings.CutSuffix(e.key, "_file")
		here := &node{pos: e.pos}
		if e.value.kind != scalar {
			d.fault(here, at, fmt.Sprintf("wants a text, not %s", e.value.kind), "")
			continue
		}
		key := strings.ToLower(name)
		switch {
		case !headerName.MatchString(name):
			d.fault(here, at, "is not a header's name", "")
			continue
		case seen[key]:
			d.fault(here, at, "is given twice", "keep one")
			continue
		}
		seen[key] = true
		var value Secret
		switch {
		case d.spec:
			value = Secret{set: true, gone: true}
		case fromFile:
			value = SecretFile(e.value.text)
			if text, err := value.Value(); err != nil {
				d.fault(e.value, at, err.Error(), "the file must exist and be readable")
			} else if strings.ContainsAny(text, "\r\n\x00") {
				d.fault(e.value, at, "holds a text of several lines, which no header can have", "")
			}
		default:
			value = NewSecret(e.value.text)
			if strings.ContainsAny(e.value.text, "\r\n\x00") {
				d.fault(here, at, "has a value of several lines, which no header can have", "")
			}
		}
		*h = append(*h, Header{name, value})
	}
}

func (h Headers) encode() any {
	if h == nil {
		return nil
	}
	out := object{}
	for _, x := range h {
		out = append(out, member{x.Name, "configured"})
	}
	return out
}

// Limits of the HTTP endpoint protocol, which are Firehose's.
const (
	// MaxHTTPBody is the most bytes of a request's body before compression.
	MaxHTTPBody        = 64 * MiB
	maxAttributes      = 50
	maxAttributeName   = 256
	maxAttributeValue  = 1024
	maxAccessKeyLength = 4096
)

// http checks an HTTP destination and what of its stream depends on it.
func (d *decoder) http(s *Stream, path string) {
	h, at := s.Destination.HTTP, child(path, "destination.http")
	d.httpURL(h.URL, child(at, "url"), giveHeader)
	if text, err := h.AccessKey.Value(); err == nil && len(text) > maxAccessKeyLength {
		d.faultAt(child(at, "access_key"), "", fmt.Sprintf("has %d bytes", len(text)), fmt.Sprintf("at most %d", maxAccessKeyLength))
	}
	if h.Body != "firehose" {
		if h.AccessKey.IsSet() {
			d.faultAt(child(at, "access_key"), "", "is of body firehose, and body is "+h.Body, "give the endpoint's own header in headers")
		}
		if len(h.CommonAttributes) > 0 {
			d.faultAt(child(at, "common_attributes"), "", "is of body firehose, and body is "+h.Body, "give headers")
		}
	}
	for _, x := range h.Headers {
		name := strings.ToLower(x.Name)
		switch {
		case strings.HasPrefix(name, "x-amz-firehose-"),
			name == "host", name == "content-length", name == "content-encoding", name == "transfer-encoding", name == "connection",
			name == "content-type" && h.Body == "firehose":
			d.faultAt(child(at, "headers."+x.Name), "", "is a header that every request gets by itself", "take it out")
		}
	}
	if n := len(h.CommonAttributes); n > maxAttributes {
		d.faultAt(child(at, "common_attributes"), "", fmt.Sprintf("has %d attributes", n), fmt.Sprintf("at most %d", maxAttributes))
	}
	for k, v := range h.CommonAttributes {
		if len(k) > maxAttributeName || strings.TrimSpace(k) == "" || len(v) > maxAttributeValue {
			d.faultAt(child(at, "common_attributes."+k), "", fmt.Sprintf("has a name of %d and a value of %d bytes", len(k), len(v)),
				fmt.Sprintf("names have 1 to %d bytes and are not blank, values up to %d", maxAttributeName, maxAttributeValue))
		}
	}
	if (h.TLS.CertFile == "") != (h.TLS.KeyFile == "") {
		d.faultAt(child(at, "tls"), "", "has only one of cert_file and key_file", "give both or neither")
	}
	if s.Backup == nil {
		d.faultAt(child(path, "backup"), "", "is required with an http destination", "say where records go that cannot be delivered: backup: { file: { path: DIR } } or { s3: { bucket: B } }")
	}
	if s.Format.Parquet != nil {
		d.faultAt(child(path, "format.parquet"), "", "cannot be posted to an http destination", "take format out; body says what is posted")
	}
	if t := s.Format.Text; t != nil && (t.Delimiter != "none" || t.Compression != "none") {
		d.faultAt(child(path, "format.text"), "", "has settings, and an http destination takes none of them", "take format out; body and content_encoding say what is posted")
	}
	for _, size := range []struct {
		key string
		is  Bytes
	}{{"buffer.size", s.Buffer.Size}, {"buffer.file_size", s.Buffer.FileSize}} {
		if size.is > MaxHTTPBody && s.Format.Parquet == nil {
			d.faultAt(child(path, size.key), size.is.String(), "is more than a request takes", "at most "+MaxHTTPBody.String()+" with an http destination")
		}
	}
}

// giveHeader says where a login goes that does not belong into a URL.
const giveHeader = "give headers: { Authorization: \"Basic ...\" }"

// httpURL checks a URL. login says where a user and a password go instead.
func (d *decoder) httpURL(text, path, login string) {
	if text == "" {
		return // it has that fault already
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		if strings.Contains(text, "@") { // a password may stand before it
			text = Redacted
		}
		d.faultAt(path, text, "is not a URL", "write it like https://host/path")
	case u.User != nil:
		d.faultAt(path, Redacted, "has a user or a password in it", login)
	case u.Fragment != "":
		d.faultAt(path, text, "has a fragment in it", "take out what stands after #")
	}
}

// backup checks a stream's backup and makes it what the stream's error output is.
func (d *decoder) backup(c *Config, s *Stream, path string) {
	b, at := s.Backup, child(path, "backup")
	switch {
	case b.S3 != nil && b.File != nil:
		d.faultAt(at, "", "takes exactly one of s3 or file, and has both", "keep one")
	case b.S3 == nil && b.File == nil:
		d.faultAt(at, "", "wants exactly one of s3 or file", "")
	}
	switch {
	case b.Mode == BackupAll && b.Buffer == nil:
		b.Buffer = &BackupBuffer{Size: DefaultSize, Interval: DefaultBackupInterval}
	case b.Mode == BackupFailed && b.Buffer != nil:
		d.faultAt(child(at, "buffer"), "", "is for source records, of which mode: failed keeps none", "write mode: all, or take it out")
	}
	if b.ErrorOutput == ErrorsToDestination {
		switch {
		case s.Destination.HTTP != nil:
			d.faultAt(child(at, "error_output"), b.ErrorOutput, "is an http endpoint, which has none", "leave it out")
		case b.Mode != BackupAll:
			d.faultAt(child(at, "error_output"), b.ErrorOutput, "leaves nothing to a backup with mode: failed", "write mode: all, or take the backup out")
		}
	}
	if b.S3 != nil {
		d.s3(c, b.S3, child(at, "s3"))
	}
	if b.File != nil && b.File.Path != "" {
		d.filePath(c, b.File, child(at, "file.path"))
	}
	for _, kind := range []string{"file", "s3", "redshift.staging.s3"} {
		if b.ErrorOutput == ErrorsToDestination {
			break
		}
		own := child(path, "destination."+kind+".error_output_prefix")
		if _, given := d.places[own]; given {
			d.faultAt(own, "", "is given although the stream has a backup, which all error output goes to", "give it below backup")
		}
	}
}

// sameEndpoint tells whether h takes the place of o, so that its secrets are those to use.
func (h *HTTPDestination) sameEndpoint(o *HTTPDestination) bool { return o != nil && h.URL == o.URL }

// takeSecrets gives h those of the present configuration for the same endpoint.
func (h *HTTPDestination) takeSecrets(stream string, present *HTTPDestination) error {
	needs := h.AccessKey.IsSet() || len(h.Headers) > 0
	switch {
	case h.sameEndpoint(present):
		h.AccessKey, h.Headers, h.TLS = present.AccessKey, present.Headers, present.TLS
	case needs:
		return fmt.Errorf("stream %q has undelivered records for another http endpoint, and its key and headers are no longer in the configuration: put the endpoint back until they are delivered", stream)
	}
	return nil
}
