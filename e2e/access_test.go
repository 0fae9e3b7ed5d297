package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"github.com/aws/smithy-go"

	"hydrant/e2e/parts"
)

const keys = `auth: { access_keys: [
    { id: AKIDPUT, secret: "${PUT_SECRET}", streams: ["click*"], allow: [put] },
    { id: AKIDREAD, secret_file: read-secret, streams: ["click*"], allow: [read] },
    { id: AKIDADMIN, secret: admin-secret, allow: [put, read, admin] } ],
  tokens: [ { name: ci, token_file: token, streams: [clicks], allow: [put] } ] }`

// keyed is a daemon that asks for keys, with two streams. more goes beside them into api, socket into its addresses.
func keyed(t *testing.T, more, socket string) *daemon {
	t.Helper()
	d := configure(t, "streams:\n  - { name: clicks, destination: { file: { path: ./lake } } }\n  - { name: views, destination: { file: { path: ./lake2 } } }\n")
	text, err := os.ReadFile(d.config)
	if err != nil {
		t.Fatal(err)
	}
	api, admin := strings.TrimPrefix(d.api, "http://"), strings.TrimPrefix(d.admin, "http://")
	out := strings.NewReplacer("listen: "+api+" }", fmt.Sprintf("listen: [ %q%s ], %s%s }", api, socket, more, keys),
		"listen: "+admin+" }", "listen: "+admin+", auth: { tokens: [ { token_file: operator, allow: [read, admin] } ] } }").Replace(string(text))
	for name, text := range map[string]string{d.config: out, filepath.Join(d.dir, "read-secret"): "read-secret\n", filepath.Join(d.dir, "token"): "ci-token\n", filepath.Join(d.dir, "operator"): "operator-token"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.env = []string{"PUT_SECRET=put-secret"}
	return d
}

// outcomes of the cases that every client goes through.
const outcomes = "right ok wrong_secret InvalidSignatureException wrong_stream AccessDeniedException wrong_action AccessDeniedException " +
	"unknown_key UnrecognizedClientException session_token UnrecognizedClientException clicks list ok late InvalidSignatureException"

// Real clients with the right key, with wrong ones, and with a clock that is wrong.
func TestKeysWithClients(t *testing.T) {
	t.Parallel()
	python, cli, modules := parts.Boto3(t), parts.AWSCLI(t), parts.NodeModules(t)
	d := keyed(t, "", "").start()
	if got := strings.Join(run(t, python, "clients/access.py", d.api, "-"), " "); got != outcomes {
		t.Errorf("boto3:\n got %s\nwant %s", got, outcomes)
	}
	if got := strings.Join(run(t, "node", "clients/access.mjs", modules, d.api), " "); got != outcomes+" late_and_corrected ok" {
		t.Errorf("JavaScript:\n got %s\nwant %s", got, outcomes+" late_and_corrected ok")
	}
	for _, c := range []struct{ id, secret, stream, want string }{
		{"AKIDPUT", "put-secret", "clicks", "RecordId"},
		{"AKIDPUT", "other", "clicks", "(InvalidSignatureException) when calling the PutRecord operation: The request signature we calculated does not match"},
		{"AKIDPUT", "put-secret", "views", "(AccessDeniedException) when calling the PutRecord operation: User: arn:aws:iam::000000000000:user/AKIDPUT is not authorized to perform: firehose:PutRecord on resource: arn:aws:firehose:us-east-1:000000000000:deliverystream/views"},
		{"AKIDOTHER", "put-secret", "clicks", "(UnrecognizedClientException) when calling the PutRecord operation: The security token included in the request is invalid."},
	} {
		if out := putOnce(t, cli, d.api, c.id, c.secret, c.stream); !strings.Contains(out, c.want) {
			t.Errorf("AWS CLI as %s with %s: %s", c.id, c.secret, out)
		}
	}
	put := func(id, secret, stream string) error {
		client := firehose.New(firehose.Options{BaseEndpoint: &d.api, Region: "us-west-2", Credentials: credentials.NewStaticCredentialsProvider(id, secret, ""), Retryer: aws.NopRetryer{}})
		_, err := client.PutRecord(t.Context(), &firehose.PutRecordInput{DeliveryStreamName: &stream, Record: &types.Record{Data: []byte("x\n")}})
		return err
	}
	for _, c := range []struct{ id, secret, stream, want string }{
		{"AKIDPUT", "put-secret", "clicks", ""}, {"AKIDPUT", "other", "clicks", "InvalidSignatureException"}, {"AKIDPUT", "put-secret", "views", "AccessDeniedException"},
		{"AKIDOTHER", "x", "clicks", "UnrecognizedClientException"}, {"AKIDADMIN", "admin-secret", "views", ""},
	} {
		err, got := put(c.id, c.secret, c.stream), ""
		if e, ok := errors.AsType[smithy.APIError](err); ok {
			got = e.ErrorCode()
		} else if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("Go as %s into %s: %v, want %q", c.id, c.stream, err, c.want)
		}
	}
	if n := d.counter(`hydrant_rejected_requests_total{reason="clock"}`); n != 3 { // boto3's, and two of JavaScript's
		t.Errorf("%d requests were refused for their clock, want 3", n)
	}
	// Administrative calls are written down, and no secret is.
	admin := []string{"AWS_ACCESS_KEY_ID=AKIDADMIN", "AWS_SECRET_ACCESS_KEY=admin-secret"}
	if out := aws1(t, cli, admin, "--endpoint-url", d.api, "firehose", "tag-delivery-stream", "--delivery-stream-name", "clicks", "--tags", "Key=a,Value=b"); !strings.Contains(out, "InvalidArgumentException") {
		t.Errorf("tag: %s", out) // the file owns it
	}
	log := d.log.String()
	for _, want := range []string{
		"component=audit key=AKIDPUT action=DeleteDeliveryStream stream=clicks outcome=AccessDeniedException request_id=",
		"component=audit key=AKIDADMIN action=TagDeliveryStream stream=clicks outcome=InvalidArgumentException request_id=",
		"reason=signature", "key=AKIDOTHER",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %s:\n%s", want, log)
		}
	}
	for _, secret := range []string{"put-secret", "admin-secret", "ci-token", "operator-token"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has the secret %s", secret)
		}
	}
}

