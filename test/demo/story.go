package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/test/world"
)

// A step is one command and what must come of it.
type step struct {
	say   string   // what it shows
	run   string   // shell
	code  int      // its exit code
	want  []string // in what it prints
	never string   // not in what it prints
	// settles: the outcome may take a moment, as a changed file does. The
	// command is repeated until it fits, a second at most by the promise.
	settles bool
}

// A story runs steps in one world and prints them.
type story struct {
	ctx    context.Context
	world  *world.World
	out    io.Writer
	colour bool
	jobs   []*exec.Cmd
}

// settle is how long a step may take to come out as told. A change reaches the
// proxy within a second; a loaded machine gets more.
const settle = 5 * time.Second

func (s *story) tell() error {
	for _, part := range []func() error{s.shortRuns, s.longRun} {
		if err := part(); err != nil {
			return err
		}
	}
	s.say("\nThe story went as told.")
	return nil
}

func (s *story) shortRuns() error {
	return s.steps([]step{
		{
			say: "An entry declares www.baidu.com. The command runs behind its proxy, and the page comes.",
			run: "cat svc-entry.yaml",
		},
		{
			run:  "fairlead run -f svc-entry.yaml -- busybox wget -q -O - http://www.baidu.com",
			want: []string{"the page of www.baidu.com"},
		},
		{
			say:  "HTTPS is passed through, by the name in its hello.",
			run:  "fairlead run -f svc-entry.yaml -- curl -s -k https://www.baidu.com",
			want: []string{"the page of www.baidu.com, encrypted"},
		},
		{
			say:  "The same host with a fixed endpoint where nobody is: the proxy answers.",
			run:  "diff svc-entry.yaml static.yaml",
			code: 1,
			want: []string{"192.168.0.100"},
		},
		{
			run:   "fairlead run -f static.yaml -- busybox wget -q -O - http://www.baidu.com",
			code:  1,
			want:  []string{"wget: server returned error: HTTP/1.1 503 Service Unavailable"},
			never: "the page",
		},
		{
			say:  "And it says why, in one sentence.",
			run:  "fairlead run -f static.yaml -- curl -s http://www.baidu.com",
			want: []string{"ServiceEntry default/svc-entry", "static.yaml", "192.168.0.100:80", "unreachable"},
		},
		{
			say:   "Closed, nothing leaves that no entry declares: not by address, not by name.",
			run:   "fairlead run --closed -f static.yaml -- curl -s http://198.51.100.10",
			want:  []string{"REGISTRY_ONLY"},
			never: "the page",
		},
		{
			run:  "fairlead run --closed -f static.yaml -- busybox nslookup secrets.example.org",
			code: 1,
			want: []string{"REFUSED"},
		},
	})
}

func (s *story) longRun() error {
	if err := s.steps([]step{{
		say: "Now a command that stays, with a folder of entries.",
		run: "cp svc-entry.yaml entries/",
	}}); err != nil {
		return err
	}
	if err := s.background("fairlead run --name svc-entry-client -n default --closed -f entries/ -- sleep 3600"); err != nil {
		return err
	}
	const ask = "fairlead exec svc-entry-client -- curl -s http://www.baidu.com"
	return s.steps([]step{
		{run: ask, want: []string{"the page of www.baidu.com"}, settles: true},
		{
			say:  "What its proxy has, and whether it is up to date.",
			run:  "fairlead proxy-config cluster svc-entry-client",
			want: []string{"www.baidu.com", "80", "443"},
		},
		{run: "fairlead proxy-config endpoint svc-entry-client", want: []string{"198.51.100.10"}},
		{run: "fairlead proxy-config route svc-entry-client", want: []string{"www.baidu.com"}},
		{run: "fairlead proxy-status", want: []string{"svc-entry-client"}},
		{
			say: "The entry is edited while the command runs. Its proxy has the change within a second.",
			run: "cp static.yaml entries/svc-entry.yaml",
		},
		{run: ask, want: []string{"ServiceEntry default/svc-entry", "192.168.0.100:80"}, settles: true},
		{
			say: "A file with a mistake is reported, and the last good state stays.",
			run: "sed 's/resolution: STATIC/resolution: STATICK/' static.yaml > entries/svc-entry.yaml",
		},
		{run: "fairlead logs svc-entry-client", want: []string{"svc-entry.yaml", "STATICK"}, settles: true},
		{run: ask, want: []string{"192.168.0.100:80"}},
		{
			say: "Back to DNS: the page is there again.",
			run: "cp svc-entry.yaml entries/",
		},
		{run: ask, want: []string{"the page of www.baidu.com"}, settles: true},
		{
			say: "Clean up: the file is deleted, and the host is unknown again.",
			run: "rm entries/svc-entry.yaml",
		},
		{
			run:     "fairlead exec svc-entry-client -- curl -s --resolve www.baidu.com:80:198.51.100.10 http://www.baidu.com",
			want:    []string{"www.baidu.com", "not declared", "REGISTRY_ONLY"},
			never:   "the page",
			settles: true,
		},
		{run: "fairlead exec svc-entry-client -- busybox nslookup www.baidu.com", code: 1, want: []string{"REFUSED"}, settles: true},
	})
}

