package main

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"hydrant/buffer"
	"hydrant/buffer/fsys"
	"hydrant/format/parquet"
)

func (c *cli) inspectCommand() *cobra.Command {
	cmd := group("inspect", "Look into files: journal segments, packs, runs, Parquet; or find the objects of a record",
		`Looks into a file without changing it. The daemon may run.

With --where it names the objects that may have a record: in the destination, in the error output and in the backup of its
stream, as far as the configuration names these places, and those that are still in the data directory. With --what it says
which records an object may have, and which others have some of them. Objects say it by their metadata; files keep it in an
extended attribute, where their file system has those. Names are listed below the fixed part of each prefix (--below makes that
less), and few objects are asked. Where records were routed by their content, several objects may be named.`,
		c.inspectJournalCommand(), c.inspectPackCommand(), c.inspectRunCommand(), c.inspectParquetCommand())
	var questions whereFlags
	questions.add(cmd)
	cmd.Example = "  hydrant inspect --where RECORD_ID -c hydrant.yaml\n  hydrant inspect --what s3://lake/clicks/dt=2026-11-25/hour=14/clicks-1-….parquet -c hydrant.yaml --json"
	help := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if questions.where == "" && questions.what == "" {
			return help(cmd, args)
		}
		return questions.run(cmd.Context(), c)
	}
	return cmd
}

