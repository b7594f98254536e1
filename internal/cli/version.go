package cli

import (
	"fmt"
	"runtime/debug"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func newVersion(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Example: `  fairlead version
  fairlead version -o json | jq -r .revision`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	form := outputFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		return write(env.Out, *form, thisBuild(), func(w *tabwriter.Writer) { fmt.Fprintln(w, version()) })
	}
	return cmd
}

// A build says what this binary was made of; empty where it was built without
// saying so.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
}

func thisBuild() build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return build{}
	}
	b := build{Version: info.Main.Version, Revision: "unknown", Go: info.GoVersion}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Revision = s.Value
		}
	}
	return b
}

// version is one line about this binary.
func version() string {
	b := thisBuild()
	if b == (build{}) {
		return "fairlead (a binary without build information; `make build` makes one with it)"
	}
	return fmt.Sprintf("fairlead %s (revision %s, %s)", b.Version, b.Revision, b.Go)
}
