package delivery

import (
	"cmp"
	"time"

	"hydrant/partition"
	"hydrant/record"
	"hydrant/transform"
)

// Scheme says which partition a row belongs to. It is safe for concurrent use. Partitioned makes one.
type Scheme interface {
	NewRouter(from partition.Mark) Router
	// Watermark and Resume are those of partition.Scheme.
	Watermark(m partition.Mark, now int64) (at int64, ok bool)
	Resume(watermark, now int64) partition.Mark
}

// Router is a *partition.Router. One goroutine at a time uses it.
type Router interface {
	Route(row record.Row, keys map[string]string) (partition.Placed, *transform.Failure)
	Mark() partition.Mark
	Rewind(partition.Mark)
}

// Partitioned makes a scheme one that delivery works with.
func Partitioned(s *partition.Scheme) Scheme { return scheme{s} }

type scheme struct{ *partition.Scheme }

func (s scheme) NewRouter(from partition.Mark) Router { return s.Scheme.NewRouter(from) }

const (
	// activePartitionExceeded holds rows that would have opened a partition above MaxActive; the words are Firehose's.
	activePartitionExceeded = "activePartitionExceeded"
	codeActivePartitions    = "DynamicPartitioning.ActivePartitionsLimitExceeded"
	messageActivePartitions = "The number of active partitions has exceeded the configured limit"
)

// watermark after the rows of a job, as a RUN or a MANIFEST has it; 0: none.
func (j *job) watermark() int64 {
	at, ok := j.pipe.Scheme.Watermark(j.reached, j.reached.Seen)
	if !ok {
		return 0
	}
	return cmp.Or(at, 1) // 1970 by a microsecond, as 0 is none
}

// guide is how a loop remembers where rows go: one router for all jobs of a version, as only one of them routes at a time.
type guide struct {
	of     *version
	router Router
	mark   partition.Mark // after the rows that have a frame
}

// routerOf is the router of a version, nil where it has no scheme. One that is new goes on from what the last frame says.
func (l *loop) routerOf(ver *version) Router {
	p := &l.guide
	if p.of != ver {
		*p = guide{of: ver}
		if s := ver.pipe.Scheme; s != nil {
			if w := l.s.consumer.Watermark(); w != 0 && !sabotageForgetMark {
				p.mark = s.Resume(w, time.Now().UnixMicro())
			}
			p.router = s.NewRouter(p.mark)
		}
	}
	return p.router
}

// CheckPrefix tells why no data object of a stream can lie under an evaluated prefix, or nil.
func (p *Pipeline) CheckPrefix(stream, prefix string) error {
	const version = 1_000_000 // of as many digits as there will ever be
	_, err := p.named(p.Destination.Sink, prefix, stream, version, time.Unix(0, 0), p.extension())
	return err
}
