package sandbox

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/peer"
)

// A Command is what to execute. Names are resolved inside the sandbox.
type Command struct {
	Args []string // the first is looked for in PATH of Env unless it has a slash
	Env  []string // the whole environment
	Dir  string   // absolute; empty is /
	// Files are its standard input, output and error; nil is /dev/null. They
	// stay the caller's.
	Files [3]*os.File
}

// A Status is how a command ended.
type Status struct {
	Code   int            // its exit code, if it was not ended by a signal
	Signal syscall.Signal // what ended it, or 0
}

// ExitCode returns what a shell would: 128 more than the signal, if it was one.
func (s Status) ExitCode() int {
	if s.Signal != 0 {
		return 128 + int(s.Signal)
	}
	return s.Code
}

// A StartError says that a command could not be started and that this is the
// command's fault, not the sandbox's. Its text is for the user, in the form of
// a shell's.
type StartError struct {
	Code int // 126: found but not executable; 127: not found
	text string
}

func (e *StartError) Error() string { return e.text }

// ErrEnded is the error of what comes too late for a sandbox.
var ErrEnded = errors.New("the sandbox has ended")

// A Process is a command that was started.
type Process struct {
	sandbox *Sandbox
	id      int
	events  <-chan event
}

// Run starts the main command, with whose end everything in the sandbox ends.
// It may be called once. It becomes a member of the caller's session and
// process group, so that terminals and pipelines treat it as they would
// without a sandbox. The error is a *StartError if it is the command's.
func (s *Sandbox) Run(c Command) error {
	s.holdTerminal(c.Files)
	_, err := s.begin(start{Args: toBytes(c.Args), Env: toBytes(c.Env), Dir: []byte(c.Dir), Main: true}, c.Files[:])
	return err
}

// Wait waits until the main command and everything else in the sandbox have
// ended. Call it once, after Run. An error means that the sandbox ended before
// the command had.
func (s *Sandbox) Wait() (Status, error) {
	p := s.command()
	if p == nil {
		return Status{}, errors.New("wait for a command that was not started")
	}
	status, err := p.Wait()
	<-s.ended
	s.restoreTerminal()
	if err != nil && s.endErr != nil {
		return status, fmt.Errorf("%w (its init: %w)", err, s.endErr)
	}
	return status, err
}

// Signal sends sig to the main command, unless the command got it directly as
// a member of a process group that it was sent to.
func (s *Sandbox) Signal(sig os.Signal) error {
	p := s.command()
	if p == nil {
		return nil // there is nobody yet
	}
	return p.Signal(sig)
}

func (s *Sandbox) command() *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.main
}

// Exec starts another command, in a session of its own. It ends with the main
// command at the latest. The error is a *StartError if it is the command's.
func (s *Sandbox) Exec(c Command) (*Process, error) {
	return s.begin(start{Args: toBytes(c.Args), Env: toBytes(c.Env), Dir: []byte(c.Dir)}, c.Files[:])
}

// Signal sends sig to the command, and to its process group if it leads one.
func (p *Process) Signal(sig os.Signal) error {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return fmt.Errorf("send %v: it is not a signal of this system", sig)
	}
	if err := p.sandbox.starter.Send(order{ID: p.id, Signal: int(number)}); err != nil {
		return fmt.Errorf("send %s to the command: %w", unix.SignalName(number), err)
	}
	return nil
}

// Wait waits for the end of the command. Call it once.
func (p *Process) Wait() (Status, error) { return p.wait(nil) }

// wait waits for the end of the command until stop is closed.
func (p *Process) wait(stop <-chan struct{}) (Status, error) {
	defer p.sandbox.forget(p.id)
	select {
	case e, ok := <-p.events:
		if !ok {
			return Status{}, fmt.Errorf("wait for the command: %w", ErrEnded)
		}
		return Status{Code: e.Code, Signal: syscall.Signal(e.Signal)}, nil
	case <-stop:
		return Status{}, errors.New("wait for the command: its supervisor is about to end")
	}
}

// begin starts a command and returns when it runs.
func (s *Sandbox) begin(c start, files []*os.File) (*Process, error) {
	if len(c.Args) == 0 {
		return nil, errors.New("start a command: there is none")
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("start a command: %w", err)
	}
	defer null.Close()
	given := make([]*os.File, 3)
	for i := range given {
		if given[i] = null; i < len(files) && files[i] != nil {
			given[i] = files[i]
		}
	}
	p, err := s.order(c, given)
	if err != nil {
		return nil, fmt.Errorf("start a command: %w", err)
	}
	e, ok := <-p.events
	switch {
	case !ok:
		return nil, fmt.Errorf("start a command: %w", ErrEnded)
	case !e.Started:
		s.forget(p.id)
		return nil, &StartError{Code: e.Code, text: e.Failure}
	}
	return p, nil
}

// order asks the starter for a command. The lock is held until the order is on
// its way, so that no signal for the command can overtake it.
func (s *Sandbox) order(c start, files []*os.File) (*Process, error) {
	events := make(chan event, 2) // it starts, it ends
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.waiting == nil:
		return nil, ErrEnded
	case c.Main && s.main != nil:
		return nil, errors.New("the sandbox has its command already")
	}
	s.lastID++
	if err := s.starter.Send(order{ID: s.lastID, Start: &c}, files...); err != nil {
		return nil, err
	}
	s.waiting[s.lastID] = events
	p := &Process{sandbox: s, id: s.lastID, events: events}
	if c.Main {
		s.main = p
	}
	return p, nil
}

func (s *Sandbox) forget(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, id)
}

// listen hands what the starter says to those who wait for it, until it says
// no more. The starter is among the commands and may be one of them in
// disguise: what it says is bounded and can at worst end waits.
func (s *Sandbox) listen() {
	defer close(s.received)
	for {
		var e event
		files, err := s.starter.Receive(maxReply, &e)
		peer.CloseAll(files)
		s.mu.Lock()
		if err != nil {
			for _, events := range s.waiting {
				close(events)
			}
			s.waiting = nil
			s.mu.Unlock()
			return
		}
		select {
		case s.waiting[e.ID] <- e:
		default: // nobody waits, or it said too much
		}
		s.mu.Unlock()
	}
}
