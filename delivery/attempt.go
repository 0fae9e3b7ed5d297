package delivery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"hydrant/buffer"
	"hydrant/format"
	"hydrant/sinks"
)

const (
	// slowBase and slowCap bound the wait after a refusal: it takes a person to end that.
	slowBase = 5 * time.Second
	slowCap  = time.Minute
	// deniedAlone is how long one object may be refused as if the destination refused everything, while
	// others are stored, before it goes to the error output: a prefix that the credentials do not cover.
	deniedAlone = 15 * time.Minute
	// An attempt that has not ended after attemptTime and the object's size at attemptRate has been
	// forgotten by somebody. Sinks have their own, shorter limits for a store that does not answer.
	attemptTime = 10 * time.Minute
	attemptRate = 64 << 10 // bytes a second
	// lingering is how long a store may still carry out a request whose connection is gone. An object that is
	// not there may turn up until then, so only afterwards does its absence mean anything.
	lingering = 30 * time.Second
)

// codeNoSuchBucket is the store's word for a place that is not there.
const codeNoSuchBucket = "NoSuchBucket"

// attempt sends one object once and says what that means. It is called by the uploader, for one task at a
// time.
func (m *Manager) attempt(ctx context.Context, t *task) (outcome, time.Duration) {
	s := t.batch.stream
	if s.state() == buffer.Discarding {
		return s.discardObject(ctx, t)
	}
	t.attempts++
	began := time.Now()
	kind, err := s.put(ctx, t)
	if err == nil && t.finishes() && !sabotageConfirmStaged {
		buffer.CrashPoint("object-staged")
		s.metrics.attempt(s.name, kind, outcomeStored, time.Since(began))
		return staged, 0
	}
	if err == nil || sabotageDropLate && t.attempts > 4 {
		buffer.CrashPoint("object-stored")
		s.stored(t, kind, time.Since(began))
		return done, 0
	}
	if ctx.Err() != nil {
		return shutdown, 0
	}
	if s.state() == buffer.Discarding {
		return s.discardObject(ctx, t)
	}
	s.attemptFailed(t, kind, err)
	return s.afterFailure(ctx, t, err)
}

// sending bounds the time that an attempt may take. It ends at once when the stream is to be discarded.
func (s *stream) sending(ctx context.Context, t *task) (bounded context.Context, end func()) {
	bounded, cancel := context.WithTimeout(ctx, attemptTime+time.Duration(t.info().Size/attemptRate)*time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.def.State == buffer.Discarding || t.wanted {
		cancel()
	}
	s.sends[t] = cancel
	return bounded, func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.sends, t)
	}
}

// localError is a failure before the destination was asked.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// put makes the object exist. kind is the destination's, as metrics call it.
func (s *stream) put(ctx context.Context, t *task) (kind string, err error) {
	info := t.info()
	to, first, kind, err := s.placesFor(t)
	if err != nil {
		return kind, &localError{err}
	}
	defer s.release(to.v)
	if err := s.book.decided(t.batch.manifest); err != nil {
		return kind, &localError{err}
	}
	if !to.forgets {
		s.suspect(t, first, to)
	}
	r, err := s.store.OpenObject(t.batch.manifest, t.object)
	if err != nil {
		return kind, &localError{fmt.Errorf("open the bytes of %q: %w", info.Key, err)}
	}
	defer r.Close()
	ctx, end := s.sending(ctx, t)
	defer end()
	o, err := s.object(t, r)
	if err != nil {
		return kind, err
	}
	// Where the stream has another place by now, the object may be at a former one: then it stays there. Only
	// where it certainly is not does it go to the new one.
	if found, err := s.lookAt(ctx, t, o, func(p place) bool { return p.name != to.name && !to.forgets }); err != nil {
		return kind, fmt.Errorf("ask a former destination for %q: %w", info.Key, err)
	} else if found {
		return kind, nil
	}
	if sabotageConfirmEarly {
		s.store.Confirm(t.batch.manifest.ID, t.object)
	}
	if sabotageNewKey && t.attempts > 1 {
		o.Key, _ = renamed(o.Key, uuid.New())
	}
	buffer.CrashPoint("object-sending")
	if err := to.sink.Put(ctx, o); err != nil {
		if sinks.ClassOf(err) == sinks.Unknown && !to.forgets {
			s.mayBeAt(t, to)
		}
		return kind, fmt.Errorf("put %q: %w", info.Key, err)
	}
	t.stagedIn = to.sink
	return kind, nil
}

