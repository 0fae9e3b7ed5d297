package delivery

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"hydrant/buffer"
)

// book is what outlives a stream's manifests until a marker has said it: which objects lie in which directory. Each account in
// it is a note of the buffer's, and the notes' names say what has to be true for one to count:
//
//	d-MANIFEST         a draft, written before the frame of the manifest: counts where that is outstanding
//	a-MANIFEST         an account, written after the frame and before the first byte leaves
//	g-MANIFEST-OBJECT  of an object that is about to be set aside: counts where that is not pending any more
//	b-NUMBER           markers that are decided, with the accounts that they have used up, by name, and what those had besides
//
// So a start can tell every draft that came true from one that did not: nothing of a manifest is sent, and so it cannot
// have ended, while its draft has not become an account. And a batch of markers is decided by one note, whole. What a note
// uses up is removed before the note itself is.
//
// Each object of an account stands in exactly one marker; when that is made depends on the watermark, and only that does.
// Safe for concurrent use; pass and sent are the loop's. A nil book, of backups, has nothing.
type book struct {
	s     *stream
	notes notes

	mu       sync.Mutex                             // guards what follows
	expected map[buffer.ManifestID]*expected        // drafts that have come true, and are no accounts yet
	accounts map[string]*accounted                  // by note
	doomed   map[buffer.ManifestID]map[int]struct{} // g-notes of objects that may still be stored
	changes  uint64                                 // of accounts
	bytes    int64                                  // that they take in memory, about
	last     map[string]int                         // number of the last marker of a directory, as far as it is remembered
	batch    *markerBatch                           // that is decided and not sent, nil: none
	number   uint64                                 // of the last batch
	failing  bool                                   // markers cannot be written
	limit    int64
	broken   error // a note cannot be read: nothing is done any more
}

// directory is one of an account.
type directory struct {
	Path    string         `json:"path"`
	End     int64          `json:"end"` // of its time, µs since 1970
	Failed  int64          `json:"failed,omitempty"`
	Objects []markedObject `json:"objects,omitempty"`
}

// markedObject is an object as a marker lists it.
type markedObject struct {
	Key     string `json:"key"`
	Bytes   int64  `json:"bytes"`
	Records int64  `json:"records"`
	SHA256  string `json:"sha256"` // hexadecimal
}

// draft is what will be known of a manifest's directories apart from its objects.
type draft struct {
	Next        uint64       `json:"next"`        // after the manifest's rows
	Destination string       `json:"destination"` // of objects that lie in a directory
	Directories []*directory `json:"directories"` // without objects
	// Of a manifest in the place of an object: its key, and the only directory is that of the object. What is not for the
	// destination has failed.
	Replaces string `json:"replaces,omitempty"`
}

// accounted is an account, or the rest of some.
type accounted struct {
	Next        uint64       `json:"next"`
	Directories []*directory `json:"directories"`
	Replaces    string       `json:"replaces,omitempty"` // key of an object that is in no account of a manifest any more
}

// expected is a draft that has come true.
type expected struct {
	mu       sync.Mutex // held while it becomes an account
	draft    *draft
	manifest *buffer.Manifest
	done     bool
}

// markerBatch is a b-note.
type markerBatch struct {
	number  uint64
	UsesUp  []string  `json:"uses_up"`
	Rest    accounted `json:"rest"`
	Markers []*marker `json:"markers"`
	renamed bool      // since its note was written
}

const (
	draftNote   = "d-"
	accountNote = "a-"
	lossNote    = "g-"
	batchNote   = "b-"
)

func noteOf(kind string, id buffer.ManifestID) string { return kind + hex.EncodeToString(id[:]) }

func lossOf(id buffer.ManifestID, object int) string {
	return noteOf(lossNote, id) + "-" + strconv.Itoa(object)
}

func batchName(number uint64) string { return fmt.Sprintf("%s%016x", batchNote, number) }

// openBook reads the notes of a stream and tells those that count from those that do not.
func openBook(s *stream, outstanding []*buffer.Manifest) *book {
	b := &book{s: s, notes: s.store.Notes(), expected: map[buffer.ManifestID]*expected{}, accounts: map[string]*accounted{},
		doomed: map[buffer.ManifestID]map[int]struct{}{}, last: map[string]int{}}
	if err := b.read(outstanding); err != nil {
		b.broken = err
		s.alarm("markers", "what markers are to say cannot be read, and none are made until this is mended and the daemon started again; records are delivered as ever", "err", err)
	}
	return b
}

