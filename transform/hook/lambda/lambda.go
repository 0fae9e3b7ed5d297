// Package lambda calls a function of AWS Lambda, or of a service that speaks Lambda's API.
//
// A request flows in and is the payload of one Invoke; what flows out is the payload of its answer, or an error with
// Firehose's code. The SDK's retries are off: the hook makes them, with an invocation id each. Nothing is kept.
package lambda

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"hydrant/transform/hook"
)

// Options of a Carrier.
type Options struct {
	// FunctionName is a name (name, name:alias), a partial or a whole ARN.
	FunctionName string
	Region       string // "": that of the ARN, or else of the environment or the profile
	Endpoint     string // "": AWS's

	// Keys returns an access key, its secret and, for temporary ones, its session token. Where it is nil, Profile of the
	// shared files is used, or else AWS's chain. RoleARN is assumed with them.
	Keys        func() (id, secret, token string, err error)
	Profile     string
	RoleARN     string
	STSEndpoint string

	// AccountID makes an ARN of a name, for error records; "": the name stands alone there.
	AccountID string

	Concurrency int         // connections that are kept; 0: hook.DefaultConcurrency
	TLS         *tls.Config // nil: TLS 1.2 or later, the system's authorities
}

// Carrier is a hook.Carrier. It is safe for concurrent use.
type Carrier struct {
	o         Options
	function  string
	transport *http.Transport

	connecting sync.Mutex
	client     *lambda.Client // guarded by connecting; nil until the first call
}

var _ hook.Carrier = (*Carrier)(nil)

// named are the forms of a function's name: in turn ARN up to the account, region, account, and the name with its qualifier.
var named = regexp.MustCompile(`^(?:(?:arn:(aws[a-zA-Z-]*):lambda:([a-z]{2}(?:-[a-z]+)+-\d):)?(?:(\d{12}):)?function:|)([a-zA-Z0-9-_]{1,140}(?::(?:\$LATEST|[a-zA-Z0-9-_]{1,128}))?)$`)

// New checks the options. Nothing is sent.
func New(o Options) (*Carrier, error) {
	m := named.FindStringSubmatch(o.FunctionName)
	if m == nil || m[1] != "" && m[3] == "" {
		return nil, fmt.Errorf("function: %q is neither the name nor the ARN of a Lambda function", o.FunctionName)
	}
	if m[2] != "" && o.Region == "" {
		o.Region = m[2]
	}
	for _, e := range []struct{ name, value string }{{"endpoint", o.Endpoint}, {"sts endpoint", o.STSEndpoint}} {
		if u, err := url.Parse(e.value); e.value != "" && (err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https") {
			return nil, fmt.Errorf("%s: it is not a URL that begins with http:// or https://", e.name)
		}
	}
	concurrency := o.Concurrency
	if concurrency == 0 {
		concurrency = hook.DefaultConcurrency
	}
	return &Carrier{o: o, function: shown(o, m), transport: hook.NewTransport(concurrency, o.TLS)}, nil
}

// shown is the ARN that error records have, with a qualifier as Firehose's have.
func shown(o Options, m []string) string {
	partition, account, name := m[1], m[3], m[4]
	if partition == "" {
		partition = "aws"
	}
	if account == "" {
		account = o.AccountID
	}
	if account == "" || o.Region == "" {
		return o.FunctionName
	}
	if !strings.Contains(name, ":") {
		name += ":$LATEST"
	}
	return fmt.Sprintf("arn:%s:lambda:%s:%s:function:%s", partition, o.Region, account, name)
}

// Function is the function's ARN, or its name where the account or the region is not known.
func (c *Carrier) Function() string { return c.function }

// Close closes the connections that no call uses.
func (c *Carrier) Close() { c.transport.CloseIdleConnections() }

// connect makes the client at the first call: reading shared files is I/O, and they may be corrected meanwhile.
func (c *Carrier) connect(ctx context.Context) (*lambda.Client, error) {
	c.connecting.Lock()
	defer c.connecting.Unlock()
	if c.client != nil {
		return c.client, nil
	}
	o := c.o
	cfg := aws.Config{Region: o.Region}
	if o.Keys != nil {
		cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			id, secret, token, err := o.Keys()
			if err == nil && (id == "" || secret == "") {
				err = errors.New("access_key_id or secret_access_key is empty")
			}
			return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret, SessionToken: token, Source: "hydrant"}, err
		})
	} else {
		load := []func(*config.LoadOptions) error{}
		if o.Region != "" {
			load = append(load, config.WithRegion(o.Region))
		}
		if o.Profile != "" {
			load = append(load, config.WithSharedConfigProfile(o.Profile))
		}
		var err error
		if cfg, err = config.LoadDefaultConfig(ctx, load...); err != nil {
			return nil, fmt.Errorf("get credentials: %w", err)
		}
	}
	if loaded, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok && c.o.TLS == nil {
		// The authorities that the environment (AWS_CA_BUNDLE) or a profile names.
		if t := loaded.GetTransport(); t.TLSClientConfig != nil {
			c.transport.TLSClientConfig.RootCAs = t.TLSClientConfig.RootCAs
		}
	}
	cfg.HTTPClient = &http.Client{
		Transport:     hook.Bounded{Next: c.transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	if o.RoleARN != "" {
		client := sts.NewFromConfig(cfg, func(so *sts.Options) {
			if o.STSEndpoint != "" {
				so.BaseEndpoint = aws.String(o.STSEndpoint)
			}
		})
		cfg.Credentials = assumed{stscreds.NewAssumeRoleProvider(client, o.RoleARN, func(r *stscreds.AssumeRoleOptions) {
			r.RoleSessionName = "hydrant"
		})}
	}
	cfg.Credentials = aws.NewCredentialsCache(cfg.Credentials, func(c *aws.CredentialsCacheOptions) { c.ExpiryWindow = 5 * time.Minute })
	c.client = lambda.NewFromConfig(cfg, func(lo *lambda.Options) {
		if o.Endpoint != "" {
			lo.BaseEndpoint = aws.String(o.Endpoint)
		}
		lo.APIOptions = append(lo.APIOptions, awsmiddleware.AddUserAgentKey("hydrant"))
	})
	return c.client, nil
}

// assumed marks the errors of assuming a role.
type assumed struct{ aws.CredentialsProvider }

func (a assumed) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := a.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		err = &hook.Error{Code: hook.CodeAssumeRole, Err: err}
	}
	return c, err
}