// doubtful tells whether the object may be stored somewhere that can be asked.
func (t *task) doubtful() bool {
	if t.finishes() {
		return t.left || t.finished
	}
	if p := t.batch.use.pipe; p != nil {
		if d := p.destination(t.info().Destination); d != nil && d.AtLeastOnce {
			return false
		}
	}
	return t.left || len(t.places) > 0
}

// suspect notes the places that may have the object although this process knows of no lost answer: those that an
// earlier process may have sent it to, which are the one that it was made for and all that the stream has had
// since, and, once the stream has another place, the one that it was made for.
func (s *stream) suspect(t *task, first, to place) {
	if t.left {
		for _, p := range s.formerPlaces(t.batch.use, t.info().Destination) {
			s.mayBeAt(t, p)
		}
		s.mayBeAt(t, first)
		s.mayBeAt(t, to) // with its newest credentials
		s.mu.Lock()
		t.left = false
		s.explainLocked()
		s.mu.Unlock()
	}
	if first.name != to.name && !t.moved {
		t.moved = true
		s.mayBeAt(t, first)
	}
}

// mayBeAt notes a place that may have the object. Its version is kept meanwhile.
func (s *stream) mayBeAt(t *task, p place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.since = time.Now()
	s.useLocked(p.v)
	for i, old := range t.places {
		if old.name == p.name {
			t.places[i] = p // its newest credentials
			s.unuseLocked(old.v)
			return
		}
	}
	t.places = append(t.places, p)
}

// lookAt asks those places that may have the object whether they do, and forgets those that certainly do not. An
// error says that one of them did not tell.
func (s *stream) lookAt(ctx context.Context, t *task, o sinks.Object, which func(place) bool) (found bool, err error) {
	for i := 0; i < len(t.places); {
		p := t.places[i]
		if !which(p) {
			i++
			continue
		}
		err := p.sink.Verify(ctx, o)
		if err == nil {
			return true, nil
		}
		if !nowhere(err) {
			return false, err
		}
		if left := lingering - time.Since(p.since); left > 0 {
			return false, &tooSoon{left}
		}
		t.places = slices.Delete(t.places, i, i+1)
		s.release(p.v)
	}
	return false, nil
}

// tooSoon says that the object is not there and may turn up for so long.
type tooSoon struct{ left time.Duration }

func (e *tooSoon) Error() string {
	return fmt.Sprintf("it is not there; a request that was cut off may still arrive within %s", e.left.Round(time.Second))
}

// lookFor tells whether any place has the object that an answer was lost from. Where one does not say, it is an
// error.
func (s *stream) lookFor(ctx context.Context, t *task) (found bool, kind string, err error) {
	if t.finishes() {
		return s.skip(ctx, t)
	}
	info := t.info()
	to, first, kind, err := s.placesFor(t)
	if err != nil {
		return false, kind, err
	}
	defer s.release(to.v)
	s.suspect(t, first, to)
	r, err := s.store.OpenObject(t.batch.manifest, t.object)
	if err != nil {
		return false, kind, fmt.Errorf("open the bytes of %q: %w", info.Key, err)
	}
	defer r.Close()
	ctx, end := s.sending(ctx, t)
	defer end()
	o, err := s.object(t, r)
	if err != nil {
		return false, kind, err
	}
	if found, err = s.lookAt(ctx, t, o, func(place) bool { return true }); err != nil {
		return false, kind, fmt.Errorf("look for %q: %w", info.Key, err)
	}
	return found, kind, nil
}

// nowhere tells whether a Verify's answer means that the object is certainly not there.
func nowhere(err error) bool {
	if e, ok := errors.AsType[*sinks.Error](err); ok && e.Class == sinks.RefusedDestination {
		return e.Code == codeNoSuchBucket
	}
	return sinks.ClassOf(err) == sinks.NotStored
}

