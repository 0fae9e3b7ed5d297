package buffer

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"hydrant/buffer/forgetfs"
)

// A consumer that is left out gets what came before, over crashes and at whatever time it is cut, and nothing since; the
// journal keeps nothing for it then, and it is gone when all has ended. The one that follows begins behind it.
func TestConsumerEnds(t *testing.T) { synctest.Test(t, testConsumerEnds) }

func testConsumerEnds(t *testing.T) {
	x := openBench(t, Options{FS: forgetfs.New()})
	both, err := x.Define(Stream{Name: "clicks", Consumers: []uint8{Main, Backup}, Spec: []byte("with")})
	if err != nil {
		t.Fatal(err)
	}
	seqs := func(c *Consumer) (got string) {
		if k := c.Take(0, 1<<40); k != nil {
			for r := range k.Rows() {
				got += fmt.Sprintf("%d ", r.Seq)
			}
			k.Release()
		}
		return got
	}
	x.append("clicks", "a", "b")
	x.append("clicks", "c")
	s, err := x.Define(Stream{Name: "clicks", Consumers: []uint8{Main}, Spec: []byte("without")})
	if err != nil || s.Version != 2 {
		t.Fatalf("version %d, %v", s.Version, err)
	}
	x.append("clicks", "d")
	if _, err := x.Define(Stream{Name: "clicks", Consumers: []uint8{Main, Backup}, Spec: []byte("with")}); err == nil {
		t.Error("a consumer that has not ended begins again")
	}
	if _, err := x.Define(Stream{Name: "clicks", Consumers: []uint8{Backup}, Spec: []byte("without")}); err == nil {
		t.Error("the main consumer is taken away")
	}
	for i := range 4 {
		c := x.Consumer(s.Incarnation, Backup)
		if got := seqs(c); got != "1 2 3 " {
			t.Fatalf("after %d crashes the consumer that ends has %s", i, got)
		}
		if got, want := c.Totals(), (Totals{Accepted: 3, Waiting: 3}); got != want {
			t.Errorf("totals %+v, want %+v", got, want)
		}
		version, ends := x.Ending(s.Incarnation, Backup)
		if old, known := x.StreamVersion(s.Incarnation, version); !ends || version != 1 || !known || string(old.Spec) != "with" || !slices.Equal(old.Consumers, both.Consumers) {
			t.Errorf("it ends: %v, under version %d, %+v", ends, version, old)
		}
		x.crash(uint64(i))
	}
	// A part of it is in a raw run when the rest is cut.
	c := x.Consumer(s.Incarnation, Backup)
	if _, err := c.Spill(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	x.crash(9)
	c = x.Consumer(s.Incarnation, Backup)
	if got := seqs(c); got != "1 2 3 " {
		t.Fatalf("after a spill the consumer that ends has %s", got)
	}
	k := c.Take(0, 1<<40)
	first, next := k.Range()
	p, err := x.NewPack()
	if err != nil {
		t.Fatal(err)
	}
	h := ManifestHead{ID: x.NewManifestID(), Incarnation: s.Incarnation, Consumer: Backup, Version: 1, Epoch: c.NewEpoch(), First: first, Next: next, Counts: Counts{OK: 3}}
	w, err := p.Begin(ObjectHead{Key: "copy", Role: Data, Destination: "d"})
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("abc"))
	if err := p.End(3, 1, 1); err != nil {
		t.Fatal(err)
	}
	if err := p.Seal(h); err != nil {
		t.Fatal(err)
	}
	m, err := x.Cut(k, []*Pack{p}, h)
	if err != nil {
		t.Fatal(err)
	}
	if st := x.ledger.streams[s.Incarnation]; st.covered() != st.consumer(Main).position {
		t.Errorf("the journal keeps rows from %d on, main stands at %d", st.covered(), st.consumer(Main).position)
	}
	for range 2 {
		if s, err = x.Define(s); err != nil {
			t.Fatal(err)
		}
		if _, ends := x.Ending(s.Incarnation, Backup); !ends || len(x.Outstanding()) != 1 {
			t.Fatalf("it is gone before its manifest has ended")
		}
		x.crash(11)
	}
	x.Confirm(m.ID, 0)
	time.Sleep(2 * confirmDelay)
	x.append("clicks", "e")
	if s, err = x.Define(s); err != nil || s.Version != 2 {
		t.Fatalf("version %d, %v", s.Version, err)
	}
	for range 2 {
		if _, ends := x.Ending(s.Incarnation, Backup); ends || x.Consumer(s.Incarnation, Backup) != nil {
			t.Error("the consumer is still there")
		}
		x.balanced(s)
		x.crash(12)
	}
	if s, err = x.Define(Stream{Name: "clicks", Consumers: []uint8{Main, Backup}, Spec: []byte("with")}); err != nil || s.Version != 3 {
		t.Fatalf("version %d, %v", s.Version, err)
	}
	x.append("clicks", "f")
	x.crash(13)
	if got := seqs(x.Consumer(s.Incarnation, Backup)); got != "6 " {
		t.Errorf("the next one has %s", got)
	}
	if got := seqs(x.Consumer(s.Incarnation, Main)); got != "1 2 3 4 5 6 " {
		t.Errorf("main has %s", got)
	}
}

// A consumer that had everything when it was left out is gone with the next Define.
func TestConsumerEndsAtOnce(t *testing.T) { synctest.Test(t, testConsumerEndsAtOnce) }

func testConsumerEndsAtOnce(t *testing.T) {
	x := openBench(t, Options{FS: forgetfs.New()})
	for _, list := range [][]uint8{{Main, Backup}, {Main}, {Main}, {Main, Backup}} {
		if _, err := x.Define(Stream{Name: "clicks", Consumers: list}); err != nil {
			t.Fatalf("consumers %v: %v", list, err)
		}
		x.crash(3)
	}
	s := x.Streams()[0]
	x.append("clicks", "a")
	if got, want := x.Consumer(s.Incarnation, Backup).Totals(), (Totals{Accepted: 1, Waiting: 1}); got != want {
		t.Errorf("totals %+v, want %+v", got, want)
	}
}
