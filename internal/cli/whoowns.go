package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/control"
	"github.com/fairlead/fairlead/internal/control/file"
	"github.com/fairlead/fairlead/internal/control/registry"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/supervisor"
)

func newWhoOwns(env Env) *cobra.Command {
	var in inputs
	var from, policy string
	var labels []string
	cmd := &cobra.Command{
		Use:   "who-owns HOST --from NAMESPACE[/WORKLOAD] -f FILE|DIR|-... [flags]",
		Short: "Say which entry a host belongs to, and why",
		Long: `Say which entry a host belongs to for the workloads of a namespace, and why: its
own namespace goes first, then what is exported to it by name, then what is
public; then age, then the name; as far as its Sidecar imports them. Every other entry of the host is listed with what
it loses to, and every wildcard with what it is left with. If nobody declares the
host to that namespace: what happens to its traffic. The objects are read from
files; of a run, give those it was started with.`,
		Example: `  fairlead who-owns www.baidu.com --from shop -f entries/
  fairlead who-owns '*.baidu.com' --from shop/client -f entries/ -o yaml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("give one host, as in: fairlead who-owns www.baidu.com --from default -f entries/")
			}
			return nil
		},
		DisableFlagsInUseLine: true,
	}
	form := outputFlag(cmd)
	in.flags(cmd)
	cmd.Flags().StringVar(&from, "from", "default", "who asks: a namespace, or a workload as NAMESPACE/NAME")
	cmd.Flags().StringArrayVarP(&labels, "label", "l", nil, "label of the workload that asks, key=value, for Sidecars that select it; may be repeated")
	cmd.Flags().StringVar(&policy, "outbound-policy", mesh.AllowAny.String(), "what happens to traffic that no entry declares: ALLOW_ANY or REGISTRY_ONLY")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := in.check(cmd.CommandPath() + " " + args[0]); err != nil {
			return err
		}
		host, err := hostname.Parse(args[0])
		if err != nil {
			return fmt.Errorf("%q is no host: %w", args[0], err)
		}
		namespace, workload, named := strings.Cut(from, "/")
		if err := supervisor.CheckName("--from: namespace", namespace); err != nil {
			return err
		}
		if named {
			if err := supervisor.CheckName("--from: workload", workload); err != nil {
				return err
			}
		}
		p, err := mesh.ParseOutboundPolicy(policy)
		if err != nil {
			return fmt.Errorf("--outbound-policy %q: use ALLOW_ANY or REGISTRY_ONLY", policy)
		}
		set, err := parseLabels(labels)
		if err != nil {
			return err
		}
		plane, problems, err := control.New(control.Options{
			Paths: in.paths, Stdin: env.In, Namespace: in.namespace, Policy: p, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			if api.HasError(problems) {
				return fmt.Errorf("%w\nmend the objects first; `fairlead validate` checks them", err)
			}
			return err
		}
		d := decided(plane.Explain(namespace, set, host))
		if *form == short {
			var b strings.Builder
			d.text(&b)
			_, err := env.Out.WriteString(b.String())
			return err
		}
		return write(env.Out, *form, d, func(*tabwriter.Writer) {})
	}
	return cmd
}

// A decision is an Explanation as it is written.
type decision struct {
	Host       string     `json:"host"`
	Namespace  string     `json:"namespace"`
	Sidecar    string     `json:"sidecar,omitempty"`
	Owner      *standing  `json:"owner"` // null if nobody declares the host itself
	Others     []standing `json:"others"`
	Wildcards  []standing `json:"wildcards"`
	Policy     string     `json:"outboundPolicy"`
	Undeclared string     `json:"undeclared"` // what happens, by the policy, to what nobody declares
}

type standing struct {
	Object     string   `json:"object"`
	File       string   `json:"file,omitempty"`
	Line       int      `json:"line,omitempty"`
	Host       string   `json:"host"`
	Reason     string   `json:"reason"`
	Merged     []string `json:"merged,omitempty"`
	Ports      []port   `json:"ports"`
	Resolution string   `json:"resolution"`
	Addresses  []string `json:"addresses,omitempty"`
	Virtual    []string `json:"virtualAddresses,omitempty"`

	where string
}

type port struct {
	Number   uint16 `json:"number"`
	Protocol string `json:"protocol,omitempty"`
}

func decided(e registry.Explanation, policy mesh.OutboundPolicy) decision {
	d := decision{
		Host: e.Host.String(), Namespace: e.Namespace,
		Others: standings(e.Others), Wildcards: standings(e.Wildcards), Policy: policy.String(), Undeclared: undeclared(policy),
	}
	if e.Sidecar != nil {
		d.Sidecar = e.Sidecar.Source.Where()
	}
	if e.Owner != nil {
		d.Owner = &standings([]registry.Standing{*e.Owner})[0]
	}
	return d
}

func undeclared(p mesh.OutboundPolicy) string {
	if p == mesh.RegistryOnly {
		return "refused"
	}
	return "passed through"
}

func standings(list []registry.Standing) []standing {
	all := make([]standing, 0, len(list))
	for _, s := range list {
		src := s.Service.Source
		out := standing{
			Object: src.String(), File: src.File, Line: src.Line, Host: s.Service.Host.String(), Reason: s.Reason,
			Ports: []port{}, Resolution: s.Service.Resolution.String(), where: src.Where(),
		}
		for _, m := range s.Merged {
			out.Merged = append(out.Merged, m.Where())
		}
		for _, p := range s.Service.Ports {
			out.Ports = append(out.Ports, port{p.Number, p.Protocol.String()})
		}
		for _, a := range s.Service.Addresses {
			text := a.String()
			if a.IsSingleIP() {
				text = a.Addr().String()
			}
			out.Addresses = append(out.Addresses, text)
		}
		for _, a := range s.Service.VIPs {
			out.Virtual = append(out.Virtual, a.String())
		}
		all = append(all, out)
	}
	return all
}

func (d decision) text(out io.Writer) {
	if d.Sidecar != "" {
		fmt.Fprintf(out, "What the workload sees and what happens to the rest is narrowed by %s.\n", d.Sidecar)
	}
	owned := map[uint16]bool{}
	switch {
	case d.Owner != nil:
		fmt.Fprintf(out, "%s belongs to %s in namespace %s: %s.\n", d.Host, d.Owner.where, d.Namespace, d.Owner.Reason)
		d.Owner.details(out)
		d.Owner.take(owned)
	case len(d.Wildcards) > 0:
		fmt.Fprintf(out, "No entry that namespace %s sees declares %s itself; it falls under a wildcard.\n", d.Namespace, d.Host)
	default:
		fmt.Fprintf(out, "No entry that namespace %s sees declares %s: by outbound policy %s it is %s.\n", d.Namespace, d.Host, d.Policy, d.Undeclared)
	}
	for _, s := range d.Others {
		fmt.Fprintf(out, "Not used: %s: %s.\n", s.where, s.Reason)
	}
	for _, s := range d.Wildcards {
		fmt.Fprintf(out, "Wildcard %s of %s, which the namespace sees because %s, %s.\n", s.Host, s.where, s.Reason, s.left(owned))
		s.take(owned)
	}
	if d.Owner != nil || len(d.Wildcards) > 0 {
		fmt.Fprintf(out, "What goes to any other port is %s, by outbound policy %s.\n", d.Undeclared, d.Policy)
	}
}

func (s standing) details(out io.Writer) {
	if len(s.Merged) > 0 {
		fmt.Fprintf(out, "  merged from %s\n", strings.Join(s.Merged, ", "))
	}
	fmt.Fprintf(out, "  ports %s; resolution %s\n", portList(s.Ports), s.Resolution)
	if len(s.Addresses) > 0 {
		fmt.Fprintf(out, "  addresses %s\n", strings.Join(s.Addresses, ", "))
	}
	if len(s.Virtual) > 0 {
		fmt.Fprintf(out, "  virtual addresses in a run: %s\n", strings.Join(s.Virtual, ", "))
	}
}

func (s standing) take(owned map[uint16]bool) {
	for _, p := range s.Ports {
		owned[p.Number] = true
	}
}

// left says what a wildcard has that more specific hosts leave it.
func (s standing) left(owned map[uint16]bool) string {
	rest := slices.DeleteFunc(slices.Clone(s.Ports), func(p port) bool { return owned[p.Number] })
	switch {
	case len(rest) == 0:
		return "has nothing of it: its ports are declared under the longer name"
	case len(rest) < len(s.Ports):
		return "has what goes to port " + portList(rest) + "; its others are declared under the longer name"
	}
	return "has what goes to port " + portList(rest)
}

func portList(ports []port) string {
	var all []string
	for _, p := range ports {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%d %s", p.Number, p.Protocol)))
	}
	return strings.Join(all, ", ")
}

// keep returns a way to read standard input more than once, if a path names it.
func keep(env Env, paths []string) (func() io.Reader, error) {
	var data []byte
	if slices.Contains(paths, file.Stdin) {
		var err error
		if data, err = io.ReadAll(io.LimitReader(env.In, api.MaxFileSize+1)); err != nil {
			return nil, fmt.Errorf("standard input cannot be read: %w", err)
		}
	}
	return func() io.Reader { return bytes.NewReader(data) }, nil
}