// object is what a sink gets.
func (s *stream) object(t *task, r io.ReaderAt) (sinks.Object, error) {
	info, id := t.info(), t.batch.manifest.ID
	meta := map[string]string{
		sinks.MetaManifestID: hex.EncodeToString(id[:]),
		sinks.MetaSHA256:     hex.EncodeToString(info.SHA256[:]),
		sinks.MetaFirstSeq:   strconv.FormatUint(info.FirstSeq, 10),
		sinks.MetaCount:      strconv.FormatInt(info.Records, 10),
		sinks.MetaStream:     s.name,

		sinks.MetaRole:        s.roleOf(info.Role),
		sinks.MetaDirectory:   s.directoryID,
		sinks.MetaIncarnation: strconv.FormatUint(uint64(s.incarnation), 10),
		sinks.MetaRangeFirst:  strconv.FormatUint(t.batch.manifest.First, 10),
		sinks.MetaRangeNext:   strconv.FormatUint(t.batch.manifest.Next, 10),
	}
	if info.SchemaVersion != "" {
		meta[sinks.MetaSchemaVersion] = info.SchemaVersion
	}
	if r := info.Refusal; r != (buffer.Refusal{}) {
		meta[sinks.MetaErrorCode], meta[sinks.MetaErrorMessage], meta[sinks.MetaAttempts] = r.Code, r.Message, strconv.FormatInt(r.Attempts, 10)
	}
	o := sinks.Object{
		Key:             info.Key,
		Size:            info.Size,
		SHA256:          info.SHA256,
		CRC64NVME:       info.CRC64NVME,
		ContentType:     info.ContentType,
		ContentEncoding: info.ContentEncoding,
		Meta:            meta,
		ReaderAt:        r,
	}
	if requests := t.requests(); requests != nil {
		return s.requestObject(t, o, requests)
	}
	return o, nil
}

// afterFailure decides, by the class of the error, what becomes of an object that was not put.
func (s *stream) afterFailure(ctx context.Context, t *task, err error) (outcome, time.Duration) {
	info, slow := t.info(), backoff(t.attempts, slowBase, slowCap)
	if soon, ok := errors.AsType[*tooSoon](err); ok {
		return local, soon.left
	}
	if _, ok := errors.AsType[*localError](err); ok {
		s.alarm("local", "object cannot be sent", "key", info.Key, "err", err)
		return local, slow
	}
	var after time.Duration
	full := false
	if e, ok := errors.AsType[*sinks.Error](err); ok {
		after, full = e.After, e.Full
	}
	class := sinks.ClassOf(err)
	if class != sinks.Damaged && class != sinks.TooLarge && t.requests() != nil {
		return s.afterRequest(ctx, t, class, after, err)
	}
	switch class {
	case sinks.RefusedDestination:
		d, alone, known := s.up.deniedFor(t.lane, t, time.Now())
		switch {
		case !known:
			s.alarm("destination", "destination refuses; nothing is lost, it is asked again until it takes the backlog", "key", info.Key, "err", err)
			return unwell, max(slow, after)
		case !alone:
			return local, max(slow, after)
		case d < deniedAlone || full || info.Role == buffer.Error:
			s.alarm("denied", "object is refused while others are stored", "key", info.Key, "err", err)
			return again, max(slow, after)
		}
		return s.divert(ctx, t, err)
	case sinks.TooLarge, sinks.RefusedObject:
		if class == sinks.TooLarge && t.requests() != nil {
			return s.halve(ctx, t, err)
		}
		if info.Role == buffer.Error {
			s.alarm("error output", "object of the error output is refused; it is kept and tried again", "key", info.Key, "err", err)
			return again, max(slow, after)
		}
		return s.divert(ctx, t, err)
	case sinks.Foreign:
		if t.finishes() && t.doubtful() { // under its new name it would be another part
			found, kind, err := s.lookFor(ctx, t)
			switch {
			case found:
				s.loaded(t, kind)
				return done, 0
			case ctx.Err() != nil:
				return shutdown, 0
			case err != nil:
				s.alarm("foreign", "somebody else's object stands under the key of ours, and the database does not say whether it has ours", "key", info.Key, "err", err)
				return again, slow
			}
		}
		s.alarm("foreign", "somebody else's object stands under the key of ours; ours gets another key", "key", info.Key, "err", err)
		key, ok := renamed(info.Key, uuid.New())
		if !ok {
			key = info.Key + "-" + uuid.NewString()
		}
		return s.replace(ctx, t, key, info.Role, "foreign object under the key")
	case sinks.Damaged:
		return s.damaged(ctx, t, err)
	case sinks.NotStored, sinks.Unknown:
	}
	if key, ok := renamed(info.Key, uuid.New()); ok && sabotageReplaceSent && t.attempts == 3 {
		return s.replace(ctx, t, key, info.Role, "it may have been stored")
	}
	s.notice("attempts", "delivery attempt failed", "key", info.Key, "attempts", t.attempts, "err", err)
	return unwell, after
}

