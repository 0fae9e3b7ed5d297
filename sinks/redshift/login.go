package redshift

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/redshift"
	"github.com/aws/aws-sdk-go-v2/service/redshiftserverless"
)

// Login is a user with its password.
type Login struct{ User, Password string }

// IAM asks AWS for temporary credentials of a database. They are checked by a warehouse at connecting alone, so each
// connection gets its own and none is kept: what changes in AWS takes effect without a restart.
type IAM struct {
	Cluster   string // name of a provisioned cluster, or
	Workgroup string // of a serverless workgroup
	Database  string
	// User in the database, of a cluster. "": the one that goes with the caller's identity.
	User string
	AWS  aws.Config // region and credentials; without those, the AWS chain's
	// Endpoint in place of AWS's; "" is AWS's.
	Endpoint string
}

// loginSeconds is how long the credentials last, the shortest time that both services take.
const loginSeconds = 900

// NewLogin checks the options and returns the source of logins. It does no I/O.
func (o IAM) NewLogin() (func(context.Context) (Login, error), error) {
	switch {
	case (o.Cluster == "") == (o.Workgroup == ""):
		return nil, errors.New("iam wants exactly one of cluster and workgroup")
	case o.Database == "":
		return nil, errors.New("iam wants the name of the database")
	case o.AWS.Region == "":
		return nil, errors.New("iam wants the region of the warehouse")
	case o.Workgroup != "" && o.User != "":
		return nil, errors.New("a workgroup gives the user by itself; take user out")
	}
	var base *string
	if o.Endpoint != "" {
		base = &o.Endpoint
	}
	if o.AWS.Credentials == nil {
		o.AWS.Credentials = &chain{region: o.AWS.Region}
	}
	if o.Workgroup != "" {
		client := redshiftserverless.NewFromConfig(o.AWS, func(c *redshiftserverless.Options) { c.BaseEndpoint = base })
		return func(ctx context.Context) (Login, error) {
			a, err := client.GetCredentials(ctx, &redshiftserverless.GetCredentialsInput{
				WorkgroupName: &o.Workgroup, DbName: &o.Database, DurationSeconds: aws.Int32(loginSeconds),
			})
			if err != nil {
				return Login{}, fmt.Errorf("get credentials of workgroup %q: %w", o.Workgroup, err)
			}
			return o.login(a.DbUser, a.DbPassword)
		}, nil
	}
	client := redshift.NewFromConfig(o.AWS, func(c *redshift.Options) { c.BaseEndpoint = base })
	if o.User == "" {
		return func(ctx context.Context) (Login, error) {
			a, err := client.GetClusterCredentialsWithIAM(ctx, &redshift.GetClusterCredentialsWithIAMInput{
				ClusterIdentifier: &o.Cluster, DbName: &o.Database, DurationSeconds: aws.Int32(loginSeconds),
			})
			if err != nil {
				return Login{}, fmt.Errorf("get credentials of cluster %q: %w", o.Cluster, err)
			}
			return o.login(a.DbUser, a.DbPassword)
		}, nil
	}
	return func(ctx context.Context) (Login, error) {
		a, err := client.GetClusterCredentials(ctx, &redshift.GetClusterCredentialsInput{
			ClusterIdentifier: &o.Cluster, DbName: &o.Database, DbUser: &o.User, DurationSeconds: aws.Int32(loginSeconds),
		})
		if err != nil {
			return Login{}, fmt.Errorf("get credentials of user %q of cluster %q: %w", o.User, o.Cluster, err)
		}
		return o.login(a.DbUser, a.DbPassword) // the name comes back with a prefix, and with it logs in
	}, nil
}

func (o *IAM) login(user, password *string) (Login, error) {
	l := Login{aws.ToString(user), aws.ToString(password)}
	if l.User == "" || l.Password == "" {
		return Login{}, fmt.Errorf("get credentials of %q: the answer has no user or no password", o.Cluster+o.Workgroup)
	}
	return l, nil
}

// chain is AWS's chain of credentials (environment, shared files, container, instance), looked through when they are asked
// for: making a source of logins does no I/O, and what changes there takes effect without a restart.
type chain struct{ region, profile string }

func (c *chain) Retrieve(ctx context.Context) (aws.Credentials, error) {
	options := []func(*config.LoadOptions) error{config.WithRegion(c.region)}
	if c.profile != "" {
		options = append(options, config.WithSharedConfigProfile(c.profile))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("load AWS's settings: %w", err)
	}
	return loaded.Credentials.Retrieve(ctx)
}

// ChainKeys are the keys of AWS's chain of credentials, or of a profile of its files, for COPY.
func ChainKeys(region, profile string) func(context.Context) (Keys, error) {
	c := &chain{region, profile}
	return func(ctx context.Context) (Keys, error) {
		k, err := c.Retrieve(ctx)
		return Keys{k.AccessKeyID, k.SecretAccessKey, k.SessionToken}, err
	}
}
