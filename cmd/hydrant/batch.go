package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"hydrant/admin"
)

func (c *cli) batchCommand() *cobra.Command {
	return group("batch", "Show batches that are not delivered yet; retry or divert them",
		`Shows the batches of a running daemon that are decided and not delivered whole, and gives one that is stuck an exit. A
batch is a set of finished objects: their names and bytes are fixed, and are sent until the destination has them.`,
		c.batchListCommand(), c.batchRetryCommand(), c.batchDivertCommand(), c.batchBackfillCommand())
}

func (a *adminClient) batches(ctx context.Context, stream string, timeout time.Duration) ([]admin.Waiting, error) {
	body, err := a.do(ctx, http.MethodGet, "/v1/streams/"+url.PathEscape(stream)+"/batches", timeout)
	if err != nil {
		return nil, err
	}
	var out struct {
		Batches []admin.Waiting `json:"batches"`
	}
	if err := json.Unmarshal(body, &out); err != nil {
		return nil, fmt.Errorf("%s does not answer like an admin listener: %w", a.base, err)
	}
	return out.Batches, nil
}

// batchNames completes a stream and then its batches.
func batchNames(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return streamNames(cmd, args, prefix)
	}
	var at adminAt
	at.url, _ = cmd.Flags().GetString("admin")
	at.tokenFile, _ = cmd.Flags().GetString("token-file")
	a, err := newAdminClient(at)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, _ := a.batches(context.Background(), args[0], 2*time.Second)
	ids := make([]string, len(list))
	for i, b := range list {
		ids[i] = b.Manifest
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) batchListCommand() *cobra.Command {
	var at adminAt
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "list STREAM",
		Short:             "List the batches of a stream that have not ended, oldest first",
		Example:           "  hydrant batch list clicks",
		Args:              exactly("STREAM"),
		ValidArgsFunction: streamNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := newAdminClient(at)
			if err != nil {
				return err
			}
			list, err := a.batches(cmd.Context(), args[0], shortTimeout)
			if err != nil {
				return err
			}
			if asJSON {
				return c.printJSON(map[string]any{"batches": list})
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "BATCH\tOLDEST\tOBJECTS\tRECORDS\tBYTES\tATTEMPTS\tPLACE\tLAST ERROR")
			for _, b := range list {
				place := "-"
				if len(b.Left) > 0 {
					place = b.Left[0].Place + prefixed(", ", b.Left[0].State)
				}
				fmt.Fprintf(w, "%s\t%s\t%d of %d\t%d\t%s\t%d\t%s\t%s\n", b.Manifest, age(b.Oldest), b.Pending, b.Objects, b.Records, size(b.Bytes), b.Attempts, place, b.Error)
			}
			return w.Flush()
		},
	}
	at.flags(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// batchArgs are a stream and the ids of batches, of which all stands for.
func batchArgs(all *bool) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return usageError{fmt.Errorf("%s wants STREAM BATCH...; see '%[1]s --help'", cmd.CommandPath())}
		case *all && len(args) > 1:
			return usageError{errors.New("--all and ids of batches exclude each other")}
		case !*all && len(args) == 1:
			return usageError{fmt.Errorf("%s wants the ids of batches, or --all; 'hydrant batch list %s' shows them", cmd.CommandPath(), args[0])}
		}
		return nil
	}
}

