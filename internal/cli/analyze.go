package cli

import (
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/control"
	"github.com/fairlead/fairlead/internal/control/file"
	"github.com/fairlead/fairlead/internal/mesh"
)

func newAnalyze(env Env) *cobra.Command {
	var in inputs
	cmd := &cobra.Command{
		Use:   "analyze -f FILE|DIR|-... [flags]",
		Short: "Check objects together",
		Long: `Say what fairlead run would say of these objects, joined as it joins them, for
workloads of every namespace that they name: hosts that belong to another entry,
ports that two claim, entries without an address that take everything, endpoints
that no workload provides. Notes are what is nobody's fault: wildcards whose
traffic a longer name of another namespace takes, entries that nobody sees.

The exit code is 1 if there is an error, 0 if there are none or warnings only.`,
		Example: `  fairlead analyze -f entries/
  fairlead analyze -f entries/ -n shop -o json`,
		Args:                  onlyFlags,
		DisableFlagsInUseLine: true,
	}
	form := outputFlag(cmd)
	in.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := in.check(cmd.CommandPath()); err != nil {
			return err
		}
		text, err := keep(env, in.paths)
		if err != nil {
			return err
		}
		done := progress(env, "reading and joining the objects")
		v, err := in.analyze(text)
		done()
		if err != nil {
			return err
		}
		return v.write(env, *form)
	}
	return cmd
}

// analyze judges the objects together; text is what standard input has.
func (i *inputs) analyze(text func() io.Reader) (verdict, error) {
	plane, problems, err := control.New(control.Options{
		Paths: i.paths, Stdin: text(), Namespace: i.namespace, Policy: mesh.AllowAny, Log: slog.New(slog.DiscardHandler),
	})
	if plane == nil {
		if !api.HasError(problems) {
			return verdict{}, err
		}
		objects, _ := file.Check(file.Options{Paths: i.paths, Stdin: text(), Namespace: i.namespace})
		v := newVerdict(objects, problems, nil)
		v.Remark = "What comes of the objects together was not looked at: mend the errors first."
		return v, nil
	}
	joined, notes, skipped := plane.Analyze()
	problems = slices.Concat(problems, joined)
	api.Sort(problems)
	v := newVerdict(plane.Loaded(), slices.Compact(problems), notes)
	if skipped > 0 {
		v.Remark = fmt.Sprintf("There are very many namespaces: what the workloads of %d of them get was not looked at.", skipped)
	}
	return v, nil
}
