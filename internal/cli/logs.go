package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/fairlead/fairlead/internal/eventlog"
	"github.com/fairlead/fairlead/internal/state"
	"github.com/fairlead/fairlead/internal/supervisor"
)

func newLogs(env Env) *cobra.Command {
	var access, follow bool
	var tail int
	var form string
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Print what Fairlead said about a run, or its access log",
		Long: `Print the log of a run: configuration applied or refused (with file, line and
field), names refused, proxies restarted. With --access, its access log: one line
per request or connection. The logs of ended runs stay for a while. With -f, what
is added follows, until the run has ended.`,
		Example: `  fairlead logs client
  fairlead logs client --access --tail 10
  fairlead logs client --access -f -o json | jq .why`,
		Args:              oneRun,
		ValidArgsFunction: completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			if form != short && form != jsonForm {
				return fmt.Errorf("-o %s: use short or json", form)
			}
			root, err := state.RootFor(env.StateHome, env.Home)
			if err != nil {
				return err
			}
			if supervisor.CheckName("name", args[0]) != nil {
				return noLog(root, args[0])
			}
			name := state.LogFile
			if access {
				name = state.AccessFile
			}
			path := filepath.Join(root.Run(args[0]), name)
			f, err := os.Open(path)
			if errors.Is(err, os.ErrNotExist) {
				return noLog(root, args[0])
			}
			if err != nil {
				return err
			}
			defer f.Close()
			if access && isRunning(args[0]) {
				noteIfOff(cmd.Context(), env, args[0])
			}
			if err := skipTo(f, tail); err != nil {
				return err
			}
			show := func() error { _, err := io.Copy(env.Out, f); return err }
			switch {
			case form == jsonForm:
			case access:
				show = func() error { return eventlog.ShowAccess(env.Out, f) }
			default:
				colour := term.IsTerminal(int(env.Out.Fd()))
				show = func() error { return eventlog.Show(env.Out, f, colour) }
			}
			if !follow {
				return show()
			}
			return followFile(cmd.Context(), f, show, func() bool { return isRunning(args[0]) && isAt(f, path) })
		},
	}
	cmd.Flags().BoolVar(&access, "access", false, "the access log")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on as lines are added, until the run has ended")
	cmd.Flags().IntVar(&tail, "tail", -1, "only the last N lines")
	cmd.Flags().StringVarP(&form, "output", "o", short, "form of the log: short for people, json as it is written")
	must(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]cobra.Completion{short, jsonForm}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// noLog says why there is no such log.
func noLog(root state.Root, run string) error {
	if supervisor.CheckName("name", run) == nil {
		if _, err := os.Stat(filepath.Join(root.Run(run), state.LogFile)); err == nil {
			return fmt.Errorf("the access log of the run %q is where --access-log put it", run)
		}
	}
	return fmt.Errorf("no log of a run named %q; `fairlead proxy-status` lists the runs there are, and of ended runs only the newest leave their logs in %s", run, root)
}

// noteIfOff says of a run whose access log is off that it is, lest its silence be
// taken for nothing having happened. It is not worth an error.
func noteIfOff(ctx context.Context, env Env, run string) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if s, err := supervisor.AskStatus(ctx, run); err == nil {
		fmt.Fprint(env.Err, offNote(s))
	}
}

func offNote(s supervisor.Status) string {
	if !s.LogOff {
		return ""
	}
	return fmt.Sprintf("The access log of %s is off, as ConfigMap istio-system/istio says accessLogFile: \"\"; a run with --access-log-format has one all the same.\n", s.Name)
}

// skipTo moves f to the beginning of its last n lines; n < 0: to its beginning.
func skipTo(f *os.File, n int) error {
	if n < 0 {
		return nil
	}
	starts := []int64{0} // offsets of the beginnings of the last n lines and one more
	r := bufio.NewReader(f)
	for at := int64(0); ; {
		line, err := r.ReadSlice('\n')
		at += int64(len(line))
		if err == nil {
			starts = append(starts, at)
			if len(starts) > n+1 {
				starts = starts[1:]
			}
			continue
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if !errors.Is(err, io.EOF) {
			return err
		}
		break
	}
	if n == 0 {
		starts = starts[len(starts)-1:]
	}
	_, err := f.Seek(starts[0], io.SeekStart)
	return err
}

// isRunning reports whether there is such a run, as far as can be known.
func isRunning(run string) bool {
	names, err := supervisor.Names()
	return err != nil || slices.Contains(names, run)
}

// isAt reports whether f is still what path names: a run takes the place of an
// earlier one of its name.
func isAt(f *os.File, path string) bool {
	ours, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(ours, there)
}

// followFile calls show at once and whenever something was added to f, until
// ctx ends or grows says that nothing will be; what came before that is shown.
func followFile(ctx context.Context, f *os.File, show func() error, grows func() bool) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("follow %s: %w", f.Name(), err)
	}
	defer w.Close()
	if err := w.Add(f.Name()); err != nil {
		return fmt.Errorf("follow %s: %w", f.Name(), err)
	}
	again := time.NewTicker(time.Second) // for the end, and file systems without notification
	defer again.Stop()
	more := grows()
	for {
		if err := show(); err != nil || !more {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.Errors:
			return err
		case <-w.Events:
		case <-again.C:
			more = grows()
		}
	}
}
