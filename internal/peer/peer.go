// Package peer joins the parts of Fairlead on one host over unix sockets: pairs
// between a process and what it starts, of which a Channel makes messages, and
// abstract names. Those belong to the host's network namespace, so that a
// command in a sandbox cannot reach them, and they vanish with their owner.
// Anyone on the host may connect to or take such a name, however: both ends
// check who the other is, and speak to their own user and to root alone.
package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxName is what fits into a socket address beside the leading zero byte.
const maxName = 107

// ErrStranger means that the other end belongs to another user.
var ErrStranger = errors.New("the other end belongs to another user")

// Name is the name of the socket on which a user's run offers something:
// "@fairlead/1000/svc-entry-client/admin".
func Name(uid int, run, what string) string { return Prefix(uid) + run + "/" + what }

// Prefix is what the names of all of a user's sockets begin with.
func Prefix(uid int) string { return "@fairlead/" + strconv.Itoa(uid) + "/" }

// SplitName undoes Name.
func SplitName(name string) (uid int, run, what string, ok bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "@fairlead" {
		return 0, "", "", false
	}
	uid, err := strconv.Atoi(parts[1])
	return uid, parts[2], parts[3], err == nil
}

// Listen takes an abstract name, which begins with "@". The listener accepts
// connections of this process's user and of root and closes all others without
// a word. An error for which errors.Is(err, syscall.EADDRINUSE) holds says that
// the name is in use.
func Listen(name string) (net.Listener, error) {
	if err := check(name); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", name, err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: name})
	if err != nil {
		return nil, err // it names operation and address
	}
	return &listener{ln}, nil
}

// Dial connects to an abstract name. The error is ErrStranger if its owner is
// neither this process's user nor root.
func Dial(ctx context.Context, name string) (net.Conn, error) {
	if err := check(name); err != nil {
		return nil, fmt.Errorf("dial %s: %w", name, err)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", name)
	if err != nil {
		return nil, err // it names operation and address
	}
	if err := familiar(c); err != nil {
		_ = c.Close() // nothing was said on it
		return nil, fmt.Errorf("dial %s: %w", name, err)
	}
	return c, nil
}

func check(name string) error {
	switch {
	case !strings.HasPrefix(name, "@") || len(name) == 1:
		return errors.New("no abstract socket name: it begins with @")
	case len(name) > maxName:
		return fmt.Errorf("the name has %d bytes, %d are possible; use a shorter name for the run", len(name), maxName)
	}
	return nil
}

type listener struct{ *net.UnixListener }

// Accept returns the next connection of a familiar user.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.UnixListener.Accept()
		if err != nil || familiar(c) == nil {
			return c, err
		}
		_ = c.Close() // a stranger is told nothing
	}
}

// familiar returns nil if the other end of c is of our user or root.
func familiar(c net.Conn) error {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("who is at the other end of a %T cannot be told", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) //nolint:gosec // a descriptor is an int
	})
	if err = errors.Join(err, credErr); err != nil {
		return fmt.Errorf("ask who is at the other end: %w", err)
	}
	return allow(cred.Uid, os.Geteuid())
}

func allow(other uint32, ours int) error {
	if other == 0 || int64(other) == int64(ours) {
		return nil
	}
	return fmt.Errorf("%w (uid %d)", ErrStranger, other)
}

// List returns the abstract names with that prefix on which somebody listens,
// sorted. Whose they are only Dial finds out.
func List(prefix string) ([]string, error) {
	f, err := os.Open("/proc/net/unix")
	if err != nil {
		return nil, fmt.Errorf("list unix sockets: %w", err)
	}
	defer f.Close()
	all, err := Table(f)
	if err != nil {
		return nil, fmt.Errorf("list unix sockets: %w", err)
	}
	var names []string
	for _, b := range all {
		if b.Listening && strings.HasPrefix(b.Name, prefix) {
			names = append(names, b.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
