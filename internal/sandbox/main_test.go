package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The first argument of this test binary where it is not a test: the init of a
// sandbox, a program in one, a supervisor of one, a client of exec.
const (
	asInit      = "as-init"
	asProgram   = "as-program"
	asSupervise = "as-supervisor"
	asClient    = "as-exec-client"
)

func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	switch args := os.Args[2:]; os.Args[1] {
	case asInit:
		exit(InitMain(args))
	case asProgram:
		exit(programMain(args))
	case asSupervise:
		exit(superviseMain(args))
	case asClient:
		exit(clientMain(args))
	}
	os.Exit(m.Run())
}

// exit ends the process at once. (os.Exit would have the race detector sleep
// for a second first.)
func exit(code int) {
	syscall.Exit(code)
}

// TestAllOfThisAsAnOrdinaryUser runs the other tests again as nobody, where the
// caller is root. (Where it is not, they have just been.)
func TestAllOfThisAsAnOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		return
	}
	cmd := exec.Command(readableSelf(t), "-test.v", "-test.skip=^TestAllOfThisAsAnOrdinaryUser$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "HOME=/", "TMPDIR=/tmp")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("\nPASS\n")) {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}

// readableSelf returns a copy of this binary that every user can execute.
func readableSelf(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "fairlead-sandbox-") //nolint:usetesting // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	text, err := os.ReadFile(selfExe)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "sandbox.test")
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// testDir is like t.TempDir, but reachable for every user.
func testDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "fairlead-sandbox-") //nolint:usetesting // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func self() []string { return []string{"sandbox.test", asInit} }

// open starts a sandbox that ends with the test.
func open(t testing.TB, o Options) *Sandbox {
	t.Helper()
	o.Self = self()
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// patience is how long a test waits for what should come at once.
const patience = time.Minute

// program is the command line of programMain.
func program(args ...string) []string {
	return append([]string{selfExe, asProgram}, args...)
}

// A result is what became of a command.
type result struct {
	Out, Err string
	Status   Status
}

// run has the sandbox run args as its command.
func run(t testing.TB, s *Sandbox, args ...string) result {
	t.Helper()
	return runIn(t, s, Command{Args: args, Env: os.Environ(), Dir: "/"})
}

func script(t testing.TB, s *Sandbox, text string) result {
	t.Helper()
	return run(t, s, "sh", "-c", text)
}

func runIn(t testing.TB, s *Sandbox, c Command) result {
	t.Helper()
	out, outEnd := pipe(t)
	errs, errEnd := pipe(t)
	c.Files[1], c.Files[2] = outEnd, errEnd
	if err := s.Run(c); err != nil {
		t.Fatal(err)
	}
	outEnd.Close()
	errEnd.Close()
	return finish(t, s.Wait, out, errs)
}

// inside has the sandbox execute args beside its command.
func inside(t testing.TB, s *Sandbox, args ...string) result {
	t.Helper()
	out, outEnd := pipe(t)
	errs, errEnd := pipe(t)
	p, err := s.Exec(Command{Args: args, Env: os.Environ(), Dir: "/", Files: [3]*os.File{nil, outEnd, errEnd}})
	if err != nil {
		t.Fatal(err)
	}
	outEnd.Close()
	errEnd.Close()
	return finish(t, p.Wait, out, errs)
}

func finish(t testing.TB, wait func() (Status, error), out, errs *os.File) result {
	t.Helper()
	var r result
	texts := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(errs)
		texts <- string(b)
	}()
	b, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	r.Out, r.Err = string(b), <-texts
	if r.Status, err = wait(); err != nil {
		t.Fatal(err)
	}
	return r
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	if err := r.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return r, w
}

// keep runs a command that lives as long as the sandbox.
func keep(t testing.TB, s *Sandbox) {
	t.Helper()
	if err := s.Run(Command{Args: []string{"sleep", "1000"}, Env: os.Environ(), Dir: "/"}); err != nil {
		t.Fatal(err)
	}
}

// superviseMain is the simplest `fairlead run`: a sandbox, a command.
func superviseMain(args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	s, err := Start(ctx, Options{Self: self(), Stderr: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		cancel()
		return 125
	}
	defer s.Close()
	defer cancel()
	got := make(chan os.Signal, 16)
	for _, sig := range relayed() {
		if !signal.Ignored(sig) {
			signal.Notify(got, sig)
		}
	}
	go func() {
		for sig := range got {
			_ = s.Signal(sig) // the test will miss it
		}
	}()
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	err = s.Run(Command{Args: args, Env: os.Environ(), Dir: dir, Files: [3]*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	status, err := s.Wait()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	return status.ExitCode()
}

// supervisor starts superviseMain as a process of its own, its standard output
// and error going to the file that is returned. The process is killed when the
// test ends.
func supervisor(t *testing.T, args ...string) (*exec.Cmd, *lines) {
	t.Helper()
	out, end := pipe(t)
	cmd := exec.Command(selfExe, append([]string{asSupervise}, args...)...)
	cmd.Stdout, cmd.Stderr = end, end
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end.Close()
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() { late.Stop(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, &lines{t: t, from: out}
}

// lines are read one by one.
type lines struct {
	t    *testing.T
	from io.Reader
	rest string
}

// next returns the next line, without its end.
func (l *lines) next() string {
	l.t.Helper()
	for {
		if line, rest, ok := strings.Cut(l.rest, "\n"); ok {
			l.rest = rest
			return strings.TrimRight(line, "\r")
		}
		l.more("a line")
	}
}

// until reads until text has come, and returns what came before it.
func (l *lines) until(text string) string {
	l.t.Helper()
	for {
		if before, rest, ok := strings.Cut(l.rest, text); ok {
			l.rest = rest
			return before
		}
		l.more(fmt.Sprintf("%q", text))
	}
}

func (l *lines) more(want string) {
	l.t.Helper()
	buf := make([]byte, 4096)
	n, err := l.from.Read(buf)
	l.rest += string(buf[:n])
	if n == 0 && err != nil {
		l.t.Fatalf("waiting for %s: %v; have %q", want, err, l.rest)
	}
}

// descendants returns a descriptor of every process below pid.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	var fds []int
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		for _, word := range strings.Fields(string(text)) {
			var child int
			if _, err := fmt.Sscan(word, &child); err != nil {
				t.Fatal(err)
			}
			fd, err := unix.PidfdOpen(child, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Close(fd) })
			fds = append(append(fds, fd), descendants(t, child)...)
		}
	}
	return fds
}

// awaitEnd waits until the processes have ended.
func awaitEnd(t *testing.T, pidfds []int) {
	t.Helper()
	for _, fd := range pidfds {
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience/time.Millisecond))
			if err == unix.EINTR {
				continue
			}
			if err != nil || n != 1 {
				t.Fatalf("a process of the sandbox lives on (%v)", err)
			}
			break
		}
	}
}