func (b *book) read(outstanding []*buffer.Manifest) error {
	names, err := b.notes.List(b.s.incarnation)
	if err != nil {
		return err
	}
	open := map[string]*buffer.Manifest{}
	for _, m := range outstanding {
		open[hex.EncodeToString(m.ID[:])] = m
	}
	load := func(name string, into said) error {
		content, err := b.notes.Read(b.s.incarnation, name)
		if err != nil {
			return err
		}
		if err := parseNote(content, into); err != nil {
			return fmt.Errorf("note %q of stream %q: %w", name, b.s.name, err)
		}
		return nil
	}
	// Batches first: what they have used up is none any more.
	for _, name := range slices.Backward(names) {
		number, found := strings.CutPrefix(name, batchNote)
		if !found || !slices.Contains(names, name) {
			continue
		}
		k := &markerBatch{}
		if k.number, err = strconv.ParseUint(number, 16, 64); err != nil {
			return fmt.Errorf("note %q of stream %q has no name of one", name, b.s.name)
		}
		if err := load(name, k); err != nil {
			return err
		}
		b.number = max(b.number, k.number)
		b.accounts[name] = &k.Rest
		if len(k.Markers) > 0 || len(k.UsesUp) > 0 {
			if b.batch != nil {
				return fmt.Errorf("notes %q and %q of stream %q are both being worked off", name, batchName(b.batch.number), b.s.name)
			}
			b.batch = k
		}
		if err := b.notes.Remove(b.s.incarnation, k.UsesUp...); err != nil {
			return err
		}
		names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(k.UsesUp, n) })
	}
	for _, name := range names {
		id, object, _ := strings.Cut(name[min(len(name), 2):], "-")
		m := open[id]
		switch name[:min(len(name), 2)] {
		case batchNote: // these have been read
		case accountNote:
			a := &accounted{}
			if err := load(name, a); err != nil {
				return err
			}
			b.accounts[name] = a
		case draftNote:
			if m == nil || slices.Contains(names, accountNote+id) {
				if err := b.notes.Remove(b.s.incarnation, name); err != nil {
					return err
				}
				continue
			}
			d := &draft{}
			if err := load(name, d); err != nil {
				return err
			}
			b.expected[m.ID] = &expected{draft: d, manifest: m}
		case lossNote:
			n, err := strconv.Atoi(object)
			if err != nil {
				return fmt.Errorf("note %q of stream %q has no name of one", name, b.s.name)
			}
			if m != nil && slices.Contains(b.s.store.Pending(m.ID), n) {
				if err := b.notes.Remove(b.s.incarnation, name); err != nil {
					return err
				}
				continue
			}
			a := &accounted{}
			if err := load(name, a); err != nil {
				return err
			}
			b.accounts[name] = a
		default:
			return fmt.Errorf("note %q of stream %q is of no kind that this version knows", name, b.s.name)
		}
	}
	for _, a := range b.accounts {
		b.takeOut(a.Replaces)
	}
	for _, a := range b.accounts {
		b.bytes += a.cost()
	}
	return nil
}

// said is what a note can say.
type said interface{ check() error }

// parseNote reads what put wrote.
func parseNote(content []byte, into said) error {
	if err := json.Unmarshal(content, into); err != nil {
		return err
	}
	return into.check()
}

func checkDirectories(list []*directory) error {
	for i, d := range list {
		if d == nil || d.Failed < 0 || slices.ContainsFunc(d.Objects, func(o markedObject) bool { return o.Records < 0 || o.Bytes < 0 }) {
			return fmt.Errorf("its directory %d is none", i)
		}
	}
	return nil
}

func (d *draft) check() error {
	if d.Replaces != "" && len(d.Directories) != 1 {
		return fmt.Errorf("it replaces an object in %d directories", len(d.Directories))
	}
	return checkDirectories(d.Directories)
}

func (a *accounted) check() error { return checkDirectories(a.Directories) }

func (k *markerBatch) check() error {
	for i, m := range k.Markers {
		if m == nil || m.Number < 1 || !json.Valid(m.Body) {
			return fmt.Errorf("its marker %d is none", i)
		}
	}
	return k.Rest.check()
}

