package delivery

import (
	"context"
	"io"
	"runtime"
	"slices"
	"sync"

	"hydrant/format"
)

// niceness of encode workers. Puts wait for the commit of the journal, not for CPU: with encoders a few
// steps below, a put's tail latency stays near that of an idle machine and no encoding time is lost.
const niceness = 10

// keptEncoders is how many encoders a worker keeps for the next object. One may hold some MiB.
const keptEncoders = 8

// workers encode for all streams. Whoever has a claim to encode waits for one in the order of asking.
type workers struct {
	n    int
	jobs chan *errand
}

// errand is something to do on a worker.
type errand struct {
	f    func(*worker)
	done chan struct{}
}

// worker is an OS thread that encodes. Not safe for concurrent use.
type worker struct {
	kept []keptEncoder // most recently used last
	line []byte        // buffer for error lines
}

type keptEncoder struct {
	pipe *Pipeline
	enc  format.Encoder
}

func newWorkers(n int) *workers { return &workers{n: n, jobs: make(chan *errand)} }

// run works until ctx ends and what it has begun is done.
func (ws *workers) run(ctx context.Context) {
	var wg sync.WaitGroup
	for range ws.n {
		wg.Go(func() {
			// Never unlocked: the thread ends with the goroutine, as its lower priority cannot be taken
			// back without privileges.
			runtime.LockOSThread()
			lowerPriority(niceness)
			w := &worker{}
			for {
				select {
				case e := <-ws.jobs:
					e.f(w)
					close(e.done)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	wg.Wait()
}

// do runs f on a worker and returns when it is done. It returns false, without having run f, when ctx ends
// first.
func (ws *workers) do(ctx context.Context, f func(*worker)) bool {
	e := &errand{f: f, done: make(chan struct{})}
	select {
	case ws.jobs <- e:
		<-e.done
		return true
	case <-ctx.Done():
		return false
	}
}

// encoder returns this worker's encoder for a pipeline.
func (w *worker) encoder(p *Pipeline) format.Encoder {
	for i, k := range w.kept {
		if k.pipe == p {
			w.kept = append(slices.Delete(w.kept, i, i+1), k)
			return k.enc
		}
	}
	if len(w.kept) == keptEncoders {
		w.kept = slices.Delete(w.kept, 0, 1)
	}
	enc := p.Format.NewEncoder()
	enc.Reset(io.Discard)
	w.kept = append(w.kept, keptEncoder{pipe: p, enc: enc})
	return enc
}

// forget drops the encoder for a pipeline.
func (w *worker) forget(p *Pipeline) {
	w.kept = slices.DeleteFunc(w.kept, func(k keptEncoder) bool { return k.pipe == p })
}
