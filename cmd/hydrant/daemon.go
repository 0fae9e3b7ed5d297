package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"hydrant/access"
	"hydrant/admin"
	"hydrant/buffer"
	"hydrant/config"
	"hydrant/controlplane"
	"hydrant/delivery"
	"hydrant/record"
	"hydrant/sources"
	"hydrant/sources/directput"
	"hydrant/sources/throttle"
)

// daemon is the running parts. start brings them up in order, stop ends them in reverse; between the two
// only wait is called.
type daemon struct {
	c    *config.Config                // as it was at the start
	file *config.File                  // that c came from, for the places of faults
	now  atomic.Pointer[config.Config] // as it is by now, which agrees with c in what takes a restart to change
	log  *slog.Logger

	renewals  []renewal // of the parts; complete when start has returned
	reloads   *reloads
	endReload context.CancelFunc
	reloading sync.WaitGroup

	metrics  *prometheus.Registry
	notReady atomic.Pointer[string] // why /readyz says no; "" when ready
	streams  atomic.Pointer[steering]

	buffers *record.Pool // of calls, on their way from the API through the buffer and back
	buffer  *buffer.Buffer
	manager *delivery.Manager
	plane   *controlplane.Plane
	limits  throttle.Streams // rates of streams
	puts    *sources.Metrics // of all ways in
	bodies  *sources.Shares  // of all ways in
	api     *server
	admin   *server

	apiGuard, adminGuard *access.Guard
	audit                access.Audit

	endDelivery context.CancelFunc
	failed      chan error // first error of a part that should have gone on
	parts       sync.WaitGroup
}

func newDaemon(c *config.Config, log *slog.Logger) *daemon {
	d := &daemon{c: c, file: &config.File{Config: c}, log: log, metrics: prometheus.NewRegistry(), buffers: new(record.Pool), failed: make(chan error, 8), reloads: newReloads()}
	d.now.Store(c)
	d.metrics.MustRegister(d.reloads.collectors()...)
	d.setNotReady("recovering the data directory")
	b := buildInfo()
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "hydrant_build_info", Help: "1, with the version of the binary.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "goversion": b.Go}})
	info.Set(1)
	d.metrics.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return d
}

func (d *daemon) setNotReady(why string) { d.notReady.Store(&why) }

// start returns when puts are accepted. It waits for no destination. On error everything that had been
// started is stopped.
func (d *daemon) start() (err error) {
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if err := d.openAccess(); err != nil {
		return err
	}
	handler, err := admin.New(admin.Options{
		Access:   d.adminGuard,
		Audit:    d.audit,
		Streams:  d.steering,
		NotReady: func() string { return *d.notReady.Load() },
		Metrics:  d.metrics,
		Version:  buildInfo().Version,
		Log:      d.log.With("component", "admin"),
	})
	if err != nil {
		return err
	}
	if d.admin, err = d.serve(listening{"admin", d.c.Admin.Listen, d.adminGuard, nil, adminConnections, adminTimeouts}, handler); err != nil {
		return err
	}
	if err := d.openBuffer(); err != nil {
		return err
	}
	if err := d.openDelivery(); err != nil {
		return err
	}
	api, err := d.apiHandler()
	if err != nil {
		return err
	}
	certificates, err := d.apiTLS()
	if err != nil {
		return err
	}
	if d.api, err = d.serve(listening{"api", d.c.API.Listen, d.apiGuard, certificates, apiConnections(int64(d.c.Limits.Memory), openFiles()), apiTimeouts}, api); err != nil {
		return err
	}
	d.deliver()
	d.streams.Store(&steering{d.manager})
	d.setNotReady("")
	d.log.Info("ready", "api", d.api.addresses(), "admin", d.admin.addresses(), "streams", len(d.c.Streams))
	return nil
}

func (d *daemon) openBuffer() error {
	started := time.Now()
	policy := buffer.Quarantine
	if d.c.OnDamage == "stop" {
		policy = buffer.Stop
	}
	key, previous, err := readKeys(d.c.Encryption, d.log)
	if err != nil {
		return err
	}
	b, err := buffer.Open(buffer.Options{
		Dir:      d.c.DataDir,
		Log:      d.log.With("component", "buffer"),
		Disk:     int64(d.c.Limits.Disk),
		Memory:   int64(d.c.Limits.Memory),
		OnDamage: policy,
		Buffers:  d.buffers,

		Key:          key,
		PreviousKeys: previous,
	})
	if err != nil {
		return err // it names the directory
	}
	d.buffer = b
	if key != nil {
		d.log.Info("new files of the data directory are encrypted", "key", key)
	}
	d.log.Info("data directory opened", "dir", d.c.DataDir, "took", time.Since(started).Round(time.Millisecond))
	return d.register(b.Collectors())
}

