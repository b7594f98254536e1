package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/peer"
)

// The words that follow Options.Self on the command lines of the two processes
// inside.
const (
	roleInit    = "init"
	roleStarter = "starter"
)

// The descriptors that a process inside is started with.
const (
	channelFD = 3
	starterFD = 4 // init alone: what it gives to the starter
)

// InitMain is what a program does when it was re-executed by Start with
// Options.Self: args are the words after those. It returns the exit code. It
// never returns early in a sandbox that lives.
func InitMain(args []string) int {
	role, self := "", []string(nil)
	if len(args) > 0 {
		role, self = args[0], args[1:]
	}
	var err error
	switch role {
	case roleInit:
		err = initMain(self)
	case roleStarter:
		err = starterMain()
	default:
		err = errors.New("this subcommand is for the sandbox's own use")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		return 1
	}
	return 0
}

// initMain is pid 1 of the sandbox: it builds the network and the mounts,
// starts the starter, answers what only it can read and reaps orphans. It
// returns, and everything else in the sandbox is killed, when the supervisor's
// socket or the starter ends.
func initMain(self []string) error {
	deafen()
	c, err := givenChannel(channelFD)
	if err != nil {
		return err
	}
	defer c.Close()
	var s setup
	if _, err := c.Receive(peer.MaxFrame, &s); err != nil {
		return fmt.Errorf("receive the setup: %w", err)
	}
	words, err := hearLastWords()
	if err != nil {
		return err
	}
	starter, sockets, noIPv6, err := build(s, self, words.end)
	if err != nil {
		var errno syscall.Errno
		errors.As(err, &errno)
		return errors.Join(err, c.Send(ready{Error: err.Error(), Errno: int(errno)}))
	}
	if err := c.Send(ready{NoIPv6: noIPv6}, sockets...); err != nil {
		return fmt.Errorf("hand out the sockets: %w", err)
	}
	peer.CloseAll(sockets)
	gone := make(chan error, 2)
	go func() { gone <- serveCounters(c) }()
	go func() { gone <- reap(starter, words) }()
	return <-gone // and with us everybody
}

// deafen makes the calling process and its Go runtime take no notice of
// signals that a terminal or a user may send to the whole group. (They are
// caught, not ignored, for what is ignored stays so in the command.)
func deafen() {
	unheard := make(chan os.Signal, 1)
	for _, s := range relayed() {
		if !signal.Ignored(s) {
			signal.Notify(unheard, s)
		}
	}
}

// build does network and mounts side by side, and starts the starter as soon
// as the mounts are done.
func build(s setup, self []string, stderr *os.File) (starter int, sockets []*os.File, noIPv6 string, err error) {
	if err := closeOnExec(channelFD); err != nil {
		return 0, nil, "", err
	}
	type network struct {
		sockets []*os.File
		noIPv6  string
		err     error
	}
	if err := restrictCalls(); err != nil {
		return 0, nil, "", err
	}
	// /proc/sys is written before it is made read-only.
	ipv6 := haveIPv6()
	setSysctls(s.Root, s.GID, ipv6)
	built := make(chan network, 1)
	go func() {
		var n network
		n.sockets, n.noIPv6, n.err = buildNetwork(ipv6)
		built <- n
	}()
	if err = buildMounts(s); err == nil {
		starter, err = startStarter(s, self, stderr)
	}
	n := <-built
	if err = errors.Join(err, n.err); err != nil {
		peer.CloseAll(n.sockets)
		return 0, nil, "", err
	}
	return starter, n.sockets, n.noIPv6, nil
}

// startStarter starts the starter in namespaces of its own below init's. What
// it inherits is its channel, the standard streams and nothing else. The
// commands can open the files of its streams (/proc/PID/fd): none may be the
// supervisor's log. It closes stderr.
func startStarter(s setup, self []string, stderr *os.File) (pid int, err error) {
	if err := os.Chdir("/"); err != nil {
		return 0, fmt.Errorf("change to /: %w", err)
	}
	users, groups, err := idMaps(s.Root, s.UID, s.GID)
	if err != nil {
		return 0, err
	}
	argv := append(append([]string{}, self...), roleStarter)
	pid, err = syscall.ForkExec(selfExe, argv, &syscall.ProcAttr{
		Env:   []string{},
		Files: []uintptr{0, 1, stderr.Fd(), starterFD},
		Sys: &syscall.SysProcAttr{
			Cloneflags:                 unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
			UidMappings:                users,
			GidMappings:                groups,
			GidMappingsEnableSetgroups: s.Root && maySetGroups(),
		},
	})
	if err != nil {
		return 0, fmt.Errorf("start the starter of commands: %w", err)
	}
	return pid, errors.Join(stderr.Close(), unix.Close(starterFD))
}

// closeOnExec keeps every descriptor from first on out of what is executed.
func closeOnExec(first int) error {
	err := unix.CloseRange(uint(first), ^uint(0)>>33, unix.CLOSE_RANGE_CLOEXEC)
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) { // before Linux 5.11
		return err
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list the open files: %w", err)
	}
	for _, e := range open {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// serveCounters answers the supervisor until it is gone.
func serveCounters(c *peer.Channel) error {
	for {
		var q question
		files, err := c.Receive(maxReply, &q)
		peer.CloseAll(files)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive from the supervisor: %w", err)
		}
		var a answer
		if a.Counters, err = readCounters(); err != nil {
			a.Error = err.Error()
		}
		if err := c.Send(a); err != nil {
			return fmt.Errorf("answer the supervisor: %w", err)
		}
	}
}

// reap waits for whatever ends, which for pid 1 is every orphan, and returns
// when the starter has ended.
func reap(starter int, words *lastWords) error {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("wait for the starter of commands: %w", err)
		case pid == starter && (!ws.Exited() || ws.ExitStatus() != 0):
			return fmt.Errorf("the starter of commands ended: %s%s", describe(ws), words.quoted())
		case pid == starter:
			return nil
		}
	}
}

func describe(ws syscall.WaitStatus) string {
	if ws.Signaled() {
		return "killed by " + unix.SignalName(ws.Signal())
	}
	return fmt.Sprintf("exit code %d", ws.ExitStatus())
}
