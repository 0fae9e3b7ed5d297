package buffer

import "fmt"

// Discard gives up objects of m for good: they are never sent and nothing takes their place. Their records are
// counted as dropped instead of what the manifest had counted them as, and when nothing else of m is left its
// packs go. Durable on return. An object that was sent without an answer may be in its destination all the
// same. Errors: ErrUnknownManifest, ErrFailing, ErrClosed, or what is wrong with the objects; a caller that goes
// on after ErrFailing may only discard them again, since a crash may find the frame.
func (b *Buffer) Discard(m ManifestID, objects []int, reason string) error {
	numbers, err := b.distinct(objects)
	if err != nil {
		return fmt.Errorf("discard objects of manifest %x: %w", m, err)
	}
	err = b.endUnsent(m, numbers, func(minus Counts) *replaceEvent {
		return &replaceEvent{Reason: cut(reason, 128), Discard: true, Dropped: minus.OK + minus.Failed}
	})
	if err != nil {
		return fmt.Errorf("discard objects of manifest %x: %w", m, err)
	}
	return nil
}
