package main

import (
	"net/http"
	"strings"

	"hydrant/sources/plainhttp"
)

// withPlain serves the plain API beside the Firehose API. What is on neither path is answered by the latter.
func (d *daemon) withPlain(firehose http.Handler) (http.Handler, error) {
	plain, err := plainhttp.New(plainhttp.Options{
		Appender: d.manager,
		Known:    func(name string) bool { _, known := d.manager.Definition(name); return known },
		Admitter: d.bodies,
		Limits:   &d.limits,
		Access:   d.apiGuard,
		Metrics:  d.puts,
		Buffers:  d.buffers,
		Log:      d.log.With("component", "api"),
	})
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, plainhttp.Prefix) {
			plain.ServeHTTP(w, r)
			return
		}
		firehose.ServeHTTP(w, r)
	}), nil
}
