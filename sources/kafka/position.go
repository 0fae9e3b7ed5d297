package kafka

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"hydrant/sources"
)

// topicID is the UUID that a broker gave to a topic; zero where it gives none.
type topicID [16]byte

func (t topicID) String() string { return hex.EncodeToString(t[:]) }

// position is where reading of a partition goes on.
type position struct {
	Group  uint64  // hash of the group's name: another group begins anew
	Topic  topicID // what the offset is of: a topic that was made anew has another
	Turn   uint32  // how many times offsets have begun again below, since a log was cut: later turns are further
	Epoch  int32   // of the leader that gave out the record before; -1: not known
	Offset int64   // of the next record
}

// A Position of a lane is
//
//	 0  version, 1
//	 1  hash of the group's name, big endian
//	 9  id of the topic
//	25  turn, big endian
//	29  leader epoch, big endian
//	33  offset of the next record, big endian
const (
	positionVersion = 1
	positionSize    = 41
)

func (p position) encode() sources.Position {
	b := make([]byte, 0, positionSize)
	b = append(b, positionVersion)
	b = binary.BigEndian.AppendUint64(b, p.Group)
	b = append(b, p.Topic[:]...)
	b = binary.BigEndian.AppendUint32(b, p.Turn)
	b = binary.BigEndian.AppendUint32(b, uint32(p.Epoch))
	return binary.BigEndian.AppendUint64(b, uint64(p.Offset))
}

var errPosition = errors.New("not a position in a Kafka partition")

func parsePosition(b sources.Position) (position, error) {
	if len(b) != positionSize || b[0] != positionVersion {
		return position{}, errPosition
	}
	var p position
	p.Group = binary.BigEndian.Uint64(b[1:])
	copy(p.Topic[:], b[9:])
	p.Turn = binary.BigEndian.Uint32(b[25:])
	p.Epoch = int32(binary.BigEndian.Uint32(b[29:]))
	p.Offset = int64(binary.BigEndian.Uint64(b[33:]))
	if p.Offset < 0 {
		return position{}, errPosition
	}
	return p, nil
}

// after tells whether p is further than q, of the same topic.
func (p position) after(q position) bool {
	if p.Turn != q.Turn {
		return p.Turn > q.Turn
	}
	return p.Offset > q.Offset
}

func groupHash(group string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(group))
	return h.Sum64()
}

// commitNote is what is committed beside an offset, so that whoever gets the partition next knows which topic it is of,
// and when the source began to read from its latest records.
type commitNote struct {
	Topic topicID
	Turn  uint32
	Start time.Time // zero: it does not begin at a time
}

const noteVersion = "hydrant/1"

// encode makes "hydrant/1 topic=00112233445566778899aabbccddeeff start=1700000000000".
func (n commitNote) encode() string {
	s := noteVersion + " topic=" + n.Topic.String()
	if n.Turn != 0 {
		s += " turn=" + strconv.FormatUint(uint64(n.Turn), 10)
	}
	if !n.Start.IsZero() {
		s += " start=" + strconv.FormatInt(n.Start.UnixMilli(), 10)
	}
	return s
}

// parseCommitNote reads what encode wrote, and nothing of what others commit. Fields that it does not know are of a later
// version and left alone.
func parseCommitNote(s string) (n commitNote, ok bool) {
	fields := strings.Split(s, " ")
	if fields[0] != noteVersion {
		return n, false
	}
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(f, "=")
		switch key {
		case "topic":
			id, err := hex.DecodeString(value)
			if err != nil || len(id) != len(n.Topic) {
				return commitNote{}, false
			}
			copy(n.Topic[:], id)
		case "turn":
			turn, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return commitNote{}, false
			}
			n.Turn = uint32(turn)
		case "start":
			ms, err := strconv.ParseInt(value, 10, 64)
			if err != nil || ms < 0 {
				return commitNote{}, false
			}
			n.Start = time.UnixMilli(ms).UTC()
		}
	}
	return n, true
}

// A note "@start" holds the group's hash and the time that "latest" meant, in milliseconds since 1970.
const startLane = "@start"

func encodeStart(group uint64, at time.Time) sources.Position {
	b := binary.BigEndian.AppendUint64([]byte{positionVersion}, group)
	return binary.BigEndian.AppendUint64(b, uint64(at.UnixMilli()))
}

func parseStart(b sources.Position) (group uint64, at time.Time, err error) {
	if len(b) != 17 || b[0] != positionVersion {
		return 0, time.Time{}, errPosition
	}
	return binary.BigEndian.Uint64(b[1:]), time.UnixMilli(int64(binary.BigEndian.Uint64(b[9:]))).UTC(), nil
}

// partition is one of a topic.
type partition struct {
	topic  string
	number int32
}

func (p partition) String() string {
	return "partition " + strconv.Itoa(int(p.number)) + " of topic " + p.topic
}

// lane is the partition's name for ever.
func (p partition) lane() (string, error) {
	name := p.topic + "-" + strconv.Itoa(int(p.number))
	if len(name) > sources.MaxLane {
		return "", fmt.Errorf("%v: its name has more than %d characters with its number: it cannot be read", p, sources.MaxLane)
	}
	return name, nil
}

// parseLane is the inverse of lane. false: it is the name of something else.
func parseLane(name string) (partition, bool) {
	i := strings.LastIndexByte(name, '-')
	if i <= 0 || name[0] == '@' {
		return partition{}, false
	}
	n, err := strconv.ParseInt(name[i+1:], 10, 32)
	p := partition{name[:i], int32(n)}
	if again, bad := p.lane(); err != nil || bad != nil || n < 0 || again != name {
		return partition{}, false
	}
	return p, true
}
