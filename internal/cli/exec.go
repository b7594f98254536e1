package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/peer"
	"github.com/fairlead/fairlead/internal/sandbox"
	"github.com/fairlead/fairlead/internal/supervisor"
)

func newExec(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec NAME -- COMMAND [ARG]...",
		Short: "Run another command in the sandbox of a run",
		Long: `Run another command where a run's own command runs: the same namespaces, the
same proxy. A terminal is passed on. The exit codes are those of fairlead run.`,
		Example: `  fairlead exec client -- curl -s http://www.baidu.com
  fairlead exec client -- sh`,
		Args:                  execArgs,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, command := splitExec(args)
			code, err := execIn(cmd.Context(), env, name, command)
			var start *sandbox.StartError
			if errors.As(err, &start) {
				fmt.Fprintf(env.Err, "fairlead: %v\n", start)
				return exit(start.Code)
			}
			if err != nil {
				return err
			}
			if code != 0 {
				return exit(code)
			}
			return nil
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// splitExec takes apart NAME [--] COMMAND. Flags end at the name, so that the
// dashes before the command are still there.
func splitExec(args []string) (name string, command []string) {
	command = args[1:]
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	return args[0], command
}

func execArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		if _, command := splitExec(args); len(command) > 0 {
			return nil
		}
	}
	return errors.New("give the name of a run and a command, as in: fairlead exec client -- curl -s http://www.baidu.com")
}

func execIn(ctx context.Context, env Env, name string, command []string) (int, error) {
	var conn net.Conn
	err := whenThere(ctx, env, name, func(ctx context.Context) (err error) {
		conn, err = peer.Dial(ctx, peer.Name(os.Getuid(), name, "exec"))
		return err
	})
	if err != nil {
		return 0, err
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, errors.Join(fmt.Errorf("exec over a %T", conn), conn.Close())
	}
	dir, err := os.Getwd()
	if err != nil {
		return 0, errors.Join(err, conn.Close())
	}
	return sandbox.ExecClient(ctx, unixConn, sandbox.Command{
		Args:  command,
		Env:   env.Vars,
		Dir:   dir,
		Files: [3]*os.File{env.In, env.Out, env.Err},
	})
}

// completeRuns completes the names of runs.
func completeRuns(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	names, err := supervisor.Names()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
