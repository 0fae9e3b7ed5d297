package simulation

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"hydrant/buffer"
	"hydrant/delivery"
	"hydrant/format"
	"hydrant/format/parquet"
	"hydrant/format/text"
	"hydrant/prefix"
	"hydrant/transform/hook"
)

// shape is what a seed decides about a life before it begins.
type shape struct {
	wall     time.Time // of the clock at the beginning
	slot     int64     // of the journal
	slots    int
	disk     int64 // limits.disk
	capacity int64 // of the file system, 0: no end
	memory   int64 // limits.memory
	streams  int
	steps    int
	calls    int // of each producer
	large    bool
	pace     time.Duration // about what a step takes

	// what may happen
	hooks, timed, copies                                                                         bool
	sickness, clocks, changes, removals, moves, refusals, foreign, denials, late, broken, floods bool
}

// walls are beginnings: an ordinary day, both changes of the clock, the turn of a year and of a leap day.
var walls = []time.Time{
	time.Date(2026, 6, 10, 13, 58, 30, 0, time.UTC),
	time.Date(2026, 3, 29, 0, 58, 0, 0, time.UTC),
	time.Date(2026, 10, 25, 0, 57, 0, 0, time.UTC),
	time.Date(2026, 11, 1, 5, 58, 30, 0, time.UTC),
	time.Date(2026, 12, 31, 23, 58, 0, 0, time.UTC),
	time.Date(2028, 2, 28, 23, 59, 0, 0, time.UTC),
}

var zones = []string{"UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"}

func newShape(r *rand.Rand) shape {
	chance := func(p float64) bool { return r.Float64() < p }
	s := shape{
		wall:     walls[r.IntN(len(walls))],
		slot:     []int64{64 << 10, 64 << 10, 128 << 10}[r.IntN(3)],
		slots:    4 + r.IntN(5),
		disk:     []int64{4 << 20, 16 << 20, 64 << 20}[r.IntN(3)],
		memory:   []int64{2 << 20, 64 << 20}[r.IntN(2)],
		streams:  1 + r.IntN(3),
		steps:    6 + r.IntN(14),
		calls:    3 + r.IntN(10),
		large:    chance(0.2),
		pace:     []time.Duration{300 * time.Millisecond, 2 * time.Second, 10 * time.Second, time.Minute}[r.IntN(4)],
		sickness: chance(0.4),
		clocks:   chance(0.4),
		changes:  chance(0.5),
		removals: chance(0.3),
		moves:    chance(0.3),
		refusals: chance(0.3),
		foreign:  chance(0.2),
		denials:  chance(0.15),
		late:     chance(0.3),
		broken:   chance(0.1),
		floods:   chance(0.08),
	}
	if s.moves {
		// A request that was given up may still arrive. Nobody can exclude that for a store that has just said
		// that the object is not there, so a move to another place and late arrivals do not go together.
		s.late = false
	}
	if s.floods {
		// What the silent destination can take from others is the upload slots, if its stream's share of the
		// journal holds more manifests than there are of those, or else that room in the journal.
		s.streams, s.slots, s.disk, s.memory, s.pace = 2, 8, 64<<20, 64<<20, 2*time.Minute
		if s.slot > 64<<10 {
			s.slot = 512 << 10
		}
		s.sickness, s.clocks, s.foreign, s.denials = false, false, false, false
	}
	s.capacity = s.disk + s.disk/2
	return s
}

// spec is what the frames of a stream hold here. Rev names it for ever.
type spec struct {
	Rev      int
	Format   string // lines, joined, gzip, parquet
	Size     int64
	FileSize int64
	Interval time.Duration
	Zone     string
	Place    string
	Refuse   string // keys with this in them are not valid
	Broken   bool   // cannot be opened until the world is healed
	Hook     bool   // records go through a function that answers differently each time
	Scatter  bool   // and lie scattered over some partitions

	// Without these a spec is encoded as it was before there were any.
	Timed      bool `json:",omitempty"` // records lie under their event time
	Quarantine bool `json:",omitempty"` // and late ones in the error output
	Copies     bool `json:",omitempty"` // all records go to a backup as well

	stream string // that it is drawn for
}

// draw makes a spec for a stream. place is where it delivers to.
func (s *shape) draw(r *rand.Rand, rev int, place string) *spec {
	p := &spec{
		Rev:    rev,
		Format: []string{"lines", "lines", "joined", "lines", "parquet", "gzip"}[r.IntN(6)],
		Size:   []int64{1, 400, 3000, 1 << 20}[r.IntN(4)],
		// No interval is shorter than 100 ms, and the journal marks its end after 100 ms too: two timers that are
		// due at one instant run in any order, and then a seed would have two lives.
		Interval: []time.Duration{130 * time.Millisecond, time.Second, 5 * time.Second, time.Minute, 15 * time.Minute}[r.IntN(5)],
		Zone:     zones[r.IntN(len(zones))],
		Place:    place,
	}
	if p.Format == "gzip" && r.IntN(3) > 0 {
		p.Format = "lines"
	}
	if p.Size == 1 && r.IntN(4) > 0 {
		p.Size = 1000
	}
	if r.IntN(5) == 0 {
		p.FileSize = 1500
	}
	if s.refusals && r.IntN(3) == 0 {
		p.Refuse = fmt.Sprintf("/%02d/", r.IntN(24))
	}
	if s.broken && r.IntN(3) == 0 {
		p.Broken = true
	}
	if s.hooks {
		p.Hook, p.Scatter = rev%3 != 0, rev%2 == 0
	}
	if s.timed {
		p.Timed, p.Quarantine = rev%5 != 0, rev%3 != 1
	}
	p.Copies = s.copies
	if s.floods {
		p.Size, p.FileSize, p.Interval, p.Format, p.Refuse, p.Broken = 1, 0, time.Second, "lines", "", false
	}
	return p
}

