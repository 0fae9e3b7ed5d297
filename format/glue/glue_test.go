package glue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// catalog speaks the protocol of Glue strictly: it answers only calls that the service would take.
type catalog struct {
	t      *testing.T
	tables map[string]string // by "database.name@version": the members of the table
	answer func(w http.ResponseWriter) bool
	calls  int
}

func (c *catalog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.calls++
	if c.answer != nil && c.answer(w) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Error(err)
	}
	if got := r.Header.Get("Content-Type"); r.Method != "POST" || r.URL.Path != "/" || got != "application/x-amz-json-1.1" {
		c.t.Errorf("%s %s, Content-Type %q", r.Method, r.URL, got)
	}
	if a := r.Header.Get("Authorization"); !strings.HasPrefix(a, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") || !strings.Contains(a, "/eu-west-1/glue/aws4_request") {
		c.t.Errorf("Authorization %q", a)
	}
	if !strings.Contains(r.Header.Get("User-Agent"), "hydrant") {
		c.t.Errorf("User-Agent %q", r.Header.Get("User-Agent"))
	}
	var in struct {
		CatalogID                     *string `json:"CatalogId"`
		VersionID                     *string `json:"VersionId"`
		DatabaseName, Name, TableName *string
	}
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		c.t.Errorf("%s: %v", body, err)
	}
	if in.CatalogID != nil && *in.CatalogID != "123456789012" {
		c.t.Errorf("CatalogId %q", *in.CatalogID)
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	refuse := func(code, message string) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"__type":%q,"Message":%q}`, code, message)
	}
	switch target := r.Header.Get("X-Amz-Target"); target {
	case "AWSGlue.GetTable":
		if in.Name == nil || in.TableName != nil || in.VersionID != nil {
			c.t.Errorf("GetTable with %s", body)
		}
		table, ok := c.tables[*in.DatabaseName+"."+*in.Name+"@LATEST"]
		if !ok {
			refuse("EntityNotFoundException", "Entity Not Found")
			return
		}
		fmt.Fprintf(w, `{"Table":{"Name":%q,"DatabaseName":%q,%s}}`, *in.Name, *in.DatabaseName, table)
	case "AWSGlue.GetTableVersion":
		if in.TableName == nil || in.Name != nil {
			c.t.Errorf("GetTableVersion with %s", body)
		}
		table, ok := c.tables[*in.DatabaseName+"."+*in.TableName+"@"+*in.VersionID]
		if !ok {
			refuse("EntityNotFoundException", "Version not found.")
			return
		}
		fmt.Fprintf(w, `{"TableVersion":{"VersionId":%q,"Table":{"Name":%q,%s}}}`, *in.VersionID, *in.TableName, table)
	default:
		c.t.Errorf("X-Amz-Target %q", target)
		refuse("UnknownOperationException", "")
	}
}

// open starts the catalog and returns what reads it, with the credentials of the environment.
func (c *catalog) open(t *testing.T) *Catalog {
	t.Helper()
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "2"} {
		t.Setenv(name, value)
	}
	c.t = t
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	out, err := New(Options{Region: "eu-west-1", Endpoint: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func limited(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

const clicks = `"VersionId":"3","PartitionKeys":[{"Name":"dt","Type":"string"}],"StorageDescriptor":{"Columns":[` +
	`{"Name":"id","Type":"bigint","Comment":"of the click"},{"Name":"user id","Type":"struct<Name:string,tags:array<varchar(10)>>"},{"Name":"price","Type":"DECIMAL(10,2)"}]}`

func TestColumns(t *testing.T) {
	c := &catalog{tables: map[string]string{
		"web.clicks@LATEST": clicks,
		"web.clicks@1":      `"StorageDescriptor":{"Columns":[{"Name":"id","Type":"int"}]}`,
	}}
	glue := c.open(t)
	f := func(table Table, want, version string) {
		t.Helper()
		got, err := glue.Columns(limited(t, 10*time.Second), table)
		if err != nil {
			t.Errorf("%+v: %v", table, err)
			return
		}
		if got.Schema.String() != want || got.Version != version {
			t.Errorf("%+v: version %q, %s, want version %q, %s", table, got.Version, got.Schema, version, want)
		}
	}
	const want = "id bigint, `user id` struct<Name:string,tags:array<varchar(10)>>, price decimal(10,2)"
	f(Table{Database: "web", Name: "clicks"}, want, "3")
	f(Table{Database: "web", Name: "clicks", Version: Latest, Catalog: "123456789012"}, want, "3")
	f(Table{Database: "web", Name: "clicks", Version: "1"}, "id int", "1")
}

func TestColumnsErrors(t *testing.T) {
	c := &catalog{tables: map[string]string{
		"web.set@LATEST":      `"StorageDescriptor":{"Columns":[{"Name":"ok","Type":"int"},{"Name":"a","Type":"set<string>"},{"Name":"b"}]}`,
		"web.two@LATEST":      `"StorageDescriptor":{"Columns":[{"Name":"a","Type":"int, b int"}]}`,
		"web.none@LATEST":     `"VersionId":"1"`,
		"web.empty@LATEST":    `"StorageDescriptor":{"Columns":[]}`,
		"web.registry@LATEST": `"StorageDescriptor":{"Columns":[],"SchemaReference":{"SchemaVersionId":"x"}}`,
	}}
	glue := c.open(t)
	f := func(table, version, code, want string) {
		t.Helper()
		_, err := glue.Columns(limited(t, 10*time.Second), Table{Database: "web", Name: table, Version: version})
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Code != code || err.Error() != "read table web."+table+" of the Glue catalog in eu-west-1: "+want {
			t.Errorf("%s: %v, want %s", table, err, want)
		}
	}
	f("gone", "", CodeNotFound, "EntityNotFoundException: Entity Not Found")
	f("gone", "7", CodeNotFound, "EntityNotFoundException: Version not found.")
	f("set", "", "", `column "a": unknown type "set" (at "set", character 3); use array<type>: sets are not supported; column "b": expected a type (at the end of the text, character 3)`)
	f("two", "", "", `column number 1: unexpected text after the column (at ",", character 6); give one column in each entry of the list`)
	f("none", "", "", "the table has no columns")
	f("empty", "", "", "the table has no columns")
	f("registry", "", "", "the table has no columns; those of a schema registry are not read")
	c.answer = func(w http.ResponseWriter) bool {
		w.Header().Set("X-Amzn-Errortype", "AccessDeniedException")
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"Message":"no"}`)
		return true
	}
	f("denied", "", CodeAccessDenied, "AccessDeniedException: no")
	if _, err := New(Options{}); err == nil {
		t.Error("no region is taken")
	}
}

