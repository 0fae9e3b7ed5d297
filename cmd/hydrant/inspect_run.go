package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"hydrant/buffer"
	"hydrant/buffer/fsys"
)

// runJSON is a run as programs read it.
type runJSON struct {
	Path        string          `json:"path"`
	ID          string          `json:"run_id"`
	Directory   string          `json:"directory_id"`
	Kind        string          `json:"kind"`
	Bytes       int64           `json:"bytes"`
	Footer      string          `json:"footer_sha256"`
	KeyID       string          `json:"key_id,omitempty"`
	Incarnation uint32          `json:"stream_incarnation"`
	Consumer    uint8           `json:"consumer"`
	Version     uint64          `json:"version"`
	Epoch       uint64          `json:"epoch"`
	N           uint32          `json:"n"`
	First       uint64          `json:"first_seq"`
	Next        uint64          `json:"next_seq"`
	OK          int64           `json:"ok_records"`
	Dropped     int64           `json:"dropped_records"`
	Failed      int64           `json:"failed_records"`
	Lost        int64           `json:"lost_records"`
	Rows        int64           `json:"rows"`
	DataBytes   int64           `json:"data_bytes"`
	Oldest      *time.Time      `json:"oldest,omitempty"`
	Keys        []runKeyJSON    `json:"keys"`
	Damaged     []runDamageJSON `json:"damaged_blocks"`
	Verified    bool            `json:"verified"`
}

type runKeyJSON struct {
	Key     string `json:"key"`
	Rows    int64  `json:"rows"`
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes"`
}

type runDamageJSON struct {
	Key    string `json:"key"`
	Offset int64  `json:"offset"`
	Bytes  int64  `json:"bytes"`
	Rows   int64  `json:"rows"`
	What   string `json:"what"`
}

func (c *cli) inspectRunCommand() *cobra.Command {
	var asJSON, verify bool
	var flags keyFlags
	cmd := &cobra.Command{
		Use:   "run PATH",
		Short: "Describe a run: rows that wait on disk, and their keys",
		Long: `Describes a file of runs/ in a data directory: which records its rows are of, and the keys that they will be delivered
under. Rows themselves are not shown. With --verify every block of rows is read; the exit code is 1 where one does
not match its checksum. An encrypted run needs its key: -c FILE or --key-file FILE.`,
		Example: "  hydrant inspect run hydrant-data/runs/….run --verify",
		Args:    exactly("PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			keys, err := flags.keys(c)
			if err != nil {
				return err
			}
			out := runJSON{Keys: []runKeyJSON{}, Damaged: []runDamageJSON{}, Verified: verify}
			r, err := buffer.InspectRun(fsys.OS(), args[0], verify, func(k buffer.EpochKey) {
				out.Keys = append(out.Keys, runKeyJSON{keyText(k.Key), k.Rows, k.Records, k.Bytes})
			}, keys...)
			if _, ok := errors.AsType[*buffer.KeyError](err); ok {
				return fmt.Errorf("%w (here: -c FILE or --key-file FILE)", err)
			}
			if err != nil {
				return err
			}
			out.fill(r)
			if asJSON {
				err = c.printJSON(out)
			} else {
				err = c.showRun(&out)
			}
			if err == nil && len(r.Damaged) > 0 {
				return fmt.Errorf("%s: %d %s damaged", args[0], len(r.Damaged), plural(len(r.Damaged), "block"))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&verify, "verify", false, "compare every block of rows with its checksum")
	flags.add(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// keyText is a key as text: what is no printable character is written as Go writes it.
func keyText(key []byte) string {
	q := strconv.Quote(string(key))
	return q[1 : len(q)-1]
}

func (j *runJSON) fill(r *buffer.RunReport) {
	j.Path, j.ID, j.Directory = r.Path, hex.EncodeToString(r.ID[:]), hex.EncodeToString(r.Directory[:])
	j.Kind, j.Bytes, j.Footer, j.KeyID = r.Kind.String(), r.Length, hex.EncodeToString(r.Footer[:]), r.KeyID
	j.Incarnation, j.Consumer, j.Version, j.Epoch, j.N, j.First, j.Next = r.Incarnation, r.Consumer, r.Version, r.Epoch, r.N, r.First, r.Next
	j.OK, j.Dropped, j.Failed, j.Lost, j.Rows, j.DataBytes = r.Counts.OK, r.Counts.Dropped, r.Counts.Failed, r.Lost, r.Rows, r.Bytes
	if r.Rows > 0 {
		oldest := time.UnixMicro(r.Oldest).UTC()
		j.Oldest = &oldest
	}
	for _, d := range r.Damaged {
		j.Damaged = append(j.Damaged, runDamageJSON{keyText(d.Key), d.Offset, d.Length, d.Rows, d.What})
	}
}

func (c *cli) showRun(r *runJSON) error {
	fmt.Fprintf(c.stdout, "%s run %s of directory %s, %s (%d bytes), footer %s%s\n", r.Kind, r.ID, r.Directory, size(r.Bytes), r.Bytes, r.Footer, prefixed(", encrypted under key ", r.KeyID))
	fmt.Fprintf(c.stdout, "stream incarnation %d consumer %d, records %d to %d, %d lost", r.Incarnation, r.Consumer, r.First, r.Next-1, r.Lost)
	if r.Kind == buffer.RunRouted.String() {
		fmt.Fprintf(c.stdout, ": version %d, run %d of epoch %d: %d ok, %d failed, %d dropped", r.Version, r.N, r.Epoch, r.OK, r.Failed, r.Dropped)
	}
	fmt.Fprintf(c.stdout, "\n%d rows, %s", r.Rows, size(r.DataBytes))
	if r.Oldest != nil {
		fmt.Fprintf(c.stdout, ", the oldest of %s", r.Oldest.Format(time.RFC3339))
	}
	fmt.Fprintln(c.stdout)
	if len(r.Keys) > 0 {
		w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "  KEY\tROWS\tRECORDS\tBYTES")
		for _, k := range r.Keys {
			fmt.Fprintf(w, "  %s\t%d\t%d\t%d\n", k.Key, k.Rows, k.Records, k.Bytes)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	for _, d := range r.Damaged {
		fmt.Fprintf(c.stdout, "damaged: %d rows of key %s, block at byte %d: %s\n", d.Rows, d.Key, d.Offset, d.What)
	}
	if r.Verified && len(r.Damaged) == 0 {
		fmt.Fprintln(c.stdout, "every block matches its checksum")
	}
	return nil
}
