package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// TLSOptions say where certificates come from. Checked once, never changed afterwards.
type TLSOptions struct {
	CertFile, KeyFile string // PEM
	ClientCAFile      string // PEM; callers must show a certificate that one of these signed. "": they need none
	// AutoDir holds a self-signed certificate in cert.pem and key.pem, which are made where they are missing. It
	// stands in for CertFile and KeyFile.
	AutoDir string
	Log     *slog.Logger // nil: discarded
}

// TLS is a server's side of TLS. Files that are replaced are used from the next connection on, at most a second
// later; files that cannot be used leave things as they were. Safe for concurrent use.
type TLS struct {
	o       TLSOptions
	now     atomic.Pointer[tls.Config]
	leaf    atomic.Pointer[x509.Certificate]
	looking sync.Mutex // held by who looks at the files; guards what follows
	looked  time.Time
	seen    string // sizes and times of the files when they were looked at
}

// NewTLS reads the files.
func NewTLS(o TLSOptions) (*TLS, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.AutoDir != "" {
		o.CertFile, o.KeyFile = filepath.Join(o.AutoDir, "cert.pem"), filepath.Join(o.AutoDir, "key.pem")
		if err := ensureSelfSigned(o); err != nil {
			return nil, fmt.Errorf("self-signed certificate: %w", err)
		}
	}
	t := &TLS{o: o, looked: time.Now(), seen: ""}
	t.seen = t.look()
	return t, t.load()
}

// CertFile is the file of the certificate that is shown.
func (t *TLS) CertFile() string { return t.o.CertFile }

// Fingerprint is the SHA-256 of the certificate, in hexadecimal digits.
func (t *TLS) Fingerprint() string {
	sum := sha256.Sum256(t.leaf.Load().Raw)
	return hex.EncodeToString(sum[:])
}

// Config is for an http.Server.
func (t *TLS) Config() *tls.Config {
	c := t.now.Load().Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.current(), nil }
	return c
}

// current looks at the files again, about once a second while connections come.
func (t *TLS) current() *tls.Config {
	if t.looking.TryLock() {
		defer t.looking.Unlock()
		if time.Since(t.looked) >= valueLife {
			t.looked = time.Now()
			if seen := t.look(); seen != t.seen {
				t.seen = seen
				if err := t.load(); err != nil {
					t.o.Log.Error("changed TLS files cannot be used; those that were read before stay in use", "err", err)
				} else {
					t.o.Log.Info("changed TLS files are used from now on", "certificate", t.o.CertFile, "sha256", t.Fingerprint())
				}
			}
		}
	}
	return t.now.Load()
}

// look describes the files' present state, by which a change is noticed.
func (t *TLS) look() string {
	var b strings.Builder
	for _, name := range []string{t.o.CertFile, t.o.KeyFile, t.o.ClientCAFile} {
		if info, err := os.Stat(name); err == nil {
			fmt.Fprintf(&b, "%d %d;", info.Size(), info.ModTime().UnixNano())
		} else {
			b.WriteString("none;")
		}
	}
	return b.String()
}

func (t *TLS) load() error {
	pair, err := tls.LoadX509KeyPair(t.o.CertFile, t.o.KeyFile)
	if err != nil {
		return fmt.Errorf("load the certificate %s with the key %s: %w", t.o.CertFile, t.o.KeyFile, err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
	if t.o.ClientCAFile != "" {
		data, err := os.ReadFile(t.o.ClientCAFile)
		if err != nil {
			return fmt.Errorf("load the certificates of client CAs: %w", err)
		}
		c.ClientCAs = x509.NewCertPool()
		if !c.ClientCAs.AppendCertsFromPEM(data) {
			return fmt.Errorf("%s holds no certificate in PEM", t.o.ClientCAFile)
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
		// A session that is resumed would bring back a caller whom the present CAs do not know.
		c.SessionTicketsDisabled = true
	}
	t.leaf.Store(pair.Leaf)
	t.now.Store(c)
	return nil
}

// selfSignedLife is long, because clients that trust the certificate do so by its file.
const selfSignedLife = 10 * 365 * 24 * time.Hour

// renewBefore is when a start makes a new one.
const renewBefore = 30 * 24 * time.Hour

// ensureSelfSigned makes the certificate where it is missing, about to end, or made for a host of another name. Its
// key is kept, for clients that pin it.
func ensureSelfSigned(o TLSOptions) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.AutoDir, 0o700); err != nil {
		return err
	}
	key, err := readKey(o.KeyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		if err := writeWhole(o.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("%s: %w; remove it to have a new one made", o.KeyFile, err)
	}
	if pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile); err == nil && pair.Leaf.VerifyHostname("localhost") == nil &&
		(host == "" || slices.Contains(pair.Leaf.DNSNames, host)) && time.Until(pair.Leaf.NotAfter) > renewBefore {
		return nil
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	names := []string{"localhost"}
	if host != "" && host != "localhost" {
		names = append(names, host)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "hydrant"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(selfSignedLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if err := writeWhole(o.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	o.Log.Info("a self-signed certificate was made", "file", o.CertFile, "names", names)
	return nil
}

func readKey(name string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("is not an ECDSA key")
	}
	return key, nil
}

// writeWhole writes a file so that after a crash it is there as a whole, or not at all.
func writeWhole(name string, data []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if e := os.Chmod(f.Name(), mode); err == nil {
		err = e
	}
	if e := f.Sync(); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
