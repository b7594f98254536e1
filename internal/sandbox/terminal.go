package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// A terminal is one whose foreground process group was the caller's.
type terminal struct {
	file  *os.File // a copy
	group int
}

// holdTerminal remembers the terminal among files. An interactive shell makes
// its own process group the foreground one, and cannot give it back from
// inside: the caller's group has no number there.
func (s *Sandbox) holdTerminal(files [3]*os.File) {
	own := unix.Getpgrp()
	for _, f := range files {
		if f == nil {
			continue
		}
		if group, err := foreground(f); err != nil || group != own {
			continue
		}
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			continue // a terminal left in the background is no reason not to run
		}
		s.mu.Lock()
		s.terminal = &terminal{file: os.NewFile(uintptr(fd), f.Name()), group: own}
		s.mu.Unlock()
		return
	}
}

// restoreTerminal gives the terminal back, once, when everything in the sandbox
// has ended.
func (s *Sandbox) restoreTerminal() {
	s.mu.Lock()
	t := s.terminal
	s.terminal = nil
	s.mu.Unlock()
	if t == nil {
		return
	}
	if err := errors.Join(t.restore(), t.file.Close()); err != nil {
		s.log.Warn("the terminal was not given back", "error", err)
	}
}

func (t *terminal) restore() error {
	group, err := foreground(t.file)
	if err != nil {
		return nil // it hung up
	}
	// Everything in the sandbox has ended. A foreground group that still has
	// members is not from in there: the shell took the terminal (Ctrl-Z, then bg).
	if group <= 1 || unix.Kill(-group, 0) != unix.ESRCH {
		return nil
	}
	// A background process that does this is stopped unless it blocks SIGTTOU.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, before unix.Sigset_t
	block.Val[0] = 1 << (unix.SIGTTOU - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &block, &before); err != nil {
		return fmt.Errorf("block SIGTTOU: %w", err)
	}
	err = unix.IoctlSetPointerInt(int(t.file.Fd()), unix.TIOCSPGRP, t.group)
	return errors.Join(err, unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil))
}

func foreground(f *os.File) (int, error) {
	return unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
}
