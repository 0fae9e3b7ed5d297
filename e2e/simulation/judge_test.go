package simulation

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"hydrant/format/parquet"
	"hydrant/partition"
	"hydrant/prefix"
	"hydrant/sinks"
)

// judge looks at an object at the moment when it comes into the store: every record in it was sent, with
// these bytes, and is in no other object; and the object's name, place and form are those of one version.
func (w *world) judge(key string, meta map[string]string, body []byte) {
	name, err := parseKey(key)
	if err != nil {
		w.violated("key %q: %v", key, err)
		return
	}
	s := w.specOf(name)
	if s == nil {
		w.violated("%q has the prefix of revision %d and the name of version %d, which never were one", key, name.rev, name.version)
		return
	}
	rows, err := name.rows(s, body)
	if err != nil {
		w.violated("%q cannot be read: %v", key, err)
		return
	}
	if meta[sinks.MetaCount] != strconv.Itoa(len(rows)) || meta[sinks.MetaStream] != name.stream {
		w.violated("%q has %d records and says %s of %q", key, len(rows), meta[sinks.MetaCount], meta[sinks.MetaStream])
	}
	l := w.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if name.copied {
		w.judgeCopies(name, rows)
		return
	}
	last := uint64(0)
	for i, row := range rows {
		var fields struct{ ID string }
		if err := json.Unmarshal(row, &fields); err != nil {
			w.violated("record %d of %q is %.60q", i, key, row)
			continue
		}
		rec := l.records[fields.ID]
		switch {
		case rec == nil || !bytes.Equal(rec.data, row) || rec.call.stream != name.stream:
			w.violated("%q has a record that nobody sent to %q: %q", key, name.stream, row)
			continue
		case rec.found != "":
			w.violated("P2: record %s is in %q and in %q", fields.ID, rec.found, key)
			continue
		case name.errorType == "format-conversion-failed" && !rec.bad, name.errorType == "" && rec.bad && (s.Format == "parquet" || s.Timed),
			name.errorType == "metadata-extraction-failed" && !rec.bad && s.Refuse == "", name.errorType == partition.Late && rec.bad:
			w.violated("record %s is in the wrong output: %q", fields.ID, key)
		}
		w.checkSaid(name, s, rec)
		rec.found = key
		if rec.call.acked {
			// Rows that do not fit, or for whose key there is no name, are found key by key, and gathered in one object.
			byKey := (s.Hook || s.Scatter || s.Timed) && (name.errorType == "format-conversion-failed" || name.errorType == "metadata-extraction-failed")
			if rec.seq() <= last && !byKey {
				w.violated("%q is not in the order of sequences: %d after %d", key, rec.seq(), last)
			}
			last = rec.seq()
		}
		if s.Timed {
			w.checkEvent(name, s, rec)
		} else {
			w.checkRoute(name, s, rec)
		}
	}
}

// judgeCopies holds an object of a backup against what was sent: each record as it was, in its order, and in no other of
// these objects. The caller holds w.log.mu.
func (w *world) judgeCopies(n named, rows [][]byte) {
	last := uint64(0)
	for i, row := range rows {
		var fields struct{ ID string }
		if err := json.Unmarshal(row, &fields); err != nil {
			w.violated("record %d of %q is %.60q", i, n.key, row)
			continue
		}
		rec := w.log.records[fields.ID]
		switch {
		case rec == nil || !bytes.Equal(rec.data, row) || rec.call.stream != n.stream:
			w.violated("%q has a record that nobody sent to %q: %q", n.key, n.stream, row)
			continue
		case rec.copy != "":
			w.violated("P2: record %s is in %q and in %q of the backup", fields.ID, rec.copy, n.key)
			continue
		}
		rec.copy = n.key
		if rec.call.acked {
			if rec.seq() <= last {
				w.violated("%q is not in the order of sequences: %d after %d", n.key, rec.seq(), last)
			}
			last = rec.seq()
		}
	}
}

// named is what the key of an object says.
type named struct {
	copied    bool // of the backup
	key       string
	stream    string
	rev       int
	version   uint64
	errorType string // "" for data
}

// parseKey reads data/<stream>/r<rev>/<date>/<name> and fail/<stream>/r<rev>/<type>/<date>/<name>, and those of the backup, which
// begin with copy and copyfail.
func parseKey(key string) (n named, err error) {
	parts := strings.Split(key, "/")
	n.copied = strings.HasPrefix(key, "copy")
	if len(parts) < 6 || parts[0] != "data" && parts[0] != "fail" && parts[0] != "copy" && parts[0] != "copyfail" || !strings.HasPrefix(parts[2], "r") {
		return n, errors.New("not a key of this world")
	}
	n.key, n.stream = key, parts[1]
	if n.rev, err = strconv.Atoi(parts[2][1:]); err != nil {
		return n, err
	}
	if strings.HasSuffix(parts[0], "fail") {
		n.errorType = parts[3]
	}
	rest, ok := strings.CutPrefix(path.Base(key), n.stream+"-")
	digits, _, ok2 := strings.Cut(rest, "-")
	if !ok || !ok2 {
		return n, errors.New("no version in the name")
	}
	n.version, err = strconv.ParseUint(digits, 10, 64)
	return n, err
}

