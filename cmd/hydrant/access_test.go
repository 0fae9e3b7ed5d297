package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hydrant/access"
	"hydrant/config"
)

// command runs a command of the program and returns its exit code with all that it said.
func command(t *testing.T, env map[string]string, stdin string, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	c := &cli{stdin: strings.NewReader(stdin), stdout: &out, stderr: &out, env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	root := c.root()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	code := c.exit(root.ExecuteContext(t.Context()))
	return code, out.String()
}

func written(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// A daemon with keys, TLS and a socket, asked by the program's own commands; and keys that change with the file.
func TestKeysAndTLS(t *testing.T) {
	sockets, err := os.MkdirTemp("", "h") // a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	dir := t.TempDir()
	secret, token := written(t, filepath.Join(dir, "secret"), "first\n"), written(t, filepath.Join(dir, "token"), "operator")
	text := func(listen, auth string) string {
		return fmt.Sprintf("data_dir: %q\nlimits: { memory: 128MiB, disk: 256MiB }\napi: { listen: %s, tls: { auto: true }%s }\nadmin: { listen: 'unix:%s/admin', auth: { tokens: [ { name: operator, token_file: %q, allow: [read, admin] } ] } }\nstreams:\n%s",
			filepath.Join(dir, "data"), listen, auth, sockets, token, fileStream(dir, ""))
	}
	auth := fmt.Sprintf(", auth: { access_keys: [ { id: AKID, secret_file: %q, streams: [s] } ] }", secret)
	x := startReloadable(t, text("'127.0.0.1:0'", auth))
	d := x.r.d
	endpoint := "https://" + d.api.addresses()[0]
	ca := filepath.Join(dir, "data", "tls", "cert.pem")
	put := func(id, secret string, more ...string) (int, string) {
		t.Helper()
		return command(t, map[string]string{"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_CA_BUNDLE": ca}, "x\n", append([]string{"put", "--stream", "s", "--endpoint", endpoint, "--retry-for", "20s"}, more...)...)
	}
	if code, out := put("AKID", "first"); code != 0 {
		t.Errorf("right key: %d %s", code, out)
	}
	if code, out := put("AKID", "first", "--ca-file", ca); code != 0 {
		t.Errorf("--ca-file: %d %s", code, out)
	}
	if code, out := put("AKID", "first", "--ca-file", secret); code != 2 || !strings.Contains(out, "holds no certificate in PEM") {
		t.Errorf("--ca-file of no certificate: %d %s", code, out)
	}
	if code, out := put("AKID", "other"); code != 1 || !strings.Contains(out, "InvalidSignatureException") {
		t.Errorf("wrong secret: %d %s", code, out)
	}
	stream := func(args ...string) (int, string) {
		t.Helper()
		return command(t, nil, "", append([]string{"stream"}, args...)...)
	}
	at := "unix:" + sockets + "/admin"
	if code, out := stream("list", "--admin", at, "--token-file", token); code != 0 || !strings.Contains(out, "s ") {
		t.Errorf("list over the socket: %d %s", code, out)
	}
	if code, out := stream("list", "--admin", at); code != 1 || !strings.Contains(out, "Missing Authentication Token (give one that the daemon knows with --token-file)") {
		t.Errorf("list without a token: %d %s", code, out)
	}
	if code, out := stream("flush", "s", "--admin", at, "--token-file", secret); code != 1 || !strings.Contains(out, "security token included in the request is invalid") {
		t.Errorf("flush with a wrong token: %d %s", code, out)
	}
	if code, out := stream("flush", "s", "--admin", at, "--token-file", token); code != 0 {
		t.Errorf("flush: %d %s", code, out)
	}
	if log := x.log.peek(); !strings.Contains(log, "component=audit key=operator action=FlushStream stream=s outcome=ok") || !strings.Contains(log, "the API speaks TLS") {
		t.Errorf("log:\n%s", log)
	}

	// Keys follow the file.
	x.write(text("'127.0.0.1:0'", strings.Replace(auth, "AKID", "NEXT", 1)))
	x.r.reread(t.Context(), "test")
	if code, out := put("AKID", "first"); code != 1 || !strings.Contains(out, "UnrecognizedClientException") {
		t.Errorf("a key that is gone: %d %s", code, out)
	}
	if code, out := put("NEXT", "first"); code != 0 {
		t.Errorf("the next key: %d %s", code, out)
	}
	for _, s := range []string{"first", "operator\"", "other"} {
		if strings.Contains(x.log.peek(), s+" ") {
			t.Errorf("the log holds a secret:\n%s", x.log.peek())
		}
	}
}

// A file without keys is not taken while a listener stays that other machines can reach.
func TestReloadKeepsListenersShut(t *testing.T) {
	dir := t.TempDir()
	text := func(listen, auth string) string {
		return fmt.Sprintf("data_dir: %q\nlimits: { memory: 128MiB, disk: 256MiB }\napi: { listen: %s%s }\nadmin: { listen: '127.0.0.1:0' }\nstreams:\n%s", filepath.Join(dir, "data"), listen, auth, fileStream(dir, ""))
	}
	x := startReloadable(t, text("'0.0.0.0:0'", ", auth: { tokens: [ { token: a-token } ] }"))
	if !strings.Contains(x.log.peek(), "other machines reach this listener without TLS") {
		t.Errorf("no warning:\n%s", x.log.peek())
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(x.r.d.api.addresses()[0], "[::]"), ":")
	ask := func() int {
		t.Helper()
		resp, err := http.Post("http://127.0.0.1:"+port+"/", "application/x-amz-json-1.1", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	before := ask()
	x.write(text("'127.0.0.1:0'", ""))
	x.r.reread(t.Context(), "test")
	if !strings.Contains(x.log.peek(), "can be reached from other machines, and api.auth is not given") || x.r.d.apiGuard.Open() {
		t.Errorf("the file was taken:\n%s", x.log.peek())
	}
	if after := ask(); after != before {
		t.Errorf("answered %d before and %d after", before, after)
	}
	x.write(text("'127.0.0.1:0'", ", auth: none"))
	x.r.reread(t.Context(), "test")
	if !x.r.d.apiGuard.Open() {
		t.Error("auth: none was not taken")
	}
}

// signed makes a certificate and its key, in PEM, signed by a parent or by itself where that is nil.
func signed(t *testing.T, parent *tls.Certificate) (cert, key string, pair tls.Certificate) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: parent == nil,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	by, byKey := template, any(private)
	if parent != nil {
		by, byKey = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, private.Public(), byKey)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	if pair, err = tls.X509KeyPair([]byte(cert), []byte(key)); err != nil {
		t.Fatal(err)
	}
	return cert, key, pair
}

// Callers need a certificate and a key where both are asked for, and a file that is not there stops the start.
func TestClientCertificates(t *testing.T) {
	dir := t.TempDir()
	ca, _, authority := signed(t, nil)
	cert, key, _ := signed(t, &authority)
	_, _, client := signed(t, &authority)
	_, _, stranger := signed(t, nil)
	name := func(s string) string { return filepath.Join(dir, s) }
	for file, text := range map[string]string{"ca": ca, "cert": cert, "key": key} {
		written(t, name(file), text)
	}
	text := func(ca string) string {
		return fmt.Sprintf("data_dir: %q\nlimits: { memory: 128MiB, disk: 256MiB }\napi: { listen: '127.0.0.1:0', tls: { cert_file: %q, key_file: %q, client_ca_file: %q }, auth: { tokens: [ { token: a-token } ] } }\nadmin: { listen: '127.0.0.1:0' }\nstreams:\n%s",
			name("data"), name("cert"), name("key"), ca, fileStream(dir, ""))
	}
	if code, out := command(t, nil, "", "run", "-c", written(t, name("f.yaml"), text(name("none")))); code != 1 || !strings.Contains(out, "api.tls: load the certificates of client CAs: open "+name("none")) {
		t.Errorf("without the file of authorities: %d %s", code, out)
	}
	d := startReloadable(t, text(name("ca"))).r.d
	ask := func(token string, certs ...tls.Certificate) (int, error) {
		t.Helper()
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(ca))
		c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certs}}}
		r, err := http.NewRequest("POST", "https://"+d.api.addresses()[0]+"/", strings.NewReader(`{"DeliveryStreamName":"s","Record":{"Data":"eAo="}}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Content-Type": {"application/x-amz-json-1.1"}, "X-Amz-Target": {"Firehose_20150804.PutRecord"}, "Authorization": {"Bearer " + token}}
		resp, err := c.Do(r)
		if err != nil {
			return 0, err
		}
		resp.Body.Close()
		return resp.StatusCode, nil
	}
	if code, err := ask("a-token", client); code != http.StatusOK {
		t.Errorf("certificate and token: %d, %v", code, err)
	}
	if code, err := ask("another", client); code != http.StatusBadRequest {
		t.Errorf("certificate and a wrong token: %d, %v", code, err)
	}
	for what, certs := range map[string][]tls.Certificate{"no certificate": nil, "a stranger's": {stranger}} {
		if code, err := ask("a-token", certs...); err == nil {
			t.Errorf("%s: %d", what, code)
		}
	}
}

// The configuration and the listeners read addresses alike.
func TestAddressesAgree(t *testing.T) {
	for _, addr := range []string{
		"127.0.0.1:1", "[::1]:1", "localhost:1", "LOCALHOST:1", "a.localhost:1", "localhost.:1", ":1", "0.0.0.0:1", "[::]:1", "example.com:1", "[::ffff:127.0.0.1]:1", "unix:/a", "unix:/a?mode=0660",
		"unix:", "unix:/a?mode=1", "unix:/a?x", "a", "a:b", "a:65536", "127.0.0.1:01", "unix:/" + strings.Repeat("s", 89), "unix:/" + strings.Repeat("s", 90),
	} {
		_, err := config.Decode("f", []byte(fmt.Sprintf("api: { listen: %q, auth: none }\nadmin: { listen: '127.0.0.1:9', auth: none }\nstreams: []\n", addr)), func(string) (string, bool) { return "", false })
		a, err2 := access.ParseAddress(addr)
		if (err == nil) != (err2 == nil) {
			t.Errorf("%s: the configuration says %v, the listener %v", addr, err, err2)
		}
		// What the configuration takes for local is bound as local: opened to others, it fails.
		if err == nil && config.Local(addr) && !a.Local() {
			t.Errorf("%s: local to the configuration only", addr)
		}
	}
}

// Off loopback without auth the program does not start.
func TestStartIsRefused(t *testing.T) {
	dir := t.TempDir()
	for _, line := range []string{
		"api: { listen: '0.0.0.0:0' }", "api: { listen: ':0' }", "api: { listen: '[::]:0' }", "api: { listen: ['127.0.0.1:0', '0.0.0.0:0'] }", "api: { listen: 'example.com:0' }",
		"admin: { listen: '0.0.0.0:0' }", "admin: { listen: ['127.0.0.1:0', ':0'] }",
	} {
		name := written(t, filepath.Join(dir, "f.yaml"), fmt.Sprintf("data_dir: %q\n%s\nstreams: []\n", filepath.Join(dir, "data"), line))
		code, out := command(t, nil, "", "run", "-c", name)
		if code != 2 || !strings.Contains(out, "can be reached from other machines") {
			t.Errorf("%s: exit code %d, %s", line, code, out)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		t.Error("a data directory was made")
	}
}

// peek returns what was written, and leaves it.
func (l *lockedBuffer) peek() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
