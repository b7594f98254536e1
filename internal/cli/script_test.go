package cli

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"fairlead": func() {
			env := Environment()
			env.Patience = 0 // no run is there, nor will one come
			os.Exit(Main(os.Args[1:], env))
		},
	})
}

// TestScripts are what is typed and what is answered, without a sandbox.
// UPDATE=1 writes the answers.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Setup: func(e *testscript.Env) error {
			e.Setenv("XDG_STATE_HOME", e.WorkDir+"/state")
			e.Setenv("GORACE", "atexit_sleep_ms=0") // or every command takes a second
			return nil
		},
	})
}

// exits runs a command that is to end with an exit code: exits 125 fairlead run.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG]...")
	}
	code, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != code {
		ts.Fatalf("%v, want exit code %d", err, code)
	}
}
