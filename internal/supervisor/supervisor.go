package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/bootstrap"
	"github.com/fairlead/fairlead/internal/control"
	"github.com/fairlead/fairlead/internal/control/file"
	"github.com/fairlead/fairlead/internal/eventlog"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/peer"
	"github.com/fairlead/fairlead/internal/run"
	"github.com/fairlead/fairlead/internal/sandbox"
	"github.com/fairlead/fairlead/internal/state"
)

// Hidden subcommands with which the program becomes the other processes of a run.
const (
	ProxyCommand   = "proxy"
	SandboxCommand = "sandbox"
)

// selfName is what the processes of a sandbox are called.
const selfName = "fairlead"

// readyWithin bounds the wait for the first proxy to be ready.
const readyWithin = 30 * time.Second

// Options of a run.
type Options struct {
	Workload  mesh.Workload       // without a name, one is made
	Paths     []string            // files, folders, "-"
	Policy    mesh.OutboundPolicy // for what no entry declares
	Command   []string            // at least its name
	Env       []string            // of the command
	AccessLog string              // path; empty: in the run's folder
	LogForm   string              // of its lines, as proxy.ParseLogForm has it; empty: as the mesh says
	Limits    bootstrap.Limits    // of the proxy
	State     state.Root
	Stdin     *os.File // the command's, and what "-" reads
	Stdout    *os.File
	Stderr    *os.File
	Notices   io.Writer // the start line, warnings
}

// Run runs a command to its end and returns its exit code. An error is
// Fairlead's own failure; the command then has not run, or was ended.
func Run(ctx context.Context, o Options) (code int, err error) {
	if o.Workload.Name == "" {
		o.Workload.Name = NewName(o.Command[0])
	}
	if err := errors.Join(CheckName("name", o.Workload.Name), CheckName("namespace", o.Workload.Namespace)); err != nil {
		return 0, err
	}
	sockets, err := claim(o)
	if err != nil {
		return 0, err
	}
	defer sockets.close()
	w, err := prepare(o)
	if err != nil {
		return 0, err
	}
	defer w.logFile.Close()
	return w.run(ctx, sockets)
}

// listeners are the sockets of a run.
type listeners struct{ status, exec, xds, admin, control net.Listener }

// claim takes the name of a run and with it all sockets, so that nobody else
// can have one of them later.
func claim(o Options) (l listeners, err error) {
	for _, s := range []struct {
		what string
		ln   *net.Listener
	}{{"run", &l.status}, {"exec", &l.exec}, {"xds", &l.xds}, {"admin", &l.admin}, {"control", &l.control}} {
		if *s.ln, err = peer.Listen(socket(o, s.what)); err == nil {
			continue
		}
		l.close()
		switch {
		case !errors.Is(err, syscall.EADDRINUSE):
		case s.what == "run":
			err = fmt.Errorf("a run named %q is there already; choose another --name, or end that one", o.Workload.Name)
		default:
			err = fmt.Errorf("the socket %s is in use, though there is no run of that name; choose another --name", socket(o, s.what))
		}
		return listeners{}, err
	}
	return l, nil
}

// close closes what is open; a second time does no harm.
func (l listeners) close() {
	for _, ln := range []net.Listener{l.status, l.exec, l.xds, l.admin, l.control} {
		if ln != nil {
			_ = ln.Close()
		}
	}
}

// socket is the name of a socket of the run.
func socket(o Options, what string) string { return peer.Name(os.Getuid(), o.Workload.Name, what) }

// A workload is one run in progress.
type workload struct {
	Options
	dir     string
	logFile *os.File
	log     *slog.Logger
	started time.Time
	signals signals

	plane   *control.Plane
	sandbox *sandbox.Sandbox
	proxies *proxies
}

