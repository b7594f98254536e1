package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/admin"
	"github.com/fairlead/fairlead/internal/peer"
	"github.com/fairlead/fairlead/internal/xds"
)

// A section is one kind of configuration as a user asks for it.
type section struct {
	name, alias, short string
	whole              func(known) any // for json and yaml
	table              func(*tabwriter.Writer, known)
}

// known is what a proxy was told, and what it made of it.
type known struct {
	admin.Config
	state []admin.ClusterState
}

func sections() []section {
	return []section{
		{"cluster", "c", "Destinations: one per host and port", rawClusters, clusterTable},
		{"listener", "l", "Where connections arrive and how they are told apart", rawListeners, listenerTable},
		{"route", "r", "Which host and path leads to which cluster", rawRoutes, routeTable},
		{"endpoint", "ep", "The addresses of each cluster as they are now", wholeEndpoints, endpointTable},
		{"name", "n", "The hosts that the workload's DNS knows", rawNames, nameTable},
	}
}

func newProxyConfig(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "proxy-config",
		Aliases: []string{"pc"},
		Short:   "Show what the proxy of a run has received",
		Long: `Show the configuration that a proxy works by, as it received it. With -o json or
yaml: the resources themselves, as xDS has them; for endpoints their state now.`,
		Example: `  fairlead proxy-config cluster client
  fairlead pc listener client -o yaml
  fairlead pc all client -o json | jq .endpoints`,
		// Without these cobra shows the help and calls it a success.
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("there is no %q to show; `fairlead proxy-config --help` lists what there is", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, s := range sections() {
		cmd.AddCommand(sectionCommand(env, s))
	}
	cmd.AddCommand(allCommand(env))
	return cmd
}

func sectionCommand(env Env, s section) *cobra.Command {
	cmd := &cobra.Command{
		Use:               s.name + " NAME",
		Aliases:           []string{s.alias, s.name + "s"},
		Short:             s.short,
		Example:           "  fairlead proxy-config " + s.name + " client",
		Args:              oneRun,
		ValidArgsFunction: completeRuns,
	}
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		k, err := ask(cmd.Context(), env, args[0], *form != short)
		if err != nil {
			return err
		}
		return write(env.Out, *form, s.whole(k), func(w *tabwriter.Writer) { s.table(w, k) })
	}
	return cmd
}

func allCommand(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "all NAME",
		Short:             "Everything",
		Example:           "  fairlead proxy-config all client -o json",
		Args:              oneRun,
		ValidArgsFunction: completeRuns,
	}
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		k, err := ask(cmd.Context(), env, args[0], *form != short)
		if err != nil {
			return err
		}
		if *form == short {
			for i, s := range sections() {
				if i > 0 {
					fmt.Fprintln(env.Out)
				}
				if err := write(env.Out, short, nil, func(w *tabwriter.Writer) { s.table(w, k) }); err != nil {
					return err
				}
			}
			return nil
		}
		all := map[string]any{}
		for _, s := range sections() {
			all[s.name+"s"] = s.whole(k)
		}
		return write(env.Out, *form, all, nil)
	}
	return cmd
}

// ask asks the proxy of a run. That it answers at all must show soon; what it
// knows may be much.
func ask(ctx context.Context, env Env, run string, raw bool) (k known, err error) {
	c := admin.NewClient(peer.Name(os.Getuid(), run, "admin"))
	defer c.Close()
	err = whenThere(ctx, env, run, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, answerWithin)
		defer cancel()
		_, err := c.Status(ctx)
		return err
	})
	if err != nil {
		return k, err
	}
	if k.Config, err = c.Config(ctx, raw); err == nil {
		k.state, err = c.Clusters(ctx)
	}
	if err != nil {
		return k, inWords(env, run, err)
	}
	byName(k.Clusters, func(c admin.Cluster) string { return c.Name })
	byName(k.state, func(c admin.ClusterState) string { return c.Name })
	byName(k.Listeners, func(l admin.Listener) string { return l.Name })
	byName(k.Routes, func(t admin.RouteTable) string { return t.Name })
	return k, nil
}

// byName sorts a list by names, in which numbers count as numbers.
func byName[T any](list []T, name func(T) string) {
	slices.SortStableFunc(list, func(a, b T) int { return inOrder(name(a), name(b)) })
}

// inOrder compares texts as strings are, but for numbers in them: port 80 comes
// before 443.
func inOrder(a, b string) int {
	for a != "" && b != "" {
		m, n := digits(a), digits(b)
		if m == 0 || n == 0 {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		x, y := strings.TrimLeft(a[:m], "0"), strings.TrimLeft(b[:n], "0")
		if c := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)); c != 0 {
			return c
		}
		a, b = a[m:], b[n:]
	}
	return cmp.Compare(len(a), len(b))
}

