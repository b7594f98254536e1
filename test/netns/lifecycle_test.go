package netns

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
)

func TestTheExitCodeIsTheCommands(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		b.file("not-executable", "text")
		for _, c := range []struct {
			args []string
			want int
		}{
			{[]string{"true"}, 0},
			{[]string{"sh", "-c", "exit 42"}, 42},
			{[]string{"sh", "-c", "kill -TERM $$"}, 143},
			{[]string{"sh", "-c", "kill -KILL $$"}, 137},
			{[]string{b.Dir + "/not-executable"}, 126},
			{[]string{b.Dir + "/not-there"}, 127},
			{[]string{"no-such-command-anywhere"}, 127},
		} {
			r := b.fairlead(append([]string{"run", "-f", f, "--"}, c.args...)...)
			b.want(strings.Join(c.args, " "), r, c.want)
		}
		b.want("a wrong flag", b.fairlead("run", "--no-such-flag", "--", "true"), 125, "no-such-flag")
		b.want("a wrong policy", b.fairlead("run", "--outbound-policy", "MAYBE", "--", "true"), 125, "MAYBE")
	})
}

func TestSignalsReachTheCommand(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		caught := b.start(runArgs("-f "+f, `trap 'echo caught; exit 7' TERM; echo ready; while :; do sleep 0.05; done`)...)
		caught.await("ready\n")
		plain := b.background("plain", "-f "+f)
		for _, p := range []*process{caught, plain} {
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				b.Fatal(err)
			}
		}
		if code := caught.wait(); code != 7 || !strings.Contains(caught.out.String(), "caught") {
			b.Errorf("a command with a trap: code %d, %q", code, &caught.out)
		}
		if code := plain.wait(); code != 143 {
			b.Errorf("a command without one: code %d, want 143", code)
		}
	})
}

func TestExecRunsInTheSameSandbox(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		b.background("client", "--closed -f "+f)
		b.want("a request", b.in("client", "curl -s http://www.baidu.com"), 0, "the page")
		b.want("the policy", b.in("client", "curl -s -w %{http_code} http://203.0.113.20"), 0, "502")
		b.want("the exit code", b.in("client", "exit 9"), 9)
		b.want("a signal", b.in("client", "kill -TERM $$"), 143)
		b.want("both outputs", b.in("client", "echo to out; echo to err >&2"), 0, "to out", "to err")
		b.want("standard input", b.host("some words", "fairlead", "exec", "client", "--", "cat"), 0, "some words")
		b.want("no such command", b.fairlead("exec", "client", "--", "/not/there"), 127)
		b.want("no such run", b.fairlead("exec", "nobody", "--", "true"), 125, "nobody")
		b.want("its folder and user", b.in("client", "id -u"), 0)
	})
}

func TestANameInUseIsRefused(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		b.background("client", "-f "+f)
		b.want("the second", b.run("--name client -f "+f, "echo started"), 125, "client")
		b.want("without a name", b.run("-f "+f, "echo started"), 0, "started")
	})
}

func TestStandardStreamsAreTheCommands(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		r := b.host("a line\n", "fairlead", "run", "-f", f, "--", "sh", "-c", "cat; echo problem >&2")
		if r.out != "a line\n" || !strings.Contains(r.err, "problem\n") {
			b.Errorf("streams are mixed: %s", r)
		}
	})
}

func TestTheTerminalWorksAsWithoutIt(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		p := b.shell()
		p.say("fairlead run --name client -f " + f + " -- sh -c 'stty size; trap \"echo resumed\" CONT; echo up; while :; do sleep 0.1; done'")
		p.await("40 120")
		p.await("up\r\n")
		p.say("\x1a") // Ctrl-Z
		p.await("Stopped")
		// The proxy is not stopped with the command: its peers would wait.
		proxy := childBeside(childBeside(p.cmd.Process.Pid))
		if state := stateOf(proxy); proxy == 0 || state == "T" {
			b.Errorf("after Ctrl-Z the proxy, process %d, is in state %q", proxy, state)
		}
		p.say("fg")
		p.await("resumed\r\n")
		p.say("\x03") // Ctrl-C
		p.await("^C")
		p.say("echo code=$?")
		p.await("code=130")
		p.say("fairlead run --name two -f " + f + " -- sh -c 'read line; echo got $line'")
		p.say("words")
		p.await("got words")
		b.background("three", "-f "+f)
		p.say("fairlead exec three -- sh -c 'echo $((1+1)) $(stty size) terminal'")
		p.await("2 40 120 terminal")
	})
}

// shell is an interactive shell on a terminal of its own.
func (b *bed) shell() *terminal {
	b.Helper()
	cmd := b.command(b.Context(), "bash", "--norc", "--noprofile", "-i")
	cmd.Env = append(cmd.Env, "PS1=> ")
	t := &terminal{process: process{b: b, cmd: cmd, done: make(chan struct{})}}
	if err := b.InHost(func() (err error) {
		t.side, err = pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 120})
		return err
	}); err != nil {
		b.Fatal(err)
	}
	go func() {
		defer close(t.done)
		p := make([]byte, 4096)
		for {
			n, err := t.side.Read(p)
			t.out.Write(p[:n])
			if err != nil {
				break
			}
		}
		_ = cmd.Wait() // the shell's code is of no interest
	}()
	b.Cleanup(func() {
		killTree(cmd.Process.Pid)
		if err := t.side.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			b.Error(err)
		}
		<-t.done
	})
	t.await("> ")
	return t
}

type terminal struct {
	process
	side *os.File
}

// say types a line, or one control character.
func (t *terminal) say(line string) {
	t.b.Helper()
	if len(line) > 1 {
		line += "\n"
	}
	if _, err := t.side.WriteString(line); err != nil {
		t.b.Fatal(err)
	}
}
