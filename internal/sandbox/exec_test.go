package sandbox

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/peer"
)

// serveExec serves clients at an abstract socket until the test ends.
func serveExec(t *testing.T, s *Sandbox) (address string) {
	t.Helper()
	l, err := peer.Listen("@fairlead-exec-" + filepath.Base(testDir(t)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() {
				if err := s.ServeExec(ctx, conn.(*net.UnixConn)); err != nil && ctx.Err() == nil {
					t.Log(err)
				}
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		tasks.Wait()
	})
	return l.Addr().String()
}

// client runs ExecClient as a process of its own.
func client(t *testing.T, address string, args ...string) result {
	t.Helper()
	cmd := exec.Command(executablePath(t), append([]string{asClient, address}, args...)...)
	var out, errs strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("typed\n"), &out, &errs
	err := cmd.Run()
	if e := (*exec.ExitError)(nil); err != nil && !errors.As(err, &e) {
		t.Fatal(err)
	}
	return result{Out: out.String(), Err: errs.String(), Status: Status{Code: cmd.ProcessState.ExitCode()}}
}

func TestExecRunsBesideTheCommand(t *testing.T) {
	s := open(t, Options{})
	startProxy(t, s)
	keep(t, s)
	address := serveExec(t, s)
	for _, tt := range []struct {
		args []string
		want result
	}{
		{program("get", "192.0.2.1:80"), result{Out: "connected\nyou asked for 192.0.2.1:80\n"}},
		{[]string{"cat"}, result{Out: "typed\n"}},
		{[]string{"sh", "-c", "echo out; echo err >&2; exit 9"}, result{Out: "out\n", Err: "err\n", Status: Status{Code: 9}}},
		{[]string{"sh", "-c", "kill -9 $$"}, result{Status: Status{Code: 137}}},
		{[]string{"no-such-command"}, result{Err: "no-such-command: command not found\n", Status: Status{Code: 127}}},
		{[]string{"/tmp"}, result{Err: "/tmp: cannot execute: it is a directory\n", Status: Status{Code: 126}}},
		{[]string{"echo", strings.Repeat("long", 30_000)}, result{Out: strings.Repeat("long", 30_000) + "\n"}},
		{[]string{"tty"}, result{Out: "not a tty\n", Status: Status{Code: 1}}},
	} {
		t.Run(tt.args[0], func(t *testing.T) {
			if d := cmp.Diff(tt.want, client(t, address, tt.args...)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestExecHasATerminalWhereItsCallerHas(t *testing.T) {
	s := open(t, Options{})
	keep(t, s)
	cmd, terminal, said := inTerminal(t, executablePath(t), asClient, serveExec(t, s),
		"sh", "-c", "tty > /dev/null && stty size < /dev/tty; trap 'echo interrupted; read line; exit 5' INT; echo ready; read line; read line")
	said.until("33 77\r\n")
	said.until("ready\r\n")
	typeIn(t, terminal, "\x03")
	said.until("interrupted\r\n")
	typeIn(t, terminal, "\n")
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("got %s", cmd.ProcessState)
	}
}

func TestExecPassesSignalsOn(t *testing.T) {
	s := open(t, Options{})
	keep(t, s)
	out, end := pipe(t)
	cmd := exec.Command(executablePath(t), append([]string{asClient, serveExec(t, s)}, program("signals")...)...)
	cmd.Stdout, cmd.Stderr = end, end
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end.Close()
	said := &lines{t: t, from: out}
	said.until("ready\n")
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		said.until(sigName(sig) + "\n")
	}
	if err := cmd.Process.Kill(); err != nil { // as if its terminal had gone
		t.Fatal(err)
	}
	said.until("SIGHUP\n")
	_ = cmd.Wait()
}

// What comes while the command is being started is not lost, nor does it end the
// client: the command may have said already that it is there.
func TestExecPassesOnWhatComesBeforeTheStart(t *testing.T) {
	l, err := peer.Listen("@fairlead-exec-" + filepath.Base(testDir(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := exec.Command(executablePath(t), asClient, l.Addr().String(), "any")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := peer.NewChannel(conn.(*net.UnixConn))
	for range 2 {
		var o order
		files, err := c.Receive(peer.MaxFrame, &o)
		peer.CloseAll(files)
		if err != nil {
			t.Fatal(err)
		}
		if o.Start == nil {
			if o.Signal != int(syscall.SIGTERM) {
				t.Errorf("passed on %+v", o)
			}
			break
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range []event{{Started: true}, {Ended: true, Code: 7}} {
		if err := c.Send(e); err != nil {
			t.Fatal(err)
		}
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("got %s", cmd.ProcessState)
	}
}

func sigName(s syscall.Signal) string {
	return map[syscall.Signal]string{syscall.SIGTERM: "SIGTERM", syscall.SIGINT: "SIGINT"}[s]
}

func TestExecEndsWithTheCommand(t *testing.T) {
	s := open(t, Options{})
	in, inEnd := pipe(t)
	if err := s.Run(Command{Args: []string{"cat"}, Env: os.Environ(), Files: [3]*os.File{in, nil, nil}}); err != nil {
		t.Fatal(err)
	}
	p, err := s.Exec(Command{Args: []string{"sleep", "1000"}, Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	inEnd.Close()
	if _, err := s.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := p.Wait(); !errors.Is(err, ErrEnded) {
		t.Errorf("got %v", err)
	}
}

func TestAClientOfExecThatSaysNothingIsNotWaitedFor(t *testing.T) {
	s := open(t, Options{})
	ours, theirs, err := peer.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if err := s.serveExec(t.Context(), ours, time.Millisecond); err == nil || !strings.Contains(err.Error(), "did not say within 1ms") {
		t.Errorf("got %v", err)
	}
}

func TestASlowTerminalGetsAllOfTheOutput(t *testing.T) {
	master, command := pipe(t)
	screen, out := pipe(t)
	fill(t, out)
	fill(t, command)
	v := &view{master: master, out: out}
	v.relaying.Go(v.relayOutput)
	closed := make(chan error, 1)
	go func() { closed <- errors.Join(v.close(), out.Close()) }() // the command has ended, but another holds its terminal
	time.Sleep(lastOutput * 3 / 2)                                // the terminal takes longer than a quiet one is read
	got, err := io.ReadAll(screen)
	if err := errors.Join(err, <-closed); err != nil {
		t.Error(err)
	}
	if want := 2 * pipeSize; len(got) != want {
		t.Errorf("%d bytes came to the terminal, want %d", len(got), want)
	}
}

// pipeSize is what fits into a pipe.
const pipeSize = 64 << 10

func fill(t *testing.T, pipe *os.File) {
	t.Helper()
	if _, err := unix.FcntlInt(pipe.Fd(), unix.F_SETPIPE_SZ, pipeSize); err != nil {
		t.Fatal(err)
	}
	if _, err := pipe.Write(make([]byte, pipeSize)); err != nil {
		t.Fatal(err)
	}
}
