package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/internal/peer"
)

// orderWithin is how long a client of exec may take to say what it wants. It
// has it at hand; a command line of any size is there in less.
const orderWithin = 10 * time.Second

// ServeExec serves one client of ExecClient: it starts the command that the
// client asks for with the files that it passes, says how it ended and passes
// on its signals. When the client goes away early the command gets SIGHUP. It
// returns when the command has ended or ctx has, and closes conn. Whoever is at
// the other end can do what this user can: let it be a connection that a
// listener of package peer accepted.
func (s *Sandbox) ServeExec(ctx context.Context, conn *net.UnixConn) error {
	return s.serveExec(ctx, conn, orderWithin)
}

func (s *Sandbox) serveExec(ctx context.Context, conn *net.UnixConn, within time.Duration) error {
	c := peer.NewChannel(conn)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	o, files, err := firstOrder(conn, within)
	if err != nil {
		return fmt.Errorf("serve a client of exec: %w", err)
	}
	defer peer.CloseAll(files)
	if o.Start == nil || len(files) != 3 || o.Start.Terminal < 0 || o.Start.Terminal > 3 {
		return errors.New("serve a client of exec: it asks for no command with three files")
	}
	o.Start.Main = false
	p, err := s.begin(*o.Start, files)
	if err != nil {
		e := event{Failure: err.Error()}
		var failed *StartError
		if errors.As(err, &failed) {
			e.Code = failed.Code
		}
		return c.Send(e)
	}
	if err := c.Send(event{Started: true}); err != nil {
		return errors.Join(err, p.Signal(syscall.SIGHUP))
	}
	ended := make(chan struct{})
	listened := make(chan struct{})
	go func() {
		defer close(listened)
		passOn(c, p, ended)
	}()
	status, err := p.wait(ctx.Done())
	close(ended)
	e := event{Ended: true, Code: status.Code, Signal: int(status.Signal)}
	if err != nil {
		e = event{Failure: err.Error()}
	}
	err = c.Send(e)
	_ = conn.Close() // ends passOn
	<-listened
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.EPIPE) {
		return fmt.Errorf("serve a client of exec: %w", err)
	}
	return nil
}

// firstOrder receives what a client wants, and leaves conn without a deadline.
func firstOrder(conn *net.UnixConn, within time.Duration) (o order, files []*os.File, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return o, nil, err
	}
	files, err = peer.NewChannel(conn).Receive(peer.MaxFrame, &o)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return o, nil, fmt.Errorf("it did not say within %s what to run", within)
	}
	if err == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	if err != nil {
		peer.CloseAll(files)
		return o, nil, err
	}
	return o, files, nil
}

// passOn passes the client's signals on to p until the client goes.
func passOn(c *peer.Channel, p *Process, ended <-chan struct{}) {
	for {
		var o order
		files, err := c.Receive(maxReply, &o)
		peer.CloseAll(files)
		if err != nil {
			break
		}
		if o.Signal != 0 {
			_ = p.Signal(syscall.Signal(o.Signal)) // Wait will tell
		}
	}
	select {
	case <-ended:
	default:
		_ = p.Signal(syscall.SIGHUP)
	}
}

// ExecClient has the supervisor at the other end of conn run a command in its
// sandbox and returns its exit code. The supervisor gets the caller's files:
// let conn be of peer.Dial. The command's standard streams are c's files; where
// its standard input is a terminal, those that are terminals become one of the
// sandbox's own, and the caller's is in raw mode meanwhile. Signals that the
// caller gets go to the command. The error is a *StartError if it is the
// command's. It closes conn.
func ExecClient(ctx context.Context, conn *net.UnixConn, c Command) (code int, err error) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	view, err := openView(c.Files)
	if err != nil {
		return 0, fmt.Errorf("run a command in the sandbox: %w", err)
	}
	defer func() { err = errors.Join(err, view.close()) }()
	ch := peer.NewChannel(conn)
	o := order{Start: &start{Args: toBytes(c.Args), Env: toBytes(c.Env), Dir: []byte(c.Dir), Terminal: view.terminal}}
	got := catchSignals() // the command may say that it runs before the supervisor does
	defer signal.Stop(got)
	if err := ch.Send(o, view.files[:]...); err != nil {
		return 0, fmt.Errorf("run a command in the sandbox: %w", err)
	}
	defer relaySignals(got, ch, view)()
	e, err := reply(ch)
	if err != nil {
		return 0, err
	}
	if !e.Started {
		return 0, errors.New("run a command in the sandbox: it ended before it began")
	}
	if err := view.relay(); err != nil {
		return 0, fmt.Errorf("run a command in the sandbox: %w", err)
	}
	if e, err = reply(ch); err != nil {
		return 0, err
	}
	return Status{Code: e.Code, Signal: syscall.Signal(e.Signal)}.ExitCode(), nil
}

// reply receives an event that is no failure.
func reply(c *peer.Channel) (event, error) {
	var e event
	files, err := c.Receive(maxReply, &e)
	peer.CloseAll(files)
	switch {
	case err != nil:
		return e, fmt.Errorf("run a command in the sandbox: its supervisor has gone: %w", err)
	case e.Failure != "" && e.Code != 0:
		return e, &StartError{Code: e.Code, text: e.Failure}
	case e.Failure != "":
		return e, errors.New(e.Failure)
	}
	return e, nil
}

// catchSignals keeps the caller's signals from ending this process, which may hold
// a terminal in raw mode.
func catchSignals() chan os.Signal {
	got := make(chan os.Signal, 16)
	for _, s := range relayed() {
		if !signal.Ignored(s) {
			signal.Notify(got, s)
		}
	}
	return got
}

// relaySignals passes the caller's signals on, and the size of its window,
// until stop is called. The supervisor takes them once the command is there.
func relaySignals(got chan os.Signal, c *peer.Channel, v *view) (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range got {
			n, ok := s.(syscall.Signal)
			switch {
			case !ok:
			case n == syscall.SIGWINCH:
				v.resize()
			case n != syscall.SIGCONT:
				_ = c.Send(order{Signal: int(n)}) // the end will tell
			}
		}
	}()
	return func() {
		signal.Stop(got)
		close(got)
		<-done
	}
}