// prepare makes the folder and the logs.
func prepare(o Options) (*workload, error) {
	dir, err := o.State.Create(o.Workload.Name)
	if err != nil {
		return nil, fmt.Errorf("make the folder of the run: %w", err)
	}
	logFile, err := os.OpenFile(filepath.Join(dir, state.LogFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of the run: %w", err)
	}
	if o.AccessLog == "" {
		o.AccessLog = filepath.Join(dir, state.AccessFile)
	} else if o.AccessLog, err = filepath.Abs(o.AccessLog); err != nil {
		return nil, errors.Join(err, logFile.Close())
	}
	if err := create(o.AccessLog); err != nil {
		return nil, errors.Join(fmt.Errorf("make the access log: %w", err), logFile.Close())
	}
	w := &workload{
		Options: o,
		dir:     dir,
		logFile: logFile,
		log:     eventlog.New(logFile),
		started: time.Now(),
	}
	w.prune()
	return w, nil
}

// create makes the file if there is nothing of that name. What is there may be
// a pipe, which is not to be opened for nothing.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// prune removes the folders of runs long ended. That some cannot be removed is
// no reason not to run.
func (w *workload) prune() {
	names, err := Names()
	if err == nil {
		err = w.State.Prune(func(name string) bool { return name == w.Workload.Name || slices.Contains(names, name) })
	}
	if err != nil {
		w.log.Warn("folders of ended runs are not removed", "error", err)
	}
}

func (w *workload) run(ctx context.Context, sockets listeners) (code int, err error) {
	interrupted, interrupt := context.WithCancel(ctx)
	w.signals.end = interrupt
	got := make(chan os.Signal, 16)
	subscribe(got)
	followed := make(chan struct{})
	following, unfollow := context.WithCancel(ctx)
	go func() {
		defer close(followed)
		w.signals.follow(following, got, func(sig os.Signal, err error) {
			w.log.Warn("a signal was not passed on", "signal", sig.String(), "error", err)
		})
	}()
	defer func() { signal.Stop(got); unfollow(); <-followed; interrupt() }()

	// The proxy's process starts while the rest is being made.
	proxied, endProxy := context.WithCancel(ctx)
	w.proxies = newProxies(w.logFile, w.log)
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = w.proxies.Run(proxied) // it ends with proxied alone
	}()
	endProxies := func() { endProxy(); <-over }
	defer endProxies()

	if err := w.start(interrupted); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.sandbox.Close()) }()
	admin, err := peer.Pass(sockets.admin)
	if err != nil {
		return 0, err
	}
	defer admin.Close()
	w.bootProxies(admin)
	var failed error
	err = run.All(ctx, map[string]run.Task{
		"control plane": func(ctx context.Context) error { return w.plane.Serve(ctx, sockets.xds) },
		"exec":          func(ctx context.Context) error { return w.serveExec(ctx, sockets.exec) },
		"status":        func(ctx context.Context) error { return w.serveStatus(ctx, sockets.status) },
		"questions":     func(ctx context.Context) error { return w.serveQuestions(ctx, sockets.control) },
		"command": func(ctx context.Context) error {
			code, failed = w.command(ctx, interrupted)
			endProxies() // before the control plane goes, which they would miss
			return failed
		},
	})
	var start *sandbox.StartError
	if errors.As(failed, &start) {
		fmt.Fprintf(w.Notices, "fairlead: %v\n", start)
		return start.Code, nil
	}
	return code, err
}

// A loading is how the control plane came about.
type loading struct {
	plane    *control.Plane
	problems []api.Problem // the errors too that err is made of
	err      error
}

// load reads the objects meanwhile. What comes through a pipe may never end:
// then the goroutine ends with the process, which is about to.
func (w *workload) load() <-chan loading {
	loaded := make(chan loading, 1)
	go func() {
		var l loading
		l.plane, l.problems, l.err = control.New(control.Options{
			Paths:     w.Paths,
			Stdin:     w.Stdin,
			Namespace: w.Workload.Namespace,
			Labels:    w.Workload.Labels,
			Policy:    w.Policy,
			Log:       w.log,
		})
		loaded <- l
	}()
	return loaded
}

// await waits for what load reads, or for an interruption.
func await(ctx context.Context, loaded <-chan loading) loading {
	select {
	case l := <-loaded:
		return l
	case <-ctx.Done():
		return loading{err: errInterrupted}
	}
}

// start reads the objects and makes the sandbox, side by side.
func (w *workload) start(ctx context.Context) error {
	loaded := w.load()
	objects := file.Real(w.Paths)
	protected, err := w.readOnly(objects)
	if err == nil {
		w.sandbox, err = sandbox.Start(ctx, sandbox.Options{
			Self:     []string{selfName, SandboxCommand},
			ReadOnly: protected,
			Env:      w.Env,
			Stderr:   w.logFile,
			Log:      w.log,
		})
		switch {
		case err == nil:
		case ctx.Err() != nil:
			err = nil // whatever it says, the interruption is why
		case inside("/proc/1/cmdline"):
			w.log.Error("no sandbox inside a sandbox", "error", err)
			err = errInside
		}
	}
	o := await(ctx, loaded)
	faults := 0
	for _, line := range notices(o.problems) {
		fmt.Fprintf(w.Notices, "fairlead: %s\n", line)
	}
	for _, p := range o.problems {
		if p.Severity == api.Error {
			faults++
		}
	}
	if faults > 0 {
		o.err = didNotStart(faults)
	}
	if err = errors.Join(err, o.err); err == nil {
		err = unprotected(objects, file.Real(w.Paths))
	}
	if err != nil {
		if w.sandbox != nil {
			err = errors.Join(err, w.sandbox.Close())
		}
		return err
	}
	w.plane = o.plane
	return nil
}

// errInside is why a sandbox cannot be made where there is one already.
var errInside = errors.New("this is already inside a Fairlead run, whose sandbox does not hold another one; the command can be started without `fairlead run`: its traffic goes to the proxy of that run")