// Invoke calls the function once and waits for its answer.
func (c *Carrier) Invoke(ctx context.Context, request, _ []byte) ([]byte, error) {
	client, err := c.connect(ctx)
	if err != nil {
		return nil, &hook.Error{Code: hook.CodeInvocationFailure, Err: err}
	}
	out, err := client.Invoke(ctx, &lambda.InvokeInput{
		FunctionName:   &c.o.FunctionName,
		InvocationType: types.InvocationTypeRequestResponse,
		Payload:        request,
	})
	switch {
	case err != nil:
		return nil, c.failure(client, err)
	case out.FunctionError != nil && *out.FunctionError != "":
		return nil, hook.FunctionError(out.Payload)
	}
	return out.Payload, nil
}

// codes of Lambda's errors. What is not here goes by its status.
var codes = map[string]string{
	"AccessDenied":                             hook.CodeAccessDenied,
	"AccessDeniedException":                    hook.CodeAccessDenied,
	"ENILimitReachedException":                 hook.CodeENILimit,
	"EC2ThrottledException":                    hook.CodeLimitExceeded,
	"ExpiredTokenException":                    hook.CodeSecurityToken,
	"IncompleteSignatureException":             hook.CodeAccessDenied,
	"InvalidSecurityGroupIDException":          hook.CodeSecurityGroup,
	"InvalidSignatureException":                hook.CodeAccessDenied,
	"InvalidSubnetIDException":                 hook.CodeSubnetID,
	"InvalidZipFileException":                  hook.CodeZipFile,
	"RequestTooLargeException":                 hook.CodeInvocationFailure,
	"ResourceNotFoundException":                hook.CodeNotFound,
	"ServiceException":                         hook.CodeInternal,
	"ServiceUnavailableException":              hook.CodeUnavailable,
	"SubnetIPAddressLimitReachedException":     hook.CodeSubnetAddresses,
	"TooManyRequestsException":                 hook.CodeLimitExceeded,
	"UnrecognizedClientException":              hook.CodeSecurityToken,
	"KMSAccessDeniedException":                 hook.CodeFunctionError,
	"KMSDisabledException":                     hook.CodeFunctionError,
	"KMSInvalidStateException":                 hook.CodeFunctionError,
	"KMSNotFoundException":                     hook.CodeFunctionError,
	"InvalidRuntimeException":                  hook.CodeFunctionError,
	"SerializedRequestEntityTooLargeException": hook.CodeInvocationFailure,
}

// statuses of answers whose error has no code that is known.
var statuses = map[int]string{
	http.StatusForbidden:           hook.CodeAccessDenied,
	http.StatusNotFound:            hook.CodeNotFound,
	http.StatusTooManyRequests:     hook.CodeLimitExceeded,
	http.StatusInternalServerError: hook.CodeInternal,
	http.StatusServiceUnavailable:  hook.CodeUnavailable,
	http.StatusGatewayTimeout:      hook.CodeRequestTimedOut,
}

// failure is the error of a call that brought no payload.
func (c *Carrier) failure(client *lambda.Client, err error) *hook.Error {
	if e, ok := errors.AsType[*hook.Error](err); ok {
		return e
	}
	answer, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || answer.Response == nil || answer.HTTPStatusCode() == 0 {
		return hook.TransportError(err)
	}
	e := &hook.Error{Code: hook.CodeInvocationFailure, Err: fmt.Errorf("HTTP status %d", answer.HTTPStatusCode())}
	said, known := "", false
	if a, ok := errors.AsType[smithy.APIError](err); ok {
		said = a.ErrorCode()
		e.Err = fmt.Errorf("%s: %s (HTTP status %d)", said, a.ErrorMessage(), answer.HTTPStatusCode())
	}
	if e.Code, known = codes[said]; !known {
		if e.Code, known = statuses[answer.HTTPStatusCode()]; !known {
			e.Code = hook.CodeInvocationFailure
		}
	}
	e.TooLarge = answer.HTTPStatusCode() == http.StatusRequestEntityTooLarge
	if s, err := strconv.ParseUint(answer.Response.Header.Get("Retry-After"), 10, 31); err == nil {
		e.After = time.Duration(s) * time.Second
	}
	switch said {
	case "ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException":
		// Keys in a file can be replaced in place: the next attempt reads them again, with a client of its own, since the
		// SDK's signer remembers what it derived from a secret by the key's id alone.
		c.connecting.Lock()
		if c.client == client {
			c.client = nil
		}
		c.connecting.Unlock()
	}
	return e
}
