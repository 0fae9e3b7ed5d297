package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"
)

// Credentials say as whom to sign: Keys, or a Profile, or else the AWS chain (environment, shared files,
// container, instance). RoleARN is assumed with them.
type Credentials struct {
	// Keys returns an access key, its secret and, for temporary ones, its session token. It is called again
	// when the store says that they are no longer good, so that keys in a file can be replaced in place.
	Keys    func() (id, secret, token string, err error)
	Profile string // of the shared configuration files
	RoleARN string
}

// StaticKeys is Credentials.Keys for keys that do not change.
func StaticKeys(id, secret, token string) func() (string, string, string, error) {
	return func() (string, string, string, error) { return id, secret, token, nil }
}

// api is what the sink calls of the SDK's client. Tests put a store that misbehaves behind it.
type api interface {
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	CreateMultipartUpload(context.Context, *s3.CreateMultipartUploadInput, ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error)
	UploadPart(context.Context, *s3.UploadPartInput, ...func(*s3.Options)) (*s3.UploadPartOutput, error)
	CompleteMultipartUpload(context.Context, *s3.CompleteMultipartUploadInput, ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error)
	AbortMultipartUpload(context.Context, *s3.AbortMultipartUploadInput, ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error)
	ListMultipartUploads(context.Context, *s3.ListMultipartUploadsInput, ...func(*s3.Options)) (*s3.ListMultipartUploadsOutput, error)
}

var _ api = (*s3.Client)(nil)

// connection is a client with what was decided about the store when it was made.
type connection struct {
	api      api
	checksum string // Options.Checksum, with auto resolved
	tls      bool
	creds    *aws.CredentialsCache // nil in tests
}

// credentialsError is a failure to get credentials: the store was not asked.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return "get credentials: " + e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// provider marks the errors of a provider of credentials.
type provider struct{ aws.CredentialsProvider }

func (p provider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := p.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		return c, &credentialsError{err}
	}
	return c, nil
}

func keysProvider(keys func() (string, string, string, error)) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		id, secret, token, err := keys()
		if err == nil && (id == "" || secret == "") {
			err = errors.New("access_key_id or secret_access_key is empty")
		}
		return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret, SessionToken: token, Source: "hydrant"}, err
	})
}

// connect makes the client at the first call: reading shared files is I/O, and they may be corrected meanwhile.
func (s *Sink) connect(ctx context.Context) (*connection, error) {
	s.connecting.Lock()
	defer s.connecting.Unlock()
	if s.conn != nil {
		return s.conn, nil
	}
	o := s.opts
	cfg := aws.Config{Region: o.Region}
	if o.Credentials.Keys != nil {
		cfg.Credentials = keysProvider(o.Credentials.Keys)
	} else {
		load := []func(*config.LoadOptions) error{config.WithRegion(o.Region)}
		if o.Credentials.Profile != "" {
			load = append(load, config.WithSharedConfigProfile(o.Credentials.Profile))
		}
		var err error
		if cfg, err = config.LoadDefaultConfig(ctx, load...); err != nil {
			return nil, &credentialsError{err}
		}
	}
	if err := s.trust(cfg.HTTPClient); err != nil {
		return nil, err
	}
	cfg.HTTPClient = s.http
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	creds := cfg.Credentials
	if o.Credentials.RoleARN != "" {
		client := sts.NewFromConfig(cfg, func(so *sts.Options) {
			if o.STSEndpoint != "" {
				so.BaseEndpoint = aws.String(o.STSEndpoint)
			}
		})
		creds = stscreds.NewAssumeRoleProvider(client, o.Credentials.RoleARN, func(r *stscreds.AssumeRoleOptions) {
			r.RoleSessionName = "hydrant"
		})
	}
	// Temporary credentials are renewed well before they expire: an upload that has begun ends with the old.
	cache := aws.NewCredentialsCache(provider{creds}, func(c *aws.CredentialsCacheOptions) { c.ExpiryWindow = 5 * time.Minute })
	cfg.Credentials = cache

	conn := &connection{creds: cache, checksum: o.Checksum, tls: true}
	conn.api = s3.NewFromConfig(cfg, func(so *s3.Options) {
		if o.Endpoint != "" {
			so.BaseEndpoint = aws.String(o.Endpoint)
		}
		custom := so.BaseEndpoint != nil // also from the environment or a profile
		if conn.checksum == Auto {
			conn.checksum = CRC64NVME
			if custom {
				conn.checksum = WhenRequired
			}
		}
		conn.tls = !custom || strings.HasPrefix(*so.BaseEndpoint, "https:")
		so.UsePathStyle = o.PathStyle == PathStyleOn || o.PathStyle == Auto && custom
		// The checksums are ours to give: those of the SDK are computed in another pass, and break older stores.
		so.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		so.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		so.DisableLogOutputChecksumValidationSkipped = true
		so.APIOptions = append(so.APIOptions, awsmiddleware.AddUserAgentKey("hydrant"))
	})
	s.conn = conn
	return conn, nil
}

