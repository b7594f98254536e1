package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy"
	"github.com/fairlead/fairlead/internal/state"
	"github.com/fairlead/fairlead/internal/supervisor"
)

func newRun(env Env) *cobra.Command {
	var (
		o      supervisor.Options
		policy string
		closed bool
		labels []string
		memory string
		conns  int
	)
	cmd := &cobra.Command{
		Use:   "run [-f FILE|DIR|-]... [flags] -- COMMAND [ARG]...",
		Short: "Run a command behind a proxy",
		Long: `Run a command in a sandbox whose every connection goes through a proxy. Objects
are read from files and folders (*.yaml, *.yml, *.json; not below; no dotfiles)
and followed: the proxy has a change within a second.

The exit code is the command's own; 125 if Fairlead failed, 126 if the command
cannot be executed, 127 if it is not found, 128+n if signal n ended it.`,
		Example: `  fairlead run -f svc-entry.yaml -- busybox wget -q -O - http://www.baidu.com
  fairlead run --closed -f entries/ -- make fetch
  cat entries/*.yaml | fairlead run -f - -- curl -s http://www.baidu.com
  fairlead run --name client -n shop -l app=client -f entries/ -- sleep 3600`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("give a command, as in: fairlead run -f entries/ -- curl -s http://www.baidu.com")
			}
			return nil
		},
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.Policy, err = parsePolicy(policy); err != nil {
				return err
			}
			if slices.Contains(o.Paths, "") {
				return errors.New(`-f "": give a file, a folder, or - for standard input`)
			}
			if cmd.Flags().Changed("name") && o.Workload.Name == "" {
				return supervisor.CheckName("--name", "")
			}
			if closed {
				if cmd.Flags().Changed("outbound-policy") && o.Policy != mesh.RegistryOnly {
					return errors.New("--closed means --outbound-policy REGISTRY_ONLY; give one of the two")
				}
				o.Policy = mesh.RegistryOnly
			}
			if o.Workload.Labels, err = parseLabels(labels); err != nil {
				return err
			}
			if cmd.Flags().Changed("access-log-format") {
				if _, err := proxy.ParseLogForm(o.LogForm); err != nil {
					return fmt.Errorf("--access-log-format: %w", err)
				}
			}
			var connections *int
			if cmd.Flags().Changed("max-connections") {
				connections = &conns
			}
			if o.Limits, err = parseLimits(memory, connections); err != nil {
				return err
			}
			there, descriptors := here()
			for _, remark := range exceeding(o.Limits, there, descriptors) {
				fmt.Fprintf(env.Err, "fairlead: warning: %s\n", remark)
			}
			if o.State, err = state.RootFor(env.StateHome, env.Home); err != nil {
				return fmt.Errorf("no folder for the logs of the run: %w", err)
			}
			o.Command = args
			o.Env = env.Vars
			o.Stdin, o.Stdout, o.Stderr, o.Notices = env.In, env.Out, env.Err, env.Err
			code, err := supervisor.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if code != 0 {
				return exit(code)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // the first word that is no flag is the command's
	f.StringArrayVarP(&o.Paths, "filename", "f", nil, "file, folder or - (standard input) with objects; may be repeated")
	f.StringVar(&o.Workload.Name, "name", "", "name of the run; one is made if none is given")
	f.StringVarP(&o.Workload.Namespace, "namespace", "n", "default", "namespace of the workload, and of objects that name none")
	f.StringArrayVarP(&labels, "label", "l", nil, "label of the workload, key=value; may be repeated")
	policyFlag(cmd, &policy, "what happens to traffic that no entry declares: ALLOW_ANY or REGISTRY_ONLY")
	f.BoolVar(&closed, "closed", false, "short for --outbound-policy REGISTRY_ONLY")
	f.StringVar(&o.AccessLog, "access-log", "", "file for the access log, one line per request or connection (default: in the run's state folder)")
	f.StringVar(&o.LogForm, "access-log-format", "", "form of its lines: json, text (Istio's), or a text with Envoy's operators (default: as the mesh says, else json)")
	f.StringVar(&memory, "max-memory", "", "memory the proxy may use, such as 64MiB, or none; above it new requests get 503 (default: half of what there is)")
	f.IntVar(&conns, "max-connections", 0, "connections the proxy serves at once; more get 503 or a reset (default: as descriptors allow)")
	must(cmd.RegisterFlagCompletionFunc("access-log-format", cobra.FixedCompletions([]cobra.Completion{"json", "text"}, cobra.ShellCompDirectiveNoFileComp)))
	for _, name := range []string{"name", "namespace", "label", "max-memory", "max-connections"} {
		must(cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions))
	}
	return cmd
}

func parseLabels(list []string) (map[string]string, error) {
	labels := make(map[string]string, len(list))
	for _, s := range list {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--label %q: use key=value", s)
		}
		if fault := api.LabelFault(key, value); fault != "" {
			return nil, fmt.Errorf("--label %q: %s", s, fault)
		}
		if _, twice := labels[key]; twice {
			return nil, fmt.Errorf("--label %q: %s is given twice", s, key)
		}
		labels[key] = value
	}
	return labels, nil
}

// must is for errors that only a wrong program can have.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
