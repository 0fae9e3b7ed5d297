package kafka

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"hydrant/sources"
)

func TestPosition(t *testing.T) {
	for _, p := range []position{
		{Epoch: -1},
		{Group: groupHash("g"), Topic: topicID{1, 2, 15: 255}, Turn: 3, Epoch: 7, Offset: 1 << 40},
		{Group: math.MaxUint64, Turn: math.MaxUint32, Epoch: math.MaxInt32, Offset: math.MaxInt64},
	} {
		b := p.encode()
		if len(b) != positionSize || len(b) > sources.MaxPosition {
			t.Errorf("%d bytes", len(b))
		}
		if got, err := parsePosition(b); err != nil || got != p {
			t.Errorf("%+v came back as %+v, %v", p, got, err)
		}
		for _, bad := range []sources.Position{nil, b[:len(b)-1], append(b[:len(b):len(b)], 0), append(sources.Position{2}, b[1:]...)} {
			if _, err := parsePosition(bad); err == nil {
				t.Errorf("%x was taken", bad)
			}
		}
	}
	if _, err := parsePosition(position{Offset: -1}.encode()); err == nil {
		t.Error("an offset below 0 was taken")
	}
	if p := (position{Turn: 1, Offset: 5}); !p.after(position{Offset: 9}) || p.after(position{Turn: 1, Offset: 5}) || !p.after(position{Turn: 1, Offset: 4}) {
		t.Error("order of positions")
	}
}

func TestCommitNote(t *testing.T) {
	id := topicID{0xab, 15: 1}
	for _, c := range []struct {
		note commitNote
		text string
	}{
		{commitNote{}, "hydrant/1 topic=00000000000000000000000000000000"},
		{commitNote{Topic: id}, "hydrant/1 topic=ab000000000000000000000000000001"},
		{commitNote{Topic: id, Turn: 2, Start: time.UnixMilli(1700000000123).UTC()}, "hydrant/1 topic=ab000000000000000000000000000001 turn=2 start=1700000000123"},
	} {
		if got := c.note.encode(); got != c.text {
			t.Errorf("%q, want %q", got, c.text)
		}
		if got, ok := parseCommitNote(c.text + " later=1"); !ok || got != c.note {
			t.Errorf("%q is %+v, %v", c.text, got, ok)
		}
	}
	for _, bad := range []string{"", "kgo-1234", "hydrant/2 topic=00", "hydrant/1 topic=ab", "hydrant/1 topic=zz000000000000000000000000000000", "hydrant/1 start=x", "hydrant/1 start=-1", "hydrant/1 turn=-1", "hydrant/1 turn=4294967296"} {
		if n, ok := parseCommitNote(bad); ok {
			t.Errorf("%q is %+v", bad, n)
		}
	}
}

func TestStart(t *testing.T) {
	at := time.UnixMilli(1700000000123).UTC()
	group, got, err := parseStart(encodeStart(7, at))
	if err != nil || group != 7 || !got.Equal(at) {
		t.Errorf("%d %v %v", group, got, err)
	}
	if _, _, err := parseStart(nil); err == nil {
		t.Error("nothing was taken")
	}
}

func TestLane(t *testing.T) {
	for _, c := range []struct {
		topic string
		ok    bool
	}{{"clicks", true}, {strings.Repeat("x", 252), true}, {strings.Repeat("x", 253), false}} {
		if name, err := (partition{c.topic, 12}).lane(); (err == nil) != c.ok || c.ok && name != c.topic+"-12" {
			t.Errorf("%q, %v", name, err)
		}
		if p, ok := parseLane(c.topic + "-12"); ok != c.ok || ok && p != (partition{c.topic, 12}) {
			t.Errorf("%s-12 is %v, %v", c.topic, p, ok)
		}
	}
	for _, name := range []string{"", "clicks", "-1", "@start-1", "clicks-", "clicks-x", "clicks-01", "clicks-+1", "clicks-2147483648", "clicks--"} {
		if p, ok := parseLane(name); ok {
			t.Errorf("%q is %v", name, p)
		}
	}
}

