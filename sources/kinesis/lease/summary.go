package lease

import (
	"context"
	"time"
)

// Summary is what a table says at one moment.
type Summary struct {
	Missing bool    // there is no such table
	Leases  int     // of all streams, without those that cannot be read
	Ended   int     // of them, of shards that were delivered to their end
	Workers int     // names that own leases, of the living and of the dead
	Faults  []error // leases that cannot be read
}

// Look reads a table. Nothing is written, nor created.
func Look(ctx context.Context, api API, name string) (Summary, error) {
	t := table{api: api, name: name, timeout: 10 * time.Second}
	items, faults, err := t.scan(ctx)
	if missing(err) {
		return Summary{Missing: true}, nil
	}
	if err != nil {
		return Summary{}, err
	}
	s := Summary{Faults: faults}
	owners := map[string]bool{}
	for _, it := range items {
		if it.bad {
			continue
		}
		s.Leases++
		if it.ended() {
			s.Ended++
		} else if it.owner != "" {
			owners[it.owner] = true
		}
	}
	s.Workers = len(owners)
	return s, nil
}
