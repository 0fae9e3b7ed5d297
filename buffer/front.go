package buffer

// front is the memory in which durable rows wait for delivery, one queue per stream and consumer. The
// committer alone calls push, publish and drop. Safe for concurrent use otherwise.
type front struct{ budget int64 }

// newFront makes a front with a budget of slab bytes. The budget is enforced by space.reservePut; push
// always succeeds.
func newFront(budget int64) *front { return &front{budget: budget} }

// add declares a consumer of a stream whose rows below next it has covered, and returns its reader.
func (f *front) add(b *Buffer, incarnation uint32, consumer uint8, next uint64) *Consumer {
	panic("bug: not built yet")
}

// remove forgets a stream that is gone; nothing of it waits.
func (f *front) remove(incarnation uint32) { panic("bug: not built yet") }

// consumer returns what add returned, or nil.
func (f *front) consumer(incarnation uint32, consumer uint8) *Consumer { panic("bug: not built yet") }

// push adds the records of one call, in sequence order for each stream (gaps are allowed, they hold
// nothing). encoded is laid out as record.Batch.Encoded. Where adoptable is true and the call is large,
// the front keeps encoded itself and returns true: nobody may write to that buffer any more. Otherwise it
// is copied. Each consumer of the stream gets what is at or above its position. The rows cannot be taken
// before publish.
func (f *front) push(incarnation uint32, firstSeq uint64, count int, arrived int64, encoded []byte, adoptable bool) (adopted bool) {
	panic("bug: not built yet")
}

// publish makes everything pushed so far takeable: the group is durable.
func (f *front) publish() { panic("bug: not built yet") }

// drop forgets everything pushed since the last publish: the group could not be stored.
func (f *front) drop() { panic("bug: not built yet") }

// hole tells one consumer that [first, next) is lost, in sequence order with push. No claim spans it, and
// position steps over it.
func (f *front) hole(incarnation uint32, consumer uint8, first, next uint64) {
	panic("bug: not built yet")
}

// position is the sequence below which the consumer has covered everything.
func (f *front) position(incarnation uint32, consumer uint8) uint64 { panic("bug: not built yet") }

// press sets or clears the ring's wish that this consumer closes its epoch: its rows keep a slot in use
// that the journal needs.
func (f *front) press(incarnation uint32, consumer uint8, on bool) { panic("bug: not built yet") }

// close stops what the front has started. Rows that are claimed stay readable.
func (f *front) close() {}