// specOf finds the version that an object was named under.
func (w *world) specOf(n named) *spec {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, s := range w.specs {
		if s.stream == n.stream && s.Rev == n.rev && key.version == n.version {
			return s
		}
	}
	return nil
}

// rows are the records of an object as they were sent.
func (n named) rows(s *spec, body []byte) ([][]byte, error) {
	if n.copied {
		if n.errorType != "" && n.errorType != "delivery-failed" {
			return nil, fmt.Errorf("a backup has no cause for %s", n.errorType)
		}
		s = &spec{Format: "joined"}
	}
	switch n.errorType {
	case "format-conversion-failed", "metadata-extraction-failed", "processing-failed", partition.Late:
		if n.errorType == "processing-failed" && !s.Hook || n.errorType == "metadata-extraction-failed" && s.Refuse == "" && !s.Timed ||
			n.errorType == "format-conversion-failed" && (s.Format != "parquet" || s.Timed) || n.errorType == partition.Late && !s.Quarantine {
			return nil, fmt.Errorf("revision %d has no cause for %s", s.Rev, n.errorType)
		}
		var rows [][]byte
		for line := range bytes.Lines(body) {
			var e struct{ RawData string }
			if err := json.Unmarshal(line, &e); err != nil {
				return nil, fmt.Errorf("error line %.80q: %w", line, err)
			}
			raw, err := base64.StdEncoding.DecodeString(e.RawData)
			if err != nil {
				return nil, err
			}
			rows = append(rows, raw)
		}
		return rows, nil
	case "", "delivery-failed":
	default:
		return nil, fmt.Errorf("error type %q", n.errorType)
	}
	extension := formats[s.Format].Extension()
	if !strings.HasSuffix(n.key, extension) || extension == "" && strings.Contains(path.Base(n.key), ".") {
		return nil, fmt.Errorf("the name does not end in %q", extension)
	}
	switch s.Format {
	case "parquet":
		return parquet.ReadRows(bytes.NewReader(body), int64(len(body)), -1)
	case "gzip":
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		if body, err = io.ReadAll(z); err != nil {
			return nil, err
		}
	}
	var rows [][]byte
	for dec := json.NewDecoder(bytes.NewReader(body)); ; {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		rows = append(rows, raw)
	}
}

// checkRoute checks that a record lies in its partition, and under the date of its arrival, which was between the call's first
// attempt and its answer. The caller holds w.log.mu.
func (w *world) checkRoute(n named, s *spec, rec *sentRecord) {
	c := rec.call
	if n.errorType != "" || !c.acked || c.at-c.begun > 10*time.Minute {
		return
	}
	if w.jumped(c) {
		return
	}
	data, _, err := s.templates(n.stream)
	if err != nil {
		panic("bug: " + err.Error())
	}
	zone, err := time.LoadLocation(s.Zone)
	if err != nil {
		panic("bug: " + err.Error())
	}
	var keys []string
	if s.Scatter {
		keys = []string{scattered(rec.data)}
	}
	for _, t := range []time.Time{c.wall, c.ackWall} {
		if strings.HasPrefix(n.key, data.Route(prefix.Values{Time: t.In(zone), Keys: keys})) {
			return
		}
	}
	w.violated("a record that arrived between %v and %v is in %q", c.wall.In(zone), c.ackWall.In(zone), n.key)
}

// verdict is the judgement after everything has been delivered.
func (w *world) verdict() {
	l := w.log
	l.mu.Lock()
	defer l.mu.Unlock()
	missing := 0
	for incarnation, known := range l.bySeq {
		seqs := make([]uint64, 0, len(known))
		for seq := range known {
			seqs = append(seqs, seq)
		}
		slices.Sort(seqs)
		version, key, mark := uint64(0), "", watermark{}
		for _, seq := range seqs {
			rec := known[seq]
			if w.shape.copies && rec.copy == "" {
				if missing++; missing < 5 {
					w.violated("P1: acknowledged record %d of %q (incarnation %d, call at %v) is not in the backup", seq, rec.call.stream, incarnation, rec.call.begun)
				}
			}
			if rec.found == "" && w.decided(rec, "Dropped") {
				continue // and the counters have it: see empty
			}
			if rec.found == "" {
				if missing++; missing < 5 {
					w.violated("P1: acknowledged record %d of %q (incarnation %d, call at %v) is nowhere", seq, rec.call.stream, incarnation, rec.call.begun)
				}
				continue
			}
			n, err := parseKey(rec.found)
			if err != nil {
				continue // was said before
			}
			if n.version < version {
				w.violated("versions go back: record %d of %q is in %q, one before it in %q", seq, rec.call.stream, rec.found, key)
			}
			version, key = n.version, rec.found
			mark.pass(w, n, rec)
		}
	}
	if missing > 4 {
		w.violated("P1: %d acknowledged records are nowhere", missing)
	}
}
