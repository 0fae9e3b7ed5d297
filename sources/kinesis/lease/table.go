package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"hydrant/sources/kinesis"
)

// API is what is called of DynamoDB's client; *dynamodb.Client has it. Retries of its own are of no use: a call is repeated
// here, where it is known what a lost answer means.
type API interface {
	Scan(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	CreateTable(context.Context, *dynamodb.CreateTableInput, ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
}

var _ API = (*dynamodb.Client)(nil)

// errConflict says that the condition of a write did not hold.
var errConflict = errors.New("the lease has changed meanwhile")

// operatorError is one that does not pass by itself.
type operatorError struct{ err error }

func (e *operatorError) Error() string { return e.err.Error() }
func (e *operatorError) Unwrap() error { return e.err }

// table is a table of leases. Its methods make single attempts, each bounded by timeout.
type table struct {
	api     API
	name    string
	of      string // the stream, in the leases that are made, where keys do not say it
	timeout time.Duration
}

func (t *table) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, t.timeout, fmt.Errorf("no answer within %v", t.timeout))
}

// fault says what was tried, and tells what passes from what does not.
func (t *table) fault(ctx context.Context, what string, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.DeadlineExceeded) {
		err = cause
	}
	var condition *types.ConditionalCheckFailedException
	if errors.As(err, &condition) {
		return errConflict
	}
	wrapped := fmt.Errorf("%s in DynamoDB's table %q: %w", what, t.name, err)
	if passes(err) {
		return wrapped
	}
	return &operatorError{wrapped}
}

// passing are codes of errors with status 400 that pass.
var passing = map[string]bool{
	"ProvisionedThroughputExceededException": true,
	"RequestLimitExceeded":                   true,
	"ThrottlingException":                    true,
	"LimitExceededException":                 true, // of tables being made
	"TransactionConflictException":           true,
	"ReplicatedWriteConflictException":       true,
	"RequestTimeout":                         true,
	"RequestTimeoutException":                true,
	"InternalServerError":                    true,
	"ExpiredTokenException":                  true, // renewed by the chain
	"RequestExpired":                         true,
}

// passes says whether a fault may pass without an operator: everything but what the service says of the request itself.
func passes(err error) bool {
	var api smithy.APIError
	if errors.As(err, &api) && passing[api.ErrorCode()] {
		return true
	}
	var status *awshttp.ResponseError
	if errors.As(err, &status) && status.HTTPStatusCode() != http.StatusTooManyRequests {
		return status.HTTPStatusCode() >= 500 || status.HTTPStatusCode() < 400
	}
	return !errors.As(err, &api) // a service's answer without a status: in tests only
}

// missing says that an error is about a table that is not there.
func missing(err error) bool {
	var not *types.ResourceNotFoundException
	return errors.As(err, &not)
}

// scan returns all leases, of all streams, as they are now: with those that are bad, and their faults.
func (t *table) scan(ctx context.Context) (items []item, faults []error, err error) {
	in := &dynamodb.ScanInput{TableName: &t.name, ConsistentRead: aws.Bool(true)}
	for {
		page, err := t.page(ctx, in)
		if err != nil {
			return nil, nil, err
		}
		for _, av := range page.Items {
			switch it, err := parseItem(av); {
			case errors.Is(err, errNotALease):
			case err != nil:
				faults = append(faults, err)
				items = append(items, it)
			default:
				items = append(items, it)
			}
		}
		if len(page.LastEvaluatedKey) == 0 {
			return items, faults, nil
		}
		in.ExclusiveStartKey = page.LastEvaluatedKey
	}
}

func (t *table) page(ctx context.Context, in *dynamodb.ScanInput) (*dynamodb.ScanOutput, error) {
	call, cancel := t.bound(ctx)
	defer cancel()
	out, err := t.api.Scan(call, in)
	if err != nil {
		return nil, t.fault(call, "list the leases", err)
	}
	return out, nil
}

