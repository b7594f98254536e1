// Package cli is what a user types: the subcommands, their flags, their output
// and exit codes. Nothing below it reads flags or the environment.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/sandbox"
	"github.com/fairlead/fairlead/internal/supervisor"
)

// An Env is what a command may know of the world it was started in.
type Env struct {
	In, Out, Err *os.File
	Vars         []string // the whole environment, for commands
	StateHome    string   // XDG_STATE_HOME
	Home         string   // HOME
	// Patience is how long a run that is asked for may take to appear: one that
	// was started in the background by the line before is not there yet.
	Patience time.Duration
}

// Environment is the Env of this process.
func Environment() Env {
	return Env{
		In:        os.Stdin,
		Out:       os.Stdout,
		Err:       os.Stderr,
		Vars:      os.Environ(),
		StateHome: os.Getenv("XDG_STATE_HOME"),
		Home:      os.Getenv("HOME"),
		Patience:  2 * time.Second,
	}
}

// ExitFailed is the exit code for everything that is Fairlead's own failure
// while a command was to be run, as env(1) and docker have it.
const ExitFailed = 125

// exit is an error that is only an exit code: what there was to say was said.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Main runs the command line and returns the exit code.
func Main(args []string, env Env) int {
	// The two inner processes of a run: no flags, no help, started often.
	if len(args) > 0 {
		switch args[0] {
		case supervisor.SandboxCommand:
			return sandbox.InitMain(args[1:])
		case supervisor.ProxyCommand:
			return proxyMain(env)
		}
	}
	root := newRoot(env)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	var code exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintf(env.Err, "fairlead: %v\n", err)
	if len(args) > 0 && (args[0] == "run" || args[0] == "exec") {
		return ExitFailed
	}
	return 1
}

// oneRun wants the name of one run.
func oneRun(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("give the name of one run, as in: %s client", cmd.CommandPath())
	}
	return nil
}

func newRoot(env Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "fairlead",
		Short: "A service mesh for the traffic that leaves your workloads",
		Long: `Fairlead runs a command behind a proxy. ServiceEntry objects, as Istio defines
them, say which services outside it may reach and how; Fairlead always says why.`,
		Example: `  fairlead run -f entries/ -- curl -s http://www.baidu.com
  fairlead run --name client --closed -f entries/ -- sleep 3600 &
  fairlead exec client -- curl -s http://www.baidu.com
  fairlead proxy-config cluster client
  fairlead validate -f entries/
  fairlead analyze -f entries/
  fairlead who-owns https://www.baidu.com --from shop/client`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	root.SetFlagErrorFunc(flagFault)
	root.Version = version()
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(
		newRun(env),
		newExec(env),
		newLogs(env),
		newProxyStatus(env),
		newProxyConfig(env),
		newValidate(env),
		newAnalyze(env),
		newWhoOwns(env),
		newVersion(env),
	)
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.Example = `  source <(fairlead completion bash)
  fairlead completion zsh > "${fpath[1]}/_fairlead"`
		}
	}
	return root
}
