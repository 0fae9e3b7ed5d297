package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/controlplane"
	"hydrant/delivery"
)

// source is the file that a configuration came from, so that it can be read again.
type source struct {
	file string
	env  func(string) (string, bool)
	seen digest // of what the daemon was started with, or last tried
}

// digest tells one text of a file from another, and one reason why there is none from another.
type digest [sha256.Size]byte

// read returns the text of the file and its digest. A file that cannot be read has one too.
func (s *source) read() (text []byte, d digest, err error) {
	text, err = os.ReadFile(s.file)
	if err != nil {
		return nil, sha256.Sum256([]byte(err.Error())), fmt.Errorf("read configuration: %w", err)
	}
	return text, sha256.Sum256(append([]byte("text\n"), text...)), nil
}

// parse decodes and checks a text as the file's.
func (s *source) parse(text []byte) (*config.File, error) {
	f, err := config.Decode(s.file, text, s.env)
	return checked(f, err)
}

const (
	// watchEvery is how often a file that is watched is read. What is found has to be found again the next time,
	// so that a file is not taken while somebody is writing it.
	watchEvery = time.Second
	// applyAgain is the wait before a configuration that could not be applied whole is applied again.
	applyAgain = 5 * time.Second
)

// renewal is how a part follows the configuration. It looks at next without changing anything, and returns what
// brings the part over, which cannot fail, or why the part cannot have it.
type renewal func(next *config.Config) (adopt func(), err error)

// reloader brings a running daemon's configuration up to the file's: when it is told to, and when the file has
// changed where that is watched. One goroutine uses it.
type reloader struct {
	d      *daemon
	source source

	found   digest   // what the file was at the last look, if it is new
	refused bool     // the file that was read last is not what is in force
	pending *pending // nil where nothing is
}

// pending is a configuration that all parts have taken, and whose streams are to come.
type pending struct {
	next    *config.Config
	changes comparison
	ignored []string  // keys that take a restart
	again   time.Time // when its streams are tried again
}

// followFile reloads the daemon's configuration until stopReloading.
func (d *daemon) followFile(src source, signals <-chan os.Signal) {
	ctx, cancel := context.WithCancel(context.Background())
	d.endReload = cancel
	r := &reloader{d: d, source: src}
	d.reloading.Go(func() { r.run(ctx, signals) })
}

// reloadEnds bounds how long a stop waits for a reload. One that waits for the journal ends when that is closed.
const reloadEnds = 5 * time.Second

// stopReloading lets no reload begin any more, and waits for one that is at work. Safe at any time.
func (d *daemon) stopReloading(limit time.Duration) {
	if d.endReload == nil {
		return
	}
	d.endReload()
	ended := make(chan struct{})
	go func() {
		d.reloading.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(limit):
	}
}

// run reloads until ctx ends. signals ask for it.
func (r *reloader) run(ctx context.Context, signals <-chan os.Signal) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-signals:
			r.reread(ctx, s.String())
		case <-tick.C:
			r.look(ctx)
		}
	}
}

// reread reloads the file, whether it has changed or not.
func (r *reloader) reread(ctx context.Context, why string) {
	text, d, err := r.source.read()
	r.reload(ctx, why, text, d, err)
}

// look reloads a watched file that is another than before, and the same as at the last look.
func (r *reloader) look(ctx context.Context) {
	if r.pending != nil && !time.Now().Before(r.pending.again) {
		r.applyStreams(ctx)
	}
	if !r.d.now.Load().Watch {
		r.found = digest{}
		return
	}
	text, d, err := r.source.read()
	switch {
	case d == r.source.seen:
		r.found = digest{}
	case d != r.found:
		r.found = d
	default:
		r.reload(ctx, "the file has changed", text, d, err)
	}
}

// reload makes a text of the file what is in force, as a whole or not at all.
func (r *reloader) reload(ctx context.Context, why string, text []byte, d digest, err error) {
	r.source.seen, r.found = d, digest{}
	log := r.d.log
	log.Info("reloading the configuration", "file", r.source.file, "why", why)
	var next *config.File
	if err == nil {
		next, err = r.source.parse(text)
	}
	var ignored []string
	if err == nil {
		running := r.d.c
		ignored = next.KeepUntilRestart(running)
		err = next.Faults(append(next.CheckDataDir(running.DataDir), next.CheckExposure()...))
	}
	if err == nil {
		err = r.d.lookUp(ctx, next)
	}
	var adopt []func()
	if err == nil {
		adopt, err = r.d.prepare(next.Config)
	}
	if err != nil {
		r.refused = true
		r.d.reloads.refused()
		r.explain(err)
		return
	}
	r.refused = false
	before := r.d.now.Load()
	for _, f := range adopt {
		f()
	}
	r.d.now.Store(next.Config)
	for _, path := range ignored {
		log.Warn("a key that takes a restart has changed; until then it stays as it was", "key", path)
	}
	r.pending = &pending{next: next.Config, changes: compare(before, next.Config), ignored: ignored}
	r.applyStreams(ctx)
}

