package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/test/world"
)

// patience bounds every wait for something that must happen. It is no
// promise: a slow machine may use all of it.
const patience = 30 * time.Second

// The internet of every bed.
var (
	baidu4 = netip.MustParseAddr("198.51.100.10")
	baidu6 = netip.MustParseAddr("2001:db8::10")
	other4 = netip.MustParseAddr("203.0.113.20")
)

// programs is the folder with the fairlead binary and this test as a client,
// open to every user.
var programs string

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "client" {
		os.Exit(clientMain(os.Args[2], os.Args[3:]))
	}
	os.Exit(withPrograms(m))
}

func withPrograms(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fairlead-netns-")
	if err == nil {
		defer os.RemoveAll(dir)
		programs = dir
		err = errors.Join(os.Chmod(dir, 0o755), build(filepath.Join(dir, "fairlead")), copyClient(filepath.Join(dir, "client")))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare the programs under test:", err)
		return 1
	}
	return m.Run()
}

// build makes the binary under test as users get it. FAIRLEAD_RACE=1 builds it
// with the race detector; FAIRLEAD_BINARY names one that is built already.
func build(to string) error {
	if made := os.Getenv("FAIRLEAD_BINARY"); made != "" {
		return copyProgram(made, to)
	}
	args := []string{"build", "-tags=grpcnotrace", "-o", to}
	if os.Getenv("FAIRLEAD_RACE") != "" {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "../../cmd/fairlead")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return os.Chmod(to, 0o755)
}

func copyProgram(from, to string) error {
	program, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, program, 0o755)
}

func copyClient(to string) error {
	// A script in front gives the client its first argument.
	script := "#!/bin/sh\nexec " + to + ".bin client \"$@\"\n"
	return errors.Join(copyProgram("/proc/self/exe", to+".bin"), os.WriteFile(to, []byte(script), 0o755))
}

// A user is who runs fairlead.
type user struct {
	name string
	id   uint32
}

var (
	root     = user{"root", 0}
	ordinary = user{"an ordinary user", 65534}
)

// A bed is a world with the sites most tests need, and one user in it:
// www.baidu.com (v4 and v6, HTTP and HTTPS, "the page") is what tests declare,
// other.example ("the other page") is what they do not. Nobody is at
// 192.168.0.100.
type bed struct {
	*testing.T
	*world.World
	user   user
	baidu  *world.Site
	secure *world.Site
	other  *world.Site
}

// asEachUser runs a test as root and as an ordinary user.
func asEachUser(t *testing.T, f func(*bed)) {
	t.Helper()
	t.Parallel()
	for _, u := range []user{root, ordinary} {
		t.Run(u.name, func(t *testing.T) {
			t.Parallel()
			f(newBed(t, u))
		})
	}
}

// asOrdinary runs a test as an ordinary user only: what it shows does not
// depend on rights.
func asOrdinary(t *testing.T, f func(*bed)) {
	t.Helper()
	t.Parallel()
	f(newBed(t, ordinary))
}

func newBed(t *testing.T, u user) *bed {
	t.Helper()
	w, err := world.New()
	if err != nil {
		t.Fatal(err) // not a skip: without namespaces nothing here is shown
	}
	t.Cleanup(func() {
		if cerr := w.Close(); cerr != nil {
			t.Errorf("close the world: %v", cerr)
		}
	})
	b := &bed{T: t, World: w, user: u}
	b.DNS.Set("www.baidu.com", 60, baidu4, baidu6)
	b.DNS.Set("other.example", 60, other4)
	b.baidu = b.site("the page\n", at(baidu4, 80), at(baidu6, 80))
	b.other = b.site("the other page\n", at(other4, 80))
	if b.secure, err = w.HTTPS("the secure page\n", []string{"www.baidu.com"}, at(baidu4, 443), at(baidu6, 443)); err != nil {
		t.Fatal(err)
	}
	return b
}

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

