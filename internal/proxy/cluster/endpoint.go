package cluster

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/pool"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// defaultConnectTimeout is Envoy's, for a cluster that sets none.
const defaultConnectTimeout = 5 * time.Second

// An Endpoint is one address of a cluster at run time. It is safe for
// concurrent use.
type Endpoint struct {
	cluster *Cluster
	key     key
	active  atomic.Int64
	pool    pool.Pool   // HTTP/1
	shared  pool.Shared // HTTP/2

	parked uint8 // guarded by cluster.mu: 0 in use, else sweeps begun since it left
	used   bool  // guarded by originals.mu: picked since the last sweep
}

// Addr is the address dialled; invalid for a unix socket.
func (e *Endpoint) Addr() netip.AddrPort { return e.key.addr }

// Name is the FQDN behind Addr, or the path of a unix socket; empty if neither.
func (e *Endpoint) Name() string { return e.key.name }

// Done ends what Pick began.
func (e *Endpoint) Done() { e.active.Add(-1) }

// Take returns an idle connection kept by Keep, or nil. It is most recently
// used first. The peer may have ended it meanwhile: ask its Alive.
func (e *Endpoint) Take() *transport.Conn { return e.pool.Take() }

// Keep hands back a connection on which an exchange ended cleanly; it is closed
// if the endpoint is gone or enough are kept. Idle ones are closed after an hour
// (Envoy's default) or when the peer ends them.
func (e *Endpoint) Keep(c *transport.Conn) { e.pool.Put(c) }

func (e *Endpoint) state(weight uint32) State {
	return State{Addr: e.key.addr, Name: e.key.name, Weight: weight, Active: e.active.Load(), Idle: e.pool.Len() + e.shared.Len()}
}

// close lets go of the connections: those without an exchange at once.
func (e *Endpoint) close() {
	e.pool.Close()
	e.shared.Close()
}

// String is what is dialled: address and port, or path.
func (e *Endpoint) String() string {
	if e.key.addr.IsValid() {
		return e.key.addr.String()
	}
	return e.key.name
}

// Dial opens a connection within the cluster's connect timeout. Its error is a
// *DialError, or ctx's own cause inside one; errors.Is decides:
// context.DeadlineExceeded for a timeout, syscall.ECONNREFUSED and its like.
func (e *Endpoint) Dial(ctx context.Context) (*transport.Conn, error) {
	timeout := e.cluster.Config().ConnectTimeout
	if timeout <= 0 {
		timeout = defaultConnectTimeout
	}
	conn, err := e.dial(ctx, timeout)
	if err != nil {
		if errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) {
			e.cluster.reroute(time.Now())
		}
		return nil, &DialError{Addr: e.String(), Cause: cause(ctx, err, timeout), Err: err}
	}
	c := transport.New(conn, nil)
	e.cluster.set.sweeper.Adopt(c)
	c.WatchPeer()
	return c, nil
}

func (e *Endpoint) dial(ctx context.Context, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, KeepAliveConfig: transport.KeepAlive()}
	d.SetMultipathTCP(false)
	if !e.key.addr.IsValid() {
		return d.DialContext(ctx, "unix", e.key.name)
	}
	return d.DialContext(ctx, "tcp", e.key.addr.String())
}

// A DialError says why no connection to an endpoint came about.
type DialError struct {
	Addr  string // what was dialled: address and port, or the path of a unix socket
	Cause string // in plain words: "connection refused"
	Err   error
}

// Error is "connect to ADDR: CAUSE".
func (e *DialError) Error() string { return "connect to " + e.Addr + ": " + e.Cause }

// Unwrap returns the system's error.
func (e *DialError) Unwrap() error { return e.Err }

// Is makes every timeout a context.DeadlineExceeded, the kernel's own included.
func (e *DialError) Is(target error) bool {
	return target == context.DeadlineExceeded && isTimeout(e.Err)
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT)
}

// causes are the failures whose own words say too little to act on.
var causes = []struct {
	err   syscall.Errno
	words string
}{
	{syscall.EADDRNOTAVAIL, "no free local port or no usable local address"},
	{syscall.EMFILE, "the proxy has too many files open (see ulimit -n)"},
	{syscall.ENFILE, "the system has too many files open"},
	{syscall.ENOENT, "no such socket"},
	{syscall.ENOBUFS, "the system is out of network buffers"},
}

// cause tells a failed dial in plain words.
func cause(ctx context.Context, err error, timeout time.Duration) string {
	var errno syscall.Errno
	switch {
	case errors.Is(err, context.Canceled) || ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "given up: the exchange was ended"
	case ctx.Err() != nil:
		return "timed out: the exchange had no time left"
	case isTimeout(err):
		return "timed out after " + timeout.String()
	case !errors.As(err, &errno):
		return err.Error()
	}
	for _, c := range causes {
		if c.err == errno {
			return c.words
		}
	}
	return errno.Error()
}