// get returns a lease as it is now; ok is false where there is none, or one that is bad.
func (t *table) get(ctx context.Context, key string) (it item, ok bool, err error) {
	call, cancel := t.bound(ctx)
	defer cancel()
	out, err := t.api.GetItem(call, &dynamodb.GetItemInput{TableName: &t.name, Key: keyOf(key), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return item{}, false, t.fault(call, fmt.Sprintf("read lease %q", key), err)
	}
	if len(out.Item) == 0 {
		return item{}, false, nil
	}
	it, err = parseItem(out.Item)
	return it, err == nil, nil
}

// create makes a lease where there is none; errConflict: there is one.
func (t *table) create(ctx context.Context, it item) error {
	if it.stream == "" {
		it.of = t.of
	}
	call, cancel := t.bound(ctx)
	defer cancel()
	_, err := t.api.PutItem(call, &dynamodb.PutItemInput{
		TableName: &t.name, Item: it.attributes(),
		ConditionExpression: aws.String("attribute_not_exists(" + attrKey + ")"),
	})
	if err != nil {
		return t.fault(call, fmt.Sprintf("create lease %q", it.key), err)
	}
	return nil
}

// delete removes a lease that has ended and that nobody writes to any more.
func (t *table) delete(ctx context.Context, it item) error {
	call, cancel := t.bound(ctx)
	defer cancel()
	_, err := t.api.DeleteItem(call, &dynamodb.DeleteItemInput{
		TableName: &t.name, Key: keyOf(it.key),
		ConditionExpression:       aws.String(attrCounter + " = :counter AND " + attrCheckpoint + " = :end"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":counter": number(it.counter), ":end": text(kinesis.ShardEnd)},
	})
	if err != nil {
		return t.fault(call, fmt.Sprintf("remove lease %q", it.key), err)
	}
	return nil
}

// write is an update of one lease with its condition. %s of both are not used: values stand in values.
type write struct {
	what      string // for people: "renew"
	update    string
	condition string
	values    map[string]types.AttributeValue
}

// update makes a write and returns the lease after it. errConflict: the condition did not hold, and nothing was written.
func (t *table) update(ctx context.Context, key string, w write) (item, error) {
	call, cancel := t.bound(ctx)
	defer cancel()
	what := fmt.Sprintf("%s lease %q", w.what, key)
	out, err := t.api.UpdateItem(call, &dynamodb.UpdateItemInput{
		TableName: &t.name, Key: keyOf(key),
		UpdateExpression: &w.update, ConditionExpression: &w.condition, ExpressionAttributeValues: w.values,
		ReturnValues: types.ReturnValueAllNew,
	})
	if err != nil {
		return item{}, t.fault(call, what, err)
	}
	it, err := parseItem(out.Attributes)
	if err != nil {
		return item{}, &operatorError{fmt.Errorf("%s in DynamoDB's table %q: %w", what, t.name, err)}
	}
	return it, nil
}

func keyOf(key string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{attrKey: text(key)}
}

// renewal raises the counter of a lease that is owned. handing: its owner is to finish, and is checkpointOwner by now.
func renewal(me string, counter int64, handing bool) write {
	w := write{
		what:      "renew",
		update:    "SET leaseCounter = :next",
		condition: "leaseCounter = :counter AND leaseOwner = :me AND attribute_not_exists(checkpointOwner)",
		values:    map[string]types.AttributeValue{":counter": number(counter), ":next": number(counter + 1), ":me": text(me)},
	}
	if handing {
		w.condition = "leaseCounter = :counter AND checkpointOwner = :me"
	}
	return w
}

// taking makes a lease mine, whosever it was, if it is still as it was read. notBefore is written where it is not zero.
func taking(me, token string, from item, notBefore time.Time) write {
	w := write{
		what:      "take",
		update:    "SET leaseOwner = :me, leaseCounter = :next, hydrantToken = :token",
		condition: "leaseCounter = :counter",
		values: map[string]types.AttributeValue{
			":counter": number(from.counter), ":next": number(from.counter + 1), ":me": text(me), ":token": text(token),
		},
	}
	if !notBefore.IsZero() {
		w.update += ", hydrantNotBefore = :time"
		w.values[":time"] = number(notBefore.UnixMilli())
	}
	w.update += " REMOVE checkpointOwner"
	if from.holder() != "" && from.holder() != me {
		w.update += " ADD ownerSwitchesSinceCheckpoint :one"
		w.values[":one"] = number(1)
	}
	return w
}

// asking makes me the next owner of a lease that somebody else owns, who is to finish first. The counter stays, so that it does
// not look renewed.
func asking(me string, from item) write {
	return write{
		what:      "ask for",
		update:    "SET leaseOwner = :me, checkpointOwner = :owner",
		condition: "leaseOwner = :owner AND leaseCounter = :counter AND attribute_not_exists(checkpointOwner)",
		values:    map[string]types.AttributeValue{":me": text(me), ":owner": text(from.owner), ":counter": number(from.counter)},
	}
}

// withdrawing takes back that a lease was asked for.
func withdrawing(me string, from item) write {
	return write{
		what:      "no longer ask for",
		update:    "SET leaseOwner = :owner REMOVE checkpointOwner",
		condition: "leaseOwner = :me AND checkpointOwner = :owner",
		values:    map[string]types.AttributeValue{":me": text(me), ":owner": text(from.checkpointOwner)},
	}
}

// committing writes a checkpoint, with the children of a shard that has ended.
func committing(me string, counter int64, at kinesis.Checkpoint, children []string) write {
	w := write{
		what: "commit to",
		update: "SET checkpoint = :checkpoint, checkpointSubSequenceNumber = :sub, ownerSwitchesSinceCheckpoint = :zero, leaseCounter = :next" +
			" REMOVE pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState",
		condition: "leaseCounter = :counter AND (leaseOwner = :me OR checkpointOwner = :me)",
		values: map[string]types.AttributeValue{
			":checkpoint": text(at.Sequence), ":sub": number(at.Sub), ":zero": number(0),
			":counter": number(counter), ":next": number(counter + 1), ":me": text(me),
		},
	}
	if len(children) > 0 {
		w.update = "SET childShardIds = :children, " + w.update[len("SET "):]
		w.values[":children"] = set(children)
	}
	return w
}

// givingUp lets go of a lease: it is free, or belongs to the one who asked for it.
func givingUp(me string, counter int64, handing bool) write {
	w := write{
		what:      "give up",
		update:    "REMOVE leaseOwner ADD leaseCounter :one",
		condition: "leaseCounter = :counter AND leaseOwner = :me AND attribute_not_exists(checkpointOwner)",
		values:    map[string]types.AttributeValue{":counter": number(counter), ":one": number(1), ":me": text(me)},
	}
	if handing {
		w.update, w.condition = "REMOVE checkpointOwner ADD leaseCounter :one", "leaseCounter = :counter AND checkpointOwner = :me"
	}
	return w
}

// make creates the table, paid per request, where there is none, and waits until it can be used. created is false where it was
// there.
func (t *table) make(ctx context.Context) (created bool, err error) {
	call, cancel := t.bound(ctx)
	_, err = t.api.CreateTable(call, &dynamodb.CreateTableInput{
		TableName:            &t.name,
		BillingMode:          types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String(attrKey), AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String(attrKey), KeyType: types.KeyTypeHash}},
	})
	var there *types.ResourceInUseException
	if err != nil && !errors.As(err, &there) {
		err = t.fault(call, "there is none yet; create one (or allow dynamodb:CreateTable)", err)
		cancel()
		return false, err
	}
	cancel()
	created = err == nil
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		call, cancel := t.bound(ctx)
		out, err := t.api.DescribeTable(call, &dynamodb.DescribeTableInput{TableName: &t.name})
		if err != nil && !missing(err) { // it may not be seen yet
			if err = t.fault(call, "see whether it is ready", err); !transient(err) {
				cancel()
				return created, err
			}
		}
		cancel()
		if err == nil && out.Table != nil && (out.Table.TableStatus == types.TableStatusActive || out.Table.TableStatus == types.TableStatusUpdating) {
			return created, nil
		}
		if !sleep(ctx, wait) {
			return created, context.Cause(ctx)
		}
	}
}

// transient says that an error of a table may pass.
func transient(err error) bool {
	var operator *operatorError
	return !errors.As(err, &operator)
}

// sleep waits, and says whether ctx lasted.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// jittered is between a half and the whole of d: processes that were disturbed together do not come back together.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
