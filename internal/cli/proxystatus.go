package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/peer"
	"github.com/fairlead/fairlead/internal/supervisor"
	"github.com/fairlead/fairlead/internal/xds"
)

func newProxyStatus(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "proxy-status [NAME]",
		Aliases: []string{"ps"},
		Short:   "List the runs and whether their proxies have what was sent",
		Long: `List this user's runs. For every type of resource: SYNCED the proxy has what there
is, STALE it has not answered yet, NOT SENT there was nothing to send, REFUSED it
refused the last change (with -o json: why). ERRORS counts what is wrong now:
faults in files, for which the last good state holds, and ports that a host loses
to another; -o json lists them under problems, and fairlead logs has them. A run
that is stopped gives no answer.`,
		Example: `  fairlead proxy-status
  fairlead proxy-status client -o json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeRuns,
	}
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		all, err := statuses(cmd.Context(), env, args)
		if err != nil {
			return err
		}
		if *form == short && len(all) == 0 {
			fmt.Fprintln(env.Err, "fairlead: no runs")
			return nil
		}
		if err := write(env.Out, *form, all, func(w *tabwriter.Writer) { statusTable(w, all, time.Now()) }); err != nil || *form != short {
			return err
		}
		for _, s := range all {
			if s.Errors > 0 {
				fmt.Fprintf(env.Err, "fairlead: the errors of %s: `fairlead logs %s`, or under \"problems\" of `fairlead proxy-status %s -o json`\n", s.Name, s.Name, s.Name)
			}
		}
		return nil
	}
	return cmd
}

// answerWithin bounds the wait for one run.
const answerWithin = 2 * time.Second

// decideWithin is answerWithin for what may take a look at all objects.
const decideWithin = 10 * time.Second

// statuses asks the run named, or all at once. A run named that cannot be asked
// is an error; of all runs, one that does not answer is listed as that.
func statuses(ctx context.Context, env Env, named []string) ([]supervisor.Status, error) {
	ask := func(ctx context.Context, name string) (supervisor.Status, error) {
		ctx, cancel := context.WithTimeout(ctx, answerWithin)
		defer cancel()
		return supervisor.AskStatus(ctx, name)
	}
	if len(named) > 0 {
		var answer supervisor.Status
		err := whenThere(ctx, env, named[0], func(ctx context.Context) (err error) {
			answer, err = ask(ctx, named[0])
			return err
		})
		return []supervisor.Status{answer}, err
	}
	names, err := supervisor.Names()
	if err != nil {
		return nil, err
	}
	answers := make([]supervisor.Status, len(names))
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { answers[i], errs[i] = ask(ctx, name) })
	}
	wg.Wait()
	return listed(env, names, answers, errs), nil
}

// listed leaves out runs that ended meanwhile and those that are somebody
// else's in truth.
func listed(env Env, names []string, answers []supervisor.Status, errs []error) []supervisor.Status {
	all := []supervisor.Status{}
	for i, name := range names {
		switch err := errs[i]; {
		case err == nil:
			all = append(all, answers[i])
		case errors.Is(err, peer.ErrStranger), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.ErrUnexpectedEOF):
		default:
			all = append(all, supervisor.Status{Name: name, Error: inWords(env, name, err).Error()})
		}
	}
	return all
}

// columns are the types of resources in the order of the table.
var columns = []struct{ head, typeName string }{
	{"CDS", xds.ClusterType},
	{"EDS", xds.EndpointType},
	{"LDS", xds.ListenerType},
	{"RDS", xds.RouteType},
	{"VHDS", xds.VirtualHostType},
	{"NAMES", xds.NameType},
	{"SNI", xds.ServerNameType},
}

func statusTable(w *tabwriter.Writer, all []supervisor.Status, now time.Time) {
	fmt.Fprint(w, "NAME\tNAMESPACE\tPOLICY")
	for _, c := range columns {
		fmt.Fprint(w, "\t", c.head)
	}
	fmt.Fprintln(w, "\tERRORS\tPROXY\tRESTARTS\tAGE\tCOMMAND")
	for _, s := range all {
		if s.Error != "" {
			// Every cell, for a short row ends the columns of those after it.
			fmt.Fprintf(w, "%s\t-\t-%s\t-\tno answer\t-\t-\t-\n", s.Name, strings.Repeat("\t-", len(columns)))
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s", s.Name, s.Namespace, s.Policy)
		for _, c := range columns {
			fmt.Fprint(w, "\t", stateOf(s.Types, xds.ShortType(c.typeName)))
		}
		proxy := "none"
		if s.ProxyPID != 0 {
			proxy = strconv.Itoa(s.ProxyPID)
		}
		fmt.Fprintf(w, "\t%d\t%s\t%d\t%s\t%s\n", s.Errors, proxy, s.Restarts, age(now.Sub(s.Started)), commandLine(s.Command))
	}
}

func stateOf(types []supervisor.TypeStatus, name string) string {
	for _, t := range types {
		if t.Type == name {
			return t.State
		}
	}
	return "-"
}

// age is a duration as kubectl writes it.
func age(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// commandLine is a command on one line of bounded length, printable.
func commandLine(args []string) string {
	const most = 60
	line := []rune(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.Join(args, " ")))
	if len(line) > most {
		line = append(line[:most-1], '…')
	}
	return string(line)
}
