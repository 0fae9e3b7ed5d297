package access

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reserve is the part of the places that no address gets alone: one of so many.
const reserve = 8

// Connections bounds how many connections the listeners of one part have at a time, and counts them: a caller who holds
// what he does not use costs memory and file descriptors up to here and no further, and another part's listeners
// nothing.
//
// Nor does he keep others out. One address has at most seven eighths of the places, and where there is none left, a
// connection on which no request is under way is closed for the newcomer: of the addresses that have more connections
// than his, the one that has the most, and there the one that has waited longest. Only where there is none either is
// the newcomer himself closed at once, which clients take for a reason to try again.
//
// It is a collector of its metrics and safe for concurrent use.
type Connections struct {
	most, share int // connections of all, and of one address
	log         *slog.Logger
	began       time.Time // what counted.since counts from

	gauge            prometheus.GaugeFunc
	limit            prometheus.Gauge
	refused, evicted prometheus.Counter

	mu      sync.Mutex // guards what follows
	open    map[*counted]struct{}
	held    map[netip.Addr]int // connections by address
	said    time.Time          // when the log was last told
	skipped int                // refused since then
}

// NewConnections returns a bound of most connections for the listeners of a part; at least one.
func NewConnections(part string, most int, log *slog.Logger) *Connections {
	most = max(most, 1)
	c := &Connections{most: most, share: most - most/reserve, log: log, began: time.Now(), open: map[*counted]struct{}{}, held: map[netip.Addr]int{}}
	labels := prometheus.Labels{"listener": part}
	c.gauge = prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hydrant_connections", Help: "Open connections of clients.", ConstLabels: labels},
		func() float64 {
			c.mu.Lock()
			defer c.mu.Unlock()
			return float64(len(c.open))
		})
	c.limit = prometheus.NewGauge(prometheus.GaugeOpts{Name: "hydrant_connections_limit", Help: "Connections of clients that may be open at a time.", ConstLabels: labels})
	c.limit.Set(float64(most))
	c.refused = prometheus.NewCounter(prometheus.CounterOpts{Name: "hydrant_connections_refused_total", Help: "Connections that were closed at once, because as many as may be were open.", ConstLabels: labels})
	c.evicted = prometheus.NewCounter(prometheus.CounterOpts{Name: "hydrant_connections_evicted_total", Help: "Connections without a request that were closed to make room for another.", ConstLabels: labels})
	return c
}

// Describe implements prometheus.Collector.
func (c *Connections) Describe(ch chan<- *prometheus.Desc) {
	c.gauge.Describe(ch)
	c.limit.Describe(ch)
	c.refused.Describe(ch)
	c.evicted.Describe(ch)
}

// Collect implements prometheus.Collector.
func (c *Connections) Collect(ch chan<- prometheus.Metric) {
	c.gauge.Collect(ch)
	c.limit.Collect(ch)
	c.refused.Collect(ch)
	c.evicted.Collect(ch)
}

// Listen is l with the bound, which it shares with others of the same Connections.
func (c *Connections) Listen(l net.Listener) net.Listener { return &bounded{l, c} }

// Follow is for the ConnState of the http.Server that serves the listeners: it tells which connections have a request
// under way. Without it all have, for all that is known.
func (c *Connections) Follow(conn net.Conn, state http.ConnState) {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok { // of TLS
		conn = t.NetConn()
	}
	counted, ok := conn.(*counted)
	if !ok {
		return
	}
	next := busy
	if state == http.StateNew || state == http.StateIdle {
		next = time.Since(c.began).Nanoseconds()
	}
	// One that is being closed for another stays that.
	if was := counted.since.Load(); was != leaving {
		counted.since.CompareAndSwap(was, next)
	}
}

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
		if counted := b.c.admit(conn); counted != nil {
			return counted, nil
		}
		b.c.refuse(conn.RemoteAddr().String())
		conn.Close()
	}
}

// admit gives a connection a place, which may be another's; nil where there is none.
func (c *Connections) admit(conn net.Conn) *counted {
	in := &counted{Conn: conn, c: c, from: addressOf(conn.RemoteAddr())}
	in.since.Store(busy)
	c.mu.Lock()
	defer c.mu.Unlock()
	if alone := c.held[in.from] >= c.share; alone || len(c.open) >= c.most {
		out := c.evictable(in.from, alone)
		if out == nil {
			return nil
		}
		c.remove(out)
		c.evicted.Inc()
		out.Conn.Close() // closing never waits for the other side
	}
	c.open[in] = struct{}{}
	c.held[in.from]++
	return in
}

// evictable finds the connection that a newcomer from an address takes the place of, and makes sure that no request
// begins on it; nil where there is none. own: only one from the same address will do. The caller holds mu.
func (c *Connections) evictable(from netip.Addr, own bool) *counted {
	for {
		var best *counted
		var since int64 // of best
		for one := range c.open {
			at := one.since.Load()
			if at < 0 || one.from != from && (own || c.held[one.from] <= c.held[from]) {
				continue
			}
			if n := c.held[one.from]; best == nil || n > c.held[best.from] || n == c.held[best.from] && at < since {
				best, since = one, at
			}
		}
		if best == nil || best.since.CompareAndSwap(since, leaving) {
			return best
		}
	}
}

// remove takes back a place that was not taken back before. The caller holds mu.
func (c *Connections) remove(one *counted) {
	if _, open := c.open[one]; !open {
		return
	}
	delete(c.open, one)
	if c.held[one.from]--; c.held[one.from] == 0 {
		delete(c.held, one.from)
	}
}

// addressOf is what counts as one address: that of IPv4, the network of 64 bits of IPv6, which one host may have all of,
// and the zero Addr for all that come over a socket of this machine.
func addressOf(a net.Addr) netip.Addr {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return network(t.AddrPort().Addr())
}

func network(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// Network is what counts as one address where callers share something, of the RemoteAddr of a request.
func Network(remote string) netip.Addr {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{} // a socket
	}
	return network(a.Addr())
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
		"limit_of_one_address", c.share, "remote", remote, "more_since_last_line", skipped)
}

// counted is a connection that gives its place back when it is closed.
type counted struct {
	net.Conn
	c     *Connections
	from  netip.Addr
	since atomic.Int64 // when the last request on it ended, in ns from Connections.began, or busy, or leaving
}

// Values of counted.since that are no times.
const (
	busy    int64 = -1 // a request is under way
	leaving int64 = -2 // it is being closed to make room
)

func (c *counted) Close() error {
	c.c.mu.Lock()
	c.c.remove(c)
	c.c.mu.Unlock()
	return c.Conn.Close()
}
