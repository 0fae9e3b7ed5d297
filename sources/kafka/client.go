package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	saslaws "github.com/twmb/franz-go/pkg/sasl/aws"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// TLS of connections. Its files are read for each connection, so that they can be replaced.
type TLS struct {
	// CAFile is of the authorities to trust, in PEM, in place of the system's.
	CAFile string
	// CertFile and KeyFile are what to show to the broker, in PEM.
	CertFile, KeyFile string
}

func (t *TLS) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s has no certificate in PEM", t.CAFile)
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read cert_file and key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// SASL mechanisms.
const (
	Plain       = "plain"
	ScramSHA256 = "scram-sha-256"
	ScramSHA512 = "scram-sha-512"
	MSKIAM      = "aws-msk-iam"
)

// SASL is how to log in.
type SASL struct {
	Mechanism string
	// Username and Password are asked for at each login; not for MSKIAM.
	Username string
	Password func() (string, error)
	// Credentials of AWS are asked for at each login, for MSKIAM. nil is the SDK's own chain.
	Credentials aws.CredentialsProvider
}

func (s *SASL) check() error {
	switch s.Mechanism {
	case Plain, ScramSHA256, ScramSHA512:
		if s.Username == "" || s.Password == nil {
			return fmt.Errorf("mechanism %s needs a username and a password", s.Mechanism)
		}
	case MSKIAM:
	default:
		return fmt.Errorf("%q is no mechanism: plain, scram-sha-256, scram-sha-512 or aws-msk-iam", s.Mechanism)
	}
	return nil
}

func (s *SASL) mechanism() sasl.Mechanism {
	switch s.Mechanism {
	case Plain:
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			password, err := s.Password()
			return plain.Auth{User: s.Username, Pass: password}, err
		})
	case ScramSHA256, ScramSHA512:
		auth := func(context.Context) (scram.Auth, error) {
			password, err := s.Password()
			return scram.Auth{User: s.Username, Pass: password}, err
		}
		if s.Mechanism == ScramSHA256 {
			return scram.Sha256(auth)
		}
		return scram.Sha512(auth)
	}
	chain := sync.OnceValues(func() (aws.CredentialsProvider, error) {
		c, err := awsconfig.LoadDefaultConfig(context.Background())
		return c.Credentials, err
	})
	return saslaws.ManagedStreamingIAM(func(ctx context.Context) (saslaws.Auth, error) {
		from := s.Credentials
		if from == nil {
			var err error
			if from, err = chain(); err != nil {
				return saslaws.Auth{}, fmt.Errorf("find credentials of AWS: %w", err)
			}
		}
		c, err := from.Retrieve(ctx)
		if err != nil {
			return saslaws.Auth{}, fmt.Errorf("get credentials of AWS: %w", err)
		}
		return saslaws.Auth{AccessKey: c.AccessKeyID, SecretKey: c.SecretAccessKey, SessionToken: c.SessionToken, UserAgent: "hydrant"}, nil
	})
}

// dialTimeout bounds a connection with its handshake.
const dialTimeout = 10 * time.Second

// connect are the options of any client of the brokers.
func (r *Reader) connect() []kgo.Opt {
	dial := r.dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(r.o.Brokers...),
		kgo.ClientID("hydrant"),
		kgo.SoftwareNameAndVersion("hydrant", "1"),
		kgo.DisableClientMetrics(),
		kgo.MetadataMaxAge(r.o.MetadataAge),
		kgo.MetadataMinAge(min(time.Second, r.o.MetadataAge/2)),
		kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
			if r.o.TLS == nil {
				return dial(ctx, network, addr)
			}
			return r.o.TLS.dial(ctx, network, addr)
		}),
	}
	if r.o.SASL != nil {
		opts = append(opts, kgo.SASL(r.o.SASL.mechanism()))
	}
	return opts
}

// fetchConcurrency is how many brokers are fetched from at a time; what they answer waits in memory, compressed.
const fetchConcurrency = 3

// maxBatch bounds what a batch of records may be unpacked to. What a topic takes by default is 1 MB compressed.
const maxBatch = 256 << 20

// consume are the options of a member of the group.
func (r *Reader) consume(s *session) []kgo.Opt {
	topics := r.o.Topics
	fetch := min(max(r.o.Memory/8/fetchConcurrency, 512<<10), 50<<20) // compressed: it becomes several times as much
	opts := append(r.connect(),
		kgo.ConsumerGroup(r.o.Group),
		kgo.DisableAutoCommit(),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(r.o.SessionTimeout),
		kgo.RebalanceTimeout(r.o.RebalanceTimeout),
		kgo.HeartbeatInterval(min(3*time.Second, r.o.SessionTimeout/4)),
		kgo.OnPartitionsAssigned(s.assigned),
		kgo.OnPartitionsRevoked(s.revoked),
		kgo.OnPartitionsLost(s.lost),
		kgo.OnOffsetsFetched(s.fetchedOffsets),
		kgo.AdjustFetchOffsetsFn(s.startOffsets),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), // never used: startOffsets decides
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),       // out of range: tell us, and do not jump
		kgo.KeepControlRecords(),                          // positions move over the ends of transactions
		kgo.FetchMaxBytes(int32(fetch)),
		kgo.FetchMaxPartitionBytes(int32(min(fetch, 1<<20))),
		kgo.MaxConcurrentFetches(fetchConcurrency),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.MaxDecompressBatchBytes(maxBatch),
	)
	if !r.o.Uncommitted {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if r.o.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(r.o.InstanceID))
	}
	if len(r.o.Patterns) > 0 {
		topics = nil
		for _, t := range r.o.Topics {
			topics = append(topics, "^"+regexp.QuoteMeta(t)+"$")
		}
		topics = append(topics, r.o.Patterns...)
		opts = append(opts, kgo.ConsumeRegex())
	}
	return append(opts, kgo.ConsumeTopics(topics...))
}

// loginProblem tells what of TLS stands in the way, and what to do.
func loginProblem(err error) (string, bool) {
	var unknown *tls.CertificateVerificationError
	var first *kgo.ErrFirstReadEOF
	switch {
	case errors.As(err, &unknown):
		return "the broker's certificate is not trusted: name its authority in tls.ca_file", true
	case errors.As(err, &first):
		return "the broker hung up: it may want TLS or another login (tls, sasl), or does not want TLS", true
	case errors.Is(err, io.EOF):
		return "the broker hung up: it may have refused the login (sasl), or want TLS (tls)", true
	}
	return "", false
}

// dial connects with TLS. The files are read now.
func (t *TLS) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := t.config()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return (&tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout}, Config: c}).DialContext(ctx, network, addr)
}