func (d *daemon) openDelivery() error {
	workers := encodeWorkers(int64(d.c.Limits.Memory))
	p := newParts(d.c, d.log)
	p.secrets = d.buffer.Secrets()
	p.directory = d.buffer.Directory()
	var m *delivery.Manager
	p.reading = sources.NewReading(func() (names []string) {
		for _, s := range m.Definitions() {
			names = append(names, s.Name)
		}
		return names
	})
	m, err := delivery.New(delivery.Options{
		Buffer:     d.buffer,
		Open:       p.open,
		OpenBackup: p.openBackup,
		Declares:   func(s buffer.Stream) bool { return !controlplane.Owns(s) },
		Directory:  exit(d.log),
		Workers:    workers,
		Memory:     int64(d.c.Limits.Memory),
		Log:        d.log.With("component", "delivery"),
	})
	if err != nil {
		return fmt.Errorf("start delivery: %w", err)
	}
	d.manager = m
	if err := d.register(append(m.Collectors(), p.reading)); err != nil {
		return err
	}
	d.applyLimits(d.c)
	if err := d.lookUp(context.Background(), d.file); err != nil {
		return err
	}
	if err := d.applyStreams(d.c); err != nil {
		return err
	}
	d.renewals = append(d.renewals, func(next *config.Config) (func(), error) {
		return func() { d.applyLimits(next) }, nil
	}, func(next *config.Config) (func(), error) {
		return func() {
			p.renew(next, func(stream string) bool { _, there := m.Definition(stream); return there })
		}, nil
	})
	return d.openPlane(p)
}

func (d *daemon) register(cs []prometheus.Collector) error {
	for _, c := range cs {
		if err := d.metrics.Register(c); err != nil {
			return fmt.Errorf("register a metric: %w", err)
		}
	}
	return nil
}

// deliver runs the delivery manager until close.
func (d *daemon) deliver() {
	ctx, cancel := context.WithCancel(context.Background())
	d.endDelivery = cancel
	d.parts.Go(func() {
		if err := d.manager.Run(ctx); err != nil && ctx.Err() == nil {
			d.failed <- fmt.Errorf("delivery: %w", err)
		}
	})
}

// wait returns when ctx ends, with nil, or when a part has failed, with its error.
func (d *daemon) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		d.log.Info("stopping", "why", context.Cause(ctx))
		return nil
	case err := <-d.failed:
		d.log.Error("stopping, because a part has failed", "err", err)
		return err
	}
}

// requestsEnd bounds how long open requests may take to end at a stop.
const requestsEnd = 20 * time.Second

// stop ends the daemon: no new requests, the open ones end, delivery goes on for stop.drain, and what is left
// stays on disk. It fails where a drain that was asked for left something.
func (d *daemon) stop() error {
	d.setNotReady("stopping")
	d.stopReloading(reloadEnds)
	d.api.shutdown(requestsEnd)
	if d.manager != nil {
		// While what they brought can still be delivered, so that who reads next does not read it again.
		d.manager.StopReading()
	}
	err := d.drain(context.Background(), time.Duration(d.now.Load().Stop.Drain))
	return errors.Join(err, d.close())
}

// drain delivers all that waits, for at most this long.
func (d *daemon) drain(ctx context.Context, limit time.Duration) error {
	if limit <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	remaining, err := d.manager.Drain(ctx)
	if err == nil {
		return nil
	}
	return fmt.Errorf("%d records (%s)%s are not delivered and stay in %s%s: %w", remaining.Records, size(remaining.Bytes), ofBackups(remaining.BackupRecords, remaining.BackupBytes), d.c.DataDir, prefixed("; last error: ", remaining.Error), err)
}

// close ends whatever runs, in reverse order. Safe at any stage of start.
func (d *daemon) close() (err error) {
	d.setNotReady("stopping")
	d.stopReloading(reloadEnds)
	d.api.shutdown(requestsEnd)
	if d.endDelivery != nil {
		d.endDelivery()
	}
	d.parts.Wait()
	d.streams.Store(nil)
	if d.buffer != nil {
		if e := d.buffer.Close(); e != nil {
			err = fmt.Errorf("close data_dir %s: %w", d.c.DataDir, e)
		}
		d.buffer = nil
	}
	d.reloading.Wait()
	d.admin.shutdown(time.Second)
	return err
}

// timeouts of an HTTP server: a client that is slow, or silent, holds nothing for longer.
type timeouts struct{ header, read, write, idle time.Duration }

var (
	// The API handler itself bounds the time of a body; the answer may wait for the journal.
	apiTimeouts   = timeouts{header: directput.ReadHeaderTimeout, write: 3 * time.Minute, idle: directput.IdleTimeout}
	adminTimeouts = timeouts{header: 10 * time.Second, read: 30 * time.Second, write: 30 * time.Second, idle: 2 * time.Minute}
)

// server is an HTTP server on one or more addresses.
type server struct {
	http      *http.Server
	listeners []net.Listener
	bound     *access.Connections
	serving   sync.WaitGroup
}

// addresses that the server listens on.
func (s *server) addresses() []string {
	out := make([]string, len(s.listeners))
	for i, l := range s.listeners {
		out[i] = l.Addr().String()
	}
	return out
}

// shutdown refuses new requests and waits for the open ones, which are cut off after limit. Safe on a
// server that never was or that was shut down before.
func (s *server) shutdown(limit time.Duration) {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	s.serving.Wait()
}
