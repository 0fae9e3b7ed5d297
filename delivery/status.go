package delivery

import (
	"encoding/hex"
	"slices"
	"time"

	"hydrant/buffer"
)

// Status of a stream, as the admin API prints it.
type Status struct {
	Name           string            `json:"name"`
	State          string            `json:"state"` // active | paused | deleting | failed; of a backup also ending: turned off and not delivered whole
	Version        uint64            `json:"version"`
	Created        time.Time         `json:"created"`
	Tags           map[string]string `json:"tags,omitempty"`
	Accepted       int64             `json:"accepted_records"`
	Delivered      int64             `json:"delivered_records"`
	Failed         int64             `json:"failed_records"`
	Dropped        int64             `json:"dropped_records"`
	Unaccounted    int64             `json:"unaccounted_records"`
	BacklogRecords int64             `json:"backlog_records"` // waiting or under a manifest that has not ended
	BacklogBytes   int64             `json:"backlog_bytes"`
	Oldest         *time.Time        `json:"oldest_undelivered,omitempty"`
	Batches        []Batch           `json:"outstanding_batches"` // manifests that have not ended, at most 100
	Deliveries     []DeliveryEvent   `json:"last_deliveries"`     // newest first, at most 20
	Failures       []DeliveryEvent   `json:"last_failures"`       // newest first, at most 20
	Error          string            `json:"error,omitempty"`     // why the stream is failed
	Source         string            `json:"source,omitempty"`    // kind of the source that it reads from
	Lanes          int               `json:"lanes,omitempty"`     // of the source, of which something is known
	SourceError    string            `json:"source_error,omitempty"`
	Backup         *Status           `json:"backup,omitempty"` // the same of its backup of source records, where it keeps one
}

// Batch is a manifest that has not ended.
type Batch struct {
	Manifest string `json:"manifest_id"`
	Records  int64  `json:"records"`
	Objects  int    `json:"objects"`
	Pending  int    `json:"pending_objects"`
	Attempts int    `json:"attempts"`
	Error    string `json:"last_error,omitempty"`
}

// DeliveryEvent is one object delivered, or one attempt that failed.
type DeliveryEvent struct {
	Time    time.Time `json:"time"`
	Key     string    `json:"key"`
	Records int64     `json:"records"`
	Bytes   int64     `json:"bytes"`
	Reason  string    `json:"cut_reason,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// maxBatches is the most batches that a Status lists.
const maxBatches = 100

// Streams returns the status of all streams, by name.
func (m *Manager) Streams() []Status {
	all := m.all()
	out := make([]Status, 0, len(all))
	for _, s := range all {
		if st := m.statusOf(s); m.there(s) {
			out = append(out, st)
		}
	}
	return out
}

// there tells whether the buffer still has a stream, and so had it when its counts were read before: one that is gone
// counts nothing any more.
func (m *Manager) there(s *stream) bool {
	def := s.definition()
	_, known := m.store.StreamVersion(def.Incarnation, def.Version)
	return known
}

// Stream returns the status of one.
func (m *Manager) Stream(name string) (Status, bool) {
	s := m.lookup(name)
	if s == nil {
		return Status{}, false
	}
	st := m.statusOf(s)
	if !m.there(s) {
		return Status{}, false
	}
	return st, true
}

// account says what became of a stream's records. Accepted is always the sum of the others.
type account struct {
	accepted, delivered, failed, dropped, unaccounted int64
	backlog, backlogBytes                             int64
	oldest                                            int64 // arrival of the oldest undelivered record, µs; 0: none
}

// accountLocked takes the buffer's totals, which are of one instant, together with what this stream has
// seen end. A manifest is in the totals before any object of it can end, so that what is left between them
// is the backlog under manifests at every instant.
func (s *stream) accountLocked() account {
	t, w := s.consumer.Totals(), s.consumer.Waiting()
	if s.ending && t == (buffer.Totals{}) {
		return account{} // the buffer has let it go
	}
	a := account{accepted: t.Accepted, delivered: s.delivered, failed: s.failed, dropped: t.Dropped}
	a.backlog = t.Waiting + t.OK - s.delivered + t.Failed - s.failed
	a.unaccounted = a.accepted - a.delivered - a.failed - a.dropped - a.backlog
	a.backlogBytes, a.oldest = w.Bytes, w.Oldest
	older := func(arrived int64) {
		if arrived != 0 && (a.oldest == 0 || arrived < a.oldest) {
			a.oldest = arrived
		}
	}
	for _, j := range s.inWork {
		a.backlogBytes += j.bytes
		older(j.oldest)
	}
	for _, e := range s.epochs {
		a.backlogBytes += e.Bytes
		if e.Records > 0 {
			older(e.Oldest)
		}
	}
	for _, b := range s.batches {
		a.backlogBytes += b.bytes
		older(b.oldest)
	}
	return a
}

func stateName(s buffer.State) string {
	switch s {
	case buffer.Active:
		return "active"
	case buffer.Paused:
		return "paused"
	default:
		return "deleting"
	}
}

// stateLocked is the state as users see it.
func (s *stream) stateLocked() string {
	if s.cur.err != nil {
		return "failed"
	}
	if s.ending && s.def.State < buffer.Deleting {
		return "ending"
	}
	return stateName(s.def.State)
}

// errLocked is the reason why the stream does not get on, as far as it is known.
func (s *stream) errLocked() string {
	switch {
	case s.cur.err != nil:
		return s.cur.err.Error()
	case s.cutErr != "":
		return s.cutErr
	}
	return s.sendErr
}

func (s *stream) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accountLocked()
	st := Status{
		Name:           s.name,
		State:          s.stateLocked(),
		Version:        s.def.Version,
		Created:        s.def.Created,
		Tags:           s.def.Tags,
		Accepted:       a.accepted,
		Delivered:      a.delivered,
		Failed:         a.failed,
		Dropped:        a.dropped,
		Unaccounted:    a.unaccounted,
		BacklogRecords: a.backlog,
		BacklogBytes:   a.backlogBytes,
		Batches:        []Batch{},
		Deliveries:     append([]DeliveryEvent{}, s.deliveries.events...),
		Failures:       append([]DeliveryEvent{}, s.failures.events...),
	}
	if a.oldest != 0 {
		t := time.UnixMicro(a.oldest).UTC()
		st.Oldest = &t
	}
	if s.cur.err != nil {
		st.Error = s.cur.err.Error()
	} else {
		st.Error = s.cutErr
	}
	if s.cur.pipe != nil && s.cur.pipe.Reader != nil {
		in := s.intake.status()
		st.Source, st.Lanes, st.SourceError = s.cur.pipe.Source, in.lanes, in.failing
	}
	batches := make([]*batch, 0, len(s.batches))
	for _, b := range s.batches {
		batches = append(batches, b)
	}
	slices.SortFunc(batches, func(a, b *batch) int { return int(a.number) - int(b.number) })
	for _, b := range batches[:min(len(batches), maxBatches)] {
		st.Batches = append(st.Batches, Batch{
			Manifest: hex.EncodeToString(b.manifest.ID[:]),
			Records:  b.records,
			Objects:  len(b.manifest.Objects),
			Pending:  b.pending,
			Attempts: b.attempts,
			Error:    b.err,
		})
	}
	return st
}
