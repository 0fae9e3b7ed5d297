package e2e

import (
	"bufio"
	"cmp"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"hydrant/e2e/parts"
)

// producer puts numbered records into one stream and writes down what it sent and what was acknowledged. Its
// numbers go on from one season to the next, so a record that comes back later is noticed.
type producer struct {
	number   int
	stream   string
	endpoint string
	records  int           // most of them in a call
	pad      int           // most bytes of padding in a record
	pause    time.Duration // between calls; 0: none
	misfits  bool          // one in a hundred records does not fit the schema
	keys     int           // records are keyed, and lie in so many partitions; 0: they are not
	once     bool          // each call is tried once; the only answer but success that may come is a refusal

	next int64 // of the goroutine that runs

	mu   sync.Mutex
	held bool               // no call is begun; guarded by mu
	give context.CancelFunc // gives up the call under way; guarded by mu

	// Of one season. Sent and acknowledged are read when the producer has ended.
	sent    []int64
	acked   []int64
	calls   []putCall    // that were acknowledged
	n       atomic.Int64 // len(acked), for others
	refused atomic.Int64 // calls
}

// season starts producers and returns how to end them. The end waits for acknowledgements on their way.
func season(t *testing.T, producers []*producer) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, p := range producers {
		p.sent, p.acked, p.calls = nil, nil, nil
		p.n.Store(0)
		p.refused.Store(0)
		running.Go(func() { p.run(ctx, t) })
	}
	return sync.OnceFunc(func() { cancel(); running.Wait() })
}

// hold gives up the call under way and begins no other, until it is told to go on: the stream is about to be taken out. One that
// is created again under its name is another one and does not know the calls of the old one, so a call that is retried with
// both would be stored twice, and rightly so.
func (p *producer) hold(held bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held = held; held && p.give != nil {
		p.give()
	}
}

// begin is the context of a call, unless calls are held. The call outlives the season: an acknowledgement that is on its way is
// waited for.
func (p *producer) begin() (call context.Context, cancel context.CancelFunc, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held {
		return nil, nil, false
	}
	call, cancel = context.WithTimeout(context.Background(), 5*time.Second)
	p.give = cancel
	return call, cancel, true
}

// putCall is a call that was acknowledged.
type putCall struct {
	first int64 // number of its first record
	at    time.Time
	id    string // of its first record
}

// call is that of a record.
func (p *producer) call(n int64) (c putCall, ok bool) {
	i, found := slices.BinarySearchFunc(p.calls, n, func(c putCall, n int64) int { return cmp.Compare(c.first, n) })
	if !found {
		i--
	}
	if i < 0 {
		return c, false
	}
	return p.calls[i], true
}

func acknowledged(producers []*producer) (n int64) {
	for _, p := range producers {
		n += p.n.Load()
	}
	return n
}

// firehoseClient retries as the SDK does, with a short pause at most and without giving up for the sake of a
// server that is killed every second.
func firehoseClient(endpoint string, attempts int) *firehose.Client {
	return firehose.New(firehose.Options{BaseEndpoint: &endpoint, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff, o.RateLimiter = attempts, 200*time.Millisecond, unlimited{}
		})})
}

