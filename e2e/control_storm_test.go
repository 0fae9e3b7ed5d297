package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"

	"hydrant/e2e/parts"
)

// controlPoints are crash points that only changes over the API pass.
var controlPoints = []crashPoint{{"secrets-written", 6}}

// tenant leads streams of a few names through their lives, again and again, while the daemon dies, and holds
// it to every answer that it got.
type tenant struct {
	t      *testing.T
	number int
	client *firehose.Client
	random *rand.Rand

	lives  int
	kept   int             // lives of streams with secrets
	acked  map[string]bool // rows that must be in the store
	maybe  map[string]bool // rows that may be there: not acknowledged, or of a stream deleted by force
	forced int
}

// call makes a call until the daemon answers it. Its error is an answer.
func (c *tenant) call(ctx context.Context, f func(ctx context.Context) error) error {
	for {
		err := f(ctx)
		if err == nil || ctx.Err() != nil || errorCode(err) != "" && errorCode(err) != "ServiceUnavailableException" {
			return err
		}
		<-time.After(20 * time.Millisecond)
	}
}

func (c *tenant) describe(ctx context.Context, name string) (d *types.DeliveryStreamDescription, err error) {
	err = c.call(ctx, func(ctx context.Context) error {
		out, err := c.client.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: &name})
		if err == nil {
			d = out.DeliveryStreamDescription
		}
		return err
	})
	return d, err
}

// live is one life of a stream. It ends when the stream is gone.
func (c *tenant) live(ctx context.Context) {
	t, name := c.t, fmt.Sprintf("tenant%d-%d", c.number, c.lives%2)
	c.lives++
	create, update, force := tryCreate, c.update, c.random.IntN(3) == 0
	switch c.random.IntN(4) { // destinations that nobody is at: what they hold can only be discarded
	case 0:
		create, update, force = tryCreateRedshift, c.updateRedshift, true
		c.kept++
	case 1:
		create, update, force = tryCreateEndpoint, c.updateEndpoint, true
		c.kept++
	}
	// An answer that was lost may have been success: then the name is taken, by us.
	if err := c.call(ctx, func(ctx context.Context) error { return create(ctx, c.client, name, "lake") }); err != nil && errorCode(err) != "ResourceInUseException" {
		t.Errorf("create %s: %v", name, err)
		return
	}
	d, err := c.describe(ctx, name)
	if err != nil || d.DeliveryStreamStatus != types.DeliveryStreamStatusActive || aws.ToString(d.VersionId) != "1" {
		t.Errorf("%s after it was created: %+v, %v", name, d, err)
		return
	}
	version := 1
	for i := range 1 + c.random.IntN(5) {
		var records []types.Record
		rows := c.acked
		if force {
			rows = c.maybe
			c.forced++
		}
		var sent []string
		for n := range 1 + c.random.IntN(20) {
			row := fmt.Sprintf("%d.%d.%d.%d", c.number, c.lives, i, n)
			sent = append(sent, row)
			records = append(records, types.Record{Data: []byte(row + "\n")})
		}
		// The SDK tries again by itself, and the daemon knows a call that it had; another call it does not know.
		_, err := c.client.PutRecordBatch(ctx, &firehose.PutRecordBatchInput{DeliveryStreamName: &name, Records: records})
		if code := errorCode(err); code != "" && code != "ServiceUnavailableException" {
			t.Errorf("put to %s: %v", name, err)
		}
		if err != nil {
			rows = c.maybe
		}
		for _, row := range sent {
			rows[row] = true
		}
		if c.random.IntN(3) == 0 {
			version = update(ctx, name, version)
		}
	}
	err = c.call(ctx, func(ctx context.Context) error {
		_, err := c.client.DeleteDeliveryStream(ctx, &firehose.DeleteDeliveryStreamInput{DeliveryStreamName: &name, AllowForceDelete: &force})
		return err
	})
	if err != nil && errorCode(err) != "ResourceNotFoundException" { // an answer that was lost had been success
		t.Errorf("delete %s: %v", name, err)
	}
	for {
		d, err := c.describe(ctx, name)
		switch {
		case errorCode(err) == "ResourceNotFoundException":
			return
		case err != nil:
			t.Errorf("%s, deleted, is not gone: %v", name, err)
			return
		case d.DeliveryStreamStatus != types.DeliveryStreamStatusDeleting:
			t.Errorf("%s is %s after its deletion was answered", name, d.DeliveryStreamStatus)
			return
		}
		<-time.After(20 * time.Millisecond)
	}
}