// TestDecide: whatever is further counts, of the data directory and of the group, if it is of the topic that is there.
func TestDecide(t *testing.T) {
	const g = 9
	a, b := topicID{1}, topicID{2}
	local := func(topic topicID, turn uint32, offset int64) *position {
		return &position{Group: g, Topic: topic, Turn: turn, Epoch: 3, Offset: offset}
	}
	told := func(topic topicID, turn uint32, offset int64) committed {
		return committed{offset: offset, epoch: 4, note: commitNote{Topic: topic, Turn: turn}}
	}
	none := committed{offset: -1}
	for _, c := range []struct {
		name      string
		local     *position
		committed committed
		topic     topicID
		policy    string
		want      string // from, offset, local, gap
	}{
		{"nothing known", nil, none, a, Stop, "start"},
		{"only the group", nil, told(a, 0, 5), a, Stop, "5"},
		{"only the data directory", local(a, 0, 5), none, a, Stop, "5 local"},
		{"rows that are not delivered", local(a, 0, 9), told(a, 0, 5), a, Stop, "9 local"},
		{"equal", local(a, 0, 5), told(a, 0, 5), a, Stop, "5 local"},
		{"somebody else had it", local(a, 0, 5), told(a, 0, 9), a, Stop, "9"},
		{"the log was cut and somebody else went on", local(a, 0, 900), told(a, 1, 20), a, Stop, "20"},
		{"the log was cut and only this one knows", local(a, 1, 20), told(a, 0, 900), a, Stop, "20 local"},
		{"committed by another program", local(a, 0, 5), told(topicID{}, 0, 7), a, Stop, "7"},
		{"brokers without ids", local(topicID{}, 0, 5), told(topicID{}, 0, 4), topicID{}, Stop, "5 local"},
		{"another group", &position{Group: 1, Topic: a, Offset: 50}, none, a, Stop, "start"},
		{"made anew, stop", local(a, 0, 9), told(a, 0, 5), b, Stop, "start gap"},
		{"made anew, earliest", local(a, 0, 9), told(a, 0, 5), b, Earliest, "beginning gap"},
		{"made anew, latest", local(a, 0, 9), none, b, Latest, "end gap"},
		{"made anew, the group knows", nil, told(a, 0, 5), b, Latest, "end gap"},
		{"made anew and read by somebody else", local(a, 0, 900), told(b, 0, 5), b, Stop, "5"},
		{"made anew and read here", local(b, 0, 5), told(a, 0, 900), b, Stop, "5 local"},
	} {
		d := known{group: g, topic: c.topic, local: c.local, committed: c.committed, start: atTime, policy: c.policy}.decide()
		got := map[from]string{atOffset: "", atBeginning: "beginning", atTime: "start", atEnd: "end"}[d.from]
		if d.from == atOffset {
			got = strconv.FormatInt(d.at.Offset, 10)
		} else if d.at.Offset != -1 {
			t.Errorf("%s: an offset of %d", c.name, d.at.Offset)
		}
		if d.local {
			got += " local"
		}
		if d.gap {
			got += " gap"
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzParsePosition(f *testing.F) {
	f.Add([]byte(position{Group: 1, Topic: topicID{2}, Turn: 3, Epoch: 4, Offset: 5}.encode()))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parsePosition(b); err == nil && string(p.encode()) != string(b) {
			t.Errorf("%x is %+v and then %x", b, p, p.encode())
		}
	})
}

func FuzzParseCommitNote(f *testing.F) {
	f.Add("hydrant/1 topic=ab000000000000000000000000000001 turn=2 start=1700000000123")
	f.Add("kgo-1234")
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := parseCommitNote(s)
		if !ok {
			return
		}
		if again, ok := parseCommitNote(n.encode()); !ok || again != n {
			t.Errorf("%q is %+v and then %+v", s, n, again)
		}
	})
}
