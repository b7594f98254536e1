package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

func TestSignalsArePassedOnOnce(t *testing.T) {
	cmd, said := supervisor(t, program("signals")...)
	said.until("ready\n")
	signals := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR2, syscall.SIGINT, syscall.SIGUSR1}
	if !signal.Ignored(syscall.SIGHUP) { // as below nohup, and then by the command too
		signals = slices.Insert(signals, 1, syscall.SIGHUP)
	}
	for _, sig := range signals {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if got := said.next(); got != unix.SignalName(sig) {
			t.Errorf("got %s, want %s", got, unix.SignalName(sig))
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestASignalOfTheCommandIsItsExitCode(t *testing.T) {
	cmd, said := supervisor(t, "sh", "-c", "echo ready; sleep 1000")
	said.until("ready\n")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 143 {
		t.Errorf("got %s", cmd.ProcessState)
	}
}

func TestIgnoredSignalsStayIgnored(t *testing.T) {
	out, end := pipe(t)
	cmd := exec.Command("sh", "-c", "trap '' HUP; exec "+selfExe+" \"$@\"", "sh", asSupervise, "grep", "SigIgn", "/proc/self/status")
	cmd.Args[2] = "trap '' HUP; exec \"$@\""
	cmd.Args = append(cmd.Args[:4], append([]string{executablePath(t)}, cmd.Args[4:]...)...)
	cmd.Stdout, cmd.Stderr = end, end
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	end.Close()
	got := (&lines{t: t, from: out}).next()
	if !strings.HasSuffix(got, "1") {
		t.Errorf("SIGHUP is not ignored: %s", got)
	}
}

func executablePath(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// inTerminal runs args as the leader of a session with a terminal of its own.
func inTerminal(t *testing.T, args ...string) (*exec.Cmd, *os.File, *lines) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "PS1=prompt>", "ENV=", "SELF="+executablePath(t))
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 77})
	if err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }) // and its terminal hangs up
	t.Cleanup(func() { late.Stop(); _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = master.Close() })
	return cmd, master, &lines{t: t, from: master}
}