func (c *cli) inspectParquetCommand() *cobra.Command {
	var asJSON bool
	var rows int
	cmd := &cobra.Command{
		Use:     "parquet PATH",
		Short:   "Describe a Parquet file: schema, row groups, codecs, sizes, and some rows",
		Example: "  hydrant inspect parquet lake/clicks/dt=2026-11-25/hour=14/clicks-1-….parquet --rows 3",
		Args:    exactly("PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			if rows < 0 {
				return usageError{fmt.Errorf("--rows %d is negative", rows)}
			}
			info, err := inspectParquet(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return c.printJSON(info)
			}
			if err := c.showParquet(info); err != nil {
				return err
			}
			if rows == 0 {
				return nil
			}
			shown, err := readParquet(args[0], rows)
			for _, row := range shown {
				fmt.Fprintf(c.stdout, "%s\n", row)
			}
			return err
		},
	}
	cmd.Flags().IntVar(&rows, "rows", 0, "print so many rows as JSON")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (c *cli) showParquet(info *parquet.Info) error {
	fmt.Fprintf(c.stdout, "%d rows in %d row %s, %s (%d bytes), written by %s\n%s\n", info.Rows, len(info.Groups), plural(len(info.Groups), "group"), size(info.Size), info.Size, info.CreatedBy, info.Schema)
	for i, g := range info.Groups {
		fmt.Fprintf(c.stdout, "row group %d: %d rows, %s of %s\n", i, g.Rows, size(g.Compressed), size(g.Uncompressed))
		w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "  COLUMN\tTYPE\tCODEC\tENCODINGS\tVALUES\tNULLS\tPAGES\tBYTES\tOF\tMIN\tMAX")
		for _, k := range g.Columns {
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", k.Path, k.Type, k.Codec, strings.Join(k.Encodings, ","), k.Values, k.Nulls, k.Pages, k.Compressed, k.Uncompressed, short(k.Min), short(k.Max))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// short cuts a bound to what fits a table.
func short(s string) string {
	if len(s) <= 24 {
		return s
	}
	return strings.ToValidUTF8(s[:23], "") + "…"
}

// packJSON is a pack as programs read it.
type packJSON struct {
	Path      string         `json:"path"`
	ID        string         `json:"pack_id"`
	Directory string         `json:"directory_id"`
	Bytes     int64          `json:"bytes"`
	Footer    string         `json:"footer_sha256"`
	Manifests []manifestJSON `json:"manifests"`
	Damaged   []string       `json:"damaged_objects"`
	KeyID     string         `json:"key_id,omitempty"`
	Verified  bool           `json:"verified"`
}

type manifestJSON struct {
	ID          string       `json:"manifest_id"`
	Incarnation uint32       `json:"stream_incarnation"`
	Version     uint64       `json:"version"`
	Epoch       uint64       `json:"epoch"`
	First       uint64       `json:"first_seq"`
	Next        uint64       `json:"next_seq"`
	Replaces    string       `json:"replaces,omitempty"`
	OK          int64        `json:"ok_records"`
	Dropped     int64        `json:"dropped_records"`
	Failed      int64        `json:"failed_records"`
	Objects     []objectJSON `json:"objects"`
}

type objectJSON struct {
	Key             string    `json:"key"`
	Role            string    `json:"role"`
	Destination     string    `json:"destination"`
	Offset          int64     `json:"offset"`
	Bytes           int64     `json:"bytes"`
	SHA256          string    `json:"sha256"`
	CRC64NVME       string    `json:"crc64nvme"`
	Records         int64     `json:"records"`
	FirstSeq        uint64    `json:"first_seq"`
	Oldest          time.Time `json:"oldest"`
	ContentEncoding string    `json:"content_encoding,omitempty"`
	SchemaVersion   string    `json:"schema_version,omitempty"`
}

func (c *cli) inspectPackCommand() *cobra.Command {
	var asJSON, verify bool
	var flags keyFlags
	cmd := &cobra.Command{
		Use:   "pack PATH",
		Short: "Describe a pack: its manifests and the objects that they decided on",
		Long: `Describes a file of packs/ in a data directory: the manifests that it belongs to and each object's key, size, hash
and records. With --verify the bytes of every object are compared with their hashes; the exit code is 1
where one does not match. An encrypted pack needs its key: -c FILE or --key-file FILE.`,
		Example: "  hydrant inspect pack hydrant-data/packs/….pack --verify",
		Args:    exactly("PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			keys, err := flags.keys(c)
			if err != nil {
				return err
			}
			r, err := buffer.InspectPack(fsys.OS(), args[0], verify, keys...)
			if _, ok := errors.AsType[*buffer.KeyError](err); ok {
				return fmt.Errorf("%w (here: -c FILE or --key-file FILE)", err)
			}
			if err != nil {
				return err
			}
			if asJSON {
				err = c.printJSON(packOf(r, verify))
			} else {
				err = c.showPack(packOf(r, verify))
			}
			if err == nil && len(r.Damaged) > 0 {
				return fmt.Errorf("%s: %d %s damaged", args[0], len(r.Damaged), plural(len(r.Damaged), "object"))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&verify, "verify", false, "compare the bytes of every object with its hashes")
	flags.add(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func packOf(r *buffer.PackReport, verified bool) packJSON {
	out := packJSON{Path: r.Path, ID: hex.EncodeToString(r.ID[:]), Directory: hex.EncodeToString(r.Directory[:]), Bytes: r.Length, Footer: hex.EncodeToString(r.Footer[:]),
		KeyID: r.KeyID, Manifests: []manifestJSON{}, Damaged: append([]string{}, r.Damaged...), Verified: verified}
	for _, m := range r.Manifests {
		j := manifestJSON{ID: hex.EncodeToString(m.ID[:]), Incarnation: m.Incarnation, Version: m.Version, Epoch: m.Epoch, First: m.First, Next: m.Next,
			OK: m.Counts.OK, Dropped: m.Counts.Dropped, Failed: m.Counts.Failed, Objects: []objectJSON{}}
		if m.Replaces != (buffer.ManifestID{}) {
			j.Replaces = hex.EncodeToString(m.Replaces[:])
		}
		for _, o := range m.Objects {
			role := "data"
			if o.Role == buffer.Error {
				role = "error"
			}
			j.Objects = append(j.Objects, objectJSON{Key: o.Key, Role: role, Destination: o.Destination, Offset: o.Offset, Bytes: o.Size, SHA256: hex.EncodeToString(o.SHA256[:]),
				CRC64NVME: fmt.Sprintf("%016x", o.CRC64NVME), Records: o.Records, FirstSeq: o.FirstSeq, Oldest: time.UnixMicro(o.Oldest).UTC(), ContentEncoding: o.ContentEncoding, SchemaVersion: o.SchemaVersion})
		}
		out.Manifests = append(out.Manifests, j)
	}
	return out
}

func (c *cli) showPack(p packJSON) error {
	fmt.Fprintf(c.stdout, "pack %s of directory %s, %s (%d bytes), footer %s%s\n", p.ID, p.Directory, size(p.Bytes), p.Bytes, p.Footer, prefixed(", encrypted under key ", p.KeyID))
	for _, m := range p.Manifests {
		fmt.Fprintf(c.stdout, "manifest %s: stream incarnation %d version %d, epoch %d, records %d to %d: %d ok, %d failed, %d dropped%s\n",
			m.ID, m.Incarnation, m.Version, m.Epoch, m.First, m.Next-1, m.OK, m.Failed, m.Dropped, prefixed(", replaces ", m.Replaces))
		w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "  OBJECT\tDESTINATION\tRECORDS\tBYTES\tSHA256\tOLDEST")
		for _, o := range m.Objects {
			fmt.Fprintf(w, "  %s\t%s\t%d\t%d\t%s\t%s\n", o.Key, o.Destination, o.Records, o.Bytes, o.SHA256, o.Oldest.Format(time.RFC3339))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	for _, key := range p.Damaged {
		fmt.Fprintf(c.stdout, "damaged: %s\n", key)
	}
	if p.Verified && len(p.Damaged) == 0 {
		fmt.Fprintln(c.stdout, "every object matches its hashes")
	}
	return nil
}

func (c *cli) inspectJournalCommand() *cobra.Command {
	var asJSON, all bool
	var flags keyFlags
	cmd := &cobra.Command{
		Use:   "journal PATH",
		Short: "List the frames of a journal: a slot file, or all slots of its folder",
		Long: `Lists the frames of a slot file (journal/j-0001 in a data directory), or of all slots of the journal's folder, with
their positions and what they say. Records themselves are not shown. The exit code is 1 where a frame is
damaged; while a daemon writes, the end may look so for a moment. Of encrypted segments it shows what headers say,
and with their key (-c FILE or --key-file FILE) everything.

With --json each line is one object: {"slot": ...} or {"frame": ...}.`,
		Example: "  hydrant inspect journal hydrant-data/journal",
		Args:    exactly("PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := os.Stat(args[0]); err != nil {
				return err
			}
			keys, err := flags.keys(c)
			if err != nil {
				return err
			}
			out := bufio.NewWriterSize(c.stdout, 1<<16)
			faults, err := inspectJournal(out, args[0], asJSON, all, keys)
			if e := out.Flush(); err == nil {
				err = e
			}
			if err == nil && faults > 0 {
				err = fmt.Errorf("%s: %d damaged %s", args[0], faults, plural(faults, "place"))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "list padding and marks too")
	flags.add(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func inspectJournal(out io.Writer, path string, asJSON, all bool, keys []*buffer.Key) (faults int, err error) {
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	onSlot := func(s buffer.SlotInfo) {
		switch {
		case asJSON:
			lines.Encode(map[string]any{"slot": s})
		case s.Free:
			fmt.Fprintf(out, "%s: free\n", s.File)
		default:
			fmt.Fprintf(out, "%s: segment %d from LSN %d, %s, opened by start %d of directory %s; segment %d before it ends at %d%s\n",
				s.File, s.Segment, s.Base, size(s.Size), s.Start, s.Directory, s.Prev, s.PrevEnd, prefixed("; encrypted under key ", s.KeyID))
		}
	}
	onFrame := func(f buffer.FrameInfo) bool {
		if f.Fault != "" {
			faults++
		} else if !all && (f.Type == "PAD" || f.Type == "MARK") {
			return true
		}
		if asJSON {
			lines.Encode(map[string]any{"frame": f})
			return true
		}
		fmt.Fprintf(out, "  %10d  %-10s %8d bytes", f.Offset, cmp.Or(f.Type, "?"), f.Size)
		if f.Count > 0 {
			fmt.Fprintf(out, "  stream %d records %d to %d", f.Incarnation, f.First, f.First+uint64(f.Count)-1)
		}
		if f.Arrived > 0 {
			fmt.Fprintf(out, "  %s", time.UnixMicro(f.Arrived).UTC().Format(time.RFC3339Nano))
		}
		fmt.Fprintln(out, prefixed("  ", f.Detail)+prefixed("  DAMAGED: ", f.Fault))
		return true
	}
	err = buffer.InspectJournal(fsys.OS(), path, onSlot, onFrame, keys...)
	return faults, err
}
