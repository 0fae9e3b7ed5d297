package access

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	testKey    = "AKIDEXAMPLE"
	testSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

func text(s string) func() (string, error) { return func() (string, error) { return s, nil } }

var everything = Grant{Streams: []string{"*"}, Actions: Actions()}

// guarded is a guard with the test's key, and what else is wanted.
func guarded(t testing.TB, more ...AccessKey) *Guard {
	t.Helper()
	g, err := New(Options{Credentials: Credentials{AccessKeys: append(more, AccessKey{ID: testKey, Secret: text(testSecret), Grant: everything}),
		Tokens: []Token{{Name: "ci", Value: text("a-token"), Grant: Grant{Streams: []string{"clicks"}, Actions: []Action{Put}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// arrive sends a request through the wire form, as a server reads it.
func arrive(t testing.TB, r *http.Request) *http.Request {
	t.Helper()
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	return arriveText(t, b.String())
}

func arriveText(t testing.TB, wire string) *http.Request {
	t.Helper()
	got, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
	if err != nil {
		t.Fatalf("%v in\n%s", err, wire)
	}
	return got
}

// verify is both halves over a request's own body.
func verify(g *Guard, r *http.Request) (*Caller, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	c, err := g.Begin(r)
	if err != nil {
		return nil, err
	}
	return c, c.Confirm(sha256.Sum256(body))
}

// refusedAs fails the test unless err is an *Error of this code, and returns its message.
func refusedAs(t *testing.T, err error, code, reason string) string {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Code != code || e.Reason != reason {
		t.Fatalf("got %#v, want %s for the reason %s", err, code, reason)
	}
	if strings.Contains(e.Message, testSecret) {
		t.Fatalf("the message holds the secret: %s", e.Message)
	}
	return e.Message
}

// call is a request before it is signed.
type call struct {
	method, url, body string
	header            []string
}

func (c call) request(t testing.TB) *http.Request {
	t.Helper()
	r, err := http.NewRequest(c.method, c.url, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(c.header); i += 2 {
		r.Header.Add(c.header[i], c.header[i+1])
	}
	return r
}

// calls go through every rule of the canonical form.
var calls = map[string]call{
	"root":                  {"POST", "http://127.0.0.1:4573/", `{"a":1}`, []string{"Content-Type", "application/x-amz-json-1.1", "X-Amz-Target", "Firehose_20150804.PutRecord"}},
	"empty body":            {"POST", "http://127.0.0.1:4573/", "", nil},
	"get":                   {"GET", "http://example.amazonaws.com/", "", nil},
	"a path":                {"POST", "http://h/v1/streams/clicks/records", "{}\n", []string{"Content-Type", "application/x-ndjson"}},
	"a path of spaces":      {"GET", "http://h/a%20b/c%2Fd", "", nil},
	"a path of UTF-8":       {"GET", "http://h/%E1%88%B4", "", nil},
	"a path with a slash":   {"GET", "http://h/a/", "", nil},
	"reserved in a path":    {"GET", "http://h/a+b:c@d$e,f;g=h!i*j'k(l)", "", nil},
	"query out of order":    {"GET", "http://h/?b=2&a=1&a=0&B=3", "", nil},
	"query, one name":       {"GET", "http://h/?Param1=value2&Param1=Value1", "", nil},
	"query without values":  {"GET", "http://h/?a&b=", "", nil},
	"query of UTF-8":        {"GET", "http://h/?%E1%88%B4=bar", "", nil},
	"query, unreserved":     {"GET", "http://h/?-._~0123456789abcXYZ=-._~0123456789abcXYZ", "", nil},
	"query, reserved":       {"GET", "http://h/?a=%2F%3A%3D%26%20%2B", "", nil},
	"query, prefix sort":    {"GET", "http://h/?a-b=1&a=2&ab=3", "", nil},
	"header order":          {"GET", "http://h/", "", []string{"My-Header1", "value4", "My-Header1", "value1", "My-Header1", "value3"}},
	"header trimmed":        {"GET", "http://h/", "", []string{"My-Header1", " value1  a   b ", "My-Header2", ` "a   b   c" `}},
	"header empty":          {"GET", "http://h/", "", []string{"My-Header1", ""}},
	"header named alike":    {"GET", "http://h/", "", []string{"A", "1", "A-B", "2", "A_C", "3"}},
	"retry headers":         {"POST", "http://h/", "x", []string{"Amz-Sdk-Invocation-Id", "be791e27-7f88-4a6b-a1a5-e1d3f3b5e6f4", "Amz-Sdk-Request", "attempt=1; max=3"}},
	"host with a port":      {"POST", "http://[::1]:4573/", "x", nil},
	"host without its port": {"POST", "http://hydrant/", "x", nil},
}

// sign signs with the Go SDK's signer, which knows nothing of this package.
func sign(t testing.TB, c call, at time.Time) *http.Request {
	t.Helper()
	r := c.request(t)
	sum := sha256.Sum256([]byte(c.body))
	if err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, r,
		hex.EncodeToString(sum[:]), "firehose", "eu-west-1", at); err != nil {
		t.Fatal(err)
	}
	return arrive(t, r)
}

// presign does the same for a presigned URL.
func presign(t testing.TB, c call, at time.Time, seconds int) *http.Request {
	t.Helper()
	r := c.request(t)
	q := r.URL.Query()
	q.Set("X-Amz-Expires", fmt.Sprint(seconds))
	r.URL.RawQuery = q.Encode()
	sum := sha256.Sum256([]byte(c.body))
	signed, header, err := v4.NewSigner().PresignHTTP(context.Background(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, r,
		hex.EncodeToString(sum[:]), "firehose", "eu-west-1", at)
	if err != nil {
		t.Fatal(err)
	}
	out, err := http.NewRequest(c.method, signed, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		if name != "Host" {
			out.Header[name] = values
		}
	}
	return arrive(t, out)
}

func TestSignaturesOfTheGoSDK(t *testing.T) {
	g := guarded(t)
	for name, c := range calls {
		for form, r := range map[string]*http.Request{"header": sign(t, c, time.Now()), "presigned": presign(t, c, time.Now(), 60)} {
			who, err := verify(g, r)
			if err != nil {
				t.Errorf("%s, %s: %v", name, form, err)
			} else if who.Name() != testKey || who.Tag() != sha256.Sum256([]byte(testKey)) || who.Authorize("PutRecord", "s") != nil {
				t.Errorf("%s, %s: caller %q", name, form, who.Name())
			}
		}
	}
}

// Whatever is changed on the way is noticed.
func TestTampering(t *testing.T) {
	g := guarded(t)
	c := calls["root"]
	c.url += "?a=1"
	c.header = append(slices.Clone(c.header), "Amz-Sdk-Invocation-Id", "1")
	for name, tamper := range map[string]func(r *http.Request){
		"method":         func(r *http.Request) { r.Method = "PUT" },
		"path":           func(r *http.Request) { r.URL.Path = "/other" },
		"query":          func(r *http.Request) { r.URL.RawQuery += "&a=2" },
		"a query gone":   func(r *http.Request) { r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "a=1", "", 1) },
		"host":           func(r *http.Request) { r.Host = "elsewhere" },
		"a header":       func(r *http.Request) { r.Header.Set("Amz-Sdk-Invocation-Id", "2") },
		"a header more":  func(r *http.Request) { r.Header.Add("Amz-Sdk-Invocation-Id", "2") },
		"a header less":  func(r *http.Request) { r.Header.Del("Amz-Sdk-Invocation-Id") },
		"body":           func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{"a":2}`)) },
		"no body":        func(r *http.Request) { r.Body = http.NoBody },
		"content length": func(r *http.Request) { r.Header.Set("Content-Length", "8") },
	} {
		for form, r := range map[string]*http.Request{"header": sign(t, c, time.Now()), "presigned": presign(t, c, time.Now(), 60)} {
			tamper(r)
			if who, err := verify(g, r); err == nil {
				t.Errorf("%s, %s: taken as %q", name, form, who.Name())
			} else if e, ok := errors.AsType[*Error](err); !ok || e.Code != codeInvalid {
				t.Errorf("%s, %s: %v", name, form, err)
			}
		}
	}
	r := sign(t, c, time.Now())
	r.Header.Set("X-Amz-Target", "Firehose_20150804.DeleteDeliveryStream")
	_, err := verify(g, r)
	refusedAs(t, err, codeInvalid, reasonSignature)
	r = sign(t, calls["get"], time.Now())
	r.Header.Set("X-Amz-Target", "Firehose_20150804.DeleteDeliveryStream") // one that was not there is not signed
	_, err = verify(g, r)
	if m := refusedAs(t, err, codeInvalid, reasonIncomplete); m != "'X-Amz-Target' must be a 'SignedHeader' in the AWS Authorization." {
		t.Error(m)
	}
	other := guarded(t)
	if err := other.Use(Credentials{AccessKeys: []AccessKey{{ID: testKey, Secret: text(testSecret + "x"), Grant: everything}}}); err != nil {
		t.Fatal(err)
	}
	_, err = verify(other, sign(t, c, time.Now()))
	if m := refusedAs(t, err, codeInvalid, reasonSignature); m != messageMismatch {
		t.Error(m)
	}
}

// reference is a signer of our own, for shapes that the SDK's signer does not make: it signs these headers, in
// this order, as the standard says, by putting texts together.
func reference(r *http.Request, headers []string, payload string, stamp string) string {
	canonical := r.Method + "\n" + r.URL.EscapedPath() + "\n\n"
	for _, name := range headers {
		v := r.Header.Get(name)
		if name == "host" {
			v = r.Host
		}
		canonical += name + ":" + v + "\n"
	}
	canonical += "\n" + strings.Join(headers, ";") + "\n" + payload
	hash := func(s string) string { sum := sha256.Sum256([]byte(s)); return hex.EncodeToString(sum[:]) }
	keyed := func(key, s string) string {
		h := hmac.New(sha256.New, []byte(key))
		io.WriteString(h, s)
		return string(h.Sum(nil))
	}
	scope := stamp[:8] + "/us-east-1/firehose/aws4_request"
	k := "AWS4" + testSecret
	for part := range strings.SplitSeq(scope, "/") {
		k = keyed(k, part)
	}
	return fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x", testKey, scope, strings.Join(headers, ";"),
		keyed(k, "AWS4-HMAC-SHA256\n"+stamp+"\n"+scope+"\n"+hash(canonical)))
}

// The headers that clients send and sign, as they were seen on the wire.
func TestShapesOfClients(t *testing.T) {
	const body = `{"DeliveryStreamName":"clicks","Record":{"Data":"eyJhIjoxfQo="}}`
	stamp := time.Now().UTC().Format(stampLayout)
	sum := sha256.Sum256([]byte(body))
	payload := hex.EncodeToString(sum[:])
	for name, c := range map[string]struct{ header, signed string }{
		"AWS CLI 2.9": {"Host: 127.0.0.1:4573\r\nAccept-Encoding: identity\r\nX-Amz-Target: Firehose_20150804.PutRecord\r\nContent-Type: application/x-amz-json-1.1\r\nUser-Agent: aws-cli/2.9.19 Python/3.11.2 Linux/6.1 source/x86_64.debian.12\r\nX-Amz-Date: STAMP\r\n",
			"content-type;host;x-amz-date;x-amz-target"},
		"AWS SDK for Java 2": {"Host: 127.0.0.1:4573\r\namz-sdk-invocation-id: 6e1a4b5c-6c39-8f3e-4f1e-0b8b4f7f8e0c\r\namz-sdk-request: attempt=1; max=4\r\nContent-Type: application/x-amz-json-1.1\r\nUser-Agent: aws-sdk-java/2.20.26 Linux/5.10 OpenJDK_64-Bit_Server_VM/17 Java/17\r\nX-Amz-Date: STAMP\r\nX-Amz-Target: Firehose_20150804.PutRecord\r\nConnection: Keep-Alive\r\n",
			"amz-sdk-invocation-id;amz-sdk-request;content-length;content-type;host;x-amz-date;x-amz-target"},
		"AWS SDK for Java 1": {"Host: 127.0.0.1:4573\r\nX-Amz-Date: STAMP\r\nX-Amz-Target: Firehose_20150804.PutRecord\r\nUser-Agent: aws-sdk-java/1.12.400 Linux/5.10 OpenJDK\r\namz-sdk-invocation-id: c27f5ae0-3f1a-39e8-9c6e-3f0a1a8b1d53\r\namz-sdk-retry: 0/0/500\r\namz-sdk-request: attempt=1;max=4\r\nContent-Type: application/x-amz-json-1.1\r\n",
			"amz-sdk-invocation-id;amz-sdk-request;amz-sdk-retry;content-length;content-type;host;user-agent;x-amz-date;x-amz-target"},
		"Fluent Bit": {"Host: firehose.us-east-1.amazonaws.com\r\nUser-Agent: aws-fluent-bit-plugin\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: Firehose_20150804.PutRecord\r\nx-amz-date: STAMP\r\n",
			"content-length;content-type;host;user-agent;x-amz-date;x-amz-target"},
		"JavaScript": {"host: 127.0.0.1:4573\r\ncontent-type: application/x-amz-json-1.1\r\nx-amz-target: Firehose_20150804.PutRecord\r\nx-amz-user-agent: aws-sdk-js/3.1169.0\r\namz-sdk-invocation-id: 0e5c8b6e-8c0a-4a7e-9f38-7d1b0f1f8d3a\r\namz-sdk-request: attempt=1; max=3\r\nx-amz-date: STAMP\r\nx-amz-content-sha256: PAYLOAD\r\n",
			"amz-sdk-invocation-id;amz-sdk-request;content-length;content-type;host;x-amz-content-sha256;x-amz-date;x-amz-target;x-amz-user-agent"},
		"only a Date": {"Host: h\r\nDate: DATE\r\nX-Amz-Target: Firehose_20150804.PutRecord\r\n", "date;host;x-amz-target"},
	} {
		at, err := time.Parse(stampLayout, stamp)
		if err != nil {
			t.Fatal(err)
		}
		header := strings.NewReplacer("STAMP", stamp, "PAYLOAD", payload, "DATE", at.Format(http.TimeFormat)).Replace(c.header)
		wire := "POST / HTTP/1.1\r\n" + header + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
		r := arriveText(t, wire)
		r.Header.Set("Authorization", reference(r, strings.Split(c.signed, ";"), payload, stamp))
		if _, err := verify(guarded(t), r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The reference agrees with the SDK, so that it may stand for clients.
	r := sign(t, calls["root"], time.Now())
	s, e := readAuthorization(r.Header.Get("Authorization"))
	if e != nil {
		t.Fatal(e)
	}
	own := sha256.Sum256([]byte(calls["root"].body))
	if got := strings.ReplaceAll(reference(r, s.headers, hex.EncodeToString(own[:]), r.Header.Get("X-Amz-Date")), "us-east-1", "eu-west-1"); !strings.HasPrefix(r.Header.Get("Authorization"), strings.Split(got, ", Signature")[0]) {
		t.Errorf("%s\nis not made as\n%s", got, r.Header.Get("Authorization"))
	}
}

// A key that AWS published: its example of deriving a signing key.
func TestPublishedSigningKey(t *testing.T) {
	k := &key{}
	got, _ := k.signingKey(&reading{text: testSecret}, &signature{day: "20120215", region: "us-east-1", service: "iam"})
	if hex.EncodeToString(got[:]) != "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d" {
		t.Errorf("%x", got)
	}
}

func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := guarded(t)
		now := time.Now() // 2000-01-01 00:00:00 UTC
		for _, c := range []struct {
			off  time.Duration
			want string
		}{
			{0, ""}, {-Window, ""}, {Window, ""},
			{-Window - time.Second, "Signature expired: 19991231T235459Z is now earlier than 19991231T235500Z (20000101T000000Z - 5 min.)"},
			{Window + time.Second, "Signature not yet current: 20000101T000501Z is still later than 20000101T000500Z (20000101T000000Z + 5 min.)"},
		} {
			_, err := verify(g, sign(t, calls["root"], now.Add(c.off)))
			if c.want == "" {
				if err != nil {
					t.Errorf("%s: %v", c.off, err)
				}
			} else if m := refusedAs(t, err, codeInvalid, reasonClock); m != c.want {
				t.Errorf("%s:\n got %s\nwant %s", c.off, m, c.want)
			}
		}
		for _, c := range []struct {
			off     time.Duration
			seconds int
			want    string
		}{
			{0, 1, ""}, {-60 * time.Second, 60, ""}, {Window, 60, ""}, {-7 * 24 * time.Hour, 604800, ""},
			{-61 * time.Second, 60, "Signature expired: 19991231T235859Z is now earlier than 19991231T235900Z (20000101T000000Z - 60 sec.)"},
			{Window + time.Second, 60, "Signature not yet current: 20000101T000501Z is still later than 20000101T000500Z (20000101T000000Z + 5 min.)"},
		} {
			_, err := verify(g, presign(t, calls["root"], now.Add(c.off), c.seconds))
			if c.want == "" {
				if err != nil {
					t.Errorf("presigned, %s of %d s: %v", c.off, c.seconds, err)
				}
			} else if m := refusedAs(t, err, codeInvalid, reasonClock); m != c.want {
				t.Errorf("presigned, %s:\n got %s\nwant %s", c.off, m, c.want)
			}
		}
		// A replay is taken within the window and not behind it.
		r := sign(t, calls["get"], now)
		for range 2 {
			if _, err := verify(g, r); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(Window + time.Second)
		_, err := verify(g, r)
		refusedAs(t, err, codeInvalid, reasonClock)
	})
}

// What is wrong with a signature is said in AWS's words.
func TestMalformedSignatures(t *testing.T) {
	g := guarded(t)
	good := sign(t, calls["root"], time.Now()).Header
	const missing = "Authorization header requires "
	auth := good.Get("Authorization")
	day := time.Now().UTC().Format(dayLayout)
	for _, c := range []struct {
		name, authorization, code, reason, message string
	}{
		{"none", "", codeMissing, reasonMissing, "Missing Authentication Token"},
		{"another scheme", "Basic dTpw", codeIncomplete, reasonIncomplete, "Authorization header must begin with 'AWS4-HMAC-SHA256' or 'Bearer'."},
		{"version 4a", strings.Replace(auth, algorithm, "AWS4-ECDSA-P256-SHA256", 1), codeIncomplete, reasonIncomplete, "Authorization header must begin with 'AWS4-HMAC-SHA256' or 'Bearer'."},
		{"nothing in it", algorithm + " Credential=,Signature=,SignedHeaders=", codeIncomplete, reasonIncomplete, missing + "'Credential' parameter. " + missing + "'Signature' parameter. " + missing + "'SignedHeaders' parameter."},
		{"no signature", algorithm + " Credential=a/b/c/d/e, SignedHeaders=host", codeIncomplete, reasonIncomplete, missing + "'Signature' parameter."},
		{"no equal-sign", algorithm + " Credential", codeIncomplete, reasonIncomplete, "'Credential' not a valid key=value pair (missing equal-sign or given twice) in Authorization header."},
		{"given twice", auth + ", Signature=00", codeIncomplete, reasonIncomplete, "' Signature=00' not a valid key=value pair (missing equal-sign or given twice) in Authorization header."},
		{"short credential", algorithm + " Credential=a/b/c/d, SignedHeaders=host, Signature=00", codeIncomplete, reasonIncomplete, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 'a/b/c/d'"},
		{"no key id", strings.Replace(auth, testKey, "", 1), codeIncomplete, reasonIncomplete, "Credential has an empty access key id."},
		{"another end", strings.Replace(auth, terminator, "aws5_request", 1), codeInvalid, reasonScope, "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'."},
		{"another service", strings.Replace(auth, "/firehose/", "/kinesis/", 1), codeInvalid, reasonScope, "Credential should be scoped to correct service: 'firehose'. "},
		{"no region", strings.Replace(auth, "/eu-west-1/", "//", 1), codeInvalid, reasonScope, "Credential should be scoped to a valid region. "},
		{"another region", strings.Replace(auth, "/eu-west-1/", "/eu-west-2/", 1), codeInvalid, reasonSignature, messageMismatch},
		{"another day", strings.Replace(auth, "/"+day+"/", "/20150830/", 1), codeInvalid, reasonScope, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20150830' != '" + day + "', from '" + good.Get("X-Amz-Date") + "'."},
		{"unknown key", strings.Replace(auth, testKey, "AKIDOTHER", 1), codeUnrecognized, reasonKey, messageInvalidToken},
		{"host not signed", strings.Replace(auth, ";host;", ";", 1), codeInvalid, reasonIncomplete, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."},
		{"target not signed", strings.Replace(auth, ";x-amz-target", "", 1), codeInvalid, reasonIncomplete, "'X-Amz-Target' must be a 'SignedHeader' in the AWS Authorization."},
		{"upper case", strings.Replace(auth, ";host;", ";Host;", 1), codeIncomplete, reasonIncomplete, "SignedHeaders must be different names in lower case, separated by ';', and has 'Host'."},
		{"header twice", strings.Replace(auth, ";host;", ";host;host;", 1), codeIncomplete, reasonIncomplete, "SignedHeaders must be different names in lower case, separated by ';', and has 'host'."},
		{"too many headers", algorithm + " Credential=a/b/c/d/aws4_request, SignedHeaders=" + strings.Repeat("a;", maxSigned) + "b, Signature=00", codeIncomplete, reasonIncomplete, "SignedHeaders has more than 64 names."},
		{"short signature", auth[:len(auth)-1], codeInvalid, reasonSignature, messageMismatch},
		{"long signature", auth + "0", codeInvalid, reasonSignature, messageMismatch},
		{"no hexadecimal", auth[:len(auth)-1] + "g", codeInvalid, reasonSignature, messageMismatch},
		{"unknown token", "Bearer a-tokem", codeUnrecognized, reasonToken, messageInvalidToken},
		{"empty token", "Bearer ", codeUnrecognized, reasonToken, messageInvalidToken},
	} {
		r := sign(t, calls["root"], time.Now())
		r.Header = good.Clone()
		r.Header["Authorization"] = []string{c.authorization}
		if c.authorization == "" {
			delete(r.Header, "Authorization")
		}
		_, err := verify(g, r)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Code != c.code || e.Reason != c.reason || e.Message != c.message {
			t.Errorf("%s:\n got %v\nwant %s: %s (%s)", c.name, err, c.code, c.message, c.reason)
		}
	}
	r := sign(t, calls["root"], time.Now())
	r.Header.Add("Authorization", "Bearer a-token")
	_, err := verify(g, r)
	refusedAs(t, err, codeIncomplete, reasonIncomplete)
	for _, c := range []struct{ name, value, want string }{
		{"none", "", "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."},
		{"another form", "2015-08-30T12:36:00Z", "Date must be in ISO-8601 'basic format', like 20150830T123600Z. Got '2015-08-30T12:36:00Z' in 'X-Amz-Date'."},
		{"no such day", "20150231T123600Z", "Date must be in ISO-8601 'basic format', like 20150830T123600Z. Got '20150231T123600Z' in 'X-Amz-Date'."},
		{"a fraction", "20150830T123600.5Z", "Date must be in ISO-8601 'basic format', like 20150830T123600Z. Got '20150830T123600.5Z' in 'X-Amz-Date'."},
	} {
		r := sign(t, calls["root"], time.Now())
		r.Header.Set("X-Amz-Date", c.value)
		_, err := verify(g, r)
		if m := refusedAs(t, err, codeIncomplete, reasonIncomplete); m != c.want {
			t.Errorf("date, %s: %s", c.name, m)
		}
	}
}

func TestMalformedPresignedRequests(t *testing.T) {
	g := guarded(t)
	change := func(f func(q url.Values)) *http.Request {
		r := presign(t, calls["root"], time.Now(), 60)
		q := r.URL.Query()
		f(q)
		r.URL.RawQuery = q.Encode()
		return r
	}
	for _, c := range []struct {
		name string
		f    func(q url.Values)
		want string
	}{
		{"no signature", func(q url.Values) { q.Del("X-Amz-Signature") }, "AWS query-string parameters must include 'X-Amz-Signature'. Re-examine the query-string parameters."},
		{"no algorithm and no date", func(q url.Values) { q.Del("X-Amz-Algorithm"); q.Del("X-Amz-Date") }, "AWS query-string parameters must include 'X-Amz-Algorithm'. AWS query-string parameters must include 'X-Amz-Date'. Re-examine the query-string parameters."},
		{"algorithm", func(q url.Values) { q.Set("X-Amz-Algorithm", "AWS4") }, "'X-Amz-Algorithm' must be 'AWS4-HMAC-SHA256'."},
		{"expires 0", func(q url.Values) { q.Set("X-Amz-Expires", "0") }, "'X-Amz-Expires' must be from 1 to 604800 seconds, and is '0'."},
		{"expires late", func(q url.Values) { q.Set("X-Amz-Expires", "604801") }, "'X-Amz-Expires' must be from 1 to 604800 seconds, and is '604801'."},
		{"expires never", func(q url.Values) { q.Set("X-Amz-Expires", "never") }, "'X-Amz-Expires' must be from 1 to 604800 seconds, and is 'never'."},
		{"given twice", func(q url.Values) { q.Add("X-Amz-Date", "20150830T123600Z") }, "The query string cannot be decoded."},
	} {
		_, err := verify(g, change(c.f))
		if m := refusedAs(t, err, codeIncomplete, reasonIncomplete); m != c.want {
			t.Errorf("%s: %s", c.name, m)
		}
	}
	_, err := verify(g, change(func(q url.Values) { q.Set("X-Amz-Expires", "61") })) // longer than was signed
	refusedAs(t, err, codeInvalid, reasonSignature)
	r := presign(t, calls["root"], time.Now(), 60)
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 x")
	_, err = verify(g, r)
	if m := refusedAs(t, err, codeInvalid, reasonIncomplete); m != "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header." {
		t.Error(m)
	}
	r = presign(t, calls["root"], time.Now(), 60)
	r.URL.RawQuery += "&x=%zz"
	_, err = verify(g, r)
	refusedAs(t, err, codeIncomplete, reasonIncomplete)
}

// Payloads that are not signed are taken over TLS only, and a hash that is named must be the body's.
func TestPayloads(t *testing.T) {
	const body = "any"
	c := call{"POST", "http://h/", body, nil}
	signed := func(said string) *http.Request {
		r := c.request(t)
		r.Header.Set("X-Amz-Content-Sha256", said)
		if err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, r, said, "firehose", "us-east-1", time.Now()); err != nil {
			t.Fatal(err)
		}
		return arrive(t, r)
	}
	g := guarded(t)
	r := signed(unsignedPayload)
	_, err := verify(g, r)
	if m := refusedAs(t, err, codeInvalid, reasonIncomplete); m != "An unsigned payload is taken over TLS only." {
		t.Error(m)
	}
	r = signed(unsignedPayload)
	r.TLS = &tls.ConnectionState{}
	if _, err := verify(g, r); err != nil {
		t.Error(err)
	}
	sum := sha256.Sum256([]byte(body))
	right := hex.EncodeToString(sum[:])
	if _, err := verify(g, signed(right)); err != nil {
		t.Error(err)
	}
	for _, said := range []string{"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", strings.ToUpper(right), right + "0", right[:63], right[:63] + "g"} {
		_, err = verify(g, signed(said))
		refusedAs(t, err, codeInvalid, reasonIncomplete)
	}
	wrong := strings.Repeat("0", 64)
	r = signed(wrong)
	who, err := g.Begin(r)
	if err != nil {
		t.Fatal(err) // it was signed so
	}
	if m := refusedAs(t, who.Confirm(sum), codeInvalid, reasonSignature); m != "The body is not the one that was signed: its SHA-256 is not that of 'X-Amz-Content-Sha256'." {
		t.Error(m)
	}
	// Where the hash is named a wrong signature is found out before the body is read.
	r = signed(right)
	a := []byte(r.Header.Get("Authorization"))
	a[len(a)-1] ^= 1
	r.Header.Set("Authorization", string(a))
	_, err = g.Begin(r)
	refusedAs(t, err, codeInvalid, reasonSignature)
}

func TestSessionTokens(t *testing.T) {
	signed := func(session string) *http.Request {
		r := calls["root"].request(t)
		sum := sha256.Sum256([]byte(calls["root"].body))
		if err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret, SessionToken: session}, r,
			hex.EncodeToString(sum[:]), "firehose", "us-east-1", time.Now()); err != nil {
			t.Fatal(err)
		}
		return arrive(t, r)
	}
	for _, c := range []struct {
		name, configured, sent string
		ok                     bool
	}{
		{"none at all", "", "", true},
		{"the configured one", "session", "session", true},
		{"one that was not given out", "", "session", false},
		{"another", "session", "sessiom", false},
		{"the configured one is missing", "session", "", false},
	} {
		k := AccessKey{ID: testKey, Secret: text(testSecret), Grant: everything}
		if c.configured != "" {
			k.SessionToken = text(c.configured)
		}
		g, err := New(Options{Credentials: Credentials{AccessKeys: []AccessKey{k}}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = verify(g, signed(c.sent))
		if c.ok && err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if !c.ok {
			refusedAs(t, err, codeUnrecognized, reasonKey)
		}
	}
}

// canonicalOf is the canonical request of a request line and headers, without the hash.
func canonicalOf(t *testing.T, wire, signed string) string {
	t.Helper()
	b, ok := appendCanonical(nil, arriveText(t, wire), &signature{headers: strings.Split(signed, ";")})
	if !ok {
		t.Fatalf("not decoded: %s", wire)
	}
	return string(b)
}

// Exact canonical requests, for what the SDK's signer leaves to its caller.
func TestCanonicalRequests(t *testing.T) {
	for path, want := range map[string]string{
		"/":              "/",
		"//":             "/",
		"/./":            "/",
		"/..":            "/",
		"/a/..":          "/",
		"/a/../..":       "/",
		"/./example":     "/example",
		"//example//":    "/example/",
		"/a/b/../c":      "/a/c",
		"/a/b/..":        "/a/",
		"/a/.":           "/a/",
		"/a/./b":         "/a/b",
		"/a%20b":         "/a%2520b",
		"/-._~":          "/-._~",
		"/%E1%88%B4":     "/%25E1%2588%25B4",
		"/a%2Fb":         "/a%252Fb",
		"/example/..a/b": "/example/..a/b",
	} {
		if got := string(appendPath(nil, path)); got != want {
			t.Errorf("path %s: got %s, want %s", path, got, want)
		}
	}
	for raw, want := range map[string]string{
		"":                            "",
		"b&a":                         "a=&b=",
		"a=2&a=1":                     "a=1&a=2",
		"a=b=c":                       "a=b%3Dc",
		"a+b=c+d":                     "a%20b=c%20d",
		"%61=%7e":                     "a=~",
		"&&a=1&":                      "a=1",
		"X-Amz-Signature=1&a=1":       "a=1",
		"x-amz-signature=1&%41=%2541": "A=%2541&x-amz-signature=1",
	} {
		got, ok := appendQuery(nil, raw, true)
		if !ok || string(got) != want {
			t.Errorf("query %s: got %s, %v, want %s", raw, got, ok, want)
		}
	}
	if got, _ := appendQuery(nil, "X-Amz-Signature=1", false); string(got) != "X-Amz-Signature=1" {
		t.Errorf("a parameter that only looks like a signature: %s", got)
	}
	for _, raw := range []string{"a=%", "a=%1", "a=%zz", "%=1"} {
		if _, ok := appendQuery(nil, raw, false); ok {
			t.Errorf("query %s is taken", raw)
		}
	}
	got := canonicalOf(t, "GET /x?b=1&a=%20 HTTP/1.1\r\nHost: Example.com:80\r\nMy-Header1:  a   b  c \r\nMy-Header1: d\r\nMy-Header2: \"x  y\"\r\n\r\n", "host;my-header1;my-header2;none")
	want := "GET\n/x\na=%20&b=1\nhost:Example.com:80\nmy-header1:a b c,d\nmy-header2:\"x y\"\nnone:\n\nhost;my-header1;my-header2;none\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestHeaderKeys(t *testing.T) {
	for _, name := range []string{"host", "x-amz-date", "amz-sdk-invocation-id", "-a--b-", "a_b", "x9-9y", "etag", "www-authenticate", "a.b!c", strings.Repeat("long-", 40)} {
		if got, want := string(appendHeaderKey(nil, name)), http.CanonicalHeaderKey(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// Keys of days and regions are derived once, and only for signatures that were right.
func TestDerivedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := guarded(t)
		k := g.keys.Load().keys[testKey]
		count := func() int {
			if all := k.derived.Load(); all != nil {
				return len(*all)
			}
			return 0
		}
		r := sign(t, calls["root"], time.Now())
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "eu-west-1", "eu-west-2", 1))
		if _, err := verify(g, r); err == nil || count() != 0 {
			t.Fatalf("%v, %d keys after a wrong signature", err, count())
		}
		for day := range 2 * maxDerivations {
			for range 2 {
				if _, err := verify(g, sign(t, calls["root"], time.Now())); err != nil {
					t.Fatal(err)
				}
			}
			if want := min(day+1, maxDerivations); count() != want {
				t.Errorf("day %d: %d keys, want %d", day, count(), want)
			}
			time.Sleep(24 * time.Hour)
		}
	})
}

func FuzzAuthorization(f *testing.F) {
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		r := sign(f, calls[name], time.Now())
		f.Add(r.Header.Get("Authorization"), r.Header.Get("X-Amz-Date"))
	}
	f.Add("Bearer a", "Mon, 02 Jan 2006 15:04:05 GMT")
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/e,,=,", "")
	g := guarded(f)
	f.Fuzz(func(t *testing.T, authorization, date string) {
		r, err := http.NewRequest("POST", "http://h/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header["Authorization"] = []string{authorization}
		r.Header["X-Amz-Date"] = []string{date}
		if s, e := readSignature(r); e == nil && (s.key == "" || len(s.headers) == 0 || s.at.IsZero()) {
			t.Errorf("%q: taken as %+v", authorization, s)
		}
		// No text can be the signature of this request, but one that the key made; and that is for another body.
		if who, err := g.Begin(r); err == nil && who.Confirm([32]byte{1}) == nil && who.name == testKey {
			t.Errorf("%q was let in", authorization)
		}
	})
}

func FuzzPresignedQuery(f *testing.F) {
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		f.Add(presign(f, calls[name], time.Now(), 60).URL.RawQuery)
	}
	f.Add("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Algorithm=x&a=%zz&&=&+")
	g := guarded(f)
	f.Fuzz(func(t *testing.T, query string) {
		r := &http.Request{Method: "POST", Host: "h", Header: http.Header{}, URL: &url.URL{Path: "/", RawQuery: query}, Body: http.NoBody}
		if s, e := readSignature(r); e == nil && (!s.presigned || s.expires <= 0 || s.expires > maxExpires || s.at.IsZero()) {
			t.Errorf("%q: taken as %+v", query, s)
		}
		if who, err := g.Begin(r); err == nil && who.Confirm([32]byte{1}) == nil {
			t.Errorf("%q was let in", query)
		}
		// The canonical form is the same for what means the same.
		once, ok := appendQuery(nil, query, false)
		if !ok {
			return
		}
		if twice, ok := appendQuery(nil, string(once), false); !ok || !bytes.Equal(once, twice) {
			t.Errorf("%q: %q, and then %q", query, once, twice)
		}
	})
}

// BenchmarkVerify is what a signed request costs beside the hash of its body.
func BenchmarkVerify(b *testing.B) {
	g := guarded(b)
	r := sign(b, calls["root"], time.Now())
	sum := sha256.Sum256([]byte(calls["root"].body))
	b.ReportAllocs()
	for b.Loop() {
		c, err := g.Begin(r)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Confirm(sum); err != nil {
			b.Fatal(err)
		}
	}
}
