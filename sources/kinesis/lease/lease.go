// Package lease shares the shards of a Kinesis stream between processes by a DynamoDB table in the form of the Kinesis
// Client Library (KCL), whose workers may use the same table.
//
// The list of shards flows in, and what was delivered of each; lanes that this process owns flow out, and word of those that
// it lost. A shard is one item of the table: who owns it, how far it was delivered, and a counter that every write raises. All
// writes are conditional on that counter, so that of two processes that both take themselves for the owner only one can
// commit: the other hears ErrFenced. An owner raises the counter every few seconds; whose counter stands still for the
// fail-over time, on the clock of who looks on, is taken for dead. No wall clock is compared, none is written but the time at
// which reading of a stream began.
//
// After a crash the table says where the next owner goes on. What the crashed process had delivered since its last commit is
// delivered once more by another, and not by itself: it takes its own leases back at once and knows what it had.
package lease

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"hydrant/sources/kinesis"
)

// Attributes of an item, as the KCL names them, and three of our own, which the KCL keeps as they are.
const (
	attrKey             = "leaseKey"   // S, the table's only key
	attrEntity          = "entityType" // S; absent in items of a KCL before 3.5, where all are leases
	attrOwner           = "leaseOwner" // S; absent: free
	attrCounter         = "leaseCounter"
	attrSwitches        = "ownerSwitchesSinceCheckpoint"
	attrCheckpoint      = "checkpoint" // S: sequence number or sentinel
	attrSub             = "checkpointSubSequenceNumber"
	attrPending         = "pendingCheckpoint"
	attrPendingSub      = "pendingCheckpointSubSequenceNumber"
	attrPendingState    = "pendingCheckpointState"
	attrParents         = "parentShardId" // SS
	attrChildren        = "childShardIds" // SS
	attrStartingHashKey = "startingHashKey"
	attrEndingHashKey   = "endingHashKey"
	attrCheckpointOwner = "checkpointOwner" // S: who owned it until now and is to finish, while leaseOwner waits
	attrStream          = "streamName"      // S: the stream of a table that several share, "account:name:epoch"
	attrShard           = "shardId"         // S: with it

	attrToken     = "hydrantToken"     // S: one acquisition of one process
	attrNotBefore = "hydrantNotBefore" // N: milliseconds since 1970; records that arrived earlier are not read
	attrOf        = "hydrantStream"    // S: whose shard it is, "account:name:epoch", where the key does not say
)

// entityLease is the entityType of a lease.
const entityLease = "LEASE"

// item is a lease as the table has it.
type item struct {
	key                string // leaseKey
	stream             string // "account:name:epoch", or "" in a table of one stream
	shard              string
	owner              string // "": free
	checkpointOwner    string // "": nobody is to finish
	counter            int64
	checkpoint         kinesis.Checkpoint // Time is never set: the table has none beside AT_TIMESTAMP
	parents, children  []string           // shards, sorted
	startHash, endHash string             // decimal
	token              string
	of                 string    // attrOf; "": not known
	notBefore          time.Time // zero: none
	bad                bool      // it could not be read: nobody knows how far the shard was delivered, so it is left alone
}

// errNotALease says that an item is none, and no fault: newer versions of the KCL keep other things in the same table.
var errNotALease = errors.New("not a lease")

// maxShards is the most parents or children that an item may name: a shard has two of each at most, so more is no lease.
const maxShards = 16

// parseItem reads an item of the table. errNotALease: it is something else, to be passed over. With other errors the item has
// what could be read of its key. Attributes that are not known are not looked at.
func parseItem(av map[string]types.AttributeValue) (item, error) {
	r := reader{av: av}
	if e := r.text(attrEntity); r.err == nil && e != "" && e != entityLease {
		return item{}, errNotALease
	}
	it := item{
		key:             r.text(attrKey),
		owner:           r.text(attrOwner),
		checkpointOwner: r.text(attrCheckpointOwner),
		counter:         r.number(attrCounter, true),
		checkpoint:      kinesis.Checkpoint{Sequence: r.text(attrCheckpoint), Sub: r.number(attrSub, false)},
		parents:         r.set(attrParents),
		children:        r.set(attrChildren),
		startHash:       r.hash(attrStartingHashKey),
		endHash:         r.hash(attrEndingHashKey),
		token:           r.text(attrToken),
		of:              r.text(attrOf),
	}
	if ms := r.number(attrNotBefore, false); ms > 0 {
		it.notBefore = time.UnixMilli(ms).UTC()
	}
	it.shard = it.key
	if i := strings.LastIndexByte(it.key, ':'); i >= 0 {
		it.stream, it.shard = it.key[:i], it.key[i+1:]
	}
	bad := item{key: it.key, stream: it.stream, shard: it.shard, bad: true}
	switch {
	case r.err != nil:
		return bad, fmt.Errorf("lease %q: %w", it.key, r.err)
	case it.key == "":
		return bad, fmt.Errorf("an item without %s", attrKey)
	case it.shard == "", it.stream == "" && it.shard != it.key:
		return bad, fmt.Errorf("lease %q: it names no shard, or no stream", it.key)
	case it.counter < 0:
		return bad, fmt.Errorf("lease %q: %s is %d, below zero", it.key, attrCounter, it.counter)
	case !sequence(it.checkpoint):
		return bad, fmt.Errorf("lease %q: %s is %q: neither a sequence number nor a known name", it.key, attrCheckpoint, it.checkpoint.Sequence)
	case it.checkpoint.Sub < 0:
		it.checkpoint.Sub = 0
	}
	if !it.checkpoint.IsNumber() {
		it.checkpoint.Sub = 0
	}
	return it, nil
}