// explain says everything that is wrong with a file that was not taken.
func (r *reloader) explain(err error) {
	log := r.d.log
	var faults *config.Error
	if !errors.As(err, &faults) {
		log.Error("configuration is not taken; nothing has changed", "file", r.source.file, "err", err)
		return
	}
	for _, f := range faults.Faults {
		log.Error("configuration has a fault", "file", faults.File, "line", f.Line, "column", f.Column, "err", f)
	}
	log.Error("configuration is not taken; nothing has changed", "file", faults.File, "faults", len(faults.Faults))
}

// applyStreams brings the streams over. Where the journal cannot take that now, it is tried again: what is in force
// of a stream is one configuration or the other, and producers and deliveries go on meanwhile.
func (r *reloader) applyStreams(ctx context.Context) {
	p, log := r.pending, r.d.log
	err := r.d.applyStreams(p.next)
	if err == nil {
		tables, cancel := context.WithTimeout(ctx, lookUpLimit)
		if err = r.d.plane.Adopt(tables, p.next.AWS); !errors.Is(err, buffer.ErrFailing) {
			err = nil // it has said which streams keep what they had, and no other try would change that
		}
		cancel()
	}
	switch {
	case err == nil:
		r.pending = nil
		for _, name := range p.changes.removed {
			log.Warn("stream is no longer in the configuration: it takes no records, and what it holds is delivered as it was configured last", "stream", name)
		}
		log.Info("configuration reloaded", "file", r.source.file, "added", p.changes.added, "changed", p.changes.changed, "removed", p.changes.removed, "needs_restart", p.ignored)
		r.d.reloads.applied(len(p.ignored) > 0, !r.refused)
	case ctx.Err() != nil: // the next start applies it
	default:
		p.again = time.Now().Add(applyAgain)
		r.d.reloads.failed()
		log.Error("streams of the configuration are not all in force yet; tried again", "in", applyAgain, "err", err)
	}
}

// lookUp looks up the tables that the streams of a file take their columns from. What the data directory holds of a
// stream stands in for a catalog that does not answer.
func (d *daemon) lookUp(ctx context.Context, f *config.File) error {
	return lookUp(ctx, f, func(stream string) *config.Schema { return storedSchema(d.manager.Definition, stream) }, d.log)
}

// prepare asks every part whether it can have a configuration.
func (d *daemon) prepare(next *config.Config) (adopt []func(), err error) {
	var errs []error
	for _, s := range d.manager.Definitions() {
		named := slices.ContainsFunc(next.Streams, func(c config.Stream) bool { return c.Name == s.Name })
		if named && s.State < buffer.Deleting && controlplane.Owns(s) {
			errs = append(errs, &delivery.OwnedError{Stream: s.Name})
		}
	}
	for _, part := range d.renewals {
		f, err := part(next)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		adopt = append(adopt, f)
	}
	return adopt, errors.Join(errs...)
}

// applyStreams makes the streams of a configuration those that are in force, beside those that were made over the
// API.
func (d *daemon) applyStreams(c *config.Config) error {
	declared := make([]delivery.Declared, len(c.Streams))
	for i := range c.Streams {
		s := &c.Streams[i]
		declared[i] = delivery.Declared{Name: s.Name, Tags: s.Tags, Spec: s.Spec(), Backup: s.KeepsAll()}
	}
	if err := d.manager.Apply(declared); err != nil {
		return fmt.Errorf("apply the configuration's streams: %w", err)
	}
	return nil
}

// comparison is the names of streams by what a configuration makes of them.
type comparison struct{ added, changed, removed []string }

func compare(before, next *config.Config) (c comparison) {
	old := map[string]*config.Stream{}
	for i := range before.Streams {
		old[before.Streams[i].Name] = &before.Streams[i]
	}
	for i := range next.Streams {
		s := &next.Streams[i]
		was := old[s.Name]
		delete(old, s.Name)
		switch {
		case was == nil:
			c.added = append(c.added, s.Name)
		case !bytes.Equal(was.Spec(), s.Spec()) || !maps.Equal(was.Tags, s.Tags) || was.Limits != s.Limits:
			c.changed = append(c.changed, s.Name)
		}
	}
	c.removed = slices.Sorted(maps.Keys(old))
	return c
}
