package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer/forgetfs"
)

// TestCrashDamage changes bytes that had been synced, anywhere in the data directory, and starts again. The
// start may refuse with a report; if it goes on, every acknowledged row is where it was, or counted as lost,
// and nothing is there twice, changed, or from nowhere.
func TestCrashDamage(t *testing.T) {
	first, seeds := seedRange(t)
	refused, hit := 0, map[string]int{} // kinds of files
	for seed := first; seed < seeds && !t.Failed(); seed++ {
		var trace string
		err := inBubble(t, func() (err error) {
			var stopped bool
			trace, stopped, err = damagedLife(seed)
			for _, kind := range []string{"/" + journalDir + "/j-", packSuffix, runSuffix} {
				if _, after, ok := strings.Cut(trace, "\ndamage "); ok && strings.Contains(strings.SplitN(after, "\n", 2)[0], kind) {
					hit[kind]++
				}
			}
			if stopped {
				refused++
			}
			return err
		})
		if err != nil {
			if seeds == first+1 {
				t.Log(trace)
			}
			t.Errorf("seed %d: %v\nreplay: HYDRANT_CRASH_SEED=%d go test ./buffer -run TestCrashDamage -v", seed, err, seed)
		}
	}
	t.Logf("%d of %d starts were refused; %v", refused, seeds-first, hit)
	if n := int(seeds - first); n > 20 && (refused == 0 || refused > n/2) {
		t.Errorf("%d of %d starts were refused", refused, n)
	}
}

// damagedLife runs a Buffer, changes what it left, and starts another.
func damagedLife(seed uint64) (trace string, stopped bool, err error) {
	r := rand.New(rand.NewPCG(seed, 17))
	w := newWorld(seed)
	w.journaled = true // of lanes damage may hide more than the model knows of
	var log strings.Builder
	if err := w.open(); err != nil {
		return "", false, err
	}
	if err := randomSteps(w, r, &log); isBug(err) {
		return log.String(), false, err
	}
	w.rest(time.Second) // the last group is proven: damage to it is told from a torn end
	w.disk.Kill()
	w.stop()
	log.WriteString(w.disk.Trace())
	fate := forgetfs.Random(r.Uint64())
	if r.IntN(2) == 0 {
		fate = forgetfs.All
	}
	d := onDisk(w.disk.Image(fate), w.m, seed+1)
	d.faulty = true // what is damaged may have named files, so none are removed
	packs := false
	for range 1 + r.IntN(2) {
		at, ok := damageOnce(d.disk, r)
		if !ok {
			return log.String(), false, nil
		}
		fmt.Fprintf(&log, "damage %s\n", at)
		packs = packs || strings.Contains(at, packSuffix)
	}
	before := d.disk.Image(forgetfs.None)
	if err := d.open(); err != nil {
		if _, ok := errors.AsType[*DamageError](err); !ok {
			return log.String(), false, bug("start: %v", err)
		}
		// whoever repairs it finds what was there
		for _, f := range before.Files(crashDir) {
			was, _ := before.ReadFile(f)
			is, err := d.disk.ReadFile(f)
			if err != nil || !bytes.Equal(was, is) {
				return log.String(), true, bug("a start that was refused has changed %s (%v): %v", f, d.disk.Trace(), err)
			}
		}
		return log.String(), true, nil
	}
	defer d.stop()
	for name, s := range d.m.streams {
		if s.incarnation == 0 {
			continue
		}
		for _, id := range s.consumers {
			if err := d.checkDamaged(name, s, id, packs); err != nil {
				return log.String() + d.disk.Trace(), false, err
			}
		}
	}
	totals := d.allTotals()
	// a second start finds the same, and no damage
	d.stop()
	e := onDisk(d.disk.Image(forgetfs.None), d.m, seed+2)
	if err := e.open(); err != nil {
		return log.String(), false, bug("the start after the next one: %v", err)
	}
	defer e.stop()
	if again := e.allTotals(); again != totals {
		return log.String(), false, bug("totals after another start are %s, were %s", again, totals)
	}
	for name, s := range e.m.streams {
		if s.incarnation != 0 && s.state < Deleting {
			if err := e.put(name, 30, 1); isBug(err) {
				return log.String(), false, err
			}
		}
	}
	return log.String(), false, nil
}

