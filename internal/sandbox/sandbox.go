package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/peer"
)

// Options of a Sandbox.
type Options struct {
	// Self is the command line with which this program calls InitMain, for
	// example {"fairlead", "sandbox"}. Words are added to it.
	Self []string
	// ReadOnly are absolute paths that commands cannot change: Fairlead's own
	// configuration and state. Give links resolved.
	ReadOnly []string
	// Env is the caller's environment, which may name sockets to hide.
	Env []string
	// Stderr takes what init says when it fails; nil: nobody.
	Stderr *os.File
	Log    *slog.Logger
}

// A Sandbox is a set of namespaces with an init in it. It is safe for
// concurrent use.
type Sandbox struct {
	log      *slog.Logger
	sockets  Sockets
	init     *peer.Channel
	starter  *peer.Channel
	asking   sync.Mutex // held from question to answer
	process  *os.Process
	ended    chan struct{} // closed when init, and so everything, has ended
	endErr   error         // set before ended is closed
	received chan struct{} // closed when the starter says no more

	mu       sync.Mutex
	lastID   int                // guarded by mu
	waiting  map[int]chan event // guarded by mu; nil when the starter has gone
	main     *Process           // guarded by mu
	terminal *terminal          // guarded by mu; whose foreground group is ours to restore
}

// Sockets are open in the sandbox and belong to it: they are valid until Close,
// to be passed to any number of proxies one after another. Each list has the
// IPv4 socket and, if the kernel has IPv6, the IPv6 one. The package comment has
// their contract.
type Sockets struct {
	TCP        []*os.File // listeners; the local address of a connection is its original destination
	DNSPackets []*os.File // UDP, bound to port 53 of every address
	DNSStreams []*os.File // TCP listeners on port 53 of every address
}

// Start makes the namespaces and returns when they stand; no command runs yet.
// The end of ctx ends the start, not the sandbox. Everything in it is killed by
// Close, and when the calling process dies.
func Start(ctx context.Context, o Options) (*Sandbox, error) {
	s := &Sandbox{
		log:      o.Log,
		ended:    make(chan struct{}),
		received: make(chan struct{}),
		waiting:  map[int]chan event{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.spawn(o); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.process.Kill() })
	err := s.greet(o)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	go s.listen()
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// spawn starts init in its namespaces.
func (s *Sandbox) spawn(o Options) (err error) {
	var initEnd, starterEnd *os.File
	if s.init, initEnd, err = channelPair(); err != nil {
		return err
	}
	defer initEnd.Close()
	if s.starter, starterEnd, err = channelPair(); err != nil {
		return errors.Join(err, s.init.Close())
	}
	defer starterEnd.Close()
	root := isRoot()
	users, groups, err := idMaps(root, os.Geteuid(), os.Getegid())
	if err != nil {
		return errors.Join(err, s.init.Close(), s.starter.Close())
	}
	cmd := &exec.Cmd{
		Path:       selfExe,
		Args:       append(append([]string{}, o.Self...), append([]string{roleInit}, o.Self...)...),
		Env:        []string{},
		ExtraFiles: []*os.File{initEnd, starterEnd}, // channelFD, starterFD
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags:                 unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWNS,
			UidMappings:                users,
			GidMappings:                groups,
			GidMappingsEnableSetgroups: root && maySetGroups(),
			Pdeathsig:                  syscall.SIGKILL,
		},
	}
	if o.Stderr != nil {
		cmd.Stderr = o.Stderr
	}
	if !root {
		// What an ordinary user's init keeps over the execution of itself. Root
		// keeps everything.
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_ADMIN, unix.CAP_SETUID, unix.CAP_SETGID}
	}
	started := make(chan error)
	go s.parent(cmd, started)
	if err := <-started; err != nil {
		return errors.Join(refused("start a process in new namespaces", err), s.init.Close(), s.starter.Close())
	}
	return nil
}

// parent starts init and waits for it. The parent-death signal comes when the
// thread dies that started it, so this thread does nothing else and stays.
func (s *Sandbox) parent(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	s.process = cmd.Process
	started <- nil
	s.endErr = cmd.Wait()
	close(s.ended)
}

// greet tells init what to do and takes the sockets.
func (s *Sandbox) greet(o Options) error {
	hidden, complete, err := hiddenPaths(o.Env)
	if err != nil {
		return err
	}
	if !complete {
		s.log.Warn("there are too many network namespaces or sockets to hide every socket from the command", "namespaces", maxNamespaces)
	}
	err = s.init.Send(setup{Root: isRoot(), UID: os.Geteuid(), GID: os.Getegid(), ReadOnly: o.ReadOnly, Hide: hidden})
	if err != nil {
		return fmt.Errorf("set up the sandbox: %w", err)
	}
	var r ready
	files, err := s.init.Receive(maxReply, &r)
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("set up the sandbox: its init ended at once")
	case err != nil:
		return fmt.Errorf("set up the sandbox: %w", err)
	case r.Error != "":
		peer.CloseAll(files)
		return refused("set up the sandbox", failure{r.Error, syscall.Errno(r.Errno)})
	}
	n := 2
	if r.NoIPv6 != "" {
		n = 1
		s.log.Warn("the sandbox has no IPv6", "reason", r.NoIPv6)
	}
	if len(files) != 3*n {
		peer.CloseAll(files)
		return fmt.Errorf("set up the sandbox: its init handed out %d sockets, not %d", len(files), 3*n)
	}
	s.sockets = Sockets{TCP: files[:n], DNSPackets: files[n : 2*n], DNSStreams: files[2*n:]}
	return nil
}

// refused adds to an error what forbids namespaces here, if that is why. What
// failed inside says more than that no setting is known.
func refused(what string, err error) error {
	_, inside := errors.AsType[failure](err)
	if why := readKernel().explain(err); why != "" && !(inside && strings.HasPrefix(why, unknownReason)) {
		return fmt.Errorf("%s: %w: %s", what, err, why)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// A failure is an error that happened inside.
type failure struct {
	text  string
	errno syscall.Errno
}

func (f failure) Error() string { return f.text }
func (f failure) Unwrap() error {
	if f.errno == 0 {
		return nil
	}
	return f.errno
}

// Sockets returns the sandbox's sockets.
func (s *Sandbox) Sockets() Sockets { return s.sockets }

// Counters reads how many packets were refused so far.
func (s *Sandbox) Counters() (Counters, error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	if err := s.init.Send(question{}); err != nil {
		return Counters{}, fmt.Errorf("ask the sandbox for its counters: %w", err)
	}
	var a answer
	files, err := s.init.Receive(maxReply, &a)
	peer.CloseAll(files)
	if err != nil {
		return Counters{}, fmt.Errorf("ask the sandbox for its counters: %w", err)
	}
	if a.Error != "" {
		return Counters{}, errors.New(a.Error)
	}
	return a.Counters, nil
}

// Close kills everything in the sandbox, waits for its end and closes the
// sockets. A second Close does nothing.
func (s *Sandbox) Close() error {
	if err := s.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end the sandbox: %w", err)
	}
	<-s.ended
	<-s.received
	_ = s.init.Close() // closed already the second time
	_ = s.starter.Close()
	peer.CloseAll(s.sockets.TCP)
	peer.CloseAll(s.sockets.DNSPackets)
	peer.CloseAll(s.sockets.DNSStreams)
	s.restoreTerminal()
	return nil
}