// aws1 runs the AWS CLI and returns all it said, whatever came of it.
func aws1(t *testing.T, cli string, env []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, cli, args...)
	cmd.Env = append(append(os.Environ(), "AWS_DEFAULT_REGION=us-east-1", "AWS_PAGER="), env...)
	out, _ := cmd.CombinedOutput()
	return string(out)
}

func putOnce(t *testing.T, cli, endpoint, id, secret, stream string, more ...string) string {
	t.Helper()
	return aws1(t, cli, []string{"AWS_ACCESS_KEY_ID=" + id, "AWS_SECRET_ACCESS_KEY=" + secret},
		append(more, "--endpoint-url", endpoint, "firehose", "put-record", "--delivery-stream-name", stream, "--record", `{"Data":"eAo="}`)...)
}

// TLS with a certificate of the daemon's own, a Unix socket, bearer tokens and the admin listener's.
func TestTLSAndTokensWithClients(t *testing.T) {
	python, cli, modules := parts.Boto3(t), parts.AWSCLI(t), parts.NodeModules(t)
	sockets, err := os.MkdirTemp("", "h") // a short path
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(sockets)
	socket := filepath.Join(sockets, "api")
	d := keyed(t, "tls: { auto: true }, ", fmt.Sprintf(", %q", "unix:"+socket)).start()
	endpoint := strings.Replace(d.api, "http:", "https:", 1)
	ca := filepath.Join(d.data, "tls", "cert.pem")
	if got := strings.Join(run(t, python, "clients/access.py", endpoint, ca), " "); got != outcomes {
		t.Errorf("boto3:\n got %s\nwant %s", got, outcomes)
	}
	t.Setenv("NODE_EXTRA_CA_CERTS", ca)
	if got := strings.Join(run(t, "node", "clients/access.mjs", modules, endpoint), " "); got != outcomes+" late_and_corrected ok" {
		t.Errorf("JavaScript:\n got %s", got)
	}
	for _, more := range [][]string{{"--ca-bundle", ca}, {"--no-verify-ssl"}} {
		if out := putOnce(t, cli, endpoint, "AKIDPUT", "put-secret", "clicks", more...); !strings.Contains(out, "RecordId") {
			t.Errorf("AWS CLI with %s: %s", more, out)
		}
	}
	if out := putOnce(t, cli, endpoint, "AKIDPUT", "put-secret", "clicks"); !strings.Contains(out, "SSL validation failed") {
		t.Errorf("AWS CLI that trusts nobody: %s", out)
	}

	// curl: a token over the socket, over TLS, and a presigned request without any header of its own.
	const put = `{"DeliveryStreamName":"clicks","Record":{"Data":"eAo="}}`
	curl := func(args ...string) string {
		t.Helper()
		args = append([]string{"-s", "--max-time", "20", "-H", "Content-Type: application/x-amz-json-1.1", "--data", put}, args...)
		out, err := exec.CommandContext(t.Context(), "curl", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("curl %s: %v %s", args, err, out)
		}
		return string(out)
	}
	target := []string{"-H", "X-Amz-Target: Firehose_20150804.PutRecord"}
	bearer := []string{"-H", "Authorization: Bearer ci-token"}
	over := func(url string, args ...[]string) (all []string) {
		for _, a := range args {
			all = append(all, a...)
		}
		return append(all, url)
	}
	if out := curl(over("http://any/", target, bearer, []string{"--unix-socket", socket})...); !strings.Contains(out, "RecordId") {
		t.Errorf("over the socket: %s", out)
	}
	if out := curl(over("http://any/", target, []string{"--unix-socket", socket})...); !strings.Contains(out, `"MissingAuthenticationTokenException"`) {
		t.Errorf("over the socket without a token: %s", out)
	}
	if out := curl(over(endpoint+"/", target, bearer, []string{"--cacert", ca})...); !strings.Contains(out, "RecordId") {
		t.Errorf("over TLS: %s", out)
	}
	if out := curl(over(presigned(t, endpoint, put), []string{"--cacert", ca})...); !strings.Contains(out, "RecordId") {
		t.Errorf("presigned: %s", out)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}

	if code, _ := d.call("GET", d.admin+"/v1/streams", ""); code != http.StatusUnauthorized {
		t.Errorf("the admin API without a token: %d", code)
	}
	code, body := d.call("POST", d.admin+"/v1/streams/clicks/flush?timeout=60s", "", "Authorization", "Bearer operator-token")
	if code != http.StatusOK {
		t.Errorf("flush: %d %s", code, body)
	}
	lake := 0
	for _, path := range walk(t, filepath.Join(d.dir, "lake")) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lake += bytes.Count(b, []byte("\n"))
	}
	if want := 1 + 2 + 2 + 3; lake != want { // boto3, JavaScript, the CLI, curl
		t.Errorf("%d records in the lake, want the %d that were acknowledged", lake, want)
	}
	if code := d.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the end the socket is there still: %v", err)
	}
	// A daemon that is killed leaves its socket, and the next one takes its place.
	d.start()
	d.kill()
	if _, err := os.Stat(socket); err != nil {
		t.Fatal(err)
	}
	d.start()
	if out := curl(over("http://any/", target, bearer, []string{"--unix-socket", socket})...); !strings.Contains(out, "RecordId") {
		t.Errorf("over the socket of the next daemon: %s", out)
	}
}

// presigned is a URL that puts one body within a minute.
func presigned(t *testing.T, endpoint, body string) string {
	t.Helper()
	r, err := http.NewRequest("POST", endpoint+"/?X-Amz-Expires=60&X-Amz-Target=Firehose_20150804.PutRecord", io.NopCloser(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(body))
	url, _, err := v4.NewSigner().PresignHTTP(t.Context(), aws.Credentials{AccessKeyID: "AKIDPUT", SecretAccessKey: "put-secret"}, r, hex.EncodeToString(sum[:]), "firehose", "us-east-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return url
}