func (s *story) steps(list []step) error {
	for _, st := range list {
		if st.say != "" {
			s.say("\n" + st.say)
		}
		if err := s.step(st); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) step(st step) error {
	s.prompt(st.run)
	deadline := time.Now().Add(settle)
	for {
		out, code, err := s.shell(st.run)
		if err != nil {
			return fmt.Errorf("%s: %w", st.run, err)
		}
		wrong := st.judge(out, code)
		if wrong != nil && st.settles && time.Now().Before(deadline) && s.ctx.Err() == nil {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		fmt.Fprint(s.out, out)
		if out != "" && !strings.HasSuffix(out, "\n") {
			fmt.Fprintln(s.out)
		}
		if wrong != nil {
			return fmt.Errorf("the step went otherwise than told: %s\n  %w", st.run, wrong)
		}
		return nil
	}
}

func (st step) judge(out string, code int) error {
	var errs []error
	if code != st.code {
		errs = append(errs, fmt.Errorf("exit code %d, told %d", code, st.code))
	}
	for _, w := range st.want {
		if !strings.Contains(out, w) {
			errs = append(errs, fmt.Errorf("no %q in what came back", w))
		}
	}
	if st.never != "" && strings.Contains(out, st.never) {
		errs = append(errs, fmt.Errorf("%q in what came back", st.never))
	}
	return errors.Join(errs...)
}

// command prepares a shell line in the world's host, in the story's folder.
func (s *story) command(line string) *exec.Cmd {
	cmd := exec.CommandContext(s.ctx, "sh", "-c", line)
	cmd.Dir = s.world.Dir
	cmd.Env = append(os.Environ(),
		"HOME="+s.world.Dir, "XDG_STATE_HOME=", "LC_ALL=C", "PATH="+s.world.Dir+"/bin:"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

func (s *story) shell(line string) (out string, code int, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
	defer cancel()
	var both bytes.Buffer
	cmd := s.command(line)
	cmd.Stdout, cmd.Stderr = &both, &both
	if err := s.world.Start(cmd); err != nil {
		return "", 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Cancel() }) // it may have ended just now
	defer stop()
	err = cmd.Wait()
	if ctx.Err() != nil {
		return "", 0, fmt.Errorf("it did not end in time; so far it said: %s", &both)
	}
	if errors.As(err, new(*exec.ExitError)) {
		err = nil
	}
	return both.String(), cmd.ProcessState.ExitCode(), err
}

// background starts a line and goes on; end ends it.
func (s *story) background(line string) error {
	s.prompt(line + " &")
	cmd := s.command("exec " + line)
	cmd.Stdout, cmd.Stderr = s.out, s.out
	if err := s.world.Start(cmd); err != nil {
		return err
	}
	s.jobs = append(s.jobs, cmd)
	return nil
}

// end ends what runs in the background, as a user would.
func (s *story) end() {
	for _, cmd := range s.jobs {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()                          // killed by the story's limit at the latest
	}
}

func (s *story) say(text string) { fmt.Fprintln(s.out, s.paint("1", text)) }

func (s *story) prompt(line string) { fmt.Fprintln(s.out, s.paint("36", "$ "+line)) }

func (s *story) paint(code, text string) string {
	if !s.colour {
		return text
	}
	lead := text[:len(text)-len(strings.TrimLeft(text, "\n"))]
	return lead + "\x1b[" + code + "m" + strings.TrimLeft(text, "\n") + "\x1b[0m"
}
