package delivery

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"hydrant/buffer"
	"hydrant/sinks"
)

const (
	// markerBytes and markersMost bound a batch of markers, which is in memory, and in one note, while it is sent.
	markerBytes = 4 << 20
	markersMost = 1000
	// markersAtOnce of a stream are on their way.
	markersAtOnce = 8
	// maxLast bounds the directories of which it is remembered how many markers they have.
	maxLast = 4096
	// manyAccounts become one, even where no marker is due.
	manyAccounts = 2000
	// maxPoints bounds what is known of how the watermark went while rows are on their way.
	maxPoints = 1024

	// Values of the kind label of hydrant_markers_total.
	markerComplete = "complete"
	markerEarly    = "early"
)

var markerKinds = []string{markerComplete, markerEarly}

var markerCRC = crc64.MakeTable(sinks.CRC64NVME)

// marker is one that is decided.
type marker struct {
	Path   string          `json:"path"` // of its directory
	Number int             `json:"number"`
	ID     string          `json:"id"` // UUID
	Kind   string          `json:"kind"`
	Body   json.RawMessage `json:"body"`
	sent   bool
}

// markerText is what a marker says.
type markerText struct {
	Format    int            `json:"format"`
	ID        string         `json:"id"`
	Stream    string         `json:"stream"`
	Directory string         `json:"directory"`
	Ends      string         `json:"ends"`                // of the directory's time
	Watermark string         `json:"watermark,omitempty"` // of the stream when it was made
	Complete  bool           `json:"complete"`            // the watermark had passed the end
	Accepted  int64          `json:"accepted_records"`
	Delivered int64          `json:"delivered_records"`
	Failed    int64          `json:"failed_records"`
	Dropped   int64          `json:"dropped_records"`
	Objects   []markedObject `json:"objects"`
}

// markerKey is the key of a directory's marker.
func markerKey(path string, number int) string {
	if number <= 1 {
		return path + "_SUCCESS.json"
	}
	return fmt.Sprintf("%s_SUCCESS-%d.json", path, number)
}

// points are how the watermark went: after all rows below next it was at.
type points []point

type point struct {
	next uint64
	at   int64 // µs since 1970; 0: none
}

func (p *points) add(next uint64, at int64) {
	list := *p
	if n := len(list); n > 1 && n >= maxPoints {
		list = slices.Delete(list, n-1, n) // so what is below the next one is said to be a little less far
	}
	*p = append(list, point{next, at})
}

// upTo is the watermark after the last point up to settled, and forgets those before that.
func (p *points) upTo(settled uint64) int64 {
	list := *p
	for len(list) > 1 && list[1].next <= settled {
		list = list[1:]
	}
	*p = list
	if len(list) == 0 || list[0].next > settled {
		return 0
	}
	return list[0].at
}

// settled is the sequence below which everything is in the destination, the error output or dropped, and the watermark after
// rows below it. idle: that is everything, so that the clock counts.
func (l *loop) settled(now time.Time) (seq uint64, watermark int64, idle bool) {
	s := l.s
	s.mu.Lock()
	w := s.consumer.Waiting()
	seq, idle = w.First, w.First == w.Next
	for _, b := range s.batches {
		seq, idle = min(seq, b.manifest.First), false
	}
	s.mu.Unlock()
	for _, j := range l.jobs {
		seq, idle = min(seq, j.first), false
	}
	for _, e := range l.routes.epochs {
		seq, idle = min(seq, e.first), false
	}
	watermark = l.points.upTo(seq)
	if p := l.ver.pipe; idle && p != nil && p.Scheme != nil && watermark != 0 {
		l.routerOf(l.ver)
		if at, ok := p.Scheme.Watermark(l.guide.mark, now.UnixMicro()); ok {
			watermark = max(watermark, at)
		}
	}
	return seq, watermark, idle
}

// marking is what the loop knows of its markers.
type marking struct {
	done    chan error // of a batch that is being sent; nil: none is
	settled uint64     // of the last pass, as are the next two
	changes uint64
	next    int64 // watermark with which something is due that was not
	fails   int
	retryAt time.Time
}