// digits is how many there are at the beginning of s.
func digits(s string) (n int) {
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}

func rawOf[T any](list []T, raw func(T) json.RawMessage) []json.RawMessage {
	out := make([]json.RawMessage, 0, len(list))
	for _, x := range list {
		if r := raw(x); len(r) > 0 {
			out = append(out, r)
		}
	}
	return out
}

func rawClusters(k known) any {
	return rawOf(k.Clusters, func(c admin.Cluster) json.RawMessage { return c.Raw })
}

// rawListeners are the listeners, and after each the server names that it looks up.
func rawListeners(k known) any {
	out := make([]json.RawMessage, 0, len(k.Listeners))
	for _, l := range k.Listeners {
		out = append(out, rawOf([]admin.Listener{l}, func(l admin.Listener) json.RawMessage { return l.Raw })...)
		out = append(out, rawOf(l.Chains, func(c admin.Chain) json.RawMessage { return c.Raw })...)
	}
	return out
}

// wholeEndpoints is what the clusters have now: a DNS cluster's endpoints come
// from no resource.
func wholeEndpoints(k known) any { return k.state }

func rawNames(k known) any {
	return rawOf(k.Names, func(n admin.Name) json.RawMessage { return n.Raw })
}

// rawRoutes are the tables, and after each the virtual hosts that came one by one.
func rawRoutes(k known) any {
	out := make([]json.RawMessage, 0, len(k.Routes))
	for _, t := range k.Routes {
		out = append(out, t.Raw)
		out = append(out, rawOf(t.VirtualHosts, func(h admin.VirtualHost) json.RawMessage { return h.Raw })...)
	}
	return out
}

func clusterTable(w *tabwriter.Writer, k known) {
	fmt.Fprintln(w, "SERVICE FQDN\tPORT\tSUBSET\tDIRECTION\tTYPE\tENTRY")
	for _, c := range k.Clusters {
		direction, port, subset, host := splitCluster(c.Name)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", host, dash(port), dash(subset), dash(direction), c.Type, dash(c.Entry.String()))
	}
}

// splitCluster takes apart outbound|80|v1|host; another name is a host alone.
func splitCluster(name string) (direction, port, subset, host string) {
	part := strings.Split(name, "|")
	if len(part) != 4 {
		return "", "", "", name
	}
	return part[0], part[1], part[2], part[3]
}

func listenerTable(w *tabwriter.Writer, k known) {
	fmt.Fprintln(w, "LISTENER\tADDRESSES\tMATCH\tDESTINATION")
	for _, l := range k.Listeners {
		for _, c := range l.Chains {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", l.Name, strings.Join(l.Addresses, ","), c.Match, c.Destination)
		}
	}
}

func routeTable(w *tabwriter.Writer, k known) {
	fmt.Fprintln(w, "NAME\tVHOST NAME\tDOMAINS\tMATCH\tDESTINATION\tENTRY")
	for _, t := range k.Routes {
		for _, h := range t.VirtualHosts {
			for _, r := range h.Routes {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", t.Name, h.Name, strings.Join(h.Domains, ","), r.Match, r.Destination, dash(h.Entry.String()))
			}
		}
	}
}

func endpointTable(w *tabwriter.Writer, k known) {
	fmt.Fprintln(w, "ENDPOINT\tNAME\tWEIGHT\tACTIVE\tIDLE\tDNS\tCLUSTER")
	for _, c := range k.state {
		if c.Name == xds.BlackHoleCluster {
			continue
		}
		dns := dash(c.DNS)
		if c.DNSError != "" {
			dns += " (" + c.DNSError + ")"
		}
		if len(c.Endpoints) == 0 {
			fmt.Fprintf(w, "-\t-\t-\t-\t-\t%s\t%s\n", dns, c.Name)
		}
		for _, e := range c.Endpoints {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\t%s\n", e.Address, dash(e.Name), e.Weight, e.Active, e.Idle, dns, c.Name)
		}
	}
}

func nameTable(w *tabwriter.Writer, k known) {
	fmt.Fprintln(w, "HOST\tANSWERED WITH\tENTRY")
	for _, n := range k.Names {
		answer := "what its own DNS says"
		if len(n.Addresses) > 0 {
			answer = strings.Join(n.Addresses, ",")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", n.Host, answer, dash(n.Entry.String()))
	}
}