func (p *spec) encode() []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic("bug: " + err.Error())
	}
	return b
}

// schema of the records, for streams with columns.
var schema = func() *format.Schema {
	s, err := format.ParseDDL("id string, n bigint, pad string")
	if err != nil {
		panic("bug: " + err.Error())
	}
	return s
}()

// formats are made once: they hold nothing of a life.
var formats = func() map[string]format.Format {
	must := func(f format.Format, err error) format.Format {
		if err != nil {
			panic("bug: " + err.Error())
		}
		return f
	}
	lines, err1 := text.New(text.Options{Delimiter: text.DelimiterAfter})
	joined, err2 := text.New(text.Options{})
	zipped, err3 := text.New(text.Options{Delimiter: text.DelimiterBetween, Compression: text.CompressionGzip})
	columns, err4 := parquet.New(parquet.Options{Schema: schema, Compression: parquet.Snappy, MemoryLimit: parquet.MinMemoryLimit})
	return map[string]format.Format{
		"lines": must(lines, err1), "joined": must(joined, err2), "gzip": must(zipped, err3), "parquet": must(columns, err4),
	}
}()

// templates of a spec. Both carry the revision, so that an object shows under which one it was named.
func (p *spec) templates(stream string) (data, errs *prefix.Template, err error) {
	parse, keys := prefix.ParsePair, ""
	if p.Timed {
		parse = prefix.ParsePartitionedPair
	}
	if p.Scatter {
		parse, keys = prefix.ParsePartitionedPair, "k=!{partitionKeyFromQuery:k}/"
	}
	return parse(
		fmt.Sprintf("data/%s/r%d/!{timestamp:yyyy/MM/dd/HH}/%s", stream, p.Rev, keys),
		fmt.Sprintf("fail/%s/r%d/!{firehose:error-output-type}/!{timestamp:yyyy}/", stream, p.Rev))
}

// copiesSalt draws whether a life has backups.
const copiesSalt = 0xc0b1e5

// openBackup is delivery.Options.OpenBackup for a process: to the stream's place, under a prefix of its own.
func (p *process) openBackup(v buffer.Stream) (*delivery.Pipeline, error) {
	var s spec
	if err := json.Unmarshal(v.Spec, &s); err != nil || !s.Copies {
		return nil, err
	}
	if s.Broken && !p.w.healed.Load() {
		return nil, fmt.Errorf("revision %d cannot be opened yet", s.Rev)
	}
	data, errs, err := prefix.ParsePair(
		fmt.Sprintf("copy/%s/r%d/!{timestamp:yyyy/MM/dd/HH}/", v.Name, s.Rev),
		fmt.Sprintf("copyfail/%s/r%d/!{firehose:error-output-type}/!{timestamp:yyyy}/", v.Name, s.Rev))
	if err != nil {
		return nil, err
	}
	return &delivery.Pipeline{
		Format: formats["joined"], Prefix: data, ErrorPrefix: errs,
		Size: []int64{300, 2500, 1 << 20}[s.Rev%3], Interval: []time.Duration{170 * time.Millisecond, 7100 * time.Millisecond, 131 * time.Second}[s.Rev/3%3],
		Destination: delivery.Destination{ID: v.Name + "/source/fake", Kind: "fake", Place: s.Place, Sink: &sink{p: p, place: p.w.store.place(s.Place)}},
	}, nil
}

// open is delivery.Open for a process.
func (p *process) open(v buffer.Stream) (*delivery.Pipeline, error) {
	var s spec
	if err := json.Unmarshal(v.Spec, &s); err != nil {
		return nil, err
	}
	s.stream = v.Name
	p.w.opened(v, &s)
	if s.Broken && !p.w.healed.Load() {
		return nil, fmt.Errorf("revision %d cannot be opened yet", s.Rev)
	}
	zone, err := time.LoadLocation(s.Zone)
	if err != nil {
		return nil, err
	}
	pipe := &delivery.Pipeline{
		Format:   formats[s.Format],
		TimeZone: zone,
		Size:     s.Size,
		FileSize: s.FileSize,
		Interval: s.Interval,
		Destination: delivery.Destination{
			ID: v.Name + "/data/fake", Kind: "fake", Place: s.Place,
			Sink: &sink{p: p, place: p.w.store.place(s.Place), refuse: s.Refuse},
		},
	}
	if s.Hook {
		retries := 2
		pipe.Hooks = []delivery.Hook{{
			Options: hook.Options{Carrier: &whim{p: p, rev: s.Rev}, Retries: &retries, Concurrency: 3, Timeout: 5 * time.Second},
			Size:    hook.MinSize, Interval: 700 * time.Millisecond,
		}}
	}
	if pipe.Prefix, pipe.ErrorPrefix, err = s.templates(v.Name); err != nil {
		return nil, err
	}
	if s.Scatter || s.Timed {
		if err := s.scatter(pipe, v.Name); err != nil {
			return nil, err
		}
	}
	return pipe, nil
}
