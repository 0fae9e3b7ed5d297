package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"hydrant/buffer"
	"hydrant/buffer/fsys"
	"hydrant/config"
	"hydrant/record"
)

// whereFlags make the group of inspect commands answer questions about records and objects.
type whereFlags struct {
	where, what, config, stream, below string
	asJSON                             bool
}

func (w *whereFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&w.where, "where", "", "name the objects that may have the record of this `RECORD_ID`")
	f.StringVar(&w.what, "what", "", "say which records an `OBJECT` may have: a key, s3://BUCKET/KEY or a file")
	f.StringVarP(&w.config, "config", "c", "hydrant.yaml", "configuration `FILE`, which says where objects and the data directory are")
	cmd.MarkFlagFilename("config", "yaml", "yml")
	f.StringVar(&w.stream, "stream", "", "look only at the stream with this `NAME`")
	f.StringVar(&w.below, "below", "", "list only keys that begin with this `PREFIX`, such as that of the record's hour")
	f.BoolVar(&w.asJSON, "json", false, "print JSON")
}

// whereAnswer is what --where prints.
type whereAnswer struct {
	RecordID    string     `json:"record_id"`
	Directory   string     `json:"directory_id"`
	Incarnation uint32     `json:"stream_incarnation"`
	Seq         uint64     `json:"seq"`
	Arrived     *time.Time `json:"arrived,omitempty"` // as far as the journal has it
	Objects     []located  `json:"objects"`
	Silent      int        `json:"objects_without_positions,omitempty"`
	Unlisted    []unlisted `json:"unlisted,omitempty"`
}

// whatAnswer is what --what prints.
type whatAnswer struct {
	Object  located   `json:"object"`
	First   string    `json:"first_record_id"`
	Last    string    `json:"last_record_id"` // the object's records are among those from the first to this one
	Related []located `json:"related"`        // of the same stream, with some of these positions
	Silent  int       `json:"objects_without_positions,omitempty"`

	Unlisted []unlisted `json:"unlisted,omitempty"`
}

// unlisted is a place that could not be looked into: it may have objects that an answer lacks.
type unlisted struct {
	Stream string `json:"stream"`
	Place  string `json:"place"`
	Error  string `json:"error"`
}

func (w *whereFlags) run(ctx context.Context, c *cli) error {
	if w.where != "" && w.what != "" {
		return usageError{errors.New("--where and --what are two questions: ask one at a time")}
	}
	f, err := c.load(w.config)
	if err != nil {
		return err
	}
	streams := f.Config.Streams
	if w.stream != "" {
		streams = slices.DeleteFunc(slices.Clone(streams), func(s config.Stream) bool { return s.Name != w.stream })
		if len(streams) == 0 {
			return usageError{fmt.Errorf("--stream %q is not in %s", w.stream, w.config)}
		}
	}
	keys, err := (&keyFlags{config: w.config}).keys(c)
	if err != nil {
		return err
	}
	l := &locator{parts: newParts(f.Config, slog.New(slog.DiscardHandler)), streams: streams, dir: f.Config.DataDir, below: w.below, keys: keys, progress: c.newProgress()}
	defer l.progress.clear()
	if w.what != "" {
		answer, err := l.what(ctx, w.what)
		if err != nil {
			return err
		}
		l.progress.clear()
		if w.asJSON {
			err = c.printJSON(answer)
		} else {
			err = c.showWhat(answer)
		}
		return cmp.Or(err, l.incomplete())
	}
	id, err := record.ParseID(w.where)
	if err != nil {
		return usageError{fmt.Errorf("--where: %w", err)}
	}
	answer, err := l.where(ctx, id)
	if err != nil {
		return err
	}
	l.progress.clear()
	if w.asJSON {
		err = c.printJSON(answer)
	} else {
		err = c.showWhere(answer)
	}
	if err = cmp.Or(err, l.incomplete()); err == nil && len(answer.Objects) == 0 {
		return errSaid
	}
	return err
}