// eachBatch posts an order for every batch of a command line and hands the answers on.
func eachBatch(ctx context.Context, a *adminClient, args []string, all bool, order string, timeout time.Duration, each func(id string, answer []byte) error) error {
	ids := args[1:]
	if all {
		list, err := a.batches(ctx, args[0], shortTimeout)
		if err != nil {
			return err
		}
		for _, b := range list {
			ids = append(ids, b.Manifest)
		}
	}
	var errs []error
	for _, id := range ids {
		body, err := a.do(ctx, http.MethodPost, "/v1/streams/"+url.PathEscape(args[0])+"/batches/"+url.PathEscape(id)+"/"+order, timeout)
		if said, ok := errors.AsType[*answerError](err); ok && said.code == http.StatusConflict {
			each(id, said.body)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("batch %s: %w", id, err))
			continue
		}
		if err := each(id, body); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

func (c *cli) batchRetryCommand() *cobra.Command {
	var at adminAt
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "retry STREAM BATCH...",
		Short: "Send what is left of batches now, instead of when its time has come",
		Long: `Makes what is left of batches due now. It does not wait for the attempt: 'hydrant batch list' shows what came of it, and
'hydrant stream flush' waits.`,
		Example:           "  hydrant batch retry clicks 15569769c9337b1da31df2c1e6bfc879\n  hydrant batch retry clicks --all",
		Args:              batchArgs(&all),
		ValidArgsFunction: batchNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := newAdminClient(at)
			if err != nil {
				return err
			}
			return eachBatch(cmd.Context(), a, args, all, "retry", shortTimeout, func(id string, answer []byte) error {
				if asJSON {
					_, err := c.stdout.Write(answer)
					return err
				}
				fmt.Fprintf(c.stdout, "%s: due now\n", id)
				return nil
			})
		},
	}
	at.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all batches of the stream")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (c *cli) batchDivertCommand() *cobra.Command {
	var at adminAt
	var all, force, asJSON bool
	var to string
	cmd := &cobra.Command{
		Use:   "divert STREAM BATCH...",
		Short: "Give batches up for their destination: to the error output, or to a directory",
		Long: `Sends what is left of batches to the stream's error output (which is its backup where it has one), or with --to into a
directory of the daemon's machine, which must be there. In the directory objects have the names that they were made for,
so that copying it into the bucket later completes the delivery; requests to an HTTP endpoint become error records.

When the command has returned, the decision is on disk: the old objects are never sent again, and their records count as
failed. What the destination may have stored, as an answer was lost, is looked for first, which takes up to half a minute;
where it does not say, the object stays, unless --force.`,
		Example:           "  hydrant batch divert clicks 15569769c9337b1da31df2c1e6bfc879 --to /var/spool/clicks\n  hydrant batch divert clicks --all",
		Args:              batchArgs(&all),
		ValidArgsFunction: batchNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{}
			if to != "" {
				abs, err := filepath.Abs(to)
				if err != nil {
					return usageError{fmt.Errorf("--to %q: %w", to, err)}
				}
				q.Set("directory", abs)
			}
			if force {
				q.Set("force", "true")
			}
			a, err := newAdminClient(at)
			if err != nil {
				return err
			}
			return eachBatch(cmd.Context(), a, args, all, "divert?"+q.Encode(), admin.MaxDivert+shortTimeout, func(id string, answer []byte) error {
				if asJSON {
					_, err := c.stdout.Write(answer)
					return err
				}
				var out admin.Diverted
				if json.Unmarshal(answer, &out) != nil {
					return nil
				}
				fmt.Fprintf(c.stdout, "%s: %d %s diverted (%d records)", id, out.Objects, plural(out.Objects, "object"), out.Records)
				if out.Found > 0 {
					fmt.Fprintf(c.stdout, ", %d found delivered", out.Found)
				}
				if out.SetAside > 0 {
					fmt.Fprintf(c.stdout, ", %d damaged and set aside", out.SetAside)
				}
				if len(out.Doubtful) > 0 {
					fmt.Fprintf(c.stdout, ", %d in doubt and kept", len(out.Doubtful))
				}
				fmt.Fprintln(c.stdout)
				return nil
			})
		},
	}
	at.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all batches of the stream")
	cmd.Flags().StringVar(&to, "to", "", "`DIR` of the daemon's machine; default: the error output")
	cmd.Flags().BoolVar(&force, "force", false, "also what the destination may have: its records may then be in both places")
	cmd.MarkFlagDirname("to")
	jsonFlag(cmd, &asJSON)
	return cmd
}