func (b *bed) site(page string, on ...netip.AddrPort) *world.Site {
	b.Helper()
	s, err := b.HTTP(page, on...)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// file writes a file that the user can read; a change is one rename, as
// editors do it.
func (b *bed) file(name, content string) string {
	b.Helper()
	path := filepath.Join(b.Dir, name)
	draft := filepath.Join(b.Dir, "draft-"+strings.ReplaceAll(name, "/", "-")+".tmp")
	dir := filepath.Dir(path)
	if err := errors.Join(
		os.MkdirAll(dir, 0o755),
		os.WriteFile(draft, []byte(content), 0o644),
		os.Rename(draft, path),
	); err != nil {
		b.Fatal(err)
	}
	return path
}

// A result is how a program ended.
type result struct {
	out, err string
	code     int
}

func (r result) String() string {
	return fmt.Sprintf("code %d\nstdout: %s\nstderr: %s", r.code, r.out, r.err)
}

// command prepares a program in the host, as the bed's user.
func (b *bed) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if name == "fairlead" {
		name = filepath.Join(programs, name) // the search would use this test's own path
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = b.Dir
	cmd.Env = []string{
		"PATH=" + programs + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + b.Dir, "LANG=C", "TERM=dumb", "USER=tester", "GORACE=halt_on_error=1",
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // of the room, or of a test that panics
	if b.user.id != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: b.user.id, Gid: b.user.id, NoSetGroups: false}
	}
	cmd.Cancel = func() error { killTree(cmd.Process.Pid); return nil }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// host runs a program in the host, outside of any sandbox.
func (b *bed) host(stdin, name string, args ...string) result {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 2*patience)
	defer cancel()
	cmd := b.command(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := b.Start(cmd); err != nil {
		b.Fatalf("start %s: %v", name, err)
	}
	err := cmd.Wait()
	if ctx.Err() != nil {
		b.Fatalf("%s %q did not end in time\nstdout: %s\nstderr: %s", name, args, &out, &errs)
	}
	if ended := new(exec.ExitError); err != nil && !errors.As(err, &ended) {
		b.Fatalf("%s %q: %v", name, args, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// fairlead runs a subcommand to its end.
func (b *bed) fairlead(args ...string) result {
	b.Helper()
	return b.host("", "fairlead", args...)
}

// run is `fairlead run` with flags in one string, and a shell command in the
// sandbox.
func (b *bed) run(flags, script string) result {
	b.Helper()
	return b.fairlead(runArgs(flags, script)...)
}

func runArgs(flags, script string) []string {
	args := append([]string{"run"}, strings.Fields(flags)...)
	return append(args, "--", "sh", "-c", script)
}

// A process is a program that runs while a test goes on.
type process struct {
	b    *bed
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  output
	errs output
	done chan struct{}
}

// An output collects what a program writes, and can be awaited.
type output struct {
	mu   sync.Mutex
	text []byte // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// start starts fairlead with arguments and does not wait.
func (b *bed) start(args ...string) *process {
	b.Helper()
	p := &process{b: b, cmd: b.command(b.Context(), "fairlead", args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.errs
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	if err := b.Start(p.cmd); err != nil {
		b.Fatalf("start fairlead: %v", err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // the code is read from ProcessState
	}()
	b.Cleanup(func() {
		killTree(p.cmd.Process.Pid)
		<-p.done
	})
	return p
}

// background starts a named run whose command says when it is ready and then
// sleeps; it returns once it has.
func (b *bed) background(name, flags string) *process {
	b.Helper()
	p := b.start(runArgs("--name "+name+" "+flags, "echo ready; exec sleep 600")...)
	p.await("ready\n")
	return p
}

// in runs a shell command in a background run's sandbox.
func (b *bed) in(name, script string) result {
	b.Helper()
	return b.fairlead("exec", name, "--", "sh", "-c", script)
}

// await waits until standard output holds words.
func (p *process) await(words string) {
	p.b.Helper()
	p.b.eventually("output "+strconv.Quote(words), func() error {
		if strings.Contains(p.out.String(), words) {
			return nil
		}
		select {
		case <-p.done:
			return fatal{fmt.Errorf("it ended before, code %d\nstdout: %s\nstderr: %s", p.cmd.ProcessState.ExitCode(), &p.out, &p.errs)}
		default:
			return fmt.Errorf("stdout: %s\nstderr: %s", &p.out, &p.errs)
		}
	})
}

// wait waits for the end and returns the exit code.
func (p *process) wait() int {
	p.b.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-p.done:
	case <-limit.C:
		p.b.Fatalf("fairlead did not end\nstdout: %s\nstderr: %s", &p.out, &p.errs)
	}
	return p.cmd.ProcessState.ExitCode()
}

// fatal is an error that no waiting mends.
type fatal struct{ error }

// eventually waits until try returns nil.
func (b *bed) eventually(what string, try func() error) {
	b.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		var f fatal
		if errors.As(err, &f) || time.Now().After(deadline) {
			b.Fatalf("waiting for %s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// want compares what came back with what must be in it.
func (b *bed) want(what string, r result, code int, parts ...string) {
	b.Helper()
	all := r.out + r.err
	for _, part := range parts {
		if !strings.Contains(all, part) {
			b.Errorf("%s: no %q in\n%s", what, part, r)
		}
	}
	if r.code != code {
		b.Errorf("%s: want code %d, got\n%s", what, code, r)
	}
}

// logs is what `fairlead logs` says of a run.
func (b *bed) logs(name string) string {
	b.Helper()
	r := b.fairlead("logs", "-o", "json", name)
	if r.code != 0 {
		b.Fatalf("fairlead logs %s: %s", name, r)
	}
	return r.out
}

// awaitLog waits until one line of a run's log has all the parts.
func (b *bed) awaitLog(name string, parts ...string) {
	b.Helper()
	b.eventually(fmt.Sprintf("a log line with %q", parts), func() error {
		text := b.logs(name)
		for line := range strings.Lines(text) {
			if hasAll(line, parts) {
				return nil
			}
		}
		return errors.New(text)
	})
}

func hasAll(line string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(line, p) {
			return false
		}
	}
	return true
}

// processes reads /proc: the parent of each process that is not a zombie.
func processes() map[int]int {
	parents := map[int]int{}
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return parents
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		if fields := stat(pid); len(fields) > 1 && fields[0] != "Z" && fields[0] != "X" {
			if parent, err := strconv.Atoi(fields[1]); err == nil {
				parents[pid] = parent
			}
		}
	}
	return parents
}

// stat is what the kernel says of a process, from its state on; nothing if it
// is gone.
func stat(pid int) []string {
	all, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	// The command's name, in brackets, may hold anything.
	return strings.Fields(string(all[bytes.LastIndexByte(all, ')')+1:]))
}

// stateOf is a process's letter: R, S, T, …
func stateOf(pid int) string {
	if fields := stat(pid); len(fields) > 0 {
		return fields[0]
	}
	return ""
}

// tree is a process and all below it.
func tree(pid int) []int {
	parents := processes()
	found := []int{pid}
	for i := 0; i < len(found); i++ {
		for child, parent := range parents {
			if parent == found[i] {
				found = append(found, child)
			}
		}
	}
	return found
}

func killTree(pid int) {
	for _, p := range tree(pid) {
		_ = syscall.Kill(p, syscall.SIGKILL) // it may be gone
	}
}

// proxyOf finds the proxy of a run: the child that lives in the host's network
// namespace.
func (b *bed) proxyOf(p *process) int {
	b.Helper()
	pid := 0
	b.eventually("a proxy", func() error {
		pid = childBeside(p.cmd.Process.Pid)
		if pid == 0 {
			return errors.New("no child of the run shares its network namespace")
		}
		return nil
	})
	return pid
}

// childBeside is the child of a process that shares its network namespace; 0 if
// there is none.
func childBeside(run int) int {
	home, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", run))
	if err != nil {
		return 0
	}
	for pid, parent := range processes() {
		if parent != run {
			continue
		}
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err == nil && ns == home {
			return pid
		}
	}
	return 0
}