// update changes the prefix. An answer that was lost may have been success: then the version has gone up.
func (c *tenant) update(ctx context.Context, name string, version int) int {
	current, prefix := fmt.Sprint(version), fmt.Sprintf("%s/v%d/", name, version+1)
	err := c.call(ctx, func(ctx context.Context) error {
		_, err := c.client.UpdateDestination(ctx, &firehose.UpdateDestinationInput{DeliveryStreamName: &name, CurrentDeliveryStreamVersionId: &current,
			DestinationId: new("destinationId-000000000001"), ExtendedS3DestinationUpdate: &types.ExtendedS3DestinationUpdate{Prefix: &prefix}})
		return err
	})
	if err != nil && errorCode(err) != "ConcurrentModificationException" {
		c.t.Errorf("update %s: %v", name, err)
		return version
	}
	d, err := c.describe(ctx, name)
	if err != nil || aws.ToString(d.VersionId) != fmt.Sprint(version+1) || aws.ToString(d.Destinations[0].ExtendedS3DestinationDescription.Prefix) != prefix {
		c.t.Errorf("%s after an update to version %d: %+v, %v", name, version+1, d, err)
	}
	return version + 1
}

func tryCreateRedshift(ctx context.Context, client *firehose.Client, name, _ string) error {
	var d types.RedshiftDestinationConfiguration
	if err := json.Unmarshal([]byte(destinations["Redshift"].configuration), &d); err != nil {
		return err
	}
	_, err := client.CreateDeliveryStream(ctx, &firehose.CreateDeliveryStreamInput{DeliveryStreamName: &name, RedshiftDestinationConfiguration: &d})
	return err
}

func tryCreateEndpoint(ctx context.Context, client *firehose.Client, name, _ string) error {
	var d types.HttpEndpointDestinationConfiguration
	if err := json.Unmarshal([]byte(destinations["HttpEndpoint"].configuration), &d); err != nil {
		return err
	}
	_, err := client.CreateDeliveryStream(ctx, &firehose.CreateDeliveryStreamInput{DeliveryStreamName: &name, HttpEndpointDestinationConfiguration: &d})
	return err
}

// updateRedshift changes the table, and the password every other time. Without one the update succeeds only where the
// daemon still has that of before.
func (c *tenant) updateRedshift(ctx context.Context, name string, version int) int {
	table := fmt.Sprintf("t%d", version+1)
	in := &types.RedshiftDestinationUpdate{CopyCommand: &types.CopyCommand{DataTableName: &table}}
	if version%2 == 0 {
		in.Password = new(fmt.Sprintf("%s-%d", somePassword, version))
	}
	d := c.updated(ctx, name, version, &firehose.UpdateDestinationInput{RedshiftDestinationUpdate: in})
	if d == nil || d.RedshiftDestinationDescription == nil || aws.ToString(d.RedshiftDestinationDescription.CopyCommand.DataTableName) != table {
		c.t.Errorf("%s after an update to version %d: %+v", name, version+1, d)
	}
	return version + 1
}

func (c *tenant) updateEndpoint(ctx context.Context, name string, version int) int {
	url := fmt.Sprintf("https://127.0.0.1:1/v%d", version+1)
	in := &types.HttpEndpointDestinationUpdate{EndpointConfiguration: &types.HttpEndpointConfiguration{Url: &url}}
	if version%2 == 0 {
		in.EndpointConfiguration.AccessKey = new(fmt.Sprintf("%s-%d", someAccessKey, version))
	}
	d := c.updated(ctx, name, version, &firehose.UpdateDestinationInput{HttpEndpointDestinationUpdate: in})
	if d == nil || d.HttpEndpointDestinationDescription == nil || aws.ToString(d.HttpEndpointDestinationDescription.EndpointConfiguration.Url) != url {
		c.t.Errorf("%s after an update to version %d: %+v", name, version+1, d)
	}
	return version + 1
}