// mark makes and sends the markers that are due, and says when to look again if nothing happens.
func (l *loop) mark(ctx context.Context, now time.Time) (wake time.Time) {
	s, b, k := l.s, l.s.book, &l.marking
	if b == nil || !b.has() {
		return time.Time{}
	}
	if k.done != nil {
		select {
		case err := <-k.done:
			k.done = nil
			if l.markFailed(now, err); err != nil {
				return k.retryAt
			}
		default:
			return time.Time{} // its end wakes the loop
		}
	}
	p := l.ver.pipe
	switch {
	case s.state() == buffer.Paused:
		return time.Time{}
	case p == nil:
		return now.Add(cutCap)
	case now.Before(k.retryAt):
		return k.retryAt
	}
	if p.Destination.AtLeastOnce || p.Destination.finisher() != nil {
		s.log.Warn("the destination takes no markers any more; those that were to come are forgotten", "kind", p.Destination.Kind)
		b.abandon()
		return time.Time{}
	}
	batch := b.undelivered()
	if batch == nil {
		settled, watermark, idle := l.settled(now)
		all := s.state() == buffer.Deleting || !p.Markers // there will be no others
		b.bound(l.shares.marked())
		changes := b.changed()
		if settled != k.settled || changes != k.changes || watermark >= k.next || all {
			next, err := b.pass(settled, watermark, all)
			if err != nil {
				l.markFailed(now, err)
				return k.retryAt
			}
			k.settled, k.changes, k.next = settled, b.changed(), next
		}
		if batch = b.undelivered(); batch == nil {
			if !idle || k.next == 0 {
				return time.Time{}
			}
			return now.Add(min(max(time.Duration(k.next-watermark)*time.Microsecond, time.Second), 30*time.Second))
		}
	}
	done := make(chan error, 1)
	k.done = done
	ver := l.ver
	s.mu.Lock()
	s.useLocked(ver)
	s.mu.Unlock()
	l.wg.Go(func() {
		defer s.wake()
		defer s.release(ver)
		done <- b.send(ctx, p, batch)
	})
	return time.Time{}
}

// markFailed notes how a pass, or a batch, ended.
func (l *loop) markFailed(now time.Time, err error) {
	k := &l.marking
	l.s.book.failed(err != nil)
	if err == nil {
		k.fails, k.retryAt = 0, time.Time{}
		return
	}
	k.fails++
	k.retryAt = now.Add(backoff(k.fails, cutBase, slowCap))
	if class := sinks.ClassOf(err); k.fails > 3 || class != sinks.Unknown && class != sinks.NotStored {
		l.s.alarm("markers", "markers cannot be written now; they are kept and tried again", "err", err)
	} else {
		l.s.notice("markers", "markers cannot be written now; they are kept and tried again", "err", err)
	}
}

// marked is the bytes of objects that are delivered and listed by no marker that a stream may keep in memory.
func (s *shares) marked() int64 { return max(s.memory/32/s.streams(), 64<<10) }

func (b *book) bound(limit int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = limit
}

// has tells whether there is anything to make markers of, or to send.
func (b *book) has() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.broken == nil && (len(b.accounts) > 0 || b.batch != nil)
}

func (b *book) changed() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changes
}

// undelivered is the batch that is being worked off, or nil.
func (b *book) undelivered() *markerBatch {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.batch
}

// pass decides what the next markers say: those of the directories whose time ends up to the watermark, with all that is
// known of them of rows below settled, or of all directories. Where accounts take more than they may, directories get one
// early, those first whose time ends first: what comes later has another. next is the least end of one that was left.
func (b *book) pass(settled uint64, watermark int64, all bool) (next int64, err error) {
	b.mu.Lock()
	var used []string
	known := map[string]*directory{}
	rest := accounted{}
	for name, a := range b.accounts {
		if a.Next > settled && !sabotageMarkUnsettled {
			for _, d := range a.Directories {
				next = least(next, d.End)
			}
			continue
		}
		used = append(used, name)
		rest.Next = max(rest.Next, a.Next)
		for _, d := range a.Directories {
			if d.Failed == 0 && len(d.Objects) == 0 {
				continue // another account says what became of them
			}
			k := known[d.Path]
			if k == nil {
				k = &directory{Path: d.Path}
				known[d.Path] = k
			}
			k.End, k.Failed, k.Objects = max(k.End, d.End), k.Failed+d.Failed, append(k.Objects, d.Objects...)
		}
	}
	limit := b.limit
	b.mu.Unlock()
	list := make([]*directory, 0, len(known))
	total := int64(0)
	for _, d := range known {
		list = append(list, d)
		total += d.cost()
	}
	slices.SortFunc(list, func(a, b *directory) int { return cmp.Or(cmp.Compare(a.End, b.End), cmp.Compare(a.Path, b.Path)) })
	spare := int64(0) // to be given up
	if limit > 0 && total > limit {
		spare = total - limit/2
	}
	batch := &markerBatch{}
	freed := int64(0)
	due := 0
	for _, d := range list {
		if !all && d.End > watermark && freed >= spare || freed >= markerBytes || due >= markersMost {
			break
		}
		m, err := b.marker(d, watermark)
		if err != nil {
			return 0, err
		}
		batch.Markers = append(batch.Markers, m)
		freed += d.cost()
		due++
	}
	if due < len(list) {
		next = least(next, list[due].End)
	}
	if len(used) == 0 || due == 0 && len(list) > 0 && len(used) < manyAccounts {
		return next, nil
	}
	slices.Sort(used)
	rest.Directories, batch.UsesUp = list[due:], used
	batch.number, batch.Rest = b.number+1, rest
	if !sabotageMarkTwice {
		if err := b.put(batchName(batch.number), batch); err != nil {
			return 0, fmt.Errorf("decide about markers: %w", err)
		}
	}
	buffer.CrashPoint("markers-decided")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.number, b.batch = batch.number, batch
	for _, name := range used {
		b.bytes -= b.accounts[name].cost()
		delete(b.accounts, name)
	}
	b.add(batchName(batch.number), &batch.Rest)
	return next, nil
}

