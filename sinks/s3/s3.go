// Package s3 is the sink that writes objects into a bucket of S3 or of a store that speaks its protocol.
//
// A finished object flows in; under its key the bucket holds exactly these bytes when Put returns nil. The
// sink keeps nothing that a crash could lose: every write carries `If-None-Match: *` and the object's identity
// (manifest-id, sha256) as metadata, so whoever puts the object again, in this process or in the next, learns
// that it is there and that it is ours. An answer that got lost is therefore never a question of luck.
//
// Small objects are one PUT; larger ones are a multipart upload, which readers see whole or not at all. What an
// upload leaves behind in the store when it is cut off is found by its exact key and aborted before the next one.
// Bytes are streamed from the object's ReaderAt, and checked on the way: the last of them are held back until
// the checksum is known to be right, so that a damaged object is never stored.
//
// The SDK's own retries are off. One Put is one attempt, and what an error means is in classify.go.
package s3

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"hydrant/sinks"
)

const (
	maxKey = 1024 // bytes of UTF-8
	// singlePut is the largest object that is sent in one request.
	singlePut = 16 << 20
	// smallCall bounds requests that carry no object's bytes.
	smallCall = time.Minute
)

// Values of Options.PathStyle, Options.Checksum and Options.Encryption.
const (
	Auto = "auto"

	PathStyleOn  = "true"
	PathStyleOff = "false"

	WhenRequired = "when_required"
	CRC32        = "crc32"
	CRC32C       = "crc32c"
	CRC64NVME    = "crc64nvme"
	SHA256       = "sha256"
	MD5          = "md5"

	NoEncryption = "none"
	AES256       = "aes256"
	KMS          = "kms"
)

// Options of a Sink.
type Options struct {
	Bucket string // required
	Region string // of the bucket; required without Endpoint, and then "us-east-1" where it is empty
	// Endpoint is the base URL of the store, or "" for AWS.
	Endpoint string
	// STSEndpoint is the base URL of the token service that RoleARN is assumed at, or "" for AWS's.
	STSEndpoint string
	// PathStyle puts the bucket's name into the path and not into the host's name: auto, true or false. Auto
	// (also "") is true on an endpoint of one's own.
	PathStyle string
	// Checksum is what is sent along with the bytes for the store to check: auto, when_required, crc32,
	// crc32c, crc64nvme, sha256 or md5. Auto (also "") is crc64nvme on AWS and when_required on an endpoint
	// of one's own, since older stores refuse headers that they do not know. Whatever it says, the signature
	// of a plain HTTP request covers the bytes.
	Checksum    string
	Credentials Credentials
	// Encryption by the store: none (also ""), aes256 (SSE-S3) or kms (SSE-KMS) with KMSKey.
	Encryption   string
	KMSKey       string // ARN, id or alias; "" with kms is the account's default key
	StorageClass string // "" is the bucket's default
	// Transport sends the requests; nil makes one that fits. Close closes its idle connections.
	Transport http.RoundTripper
	Log       *slog.Logger // nil: discarded
}

// Sink puts objects into a bucket. Safe for concurrent use.
type Sink struct {
	opts Options
	log  *slog.Logger
	http *http.Client
	keys sinks.KeyLock

	// use is held for reading by every call, so that Close waits for them.
	use    sync.RWMutex
	closed bool // guarded by use

	connecting sync.Mutex
	conn       *connection // made at the first call; guarded by connecting
	denials    denials

	single, part int64         // singlePut and minPart; tests use less
	patience     time.Duration // abortCall; tests have less

	// What the store has been seen not to do. Kept for the life of the sink.
	unconditional atomic.Bool // it answers 501 to conditional writes
	noListing     atomic.Bool // uploads cannot be listed
	noHead        atomic.Bool // HEAD is forbidden; only to say so once
}

var _ sinks.Sink = (*Sink)(nil)

