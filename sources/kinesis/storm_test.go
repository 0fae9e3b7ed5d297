package kinesis_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"hydrant/sources/kinesis"
	"hydrant/sources/kinesis/aggregate"
	"hydrant/sources/kinesis/kinesistest"
	"hydrant/sources/sourcetest"
)

// TestStorm lets processes die, or stop, again and again while shards are split and merged, records are packed and not, and the
// service fails: each record is delivered once, those of a key in their order. HYDRANT_KINESIS_SEEDS is how many lives there are.
func TestStorm(t *testing.T) {
	credentials(t)
	lives := 6
	if n, err := strconv.Atoi(os.Getenv("HYDRANT_KINESIS_SEEDS")); err == nil {
		lives = n
	}
	for seed := range lives {
		for _, way := range []struct {
			name    string
			options func(service, string) kinesis.Options
		}{{"polling", options}, {"fan-out", fanOut}} {
			t.Run(fmt.Sprintf("%s/%d", way.name, seed), func(t *testing.T) { storm(t, uint64(seed), way.options) })
		}
	}
}

func storm(t *testing.T, seed uint64, options func(service, string) kinesis.Options) {
	random := rand.New(rand.NewPCG(seed, 1))
	s := newFake(t, kinesistest.Options{
		Subscription: 100 * time.Millisecond, Resubscribe: 5 * time.Millisecond, IteratorAge: 200 * time.Millisecond, PageSize: 5,
		MaxReply: 2000, // many answers
		Fault: func(c kinesistest.Call) *kinesistest.Fault {
			switch n := rand.IntN(100); {
			case n < 3:
				return &kinesistest.Fault{Type: "ProvisionedThroughputExceededException"}
			case n < 5:
				return &kinesistest.Fault{Status: 599}
			case n < 7 && c.Operation == "GetRecords":
				return &kinesistest.Fault{Empty: true}
			case n < 8 && c.Operation == "GetRecords":
				return &kinesistest.Fault{Torn: true}
			case n < 9 && c.Operation == "GetRecords":
				return &kinesistest.Fault{Type: "ExpiredIteratorException"}
			}
			return nil
		},
	})
	s.CreateStream("s", 1+random.IntN(4))
	var to sourcetest.Destination
	disk := sourcetest.NewDisk(t, &to)
	open := func() *reading {
		return read(t, disk, options(s, "s"), sourcetest.Options{Room: 1000 + random.IntN(100_000), Every: time.Duration(1+random.IntN(30)) * time.Millisecond, Delay: time.Duration(random.IntN(5)) * time.Millisecond})
	}
	d := open()
	n := 0
	for range 40 {
		switch random.IntN(8) {
		case 0:
			d.kill()
			d = open()
		case 1:
			d.stop()
			d = open()
		case 2:
			d.in.Persist() // as when memory is short
		case 3:
			shards := s.Open("s")
			s.split(t, "s", shards[random.IntN(len(shards))])
		case 4:
			if shards := s.Open("s"); len(shards) > 1 {
				i := random.IntN(len(shards) - 1)
				s.merge(t, "s", shards[i], shards[i+1])
			}
		case 5:
			var packed []aggregate.Record
			key := strconv.Itoa(random.IntN(10))
			for range random.IntN(200) {
				packed = append(packed, aggregate.Record{PartitionKey: []byte(key), Data: fmt.Appendf(nil, "%s %d", key, n)})
				n++
			}
			if len(packed) > 0 {
				s.Put("s", key, aggregate.Append(nil, packed))
			}
		default:
			for range random.IntN(100) {
				key := strconv.Itoa(random.IntN(10))
				s.Put("s", key, fmt.Appendf(nil, "%s %d", key, n))
				n++
			}
		}
		time.Sleep(time.Duration(random.IntN(8)) * time.Millisecond)
	}
	once(t, &to, n)
	inOrder(t, &to)
	if got := d.metric("hydrant_source_gaps_total"); got != 0 {
		t.Errorf("%v gaps", got)
	}
}
