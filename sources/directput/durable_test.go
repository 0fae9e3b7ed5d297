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

// journal opens a buffer on real files with a stream "s" whose rows are dropped as fast as they come. key encrypts
// it; nil: it is in clear.
func journal(b *testing.B, pool *record.Pool, key *buffer.Key) *buffer.Buffer {
	x, err := buffer.Open(buffer.Options{Dir: b.TempDir(), Buffers: pool, Key: key, SlotSize: 32 << 20, Slots: 16})
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
			if w := c.Waiting(); w.Bytes < 32<<20 && c.Pressure() == 0 {
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
	l := newDurableLoad(b, op, records, callers)
	x, h := l.handler(nil)
	var mine, theirs time.Duration
	turns := 0
	b.SetBytes(int64(2 * l.calls * records * durableSize))
	for b.Loop() {
		used, _ := l.turn(h, l.calls)
		mine += used
		used, _ = l.turn(simple{x}, l.calls)
		theirs += used
		turns++
	}
	total := float64(turns * l.calls * records)
	b.ReportMetric(total*durableSize/1e6/mine.Seconds(), "MB/s/core")
	b.ReportMetric(total/mine.Seconds(), "records/s/core")
	b.ReportMetric(float64(theirs)/float64(mine), "ratio")
	b.ReportMetric(float64(l.refused.Load())/float64(2*turns*l.calls), "refused/op")
}

// BenchmarkDurableEncrypted puts calls through the handler into an encrypted journal and into one in clear, in
// turns. of_clear is the ratio of the payload per second, cpu_of_clear that of the CPU time for the same payload.
func BenchmarkDurableEncrypted(b *testing.B) {
	const records, callers = 500, 8
	l := newDurableLoad(b, opPutRecordBatch, records, callers)
	key, err := buffer.ParseKey([]byte("00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef"))
	if err != nil {
		b.Fatal(err)
	}
	_, clear := l.handler(nil)
	_, sealed := l.handler(key)
	var used, took [2]time.Duration
	b.SetBytes(int64(2 * l.calls * records * durableSize))
	for b.Loop() {
		for i, h := range []http.Handler{clear, sealed} {
			u, t := l.turn(h, l.calls)
			used[i] += u
			took[i] += t
		}
	}
	b.ReportMetric(float64(took[0])/float64(took[1]), "of_clear")
	b.ReportMetric(float64(used[1])/float64(used[0]), "cpu_of_clear")
}

// durableSize is the bytes of a record.
const durableSize = 1024

// durableLoad is callers that make the same call again and again.
type durableLoad struct {
	b       *testing.B
	op      string
	body    []byte
	records int
	callers int
	calls   int // of a turn
	refused atomic.Int64
}

func newDurableLoad(b *testing.B, op string, records, callers int) *durableLoad {
	lines := clicks(records, durableSize)
	l := &durableLoad{b: b, op: op, body: []byte(batchOf(lines...)), records: records, callers: callers, calls: max(64, 20_000/records)}
	if op == opPutRecord {
		l.body = []byte(`{"DeliveryStreamName":"s","Record":{"Data":"` + b64(lines[0]) + `"}}`)
	}
	return l
}

// handler makes a handler over a journal of its own, every block of which has been written.
func (l *durableLoad) handler(key *buffer.Key) (*buffer.Buffer, *Handler) {
	pool := new(record.Pool)
	x := journal(l.b, pool, key)
	h, err := New(Options{Appender: x, Directory: discard{}, Buffers: pool})
	if err != nil {
		l.b.Fatal(err)
	}
	l.turn(h, 1_000_000/l.records)
	return x, h
}

// turn makes n calls from all callers and returns the CPU time and the time that they took.
func (l *durableLoad) turn(h http.Handler, n int) (used, took time.Duration) {
	before, began := cpu(l.b), time.Now()
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range l.callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				for {
					w := &nowhere{}
					h.ServeHTTP(w, durableRequest(l.op, l.body))
					if w.code == 0 || w.code == http.StatusOK {
						break
					}
					if w.code != http.StatusServiceUnavailable {
						l.b.Errorf("answered %d", w.code)
						return
					}
					l.refused.Add(1)
					time.Sleep(100 * time.Microsecond) // until rows were cut
				}
			}
		})
	}
	wg.Wait()
	return cpu(l.b) - before, time.Since(began)
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