// divert gives the object up for its place: the same bytes go under the error output.
func (s *stream) divert(ctx context.Context, t *task, cause error) (outcome, time.Duration) {
	info := t.info()
	if t.doubtful() {
		// An attempt whose answer was lost may have stored it, and a store that has an object can refuse it
		// afterwards: credentials that have changed, a gateway with another limit.
		found, kind, err := s.lookFor(ctx, t)
		switch {
		case found:
			s.stored(t, kind, 0)
			return done, 0
		case ctx.Err() != nil:
			return shutdown, 0
		case err != nil:
			if soon, ok := errors.AsType[*tooSoon](err); ok {
				return local, soon.left
			}
			s.alarm("refused", "object is refused, and the destination does not say whether an earlier attempt has stored it; it is kept and tried again", "key", info.Key, "refusal", cause, "err", err)
			return again, backoff(t.attempts, slowBase, slowCap)
		}
	}
	s.alarm("refused", "object is refused for good and goes to the error output as it is", "key", info.Key, "err", cause)
	p := t.batch.use.pipe
	key, err := p.errorKey(deliveryFailed, s.name, t.batch.manifest.Version, info.Oldest, extensionOf(info.Key))
	if err != nil {
		s.alarm("error output", "no key for the error output; object is kept and tried again", "key", info.Key, "err", err)
		return again, backoff(t.attempts, slowBase, slowCap)
	}
	return s.replace(ctx, t, key, buffer.Error, "refused: "+cause.Error())
}

// maxReason bounds the reason that a frame keeps.
const maxReason = 1000

// replace puts the same bytes under another key into a manifest of their own. When it is durable the old
// object is never sent again.
func (s *stream) replace(ctx context.Context, t *task, key string, role buffer.Role, reason string) (outcome, time.Duration) {
	to := t.info().Destination
	if pipe := t.batch.use.pipe; role == buffer.Error && role != t.info().Role && pipe != nil {
		to = pipe.errors().ID
	}
	head, p, err := s.copyObject(t, key, role, to)
	if err != nil {
		return s.notReplaced(ctx, t, err)
	}
	return s.exchange(ctx, t, head, p, key, reason)
}

// notReplaced decides what becomes of an object in whose place nothing could be made.
func (s *stream) notReplaced(ctx context.Context, t *task, err error) (outcome, time.Duration) {
	if _, ok := errors.AsType[*damage](err); ok || errors.Is(err, format.ErrDamaged) {
		return s.damaged(ctx, t, err)
	}
	s.alarm("replace", "object cannot be replaced now", "key", t.info().Key, "err", err)
	return again, backoff(t.attempts, retryBase, retryCap)
}

// exchange puts the objects of a sealed pack, the first of which has a key, in the place of one.
func (s *stream) exchange(ctx context.Context, t *task, head buffer.ManifestHead, p pack, key, reason string) (outcome, time.Duration) {
	retry := backoff(t.attempts, retryBase, retryCap)
	if ctx.Err() != nil {
		p.Abort()
		return shutdown, 0
	}
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	// A journal that fails keeps this waiting until it can be written or is closed, and it is closed when the
	// deliveries have ended. So a process that ends does not wait: the next one finds out.
	var m *buffer.Manifest
	d, err := s.book.replacing(t, head)
	if err != nil {
		p.Abort()
		s.alarm("replace", "object cannot be replaced now", "key", t.info().Key, "err", err)
		return again, retry
	}
	decided := make(chan struct{})
	go func() {
		defer close(decided)
		m, err = s.store.Replace(t.batch.manifest.ID, []int{t.object}, []pack{p}, head, reason)
	}()
	select {
	case <-decided:
	case <-ctx.Done():
		return shutdown, 0
	}
	if err != nil {
		p.Abort()
		s.alarm("replace", "object cannot be replaced now", "key", t.info().Key, "err", err)
		return again, retry
	}
	s.book.expect(m, d)
	s.replaced(t, m, key)
	return done, 0
}

// damage says that the bytes of an object are not those that its manifest fixed.
type damage struct{ key string }

func (d *damage) Error() string {
	return fmt.Sprintf("the bytes of %q do not have the checksum that was fixed for them", d.key)
}

