package lambda

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hydrant/transform/hook"
	"hydrant/transform/hook/hooktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const functionARN = "arn:aws:lambda:eu-west-1:123456789012:function:clean"

func keys(id, secret, token string) func() (string, string, string, error) {
	return func() (string, string, string, error) { return id, secret, token, nil }
}

func open(t testing.TB, endpoint string) *Carrier {
	t.Helper()
	c, err := New(Options{FunctionName: functionARN, Endpoint: endpoint, Keys: keys("AKIDEXAMPLE", "secret", "")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestFunctions(t *testing.T) {
	hooktest.Run(t, func(t testing.TB, server string) hook.Carrier { return open(t, server) })
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string // the function's name, or the error
	}{
		{Options{FunctionName: functionARN}, functionARN + ":$LATEST"},
		{Options{FunctionName: functionARN + ":prod"}, functionARN + ":prod"},
		{Options{FunctionName: functionARN + ":$LATEST"}, functionARN + ":$LATEST"},
		{Options{FunctionName: "arn:aws-cn:lambda:cn-north-1:123456789012:function:f"}, "arn:aws-cn:lambda:cn-north-1:123456789012:function:f:$LATEST"},
		{Options{FunctionName: "clean"}, "clean"},
		{Options{FunctionName: "clean", Region: "eu-west-1", AccountID: "123456789012"}, functionARN + ":$LATEST"},
		{Options{FunctionName: "clean:7", Region: "eu-west-1", AccountID: "123456789012"}, functionARN + ":7"},
		{Options{FunctionName: "123456789012:function:clean", Region: "eu-west-1"}, functionARN + ":$LATEST"},
		{Options{FunctionName: ""}, `function: "" is neither the name nor the ARN of a Lambda function`},
		{Options{FunctionName: "a b"}, `function: "a b" is neither the name nor the ARN of a Lambda function`},
		{Options{FunctionName: "arn:aws:lambda:eu-west-1:function:f"}, `function: "arn:aws:lambda:eu-west-1:function:f" is neither the name nor the ARN of a Lambda function`},
		{Options{FunctionName: "arn:aws:s3:::bucket"}, `function: "arn:aws:s3:::bucket" is neither the name nor the ARN of a Lambda function`},
		{Options{FunctionName: "f", Endpoint: "lambda.local"}, "endpoint: it is not a URL that begins with http:// or https://"},
		{Options{FunctionName: "f", STSEndpoint: "ftp://x"}, "sts endpoint: it is not a URL that begins with http:// or https://"},
	} {
		carrier, err := New(c.o)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = carrier.Function()
		}
		if got != c.want {
			t.Errorf("%+v: %s, not %s", c.o, got, c.want)
		}
	}
}

// TestRequest: what Lambda sees of a call.
func TestRequest(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		auth := r.Header.Get("Authorization")
		fmt.Fprintf(w, "%s %s %s %s %t %s %t", r.Method, r.RequestURI, r.Header.Get("X-Amz-Invocation-Type"), body,
			strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") && strings.Contains(auth, "/eu-west-1/lambda/aws4_request"),
			r.Header.Get("X-Amz-Security-Token"), strings.Contains(r.UserAgent(), "hydrant"))
	}))
	t.Cleanup(s.Close)
	c, err := New(Options{FunctionName: functionARN + ":prod", Endpoint: s.URL, Keys: keys("AKIDEXAMPLE", "secret", "session")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	answer, err := c.Invoke(context.Background(), []byte("{}"), nil)
	if want := "POST /2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Aclean%3Aprod/invocations RequestResponse {} true session true"; string(answer) != want || err != nil {
		t.Errorf("%s, %v, not\n%s", answer, err, want)
	}
}

// TestFailures: each is told with Firehose's code after one call, since the SDK's retries are off.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		status     int
		kind, body string
		header     string // X-Amz-Function-Error
		code       string
		after      time.Duration
	}{
		{200, "", `{"errorType":"Error","errorMessage":"boom"}`, "Unhandled", "Lambda.FunctionError", 0},
		{200, "", `{"errorMessage":"2026-09-10T00:00:00Z 7f39 Task timed out after 3.00 seconds"}`, "Unhandled", "Lambda.FunctionTimedOut", 0},
		{429, "TooManyRequestsException", `{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}`, "", "Lambda.InvokeLimitExceeded", 3 * time.Second},
		{403, "AccessDeniedException", `{"Message":"User is not authorized to perform: lambda:InvokeFunction"}`, "", "Lambda.InvokeAccessDenied", 0},
		{403, "UnrecognizedClientException", `{"message":"The security token included in the request is invalid."}`, "", "Lambda.InvalidSecurityToken", 0},
		{403, "ExpiredTokenException", `{"message":"The security token included in the request is expired"}`, "", "Lambda.InvalidSecurityToken", 0},
		{404, "ResourceNotFoundException", `{"Type":"User","Message":"Function not found"}`, "", "Lambda.ResourceNotFound", 0},
		{413, "RequestTooLargeException", `{"Type":"User","message":"Request must be smaller than 6291456 bytes for the InvokeFunction operation"}`, "", "Lambda.InvocationFailure", 0},
		{400, "InvalidRequestContentException", `{"Type":"User","message":"Could not parse request body into json"}`, "", "Lambda.InvocationFailure", 0},
		{500, "ServiceException", `{"Type":"Service","Message":"An error occurred and the request cannot be processed."}`, "", "Lambda.InternalServerError", 0},
		{502, "InvalidSubnetIDException", `{"Type":"User","Message":"x"}`, "", "Lambda.InvalidSubnetIDException", 0},
		{502, "InvalidSecurityGroupIDException", `{}`, "", "Lambda.InvalidSecurityGroupIDException", 0},
		{502, "SubnetIPAddressLimitReachedException", `{}`, "", "Lambda.SubnetIPAddressLimitReachedException", 0},
		{502, "ENILimitReachedException", `{}`, "", "Lambda.ENILimitReachedException", 0},
		{502, "InvalidZipFileException", `{}`, "", "Lambda.InvalidZipFileException", 0},
		{502, "KMSAccessDeniedException", `{}`, "", "Lambda.FunctionError", 0},
		{503, "", ``, "", "Lambda.ServiceUnavailable", 0},
		{504, "", `<html>`, "", "Lambda.FunctionRequestTimedOut", 0},
		{301, "", ``, "", "Lambda.InvocationFailure", 0},
		{200, "", strings.Repeat(" ", hook.MaxAnswer+1), "", "Lambda.FunctionError", 0},
	} {
		var calls atomic.Int32
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			for name, value := range map[string]string{"X-Amzn-Errortype": c.kind, "X-Amz-Function-Error": c.header} {
				if value != "" {
					w.Header().Set(name, value)
				}
			}
			if c.after > 0 {
				w.Header().Set("Retry-After", fmt.Sprint(c.after.Seconds()))
			}
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		}))
		_, err := open(t, s.URL).Invoke(context.Background(), []byte("{}"), nil)
		e, ok := errors.AsType[*hook.Error](err)
		tooLarge := c.status == 413 || len(c.body) > hook.MaxAnswer
		if !ok || e.Code != c.code || e.After != c.after || e.TooLarge != tooLarge || e.Err == nil || calls.Load() != 1 {
			t.Errorf("%d %s: %v after %d calls", c.status, c.kind, err, calls.Load())
		}
		s.Close()
	}
}