// sequence says whether a checkpoint of the table is a number or a known sentinel.
func sequence(c kinesis.Checkpoint) bool {
	switch c.Sequence {
	case kinesis.TrimHorizon, kinesis.Latest, kinesis.AtTimestamp, kinesis.ShardEnd:
		return true
	}
	return c.IsNumber()
}

// ended says that the shard was delivered to its end.
func (it *item) ended() bool { return it.checkpoint.Sequence == kinesis.ShardEnd }

// begun says that something of the shard was delivered, or all.
func (it *item) begun() bool { return it.ended() || it.checkpoint.IsNumber() }

// holder is who reads the shard now: the former owner until he has finished.
func (it *item) holder() string {
	if it.checkpointOwner != "" {
		return it.checkpointOwner
	}
	return it.owner
}

// reader takes attributes out of an item and keeps the first fault. What is absent is empty; a NULL is as good as absent.
type reader struct {
	av  map[string]types.AttributeValue
	err error
}

func (r *reader) fail(name, is, want string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s is %s, not %s", name, is, want)
	}
}

func (r *reader) text(name string) string {
	switch v := r.av[name].(type) {
	case nil, *types.AttributeValueMemberNULL:
	case *types.AttributeValueMemberS:
		return v.Value
	default:
		r.fail(name, kind(v), "a string")
	}
	return ""
}

func (r *reader) number(name string, required bool) int64 {
	switch v := r.av[name].(type) {
	case nil, *types.AttributeValueMemberNULL:
		if required {
			r.fail(name, "missing", "a number")
		}
	case *types.AttributeValueMemberN:
		n, err := strconv.ParseInt(v.Value, 10, 64)
		if err != nil {
			r.fail(name, strconv.Quote(v.Value), "a whole number of 64 bits")
		}
		return n
	default:
		r.fail(name, kind(v), "a number")
	}
	return 0
}

func (r *reader) set(name string) []string {
	switch v := r.av[name].(type) {
	case nil, *types.AttributeValueMemberNULL:
	case *types.AttributeValueMemberSS:
		if len(v.Value) > maxShards {
			r.fail(name, fmt.Sprintf("a set of %d", len(v.Value)), "a set of shards")
			return nil
		}
		s := slices.Clone(v.Value)
		slices.Sort(s)
		return slices.Compact(s)
	default:
		r.fail(name, kind(v), "a set of strings")
	}
	return nil
}

// hash reads a hash key. One that is no number below 2^128 is as good as none: nothing depends on it.
func (r *reader) hash(name string) string {
	s := r.text(name)
	if len(s) > 39 {
		return ""
	}
	if n, ok := new(big.Int).SetString(s, 10); !ok || n.Sign() < 0 || n.BitLen() > 128 {
		return ""
	}
	return s
}

// kind is what people call a type of attribute.
func kind(v types.AttributeValue) string {
	switch v.(type) {
	case *types.AttributeValueMemberS:
		return "a string"
	case *types.AttributeValueMemberN:
		return "a number"
	case *types.AttributeValueMemberB:
		return "bytes"
	case *types.AttributeValueMemberSS:
		return "a set of strings"
	case *types.AttributeValueMemberBOOL:
		return "true or false"
	}
	return fmt.Sprintf("a %T", v)
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}
func set(s []string) types.AttributeValue { return &types.AttributeValueMemberSS{Value: s} }

// attributes of a lease that is created: what the KCL writes, and with it the time before which nothing is read.
func (it *item) attributes() map[string]types.AttributeValue {
	av := map[string]types.AttributeValue{
		attrKey:        text(it.key),
		attrCounter:    number(it.counter),
		attrSwitches:   number(0),
		attrCheckpoint: text(it.checkpoint.Sequence),
		attrSub:        number(it.checkpoint.Sub),
		attrEntity:     text(entityLease),
	}
	if len(it.parents) > 0 {
		av[attrParents] = set(it.parents)
	}
	if it.startHash != "" && it.endHash != "" {
		av[attrStartingHashKey], av[attrEndingHashKey] = text(it.startHash), text(it.endHash)
	}
	if it.stream != "" {
		av[attrStream], av[attrShard] = text(it.stream), text(it.shard)
	}
	if it.of != "" {
		av[attrOf] = text(it.of)
	}
	if !it.notBefore.IsZero() {
		av[attrNotBefore] = number(it.notBefore.UnixMilli())
	}
	return av
}
