package cli

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersion(env Env) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(env.Out, version())
			return err
		},
	}
}

// version is one line about this binary.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "fairlead (a binary without build information; `make build` makes one with it)"
	}
	revision := "unknown"
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return fmt.Sprintf("fairlead %s (revision %s, %s)", info.Main.Version, revision, info.GoVersion)
}
