package world

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// A room is one operating system thread that lives in namespaces of its own.
// What runs on it sees those namespaces; sockets opened and processes started
// there stay in them for good. The room lasts until its work channel is
// closed; the thread ends with it.
type room struct {
	work chan func()
	gone chan struct{}
	ns   *os.File // the network namespace
}

// newRoom makes a network namespace, and a mount namespace if mounts is set.
func newRoom(mounts bool) (*room, error) {
	r := &room{work: make(chan func()), gone: make(chan struct{})}
	ready := make(chan error)
	go r.live(mounts, ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	return r, nil
}

func (r *room) live(mounts bool, ready chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The process's first thread is what /proc/self shows: leave it as it
		// is, and keep it busy while another takes its place.
		go r.live(mounts, ready)
		<-r.gone
		runtime.UnlockOSThread()
		return
	}
	// The thread is never unlocked, so the runtime ends it with the goroutine.
	defer close(r.gone)
	err := r.unshare(mounts)
	ready <- err
	if err != nil {
		return
	}
	for f := range r.work {
		f()
	}
}

func (r *room) unshare(mounts bool) error {
	flags := unix.CLONE_NEWNET
	if mounts {
		flags |= unix.CLONE_NEWNS
	}
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("make namespaces (needs root, or a user namespace of one's own): %w", err)
	}
	if mounts {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("open the network namespace: %w", err)
	}
	r.ns = ns
	return nil
}

// do runs f on the room's thread and returns its error.
func (r *room) do(f func() error) error {
	err := errors.New("the namespace is closed")
	done := make(chan struct{})
	select {
	case r.work <- func() { defer close(done); err = f() }:
		<-done
	case <-r.gone:
	}
	return err
}

func (r *room) close() {
	close(r.work)
	<-r.gone
	if r.ns != nil {
		_ = r.ns.Close()
	}
}