func TestTransport(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }))
	_, err := open(t, s.URL).Invoke(context.Background(), []byte("{}"), nil)
	if e, ok := errors.AsType[*hook.Error](err); !ok || e.Code != "Lambda.TargetServerFailedToRespond" {
		t.Errorf("hung up: %v", err)
	}
	s.Close()
	_, err = open(t, s.URL).Invoke(context.Background(), []byte("{}"), nil)
	if e, ok := errors.AsType[*hook.Error](err); !ok || e.Code != "Lambda.InvocationFailure" {
		t.Errorf("nobody listens: %v", err)
	}
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(slow.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = open(t, slow.URL).Invoke(ctx, []byte("{}"), nil)
	if e, ok := errors.AsType[*hook.Error](err); !ok || e.Code != "Lambda.FunctionRequestTimedOut" {
		t.Errorf("too slow: %v", err)
	}
}

// TestKeysAreReadAgain when Lambda says that they are no longer good.
func TestKeysAreReadAgain(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Authorization"), "Credential=NEW/") {
			w.Header().Set("X-Amzn-Errortype", "UnrecognizedClientException")
			w.WriteHeader(403)
		}
		io.WriteString(w, "{}")
	}))
	t.Cleanup(s.Close)
	id := "OLD"
	c, err := New(Options{FunctionName: "f", Region: "eu-west-1", Endpoint: s.URL, Keys: func() (string, string, string, error) { return id, "secret", "", nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for range 2 {
		if _, err := c.Invoke(context.Background(), []byte("{}"), nil); err == nil {
			t.Fatal("the old key is taken")
		}
	}
	id = "NEW"
	var answers []string
	for range 2 {
		answer, err := c.Invoke(context.Background(), []byte("{}"), nil)
		answers = append(answers, fmt.Sprint(string(answer), err != nil))
	}
	if got := strings.Join(answers, " "); got != "{}false {}false" {
		t.Errorf("with the new key: %s", got)
	}
}

// TestCredentials: a role that cannot be assumed, and no credentials at all.
func TestCredentials(t *testing.T) {
	for name, value := range map[string]string{"AWS_CONFIG_FILE": filepath.Join(t.TempDir(), "none"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(t.TempDir(), "none"),
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": ""} {
		t.Setenv(name, value)
	}
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(403)
		io.WriteString(w, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not yours</Message></Error></ErrorResponse>`)
	}))
	t.Cleanup(sts.Close)
	lambda := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("Lambda is called without credentials") }))
	t.Cleanup(lambda.Close)
	for _, c := range []struct {
		o    Options
		code string
	}{
		{Options{Keys: keys("AKID", "secret", ""), RoleARN: "arn:aws:iam::123456789012:role/r", STSEndpoint: sts.URL}, "Lambda.AssumeRoleAccessDenied"},
		{Options{}, "Lambda.InvocationFailure"},
		{Options{Profile: "no-such-profile"}, "Lambda.InvocationFailure"},
		{Options{Keys: keys("AKID", "", "")}, "Lambda.InvocationFailure"},
	} {
		c.o.FunctionName, c.o.Endpoint = functionARN, lambda.URL
		carrier, err := New(c.o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = carrier.Invoke(t.Context(), []byte("{}"), nil)
		if e, ok := errors.AsType[*hook.Error](err); !ok || e.Code != c.code || strings.Contains(err.Error(), "secret,") {
			t.Errorf("%+v: %v", c.code, err)
		}
		carrier.Close()
	}
}
