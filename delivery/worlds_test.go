package delivery

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"hydrant/buffer"
	"hydrant/buffer/forgetfs"
)

// backend is something to run delivery on: the model, and the real buffer on a disk that forgets.
type backend struct {
	name string
	// open makes an empty one. crash kills it and opens what is left with this luck; close ends it in
	// order and reopen opens it again.
	open func(t testing.TB) backing
}

type backing interface {
	store() store
	durable() func(id [16]byte) bool // nil where that cannot be asked
	crash(r *rand.Rand)
	restart()
	close()
}

type modelBacking struct{ s *modelStore }

func (b *modelBacking) store() store { return b.s }
func (b *modelBacking) durable() func([16]byte) bool {
	return func(id [16]byte) bool { return b.s.disk.durable(id) }
}
func (b *modelBacking) crash(r *rand.Rand) { b.s = b.s.crash(r) }
func (b *modelBacking) restart()           { b.s = b.s.crash(rand.New(rand.NewPCG(1, 1))) }
func (b *modelBacking) close()             {}

var backends = []backend{
	{name: "model", open: func(t testing.TB) backing { return &modelBacking{s: newModelDisk(t).open()} }},
	{name: "buffer", open: func(t testing.TB) backing { b := &bufferBacking{t: t, fs: forgetfs.New()}; b.openBuffer(); return b }},
	{name: "files", open: func(t testing.TB) backing { b := &bufferBacking{t: t, dir: t.TempDir()}; b.openBuffer(); return b }},
}

// bufferBacking is the real buffer, on a disk in memory or on the real one, which cannot lose power.
type bufferBacking struct {
	t   testing.TB
	fs  *forgetfs.FS // nil: the operating system's, in dir
	dir string
	b   *buffer.Buffer
}

func (b *bufferBacking) openBuffer() {
	b.t.Helper()
	o := buffer.Options{Dir: b.dir, Disk: buffer.MinDisk}
	if b.fs != nil {
		o.Dir, o.FS = "data", b.fs
	}
	var err error
	if b.b, err = buffer.Open(o); err != nil {
		b.t.Fatalf("open the buffer: %v", err)
	}
}

func (b *bufferBacking) store() store                 { return bufferStore{b.b} }
func (b *bufferBacking) durable() func([16]byte) bool { return nil }

func (b *bufferBacking) crash(r *rand.Rand) {
	b.fs.Kill()
	_ = b.b.Close() // what is left of the process; the disk takes nothing from it
	b.fs = b.fs.Crash(r.Uint64())
	b.openBuffer()
}

func (b *bufferBacking) restart() {
	if err := b.b.Close(); err != nil {
		b.t.Errorf("close the buffer: %v", err)
	}
	b.openBuffer()
}

func (b *bufferBacking) close() {
	if err := b.b.Close(); err != nil {
		b.t.Errorf("close the buffer: %v", err)
	}
}

// inWorld runs a test on every backend, on a clock that stands still while anybody works.
func inWorld(t *testing.T, streams map[string]spec, f func(t *testing.T, w *world)) {
	t.Helper()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			if b.name == "files" && testing.Short() {
				t.Skip("the real disk takes its time")
			}
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, b)
				for _, c := range streams {
					if w.shops[c.Shop] == nil {
						w.shops[c.Shop] = w.newShop()
					}
				}
				w.start()
				w.apply(streams)
				w.run()
				defer w.close()
				f(t, w)
			})
		})
	}
}

func newWorld(t testing.TB, b backend) *world {
	w := &world{t: t, backing: b.open(t), shops: map[string]*shop{}}
	w.store = w.backing.store()
	w.shops[""] = w.newShop()
	return w
}

func (w *world) newShop() *shop {
	s := newShop(w.t)
	s.durable = func(id [16]byte) bool {
		if f := w.backing.durable(); f != nil {
			return f(id)
		}
		return true
	}
	return s
}

// stop ends the process in order.
func (w *world) stop() {
	if w.end != nil {
		w.end()
		w.end = nil
	}
}

func (w *world) close() {
	w.stop()
	w.backing.close()
}

// restart ends the process and starts another one, without changing the streams.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.backing.restart()
	w.store = w.backing.store()
	w.start()
	w.run()
}

// model is the store of the model, or nil.
func (w *world) model() *modelStore {
	s, _ := w.store.(*modelStore)
	return s
}
