package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"hydrant/access"
	"hydrant/config"
	"hydrant/sources/directput"
)

// openAccess makes the guards of both listeners, which follow the configuration.
func (d *daemon) openAccess() (err error) {
	log := d.log.With("component", "access")
	d.audit = access.Audit{Log: d.log.With("component", "audit")}
	rejected := access.NewRejections(log)
	guard := func(c access.Credentials) *access.Guard {
		g, e := access.New(access.Options{Credentials: c, Identity: d.identity, Rejected: rejected, Log: log})
		err = errors.Join(err, e)
		return g
	}
	d.apiGuard, d.adminGuard = guard(apiCredentials(d.c)), guard(adminCredentials(d.c))
	if err != nil {
		return err
	}
	d.renewals = append(d.renewals, func(next *config.Config) (func(), error) {
		api, err1 := d.apiGuard.Prepare(apiCredentials(next))
		admin, err2 := d.adminGuard.Prepare(adminCredentials(next))
		return func() { api(); admin() }, errors.Join(err1, err2)
	})
	return d.register(d.apiGuard.Collectors())
}

// apiCredentials are those of the API. Nobody is asked where the file says so, and on a listener that only this
// machine can reach where it says nothing.
func apiCredentials(c *config.Config) access.Credentials {
	a := c.API.Auth
	if a == nil || a.Word != "" {
		return access.Credentials{Open: true}
	}
	var out access.Credentials
	for _, k := range a.AccessKeys {
		key := access.AccessKey{ID: k.ID, Secret: k.Secret.Value, Expires: config.Expiry(k.Expires), Grant: grant(k.Streams, k.Allow)}
		if k.SessionToken.IsSet() {
			key.SessionToken = k.SessionToken.Value
		}
		out.AccessKeys = append(out.AccessKeys, key)
	}
	for _, t := range a.Tokens {
		out.Tokens = append(out.Tokens, access.Token{Name: t.Name, Value: t.Token.Value, Expires: config.Expiry(t.Expires), Grant: grant(t.Streams, t.Allow)})
	}
	return out
}

func adminCredentials(c *config.Config) access.Credentials {
	a := c.Admin.Auth
	if a == nil || a.Word != "" {
		return access.Credentials{Open: true}
	}
	var out access.Credentials
	for _, t := range a.Tokens {
		out.Tokens = append(out.Tokens, access.Token{Name: t.Name, Value: t.Token.Value, Expires: config.Expiry(t.Expires), Grant: grant([]string{"*"}, t.Allow)})
	}
	return out
}

func grant(streams, allow []string) access.Grant {
	g := access.Grant{Streams: streams}
	for _, a := range allow {
		g.Actions = append(g.Actions, access.Action(a))
	}
	return g
}

// apiTLS reads the certificates of the API, or returns nil where it speaks plain HTTP.
func (d *daemon) apiTLS() (*access.TLS, error) {
	t := d.c.API.TLS
	if t.CertFile == "" && !t.Auto {
		return nil, nil
	}
	o := access.TLSOptions{CertFile: t.CertFile, KeyFile: t.KeyFile, ClientCAFile: t.ClientCAFile, Log: d.log.With("component", "access")}
	if t.Auto {
		o.AutoDir = filepath.Join(d.c.DataDir, "tls")
	}
	out, err := access.NewTLS(o)
	if err != nil {
		return nil, fmt.Errorf("api.tls: %w", err)
	}
	d.log.Info("the API speaks TLS", "certificate", out.CertFile(), "sha256", out.Fingerprint(), "clients_need_certificates", t.ClientCAFile != "")
	return out, nil
}

// listening is what a server listens with.
type listening struct {
	name      string // of the part: api or admin
	addresses config.Listen
	guard     *access.Guard
	tls       *access.TLS // of host:port addresses; nil: plain HTTP
	most      int         // connections of all addresses
	timeouts
}

// serve listens and serves. On error nothing is left open.
func (d *daemon) serve(o listening, h http.Handler) (_ *server, err error) {
	s := &server{http: &http.Server{
		Handler: h, ReadHeaderTimeout: o.header, ReadTimeout: o.read, WriteTimeout: o.write, IdleTimeout: o.idle, MaxHeaderBytes: directput.MaxHeaderBytes,
		ErrorLog: slog.NewLogLogger(d.log.With("component", o.name).Handler(), slog.LevelDebug), // what clients do wrong
	}}
	if o.tls != nil {
		s.http.TLSConfig = o.tls.Config()
	}
	defer func() {
		if err != nil {
			for _, l := range s.listeners {
				l.Close()
			}
		}
	}()
	parsed := make([]access.Address, len(o.addresses))
	for i, text := range o.addresses {
		if parsed[i], err = access.ParseAddress(text); err != nil {
			return nil, fmt.Errorf("%s.listen: %q: %w", o.name, text, err)
		}
		l, err := access.Listen(context.Background(), parsed[i], parsed[i].Local())
		if err != nil {
			return nil, fmt.Errorf("%s.listen: %w", o.name, err)
		}
		s.listeners = append(s.listeners, l)
		d.warnOfExposure(o, parsed[i], l)
	}
	s.http.BaseContext = func(l net.Listener) context.Context {
		if t, ok := l.Addr().(*net.TCPAddr); ok && t.IP.IsLoopback() {
			return access.LoopbackOnly(context.Background())
		}
		return context.Background()
	}
	s.bound = access.NewConnections(o.name, o.most, d.log.With("component", o.name))
	s.http.ConnState = s.bound.Follow
	if err := d.register([]prometheus.Collector{s.bound}); err != nil {
		return nil, err
	}
	for i, l := range s.listeners {
		bound := s.bound.Listen(l)
		serve := func() error { return s.http.Serve(bound) }
		if o.tls != nil && parsed[i].Socket == "" {
			serve = func() error { return s.http.ServeTLS(bound, "", "") }
		}
		s.serving.Go(func() {
			if err := serve(); !errors.Is(err, http.ErrServerClosed) {
				d.failed <- fmt.Errorf("%s listener %s: %w", o.name, l.Addr(), err)
			}
		})
	}
	return s, nil
}

// warnOfExposure says what others can do with a listener that they can reach.
func (d *daemon) warnOfExposure(o listening, a access.Address, l net.Listener) {
	if a.Local() {
		return
	}
	switch {
	case o.guard.Open():
		d.log.Warn("everybody who can reach this listener may use it, as auth: none says", "listener", o.name, "address", l.Addr().String())
	case o.tls == nil:
		d.log.Warn("other machines reach this listener without TLS: records and bearer tokens can be read on the way, signatures cannot be forged", "listener", o.name, "address", l.Addr().String())
	}
}
