package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"hydrant/admin"
)

func (c *cli) streamCommand() *cobra.Command {
	return group("stream", "Show and steer the streams of a running daemon",
		"Shows and steers the streams of a running daemon over its admin listener.",
		c.streamListCommand(), c.streamShowCommand(), c.streamFlushCommand(),
		c.streamOrderCommand("pause", "Stop uploads of a stream; puts are accepted and wait on disk",
			"Stops uploads of a stream, also over restarts of the daemon, until it is resumed. Puts are accepted as before and wait on disk."),
		c.streamOrderCommand("resume", "Start uploads of a paused stream again", "Starts uploads of a paused stream again."))
}

// streamNames completes the first argument with the names that the daemon knows.
func streamNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var at adminAt
	at.url, _ = cmd.Flags().GetString("admin")
	at.tokenFile, _ = cmd.Flags().GetString("token-file") // put has none
	a, err := newAdminClient(at)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, _ := a.list(context.Background(), 2*time.Second)
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = s.Name
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) streamListCommand() *cobra.Command {
	var at adminAt
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the streams with their counters",
		Example: "  hydrant stream list --json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := newAdminClient(at)
			if err != nil {
				return err
			}
			list, err := a.list(cmd.Context(), shortTimeout)
			if err != nil {
				return err
			}
			if asJSON {
				return c.printJSON(map[string]any{"streams": list})
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			sources := slices.ContainsFunc(list, func(s admin.Status) bool { return s.Source != "" })
			column := func(text string) string {
				if !sources {
					return ""
				}
				return "\t" + cmp.Or(text, "-")
			}
			fmt.Fprintf(w, "NAME\tSTATE\tACCEPTED\tDELIVERED\tFAILED\tWAITING\tOLDEST%s\n", column("SOURCE"))
			for _, s := range list {
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s%s\n", s.Name, s.State, s.Accepted, s.Delivered, s.Failed, s.BacklogRecords, age(s.Oldest), column(s.Source))
			}
			return w.Flush()
		},
	}
	at.flags(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func age(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return max(time.Since(*t), 0).Round(time.Second).String()
}

func (c *cli) streamShowCommand() *cobra.Command {
	var at adminAt
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "show NAME",
		Short:             "Show a stream: counters, backlog, last deliveries and failures",
		Example:           "  hydrant stream show clicks",
		Args:              exactly("NAME"),
		ValidArgsFunction: streamNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := newAdminClient(at)
			if err != nil {
				return err
			}
			s, err := a.get(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return c.printJSON(s)
			}
			return c.showStream(s)
		},
	}
	at.flags(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (c *cli) showStream(s admin.Status) error {
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "name\t%s\nstate\t%s\nversion\t%d\ncreated\t%s\n", s.Name, s.State, s.Version, s.Created.Format(time.RFC3339))
	for _, k := range slices.Sorted(maps.Keys(s.Tags)) {
		fmt.Fprintf(w, "tag\t%s=%s\n", k, s.Tags[k])
	}
	if s.Error != "" {
		fmt.Fprintf(w, "error\t%s\n", s.Error)
	}
	if s.Source != "" {
		fmt.Fprintf(w, "source\t%s, %d lanes%s\n", s.Source, s.Lanes, prefixed("; ", s.SourceError))
	}
	fmt.Fprintf(w, "accepted\t%d\ndelivered\t%d\nfailed\t%d\ndropped\t%d\nunaccounted\t%d\n", s.Accepted, s.Delivered, s.Failed, s.Dropped, s.Unaccounted)
	fmt.Fprintf(w, "waiting\t%d records, %s, oldest %s\n", s.BacklogRecords, size(s.BacklogBytes), age(s.Oldest))
	showDeliveries(w, "", s)
	if b := s.Backup; b != nil {
		fmt.Fprintf(w, "backup\t%s, %d of %d records delivered, %d waiting (%s, oldest %s), %d unaccounted%s\n",
			b.State, b.Delivered, b.Accepted, b.BacklogRecords, size(b.BacklogBytes), age(b.Oldest), b.Unaccounted, prefixed("; ", b.Error))
		showDeliveries(w, "backup ", *b)
	}
	return w.Flush()
}

