package directput

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"hydrant/buffer"
	"hydrant/record"
)

// journal opens a buffer on real files with a stream "s" whose rows are dropped as fast as they come.
func journal(b *testing.B, pool *record.Pool) *buffer.Buffer {
	x, err := buffer.Open(buffer.Options{Dir: b.TempDir(), Buffers: pool, SlotSize: 32 << 20, Slots: 16})
	if err != nil {
		b.Fatal(err)
	}
	s, err := x.Define(buffer.Stream{Name: "s"})
	if err != nil {
		b.Fatal(err)
	}
	stop := make(chan struct{})
	var cutter sync.WaitGroup
	cutter.Go(func() {
		c := x.Consumer(s.Incarnation, buffer.Main)
		for {
			select {
			case <-stop:
				return
			case <-c.Changed():
			}
			if w := c.Waiting(); w.Bytes < 32<<20 && !c.Pressure() {
				continue
			}
			k := c.Take(0, 1<<40)
			if k == nil {
				continue
			}
			first, next := k.Range()
			h := buffer.ManifestHead{ID: x.NewManifestID(), Version: s.Version, Epoch: c.NewEpoch(), First: first, Next: next,
				Counts: buffer.Counts{Dropped: int64(next - first)}}
			if _, err := x.Cut(k, nil, h); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.Cleanup(func() {
		close(stop)
		cutter.Wait()
		if err := x.Close(); err != nil {
			b.Error(err)
		}
	})
	return x
}

// simple is the handler that one would write first: encoding/json both ways, the body's SHA-256, and the
// same journal.
type simple struct{ x *buffer.Buffer }

func (s simple) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	sum := sha256.Sum256(body)
	var call struct {
		DeliveryStreamName string
		Record             *struct{ Data []byte }
		Records            []struct{ Data []byte }
	}
	if err := json.Unmarshal(body, &call); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if call.Record != nil {
		call.Records = append(call.Records, *call.Record)
	}
	batch := record.NewBatch(nil)
	for _, one := range call.Records {
		batch.Append(one.Data)
	}
	c := record.Call{Batch: batch}
	copy(c.BodyHash[:], sum[:])
	receipt, _, err := s.x.Append(r.Context(), call.DeliveryStreamName, c)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	type entry struct {
		RecordID string `json:"RecordId"`
	}
	var answer struct {
		FailedPutCount   int
		Encrypted        bool
		RequestResponses []entry
	}
	for i := range call.Records {
		answer.RequestResponses = append(answer.RequestResponses, entry{receipt.ID(i).String()})
	}
	text, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(text)
}

// onlyReader hides what else a reader can do, as the body of a connection does.
type onlyReader struct{ io.Reader }

// BenchmarkDurable puts calls through the handler into a real journal, without a network, and through the
// handler of package encoding/json in turns with it. MB/s/core is payload (10^6 bytes) by CPU time of the
// whole process, which includes making the requests; ratio is to the other handler's.
func BenchmarkDurable(b *testing.B) {
	for _, shape := range []struct {
		op               string
		records, callers int
	}{{opPutRecordBatch, 500, 8}, {opPutRecordBatch, 500, 1}, {opPutRecord, 1, 64}} {
		b.Run(fmt.Sprintf("%s/callers=%d", shape.op, shape.callers), func(b *testing.B) {
			benchDurable(b, shape.op, shape.records, shape.callers)
		})
	}
}

func benchDurable(b *testing.B, op string, records, callers int) {
	const size = 1024
	pool := new(record.Pool)
	x := journal(b, pool)
	h, err := New(Options{Appender: x, Directory: discard{}, Buffers: pool})
	if err != nil {
		b.Fatal(err)
	}
	lines := clicks(records, size)
	body := []byte(batchOf(lines...))
	if op == opPutRecord {
		body = []byte(`{"DeliveryStreamName":"s","Record":{"Data":"` + b64(lines[0]) + `"}}`)
	}
	var refused atomic.Int64
	// turn makes n calls from all callers and returns the CPU time that they took.
	turn := func(h http.Handler, n int) time.Duration {
		began := cpu(b)
		var left atomic.Int64
		left.Store(int64(n))
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for left.Add(-1) >= 0 {
					for {
						w := &nowhere{}
						h.ServeHTTP(w, durableRequest(op, body))
						if w.code == 0 || w.code == http.StatusOK {
							break
						}
						if w.code != http.StatusServiceUnavailable {
							b.Errorf("answered %d", w.code)
							return
						}
						refused.Add(1)
						time.Sleep(100 * time.Microsecond) // until rows were cut
					}
				}
			})
		}
		wg.Wait()
		return cpu(b) - began
	}
	calls := max(64, 20_000/records)
	turn(h, 1_000_000/records) // a lap of the ring and more, so that blocks have been written before
	var mine, theirs time.Duration
	turns := 0
	b.SetBytes(int64(2 * calls * records * size))
	for b.Loop() {
		mine += turn(h, calls)
		theirs += turn(simple{x}, calls)
		turns++
	}
	total := float64(turns * calls * records)
	b.ReportMetric(total*size/1e6/mine.Seconds(), "MB/s/core")
	b.ReportMetric(total/mine.Seconds(), "records/s/core")
	b.ReportMetric(float64(theirs)/float64(mine), "ratio")
	b.ReportMetric(float64(refused.Load())/float64(2*turns*calls), "refused/op")
}

// durableRequest is a call as an SDK makes it.
func durableRequest(op string, body []byte) *http.Request {
	r := &http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: "/"}, ContentLength: int64(len(body)), Body: io.NopCloser(onlyReader{bytes.NewReader(body)}),
		Header: http.Header{"Content-Type": {contentType}, "X-Amz-Target": {targetPrefix + op},
			"Amz-Sdk-Invocation-Id": {uuid.NewString()}, "Amz-Sdk-Request": {"attempt=1; max=3"}},
	}
	return r
}
