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

// What a proxy has to end: endWithin when the run is over, drainWithin when it
// drains of its own accord and the next one serves.
const (
	endWithin   = 3 * time.Second
	drainWithin = 10 * time.Second
)

// proxies keeps a proxy process running on the sandbox's sockets. While none
// accepts, connections wait in the sockets' backlog: nothing leaves. One at a time
// accepts: the next is started when the last says that it accepts no more, and
// while that finishes what it has, or when it ended.
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

	draining    sync.WaitGroup // those whose place is taken
	drainWithin time.Duration
}

// maxStillborn is how many proxies may end before one was ever ready until the
// run is given up: what stops three of them stops the next.
const maxStillborn = 3

func newProxies(logFile *os.File, log *slog.Logger) *proxies {
	return &proxies{logFile: logFile, log: log, known: make(chan struct{}), ready: make(chan struct{}), hopeless: make(chan struct{}), drainWithin: drainWithin}
}

// serve sets the sockets to serve. It is called once.
func (p *proxies) serve(boot bootstrap.Proxy, sockets []*os.File) {
	p.boot, p.sockets = boot, sockets
	close(p.known)
}

// Run starts a proxy, and another whenever one accepts no more or ends, until ctx
// ends. It returns when the last one is gone.
func (p *proxies) Run(ctx context.Context) error {
	// The death signal of a child is tied to the thread that started it: this
	// goroutine keeps its thread to the end.
	runtime.LockOSThread()
	defer p.draining.Wait()
	everReady := false
	for pause := time.Duration(0); ; {
		last, err := p.one(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		everReady = everReady || last.wasReady
		if p.restarts.Add(1) == maxStillborn && !everReady {
			p.log.Error("the proxy ended before it was ready, again and again; the run is given up", "times", maxStillborn, "error", err)
			close(p.hopeless)
			<-ctx.Done()
			return ctx.Err()
		}
		if last.drains && last.wasReady {
			p.log.Info("the proxy drains; the next one takes its sockets over")
			pause = 0
			continue
		}
		pause = restartPause(pause, last.wasReady)
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

// A succession is how a proxy came to need a successor.
type succession struct {
	wasReady bool
	drains   bool // it runs on, and finishes what it has
}

// A child is a proxy process.
type child struct {
	conn  *net.UnixConn // its end asks the process to drain and end
	pid   int
	ready atomic.Bool
	left  chan struct{} // closed when it accepts no more
	ended chan struct{} // closed when it is gone
	err   error         // why; not before
	kill  func() error
}

// one runs one proxy process until another has to take its place.
func (p *proxies) one(ctx context.Context) (how succession, err error) {
	c, err := p.start(ctx)
	if err != nil {
		return how, fmt.Errorf("start the proxy: %w", err)
	}
	return p.follow(ctx, c)
}

// follow waits until another has to take the place of c.
func (p *proxies) follow(ctx context.Context, c *child) (succession, error) {
	select {
	case <-c.ended:
		select {
		case <-c.left: // and all was finished at once
			return p.drain(ctx, c)
		default:
		}
	case <-ctx.Done():
		p.end(ctx, c)
	case <-c.left:
		return p.drain(ctx, c)
	}
	return succession{wasReady: c.ready.Load()}, c.err
}

// drain lets c finish what it has.
func (p *proxies) drain(ctx context.Context, c *child) (succession, error) {
	p.draining.Go(func() {
		p.end(ctx, c)
		p.log.Info("the proxy that drained is gone", "pid", c.pid, "how", c.err.Error())
	})
	return succession{wasReady: c.ready.Load(), drains: true}, errors.New("it was told to end")
}

// start starts a proxy process.
func (p *proxies) start(ctx context.Context) (*child, error) {
	ours, theirs, err := peer.Pair()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe", ProxyCommand) //nolint:noctx // ended by end, in the order the proxy needs
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
		return nil, errors.Join(err, ours.Close())
	}
	c := &child{conn: ours, pid: cmd.Process.Pid, kill: cmd.Process.Kill, left: make(chan struct{}), ended: make(chan struct{})}
	p.pid.Store(int64(c.pid))
	gone, silent := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(silent)
		p.converse(ctx, c, gone)
	}()
	go func() { // ends with the process, which whoever has c waits for
		defer close(c.ended)
		if c.err = cmd.Wait(); c.err == nil {
			c.err = errors.New("it ended by itself")
		}
		p.pid.CompareAndSwap(int64(c.pid), 0) // the next one's stays
		close(gone)
		<-silent // all that it said has been heard
		ours.Close()
	}()
	return c, nil
}

// end waits for the end of a process that drains, or has to since ctx ended.
func (p *proxies) end(ctx context.Context, c *child) {
	late := time.NewTimer(p.drainWithin)
	defer late.Stop()
	select {
	case <-c.ended:
		return
	case <-late.C:
	case <-ctx.Done():
		c.conn.Close()
		over := time.NewTimer(endWithin)
		defer over.Stop()
		select {
		case <-c.ended:
			return
		case <-over.C:
		}
	}
	p.log.Error("the proxy did not end in time and is killed", "pid", c.pid)
	_ = c.kill() // it may just have ended
	<-c.ended
}

// converse sends the bootstrap as soon as there is one, and listens for what the
// proxy says of itself until it is gone. The socket stays open: its end tells the
// proxy to end.
func (p *proxies) converse(ctx context.Context, c *child, gone <-chan struct{}) {
	select {
	case <-p.known:
	case <-gone:
		return
	case <-ctx.Done():
		return
	}
	if err := bootstrap.Send(c.conn, p.boot, p.sockets); err != nil {
		p.log.Error("the proxy did not get its bootstrap", "error", err)
		return
	}
	for lines := bufio.NewReader(c.conn); ; {
		line, err := lines.ReadString('\n')
		switch {
		case err != nil:
			return
		case line == bootstrap.ReadyLine:
			c.ready.Store(true)
			p.log.Info("proxy ready", "pid", c.pid, "restarts", p.restarts.Load())
			p.once.Do(func() { close(p.ready) })
		case line == bootstrap.DrainingLine:
			close(c.left)
			return
		}
	}
}