// least of two ends, where 0 is none.
func least(a, b int64) int64 {
	if a == 0 || b < a {
		return b
	}
	return a
}

// marker makes one of all that is known of a directory.
func (b *book) marker(d *directory, watermark int64) (*marker, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, fmt.Errorf("draw a UUID: %w", err)
	}
	slices.SortFunc(d.Objects, func(a, b markedObject) int { return cmp.Compare(a.Key, b.Key) })
	text := markerText{Format: 1, ID: id.String(), Stream: b.s.name, Directory: d.Path, Ends: printedMicro(d.End),
		Complete: d.End <= watermark, Failed: d.Failed, Objects: d.Objects}
	if watermark != 0 {
		text.Watermark = printedMicro(watermark)
	}
	if text.Objects == nil {
		text.Objects = []markedObject{}
	}
	for i := range d.Objects {
		text.Delivered += d.Objects[i].Records
	}
	text.Accepted = text.Delivered + text.Failed + text.Dropped
	body, err := json.Marshal(text)
	if err != nil {
		return nil, fmt.Errorf("bug: a marker cannot be written as JSON: %w", err)
	}
	m := &marker{Path: d.Path, ID: id.String(), Kind: markerEarly, Body: body, Number: 1}
	if text.Complete {
		m.Kind = markerComplete
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	m.Number = b.last[d.Path] + 1
	return m, nil
}

func printedMicro(at int64) string { return time.UnixMicro(at).UTC().Format(time.RFC3339Nano) }

// send puts the markers of a batch that are not there yet, and then forgets the batch, and what it has used up.
func (b *book) send(ctx context.Context, p *Pipeline, batch *markerBatch) error {
	for {
		// A name is decided before anything leaves under it: a start must not begin with the first one again, which may be
		// free by then, while this marker stands under a later one.
		if batch.renamed {
			if err := b.put(batchName(batch.number), batch); err != nil {
				return fmt.Errorf("give markers other names: %w", err)
			}
			batch.renamed = false
		}
		err := b.round(ctx, p, batch)
		if !batch.renamed {
			if err != nil {
				return err
			}
			return b.finish(batch)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// round tries each marker once that is not there. One whose name somebody else's object has, or an earlier marker, gets the
// next name.
func (b *book) round(ctx context.Context, p *Pipeline, batch *markerBatch) error {
	var (
		mu   sync.Mutex // guards batch and errs
		errs []error
		wg   sync.WaitGroup
		free = make(chan struct{}, markersAtOnce)
	)
	for _, m := range batch.Markers {
		if m.sent || ctx.Err() != nil {
			continue
		}
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			err := p.Destination.Sink.Put(ctx, m.object(b.s.name))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				buffer.CrashPoint("marker-stored")
				m.sent = true
				b.s.metrics.markers.WithLabelValues(b.s.name, m.Kind).Inc()
				b.remember(m)
			case sinks.ClassOf(err) == sinks.Foreign:
				m.Number++
				batch.renamed = true
			case len(errs) < 3:
				errs = append(errs, fmt.Errorf("put %q: %w", markerKey(m.Path, m.Number), err))
			}
		})
	}
	wg.Wait()
	if len(errs) == 0 && ctx.Err() != nil {
		errs = append(errs, ctx.Err())
	}
	return errors.Join(errs...)
}

// remember notes how many markers a directory has.
func (b *book) remember(m *marker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.last[m.Path]; !known && len(b.last) >= maxLast {
		clear(b.last)
	}
	b.last[m.Path] = m.Number
}

// object is what a sink gets.
func (m *marker) object(stream string) sinks.Object {
	body := append(slices.Clip([]byte(m.Body)), '\n')
	sum := sha256.Sum256(body)
	id, _ := uuid.Parse(m.ID) // it was drawn here
	return sinks.Object{
		Key: markerKey(m.Path, m.Number), Size: int64(len(body)), SHA256: sum, CRC64NVME: crc64.Checksum(body, markerCRC),
		ContentType: "application/json", ReaderAt: bytes.NewReader(body),
		Meta: map[string]string{sinks.MetaManifestID: hex.EncodeToString(id[:]), sinks.MetaSHA256: hex.EncodeToString(sum[:]), sinks.MetaStream: stream},
	}
}

// finish forgets a batch whose markers are all there: first what it has used up, so that this never counts again.
func (b *book) finish(batch *markerBatch) error {
	if err := b.notes.Remove(b.s.incarnation, batch.UsesUp...); err != nil {
		return fmt.Errorf("forget what markers say: %w", err)
	}
	name := batchName(batch.number)
	var err error
	if len(batch.Rest.Directories) == 0 {
		err = b.notes.Remove(b.s.incarnation, name)
	} else {
		err = b.put(name, &markerBatch{Rest: batch.Rest})
	}
	if err != nil {
		return fmt.Errorf("forget markers: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.batch = nil
	b.changes++
	if len(batch.Rest.Directories) == 0 {
		delete(b.accounts, name)
	}
	return nil
}
