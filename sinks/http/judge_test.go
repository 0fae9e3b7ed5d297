package http

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hydrant/sinks"
	"hydrant/sinks/http/receiver"
)

const testID = "ed4acda5-034f-9f42-bba1-f29aea6d7d8f"

func objectOf(body string) sinks.Object {
	return sinks.Object{Key: "clicks-1-" + testID, RequestID: testID, ContentType: "application/json", Size: int64(len(body)), SHA256: sha256.Sum256([]byte(body)), ReaderAt: strings.NewReader(body)}
}

// serve answers every request with f.
func serve(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		f(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// raw answers with exactly these bytes.
func raw(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		io.WriteString(c, text)
		c.Close()
	}
}

func TestJudgement(t *testing.T) {
	good := fmt.Sprintf(`{"requestId":%q,"timestamp":1578090903599}`, testID)
	answer := func(status int, kind, body string, more ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if kind != "" {
				w.Header().Set("Content-Type", kind)
			}
			for i := 0; i+1 < len(more); i += 2 {
				w.Header().Set(more[i], more[i+1])
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	const ok = sinks.Class(255)
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		class  sinks.Class
		code   string
		after  time.Duration
		plain  sinks.Class // with a plain body
	}{
		{"milliseconds", answer(200, "application/json", good), ok, "", 0, ok},
		{"seconds", answer(200, "application/json", strings.Replace(good, "1578090903599", "1578090903", 1)), ok, "", 0, ok},
		{"charset", answer(200, "application/json; charset=utf-8", good), ok, "", 0, ok},
		{"more members", answer(200, "application/json", strings.Replace(good, "{", `{"a":[1],`, 1)), ok, "", 0, ok},
		{"text", answer(200, "text/plain", good), sinks.Unknown, codeInvalid, 0, ok},
		{"no type", answer(200, "-", good), sinks.Unknown, codeInvalid, 0, ok},
		{"no body", answer(200, "application/json", ""), sinks.Unknown, codeInvalid, 0, ok},
		{"no JSON", answer(200, "application/json", "OK"), sinks.Unknown, codeInvalid, 0, ok},
		{"another id", answer(200, "application/json", strings.Replace(good, "ed4", "fd4", 1)), sinks.Unknown, codeInvalid, 0, ok},
		{"no id", answer(200, "application/json", `{"timestamp":1}`), sinks.Unknown, codeInvalid, 0, ok},
		{"time as text", answer(200, "application/json", strings.Replace(good, "1578090903599", `"1578090903599"`, 1)), sinks.Unknown, codeInvalid, 0, ok},
		{"no time", answer(200, "application/json", fmt.Sprintf(`{"requestId":%q}`, testID)), sinks.Unknown, codeInvalid, 0, ok},
		{"null time", answer(200, "application/json", fmt.Sprintf(`{"requestId":%q,"timestamp":null}`, testID)), sinks.Unknown, codeInvalid, 0, ok},
		{"compressed", answer(200, "application/json", good, "Content-Encoding", "gzip"), sinks.Unknown, codeInvalid, 0, ok},
		{"201", answer(201, "application/json", good), sinks.Unknown, codeException, 0, ok},
		{"204", answer(204, "", ""), sinks.Unknown, codeException, 0, ok},
		{"301", answer(301, "", "", "Location", "/elsewhere"), sinks.RefusedDestination, codeException, 0, sinks.RefusedDestination},
		{"400", answer(400, "application/json", good), sinks.NotStored, codeException, 0, sinks.NotStored},
		{"401", answer(401, "", ""), sinks.RefusedDestination, codeException, 0, sinks.RefusedDestination},
		{"403", answer(403, "", ""), sinks.RefusedDestination, codeException, 0, sinks.RefusedDestination},
		{"404", answer(404, "", ""), sinks.RefusedDestination, codeException, 0, sinks.RefusedDestination},
		{"413", answer(413, "", ""), sinks.TooLarge, codeException, 0, sinks.TooLarge},
		{"429", answer(429, "", "", "Retry-After", "7"), sinks.NotStored, codeException, 7 * time.Second, sinks.NotStored},
		{"500", answer(500, "", ""), sinks.Unknown, codeException, 0, sinks.Unknown},
		{"503", answer(503, "", "", "Retry-After", "99999999"), sinks.NotStored, codeException, time.Hour, sinks.NotStored},
		{"largest answer", answer(200, "application/json", good+strings.Repeat(" ", maxAnswer-len(good))), ok, "", 0, ok},
		{"a byte more", answer(200, "application/json", good+strings.Repeat(" ", maxAnswer-len(good)+1)), sinks.Unknown, codeTooLarge, 0, sinks.Unknown},
		{"longest reason", raw("HTTP/1.1 200 " + strings.Repeat("r", 64) + "\r\nContent-Type: application/json\r\nContent-Length: " + fmt.Sprint(len(good)) + "\r\n\r\n" + good), ok, "", 0, ok},
		{"longer reason", raw("HTTP/1.1 200 " + strings.Repeat("r", 65) + "\r\nContent-Type: application/json\r\nContent-Length: " + fmt.Sprint(len(good)) + "\r\n\r\n" + good), sinks.Unknown, codeReason, 0, ok},
		{"no HTTP", raw("220 smtp.example ready\r\n"), sinks.Unknown, codeMalformed, 0, sinks.Unknown},
		{"nothing", raw(""), sinks.Unknown, codeReset, 0, sinks.Unknown},
		{"half an answer", raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"), sinks.Unknown, codeReset, 0, sinks.Unknown},
	} {
		url := serve(t, c.answer)
		for _, plain := range []bool{false, true} {
			s := open(t, Options{URL: url, Plain: plain})
			err := s.Put(t.Context(), objectOf("body"))
			class, code := c.class, c.code
			if plain {
				class = c.plain
			}
			if class == ok {
				if err != nil {
					t.Errorf("%s, plain %v: %v", c.name, plain, err)
				}
			} else if e, is := errors.AsType[*sinks.Error](err); !is || e.Class != class || e.Code != code || e.After != c.after {
				t.Errorf("%s, plain %v: %#v, want class %v and code %s after %s", c.name, plain, err, class, code, c.after)
			}
			s.Close()
		}
	}
}

// Where there is no answer, the code says why.
func TestNoAnswer(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	release := make(chan struct{})
	silent := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	overTLS := httptest.NewTLSServer(http.NotFoundHandler())
	defer overTLS.Close()
	overTLS.Config.ErrorLog = nil
	for _, c := range []struct {
		name  string
		o     Options
		class sinks.Class
		code  string
	}{
		{"refused", Options{URL: closed.URL}, sinks.NotStored, codeUnreachable},
		{"no such host", Options{URL: "http://nowhere.invalid/"}, sinks.NotStored, codeUnreachable},
		{"too slow", Options{URL: silent, Timeout: 50 * time.Millisecond}, sinks.Unknown, codeTimeout},
		{"unknown authority", Options{URL: overTLS.URL}, sinks.RefusedDestination, codeCertificate},
		{"no TLS there", Options{URL: strings.Replace(silent, "http:", "https:", 1), Timeout: time.Minute}, sinks.RefusedDestination, codeHandshake},
		{"secret is gone", Options{URL: closed.URL, Secrets: func() (Secrets, error) { return Secrets{}, errors.New("gone") }}, sinks.RefusedDestination, codeSecret},
		{"secret of two lines", Options{URL: closed.URL, Secrets: func() (Secrets, error) { return Secrets{AccessKey: "a\nb"}, nil }}, sinks.RefusedDestination, "HttpEndpoint.MakeRequestFailure.IllegalCharacterInHeaderValue"},
	} {
		s := open(t, c.o)
		err := s.Put(t.Context(), objectOf("body"))
		if e, ok := errors.AsType[*sinks.Error](err); !ok || e.Class != c.class || e.Code != c.code {
			t.Errorf("%s: %#v, want class %v and code %s", c.name, err, c.class, c.code)
		}
		s.Close()
	}
}

// Whatever an endpoint echoes, no secret and no query of the URL is told.
func TestSecretsAreNotTold(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(500)
		fmt.Fprintf(w, "you sent %v to %s", r.Header, r.URL.Path)
	})
	s := open(t, Options{URL: url + "/in?token=querysecret", Secrets: func() (Secrets, error) {
		return Secrets{AccessKey: "acc3sskey", Headers: [][2]string{{"Authorization", "Bearer t0ken99"}, {"X-Key", "other5ecret"}}}, nil
	}})
	defer s.Close()
	err := s.Put(t.Context(), objectOf("body"))
	e, ok := errors.AsType[*sinks.Error](err)
	if !ok || !strings.Contains(e.Message, "Received the following response from the endpoint destination. you sent map[") {
		t.Fatalf("%v", err)
	}
	for _, secret := range []string{"acc3sskey", "t0ken99", "other5ecret", "querysecret"} {
		if strings.Contains(err.Error()+e.Message, secret) {
			t.Errorf("%s is told: %v", secret, err)
		}
	}
	closed := open(t, Options{URL: "http://127.0.0.1:1/?token=querysecret"})
	defer closed.Close()
	if err := closed.Put(t.Context(), objectOf("body")); err == nil || strings.Contains(err.Error(), "querysecret") {
		t.Errorf("the query is told: %v", err)
	}
}

// Requests share a connection, and every attempt is the same but for nothing.
func TestConnectionsAndRepetition(t *testing.T) {
	var conns atomic.Int32
	r := receiver.NewUnstarted(receiver.Rules{AnyBody: true, AccessKey: "k3y", ARN: testARN, Attributes: map[string]string{"b": "2", "a": "1"}})
	r.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	r.Start()
	defer r.Server.Close()
	s := open(t, Options{URL: r.URL, SourceARN: func() string { return testARN }, CommonAttributes: map[string]string{"b": "2", "a": "1"},
		Secrets: func() (Secrets, error) { return Secrets{AccessKey: "k3y"}, nil }})
	defer s.Close()
	for range 20 {
		if err := s.Put(t.Context(), objectOf(strings.Repeat("x", 100_000))); err != nil {
			t.Fatal(err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	if q := r.Requests(); len(q) != 1 || q[0].Times != 20 || len(r.Broken()) > 0 {
		t.Errorf("%d requests, broken %q", len(q), r.Broken())
	}
}

func TestAttributesHeader(t *testing.T) {
	for _, c := range []struct {
		in   map[string]string
		want string
	}{
		{nil, `{"commonAttributes":{}}`},
		{map[string]string{"b": "2", "a": `q"\`}, `{"commonAttributes":{"a":"q\"\\","b":"2"}}`},
		{map[string]string{"ü": "😀\n"}, `{"commonAttributes":{"\u00fc":"\ud83d\ude00\u000a"}}`},
	} {
		if got := attributesHeader(c.in); got != c.want {
			t.Errorf("%v: %s, want %s", c.in, got, c.want)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{URL: "ftp://h"}, "the url is not an http or https URL"},
		{Options{URL: "http://"}, "the url is not an http or https URL"},
		{Options{URL: "http://u:p@h"}, "the url has a user or a fragment in it"},
		{Options{URL: "http://h", CertFile: "c"}, "a certificate needs its key, and a key its certificate"},
		{Options{URL: "http://h", Timeout: -1}, "a timeout of -1ns, 0 requests in flight"},
		{Options{URL: "http://h", CAFile: "/nowhere"}, "read the authorities to trust: open /nowhere: no such file or directory"},
	} {
		if _, err := New(c.o); err == nil || err.Error() != c.want {
			t.Errorf("%+v: %v, want %s", c.o, err, c.want)
		}
	}
}

// authority issues certificates for 127.0.0.1.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir string) *authority {
	a := &authority{t: t, dir: dir}
	a.cert, a.key = a.issue("ca", true, nil, nil)
	return a
}

func (a *authority) issue(name string, ca bool, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: ca, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	a.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}))
	out, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return out, key
}

func (a *authority) write(name string, b []byte) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), b, 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// A private authority is trusted, a certificate is shown, and both are read again when their files change.
func TestMutualTLS(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	a := newAuthority(t, dir)
	newAuthority(t, other)
	a.issue("server", false, a.cert, a.key)
	a.issue("client", false, a.cert, a.key)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	r := receiver.NewUnstarted(receiver.Rules{AnyBody: true, ARN: testARN})
	r.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	r.StartTLS()
	defer r.Server.Close()
	arn := func() string { return testARN }
	file := func(name string) string { return filepath.Join(dir, name) }

	good := open(t, Options{URL: r.URL, SourceARN: arn, CAFile: file("ca.pem"), CertFile: file("client.pem"), KeyFile: file("client.key")})
	defer good.Close()
	if err := good.Put(t.Context(), objectOf("body")); err != nil {
		t.Fatal(err)
	}
	bare := open(t, Options{URL: r.URL, SourceARN: arn, CAFile: file("ca.pem")})
	defer bare.Close()
	// With TLS 1.3 the server refuses after the client's part of the handshake: a request that is still being written
	// may meet the closed connection before the alert is read. That attempt tells nothing, and the next may.
	for deadline := time.Now().Add(30 * time.Second); ; {
		err := bare.Put(t.Context(), objectOf("body"))
		if sinks.ClassOf(err) == sinks.RefusedDestination {
			break
		}
		if err == nil || time.Now().After(deadline) {
			t.Fatalf("without a certificate: %v (%v)", err, sinks.ClassOf(err))
		}
	}
	// The wrong authority, put right while the sink is in use.
	ca := filepath.Join(t.TempDir(), "ca.pem")
	copyFile(t, filepath.Join(other, "ca.pem"), ca)
	late := open(t, Options{URL: r.URL, SourceARN: arn, CAFile: ca, CertFile: file("client.pem"), KeyFile: file("client.key")})
	defer late.Close()
	if err := late.Put(t.Context(), objectOf("body")); sinks.ClassOf(err) != sinks.RefusedDestination {
		t.Errorf("with another authority: %v", err)
	}
	copyFile(t, file("ca.pem"), ca)
	later := time.Now().Add(time.Second)
	if err := os.Chtimes(ca, later, later); err != nil {
		t.Fatal(err)
	}
	if err := late.Put(t.Context(), objectOf("body")); err != nil {
		t.Errorf("with the right authority: %v", err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Retry-After comes in seconds or as a date.
func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "12": 12 * time.Second, "3600": time.Hour, "3601": time.Hour, "-1": 0, "soon": 0, "4294967296": 0,
		"Tue, 24 Nov 2026 10:00:30 GMT": 30 * time.Second, "Tue, 24 Nov 2026 09:00:00 GMT": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		receiver.OK(w, r.Header.Get(headerRequestID))
	}))
	defer s.Close()
	sink := open(b, Options{URL: s.URL})
	defer sink.Close()
	body := bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16)
	o := sinks.Object{Key: testID, RequestID: testID, ContentType: "application/json", Size: int64(len(body)), SHA256: sha256.Sum256(body), ReaderAt: bytes.NewReader(body)}
	b.SetBytes(o.Size)
	b.ReportAllocs()
	for b.Loop() {
		if err := sink.Put(context.Background(), o); err != nil {
			b.Fatal(err)
		}
	}
}