// updated makes an update and returns how the destination is described then. An answer that was lost may have been
// success.
func (c *tenant) updated(ctx context.Context, name string, version int, in *firehose.UpdateDestinationInput) *types.DestinationDescription {
	in.DeliveryStreamName, in.CurrentDeliveryStreamVersionId, in.DestinationId = &name, new(fmt.Sprint(version)), new("destinationId-000000000001")
	err := c.call(ctx, func(ctx context.Context) error {
		_, err := c.client.UpdateDestination(ctx, in)
		return err
	})
	if err != nil && errorCode(err) != "ConcurrentModificationException" {
		c.t.Errorf("update %s: %v", name, err)
		return nil
	}
	d, err := c.describe(ctx, name)
	if err != nil || aws.ToString(d.VersionId) != fmt.Sprint(version+1) {
		c.t.Errorf("%s after an update to version %d: %+v, %v", name, version+1, d, err)
		return nil
	}
	return &d.Destinations[0]
}

// Whatever the daemon has answered about streams is so after kill -9: a stream that was created is there, one
// that was deleted goes away, an update is neither lost nor made twice; and what was acknowledged is in the
// store once, unless its stream was deleted by force.
func TestControlPlaneStorm(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	store := parts.MinIO(t)
	store.CreateBucket(t, "lake")
	d := controlled(t, store, store.Endpoint)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	ending := make(chan struct{})
	var tenants []*tenant
	var wg sync.WaitGroup
	for i := range 4 {
		c := &tenant{t: t, number: i, client: firehoseClient(d.api, 6), random: rand.New(rand.NewPCG(seed, uint64(i+1))), acked: map[string]bool{}, maybe: map[string]bool{}}
		tenants = append(tenants, c)
		wg.Go(func() {
			for {
				c.live(ctx)
				select {
				case <-ending:
					return
				default:
				}
				if ctx.Err() != nil || t.Failed() {
					return
				}
			}
		})
	}
	env := d.env
	for i := range rounds {
		limit := time.Duration(random.Int64N(int64(700 * time.Millisecond)))
		if i%2 == 1 { // at a place where something becomes durable
			points := slices.Concat(crashPoints, controlPoints)
			p := points[random.IntN(len(points))]
			if random.IntN(4) == 0 {
				p = controlPoints[0]
			}
			d.program, d.env = withCrashPoints(t), append(slices.Clone(env), fmt.Sprintf("HYDRANT_CRASH_POINT=%s:%d", p.name, 1+random.IntN(p.passes)))
			limit = time.Second
		}
		d.launch()
		eventually(t, "ready, or dead", func() bool { return d.ready() || d.ended(time.Millisecond) })
		d.ended(limit)
		d.kill()
		d.program, d.env = "", env
	}
	d.start()
	close(ending)
	wg.Wait()

	lake := filepath.Join(t.TempDir(), "lake")
	store.Fetch(t, "lake", lake)
	found := map[string]int{}
	for _, row := range lakeLines(t, lake) {
		found[row]++
	}
	lives, acked, forced, kept := 0, 0, 0, 0
	for _, c := range tenants {
		kept += c.kept
		lives, acked, forced = lives+c.lives, acked+len(c.acked), forced+c.forced
		for row := range c.acked {
			if found[row] != 1 {
				t.Errorf("row %s was acknowledged and is in the store %d times", row, found[row])
			}
			delete(found, row)
		}
		for row := range c.maybe {
			if found[row] > 1 {
				t.Errorf("row %s is in the store %d times", row, found[row])
			}
			delete(found, row)
		}
	}
	if len(found) > 0 {
		t.Errorf("rows that nobody put: %v", found)
	}
	out, err := firehoseClient(d.api, 3).ListDeliveryStreams(ctx, &firehose.ListDeliveryStreamsInput{Limit: new(int32(100))})
	if err != nil || strings.Join(out.DeliveryStreamNames, " ") != "declared" {
		t.Errorf("streams in the end: %v, %v", out, err)
	}
	t.Logf("%d lives of streams, %d of them with secrets, over %d deaths, %d rows acknowledged, %d puts to streams that were deleted by force", lives, kept, rounds, acked, forced)
	if strings.Contains(d.log.String(), "is not in the file of secrets") {
		t.Error("a secret was lost")
	}
	noSecrets(t, d)
	// A start forgets what streams that are gone had.
	d.kill()
	d.start()
	if info, err := os.Stat(filepath.Join(d.data, "secrets")); kept > 0 && (err != nil || info.Size() > 200) {
		t.Errorf("the file of secrets, of which nothing is needed: %v, %v", info, err)
	}
	if lives < rounds || acked == 0 || kept == 0 {
		t.Error("nothing was put to the test")
	}
}
