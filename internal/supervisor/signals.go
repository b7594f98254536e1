package supervisor

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
)

// errInterrupted ends a run whose command has not been started.
var errInterrupted = errors.New("interrupted before the command was started")

// signals are what the supervisor is sent, from its first moment on. Before the
// command is about to start, what asks a process to end ends the run; all other
// signals, and those that come later, are the command's and wait for it. The
// zero value has none; it is safe for concurrent use.
type signals struct {
	mu      sync.Mutex
	pending []os.Signal           // guarded by mu; for the command, each once
	handed  bool                  // guarded by mu; all signals are the command's
	deliver func(os.Signal) error // guarded by mu; nil: there is no command yet
	end     context.CancelFunc    // of the run
}

// ending are the signals that end a run before there is a command.
var ending = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM}

// passed are the signals that a command has when its supervisor gets them.
var passed = slices.Concat(ending, []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGWINCH, syscall.SIGCONT})

// subscribe makes got receive the signals; those that the process was started
// to ignore (nohup) stay ignored.
func subscribe(got chan<- os.Signal) {
	for _, sig := range passed {
		if !signal.Ignored(sig) {
			signal.Notify(got, sig)
		}
	}
}

// follow takes what got receives until ctx ends. failed is called when a signal
// cannot be delivered.
func (s *signals) follow(ctx context.Context, got <-chan os.Signal, failed func(os.Signal, error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-got:
			if err := s.take(sig); err != nil {
				failed(sig, err)
			}
		}
	}
}

func (s *signals) take(sig os.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.deliver != nil:
		return s.deliver(sig)
	case !s.handed && slices.Contains(ending, sig):
		s.end()
	case !slices.Contains(s.pending, sig):
		s.pending = append(s.pending, sig)
	}
	return nil
}

// hand makes all signals from now on the command's, which is about to start,
// unless the run was ended by one already.
func (s *signals) hand(interrupted context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if interrupted.Err() != nil {
		return errInterrupted
	}
	s.handed = true
	return nil
}

// to delivers what waits, and from then on what comes.
func (s *signals) to(deliver func(os.Signal) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deliver = deliver
	var errs []error
	for _, sig := range s.pending {
		errs = append(errs, deliver(sig))
	}
	s.pending = nil
	return errors.Join(errs...)
}