func typeIn(t *testing.T, terminal *os.File, text string) {
	t.Helper()
	if _, err := terminal.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestInterruptsOfTheTerminalComeOnce(t *testing.T) {
	cmd, terminal, said := inTerminal(t, append([]string{executablePath(t), asSupervise}, program("signals")...)...)
	said.until("ready\r\n")
	comes := func(name string) {
		t.Helper()
		if more := said.until(name + "\r\n"); strings.Trim(more, `^C\`) != "" { // the terminal's own echo
			t.Errorf("more than was sent: %q", more)
		}
	}
	byHand := func(sig syscall.Signal) { // to the supervisor alone
		t.Helper()
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		comes(unix.SignalName(sig))
	}
	byHand(syscall.SIGINT)
	byHand(syscall.SIGINT)
	for range 3 {
		typeIn(t, terminal, "\x03")
		comes("SIGINT")
	}
	typeIn(t, terminal, "\x1c")
	comes("SIGQUIT")
	byHand(syscall.SIGUSR1)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestCtrlZStopsAndForegroundContinues(t *testing.T) {
	cmd, terminal, said := inTerminal(t, "sh", "-i")
	said.until("prompt>")
	typeIn(t, terminal, "stty -echo; echo a-$((1+1))\n")
	said.until("a-2")
	typeIn(t, terminal, "$SELF "+asSupervise+" sh -c 'echo up; read line; echo got $line; exit 3'\n")
	said.until("up\r\n")
	typeIn(t, terminal, "\x1a")
	said.until("prompt>") // the shell has it back
	awaitStop(t, cmd.Process.Pid, "sh -c echo up;")
	typeIn(t, terminal, "jobs; echo b-$((1+1))\n")
	if jobs := said.until("b-2"); !strings.Contains(jobs, "Stopped") {
		t.Errorf("jobs: %q", jobs)
	}
	typeIn(t, terminal, "fg\n")
	said.until(asSupervise)
	typeIn(t, terminal, "hello\n")
	said.until("got hello")
	typeIn(t, terminal, "echo code-$?\n")
	said.until("code-3")
}

// awaitStop waits until the process below pid whose command line starts with
// words has stopped. A shell waits for its own child alone: what is below that
// may be about to stop still, and take what is typed.
func awaitStop(t *testing.T, pid int, words string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if state := stateBelow(t, pid, words); state == "T" {
			return
		}
	}
	t.Fatalf("%q does not stop", words)
}

// stateBelow returns the state of that process, or "" if there is none.
func stateBelow(t *testing.T, pid int, words string) string {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range threads {
		text, _ := os.ReadFile(path) // the thread may have ended
		for _, word := range strings.Fields(string(text)) {
			line, _ := os.ReadFile("/proc/" + word + "/cmdline")
			if strings.HasPrefix(strings.ReplaceAll(string(line), "\x00", " "), words) {
				stat, _ := os.ReadFile("/proc/" + word + "/stat")
				_, rest, _ := strings.Cut(string(stat), ") ")
				state, _, _ := strings.Cut(rest, " ")
				return state
			}
			child, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			if state := stateBelow(t, child, words); state != "" {
				return state
			}
		}
	}
	return ""
}

func TestARunContinuedInTheBackgroundLeavesTheTerminalAlone(t *testing.T) {
	cmd, terminal, said := inTerminal(t, "sh", "-i")
	said.until("prompt>")
	typeIn(t, terminal, "stty -echo; echo a-$((1+1))\n")
	said.until("a-2")
	typeIn(t, terminal, "$SELF "+asSupervise+" sh -c 'echo up; sleep 1 & wait; exit 3'\n")
	said.until("up\r\n")
	typeIn(t, terminal, "\x1a")
	said.until("prompt>")
	awaitStop(t, cmd.Process.Pid, "sh -c echo up;")
	typeIn(t, terminal, "bg; wait %1; echo code-$?\n")
	said.until("code-3")
	typeIn(t, terminal, "read line; echo got $line\nhello\n")
	said.until("got hello")
}

func TestASignalFromBeforeTheStartIsNotTheCommands(t *testing.T) {
	came := make(chan os.Signal, 1)
	signal.Notify(came, syscall.SIGUSR2)
	defer signal.Stop(came)
	send := func() {
		if err := syscall.Kill(os.Getpid(), syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		<-came
	}
	e := listen()
	defer e.stop()
	send()
	e.begin()
	if e.also(syscall.SIGUSR2) {
		t.Error("a signal from before the start counts")
	}
	send()
	if !e.also(syscall.SIGUSR2) {
		t.Error("a signal from after the start does not count")
	}
}

func TestAnInteractiveShellGivesTheTerminalBack(t *testing.T) {
	_, terminal, said := inTerminal(t, "sh", "-c", "$SELF "+asSupervise+" sh -i; read line; echo got $line")
	said.until("prompt>")
	// A Ctrl-C that dash gets while it starts a command is lost: so not before
	// the command runs.
	typeIn(t, terminal, "sh -c 'echo b-$((1+1)); exec sleep 1000'\n")
	said.until("b-2")
	typeIn(t, terminal, "\x03")
	said.until("prompt>")
	typeIn(t, terminal, "echo c-$((1+1)); exit\n")
	said.until("c-2\r\n")
	typeIn(t, terminal, "hello\n")
	said.until("got hello")
}

func TestACommandCannotTypeIntoItsTerminal(t *testing.T) {
	// Root may do it anywhere, an ordinary user in his own terminal if the kernel
	// was told so: the answer must be the filter's.
	_, _, said := inTerminal(t, append([]string{executablePath(t), asSupervise}, program("type")...)...)
	for range 3 {
		if got := said.next(); got != "EPERM" {
			t.Errorf("got %q, want EPERM", got)
		}
	}
}

func TestABackgroundRunLeavesTheTerminalAlone(t *testing.T) {
	_, terminal, said := inTerminal(t, "sh", "-i")
	said.until("prompt>")
	typeIn(t, terminal, "stty -echo; $SELF "+asSupervise+" true & wait $!; echo d-$?\n")
	said.until("d-0")
	typeIn(t, terminal, "read line; echo got $line\nhello\n")
	said.until("got hello")
}
