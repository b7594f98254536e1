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
	"syscall"
	"time"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/bootstrap"
	"github.com/fairlead/fairlead/internal/control"
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
	claim, err := peer.Listen(socket(o, "run"))
	if errors.Is(err, syscall.EADDRINUSE) {
		return 0, fmt.Errorf("a run named %q is there already; choose another --name, or end that one", o.Workload.Name)
	}
	if err != nil {
		return 0, err
	}
	defer claim.Close()
	w, err := prepare(o)
	if err != nil {
		return 0, err
	}
	defer w.logFile.Close()
	return w.run(ctx, claim)
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

	plane   *control.Plane
	sandbox *sandbox.Sandbox
	proxies *proxies
}

// prepare makes the folder and the log.
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
		return nil, err
	}
	return &workload{
		Options: o,
		dir:     dir,
		logFile: logFile,
		log:     eventlog.New(logFile),
		started: time.Now(),
	}, nil
}

func (w *workload) run(ctx context.Context, claim net.Listener) (code int, err error) {
	// From here on a signal is the command's; until there is one, it ends the run.
	interrupted, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()

	// The proxy's process starts while the rest is being made.
	proxied, endProxy := context.WithCancel(ctx)
	w.proxies = newProxies(w.logFile, w.log)
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = w.proxies.Run(proxied) // it ends with proxied alone
	}()
	defer func() { endProxy(); <-over }()

	if err := w.start(interrupted); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.sandbox.Close()) }()
	sockets, err := w.listen()
	if err != nil {
		return 0, err
	}
	w.bootProxies()
	var failed error
	err = run.All(ctx, map[string]run.Task{
		"control plane": func(ctx context.Context) error { return w.plane.Serve(ctx, sockets.xds) },
		"exec":          func(ctx context.Context) error { return w.serveExec(ctx, sockets.exec) },
		"status":        func(ctx context.Context) error { return w.serveStatus(ctx, claim) },
		"command": func(ctx context.Context) error {
			code, failed = w.command(ctx, interrupted, stop)
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

// start reads the objects and makes the sandbox, side by side.
func (w *workload) start(ctx context.Context) error {
	var (
		warnings           []api.Problem
		planeErr, boxError error
	)
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		w.plane, warnings, planeErr = control.New(control.Options{
			Paths:     w.Paths,
			Stdin:     w.Stdin,
			Namespace: w.Workload.Namespace,
			Policy:    w.Policy,
			Log:       w.log,
		})
	}()
	readOnly, err := w.readOnly()
	if err == nil {
		w.sandbox, boxError = sandbox.Start(ctx, sandbox.Options{
			Self:     []string{"fairlead", SandboxCommand},
			ReadOnly: readOnly,
			Env:      w.Env,
			Stderr:   w.logFile,
			Log:      w.log,
		})
	}
	<-loaded
	for _, p := range warnings {
		if p.Severity == api.Warning {
			fmt.Fprintf(w.Notices, "fairlead: warning: %s\n", p)
		}
	}
	if err = errors.Join(err, planeErr, boxError); err != nil {
		if w.sandbox != nil {
			err = errors.Join(err, w.sandbox.Close())
		}
		return err
	}
	return nil
}

// readOnly lists what the command must not change: the objects it is held to,
// and what is written about it.
func (w *workload) readOnly() ([]string, error) {
	var paths []string
	for _, p := range append([]string{w.dir}, w.Paths...) {
		if p == "-" {
			continue
		}
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		target, err := filepath.EvalSymlinks(abs)
		if errors.Is(err, os.ErrNotExist) {
			continue // the control plane says so, with more to it
		}
		if err != nil {
			return nil, err
		}
		paths = append(paths, target)
	}
	return paths, nil
}

// listeners are the sockets of a run beside the one that claims its name.
type listeners struct{ xds, exec net.Listener }

// listen opens the sockets of the run.
func (w *workload) listen() (l listeners, err error) {
	if l.xds, err = peer.Listen(socket(w.Options, "xds")); err != nil {
		return l, err
	}
	if l.exec, err = peer.Listen(socket(w.Options, "exec")); err != nil {
		return l, errors.Join(err, l.xds.Close())
	}
	return l, nil
}

// bootProxies tells the proxy, and all that follow it, what to serve.
func (w *workload) bootProxies() {
	boot := bootstrap.Proxy{
		Workload:  w.Workload,
		XDS:       socket(w.Options, "xds"),
		Admin:     socket(w.Options, "admin"),
		AccessLog: w.AccessLog,
		Own:       sandbox.Addresses(),
	}
	var files []*os.File
	s := w.sandbox.Sockets()
	for _, group := range []struct {
		kind  bootstrap.SocketKind
		files []*os.File
	}{{bootstrap.Capture, s.TCP}, {bootstrap.DNSPacket, s.DNSPackets}, {bootstrap.DNSStream, s.DNSStreams}} {
		for _, f := range group.files {
			files = append(files, f)
			boot.Sockets = append(boot.Sockets, group.kind)
		}
	}
	w.proxies.serve(boot, files)
}

// command starts the command when the proxy is ready, and waits for its end.
// Until then a signal (interrupted) ends the run; then they are the command's.
func (w *workload) command(ctx, interrupted context.Context, stop func()) (code int, err error) {
	timer := time.NewTimer(readyWithin)
	defer timer.Stop()
	select {
	case <-w.proxies.ready:
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-interrupted.Done():
		return 0, errors.New("interrupted before the command was started")
	case <-timer.C:
		return 0, fmt.Errorf("the proxy was not ready within %s: `fairlead logs %s` says why", readyWithin, w.Workload.Name)
	}
	dir, err := os.Getwd()
	if err != nil {
		return 0, fmt.Errorf("find the working folder for the command: %w", err)
	}
	relaying, cancel := context.WithCancel(ctx)
	relayed := make(chan struct{})
	go func() {
		defer close(relayed)
		w.sandbox.Relay(relaying)
	}()
	defer func() { cancel(); <-relayed }()
	stop() // signals are relayed from here on
	fmt.Fprintf(w.Notices, "fairlead: %s in namespace %s, %s\n", w.Workload.Name, w.Workload.Namespace, w.policyInWords())
	err = w.sandbox.Run(sandbox.Command{
		Args:  w.Command,
		Env:   w.Env,
		Dir:   dir,
		Files: [3]*os.File{w.Stdin, w.Stdout, w.Stderr},
	})
	if err != nil {
		return 0, err
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

func (w *workload) policyInWords() string {
	if w.Policy == mesh.RegistryOnly {
		return "REGISTRY_ONLY: what no entry declares is refused"
	}
	return "ALLOW_ANY: what no entry declares passes through"
}

// serveExec serves the clients of `fairlead exec`.
func (w *workload) serveExec(ctx context.Context, ln net.Listener) error {
	return accept(ctx, ln, func(ctx context.Context, c net.Conn) {
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
