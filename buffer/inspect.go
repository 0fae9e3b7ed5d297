package buffer

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"hydrant/buffer/fsys"
)

// FrameInfo is one frame of a journal for a person, or a place where none can be read.
type FrameInfo struct {
	File        string `json:"file"`
	Segment     uint64 `json:"segment"`
	Offset      int64  `json:"offset"`
	LSN         uint64 `json:"lsn"`
	Type        string `json:"type"` // "" where there is no sound header
	Size        int64  `json:"size"` // in the slot, header and alignment included
	Durable     uint64 `json:"durable_lsn"`
	Group       uint32 `json:"group"`
	Opening     bool   `json:"opening,omitempty"`
	Encrypted   bool   `json:"encrypted,omitempty"`
	Incarnation uint32 `json:"incarnation,omitempty"`
	Consumer    uint8  `json:"consumer,omitempty"`
	First       uint64 `json:"first_seq,omitempty"`
	Count       uint32 `json:"count,omitempty"`
	Arrived     int64  `json:"arrived_us,omitempty"`
	Ordinal     uint64 `json:"ordinal,omitempty"`
	Detail      string `json:"detail,omitempty"`
	Fault       string `json:"fault,omitempty"` // what is wrong with it
}

// SlotInfo is the header of a slot.
type SlotInfo struct {
	File      string `json:"file"`
	Directory string `json:"directory"`
	Start     uint64 `json:"start"` // of the process that opened it, counted from 1
	Segment   uint64 `json:"segment"`
	Base      uint64 `json:"base_lsn"`
	Prev      uint64 `json:"previous_segment"`
	PrevEnd   uint64 `json:"previous_end_lsn"`
	Size      int64  `json:"size"`
	Opened    int64  `json:"opened"`           // where the opening frames end
	KeyID     string `json:"key_id,omitempty"` // of the key that its frames are encrypted under; "": they are in clear
	Free      bool   `json:"free,omitempty"`   // without a header: of no segment
}

// InspectJournal reads a slot file, or all slots of a journal's folder by segment, without changing or
// locking anything. It calls slot for each slot and then frame for its frames; frame returns false to go on
// with the next slot. After the first place without a frame it looks for frames further on, so that damage
// shows, and stops at the end of what the segment holds. Of encrypted segments whose key is not among keys it
// shows what headers say. fs nil: the operating system's.
func InspectJournal(f fsys.FS, name string, slot func(SlotInfo), frame func(FrameInfo) bool, keys ...*Key) error {
	if f == nil {
		f = fsys.OS()
	}
	names := []string{name}
	if entries, err := f.ReadDir(name); err == nil {
		names = nil
		for _, e := range entries {
			if _, ok := parseSlotName(e.Name); ok {
				names = append(names, path.Join(name, e.Name))
			}
		}
	}
	type opened struct {
		file  fsys.File
		name  string
		head  slotHead
		valid bool
	}
	var slots []opened
	defer func() {
		for _, s := range slots {
			s.file.Close()
		}
	}()
	for _, n := range names {
		file, err := f.OpenFile(n, fsys.ReadOnly)
		if err != nil {
			return fmt.Errorf("open slot: %w", err)
		}
		s := opened{file: file, name: n}
		slots = append(slots, s)
		size, err := file.Size()
		if err != nil {
			return fmt.Errorf("size of slot %q: %w", n, err)
		}
		for _, off := range []int64{0, size - blockSize} {
			block := make([]byte, blockSize)
			if off < 0 {
				continue
			}
			if got, err := file.ReadAt(block, off); got < len(block) && err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read header of slot %q: %w", n, err)
			}
			h, err := parseSlotHead(block)
			if newer, ok := errors.AsType[*NewerVersionError](err); ok {
				newer.Path = n
				return newer
			}
			if err == nil && (!s.valid || h.Segment > s.head.Segment) {
				s.head, s.valid = h, true
			}
		}
		slots[len(slots)-1] = s
	}
	slices.SortStableFunc(slots, func(a, b opened) int {
		if a.head.Segment < b.head.Segment {
			return -1
		}
		return 1
	})
	ring, err := newKeyring([16]byte{}, nil, keys, nil)
	if err != nil {
		return err
	}
	for i, s := range slots {
		keyID := ""
		if !s.head.Key.none() {
			keyID = s.head.Key.keyID().String()
		}
		slot(SlotInfo{
			KeyID: keyID,
			File:  s.name, Directory: hex.EncodeToString(s.head.Directory[:]), Start: s.head.Start, Segment: s.head.Segment,
			Base: s.head.Base, Prev: s.head.Prev, PrevEnd: s.head.PrevEnd, Size: s.head.Size, Opened: s.head.Opened, Free: !s.valid,
		})
		if !s.valid {
			continue
		}
		limit := s.head.Size - blockSize
		if i+1 < len(slots) && slots[i+1].head.Prev == s.head.Segment {
			limit = int64(slots[i+1].head.PrevEnd - s.head.Base)
		}
		scan := &frameScan{file: s.file, name: s.name, base: s.head.Base, salt: s.head.Salt, off: blockSize, limit: limit}
		scan.key, err = ring.of(s.head.Directory).open(s.head.Key, s.name)
		if _, unknown := errors.AsType[*KeyError](err); unknown {
			scan.blind = true
		} else if err != nil {
			return fmt.Errorf("header of slot %q: %w", s.name, err)
		}
		if err := inspectFrames(scan, s.head.Segment, frame); err != nil {
			return err
		}
	}
	return nil
}