// What passes is tried again, an answer without an end is not read to its end, and nothing outlasts its context.
func TestMisbehaviour(t *testing.T) {
	c := &catalog{tables: map[string]string{"web.clicks@LATEST": clicks}}
	glue := c.open(t)
	table := Table{Database: "web", Name: "clicks"}
	c.answer = func(w http.ResponseWriter) bool {
		if c.calls == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return c.calls == 1
	}
	if got, err := glue.Columns(limited(t, 10*time.Second), table); err != nil || got.Version != "3" || c.calls != 2 {
		t.Errorf("after a 503: %v, %v after %d calls", got, err, c.calls)
	}
	c.answer = func(w http.ResponseWriter) bool {
		io.WriteString(w, `{"Table":{"Name":"`)
		for line := strings.Repeat("x", 1<<20); ; {
			if _, err := io.WriteString(w, line); err != nil {
				return true
			}
		}
	}
	if _, err := glue.Columns(limited(t, 30*time.Second), table); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an endless answer: %v", err)
	}
	hang := make(chan struct{})
	defer close(hang)
	c.answer = func(http.ResponseWriter) bool { <-hang; return true }
	began := time.Now()
	if _, err := glue.Columns(limited(t, 50*time.Millisecond), table); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 5*time.Second {
		t.Errorf("no answer: %v after %v", err, time.Since(began))
	}
}

// A region that comes from a caller of the API cannot name another host.
func TestRegions(t *testing.T) {
	long := strings.Repeat("r", 63)
	for region, right := range map[string]bool{
		"eu-west-1": true, "us-gov-east-1": true, "r": true, long: true,
		"": false, long + "r": false, "-eu": false, "eu-": false, "eu west": false, "eu_west": false, "eu-west-1\n": false, "é": false,
		"@127.0.0.1:9999/": false, "x.example.com": false, "eu-west-1/": false, "eu-west-1#": false, "eu-west-1?": false, "eu-west-1:443": false, "%40": false,
	} {
		_, err := New(Options{Region: region})
		if (err == nil) != right {
			t.Errorf("%q: %v, want it to be taken: %v", region, err, right)
		}
		if err != nil && len(err.Error()) > 300 {
			t.Errorf("%q: an error of %d bytes", region, len(err.Error()))
		}
	}
}

// A role is assumed with the credentials of the environment, and the table is asked for with its own.
func TestRole(t *testing.T) {
	c := &catalog{tables: map[string]string{"web.clicks@LATEST": clicks}}
	glue := c.open(t)
	const role = "arn:aws:iam::123456789012:role/firehose"
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		if a := r.Header.Get("Authorization"); r.Form.Get("Action") != "AssumeRole" || r.Form.Get("RoleArn") != role || !strings.Contains(a, "Credential=LONGLIVED/") {
			t.Errorf("%v with %s", r.Form, a)
		}
		fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>AKIDEXAMPLE</AccessKeyId>`+
			`<SecretAccessKey>s</SecretAccessKey><SessionToken>of the role</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`,
			time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	defer sts.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "LONGLIVED")
	o := glue.o
	o.RoleARN, o.STSEndpoint = role, sts.URL
	glue, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := glue.Columns(limited(t, 10*time.Second), Table{Database: "web", Name: "clicks"}); err != nil || got.Version != "3" {
		t.Errorf("%v, %v", got, err)
	}
	sts.Close()
	if _, err := glue.Columns(limited(t, 10*time.Second), Table{Database: "web", Name: "clicks"}); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a role that cannot be assumed: %v", err)
	}
}
