// Package glue reads the columns of tables in the AWS Glue Data Catalog, or in a catalog that speaks its
// protocol. The name of a table flows in, its columns as a schema flow out, with the version of the table that
// they are of. Nothing is kept here: whoever asks stores the schema with the stream, so that a catalog that is
// away later, or that says something else, changes nothing about what was accepted.
//
// The columns are those of the table's storage descriptor. Its partition keys are left out, as in Hive: they
// are in the path of an object and not in it.
package glue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/glue"
	"github.com/aws/aws-sdk-go-v2/service/glue/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"hydrant/format"
)

// Latest is the version of a table that follows its changes.
const Latest = "LATEST"

// Table names a table.
type Table struct {
	Catalog  string // id of the catalog; "": that of the caller's account
	Database string
	Name     string
	Version  string // as Glue numbers it; "" or Latest: the present one
}

func (t Table) String() string { return t.Database + "." + t.Name }

// Columns are a table's.
type Columns struct {
	Schema  *format.Schema
	Version string // of the table; "" where the catalog gives none
}

// Options of a Catalog. Checked once by New, never changed afterwards.
type Options struct {
	Region      string // required; may come from a caller of the API
	Endpoint    string // base URL; "": AWS's own
	RoleARN     string // is assumed with the credentials of the AWS chain; "": they are used as they are
	STSEndpoint string // base URL of the service that the role is assumed at; "": AWS's own
}

// Catalog reads tables. Safe for concurrent use; it holds no connections between calls.
type Catalog struct{ o Options }

// regionName is what may stand in the name of a host. Hosts of AWS are named by the region, and anything else in it could
// name another host, which credentials would then be shown to.
var regionName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)

// New returns a Catalog. It makes no connection.
func New(o Options) (*Catalog, error) {
	if o.Region == "" {
		return nil, errors.New("glue: a region is needed")
	}
	if !regionName.MatchString(o.Region) {
		return nil, fmt.Errorf("region %.80q is not the name of a region: it has 1 to 63 letters, digits and hyphens, like eu-west-1", o.Region)
	}
	return &Catalog{o}, nil
}

// Error is a table that cannot be read, or whose columns cannot be written.
type Error struct {
	Table   Table
	Region  string
	Code    string // Glue's, such as EntityNotFoundException; "" where Glue gave no answer, or the columns are at fault
	Problem string
	Err     error
}

func (e *Error) Error() string {
	out := fmt.Sprintf("read table %s of the Glue catalog in %s: ", e.Table, e.Region)
	if e.Code != "" {
		out += e.Code + ": "
	}
	return out + e.Problem
}

func (e *Error) Unwrap() error { return e.Err }

// Codes of Error that decide what the caller says.
const (
	CodeNotFound     = "EntityNotFoundException"
	CodeAccessDenied = "AccessDeniedException"
)

// Columns asks for a table. The error is an *Error. It ends with ctx, and tries again what is worth it.
func (c *Catalog) Columns(ctx context.Context, t Table) (*Columns, error) {
	fail := func(problem string, err error) (*Columns, error) {
		e := &Error{Table: t, Region: c.o.Region, Problem: problem, Err: err}
		if api, ok := errors.AsType[smithy.APIError](err); ok {
			e.Code, e.Problem = api.ErrorCode(), api.ErrorMessage()
		}
		return nil, e
	}
	client, err := c.client(ctx)
	if err != nil {
		return fail(err.Error(), err)
	}
	table, version, err := get(ctx, client, t)
	if err != nil {
		return fail(plain(err), err)
	}
	if table == nil || table.StorageDescriptor == nil || len(table.StorageDescriptor.Columns) == 0 {
		problem := "the table has no columns"
		if table != nil && table.StorageDescriptor != nil && table.StorageDescriptor.SchemaReference != nil {
			problem += "; those of a schema registry are not read"
		}
		return fail(problem, nil)
	}
	texts := make([]string, len(table.StorageDescriptor.Columns))
	for i, col := range table.StorageDescriptor.Columns {
		texts[i] = format.Column(aws.ToString(col.Name), strings.TrimSpace(aws.ToString(col.Type)))
	}
	schema, err := format.ParseColumns(texts)
	if err != nil {
		return fail(strings.ReplaceAll(err.Error(), "\n", "; "), err)
	}
	return &Columns{Schema: schema, Version: version}, nil
}

// get asks for the present version of a table, or for a fixed one.
func get(ctx context.Context, client *glue.Client, t Table) (table *types.Table, version string, err error) {
	var catalog *string
	if t.Catalog != "" {
		catalog = &t.Catalog
	}
	if t.Version == "" || t.Version == Latest {
		out, err := client.GetTable(ctx, &glue.GetTableInput{CatalogId: catalog, DatabaseName: &t.Database, Name: &t.Name})
		if err != nil || out.Table == nil {
			return nil, "", err
		}
		return out.Table, aws.ToString(out.Table.VersionId), nil
	}
	out, err := client.GetTableVersion(ctx, &glue.GetTableVersionInput{CatalogId: catalog, DatabaseName: &t.Database, TableName: &t.Name, VersionId: &t.Version})
	if err != nil || out.TableVersion == nil {
		return nil, "", err
	}
	if version = aws.ToString(out.TableVersion.VersionId); version == "" {
		version = t.Version
	}
	return out.TableVersion.Table, version, nil
}

// client is made anew for each table: tables are read at a start and when a stream changes, and shared files of
// credentials may have been corrected meanwhile.
func (c *Catalog) client(ctx context.Context) (*glue.Client, error) {
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.DisableKeepAlives = true })
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(c.o.Region), config.WithHTTPClient(transport))
	if err != nil {
		return nil, fmt.Errorf("get credentials: %w", err)
	}
	cfg.HTTPClient = bounded{cfg.HTTPClient} // which may trust other authorities by now
	if c.o.RoleARN != "" {
		client := sts.NewFromConfig(cfg, func(o *sts.Options) {
			if c.o.STSEndpoint != "" {
				o.BaseEndpoint = &c.o.STSEndpoint
			}
		})
		cfg.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(client, c.o.RoleARN, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = "hydrant"
		}))
	}
	return glue.NewFromConfig(cfg, func(o *glue.Options) {
		if c.o.Endpoint != "" {
			o.BaseEndpoint = &c.o.Endpoint
		}
		o.APIOptions = append(o.APIOptions, awsmiddleware.AddUserAgentKey("hydrant"))
	}), nil
}

// maxAnswer bounds what is read of an answer, in bytes. A table of the most columns takes less than 2 MiB.
const maxAnswer = 8 << 20

// bounded reads answers whole and cuts off those that are too long, which then are no JSON. The SDK closes a request's
// body when it has the answer's headers; where net/http still looks for the body's end, that ends the connection, and
// what is left of the answer with it.
type bounded struct{ aws.HTTPClient }

func (b bounded) Do(r *http.Request) (*http.Response, error) {
	resp, err := b.HTTPClient.Do(r)
	if err != nil {
		return resp, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	return resp, nil
}

// plain is an error of the SDK without what it says around each: the operation's name, numbers of attempts, and the
// status of an answer that never came.
func plain(err error) string {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Error()
	}
	if e, ok := errors.AsType[*smithy.OperationError](err); ok {
		err = e.Err
	}
	return err.Error()
}
