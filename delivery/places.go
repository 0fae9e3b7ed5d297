package delivery

import (
	"fmt"
	"strconv"
	"time"

	"hydrant/buffer"
	"hydrant/prefix"
	"hydrant/sinks"
)

// outlet is where one kind of a version's objects leaves: the queue of a place. Versions share the queue where they
// deliver to the same place.
type outlet struct {
	lane  *lane
	place string // key of the queue
}

// destination is the one that manifests know by id, or nil where the pipeline has no such.
func (p *Pipeline) destination(id string) *Destination {
	switch id {
	case p.Destination.ID:
		return &p.Destination
	case p.Errors.ID:
		return &p.Errors
	}
	return nil
}

// errors is where the error output goes.
func (p *Pipeline) errors() *Destination {
	if p.Errors.Sink != nil {
		return &p.Errors
	}
	return &p.Destination
}

// sinkOf is the sink of the objects that a template names.
func (p *Pipeline) sinkOf(t *prefix.Template) sinks.Sink {
	if t == p.ErrorPrefix {
		return p.errors().Sink
	}
	return p.Destination.Sink
}

// each calls f for every destination of the pipeline.
func (p *Pipeline) each(f func(*Destination)) {
	f(&p.Destination)
	if p.Errors.Sink != nil {
		f(&p.Errors)
	}
}

// laneFor is the queue for objects that are meant for a destination.
func (v *version) laneFor(destination string) *lane {
	if v.pipe != nil && destination != v.pipe.Destination.ID && destination == v.pipe.Errors.ID {
		return v.errors.lane
	}
	return v.data.lane
}

// lanesLocked gives the version its queues.
func (s *stream) lanesLocked(v *version) {
	// Where the place has no name, nobody knows whether two versions have the same.
	own := "#" + strconv.FormatUint(v.number, 10)
	if v.pipe == nil {
		v.data = s.outletLocked(v, own, nil)
		v.errors = v.data
		return
	}
	v.data = s.outletLocked(v, own, &v.pipe.Destination)
	v.errors = v.data
	if v.pipe.Errors.Sink != nil {
		v.errors = s.outletLocked(v, own+" errors", &v.pipe.Errors)
	}
}

// outletLocked is the queue for a destination; own is its key where the place has no name.
func (s *stream) outletLocked(v *version, own string, d *Destination) outlet {
	o := outlet{place: own}
	switch {
	case d == nil:
	case d.AtLeastOnce:
		o.place = d.ID // whatever was meant for a former place goes to the present one, in its turn
	case d.Place != "":
		o.place = d.ID + " " + d.Place
	}
	var known bool
	if o.lane, known = s.lanes[o.place]; !known {
		o.lane = s.up.newLane()
		s.up.pause(o.lane, s.def.State == buffer.Paused)
		s.lanes[o.place] = o.lane
	}
	// The version in force says how fast a place is sent to, whatever others deliver there too.
	if d != nil && (!known || v.number == s.def.Version) {
		s.up.pace(o.lane, d.Pace)
	}
	return o
}

// dropUnsharedLocked forgets a queue that no version has.
func (s *stream) dropUnsharedLocked(place string) {
	for _, v := range s.versions {
		if v.data.place == place || v.errors.place == place {
			return
		}
	}
	if l := s.lanes[place]; l != nil {
		s.up.dropLane(l)
		delete(s.lanes, place)
	}
}

// places of a version, as one text: equal where two versions deliver to the same places.
func (v *version) places() string { return v.data.place + "\n" + v.errors.place }

// formerPlaces are the places, beside that of its own version, to which an earlier process may have sent an object
// that is meant for a destination. A version that cannot be opened had none: what it is has not changed since.
func (s *stream) formerPlaces(own *version, destination string) (list []place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.former {
		if v.number <= own.number || v.pipe == nil {
			continue
		}
		if d := v.pipe.destination(destination); d != nil && d.Place != "" {
			list = append(list, place{name: d.Place, sink: d.Sink, v: v})
		}
	}
	return list
}

// laneLocked is the queue for an object.
func (s *stream) laneLocked(t *task) *lane {
	if v := s.divertedLocked(t.info().Destination); v != nil {
		return v.lane
	}
	return t.batch.use.laneFor(t.info().Destination)
}

func (s *stream) retireLocked(v *version) {
	if v.users > 0 || v == s.cur || s.versions[v.number] != v {
		return
	}
	delete(s.versions, v.number)
	s.dropUnsharedLocked(v.data.place)
	s.dropUnsharedLocked(v.errors.place)
	s.closeSink(v)
}

// closeSink does not wait: puts of other versions may be using the sinks for a while.
func (s *stream) closeSink(v *version) {
	if v.pipe == nil {
		return
	}
	for _, h := range v.pipe.Hooks {
		if h.Close != nil {
			h.Close()
		}
	}
	v.pipe.each(func(d *Destination) {
		s.closers.Go(func() {
			if err := d.Sink.Close(); err != nil {
				s.log.Warn("destination did not close", "version", v.number, "destination", d.ID, "err", err)
			}
		})
	})
}

// place is somewhere that objects are sent to. One and the same has one name, whatever version of the stream
// and with whatever credentials it is reached.
type place struct {
	name string
	sink sinks.Sink
	// forgets: it cannot tell what it has, and may have an object twice.
	forgets bool
	v       *version // that the sink is of

	since time.Time // of a place that may have an object: when the last request for it had ended
}

// placesFor says where an object goes, and for which place it was made: another one where the stream has moved
// since. Where err is nil, the version of the former is kept, and its sink open, until release.
func (s *stream) placesFor(t *task) (to, first place, kind string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, cur, want := t.batch.use, s.cur, t.info().Destination
	if to := s.divertedLocked(want); to != nil {
		if to.err != nil {
			return place{}, place{}, "file", to.err
		}
		s.useLocked(v)
		first = place{name: to.d.Place, sink: to.d.Sink, v: v}
		return first, first, to.d.Kind, nil
	}
	if v.pipe == nil {
		if s.reopenLocked(v); v.pipe == nil {
			return to, first, "", v.err
		}
	}
	d := v.pipe.destination(want)
	if d == nil {
		return to, first, v.pipe.Destination.Kind, fmt.Errorf("object is meant for destination %q, version %d of the stream has %q", want, v.number, v.pipe.Destination.ID)
	}
	first = place{name: d.Place, sink: d.Sink, forgets: d.AtLeastOnce, v: v}
	s.useLocked(v)
	if t.finishes() {
		return s.placeOfLoadLocked(d, first), first, d.Kind, nil
	}
	if v == cur || cur.pipe == nil || d.Place == "" {
		return first, first, d.Kind, nil
	}
	now := cur.pipe.destination(want)
	if now == nil || now.Place == "" {
		return first, first, d.Kind, nil
	}
	s.unuseLocked(v)
	s.useLocked(cur)
	return place{name: now.Place, sink: now.Sink, forgets: now.AtLeastOnce, v: cur}, first, d.Kind, nil
}

// release gives a version free that placesFor or mayBeAt has kept.
func (s *stream) release(v *version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unuseLocked(v)
}
