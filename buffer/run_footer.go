package buffer

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"hydrant/buffer/fsys"
)

// runHeadSize is the length of the head of a run's footer, which stands behind the table:
//
//	 0  run id 16              56  next u64           112  keys i64
//	16  kind u8, consumer u8,  64  ok i64             120  rows i64
//	    meta u8, zero          72  dropped i64        128  rows that count i64
//	20  incarnation u32        80  failed i64         136  bytes of Data i64
//	24  config version u64     88  lost i64           144  oldest arrival i64
//	32  epoch u64              96  watermark i64      152  zeros
//	40  n u32, four zeros     104  zero u64           188  CRC32C of the bytes before it
//	48  first u64
//
// The frame that names the run has the SHA-256 of the footer. Blocks and pages have checksums of their own, which
// begin with the run's id and their place.
const runHeadSize = 192

// runFooter is the head of a footer.
type runFooter struct {
	ID RunID
	RunHead
	runTotals
}

func (f *runFooter) encode() []byte {
	b := make([]byte, runHeadSize)
	le := binary.LittleEndian
	copy(b, f.ID[:])
	b[16], b[17] = byte(f.Kind), f.Consumer
	if f.Meta {
		b[18] = 1
	}
	le.PutUint32(b[20:], f.Incarnation)
	le.PutUint64(b[24:], f.Version)
	le.PutUint64(b[32:], f.Epoch)
	le.PutUint32(b[40:], f.N)
	le.PutUint64(b[48:], f.First)
	le.PutUint64(b[56:], f.Next)
	for i, n := range []int64{f.Counts.OK, f.Counts.Dropped, f.Counts.Failed, f.Lost, f.Watermark, 0, f.Keys, f.Rows, f.Records, f.Bytes, f.Oldest} {
		le.PutUint64(b[64+8*i:], uint64(n))
	}
	le.PutUint32(b[188:], crc32.Checksum(b[:188], castagnoli))
	return b
}

// parseRunFooter is the inverse of encode, and accepts nothing else.
func parseRunFooter(b []byte) (*runFooter, error) {
	le := binary.LittleEndian
	if len(b) != runHeadSize || le.Uint32(b[188:]) != crc32.Checksum(b[:188], castagnoli) {
		return nil, errors.New("footer without a valid head")
	}
	number := func(i int) int64 { return int64(le.Uint64(b[64+8*i:])) }
	f := &runFooter{ID: RunID(b[:16])}
	f.RunHead = RunHead{
		Incarnation: le.Uint32(b[20:]), Consumer: b[17], Kind: RunKind(b[16]), Meta: b[18] == 1, Version: le.Uint64(b[24:]), Epoch: le.Uint64(b[32:]),
		N: le.Uint32(b[40:]), First: le.Uint64(b[48:]), Next: le.Uint64(b[56:]),
		Counts: Counts{OK: number(0), Dropped: number(1), Failed: number(2)}, Lost: number(3), Watermark: number(4),
	}
	f.runTotals = runTotals{Keys: number(6), Rows: number(7), Records: number(8), Bytes: number(9), Oldest: number(10)}
	if f.Keys < 0 || f.Keys > f.Rows || f.Records < 0 || f.Records > f.Rows || f.Bytes < 0 {
		return nil, fmt.Errorf("footer with %d keys and %d rows, %d of which count", f.Keys, f.Rows, f.Records)
	}
	if err := f.RunHead.check(&f.runTotals); err != nil {
		return nil, err
	}
	if !bytes.Equal(b, f.encode()) {
		return nil, errors.New("head of a footer with bytes that mean nothing")
	}
	return f, nil
}

// runDamage says that a run file is not what was sealed.
type runDamage struct {
	Path string
	What string
}

func (e *runDamage) Error() string { return fmt.Sprintf("run %q is damaged: %s", e.Path, e.What) }

// runContent is everything of a run but its rows.
type runContent struct {
	head      RunHead
	sum       runTotals
	ref       runRef
	directory [16]byte
	key       *dataKey // nil: it is in clear
}

// readRun reads the footer of a run and checks all of it, with a page of memory. onEntry, where it is not nil, is called
// for each entry of the table. Errors: *NewerVersionError, *KeyError, *runDamage, or the file system's.
func readRun(f fsys.File, path string, keys *keyring, onEntry func(c *runContent, e *envelope, entry runEntry) error) (*runContent, *envelope, error) {
	damage := func(format string, args ...any) error {
		return &runDamage{Path: path, What: fmt.Sprintf(format, args...)}
	}
	e, err := readEnvelope(f, runKind, path, keys, damage)
	if err != nil {
		return nil, nil, err
	}
	if e.footLen < runHeadSize {
		return nil, nil, damage("footer of %d bytes", e.footLen)
	}
	var head [runHeadSize]byte
	if err := readPart(e.clear, head[:], e.offset+e.footLen-runHeadSize, "footer", runKind, path, damage); err != nil {
		return nil, nil, err
	}
	foot, err := parseRunFooter(head[:])
	if err != nil {
		return nil, nil, damage("%v", err)
	}
	if foot.ID != e.id || byte(foot.Kind)+1 != e.about {
		return nil, nil, damage("header and footer are of different runs")
	}
	c := &runContent{head: foot.RunHead, sum: foot.runTotals, directory: e.directory, key: e.key}
	c.ref = runRef{ID: e.id, Length: e.length, Footer: e.footer}
	if err := c.table(e, path, damage, onEntry, head[:]); err != nil {
		return nil, nil, err
	}
	return c, e, nil
}

// table checks the table of a footer and the hash of all of it.
func (c *runContent) table(e *envelope, path string, damage func(string, ...any) error, onEntry func(*runContent, *envelope, runEntry) error, head []byte) error {
	hash := sha256.New()
	t := tableCursor{r: e.clear, off: e.offset, length: e.footLen - runHeadSize, id: c.ref.ID, kind: c.head.Kind, end: e.offset, page: -1}
	var sum runTotals
	var last []byte
	seq, seen := c.head.First, int64(-1)
	for {
		err := t.next()
		if damagedTable(err) {
			return damage("%v", err)
		}
		if err != nil {
			return fmt.Errorf("read footer of run %q: %w", path, err)
		}
		if !t.some {
			break
		}
		if t.page != seen {
			seen = t.page
			hash.Write(t.stored())
		}
		n := bytes.Compare(t.cur.Key, last)
		switch {
		case c.head.Kind == RunRaw && (t.cur.First < seq || t.cur.Next > c.head.Next), c.head.Kind == RunRouted && sum.Rows > 0 && n < 0:
			return damage("the entries of its footer are not in order")
		case c.head.Kind == RunRaw:
			seq = t.cur.Next
		case sum.Rows == 0 || n > 0:
			sum.Keys++
			last = append(last[:0], t.cur.Key...)
		}
		sum.Rows += t.cur.Rows
		sum.Records += t.cur.Records
		sum.Bytes += t.cur.Bytes
		if onEntry != nil {
			if err := onEntry(c, e, t.cur); err != nil {
				return err
			}
		}
	}
	hash.Write(head)
	if [32]byte(hash.Sum(nil)) != e.footer {
		return damage("footer does not match its hash")
	}
	sum.Oldest = c.sum.Oldest
	if sum != c.sum {
		return damage("footer with %+v, its entries have %+v", c.sum, sum)
	}
	return nil
}