// cost is about how many bytes an account takes in memory.
func (a *accounted) cost() (n int64) {
	for _, d := range a.Directories {
		n += d.cost()
	}
	return n
}

func (d *directory) cost() int64 {
	n := int64(len(d.Path) + 100)
	for i := range d.Objects {
		n += int64(len(d.Objects[i].Key) + 150)
	}
	return n
}

// takeOut takes an object out of the accounts of manifests: another account says what has become of it.
func (b *book) takeOut(key string) (found *directory, object markedObject) {
	if key == "" {
		return nil, object
	}
	for name, a := range b.accounts {
		if !strings.HasPrefix(name, accountNote) {
			continue
		}
		for _, d := range a.Directories {
			if i := slices.IndexFunc(d.Objects, func(o markedObject) bool { return o.Key == key }); i >= 0 {
				object = d.Objects[i]
				d.Objects = slices.Delete(d.Objects, i, i+1)
				return d, object
			}
		}
	}
	return nil, object
}

// find is the directory of an object in the accounts of manifests, or nil.
func (b *book) find(key string) *directory {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, a := range b.accounts {
		if !strings.HasPrefix(name, accountNote) {
			continue
		}
		for _, d := range a.Directories {
			if slices.ContainsFunc(d.Objects, func(o markedObject) bool { return o.Key == key }) {
				return d
			}
		}
	}
	return nil
}

// errCrowded says that no more can be accounted for.
var errCrowded = errors.New("markers cannot be written, and no more objects can be kept in mind for them")

// write makes a draft durable, before the frame that it is of.
func (b *book) write(id buffer.ManifestID, d *draft) error {
	b.mu.Lock()
	broken, crowded := b.broken, b.failing && b.bytes > 2*b.limit && d.Replaces == ""
	b.mu.Unlock()
	switch {
	case broken != nil:
		return nil
	case crowded:
		return errCrowded
	}
	return b.put(noteOf(draftNote, id), d)
}

func (b *book) put(name string, v any) error {
	content, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("bug: note %q cannot be written as JSON: %w", name, err)
	}
	return b.notes.Write(b.s.incarnation, name, content)
}

// failed notes whether markers can be written.
func (b *book) failed(failing bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failing = failing
}

// forget takes a draft away whose frame will never be there. Where that fails the next start does it.
func (b *book) forget(id buffer.ManifestID) {
	_ = b.notes.Remove(b.s.incarnation, noteOf(draftNote, id))
}

// expect notes that the frame of a draft is durable; nil: there was none.
func (b *book) expect(m *buffer.Manifest, d *draft) {
	if b == nil || d == nil || m == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken == nil {
		b.expected[m.ID] = &expected{draft: d, manifest: m}
	}
}

// decided makes the account of a manifest of its draft. Before it has returned without error nothing of the manifest may be
// sent, replaced or set aside.
func (b *book) decided(m *buffer.Manifest) error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	e := b.expected[m.ID]
	b.mu.Unlock()
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done {
		return nil
	}
	a := e.draft.account(m)
	name := noteOf(accountNote, m.ID)
	if !sabotageSendUnaccounted {
		if err := b.put(name, a); err != nil {
			return err
		}
		if err := b.notes.Remove(b.s.incarnation, noteOf(draftNote, m.ID)); err != nil {
			return err
		}
	}
	e.done = true
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.expected, m.ID)
	b.add(name, a)
	return nil
}

// add counts an account that is durable.
func (b *book) add(name string, a *accounted) {
	if d, o := b.takeOut(a.Replaces); d != nil {
		b.bytes -= int64(len(o.Key) + 150)
	}
	b.accounts[name] = a
	b.bytes += a.cost()
	b.changes++
}

// account is what a draft becomes once the objects of its manifest are known.
func (d *draft) account(m *buffer.Manifest) *accounted {
	a := &accounted{Next: d.Next, Replaces: d.Replaces}
	at := map[string]*directory{}
	for _, x := range d.Directories {
		y := &directory{Path: x.Path, End: x.End, Failed: x.Failed}
		a.Directories = append(a.Directories, y)
		at[y.Path] = y
	}
	for i := range m.Objects {
		o := &m.Objects[i]
		within := at[directoryOfKey(o.Key)]
		switch {
		case within != nil && o.Role == buffer.Data && o.Destination == d.Destination:
			within.Objects = append(within.Objects, markedObject{o.Key, o.Size, o.Records, hex.EncodeToString(o.SHA256[:])})
		case d.Replaces != "":
			a.Directories[0].Failed += o.Records
		}
	}
	return a
}