func inspectFrames(scan *frameScan, segment uint64, frame func(FrameInfo) bool) error {
	for {
		off := scan.off
		h, payload, err := scan.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !badFrame(err) {
			return err
		}
		info := FrameInfo{File: scan.name, Segment: segment, Offset: off, LSN: scan.base + uint64(off), Size: h.size()}
		if err == nil || errors.Is(err, errPayload) {
			info.Type, info.Durable, info.Group, info.Opening = h.Type.String(), h.Durable, h.Group, h.opening()
			info.Encrypted = h.Flags&flagSealed != 0
			info.Incarnation, info.Consumer, info.First, info.Count, info.Arrived = h.Incarnation, h.Consumer, h.First, h.Count, h.Arrived
			if h.Type.ledger() {
				info.Arrived = 0 // it is a mark
			}
		}
		if err == nil && info.Encrypted && scan.blind {
			info.Detail = "encrypted"
		} else if err == nil {
			info.Ordinal, info.Detail, info.Fault = describe(&h, payload)
		} else {
			info.Fault = err.Error()
			if err := scan.pass(h, err); err != nil {
				return err
			}
			if info.Type == "" {
				if scan.off >= scan.limit {
					return nil // nothing sound behind it: the end of what was written
				}
				info.Size = scan.off - off
			}
		}
		if !frame(info) {
			return nil
		}
	}
}

// describe says what a sound frame's payload holds.
func describe(h *frameHead, payload []byte) (ordinal uint64, detail, fault string) {
	switch h.Type {
	case frameData:
		id, attempt, records, err := parseData(payload, h.Count)
		if err != nil {
			return 0, "", err.Error()
		}
		detail = fmt.Sprintf("%d bytes of rows", len(records))
		if !id.zero() {
			if id.Keyed {
				detail += fmt.Sprintf(", call %x by its key", id.ID)
			} else {
				detail += fmt.Sprintf(", call %x attempt %d", id.ID, attempt)
			}
		}
		return 0, detail, ""
	case framePad:
		return 0, "", ""
	case frameMark:
		ordinal, err := parseMark(payload)
		return ordinal, "", text(err)
	case frameNext:
		ordinal, segment, slot, err := parseNext(payload)
		return ordinal, fmt.Sprintf("segment %d in %s", segment, path.Base(slotName("", slot))), text(err)
	case frameCheckpoint:
		head, body, err := parseCheckpointPart(payload)
		return head.Ordinal, fmt.Sprintf("part %d of %d, replays from %d, %d bytes", head.Part+1, head.Parts, head.C, len(body)), text(err)
	}
	ordinal, e, err := decodeEvent(h, payload)
	if err != nil {
		return ordinal, "", err.Error()
	}
	switch e := e.(type) {
	case *streamEvent:
		states := []string{"active", "paused", "deleting", "gone", "discarding"}
		detail = fmt.Sprintf("%q version %d %s", e.Stream.Name, e.Stream.Version, states[e.Stream.State])
	case *manifestEvent:
		detail = e.describe()
	case *progressEvent:
		detail = fmt.Sprintf("manifest %x: %d objects confirmed", e.Manifest, e.Objects.n)
	case *commitEvent:
		detail = fmt.Sprintf("manifest %x", e.Manifest)
	case *replaceEvent:
		detail = fmt.Sprintf("manifest %x: %d objects by ", e.Manifest, e.Objects.n)
		switch {
		case e.New != nil:
			detail += e.New.describe()
		case e.Discard:
			detail += fmt.Sprintf("nothing, %d records dropped", e.Dropped)
		default:
			detail += e.File
		}
		detail += " because " + e.Reason
	case *holeEvent:
		detail = e.Cause + ", see " + e.File
	case *runEvent:
		detail = fmt.Sprintf("run %x%s", e.Ref.ID, e.Lanes.describe())
	case *lanesEvent:
		detail = fmt.Sprintf("%d lanes forgotten", len(e.Gone)) + (&laneMarks{At: e.Set}).describe()
	}
	return ordinal, detail, ""
}

func (e *manifestEvent) describe() string {
	var packs []string
	for _, p := range e.Packs {
		packs = append(packs, hex.EncodeToString(p.ID[:]))
	}
	return fmt.Sprintf("manifest %x epoch %d version %d: %d objects in packs %s; ok %d dropped %d failed %d",
		e.Head.ID, e.Head.Epoch, e.Head.Version, e.Objects, strings.Join(packs, " "), e.Head.Counts.OK, e.Head.Counts.Dropped, e.Head.Counts.Failed) + e.Lanes.describe()
}

func (m *laneMarks) describe() string {
	if len(m.At) == 0 {
		return ""
	}
	return fmt.Sprintf("; %d rows of %d lanes, the first of which goes on at %s %q", m.Rows, len(m.At), m.At[0].Lane, m.At[0].Position)
}

func text(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}
