package access

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Connections bounds how many connections the listeners of one part have at a time, and counts them. What comes
// above that is closed at once, which clients take for a reason to try again: a caller who holds what he does not use
// costs memory and file descriptors up to here and no further, and another part's listeners nothing. It is a collector
// of its metrics and safe for concurrent use.
type Connections struct {
	most int64
	log  *slog.Logger
	open atomic.Int64

	gauge   prometheus.GaugeFunc
	limit   prometheus.Gauge
	refused prometheus.Counter

	mu      sync.Mutex // guards what follows
	said    time.Time  // when the log was last told
	skipped int        // refused since then
}

// NewConnections returns a bound of most connections for the listeners of a part; at least one.
func NewConnections(part string, most int, log *slog.Logger) *Connections {
	c := &Connections{most: int64(max(most, 1)), log: log}
	labels := prometheus.Labels{"listener": part}
	c.gauge = prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hydrant_connections", Help: "Open connections of clients.", ConstLabels: labels},
		func() float64 { return float64(c.open.Load()) })
	c.limit = prometheus.NewGauge(prometheus.GaugeOpts{Name: "hydrant_connections_limit", Help: "Connections of clients that may be open at a time.", ConstLabels: labels})
	c.limit.Set(float64(c.most))
	c.refused = prometheus.NewCounter(prometheus.CounterOpts{Name: "hydrant_connections_refused_total", Help: "Connections that were closed at once, because as many as may be were open.", ConstLabels: labels})
	return c
}

// Describe implements prometheus.Collector.
func (c *Connections) Describe(ch chan<- *prometheus.Desc) {
	c.gauge.Describe(ch)
	c.limit.Describe(ch)
	c.refused.Describe(ch)
}

// Collect implements prometheus.Collector.
func (c *Connections) Collect(ch chan<- prometheus.Metric) {
	c.gauge.Collect(ch)
	c.limit.Collect(ch)
	c.refused.Collect(ch)
}

// Listen is l with the bound, which it shares with others of the same Connections.
func (c *Connections) Listen(l net.Listener) net.Listener { return &bounded{l, c} }

type bounded struct {
	net.Listener
	c *Connections
}

// Accept returns the next connection that there is room for. It never waits for room: what waits in the system's queue
// would look like a daemon that hangs.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if b.c.open.Add(1) <= b.c.most {
			return &counted{Conn: conn, c: b.c}, nil
		}
		b.c.open.Add(-1)
		b.c.refuse(conn.RemoteAddr().String())
		conn.Close()
	}
}

// refuse counts, and tells the log at most once a minute.
func (c *Connections) refuse(remote string) {
	c.refused.Inc()
	now := time.Now()
	c.mu.Lock()
	if !c.said.IsZero() && now.Sub(c.said) < rejectionPause {
		c.skipped++
		c.mu.Unlock()
		return
	}
	skipped := c.skipped
	c.said, c.skipped = now, 0
	c.mu.Unlock()
	c.log.Warn("a connection was closed, because as many as may be are open; limits.memory and the limit of open files allow more", "limit", c.most,
		"remote", remote, "more_since_last_line", skipped)
}

// counted is a connection that gives its place back when it is closed.
type counted struct {
	net.Conn
	c      *Connections
	closed atomic.Bool
}

func (c *counted) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.c.open.Add(-1)
	}
	return c.Conn.Close()
}
