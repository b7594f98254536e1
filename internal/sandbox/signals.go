package sandbox

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// relayed returns the signals that a command is to have when its supervisor
// gets them.
func relayed() []os.Signal {
	return []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGWINCH, syscall.SIGCONT,
	}
}

// A signal sent to a whole process group reaches the starter directly and by
// way of the supervisor, in either order.
const (
	echoBefore = 500 * time.Millisecond // at most, directly and then from the supervisor
	echoAfter  = 100 * time.Millisecond // the other way round; what a signal sent by hand is held up
)

// An echo knows which signals this process itself has had. The starter is in
// the process group of the command and of the supervisor: what a terminal or
// `kill -- -GROUP` sends reaches all three, and must not be passed on again.
// What somebody sends to the supervisor alone reaches the command no other way.
//
// What this process had before there was a command, the command has not had.
type echo struct {
	signals []os.Signal
	early   chan os.Signal // what comes before the start is caught and forgotten
	got     chan os.Signal
	done    chan struct{}

	mu   sync.Mutex
	last map[os.Signal]time.Time // guarded by mu
	news chan struct{}           // guarded by mu; closed and replaced when last changes
}

func listen() *echo {
	e := &echo{
		early: make(chan os.Signal, 1),
		got:   make(chan os.Signal, 16),
		done:  make(chan struct{}),
		last:  map[os.Signal]time.Time{},
		news:  make(chan struct{}),
	}
	for _, s := range relayed() {
		if !signal.Ignored(s) {
			e.signals = append(e.signals, s)
			signal.Notify(e.early, s)
		}
	}
	go e.run()
	return e
}

// begin counts the signals from now on: the command has been started. Of those
// that came while it was, none counts; to have one twice is better than never.
func (e *echo) begin() {
	if len(e.signals) == 0 {
		return // of none, Notify would make all
	}
	// The runtime hands signals on some time after they came. Stop waits until
	// it has no more of them.
	barrier := make(chan os.Signal, 1)
	signal.Notify(barrier, e.signals...)
	signal.Stop(barrier)
	signal.Notify(e.got, e.signals...)
}

func (e *echo) stop() {
	signal.Stop(e.early)
	signal.Stop(e.got)
	close(e.got)
	<-e.done
}

func (e *echo) run() {
	defer close(e.done)
	for s := range e.got {
		e.mu.Lock()
		e.last[s] = time.Now()
		close(e.news)
		e.news = make(chan struct{})
		e.mu.Unlock()
	}
}

// also says whether this process had sig too, just before or just after. It
// does not count: signals that come close together may be one at either place.
func (e *echo) also(sig os.Signal) bool {
	late := time.NewTimer(echoAfter)
	defer late.Stop()
	for {
		e.mu.Lock()
		last, had := e.last[sig]
		news := e.news
		e.mu.Unlock()
		if had && time.Since(last) < echoBefore {
			return true
		}
		select {
		case <-news:
		case <-late.C:
			return false
		}
	}
}