// directoryOfKey is the key up to its last slash, which is the directory's.
func directoryOfKey(key string) string { return key[:strings.LastIndexByte(key, '/')+1] }

// replacing makes the draft of what takes the place of an object; nil where no marker will list that.
func (b *book) replacing(t *task, head buffer.ManifestHead) (*draft, error) {
	info := t.info()
	if b == nil || info.Role != buffer.Data {
		return nil, nil
	}
	if err := b.decided(t.batch.manifest); err != nil {
		return nil, err
	}
	of := b.find(info.Key)
	if of == nil {
		return nil, nil
	}
	d := &draft{Next: head.Next, Destination: info.Destination, Replaces: info.Key, Directories: []*directory{{Path: of.Path, End: of.End}}}
	if err := b.write(head.ID, d); err != nil {
		return nil, err
	}
	return d, nil
}

// losing notes that an object is about to be set aside.
func (b *book) losing(t *task) (*accounted, error) {
	info, m := t.info(), t.batch.manifest
	if b == nil || info.Role != buffer.Data {
		return nil, nil
	}
	if err := b.decided(m); err != nil {
		return nil, err
	}
	of := b.find(info.Key)
	if of == nil {
		return nil, nil
	}
	a := &accounted{Next: m.Next, Replaces: info.Key, Directories: []*directory{{Path: of.Path, End: of.End, Failed: info.Records}}}
	if err := b.put(lossOf(m.ID, t.object), a); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.doomed[m.ID] == nil {
		b.doomed[m.ID] = map[int]struct{}{}
	}
	b.doomed[m.ID][t.object] = struct{}{}
	return a, nil
}

// lose notes that it was.
func (b *book) lose(t *task, a *accounted) {
	if b == nil || a == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notLosing(t)
	b.add(lossOf(t.batch.manifest.ID, t.object), a)
}

func (b *book) notLosing(t *task) (was bool) {
	of := b.doomed[t.batch.manifest.ID]
	_, was = of[t.object]
	if delete(of, t.object); len(of) == 0 {
		delete(b.doomed, t.batch.manifest.ID)
	}
	return was
}

// kept notes that an object is stored, which may have been about to be set aside when the journal failed.
func (b *book) kept(t *task) {
	if b == nil {
		return
	}
	b.mu.Lock()
	was := b.notLosing(t)
	b.mu.Unlock()
	if !was {
		return
	}
	if err := b.notes.Remove(b.s.incarnation, lossOf(t.batch.manifest.ID, t.object)); err != nil {
		b.s.alarm("markers", "object is stored, and that it was to be set aside cannot be forgotten", "key", t.info().Key, "err", err)
	}
}

// unmarked is how many objects wait for their markers.
func (b *book) unmarked() (n int) {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.accounts {
		for _, d := range a.Directories {
			n += len(d.Objects)
		}
	}
	return n
}

// abandon forgets everything that markers were to say.
func (b *book) abandon() {
	b.mu.Lock()
	b.batch, b.bytes = nil, 0
	clear(b.accounts)
	clear(b.expected)
	b.mu.Unlock()
	b.close()
}

// close takes the notes away.
func (b *book) close() {
	if b == nil {
		return
	}
	names, err := b.notes.List(b.s.incarnation)
	if err == nil {
		err = b.notes.Remove(b.s.incarnation, names...)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.s.log.Warn("notes about directories stay", "err", err)
	}
}

// enter notes that rows of a key follow, in the encoding of a job. end is when the time of its directory does; 0: that gets no
// marker.
func (c *cutting) enter(route string, end int64) {
	if c.within = nil; end == 0 {
		return
	}
	if c.j.draft == nil {
		c.j.draft = &draft{}
	}
	all := c.j.draft.Directories
	if n := len(all); n > 0 && all[n-1].Path == route {
		c.within = all[n-1] // two partitions with one directory
	} else {
		c.within = &directory{Path: route}
		c.j.draft.Directories = append(all, c.within)
	}
	c.within.End = max(c.within.End, end)
}