// inside reports whether this process is in the sandbox of a run: the first
// process in there, whose command line that is, is the sandbox's.
func inside(commandLine string) bool {
	b, err := os.ReadFile(commandLine)
	return err == nil && strings.HasPrefix(string(b), selfName+"\x00"+SandboxCommand+"\x00")
}

// unprotected says that a link came to lead elsewhere after the sandbox had
// been told what to protect.
func unprotected(protected, now []string) error {
	for _, path := range now {
		if !slices.ContainsFunc(protected, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") }) {
			return fmt.Errorf("%s became part of what is given with -f while the run was starting, too late to protect it from the command; start it again", path)
		}
	}
	return nil
}

// readOnly lists what the command must not change: the objects it is held to,
// and what is written about it.
func (w *workload) readOnly(objects []string) ([]string, error) {
	dir, err := filepath.EvalSymlinks(w.dir)
	if err != nil {
		return nil, err
	}
	paths := append([]string{dir}, objects...)
	log, err := filepath.EvalSymlinks(w.AccessLog)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(log); err == nil && info.Mode().IsRegular() && !strings.HasPrefix(log, dir+"/") {
		paths = append(paths, log)
	}
	return paths, nil
}

// bootProxies tells the proxy, and all that follow it, what to serve.
func (w *workload) bootProxies(admin *os.File) {
	boot := bootstrap.Proxy{
		Workload:  w.Workload,
		XDS:       socket(w.Options, "xds"),
		AccessLog: w.AccessLog,
		LogForm:   w.LogForm,
		Limits:    w.Limits,
		Own:       sandbox.Addresses(),
	}
	var files []*os.File
	s := w.sandbox.Sockets()
	for _, group := range []struct {
		kind  bootstrap.SocketKind
		files []*os.File
	}{{bootstrap.Admin, []*os.File{admin}}, {bootstrap.Capture, s.TCP}, {bootstrap.DNSPacket, s.DNSPackets}, {bootstrap.DNSStream, s.DNSStreams}} {
		for _, f := range group.files {
			files = append(files, f)
			boot.Sockets = append(boot.Sockets, group.kind)
		}
	}
	w.proxies.serve(boot, files)
}

// command starts the command when the proxy is ready, and waits for its end.
// Until then a signal (interrupted) ends the run; then they are the command's.
func (w *workload) command(ctx, interrupted context.Context) (code int, err error) {
	timer := time.NewTimer(readyWithin)
	defer timer.Stop()
	select {
	case <-w.proxies.ready:
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-interrupted.Done():
		return 0, errInterrupted
	case <-w.proxies.hopeless:
		return 0, fmt.Errorf("the proxy ended %d times before it was ready: %s", maxStillborn, w.proxyFault())
	case <-timer.C:
		return 0, fmt.Errorf("the proxy was not ready within %s: %s", readyWithin, w.proxyFault())
	}
	dir, err := os.Getwd()
	if err != nil {
		return 0, fmt.Errorf("find the working folder for the command: %w", err)
	}
	if err := w.announce(interrupted, w.ruling()); err != nil {
		return 0, err
	}
	if err := w.signals.hand(interrupted); err != nil {
		return 0, err
	}
	err = w.sandbox.Run(sandbox.Command{
		Args:  w.Command,
		Env:   w.Env,
		Dir:   dir,
		Files: [3]*os.File{w.Stdin, w.Stdout, w.Stderr},
	})
	if err != nil {
		return 0, err
	}
	if err := w.signals.to(w.sandbox.Signal); err != nil {
		w.log.Warn("a signal was not passed on", "error", err)
	}
	ended := context.AfterFunc(ctx, func() { _ = w.sandbox.Close() }) // another part failed: nothing may run on
	defer ended()
	status, err := w.sandbox.Wait()
	if err != nil {
		return 0, err
	}
	w.log.Info("command ended", "exit_code", status.ExitCode())
	return status.ExitCode(), nil
}

// proxyFault is the last error that the proxy wrote to the log, and where there
// is more of it.
func (w *workload) proxyFault() string {
	where := fmt.Sprintf("`fairlead logs %s` says more", w.Workload.Name)
	f, err := os.Open(filepath.Join(w.dir, state.LogFile))
	if err != nil {
		return where
	}
	defer f.Close()
	if fault := eventlog.LastError(f, "proxy"); fault != "" {
		return fault + "; " + where
	}
	return where
}

// serveExec serves the clients of `fairlead exec`.
func (w *workload) serveExec(ctx context.Context, ln net.Listener) error {
	return accept(ctx, ln, w.log, func(ctx context.Context, c net.Conn) {
		conn, ok := c.(*net.UnixConn)
		if !ok {
			c.Close()
			return
		}
		if err := w.sandbox.ServeExec(ctx, conn); err != nil {
			w.log.Warn("exec failed", "error", err)
		}
	})
}
