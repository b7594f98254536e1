package supervisor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/internal/bootstrap"
	"github.com/fairlead/fairlead/internal/peer"
)

// restartAfter is the pause before a proxy that died is replaced, doubled up to
// restartMax while proxies die before they were ready.
const (
	restartAfter = 20 * time.Millisecond
	restartMax   = 2 * time.Second
)

// proxies keeps one proxy process running on the sandbox's sockets. While there
// is none, connections wait in the sockets' backlog: nothing leaves.
type proxies struct {
	boot    bootstrap.Proxy
	sockets []*os.File    // in the order of boot.Sockets; borrowed
	known   chan struct{} // closed when boot and sockets are set: the sandbox stands
	logFile *os.File      // the proxy's standard error; borrowed
	log     *slog.Logger

	pid      atomic.Int64
	restarts atomic.Int64
	ready    chan struct{} // closed when the first proxy has said it is ready
	once     sync.Once
	hopeless chan struct{} // closed when none was ever ready and maxStillborn are gone
}

// maxStillborn is how many proxies may end before one was ever ready until the
// run is given up: what stops three of them stops the next.
const maxStillborn = 3

func newProxies(logFile *os.File, log *slog.Logger) *proxies {
	return &proxies{logFile: logFile, log: log, known: make(chan struct{}), ready: make(chan struct{}), hopeless: make(chan struct{})}
}

// serve sets the sockets to serve. It is called once.
func (p *proxies) serve(boot bootstrap.Proxy, sockets []*os.File) {
	p.boot, p.sockets = boot, sockets
	close(p.known)
}

// Run starts a proxy, and another whenever it ends, until ctx ends. It returns
// when the last one is gone.
func (p *proxies) Run(ctx context.Context) error {
	// The death signal of a child is tied to the thread that started it: this
	// goroutine keeps its thread to the end.
	runtime.LockOSThread()
	everReady := false
	for pause := time.Duration(0); ; {
		wasReady, err := p.one(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		everReady = everReady || wasReady
		if p.restarts.Add(1) == maxStillborn && !everReady {
			p.log.Error("the proxy ended before it was ready, again and again; the run is given up", "times", maxStillborn, "error", err)
			close(p.hopeless)
			<-ctx.Done()
			return ctx.Err()
		}
		pause = restartPause(pause, wasReady)
		p.log.Error("the proxy ended; the command has no network until the next one is ready", "error", err, "restart_after", pause.String())
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// restartPause is the pause before the next proxy, given the one before this.
func restartPause(last time.Duration, wasReady bool) time.Duration {
	if wasReady {
		return restartAfter
	}
	return min(max(2*last, restartAfter), restartMax)
}

// one runs one proxy process to its end.
func (p *proxies) one(ctx context.Context) (wasReady bool, err error) {
	ours, theirs, err := peer.Pair()
	if err != nil {
		return false, fmt.Errorf("start the proxy: %w", err)
	}
	defer ours.Close()
	cmd := exec.Command("/proc/self/exe", ProxyCommand) //nolint:noctx // ended below, in the order the proxy needs
	cmd.Env = []string{"GOTRACEBACK=single"}            // nothing of the caller's environment is the proxy's business
	cmd.Stderr = p.logFile
	cmd.ExtraFiles = []*os.File{theirs} // bootstrap.ControlFD
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true, // Ctrl-Z and Ctrl-C are not for the proxy
		Pdeathsig: syscall.SIGKILL,
	}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return false, fmt.Errorf("start the proxy: %w", err)
	}
	p.pid.Store(int64(cmd.Process.Pid))
	defer p.pid.Store(0)

	var wg sync.WaitGroup
	var said atomic.Bool
	wg.Go(func() { said.Store(p.converse(ctx, ours)) })
	ended := make(chan error, 1)
	wg.Go(func() { ended <- cmd.Wait() })
	select {
	case err = <-ended:
	case <-ctx.Done():
		// The end of the control socket asks the proxy to drain and end.
		ours.Close()
		timer := time.NewTimer(3 * time.Second)
		defer timer.Stop()
		select {
		case err = <-ended:
		case <-timer.C:
			err = errors.Join(errors.New("the proxy did not end in time"), cmd.Process.Kill(), <-ended)
		}
	}
	ours.Close()
	wg.Wait()
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return said.Load(), err
}

// converse sends the bootstrap as soon as there is one and waits for the proxy
// to be ready. The socket stays open: its end is what tells the proxy to end.
func (p *proxies) converse(ctx context.Context, conn *net.UnixConn) (ready bool) {
	select {
	case <-p.known:
	case <-ctx.Done():
		return false
	}
	if err := bootstrap.Send(conn, p.boot, p.sockets); err != nil {
		p.log.Error("the proxy did not get its bootstrap", "error", err)
		return false
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || line != bootstrap.ReadyLine {
		return false
	}
	p.log.Info("proxy ready", "pid", p.pid.Load(), "restarts", p.restarts.Load())
	p.once.Do(func() { close(p.ready) })
	return true
}