// run puts batches until ctx ends, going on with the next one where the SDK gave up.
func (p *producer) run(ctx context.Context, t *testing.T) {
	client := firehoseClient(p.endpoint, 6)
	if p.once {
		client = firehoseClient(p.endpoint, 1)
	}
	random := rand.New(rand.NewPCG(uint64(p.number), uint64(p.next)))
	filler := make([]byte, p.pad+1<<20) // longer than what compressors remember
	for i := range filler {
		filler[i] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[random.IntN(64)]
	}
	pace := time.NewTicker(max(p.pause, 1))
	defer pace.Stop()
	for ctx.Err() == nil {
		call, cancel, ok := p.begin()
		if !ok {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		records := make([]types.Record, 1+random.IntN(p.records))
		first := p.next
		for i := range records {
			pad := filler[random.IntN(1<<20):][:random.IntN(p.pad)]
			if p.keys > 0 {
				records[i].Data = p.keyed(p.next, i == 0, pad, random)
			} else {
				records[i].Data = p.record(p.next, pad, random)
			}
			p.sent = append(p.sent, p.next)
			p.next++
		}
		out, err := client.PutRecordBatch(call, &firehose.PutRecordBatchInput{DeliveryStreamName: &p.stream, Records: records})
		cancel()
		if err == nil {
			if len(out.RequestResponses) != len(records) {
				t.Errorf("%d answers for %d records", len(out.RequestResponses), len(records))
				return
			}
			for i, r := range out.RequestResponses {
				if aws.ToString(r.RecordId) != "" {
					p.acked = append(p.acked, first+int64(i))
				}
			}
			p.calls = append(p.calls, putCall{first, time.Now(), aws.ToString(out.RequestResponses[0].RecordId)})
			p.n.Store(int64(len(p.acked)))
		} // else not acknowledged: each of these may be found once or not at all
		if e, ok := errors.AsType[*types.ServiceUnavailableException](err); ok && strings.HasPrefix(e.ErrorMessage(), "Slow down.") {
			p.refused.Add(1)
		} else if _, answered := errors.AsType[smithy.APIError](err); p.once && answered {
			t.Errorf("put to %s: %v", p.stream, err)
			return
		} else if err != nil && p.once {
			t.Logf("put to %s got no answer: %v", p.stream, err)
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
	}
}

// record carries its name and a checksum of all that the judge reads.
func (p *producer) record(n int64, pad []byte, random *rand.Rand) []byte {
	if p.misfits && random.IntN(100) == 0 {
		return fmt.Appendf(nil, "misfit %d-%d", p.number, n)
	}
	return fmt.Appendf(nil, `{"producer":%d,"n":%d,"pad":"%s","sum":"%s"}`, p.number, n, pad, p.sum(n, pad))
}

func (p *producer) sum(n int64, pad []byte) string {
	sum := md5.Sum(fmt.Appendf(nil, "%d-%d-%s", p.number, n, pad))
	return hex.EncodeToString(sum[:])
}

// keyed is a record that says where it has to lie: half of them under four keys, which fill objects alone. Event times are in no
// order and up to 50 minutes old, of late ones three hours, which is more than the lateness that is allowed. The first of a call is of
// this moment, so that even a stream that has seen nothing before knows late ones.
func (p *producer) keyed(n int64, first bool, pad []byte, random *rand.Rand) []byte {
	if p.misfits && !first && random.IntN(100) == 0 {
		return fmt.Appendf(nil, "misfit %d-%d", p.number, n)
	}
	key, age, late := random.IntN(p.keys), random.IntN(50*60), !first && random.IntN(40) == 0
	if random.IntN(2) == 0 {
		key %= 4
	}
	switch {
	case first:
		age = 0
	case late:
		age = 3 * 60 * 60
	}
	return fmt.Appendf(nil, `{"producer":%d,"n":%d,"pad":"%s","sum":"%s","k":"c%d","ts":%d,"late":%t}`,
		p.number, n, pad, p.sum(n, pad), key, time.Now().Add(-time.Duration(age)*time.Second).UnixMilli(), late)
}

// unlimited lets every retry through.
type unlimited struct{}

func (unlimited) GetToken(context.Context, uint) (func() error, error) {
	return func() error { return nil }, nil
}
func (unlimited) AddTokens(uint) error { return nil }

// logs writes what producers know as files of stream, producer and number.
func logs(t *testing.T, dir string, producers []*producer) (sent, acked string) {
	t.Helper()
	write := func(name string, of func(*producer) []int64) string {
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		w := bufio.NewWriter(f)
		for _, p := range producers {
			for _, n := range of(p) {
				fmt.Fprintf(w, "%s,%d,%d\n", p.stream, p.number, n)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("sent.csv", func(p *producer) []int64 { return p.sent }),
		write("acked.csv", func(p *producer) []int64 { return p.acked })
}

// serves waits until a store that was started again answers for its buckets. MinIO answers at all before it
// does, and a put that comes in between may wait for minutes.
func serves(t testing.TB, store *parts.S3Server, bucket string) {
	t.Helper()
	eventually(t, "the store serves again", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := store.Client().HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &bucket})
		return err == nil
	})
}

// number is a positive number from the environment.
func number(t *testing.T, env string, otherwise int) int {
	v := os.Getenv(env)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is not a number from 1", env, v)
	}
	return n
}

// walk lists the files below dir, none where it is missing.
func walk(t testing.TB, dir string) (paths []string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			paths = append(paths, path)
		}
		return nil
	})
	return paths
}

// withSuffix are those of the paths that end so.
func withSuffix(paths []string, suffix string) []string {
	return slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return !strings.HasSuffix(p, suffix) })
}