// damageOnce changes a byte of a file that has something in it.
func damageOnce(disk *forgetfs.FS, r *rand.Rand) (at string, ok bool) {
	files := disk.Files(crashDir)
	for range 200 {
		f := files[r.IntN(len(files))]
		b, err := disk.ReadFile(f)
		if err != nil || len(b) == 0 || strings.HasSuffix(f, ballastName) {
			continue
		}
		off := r.IntN(len(b))
		if isSlot(f) {
			// where frames are: most of a slot is zeros
			for range 100 {
				if off = r.IntN(len(b)); b[off] != 0 {
					break
				}
			}
		}
		if b[off] == 0 {
			continue
		}
		bit := byte(1) << r.IntN(8)
		if disk.Flip(f, int64(off), bit) != nil {
			continue
		}
		return fmt.Sprintf("%s byte %d bit %02x", f, off, bit), true
	}
	return "", false
}

// checkDamaged is check for one consumer of which something may be lost.
func (w *world) checkDamaged(name string, s *modelStream, id uint8, packs bool) error {
	c := w.consumer(name, id)
	if c == nil {
		return bug("stream %q is gone", name)
	}
	t := c.Totals()
	position := w.b.front.base(s.incarnation, id)
	routed, err := w.damagedEpochs(name, s, c)
	if err != nil {
		return err
	}
	met := int64(0) // rows of raw runs that are lost as soon as they are taken
	waiting := map[uint64]bool{}
	var claims []*Claim // a claim ends where a hole begins
	defer func() {
		for _, k := range slices.Backward(claims) {
			k.Release()
		}
	}()
	for k := c.Take(0, 1<<40); k != nil; k = c.Take(0, 1<<40) {
		claims = append(claims, k)
		for r := range k.Rows() {
			want, known := s.rows[r.Seq]
			if known && want != string(r.Data) {
				return bug("row %d of %q is %.30q, was %.30q", r.Seq, name, r.Data, want)
			}
			if !known {
				found := false
				for _, m := range s.maybe {
					for _, row := range m.rows {
						found = found || row == string(r.Data)
					}
				}
				if !found {
					return bug("row %d of %q, %.30q, was never put", r.Seq, name, r.Data)
				}
				s.rows[r.Seq] = string(r.Data)
			}
			if waiting[r.Seq] {
				return bug("row %d of %q waits twice", r.Seq, name)
			}
			waiting[r.Seq] = true
		}
		if k.fault != nil {
			return bug("rows of %q cannot be read: %v", name, k.fault)
		}
		met += k.Lost()
	}
	newest := position
	for seq := range waiting {
		newest = max(newest, seq)
	}
	missing := int64(0)
	for seq := range s.rows {
		// The newest rows of a stream may be hidden by a header that cannot be read, with nothing behind them
		// to say how many they were: that is reported, but not as a number.
		if seq >= position && seq < newest && !waiting[seq] {
			missing++
		}
	}
	if missing > t.Lost+met {
		return bug("%d rows of %q are missing, %d are counted as lost, %d will be", missing, name, t.Lost, met)
	}
	if sum := t.OK + t.Dropped + t.Failed + t.Lost + t.Waiting; sum != t.Accepted || t.Waiting != int64(len(waiting))+met+routed {
		return bug("totals of %q do not balance: %+v, %d rows wait, %d are lost in runs, %d are routed", name, t, len(waiting), met, routed)
	}
	outstanding := map[ManifestID]*Manifest{}
	for _, m := range w.b.Outstanding() {
		outstanding[m.ID] = m
		if m.Incarnation == s.incarnation && s.manifests[m.ID] == nil {
			return bug("nobody made manifest %x of %q", m.ID, name)
		}
	}
	for mid, m := range s.manifests {
		if m.head.Consumer != id {
			continue
		}
		got := outstanding[mid]
		if got == nil {
			open := false
			for i := range m.objects {
				open = open || !m.sent[i] && !m.gone[i]
			}
			if m.certain && open && t.Lost == 0 {
				return bug("manifest %x of %q is gone with objects that nobody confirmed, and nothing is counted as lost: %+v", mid, name, m)
			}
			continue
		}
		for _, i := range w.b.Pending(mid) {
			if m.gone[i] {
				return bug("object %d of %x was replaced and would be sent again", i, mid)
			}
			if packs {
				continue // its bytes may be others: whoever sends them compares the hash
			}
			o, err := w.b.OpenObject(got, i)
			if err != nil {
				return bug("open object %d of %x: %v", i, mid, err)
			}
			body := make([]byte, m.objects[i].Size)
			n, err := o.ReadAt(body, 0)
			o.Close()
			if n != len(body) || err != nil && err != io.EOF || !bytes.Equal(body, m.bodies[i]) {
				return bug("object %d of %x has other bytes (%v)", i, mid, err)
			}
		}
	}
	return nil
}

