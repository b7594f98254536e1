package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/peer"
	"github.com/fairlead/fairlead/internal/state"
	"github.com/fairlead/fairlead/internal/supervisor"
)

// askAgain is the pause until a run that is not there is asked for again.
const askAgain = 50 * time.Millisecond

// whenThere calls ask until the run it asks is there, for env.Patience. The
// error says in words why there is no answer.
func whenThere(ctx context.Context, env Env, run string, ask func(context.Context) error) error {
	var err error
	if supervisor.CheckName("name", run) != nil {
		return missing(env, run) // nor will it ever be
	}
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for until := time.Now().Add(env.Patience); ; {
		if err = ask(ctx); !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(until) {
			return inWords(env, run, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inWords says what an error of asking a run means to the one who asked.
func inWords(env Env, run string, err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return missing(env, run)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the run %q does not answer; is it stopped (Ctrl-Z)?", run)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("the run %q ended, or its proxy, while it was asked; try again", run)
	case errors.Is(err, peer.ErrStranger):
		return fmt.Errorf("the run %q belongs to another user", run)
	}
	return err
}

// missing says that there is no such run, or no longer.
func missing(env Env, run string) error {
	if root, err := state.RootFor(env.StateHome, env.Home); err == nil && supervisor.CheckName("name", run) == nil {
		if _, err := os.Stat(filepath.Join(root.Run(run), state.LogFile)); err == nil {
			return fmt.Errorf("the run %q has ended; `fairlead logs %s` still has its log", run, run)
		}
	}
	return fmt.Errorf("no run named %q; `fairlead proxy-status` lists the runs there are", run)
}

// flagName finds the long names in a list of flags.
var flagName = regexp.MustCompile(`(?m)^ +(?:-[a-zA-Z], )?--([a-z-]+)`)

// flagFault says what is wrong with a flag, and what was probably meant.
func flagFault(cmd *cobra.Command, err error) error {
	var invalid interface { // what the flags' package calls a wrong value
		error
		GetValue() string
	}
	if errors.As(err, &invalid) && strings.Contains(err.Error(), "strconv.ParseInt") {
		err = fmt.Errorf("%s: give a whole number", cutAfter(err.Error(), `" flag`))
	} else if unknown, ok := strings.CutPrefix(err.Error(), "unknown flag: --"); ok {
		var names []string
		for _, m := range flagName.FindAllStringSubmatch(cmd.Flags().FlagUsages(), -1) {
			names = append(names, m[1])
		}
		if near := api.Nearest(unknown, names); near != "" {
			err = fmt.Errorf("%w (did you mean --%s?)", err, near)
		}
	}
	return fmt.Errorf("%w; `%s --help` lists the flags", err, cmd.CommandPath())
}

// cutAfter returns s up to and with the first end.
func cutAfter(s, end string) string {
	if before, _, ok := strings.Cut(s, end); ok {
		return before + end
	}
	return s
}
