package sourcetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"hydrant/sources"
)

func rows(lane, next string, data ...string) sources.Rows {
	r := sources.Rows{Lane: lane, Arrived: time.Unix(1, 0), Next: sources.Position(next)}
	for _, d := range data {
		r.Data = append(r.Data, []byte(d))
	}
	return r
}

func expect(t *testing.T, what string, got sources.Position, want string) {
	t.Helper()
	if string(got) != want {
		t.Errorf("%s is %q, want %q", what, got, want)
	}
}

// A crash loses what was in memory and nothing else, and positions move with the rows.
func TestCrash(t *testing.T) {
	var to Destination
	disk := NewDisk(t, &to)
	in := disk.Open(Options{})
	if err := in.Append(t.Context(), rows("a", "2", "r0", "r1")); err != nil {
		t.Fatal(err)
	}
	expect(t, "Position", in.Position("a"), "2")
	in.Crash()
	in = disk.Open(Options{})
	expect(t, "Position after the crash", in.Position("a"), "")
	if err := in.Append(t.Context(), rows("a", "2", "r0", "r1")); err != nil {
		t.Fatal(err)
	}
	in.Persist()
	expect(t, "Delivered of a run", in.Delivered("a"), "")
	in.Crash()
	in = disk.Open(Options{})
	expect(t, "Position of a run", in.Position("a"), "2")
	if err := in.Append(t.Context(), rows("a", "3", "r2")); err != nil {
		t.Fatal(err)
	}
	in.Release("a")
	expect(t, "Position after a release", in.Position("a"), "2")
	if err := in.Note(t.Context(), "@start", sources.Position("now")); err != nil {
		t.Fatal(err)
	}
	in.Close()
	in = disk.Open(Options{})
	defer in.Close()
	expect(t, "Delivered", in.Delivered("a"), "2")
	expect(t, "the note", in.Position("@start"), "now")
	if got := to.Times(); len(got) != 2 || got["r0"] != 1 || got["r1"] != 1 {
		t.Errorf("delivered %v", got)
	}
}

// An Append waits for room, until its ctx ends, the lane is released, or something is delivered.
func TestRoom(t *testing.T) {
	var to Destination
	in := NewDisk(t, &to).Open(Options{Room: 4})
	defer in.Close()
	if err := in.Append(t.Context(), rows("a", "1", "four")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		end  func()
		want error
	}{
		{"released", func() { in.Release("b") }, sources.ErrReleased},
		{"delivered", in.Deliver, nil},
	} {
		got := make(chan error)
		go func() { got <- in.Append(t.Context(), rows("b", "1", "x")) }()
		for waits := false; !waits; { // until it is in Append
			in.disk.mu.Lock()
			waits = in.lane("b").appending
			in.disk.mu.Unlock()
		}
		c.end()
		if err := <-got; !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := in.Append(ctx, rows("c", "1", "four")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v of a canceled ctx", err)
	}
}