// allTotals prints the totals of all consumers.
func (w *world) allTotals() string {
	synctest.Wait()
	var b strings.Builder
	for _, s := range w.b.Streams() {
		for _, id := range s.Consumers {
			fmt.Fprintf(&b, "%s/%d %+v ", s.Name, id, w.b.Consumer(s.Incarnation, id).Totals())
		}
	}
	return b.String()
}

// damagedEpochs checks that nothing of a consumer's epochs is changed, there twice, or from nowhere, and counts their
// records.
func (w *world) damagedEpochs(name string, s *modelStream, c *Consumer) (records int64, err error) {
	seen := map[uint64]bool{}
	for _, e := range c.Epochs() {
		records += e.Records
		r, err := w.b.OpenEpoch(c, e.Number, uint32(len(e.Runs)))
		if err != nil {
			return 0, bug("open epoch %d of %q: %v", e.Number, name, err)
		}
		defer r.Close()
		read := int64(0)
		for k, err := range r.Keys(e.Bound) {
			if err != nil {
				break // a page of a footer is damaged since
			}
			for row, err := range r.Rows(k.Key) {
				if err != nil {
					break
				}
				if want, known := s.rows[row.Seq]; known && want != string(row.Data) || seen[row.Seq] || modelKey(row.Seq) != string(k.Key) {
					return 0, bug("row %d of epoch %d of %q under key %q is %.30q, was %.30q, twice %v", row.Seq, e.Number, name, k.Key, row.Data, want, seen[row.Seq])
				}
				seen[row.Seq] = true
				read++
			}
		}
		if read > e.Records {
			return 0, bug("epoch %d of %q has %d records, it counts %d", e.Number, name, read, e.Records)
		}
	}
	for _, e := range s.epochs(c.id) {
		certain := len(e.runs) > 0 && !e.ended
		for _, m := range s.manifests { // of one that nobody got an answer for
			certain = certain && !(m.head.Epoch == e.number && m.head.Consumer == c.id && m.head.Source.All)
		}
		if certain && !slices.ContainsFunc(c.Epochs(), func(x Epoch) bool { return x.Number == e.number && len(x.Runs) >= len(e.runs) }) {
			return 0, bug("epoch %d of %q is gone, or runs of it: %+v", e.number, name, c.Epochs())
		}
	}
	return records, nil
}

// base is the sequence below which everything of the consumer is decided.
func (f *front) base(incarnation uint32, consumer uint8) uint64 {
	c := f.consumer(incarnation, consumer)
	if c == nil {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return c.base
}
