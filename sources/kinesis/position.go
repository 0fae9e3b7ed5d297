package kinesis

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"hydrant/sources"
)

// identity tells a stream from all others in positions, also from one that had its name before: twelve hexadecimal digits.
func identity(s Stream) string {
	sum := sha256.Sum256([]byte(s.ARN + " " + strconv.FormatInt(s.Created.Unix(), 10)))
	return hex.EncodeToString(sum[:6])
}

// position is a Checkpoint as the Inlet keeps it: the stream's identity, a space and the Checkpoint's form.
func position(identity string, c Checkpoint) sources.Position {
	return c.append(append([]byte(identity), ' '))
}

// parsePosition reads it. ok is false where there is none, or it is of another stream.
func parsePosition(identity string, p sources.Position) (c Checkpoint, ok bool) {
	text, ok := strings.CutPrefix(string(p), identity+" ")
	if !ok {
		return Checkpoint{}, false
	}
	c, err := parseCheckpoint(text)
	return c, err == nil
}
