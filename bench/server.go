package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The cores of the two sides.
const (
	loadCore  = 0
	proxyCore = 1
)

// onCore prepares a program pinned to a core, where there are several.
func onCore(ctx context.Context, core int, name string, args ...string) *exec.Cmd {
	if runtime.NumCPU() > 1 {
		args = append([]string{"-c", strconv.Itoa(core), name}, args...)
		name = "taskset"
	}
	return exec.CommandContext(ctx, name, args...)
}

// A server is a running process: a proxy, a backend, or another part.
type server struct {
	cmd   *exec.Cmd
	pid   int // 0: it never ran
	addr  string
	said  *tail           // on standard error
	ended <-chan struct{} // closed when a program has ended; nil: a part of ours
	part  bool            // a part of this program, which can be talked with
	in    io.WriteCloser
	out   *bufio.Reader
	ends  []func() // called by stop, last first
}

// startPart runs a part of this program until the server is stopped. Its
// address is what it prints first.
func startPart(ctx context.Context, core int, name string, args ...string) (*server, error) {
	cmd, err := partCommand(ctx, core, name, args...)
	if err != nil {
		return nil, err
	}
	s := &server{cmd: cmd, part: true, said: new(tail)}
	s.cmd.Stderr = s.said
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	s.out = bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.pid = s.cmd.Process.Pid // taskset becomes the program
	if s.addr, err = s.read(); err != nil {
		s.stop()
		return nil, fmt.Errorf("start %s: %w", name, s.blame(err))
	}
	return s, nil
}

// partCommand prepares a part of this program. Not by /proc/self/exe: taskset
// would find itself there.
func partCommand(ctx context.Context, core int, name string, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return onCore(ctx, core, self, append([]string{"part", name}, args...)...), nil
}

// startProgram runs a peer, pinned, with a file of configuration in a folder of
// its own, and waits until it listens. In args, DIR stands for that folder.
func startProgram(ctx context.Context, addr, file, config string, args ...string) (*server, error) {
	program, err := exec.LookPath(args[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", args[0], errMissing)
	}
	dir, err := os.MkdirTemp("", "bench-"+args[0]+"-")
	if err != nil {
		return nil, err
	}
	s := &server{addr: addr, ends: []func(){func() { _ = os.RemoveAll(dir) }}}
	config = strings.ReplaceAll(config, "DIR", dir)
	if err := os.WriteFile(filepath.Join(dir, file), []byte(config), 0o600); err != nil {
		s.stop()
		return nil, err
	}
	args[0] = program
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "DIR", dir)
	}
	s.cmd = onCore(ctx, proxyCore, args[0], args[1:]...)
	s.cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	return s, s.launch(ctx)
}

// launch starts the command of a program and waits until it listens. After an
// error nothing is left of it.
func (s *server) launch(ctx context.Context) error {
	s.said = new(tail)
	s.cmd.Stderr = s.said
	if err := s.cmd.Start(); err != nil {
		s.stop()
		return err
	}
	s.pid = s.cmd.Process.Pid
	ended := make(chan struct{})
	s.ended = ended
	go func() {
		_ = s.cmd.Wait() // how it ended is in what it said
		close(ended)
	}()
	if err := s.listens(ctx); err != nil {
		s.stop()
		return s.blame(err)
	}
	return nil
}

func (s *server) listens(ctx context.Context) error {
	for range 500 {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-s.ended:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.NewTimer(20 * time.Millisecond).C:
		}
	}
	return fmt.Errorf("nobody listens on %s", s.addr)
}

// stop ends the process and those it started, and waits for it.
func (s *server) stop() {
	switch {
	case s.pid == 0: // it never ran
	case s.ended == nil:
		_ = s.cmd.Process.Kill() // it may have ended
		_ = s.cmd.Wait()
	default:
		_ = s.cmd.Process.Signal(syscall.SIGTERM) // so that it ends its workers
		late := time.AfterFunc(2*time.Second, func() {
			for _, pid := range family(s.pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
		<-s.ended
		late.Stop()
	}
	for i := len(s.ends) - 1; i >= 0; i-- {
		s.ends[i]()
	}
	s.ends = nil
}

// ask writes a line to a part and returns the one it answers with.
func (s *server) ask(line string) (string, error) {
	if _, err := io.WriteString(s.in, line+"\n"); err != nil {
		return "", s.blame(err)
	}
	answer, err := s.read()
	if err != nil {
		return "", s.blame(err)
	}
	return answer, nil
}

func (s *server) read() (string, error) {
	line, err := s.out.ReadString('\n')
	return strings.TrimSpace(line), err
}

// blame adds what the process said last.
func (s *server) blame(err error) error {
	if text := s.said.String(); text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// mallocs is how often a part of this program has allocated.
func (s *server) mallocs() (float64, error) {
	answer, err := s.ask("allocations")
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(answer, 64)
}

// cpu is the CPU time, user and system, of the process and of those it started
// that live, all threads, to the nanosecond: the kernel has a clock for each.
func (s *server) cpu() (sum time.Duration, err error) {
	const sched = 2
	for _, pid := range family(s.pid) {
		var ts unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|sched), &ts); err != nil { //nolint:gosec // pids fit
			return 0, s.blame(fmt.Errorf("CPU clock of process %d: %w", pid, err))
		}
		sum += time.Duration(ts.Nano())
	}
	return sum, nil
}

// resident is the memory, in bytes, that the process and those it started have in RAM.
func (s *server) resident() (sum float64, err error) {
	for _, pid := range family(s.pid) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, s.blame(err)
		}
		_, rest, ok := bytes.Cut(b, []byte("\nRss:"))
		fields := bytes.Fields(rest)
		if !ok || len(fields) == 0 {
			return 0, fmt.Errorf("no Rss in smaps_rollup of process %d", pid)
		}
		kb, err := strconv.ParseFloat(string(fields[0]), 64)
		if err != nil {
			return 0, err
		}
		sum += kb * 1024
	}
	return sum, nil
}

// family is a process with its living descendants.
func family(pid int) []int {
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i])) // the pattern is sound
		for _, list := range lists {
			b, _ := os.ReadFile(list) // a thread that ended has none
			for _, word := range strings.Fields(string(b)) {
				if child, err := strconv.Atoi(word); err == nil {
					all = append(all, child)
				}
			}
		}
	}
	return all
}

// A tail keeps the first and the last that is written to it, to tell what went wrong.
type tail struct {
	mu sync.Mutex
	b  []byte // guarded by mu
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > 1<<12 {
		t.b = append(t.b[:1<<10], t.b[len(t.b)-1<<10:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.Join(strings.Fields(string(t.b)), " ")
	if len(text) > 300 {
		text = text[:300] + " ..."
	}
	return text
}

// freeAddress is one that nobody listens on for now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// raiseDescriptors lets this process and all that it starts have as many files
// open as the machine allows, at most 131,072.
func raiseDescriptors() error {
	const enough = 1 << 17
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		return err
	}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: enough, Max: max(now.Max, enough)}) == nil {
		return nil
	}
	now.Cur = now.Max // without the right to more
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &now)
}

// openFiles is how many files a process of the bench may have open.
func openFiles() int {
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		return 1024 // what there is at least
	}
	return int(min(now.Cur, 1<<17))
}