// incomplete says which places are missing from an answer, nil where none is.
func (l *locator) incomplete() error {
	if len(l.unlisted) == 0 {
		return nil
	}
	u := l.unlisted[0]
	return fmt.Errorf("the answer lacks what is in %d %s that cannot be looked into: stream %q, %s: %s", len(l.unlisted), plural(len(l.unlisted), "place"), u.Stream, u.Place, u.Error)
}

func (c *cli) showWhere(a *whereAnswer) error {
	fmt.Fprintf(c.stdout, "record %d of stream incarnation %d, data directory %s", a.Seq, a.Incarnation, a.Directory)
	if a.Arrived != nil {
		fmt.Fprintf(c.stdout, ", arrived %s", a.Arrived.Format(time.RFC3339Nano))
	}
	fmt.Fprintln(c.stdout)
	roles := map[string]int{}
	for _, o := range a.Objects {
		roles[o.Role]++
	}
	switch {
	case len(a.Objects) == 0 && len(a.Unlisted) > 0:
		fmt.Fprintln(c.stdout, "no object that can be seen now has it")
	case len(a.Objects) == 0:
		fmt.Fprintln(c.stdout, "no object has it: it waits, was dropped, went to an endpoint or into a table, or is in a place that the configuration does not name")
	case roles["data"]+roles["error"] > 1:
		fmt.Fprintln(c.stdout, "it is in one of these data and error objects, or in several if it was taken apart, and where it was kept, in the backup:")
	}
	c.showLocated(a.Objects)
	c.showSilent(a.Silent)
	return nil
}

func (c *cli) showWhat(a *whatAnswer) error {
	o := a.Object
	fmt.Fprintf(c.stdout, "%s object of stream %q, %d records, manifest %s\npositions %d to %d of incarnation %d, data directory %s\nrecord ids %s to %s\n",
		o.Role, o.Stream, o.Count, o.Manifest, o.FirstSeq, o.Next-1, o.incarnation, o.directory, a.First, a.Last)
	if len(a.Related) > 0 {
		fmt.Fprintln(c.stdout, "these have some of the same positions:")
		c.showLocated(a.Related)
	}
	c.showSilent(a.Silent)
	return nil
}

