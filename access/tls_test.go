package access

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serveTLS serves 200 to everybody until the test ends, and returns the address.
func serveTLS(t *testing.T, c *TLS) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{TLSConfig: c.Config(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })}
	done := make(chan error)
	go func() { done <- s.ServeTLS(l, "", "") }()
	t.Cleanup(func() { s.Close(); <-done })
	return l.Addr().String()
}

// ask makes one request, trusting the certificates of a file, and returns the answer and the server's certificate.
func ask(t *testing.T, url, caFile string, client ...tls.Certificate) (string, *x509.Certificate, error) {
	t.Helper()
	pool := x509.NewCertPool()
	data, err := os.ReadFile(caFile)
	if err != nil || !pool.AppendCertsFromPEM(data) {
		t.Fatalf("%s: %v", caFile, err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: client}, ForceAttemptHTTP2: true, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get(url)
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), resp.TLS.PeerCertificates[0], err
}

func TestSelfSigned(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	open := func() *TLS {
		t.Helper()
		c, err := NewTLS(TLSOptions{AutoDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open()
	for name, want := range map[string]os.FileMode{"key.pem": 0o600, "cert.pem": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	leaf := c.leaf.Load()
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil && host != "" {
		names = append(names, host)
	}
	for _, name := range names {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if err := leaf.VerifyHostname("example.com"); err == nil {
		t.Error("it is valid for example.com")
	}
	addr := serveTLS(t, c)
	_, port, _ := net.SplitHostPort(addr)
	for _, host := range []string{"127.0.0.1", "localhost"} {
		proto, shown, err := ask(t, "https://"+net.JoinHostPort(host, port)+"/", c.CertFile())
		if err != nil || proto != "HTTP/2.0" || !shown.Equal(leaf) {
			t.Errorf("%s: %q, %v", host, proto, err)
		}
	}
	if len(c.Fingerprint()) != 64 {
		t.Error(c.Fingerprint())
	}
	if again := open(); again.Fingerprint() != c.Fingerprint() {
		t.Error("a second start makes another certificate")
	}
	// One that does not fit any more is made anew, with the same key.
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("torn"), 0o644); err != nil {
		t.Fatal(err)
	}
	again := open()
	if again.Fingerprint() == c.Fingerprint() || !bytes.Equal(again.leaf.Load().RawSubjectPublicKeyInfo, leaf.RawSubjectPublicKeyInfo) {
		t.Error("not a new certificate of the same key")
	}
	if err := os.WriteFile(filepath.Join(dir, "key.pem"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewTLS(TLSOptions{AutoDir: dir}); err == nil || !strings.Contains(err.Error(), "is not PEM; remove it to have a new one made") {
		t.Errorf("a torn key: %v", err)
	}
}

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(t.TempDir(), name+".pem")}
	cert := a.sign(t, name, true)
	a.cert, a.key = cert.Leaf, cert.PrivateKey.(*ecdsa.PrivateKey)
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) sign(t *testing.T, name string, ca bool) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	parent, parentKey := a.cert, a.key
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// install puts a certificate and its key where a server reads them, with a time of change that is another.
func install(t *testing.T, c tls.Certificate, certFile, keyFile string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := writeWhole(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// awaits polls until ok, which a server that looks at its files once a second makes wait.
func awaits(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20s: %s", what)
		}
	}
}

func TestCertificatesThatChange(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	dir := t.TempDir()
	o := TLSOptions{CertFile: filepath.Join(dir, "c"), KeyFile: filepath.Join(dir, "k"), ClientCAFile: filepath.Join(dir, "ca")}
	if _, err := NewTLS(o); err == nil || !strings.Contains(err.Error(), "load the certificate "+o.CertFile) {
		t.Errorf("without files: %v", err)
	}
	first, second := ours.sign(t, "first", false), ours.sign(t, "second", false)
	install(t, first, o.CertFile, o.KeyFile)
	if _, err := NewTLS(o); err == nil || !strings.Contains(err.Error(), "client CAs") {
		t.Errorf("without a file of CAs: %v", err)
	}
	trust := func(a *authority) {
		t.Helper()
		data, err := os.ReadFile(a.file)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeWhole(o.ClientCAFile, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trust(ours)
	c, err := NewTLS(o)
	if err != nil {
		t.Fatal(err)
	}
	url := "https://" + serveTLS(t, c) + "/"
	known, stranger := ours.sign(t, "known", false), theirs.sign(t, "stranger", false)
	if _, shown, err := ask(t, url, ours.file, known); err != nil || !shown.Equal(first.Leaf) {
		t.Fatalf("a client that is known: %v", err)
	}
	for name, certs := range map[string][]tls.Certificate{"none": nil, "a stranger's": {stranger}} {
		if _, _, err := ask(t, url, ours.file, certs...); err == nil {
			t.Errorf("with the certificate of %s it was let in", name)
		}
	}
	if err := os.WriteFile(o.KeyFile, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	awaits(t, "the torn key is looked at", func() bool {
		_, shown, err := ask(t, url, ours.file, known)
		if err != nil || !shown.Equal(first.Leaf) {
			t.Fatalf("with a torn key on disk: %v", err)
		}
		c.looking.Lock()
		defer c.looking.Unlock()
		return c.seen == c.look()
	})
	install(t, second, o.CertFile, o.KeyFile)
	awaits(t, "the second certificate is shown", func() bool {
		_, shown, err := ask(t, url, ours.file, known)
		return err == nil && shown.Equal(second.Leaf)
	})
	trust(theirs)
	awaits(t, "the stranger is let in", func() bool {
		_, _, err := ask(t, url, ours.file, stranger)
		return err == nil
	})
	if _, _, err := ask(t, url, ours.file, known); err == nil {
		t.Error("the client of before is let in still")
	}
	if err := os.WriteFile(o.ClientCAFile, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewTLS(o); err == nil || !strings.Contains(err.Error(), "holds no certificate in PEM") {
		t.Errorf("a file without certificates: %v", err)
	}
}