// showDeliveries prints what waits under manifests, failed lately and was delivered lately.
func showDeliveries(w io.Writer, of string, s admin.Status) {
	for _, b := range s.Batches {
		fmt.Fprintf(w, "%sbatch\t%s: %d records, %d of %d objects left, %d attempts%s\n", of, b.Manifest, b.Records, b.Pending, b.Objects, b.Attempts, prefixed(": ", b.Error))
	}
	for _, e := range s.Failures {
		fmt.Fprintf(w, "%sfailure\t%s %s: %s\n", of, e.Time.Format(time.RFC3339), e.Key, e.Error)
	}
	for _, e := range s.Deliveries {
		fmt.Fprintf(w, "%sdelivery\t%s %s: %d records, %s%s\n", of, e.Time.Format(time.RFC3339), e.Key, e.Records, size(e.Bytes), prefixed(", cut by ", e.Reason))
	}
}

// ofBackups adds what backups have left to what destinations have; "" where that is nothing.
func ofBackups(records, bytes int64) string {
	if records == 0 {
		return ""
	}
	return fmt.Sprintf(" and %d for the backup (%s)", records, size(bytes))
}

func prefixed(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

// size prints bytes in the unit that a person would use.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

func (c *cli) streamFlushCommand() *cobra.Command {
	var at adminAt
	var timeout time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "flush NAME",
		Short: "Deliver what a stream holds now, and wait for it",
		Long: `Cuts what waits in the stream and returns when everything that was accepted before is delivered or in the error
output. When the timeout ends first it says what remains, and the exit code is 1; delivery goes on all the same.`,
		Example:           "  hydrant stream flush clicks --timeout 5m",
		Args:              exactly("NAME"),
		ValidArgsFunction: streamNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout <= 0 || timeout > admin.MaxFlushTimeout {
				return usageError{fmt.Errorf("--timeout %s is not above 0 and up to %s", timeout, admin.MaxFlushTimeout)}
			}
			a, err := newAdminClient(at)
			if err != nil {
				return err
			}
			return c.flush(cmd.Context(), a, args[0], timeout, asJSON)
		},
	}
	at.flags(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", admin.DefaultFlushTimeout, "how long to wait")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (c *cli) flush(ctx context.Context, a *adminClient, name string, timeout time.Duration, asJSON bool) error {
	progress := c.newProgress()
	polling, stop := context.WithCancel(ctx)
	polled := make(chan struct{})
	go func() {
		defer close(polled)
		progress.every(polling, time.Second, func() string {
			s, err := a.get(polling, name)
			if err != nil {
				return ""
			}
			return fmt.Sprintf("%d records, %s, oldest %s", s.BacklogRecords, size(s.BacklogBytes), age(s.Oldest))
		})
	}()
	body, err := a.do(ctx, http.MethodPost, "/v1/streams/"+url.PathEscape(name)+"/flush?timeout="+url.QueryEscape(timeout.String()), timeout+shortTimeout)
	stop()
	<-polled
	progress.clear()
	var said *answerError
	if errors.As(err, &said) && said.code == http.StatusGatewayTimeout {
		var left struct {
			Error string `json:"error"`
			admin.Remaining
			LastError string `json:"last_error"`
		}
		if json.Unmarshal(said.body, &left) == nil {
			if asJSON {
				c.stdout.Write(said.body)
				return errSaid
			}
			return fmt.Errorf("%s; %d records (%s)%s remain%s", left.Error, left.Records, size(left.Bytes), ofBackups(left.BackupRecords, left.BackupBytes), prefixed("; last error: ", left.LastError))
		}
	}
	if err != nil {
		return err
	}
	if asJSON {
		_, err = c.stdout.Write(body)
		return err
	}
	fmt.Fprintf(c.stdout, "%s: everything is delivered\n", name)
	return nil
}

func (c *cli) streamOrderCommand(verb, short, long string) *cobra.Command {
	var at adminAt
	var asJSON bool
	cmd := &cobra.Command{
		Use:               verb + " NAME",
		Short:             short,
		Long:              long,
		Example:           "  hydrant stream " + verb + " clicks",
		Args:              exactly("NAME"),
		ValidArgsFunction: streamNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := newAdminClient(at)
			if err != nil {
				return err
			}
			body, err := a.do(cmd.Context(), http.MethodPost, "/v1/streams/"+url.PathEscape(args[0])+"/"+verb, shortTimeout)
			if err != nil {
				return err
			}
			if asJSON {
				_, err = c.stdout.Write(body)
				return err
			}
			fmt.Fprintf(c.stdout, "%s: %sd\n", args[0], strings.TrimSuffix(verb, "d"))
			return nil
		},
	}
	at.flags(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}
