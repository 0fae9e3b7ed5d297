package redshift

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// Defaults of an address.
const (
	DefaultPort     = 5439
	DefaultDatabase = "dev"
)

// Modes of TLS.
const (
	VerifyFull = "verify-full" // the certificate and the host's name are checked
	VerifyCA   = "verify-ca"   // the certificate alone
	Require    = "require"     // encrypted, nothing is checked
	Disable    = "disable"     // not encrypted
)

const (
	// connectTime is how long a connection may take: a serverless workgroup that has been idle needs tens of seconds.
	connectTime = 90 * time.Second
	// keepAlive is below the idle time after which gateways forget a connection (350 s) that waits for a long COPY.
	keepAlive = time.Minute
	// cancelGrace is how long a query that was told to stop may take to do so.
	cancelGrace = 5 * time.Second
)

// Address is where a warehouse is and how it is spoken to.
type Address struct {
	Host     string
	Port     uint16
	Database string
	User     string // "": comes with temporary credentials
	Password string
	TLS      string // mode; "" is verify-full
	CAFile   string // PEM of the authorities to trust in place of the system's
}

// ParseDSN reads postgres://, redshift:// and the JDBC forms of both, jdbc:redshift:iam:// among them. What it does not
// know is an error. Errors never hold the password.
func ParseDSN(dsn string) (Address, error) {
	text, jdbc := strings.CutPrefix(strings.TrimSpace(dsn), "jdbc:")
	if jdbc {
		if rest, ok := strings.CutPrefix(text, "redshift:iam://"); ok {
			text = "redshift://" + rest
		}
		// A JDBC URL may have its parameters after a semicolon.
		if head, params, ok := strings.Cut(text, ";"); ok && !strings.Contains(head, "?") {
			text = head + "?" + strings.ReplaceAll(strings.TrimSuffix(params, ";"), ";", "&")
		}
	}
	u, err := url.Parse(text)
	if err != nil { // the error repeats the text
		return Address{}, errors.New("dsn: it is not a URL; special characters of a password are written as %XX")
	}
	switch u.Scheme {
	case "postgres", "postgresql", "redshift":
	default:
		return Address{}, fmt.Errorf("dsn: the scheme %q is none of postgres, redshift, jdbc:redshift and jdbc:postgresql", u.Scheme)
	}
	a := Address{Host: u.Hostname(), Port: DefaultPort, Database: strings.TrimPrefix(u.Path, "/"), User: u.User.Username()}
	a.Password, _ = u.User.Password()
	if a.Database == "" {
		a.Database = DefaultDatabase
	}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Address{}, fmt.Errorf("dsn: the port %q is not a number from 1 to 65535", port)
		}
		a.Port = uint16(n)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Address{}, errors.New("dsn: what stands after ? is not of the form name=value&name=value")
	}
	for name, values := range query {
		if len(values) != 1 {
			return Address{}, fmt.Errorf("dsn: %s is given %d times", name, len(values))
		}
		v := values[0]
		switch key := strings.ToLower(name); {
		case key == "sslmode":
			a.TLS = strings.ToLower(v)
		case key == "sslrootcert":
			a.CAFile = v
		case jdbc && (key == "user" || key == "uid"):
			a.User = v
		case jdbc && (key == "password" || key == "pwd"):
			a.Password = v
		case jdbc && key == "ssl":
			if v != "true" {
				return Address{}, errors.New("dsn: ssl is " + v + "; write sslmode=disable for a connection that is not encrypted")
			}
		default:
			return Address{}, fmt.Errorf("dsn: the parameter %q is unknown; there are sslmode and sslrootcert", name)
		}
	}
	return a, a.check()
}

func (a *Address) check() error {
	switch {
	case a.Host == "" || strings.ContainsAny(a.Host, " /,\x00"):
		return fmt.Errorf("the host %q is not the name of a host", a.Host)
	case a.Port == 0:
		return errors.New("the port is 0")
	case a.Database == "" || strings.ContainsRune(a.Database, 0):
		return errors.New("the database's name is missing or has a NUL")
	}
	switch a.TLS {
	case "", VerifyFull, VerifyCA, Require, Disable:
	default:
		return fmt.Errorf("sslmode is %q; it is %s, %s, %s or %s", a.TLS, VerifyFull, VerifyCA, Require, Disable)
	}
	return nil
}

// IsAWS tells whether the host is an endpoint of Amazon's, whose COPY reads buckets of AWS alone.
func (a *Address) IsAWS() bool {
	h := strings.ToLower(strings.TrimSuffix(a.Host, "."))
	return strings.HasSuffix(h, ".amazonaws.com") || strings.HasSuffix(h, ".amazonaws.com.cn")
}

// tlsConfig is what the mode says; nil is a connection without TLS.
func (a *Address) tlsConfig() (*tls.Config, error) {
	if a.TLS == Disable {
		return nil, nil
	}
	c := &tls.Config{ServerName: a.Host, MinVersion: tls.VersionTLS12}
	if a.CAFile != "" {
		pem, err := os.ReadFile(a.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the authorities of sslrootcert: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("sslrootcert %q holds no certificate in PEM", a.CAFile)
		}
	}
	switch a.TLS {
	case Require:
		c.InsecureSkipVerify = true // what the mode says
	case VerifyCA:
		c.InsecureSkipVerify = true // the name is not checked; the chain is, here
		c.VerifyConnection = func(s tls.ConnectionState) error {
			o := x509.VerifyOptions{Roots: c.RootCAs, Intermediates: x509.NewCertPool()}
			for _, cert := range s.PeerCertificates[1:] {
				o.Intermediates.AddCert(cert)
			}
			_, err := s.PeerCertificates[0].Verify(o)
			return err
		}
	}
	return c, nil
}

// config is the address for pgx. Nothing of the process's environment changes what is connected to.
func (a *Address) config(l Login, application string) (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig("host=localhost sslmode=disable passfile='' servicefile='' user=hydrant password=x")
	if err != nil {
		return nil, fmt.Errorf("prepare a connection: %w", err)
	}
	if c.TLSConfig, err = a.tlsConfig(); err != nil {
		return nil, err
	}
	c.Host, c.Port, c.Database, c.User, c.Password = a.Host, a.Port, a.Database, l.User, l.Password
	c.Fallbacks = nil
	c.SSLNegotiation, c.SSLCertMode = "postgres", ""
	c.ConnectTimeout = connectTime
	c.ValidateConnect, c.AfterConnect = nil, nil
	// Redshift ends the connection over a parameter that it does not know, and it calls its encoding UNICODE unless it
	// is told, which pgx does not take.
	c.RuntimeParams = map[string]string{"client_encoding": "UTF8", "application_name": application}
	dialer := &net.Dialer{KeepAlive: keepAlive, Timeout: connectTime}
	c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, addr)
	}
	// Ended contexts first ask the server to cancel: a COPY that nobody waits for would go on holding the lock.
	c.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelGrace}
	}
	// The simple mode interpolates by itself, and refuses to: Redshift has no standard_conforming_strings.
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	c.StatementCacheCapacity, c.DescriptionCacheCapacity = 0, 0
	return c, nil
}
