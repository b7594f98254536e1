package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/admin"
	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/control"
	"github.com/fairlead/fairlead/internal/control/file"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/supervisor"
	"github.com/fairlead/fairlead/internal/supervisor/whoowns"
)

// ownership is what `fairlead who-owns` is asked.
type ownership struct {
	inputs
	from      string
	fromGiven bool
	labels    []string
	policy    string
}

func newWhoOwns(env Env) *cobra.Command {
	var o ownership
	cmd := &cobra.Command{
		Use:   "who-owns HOST|ADDRESS|URL[:PORT] [--from NAMESPACE[/WORKLOAD]] [-f FILE|DIR|-]... [flags]",
		Short: "Say which entry a host or an address belongs to, and why",
		Long: `Say which entry a host belongs to for the workloads of a namespace, and why: its
own namespace goes first, then a Kubernetes Service, then what is exported to it
by name, then what is public; then age, then the name; as far as its Sidecar
imports them. Every other entry of the host is listed with what it loses to, and
every wildcard with what it is left with. If nobody declares the host to that
namespace: what happens to its traffic. With a port: where connections to it go,
requests, TLS and other bytes apart if they go different ways, and whose it is; of
a URL: the kind that its scheme means. Of an IP address: which entries list it, or
whose virtual address it is, and who gets its ports.

Without -f a run is asked, with the objects, labels and virtual addresses it has:
the one that --from names as NAMESPACE/NAME, or the only one there is. With -f the
objects are read from files, the namespace is that of -n if --from is not given,
and WORKLOAD is a WorkloadEntry among them, whose labels count for Sidecars.`,
		Example: `  fairlead who-owns www.baidu.com --from shop/client
  fairlead who-owns https://www.baidu.com/index.html
  fairlead who-owns 240.240.12.7:3306 --from shop/client -o json
  fairlead who-owns '*.baidu.com' --from shop -f entries/ -o yaml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("give one host, as in: fairlead who-owns www.baidu.com --from default -f entries/")
			}
			return nil
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
	form := outputFlag(cmd)
	o.inputs.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.from, "from", "default", "who asks: a namespace, or a workload as NAMESPACE/NAME; with -f that of -n if not given")
	f.StringArrayVarP(&o.labels, "label", "l", nil, "with -f: label of the workload that asks, key=value, for Sidecars that select it; may be repeated")
	policyFlag(cmd, &o.policy, "with -f: what happens to traffic that no entry declares: ALLOW_ANY or REGISTRY_ONLY")
	must(cmd.RegisterFlagCompletionFunc("from", completeFrom(env)))
	must(cmd.RegisterFlagCompletionFunc("label", cobra.NoFileCompletions))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := parseTarget(args[0])
		if err != nil {
			return err
		}
		if err := checkFrom(o.from); err != nil {
			return err
		}
		if o.fromGiven = f.Changed("from"); !o.fromGiven && f.Changed("filename") {
			o.from = o.namespace
		}
		ask := o.askFiles
		if !f.Changed("filename") {
			for _, name := range []string{"label", "namespace", "outbound-policy"} {
				if f.Changed(name) {
					return fmt.Errorf("--%s goes with -f; without it a run is asked, which has its own", name)
				}
			}
			ask = o.askRun
		}
		d, err := ask(cmd.Context(), env, t)
		if err != nil {
			return err
		}
		if *form == short {
			var b strings.Builder
			if err := sayDecision(&b, d); err != nil {
				return err
			}
			_, err := env.Out.WriteString(b.String())
			return err
		}
		return write(env.Out, *form, d, func(*tabwriter.Writer) {})
	}
	return cmd
}

// checkFrom says what is wrong with NAMESPACE[/WORKLOAD].
func checkFrom(from string) error {
	namespace, workload, named := strings.Cut(from, "/")
	if err := supervisor.CheckName("--from: namespace", namespace); err != nil || !named {
		return err
	}
	return supervisor.CheckName("--from: workload", workload)
}

// askFiles decides by objects in files.
func (o *ownership) askFiles(_ context.Context, env Env, t target) (d admin.Decision, err error) {
	if err := o.check("fairlead who-owns " + t.host.String()); err != nil {
		return d, err
	}
	policy, err := parsePolicy(o.policy)
	if err != nil {
		return d, err
	}
	labels, err := parseLabels(o.labels)
	if err != nil {
		return d, err
	}
	text, err := keep(env, o.paths)
	if err != nil {
		return d, err
	}
	defer progress(env, "reading and joining the objects")()
	plane, problems, err := control.New(control.Options{
		Paths: o.paths, Stdin: text(), Namespace: o.namespace, Policy: policy, Log: slog.New(slog.DiscardHandler),
	})
	if plane == nil {
		if api.HasError(problems) {
			err = fmt.Errorf("%w\nmend the objects first; `fairlead validate` checks them", err)
		}
		return d, err
	}
	var remarks []string
	if err != nil { // it can be asked all the same
		remarks = append(remarks, "The objects do not go together, so no run starts with them; `fairlead analyze` says why.")
	}
	namespace, workload, named := strings.Cut(o.from, "/")
	if named && len(o.labels) == 0 {
		found, ok := o.workloadLabels(text(), namespace, workload)
		if labels = found; !ok {
			remarks = append(remarks, fmt.Sprintf("No WorkloadEntry %s/%s is among the objects, so the name changes nothing; -l gives labels.", namespace, workload))
		}
	}
	d, err = whoowns.Ask(plane, admin.Question{Host: t.host.String(), Port: t.port, Kind: t.kind, Namespace: namespace}, labels)
	d.Workload = workload
	if said := whoowns.Stranger(plane, namespace); said != "" && o.fromGiven {
		remarks = append(remarks, said)
	}
	if d.Remark != "" {
		remarks = append(remarks, d.Remark)
	}
	d.Remark = strings.Join(remarks, " ")
	return d, err
}

// workloadLabels returns the labels of the WorkloadEntry of that name.
func (o *ownership) workloadLabels(stdin io.Reader, namespace, name string) (labels map[string]string, ok bool) {
	_, changes, _, err := file.Load(file.Options{Paths: o.paths, Stdin: stdin, Namespace: o.namespace})
	if err != nil {
		return nil, false // that of a moment ago had none
	}
	key := api.Key{Kind: api.KindWorkloadEntry, Namespace: namespace, Name: name}
	for _, c := range changes {
		if c.Key != key {
			continue
		}
		if e, ok := api.Workload(c.Object); ok {
			return e.Labels, true
		}
	}
	return nil, false
}

// askRun asks the run that is meant.
func (o *ownership) askRun(ctx context.Context, env Env, t target) (d admin.Decision, err error) {
	q := admin.Question{Host: t.host.String(), Port: t.port, Kind: t.kind}
	namespace, run, named := strings.Cut(o.from, "/")
	if !named {
		runs, err := statuses(ctx, env, nil)
		if err != nil {
			return d, err
		}
		if !o.fromGiven {
			namespace = ""
		}
		var own bool
		if run, own, err = chooseRun(runs, namespace); err != nil {
			return d, err
		}
		if !own {
			q.Namespace = namespace
		}
	}
	err = whenThere(ctx, env, run, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, decideWithin)
		defer cancel()
		d, err = supervisor.AskWhoOwns(ctx, run, q)
		return err
	})
	if err == nil && named && d.Namespace != namespace {
		err = fmt.Errorf("the run %q is in namespace %s, not %s: write --from %[2]s/%[1]s", run, d.Namespace, namespace)
	}
	return d, err
}

// chooseRun returns the run that is meant by a namespace, which may be empty:
// the only one there, else the only one of all; own says whether the namespace
// is its own.
func chooseRun(all []supervisor.Status, namespace string) (name string, own bool, err error) {
	there := slices.DeleteFunc(slices.Clone(all), func(s supervisor.Status) bool { return namespace != "" && s.Namespace != namespace })
	switch {
	case len(there) == 1:
		return there[0].Name, true, nil
	case len(all) == 0:
		return "", false, errors.New("no run is there to be asked; start one, or give the objects, as in: -f entries/")
	case len(all) == 1:
		return all[0].Name, false, nil
	}
	what := "there are several runs"
	switch {
	case len(there) == 0:
		there, what = all, "no run is in namespace "+namespace+", and there are several elsewhere"
	case namespace != "":
		what += " in namespace " + namespace
	}
	var list []string
	for _, s := range there {
		list = append(list, s.Namespace+"/"+s.Name)
	}
	slices.Sort(list)
	return "", false, fmt.Errorf("%s: %s; say which one is meant, as in: --from %s", what, strings.Join(list, ", "), list[0])
}

// completeFrom completes runs as NAMESPACE/NAME.
func completeFrom(env Env) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		runs, err := statuses(cmd.Context(), env, nil)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var all []cobra.Completion
		for _, s := range runs {
			if s.Namespace != "" {
				all = append(all, s.Namespace+"/"+s.Name)
			}
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
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

// policyFlag adds --outbound-policy to cmd.
func policyFlag(cmd *cobra.Command, to *string, usage string) {
	cmd.Flags().StringVar(to, "outbound-policy", mesh.AllowAny.String(), usage)
	must(cmd.RegisterFlagCompletionFunc("outbound-policy", cobra.FixedCompletions(
		[]cobra.Completion{mesh.AllowAny.String(), mesh.RegistryOnly.String()}, cobra.ShellCompDirectiveNoFileComp)))
}

func parsePolicy(s string) (mesh.OutboundPolicy, error) {
	p, err := mesh.ParseOutboundPolicy(s)
	if err != nil {
		return 0, fmt.Errorf("--outbound-policy %q: use ALLOW_ANY or REGISTRY_ONLY", s)
	}
	return p, nil
}