// replacement is the head of the manifest that takes an object's place.
func (s *stream) replacement(t *task, role buffer.Role) buffer.ManifestHead {
	info, m := t.info(), t.batch.manifest
	head := buffer.ManifestHead{
		ID:          s.store.NewManifestID(),
		Incarnation: m.Incarnation,
		Consumer:    m.Consumer,
		Version:     m.Version,
		Epoch:       m.Epoch,
		First:       m.First,
		Next:        m.Next,
		Replaces:    m.ID,
		Replaced:    []int{t.object},
	}
	if role == buffer.Error {
		head.Counts.Failed = info.Records
	} else {
		head.Counts.OK = info.Records
	}
	return head
}

// copyObject writes the object's bytes into a new pack, under another key and for a destination, and seals it.
func (s *stream) copyObject(t *task, key string, role buffer.Role, destination string) (head buffer.ManifestHead, p pack, err error) {
	info, m := t.info(), t.batch.manifest
	head = s.replacement(t, role)
	r, err := s.store.OpenObject(m, t.object)
	if err != nil {
		return head, nil, fmt.Errorf("open the bytes of %q: %w", info.Key, err)
	}
	defer r.Close()
	if p, err = s.store.NewPack(); err != nil {
		return head, nil, fmt.Errorf("start a pack: %w", err)
	}
	made := p // the returns below set p
	defer func() {
		if err != nil {
			made.Abort()
		}
	}()
	object := info.ObjectHead
	object.Key, object.Role, object.Destination = key, role, destination
	w, err := p.Begin(object)
	if err != nil {
		return head, nil, fmt.Errorf("begin %q: %w", key, err)
	}
	hash := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, hash), io.NewSectionReader(r, 0, info.Size)); err != nil {
		return head, nil, fmt.Errorf("copy %q: %w", info.Key, err)
	}
	if [32]byte(hash.Sum(nil)) != info.SHA256 {
		return head, nil, &damage{info.Key}
	}
	if err := p.End(info.Records, info.FirstSeq, info.Oldest); err != nil {
		return head, nil, fmt.Errorf("end %q: %w", key, err)
	}
	if err := p.Seal(head); err != nil {
		return head, nil, fmt.Errorf("seal the pack of %q: %w", key, err)
	}
	return head, p, nil
}

// damaged looks for itself whether the bytes are wrong, as somebody's memory may be, and sets the object
// aside if so: to make it again would be to decide again.
func (s *stream) damaged(ctx context.Context, t *task, cause error) (outcome, time.Duration) {
	info, retry := t.info(), backoff(t.attempts, slowBase, slowCap)
	intact, err := s.intact(t)
	if err != nil {
		s.alarm("damage", "object cannot be read", "key", info.Key, "err", err)
		return local, retry
	}
	if intact {
		s.alarm("damage", "sink read wrong bytes, here they are right; tried again", "key", info.Key, "err", cause)
		return local, retry
	}
	if t.doubtful() {
		// The bytes may have been right when they were sent. Then nothing is lost.
		found, kind, err := s.lookFor(ctx, t)
		switch {
		case found:
			s.stored(t, kind, 0)
			return done, 0
		case ctx.Err() != nil:
			return shutdown, 0
		case err != nil:
			s.alarm("damage", "object is damaged here, and the destination does not say whether it has it; asked again", "key", info.Key, "err", err)
			return local, retry
		}
	}
	lost, err := s.book.losing(t)
	if err != nil {
		s.alarm("damage", "damaged object cannot be set aside now", "key", info.Key, "err", err)
		return local, retry
	}
	file, err := s.store.SetAside(t.batch.manifest.ID, []int{t.object}, cause.Error())
	if err != nil {
		s.alarm("damage", "damaged object cannot be set aside now", "key", info.Key, "err", err)
		return local, retry
	}
	s.book.lose(t, lost)
	s.setAside(t, file)
	return done, 0
}

// intact hashes the object's bytes.
func (s *stream) intact(t *task) (bool, error) {
	info := t.info()
	r, err := s.store.OpenObject(t.batch.manifest, t.object)
	if err != nil {
		return false, fmt.Errorf("open the bytes of %q: %w", info.Key, err)
	}
	defer r.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(r, 0, info.Size)); err != nil {
		return false, fmt.Errorf("read %q: %w", info.Key, err)
	}
	return [32]byte(hash.Sum(nil)) == info.SHA256, nil
}
