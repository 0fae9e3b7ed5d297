package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer"
	"hydrant/sinks"
)

// warehouse is a database that outlives processes, with the bucket that it loads from. It checks what a Finisher may rely
// on.
type warehouse struct {
	*shop

	lock chan struct{} // held by who loads or skips

	mu       sync.Mutex // guards what follows
	table    map[string]int
	ledger   map[string]string // loaded, skipped
	known    map[string]sinks.Part
	forgot   map[string]bool
	fault    func(op string, parts []sinks.Part) loadFault
	took     time.Duration
	loads    [][]string // keys of those that were taken together
	now, top int        // loads at a time
}

// loadFault is what happens to an operation.
type loadFault struct {
	err  error
	when string // before, after or late: whether and when it takes effect
}

func newWarehouse(staging *shop) *warehouse {
	return &warehouse{
		shop: staging, lock: make(chan struct{}, 1), table: map[string]int{}, ledger: map[string]string{}, known: map[string]sinks.Part{}, forgot: map[string]bool{},
		took: 20 * time.Millisecond,
	}
}

// operate is one transaction.
func (h *warehouse) operate(op string, parts []sinks.Part, do func()) error {
	h.mu.Lock()
	f := h.fault
	for _, p := range parts {
		if old, ok := h.known[p.ID]; ok && (old.Key != p.Key || old.Size != p.Size) {
			h.shop.t.Errorf("part %s is %+v and was %+v", p.ID, p, old)
		}
		if h.forgot[p.ID] {
			h.shop.t.Errorf("%s of part %s, which was to be forgotten", op, p.ID)
		}
		h.known[p.ID] = p
	}
	took := h.took
	h.mu.Unlock()
	h.lock <- struct{}{}
	hit := loadFault{}
	if f != nil {
		hit = f(op, parts)
	}
	run := func() {
		time.Sleep(took)
		h.mu.Lock()
		do()
		h.mu.Unlock()
		<-h.lock
	}
	switch {
	case hit.err == nil:
		run()
	case hit.when == "after":
		run()
	case hit.when == "late":
		go run() // a session that is dying holds the lock
	default:
		<-h.lock
	}
	return hit.err
}

func (h *warehouse) Finish(ctx context.Context, parts []sinks.Part) []error {
	found := make([]error, len(parts)) // what a dying session writes to, later
	h.mu.Lock()
	h.now++
	h.top = max(h.top, h.now)
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.now--
		h.mu.Unlock()
	}()
	errs := found
	if err := h.operate("finish", parts, func() {
		var keys []string
		for i, p := range parts {
			state := h.ledger[p.ID]
			if state == "skipped" {
				found[i] = &sinks.Error{Class: sinks.RefusedObject, Code: sinks.CodeSkipped, Err: errors.New("skipped before")}
			}
			if state != "" {
				continue
			}
			h.shop.mu.Lock()
			o, ok := h.shop.objects[p.Key]
			h.shop.mu.Unlock()
			rows := strings.Split(strings.TrimSuffix(string(o.body), "\n"), "\n")
			switch {
			case !ok:
				found[i] = &sinks.Error{Class: sinks.RefusedDestination, Code: sinks.CodeMissing, Err: errors.New("no such object")}
				continue
			case int64(len(o.body)) != p.Size || p.Records != int64(len(rows)):
				h.shop.t.Errorf("part %+v has %d bytes and %d rows", p, len(o.body), len(rows))
			case bytes.Contains(o.body, []byte("poison")) || poisoned(rows):
				found[i] = &sinks.Error{Class: sinks.RefusedObject, Code: "Redshift.DataLoadFailed", Err: errors.New("a row cannot be loaded")}
				continue
			}
			for _, row := range rows {
				h.table[row]++
			}
			h.ledger[p.ID] = "loaded"
			keys = append(keys, p.Key)
		}
		if len(keys) > 0 {
			h.loads = append(h.loads, keys)
		}
	}); err != nil {
		errs = make([]error, len(parts))
		for i := range errs {
			errs[i] = err
		}
	}
	if ctx.Err() != nil {
		for i := range errs {
			errs[i] = &sinks.Error{Class: sinks.Unknown, Err: ctx.Err()}
		}
	}
	return errs
}

