package main

import (
	"context"
	"errors"

	"hydrant/admin"
	"hydrant/delivery"
	"hydrant/record"
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
	}
	return err
}

func status(s delivery.Status) admin.Status {
	out := admin.Status{
		Name: s.Name, State: s.State, Version: s.Version, Created: s.Created, Tags: s.Tags,
		Accepted: s.Accepted, Delivered: s.Delivered, Failed: s.Failed, Dropped: s.Dropped, Unaccounted: s.Unaccounted,
		BacklogRecords: s.BacklogRecords, BacklogBytes: s.BacklogBytes, Oldest: s.Oldest,
		Batches: make([]admin.Batch, len(s.Batches)), Deliveries: events(s.Deliveries), Failures: events(s.Failures), Error: s.Error,
	}
	for i, b := range s.Batches {
		out.Batches[i] = admin.Batch(b)
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