func (c *cli) showLocated(list []located) {
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	for _, o := range list {
		state := ""
		if o.Waits {
			state = "\tin the data directory"
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\tpositions %d to %d%s\n", o.Role, o.Place, o.Key, o.FirstSeq, o.Next-1, state)
	}
	w.Flush()
}

func (c *cli) showSilent(n int) {
	if n > 0 {
		fmt.Fprintf(c.stdout, "%d objects that were asked keep no positions: an older version wrote them, or their file system or a copy has lost them\n", n)
	}
}

// locator looks for records and objects in what a configuration names.
type locator struct {
	parts    *parts
	streams  []config.Stream
	dir      string // data directory
	below    string
	keys     []*buffer.Key
	progress *progress
	silent   int
	unlisted []unlisted
}

// where finds the objects of a record.
func (l *locator) where(ctx context.Context, id record.ID) (*whereAnswer, error) {
	a := &whereAnswer{RecordID: id.String(), Directory: hex.EncodeToString(id.Directory[:]), Incarnation: id.Incarnation, Seq: id.Seq, Objects: []located{}}
	want := wanted{directory: a.Directory, incarnation: uint64(id.Incarnation), first: id.Seq, next: id.Seq + 1}
	found, err := l.search(ctx, want)
	if err != nil {
		return nil, err
	}
	routed, splits := map[string]bool{}, map[string]bool{}
	for i := range l.streams {
		s := &l.streams[i]
		splits[s.Name] = len(s.Transform) > 0
		routed[s.Name] = s.Partition != nil || slices.ContainsFunc(s.Transform, func(t config.Processor) bool { return t.HTTP != nil || t.Lambda != nil })
	}
	var straight []located
	for _, o := range found {
		if routed[o.Stream] && o.Role != "backup" {
			a.Objects = append(a.Objects, o)
		} else {
			straight = append(straight, o)
		}
	}
	a.Objects = append(a.Objects, narrow(straight, id.Seq, func(stream string) bool { return splits[stream] })...)
	sortLocated(a.Objects)
	a.Arrived, a.Silent, a.Unlisted = l.arrived(want), l.silent, l.unlisted
	return a, nil
}

// search looks into the data directory and on all shelves. What is in both is listed once. Shelves that cannot be listed are
// left out, and noted.
func (l *locator) search(ctx context.Context, want wanted) ([]located, error) {
	found := l.packed(func(o *located) bool {
		return want.has(o) && o.First < want.next && o.Next > want.first && o.FirstSeq < want.next
	})
	waits := map[string]bool{}
	for _, o := range found {
		waits[o.Stream+" "+o.Key] = true
	}
	for i := range l.streams {
		list, end, err := l.parts.shelves(&l.streams[i])
		if err != nil {
			return nil, err
		}
		for _, at := range list {
			switch {
			case strings.HasPrefix(l.below, at.below):
				at.below = l.below
			case !strings.HasPrefix(at.below, l.below):
				continue
			}
			s := search{shelf: at, want: want, tell: l.progress.show}
			on, err := s.run(ctx)
			l.silent += s.silent
			if ctx.Err() != nil {
				end()
				return nil, ctx.Err()
			}
			if err != nil {
				l.unlisted = append(l.unlisted, unlisted{at.stream, at.place, err.Error()})
			}
			for _, o := range on {
				if waits[o.Stream+" "+o.Key] { // it has arrived, and its pack is about to go
					found = slices.DeleteFunc(found, func(w located) bool { return w.Waits && w.Stream == o.Stream && w.Key == o.Key })
				}
				found = append(found, o)
			}
		}
		end()
	}
	sortLocated(found)
	return found, nil
}

// packed lists the objects in the data directory's packs that which says.
func (l *locator) packed(which func(*located) bool) (found []located) {
	paths, _ := filepath.Glob(filepath.Join(l.dir, "packs", "*.pack"))
	for i, path := range paths {
		l.progress.show(fmt.Sprintf("%d of %d packs", i, len(paths)))
		r, err := buffer.InspectPack(fsys.OS(), path, false, l.keys...)
		if err != nil {
			continue // it has gone meanwhile, or is not whole yet
		}
		for _, m := range r.Manifests {
			for _, info := range m.Objects {
				stream, rest, _ := strings.Cut(info.Destination, "/")
				_, kind, _ := strings.Cut(rest, "/")
				o := located{
					Stream: stream, Role: "data", Place: kind, Key: info.Key, Manifest: hex.EncodeToString(m.ID[:]), First: m.First, Next: m.Next,
					FirstSeq: info.FirstSeq, Count: info.Records, Waits: true, directory: hex.EncodeToString(r.Directory[:]), incarnation: uint64(m.Incarnation),
				}
				switch {
				case info.Role == buffer.Error:
					o.Role = "error"
				case m.Consumer == buffer.Backup:
					o.Role = "backup"
				}
				if which(&o) {
					found = append(found, o)
				}
			}
		}
	}
	return found
}

// arrived is when a record arrived, where the journal still has it.
func (l *locator) arrived(want wanted) (at *time.Time) {
	journal := filepath.Join(l.dir, "journal")
	if _, err := os.Stat(journal); err != nil {
		return nil
	}
	ours := map[string]bool{}
	onSlot := func(s buffer.SlotInfo) {
		ours[s.File] = s.Directory == want.directory
		l.progress.show("reading " + s.File)
	}
	onFrame := func(f buffer.FrameInfo) bool {
		if ours[f.File] && f.Type == "DATA" && uint64(f.Incarnation) == want.incarnation && f.First <= want.first && want.first < f.First+uint64(f.Count) {
			t := time.UnixMicro(f.Arrived).UTC()
			at = &t
		}
		return ours[f.File] && at == nil
	}
	if err := buffer.InspectJournal(fsys.OS(), journal, onSlot, onFrame, l.keys...); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return at // a help, no more
	}
	return at
}