// poisoned tells whether a row of the crash simulation cannot be loaded.
func poisoned(rows []string) bool {
	return slices.ContainsFunc(rows, func(row string) bool { return strings.HasPrefix(row, "row-") && strings.HasSuffix(row, "77") })
}

func (h *warehouse) Skip(ctx context.Context, parts []sinks.Part) (taken []bool, err error) {
	loaded := make([]bool, len(parts)) // what a dying session writes to, later
	if err := h.operate("skip", parts, func() {
		for i, p := range parts {
			if h.ledger[p.ID] == "" {
				h.ledger[p.ID] = "skipped"
			}
			loaded[i] = h.ledger[p.ID] == "loaded"
		}
	}); err != nil {
		return nil, err
	}
	return loaded, nil
}

func (h *warehouse) Forget(ctx context.Context, ids []string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		if h.ledger[id] != "loaded" {
			h.shop.t.Errorf("part %s is to be forgotten, and is %q", id, h.ledger[id])
		}
		delete(h.ledger, id)
		h.forgot[id] = true
	}
	return nil
}

func (h *warehouse) set(fault func(op string, parts []sinks.Part) loadFault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = fault
}

// rows of the table.
func (h *warehouse) rows() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.table)
}

// noted are how many parts the ledger has in a state.
func (h *warehouse) noted(state string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.ledger {
		if s == state {
			n++
		}
	}
	return n
}

// loaded is the sink that a pipeline has: only what a Finisher has to have.
type loadedSink struct{ h *warehouse }

func (s loadedSink) Put(ctx context.Context, o sinks.Object) error { return s.h.shop.Put(ctx, o) }
func (s loadedSink) Verify(context.Context, sinks.Object) error {
	s.h.shop.t.Error("the bucket is asked about what only the database knows")
	return refusal(sinks.Unknown, "")
}
func (s loadedSink) ValidateKey(key string) error { return s.h.shop.ValidateKey(key) }
func (s loadedSink) Close() error                 { return s.h.shop.Close() }
func (s loadedSink) Finish(ctx context.Context, parts []sinks.Part) []error {
	return s.h.Finish(ctx, parts)
}
func (s loadedSink) Skip(ctx context.Context, parts []sinks.Part) ([]bool, error) {
	return s.h.Skip(ctx, parts)
}
func (s loadedSink) Forget(ctx context.Context, ids []string) error { return s.h.Forget(ctx, ids) }

// warehouse makes the streams of a world load into one. Objects of the error output go to the shop of errors.
func (w *world) warehouse(giveUpAfter time.Duration) *warehouse {
	h := newWarehouse(w.shop())
	w.shops["errors"] = w.newShop()
	w.adapt = func(p *Pipeline, s buffer.Stream) {
		place := p.Destination.Place
		if place == "" {
			place = "ledger"
		}
		p.Errors = Destination{ID: s.Name + "/errors/s3", Kind: "s3", Place: "errors", Sink: w.shops["errors"]}
		p.Destination = Destination{
			ID: s.Name + "/data/redshift", Kind: "redshift", Place: place, Sink: loadedSink{h}, Layout: p.FileExtension,
			GiveUp: giveUpAfter >= 0, GiveUpAfter: giveUpAfter,
			Skipped: func(part sinks.Part, stream string, oldest time.Time, id string) (string, []byte) {
				return fmt.Sprintf("manifests/%s-%s-%s", stream, oldest.UTC().Format("2006"), id), []byte(part.Key + "\n")
			},
			Rows: func(r io.ReaderAt, size int64) (int64, error) {
				b, err := io.ReadAll(io.NewSectionReader(r, 0, size))
				return int64(bytes.Count(b, []byte("\n"))), err
			},
		}
	}
	return h
}

// atWarehouse runs a test with a stream s that is loaded into a database, on the model and the buffer.
func atWarehouse(t *testing.T, giveUpAfter time.Duration, f func(t *testing.T, w *world, h *warehouse)) {
	t.Helper()
	for _, b := range backends[:2] {
		t.Run(b.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, b)
				h := w.warehouse(giveUpAfter)
				w.start()
				w.apply(map[string]spec{"s": {Interval: time.Second}})
				w.run()
				defer w.close()
				f(t, w, h)
			})
		})
	}
}