// New checks the options and returns a sink. It does no I/O.
func New(o Options) (*Sink, error) {
	if o.Bucket == "" {
		return nil, errors.New("bucket is missing")
	}
	if o.Endpoint != "" {
		if u, err := url.Parse(o.Endpoint); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return nil, fmt.Errorf("endpoint %q is not a URL of the form http://host:port or https://host", o.Endpoint)
		}
		if o.Region == "" {
			o.Region = "us-east-1"
		}
	}
	if o.Region == "" {
		return nil, errors.New("region is missing: the region in which the bucket lies")
	}
	oneOf := func(name string, value *string, values ...string) error {
		if *value == "" {
			*value = values[0]
		}
		for _, v := range values {
			if *value == v {
				return nil
			}
		}
		return fmt.Errorf("%s %q is not one of %s", name, *value, strings.Join(values, ", "))
	}
	if err := errors.Join(
		oneOf("path_style", &o.PathStyle, Auto, PathStyleOn, PathStyleOff),
		oneOf("checksum", &o.Checksum, Auto, WhenRequired, CRC32, CRC32C, CRC64NVME, SHA256, MD5),
		oneOf("encryption", &o.Encryption, NoEncryption, AES256, KMS),
	); err != nil {
		return nil, err
	}
	if o.KMSKey != "" && o.Encryption != KMS {
		return nil, fmt.Errorf("a KMS key is given, and encryption is %q", o.Encryption)
	}
	if o.Credentials.Keys != nil && o.Credentials.Profile != "" {
		return nil, errors.New("credentials: give an access key or a profile, not both")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Transport == nil {
		o.Transport = newTransport()
	}
	return &Sink{opts: o, log: o.Log, single: singlePut, part: minPart, patience: abortCall, http: &http.Client{
		Transport: o.Transport,
		// A redirect says that the region is wrong. Following it would sign for the wrong one.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// ValidateKey accepts what S3 accepts, except for keys with the path components . and .., and NUL: clients and
// other stores take those for something else.
func (s *Sink) ValidateKey(key string) error {
	switch {
	case key == "":
		return errors.New("the object's key is empty")
	case len(key) > maxKey:
		return fmt.Errorf("the object's key has %d bytes, %d are the most: shorten the prefix", len(key), maxKey)
	case !utf8.ValidString(key):
		return fmt.Errorf("the object's key %q is not valid UTF-8", key)
	case strings.ContainsRune(key, 0):
		return fmt.Errorf("the object's key %q has a NUL character", key)
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "." || part == ".." {
			return fmt.Errorf("the object's key %q has the path component %q", key, part)
		}
	}
	return nil
}

// Close waits for calls in flight and closes idle connections.
func (s *Sink) Close() error {
	s.use.Lock()
	defer s.use.Unlock()
	s.closed = true
	s.http.CloseIdleConnections()
	return nil
}

// enter lets a call begin; it must call the function that is returned at its end.
func (s *Sink) enter(ctx context.Context) (*connection, func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	s.use.RLock()
	if s.closed {
		s.use.RUnlock()
		return nil, nil, errors.New("the sink is closed")
	}
	c, err := s.connect(ctx)
	if err != nil {
		s.use.RUnlock()
		return nil, nil, err
	}
	return c, s.use.RUnlock, nil
}

// Put is the contract's.
func (s *Sink) Put(ctx context.Context, o sinks.Object) error {
	if err := s.ValidateKey(o.Key); err != nil {
		return &sinks.Error{Class: sinks.RefusedObject, Code: "InvalidKey", Err: err}
	}
	if err := checkMeta(o); err != nil {
		return &sinks.Error{Class: sinks.RefusedObject, Code: "InvalidMetadata", Err: err}
	}
	conn, leave, err := s.enter(ctx)
	if err != nil {
		return s.classified(ctx, nil, attempt{verb: "put", key: o.Key}, err)
	}
	defer leave()
	unlock, err := s.keys.Lock(ctx, o.Key)
	if err != nil {
		return s.classified(ctx, conn, attempt{verb: "put", key: o.Key}, err)
	}
	defer unlock()
	if o.Size > s.single {
		return s.putParts(ctx, conn, o)
	}
	return s.putWhole(ctx, conn, o)
}

// Verify is the contract's.
func (s *Sink) Verify(ctx context.Context, o sinks.Object) error {
	a := attempt{verb: "look for", key: o.Key}
	if err := s.ValidateKey(o.Key); err != nil {
		return &sinks.Error{Class: sinks.NotStored, Code: "InvalidKey", Err: err}
	}
	conn, leave, err := s.enter(ctx)
	if err != nil {
		e := s.classified(ctx, nil, a, err)
		e.Class = sinks.Unknown
		return e
	}
	defer leave()
	a.creds = conn.keys(ctx)
	found, err := s.look(ctx, conn, o)
	switch found {
	case ours, adopted:
		return nil
	case absent:
		return &sinks.Error{Class: sinks.NotStored, Code: "NotFound", Err: fmt.Errorf("%s: there is no such object, or no such bucket", s.tried(a))}
	case foreign:
		return &sinks.Error{Class: sinks.NotStored, Code: "Foreign", Err: fmt.Errorf("%s: %w", s.tried(a), err)}
	}
	e := s.classified(ctx, conn, a, err)
	e.Class = sinks.Unknown
	return e
}

// putWhole sends an object in one request.
func (s *Sink) putWhole(ctx context.Context, conn *connection, o sinks.Object) error {
	a := attempt{verb: "put", key: o.Key, creds: conn.keys(ctx)}
	if s.unconditional.Load() {
		return s.putUnconditionally(ctx, conn, a, o)
	}
	err := s.putOnce(ctx, conn, o, true)
	switch code := codeOf(err); {
	case err == nil:
		return nil
	case code == codePrecondition:
		return s.settle(ctx, conn, a, o, err)
	case code == codeNotImplemented:
		// It may be the condition that the store does not know, or another header. Which, shows without it.
		if e := s.putUnconditionally(ctx, conn, a, o); e != nil {
			return e
		}
		s.giveUpConditions(err)
		return nil
	}
	return s.classified(ctx, conn, a, err)
}

// putUnconditionally is a put to a store without conditional writes: the same key and the same bytes, so it
// changes nothing where an earlier one was stored. A look comes first, lest a foreign object be replaced.
func (s *Sink) putUnconditionally(ctx context.Context, conn *connection, a attempt, o sinks.Object) error {
	switch found, err := s.look(ctx, conn, o); found {
	case ours, adopted:
		return nil
	case foreign:
		return s.foreign(a, err)
	}
	if err := s.putOnce(ctx, conn, o, false); err != nil {
		return s.classified(ctx, conn, a, err)
	}
	return nil
}

func (s *Sink) giveUpConditions(err error) {
	if s.unconditional.CompareAndSwap(false, true) {
		s.log.Warn("the store does not know conditional writes: objects are looked for before they are put, and somebody else's could be replaced",
			"bucket", s.opts.Bucket, "err", err)
	}
}

// putOnce is one PUT request.
func (s *Sink) putOnce(ctx context.Context, conn *connection, o sinks.Object, conditional bool) error {
	in := &s3.PutObjectInput{
		Bucket: &s.opts.Bucket, Key: &o.Key, ContentLength: &o.Size,
		ContentType: optional(o.ContentType), ContentEncoding: optional(o.ContentEncoding), Metadata: o.Meta,
		StorageClass: types.StorageClass(s.opts.StorageClass), ServerSideEncryption: s.encryption(), SSEKMSKeyId: optional(s.opts.KMSKey),
	}
	if conditional {
		in.IfNoneMatch = aws.String("*")
	}
	sums, err := sumsOf(ctx, conn.checksum, o, section{0, o.Size}, false)
	if err != nil {
		return err
	}
	sums.put(in)
	b := newBody(o, section{0, o.Size}, &o.CRC64NVME)
	defer b.stop()
	if o.Size > 0 {
		in.Body = b
	} else if err := b.checkEmpty(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, deadlineFor(o.Size))
	defer cancel()
	out, err := conn.api.PutObject(ctx, in, withPayloadHash(hex.EncodeToString(o.SHA256[:])))
	if err != nil {
		return b.explain(err)
	}
	if aws.ToString(out.ETag) == "" {
		return errNotAStore
	}
	return nil
}

// errNotAStore is the answer of something that says 200 to everything.
var errNotAStore = errors.New("the answer says 200 and has no ETag: is the endpoint an S3 store?")

// deadlineFor bounds a request that carries n bytes: it must move 32 KiB/s.
func deadlineFor(n int64) time.Duration {
	return 2*smallCall + time.Duration(n>>15)*time.Second
}

// Outcomes of a look at what stands under a key.
type finding uint8

const (
	unclear   finding = iota // no answer, or one that says nothing
	absent                   // nothing is there
	ours                     // this object
	adopted                  // another version of this object: the same manifest, other bytes
	foreign                  // somebody else's
	forbidden                // the store does not let us look
)

// look asks what stands under the object's key. The error says why it is foreign, forbidden or unclear.
func (s *Sink) look(ctx context.Context, conn *connection, o sinks.Object) (finding, error) {
	ctx, cancel := context.WithTimeout(ctx, smallCall)
	defer cancel()
	h, err := conn.api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.opts.Bucket, Key: &o.Key})
	switch status := statusOf(err); {
	case err == nil && aws.ToString(h.ETag) == "":
		return unclear, errNotAStore
	case err == nil:
	case status == http.StatusNotFound:
		return absent, err
	case status == http.StatusForbidden:
		return forbidden, err
	default:
		return unclear, err
	}
	meta := func(name string) string {
		for k, v := range h.Metadata {
			if strings.EqualFold(k, name) {
				return v
			}
		}
		return ""
	}
	id, sum, size := meta(sinks.MetaManifestID), meta(sinks.MetaSHA256), aws.ToInt64(h.ContentLength)
	switch {
	case id == "" || id != o.Meta[sinks.MetaManifestID]:
		return foreign, fmt.Errorf("somebody else's object of %d bytes has this key (its manifest-id is %q)", size, id)
	case !strings.EqualFold(sum, hex.EncodeToString(o.SHA256[:])):
		// Another version of the program, or a copy of the data directory, has made other bytes of the same
		// records. They are delivered; a second object would deliver them twice.
		s.log.Warn("an object of the same manifest with other bytes is there and is taken for this one",
			"bucket", s.opts.Bucket, "key", o.Key, "sha256", sum, "want", hex.EncodeToString(o.SHA256[:]))
		return adopted, nil
	case size != o.Size:
		return foreign, fmt.Errorf("an object that says it is ours has %d bytes and not %d", size, o.Size)
	}
	return ours, nil
}

// drawn matches keys that hold a UUID: nobody else draws ours.
var drawn = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// settle decides what a 412 means.
func (s *Sink) settle(ctx context.Context, conn *connection, a attempt, o sinks.Object, refusal error) error {
	found, err := s.look(ctx, conn, o)
	switch found {
	case ours, adopted:
		return nil
	case foreign:
		return s.foreign(a, err)
	case absent:
		return &sinks.Error{Class: sinks.Unknown, Code: codePrecondition,
			Err: fmt.Errorf("%s: the store says that the key is taken, and that nothing is there: %w", s.tried(a), &told{refusal})}
	case forbidden:
		if drawn.MatchString(o.Key) {
			if s.noHead.CompareAndSwap(false, true) {
				s.log.Warn("an object is there that may not be looked at; its key holds a UUID of ours, so it is taken for this one. Grant s3:GetObject to have it compared",
					"bucket", s.opts.Bucket, "key", o.Key)
			}
			return nil
		}
		return &sinks.Error{Class: sinks.RefusedDestination, Code: "AccessDenied",
			Err: fmt.Errorf("%s: the key is taken, and the store does not say by what: %w: grant s3:GetObject", s.tried(a), &told{err})}
	}
	e := s.classified(ctx, conn, a, err)
	e.Class = sinks.Unknown
	return e
}

func (s *Sink) foreign(a attempt, err error) error {
	return &sinks.Error{Class: sinks.Foreign, Code: "Foreign", Err: fmt.Errorf("%s: %w", s.tried(a), err)}
}

func (s *Sink) encryption() types.ServerSideEncryption {
	switch s.opts.Encryption {
	case AES256:
		return types.ServerSideEncryptionAes256
	case KMS:
		return types.ServerSideEncryptionAwsKms
	}
	return ""
}

// checkMeta refuses metadata that would not arrive as it is.
func checkMeta(o sinks.Object) error {
	total := 0
	for k, v := range o.Meta {
		total += len(k) + len(v)
		for _, c := range []byte(v) {
			if c < 0x20 || c > 0x7e {
				return fmt.Errorf("metadata %s of object %q is %q: only printable ASCII arrives unchanged", k, o.Key, v)
			}
		}
	}
	if total > 2048 {
		return fmt.Errorf("the metadata of object %q has %d bytes, 2048 are the most", o.Key, total)
	}
	return nil
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