// what finds an object and those with records of the same positions.
func (l *locator) what(ctx context.Context, name string) (*whatAnswer, error) {
	o, err := l.object(ctx, name)
	if err != nil {
		return nil, err
	}
	var id record.ID
	if raw, err := hex.DecodeString(o.directory); err != nil || len(raw) != len(id.Directory) || o.incarnation>>32 != 0 {
		return nil, fmt.Errorf("object %q names data directory %q and incarnation %d, which cannot be", name, o.directory, o.incarnation)
	} else {
		copy(id.Directory[:], raw)
	}
	id.Incarnation = uint32(o.incarnation)
	a := &whatAnswer{Object: *o, Related: []located{}}
	id.Seq = o.FirstSeq
	a.First = id.String()
	id.Seq = o.Next - 1
	a.Last = id.String()
	found, err := l.search(ctx, wanted{directory: o.directory, incarnation: o.incarnation, first: o.FirstSeq, next: o.Next})
	if err != nil {
		return nil, err
	}
	for _, other := range found {
		if other.Key != o.Key || other.Stream != o.Stream || other.Role != o.Role {
			a.Related = append(a.Related, other)
		}
	}
	a.Silent, a.Unlisted = l.silent, l.unlisted
	return a, nil
}

// object finds one by its key, URL or file name.
func (l *locator) object(ctx context.Context, name string) (*located, error) {
	bucket, key := "", name
	if rest, ok := strings.CutPrefix(name, "s3://"); ok {
		bucket, key, _ = strings.Cut(rest, "/")
	}
	silent := ""
	var failed error // the last one of a place that does not say whether it has the object
	for i := range l.streams {
		list, end, err := l.parts.shelves(&l.streams[i])
		if err != nil {
			return nil, err
		}
		for _, at := range list {
			kind, place, _ := strings.Cut(at.place, " ")
			key := key
			switch {
			case bucket != "" && (kind != "s3" || !strings.HasSuffix(" "+place, " "+bucket)):
				continue
			case bucket == "" && kind == "file":
				if abs, err := filepath.Abs(name); err == nil {
					if rel, err := filepath.Rel(place, abs); err == nil && filepath.IsLocal(rel) {
						key = filepath.ToSlash(rel)
					}
				}
				if !filepath.IsLocal(key) {
					continue
				}
			}
			meta, err := at.catalog.Describe(ctx, key)
			if err != nil {
				if !errors.Is(err, fs.ErrNotExist) {
					failed = fmt.Errorf("stream %q: %w", at.stream, err)
				}
				continue
			}
			if o, ok := readMeta(meta); ok {
				end()
				o.Stream, o.Place, o.Key = at.stream, at.place, key
				if s := meta["stream"]; s != "" {
					o.Stream = s
				}
				return &o, nil
			}
			silent = at.place
		}
		end()
	}
	if found := l.packed(func(o *located) bool { return o.Key == key }); len(found) > 0 {
		return &found[0], nil
	}
	if silent != "" {
		return nil, fmt.Errorf("object %s is in %s and says nothing of its records: it is somebody else's, an older version wrote it, or its file system or a copy has lost it", strconv.Quote(key), silent)
	}
	if failed != nil {
		return nil, fmt.Errorf("object %s is not found, and not every place can be looked into: %w", strconv.Quote(key), failed)
	}
	return nil, fmt.Errorf("object %s is in no place that the configuration names", strconv.Quote(key))
}