// trust makes our transport trust the authorities that the environment (AWS_CA_BUNDLE) or a profile names, as
// AWS's own programs do. loaded is the client of a loaded configuration, or nil. No request has been made yet.
func (s *Sink) trust(loaded aws.HTTPClient) error {
	own, ok := s.opts.Transport.(*http.Transport)
	if !ok || own.TLSClientConfig == nil || own.TLSClientConfig.RootCAs != nil || own.TLSClientConfig.InsecureSkipVerify {
		return nil
	}
	if c, ok := loaded.(*awshttp.BuildableClient); ok {
		if t := c.GetTransport(); t.TLSClientConfig != nil {
			own.TLSClientConfig.RootCAs = t.TLSClientConfig.RootCAs
		}
		return nil
	}
	file := os.Getenv("AWS_CA_BUNDLE")
	if file == "" {
		return nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return &bundleError{fmt.Errorf("read AWS_CA_BUNDLE: %w", err)}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return &bundleError{fmt.Errorf("AWS_CA_BUNDLE %q holds no certificate", file)}
	}
	own.TLSClientConfig.RootCAs = pool
	return nil
}

// bundleError is a failure to learn whom to trust.
type bundleError struct{ err error }

func (e *bundleError) Error() string { return e.err.Error() }
func (e *bundleError) Unwrap() error { return e.err }

// keys are the credentials that a call begins with.
func (c *connection) keys(ctx context.Context) aws.Credentials {
	if c.creds == nil {
		return aws.Credentials{}
	}
	k, _ := c.creds.Retrieve(ctx) // a failure is the call's own
	return k
}

// renewEvery is how often credentials are got anew at most where that is known not to help.
const renewEvery = time.Minute

// denials is what the sink has learnt about refusals for want of rights. Guarded by connecting.
type denials struct {
	renewed  aws.Credentials // that came in place of some that were denied
	at       time.Time
	hopeless bool // these were denied too
}

// renew gets other credentials than those which a call was refused with, and tells whether there are any that
// may fare better. A role has new ones for whoever asks, with the same rights: once such were denied as well, a
// denial is about the rights. They are renewed all the same, now and then, as keys in a file can be corrected.
func (s *Sink) renew(ctx context.Context, conn *connection, refused aws.Credentials, denied bool) bool {
	if conn.creds == nil {
		return false
	}
	differ := func() bool {
		now, err := conn.creds.Retrieve(ctx)
		if err != nil || same(now, refused) {
			return false
		}
		if now.AccessKeyID == refused.AccessKeyID && now.SecretAccessKey != refused.SecretAccessKey {
			// The SDK's signer remembers what it derived from a secret by the key's id alone.
			s.connecting.Lock()
			if s.conn == conn {
				s.conn = nil
			}
			s.connecting.Unlock()
		}
		return true
	}
	s.connecting.Lock()
	d := &s.denials
	d.hopeless = d.hopeless || denied && same(d.renewed, refused)
	hopeless := denied && d.hopeless
	wait := hopeless && time.Since(d.at) < renewEvery
	s.connecting.Unlock()
	other := differ() // another call has renewed them
	if !other && !wait {
		conn.creds.Invalidate()
		other = differ()
	}
	if denied && other {
		now, _ := conn.creds.Retrieve(ctx)
		s.connecting.Lock()
		if !same(d.renewed, now) {
			d.renewed, d.at = now, time.Now()
		}
		s.connecting.Unlock()
	}
	return other && !hopeless
}

// same tells whether two sets of credentials are one.
func same(a, b aws.Credentials) bool {
	return a.AccessKeyID == b.AccessKeyID && a.SecretAccessKey == b.SecretAccessKey && a.SessionToken == b.SessionToken
}

// withPayloadHash gives the signer the SHA-256 of the body, so that it does not read the body to compute it.
// "" leaves it to the SDK: it reads the body, or over TLS leaves it unsigned.
func withPayloadHash(hash string) func(*s3.Options) {
	return func(o *s3.Options) {
		if hash == "" {
			return
		}
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("HydrantPayloadHash",
				func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
					return next.HandleInitialize(v4.SetPayloadHash(ctx, hash), in)
				}), middleware.Before)
		})
	}
}

const (
	dialTimeout = 10 * time.Second
	// stallTimeout is how long the network may take no bytes of a request at all.
	stallTimeout = time.Minute
	// answerTimeout is how long a store may think about a request that it has whole.
	answerTimeout = 5 * time.Minute
)

// newTransport makes connections on which nothing waits for ever.
func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	var protocols http.Protocols
	protocols.SetHTTP1(true) // uploads at a time want connections of their own
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return stallingConn{c, stallTimeout}, nil
		},
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: answerTimeout,
		ExpectContinueTimeout: time.Second,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
		WriteBufferSize:       64 << 10,
		Protocols:             &protocols,
	}
}

// stallingConn gives up when the peer takes nothing for a while.
type stallingConn struct {
	net.Conn
	limit time.Duration
}

func (c stallingConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		err = fmt.Errorf("the store takes no bytes for %v: %w", c.limit, err)
	}
	return n, err
}
