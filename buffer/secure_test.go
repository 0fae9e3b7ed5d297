package buffer

import (
	"context"
	"slices"
	"testing"

	"hydrant/buffer/forgetfs"
	"hydrant/record"
)

// A start is killed before it has synced the headers of its segment, which the next start finds in the page
// cache; that one erases the slot before, and the power goes. What was acknowledged must still be there.
func TestHeadersInThePageCacheOnly(t *testing.T) {
	disk := forgetfs.New()
	open := func() (*Buffer, error) {
		return Open(Options{Dir: "/data", FS: disk, Disk: 64 << 20, SlotSize: minSlotSize, Slots: 6})
	}
	b, err := open()
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.Define(Stream{Name: "clicks"})
	if err != nil {
		t.Fatal(err)
	}
	batch := record.NewBatch(nil)
	batch.Append([]byte("a"))
	if _, _, err := b.Append(context.Background(), "clicks", record.Call{Batch: batch}); err != nil {
		t.Fatal(err)
	}
	disk.Kill()
	b.Close()
	for range 2 {
		disk = disk.Fork()
		// dies at the sync of a header that replaces an erased one: a fresh segment's
		erased, written := "", false
		disk.SetHook(func(op forgetfs.Op) *forgetfs.Fault {
			second := op.Kind == forgetfs.OpWrite && op.Off == minSlotSize-blockSize && len(op.Data) == 1
			switch {
			case second && allZero(op.Data[0]):
				erased = op.Path
			case second && op.Path == erased:
				written = true
			case op.Kind == forgetfs.OpDatasync && written:
				disk.Kill()
			}
			return nil
		})
		if _, err := open(); err == nil {
			t.Fatal("the start did not die")
		}
	}
	disk = disk.Image(forgetfs.None)
	if b, err = open(); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	claim := b.Consumer(s.Incarnation, Main).Take(0, 1<<20)
	if claim == nil {
		t.Fatal("the acknowledged record is lost")
	}
	defer claim.Release()
	if rows := slices.Collect(claim.Rows()); len(rows) != 1 || string(rows[0].Data) != "a" {
		t.Errorf("rows %+v", rows)
	}
}
