package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"hydrant/admin"
	"hydrant/delivery"
	"hydrant/record"
	"hydrant/sinks"
	"hydrant/sinks/file"
)

// steering shows the delivery manager as the admin API wants it.
type steering struct{ m *delivery.Manager }

var _ admin.Streams = steering{}

// steering returns what the admin API may ask, or nil while there is nothing yet or no more.
func (d *daemon) steering() admin.Streams {
	if s := d.streams.Load(); s != nil {
		return *s
	}
	return nil
}

func (s steering) List() []admin.Status {
	all := s.m.Streams()
	out := make([]admin.Status, len(all))
	for i := range all {
		out[i] = status(all[i])
	}
	return out
}

func (s steering) Get(name string) (admin.Status, bool) {
	one, ok := s.m.Stream(name)
	return status(one), ok
}

func (s steering) Flush(ctx context.Context, name string) (admin.Remaining, error) {
	r, err := s.m.Flush(ctx, name)
	return admin.Remaining(r), adminError(err)
}

func (s steering) Pause(name string) error  { return adminError(s.m.Pause(name)) }
func (s steering) Resume(name string) error { return adminError(s.m.Resume(name)) }

func adminError(err error) error {
	var missing *record.NotFound
	switch {
	case errors.As(err, &missing):
		return admin.ErrNotFound
	case errors.Is(err, delivery.ErrPaused):
		return admin.ErrPaused
	case errors.Is(err, delivery.ErrNoBatch):
		return admin.ErrNoBatch
	}
	return err
}

func status(s delivery.Status) admin.Status {
	out := admin.Status{
		Name: s.Name, State: s.State, Version: s.Version, Created: s.Created, Tags: s.Tags,
		Accepted: s.Accepted, Delivered: s.Delivered, Failed: s.Failed, Dropped: s.Dropped, Unaccounted: s.Unaccounted,
		BacklogRecords: s.BacklogRecords, BacklogBytes: s.BacklogBytes, Oldest: s.Oldest,
		Batches: make([]admin.Batch, len(s.Batches)), Deliveries: events(s.Deliveries), Failures: events(s.Failures), Error: s.Error,
		Source: s.Source, Lanes: s.Lanes, SourceError: s.SourceError,
	}
	for i, b := range s.Batches {
		out.Batches[i] = admin.Batch(b)
	}
	if s.Backup != nil {
		backup := status(*s.Backup)
		out.Backup = &backup
	}
	return out
}

func events(in []delivery.DeliveryEvent) []admin.Event {
	out := make([]admin.Event, len(in))
	for i, e := range in {
		out[i] = admin.Event(e)
	}
	return out
}

func (s steering) Batches(name string) ([]admin.Waiting, error) {
	list, err := s.m.Batches(name)
	out := make([]admin.Waiting, len(list))
	for i, b := range list {
		left := make([]admin.PendingObject, len(b.Left))
		for k, o := range b.Left {
			left[k] = admin.PendingObject(o)
		}
		out[i] = admin.Waiting{
			Manifest: b.Manifest, Version: b.Version, Records: b.Records, Bytes: b.Bytes, Objects: b.Objects, Pending: b.Pending,
			Oldest: b.Oldest, Attempts: b.Attempts, Error: b.Error, Next: b.Next, Left: left,
		}
	}
	return out, adminError(err)
}

func (s steering) RetryBatch(name, id string) error { return adminError(s.m.RetryBatch(name, id)) }

func (s steering) DivertBatch(ctx context.Context, name, id string, to admin.DivertTo) (admin.Diverted, error) {
	if err := divertable(to.Directory); err != nil {
		return admin.Diverted{}, err
	}
	out, err := s.m.Divert(ctx, name, id, delivery.DivertTo(to))
	return admin.Diverted(out), adminError(err)
}

// divertable wants the operator to have made the directory, so that a slip in its name fills no other disk.
func divertable(directory string) error {
	if directory == "" {
		return nil
	}
	info, err := os.Stat(directory)
	if err != nil {
		return fmt.Errorf("directory to divert to, on the daemon's machine: %w; make it first", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s, on the daemon's machine, is not a directory", directory)
	}
	return nil
}

// exit is delivery.Directory.
func exit(log *slog.Logger) delivery.Directory {
	return func(path string) (sinks.Sink, error) { return file.New(file.Options{Path: path, Log: log}) }
}
